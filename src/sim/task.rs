//! Tasks: what a `…_Task` method leaves running, its progress, its result or its fault.
//!
//! The work itself belongs to whoever begins the task: a change of the world in one step ([`change`]), or work on files outside the
//! world's lock ([`work`]).

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;

use time::OffsetDateTime;

use super::call::{Answer, Call, Reply};
use super::datastore::vmdk::VmdkError;
use super::esx::events;
use super::fault::VimFault;
use super::server::Host;
use super::value::{Data, Ref, Value};
use super::vm::question::{self, Asked};
use super::world::World;

/// Finished tasks that are remembered.
const HISTORY: usize = 1000;
/// Of these, `recentTask` lists so many.
const RECENT: usize = 20;

/// One task.
#[derive(Debug)]
pub struct Task {
    object: Ref,
    entity: Ref,
    entity_name: String,
    description: String,
    name: String,
    user: String,
    chain: i32,
    queued: OffsetDateTime,
    completed: Option<OffsetDateTime>,
    progress: Option<i32>,
    outcome: Option<Result<Option<Value>, VimFault>>,
    cancelable: bool,
    cancelled: bool,
    /// What a machine was asked to become, which the event of it tells.
    spec: Option<Data>,
}

/// All tasks, oldest first.
#[derive(Debug, Default)]
pub struct Tasks {
    all: VecDeque<Task>,
    begun: u64,
    /// Forgotten tasks, the agent having started anew, whose work goes on all the same.
    detached: HashSet<Ref>,
}

impl Tasks {
    pub fn get(&self, id: &str) -> Option<&Task> {
        self.all.iter().rev().find(|task| task.object.id == id)
    }

    fn get_mut(&mut self, id: &Ref) -> Option<&mut Task> {
        self.all.iter_mut().rev().find(|task| task.object == *id)
    }

    /// The task that works on this object now.
    pub fn running_on(&self, entity: &Ref) -> Option<&Ref> {
        self.all.iter().find(|task| task.entity == *entity && task.outcome.is_none()).map(|task| &task.object)
    }

    fn recent(&self, entity: Option<&Ref>) -> Vec<Ref> {
        let wanted = self.all.iter().rev().filter(|task| entity.is_none_or(|entity| task.entity == *entity));
        let mut recent: Vec<Ref> = wanted.take(RECENT).map(|task| task.object.clone()).collect();
        recent.reverse();
        recent
    }
}

/// The recent tasks on one object, as `ManagedEntity.recentTask` has them.
pub fn recent(world: &World, entity: &Ref) -> Vec<Ref> {
    world.tasks.recent(Some(entity))
}

/// Begins a task whose whole work is one change of the world.
pub fn change(
    world: &mut World,
    call: &Call,
    entity: &Ref,
    work: impl FnOnce(&Arc<Host>, &mut World) -> Result<Option<Value>, VimFault> + Send + 'static,
) -> Answer {
    asking(world, call, entity, |_| Ok(None), |host, world, _| work(host, world))
}

/// The same where the machine may ask something first: `ask` says what, and `work` is told the number of the choice. While the question
/// waits the task runs on. A question that somebody asked for comes before it; an answer that refuses ends the task.
pub fn asking(
    world: &mut World,
    call: &Call,
    entity: &Ref,
    ask: impl FnOnce(&World) -> Result<Option<Asked>, VimFault> + Send + 'static,
    work: impl FnOnce(&Arc<Host>, &mut World, Option<usize>) -> Result<Option<Value>, VimFault> + Send + 'static,
) -> Answer {
    let task = begin(world, call, entity, false);
    let host = Arc::clone(&call.host);
    let (running, entity, topic) = (task.clone(), entity.clone(), call.ask);
    tokio::spawn(async move {
        tokio::time::sleep(host.options.task_delay).await;
        let canned = |world: &World| Some(Asked::canned(topic?, world.vm(&entity).ok()?));
        let canned = canned(&host.world());
        let answered = match answered(&host, &entity, canned).await {
            Ok(_) => {
                let asked = ask(&host.world());
                match asked {
                    Ok(asked) => answered(&host, &entity, asked).await,
                    Err(fault) => Err(fault),
                }
            }
            refused => refused,
        };
        let mut world = host.world();
        if world.tasks.get(&running.id).is_none() && !world.tasks.detached.remove(&running) {
            return;
        }
        let outcome = answered.and_then(|choice| work(&host, &mut world, choice));
        finish(&mut world, &running, outcome);
        host.announce(world.tick());
    });
    Ok(Reply::Value(task.into()))
}

/// Puts a question, where there is one, and waits. Faults: the answer ends what was asked about.
async fn answered(host: &Arc<Host>, entity: &Ref, asked: Option<Asked>) -> Result<Option<usize>, VimFault> {
    let Some(asked) = asked else { return Ok(None) };
    let choice = question::ask(host, entity, asked.clone()).await?;
    if asked.topic().refuses(choice) { Err(asked.ended()) } else { Ok(Some(choice)) }
}

/// Begins a task that works outside the world's lock: on files, or over a while. It may be cancelled between its steps.
pub fn work<F>(world: &mut World, call: &Call, entity: &Ref, work: impl FnOnce(Arc<Host>, Ref) -> F) -> Answer
where
    F: Future<Output = Result<Option<Value>, VimFault>> + Send + 'static,
{
    let task = begin(world, call, entity, true);
    let host = Arc::clone(&call.host);
    let running = task.clone();
    let work = work(Arc::clone(&host), task.clone());
    tokio::spawn(async move {
        tokio::time::sleep(host.options.task_delay).await;
        let cancelled = host.world().tasks.get_mut(&running).is_some_and(|task| task.cancelled);
        let outcome = match cancelled {
            true => Err(VimFault::new("RequestCanceled", "The task was canceled by a user.")),
            false => work.await,
        };
        let mut world = host.world();
        finish(&mut world, &running, outcome);
        host.announce(world.tick());
    });
    Ok(Reply::Value(task.into()))
}

/// Begins a task that lasts until somebody [releases](release) its object: a lease.
pub fn hold(world: &mut World, call: &Call, entity: &Ref) -> Ref {
    begin(world, call, entity, false)
}

/// Ends a task that held an object.
pub fn release(world: &mut World, task: &Ref, outcome: Result<Option<Value>, VimFault>) {
    finish(world, task, outcome);
}

/// Notes a running task's progress. Errors: it was cancelled, or the agent was started anew and its work ends here.
pub fn progress(host: &Host, task: &Ref, percent: i32) -> Result<(), VmdkError> {
    let mut world = host.world();
    let detached = world.tasks.detached.contains(task);
    let Some(running) = world.tasks.get_mut(task) else {
        return if detached { Ok(()) } else { Err(VmdkError::Abandoned) };
    };
    running.progress = Some(percent.clamp(0, 100));
    let cancelled = running.cancelled;
    world.touch(task);
    host.announce(world.tick());
    if cancelled { Err(VmdkError::Canceled) } else { Ok(()) }
}

/// Forgets all tasks, as an agent that starts anew does. The work of those under way goes on where `finishes` says so; else what has not
/// begun never does, and what copies files stops where it is.
pub fn forget(world: &mut World, finishes: bool) {
    for task in std::mem::take(&mut world.tasks.all) {
        if task.outcome.is_none() {
            world.touch(&task.entity);
            if finishes {
                world.tasks.detached.insert(task.object.clone());
            }
        }
        world.forget(&task.object);
    }
}

/// What a host calls a method where it tells of its tasks: `powerOn`, `createVm`.
fn operation(method: &str) -> String {
    const OTHERS: &[(&str, &str)] = &[
        ("CreateVM_Task", "createVm"),
        ("PowerOffVM_Task", "powerOff"),
        ("PowerOnVM_Task", "powerOn"),
        ("ReconfigVM_Task", "reconfigure"),
        ("RegisterVM_Task", "registerVm"),
        ("ResetVM_Task", "reset"),
        ("SuspendVM_Task", "suspend"),
    ];
    if let Some((_, word)) = OTHERS.iter().find(|(own, _)| *own == method) {
        return (*word).to_owned();
    }
    let verb = method.trim_end_matches("_Task");
    let first = verb.chars().next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(verb.chars().skip(1)).collect()
}

fn begin(world: &mut World, call: &Call, entity: &Ref, cancelable: bool) -> Ref {
    world.tasks.begun += 1;
    let description = format!("{}.{}", call.this.kind, operation(call.method));
    let number = world.tasks.begun;
    let object = Ref::new("Task", format!("haTask-{}-vim.{description}-{number}", entity.id));
    let session = call.session.as_deref().and_then(|key| world.sessions.by_key(key));
    let task = Task {
        object: object.clone(),
        entity: entity.clone(),
        entity_name: super::esx::name(world, entity).unwrap_or_default(),
        description,
        name: call.method.to_owned(),
        user: session.map(|session| session.user.clone()).unwrap_or_default(),
        chain: i32::try_from(number).unwrap_or(i32::MAX),
        queued: OffsetDateTime::now_utc(),
        completed: None,
        progress: None,
        outcome: None,
        cancelable,
        cancelled: false,
        spec: call.args.data("spec").filter(|spec| spec.kind == "VirtualMachineConfigSpec").cloned(),
    };
    while world.tasks.all.len() >= HISTORY {
        let Some(oldest) = world.tasks.all.iter().position(|task| task.outcome.is_some()) else { break };
        if let Some(gone) = world.tasks.all.remove(oldest) {
            world.forget(&gone.object);
        }
    }
    world.tasks.all.push_back(task);
    world.touch(&object);
    world.touch(entity);
    object
}

fn finish(world: &mut World, object: &Ref, outcome: Result<Option<Value>, VimFault>) {
    world.tasks.detached.remove(object);
    if let Some(task) = world.tasks.get_mut(object) {
        task.completed = Some(OffsetDateTime::now_utc());
        let made = match &outcome {
            Ok(Some(Value::Ref(made))) => Some(made.clone()),
            _ => None,
        };
        let done = outcome.is_ok();
        task.outcome = Some(outcome);
        let (entity, name) = (task.entity.clone(), task.entity_name.clone());
        let done_by = events::Doing {
            method: task.name.clone(),
            user: task.user.clone(),
            chain: task.chain,
            spec: task.spec.take(),
        };
        world.touch(&entity);
        let subject = match made.filter(|made| made.kind == "VirtualMachine") {
            Some(made) => Some((super::esx::name(world, &made).unwrap_or_default(), made)),
            None => (entity.kind == "VirtualMachine").then_some((name, entity)),
        };
        if let Some((name, vm)) = subject.filter(|_| done) {
            events::of_task(world, done_by, vm, name);
        }
        world.touch(object);
    }
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "CancelTask" => {
            let task = world.tasks.get_mut(&call.this).ok_or_else(|| VimFault::not_found(&call.this))?;
            if task.outcome.is_some() {
                return Err(VimFault::new("InvalidState", "The task has ended."));
            }
            if !task.cancelable {
                return Err(VimFault::not_supported("this task cannot be canceled"));
            }
            task.cancelled = true;
            world.touch(&call.this);
            Ok(Reply::Nothing)
        }
        "CreateCollectorForTasks" | "CreateCollectorWithInfoFilterForTasks" | "CreateTask" => {
            Err(VimFault::not_supported(format!("{} needs a vCenter Server", call.method)))
        }
        "SetTaskDescription" | "SetTaskState" | "UpdateProgress" => {
            Err(VimFault::not_supported("only the extension that made a task may change it"))
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

pub fn property(world: &World, object: &Ref, name: &str) -> Option<Value> {
    if object.kind == "TaskManager" {
        return match name {
            "recentTask" => Some(world.tasks.recent(None).into()),
            "maxCollector" => Some(32.into()),
            "description" => {
                let reason =
                    Data::new("TypeDescription").with("key", "user").with("label", "User").with("summary", "User");
                Some(
                    Data::new("TaskDescription")
                        .with("reason", vec![reason])
                        .with("state", Value::List(Vec::new()))
                        .into(),
                )
            }
            _ => None,
        };
    }
    let task = world.tasks.get(&object.id)?;
    (name == "info").then(|| task.info().into())
}

impl Task {
    fn info(&self) -> Data {
        let state = match &self.outcome {
            None => "running",
            Some(Ok(_)) => "success",
            Some(Err(_)) => "error",
        };
        let (result, error) = match &self.outcome {
            Some(Ok(result)) => (result.clone(), None),
            Some(Err(fault)) => (None, Some(fault.localized())),
            None => (None, None),
        };
        Data::new("TaskInfo")
            .with("key", self.object.id.to_string())
            .with("task", &self.object)
            .with("name", &self.name)
            .with("descriptionId", &self.description)
            .with("entity", &self.entity)
            .with("entityName", &self.entity_name)
            .with("state", state)
            .with("cancelled", self.cancelled)
            .with("cancelable", self.cancelable)
            .maybe("error", error)
            .maybe("result", result)
            .maybe("progress", self.progress.filter(|_| self.outcome.is_none()))
            .with("reason", Data::new("TaskReasonUser").with("userName", &self.user))
            .with("queueTime", self.queued)
            .with("startTime", self.queued)
            .maybe("completeTime", self.completed)
            .with("eventChainId", self.chain)
    }
}
