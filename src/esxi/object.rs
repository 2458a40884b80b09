//! The objects that are checked: what the door binds a name to.
//!
//! Plain values. Only [`lookup`](super::lookup) makes them, only the door calls it, and only a
//! [`Checked`](super::checked::Checked) one is of use with a client.

use super::moref::MoRef;

/// A virtual machine's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    pub moref: MoRef,
    /// What it is called, by tables and in calls: its name; on a vCenter its path where another machine of the datacenter has its name.
    pub name: String,
    /// Unique, unlike the name; empty where the host gives none (an inaccessible machine).
    pub instance_uuid: String,
    /// The path of its configuration, such as `[datastore1] web-1/web-1.vmx`.
    pub path: String,
    /// The names of all datastores that it has files on.
    pub datastores: Vec<String>,
    /// Where it is in a vCenter's inventory; `None` on a standalone host, which has no folders.
    pub place: Option<VmPlace>,
}

/// A machine in a vCenter's inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlace {
    /// The name that the vCenter has for it. Another machine in another folder may have the same one: then both are called by their
    /// paths, such as `/prod/web-1`, and that is what [`Vm::name`] holds.
    pub own_name: String,
    /// Its folder of machines, such as `prod/web`; empty for the datacenter's own, `None` where it lies in none (in a vApp).
    pub folder: Option<String>,
}

impl Vm {
    /// Its name without a path.
    pub fn own_name(&self) -> &str {
        self.place.as_ref().map_or(&self.name, |place| &place.own_name)
    }
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
