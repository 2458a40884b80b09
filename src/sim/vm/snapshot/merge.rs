//! Consolidation: deltas that no snapshot owns any more are merged into the disk below them.
//!
//! A delta is merged where its parent is frozen by no snapshot and carries nothing else. What a linked clone builds on lies in another
//! machine's folder and stays as it is: nothing is merged into it, nor within it.

use std::collections::BTreeSet;

use super::put;
use super::revert::frozen;
use crate::sim::datastore::chain::{self, Chain};
use crate::sim::datastore::disk_fault;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::vmdk::{self, Descriptor, Parent};
use crate::sim::fault::VimFault;
use crate::sim::value::{Ref, Value};
use crate::sim::vm::{Vm, backing, links};
use crate::sim::world::World;

/// Whether a delta without a snapshot is there.
pub fn needed(vm: &Vm) -> bool {
    vm.disks().any(|disk| disk.at("backing.parent").is_some()) && next(vm).is_some()
}

/// A delta to merge, and the disk below it.
fn next(vm: &Vm) -> Option<(String, String)> {
    let links = vm.all_links();
    let (frozen, tops): (Vec<&str>, Vec<&str>) = (frozen(vm), vm.disk_files().collect());
    let inherited = inherited(vm);
    links.iter().find_map(|(delta, below)| {
        let below = below.as_ref()?;
        let children = links.iter().filter(|(_, parent)| parent.as_ref() == Some(below)).count();
        let held = frozen.contains(&below.as_str()) || tops.contains(&below.as_str());
        let own = !inherited.contains(delta.as_str()) && !inherited.contains(below.as_str());
        (children == 1 && !held && own).then(|| (delta.clone(), below.clone()))
    })
}

/// What its disks and its snapshots' disks build on in folders that are not their own: other machines' files.
pub fn inherited(vm: &Vm) -> BTreeSet<&str> {
    let folder = |file: &str| DatastorePath::parse(file).map(|path| path.parent()).ok();
    let saved = vm.snapshots.list.iter().flat_map(|snapshot| snapshot.saved.disks());
    let chains = vm.disks().chain(saved).filter_map(|disk| disk.data("backing")).map(links);
    let below = chains.flat_map(|mut files| {
        let own = files.next().and_then(folder);
        files.filter(move |file| folder(file) != own)
    });
    below.collect()
}

/// Merges until nothing is left to merge. Faults: `FileLocked` where another running machine reads the disk below.
pub fn all(world: &mut World, object: &Ref) -> Result<(), VimFault> {
    while let Some((delta, below)) = next(world.vm(object)?) {
        one(world, object, &delta, &below)?;
    }
    Ok(())
}

fn one(world: &mut World, object: &Ref, delta: &str, below: &str) -> Result<(), VimFault> {
    let mut vm = world.vm(object)?.clone();
    let reads = |other: &&Vm| other.id != vm.id && !other.is_off() && other.files().any(|file| file == below);
    if world.vms.values().find(reads).is_some() {
        return Err(VimFault::file("FileLocked", below));
    }
    let path = DatastorePath::parse(delta)?;
    let chain = Chain::open(&world.datastore, &path)?;
    let (Some(upper), Some(lower)) = (chain.links.first(), chain.links.get(1)) else {
        return Err(VimFault::system("a delta without a parent"));
    };
    chain::commit(upper, lower).map_err(|error| disk_fault(&path, &error))?;
    // What builds on the delta builds on the disk below it from now on, which has the delta's content and number.
    for (child, _) in vm.all_links().into_iter().filter(|(_, parent)| parent.as_deref() == Some(delta)) {
        let child = DatastorePath::parse(&child)?;
        let at = world.datastore.resolve(&child)?;
        let described = Descriptor::read(&at).and_then(|mut descriptor| {
            let hint = lower.path.seen_from(&child.parent());
            descriptor.parent = Some(Parent { hint, cid: upper.descriptor.cid });
            vmdk::rewrite(&at, &descriptor)
        });
        described.map_err(|error| disk_fault(&child, &error))?;
    }
    let saved = vm.snapshots.list.iter_mut().flat_map(|snapshot| snapshot.saved.devices.iter_mut());
    for device in vm.devices.iter_mut().chain(saved) {
        if let Some(Value::Data(own)) = device.get_mut("backing") {
            backing::without(own, delta);
        }
    }
    let (at, rest) = (upper.at.clone(), vm.snapshots.list.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>());
    for id in rest {
        super::files::save(world, &vm, id)?;
    }
    put(world, vm)?;
    vmdk::remove(&at).map_err(|error| disk_fault(&path, &error))
}
