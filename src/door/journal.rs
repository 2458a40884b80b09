//! What a run changed: written before the act as an intent, after it as an outcome.
//!
//! This is the place in the door's order of steps where a durable journal and the audit log stand. What is kept here is the run's own
//! account, from which its summary is printed and from which `@made` is answered.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::operation::Effect;

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is under way.
    Begun,
    Done,
    /// All held already; nothing was sent.
    Unchanged,
    Failed,
    /// The run ended first: whether the host did it is not known.
    Unknown,
}

/// One change, from intent to outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    pub operation: &'static str,
    pub effect: Effect,
    /// The names of the objects that it is about.
    pub objects: Vec<String>,
    pub outcome: Outcome,
}

/// A change that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(usize);

/// A machine that the run made and that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub host: String,
    pub name: String,
}

/// One run's account of its changes.
#[derive(Default)]
pub struct Journal {
    changes: Mutex<Vec<Change>>,
    made: Mutex<HashSet<String>>,
    standing: Mutex<Vec<Made>>,
}

impl Journal {
    /// Writes the intent, before anything is sent.
    pub fn intent(&self, operation: &'static str, effect: Effect, objects: Vec<String>) -> Ticket {
        let mut changes = lock(&self.changes);
        changes.push(Change { operation, effect, objects, outcome: Outcome::Begun });
        Ticket(changes.len() - 1)
    }

    /// Writes how it ended.
    pub fn outcome(&self, ticket: Ticket, outcome: Outcome) {
        if let Some(change) = lock(&self.changes).get_mut(ticket.0) {
            change.outcome = outcome;
        }
    }

    /// Notes that all that a change asked for held already.
    pub fn unchanged(&self, operation: &'static str, effect: Effect, objects: Vec<String>) {
        lock(&self.changes).push(Change { operation, effect, objects, outcome: Outcome::Unchanged });
    }

    /// Notes an object that this run made, by the key of host and managed object.
    pub fn made(&self, key: String) {
        lock(&self.made).insert(key);
    }

    /// Notes that an object is gone, so that another in its place is not taken for it.
    pub fn unmade(&self, key: &str) {
        lock(&self.made).remove(key);
    }

    /// Notes a machine that was made, by its name, for whoever has to remove it.
    pub fn stands(&self, host: &str, name: &str) {
        lock(&self.standing).push(Made { host: host.to_owned(), name: name.to_owned() });
    }

    /// Notes that a machine is gone.
    pub fn fell(&self, host: &str, name: &str) {
        lock(&self.standing).retain(|made| made.host != host || made.name != name);
    }

    /// The machines that this run made and did not remove.
    pub fn standing(&self) -> Vec<Made> {
        lock(&self.standing).clone()
    }

    /// Whether this run made the object.
    pub fn has_made(&self, key: &str) -> bool {
        lock(&self.made).contains(key)
    }

    /// All changes in the order of their intents; what has not ended is [`Outcome::Begun`].
    pub fn changes(&self) -> Vec<Change> {
        lock(&self.changes).clone()
    }

    /// Marks what is still under way as unknown: the run is over.
    pub fn close(&self) {
        for change in lock(&self.changes).iter_mut().filter(|change| change.outcome == Outcome::Begun) {
            change.outcome = Outcome::Unknown;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
