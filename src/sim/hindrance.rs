//! What stands in the way of changes on a host: the free licence, an account that may not do everything, lockdown, a vCenter above it.
//!
//! Each is shown where a host shows it, and the first two refuse: the free licence every change (`RestrictedVersion`), a privilege that is
//! lacking what needs it (`NoPermission`), before anything is begun. Lockdown and a vCenter refuse nothing here: the one account counts as
//! an exception of the lockdown, and a vCenter only undoes later. What reads is never refused.

use super::fault::VimFault;
use super::value::{Data, Ref};

/// What stands in the way. Default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hindrances {
    /// The licence is the free one.
    pub free_licence: bool,
    /// The host is in (normal) lockdown mode.
    pub lockdown: bool,
    /// The address of the vCenter that manages the host.
    pub managed_by: Option<String>,
    /// The privileges that the account does not have, such as `VirtualMachine.Interact.PowerOn`; all others it has.
    pub lacks: Vec<String>,
}

/// The number of the role that an account has which lacks something.
pub const LIMITED: i32 = 10;

/// What the methods of machines, disks and files take; a method that is not here takes nothing.
const TAKES: &[(&str, &str)] = &[
    ("AddPortGroup", "Host.Config.Network"),
    ("ConsolidateVMDisks_Task", "VirtualMachine.State.RemoveSnapshot"),
    ("CopyDatastoreFile_Task", "Datastore.FileManagement"),
    ("CopyVirtualDisk_Task", "Datastore.FileManagement"),
    ("CreateNasDatastore", "Host.Config.Storage"),
    ("CreateSnapshot_Task", "VirtualMachine.State.CreateSnapshot"),
    ("CreateVM_Task", "VirtualMachine.Inventory.Create"),
    ("CreateVirtualDisk_Task", "Datastore.FileManagement"),
    ("DeleteDatastoreFile_Task", "Datastore.FileManagement"),
    ("DeleteVirtualDisk_Task", "Datastore.FileManagement"),
    ("Destroy_Task", "VirtualMachine.Inventory.Delete"),
    ("ExportVm", "VApp.Export"),
    ("ExtendVirtualDisk_Task", "Datastore.FileManagement"),
    ("ImportVApp", "VApp.Import"),
    ("MakeDirectory", "Datastore.FileManagement"),
    ("MoveDatastoreFile_Task", "Datastore.FileManagement"),
    ("PowerOffVM_Task", "VirtualMachine.Interact.PowerOff"),
    ("PowerOnVM_Task", "VirtualMachine.Interact.PowerOn"),
    ("ReconfigVM_Task", "VirtualMachine.Config.Settings"),
    ("RegisterVM_Task", "VirtualMachine.Inventory.Register"),
    ("RemoveAllSnapshots_Task", "VirtualMachine.State.RemoveSnapshot"),
    ("RemovePortGroup", "Host.Config.Network"),
    ("RemoveSnapshot_Task", "VirtualMachine.State.RemoveSnapshot"),
    ("Rename_Task", "VirtualMachine.Config.Rename"),
    ("RevertToSnapshot_Task", "VirtualMachine.State.RevertToSnapshot"),
    ("UnregisterVM", "VirtualMachine.Inventory.Unregister"),
];

/// Privileges that no method above takes, and that a role lists all the same.
const OTHERS: &[&str] = &[
    "Datastore.AllocateSpace",
    "Network.Assign",
    "Resource.AssignVMToPool",
    "System.Anonymous",
    "System.Read",
    "System.View",
    "VirtualMachine.Config.AddNewDisk",
    "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.AdvancedConfig",
];

/// Types of objects whose methods change something, unless they are named after a question.
const CHANGED: &[&str] = &[
    "Datastore",
    "FileManager",
    "Folder",
    "ResourcePool",
    "VirtualDiskManager",
    "VirtualMachine",
    "VirtualMachineSnapshot",
];
const QUESTIONS: &[&str] = &["Acquire", "Find", "Has", "List", "Query", "Refresh", "Retrieve", "Fetch"];

impl Hindrances {
    /// Whether a method may run. Faults: `RestrictedVersion`, `NoPermission`.
    pub fn check(&self, this: &Ref, method: &str) -> Result<(), VimFault> {
        let changes =
            CHANGED.contains(&this.kind) || (this.kind.starts_with("Host") && this.kind != "HostDatastoreBrowser");
        if self.free_licence && changes && !QUESTIONS.iter().any(|word| method.starts_with(word)) {
            let message = "Current license or ESXi version prohibits execution of the requested operation.";
            return Err(VimFault::new("RestrictedVersion", message));
        }
        match TAKES.iter().find(|(own, _)| *own == method) {
            Some((_, privilege)) if !self.grants(privilege) => {
                Err(VimFault::new("NoPermission", "Permission to perform this operation was denied.")
                    .with("object", this)
                    .with("privilegeId", *privilege))
            }
            _ => Ok(()),
        }
    }

    /// Whether the account has a privilege.
    pub fn grants(&self, privilege: &str) -> bool {
        !self.lacks.iter().any(|own| own == privilege)
    }

    /// The number of the account's role: the administrator's, or one that lacks something.
    pub fn role(&self) -> i32 {
        if self.lacks.is_empty() { -1 } else { LIMITED }
    }

    /// That other role, where there is one.
    pub fn limited(&self) -> Option<Data> {
        let mut held: Vec<&'static str> =
            TAKES.iter().map(|(_, privilege)| *privilege).chain(OTHERS.iter().copied()).collect();
        held.sort_unstable();
        held.dedup();
        held.retain(|privilege| self.grants(privilege));
        let info = Data::new("Description")
            .with("label", "Limited")
            .with("summary", "What the account of the simulator may do");
        let role = Data::new("AuthorizationRole").with("roleId", LIMITED).with("system", false).with("name", "Limited");
        (!self.lacks.is_empty()).then(|| role.with("info", info).with("privilege", held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::schema::schema;

    #[test]
    fn every_method_that_takes_a_privilege_is_one_of_the_api() {
        for (method, _) in TAKES {
            assert!(schema().knows_method(method), "{method}");
        }
        for kind in CHANGED {
            assert!(schema().is_a(kind, "ManagedObject"), "{kind}");
        }
    }

    #[test]
    fn a_free_licence_refuses_what_changes_and_answers_what_is_asked() {
        let free = Hindrances { free_licence: true, ..Hindrances::default() };
        let vm = Ref::fixed("VirtualMachine", "1");
        for (this, method, passes) in [
            (&vm, "PowerOnVM_Task", false),
            (&vm, "QueryChangedDiskAreas", true),
            (&Ref::fixed("HostNetworkSystem", "n"), "AddPortGroup", false),
            (&Ref::fixed("HostDatastoreBrowser", "b"), "SearchDatastore_Task", true),
            (&Ref::fixed("LicenseManager", "l"), "UpdateLicense", true),
            (&Ref::fixed("PropertyCollector", "p"), "CreateFilter", true),
        ] {
            assert_eq!(free.check(this, method).is_ok(), passes, "{method}");
        }
    }
}
