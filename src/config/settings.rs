//! The declaration of every setting: its name, type, default and meaning.
//!
//! Everything else about a setting follows from here: the check of files, the name of its variable, `ceso config show`, and the
//! commented example that `ceso config init` writes. No setting names a command to run, and none holds a secret.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::named_secrets::SecretEntry;
use super::repositories::RepositoryEntry;
use super::values::{HostUrl, Mode, Trust};
use crate::units::{Bytes, Span};

/// All settings, as they stand after the layers are put together.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The host that a command uses when none is named: a name of the section "hosts", or "sim" for the simulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["lab"]))]
    pub default_host: Option<String>,
    /// The hosts that ceso knows, each under a name. `ceso host add` keeps its own in hosts.yaml.
    pub hosts: BTreeMap<String, HostEntry>,
    /// Secrets that scripts may put into cloud-init data by name, and never see.
    pub secrets: BTreeMap<String, SecretEntry>,
    /// Connections to a host, kept for the next call.
    pub connection_pool: ConnectionPool,
    /// What one run of a script may use; a run that passes a limit ends, and the error names the limit.
    pub sandbox: Sandbox,
    /// What scripts may do, and on which networks.
    pub security: Security,
    /// How the audit log is kept, and who is told of it.
    pub audit: Audit,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// What is logged, and where to.
    pub log: Log,
    /// Traces: what took how long within a run.
    pub traces: Traces,
    /// The places of backups, each under a name.
    pub repositories: BTreeMap<String, RepositoryEntry>,
    /// Which backups `ceso repository prune` and `forget` keep in the repositories that are named above and have no rules of their own;
    /// without a rule all are kept.
    pub retention: Retention,
}

/// One host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// The host's address: "esx1", "esx1:8443" or "https://esx1/sdk".
    #[schemars(extend("examples" = ["https://esx1.example/sdk"]))]
    pub url: HostUrl,
    /// The account; "root" unless another is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["root"]))]
    pub username: Option<String>,
    /// How its certificate is believed: "system", "fingerprint: AB:CD:…" (SHA-256) or "ca_file: PATH".
    #[serde(default)]
    #[schemars(extend("examples" = ["system"]))]
    pub trust: Trust,
    /// A file that holds the password and that only you can read (mode 0600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/passwords/lab"]))]
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["LAB_PASSWORD"]))]
    pub password_env: Option<String>,
    /// Words to group hosts by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["lab"]]))]
    pub tags: Vec<String>,
    /// Where the address is a vCenter's: the one of its datacenters that this host is, by name or by path ("/Europe/DC1"); the only one
    /// unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["DC1"]))]
    pub datacenter: Option<String>,
}

/// Connections to one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionPool {
    /// Connections that are kept open although nothing uses them.
    #[schemars(range(min = 0, max = 64))]
    pub min_connections: u32,
    /// The most connections to one host at once.
    #[schemars(range(min = 1, max = 64))]
    pub max_connections: u32,
    /// How long an unused connection is kept; a host ends a session after about 30 minutes.
    pub max_idle_time: Span,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self { min_connections: 0, max_connections: 8, max_idle_time: Span(Duration::from_secs(5 * 60)) }
    }
}

/// The limits of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// The longest time from start to end.
    pub run_time: Span,
    /// The most CPU time of the script itself.
    pub cpu_time: Span,
    /// The most memory of the script.
    pub memory: Bytes,
    /// The largest script, its modules included.
    pub source: Bytes,
    /// The most text that a script may print and return.
    pub output: Bytes,
    /// The most calls of operations.
    #[schemars(range(min = 1))]
    pub calls: u64,
    /// The most calls of operations that are under way at once.
    #[schemars(range(min = 1, max = 1024))]
    pub calls_at_once: u32,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            run_time: Span(Duration::from_secs(10 * 60)),
            cpu_time: Span(Duration::from_secs(60)),
            memory: Bytes(64 << 20),
            source: Bytes(256 << 10),
            output: Bytes(1 << 20),
            calls: 100_000,
            calls_at_once: 64,
        }
    }
}

impl Settings {
    /// Checks what no single value can: the error is the dotted path and what holds there.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let Sandbox { run_time, cpu_time, memory, source, output, calls: _, calls_at_once: _ } = &self.sandbox;
        let ConnectionPool { min_connections, max_connections, max_idle_time } = &self.connection_pool;
        // Deadlines are points in time: one that is too far away cannot be computed.
        for (path, span, most) in [
            ("sandbox.run_time", run_time, 30 * DAY),
            ("sandbox.cpu_time", cpu_time, 30 * DAY),
            ("connection_pool.max_idle_time", max_idle_time, DAY),
            ("audit.checkpoint_after", &self.audit.checkpoint_after, DAY),
        ] {
            if span.0 < Duration::from_millis(1) || span.0 > most {
                return Err((path, format!("{span} is not between 1 ms and {}", Span(most))));
            }
        }
        for (path, size, least, most) in [
            ("sandbox.memory", memory, 1 << 20, 64 << 30),
            ("sandbox.source", source, 1, 64 << 20),
            ("sandbox.output", output, 1, 4 << 30),
            ("audit.rotate_at", &self.audit.rotate_at, 64 << 10, 1 << 40),
        ] {
            if !(least..=most).contains(&size.0) {
                return Err((path, format!("{size} is not between {} and {}", Bytes(least), Bytes(most))));
            }
        }
        if min_connections > max_connections {
            return Err((
                "connection_pool.min_connections",
                format!("{min_connections} is more than connection_pool.max_connections, which is {max_connections}"),
            ));
        }
        Ok(())
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What scripts may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// The capability table that a run gets where none is named.
    pub mode: Mode,
    /// Whether operations are recorded. Without the audit log nobody can say afterwards what was done, and by whom.
    pub audit: bool,
    /// The file that every operation is recorded in; ~/.ceso/audit.json unless another is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["/var/log/ceso/audit.json"]))]
    pub audit_log: Option<PathBuf>,
    /// The networks that a host must lie in, and whatever else is connected to: guests, URLs (CIDR); without the setting any, with an empty list none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>", extend("items" = { "type": "string", "format": "cidr" }, "examples" = [["10.0.0.0/8", "fd00::/8"]]))]
    pub allowed_networks: Option<Vec<IpNet>>,
}

impl Default for Security {
    fn default() -> Self {
        Self { mode: Mode::default(), audit: true, audit_log: None, allowed_networks: None }
    }
}

/// How the audit log (security.audit_log) is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The size at which the file is set aside, as audit-000000000001.json by its first record's number, and a new one goes on.
    pub rotate_at: Bytes,
    /// Every how many records one is a checkpoint, signed with the key beside the log (audit.key); from the next file on.
    #[schemars(range(min = 2, max = 100_000))]
    pub checkpoint_every: u32,
    /// After what time records that are not signed yet are. The end of a command signs them as well.
    pub checkpoint_after: Span,
    /// Who is told the heads of the log, so that a log that was cut can be told from one that was not: "udp://HOST:514",
    /// "tcp://HOST:601" and "unix:///dev/log" (syslog, RFC 5424), "https://HOST/PATH" (a POST of JSON).
    #[schemars(extend("examples" = [["udp://loghost:514"]]))]
    pub witness: Vec<String>,
    /// What they are told.
    pub witness_sends: WitnessSends,
}

/// What witnesses of the audit log are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WitnessSends {
    /// the signed checkpoints
    #[default]
    Checkpoints,
    /// every record, whole
    Records,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            rotate_at: Bytes(256 << 20),
            checkpoint_every: 1000,
            checkpoint_after: Span(Duration::from_secs(60)),
            witness: Vec::new(),
            witness_sends: WitnessSends::default(),
        }
    }
}

/// Figures for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether commands with a run serve them for as long as they run, at /metrics. Where the port is taken, by another ceso, a
    /// command says so and goes on; with --metrics-port it ends before anything is done.
    pub enabled: bool,
    /// The address that they are served on. On another than loopback everybody who can reach it can read them.
    #[schemars(with = "String", extend("format" = "ip"))]
    pub address: IpAddr,
    /// The port that they are served on; 0 takes a free one, and says which.
    #[schemars(range(min = 0))]
    pub port: u16,
    /// A file for the node exporter's textfile collector, which ends in .prom: each command with a run adds what it counted. Beside it
    /// lie its sums (.state) and its lock (.lock).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["/var/lib/prometheus/node-exporter/ceso.prom"]))]
    pub textfile: Option<PathBuf>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: false, address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 9273, textfile: None }
    }
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged, such as "info" or "esxi=debug,door=info": a level (off, error, warn, info, debug, trace) for all rooms, or for
    /// one. The flag --log and the variable CESO_LOG go before it; without any of them nothing is logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["door=info,esxi=debug"]))]
    pub level: Option<String>,
    /// The form of a line.
    pub format: LogFormat,
    /// The file that lines are appended to; without one they go to the standard error stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/ceso.log"]))]
    pub file: Option<PathBuf>,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Traces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// The collector that spans are sent to by OTLP over HTTP (protobuf), such as "http://127.0.0.1:4318"; without it what
    /// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT names, and without that none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["http://127.0.0.1:4318"]))]
    pub endpoint: Option<String>,
}

/// Which backups are kept, of each machine by itself. A backup stays when any rule keeps it; a failed one never counts, and neither does a
/// period without a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// The newest ones, this many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [7]))]
    pub keep_last: Option<u32>,
    /// The newest one of each of this many hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [24]))]
    pub keep_hourly: Option<u32>,
    /// The newest one of each of this many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [14]))]
    pub keep_daily: Option<u32>,
    /// The newest one of each of this many weeks, which begin on Monday.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [8]))]
    pub keep_weekly: Option<u32>,
    /// The newest one of each of this many months.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [12]))]
    pub keep_monthly: Option<u32>,
    /// The newest one of each of this many years.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [3]))]
    pub keep_yearly: Option<u32>,
    /// All that are at most so much older than the machine's newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["30 days"]))]
    pub keep_within: Option<Span>,
    /// All that bear one of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("examples" = [["forever"]]))]
    pub keep_tags: Vec<String>,
}

impl Retention {
    /// Whether there is no rule: then all are kept.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
