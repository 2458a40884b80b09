//! The simulator under real clients (govc, pyVmomi), and its semantics over raw SOAP.

mod appliances;
mod client;
mod command_line;
mod faults;
mod files;
mod govc;
mod govc_host;
mod hostile;
mod linked;
mod machines;
mod properties;
mod pyvmomi;
mod qemu;
mod sessions;
mod snapshots;
mod started;
mod state;
