//! What the host tells that happened: its newest events, and the collectors by which clients page through them.
//!
//! The events of a standalone host: it has no cluster, and keeps a bounded number. Collectors live in a session, like views.

use std::collections::{HashMap, VecDeque};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{COMPUTE_RESOURCE, DATACENTER, HOST, HOST_NAME};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::schema::schema;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

pub const MANAGER: Ref = Ref::fixed("EventManager", "ha-eventmgr");

/// Events that are remembered, and that one question brings.
const HISTORY: usize = 5000;
const MOST: usize = 1000;
/// Collectors at once, as the host says in `maxCollector`.
pub const COLLECTORS: i32 = 32;
const PAGE: usize = 10;

/// One event.
#[derive(Debug)]
struct Event {
    key: i32,
    chain: i32,
    kind: &'static str,
    at: OffsetDateTime,
    user: String,
    vm: Option<(Ref, String)>,
    message: String,
    more: Vec<(&'static str, Value)>,
}

/// A client's place among the events.
#[derive(Debug)]
struct Collector {
    session: String,
    filter: Data,
    page: usize,
    /// What `ReadNextEvents` begins behind, and `ReadPreviousEvents` before.
    at: i32,
}

/// All events, oldest first, and the collectors on them.
#[derive(Debug, Default)]
pub struct Events {
    all: VecDeque<Event>,
    last: i32,
    collectors: HashMap<String, Collector>,
}

impl Events {
    pub fn knows(&self, id: &str) -> bool {
        self.collectors.contains_key(id)
    }

    /// Drops the collectors of a session that has ended.
    pub fn end_session(&mut self, key: &str) {
        self.collectors.retain(|_, collector| collector.session != key);
    }
}

/// Notes that something happened. Who did it is the user of the machine's task, where none is named.
pub fn note(world: &mut World, kind: &'static str, user: &str, vm: Option<(Ref, String)>, message: String) {
    note_with(world, kind, user, vm, message, Vec::new());
}

pub fn note_with(
    world: &mut World,
    kind: &'static str,
    user: &str,
    vm: Option<(Ref, String)>,
    message: String,
    more: Vec<(&'static str, Value)>,
) {
    let events = &mut world.events;
    events.last = events.last.saturating_add(1);
    if events.all.len() >= HISTORY {
        events.all.pop_front();
    }
    let at = OffsetDateTime::now_utc();
    let (key, chain) = (events.last, events.last);
    events.all.push_back(Event { key, chain, kind, at, user: user.to_owned(), vm, message, more });
    let collectors: Vec<String> = events.collectors.keys().cloned().collect();
    world.touch(&MANAGER);
    collectors.into_iter().for_each(|id| world.touch(&Ref::new("EventHistoryCollector", id)));
}

/// A task, as the event of what it has done tells of it.
pub struct Doing {
    pub method: String,
    pub user: String,
    /// All events of one task have its number.
    pub chain: i32,
    pub spec: Option<Data>,
}

/// Notes what a method's task has done to a machine.
pub fn of_task(world: &mut World, doing: Doing, vm: Ref, name: String) {
    let (kind, what): (_, &str) = match doing.method.as_str() {
        "CreateVM_Task" | "CreateChildVM_Task" => ("VmCreatedEvent", "was created"),
        "RegisterVM_Task" | "RegisterChildVM_Task" => ("VmRegisteredEvent", "was registered"),
        "Destroy_Task" => ("VmRemovedEvent", "was removed"),
        "PowerOnVM_Task" => ("VmPoweredOnEvent", "is powered on"),
        "PowerOffVM_Task" => ("VmPoweredOffEvent", "is powered off"),
        "SuspendVM_Task" => ("VmSuspendedEvent", "is suspended"),
        "ResetVM_Task" => ("VmResettingEvent", "is reset"),
        "ReconfigVM_Task" => ("VmReconfiguredEvent", "was reconfigured"),
        _ => return,
    };
    let more = match kind {
        "VmReconfiguredEvent" => {
            let spec = doing.spec.unwrap_or_else(|| Data::new("VirtualMachineConfigSpec"));
            vec![("configSpec", spec.into())]
        }
        _ => Vec::new(),
    };
    let message = format!("{name} on {HOST_NAME} in ha-datacenter {what}");
    note_with(world, kind, &doing.user, Some((vm, name)), message, more);
    if let Some(event) = world.events.all.back_mut() {
        event.chain = doing.chain;
    }
}

impl Event {
    fn render(&self) -> Data {
        let named =
            |kind, field, object: Ref, name: &str| Data::new(kind).with("name", name.to_owned()).with(field, object);
        let mut data = Data::new(self.kind)
            .with("key", self.key)
            .with("chainId", self.chain)
            .with("createdTime", self.at)
            .with("userName", &self.user)
            .with("datacenter", named("DatacenterEventArgument", "datacenter", DATACENTER, "ha-datacenter"))
            .with(
                "computeResource",
                named("ComputeResourceEventArgument", "computeResource", COMPUTE_RESOURCE, HOST_NAME),
            )
            .with("host", named("HostEventArgument", "host", HOST, HOST_NAME))
            .with("fullFormattedMessage", &self.message);
        if let Some((vm, name)) = &self.vm {
            data = data.with("vm", named("VmEventArgument", "vm", vm.clone(), name)).with("template", false);
        }
        self.more.iter().cloned().fold(data, |data, (name, value)| data.with(name, value))
    }

    fn matches(&self, filter: &Data) -> bool {
        let types: Vec<&str> = filter.texts("type").chain(filter.texts("eventTypeId")).collect();
        let is = |wanted: &&str| schema().is_a(self.kind, wanted.rsplit('.').next().unwrap_or(wanted));
        let by_time = filter.data("time").is_none_or(|time| {
            let bound = |name| match time.get(name) {
                Some(Value::Time(at)) => Some(*at),
                _ => None,
            };
            bound("beginTime").is_none_or(|begin| self.at >= begin) && bound("endTime").is_none_or(|end| self.at <= end)
        });
        let by_user = filter.data("userName").is_none_or(|users| {
            let mut named = users.texts("userList").peekable();
            named.peek().is_none() || named.any(|user| user == self.user)
        });
        let by_entity = filter.data("entity").is_none_or(|by| {
            let wanted = by.reference("entity").map(|entity| entity.id.as_ref());
            let own = self.vm.as_ref().map_or("ha-host", |(vm, _)| vm.id.as_ref());
            // Everything of a standalone host lies below its folders, its compute resource and itself.
            let above = wanted.is_some_and(|id| id.starts_with("ha-")) && by.text("recursion") != Some("self");
            wanted == Some(own) || above
        });
        (types.is_empty() || types.iter().any(is)) && by_time && by_user && by_entity
    }
}

/// The newest events that the filter selects, oldest first.
fn selected<'a>(world: &'a World, filter: &Data, most: usize) -> Vec<&'a Event> {
    let most = filter.number("maxCount").and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST).min(most);
    let mut found: Vec<&Event> =
        world.events.all.iter().rev().filter(|event| event.matches(filter)).take(most).collect();
    found.reverse();
    found
}

fn rendered(events: Vec<&Event>) -> Value {
    events.into_iter().map(Event::render).collect::<Vec<_>>().into()
}

pub fn property(world: &World, object: &Ref, property: &str) -> Option<Value> {
    if object.kind == "EventManager" {
        return match property {
            "maxCollector" => Some(COLLECTORS.into()),
            "latestEvent" => world.events.all.back().map(|event| event.render().into()),
            "description" => {
                let category = ["info", "warning", "error", "user"].map(|key| {
                    Data::new("ElementDescription").with("label", key).with("summary", key).with("key", key)
                });
                let events = schema().derived("Event").map(|kind| {
                    let format = |data: Data, name| data.with(name, "{message}");
                    ["formatOnDatacenter", "formatOnComputeResource", "formatOnHost", "formatOnVm", "fullFormat"]
                        .into_iter()
                        .fold(
                            Data::new("EventDescriptionEventDetail").with("key", kind).with("category", "info"),
                            format,
                        )
                });
                let info: Vec<Data> = events.collect();
                Some(Data::new("EventDescription").with("category", category.to_vec()).with("eventInfo", info).into())
            }
            _ => None,
        };
    }
    let collector = world.events.collectors.get(object.id.as_ref())?;
    match property {
        "filter" => Some(collector.filter.clone().into()),
        "latestPage" => {
            let mut page = selected(world, &collector.filter, collector.page);
            page.reverse();
            Some(rendered(page))
        }
        "initialized" => Some(true.into()),
        _ => None,
    }
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "QueryEvents" => Ok(Reply::Value(rendered(selected(world, call.data("filter")?, MOST)))),
        "CreateCollectorForEvents" => {
            let session = call.session()?.to_owned();
            if world.events.collectors.len() >= usize::try_from(COLLECTORS).unwrap_or(0) {
                return Err(VimFault::new("InvalidState", "There are as many collectors as the host takes."));
            }
            let id = format!("session[{session}]{}", Uuid::new_v4());
            let filter = call.data("filter")?.clone();
            let at = world.events.last;
            world.events.collectors.insert(id.clone(), Collector { session, filter, page: PAGE, at });
            Ok(Ref::new("EventHistoryCollector", id).into())
        }
        "LogUserEvent" => {
            let entity = call
                .object(world, "entity", "ManagedEntity")?
                .ok_or_else(|| VimFault::invalid_argument("entity", "it is required"))?;
            let user =
                call.session.as_deref().and_then(|key| world.sessions.by_key(key)).map(|session| session.user.clone());
            let name = super::name(world, &entity).unwrap_or_default();
            let message = call.text("msg")?.to_owned();
            let argument = Data::new("ManagedEntityEventArgument").with("name", name).with("entity", entity);
            let more = vec![("message", message.clone().into()), ("entity", argument.into())];
            let (user, full) = (user.unwrap_or_default(), format!("User logged event: {message}"));
            note_with(world, "GeneralUserEvent", &user, None, full, more);
            Ok(Reply::Nothing)
        }
        "RetrieveArgumentDescription" => Ok(Reply::Value(Value::List(Vec::new()))),
        "PostEvent" => Err(VimFault::not_supported("events are posted by extensions, of which a host has none")),
        method if call.this.kind == "EventHistoryCollector" => collect(world, call, method),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn collect(world: &mut World, call: &Call, method: &str) -> Answer {
    let session = call.session()?.to_owned();
    let id = call.this.id.to_string();
    let last = world.events.last;
    let own = world.events.collectors.get(&id).filter(|collector| collector.session == session);
    let (filter, at) = own.map(|own| (own.filter.clone(), own.at)).ok_or_else(|| VimFault::not_found(&call.this))?;
    let many = || match call.args.number("maxCount") {
        Some(count) if count > 0 => Ok(usize::try_from(count).unwrap_or(MOST).min(MOST)),
        _ => Err(VimFault::invalid_argument("maxCount", "it must be greater than zero")),
    };
    let place = |world: &mut World, at: i32| {
        if let Some(own) = world.events.collectors.get_mut(&id) {
            own.at = at;
        }
    };
    match method {
        "ReadNextEvents" => {
            let matching = world.events.all.iter().filter(|event| event.key > at && event.matches(&filter));
            let page: Vec<&Event> = matching.take(many()?).collect();
            let to = page.last().map_or(at, |event| event.key);
            let page = rendered(page);
            place(world, to);
            Ok(Reply::Value(page))
        }
        "ReadPreviousEvents" => {
            let matching = world.events.all.iter().rev().filter(|event| event.key <= at && event.matches(&filter));
            let page: Vec<&Event> = matching.take(many()?).collect();
            let to = page.last().map_or(0, |event| event.key - 1);
            let page = rendered(page);
            place(world, to);
            Ok(Reply::Value(page))
        }
        "RewindCollector" => {
            place(world, 0);
            Ok(Reply::Nothing)
        }
        "ResetCollector" => {
            place(world, last);
            Ok(Reply::Nothing)
        }
        "SetCollectorPageSize" => {
            let many = many()?;
            if let Some(own) = world.events.collectors.get_mut(&id) {
                own.page = many;
            }
            Ok(Reply::Nothing)
        }
        "DestroyCollector" => {
            world.events.collectors.remove(&id);
            world.forget(&call.this);
            Ok(Reply::Nothing)
        }
        other => Err(VimFault::not_implemented(other)),
    }
}
