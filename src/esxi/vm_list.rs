//! All virtual machines of a host as rows, in one request.
//!
//! Specification: vSphere Web Services API, `VirtualMachine`, `VirtualMachineSummary`, `GuestInfo`.

use std::time::Duration;

use crate::units::Bytes;
use crate::xml::Element;

use super::address::{preferred, usable};
use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::lookup::{VM_IDENTITY, add_tree, is_vm, names, tell_apart, vm};
use super::object::{HostObject, Vm};
use super::places::Reach;
use super::placing::host_and_cluster;
use super::property::Object;
use super::tree::IN_TREE;

/// How much of each machine is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Name, instance UUID, power state, CPUs, memory and one address: an answer of about 1 KB a machine. The machines' paths and
    /// datastores are empty; whoever changes a machine looks its identity up anew.
    #[default]
    Lean,
    /// Every field of [`VmRow`].
    Full,
}

/// Whether a machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerState {
    On,
    Off,
    Suspended,
    /// A state that is not known, by its wire name; empty where the host gives none.
    Other(String),
}

impl PowerState {
    pub(super) fn read(text: &str) -> Self {
        match text.trim() {
            "poweredOn" => Self::On,
            "poweredOff" => Self::Off,
            "suspended" => Self::Suspended,
            other => Self::Other(other.to_owned()),
        }
    }

    /// `on`, `off`, `suspended`, or the wire name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Suspended => "suspended",
            Self::Other(other) if other.is_empty() => "unknown",
            Self::Other(other) => other,
        }
    }
}

/// One machine of a list.
#[derive(Debug, Clone)]
pub struct VmRow {
    pub vm: Vm,
    pub power: PowerState,
    pub cpus: Option<u32>,
    pub memory: Option<Bytes>,
    /// The address to reach the guest at: IPv4 before IPv6, never a link-local one.
    pub address: Option<String>,
    /// All addresses of the guest that are not link-local.
    pub addresses: Vec<String>,
    pub guest_hostname: Option<String>,
    /// Such as `debian12_64Guest`.
    pub guest_id: Option<String>,
    /// Such as `Debian GNU/Linux 12 (64-bit)`.
    pub guest_name: Option<String>,
    /// `guestToolsRunning`, `guestToolsNotRunning`, `guestToolsExecutingScripts`.
    pub tools: Option<String>,
    pub notes: Option<String>,
    pub uptime: Option<Duration>,
    /// What the machine takes on its datastores.
    pub committed: Option<Bytes>,
    /// A vCenter's template; a standalone host has none.
    pub template: bool,
    /// `connected` for a machine in order; else why it cannot be used, such as `inaccessible`.
    pub connection: Option<String>,
    /// Whether the host says that deltas without a snapshot are there.
    pub consolidation_needed: bool,
    /// On a vCenter, the host that it is on, and that one's cluster.
    pub system: Option<String>,
    pub cluster: Option<String>,
}

/// What tells machines apart and what a list shows. Where its files lie costs a host as much again as all of this.
const LEAN: &[&str] = &[
    "name",
    "config.instanceUuid",
    "runtime.powerState",
    "guest.ipAddress",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    CONSOLIDATION,
];

/// Whether the host says that deltas without a snapshot are there.
const CONSOLIDATION: &str = "runtime.consolidationNeeded";

pub(super) const FULL: &[&str] = &[
    "runtime.powerState",
    "runtime.connectionState",
    CONSOLIDATION,
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.guestId",
    "config.annotation",
    "config.template",
    "summary.config.guestFullName",
    "summary.storage.committed",
    "summary.quickStats.uptimeSeconds",
    "guest.ipAddress",
    "guest.hostName",
    "guest.net",
    "guest.toolsRunningStatus",
];

/// Where a machine is, on a vCenter.
pub(super) const SYSTEM: &str = "runtime.host";

impl Host {
    /// Lists every virtual machine. One request for each page; what a caller may not see is the door's to leave out.
    pub async fn list_vms(&self, _host: &Checked<HostObject>, detail: Detail) -> Result<Vec<VmRow>, Error> {
        let (mut reach, mut properties) = match detail {
            Detail::Lean => (vec![Reach::Vms], vec![("VirtualMachine", LEAN.to_vec())]),
            Detail::Full => {
                let properties = vec![("VirtualMachine", [VM_IDENTITY, FULL].concat()), ("Datastore", vec!["name"])];
                (vec![Reach::Vms, Reach::Datastores], properties)
            }
        };
        if self.is_vcenter() {
            reach.push(Reach::Hosts);
            add_tree(&mut properties);
            properties
                .iter_mut()
                .filter(|(kind, _)| *kind == "VirtualMachine")
                .for_each(|(_, paths)| paths.push(SYSTEM));
            properties.extend([("HostSystem", IN_TREE.to_vec()), ("ClusterComputeResource", vec!["name"])]);
        }
        let objects = self.link.retrieve(&self.link.everything(&reach, properties)).await?;
        let datastores = names(&objects);
        let machines = objects.iter().filter(|object| is_vm(object));
        let mut rows: Vec<VmRow> = machines.map(|object| row(object, vm(object, &datastores))).collect();
        if self.is_vcenter() {
            tell_apart(&objects, rows.iter_mut().map(|row| &mut row.vm));
            let systems = objects.iter().filter(|object| is_vm(object)).map(|object| object.reference(SYSTEM));
            for (row, system) in rows.iter_mut().zip(systems) {
                (row.system, row.cluster) = host_and_cluster(&objects, system.as_ref());
            }
        }
        Ok(rows)
    }
}

pub(super) fn row(object: &Object, vm: Vm) -> VmRow {
    let net = object.get("guest.net");
    let addresses = usable(net, object.text("guest.ipAddress"));
    VmRow {
        vm,
        power: PowerState::read(object.text("runtime.powerState").unwrap_or_default()),
        cpus: object.number("config.hardware.numCPU"),
        memory: object.number::<u64>("config.hardware.memoryMB").map(mebibytes),
        address: preferred(&addresses).map(|address| address.to_string()),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        guest_hostname: object.text("guest.hostName").map(str::to_owned),
        guest_id: object.text("config.guestId").map(str::to_owned),
        guest_name: object.text("summary.config.guestFullName").map(str::to_owned),
        tools: object.text("guest.toolsRunningStatus").map(str::to_owned),
        notes: object.text("config.annotation").map(str::to_owned),
        uptime: object.number("summary.quickStats.uptimeSeconds").filter(|s| *s > 0).map(Duration::from_secs),
        committed: object.number("summary.storage.committed").map(Bytes),
        template: object.flag("config.template").unwrap_or(false),
        connection: object.text("runtime.connectionState").map(str::to_owned),
        consolidation_needed: object.flag(CONSOLIDATION).unwrap_or(false),
        system: None,
        cluster: None,
    }
}

pub(super) fn mebibytes(number: u64) -> Bytes {
    Bytes(number.saturating_mul(1 << 20))
}

/// The text of a child, where it is not empty.
pub(super) fn text(element: &Element, path: &str) -> Option<String> {
    element.text_at(path).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}
