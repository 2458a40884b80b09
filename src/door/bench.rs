//! What a playbook's test has at hand: runs, the inventory and the calls of a simulator of its own, faults on demand.
//!
//! The door knows it by this trait alone; whoever starts simulators implements it. A bench is reached by the handle that a test's
//! function is called with, and no operation gives one: an ordinary script has none of this.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::units::{Bytes, Span};

/// What stands behind a test's handle.
pub trait Bench: Send + Sync {
    /// Runs a playbook against the test's simulator, in a worker of its own and through a door of its own.
    fn run(&self, run: Run) -> BoxFuture<'_, Result<Ran, Fault>>;
    fn inventory(&self) -> Inventory;
    /// The newest calls that the simulator saw, oldest first.
    fn calls(&self) -> Vec<Call>;
    fn fault(&self, rule: Rule) -> Result<(), Fault>;
    fn clear_faults(&self);
}

/// A value of any form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Free(pub serde_json::Value);

impl JsonSchema for Free {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Free".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-any": true })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A run that a test asks for.
#[derive(Debug)]
pub struct Run {
    pub file: String,
    pub params: BTreeMap<String, Free>,
    pub mode: Option<crate::config::Mode>,
    pub grant: Option<Free>,
    pub timeout: Option<Span>,
}

/// What came of a run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TestRun")]
pub struct Ran {
    /// Whether it ended without an error.
    pub ok: bool,
    /// What the playbook returned; a handle as a table of its fields.
    pub value: Free,
    /// Why it failed, where it did.
    pub error: Option<RunError>,
    /// How many changes it made.
    pub changed: u64,
    /// How many changes were not needed, because all was as asked already.
    pub unchanged: u64,
    /// How many changes failed, or have an unknown outcome.
    pub failed: u64,
    /// Its changes, in their order.
    pub changes: Vec<Change>,
    /// What it printed and logged.
    pub output: String,
    /// The exit code that `ceso run` would have had.
    pub code: u8,
}

/// Why a run failed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TestRunError")]
pub struct RunError {
    /// The fault's kind, such as `esxi.no_disk_space`; `script.error` for the script's own.
    pub kind: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The file where it happened.
    pub file: Option<String>,
    /// The line where it happened.
    pub line: Option<u32>,
    /// The whole error as `ceso run` prints it.
    pub text: String,
}

/// A change that a run made, or tried to make.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TestChange")]
pub struct Change {
    /// The operation, such as `vm.power_on`.
    pub operation: String,
    /// The names of what it was about.
    pub objects: Vec<String>,
    /// What came of it.
    #[schemars(extend("enum" = ["done", "unchanged", "failed", "unknown"]))]
    pub outcome: String,
}

/// What a test's simulator holds.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TestInventory")]
pub struct Inventory {
    /// The machines, by name.
    pub vms: Vec<Machine>,
    /// The names of the networks.
    pub networks: Vec<String>,
    /// The names of the datastores.
    pub datastores: Vec<String>,
}

/// A machine of a test's simulator, as the simulator itself knows it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "TestVm")]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: String,
    /// Virtual processors.
    pub cpus: i32,
    /// Memory.
    pub memory: Bytes,
    /// Its annotation.
    pub notes: String,
    /// The guest's own name; nil while it reports none.
    pub hostname: Option<String>,
    /// The guest's address; nil while it reports none.
    pub ip: Option<String>,
    /// All addresses of the guest.
    pub addresses: Vec<String>,
    /// The networks of its cards.
    pub networks: Vec<String>,
    /// The sizes of its disks.
    pub disks: Vec<Bytes>,
    /// Its configuration file.
    pub path: String,
    /// Extra configuration, `guestinfo.*` included.
    pub extra_config: BTreeMap<String, String>,
    /// The cloud-init user-data that it holds, unpacked.
    pub user_data: Option<String>,
    /// The cloud-init metadata that it holds, unpacked.
    pub meta_data: Option<String>,
}

/// A call that the simulator saw.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "TestCall")]
pub struct Call {
    /// The method of the vSphere API, such as `PowerOnVM_Task`.
    pub method: String,
    /// The machine's name; of another object, the host's name for it.
    pub object: String,
}

/// A fault that a test asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub method: String,
    pub trouble: Trouble,
    pub after: u64,
    pub times: Option<u64>,
    pub chance: f64,
}

/// What is to go wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    Fault {
        kind: String,
        message: Option<String>,
    },
    Status(u16),
    Delay(Span),
    /// It is carried out, and answered so much later.
    Late(Span),
    /// The connection is closed before or after the request was carried out.
    Drop {
        after: bool,
    },
    Expire,
    /// The machine asks something first, by the simulator's word for it.
    Ask(&'static str),
    /// The datastore is full but for so many bytes.
    Fill(Bytes),
    /// All connections are cut, and nobody is answered for so long.
    Partition(Span),
    /// The host's agent starts anew, and nobody is answered for so long.
    Restart(Span),
    /// A file transfer ends after so many bytes.
    Cut(Bytes),
    /// A file transfer sends all of the file, whatever part was asked for.
    NoRanges,
    /// Snapshots are removed, and their deltas stay.
    LeaveDelta,
    /// What changed on a disk is told wrongly, by the simulator's word for how.
    Lie(&'static str),
}
