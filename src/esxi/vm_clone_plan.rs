//! What a clone is made by: a template, or what a snapshot has frozen, read as far as its copy needs it, and the configuration of the copy.
//!
//! It asks the host nothing and makes nothing.

use crate::units::Bytes;
use crate::xml::Element;

use super::config_spec::{ConfigSpec, pairs};
use super::error::Error;
use super::files::split;
use super::happened::NewestEvent;
use super::hardware::{Controller, ControllerKind, Disk, Hardware, NewDevice};
use super::making::Making;
use super::moref::MoRef;
use super::object::NewVm;
use super::property::Object;
use super::vm_clone::CloneSpec;
use super::vm_info::{Firmware, extra_config, firmware, secure_boot};
use super::vm_list::PowerState;

/// Extra configuration that belongs to what the machine is rather than to what it was used for.
const KEPT_KEYS: &[&str] = &["disk.EnableUUID"];

/// A template as far as its clone needs it.
pub(super) struct Plan {
    pub power: PowerState,
    pub hardware: Hardware,
    /// What each of its network cards is to be connected to.
    pub backings: Vec<Element>,
    pub firmware: Firmware,
    secure_boot: bool,
    version: Option<String>,
    guest_id: Option<String>,
    notes: Option<String>,
    cpus: Option<u32>,
    cores_per_socket: Option<u32>,
    memory: Option<Bytes>,
    kept: Vec<(String, String)>,
    /// The keys of its extra configuration.
    pub keys: Vec<String>,
    /// On a vCenter: its folder, its current snapshot, and whether it is marked as a template.
    pub folder: Option<MoRef>,
    pub snapshot: Option<MoRef>,
    pub marked: bool,
    /// The file of the firmware's variables, and whether a machine that may run holds it.
    pub nvram: Option<String>,
    pub held: bool,
    /// Bytes that the copies take at least.
    pub needed: u64,
    /// What the host's newest event was before all of this was read.
    pub newest_event: Option<NewestEvent>,
}

/// The file of a machine's firmware variables, and its size.
pub(super) fn nvram(machine: &Object) -> Option<(String, u64)> {
    let files = machine.get("layoutEx.file").map(|list| list.children.as_slice()).unwrap_or_default();
    let file = files.iter().find(|file| file.text_at("type").map(str::trim) == Some("nvram"))?;
    let path = file.text_at("name").filter(|path| split(path).is_some())?;
    let size = file.text_at("size").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Some((path.to_owned(), size))
}

/// The bytes that a copy of a disk takes: all of it where it is not thin, else what its own extents hold, deltas and base together, and no
/// more than its size. Nothing where the host does not tell.
fn copied(machine: &Object, disk: &Disk) -> u64 {
    if disk.thin == Some(false) {
        return disk.size.0;
    }
    let list = |path| machine.get(path).map(|list| list.children.as_slice()).unwrap_or_default();
    let number = |element: &Element, path: &str| element.text_at(path).and_then(|text| text.trim().parse::<i64>().ok());
    let chain = list("layoutEx.disk").iter().find(|entry| number(entry, "key") == Some(disk.key.into()));
    let units = chain.into_iter().flat_map(|entry| entry.all("chain"));
    let keys: Vec<&str> = units.flat_map(|unit| unit.all("fileKey")).map(|key| key.text.trim()).collect();
    let extents = list("layoutEx.file").iter().filter(|file| {
        file.text_at("type").map(str::trim) == Some("diskExtent")
            && file.text_at("key").is_some_and(|key| keys.contains(&key.trim()))
    });
    let sizes = extents.filter_map(|file| number(file, "size")).filter_map(|size| u64::try_from(size).ok());
    sizes.fold(0, u64::saturating_add).min(disk.size.0)
}

impl Plan {
    pub(super) fn read(object: &Object) -> Self {
        let hardware = object.get("config.hardware.device").map(Hardware::read).unwrap_or_default();
        let firmware = firmware(object);
        let nvram = nvram(object);
        let disks = hardware.disks.iter().map(|disk| copied(object, disk)).fold(0, u64::saturating_add);
        let needed = disks.saturating_add(nvram.as_ref().map_or(0, |(_, size)| *size));
        let config = extra_config(object);
        Self {
            power: PowerState::read(object.text("runtime.powerState").unwrap_or_default()),
            firmware,
            secure_boot: secure_boot(object),
            version: object.text("config.version").map(str::to_owned),
            guest_id: object.text("config.guestId").map(str::to_owned),
            notes: object.text("config.annotation").map(str::to_owned),
            cpus: object.number("config.hardware.numCPU"),
            cores_per_socket: object.number("config.hardware.numCoresPerSocket"),
            memory: object.number("config.hardware.memoryMB").map(super::vm_list::mebibytes),
            keys: config.keys().cloned().collect(),
            folder: None,
            snapshot: None,
            marked: false,
            backings: Vec::new(),
            kept: config
                .into_iter()
                .filter(|(key, _)| KEPT_KEYS.iter().any(|kept| key.eq_ignore_ascii_case(kept)))
                .collect(),
            nvram: nvram.map(|(path, _)| path),
            held: false,
            needed,
            newest_event: None,
            hardware,
        }
    }

    pub(super) fn config<'a>(
        &'a self,
        making: &Making<'_>,
        new: &'a NewVm,
        spec: &'a CloneSpec<'_>,
        vmx: &'a str,
    ) -> Result<ConfigSpec<'a>, Error> {
        let mut config: Vec<(&str, &str)> =
            self.kept.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        config.extend(pairs(&spec.extra_config)?);
        // An odd number of CPUs cannot keep the template's sockets.
        let cpus = spec.cpus.or(self.cpus);
        let cores = self.cores_per_socket.filter(|cores| *cores > 0 && cpus.is_some_and(|cpus| cpus % cores == 0));
        Ok(ConfigSpec {
            name: Some(&new.name),
            version: self.version.as_deref(),
            guest_id: self.guest_id.as_deref(),
            notes: spec.notes.as_deref().or(self.notes.as_deref()),
            path: Some(vmx),
            cpus,
            cores_per_socket: cores,
            memory: spec.memory.or(self.memory),
            devices: self.devices(making, spec)?,
            extra_config: config,
            secure_boot: self.secure_boot.then_some(true),
            firmware: Some(self.firmware.as_str()),
            ..ConfigSpec::default()
        })
    }

    /// Reads where the machine is on a vCenter.
    pub(super) fn place(&mut self, machine: &Object) {
        self.folder = machine.reference("parent").filter(|parent| parent.kind == "Folder");
        self.snapshot = machine.get("snapshot").and_then(|tree| tree.child("currentSnapshot")).and_then(MoRef::read);
        self.marked = machine.flag("config.template").unwrap_or(false);
    }

    /// How many of so many processors are one socket: as many as in the template, or one where that does not come out even.
    pub(super) fn cores_for(&self, cpus: u32) -> Option<u32> {
        self.cores_per_socket.map(|cores| if cores > 0 && cpus.is_multiple_of(cores) { cores } else { 1 })
    }

    fn devices(&self, making: &Making<'_>, spec: &CloneSpec<'_>) -> Result<Vec<Element>, Error> {
        let mut devices = Vec::new();
        let used =
            |controller: &&Controller| self.hardware.disks.iter().any(|disk| disk.controller_key == controller.key);
        let used: Vec<&Controller> = self.hardware.controllers.iter().filter(used).collect();
        // The IDE controllers 200 and 201 are part of every machine; all others are made, under keys of ours.
        let key_of = |index: usize, controller: &Controller| match controller.kind {
            ControllerKind::Ide => controller.key,
            _ => -1 - i32::try_from(index).unwrap_or(i32::MAX - 1),
        };
        for (index, controller) in
            used.iter().enumerate().filter(|(_, controller)| controller.kind != ControllerKind::Ide)
        {
            let Controller { kind, bus, sharing, .. } = controller;
            let key = key_of(index, controller);
            devices.push(NewDevice::Controller { key, kind, bus: *bus, sharing: sharing.as_deref() }.element());
        }
        for (index, disk) in self.hardware.disks.iter().enumerate() {
            let Some(at) = used.iter().position(|controller| controller.key == disk.controller_key) else { continue };
            let Some(controller) = used.get(at).map(|controller| key_of(at, controller)) else { continue };
            let file = making.disk_path(index);
            let key = -1000 - i32::try_from(index).unwrap_or_default();
            if spec.linked {
                let datastore = making.datastore();
                devices
                    .push(NewDevice::ChildDisk { key, datastore, parent: disk, controller, unit: disk.unit }.element());
                continue;
            }
            let mode = if disk.mode.is_empty() { "persistent" } else { &disk.mode };
            let disk = NewDevice::OldDisk { key, file: &file, size: disk.size, mode, controller, unit: disk.unit };
            devices.push(disk.element());
        }
        for (key, (nic, backing)) in (-3000..).zip(self.hardware.nics.iter().zip(&self.backings)) {
            let start_connected = nic.start_connected;
            devices.push(NewDevice::Nic { key, kind: &nic.kind, backing, start_connected }.element());
        }
        Ok(devices)
    }
}
