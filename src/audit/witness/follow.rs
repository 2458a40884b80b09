//! The thread of a witness: reads what is new on the disk, tells it, and notes how far it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Lag, Message, Sends, State, Way, Witness, way};
use crate::audit::error::Error;
use crate::audit::line::Receipt;
use crate::audit::read::Reader;
use crate::metrics;

/// How often is looked for what other processes wrote.
const LOOK: Duration = Duration::from_secs(1);

/// The first and the longest time after which a witness that failed is asked again.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(300);

/// The most records that are told between two notes of how far it is.
const BATCH: usize = 256;

/// How long the close waits for a witness that answers; for one that does not it waits for nothing.
const FLUSH: Duration = Duration::from_secs(2);

/// What the log tells its witnesses' threads, and they it.
#[derive(Default)]
pub(crate) struct Told {
    state: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    /// The newest record that is on disk.
    newest: Option<Receipt>,
    closing: bool,
    lags: Vec<Lag>,
    /// How many threads have nothing more to tell, or cannot.
    ended: usize,
}

impl Told {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that all up to this record is on disk.
    pub(crate) fn synced(&self, newest: Option<Receipt>) {
        self.now().newest = newest;
        self.changed.notify_all();
    }

    pub(crate) fn lags(&self) -> Vec<Lag> {
        self.now().lags.clone()
    }

    /// Ends the threads; waits a bounded time for what they still have to tell.
    pub(crate) fn close(&self) {
        let mut now = self.now();
        now.closing = true;
        self.changed.notify_all();
        let wait = |now: &mut Now| now.ended < now.lags.len();
        drop(self.changed.wait_timeout_while(now, FLUSH, wait));
    }
}

/// One witness's thread.
pub(crate) struct Follower {
    log: PathBuf,
    id: String,
    witness: Witness,
    sends: Sends,
    way: Box<dyn Way>,
    told: Arc<Told>,
    number: usize,
    /// The newest record when the log was opened: a witness that was never told anything is told from it on.
    began: u64,
}

impl Follower {
    /// Starts the threads of the witnesses.
    pub(crate) fn start(
        log: &Path,
        id: &str,
        witnesses: &[Witness],
        sends: Sends,
        told: &Arc<Told>,
    ) -> Result<(), Error> {
        let began = told.now().newest.map_or(0, |newest| newest.seq);
        told.now().lags = witnesses
            .iter()
            .map(|witness| Lag {
                witness: witness.to_string(),
                kind: witness.kind(),
                records: 0,
                behind: Duration::ZERO,
                failing: None,
            })
            .collect();
        for (number, witness) in witnesses.iter().enumerate() {
            let follower = Self {
                log: log.to_owned(),
                id: id.to_owned(),
                witness: witness.clone(),
                sends,
                way: way(witness),
                told: told.clone(),
                number,
                began,
            };
            std::thread::Builder::new()
                .name("audit-witness".to_owned())
                .spawn(move || follower.run())
                .map_err(|error| Error::unwritable(log, error))?;
        }
        Ok(())
    }

    fn run(mut self) {
        struct Ended(Arc<Told>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.now().ended += 1;
                self.0.changed.notify_all();
            }
        }
        let _ended = Ended(self.told.clone());
        let mut seen = None;
        loop {
            let mut wait = LOOK;
            match self.turn() {
                Ok(Some(retry)) => wait = retry,
                Ok(None) => {}
                Err(error) => self.note_failure(Some(error)),
            }
            let now = self.told.now();
            if now.closing {
                // One more turn for what was written since, unless there is nothing new or nobody to tell it to.
                if seen == now.newest || wait != LOOK {
                    return;
                }
                seen = now.newest;
                continue;
            }
            seen = now.newest;
            let quiet = |now: &mut Now| !now.closing && now.newest == seen;
            // While it fails, new records are no reason to ask it again.
            let quiet_or_failing = |now: &mut Now| !now.closing && (wait != LOOK || quiet(now));
            drop(self.told.changed.wait_timeout_while(now, wait, quiet_or_failing));
        }
    }

    /// Tells what is new. `Some`: it could not be told, and is to be asked again after that time.
    fn turn(&mut self) -> Result<Option<Duration>, String> {
        let Some(file) = self.lock()? else {
            // Another process tells. How far it is stands in the file.
            let state = read_state(&self.state_file()).unwrap_or_default();
            self.measure(&state, None);
            return Ok(None);
        };
        let mut state = read(&file)?.unwrap_or_else(|| State { seq: self.began.saturating_sub(1), ..State::default() });
        state.witness = self.witness.to_string();
        let now = unix_milliseconds();
        if state.failures > 0 && now < state.retry_at {
            self.measure(&state, None);
            return Ok(Some(Duration::from_millis(state.retry_at - now).min(RETRY_MOST)));
        }
        // What is told is on disk: a machine that loses its power must not find itself accused.
        let synced = File::open(&self.log).and_then(|log| log.sync_data());
        synced.map_err(|error| format!("{}: {error}", self.log.display()))?;
        loop {
            let (messages, whole) = self.read_batch(&state)?;
            if messages.is_empty() {
                self.measure(&state, None);
                return Ok(None);
            }
            if let Err(failure) = self.way.tell(&messages) {
                state.failures = state.failures.saturating_add(1);
                let retry = RETRY.saturating_mul(1 << (state.failures - 1).min(12)).min(RETRY_MOST);
                state.retry_at = unix_milliseconds() + retry.as_millis() as u64;
                write(&file, &state)?;
                self.measure(&state, messages.first().map(|message| message.ts.as_str()));
                self.note_failure(Some(failure));
                return Ok(Some(retry));
            }
            if let Some(last) = messages.last() {
                state = State {
                    witness: state.witness,
                    seq: last.seq,
                    head: last.head.to_string(),
                    ts: last.ts.clone(),
                    ..State::default()
                };
            }
            write(&file, &state)?;
            self.note_failure(None);
            self.measure(&state, None);
            if whole {
                return Ok(None);
            }
        }
    }

    /// The next records to tell, and whether there are no more.
    fn read_batch(&self, state: &State) -> Result<(Vec<Message>, bool), String> {
        let mut reader = Reader::since(&self.log, state.seq + 1).map_err(|error| error.to_string())?;
        let mut messages: Vec<Message> = Vec::new();
        while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
            if self.sends == Sends::Checkpoints {
                // Each says all that those before it say.
                if !entry.signed {
                    continue;
                }
                messages.clear();
            }
            messages.push(Message {
                log: self.id.clone(),
                seq: entry.seq,
                head: entry.hash,
                ts: entry.ts.to_owned(),
                line: match self.sends {
                    Sends::Records => entry.line.to_vec(),
                    // What a signed record is about is nobody's to know who only holds the log against itself.
                    Sends::Checkpoints => {
                        let told =
                            serde_json::json!({ "hash": entry.hash.to_string(), "seq": entry.seq, "ts": entry.ts });
                        told.to_string().into_bytes()
                    }
                },
            });
            if messages.len() >= BATCH {
                return Ok((messages, false));
            }
        }
        Ok((messages, true))
    }

    /// Notes how far behind the witness is. `oldest` is the time of the oldest record that it does not know of, where it is at hand.
    fn measure(&self, state: &State, oldest: Option<&str>) {
        let newest = self.told.now().newest.map_or(0, |newest| newest.seq);
        let records = newest.saturating_sub(state.seq);
        let oldest = match oldest {
            _ if records == 0 => None,
            Some(oldest) => Some(oldest.to_owned()),
            None => Reader::since(&self.log, state.seq + 1)
                .and_then(|mut reader| reader.next_entry().map(|entry| entry.map(|entry| entry.ts.to_owned())))
                .unwrap_or_default(),
        };
        let oldest = oldest.and_then(|oldest| OffsetDateTime::parse(&oldest, &Rfc3339).ok());
        let behind = oldest.map_or(Duration::ZERO, |oldest| {
            Duration::try_from(OffsetDateTime::now_utc() - oldest).unwrap_or(Duration::ZERO)
        });
        if let Some(lag) = self.told.now().lags.get_mut(self.number) {
            (lag.records, lag.behind) = (records, behind);
        }
        metrics::witness_lag(self.witness.kind(), records, behind);
    }

    fn note_failure(&self, failure: Option<String>) {
        if let Some(lag) = self.told.now().lags.get_mut(self.number) {
            lag.failing = failure;
        }
    }

    fn state_file(&self) -> PathBuf {
        self.witness.state_file(&self.log)
    }

    /// The state's file, locked; `None` where another process holds it.
    fn lock(&self) -> Result<Option<File>, String> {
        let path = self.state_file();
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

pub(super) fn read_state(path: &Path) -> Option<State> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    read(&file).ok().flatten()
}

fn read(mut file: &File) -> Result<Option<State>, String> {
    let mut text = String::new();
    file.take(64 << 10).read_to_string(&mut text).map_err(|error| error.to_string())?;
    drop(std::io::Seek::rewind(&mut file));
    // A file that a crash left empty or in half says nothing: then it is told again from here on.
    Ok(serde_json::from_str(&text).ok())
}

/// Writes the state in place: its lock is on this very file. What a crash leaves of it is a state that says nothing.
fn write(mut file: &File, state: &State) -> Result<(), String> {
    let text = serde_json::to_string(state).map_err(|error| error.to_string())?;
    let padded = format!("{text:1000}\n");
    file.write_all_at(padded.as_bytes(), 0)
        .and_then(|()| file.set_len(padded.len() as u64))
        .and_then(|()| file.flush())
        .map_err(|error| error.to_string())
}

fn unix_milliseconds() -> u64 {
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    u64::try_from(now).unwrap_or(0)
}
