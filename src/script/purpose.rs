//! What a worker is for: to run a script, to check one, to describe several, to serve the REPL.
//!
//! Owns the order of events in each: load, top level, declaration, `Go`, `run`, what was deferred, the result. Specification: the
//! page "What a playbook looks like" of the design and the frames in `wire`.

use std::time::Duration;

use mlua::{Function, MultiValue, Value as Lv};

use super::calls::Phase;
use super::clock::{self, GRACE, Stop, clock};
use super::locals;
use super::names;
use super::value::{self, Unfit, ValueError};
use super::vm::Vm;
use crate::wire::{FromWorker, ScriptError, Source, ToWorker, Value};

/// What a file's top level came to.
enum Loaded {
    Playbook { run: Function, declaration: Value },
    Plain { result: Value },
}

/// Runs a script to its end and sends how that was.
pub(super) fn run(vm: &Vm, source: &Source, hardened: bool) {
    begin(vm, hardened, vm.calls.limits.run_time.0);
    let outcome = top_level(vm, source, Phase::Top).and_then(|loaded| match loaded {
        Loaded::Plain { result } => Ok(result),
        Loaded::Playbook { run, declaration } => {
            vm.calls.tell(&FromWorker::Loaded { declaration });
            let ToWorker::Go { params } = vm.calls.next_frame() else { super::lost() };
            vm.calls.phase(Phase::Running);
            let params = value::to_lua(&vm.lua, params).map_err(|error| vm.broken(&error))?;
            result(vm, vm.protect(run, params)?, Unfit::Refuse)
        }
    });
    vm.calls.phase(Phase::Running);
    end(vm, finish(vm, outcome));
}

/// Checks one file: sends its declaration, or that it has none, or what is wrong with it.
pub(super) fn check(vm: &Vm, source: &Source, hardened: bool) {
    begin(vm, hardened, vm.calls.limits.run_time.0);
    let outcome = top_level(vm, source, Phase::Checking);
    let frame = match outcome {
        _ if clock(clock::Clock::stopped) == Some(Stop::Plain) => FromWorker::Plain,
        Ok(Loaded::Playbook { declaration, .. }) => FromWorker::Loaded { declaration },
        Ok(Loaded::Plain { .. }) => FromWorker::Plain,
        Err(error) => FromWorker::Failed(error),
    };
    vm.calls.tell(&frame);
}

/// Reads the declarations of several files, each with globals of its own.
pub(super) fn describe(vm: &Vm, sources: &[Source], hardened: bool) {
    for source in sources {
        begin(vm, hardened, vm.calls.limits.run_time.0);
        let outcome = top_level(vm, source, Phase::Describing).and_then(|loaded| match loaded {
            Loaded::Playbook { declaration, .. } => Ok(declaration),
            Loaded::Plain { .. } => Err(ScriptError {
                kind: "script.error".to_owned(),
                message: "the file returns no playbook: a table with `run`".to_owned(),
                hint: Some("return { summary = …, params = …, needs = …, run = function(p) … end }".into()),
                file: Some(source.name.as_str().into()),
                ..ScriptError::default()
            }),
        });
        vm.calls.tell(&FromWorker::Described { name: source.name.clone(), outcome });
    }
}

/// Loads a file of tests, and runs the one that the parent names.
pub(super) fn tests(vm: &Vm, source: &Source, hardened: bool) {
    begin(vm, hardened, vm.calls.limits.run_time.0);
    let outcome = suite(vm, source).and_then(|(run, declaration)| {
        vm.calls.tell(&FromWorker::Loaded { declaration });
        let ToWorker::Go { params: Value::Map(params) } = vm.calls.next_frame() else { super::lost() };
        vm.calls.phase(Phase::Running);
        let mut arguments = MultiValue::new();
        for name in ["name", "test"] {
            let value = params.iter().find(|(key, _)| key == name).map_or(Value::Nil, |(_, value)| value.clone());
            arguments.push_back(value::to_lua(&vm.lua, value).map_err(|error| vm.broken(&error))?);
        }
        vm.protect(run, arguments).map(|_| Value::Nil)
    });
    vm.calls.phase(Phase::Running);
    end(vm, finish(vm, outcome));
}

fn suite(vm: &Vm, source: &Source) -> Result<(Function, Value), ScriptError> {
    let environment = vm.environment().map_err(|error| vm.broken(&error))?;
    let function = vm.load(source, &environment)?;
    vm.calls.phase(Phase::Tests);
    let results = vm.protect(function, ())?;
    let (run, declaration) = vm.suite(&results.front().cloned().unwrap_or(Lv::Nil))?;
    Ok((run, convert(vm, &declaration, Unfit::Refuse, "the table of tests")?))
}

/// Serves chunk after chunk until the parent has no more.
pub(super) fn repl(vm: &Vm, hardened: bool) {
    let environment = match vm.environment() {
        Ok(environment) => environment,
        Err(error) => return end(vm, Err(vm.broken(&error))),
    };
    loop {
        let ToWorker::Chunk { name, source, time } = vm.calls.next_frame() else { super::lost() };
        begin(vm, hardened, time.0);
        vm.calls.begin_anew();
        let outcome = chunk(vm, &name, &source, &environment);
        let outcome = finish(vm, outcome);
        let stopped = clock(clock::Clock::stopped);
        let failed = outcome.is_err();
        if matches!(stopped, Some(Stop::Memory | Stop::CpuTime)) {
            // What is left in the VM cannot be trusted to work.
            return end(vm, outcome);
        }
        vm.calls.tell(&FromWorker::Names { globals: vm.relaxed(|| names::of(&environment)) });
        end(vm, outcome);
        if failed {
            begin(vm, hardened, Duration::MAX);
            if vm.forget().is_err() {
                super::lost();
            }
        }
    }
}

/// One chunk: an expression whose value is shown, or else statements. What is `local` at its top stays for the next one.
fn chunk(vm: &Vm, name: &str, text: &str, environment: &mlua::Table) -> Result<Value, ScriptError> {
    let named = |text: String| Source { name: name.to_owned(), text: text.into_bytes() };
    let goes_on = |error: &ScriptError| error.kind == "script.syntax" && error.message.ends_with("<eof>");
    let function = match vm.load(&named(format!("return {text}\n")), environment) {
        Ok(function) => function,
        Err(first) => vm.load(&named(locals::kept(text)), environment).map_err(|mut error| {
            // `1 +` is no statement, but the beginning of an expression.
            if goes_on(&error) || goes_on(&first) && error.kind == "script.syntax" {
                // The parent asks for another line.
                "script.incomplete".clone_into(&mut error.kind);
            }
            error
        })?,
    };
    let results = vm.protect(function, ())?;
    result(vm, results, Unfit::Name)
}

/// Starts the clock. Without the VM's hardening there is none: then the parent alone ends what does not end.
fn begin(vm: &Vm, hardened: bool, time: Duration) {
    if hardened {
        clock(|clock| clock.start(&vm.calls.limits, time));
    }
}

fn top_level(vm: &Vm, source: &Source, phase: Phase) -> Result<Loaded, ScriptError> {
    let environment = vm.environment().map_err(|error| vm.broken(&error))?;
    let function = vm.load(source, &environment)?;
    vm.calls.phase(phase);
    let results = vm.protect(function, ())?;
    let first = results.front().cloned().unwrap_or(Lv::Nil);
    let Some((run, declaration)) = vm.playbook(&first)? else {
        return Ok(Loaded::Plain { result: result(vm, results, Unfit::Refuse)? });
    };
    if vm.calls.called_at_top() {
        return Err(ScriptError {
            kind: "script.error".to_owned(),
            message: "the file called an operation at its top level, which makes it a plain script, and then returned a playbook"
                .to_owned(),
            hint: Some("move the call into `run`".into()),
            file: Some(source.name.as_str().into()),
            ..ScriptError::default()
        });
    }
    let declaration = convert(vm, &declaration, Unfit::Refuse, "the playbook's table")?;
    Ok(Loaded::Playbook { run, declaration })
}

/// Runs what was deferred, except after a limit: then there is neither time nor memory for it.
fn finish(vm: &Vm, outcome: Result<Value, ScriptError>) -> Result<Value, ScriptError> {
    match clock(clock::Clock::stopped) {
        None => {}
        Some(Stop::Cancelled) => clock(|clock| clock.resume(GRACE)),
        Some(_) => return outcome,
    }
    match (outcome, vm.finish()) {
        (Ok(_), Err(error)) => Err(error),
        // What a deferred function raised on top is logged by the prelude; the run ended with the first.
        (outcome, _) => outcome,
    }
}

fn end(vm: &Vm, outcome: Result<Value, ScriptError>) {
    match outcome {
        Ok(value) => vm.calls.tell(&FromWorker::Done { value }),
        Err(error) => vm.calls.tell(&FromWorker::Failed(error)),
    }
}

/// What a function returned, as one value: several become a list.
fn result(vm: &Vm, results: MultiValue, unfit: Unfit) -> Result<Value, ScriptError> {
    let mut values = Vec::with_capacity(results.len());
    for value in &results {
        values.push(convert(vm, value, unfit, "the script's result")?);
    }
    Ok(match values.len() {
        0 => Value::Nil,
        1 => values.swap_remove(0),
        _ => Value::List(values),
    })
}

fn convert(vm: &Vm, value: &Lv, unfit: Unfit, what: &str) -> Result<Value, ScriptError> {
    value::from_lua(value, unfit).map_err(|error| match error {
        ValueError::Lua(error) => vm.broken(&error),
        ValueError::Unfit { path, reason } => ScriptError {
            kind: "script.error".to_owned(),
            message: format!("{what}: {path}{reason}"),
            ..ScriptError::default()
        },
    })
}
