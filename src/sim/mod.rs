//! A simulator of a standalone ESXi host that speaks vim25 over a real socket and refuses what ESXi refuses.
//!
//! [`Server::start`] listens on loopback over TLS. What it serves is in these files, each one idea:
//!
//! ```text
//! server, http, cert        sockets, routes, the certificate
//! soap, schema, encode, decode, value, fault    the wire and its types
//! sessions, dispatch, call  who calls what
//! world, property, collector, updates, view, search, task    the inventory and how it is read and watched
//! vm/, guest/               machines, their devices, and what runs inside them
//! datastore/                files, disks, the browser, /folder
//! service, esx/             facts about the host itself
//! esxcli/                   the host's command line over the API
//! lease/, ovf/              machines that are streamed out and in
//! state                     what outlives the process
//! stage, faults/, control   what a test puts in, looks at, and has go wrong
//! hindrance                 what stands in the way of changes from the start
//! load                      another host's inventory to begin with
//! ```
//!
//! It knows nothing of the client in `esxi/`: the two are held against other implementations, not against each other. The rules it
//! keeps are those of VMware's vSphere Web Services API reference and of ESXi 8.0's behaviour where that differs.

mod call;
mod cert;
mod collector;
mod control;
mod datastore;
mod decode;
mod dispatch;
mod encode;
mod esx;
mod esxcli;
mod fault;
mod faults;
mod guest;
mod hindrance;
mod http;
mod lease;
mod load;
mod ovf;
mod property;
mod schema;
mod search;
mod server;
mod service;
mod sessions;
mod soap;
mod stage;
mod state;
mod task;
mod updates;
mod value;
mod view;
mod vm;
mod world;

pub use faults::{Lie, Rule, Tally, Trouble, read as read_fault};
pub use hindrance::Hindrances;
pub use server::{Options, Server};
pub use stage::{Called, Machine, Stage, Staged};
