//! Addresses and subnets: what a machine can have, and what it can reach from there.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cloudinit::check;
use crate::cloudinit::error::{At, Error, Problem, Shown};

const MOST_ADDRESSES: usize = 64;

/// What the field `address` asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    /// IPv4 before IPv6, else in the order of the input.
    pub(super) by_hand: Vec<IpNet>,
    pub(super) dhcp4: bool,
    pub(super) dhcp6: bool,
}

impl Addresses {
    /// Nothing given means DHCP (IPv4), for a member of a bond or bridge nothing.
    pub(super) fn read(at: &At, list: &[String], member: bool) -> Result<Self, Error> {
        check::at_most(at, list.len(), MOST_ADDRESSES)?;
        let mut found = Self { dhcp4: list.is_empty() && !member, ..Self::default() };
        for (index, text) in list.iter().enumerate() {
            match text.as_str() {
                "dhcp" => found.dhcp4 = true,
                "dhcp6" => found.dhcp6 = true,
                "none" if list.len() == 1 => {}
                "none" => return Err(at.item(index).is(Problem::NoneAndMore)),
                _ => found.by_hand.push(address(&entry(at, list, index), text)?),
            }
        }
        if member && found.any() {
            return Err(at.is(Problem::OfMember));
        }
        let by_hand = |v6: bool| found.by_hand.iter().any(|address| address.addr().is_ipv6() == v6);
        if (found.dhcp4 && by_hand(false)) || (found.dhcp6 && by_hand(true)) {
            return Err(at.is(Problem::StaticAndDhcp));
        }
        found.by_hand.sort_by_key(|address| address.addr().is_ipv6());
        Ok(found)
    }

    pub(super) fn any(&self) -> bool {
        self.dhcp4 || self.dhcp6 || !self.by_hand.is_empty()
    }

    pub(super) fn has_v6(&self) -> bool {
        self.dhcp6 || self.by_hand.iter().any(|address| address.addr().is_ipv6())
    }

    /// Whether there is anything of the family, by hand or by DHCP.
    pub(super) fn has_family_of(&self, of: IpAddr) -> bool {
        if of.is_ipv6() {
            self.has_v6()
        } else {
            self.by_dhcp(of) || self.by_hand.iter().any(|own| own.addr().is_ipv4())
        }
    }

    /// Whether the family is asked for by DHCP, so that what is near is not known.
    pub(super) fn by_dhcp(&self, of: IpAddr) -> bool {
        if of.is_ipv6() { self.dhcp6 } else { self.dhcp4 }
    }

    /// Whether a router can be reached from one of the addresses given by hand.
    pub(super) fn reaches(&self, at: &At, router: IpAddr, text: &str) -> Result<(), Error> {
        if self.by_hand.iter().any(|address| address.addr() == router) {
            return Err(at.is(Problem::GatewayIsSelf(Shown::new(text))));
        }
        if is_link_local(router) && self.by_hand.iter().any(|address| address.addr().is_ipv6()) {
            return Ok(());
        }
        match self.by_hand.iter().find(|address| address.contains(&router)) {
            Some(subnet) => match edge_of(*subnet, router) {
                Some(why) => Err(at.is(Problem::UnusableAddress(Shown::new(text), why))),
                None => Ok(()),
            },
            None => {
                let had: Vec<String> = self.by_hand.iter().map(IpNet::to_string).collect();
                let had = if had.is_empty() { "it has none of its own".to_owned() } else { had.join(", ") };
                Err(at.is(Problem::UnreachableGateway(Shown::new(text), had)))
            }
        }
    }
}

/// The path of an entry of a field that may be written as a single value: `dns` for a list of one, else `dns[2]`.
pub(super) fn entry(at: &At, list: &[String], index: usize) -> At {
    if list.len() == 1 { at.clone() } else { at.item(index) }
}

/// An IP address that a router can have.
pub(super) fn router(at: &At, text: &str) -> Result<IpAddr, Error> {
    let address = ip(at, text)?;
    match unusable_host(address) {
        Some(why) => Err(at.is(Problem::UnusableAddress(Shown::new(text), why))),
        None => Ok(address),
    }
}

/// An IP address, without a prefix length. Leading zeros are refused, because half the world reads them as octal.
pub(super) fn ip(at: &At, text: &str) -> Result<IpAddr, Error> {
    if text.contains('%') {
        return Err(at.is(Problem::Zone(Shown::new(text))));
    }
    text.parse().map_err(|_| at.is(Problem::Ip(Shown::new(text))))
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn address(at: &At, text: &str) -> Result<IpNet, Error> {
    if text.contains('%') {
        return Err(at.is(Problem::Zone(Shown::new(text))));
    }
    let net = subnet(text).ok_or_else(|| at.is(Problem::Address(Shown::new(text))))?;
    let unusable = |why| Err(at.is(Problem::UnusableAddress(Shown::new(text), why)));
    if net.prefix_len() == 0 {
        return unusable("its prefix is the whole Internet");
    }
    if let Some(why) = unusable_host(net.addr()).or_else(|| edge_of(net, net.addr())) {
        return unusable(why);
    }
    Ok(net)
}

/// Reads `ADDRESS/PREFIX`. Leading zeros are refused in both (ipnet would take them).
pub(super) fn subnet(text: &str) -> Option<IpNet> {
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
pub(super) fn unusable_host(address: IpAddr) -> Option<&'static str> {
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
