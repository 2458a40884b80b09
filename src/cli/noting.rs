//! The record of a command that changes something outside of a run: which hosts there are.
//!
//! Where there is a run, the door records; here a person's own command does, by one note ahead of the change.

use serde_json::Value;

use super::context::Context;
use crate::audit::{Event, Kind};
use crate::config::Config;
use crate::error::Fault;

/// Records that a command is about to change something.
///
/// Faults: `audit.…` where it cannot be recorded; what only takes a host away goes on and says so.
pub fn note(context: &Context, config: &Config, command: &str, object: &str, details: Value) -> Result<(), Fault> {
    let event = Event {
        operation: Some(command.to_owned()),
        objects: vec![object.to_owned()],
        details: Some(details),
        ..Event::new(Kind::Note)
    };
    match super::run::ledger(config)?.note(event) {
        Err(fault) if matches!(command, "host remove" | "host logout") => {
            context.say(&format!("warning: {fault}; the command goes on without a record"))
        }
        noted => noted,
    }
}
