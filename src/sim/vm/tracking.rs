//! Changed block tracking of a machine: begun and ended, its numbers in the disks' backings, and what is asked of it.
//!
//! `changeTrackingEnabled` is a wish: of a machine that is off it is met at once, of a running one at its next stun, which is a snapshot.
//! Specification: vSphere Web Services API, `VirtualMachine.QueryChangedDiskAreas`.

use super::{Vm, backing, snapshot};
use crate::sim::call::{Answer, Call};
use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::changes::{self, Map};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, disk_fault, file_fault, long};
use crate::sim::fault::VimFault;
use crate::sim::faults::Lie;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// The most areas of one answer: who asks goes on behind its end.
const AREAS: usize = 500;

fn file(disk: &Data) -> Option<DatastorePath> {
    DatastorePath::parse(disk.at("backing.fileName").and_then(Value::as_text)?).ok()
}

/// Does something with each tracked disk, and writes the map's number into its backing.
fn each(
    world: &World,
    vm: &mut Vm,
    mut act: impl FnMut(&std::path::Path) -> std::io::Result<Option<Map>>,
) -> Result<(), VimFault> {
    for disk in vm.devices.iter_mut().filter(|device| backing::takes_part(device)) {
        let Some(path) = file(disk) else { continue };
        let map = act(&world.datastore.resolve(&path)?).map_err(|error| file_fault(&path, &error))?;
        if let Some(Value::Data(backing)) = disk.get_mut("backing") {
            match map {
                Some(map) => backing.set("changeId", map.id()),
                None => backing.remove("changeId"),
            }
        }
    }
    Ok(())
}

fn enabled(vm: &Vm) -> bool {
    vm.settings.boolean("changeTrackingEnabled") == Some(true)
}

/// Meets the machine's wish: begins maps where there are none, or takes them away.
pub fn settle(world: &World, vm: &mut Vm) -> Result<(), VimFault> {
    match enabled(vm) {
        true => each(world, vm, |at| match Map::open(at)? {
            Some(map) => Ok(Some(map)),
            None => Map::begin(at).map(Some),
        }),
        false => each(world, vm, |at| Map::remove(at).map(|()| None)),
    }
}

/// A snapshot was taken: another span begins.
pub fn advance(world: &World, vm: &mut Vm) -> Result<(), VimFault> {
    each(world, vm, |at| {
        let map = Map::open(at)?;
        map.map(|mut map| map.advance().map(|()| map)).transpose()
    })
}

/// The disks hold what they held at another time: what changed since is not known any more.
pub fn reset(world: &World, vm: &mut Vm) -> Result<(), VimFault> {
    each(world, vm, |at| match Map::open(at)? {
        Some(_) => Map::begin(at).map(Some),
        None => Ok(None),
    })
}

/// `QueryChangedDiskAreas`.
pub fn query(world: &World, call: &Call) -> Answer {
    let vm = world.vm(&call.this)?;
    datastore::materialise(world, &vm.folder())?;
    let key = call.args.int("deviceKey").unwrap_or_default();
    let wrong = |what: &str, why: &str| VimFault::invalid_argument(what.to_owned(), why);
    let of = match call.args.reference("snapshot") {
        Some(object) => match snapshot::find(world, object) {
            Some((owner, snapshot)) if owner.id == vm.id => snapshot.saved.as_ref(),
            _ => return Err(VimFault::not_found(object)),
        },
        None => vm,
    };
    let disk = of.disks().find(|disk| disk.int("key") == Some(key));
    let disk = disk.ok_or_else(|| wrong("deviceKey", "it is no disk of the machine"))?;
    let path = file(disk).ok_or_else(|| VimFault::system("a disk without a file"))?;
    let chain = Chain::open(&world.datastore, &path)?;
    let start = call.args.number("startOffset").and_then(|start| u64::try_from(start).ok());
    let start = start.filter(|start| *start < chain.capacity());
    let start = start.ok_or_else(|| wrong("startOffset", "it lies behind the end of the disk"))?;
    let own = disk.at("backing.changeId").and_then(Value::as_text);
    let at = world.datastore.resolve(&path)?;
    let map = Map::open(&at).map_err(|error| file_fault(&path, &error))?;
    let (Some(map), Some(_)) = (map, own) else {
        return Err(VimFault::file(
            "FileFault",
            changes::beside(&at).file_name().unwrap_or_default().to_string_lossy(),
        ));
    };
    let id = call.text("changeId")?;
    let areas = match id {
        "*" if !chain.links.last().is_some_and(|base| base.descriptor.thin) => {
            return Err(wrong("changeId", "only a thin disk tells what is allocated"));
        }
        "*" => chain.allocated().map_err(|error| disk_fault(&path, &error))?,
        id => map
            .since(id, chain.capacity())
            .map_err(|error| file_fault(&path, &error))?
            .ok_or_else(|| wrong("changeId", "it is none of this disk's"))?,
    };
    let areas = match call.lie {
        None => areas,
        Some(Lie::Everything) => vec![(0, chain.capacity())],
        Some(Lie::Missing) => areas.into_iter().skip(1).step_by(2).collect(),
        Some(Lie::Unknown) => return Err(wrong("changeId", "it is none of this disk's")),
    };
    let behind = areas.into_iter().filter(|(first, length)| first + length > start);
    let mut areas: Vec<(u64, u64)> =
        behind.map(|(first, length)| (first.max(start), first + length - first.max(start))).collect();
    let more = areas.len() > AREAS;
    areas.truncate(AREAS);
    let end = areas.last().filter(|_| more).map_or(chain.capacity(), |(first, length)| first + length);
    let extents: Vec<Data> = areas
        .into_iter()
        .map(|(first, length)| Data::new("DiskChangeExtent").with("start", long(first)).with("length", long(length)))
        .collect();
    Ok(Data::new("DiskChangeInfo")
        .with("startOffset", long(start))
        .with("length", long(end - start))
        .with("changedArea", extents)
        .into())
}
