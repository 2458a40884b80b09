//! Snapshots taken away: out of the tree first, then their deltas are merged, or left behind where that fails.

use std::collections::BTreeSet;

use super::{files, merge, put};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::vmdk::{self, Descriptor};
use crate::sim::datastore::{self, disk_fault};
use crate::sim::fault::VimFault;
use crate::sim::value::{Ref, Value};
use crate::sim::world::World;

/// Whether deltas are merged; the error stands for a merge that fails.
type Merging = Result<bool, ()>;

pub fn one(
    world: &mut World,
    object: &Ref,
    id: u32,
    children: bool,
    merging: Merging,
) -> Result<Option<Value>, VimFault> {
    let vm = world.vm(object)?;
    let mut doomed = BTreeSet::from([id]);
    if vm.snapshots.get(id).is_none() {
        return Err(VimFault::not_found(&super::reference(vm.id, id)));
    }
    // A child is always younger than its parent.
    for snapshot in vm.snapshots.list.iter().filter(|_| children) {
        if snapshot.parent.is_some_and(|parent| doomed.contains(&parent)) {
            doomed.insert(snapshot.id);
        }
    }
    these(world, object, &doomed, merging)
}

pub fn all(world: &mut World, object: &Ref, merging: Merging) -> Result<Option<Value>, VimFault> {
    let doomed = world.vm(object)?.snapshots.list.iter().map(|snapshot| snapshot.id).collect();
    these(world, object, &doomed, merging)
}

fn these(world: &mut World, object: &Ref, doomed: &BTreeSet<u32>, merging: Merging) -> Result<Option<Value>, VimFault> {
    let before = world.vm(object)?.clone();
    datastore::materialise(world, &before.folder())?;
    let mut vm = before.clone();
    let survivor = |id: Option<u32>| {
        let parent = |id: &Option<u32>| id.and_then(|id| before.snapshots.get(id)).map(|snapshot| snapshot.parent);
        std::iter::successors(Some(id), parent).find(|id| id.is_none_or(|id| !doomed.contains(&id))).flatten()
    };
    vm.snapshots.list.retain(|snapshot| !doomed.contains(&snapshot.id));
    vm.snapshots.list.iter_mut().for_each(|snapshot| snapshot.parent = survivor(snapshot.parent));
    vm.snapshots.current = survivor(vm.snapshots.current);
    let left: BTreeSet<String> = vm.all_links().into_iter().map(|(file, _)| file).collect();
    put(world, vm)?;
    for id in doomed {
        files::remove(world, &before.folder(), &before, *id)?;
    }
    // Deltas that nothing builds on any more go; a base stays, whoever's it is, and so does what is another machine's.
    let inherited = merge::inherited(&before);
    let gone = |file: &str| !left.contains(file) && !inherited.contains(file);
    for (file, _) in before.all_links().into_iter().filter(|(file, _)| gone(file)) {
        let path = DatastorePath::parse(&file)?;
        let at = world.datastore.resolve(&path)?;
        if Descriptor::read(&at).is_ok_and(|descriptor| descriptor.parent.is_some()) {
            vmdk::remove(&at).map_err(|error| disk_fault(&path, &error))?;
        }
    }
    match merging {
        Ok(true) => merge::all(world, object).map(|()| None),
        Ok(false) => Ok(None),
        Err(()) => {
            let disk = before.disk_files().next().unwrap_or_default().to_owned();
            Err(VimFault::file("FileLocked", disk))
        }
    }
}
