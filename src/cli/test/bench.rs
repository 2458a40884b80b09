//! What a test's handle does: runs of playbooks, the inventory, the calls and the faults of the test's own simulator.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::case::{captured, failure};
use super::files::TestFile;
use crate::cli::globals::Globals;
use crate::cli::{grant, run as running};
use crate::config::{Config, NamedSecret, SIMULATOR, SecretPurpose};
use crate::door::bench::{Bench, Call, Change, Free, Inventory, Machine, Ran, Rule, Run, RunError, Trouble};
use crate::door::journal::Outcome;
use crate::door::object::Connected;
use crate::door::{Hosts, Ledger, grammar};
use crate::error::Fault;
use crate::run::modules::Modules;
use crate::run::params::{self, Given};
use crate::run::progress::Lines;
use crate::run::suite::Hold;
use crate::run::{self, Decision, Kind, Report, Request, RunId};
use crate::sim::{self, Server};
use crate::units::{Bytes, Span};
use crate::wire::{Source, Value};
use crate::{esxi, run::output::Output};

/// How long what a run printed may take to be gathered.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many runs of a test are remembered for its report.
const REMEMBERED: usize = 100;

/// A run that a test made, for the report of a test that failed.
#[derive(Debug, Clone)]
pub struct Transcript {
    pub file: String,
    pub output: String,
    /// The error that it ended with, as it is printed.
    pub error: Option<String>,
}

/// Connections of a test: whatever the name, its own simulator.
pub struct Simulated {
    config: Arc<Config>,
    server: Arc<Server>,
    run: String,
}

impl Simulated {
    pub fn new(config: Arc<Config>, server: Arc<Server>, run: &RunId) -> Self {
        Self { config, server, run: run.to_string() }
    }
}

impl Hosts for Simulated {
    /// A made-up value: a test can read what a machine is given, and must not read anybody's secret.
    fn secret_parameter(&self, name: &str, _: &str, purpose: SecretPurpose) -> Result<NamedSecret, Fault> {
        let value = match purpose {
            SecretPurpose::PasswordHash => format!("$6$ceso.test${}", "x".repeat(86)),
            _ => format!("a made-up secret of a test: {name}"),
        };
        Ok(NamedSecret { name: name.to_owned(), purpose, machines: None, value: Arc::new(value.into()) })
    }

    fn secret(&self, name: &str) -> Result<NamedSecret, Fault> {
        let Some(entry) = self.config.settings().secrets.get(name) else {
            return Err(Fault::new("config.no_secret", format!("there is no secret named {name:?}"))
                .hint("a test takes the purpose of a secret from the configuration, and its value from nowhere"));
        };
        self.secret_parameter(name, "", entry.purpose)
    }

    fn connect<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>> {
        Box::pin(async move {
            let broken =
                |error: String| Fault::new("sim.address", format!("the simulator's address cannot be used: {error}"));
            let name = name.unwrap_or(SIMULATOR);
            let url = self.server.url().parse().map_err(|error: url::ParseError| broken(error.to_string()))?;
            let fingerprint =
                self.server.fingerprint().parse().map_err(|_| broken("its fingerprint is none".to_owned()))?;
            let mut options = esxi::HostOptions::new(name, url, esxi::Trust::Fingerprint(fingerprint));
            options.operation_id = Some(self.run.clone());
            let sim::Options { username, password, .. } = sim::Options::default();
            let client = esxi::Host::connect(options, Arc::new(esxi::Login { username, password })).await?;
            Ok(Connected { name: name.to_owned(), simulated: true, client })
        })
    }
}

/// The bench of one test.
pub struct TestBench {
    config: Arc<Config>,
    globals: Globals,
    server: Arc<Server>,
    modules: Modules,
    root: PathBuf,
    /// Where the test's own file lies under the root.
    inside: String,
    hold: Hold,
    deadline: Instant,
    transcripts: Mutex<Vec<Transcript>>,
}

impl TestBench {
    pub fn new(
        config: Arc<Config>,
        globals: Globals,
        server: Arc<Server>,
        file: &TestFile,
        hold: Hold,
        deadline: Instant,
    ) -> Result<Self, Fault> {
        let modules = Modules::under(&file.root, config.limits().source)?;
        let (root, inside) = (file.root.clone(), file.inside.clone());
        Ok(Self { config, globals, server, modules, root, inside, hold, deadline, transcripts: Mutex::default() })
    }

    pub fn transcripts(&self) -> Vec<Transcript> {
        self.transcripts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn request(&self, asked: &Run, output: Output) -> Result<Request, Fault> {
        let module = self.modules.script(&asked.file, &self.inside)?;
        let path = self.root.join(&module.name);
        let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
        let mut grant = grant::read(&self.config, &self.globals)?;
        if let Some(mode) = asked.mode {
            grant.mode = mode;
        }
        if let Some(Free(table)) = &asked.grant {
            grant.table = Some(grammar::read("grant", &Value::from_json(table.clone()), &|_| None)?);
        }
        let mut limits = self.config.limits().clone();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let time = asked.timeout.map_or(limits.run_time.0, |timeout| timeout.0);
        limits.run_time = Span(time.min(left));
        let id = RunId::new();
        let mut text = module.text;
        if text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        Ok(Request {
            source: Source { name: shown, text },
            folder: path.parent().map(std::path::Path::to_owned),
            jail: running::jail(grant.mode, &self.globals),
            grant,
            limits,
            hosts: Arc::new(Simulated::new(self.config.clone(), self.server.clone(), &id)),
            output,
            lines: Lines::hidden(),
            kind: Kind::Test,
            hold: Some(self.hold.clone()),
            ledger: Ledger::none(),
            host: None,
            runs: None,
            id,
        })
    }

    fn remember(&self, transcript: Transcript) {
        let mut transcripts = self.transcripts.lock().unwrap_or_else(PoisonError::into_inner);
        if transcripts.len() < REMEMBERED {
            transcripts.push(transcript);
        }
    }
}

impl Bench for TestBench {
    fn run(&self, asked: Run) -> BoxFuture<'_, Result<Ran, Fault>> {
        Box::pin(async move {
            let (output, kept) = captured(self.config.limits().output)?;
            let request = self.request(&asked, output.clone())?;
            let file = request.source.name.clone();
            let values = asked.params.into_iter().map(|(name, Free(value))| (name, Value::from_json(value))).collect();
            let given = Given { typed: Default::default(), values };
            let (done, waited) = tokio::sync::oneshot::channel();
            // A run waits and blocks: it has a thread of its own, which ends with its worker.
            let thread = std::thread::Builder::new().name("test-run".to_owned()).spawn(move || {
                let report = run::run(request, |declared| params::resolve(&declared.params, &given).map(Decision::Go));
                // Nobody waits where the test has ended.
                drop(done.send(report));
            });
            thread.map_err(|error| Fault::new("ceso.thread", format!("no thread for a run: {error}")).cause(error))?;
            let report =
                waited.await.map_err(|_| Fault::new("ceso.thread", "the thread of a run ended in the middle"))?;
            output.finish(Some(PATIENCE));
            let ran = ran(report, kept.text());
            let error = ran.error.as_ref().map(|error| error.text.clone());
            self.remember(Transcript { file, output: ran.output.clone(), error });
            Ok(ran)
        })
    }

    fn inventory(&self) -> Inventory {
        let vms = self.server.machines().into_iter().map(machine).collect();
        Inventory { vms, networks: self.server.networks(), datastores: self.server.datastores() }
    }

    fn calls(&self) -> Vec<Call> {
        let calls = self.server.calls();
        calls.into_iter().map(|call| Call { method: call.method.to_owned(), object: call.object }).collect()
    }

    fn fault(&self, rule: Rule) -> Result<(), Fault> {
        let trouble = match rule.trouble {
            Trouble::Fault { kind, message } => sim::Trouble::Fault { kind, message },
            Trouble::Status(code) => sim::Trouble::Status(code),
            Trouble::Delay(time) => sim::Trouble::Delay(time.0),
            Trouble::Drop { after: false } => sim::Trouble::Drop,
            Trouble::Drop { after: true } => sim::Trouble::DropAnswer,
            Trouble::Expire => sim::Trouble::Expire,
            Trouble::Ask(word) => sim::read_fault(&format!("{}:ask={word}", rule.method))?.trouble,
            Trouble::Fill(left) => sim::Trouble::Fill(left.0),
            Trouble::Partition(away) => sim::Trouble::Partition(away.0),
            Trouble::Restart(away) => sim::Trouble::Restart { away: away.0, finishes: false },
            Trouble::Cut(bytes) => sim::Trouble::Cut(bytes.0),
            Trouble::Late(time) => sim::Trouble::Late(time.0),
            Trouble::NoRanges => sim::Trouble::NoRanges,
            Trouble::LeaveDelta => sim::Trouble::LeaveDelta,
            Trouble::Lie(word) => sim::read_fault(&format!("{}:lie={word}", rule.method))?.trouble,
        };
        let Rule { method, after, times, chance, .. } = rule;
        self.server.fault(sim::Rule { method, trouble, after, times, chance })
    }

    fn clear_faults(&self) {
        self.server.clear_faults();
    }
}

fn machine(vm: sim::Staged) -> Machine {
    Machine {
        name: vm.name,
        power: vm.power.to_owned(),
        cpus: vm.cpus,
        memory: Bytes(u64::try_from(vm.memory_mb).unwrap_or_default() << 20),
        notes: vm.notes,
        hostname: vm.hostname,
        ip: vm.ip,
        addresses: vm.addresses,
        networks: vm.networks,
        disks: vm.disks.into_iter().map(Bytes).collect(),
        path: vm.path,
        extra_config: vm.extra.into_iter().collect(),
        user_data: vm.user_data,
        meta_data: vm.meta_data,
    }
}

/// What a test is told of a run.
fn ran(report: Report, output: String) -> Ran {
    let count =
        |wanted: &[Outcome]| report.changes.iter().filter(|change| wanted.contains(&change.outcome)).count() as u64;
    let (changed, unchanged) = (count(&[Outcome::Done]), count(&[Outcome::Unchanged]));
    let failed = count(&[Outcome::Failed, Outcome::Unknown, Outcome::Begun]);
    let changes = report
        .changes
        .iter()
        .map(|change| Change {
            operation: change.operation.to_owned(),
            objects: change.objects.clone(),
            outcome: match change.outcome {
                Outcome::Done => "done",
                Outcome::Unchanged => "unchanged",
                Outcome::Failed => "failed",
                Outcome::Unknown | Outcome::Begun => "unknown",
            }
            .to_owned(),
        })
        .collect();
    let code = report.result.as_ref().map_or_else(run::session::Ended::exit_code, |_| 0);
    let error = report.result.as_ref().err().map(|ended| {
        let failure = failure(ended, &report.sources);
        let hint = match ended {
            run::session::Ended::Fault { fault, .. } => fault.hint_text().map(str::to_owned),
            run::session::Ended::Script(error) => error.hint.as_deref().map(str::to_owned),
        };
        let (kind, message) = (failure.kind, failure.message);
        RunError { kind, message, hint, file: failure.file, line: failure.line, text: failure.text }
    });
    let value = report.result.map_or(serde_json::Value::Null, |value| value.to_json());
    Ran { ok: error.is_none(), value: Free(value), error, changed, unchanged, failed, changes, output, code }
}
