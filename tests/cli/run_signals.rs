//! Ctrl-C, SIGTERM and SIGKILL in the middle of a run: it stops, says what was left, and leaves no process behind.

use std::time::{Duration, Instant};

use crate::support::{Machine, Sim, alive, eventually};

const WAITS: &str = r#"
local host = esxi.connect()
require("@ceso/task").defer(function() log.info(`deferred: {host:vm("sig-1").name}`) end)
local vm = host:create({ name = "sig-1", disk = "1 GiB", datastore = "datastore1", network = "VM Network" })
vm:power_on()
log.info("waiting")
vm:wait_for_ip({ timeout = "5 min" })"#;

#[test]
fn run_stopped_by_a_signal_runs_what_was_deferred_and_says_what_is_left() {
    for (signal, name) in [(libc::SIGINT, "Ctrl-C"), (libc::SIGTERM, "SIGTERM")] {
        let machine = Machine::new();
        machine.file("script.luau", WAITS);
        let run = machine.start(&[], &["run", "--host", "sim", "script.luau"]);
        run.says("waiting");
        let worker = run.worker();
        run.signal(signal);
        let (code, err) = run.end();
        assert_eq!(code, 1, "{err}");
        for text in ["deferred: sig-1", "error[script.cancelled]", name, "2 changed", "SIMULATOR", "\nrun 0"] {
            assert!(err.contains(text), "{text}: {err}");
        }
        assert!(err.contains("done and left as it is: vm.create sig-1"), "{err}");
        eventually("the worker ends", || !alive(worker));
        machine.run(&["--host", "sim", "vm", "info", "sig-1"]).ok();
    }
}

#[test]
fn run_that_does_not_stop_is_ended_by_a_second_signal() {
    let machine = Machine::new();
    let text = "require('@ceso/task').defer(function() log.info('deferred') while true do end end)\n\
                log.info('begun') while true do end";
    machine.file("script.luau", text);
    let run = machine.start(&[], &["run", "script.luau"]);
    run.says("begun");
    let worker = run.worker();
    run.signal(libc::SIGINT);
    run.says("deferred");
    run.signal(libc::SIGINT);
    let (code, err) = run.end();
    assert!(code == 1 && err.contains("error[script.cancelled]"), "{err}");
    eventually("the worker ends", || !alive(worker));
}

#[test]
fn run_waits_for_a_change_under_way_unless_a_second_signal_says_not_to() {
    for second in [false, true] {
        let delay = Duration::from_secs(if second { 25 } else { 2 });
        let host = Sim::start(ceso::sim::Options { task_delay: delay, ..Default::default() });
        let machine = Machine::new();
        machine.file("script.luau", "local vm = esxi.connect():vm('debian-12')\nlog.info('begun')\nvm:power_on()");
        let run = machine.start(&host.variables(), &["run", "script.luau"]);
        eventually("the change begins", || host.calls("PowerOnVM_Task") > 0);
        let begun = Instant::now();
        run.signal(libc::SIGINT);
        run.says("waiting for changes");
        if second {
            run.signal(libc::SIGINT);
        }
        let (code, err) = run.end();
        assert!(code == 1 && err.contains("error[script.cancelled]"), "{err}");
        if second {
            assert!(
                err.contains("1 unknown") && err.contains("outcome unknown, look at the host: vm.power_on"),
                "{err}"
            );
            assert!(begun.elapsed() < Duration::from_secs(20), "it did not wait");
        } else {
            assert!(err.contains("done and left as it is: vm.power_on debian-12"), "{err}");
        }
    }
}

#[test]
fn run_that_is_killed_takes_its_worker_with_it() {
    let machine = Machine::new();
    machine.file("script.luau", "log.info('begun') while true do end");
    let run = machine.start(&[], &["run", "script.luau"]);
    run.says("begun");
    let worker = run.worker();
    assert!(alive(worker));
    run.signal(libc::SIGKILL);
    assert_eq!(run.end().0, -1);
    eventually("the worker ends with its parent", || !alive(worker));
}

#[test]
fn run_keeps_the_password_from_its_worker_and_from_all_that_it_prints() {
    let host = Sim::start(ceso::sim::Options { password: "s3cret-pass".to_owned().into(), ..Default::default() });
    let machine = Machine::new();
    machine.file("script.luau", "local host = esxi.connect()\nlog.info('begun')\nrequire('@ceso/task').sleep('1 min')");
    let mut variables = host.variables();
    variables.retain(|(name, _)| *name != "CESO_PASSWORD");
    variables.push(("CESO_PASSWORD", "s3cret-pass".to_owned()));
    let run = machine.start(&variables, &["run", "script.luau", "--verbose"]);
    run.says("begun");
    let worker = run.worker();
    for file in ["cmdline", "environ"] {
        let text = std::fs::read(format!("/proc/{worker}/{file}")).unwrap();
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains("s3cret") && !text.contains("CESO_"), "{file}: {text}");
    }
    let own = std::fs::read(format!("/proc/{}/cmdline", run.child.id())).unwrap();
    assert!(!String::from_utf8_lossy(&own).contains("s3cret"));
    run.signal(libc::SIGINT);
    let (_, err) = run.end();
    assert!(!err.contains("s3cret"), "{err}");
    for arguments in
        [&["config", "show"][..], &["vm", "list", "-v"], &["host", "check", "env", "-v"], &["vm", "info", "no", "-v"]]
    {
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let done = machine.run_with(&variables, arguments);
        assert!(!done.out.contains("s3cret") && !done.err.contains("s3cret"), "{done:?}");
    }
    let kept = std::fs::read_dir(machine.home().join("sessions")).unwrap();
    for file in kept {
        assert!(!std::fs::read_to_string(file.unwrap().path()).unwrap().contains("s3cret"));
    }
}
