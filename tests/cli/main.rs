//! The command line, run as a process: exit codes, streams, files. Each test has a folder of its own and a clean environment.

mod config_command;
mod config_hostile;
mod host_command;
mod host_vcsim;
mod repl_pipe;
mod repl_terminal;
mod support;
#[path = "../support/terminal.rs"]
mod terminal;
#[path = "../support/vcsim.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod vcsim;
