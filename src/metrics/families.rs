//! Every family of metrics, declared once: name, kind, labels, help. The registry, the page of the reference and the tests come from it.
//!
//! Names follow Prometheus's conventions: base units, `_total` for what only grows. No label takes a user's text: values are names that
//! ceso declares, and the configured name of a host. Specification: <https://prometheus.io/docs/practices/naming/>.

use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// The kind of a family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One declared family.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    /// The upper bounds of a histogram, in seconds; empty for the other kinds.
    pub buckets: &'static [f64],
}

/// From 1 ms, a read of a host that is near, to 1 h, the clone of a large disk.
pub const OPERATIONS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// From 1 ms to 10 s: one request.
pub const REQUESTS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// From 50 µs to 1 s: a disk says that it has written.
pub const SYNCS: &[f64] = &[0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 1.0];

/// From 1 s to 12 h: a backup.
pub const BACKUPS: &[f64] = &[1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0];

/// What a kind of the declaration is made of: its type, how it is opened, what it is for the reference.
macro_rules! kind {
    (type counter) => {
        IntCounterVec
    };
    (type seconds) => {
        CounterVec
    };
    (type gauge) => {
        GaugeVec
    };
    (type histogram) => {
        HistogramVec
    };
    (open counter $family:expr) => {
        IntCounterVec::new(Opts::new($family.name, $family.help), $family.labels)
    };
    (open seconds $family:expr) => {
        CounterVec::new(Opts::new($family.name, $family.help), $family.labels)
    };
    (open gauge $family:expr) => {
        GaugeVec::new(Opts::new($family.name, $family.help), $family.labels)
    };
    (open histogram $family:expr) => {
        HistogramVec::new(
            HistogramOpts::new($family.name, $family.help).buckets($family.buckets.to_vec()),
            $family.labels,
        )
    };
    (kind counter) => {
        Kind::Counter
    };
    (kind seconds) => {
        Kind::Counter
    };
    (kind gauge) => {
        Kind::Gauge
    };
    (kind histogram) => {
        Kind::Histogram
    };
}

macro_rules! families {
    ($($field:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal $(within $buckets:expr)?;)*) => {
        /// The open families, one field for each declaration. Some are declared ahead of what they count.
        #[allow(dead_code)]
        pub(super) struct Families { $(pub $field: kind!(type $kind),)* }

        /// All declarations, in the order of the reference.
        pub const ALL: &[Family] = &[$(Family {
            name: $name,
            kind: kind!(kind $kind),
            labels: &[$($label),*],
            help: $help,
            buckets: { #[allow(unused_mut, unused_assignments)] { let mut buckets: &[f64] = &[]; $(buckets = $buckets;)? buckets } },
        },)*];

        impl Families {
            /// Opens every family in a registry.
            pub fn open(registry: &Registry) -> prometheus::Result<Self> {
                let mut declared = ALL.iter();
                let mut next = || declared.next().ok_or_else(|| prometheus::Error::Msg("a family is missing".to_owned()));
                Ok(Self { $($field: {
                    let family = next()?;
                    let opened = kind!(open $kind family)?;
                    registry.register(Box::new(opened.clone()))?;
                    opened
                },)* })
            }
        }
    };
}

families! {
    operations = counter "ceso_operations_total" ["operation", "effect", "mode", "outcome"]
        "Operations that came to the door, by how they ended.";
    operation_duration = histogram "ceso_operation_duration_seconds" ["operation", "effect", "mode", "outcome"]
        "How long operations took, from the door to their outcome." within OPERATIONS;
    runs = counter "ceso_runs_total" ["kind", "mode", "outcome"]
        "Runs of scripts, commands and prompts that have ended, by how.";
    run_duration = histogram "ceso_run_duration_seconds" ["kind", "mode", "outcome"]
        "How long runs took, from the start of the worker to its end." within OPERATIONS;
    runs_now = gauge "ceso_runs" ["kind", "mode"]
        "Runs that are under way in this process.";
    run_end = gauge "ceso_run_last_end_timestamp_seconds" ["kind", "outcome"]
        "When a run last ended so, in seconds since 1970.";
    limits = counter "ceso_limits_hit_total" ["limit", "mode"]
        "Runs that were ended, and calls that were refused, at a limit.";
    denials = counter "ceso_denials_total" ["operation", "mode"]
        "Operations that a capability table did not allow.";
    elevations = counter "ceso_elevations_total" ["mode", "outcome"]
        "Requests for more than a table allows, by what came of them. No samples yet.";
    promotions = counter "ceso_promotions_total" ["mode", "outcome"]
        "Requests to run in a wider mode, by what came of them. No samples yet.";
    connections = counter "ceso_host_connections_total" ["host", "session"]
        "Connections to hosts that were opened, with a session that was kept or a new one.";
    connected = gauge "ceso_host_connections" ["host"]
        "Connections to hosts that are open in this process.";
    logins = counter "ceso_host_logins_total" ["host", "outcome"]
        "Logins, by what the host said.";
    retries = counter "ceso_host_retries_total" ["host", "reason"]
        "Requests that were sent once more: the answer was lost, or the session had ended.";
    requests = counter "ceso_host_requests_total" ["host", "method", "outcome"]
        "Requests to hosts, by the method of vim25 and how they ended.";
    request_duration = histogram "ceso_host_request_duration_seconds" ["host", "method"]
        "How long hosts took to answer; WaitForUpdatesEx waits for something to happen." within REQUESTS;
    sent = counter "ceso_host_sent_bytes_total" ["host"]
        "Bytes of the bodies that were sent to hosts.";
    received = counter "ceso_host_received_bytes_total" ["host"]
        "Bytes of the bodies that hosts have sent.";
    tasks = counter "ceso_host_tasks_total" ["host", "outcome"]
        "Tasks on hosts that ceso has waited for, by how they ended.";
    task_duration = histogram "ceso_host_task_duration_seconds" ["host"]
        "How long tasks on hosts took, from their start to the end of the wait." within OPERATIONS;
    backups = counter "ceso_backups_total" ["host", "repository", "outcome"]
        "Backups that have ended, by how. No samples yet.";
    backup_duration = histogram "ceso_backup_duration_seconds" ["host", "repository"]
        "How long backups took. No samples yet." within BACKUPS;
    backup_size = gauge "ceso_backup_size_bytes" ["host", "repository"]
        "The size of what the last backups hold, before it is stored. No samples yet.";
    backup_stored = gauge "ceso_backup_stored_bytes" ["host", "repository"]
        "What the last backups added to the repository. No samples yet.";
    backup_good = gauge "ceso_backup_last_success_timestamp_seconds" ["host", "repository"]
        "When the last good backup ended, in seconds since 1970; its age is time() less this. No samples yet.";
    backup_states = gauge "ceso_backup_manifests" ["repository", "state"]
        "Backups in a repository, by their state: good, incomplete, damaged. No samples yet.";
    catalog_entries = gauge "ceso_catalog_entries" ["kind"]
        "Entries of the catalog. No samples yet.";
    catalog_size = gauge "ceso_catalog_size_bytes" []
        "The size of the catalog on disk. No samples yet.";
    worker_spawns = counter "ceso_worker_spawns_total" []
        "Worker processes that were started.";
    worker_ends = counter "ceso_worker_ends_total" ["reason"]
        "Worker processes that have ended: done, stopped when they were no longer needed, at a limit, crashed.";
    worker_cpu = seconds "ceso_worker_cpu_seconds_total" []
        "Processor time of the workers that have ended.";
    worker_memory = gauge "ceso_worker_memory_peak_bytes" []
        "The most memory that one worker of this process has held.";
    audit_head = gauge "ceso_audit_head_sequence" []
        "The sequence number of the newest record that this process has written to the audit log.";
    audit_records = counter "ceso_audit_records_total" ["kind"]
        "Records written to the audit log: intent, outcome, read, denial and the log's own.";
    audit_failures = counter "ceso_audit_failures_total" []
        "Records that could not be written to the audit log.";
    audit_sync = histogram "ceso_audit_sync_duration_seconds" []
        "How long the disk took to say that a record is on it." within SYNCS;
    witness_lag = gauge "ceso_audit_witness_lag_records" ["witness"]
        "Records that a witness of the audit log has not taken yet.";
    witness_delay = gauge "ceso_audit_witness_lag_seconds" ["witness"]
        "How long the oldest record has waited that a witness has not taken yet.";
    build = gauge "ceso_build_info" ["version"]
        "1, with the version of ceso.";
}
