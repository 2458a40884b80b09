//! What scripts can call, run as scripts: every example of the reference on the simulator, and the definitions under a type checker.

mod analyze;
mod modules;
mod readers;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod support;
mod usage;
