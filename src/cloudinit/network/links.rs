//! How the entries hang together: VLANs and their links, bonds and bridges and their members, and the packet sizes along the way.

use std::collections::{HashMap, HashSet};

use super::interface::{Interface, Kind};
use crate::cloudinit::error::{At, Error, Problem, Shown};

/// What is taken where nothing is said about an MTU: Ethernet's.
const USUAL_MTU: u32 = 1500;

/// Checks what the entries are made of. Their names are different already.
pub(super) fn check(all: &[Interface]) -> Result<(), Error> {
    let links = Links { all, by_name: all.iter().enumerate().map(|(index, one)| (one.name.as_str(), index)).collect() };
    let mut masters = HashMap::new();
    let mut tags = HashSet::new();
    for interface in all {
        for (at, name) in interface.kind.parts(&interface.at) {
            let part = links.get(name).ok_or_else(|| at.is(Problem::UnknownLink(Shown::new(name))))?;
            if let Some(why) = misfit(interface, part) {
                return Err(at.is(Problem::Link(Shown::new(name), why)));
            }
            match &interface.kind {
                Kind::Vlan(vlan) if !tags.insert((name, vlan.id)) => {
                    let tag = vlan.id.to_string();
                    return Err(interface.at.field("vlan").field("id").is(Problem::Twice(Shown::new(&tag))));
                }
                Kind::Vlan(_) | Kind::Card { .. } => {}
                Kind::Bond(_) | Kind::Bridge(_) => {
                    if masters.insert(name, interface).is_some() {
                        return Err(at.is(Problem::Link(Shown::new(name), "it is in another bond or bridge already")));
                    }
                }
            }
        }
    }
    for interface in all {
        for (at, name) in interface.kind.parts(&interface.at) {
            if matches!(interface.kind, Kind::Vlan(_))
                && masters.get(name).is_some_and(|master| matches!(master.kind, Kind::Bond(_)))
            {
                return Err(at.is(Problem::Link(Shown::new(name), "it is in a bond: the VLAN belongs on that")));
            }
        }
    }
    let mut seen = vec![Seen::Not; all.len()];
    for index in 0..all.len() {
        links.no_loop(index, &mut seen)?;
    }
    all.iter().try_for_each(|interface| links.sizes(interface))
}

/// Why `part` cannot be what `of` names as its link or member.
fn misfit(of: &Interface, part: &Interface) -> Option<&'static str> {
    if part.name == of.name {
        return Some("it is this entry itself");
    }
    match (&of.kind, &part.kind) {
        (Kind::Bond(_), Kind::Card { .. }) => None,
        (Kind::Bond(_), _) => Some("only cards can be in a bond"),
        (Kind::Bridge(_), Kind::Bridge(_)) => Some("a bridge cannot be in a bridge"),
        (Kind::Vlan(_), Kind::Vlan(_)) => Some("a VLAN cannot carry a VLAN"),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Not,
    OnTheWay,
    Done,
}

struct Links<'a> {
    all: &'a [Interface],
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Links<'a> {
    fn get(&self, name: &str) -> Option<&'a Interface> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// A loop can only go through bridges and VLANs on them, and there are at most as many steps as entries.
    fn no_loop(&self, index: usize, seen: &mut [Seen]) -> Result<(), Error> {
        let (Some(interface), Some(state)) = (self.all.get(index), seen.get_mut(index)) else { return Ok(()) };
        *state = Seen::OnTheWay;
        for (at, name) in interface.kind.parts(&interface.at) {
            let Some(part) = self.by_name.get(name) else { continue };
            match seen.get(*part) {
                Some(Seen::OnTheWay) => {
                    return Err(at.is(Problem::Link(Shown::new(name), "it leads back to this entry")));
                }
                Some(Seen::Not) => self.no_loop(*part, seen)?,
                _ => {}
            }
        }
        if let Some(state) = seen.get_mut(index) {
            *state = Seen::Done;
        }
        Ok(())
    }

    /// The largest packet of an entry, as far as the document says.
    fn mtu(&self, interface: &Interface) -> u32 {
        if let Some(mtu) = interface.mtu {
            return mtu;
        }
        match &interface.kind {
            Kind::Card { .. } | Kind::Bond(_) => USUAL_MTU,
            Kind::Vlan(_) | Kind::Bridge(_) => self.below(interface).map(|(mtu, _)| mtu).unwrap_or(USUAL_MTU),
        }
    }

    /// The smallest MTU of what an entry is made of, and whose it is.
    fn below(&self, interface: &Interface) -> Option<(u32, &'a str)> {
        let parts = interface.kind.parts(&interface.at).into_iter().filter_map(|(_, name)| self.get(name));
        parts.map(|part| (self.mtu(part), part.name.as_str())).min_by_key(|(mtu, _)| *mtu)
    }

    fn sizes(&self, interface: &Interface) -> Result<(), Error> {
        let field = |at: &At| at.field("mtu");
        match &interface.kind {
            Kind::Card { .. } => {}
            // The kernel gives the members of a bond its own.
            Kind::Bond(bond) => {
                let own = self.mtu(interface);
                for member in bond.members.0.iter().filter_map(|name| self.get(name)) {
                    if let Some(mtu) = member.mtu.filter(|mtu| *mtu != own) {
                        return Err(field(&member.at).is(Problem::MtuOfBond(mtu, Shown::new(&interface.name), own)));
                    }
                }
            }
            Kind::Vlan(_) | Kind::Bridge(_) => {
                if let (Some(mtu), Some((most, of))) = (interface.mtu, self.below(interface))
                    && mtu > most
                {
                    return Err(field(&interface.at).is(Problem::MtuBeyond(mtu, Shown::new(of), most)));
                }
            }
        }
        let mtu = self.mtu(interface);
        if interface.addresses.has_v6() && mtu < 1280 {
            return Err(field(&interface.at).is(Problem::OutOfRange(mtu, 1280, 9000)));
        }
        Ok(())
    }
}
