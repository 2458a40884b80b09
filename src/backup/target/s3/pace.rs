//! How fast a server may be asked: requests and bytes in a second, shared by all that a target does at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So much may come at once after a pause.
const BURST: Duration = Duration::from_millis(250);

/// A flow of so many units in a second.
#[derive(Debug)]
struct Flow {
    per_second: f64,
    /// When what was let through so far is used up at that rate.
    until: Mutex<Instant>,
}

impl Flow {
    fn new(per_second: f64) -> Self {
        Self { per_second, until: Mutex::new(Instant::now()) }
    }

    /// Books some units, and returns when they may go.
    fn book(&self, units: f64) -> Instant {
        self.book_at(Instant::now(), units)
    }

    fn book_at(&self, now: Instant, units: f64) -> Instant {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*until).max(now.checked_sub(BURST).unwrap_or(now));
        *until = start + Duration::from_secs_f64((units / self.per_second).min(3600.0));
        start
    }
}

/// The limits of one target.
#[derive(Debug)]
pub struct Pace {
    requests: Option<Flow>,
    bytes: Option<Flow>,
    /// The largest piece of a body that is sent at once.
    piece: usize,
}

impl Pace {
    pub fn new(requests_per_second: Option<u32>, bytes_per_second: Option<u64>) -> Self {
        let bytes = bytes_per_second.map(|bytes| bytes.max(1));
        Self {
            requests: requests_per_second.map(|requests| Flow::new(f64::from(requests.max(1)))),
            bytes: bytes.map(|bytes| Flow::new(bytes as f64)),
            // Not so large that one piece waits for seconds.
            piece: bytes
                .map_or(256 << 10, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX).clamp(4 << 10, 256 << 10)),
        }
    }

    /// Waits until one more request may go, and until the bytes that were booked before have had their time.
    pub async fn request(&self) {
        if let Some(flow) = &self.requests {
            tokio::time::sleep_until(flow.book(1.0)).await;
        }
        self.bytes(0).await;
    }

    /// Waits until so many more bytes may go.
    pub async fn bytes(&self, count: u64) {
        if let Some(flow) = &self.bytes {
            tokio::time::sleep_until(flow.book(count as f64)).await;
        }
    }

    /// Books bytes that come by themselves; whoever asks next waits for them.
    pub fn came(&self, count: u64) {
        if let Some(flow) = &self.bytes {
            flow.book(count as f64);
        }
    }

    pub fn piece(&self) -> usize {
        self.piece
    }

    /// The least bytes in a second that a line must carry, where it may carry `usual`: a share of what all requests together may.
    pub fn floor(&self, usual: u64) -> u64 {
        self.bytes.as_ref().map_or(usual, |flow| usual.min((flow.per_second / 64.0) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_over_time_and_lets_a_burst_through() {
        let flow = Flow::new(10.0);
        let began = Instant::now() + Duration::from_secs(10);
        let last = (0..30).map(|_| flow.book_at(began, 1.0)).last().unwrap();
        let waited = last.saturating_duration_since(began).as_secs_f64();
        assert!((2.5..=3.0).contains(&waited), "{waited}");
        let after_a_pause = began + Duration::from_secs(60);
        assert!(flow.book_at(after_a_pause, 1.0) <= after_a_pause);
        // A rate that is next to nothing ends in no overflow.
        Flow::new(1e-9).book_at(began, 1e18);
    }

    #[test]
    fn a_slow_line_gets_small_pieces() {
        assert_eq!(Pace::new(None, Some(1)).piece(), 4 << 10);
        assert_eq!(Pace::new(None, Some(100_000)).piece(), 25_000);
        assert_eq!(Pace::new(None, None).piece(), 256 << 10);
    }
}
