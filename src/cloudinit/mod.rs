//! Cloud-init documents: typed input, checked, as user-data, meta-data and network configuration, and how a guest receives them.
//!
//! ```text
//! Spec ── fill ──▶ Spec ── build ──▶ Document ── guestinfo(Target) ──▶ GuestInfo ── entries ──▶ the machine's extra configuration
//! Reip ───────────── reip ───┘   └── iso(Target) ──▶ Iso ── bytes ──▶ an image in the machine's drive
//! extra configuration ── read ──▶ Seen
//! ```
//!
//! A [`Spec`] is what a playbook writes. [`build`] checks every field and answers with a [`Document`], or with a fault that names the
//! field. A machine's MAC addresses and UUID are known only once it exists, so a document is made without them and
//! [`Document::render`] puts them in. Nothing here talks to a host, and nothing here writes YAML by hand (see `yaml.rs`).
//!
//! Written against cloud-init 22.4 (Debian 12) and the newest release (26.2): their `DataSourceVMware`, their schemas, and network configuration version 2 as their
//! renderers for eni, networkd, NetworkManager, sysconfig and netplan take it.

mod check;
mod document;
mod encode;
mod error;
mod forms;
mod host_key;
mod iso;
mod mac;
mod machine;
mod meta_data;
mod network;
mod outline;
mod parts;
mod read;
mod reip;
mod secrets;
mod spec;
mod ssh_key;
mod storage;
mod text;
mod user_data;
mod warning;
mod windows;
mod yaml;

pub use document::{Document, Target};
pub use encode::{GuestInfo, decode};
pub use forms::{Command, Nics, Package, Packages, Strings, Sudo};
pub use iso::Iso;
pub use mac::MacAddress;
pub use machine::{HostKey, Keyboard, Ntp, Ssh};
pub use network::spec::{Bond, BondMode, Bridge, HashPolicy, LacpRate, Nic, Route, Vlan};
pub use parts::Part;
pub use read::{Found, Seen, State, read};
pub use reip::Reip;
pub use spec::{Dialect, File, Spec, User};
pub use storage::{Disk, Filesystem, Grow, Mount, Partition, Swap, Table};
pub use text::{Purpose, SecretHandle, Slot, Text};
pub use warning::Warning;

use crate::error::Fault;

/// Checks a [`Spec`] and makes a [`Document`] of it.
///
/// Deterministic: the same input gives the same bytes, so that a document can be compared with what a machine already has.
///
/// Errors: `cloudinit.invalid` with the path of the first field that cannot be taken (`users[1].ssh_keys[2]: …`; lists count from 1,
/// as in Lua), `cloudinit.too_large`.
pub fn build(spec: &Spec) -> Result<Document, Fault> {
    Ok(document::build(spec)?)
}

/// Checks a [`Reip`] and makes the [`Document`] that gives a running machine a new network and changes nothing else.
///
/// The guest takes it at its next boot. Errors: `cloudinit.invalid` with the path of the first field that cannot be taken, or because the
/// guest is a Windows.
pub fn reip(reip: &Reip) -> Result<Document, Fault> {
    Ok(document::reip(reip)?)
}
