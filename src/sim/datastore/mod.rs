//! The datastore `datastore1`: real files in a folder, and the ways in which clients reach them.
//!
//! ```text
//! path      what a client may name          folder    GET, PUT, HEAD, DELETE on /folder
//! vmdk      disks as files                  files     FileManager
//! delta     what was written since          chain     disks that build on others
//! browser   HostDatastoreBrowser            disks     VirtualDiskManager
//! changes   which blocks were written when
//! ```

mod browser;
pub mod chain;
pub mod changes;
mod delta;
pub mod disks;
mod files;
pub mod folder;
pub mod path;
pub mod vmdk;

use std::path::{Path, PathBuf};

use self::path::DatastorePath;
use super::call::{Answer, Call, Reply};
use super::esx;
use super::fault::VimFault;
use super::load;
use super::state;
use super::value::{Data, Ref, Value};
use super::vm::{Vm, filler};
use super::world::World;
use crate::error::Fault;

pub const NAME: &str = "datastore1";
pub const OBJECT: Ref = Ref::fixed("Datastore", "6370e3a0-c0de5e30-7a11-0c0ffee00001");
pub const BROWSER: Ref = Ref::fixed("HostDatastoreBrowser", "ha-datastorebrowser");

/// The folder that holds the datastore's files.
#[derive(Debug, Clone)]
pub struct Datastore {
    root: PathBuf,
    /// Its size, where it is not that of the file system.
    capacity: Option<u64>,
    /// What that was before a fault filled it.
    before: Option<Option<u64>>,
}

impl Datastore {
    pub fn open(state: &Path) -> Result<Self, Fault> {
        let root = state.join(NAME);
        std::fs::create_dir_all(&root).map_err(|error| state::broken(&root, error))?;
        Ok(Self { root, capacity: None, before: None })
    }

    /// The file that a path names. A link anywhere on the way is refused, so that no file outside is reached.
    pub fn resolve(&self, path: &DatastorePath) -> Result<PathBuf, VimFault> {
        let mut file = self.root.clone();
        for part in path.parts() {
            file.push(part);
            if std::fs::symlink_metadata(&file).is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(VimFault::file("CannotAccessFile", path.to_string()));
            }
        }
        Ok(file)
    }

    pub fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
        self.before = None;
    }

    /// Has a fault fill it, until [`Self::unfill`].
    pub fn fill_for_now(&mut self, left: u64) {
        let before = self.before.unwrap_or(self.capacity);
        self.fill(left);
        self.before = Some(before);
    }

    /// Takes away what a fault filled it with.
    pub fn unfill(&mut self) {
        if let Some(before) = self.before.take() {
            self.capacity = before;
        }
    }

    /// Has it be as large as what lies on it, but for so many bytes.
    pub fn fill(&mut self, left: u64) {
        self.capacity = Some(used(&self.root).saturating_add(left));
        self.before = None;
    }

    /// Whether nothing that grows finds room any more.
    pub fn is_full(&self) -> bool {
        self.capacity.is_some() && self.space().1 == 0
    }

    /// Capacity and free space in bytes: of the file system below, or of the size that was given, by what the files take up.
    pub fn space(&self) -> (u64, u64) {
        let (whole, free) = self.file_system();
        match self.capacity {
            Some(capacity) => (capacity, capacity.saturating_sub(used(&self.root)).min(free)),
            None => (whole, free),
        }
    }

    fn file_system(&self) -> (u64, u64) {
        match rustix::fs::statvfs(&self.root) {
            Ok(stat) => (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize),
            Err(_) => (0, 0),
        }
    }

    fn url(&self) -> String {
        format!("/vmfs/volumes/{}", OBJECT.id)
    }
}

/// What the files in a folder take up: a disk what it stores, a thick one all of it.
fn used(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| -> u64 {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { return 0 };
        if metadata.is_dir() {
            return used(&path);
        }
        let allocated = vmdk::allocated(&metadata);
        let name = entry.file_name();
        match name.to_str().filter(|name| name.ends_with(".vmdk")) {
            // Counted by its descriptor.
            Some(name) if name.ends_with("-flat.vmdk") => 0,
            Some(_) => allocated + vmdk::Descriptor::read(&path).map_or(0, |descriptor| descriptor.stored(&path)),
            None => allocated,
        }
    };
    entries.flatten().map(of).sum()
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.this.kind {
        "FileManager" => files::call(world, call),
        "VirtualDiskManager" => disks::call(world, call),
        "HostDatastoreBrowser" => browser::call(world, call),
        _ => match call.method {
            "RefreshDatastore" | "RefreshDatastoreStorageInfo" => {
                world.touch(&OBJECT);
                Ok(Reply::Nothing)
            }
            "DestroyDatastore" => {
                let message = format!("The datastore '{NAME}' is in use.");
                Err(VimFault::new("ResourceInUse", message).with("type", "Datastore").with("name", NAME))
            }
            other => Err(VimFault::not_supported(other)),
        },
    }
}

pub fn property(world: &World, object: &Ref, name: &str) -> Option<Value> {
    if object.kind == "HostDatastoreBrowser" {
        return match name {
            "datastore" => Some(vec![OBJECT].into()),
            "supportedType" => Some(browser::supported().into()),
            _ => None,
        };
    }
    if let Some(mount) = world.mount(&object.id) {
        return esx::upkeep::mounted(world, mount, name).or_else(|| esx::entity(world, object, name));
    }
    match name {
        "summary" => Some(summary(world).into()),
        "info" => Some(info(world).into()),
        "host" => {
            Some(vec![Data::new("DatastoreHostMount").with("key", esx::HOST).with("mountInfo", mount(world))].into())
        }
        "vm" => {
            let on = |vm: &&Vm| {
                world.datastores_of(std::iter::once(vm.vmx.as_str()).chain(vm.disk_files())).contains(&OBJECT)
            };
            Some(world.vms.values().filter(on).map(Vm::reference).collect::<Vec<_>>().into())
        }
        "browser" => Some(BROWSER.into()),
        "capability" => Some(
            esx::filled("DatastoreCapability")
                .but("directoryHierarchySupported", true)
                .but("rawDiskMappingsSupported", true)
                .but("perFileThinProvisioningSupported", true)
                .into(),
        ),
        "name" => Some(NAME.into()),
        "parent" => Some(esx::DATASTORE_FOLDER.into()),
        other => esx::entity(world, object, other),
    }
}

/// Capacity and free space: as the inventory said that was loaded, unless somebody gave the datastore a size or filled it; else as they are.
fn space(world: &World) -> (u64, u64) {
    let loaded = world.file.loaded.as_ref().and_then(|loaded| loaded.space.get(NAME));
    let loaded = loaded.filter(|_| world.datastore.capacity.is_none());
    loaded.copied().unwrap_or_else(|| world.datastore.space())
}

fn summary(world: &World) -> Data {
    let (capacity, free) = space(world);
    Data::new("DatastoreSummary")
        .with("datastore", OBJECT)
        .with("name", NAME)
        .with("url", world.datastore.url())
        .with("capacity", long(capacity))
        .with("freeSpace", long(free))
        .with("uncommitted", 0i64)
        .with("accessible", true)
        .with("multipleHostAccess", false)
        .with("type", "VMFS")
        .with("maintenanceMode", "normal")
}

fn volume(world: &World) -> Data {
    let (capacity, _) = space(world);
    let extent = Data::new("HostScsiDiskPartition").with("diskName", "mpx.vmhba0:C0:T0:L0").with("partition", 1);
    Data::new("HostVmfsVolume")
        .with("type", "VMFS")
        .with("name", NAME)
        .with("capacity", long(capacity))
        .with("blockSizeMb", 1)
        .with("blockSize", 1024)
        .with("unmapGranularity", 1024)
        .with("unmapPriority", "low")
        .with("maxBlocks", 63_963_136)
        .with("majorVersion", 6)
        .with("version", "6.82")
        .with("uuid", OBJECT.id.to_string())
        .with("extent", vec![extent])
        .with("vmfsUpgradable", false)
        .with("ssd", true)
        .with("local", true)
}

fn mount(world: &World) -> Data {
    Data::new("HostMountInfo")
        .with("path", world.datastore.url())
        .with("accessMode", "readWrite")
        .with("mounted", true)
        .with("accessible", true)
}

/// The file systems of the host, as its storage system lists them.
pub fn volumes(world: &World) -> Data {
    let mounted = Data::new("HostFileSystemMountInfo").with("mountInfo", mount(world)).with("volume", volume(world));
    Data::new("HostFileSystemVolumeInfo").with("volumeTypeList", vec!["VMFS"]).with("mountInfo", vec![mounted])
}

fn info(world: &World) -> Data {
    let (_, free) = space(world);
    Data::new("VmfsDatastoreInfo")
        .with("name", NAME)
        .with("url", world.datastore.url())
        .with("freeSpace", long(free))
        .with("maxFileSize", long(vmdk::LARGEST))
        .with("maxVirtualDiskCapacity", long(vmdk::LARGEST))
        .with("maxMemoryFileSize", long(vmdk::LARGEST))
        .with("timestamp", time::OffsetDateTime::now_utc())
        .with("maxPhysicalRDMFileSize", long(vmdk::LARGEST))
        .with("maxVirtualRDMFileSize", long(vmdk::LARGEST))
        .with("vmfs", volume(world))
}

pub fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The path that a client named, with the files of the machine that it may lie in made first, where that was never looked at.
pub fn open(world: &World, text: &str) -> Result<DatastorePath, VimFault> {
    let path = DatastorePath::parse(text)?;
    materialise(world, &path)?;
    Ok(path)
}

/// Makes what the folder of a numbered machine, or of one that was loaded, holds, when somebody looks at it for the first time.
pub fn materialise(world: &World, path: &DatastorePath) -> Result<(), VimFault> {
    let wanted = |vm: &&Vm| filler::number(vm.id).is_some() || load::loaded(world, vm);
    match path.parts().first() {
        Some(name) => {
            world.vms.values().filter(wanted).filter(|vm| vm.folder().parts().first() == Some(name)).try_for_each(
                |vm| match filler::number(vm.id) {
                    Some(_) => filler::files(world, vm),
                    None => load::files(world, vm),
                },
            )
        }
        None => world.vms.values().filter(wanted).try_for_each(|vm| filler::folder(world, vm).map(|_| ())),
    }
}

/// The machine that runs or is suspended now and writes to this disk. The disks below it are only read: others may read them too.
pub fn written_by<'a>(world: &'a World, path: &DatastorePath) -> Option<&'a Vm> {
    world.vms.values().find(|vm| !vm.is_off() && vm.disk_files().any(|file| file == path.to_string()))
}

/// The machine that runs or is suspended on this file now, and so holds its lock.
pub fn locked_by<'a>(world: &'a World, path: &DatastorePath) -> Option<&'a Vm> {
    world.vms.values().find(|vm| !vm.is_off() && vm.files().any(|file| file == path.to_string()))
}

/// A fault for what went wrong with a file.
pub fn file_fault(path: &DatastorePath, error: &std::io::Error) -> VimFault {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => "FileNotFound",
        std::io::ErrorKind::AlreadyExists => "FileAlreadyExists",
        std::io::ErrorKind::StorageFull => return no_space(path),
        _ => "CannotAccessFile",
    };
    VimFault::file(kind, path.to_string())
}

/// A fault for what went wrong with a virtual disk.
pub fn disk_fault(path: &DatastorePath, error: &vmdk::VmdkError) -> VimFault {
    match error {
        vmdk::VmdkError::Io(error) => file_fault(path, error),
        vmdk::VmdkError::Format(why) => VimFault::new("InvalidDiskFormat", format!("{path} is no disk to use: {why}.")),
        vmdk::VmdkError::Abandoned => VimFault::system("the host's agent was started anew"),
        vmdk::VmdkError::Canceled => VimFault::new("RequestCanceled", "The task was canceled by a user."),
    }
}

pub fn no_space(path: &DatastorePath) -> VimFault {
    VimFault::new("NoDiskSpace", format!("There is not enough space on the datastore {NAME}."))
        .with("file", path.to_string())
        .with("datastore", NAME)
}
