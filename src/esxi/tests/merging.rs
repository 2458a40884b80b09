//! Merges of a linked clone's deltas: into its own disks, and never into those that it builds on, whatever the host calls for.

use super::checked;
use super::fake::{FakeHost, right};
use crate::esxi::checked::Checked;
use crate::esxi::{Host, MoRef, Snapshot, Vm, silent};

fn child() -> MoRef {
    MoRef::new("VirtualMachine", "lc")
}

fn snapshot() -> MoRef {
    MoRef::new("VirtualMachineSnapshot", "lc-snapshot-1")
}

/// A disk, by its descriptors from the one that is written to down to its base.
fn disk(files: &[&str]) -> String {
    let chain = files.iter().rev().fold(String::new(), |below, file| {
        let parent = if below.is_empty() { below } else { format!("<parent>{below}</parent>") };
        format!("<fileName>[ds1] {file}</fileName>{parent}")
    });
    format!(
        "<val><VirtualDevice xsi:type=\"VirtualDisk\"><key>2000</key><deviceInfo><label>Hard disk 1</label></deviceInfo>\
         <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\">{chain}</backing><controllerKey>1000</controllerKey>\
         <unitNumber>0</unitNumber><capacityInKB>1024</capacityInKB></VirtualDevice></val>"
    )
}

/// A linked clone that the host calls in need of consolidation, with a snapshot where that froze a disk.
async fn clone(files: &[&str], frozen: Option<&[&str]>) -> (FakeHost, Host) {
    let fake = FakeHost::start().await;
    {
        let mut world = fake.world.lock().unwrap();
        let vm = child();
        world.set(&vm, "name", "<val>lc</val>");
        world.set(&vm, "runtime.powerState", "<val>poweredOff</val>");
        world.set(&vm, "runtime.consolidationNeeded", "<val>true</val>");
        world.set(&vm, "config.hardware.device", &disk(files));
        if let Some(frozen) = frozen {
            let id = snapshot().id;
            let tree = format!(
                "<val><currentSnapshot type=\"VirtualMachineSnapshot\">{id}</currentSnapshot><rootSnapshotList>\
                 <snapshot type=\"VirtualMachineSnapshot\">{id}</snapshot><name>own</name><id>1</id></rootSnapshotList></val>"
            );
            world.set(&vm, "snapshot", &tree);
            world.set(&snapshot(), "config.hardware.device", &disk(frozen));
        }
    }
    let host = Host::connect(fake.options(), right()).await.unwrap();
    (fake, host)
}

fn vm() -> Checked<Vm> {
    checked(Vm {
        moref: child(),
        name: "lc".into(),
        instance_uuid: "u".into(),
        path: "[ds1] lc/lc.vmx".into(),
        datastores: vec!["ds1".into()],
        place: None,
    })
}

fn own() -> Checked<Snapshot> {
    checked(Snapshot { moref: snapshot(), name: "own".into(), id: 1 })
}

#[tokio::test]
async fn what_a_linked_clone_inherits_is_not_consolidated_whatever_the_host_says() {
    let (fake, host) = clone(&["lc/lc.vmdk", "p/p-000001.vmdk", "p/p.vmdk"], None).await;
    let refused = host.consolidate(&vm(), &silent).await.unwrap_err();
    assert_eq!(refused.kind(), "esxi.inherited_disks");
    assert!(refused.to_string().contains("[ds1] p/p-000001.vmdk") && refused.hint().is_some(), "{refused}");
    assert_eq!(fake.count("ConsolidateVMDisks_Task"), 0);
    // A delta of its own that a merge has left behind is merged.
    let (fake, host) = clone(&["lc/lc-000001.vmdk", "lc/lc.vmdk", "p/p-000001.vmdk", "p/p.vmdk"], None).await;
    host.consolidate(&vm(), &silent).await.unwrap();
    assert_eq!(fake.count("ConsolidateVMDisks_Task"), 1);
}

#[tokio::test]
async fn a_snapshot_that_froze_an_inherited_disk_is_not_removed() {
    let (fake, host) =
        clone(&["lc/p-000002.vmdk", "p/p-000001.vmdk", "p/p.vmdk"], Some(&["p/p-000001.vmdk", "p/p.vmdk"])).await;
    let one = host.remove_snapshot(&vm(), &own(), false, &silent).await.unwrap_err();
    let below = host.remove_snapshot(&vm(), &own(), true, &silent).await.unwrap_err();
    let all = host.remove_snapshots(&vm(), &silent).await.unwrap_err();
    for refused in [one, below, all] {
        assert_eq!(refused.kind(), "esxi.inherited_disks");
        assert!(refused.to_string().contains("[ds1] p/p-000001.vmdk"), "{refused}");
    }
    assert_eq!(fake.count("RemoveSnapshot_Task") + fake.count("RemoveAllSnapshots_Task"), 0);
}

#[tokio::test]
async fn a_linked_clones_own_snapshot_is_removed() {
    let (fake, host) = clone(
        &["lc/lc-000001.vmdk", "lc/lc.vmdk", "p/p-000001.vmdk", "p/p.vmdk"],
        Some(&["lc/lc.vmdk", "p/p-000001.vmdk"]),
    )
    .await;
    host.remove_snapshot(&vm(), &own(), false, &silent).await.unwrap();
    host.remove_snapshots(&vm(), &silent).await.unwrap();
    assert_eq!((fake.count("RemoveSnapshot_Task"), fake.count("RemoveAllSnapshots_Task")), (1, 1));
}
