//! Tasks of the host: started by a call, awaited through the monitor, ended in a result or a typed error.
//!
//! Specification: vSphere Web Services API, `Task`, `TaskInfo`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::xml::Element;

use super::error::Error;
use super::fault::VimFault;
use super::host::{Host, Progress, Step};
use super::moref::MoRef;
use super::soap::{Call, Method};
use super::watch::{Awaited, Snapshot};

const PATHS: &[&str] = &["info.state", "info.progress", "info.error", "info.result"];

/// How often it is asked whether the caller wants a task to be stopped.
const STOP: Duration = Duration::from_millis(200);

/// Says whether whoever waits for a change wants it to be stopped.
#[derive(Clone)]
pub struct Stop(pub Arc<dyn Fn() -> bool + Send + Sync>);

impl Stop {
    pub(super) fn is_wanted(&self) -> bool {
        (self.0)()
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stop").field(&self.is_wanted()).finish()
    }
}

tokio::task_local! {
    static WANTED: Option<Stop>;
}

/// Has the tasks that the future awaits be cancelled once `stop` says so, where the host can do that: for what is taken away again then.
pub(super) fn stoppable<F: Future>(stop: Option<&Stop>, future: F) -> impl Future<Output = F::Output> {
    WANTED.scope(stop.cloned(), future)
}

/// Ends once the caller wants the tasks that it awaits to be stopped.
async fn wanted() {
    let Ok(Some(stop)) = WANTED.try_with(Clone::clone) else { return std::future::pending().await };
    while !stop.is_wanted() {
        tokio::time::sleep(STOP).await;
    }
}

/// A task under way. Dropping it leaves the task to the host.
pub(super) struct Task<'a> {
    host: &'a Host,
    moref: MoRef,
    what: String,
    began: Instant,
    /// The machine whose question may hold it up.
    machine: Option<MoRef>,
    /// How it is counted when it is dropped.
    outcome: &'static str,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        tracing::debug!(host = self.host.name(), task = %self.moref, outcome = self.outcome, "a task is no longer awaited");
        self.host.link.label().task(self.outcome, self.began);
    }
}

impl<'a> Task<'a> {
    /// Makes a call that starts a task. `what` is for progress: `power on`.
    pub(super) async fn start(host: &'a Host, what: impl Into<String>, call: &Call) -> Result<Task<'a>, Error> {
        host.monitor.prepare();
        let (asked, session) = (Instant::now(), host.link.epoch());
        let moref = match host.link.call(call).await {
            Ok(answer) => answer.child("returnval").and_then(MoRef::read).ok_or_else(|| Error::BadAnswer {
                host: host.name().to_owned(),
                reason: format!("{} without a task", call.method.wire_name()),
            })?,
            // The host may be at work on it: its task is looked for, and nothing is sent twice.
            Err(error) if error.outcome_unknown() => host.find_task(call, (asked, session), error).await?,
            Err(error) => return Err(host.explained(error).await),
        };
        host.tasks.note(&moref);
        let what = what.into();
        tracing::debug!(host = host.name(), task = %moref, what, "a task has begun");
        // One that is being destroyed asks nothing, and is soon gone.
        let may_ask = call.this.kind == "VirtualMachine" && call.method != Method::Destroy;
        let machine = may_ask.then(|| call.this.clone());
        Ok(Self { host, moref, what, began: Instant::now(), machine, outcome: "abandoned" })
    }

    /// Takes up a task by its reference.
    pub(super) fn resume(host: &'a Host, moref: MoRef) -> Self {
        Self { host, moref, what: "task".to_owned(), began: Instant::now(), machine: None, outcome: "abandoned" }
    }

    /// The same for one that is at work on a machine.
    pub(super) fn resume_on(host: &'a Host, moref: MoRef, machine: &MoRef) -> Self {
        let mut task = Self::resume(host, moref);
        task.machine = Some(machine.clone());
        task
    }

    /// Waits for the end of the task; returns its result. Errors: `esxi.waits_for_answer` where its machine asks something; it goes on then.
    pub(super) async fn done(mut self, progress: Progress<'_>) -> Result<Option<Element>, Error> {
        let mut watch = self.host.monitor.watch(Awaited {
            object: self.moref.clone(),
            kind: "Task",
            paths: PATHS,
            until: Box::new(|info| matches!(state(info), Some("success" | "error"))),
        });
        let mut told = None;
        let host = self.host;
        let asked = host.until_asked(self.machine.take());
        tokio::pin!(asked);
        let stop = wanted();
        tokio::pin!(stop);
        let mut cancelled = false;
        loop {
            let next = tokio::select! {
                biased;
                next = watch.next() => next,
                question = &mut asked => {
                    self.outcome = "asked";
                    return Err(question);
                }
                () = &mut stop, if !cancelled => {
                    cancelled = true;
                    // One that cannot be cancelled goes on to its end, and so does the wait for it.
                    if let Err(error) = host.link.call(&Call::new(&self.moref, Method::CancelTask)).await {
                        tracing::debug!(host = host.name(), task = %self.moref, "a task was not cancelled: {error}");
                    }
                    continue;
                }
            };
            let next = next.map_err(|error| match error.is("ManagedObjectNotFound") {
                true => Error::TaskForgotten { host: self.host.name().to_owned(), task: self.moref.to_string() },
                false if error.outcome_unknown() => error,
                // The host's fault is of the wait: nothing says that the task has failed.
                false => Error::Untold { host: self.host.name().to_owned(), source: Box::new(error) },
            });
            let mut info = next.map_err(|error| error.doing(format!("wait for {} ({})", self.what, self.moref)))?;
            match state(&info) {
                Some("success") => {
                    self.outcome = "success";
                    return Ok(info.remove("info.result"));
                }
                Some("error") => {
                    self.outcome = "error";
                    let fault = info.get("info.error").map(VimFault::from_localized).unwrap_or_else(|| VimFault {
                        name: "MethodFault".to_owned(),
                        message: "the task failed without saying why".to_owned(),
                        details: Vec::new(),
                        data: Element::default(),
                        cause: None,
                        learned: None,
                    });
                    let error = Error::Vim { host: self.host.name().to_owned(), fault: Box::new(fault) };
                    if cancelled && error.is("RequestCanceled") {
                        return Err(Error::Stopped);
                    }
                    return Err(self.host.explained(error).await);
                }
                _ => {}
            }
            let percent = info.get("info.progress").and_then(|value| value.text.trim().parse::<u8>().ok());
            let percent = percent.map(|percent| percent.min(100));
            if told != Some(percent) {
                progress(Step { what: &self.what, percent });
                told = Some(percent);
            }
        }
    }

    /// Waits for the end of the task; returns the object that it made.
    pub(super) async fn made(self, progress: Progress<'_>) -> Result<MoRef, Error> {
        let host = self.host.name().to_owned();
        let what = self.what.clone();
        let result = self.done(progress).await?;
        result
            .as_ref()
            .and_then(MoRef::read)
            .ok_or_else(|| Error::BadAnswer { host, reason: format!("{what} ended without an object") })
    }
}

fn state(info: &Snapshot) -> Option<&str> {
    info.get("info.state").map(|value| value.text.trim())
}
