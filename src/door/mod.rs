//! The one door: every operation passes it, and nothing reaches a host in any other way.
//!
//! [`Door::pass`] takes the steps in one order: arguments → literal names against the three tables (nothing is sent yet) → deadline
//! and quota → resolve each name to an object, once, and check the bound object → for a change that is needed: write the intent,
//! act, write the outcome. A client's methods take [`crate::esxi::checked::Checked`] objects, and only this room makes them.
//!
//! It knows operations by the trait [`operation::Operation`]; the declarations are in `ops/`, above.

mod acting;
mod arguments;
pub mod bench;
pub mod bind;
pub mod catalog;
pub mod datastores;
pub mod file;
pub mod grammar;
mod hosted;
pub mod journal;
pub mod leaving;
pub mod ledger;
mod literals;
pub mod many;
pub mod modes;
mod noting;
pub mod object;
pub mod operation;
pub mod part;
pub mod pass;
pub mod policy;
pub mod record;
pub mod repository;
pub mod secret;
pub mod snapshots;
pub mod table;
mod telling;
pub mod vocabulary;
mod web;

pub use acting::Pass;
pub use arguments::read as read_arguments;
pub use ledger::Ledger;
pub use pass::{Door, Grant, Hosts};
