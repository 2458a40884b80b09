//! Files of tests: what one declares, and the run of one of its tests.
//!
//! A test is a run like any other, in a worker of its own and through a door of its own; beside what a script may do it holds the
//! handle of a bench. What the bench does is its owner's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::sync::watch;

use super::process::Killer;
use super::session::{Ended, Said};
use super::{Looks, Report, Request};
use crate::door::bench::Bench;
use crate::door::read_arguments;
use crate::error::Fault;
use crate::units::{Bytes, Span};
use crate::wire::{Purpose, Source, ToWorker, Value};

/// The fields of what a file of tests returns, for its reference.
pub const SUITE_FIELDS: &[(&str, &str)] = &[
    ("tests", "the tests by what they promise: functions, or tables with `run`; required"),
    ("summary", "what they are about"),
    ("setup", "what each test's simulator holds at its beginning"),
    ("before_each", "a function that is called before each test, with its handle"),
    ("after_each", "a function that is called after each test, also where it failed"),
    ("timeout", "how long each test may take; default: 1 min, or --timeout"),
];

/// The fields of a test that is a table.
pub const TEST_FIELDS: &[(&str, &str)] = &[
    ("run", "the test: a function of its handle; required"),
    ("skip", "true or a reason: it is not run, and told as skipped"),
    ("setup", "in place of the file's"),
    ("timeout", "in place of the file's"),
];

/// The fields of a setup.
pub const SETUP_FIELDS: &[(&str, &str)] = &[
    ("vms", "machines with the template's hardware and system"),
    ("networks", "the names of port groups beside `VM Network`"),
    ("template", "false: the template `debian-12` is not there"),
];

/// The fields of a machine of a setup.
pub const VM_FIELDS: &[(&str, &str)] = &[
    ("name", "its name; required"),
    ("power", "`on` or `off`, the default"),
    ("cpus", "virtual processors; default: 1"),
    ("memory", "memory; default: 1 GiB"),
    ("notes", "its annotation"),
    ("networks", "the networks of its cards; default: one card on `VM Network`"),
    ("ip", "the IPv4 address that its first card gets by DHCP"),
    ("extra_config", "extra configuration, `guestinfo.*` included"),
];

/// What a file of tests says of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    #[serde(default)]
    pub summary: String,
    #[serde(default)]
    pub setup: Setup,
    pub timeout: Option<Span>,
    /// In the order of their lines.
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    pub name: String,
    pub line: i64,
    pub skip: Option<Skip>,
    pub setup: Option<Setup>,
    pub timeout: Option<Span>,
}

/// Whether a test is left out, and why.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Skip {
    Flag(bool),
    Why(String),
}

/// What the simulator of a test holds when the test begins.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    #[serde(default)]
    pub vms: Vec<SetupVm>,
    #[serde(default)]
    pub networks: Vec<String>,
    pub template: Option<bool>,
}

/// A machine that is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetupVm {
    pub name: String,
    pub power: Option<SetupPower>,
    pub cpus: Option<i32>,
    pub memory: Option<Bytes>,
    pub notes: Option<String>,
    pub networks: Option<Vec<String>>,
    pub ip: Option<String>,
    #[serde(default)]
    pub extra_config: BTreeMap<String, String>,
}

/// Whether a machine runs when the test begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetupPower {
    On,
    Off,
}

/// Ends runs from outside, in place of signals: those that a test has begun.
#[derive(Clone)]
pub struct Hold {
    killers: Arc<Mutex<Killers>>,
    hurry: watch::Sender<bool>,
}

#[derive(Default)]
struct Killers {
    all: Vec<Killer>,
    why: Option<String>,
}

impl Hold {
    pub fn new() -> Self {
        Self { killers: Arc::default(), hurry: watch::Sender::new(false) }
    }

    /// Takes a worker in; where the end has come already, it is ended at once.
    pub(super) fn take(&self, killer: Option<Killer>) {
        let Some(killer) = killer else { return };
        let mut killers = self.killers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &killers.why {
            killer.kill(ended(why));
        }
        killers.all.push(killer);
    }

    /// Ends all workers, and the waits for what they had under way.
    pub fn end(&self, why: &str) {
        let mut killers = self.killers.lock().unwrap_or_else(PoisonError::into_inner);
        for killer in &killers.all {
            killer.kill(ended(why));
        }
        killers.why = Some(why.to_owned());
        self.hurry.send_replace(true);
    }

    pub(super) fn hurry(&self) -> watch::Receiver<bool> {
        self.hurry.subscribe()
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

fn ended(why: &str) -> Fault {
    Fault::new("script.cancelled", why.to_owned())
}

/// Reads what a file of tests declares, without running any.
pub fn suite(source: Source, looks: Looks) -> Result<Suite, Ended> {
    let mut session = super::look(Purpose::Tests(source), looks)?;
    let said = session.until_said();
    let result = match said {
        Ok(Said::Loaded(table)) => read(&table).map_err(Ended::from),
        Ok(Said::Failed(error)) => Err(session.ended(error)),
        Ok(other) => Err(super::unexpected(&other)),
        Err(ended) => Err(ended),
    };
    session.finish();
    result
}

fn read(table: &Value) -> Result<Suite, Fault> {
    read_arguments("the table of tests", table)
        .map_err(|fault| fault.hint("ceso doc tests shows what a file of tests returns"))
}

/// Runs the test of that name.
pub fn test(request: Request, hold: &Hold, name: &str, bench: Arc<dyn Bench>) -> Report {
    let id = request.id.clone();
    let source = request.source.clone();
    let door = Arc::new(super::open_door(&request));
    let mut session = match super::open_for(Purpose::Tests(source.clone()), &request, door.clone()) {
        Ok(session) => session,
        Err(ended) => return super::nothing(id, ended, source),
    };
    hold.take(session.killer());
    session.begin(request.limits.run_time.0);
    let drive = || {
        match session.until_said()? {
            Said::Loaded(_) => {}
            Said::Failed(error) => return Err(session.ended(error)),
            other => return Err(super::unexpected(&other)),
        }
        let test = door.give_test(bench, name);
        let params = vec![("name".to_owned(), Value::Text(name.to_owned())), ("test".to_owned(), test)];
        session.send(&ToWorker::Go { params: Value::Map(params) })?;
        match session.until_said()? {
            Said::Done(value) => Ok(value),
            Said::Failed(error) => Err(session.ended(error)),
            other => Err(super::unexpected(&other)),
        }
    };
    let result = drive();
    hold.end("the test has ended");
    super::conclude(id, session, source, result, &door, hold.hurry())
}
