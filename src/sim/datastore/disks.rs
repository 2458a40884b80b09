//! The virtual disk manager: disks made, copied, grown, moved and deleted as files.

use uuid::Uuid;

use super::chain::Chain;
use super::files::{check_datacenter, heard};
use super::path::DatastorePath;
use super::vmdk::{self, Descriptor, Space};
use super::{disk_fault, file_fault, locked_by, long, no_space, open, written_by};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::esx;
use crate::sim::fault::VimFault;
use crate::sim::task;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

pub fn call(world: &mut World, call: &Call) -> Answer {
    check_datacenter(world, call)?;
    let name = || call.text("name").map(str::to_owned);
    match call.method {
        "CreateVirtualDisk_Task" => {
            let (name, spec) = (name()?, call.data("spec")?.clone());
            task::change(world, call, &esx::DATACENTER, move |_, world| create(world, &name, &spec))
        }
        "DeleteVirtualDisk_Task" => {
            let name = name()?;
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                on_free(world, &name, |path, at| vmdk::remove(at).map_err(|error| disk_fault(path, &error)))
            })
        }
        "ExtendVirtualDisk_Task" => {
            let name = name()?;
            let kilobytes = call.args.number("newCapacityKb").and_then(|kilobytes| u64::try_from(kilobytes).ok());
            let capacity =
                kilobytes.and_then(|kilobytes| kilobytes.checked_mul(1024)).filter(|bytes| *bytes <= vmdk::LARGEST);
            let capacity =
                capacity.ok_or_else(|| VimFault::invalid_argument("newCapacityKb", "it is a number up to 62 TB"))?;
            task::change(world, call, &esx::DATACENTER, move |_, world| extend(world, &name, capacity))
        }
        "MoveVirtualDisk_Task" => {
            let (from, to) = (call.text("sourceName")?.to_owned(), call.text("destName")?.to_owned());
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                let to = open(world, &to)?;
                let target = world.datastore.resolve(&to)?;
                on_free(world, &from, |path, at| match target.exists() {
                    true => Err(VimFault::file("FileAlreadyExists", to.to_string())),
                    false => vmdk::rename(at, &target).map_err(|error| disk_fault(path, &error)),
                })
            })
        }
        "InflateVirtualDisk_Task" | "EagerZeroVirtualDisk_Task" => {
            let name = name()?;
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                on_free(world, &name, |path, at| {
                    let descriptor = read(path, at)?;
                    match descriptor.capacity - descriptor.stored(at) > world.datastore.space().1 {
                        true => Err(no_space(path)),
                        false => vmdk::inflate(at).map_err(|error| disk_fault(path, &error)),
                    }
                })
            })
        }
        "QueryVirtualDiskInfo_Task" => {
            let (name, parents) = (name()?, call.args.boolean("includeParents") == Some(true));
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                let chain = Chain::open(&world.datastore, &open(world, &name)?)?;
                let parents = if parents { chain.links.len() } else { 1 };
                let info = chain.links.iter().enumerate().take(parents).map(|(at, link)| {
                    let unit = Data::new("VirtualDiskInfoUnit").with("name", link.path.to_string());
                    let kind = match &link.descriptor {
                        delta if delta.parent.is_some() => "delta",
                        flat if flat.thin => "thin",
                        flat if flat.zeroed => "eagerZeroedThick",
                        _ => "preallocated",
                    };
                    let parent = chain.links.get(at + 1).map(|below| below.path.to_string());
                    Data::new("VirtualDiskInfo")
                        .with("unit", unit)
                        .with("diskType", kind)
                        .maybe("parent", parent)
                        .into()
                });
                Ok(Some(Value::Array("VirtualDiskInfo", info.collect())))
            })
        }
        "CopyVirtualDisk_Task" => copy(world, call),
        "QueryVirtualDiskUuid" => Ok(descriptor(world, &name()?)?.uuid.into()),
        "SetVirtualDiskUuid" => {
            let digits: String = call.text("uuid")?.chars().filter(char::is_ascii_hexdigit).collect();
            let uuid = Uuid::try_parse(&digits).map_err(|_| VimFault::invalid_argument("uuid", "it is not a UUID"))?;
            on_free(world, &name()?, |path, at| vmdk::set_uuid(at, &uuid).map_err(|error| disk_fault(path, &error)))?;
            Ok(Reply::Nothing)
        }
        "QueryVirtualDiskGeometry" => {
            let sectors = descriptor(world, &name()?)?.capacity / 512;
            let geometry = Data::new("HostDiskDimensionsChs").with("cylinder", long((sectors / (255 * 63)).min(65535)));
            Ok(geometry.with("head", 255).with("sector", 63).into())
        }
        "QueryVirtualDiskFragmentation" => {
            descriptor(world, &name()?)?;
            Ok(0.into())
        }
        "ShrinkVirtualDisk_Task" => {
            let name = name()?;
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                on_free(world, &name, |path, at| match read(path, at)?.parent {
                    Some(_) => Err(VimFault::new("InvalidDiskFormat", format!("{path} builds on another disk."))),
                    None => vmdk::shrink(at).map_err(|error| disk_fault(path, &error)),
                })
            })
        }
        "DefragmentVirtualDisk_Task" | "ZeroFillVirtualDisk_Task" => {
            Err(VimFault::not_supported(format!("{} on a standalone host", call.method)))
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

fn read(path: &DatastorePath, at: &std::path::Path) -> Result<Descriptor, VimFault> {
    Descriptor::read(at).map_err(|error| disk_fault(path, &error))
}

fn descriptor(world: &World, name: &str) -> Result<Descriptor, VimFault> {
    let path = open(world, name)?;
    read(&path, &world.datastore.resolve(&path)?)
}

/// Does something to a disk that no running machine holds.
fn on_free(
    world: &World,
    name: &str,
    act: impl FnOnce(&DatastorePath, &std::path::Path) -> Result<(), VimFault>,
) -> Result<Option<Value>, VimFault> {
    let path = open(world, name)?;
    if locked_by(world, &path).is_some() {
        return Err(VimFault::file("FileLocked", path.to_string()));
    }
    act(&path, &world.datastore.resolve(&path)?).map(|()| None)
}

/// What a spec asks for: where a new disk's space comes from, and the adapter that its descriptor names.
fn form(spec: Option<&Data>) -> Result<(Space, String), VimFault> {
    // Without a spec ESXi makes a preallocated disk for a BusLogic adapter, whatever the source was.
    let kind = spec.and_then(|spec| spec.text("diskType")).unwrap_or("preallocated");
    let adapter = spec.and_then(|spec| spec.text("adapterType")).unwrap_or("busLogic");
    let space = match kind {
        "thin" => Space::Thin,
        "preallocated" | "thick" => Space::Kept,
        "eagerZeroedThick" => Space::Zeroed,
        "sparseMonolithic" | "sparse2Gb" | "thick2Gb" | "seSparse" | "delta" | "rdm" | "rdmp" | "raw"
        | "flatMonolithic" => {
            return Err(VimFault::not_supported(format!("the disk type {kind} on this datastore")));
        }
        _ => {
            return Err(VimFault::invalid_argument(
                "spec.diskType",
                "it is thin, preallocated, thick or eagerZeroedThick",
            ));
        }
    };
    match adapter {
        "busLogic" | "lsiLogic" | "ide" => Ok((space, adapter.to_owned())),
        _ => Err(VimFault::invalid_argument("spec.adapterType", "it is busLogic, lsiLogic or ide")),
    }
}

/// A place for a new disk: nothing is there, and its folder is.
fn free_place(world: &World, name: &str) -> Result<(DatastorePath, std::path::PathBuf), VimFault> {
    let path = open(world, name)?;
    if !path.name().to_ascii_lowercase().ends_with(".vmdk") {
        return Err(VimFault::invalid_argument("name", "a virtual disk's name ends in .vmdk"));
    }
    let at = world.datastore.resolve(&path)?;
    if at.exists() {
        return Err(VimFault::file("FileAlreadyExists", path.to_string()));
    }
    match world.datastore.resolve(&path.parent())?.is_dir() {
        true => Ok((path, at)),
        false => Err(VimFault::file("FileNotFound", path.parent().to_string())),
    }
}

fn create(world: &World, name: &str, spec: &Data) -> Result<Option<Value>, VimFault> {
    let (space, adapter) = form(Some(spec))?;
    let kilobytes = spec
        .number("capacityKb")
        .and_then(|kilobytes| u64::try_from(kilobytes).ok())
        .filter(|kilobytes| *kilobytes > 0);
    let capacity = kilobytes.and_then(|kilobytes| kilobytes.checked_mul(1024)).filter(|bytes| *bytes <= vmdk::LARGEST);
    let capacity = capacity.ok_or_else(|| VimFault::invalid_argument("spec.capacityKb", "it is 1 KB to 62 TB"))?;
    let (path, at) = free_place(world, name)?;
    if space != Space::Thin && capacity > world.datastore.space().1 {
        return Err(no_space(&path));
    }
    vmdk::create(&at, capacity, &adapter, space).map_err(|error| disk_fault(&path, &error))?;
    Ok(Some(path.to_string().into()))
}

/// Makes a disk larger; one that is not thin takes its space at once.
fn enlarge(
    world: &World,
    path: &DatastorePath,
    at: &std::path::Path,
    old: &Descriptor,
    capacity: u64,
) -> Result<(), VimFault> {
    if !old.thin && capacity.saturating_sub(old.capacity) > world.datastore.space().1 {
        return Err(no_space(path));
    }
    vmdk::extend(at, capacity).map_err(|error| disk_fault(path, &error))
}

/// The same of the disk behind a machine's device.
pub fn grow(world: &World, path: &DatastorePath, capacity: u64) -> Result<(), VimFault> {
    let at = world.datastore.resolve(path)?;
    enlarge(world, path, &at, &read(path, &at)?, capacity)
}

fn extend(world: &mut World, name: &str, capacity: u64) -> Result<Option<Value>, VimFault> {
    on_free(world, name, |path, at| {
        let old = read(path, at)?;
        if old.parent.is_some() {
            return Err(VimFault::new(
                "InvalidDiskFormat",
                format!("{path} builds on another disk: it cannot be extended."),
            ));
        }
        if capacity < old.capacity {
            return Err(VimFault::invalid_argument("newCapacityKb", "a disk cannot be made smaller"));
        }
        enlarge(world, path, at, &old, capacity)
    })?;
    let file = open(world, name)?.to_string();
    let users: Vec<_> = world.vms.values().filter(|vm| vm.disk_files().any(|own| own == file)).cloned().collect();
    for mut vm in users {
        for disk in vm
            .devices
            .iter_mut()
            .filter(|disk| disk.at("backing.fileName").and_then(|own| own.as_text()) == Some(&file))
        {
            disk.set("capacityInKB", long(capacity >> 10));
            disk.set("capacityInBytes", long(capacity));
        }
        world.put(vm)?;
    }
    Ok(None)
}

/// Copies in the background: other requests go on meanwhile, and the copy can be cancelled.
fn copy(world: &mut World, call: &Call) -> Answer {
    let (from, to) = (call.text("sourceName")?.to_owned(), call.text("destName")?.to_owned());
    let (space, adapter) = form(call.args.data("destSpec"))?;
    task::work(world, call, &esx::DATACENTER, move |host, task| async move {
        let (chain, to, target) = {
            let world = host.world();
            let source = open(&world, &from)?;
            if written_by(&world, &source).is_some() {
                return Err(VimFault::file("FileLocked", source.to_string()));
            }
            // `force` is for vCenter: a standalone host never overwrites.
            let (to, target) = free_place(&world, &to)?;
            // What a delta leaves out is taken from below: the copy stands alone.
            let chain = Chain::open(&world.datastore, &source)?;
            let needed = if space == Space::Thin { chain.stored() } else { chain.capacity() };
            if needed > world.datastore.space().1 {
                return Err(no_space(&to));
            }
            (chain, to, target)
        };
        let copying = tokio::task::spawn_blocking(move || {
            let copied = chain.copy(&target, &adapter, space, heard(host, task));
            (chain, copied)
        });
        match copying.await.map(|(chain, copied)| (chain.links.into_iter().next(), copied)) {
            Ok((_, Ok(()))) => Ok(Some(to.to_string().into())),
            Ok((Some(from), Err(vmdk::VmdkError::Io(error)))) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(file_fault(&from.path, &error))
            }
            Ok((_, Err(error))) => Err(disk_fault(&to, &error)),
            Err(error) => Err(VimFault::system(error)),
        }
    })
}
