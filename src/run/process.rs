//! The parent's side of a worker: spawning it, talking to it, ending it in time, saying how it ended.
//!
//! Each worker has two threads of the parent. One spawns it and waits for its end: the kernel's parent-death signal is bound to the
//! spawning thread, so that thread must live as long as the worker. The other kills it at its deadline, whatever else the
//! parent is doing or stuck in. Neither prints, and neither waits for the other.

use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::error::Fault;
use crate::metrics;
use crate::script;
use crate::wire::{
    self, Eager, FrameError, FromWorker, Jail, JailPart, Limits, MAX_FRAME, Purpose, ScriptError, Source, Start,
    ToWorker,
};

/// How long past its deadline a worker may live.
pub const GRACE: Duration = Duration::from_millis(250);

/// How long a write to a worker that reads nothing may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The frames that a worker sends, one after the other.
pub struct Reader {
    stream: BufReader<Looked>,
}

/// A socket that is looked at for a moment before its reader sleeps.
struct Looked {
    stream: UnixStream,
    eager: Eager,
}

impl Read for Looked {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut count = 0;
        let found = self.eager.look(|| match recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((received, _)) => {
                count = received;
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error),
        })?;
        if found { Ok(count) } else { self.stream.read(buffer) }
    }
}

impl Reader {
    /// Waits for the next frame. [`FrameError::Closed`] means that the worker has ended; anything else that it misbehaves, and then
    /// it must be killed.
    pub fn read(&mut self) -> Result<FromWorker, FrameError> {
        match wire::read_frame(&mut self.stream, MAX_FRAME) {
            // A worker that was killed with a frame of ours unread.
            Err(FrameError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                Err(FrameError::Closed)
            }
            read => read,
        }
    }
}

/// Where frames for a worker go; shared by all who answer it.
#[derive(Clone)]
pub struct Writer {
    stream: Arc<Mutex<UnixStream>>,
    end: Arc<End>,
}

impl Writer {
    /// Sends one frame. A worker that does not take it within five seconds is killed: half a frame cannot be taken back.
    pub fn send(&self, frame: &ToWorker) -> Result<(), Fault> {
        let bytes = wire::encode_frame(frame, 4 * MAX_FRAME).map_err(|error| {
            Fault::new("script.answer_too_large", format!("the answer does not fit into one message: {error}"))
                .hint("ask for less at once")
        })?;
        let sent = lock(&self.stream).write_all(&bytes);
        sent.map_err(|error| {
            let fault = || Fault::new("script.lost", format!("the script's process takes no more messages: {error}"));
            self.end.kill(fault());
            fault()
        })
    }
}

/// A running worker. Dropping it kills it.
pub struct Worker {
    end: Arc<End>,
}

/// Everything that is known of a worker that ended.
#[derive(Debug)]
pub struct Ended {
    /// Why it ended, unless it ended by itself when its work was done.
    pub fault: Option<Fault>,
}

impl Worker {
    /// Starts a worker of this very binary and sends it `start`. From now on it is killed when it passes `limits.run_time`
    /// by 250 ms; a worker for the REPL has no deadline but in [`Worker::arm`].
    pub fn spawn(start: Start) -> Result<(Worker, Reader, Writer), Fault> {
        Self::spawn_from(&own_binary(), start)
    }

    /// Like [`Worker::spawn`], of another binary: for tests, whose own binary is no ceso.
    pub fn spawn_from(program: &Path, start: Start) -> Result<(Worker, Reader, Writer), Fault> {
        let failed = |error: std::io::Error| {
            Fault::new("script.not_started", format!("the script's process could not be started: {error}"))
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let end = Arc::new(End::new(start.limits.clone()));
        let deadline = match start.purpose {
            Purpose::Repl => None,
            _ => Instant::now().checked_add(start.limits.run_time.0 + GRACE),
        };
        lock(&end.state).deadline = deadline;
        begin(program.to_owned(), theirs.into(), &end).map_err(failed)?;
        let looked = Looked { stream: ours.try_clone().map_err(failed)?, eager: Eager::default() };
        let reader = Reader { stream: BufReader::new(looked) };
        let writer = Writer { stream: Arc::new(Mutex::new(ours)), end: Arc::clone(&end) };
        writer.send(&ToWorker::Start(Box::new(start)))?;
        Ok((Worker { end }, reader, writer))
    }

    pub fn pid(&self) -> u32 {
        lock(&self.end.state).pid
    }

    /// Gives the worker `time` and 250 ms from now: one chunk of the REPL.
    pub fn arm(&self, time: Duration) {
        lock(&self.end.state).deadline = Instant::now().checked_add(time.saturating_add(GRACE));
        self.end.changed.notify_all();
    }

    /// Takes the deadline back: the chunk has ended.
    pub fn disarm(&self) {
        lock(&self.end.state).deadline = None;
    }

    /// Asks the script to stop: a chunk of the REPL ends, a run is cancelled and what it deferred runs for up to two seconds.
    pub fn interrupt(&self) {
        self.end.signal(libc::SIGINT);
    }

    /// Kills the worker; `why` is what [`Worker::ended`] will say.
    pub fn kill(&self, why: Fault) {
        self.end.kill(why);
    }

    /// A handle with which any thread can interrupt or kill the worker, for signal handlers and the like.
    pub fn killer(&self) -> Killer {
        Killer { end: Arc::clone(&self.end) }
    }

    /// Waits until the worker is gone and says how that came. It must have been told to end, or be about to: call this when its
    /// last frame was read.
    pub fn ended(self) -> Ended {
        let mut state = lock(&self.end.state);
        while state.exit.is_none() {
            state = self.end.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ended { fault: self.end.verdict(&mut state) }
    }
}

impl Worker {
    /// Kills the worker and waits until it is gone: a moment, unless the kernel holds it.
    pub fn kill_and_wait(self) {
        self.end.signal(libc::SIGKILL);
        let mut state = lock(&self.end.state);
        let began = Instant::now();
        while state.exit.is_none() && began.elapsed() < PATIENCE {
            state = self.end.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end.signal(libc::SIGKILL);
    }
}

/// Ends a worker from anywhere.
#[derive(Clone)]
pub struct Killer {
    end: Arc<End>,
}

impl Killer {
    /// See [`Worker::interrupt`].
    pub fn interrupt(&self) {
        self.end.signal(libc::SIGINT);
    }

    /// See [`Worker::kill`].
    pub fn kill(&self, why: Fault) {
        self.end.kill(why);
    }
}

/// What a script's own account of its failure means to the parent.
///
/// The numbered fault, where it raised one of ours, is looked up by the caller; this is for all others.
pub fn fault_of(error: &ScriptError) -> Fault {
    let place = match (&error.file, error.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        (Some(file), None) => format!("{file}: "),
        _ => String::new(),
    };
    // The worker is not trusted: only kinds that are its to give.
    let kind = match error.kind.as_str() {
        kind @ ("usage.script"
        | "script.syntax"
        | "script.incomplete"
        | "script.cancelled"
        | "jail.incomplete"
        | "limit.run_time"
        | "limit.cpu_time"
        | "limit.memory"
        | "limit.output"
        | "limit.calls"
        | "limit.calls_at_once"
        | "limit.source") => kind.to_owned(),
        _ => "script.error".to_owned(),
    };
    let fault = Fault::new(kind, format!("{place}{}", error.message));
    match &error.hint {
        Some(hint) => fault.hint(hint.clone()),
        None => fault,
    }
}

/// What this machine gives to lock a worker down with: each part, and why it does not hold where it does not.
pub fn probe_jail() -> Result<Vec<JailPart>, Fault> {
    probe_jail_from(&own_binary())
}

/// Like [`probe_jail`], of another binary: for tests.
pub fn probe_jail_from(program: &Path) -> Result<Vec<JailPart>, Fault> {
    let (worker, mut reader, _writer) = Worker::spawn_from(
        program,
        Start {
            run: "probe".to_owned(),
            purpose: Purpose::Check(Source { name: "probe".to_owned(), text: Vec::new() }),
            limits: Limits { run_time: crate::units::Span(Duration::from_secs(5)), ..Limits::default() },
            hardened: true,
            jail: Jail::Partial,
        },
    )?;
    match reader.read() {
        Ok(FromWorker::Ready { jail }) => Ok(jail),
        Ok(other) => Err(Fault::new("script.lost", format!("the script's process began with {other:?}"))),
        Err(error) => Err(worker.ended().fault.unwrap_or_else(|| Fault::new("script.lost", error.to_string()))),
    }
}

/// The file that this process runs, also where it was replaced meanwhile.
fn own_binary() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { own } else { std::env::current_exe().unwrap_or(own) }
}

/// What the threads of a worker share.
struct End {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
}

#[derive(Default)]
struct State {
    /// 0 until it was spawned.
    pid: u32,
    deadline: Option<Instant>,
    /// Why we killed it.
    killed: Option<Fault>,
    exit: Option<ExitStatus>,
}

impl End {
    fn new(limits: Limits) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), limits }
    }

    fn kill(&self, why: Fault) {
        let mut state = lock(&self.state);
        if state.exit.is_none() && state.killed.is_none() {
            state.killed = Some(why);
        }
        send_signal(&state, libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        send_signal(&lock(&self.state), signal);
    }

    /// Sleeps until the deadline and kills, as often as there is a deadline; ends with the worker.
    fn watch(&self) {
        let mut state = lock(&self.state);
        while state.exit.is_none() {
            let now = Instant::now();
            state = match state.deadline {
                Some(deadline) if deadline <= now => {
                    if state.killed.is_none() {
                        state.killed = Some(late(&self.limits));
                    }
                    state.deadline = None;
                    send_signal(&state, libc::SIGKILL);
                    state
                }
                Some(deadline) => {
                    let wait = self.changed.wait_timeout(state, deadline - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn verdict(&self, state: &mut State) -> Option<Fault> {
        if let Some(why) = state.killed.take() {
            return Some(why);
        }
        let exit = state.exit?;
        if exit.success() {
            return None;
        }
        let limits = &self.limits;
        let passed = |what: &str, value: &dyn std::fmt::Display, setting: &str| {
            format!(
                "the script passed its limit of {what}, {value} (setting sandbox.{setting}), and its process was ended"
            )
        };
        Some(match (exit.signal(), exit.code()) {
            (Some(libc::SIGXCPU), _) => {
                Fault::new("limit.cpu_time", passed("processor time", &limits.cpu_time, "cpu_time"))
                    .hint("raise sandbox.cpu_time, or wait with task.sleep instead of a loop")
            }
            (Some(libc::SIGABRT), _) => Fault::new("limit.memory", passed("memory", &limits.memory, "memory"))
                .hint("raise sandbox.memory, or keep less at once"),
            (Some(libc::SIGSYS), _) => Fault::new(
                "jail.violation",
                "the script's process asked the kernel for what its jail forbids, and was ended",
            )
            .hint("a script cannot do that by ordinary means: keep the script, it shows a bug in the interpreter"),
            (Some(signal), _) => {
                Fault::new("script.crashed", format!("the script's process was ended by signal {signal}"))
                    .hint("what it had under way on the host may have been done or not")
            }
            (None, code) => Fault::new(
                "script.crashed",
                format!("the script's process ended in the middle, with code {}", code.unwrap_or(-1)),
            ),
        })
    }
}

fn late(limits: &Limits) -> Fault {
    Fault::new(
        "limit.run_time",
        format!(
            "the script passed its limit of run time, {} (setting sandbox.run_time), and its process was killed",
            limits.run_time
        ),
    )
    .hint("raise sandbox.run_time or --timeout; what was under way on the host may go on there")
}

/// Signals the worker if it is there. Under the lock a pid is not reused: the process is reaped under it as well.
fn send_signal(state: &State, signal: i32) {
    let Ok(pid) = i32::try_from(state.pid) else { return };
    if pid == 0 || state.exit.is_some() {
        return;
    }
    // SAFETY: kill takes two numbers. The process is ours and not reaped, so the number is still its own. That it may have ended by
    // itself is no error here.
    unsafe { libc::kill(pid, signal) };
}

/// Spawns on a thread of its own, which then waits for the end; and starts the one that kills.
fn begin(program: PathBuf, theirs: OwnedFd, end: &Arc<End>) -> std::io::Result<()> {
    let (tell, told) = mpsc::channel();
    let shared = Arc::clone(end);
    thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let mut command = Command::new(program);
        command
            .arg(script::ARGUMENT)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                lock(&shared.state).exit = Some(ExitStatus::from_raw(0));
                shared.changed.notify_all();
                // The one who waits for this is in the line below; that it went away is no one's loss.
                tell.send(Err(error)).ok();
                return;
            }
        };
        // The command holds our copy of the worker's end of the pipe: while it is open, reading would never end.
        drop(command);
        lock(&shared.state).pid = child.id();
        tell.send(Ok(())).ok();
        metrics::worker_spawned();
        let used = wait_without_reaping(child.id());
        let mut state = lock(&shared.state);
        state.exit = child.wait().ok().or_else(|| Some(ExitStatus::from_raw(libc::SIGKILL)));
        let reason = reason(&state);
        tracing::debug!(reason, "a worker has ended");
        metrics::worker_ended(reason, used);
        shared.changed.notify_all();
    })?;
    let shared = Arc::clone(end);
    thread::Builder::new().name("worker-deadline".to_owned()).spawn(move || shared.watch())?;
    told.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread that starts it ended")))
}

/// Why a worker has ended, in the words of its metric.
fn reason(state: &State) -> &'static str {
    const LIMITS: [&str; 5] = ["run_time", "calls", "output", "memory", "cpu_time"];
    if let Some(fault) = &state.killed {
        let limit = fault.kind().strip_prefix("limit.").unwrap_or_default();
        let other = if fault.is("script.cancelled") { "cancelled" } else { "misbehaved" };
        return LIMITS.into_iter().find(|known| *known == limit).unwrap_or(other);
    }
    match state.exit.map(|exit| (exit.success(), exit.signal())) {
        Some((true, _)) => "done",
        // Ours, when its work was done.
        Some((_, Some(libc::SIGKILL))) => "stopped",
        Some((_, Some(libc::SIGXCPU))) => "cpu_time",
        Some((_, Some(libc::SIGABRT))) => "memory",
        Some((_, Some(libc::SIGSYS))) => "jail",
        _ => "crashed",
    }
}

/// Waits for the end of a child and leaves it to be reaped, so that its number stays taken until then. Returns its processor time and
/// the most memory that it held, in bytes, where the kernel says.
fn wait_without_reaping(pid: u32) -> Option<(Duration, u64)> {
    loop {
        // SAFETY: both write the structs that are given, and keep no pointer to them.
        #[cfg(target_os = "linux")]
        let (result, usage) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let mut usage: libc::rusage = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOWAIT;
            // The C library's waitid leaves out the fifth argument of the kernel's.
            let result = libc::syscall(libc::SYS_waitid, libc::P_PID, pid, &raw mut info, options, &raw mut usage);
            (result, Some(usage))
        };
        #[cfg(not(target_os = "linux"))]
        let (result, usage) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let result = libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT);
            (result, None::<libc::rusage>)
        };
        if result == 0 {
            return usage.map(used);
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return None;
        }
    }
}

fn used(usage: libc::rusage) -> (Duration, u64) {
    let time = |time: libc::timeval| {
        let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
        whole + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or_default())
    };
    // Linux counts in KiB.
    (time(usage.ru_utime) + time(usage.ru_stime), u64::try_from(usage.ru_maxrss).unwrap_or_default() << 10)
}

/// A poisoned lock only means that a thread panicked between two writes of plain data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
