//! The simulator under real clients (govc, pyVmomi), and its semantics over raw SOAP.

mod pyvmomi;
mod started;
