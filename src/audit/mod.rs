//! The audit log on disk: what happened, in an order and with a content that cannot be changed unseen.
//!
//! Knows files, hashes, keys and witnesses; knows nothing of doors, runs or scripts: whoever writes an [`Event`] says what it means.

mod canonical;
mod disk;
mod error;
mod event;
mod key;
mod line;
mod log;
mod medium;
mod own;
mod series;
mod state;
mod tail;
mod verify;

pub use self::error::Error;
pub use self::event::{Event, FaultNote, Kind};
pub use self::key::PublicKey;
pub use self::line::{Hash, Receipt};
pub use self::log::{Log, Options, Sync};
pub use self::state::State;
pub use self::verify::{Pin, Problem, Report, Verify};

#[cfg(test)]
mod tests;
