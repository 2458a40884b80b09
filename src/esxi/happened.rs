//! What happened on a host: its events and its newest tasks, filtered here, and awaited for a bounded time.
//!
//! A standalone host refuses collectors of tasks and keeps a short list of the newest instead. Filters other than the time are applied
//! here, so that they mean the same on every release. Specification: vSphere Web Services API, `EventManager.QueryEvents`,
//! `TaskManager.recentTask`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::fault::VimFault;
use super::host::Host;
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::HostObject;
use super::property::{From, Object, Query, Traversal};
use super::soap::{Call, Method};
use super::vm_list::text;
use super::watch::{Awaited, Watch};

/// How long a wait goes on before it looks by itself: not every host tells of its newest event.
const LOOK: Duration = Duration::from_secs(5);
/// The same for tasks: the list does not change when one of them ends.
const LOOK_AT_TASKS: Duration = Duration::from_secs(1);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number: later events have greater ones.
    pub key: i64,
    /// The name of its type, such as `VmPoweredOnEvent`, or the id of an event of no type of its own.
    pub kind: String,
    pub time: Option<OffsetDateTime>,
    pub user: Option<String>,
    /// The machine that it is about.
    pub vm: Option<String>,
    /// That one by the host's own name for it.
    pub(super) machine: Option<MoRef>,
    pub message: String,
}

/// Which events are wanted; what is not given selects all.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Names of types; one ending in `*` stands for all that begin so.
    pub kinds: Vec<String>,
    pub user: Option<String>,
    pub vm: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
    /// Only those of a greater number.
    pub after: Option<i64>,
}

/// One task.
#[derive(Debug, Clone)]
pub struct TaskRow {
    pub key: String,
    /// What is done, such as `VirtualMachine.powerOn`.
    pub operation: String,
    /// The name of the object that it works on.
    pub entity: Option<String>,
    /// The type of that object.
    pub entity_kind: Option<String>,
    /// `queued`, `running`, `success` or `error`.
    pub state: String,
    pub progress: Option<u8>,
    pub user: Option<String>,
    pub queued: Option<OffsetDateTime>,
    pub completed: Option<OffsetDateTime>,
    pub error: Option<VimFault>,
}

impl TaskRow {
    /// When it last became another.
    pub fn changed(&self) -> Option<OffsetDateTime> {
        self.completed.or(self.queued)
    }
}

/// Which tasks are wanted; what is not given selects all.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    pub operations: Vec<String>,
    pub user: Option<String>,
    pub entity: Option<String>,
    pub state: Option<String>,
    /// Only those that began or ended later.
    pub since: Option<OffsetDateTime>,
}

/// Whether a name is one of these; none selects all.
fn one_of(names: &[String], name: &str) -> bool {
    let matches = |wanted: &String| match wanted.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => wanted == name,
    };
    names.is_empty() || names.iter().any(matches)
}

impl EventFilter {
    fn selects(&self, event: &EventRow) -> bool {
        one_of(&self.kinds, &event.kind)
            && self.user.as_ref().is_none_or(|user| event.user.as_ref() == Some(user))
            && self.vm.as_ref().is_none_or(|vm| event.vm.as_ref() == Some(vm))
            && self.after.is_none_or(|after| event.key > after)
            && self.since.is_none_or(|since| event.time.is_none_or(|time| time >= since))
            && self.until.is_none_or(|until| event.time.is_none_or(|time| time <= until))
    }
}

impl TaskFilter {
    fn selects(&self, task: &TaskRow) -> bool {
        one_of(&self.operations, &task.operation)
            && self.user.as_ref().is_none_or(|user| task.user.as_ref() == Some(user))
            && self.entity.as_ref().is_none_or(|entity| task.entity.as_ref() == Some(entity))
            && self.state.as_ref().is_none_or(|state| task.state == *state)
            && self.since.is_none_or(|since| task.changed().is_some_and(|changed| changed > since))
    }
}

/// One who looks until something is found or the time is over, and waits for a change of a property in between.
struct Looking {
    began: Instant,
    wait: Duration,
    look: Duration,
    watch: Option<Watch>,
}

impl Looking {
    fn new(wait: Duration, look: Duration) -> Self {
        Self { began: Instant::now(), wait, look, watch: None }
    }

    /// Waits for what makes another look worth while; false where the time is over.
    async fn again(
        &mut self,
        host: &Host,
        object: &MoRef,
        kind: &'static str,
        paths: &'static [&'static str],
    ) -> Result<bool, Error> {
        let left = self.wait.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        let awaited = || Awaited { object: object.clone(), kind, paths, until: Box::new(|_| false) };
        let watch = self.watch.get_or_insert_with(|| host.monitor.watch(awaited()));
        match tokio::time::timeout(left.min(self.look), watch.next()).await {
            // Its first state, a change, or nothing: in each case it is looked again.
            Ok(Ok(_)) | Err(_) => {}
            // A host that does not let this be watched is looked at from time to time.
            Ok(Err(error)) if error.vim().is_some() => tokio::time::sleep(left.min(self.look)).await,
            Ok(Err(error)) => return Err(error),
        }
        Ok(true)
    }
}

/// A host's newest event at a moment: what has a greater number, or a later time where the host counts anew, came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewestEvent {
    key: i64,
    time: Option<OffsetDateTime>,
}

/// That a machine was turned on.
pub(super) struct Started {
    pub by: Option<String>,
}

impl NewestEvent {
    fn precedes(&self, event: &EventRow) -> bool {
        event.key > self.key || self.time.zip(event.time).is_some_and(|(then, time)| time > then)
    }
}

impl Host {
    /// The newest event of the host; `None` where it has none, or does not tell.
    pub(super) async fn newest_event(&self) -> Result<Option<NewestEvent>, Error> {
        let Ok(manager) = self.part("EventManager", |content| content.event_manager.as_deref()) else {
            return Ok(None);
        };
        let asked = self.link.retrieve(&Query::object(&manager, "EventManager", &["latestEvent"])).await;
        match asked {
            Ok(objects) => {
                let newest = objects.iter().find_map(|object| object.get("latestEvent"));
                Ok(newest.and_then(event).map(|newest| NewestEvent { key: newest.key, time: newest.time }))
            }
            Err(error) if error.vim().is_some() => {
                tracing::debug!(host = self.name(), "the newest event is not told: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a machine that was off was turned on since then: it runs, or an event says so. A host that tells no events is believed by
    /// the machine's state alone.
    pub(super) async fn started_since(
        &self,
        vm: &MoRef,
        newest: Option<&NewestEvent>,
    ) -> Result<Option<Started>, Error> {
        const STARTS: &[&str] = &["VmStartingEvent", "VmPoweredOnEvent", "VmResumingEvent", "VmResettingEvent"];
        let objects = self.link.retrieve(&Query::object(vm, "VirtualMachine", &["runtime.powerState"])).await?;
        let state = objects.iter().find_map(|object| object.text("runtime.powerState"));
        let runs = state.is_some_and(|state| state.trim() != "poweredOff");
        let starts = async {
            let Some(newest) = newest else { return Ok(None) };
            let manager = self.part("EventManager", |content| content.event_manager.as_deref())?;
            let filter = EventFilter { since: newest.time, ..EventFilter::default() };
            let events = self.query_events(&manager, &filter).await?;
            let of_it = |event: &&EventRow| event.machine.as_ref() == Some(vm) && newest.precedes(event);
            let mut starts = events.iter().filter(of_it).filter(|event| STARTS.contains(&event.kind.as_str()));
            Ok::<_, Error>(starts.next().map(|event| Started { by: event.user.clone() }))
        };
        match starts.await {
            Ok(Some(started)) => Ok(Some(started)),
            Ok(None) => Ok(runs.then_some(Started { by: None })),
            Err(error @ Error::Vim { .. }) => {
                tracing::debug!(host = self.name(), "the events are not told: {error}");
                Ok(runs.then_some(Started { by: None }))
            }
            Err(error) => Err(error),
        }
    }

    /// The events that the host remembers, oldest first: at most the newest thousand or so, as many as it tells at once. With `wait`
    /// it waits until one is there, at most so long; none coming is no error.
    pub async fn events(
        &self,
        _host: &Checked<HostObject>,
        filter: &EventFilter,
        wait: Duration,
    ) -> Result<Vec<EventRow>, Error> {
        let manager = self.part("EventManager", |content| content.event_manager.as_deref())?;
        let mut looking = Looking::new(wait, LOOK);
        loop {
            let mut events = self.query_events(&manager, filter).await?;
            events.retain(|event| filter.selects(event));
            events.sort_by_key(|event| event.key);
            if !events.is_empty() || !looking.again(self, &manager, "EventManager", &["latestEvent"]).await? {
                return Ok(events);
            }
        }
    }

    async fn query_events(&self, manager: &MoRef, filter: &EventFilter) -> Result<Vec<EventRow>, Error> {
        let mut spec = Element::new("filter");
        if self.is_vcenter() {
            let entity = Element::new("entity")
                .with(self.link.contract().content.top().element("entity"))
                .with(Element::leaf("recursion", "all"));
            spec = spec.with(entity);
        }
        let bound = |name: &str, at: Option<OffsetDateTime>| {
            at.and_then(|at| at.format(&Rfc3339).ok()).map(|text| Element::leaf(name, text))
        };
        let bounds: Vec<Element> =
            bound("beginTime", filter.since).into_iter().chain(bound("endTime", filter.until)).collect();
        if !bounds.is_empty() {
            spec = spec.with(Element::new("time").with_all(bounds));
        }
        let answer = self.link.call(&Call::new(manager, Method::QueryEvents).with(spec)).await?;
        let mut events: Vec<EventRow> = answer.all("returnval").filter_map(event).collect();
        if let Some(all) = self.all_by_reference().await? {
            for event in &mut events {
                if let Some(called) = event.machine.as_ref().and_then(|machine| all.get(machine)) {
                    event.vm = Some(called.clone());
                }
            }
        }
        Ok(events)
    }

    /// The newest tasks of the host, oldest first: those under way and the last that ended. With `wait` it waits until one is there.
    pub async fn tasks(
        &self,
        _host: &Checked<HostObject>,
        filter: &TaskFilter,
        wait: Duration,
    ) -> Result<Vec<TaskRow>, Error> {
        let manager = self.part("TaskManager", |content| content.task_manager.as_deref())?;
        let step = Traversal { name: "recent", kind: "TaskManager", path: "recentTask", then: &[] };
        let query = Query {
            properties: vec![("Task", vec!["info"])],
            from: vec![From { object: manager.clone(), skip: true, steps: vec![step] }],
        };
        let mut looking = Looking::new(wait, LOOK_AT_TASKS);
        loop {
            let objects = self.link.retrieve(&query).await?;
            let mut tasks: Vec<TaskRow> = match self.all_by_reference().await? {
                None => objects.iter().filter_map(task).collect(),
                Some(all) => objects.iter().filter_map(|object| task_in(object, &all)).collect(),
            };
            tasks.retain(|task| filter.selects(task));
            tasks.sort_by_key(|task| task.queued);
            if !tasks.is_empty() || !looking.again(self, &manager, "TaskManager", &["recentTask"]).await? {
                return Ok(tasks);
            }
        }
    }

    fn part(
        &self,
        kind: &'static str,
        of: impl Fn(&super::content::ServiceContent) -> Option<&str>,
    ) -> Result<MoRef, Error> {
        let contract = self.link.contract();
        of(&contract.content)
            .map(|id| MoRef::new(kind, id))
            .ok_or_else(|| Error::Invalid { reason: format!("host {} has no {kind}", self.name()), hint: None })
    }
}

fn moment(element: &Element, path: &str) -> Option<OffsetDateTime> {
    text(element, path).and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
}

fn event(event: &Element) -> Option<EventRow> {
    let kind = event.xsi_type.clone().unwrap_or_default();
    let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
    // An event without a type of its own says by its id what it is.
    let kind = match text(event, "eventTypeId") {
        Some(id) if matches!(kind.as_str(), "EventEx" | "ExtendedEvent") => id,
        _ => kind,
    };
    Some(EventRow {
        key: event.text_at("key")?.trim().parse().ok()?,
        kind,
        time: moment(event, "createdTime"),
        user: text(event, "userName"),
        vm: text(event, "vm.name").map(|name| unescape(&name)),
        machine: event.at("vm.vm").and_then(MoRef::read),
        message: text(event, "fullFormattedMessage").or_else(|| text(event, "message")).unwrap_or_default(),
    })
}

/// A task on an object of the datacenter, by what that is called.
fn task_in(object: &Object, all: &HashMap<MoRef, String>) -> Option<TaskRow> {
    let entity = object.get("info")?.child("entity").and_then(MoRef::read)?;
    let called = all.get(&entity)?.clone();
    task(object).map(|task| TaskRow { entity: Some(called), ..task })
}

fn task(object: &Object) -> Option<TaskRow> {
    let info = object.get("info")?;
    Some(TaskRow {
        key: text(info, "key").unwrap_or_else(|| object.moref.id.clone()),
        operation: text(info, "descriptionId").or_else(|| text(info, "name")).unwrap_or_default(),
        entity: text(info, "entityName").map(|name| unescape(&name)),
        entity_kind: info.child("entity").and_then(MoRef::read).map(|entity| entity.kind),
        state: text(info, "state").unwrap_or_default(),
        progress: text(info, "progress").and_then(|text| text.parse().ok()),
        user: text(info, "reason.userName"),
        queued: moment(info, "queueTime"),
        completed: moment(info, "completeTime"),
        error: info.child("error").map(VimFault::from_localized),
    })
}
