//! A task whose reference was lost with the answer that carried it: looked for among the host's recent tasks, and taken up again.
//!
//! Others may do the same thing with the same user at the same moment, so a task is taken for ours only where it works on the very machine
//! or host that ours works on and has done what ours asks for, or where the machine that it has made is the one that was asked for. A task on
//! files tells neither: it is awaited, and whoever asked looks for the effect. Of two that could be ours neither is taken. Nothing is sent twice.
//! What may be another's is awaited for as long as it gets on, and for [`STANDSTILL`] times the time for reconnecting where it does not.
//! Specification: vSphere Web Services API, `TaskManager.recentTask`, `TaskInfo`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::Error;
use super::host::Host;
use super::link::patient;
use super::lookup::unescape;
use super::moref::MoRef;
use super::property::{From, Query, Traversal};
use super::soap::{Call, Method};
use super::task_proof::tells;
use crate::xml::Element;

/// How many tasks of this client are remembered.
const REMEMBERED: usize = 1000;
/// A host's clock is read in whole seconds by some, and the two readings are not made at once.
const SLACK: Duration = Duration::from_secs(2);
/// How often a host is asked before it is believed that it knows no such task, and the pause between.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// How many times the time for reconnecting (60 s, where nothing else is set) a task that may be another's is awaited while nothing of it moves.
const STANDSTILL: u32 = 10;

/// The tasks that this client has begun and knows of, and those that were seen to have ended, with when.
#[derive(Debug, Default)]
pub(super) struct KnownTasks(Mutex<VecDeque<(String, Option<Instant>)>>);

impl KnownTasks {
    pub(super) fn note(&self, task: &MoRef) {
        self.keep(task, None);
    }

    fn note_ended(&self, task: &MoRef) {
        self.keep(task, Some(Instant::now()));
    }

    fn keep(&self, task: &MoRef, ended: Option<Instant>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back((task.id.clone(), ended));
    }

    /// Whether a task is none of a call that was made then: it is another call's, or had ended before.
    fn excludes(&self, task: &MoRef, asked: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|(id, ended)| *id == task.id && ended.is_none_or(|ended| ended < asked))
    }
}

impl Host {
    /// The task of a call whose answer was lost. Errors: `NotBegun` where the connection broke and the host, which answers
    /// again, knows no task of it; `TaskForgotten` where it has begun a new session meanwhile; `Unclaimed` where there are some and none is provably this call's; else `lost`, as it came.
    pub(super) async fn find_task(
        &self,
        call: &Call,
        (asked, session): (Instant, u64),
        lost: Error,
    ) -> Result<MoRef, Error> {
        // What only looks is asked for again by whoever asked.
        if call.this.kind == "HostDatastoreBrowser" {
            return Err(lost);
        }
        let found = patient(async {
            for look in 0..LOOKS {
                if look > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                match self.claim(call, asked).await? {
                    Claim::Nobodys => {}
                    claim => return Ok::<_, Error>(claim),
                }
            }
            Ok(Claim::Nobodys)
        });
        match found.await {
            Ok(Claim::Ours(task)) => {
                tracing::info!(host = self.name(), %task, "a task whose answer was lost is taken up again");
                Ok(task)
            }
            Ok(Claim::Perhaps { since, succeeded, tasks }) => {
                let (host, reason) = (self.name().to_owned(), lost.root().to_string());
                let tasks = tasks.into_iter().map(|task| task.id).collect();
                Err(Error::Unclaimed { host, reason, since, succeeded, tasks })
            }
            // It may still stand in the host's queue.
            Ok(Claim::Nobodys) if matches!(lost.root(), Error::Timeout { .. }) => Err(lost),
            // With the session the host has forgotten its tasks, whose work may be done, or done in part.
            Ok(Claim::Nobodys) if self.link.epoch() != session => {
                let task = call.method.wire_name().to_owned();
                Err(Error::TaskForgotten { host: self.name().to_owned(), task })
            }
            Ok(Claim::Nobodys) => {
                Err(Error::NotBegun { host: self.name().to_owned(), reason: lost.root().to_string() })
            }
            Err(error) => {
                tracing::debug!(host = self.name(), "the task of a lost answer was not looked for: {error}");
                Err(lost)
            }
        }
    }

    /// Which of the recent tasks is this call's. Where only its end can tell, the end is awaited.
    async fn claim(&self, call: &Call, asked: Instant) -> Result<Claim, Error> {
        let (since, mut recent) = self.recent(call, asked).await?;
        if works_on_this(call) && !tells(call) {
            return Ok(match (recent.pop(), recent.is_empty()) {
                (None, _) => Claim::Nobodys,
                (Some(task), true) => Claim::Ours(task),
                (Some(task), false) => {
                    recent.push(task);
                    Claim::Perhaps { since, succeeded: false, tasks: recent }
                }
            });
        }
        let (mut ours, mut unclear, mut succeeded) = (Vec::new(), Vec::new(), true);
        for task in recent {
            let Some(info) = self.ended(&task).await? else {
                (unclear, succeeded) = ([unclear, vec![task]].concat(), false);
                continue;
            };
            self.tasks.note_ended(&task);
            let success = info.text_at("state").map(str::trim) == Some("success");
            match self.is_ours(call, &info).await.map(|own| own.filter(|_| success))? {
                Some(true) => ours.push(task),
                // It has done another's work.
                Some(false) => {}
                None => (unclear, succeeded) = ([unclear, vec![task]].concat(), succeeded && success),
            }
        }
        Ok(match (ours.pop(), ours.is_empty()) {
            (Some(task), true) => Claim::Ours(task),
            (None, _) if unclear.is_empty() => Claim::Nobodys,
            (task, _) => {
                let tasks = [ours, task.into_iter().collect(), unclear].concat();
                Claim::Perhaps { since, succeeded, tasks }
            }
        })
    }

    /// Whether a task that has ended is this call's; `None` where it does not tell.
    async fn is_ours(&self, call: &Call, info: &Element) -> Result<Option<bool>, Error> {
        if tells(call) {
            return self.did_what(call, info).await;
        }
        match info.child("result").and_then(MoRef::read).filter(|_| makes_a_machine(call)) {
            Some(made) => self.is_asked_for(call, &made).await.map(Some),
            None => Ok(None),
        }
    }

    /// What a task is in the end; `None` where it stands still for too long.
    async fn ended(&self, task: &MoRef) -> Result<Option<Element>, Error> {
        let longest = self.link.options.timeouts.reconnect * STANDSTILL;
        let (mut told, mut moved) = (None, Instant::now());
        loop {
            let objects = self.link.retrieve(&Query::object(task, "Task", &["info"])).await?;
            let info = objects.iter().find_map(|object| object.get("info")).ok_or_else(|| self.lacks("a task"))?;
            if matches!(info.text_at("state").map(str::trim), Some("success" | "error")) {
                return Ok(Some(info.clone()));
            }
            let progress = info.text_at("progress").map(str::to_owned);
            if progress != told {
                (told, moved) = (progress, Instant::now());
            }
            if moved.elapsed() >= longest {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether that machine is the one which the call asks for: by its name, and by where it lies.
    async fn is_asked_for(&self, call: &Call, made: &MoRef) -> Result<bool, Error> {
        let paths = ["name", "parent", "config.files.vmPathName"];
        let objects = self.link.retrieve(&Query::object(made, "VirtualMachine", &paths)).await?;
        let Some(machine) = objects.first() else { return Ok(false) };
        let given = |name: &str| call.arguments.iter().find(|argument| argument.name == name);
        let text = |element: Option<&Element>| element.map(|element| unescape(element.text.trim()));
        let (config, lies) = (given("config"), machine.text("config.files.vmPathName").map(str::trim));
        let (name, there) = match call.method {
            Method::CreateVm => {
                let path = config.and_then(|config| config.text_at("files.vmPathName")).map(str::trim);
                (text(config.and_then(|config| config.child("name"))), path.is_some() && path == lies)
            }
            Method::RegisterVm => {
                let path = given("path").map(|path| path.text.trim());
                (text(given("name")), path.is_some() && path == lies)
            }
            _ => {
                let folder = given("folder").and_then(MoRef::read);
                (text(given("name")), folder.is_some() && folder == machine.reference("parent"))
            }
        };
        Ok(there && name.is_some() && name == machine.text("name").map(|name| unescape(name.trim())))
    }

    /// The recent tasks that may be this call's, and the host's time when it was made.
    async fn recent(&self, call: &Call, asked: Instant) -> Result<(OffsetDateTime, Vec<MoRef>), Error> {
        let service = MoRef::new("ServiceInstance", "ServiceInstance");
        let content = self.link.call(&Call::new(&service, Method::RetrieveServiceContent)).await?;
        let manager = content.child("returnval").and_then(|content| content.child("taskManager"));
        let manager = manager.and_then(MoRef::read).ok_or_else(|| self.lacks("a task manager"))?;
        let now = self.link.call(&Call::new(&service, Method::CurrentTime)).await?;
        let now = now.text_at("returnval").and_then(moment).ok_or_else(|| self.lacks("a clock"))?;
        let began = now - asked.elapsed() - SLACK;
        let step = |kind| Traversal { name: "recent", kind, path: "recentTask", then: &[] };
        let mut query = Query { properties: vec![("Task", vec!["info"])], from: Vec::new() };
        query.from.push(From { object: manager, skip: true, steps: vec![step("TaskManager")] });
        let machine = call.this.kind == "VirtualMachine";
        if machine {
            query.from.push(From { object: call.this.clone(), skip: true, steps: vec![step("ManagedEntity")] });
        }
        let objects = self.link.retrieve(&query).await?;
        let user = self.link.options.username.as_deref();
        // Many work at once on a vCenter: what is made in a folder is told by the folder.
        let placed = machine || works_on_this(call) || (self.is_vcenter() && call.this.kind == "Folder");
        let wanted = |info: &Element| {
            let name = info.text_at("name").unwrap_or_default().trim();
            let wire = call.method.wire_name();
            let entity = info.child("entity").and_then(MoRef::read);
            let by = info.text_at("reason.userName").map(str::trim);
            (name == wire || name == wire.trim_end_matches("_Task"))
                && (!placed || entity.as_ref() == Some(&call.this))
                && by.zip(user).is_none_or(|(by, user)| bare(by).eq_ignore_ascii_case(bare(user)))
                && info.text_at("queueTime").and_then(moment).is_some_and(|queued| queued >= began)
        };
        let mut ours: Vec<MoRef> = objects
            .iter()
            .filter(|object| !self.tasks.excludes(&object.moref, asked) && object.get("info").is_some_and(wanted))
            .map(|object| object.moref.clone())
            .collect();
        ours.sort_by(|a, b| a.id.cmp(&b.id));
        ours.dedup();
        Ok((began, ours))
    }
}

/// What the recent tasks are to a call.
enum Claim {
    Ours(MoRef),
    Nobodys,
    /// Since then these have ended, all with success or not, or stand still, and nothing tells whose they are.
    Perhaps {
        since: OffsetDateTime,
        succeeded: bool,
        tasks: Vec<MoRef>,
    },
}

/// Whether the task of this call is told by what it works on.
fn works_on_this(call: &Call) -> bool {
    matches!(call.this.kind.as_str(), "VirtualMachine" | "HostSystem") && !makes_a_machine(call)
}

fn makes_a_machine(call: &Call) -> bool {
    matches!(call.method, Method::CreateVm | Method::RegisterVm | Method::CloneVm)
}

/// A user's name without a domain, which hosts write before it or behind it.
fn bare(user: &str) -> &str {
    let user = user.rsplit('\\').next().unwrap_or(user);
    user.split('@').next().unwrap_or(user)
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text.trim(), &Rfc3339).ok()
}
