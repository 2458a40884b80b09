//! Virtual hardware: the devices that every machine has, their labels, keys and places, as ESXi gives them.

use crate::sim::datastore;
use crate::sim::schema::schema;
use crate::sim::value::{Data, Value};

/// A disk to put into a new machine.
pub struct SystemDisk {
    pub file: String,
    pub capacity: u64,
    pub uuid: String,
}

pub fn description(label: impl Into<String>, summary: impl Into<String>) -> Data {
    Data::new("Description").with("label", label.into()).with("summary", summary.into())
}

fn device(kind: &'static str, key: i32, label: &str, summary: &str) -> Data {
    Data::new(kind).with("key", key).with("deviceInfo", description(label.to_owned(), summary.to_owned()))
}

/// The devices that the host adds to every machine, whatever the client asked for.
pub fn built_in() -> Vec<Data> {
    let place =
        |data: Data, controller: i32, unit: i32| data.with("controllerKey", controller).with("unitNumber", unit);
    let pointing = Data::new("VirtualPointingDeviceDeviceBackingInfo")
        .with("deviceName", "")
        .with("useAutoDetect", false)
        .with("hostPointingDevice", "autodetect");
    vec![
        device("VirtualIDEController", 200, "IDE 0", "IDE 0").with("busNumber", 0),
        device("VirtualIDEController", 201, "IDE 1", "IDE 1").with("busNumber", 1),
        device("VirtualPS2Controller", 300, "PS2 controller 0", "PS2 controller 0").with("busNumber", 0),
        device("VirtualPCIController", 100, "PCI controller 0", "PCI controller 0").with("busNumber", 0),
        device("VirtualSIOController", 400, "SIO controller 0", "SIO controller 0").with("busNumber", 0),
        place(device("VirtualKeyboard", 600, "Keyboard", "Keyboard"), 300, 0),
        place(device("VirtualPointingDevice", 700, "Pointing device", "Pointing device; Device").with("backing", pointing), 300, 1),
        place(device("VirtualMachineVideoCard", 500, "Video card", "Video card"), 100, 0)
            .with("videoRamSizeInKB", 4096i64)
            .with("numDisplays", 1)
            .with("useAutoDetect", false)
            .with("enable3DSupport", false)
            .with("use3dRenderer", "automatic")
            .with("graphicsMemorySizeInKB", 262_144i64),
        place(
            device("VirtualMachineVMCIDevice", 12000, "VMCI device", "Device on the virtual machine PCI bus that provides support for the virtual machine communication interface"),
            100,
            17,
        )
        .with("id", -1i64)
        .with("allowUnrestrictedCommunication", false)
        .with("filterEnable", true),
    ]
}

/// A paravirtual SCSI controller with one thin disk, and one vmxnet3 card on `VM Network`.
pub fn usual(system: &SystemDisk, mac: &str) -> Vec<Data> {
    let mut devices = built_in();
    devices.push(scsi("ParaVirtualSCSIController", 1000, 0));
    devices.push(disk(system, true, 2000, 1, 1000, 0));
    devices.push(nic("VirtualVmxnet3", 0, crate::sim::esx::NETWORK, mac));
    devices
}

/// What the host calls a device of this type: the start of its label, and its summary.
pub fn names(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "ParaVirtualSCSIController" => ("SCSI controller", "VMware paravirtual SCSI"),
        "VirtualLsiLogicController" => ("SCSI controller", "LSI Logic"),
        "VirtualLsiLogicSASController" => ("SCSI controller", "LSI Logic SAS"),
        "VirtualBusLogicController" => ("SCSI controller", "BusLogic"),
        "VirtualAHCIController" => ("SATA controller", "AHCI"),
        "VirtualNVMEController" => ("NVME controller", "NVME controller"),
        "VirtualIDEController" => ("IDE", "IDE"),
        "VirtualUSBController" => ("USB controller", "Auto connect Disabled"),
        "VirtualUSBXHCIController" => ("USB xHCI controller", "USB xHCI controller"),
        "VirtualDisk" => ("Hard disk", "disk"),
        "VirtualCdrom" => ("CD/DVD drive", "CD/DVD drive"),
        "VirtualFloppy" => ("Floppy drive", "Floppy drive"),
        "VirtualSerialPort" => ("Serial port", "Serial port"),
        "VirtualParallelPort" => ("Parallel port", "Parallel port"),
        "VirtualTPM" => ("Virtual TPM", "Trusted Platform Module"),
        "VirtualPCIPassthrough" => ("PCI device", "PCI device"),
        "VirtualHdAudioCard" => ("Sound card", "HD Audio"),
        _ if schema().is_a(kind, "VirtualEthernetCard") => ("Network adapter", "Network adapter"),
        _ => ("Device", "Device"),
    }
}

/// A SCSI controller on the bus of that number.
pub fn scsi(kind: &'static str, key: i32, bus: i32) -> Data {
    let (label, summary) = names(kind);
    device(kind, key, &format!("{label} {bus}"), summary)
        .with("controllerKey", 100)
        .with("unitNumber", 3 + bus)
        .with("busNumber", bus)
        .with("hotAddRemove", true)
        .with("sharedBus", "noSharing")
        .with("scsiCtlrUnitNumber", 7)
}

/// A disk that is there, on a controller.
pub fn disk(disk: &SystemDisk, thin: bool, key: i32, number: i32, controller: i32, unit: i32) -> Data {
    let backing = Data::new("VirtualDiskFlatVer2BackingInfo")
        .with("fileName", disk.file.clone())
        .with("datastore", datastore::OBJECT)
        .with("backingObjectId", "")
        .with("diskMode", "persistent")
        .with("split", false)
        .with("writeThrough", false)
        .with("thinProvisioned", thin)
        .with("uuid", disk.uuid.clone())
        .with("digestEnabled", false)
        .with("sharing", "sharingNone");
    device("VirtualDisk", key, &format!("Hard disk {number}"), &format!("{} KB", grouped(disk.capacity >> 10)))
        .with("backing", backing)
        .with("controllerKey", controller)
        .with("unitNumber", unit)
        .with("capacityInKB", datastore::long(disk.capacity >> 10))
        .with("capacityInBytes", datastore::long(disk.capacity))
}

/// The network card of that number (from 0).
pub fn nic(kind: &'static str, number: i32, network: &str, mac: &str) -> Data {
    device(kind, 4000 + number, &format!("Network adapter {}", number + 1), network)
        .with("backing", network_backing(network))
        .with("connectable", connectable(true))
        .with("controllerKey", 100)
        .with("unitNumber", 7 + number)
        .with("addressType", "generated")
        .with("macAddress", mac.to_owned())
        .with("wakeOnLanEnabled", true)
}

pub fn network_backing(network: &str) -> Data {
    Data::new("VirtualEthernetCardNetworkBackingInfo")
        .with("deviceName", network.to_owned())
        .with("useAutoDetect", false)
        .with("network", crate::sim::esx::network(network))
        .with("inPassthroughMode", false)
}

pub fn connectable(start: bool) -> Data {
    Data::new("VirtualDeviceConnectInfo")
        .with("migrateConnect", "unset")
        .with("startConnected", start)
        .with("allowGuestControl", true)
        .with("connected", false)
        .with("status", "untried")
}

/// A number with commas, as the host writes a disk's size.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The devices as `config.hardware.device` shows them: controllers list what sits on them, running machines' cards are connected.
pub fn shown(devices: &[Data], running: bool) -> Vec<Data> {
    let mut shown = devices.to_vec();
    for device in &mut shown {
        if schema().is_a(device.kind, "VirtualController") {
            let key = device.int("key");
            let on: Vec<Value> = devices
                .iter()
                .filter(|other| key.is_some() && other.int("controllerKey") == key)
                .filter_map(|other| other.int("key").map(Value::Int))
                .collect();
            device.remove("device");
            if !on.is_empty() {
                device.set("device", Value::List(on));
            }
        }
        if let Some(Value::Data(connectable)) = device.get_mut("connectable")
            && running
        {
            let connected = connectable.boolean("startConnected") == Some(true);
            connectable.set("connected", connected);
            connectable.set("status", if connected { "ok" } else { "untried" });
        }
    }
    shown
}
