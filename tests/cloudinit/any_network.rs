//! Proptest strategies over networks: accepted ones of cards, a bond, a bridge and VLANs, with addresses of both families by hand and by DHCP; and entries put together blindly,
//! few of which are accepted.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// What one entry has besides what it is made of, as numbers that [`Builder::entry`] turns into addresses.
#[derive(Clone, Debug)]
struct Wishes {
    /// How many addresses by hand; none: by DHCP where the flag says so.
    v4: u8,
    v6: u8,
    dhcp4: bool,
    dhcp6: bool,
    gateway4: bool,
    gateway6: bool,
    /// The family of each route, and its metric.
    routes: Vec<(bool, Option<u32>)>,
    /// The family of each server.
    dns: Vec<bool>,
    search: bool,
    mtu: Option<u32>,
    accept_ra: Option<bool>,
    optional: bool,
    named: bool,
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let addresses = (0..3_u8, 0..3_u8, any::<bool>(), any::<bool>());
    let routes = (any::<bool>(), any::<bool>(), vec((any::<bool>(), option::of(1..=u32::MAX)), 0..3));
    let rest = (option::of(1280..=9000_u32), option::of(any::<bool>()), proptest::bool::weighted(0.2), any::<bool>());
    (addresses, routes, (vec(any::<bool>(), 0..3), any::<bool>()), rest).prop_map(
        |((v4, v6, dhcp4, dhcp6), (gateway4, gateway6, routes), (dns, search), (mtu, accept_ra, optional, named))| {
            Wishes { v4, v6, dhcp4, dhcp6, gateway4, gateway6, routes, dns, search, mtu, accept_ra, optional, named }
        },
    )
}

/// A bond's mode, the width of its choice of members, and its options.
#[derive(Clone, Debug)]
struct BondWishes {
    wishes: Wishes,
    mode: &'static str,
    members: usize,
    miimon: Option<u32>,
    lacp_rate: Option<&'static str>,
    xmit_hash_policy: Option<&'static str>,
    primary: bool,
}

fn bond() -> impl Strategy<Value = BondWishes> {
    let modes = ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
    let hashes = ["layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4"];
    (
        wishes(),
        proptest::sample::select(modes.to_vec()),
        1..3_usize,
        option::of(1..=10_000_u32),
        option::of(proptest::sample::select(vec!["slow", "fast"])),
        option::of(proptest::sample::select(hashes.to_vec())),
        any::<bool>(),
    )
        .prop_map(|(wishes, mode, members, miimon, lacp_rate, xmit_hash_policy, primary)| BondWishes {
            wishes,
            mode,
            members,
            miimon,
            lacp_rate: lacp_rate.filter(|_| mode == "802.3ad"),
            xmit_hash_policy: xmit_hash_policy.filter(|_| ["802.3ad", "balance-xor", "balance-tlb"].contains(&mode)),
            primary: primary && ["active-backup", "balance-tlb", "balance-alb"].contains(&mode),
        })
}

/// A network as a playbook writes it, and how many cards the machine needs.
pub fn any_network() -> impl Strategy<Value = (Value, usize)> {
    let bridge = (wishes(), any::<bool>(), option::of(2..=30_u32));
    (
        vec(wishes(), 1..5),
        option::of(bond()),
        option::of(bridge),
        vec((wishes(), any::<prop::sample::Index>(), 1..=4094_u32), 0..3),
    )
        .prop_map(|(cards, bond, bridge, vlans)| Builder::default().network(&cards, bond, bridge, vlans))
}

/// What has been given away already.
#[derive(Default)]
struct Builder {
    entries: Vec<Value>,
    gateway4: bool,
    gateway6: bool,
    servers: usize,
    domains: usize,
    routes: usize,
}

impl Builder {
    fn network(
        mut self,
        cards: &[Wishes],
        bond: Option<BondWishes>,
        bridge: Option<(Wishes, bool, Option<u32>)>,
        vlans: Vec<(Wishes, prop::sample::Index, u32)>,
    ) -> (Value, usize) {
        // The first cards are the bond's, the next one the bridge's, together with the bond at times.
        let bonded = bond.as_ref().map_or(0, |bond| bond.members.min(cards.len()));
        let bridged = bridge.as_ref().and_then(|_| (bonded < cards.len()).then_some(bonded));
        let mut links: Vec<(String, u32)> = Vec::new();
        for (index, wishes) in cards.iter().enumerate() {
            let name = if wishes.named { format!("net{index}") } else { format!("eth{index}") };
            let member = index < bonded || bridged == Some(index);
            let mtu = if index < bonded { None } else { wishes.mtu };
            let mut entry = self.entry(wishes, member, mtu);
            if wishes.named {
                entry.insert("name".into(), json!(name));
            }
            if let (Some(accept), false) = (wishes.accept_ra, member) {
                entry.insert("accept_ra".into(), json!(accept));
            }
            self.entries.push(Value::Object(entry));
            links.push((name, mtu.unwrap_or(1500)));
        }
        let machine = links.len();
        if let Some(bond) = bond {
            let members: Vec<String> = links[..bonded].iter().map(|(name, _)| name.clone()).collect();
            let mut entry = self.entry(&bond.wishes, false, bond.wishes.mtu);
            entry.insert("name".into(), json!("bond0"));
            let primary = bond.primary.then(|| members[0].clone());
            let fields = json!({ "members": members, "mode": bond.mode, "miimon": bond.miimon, "lacp_rate": bond.lacp_rate,
                "xmit_hash_policy": bond.xmit_hash_policy, "primary": primary });
            entry.insert("bond".into(), fields);
            self.entries.push(Value::Object(entry));
            links.push(("bond0".into(), bond.wishes.mtu.unwrap_or(1500)));
        }
        links.drain(..bonded);
        if let (Some((wishes, stp, delay)), Some(card)) = (bridge, bridged) {
            let (member, most) = links[card - bonded].clone();
            let mut entry = self.entry(&wishes, false, wishes.mtu.map(|mtu| mtu.min(most)));
            entry.insert("name".into(), json!("br0"));
            entry.insert("bridge".into(), json!({ "members": member, "stp": stp, "forward_delay": delay }));
            self.entries.push(Value::Object(entry));
            links.push(("br0".into(), wishes.mtu.map_or(most, |mtu| mtu.min(most))));
        }
        for (number, (wishes, link, id)) in vlans.into_iter().enumerate() {
            let (link, most) = &links[link.index(links.len())];
            // Two on one link need two ids.
            let id = id / 2 * 2 % 4094 + 1 + u32::try_from(number).unwrap();
            let mut entry = self.entry(&wishes, false, wishes.mtu.map(|mtu| mtu.min(*most)));
            entry.insert("vlan".into(), json!({ "id": id, "link": link }));
            if wishes.named && !self.entries.iter().any(|entry| entry["name"] == json!(format!("vlan{id}"))) {
                entry.insert("name".into(), json!(format!("vlan{id}")));
            }
            self.entries.push(Value::Object(entry));
        }
        // In another order than they are made of each other; the cards keep theirs, as names come from it.
        let network = self.entries.split_off(machine).into_iter().rev().chain(self.entries).collect();
        (network, machine)
    }

    /// An entry with its addresses, and all that goes with them.
    fn entry(&mut self, wishes: &Wishes, member: bool, mtu: Option<u32>) -> Map<String, Value> {
        let number = self.entries.len() + 1;
        let mut entry = Map::new();
        entry.insert("mtu".into(), json!(mtu));
        entry.insert("optional".into(), json!(wishes.optional));
        if member {
            return entry;
        }
        // IPv6 first, as that is the order which matters if it does.
        let mut addresses: Vec<String> =
            (0..wishes.v6).map(|host| format!("2001:db8:{number}::{:x}/64", host + 10)).collect();
        addresses.extend((0..wishes.v4).map(|host| format!("10.{number}.{host}.2/24")));
        if wishes.v6 == 0 && wishes.dhcp6 {
            addresses.push("dhcp6".into());
        }
        if wishes.v4 == 0 && wishes.dhcp4 {
            addresses.push("dhcp".into());
        }
        if addresses.is_empty() {
            addresses.push("none".into());
        }
        entry.insert("address".into(), json!(addresses));
        let mut gateways = Vec::new();
        if wishes.gateway4 && wishes.v4 > 0 && !std::mem::replace(&mut self.gateway4, true) {
            gateways.push(format!("10.{number}.0.1"));
        }
        if wishes.gateway6 && wishes.v6 > 0 && !std::mem::replace(&mut self.gateway6, true) {
            gateways.push(if wishes.optional { "fe80::1".to_owned() } else { format!("2001:db8:{number}::1") });
        }
        entry.insert("gateway".into(), json!(gateways));
        let has = |v6: bool| if v6 { wishes.v6 > 0 || wishes.dhcp6 } else { wishes.v4 > 0 || wishes.dhcp4 };
        let mut routes = Vec::new();
        for (v6, metric) in wishes.routes.iter().filter(|(v6, _)| has(*v6)) {
            self.routes += 1;
            let (to, via) = if *v6 {
                (format!("2001:db8:ff{:02x}::/48", self.routes), format!("2001:db8:{number}::fe"))
            } else {
                (format!("172.16.{}.0/24", self.routes), format!("10.{number}.0.254"))
            };
            routes.push(json!({ "to": to, "via": via, "metric": metric }));
        }
        entry.insert("routes".into(), json!(routes));
        let mut servers = Vec::new();
        for v6 in wishes.dns.iter().filter(|v6| has(**v6)) {
            if self.servers < 3 {
                self.servers += 1;
                servers.push(if *v6 {
                    format!("2001:db8::{}", self.servers)
                } else {
                    format!("192.0.2.{}", self.servers)
                });
            }
        }
        if wishes.search && !servers.is_empty() && self.domains < 6 {
            self.domains += 1;
            entry.insert("search".into(), json!(format!("d{}.example.org", self.domains)));
        }
        entry.insert("dns".into(), json!(servers));
        entry
    }
}

/// A word that names something, mostly one of few, so that entries meet.
fn word(few: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![12 => proptest::sample::select(few).prop_map(str::to_owned), 1 => any::<String>()]
}

/// Entries that name each other blindly, with fields from a small pool of good and bad values.
pub fn blind_network() -> impl Strategy<Value = Value> {
    let parts = &["eth0", "eth1", "bond0", "br0", "eth0.1"];
    let names = &["eth0", "eth1", "bond0", "br0", "br1", "vlan1", "eth0.1", "br0.2", "bond0.1"];
    let addresses =
        &["dhcp", "dhcp6", "none", "10.0.1.5/24", "10.0.2.5/24", "10.0.2.6/23", "2001:db8::5/64", "2001:db8:1::5/64"];
    let routers = &["10.0.1.1", "10.0.2.1", "10.0.3.1", "fe80::1", "2001:db8::1"];
    let networks = &["default", "10.9.0.0/16", "172.16.0.0/12", "2001:db8:9::/48", "0.0.0.0/0"];
    let of = move |kind: u8, parts: Vec<String>, id: u32| match kind {
        0 => json!({ "vlan": { "id": id, "link": parts.first().cloned().unwrap_or_default() } }),
        1 => json!({ "bond": { "members": parts, "mode": "active-backup" } }),
        2 => json!({ "bridge": { "members": parts, "stp": id == 1 } }),
        _ => json!({}),
    };
    let entry = (
        (option::weighted(0.6, word(names)), 0..7_u8, vec(word(parts), 1..3), 0..4_u32),
        (option::weighted(0.4, word(addresses)), vec(word(routers), 0..2), vec(word(routers), 0..2)),
        option::weighted(0.2, (word(networks), word(routers))),
        option::weighted(0.2, proptest::sample::select(&[0_u32, 1280, 1500, 9000][..])),
    );
    let entry = entry.prop_map(move |((name, kind, parts, id), (address, gateway, dns), route, mtu)| {
        let mut entry = of(kind, parts, id);
        // Bonds and bridges need a name, and few are VLANs'.
        let name = match kind {
            0 => name.filter(|name| name.starts_with("vlan")),
            1 => name.or_else(|| Some("bond0".into())),
            2 => name.or_else(|| Some("br0".into())),
            _ => name,
        };
        // What is rarely wanted is left out in most entries, or none would be accepted.
        let (gateway, dns) = if id == 2 { (gateway, dns) } else { Default::default() };
        let routes: Vec<Value> = route.iter().map(|(to, via)| json!({ "to": to, "via": via })).collect();
        for (field, value) in [
            ("name", json!(name)),
            ("address", json!(address.as_slice())),
            ("gateway", json!(gateway)),
            ("dns", json!(dns)),
            ("mtu", json!(mtu)),
            ("routes", json!(routes)),
        ] {
            entry[field] = value;
        }
        entry
    });
    vec(entry, 1..5).prop_map(Value::Array)
}
