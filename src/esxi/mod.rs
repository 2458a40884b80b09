//! The vim25 client for a standalone ESXi host: sessions, properties, tasks, files, faults.
//!
//! [`Host::connect`] gives a client; [`lookup`] (the door's alone) turns names into objects; everything else takes
//! [`checked::Checked`] ones. The room knows nothing of scripts and of capability tables, and reads no configuration.
//! Specification: vSphere Web Services API 6.5 to 9.1.

mod address;
mod allowed;
mod appliance;
mod browse;
pub mod checked;
mod config_spec;
mod content;
mod datastore_files;
mod disks;
mod error;
mod explained;
mod facts;
mod fault;
mod file_path;
mod files;
mod hardware;
mod host;
mod lease;
mod link;
mod linked;
mod lookup;
mod making;
mod monitor;
mod moref;
mod object;
mod options;
mod pieces;
mod places;
mod property;
mod reach;
mod seed;
mod session_file;
mod snapshot;
mod soap;
mod storage;
mod task;
mod task_found;
#[cfg(test)]
mod tests;
mod transfer;
mod transport;
mod trust;
mod version;
mod vm_clone;
mod vm_configure;
mod vm_create;
mod vm_info;
mod vm_inventory;
mod vm_list;
mod vm_power;
mod watch;

pub use allowed::{Allowed, check_name};
pub use appliance::{ImportFile, ImportPlan, OvfFile};
pub use browse::{DiskFile, FileRow, Search};
pub use content::About;
pub use disks::{DiskInfo, Provisioning};
pub use error::Error;
pub use facts::HostFacts;
pub use fault::{Known, VimFault};
pub use file_path::FilePath;
pub use hardware::{Controller, ControllerKind, Disk, Hardware, Nic};
pub use host::{Host, Progress, Step, Traffic, silent};
pub use lease::{Lease, LeaseFile};
pub use link::identified;
pub use moref::MoRef;
pub use object::{Datastore, HostObject, Network, NewVm, Vm};
pub use options::{Credentials, HostOptions, Login, Observer, Timeouts, Trust};
pub use reach::HttpCheck;
pub use snapshot::{Consistency, Snapshot, SnapshotRow, SnapshotSpec};
pub use soap::Method;
pub use storage::{DatastoreRow, NetworkRow};
pub use transfer::{Content, Had, Sink, Transferred};
pub use trust::{Certificate, probe_certificate};
pub use vm_clone::CloneSpec;
pub use vm_configure::Reconfigure;
pub use vm_create::CreateSpec;
pub use vm_info::{Firmware, VmInfo};
pub use vm_list::{Detail, PowerState, VmRow};
