//! Everything about one machine: its row in a list, its hardware, firmware, snapshots and extra configuration.
//!
//! Specification: vSphere Web Services API, `VirtualMachineConfigInfo`, `VirtualMachineSnapshotInfo`.

use std::collections::BTreeMap;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::hardware::{Disk, Hardware};
use super::host::Host;
use super::lookup::{VM_IDENTITY, names, with_datastores};
use super::object::Vm;
use super::port_group::{name_port_groups, with_networks};
use super::property::{Object, boolean};
use super::question::Question;
use super::snapshot::{SnapshotRow, tree};
use super::vm_list::{FULL, SYSTEM, VmRow, row};

/// One machine in full.
#[derive(Debug, Clone)]
pub struct VmInfo {
    pub row: VmRow,
    pub hardware: Hardware,
    pub firmware: Firmware,
    pub secure_boot: bool,
    /// Such as `vmx-19`.
    pub hardware_version: Option<String>,
    pub cores_per_socket: Option<u32>,
    /// Whether CPUs can be added while it runs.
    pub cpu_hot_add: bool,
    /// Whether memory can be added while it runs.
    pub memory_hot_add: bool,
    /// Its snapshots, parents before children.
    pub snapshots: Vec<SnapshotRow>,
    /// What it asks before it goes on.
    pub question: Option<Question>,
    /// The extra configuration, `guestinfo.*` among it.
    pub extra_config: BTreeMap<String, String>,
}

/// What starts a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Firmware {
    Bios,
    #[default]
    Efi,
    /// By its wire name.
    Other(String),
}

impl Firmware {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bios => "bios",
            Self::Efi => "efi",
            Self::Other(other) => other,
        }
    }
}

pub(super) const CONFIG: &[&str] = &[
    "config.version",
    "config.firmware",
    "config.bootOptions",
    "config.hardware.device",
    "config.hardware.numCoresPerSocket",
    "config.cpuHotAddEnabled",
    "config.memoryHotAddEnabled",
    "config.extraConfig",
    "runtime.question",
    "snapshot",
];

impl VmInfo {
    /// Whether deltas without a snapshot are there, by the host's word or by count.
    pub fn needs_consolidation(&self) -> bool {
        self.row.consolidation_needed || self.hardware.disks.iter().any(|disk| self.has_unowned_deltas(disk))
    }

    /// Whether this disk carries more deltas than the machine's snapshots account for.
    ///
    /// It is told by count, beside the host's own word. Where the tree has branches a disk may keep a delta that cannot be merged, and
    /// only the host knows.
    pub fn has_unowned_deltas(&self, disk: &Disk) -> bool {
        let owned = self.snapshots.iter().find(|row| row.current).map_or(0, |row| row.depth as usize + 1);
        self.snapshots.len() == owned && disk.deltas() > owned
    }
}

impl Host {
    /// Reads one machine in full, in one request.
    pub async fn vm_info(&self, vm: &Checked<Vm>) -> Result<VmInfo, Error> {
        let mut paths = [VM_IDENTITY, FULL, CONFIG].concat();
        let is_vcenter = self.is_vcenter();
        if is_vcenter {
            paths.push(SYSTEM);
        }
        let mut query = with_datastores(&vm.moref, paths);
        if is_vcenter {
            with_networks(&mut query);
        }
        let objects = self.link.retrieve(&query).await?;
        let object = objects.iter().find(|object| object.moref == vm.moref).ok_or_else(|| Error::NotFound {
            host: self.name().to_owned(),
            what: "virtual machine",
            name: vm.name.clone(),
            nearest: Vec::new(),
        })?;
        let mut info = read(object, super::lookup::vm(object, &names(&objects)));
        if is_vcenter {
            name_port_groups(&mut info.hardware, &objects);
            let now = &mut info.row.vm;
            // A path is what it is called for as long as it keeps its own name.
            if now.name == vm.own_name() {
                now.name.clone_from(&vm.name);
            }
            now.place.clone_from(&vm.place);
            if let Some(system) = object.reference(SYSTEM) {
                (info.row.system, info.row.cluster) = self.runs_on(&system).await?;
            }
        }
        Ok(info)
    }
}

fn read(object: &Object, identity: Vm) -> VmInfo {
    VmInfo {
        row: row(object, identity),
        hardware: object.get("config.hardware.device").map(Hardware::read).unwrap_or_default(),
        firmware: firmware(object),
        secure_boot: secure_boot(object),
        hardware_version: object.text("config.version").map(str::to_owned),
        cores_per_socket: object.number("config.hardware.numCoresPerSocket"),
        cpu_hot_add: object.flag("config.cpuHotAddEnabled").unwrap_or(false),
        memory_hot_add: object.flag("config.memoryHotAddEnabled").unwrap_or(false),
        snapshots: tree(object),
        question: object.get(super::question::PATH).and_then(Question::read),
        extra_config: extra_config(object),
    }
}

pub(super) fn firmware(object: &Object) -> Firmware {
    match object.text("config.firmware") {
        Some("efi") => Firmware::Efi,
        Some("bios") | None => Firmware::Bios,
        Some(other) => Firmware::Other(other.to_owned()),
    }
}

pub(super) fn secure_boot(object: &Object) -> bool {
    let options = object.get("config.bootOptions");
    options.and_then(|options| options.text_at("efiSecureBootEnabled")).and_then(boolean).unwrap_or(false)
}

pub(super) fn extra_config(object: &Object) -> BTreeMap<String, String> {
    let options = object.get("config.extraConfig").map(|list| list.children.as_slice()).unwrap_or_default();
    let pair = |option: &Element| Some((option.text_at("key")?.to_owned(), option.text_at("value")?.to_owned()));
    options.iter().filter_map(pair).collect()
}
