//! Requests and answers that are lost on the way, on the simulator: whose task it is, what it came to, and what is taken away after it.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    CreateSpec, Datastore, Error, FilePath, Host, NewVm, Provisioning, Reconfigure, Search, SnapshotSpec, Vm, silent,
};
use ceso::sim::{Options, Server, read_fault};
use ceso::units::Bytes;

use crate::client_on_sim::{checked, login, options, start};

struct Lab {
    server: Server,
    ours: Host,
    theirs: Host,
    store: Checked<Datastore>,
}

fn at(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

impl Lab {
    async fn start(task_delay: Duration) -> Self {
        let (server, ours) = start(Options { task_delay, ..Options::default() }).await;
        let theirs = Host::connect(options(&server), login("ceso")).await.unwrap();
        let store = checked(ours.lookup_datastores().await.unwrap().remove(0));
        Self { server, ours, theirs, store }
    }

    fn fault(&self, line: &str) {
        self.server.clear_faults();
        self.server.fault(read_fault(line).unwrap()).unwrap();
    }

    /// Comes back once the other one's request is at work: the next of the kind is lost on its way.
    async fn begun(&self, method: &str) {
        let had = self.server.requests().get(method).copied().unwrap_or_default();
        while self.server.requests().get(method).copied().unwrap_or_default() == had {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn create(&self, host: &Host, name: &str) -> Result<Vm, Error> {
        let spec = CreateSpec { disk: Some(Bytes(8 << 20)), ..CreateSpec::default() };
        host.create_vm(&checked(NewVm { name: name.to_owned() }), &self.store, &[], &spec, &silent).await
    }

    async fn disk(&self, path: &str) {
        self.ours.create_disk(&self.store, &at(path), Bytes(1 << 20), Provisioning::Thin, &silent).await.unwrap();
    }

    async fn copy(&self, host: &Host, from: &str, to: &str) -> Result<(), Error> {
        host.copy_path((&self.store, &at(from)), (&self.store, &at(to)), &silent).await
    }

    async fn delete(&self, host: &Host, path: &str) -> Result<(), Error> {
        host.delete_path(&self.store, &at(path), &silent).await
    }

    async fn names(&self) -> Vec<String> {
        let rows = self.theirs.browse(&self.store, &at(""), Search::default()).await.unwrap();
        rows.into_iter().map(|row| row.path).collect()
    }

    async fn machines(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .theirs
            .lookup_vms()
            .await
            .unwrap()
            .into_iter()
            .map(|vm| vm.name)
            .filter(|name| name != "debian-12")
            .collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_another_makes_at_the_same_time_is_never_taken_for_ours() {
    let lab = Lab::start(Duration::from_millis(500)).await;
    lab.fault("CreateVM_Task:drop:1:after=1");
    let (made, lost) = tokio::join!(lab.create(&lab.theirs, "theirs"), async {
        lab.begun("CreateVM_Task").await;
        lab.create(&lab.ours, "ours").await
    });
    made.unwrap();
    let error = lost.unwrap_err();
    assert_eq!(error.kind(), "esxi.connection_lost", "{error}");
    assert_eq!(lab.machines().await, ["theirs"]);
    // Of theirs it is known that it is not ours, so ours was not begun, and what was made for it is gone.
    assert!(!lab.names().await.contains(&"ours".to_owned()), "{error}");
    lab.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_another_copies_and_deletes_at_the_same_time_are_not_taken_for_ours() {
    let lab = Lab::start(Duration::from_millis(300)).await;
    for path in ["a.vmdk", "b.vmdk"] {
        lab.disk(path).await;
    }
    lab.fault("CopyVirtualDisk_Task:drop:1:after=1");
    let (copied, lost) = tokio::join!(lab.copy(&lab.theirs, "a.vmdk", "a2.vmdk"), async {
        lab.begun("CopyVirtualDisk_Task").await;
        lab.copy(&lab.ours, "b.vmdk", "b2.vmdk").await
    });
    copied.unwrap();
    let error = lost.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert!(!lab.names().await.contains(&"b2.vmdk".to_owned()));
    lab.fault("DeleteVirtualDisk_Task:drop:1:after=1");
    let (deleted, lost) = tokio::join!(lab.delete(&lab.theirs, "a.vmdk"), async {
        lab.begun("DeleteVirtualDisk_Task").await;
        lab.delete(&lab.ours, "b.vmdk").await
    });
    deleted.unwrap();
    let error = lost.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert!(lab.names().await.contains(&"b.vmdk".to_owned()));
    lab.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_though_its_answer_was_lost_is_seen_by_its_effect() {
    let lab = Lab::start(Duration::from_millis(50)).await;
    lab.disk("a.vmdk").await;
    lab.fault("CopyVirtualDisk_Task:drop-answer:1");
    lab.copy(&lab.ours, "a.vmdk", "b.vmdk").await.unwrap();
    lab.fault("MoveVirtualDisk_Task:drop-answer:1");
    lab.ours.move_path((&lab.store, &at("b.vmdk")), (&lab.store, &at("c.vmdk")), &silent).await.unwrap();
    lab.fault("DeleteVirtualDisk_Task:drop-answer:1");
    lab.delete(&lab.ours, "a.vmdk").await.unwrap();
    lab.fault("CreateVM_Task:drop-answer:1");
    assert_eq!(lab.create(&lab.ours, "ours").await.unwrap().name, "ours");
    lab.fault("SearchDatastore_Task:drop-answer:1");
    assert!(lab.ours.disk_file(&lab.store, &at("c.vmdk")).await.is_ok());
    assert_eq!(lab.machines().await, ["ours"]);
    let names = lab.names().await;
    assert!(names.contains(&"c.vmdk".to_owned()) && !names.contains(&"a.vmdk".to_owned()), "{names:?}");
    lab.server.stop().await;
}

/// A wait that the host refuses, once or for good: nothing of what is being made is taken away under the host's hands.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_wait_is_not_the_tasks_own() {
    let lab = Lab::start(Duration::from_millis(300)).await;
    for (name, fault) in [("once", "CreateFilter:SystemError:1"), ("then", "WaitForUpdatesEx:SystemError:2")] {
        lab.fault(fault);
        assert_eq!(lab.create(&lab.ours, name).await.unwrap().name, name, "{fault}");
    }
    for (name, fault) in [("never", "CreateFilter:SystemError"), ("ever", "WaitForUpdatesEx:NoPermission")] {
        lab.fault(fault);
        let ended = lab.create(&lab.ours, name).await;
        lab.server.clear_faults();
        if let Err(error) = ended {
            assert!(error.outcome_unknown() && !error.may_retry(), "{fault}: {error}");
        }
        // It is there, and whole.
        while !lab.machines().await.contains(&name.to_owned()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let vm = checked(lab.theirs.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == name).unwrap());
        lab.theirs.power_on(&vm, &silent).await.unwrap();
    }
    lab.server.stop().await;
}

/// The agent is started anew under the request, and does the work all the same: that it knows no task of it shows nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_host_knows_no_task_of_may_have_been_done() {
    let lab = Lab::start(Duration::from_millis(300)).await;
    let vm = checked(lab.create(&lab.ours, "ours").await.unwrap());
    lab.fault("CreateSnapshot_Task:restart-after=300ms:1");
    let spec = SnapshotSpec { name: "s".to_owned(), ..SnapshotSpec::default() };
    let error = lab.ours.create_snapshot(&vm, &spec, &silent).await.unwrap_err();
    assert!(!error.may_retry() && !error.to_string().contains("not begun"), "{error}");
    lab.server.stop().await;
}

/// Others change the same machine in the same way at the same moment, and our request never came through. Must hold: what they did is not
/// taken for ours, and what was ours is.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_does_to_the_same_machine_at_the_same_time_is_not_taken_for_ours() {
    let lab = Lab::start(Duration::from_millis(300)).await;
    let vm = checked(lab.create(&lab.ours, "ours").await.unwrap());
    let notes = |text: &str| Reconfigure { notes: Some(text.to_owned()), ..Reconfigure::default() };
    lab.fault("ReconfigVM_Task:drop:1:after=1");
    let (theirs, ours) = (notes("theirs"), notes("ours"));
    let (done, lost) = tokio::join!(lab.theirs.reconfigure(&vm, &theirs, &silent), async {
        lab.begun("ReconfigVM_Task").await;
        lab.ours.reconfigure(&vm, &ours, &silent).await
    });
    done.unwrap();
    let error = lost.unwrap_err();
    assert!(error.to_string().contains("was not begun") && error.may_retry(), "{error}");
    assert_eq!(lab.theirs.vm_info(&vm).await.unwrap().row.notes.as_deref(), Some("theirs"));
    let spec = |name: &str| SnapshotSpec { name: name.to_owned(), ..SnapshotSpec::default() };
    lab.fault("CreateSnapshot_Task:drop:1:after=1");
    let (theirs, ours) = (spec("theirs"), spec("ours"));
    let (done, lost) = tokio::join!(lab.theirs.create_snapshot(&vm, &theirs, &silent), async {
        lab.begun("CreateSnapshot_Task").await;
        lab.ours.create_snapshot(&vm, &ours, &silent).await
    });
    done.unwrap();
    let error = lost.unwrap_err();
    assert!(error.to_string().contains("was not begun"), "{error}");
    // The answer alone was lost: it is taken up, and nothing is sent twice.
    lab.fault("ReconfigVM_Task:drop-answer:1");
    lab.ours.reconfigure(&vm, &notes("again"), &silent).await.unwrap();
    lab.fault("CreateSnapshot_Task:drop-answer:1");
    assert_eq!(lab.ours.create_snapshot(&vm, &spec("again"), &silent).await.unwrap().snapshot.name, "again");
    assert_eq!(lab.theirs.snapshots(&vm).await.unwrap().len(), 2);
    // A host that does not tell what was done leaves it unknown, with what to look at.
    lab.fault("ReconfigVM_Task:drop-answer:1");
    lab.server.fault(read_fault("QueryEvents:NotSupported").unwrap()).unwrap();
    let error = lab.ours.reconfigure(&vm, &notes("untold"), &silent).await.unwrap_err();
    assert!(error.outcome_unknown() && error.to_string().contains("haTask-"), "{error}");
    assert!(error.hint().unwrap().contains("host tasks"), "{error}");
    lab.server.stop().await;
}

/// Somebody else's copy stands still, and may be ours. Must hold: it is not awaited for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_may_be_anothers_and_stands_still_is_not_awaited_for_ever() {
    let lab = Lab::start(Duration::ZERO).await;
    lab.disk("a.vmdk").await;
    let slow = Server::start(Options { task_delay: Duration::from_secs(30), ..Options::default() }).await.unwrap();
    let mut own = options(&slow);
    own.timeouts.reconnect = Duration::from_millis(100);
    let host = Host::connect(own, login("ceso")).await.unwrap();
    let store = checked(host.lookup_datastores().await.unwrap().remove(0));
    slow.fault(read_fault("CopyVirtualDisk_Task:drop-answer:1").unwrap()).unwrap();
    let began = std::time::Instant::now();
    let copied = host.copy_path((&store, &at("debian-12/debian-12.vmdk")), (&store, &at("b.vmdk")), &silent).await;
    let error = copied.unwrap_err();
    // The look for its effect is a task that takes as long: with the wait for the copy it were twice that.
    assert!(began.elapsed() < Duration::from_secs(55), "{error}");
    assert!(error.outcome_unknown() && error.to_string().contains("haTask-"), "{error}");
    slow.stop().await;
    lab.server.stop().await;
}

/// The upload of an image for a drive is lost. Must hold: the image is gone again, or the error names it.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_upload_is_lost_is_taken_away_or_named() {
    let lab = Lab::start(Duration::from_millis(50)).await;
    let vm = checked(lab.create(&lab.ours, "ours").await.unwrap());
    let give = || lab.ours.attach_seed(&vm, bytes::Bytes::from_static(b"image"), &silent);
    let images = async || {
        let rows = lab.theirs.browse(&lab.store, &at("ours"), Search::default()).await.unwrap();
        rows.into_iter().filter(|row| row.path.ends_with(".iso")).count()
    };
    for rule in
        ["PUT folder:drop-answer:1", "PUT folder:cut=3:1", "ReconfigVM_Task:drop:1", "ReconfigVM_Task:NoPermission:1"]
    {
        lab.fault(rule);
        let error = give().await.unwrap_err();
        assert_eq!(images().await, 0, "{rule}: {error}");
        assert!(!error.to_string().contains("Left behind"), "{rule}: {error}");
    }
    lab.fault("PUT folder:drop-answer:1");
    lab.server.fault(read_fault("DeleteDatastoreFile_Task:FileLocked:1").unwrap()).unwrap();
    let error = give().await.unwrap_err();
    assert!(images().await == 1 && error.to_string().contains("ours/ceso-seed-"), "{error}");
    // The drive has it though the answer was lost: it stays there.
    lab.fault("ReconfigVM_Task:drop-answer:1");
    give().await.unwrap();
    assert!(lab.ours.has_seed(&vm).await.unwrap());
    lab.server.stop().await;
}
