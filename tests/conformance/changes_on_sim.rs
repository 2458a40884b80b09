//! Changed block tracking, client and simulator together: exact where the simulator is honest, and a full read, with its reason, where the
//! host cannot tell. What a real host tells, a real host alone can show.
#![allow(clippy::disallowed_methods)]

use ceso::esxi::checked::Checked;
use ceso::esxi::{ALLOCATED, Changed, CreateSpec, FrozenDisk, Host, NewVm, Snapshot, SnapshotSpec, Vm, silent};
use ceso::sim::{Options, Server, read_fault};
use ceso::units::Bytes;

use crate::client_on_sim::{checked, start};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 64 << 10;
const SIZE: u64 = 96 * MIB;

struct Tracked {
    server: Server,
    host: Host,
    vm: Checked<Vm>,
}

impl Tracked {
    async fn start() -> Self {
        let (server, host) = start(Options::default()).await;
        let datastore = checked(host.lookup_datastores().await.unwrap().remove(0));
        let spec = CreateSpec { disk: Some(Bytes(SIZE)), ..CreateSpec::default() };
        let new = checked(NewVm { name: "a".to_owned() });
        let vm = checked(host.create_vm(&new, &datastore, &[], &spec, &silent).await.unwrap());
        Self { server, host, vm }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        self.server.write_disk("a", 0, offset, bytes).unwrap();
    }

    async fn take(&self, name: &str) -> (Checked<Snapshot>, FrozenDisk) {
        let spec = SnapshotSpec { name: name.to_owned(), ..SnapshotSpec::default() };
        let taken = checked(self.host.create_snapshot(&self.vm, &spec, &silent).await.unwrap().snapshot);
        let disk = self.host.frozen_disks(&taken).await.unwrap().remove(0);
        (taken, disk)
    }

    async fn changed(&self, of: &(Checked<Snapshot>, FrozenDisk), since: &str) -> Changed {
        self.host.changed_areas(&self.vm, &of.0, &of.1, since).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_between_two_snapshots_is_told_exactly() {
    let lab = Tracked::start().await;
    lab.write(MIB, &[1; 512]);
    assert!(lab.host.track_changes(&lab.vm, true, &silent).await.unwrap());
    assert!(!lab.host.track_changes(&lab.vm, true, &silent).await.unwrap(), "it is so already");
    let first = lab.take("first").await;
    let id = first.1.change_id.clone().unwrap();
    assert_eq!(lab.changed(&first, ALLOCATED).await, Changed { areas: vec![(MIB, BLOCK)], full: None });
    // Into the delta above it, over a border of two blocks, to the very end.
    lab.write(10 * MIB - 1, &[2; 2]);
    lab.write(SIZE - 1, &[3]);
    // More pieces than one answer holds.
    (0..700).for_each(|piece| lab.write(20 * MIB + piece * 2 * BLOCK % (60 * MIB), &[4]));
    let second = lab.take("second").await;
    assert_ne!(second.1.change_id, first.1.change_id);
    let changed = lab.changed(&second, &id).await;
    assert_eq!(changed.full, None);
    assert_eq!(changed.areas[0], (10 * MIB - BLOCK, 2 * BLOCK));
    assert_eq!(changed.areas.last(), Some(&(SIZE - BLOCK, BLOCK)));
    assert_eq!(changed.areas.len(), 2 + 480, "60 MiB of every other block");
    // Merging changes nothing; what was written before it is still told.
    lab.host.remove_snapshot(&lab.vm, &first.0, false, &silent).await.unwrap();
    assert_eq!(lab.changed(&second, &id).await, changed);
    let third = lab.take("third").await;
    assert!(lab.changed(&third, &second.1.change_id.clone().unwrap()).await.areas.is_empty());
    lab.host.remove_snapshots(&lab.vm, &silent).await.unwrap();
    lab.host.destroy(&lab.vm, &silent).await.unwrap();
    lab.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_host_cannot_tell_all_of_the_disk_is_read_and_why() {
    let lab = Tracked::start().await;
    let untracked = lab.take("untracked").await;
    let changed = lab.changed(&untracked, ALLOCATED).await;
    assert_eq!((changed.areas, changed.full.is_some()), (vec![(0, SIZE)], true));
    lab.host.remove_snapshots(&lab.vm, &silent).await.unwrap();
    lab.host.track_changes(&lab.vm, true, &silent).await.unwrap();
    let first = lab.take("first").await;
    let id = first.1.change_id.clone().unwrap();
    lab.write(0, &[1; 512]);
    // A revert brings another content: what was known of changes is of no use.
    lab.host.revert(&first.0, &silent).await.unwrap();
    let second = lab.take("second").await;
    let full = lab.changed(&second, &id).await.full.unwrap();
    assert!(full.contains("another life"), "{full}");
    for wrong in ["", "x/1", "nonsense", "00000000-0000-0000-0000-000000000000/1"] {
        assert!(lab.changed(&second, wrong).await.full.is_some(), "{wrong}");
    }
    let id = second.1.change_id.clone().unwrap();
    lab.write(5 * MIB, &[1]);
    let third = lab.take("third").await;
    lab.server.fault(read_fault("QueryChangedDiskAreas:lie=unknown:1").unwrap()).unwrap();
    assert!(lab.changed(&third, &id).await.full.unwrap().contains("does not tell"));
    lab.server.fault(read_fault("QueryChangedDiskAreas:lie=everything:1").unwrap()).unwrap();
    assert_eq!(lab.changed(&third, &id).await, Changed { areas: vec![(0, SIZE)], full: None });
    assert_eq!(lab.changed(&third, &id).await, Changed { areas: vec![(5 * MIB, BLOCK)], full: None });
    // Off and on again is another life.
    lab.host.track_changes(&lab.vm, false, &silent).await.unwrap();
    lab.host.track_changes(&lab.vm, true, &silent).await.unwrap();
    let fourth = lab.take("fourth").await;
    assert!(lab.changed(&fourth, &third.1.change_id.clone().unwrap()).await.full.is_some());
    lab.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_machine_is_tracked_from_its_next_snapshot_on() {
    let lab = Tracked::start().await;
    lab.host.power_on(&lab.vm, &silent).await.unwrap();
    lab.host.track_changes(&lab.vm, true, &silent).await.unwrap();
    lab.write(MIB, &[1]);
    let first = lab.take("first").await;
    let id = first.1.change_id.clone().unwrap();
    lab.write(2 * MIB, &[1]);
    let second = lab.take("second").await;
    assert_eq!(lab.changed(&second, &id).await.areas, [(2 * MIB, BLOCK)]);
    lab.server.stop().await;
}
