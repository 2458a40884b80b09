//! The backings of disks that build on others: `backing.parent`, one below the other, and the names of new deltas.

use super::Vm;
use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, disk_fault, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// How a host writes these deltas.
const FORMAT: &str = "redoLogFormat";

/// Says in a disk's backing what its files say: thin or not, its identity, and what it builds on.
pub fn describe(backing: &mut Data, chain: &Chain) {
    let Some((top, below)) = chain.links.split_first() else { return };
    backing.set("fileName", top.path.to_string());
    backing.set("datastore", datastore::OBJECT);
    backing.set("thinProvisioned", chain.links.last().is_some_and(|base| base.descriptor.thin));
    backing.set("uuid", top.descriptor.api_uuid());
    if top.descriptor.zeroed && below.is_empty() {
        backing.set("eagerlyScrub", true);
    }
    backing.remove("parent");
    backing.remove("deltaDiskFormat");
    let mut parent: Option<Data> = None;
    for link in below.iter().rev() {
        let mut own = Data::new("VirtualDiskFlatVer2BackingInfo")
            .with("fileName", link.path.to_string())
            .with("datastore", datastore::OBJECT)
            .with("diskMode", backing.text("diskMode").unwrap_or("persistent").to_owned())
            .with("thinProvisioned", chain.links.last().is_some_and(|base| base.descriptor.thin))
            .with("uuid", link.descriptor.api_uuid());
        if let Some(parent) = parent.take() {
            own = own.with("parent", parent).with("deltaDiskFormat", FORMAT);
        }
        parent = Some(own);
    }
    if let Some(parent) = parent {
        backing.set("parent", parent);
        backing.set("deltaDiskFormat", FORMAT);
    }
}

/// Whether a snapshot freezes this device: a disk that is not independent.
pub fn takes_part(device: &Data) -> bool {
    let mode = device.at("backing.diskMode").and_then(Value::as_text).unwrap_or_default();
    device.kind == "VirtualDisk" && !mode.starts_with("independent")
}

/// Freezes a disk: from now on it is written to a new delta above it. Returns the delta's descriptor, for who has to take it back.
pub fn freeze(world: &World, disk: &mut Data) -> Result<std::path::PathBuf, VimFault> {
    let missing = || VimFault::system("a disk without a file");
    let file = disk.at("backing.fileName").and_then(Value::as_text).ok_or_else(missing)?;
    let frozen = datastore::open(world, file)?;
    let chain = Chain::open(&world.datastore, &frozen)?;
    let top = chain.top().map_err(|error| disk_fault(&frozen, &error))?;
    let (path, at) = free_name(world, &frozen)?;
    vmdk::create_delta(&at, &top.descriptor, frozen.name(), None).map_err(|error| disk_fault(&path, &error))?;
    if let Some(Value::Data(backing)) = disk.get_mut("backing") {
        let parent = backing.clone();
        backing.set("fileName", path.to_string());
        backing.set("deltaDiskFormat", FORMAT);
        backing.set("parent", parent);
    }
    Ok(at)
}

/// The next free `NAME-000001.vmdk` beside a disk.
fn free_name(world: &World, frozen: &DatastorePath) -> Result<(DatastorePath, std::path::PathBuf), VimFault> {
    let stem = frozen.name().trim_end_matches(".vmdk");
    let numbered = |(_, number): &(&str, &str)| number.len() == 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    let stem = stem.rsplit_once('-').filter(numbered).map_or(stem, |(stem, _)| stem);
    for number in 1..1_000_000 {
        let path = frozen.parent().join(&format!("{stem}-{number:06}.vmdk"));
        let at = world.datastore.resolve(&path)?;
        let content = at.with_file_name(format!("{stem}-{number:06}-delta.vmdk"));
        if !at.exists() && !content.exists() {
            return Ok((path, at));
        }
    }
    Err(VimFault::file("FileAlreadyExists", frozen.to_string()))
}

/// Replaces, wherever a backing builds on it, the disk `merged` by the one below it, which took its content over.
pub fn without(backing: &mut Data, merged: &str) {
    if backing.text("fileName") == Some(merged) {
        let Some(Value::Data(below)) = backing.get("parent").cloned() else { return };
        backing.set("fileName", below.text("fileName").unwrap_or_default().to_owned());
        match below.get("parent") {
            Some(parent) => backing.set("parent", parent.clone()),
            None => {
                backing.remove("parent");
                backing.remove("deltaDiskFormat");
            }
        }
        return;
    }
    if let Some(Value::Data(parent)) = backing.get_mut("parent") {
        without(parent, merged);
    }
}

impl Vm {
    /// Every file of its disks and of its snapshots' disks, each with the one below it.
    pub fn all_links(&self) -> Vec<(String, Option<String>)> {
        let saved = self.snapshots.list.iter().flat_map(|snapshot| snapshot.saved.disks());
        let mut links: Vec<(String, Option<String>)> = Vec::new();
        for backing in self.disks().chain(saved).filter_map(|disk| disk.data("backing")) {
            let mut files = super::links(backing).map(str::to_owned).peekable();
            while let Some(file) = files.next() {
                if !links.iter().any(|(known, _)| *known == file) {
                    links.push((file, files.peek().cloned()));
                }
            }
        }
        links
    }
}
