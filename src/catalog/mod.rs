//! The catalog: what this user's runs know of backups, machines, hosts, repositories, runs, drills and clones, in one file of redb.
//!
//! Of backups it is a cache: the repositories hold everything, and a catalog that is made from them alone equals the one that was
//! there. What only it holds (which machines and hosts were seen, what probes found,
//! which runs there were) may be lost without harm.
//!
//! Several processes share it in turns (`file`); the tables and their versions are in `tables`, what a row holds in `row`, reading in
//! `query`, writing in `change`. It knows nothing of repositories' files, hosts or scripts: `ops` joins them.

mod change;
mod error;
mod file;
mod query;
mod row;
mod tables;
#[cfg(test)]
mod tests;

pub use change::Seen;
pub use error::{Error, Result};
pub use file::Catalog;
pub use query::{Known, MOST, Page, Wanted};
pub use row::{Backup, Child, Disk, Drill, Fact, Host, Id, Machine, Probe, Repository, Run, State, Sum};
