//! The objects that are checked: what the door binds a name to.
//!
//! Plain values. Only [`lookup`](super::lookup) makes them, only the door calls it, and only a
//! [`Checked`](super::checked::Checked) one is of use with a client.

use super::moref::MoRef;

/// A virtual machine's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    pub moref: MoRef,
    pub name: String,
    /// Unique, unlike the name; empty where the host gives none (an inaccessible machine).
    pub instance_uuid: String,
    /// The path of its configuration, such as `[datastore1] web-1/web-1.vmx`.
    pub path: String,
    /// The names of all datastores that it has files on.
    pub datastores: Vec<String>,
}

/// A datastore of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    pub moref: MoRef,
    pub name: String,
}

/// A network (a port group) of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub moref: MoRef,
    pub name: String,
}

/// The host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostObject {
    /// The root folder, under which everything lies.
    pub moref: MoRef,
    /// The host's name in the configuration.
    pub name: String,
}

/// The name of a machine that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVm {
    pub name: String,
}
