//! For each kind of attack: with its stop taken out, it succeeds. So it is that stop which holds.

use std::time::{Duration, Instant};

use crate::bench::{Run, binary};
use crate::ground::{Ground, SECRET};
use crate::{Page, is_worker};
use ceso::run::output::Output;
use ceso::run::process::Worker;
use ceso::units::Bytes;
use ceso::units::Span;
use ceso::wire::{FrameError, FromWorker, Handle, MAX_FRAME, Purpose, Start, ToWorker, Value, read_frame, write_frame};

#[test]
fn without_the_jail_a_broken_vm_reads_the_file() {
    let ground = Ground::new();
    let attack = ground.fill("print(breach.read('%CANARY%')) print(breach.write('%MARKER%', 'x'))");
    let ran = Run::new(attack.clone()).soft().free().go();
    assert!(ran.said().contains(SECRET), "{}", ran.said());
    assert_eq!(ground.reached(), ["the folder"]);
    let ran = Run::new(attack).soft().go();
    assert_eq!((ran.kind().as_str(), ran.said().contains(SECRET)), ("jail.violation", false));
    assert!(ground.reached().is_empty());
}

#[test]
fn without_the_jail_a_broken_vm_reaches_the_sockets() {
    let ground = Ground::new();
    for (attack, reached) in [
        ("breach.connect('127.0.0.1:%PORT%')", "the TCP socket"),
        ("breach.send_datagram('127.0.0.1:%PORT%')", "the UDP socket"),
        ("breach.connect_unix('%SOCKET%')", "the local socket"),
    ] {
        assert_eq!(Run::new(ground.fill(attack)).soft().free().go().kind(), "done");
        assert_eq!(ground.reached(), [reached]);
        assert_eq!(Run::new(ground.fill(attack)).soft().go().kind(), "jail.violation");
        assert!(ground.reached().is_empty());
    }
}

#[test]
fn without_the_jail_a_broken_vm_runs_programs_and_signals_others() {
    let run = |attack: &str, free: bool| {
        let run = Run::new(attack).soft();
        if free { run.free() } else { run }.go()
    };
    assert_eq!(run("print(breach.execute('/bin/pwd'))", true).printed, [format!("{}\n", env!("CARGO_MANIFEST_DIR"))]);
    assert_eq!(run("print(breach.thread())", true).printed, ["true"]);
    assert_eq!(run("print(breach.executable_memory())", true).printed, ["true"]);
    // Signal 0 asks only whether one may.
    assert_eq!(run("print(breach.kill(breach.parent(), 0))", true).printed, ["0"]);
    for attack in [
        "breach.execute('/bin/pwd')",
        "breach.thread()",
        "breach.executable_memory()",
        "breach.kill(0, 0)",
        "breach.fork()",
        "breach.parent()",
        "breach.raise_limits()",
    ] {
        assert_eq!(run(attack, false).kind(), "jail.violation", "{attack}");
    }
}

#[test]
fn without_hardening_a_script_crashes_its_process() {
    let attack = "local d = {} d[-2147483648] = 1 table.move({ 1 }, 1, 2147483647, 1, d) return 'lived'";
    let ran = Run::new(attack).soft().go();
    assert_eq!(ran.kind(), "script.crashed", "{}", ran.outcome());
    let ran = Run::new(attack).go();
    assert_ne!(ran.kind(), "script.crashed", "{}", ran.outcome());
}

#[test]
fn without_hardening_a_script_hangs_until_it_is_killed_and_without_the_killer_for_ever() {
    let attack = "while true do end";
    let time = Duration::from_millis(300);
    let hard = Run::new(attack).within(time).go();
    assert!(hard.end.is_some() && hard.fault.is_none(), "it should have ended by itself");
    let soft = Run::new(attack).within(time).soft().go();
    assert!(soft.end.is_none() && soft.fault.is_some_and(|fault| fault.kind() == "limit.run_time"));
    // The REPL's worker has no deadline until it is armed.
    let start = Start { purpose: Purpose::Repl, hardened: false, ..Run::new("").within(time).start };
    let (worker, _reader, writer) = Worker::spawn_from(binary(), start).unwrap();
    let pid = worker.pid();
    writer.send(&ToWorker::Chunk { name: "chunk".into(), source: attack.into(), time: Span(time) }).unwrap();
    std::thread::sleep(Duration::from_millis(900));
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "something else ended it");
    worker.arm(Duration::ZERO);
    assert_eq!(worker.ended().fault.unwrap().kind(), "limit.run_time");
    assert!(!is_worker(pid));
}

#[test]
fn without_hardening_functions_of_luau_hang() {
    let attack = "local begun = os.clock() table.move({}, 1, 3e8, 2, {}) return 'ended'";
    assert_eq!(Run::new(attack).within(Duration::from_millis(500)).soft().go().kind(), "limit.run_time");
    assert_eq!(Run::new(attack).go().kind(), "done");
    let attack = "return string.find(string.rep('a', 4000000), string.rep('a', 2000000) .. 'b', 1, true)";
    assert_eq!(Run::new(attack).within(Duration::from_millis(500)).soft().go().kind(), "limit.run_time");
    assert_eq!(Run::new(attack).go().kind(), "done");
}

#[test]
fn without_its_limit_the_memory_is_taken() {
    let attack = "local t = {} for i = 1, 40 do t[i] = string.rep('x', 1000000) .. i end return #t";
    let small = |limits: &mut ceso::wire::Limits| limits.memory = Bytes(8 << 20);
    assert_eq!(Run::new(attack).limits(small).go().kind(), "limit.memory");
    assert_eq!(Run::new(attack).limits(small).soft().go().outcome(), "done 40");
    // Memory that is not the VM's is the process's limit to hold.
    let attack = "return breach.allocate(400) > 0";
    assert_eq!(Run::new(attack).limits(small).soft().go().kind(), "limit.memory");
    assert_eq!(Run::new(attack).limits(small).soft().free().go().outcome(), "done true");
}

#[test]
fn without_hardening_a_call_after_the_deadline_goes_out() {
    let attack = "
        local host = esxi.connect()
        local trap = setmetatable({}, { __index = function() return host:vm('late') end })
        pcall(function() local begun = os.clock() while os.clock() - begun < 0.4 do end end)
        return trap.x ~= nil";
    let time = Duration::from_millis(300);
    let ran = Run::new(attack).within(time).go();
    assert_eq!((ran.kind().as_str(), ran.calls.len()), ("limit.run_time", 1));
    let ran = Run::new(attack).within(Duration::from_millis(350)).soft().go();
    // The kill may come first where the machine is slow; then the attack had no time, which is no stop of the VM's.
    assert!(ran.calls.len() == 2 || ran.fault.is_some(), "{}", ran.outcome());
}

#[test]
fn without_the_vm_a_handle_and_a_fault_can_be_forged_on_the_wire() {
    let ground = Ground::new();
    let ran = Run::new(ground.fill("breach.raw(\"%FRAME_HANDLE%\")")).soft().go();
    let forged = ran.calls.iter().find_map(|(_, arguments)| arguments.get("vm"));
    assert!(matches!(forged, Some(Value::Handle(handle)) if handle.id == 999), "{:?}", ran.calls);
    let ran = Run::new(ground.fill("breach.raw(\"%FRAME_FAULT%\")")).soft().go();
    assert_eq!(ran.end.unwrap().unwrap_err().fault, Some(9));
    // With the VM in the way there is no such table and no such error; the parent's own tables are the stop behind it.
    let ran = Run::new("esxi.connect({ name = { id = 999, kind = 'vm' } })").go();
    assert!(matches!(ran.calls[0].1.get("name"), Some(Value::Map(_))));
    assert_eq!(
        Run::new("error({ fault = 9, number = 9, kind = 'door.denied' })").go().end.unwrap().unwrap_err().fault,
        None
    );
}

#[test]
fn without_the_escape_a_terminal_sequence_and_a_line_of_the_log_get_through() {
    let page = Page::default();
    let err = Page::default();
    let output = Output::new(page.clone(), err.clone(), Bytes(1000)).unwrap();
    let ran = Run::new("print('\\27[2J\\u{202e}x') log.info('a\\nerror: b')").writing_to(&output).go();
    assert!(output.finish(Some(Duration::from_secs(10))));
    // What the worker said holds the attack; what is written does not.
    assert_eq!((ran.printed[0].as_str(), ran.logged[0].as_str()), ("\u{1b}[2J\u{202e}x", "a\nerror: b"));
    assert_eq!((page.text().as_str(), err.text().as_str()), ("\\u{1b}[2J\\u{202e}x\n", "info: a\\nerror: b\n"));
    output.text(ran.printed[0].as_str());
    assert!(output.finish(Some(Duration::from_secs(10))));
    assert!(page.text().contains("\u{1b}[2J"));
}

#[test]
fn without_hardening_libraries_are_replaced_and_addresses_told() {
    let attack = "string.upper = function() return 'replaced' end return ('x'):upper()";
    assert_eq!(Run::new(attack).soft().go().outcome(), "done \"replaced\"");
    assert_eq!(Run::new(attack).go().kind(), "script.error");
    let attack = "return tostring(print)";
    assert!(Run::new(attack).soft().go().outcome().contains("0x"));
    assert_eq!(Run::new(attack).go().outcome(), "done \"function\"");
    let attack = "return loadstring('return getfenv().print ~= nil')()";
    assert_eq!(Run::new(attack).soft().go().outcome(), "done true");
    assert_eq!(Run::new(attack).go().kind(), "script.error");
}

#[test]
fn without_openat2s_rules_a_link_leads_out_of_the_folder() {
    let ground = Ground::new();
    let run = || Run::new("return require('link')").modules(&ground.modules).go();
    assert_eq!(run().kind(), "script.error");
    assert!(!run().said().contains(SECRET));
    let followed = std::fs::read_to_string(ground.book().join("link.luau")).unwrap();
    assert!(followed.contains(SECRET));
}

#[test]
fn without_the_frames_limit_a_huge_frame_is_taken() {
    let frame = FromWorker::Print { text: "x".repeat(MAX_FRAME + 1) };
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &frame).unwrap();
    assert!(matches!(read_frame::<FromWorker>(&mut bytes.as_slice(), MAX_FRAME), Err(FrameError::TooLarge(..))));
    assert_eq!(read_frame::<FromWorker>(&mut bytes.as_slice(), usize::MAX).unwrap(), frame);
    // And through the process: the worker that sends one is ended.
    let ran = Run::new("breach.raw('\\255\\255\\255\\127' .. string.rep('x', 1000))").soft().go();
    assert!(matches!(ran.misbehaved, Some(FrameError::TooLarge(..))));
}

#[test]
fn without_their_limits_output_calls_and_tables_flood_the_parent() {
    let attack = "for i = 1, 100 do print(string.rep('x', 1000)) end";
    assert_eq!(Run::new(attack).limits(|limits| limits.output = Bytes(10_000)).go().kind(), "limit.output");
    assert_eq!(Run::new(attack).limits(|limits| limits.output = Bytes(1 << 20)).go().printed.len(), 100);
    let attack = "for i = 1, 100 do esxi.connect() end";
    assert_eq!(Run::new(attack).limits(|limits| limits.calls = 10).go().calls.len(), 10);
    assert_eq!(Run::new(attack).go().calls.len(), 100);
    // A shared table is small in the VM and doubles with each level on the wire.
    let grown = |levels: u32| {
        let text = format!("local t = {{ 1 }} for _ = 1, {levels} do t = {{ t, t }} end return t");
        Run::new(text).go().end.unwrap()
    };
    assert!(grown(60).is_err());
    let count = |value: &Value| serde_json::to_string(&value.to_json()).unwrap().matches('1').count();
    assert_eq!(count(&grown(10).unwrap()), 1024);
}

#[test]
fn without_the_bound_on_nesting_a_value_would_be_as_deep_as_a_script_likes() {
    let deep = |levels: usize| (0..levels).fold(Value::Int(1), |value, _| Value::List(vec![value]));
    let through = |value: &Value| {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, value).unwrap();
        read_frame::<Value>(&mut bytes.as_slice(), MAX_FRAME)
    };
    assert!(through(&deep(60)).is_ok());
    assert!(matches!(through(&deep(500)), Err(FrameError::Malformed(_))));
    let nested = |value| Value::Handle(Box::new(Handle { fields: vec![("x".into(), value)], ..Handle::default() }));
    assert!(through(&(0..10).fold(Value::Nil, |value, _| nested(value))).is_err());
}

#[test]
fn a_worker_is_not_started_in_a_jail_that_is_not_full() {
    // The parts are reported, so that a parent that wants them all can refuse.
    let ran = Run::new("return 1").free().go();
    assert!(ran.jail.is_empty());
    assert!(!ceso::script::jail::is_full(&ran.jail));
    let begun = Instant::now();
    let ran = Run::new("return 1").go();
    assert_eq!(ran.outcome(), "done 1");
    assert!(begun.elapsed() < Duration::from_secs(20));
}
