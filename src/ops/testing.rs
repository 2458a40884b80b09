//! What a playbook's test may call beside what every script may: methods of the handle that its function is given.
//!
//! They are declared like every operation and pass the same door, but are bound in workers of `ceso test` alone. They touch nothing
//! that a capability table names: the handle is the right, and what it reaches is the test's own simulator.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Mode;
use crate::door::Pass;
use crate::door::bench::{self, Bench, Free};
use crate::door::bind::Binder;
use crate::door::object::{Fields, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Touch};
use crate::error::Fault;
use crate::units::{Bytes, Span};

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "test", name }
}

/// What the handle of a test tells: nothing beside its name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TestFields {}

impl Fields for TestFields {
    type Kind = kind::Test;
}

/// Runs a playbook against the test's simulator, as `ceso run` would: in a worker of its own, with its own mode, needs and grant.
///
/// It does not raise what the playbook raised: the result says whether it ended well, what it changed, and why it failed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The test.
    pub test: Target<kind::Test>,
    /// The playbook's file, from the test's own folder. It lies in the folder that `ceso test` was given, or below.
    pub file: String,
    /// The playbook's parameters, by name.
    pub params: Option<Free>,
    /// The run's mode. Default: that of `--mode`, or of the configuration.
    pub mode: Option<TestMode>,
    /// A capability table that the run may not go beyond, as with `--grant`.
    pub grant: Option<Free>,
    /// How long the run may take. Default: what is left of the test's time.
    pub timeout: Option<Span>,
}

/// A mode, by its name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum TestMode {
    Restricted,
    Standard,
    Unrestricted,
}

/// Tells what the test's simulator holds: machines, networks, datastores.
///
/// It is the simulator's own account, and no answer of its API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInventory {
    /// The test.
    pub test: Target<kind::Test>,
}

/// Tells what the test's simulator knows of one machine; nil where there is none of that name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetVm {
    /// The test.
    pub test: Target<kind::Test>,
    /// The machine's name, literally.
    pub name: String,
}

/// Lists the calls of the vSphere API that the test's simulator saw, oldest first: at most the newest 20,000.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// The test.
    pub test: Target<kind::Test>,
    /// The method whose calls are listed, such as `PowerOnVM_Task`. Default: all.
    pub method: Option<String>,
}

/// Has the test's simulator answer a method with a fault, once or more often.
///
/// One of `fault`, `status`, `delay`, `late`, `drop`, `expire`, `ask`, `fill`, `partition`, `restart`, `cut`, `no_ranges`, `leave_delta`
/// and `lie` says what happens. Of a method that ends in `_Task` most faults end the task, as on a host; the others come at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddFault {
    /// The test.
    pub test: Target<kind::Test>,
    /// The method of the vSphere API, such as `PowerOnVM_Task`, or a transfer of files: `GET folder`, `PUT folder`.
    pub method: String,
    /// A fault of the vSphere API, such as `NoDiskSpace`.
    pub fault: Option<String>,
    /// The fault's message. Default: what a host says.
    pub message: Option<String>,
    /// A status of the web server in place of an answer: 400 to 599.
    pub status: Option<u16>,
    /// How long the request is held up; then it is carried out.
    pub delay: Option<Span>,
    /// How long the answer takes, once the request was carried out.
    pub late: Option<Span>,
    /// The connection is closed: before the `request` was carried out, or before its `answer` was sent.
    pub drop: Option<Lost>,
    /// The session has ended.
    pub expire: Option<bool>,
    /// Of a machine's task: the machine asks something first, and the task waits until somebody answers.
    pub ask: Option<Asked>,
    /// The datastore is full from then on, but for so many bytes.
    pub fill: Option<Bytes>,
    /// The request is carried out, then all connections are cut, and nobody is answered for so long.
    pub partition: Option<Span>,
    /// The request is carried out, then the host's agent starts anew: sessions, tasks and leases are forgotten, the work of tasks stops
    /// where it is, and nobody is answered for so long.
    pub restart: Option<Span>,
    /// Of a transfer: the connection is closed after so many bytes of the file.
    pub cut: Option<Bytes>,
    /// Of a transfer: all of the file is sent, whatever part of it was asked for, as some hosts do.
    pub no_ranges: Option<bool>,
    /// Of a method that removes snapshots: they go, and what they held is not merged.
    pub leave_delta: Option<bool>,
    /// Of `QueryChangedDiskAreas`: what it tells is not so, as hosts have been seen to tell it.
    pub lie: Option<Lie>,
    /// How many calls go well before. Default: 0.
    pub after: Option<u64>,
    /// How many calls go wrong, 0 for all of them from then on. Default: 1.
    pub times: Option<u64>,
    /// The share of calls that go wrong, 0 to 1, the same ones in each run of the test. Default: 1.
    pub chance: Option<f64>,
}

/// What of a request is lost.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Lost {
    Request,
    Answer,
}

/// What a machine asks.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Asked {
    /// Whether it was moved or copied.
    Moved,
    /// What to do without room for its disk.
    Space,
    /// Whether to open a drive whose door the guest has locked.
    Door,
}

/// What a host says of changed blocks that is not so.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Lie {
    /// Areas that changed are left out.
    Missing,
    /// All of the disk has changed.
    Everything,
    /// It does not know what it is asked by.
    Unknown,
}

/// Forgets the faults that the test asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearFaults {
    /// The test.
    pub test: Target<kind::Test>,
}

macro_rules! of_a_test {
    ($type:ident, $name:literal, $method:literal, $positional:expr, $usage:literal, $output:ty, |$given:ident, $bench:ident| $act:expr) => {
        impl Operation for $type {
            const NAME: &'static str = $name;
            const EFFECT: Effect = Effect::Read;
            const PLACE: Place = method($method);
            const POSITIONAL: &'static [&'static str] = $positional;
            const TOUCHES: &'static [Touch] = &[];
            const USAGE: &'static str = $usage;

            type Bound = Arc<dyn Bench>;
            type Output = $output;

            async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
                binder.test(&self.test)
            }

            async fn act(self, $bench: Self::Bound, _: &Pass<'_>) -> Result<Self::Output, Fault> {
                let $given = self;
                $act
            }
        }
    };
}

of_a_test!(
    Run,
    "test.run",
    "run",
    &["file"],
    "local run = t:run(\"./web.luau\", { params = { count = 2 } })\nassert(run.ok, run.error and run.error.text)",
    bench::Ran,
    |given, bench| {
        let mode = given.mode.map(|mode| match mode {
            TestMode::Restricted => Mode::Restricted,
            TestMode::Standard => Mode::Standard,
            TestMode::Unrestricted => Mode::Unrestricted,
        });
        let Run { file, params, grant, timeout, .. } = given;
        let params = match params.map(|Free(params)| params) {
            None | Some(serde_json::Value::Null) => BTreeMap::new(),
            Some(serde_json::Value::Object(params)) => {
                params.into_iter().map(|(name, value)| (name, Free(value))).collect()
            }
            Some(serde_json::Value::Array(items)) if items.is_empty() => BTreeMap::new(),
            Some(_) => {
                return Err(Fault::new("usage.argument", "test.run: params: expected a table of names and values"));
            }
        };
        bench.run(bench::Run { file, params, mode, grant, timeout }).await
    }
);
of_a_test!(
    GetInventory,
    "test.inventory",
    "inventory",
    &[],
    "assert(#t:inventory().vms == 1)",
    bench::Inventory,
    |_given, bench| Ok(bench.inventory())
);
of_a_test!(
    GetVm,
    "test.vm",
    "vm",
    &["name"],
    "local vm = t:vm(\"debian-12\")\nassert(vm and vm.power == \"off\")",
    Option<bench::Machine>,
    |given, bench| Ok(bench.inventory().vms.into_iter().find(|vm| vm.name == given.name))
);
of_a_test!(
    Calls,
    "test.calls",
    "calls",
    &["method"],
    "assert(#t:calls(\"PowerOnVM_Task\") == 0)",
    Vec<bench::Call>,
    |given, bench| {
        let mut calls = bench.calls();
        calls.retain(|call| given.method.as_ref().is_none_or(|method| call.method == *method));
        Ok(calls)
    }
);
of_a_test!(
    AddFault,
    "test.fault",
    "fault",
    &[],
    "t:fault({ method = \"PowerOnVM_Task\", fault = \"NoDiskSpace\" })",
    (),
    |given, bench| bench.fault(given.rule()?)
);
of_a_test!(ClearFaults, "test.clear_faults", "clear_faults", &[], "t:clear_faults()", (), |_given, bench| {
    bench.clear_faults();
    Ok(())
});

impl AddFault {
    fn rule(self) -> Result<bench::Rule, Fault> {
        let Self { fault, message, status, delay, late, drop, expire, ask, fill, partition, restart, cut, lie, .. } =
            self;
        let [expire, no_ranges, leave_delta] =
            [expire, self.no_ranges, self.leave_delta].map(|wanted| wanted.filter(|wanted| *wanted));
        let wrong = |what: &str| Fault::new("usage.argument", format!("test.fault: {what}"));
        if message.is_some() && fault.is_none() {
            return Err(wrong("a message is that of a fault, and no fault is given"));
        }
        let asked = [
            fault.map(|kind| bench::Trouble::Fault { kind, message }),
            status.map(bench::Trouble::Status),
            delay.map(bench::Trouble::Delay),
            drop.map(|lost| bench::Trouble::Drop { after: matches!(lost, Lost::Answer) }),
            expire.map(|_| bench::Trouble::Expire),
            ask.map(|asked| {
                bench::Trouble::Ask(match asked {
                    Asked::Moved => "moved",
                    Asked::Space => "space",
                    Asked::Door => "door",
                })
            }),
            fill.map(bench::Trouble::Fill),
            partition.map(bench::Trouble::Partition),
            restart.map(bench::Trouble::Restart),
            cut.map(bench::Trouble::Cut),
            late.map(bench::Trouble::Late),
            no_ranges.map(|_| bench::Trouble::NoRanges),
            leave_delta.map(|_| bench::Trouble::LeaveDelta),
            lie.map(|lie| {
                bench::Trouble::Lie(match lie {
                    Lie::Missing => "missing",
                    Lie::Everything => "everything",
                    Lie::Unknown => "unknown",
                })
            }),
        ];
        let mut asked = asked.into_iter().flatten();
        let (Some(trouble), None) = (asked.next(), asked.next()) else {
            return Err(wrong(
                "exactly one of fault, status, delay, late, drop, expire, ask, fill, partition, restart, cut, no_ranges, \
                 leave_delta and lie says what happens",
            ));
        };
        let times = match self.times {
            None => Some(1),
            Some(0) => None,
            times => times,
        };
        Ok(bench::Rule {
            method: self.method,
            trouble,
            after: self.after.unwrap_or_default(),
            times,
            chance: self.chance.unwrap_or(1.0),
        })
    }
}
