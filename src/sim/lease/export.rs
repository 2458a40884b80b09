//! Leases that stream a machine's disks out.

use super::{File, Mode, begin, device_key};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::snapshot;
use crate::sim::world::World;

/// `ExportVm`: of a machine that is off.
pub fn export_vm(world: &mut World, call: &Call) -> Answer {
    let vm = world.vm(&call.this)?.clone();
    if !vm.is_off() {
        return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
    }
    export(world, call, &vm.reference(), vm.disks().cloned().collect())
}

/// `ExportSnapshot`: the disks as they were, also of a machine that runs.
pub fn export_snapshot(world: &mut World, call: &Call) -> Answer {
    let (vm, disks) = {
        let (vm, snapshot) = snapshot::find(world, &call.this).ok_or_else(|| VimFault::not_found(&call.this))?;
        (vm.reference(), snapshot.saved.disks().cloned().collect::<Vec<Data>>())
    };
    export(world, call, &vm, disks)
}

/// A lease on these disks of a machine: its own, or those of a snapshot.
pub fn export(world: &mut World, call: &Call, object: &Ref, disks: Vec<Data>) -> Answer {
    let vm = world.vm(object)?.clone();
    if let Some(task) = world.tasks.running_on(object) {
        return Err(VimFault::task_in_progress(task));
    }
    datastore::materialise(world, &vm.folder())?;
    let mut files = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        let path = disk.at("backing.fileName").and_then(Value::as_text).unwrap_or_default().to_owned();
        let at = world.datastore.resolve(&DatastorePath::parse(&path)?)?;
        if !at.exists() {
            return Err(VimFault::file("FileNotFound", path));
        }
        let capacity = disk.number("capacityInKB").and_then(|kilobytes| u64::try_from(kilobytes).ok());
        files.push(File {
            key: device_key(&vm, disk),
            name: format!("disk-{number}.vmdk"),
            path,
            disk: true,
            capacity: capacity.unwrap_or_default() << 10,
            sent: None,
        });
    }
    Ok(Reply::Value(begin(world, call, Mode::Export, object, files)?.into()))
}
