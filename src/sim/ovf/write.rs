//! `CreateDescriptor`: a machine as OVF.

use std::fmt::Write as _;

use crate::sim::schema::schema;
use crate::sim::value::{Data, Value};
use crate::sim::vm::Vm;
use crate::sim::world::World;
use crate::xml;

fn escaped(text: &str) -> String {
    let mut out = String::new();
    match xml::escape(text, &mut out) {
        Ok(()) => out.replace('"', "&quot;"),
        Err(_) => text.chars().filter(|c| c.is_ascii_alphanumeric() || " -_.".contains(*c)).collect(),
    }
}

/// One hardware item, its children in the order of CIM: alphabetical.
fn item(out: &mut String, mut fields: Vec<(&str, String)>) {
    fields.sort_by(|a, b| a.0.cmp(b.0));
    out.push_str("      <Item>\n");
    for (name, value) in fields {
        // Writing to a string does not fail.
        let _ = writeln!(out, "        <rasd:{name}>{}</rasd:{name}>", escaped(&value));
    }
    out.push_str("      </Item>\n");
}

/// The descriptor of a machine, with the files that the client says it has.
pub fn descriptor(world: &World, vm: &Vm, asked: &Data) -> String {
    let files: Vec<&Data> = asked.datas("ovfFiles").collect();
    let name = asked.text("name").filter(|name| !name.is_empty()).unwrap_or(&vm.name);
    let mut references = String::new();
    let mut disks = String::new();
    let mut items = String::new();
    for (number, file) in files.iter().enumerate() {
        let path = escaped(file.text("path").unwrap_or_default());
        let size = file.number("size").unwrap_or_default();
        let _ =
            writeln!(references, "    <File ovf:href=\"{path}\" ovf:id=\"file{}\" ovf:size=\"{size}\"/>", number + 1);
    }
    let mut instance = 0;
    let mut next = || {
        instance += 1;
        instance.to_string()
    };
    let cpu = [
        ("AllocationUnits", "hertz * 10^6".to_owned()),
        ("Description", "Number of Virtual CPUs".to_owned()),
        ("ElementName", format!("{} virtual CPU(s)", vm.cpus)),
        ("InstanceID", next()),
        ("ResourceType", "3".to_owned()),
        ("VirtualQuantity", vm.cpus.to_string()),
    ];
    item(&mut items, cpu.to_vec());
    let memory = [
        ("AllocationUnits", "byte * 2^20".to_owned()),
        ("Description", "Memory Size".to_owned()),
        ("ElementName", format!("{}MB of memory", vm.memory_mb)),
        ("InstanceID", next()),
        ("ResourceType", "4".to_owned()),
        ("VirtualQuantity", vm.memory_mb.to_string()),
    ];
    item(&mut items, memory.to_vec());
    let mut controllers: Vec<(Option<i32>, String)> = Vec::new();
    for controller in &vm.devices {
        let (kind, sub) = match controller.kind {
            "VirtualIDEController" => ("5", None),
            "VirtualAHCIController" => ("20", Some("vmware.sata.ahci")),
            "VirtualNVMEController" => ("20", Some("vmware.nvme.controller")),
            "ParaVirtualSCSIController" => ("6", Some("VirtualSCSI")),
            "VirtualLsiLogicSASController" => ("6", Some("lsilogicsas")),
            "VirtualBusLogicController" => ("6", Some("buslogic")),
            kind if schema().is_a(kind, "VirtualSCSIController") => ("6", Some("lsilogic")),
            _ => continue,
        };
        let number = next();
        let bus = controller.int("busNumber").unwrap_or_default().to_string();
        let mut fields = vec![
            ("Address", bus),
            ("ElementName", label(controller)),
            ("InstanceID", number.clone()),
            ("ResourceType", kind.to_owned()),
        ];
        fields.extend(sub.map(|sub| ("ResourceSubType", sub.to_owned())));
        item(&mut items, fields);
        controllers.push((controller.int("key"), number));
    }
    for (number, disk) in vm.disks().enumerate() {
        let key = super::super::lease::device_key(vm, disk);
        let file = files.iter().position(|file| file.text("deviceId") == Some(&key));
        let reference = file.map(|file| format!(" ovf:fileRef=\"file{}\"", file + 1)).unwrap_or_default();
        let capacity = disk.number("capacityInKB").unwrap_or_default().saturating_mul(1024);
        let populated = file.and_then(|file| files.get(file)?.number("populatedSize"));
        let populated = populated.map(|size| format!(" ovf:populatedSize=\"{size}\"")).unwrap_or_default();
        let _ = writeln!(
            disks,
            "    <Disk ovf:capacity=\"{capacity}\" ovf:capacityAllocationUnits=\"byte\" ovf:diskId=\"vmdisk{}\"{reference} \
             ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"{populated}/>",
            number + 1
        );
        let parent =
            controllers.iter().find(|(key, _)| *key == disk.int("controllerKey")).map(|(_, number)| number.clone());
        let fields = vec![
            ("AddressOnParent", disk.int("unitNumber").unwrap_or_default().to_string()),
            ("ElementName", label(disk)),
            ("HostResource", format!("ovf:/disk/vmdisk{}", number + 1)),
            ("InstanceID", next()),
            ("Parent", parent.unwrap_or_default()),
            ("ResourceType", "17".to_owned()),
        ];
        item(&mut items, fields);
    }
    let mut networks: Vec<String> = Vec::new();
    for nic in vm.nics() {
        let network = Vm::network_of(nic).unwrap_or_default().to_owned();
        let sub = match nic.kind {
            "VirtualE1000" => "E1000",
            "VirtualE1000e" => "E1000e",
            "VirtualPCNet32" => "PCNet32",
            "VirtualVmxnet2" => "VmxNet2",
            _ => "VmxNet3",
        };
        let fields = vec![
            ("AutomaticAllocation", "true".to_owned()),
            ("Connection", network.clone()),
            ("ElementName", label(nic)),
            ("InstanceID", next()),
            ("ResourceSubType", sub.to_owned()),
            ("ResourceType", "10".to_owned()),
        ];
        item(&mut items, fields);
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    let networks: String = networks
        .iter()
        .map(|network| {
            format!(
                "    <Network ovf:name=\"{0}\">\n      <Description>The {0} network</Description>\n    </Network>\n",
                escaped(network)
            )
        })
        .collect();
    let mut config =
        format!("      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"{}\"/>\n", vm.firmware);
    if vm.settings.at("bootOptions.efiSecureBootEnabled") == Some(&Value::Bool(true)) {
        config.push_str("      <vmw:Config ovf:required=\"false\" vmw:key=\"bootOptions.efiSecureBootEnabled\" vmw:value=\"true\"/>\n");
    }
    let annotation = match vm.annotation.as_str() {
        "" => String::new(),
        text => format!(
            "    <AnnotationSection>\n      <Info>A human-readable annotation</Info>\n      <Annotation>{}</Annotation>\n    </AnnotationSection>\n",
            escaped(text)
        ),
    };
    let description = crate::sim::esx::guests::full_name(&vm.guest_id);
    let version = world.started.year();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- SIMULATOR, {version} -->\n\
         <Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\" \
         xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData\" \
         xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData\" \
         xmlns:vmw=\"http://www.vmware.com/schema/ovf\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n\
         \x20 <References>\n{references}  </References>\n\
         \x20 <DiskSection>\n    <Info>Virtual disk information</Info>\n{disks}  </DiskSection>\n\
         \x20 <NetworkSection>\n    <Info>The list of logical networks</Info>\n{networks}  </NetworkSection>\n\
         \x20 <VirtualSystem ovf:id=\"{name}\">\n    <Info>A virtual machine</Info>\n    <Name>{name}</Name>\n{annotation}\
         \x20   <OperatingSystemSection ovf:id=\"1\" vmw:osType=\"{}\">\n      <Info>The kind of installed guest operating system</Info>\n\
         \x20     <Description>{}</Description>\n    </OperatingSystemSection>\n\
         \x20   <VirtualHardwareSection>\n      <Info>Virtual hardware requirements</Info>\n      <System>\n\
         \x20       <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        <vssd:InstanceID>0</vssd:InstanceID>\n\
         \x20       <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>\n\
         \x20       <vssd:VirtualSystemType>{}</vssd:VirtualSystemType>\n      </System>\n{items}{config}    </VirtualHardwareSection>\n\
         \x20 </VirtualSystem>\n</Envelope>\n",
        escaped(&vm.guest_id),
        escaped(&description),
        escaped(&vm.version),
        name = escaped(name),
    )
}

fn label(device: &Data) -> String {
    device.at("deviceInfo.label").and_then(Value::as_text).unwrap_or_default().to_owned()
}
