//! Networks: one switch, its port groups, and what runs on them.

use super::{ADDRESS, HOST, HOST_NAME, NETWORK};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::Vm;
use crate::sim::world::World;

pub const SYSTEM: Ref = Ref::fixed("HostNetworkSystem", "networkSystem");
pub const SWITCH: &str = "vSwitch0";
/// The card that the switch leads out by.
pub const CARD: &str = "vmnic0";
pub const MAC: &str = "00:0c:29:ff:ff:00";
/// The port group and the address of the host's own port.
pub const GROUP: &str = "Management Network";
pub const PORT_MAC: &str = "00:0c:29:ff:ff:01";
pub const PORT: &str = "vmk0";
pub const KEY: &str = "key-vim.host.VirtualNic-vmk0";
/// Where the host's network leads out, and who knows names in it.
pub const GATEWAY: &str = "10.0.1.1";

pub fn property(world: &World, object: &Ref, property: &str) -> Option<Value> {
    let name = object.id.strip_prefix("HaNetwork-")?;
    match property {
        "summary" => {
            let summary = Data::new("NetworkSummary").with("network", object).with("name", name.to_owned());
            Some(summary.with("accessible", true).with("ipPoolName", "").into())
        }
        "host" => Some(vec![HOST].into()),
        "vm" => {
            let on = |vm: &&Vm| vm.nics().any(|nic| Vm::network_of(nic) == Some(name));
            Some(world.vms.values().filter(on).map(Vm::reference).collect::<Vec<_>>().into())
        }
        _ => None,
    }
}

pub fn system(world: &World, property: &str) -> Option<Value> {
    match property {
        "networkInfo" => Some(info(world).into()),
        "dnsConfig" => Some(dns().into()),
        "ipRouteConfig" => Some(routes().into()),
        _ => None,
    }
}

fn dns() -> Data {
    let (host, domain) = HOST_NAME.split_once('.').unwrap_or((HOST_NAME, ""));
    Data::new("HostDnsConfig")
        .with("dhcp", false)
        .with("hostName", host)
        .with("domainName", domain)
        .with("address", vec![GATEWAY])
}

fn routes() -> Data {
    Data::new("HostIpRouteConfig").with("defaultGateway", GATEWAY)
}

/// The host's own port on the network, under that key.
pub fn kernel(key: String) -> Data {
    let ip =
        Data::new("HostIpConfig").with("dhcp", false).with("ipAddress", ADDRESS).with("subnetMask", "255.255.255.0");
    Data::new("HostVirtualNic")
        .with("device", PORT)
        .with("key", key)
        .with("portgroup", GROUP)
        .with("spec", Data::new("HostVirtualNicSpec").with("ip", ip).with("mac", PORT_MAC).with("mtu", 1500))
}

/// Switch, port groups, card and the host's own address, as `HostNetworkInfo`.
pub fn info(world: &World) -> Data {
    let policy = || Data::new("HostNetworkPolicy");
    let group = |name: &str| {
        let spec = Data::new("HostPortGroupSpec")
            .with("name", name.to_owned())
            .with("vlanId", world.file.vlans.get(name).copied().unwrap_or(0))
            .with("vswitchName", SWITCH)
            .with("policy", policy());
        Data::new("HostPortGroup")
            .with("key", format!("key-vim.host.PortGroup-{name}"))
            .with("vswitch", format!("key-vim.host.VirtualSwitch-{SWITCH}"))
            .with("computedPolicy", policy())
            .with("spec", spec)
    };
    let groups: Vec<Data> = world.networks().chain([GROUP]).map(group).collect();
    let keys: Vec<String> = groups.iter().filter_map(|group| group.text("key")).map(str::to_owned).collect();
    let switch = Data::new("HostVirtualSwitch")
        .with("name", SWITCH)
        .with("key", format!("key-vim.host.VirtualSwitch-{SWITCH}"))
        .with("numPorts", 2560)
        .with("numPortsAvailable", 2500)
        .with("mtu", 1500)
        .with("portgroup", keys)
        .with("pnic", vec!["key-vim.host.PhysicalNic-vmnic0"])
        .with("spec", Data::new("HostVirtualSwitchSpec").with("numPorts", 128).with("mtu", 1500));
    let link = || Data::new("PhysicalNicLinkInfo").with("speedMb", 10_000).with("duplex", true);
    let card = Data::new("PhysicalNic")
        .with("key", "key-vim.host.PhysicalNic-vmnic0")
        .with("device", CARD)
        .with("pci", "0000:0b:00.0")
        .with("driver", "simulated")
        .with("linkSpeed", link())
        .with("spec", Data::new("PhysicalNicSpec"))
        .with("wakeOnLanSupported", false)
        .with("mac", MAC);
    Data::new("HostNetworkInfo")
        .with("vswitch", vec![switch])
        .with("portgroup", groups)
        .with("pnic", vec![card])
        .with("vnic", vec![kernel(KEY.to_owned())])
        .with("dnsConfig", dns())
        .with("ipRouteConfig", routes())
        .with("ipV6Enabled", true)
        .with("atBootIpV6Enabled", true)
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "AddPortGroup" => {
            let spec = call.data("portgrp")?;
            let (name, switch) = (spec.text("name").unwrap_or_default(), spec.text("vswitchName").unwrap_or_default());
            add_group(world, name, switch, spec.int("vlanId").unwrap_or(0))?;
            Ok(Reply::Nothing)
        }
        "UpdatePortGroup" => {
            let (name, spec) = (call.text("pgName")?, call.data("portgrp")?);
            if spec.text("name") != Some(name) || spec.text("vswitchName") != Some(SWITCH) {
                return Err(VimFault::not_supported("renaming a port group, or moving it to another switch"));
            }
            set_vlan(world, name, spec.int("vlanId").unwrap_or(0))?;
            Ok(Reply::Nothing)
        }
        "RemovePortGroup" => {
            remove_group(world, call.text("pgName")?)?;
            Ok(Reply::Nothing)
        }
        "QueryNetworkHint" => {
            let wanted: Vec<&str> = call.args.texts("device").collect();
            if let Some(other) = wanted.iter().find(|device| **device != CARD) {
                return Err(VimFault::new("NotFound", format!("There is no card {other}.")));
            }
            let subnet = Data::new("PhysicalNicIpHint").with("ipSubnet", "10.0.1.1-10.0.1.254");
            let hint = Data::new("PhysicalNicHintInfo").with("device", CARD).with("subnet", vec![subnet]);
            Ok(Reply::Value(vec![hint].into()))
        }
        "RefreshNetworkSystem" => Ok(Reply::Nothing),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn check_vlan(vlan: i32) -> Result<(), VimFault> {
    match (0..=4095).contains(&vlan) {
        true => Ok(()),
        false => Err(VimFault::invalid_argument("portgrp.vlanId", "a VLAN is 0 to 4095")),
    }
}

/// Makes a port group on a switch.
pub fn add_group(world: &mut World, name: &str, switch: &str, vlan: i32) -> Result<(), VimFault> {
    if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
        return Err(VimFault::invalid_argument("portgrp.name", "it has 1 to 80 characters"));
    }
    if switch != SWITCH {
        return Err(VimFault::new("NotFound", format!("There is no switch of that name; there is {SWITCH}.")));
    }
    if world.networks().any(|own| own == name) || name == GROUP {
        return Err(VimFault::new("AlreadyExists", "A port group has that name.").with("name", name.to_owned()));
    }
    check_vlan(vlan)?;
    world.file.networks.push(name.to_owned());
    world.file.vlans.insert(name.to_owned(), vlan);
    changed(world)
}

/// Puts a port group on another VLAN.
pub fn set_vlan(world: &mut World, name: &str, vlan: i32) -> Result<(), VimFault> {
    if !world.networks().any(|own| own == name) && name != GROUP {
        return Err(VimFault::new("NotFound", "There is no port group of that name."));
    }
    check_vlan(vlan)?;
    world.file.vlans.insert(name.to_owned(), vlan);
    changed(world)
}

/// Removes a port group that nobody uses.
pub fn remove_group(world: &mut World, name: &str) -> Result<(), VimFault> {
    if name == NETWORK || world.vms.values().any(|vm| vm.nics().any(|nic| Vm::network_of(nic) == Some(name))) {
        return Err(VimFault::new("ResourceInUse", "The port group is in use.").with("name", name.to_owned()));
    }
    let before = world.file.networks.len();
    world.file.networks.retain(|own| own != name);
    if world.file.networks.len() == before {
        return Err(VimFault::new("NotFound", "There is no port group of that name."));
    }
    world.file.vlans.remove(name);
    changed(world)
}

fn changed(world: &mut World) -> Result<(), VimFault> {
    world.keep_host()?;
    world.touch_topology();
    Ok(())
}
