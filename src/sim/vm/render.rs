//! A machine's properties: `config`, `summary`, `runtime`, `guest` and what belongs to them.

use time::OffsetDateTime;

use super::{Power, Vm, hardware, layout, snapshot};
use crate::sim::esx;
use crate::sim::guest::Seen;
use crate::sim::property::Wanted;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// Adds a field only where it is wanted: building a machine's whole configuration for one name would be a waste.
trait Lazily {
    fn when<T: Into<Value>>(self, wanted: Wanted<'_>, name: &'static str, make: impl FnOnce() -> T) -> Self;
}

impl Lazily for Data {
    fn when<T: Into<Value>>(self, wanted: Wanted<'_>, name: &'static str, make: impl FnOnce() -> T) -> Self {
        if wanted.wants(name) { self.with(name, make()) } else { self }
    }
}

pub fn summary(world: &World, vm: &Vm, wanted: Wanted<'_>) -> Data {
    let seen = crate::sim::guest::seen(world, vm);
    Data::new("VirtualMachineSummary")
        .with("vm", vm.reference())
        .when(wanted, "runtime", || runtime(world, vm))
        .when(wanted, "guest", || guest_summary(vm, seen.as_ref()))
        .when(wanted, "config", || config_summary(vm))
        .when(wanted, "storage", || layout::summary(world, vm))
        .when(wanted, "quickStats", || quick_stats(vm, seen.is_some()))
        .with("overallStatus", "green")
}

fn config_summary(vm: &Vm) -> Data {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Data::new("VirtualMachineConfigSummary")
        .with("name", &vm.name)
        .with("template", false)
        .with("vmPathName", &vm.vmx)
        .with("memorySizeMB", vm.memory_mb)
        .with("cpuReservation", 0)
        .with("memoryReservation", 0)
        .with("numCpu", vm.cpus)
        .with("numEthernetCards", count(vm.nics().count()))
        .with("numVirtualDisks", count(vm.disks().count()))
        .with("uuid", &vm.uuid)
        .with("instanceUuid", &vm.instance_uuid)
        .with("guestId", &vm.guest_id)
        .with("guestFullName", esx::guests::full_name(&vm.guest_id))
        .with("annotation", &vm.annotation)
        .with("installBootRequired", false)
        .with("tpmPresent", false)
        .with("numVmiopBackings", 0)
        .with("hwVersion", &vm.version)
}

fn guest_summary(vm: &Vm, seen: Option<&Seen>) -> Data {
    tools(Data::new("VirtualMachineGuestSummary").maybe("guestId", seen.map(|_| vm.guest_id.clone())), vm, seen)
        .maybe("guestFullName", seen.map(|_| esx::guests::full_name(&vm.guest_id)))
        .maybe("hostName", seen.map(|seen| seen.hostname.clone()))
        .maybe("ipAddress", seen.and_then(Seen::address))
        .with("hwVersion", &vm.version)
}

fn tools(data: Data, vm: &Vm, seen: Option<&Seen>) -> Data {
    let (status, version) = match (seen.is_some(), vm.system || vm.applied.is_some()) {
        (true, _) => ("toolsOk", "guestToolsUnmanaged"),
        (false, true) => ("toolsNotRunning", "guestToolsUnmanaged"),
        (false, false) => ("toolsNotInstalled", "guestToolsNotInstalled"),
    };
    data.with("toolsStatus", status)
        .with("toolsVersionStatus", version)
        .with("toolsVersionStatus2", version)
        .with("toolsRunningStatus", if seen.is_some() { "guestToolsRunning" } else { "guestToolsNotRunning" })
}

fn quick_stats(vm: &Vm, running: bool) -> Data {
    let up = vm
        .powered_on
        .filter(|_| vm.power == Power::On)
        .map(|since| (OffsetDateTime::now_utc() - since).whole_seconds());
    let on = vm.power == Power::On;
    Data::new("VirtualMachineQuickStats")
        .with("overallCpuUsage", if on { vm.cpus * 12 } else { 0 })
        .with("overallCpuDemand", if on { vm.cpus * 12 } else { 0 })
        .with("guestMemoryUsage", if on { vm.memory_mb / 10 } else { 0 })
        .with("hostMemoryUsage", if on { vm.memory_mb / 2 } else { 0 })
        .with("guestHeartbeatStatus", if running { "green" } else { "gray" })
        .with("distributedCpuEntitlement", 0)
        .with("distributedMemoryEntitlement", 0)
        .with("staticCpuEntitlement", 0)
        .with("staticMemoryEntitlement", 0)
        .with("privateMemory", 0)
        .with("sharedMemory", 0)
        .with("swappedMemory", 0)
        .with("balloonedMemory", 0)
        .with("consumedOverheadMemory", 0)
        .with("ftLogBandwidth", -1)
        .with("ftSecondaryLatency", -1)
        .with("ftLatencyStatus", "gray")
        .with("compressedMemory", 0i64)
        .with("uptimeSeconds", up.and_then(|up| i32::try_from(up).ok()).unwrap_or_default())
}

pub fn runtime(world: &World, vm: &Vm) -> Data {
    Data::new("VirtualMachineRuntimeInfo")
        .with("host", esx::HOST)
        .with("connectionState", "connected")
        .with("powerState", vm.power.name())
        .with("faultToleranceState", "notConfigured")
        .with("toolsInstallerMounted", false)
        .maybe("suspendTime", vm.suspended)
        .maybe("bootTime", vm.powered_on.filter(|_| vm.power == Power::On))
        .with("suspendInterval", 0i64)
        .maybe("question", super::question::info(world, vm))
        .maybe("memoryOverhead", (vm.power == Power::On).then_some(48i64 << 20))
        .with("maxCpuUsage", vm.cpus * esx::host::MHZ)
        .with("maxMemoryUsage", vm.memory_mb)
        .with("numMksConnections", 0)
        .with("recordReplayState", "inactive")
        .maybe("cleanPowerOff", vm.is_off().then_some(true))
        .with("onlineStandby", false)
        .with("consolidationNeeded", snapshot::consolidation_needed(vm))
        .with("paused", false)
        .with("snapshotInBackground", false)
}

pub fn guest(vm: &Vm, seen: Option<&Seen>) -> Data {
    let stacks = |seen: &Seen| {
        let routes: Vec<Data> = seen.gateway.iter().map(|gateway| route(gateway)).collect();
        let stack = Data::new("GuestStackInfo")
            .with("dnsConfig", dns(seen))
            .with("ipRouteConfig", Data::new("NetIpRouteConfigInfo").with("ipRoute", routes));
        vec![stack]
    };
    let disk = |capacity: i64| {
        let free = capacity - capacity / 8;
        vec![Data::new("GuestDiskInfo").with("diskPath", "/").with("capacity", capacity).with("freeSpace", free)]
    };
    let capacity = vm.disks().next().and_then(|disk| disk.number("capacityInBytes"));
    tools(Data::new("GuestInfo"), vm, seen)
        .maybe("toolsVersion", seen.map(|_| "12352"))
        .maybe("toolsInstallType", seen.map(|_| "guestToolsTypeOpenVMTools"))
        .maybe("guestId", seen.map(|_| vm.guest_id.clone()))
        .maybe("guestFamily", seen.map(|_| esx::guests::family(&vm.guest_id)))
        .maybe("guestFullName", seen.map(|_| esx::guests::full_name(&vm.guest_id)))
        .maybe("hostName", seen.map(|seen| seen.hostname.clone()))
        .maybe("ipAddress", seen.and_then(Seen::address))
        .maybe("net", seen.map(|seen| seen.nics.iter().map(nic).collect::<Vec<_>>()))
        .maybe("ipStack", seen.map(stacks))
        .maybe("disk", seen.and(capacity).map(disk))
        .with("guestState", if seen.is_some() { "running" } else { "notRunning" })
        .with("appHeartbeatStatus", "appStatusGray")
        .with("guestKernelCrashed", false)
        .with("appState", "none")
        .with("guestOperationsReady", seen.is_some())
        .with("interactiveGuestOperationsReady", false)
        .with("guestStateChangeSupported", seen.is_some())
        .with("hwVersion", &vm.version)
}

fn route(gateway: &str) -> Data {
    let gateway = Data::new("NetIpRouteConfigInfoGateway").with("ipAddress", gateway.to_owned()).with("device", "0");
    let (network, length) = ("0.0.0.0", 0);
    Data::new("NetIpRouteConfigInfoIpRoute")
        .with("network", network)
        .with("prefixLength", length)
        .with("gateway", gateway)
}

fn dns(seen: &Seen) -> Data {
    Data::new("NetDnsConfigInfo")
        .with("dhcp", seen.nics.iter().any(|nic| nic.dhcp))
        .with("hostName", seen.hostname.clone())
        .with("domainName", seen.domain.clone())
        .with("ipAddress", seen.dns.clone())
}

fn nic(nic: &crate::sim::guest::SeenNic) -> Data {
    let addresses: Vec<Data> = nic
        .addresses
        .iter()
        .map(|(address, prefix)| {
            Data::new("NetIpConfigInfoIpAddress")
                .with("ipAddress", address.clone())
                .with("prefixLength", i32::from(*prefix))
                .with("state", "preferred")
        })
        .collect();
    Data::new("GuestNicInfo")
        .with("network", nic.network.clone())
        .with("ipAddress", nic.addresses.iter().map(|(address, _)| address.clone()).collect::<Vec<_>>())
        .with("macAddress", nic.mac.clone())
        .with("connected", true)
        .with("deviceConfigId", nic.key)
        .with("ipConfig", Data::new("NetIpConfigInfo").with("ipAddress", addresses))
}

pub fn config(vm: &Vm, wanted: Wanted<'_>) -> Data {
    let mut config = Data::new("VirtualMachineConfigInfo")
        .with("changeVersion", vm.change_version.to_string())
        .with("modified", vm.powered_on.unwrap_or(vm.created))
        .with("name", &vm.name)
        .with("guestFullName", esx::guests::full_name(&vm.guest_id))
        .with("version", &vm.version)
        .with("uuid", &vm.uuid)
        .with("createDate", vm.created)
        .with("instanceUuid", &vm.instance_uuid)
        .with("npivTemporaryDisabled", true)
        .with("template", false)
        .with("guestId", &vm.guest_id)
        .with("alternateGuestName", "")
        .with("annotation", &vm.annotation)
        .when(wanted, "files", || layout::files(vm))
        .when(wanted, "tools", default_tools)
        .when(wanted, "flags", default_flags)
        .when(wanted, "defaultPowerOps", power_operations)
        .with("rebootPowerOff", false)
        .when(wanted, "hardware", || virtual_hardware(vm))
        .when(wanted, "cpuAllocation", || allocation(vm.cpus * 1000))
        .when(wanted, "memoryAllocation", || allocation(vm.memory_mb.saturating_mul(10)))
        .with("memoryHotAddEnabled", false)
        .with("cpuHotAddEnabled", false)
        .with("cpuHotRemoveEnabled", false)
        .when(wanted, "extraConfig", || options(vm))
        .with("swapPlacement", "inherit")
        .when(wanted, "bootOptions", boot_options)
        .with("vAssertsEnabled", false)
        .with("changeTrackingEnabled", false)
        .with("firmware", &vm.firmware)
        .with("maxMksConnections", 40)
        .with("guestAutoLockEnabled", true)
        .with("memoryReservationLockedToMax", false)
        .with("nestedHVEnabled", false)
        .with("vPMCEnabled", false)
        .with("messageBusTunnelEnabled", false);
    for (name, value) in vm.settings.fields.iter().filter(|(name, _)| wanted.wants(name)) {
        config.set(name, overlaid(config.get(name), value));
    }
    config
}

/// A client's value over the host's default: objects field by field, all else whole.
pub fn overlaid(default: Option<&Value>, set: &Value) -> Value {
    match (default, set) {
        (Some(Value::Data(default)), Value::Data(set)) if default.kind == set.kind => {
            let mut merged = default.clone();
            for (name, value) in &set.fields {
                merged.set(name, overlaid(default.get(name), value));
            }
            merged.into()
        }
        _ => set.clone(),
    }
}

fn default_tools() -> Data {
    Data::new("ToolsConfigInfo")
        .with("toolsVersion", 12352)
        .with("toolsInstallType", "guestToolsTypeOpenVMTools")
        .with("afterPowerOn", true)
        .with("afterResume", true)
        .with("beforeGuestStandby", true)
        .with("beforeGuestShutdown", true)
        .with("toolsUpgradePolicy", "manual")
        .with("syncTimeWithHostAllowed", true)
        .with("syncTimeWithHost", false)
}

fn default_flags() -> Data {
    Data::new("VirtualMachineFlagInfo")
        .with("disableAcceleration", false)
        .with("enableLogging", true)
        .with("useToe", false)
        .with("runWithDebugInfo", false)
        .with("monitorType", "release")
        .with("htSharing", "any")
        .with("snapshotDisabled", false)
        .with("snapshotLocked", false)
        .with("diskUuidEnabled", false)
        .with("virtualMmuUsage", "automatic")
        .with("virtualExecUsage", "hvAuto")
        .with("snapshotPowerOffBehavior", "powerOff")
        .with("recordReplayEnabled", false)
        .with("faultToleranceType", "unset")
        .with("cbrcCacheEnabled", false)
        .with("vvtdEnabled", false)
        .with("vbsEnabled", false)
}

fn power_operations() -> Data {
    Data::new("VirtualMachineDefaultPowerOpInfo")
        .with("powerOffType", "soft")
        .with("suspendType", "hard")
        .with("resetType", "soft")
        .with("defaultPowerOffType", "soft")
        .with("defaultSuspendType", "hard")
        .with("defaultResetType", "soft")
        .with("standbyAction", "checkpoint")
}

fn boot_options() -> Data {
    Data::new("VirtualMachineBootOptions")
        .with("bootDelay", 0i64)
        .with("enterBIOSSetup", false)
        .with("efiSecureBootEnabled", false)
        .with("bootRetryEnabled", false)
        .with("bootRetryDelay", 10_000i64)
        .with("networkBootProtocol", "ipv4")
}

fn virtual_hardware(vm: &Vm) -> Data {
    Data::new("VirtualHardware")
        .with("numCPU", vm.cpus)
        .with("numCoresPerSocket", vm.cores_per_socket)
        .with("memoryMB", vm.memory_mb)
        .with("virtualICH7MPresent", false)
        .with("virtualSMCPresent", false)
        .with("device", hardware::shown(&vm.devices, vm.power == Power::On))
}

fn options(vm: &Vm) -> Vec<Data> {
    let told = vm.extra.iter().filter(|(key, _)| key != super::place::LOCATION);
    told.map(|(key, value)| Data::new("OptionValue").with("key", key).with("value", value)).collect()
}

fn allocation(shares: i32) -> Data {
    let shares = Data::new("SharesInfo").with("shares", shares).with("level", "normal");
    Data::new("ResourceAllocationInfo")
        .with("reservation", 0i64)
        .with("expandableReservation", false)
        .with("limit", -1i64)
        .with("shares", shares)
}

pub fn resources(vm: &Vm) -> Data {
    Data::new("ResourceConfigSpec")
        .with("entity", vm.reference())
        .with("cpuAllocation", allocation(vm.cpus * 1000))
        .with("memoryAllocation", allocation(vm.memory_mb.saturating_mul(10)))
}

pub fn capability(vm: &Vm) -> Data {
    let off = vm.is_off();
    let mut capability = esx::filled("VirtualMachineCapability");
    for name in [
        "changeTrackingSupported",
        "consolePreferencesSupported",
        "cpuFeatureMaskSupported",
        "s1AcpiManagementSupported",
        "toolsSyncTimeSupported",
        "bootOptionsSupported",
        "bootRetryOptionsSupported",
        "multipleCoresPerSocketSupported",
        "memoryReservationLockSupported",
        "swapPlacementSupported",
        "virtualMmuUsageSupported",
        "diskSharesSupported",
        "nestedHVSupported",
        "secureBootSupported",
        "snapshotOperationsSupported",
        "multipleSnapshotsSupported",
        "snapshotConfigSupported",
        "poweredOffSnapshotsSupported",
        "memorySnapshotsSupported",
        "revertToSnapshotSupported",
        "quiescedSnapshotsSupported",
        "disableSnapshotsSupported",
        "lockSnapshotsSupported",
    ] {
        capability.set(name, true);
    }
    capability.set("settingVideoRamSizeSupported", off);
    capability
}
