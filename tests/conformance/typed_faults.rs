//! What an error says of a fault: each sentence that a person needs, on the simulator where it raises the fault of itself.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use ceso::error::Fault;
use ceso::esxi::{DiskContent, DiskSpec, FilePath, Host, HostOptions, Provisioning, Slot, SnapshotSpec, silent};
use ceso::sim::{Options, Server, read_fault};
use ceso::units::Bytes;

use crate::client_on_sim::{checked, login, named, options, start};

/// The kind, the sentence and the hint of an error, as they leave the client.
fn told<T>(done: Result<T, ceso::esxi::Error>) -> (String, String, String) {
    let fault = Fault::from(done.map(drop).expect_err("it is refused"));
    (fault.kind().to_owned(), fault.message().to_owned(), fault.hint_text().expect("every fault has a hint").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_power_state_says_what_the_state_is() {
    let (server, host) = start(Options { vms: 1, ..Options::default() }).await;
    let vm = named(&host, "vm-0001").await;
    let (kind, said, hint) = told(host.destroy(&vm, &silent).await);
    assert_eq!(kind, "esxi.invalid_power_state");
    assert!(said.contains("powered on") && said.contains("vm-0001") && hint.contains("turn it off"), "{said}: {hint}");
    let (_, said, hint) = told(host.power_on(&vm, &silent).await);
    assert!(said.contains("it is powered on already") && hint.contains("ensure"), "{said}: {hint}");
    host.power_off(&vm, &silent).await.unwrap();
    let (_, said, _) = told(host.power_off(&vm, &silent).await);
    assert!(said.contains("powered off"), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_progress_says_what_and_by_whom_and_since_when() {
    let slow = Options { vms: 1, task_delay: Duration::from_millis(1500), ..Options::default() };
    let (server, host) = start(slow).await;
    let vm = named(&host, "vm-0001").await;
    let spec = SnapshotSpec { name: "one".to_owned(), ..SnapshotSpec::default() };
    let (first, second) = tokio::join!(host.create_snapshot(&vm, &spec, &silent), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        host.power_off(&vm, &silent).await
    });
    first.unwrap();
    let (kind, said, hint) = told(second);
    assert_eq!(kind, "esxi.task_in_progress");
    for part in ["by root", " since ", "napshot"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(hint.contains("wait"), "{hint}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_says_whose_it_is() {
    let (server, host) = start(Options { vms: 1, ..Options::default() }).await;
    let store = checked(host.lookup_datastores().await.unwrap().remove(0));
    let at = |path: &str| FilePath::parse(path).unwrap();
    let (from, to) = (at("vm-0001/vm-0001.vmdk"), at("copy.vmdk"));
    let (kind, said, hint) = told(host.copy_disk_file((&store, &from), (&store, &to), None, &silent).await);
    assert_eq!(kind, "esxi.file_locked", "{said}");
    assert!(said.contains("\"vm-0001\"") && said.contains(", which is on"), "{said}");
    assert!(said.contains("vm-0001.vmdk") && hint.contains("power the machine off"), "{said}: {hint}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_version_says_that_the_licence_forbids_it() {
    let (server, host) = start(Options { vms: 1, ..Options::default() }).await;
    server.fault(read_fault("PowerOffVM_Task:RestrictedVersion:1").unwrap()).unwrap();
    let (kind, said, hint) = told(host.power_off(&named(&host, "vm-0001").await, &silent).await);
    assert_eq!(kind, "esxi.restricted_version");
    assert!(said.contains("licence does not allow changes") && hint.contains("assign a licence"), "{said}: {hint}");
    server.stop().await;
}

/// Which of the others say it: an upload, a copy, a disk that is made or filled (`files_on_sim`), a clone (`scenarios`), an import and a
/// copy to another host (the commands' `typed_faults`).
#[tokio::test(flavor = "multi_thread")]
async fn no_disk_space_says_how_much_is_missing_of_a_disk_that_is_added_or_grown() {
    let (server, host) = start(Options::default()).await;
    let vm = named(&host, "debian-12").await;
    let store = checked(host.lookup_datastores().await.unwrap().remove(0));
    let disk = |size: u64, form| DiskSpec {
        content: DiskContent::New { datastore: &store, size: Bytes(size), form },
        slot: Slot::default(),
        independent: false,
    };
    let key = host.add_disk(&vm, &disk(8 << 20, Provisioning::Thick), &silent).await.unwrap();
    server.fill(4 << 20);
    let (kind, said, hint) = told(host.add_disk(&vm, &disk(1 << 30, Provisioning::Thick), &silent).await);
    assert_eq!(kind, "esxi.no_disk_space", "{said}");
    assert!(said.contains("1 GiB are needed") && said.contains("are missing") && hint.contains("free space"), "{said}");
    let (kind, said, _) = told(host.grow_disk(&vm, key, Bytes(1 << 30), &silent).await);
    assert_eq!(kind, "esxi.no_disk_space", "{said}");
    assert!(said.contains("are missing") && said.contains("datastore1"), "{said}");
    server.stop().await;
}

/// Nothing else was built on these: a client of its own, for a host that is named otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_names_the_host_and_what_was_done() {
    let server = Server::start(Options { vms: 1, ..Options::default() }).await.unwrap();
    let own = HostOptions { name: "lab".to_owned(), ..options(&server) };
    let host = Host::connect(own, login("ceso")).await.unwrap();
    for kind in ["NoDiskSpace", "TaskInProgress", "FileLocked", "RestrictedVersion", "InvalidState", "NoPermission"] {
        server.fault(read_fault(&format!("PowerOffVM_Task:{kind}:1")).unwrap()).unwrap();
        let (own, said, _) = told(host.power_off(&named(&host, "vm-0001").await, &silent).await);
        assert!(
            own.starts_with("esxi.") && said.contains("host lab") && said.contains("vm-0001"),
            "{kind}: {own}: {said}"
        );
    }
    server.stop().await;
}
