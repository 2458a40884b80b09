//! Linked clones: who builds on whose disks, and how a child goes without taking its parent's disks with it.
//!
//! Children are found from every machine's `backing.parent` at the time of the call, never from a record; what is registered nowhere is
//! looked for by [`unregistered`](super::unregistered). A host that destroys a child may destroy its parent's disks: what is inherited is taken out of the machine first, and only files in its own folder are deleted.

use std::time::Instant;

use super::checked::Checked;
use super::config_spec::ConfigSpec;
use super::error::Error;
use super::file_path::FilePath;
use super::files::{path, split};
use super::hardware::{Disk, Hardware, removal};
use super::host::{Host, Progress};
use super::lookup::{is_vm, unescape};
use super::moref::MoRef;
use super::object::{Datastore, Vm};
use super::places::Reach;
use super::property::Query;
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_info::VmInfo;
use super::vm_list::PowerState;

/// A machine and its disks, which may build on others.
#[derive(Debug, Clone)]
pub(super) struct Builds {
    pub vm: MoRef,
    name: String,
    disks: Vec<Disk>,
}

impl Builds {
    /// All of its disks' files that are its own.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.disks.iter().flat_map(Disk::own)
    }
}

/// What the last look at all machines found, and when it began: whoever asked before that need not look again.
pub(super) type LastScan = tokio::sync::Mutex<Option<(Instant, std::sync::Arc<Vec<Builds>>)>>;

/// What is to be merged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Merge<'a> {
    /// The deltas that no snapshot owns.
    Unowned,
    /// What all snapshots hold.
    All,
    /// What one holds, with those that come after it where `children` says so.
    Snapshot { snapshot: &'a MoRef, children: bool },
}

/// The folder of a file on a datastore, with the datastore's name.
pub(super) fn folder(file: &str) -> Option<(&str, &str)> {
    let (datastore, rest) = split(file)?;
    Some((datastore, rest.rsplit_once('/').map_or("", |(folder, _)| folder)))
}

impl Disk {
    /// The disks that it builds on in a folder that is not its own: those of a linked clone's parent.
    pub fn inherited(&self) -> impl Iterator<Item = &str> {
        let own = folder(&self.file);
        self.parents.iter().map(String::as_str).filter(move |parent| folder(parent) != own)
    }

    /// Its files in its own folder: itself and the deltas and base below.
    fn own(&self) -> impl Iterator<Item = &str> {
        let own = folder(&self.file);
        let files = std::iter::once(self.file.as_str()).chain(self.parents.iter().map(String::as_str));
        files.filter(move |file| folder(file) == own)
    }

    /// How many deltas there are above its base, or above what it inherits.
    pub fn deltas(&self) -> usize {
        self.own().count().saturating_sub(1)
    }
}

impl Host {
    /// The names of the machines whose disks build on this machine's: on the disk that it writes to, or on any other of its own.
    pub async fn linked_clones(&self, vm: &Checked<Vm>, only_written: bool) -> Result<Vec<String>, Error> {
        let all = self.scan().await.map_err(|error| error.doing(format!("look for linked clones of {:?}", vm.name)))?;
        let disks = || all.iter().filter(|own| own.vm == vm.moref).flat_map(|own| &own.disks);
        let written: Vec<&str> = disks().map(|disk| disk.file.as_str()).collect();
        let own: Vec<&str> = disks().flat_map(Disk::own).collect();
        let home = folder(&vm.path);
        let builds = |parent: &String| match only_written {
            true => written.contains(&parent.as_str()),
            false => own.contains(&parent.as_str()) || folder(parent) == home,
        };
        let children = all.iter().filter(|other| other.vm != vm.moref);
        let children = children.filter(|other| other.disks.iter().flat_map(|disk| &disk.parents).any(builds));
        Ok(children.map(|other| other.name.clone()).collect())
    }

    /// The names of the machines whose disks build on what lies at a path, or below it, without being of that folder themselves.
    pub async fn linked_clones_on(
        &self,
        datastore: &Checked<Datastore>,
        place: &FilePath,
    ) -> Result<Vec<String>, Error> {
        let file = place.on(&datastore.name);
        let all = self.scan().await.map_err(|error| error.doing(format!("look for linked clones of {file}")))?;
        let lies_there = |parent: &str| {
            split(parent).is_some_and(|(name, rest)| {
                name == datastore.name && FilePath::parse(rest.trim()).is_ok_and(|path| path.is_in(place))
            })
        };
        let builds = |other: &&Builds| other.disks.iter().flat_map(Disk::inherited).any(lies_there);
        Ok(all.iter().filter(builds).map(|other| other.name.clone()).collect())
    }

    /// Refuses what would merge deltas into disks that a machine inherits, or within them: they are another machine's, and everything
    /// that builds on them would be ruined.
    ///
    /// Errors: `esxi.inherited_disks`, before anything is done.
    pub(super) async fn check_merge(&self, vm: &Checked<Vm>, what: Merge<'_>) -> Result<(), Error> {
        let info = self.vm_info(vm).await?;
        let inherited: Vec<&str> = info.hardware.disks.iter().flat_map(Disk::inherited).collect();
        let Some(first) = inherited.first() else { return Ok(()) };
        let refused = |disk: &str| Error::Inherited {
            host: self.name().to_owned(),
            name: vm.name.clone(),
            disk: disk.to_owned(),
        };
        if let Merge::Unowned = what {
            // Deltas of its own lie above all that is inherited.
            let own = info.hardware.disks.iter().any(|disk| info.has_unowned_deltas(disk));
            return if own { Ok(()) } else { Err(refused(first)) };
        }
        let mut doomed: Vec<&MoRef> = Vec::new();
        // Parents come before children.
        for row in &info.snapshots {
            let below = || row.parent.as_ref().is_some_and(|parent| doomed.contains(&parent));
            let goes = match what {
                Merge::Snapshot { snapshot, children } => row.snapshot.moref == *snapshot || (children && below()),
                Merge::All | Merge::Unowned => true,
            };
            if goes {
                doomed.push(&row.snapshot.moref);
            }
        }
        for snapshot in doomed {
            let query = Query::object(snapshot, "VirtualMachineSnapshot", &["config.hardware.device"]);
            let objects = self.link.retrieve(&query).await?;
            let devices = objects.iter().filter_map(|object| object.get("config.hardware.device"));
            let frozen: Vec<Disk> = devices.flat_map(|devices| Hardware::read(devices).disks).collect();
            // What lies above a frozen disk is merged into it.
            if let Some(disk) = frozen.iter().find(|disk| inherited.contains(&disk.file.as_str())) {
                return Err(refused(&disk.file));
            }
        }
        Ok(())
    }

    /// All machines' disks, as of now. Calls that come while somebody looks share the next look.
    pub(super) async fn scan(&self) -> Result<std::sync::Arc<Vec<Builds>>, Error> {
        let asked = Instant::now();
        let mut last = self.last_scan.lock().await;
        if let Some((_, found)) = last.as_ref().filter(|(began, _)| *began >= asked) {
            return Ok(found.clone());
        }
        let began = Instant::now();
        let paths = vec!["name", "config.hardware.device"];
        let query = self.link.everything(&[Reach::Vms], vec![("VirtualMachine", paths)]);
        let objects = self.link.retrieve(&query).await?;
        let found = objects.iter().filter(|object| is_vm(object)).filter_map(|object| {
            let disks = object.get("config.hardware.device").map(Hardware::read)?.disks;
            Some(Builds { vm: object.moref.clone(), name: unescape(&object.string("name")), disks })
        });
        let found = std::sync::Arc::new(found.collect::<Vec<_>>());
        *last = Some((began, found.clone()));
        Ok(found)
    }

    /// Destroys a powered-off linked clone: its snapshots go, what it inherits is taken out, then the machine and its own files go.
    pub(super) async fn destroy_linked(
        &self,
        vm: &Checked<Vm>,
        info: VmInfo,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        if info.row.power != PowerState::Off {
            return Err(Error::WrongState {
                host: self.name().to_owned(),
                name: format!("{:?}", vm.name),
                state: format!("powered {}", info.row.power.as_str()).replace("powered suspended", "suspended"),
                hint: "turn it off first: vm:shutdown() asks the guest, vm:power_off() does not".to_owned(),
            });
        }
        let info = match info.snapshots.is_empty() {
            true => info,
            false => {
                self.remove_snapshots(vm, progress).await?;
                self.vm_info(vm).await?
            }
        };
        let inherits = |disk: &&Disk| disk.inherited().next().is_some();
        let disks: Vec<&Disk> = info.hardware.disks.iter().filter(inherits).collect();
        let own: Vec<String> = disks.iter().flat_map(|disk| disk.own()).map(str::to_owned).collect();
        let devices = disks.iter().map(|disk| removal(disk.key)).collect();
        let spec = ConfigSpec { devices, ..ConfigSpec::default() };
        let call = Call::new(&vm.moref, Method::ReconfigVm).with(spec.element("spec")?);
        Task::start(self, "take inherited disks out", &call).await?.done(progress).await?;
        let left = |error: Error, left: Vec<String>| Error::LeftBehind {
            host: self.name().to_owned(),
            left,
            source: Box::new(error),
        };
        let destroyed =
            async { Task::start(self, "destroy", &Call::new(&vm.moref, Method::Destroy)).await?.done(progress).await };
        if let Err(error) = destroyed.await {
            return Err(left(error, own));
        }
        let home = folder(&vm.path);
        let own: Vec<String> = own.into_iter().filter(|file| folder(file) == home).collect();
        let Err(error) = self.delete_own(vm, &own).await else { return Ok(()) };
        // The machine is gone: nothing else names its files any more.
        let there = self.remains(vm).await;
        Err(left(error, if there.is_empty() { own } else { there }))
    }

    /// What lies in a machine's folder, whether or not there is still such a machine; nothing where that cannot be seen.
    pub(super) async fn remains(&self, vm: &Checked<Vm>) -> Vec<String> {
        let Some((datastore, home)) = folder(&vm.path).filter(|(_, home)| !home.is_empty()) else { return Vec::new() };
        let look = async {
            let Some(datastore) = self.datastore_named(datastore).await? else { return Ok(Vec::new()) };
            let folder = path(&datastore.name, home);
            let files = self.folder_files(&datastore, &folder).await?;
            Ok(files.into_iter().map(|name| format!("{folder}/{name}")).collect())
        };
        match look.await {
            Ok(files) => files,
            Err(error) => {
                let error: Error = error;
                if !error.is("FileNotFound") {
                    tracing::warn!(host = self.name(), "what is left of {:?} is not known: {error}", vm.name);
                }
                Vec::new()
            }
        }
    }

    /// Deletes the files of disks in a machine's folder, and the folder where nothing else is in it.
    pub(super) async fn delete_own(&self, vm: &Checked<Vm>, disks: &[String]) -> Result<(), Error> {
        let Some((datastore, home)) = folder(&vm.path).filter(|(_, home)| !home.is_empty()) else { return Ok(()) };
        let Some(datastore) = self.datastore_named(datastore).await? else { return Ok(()) };
        let folder = path(&datastore.name, home);
        let stems: Vec<&str> = disks.iter().filter_map(|file| file.rsplit('/').next()?.strip_suffix(".vmdk")).collect();
        let of_disk = |name: &str| {
            let stem = name.strip_suffix(".vmdk");
            let part = |stem: &str| {
                ["-delta", "-sesparse", "-flat", "-ctk"]
                    .iter()
                    .find_map(|part| stem.strip_suffix(part).map(str::to_owned))
            };
            stem.is_some_and(|stem| {
                stems.contains(&stem) || part(stem).is_some_and(|stem| stems.contains(&stem.as_str()))
            })
        };
        let mut others = 0;
        for name in self.folder_files(&datastore, &folder).await? {
            match of_disk(&name) {
                true => match self.delete_file(&format!("{folder}/{name}")).await {
                    Err(error) if !error.is("FileNotFound") => return Err(error),
                    _ => {}
                },
                false => others += 1,
            }
        }
        if others == 0 {
            self.delete_file(&folder).await?;
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "the folder of a checked machine lies on it")]
    async fn datastore_named(&self, name: &str) -> Result<Option<Datastore>, Error> {
        Ok(self.lookup_datastores().await?.into_iter().find(|datastore| datastore.name == name))
    }
}
