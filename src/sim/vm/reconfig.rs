//! `ReconfigVM_Task` and the like: a spec is applied to a copy of the machine, and the copy put back only when all of it fits.
//!
//! Disks are files: what a spec makes is taken back when a later part of it is refused, what it destroys goes only at the end.

use std::path::PathBuf;

use super::create::check_name;
use super::power::keep;
use super::{Power, Vm, devices, render, tracking};
use crate::sim::call::{Answer, Call};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, vmdk};
use crate::sim::esx;
use crate::sim::fault::VimFault;
use crate::sim::task;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// Fields of a spec that stand under the same name in `VirtualMachineConfigInfo`.
const SETTINGS: &[&str] = &[
    "alternateGuestName",
    "bootOptions",
    "changeTrackingEnabled",
    "consolePreferences",
    "cpuAffinity",
    "cpuAllocation",
    "cpuHotAddEnabled",
    "cpuHotRemoveEnabled",
    "flags",
    "guestAutoLockEnabled",
    "latencySensitivity",
    "locationId",
    "managedBy",
    "maxMksConnections",
    "memoryAffinity",
    "memoryAllocation",
    "memoryHotAddEnabled",
    "memoryReservationLockedToMax",
    "messageBusTunnelEnabled",
    "nestedHVEnabled",
    "rebootPowerOff",
    "swapPlacement",
    "tools",
    "vAssertsEnabled",
    "vPMCEnabled",
];

/// The most that `extraConfig` may hold for one machine.
const LARGEST_EXTRA: usize = 4 << 20;

/// What was made and must go again when the spec fails, and what goes once it has succeeded.
#[derive(Debug, Default)]
pub struct Undo {
    pub(super) made: Vec<PathBuf>,
    pub(super) doomed: Vec<DatastorePath>,
    /// The keys below zero that the client gave to new devices, and the keys that they got.
    pub(super) aliases: Vec<(i32, i32)>,
}

impl Undo {
    /// Removes the disks that were made.
    pub fn roll_back(&self) {
        for disk in &self.made {
            if let Err(error) = vmdk::remove(disk) {
                tracing::warn!(%error, disk = %disk.display(), "a disk of a refused change is still there");
            }
        }
    }

    /// Removes the disks that the spec destroys.
    fn complete(self, world: &World) -> Result<(), VimFault> {
        for path in self.doomed {
            let at = world.datastore.resolve(&path)?;
            vmdk::remove(&at).map_err(|error| datastore::disk_fault(&path, &error))?;
        }
        Ok(())
    }
}

pub fn reconfigure(world: &mut World, call: &Call) -> Answer {
    let object = call.this.clone();
    world.vm(&object)?;
    if let Some(task) = world.tasks.running_on(&object) {
        return Err(VimFault::task_in_progress(task));
    }
    let spec = call.data("spec")?.clone();
    task::change(world, call, &object.clone(), move |_, world| {
        let mut vm = world.vm(&object)?.clone();
        if spec
            .text("changeVersion")
            .is_some_and(|version| !version.is_empty() && version != vm.change_version.to_string())
        {
            return Err(VimFault::new("ConcurrentAccess", "The machine was changed by somebody else meanwhile."));
        }
        datastore::materialise(world, &vm.folder())?;
        let undo = apply(world, &mut vm, &spec)?;
        if let Err(fault) = keep(world, vm) {
            undo.roll_back();
            return Err(fault);
        }
        undo.complete(world)?;
        Ok(None)
    })
}

/// `UpgradeVM_Task`: a newer hardware version, for a machine that is off.
pub fn upgrade(world: &mut World, call: &Call) -> Answer {
    let object = call.this.clone();
    world.vm(&object)?;
    let version = call.args.text("version").filter(|version| !version.is_empty()).unwrap_or("vmx-21").to_owned();
    task::change(world, call, &object.clone(), move |_, world| {
        let mut vm = world.vm(&object)?.clone();
        if !vm.is_off() {
            return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
        }
        if vm.version == version {
            return Err(VimFault::new("AlreadyUpgraded", "The machine has this hardware version already."));
        }
        let spec = Data::new("VirtualMachineConfigSpec").with("version", version);
        datastore::materialise(world, &vm.folder())?;
        apply(world, &mut vm, &spec)?;
        keep(world, vm)?;
        Ok(None)
    })
}

pub fn rename(world: &mut World, call: &Call) -> Answer {
    let object = call.this.clone();
    world.vm(&object)?;
    let name = call.text("newName")?.to_owned();
    task::change(world, call, &object.clone(), move |_, world| {
        let mut vm = world.vm(&object)?.clone();
        check_name(world, &name, Some(vm.id))?;
        datastore::materialise(world, &vm.folder())?;
        vm.name = name;
        keep(world, vm)?;
        world.touch_topology();
        Ok(None)
    })
}

/// Applies a spec to a machine that is not yet in the world, or to a copy of one that is.
pub fn apply(world: &mut World, vm: &mut Vm, spec: &Data) -> Result<Undo, VimFault> {
    identity(world, vm, spec)?;
    capacity(vm, spec)?;
    for change in spec.datas("extraConfig") {
        extra(vm, change)?;
    }
    if vm.extra.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LARGEST_EXTRA {
        return Err(VimFault::invalid_argument("extraConfig", "it holds too much"));
    }
    for name in SETTINGS {
        if let Some(value) = spec.get(name) {
            let merged = render::overlaid(vm.settings.get(name), value);
            vm.settings.set(name, merged);
        }
    }
    if vm.settings.boolean("memoryReservationLockedToMax") == Some(true) {
        let whole = Data::new("ResourceAllocationInfo").with("reservation", i64::from(vm.memory_mb));
        let merged = render::overlaid(vm.settings.get("memoryAllocation"), &whole.into());
        vm.settings.set("memoryAllocation", merged);
    }
    if let Some(operations) = spec.get("powerOpInfo") {
        vm.settings.set("defaultPowerOps", operations.clone());
    }
    let mut undo = Undo::default();
    for (index, change) in (0..).zip(spec.datas("deviceChange")) {
        if let Err(fault) = devices::change(world, vm, change, index, &mut undo) {
            undo.roll_back();
            return Err(fault);
        }
    }
    // Of a running machine a wish to track changes is met at its next stun.
    let tracks = spec.boolean("changeTrackingEnabled");
    if (tracks == Some(true) && vm.is_off()) || tracks == Some(false) {
        tracking::settle(world, vm)?;
    }
    Ok(undo)
}

fn identity(world: &World, vm: &mut Vm, spec: &Data) -> Result<(), VimFault> {
    if let Some(name) = spec.text("name").filter(|name| !name.is_empty()) {
        check_name(world, name, Some(vm.id))?;
        name.clone_into(&mut vm.name);
    }
    let off = vm.is_off();
    let stopped = |what: &'static str| match off {
        true => Ok(()),
        false => Err(VimFault::invalid_power_state(Some("poweredOff"), "poweredOn"))
            .map_err(|fault: VimFault| VimFault { message: format!("{} ({what})", fault.message), ..fault }),
    };
    if let Some(guest) = spec.text("guestId").filter(|guest| !guest.is_empty()) {
        stopped("guestId")?;
        if !esx::guests::known(guest) {
            let shown: String = guest.chars().take(80).collect();
            let fault = VimFault::invalid_argument("configSpec.guestId", format!("{shown:?} is not a guest id"));
            return Err(fault);
        }
        guest.clone_into(&mut vm.guest_id);
    }
    if let Some(firmware) = spec.text("firmware") {
        stopped("firmware")?;
        if !matches!(firmware, "bios" | "efi") {
            return Err(VimFault::invalid_argument("configSpec.firmware", "it is bios or efi"));
        }
        firmware.clone_into(&mut vm.firmware);
    }
    if let Some(version) = spec.text("version").filter(|version| !version.is_empty()) {
        let known = version.strip_prefix("vmx-").and_then(|number| number.parse::<u32>().ok());
        if !known.is_some_and(|number| (4..=21).contains(&number)) {
            return Err(VimFault::invalid_argument("configSpec.version", "it is vmx-04 to vmx-21"));
        }
        version.clone_into(&mut vm.version);
    }
    for (name, place) in [("uuid", &mut vm.uuid), ("instanceUuid", &mut vm.instance_uuid)] {
        if let Some(text) = spec.text(name).filter(|text| !text.is_empty()) {
            let uuid = uuid::Uuid::try_parse(text);
            *place = uuid.map_err(|_| VimFault::invalid_argument(name, "it is not a UUID"))?.to_string();
        }
    }
    if let Some(annotation) = spec.text("annotation") {
        annotation.clone_into(&mut vm.annotation);
    }
    Ok(())
}

fn capacity(vm: &mut Vm, spec: &Data) -> Result<(), VimFault> {
    let hot = |name: &str| vm.settings.boolean(name) == Some(true);
    let running = vm.power != Power::Off;
    let refused = || VimFault::invalid_power_state(Some("poweredOff"), vm.power.name());
    if let Some(cpus) = spec.int("numCPUs").filter(|cpus| *cpus != vm.cpus) {
        if !(1..=768).contains(&cpus) {
            return Err(VimFault::invalid_argument("configSpec.numCPUs", "it is 1 to 768"));
        }
        if running && !(hot("cpuHotAddEnabled") && cpus > vm.cpus) {
            return Err(refused());
        }
        vm.cpus = cpus;
    }
    if let Some(cores) = spec.int("numCoresPerSocket").filter(|cores| *cores > 0 && *cores != vm.cores_per_socket) {
        if vm.power != Power::Off {
            return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
        }
        vm.cores_per_socket = cores;
    }
    if vm.cores_per_socket > vm.cpus || vm.cpus % vm.cores_per_socket != 0 {
        match spec.get("numCoresPerSocket") {
            Some(_) => {
                return Err(VimFault::invalid_argument(
                    "configSpec.numCoresPerSocket",
                    "the CPUs must be a multiple of it",
                ));
            }
            None => vm.cores_per_socket = 1,
        }
    }
    if let Some(memory) = spec.number("memoryMB").filter(|memory| *memory != i64::from(vm.memory_mb)) {
        let fits = i32::try_from(memory).ok().filter(|memory| (4..=25_165_824).contains(memory) && memory % 4 == 0);
        let memory = fits
            .ok_or_else(|| VimFault::invalid_argument("configSpec.memoryMB", "it is 4 to 25165824, a multiple of 4"))?;
        let hot = vm.settings.boolean("memoryHotAddEnabled") == Some(true);
        if vm.power != Power::Off && !(hot && memory > vm.memory_mb) {
            return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
        }
        vm.memory_mb = memory;
    }
    Ok(())
}

fn extra(vm: &mut Vm, change: &Data) -> Result<(), VimFault> {
    let key = change.text("key").unwrap_or_default();
    if key.is_empty() || key.contains(['=', '"']) || key.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(VimFault::invalid_argument(
            "extraConfig.key",
            "it has 1 or more characters, none of them blank, '=' or '\"'",
        ));
    }
    let value = match change.get("value") {
        None => String::new(),
        Some(Value::Text(text)) => text.to_string(),
        Some(Value::Bool(value)) => value.to_string().to_uppercase(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Long(number)) => number.to_string(),
        Some(Value::Double(number)) => number.to_string(),
        Some(_) => return Err(VimFault::invalid_argument("extraConfig.value", "it is text or a number")),
    };
    vm.set_extra(key, &value);
    Ok(())
}
