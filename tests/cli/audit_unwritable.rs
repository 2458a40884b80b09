//! A log that cannot be written: nothing is changed, reads go on, and what was changed already is said.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use crate::support::{Done, Machine, Sim, done};

const CHANGE: &str = "local vm = esxi.connect():vm(\"debian-12\")\nvm:power_on()\nreturn vm.name\n";
const READ: &str = "return #esxi.connect():vms()\n";

fn started() -> (Machine, Sim) {
    (Machine::new(), Sim::start(ceso::sim::Options::default()))
}

/// A command whose files may grow to that size and no further: a disk that is full.
fn on_a_full_disk(machine: &Machine, sim: &Sim, most: u64, arguments: &[&str]) -> Done {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ceso"));
    command
        .env_clear()
        .env("HOME", machine.home().parent().unwrap())
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
        .envs(sim.variables())
        .current_dir(machine.project())
        .args(arguments)
        .stdin(Stdio::null());
    // SAFETY: two calls that only set what the child may do, between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    done(command.output().unwrap())
}

fn log_size(machine: &Machine) -> u64 {
    std::fs::metadata(machine.home().join("audit.json")).map_or(0, |metadata| metadata.len())
}

#[test]
fn a_log_that_cannot_be_opened_refuses_changes_and_lets_reads_go_on() {
    let (machine, sim) = started();
    std::fs::create_dir(machine.home().join("audit.json")).unwrap();
    machine.file("change.luau", CHANGE);
    machine.file("read.luau", READ);
    let refused = machine.on(&sim, &["run", "change.luau"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("error[audit.") && refused.err.contains("hint: "), "{refused:?}");
    assert!(refused.err.contains("nothing was changed"), "{refused:?}");
    assert_eq!(sim.calls("PowerOnVM_Task"), 0);
    let read = machine.on(&sim, &["run", "read.luau"]).ok();
    assert_eq!(read.out, "1\n");
    assert_eq!(read.err.matches("reads go on without a record").count(), 1, "{read:?}");
    assert!(!read.err.contains("audit 1:"), "there is no receipt: {read:?}");
    let added = machine.on(&sim, &["host", "add", "lab", "esx1.example", "--system"]);
    assert!(added.code == 1 && added.err.contains("error[audit."), "{added:?}");
    assert!(!machine.home().join("hosts.yaml").exists(), "a host was added without a record");
}

#[test]
fn what_a_run_made_it_may_undo_without_a_log_and_nothing_else_is_destroyed() {
    let (machine, sim) = started();
    machine.file("destroy.luau", "esxi.connect():vm(\"debian-12\"):destroy()\n");
    std::fs::create_dir(machine.home().join("audit.json")).unwrap();
    let refused = machine.on(&sim, &["run", "--mode", "unrestricted", "destroy.luau"]);
    assert!(refused.code == 1 && refused.err.contains("error[audit."), "{refused:?}");
    assert_eq!(sim.calls("Destroy_Task"), 0);
}

/// The disk fills at every point of a run: before its first record, between intent and outcome, after its last.
#[test]
fn a_disk_that_fills_at_any_point_never_lets_a_change_go_unsaid() {
    let (machine, sim) = started();
    machine.file("change.luau", CHANGE);
    machine.file("read.luau", READ);
    machine.file("off.luau", "esxi.connect():vm(\"debian-12\"):power_off()\n");
    machine.on(&sim, &["run", "read.luau"]).ok();
    let (mut refused, mut unrecorded, mut recorded) = (0, 0, 0);
    for room in (0..7000).step_by(180) {
        let before = sim.calls("PowerOnVM_Task");
        let run = on_a_full_disk(&machine, &sim, log_size(&machine) + room, &["run", "change.luau"]);
        let sent = sim.calls("PowerOnVM_Task") - before;
        let text = std::fs::read_to_string(machine.home().join("audit.json")).unwrap();
        let mine = text.lines().rev().take_while(|line| !line.contains("\"kind\":\"run_begin\""));
        let outcome = mine.filter(|line| line.contains("\"kind\":\"outcome\"") && line.ends_with('}')).count();
        match (sent, run.code) {
            (0, code) => {
                assert_eq!(code, 1, "{room}: {run:?}");
                assert!(run.err.contains("error[audit.unwritable]"), "{room}: {run:?}");
                refused += 1;
            }
            (1, 0) => {
                assert!(outcome == 1 && run.err.contains("audit "), "{room}: {run:?}");
                recorded += 1;
            }
            (1, 1) => {
                assert_eq!(run.out, "debian-12\n", "{room}: the script's result is told all the same: {run:?}");
                let loud = run.err.contains("WARNING: vm.power_on debian-12 is done on the host");
                // The change may be on record, and only the end of the run be missing.
                assert!(loud || run.err.contains("afterwards: the audit log"), "{room}: {run:?}");
                unrecorded += usize::from(loud);
            }
            other => panic!("{room}: {other:?}: {run:?}"),
        }
        if sent > 0 {
            machine.on(&sim, &["run", "off.luau"]).ok();
        }
    }
    assert!(
        refused > 0 && unrecorded > 0 && recorded > 0,
        "{refused} refused, {unrecorded} unrecorded, {recorded} recorded"
    );
    let read = on_a_full_disk(&machine, &sim, 10, &["run", "read.luau"]);
    assert_eq!((read.code, read.out.as_str()), (0, "1\n"), "{read:?}");
}

#[test]
fn further_changes_of_a_run_are_refused_once_an_outcome_is_missing() {
    let (machine, sim) = started();
    machine.file("read.luau", READ);
    machine.file(
        "two.luau",
        "local vm = esxi.connect():vm(\"debian-12\")\nvm:power_on()\nprint(\"first\", #esxi.connect():vms())\nprint(select(2, pcall(vm.power_off, vm)).kind)\n",
    );
    machine.on(&sim, &["run", "read.luau"]).ok();
    let mut seen = false;
    for room in (600..6000).step_by(120) {
        let run = on_a_full_disk(&machine, &sim, log_size(&machine) + room, &["run", "two.luau"]);
        if run.err.contains("WARNING: vm.power_on") {
            assert_eq!(run.out, "first\t1\naudit.unwritable\n", "{run:?}");
            assert_eq!(sim.calls("PowerOffVM_Task"), 0);
            seen = true;
            break;
        }
        if sim.calls("PowerOnVM_Task") > 0 {
            break;
        }
    }
    assert!(seen, "no disk was full between intent and outcome");
}
