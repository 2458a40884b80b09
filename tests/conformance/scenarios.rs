//! What goes wrong on real nights, on the simulator: each scenario ends clean, and what must hold is written at its head.
//!
//! The seed of a scenario decides where the trouble strikes; the same seed strikes the same request. What holds is looked at past the
//! API, in the simulator itself.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    CloneSpec, CreateSpec, DiskContent, DiskSpec, Error, Host, NewVm, Provisioning, Reconfigure, Sink, Slot,
    SnapshotSpec, Vm, silent,
};
use ceso::sim::{Options, Rule, Server, Trouble, read_fault};
use ceso::units::Bytes;
use futures_util::future::join_all;

use crate::client_on_sim::{checked, login, named, options};

/// A simulator and a client that does not wait long.
struct Lab {
    server: Server,
    host: Host,
}

fn new(name: &str) -> Checked<NewVm> {
    checked(NewVm { name: name.to_owned() })
}

fn picked(seed: u64, from: u64) -> u64 {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed << 7);
    (mixed ^ (mixed >> 29)) % from
}

impl Lab {
    async fn start(options: Options, request: Duration, reconnect: Duration) -> Self {
        let server = Server::start(options).await.unwrap();
        let mut own = self::options(&server);
        own.timeouts.request = request;
        own.timeouts.reconnect = reconnect;
        let host = Host::connect(own, login("ceso")).await.unwrap();
        Self { server, host }
    }

    fn fault(&self, rule: &str) {
        self.server.fault(read_fault(rule).unwrap()).unwrap();
    }

    async fn clone(&self, name: &str) -> Result<Vm, Error> {
        let template = named(&self.host, "debian-12").await;
        let datastore = checked(self.host.lookup_datastores().await?.remove(0));
        let network = checked(self.host.lookup_networks().await?.remove(0));
        let spec = CloneSpec { networks: vec![("VM Network", &network)], ..CloneSpec::default() };
        self.host.clone_vm(&template, &new(name), &datastore, &spec, &silent).await
    }

    async fn create(&self, name: &str) -> Result<Vm, Error> {
        let datastore = checked(self.host.lookup_datastores().await?.remove(0));
        let spec = CreateSpec { disk: Some(Bytes(8 << 20)), ..CreateSpec::default() };
        self.host.create_vm(&new(name), &datastore, &[], &spec, &silent).await
    }

    /// The folders on the datastore, as another client sees them.
    async fn folders(&self) -> BTreeSet<String> {
        let host = Host::connect(options(&self.server), login("ceso")).await.unwrap();
        let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
        let root = ceso::esxi::FilePath::parse("").unwrap();
        let rows = host.browse(&datastore, &root, ceso::esxi::Search::default()).await.unwrap();
        host.logout().await.unwrap();
        rows.into_iter().map(|row| row.path).collect()
    }

    fn machines(&self) -> Vec<String> {
        self.server.machines().into_iter().map(|vm| vm.name).collect()
    }

    fn content(&self, machine: &str) -> Vec<u8> {
        self.server.read_disk(machine, 0, 0, 2 << 20).unwrap()
    }

    fn sent(&self, method: &str) -> u64 {
        self.server.requests().get(method).copied().unwrap_or_default()
    }

    /// Nothing of the machine is there, but for what the error names.
    async fn nothing_left(&self, name: &str, error: &Error, of: &str) {
        assert!(!self.machines().iter().any(|own| own == name), "{of}: {error}");
        let folder = self.folders().await.contains(name);
        assert!(!folder || error.to_string().contains(&format!("[datastore1] {name}")), "{of}: {error}");
    }

    async fn end(self, of: &str) {
        self.host.close().await.unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!(self.server.open_sessions(), 0, "{of}: a session was leaked");
        self.server.stop().await;
    }
}

/// Network partition during create. Must hold: the machine is there whole, once, with the template's content, or it is not there at all and
/// what is left is named; no change was sent twice; the template is as it was; no session is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_during_create_makes_the_machine_whole_or_not_at_all() {
    const STRUCK: &[&str] =
        &["MakeDirectory", "CopyVirtualDisk_Task", "CopyDatastoreFile_Task", "CreateVM_Task", "WaitForUpdatesEx"];
    let mut whole = 0;
    for (seed, method) in (1..).zip(STRUCK.iter().cycle().take(8)) {
        let slow = Options { seed, task_delay: Duration::from_millis(20 + picked(seed, 60)), ..Options::default() };
        let lab = Lab::start(slow, Duration::from_secs(5), Duration::from_secs(20)).await;
        let before = lab.content("debian-12");
        let away = 100 + picked(seed, 400);
        let after = if *method == "WaitForUpdatesEx" { picked(seed, 3) } else { 0 };
        lab.fault(&format!("{method}:partition={away}ms:1:after={after}"));
        let of = format!("seed {seed}, {method} after {after}, {away} ms");
        match lab.clone("web-1").await {
            Ok(_) => {
                whole += 1;
                assert!(lab.content("web-1") == before, "{of}");
                assert_eq!(lab.machines().iter().filter(|own| *own == "web-1").count(), 1, "{of}");
            }
            Err(error) => {
                assert!(*method == "MakeDirectory", "{of}: {error}");
                lab.nothing_left("web-1", &error, &of).await;
            }
        }
        for once in ["MakeDirectory", "CopyVirtualDisk_Task", "CreateVM_Task"] {
            assert!(lab.sent(once) <= 1, "{of}: {once} was sent {} times", lab.sent(once));
        }
        assert!(lab.content("debian-12") == before, "{of}");
        lab.end(&of).await;
    }
    assert!(whole >= 6, "{whole}");
}

/// The host's agent starts anew during create. Must hold: as for a partition; what its work was stopped in is taken away again.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_anew_during_create_leaves_no_half_machine() {
    for (seed, rule) in (1..).zip([
        "CopyVirtualDisk_Task:restart=200ms:1",
        "CopyVirtualDisk_Task:restart-after=200ms:1",
        "CreateVM_Task:restart=200ms:1",
        "CreateVM_Task:restart-after=200ms:1",
    ]) {
        let slow = Options { seed, task_delay: Duration::from_millis(40), ..Options::default() };
        let lab = Lab::start(slow, Duration::from_secs(5), Duration::from_secs(20)).await;
        lab.fault(rule);
        match lab.clone("web-1").await {
            Ok(_) => assert!(lab.content("web-1") == lab.content("debian-12"), "{rule}"),
            Err(error) => {
                assert!(
                    error.kind() == "esxi.task_forgotten" || error.kind() == "esxi.connection_lost",
                    "{rule}: {error}"
                );
                lab.nothing_left("web-1", &error, rule).await;
                assert!(!lab.folders().await.contains("web-1"), "{rule}: {error}");
                lab.clone("web-1").await.unwrap_or_else(|error| panic!("{rule}: {error}"));
            }
        }
        lab.end(rule).await;
    }
}

/// Datastore full during clone. Must hold: the error says how much is missing; nothing is left; what others wrote stays; with space the same
/// clone succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_datastore_that_fills_up_during_a_clone_is_told_with_what_is_missing_and_nothing_is_left() {
    for (seed, method) in (1..).zip(["CopyVirtualDisk_Task", "CopyDatastoreFile_Task", "MakeDirectory"]) {
        let lab =
            Lab::start(Options { seed, ..Options::default() }, Duration::from_secs(10), Duration::from_secs(5)).await;
        let left = picked(seed, 4 << 10);
        lab.fault(&format!("{method}:fill={left}:1"));
        let error = lab.clone("web-1").await.unwrap_err();
        assert_eq!(error.kind(), "esxi.no_disk_space", "{error}");
        assert!(error.to_string().contains("are missing"), "{error}");
        assert_eq!(lab.folders().await, BTreeSet::from(["debian-12".to_owned()]));
        lab.server.set_capacity(None);
        lab.clone("web-1").await.unwrap();
        // Somewhere else in the middle: the host's own fault, with what is free.
        lab.fault("CreateVM_Task:NoDiskSpace:1");
        let error = lab.clone("web-2").await.unwrap_err();
        assert!(error.kind() == "esxi.no_disk_space" && error.to_string().contains("are free"), "{error}");
        lab.nothing_left("web-2", &error, "create").await;
        assert!(!lab.folders().await.contains("web-2"));
        lab.end("full").await;
    }
}

/// Concurrent operations on one machine. Must hold: each is done whole or refused by a typed error that says who is at work; afterwards the
/// machine is whole, and each can be done alone.
#[tokio::test(flavor = "multi_thread")]
async fn operations_at_once_on_one_machine_are_done_or_refused_and_never_mixed() {
    for seed in 1..=3 {
        let slow = Options { seed, task_delay: Duration::from_millis(150), ..Options::default() };
        let lab = Lab::start(slow, Duration::from_secs(10), Duration::from_secs(5)).await;
        let vm = checked(lab.clone("web-1").await.unwrap());
        let host = &lab.host;
        let one = |what: u64| {
            let vm = &vm;
            async move {
                match what % 3 {
                    0 => host.power_on(vm, &silent).await,
                    1 => {
                        let notes = Some(format!("by {what}"));
                        host.reconfigure(vm, &Reconfigure { notes, ..Reconfigure::default() }, &silent).await
                    }
                    _ => {
                        let spec = SnapshotSpec { name: format!("s{what}"), ..SnapshotSpec::default() };
                        host.create_snapshot(vm, &spec, &silent).await.map(drop)
                    }
                }
            }
        };
        let done = join_all((0..9).map(|what| one(what + seed))).await;
        assert!(done.iter().any(Result::is_ok) && done.iter().any(Result::is_err), "{done:?}");
        for error in done.iter().filter_map(|done| done.as_ref().err()) {
            assert!(["esxi.task_in_progress", "esxi.invalid_power_state"].contains(&error.kind().as_str()), "{error}");
            if error.kind() == "esxi.task_in_progress" {
                assert!(error.may_retry() && error.to_string().contains("by root"), "{error}");
            }
        }
        let taken = done.iter().zip(seed..).filter(|(done, what)| done.is_ok() && what % 3 == 2).count();
        assert_eq!(host.snapshots(&vm).await.unwrap().len(), taken);
        if lab.server.machines().iter().any(|own| own.name == "web-1" && own.power == "on") {
            host.power_off(&vm, &silent).await.unwrap();
        }
        host.remove_snapshots(&vm, &silent).await.unwrap();
        // Behind the first MiB is what its guest wrote when it was turned on.
        assert!(lab.content("web-1")[..1 << 20] == lab.content("debian-12")[..1 << 20]);
        host.destroy(&vm, &silent).await.unwrap();
        assert_eq!(lab.folders().await, BTreeSet::from(["debian-12".to_owned()]));
        lab.end("at once").await;
    }
}

/// API time-outs. Must hold: a change whose answer is late is taken up by its task, and not sent again; one that never came is an error that
/// says that it may have happened, and what may be left.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_late_lose_no_task_and_repeat_nothing() {
    for (seed, method) in (1..).zip(["PowerOnVM_Task", "CreateVM_Task", "CopyVirtualDisk_Task"]) {
        let lab =
            Lab::start(Options { seed, ..Options::default() }, Duration::from_millis(700), Duration::from_secs(10))
                .await;
        lab.fault(&format!("{method}:late=3s:1"));
        let vm = checked(lab.clone("web-1").await.unwrap_or_else(|error| panic!("{method}: {error}")));
        lab.host.power_on(&vm, &silent).await.unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(lab.sent(method), 1, "{method}");
        // It is held up so long that the client gives up, and then never begun.
        lab.fault(&format!("{method}:delay=3s:1"));
        let error = match method {
            "PowerOnVM_Task" => {
                lab.host.power_off(&vm, &silent).await.unwrap();
                lab.host.power_on(&vm, &silent).await.unwrap_err()
            }
            _ => lab.clone("web-2").await.unwrap_err(),
        };
        assert_eq!(error.kind(), "esxi.timeout", "{method}: {error}");
        lab.nothing_left("web-2", &error, method).await;
        lab.end(method).await;
    }
}

/// Invalid template. Must hold: each is refused by a typed error; nothing is made; the template is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_cannot_be_cloned_is_refused_and_nothing_is_left() {
    let state = tempfile::tempdir().unwrap();
    let own = Options { state: Some(state.path().to_owned()), ..Options::default() };
    let lab = Lab::start(own, Duration::from_secs(10), Duration::from_secs(5)).await;
    let folder = state.path().join("datastore1/debian-12");
    let disk = folder.join("debian-12.vmdk");
    let descriptor = std::fs::read(&disk).unwrap();
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("no descriptor", b"not a disk".to_vec()),
        ("without its end", descriptor[..40].to_vec()),
    ] {
        std::fs::write(&disk, bytes).unwrap();
        let error = lab.clone("web-1").await.unwrap_err();
        assert!(error.kind().starts_with("esxi."), "{what}: {error}");
        assert_eq!(lab.folders().await, BTreeSet::from(["debian-12".to_owned()]), "{what}: {error}");
    }
    // Damaged anywhere: it is refused, or what was copied is what is there.
    for seed in 1..=12 {
        let mut damaged = descriptor.clone();
        for step in 0..3 {
            let at = usize::try_from(picked(seed * 31 + step, damaged.len() as u64)).unwrap();
            damaged[at] ^= 1 << picked(seed + step, 7);
        }
        std::fs::write(&disk, &damaged).unwrap();
        match lab.clone("web-1").await {
            Ok(vm) => {
                assert!(lab.content("web-1") == lab.content("debian-12"), "seed {seed}");
                lab.host.destroy(&checked(vm), &silent).await.unwrap();
            }
            Err(error) => assert!(error.kind().starts_with("esxi."), "seed {seed}: {error}"),
        }
        assert_eq!(lab.folders().await, BTreeSet::from(["debian-12".to_owned()]), "seed {seed}");
    }
    std::fs::remove_file(&disk).unwrap();
    let error = lab.clone("web-1").await.unwrap_err();
    assert_eq!(lab.folders().await, BTreeSet::from(["debian-12".to_owned()]), "{error}");
    std::fs::write(&disk, &descriptor).unwrap();
    let template = named(&lab.host, "debian-12").await;
    lab.host.power_on(&template, &silent).await.unwrap();
    let error = lab.clone("web-1").await.unwrap_err();
    assert_eq!(error.kind(), "esxi.invalid_power_state", "{error}");
    lab.host.power_off(&template, &silent).await.unwrap();
    // An existing folder is an error, never reused.
    std::fs::create_dir(state.path().join("datastore1/web-1")).unwrap();
    assert_eq!(lab.clone("web-1").await.unwrap_err().kind(), "esxi.file_already_exists");
    assert_eq!(lab.create("web-1").await.unwrap_err().kind(), "esxi.file_already_exists");
    assert!(std::fs::read_dir(state.path().join("datastore1/web-1")).unwrap().next().is_none());
    lab.clone("web-2").await.unwrap();
    lab.end("invalid template").await;
}

/// Power changed by somebody else in the middle. Must hold: of a clone, it is whole or refused with who holds the file and nothing left; of
/// an export, the power is refused while it lasts, or the export ends with an error, and the machine is free afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn power_that_somebody_else_changes_in_the_middle_of_a_clone_or_an_export_harms_neither() {
    for seed in 1..=3 {
        let slow = Options { seed, task_delay: Duration::from_millis(120), ..Options::default() };
        let lab = Lab::start(slow, Duration::from_secs(10), Duration::from_secs(5)).await;
        let template = named(&lab.host, "debian-12").await;
        let other = Host::connect(options(&lab.server), login("ceso")).await.unwrap();
        let (cloned, powered) = tokio::join!(lab.clone("web-1"), async {
            // In the middle of the copy, which takes 120 ms at least.
            while lab.sent("CopyVirtualDisk_Task") == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(picked(seed, 100))).await;
            other.power_on(&template, &silent).await
        });
        match cloned {
            Ok(_) => assert!(lab.content("web-1")[..1 << 20] == lab.content("debian-12")[..1 << 20], "seed {seed}"),
            Err(error) => {
                assert!(["esxi.file_locked", "esxi.invalid_power_state"].contains(&error.kind().as_str()), "{error}");
                assert!(error.kind() != "esxi.file_locked" || error.to_string().contains("\"debian-12\""), "{error}");
                lab.nothing_left("web-1", &error, "clone").await;
            }
        }
        if powered.is_ok() {
            other.power_off(&template, &silent).await.unwrap();
        }
        let lease = lab.host.export(&template).await.unwrap();
        let refused = other.power_on(&template, &silent).await.unwrap_err();
        assert_eq!(refused.kind(), "esxi.task_in_progress", "{refused}");
        assert!(refused.to_string().contains("by root"), "{refused}");
        let disk = lease.files.iter().find(|file| file.disk).unwrap().clone();
        let fetched = lease.during(async {
            let sink: Sink = Box::<Vec<u8>>::default();
            let (fetched, refused) =
                tokio::join!(lease.fetch(&disk, sink, &silent), other.power_on(&template, &silent));
            assert_eq!(refused.unwrap_err().kind(), "esxi.task_in_progress", "seed {seed}");
            fetched.map(drop)
        });
        fetched.await.unwrap();
        other.power_on(&template, &silent).await.unwrap();
        let rule = Rule { method: "ExportVm".into(), trouble: Trouble::Drop, after: 0, times: Some(1), chance: 1.0 };
        lab.server.fault(rule).unwrap();
        assert!(lab.host.export(&template).await.is_err());
        other.power_off(&template, &silent).await.unwrap();
        other.logout().await.unwrap();
        lab.end("power").await;
    }
}

/// Power changed by somebody else between the copies of a clone's disks, and back. Must hold: the clone fails with who it was, nothing of it
/// is left, and without somebody else it succeeds; of a machine of which one file is copied alone, there is nothing to mix.
#[tokio::test(flavor = "multi_thread")]
async fn power_that_goes_on_and_off_between_two_copies_of_one_clone_leaves_no_mixed_clone() {
    for (seed, method) in (1..).zip(["CopyVirtualDisk_Task", "CopyDatastoreFile_Task"]) {
        let slow = Options { seed, ..Options::default() };
        let lab = Lab::start(slow, Duration::from_secs(30), Duration::from_secs(10)).await;
        let template = named(&lab.host, "debian-12").await;
        let datastore = checked(lab.host.lookup_datastores().await.unwrap().remove(0));
        let content = DiskContent::New { datastore: &datastore, size: Bytes(8 << 20), form: Provisioning::Thin };
        let second = DiskSpec { content, slot: Slot::default(), independent: false };
        lab.host.add_disk(&template, &second, &silent).await.unwrap();
        let other = Host::connect(options(&lab.server), login("ceso")).await.unwrap();
        // The second copy waits until the machine has run.
        let after = u64::from(method == "CopyVirtualDisk_Task");
        let before = lab.sent(method);
        lab.fault(&format!("{method}:delay=2s:1:after={after}"));
        let (cloned, ()) = tokio::join!(lab.clone("web-1"), async {
            while lab.sent(method) < before + after + 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other.power_on(&template, &silent).await.unwrap();
            other.power_off(&template, &silent).await.unwrap();
        });
        let error = cloned.expect_err("two states in one clone");
        assert_eq!(error.kind(), "esxi.invalid_power_state", "{method}: {error}");
        assert!(error.to_string().contains("it was powered on by root while it was copied"), "{method}: {error}");
        assert!(!lab.folders().await.contains("web-1"), "{method}: {error}");
        lab.nothing_left("web-1", &error, method).await;
        // What was there before counts no more.
        lab.clone("web-1").await.unwrap();
        other.logout().await.unwrap();
        lab.end(method).await;
    }
}
