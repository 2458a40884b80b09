//! When a connection was used last, and what befell it: the part of the pool that only counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::soap::Method;

/// What is known of a connection's life.
pub(super) struct Pulse {
    opened: Instant,
    /// Milliseconds after its opening when the host was heard last.
    last: AtomicU64,
    checks: AtomicU64,
    retries: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), last: AtomicU64::new(0), checks: AtomicU64::new(0), retries: AtomicU64::new(0) }
    }

    /// Notes that a request has ended.
    pub(super) fn beat(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    pub(super) fn checked(&self) {
        self.checks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the host should be looked at before it is sent this: a change, after a rest of that length.
    pub(super) fn is_due(&self, method: Method, rest: Duration) -> bool {
        let waits = matches!(method, Method::WaitForUpdatesEx | Method::ContinueRetrievePropertiesEx);
        !method.repeatable() && !waits && self.idle() >= rest
    }

    /// Since the host was heard last.
    pub(super) fn idle(&self) -> Duration {
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Since the connection was opened; how often it was looked at; how often something was sent once more.
    pub(super) fn told(&self) -> (Duration, u64, u64) {
        (self.opened.elapsed(), self.checks.load(Ordering::Relaxed), self.retries.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_after_a_rest_is_preceded_by_a_look() {
        let rest = Duration::from_secs(20);
        let fresh = Pulse::new();
        assert!(!fresh.is_due(Method::PowerOnVm, rest));
        let Some(opened) = Instant::now().checked_sub(rest * 2) else { return };
        let rested = Pulse { opened, ..Pulse::new() };
        assert!(rested.is_due(Method::PowerOnVm, rest));
        assert!(!rested.is_due(Method::RetrievePropertiesEx, rest) && !rested.is_due(Method::WaitForUpdatesEx, rest));
        rested.beat();
        assert!(!rested.is_due(Method::PowerOnVm, rest));
    }
}
