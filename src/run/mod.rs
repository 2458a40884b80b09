//! One run of one script: load, grant, spawn the worker, answer its calls, end it in time.
//!
//! Playbooks, commands, checks and the REPL all take this way: a worker process with one VM, a pipe, and the door behind it.

pub mod connect;
pub mod declaration;
pub mod interrupt;
pub mod modules;
pub mod output;
pub mod params;
pub mod presence;
pub mod principal;
pub mod process;
pub mod progress;
pub mod session;
pub mod suite;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::door::file::Access;
use crate::door::journal::{Change, Made, Outcome};
use crate::door::pass::Progress;
use crate::door::record::{Closed, Recording};
use crate::door::table::Table;
use crate::door::{Door, Grant, Hosts, Ledger};
use crate::error::Fault;
use crate::metrics;
use crate::web::Address;
use crate::wire::{Jail, Limits, Purpose, Source, Start, ToWorker, Value};

use declaration::Declaration;
use interrupt::Interrupts;
use modules::Modules;
use output::Output;
use presence::Presence;
use progress::Lines;
use session::{Ended, Means, Said, Session};
use suite::Hold;

/// A run's name: every message, log line and record of it carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// A new name, ordered by time (UUID version 7).
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ceso run`.
    Run,
    /// A workflow as a command.
    Command,
    /// The REPL.
    Repl,
    /// A test, or what a test runs.
    Test,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Run => "run",
            Kind::Command => "command",
            Kind::Repl => "repl",
            Kind::Test => "test",
        }
    }
}

/// What a run is made of.
pub struct Request {
    pub id: RunId,
    pub source: Source,
    /// The playbook's own folder, from which `require` may read.
    pub folder: Option<PathBuf>,
    pub grant: Grant,
    /// Where it is recorded.
    pub ledger: Ledger,
    pub limits: Limits,
    pub hosts: Arc<dyn Hosts>,
    pub output: Output,
    pub lines: Lines,
    /// How far the kernel must lock the worker down.
    pub jail: Jail,
    pub kind: Kind,
    /// The host that it is started for, for `ceso status`.
    pub host: Option<String>,
    /// The folder in which it is made known while it runs.
    pub runs: Option<PathBuf>,
    /// Who ends it in place of signals: what a test runs is the test's business.
    pub hold: Option<Hold>,
}

/// What comes of a playbook once its declaration is known.
pub enum Decision {
    /// Run it with these parameters.
    Go(Value),
    /// It was only looked at.
    Stop,
}

/// What came of a run.
pub struct Report {
    pub id: RunId,
    pub result: Result<Value, Ended>,
    /// Every change that the run made, or tried to make.
    pub changes: Vec<Change>,
    /// The entries that it used.
    pub used: Table,
    /// Whether it spoke with the simulator.
    pub simulated: bool,
    /// Whether it spoke with another host.
    pub real: bool,
    /// The files that it was made of, for errors that point into them.
    pub sources: Vec<Source>,
    /// The number of the run's last record and the head of the audit log's chain: what `ceso audit verify --pin` takes.
    pub receipt: Option<String>,
    /// The machines that it made and left.
    pub left: Vec<Made>,
    /// What went wrong after its end.
    pub afterwards: Vec<Fault>,
}

/// Runs a script. `decide` is asked once a playbook's declaration is known; a plain script just runs.
pub fn run(request: Request, decide: impl FnOnce(&Declaration) -> Result<Decision, Fault>) -> Report {
    let _span = tracing::info_span!("run", id = %request.id, script = %request.source.name).entered();
    let mode = request.grant.mode.name();
    let counted = metrics::Run::begin(request.kind.name(), mode);
    tracing::info!(mode, kind = request.kind.name(), "the run begins");
    let mut looked = false;
    let report = run_on(request, |declaration| {
        let decision = decide(declaration)?;
        looked = matches!(decision, Decision::Stop);
        Ok(decision)
    });
    let outcome = report.result.as_ref().map_or_else(Ended::outcome, |_| metrics::Outcome::Done);
    match &report.result {
        Ok(_) => tracing::info!("the run is done"),
        Err(ended) => {
            ended.count(mode);
            tracing::warn!(kind = ended.kind(), "the run has failed");
        }
    }
    if !looked {
        counted.end(outcome);
    }
    report
}

fn run_on(request: Request, decide: impl FnOnce(&Declaration) -> Result<Decision, Fault>) -> Report {
    let id = request.id.clone();
    let source = request.source.clone();
    let door = Arc::new(open_door(&request));
    match open(&request, door.clone()) {
        Ok(mut session) => {
            if let Some(hold) = &request.hold {
                hold.take(session.killer());
                let result = drive_on(&mut session, &request, &door, decide);
                return conclude(id, session, source, result, &door, hold.hurry());
            }
            let interrupts = match Interrupts::listen(session.killer(), true) {
                Ok(interrupts) => interrupts,
                Err(error) => {
                    let fault = Fault::new("ceso.signals", format!("signals cannot be awaited: {error}")).cause(error);
                    return nothing(id, fault.into(), source);
                }
            };
            let result = drive(&mut session, &request, &door, &interrupts, decide);
            interrupts.turn_to(None);
            conclude(id, session, source, result, &door, interrupts.hurry())
        }
        Err(ended) => {
            let closed = close(&door, &source.name, &Err(&ended), std::slice::from_ref(&source));
            let receipt = closed.receipt.map(|receipt| receipt.to_string());
            Report { receipt, afterwards: closed.faults, ..nothing(id, ended, source) }
        }
    }
}

/// Ends a session, and tells what came of its run.
fn conclude(
    id: RunId,
    mut session: Session,
    source: Source,
    result: Result<Value, Ended>,
    door: &Door,
    hurry: tokio::sync::watch::Receiver<bool>,
) -> Report {
    let mut sources = std::mem::take(&mut session.sources);
    let what = source.name.clone();
    sources.push(source);
    let (simulated, real) = (door.simulated(), door.real());
    let mut afterwards = session.finish_unless(hurry);
    let (changes, used) = (door.journal().changes(), door.policy().used());
    let closed = close(door, &what, &result.as_ref().map(drop), &sources);
    afterwards.extend(closed.faults);
    let receipt = closed.receipt.map(|receipt| receipt.to_string());
    let left = door.journal().standing();
    Report { id, result, changes, used, simulated, real, sources, receipt, left, afterwards }
}

/// What came of a run that did not begin.
fn nothing(id: RunId, ended: Ended, source: Source) -> Report {
    Report {
        id,
        result: Err(ended),
        changes: Vec::new(),
        used: Table::default(),
        simulated: false,
        real: false,
        sources: vec![source],
        receipt: None,
        left: Vec::new(),
        afterwards: Vec::new(),
    }
}

fn drive(
    session: &mut Session,
    request: &Request,
    door: &Door,
    interrupts: &Interrupts,
    decide: impl FnOnce(&Declaration) -> Result<Decision, Fault>,
) -> Result<Value, Ended> {
    let result = drive_on(session, request, door, decide);
    // A script that was asked to stop and did has not failed by itself.
    match result {
        Err(Ended::Script(error)) if interrupts.take() && error.kind == "script.cancelled" => {
            Err(interrupts.fault().into())
        }
        result => result,
    }
}

fn drive_on(
    session: &mut Session,
    request: &Request,
    door: &Door,
    decide: impl FnOnce(&Declaration) -> Result<Decision, Fault>,
) -> Result<Value, Ended> {
    session.begin(request.limits.run_time.0);
    let mut said = session.until_said()?;
    if let Said::Loaded(table) = said {
        let declaration = Declaration::read(&table)?;
        match decide(&declaration)? {
            Decision::Stop => return Ok(Value::Nil),
            Decision::Go(mut params) => {
                params::hand_over(&declaration.params, &mut params, |name, reference, kind| match kind {
                    params::Type::Secret(purpose) => door.secret_parameter(name, reference, *purpose),
                    params::Type::File(access) => door.file_parameter(reference, *access),
                    params::Type::Source if !Address::is_meant(reference) => {
                        door.file_parameter(reference, Access::Read)
                    }
                    _ => Ok(Value::Text(reference.to_owned())),
                })?;
                door.record().set_parameters(&params, &params::contents(&declaration.params));
                door.policy().set_needs(declaration.needs(&params)?);
                session.begin(request.limits.run_time.0);
                session.send(&ToWorker::Go { params })?;
                said = session.until_said()?;
            }
        }
    }
    match said {
        Said::Done(value) => Ok(value),
        Said::Failed(error) => Err(session.ended(error)),
        other => Err(unexpected(&other)),
    }
}

/// What a script is looked at with: the folder of its modules, its limits, and where it may print.
pub struct Looks {
    pub folder: Option<PathBuf>,
    pub limits: Limits,
    pub output: Output,
}

/// Loads a script as far as its declaration, with every operation refused; `None` for a plain script.
pub fn check(source: Source, looks: Looks) -> Result<Option<Declaration>, Ended> {
    let mut session = look(Purpose::Check(source), looks)?;
    let said = session.until_said();
    let result = match said {
        Ok(Said::Loaded(table)) => Declaration::read(&table).map(Some).map_err(Ended::from),
        Ok(Said::Plain) => Ok(None),
        Ok(Said::Failed(error)) => Err(session.ended(error)),
        Ok(other) => Err(unexpected(&other)),
        Err(ended) => Err(ended),
    };
    session.finish();
    result
}

/// A file's name, and what it declares or why that is not known.
pub type Described = (String, Result<Declaration, Ended>);

/// Reads the declarations of several files in one worker, each in an environment of its own.
pub fn describe(sources: Vec<Source>, looks: Looks) -> Result<Vec<Described>, Ended> {
    let count = sources.len();
    let mut session = look(Purpose::Describe(sources), looks)?;
    let mut described = Vec::with_capacity(count);
    while described.len() < count {
        match session.until_said()? {
            Said::Described { name, outcome } => {
                let outcome = match outcome {
                    Ok(table) => Declaration::read(&table).map_err(Ended::from),
                    Err(error) => Err(session.ended(error)),
                };
                described.push((name, outcome));
            }
            Said::Failed(error) => return Err(session.ended(error)),
            other => return Err(unexpected(&other)),
        }
    }
    session.finish();
    Ok(described)
}

/// A session for scripts that may call nothing.
fn look(purpose: Purpose, looks: Looks) -> Result<Session, Ended> {
    struct Nowhere;
    impl Hosts for Nowhere {
        fn connect<'a>(
            &'a self,
            _: Option<&'a str>,
        ) -> futures_util::future::BoxFuture<'a, Result<crate::door::object::Connected, Fault>> {
            Box::pin(async { Err(Fault::new("usage.check", "a check connects to no host")) })
        }
    }
    let grant = Grant { mode: crate::config::Mode::Restricted, table: None };
    let door = Arc::new(Door::new(grant, Arc::new(Nowhere), Arc::new(|_| {})));
    spawn(purpose, &RunId::new(), looks, Lines::new(), Jail::Partial, door)
}

fn open_door(request: &Request) -> Door {
    let lines = request.lines.clone();
    let watcher = Arc::new(move |progress: Progress| lines.operation(&progress));
    let grant = Grant { mode: request.grant.mode, table: request.grant.table.clone() };
    let output = request.output.clone();
    let recording = Recording {
        ledger: request.ledger.clone(),
        run: request.id.as_str().to_owned(),
        script: Some(hash(&request.source.text)),
        details: Some(json!({ "source": request.source.name })),
        warn: Arc::new(move |text| output.note(format!("ceso: {}\n", output::one_line(text)))),
    };
    Door::recorded(grant, request.hosts.clone(), watcher, recording)
}

/// The SHA-256 of a text, in hex, as records name scripts.
pub fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Ends the record of a run of `what`.
pub fn close(door: &Door, what: &str, result: &Result<(), &Ended>, sources: &[Source]) -> Closed {
    let count = |outcome| door.journal().changes().iter().filter(|change| change.outcome == outcome).count();
    // A playbook's modules are a part of what it did as much as its own text.
    let modules: serde_json::Map<String, serde_json::Value> =
        sources.iter().map(|source| (source.name.clone(), hash(&source.text).into())).collect();
    let mut details = json!({ "calls": door.record().calls(), "sources": modules });
    for (name, outcome) in [
        ("done", Outcome::Done),
        ("unchanged", Outcome::Unchanged),
        ("failed", Outcome::Failed),
        ("unknown", Outcome::Unknown),
    ] {
        details[name] = count(outcome).into();
    }
    match result {
        Ok(_) => door.end(what, "done", None, details),
        Err(Ended::Fault { fault, .. }) => door.end(what, "failed", Some(fault), details),
        Err(Ended::Script(error)) => {
            let fault = Fault::new(error.kind.clone(), error.message.clone());
            door.end(what, "failed", Some(&fault), details)
        }
    }
}

fn open(request: &Request, door: Arc<Door>) -> Result<Session, Ended> {
    open_for(Purpose::Run(request.source.clone()), request, door)
}

fn open_for(purpose: Purpose, request: &Request, door: Arc<Door>) -> Result<Session, Ended> {
    let looks =
        Looks { folder: request.folder.clone(), limits: request.limits.clone(), output: request.output.clone() };
    let mut session = spawn(purpose, &request.id, looks, request.lines.clone(), request.jail, door)?;
    session.make_known(present(request));
    Ok(session)
}

/// Makes the run known on this machine; that it cannot be is no reason not to run.
fn present(request: &Request) -> Option<Presence> {
    let folder = request.runs.as_deref()?;
    let about = presence::About {
        run: request.id.to_string(),
        kind: request.kind.name().to_owned(),
        script: request.source.name.clone(),
        mode: request.grant.mode.name().to_owned(),
        host: request.host.clone(),
        principal: principal::principal(),
        pid: std::process::id(),
        since: presence::now(),
    };
    Presence::enter(folder, &about)
        .inspect_err(|error| tracing::warn!("the run is not made known in {}: {error}", folder.display()))
        .ok()
}

/// A worker with nothing to do yet but to wait for chunks, and its door.
pub fn repl(request: &Request) -> Result<(Session, Arc<Door>), Ended> {
    let door = Arc::new(open_door(request));
    let looks =
        Looks { folder: request.folder.clone(), limits: request.limits.clone(), output: request.output.clone() };
    let mut session = spawn(Purpose::Repl, &request.id, looks, request.lines.clone(), request.jail, door.clone())?;
    session.make_known(present(request));
    Ok((session, door))
}

fn spawn(
    purpose: Purpose,
    id: &RunId,
    Looks { folder, limits, output }: Looks,
    lines: Lines,
    jail: Jail,
    door: Arc<Door>,
) -> Result<Session, Ended> {
    let start = Start { run: id.as_str().to_owned(), purpose, limits: limits.clone(), hardened: true, jail };
    let (worker, reader, writer) = process::Worker::spawn(start)?;
    let modules = match folder {
        Some(folder) => Modules::under(&folder, limits.source)?,
        None => Modules::none(),
    };
    Ok(Session::new(worker, reader, writer, door, Means { modules, output, lines, limits }))
}

fn unexpected(said: &Said) -> Ended {
    Fault::new("ceso.worker", format!("the worker said what was not asked: {said:?}"))
        .hint("this is a defect of ceso: please report it")
        .into()
}
