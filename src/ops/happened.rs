//! Operations that tell what happened on a host: events and tasks, filtered, and awaited for a bounded time.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::repository::When;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;
use crate::units::Span;

const READS: &[Touch] = &[touch("host", "read", Selector::Argument("host")), touch("vm", "read", Selector::Filtered)];

/// The longest that one call waits.
const LONGEST: Duration = Duration::from_secs(600);

/// Lists what happened on the host, the oldest first: at most the newest thousand events or so that it remembers.
///
/// With `wait` the call waits until there is an event that is asked for, at most so long, and gives an empty list where none came: a
/// loop with `after` follows them live. Events of machines that may not be read are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// The host.
    pub host: Target<kind::Host>,
    /// Names of types, such as `VmPoweredOnEvent`; one that ends in `*` stands for all that begin so. Default: all.
    pub types: Option<Vec<String>>,
    /// Only those that this user caused.
    pub user: Option<String>,
    /// Only those of the machine of that name.
    pub vm: Option<String>,
    /// Only those at that time or later: a time in RFC 3339, or how long ago, such as `1 h`.
    pub since: Option<When>,
    /// Only those at that time or earlier, written as `since`.
    pub before: Option<When>,
    /// Only those whose `key` is greater: those that came after one that is known.
    pub after: Option<i64>,
    /// How long to wait for one, at most 10 min. Default: not at all.
    pub wait: Option<Span>,
}

/// One event.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostEvent")]
pub struct Event {
    /// Its number: later events have greater ones.
    pub key: i64,
    /// When it happened, in UTC; nil where the host does not say.
    pub time: Option<String>,
    /// The name of its type, such as `VmPoweredOnEvent`.
    pub r#type: String,
    /// Who caused it.
    pub user: Option<String>,
    /// The machine that it is about.
    pub vm: Option<String>,
    /// What the host says of it.
    pub message: String,
}

/// A time as it is told, in UTC and with its fraction, which tells what came later from what is known.
fn told(time: OffsetDateTime) -> Option<String> {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok()
}

fn waited(wait: Option<Span>, pass: &Pass<'_>) -> Result<Duration, Fault> {
    match wait {
        None => Ok(Duration::ZERO),
        Some(wait) if wait.0 <= LONGEST => Ok(pass.time(wait.0)),
        Some(wait) => Err(Fault::new("usage.argument", format!("wait: {wait} is longer than {}", Span(LONGEST)))
            .hint("wait again, with after, for what comes later")),
    }
}

impl Operation for Events {
    const NAME: &'static str = "host.events";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "events" };
    const TOUCHES: &'static [Touch] = READS;
    const USAGE: &'static str = "local last = 0\nfor _, event in host:events({ types = { \"Vm*\" }, since = \"1 h\" }) do\n  print(event.time, event.type, event.vm, event.user)\n  last = event.key\nend\nlocal new = host:events({ after = last, wait = \"1 s\" })\nprint(#new)";

    type Bound = BoundHost;
    type Output = Vec<Event>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        let bound = binder.host_for(&self.host, "read")?;
        binder.filtered("vm", "read")?;
        Ok(bound)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Vec<Event>, Fault> {
        let filter = esxi::EventFilter {
            kinds: self.types.unwrap_or_default(),
            user: self.user,
            vm: self.vm,
            since: self.since.map(|when| when.0),
            until: self.before.map(|when| when.0),
            after: self.after,
        };
        let wait = waited(self.wait, pass)?;
        let events = bound.host.client.events(&bound.system, &filter, wait).await?;
        let readable = events.into_iter().filter(|event| event.vm.as_ref().is_none_or(|vm| pass.may_read("vm", vm)));
        let row = |event: esxi::EventRow| Event {
            key: event.key,
            time: event.time.and_then(told),
            r#type: event.kind,
            user: event.user,
            vm: event.vm,
            message: event.message,
        };
        Ok(readable.map(row).collect())
    }
}

/// Lists the host's newest tasks, the oldest first: those under way, and the last that ended.
///
/// A standalone host keeps a short list and refuses longer searches. With `wait` the call waits until there is a task that is asked for,
/// at most so long; with `since` that is one that began or ended later. Tasks on machines that may not be read are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    /// The host.
    pub host: Target<kind::Host>,
    /// What is done, such as `VirtualMachine.powerOn`; one that ends in `*` stands for all that begin so. Default: all.
    pub operations: Option<Vec<String>>,
    /// Only those that this user began.
    pub user: Option<String>,
    /// Only those on the object of that name.
    pub entity: Option<String>,
    /// Only those in this state.
    #[schemars(extend("enum" = ["queued", "running", "success", "error"]))]
    pub state: Option<String>,
    /// Only those that began or ended later: a time in RFC 3339, or how long ago, such as `10 min`.
    pub since: Option<When>,
    /// How long to wait for one, at most 10 min. Default: not at all.
    pub wait: Option<Span>,
}

/// One task.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostTask")]
pub struct Task {
    /// The host's name for it.
    pub key: String,
    /// What is done, such as `VirtualMachine.powerOn`.
    pub operation: String,
    /// The name of the object that it works on.
    pub entity: Option<String>,
    /// How it stands.
    #[schemars(extend("enum" = ["queued", "running", "success", "error"]))]
    pub state: String,
    /// How far it is, 0 to 100, where the host says so.
    pub progress: Option<u8>,
    /// Who began it.
    pub user: Option<String>,
    /// When it was begun, in UTC.
    pub queued: Option<String>,
    /// When it ended, in UTC.
    pub completed: Option<String>,
    /// When it last became another: `since` with this goes on from here.
    pub changed: Option<String>,
    /// The kind of its error, such as `esxi.no_disk_space`.
    pub error: Option<String>,
}

impl Operation for Tasks {
    const NAME: &'static str = "host.tasks";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "tasks" };
    const TOUCHES: &'static [Touch] = READS;
    const USAGE: &'static str = "for _, task in host:tasks({ operations = { \"VirtualMachine.*\" } }) do\n  print(task.operation, task.entity, task.state)\nend";

    type Bound = BoundHost;
    type Output = Vec<Task>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        let bound = binder.host_for(&self.host, "read")?;
        binder.filtered("vm", "read")?;
        Ok(bound)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Vec<Task>, Fault> {
        if let Some(state) =
            self.state.as_deref().filter(|state| !["queued", "running", "success", "error"].contains(state))
        {
            return Err(Fault::new("usage.argument", format!("state: {state:?} is none"))
                .hint("queued, running, success or error"));
        }
        let filter = esxi::TaskFilter {
            operations: self.operations.unwrap_or_default(),
            user: self.user,
            entity: self.entity,
            state: self.state,
            since: self.since.map(|when| when.0),
        };
        let wait = waited(self.wait, pass)?;
        let tasks = bound.host.client.tasks(&bound.system, &filter, wait).await?;
        let may_read = |task: &esxi::TaskRow| match (task.entity_kind.as_deref(), &task.entity) {
            (Some("VirtualMachine"), name) => pass.may_read("vm", name.as_deref().unwrap_or_default()),
            _ => true,
        };
        let row = |task: esxi::TaskRow| Task {
            changed: task.changed().and_then(told),
            key: task.key,
            operation: task.operation,
            entity: task.entity,
            state: task.state,
            progress: task.progress,
            user: task.user,
            queued: task.queued.and_then(told),
            completed: task.completed.and_then(told),
            error: task.error.map(|fault| format!("esxi.{}", fault.kind())),
        };
        Ok(tasks.into_iter().filter(may_read).map(row).collect())
    }
}
