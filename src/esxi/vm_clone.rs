//! A clone on a standalone host, which has no `CloneVM_Task`: the disks are copied, and a machine is made on the copies; a linked
//! clone's disks build on the template's instead. A vCenter clones by itself: [`vm_clone_native`](super::vm_clone_native).
//!
//! Thin stays thin. Guest id, firmware with its variables (`.nvram`) and secure boot, hardware version, controllers with bus and unit, and
//! the types of network cards are the template's; MAC addresses are new. `guestinfo.*` is not copied: it is the template's own. CD-ROM and
//! floppy drives, serial ports and the like are not copied either. The template must be powered off, for a disk in use cannot be copied;
//! what a snapshot has frozen can be, whatever its machine does.
//! Specification: vSphere Web Services API, `VirtualDiskManager.CopyVirtualDisk_Task`, `Folder.CreateVM_Task`.

use std::collections::BTreeMap;

use crate::units::Bytes;

use super::checked::Checked;
use super::config_spec::pairs;
use super::error::Error;
use super::hardware::{ControllerKind, Disk, known_nic};
use super::host::{Host, Progress};
use super::link::patient;
use super::making::{Making, folder_name};
use super::moref::MoRef;
use super::object::{Datastore, Network, NewVm, Vm};
use super::places::{Placement, Places};
use super::port_group::{name_port_groups, with_networks};
use super::property::{From, Query};
use super::snapshot::Snapshot;
use super::task::{Stop, stoppable};
use super::unfinished::Begun;
use super::vm_clone_plan::{Plan, nvram};
use super::vm_info::{CONFIG, Firmware};
use super::vm_list::PowerState;

/// What is to be other than in the template.
#[derive(Debug, Default)]
pub struct CloneSpec<'a> {
    pub cpus: Option<u32>,
    /// In steps of 4 MiB.
    pub memory: Option<Bytes>,
    pub notes: Option<String>,
    /// Extra configuration of the clone, `guestinfo.*` among it.
    pub extra_config: BTreeMap<String, String>,
    /// Whether the clone's disks build on the template's instead of being copies: made at once, and lost with the template's.
    pub linked: bool,
    /// Whether it is tried whatever is known of the host.
    pub trial: bool,
    /// Whether it gets none of the template's network cards: whatever its guest does, nobody hears of it. Of a host's own clone alone.
    pub without_nics: bool,
    /// For each network of the template, by name, the one that the clone's cards go to. None may be missing.
    pub networks: Vec<(&'a str, &'a Checked<Network>)>,
    /// Where it goes, on a vCenter. Default: where the template is.
    pub at: Placement,
    /// Says whether it is to be given up: what it has made is taken away again then.
    pub stop: Option<Stop>,
}

/// Backings that can be copied as a disk.
const COPIED: &[&str] =
    &["VirtualDiskFlatVer2BackingInfo", "VirtualDiskSeSparseBackingInfo", "VirtualDiskSparseVer2BackingInfo"];

/// What is read of a machine and of a snapshot.
const HARDWARE: &[&str] =
    &["config.guestId", "config.annotation", "config.hardware.numCPU", "config.hardware.memoryMB"];

/// What is read of a machine alone.
const STATE: &[&str] = &["runtime.powerState", "layoutEx.file", "layoutEx.disk"];

/// What a clone is made of: a machine that is off, or what a snapshot has frozen.
struct Source<'a> {
    vm: &'a Vm,
    snapshot: Option<&'a Snapshot>,
}

impl Source<'_> {
    fn query(&self) -> Query {
        // What a snapshot has frozen is the configuration; the rest is the machine's own.
        let config = CONFIG.iter().copied().filter(|path| self.snapshot.is_none() || path.starts_with("config."));
        let paths = HARDWARE.iter().copied().chain(config);
        match self.snapshot {
            Some(snapshot) => Query::object(&snapshot.moref, "VirtualMachineSnapshot", &paths.collect::<Vec<_>>()),
            None => {
                let paths = paths.chain(STATE.iter().copied()).collect::<Vec<_>>();
                Query::object(&self.vm.moref, "VirtualMachine", &paths)
            }
        }
    }

    /// Adds what a vCenter's clone goes by: the machine's folder, its current snapshot, its mark, the names of its networks.
    fn add_place(&self, query: &mut Query) {
        const PLACE: &[&str] = &["config.template", "parent", "snapshot"];
        match self.snapshot {
            Some(_) => {
                query.properties.push(("VirtualMachine", PLACE.to_vec()));
                query.from.push(From { object: self.vm.moref.clone(), skip: false, steps: Vec::new() });
            }
            None => {
                for (_, paths) in query.properties.iter_mut().filter(|(kind, _)| *kind == "VirtualMachine") {
                    paths.extend(PLACE.iter().filter(|path| **path != "snapshot"));
                }
            }
        }
        with_networks(query);
    }

    fn moref(&self) -> &MoRef {
        self.snapshot.map_or(&self.vm.moref, |snapshot| &snapshot.moref)
    }

    fn told(&self) -> String {
        match self.snapshot {
            Some(snapshot) => format!("the snapshot {:?} of {:?}", snapshot.name, self.vm.name),
            None => format!("the template {:?}", self.vm.name),
        }
    }
}

impl Host {
    /// Makes a clone of a powered-off machine, powered off: a full copy, or a linked one.
    ///
    /// Errors: `esxi.invalid_power_state` where the template is not off, `esxi.no_disk_space`, `esxi.file_already_exists` where the
    /// clone's folder exists (it is never used). After an error nothing is left, or the error names it.
    pub async fn clone_vm(
        &self,
        template: &Checked<Vm>,
        new: &Checked<NewVm>,
        datastore: &Checked<Datastore>,
        spec: &CloneSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        let source = Source { vm: template, snapshot: None };
        let made = self.clone_of(&source, new, datastore, spec, progress);
        made.await.map_err(|error| error.doing(format!("clone {:?} to {:?}", template.name, new.name)))
    }

    /// Makes a machine, powered off, of what a snapshot has frozen of another one, which may run. Its firmware's variables are those of
    /// now, for a snapshot does not tell where its own are; they are left out while the machine holds them.
    ///
    /// Errors: as those of [`Host::clone_vm`]; there are no linked clones of snapshots.
    pub async fn clone_snapshot(
        &self,
        (vm, snapshot): (&Checked<Vm>, &Checked<Snapshot>),
        new: &Checked<NewVm>,
        datastore: &Checked<Datastore>,
        spec: &CloneSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        if spec.linked {
            let reason = "a linked clone builds on a machine, not on its snapshot".to_owned();
            return Err(Error::Invalid { reason, hint: Some("make a full clone".to_owned()) });
        }
        let source = Source { vm, snapshot: Some(snapshot) };
        let made = self.clone_of(&source, new, datastore, spec, progress);
        made.await.map_err(|error| error.doing(format!("clone {} to {:?}", source.told(), new.name)))
    }

    async fn clone_of(
        &self,
        source: &Source<'_>,
        new: &NewVm,
        datastore: &Checked<Datastore>,
        spec: &CloneSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        let made = async {
            let plan = self.plan(source, new, datastore, spec).await?;
            if self.is_vcenter() {
                let of = (source.vm, source.snapshot.map(|snapshot| &snapshot.moref));
                let cloned = self.clone_natively(&plan, of, new, datastore, spec, progress);
                let made = stoppable(spec.stop.as_ref(), cloned).await;
                return self.with_space(datastore, (!spec.linked).then_some(plan.needed), made).await;
            }
            let places = self.places(&spec.at).await?;
            let noted = self.unfinished.note(Begun::Made(Making::perhaps(datastore, &new.name)?));
            let made = match Making::folder(self, datastore, &new.name).await {
                Ok(making) => self.carry_out(&plan, &places, making, (source, new), spec, progress).await,
                Err(error) => Err(error),
            };
            noted.ended();
            // What it takes is known, and what was copied before the space ran out is gone again.
            self.with_space(datastore, (!spec.linked).then_some(plan.needed), made).await
        };
        patient(made).await
    }

    /// Reads the template, and refuses what cannot be cloned before anything is made.
    async fn plan(
        &self,
        source: &Source<'_>,
        new: &NewVm,
        datastore: &Datastore,
        spec: &CloneSpec<'_>,
    ) -> Result<Plan, Error> {
        folder_name(&new.name)?;
        pairs(&spec.extra_config)?;
        // Read before its state: whatever turns it on from here on is newer.
        let newest_event = match self.is_vcenter() || source.snapshot.is_some() {
            true => None,
            false => self.newest_event().await?,
        };
        let mut query = source.query();
        query.properties.push(("Datastore", vec!["summary.freeSpace"]));
        if self.is_vcenter() {
            source.add_place(&mut query);
        } else if source.snapshot.is_some() {
            query.properties.push(("VirtualMachine", vec!["layoutEx.file"]));
            query.from.push(From { object: source.vm.moref.clone(), skip: false, steps: Vec::new() });
        }
        query.from.push(From { object: datastore.moref.clone(), skip: false, steps: Vec::new() });
        let objects = self.link.retrieve(&query).await?;
        let find = |moref: &MoRef| objects.iter().find(|object| object.moref == *moref);
        let Some(object) = find(source.moref()) else {
            let (host, name) = (self.name().to_owned(), source.vm.name.clone());
            return Err(Error::NotFound { host, what: "virtual machine", name, nearest: Vec::new() });
        };
        let mut plan = Plan::read(object);
        plan.newest_event = newest_event;
        if let Some(machine) = find(&source.vm.moref) {
            plan.place(machine);
            if source.snapshot.is_some() {
                plan.nvram = nvram(machine).map(|(path, _)| path);
                plan.held = true;
            }
        }
        name_port_groups(&mut plan.hardware, &objects);
        if spec.without_nics {
            plan.hardware.nics.clear();
        }
        self.name_networks(&mut plan.hardware).await?;
        self.check(&plan, source, spec)?;
        for nic in &plan.hardware.nics {
            plan.backings.push(self.nic_backing(network_for(spec, nic.network.as_deref().unwrap_or_default())?).await?);
        }
        if spec.linked && !spec.trial {
            self.check_linked()?;
            if !self.is_vcenter() && self.starts_by_itself(source.vm).await? {
                return Err(Error::Invalid {
                    reason: format!(
                        "{:?} is started by its host, and a template that runs ruins the linked clones that build on its disks",
                        source.vm.name
                    ),
                    hint: Some(format!("ceso vm autostart {:?} --off; or make a full clone", source.vm.name)),
                });
            }
        }
        let free = find(&datastore.moref).and_then(|object| object.number::<u64>("summary.freeSpace"));
        match free {
            Some(free) if plan.needed > free && !spec.linked => Err(Error::NoSpace {
                host: self.name().to_owned(),
                datastore: datastore.name.clone(),
                needed: Bytes(plan.needed),
                free: Bytes(free),
                most: false,
            }),
            _ => Ok(plan),
        }
    }

    fn check(&self, plan: &Plan, source: &Source<'_>, spec: &CloneSpec<'_>) -> Result<(), Error> {
        if source.snapshot.is_none() && plan.power != PowerState::Off {
            return Err(Error::WrongState {
                host: self.name().to_owned(),
                name: source.told(),
                state: format!("powered {}", plan.power.as_str()).replace("powered suspended", "suspended"),
                hint: "a disk in use cannot be copied: power the template off first".to_owned(),
            });
        }
        let refuse = |what: String| {
            let hint = Some("remove it from the template, or make the machine by hand".to_owned());
            Err(Error::Invalid { reason: format!("{} has {what}, which cannot be cloned", source.told()), hint })
        };
        for disk in &plan.hardware.disks {
            // A child's backing is of its parent's kind, and only flat ones are made here.
            if spec.linked && disk.backing != "VirtualDiskFlatVer2BackingInfo" {
                return refuse(format!("{} with a backing {}", disk.label, disk.backing));
            }
            if !COPIED.contains(&disk.backing.as_str()) {
                return refuse(format!("{} with a backing {}", disk.label, disk.backing));
            }
            match plan.hardware.controller_of(disk).map(|controller| &controller.kind) {
                None => return refuse(format!("{} without a controller", disk.label)),
                Some(ControllerKind::Other(kind)) => return refuse(format!("a controller {kind}")),
                Some(_) => {}
            }
        }
        if plan.hardware.others.iter().any(|device| device == "VirtualTPM") {
            return refuse("a virtual TPM".to_owned());
        }
        for nic in &plan.hardware.nics {
            if !known_nic(&nic.kind) {
                return refuse(format!("a network card {}", nic.kind));
            }
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        plan: &Plan,
        places: &Places,
        mut making: Making<'_>,
        (source, new): (&Source<'_>, &NewVm),
        spec: &CloneSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        let copied = async {
            stoppable(spec.stop.as_ref(), self.copy_files(plan, &mut making, spec, progress)).await?;
            self.check_still_off(plan, source, spec).await
        };
        if let Err(error) = copied.await {
            return Err(making.undo(error).await);
        }
        let vmx = making.file_path(".vmx");
        let config = match plan.config(&making, new, spec, &vmx) {
            Ok(config) => config,
            Err(error) => return Err(making.undo(error).await),
        };
        making.configuration(None);
        if spec.linked {
            making.children();
        }
        match self.make_vm(places, &config, progress).await {
            Ok(moref) => self.made_vm(&making, &moref).await,
            Err(error) => Err(making.undo(error).await),
        }
    }

    async fn copy_files(
        &self,
        plan: &Plan,
        making: &mut Making<'_>,
        spec: &CloneSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let count = plan.hardware.disks.len();
        let go_on = || match spec.stop.as_ref().is_some_and(Stop::is_wanted) {
            true => Err(Error::Stopped),
            false => Ok(()),
        };
        for (index, disk) in plan.hardware.disks.iter().enumerate().filter(|_| !spec.linked) {
            go_on()?;
            let what = format!("copy disk {} of {count}", index + 1);
            let to = making.disk_path(index);
            let adapter =
                plan.hardware.controller_of(disk).map_or("lsiLogic", |controller| controller.kind.adapter_type());
            let copied = self.copy_disk(&disk.file, &to, (disk_type(disk), adapter), &what, progress).await;
            making.disk(to, copied)?;
        }
        go_on()?;
        if let Some(nvram) = &plan.nvram {
            let to = making.file_path(".nvram");
            let copied = self.copy_file(nvram, &to, "copy firmware variables", progress).await;
            match making.file(to, copied) {
                // A host may tell of a file that it writes only when the machine is first turned on. A BIOS does without.
                Err(error) if plan.firmware != Firmware::Efi && error.is("FileNotFound") => {}
                Err(error) if plan.held && ["FileLocked", "CannotAccessFile"].iter().any(|kind| error.is(kind)) => {}
                copied => copied?,
            }
        }
        Ok(())
    }
}

impl Host {
    /// Checks that a template was off all the while that its disks were copied one after the other: what ran in between has written to
    /// some of them before and to some after they were copied.
    async fn check_still_off(&self, plan: &Plan, source: &Source<'_>, spec: &CloneSpec<'_>) -> Result<(), Error> {
        let copies = plan.hardware.disks.len() + usize::from(plan.nvram.is_some());
        if source.snapshot.is_some() || (copies < 2 && !spec.linked) {
            return Ok(());
        }
        let looked = self.started_since(&source.vm.moref, plan.newest_event.as_ref()).await;
        // The look is lost, not the work: nobody is at work on what was made.
        let lost = |error: Error| match error.outcome_unknown() {
            true => Error::Unreachable { host: self.name().to_owned(), reason: error.root().to_string() },
            false => error,
        };
        let Some(started) = looked.map_err(lost)? else { return Ok(()) };
        let by = started.by.map(|by| format!(" by {by}")).unwrap_or_default();
        Err(Error::WrongState {
            host: self.name().to_owned(),
            name: source.told(),
            state: format!("not as it was: it was powered on{by} while it was copied, and the copies may be of two states"),
            hint: "keep it off until the clone is there, or clone a snapshot of it (snapshot:clone), which runs meanwhile as it likes".to_owned(),
        })
    }
}

fn network_for<'a>(spec: &CloneSpec<'a>, name: &str) -> Result<&'a Checked<Network>, Error> {
    let found = spec.networks.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
    found.ok_or_else(|| Error::Invalid {
        reason: format!("the template has a card on the network {name:?}, and no network is given for it"),
        hint: Some("give a network for each of the template's".to_owned()),
    })
}

fn disk_type(disk: &Disk) -> &'static str {
    match (disk.thin, disk.eager) {
        // A delta does not say; its copy takes the least space.
        (Some(true) | None, _) => "thin",
        (Some(false), true) => "eagerZeroedThick",
        (Some(false), false) => "preallocated",
    }
}
