//! Networks: one switch, its port groups, and what runs on them.

use super::{ADDRESS, HOST, HOST_NAME, NETWORK};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::Vm;
use crate::sim::world::World;

pub const SYSTEM: Ref = Ref::fixed("HostNetworkSystem", "networkSystem");
const SWITCH: &str = "vSwitch0";

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
        .with("address", vec!["10.0.1.1"])
}

fn routes() -> Data {
    Data::new("HostIpRouteConfig").with("defaultGateway", "10.0.1.1")
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
    let groups: Vec<Data> = world.networks().chain(["Management Network"]).map(group).collect();
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
    let ip =
        Data::new("HostIpConfig").with("dhcp", false).with("ipAddress", ADDRESS).with("subnetMask", "255.255.255.0");
    let kernel = Data::new("HostVirtualNic")
        .with("device", "vmk0")
        .with("key", "key-vim.host.VirtualNic-vmk0")
        .with("portgroup", "Management Network")
        .with(
            "spec",
            Data::new("HostVirtualNicSpec").with("ip", ip).with("mac", "00:0c:29:ff:ff:01").with("mtu", 1500),
        );
    let link = || Data::new("PhysicalNicLinkInfo").with("speedMb", 10_000).with("duplex", true);
    let card = Data::new("PhysicalNic")
        .with("key", "key-vim.host.PhysicalNic-vmnic0")
        .with("device", "vmnic0")
        .with("pci", "0000:0b:00.0")
        .with("driver", "simulated")
        .with("linkSpeed", link())
        .with("spec", Data::new("PhysicalNicSpec"))
        .with("wakeOnLanSupported", false)
        .with("mac", "00:0c:29:ff:ff:00");
    Data::new("HostNetworkInfo")
        .with("vswitch", vec![switch])
        .with("portgroup", groups)
        .with("pnic", vec![card])
        .with("vnic", vec![kernel])
        .with("dnsConfig", dns())
        .with("ipRouteConfig", routes())
        .with("ipV6Enabled", true)
        .with("atBootIpV6Enabled", true)
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "AddPortGroup" => {
            let spec = call.data("portgrp")?;
            let name = spec.text("name").unwrap_or_default();
            if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
                return Err(VimFault::invalid_argument("portgrp.name", "it has 1 to 80 characters"));
            }
            if spec.text("vswitchName") != Some(SWITCH) {
                return Err(VimFault::new("NotFound", format!("There is no switch of that name; there is {SWITCH}.")));
            }
            if world.networks().any(|own| own == name) || name == "Management Network" {
                return Err(VimFault::new("AlreadyExists", "A port group has that name.").with("name", name.to_owned()));
            }
            let vlan = spec.int("vlanId").unwrap_or(0);
            if !(0..=4095).contains(&vlan) {
                return Err(VimFault::invalid_argument("portgrp.vlanId", "a VLAN is 0 to 4095"));
            }
            world.file.networks.push(name.to_owned());
            world.file.vlans.insert(name.to_owned(), vlan);
            changed(world)
        }
        "RemovePortGroup" => {
            let name = call.text("pgName")?;
            if name == NETWORK || world.vms.values().any(|vm| vm.nics().any(|nic| Vm::network_of(nic) == Some(name))) {
                return Err(VimFault::new("ResourceInUse", "The port group is in use.").with("name", name.to_owned()));
            }
            let before = world.file.networks.len();
            world.file.networks.retain(|own| own != name);
            if world.file.networks.len() == before {
                return Err(VimFault::new("NotFound", "There is no port group of that name."));
            }
            let name = name.to_owned();
            world.file.vlans.remove(&name);
            changed(world)
        }
        "RefreshNetworkSystem" => Ok(Reply::Nothing),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn changed(world: &mut World) -> Answer {
    world.keep_host()?;
    world.touch_topology();
    Ok(Reply::Nothing)
}
