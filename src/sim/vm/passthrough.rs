//! PCI devices of the host in a machine: what a host wants to be so before it hands one through, and what such a machine cannot do.
//!
//! Specification: vSphere Web Services API, `VirtualPCIPassthrough`, `VirtualPCIPassthroughDeviceBackingInfo`; the refusals of a power-on
//! are those of ESXi's virtual machine monitor.

use super::devices::spec_fault;
use super::{Power, Vm};
use crate::sim::esx::pci;
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

pub const KIND: &str = "VirtualPCIPassthrough";
/// As many as a machine may have.
const MOST: usize = 16;

fn of(vm: &Vm) -> impl Iterator<Item = &Data> {
    vm.devices.iter().filter(|device| device.kind == KIND)
}

/// The place on the host's bus of a device of a machine.
fn place(device: &Data) -> &str {
    device.at("backing.id").and_then(Value::as_text).unwrap_or_default()
}

/// Checks a device that is to be added to a machine, and gives it its place.
pub fn add(world: &World, vm: &Vm, new: &mut Data, index: i32) -> Result<(), VimFault> {
    let wrong = |why: &str| Err(spec_fault("InvalidDeviceBacking", index, why));
    let backing = new.data("backing").filter(|backing| backing.kind == "VirtualPCIPassthroughDeviceBackingInfo");
    let Some(backing) = backing else { return wrong("a device is named by its place on the host's bus") };
    let Some(device) = pci::find(backing.text("id").unwrap_or_default()) else {
        return wrong("the host has no such PCI device");
    };
    // Clients write the number as hexadecimal digits, some with 0x before them.
    let number = backing.text("deviceId").unwrap_or_default().trim_start_matches("0x");
    let same = i32::from_str_radix(number, 16).ok() == Some(device.device) || number == device.device.to_string();
    if !same || backing.int("vendorId") != Some(device.vendor) || backing.text("systemId") != Some(&world.file.uuid) {
        return wrong("the host has another device at that place");
    }
    if !device.is_active(world) {
        return wrong(&format!("{} is not handed through by the host", device.id));
    }
    if of(vm).any(|own| place(own) == device.id) {
        return Err(spec_fault("InvalidDeviceSpec", index, "the machine has this device already"));
    }
    if of(vm).count() >= MOST {
        let fault = VimFault::new("TooManyDevices", "A machine has 16 passed-through devices at most.");
        return Err(fault.with("property", format!("virtualDeviceSpec[{index}]")));
    }
    let taken = |unit: i32| {
        vm.devices.iter().any(|own| own.int("controllerKey") == Some(100) && own.int("unitNumber") == Some(unit))
    };
    new.set("controllerKey", 100);
    new.set("unitNumber", (18..).find(|unit| !taken(*unit)).unwrap_or(18));
    Ok(())
}

/// What keeps a machine with such devices from being powered on.
pub fn check(world: &World, vm: &Vm) -> Result<(), VimFault> {
    if of(vm).next().is_none() {
        return Ok(());
    }
    let refused = |reason: String| {
        let message = format!("Module 'DevicePowerOn' power on failed. {reason}");
        Err(VimFault::new("GenericVmConfigFault", message.clone()).with("reason", message))
    };
    let reserved = vm.settings.at("memoryAllocation.reservation").and_then(|value| match value {
        Value::Long(reserved) => Some(*reserved),
        Value::Int(reserved) => Some(i64::from(*reserved)),
        _ => None,
    });
    let memory = vm.memory_mb;
    if reserved.unwrap_or(0) < i64::from(memory) {
        return refused(format!(
            "Invalid memory setting: memory reservation (sched.mem.min) should be equal to memsize ({memory})."
        ));
    }
    for device in of(vm) {
        let id = place(device);
        if !pci::find(id).is_some_and(|found| found.is_active(world)) {
            return refused(format!("Device {id} is not a passthrough device."));
        }
        let uses = |other: &&super::Vm| {
            other.id != vm.id && other.power != Power::Off && of(other).any(|own| place(own) == id)
        };
        if let Some(other) = world.vms.values().find(uses) {
            return refused(format!("Device {id} is in use by the virtual machine '{}'.", other.name));
        }
    }
    Ok(())
}

/// Refuses what would need to write down the state of a device that the host does not know.
pub fn check_state(vm: &Vm) -> Result<(), VimFault> {
    let Some(device) = of(vm).next() else { return Ok(()) };
    let label = device.at("deviceInfo.label").and_then(Value::as_text).unwrap_or("PCI device").to_owned();
    let cause =
        VimFault::new("DeviceNotSupported", format!("Device '{label}' is not supported.")).with("device", label);
    let message = "The virtual machine has a device that cannot be part of a snapshot of its memory.";
    Err(VimFault::new("SnapshotIncompatibleDeviceInVm", message).with("fault", cause.localized()))
}
