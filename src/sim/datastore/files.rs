//! The file manager: folders made, files deleted, moved and copied, within the one datastore.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::path::DatastorePath;
use super::vmdk::{VmdkError, allocated, copy_file};
use super::{disk_fault, file_fault, locked_by, no_space, open};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::esx;
use crate::sim::fault::VimFault;
use crate::sim::server::Host;
use crate::sim::task;
use crate::sim::value::Ref;
use crate::sim::world::World;

/// Where a datacenter is named, it must be ours.
pub fn check_datacenter(world: &World, call: &Call) -> Result<(), VimFault> {
    for name in ["datacenter", "sourceDatacenter", "destinationDatacenter", "destDatacenter"] {
        call.object(world, name, "Datacenter")?;
    }
    Ok(())
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    check_datacenter(world, call)?;
    let force = call.args.boolean("force") == Some(true);
    match call.method {
        "MakeDirectory" => make(world, call.text("name")?, call.args.boolean("createParentDirectories") == Some(true)),
        "DeleteDatastoreFile_Task" => {
            let name = call.text("name")?.to_owned();
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                delete(world, &open(world, &name)?).map(|()| None)
            })
        }
        "MoveDatastoreFile_Task" => {
            let (from, to) = (call.text("sourceName")?.to_owned(), call.text("destinationName")?.to_owned());
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                relocate(world, &from, &to, force).map(|()| None)
            })
        }
        "CopyDatastoreFile_Task" => copy(world, call, force),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn make(world: &World, name: &str, parents: bool) -> Answer {
    let path = open(world, name)?;
    if path.is_root() {
        return Err(VimFault::file("FileAlreadyExists", path.to_string()));
    }
    let at = world.datastore.resolve(&path)?;
    if parents && !at.exists() {
        fs::create_dir_all(&at).map_err(|error| file_fault(&path, &error))?;
        return Ok(Reply::Nothing);
    }
    match fs::create_dir(&at) {
        Ok(()) => Ok(Reply::Nothing),
        Err(error) => Err(file_fault(&path, &error)),
    }
}

/// Whether a machine that is on or suspended, or a registered one's folder, is in the way.
fn check_free(world: &World, path: &DatastorePath) -> Result<(), VimFault> {
    if path.is_root() {
        return Err(VimFault::file("CannotDeleteFile", path.to_string()));
    }
    let held = world
        .vms
        .values()
        .filter(|vm| !vm.is_off())
        .any(|vm| vm.files().any(|file| DatastorePath::parse(&file).is_ok_and(|file| file.is_below(path))));
    match held || locked_by(world, path).is_some() {
        true => Err(VimFault::file("FileLocked", path.to_string())),
        false => Ok(()),
    }
}

/// Deletes a file, or a folder with all that is in it.
pub fn delete(world: &World, path: &DatastorePath) -> Result<(), VimFault> {
    check_free(world, path)?;
    let at = world.datastore.resolve(path)?;
    let gone = match fs::symlink_metadata(&at) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&at),
        Ok(_) => fs::remove_file(&at),
        Err(error) => Err(error),
    };
    gone.map_err(|error| file_fault(path, &error))
}

/// Where something goes: nothing is there, or it is deleted first, where the client forces that.
fn target(world: &World, from: &DatastorePath, to: &DatastorePath, force: bool) -> Result<PathBuf, VimFault> {
    if to.is_below(from) {
        return Err(VimFault::invalid_argument("destinationName", "it is the source, or inside it"));
    }
    let target = world.datastore.resolve(to)?;
    if target.exists() {
        if !force {
            return Err(VimFault::file("FileAlreadyExists", to.to_string()));
        }
        delete(world, to)?;
    }
    Ok(target)
}

fn relocate(world: &World, from: &str, to: &str, force: bool) -> Result<(), VimFault> {
    let (from, to) = (open(world, from)?, open(world, to)?);
    check_free(world, &from)?;
    let source = world.datastore.resolve(&from)?;
    fs::metadata(&source).map_err(|error| file_fault(&from, &error))?;
    fs::rename(source, target(world, &from, &to, force)?).map_err(|error| file_fault(&to, &error))
}

/// Copies in the background: a file may be large.
fn copy(world: &mut World, call: &Call, force: bool) -> Answer {
    let (from, to) = (call.text("sourceName")?.to_owned(), call.text("destinationName")?.to_owned());
    task::work(world, call, &esx::DATACENTER, move |host, task| async move {
        let (to, source, target) = {
            let world = host.world();
            let (from, to) = (open(&world, &from)?, open(&world, &to)?);
            check_free(&world, &from)?;
            let source = world.datastore.resolve(&from)?;
            let metadata = fs::metadata(&source).map_err(|error| file_fault(&from, &error))?;
            if allocated(&metadata) > world.datastore.space().1 {
                return Err(no_space(&to));
            }
            let target = target(&world, &from, &to, force)?;
            (to, source, target)
        };
        let copying = tokio::task::spawn_blocking(move || match source.is_dir() {
            true => copy_folder(&source, &target, 0),
            false => copy_file(&source, &target, heard(host, task)),
        });
        match copying.await {
            Ok(copied) => copied.map(|()| None).map_err(|error| disk_fault(&to, &error)),
            Err(error) => Err(VimFault::system(error)),
        }
    })
}

/// Tells a task of its progress, and the copying whether to go on. Only news is told: it wakes whoever waits.
pub fn heard(host: Arc<Host>, task: Ref) -> impl FnMut(i32) -> Result<(), VmdkError> {
    let mut last = -1;
    move |percent| {
        let news = percent != last;
        last = percent;
        if news { task::progress(&host, &task, percent) } else { Ok(()) }
    }
}

fn copy_folder(from: &Path, to: &Path, depth: usize) -> Result<(), VmdkError> {
    if depth > 32 {
        return Err(VmdkError::Io(io::Error::other("the folders are nested too deep")));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &target, depth + 1)?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &target, |_| Ok(()))?;
        }
    }
    Ok(())
}
