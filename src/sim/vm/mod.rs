//! Machines: the record of one, and which file answers for which part.
//!
//! ```text
//! record    to and from the state folder       render     its properties
//! hardware  devices and their defaults         layout     its files, as properties
//! create    CreateVM_Task, RegisterVM_Task     reconfig   ReconfigVM_Task, Rename_Task
//! power     power, shutdown, Destroy_Task      vmx        the configuration file
//! devices   devices added, edited, removed   disks      the files of disks added, edited
//! backing   disks that build on others
//! drives    CD-ROM drives, IDE controllers     console    tickets, pictures of the screen
//! question  what a machine asks before it goes on
//! place     where it ran last                  passthrough   PCI devices of the host
//! snapshot/ saved states                       tracking   which blocks of a disk changed
//! template  debian-12                          filler     vm-0001 …
//! ```

pub mod backing;
pub mod console;
pub mod create;
pub mod devices;
mod disks;
mod drives;
pub mod filler;
pub mod hardware;
mod layout;
mod passthrough;
pub mod place;
pub mod power;
pub mod question;
mod reconfig;
mod record;
mod render;
mod screenshot;
pub mod snapshot;
pub mod template;
mod tracking;
pub mod vmx;

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::call::{Answer, Call, Reply};
use super::datastore::path::DatastorePath;
use super::esx;
use super::fault::VimFault;
use super::guest::Applied;
use super::property::Wanted;
use super::value::{Data, Ref, Value};
use super::world::World;

use snapshot::Snapshots;

pub use hardware::SystemDisk;

/// The power state of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    Off,
    On,
    Suspended,
}

impl Power {
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "poweredOff",
            Self::On => "poweredOn",
            Self::Suspended => "suspended",
        }
    }
}

/// One machine. It is changed by value: taken, changed, and put back whole.
#[derive(Debug, Clone)]
pub struct Vm {
    pub id: u64,
    pub name: String,
    pub uuid: String,
    pub instance_uuid: String,
    pub guest_id: String,
    /// The hardware version, such as `vmx-21`.
    pub version: String,
    /// `bios` or `efi`.
    pub firmware: String,
    pub cpus: i32,
    pub cores_per_socket: i32,
    pub memory_mb: i32,
    pub annotation: String,
    /// The path of the configuration file.
    pub vmx: String,
    pub created: OffsetDateTime,
    pub change_version: u64,
    pub snapshots: Snapshots,
    /// `extraConfig`, in the order in which keys were set.
    pub extra: Vec<(String, String)>,
    pub devices: Vec<Data>,
    /// Further fields of `VirtualMachineConfigInfo` that a client set, by name.
    pub settings: Data,
    pub power: Power,
    pub powered_on: Option<OffsetDateTime>,
    pub suspended: Option<OffsetDateTime>,
    /// Whether the boot disk had something to start when the machine was powered on.
    pub system: bool,
    /// What the guest took from its cloud-init data, at its last boot.
    pub applied: Option<Applied>,
    /// The addresses that DHCP gave, by MAC address.
    pub leases: BTreeMap<String, String>,
}

impl Vm {
    pub fn reference(&self) -> Ref {
        Ref::new("VirtualMachine", self.id.to_string())
    }

    pub fn is_off(&self) -> bool {
        self.power == Power::Off
    }

    /// The folder of the configuration file.
    pub fn folder(&self) -> DatastorePath {
        DatastorePath::parse(&self.vmx).map_or_else(|_| DatastorePath::root(), |path| path.parent())
    }

    pub fn extra(&self, key: &str) -> Option<&str> {
        self.extra.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// Sets a key of `extraConfig`; an empty value removes it.
    pub fn set_extra(&mut self, key: &str, value: &str) {
        match self.extra.iter_mut().find(|(own, _)| own == key) {
            _ if value.is_empty() => self.extra.retain(|(own, _)| own != key),
            Some((_, old)) => value.clone_into(old),
            None => self.extra.push((key.to_owned(), value.to_owned())),
        }
    }

    pub fn disks(&self) -> impl Iterator<Item = &Data> {
        self.devices.iter().filter(|device| device.kind == "VirtualDisk")
    }

    pub fn nics(&self) -> impl Iterator<Item = &Data> {
        self.devices.iter().filter(|device| super::schema::schema().is_a(device.kind, "VirtualEthernetCard"))
    }

    /// The paths of the descriptors of its disks.
    pub fn disk_files(&self) -> impl Iterator<Item = &str> {
        self.disks().filter_map(|disk| disk.at("backing.fileName").and_then(Value::as_text))
    }

    /// Whether it has a disk of that path that several running machines may write.
    pub fn shares(&self, file: &str) -> bool {
        let backing = self.disks().filter_map(|disk| disk.data("backing"));
        backing
            .filter(|backing| backing.text("fileName") == Some(file))
            .any(|backing| backing.text("sharing") == Some("sharingMultiWriter"))
    }

    /// The paths of the files that a running machine holds: its configuration and its disks, each down to its base, with their content.
    pub fn files(&self) -> impl Iterator<Item = String> {
        let with_content = |file: &str| {
            let content =
                file.strip_suffix(".vmdk").map(|stem| ["flat", "delta"].map(|part| format!("{stem}-{part}.vmdk")));
            std::iter::once(file.to_owned()).chain(content.into_iter().flatten()).collect::<Vec<_>>()
        };
        let disks = self.disks().filter_map(|disk| disk.data("backing")).flat_map(links).flat_map(with_content);
        std::iter::once(self.vmx.clone()).chain(disks)
    }

    /// The name of the network that a card is on.
    pub fn network_of(nic: &Data) -> Option<&str> {
        nic.at("backing.deviceName").and_then(Value::as_text)
    }
}

/// The descriptors of a disk's chain, from its backing: the one that is written to first, its base last.
pub fn links(backing: &Data) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(backing), |backing| backing.data("parent"))
        .filter_map(|backing| backing.text("fileName"))
}

/// Methods that a machine which waits for an answer refuses. Those that begin a task look for another one first.
const HELD_UP: &[&str] = &["UnregisterVM", "ShutdownGuest", "RebootGuest", "StandbyGuest"];

pub fn call(world: &mut World, call: &Call) -> Answer {
    let begins = call.method.ends_with("_Task") && world.tasks.running_on(&call.this).is_none();
    if call.this.kind == "VirtualMachine" && (begins || HELD_UP.contains(&call.method)) {
        question::check(world, &call.this)?;
    }
    match call.method {
        "AnswerVM" => question::answer(world, call),
        "CreateVM_Task" | "CreateChildVM_Task" => create::create(world, call),
        "RegisterVM_Task" | "RegisterChildVM_Task" => create::register(world, call),
        "UnregisterVM" => create::unregister(world, call),
        "ReconfigVM_Task" => reconfig::reconfigure(world, call),
        "QueryChangedDiskAreas" => tracking::query(world, call),
        "UpgradeVM_Task" => reconfig::upgrade(world, call),
        "Rename_Task" => reconfig::rename(world, call),
        "PowerOnVM_Task" | "PowerOffVM_Task" | "ResetVM_Task" | "SuspendVM_Task" | "ShutdownGuest" | "RebootGuest"
        | "StandbyGuest" | "Destroy_Task" => power::call(world, call),
        "CreateSnapshot_Task"
        | "CreateSnapshotEx_Task"
        | "RevertToCurrentSnapshot_Task"
        | "RemoveAllSnapshots_Task"
        | "ConsolidateVMDisks_Task" => snapshot::call(world, call),
        "PutUsbScanCodes" | "SetScreenResolution" => console::typed(world, call),
        // What the guest said is asked for anew each time, and every file is the one user's.
        "ResetGuestInformation" => world.vm(&call.this).map(|_| Reply::Nothing),
        "QueryUnownedFiles" | "QueryConnections" => {
            world.vm(&call.this)?;
            Ok(Reply::Value(Value::List(Vec::new())))
        }
        "AcquireTicket" | "AcquireMksTicket" => console::acquire(world, call),
        "CreateScreenshot_Task" => screenshot::take(world, call),
        "Reload" | "RefreshStorageInfo" => {
            world.vm(&call.this)?;
            world.touch(&call.this);
            Ok(Reply::Nothing)
        }
        "CloneVM_Task"
        | "InstantClone_Task"
        | "MarkAsTemplate"
        | "MarkAsVirtualMachine"
        | "CustomizeVM_Task"
        | "CheckCustomizationSpec"
        | "RelocateVM_Task"
        | "MigrateVM_Task"
        | "PromoteDisks_Task"
        | "setCustomValue" => Err(VimFault::not_supported(format!("{} needs a vCenter Server", call.method))),
        other => Err(VimFault::not_implemented(other)),
    }
}

pub fn property(world: &World, object: &Ref, name: &str, wanted: Wanted<'_>) -> Result<Option<Value>, VimFault> {
    let vm = world.vm(object)?;
    let seen = || super::guest::seen(world, vm);
    Ok(match name {
        "name" => Some((&vm.name).into()),
        "parent" => Some(esx::VM_FOLDER.into()),
        "summary" => Some(render::summary(world, vm, wanted).into()),
        "config" => Some(render::config(vm, wanted).into()),
        "runtime" => Some(render::runtime(world, vm).into()),
        "guest" => Some(render::guest(vm, seen().as_ref()).into()),
        "guestHeartbeatStatus" => Some(if seen().is_some() { "green" } else { "gray" }.into()),
        "capability" => Some(render::capability(vm).into()),
        "environmentBrowser" => Some(esx::ENVIRONMENT_BROWSER.into()),
        "resourcePool" => Some(esx::RESOURCE_POOL.into()),
        "resourceConfig" => Some(render::resources(vm).into()),
        "datastore" => Some(world.datastores_of(std::iter::once(vm.vmx.as_str()).chain(vm.disk_files())).into()),
        "network" => {
            let mut networks: Vec<Ref> = vm.nics().filter_map(Vm::network_of).map(esx::network).collect();
            networks.dedup();
            Some(networks.into())
        }
        "snapshot" => snapshot::info(vm).map(Value::from),
        "rootSnapshot" => Some(snapshot::roots(vm).into()),
        "layout" => Some(layout::layout(vm).into()),
        "layoutEx" => Some(layout::extended(world, vm).into()),
        "storage" => Some(layout::storage(world, vm).into()),
        "disabledMethod" => Some(vec!["CloneVM_Task", "MarkAsTemplate", "CustomizeVM_Task"].into()),
        other => esx::entity(world, object, other),
    })
}
