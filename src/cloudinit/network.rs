//! Network cards: addresses, gateways and name servers, checked, and as network configuration version 2.
//!
//! Every renderer of cloud-init 22.4 must write the same meaning (eni, networkd, NetworkManager, sysconfig, netplan). From that follow:
//! - A card is matched by its MAC address and given a name. A match by name is understood by netplan and networkd alone.
//! - An IPv4 default route is a route to `0.0.0.0/0`: `default` is netplan's own word. Where the card also asks for IPv6 by DHCP it is
//!   `gateway4`, because routes are written under the first family only, and DHCP comes first.
//! - An IPv6 default route is `gateway6`: 22.4 loses the prefix of `::/0`, and writes `::/64`.
//! - IPv4 addresses come before IPv6 ones, for the same reason.
//! - Search domains without a server are an invalid command to all but netplan, so they are refused.
//! - All cards together name at most three servers and six domains: a guest with a resolv.conf uses no more.
//! - DHCP sends the MAC address as its identifier where the guest can do so: clones of a template share a machine-id, and with it an
//!   identifier, and would be given the same address.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::forms::Nics;
use super::mac::MacAddress;
use super::spec::Nic;

/// ESXi's own limit of cards for a machine.
const MOST_CARDS: usize = 10;
const MOST_ADDRESSES: usize = 64;
/// glibc's limits (resolv.conf(5)): servers beyond the third are never asked, and cloud-init leaves them out of resolv.conf.
const MOST_SERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
const LONGEST_DOMAINS: usize = 256;

/// The checked network of a document: its cards in the order of the input.
#[derive(Clone, Debug)]
pub(super) struct Network {
    cards: Vec<Card>,
}

/// One checked card.
#[derive(Clone, Debug)]
struct Card {
    at: At,
    name: String,
    mac: Option<MacAddress>,
    /// IPv4 before IPv6, else in the order of the input.
    addresses: Vec<IpNet>,
    dhcp4: bool,
    dhcp6: bool,
    gateway4: Option<Ipv4Addr>,
    gateway6: Option<Ipv6Addr>,
    dns: Vec<IpAddr>,
    search: Vec<String>,
    mtu: Option<u32>,
}

/// Checks the cards one by one, then against each other.
pub(super) fn check(at: &At, nics: &Nics) -> Result<Network, Error> {
    check::at_most(at, nics.0.len(), MOST_CARDS)?;
    let single = nics.0.len() == 1;
    let mut cards = Vec::with_capacity(nics.0.len());
    for (index, nic) in nics.0.iter().enumerate() {
        let at = if single { at.clone() } else { at.item(index) };
        cards.push(card(at, index, nic)?);
    }
    let mut macs = HashSet::new();
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    let (mut servers, mut domains) = (HashSet::<IpAddr>::new(), HashSet::<&String>::new());
    let (mut gateway4, mut gateway6) = (false, false);
    for card in &cards {
        if let Some(mac) = card.mac.filter(|mac| !macs.insert(*mac)) {
            return Err(card.at.field("mac").is(Problem::Twice(Shown::new(&mac.to_string()))));
        }
        if !names.insert(card.name.as_str()) {
            return Err(card.at.field("name").is(Problem::Twice(Shown::new(&card.name))));
        }
        if let Some(address) = card.addresses.iter().find(|address| !addresses.insert(address.addr())) {
            return Err(card.at.field("address").is(Problem::Twice(Shown::new(&address.addr().to_string()))));
        }
        if card.gateway4.is_some() && std::mem::replace(&mut gateway4, true) {
            return Err(card.at.field("gateway").is(Problem::SecondGateway("IPv4")));
        }
        if card.gateway6.is_some() && std::mem::replace(&mut gateway6, true) {
            return Err(card.at.field("gateway").is(Problem::SecondGateway("IPv6")));
        }
        servers.extend(card.dns.iter().copied());
        check::at_most(&card.at.field("dns"), servers.len(), MOST_SERVERS)?;
        domains.extend(card.search.iter());
        check::at_most(&card.at.field("search"), domains.len(), MOST_DOMAINS)?;
        let length: usize = domains.iter().map(|domain| domain.len() + 1).sum();
        if length > LONGEST_DOMAINS {
            return Err(card.at.field("search").is(Problem::TooLong(length, LONGEST_DOMAINS)));
        }
    }
    Ok(Network { cards })
}

fn card(at: At, index: usize, nic: &Nic) -> Result<Card, Error> {
    let name = match &nic.name {
        Some(name) => interface_name(&at.field("name"), name)?,
        None => format!("eth{index}"),
    };
    let mac = match &nic.mac {
        Some(text) => Some(text.parse().map_err(|_| at.field("mac").is(Problem::Mac(Shown::new(text))))?),
        None => None,
    };
    let (addresses, dhcp4, dhcp6) = addresses(&at.field("address"), &nic.address.0)?;
    let mut card = Card {
        name,
        mac,
        addresses,
        dhcp4,
        dhcp6,
        gateway4: None,
        gateway6: None,
        dns: servers(&at.field("dns"), &nic.dns.0)?,
        search: search(&at.field("search"), &nic.search.0)?,
        mtu: nic.mtu,
        at,
    };
    if card.dns.is_empty() && !card.search.is_empty() {
        return Err(card.at.field("search").is(Problem::SearchWithoutDns));
    }
    gateways(&mut card, &nic.gateway.0)?;
    let least = if card.dhcp6 || card.addresses.iter().any(|address| address.addr().is_ipv6()) { 1280 } else { 576 };
    if let Some(mtu) = card.mtu.filter(|mtu| !(least..=9000).contains(mtu)) {
        return Err(card.at.field("mtu").is(Problem::OutOfRange(mtu, least, 9000)));
    }
    Ok(card)
}

/// The path of an entry of a field that may be written as a single value: `dns` for a list of one, else `dns[2]`.
fn entry(at: &At, list: &[String], index: usize) -> At {
    if list.len() == 1 { at.clone() } else { at.item(index) }
}

fn addresses(at: &At, list: &[String]) -> Result<(Vec<IpNet>, bool, bool), Error> {
    check::at_most(at, list.len(), MOST_ADDRESSES)?;
    let (mut found, mut dhcp4, mut dhcp6) = (Vec::new(), list.is_empty(), false);
    for (index, text) in list.iter().enumerate() {
        match text.as_str() {
            "dhcp" => dhcp4 = true,
            "dhcp6" => dhcp6 = true,
            _ => found.push(address(&entry(at, list, index), text)?),
        }
    }
    let by_hand = |v6: bool| found.iter().any(|address: &IpNet| address.addr().is_ipv6() == v6);
    if (dhcp4 && by_hand(false)) || (dhcp6 && by_hand(true)) {
        return Err(at.is(Problem::StaticAndDhcp));
    }
    found.sort_by_key(|address| address.addr().is_ipv6());
    Ok((found, dhcp4, dhcp6))
}

fn address(at: &At, text: &str) -> Result<IpNet, Error> {
    let net = subnet(text).ok_or_else(|| at.is(Problem::Address(Shown::new(text))))?;
    let unusable = |why| Err(at.is(Problem::UnusableAddress(Shown::new(text), why)));
    if net.prefix_len() == 0 {
        return unusable("its prefix is the whole Internet");
    }
    if let Some(why) = unusable_host(net.addr()) {
        return unusable(why);
    }
    match edge_of(net, net.addr()) {
        Some(why) => unusable(why),
        None => Ok(net),
    }
}

/// Reads `ADDRESS/PREFIX`. Leading zeros are refused (ipnet would take them): half the world reads them as octal.
fn subnet(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty()
        || !prefix.bytes().all(|byte| byte.is_ascii_digit())
        || (prefix.len() > 1 && prefix.starts_with('0'))
    {
        return None;
    }
    IpNet::new(address.parse().ok()?, prefix.parse().ok()?).ok()
}

/// Why no machine can have this address, whatever its subnet.
fn unusable_host(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("it means no address");
    }
    if address.is_loopback() {
        return Some("it is a loopback address");
    }
    if address.is_multicast() {
        return Some("it is a multicast address");
    }
    match address {
        IpAddr::V4(v4) if v4.octets().first() == Some(&0) => Some("0.0.0.0/8 means this network"),
        IpAddr::V4(v4) if v4.octets().first().is_some_and(|first| *first >= 240) => Some("it is reserved"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("it is an IPv4 address in IPv6 form"),
        _ => None,
    }
}

/// Whether the address is one end of the subnet, which no machine can have (RFC 1122 §3.2.1.3, RFC 4291 §2.6.1; not so in /31, /127 and smaller).
fn edge_of(subnet: IpNet, address: IpAddr) -> Option<&'static str> {
    if subnet.prefix_len() + 1 >= subnet.max_prefix_len() {
        return None;
    }
    if address == subnet.network() {
        return Some("it is the address of the subnet itself");
    }
    (address.is_ipv4() && address == subnet.broadcast()).then_some("it is the subnet's broadcast address")
}

fn gateways(card: &mut Card, list: &[String]) -> Result<(), Error> {
    let field = card.at.field("gateway");
    check::at_most(&field, list.len(), 2)?;
    for (index, text) in list.iter().enumerate() {
        let at = entry(&field, list, index);
        let gateway: IpAddr = text.parse().map_err(|_| at.is(Problem::Ip(Shown::new(text))))?;
        reachable(&at, card, gateway, text)?;
        match gateway {
            IpAddr::V4(v4) if card.gateway4.replace(v4).is_some() => {
                return Err(at.is(Problem::SecondGateway("IPv4")));
            }
            IpAddr::V6(v6) if card.gateway6.replace(v6).is_some() => {
                return Err(at.is(Problem::SecondGateway("IPv6")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn reachable(at: &At, card: &Card, gateway: IpAddr, text: &str) -> Result<(), Error> {
    if let Some(why) = unusable_host(gateway) {
        return Err(at.is(Problem::UnusableAddress(Shown::new(text), why)));
    }
    if card.addresses.iter().any(|address| address.addr() == gateway) {
        return Err(at.is(Problem::GatewayIsSelf(Shown::new(text))));
    }
    let mut own = card.addresses.iter().filter(|address| address.addr().is_ipv4() == gateway.is_ipv4()).peekable();
    let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if link_local && own.peek().is_some() {
        return Ok(());
    }
    match card.addresses.iter().find(|address| address.contains(&gateway)) {
        Some(subnet) => match edge_of(*subnet, gateway) {
            Some(why) => Err(at.is(Problem::UnusableAddress(Shown::new(text), why))),
            None => Ok(()),
        },
        None => {
            let had: Vec<String> = card.addresses.iter().map(IpNet::to_string).collect();
            let had = if had.is_empty() { "it has none of its own".to_owned() } else { had.join(", ") };
            Err(at.is(Problem::UnreachableGateway(Shown::new(text), had)))
        }
    }
}

fn servers(at: &At, list: &[String]) -> Result<Vec<IpAddr>, Error> {
    check::at_most(at, list.len(), MOST_SERVERS)?;
    let mut servers = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let at = entry(at, list, index);
        let server: IpAddr = text.parse().map_err(|_| at.is(Problem::Ip(Shown::new(text))))?;
        // A name server on the machine itself is common, so loopback is taken.
        if let Some(why) = unusable_host(server).filter(|_| !server.is_loopback()) {
            return Err(at.is(Problem::UnusableAddress(Shown::new(text), why)));
        }
        if servers.contains(&server) {
            return Err(at.is(Problem::Twice(Shown::new(text))));
        }
        servers.push(server);
    }
    Ok(servers)
}

fn search(at: &At, list: &[String]) -> Result<Vec<String>, Error> {
    check::at_most(at, list.len(), MOST_DOMAINS)?;
    for (index, name) in list.iter().enumerate() {
        check::domain(&entry(at, list, index), name)?;
    }
    check::distinct(at, list.iter().map(String::as_str))?;
    Ok(list.to_vec())
}

/// A name that the kernel takes, which is safe in every renderer's files: `IFNAMSIZ` less one is 15.
fn interface_name(at: &At, name: &str) -> Result<String, Error> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=15).contains(&name.len())
        || name == "lo"
        || !name.bytes().all(safe)
        || !name.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        return Err(at.is(Problem::InterfaceName(Shown::new(name))));
    }
    Ok(name.to_owned())
}

impl Network {
    /// The addresses that the guest will have by these settings; those from DHCP are not known.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.cards.iter().flat_map(|card| card.addresses.iter().map(IpNet::addr))
    }

    /// Network configuration version 2 for a machine with these cards.
    ///
    /// Cards that name a MAC address take it; the others take what is left, in the machine's order. Cards of the machine that
    /// nothing configures stay as the guest finds them.
    pub(super) fn render(&self, present: &[MacAddress]) -> Result<Value, Error> {
        if self.cards.len() > present.len() {
            return Err(Error::TooFewNics { wanted: self.cards.len(), present: present.len() });
        }
        let named: HashSet<MacAddress> = self.cards.iter().filter_map(|card| card.mac).collect();
        let mut free = present.iter().filter(|mac| !named.contains(mac));
        let mut ethernets = Map::new();
        for card in &self.cards {
            let mac = match card.mac {
                Some(mac) if present.contains(&mac) => mac,
                Some(mac) => {
                    let present: Vec<String> = present.iter().map(MacAddress::to_string).collect();
                    let at = card.at.field("mac");
                    return Err(Error::NoSuchNic { at, mac: mac.to_string(), present: present.join(", ") });
                }
                None => *free.next().ok_or(Error::TooFewNics { wanted: self.cards.len(), present: present.len() })?,
            };
            ethernets.insert(card.name.clone(), card.render(mac));
        }
        Ok(json!({ "version": 2, "ethernets": ethernets }))
    }

    /// What a person is shown.
    pub(super) fn describe(&self) -> Value {
        self.cards.iter().map(Card::describe).collect()
    }
}

impl Card {
    fn render(&self, mac: MacAddress) -> Value {
        let mut out = Map::new();
        out.insert("match".into(), json!({ "macaddress": mac.to_string() }));
        out.insert("set-name".into(), json!(self.name));
        if self.dhcp4 {
            out.insert("dhcp4".into(), json!(true));
            out.insert("dhcp-identifier".into(), json!("mac"));
        }
        if self.dhcp6 {
            out.insert("dhcp6".into(), json!(true));
        }
        if !self.addresses.is_empty() {
            out.insert("addresses".into(), strings(&self.addresses));
        }
        match self.gateway4 {
            Some(gateway) if self.dhcp6 => {
                out.insert("gateway4".into(), json!(gateway.to_string()));
            }
            Some(gateway) => {
                out.insert("routes".into(), json!([{ "to": "0.0.0.0/0", "via": gateway.to_string() }]));
            }
            None => {}
        }
        if let Some(gateway) = self.gateway6 {
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
        Value::Object(out)
    }

    fn describe(&self) -> Value {
        let mut addresses: Vec<String> = self.addresses.iter().map(IpNet::to_string).collect();
        if self.dhcp4 {
            addresses.push("dhcp".into());
        }
        if self.dhcp6 {
            addresses.push("dhcp6".into());
        }
        let mut out = Map::new();
        out.insert("name".into(), json!(self.name));
        if let Some(mac) = self.mac {
            out.insert("mac".into(), json!(mac.to_string()));
        }
        out.insert("address".into(), json!(addresses));
        let gateways: Vec<IpAddr> =
            self.gateway4.map(IpAddr::V4).into_iter().chain(self.gateway6.map(IpAddr::V6)).collect();
        for (key, list) in [("gateway", &gateways), ("dns", &self.dns)] {
            if !list.is_empty() {
                out.insert(key.into(), strings(list));
            }
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

fn strings<T: ToString>(list: &[T]) -> Value {
    list.iter().map(T::to_string).collect()
}
