//! What hangs on IDE: the two controllers that every machine has, and its CD-ROM drives with the images in them.

use super::Vm;
use super::devices::spec_fault;
use crate::sim::datastore;
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// The IDE controller that a machine is made with and that the spec of a new machine names once more: it becomes that one.
pub(super) fn own_ide(world: &World, vm: &Vm, new: &Data, aliases: &[(i32, i32)]) -> Option<i32> {
    if new.kind != "VirtualIDEController" || world.vms.contains_key(&vm.id) {
        return None;
    }
    let own = vm.devices.iter().filter(|device| device.kind == "VirtualIDEController");
    let free = own.filter(|device| !aliases.iter().any(|(_, key)| device.int("key") == Some(*key)));
    let mut free: Vec<&Data> = free.collect();
    free.sort_by_key(|device| device.int("busNumber") != new.int("busNumber"));
    free.first().and_then(|device| device.int("key"))
}

/// A drive on IDE cannot be added while the machine runs, and its image must be there.
pub(super) fn add(world: &World, vm: &Vm, new: &Data, index: i32) -> Result<(), VimFault> {
    let ide = vm
        .devices
        .iter()
        .any(|device| device.kind == "VirtualIDEController" && device.int("key") == new.int("controllerKey"));
    if ide && !vm.is_off() {
        return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
    }
    image(world, new, index)
}

/// What is put into a drive must be there.
pub(super) fn image(world: &World, new: &Data, index: i32) -> Result<(), VimFault> {
    let Some(file) = new.at("backing.fileName").and_then(Value::as_text).filter(|file| !file.is_empty()) else {
        return Ok(());
    };
    let path = datastore::open(world, file)?;
    match world.datastore.resolve(&path)?.is_file() {
        true => Ok(()),
        false => Err(spec_fault("InvalidDeviceBacking", index, format!("there is no file {path}"))),
    }
}

/// What the host says is in a drive.
pub(super) fn summary(drive: &Data) -> String {
    match drive.at("backing.fileName").and_then(Value::as_text).filter(|file| !file.is_empty()) {
        Some(file) => format!("ISO {file}"),
        None => "Remote device".to_owned(),
    }
}
