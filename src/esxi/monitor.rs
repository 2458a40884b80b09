//! Waiting without polling: one property collector of our own, one outstanding `WaitForUpdatesEx` for everything that is awaited.
//!
//! A collector of our own, because the session may be shared with other processes and a collector has one line of versions. Objects
//! that are awaited at the same time share a filter. A connection that is lost, a session that ends or a collector that vanishes
//! starts the wait anew; nobody who waits notices. A version serves one call, so after any error the wait begins with the full state.
//! Specification: vSphere Web Services API, `PropertyCollector.WaitForUpdatesEx`, `UpdateSet`, `PropertyFilter`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;

use crate::xml::Element;

use super::error::Error;
use super::link::Link;
use super::moref::MoRef;
use super::property::{From, Query};
use super::soap::{Call, Method};
use super::watch::{Awaited, Watch, Watcher, gone};

/// How long a wait under way is given to notice a new filter before it is cancelled and begun anew.
const NUDGE: Duration = Duration::from_millis(150);

/// How many filters that nobody uses may stay.
const UNUSED_FILTERS: usize = 16;

/// How quickly a host may say that nothing has changed before it is given a rest.
const HASTE: Duration = Duration::from_millis(100);

/// The first pause before a lost connection is tried again; it doubles up to eight times that.
const PAUSE: Duration = Duration::from_millis(250);

/// How often in a row a host may refuse the wait before those who wait are told.
const REFUSALS: u32 = 3;

enum Command {
    /// Something will be awaited soon.
    Prepare,
    Watch(Watcher),
    Close(oneshot::Sender<()>),
}

/// The one who waits for a host. Started with the first wait.
pub(super) struct Monitor {
    link: Arc<Link>,
    commands: Mutex<Option<mpsc::UnboundedSender<Command>>>,
}

impl Monitor {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, commands: Mutex::new(None) }
    }

    /// Makes the collector while the call that starts a task is still on its way: a round trip less.
    pub(super) fn prepare(&self) {
        self.send(Command::Prepare);
    }

    /// Begins to wait.
    pub(super) fn watch(&self, awaited: Awaited) -> Watch {
        let (sender, changes) = mpsc::unbounded_channel();
        self.send(Command::Watch(Watcher::new(awaited, sender)));
        Watch::new(changes, self.link.host())
    }

    fn send(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let running = commands.get_or_insert_with(|| start(self.link.clone()));
        if let Err(mpsc::error::SendError(command)) = running.send(command) {
            let again = start(self.link.clone());
            // A receiver that was just made and is still held by its task takes what it is sent.
            if again.send(command).is_ok() {
                *commands = Some(again);
            }
        }
    }

    /// Ends all waits and takes the collector away from the host.
    pub(super) async fn close(self) {
        let running = self.commands.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = running else { return };
        let (done, closed) = oneshot::channel();
        if running.send(Command::Close(done)).is_ok() && closed.await.is_err() {
            tracing::debug!(host = self.link.host(), "the monitor had ended before it was closed");
        }
    }
}

fn start(link: Arc<Link>) -> mpsc::UnboundedSender<Command> {
    let (sender, commands) = mpsc::unbounded_channel();
    let span = tracing::info_span!(
        parent: None,
        "monitor",
        host = link.host(),
        id = link.options.operation_id.as_deref().unwrap_or_default()
    );
    let actor = Actor {
        link,
        commands,
        watchers: Vec::new(),
        collector: None,
        filters: Vec::new(),
        version: String::new(),
        overtaken: false,
        lost_since: None,
        refused: 0,
        pause: PAUSE,
    };
    // It serves every operation of the run, so it is in none of their spans.
    tokio::spawn(actor.run().instrument(span));
    sender
}

type Waiting = Pin<Box<dyn Future<Output = Result<Element, Error>> + Send>>;

struct Actor {
    link: Arc<Link>,
    commands: mpsc::UnboundedReceiver<Command>,
    watchers: Vec<Watcher>,
    collector: Option<MoRef>,
    /// All filters of the collector.
    filters: Vec<MoRef>,
    version: String,
    /// A filter was added to a wait under way: what it sees has to be asked for in full, once.
    overtaken: bool,
    lost_since: Option<Instant>,
    /// How often in a row the host had something against the wait itself.
    refused: u32,
    pause: Duration,
}

impl Actor {
    async fn run(mut self) {
        let mut waiting: Option<Waiting> = None;
        let mut nudge: Option<Instant> = None;
        let mut asked = Instant::now();
        loop {
            if self.watchers.is_empty() && waiting.is_none() {
                match self.commands.recv().await {
                    Some(Command::Prepare) => {
                        // What went wrong here goes wrong again where somebody waits for it.
                        if let Err(error) = self.collector().await {
                            tracing::debug!(host = self.link.host(), "no collector yet: {error}");
                        }
                        continue;
                    }
                    Some(Command::Watch(watcher)) => self.watchers.push(watcher),
                    Some(Command::Close(done)) => return self.end(Some(done)).await,
                    None => return self.end(None).await,
                }
            }
            // Those who came at the same time share a filter.
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Prepare) => {}
                    Ok(Command::Watch(watcher)) => self.watchers.push(watcher),
                    Ok(Command::Close(done)) => return self.end(Some(done)).await,
                    Err(_) => break,
                }
            }
            if self.watchers.iter().any(|watcher| watcher.filter.is_none()) {
                if let Err(error) = self.add_filter().await {
                    waiting = None;
                    self.recover(error).await;
                    continue;
                }
                self.overtaken = waiting.is_some();
                nudge = waiting.as_ref().map(|_| Instant::now() + NUDGE);
                self.version.clear();
            }
            let mut outstanding = match waiting.take() {
                Some(outstanding) => outstanding,
                None => match self.wait() {
                    Some(outstanding) => {
                        asked = Instant::now();
                        outstanding
                    }
                    None => continue,
                },
            };
            tokio::select! {
                biased;
                answer = &mut outstanding => {
                    nudge = None;
                    match answer.and_then(|answer| self.take(answer)) {
                        Ok(changed) => {
                            // A host that answers at once that nothing has changed is not asked without end.
                            if !changed && asked.elapsed() < HASTE {
                                sleep(HASTE).await;
                            }
                            self.settle().await;
                        }
                        Err(error) => self.recover(error).await,
                    }
                }
                command = self.commands.recv() => {
                    match command {
                        Some(Command::Prepare) => {}
                        Some(Command::Watch(watcher)) => self.watchers.push(watcher),
                        Some(Command::Close(done)) => return self.end(Some(done)).await,
                        None => return self.end(None).await,
                    }
                    waiting = Some(outstanding);
                }
                () = until(nudge) => {
                    nudge = None;
                    self.cancel().await;
                    waiting = Some(outstanding);
                }
            }
        }
    }

    /// The collector; made where there is none.
    async fn collector(&mut self) -> Result<MoRef, Error> {
        if let Some(collector) = &self.collector {
            return Ok(collector.clone());
        }
        let call = Call::new(&self.link.contract().content.property_collector(), Method::CreatePropertyCollector);
        let collector = self.reference(self.link.call(&call).await?)?;
        self.version.clear();
        Ok(self.collector.insert(collector).clone())
    }

    /// Makes one filter for all who have none.
    async fn add_filter(&mut self) -> Result<(), Error> {
        let collector = self.collector().await?;
        let new: Vec<&Watcher> = self.watchers.iter().filter(|watcher| watcher.filter.is_none()).collect();
        let mut query = Query::default();
        for watcher in new {
            let Awaited { object, kind, paths, .. } = &watcher.awaited;
            match query.properties.iter_mut().find(|(other, _)| other == kind) {
                Some((_, known)) => paths.iter().for_each(|path| {
                    if !known.contains(path) {
                        known.push(path);
                    }
                }),
                None => query.properties.push((kind, paths.to_vec())),
            }
            if !query.from.iter().any(|from| from.object == *object) {
                query.from.push(From { object: object.clone(), skip: false, steps: Vec::new() });
            }
        }
        let call = Call::new(&collector, Method::CreateFilter)
            .with(query.element("spec"))
            .with(Element::leaf("partialUpdates", "false"));
        let filter = self.reference(self.link.call_once(&call).await?)?;
        self.filters.push(filter.clone());
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.filter.is_none()) {
            watcher.filter = Some(filter.clone());
            watcher.seen = false;
        }
        Ok(())
    }

    fn reference(&self, answer: Element) -> Result<MoRef, Error> {
        answer.child("returnval").and_then(MoRef::read).ok_or_else(|| Error::BadAnswer {
            host: self.link.host().to_owned(),
            reason: "an answer without a reference".to_owned(),
        })
    }

    fn wait(&self) -> Option<Waiting> {
        let seconds = self.link.options.timeouts.wait.as_secs().clamp(1, 600);
        let call = Call::new(self.collector.as_ref()?, Method::WaitForUpdatesEx)
            .with_text("version", self.version.as_str())
            .with(Element::new("options").with(Element::leaf("maxWaitSeconds", seconds.to_string())));
        let link = self.link.clone();
        Some(Box::pin(async move { link.call_once(&call).await }))
    }

    /// Hands out what has changed; returns whether anything did. An answer without content means that nothing did.
    fn take(&mut self, mut answer: Element) -> Result<bool, Error> {
        self.lost_since = None;
        self.refused = 0;
        self.pause = PAUSE;
        let Some(set) = answer.children.iter_mut().find(|child| child.name == "returnval") else { return Ok(false) };
        let version = set.text_at("version").map(str::trim).filter(|version| !version.is_empty());
        let version = version.ok_or_else(|| Error::BadAnswer {
            host: self.link.host().to_owned(),
            reason: "updates without a version".to_owned(),
        })?;
        self.version = version.to_owned();
        let mut changed = set.text_at("truncated").is_some_and(|text| text.trim() == "true");
        for filter in set.children.iter().filter(|child| child.name == "filterSet") {
            for update in filter.all("objectSet") {
                self.update(update);
                changed = true;
            }
        }
        if std::mem::take(&mut self.overtaken) && self.watchers.iter().any(|watcher| !watcher.seen) {
            self.version.clear();
        }
        Ok(changed)
    }

    fn update(&mut self, update: &Element) {
        let Some(object) = update.child("obj").and_then(MoRef::read) else { return };
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.awaited.object == object) {
            watcher.update(self.link.host(), &object, update);
        }
    }

    /// Removes those who have what they waited for, and from time to time the filters that nobody uses any more: each costs a
    /// request, and all of them go with the collector.
    async fn settle(&mut self) {
        self.watchers.retain(|watcher| !watcher.finished());
        let unused = |filter: &&MoRef| !self.watchers.iter().any(|watcher| watcher.filter.as_ref() == Some(filter));
        if self.filters.iter().filter(unused).count() < UNUSED_FILTERS {
            return;
        }
        let unused: Vec<MoRef> = self.filters.iter().filter(unused).cloned().collect();
        self.filters.retain(|filter| !unused.contains(filter));
        for filter in unused {
            let call = Call::new(&filter, Method::DestroyPropertyFilter);
            // A filter that could not be destroyed goes with its collector.
            if let Err(error) = self.link.call_once(&call).await {
                tracing::debug!(host = self.link.host(), "{filter} was not destroyed: {error}");
            }
        }
    }

    async fn cancel(&mut self) {
        let Some(collector) = &self.collector else { return };
        // Where this fails, the wait fails too and is begun anew.
        if let Err(error) = self.link.call_once(&Call::new(collector, Method::CancelWaitForUpdates)).await {
            tracing::debug!(host = self.link.host(), "a wait was not cancelled: {error}");
        }
    }

    /// After an error: begins anew where that may help, else tells all who wait.
    async fn recover(&mut self, error: Error) {
        self.version.clear();
        self.watchers.retain(|watcher| !watcher.finished());
        let epoch = self.link.epoch();
        if error.is("RequestCanceled") || error.is("InvalidCollectorVersion") {
            return self.again(error, false).await;
        }
        if error.is("NotAuthenticated") {
            self.forget();
            if let Err(error) = self.link.renew(epoch).await {
                self.fail(&error);
            }
            return;
        }
        if let Some(object) = missing(&error) {
            // An awaited object that is gone is the affair of those who wait for it; all others begin anew.
            let host = self.link.host().to_owned();
            let mut awaited = false;
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.awaited.object == object) {
                watcher.fail(gone(&host, &object));
                awaited = true;
            }
            self.watchers.retain(|watcher| !watcher.finished());
            self.drop_collector(self.collector.as_ref() == Some(&object)).await;
            if !awaited {
                self.again(error, true).await;
            }
            return;
        }
        let passing = matches!(
            error.root(),
            Error::Lost { .. }
                | Error::Timeout { .. }
                | Error::Unreachable { .. }
                | Error::Busy { .. }
                | Error::BadAnswer { .. }
        );
        if passing {
            return self.again(error, true).await;
        }
        if error.vim().is_some() && self.refused < REFUSALS {
            self.refused += 1;
            return self.again(error, true).await;
        }
        self.fail(&error);
    }

    /// Pauses before the next try; gives up where trying has lasted too long.
    async fn again(&mut self, error: Error, pause: bool) {
        let since = *self.lost_since.get_or_insert_with(Instant::now);
        if since.elapsed() > self.link.options.timeouts.reconnect {
            return self.fail(&error);
        }
        if pause {
            tracing::debug!(host = self.link.host(), "waiting begins anew: {error}");
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE * 8);
        }
    }

    /// Forgets the collector and its filters: they are gone with their session.
    fn forget(&mut self) {
        self.collector = None;
        self.filters.clear();
        self.version.clear();
        for watcher in &mut self.watchers {
            watcher.filter = None;
        }
    }

    async fn drop_collector(&mut self, gone: bool) {
        if let Some(collector) = self.collector.take().filter(|_| !gone) {
            let call = Call::new(&collector, Method::DestroyPropertyCollector);
            if let Err(error) = self.link.call_once(&call).await {
                tracing::debug!(host = self.link.host(), "{collector} was not destroyed: {error}");
            }
        }
        self.forget();
    }

    fn fail(&mut self, error: &Error) {
        self.lost_since = None;
        self.refused = 0;
        self.pause = PAUSE;
        for mut watcher in self.watchers.drain(..) {
            watcher.fail(error.clone());
        }
        self.forget();
    }

    async fn end(mut self, done: Option<oneshot::Sender<()>>) {
        self.watchers.clear();
        self.drop_collector(false).await;
        // The one who asked may have gone.
        if let Some(done) = done
            && done.send(()).is_err()
        {
            tracing::debug!(host = self.link.host(), "nobody waits for the monitor's end");
        }
    }
}

/// The object that the host does not know any more.
fn missing(error: &Error) -> Option<MoRef> {
    let fault = error.vim()?.find("ManagedObjectNotFound")?;
    Some(fault.data.child("obj").and_then(MoRef::read).unwrap_or_else(|| MoRef::new("", "")))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
