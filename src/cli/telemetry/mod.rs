//! What a command tells of itself to machines: metrics, log lines, traces. Each is off unless asked for.

mod exposition;
pub mod logs;

pub use exposition::within;
