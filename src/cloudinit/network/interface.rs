//! One entry of `network`, checked on its own: a card, a VLAN, a bond or a bridge.

use std::net::IpAddr;

use super::addresses::Addresses;
use super::dns;
use super::routes::{Gateways, MOST_ROUTES, Route};
use super::spec::{Bond, BondMode, Bridge, Nic, Vlan};
use crate::cloudinit::check;
use crate::cloudinit::error::{At, Error, Problem, Shown};
use crate::cloudinit::mac::MacAddress;

/// A bond of more cards than a machine can have is a mistake; a bridge may also have VLANs.
const MOST_MEMBERS: usize = 64;

/// One checked entry.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) at: At,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) addresses: Addresses,
    pub(super) gateways: Gateways,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) search: Vec<String>,
    pub(super) mtu: Option<u32>,
    pub(super) optional: bool,
}

/// What an entry is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Card { mac: Option<MacAddress>, accept_ra: Option<bool> },
    Vlan(Vlan),
    Bond(Bond),
    Bridge(Bridge),
}

impl Kind {
    /// The names of the entries that it is made of, with the field that names each.
    pub(super) fn parts(&self, at: &At) -> Vec<(At, &str)> {
        match self {
            Self::Card { .. } => Vec::new(),
            Self::Vlan(vlan) => vec![(at.field("vlan").field("link"), vlan.link.as_str())],
            Self::Bond(bond) => members(&at.field("bond"), &bond.members.0),
            Self::Bridge(bridge) => members(&at.field("bridge"), &bridge.members.0),
        }
    }
}

fn members<'a>(at: &At, list: &'a [String]) -> Vec<(At, &'a str)> {
    let at = at.field("members");
    list.iter().enumerate().map(|(index, name)| (at.item(index), name.as_str())).collect()
}

/// The name of an entry, given or by default. `card` is its place among the cards.
pub(super) fn name(at: &At, card: usize, nic: &Nic) -> Result<String, Error> {
    let field = at.field("name");
    let name = match (&nic.name, &nic.vlan) {
        (Some(name), None) => name.clone(),
        (Some(name), Some(vlan)) if *name == format!("vlan{}", vlan.id) => name.clone(),
        (None, Some(vlan)) => {
            let name = format!("{}.{}", vlan.link, vlan.id);
            if name.len() > 15 {
                return Err(field.is(Problem::VlanNameTooLong(Shown::new(&name), vlan.id)));
            }
            // The link's own name is checked where it stands.
            return Ok(name);
        }
        (Some(name), Some(vlan)) => return Err(field.is(Problem::VlanName(Shown::new(name), vlan.id))),
        (None, None) if nic.bond.is_some() || nic.bridge.is_some() => return Err(field.is(Problem::Missing)),
        (None, None) => format!("eth{card}"),
    };
    if !is_interface_name(&name) {
        return Err(field.is(Problem::InterfaceName(Shown::new(&name))));
    }
    Ok(name)
}

/// A name that the kernel takes, which is safe in every renderer's files: `IFNAMSIZ` less one is 15. `all` and `default` are names in /proc/sys/net, `bonding_masters` is one in
/// /sys/class/net.
fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "lo" | "all" | "default" | "none" | "bonding_masters")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

impl Interface {
    pub(super) fn read(at: At, name: String, nic: &Nic, member: bool) -> Result<Self, Error> {
        let kind = kind(&at, nic)?;
        let addresses = Addresses::read(&at.field("address"), &nic.address.0, member)?;
        if member {
            without_traffic(&at, nic)?;
        }
        let gateways = Gateways::read(&at.field("gateway"), &nic.gateway.0, &addresses)?;
        let field = at.field("routes");
        check::at_most(&field, nic.routes.len(), MOST_ROUTES)?;
        let routes =
            nic.routes.iter().enumerate().map(|(index, route)| Route::read(field.item(index), route, &addresses));
        let routes = routes.collect::<Result<_, _>>()?;
        let dns = dns::servers(&at.field("dns"), &nic.dns.0, &addresses)?;
        let search = dns::search(&at.field("search"), &nic.search.0, &dns)?;
        let least = if addresses.has_v6() { 1280 } else { 576 };
        if let Some(mtu) = nic.mtu.filter(|mtu| !(least..=9000).contains(mtu)) {
            return Err(at.field("mtu").is(Problem::OutOfRange(mtu, least, 9000)));
        }
        let (mtu, optional) = (nic.mtu, nic.optional);
        Ok(Self { at, name, kind, addresses, gateways, routes, dns, search, mtu, optional })
    }

    pub(super) fn is_card(&self) -> bool {
        matches!(self.kind, Kind::Card { .. })
    }
}

/// A member's traffic is its bond's or bridge's: nothing that needs an address can stand there.
fn without_traffic(at: &At, nic: &Nic) -> Result<(), Error> {
    let given = [
        ("gateway", !nic.gateway.0.is_empty()),
        ("routes", !nic.routes.is_empty()),
        ("dns", !nic.dns.0.is_empty()),
        ("search", !nic.search.0.is_empty()),
        ("accept_ra", nic.accept_ra.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(at.field(field).is(Problem::OfMember)),
        None => Ok(()),
    }
}

fn kind(at: &At, nic: &Nic) -> Result<Kind, Error> {
    let made_of = [("vlan", nic.vlan.is_some()), ("bond", nic.bond.is_some()), ("bridge", nic.bridge.is_some())];
    let mut made_of = made_of.into_iter().filter(|(_, given)| *given).map(|(field, _)| field);
    let (Some(field), second) = (made_of.next(), made_of.next()) else {
        let mac = match &nic.mac {
            Some(text) => Some(text.parse().map_err(|_| at.field("mac").is(Problem::Mac(Shown::new(text))))?),
            None => None,
        };
        return Ok(Kind::Card { mac, accept_ra: nic.accept_ra });
    };
    if let Some(second) = second {
        return Err(at.field(second).is(Problem::SecondKind(field)));
    }
    for (field, given) in [("mac", nic.mac.is_some()), ("accept_ra", nic.accept_ra.is_some())] {
        if given {
            return Err(at.field(field).is(Problem::OnlyForCards));
        }
    }
    let at = at.field(field);
    if let Some(vlan) = &nic.vlan {
        if !(1..=4094).contains(&vlan.id) {
            return Err(at.field("id").is(Problem::OutOfRange(vlan.id, 1, 4094)));
        }
        return Ok(Kind::Vlan(vlan.clone()));
    }
    if let Some(bond) = &nic.bond {
        return bonded(&at, bond).map(Kind::Bond);
    }
    bridged(&at, nic.bridge.clone().unwrap_or_default()).map(Kind::Bridge)
}

fn some_members(at: &At, list: &[String]) -> Result<(), Error> {
    let at = at.field("members");
    if list.is_empty() {
        return Err(at.is(Problem::Empty));
    }
    check::at_most(&at, list.len(), MOST_MEMBERS)?;
    check::distinct(&at, list.iter().map(String::as_str))
}

fn bonded(at: &At, bond: &Bond) -> Result<Bond, Error> {
    some_members(at, &bond.members.0)?;
    if let Some(miimon) = bond.miimon.filter(|miimon| !(1..=10_000).contains(miimon)) {
        return Err(at.field("miimon").is(Problem::OutOfRange(miimon, 1, 10_000)));
    }
    let only = |field: &str, given: bool, modes: &[BondMode], names: &'static str| {
        if given && !modes.contains(&bond.mode) {
            return Err(at.field(field).is(Problem::OnlyInModes(names)));
        }
        Ok(())
    };
    only("lacp_rate", bond.lacp_rate.is_some(), &[BondMode::Lacp], "802.3ad")?;
    let hashing = [BondMode::Lacp, BondMode::BalanceXor, BondMode::BalanceTlb];
    only("xmit_hash_policy", bond.xmit_hash_policy.is_some(), &hashing, "802.3ad, balance-xor and balance-tlb")?;
    let one_speaks = [BondMode::ActiveBackup, BondMode::BalanceTlb, BondMode::BalanceAlb];
    only("primary", bond.primary.is_some(), &one_speaks, "active-backup, balance-tlb and balance-alb")?;
    if let Some(primary) = bond.primary.as_ref().filter(|primary| !bond.members.0.contains(primary)) {
        return Err(at.field("primary").is(Problem::Link(Shown::new(primary), "it is no member of this bond")));
    }
    Ok(bond.clone())
}

fn bridged(at: &At, bridge: Bridge) -> Result<Bridge, Error> {
    some_members(at, &bridge.members.0)?;
    if let Some(delay) = bridge.forward_delay.filter(|delay| !(2..=30).contains(delay)) {
        return Err(at.field("forward_delay").is(Problem::OutOfRange(delay, 2, 30)));
    }
    Ok(bridge)
}
