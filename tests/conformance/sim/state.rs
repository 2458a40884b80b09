//! What outlives the process, and what two processes do with one state folder.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use ceso::sim::{Options, Server};

use super::client::{Client, vm};
use super::started::{options, start};

fn on(state: &Path) -> Options {
    Options { state: Some(state.to_owned()), patience: Duration::from_millis(200), ..options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_it_answered() {
    let state = tempfile::tempdir().unwrap();
    let server = start(Options { vms: 3, ..on(state.path()) }).await;
    let fingerprint = server.fingerprint().to_owned();
    let mut client = Client::logged_in(&server).await;
    let made = client.clone_template("web-1", &[("guestinfo.a", "b")]).await;
    client.task("PowerOnVM_Task", vm(&made), "").await.unwrap();
    let second = client.machine("vm-0002").await;
    client.task("PowerOffVM_Task", vm(&second), "").await.unwrap();
    client.task("Destroy_Task", vm(&second), "").await.unwrap();
    let third = client.machine("vm-0003").await;
    client.task("Rename_Task", vm(&third), "<newName>kept</newName>").await.unwrap();
    // No stop: what is on disk at this moment is what a killed process leaves. A copy of it is what the next one finds.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(state.path(), copy.path());
    drop(server);
    let server = start(Options { vms: 3, ..on(copy.path()) }).await;
    assert_eq!(server.fingerprint(), fingerprint, "the certificate is kept");
    let mut client = Client::logged_in(&server).await;
    assert_eq!(client.machine("web-1").await, made);
    client.until(("VirtualMachine", &made), "guest.toolsRunningStatus", "guestToolsRunning").await;
    assert_eq!(client.value(vm(&made), "config.extraConfig[\"guestinfo.a\"].value").await, "b");
    assert_eq!(client.machine("kept").await, third);
    assert_eq!(
        client.property(vm(&second), "name").await.unwrap_err().kind,
        "ManagedObjectNotFound",
        "it stays destroyed"
    );
    let again = client.clone_template("web-2", &[]).await;
    assert_ne!(again, made, "ids are not used twice");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_waits_and_then_names_the_holder() {
    let state = tempfile::tempdir().unwrap();
    let server = start(on(state.path())).await;
    let busy = Server::start(on(state.path())).await.unwrap_err();
    assert_eq!((busy.kind(), busy.may_retry()), ("sim.busy", true));
    assert!(busy.message().contains(&std::process::id().to_string()), "{busy}");
    let patient = Options { patience: Duration::from_secs(20), ..on(state.path()) };
    let waiting = tokio::spawn(Server::start(patient));
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop().await;
    waiting.await.unwrap().unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_nothing_is_overwritten() {
    for file in ["host.json", "vms/1.json", "certificate.pem"] {
        for damage in ["", "{", "\u{0}\u{1}", "{\"format\": 99}", "[]"] {
            let state = tempfile::tempdir().unwrap();
            start(on(state.path())).await.stop().await;
            let path = state.path().join(file);
            fs::write(&path, damage).unwrap();
            let fault = Server::start(on(state.path())).await.expect_err("it is damaged");
            assert_eq!(fault.kind(), "sim.state", "{file} {damage:?}");
            assert!(fault.message().contains(path.to_str().unwrap()), "{fault}");
            assert!(fault.hint_text().is_some());
            assert_eq!(fs::read_to_string(&path).unwrap(), damage);
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else if target.to_str().unwrap().ends_with("-flat.vmdk") {
            // A disk's holes stay holes; all that is in it is at its start.
            let mut start = vec![0; 4096];
            fs::File::open(entry.path()).unwrap().read_exact(&mut start).unwrap();
            fs::write(&target, start).unwrap();
            let length = entry.metadata().unwrap().len();
            fs::OpenOptions::new().write(true).open(&target).unwrap().set_len(length).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
