//! The network: cards, VLANs, bonds and bridges, checked one by one and against each other, and as network configuration version 2.
//!
//! Every renderer of cloud-init, of 22.4 and of the newest release, must write the same meaning (eni, networkd, NetworkManager, sysconfig, netplan). From that follow:
//! - A card is matched by its MAC address and given a name. A match by name is understood by netplan and networkd alone.
//! - An IPv4 default route is a route to `0.0.0.0/0`: `default` is netplan's own word. Where the card also asks for IPv6 by DHCP it is
//!   `gateway4`, because routes are written under the first family only, and DHCP comes first.
//! - An IPv6 default route is `gateway6`: 22.4 loses the prefix of `::/0`, and writes `::/64`.
//! - IPv4 addresses come before IPv6 ones, for the same reason.
//! - Search domains without a server are an invalid command to all but netplan, so they are refused, and a server needs an address of its family beside it.
//! - All entries together name at most three servers and six domains: a guest with a resolv.conf uses no more.
//! - DHCP sends the MAC address as its identifier where the guest can do so: clones of a template share a machine-id, and with it an
//!   identifier, and would be given the same address.
//! - A VLAN's name says its id, because initscripts read it from there.
//!
//! What a renderer cannot express is refused, or its loss stands in the comments of `spec.rs` and in the tests.

mod addresses;
mod dns;
mod interface;
mod links;
mod render;
mod routes;
pub(super) mod spec;

use std::collections::HashSet;
use std::net::IpAddr;

use interface::Interface;

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::forms::Nics;

/// ESXi's own limit of cards for a machine.
const MOST_CARDS: usize = 10;
/// Cards, VLANs, bonds and bridges together.
const MOST_ENTRIES: usize = 64;

/// The checked network of a document: its entries in the order of the input.
#[derive(Clone, Debug)]
pub(super) struct Network {
    interfaces: Vec<Interface>,
}

/// Checks the entries one by one, then against each other.
pub(super) fn check(at: &At, nics: &Nics) -> Result<Network, Error> {
    let nics = &nics.0;
    check::at_most(at, nics.len(), MOST_ENTRIES)?;
    let made_of_others = |nic: &spec::Nic| nic.vlan.is_some() || nic.bond.is_some() || nic.bridge.is_some();
    check::at_most(at, nics.iter().filter(|nic| !made_of_others(nic)).count(), MOST_CARDS)?;
    let bonds = nics.iter().filter_map(|nic| nic.bond.as_ref()).flat_map(|bond| &bond.members.0);
    let bridges = nics.iter().filter_map(|nic| nic.bridge.as_ref()).flat_map(|bridge| &bridge.members.0);
    let members: HashSet<&String> = bonds.chain(bridges).collect();

    let mut names = HashSet::new();
    let mut interfaces = Vec::with_capacity(nics.len());
    let mut cards = 0;
    for (index, nic) in nics.iter().enumerate() {
        let at = if nics.len() == 1 { at.clone() } else { at.item(index) };
        let name = interface::name(&at, cards, nic)?;
        cards += usize::from(!made_of_others(nic));
        let member = members.contains(&name);
        let interface = Interface::read(at, name, nic, member)?;
        if !names.insert(interface.name.clone()) {
            return Err(interface.at.field("name").is(Problem::Twice(Shown::new(&interface.name))));
        }
        interfaces.push(interface);
    }
    links::check(&interfaces)?;
    different(&interfaces)?;
    one_way_out(&interfaces)?;
    resolver(&interfaces)?;
    Ok(Network { interfaces })
}

/// No MAC address and no address stands twice.
fn different(all: &[Interface]) -> Result<(), Error> {
    let mut macs = HashSet::new();
    let mut addresses = HashSet::new();
    for interface in all {
        if let interface::Kind::Card { mac: Some(mac), .. } = interface.kind
            && !macs.insert(mac)
        {
            return Err(interface.at.field("mac").is(Problem::Twice(Shown::new(&mac.to_string()))));
        }
        if let Some(address) = interface.addresses.by_hand.iter().find(|address| !addresses.insert(address.addr())) {
            return Err(interface.at.field("address").is(Problem::Twice(Shown::new(&address.addr().to_string()))));
        }
    }
    Ok(())
}

/// One default route of each family, one route to each network, and every router on one side only.
fn one_way_out(all: &[Interface]) -> Result<(), Error> {
    let (mut gateway4, mut gateway6) = (false, false);
    let mut destinations = HashSet::new();
    for interface in all {
        let at = interface.at.field("gateway");
        if interface.gateways.v4.is_some() && std::mem::replace(&mut gateway4, true) {
            return Err(at.is(Problem::SecondGateway("IPv4")));
        }
        if interface.gateways.v6.is_some() && std::mem::replace(&mut gateway6, true) {
            return Err(at.is(Problem::SecondGateway("IPv6")));
        }
        for gateway in interface.gateways.all() {
            on_one_side(&at, gateway, interface, all)?;
        }
        for route in &interface.routes {
            if !destinations.insert(route.to) {
                return Err(route.at.field("to").is(Problem::Twice(Shown::new(&route.to.to_string()))));
            }
            check::at_most(&interface.at.field("routes"), destinations.len(), routes::MOST_ROUTES)?;
            on_one_side(&route.at.field("via"), route.via, interface, all)?;
        }
    }
    Ok(())
}

/// A router that also lies in a subnet of another entry would be looked for there, or here, as the guest likes.
fn on_one_side(at: &At, router: IpAddr, of: &Interface, all: &[Interface]) -> Result<(), Error> {
    if addresses::is_link_local(router) {
        return Ok(());
    }
    for other in all.iter().filter(|other| other.name != of.name) {
        if let Some(subnet) = other.addresses.by_hand.iter().find(|subnet| subnet.contains(&router)) {
            let (router, subnet) = (Shown::new(&router.to_string()), subnet.to_string());
            return Err(at.is(Problem::RouterOnTwoSides(router, subnet, Shown::new(&other.name))));
        }
    }
    Ok(())
}

/// The servers and domains of all entries together are what one resolv.conf takes.
fn resolver(all: &[Interface]) -> Result<(), Error> {
    let (mut servers, mut domains) = (HashSet::<IpAddr>::new(), HashSet::<&String>::new());
    for interface in all {
        servers.extend(interface.dns.iter().copied());
        check::at_most(&interface.at.field("dns"), servers.len(), dns::MOST_SERVERS)?;
        domains.extend(interface.search.iter());
        let at = interface.at.field("search");
        check::at_most(&at, domains.len(), dns::MOST_DOMAINS)?;
        let length: usize = domains.iter().map(|domain| domain.len() + 1).sum();
        if length > dns::LONGEST_DOMAINS {
            return Err(at.is(Problem::TooLong(length, dns::LONGEST_DOMAINS)));
        }
    }
    Ok(())
}

impl Network {
    /// The addresses that the guest will have by these settings; those from DHCP are not known.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces.iter().flat_map(|interface| interface.addresses.by_hand.iter().map(ipnet::IpNet::addr))
    }
}
