//! Our halves against programs that are not ours: vcsim answers our client, pyVmomi checks what it sends.

mod asks_on_sim;
mod changes_on_sim;
mod client_on_sim;
mod files_on_sim;
mod lost_on_sim;
mod pyvmomi_requests;
mod scenarios;
mod sim;
mod snapshots_on_sim;
mod typed_faults;
#[path = "../support/vcsim.rs"]
mod vcsim;
mod vcsim_carriers;
mod vcsim_machines;
mod vcsim_session;
mod vcsim_storage;
mod vcsim_vcenter;
