//! What renderers of cloud-init lose of a network: the whole list. Everything else must come out as it was meant, and what stands here must be lost, so that a release which
//! mends it is noticed. The comments of the fields in `src/cloudinit/network/spec.rs` say the same to users.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::meant::Interface;
use crate::real::CloudInit::{self, Debian, Newest};

/// One thing that a renderer loses, in these versions.
struct Loss {
    renderer: &'static str,
    versions: &'static [CloudInit],
    lose: fn(&mut Interface),
}

const BOTH: &[CloudInit] = &[Debian, Newest];

const LOSSES: &[Loss] = &[
    // 22.4 has no metric in the routes of version 2; netplan gets the document as it is.
    Loss { renderer: "eni", versions: &[Debian], lose: metrics },
    Loss { renderer: "networkd", versions: &[Debian], lose: metrics },
    Loss { renderer: "network-manager", versions: &[Debian], lose: metrics },
    Loss { renderer: "sysconfig", versions: &[Debian], lose: metrics },
    // 22.4 writes all routes into the section of the first subnet's family, where NetworkManager leaves the other family's out.
    Loss { renderer: "network-manager", versions: &[Debian], lose: routes_of_the_other_family },
    // 22.4 gives servers to subnets with an address alone; 26.2 asks for a section of the server's family.
    Loss { renderer: "network-manager", versions: &[Debian], lose: dns_without_an_address },
    // 26.2 writes a server into the stanza of its family, and knows the servers only from the first subnet with an address on.
    Loss { renderer: "eni", versions: &[Newest], lose: dns_without_an_address_of_its_family },
    // NetworkManager asks by DHCP where nothing is said of IPv4; only 26.2 says so, and for bonds without any address alone.
    Loss { renderer: "network-manager", versions: &[Debian], lose: silence_about_ipv4 },
    Loss { renderer: "network-manager", versions: &[Newest], lose: silence_about_ipv4_but_for_bonds },
    // Its property for VLANs and bridges does not exist, or is not written.
    Loss { renderer: "network-manager", versions: BOTH, lose: mtu_of_vlans_and_bridges },
    Loss { renderer: "network-manager", versions: &[Debian], lose: mtu_of_bonds },
    // Names of bond options that its table has otherwise: 22.4 `bond_miimon`, 26.2 `bond-lacp_rate`, `bond-xmit_hash_policy`.
    Loss { renderer: "network-manager", versions: &[Debian], lose: miimon },
    Loss { renderer: "network-manager", versions: BOTH, lose: lacp_rate },
    Loss { renderer: "network-manager", versions: &[Newest], lose: xmit_hash_policy },
    // The primary member is said in the member's file, which 26.2 does not do.
    Loss { renderer: "networkd", versions: &[Newest], lose: primary },
    Loss { renderer: "network-manager", versions: BOTH, lose: forward_delay },
    Loss { renderer: "sysconfig", versions: BOTH, lose: forward_delay },
    // 22.4 writes no .netdev files, so nothing is made.
    Loss { renderer: "networkd", versions: &[Debian], lose: what_it_is_made_of },
    Loss { renderer: "network-manager", versions: BOTH, lose: accept_ra },
    // Written with the first subnet alone, and ifupdown takes it for IPv6 alone.
    Loss { renderer: "eni", versions: BOTH, lose: accept_ra_where_ipv4_comes_first },
    Loss { renderer: "networkd", versions: &[Debian], lose: accept_ra_without_dhcp6 },
    // An IPv6 address by hand writes `no` over it.
    Loss { renderer: "sysconfig", versions: BOTH, lose: accept_ra_by_an_address },
    Loss { renderer: "eni", versions: BOTH, lose: optional },
    Loss { renderer: "network-manager", versions: BOTH, lose: optional },
    Loss { renderer: "sysconfig", versions: BOTH, lose: optional },
    Loss { renderer: "networkd", versions: &[Debian], lose: optional },
    Loss { renderer: "networkd", versions: &[Newest], lose: optional_but_for_cards },
];

/// What a renderer leaves of the interfaces.
pub fn left(renderer: &str, version: CloudInit, meant: &BTreeMap<String, Interface>) -> BTreeMap<String, Interface> {
    let mut left = meant.clone();
    for loss in LOSSES.iter().filter(|loss| loss.renderer == renderer && loss.versions.contains(&version)) {
        left.values_mut().for_each(loss.lose);
    }
    left
}

fn metrics(of: &mut Interface) {
    of.routes.iter_mut().for_each(|(_, _, metric)| *metric = None);
}

fn routes_of_the_other_family(of: &mut Interface) {
    let v6 = of.begins_with_v6();
    of.routes.retain(|(to, ..)| to.contains(':') == v6);
}

fn dns_without_an_address(of: &mut Interface) {
    if of.addresses.is_empty() {
        of.dns.clear();
        of.search.clear();
    }
}

fn dns_without_an_address_of_its_family(of: &mut Interface) {
    let by_hand = [of.by_hand(false), of.by_hand(true)];
    of.dns.retain(|server| by_hand[usize::from(server.contains(':'))]);
    if of.dns.is_empty() {
        of.search.clear();
    }
}

fn silence_about_ipv4(of: &mut Interface) {
    of.dhcp4 |= !of.member && !of.has(false);
}

fn silence_about_ipv4_but_for_bonds(of: &mut Interface) {
    if of.bond.is_none() || of.has(true) {
        silence_about_ipv4(of);
    }
}

fn mtu_of_vlans_and_bridges(of: &mut Interface) {
    if of.vlan.is_some() || of.bridge.is_some() {
        of.mtu = None;
    }
}

fn mtu_of_bonds(of: &mut Interface) {
    if of.bond.is_some() {
        of.mtu = None;
    }
}

fn miimon(of: &mut Interface) {
    of.bond.iter_mut().for_each(|bond| bond.miimon = None);
}

fn lacp_rate(of: &mut Interface) {
    of.bond.iter_mut().for_each(|bond| bond.lacp_rate = Value::Null);
}

fn xmit_hash_policy(of: &mut Interface) {
    of.bond.iter_mut().for_each(|bond| bond.xmit_hash_policy = Value::Null);
}

fn primary(of: &mut Interface) {
    of.bond.iter_mut().for_each(|bond| bond.primary = None);
}

fn forward_delay(of: &mut Interface) {
    of.bridge.iter_mut().for_each(|bridge| bridge.forward_delay = None);
}

fn what_it_is_made_of(of: &mut Interface) {
    (of.vlan, of.bond, of.bridge) = (None, None, None);
}

fn accept_ra(of: &mut Interface) {
    of.accept_ra = None;
}

fn accept_ra_where_ipv4_comes_first(of: &mut Interface) {
    if !of.begins_with_v6() {
        of.accept_ra = None;
    }
}

fn accept_ra_without_dhcp6(of: &mut Interface) {
    if !of.dhcp6 {
        of.accept_ra = None;
    }
}

fn accept_ra_by_an_address(of: &mut Interface) {
    if of.by_hand(true) {
        of.accept_ra = Some(false);
    }
}

fn optional(of: &mut Interface) {
    of.optional = false;
}

fn optional_but_for_cards(of: &mut Interface) {
    if of.mac.is_none() {
        of.optional = false;
    }
}
