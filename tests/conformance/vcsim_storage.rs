//! Snapshots, files, disks and leases on vcsim, a host that is not ours: what the client sends is taken, and what it answers is understood.
//!
//! vcsim is no proof for what is in a disk or a delta, nor for the content of a lease: it keeps none.
#![allow(clippy::disallowed_methods)]

use std::io::Read;
use std::sync::Arc;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    Content, CreateSpec, Datastore, FilePath, Had, Host, NewVm, Provisioning, Search, SnapshotSpec, Sum, Vm, silent,
};
use ceso::units::Bytes;

use crate::vcsim::{Vcsim, login};

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

fn at(path: &str) -> FilePath {
    FilePath::parse(path).unwrap()
}

async fn start() -> (Vcsim, Host, Checked<Datastore>) {
    let vcsim = Vcsim::start(&["-vm", "0"]);
    let host = Host::connect(vcsim.options().await, login("u", "p")).await.unwrap();
    let store = checked(host.lookup_datastores().await.unwrap().remove(0));
    (vcsim, host, store)
}

async fn machine(host: &Host, store: &Checked<Datastore>) -> Checked<Vm> {
    let spec = CreateSpec { disk: Some(Bytes(8 << 20)), ..CreateSpec::default() };
    let new = checked(NewVm { name: "a".to_owned() });
    checked(host.create_vm(&new, store, &[], &spec, &silent).await.unwrap())
}

fn snapshot(name: &str) -> SnapshotSpec {
    SnapshotSpec { name: name.to_owned(), description: "words".to_owned(), ..SnapshotSpec::default() }
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_takes_snapshots_goes_back_to_them_and_removes_them() {
    let (_vcsim, host, store) = start().await;
    let vm = machine(&host, &store).await;
    for name in ["one", "two", "three"] {
        let taken = host.create_snapshot(&vm, &snapshot(name), &silent).await.unwrap();
        assert_eq!((taken.snapshot.name.as_str(), taken.description.as_str(), taken.current), (name, "words", true));
    }
    let rows = host.snapshots(&vm).await.unwrap();
    let told: Vec<(&str, u32)> = rows.iter().map(|row| (row.snapshot.name.as_str(), row.depth)).collect();
    assert_eq!(told, [("one", 0), ("two", 1), ("three", 2)]);
    host.revert(&checked(rows[0].snapshot.clone()), &silent).await.unwrap();
    let rows = host.snapshots(&vm).await.unwrap();
    assert!(rows[0].current && !rows[2].current, "{rows:?}");
    host.remove_snapshot(&vm, &checked(rows[1].snapshot.clone()), true, &silent).await.unwrap();
    assert_eq!(host.snapshots(&vm).await.unwrap().len(), 1, "with those that came after it");
    host.remove_snapshots(&vm, &silent).await.unwrap();
    assert!(host.snapshots(&vm).await.unwrap().is_empty());
    host.destroy(&vm, &silent).await.unwrap();
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_keeps_files_in_parts_and_whole_and_disks_in_their_folders() {
    let (_vcsim, host, store) = start().await;
    let content: Arc<[u8]> = (0..300_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let held = content.clone();
    let open = move || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(std::io::Cursor::new(held.clone()))) };
    host.make_directory(&store, &at("isos/new"), true).await.unwrap();
    let length = content.len() as u64;
    let sent = host
        .upload(&store, &at("isos/new/a.iso"), Content { length, open: &open, sum: Sum::Told }, &silent)
        .await
        .unwrap();
    let (sink, had) = (Box::new(std::io::sink()), Had { wanted: Sum::Told, ..Had::default() });
    let came = host.download(&store, &at("isos/new/a.iso"), had, sink, &silent).await.unwrap();
    assert_eq!((came.bytes, came.sha256), (length, sent.sha256));
    let middle = content.len() / 2;
    let (works, seen) = host.try_range(&store, &at("isos/new/a.iso"), middle as u64, &content[middle..]).await.unwrap();
    assert!(works, "{seen}");
    host.copy_path((&store, &at("isos/new/a.iso")), (&store, &at("isos/b.iso")), &silent).await.unwrap();
    host.move_path((&store, &at("isos/b.iso")), (&store, &at("c.iso")), &silent).await.unwrap();
    let names = async |folder: &str| -> Vec<String> {
        // Without a pattern vcsim finds nothing, where a host finds all.
        let all = Search { pattern: Some("*"), ..Search::default() };
        let rows = host.browse(&store, &at(folder), all).await.unwrap();
        rows.into_iter().map(|row| row.path).collect()
    };
    assert_eq!(names("isos/new").await, ["isos/new/a.iso"]);
    assert!(names("").await.contains(&"c.iso".to_owned()));
    host.create_disk(&store, &at("isos/d.vmdk"), Bytes(8 << 20), Provisioning::Thin, &silent).await.unwrap();
    let again = host.create_disk(&store, &at("isos/d.vmdk"), Bytes(8 << 20), Provisioning::Thin, &silent).await;
    assert_eq!(again.unwrap_err().kind(), "esxi.file_already_exists");
    let copy = ((&store, &at("isos/d.vmdk")), (&store, &at("isos/e.vmdk")));
    host.copy_disk_file(copy.0, copy.1, Some(Provisioning::Thin), &silent).await.unwrap();
    for gone in ["isos", "c.iso"] {
        host.delete_path(&store, &at(gone), &silent).await.unwrap();
    }
    let missing = host.browse(&store, &at("isos"), Search::default()).await.unwrap_err();
    assert_eq!(missing.kind(), "esxi.file_not_found");
    host.close().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_holds_a_lease_on_a_snapshot_until_it_is_done() {
    let (_vcsim, host, store) = start().await;
    let vm = machine(&host, &store).await;
    let taken = checked(host.create_snapshot(&vm, &snapshot("one"), &silent).await.unwrap().snapshot);
    let lease = host.export_snapshot(&taken).await.unwrap();
    assert_eq!(lease.files.iter().filter(|file| file.disk).count(), 1);
    let told = async {
        lease.progress(50);
        Ok::<(), ceso::esxi::Error>(())
    };
    lease.during(told).await.unwrap();
    // One that fails is aborted, and the next is given.
    let lease = host.export_snapshot(&taken).await.unwrap();
    let failed = lease.during(async { Err::<(), _>(ceso::esxi::Error::Local { reason: "stop".to_owned() }) }).await;
    assert_eq!(failed.unwrap_err().kind(), "local.file");
    let lease = host.export_snapshot(&taken).await.unwrap();
    lease.during(async { Ok::<(), ceso::esxi::Error>(()) }).await.unwrap();
    host.destroy(&vm, &silent).await.unwrap();
    host.close().await.unwrap();
}
