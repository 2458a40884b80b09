//! Gateways and routes of one entry, each with a router that its addresses reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::addresses::{self, Addresses, entry};
use super::spec;
use crate::cloudinit::check;
use crate::cloudinit::error::{At, Error, Problem, Shown};

/// More than that belongs into a routing daemon.
pub(super) const MOST_ROUTES: usize = 64;

/// The default routes of one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Gateways {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Gateways {
    pub(super) fn read(at: &At, list: &[String], own: &Addresses) -> Result<Self, Error> {
        check::at_most(at, list.len(), 2)?;
        let mut found = Self::default();
        for (index, text) in list.iter().enumerate() {
            let at = entry(at, list, index);
            let gateway = addresses::router(&at, text)?;
            own.reaches(&at, gateway, text)?;
            let (second, family) = match gateway {
                IpAddr::V4(v4) => (found.v4.replace(v4).is_some(), "IPv4"),
                IpAddr::V6(v6) => (found.v6.replace(v6).is_some(), "IPv6"),
            };
            if second {
                return Err(at.is(Problem::SecondGateway(family)));
            }
        }
        Ok(found)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// One checked route.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) at: At,
    pub(super) to: IpNet,
    pub(super) via: IpAddr,
    pub(super) metric: Option<u32>,
}

impl Route {
    pub(super) fn read(at: At, route: &spec::Route, own: &Addresses) -> Result<Self, Error> {
        let to = destination(&at.field("to"), &route.to)?;
        let field = at.field("via");
        let via = addresses::router(&field, &route.via)?;
        if via.is_ipv4() != to.addr().is_ipv4() {
            return Err(field.is(Problem::OtherFamily(Shown::new(&route.via), Shown::new(&route.to))));
        }
        // What DHCP gives is not known here.
        if !own.by_dhcp(via) {
            own.reaches(&field, via, &route.via)?;
        }
        if route.metric == Some(0) {
            return Err(at.field("metric").is(Problem::OutOfRange(0, 1, u32::MAX)));
        }
        Ok(Self { at, to, via, metric: route.metric })
    }
}

/// A network that a route may lead to. `default` is netplan's own word for the default route, and cloud-init 22.4 loses the prefix of `::/0`, so there is one way of
/// writing it: `gateway`.
fn destination(at: &At, text: &str) -> Result<IpNet, Error> {
    if text.trim().eq_ignore_ascii_case("default") {
        return Err(at.is(Problem::DefaultRoute(Shown::new(text))));
    }
    let net = addresses::subnet(text).ok_or_else(|| at.is(Problem::Subnet(Shown::new(text))))?;
    if net.prefix_len() == 0 {
        return Err(at.is(Problem::DefaultRoute(Shown::new(text))));
    }
    let unusable = |why| Err(at.is(Problem::UnusableRoute(Shown::new(text), why)));
    if net.addr() != net.network() {
        return Err(at.is(Problem::HostBits(Shown::new(text), net.trunc().to_string())));
    }
    if let Some(why) = addresses::unusable_host(net.addr()) {
        return unusable(why);
    }
    if addresses::is_link_local(net.addr()) {
        return unusable("link-local addresses are never behind a router");
    }
    Ok(net)
}
