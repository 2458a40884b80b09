//! The host's own facts: hardware, summary, configuration, services.

use super::{HOST, HOST_NAME, certificates, filled, firewall, network, options, services, vnics};
use crate::inventory::HostFacts;
use crate::sim::datastore;
use crate::sim::property::Wanted;
use crate::sim::service::about;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::{Power, Vm};
use crate::sim::world::World;

pub const CORES: i32 = 16;
pub const MHZ: i32 = 2600;
pub const MEMORY: i64 = 128 << 30;
const OPTIONS: Ref = Ref::fixed("OptionManager", "ha-adv-options");
const CPU: &str = "Simulated CPU @ 2.60GHz";

pub fn property(world: &World, property: &str, wanted: Wanted<'_>) -> Option<Value> {
    Some(match property {
        "summary" => summary(world).into(),
        "runtime" => runtime(world).into(),
        "hardware" => hardware(world).into(),
        "capability" => capability().into(),
        "licensableResource" => {
            let cpus = Data::new("KeyAnyValue").with("key", "numCpuPackages").with("value", 1);
            Data::new("HostLicensableResourceInfo").with("resource", vec![cpus]).into()
        }
        "configManager" => managers().into(),
        "config" => config(world, wanted).into(),
        "vm" => world.vms.values().map(Vm::reference).collect::<Vec<_>>().into(),
        "datastore" => world.datastores().into(),
        "network" => world.networks().map(super::network).collect::<Vec<_>>().into(),
        "datastoreBrowser" => datastore::BROWSER.into(),
        _ => return None,
    })
}

fn summary(world: &World) -> Data {
    let running: Vec<&Vm> = world.vms.values().filter(|vm| vm.power == Power::On).collect();
    let memory: i64 = running.iter().map(|vm| i64::from(vm.memory_mb / 2)).sum();
    let cpu: i32 = running.iter().map(|vm| vm.cpus * 12).sum();
    let up = (time::OffsetDateTime::now_utc() - world.started).whole_seconds();
    let loaded = world.file.loaded.as_ref().map(|loaded| &loaded.host);
    let text = |own: fn(&HostFacts) -> &Option<String>, usual: &str| {
        loaded.and_then(|host| own(host).clone()).unwrap_or_else(|| usual.to_owned())
    };
    let count = |own: fn(&HostFacts) -> Option<u32>| {
        loaded.and_then(own).and_then(|count| i16::try_from(count).ok()).map_or(CORES, i32::from)
    };
    let size = loaded.and_then(|host| host.memory).map_or(MEMORY, datastore::long);
    let hardware = Data::new("HostHardwareSummary")
        .with("vendor", text(|host| &host.vendor, "ceso"))
        .with("model", text(|host| &host.model, "SIMULATOR"))
        .with("uuid", &world.file.uuid)
        .with("memorySize", size)
        .with("cpuModel", text(|host| &host.cpu_model, CPU))
        .with("cpuMhz", MHZ)
        .with("numCpuPkgs", 1)
        .with("numCpuCores", count(|host| host.cpu_cores))
        .with("numCpuThreads", count(|host| host.cpu_threads))
        .with("numNics", 1)
        .with("numHBAs", 1);
    let config = Data::new("HostConfigSummary")
        .with("name", HOST_NAME)
        .with("port", 443)
        .with("product", about())
        .with("vmotionEnabled", false)
        .with("faultToleranceEnabled", false);
    let summary = Data::new("HostListSummary")
        .with("host", HOST)
        .with("hardware", hardware)
        .with("runtime", runtime(world))
        .with("config", config)
        .with(
            "quickStats",
            Data::new("HostListSummaryQuickStats")
                .with("overallCpuUsage", cpu.min(CORES * MHZ))
                .with("overallMemoryUsage", i32::try_from(memory.min(MEMORY >> 20)).unwrap_or(i32::MAX))
                .with("uptime", i32::try_from(up).unwrap_or(i32::MAX)),
        )
        .with("overallStatus", "green")
        .with("rebootRequired", false);
    match &world.hindrances.managed_by {
        Some(address) => summary.with("managementServerIp", address.clone()),
        None => summary,
    }
}

fn runtime(world: &World) -> Data {
    Data::new("HostRuntimeInfo")
        .with("connectionState", "connected")
        .with("powerState", "poweredOn")
        .with("inMaintenanceMode", world.file.maintenance)
        .with("healthSystemRuntime", health())
        .with("bootTime", world.started)
        .with("hostMaxVirtualDiskCapacity", datastore::long(datastore::vmdk::LARGEST))
}

/// What the sensors of the machine read: one of each kind.
pub fn health() -> Data {
    let good = || {
        let text = "Sensor is operating under normal conditions";
        Data::new("ElementDescription").with("label", "Green").with("summary", text).with("key", "green")
    };
    let sensor = |name: &'static str, reading: i64, modifier: i32, units: &'static str, kind: &'static str| {
        Data::new("HostNumericSensorInfo")
            .with("name", name)
            .with("healthState", good())
            .with("currentReading", reading)
            .with("unitModifier", modifier)
            .with("baseUnits", units)
            .with("sensorType", kind)
    };
    let sensors = vec![
        sensor("System Board 1 Ambient Temp", 2300, -2, "Degrees C", "temperature"),
        sensor("Fan 1", 4800, 0, "RPM", "fan"),
        sensor("Power Supply 1", 21000, -2, "Watts", "power"),
    ];
    let element = |kind, name: &'static str| Data::new(kind).with("name", name).with("status", good());
    let hardware = Data::new("HostHardwareStatusInfo")
        .with("memoryStatusInfo", vec![element("HostHardwareElementInfo", "Memory")])
        .with("cpuStatusInfo", vec![element("HostHardwareElementInfo", "CPU 1")]);
    Data::new("HealthSystemRuntime")
        .with("systemHealthInfo", Data::new("HostSystemHealthInfo").with("numericSensorInfo", sensors))
        .with("hardwareStatusInfo", hardware)
}

fn hardware(world: &World) -> Data {
    let hertz = i64::from(MHZ) * 1_000_000;
    let system =
        Data::new("HostSystemInfo").with("vendor", "ceso").with("model", "SIMULATOR").with("uuid", &world.file.uuid);
    let cpu = Data::new("HostCpuInfo")
        .with("numCpuPackages", 1)
        .with("numCpuCores", CORES)
        .with("numCpuThreads", CORES)
        .with("hz", hertz);
    let package = Data::new("HostCpuPackage")
        .with("index", 0)
        .with("vendor", "intel")
        .with("hz", hertz)
        .with("busHz", 100_000_000i64)
        .with("description", CPU)
        .with("threadId", (0..CORES).collect::<Vec<_>>());
    Data::new("HostHardwareInfo")
        .with("systemInfo", system)
        .with("cpuInfo", cpu)
        .with("cpuPkg", vec![package])
        .with("memorySize", MEMORY)
        .with("smcPresent", false)
        .with("pciDevice", super::pci::devices())
        .with("biosInfo", Data::new("HostBIOSInfo").with("biosVersion", "ceso").with("vendor", "ceso"))
}

pub fn capability() -> Data {
    let mut capability = filled("HostCapability")
        .with("maxSupportedVMs", 1024)
        .with("maxRunningVMs", 1024)
        .with("maxSupportedVcpus", 768)
        .with("maxHostRunningVms", 1024)
        .with("supportedVmfsMajorVersion", vec![5, 6])
        .with("maxSupportedVmMemory", 25_165_824);
    for name in [
        "maintenanceModeSupported",
        "rebootSupported",
        "shutdownSupported",
        "perVmSwapFiles",
        "vlanTaggingSupported",
        "nestedHVSupported",
    ] {
        capability.set(name, true);
    }
    capability
}

fn managers() -> Data {
    Data::new("HostConfigManager")
        .with("datastoreSystem", Ref::fixed("HostDatastoreSystem", "datastoresystem"))
        .with("storageSystem", Ref::fixed("HostStorageSystem", "storageSystem"))
        .with("networkSystem", network::SYSTEM)
        .with("autoStartManager", super::autostart::MANAGER)
        .with("firmwareSystem", Ref::fixed("HostFirmwareSystem", "firmwareSystem"))
        .with("healthStatusSystem", Ref::fixed("HostHealthStatusSystem", "healthStatusSystem"))
        .with("pciPassthruSystem", Ref::fixed("HostPciPassthruSystem", "pciPassthruSystem"))
        .with("virtualNicManager", vnics::MANAGER)
        .with("serviceSystem", Ref::fixed("HostServiceSystem", "serviceSystem"))
        .with("firewallSystem", firewall::SYSTEM)
        .with("advancedOption", OPTIONS)
        .with("dateTimeSystem", Ref::fixed("HostDateTimeSystem", "dateTimeSystem"))
        .with("licenseManager", Ref::fixed("LicenseManager", "ha-license-manager"))
        .with("userDirectory", Ref::fixed("UserDirectory", "ha-user-directory"))
        .with("accountManager", Ref::fixed("HostLocalAccountManager", "ha-localacctmgr"))
        .with("certificateManager", certificates::MANAGER)
}

fn config(world: &World, wanted: Wanted<'_>) -> Data {
    let mut config = Data::new("HostConfigInfo").with("host", HOST).with("product", about());
    if wanted.wants("network") {
        config = config.with("network", network::info(world));
    }
    if wanted.wants("virtualNicManagerInfo") {
        config = config.with("virtualNicManagerInfo", vnics::info(world));
    }
    if wanted.wants("service") {
        config = config.with("service", services::info(world));
    }
    if wanted.wants("firewall") {
        config = config.with("firewall", firewall::info(world));
    }
    config = config.with("autoStart", super::autostart::config(world));
    config = config.with("option", options::list(world, &OPTIONS));
    if wanted.wants("dateTimeInfo") {
        config = config.with("dateTimeInfo", services::clock(world));
    }
    if wanted.wants("certificate") {
        let bytes: Vec<i32> = world.certificate.public().bytes().map(i32::from).collect();
        config = config.with("certificate", bytes);
    }
    config
        .with("pciPassthruInfo", super::pci::passthrough(world))
        .with("adminDisabled", false)
        .with("lockdownMode", if world.hindrances.lockdown { "lockdownNormal" } else { "lockdownDisabled" })
}

pub fn administrator() -> Data {
    let info = Data::new("Description").with("label", "Administrator").with("summary", "Full access rights");
    Data::new("AuthorizationRole").with("roleId", -1).with("system", true).with("name", "Admin").with("info", info)
}
