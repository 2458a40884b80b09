//! The configuration file `NAME.vmx`: written beside the disks at every change, read when a machine is registered.
//!
//! It is VMware's `key = "value"` text with the keys that a host uses for what they can say. Devices are there twice: under their
//! usual keys (`scsi0:0.fileName`), and whole under `ceso.device.N`, which is what is read back where it is present.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::snapshot::Snapshots;
use super::{Power, Vm, backing, hardware, record};
use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{disk_fault, file_fault};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// The largest file that is read as a configuration.
const LARGEST: u64 = 8 << 20;
/// Keys that say what other fields of the record say.
const OWN: &[&str] = &[
    ".encoding",
    "config.version",
    "virtualHW.version",
    "displayName",
    "guestOS",
    "firmware",
    "numvcpus",
    "cpuid.coresPerSocket",
    "memSize",
    "annotation",
    "uuid.bios",
    "vc.uuid",
    "ceso.settings",
];

/// Writes the file of a machine.
pub fn write(world: &World, vm: &Vm) -> Result<(), VimFault> {
    let path = DatastorePath::parse(&vm.vmx)?;
    let file = world.datastore.resolve(&path)?;
    let mut text = String::new();
    let mut line = |key: &str, value: &str| text.push_str(&format!("{key} = \"{}\"\n", escaped(value)));
    line(".encoding", "UTF-8");
    line("config.version", "8");
    line("virtualHW.version", vm.version.trim_start_matches("vmx-"));
    line("displayName", &vm.name);
    line("guestOS", &vm.guest_id);
    line("firmware", &vm.firmware);
    line("numvcpus", &vm.cpus.to_string());
    line("cpuid.coresPerSocket", &vm.cores_per_socket.to_string());
    line("memSize", &vm.memory_mb.to_string());
    line("annotation", &vm.annotation);
    line("uuid.bios", &vm.uuid);
    line("vc.uuid", &vm.instance_uuid);
    line(
        "ceso.settings",
        &record::text("settings", &vm.settings, "VirtualMachineConfigInfo").map_err(VimFault::system)?,
    );
    vm.extra.iter().for_each(|(key, value)| line(key, value));
    let home = vm.folder().to_string();
    for (number, device) in vm.devices.iter().enumerate() {
        let device = &files(device, &|file| file.strip_prefix(&home)?.strip_prefix('/').map(str::to_owned));
        usual(device, &vm.devices).into_iter().for_each(|(key, value)| line(&key, &value));
        let whole = record::text("device", device, "VirtualDevice").map_err(VimFault::system)?;
        line(&format!("ceso.device.{number}"), &whole);
    }
    std::fs::write(&file, text).map_err(|error| file_fault(&path, &error))
}

/// Under which keys a host keeps this device, for those who read the file.
fn usual(device: &Data, devices: &[Data]) -> Vec<(String, String)> {
    let unit = device.int("unitNumber").unwrap_or_default();
    let controller = devices.iter().find(|other| device.int("controllerKey") == other.int("key"));
    let bus = |data: Option<&Data>| data.and_then(|data| data.int("busNumber")).unwrap_or_default();
    let text = |path: &str| device.at(path).and_then(Value::as_text).unwrap_or_default().to_owned();
    let adapter = |kind: &str| match kind {
        "ParaVirtualSCSIController" => Some(("scsi", "pvscsi")),
        "VirtualLsiLogicController" => Some(("scsi", "lsilogic")),
        "VirtualLsiLogicSASController" => Some(("scsi", "lsisas1068")),
        "VirtualBusLogicController" => Some(("scsi", "buslogic")),
        "VirtualAHCIController" => Some(("sata", "ahci")),
        "VirtualNVMEController" => Some(("nvme", "nvme")),
        "VirtualIDEController" => Some(("ide", "")),
        _ => None,
    };
    match device.kind {
        "VirtualDisk" | "VirtualCdrom" => {
            let Some((name, _)) = controller.and_then(|controller| adapter(controller.kind)) else { return Vec::new() };
            let place = format!("{name}{}:{unit}", bus(controller));
            let file = text("backing.fileName");
            vec![(format!("{place}.present"), "TRUE".to_owned()), (format!("{place}.fileName"), file)]
        }
        super::passthrough::KIND => {
            let place = format!("pciPassthru{}", (unit - 18).max(0));
            let vendor = device
                .at("backing.vendorId")
                .and_then(|value| if let Value::Int(id) = value { Some(*id) } else { None });
            vec![
                (format!("{place}.present"), "TRUE".to_owned()),
                (format!("{place}.id"), text("backing.id")),
                (format!("{place}.deviceId"), format!("0x{}", text("backing.deviceId"))),
                (format!("{place}.vendorId"), format!("0x{:x}", vendor.unwrap_or_default())),
                (format!("{place}.systemId"), text("backing.systemId")),
            ]
        }
        kind => match adapter(kind) {
            Some((name, virtual_device)) if !virtual_device.is_empty() => {
                let place = format!("{name}{}", bus(Some(device)));
                vec![
                    (format!("{place}.present"), "TRUE".to_owned()),
                    (format!("{place}.virtualDev"), virtual_device.to_owned()),
                ]
            }
            _ if device.get("macAddress").is_some() => {
                let place = format!("ethernet{}", (unit - 7).max(0));
                vec![
                    (format!("{place}.present"), "TRUE".to_owned()),
                    (format!("{place}.virtualDev"), kind.trim_start_matches("Virtual").to_ascii_lowercase()),
                    (format!("{place}.networkName"), text("backing.deviceName")),
                    (format!("{place}.generatedAddress"), text("macAddress")),
                ]
            }
            _ => Vec::new(),
        },
    }
}

/// Reads the machine that a file describes. Its id is the caller's to give.
pub fn read(world: &World, path: &DatastorePath, id: u64) -> Result<Vm, VimFault> {
    let file = world.datastore.resolve(path)?;
    let metadata = std::fs::metadata(&file).map_err(|error| file_fault(path, &error))?;
    let wrong = |why: &str| {
        VimFault::new("InvalidVmConfig", format!("{path} is not the configuration of a machine: {why}."))
            .with("property", "path")
    };
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(wrong("it is no file, or too large"));
    }
    let bytes = std::fs::read(&file).map_err(|error| file_fault(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    let mut keys = BTreeMap::new();
    let mut order = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("a line has no '='"))?;
        let key = key.trim().to_owned();
        if key.chars().chain(value.chars()).any(|c| c.is_control() && c != '\t') {
            return Err(wrong("it has control characters"));
        }
        let value = unescaped(value.trim().trim_matches('"'));
        if keys.insert(key.clone(), value).is_none() {
            order.push(key);
        }
    }
    if !keys.contains_key("config.version") && !keys.contains_key("virtualHW.version") {
        return Err(wrong("it has neither config.version nor virtualHW.version"));
    }
    let get = |key: &str| keys.get(key).cloned();
    let number = |key: &str, usual: i32| {
        get(key).and_then(|text| text.parse().ok()).filter(|number| *number > 0).unwrap_or(usual)
    };
    let settings = match get("ceso.settings") {
        Some(text) => record::data(&text, "VirtualMachineConfigInfo").map_err(|why| wrong(&why))?,
        None => Data::new("VirtualMachineConfigInfo"),
    };
    let devices = match keys.contains_key("ceso.device.0") {
        true => (0..)
            .map_while(|number: u32| get(&format!("ceso.device.{number}")))
            .map(|text| record::data(&text, "VirtualDevice").map_err(|why| wrong(&why)))
            .map(|device| Ok(files(&device?, &|file| beside(path, file))))
            .collect::<Result<_, _>>()?,
        false => foreign(world, path, &keys)?,
    };
    let bare = |text: String| text.replace(' ', "-");
    Ok(Vm {
        id,
        name: get("displayName").unwrap_or_else(|| path.name().trim_end_matches(".vmx").to_owned()),
        uuid: get("uuid.bios").map(bare).unwrap_or_else(|| Uuid::new_v4().to_string()),
        instance_uuid: get("vc.uuid").map(bare).unwrap_or_else(|| Uuid::new_v4().to_string()),
        guest_id: get("guestOS")
            .map(|guest| crate::sim::esx::guests::from_vmx(&guest))
            .unwrap_or_else(|| "otherGuest".to_owned()),
        version: format!("vmx-{:02}", number("virtualHW.version", 21)),
        firmware: get("firmware").unwrap_or_else(|| "bios".to_owned()),
        cpus: number("numvcpus", 1),
        cores_per_socket: number("cpuid.coresPerSocket", 1),
        memory_mb: number("memSize", 256),
        annotation: get("annotation").unwrap_or_default(),
        vmx: path.to_string(),
        created: OffsetDateTime::now_utc(),
        change_version: 1,
        snapshots: Snapshots::default(),
        extra: order
            .into_iter()
            .filter(|key| !OWN.contains(&key.as_str()) && !is_device(key))
            .filter_map(|key| Some((key.clone(), get(&key)?)))
            .collect(),
        devices,
        settings,
        power: Power::Off,
        powered_on: None,
        suspended: None,
        system: false,
        applied: None,
        leases: BTreeMap::new(),
    })
}

/// The file that a name without a datastore means in the configuration's folder; none where it leads out of the datastore.
fn beside(configuration: &DatastorePath, file: &str) -> Option<String> {
    let bare = !file.is_empty() && !file.starts_with('[');
    bare.then(|| configuration.parent().relative(file))?.map(|path| path.to_string())
}

/// The device with other names for the files that it lies in, where `named` gives one: in the file what lies beside it stands without
/// its folder, so that a machine's folder can be moved and copied.
fn files(device: &Data, named: &dyn Fn(&str) -> Option<String>) -> Data {
    fn renamed(backing: &mut Data, named: &dyn Fn(&str) -> Option<String>) {
        if let Some(name) = backing.text("fileName").and_then(named) {
            backing.set("fileName", name);
        }
        if let Some(Value::Data(parent)) = backing.get_mut("parent") {
            renamed(parent, named);
        }
    }
    let mut device = device.clone();
    if let Some(Value::Data(backing)) = device.get_mut("backing") {
        renamed(backing, named);
    }
    device
}

fn is_device(key: &str) -> bool {
    let head = key.split(['.', ':']).next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit());
    key.starts_with("ceso.device.") || matches!(head, "scsi" | "sata" | "ide" | "nvme" | "ethernet" | "pciPassthru")
}

/// The devices of a file that another host wrote: SCSI controllers, disks in the same folder, cards on networks that are here.
fn foreign(world: &World, path: &DatastorePath, keys: &BTreeMap<String, String>) -> Result<Vec<Data>, VimFault> {
    let mut devices = hardware::built_in();
    let present = |key: &str| keys.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    for bus in 0..4 {
        if !present(&format!("scsi{bus}.present")) {
            continue;
        }
        let kind = match keys.get(&format!("scsi{bus}.virtualDev")).map(|kind| kind.to_ascii_lowercase()).as_deref() {
            Some("pvscsi") => "ParaVirtualSCSIController",
            Some("lsisas1068") => "VirtualLsiLogicSASController",
            Some("buslogic") => "VirtualBusLogicController",
            _ => "VirtualLsiLogicController",
        };
        devices.push(hardware::scsi(kind, 1000 + bus, bus));
        for unit in (0..16).filter(|unit| present(&format!("scsi{bus}:{unit}.present"))) {
            let Some(name) = keys.get(&format!("scsi{bus}:{unit}.fileName")).filter(|name| name.ends_with(".vmdk"))
            else {
                continue;
            };
            let disk = match DatastorePath::parse(name) {
                Ok(disk) => disk,
                Err(_) => path.parent().join(name.rsplit('/').next().unwrap_or(name)),
            };
            let chain = Chain::open(&world.datastore, &disk)?;
            let descriptor = &chain.top().map_err(|error| disk_fault(&disk, &error))?.descriptor;
            let number =
                i32::try_from(devices.iter().filter(|device| device.kind == "VirtualDisk").count()).unwrap_or_default();
            let system = hardware::SystemDisk {
                file: disk.to_string(),
                capacity: descriptor.capacity,
                uuid: descriptor.api_uuid(),
            };
            let mut device =
                hardware::disk(&system, descriptor.thin, 2000 + bus * 16 + unit, number + 1, 1000 + bus, unit);
            if let Some(Value::Data(own)) = device.get_mut("backing") {
                backing::describe(own, &chain);
            }
            devices.push(device);
        }
    }
    for number in (0..10).filter(|number| present(&format!("ethernet{number}.present"))) {
        let wanted = keys.get(&format!("ethernet{number}.networkName")).map(String::as_str);
        let network =
            world.networks().find(|network| Some(*network) == wanted).unwrap_or(crate::sim::esx::NETWORK).to_owned();
        let address =
            ["address", "generatedAddress"].iter().find_map(|key| keys.get(&format!("ethernet{number}.{key}")));
        let kind =
            match keys.get(&format!("ethernet{number}.virtualDev")).map(|kind| kind.to_ascii_lowercase()).as_deref() {
                Some("vmxnet3") => "VirtualVmxnet3",
                Some("e1000e") => "VirtualE1000e",
                _ => "VirtualE1000",
            };
        let mac = address.cloned().unwrap_or_else(|| format!("00:0c:29:00:ff:{number:02x}"));
        devices.push(hardware::nic(kind, number, &network, &mac));
    }
    Ok(devices)
}

/// A value between quotes: the quote, the bar and what is no text stand as `|` and two hexadecimal digits, as a host writes them.
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '|' => out.push_str(&format!("|{:02X}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("|{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

pub fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('|') {
        out.push_str(before);
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push('|');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_configuration_file() {
        for value in ["", "plain", "a \"b\" |c| =\n# d\t", "|", "|2", "|zz", "é|22"] {
            assert_eq!(unescaped(&escaped(value)), value);
        }
    }
}
