//! `esxcli vm` and `esxcli network vm`: running machines as processes, and their ports on the switch.

use super::namespace::{Arguments, Column, Command, Denial, Kind, Namespace, Shape, Told, need, one};
use crate::sim::call::Call;
use crate::sim::esx::network::{CARD, SWITCH};
use crate::sim::esx::options::{self, Setting};
use crate::sim::guest;
use crate::sim::vm::{Power, Vm, power};
use crate::sim::world::World;

use Kind::{Number, Text};

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "network.vm",
        help: "A set of commands for VM related operations",
        commands: &[Command {
            name: "list",
            help: "List networking information for the VM's that have active ports.",
            options: &[],
            shape: Shape::Table(
                "VM",
                &[
                    Column("World ID", Number),
                    Column("Name", Text),
                    Column("Num Ports", Number),
                    Column("Networks", Text),
                ],
            ),
            act: |world, _, _| {
                let row = |vm: &Vm| {
                    let networks: Vec<String> = vm.nics().filter_map(Vm::network_of).map(str::to_owned).collect();
                    vec![one(process(vm)), one(&vm.name), one(networks.len()), networks]
                };
                Ok(Told::Rows(running(world).filter(|vm| vm.nics().next().is_some()).map(row).collect()))
            },
        }],
    },
    Namespace {
        name: "network.vm.port",
        help: "Commands to get VM port information",
        commands: &[Command {
            name: "list",
            help: "List of active ports for a given VM.",
            options: &[need("world-id", 'w', Number, "World ID of the VM for listing ports.")],
            shape: Shape::List(
                "Port",
                &[
                    Column("Port ID", Number),
                    Column("vSwitch", Text),
                    Column("Portgroup", Text),
                    Column("DVPort ID", Text),
                    Column("MAC Address", Text),
                    Column("IP Address", Text),
                    Column("Team Uplink", Text),
                    Column("Uplink Port ID", Number),
                    Column("Active Filters", Text),
                ],
            ),
            act: ports,
        }],
    },
    Namespace {
        name: "vm.process",
        help: "Operations on running virtual machines",
        commands: &[
            Command {
                name: "kill",
                help: "Used to forcibly kill Virtual Machines that are stuck and not responding to normal stop operations.",
                options: &[
                    need("type", 't', Text, "The type of kill operation to attempt: soft, hard or force."),
                    need("world-id", 'w', Number, "The World ID of the Virtual Machine to kill."),
                ],
                shape: Shape::One(Kind::Truth),
                act: kill,
            },
            Command {
                name: "list",
                help: "List the virtual machines on this system. Currently it will only list running VMs on the system.",
                options: &[],
                shape: Shape::List(
                    "VirtualMachine",
                    &[
                        Column("World ID", Number),
                        Column("Process ID", Number),
                        Column("VMX Cartel ID", Number),
                        Column("UUID", Text),
                        Column("Display Name", Text),
                        Column("Config File", Text),
                    ],
                ),
                act: |world, _, _| {
                    let row = |vm: &Vm| {
                        let file = vm.vmx.replacen("[datastore1] ", "/vmfs/volumes/datastore1/", 1);
                        vec![
                            one(process(vm)),
                            one(0),
                            one(process(vm) + 1),
                            one(grouped(&vm.uuid)),
                            one(&vm.name),
                            one(file),
                        ]
                    };
                    Ok(Told::Rows(running(world).map(row).collect()))
                },
            },
        ],
    },
];

fn running(world: &World) -> impl Iterator<Item = &Vm> {
    world.vms.values().filter(|vm| vm.power == Power::On)
}

/// The number of a running machine's process.
fn process(vm: &Vm) -> u64 {
    2_000_000 + 2 * vm.id
}

/// A UUID as a machine's own files write it: `56 4d ce 50 5e 30 4c 0d-80 00 …`.
fn grouped(uuid: &str) -> String {
    let digits: Vec<char> = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    let bytes: Vec<String> = digits.chunks(2).map(|byte| byte.iter().collect()).collect();
    match bytes.split_at_checked(8) {
        Some((first, last)) => format!("{}-{}", first.join(" "), last.join(" ")),
        None => bytes.join(" "),
    }
}

fn found<'a>(world: &'a World, given: &Arguments) -> Result<&'a Vm, Denial> {
    let wanted = given.number("worldid").and_then(|number| u64::try_from(number).ok());
    let vm = running(world).find(|vm| Some(process(vm)) == wanted);
    vm.ok_or_else(|| {
        Denial::said(format!("Unable to find a VM with the world ID {}", given.text("worldid").unwrap_or("?")))
    })
}

fn ports(world: &mut World, _: &Call, given: &Arguments) -> Result<Told, Denial> {
    let world = &*world;
    let vm = found(world, given)?;
    // The host knows a guest's address only if it listens to what the guest says on the network.
    let listens = options::all().any(|setup| setup.key == "Net.GuestIPHack" && setup.now(world) == Setting::Number(1));
    let seen = guest::seen(world, vm).filter(|_| listens);
    let rows = vm.nics().enumerate().map(|(at, nic)| {
        let mac = nic.text("macAddress").unwrap_or_default();
        let own = seen.as_ref().and_then(|seen| seen.nics.iter().find(|nic| nic.mac == mac));
        let v4 = own.and_then(|nic| nic.addresses.iter().find(|(address, _)| !address.contains(':')));
        let port = 0x0400_0000 + (vm.id % 1_000_000) * 16 + at as u64;
        vec![
            one(port),
            one(SWITCH),
            one(Vm::network_of(nic).unwrap_or_default()),
            one(""),
            one(mac),
            one(v4.map_or("0.0.0.0", |(address, _)| address)),
            one(CARD),
            one(0x0400_0000 - 2),
            one(""),
        ]
    });
    Ok(Told::Rows(rows.collect()))
}

fn kill(world: &mut World, _: &Call, given: &Arguments) -> Result<Told, Denial> {
    if !["soft", "hard", "force"].contains(&given.text("type").unwrap_or_default()) {
        return Err(Denial::said("Invalid data constraint for parameter 'type'."));
    }
    let vm = found(world, given)?.clone();
    if world.tasks.running_on(&vm.reference()).is_some() {
        return Err(Denial::said("Another task works on this VM"));
    }
    power::off(world, vm)?;
    Ok(Told::One("true".to_owned()))
}
