//! A machine's files, as its properties tell of them: `layout`, `layoutEx`, `storage` and the sizes in `summary`.

use time::OffsetDateTime;

use super::{Vm, filler};
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
            let file = disk.at("backing.fileName")?.as_text()?.to_owned();
            let key = disk.int("key")?;
            Some(Data::new("VirtualMachineFileLayoutDiskLayout").with("key", key).with("diskFile", vec![file]))
        })
        .collect();
    let name = |text: &str| DatastorePath::parse(text).map(|path| path.name().to_owned()).unwrap_or_default();
    Data::new("VirtualMachineFileLayout").with("configFile", vec![name(&vm.vmx)]).with("disk", disks)
}

struct File {
    name: String,
    kind: &'static str,
    size: u64,
    stored: u64,
}

/// The configuration, the firmware's variables and the disks, with their sizes. Nobody's files are made to be measured: a numbered
/// machine that was never touched is measured by its record.
fn measured(world: &World, vm: &Vm) -> (Vec<File>, Vec<(i32, Vec<i32>)>) {
    let untouched = filler::number(vm.id).is_some_and(|_| !filler::made(world, vm));
    let size = |text: &str| {
        let path = DatastorePath::parse(text).ok().and_then(|path| world.datastore.resolve(&path).ok());
        path.and_then(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.len())
    };
    let mut files = vec![File { name: vm.vmx.clone(), kind: "config", size: 0, stored: 0 }];
    if let Some(first) = files.first_mut() {
        first.size = size(&vm.vmx).unwrap_or(filler::VMX_SIZE);
        first.stored = first.size;
    }
    let nvram = format!("{}.nvram", vm.vmx.trim_end_matches(".vmx"));
    if untouched || size(&nvram).is_some() {
        let bytes = size(&nvram).unwrap_or(super::template::NVRAM_SIZE);
        files.push(File { name: nvram, kind: "nvram", size: bytes, stored: bytes });
    }
    let mut chains = Vec::new();
    for disk in vm.disks() {
        let (Some(key), Some(file)) = (disk.int("key"), disk.at("backing.fileName").and_then(Value::as_text)) else {
            continue;
        };
        let capacity = disk.number("capacityInBytes").and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let stored = match untouched {
            true => filler::STORED,
            false => DatastorePath::parse(file)
                .and_then(|path| world.datastore.resolve(&path))
                .ok()
                .and_then(|path| Descriptor::read(&path).ok().map(|descriptor| descriptor.stored(&path)))
                .unwrap_or_default(),
        };
        let content = format!("{}-flat.vmdk", file.trim_end_matches(".vmdk"));
        let index = i32::try_from(files.len()).unwrap_or_default();
        let bytes = size(file).unwrap_or(filler::DESCRIPTOR_SIZE);
        files.push(File { name: file.to_owned(), kind: "diskDescriptor", size: bytes, stored: bytes });
        files.push(File { name: content, kind: "diskExtent", size: capacity, stored });
        chains.push((key, vec![index, index + 1]));
    }
    (files, chains)
}

pub fn extended(world: &World, vm: &Vm) -> Data {
    let (files, chains) = measured(world, vm);
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
    let disks: Vec<Data> = chains
        .into_iter()
        .map(|(key, files)| {
            let unit = Data::new("VirtualMachineFileLayoutExDiskUnit").with("fileKey", files);
            Data::new("VirtualMachineFileLayoutExDiskLayout").with("key", key).with("chain", vec![unit])
        })
        .collect();
    Data::new("VirtualMachineFileLayoutEx")
        .with("file", files)
        .with("disk", disks)
        .with("timestamp", OffsetDateTime::now_utc())
}

/// Bytes in use, and bytes that the machine may still come to use.
fn usage(world: &World, vm: &Vm) -> (i64, i64) {
    let (files, _) = measured(world, vm);
    let stored: u64 = files.iter().map(|file| file.stored).sum();
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
