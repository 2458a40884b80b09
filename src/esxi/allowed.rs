//! Whether a host's name leads to an address that is allowed, before anything else is done with it.

use crate::error::Fault;
use crate::web::{Allowed, keep};

/// Resolves a host's name once and refuses it where no address of it is allowed, so that the refusal keeps its own kind.
///
/// Faults: those of `allowed`, `esxi.unreachable`.
pub async fn check_name(host: &str, name: &str, allowed: &Allowed) -> Result<(), Fault> {
    let found = tokio::net::lookup_host((name, 0))
        .await
        .map_err(|error| Fault::from(super::Error::Unreachable { host: host.to_owned(), reason: error.to_string() }))?;
    keep(found, allowed).map(drop)
}
