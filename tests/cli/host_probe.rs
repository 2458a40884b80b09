//! `ceso host probe`: what it finds out is kept for the host's build and chosen by, and nothing of it stays on the host.

use std::time::Duration;

use ceso::catalog::{Catalog, Fact, Probe};
use ceso::sim::{Options, read_fault};
use serde_json::Value;

use crate::support::{Done, Machine, Sim, eventually};

fn probe(machine: &Machine, host: &Sim) -> Done {
    machine.on(host, &["host", "probe", "--output", "json"])
}

fn names(machine: &Machine, host: &Sim) -> Vec<String> {
    let rows = machine.on(host, &["vm", "list", "--output", "json"]).ok().json();
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn fact<'a>(probed: &'a Value, name: &str) -> &'a Value {
    let facts = probed["facts"].as_array().unwrap_or_else(|| panic!("{probed:#}"));
    facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name}: {probed:#}"))
}

fn abilities(machine: &Machine, host: &Sim) -> Value {
    machine.file("can.luau", "return esxi.connect():abilities()");
    machine.on(host, &["run", "can.luau", "--output", "json"]).ok().json()
}

/// The files on the datastore, but for those of the template.
fn files(machine: &Machine, host: &Sim) -> Value {
    machine.on(host, &["datastore", "ls", "[datastore1]", "--output", "json"]).ok().json()
}

#[test]
fn what_a_good_host_does_is_found_out_kept_and_shown() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    let before = (names(&machine, &host), files(&machine, &host));
    let probed = probe(&machine, &host).ok().json();
    for name in [
        "sessions",
        "upload",
        "download",
        "ranges",
        "copies",
        "thin_copies",
        "tracked_changes",
        "allocated_areas",
        "unchanged_areas",
        "snapshot_export",
        "linked_clones",
        "parents_survive",
    ] {
        assert_eq!(fact(&probed, name)["works"], true, "{probed:#}");
    }
    // As on a real host: whoever does not say thin gets thick.
    assert_eq!(fact(&probed, "untold_copies")["works"], false, "{probed:#}");
    assert_eq!((names(&machine, &host), files(&machine, &host)), before);
    assert_eq!(host.server.open_sessions(), 1, "the one that is kept");
    let shown = machine.run(&["host", "show", "env", "--output", "json"]).ok().json();
    assert_eq!((&shown["facts"], &shown["stale"]), (&probed["facts"], &Value::Bool(false)), "{shown:#}");
    assert!(shown["probed"].is_string() && shown["left"].as_array().unwrap().is_empty(), "{shown:#}");
    let can = abilities(&machine, &host);
    assert_eq!((&can["ranges"], &can["linked_clones"], &can["sessions"]), (&true.into(), &true.into(), &Value::Null));
    assert!(can["copy_speed"].is_number() || can["copy_speed"].is_string(), "{can:#}");
    // A second one finds nothing in its way; the host may be named.
    machine.on(&host, &["host", "probe", "env", "--output", "json"]).ok();
    let other = machine.on(&host, &["host", "probe", "enw"]);
    assert!(other.code != 0 && other.err.contains("enw"), "{other:?}");
    let unknown = machine.run(&["host", "show", "enw"]);
    assert!(unknown.code == 1 && unknown.err.contains("did you mean \"env\"?"), "{unknown:?}");
}

/// What a guest writes while it runs is held against what the host tells: nothing else shows whether tracked changes can be trusted.
#[test]
fn a_guest_that_writes_shows_whether_the_host_tells_all_that_changed() {
    let with_guest = ["host", "probe", "--template", "debian-12", "--output", "json"];
    let probe = |machine: &Machine, host: &Sim| machine.on(host, &with_guest).ok().json();
    let writes = Some(Duration::from_millis(20));
    let start = || Sim::start(Options { guest_writes: writes, ..Options::default() });
    let (machine, host) = (Machine::new(), start());
    let paths = |machine: &Machine, host: &Sim| -> Vec<String> {
        let rows = files(machine, host);
        rows.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    let before = (names(&machine, &host), paths(&machine, &host));
    let honest = probe(&machine, &host);
    for name in ["written_areas", "written_allocated"] {
        assert_eq!(fact(&honest, name)["works"], true, "{honest:#}");
    }
    assert_eq!(abilities(&machine, &host)["tracked_changes"], true);
    assert_eq!((names(&machine, &host), paths(&machine, &host)), before);
    // Its guest is heard by nobody.
    let made = host.server.calls().into_iter().filter(|call| call.method == "CreateVM_Task").count();
    assert_eq!(made, 3, "the machine, its linked clone, the guest");
    // The lies that hosts have been seen to tell. None but this trial sees through the first two.
    for (lie, found) in [
        ("QueryChangedDiskAreas:lie=missing", "written_areas"),
        ("QueryChangedDiskAreas:lie=missing", "written_allocated"),
        ("QueryChangedDiskAreas:lie=unknown", "written_areas"),
        ("QueryChangedDiskAreas:FileFault", "written_areas"),
    ] {
        let (machine, host) = (Machine::new(), start());
        host.server.fault(read_fault(lie).unwrap()).unwrap();
        let probed = probe(&machine, &host);
        assert_ne!(fact(&probed, found)["works"], true, "{lie}: {probed:#}");
        assert_eq!(abilities(&machine, &host)["tracked_changes"], false, "{lie}");
        assert_eq!((names(&machine, &host), paths(&machine, &host)), before, "{lie}");
    }
    // Everything is no lie that loses anything.
    let (machine, host) = (Machine::new(), start());
    host.server.fault(read_fault("QueryChangedDiskAreas:lie=everything").unwrap()).unwrap();
    assert_eq!(fact(&probe(&machine, &host), "written_areas")["works"], true);
    // Where snapshots are not exported there is nothing to compare with, and nothing is claimed.
    let (machine, host) = (Machine::new(), start());
    host.server.fault(read_fault("ExportSnapshot:NotSupported").unwrap()).unwrap();
    assert!(fact(&probe(&machine, &host), "written_areas")["works"].is_null());
    assert_eq!(names(&machine, &host), ["debian-12"]);
    machine.on(&host, &["host", "probe", "--template", "none"]).failed(4, "esxi.vm_not_found");
}

/// Of a host that is known to give no parts, all is asked for again, and written anew.
#[test]
fn a_download_that_breaks_off_goes_on_where_the_probe_found_no_ranges() {
    let machine = Machine::new();
    let host = Sim::start(Options { ranges: false, ..Options::default() });
    probe(&machine, &host).ok();
    let content: Vec<u8> = (0..3_000_000u32).flat_map(|number| number.to_le_bytes().into_iter().take(2)).collect();
    machine.file("up.bin", &content);
    machine.on(&host, &["datastore", "upload", "up.bin", "[datastore1] up.bin"]).ok();
    host.server.fault(read_fault("GET folder:cut=5000000:1").unwrap()).unwrap();
    machine.on(&host, &["datastore", "download", "[datastore1] up.bin", "down.bin"]).ok();
    assert!(std::fs::read(machine.project().join("down.bin")).unwrap() == content);
}

#[test]
fn what_a_poor_host_lacks_is_gone_round() {
    let machine = Machine::new();
    let host = Sim::start(Options { ranges: false, max_sessions: 4, ..Options::default() });
    host.server.fault(read_fault("ExportSnapshot:NotSupported").unwrap()).unwrap();
    let probed = probe(&machine, &host).ok().json();
    for name in ["ranges", "snapshot_export", "sessions"] {
        assert_eq!(fact(&probed, name)["works"], false, "{probed:#}");
    }
    assert_eq!(fact(&probed, "sessions")["figure"], 4);
    assert_eq!(host.server.open_sessions(), 1);
    assert_eq!(names(&machine, &host), ["debian-12"]);
    machine.file(
        "use.luau",
        "local host = esxi.connect() local vm = host:vm('debian-12') vm:snapshot({ name = 's' }) \
         return { most = host:connection().max_connections }",
    );
    let used = machine.on(&host, &["run", "use.luau", "--output", "json"]).ok().json();
    assert_eq!(used["most"], 4, "no more requests at once than sessions");
    // The snapshot goes out by way of a clone, which is removed again, and the host is not asked for what it does not do.
    let asked = host.calls("ExportSnapshot");
    let export = machine.on(&host, &["vm", "snapshot", "export", "debian-12", "s", "out.ova", "--output", "json"]).ok();
    assert!(
        export.json()["size"].as_u64().is_some_and(|size| size > 0) || export.json()["size"].is_string(),
        "{export:?}"
    );
    assert_eq!(host.calls("ExportSnapshot"), asked);
    assert_eq!((host.calls("ExportVm"), names(&machine, &host)), (1, vec!["debian-12".to_owned()]));
    machine.file("direct.luau", "esxi.connect():vm('debian-12'):snapshots()[1]:clone({ name = 'copy' })");
    machine.on(&host, &["run", "direct.luau"]).ok();
    assert_eq!(names(&machine, &host), ["copy", "debian-12"]);
}

#[test]
fn a_host_that_says_only_then_that_it_exports_no_snapshots_is_gone_round_too() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    host.server.fault(read_fault("ExportSnapshot:NotSupported").unwrap()).unwrap();
    machine.on(&host, &["vm", "snapshot", "create", "debian-12", "s"]).ok();
    machine.on(&host, &["vm", "snapshot", "export", "debian-12", "s", "out.ova"]).ok();
    assert_eq!(names(&machine, &host), ["debian-12"]);
}

#[test]
fn what_was_found_with_another_build_or_another_host_is_not_used() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    abilities(&machine, &host);
    let catalog = Catalog::new(machine.home().join("catalog.redb"));
    let product = catalog.host("env").unwrap().unwrap().product;
    let found = |product: &str, address: &str| {
        let seen = String::new();
        let facts = [("ranges", None), ("linked_clones", None), ("sessions", Some(2))];
        let fact = |(name, figure): (&str, Option<u64>)| Fact {
            name: name.to_owned(),
            works: Some(false),
            seen: seen.clone(),
            figure,
        };
        let probe = Probe {
            product: product.to_owned(),
            address: address.to_owned(),
            api: "8.0.3.0".to_owned(),
            time: time::OffsetDateTime::now_utc(),
            facts: facts.map(fact).to_vec(),
        };
        catalog.probed(("env", product, false), Some(&probe), &[]).unwrap();
        abilities(&machine, &host)
    };
    let can = found("VMware ESXi 7.0.0 build-1", &format!("{}/sdk", host.server.url()));
    assert_eq!(
        (&can["stale"], &can["ranges"], &can["sessions"]),
        (&true.into(), &Value::Null, &Value::Null),
        "{can:#}"
    );
    assert_eq!(machine.run(&["host", "show", "env", "--output", "json"]).ok().json()["stale"], true);
    let can = found(&product, "https://elsewhere/sdk");
    assert_eq!((&can["stale"], &can["ranges"]), (&false.into(), &Value::Null), "{can:#}");
    let can = found(&product, &format!("{}/sdk", host.server.url()));
    assert_eq!((&can["ranges"], &can["sessions"]), (&false.into(), &2.into()), "{can:#}");
    let linked = machine.on(&host, &["vm", "clone", "debian-12", "child", "--linked"]);
    assert!(linked.err.contains("error[esxi.not_supported]") && linked.err.contains("full clone"), "{linked:?}");
    assert_eq!(names(&machine, &host), ["debian-12"]);
}

#[test]
fn a_probe_that_fails_or_is_stopped_leaves_nothing_and_changes_nothing_that_was_known() {
    for fault in
        ["CreateSnapshot_Task:NoDiskSpace", "CreateVM_Task:RestrictedVersion", "RemoveAllSnapshots_Task:SystemError"]
    {
        let (machine, host) = (Machine::new(), Sim::start(Options::default()));
        let before = files(&machine, &host);
        host.server.fault(read_fault(fault).unwrap()).unwrap();
        let done = probe(&machine, &host);
        assert!(done.code != 0 && done.err.contains("error[esxi."), "{fault}: {done:?}");
        assert_eq!((names(&machine, &host), files(&machine, &host)), (vec!["debian-12".to_owned()], before), "{fault}");
        let shown = machine.run(&["host", "show", "env", "--output", "json"]).ok().json();
        assert!(shown["probed"].is_null() && shown["left"].as_array().unwrap().is_empty(), "{fault}: {shown:#}");
    }
    let host = Sim::start(Options { task_delay: Duration::from_millis(200), ..Options::default() });
    let machine = Machine::new();
    let run = machine.start(&host.variables(), &["host", "probe"]);
    eventually("the probe is in the middle", || host.calls("CopyVirtualDisk_Task") > 0);
    run.signal(libc::SIGINT);
    let (code, err) = run.end();
    assert!(code == 1 && err.contains("error[script.cancelled]"), "{code}: {err}");
    assert_eq!(names(&machine, &host), ["debian-12"], "{err}");
    assert_eq!(host.calls("CreateSnapshot_Task"), 0, "it stopped at once: {err}");
}

#[test]
fn what_cannot_be_removed_is_named() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    host.server.fault(read_fault("Destroy_Task:ResourceInUse").unwrap()).unwrap();
    let done = probe(&machine, &host);
    assert!(done.code != 0 && done.err.contains("the machine \"ceso-probe\""), "{done:?}");
    let shown = machine.run(&["host", "show", "env", "--output", "json"]).ok().json();
    assert_eq!(shown["left"][0], "ceso-probe", "{shown:#}");
}

#[test]
fn what_a_killed_probe_has_left_the_next_run_names() {
    let host = Sim::start(Options { task_delay: Duration::from_millis(200), ..Options::default() });
    let machine = Machine::new();
    let mut run = machine.start(&host.variables(), &["host", "probe"]);
    eventually("the probe is in the middle", || host.calls("CopyVirtualDisk_Task") > 0);
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let listed = machine.on(&host, &["vm", "list"]).ok();
    assert!(listed.err.contains("a probe of env has not ended") && listed.err.contains("ceso-probe"), "{listed:?}");
    let again = probe(&machine, &host);
    assert!(
        again.err.contains("error[esxi.probe_left]") && again.err.contains("ceso vm delete ceso-probe"),
        "{again:?}"
    );
    // Another machine of ceso knows it by its notes.
    let other = Machine::new();
    let beside = other.on(&host, &["host", "probe", "--name", "other", "--output", "json"]).ok().json();
    assert_eq!(beside["left"][0], "ceso-probe", "{beside:#}");
    machine.on(&host, &["vm", "delete", "ceso-probe", "--mode", "unrestricted"]).ok();
    // What the trials had put beside the machine's own files keeps its folder, which is never taken for new.
    let folder = probe(&machine, &host);
    assert!(
        folder.err.contains("error[esxi.file_already_exists]") && folder.err.contains("ceso datastore rm"),
        "{folder:?}"
    );
    machine.on(&host, &["datastore", "rm", "[datastore1] ceso-probe", "--mode", "unrestricted"]).ok();
    let listed = machine.on(&host, &["vm", "list"]).ok();
    assert!(!listed.err.contains("has not ended"), "{listed:?}");
    probe(&machine, &host).ok();
    assert_eq!(names(&machine, &host), ["debian-12"]);
}
