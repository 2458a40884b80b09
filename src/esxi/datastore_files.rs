//! What a person or a script does to files on a datastore: folders made, files and disks copied, moved and deleted.
//!
//! A virtual disk is more than one file, and its descriptor names the others: `.vmdk` files go through the disk manager, and a part of
//! a disk goes nowhere by itself. What a registered machine is made of, builds on or has in a drive is neither moved nor deleted here,
//! whatever folder it is named by: that is what destroying or unregistering the machine is for, and ejecting the image.

use super::checked::Checked;
use super::error::Error;
use super::file_path::{FilePath, Role};
use super::files::split;
use super::host::{Host, Progress};
use super::lookup::unescape;
use super::object::Datastore;
use super::places::Reach;
use crate::vmdk::Outline;
use crate::xml::Element;

/// The adapter that a copy's descriptor names where the source does not say.
const ADAPTER: &str = "lsiLogic";

/// The longest descriptor of a disk.
const LARGEST_DESCRIPTOR: u64 = 64 << 10;

/// Files that go away with a machine and are no loss to it.
const WITHOUT_LOSS: &[&str] = &["log", "core", "screenshot", "statsExtended"];

impl Host {
    /// Makes a folder, with those above it where `parents` says so. Errors: `esxi.file_already_exists`.
    pub async fn make_directory(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        parents: bool,
    ) -> Result<(), Error> {
        self.make_folders(&path.on(&datastore.name), parents).await
    }

    /// Copies a file, a folder or a disk to where nothing is yet. A disk keeps its form: thin stays thin.
    ///
    /// Errors: `esxi.file_already_exists`, `esxi.file_locked` where a running machine holds it, `esxi.no_disk_space`.
    pub async fn copy_path(
        &self,
        from: (&Checked<Datastore>, &FilePath),
        to: (&Checked<Datastore>, &FilePath),
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let (source, target) = (from.1.on(&from.0.name), to.1.on(&to.0.name));
        match (self.role(from.0, from.1).await?, to.1.role()) {
            (Role::Disk, Role::Disk) => {
                let disk = self.disk_file(from.0, from.1).await?;
                let form = (if disk.thin == Some(false) { "preallocated" } else { "thin" }, adapter(&disk));
                let needed = if disk.thin == Some(false) { disk.capacity } else { disk.size };
                let copied = self.copy_disk(&source, &target, form, "copy", progress).await;
                self.with_space(to.0, needed.map(|size| size.0), copied).await
            }
            (Role::File, Role::File) => self.copy_file(&source, &target, "copy", progress).await,
            _ => Err(unlike(from.1, to.1)),
        }
    }

    /// Moves a file, a folder or a disk to where nothing is yet.
    ///
    /// Errors: `esxi.in_use` for what a registered machine is made of, `esxi.file_already_exists`, `esxi.file_locked`.
    pub async fn move_path(
        &self,
        from: (&Checked<Datastore>, &FilePath),
        to: (&Checked<Datastore>, &FilePath),
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let (source, target) = (from.1.on(&from.0.name), to.1.on(&to.0.name));
        self.check_unused(from.0, from.1).await?;
        match (self.role(from.0, from.1).await?, to.1.role()) {
            (Role::Disk, Role::Disk) => self.move_disk_file(&source, &target, progress).await,
            (Role::File, Role::File) => self.move_file(&source, &target, progress).await,
            _ => Err(unlike(from.1, to.1)),
        }
    }

    /// Deletes a file, a disk, or a folder with all that is in it.
    ///
    /// Errors: `esxi.in_use` for what a registered machine is made of, `esxi.file_not_found`, `esxi.file_locked`.
    pub async fn delete_path(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        _progress: Progress<'_>,
    ) -> Result<(), Error> {
        let file = path.on(&datastore.name);
        self.check_unused(datastore, path).await?;
        match self.role(datastore, path).await? {
            Role::Disk => match self.parts_of_child(datastore, path).await? {
                Some(parts) => self.delete_child(&file, &parts).await,
                None => match self.delete_disk(&file).await {
                    // It is called a disk and is none: an upload, or half of one.
                    Err(error) if error.is("InvalidDiskFormat") => self.delete_file(&file).await,
                    deleted => deleted,
                },
            },
            _ => self.delete_file(&file).await,
        }
    }

    /// The files beside a disk that hold its content, where it builds on another disk; nothing where it does not.
    async fn parts_of_child(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
    ) -> Result<Option<Vec<String>>, Error> {
        let text = match self.read_small(datastore, path, LARGEST_DESCRIPTOR).await {
            Ok(bytes) => bytes,
            // It is no descriptor, or is not there: the host says so.
            Err(error) if matches!(error.root(), Error::Invalid { .. } | Error::Transfer { status: 404, .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(disk) = Outline::read(&text).filter(|disk| disk.has_parent) else { return Ok(None) };
        let names = disk.extents.iter().chain(&disk.change_map);
        names.map(|name| path.beside(name).map(|part| part.on(&datastore.name))).collect::<Result<_, _>>().map(Some)
    }

    /// Deletes a disk that builds on another as the files that it is: a host that deletes it as a disk may take its parent with it. The
    /// descriptor goes last: until then the rest can be found by it.
    async fn delete_child(&self, file: &str, parts: &[String]) -> Result<(), Error> {
        for part in parts {
            match self.delete_file(part).await {
                Err(error) if !error.is("FileNotFound") => return Err(error),
                _ => {}
            }
        }
        self.delete_file(file).await
    }

    /// Refuses what a registered machine is made of, builds on or has in a drive, and each folder that holds such a thing.
    ///
    /// Errors: `esxi.in_use`.
    pub(super) async fn check_unused(&self, datastore: &Datastore, path: &FilePath) -> Result<(), Error> {
        let paths = vec!["name", "config.files.vmPathName", "layoutEx.file", "config.hardware.device"];
        let query = self.link.everything(&[Reach::Vms], vec![("VirtualMachine", paths)]);
        let objects = self.link.retrieve(&query).await?;
        for object in &objects {
            let files = object.get("layoutEx.file").map(|list| list.children.as_slice()).unwrap_or_default();
            let files = files
                .iter()
                .filter(|file| !file.text_at("type").is_some_and(|kind| WITHOUT_LOSS.contains(&kind.trim())))
                .filter_map(|file| file.text_at("name"));
            let devices = object.get("config.hardware.device").map(|list| list.children.as_slice()).unwrap_or_default();
            let all = object.text("config.files.vmPathName").into_iter().chain(files);
            let held = all
                .chain(devices.iter().flat_map(backing_files))
                .filter_map(split)
                .filter(|(name, _)| *name == datastore.name)
                .any(|(_, file)| FilePath::parse(file.trim()).is_ok_and(|file| file.is_in(path)));
            if held {
                return Err(Error::InUse {
                    host: self.name().to_owned(),
                    file: path.on(&datastore.name),
                    vm: unescape(&object.string("name")),
                });
            }
        }
        Ok(())
    }

    /// What a path is to a disk; a part whose disk is gone is a file like any other.
    async fn role(&self, datastore: &Checked<Datastore>, path: &FilePath) -> Result<Role, Error> {
        let Role::PartOf(disk) = path.role() else { return Ok(path.role()) };
        if self.length_of(datastore, &path.beside(&disk)?).await?.is_none() {
            return Ok(Role::File);
        }
        let reason = format!("{} is a part of the virtual disk {disk}", path.on(&datastore.name));
        Err(Error::Invalid { reason, hint: Some(format!("name {disk}: its parts go with it")) })
    }
}

/// The files behind a device: an image in a drive, a disk with all that it builds on.
fn backing_files(device: &Element) -> impl Iterator<Item = &str> {
    let chain = std::iter::successors(device.child("backing"), |backing| backing.child("parent"));
    chain.filter_map(|backing| backing.text_at("fileName"))
}

/// What a copy's descriptor is to say of its adapter.
pub(super) fn adapter(disk: &super::browse::DiskFile) -> &'static str {
    match disk.controller.as_deref() {
        Some("VirtualIDEController") => "ide",
        Some("VirtualBusLogicController") => "busLogic",
        _ => ADAPTER,
    }
}

fn unlike(from: &FilePath, to: &FilePath) -> Error {
    Error::Invalid {
        reason: format!("{from} and {to}: one is named as a virtual disk and the other is not"),
        hint: Some("a virtual disk's name ends in .vmdk, and nothing else's does".to_owned()),
    }
}
