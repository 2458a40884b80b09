//! Device changes of a spec: devices added, edited and removed, their keys and places.
//!
//! The rules are those of `VirtualDeviceConfigSpec`: clients number new devices below zero and name a new controller by that number
//! in the same spec; `fileOperation` makes and destroys a disk's files.

use super::reconfig::Undo;
use super::{Vm, backing, disks, drives, hardware, passthrough, render};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::fault::VimFault;
use crate::sim::schema::schema;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

pub(super) fn spec_fault(kind: &'static str, index: i32, why: impl std::fmt::Display) -> VimFault {
    VimFault::new(kind, format!("Invalid configuration for device '{index}': {why}."))
        .with("property", format!("virtualDeviceSpec[{index}]"))
        .with("deviceIndex", index)
}

/// Applies one device change to the machine.
pub fn change(world: &mut World, vm: &mut Vm, change: &Data, index: i32, undo: &mut Undo) -> Result<(), VimFault> {
    let wanted = change.data("device").ok_or_else(|| spec_fault("InvalidDeviceSpec", index, "it has no device"))?;
    let files = change.text("fileOperation");
    if wanted.kind == passthrough::KIND && !vm.is_off() {
        return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
    }
    match change.text("operation") {
        Some("add") => add(world, vm, wanted.clone(), files, index, undo),
        Some("remove") => {
            let key = wanted.int("key");
            let at = vm.devices.iter().position(|device| device.int("key") == key);
            let at = at.ok_or_else(|| spec_fault("DeviceNotFound", index, "there is no device of that key"))?;
            let used = vm.devices.iter().any(|other| key.is_some() && other.int("controllerKey") == key);
            if used {
                return Err(spec_fault("InvalidDeviceSpec", index, "the controller has devices on it"));
            }
            if key.is_some_and(|key| key < 1000 || key == 12000) {
                return Err(spec_fault("InvalidDeviceSpec", index, "every machine has this device"));
            }
            let gone = vm.devices.remove(at);
            if files == Some("destroy") && backing::takes_part(&gone) && !vm.snapshots.list.is_empty() {
                let why = "a disk that snapshots hold cannot be destroyed";
                return Err(spec_fault("InvalidDeviceOperation", index, why)
                    .with("badOp", "remove")
                    .with("badFileOp", "destroy"));
            }
            if files == Some("destroy") && gone.kind == "VirtualDisk" {
                let file = gone.at("backing.fileName").and_then(Value::as_text).unwrap_or_default();
                undo.doomed.push(DatastorePath::parse(file)?);
            }
            Ok(())
        }
        Some("edit") => edit(world, vm, wanted, index),
        // Without an operation a spec changes nothing, as on a host.
        _ => Ok(()),
    }
}

fn add(
    world: &mut World,
    vm: &mut Vm,
    mut new: Data,
    files: Option<&str>,
    index: i32,
    undo: &mut Undo,
) -> Result<(), VimFault> {
    let controller = schema().is_a(new.kind, "VirtualController");
    if let Some(key) = drives::own_ide(world, vm, &new, &undo.aliases) {
        undo.aliases.push((new.int("key").unwrap_or_default(), key));
        return Ok(());
    }
    let own_controller = |vm: &Vm, key: i32| vm.devices.iter().any(|device| device.int("key") == Some(key));
    if controller {
        place_controller(vm, &mut new, index)?;
    } else if schema().is_a(new.kind, "VirtualEthernetCard") {
        network(world, vm, &mut new, index)?;
    } else if new.kind == passthrough::KIND {
        passthrough::add(world, vm, &mut new, index)?;
    } else {
        place_on_controller(vm, &mut new, index, &undo.aliases)?;
    }
    let wanted = new.int("key").unwrap_or_default();
    let base = first_key(&new);
    // Clients number new devices below zero, and name a new controller by that number in the same spec.
    let key = match wanted >= 1000 && !own_controller(vm, wanted) {
        true => wanted,
        false => (base..).find(|key| !own_controller(vm, *key)).unwrap_or(base),
    };
    new.set("key", key);
    let (label, usual) = hardware::names(new.kind);
    let labelled = |wanted: &str| {
        vm.devices.iter().any(|other| other.at("deviceInfo.label").and_then(Value::as_text) == Some(wanted))
    };
    let number = match controller {
        true => new.int("busNumber").unwrap_or_default(),
        // Passed-through devices are counted from 0. No two devices of a machine have one label.
        false => {
            let first = i32::from(new.kind != passthrough::KIND);
            (first..).find(|number| !labelled(&format!("{label} {number}"))).unwrap_or(first)
        }
    };
    if new.kind == "VirtualCdrom" {
        drives::add(world, vm, &new, index)?;
    }
    if new.kind == "VirtualDisk" {
        disks::add(world, vm, &mut new, files, index, undo)?;
    }
    let summary = match new.kind {
        "VirtualDisk" => format!(
            "{} KB",
            hardware::grouped(u64::try_from(new.number("capacityInKB").unwrap_or_default()).unwrap_or_default())
        ),
        "VirtualCdrom" => drives::summary(&new),
        _ if new.get("macAddress").is_some() => Vm::network_of(&new).unwrap_or(usual).to_owned(),
        _ => usual.to_owned(),
    };
    new.set("deviceInfo", hardware::description(format!("{label} {number}"), summary));
    vm.devices.push(new);
    if wanted < 0 {
        undo.aliases.push((wanted, key));
    }
    Ok(())
}

/// The first key that a host gives to a device of this type.
fn first_key(new: &Data) -> i32 {
    let unit = new.int("unitNumber").unwrap_or_default();
    match new.kind {
        "VirtualDisk" => 2000 + unit,
        "VirtualCdrom" => 3000 + unit,
        "VirtualFloppy" => 8000,
        "VirtualSerialPort" => 9000,
        "VirtualParallelPort" => 10000,
        "VirtualTPM" => 11000,
        "VirtualUSBController" => 7000,
        "VirtualUSBXHCIController" => 14000,
        "VirtualAHCIController" => 15000,
        "VirtualNVMEController" => 31000,
        "VirtualIDEController" => 200,
        kind if schema().is_a(kind, "VirtualSCSIController") => 1000 + new.int("busNumber").unwrap_or_default(),
        kind if schema().is_a(kind, "VirtualEthernetCard") => 4000,
        kind if schema().is_a(kind, "VirtualSoundCard") => 5000,
        _ => 13000,
    }
}

fn place_controller(vm: &Vm, new: &mut Data, index: i32) -> Result<(), VimFault> {
    let family = hardware::names(new.kind).0;
    if matches!(new.kind, "VirtualPCIController" | "VirtualPS2Controller" | "VirtualSIOController") {
        return Err(spec_fault("InvalidDeviceSpec", index, "every machine has this controller, and only one"));
    }
    let taken = |bus: i32| {
        vm.devices.iter().any(|other| hardware::names(other.kind).0 == family && other.int("busNumber") == Some(bus))
    };
    let most = if family == "IDE" { 2 } else { 4 };
    let wanted = new.int("busNumber").filter(|bus| (0..most).contains(bus));
    let free = wanted.filter(|bus| !taken(*bus)).or_else(|| (0..most).find(|bus| !taken(*bus)));
    let bus = free.ok_or_else(|| {
        VimFault::new("TooManyDevices", format!("There is no room for another {family}."))
            .with("property", format!("virtualDeviceSpec[{index}]"))
    })?;
    new.set("busNumber", bus);
    new.set("controllerKey", 100);
    if schema().is_a(new.kind, "VirtualSCSIController") {
        new.set("unitNumber", 3 + bus);
        new.set("scsiCtlrUnitNumber", 7);
        new.set("hotAddRemove", true);
    }
    new.remove("device");
    Ok(())
}

fn place_on_controller(vm: &Vm, new: &mut Data, index: i32, aliases: &[(i32, i32)]) -> Result<(), VimFault> {
    let wanted = new.int("controllerKey");
    let Some(key) = wanted else {
        if new.kind == "VirtualDisk" {
            return Err(spec_fault("MissingController", index, "a disk needs a controller"));
        }
        return Ok(());
    };
    let key = aliases.iter().rev().find(|(alias, _)| *alias == key).map_or(key, |(_, key)| *key);
    let controller = vm
        .devices
        .iter()
        .find(|device| device.int("key") == Some(key) && schema().is_a(device.kind, "VirtualController"));
    let controller = controller.ok_or_else(|| {
        spec_fault("InvalidController", index, format!("there is no controller {key}")).with("controllerKey", key)
    })?;
    new.set("controllerKey", key);
    let (most, reserved) = match controller.kind {
        "VirtualIDEController" => (2, None),
        "VirtualAHCIController" => (30, None),
        "VirtualNVMEController" => (15, None),
        "ParaVirtualSCSIController" => (64, Some(7)),
        kind if schema().is_a(kind, "VirtualSCSIController") => (16, Some(7)),
        _ => (32, None),
    };
    let taken = |unit: i32| {
        Some(unit) == reserved
            || vm
                .devices
                .iter()
                .any(|other| other.int("controllerKey") == Some(key) && other.int("unitNumber") == Some(unit))
    };
    let unit = match new.int("unitNumber").filter(|unit| *unit >= 0) {
        Some(unit) if unit >= most || taken(unit) => {
            return Err(spec_fault(
                "InvalidDeviceSpec",
                index,
                format!("the place {unit} on the controller is taken, or not there"),
            ));
        }
        Some(unit) => unit,
        None => (0..most).find(|unit| !taken(*unit)).ok_or_else(|| {
            VimFault::new("TooManyDevices", "The controller has no free place.")
                .with("property", format!("virtualDeviceSpec[{index}]"))
        })?,
    };
    new.set("unitNumber", unit);
    Ok(())
}

fn network(world: &mut World, vm: &Vm, new: &mut Data, index: i32) -> Result<(), VimFault> {
    let backing = new.data("backing").cloned();
    let name = match &backing {
        Some(backing) if backing.kind == "VirtualEthernetCardNetworkBackingInfo" => {
            backing.text("deviceName").unwrap_or_default().to_owned()
        }
        _ => {
            return Err(spec_fault(
                "InvalidDeviceBacking",
                index,
                "a card on a standalone host needs a network's name",
            ));
        }
    };
    if !world.networks().any(|own| own == name) {
        return Err(spec_fault("InvalidDeviceBacking", index, format!("there is no network '{name}'")));
    }
    new.set("backing", hardware::network_backing(&name));
    if new.get("connectable").is_none() {
        new.set("connectable", hardware::connectable(true));
    }
    let slot = i32::try_from(vm.nics().count()).unwrap_or_default();
    if slot >= 10 {
        return Err(VimFault::new("TooManyDevices", "A machine has ten network cards at most.")
            .with("property", format!("virtualDeviceSpec[{index}]")));
    }
    let taken = |unit: i32| vm.nics().any(|nic| nic.int("unitNumber") == Some(unit));
    new.set("controllerKey", 100);
    new.set("unitNumber", (7..17).find(|unit| !taken(*unit)).unwrap_or(7));
    address(world, new, index)
}

/// Gives the card an address of its own in 00:0c:29, or takes the one that the client chose.
fn address(world: &mut World, card: &mut Data, index: i32) -> Result<(), VimFault> {
    let wanted = card.text("macAddress").filter(|mac| !mac.is_empty()).map(str::to_ascii_lowercase);
    let chosen = wanted.filter(|_| card.text("addressType").is_none_or(|kind| !kind.eq_ignore_ascii_case("generated")));
    let mac = match chosen {
        Some(mac) => {
            let parts: Vec<Option<u8>> =
                mac.split(':').map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
            let unicast = parts.first().copied().flatten().is_some_and(|first| first & 1 == 0);
            if parts.len() != 6 || parts.iter().any(Option::is_none) || !unicast {
                return Err(spec_fault("InvalidDeviceSpec", index, "its MAC address is not one"));
            }
            card.set("addressType", "manual");
            mac
        }
        None => {
            card.set("addressType", "generated");
            generated(world)
        }
    };
    card.set("macAddress", mac);
    card.set("wakeOnLanEnabled", card.boolean("wakeOnLanEnabled").unwrap_or(true));
    Ok(())
}

fn edit(world: &mut World, vm: &mut Vm, wanted: &Data, index: i32) -> Result<(), VimFault> {
    let key = wanted.int("key");
    let at = vm.devices.iter().position(|device| device.int("key") == key);
    let mut device = at.and_then(|at| vm.devices.get(at)).cloned();
    let (Some(at), Some(device)) = (at, device.as_mut()) else {
        return Err(spec_fault("DeviceNotFound", index, "there is no device of that key"));
    };
    if device.kind != wanted.kind && !schema().is_a(device.kind, wanted.kind) {
        return Err(spec_fault("InvalidDeviceSpec", index, format!("the device is a {}", device.kind)));
    }
    let own_mac = device.text("macAddress").map(str::to_owned);
    if device.kind == "VirtualDisk" {
        disks::edit(world, vm, device, wanted, index)?;
    }
    if device.kind == "VirtualCdrom" {
        drives::image(world, wanted, index)?;
    }
    for (name, value) in &wanted.fields {
        match *name {
            "key" | "controllerKey" | "unitNumber" | "deviceInfo" | "device" | "capacityInKB" | "capacityInBytes" => {}
            "backing" if device.kind == "VirtualDisk" => {}
            name => device.set(name, render::overlaid(device.get(name), value)),
        }
    }
    if schema().is_a(device.kind, "VirtualEthernetCard") {
        let name = Vm::network_of(device).unwrap_or_default().to_owned();
        if !world.networks().any(|own| own == name) {
            return Err(spec_fault("InvalidDeviceBacking", index, format!("there is no network '{name}'")));
        }
        device.set("backing", hardware::network_backing(&name));
        device.set(
            "deviceInfo",
            hardware::description(
                device.data("deviceInfo").and_then(|info| info.text("label")).unwrap_or_default(),
                name,
            ),
        );
        if device.text("macAddress").map(str::to_owned) != own_mac || own_mac.is_none() {
            if !vm.is_off() {
                return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
            }
            address(world, device, index)?;
        }
    }
    if device.kind == "VirtualCdrom" {
        let label = device.data("deviceInfo").and_then(|info| info.text("label")).unwrap_or_default().to_owned();
        let summary = drives::summary(device);
        device.set("deviceInfo", hardware::description(label, summary));
    }
    if let Some(place) = vm.devices.get_mut(at) {
        place.clone_from(device);
    }
    Ok(())
}

/// A MAC address that no machine has.
pub fn generated(world: &mut World) -> String {
    loop {
        world.file.next_mac = world.file.next_mac % 0xef_ffff + 1;
        let [_, a, b, c] = world.file.next_mac.to_be_bytes();
        let mac = format!("00:0c:29:{a:02x}:{b:02x}:{c:02x}");
        if !world.vms.values().any(|vm| vm.nics().any(|nic| nic.text("macAddress") == Some(&mac))) {
            return mac;
        }
    }
}
