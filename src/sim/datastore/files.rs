//! The file manager: folders made, files deleted, moved and copied, within the one datastore.

use std::fs;
use std::io;

use super::path::DatastorePath;
use super::{file_fault, locked_by, no_space, open};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::esx;
use crate::sim::fault::VimFault;
use crate::sim::task;
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
                relocate(world, &from, &to, force, true).map(|()| None)
            })
        }
        "CopyDatastoreFile_Task" => {
            let (from, to) = (call.text("sourceName")?.to_owned(), call.text("destinationName")?.to_owned());
            task::change(world, call, &esx::DATACENTER, move |_, world| {
                relocate(world, &from, &to, force, false).map(|()| None)
            })
        }
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

fn relocate(world: &World, from: &str, to: &str, force: bool, moves: bool) -> Result<(), VimFault> {
    let (from, to) = (open(world, from)?, open(world, to)?);
    check_free(world, &from)?;
    let (source, target) = (world.datastore.resolve(&from)?, world.datastore.resolve(&to)?);
    let metadata = fs::metadata(&source).map_err(|error| file_fault(&from, &error))?;
    if to.is_below(&from) {
        return Err(VimFault::invalid_argument("destinationName", "it is the source, or inside it"));
    }
    if target.exists() {
        if !force {
            return Err(VimFault::file("FileAlreadyExists", to.to_string()));
        }
        delete(world, &to)?;
    }
    let done = match (moves, metadata.is_dir()) {
        (true, _) => fs::rename(&source, &target),
        (false, false) => {
            if super::vmdk::allocated(&metadata) > world.datastore.space().1 {
                return Err(no_space(&to));
            }
            fs::copy(&source, &target).map(|_| ())
        }
        (false, true) => copy_folder(&source, &target, 0),
    };
    done.map_err(|error| file_fault(&to, &error))
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path, depth: usize) -> io::Result<()> {
    if depth > 32 {
        return Err(io::Error::other("the folders are nested too deep"));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &target, depth + 1)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
