//! ceso: ESXi Commander as an embedded Lua scripting host.
//!
//! The rooms, and the one rule of imports: down only.
//!
//! ```text
//! main → cli, serve → run → ops → door → esxi, cloudinit, audit, backup, catalog → config → metrics, redact → error, inventory, ova, units, vmdk, web, wire, xml
//! ```
//!
//! `script` is what runs inside the worker process: it imports the declarations in `ops` and `wire`, never a client. `sim` is the
//! simulator; only `cli` starts it. The engines (esxi, cloudinit, …) know nothing of scripts and do not import each other.

pub mod audit;
pub mod backup;
pub mod catalog;
pub mod cli;
pub mod cloudinit;
pub mod config;
pub mod door;
pub mod error;
pub mod esxi;
pub mod inventory;
pub mod metrics;
pub mod ops;
pub mod ova;
pub mod redact;
pub mod run;
pub mod script;
pub mod sim;
pub mod units;
pub mod vmdk;
pub mod web;
pub mod wire;
pub mod xml;
