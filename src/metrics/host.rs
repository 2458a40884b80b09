//! What is counted of a host, under its configured name and no other.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{METRICS, Metrics, add, observe, shift};

/// How many hosts have a label of their own; those that come later share `other`. An operator of more sees to it that each process
/// drives fewer.
const MOST: usize = 200;

static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The label of one host: its configured name, where that is one.
#[derive(Debug, Clone)]
pub struct HostLabel(String);

impl HostLabel {
    /// The label of a configured name. A name that no configuration accepts (quotes, line breaks, a megabyte) is `other`.
    pub fn new(name: &str) -> Self {
        let fits = (1..=64).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if !fits {
            return Self("other".to_owned());
        }
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(name) {
            if known.len() >= MOST {
                return Self("other".to_owned());
            }
            known.insert(name.to_owned());
        }
        Self(name.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Counts a connection that is opened, with a session that was `kept` by an earlier command or not.
    pub fn opened(&self, kept: bool) -> Connection {
        if let Some(Metrics { families, .. }) = METRICS.get() {
            add(&families.connections, &[&self.0, if kept { "kept" } else { "new" }], 1);
            shift(&families.connected, &[&self.0], 1.0);
        }
        Connection(self.clone())
    }

    /// Counts a login: `done`, `refused` (the password is wrong) or `failed`.
    pub fn login(&self, outcome: &'static str) {
        let Some(Metrics { families, .. }) = METRICS.get() else { return };
        add(&families.logins, &[&self.0, outcome], 1);
    }

    /// Counts a request that is sent once more: `lost` (its answer), `session` (it had ended).
    pub fn retry(&self, reason: &'static str) {
        let Some(Metrics { families, .. }) = METRICS.get() else { return };
        add(&families.retries, &[&self.0, reason], 1);
    }

    /// Counts a request by the method of vim25, and how it ended: `answered` or `failed`.
    pub fn request(&self, method: &'static str, outcome: &'static str, took: Duration) {
        let Some(Metrics { families, .. }) = METRICS.get() else { return };
        add(&families.requests, &[&self.0, method, outcome], 1);
        observe(&families.request_duration, &[&self.0, method], took);
    }

    /// Counts bytes of bodies.
    pub fn bytes(&self, sent: u64, received: u64) {
        let Some(Metrics { families, .. }) = METRICS.get() else { return };
        if sent > 0 {
            add(&families.sent, &[&self.0], sent);
        }
        if received > 0 {
            add(&families.received, &[&self.0], received);
        }
    }

    /// Counts a task that was waited for: `success`, `error`, `abandoned` where the wait ended first.
    pub fn task(&self, outcome: &'static str, began: Instant) {
        let Some(Metrics { families, .. }) = METRICS.get() else { return };
        add(&families.tasks, &[&self.0, outcome], 1);
        observe(&families.task_duration, &[&self.0], began.elapsed());
    }
}

/// An open connection; dropping it counts it as closed.
#[derive(Debug)]
pub struct Connection(HostLabel);

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(Metrics { families, .. }) = METRICS.get() {
            shift(&families.connected, &[self.0.as_str()], -1.0);
        }
    }
}
