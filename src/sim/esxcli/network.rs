//! `esxcli network`: cards, switches, port groups, the host's own addresses and its open ports.

use super::namespace::{Arguments, Column, Command, Denial, Kind, Namespace, Opt, Shape, Told, need, one, opt};
use crate::sim::call::Call;
use crate::sim::esx::network::{CARD, GATEWAY, GROUP, MAC, PORT, PORT_MAC, SWITCH};
use crate::sim::esx::{ADDRESS, network};
use crate::sim::vm::{Power, Vm};
use crate::sim::world::World;

use Kind::{Number, Text, Truth};

const NIC: Opt = need("nic-name", 'n', Text, "The name of the NIC whose ring sizes are read.");
const RING: &[Column] =
    &[Column("RX", Number), Column("RX Mini", Number), Column("RX Jumbo", Number), Column("TX", Number)];

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "network.ip.connection",
        help: "A set of commands for listing active tcp/ip connections",
        commands: &[Command {
            name: "list",
            help: "List active TCP/IP connections",
            options: &[opt("type", 't', Text, "Connection type: [ip, tcp, udp, all]")],
            shape: Shape::Table(
                "IpConnection",
                &[
                    Column("Proto", Text),
                    Column("Recv Q", Number),
                    Column("Send Q", Number),
                    Column("Local Address", Text),
                    Column("Foreign Address", Text),
                    Column("State", Text),
                    Column("World ID", Number),
                    Column("CC Algo", Text),
                    Column("World Name", Text),
                ],
            ),
            act: connections,
        }],
    },
    Namespace {
        name: "network.ip.dns.server",
        help: "Commands to configure and list DNS servers",
        commands: &[Command {
            name: "list",
            help: "Print a list of the DNS server currently configured on the system.",
            options: &[],
            shape: Shape::Record("DnsServers", &[Column("DNS Servers", Text)]),
            act: |_, _, _| Ok(Told::Rows(vec![vec![one(GATEWAY)]])),
        }],
    },
    Namespace {
        name: "network.ip.interface",
        help: "Commands to configure VMkernel network interfaces",
        commands: &[Command {
            name: "list",
            help: "This command will list the VMkernel network interfaces currently known to the system.",
            options: &[],
            shape: Shape::List(
                "NetworkInterface",
                &[
                    Column("Name", Text),
                    Column("MAC Address", Text),
                    Column("Enabled", Truth),
                    Column("Portset", Text),
                    Column("Portgroup", Text),
                    Column("Netstack Instance", Text),
                    Column("MTU", Number),
                ],
            ),
            act: |_, _, _| {
                let row = [PORT, PORT_MAC, "true", SWITCH, GROUP, "defaultTcpipStack", "1500"];
                Ok(Told::Rows(vec![row.map(one).to_vec()]))
            },
        }],
    },
    Namespace {
        name: "network.ip.interface.ipv4",
        help: "Commands to configure the IPv4 addresses of VMkernel network interfaces",
        commands: &[Command {
            name: "get",
            help: "List IPv4 addresses assigned to VMkernel network interfaces.",
            options: &[opt("interface-name", 'i', Text, "Limit the output of this command to only this interface")],
            shape: Shape::Table(
                "IPv4Interface",
                &[
                    Column("Name", Text),
                    Column("IPv4 Address", Text),
                    Column("IPv4 Netmask", Text),
                    Column("IPv4 Broadcast", Text),
                    Column("Address Type", Text),
                    Column("Gateway", Text),
                    Column("DHCP DNS", Truth),
                ],
            ),
            act: |_, _, given| match given.text("interfacename") {
                Some(other) if other != PORT => Err(Denial::said(format!("Unable to find interface {other}"))),
                _ => {
                    let row = [PORT, ADDRESS, "255.255.255.0", "10.0.1.255", "STATIC", GATEWAY, "false"];
                    Ok(Told::Rows(vec![row.map(one).to_vec()]))
                }
            },
        }],
    },
    Namespace {
        name: "network.ip.route.ipv4",
        help: "Commands for configuring IPv4 routing table",
        commands: &[Command {
            name: "list",
            help: "List configured IPv4 routes",
            options: &[],
            shape: Shape::Table(
                "IPv4Route",
                &[
                    Column("Network", Text),
                    Column("Netmask", Text),
                    Column("Gateway", Text),
                    Column("Interface", Text),
                    Column("Source", Text),
                ],
            ),
            act: |_, _, _| {
                let default = ["default", "0.0.0.0", GATEWAY, PORT, "MANUAL"];
                let own = ["10.0.1.0", "255.255.255.0", "0.0.0.0", PORT, "MANUAL"];
                Ok(Told::Rows([default, own].map(|row| row.map(one).to_vec()).to_vec()))
            },
        }],
    },
    Namespace {
        name: "network.nic",
        help: "Operations having to do with the configuration of Network Interface Card",
        commands: &[Command {
            name: "list",
            help: "This command will list the Physical NICs currently installed and loaded on the system.",
            options: &[],
            shape: Shape::Table(
                "Nic",
                &[
                    Column("Name", Text),
                    Column("PCI Device", Text),
                    Column("Driver", Text),
                    Column("Admin Status", Text),
                    Column("Link Status", Text),
                    Column("Speed", Number),
                    Column("Duplex", Text),
                    Column("MAC Address", Text),
                    Column("MTU", Number),
                    Column("Description", Text),
                ],
            ),
            act: |_, _, _| {
                let text = "ceso Simulated network card";
                let row = [CARD, "0000:0b:00.0", "simulated", "Up", "Up", "10000", "Full", MAC, "1500", text];
                Ok(Told::Rows(vec![row.map(one).to_vec()]))
            },
        }],
    },
    Namespace {
        name: "network.nic.ring.current",
        help: "Commands to access current NIC RX/TX ring buffer parameters",
        commands: &[Command {
            name: "get",
            help: "Get current RX/TX ring buffer parameters of a NIC",
            options: &[NIC],
            shape: Shape::Record("RingBuffer", RING),
            act: |_, _, given| ring(given, 512),
        }],
    },
    Namespace {
        name: "network.nic.ring.preset",
        help: "Commands to access preset maximums for NIC RX/TX ring buffer parameters.",
        commands: &[Command {
            name: "get",
            help: "Get preset maximums for RX/TX ring buffer parameters of a NIC.",
            options: &[NIC],
            shape: Shape::Record("RingBuffer", RING),
            act: |_, _, given| ring(given, 4096),
        }],
    },
    Namespace {
        name: "network.vswitch.standard",
        help: "Commands to list and configure standard virtual switches",
        commands: &[Command {
            name: "list",
            help: "List the virtual switches current on the ESXi host.",
            options: &[opt("vswitch-name", 'v', Text, "Limit the output of this command to only one vswitch")],
            shape: Shape::List(
                "VirtualSwitch",
                &[
                    Column("Name", Text),
                    Column("Class", Text),
                    Column("Num Ports", Number),
                    Column("Used Ports", Number),
                    Column("MTU", Number),
                    Column("Uplinks", Text),
                    Column("Portgroups", Text),
                ],
            ),
            act: |world, _, given| match given.text("vswitchname") {
                Some(other) if other != SWITCH => Err(Denial::said(format!("No such vswitch {other}"))),
                _ => {
                    let groups = groups(world);
                    let used: usize = groups.iter().map(|group| clients(world, group)).sum();
                    let row = [SWITCH, "cswitch", "2560", &(used + 4).to_string(), "1500", CARD].map(one);
                    Ok(Told::Rows(vec![row.into_iter().chain([groups]).collect()]))
                }
            },
        }],
    },
    Namespace {
        name: "network.vswitch.standard.portgroup",
        help: "Commands to list and configure Port Groups on a virtual switch.",
        commands: &[
            Command {
                name: "add",
                help: "Allows the addition of a standard port group to a virtual switch.",
                options: &[
                    need("portgroup-name", 'p', Text, "The name of the port group to add"),
                    need("vswitch-name", 'v', Text, "The virtual switch to add the port group to."),
                ],
                shape: Shape::One(Truth),
                act: |world, _, given| {
                    let (name, switch) = (given.text("portgroupname"), given.text("vswitchname"));
                    network::add_group(world, name.unwrap_or_default(), switch.unwrap_or_default(), 0)?;
                    Ok(Told::One("true".to_owned()))
                },
            },
            Command {
                name: "list",
                help: "List all of the port groups currently on the system.",
                options: &[],
                shape: Shape::Table(
                    "PortGroup",
                    &[
                        Column("Name", Text),
                        Column("Virtual Switch", Text),
                        Column("Active Clients", Number),
                        Column("VLAN ID", Number),
                    ],
                ),
                act: |world, _, _| {
                    let row = |name: String| {
                        let vlan = world.file.vlans.get(&name).copied().unwrap_or(0);
                        vec![one(&name), one(SWITCH), one(clients(world, &name)), one(vlan)]
                    };
                    Ok(Told::Rows(groups(world).into_iter().map(row).collect()))
                },
            },
            Command {
                name: "remove",
                help: "Remove a port group from the given virtual switch",
                options: &[
                    need("portgroup-name", 'p', Text, "The name of the port group to remove"),
                    need("vswitch-name", 'v', Text, "The virtual switch to remove the port group from."),
                ],
                shape: Shape::One(Truth),
                act: |world, _, given| {
                    network::remove_group(world, given.text("portgroupname").unwrap_or_default())?;
                    Ok(Told::One("true".to_owned()))
                },
            },
            Command {
                name: "set",
                help: "Set the vlan id for the given port group",
                options: &[
                    need("portgroup-name", 'p', Text, "The name of the port group to set vlan id for."),
                    need("vlan-id", 'v', Number, "The vlan id for this port group."),
                ],
                shape: Shape::One(Truth),
                act: |world, _, given| {
                    let vlan = given.number("vlanid").and_then(|vlan| i32::try_from(vlan).ok()).unwrap_or(-1);
                    network::set_vlan(world, given.text("portgroupname").unwrap_or_default(), vlan)?;
                    Ok(Told::One("true".to_owned()))
                },
            },
        ],
    },
];

fn groups(world: &World) -> Vec<String> {
    world.networks().chain([GROUP]).map(str::to_owned).collect()
}

/// How many cards of running machines are on a port group; the host's own port counts as one.
fn clients(world: &World, group: &str) -> usize {
    let on = |vm: &Vm| vm.nics().filter(|nic| Vm::network_of(nic) == Some(group)).count();
    let cards: usize = world.vms.values().filter(|vm| vm.power == Power::On).map(on).sum();
    cards + usize::from(group == GROUP)
}

fn ring(given: &Arguments, size: i32) -> Result<Told, Denial> {
    match given.text("nicname") {
        Some(CARD) => Ok(Told::Rows(vec![vec![one(size), one(0), one(0), one(size)]])),
        other => Err(Denial::said(format!("Unable to find NIC {}", other.unwrap_or_default()))),
    }
}

fn connections(_: &mut World, call: &Call, given: &Arguments) -> Result<Told, Denial> {
    let wanted = given.text("type").unwrap_or("all");
    if !["ip", "tcp", "udp", "all"].contains(&wanted) {
        return Err(Denial::said("Invalid data constraint for parameter 'type'."));
    }
    // What listens is this server, and nothing else does.
    let listens = ["tcp", "0", "0", &call.host.authority, "0.0.0.0:0", "LISTEN", "1000", "newreno", "hostd"].map(one);
    Ok(Told::Rows(if wanted == "udp" { Vec::new() } else { vec![listens.to_vec()] }))
}
