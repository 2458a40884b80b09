//! The parent of a worker as the attack suite needs it: it answers calls, keeps all that was said, and tells how the run ended.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ceso::error::Fault;
use ceso::run::modules::Modules;
use ceso::run::output::Output;
use ceso::run::process::{Worker, fault_of};
use ceso::units::{Bytes, Span};
use ceso::wire::{
    FrameError, FromWorker, Handle, Jail, JailPart, Limits, Outcome, Purpose, Raised, ScriptError, Source, Start,
    ToWorker, Value,
};

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ceso"))
}

/// One run that is about to begin.
pub struct Run {
    pub start: Start,
    modules: Arc<Modules>,
    output: Option<Output>,
}

/// What became of a run.
#[derive(Default)]
pub struct Ran {
    pub printed: Vec<String>,
    pub logged: Vec<String>,
    pub calls: Vec<(String, Value)>,
    pub end: Option<Result<Value, ScriptError>>,
    /// Why the parent or the kernel ended the worker.
    pub fault: Option<Fault>,
    pub misbehaved: Option<FrameError>,
    pub took: Duration,
    pub jail: Vec<JailPart>,
    pub pid: u32,
}

impl Run {
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        let limits = Limits {
            run_time: Span(Duration::from_secs(20)),
            output: Bytes(256 << 10),
            calls: 2000,
            ..Limits::default()
        };
        let source = Source { name: "attack.luau".into(), text: text.into() };
        let start = Start { run: "r".into(), purpose: Purpose::Run(source), limits, hardened: true, jail: Jail::Full };
        Self { start, modules: Arc::new(Modules::none()), output: None }
    }

    /// Without the VM's own hardening.
    pub fn soft(mut self) -> Self {
        self.start.hardened = false;
        self
    }

    /// Without the jail.
    pub fn free(mut self) -> Self {
        self.start.jail = Jail::Off;
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.start.limits);
        self
    }

    pub fn within(self, time: Duration) -> Self {
        self.limits(|limits| limits.run_time = Span(time))
    }

    pub fn modules(mut self, modules: &Arc<Modules>) -> Self {
        self.modules = Arc::clone(modules);
        self
    }

    /// Also writes what the script says, as `ceso run` does.
    pub fn writing_to(mut self, output: &Output) -> Self {
        self.output = Some(output.clone());
        self
    }

    pub fn go(self) -> Ran {
        let begun = Instant::now();
        let mut ran = Ran::default();
        let (worker, mut reader, writer) = Worker::spawn_from(binary(), self.start).unwrap();
        ran.pid = worker.pid();
        let mut number = 0;
        loop {
            let frame = match reader.read() {
                Ok(frame) => frame,
                Err(FrameError::Closed) => break,
                Err(error) => {
                    worker.kill(Fault::new("script.lost", error.to_string()));
                    ran.misbehaved = Some(error);
                    break;
                }
            };
            let answer = |call, outcome| writer.send(&ToWorker::Answer { call, outcome }).is_ok();
            match frame {
                FromWorker::Ready { jail } => ran.jail = jail,
                FromWorker::Print { text } | FromWorker::Row { text, .. } => {
                    if let Some(Err(fault)) = self.output.as_ref().map(|output| output.print(&text)) {
                        worker.kill(fault);
                    }
                    ran.printed.push(text);
                }
                FromWorker::Log { level, text } => {
                    if let Some(Err(fault)) = self.output.as_ref().map(|output| output.log(level, &text)) {
                        worker.kill(fault);
                    }
                    ran.logged.push(text);
                }
                // As a real parent: after its end a script is not listened to.
                FromWorker::Done { value } => {
                    ran.end = Some(Ok(value));
                    break;
                }
                FromWorker::Failed(error) => {
                    ran.end = Some(Err(error));
                    break;
                }
                FromWorker::Loaded { .. } => {
                    writer.send(&ToWorker::Go { params: Value::Map(vec![]) }).ok();
                }
                FromWorker::Call { call, operation, arguments } => {
                    number += 1;
                    if ran.calls.len() < 10_000 {
                        ran.calls.push((operation.clone(), arguments.clone()));
                    }
                    if let Some(outcome) = outcome(&operation, &arguments, number) {
                        answer(call, outcome);
                    }
                }
                FromWorker::Module { call, name, from } => {
                    number += 1;
                    answer(
                        call,
                        match self.modules.find(&name, &from) {
                            Ok(module) => Outcome::Done(module.into_value()),
                            Err(fault) => Outcome::Failed(Raised::of(number, &fault)),
                        },
                    );
                }
                FromWorker::Plain
                | FromWorker::Described { .. }
                | FromWorker::Progress { .. }
                | FromWorker::Names { .. } => {}
            }
        }
        if ran.end.is_some() {
            // What has said its last word is given a moment to go, as in `ceso run`, and then is ended.
            drop(worker);
        } else {
            ran.fault = worker.ended().fault;
        }
        ran.took = begun.elapsed();
        ran
    }
}

fn outcome(operation: &str, arguments: &Value, number: u32) -> Option<Outcome> {
    let handle = |id: u32, kind: &str, name: &str| {
        Outcome::Done(Value::Handle(Box::new(Handle { id, kind: kind.into(), name: name.into(), fields: vec![] })))
    };
    let name = arguments.get("name").and_then(Value::as_text);
    Some(match (operation, name) {
        (_, Some("unanswered")) => return None,
        ("host.connect", _) => handle(1, "host", "box"),
        ("vm.get", Some(name)) if name != "denied" => handle(7, "vm", name),
        _ => Outcome::Failed(Raised {
            number,
            kind: "door.denied".into(),
            message: "denied".into(),
            ..Raised::default()
        }),
    })
}

impl Ran {
    /// The end in one line: `done JSON`, `KIND: message`, or the fault that ended the process.
    pub fn outcome(&self) -> String {
        match (&self.end, &self.fault) {
            (Some(Ok(value)), _) => format!("done {}", value.to_json()),
            (Some(Err(error)), _) => {
                let fault = fault_of(error);
                format!("{}: {}", fault.kind(), fault.message())
            }
            (None, Some(fault)) => format!("{}: {}", fault.kind(), fault.message()),
            (None, None) => "ended without a word".into(),
        }
    }

    pub fn kind(&self) -> String {
        self.outcome().split([':', ' ']).next().unwrap_or_default().to_owned()
    }

    /// Everything that came out of the worker, as one text.
    pub fn said(&self) -> String {
        let end = match &self.end {
            Some(Ok(value)) => value.to_json().to_string(),
            Some(Err(error)) => format!("{error:?}"),
            None => String::new(),
        };
        let calls: Vec<String> = self.calls.iter().map(|(name, value)| format!("{name} {}", value.to_json())).collect();
        [self.printed.join("\n"), self.logged.join("\n"), calls.join("\n"), end].join("\n")
    }
}
