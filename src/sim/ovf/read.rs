//! From a descriptor to what a client asks for: what is in it, and the spec of a machine.

use std::collections::HashMap;

use crate::sim::datastore;
use crate::sim::esx;
use crate::sim::fault::VimFault;
use crate::sim::value::Data;
use crate::sim::world::World;
use crate::xml::{self, Element, Limits};

fn envelope(text: &str) -> Result<Element, VimFault> {
    let limits = Limits { bytes: 4 << 20, ..Limits::default() };
    let wrong = |why: String| VimFault::new("OvfInvalidPackage", why).with("lineNumber", 1);
    let envelope = xml::parse(text.as_bytes(), limits).map_err(|error| wrong(error.to_string()))?;
    match (envelope.name.as_str(), envelope.child("VirtualSystem").is_some()) {
        ("Envelope", true) => Ok(envelope),
        _ => Err(wrong("The descriptor does not hold exactly one machine.".to_owned())),
    }
}

fn networks(envelope: &Element) -> Vec<Data> {
    let all = envelope.all("NetworkSection").flat_map(|section| section.all("Network"));
    let network = |network: &Element| {
        Data::new("OvfNetworkInfo")
            .with("name", network.get("name").unwrap_or_default().to_owned())
            .with("description", network.text_at("Description").unwrap_or_default().trim().to_owned())
    };
    all.map(network).collect()
}

fn system_name(envelope: &Element) -> String {
    let system = envelope.child("VirtualSystem");
    let name = system.and_then(|system| system.text_at("Name")).map(str::trim).filter(|name| !name.is_empty());
    name.or_else(|| system?.get("id")).unwrap_or("vm").to_owned()
}

/// `ParseDescriptor`.
pub fn parse(text: &str) -> Data {
    let result = Data::new("OvfParseDescriptorResult").with("virtualApp", false).with("defaultDeploymentOption", "");
    match envelope(text) {
        Ok(envelope) => {
            let files = envelope.all("References").flat_map(|section| section.all("File"));
            let size: i64 = files.filter_map(|file| file.get("size")?.parse::<i64>().ok()).sum();
            let annotation = envelope.text_at("VirtualSystem.AnnotationSection.Annotation").unwrap_or_default().trim();
            result
                .with("network", networks(&envelope))
                .with("annotation", annotation.to_owned())
                .with("approximateDownloadSize", size)
                .with("defaultEntityName", system_name(&envelope))
        }
        Err(fault) => {
            result.with("annotation", "").with("defaultEntityName", "").with("error", vec![fault.localized()])
        }
    }
}

/// `CreateImportSpec`.
pub fn import_spec(world: &World, text: &str, asked: &Data) -> Data {
    let result = Data::new("OvfCreateImportSpecResult");
    match envelope(text).and_then(|envelope| spec(world, &envelope, asked)) {
        Ok((spec, items, warnings)) => {
            let result = result.with("importSpec", spec).with("fileItem", items);
            if warnings.is_empty() { result } else { result.with("warning", warnings) }
        }
        Err(fault) => result.with("error", vec![fault.localized()]),
    }
}

type Spec = (Data, Vec<Data>, Vec<Data>);

struct Reading<'a> {
    world: &'a World,
    name: String,
    thin: bool,
    /// The networks that the client gave for those of the descriptor.
    mapping: HashMap<String, String>,
    files: HashMap<String, &'a Element>,
    disks: HashMap<String, &'a Element>,
    changes: Vec<Data>,
    /// The keys, types and buses of controllers, by the number of their item.
    controllers: HashMap<String, (i32, &'static str, i32)>,
    items: Vec<Data>,
    warnings: Vec<Data>,
    next: i32,
}

fn spec(world: &World, envelope: &Element, asked: &Data) -> Result<Spec, VimFault> {
    let system = envelope.child("VirtualSystem").cloned().unwrap_or_default();
    let hardware = system.child("VirtualHardwareSection");
    let hardware = hardware.ok_or_else(|| {
        VimFault::new("OvfMissingHardware", "The descriptor has no hardware.").with("name", "").with("resourceType", 0)
    })?;
    let by = |section: &'static str, item: &'static str, key: &'static str| -> HashMap<String, &Element> {
        let all = envelope.all(section).flat_map(move |section| section.all(item));
        all.filter_map(|element| Some((element.get(key)?.to_owned(), element))).collect()
    };
    let given = asked.text("entityName").filter(|name| !name.is_empty());
    let networks = asked.datas("networkMapping").filter_map(|mapping| {
        let network = mapping.reference("network")?.id.strip_prefix("HaNetwork-")?.to_owned();
        Some((mapping.text("name")?.to_owned(), network))
    });
    let mut reading = Reading {
        world,
        name: given.map_or_else(|| system_name(envelope), str::to_owned),
        thin: asked
            .text("diskProvisioning")
            .is_none_or(|form| !matches!(form, "thick" | "eagerZeroedThick" | "flat" | "monolithicFlat")),
        mapping: networks.collect(),
        files: by("References", "File", "id"),
        disks: by("DiskSection", "Disk", "diskId"),
        changes: Vec::new(),
        controllers: HashMap::new(),
        items: Vec::new(),
        warnings: Vec::new(),
        next: -1,
    };
    let mut config = Data::new("VirtualMachineConfigSpec").with("name", reading.name.clone());
    let version = hardware
        .text_at("System.VirtualSystemType")
        .unwrap_or_default()
        .split([',', ' '])
        .find(|word| word.starts_with("vmx-"));
    config = config.maybe("version", version.map(str::to_owned));
    let guest = system.child("OperatingSystemSection").and_then(|section| section.get("osType"));
    config = config.with(
        "guestId",
        guest.filter(|guest| !guest.starts_with('*')).unwrap_or("otherGuest").trim_start_matches('*').to_owned(),
    );
    let annotation = system.text_at("AnnotationSection.Annotation").map(str::trim).filter(|text| !text.is_empty());
    config = config.maybe("annotation", annotation.map(str::to_owned));
    config =
        config.with("files", Data::new("VirtualMachineFileInfo").with("vmPathName", format!("[{}]", datastore::NAME)));
    // Controllers come first, whatever their order: others name them.
    let items: Vec<&Element> =
        hardware.all("Item").chain(hardware.all("StorageItem")).chain(hardware.all("EthernetPortItem")).collect();
    for item in items.iter().filter(|item| matches!(kind(item), 5 | 6 | 20)) {
        reading.controller(item);
    }
    for item in items {
        let quantity = || text(item, "VirtualQuantity").and_then(|text| text.parse::<i64>().ok());
        match kind(item) {
            3 => config = config.maybe("numCPUs", quantity().and_then(|count| i32::try_from(count).ok())),
            4 => {
                config =
                    config.maybe("memoryMB", quantity().map(|count| megabytes(count, text(item, "AllocationUnits"))))
            }
            10 => reading.card(item)?,
            17 => reading.disk(item)?,
            14..=16 | 5 | 6 | 20 | 1 | 23 | 24 => {}
            other => {
                let message = format!("Unsupported hardware item {other} is left out.");
                reading
                    .warnings
                    .push(VimFault::new("OvfUnsupportedElement", message).with("name", other.to_string()).localized());
            }
        }
    }
    let mut extra = Vec::new();
    let mut settings: Vec<(String, String)> = Vec::new();
    for (list, into) in [("ExtraConfig", true), ("Config", false)] {
        for element in hardware.all(list) {
            let pair = (
                element.get("key").unwrap_or_default().to_owned(),
                element.get("value").unwrap_or_default().to_owned(),
            );
            if into { extra.push(pair) } else { settings.push(pair) }
        }
    }
    let firmware = settings.iter().find(|(key, _)| key == "firmware").map(|(_, value)| value.clone());
    config = config.maybe("firmware", firmware);
    let secure = settings.iter().any(|(key, value)| key == "bootOptions.efiSecureBootEnabled" && value == "true");
    if secure {
        config = config.with("bootOptions", Data::new("VirtualMachineBootOptions").with("efiSecureBootEnabled", true));
    }
    if let Some((_, value)) = extra.iter().find(|(key, _)| key == super::NVRAM_KEY)
        && let Some(file) = value.strip_prefix("ovf:/file/").and_then(|id| reading.files.get(id))
    {
        let item = file_item(format!("/{}/nvram", reading.name), file, 1);
        reading.items.push(item.but("create", true));
    }
    let extra: Vec<Data> =
        extra.into_iter().map(|(key, value)| Data::new("OptionValue").with("key", key).with("value", value)).collect();
    if !extra.is_empty() {
        config = config.with("extraConfig", extra);
    }
    config = config.with("deviceChange", reading.changes);
    Ok((Data::new("VirtualMachineImportSpec").with("configSpec", config), reading.items, reading.warnings))
}

impl Reading<'_> {
    fn add(&mut self, device: Data, files: bool) {
        let change = Data::new("VirtualDeviceConfigSpec").with("operation", "add");
        let change = if files { change.with("fileOperation", "create") } else { change };
        self.changes.push(change.with("device", device));
    }

    fn key(&mut self) -> i32 {
        self.next -= 1;
        self.next + 1
    }

    fn controller(&mut self, item: &Element) {
        let number = text(item, "InstanceID").unwrap_or_default().to_owned();
        let bus = text(item, "Address").and_then(|bus| bus.parse().ok()).unwrap_or(0);
        let subtype = text(item, "ResourceSubType").unwrap_or_default().to_ascii_lowercase();
        let kind = match (kind(item), subtype.as_str()) {
            (5, _) => {
                // Every machine has its two.
                let bus = bus.clamp(0, 1);
                self.controllers.insert(number, (200 + bus, "VirtualIDEController", bus));
                return;
            }
            (20, sub) if sub.contains("nvme") => "VirtualNVMEController",
            (20, _) => "VirtualAHCIController",
            (_, "virtualscsi") => "ParaVirtualSCSIController",
            (_, "lsilogicsas") => "VirtualLsiLogicSASController",
            (_, "buslogic") => "VirtualBusLogicController",
            _ => "VirtualLsiLogicController",
        };
        let same = |other: &&(i32, &'static str, i32)| scsi(other.1) == scsi(kind) && (scsi(kind) || other.1 == kind);
        let taken: Vec<i32> = self.controllers.values().filter(same).map(|(_, _, bus)| *bus).collect();
        let bus = if taken.contains(&bus) { (0..4).find(|bus| !taken.contains(bus)).unwrap_or(0) } else { bus };
        let key = self.key();
        self.controllers.insert(number, (key, kind, bus));
        let device = Data::new(kind).with("key", key).with("busNumber", bus);
        self.add(if scsi(kind) { device.with("sharedBus", "noSharing") } else { device }, false);
    }

    fn card(&mut self, item: &Element) -> Result<(), VimFault> {
        let wanted = text(item, "Connection").unwrap_or_default().to_owned();
        let network = self.mapping.get(&wanted).cloned();
        let network = network.or_else(|| self.world.networks().find(|own| **own == wanted).map(str::to_owned));
        let network = network.unwrap_or_else(|| {
            let message = format!("No mapping for the network '{wanted}'; '{}' is taken.", esx::NETWORK);
            self.warnings.push(VimFault::new("OvfNoHostNic", message).localized());
            esx::NETWORK.to_owned()
        });
        let kind = match text(item, "ResourceSubType").unwrap_or_default().to_ascii_lowercase().as_str() {
            "e1000" => "VirtualE1000",
            "e1000e" => "VirtualE1000e",
            "pcnet32" => "VirtualPCNet32",
            "vmxnet2" => "VirtualVmxnet2",
            _ => "VirtualVmxnet3",
        };
        let backing = Data::new("VirtualEthernetCardNetworkBackingInfo").with("deviceName", network);
        let key = self.key();
        self.add(Data::new(kind).with("key", key).with("backing", backing).with("addressType", "generated"), false);
        Ok(())
    }

    fn disk(&mut self, item: &Element) -> Result<(), VimFault> {
        let missing = |what: &str| {
            VimFault::new("OvfMissingElement", format!("The disk has no {what}."))
                .with("name", what.to_owned())
                .with("lineNumber", 1)
        };
        let resource = text(item, "HostResource").unwrap_or_default();
        let id = resource.rsplit('/').next().unwrap_or_default();
        let disk = *self.disks.get(id).ok_or_else(|| missing("DiskSection entry"))?;
        let number =
            disk.get("capacity").and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| missing("capacity"))?;
        let bytes = number.saturating_mul(unit(disk.get("capacityAllocationUnits")));
        let parent = text(item, "Parent").and_then(|parent| self.controllers.get(parent)).copied();
        let (controller, kind, bus) = parent.ok_or_else(|| missing("controller"))?;
        let unit = text(item, "AddressOnParent").and_then(|unit| unit.parse::<i32>().ok()).unwrap_or(0);
        let backing = Data::new("VirtualDiskFlatVer2BackingInfo")
            .with("fileName", "")
            .with("diskMode", "persistent")
            .with("thinProvisioned", self.thin);
        let key = self.key();
        let device = Data::new("VirtualDisk")
            .with("key", key)
            .with("backing", backing)
            .with("controllerKey", controller)
            .with("unitNumber", unit)
            .with("capacityInKB", bytes / 1024)
            .with("capacityInBytes", bytes);
        self.add(device, true);
        if let Some(file) = disk.get("fileRef").and_then(|file| self.files.get(file)) {
            self.items.push(file_item(format!("/{}/{kind}{bus}:{unit}", self.name), file, 17));
        }
        Ok(())
    }
}

fn scsi(kind: &str) -> bool {
    crate::sim::schema::schema().is_a(kind, "VirtualSCSIController")
}

fn file_item(device: String, file: &Element, cim: i32) -> Data {
    Data::new("OvfFileItem")
        .with("deviceId", device)
        .with("path", file.get("href").unwrap_or_default().to_owned())
        .maybe("compressionMethod", file.get("compression").map(str::to_owned))
        .maybe("size", file.get("size").and_then(|size| size.parse::<i64>().ok()))
        .with("cimType", cim)
        .with("create", false)
}

fn text<'a>(item: &'a Element, name: &str) -> Option<&'a str> {
    item.text_at(name).map(str::trim).filter(|text| !text.is_empty())
}

fn kind(item: &Element) -> i32 {
    text(item, "ResourceType").and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn unit(text: Option<&str>) -> i64 {
    let text: String =
        text.unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    match text.as_str() {
        "gigabytes" => 1 << 30,
        "megabytes" => 1 << 20,
        "kilobytes" => 1 << 10,
        other => other.strip_prefix("byte*2^").and_then(|power| 1i64.checked_shl(power.parse().ok()?)).unwrap_or(1),
    }
}

fn megabytes(count: i64, text: Option<&str>) -> i64 {
    match text {
        None => count,
        text => count.saturating_mul(unit(text)) >> 20,
    }
}
