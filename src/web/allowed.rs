//! Which addresses may be connected to, asked at the moment of connecting.
//!
//! A check of the name beforehand would not do: between it and the connection the name may come to mean another address (DNS
//! rebinding). So the addresses that are connected to are the addresses that were checked.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::Fault;

/// Says whether an address may be connected to.
pub type Allowed = Arc<dyn Fn(IpAddr) -> Result<(), Fault> + Send + Sync>;

/// Resolves names by the operating system and leaves out every address that is not allowed; where none is left, the refusal of
/// the last one is the error.
pub struct Resolver(pub Allowed);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = keep(found, &allowed).map_err(Box::<dyn StdError + Send + Sync>::from)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Those of the addresses that are allowed. Faults: the refusal of the last one, where none is.
pub fn keep(found: impl Iterator<Item = SocketAddr>, allowed: &Allowed) -> Result<Vec<SocketAddr>, Fault> {
    let mut refused = None;
    let mut kept = Vec::new();
    for address in found {
        match allowed(address.ip()) {
            Ok(()) => kept.push(address),
            Err(fault) => refused = Some(fault),
        }
    }
    match refused {
        Some(fault) if kept.is_empty() => Err(fault),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_never_connected_to() {
        let allowed: Allowed =
            Arc::new(|ip| if ip.is_loopback() { Ok(()) } else { Err(Fault::new("door.network", "no")) });
        let addresses = |list: &[&str]| {
            let list: Vec<SocketAddr> = list.iter().map(|address| address.parse().unwrap()).collect();
            keep(list.into_iter(), &allowed)
        };
        assert_eq!(addresses(&["10.0.0.1:0", "127.0.0.1:0"]).unwrap(), ["127.0.0.1:0".parse().unwrap()]);
        assert_eq!(addresses(&["10.0.0.1:0"]).unwrap_err().kind(), "door.network");
        assert!(addresses(&[]).unwrap().is_empty());
    }
}
