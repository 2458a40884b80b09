//! The client's snapshots and linked clones on the simulator: what is noted, what is found, what is left, and what stays.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    CloneSpec, Consistency, CreateSpec, Host, HostOptions, Login, NewVm, SnapshotSpec, Trust, Vm, silent,
};
use ceso::sim::{Options, Rule, Server, Trouble};
use ceso::units::Bytes;

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

async fn start(state: &Path) -> (Server, Host) {
    let options = Options { state: Some(state.to_owned()), ..Options::default() };
    let server = Server::start(options).await.unwrap();
    let trust = Trust::Fingerprint(server.fingerprint().parse().unwrap());
    let login = std::sync::Arc::new(Login { username: "root".into(), password: "ceso".to_owned().into() });
    let options = HostOptions::new("sim", server.url().parse().unwrap(), trust);
    let host = Host::connect(options, login).await.unwrap();
    (server, host)
}

async fn named(host: &Host, name: &str) -> Checked<Vm> {
    checked(host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == name).unwrap())
}

async fn clone(host: &Host, name: &str, linked: bool) -> Result<Checked<Vm>, ceso::esxi::Error> {
    let template = named(host, "debian-12").await;
    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let network = checked(host.lookup_networks().await.unwrap().remove(0));
    let spec = CloneSpec { linked, networks: vec![("VM Network", &network)], ..CloneSpec::default() };
    let new = checked(NewVm { name: name.to_owned() });
    host.clone_vm(&template, &new, &datastore, &spec, &silent).await.map(checked)
}

fn snapshot(name: &str, memory: bool, quiesce: bool) -> SnapshotSpec {
    SnapshotSpec { name: name.to_owned(), description: "words".to_owned(), memory, quiesce }
}

fn rule(method: &str, trouble: Trouble) -> Rule {
    Rule { method: method.to_owned(), trouble, after: 0, times: Some(1), chance: 1.0 }
}

fn exists(state: &Path, file: &str) -> bool {
    state.join("datastore1").join(file).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshots_disks_can_be_trusted_to_hold_is_noted_with_it() {
    let state = tempfile::tempdir().unwrap();
    let (server, host) = start(state.path()).await;
    let vm = clone(&host, "a", false).await.unwrap();
    let taken = host.create_snapshot(&vm, &snapshot("off", false, true), &silent).await.unwrap();
    assert_eq!((taken.consistency, taken.description.as_str()), (Some(Consistency::Complete), "words"));
    host.power_on(&vm, &silent).await.unwrap();
    host.wait_for_address(&vm, std::time::Duration::from_secs(20)).await.unwrap();
    for (name, memory, quiesce, expected) in [
        ("pulled", false, false, Consistency::Crash),
        ("memory", true, false, Consistency::Complete),
        ("quiesced", false, true, Consistency::Filesystem),
    ] {
        let taken = host.create_snapshot(&vm, &snapshot(name, memory, quiesce), &silent).await.unwrap();
        assert_eq!(taken.consistency, Some(expected), "{name}");
    }
    let rows = host.snapshots(&vm).await.unwrap();
    let told: Vec<&str> = rows.iter().filter_map(|row| row.consistency).map(Consistency::as_str).collect();
    assert_eq!(told, ["complete", "crash", "complete", "filesystem"]);
    assert!(rows.iter().all(|row| row.description == "words"));

    let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
    let spec = CreateSpec { disk: Some(Bytes(8 << 20)), ..CreateSpec::default() };
    let bare = checked(NewVm { name: "bare".into() });
    let bare = checked(host.create_vm(&bare, &datastore, &[], &spec, &silent).await.unwrap());
    host.power_on(&bare, &silent).await.unwrap();
    let error = host.create_snapshot(&bare, &snapshot("q", false, true), &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.tools_unavailable");
    assert!(error.hint().unwrap().contains("without quiesce"));
    assert!(host.snapshots(&bare).await.unwrap().is_empty(), "nothing was taken");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_that_no_snapshot_owns_is_told_of_the_machine_and_its_disk() {
    let state = tempfile::tempdir().unwrap();
    let (server, host) = start(state.path()).await;
    let vm = clone(&host, "a", false).await.unwrap();
    host.create_snapshot(&vm, &snapshot("one", false, false), &silent).await.unwrap();
    let info = host.vm_info(&vm).await.unwrap();
    assert!(!info.needs_consolidation() && info.hardware.disks[0].deltas() == 1);
    server.fault(rule("RemoveAllSnapshots_Task", Trouble::LeaveDelta)).unwrap();
    let error = host.remove_snapshots(&vm, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.file_locked");
    let info = host.vm_info(&vm).await.unwrap();
    assert!(info.needs_consolidation() && info.has_unowned_deltas(&info.hardware.disks[0]));
    host.consolidate(&vm, &silent).await.unwrap();
    assert!(!host.vm_info(&vm).await.unwrap().needs_consolidation());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_clone_goes_without_its_parents_disks() {
    let state = tempfile::tempdir().unwrap();
    let (server, host) = start(state.path()).await;
    let template = named(&host, "debian-12").await;
    let child = clone(&host, "child", true).await.unwrap();
    let kept = clone(&host, "kept", true).await.unwrap();
    assert_eq!(host.linked_clones(&template, true).await.unwrap(), ["child", "kept"]);
    assert!(host.linked_clones(&child, false).await.unwrap().is_empty());
    let info = host.vm_info(&child).await.unwrap();
    assert!(!info.needs_consolidation(), "a child's own disk is no delta without a snapshot");
    assert_eq!(info.hardware.disks[0].inherited().collect::<Vec<_>>(), ["[datastore1] debian-12/debian-12.vmdk"]);
    host.power_on(&child, &silent).await.unwrap();
    let error = host.destroy(&child, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.invalid_power_state");
    host.power_off(&child, &silent).await.unwrap();
    host.create_snapshot(&child, &snapshot("one", false, false), &silent).await.unwrap();
    host.destroy(&child, &silent).await.unwrap();
    assert!(!exists(state.path(), "child"), "its own folder is gone");
    assert!(exists(state.path(), "debian-12/debian-12-flat.vmdk"));
    assert_eq!(host.linked_clones(&template, true).await.unwrap(), ["kept"]);
    host.power_on(&kept, &silent).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_linked_clone_is_taken_away_and_its_parent_stays() {
    let state = tempfile::tempdir().unwrap();
    let (server, host) = start(state.path()).await;
    let trouble = Trouble::Fault { kind: "InsufficientResourcesFault".into(), message: None };
    server.fault(rule("CreateVM_Task", trouble)).unwrap();
    let error = clone(&host, "never", true).await.unwrap_err();
    assert!(!error.to_string().contains("Left behind"), "{error}");
    assert!(!exists(state.path(), "never") && exists(state.path(), "debian-12/debian-12-flat.vmdk"));
    // A machine that stands when its disks were taken out is named, with what is left of it.
    let child = clone(&host, "child", true).await.unwrap();
    let trouble = Trouble::Fault { kind: "InvalidState".into(), message: None };
    server.fault(rule("Destroy_Task", trouble)).unwrap();
    let error = host.destroy(&child, &silent).await.unwrap_err();
    assert!(error.to_string().contains("[datastore1] child/child.vmdk"), "{error}");
    assert!(exists(state.path(), "debian-12/debian-12-flat.vmdk"));
    // Destroyed once more, it has no disks any more, and what is left of them is told.
    let left = host.destroy(&child, &silent).await.unwrap();
    assert_eq!(left, ["[datastore1] child/child-delta.vmdk", "[datastore1] child/child.vmdk"]);
    // Where the files alone cannot be deleted, all that remain are named.
    let child = clone(&host, "other", true).await.unwrap();
    let trouble = Trouble::Fault { kind: "FileLocked".into(), message: None };
    server.fault(rule("DeleteDatastoreFile_Task", trouble)).unwrap();
    let error = host.destroy(&child, &silent).await.unwrap_err().to_string();
    assert!(error.contains("other/other.vmdk") && error.contains("other/other-delta.vmdk"), "{error}");
    assert_eq!(host.lookup_vms().await.unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_others_build_on_are_not_deleted_and_a_child_goes_without_its_parent() {
    let state = tempfile::tempdir().unwrap();
    let (server, host) = start(state.path()).await;
    let store = checked(host.lookup_datastores().await.unwrap().remove(0));
    let at = |path: &str| ceso::esxi::FilePath::parse(path).unwrap();
    let template = named(&host, "debian-12").await;
    let child = clone(&host, "child", true).await.unwrap();
    // Nobody owns the disk any more, and the child builds on it.
    host.unregister_vm(&template, &silent).await.unwrap();
    for path in ["debian-12/debian-12.vmdk", "debian-12"] {
        for refused in [
            host.delete_path(&store, &at(path), &silent).await,
            host.move_path((&store, &at(path)), (&store, &at("x.vmdk")), &silent).await,
        ] {
            let error = refused.unwrap_err();
            assert!(error.kind() == "esxi.in_use" && error.to_string().contains("\"child\""), "{path}: {error}");
        }
    }
    // Its disk is taken out, and then deleted: as files, for a host that deletes it as a disk may take the parent with it.
    let disk = host.vm_info(&child).await.unwrap().hardware.disks.remove(0);
    host.remove_disk(&child, &disk, false, &silent).await.unwrap();
    host.delete_path(&store, &at("child/child.vmdk"), &silent).await.unwrap();
    assert_eq!(server.requests().get("DeleteVirtualDisk_Task"), None);
    assert!(!exists(state.path(), "child/child.vmdk") && !exists(state.path(), "child/child-delta.vmdk"));
    assert!(exists(state.path(), "debian-12/debian-12.vmdk") && exists(state.path(), "debian-12/debian-12-flat.vmdk"));
    // Now nobody builds on it: it goes as the disk that it is.
    host.delete_path(&store, &at("debian-12/debian-12.vmdk"), &silent).await.unwrap();
    assert!(server.requests().contains_key("DeleteVirtualDisk_Task"));
    assert!(!exists(state.path(), "debian-12/debian-12-flat.vmdk"));
    server.stop().await;
}
