//! The trials of a probe: each tries one thing that hosts do differently, and notes what was seen.
//!
//! A host that cannot be reached ends them; all else is an answer. What they make is noted before it is made, and removed by
//! [`Trials::end`], which the probe calls however they ended.

mod written;

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::host_probe::{BoundProbe, MARK};
use crate::catalog::Fact;
use crate::door::Pass;
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{
    self, ALLOCATED, CloneSpec, Content, CreateSpec, FilePath, FrozenDisk, Had, Snapshot, SnapshotSpec, Vm,
};
use crate::units::Bytes;

/// How large the machine's disk is, and the file that is carried to and fro.
const DISK: u64 = 64 << 20;
const FILE: usize = 8 << 20;
/// Where the file is asked for from.
const MIDDLE: usize = FILE - 12_345;

/// How often something is tried to be removed, and the pause between.
const REMOVALS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// The trials under way, and what they have made.
pub(super) struct Trials<'a> {
    bound: &'a BoundProbe,
    pass: &'a Pass<'a>,
    facts: Vec<Fact>,
    machine: Option<Arc<Checked<Vm>>>,
    child: Option<Arc<Checked<Vm>>>,
    guest: Option<Arc<Checked<Vm>>>,
    files: Vec<FilePath>,
}

type Told = (Option<bool>, String);

impl<'a> Trials<'a> {
    pub fn new(bound: &'a BoundProbe, pass: &'a Pass<'a>) -> Self {
        Self { bound, pass, facts: Vec::new(), machine: None, child: None, guest: None, files: Vec::new() }
    }

    fn client(&self) -> &'a esxi::Host {
        &self.bound.host.host.client
    }

    /// Makes the machine, and tries everything with it.
    pub async fn all(&mut self) -> Result<(), Fault> {
        self.sessions().await?;
        let spec = CreateSpec {
            disk: Some(Bytes(DISK)),
            notes: Some(format!("{MARK}this machine is thrown away; if no probe runs, it may be removed")),
            ..CreateSpec::default()
        };
        self.go_on()?;
        let (bound, pass) = (self.bound, self.pass);
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let made = self.client().create_vm(&bound.new, &bound.datastore, &[], &spec, &progress).await?;
        let vm = Arc::new(pass.made(&bound.host.host, made));
        self.machine = Some(vm.clone());
        self.files(&vm).await?;
        self.copies(&vm).await?;
        self.snapshots(&vm).await?;
        self.linked(&vm).await?;
        match &bound.guest {
            Some((template, new)) => self.written(&template.vm, new).await,
            None => Ok(()),
        }
    }

    /// Notes what came of a trial, and whether the run goes on.
    fn note<T>(
        &mut self,
        name: &str,
        result: Result<T, esxi::Error>,
        told: impl FnOnce(T) -> Told,
    ) -> Result<(), Fault> {
        self.measured(name, result, |value| {
            let (works, seen) = told(value);
            (works, seen, None)
        })
    }

    fn measured<T>(
        &mut self,
        name: &str,
        result: Result<T, esxi::Error>,
        told: impl FnOnce(T) -> (Option<bool>, String, Option<u64>),
    ) -> Result<(), Fault> {
        let (works, seen, figure) = match result {
            Ok(value) => told(value),
            Err(error) if is_away(&error) => return Err(error.into()),
            Err(error) => (Some(false), error.to_string(), None),
        };
        self.facts.push(Fact { name: name.to_owned(), works, seen, figure });
        self.go_on()
    }

    /// Ends the trials where the run was stopped.
    fn go_on(&self) -> Result<(), Fault> {
        match self.pass.is_stopped() {
            true => Err(Fault::new("script.cancelled", "the probe was stopped: what it had made is removed")),
            false => Ok(()),
        }
    }

    async fn sessions(&mut self) -> Result<(), Fault> {
        let most = self.client().configured_connections();
        let tried = match self.client().try_sessions(most).await {
            // Nobody is there to give the password, or it is another by now: that is not the host's doing.
            Err(error) if matches!(error.root(), esxi::Error::Credentials(_)) => {
                self.facts.push(Fact {
                    name: "sessions".to_owned(),
                    works: None,
                    seen: error.to_string(),
                    figure: None,
                });
                return Ok(());
            }
            Err(error @ esxi::Error::InvalidLogin { .. }) => return Err(error.into()),
            tried => tried,
        };
        self.measured("sessions", tried, |tried| {
            let figure = Some(tried.taken as u64);
            match tried.refusal {
                None => (Some(true), format!("{} sessions at once, as many as are used", tried.taken), figure),
                Some(why) => {
                    (Some(false), format!("{} of {} sessions at once: {why}", tried.taken, tried.asked), figure)
                }
            }
        })
    }

    async fn files(&mut self, vm: &Checked<Vm>) -> Result<(), Fault> {
        let (client, store, pass) = (self.client(), &self.bound.datastore, self.pass);
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let file = self.beside(vm, "probe.bin")?;
        let content: Arc<[u8]> = (0..FILE).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect();
        let open = || Ok(Box::new(std::io::Cursor::new(content.clone())) as Box<dyn Read + Send>);
        self.files.push(file.clone());
        let began = Instant::now();
        let sent = client
            .upload(store, &file, Content { length: FILE as u64, open: &open, sum: esxi::Sum::Told }, &progress)
            .await;
        let sum = sent.as_ref().ok().and_then(|sent| sent.sha256);
        self.measured("upload", sent, |sent| speed(sent.bytes, began.elapsed()))?;
        let Some(sum) = sum else { return Ok(()) };
        let began = Instant::now();
        let had = Had { wanted: esxi::Sum::Told, ..Had::default() };
        let came = client.download(store, &file, had, Box::new(std::io::sink()), &progress).await;
        self.measured("download", came, |came| match came.sha256 == Some(sum) {
            true => speed(came.bytes, began.elapsed()),
            false => (Some(false), "what came is not what was sent".to_owned(), None),
        })?;
        let rest = content.get(MIDDLE..).unwrap_or_default();
        let asked = client.try_range(store, &file, MIDDLE as u64, rest).await;
        self.note("ranges", asked, |(works, seen)| (Some(works), seen))?;
        let copy = self.beside(vm, "probe-2.bin")?;
        self.files.push(copy.clone());
        let began = Instant::now();
        let copied = client.copy_path((store, &file), (store, &copy), &progress).await;
        self.measured("copies", copied, |()| speed(FILE as u64, began.elapsed()))
    }

    /// Copies the machine's thin disk, told its form and not.
    async fn copies(&mut self, vm: &Checked<Vm>) -> Result<(), Fault> {
        let (client, store, pass) = (self.client(), &self.bound.datastore, self.pass);
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let Some(from) = self.first_disk(vm).await? else { return Ok(()) };
        for (name, told, how) in [
            ("thin_copies", true, "a thin disk's copy that is told so"),
            ("untold_copies", false, "a thin disk's copy that is not told its form"),
        ] {
            let to = self.beside(vm, &format!("probe-{}.vmdk", if told { "told" } else { "untold" }))?;
            self.files.push(to.clone());
            let copied = match client.try_disk_copy(store, (&from, &to), told, &progress).await {
                Ok(()) => client.disk_info(store, &to).await,
                Err(error) => Err(error),
            };
            self.note(name, copied, |info| {
                let stored = info.disk.size.map_or("an unknown size".to_owned(), |size| size.to_string());
                let form = match info.disk.thin {
                    Some(true) => "thin",
                    Some(false) => "thick",
                    None => "of an unknown form",
                };
                (info.disk.thin, format!("{how} is {form} and takes {stored} of {}", Bytes(DISK)))
            })?;
        }
        Ok(())
    }

    /// Tracks changes over two snapshots between which nothing is written, and exports the second.
    async fn snapshots(&mut self, vm: &Checked<Vm>) -> Result<(), Fault> {
        let (client, pass) = (self.client(), self.pass);
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let tracked = client.track_changes(vm, true, &progress).await;
        let first = self.snapshot(vm, "probe 1").await?;
        let frozen = match tracked {
            Ok(_) => client.frozen_disks(&first).await,
            Err(error) => Err(error),
        };
        let disk = frozen.as_ref().ok().and_then(|disks| disks.first().cloned());
        self.note("tracked_changes", frozen, |disks| {
            let id = disks.into_iter().find_map(|disk| disk.change_id);
            (Some(id.is_some()), id.unwrap_or_else(|| "the snapshot's disks have no change id".to_owned()))
        })?;
        let tracked = disk.filter(|disk| disk.change_id.is_some());
        if let Some(disk) = &tracked {
            let asked = client.asked_areas(vm, &first, disk, ALLOCATED).await;
            self.note("allocated_areas", asked, |changed| match changed.full {
                Some(why) => (Some(false), why),
                None => (Some(true), format!("{} areas of an empty disk", changed.areas.len())),
            })?;
        }
        client.remove_snapshots(vm, &progress).await?;
        let second = self.snapshot(vm, "probe 2").await?;
        if let Some(FrozenDisk { change_id: Some(since), .. }) = &tracked {
            self.unchanged(vm, &second, since).await?;
        }
        let began = Instant::now();
        let exported = match client.export_snapshot(&second).await {
            Err(error) => Err(error),
            Ok(lease) => {
                let all = async {
                    let (mut bytes, mut disks) = (0, 0);
                    for file in lease.files.iter().filter(|file| file.disk) {
                        bytes += lease.fetch_disk(file, Box::new(std::io::sink()), &progress).await?.bytes;
                        disks += 1;
                    }
                    Ok::<(u64, usize), esxi::Error>((bytes, disks))
                };
                lease.during(all).await
            }
        };
        self.measured("snapshot_export", exported, |(bytes, disks)| match disks {
            0 => (Some(false), "a lease without a disk".to_owned(), None),
            _ => speed(bytes, began.elapsed()),
        })?;
        client.remove_snapshots(vm, &progress).await.map_err(Fault::from)
    }

    async fn unchanged(&mut self, vm: &Checked<Vm>, second: &Checked<Snapshot>, since: &str) -> Result<(), Fault> {
        let client = self.client();
        let asked = match client.frozen_disks(second).await.map(|disks| disks.into_iter().next()) {
            Ok(Some(disk)) => client.asked_areas(vm, second, &disk, since).await,
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        };
        self.note("unchanged_areas", asked, |changed| {
            let bytes: u64 = changed.areas.iter().map(|(_, length)| length).sum();
            match changed.full {
                Some(why) => (Some(false), why),
                // More than was written is read in vain, and nothing is lost by it.
                None => (Some(true), format!("{} told of as changed between snapshots without a write", Bytes(bytes))),
            }
        })
    }

    async fn snapshot(&self, vm: &Checked<Vm>, name: &str) -> Result<Checked<Snapshot>, Fault> {
        let pass = self.pass;
        let spec = SnapshotSpec { name: name.to_owned(), ..SnapshotSpec::default() };
        let taken = self.client().create_snapshot(vm, &spec, &|step| pass.step(step)).await?;
        Ok(pass.taken(&self.bound.host.host, vm, taken.snapshot))
    }

    async fn linked(&mut self, vm: &Checked<Vm>) -> Result<(), Fault> {
        let (client, store, pass) = (self.client(), &self.bound.datastore, self.pass);
        let progress = |step: esxi::Step<'_>| pass.step(step);
        let notes = Some(format!("{MARK}this linked clone is thrown away; if no probe runs, it may be removed"));
        pass.note_probing(&self.bound.host.host, vec![self.bound.child.name.clone()]).await;
        let spec = CloneSpec { linked: true, trial: true, notes, ..CloneSpec::default() };
        let child = match client.clone_vm(vm, &self.bound.child, store, &spec, &progress).await {
            Ok(child) => Arc::new(pass.made(&self.bound.host.host, child)),
            Err(error) => return self.note("linked_clones", Err::<(), _>(error), |()| (None, String::new())),
        };
        self.child = Some(child.clone());
        let builds = client.vm_info(&child).await;
        self.note("linked_clones", builds, |info| {
            let builds = info.hardware.disks.iter().any(|disk| !disk.parents.is_empty());
            (Some(builds), format!("the clone's disk builds on another: {}", if builds { "yes" } else { "no" }))
        })?;
        client.destroy(&child, &progress).await?;
        self.child = None;
        pass.unmade(&self.bound.host.host, &child);
        let left = match self.first_disk(vm).await? {
            Some(disk) => client.disk_info(store, &disk).await.map(drop),
            None => Ok(()),
        };
        self.note("parents_survive", left, |()| (Some(true), "a destroyed clone left its parent's disk".to_owned()))
    }

    async fn first_disk(&self, vm: &Checked<Vm>) -> Result<Option<FilePath>, Fault> {
        let info = self.client().vm_info(vm).await?;
        let path = info.hardware.disks.first().and_then(|disk| disk.file.split_once(']'));
        Ok(path.map(|(_, path)| FilePath::below_root(path.trim())).transpose()?)
    }

    /// A file in the machine's folder.
    fn beside(&self, vm: &Vm, name: &str) -> Result<FilePath, Fault> {
        let path = vm.path.split_once(']').map_or("", |(_, path)| path.trim());
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(FilePath::below_root(&format!("{folder}/{name}"))?)
    }

    /// Removes all that was made, and says what could not be, with the reason.
    pub async fn end(mut self) -> (Vec<Fact>, Vec<String>) {
        let mut left = Vec::new();
        let (client, store) = (self.client(), &self.bound.datastore);
        let progress = |_: esxi::Step<'_>| {};
        for file in std::mem::take(&mut self.files) {
            let removed = again(|| client.delete_path(store, &file, &progress)).await;
            match removed {
                Ok(()) => {}
                Err(error) if error.is("FileNotFound") || error.kind() == "esxi.file_not_found" => {}
                Err(error) => left.push(format!("{} ({error})", file.on(&store.name))),
            }
        }
        if let Some(guest) = &self.guest
            && let Err(error) = client.power_off(guest, &progress).await
        {
            tracing::debug!("the guest of a probe was not turned off: {error}");
        }
        for vm in [self.child.take(), self.guest.take(), self.machine.take()].into_iter().flatten() {
            match again(|| client.destroy(&vm, &progress)).await {
                Err(error) if !error.is("ManagedObjectNotFound") => {
                    left.push(format!("the machine {:?} ({error})", vm.name));
                }
                gone => {
                    left.extend(gone.unwrap_or_default());
                    self.pass.unmade(&self.bound.host.host, &vm);
                }
            }
        }
        (self.facts, left)
    }
}

/// Does what takes something away, again after a pause where it fails: what was under way when the trials ended may hold it a moment.
async fn again<T, F>(remove: impl Fn() -> F) -> Result<T, esxi::Error>
where
    F: Future<Output = Result<T, esxi::Error>>,
{
    let mut tried = 0;
    loop {
        tried += 1;
        match remove().await {
            Err(error) if tried < REMOVALS && !error.is("FileNotFound") && !error.is("ManagedObjectNotFound") => {
                tracing::debug!("something of a probe is not removed yet: {error}");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// Whether the host cannot be asked any further: that is no answer to a trial.
fn is_away(error: &esxi::Error) -> bool {
    use esxi::Error::{InvalidLogin, Lost, Timeout, Unreachable};
    matches!(error.root(), Unreachable { .. } | Lost { .. } | Timeout { .. } | InvalidLogin { .. })
}

fn speed(bytes: u64, took: Duration) -> (Option<bool>, String, Option<u64>) {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let a_second = bytes.saturating_mul(1000) / millis;
    (Some(true), format!("{} in {millis} ms, {}/s", Bytes(bytes), Bytes(a_second)), Some(a_second))
}
