//! Name servers and search domains of one entry.

use std::net::IpAddr;

use super::addresses::{self, Addresses, entry};
use crate::cloudinit::check;
use crate::cloudinit::error::{At, Error, Problem, Shown};

/// glibc's limits (resolv.conf(5)), which hold for all entries together: servers beyond the third are never asked, and cloud-init leaves them out of resolv.conf.
pub(super) const MOST_SERVERS: usize = 3;
pub(super) const MOST_DOMAINS: usize = 6;
pub(super) const LONGEST_DOMAINS: usize = 256;

/// The servers. Each is of a family that the entry has: cloud-init newer than 22.4 writes no others.
pub(super) fn servers(at: &At, list: &[String], own: &Addresses) -> Result<Vec<IpAddr>, Error> {
    check::at_most(at, list.len(), MOST_SERVERS)?;
    let mut servers = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        let at = entry(at, list, index);
        let server = addresses::ip(&at, text)?;
        // A name server on the machine itself is common, so loopback is taken.
        if let Some(why) = addresses::unusable_host(server).filter(|_| !server.is_loopback()) {
            return Err(at.is(Problem::UnusableAddress(Shown::new(text), why)));
        }
        if servers.contains(&server) {
            return Err(at.is(Problem::Twice(Shown::new(text))));
        }
        if !own.has_family_of(server) {
            let family = if server.is_ipv6() { "IPv6" } else { "IPv4" };
            return Err(at.is(Problem::ServerOfOtherFamily(Shown::new(text), family)));
        }
        servers.push(server);
    }
    Ok(servers)
}

/// The domains. Without a server they are an invalid command to every renderer but netplan.
pub(super) fn search(at: &At, list: &[String], servers: &[IpAddr]) -> Result<Vec<String>, Error> {
    check::at_most(at, list.len(), MOST_DOMAINS)?;
    for (index, name) in list.iter().enumerate() {
        check::domain(&entry(at, list, index), name)?;
    }
    check::distinct(at, list.iter().map(String::as_str))?;
    if servers.is_empty() && !list.is_empty() {
        return Err(at.is(Problem::SearchWithoutDns));
    }
    Ok(list.to_vec())
}
