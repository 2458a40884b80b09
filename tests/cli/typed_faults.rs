//! What a person reads of each typed fault: by the commands, where the simulator raises it of itself.

use std::time::Duration;

use ceso::sim::{Options, read_fault};
use serde_json::Value;

use crate::support::{Done, Machine, Sim, eventually};

#[track_caller]
fn says(done: Done, kind: &str, parts: &[&str]) {
    let done = done.failed(4, kind);
    for part in parts {
        assert!(done.err.contains(part), "{part}: {done:?}");
    }
}

/// Bytes that cannot be packed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

/// A host with a machine whose disk has that much on it.
fn furnished(machine: &Machine, bytes: usize) -> Sim {
    let host = Sim::start(Options::default());
    machine.on(&host, &["vm", "create", "big", "--disk", "64 MiB"]).ok();
    host.server.write_disk("big", 0, 1 << 20, &noise(bytes)).unwrap();
    host
}

fn names(host: &Sim) -> Vec<String> {
    host.server.machines().into_iter().map(|vm| vm.name).collect()
}

#[test]
fn an_import_and_a_copy_say_how_much_space_is_missing_and_leave_nothing() {
    let machine = Machine::new();
    let from = furnished(&machine, 8 << 20);
    machine.on(&from, &["vm", "export", "big", "big.ova"]).ok();
    let to = Sim::start(Options::default());
    let there = machine.file(
        "ceso.yaml",
        format!(
            "hosts:\n  there:\n    url: '{}'\n    trust: {{fingerprint: '{}'}}\n    password_env: PW\n",
            to.server.url(),
            to.server.fingerprint()
        ),
    );
    drop(std::fs::rename(there, machine.home().join("config.yaml")));
    let copy = |words: &[&str]| {
        let mut command = machine.command(&[&["vm", "copy", "big", "--to", "there"], words].concat());
        crate::support::done(command.envs(from.variables()).env("PW", "ceso").output().unwrap())
    };
    let before = names(&to);
    // It is full while the content comes.
    for attempt in ["import", "copy"] {
        to.server.fault(read_fault("PUT nfc:fill=2 MiB:1").unwrap()).unwrap();
        to.server.fault(read_fault("POST nfc:fill=2 MiB:1").unwrap()).unwrap();
        let done = match attempt {
            "import" => machine.on(&to, &["vm", "import", "big.ova", "big"]),
            _ => copy(&[]),
        };
        says(done, "esxi.no_disk_space", &["datastore1", "are missing", "needed", "hint: free space"]);
        assert_eq!(names(&to), before, "{attempt}");
        let listed = machine.on(&to, &["datastore", "ls", "[datastore1]", "--output", "json"]).ok().json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{attempt}: {listed}");
        to.server.clear_faults();
        to.server.set_capacity(None);
    }
    // The same succeed where there is room.
    machine.on(&to, &["vm", "import", "big.ova", "imported"]).ok();
    copy(&[]).ok();
}

#[test]
fn a_wrong_power_state_a_task_under_way_and_a_locked_file_say_what_and_whose() {
    let machine = Machine::new();
    let host = Sim::start(Options { task_delay: Duration::from_millis(2500), vms: 1, ..Options::default() });
    let on = |words: &[&str]| machine.on(&host, &[words, &["--mode", "unrestricted"]].concat());
    says(on(&["vm", "delete", "vm-0001"]), "esxi.invalid_power_state", &["vm-0001", "powered on", "turn it off"]);
    let disk = "[datastore1] vm-0001/vm-0001.vmdk";
    let copy = on(&["datastore", "disk", "copy", disk, "[datastore1] copy.vmdk"]);
    says(copy, "esxi.file_locked", &["vm-0001.vmdk", "\"vm-0001\", which is on", "power the machine off"]);
    let taken = machine.start(&host.variables(), &["vm", "snapshot", "create", "vm-0001", "s"]);
    eventually("the snapshot is under way", || host.calls("CreateSnapshot_Task") > 0);
    let busy = on(&["vm", "power", "vm-0001", "off"]);
    says(busy, "esxi.task_in_progress", &["by root", " since ", "napshot", "wait"]);
    assert_eq!(taken.end().0, 0);
}

/// A delta that no snapshot owns: the lists say so, and the command that mends it is there.
#[test]
fn deltas_without_a_snapshot_are_found_by_the_commands_and_merged() {
    let machine = Machine::new();
    let host = Sim::start(Options::default());
    let on = |words: &[&str]| machine.on(&host, &[words, &["--mode", "unrestricted", "--output", "json"]].concat());
    on(&["vm", "clone", "debian-12", "a"]).ok();
    on(&["vm", "snapshot", "create", "a", "s"]).ok();
    host.server.fault(read_fault("RemoveAllSnapshots_Task:leave-delta:1").unwrap()).unwrap();
    assert_ne!(on(&["vm", "snapshot", "remove", "a", "--all"]).code, 0);
    let info = on(&["vm", "info", "a"]).ok().json();
    assert_eq!((&info["snapshots"], &info["consolidation_needed"]), (&serde_json::json!([]), &true.into()), "{info:#}");
    let listed = on(&["vm", "list"]).ok().json();
    let told: Vec<_> =
        listed.as_array().unwrap().iter().map(|row| (&row["name"], &row["consolidation_needed"])).collect();
    assert_eq!(told, [(&"a".into(), &true.into()), (&"debian-12".into(), &Value::Null)], "{listed:#}");
    let delta = &info["disks"][0];
    assert!(delta["file"].as_str().unwrap().contains("-000001.vmdk"), "{delta:#}");
    assert_eq!(on(&["vm", "snapshot", "consolidate", "a"]).ok().json()["consolidation_needed"], false);
}
