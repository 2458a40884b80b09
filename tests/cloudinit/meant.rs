//! What a network means for the guest, worked out from the input alone: what every renderer should write, in the fields that `renderers.py` reads.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ceso::cloudinit::{Nic, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One interface as the guest has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interface {
    pub mac: Option<String>,
    pub dhcp4: bool,
    pub dhcp6: bool,
    pub addresses: BTreeSet<String>,
    pub gateway4: Option<String>,
    pub gateway6: Option<String>,
    pub routes: Vec<(String, String, Option<u32>)>,
    pub mtu: Option<u32>,
    pub accept_ra: Option<bool>,
    pub optional: bool,
    pub vlan: Option<Vlan>,
    pub bond: Option<Bond>,
    pub bridge: Option<Bridge>,
    #[serde(skip)]
    pub dns: Vec<String>,
    #[serde(skip)]
    pub search: Vec<String>,
    #[serde(skip)]
    pub member: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    pub id: u32,
    pub link: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    pub mode: Value,
    pub members: BTreeSet<String>,
    pub miimon: Option<u32>,
    #[serde(default)]
    pub lacp_rate: Value,
    #[serde(default)]
    pub xmit_hash_policy: Value,
    #[serde(default)]
    pub primary: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    pub members: BTreeSet<String>,
    pub stp: bool,
    #[serde(default)]
    pub forward_delay: Option<u32>,
}

impl Interface {
    pub fn by_hand(&self, v6: bool) -> bool {
        self.addresses.iter().any(|address| address.contains(':') == v6)
    }

    pub fn has(&self, v6: bool) -> bool {
        self.by_hand(v6) || if v6 { self.dhcp6 } else { self.dhcp4 }
    }

    /// Whether what cloud-init takes for the first of its subnets is of IPv6: DHCP comes first, and IPv4.
    pub fn begins_with_v6(&self) -> bool {
        !self.dhcp4 && (self.dhcp6 || !self.by_hand(false)) && self.has(true)
    }

    fn read(nic: &Nic, member: bool) -> Self {
        let given = |v6: bool| nic.gateway.0.iter().find(|gateway| gateway.contains(':') == v6).map(|text| plain(text));
        let words = ["dhcp", "dhcp6", "none"];
        let addresses = nic.address.0.iter().filter(|text| !words.contains(&text.as_str())).map(|text| plain(text));
        let mut routes: Vec<_> =
            nic.routes.iter().map(|route| (plain(&route.to), plain(&route.via), route.metric)).collect();
        routes.sort_by_key(|(to, ..)| to.clone());
        let set = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
        Self {
            mac: None,
            dhcp4: nic.address.0.contains(&"dhcp".to_owned()) || (nic.address.0.is_empty() && !member),
            dhcp6: nic.address.0.contains(&"dhcp6".to_owned()),
            addresses: addresses.collect(),
            gateway4: given(false),
            gateway6: given(true),
            routes,
            mtu: nic.mtu,
            accept_ra: nic.accept_ra,
            optional: nic.optional,
            vlan: nic.vlan.as_ref().map(|vlan| Vlan { id: vlan.id, link: vlan.link.clone() }),
            bond: nic.bond.as_ref().map(|bond| Bond {
                mode: json!(bond.mode),
                members: set(&bond.members.0),
                miimon: Some(bond.miimon.unwrap_or(100)),
                lacp_rate: json!(bond.lacp_rate),
                xmit_hash_policy: json!(bond.xmit_hash_policy),
                primary: bond.primary.clone(),
            }),
            bridge: nic.bridge.as_ref().map(|bridge| Bridge {
                members: set(&bridge.members.0),
                stp: bridge.stp,
                forward_delay: bridge.forward_delay,
            }),
            dns: nic.dns.0.iter().map(|text| plain(text)).collect(),
            search: nic.search.0.clone(),
            member,
        }
    }
}

/// An address or network as it is usually written: small letters, the longest run of zeros left out.
fn plain(text: &str) -> String {
    let usual = |text: &str| text.parse::<std::net::IpAddr>().unwrap().to_string();
    match text.split_once('/') {
        Some((address, prefix)) => format!("{}/{prefix}", usual(address)),
        None => usual(text),
    }
}

/// The interfaces of a spec on a machine with these cards.
pub fn interfaces(spec: &Spec, macs: &[String]) -> BTreeMap<String, Interface> {
    let Some(nics) = &spec.network else { return BTreeMap::new() };
    let members: HashSet<&String> = nics
        .0
        .iter()
        .flat_map(|nic| {
            [nic.bond.as_ref().map(|bond| &bond.members), nic.bridge.as_ref().map(|bridge| &bridge.members)]
        })
        .flatten()
        .flat_map(|members| &members.0)
        .collect();
    let usual = |mac: &str| mac.to_lowercase().replace('-', ":");
    let named: HashSet<String> = nics.0.iter().filter_map(|nic| nic.mac.as_deref().map(usual)).collect();
    let mut free = macs.iter().filter(|mac| !named.contains(*mac));
    let mut found = BTreeMap::new();
    let mut cards = 0;
    for nic in &nics.0 {
        let card = nic.vlan.is_none() && nic.bond.is_none() && nic.bridge.is_none();
        let name = match (&nic.name, &nic.vlan) {
            (Some(name), _) => name.clone(),
            (None, Some(vlan)) => format!("{}.{}", vlan.link, vlan.id),
            (None, None) => format!("eth{cards}"),
        };
        let mut interface = Interface::read(nic, members.contains(&name));
        if card {
            cards += 1;
            interface.mac = nic.mac.as_deref().map(usual).or_else(|| free.next().cloned());
        }
        assert!(found.insert(name, interface).is_none());
    }
    found
}

/// What `renderers.py` answers where the guest ends up with this.
pub fn answer(interfaces: &BTreeMap<String, Interface>) -> Value {
    let all = |list: fn(&Interface) -> &Vec<String>| interfaces.values().flat_map(list).collect::<BTreeSet<_>>();
    json!({ "interfaces": interfaces, "dns": all(|one| &one.dns), "search": all(|one| &one.search) })
}
