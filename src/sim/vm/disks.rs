//! The disks behind a machine's devices: made, attached, built on others, grown, shared.

use super::devices::spec_fault;
use super::reconfig::Undo;
use super::{Power, Vm, backing, hardware};
use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::vmdk::Space;
use crate::sim::datastore::{self, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// Who may write to a disk: one machine, or several that see to it themselves.
const ALONE: &str = "sharingNone";
const SHARING: [&str; 2] = [ALONE, "sharingMultiWriter"];

/// Makes, or opens, the files of a disk that is added.
pub(super) fn add(
    world: &World,
    vm: &Vm,
    new: &mut Data,
    files: Option<&str>,
    index: i32,
    undo: &mut Undo,
) -> Result<(), VimFault> {
    let backing = new.data("backing").filter(|backing| backing.kind == "VirtualDiskFlatVer2BackingInfo").cloned();
    let backing =
        backing.ok_or_else(|| spec_fault("InvalidDeviceBacking", index, "only flat disks (FlatVer2) are there"))?;
    let given = backing.text("fileName").unwrap_or_default().to_owned();
    let kilobytes = new.number("capacityInKB").filter(|kilobytes| *kilobytes > 0);
    let bytes = new
        .number("capacityInBytes")
        .filter(|bytes| *bytes > 0)
        .or(kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024)));
    let capacity = bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
    let (path, descriptor) = match files {
        Some("create") if backing.get("parent").is_some() => {
            let path = new_disk_path(world, vm, &given)?;
            (path.clone(), child(world, &path, &backing, index, undo)?)
        }
        Some("create") => {
            if capacity == 0 || capacity > vmdk::LARGEST {
                return Err(spec_fault("InvalidDeviceSpec", index, "a new disk has 1 KB to 62 TB"));
            }
            let path = new_disk_path(world, vm, &given)?;
            let at = world.datastore.resolve(&path)?;
            let space = match backing.boolean("thinProvisioned") {
                Some(true) => Space::Thin,
                _ if backing.boolean("eagerlyScrub") == Some(true) => Space::Zeroed,
                _ => Space::Kept,
            };
            if space != Space::Thin && capacity > world.datastore.space().1 {
                return Err(datastore::no_space(&path));
            }
            let made =
                vmdk::create(&at, capacity, "lsilogic", space).map_err(|error| datastore::disk_fault(&path, &error))?;
            undo.made.push(at);
            (path, made)
        }
        Some(_) => {
            return Err(spec_fault("InvalidDeviceSpec", index, "a disk is added with fileOperation create, or none"));
        }
        None => {
            let path = datastore::open(world, &given)?;
            let at = world.datastore.resolve(&path)?;
            let shared = backing.text("sharing") == Some("sharingMultiWriter");
            // Whether a shared disk may be written to by both is looked at when the second is powered on.
            let held = |other: &Vm| !other.shares(&path.to_string()) || (vm.power == Power::On && !shared);
            if datastore::locked_by(world, &path).is_some_and(held) {
                return Err(VimFault::file("FileLocked", path.to_string()));
            }
            (path.clone(), vmdk::Descriptor::read(&at).map_err(|error| datastore::disk_fault(&path, &error))?)
        }
    };
    if vm.disk_files().any(|own| own == path.to_string()) {
        return Err(spec_fault("InvalidDeviceSpec", index, format!("the machine has {path} already")));
    }
    let mut backing = backing;
    backing::describe(&mut backing, &Chain::open(&world.datastore, &path)?);
    backing.set("split", false);
    backing.set("writeThrough", false);
    let mode = backing.text("diskMode").filter(|mode| !mode.is_empty()).unwrap_or("persistent").to_owned();
    let modes =
        ["persistent", "nonpersistent", "undoable", "independent_persistent", "independent_nonpersistent", "append"];
    if !modes.contains(&mode.as_str()) {
        return Err(spec_fault("InvalidDeviceBacking", index, "its diskMode is not one"));
    }
    backing.set("diskMode", mode);
    new.set("backing", backing);
    new.set("capacityInKB", datastore::long(descriptor.capacity >> 10));
    new.set("capacityInBytes", datastore::long(descriptor.capacity));
    Ok(())
}

/// A new disk that builds on another machine's, and holds what is written to it from now on: a linked clone's.
fn child(
    world: &World,
    path: &DatastorePath,
    backing: &Data,
    index: i32,
    undo: &mut Undo,
) -> Result<vmdk::Descriptor, VimFault> {
    let named = backing.at("parent.fileName").and_then(Value::as_text).unwrap_or_default();
    let parent = datastore::open(world, named)?;
    if datastore::written_by(world, &parent).is_some() {
        return Err(VimFault::file("FileLocked", parent.to_string()));
    }
    let chain = Chain::open(&world.datastore, &parent).map_err(|fault| match fault.data.kind {
        // What is wrong is the device, not a file that somebody asked for; a host says no more than that.
        "FileNotFound" => VimFault::new("InvalidDeviceBacking", format!("Invalid configuration for device '{index}'."))
            .with("property", format!("virtualDeviceSpec[{index}].device.backing.parent.fileName"))
            .with("deviceIndex", index),
        _ => fault,
    })?;
    let below = chain.top().map_err(|error| datastore::disk_fault(&parent, &error))?;
    if below.path == *path {
        return Err(spec_fault("InvalidDeviceBacking", index, "a disk cannot build on itself"));
    }
    let at = world.datastore.resolve(path)?;
    let hint = parent.seen_from(&path.parent());
    let made = vmdk::create_delta(&at, &below.descriptor, &hint, Some(vmdk::new_uuid()));
    let made = made.map_err(|error| datastore::disk_fault(path, &error))?;
    undo.made.push(at);
    Ok(made)
}

/// Where a new disk goes: a path ending in `.vmdk` itself, else `NAME.vmdk`, `NAME_1.vmdk`, … in the given folder, or the machine's.
fn new_disk_path(world: &World, vm: &Vm, given: &str) -> Result<DatastorePath, VimFault> {
    let path = if given.is_empty() { vm.folder() } else { datastore::open(world, given)? };
    if path.name().to_ascii_lowercase().ends_with(".vmdk") {
        let folder = world.datastore.resolve(&path.parent())?;
        return match folder.is_dir() {
            true => Ok(path),
            false => Err(VimFault::file("FileNotFound", path.parent().to_string())),
        };
    }
    let folder = if path.is_root() { vm.folder() } else { path };
    let stem = DatastorePath::parse(&vm.vmx)?.name().trim_end_matches(".vmx").to_owned();
    for number in 0..1000 {
        let name = if number == 0 { format!("{stem}.vmdk") } else { format!("{stem}_{number}.vmdk") };
        let candidate = folder.join(&name);
        if !world.datastore.resolve(&candidate)?.exists() {
            return Ok(candidate);
        }
    }
    Err(VimFault::file("FileAlreadyExists", folder.to_string()))
}

/// Applies what a spec says of a disk that is there. Its file is changed by taking it out and putting another in.
pub(super) fn edit(world: &World, vm: &Vm, device: &mut Data, wanted: &Data, index: i32) -> Result<(), VimFault> {
    grow(world, vm, device, wanted, index)?;
    let given =
        |name: &str| wanted.data("backing").and_then(|backing| backing.text(name)).filter(|text| !text.is_empty());
    let (mode, sharing) = (given("diskMode").map(str::to_owned), given("sharing").map(str::to_owned));
    let Some(Value::Data(backing)) = device.get_mut("backing") else { return Ok(()) };
    if let Some(mode) = mode {
        backing.set("diskMode", mode);
    }
    if let Some(sharing) = sharing.filter(|sharing| backing.text("sharing").unwrap_or(ALONE) != sharing) {
        if !vm.is_off() {
            return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
        }
        if !SHARING.contains(&sharing.as_str()) {
            return Err(spec_fault("InvalidDeviceBacking", index, "its sharing is sharingNone or sharingMultiWriter"));
        }
        backing.set("sharing", sharing);
    }
    Ok(())
}

fn grow(world: &World, vm: &Vm, device: &mut Data, wanted: &Data, index: i32) -> Result<(), VimFault> {
    let old = device.number("capacityInBytes").unwrap_or_default();
    let old_kilobytes = device.number("capacityInKB").unwrap_or_default();
    // Clients that know only kilobytes leave the old number of bytes in place: whichever field differs is the one that is meant.
    let bytes = wanted.number("capacityInBytes").filter(|bytes| *bytes > 0 && *bytes != old);
    let kilobytes = wanted.number("capacityInKB").filter(|kilobytes| *kilobytes > 0 && *kilobytes != old_kilobytes);
    let Some(new) = bytes.or(kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024))) else { return Ok(()) };
    let snapshots = !vm.snapshots.list.is_empty() && backing::takes_part(device);
    if snapshots || device.at("backing.parent").is_some() {
        let why = "a disk with snapshots, or with a parent, cannot be extended";
        return Err(spec_fault("InvalidDeviceOperation", index, why).with("badOp", "edit"));
    }
    if new < old {
        return Err(spec_fault("InvalidDeviceSpec", index, "a disk cannot be made smaller"));
    }
    let new = u64::try_from(new).ok().filter(|new| *new <= vmdk::LARGEST);
    let new = new.ok_or_else(|| spec_fault("InvalidDeviceSpec", index, "a disk has 62 TB at most"))?;
    let file = device.at("backing.fileName").and_then(Value::as_text).unwrap_or_default();
    let path = DatastorePath::parse(file)?;
    if datastore::locked_by(world, &path).is_some_and(|other| other.id != vm.id) {
        return Err(VimFault::file("FileLocked", path.to_string()));
    }
    datastore::disks::grow(world, &path, new)?;
    device.set("capacityInKB", datastore::long(new >> 10));
    device.set("capacityInBytes", datastore::long(new));
    let label = device.data("deviceInfo").and_then(|info| info.text("label")).unwrap_or_default().to_owned();
    device.set("deviceInfo", hardware::description(label, format!("{} KB", hardware::grouped(new >> 10))));
    Ok(())
}
