//! The command line, run as a process: exit codes, streams, files. Each test has a folder of its own and a clean environment.

mod appliance_commands;
mod appliance_urls;
mod audit_commands;
mod audit_runs;
mod audit_unwritable;
mod bad_input_hosts;
mod catalog_commands;
mod check_files;
mod cloudinit_commands;
mod config_command;
mod config_hostile;
mod datastore_commands;
mod datastore_resume;
mod examples;
mod hindrances;
mod host_command;
mod host_inventory;
mod host_probe;
mod host_scripts;
mod host_vcsim;
mod logs;
mod machine_asks;
mod machine_guest;
mod machine_hardware;
mod machine_inventory;
mod machine_power;
mod many_hosts;
mod metrics;
mod policy_commands;
mod repl_pipe;
mod repl_terminal;
mod repository_commands;
mod repository_retention;
mod run_files;
mod run_limits;
mod run_playbooks;
mod run_signals;
mod run_stopped_transfers;
mod run_vcsim;
mod secret_handles;
mod secrets;
mod sim_flags;
mod snapshots;
mod status;
mod support;
#[path = "../support/terminal.rs"]
mod terminal;
mod test_command;
mod traces;
mod typed_faults;
#[path = "../support/vcsim.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod vcsim;
#[path = "../support/web.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod web;
mod workflow_commands;
mod workflow_users;
