//! One test: its simulator, its worker, and what came of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bench::{Simulated, TestBench, Transcript};
use super::files::TestFile;
use crate::cli::globals::Globals;
use crate::cli::run as running;
use crate::config::{Config, Mode};
use crate::door::{Grant, Ledger};
use crate::error::Fault;
use crate::run::output::Output;
use crate::run::progress::Lines;
use crate::run::session::Ended;
use crate::run::suite::{self, Hold, Setup, SetupPower, Skip, Suite, Test};
use crate::run::{Kind, Request, RunId};
use crate::sim::{self, Machine, Server, Stage};
use crate::units::Span;
use crate::wire::Source;

/// How long a test may take that says nothing of it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long what a test printed may take to be gathered.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all tests have in common.
pub struct World {
    config: Arc<Config>,
    globals: Globals,
    /// The simulators run on it.
    runtime: tokio::runtime::Runtime,
}

/// A test that is to run.
pub struct Case {
    pub file: TestFile,
    pub name: String,
    pub line: i64,
    skip: Option<String>,
    setup: Setup,
    timeout: Option<Span>,
    /// Why the file has no tests.
    pub broken: Option<String>,
}

/// What came of a test.
pub struct Outcome {
    pub verdict: Verdict,
    pub took: Duration,
    /// What the test itself printed and logged.
    pub output: String,
    /// The runs that it made.
    pub runs: Vec<Transcript>,
}

pub enum Verdict {
    Passed,
    Skipped(String),
    Failed(Failure),
}

/// Why a test failed.
pub struct Failure {
    pub kind: String,
    pub message: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// The whole error, as it is printed.
    pub text: String,
}

impl Case {
    pub fn of(file: &TestFile, test: Test, setup: &Setup, timeout: Option<Span>) -> Self {
        let skip = test.skip.and_then(|skip| match skip {
            Skip::Flag(false) => None,
            Skip::Flag(true) => Some("left out".to_owned()),
            Skip::Why(why) => Some(why),
        });
        Self {
            file: file.clone(),
            name: test.name,
            line: test.line,
            skip,
            setup: test.setup.unwrap_or_else(|| setup.clone()),
            timeout: test.timeout.or(timeout),
            broken: None,
        }
    }

    /// A file whose tests are not known, which counts as a test that failed.
    pub fn broken(file: &TestFile, why: String) -> Self {
        Self {
            file: file.clone(),
            name: "(the file)".to_owned(),
            line: 1,
            skip: None,
            setup: Setup::default(),
            timeout: None,
            broken: Some(why),
        }
    }

    pub fn skipped(&self) -> Option<&str> {
        self.skip.as_deref()
    }
}

/// A thread ended in the middle.
pub fn lost() -> Ended {
    Fault::new("ceso.thread", "a thread of ceso ended in the middle")
        .hint("this is a defect of ceso: please report it")
        .into()
}

impl World {
    pub fn new(config: Arc<Config>, globals: Globals) -> Result<Self, Fault> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| {
                Fault::new("ceso.runtime", format!("the asynchronous runtime does not start: {error}")).cause(error)
            })?;
        Ok(Self { config, globals, runtime })
    }

    /// Reads what a file of tests declares.
    pub fn suite(&self, file: &TestFile) -> Result<Suite, Ended> {
        let (source, folder) = self.load(file)?;
        let looks = running::looks(&self.config, Some(folder))?;
        suite::suite(source, looks)
    }

    fn load(&self, file: &TestFile) -> Result<(Source, std::path::PathBuf), Fault> {
        if let Some(why) = file.refused {
            return Err(Fault::new("usage.file", format!("{}: {why}", file.shown)));
        }
        let (mut source, folder) = running::load(&file.path.display().to_string(), &self.config)?;
        source.name.clone_from(&file.shown);
        Ok((source, folder.unwrap_or_else(|| Path::new(".").to_owned())))
    }

    /// An error of a file's own, as text.
    pub fn told(&self, ended: &Ended, file: &TestFile) -> String {
        let sources: Vec<Source> = self.load(file).map(|(source, _)| source).into_iter().collect();
        running::told(ended, &sources, self.globals.verbose, false)
    }

    /// Runs one test.
    pub fn run(&self, case: &Case, hold: &Hold) -> Outcome {
        let began = Instant::now();
        let outcome = |verdict| Outcome { verdict, took: began.elapsed(), output: String::new(), runs: Vec::new() };
        if let Some(why) = &case.broken {
            let message = why.lines().next().unwrap_or_default().to_owned();
            let text = why.clone();
            return outcome(Verdict::Failed(Failure {
                kind: "usage.file".to_owned(),
                message,
                file: None,
                line: None,
                text,
            }));
        }
        if let Some(why) = case.skipped() {
            return outcome(Verdict::Skipped(why.to_owned()));
        }
        match self.run_within(case, hold, began) {
            Ok(outcome) => outcome,
            Err(fault) => outcome(Verdict::Failed(failure(&fault.into(), &[]))),
        }
    }

    fn run_within(&self, case: &Case, hold: &Hold, began: Instant) -> Result<Outcome, Fault> {
        let (source, folder) = self.load(&case.file)?;
        let server = Arc::new(self.simulator(&case.setup)?);
        let mut limits = self.config.limits().clone();
        let asked =
            case.timeout.unwrap_or(if self.globals.timeout.is_some() { limits.run_time } else { Span(TIMEOUT) });
        limits.run_time = Span(asked.0.min(limits.run_time.0));
        let id = RunId::new();
        let bench = Arc::new(TestBench::new(
            self.config.clone(),
            self.globals.clone(),
            server.clone(),
            &case.file,
            hold.clone(),
            began + limits.run_time.0,
        )?);
        let (output, printed) = captured(limits.output)?;
        let request = Request {
            source,
            folder: Some(folder),
            grant: Grant { mode: Mode::Unrestricted, table: None },
            jail: running::jail(Mode::Unrestricted, &self.globals),
            limits,
            hosts: Arc::new(Simulated::new(self.config.clone(), server.clone(), &id)),
            output: output.clone(),
            lines: Lines::hidden(),
            kind: Kind::Test,
            hold: Some(hold.clone()),
            ledger: Ledger::none(),
            host: None,
            runs: None,
            id,
        };
        let report = suite::test(request, hold, &case.name, bench.clone());
        output.finish(Some(PATIENCE));
        let verdict = match &report.result {
            Ok(_) => Verdict::Passed,
            Err(ended) => Verdict::Failed(failure(ended, &report.sources)),
        };
        let runs = bench.transcripts();
        // Its tasks and its folder go with it, on the runtime's own threads.
        let entered = self.runtime.enter();
        drop((bench, server));
        drop(entered);
        Ok(Outcome { verdict, took: began.elapsed(), output: printed.text(), runs })
    }

    fn simulator(&self, setup: &Setup) -> Result<Server, Fault> {
        let options = sim::Options { boot_delay: Duration::ZERO, ..sim::Options::default() };
        let stage = stage(setup)?;
        self.runtime.block_on(async {
            let server = Server::start(options).await?;
            server.stage(&stage)?;
            Ok(server)
        })
    }
}

/// What a setup puts into the simulator.
fn stage(setup: &Setup) -> Result<Stage, Fault> {
    let mut machines = Vec::with_capacity(setup.vms.len());
    for (index, vm) in setup.vms.iter().enumerate() {
        let wrong = |field: &str, what: &str| {
            Fault::new("usage.setup", format!("setup.vms[{}].{field}: {what}", index + 1))
                .hint("ceso doc tests shows what a setup may hold")
        };
        let memory_mb = match vm.memory {
            None => None,
            Some(memory) => Some(
                i32::try_from(memory.0 >> 20)
                    .ok()
                    .filter(|mb| *mb > 0 && mb % 4 == 0)
                    .ok_or_else(|| wrong("memory", "the memory of a machine is a multiple of 4 MiB"))?,
            ),
        };
        if vm.cpus.is_some_and(|cpus| !(1..=768).contains(&cpus)) {
            return Err(wrong("cpus", "a machine has 1 to 768 processors"));
        }
        let ip = match &vm.ip {
            None => None,
            Some(ip) => Some(ip.parse().map_err(|_| wrong("ip", "is an IPv4 address, such as 10.0.1.50"))?),
        };
        machines.push(Machine {
            name: vm.name.clone(),
            on: vm.power == Some(SetupPower::On),
            cpus: vm.cpus,
            memory_mb,
            notes: vm.notes.clone(),
            networks: vm.networks.clone(),
            ip,
            extra: vm.extra_config.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        });
    }
    Ok(Stage { machines, networks: setup.networks.clone(), without_template: setup.template == Some(false) })
}

/// Why a run ended, as a failure of its test.
pub fn failure(ended: &Ended, sources: &[Source]) -> Failure {
    let (message, script) = match ended {
        Ended::Fault { fault, script } => (fault.message(), script.as_deref()),
        Ended::Script(error) => (error.message.as_str(), Some(&**error)),
    };
    Failure {
        kind: ended.kind().to_owned(),
        message: message.to_owned(),
        file: script.and_then(|script| script.file.as_deref().map(str::to_owned)),
        line: script.and_then(|script| script.line),
        text: running::told(ended, sources, false, false),
    }
}

/// Output that is kept.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that is kept, at most as long as a run's may be.
pub fn captured(limit: crate::units::Bytes) -> Result<(Output, Kept), Fault> {
    let kept = Kept::default();
    let output = Output::new(kept.clone(), kept.clone(), limit)
        .map_err(|error| Fault::new("output.thread", format!("no thread for the output: {error}")).cause(error))?;
    Ok((output, kept))
}
