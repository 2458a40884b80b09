//! cloud-init's network configuration, formats 1 and 2, as far as addresses go.
//!
//! Interfaces are matched by MAC address where one is given, else by name: a Debian guest calls its cards `ens192`, `ens224`, … in
//! the order of their slots, and `eth0`, `eth1`, … where the kernel is told so.

use serde_json::Value as Json;

use super::{Applied, AppliedNic};
use crate::sim::vm::Vm;

/// Reads a network configuration against the cards of a machine.
pub fn read(config: Option<&Json>, vm: &Vm) -> Applied {
    let mut applied = Applied {
        instance_id: String::new(),
        hostname: String::new(),
        nics: Vec::new(),
        dns: Vec::new(),
        search: Vec::new(),
    };
    let macs: Vec<String> = vm.nics().filter_map(|nic| nic.text("macAddress")).map(str::to_ascii_lowercase).collect();
    let Some(config) = config else { return applied };
    match config.get("version").and_then(Json::as_u64) {
        Some(1) => first(config, &macs, &mut applied),
        // netplan's own form has a version too; without one it can only be that.
        _ => second(config, &macs, &mut applied),
    }
    applied
}

fn second(config: &Json, macs: &[String], applied: &mut Applied) {
    let Some(ethernets) = config.get("ethernets").and_then(Json::as_object) else { return };
    for (id, settings) in ethernets {
        let wanted = settings.pointer("/match/macaddress").and_then(Json::as_str).map(str::to_ascii_lowercase);
        let name = settings.pointer("/match/name").and_then(Json::as_str).unwrap_or(id);
        let matching: Vec<&String> = match &wanted {
            Some(mac) => macs.iter().filter(|own| *own == mac).collect(),
            None => (0..).zip(macs).filter(|(slot, _)| named(name, *slot)).map(|(_, mac)| mac).collect(),
        };
        let yes = |key: &str| settings.get(key).is_some_and(|value| value == true || value == "yes" || value == "true");
        let texts = |value: Option<&Json>| -> Vec<String> {
            value.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
        };
        let route = settings.get("routes").and_then(Json::as_array).into_iter().flatten().find(|route| {
            route.get("to").and_then(Json::as_str).is_some_and(|to| matches!(to, "default" | "0.0.0.0/0" | "::/0"))
        });
        let via = route.and_then(|route| route.get("via")).or_else(|| settings.get("gateway4"));
        let gateway = via.and_then(Json::as_str).map(str::to_owned);
        let addresses: Vec<(String, u8)> =
            texts(settings.get("addresses")).iter().filter_map(|text| address(text, None)).collect();
        applied.dns.extend(texts(settings.pointer("/nameservers/addresses")));
        applied.search.extend(texts(settings.pointer("/nameservers/search")));
        for mac in matching {
            let dhcp = yes("dhcp4") || yes("dhcp6");
            applied.nics.push(AppliedNic {
                mac: mac.clone(),
                dhcp,
                addresses: addresses.clone(),
                gateway: gateway.clone(),
            });
        }
    }
}

fn first(config: &Json, macs: &[String], applied: &mut Applied) {
    let text = |value: &Json, key: &str| value.get(key).and_then(Json::as_str).map(str::to_owned);
    let several = |value: &Json, key: &str| -> Vec<String> {
        match value.get(key) {
            Some(Json::String(one)) => vec![one.clone()],
            Some(Json::Array(all)) => all.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    for item in config.get("config").and_then(Json::as_array).into_iter().flatten() {
        match item.get("type").and_then(Json::as_str) {
            Some("nameserver") => applied.dns.extend(several(item, "address")),
            Some("physical") => {
                let wanted = text(item, "mac_address").map(|mac| mac.to_ascii_lowercase());
                let name = text(item, "name").unwrap_or_default();
                let matching = match &wanted {
                    Some(mac) => macs.iter().find(|own| *own == mac),
                    None => (0..).zip(macs).find(|(slot, _)| named(&name, *slot)).map(|(_, mac)| mac),
                };
                let Some(mac) = matching else { continue };
                let mut nic = AppliedNic { mac: mac.clone(), dhcp: false, addresses: Vec::new(), gateway: None };
                for subnet in item.get("subnets").and_then(Json::as_array).into_iter().flatten() {
                    applied.dns.extend(several(subnet, "dns_nameservers"));
                    applied.search.extend(several(subnet, "dns_search"));
                    match text(subnet, "type").as_deref() {
                        Some("dhcp" | "dhcp4" | "dhcp6") => nic.dhcp = true,
                        _ => {
                            let found = text(subnet, "address")
                                .and_then(|own| address(&own, text(subnet, "netmask").as_deref()));
                            nic.addresses.extend(found);
                            nic.gateway = nic.gateway.or_else(|| text(subnet, "gateway"));
                        }
                    }
                }
                applied.nics.push(nic);
            }
            _ => {}
        }
    }
}

/// `10.0.1.5/24`, or an address beside a netmask; nothing where it is none.
fn address(text: &str, netmask: Option<&str>) -> Option<(String, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse().ok()?),
        None => {
            let mask: Option<std::net::Ipv4Addr> = netmask.and_then(|mask| mask.parse().ok());
            let prefix = mask.map(|mask| u32::from(mask).leading_ones()).and_then(|ones| u8::try_from(ones).ok());
            (text, prefix.unwrap_or(24))
        }
    };
    let address: std::net::IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then(|| (address.to_string(), prefix))
}

/// Whether the guest's card in that slot has this name; `*` stands for anything.
fn named(pattern: &str, slot: usize) -> bool {
    let names = [format!("ens{}", 192 + 32 * slot), format!("eth{slot}"), format!("nic{slot}"), format!("id{slot}")];
    match pattern.split_once('*') {
        Some((head, tail)) => names
            .iter()
            .any(|name| name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)),
        None => names.iter().any(|name| name == pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert_eq!(address("10.0.1.5/24", None), Some(("10.0.1.5".to_owned(), 24)));
        assert_eq!(address("10.0.1.5", Some("255.255.0.0")), Some(("10.0.1.5".to_owned(), 16)));
        assert_eq!(address("fd00::5/64", None), Some(("fd00::5".to_owned(), 64)));
        for wrong in ["", "10.0.1.5/33", "10.0.1/24", "x/24", "10.0.1.5/-1"] {
            assert_eq!(address(wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn names_match_slots() {
        assert!(named("ens192", 0) && named("ens224", 1) && named("eth0", 0) && named("e*", 1) && named("*", 0));
        assert!(!named("ens192", 1) && !named("wlan*", 0));
    }
}
