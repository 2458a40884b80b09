//! The messages: what parent and worker tell each other, and in which order.

use serde::{Deserialize, Serialize};

use super::value::Value;
use crate::error::Fault;
use crate::units::Span;

/// A file of a script: its name as errors show it, and its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub text: Vec<u8>,
}

/// What a run may use at most; every limit is settable, and named in the error that a script meets when it passes it.
pub use crate::config::Sandbox as Limits;

/// What a worker is started for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Purpose {
    /// Load the script; a playbook is announced by [`FromWorker::Loaded`] and waits for [`ToWorker::Go`], a plain script just runs.
    Run(Source),
    /// Load it as far as its declaration, with every operation refused; answers `Loaded` or `Plain`, or `Failed`.
    Check(Source),
    /// Check several files, each in an environment of its own; answers one `Described` for each, in order.
    Describe(Vec<Source>),
    /// Load a file of tests; answers `Loaded` with its table, and `Go` with `{ name, test }` runs the test of that name.
    Tests(Source),
    /// Wait for chunks.
    Repl,
}

/// The first frame that a worker gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub run: String,
    pub purpose: Purpose,
    pub limits: Limits,
    /// The VM's own hardening. Off only in the tests that show that the process boundary holds alone.
    pub hardened: bool,
    /// How far the process must be locked down once the VM is up, before any script is looked at.
    pub jail: Jail,
}

/// How far a worker must be locked down (landlock, resource limits, seccomp) before it looks at a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Jail {
    /// Every part must hold; else the worker fails with `jail.incomplete` and runs nothing.
    Full,
    /// Whatever this machine gives; `Ready` says what is missing.
    Partial,
    /// None, for `--no-jail` and for tests.
    Off,
}

/// One part of the jail, and why it does not hold where it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailPart {
    /// `landlock`, `limits` or `seccomp`.
    pub name: String,
    pub missing: Option<String>,
}

/// Frames from the parent to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    Start(Box<Start>),
    /// Run the playbook that was loaded, with these parameters, checked and complete.
    Go {
        params: Value,
    },
    /// Evaluate one chunk of the REPL, within this time; errors show it under this name.
    Chunk {
        name: String,
        source: String,
        time: Span,
    },
    /// The outcome of a call or of a `require`.
    Answer {
        call: u64,
        outcome: Outcome,
    },
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Done(Value),
    Failed(Raised),
}

/// A fault as a script sees it. `number` is the parent's: what a script makes up has none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Raised {
    pub number: u32,
    pub kind: String,
    pub message: String,
    pub hint: Option<String>,
    pub retry: bool,
}

impl Raised {
    pub fn of(number: u32, fault: &Fault) -> Self {
        Self {
            number,
            kind: fault.kind().to_owned(),
            message: fault.message().to_owned(),
            hint: fault.hint_text().map(str::to_owned),
            retry: fault.may_retry(),
        }
    }
}

/// How loud a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Frames from the worker to the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The VM is up and the jail is closed, as far as asked for.
    Ready {
        jail: Vec<JailPart>,
    },
    /// The file returned a playbook: its table without `run`. The parent answers with `Go`.
    Loaded {
        declaration: Value,
    },
    /// The file is a plain script of statements (only for `Check`).
    Plain,
    /// One file's declaration, or why it has none (only for `Describe`).
    Described {
        name: String,
        outcome: Result<Value, ScriptError>,
    },
    Call {
        call: u64,
        operation: String,
        arguments: Value,
    },
    /// `require(name)`, asked by the module `from` (empty: the script itself): answered with [`Value::Map`] `{ name, text }`.
    Module {
        call: u64,
        name: String,
        from: String,
    },
    Print {
        text: String,
    },
    /// `task.row`: a row of a result that comes bit by bit, for programs and for people.
    Row {
        value: Value,
        text: String,
    },
    Log {
        level: Level,
        text: String,
    },
    /// `task.progress`: a label and how far it is, 0 to 1 where that is known.
    Progress {
        label: String,
        fraction: Option<f64>,
    },
    /// What the chunks so far left behind (only for the REPL), ahead of each `Done` or `Failed`.
    Names {
        globals: Vec<Known>,
    },
    Done {
        value: Value,
    },
    Failed(ScriptError),
}

/// A name that a chunk of the REPL left behind, for completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub name: String,
    pub what: What,
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Handle {
        id: u32,
        kind: String,
    },
    Function,
    Table {
        fields: Vec<Known>,
        /// The first item, where it is a list.
        item: Option<Box<What>>,
    },
    Other,
}

/// How a script failed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScriptError {
    /// The number of the parent's fault that was raised and not caught, where it was one.
    pub fault: Option<u32>,
    /// `script.syntax`, `script.error`, `limit.run_time`, `limit.memory`, …; never a kind that a script made up.
    pub kind: String,
    pub message: String,
    /// What a script gave as hint, for `script.error` with a table; shown as the script's words.
    pub hint: Option<Box<str>>,
    /// The file and line where it happened.
    pub file: Option<Box<str>>,
    pub line: Option<u32>,
    pub traceback: Option<Box<str>>,
    /// The two values that an assertion found to differ.
    pub difference: Option<Box<Difference>>,
}

/// What an assertion expected and what it found, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Difference {
    pub expected: String,
    pub found: String,
}
