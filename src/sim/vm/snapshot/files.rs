//! What a host keeps of snapshots in the machine's folder: the list `NAME.vmsd`, and of each its state `NAME-Snapshot1.vmsn` and, with
//! memory, `NAME-Snapshot1.vmem`. A machine that is registered again finds its snapshots there.
//!
//! The list is VMware's text; the states are ours, for their form is not published.

use std::collections::BTreeMap;
use std::path::Path;

use time::OffsetDateTime;

use super::{Snapshot, Snapshots};
use crate::sim::datastore::file_fault;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::fault::VimFault;
use crate::sim::vm::{Power, Vm};
use crate::sim::world::World;

/// The largest list and state that are read.
const LARGEST: u64 = 8 << 20;
/// The most snapshots that a list may name.
const MOST: u32 = 1000;

fn stem(vm: &Vm) -> String {
    vm.vmx.rsplit('/').next().unwrap_or_default().trim_end_matches(".vmx").to_owned()
}

/// The names of a snapshot's files: its state, and its memory.
pub fn names(vm: &Vm, id: u32) -> (String, String) {
    let stem = stem(vm);
    (format!("{stem}-Snapshot{id}.vmsn"), format!("{stem}-Snapshot{id}.vmem"))
}

/// Writes a snapshot's state, and its memory: a hole of the machine's size.
pub fn save(world: &World, vm: &Vm, id: u32) -> Result<(), VimFault> {
    let Some(snapshot) = vm.snapshots.get(id) else { return Ok(()) };
    let (state, memory) = names(vm, id);
    let record = snapshot.saved.to_json().map_err(VimFault::system)?;
    let text = serde_json::to_vec_pretty(&record).map_err(VimFault::system)?;
    write_file(world, &vm.folder().join(&state), |at| std::fs::write(at, &text))?;
    if snapshot.saved.power != Power::On {
        return Ok(());
    }
    let size = u64::try_from(snapshot.saved.memory_mb).unwrap_or_default() << 20;
    write_file(world, &vm.folder().join(&memory), |at| std::fs::File::create(at)?.set_len(size))
}

fn write_file(
    world: &World,
    path: &DatastorePath,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), VimFault> {
    write(&world.datastore.resolve(path)?).map_err(|error| file_fault(path, &error))
}

/// Removes a snapshot's files.
pub fn remove(world: &World, folder: &DatastorePath, vm: &Vm, id: u32) -> Result<(), VimFault> {
    let (state, memory) = names(vm, id);
    for path in [state, memory].map(|name| folder.join(&name)) {
        match std::fs::remove_file(world.datastore.resolve(&path)?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file_fault(&path, &error)),
            _ => {}
        }
    }
    Ok(())
}

/// Writes the list.
pub fn write(world: &World, vm: &Vm) -> Result<(), VimFault> {
    let mut text = String::from(".encoding = \"UTF-8\"\n");
    let mut line = |key: String, value: &str| {
        text.push_str(&format!("{key} = \"{}\"\n", super::super::vmx::escaped(value)));
    };
    let all = &vm.snapshots;
    line("snapshot.lastUID".to_owned(), &all.last.to_string());
    line("snapshot.current".to_owned(), &all.current.unwrap_or_default().to_string());
    line("snapshot.numSnapshots".to_owned(), &all.list.len().to_string());
    for (number, snapshot) in all.list.iter().enumerate() {
        let mut own = |key: &str, value: &str| line(format!("snapshot{number}.{key}"), value);
        let micros = snapshot.created.unix_timestamp_nanos() / 1000;
        own("uid", &snapshot.id.to_string());
        own("filename", &names(vm, snapshot.id).0);
        if let Some(parent) = snapshot.parent {
            own("parent", &parent.to_string());
        }
        own("displayName", &snapshot.name);
        own("description", &snapshot.description);
        own("createTimeHigh", &(micros >> 32).to_string());
        own("createTimeLow", &(micros & 0xffff_ffff).to_string());
        own("quiesced", if snapshot.quiesced { "TRUE" } else { "FALSE" });
        let disks: Vec<&str> = snapshot.saved.disk_files().collect();
        own("numDisks", &disks.len().to_string());
        for (disk, file) in disks.into_iter().enumerate() {
            own(&format!("disk{disk}.fileName"), file);
        }
    }
    write_file(world, &vm.folder().join(&format!("{}.vmsd", stem(vm))), |at| std::fs::write(at, &text))
}

fn text(world: &World, path: &DatastorePath) -> Result<Option<String>, VimFault> {
    let at = world.datastore.resolve(path)?;
    let wrong =
        |why: &str| VimFault::new("InvalidSnapshotFormat", format!("{path} does not tell of snapshots: {why}."));
    match std::fs::metadata(&at) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_fault(path, &error)),
        Ok(metadata) if !metadata.is_file() || metadata.len() > LARGEST => return Err(wrong("it is too large")),
        Ok(_) => {}
    }
    let bytes = std::fs::read(&at).map_err(|error| file_fault(path, &error))?;
    String::from_utf8(bytes).map(Some).map_err(|_| wrong("it is not UTF-8"))
}

/// Reads the snapshots of a machine that is registered; none where there is no list.
pub fn read(world: &World, vm: &Vm) -> Result<Snapshots, VimFault> {
    let list = vm.folder().join(&format!("{}.vmsd", stem(vm)));
    let Some(content) = text(world, &list)? else { return Ok(Snapshots::default()) };
    let wrong =
        |why: &str| VimFault::new("InvalidSnapshotFormat", format!("{list} does not tell of snapshots: {why}."));
    let lines = content.lines().filter_map(|line| line.split_once('='));
    let keys: BTreeMap<&str, String> =
        lines.map(|(key, value)| (key.trim(), super::super::vmx::unescaped(value.trim().trim_matches('"')))).collect();
    let number = |key: &str| keys.get(key).and_then(|text| text.parse::<u32>().ok());
    let mut snapshots = Snapshots { list: Vec::new(), current: None, last: number("snapshot.lastUID").unwrap_or(0) };
    for index in 0..number("snapshot.numSnapshots").unwrap_or(0).min(MOST) {
        let key = |name: &str| format!("snapshot{index}.{name}");
        let own = |name: &str| keys.get(key(name).as_str()).cloned();
        let id = number(&key("uid")).filter(|id| *id > 0 && *id <= snapshots.last);
        let id =
            id.filter(|id| snapshots.get(*id).is_none()).ok_or_else(|| wrong("a snapshot has no number of its own"))?;
        let parent = number(&key("parent"));
        if parent.is_some_and(|parent| snapshots.get(parent).is_none()) {
            return Err(wrong("a snapshot's parent does not come before it"));
        }
        let state = vm.folder().join(&names(vm, id).0);
        let state = text(world, &state)?.ok_or_else(|| wrong("a snapshot's state is missing"))?;
        let mut saved = Vm::from_json(state.as_bytes()).map_err(|why| wrong(&why))?;
        saved.id = vm.id;
        let high = own("createTimeHigh").and_then(|text| text.parse::<i128>().ok()).unwrap_or_default();
        let low = own("createTimeLow").and_then(|text| text.parse::<i128>().ok()).unwrap_or_default();
        let micros = ((high & 0x7fff_ffff) << 32) | (low & 0xffff_ffff);
        snapshots.list.push(Snapshot {
            id,
            name: own("displayName").unwrap_or_default(),
            description: own("description").unwrap_or_default(),
            created: OffsetDateTime::from_unix_timestamp_nanos(micros * 1000).unwrap_or(vm.created),
            quiesced: own("quiesced").is_some_and(|text| text == "TRUE"),
            parent,
            saved: Box::new(saved),
        });
    }
    snapshots.current = number("snapshot.current").filter(|id| snapshots.get(*id).is_some());
    Ok(snapshots)
}
