//! What operations tell of a machine: the fields of its handle, and its details.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::door::Pass;
use crate::door::object::{Connected, Given, Object, kind};
use crate::error::Fault;
use crate::esxi;
use crate::units::Bytes;

/// What a machine's handle tells: a snapshot of the moment when it was given out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VmFields {
    /// `on`, `off` or `suspended`.
    pub power: String,
    /// The guest's address: IPv4 before IPv6, never a link-local one; nil where it reports none.
    pub ip: Option<String>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    pub memory: Option<Bytes>,
}

/// Gives a handle for a row of a list.
pub fn give_row(pass: &Pass<'_>, host: &Arc<Connected>, row: esxi::VmRow) -> Result<Given<kind::Vm>, Fault> {
    let name = row.vm.name.clone();
    let fields = VmFields { power: row.power.as_str().to_owned(), ip: row.address, cpus: row.cpus, memory: row.memory };
    pass.give(Object::Vm(host.clone(), row.vm), &name, &fields)
}
