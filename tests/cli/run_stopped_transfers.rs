//! Transfers between hosts and files that are stopped in the middle, by a signal, by the run's time or by the other side: the machine is
//! free at once, and nothing half made is left.

use std::time::{Duration, Instant};

use ceso::sim::{Options, read_fault};

use crate::support::{Machine, Running, Sim, done, eventually};

/// A transfer that hangs until the test has what it wants.
const HANGS: &str = "delay=40s:1";

fn fault(host: &Sim, rule: &str) {
    host.server.fault(read_fault(rule).unwrap()).unwrap();
}

fn names(host: &Sim) -> Vec<String> {
    host.server.machines().into_iter().map(|vm| vm.name).collect()
}

fn files(host: &Sim, machine: &Machine) -> usize {
    let listed = machine.on(host, &["datastore", "ls", "[datastore1]", "--output", "json"]).ok().json();
    listed.as_array().unwrap().len()
}

/// Ends a run that was asked to, which takes no longer than its clean-up.
fn ended(run: Running, since: Instant) -> (i32, String) {
    let ended = run.end();
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}: {}", since.elapsed(), ended.1);
    ended
}

#[test]
fn an_export_that_is_stopped_leaves_its_machine_free_and_no_file() {
    for (words, code, kind) in [(&[][..], 1, "script.cancelled"), (&["--timeout", "3 s"][..], 124, "limit.run_time")] {
        let (machine, host) = (Machine::new(), Sim::start(Options::default()));
        fault(&host, &format!("GET nfc:{HANGS}"));
        let run = machine.start(&host.variables(), &[&["vm", "export", "debian-12", "out.ova"], words].concat());
        eventually("the export goes on", || host.calls("HttpNfcLeaseProgress") > 0);
        let since = Instant::now();
        if words.is_empty() {
            run.signal(libc::SIGINT);
        }
        let (seen, err) = ended(run, since);
        assert!(seen == code && err.contains(&format!("error[{kind}]")), "{err}");
        assert!(!err.contains("outcome unknown") && err.contains("failed: vm.export"), "{err}");
        assert_eq!(host.calls("HttpNfcLeaseAbort"), 1, "{err}");
        machine.on(&host, &["vm", "power", "debian-12", "on"]).ok();
        assert!(!machine.project().join("out.ova").exists() && !machine.project().join("out.ova.part").exists());
    }
}

#[test]
fn a_second_signal_still_has_leases_aborted() {
    // The host prepares the lease while nobody waits for it any more.
    let machine = Machine::new();
    let slow = Sim::start(Options { task_delay: Duration::from_secs(3), ..Options::default() });
    let run = machine.start(&slow.variables(), &["vm", "export", "debian-12", "out.ova"]);
    eventually("the lease is asked for", || slow.calls("ExportVm") > 0);
    std::thread::sleep(Duration::from_millis(300));
    let since = Instant::now();
    run.signal(libc::SIGINT);
    run.says("waiting for changes");
    run.signal(libc::SIGINT);
    let (code, err) = ended(run, since);
    assert!(code == 1 && err.contains("outcome unknown, look at the host: vm.export"), "{err}");
    assert!(!err.contains("afterwards"), "{err}");
    machine.on(&slow, &["vm", "power", "debian-12", "on"]).ok();
}

#[test]
fn an_import_that_is_stopped_leaves_no_machine() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    machine.on(&host, &["vm", "export", "debian-12", "out.ova"]).ok();
    let (before, count) = (names(&host), files(&host, &machine));
    for signals in [1, 2] {
        host.server.clear_faults();
        for method in ["PUT nfc", "POST nfc"] {
            fault(&host, &format!("{method}:{HANGS}"));
        }
        // What ends the call in the middle of its own clean-up leaves that to the client's.
        if signals == 2 {
            fault(&host, "HttpNfcLeaseAbort:delay=5s:1");
        }
        let renewed = host.calls("HttpNfcLeaseProgress");
        let run = machine.start(&host.variables(), &["vm", "import", "out.ova", "web-1"]);
        eventually("the import goes on", || host.calls("HttpNfcLeaseProgress") > renewed);
        let since = Instant::now();
        run.signal(libc::SIGINT);
        if signals == 2 {
            run.says("waiting for changes");
            run.signal(libc::SIGINT);
        }
        let (code, err) = ended(run, since);
        assert!(code == 1 && err.contains("error[script.cancelled]"), "{err}");
        assert!(!err.contains("left behind") && !err.contains("afterwards"), "{err}");
        assert_eq!(names(&host), before, "{err}");
        assert_eq!(files(&host, &machine), count, "{err}");
    }
}

#[test]
fn a_copy_whose_source_is_lost_or_that_is_stopped_leaves_nothing_on_its_target() {
    for how in ["lost", "stopped", "hurried"] {
        let machine = Machine::new();
        let short = Options { lease_timeout: Duration::from_secs(4), ..Options::default() };
        let (from, to) = (Sim::start(short), Sim::start(Options::default()));
        let (url, print) = (to.server.url(), to.server.fingerprint().to_owned());
        std::fs::write(
            machine.home().join("config.yaml"),
            format!(
                "hosts:\n  there:\n    url: '{url}'\n    trust: {{fingerprint: '{print}'}}\n    password_env: PW\n"
            ),
        )
        .unwrap();
        fault(&from, &format!("GET nfc:{HANGS}"));
        let copy = ["vm", "copy", "debian-12", "--to", "there", "--as", "web-1"];
        let variables = [from.variables(), vec![("PW", "ceso".to_owned())]].concat();
        let err = if how == "lost" {
            // The source's agent knows the lease no longer, while the target waits for what comes.
            fault(&from, "HttpNfcLeaseProgress:ManagedObjectNotFound:after=3");
            let ended = done(machine.command(&copy).envs(variables).output().unwrap());
            assert!(ended.code == 4 && ended.err.contains("keep the lease"), "{ended:?}");
            ended.err
        } else {
            let run = machine.start(&variables, &copy);
            eventually("the copy goes on", || to.calls("HttpNfcLeaseProgress") > 0);
            let since = Instant::now();
            run.signal(libc::SIGINT);
            if how == "hurried" {
                run.says("waiting for changes");
                run.signal(libc::SIGINT);
            }
            ended(run, since).1
        };
        assert!(!err.contains("left behind") && !err.contains("afterwards"), "{how}: {err}");
        assert_eq!(names(&to), ["debian-12"], "{how}: {err}");
        assert_eq!(files(&to, &machine), 1, "{how}: {err}");
        machine.on(&from, &["vm", "power", "debian-12", "on"]).ok();
    }
}
