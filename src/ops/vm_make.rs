//! Operations that make machines and remove them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::linked::refuse_with_clones;
use super::rows::give_vm;
use super::vm_configure::{Wanted, check_hardware};
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::snapshots::BoundSnapshot;
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, NewVm, PowerState};
use crate::units::Bytes;

/// Creates an empty machine, powered off: one disk, one network card.
///
/// The disk is thin and on a PVSCSI controller; the card is a VMXNET3. A folder of that name on the datastore is an error: what is
/// found is never reused. Errors: `esxi.duplicate_name`, `esxi.file_already_exists`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The host.
    pub host: Target<kind::Host>,
    /// The machine's name, 1 to 80 characters.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// The network of its card; without one it gets no card.
    pub network: Option<String>,
    /// Virtual processors. Default: 1.
    pub cpus: Option<u32>,
    /// Memory, a multiple of 4 MiB. Default: 1 GiB.
    pub memory: Option<Bytes>,
    /// Size of its disk; without one it gets no disk.
    pub disk: Option<Bytes>,
    /// VMware's guest id. Default: `otherLinux64Guest`.
    pub guest: Option<String>,
    /// Firmware. Default: `efi`.
    pub firmware: Option<Firmware>,
    /// Annotation.
    pub notes: Option<String>,
    /// On a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the datacenter's own.
    pub folder: Option<String>,
    /// On a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the only one there is.
    pub place: Option<String>,
}

/// What a machine boots with.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    Bios,
    Efi,
}

/// The datastore that is named, else the roomiest.
async fn datastore(
    binder: &Binder<'_>,
    host: &BoundHost,
    name: Option<&str>,
) -> Result<Checked<esxi::Datastore>, Fault> {
    match name {
        Some(name) => binder.datastore(host, name, "write").await,
        None => binder.roomiest_datastore(host).await,
    }
}

/// The checked places of a new machine.
pub struct BoundNew {
    host: BoundHost,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    network: Option<Checked<esxi::Network>>,
}

impl Operation for Create {
    const NAME: &'static str = "vm.create";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "create" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "create", Selector::Argument("name")),
        touch("datastore", "write", Selector::Argument("datastore")),
        touch("network", "use", Selector::Argument("network")),
    ];
    const USAGE: &'static str =
        "local empty = host:create({ name = \"empty-1\", datastore = \"datastore1\", disk = \"1 GiB\" })";

    type Bound = BoundNew;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundNew, Fault> {
        check_hardware(Self::NAME, self.cpus, self.memory)?;
        let host = binder.host(&self.host)?;
        let new = binder.new_vm(&host, &self.name).await?;
        let datastore = datastore(binder, &host, self.datastore.as_deref()).await?;
        let network = match &self.network {
            Some(network) => Some(binder.network(&host, network, "use").await?),
            None => None,
        };
        Ok(BoundNew { host, new, datastore, network })
    }

    async fn act(self, bound: BoundNew, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let defaults = esxi::CreateSpec::default();
        let spec = esxi::CreateSpec {
            guest_id: self.guest.unwrap_or_else(|| "otherLinux64Guest".to_owned()),
            cpus: self.cpus.unwrap_or(defaults.cpus),
            memory: self.memory.unwrap_or(defaults.memory),
            firmware: match self.firmware {
                Some(Firmware::Bios) => esxi::Firmware::Bios,
                Some(Firmware::Efi) | None => esxi::Firmware::Efi,
            },
            disk: self.disk,
            notes: self.notes,
            at: esxi::Placement { folder: self.folder, place: self.place },
            ..defaults
        };
        let client = &bound.host.host.client;
        let networks: Vec<&Checked<esxi::Network>> = bound.network.iter().collect();
        let vm = client.create_vm(&bound.new, &bound.datastore, &networks, &spec, &|step| pass.step(step)).await?;
        let vm = pass.made(&bound.host.host, vm);
        give_vm(pass, &bound.host.host, &vm).await
    }
}

/// Clones a powered-off machine into a new one, without vCenter: a full copy, or with `linked` one that builds on the template's disks.
///
/// A vCenter clones by itself, to the same end; there a linked clone builds on the template's current snapshot and needs one.
///
/// Disks are copied on the host, thin stays thin; guest id, firmware with its variables, controllers and card types are taken over,
/// addresses and identities are new, cloud-init data is not copied. What a failed clone made is removed. Errors:
/// `esxi.duplicate_name`, `esxi.invalid_power_state` where the template runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clone {
    /// The host.
    pub host: Target<kind::Host>,
    /// The machine to copy, by name.
    pub template: String,
    /// The new machine's name, 1 to 80 characters.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// The network of all its cards. Default: the template's.
    pub network: Option<String>,
    /// Virtual processors. Default: the template's.
    pub cpus: Option<u32>,
    /// Memory, a multiple of 4 MiB. Default: the template's.
    pub memory: Option<Bytes>,
    /// Annotation. Default: the template's.
    pub notes: Option<String>,
    /// Whether its disks build on the template's instead of being copies: made at once, small, and bound to the template, which from
    /// then on is neither powered on, reverted nor destroyed. Clones are found among the machines that the host knows: one that was
    /// unregistered is not, and its parent is not kept for it. Default: false.
    #[serde(default)]
    pub linked: bool,
    /// On a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the template's.
    pub folder: Option<String>,
    /// On a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the template's.
    pub place: Option<String>,
}

const CLONE_TOUCHES: &[Touch] = &[
    touch("vm", "copy_from", Selector::Argument("template")),
    touch("vm", "create", Selector::Argument("name")),
    touch("datastore", "write", Selector::Argument("datastore")),
    touch("network", "use", Selector::Argument("network")),
];

const ENSURE_CLONE_TOUCHES: &[Touch] = &[
    touch("vm", "copy_from", Selector::Argument("template")),
    touch("vm", "create", Selector::Argument("name")),
    touch("vm", "configure", Selector::Argument("name")),
    touch("vm", "read", Selector::Argument("name")),
    touch("datastore", "write", Selector::Argument("datastore")),
    touch("network", "use", Selector::Argument("network")),
];

/// The checked objects of a clone.
pub struct BoundClone {
    host: BoundHost,
    template: BoundVm,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    /// Each network of the template, and the one that the clone's cards go to.
    networks: Vec<(String, Checked<esxi::Network>)>,
}

/// Each network that cards are on, and the one that a clone's cards go to: the one that is wanted for all, else the same.
async fn networks(
    binder: &Binder<'_>,
    host: &BoundHost,
    nics: Vec<esxi::Nic>,
    wanted: Option<&str>,
) -> Result<Vec<(String, Checked<esxi::Network>)>, Fault> {
    let mut names: Vec<String> =
        nics.into_iter().map(|nic| nic.network.or(nic.port_group).unwrap_or_default()).collect();
    names.sort_unstable();
    names.dedup();
    let mut networks = Vec::new();
    for name in names {
        let to = match wanted {
            None if name.is_empty() => {
                return Err(Fault::new(
                    "usage.argument",
                    "a card of what is cloned is on a network that has no name here",
                )
                .hint("name one for the clone's cards: network = \"…\""));
            }
            wanted => wanted.unwrap_or(&name),
        };
        let network = binder.network(host, to, "use").await?;
        networks.push((name, network));
    }
    Ok(networks)
}

impl Clone {
    async fn bind_new(&self, binder: &Binder<'_>, host: BoundHost, new: Checked<NewVm>) -> Result<BoundClone, Fault> {
        let template = binder.vm_named(&host, &self.template, "copy_from").await?;
        let info = host.host.client.vm_info(&template.vm).await?;
        let datastore = datastore(binder, &host, self.datastore.as_deref()).await?;
        let networks = networks(binder, &host, info.hardware.nics, self.network.as_deref()).await?;
        Ok(BoundClone { host, template, new, datastore, networks })
    }

    async fn make(self, bound: BoundClone, pass: &Pass<'_>) -> Result<Given<kind::Vm>, Fault> {
        let spec = esxi::CloneSpec {
            cpus: self.cpus,
            memory: self.memory,
            notes: self.notes,
            linked: self.linked,
            at: esxi::Placement { folder: self.folder, place: self.place },
            networks: bound.networks.iter().map(|(name, network)| (name.as_str(), network)).collect(),
            stop: Some(pass.stop()),
            ..esxi::CloneSpec::default()
        };
        let client = &bound.host.host.client;
        let vm =
            client.clone_vm(&bound.template.vm, &bound.new, &bound.datastore, &spec, &|step| pass.step(step)).await?;
        let vm = pass.made(&bound.host.host, vm);
        pass.note_child(&bound.host.host, &bound.template.vm.name, &vm.name, self.linked);
        give_vm(pass, &bound.host.host, &vm).await
    }
}

impl Operation for Clone {
    const NAME: &'static str = "vm.clone";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "clone" };
    const TOUCHES: &'static [Touch] = CLONE_TOUCHES;
    const USAGE: &'static str =
        "local web = host:clone({ template = \"debian-12\", name = \"web-1\", memory = \"2 GiB\" })";

    type Bound = BoundClone;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundClone, Fault> {
        check_hardware(Self::NAME, self.cpus, self.memory)?;
        let host = binder.host(&self.host)?;
        let new = binder.new_vm(&host, &self.name).await?;
        self.bind_new(binder, host, new).await
    }

    async fn act(self, bound: BoundClone, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        self.make(bound, pass).await
    }
}

/// Clones what a snapshot holds of a machine, which may run, into a new machine, powered off.
///
/// Disks are copied on the host as they were frozen, thin stays thin; hardware is that of the snapshot. The firmware's variables are those
/// of now, and left out while the machine runs and holds them. Cloud-init data is not copied. What a failed clone made is removed. Errors: `esxi.duplicate_name`, `esxi.no_disk_space`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneSnapshot {
    /// The snapshot.
    pub snapshot: Target<kind::Snapshot>,
    /// The new machine's name, 1 to 80 characters.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// The network of all its cards. Default: the machine's.
    pub network: Option<String>,
    /// Annotation. Default: the machine's.
    pub notes: Option<String>,
    /// On a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the machine's.
    pub folder: Option<String>,
    /// On a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the machine's.
    pub place: Option<String>,
}

/// The checked objects of a snapshot's clone.
pub struct BoundSnapshotClone {
    from: BoundSnapshot,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    networks: Vec<(String, Checked<esxi::Network>)>,
}

impl Operation for CloneSnapshot {
    const NAME: &'static str = "vm.clone_snapshot";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "snapshot", name: "clone" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "copy_from", Selector::Argument("snapshot")),
        touch("vm", "create", Selector::Argument("name")),
        touch("datastore", "write", Selector::Argument("datastore")),
        touch("network", "use", Selector::Argument("network")),
    ];
    const USAGE: &'static str = "local before = host:vm(\"debian-12\"):snapshot({ name = \"before\" })\nprint(before:clone({ name = \"as-before\" }).name)";

    type Bound = BoundSnapshotClone;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundSnapshotClone, Fault> {
        let from = binder.snapshot(&self.snapshot, "copy_from").await?;
        let host = binder.host_of_snapshot(&from);
        let new = binder.new_vm(&host, &self.name).await?;
        let frozen = host.host.client.frozen_hardware(&from.snapshot).await?;
        let datastore = datastore(binder, &host, self.datastore.as_deref()).await?;
        let networks = networks(binder, &host, frozen.nics, self.network.as_deref()).await?;
        Ok(BoundSnapshotClone { from, new, datastore, networks })
    }

    async fn act(self, bound: BoundSnapshotClone, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let BoundSnapshotClone { from, new, datastore, networks } = bound;
        let spec = esxi::CloneSpec {
            notes: self.notes,
            at: esxi::Placement { folder: self.folder, place: self.place },
            networks: networks.iter().map(|(name, network)| (name.as_str(), network)).collect(),
            stop: Some(pass.stop()),
            ..esxi::CloneSpec::default()
        };
        let source = (&from.vm, &from.snapshot);
        let made = from.host.client.clone_snapshot(source, &new, &datastore, &spec, &|step| pass.step(step)).await?;
        let vm = pass.made(&from.host, made);
        pass.note_child(&from.host, &from.vm.name, &vm.name, false);
        give_vm(pass, &from.host, &vm).await
    }
}

/// Makes sure that a machine of that name is there: clones it where it is not, and gives it the asked processors, memory and notes.
///
/// A machine that is there is taken as it is, whatever template it came from; only what was asked for is compared. Processors and
/// memory of a running machine can be changed only where the guest allows hot-add.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureClone(Clone);

/// The machine that is there, or all that is needed to make it.
pub enum BoundEnsure {
    There(BoundVm),
    New(Box<BoundClone>),
}

impl EnsureClone {
    fn wanted(&self) -> Wanted {
        Wanted { cpus: self.0.cpus, memory: self.0.memory, notes: self.0.notes.clone(), ..Wanted::default() }
    }
}

impl Operation for EnsureClone {
    const NAME: &'static str = "vm.ensure_clone";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "ensure_clone" };
    const TOUCHES: &'static [Touch] = ENSURE_CLONE_TOUCHES;
    const USAGE: &'static str =
        "local web = host:ensure_clone({ template = \"debian-12\", name = \"web-1\", cpus = 2 })";

    type Bound = BoundEnsure;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundEnsure, Fault> {
        check_hardware(Self::NAME, self.0.cpus, self.0.memory)?;
        let host = binder.host(&self.0.host)?;
        if let Some(there) = binder.vm_if_there(&host, &self.0.name, "configure").await? {
            // The handle tells what the machine is, which it may be changed without.
            binder.vm_named(&host, &self.0.name, "read").await?;
            return Ok(BoundEnsure::There(there));
        }
        let new = binder.new_vm_name(&self.0.name)?;
        self.0.bind_new(binder, host, new).await.map(Box::new).map(BoundEnsure::New)
    }

    async fn settled(&self, bound: &BoundEnsure, pass: &Pass<'_>) -> Result<Option<Self::Output>, Fault> {
        let BoundEnsure::There(there) = bound else { return Ok(None) };
        let info = there.host.client.vm_info(&there.vm).await?;
        if !self.wanted().beyond(&info).is_empty() {
            return Ok(None);
        }
        give_vm(pass, &there.host, &there.vm).await.map(Some)
    }

    async fn act(self, bound: BoundEnsure, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        match bound {
            BoundEnsure::New(bound) => self.0.make(*bound, pass).await,
            BoundEnsure::There(there) => {
                self.wanted().apply(&there, pass).await?;
                give_vm(pass, &there.host, &there.vm).await
            }
        }
    }
}

/// Destroys a powered-off machine with its disks, for good; with `power_off` also one that is on.
///
/// Of a linked clone only what is its own goes: the disks that it builds on stay. Where that breaks off, the error names the files that are
/// left, and a second try tells of them. In mode standard only what the run itself made.
/// Errors: `esxi.invalid_power_state` where it runs, `esxi.has_linked_clones` where others build on its disks: registered machines, and
/// disks of none that a search of the datastores finds within 10 s.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destroy {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Whether to turn it off first where it is on, without asking its guest, once it is clear that it may be destroyed. Default: false.
    pub power_off: Option<bool>,
}

impl Operation for Destroy {
    const NAME: &'static str = "vm.destroy";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Method { kind: "vm", name: "destroy" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "destroy", Selector::Argument("vm")),
        touch("vm", "power", Selector::Given { argument: "vm", given: "power_off" }),
    ];
    const USAGE: &'static str = "vm:ensure_power(\"on\")\nvm:destroy({ power_off = true })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        if self.power_off == Some(true) {
            binder.vm(&self.vm, "power").await?;
        }
        binder.vm(&self.vm, "destroy").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones(&bound.host, &bound.vm, pass, "destroyed", false).await?;
        if self.power_off == Some(true) && bound.host.client.vm_info(&bound.vm).await?.row.power != PowerState::Off {
            bound.host.client.power_off(&bound.vm, &|step| pass.step(step)).await?;
        }
        let left = bound.host.client.destroy(&bound.vm, &|step| pass.step(step)).await?;
        if !left.is_empty() {
            pass.say(&format!(
                "warning: {:?} on {} is gone, and files of its folder are not: {}; what was a disk of it is no use any more: remove \
                 it after a look at it (ceso datastore rm)",
                bound.vm.name,
                bound.host.name,
                left.join(", ")
            ));
        }
        pass.unmade(&bound.host, &bound.vm);
        pass.note_gone(&bound.host, &bound.vm.name);
        Ok(())
    }
}
