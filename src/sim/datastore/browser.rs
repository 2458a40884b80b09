//! The datastore browser: what is in a folder, by pattern and by kind of file.

use std::fs;

use time::OffsetDateTime;
use wildmatch::WildMatch;

use super::path::DatastorePath;
use super::vmdk::Descriptor;
use super::{OBJECT, file_fault, long, materialise, open};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::task;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// Folders that one search goes into at most.
const MOST: usize = 20_000;

/// The kinds of files that can be asked for.
const QUERIES: &[(&str, &str)] = &[
    ("VmConfigFileQuery", "VmConfigFileInfo"),
    ("VmDiskFileQuery", "VmDiskFileInfo"),
    ("VmNvramFileQuery", "VmNvramFileInfo"),
    ("VmLogFileQuery", "VmLogFileInfo"),
    ("VmSnapshotFileQuery", "VmSnapshotFileInfo"),
    ("IsoImageFileQuery", "IsoImageFileInfo"),
    ("FloppyImageFileQuery", "FloppyImageFileInfo"),
    ("FolderFileQuery", "FolderFileInfo"),
];

pub fn supported() -> Vec<Data> {
    QUERIES.iter().map(|(query, _)| Data::new(query)).collect()
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let deep = match call.method {
        "SearchDatastore_Task" => false,
        "SearchDatastoreSubFolders_Task" => true,
        "DeleteFile" => {
            let path = open(world, call.text("datastorePath")?)?;
            super::files::delete(world, &path)?;
            return Ok(Reply::Nothing);
        }
        other => return Err(VimFault::not_implemented(other)),
    };
    let path = call.text("datastorePath")?.to_owned();
    let spec = call.args.data("searchSpec").cloned().unwrap_or_else(|| Data::new("HostDatastoreBrowserSearchSpec"));
    task::change(world, call, &call.this, move |_, world| {
        let path = open(world, &path)?;
        if deep && path.is_root() {
            // A search through everything looks into every folder.
            let folders: Vec<DatastorePath> = world.vms.values().map(|vm| vm.folder()).collect();
            folders.iter().try_for_each(|folder| materialise(world, folder))?;
        }
        let mut found = Vec::new();
        let mut folders = vec![path.clone()];
        while let Some(folder) = folders.pop() {
            let (result, below) = search(world, &folder, &spec)?;
            found.push(Value::Data(result));
            if deep && found.len() + folders.len() < MOST {
                folders.extend(below);
            }
        }
        Ok(Some(match deep {
            true => Value::Array("HostDatastoreBrowserSearchResults", found),
            false => found.pop().unwrap_or(Value::Array("HostDatastoreBrowserSearchResults", Vec::new())),
        }))
    })
}

fn search(world: &World, folder: &DatastorePath, spec: &Data) -> Result<(Data, Vec<DatastorePath>), VimFault> {
    let at = world.datastore.resolve(folder)?;
    let metadata = fs::metadata(&at).map_err(|error| file_fault(folder, &error))?;
    if !metadata.is_dir() {
        return Err(VimFault::file("FileNotFound", folder.to_string()));
    }
    let mut files = Vec::new();
    let mut below = Vec::new();
    for entry in fs::read_dir(&at).map_err(|error| file_fault(folder, &error))? {
        let entry = entry.map_err(|error| file_fault(folder, &error))?;
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), fs::symlink_metadata(entry.path())) else {
            continue;
        };
        // What cannot be named in an answer, or lies behind a link, is not the datastore's.
        if metadata.is_symlink() || DatastorePath::inside(&name).is_none() || name.starts_with(".new-") {
            continue;
        }
        if metadata.is_dir() {
            below.push(folder.join(&name));
        }
        files.extend(file(&entry.path(), &name, &metadata, spec).map(|data| (metadata.is_dir(), name, data)));
    }
    let first = spec.boolean("sortFoldersFirst") == Some(true);
    files.sort_by(|a, b| (first && !a.0, &a.1).cmp(&(first && !b.0, &b.1)));
    below.sort_by_key(|path| std::cmp::Reverse(path.to_string()));
    let path = if folder.is_root() { folder.to_string() } else { format!("{folder}/") };
    let result = Data::new("HostDatastoreBrowserSearchResults")
        .with("datastore", OBJECT)
        .with("folderPath", path)
        .with("file", files.into_iter().map(|(_, _, data)| data).collect::<Vec<_>>());
    Ok((result, below))
}

fn file(at: &std::path::Path, name: &str, metadata: &fs::Metadata, spec: &Data) -> Option<Data> {
    let insensitive = spec.boolean("searchCaseInsensitive") != Some(false);
    let fits = |pattern: &str| match insensitive {
        true => WildMatch::new_case_insensitive(pattern).matches(name),
        false => WildMatch::new(pattern).matches(name),
    };
    let mut patterns = spec.texts("matchPattern").peekable();
    if patterns.peek().is_some() && !patterns.any(fits) {
        return None;
    }
    let kind = kind(name, metadata.is_dir());
    // The content of a disk is part of it: it is listed only where no kind is asked for and the pattern names it.
    let queries: Vec<&Data> = spec.datas("query").collect();
    let query = queries.iter().find(|query| {
        QUERIES.iter().any(|(own, info)| query.kind == *own && *info == kind) || query.kind == "FileQuery"
    });
    if !queries.is_empty() && query.is_none() {
        return None;
    }
    let details = spec.data("details");
    let wants = |flag: &str| details.is_some_and(|details| details.boolean(flag) == Some(true));
    let typed = wants("fileType") || query.is_some();
    let mut data = Data::new(if typed { kind } else { "FileInfo" }).with("path", name.to_owned());
    if wants("fileSize") {
        data = data.with("fileSize", long(size(at, name, metadata)));
    }
    if wants("modification") {
        let modified = metadata.modified().map(OffsetDateTime::from).unwrap_or_else(|_| OffsetDateTime::now_utc());
        data = data.with("modification", modified);
    }
    if wants("fileOwner") {
        data = data.with("owner", "root");
    }
    if data.kind == "VmDiskFileInfo"
        && let Some(flags) = query.and_then(|query| query.data("details"))
        && let Ok(descriptor) = Descriptor::read(at)
    {
        let flag = |name: &str| flags.boolean(name) == Some(true);
        data = data
            .maybe("diskType", flag("diskType").then_some("VirtualDiskFlatVer2BackingInfo"))
            .maybe("capacityKb", flag("capacityKb").then(|| long(descriptor.capacity >> 10)))
            .maybe("hardwareVersion", flag("hardwareVersion").then_some(21))
            .maybe("diskExtents", flag("diskExtents").then(|| vec![descriptor.extent.clone()]))
            .maybe("thin", flag("thin").then_some(descriptor.thin));
    }
    Some(data)
}

/// A disk's size is that of its content, as a host shows it.
fn size(at: &std::path::Path, name: &str, metadata: &fs::Metadata) -> u64 {
    match name.ends_with(".vmdk").then(|| Descriptor::read(at)) {
        Some(Ok(descriptor)) => descriptor.stored(at),
        _ => metadata.len(),
    }
}

fn kind(name: &str, folder: bool) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        _ if folder => "FolderFileInfo",
        "vmx" => "VmConfigFileInfo",
        "vmdk" if !["-flat.vmdk", "-delta.vmdk", "-ctk.vmdk"].iter().any(|end| name.ends_with(end)) => "VmDiskFileInfo",
        "nvram" => "VmNvramFileInfo",
        "log" => "VmLogFileInfo",
        "iso" => "IsoImageFileInfo",
        "flp" | "img" => "FloppyImageFileInfo",
        "vmsn" | "vmsd" => "VmSnapshotFileInfo",
        _ => "FileInfo",
    }
}
