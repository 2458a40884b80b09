//! A task whose reference was lost with the answer that carried it: looked for among the host's recent tasks, and taken up again.
//!
//! A task is ours where its method, its object, its user and its time are, and where it is the only such one that this client does not
//! know already. Of two that could be ours neither is taken. Nothing is sent twice.
//! Specification: vSphere Web Services API, `TaskManager.recentTask`, `TaskInfo`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::Error;
use super::host::Host;
use super::link::patient;
use super::moref::MoRef;
use super::property::{From, Query, Traversal};
use super::soap::{Call, Method};
use crate::xml::Element;

/// How many tasks of this client are remembered.
const REMEMBERED: usize = 1000;
/// A host's clock is read in whole seconds by some, and the two readings are not made at once.
const SLACK: Duration = Duration::from_secs(2);
/// How often a host is asked before it is believed that it knows no such task, and the pause between.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// The tasks that this client has begun and knows of.
#[derive(Debug, Default)]
pub(super) struct KnownTasks(Mutex<VecDeque<String>>);

impl KnownTasks {
    pub(super) fn note(&self, task: &MoRef) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back(task.id.clone());
    }

    fn knows(&self, task: &MoRef) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&task.id)
    }
}

impl Host {
    /// The task of a call whose answer was lost. Errors: `NotBegun` where the connection broke and the host, which answers
    /// again, knows no such task; else `lost`, as it came.
    pub(super) async fn find_task(&self, call: &Call, asked: Instant, lost: Error) -> Result<MoRef, Error> {
        let found = patient(async {
            for look in 0..LOOKS {
                if look > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                let mut ours = self.recent(call, asked).await?;
                match (ours.pop(), ours.is_empty()) {
                    (Some(task), true) => return Ok(Some(task)),
                    (Some(_), false) => return Err(lost.clone()),
                    (None, _) => {}
                }
            }
            Ok(None)
        });
        match found.await {
            Ok(Some(task)) => {
                tracing::info!(host = self.name(), %task, "a task whose answer was lost is taken up again");
                Ok(task)
            }
            // It may still stand in the host's queue.
            Ok(None) if matches!(lost.root(), Error::Timeout { .. }) => Err(lost),
            Ok(None) => Err(Error::NotBegun { host: self.name().to_owned(), reason: lost.root().to_string() }),
            Err(error) => {
                tracing::debug!(host = self.name(), "the task of a lost answer was not looked for: {error}");
                Err(lost)
            }
        }
    }

    /// The recent tasks that may be this call's.
    async fn recent(&self, call: &Call, asked: Instant) -> Result<Vec<MoRef>, Error> {
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
        let placed = machine || (self.is_vcenter() && call.this.kind == "Folder");
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
            .filter(|object| !self.tasks.knows(&object.moref) && object.get("info").is_some_and(wanted))
            .map(|object| object.moref.clone())
            .collect();
        ours.sort_by(|a, b| a.id.cmp(&b.id));
        ours.dedup();
        Ok(ours)
    }
}

/// A user's name without a domain, which hosts write before it or behind it.
fn bare(user: &str) -> &str {
    let user = user.rsplit('\\').next().unwrap_or(user);
    user.split('@').next().unwrap_or(user)
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text.trim(), &Rfc3339).ok()
}
