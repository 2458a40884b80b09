//! The virtual devices of a machine: read as typed values, and written again for a new machine.
//!
//! Devices that are not known are kept by their wire name and never copied in silence.
//! Specification: vSphere Web Services API, `VirtualDevice` and its descendants, `VirtualDeviceConfigSpec`.

use crate::units::Bytes;
use crate::xml::Element;

use super::property::boolean;
use super::vm_list::text;

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub key: i32,
    /// Such as `Hard disk 1`.
    pub label: String,
    pub size: Bytes,
    /// `None` where the backing does not say (a delta of a snapshot).
    pub thin: Option<bool>,
    /// Zeroed when it was made.
    pub eager: bool,
    /// The descriptor, such as `[datastore1] web-1/web-1.vmdk`.
    pub file: String,
    /// `persistent`, `independent_persistent` or another mode by its wire name.
    pub mode: String,
    /// The type of the backing, such as `VirtualDiskFlatVer2BackingInfo`.
    pub backing: String,
    /// What it builds on, down to its base: a snapshot's frozen disks, a linked clone's parent. Empty for a disk of its own.
    pub parents: Vec<String>,
    pub controller_key: i32,
    pub unit: i32,
}

/// What kind of controller disks hang on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ControllerKind {
    #[default]
    Pvscsi,
    LsiLogic,
    LsiLogicSas,
    BusLogic,
    Sata,
    Nvme,
    Ide,
    /// By its wire name.
    Other(String),
}

impl ControllerKind {
    fn read(wire: &str) -> Self {
        match wire {
            "ParaVirtualSCSIController" => Self::Pvscsi,
            "VirtualLsiLogicController" => Self::LsiLogic,
            "VirtualLsiLogicSASController" => Self::LsiLogicSas,
            "VirtualBusLogicController" => Self::BusLogic,
            "VirtualAHCIController" => Self::Sata,
            "VirtualNVMEController" => Self::Nvme,
            "VirtualIDEController" => Self::Ide,
            other => Self::Other(other.to_owned()),
        }
    }

    fn wire_name(&self) -> &str {
        match self {
            Self::Pvscsi => "ParaVirtualSCSIController",
            Self::LsiLogic => "VirtualLsiLogicController",
            Self::LsiLogicSas => "VirtualLsiLogicSASController",
            Self::BusLogic => "VirtualBusLogicController",
            Self::Sata => "VirtualAHCIController",
            Self::Nvme => "VirtualNVMEController",
            Self::Ide => "VirtualIDEController",
            Self::Other(other) => other,
        }
    }

    pub(super) fn is_scsi(&self) -> bool {
        matches!(self, Self::Pvscsi | Self::LsiLogic | Self::LsiLogicSas | Self::BusLogic)
    }

    /// What a disk's descriptor says of its adapter; SCSI, SATA and NVMe disks all say `lsiLogic`.
    pub(super) fn adapter_type(&self) -> &'static str {
        match self {
            Self::BusLogic => "busLogic",
            Self::Ide => "ide",
            _ => "lsiLogic",
        }
    }

    /// `pvscsi`, `lsilogic`, `lsilogic-sas`, `buslogic`, `sata`, `nvme`, `ide`, or the wire name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pvscsi => "pvscsi",
            Self::LsiLogic => "lsilogic",
            Self::LsiLogicSas => "lsilogic-sas",
            Self::BusLogic => "buslogic",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
            Self::Ide => "ide",
            Self::Other(other) => other,
        }
    }
}

/// A controller of disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    pub key: i32,
    pub kind: ControllerKind,
    pub bus: i32,
    /// How a SCSI bus is shared, such as `noSharing`.
    pub sharing: Option<String>,
}

/// A network card of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub key: i32,
    pub label: String,
    /// `vmxnet3`, `e1000e`, `e1000`, `pcnet32`, `vmxnet2`, or the wire name.
    pub kind: String,
    pub mac: Option<String>,
    /// The name of its network; `None` where that is not known.
    pub network: Option<String>,
    /// The key of its port group, where that is one of a vCenter's distributed switch.
    pub port_group: Option<String>,
    pub connected: bool,
    pub start_connected: bool,
}

const NICS: &[(&str, &str)] = &[
    ("VirtualVmxnet3", "vmxnet3"),
    ("VirtualE1000e", "e1000e"),
    ("VirtualE1000", "e1000"),
    ("VirtualPCNet32", "pcnet32"),
    ("VirtualVmxnet2", "vmxnet2"),
];

/// A CD-ROM drive of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    pub key: i32,
    pub label: String,
    /// The image that is in it, such as `[datastore1] isos/debian.iso`; `None` for none, or for a drive of somebody's computer.
    pub file: Option<String>,
    pub connected: bool,
    pub start_connected: bool,
}

/// A PCI device of the host that a machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciHeld {
    pub key: i32,
    /// Such as `PCI device 0`.
    pub label: String,
    /// Its place on the host's bus; `None` where the host chooses one of a kind.
    pub id: Option<String>,
}

/// The devices of a machine that this client knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    pub disks: Vec<Disk>,
    pub controllers: Vec<Controller>,
    pub nics: Vec<Nic>,
    pub drives: Vec<Drive>,
    /// PCI devices of the host.
    pub pci: Vec<PciHeld>,
    /// All other devices by their wire names.
    pub others: Vec<String>,
}

impl Hardware {
    /// Reads `config.hardware.device`.
    pub(super) fn read(devices: &Element) -> Self {
        Self::of(&devices.children)
    }

    pub(super) fn of(devices: &[Element]) -> Self {
        let mut hardware = Self::default();
        for device in devices {
            let wire = device.xsi_type.as_deref().unwrap_or_default();
            let number = |path: &str| device.text_at(path).and_then(|text| text.trim().parse::<i32>().ok());
            let key = number("key").unwrap_or_default();
            if wire == "VirtualDisk" {
                hardware.disks.push(disk(device, key));
            } else if device.child("busNumber").is_some() && wire.ends_with("Controller") {
                hardware.controllers.push(Controller {
                    key,
                    kind: ControllerKind::read(wire),
                    bus: number("busNumber").unwrap_or_default(),
                    sharing: text(device, "sharedBus"),
                });
            } else if device.child("macAddress").is_some() || NICS.iter().any(|(name, _)| *name == wire) {
                hardware.nics.push(nic(device, wire, key));
            } else if wire == "VirtualCdrom" {
                hardware.drives.push(drive(device, key));
            } else if wire == "VirtualPCIPassthrough" {
                let label = text(device, "deviceInfo.label").unwrap_or_default();
                hardware.pci.push(PciHeld { key, label, id: text(device, "backing.id") });
            } else {
                hardware.others.push(wire.to_owned());
            }
        }
        hardware
    }

    /// The controller that a disk hangs on.
    pub fn controller_of(&self, disk: &Disk) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.key == disk.controller_key)
    }
}

fn disk(device: &Element, key: i32) -> Disk {
    let number = |path: &str| device.text_at(path).and_then(|text| text.trim().parse::<u64>().ok());
    let flag = |path: &str| device.text_at(path).and_then(boolean);
    let int = |path: &str| device.text_at(path).and_then(|text| text.trim().parse::<i32>().ok()).unwrap_or(-1);
    let bytes = number("capacityInBytes").or_else(|| number("capacityInKB").map(|kib| kib.saturating_mul(1024)));
    Disk {
        key,
        label: text(device, "deviceInfo.label").unwrap_or_default(),
        size: Bytes(bytes.unwrap_or_default()),
        thin: flag("backing.thinProvisioned"),
        eager: flag("backing.eagerlyScrub").unwrap_or(false),
        file: text(device, "backing.fileName").unwrap_or_default(),
        mode: text(device, "backing.diskMode").unwrap_or_default(),
        backing: device.child("backing").and_then(|backing| backing.xsi_type.clone()).unwrap_or_default(),
        parents: parents(device),
        controller_key: int("controllerKey"),
        unit: int("unitNumber"),
    }
}

/// The descriptors below a disk's own, the nearest first.
fn parents(device: &Element) -> Vec<String> {
    let first = device.at("backing.parent");
    // The depth of a document is bounded; the chain is as long as it is deep.
    let all = std::iter::successors(first, |parent| parent.child("parent"));
    all.filter_map(|parent| text(parent, "fileName")).collect()
}

/// Takes a device out of a machine; a disk's files stay.
pub(super) fn removal(key: i32) -> Element {
    let device = Element::new("device")
        .typed("VirtualDisk")
        .with(Element::leaf("key", key.to_string()))
        .with(Element::leaf("capacityInKB", "0"));
    Element::new("deviceChange")
        .typed("VirtualDeviceConfigSpec")
        .with(Element::leaf("operation", "remove"))
        .with(device)
}

fn nic(device: &Element, wire: &str, key: i32) -> Nic {
    let flag = |path: &str| device.text_at(path).and_then(boolean).unwrap_or(false);
    Nic {
        key,
        label: text(device, "deviceInfo.label").unwrap_or_default(),
        kind: NICS.iter().find(|(name, _)| *name == wire).map_or(wire, |(_, kind)| kind).to_owned(),
        mac: text(device, "macAddress"),
        network: text(device, "backing.deviceName"),
        port_group: text(device, "backing.port.portgroupKey"),
        connected: flag("connectable.connected"),
        start_connected: flag("connectable.startConnected"),
    }
}

fn drive(device: &Element, key: i32) -> Drive {
    let flag = |path: &str| device.text_at(path).and_then(boolean).unwrap_or(false);
    Drive {
        key,
        label: text(device, "deviceInfo.label").unwrap_or_default(),
        file: text(device, "backing.fileName"),
        connected: flag("connectable.connected"),
        start_connected: flag("connectable.startConnected"),
    }
}

/// A device that is to be added to a machine. Keys below zero are ours until the host gives its own.
#[derive(Debug, Clone)]
pub(super) enum NewDevice<'a> {
    Controller {
        key: i32,
        kind: &'a ControllerKind,
        bus: i32,
        sharing: Option<&'a str>,
    },
    /// A disk that is made with the machine, thin.
    NewDisk {
        key: i32,
        file: &'a str,
        size: Bytes,
        controller: i32,
        unit: i32,
    },
    /// A disk that is made with the machine and builds on another machine's; the host names it.
    ChildDisk {
        key: i32,
        datastore: &'a str,
        parent: &'a Disk,
        controller: i32,
        unit: i32,
    },
    /// A disk that is there already.
    OldDisk {
        key: i32,
        file: &'a str,
        size: Bytes,
        mode: &'a str,
        controller: i32,
        unit: i32,
    },
    Nic {
        key: i32,
        kind: &'a str,
        backing: &'a Element,
        start_connected: bool,
    },
}

impl NewDevice<'_> {
    /// The device as a `deviceChange` element.
    pub(super) fn element(&self) -> Element {
        let number = |name: &str, number: i32| Element::leaf(name, number.to_string());
        let change =
            Element::new("deviceChange").typed("VirtualDeviceConfigSpec").with(Element::leaf("operation", "add"));
        match self {
            Self::Controller { key, kind, bus, sharing } => {
                let mut device = Element::new("device")
                    .typed(kind.wire_name())
                    .with(number("key", *key))
                    .with(number("busNumber", *bus));
                if kind.is_scsi() {
                    device = device.with(Element::leaf("sharedBus", sharing.unwrap_or("noSharing")));
                }
                change.with(device)
            }
            Self::NewDisk { key, file, size, controller, unit } => change
                .with(Element::leaf("fileOperation", "create"))
                .with(disk_element(*key, file, "persistent", Some(true), *size, *controller, *unit)),
            Self::ChildDisk { key, datastore, parent, controller, unit } => {
                let mode = if parent.mode.is_empty() { "persistent" } else { &parent.mode };
                let below = Element::new("parent")
                    .typed("VirtualDiskFlatVer2BackingInfo")
                    .with(Element::leaf("fileName", &parent.file))
                    .with(Element::leaf("diskMode", mode));
                let backing = Element::new("backing")
                    .typed("VirtualDiskFlatVer2BackingInfo")
                    .with(Element::leaf("fileName", format!("[{datastore}]")))
                    .with(Element::leaf("diskMode", "persistent"))
                    .with(Element::leaf("thinProvisioned", "true"))
                    .with(below);
                let device = Element::new("device")
                    .typed("VirtualDisk")
                    .with(number("key", *key))
                    .with(backing)
                    .with(number("controllerKey", *controller))
                    .with(number("unitNumber", *unit))
                    .with(Element::leaf("capacityInKB", (parent.size.0 / 1024).to_string()));
                change.with(Element::leaf("fileOperation", "create")).with(device)
            }
            Self::OldDisk { key, file, size, mode, controller, unit } => {
                change.with(disk_element(*key, file, mode, None, *size, *controller, *unit))
            }
            Self::Nic { key, kind, backing, start_connected } => {
                let wire = nic_type(kind);
                let connectable = Element::new("connectable")
                    .with(Element::leaf("startConnected", start_connected.to_string()))
                    .with(Element::leaf("allowGuestControl", "true"))
                    .with(Element::leaf("connected", start_connected.to_string()));
                change.with(
                    Element::new("device")
                        .typed(wire)
                        .with(number("key", *key))
                        .with((*backing).clone())
                        .with(connectable)
                        .with(Element::leaf("addressType", "generated")),
                )
            }
        }
    }
}

/// The type of a network card of that kind.
pub(super) fn nic_type(kind: &str) -> &str {
    NICS.iter().find(|(_, short)| *short == kind).map_or(kind, |(wire, _)| wire)
}

/// Whether a network card's kind can be made anew.
pub(super) fn known_nic(kind: &str) -> bool {
    NICS.iter().any(|(_, short)| *short == kind)
}

fn disk_element(
    key: i32,
    file: &str,
    mode: &str,
    thin: Option<bool>,
    size: Bytes,
    controller: i32,
    unit: i32,
) -> Element {
    let mut backing = Element::new("backing")
        .typed("VirtualDiskFlatVer2BackingInfo")
        .with(Element::leaf("fileName", file))
        .with(Element::leaf("diskMode", mode));
    if let Some(thin) = thin {
        backing = backing.with(Element::leaf("thinProvisioned", thin.to_string()));
    }
    Element::new("device")
        .typed("VirtualDisk")
        .with(Element::leaf("key", key.to_string()))
        .with(backing)
        .with(Element::leaf("controllerKey", controller.to_string()))
        .with(Element::leaf("unitNumber", unit.to_string()))
        .with(Element::leaf("capacityInKB", (size.0 / 1024).to_string()))
}
