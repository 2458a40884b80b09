//! Counters and their exposition in Prometheus's form: declared once, counted where things happen, off unless asked for.
//!
//! A bottom room: it knows no door, no host and no script. Until [`enable`] is called, counting costs one load of a pointer. Labels
//! are `&'static str`, so that no text of a user's can become one; the one exception is a host's configured name, which comes as a
//! [`HostLabel`], of which there is a bounded number.

mod families;
mod host;
pub mod page;
mod process;
mod server;
mod snapshot;
pub mod textfile;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, Registry, TextEncoder};

use crate::error::Fault;
use families::Families;

pub use families::{ALL, Family, Kind};
pub use host::{Connection, HostLabel};
pub use server::Server;

struct Metrics {
    registry: Registry,
    families: Families,
}

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// Begins to count. Faults: `metrics.broken`, a defect of ceso.
pub fn enable() -> Result<(), Fault> {
    if METRICS.get().is_some() {
        return Ok(());
    }
    let registry = Registry::new();
    let families = Families::open(&registry).map_err(broken)?;
    set(&families.build, &[env!("CARGO_PKG_VERSION")], 1.0);
    // What is rare must be seen to grow from 0 when it happens.
    for counter in [&families.audit_failures, &families.worker_spawns] {
        add(counter, &[], 0);
    }
    for reason in WORKER_ENDS {
        add(&families.worker_ends, &[reason], 0);
    }
    families.worker_cpu.get_metric_with_label_values::<&str>(&[]).map_err(broken)?;
    let _another_was_first = METRICS.set(Metrics { registry, families });
    Ok(())
}

/// Whether anything is counted.
pub fn is_enabled() -> bool {
    METRICS.get().is_some()
}

fn broken(error: prometheus::Error) -> Fault {
    Fault::new("metrics.broken", format!("the metrics cannot be told: {error}"))
        .hint("this is a defect of ceso: please report it")
        .cause(error)
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed,
    /// A capability table did not allow what it tried.
    Denied,
    /// It came to a limit.
    Limited,
    /// Somebody stopped it.
    Cancelled,
}

impl Outcome {
    pub const ALL: [Outcome; 5] =
        [Outcome::Done, Outcome::Failed, Outcome::Denied, Outcome::Limited, Outcome::Cancelled];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Denied => "denied",
            Outcome::Limited => "limited",
            Outcome::Cancelled => "cancelled",
        }
    }

    /// The outcome of a run that ends with a fault of this kind.
    pub fn of_fault(kind: &str) -> Outcome {
        match kind.split('.').next().unwrap_or_default() {
            "door" => Outcome::Denied,
            "limit" => Outcome::Limited,
            _ if kind == "script.cancelled" => Outcome::Cancelled,
            _ => Outcome::Failed,
        }
    }
}

/// What is known of an operation before it acts; all of it comes from its declaration and the run's mode.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    pub effect: &'static str,
    pub mode: &'static str,
}

/// Counts an operation that has ended, however, in the words of the door; `took` where it is known.
pub fn operation(of: Operation, outcome: &'static str, took: Option<Duration>) {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    let labels = [of.name, of.effect, of.mode, outcome];
    add(&families.operations, &labels, 1);
    if let Some(took) = took {
        observe(&families.operation_duration, &labels, took);
    }
    if outcome == "denied" {
        add(&families.denials, &[of.name, of.mode], 1);
    }
}

/// A limit that a run has come to, by the name of its setting: `run_time`. Names that no limit has are counted as `other`.
pub fn limit(kind: &str, mode: &'static str) {
    const LIMITS: [&str; 8] = ["run_time", "cpu_time", "memory", "source", "output", "calls", "calls_at_once", "quota"];
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    let name = kind.strip_prefix("limit.").unwrap_or(kind);
    let name = LIMITS.into_iter().find(|limit| *limit == name).unwrap_or("other");
    add(&families.limits, &[name, mode], 1);
}

/// A run under way; dropping it takes it out of the gauge.
pub struct Run {
    kind: &'static str,
    mode: &'static str,
    began: std::time::Instant,
}

impl Run {
    /// Counts a run that begins. `kind` is `run`, `command`, `repl`.
    pub fn begin(kind: &'static str, mode: &'static str) -> Self {
        if let Some(Metrics { families, .. }) = METRICS.get() {
            shift(&families.runs_now, &[kind, mode], 1.0);
        }
        Self { kind, mode, began: std::time::Instant::now() }
    }

    /// Counts how it ended.
    pub fn end(self, outcome: Outcome) {
        let Some(Metrics { families, .. }) = METRICS.get() else { return };
        let labels = [self.kind, self.mode, outcome.name()];
        add(&families.runs, &labels, 1);
        observe(&families.run_duration, &labels, self.began.elapsed());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        set(&families.run_end, &[self.kind, outcome.name()], now.as_secs_f64());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(Metrics { families, .. }) = METRICS.get() {
            shift(&families.runs_now, &[self.kind, self.mode], -1.0);
        }
    }
}

/// Why a worker may end: by itself, by us when it was no longer needed, at a limit, and what should not be.
pub const WORKER_ENDS: [&str; 11] = [
    "done",
    "stopped",
    "cancelled",
    "run_time",
    "cpu_time",
    "memory",
    "calls",
    "output",
    "jail",
    "misbehaved",
    "crashed",
];

/// Counts a worker that was started.
pub fn worker_spawned() {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    add(&families.worker_spawns, &[], 1);
}

/// Counts a worker that has ended: why (one of [`WORKER_ENDS`]), its processor time, and the most memory that it held, in bytes, where the kernel says.
pub fn worker_ended(reason: &'static str, used: Option<(Duration, u64)>) {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    add(&families.worker_ends, &[reason], 1);
    let Some((cpu, memory)) = used else { return };
    match families.worker_cpu.get_metric_with_label_values::<&str>(&[]) {
        Ok(counter) => counter.inc_by(cpu.as_secs_f64()),
        Err(error) => lost(&error),
    }
    match families.worker_memory.get_metric_with_label_values::<&str>(&[]) {
        Ok(gauge) if gauge.get() < memory as f64 => gauge.set(memory as f64),
        Ok(_) => {}
        Err(error) => lost(&error),
    }
}

/// Counts a record of the audit log and says which one is the newest.
pub fn audit_written(kind: &'static str, sequence: u64) {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    add(&families.audit_records, &[kind], 1);
    set(&families.audit_head, &[], sequence as f64);
}

/// Counts a record that could not be written.
pub fn audit_failed() {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    add(&families.audit_failures, &[], 1);
}

/// Counts a sync of the audit log.
pub fn audit_synced(took: Duration) {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    observe(&families.audit_sync, &[], took);
}

/// Says how far a witness of the audit log (`syslog`, `webhook`) is behind.
pub fn witness_lag(witness: &'static str, records: u64, behind: Duration) {
    let Some(Metrics { families, .. }) = METRICS.get() else { return };
    set(&families.witness_lag, &[witness], records as f64);
    set(&families.witness_delay, &[witness], behind.as_secs_f64());
}

/// All families in Prometheus's text form, version 0.0.4; those without samples have their help all the same.
///
/// Faults: `metrics.broken`.
pub fn text() -> Result<String, Fault> {
    let Some(Metrics { registry, .. }) = METRICS.get() else { return Ok(String::new()) };
    let mut out = TextEncoder::new().encode_to_string(&registry.gather()).map_err(broken)?;
    snapshot::declare_the_empty(&mut out);
    process::append(&mut out);
    Ok(out)
}

fn add(vec: &IntCounterVec, labels: &[&str], count: u64) {
    match vec.get_metric_with_label_values(labels) {
        Ok(counter) => counter.inc_by(count),
        Err(error) => lost(&error),
    }
}

fn observe(vec: &HistogramVec, labels: &[&str], took: Duration) {
    match vec.get_metric_with_label_values(labels) {
        Ok(histogram) => histogram.observe(took.as_secs_f64()),
        Err(error) => lost(&error),
    }
}

fn set(vec: &GaugeVec, labels: &[&str], value: f64) {
    match vec.get_metric_with_label_values(labels) {
        Ok(gauge) => gauge.set(value),
        Err(error) => lost(&error),
    }
}

fn shift(vec: &GaugeVec, labels: &[&str], by: f64) {
    match vec.get_metric_with_label_values(labels) {
        Ok(gauge) => gauge.add(by),
        Err(error) => lost(&error),
    }
}

/// A wrong number of labels is a defect that a test finds; it must not end a run.
fn lost(error: &prometheus::Error) {
    tracing::error!("a metric was not counted: {error}");
}

#[cfg(test)]
mod tests;
