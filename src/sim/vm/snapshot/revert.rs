//! Back to a saved state: the disks as they were frozen, the configuration, and with its memory the running guest.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{put, take_back};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, disk_fault, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::guest;
use crate::sim::server::Host;
use crate::sim::value::{Ref, Value};
use crate::sim::vm::{Power, Vm, backing, tracking};
use crate::sim::world::World;

/// Reverts a machine. What was written since its last snapshot is gone.
pub fn to(
    host: &Arc<Host>,
    world: &mut World,
    object: &Ref,
    id: u32,
    suppress: bool,
) -> Result<Option<Value>, VimFault> {
    let now = world.vm(object)?.clone();
    datastore::materialise(world, &now.folder())?;
    let missing = || VimFault::not_found(&super::reference(now.id, id));
    let snapshot = now.snapshots.get(id).ok_or_else(missing)?;
    let saved = snapshot.saved.as_ref();
    let mut devices = saved.devices.clone();
    let mut made = Vec::new();
    let frozen = devices.iter_mut().filter(|device| backing::takes_part(device)).try_for_each(|disk| {
        made.push(backing::freeze(world, disk)?);
        Ok(())
    });
    if let Err(fault) = frozen {
        take_back(&made);
        return Err(fault);
    }
    let mut snapshots = now.snapshots.clone();
    snapshots.current = Some(id);
    let mut vm = Vm {
        id: now.id,
        name: now.name.clone(),
        vmx: now.vmx.clone(),
        change_version: now.change_version,
        snapshots,
        devices,
        ..saved.clone()
    };
    if suppress && vm.power == Power::On {
        vm.power = Power::Off;
    }
    match vm.power {
        // The guest goes on where its memory was saved: it has been up for as long as it had been then.
        Power::On => {
            let up = saved.powered_on.map(|since| snapshot.created - since).unwrap_or_default();
            vm.powered_on = Some(OffsetDateTime::now_utc() - up);
        }
        Power::Off => (vm.powered_on, vm.suspended) = (None, None),
        Power::Suspended => {}
    }
    tracking::reset(world, &mut vm)?;
    let abandoned = abandoned(&now);
    if let Err(fault) = put(world, vm) {
        take_back(&made);
        return Err(fault);
    }
    for file in abandoned {
        let path = DatastorePath::parse(&file)?;
        vmdk::remove(&world.datastore.resolve(&path)?).map_err(|error| disk_fault(&path, &error))?;
    }
    guest::watch(host, object.clone());
    Ok(None)
}

/// The deltas above the last frozen disks: nothing builds on them, and nothing will.
fn abandoned(vm: &Vm) -> Vec<String> {
    let frozen = frozen(vm);
    let mut gone = Vec::new();
    for backing in vm.disks().filter_map(|disk| disk.data("backing")) {
        let files: Vec<&str> = crate::sim::vm::links(backing).collect();
        // A disk that was added later is on no snapshot: it is taken out of the machine and its files stay.
        if let Some(first) = files.iter().position(|file| frozen.contains(file)) {
            gone.extend(files.into_iter().take(first).map(str::to_owned));
        }
    }
    gone
}

/// The disks that snapshots have frozen.
pub fn frozen(vm: &Vm) -> Vec<&str> {
    vm.snapshots.list.iter().flat_map(|snapshot| snapshot.saved.disk_files()).collect()
}
