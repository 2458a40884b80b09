//! Another host's inventory to begin with: its datastores, networks and machines, as a file tells them.
//!
//! The file was checked when it was read. What it has no word for is as on every new simulator. No content is in it: a machine's files are
//! made when somebody looks at them for the first time, each disk with its size and its chain and nothing on it, but for a system that
//! boots on the machine's first. What lies on another datastore than `datastore1` is listed and is no file.

use std::collections::BTreeMap;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::datastore::path::DatastorePath;
use super::datastore::vmdk::{self, Descriptor, Space};
use super::datastore::{self, disk_fault, file_fault};
use super::esx;
use super::esx::upkeep::Mount;
use super::fault::VimFault;
use super::guest::{Applied, AppliedNic};
use super::state::Loaded;
use super::value::Data;
use super::vm::snapshot::{Snapshot, Snapshots};
use super::vm::{Power, SystemDisk, Vm, devices, filler, hardware, links, template, vmx};
use super::world::World;
use crate::error::Fault;
use crate::inventory::{self, Controller, Guest, Inventory, Machine};

/// The smallest disk that has room for a system.
const LEAST: u64 = 8 << 20;
/// How long machines that run have done so: their guests are up.
const UP: Duration = Duration::hours(1);

/// Puts an inventory into a world that has nothing yet.
pub fn put(world: &mut World, inventory: &Inventory) -> Result<(), Fault> {
    let mut loaded = Loaded { host: inventory.host.clone(), ..Loaded::default() };
    for store in &inventory.datastores {
        loaded.space.insert(store.name.clone(), (store.capacity, store.free));
        if store.name == datastore::NAME {
            loaded.own_datastore = true;
            continue;
        }
        world.file.mounts.push(Mount {
            name: store.name.clone(),
            host: String::new(),
            path: String::new(),
            read_only: !store.writable,
            kind: store.kind.clone(),
        });
    }
    for network in &inventory.networks {
        if network.vlan != 0 {
            world.file.vlans.insert(network.name.clone(), i32::from(network.vlan));
        }
        match network.name == esx::NETWORK {
            true => loaded.own_network = true,
            false => world.file.networks.push(network.name.clone()),
        }
    }
    world.file.loaded = Some(loaded);
    for own in &inventory.machines {
        let vm = machine(world, own)?;
        if let Some(loaded) = &mut world.file.loaded {
            loaded.committed.insert(vm.id, own.committed);
        }
        world.put(vm).map_err(|fault| refused(own, &fault.message))?;
    }
    Ok(())
}

/// Whether a machine came with an inventory, and has a place for files.
pub fn loaded(world: &World, vm: &Vm) -> bool {
    let loaded = world.file.loaded.as_ref().is_some_and(|loaded| loaded.committed.contains_key(&vm.id));
    loaded && DatastorePath::parse(&vm.vmx).is_ok_and(|path| !path.parent().is_root())
}

/// Makes the files of such a machine, where they were never made.
pub fn files(world: &World, vm: &Vm) -> Result<(), VimFault> {
    if filler::made(world, vm) {
        return Ok(());
    }
    filler::folder(world, vm)?;
    for (number, disk) in vm.disks().enumerate() {
        let capacity = disk.number("capacityInBytes").and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        let Some(backing) = disk.data("backing") else { continue };
        let space = if backing.boolean("thinProvisioned") == Some(true) { Space::Thin } else { Space::Kept };
        let mut below: Option<(DatastorePath, Descriptor)> = None;
        let chain: Vec<&str> = links(backing).collect();
        for file in chain.into_iter().rev() {
            // On another datastore there are no files.
            let Ok(path) = DatastorePath::parse(file) else { break };
            let own = made(world, &path, below.as_ref(), (capacity, space), number == 0)?;
            below = Some((path, own));
        }
    }
    template::nvram(world, vm)?;
    // The configuration comes last: it tells that the others are there.
    vmx::write(world, vm)
}

/// One link of a disk, above what it builds on; another machine's may be there already.
fn made(
    world: &World,
    path: &DatastorePath,
    below: Option<&(DatastorePath, Descriptor)>,
    (capacity, space): (u64, Space),
    first: bool,
) -> Result<Descriptor, VimFault> {
    let at = world.datastore.resolve(path)?;
    if at.exists() {
        return Descriptor::read(&at).map_err(|error| disk_fault(path, &error));
    }
    let folder = path.parent();
    std::fs::create_dir_all(world.datastore.resolve(&folder)?).map_err(|error| file_fault(&folder, &error))?;
    let fault = |error| disk_fault(path, &error);
    match below {
        Some((parent, own)) => vmdk::create_delta(&at, own, &parent.seen_from(&folder), None).map_err(fault),
        None => {
            let own = vmdk::create(&at, capacity, "lsilogic", space).map_err(fault)?;
            if first && capacity >= LEAST {
                vmdk::install(&at).map_err(fault)?;
            }
            Ok(own)
        }
    }
}

fn refused(own: &Machine, why: &str) -> Fault {
    Fault::new("sim.inventory", format!("the inventory cannot be loaded: the machine {:?}: {why}", own.name))
        .hint("save it anew: ceso host inventory save FILE")
}

fn machine(world: &mut World, own: &Machine) -> Result<Vm, Fault> {
    let id = world.file.next_vm;
    world.file.next_vm += 1;
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let now = OffsetDateTime::now_utc();
    let power = match own.power.as_str() {
        "on" => Power::On,
        "suspended" => Power::Suspended,
        _ => Power::Off,
    };
    let devices = devices(world, own)?;
    let macs = devices.iter().filter_map(|device| device.text("macAddress")).map(str::to_owned).collect();
    let mut vm = Vm {
        id,
        name: own.name.clone(),
        uuid: Uuid::new_v4().to_string(),
        instance_uuid: own.instance_uuid.clone(),
        guest_id: own.guest_id.clone(),
        version: own.hardware_version.clone(),
        firmware: own.firmware.clone(),
        cpus: number(own.cpus),
        cores_per_socket: number(own.cores_per_socket.max(1)),
        memory_mb: i32::try_from(own.memory >> 20).unwrap_or(i32::MAX),
        annotation: own.notes.clone(),
        vmx: own.path.clone(),
        created: now,
        change_version: 1,
        snapshots: Snapshots::default(),
        extra: Vec::new(),
        devices,
        settings: Data::new("VirtualMachineConfigInfo"),
        power,
        powered_on: (power == Power::On).then(|| now - UP),
        suspended: (power == Power::Suspended).then_some(now),
        system: own.guest.is_some(),
        applied: own.guest.as_ref().map(|guest| reported(guest, macs)),
        leases: BTreeMap::new(),
    };
    vm.snapshots = snapshots(world, &vm, own);
    Ok(vm)
}

/// What the guest reported, as if it had been told so: all addresses on the first card.
fn reported(guest: &Guest, macs: Vec<String>) -> Applied {
    let address = |address: &String| (address.clone(), if address.contains(':') { 64 } else { 24 });
    let mut addresses = Some(guest.addresses.iter().map(address).collect::<Vec<_>>());
    let nic = |mac| AppliedNic { mac, dhcp: false, addresses: addresses.take().unwrap_or_default(), gateway: None };
    Applied {
        instance_id: "loaded".to_owned(),
        hostname: guest.hostname.clone().unwrap_or_default(),
        nics: macs.into_iter().map(nic).collect(),
        dns: Vec::new(),
        search: Vec::new(),
    }
}

fn snapshots(world: &World, vm: &Vm, own: &Machine) -> Snapshots {
    let current = own.snapshots.iter().find(|snapshot| snapshot.current);
    let parent = |of: &&inventory::Snapshot| own.snapshots.iter().find(|snapshot| Some(snapshot.id) == of.parent);
    // What a disk builds on was frozen by the current snapshot, what that builds on by the one above it, and so on.
    let line: Vec<u32> = std::iter::successors(current, parent).map(|snapshot| snapshot.id).collect();
    let list = own.snapshots.iter().map(|snapshot| {
        let mut saved = Vm { power: Power::Off, powered_on: None, suspended: None, ..vm.clone() };
        if let Some(at) = line.iter().position(|id| *id == snapshot.id) {
            for (device, disk) in saved.devices.iter_mut().filter(|own| own.kind == "VirtualDisk").zip(&own.disks) {
                if let (Some(usual), Some(file)) = (device.data("backing").cloned(), disk.parents.get(at)) {
                    let below = disk.parents.get(at + 1..).unwrap_or_default();
                    device.set("backing", backing(world, &usual, file, below));
                }
            }
        }
        Snapshot {
            id: snapshot.id,
            name: snapshot.name.clone(),
            description: snapshot.description.clone(),
            created: OffsetDateTime::parse(&snapshot.created, &Rfc3339).unwrap_or(vm.created),
            quiesced: false,
            parent: snapshot.parent,
            saved: Box::new(saved),
        }
    });
    Snapshots {
        list: list.collect(),
        current: current.map(|snapshot| snapshot.id),
        last: own.snapshots.iter().map(|snapshot| snapshot.id).max().unwrap_or_default(),
    }
}

fn devices(world: &mut World, own: &Machine) -> Result<Vec<Data>, Fault> {
    let mut devices = hardware::built_in();
    for controller in &own.controllers {
        // These two are part of every machine.
        if controller.kind != "ide" {
            devices.push(bus(own, controller)?);
        }
    }
    for (number, disk) in (1..).zip(&own.disks) {
        let system = SystemDisk { file: disk.file.clone(), capacity: disk.size, uuid: Uuid::new_v4().to_string() };
        let mut device = hardware::disk(&system, disk.thin, disk.key, number, disk.controller, disk.unit);
        if let Some(own) = device.data("backing").cloned() {
            device.set("backing", backing(world, &own, &disk.file, &disk.parents));
        }
        devices.push(device);
    }
    for (number, nic) in (0..).zip(&own.nics) {
        let kind = match nic.kind.as_str() {
            "vmxnet3" => "VirtualVmxnet3",
            "e1000e" => "VirtualE1000e",
            "e1000" => "VirtualE1000",
            "pcnet32" => "VirtualPCNet32",
            "vmxnet2" => "VirtualVmxnet2",
            other => return Err(refused(own, &format!("no card of the type {other:?} is known"))),
        };
        let mac = match &nic.mac {
            Some(mac) => mac.clone(),
            None => devices::generated(world),
        };
        let mut device = hardware::nic(kind, number, nic.network.as_deref().unwrap_or(esx::NETWORK), &mac);
        device.set("connectable", hardware::connectable(nic.start_connected));
        devices.push(device);
    }
    Ok(devices)
}

/// The backing of a disk at its place, on what it builds on.
fn backing(world: &World, usual: &Data, file: &str, parents: &[String]) -> Data {
    let at = |file: &str| {
        let mut own = Data::new(usual.kind);
        for (name, value) in usual.fields.iter().filter(|(name, _)| *name != "parent") {
            own.set(name, value.clone());
        }
        own.set("fileName", file.to_owned());
        if let Some(store) = world.datastores_of(std::iter::once(file)).into_iter().next() {
            own.set("datastore", store);
        }
        own
    };
    let mut below: Option<Data> = None;
    for path in parents.iter().rev().map(String::as_str).chain([file]) {
        let mut own = at(path);
        if let Some(parent) = below.take() {
            own.set("parent", parent);
        }
        below = Some(own);
    }
    below.unwrap_or_else(|| usual.clone())
}

fn bus(own: &Machine, controller: &Controller) -> Result<Data, Fault> {
    let kind = match controller.kind.as_str() {
        "pvscsi" => "ParaVirtualSCSIController",
        "lsilogic" => "VirtualLsiLogicController",
        "lsilogic-sas" => "VirtualLsiLogicSASController",
        "buslogic" => "VirtualBusLogicController",
        "sata" => "VirtualAHCIController",
        "nvme" => "VirtualNVMEController",
        other => return Err(refused(own, &format!("no controller of the type {other:?} is known"))),
    };
    let (label, summary) = hardware::names(kind);
    Ok(match controller.kind.as_str() {
        "sata" | "nvme" => Data::new(kind)
            .with("key", controller.key)
            .with("deviceInfo", hardware::description(format!("{label} {}", controller.bus), summary))
            .with("controllerKey", 100)
            .with("unitNumber", 24 + controller.bus)
            .with("busNumber", controller.bus),
        _ => hardware::scsi(kind, controller.key, controller.bus),
    })
}
