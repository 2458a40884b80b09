//! What operations tell of a machine: the fields of its handle, and its details.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::vm_configure::TAGS;
use crate::door::Pass;
use crate::door::object::{Connected, Fields, Given, Object, kind};
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;
use crate::redact::Untrusted;
use crate::units::Bytes;

/// What a machine's handle tells: a snapshot of the moment when it was given out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VmFields {
    /// Whether it runs.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: String,
    /// The guest's address: IPv4 before IPv6, never a link-local one; nil where it reports none.
    pub ip: Option<String>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// Whether the host says that its disks carry deltas that no snapshot owns: `vm:consolidate` merges them; nil where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consolidation_needed: Option<bool>,
    /// On a vCenter, its folder, such as `prod/web`; empty for the datacenter's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// On a vCenter, the host that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_on: Option<String>,
    /// On a vCenter, the cluster that it is in; nil where its host is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

impl Fields for VmFields {
    type Kind = kind::Vm;
}

/// Gives a handle for a row of a list.
pub fn give_row(pass: &Pass<'_>, host: &Arc<Connected>, row: esxi::VmRow) -> Result<Given<kind::Vm>, Fault> {
    let name = row.vm.name.clone();
    let fields = VmFields {
        power: row.power.as_str().to_owned(),
        ip: row.address,
        cpus: row.cpus,
        memory: row.memory,
        consolidation_needed: row.consolidation_needed.then_some(true),
        folder: row.vm.place.as_ref().and_then(|place| place.folder.clone()),
        runs_on: row.system,
        cluster: row.cluster,
    };
    pass.give(Object::Vm(host.clone(), row.vm), &name, &fields)
}

/// Reads a machine's row anew and gives its handle.
pub async fn give_vm(pass: &Pass<'_>, host: &Arc<Connected>, vm: &Checked<esxi::Vm>) -> Result<Given<kind::Vm>, Fault> {
    let info = host.client.vm_info(vm).await?;
    pass.same(host, vm, &info.row.vm, "read")?;
    give_row(pass, host, info.row)
}

/// All that is known of a machine.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VmInfo {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: String,
    /// The guest's address, as in its handle.
    pub ip: Option<String>,
    /// All addresses of the guest that are not link-local.
    pub addresses: Vec<String>,
    /// The name that the guest gives itself: its own words, escaped and cut, and nothing to decide by.
    pub guest_hostname: Option<Untrusted>,
    /// The state of VMware's tools in the guest.
    pub tools: Option<String>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// How many of them are one socket.
    pub cores_per_socket: Option<u32>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// Whether processors can be added while it runs.
    pub cpu_hot_add: bool,
    /// Whether memory can be added while it runs.
    pub memory_hot_add: bool,
    /// VMware's guest id, such as `debian12_64Guest`.
    pub guest: Option<String>,
    /// What it boots with.
    #[schemars(extend("enum" = ["bios", "efi"]))]
    pub firmware: String,
    /// Whether it boots what is signed, alone.
    pub secure_boot: bool,
    /// Hardware version, such as `vmx-21`.
    pub hardware: Option<String>,
    /// Its annotation.
    pub notes: Option<String>,
    /// Words to find it by, in the order of the alphabet.
    pub tags: Vec<String>,
    /// What tells it apart from every other machine of the host, whatever its name.
    pub instance_uuid: String,
    /// Its configuration file, such as `[datastore1] web-1/web-1.vmx`.
    pub path: String,
    /// The datastores that its files are on.
    pub datastores: Vec<String>,
    /// On a vCenter, its folder, such as `prod/web`; empty for the datacenter's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// On a vCenter, the host that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_on: Option<String>,
    /// On a vCenter, the cluster that it is in; nil where its host is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its disks, in the order of their controllers.
    pub disks: Vec<Disk>,
    /// Its network cards.
    pub nics: Vec<Nic>,
    /// Its CD-ROM drives.
    pub drives: Vec<Drive>,
    /// PCI devices of the host that it has.
    pub pci_devices: Vec<PciHeld>,
    /// The names of its snapshots, parents before children.
    pub snapshots: Vec<String>,
    /// Whether its disks carry deltas that no snapshot owns: `vm:consolidate` merges them.
    pub consolidation_needed: bool,
    /// What it asks before it goes on, where it asks something: `vm:question` tells the answers.
    pub question: Option<String>,
    /// Extra configuration, without `guestinfo.*`, passwords and keys; nil where there is none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_config: BTreeMap<String, String>,
}

/// A disk of a machine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmDisk")]
pub struct Disk {
    /// VMware's name for it, such as `Hard disk 1`.
    pub label: String,
    /// The size that the guest sees.
    pub size: Bytes,
    /// Whether it takes up only what was written; nil where the disk does not say: a snapshot's delta.
    pub thin: Option<bool>,
    /// What it hangs on: `pvscsi`, `lsilogic`, `lsilogic-sas`, `buslogic`, `sata`, `nvme`, `ide`.
    pub controller: Option<String>,
    /// The controller's number, from 0.
    pub bus: Option<i32>,
    /// The disk's number on its controller, from 0.
    pub unit: i32,
    /// Its descriptor file, such as `[datastore1] web-1/web-1.vmdk`.
    pub file: String,
    /// The disk that it builds on: what a snapshot froze, or the disk of a linked clone's parent; nil for one that stands alone.
    pub parent: Option<String>,
    /// Whether it carries deltas that no snapshot owns.
    pub unowned_deltas: bool,
}

/// A network card of a machine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmNic")]
pub struct Nic {
    /// VMware's name for it, such as `Network adapter 1`.
    pub label: String,
    /// Its model: `vmxnet3`, `e1000`, …
    pub r#type: String,
    /// Its MAC address.
    pub mac: Option<String>,
    /// The network that it is connected to; nil where that has no name on this host.
    pub network: Option<String>,
    /// Whether it is plugged in, or will be when the machine is turned on.
    pub connected: bool,
}

/// A CD-ROM drive of a machine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmDrive")]
pub struct Drive {
    /// VMware's name for it, such as `CD/DVD drive 1`.
    pub label: String,
    /// The image that is in it; nil where there is none.
    pub file: Option<String>,
    /// Whether it is plugged in, or will be when the machine is turned on.
    pub connected: bool,
}

/// A PCI device of the host that a machine has.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmPciDevice")]
pub struct PciHeld {
    /// VMware's name for it, such as `PCI device 0`.
    pub label: String,
    /// Its place on the host's bus, such as `0000:0c:00.0`; nil where the host chooses one of a kind.
    pub id: Option<String>,
}

impl From<esxi::PciHeld> for PciHeld {
    fn from(held: esxi::PciHeld) -> Self {
        Self { label: held.label, id: held.id }
    }
}

impl From<esxi::Drive> for Drive {
    fn from(drive: esxi::Drive) -> Self {
        Self { label: drive.label, file: drive.file, connected: drive.start_connected }
    }
}

impl From<esxi::Nic> for Nic {
    fn from(nic: esxi::Nic) -> Self {
        Self { label: nic.label, r#type: nic.kind, mac: nic.mac, network: nic.network, connected: nic.start_connected }
    }
}

impl Disk {
    /// A disk of the machine.
    pub fn of(info: &esxi::VmInfo, disk: &esxi::Disk) -> Self {
        let controller = info.hardware.controller_of(disk);
        Self {
            label: disk.label.clone(),
            size: disk.size,
            thin: disk.thin,
            controller: controller.map(|controller| controller.kind.as_str().to_owned()),
            bus: controller.map(|controller| controller.bus),
            unit: disk.unit,
            file: disk.file.clone(),
            parent: disk.parents.first().cloned(),
            unowned_deltas: info.has_unowned_deltas(disk),
        }
    }
}

impl From<esxi::VmInfo> for VmInfo {
    fn from(info: esxi::VmInfo) -> Self {
        let disks = info.hardware.disks.iter().map(|disk| Disk::of(&info, disk)).collect();
        let consolidation_needed = info.needs_consolidation();
        let tags = info.extra_config.get(TAGS).map_or("", String::as_str);
        let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        Self {
            name: info.row.vm.name,
            power: info.row.power.as_str().to_owned(),
            ip: info.row.address,
            addresses: info.row.addresses,
            guest_hostname: info.row.guest_hostname.as_deref().map(Untrusted::new),
            tools: info.row.tools,
            cpus: info.row.cpus,
            cores_per_socket: info.cores_per_socket,
            memory: info.row.memory,
            cpu_hot_add: info.cpu_hot_add,
            memory_hot_add: info.memory_hot_add,
            guest: info.row.guest_id,
            firmware: info.firmware.as_str().to_owned(),
            secure_boot: info.secure_boot,
            hardware: info.hardware_version,
            notes: info.row.notes,
            tags,
            instance_uuid: info.row.vm.instance_uuid,
            path: info.row.vm.path,
            datastores: info.row.vm.datastores,
            folder: info.row.vm.place.and_then(|place| place.folder),
            runs_on: info.row.system,
            cluster: info.row.cluster,
            disks,
            nics: info.hardware.nics.into_iter().map(Nic::from).collect(),
            drives: info.hardware.drives.into_iter().map(Drive::from).collect(),
            pci_devices: info.hardware.pci.into_iter().map(PciHeld::from).collect(),
            snapshots: info.snapshots.into_iter().map(|row| row.snapshot.name).collect(),
            consolidation_needed,
            question: info.question.map(|question| question.text),
            extra_config: public(info.extra_config),
        }
    }
}

/// Leaves out what is meant for the guest alone, and what opens something: reading a machine tells no secrets.
fn public(extra_config: BTreeMap<String, String>) -> BTreeMap<String, String> {
    extra_config.into_iter().filter(|(key, _)| !is_secret(key)).collect()
}

/// `machine.id` is told to the guest like `guestinfo.*`; passwords of consoles and keys of encrypted machines lie among the rest.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words =
        ["password", "passwd", "passphrase", "secret", "token", "credential", "vnc.key", "keysafe", "datafilekey"];
    key.starts_with("guestinfo.") || key == "machine.id" || words.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_configuration_is_told_without_secrets() {
        for (key, told) in [
            ("disk.EnableUUID", true),
            ("svga.present", true),
            ("guestinfo.userdata", false),
            ("GuestInfo.x", false),
            ("machine.id", false),
            ("RemoteDisplay.vnc.password", false),
            ("RemoteDisplay.vnc.key", false),
            ("encryption.keySafe", false),
            ("dataFileKey", false),
        ] {
            let given = BTreeMap::from([(key.to_owned(), "x".to_owned())]);
            assert_eq!(!public(given).is_empty(), told, "{key}");
        }
    }
}
