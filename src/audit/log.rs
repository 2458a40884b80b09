//! The log as the rest of the program has it: a queue, and a thread that writes what stands in it.
//!
//! Whoever waits for the disk ([`Sync::Now`]) shares one sync with all who wait at the same time. What need not be on disk at once
//! ([`Sync::Grouped`]) is written within some milliseconds and synced within a tenth of a second.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::error::Error;
use super::event::Event;
use super::line::Receipt;
use super::medium::{Machine, Medium};
use super::own::{self, Body};
use super::witness::{Follower, Lag, Sends, Told, Witness};
use crate::metrics;
use crate::units::Bytes;

/// How long written lines may wait for their sync.
const SYNC_WITHIN: Duration = Duration::from_millis(100);

/// How long a line that nobody waits for may wait for others to be written with.
const WRITE_WITHIN: Duration = Duration::from_millis(5);

/// The most events that wait to be written; then whoever brings another waits.
const MOST_WAITING: usize = 8192;

/// Where a log is, and how it is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file; its folder is made (mode 0700) where it is missing.
    pub file: PathBuf,
    /// The size at which the file is set aside and a new one goes on.
    pub rotate_at: Bytes,
    /// Every how many records one is a signed checkpoint.
    pub checkpoint_every: u64,
    /// After what time records that are not signed yet are.
    pub checkpoint_after: Duration,
    /// Who is told of the log, and what.
    pub witnesses: Vec<Witness>,
    pub sends: Sends,
}

impl Options {
    /// The log in that file, with everything else as it is by default.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            rotate_at: Bytes(256 << 20),
            checkpoint_every: 1000,
            checkpoint_after: Duration::from_secs(60),
            witnesses: Vec::new(),
            sends: Sends::default(),
        }
    }
}

/// When an event must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// When the call returns.
    Now,
    /// Soon: the call returns at once, and the event is on disk within about a tenth of a second, or at the close.
    Grouped,
}

/// An open audit log. Cheap to clone; the last one that is dropped closes it.
#[derive(Clone)]
pub struct Log(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Wakes those who wait for room in the queue without a runtime.
    freed: Condvar,
    /// Wakes those who wait for room in the queue.
    room: tokio::sync::Notify,
    told: Arc<Told>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Item>,
    /// How many events were ever put into the queue, and how many of them have had their answer.
    put: u64,
    answered: u64,
    urgent: bool,
    closing: bool,
    ended: bool,
    receipt: Option<Receipt>,
    failure: Option<Error>,
}

type Answer = Box<dyn FnOnce(Result<Receipt, Error>) + Send>;

type Then = Box<dyn FnOnce(&Result<Receipt, Error>) + Send>;

struct Item {
    event: Event,
    answer: Option<Answer>,
}

impl Log {
    /// Opens the log, or makes it. Reads the end of the file only, however long it is.
    ///
    /// Errors: all of [`Error`]; a log whose end does not verify is [`Error::Damaged`] and is not gone on with.
    pub fn open(options: Options) -> Result<Self, Error> {
        Self::open_on(options, Box::new(Machine))
    }

    pub(super) fn open_on(options: Options, medium: Box<dyn Medium>) -> Result<Self, Error> {
        let disk = Disk::open(&options, medium)?;
        let state = State { receipt: disk.receipt(), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            freed: Condvar::new(),
            room: tokio::sync::Notify::new(),
            told: Arc::default(),
            options,
        });
        if !shared.options.witnesses.is_empty() {
            let Options { file, witnesses, sends, .. } = &shared.options;
            shared.told.synced(disk.receipt());
            Follower::start(file, disk.id(), witnesses, *sends, &shared.told)?;
        }
        let writer = shared.clone();
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(disk))
            .map_err(|error| Error::unwritable(&shared.options.file, error))?;
        Ok(Self(Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) })))
    }

    /// Records an event. With [`Sync::Now`] it is on disk when this returns, and the receipt is its own; with [`Sync::Grouped`]
    /// there is no receipt yet, and an error is that of an earlier event that could not be written.
    pub async fn write(&self, event: Event, sync: Sync) -> Result<Option<Receipt>, Error> {
        self.send(event, sync, Box::new(|_| {})).await
    }

    /// [`Log::write`] with [`Sync::Now`], where `then` hears what became of the event although nobody waits for it any more.
    ///
    /// It is called on the writer's thread, ahead of the answer, and dropped without a call where the event was never taken.
    pub async fn write_then(
        &self,
        event: Event,
        then: impl FnOnce(&Result<Receipt, Error>) + Send + 'static,
    ) -> Result<Option<Receipt>, Error> {
        self.send(event, Sync::Now, Box::new(then)).await
    }

    async fn send(&self, event: Event, sync: Sync, then: Then) -> Result<Option<Receipt>, Error> {
        let shared = &self.0.shared;
        let mut event = Some(event);
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some((tell, then));
        loop {
            let room = shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let mut answer = || {
                let tell = tell.take();
                let answer: Answer = Box::new(move |result| {
                    // Whoever asked may have gone away meanwhile.
                    if let Some((tell, then)) = tell {
                        then(&result);
                        drop(tell.send(result));
                    }
                });
                answer
            };
            if shared.put(&mut event, sync, &mut answer)? {
                break;
            }
            room.await;
        }
        match sync {
            Sync::Now => told.await.unwrap_or_else(|_| Err(shared.closed())).map(Some),
            Sync::Grouped => Ok(None),
        }
    }

    /// [`Log::write`] where there is no runtime, such as at the end of a run. Must not be called on a runtime's thread.
    pub fn write_blocking(&self, event: Event, sync: Sync) -> Result<Option<Receipt>, Error> {
        let shared = &self.0.shared;
        let mut event = Some(event);
        let (tell, told) = mpsc::channel();
        let mut answer = || {
            let tell = tell.clone();
            let answer: Answer = Box::new(move |result| drop(tell.send(result)));
            answer
        };
        while !shared.put(&mut event, sync, &mut answer)? {
            let state = shared.state();
            let full = |state: &mut State| state.waiting.len() >= MOST_WAITING && !state.ended;
            drop(shared.freed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner));
        }
        drop(tell);
        match sync {
            Sync::Now => told.recv().unwrap_or_else(|_| Err(shared.closed())).map(Some),
            Sync::Grouped => Ok(None),
        }
    }

    /// Waits until all that was put into the queue before has been written or refused, and whoever was to hear of it has. Must not be
    /// called on a runtime's thread.
    pub fn drain_blocking(&self) {
        let shared = &self.0.shared;
        let mut state = shared.state();
        let last = state.put;
        if !state.waiting.is_empty() {
            state.urgent = true;
            shared.wake.notify_one();
        }
        let under_way = |state: &mut State| state.answered < last && !state.ended;
        drop(shared.freed.wait_while(state, under_way).unwrap_or_else(PoisonError::into_inner));
    }

    /// The newest record that this process knows of: its number and the head of the chain.
    pub fn receipt(&self) -> Option<Receipt> {
        self.0.shared.state().receipt
    }

    /// The failure that the log is in, until something could be written again.
    pub fn failure(&self) -> Option<Error> {
        self.0.shared.state().failure.clone()
    }

    /// How far each witness is behind.
    pub fn witness_lag(&self) -> Vec<Lag> {
        self.0.shared.told.lags()
    }

    /// Writes and syncs what is still waiting, gives the witnesses that answer a moment to hear of it, and ends the writer; the last receipt. What comes later is refused. Closing twice is
    /// closing once.
    pub fn close(&self) -> Result<Option<Receipt>, Error> {
        self.0.close()
    }
}

impl Handle {
    fn close(&self) -> Result<Option<Receipt>, Error> {
        self.shared.state().closing = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            return Err(Error::unwritable(&self.shared.options.file, "its writer has panicked"));
        }
        self.shared.told.close();
        let state = self.shared.state();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(state.receipt),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `close` before.
        drop(self.close());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> Error {
        Error::Closed { file: self.options.file.clone() }
    }

    /// Puts the event into the queue; whether there was room.
    fn put(&self, event: &mut Option<Event>, sync: Sync, answer: &mut dyn FnMut() -> Answer) -> Result<bool, Error> {
        let mut state = self.state();
        if state.closing || state.ended {
            return Err(self.closed());
        }
        if let (Some(failure), Sync::Grouped) = (&state.failure, sync) {
            let failure = failure.clone();
            // The writer tries again with it, so that the log is found to be well as soon as it is.
            if let Some(event) = event.take().filter(|_| state.waiting.len() < MOST_WAITING) {
                state.waiting.push(Item { event, answer: None });
                state.put += 1;
                self.wake.notify_one();
            }
            return Err(failure);
        }
        if state.waiting.len() >= MOST_WAITING {
            return Ok(false);
        }
        let Some(event) = event.take() else { return Ok(true) };
        let urgent = sync == Sync::Now;
        let wake = state.waiting.is_empty() || (urgent && !state.urgent);
        state.waiting.push(Item { event, answer: urgent.then(answer) });
        state.put += 1;
        state.urgent |= urgent;
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(true)
    }

    /// The writer's life.
    fn run(&self, disk: Disk) {
        /// However the writer ends, nobody waits for it.
        struct Ending<'a>(&'a Shared);
        impl Drop for Ending<'_> {
            fn drop(&mut self) {
                let mut state = self.0.state();
                state.ended = true;
                state.waiting.clear();
                drop(state);
                self.0.room.notify_waiters();
                self.0.freed.notify_all();
            }
        }
        let _ending = Ending(self);
        let mut writer = Writer { disk, told: self.told.clone(), sync_at: None, sign_at: None, lost: 0 };
        loop {
            let (items, closing) = self.next(writer.sync_at.into_iter().chain(writer.sign_at).min());
            let urgent = items.iter().any(|item| item.answer.is_some());
            let taken = items.len() as u64;
            let (events, answers): (Vec<Event>, Vec<Option<Answer>>) =
                items.into_iter().map(|item| (item.event, item.answer)).unzip();
            let result = writer.turn(events, urgent, closing, &self.options);
            let mut state = self.state();
            state.receipt = writer.disk.receipt().or(state.receipt);
            match &result {
                Ok(_) if !answers.is_empty() => state.failure = None,
                Ok(_) => {}
                Err(error) => state.failure = Some(error.clone()),
            }
            drop(state);
            match result {
                Ok(receipts) => answers.into_iter().zip(receipts).for_each(|(answer, receipt)| {
                    if let Some(answer) = answer {
                        answer(Ok(receipt));
                    }
                }),
                Err(error) => {
                    tracing::error!("the audit log cannot be written: {error}");
                    answers.iter().for_each(|_| metrics::audit_failed());
                    writer.lost += answers.iter().filter(|answer| answer.is_none()).count() as u64;
                    answers.into_iter().flatten().for_each(|answer| answer(Err(error.clone())));
                }
            }
            if taken > 0 {
                self.state().answered += taken;
                self.freed.notify_all();
            }
            if closing {
                return;
            }
        }
    }

    /// Waits for something to write, or until something else is due. Takes all that waits.
    fn next(&self, due_at: Option<Instant>) -> (Vec<Item>, bool) {
        let mut state = self.state();
        let mut write_at = None;
        loop {
            if !state.waiting.is_empty() {
                write_at.get_or_insert_with(|| Instant::now() + WRITE_WITHIN);
            }
            let now = Instant::now();
            let at = write_at.into_iter().chain(due_at).min();
            if state.urgent || state.closing || at.is_some_and(|at| at <= now) || state.waiting.len() >= MOST_WAITING {
                break;
            }
            state = match at {
                Some(at) => self
                    .wake
                    .wait_timeout(state, at - now)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state),
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.urgent = false;
        let items = std::mem::take(&mut state.waiting);
        let closing = state.closing;
        drop(state);
        if !items.is_empty() {
            self.room.notify_waiters();
            self.freed.notify_all();
        }
        (items, closing)
    }
}

/// The writer's own state.
struct Writer {
    disk: Disk,
    told: Arc<Told>,
    /// When what was written must be synced.
    sync_at: Option<Instant>,
    /// When what was written must be signed.
    sign_at: Option<Instant>,
    /// Events that nobody waited for and that could not be written.
    lost: u64,
}

impl Writer {
    /// Writes the events, then signs and syncs what is due. The receipt of each event.
    fn turn(
        &mut self,
        events: Vec<Event>,
        urgent: bool,
        closing: bool,
        options: &Options,
    ) -> Result<Vec<Receipt>, Error> {
        let due = |at: Option<Instant>| at.is_some_and(|at| closing || at <= Instant::now());
        let mut receipts = Vec::new();
        if !events.is_empty() {
            receipts = self.write(events, urgent, options)?;
            self.sync_at.get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
            if self.disk.is_unsigned() {
                self.sign_at.get_or_insert_with(|| Instant::now() + options.checkpoint_after);
            } else {
                self.sign_at = None;
            }
        }
        if due(self.sign_at) {
            self.sign_at = None;
            if let Some(receipt) = self.disk.checkpoint()? {
                metrics::audit_written("checkpoint", receipt.seq);
            }
            self.sync_at.get_or_insert_with(Instant::now);
        }
        if due(self.sync_at) || (urgent && self.sync_at.is_some()) {
            self.sync_at = None;
            let begun = Instant::now();
            self.disk.sync()?;
            metrics::audit_synced(begun.elapsed());
            self.told.synced(self.disk.receipt());
        }
        Ok(receipts)
    }

    /// Writes the events at once. Where somebody waits for one of them, the last is signed, and with it all before it: a change cannot
    /// be added or altered behind the newest signature by whoever lacks the key.
    fn write(&mut self, events: Vec<Event>, sign: bool, options: &Options) -> Result<Vec<Receipt>, Error> {
        let unwritable = |reason: String| Error::unwritable(&options.file, reason);
        let mut bodies = Vec::with_capacity(events.len() + 1);
        if self.lost > 0 {
            bodies.push(own::lost(self.lost).map_err(unwritable)?);
        }
        let mut kinds = Vec::with_capacity(events.len() + 1);
        kinds.extend((self.lost > 0).then_some("lost"));
        for event in events {
            kinds.push(event.kind.name());
            bodies.push(event.into_body().map(Body::Plain).map_err(unwritable)?);
        }
        if sign {
            let last = bodies.pop().map(Body::signed);
            bodies.extend(last);
        }
        let mut receipts = self.disk.append(&bodies)?;
        kinds.into_iter().zip(&receipts).for_each(|(kind, receipt)| metrics::audit_written(kind, receipt.seq));
        if self.lost > 0 {
            self.lost = 0;
            receipts.remove(0);
        }
        Ok(receipts)
    }
}
