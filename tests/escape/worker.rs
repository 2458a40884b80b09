//! The real worker process at its ordinary work: the REPL, cancelling, its end and its parent's.

use std::time::{Duration, Instant};

use crate::bench::{Run, binary};
use ceso::run::process::{Reader, Worker, Writer, fault_of, probe_jail_from};
use ceso::script::jail;
use ceso::units::{Bytes, Span};
use ceso::wire::{FromWorker, Jail, Limits, Outcome, Purpose, ScriptError, Start, ToWorker, Value};

struct Repl {
    worker: Worker,
    reader: Reader,
    writer: Writer,
}

impl Repl {
    fn new(limits: Limits) -> Self {
        let start = Start { run: "r".into(), purpose: Purpose::Repl, limits, hardened: true, jail: Jail::Full };
        let (worker, reader, writer) = Worker::spawn_from(binary(), start).unwrap();
        Self { worker, reader, writer }
    }

    fn send(&self, source: &str, time: Duration) {
        self.worker.arm(time);
        self.writer.send(&ToWorker::Chunk { name: "chunk".into(), source: source.into(), time: Span(time) }).unwrap();
    }

    fn outcome(&mut self) -> Result<Value, ScriptError> {
        loop {
            match self.reader.read().unwrap() {
                FromWorker::Done { value } => return Ok(value),
                FromWorker::Failed(error) => return Err(error),
                FromWorker::Call { call, .. } => {
                    self.writer
                        .send(&ToWorker::Answer { call, outcome: Outcome::Done(Value::Text("answer".into())) })
                        .unwrap();
                }
                _ => {}
            }
        }
    }

    fn eval(&mut self, source: &str) -> Result<Value, ScriptError> {
        self.send(source, Duration::from_secs(20));
        let outcome = self.outcome();
        self.worker.disarm();
        outcome
    }
}

#[test]
fn a_plain_script_prints_and_returns_from_a_full_jail() {
    let ran = Run::new("print('hello', 1, nil, {}) log.warn('x') return { answer = 42 }").go();
    assert_eq!(ran.outcome(), "done {\"answer\":42}");
    assert_eq!((ran.printed, ran.logged), (vec!["hello\t1\tnil\ttable".to_owned()], vec!["x".to_owned()]));
    assert!(jail::is_full(&ran.jail), "{:?}", ran.jail);
}

#[test]
fn the_repl_keeps_locals_and_shows_what_cannot_be_sent() {
    let mut repl = Repl::new(Limits::default());
    assert_eq!(repl.eval("1 + 1"), Ok(Value::Int(2)));
    assert_eq!(repl.eval("local x: number = 5\nlocal function double(n) return n * 2 end"), Ok(Value::Nil));
    assert_eq!(repl.eval("double(x)"), Ok(Value::Int(10)));
    assert_eq!(repl.eval("x, 'two'"), Ok(Value::List(vec![Value::Int(5), Value::Text("two".into())])));
    assert_eq!(repl.eval("print"), Ok(Value::Text("<function>".into())));
    assert_eq!(repl.eval("esxi.connect()"), Ok(Value::Text("answer".into())));
    assert_eq!(repl.eval("error('bad')").unwrap_err().message, "bad");
    assert_eq!(repl.eval("for i = 1, 2 do").unwrap_err().kind, "script.incomplete");
    assert_eq!(repl.eval("x = = 2").unwrap_err().kind, "script.syntax");
    assert_eq!(repl.eval("x"), Ok(Value::Int(5)));
    assert_eq!(repl.eval(""), Ok(Value::Nil));
    assert_eq!(repl.eval("-- a comment"), Ok(Value::Nil));
    assert_eq!(repl.eval("require('@ceso/task').defer(function() print('end') end)"), Ok(Value::Nil));
}

#[test]
fn an_interrupt_ends_the_expression_and_not_the_repl() {
    let mut repl = Repl::new(Limits::default());
    repl.eval("local kept = 1").unwrap();
    for busy in [
        "while true do pcall(function() while true do end end) end",
        "require('@ceso/task').sleep('1 h')",
        "require('@ceso/task').parallel({ 1, 2 }, function() while true do coroutine.yield() end end)",
    ] {
        repl.send(busy, Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(200));
        repl.worker.interrupt();
        assert_eq!(repl.outcome().unwrap_err().kind, "script.cancelled", "{busy}");
        assert_eq!(repl.eval("kept"), Ok(Value::Int(1)));
        assert_eq!(
            repl.eval("require('@ceso/task').parallel({ 1 }, function() return 2 end)[1].value"),
            Ok(Value::Int(2))
        );
    }
    // An interrupt while nothing runs is not kept for the next expression.
    repl.worker.interrupt();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(repl.eval("kept"), Ok(Value::Int(1)));
}

#[test]
fn the_deadline_is_per_expression_and_a_full_memory_ends_the_repl() {
    let mut repl = Repl::new(Limits { memory: Bytes(16 << 20), ..Limits::default() });
    repl.send("while true do end", Duration::from_millis(200));
    assert_eq!(repl.outcome().unwrap_err().kind, "limit.run_time");
    assert_eq!(repl.eval("1"), Ok(Value::Int(1)));
    assert_eq!(repl.eval("string.rep('x', 1e9)").unwrap_err().kind, "limit.memory");
    assert!(repl.reader.read().is_err(), "the worker went on");
    assert!(repl.worker.ended().fault.is_none());
}

#[test]
fn a_cancelled_run_runs_what_it_deferred() {
    let text = "
        local task = require('@ceso/task')
        task.defer(function() print('first made') task.sleep('10 ms') print('undone') end)
        print('on')
        while true do pcall(task.sleep, '1 h') end";
    let start = Start {
        limits: Limits { run_time: Span(Duration::from_secs(60)), ..Limits::default() },
        ..Run::new(text).start
    };
    let (worker, mut reader, _writer) = Worker::spawn_from(binary(), start).unwrap();
    let mut printed = Vec::new();
    let error = loop {
        match reader.read().unwrap() {
            FromWorker::Print { text } => {
                if text == "on" {
                    worker.interrupt();
                }
                printed.push(text);
            }
            FromWorker::Failed(error) => break error,
            _ => {}
        }
    };
    assert_eq!(
        (fault_of(&error).kind(), printed.as_slice()),
        ("script.cancelled", &["on", "first made", "undone"].map(str::to_owned)[..])
    );
}

#[test]
fn a_deferred_function_has_a_short_time_after_a_cancel() {
    let text = "
        local task = require('@ceso/task')
        task.defer(function() while true do end end)
        print('on')
        while true do end";
    let start = Start {
        limits: Limits { run_time: Span(Duration::from_secs(60)), ..Limits::default() },
        ..Run::new(text).start
    };
    let (worker, mut reader, _writer) = Worker::spawn_from(binary(), start).unwrap();
    let begun = Instant::now();
    loop {
        match reader.read().unwrap() {
            FromWorker::Print { .. } => worker.interrupt(),
            FromWorker::Failed(error) => break assert_eq!(error.kind, "script.cancelled"),
            _ => {}
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn each_death_of_a_worker_has_a_name() {
    let died = |text: &str| Run::new(text).soft().within(Duration::from_secs(20)).go().kind();
    assert_eq!(died("breach.segfault()"), "script.crashed");
    assert_eq!(died("breach.panic()"), "script.crashed");
    assert_eq!(died("breach.abort()"), "limit.memory");
    assert_eq!(died("while true do breach.allocate(64) end"), "limit.memory");
    assert_eq!(died("breach.read('/etc/passwd')"), "jail.violation");
    let spin = |limits: &mut Limits| limits.cpu_time = Span(Duration::from_millis(100));
    let ran = Run::new("breach.spin()").soft().limits(spin).go();
    assert_eq!(ran.kind(), "limit.cpu_time");
    assert!(ran.outcome().contains("100ms") && ran.outcome().contains("sandbox.cpu_time"), "{}", ran.outcome());
    let ran = Run::new("breach.block()").soft().within(Duration::from_millis(100)).go();
    assert_eq!(ran.kind(), "limit.run_time");
    assert!(ran.outcome().contains("100ms") && ran.outcome().contains("sandbox.run_time"), "{}", ran.outcome());
}

#[test]
fn a_worker_that_reads_nothing_does_not_hold_its_parent() {
    let run = Run::new("breach.block()").soft().within(Duration::from_millis(500));
    let (worker, _reader, writer) = Worker::spawn_from(binary(), run.start).unwrap();
    let begun = Instant::now();
    let big = Value::Bytes(vec![0; 8 << 20]);
    let mut sent = Ok(());
    while sent.is_ok() && begun.elapsed() < Duration::from_secs(30) {
        sent = writer.send(&ToWorker::Answer { call: 1, outcome: Outcome::Done(big.clone()) });
    }
    assert_eq!(sent.unwrap_err().kind(), "script.lost");
    assert!(worker.ended().fault.is_some());
}

/// `ceso run` of a script, and the process id of its worker.
fn run_by_command(
    text: &str,
    timeout: &str,
    out: impl Into<std::process::Stdio>,
) -> (std::process::Child, u32, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("attack.luau");
    std::fs::write(&script, text).unwrap();
    let mut parent = std::process::Command::new(binary())
        .args(["run", "--timeout", timeout])
        .arg(&script)
        .env("CESO_HOME", folder.path())
        .stdout(out)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let children = |pid: u32| -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
            .map(|tasks| tasks.flatten().collect::<Vec<_>>())
            .unwrap_or_default();
        let lists = tasks.iter().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
            .collect()
    };
    let worker = loop {
        if let Some(worker) = children(parent.id()).first().copied().filter(|pid| runs_as_worker(*pid)) {
            break worker;
        }
        assert!(parent.try_wait().unwrap().is_none(), "ceso run ended by itself");
        assert!(begun.elapsed() < Duration::from_secs(20), "no worker was started");
        std::thread::sleep(Duration::from_millis(10));
    };
    (parent, worker, folder)
}

#[test]
fn a_worker_ends_with_its_parent() {
    let (mut parent, worker, _folder) = run_by_command("while true do end", "60s", std::process::Stdio::null());
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(!crate::is_worker(worker), "the worker outlived its parent");
}

#[test]
fn a_worker_ends_in_time_while_the_command_is_stuck_in_a_full_pipe() {
    let (stuck, end) = crate::full_pipe();
    let begun = Instant::now();
    let text = "while true do pcall(print, string.rep('x', 1000)) end";
    let (mut parent, worker, _folder) = run_by_command(text, "1s", stuck);
    while runs_as_worker(worker) {
        assert!(begun.elapsed() < Duration::from_secs(1) + ceso::run::process::GRACE + crate::SLACK);
        std::thread::sleep(Duration::from_millis(5));
    }
    // The command itself still waits for its reader; when that goes, so does it.
    drop(end);
    let begun = Instant::now();
    while parent.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the command outlived its reader");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn runs_as_worker(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.windows(8).any(|part| part == b"__worker"))
}

#[test]
fn a_worker_has_nothing() {
    let text = "
        print(breach.read('/proc/self/environ'), breach.list('/proc/self/fd'), breach.read('/proc/self/sessionid') ~= nil)
        print(breach.read('/proc/self/cmdline'))";
    let ran = Run::new(text).soft().free().go();
    // Descriptors 0, 1 and 2, and the one that reads the folder.
    assert_eq!(ran.printed[0], "\t4\ttrue");
    assert!(!ran.printed[1].contains("attack.luau"));
}

#[test]
fn the_jail_is_probed_in_a_process_that_is_thrown_away() {
    let parts = probe_jail_from(binary()).unwrap();
    assert!(jail::is_full(&parts), "{}", jail::missing(&parts));
}

#[test]
fn a_binary_that_is_no_worker_is_an_error() {
    let start = Run::new("return 1").start;
    let fault = Worker::spawn_from("/nonexistent/ceso".as_ref(), start).map(|_| ()).unwrap_err();
    assert_eq!(fault.kind(), "script.not_started");
}

#[test]
fn nobody_becomes_a_worker_by_hand() {
    let typed = |input: std::process::Stdio| {
        std::process::Command::new(binary()).arg(ceso::script::ARGUMENT).stdin(input).status().unwrap().code()
    };
    assert_eq!(typed(std::process::Stdio::null()), Some(ceso::script::EXIT_LOST));
    assert_eq!(typed(std::process::Stdio::piped()), Some(ceso::script::EXIT_LOST));
}
