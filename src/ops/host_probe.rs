//! The operation that finds out what a host really does: with a throw-away machine, which is removed again.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, ALLOCATED, CloneSpec, Content, CreateSpec, FilePath, Had, NewVm, Sink, SnapshotSpec, Vm};
use crate::units::Bytes;

/// How large the machine's disk is, and the file that is carried to and fro.
const DISK: u64 = 64 << 20;
const FILE: usize = 8 << 20;

/// Tries what hosts do differently, with a small machine of that name: ranges of files, tracked changes, exported snapshots, thin copies,
/// linked clones, how fast files go.
///
/// The machine, its copy and its file are removed again whatever comes of it, or the error names them. Nothing else of the host is
/// touched. What is not tried: how many sessions it takes, which could lock others out. Errors: those of making a machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The host.
    pub host: Target<kind::Host>,
    /// The machine's name; its linked clone's has `-child` behind it.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
}

/// What a host does.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Probed {
    /// The product with its version and build.
    pub product: String,
    /// The API version that was spoken.
    pub api: String,
    /// What was tried, in its order.
    pub facts: Vec<Fact>,
}

/// Something that was tried.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Fact {
    /// What it is: `ranges`, `upload`, `download`, `thin_copies`, `tracked_changes`, `allocated_areas`, `snapshot_export`,
    /// `linked_clones`, `parents_survive`.
    pub name: String,
    /// Whether the host does it; nil where that could not be found out.
    pub works: Option<bool>,
    /// What was seen.
    pub seen: String,
}

/// The machines that may be made, and where.
pub struct BoundProbe {
    host: BoundHost,
    new: Checked<NewVm>,
    child: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
}

impl Operation for Probe {
    const NAME: &'static str = "host.probe";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "probe" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "create", Selector::Argument("name")),
        touch("datastore", "write", Selector::Argument("datastore")),
    ];
    const USAGE: &'static str =
        "for _, fact in host:probe({ name = \"probe-1\" }).facts do\n  print(fact.name, fact.works, fact.seen)\nend";

    type Bound = BoundProbe;
    type Output = Probed;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundProbe, Fault> {
        let host = binder.host(&self.host)?;
        let new = binder.new_vm(&host, &self.name).await?;
        let child = binder.new_vm(&host, &format!("{}-child", self.name)).await?;
        let datastore = match &self.datastore {
            Some(name) => binder.datastore(&host, name, "write").await?,
            None => binder.roomiest_datastore(&host).await?,
        };
        Ok(BoundProbe { host, new, child, datastore })
    }

    async fn act(self, bound: BoundProbe, pass: &Pass<'_>) -> Result<Probed, Fault> {
        let client = &bound.host.host.client;
        let spec = CreateSpec {
            disk: Some(Bytes(DISK)),
            notes: Some("ceso host probe: may be removed".to_owned()),
            ..CreateSpec::default()
        };
        let made = client.create_vm(&bound.new, &bound.datastore, &[], &spec, &|step| pass.step(step)).await?;
        let vm = pass.made(&bound.host.host, made);
        let mut facts = Vec::new();
        let tried = try_all(&bound, &vm, pass, &mut facts).await;
        let gone = client.destroy(&vm, &|step| pass.step(step)).await;
        if gone.is_ok() {
            pass.unmade(&bound.host.host, &vm);
        }
        tried?;
        gone.map_err(|error| Fault::from(error).hint(format!("left behind: the machine {:?}; remove it", vm.name)))?;
        Ok(Probed { product: client.about().full_name, api: client.api_version(), facts })
    }
}

/// Notes what came of a trial. A host that cannot be reached ends the probe; all else is an answer.
fn note<T>(
    facts: &mut Vec<Fact>,
    name: &str,
    result: Result<T, esxi::Error>,
    told: impl FnOnce(T) -> (Option<bool>, String),
) -> Result<(), Fault> {
    let (works, seen) = match result {
        Ok(value) => told(value),
        Err(error) if error.outcome_unknown() || error.kind() == "esxi.unreachable" => return Err(error.into()),
        Err(error) => (Some(false), error.to_string()),
    };
    facts.push(Fact { name: name.to_owned(), works, seen });
    Ok(())
}

fn speed(bytes: u64, took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    format!("{} in {millis} ms, {}/s", Bytes(bytes), Bytes(bytes.saturating_mul(1000) / millis))
}

async fn try_all(bound: &BoundProbe, vm: &Checked<Vm>, pass: &Pass<'_>, facts: &mut Vec<Fact>) -> Result<(), Fault> {
    let client = &bound.host.host.client;
    let store = &bound.datastore;
    let progress = |step: esxi::Step<'_>| pass.step(step);
    let folder = vm.path.split_once(']').map_or("", |(_, path)| path.trim()).rsplit_once('/').map_or("", |(f, _)| f);
    let file = FilePath::below_root(&format!("{folder}/probe.bin"))?;

    let content: Arc<[u8]> = (0..FILE).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect();
    let open = || Ok(Box::new(std::io::Cursor::new(content.clone())) as Box<dyn Read + Send>);
    let began = Instant::now();
    let sent = client.upload(store, &file, Content { length: FILE as u64, open: &open }, &progress).await;
    let whole = sent.is_ok();
    note(facts, "upload", sent, |sent| (Some(true), speed(sent.bytes, began.elapsed())))?;
    if whole {
        let began = Instant::now();
        let sink: Sink = Box::new(std::io::sink());
        let came = client.download(store, &file, Had::default(), sink, &progress).await;
        note(facts, "download", came, |(came, _)| (Some(true), speed(came.bytes, began.elapsed())))?;
        let heeded = client.heeds_ranges(store, &file).await;
        note(facts, "ranges", heeded, |status| (Some(status == 206), format!("HTTP {status} to a Range")))?;
        client.delete_path(store, &file, &progress).await?;
    }

    let info = client.vm_info(vm).await?;
    if let Some(disk) = info.hardware.disks.first() {
        let path = disk.file.split_once(']').map_or("", |(_, path)| path.trim());
        let (from, to) = (FilePath::below_root(path)?, FilePath::below_root(&format!("{folder}/probe-copy.vmdk"))?);
        let copied = client.copy_path((store, &from), (store, &to), &progress).await;
        let there = copied.is_ok();
        let copied = match copied {
            Ok(()) => client.disk_info(store, &to).await,
            Err(error) => Err(error),
        };
        note(facts, "thin_copies", copied, |info| {
            let stored = info.disk.size.map_or("an unknown size".to_owned(), |size| size.to_string());
            (info.disk.thin, format!("a thin disk's copy takes {stored} of {}", Bytes(DISK)))
        })?;
        if there {
            client.delete_path(store, &to, &progress).await?;
        }
    }

    let tracked = client.track_changes(vm, true, &progress).await;
    let spec = SnapshotSpec { name: "probe".to_owned(), ..SnapshotSpec::default() };
    let taken = client.create_snapshot(vm, &spec, &progress).await?;
    let snapshot = pass.taken(&bound.host.host, vm, taken.snapshot);
    let frozen = match tracked {
        Ok(_) => client.frozen_disks(&snapshot).await,
        Err(error) => Err(error),
    };
    let first = frozen.as_ref().ok().and_then(|disks| disks.first().cloned());
    note(facts, "tracked_changes", frozen, |disks| {
        let id = disks.into_iter().find_map(|disk| disk.change_id);
        (Some(id.is_some()), id.unwrap_or_else(|| "the snapshot's disks have no change id".to_owned()))
    })?;
    if let Some(disk) = first.filter(|disk| disk.change_id.is_some()) {
        let asked = client.changed_areas(vm, &snapshot, &disk, ALLOCATED).await;
        note(facts, "allocated_areas", asked, |changed| match changed.full {
            Some(why) => (Some(false), why),
            None => (Some(true), format!("{} areas of an empty disk", changed.areas.len())),
        })?;
    }
    let began = Instant::now();
    let exported = match client.export_snapshot(&snapshot).await {
        Err(error) => Err(error),
        Ok(lease) => {
            let all = async {
                let mut bytes = 0;
                for file in lease.files.iter().filter(|file| file.disk) {
                    bytes += lease.fetch(file, Box::new(std::io::sink()), &progress).await?.0.bytes;
                }
                Ok::<u64, esxi::Error>(bytes)
            };
            lease.during(all).await
        }
    };
    note(facts, "snapshot_export", exported, |bytes| (Some(true), speed(bytes, began.elapsed())))?;
    client.remove_snapshots(vm, &progress).await?;

    let spec = CloneSpec { linked: true, ..CloneSpec::default() };
    let cloned = client.clone_vm(vm, &bound.child, store, &spec, &progress).await;
    let child = match cloned {
        Ok(child) => pass.made(&bound.host.host, child),
        Err(error) => return note(facts, "linked_clones", Err::<(), _>(error), |()| (None, String::new())),
    };
    let builds = client.vm_info(&child).await;
    note(facts, "linked_clones", builds, |info| {
        let builds = info.hardware.disks.iter().any(|disk| !disk.parents.is_empty());
        (Some(builds), format!("the clone's disk builds on another: {builds}"))
    })?;
    client.destroy(&child, &progress).await?;
    pass.unmade(&bound.host.host, &child);
    let left = match info.hardware.disks.first() {
        Some(disk) => {
            let path = disk.file.split_once(']').map_or("", |(_, path)| path.trim());
            client.disk_info(store, &FilePath::below_root(path)?).await.map(|_| ())
        }
        None => Ok(()),
    };
    note(facts, "parents_survive", left, |()| (Some(true), "a destroyed clone left its parent's disk".to_owned()))
}
