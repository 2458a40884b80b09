//! The operations, each declared once, one file per noun.
//!
//! Adding an operation means adding one struct with its [`Operation`] implementation, and its line in [`all`]. The binding, argument
//! checks, type definitions, reference, completion, JSON Schema, capability check and record all come from that.

pub mod appliance;
pub mod appliance_export;
pub mod autostart;
pub mod catalog;
pub mod catalog_rebuild;
pub mod catalog_rows;
pub mod catalog_whole;
pub mod cloudinit;
pub mod datastore;
pub mod disk;
pub mod document;
pub mod file_transfer;
pub mod files;
pub mod guest;
pub mod happened;
pub mod host;
pub mod host_change;
pub mod host_condition;
pub mod host_inventory;
pub mod host_probe;
pub mod host_trials;
pub mod host_upkeep;
pub mod image;
pub mod inventory;
pub mod linked;
pub mod network;
mod origin;
pub mod outline;
mod package;
mod package_coming;
pub mod passthrough;
pub mod place;
pub mod power;
pub mod preflight;
pub mod reference;
pub mod rendered;
pub mod repository;
pub mod repository_change;
pub mod repository_copy;
pub mod repository_keys;
pub mod repository_rows;
pub mod repository_verify;
pub mod rows;
pub mod snapshot;
pub mod testing;
pub mod vcenter;
pub mod vm;
pub mod vm_change;
pub mod vm_changes;
pub mod vm_configure;
pub mod vm_copy;
pub mod vm_disks;
pub mod vm_inventory;
pub mod vm_make;
pub mod vm_nics;
pub mod vm_question;
pub mod vm_reach;
pub mod vm_seed;

use std::sync::LazyLock;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::{Schema, SchemaGenerator};

use crate::door::Door;
use crate::door::object::{Fields, Kind};
use crate::door::operation::{Effect, Operation, Place, Touch};
use crate::error::Fault;
use crate::wire::Value;

/// An operation as data: what the binding, the docs and the tests need of a declaration.
#[derive(Clone, Copy)]
pub struct Declared {
    pub name: &'static str,
    pub effect: Effect,
    pub place: Place,
    pub positional: &'static [&'static str],
    pub touches: &'static [Touch],
    pub usage: &'static str,
    arguments: fn(&mut SchemaGenerator) -> Schema,
    result: fn(&mut SchemaGenerator) -> Schema,
    call: for<'a> fn(&'a Door, u64, Value) -> BoxFuture<'a, Result<Value, Fault>>,
}

impl Declared {
    const fn of<O: Operation>() -> Self {
        Self {
            name: O::NAME,
            effect: O::EFFECT,
            place: O::PLACE,
            positional: O::POSITIONAL,
            touches: O::TOUCHES,
            usage: O::USAGE,
            arguments: |generator| generator.subschema_for::<O>(),
            result: |generator| generator.subschema_for::<O::Output>(),
            call: |door, call, arguments| door.pass::<O>(call, arguments).boxed(),
        }
    }

    /// Has the door let one call through.
    pub fn call<'a>(&self, door: &'a Door, call: u64, arguments: Value) -> BoxFuture<'a, Result<Value, Fault>> {
        (self.call)(door, call, arguments)
    }

    /// The JSON Schema of the arguments, as they are read; its description is the operation's reference.
    pub fn arguments_schema(&self) -> Schema {
        let settings =
            schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        (self.arguments)(&mut settings.for_deserialize().into_generator())
    }

    /// The JSON Schema of the result, as it is written.
    pub fn result_schema(&self) -> Schema {
        let settings =
            schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        (self.result)(&mut settings.for_serialize().into_generator())
    }

    /// The argument that stands for the receiver of a method.
    pub fn receiver(&self) -> Option<&'static str> {
        match self.place {
            Place::Method { kind, .. } => Some(kind),
            Place::Function { .. } | Place::Command { .. } => None,
        }
    }

    /// How a script writes it: `esxi.connect`, `vm:power_on`.
    pub fn spelled(&self) -> String {
        match self.place {
            Place::Function { binding, name } => format!("{binding}.{name}"),
            Place::Method { kind, name } => format!("{kind}:{name}"),
            Place::Command { name } => format!("ceso {name}"),
        }
    }
}

/// A kind of handle as data: its name and the fields that can be read of it, beside `name`.
pub struct Told {
    pub kind: &'static str,
    fields: fn(&mut SchemaGenerator) -> Schema,
}

impl Told {
    /// The JSON Schema of the fields.
    pub fn schema(&self) -> Schema {
        let settings =
            schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        (self.fields)(&mut settings.for_serialize().into_generator())
    }

    const fn of<F: Fields>() -> Self {
        Self { kind: F::Kind::NAME, fields: |generator| generator.subschema_for::<F>() }
    }
}

/// Every kind of handle, in the order of the reference.
pub fn handles() -> &'static [Told] {
    const HANDLES: &[Told] = &[
        Told::of::<host::HostFields>(),
        Told::of::<rows::VmFields>(),
        Told::of::<snapshot::SnapshotFields>(),
        Told::of::<datastore::DatastoreFields>(),
        Told::of::<network::NetworkFields>(),
        Told::of::<cloudinit::DocumentFields>(),
        Told::of::<cloudinit::SecretFields>(),
        Told::of::<repository::RepositoryFields>(),
        Told::of::<file_transfer::FileFields>(),
        Told::of::<testing::TestFields>(),
    ];
    HANDLES
}

/// Every operation, in the order of the reference.
pub fn all() -> &'static [Declared] {
    const ALL: &[Declared] = &[
        Declared::of::<host::Connect>(),
        Declared::of::<inventory::Inventory>(),
        Declared::of::<host::GetConnection>(),
        Declared::of::<host::Facts>(),
        Declared::of::<vcenter::Systems>(),
        Declared::of::<vcenter::Places>(),
        Declared::of::<vcenter::CreateFolder>(),
        Declared::of::<vcenter::Migrate>(),
        Declared::of::<vcenter::MarkTemplate>(),
        Declared::of::<preflight::Preflight>(),
        Declared::of::<host_condition::Health>(),
        Declared::of::<host_condition::PassthroughDevices>(),
        Declared::of::<happened::Events>(),
        Declared::of::<happened::Tasks>(),
        Declared::of::<host_upkeep::EnterMaintenance>(),
        Declared::of::<host_upkeep::ExitMaintenance>(),
        Declared::of::<autostart::Tell>(),
        Declared::of::<autostart::SetForHost>(),
        Declared::of::<autostart::SetForMachine>(),
        Declared::of::<host_upkeep::ShutdownOrder>(),
        Declared::of::<host_upkeep::ShutDown>(),
        Declared::of::<host_upkeep::BackUpConfig>(),
        Declared::of::<host_upkeep::RestoreConfig>(),
        Declared::of::<host_probe::Probe>(),
        Declared::of::<host_probe::GetAbilities>(),
        Declared::of::<host_inventory::SaveInventory>(),
        Declared::of::<vm::List>(),
        Declared::of::<vm::Find>(),
        Declared::of::<vm::Get>(),
        Declared::of::<vm::Info>(),
        Declared::of::<vm::WaitForIp>(),
        Declared::of::<vm_reach::WaitForAddress>(),
        Declared::of::<vm_reach::WaitForPort>(),
        Declared::of::<vm_reach::WaitForHttp>(),
        Declared::of::<vm_make::Create>(),
        Declared::of::<vm_make::Clone>(),
        Declared::of::<vm_make::EnsureClone>(),
        Declared::of::<vm_make::CloneSnapshot>(),
        Declared::of::<vm_make::Destroy>(),
        Declared::of::<vm_inventory::Register>(),
        Declared::of::<vm_inventory::Unregister>(),
        Declared::of::<vm_inventory::Rename>(),
        Declared::of::<appliance::Import>(),
        Declared::of::<appliance_export::Export>(),
        Declared::of::<vm_configure::Configure>(),
        Declared::of::<vm_configure::EnsureConfig>(),
        Declared::of::<vm_disks::Add>(),
        Declared::of::<vm_disks::Ensure>(),
        Declared::of::<vm_disks::Attach>(),
        Declared::of::<vm_disks::Grow>(),
        Declared::of::<vm_disks::Detach>(),
        Declared::of::<vm_disks::Remove>(),
        Declared::of::<vm_nics::AddNic>(),
        Declared::of::<vm_nics::EnsureNic>(),
        Declared::of::<vm_nics::RemoveNic>(),
        Declared::of::<vm_nics::InsertImage>(),
        Declared::of::<vm_nics::EnsureImage>(),
        Declared::of::<vm_nics::EjectImage>(),
        Declared::of::<vm_nics::ConnectDrive>(),
        Declared::of::<passthrough::Attach>(),
        Declared::of::<passthrough::Detach>(),
        Declared::of::<appliance_export::ExportSnapshot>(),
        Declared::of::<vm_copy::CopyTo>(),
        Declared::of::<vm_change::SetGuestinfo>(),
        Declared::of::<vm_change::EnsureGuestinfo>(),
        Declared::of::<vm_change::Reip>(),
        Declared::of::<vm_change::EnsureReip>(),
        Declared::of::<guest::Facts>(),
        Declared::of::<guest::Run>(),
        Declared::of::<guest::Upload>(),
        Declared::of::<guest::Download>(),
        Declared::of::<guest::Screenshot>(),
        Declared::of::<vm_seed::AttachSeed>(),
        Declared::of::<vm_seed::DetachSeed>(),
        Declared::of::<power::PowerOn>(),
        Declared::of::<power::PowerOff>(),
        Declared::of::<power::Reset>(),
        Declared::of::<power::Suspend>(),
        Declared::of::<power::Shutdown>(),
        Declared::of::<power::EnsurePower>(),
        Declared::of::<vm_question::GetQuestion>(),
        Declared::of::<vm_question::AnswerQuestion>(),
        Declared::of::<snapshot::Take>(),
        Declared::of::<snapshot::EnsureSnapshot>(),
        Declared::of::<snapshot::List>(),
        Declared::of::<snapshot::Revert>(),
        Declared::of::<snapshot::Rename>(),
        Declared::of::<snapshot::RevertTo>(),
        Declared::of::<snapshot::Remove>(),
        Declared::of::<snapshot::RemoveAll>(),
        Declared::of::<snapshot::Consolidate>(),
        Declared::of::<vm_changes::TrackChanges>(),
        Declared::of::<vm_changes::ChangedAreas>(),
        Declared::of::<datastore::List>(),
        Declared::of::<datastore::Get>(),
        Declared::of::<host_change::MountNfs>(),
        Declared::of::<host_change::UnmountNfs>(),
        Declared::of::<files::Browse>(),
        Declared::of::<files::ReadText>(),
        Declared::of::<files::WriteText>(),
        Declared::of::<files::MakeDirectory>(),
        Declared::of::<files::Copy>(),
        Declared::of::<files::Move>(),
        Declared::of::<files::Delete>(),
        Declared::of::<file_transfer::Upload>(),
        Declared::of::<file_transfer::Download>(),
        Declared::of::<disk::Info>(),
        Declared::of::<disk::Create>(),
        Declared::of::<disk::Copy>(),
        Declared::of::<disk::Extend>(),
        Declared::of::<disk::Inflate>(),
        Declared::of::<network::List>(),
        Declared::of::<host_condition::PortGroups>(),
        Declared::of::<host_change::AddPortGroup>(),
        Declared::of::<host_change::RemovePortGroup>(),
        Declared::of::<cloudinit::Build>(),
        Declared::of::<cloudinit::Reip>(),
        Declared::of::<cloudinit::Read>(),
        Declared::of::<cloudinit::Secret>(),
        Declared::of::<document::Describe>(),
        Declared::of::<document::Check>(),
        Declared::of::<document::AsGuestinfo>(),
        Declared::of::<document::AsIso>(),
        Declared::of::<repository::Open>(),
        Declared::of::<repository::Backups>(),
        Declared::of::<repository::Check>(),
        Declared::of::<repository_verify::Verify>(),
        Declared::of::<repository::GetStats>(),
        Declared::of::<repository_change::Prune>(),
        Declared::of::<repository_change::Forget>(),
        Declared::of::<repository_change::Repair>(),
        Declared::of::<repository_change::Unlock>(),
        Declared::of::<catalog::Backups>(),
        Declared::of::<catalog::GetBackup>(),
        Declared::of::<catalog::Machine>(),
        Declared::of::<catalog::Machines>(),
        Declared::of::<catalog_whole::Hosts>(),
        Declared::of::<catalog_whole::Host>(),
        Declared::of::<catalog_whole::Repositories>(),
        Declared::of::<catalog_whole::Runs>(),
        Declared::of::<catalog::Drills>(),
        Declared::of::<catalog::Children>(),
        Declared::of::<catalog_whole::Tags>(),
        Declared::of::<catalog_rebuild::Rebuild>(),
        Declared::of::<repository_keys::Keys>(),
        Declared::of::<repository_copy::Copy>(),
    ];
    ALL
}

/// What a person's own commands do and no script can: they read and write files of this machine. They pass the door like all others.
pub fn of_commands() -> &'static [Declared] {
    const OF_COMMANDS: &[Declared] = &[
        Declared::of::<image::Init>(),
        Declared::of::<image::BackUp>(),
        Declared::of::<image::Restore>(),
        Declared::of::<repository_keys::AddKey>(),
        Declared::of::<repository_keys::RemoveKey>(),
        Declared::of::<repository_keys::RotateKey>(),
    ];
    OF_COMMANDS
}

/// What a test may call beside: methods of its own handle, bound for tests alone.
pub fn of_tests() -> &'static [Declared] {
    const OF_TESTS: &[Declared] = &[
        Declared::of::<testing::Run>(),
        Declared::of::<testing::GetInventory>(),
        Declared::of::<testing::GetVm>(),
        Declared::of::<testing::Calls>(),
        Declared::of::<testing::AddFault>(),
        Declared::of::<testing::ClearFaults>(),
    ];
    OF_TESTS
}

/// Every operation, those of tests included.
pub fn with_tests() -> &'static [Declared] {
    static WITH: LazyLock<Vec<Declared>> = LazyLock::new(|| all().iter().chain(of_tests()).copied().collect());
    &WITH
}

/// The operation of that name, of those that a script may call. What commands alone do is not found by any name that a worker sends.
pub fn find(name: &str) -> Option<&'static Declared> {
    all().iter().chain(of_tests()).find(|declared| declared.name == name)
}
