//! Snapshots: reverts bring content back, deltas are merged, and what a host refuses is refused.

use ceso::sim::{Options, Rule, Server, Trouble};

use super::client::{Client, DISKS, vm};
use super::started::{options, start};

/// Where a running guest's records begin.
const RECORDS: u64 = 1 << 20;

fn snapshot(id: &str) -> (&'static str, &str) {
    ("VirtualMachineSnapshot", id)
}

/// Takes a snapshot; answers its id.
async fn take(client: &mut Client, machine: &str, name: &str, memory: bool) -> String {
    let inside =
        format!("<name>{name}</name><description>d</description><memory>{memory}</memory><quiesce>false</quiesce>");
    client.task("CreateSnapshot_Task", vm(machine), &inside).await.unwrap().unwrap().text
}

/// How many records the machine's guest has written.
fn records(server: &Server, machine: &str) -> usize {
    let bytes = server.read_disk(machine, 0, RECORDS, 512 * 64).unwrap();
    bytes.chunks(512).take_while(|sector| sector.starts_with(b"SIMULATOR")).count()
}

/// The files of a machine's folder.
fn files(state: &std::path::Path, folder: &str) -> Vec<String> {
    let read = std::fs::read_dir(state.join("datastore1").join(folder)).unwrap();
    let mut names: Vec<String> = read.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_brings_back_content_and_with_memory_the_running_guest() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    let cold = take(&mut client, &machine, "cold", false).await;
    client.task("PowerOnVM_Task", vm(&machine), "").await.unwrap();
    assert_eq!(records(&server, "a"), 1, "a guest writes when it boots");
    client.until(("VirtualMachine", &machine), "guest.toolsRunningStatus", "guestToolsRunning").await;
    let address = client.value(vm(&machine), "guest.ipAddress").await;
    let warm = take(&mut client, &machine, "warm", true).await;
    server.write_disk("a", 0, 5000, b"after warm").unwrap();
    client.task("ResetVM_Task", vm(&machine), "").await.unwrap();
    assert_eq!(records(&server, "a"), 2);

    client.task("RevertToSnapshot_Task", snapshot(&warm), "").await.unwrap();
    assert_eq!(client.value(vm(&machine), "runtime.powerState").await, "poweredOn");
    assert_eq!(client.value(vm(&machine), "guest.ipAddress").await, address, "the guest goes on where it was");
    assert_eq!((records(&server, "a"), server.read_disk("a", 0, 5000, 3).unwrap()), (1, vec![0; 3]));

    client.task("RevertToSnapshot_Task", snapshot(&cold), "").await.unwrap();
    assert_eq!(client.value(vm(&machine), "runtime.powerState").await, "poweredOff");
    assert_eq!(records(&server, "a"), 0);
    assert_eq!(client.value(vm(&machine), "snapshot.currentSnapshot").await, cold);
    client.task("RevertToSnapshot_Task", snapshot(&warm), "<suppressPowerOn>true</suppressPowerOn>").await.unwrap();
    assert_eq!(client.value(vm(&machine), "runtime.powerState").await, "poweredOff");
    client.task("RevertToCurrentSnapshot_Task", vm(&machine), "").await.unwrap();
    assert_eq!(
        (client.value(vm(&machine), "runtime.powerState").await, records(&server, "a")),
        ("poweredOn".into(), 1)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_told_renamed_pruned_and_survives_a_restart_and_a_registration() {
    let state = tempfile::tempdir().unwrap();
    let with_state = || Options { state: Some(state.path().to_owned()), ..options() };
    let server = start(with_state()).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    let mut taken = Vec::new();
    for name in ["one", "two", "three"] {
        server.write_disk("a", 0, 4096, name.as_bytes()).unwrap();
        taken.push(take(&mut client, &machine, name, false).await);
    }
    client.task("RevertToSnapshot_Task", snapshot(&taken[0]), "").await.unwrap();
    server.write_disk("a", 0, 4096, b"branch").unwrap();
    let branch = take(&mut client, &machine, "branch", false).await;
    client.call("RenameSnapshot", snapshot(&branch), "<name>side &amp; \"way\"</name>").await.unwrap();
    server.stop().await;

    let server = start(with_state()).await;
    let mut client = Client::logged_in(&server).await;
    let tree = client.property(vm(&machine), "snapshot").await.unwrap().unwrap();
    let root = tree.child("rootSnapshotList").unwrap();
    assert_eq!(
        (root.text_at("name"), root.text_at("state"), root.text_at("id")),
        (Some("one"), Some("poweredOff"), Some("1"))
    );
    let below: Vec<&str> = root.all("childSnapshotList").filter_map(|child| child.text_at("name")).collect();
    assert_eq!(below, ["two", "side & \"way\""]);
    assert_eq!(tree.text_at("currentSnapshot"), Some(branch.as_str()));
    let frozen = client.value(snapshot(&taken[1]), "config.hardware.device[2000].backing.fileName").await;
    assert_eq!(frozen, "[datastore1] a/a-000001.vmdk");
    let exclusive = client.property(vm(&machine), "layoutEx").await.unwrap().unwrap();
    let kinds: Vec<&str> = exclusive.all("file").filter_map(|file| file.text_at("type")).collect();
    assert!(["snapshotList", "snapshotData"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    assert_eq!(exclusive.at("disk").unwrap().all("chain").count(), 3, "base, one, branch");

    client.call("UnregisterVM", vm(&machine), "").await.unwrap();
    let inside = format!("<path>[datastore1] a/a.vmx</path><asTemplate>false</asTemplate>{}", super::client::POOL);
    let again = client.task("RegisterVM_Task", super::client::FOLDER, &inside).await.unwrap().unwrap().text;
    let all: Vec<String> = ["1", "2", "3", "4"].map(|id| format!("{again}-snapshot-{id}")).to_vec();
    client.task("RemoveSnapshot_Task", snapshot(&all[1]), "<removeChildren>true</removeChildren>").await.unwrap();
    assert!(client.property(snapshot(&all[2]), "vm").await.is_err(), "a child went with its parent");
    assert_eq!(server.read_disk("a", 0, 4096, 6).unwrap(), b"branch");
    client.task("RemoveSnapshot_Task", snapshot(&all[0]), "<removeChildren>false</removeChildren>").await.unwrap();
    assert_eq!(client.value(vm(&again), "snapshot.rootSnapshotList[4].name").await, "");
    assert_eq!(server.read_disk("a", 0, 4096, 6).unwrap(), b"branch");
    client.task("RevertToCurrentSnapshot_Task", vm(&again), "").await.unwrap();
    assert_eq!(server.read_disk("a", 0, 4096, 6).unwrap(), b"branch");
    client.task("RemoveAllSnapshots_Task", vm(&again), "").await.unwrap();
    assert!(client.property(vm(&again), "snapshot").await.unwrap().is_none());
    assert_eq!(server.read_disk("a", 0, 4096, 6).unwrap(), b"branch");
    let left = files(state.path(), "a");
    assert_eq!(left, ["a-flat.vmdk", "a.nvram", "a.vmdk", "a.vmsd", "a.vmx"]);
    let missing = client.task("RevertToCurrentSnapshot_Task", vm(&again), "").await.unwrap_err();
    assert_eq!(missing.kind, "NotFound");
    let gone = client.call("RevertToSnapshot_Task", snapshot(&all[0]), "").await.unwrap_err();
    assert_eq!(gone.kind, "ManagedObjectNotFound");
    client.task("Destroy_Task", vm(&again), "").await.unwrap();
    assert!(!state.path().join("datastore1/a").exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_without_a_snapshot_is_told_and_consolidated() {
    let state = tempfile::tempdir().unwrap();
    let server = start(Options { state: Some(state.path().to_owned()), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    client.task("PowerOnVM_Task", vm(&machine), "").await.unwrap();
    take(&mut client, &machine, "one", false).await;
    client.task("ResetVM_Task", vm(&machine), "").await.unwrap();
    let rule = Rule {
        method: "RemoveAllSnapshots_Task".to_owned(),
        trouble: Trouble::LeaveDelta,
        after: 0,
        times: Some(1),
        chance: 1.0,
    };
    server.fault(rule).unwrap();
    let left = client.task("RemoveAllSnapshots_Task", vm(&machine), "").await.unwrap_err();
    assert_eq!(left.kind, "FileLocked");
    assert_eq!(client.value(vm(&machine), "runtime.consolidationNeeded").await, "true");
    assert!(client.property(vm(&machine), "snapshot").await.unwrap().is_none());
    assert!(files(state.path(), "a").contains(&"a-000001-delta.vmdk".to_owned()));
    client.task("ConsolidateVMDisks_Task", vm(&machine), "").await.unwrap();
    assert_eq!(client.value(vm(&machine), "runtime.consolidationNeeded").await, "false");
    assert_eq!(
        client.value(vm(&machine), "config.hardware.device[2000].backing.fileName").await,
        "[datastore1] a/a.vmdk"
    );
    assert!(!files(state.path(), "a").iter().any(|name| name.contains("delta")));
    assert_eq!(records(&server, "a"), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_refuses_with_snapshots_is_refused() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    let quiesced = "<name>q</name><memory>false</memory><quiesce>true</quiesce>";
    client.task("PowerOnVM_Task", vm(&machine), "").await.unwrap();
    client.until(("VirtualMachine", &machine), "guest.toolsRunningStatus", "guestToolsRunning").await;
    let good = client.task("CreateSnapshot_Task", vm(&machine), quiesced).await.unwrap().unwrap().text;
    assert_eq!(
        client.property(vm(&machine), "snapshot").await.unwrap().unwrap().text_at("rootSnapshotList.quiesced"),
        Some("true")
    );
    client.task("RemoveSnapshot_Task", snapshot(&good), "<removeChildren>false</removeChildren>").await.unwrap();
    client.task("PowerOffVM_Task", vm(&machine), "").await.unwrap();

    // A machine without a system has no tools.
    let config = format!(
        "<config><name>bare</name><files><vmPathName>[datastore1]</vmPathName></files>{}{}</config>{}",
        super::client::scsi(),
        super::client::disk("", "1024"),
        super::client::POOL
    );
    let bare = client.task("CreateVM_Task", super::client::FOLDER, &config).await.unwrap().unwrap().text;
    client.task("PowerOnVM_Task", vm(&bare), "").await.unwrap();
    let fault = client.task("CreateSnapshot_Task", vm(&bare), quiesced).await.unwrap_err();
    assert_eq!(fault.kind, "ToolsUnavailable");

    let edit = |rest: &str| {
        format!(
            "<spec><deviceChange>{rest}<device xsi:type=\"VirtualDisk\"><key>2000</key><backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\">\
             <fileName></fileName><diskMode>persistent</diskMode></backing><capacityInKB>4194304</capacityInKB></device></deviceChange></spec>"
        )
    };
    take(&mut client, &machine, "one", false).await;
    for change in [
        edit("<operation>edit</operation>"),
        edit("<operation>remove</operation><fileOperation>destroy</fileOperation>"),
    ] {
        let fault = client.task("ReconfigVM_Task", vm(&machine), &change).await.unwrap_err();
        assert_eq!(fault.kind, "InvalidDeviceOperation", "{fault:?}");
    }
    let grow = "<name>[datastore1] a/a-000001.vmdk</name><newCapacityKb>4194304</newCapacityKb>";
    let fault = client.task("ExtendVirtualDisk_Task", DISKS, grow).await.unwrap_err();
    assert_eq!(fault.kind, "InvalidDiskFormat");
    let fault = client
        .task("CreateSnapshot_Task", vm(&machine), "<name> </name><memory>false</memory><quiesce>false</quiesce>")
        .await;
    assert_eq!(fault.unwrap_err().kind, "InvalidName");
    for level in 2..=32 {
        take(&mut client, &machine, &format!("level {level}"), false).await;
    }
    let more = "<name>33</name><memory>false</memory><quiesce>false</quiesce>";
    let fault = client.task("CreateSnapshot_Task", vm(&machine), more).await.unwrap_err();
    assert_eq!(fault.kind, "TooManySnapshotLevels");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_disk_takes_no_part() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    let add = "<spec><deviceChange><operation>add</operation><fileOperation>create</fileOperation><device xsi:type=\"VirtualDisk\"><key>-1</key>\
        <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName></fileName><diskMode>independent_persistent</diskMode>\
        <thinProvisioned>true</thinProvisioned></backing><controllerKey>1000</controllerKey><unitNumber>1</unitNumber>\
        <capacityInKB>8192</capacityInKB></device></deviceChange></spec>";
    client.task("ReconfigVM_Task", vm(&machine), add).await.unwrap();
    take(&mut client, &machine, "one", false).await;
    for disk in [0, 1] {
        server.write_disk("a", disk, 4096, b"later").unwrap();
    }
    client.task("RevertToCurrentSnapshot_Task", vm(&machine), "").await.unwrap();
    assert_eq!(server.read_disk("a", 0, 4096, 5).unwrap(), [0; 5]);
    assert_eq!(server.read_disk("a", 1, 4096, 5).unwrap(), b"later");
    client.task("PowerOnVM_Task", vm(&machine), "").await.unwrap();
    let memory = "<name>m</name><memory>true</memory><quiesce>false</quiesce>";
    let fault = client.task("CreateSnapshot_Task", vm(&machine), memory).await.unwrap_err();
    assert_eq!(fault.kind, "MemorySnapshotOnIndependentDisk");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_write_while_they_run() {
    let every = Some(std::time::Duration::from_millis(5));
    let server = start(Options { guest_writes: every, ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    assert_eq!(records(&server, "a"), 0);
    client.task("PowerOnVM_Task", vm(&machine), "").await.unwrap();
    while records(&server, "a") < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.stop().await;
}

/// The content of a running machine's disk, as of its snapshot: its chain is copied into one disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshots_disk_is_copied_while_the_machine_runs_and_the_copy_stands_alone() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let machine = client.clone_template("a", &[]).await;
    take(&mut client, &machine, "one", false).await;
    client.task("PowerOnVM_Task", vm(&machine), "").await.unwrap();
    take(&mut client, &machine, "two", false).await;
    client.task("ResetVM_Task", vm(&machine), "").await.unwrap();
    let copy = |from: &str, to: &str| {
        format!(
            "<sourceName>[datastore1] {from}</sourceName><destName>[datastore1] {to}</destName>\
             <destSpec><diskType>thin</diskType><adapterType>lsiLogic</adapterType></destSpec>"
        )
    };
    client.task("CopyVirtualDisk_Task", DISKS, &copy("a/a-000001.vmdk", "copy.vmdk")).await.unwrap();
    let busy = client.task("CopyVirtualDisk_Task", DISKS, &copy("a/a-000002.vmdk", "no.vmdk")).await.unwrap_err();
    assert_eq!(busy.kind, "FileLocked", "what is written to cannot be copied");
    client.task("PowerOffVM_Task", vm(&machine), "").await.unwrap();
    client.task("Destroy_Task", vm(&machine), "").await.unwrap();
    let config = format!(
        "<config><name>b</name><files><vmPathName>[datastore1]</vmPathName></files>{}{}</config>{}",
        super::client::scsi(),
        super::client::disk("[datastore1] copy.vmdk", ""),
        super::client::POOL
    );
    client.task("CreateVM_Task", super::client::FOLDER, &config).await.unwrap();
    assert_eq!(records(&server, "b"), 1, "as of the snapshot");
    server.stop().await;
}
