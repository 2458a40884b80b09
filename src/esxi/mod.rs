//! The vim25 client for a standalone ESXi host: sessions, properties, tasks, files, faults.
//!
//! [`Host::connect`] gives a client; [`lookup`] (the door's alone) turns names into objects; everything else takes
//! [`checked::Checked`] ones. The room knows nothing of scripts and of capability tables, and reads no configuration.
//! Specification: vSphere Web Services API 6.5 to 9.1.

mod address;
mod allowed;
pub mod checked;
mod content;
mod error;
mod fault;
mod host;
mod link;
mod lookup;
mod monitor;
mod moref;
mod object;
mod options;
mod places;
mod property;
mod session_file;
mod soap;
mod standing;
mod task;
mod transport;
mod trust;
mod version;
mod vm_list;

pub use allowed::{Allowed, check_name};
pub use content::About;
pub use error::Error;
pub use fault::{Known, VimFault};
pub use host::{Host, Progress, Step, Traffic, silent};
pub use moref::MoRef;
pub use object::{Datastore, HostObject, Network, NewVm, Vm};
pub use options::{Credentials, HostOptions, Login, Observer, Timeouts, Trust};
pub use soap::Method;
pub use standing::Standing;
pub use trust::{Certificate, probe_certificate};
pub use vm_list::{Detail, PowerState, VmRow};
