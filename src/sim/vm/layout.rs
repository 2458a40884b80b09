//! A machine's files, as its properties tell of them: `layout`, `layoutEx`, `storage` and the sizes in `summary`.

use time::OffsetDateTime;

use super::{Vm, filler, snapshot};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::vmdk::Descriptor;
use crate::sim::datastore::{self, long};
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

pub fn files(vm: &Vm) -> Data {
    let folder = format!("{}/", vm.folder());
    Data::new("VirtualMachineFileInfo")
        .with("vmPathName", &vm.vmx)
        .with("snapshotDirectory", folder.clone())
        .with("suspendDirectory", folder.clone())
        .with("logDirectory", folder)
}

pub fn layout(vm: &Vm) -> Data {
    let disks: Vec<Data> = vm
        .disks()
        .filter_map(|disk| {
            let files: Vec<String> = super::links(disk.data("backing")?).map(str::to_owned).collect();
            let key = disk.int("key")?;
            Some(Data::new("VirtualMachineFileLayoutDiskLayout").with("key", key).with("diskFile", files))
        })
        .collect();
    let name = |text: &str| DatastorePath::parse(text).map(|path| path.name().to_owned()).unwrap_or_default();
    let snapshots = vm.snapshots.list.iter().map(|snapshot| {
        let files = vec![snapshot::file_names(vm, snapshot.id).0];
        Data::new("VirtualMachineFileLayoutSnapshotLayout")
            .with("key", snapshot::reference(vm.id, snapshot.id))
            .with("snapshotFile", files)
    });
    let snapshots: Vec<Data> = snapshots.collect();
    let layout = Data::new("VirtualMachineFileLayout").with("configFile", vec![name(&vm.vmx)]).with("disk", disks);
    if snapshots.is_empty() { layout } else { layout.with("snapshot", snapshots) }
}

struct File {
    name: String,
    kind: &'static str,
    size: u64,
    stored: u64,
}

/// A machine's files with their sizes, and where in that list the disks and snapshots are.
#[derive(Default)]
struct Measured {
    files: Vec<File>,
    disks: Vec<Chain>,
    /// Each snapshot with its state, its memory (or -1), and its disks.
    snapshots: Vec<(u32, i32, i32, Vec<Chain>)>,
}

/// A disk's key, and of each link from its base up the descriptor and the content.
type Chain = (i32, Vec<Vec<i32>>);

impl Measured {
    fn file(&mut self, name: String, kind: &'static str, size: u64, stored: u64) -> i32 {
        let at = self.files.iter().position(|file| file.name == name).unwrap_or_else(|| {
            self.files.push(File { name, kind, size, stored });
            self.files.len() - 1
        });
        i32::try_from(at).unwrap_or(i32::MAX)
    }

    fn chain(&mut self, world: &World, disk: &Data, untouched: bool) -> Option<Chain> {
        let (key, backing) = (disk.int("key")?, disk.data("backing")?);
        let capacity = disk.number("capacityInBytes").and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let mut units: Vec<Vec<i32>> = Vec::new();
        for file in super::links(backing) {
            let at = DatastorePath::parse(file).and_then(|path| world.datastore.resolve(&path)).ok();
            let read = at.as_ref().filter(|_| !untouched).and_then(|at| Some((at, Descriptor::read(at).ok()?)));
            let stem = file.trim_end_matches(".vmdk");
            let (content, stored, size) = match read {
                Some((at, own)) if own.parent.is_some() => {
                    (format!("{stem}-delta.vmdk"), own.stored(at), own.stored(at))
                }
                Some((at, own)) => (format!("{stem}-flat.vmdk"), own.stored(at), capacity),
                None => (format!("{stem}-flat.vmdk"), if untouched { filler::STORED } else { 0 }, capacity),
            };
            let bytes = at.and_then(|at| std::fs::metadata(at).ok()).map_or(filler::DESCRIPTOR_SIZE, |file| file.len());
            let descriptor = self.file(file.to_owned(), "diskDescriptor", bytes, bytes);
            units.insert(0, vec![descriptor, self.file(content, "diskExtent", size, stored)]);
        }
        Some((key, units))
    }
}

/// The configuration, the firmware's variables, the disks and the snapshots, with their sizes. Nobody's files are made to be measured:
/// a numbered machine that was never touched is measured by its record.
fn measured(world: &World, vm: &Vm) -> Measured {
    let untouched = filler::number(vm.id).is_some_and(|_| !filler::made(world, vm));
    let size = |text: &str| {
        let path = DatastorePath::parse(text).ok().and_then(|path| world.datastore.resolve(&path).ok());
        path.and_then(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len())
    };
    let mut all = Measured::default();
    let bytes = size(&vm.vmx).unwrap_or(filler::VMX_SIZE);
    all.file(vm.vmx.clone(), "config", bytes, bytes);
    let nvram = format!("{}.nvram", vm.vmx.trim_end_matches(".vmx"));
    if untouched || size(&nvram).is_some() {
        let bytes = size(&nvram).unwrap_or(super::template::NVRAM_SIZE);
        all.file(nvram, "nvram", bytes, bytes);
    }
    all.disks = vm.disks().filter_map(|disk| all.chain(world, disk, untouched)).collect();
    let list = format!("{}.vmsd", vm.vmx.trim_end_matches(".vmx"));
    if let Some(bytes) = size(&list) {
        all.file(list, "snapshotList", bytes, bytes);
    }
    for own in &vm.snapshots.list {
        let (state, memory) = snapshot::file_names(vm, own.id);
        let [state, memory] = [state, memory].map(|name| vm.folder().join(&name).to_string());
        let bytes = size(&state).unwrap_or_default();
        let data = all.file(state, "snapshotData", bytes, bytes);
        let memory = size(&memory).map_or(-1, |bytes| all.file(memory, "snapshotMemory", bytes, bytes));
        let disks = own.saved.disks().filter_map(|disk| all.chain(world, disk, untouched)).collect();
        all.snapshots.push((own.id, data, memory, disks));
    }
    all
}

pub fn extended(world: &World, vm: &Vm) -> Data {
    let Measured { files, disks, snapshots } = measured(world, vm);
    let files: Vec<Data> = (0..)
        .zip(files)
        .map(|(key, file)| {
            Data::new("VirtualMachineFileLayoutExFileInfo")
                .with("key", key)
                .with("name", file.name)
                .with("type", file.kind)
                .with("size", long(file.stored))
                .with("uniqueSize", long(file.stored))
                .with("accessible", true)
        })
        .collect();
    let chains = |chains: Vec<Chain>| -> Vec<Data> {
        let unit = |files| Data::new("VirtualMachineFileLayoutExDiskUnit").with("fileKey", Value::from(files));
        let disk = |(key, units): Chain| {
            let units: Vec<Data> = units.into_iter().map(unit).collect();
            Data::new("VirtualMachineFileLayoutExDiskLayout").with("key", key).with("chain", units)
        };
        chains.into_iter().map(disk).collect()
    };
    let snapshot = |(id, data, memory, disks)| {
        Data::new("VirtualMachineFileLayoutExSnapshotLayout")
            .with("key", snapshot::reference(vm.id, id))
            .with("dataKey", data)
            .with("memoryKey", memory)
            .with("disk", chains(disks))
    };
    let snapshots: Vec<Data> = snapshots.into_iter().map(snapshot).collect();
    let layout = Data::new("VirtualMachineFileLayoutEx").with("file", files).with("disk", chains(disks));
    let layout = if snapshots.is_empty() { layout } else { layout.with("snapshot", snapshots) };
    layout.with("timestamp", OffsetDateTime::now_utc())
}

/// Bytes in use, and bytes that the machine may still come to use.
fn usage(world: &World, vm: &Vm) -> (i64, i64) {
    let Measured { files, .. } = measured(world, vm);
    let loaded = world.file.loaded.as_ref().and_then(|loaded| loaded.committed.get(&vm.id));
    let stored: u64 = loaded.copied().unwrap_or_else(|| files.iter().map(|file| file.stored).sum());
    let size: u64 = files.iter().map(|file| file.size).sum();
    (long(stored), long(size.saturating_sub(stored)))
}

pub fn summary(world: &World, vm: &Vm) -> Data {
    let (committed, uncommitted) = usage(world, vm);
    Data::new("VirtualMachineStorageSummary")
        .with("committed", committed)
        .with("uncommitted", uncommitted)
        .with("unshared", committed)
        .with("timestamp", vm.created)
}

pub fn storage(world: &World, vm: &Vm) -> Data {
    let (committed, uncommitted) = usage(world, vm);
    let usage = Data::new("VirtualMachineUsageOnDatastore")
        .with("datastore", datastore::OBJECT)
        .with("committed", committed)
        .with("uncommitted", uncommitted)
        .with("unshared", committed);
    Data::new("VirtualMachineStorageInfo")
        .with("perDatastoreUsage", vec![usage])
        .with("timestamp", OffsetDateTime::now_utc())
}
