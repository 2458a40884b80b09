//! One session of the REPL: its worker and door, the chunks that it ran, and how it begins anew when they are lost.
//!
//! A worker that passed its memory or its time is gone, and with it every name. What it had done on the host stays. A new worker is a
//! new run with a new door; the chunks that succeeded may be replayed.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::show::show;
use super::worker::Worker;
use crate::cli::context::Context;
use crate::cli::globals::Globals;
use crate::cli::output::{Format, Style};
use crate::cli::{report, run as cli_run};
use crate::config::{Config, Mode, SIMULATOR, Target, printable};
use crate::door::{grammar, modes};
use crate::error::Fault;
use crate::metrics;
use crate::run::interrupt::Interrupts;
use crate::run::session::{Ended, Said};
use crate::run::{self, Kind};
use crate::units::Span;
use crate::wire::{ScriptError, Source, ToWorker, Value};

/// How long the prompt waits for a terminal that takes no output.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many chunks are kept for a replay.
const CHUNKS: usize = 1000;

/// What came of a chunk.
pub enum Verdict {
    Done,
    Failed,
    /// It ended too early: another line may complete it.
    Incomplete(ScriptError),
}

/// What stands before the cursor.
pub struct Prompt {
    pub plain: String,
    pub colored: String,
}

pub struct Repl<'c> {
    context: &'c Context,
    globals: Globals,
    config: Arc<Config>,
    host: Arc<Mutex<Option<String>>>,
    pub(super) worker: Worker,
    interrupts: Interrupts,
    style: Style,
    /// The chunks that succeeded in this session, in order.
    chunks: Vec<Chunk>,
    /// Those of the session before.
    lost: Vec<Chunk>,
    sources: Vec<Source>,
    /// How many chunks there were.
    count: usize,
    code: u8,
    interrupted: bool,
    said_simulator: bool,
    counted: metrics::Run,
}

#[derive(Clone)]
struct Chunk {
    name: String,
    text: String,
}

impl<'c> Repl<'c> {
    pub fn new(globals: &Globals, context: &'c Context) -> Result<Self, Fault> {
        let config = context.config()?;
        let host = Arc::new(Mutex::new(None));
        let mode = config.mode().name();
        let worker = Worker::start(&config, globals, &host)?;
        let interrupts = Interrupts::listen(None, false)
            .map_err(|error| Fault::new("ceso.signals", format!("signals cannot be awaited: {error}")).cause(error))?;
        Ok(Self {
            context,
            globals: globals.clone(),
            config,
            host,
            worker,
            interrupts,
            style: Style::of_stdout(Format::Table),
            chunks: Vec::new(),
            lost: Vec::new(),
            sources: Vec::new(),
            count: 0,
            code: 0,
            interrupted: false,
            said_simulator: false,
            counted: metrics::Run::begin(Kind::Repl.name(), mode),
        })
    }

    /// Runs one chunk and shows what it came to. An error ends the REPL: there is no worker any more.
    pub fn evaluate(&mut self, text: &str) -> Result<Verdict, Fault> {
        let name = format!("chunk {}", self.count + 1);
        self.evaluate_as(name, text)
    }

    /// Like [`Repl::evaluate`], under a name of its own.
    pub fn evaluate_as(&mut self, name: String, text: &str) -> Result<Verdict, Fault> {
        if text.contains('\0') {
            // Luau would take it as the end of the text, and the rest would go unseen.
            self.complain(Fault::new("usage.chunk", "the chunk holds a NUL character").hint("write it as \"\\0\""));
            return Ok(Verdict::Failed);
        }
        let limit = self.source_limit();
        if text.len() as u64 > limit {
            self.complain(super::input::too_long(limit));
            return Ok(Verdict::Failed);
        }
        let said = self.ask_worker(&name, text);
        if let Ok(Said::Failed(error)) = &said
            && error.kind == "script.incomplete"
        {
            return Ok(Verdict::Incomplete(error.clone()));
        }
        self.count += 1;
        self.sources.retain(|source| source.name != name);
        self.sources.push(Source { name: name.clone(), text: text.as_bytes().to_vec() });
        if self.sources.len() > CHUNKS {
            self.sources.remove(0);
        }
        let verdict = match said {
            Ok(Said::Done(value)) => {
                self.chunks.push(Chunk { name, text: text.to_owned() });
                if self.chunks.len() > CHUNKS {
                    self.chunks.remove(0);
                }
                self.show(&value);
                Ok(Verdict::Done)
            }
            Ok(Said::Failed(error)) => {
                self.worker.session.drop_reads();
                let gone = matches!(error.kind.as_str(), "limit.memory" | "limit.cpu_time");
                let closed = error.kind == "jail.incomplete";
                let ended = self.worker.session.ended(error);
                if closed {
                    return Err(ended.into_fault());
                }
                self.tell(&ended);
                if gone { self.lose().map(|()| Verdict::Failed) } else { Ok(Verdict::Failed) }
            }
            Ok(other) => Err(Fault::new("ceso.worker", format!("the worker said what was not asked: {other:?}"))
                .hint("this is a defect of ceso: please report it")),
            Err(ended) => {
                self.tell(&ended);
                if self.worker.session.is_alive() { Ok(Verdict::Failed) } else { self.lose().map(|()| Verdict::Failed) }
            }
        };
        self.note_simulator();
        verdict
    }

    fn ask_worker(&mut self, name: &str, text: &str) -> Result<Said, Ended> {
        let session = &mut self.worker.session;
        let time = self.worker.limits.run_time;
        self.interrupts.take();
        self.interrupts.turn_to(session.killer());
        self.worker.door.record().set_script(run::hash(text.as_bytes()));
        session.arm(time.0);
        let chunk = ToWorker::Chunk { name: name.to_owned(), source: text.to_owned(), time: Span(time.0) };
        let said = session.send(&chunk).and_then(|()| session.until_said());
        session.disarm();
        self.interrupts.turn_to(None);
        self.interrupted |= self.interrupts.take();
        self.worker.lines.clear();
        said
    }

    fn show(&self, value: &Value) {
        match show(value, &self.style) {
            Ok(text) => self.worker.output.text(text),
            Err(fault) => self.note(&format!("warning: the value cannot be shown: {fault}\n")),
        }
    }

    /// Begins a new session after the worker is gone, and says what that means.
    fn lose(&mut self) -> Result<(), Fault> {
        self.begin_anew()?;
        let mut text = String::from("The session's state is gone; a new one has begun.");
        if !self.lost.is_empty() {
            let count = self.lost.len();
            text.push_str(&format!(
                " :replay runs its {count} chunk{} again, with whatever they change on the host.",
                if count == 1 { "" } else { "s" }
            ));
        }
        self.note(&(text + "\n"));
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), Fault> {
        if !self.chunks.is_empty() {
            self.lost = std::mem::take(&mut self.chunks);
        }
        // The simulator's state must be let go before it is opened again: the old worker ends first.
        self.account();
        self.worker
            .session
            .end(self.interrupts.hurry_from_now())
            .iter()
            .for_each(|fault| self.note(&format!("afterwards: {fault}\n")));
        self.close_record();
        // The new worker's output is another: what the old one said comes first.
        self.settle();
        self.worker = Worker::start(&self.config, &self.globals, &self.host)?;
        Ok(())
    }

    /// Ends the session's record, and gives its receipt.
    fn close_record(&self) {
        let closed = run::close(&self.worker.door, "repl", &Ok(()), &self.worker.session.sources);
        closed.faults.iter().for_each(|fault| self.note(&format!("afterwards: {fault}\n")));
        if let Some(receipt) = closed.receipt {
            self.note(&format!("audit {receipt}\n"));
        }
    }

    /// Says what was changed, where anything was.
    fn account(&self) {
        for line in cli_run::summary(&self.worker.door.journal().changes(), false, self.globals.verbose) {
            self.note(&format!("{}\n", printable(&line)));
        }
    }

    /// Runs the chunks of the session before; stops at the first that fails.
    pub fn replay(&mut self) -> Result<(), Fault> {
        let chunks = std::mem::take(&mut self.lost);
        if chunks.is_empty() {
            self.complain(
                Fault::new("usage.replay", "there is nothing to replay").hint("it is for a session that was lost"),
            );
            return Ok(());
        }
        for (at, chunk) in chunks.iter().enumerate() {
            let lines: Vec<String> = chunk.text.trim_end().lines().take(20).map(printable).collect();
            self.note(&format!("> {}\n", lines.join("\n  ")));
            if !matches!(self.evaluate_as(chunk.name.clone(), &chunk.text)?, Verdict::Done) {
                self.note(&format!(
                    "The replay stopped at chunk {} of {}; :replay goes on there.\n",
                    at + 1,
                    chunks.len()
                ));
                // Where the state was lost once more, all of it is to be done again.
                let from = if self.chunks.is_empty() { 0 } else { at };
                self.lost = chunks.get(from..).unwrap_or_default().to_vec();
                return Ok(());
            }
        }
        Ok(())
    }

    /// What `:mode` does: the same as starting anew with `--mode`, under the same rules of the configuration.
    pub fn change_mode(&mut self, mode: Mode) -> Result<(), Fault> {
        let globals = Globals { mode: Some(mode.name().to_owned()), ..self.globals.clone() };
        let sources = self.context.sources().clone().flag("--mode", "security.mode", mode.name());
        match Config::load(sources) {
            Ok(config) => (self.config, self.globals) = (Arc::new(config), globals),
            Err(fault) => {
                self.complain(fault);
                return Ok(());
            }
        }
        self.lose()
    }

    /// What `:host NAME` does.
    pub fn choose_host(&mut self, name: &str) -> Result<(), Fault> {
        self.config.target(Some(name))?;
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
        self.worker.door.choose_again();
        Ok(())
    }

    /// The host for calls that name none, where there is one.
    pub fn host(&self) -> Option<String> {
        let chosen = self.host.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.config.target(chosen.as_deref()) {
            Ok(Target::Simulator) => Some(SIMULATOR.to_owned()),
            Ok(Target::Host(host)) => Some(host.name),
            Err(_) => chosen,
        }
    }

    pub fn host_names(&self) -> Vec<String> {
        self.config.host_names().map(str::to_owned).collect()
    }

    pub fn mode(&self) -> Mode {
        self.config.mode()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn style(&self) -> &Style {
        &self.style
    }

    pub fn history(&self) -> std::path::PathBuf {
        self.config.home().history()
    }

    pub fn source_limit(&self) -> u64 {
        self.worker.limits.source.0
    }

    /// The tables that hold, as `needs` are written.
    pub fn tables(&self) -> String {
        let mode = self.mode();
        let mut text = format!("The mode {mode} allows:\n{}", grammar::write(&modes::table(mode)));
        if let Some(table) = self.worker.door.policy().granted() {
            text.push_str(&format!("of that the grant allows:\n{}", grammar::write(table)));
        }
        text
    }

    /// Whether nothing more is to be read: the process was asked to end, nobody reads, or Ctrl-C came while a pipe was read.
    pub fn stopped(&self) -> bool {
        self.interrupted || self.terminated() || self.worker.output.is_closed()
    }

    /// Whether the process was asked to end.
    pub fn terminated(&self) -> bool {
        self.interrupts.terminated()
    }

    pub fn prompt(&self) -> Prompt {
        let simulated = self.host().as_deref() == Some(SIMULATOR);
        let host = self.host().map_or_else(|| "no host".to_owned(), |host| printable(&host));
        let (mark, mode) = (if simulated { "SIMULATOR " } else { "" }, self.mode());
        let plain = format!("{mark}{host} ({mode})> ");
        let colored = if self.style.color {
            let color = if mode == Mode::Unrestricted { "31" } else { "32" };
            format!("\x1b[1;33m{mark}\x1b[0m\x1b[1m{host}\x1b[0m \x1b[{color}m({mode})\x1b[0m> ")
        } else {
            plain.clone()
        };
        Prompt { plain, colored }
    }

    /// Waits until everything is written, so that the prompt comes below it.
    pub fn settle(&self) {
        self.worker.output.finish(Some(PATIENCE));
    }

    /// Writes text of ours to standard output.
    pub fn say(&self, text: &str) {
        self.worker.output.text(text);
    }

    /// Writes text of ours to standard error.
    pub fn note(&self, text: &str) {
        self.worker.output.note(text);
    }

    /// Tells a fault of the REPL's own.
    pub fn complain(&mut self, fault: Fault) {
        self.tell(&fault.into());
    }

    /// Tells a chunk's own failure.
    pub fn fail(&mut self, error: ScriptError) {
        let ended = self.worker.session.ended(error);
        self.tell(&ended);
    }

    fn tell(&mut self, ended: &Ended) {
        self.code = ended.exit_code();
        let color = self.style.color;
        let sources: Vec<Source> = self.sources.iter().chain(&self.worker.session.sources).cloned().collect();
        let text = match ended {
            Ended::Fault { fault, script: Some(error) } => report::script(error, Some(fault), &sources, color),
            Ended::Fault { fault, script: None } => report::fault(fault, self.globals.verbose, color),
            Ended::Script(error) => report::script(error, None, &sources, color),
        };
        self.note(&text);
    }

    fn note_simulator(&mut self) {
        if !self.said_simulator && self.worker.door.simulated() {
            self.said_simulator = true;
            self.note("SIMULATOR: nothing of this happens on a real host\n");
        }
    }

    /// Ends the session and gives the code to leave with.
    pub fn finish(mut self) -> Result<ExitCode, Fault> {
        let faults = self.worker.session.end(self.interrupts.hurry_from_now());
        self.account();
        faults.iter().for_each(|fault| self.note(&format!("afterwards: {fault}\n")));
        self.close_record();
        let output = &self.worker.output;
        // A reader that takes its time (`| less`) gets all of it.
        output.finish(self.terminated().then_some(PATIENCE));
        self.counted.end(if self.code == 0 { metrics::Outcome::Done } else { metrics::Outcome::Failed });
        output.lost()?;
        Ok(ExitCode::from(if self.interrupts.terminated() { 143 } else { self.code }))
    }
}
