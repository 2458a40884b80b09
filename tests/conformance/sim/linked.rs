//! Linked clones: disks on another machine's disk, and the two ways in which a host lets them come to grief.

use ceso::sim::{Options, Server};

use super::client::{Client, FOLDER, POOL, scsi, vm};
use super::started::{options, start};

const TEMPLATE: (&str, &str) = ("VirtualMachine", "1");

/// A machine whose disk builds on the template's.
async fn linked(client: &mut Client, name: &str, parent: &str) -> String {
    let config = format!(
        "<config><name>{name}</name><guestId>debian12_64Guest</guestId><files><vmPathName>[datastore1] {name}/{name}.vmx</vmPathName></files>\
         {}<deviceChange><operation>add</operation><fileOperation>create</fileOperation><device xsi:type=\"VirtualDisk\"><key>-2</key>\
         <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[datastore1]</fileName><diskMode>persistent</diskMode>\
         <thinProvisioned>true</thinProvisioned><parent><fileName>{parent}</fileName><diskMode>persistent</diskMode></parent></backing>\
         <controllerKey>-1</controllerKey><unitNumber>0</unitNumber><capacityInKB>0</capacityInKB></device></deviceChange></config>{POOL}",
        scsi()
    );
    client.task("CreateVM_Task", FOLDER, &config).await.unwrap().unwrap().text
}

fn exists(state: &std::path::Path, file: &str) -> bool {
    state.join("datastore1").join(file).exists()
}

async fn stated(state: &std::path::Path) -> (Server, Client) {
    let server = start(Options { state: Some(state.to_owned()), ..options() }).await;
    let client = Client::logged_in(&server).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_holds_its_own_writes_and_reads_the_rest_from_its_parent() {
    let state = tempfile::tempdir().unwrap();
    let (server, mut client) = stated(state.path()).await;
    let child = linked(&mut client, "child", "[datastore1] debian-12/debian-12.vmdk").await;
    let other = linked(&mut client, "other", "[datastore1] debian-12/debian-12.vmdk").await;
    let backing = "config.hardware.device[2000].backing";
    assert_eq!(client.value(vm(&child), &format!("{backing}.fileName")).await, "[datastore1] child/child.vmdk");
    let parent = client.value(vm(&child), &format!("{backing}.parent.fileName")).await;
    assert_eq!(parent, "[datastore1] debian-12/debian-12.vmdk");
    assert_eq!(
        client.value(vm(&child), "config.hardware.device[2000].capacityInBytes").await,
        (2u64 << 30).to_string()
    );
    for machine in [&child, &other] {
        client.task("PowerOnVM_Task", vm(machine), "").await.unwrap();
    }
    let first = |name: &str| server.read_disk(name, 0, 1 << 20, 9).unwrap();
    assert_eq!((first("child"), first("debian-12")), (b"SIMULATOR".to_vec(), vec![0; 9]));
    assert!(std::fs::metadata(state.path().join("datastore1/child/child-delta.vmdk")).unwrap().len() < 1 << 20);
    let locked = client.task("PowerOnVM_Task", TEMPLATE, "").await.unwrap_err();
    assert_eq!(locked.kind, "FileLocked", "a running child holds its parent");
    // A child has snapshots of its own; its parent's disk is never merged into.
    let take = "<name>one</name><memory>false</memory><quiesce>false</quiesce>";
    client.task("CreateSnapshot_Task", vm(&child), take).await.unwrap();
    client.task("RemoveAllSnapshots_Task", vm(&child), "").await.unwrap();
    client.task("ConsolidateVMDisks_Task", vm(&child), "").await.unwrap();
    assert_eq!(client.value(vm(&child), "runtime.consolidationNeeded").await, "false");
    assert_eq!(client.value(vm(&child), &format!("{backing}.parent.fileName")).await, parent);
    assert_eq!(first("debian-12"), vec![0; 9]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_the_parent_ruins_its_children() {
    let state = tempfile::tempdir().unwrap();
    let (server, mut client) = stated(state.path()).await;
    let child = linked(&mut client, "child", "[datastore1] debian-12/debian-12.vmdk").await;
    client.task("PowerOnVM_Task", TEMPLATE, "").await.unwrap();
    client.task("PowerOffVM_Task", TEMPLATE, "").await.unwrap();
    let ruined = client.task("PowerOnVM_Task", vm(&child), "").await.unwrap_err();
    assert!(ruined.kind == "GenericVmConfigFault" && ruined.message.contains("has been modified"), "{ruined:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destroying_a_child_destroys_its_parents_disk_unless_it_was_detached() {
    let state = tempfile::tempdir().unwrap();
    let (server, mut client) = stated(state.path()).await;
    let careful = linked(&mut client, "careful", "[datastore1] debian-12/debian-12.vmdk").await;
    let detach = "<spec><deviceChange><operation>remove</operation><device xsi:type=\"VirtualDisk\"><key>2000</key>\
        <capacityInKB>0</capacityInKB></device></deviceChange></spec>";
    client.task("ReconfigVM_Task", vm(&careful), detach).await.unwrap();
    client.task("Destroy_Task", vm(&careful), "").await.unwrap();
    assert!(
        exists(state.path(), "debian-12/debian-12-flat.vmdk") && exists(state.path(), "careful/careful-delta.vmdk")
    );
    let careless = linked(&mut client, "careless", "[datastore1] debian-12/debian-12.vmdk").await;
    client.task("Destroy_Task", vm(&careless), "").await.unwrap();
    assert!(!exists(state.path(), "debian-12/debian-12-flat.vmdk"), "as on a host");
    assert_eq!(client.task("PowerOnVM_Task", TEMPLATE, "").await.unwrap_err().kind, "FileNotFound");
    server.stop().await;
}
