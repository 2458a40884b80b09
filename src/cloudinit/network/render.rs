//! A checked network as network configuration version 2, and as what a person is shown.

use std::collections::HashSet;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::Network;
use super::interface::{Interface, Kind};
use super::spec::{Bond, Bridge};
use crate::cloudinit::error::Error;
use crate::cloudinit::mac::MacAddress;

/// Kernel bonding's own default is to look at no link at all.
const USUAL_MIIMON: u32 = 100;

impl Network {
    /// Network configuration version 2 for a machine with these cards.
    ///
    /// Cards that name a MAC address take it; the others take what is left, in the machine's order. Cards of the machine that
    /// nothing configures stay as the guest finds them.
    pub(in crate::cloudinit) fn render(&self, present: &[MacAddress]) -> Result<Value, Error> {
        let wanted = self.interfaces.iter().filter(|interface| interface.is_card()).count();
        if wanted > present.len() {
            return Err(Error::TooFewNics { wanted, present: present.len() });
        }
        let named: HashSet<MacAddress> = self.interfaces.iter().filter_map(Interface::mac).collect();
        let mut free = present.iter().filter(|mac| !named.contains(mac));
        let [mut ethernets, mut bonds, mut vlans, mut bridges]: [Map<String, Value>; 4] = Default::default();
        for interface in &self.interfaces {
            let (kind, mut out) = match &interface.kind {
                Kind::Card { mac, accept_ra } => {
                    let mac = match mac {
                        Some(mac) if present.contains(mac) => mac,
                        Some(mac) => {
                            let present: Vec<String> = present.iter().map(MacAddress::to_string).collect();
                            let at = interface.at.field("mac");
                            return Err(Error::NoSuchNic { at, mac: mac.to_string(), present: present.join(", ") });
                        }
                        None => free.next().ok_or(Error::TooFewNics { wanted, present: present.len() })?,
                    };
                    let mut out = Map::new();
                    out.insert("match".into(), json!({ "macaddress": mac.to_string() }));
                    out.insert("set-name".into(), json!(interface.name));
                    if let Some(accept) = accept_ra {
                        out.insert("accept-ra".into(), json!(accept));
                    }
                    (&mut ethernets, out)
                }
                Kind::Vlan(vlan) => (&mut vlans, object(json!({ "id": vlan.id, "link": vlan.link }))),
                Kind::Bond(bond) => (&mut bonds, bonded(bond)),
                Kind::Bridge(bridge) => (&mut bridges, bridged(bridge)),
            };
            interface.common(&mut out);
            kind.insert(interface.name.clone(), Value::Object(out));
        }
        let mut out = object(json!({ "version": 2 }));
        // In this order each is made of what came before, except for a VLAN on a bridge.
        for (key, map) in [("ethernets", ethernets), ("bonds", bonds), ("vlans", vlans), ("bridges", bridges)] {
            if !map.is_empty() {
                out.insert(key.into(), Value::Object(map));
            }
        }
        Ok(Value::Object(out))
    }

    /// What a person is shown.
    pub(in crate::cloudinit) fn describe(&self) -> Value {
        self.interfaces.iter().map(Interface::describe).collect()
    }
}

fn bonded(bond: &Bond) -> Map<String, Value> {
    let mut parameters = Map::new();
    parameters.insert("mode".into(), json!(bond.mode));
    // A string by the schema of newer releases; renderers and netplan take either.
    parameters.insert("mii-monitor-interval".into(), json!(bond.miimon.unwrap_or(USUAL_MIIMON).to_string()));
    if let Some(rate) = bond.lacp_rate {
        parameters.insert("lacp-rate".into(), json!(rate));
    }
    if let Some(policy) = bond.xmit_hash_policy {
        parameters.insert("transmit-hash-policy".into(), json!(policy));
    }
    if let Some(primary) = &bond.primary {
        parameters.insert("primary".into(), json!(primary));
    }
    object(json!({ "interfaces": bond.members.0, "parameters": parameters }))
}

/// `stp` is always said: where it is not, netplan means yes and the kernel no.
fn bridged(bridge: &Bridge) -> Map<String, Value> {
    let mut parameters = object(json!({ "stp": bridge.stp }));
    if let Some(delay) = bridge.forward_delay {
        parameters.insert("forward-delay".into(), json!(delay));
    }
    object(json!({ "interfaces": bridge.members.0, "parameters": parameters }))
}

impl Interface {
    fn mac(&self) -> Option<MacAddress> {
        match self.kind {
            Kind::Card { mac, .. } => mac,
            _ => None,
        }
    }

    /// What every kind of entry may have.
    fn common(&self, out: &mut Map<String, Value>) {
        if self.addresses.dhcp4 {
            out.insert("dhcp4".into(), json!(true));
            out.insert("dhcp-identifier".into(), json!("mac"));
        }
        if self.addresses.dhcp6 {
            out.insert("dhcp6".into(), json!(true));
        }
        if !self.addresses.by_hand.is_empty() {
            out.insert("addresses".into(), strings(&self.addresses.by_hand));
        }
        let mut routes = Vec::new();
        match self.gateways.v4 {
            Some(gateway) if self.addresses.dhcp6 => {
                out.insert("gateway4".into(), json!(gateway.to_string()));
            }
            Some(gateway) => routes.push(json!({ "to": "0.0.0.0/0", "via": gateway.to_string() })),
            None => {}
        }
        for route in &self.routes {
            let mut fields = object(json!({ "to": route.to.to_string(), "via": route.via.to_string() }));
            if let Some(metric) = route.metric {
                fields.insert("metric".into(), json!(metric));
            }
            routes.push(Value::Object(fields));
        }
        if !routes.is_empty() {
            out.insert("routes".into(), Value::Array(routes));
        }
        if let Some(gateway) = self.gateways.v6 {
            out.insert("gateway6".into(), json!(gateway.to_string()));
        }
        if !self.dns.is_empty() {
            let mut servers = Map::new();
            servers.insert("addresses".into(), strings(&self.dns));
            if !self.search.is_empty() {
                servers.insert("search".into(), json!(self.search));
            }
            out.insert("nameservers".into(), Value::Object(servers));
        }
        if let Some(mtu) = self.mtu {
            out.insert("mtu".into(), json!(mtu));
        }
        if self.optional {
            out.insert("optional".into(), json!(true));
        }
    }

    fn describe(&self) -> Value {
        let mut addresses: Vec<String> = self.addresses.by_hand.iter().map(IpNet::to_string).collect();
        for (word, given) in [("dhcp", self.addresses.dhcp4), ("dhcp6", self.addresses.dhcp6)] {
            if given {
                addresses.push(word.into());
            }
        }
        let mut out = object(json!({ "name": self.name }));
        match &self.kind {
            Kind::Card { mac: None, .. } => {}
            Kind::Card { mac: Some(mac), .. } => {
                out.insert("mac".into(), json!(mac.to_string()));
            }
            Kind::Vlan(vlan) => {
                out.insert("vlan".into(), json!({ "id": vlan.id, "link": vlan.link }));
            }
            Kind::Bond(bond) => {
                out.insert("bond".into(), json!({ "mode": bond.mode, "members": bond.members.0 }));
            }
            Kind::Bridge(bridge) => {
                out.insert("bridge".into(), json!({ "members": bridge.members.0 }));
            }
        }
        out.insert("address".into(), json!(addresses));
        let gateways: Vec<_> = self.gateways.all().collect();
        for (key, list) in [("gateway", &gateways), ("dns", &self.dns)] {
            if !list.is_empty() {
                out.insert(key.into(), strings(list));
            }
        }
        if !self.routes.is_empty() {
            let routes = self.routes.iter().map(|route| format!("{} via {}", route.to, route.via));
            out.insert("routes".into(), routes.collect());
        }
        if !self.search.is_empty() {
            out.insert("search".into(), json!(self.search));
        }
        if let Some(mtu) = self.mtu {
            out.insert("mtu".into(), json!(mtu));
        }
        Value::Object(out)
    }
}

/// The fields of a JSON object that is written as one.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn strings<T: ToString>(list: &[T]) -> Value {
    list.iter().map(T::to_string).collect()
}
