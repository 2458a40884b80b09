//! The VM as scripts meet it, run in this process with a parent on another thread.

mod calls;
mod sandbox;
mod values;

use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use super::calls::Calls;
use super::pipe::Pipe;
use super::purpose;
use super::vm::Vm;
use crate::ops;
use crate::units::Span;
use crate::wire::{
    FromWorker, Handle, Limits, MAX_FRAME, Outcome, Purpose, Raised, ScriptError, Source, ToWorker, Value, read_frame,
    write_frame,
};

/// Everything that a script did.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) printed: Vec<String>,
    pub(super) logged: Vec<String>,
    pub(super) calls: Vec<(String, Value)>,
    pub(super) frames: Vec<FromWorker>,
    pub(super) end: Option<Result<Value, ScriptError>>,
}

impl Ran {
    #[track_caller]
    pub(super) fn value(&self) -> &Value {
        match &self.end {
            Some(Ok(value)) => value,
            other => panic!("the script did not end well: {other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn error(&self) -> &ScriptError {
        match &self.end {
            Some(Err(error)) => error,
            other => panic!("the script did not fail: {other:?}"),
        }
    }
}

/// The limits of a run, but of processor time: here it is the whole test process's, in which other tests compute too.
pub(super) fn roomy() -> Limits {
    Limits { cpu_time: Span(Duration::from_secs(86_400)), ..Limits::default() }
}

/// Runs a script that must end well and gives what it returned.
#[track_caller]
pub(super) fn value(text: &str) -> Value {
    run(text).value().clone()
}

/// Runs a script that must fail and gives its message.
#[track_caller]
pub(super) fn message(text: &str) -> String {
    run(text).error().message.clone()
}

pub(super) fn run(text: &str) -> Ran {
    run_as(Purpose::Run, text, roomy())
}

pub(super) fn run_within(limits: Limits, text: &str) -> Ran {
    run_as(Purpose::Run, text, limits)
}

pub(super) fn run_as(purpose: impl FnOnce(Source) -> Purpose, text: &str, limits: Limits) -> Ran {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let purpose = purpose(Source { name: "test.luau".into(), text: text.into() });
    // Debug builds of the VM need more stack than a test's thread has by default.
    let worker = std::thread::Builder::new().stack_size(8 << 20).spawn(move || {
        let calls = Rc::new(Calls::new(Pipe::new(theirs.into()).unwrap(), limits, ops::all()));
        let vm = Vm::new(calls, true).unwrap();
        match purpose {
            Purpose::Run(source) => purpose::run(&vm, &source, true),
            Purpose::Check(source) => purpose::check(&vm, &source, true),
            Purpose::Describe(sources) => purpose::describe(&vm, &sources, true),
            Purpose::Tests(source) => purpose::tests(&vm, &source, true),
            Purpose::Repl => unreachable!("the REPL ends its process"),
        }
    });
    let ran = parent(ours);
    worker.unwrap().join().unwrap();
    ran
}

/// Answers as a parent does, until the worker has ended.
fn parent(mut stream: UnixStream) -> Ran {
    let mut ran = Ran::default();
    let mut held = Vec::new();
    while let Ok(frame) = read_frame::<FromWorker>(&mut stream, MAX_FRAME) {
        ran.frames.push(frame.clone());
        match frame {
            FromWorker::Print { text } => ran.printed.push(text),
            FromWorker::Log { level, text } => ran.logged.push(format!("{level:?} {text}")),
            FromWorker::Done { value } => ran.end = Some(Ok(value)),
            FromWorker::Failed(error) => ran.end = Some(Err(error)),
            FromWorker::Loaded { .. } => {
                let params = Value::Map(vec![("name".into(), Value::Text("web-1".into()))]);
                // A check ends with this frame.
                write_frame(&mut stream, &ToWorker::Go { params }).ok();
            }
            FromWorker::Module { call, name, from } => {
                write_frame(&mut stream, &ToWorker::Answer { call, outcome: module(&name, &from) }).unwrap();
            }
            FromWorker::Call { call, operation, arguments } => {
                ran.calls.push((operation.clone(), arguments.clone()));
                // What is asked to come late comes after the next call's answer: out of order.
                if arguments.get("name").and_then(Value::as_text) == Some("late") && held.is_empty() {
                    held.push((call, operation, arguments));
                    continue;
                }
                let outcome = answer(&operation, &arguments);
                write_frame(&mut stream, &ToWorker::Answer { call, outcome }).unwrap();
                for (call, operation, arguments) in held.drain(..) {
                    let outcome = answer(&operation, &arguments);
                    write_frame(&mut stream, &ToWorker::Answer { call, outcome }).unwrap();
                }
            }
            _ => {}
        }
    }
    ran
}

pub(super) fn handle(id: u32, kind: &str, name: &str, fields: &[(&str, Value)]) -> Value {
    let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Value::Handle(Box::new(Handle { id, kind: kind.into(), name: name.into(), fields }))
}

fn answer(operation: &str, arguments: &Value) -> Outcome {
    match operation {
        "host.connect" => Outcome::Done(handle(1, "host", "box", &[])),
        "vm.get" => match arguments.get("name").and_then(Value::as_text).unwrap_or_default() {
            "denied" => Outcome::Failed(Raised {
                number: 9,
                kind: "door.denied".into(),
                message: "vm.read is not granted".into(),
                hint: Some("add it to needs".into()),
                retry: false,
            }),
            name => Outcome::Done(handle(
                7,
                "vm",
                name,
                &[("power", Value::Text("off".into())), ("cpus", Value::Int(2)), ("ip", Value::Nil)],
            )),
        },
        "vm.list" => Outcome::Done(Value::List(vec![handle(7, "vm", "web-1", &[]), handle(8, "vm", "web-2", &[])])),
        "vm.configure" => Outcome::Done(arguments.clone()),
        "cloudinit.build" => Outcome::Done(handle(20, "document", "cloud-init", &[])),
        _ => Outcome::Done(Value::Nil),
    }
}

fn module(name: &str, from: &str) -> Outcome {
    let texts = [
        ("one", "return { value = 1, deep = require('two') }"),
        ("two", "count = (count or 0) + 1 return count"),
        ("ring", "return require('gnir')"),
        ("gnir", "return require('ring')"),
        ("nothing", "local x = 1"),
        ("broken", "return ("),
        ("fails", "\nerror('on purpose')"),
        ("calls", "return esxi.connect().name"),
        ("who", "return { from = 'who' }"),
    ];
    match texts.iter().find(|(known, _)| known == &name.trim_start_matches("./")) {
        Some((known, text)) => Outcome::Done(Value::Map(vec![
            ("name".into(), Value::Text(format!("{known}.luau"))),
            ("text".into(), Value::Bytes(text.as_bytes().to_vec())),
        ])),
        None => Outcome::Failed(Raised {
            number: 3,
            kind: "script.no_module".into(),
            message: format!("no module {name} for {from:?}"),
            ..Raised::default()
        }),
    }
}

pub(super) fn short() -> Limits {
    Limits { run_time: Span(Duration::from_millis(300)), ..roomy() }
}

pub(super) fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| Value::Text((*item).to_owned())).collect())
}
