//! The environment browser: what hardware and guests a new machine may have.

use super::{HOST, filled, guests, host};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore;
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// Hardware versions that machines may be made with, newest last.
const VERSIONS: &[(&str, &str)] = &[
    ("vmx-13", "ESXi 6.5 virtual machine"),
    ("vmx-14", "ESXi 6.7 virtual machine"),
    ("vmx-15", "ESXi 6.7 U2 virtual machine"),
    ("vmx-17", "ESXi 7.0 virtual machine"),
    ("vmx-19", "ESXi 7.0 U2 virtual machine"),
    ("vmx-20", "ESXi 8.0 virtual machine"),
    ("vmx-21", "ESXi 8.0 U2 virtual machine"),
];

pub fn call(world: &World, call: &Call) -> Answer {
    match call.method {
        "QueryConfigOption" => {
            call.object(world, "host", "HostSystem")?;
            option(call.args.text("key"), &[]).map(Reply::from)
        }
        "QueryConfigOptionEx" => {
            let spec = call.args.data("spec");
            let wanted: Vec<&str> = spec.map(|spec| spec.texts("guestId").collect()).unwrap_or_default();
            option(spec.and_then(|spec| spec.text("key")), &wanted).map(Reply::from)
        }
        "QueryConfigOptionDescriptor" | "queryDatacenterConfigOptionDescriptor" => {
            let newest = VERSIONS.last().map(|(key, _)| *key);
            let descriptors: Vec<Data> = VERSIONS
                .iter()
                .map(|(key, description)| {
                    Data::new("VirtualMachineConfigOptionDescriptor")
                        .with("key", *key)
                        .with("description", *description)
                        .with("host", vec![HOST])
                        .with("createSupported", true)
                        .with("defaultConfigOption", Some(*key) == newest)
                        .with("runSupported", true)
                        .with("upgradeSupported", true)
                })
                .collect();
            Ok(Reply::Value(descriptors.into()))
        }
        "QueryConfigTarget" => Ok(target(world).into()),
        "QueryTargetCapabilities" => Ok(host::capability().into()),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn option(key: Option<&str>, wanted: &[&str]) -> Result<Data, VimFault> {
    let newest = VERSIONS.last().map_or("vmx-21", |(key, _)| *key);
    let key = key.filter(|key| !key.is_empty()).unwrap_or(newest);
    let known = VERSIONS.iter().find(|(own, _)| *own == key);
    let (key, description) =
        known.ok_or_else(|| VimFault::invalid_argument("key", "the host has no such hardware version"))?;
    let descriptors: Vec<Data> = guests::COMMON
        .iter()
        .filter(|(id, _, _)| wanted.is_empty() || wanted.contains(id))
        .map(|(id, family, name)| descriptor(id, family, name))
        .collect();
    Ok(Data::new("VirtualMachineConfigOption")
        .with("version", *key)
        .with("description", *description)
        .with("guestOSDescriptor", descriptors)
        .with("guestOSDefaultIndex", 0)
        .with("hardwareOptions", hardware(key))
        .with("capabilities", filled("VirtualMachineCapability"))
        .with("datastore", Data::new("DatastoreOption"))
        .with("supportedMonitorType", vec!["release"]))
}

fn descriptor(id: &'static str, family: &'static str, name: &'static str) -> Data {
    let windows = family == "windowsGuest";
    let video = Data::new("IntOption").with("min", 0).with("max", 262_144).with("defaultValue", 8192);
    let controllers =
        ["ParaVirtualSCSIController", "VirtualLsiLogicSASController", "VirtualAHCIController", "VirtualNVMEController"];
    let mut data = filled("GuestOsDescriptor");
    for (name, value) in Data::new("GuestOsDescriptor")
        .with("id", id)
        .with("family", family)
        .with("fullName", name)
        .with("supportedMaxCPUs", 768)
        .with("numSupportedPhysicalSockets", 128)
        .with("numSupportedCoresPerSocket", 256)
        .with("supportedMinMemMB", 32)
        .with("supportedMaxMemMB", 25_165_824)
        .with("recommendedMemMB", if windows { 4096 } else { 2048 })
        .with("recommendedColorDepth", 32)
        .with("supportedDiskControllerList", controllers.to_vec())
        .with(
            "recommendedSCSIController",
            if windows { "VirtualLsiLogicSASController" } else { "ParaVirtualSCSIController" },
        )
        .with(
            "recommendedDiskController",
            if windows { "VirtualLsiLogicSASController" } else { "ParaVirtualSCSIController" },
        )
        .with("supportedNumDisks", 256)
        .with("recommendedDiskSizeMB", if windows { 98_304 } else { 16_384 })
        .with("recommendedCdromController", "VirtualAHCIController")
        .with("supportedEthernetCard", vec!["VirtualVmxnet3", "VirtualE1000e"])
        .with("recommendedEthernetCard", if windows { "VirtualE1000e" } else { "VirtualVmxnet3" })
        .with("supportsMemoryHotAdd", true)
        .with("supportsCpuHotAdd", true)
        .with("supportedFirmware", vec!["bios", "efi"])
        .with("recommendedFirmware", "efi")
        .with("supportedUSBControllerList", vec!["VirtualUSBXHCIController"])
        .with("recommendedUSBController", "VirtualUSBXHCIController")
        .with("supportLevel", "supported")
        .with("supportedForCreate", true)
        .with("vRAMSizeInKB", video)
        .with("supportsPvscsiControllerForBoot", true)
        .with("supportsHotPlugPCI", true)
        .fields
    {
        data.set(name, value);
    }
    data
}

fn hardware(key: &str) -> Data {
    let number = key.trim_start_matches("vmx-").parse().unwrap_or(21);
    let whole = |min: i32, max: i32, usual: i32| {
        Data::new("IntOption").with("min", min).with("max", max).with("defaultValue", usual)
    };
    let long = |min: i64, max: i64, usual: i64| {
        Data::new("LongOption").with("min", min).with("max", max).with("defaultValue", usual)
    };
    let allocation = || {
        let shares =
            Data::new("SharesOption").with("sharesOption", whole(0, 1_000_000, 1000)).with("defaultLevel", "normal");
        Data::new("ResourceAllocationOption").with("sharesOption", shares)
    };
    Data::new("VirtualHardwareOption")
        .with("hwVersion", number)
        .with("virtualDeviceOption", Value::List(Vec::new()))
        .with("deviceListReadonly", false)
        .with("numCPU", vec![1, 2, 4, 8, 16, 32, 64, 128])
        .with("numCoresPerSocket", whole(1, 256, 1))
        .with("numCpuReadonly", false)
        .with("memoryMB", long(4, 25_165_824, 2048))
        .with("numPCIControllers", whole(1, 1, 1))
        .with("numIDEControllers", whole(2, 2, 2))
        .with("numUSBControllers", whole(0, 1, 0))
        .with("numUSBXHCIControllers", whole(0, 1, 0))
        .with("numSIOControllers", whole(1, 1, 1))
        .with("numPS2Controllers", whole(1, 1, 1))
        .with(
            "resourceConfigOption",
            Data::new("ResourceConfigOption")
                .with("cpuAllocationOption", allocation())
                .with("memoryAllocationOption", allocation()),
        )
}

fn target(world: &World) -> Data {
    let networks: Vec<Data> = world
        .networks()
        .map(|name| {
            let summary = Data::new("NetworkSummary")
                .with("network", super::network(name))
                .with("name", name.to_owned())
                .with("accessible", true)
                .with("ipPoolName", "");
            Data::new("VirtualMachineNetworkInfo")
                .with("name", name.to_owned())
                .with("network", summary)
                .with("vswitch", "vSwitch0")
        })
        .collect();
    let of_store = |name| datastore::property(world, &datastore::OBJECT, name);
    let store = Data::new("VirtualMachineDatastoreInfo")
        .with("name", datastore::NAME)
        .maybe("datastore", of_store("summary"))
        .maybe("capability", of_store("capability"))
        .with("maxFileSize", datastore::long(datastore::vmdk::LARGEST))
        .with("mode", "readWrite");
    Data::new("ConfigTarget")
        .with("numCpus", host::CORES)
        .with("numCpuCores", host::CORES)
        .with("numNumaNodes", 1)
        .with("smcPresent", false)
        .with("datastore", vec![store])
        .with("network", networks)
        .with("pciPassthrough", super::pci::targets(world))
        .with("maxMemMBOptimalPerf", i32::try_from(host::MEMORY >> 20).unwrap_or(i32::MAX))
}
