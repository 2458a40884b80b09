//! The parent of a worker as the attack suite needs it: it answers calls, keeps what was printed, and tells how the run ended.

use std::path::Path;
use std::time::{Duration, Instant};

use ceso::run::process::{Worker, fault_of};
use ceso::units::{Bytes, Span};
use ceso::wire::{
    FrameError, FromWorker, Handle, Jail, Limits, Outcome, Purpose, Raised, ScriptError, Source, Start, ToWorker, Value,
};

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ceso"))
}

pub struct Run {
    pub start: Start,
}

/// What became of a run.
#[derive(Default)]
pub struct Ran {
    pub printed: Vec<String>,
    pub logged: Vec<String>,
    pub calls: Vec<String>,
    pub declaration: Option<Value>,
    pub end: Option<Result<Value, ScriptError>>,
    /// Why the parent or the kernel ended the worker.
    pub fault: Option<ceso::error::Fault>,
    pub misbehaved: Option<FrameError>,
    pub took: Duration,
    pub jail: Vec<ceso::wire::JailPart>,
}

impl Run {
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        let limits = Limits {
            run_time: Span(Duration::from_secs(20)),
            cpu_time: Span(Duration::from_secs(30)),
            output: Bytes(1 << 20),
            ..Limits::default()
        };
        let source = Source { name: "attack.luau".into(), text: text.into() };
        Self {
            start: Start { run: "r".into(), purpose: Purpose::Run(source), limits, hardened: true, jail: Jail::Full },
        }
    }

    pub fn soft(mut self) -> Self {
        self.start.hardened = false;
        self
    }

    pub fn free(mut self) -> Self {
        self.start.jail = Jail::Off;
        self
    }

    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.start.limits);
        self
    }

    pub fn go(self) -> Ran {
        let begun = Instant::now();
        let mut ran = Ran::default();
        let (worker, mut reader, writer) = Worker::spawn_from(binary(), self.start).unwrap();
        let mut number = 0;
        loop {
            let frame = match reader.read() {
                Ok(frame) => frame,
                Err(FrameError::Closed) => break,
                Err(error) => {
                    worker.kill(ceso::error::Fault::new("script.misbehaved", error.to_string()));
                    ran.misbehaved = Some(error);
                    break;
                }
            };
            match frame {
                FromWorker::Ready { jail } => ran.jail = jail,
                FromWorker::Print { text } => ran.printed.push(text),
                FromWorker::Log { text, .. } => ran.logged.push(text),
                FromWorker::Done { value } => ran.end = Some(Ok(value)),
                FromWorker::Failed(error) => ran.end = Some(Err(error)),
                FromWorker::Loaded { declaration } => {
                    ran.declaration = Some(declaration);
                    writer.send(&ToWorker::Go { params: Value::Map(vec![("p".into(), Value::Int(1))]) }).ok();
                }
                FromWorker::Call { call, operation, arguments } => {
                    number += 1;
                    ran.calls.push(operation.clone());
                    let outcome = answer(&operation, &arguments, number);
                    writer.send(&ToWorker::Answer { call, outcome }).ok();
                }
                FromWorker::Module { call, name, .. } => {
                    number += 1;
                    let raised = Raised {
                        number,
                        kind: "script.no_module".into(),
                        message: format!("no module {name}"),
                        ..Raised::default()
                    };
                    writer.send(&ToWorker::Answer { call, outcome: Outcome::Failed(raised) }).ok();
                }
                FromWorker::Plain | FromWorker::Described { .. } | FromWorker::Progress { .. } => {}
            }
        }
        ran.fault = worker.ended().fault;
        ran.took = begun.elapsed();
        ran
    }
}

fn answer(operation: &str, arguments: &Value, number: u32) -> Outcome {
    let vm = |id: u32, name: &str| {
        Value::Handle(Box::new(Handle {
            id,
            kind: "vm".into(),
            name: name.into(),
            fields: vec![("power".into(), Value::Text("off".into()))],
        }))
    };
    match operation {
        "host.vm" => match arguments.get("name").and_then(Value::as_text) {
            Some(name) => Outcome::Done(vm(7, name)),
            None => denied(number),
        },
        "esxi.connect" => Outcome::Done(Value::Handle(Box::new(Handle {
            id: 1,
            kind: "host".into(),
            name: "box".into(),
            fields: vec![],
        }))),
        _ => denied(number),
    }
}

fn denied(number: u32) -> Outcome {
    Outcome::Failed(Raised { number, kind: "door.denied".into(), message: "denied".into(), ..Raised::default() })
}

impl Ran {
    /// The end in one line: `done JSON`, `KIND: message`, or the fault that ended the process.
    pub fn outcome(&self) -> String {
        match (&self.end, &self.fault) {
            (Some(Ok(value)), None) => format!("done {}", value.to_json()),
            (Some(Err(error)), _) => {
                let fault = fault_of(error);
                let number = error.fault.map(|number| format!(" #{number}")).unwrap_or_default();
                format!("{}{number}: {}", fault.kind(), fault.message())
            }
            (_, Some(fault)) => format!("{}: {}", fault.kind(), fault.message()),
            (None, None) => "ended without a word".into(),
        }
    }

    pub fn kind(&self) -> String {
        self.outcome().split([':', ' ']).next().unwrap_or_default().to_owned()
    }
}
