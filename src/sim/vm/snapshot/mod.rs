//! Snapshots: a machine's saved states, as a tree, and what the API does with them.
//!
//! ```text
//! mod      the tree, taking and renaming, its properties    revert    back to a saved state
//! remove   taking states away                               merge     deltas that no snapshot owns, merged
//! files    NAME.vmsd, NAME-Snapshot1.vmsn
//! ```
//!
//! A snapshot freezes each disk that is not independent: the machine writes to a new delta from then on. Its saved state is the
//! machine's whole configuration, with the disks as they were frozen.

mod files;
mod merge;
mod remove;
mod revert;

use time::OffsetDateTime;

use super::power::keep;
use super::render;
use super::{Power, Vm, backing, passthrough, question, tracking};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore;
use crate::sim::fault::VimFault;
use crate::sim::guest;
use crate::sim::property::Wanted;
use crate::sim::task;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

pub use files::{names as file_names, read as read_files};
pub use merge::needed as consolidation_needed;

/// The longest way from a snapshot to its root.
const DEEPEST: usize = 32;

/// A machine's snapshots, in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Snapshots {
    pub list: Vec<Snapshot>,
    /// The one that the machine's present state goes on from.
    pub current: Option<u32>,
    /// The newest number: none is given twice.
    pub last: u32,
}

/// One saved state.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub id: u32,
    pub name: String,
    pub description: String,
    pub created: OffsetDateTime,
    pub quiesced: bool,
    pub parent: Option<u32>,
    /// The machine as it was, without its snapshots; its power state is the one that a revert brings back.
    pub saved: Box<Vm>,
}

impl Snapshots {
    pub fn get(&self, id: u32) -> Option<&Snapshot> {
        self.list.iter().find(|snapshot| snapshot.id == id)
    }

    fn children(&self, of: Option<u32>) -> impl Iterator<Item = &Snapshot> {
        self.list.iter().filter(move |snapshot| snapshot.parent == of)
    }

    fn depth(&self) -> usize {
        std::iter::successors(self.current, |id| self.get(*id).and_then(|snapshot| snapshot.parent)).count()
    }
}

/// The object of a machine's snapshot.
pub fn reference(vm: u64, id: u32) -> Ref {
    Ref::new("VirtualMachineSnapshot", format!("{vm}-snapshot-{id}"))
}

/// The machine and the number that an object's name stands for.
pub fn parse(id: &str) -> Option<(u64, u32)> {
    let (vm, number) = id.split_once("-snapshot-")?;
    let parsed = (vm.parse().ok()?, number.parse().ok()?);
    (reference(parsed.0, parsed.1).id == id).then_some(parsed)
}

/// The snapshot behind an object, with its machine.
pub fn find<'a>(world: &'a World, object: &Ref) -> Option<(&'a Vm, &'a Snapshot)> {
    let (vm, id) = parse(&object.id)?;
    let vm = world.vms.get(&vm)?;
    Some((vm, vm.snapshots.get(id)?))
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let (object, id) = match call.this.kind {
        "VirtualMachineSnapshot" => {
            let (vm, snapshot) = find(world, &call.this).ok_or_else(|| VimFault::not_found(&call.this))?;
            (vm.reference(), Some(snapshot.id))
        }
        _ => (call.this.clone(), None),
    };
    world.vm(&object)?;
    if call.method == "RenameSnapshot" {
        return rename(world, call, &object, id);
    }
    if let Some(task) = world.tasks.running_on(&object) {
        return Err(VimFault::task_in_progress(task));
    }
    question::check(world, &object)?;
    let flag = |name: &str| call.args.boolean(name);
    let suppress = flag("suppressPowerOn") == Some(true);
    // A host merges unless it is told not to; what somebody asked for may leave a delta behind.
    let merging = flag("consolidate") != Some(false);
    let merging = if call.leave_delta { Err(()) } else { Ok(merging) };
    let entity = object.clone();
    match call.method {
        "CreateSnapshot_Task" | "CreateSnapshotEx_Task" => {
            let quiesce = flag("quiesce") == Some(true) || call.args.data("quiesceSpec").is_some();
            let name = call.text("name")?.to_owned();
            check_name(&name)?;
            let description = call.args.text("description").unwrap_or_default().to_owned();
            let wanted = Taking { name, description, memory: flag("memory") == Some(true), quiesce };
            task::change(world, call, &entity, move |_, world| take(world, &object, wanted))
        }
        "RevertToCurrentSnapshot_Task" => task::change(world, call, &entity, move |host, world| {
            let current = world.vm(&object)?.snapshots.current;
            let none = || VimFault::new("NotFound", "The machine has no current snapshot.");
            revert::to(host, world, &object, current.ok_or_else(none)?, suppress)
        }),
        "RevertToSnapshot_Task" => task::change(world, call, &entity, move |host, world| {
            revert::to(host, world, &object, id.unwrap_or_default(), suppress)
        }),
        "RemoveSnapshot_Task" => {
            let children = flag("removeChildren") == Some(true);
            task::change(world, call, &entity, move |_, world| {
                remove::one(world, &object, id.unwrap_or_default(), children, merging)
            })
        }
        "RemoveAllSnapshots_Task" => {
            task::change(world, call, &entity, move |_, world| remove::all(world, &object, merging))
        }
        "ConsolidateVMDisks_Task" => task::change(world, call, &entity, move |_, world| {
            datastore::materialise(world, &world.vm(&object)?.folder())?;
            merge::all(world, &object).map(|()| None)
        }),
        other => Err(VimFault::not_implemented(other)),
    }
}

/// A name of 1 to 255 characters.
fn check_name(name: &str) -> Result<(), VimFault> {
    match name.trim().is_empty() || name.chars().count() > 255 || name.chars().any(char::is_control) {
        true => {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
            Err(VimFault::new("InvalidName", format!("The name '{shown}' is invalid: it has 1 to 255 characters."))
                .with("name", shown))
        }
        false => Ok(()),
    }
}

fn rename(world: &mut World, call: &Call, object: &Ref, id: Option<u32>) -> Answer {
    let mut vm = world.vm(object)?.clone();
    let name = call.args.text("name").map(str::to_owned);
    name.as_deref().map_or(Ok(()), check_name)?;
    if let Some(snapshot) = vm.snapshots.list.iter_mut().find(|snapshot| Some(snapshot.id) == id) {
        snapshot.name = name.unwrap_or_else(|| snapshot.name.clone());
        if let Some(description) = call.args.text("description") {
            description.clone_into(&mut snapshot.description);
        }
    }
    put(world, vm)?;
    Ok(Reply::Nothing)
}

/// Keeps a machine whose snapshots changed, its record and its files.
fn put(world: &mut World, vm: Vm) -> Result<(), VimFault> {
    files::write(world, &vm)?;
    keep(world, vm)
}

struct Taking {
    name: String,
    description: String,
    memory: bool,
    quiesce: bool,
}

fn take(world: &mut World, object: &Ref, wanted: Taking) -> Result<Option<Value>, VimFault> {
    let mut vm = world.vm(object)?.clone();
    datastore::materialise(world, &vm.folder())?;
    let flag = |name: &str| vm.settings.at(name) == Some(&Value::Bool(true));
    if flag("flags.snapshotDisabled") {
        return Err(VimFault::new("SnapshotDisabled", "The machine's snapshots are disabled."));
    }
    if flag("flags.snapshotLocked") {
        return Err(VimFault::new("SnapshotLocked", "The machine's snapshots are locked."));
    }
    if vm.snapshots.depth() >= DEEPEST {
        return Err(VimFault::new(
            "TooManySnapshotLevels",
            "The machine has 32 snapshots in a row, as many as there may be.",
        ));
    }
    let memory = wanted.memory && vm.power == Power::On;
    if memory {
        passthrough::check_state(&vm)?;
    }
    if memory && vm.disks().any(|disk| !backing::takes_part(disk)) {
        return Err(VimFault::new(
            "MemorySnapshotOnIndependentDisk",
            "Cannot take a memory snapshot, since the virtual machine is configured with independent disks.",
        ));
    }
    let quiesced = wanted.quiesce && vm.power == Power::On;
    if quiesced && guest::seen(world, &vm).is_none() {
        let message = "Cannot complete operation because VMware Tools is not running in this virtual machine.";
        return Err(VimFault::new("ToolsUnavailable", message));
    }
    // The stun at which a wish to track changes is met.
    tracking::settle(world, &mut vm)?;
    let mut saved = Vm { snapshots: Snapshots::default(), ..vm.clone() };
    saved.power = match vm.power {
        Power::On if !memory => Power::Off,
        state => state,
    };
    let mut made = Vec::new();
    let frozen = vm.devices.iter_mut().filter(|device| backing::takes_part(device)).try_for_each(|disk| {
        made.push(backing::freeze(world, disk)?);
        Ok(())
    });
    let frozen = frozen.and_then(|()| tracking::advance(world, &mut vm));
    let id = vm.snapshots.last + 1;
    let snapshot = Snapshot {
        id,
        name: wanted.name,
        description: wanted.description,
        created: OffsetDateTime::now_utc(),
        quiesced,
        parent: vm.snapshots.current,
        saved: Box::new(saved),
    };
    vm.snapshots.list.push(snapshot);
    vm.snapshots.last = id;
    vm.snapshots.current = Some(id);
    let folder = vm.folder();
    let kept = frozen.and_then(|()| files::save(world, &vm, id)).and_then(|()| put(world, vm.clone()));
    if let Err(fault) = kept {
        take_back(&made);
        files::remove(world, &folder, &vm, id)?;
        return Err(fault);
    }
    Ok(Some(Value::Ref(reference(vm.id, id))))
}

/// Removes deltas of a change that came to nothing.
fn take_back(made: &[std::path::PathBuf]) {
    for delta in made {
        if let Err(error) = datastore::vmdk::remove(delta) {
            tracing::warn!(%error, delta = %delta.display(), "a delta of a refused change is still there");
        }
    }
}

/// `VirtualMachine.snapshot`: the tree, where there is one.
pub fn info(vm: &Vm) -> Option<Data> {
    fn tree(vm: &Vm, parent: Option<u32>) -> Vec<Data> {
        let node = |snapshot: &Snapshot| {
            let data = Data::new("VirtualMachineSnapshotTree")
                .with("snapshot", reference(vm.id, snapshot.id))
                .with("vm", vm.reference())
                .with("name", &snapshot.name)
                .with("description", &snapshot.description)
                .with("id", i32::try_from(snapshot.id).unwrap_or(i32::MAX))
                .with("createTime", snapshot.created)
                .with("state", snapshot.saved.power.name())
                .with("quiesced", snapshot.quiesced);
            let children = tree(vm, Some(snapshot.id));
            let data = if children.is_empty() { data } else { data.with("childSnapshotList", children) };
            data.with("replaySupported", false)
        };
        vm.snapshots.children(parent).map(node).collect()
    }
    let roots = tree(vm, None);
    (!roots.is_empty()).then(|| {
        Data::new("VirtualMachineSnapshotInfo")
            .maybe("currentSnapshot", vm.snapshots.current.map(|id| reference(vm.id, id)))
            .with("rootSnapshotList", roots)
    })
}

/// `VirtualMachine.rootSnapshot`.
pub fn roots(vm: &Vm) -> Vec<Ref> {
    vm.snapshots.children(None).map(|snapshot| reference(vm.id, snapshot.id)).collect()
}

/// The properties of a snapshot.
pub fn property(world: &World, object: &Ref, name: &str, wanted: Wanted<'_>) -> Result<Option<Value>, VimFault> {
    let (vm, snapshot) = find(world, object).ok_or_else(|| VimFault::not_found(object))?;
    Ok(match name {
        "config" => Some(render::config(&snapshot.saved, wanted).into()),
        "vm" => Some(vm.reference().into()),
        "childSnapshot" => {
            let children = vm.snapshots.children(Some(snapshot.id));
            Some(children.map(|child| reference(vm.id, child.id)).collect::<Vec<_>>().into())
        }
        _ => None,
    })
}
