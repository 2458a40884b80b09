//! The host itself and the objects that are always there: folders, the datacenter, the compute resource, the network, licences.
//!
//! ```text
//! mod    the tree and its names       host      hardware, summary, configuration
//! guests the guest operating systems  network   switches and port groups
//! environment  what machines may be   licence   the licence manager
//! autostart which machines start by themselves   pci   the devices of its bus
//! events what happened                 upkeep    maintenance, shutdown, the configuration, NFS mounts
//! services  services and the clock    logs      what the host wrote down
//! firewall  rulesets                   certificates  the host's certificate
//! options  advanced options           pools     resource pools
//! access   roles, permissions, users  vnics     what the host's own port is for
//! metrics/ performance counters
//! ```

mod access;
pub mod autostart;
mod certificates;
mod environment;
pub mod events;
pub mod firewall;
pub mod guests;
pub mod host;
mod licence;
pub mod logs;
mod metrics;
pub mod network;
pub mod options;
pub mod pci;
pub mod pools;
pub mod services;
pub mod upkeep;
pub mod vnics;

use std::borrow::Cow;

use super::call::{Answer, Call, Reply};
use super::datastore;
use super::fault::VimFault;
use super::property::Wanted;
use super::schema::{Kind, schema};
use super::value::{Data, Ref, Value};
use super::vm::Vm;
use super::world::World;

pub const ROOT_FOLDER: Ref = Ref::fixed("Folder", "ha-folder-root");
pub const DATACENTER: Ref = Ref::fixed("Datacenter", "ha-datacenter");
pub const VM_FOLDER: Ref = Ref::fixed("Folder", "ha-folder-vm");
pub const HOST_FOLDER: Ref = Ref::fixed("Folder", "ha-folder-host");
pub const DATASTORE_FOLDER: Ref = Ref::fixed("Folder", "ha-folder-datastore");
pub const NETWORK_FOLDER: Ref = Ref::fixed("Folder", "ha-folder-network");
pub const COMPUTE_RESOURCE: Ref = Ref::fixed("ComputeResource", "ha-compute-res");
pub const RESOURCE_POOL: Ref = Ref::fixed("ResourcePool", "ha-root-pool");
pub const HOST: Ref = Ref::fixed("HostSystem", "ha-host");
pub const ENVIRONMENT_BROWSER: Ref = Ref::fixed("EnvironmentBrowser", "ha-env-browser");

/// The network that is always there.
pub const NETWORK: &str = "VM Network";
/// The host's name and address inside its own network; clients reach it on loopback.
pub const HOST_NAME: &str = "simulator.localdomain";
pub const ADDRESS: &str = "10.0.1.2";

/// Objects of one type, which are always there.
const FIXED: &[(&str, &str)] = &[
    ("ServiceInstance", "ServiceInstance"),
    ("ha-sessionmgr", "SessionManager"),
    ("ha-property-collector", "PropertyCollector"),
    ("ViewManager", "ViewManager"),
    ("ha-searchindex", "SearchIndex"),
    ("ha-taskmgr", "TaskManager"),
    ("ha-eventmgr", "EventManager"),
    ("ha-perfmgr", "PerformanceManager"),
    ("ha-license-manager", "LicenseManager"),
    ("ha-license-assignment-manager", "LicenseAssignmentManager"),
    ("ha-authmgr", "AuthorizationManager"),
    ("ha-user-directory", "UserDirectory"),
    ("ha-localacctmgr", "HostLocalAccountManager"),
    ("ha-diagnosticmgr", "DiagnosticManager"),
    ("HostAgentSettings", "OptionManager"),
    ("ha-adv-options", "OptionManager"),
    ("ha-nfc-file-manager", "FileManager"),
    ("ha-vdiskmanager", "VirtualDiskManager"),
    ("ha-ovf-manager", "OvfManager"),
    ("ha-guest-operations-manager", "GuestOperationsManager"),
    ("ha-guest-operations-process-manager", "GuestProcessManager"),
    ("ha-guest-operations-file-manager", "GuestFileManager"),
    ("ha-guest-operations-auth-manager", "GuestAuthManager"),
    ("ha-folder-root", "Folder"),
    ("ha-datacenter", "Datacenter"),
    ("ha-folder-vm", "Folder"),
    ("ha-folder-host", "Folder"),
    ("ha-folder-datastore", "Folder"),
    ("ha-folder-network", "Folder"),
    ("ha-compute-res", "ComputeResource"),
    ("ha-root-pool", "ResourcePool"),
    ("ha-host", "HostSystem"),
    ("ha-env-browser", "EnvironmentBrowser"),
    ("ha-datastore-namespace-manager", "DatastoreNamespaceManager"),
    ("serviceSystem", "HostServiceSystem"),
    ("dateTimeSystem", "HostDateTimeSystem"),
    ("datastoresystem", "HostDatastoreSystem"),
    ("networkSystem", "HostNetworkSystem"),
    ("storageSystem", "HostStorageSystem"),
    ("firmwareSystem", "HostFirmwareSystem"),
    ("healthStatusSystem", "HostHealthStatusSystem"),
    ("pciPassthruSystem", "HostPciPassthruSystem"),
    ("ha-autostart-mgr", "HostAutoStartManager"),
    ("firewallSystem", "HostFirewallSystem"),
    ("vnicManager", "HostVirtualNicManager"),
    ("certificateManager", "HostCertificateManager"),
    ("ha-managed-method-executer", "ReflectManagedMethodExecuter"),
    ("ha-dynamic-type-manager", "InternalDynamicTypeManager"),
];

/// The type of an object that is always there.
pub fn fixed(id: &str) -> Option<&'static str> {
    if id == datastore::OBJECT.id {
        return Some("Datastore");
    }
    if id == datastore::BROWSER.id {
        return Some("HostDatastoreBrowser");
    }
    FIXED.iter().find(|(own, _)| *own == id).map(|(_, kind)| *kind)
}

/// Every object that is always there.
#[cfg(test)]
pub fn all_fixed() -> Vec<Ref> {
    let own = FIXED.iter().map(|(id, kind)| Ref::fixed(kind, id));
    own.chain([datastore::OBJECT, datastore::BROWSER]).collect()
}

/// The reference of a network.
pub fn network(name: &str) -> Ref {
    Ref::new("Network", format!("HaNetwork-{name}"))
}

/// An object's children in the inventory, as views and the search index walk them.
pub fn children(world: &World, object: &Ref) -> Vec<Ref> {
    match object.id.as_ref() {
        "ha-folder-root" => vec![DATACENTER],
        "ha-datacenter" => vec![VM_FOLDER, HOST_FOLDER, DATASTORE_FOLDER, NETWORK_FOLDER],
        "ha-folder-vm" => world.vms.values().map(Vm::reference).collect(),
        "ha-folder-host" => vec![COMPUTE_RESOURCE],
        "ha-folder-datastore" => world.datastores(),
        "ha-folder-network" => world.networks().map(network).collect(),
        "ha-compute-res" => vec![HOST, RESOURCE_POOL],
        _ if object.kind == "ResourcePool" => pools::children(world, object),
        _ => Vec::new(),
    }
}

/// The name of an entity; nothing for objects that are none.
pub fn name(world: &World, object: &Ref) -> Option<String> {
    let fixed = match object.id.as_ref() {
        "ha-folder-root" => "ha-folder-root",
        "ha-datacenter" => "ha-datacenter",
        "ha-folder-vm" => "vm",
        "ha-folder-host" => "host",
        "ha-folder-datastore" => "datastore",
        "ha-folder-network" => "network",
        "ha-compute-res" | "ha-host" => HOST_NAME,
        "ha-root-pool" => "Resources",
        id if id == datastore::OBJECT.id => datastore::NAME,
        id => match object.kind {
            "VirtualMachine" => return world.vm(object).ok().map(|vm| vm.name.clone()),
            "Network" => id.strip_prefix("HaNetwork-")?,
            "Datastore" => world.mount(id)?.name.as_str(),
            "ResourcePool" => return pools::name(world, object),
            _ => return None,
        },
    };
    Some(fixed.to_owned())
}

fn parent(world: &World, object: &Ref) -> Option<Ref> {
    Some(match object.kind {
        "ResourcePool" if *object != RESOURCE_POOL => return pools::parent(world, object),
        "VirtualMachine" => VM_FOLDER,
        "Network" => NETWORK_FOLDER,
        "Datastore" => DATASTORE_FOLDER,
        _ => match object.id.as_ref() {
            "ha-datacenter" => ROOT_FOLDER,
            "ha-folder-vm" | "ha-folder-host" | "ha-folder-datastore" | "ha-folder-network" => DATACENTER,
            "ha-compute-res" => HOST_FOLDER,
            "ha-host" | "ha-root-pool" => COMPUTE_RESOURCE,
            _ => return None,
        },
    })
}

/// A data object with every required plain field at false, zero or empty: capabilities are long lists of which most are "no".
pub fn filled(kind: &'static str) -> Data {
    let mut data = Data::new(kind);
    let lineage: Vec<_> = schema().lineage(kind).collect();
    for field in lineage.into_iter().rev().flat_map(|one| one.own.iter()).filter(|field| !field.optional && !field.many)
    {
        let value = match field.kind {
            Kind::Boolean => Value::Bool(false),
            Kind::Int | Kind::Short | Kind::Byte => Value::Int(0),
            Kind::Long => Value::Long(0),
            Kind::Text => Value::Text(Cow::Borrowed("")),
            _ => continue,
        };
        data.fields.push((field.name, value));
    }
    data
}

/// The properties that every entity has.
pub fn entity(world: &World, object: &Ref, property: &str) -> Option<Value> {
    match property {
        "name" => name(world, object).map(Value::from),
        "parent" => parent(world, object).map(Value::from),
        "overallStatus" | "configStatus" => Some("green".into()),
        "effectiveRole" => Some(vec![world.hindrances.role()].into()),
        "permission" => {
            Some(if *object == ROOT_FOLDER { vec![access::permission(world, "root")] } else { Vec::new() }.into())
        }
        "recentTask" => Some(super::task::recent(world, object).into()),
        "alarmActionsEnabled" => Some(true.into()),
        "disabledMethod"
        | "customValue"
        | "value"
        | "tag"
        | "availableField"
        | "declaredAlarmState"
        | "triggeredAlarmState" => Some(Value::List(Vec::new())),
        _ => None,
    }
}

pub fn property(world: &World, object: &Ref, property: &str, wanted: Wanted<'_>) -> Option<Value> {
    let own = match object.kind {
        "Folder" => folder(world, object, property),
        "Datacenter" => datacenter(world, property),
        "ComputeResource" => compute_resource(world, property),
        "ResourcePool" => pools::property(world, object, property),
        "HostServiceSystem" | "HostDateTimeSystem" => services::property(world, &object.id, property),
        "HostFirewallSystem" => firewall::property(world, property),
        "HostCertificateManager" => certificates::property(world, property),
        "HostSystem" => host::property(world, property, wanted),
        "Network" => network::property(world, object, property),
        "HostVirtualNicManager" => vnics::property(world, property),
        "HostNetworkSystem" => network::system(world, property),
        "HostDatastoreSystem" => match property {
            "datastore" => Some(world.datastores().into()),
            "capabilities" => Some(filled("HostDatastoreSystemCapabilities").into()),
            _ => None,
        },
        "HostStorageSystem" => match property {
            "storageDeviceInfo" => Some(filled("HostStorageDeviceInfo").into()),
            "fileSystemVolumeInfo" => Some(datastore::volumes(world).into()),
            _ => None,
        },
        "GuestOperationsManager" => super::guest::operations::property(object, property),
        "EnvironmentBrowser" => (property == "datastoreBrowser").then(|| datastore::BROWSER.into()),
        "LicenseManager" => licence::property(world, property),
        "OptionManager" => (property == "setting").then(|| options::list(world, object).into()),
        "AuthorizationManager" | "UserDirectory" => access::property(world, object.kind, property),
        "EventManager" | "EventHistoryCollector" => events::property(world, object, property),
        "PerformanceManager" => metrics::property(property),
        "HostAutoStartManager" => (property == "config").then(|| autostart::config(world).into()),
        "HostHealthStatusSystem" => (property == "runtime").then(|| host::health().into()),
        "HostPciPassthruSystem" => (property == "pciPassthruInfo").then(|| pci::passthrough(world).into()),
        _ => None,
    };
    own.or_else(|| entity(world, object, property))
}

fn folder(world: &World, object: &Ref, property: &str) -> Option<Value> {
    match property {
        "childEntity" => Some(children(world, object).into()),
        "childType" => Some(
            match object.id.as_ref() {
                "ha-folder-vm" => vec!["VirtualMachine"],
                "ha-folder-host" => vec!["ComputeResource"],
                "ha-folder-datastore" => vec!["Datastore"],
                "ha-folder-network" => vec!["Network"],
                _ => vec!["Datacenter"],
            }
            .into(),
        ),
        _ => None,
    }
}

fn datacenter(world: &World, property: &str) -> Option<Value> {
    Some(match property {
        "vmFolder" => VM_FOLDER.into(),
        "hostFolder" => HOST_FOLDER.into(),
        "datastoreFolder" => DATASTORE_FOLDER.into(),
        "networkFolder" => NETWORK_FOLDER.into(),
        "datastore" => world.datastores().into(),
        "network" => world.networks().map(network).collect::<Vec<_>>().into(),
        "configuration" => Data::new("DatacenterConfigInfo").into(),
        _ => return None,
    })
}

fn compute_resource(world: &World, property: &str) -> Option<Value> {
    Some(match property {
        "resourcePool" => RESOURCE_POOL.into(),
        "host" => vec![HOST].into(),
        "datastore" => world.datastores().into(),
        "network" => world.networks().map(network).collect::<Vec<_>>().into(),
        "environmentBrowser" => ENVIRONMENT_BROWSER.into(),
        "summary" => Data::new("ComputeResourceSummary")
            .with("totalCpu", host::CORES * host::MHZ)
            .with("totalMemory", host::MEMORY)
            .with("numCpuCores", host::CORES)
            .with("numCpuThreads", host::CORES)
            .with("effectiveCpu", host::CORES * host::MHZ)
            .with("effectiveMemory", host::MEMORY >> 20)
            .with("numHosts", 1)
            .with("numEffectiveHosts", 1)
            .with("overallStatus", "green")
            .into(),
        "configurationEx" => {
            let info = Data::new("ComputeResourceConfigInfo")
                .with("vmSwapPlacement", "vmDirectory")
                .with("spbmEnabled", false);
            info.with("defaultHardwareVersionKey", "vmx-21").into()
        }
        _ => return None,
    })
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match (call.this.kind, call.method) {
        ("EnvironmentBrowser", _) => environment::call(world, call),
        ("ResourcePool", _) => pools::call(world, call),
        ("HostServiceSystem" | "HostDateTimeSystem", _) => services::call(world, call),
        ("DiagnosticManager", _) => logs::call(world, call),
        ("AuthorizationManager" | "UserDirectory", _) => access::call(world, call),
        ("PerformanceManager", _) => metrics::call(world, call),
        ("HostFirewallSystem", _) => firewall::call(world, call),
        ("HostCertificateManager", _) => certificates::call(world, call),
        ("HostNetworkSystem", _) => network::call(world, call),
        ("HostVirtualNicManager", _) => vnics::call(world, call),
        ("LicenseManager" | "LicenseAssignmentManager", _) => licence::call(world, call),
        ("OptionManager", _) => options::call(world, call),
        ("EventManager" | "EventHistoryCollector", _) => events::call(world, call),
        ("HostAutoStartManager", _) => autostart::call(world, call),
        ("HostPciPassthruSystem", _) => pci::call(world, call),
        ("HostFirmwareSystem" | "HostHealthStatusSystem", _) => upkeep::call(world, call),
        ("HostDatastoreSystem", "CreateNasDatastore" | "RemoveDatastore") => upkeep::call(world, call),
        (
            "HostSystem",
            "EnterMaintenanceMode_Task" | "ExitMaintenanceMode_Task" | "ShutdownHost_Task" | "RebootHost_Task",
        ) => upkeep::call(world, call),
        ("Datacenter", "PowerOnMultiVM_Task") | ("HostSystem", "ReconnectHost_Task" | "DisconnectHost_Task") => {
            Err(VimFault::not_supported(format!("{} needs a vCenter Server", call.method)))
        }
        ("Datacenter", "queryDatacenterConfigOptionDescriptor") => environment::call(world, call),
        (
            "Folder" | "Datacenter" | "ComputeResource" | "Network" | "HostSystem",
            "Destroy_Task" | "Rename_Task" | "Reload",
        )
        | ("Folder", _)
        | ("ComputeResource", _) => Err(VimFault::not_supported(format!("{} on a standalone host", call.method))),
        ("HostSystem", "RetrieveHardwareUptime") => {
            Ok(Reply::Value((time::OffsetDateTime::now_utc() - world.started).whole_seconds().into()))
        }
        // There is no TPM, so there is nothing to report.
        ("HostSystem", "QueryTpmAttestationReport") => Ok(Reply::Nothing),
        ("HostStorageSystem", "RescanAllHba" | "RescanVmfs" | "RefreshStorageSystem") => {
            world.touch(&call.this);
            Ok(Reply::Nothing)
        }
        ("HostStorageSystem", "QueryUnresolvedVmfsVolume") => Ok(Reply::Value(Value::List(Vec::new()))),
        ("HostDatastoreSystem", "QueryAvailableDisksForVmfs") => Ok(Reply::Value(Value::List(Vec::new()))),
        (_, other) => Err(VimFault::not_implemented(other)),
    }
}
