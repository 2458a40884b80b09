//! Virtual disks as files of a datastore: made, copied, moved, grown, filled, deleted, told apart.
//!
//! Nothing is overwritten. A disk that others build on (a snapshot, a linked clone) is neither grown nor moved nor deleted: that would
//! ruin them. Specification: vSphere Web Services API, `VirtualDiskManager`.

use crate::units::Bytes;
use crate::xml::Element;

use super::browse::DiskFile;
use super::checked::Checked;
use super::datastore_files::adapter;
use super::error::Error;
use super::file_path::{FilePath, Role};
use super::host::{Host, Progress};
use super::lookup::unescape;
use super::object::Datastore;
use super::places::Reach;
use super::soap::{Call, Method};

/// How a disk takes up space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// What was written, alone.
    Thin,
    /// All of it, zeroed when it is first used.
    Thick,
    /// All of it, zeroed when it is made.
    EagerZeroed,
}

impl Provisioning {
    pub(super) fn wire_name(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Thick => "preallocated",
            Self::EagerZeroed => "eagerZeroedThick",
        }
    }
}

/// A disk with what only its own descriptor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskInfo {
    pub disk: DiskFile,
    /// What tells it apart from every other disk; the guest may see it as its serial number.
    pub uuid: Option<String>,
}

impl Host {
    /// Makes an empty disk. Errors: `esxi.file_already_exists`, `esxi.no_disk_space`.
    pub async fn create_disk(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        size: Bytes,
        form: Provisioning,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let file = named(datastore, path)?;
        let spec = Element::new("spec")
            .typed("FileBackedVirtualDiskSpec")
            .with(Element::leaf("diskType", form.wire_name()))
            .with(Element::leaf("adapterType", "lsiLogic"))
            .with(Element::leaf("capacityKb", kilobytes(size)?.to_string()));
        let call = Call::new(&self.disk_manager()?, Method::CreateVirtualDisk)
            .with_text("name", &file)
            .with_ref("datacenter", &self.datacenter().await?)
            .with(spec);
        let made = self.file_task("make the disk", call, format!("make the disk {file}"), progress).await;
        let needed = (form != Provisioning::Thin).then_some(size.0);
        self.with_space(datastore, needed, made.map(drop)).await
    }

    /// Copies a disk, in its own form unless another is asked for.
    ///
    /// Errors: `esxi.file_already_exists`, `esxi.file_locked` where a running machine holds it, `esxi.no_disk_space`.
    pub async fn copy_disk_file(
        &self,
        from: (&Checked<Datastore>, &FilePath),
        to: (&Checked<Datastore>, &FilePath),
        form: Option<Provisioning>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let (source, target) = (named(from.0, from.1)?, named(to.0, to.1)?);
        let disk = self.disk_file(from.0, from.1).await?;
        let own = if disk.thin == Some(false) { Provisioning::Thick } else { Provisioning::Thin };
        let form = form.unwrap_or(own);
        let needed = if form == Provisioning::Thin { disk.size } else { disk.capacity };
        let spec = (form.wire_name(), adapter(&disk));
        let copied = self.copy_disk(&source, &target, spec, "copy the disk", progress).await;
        self.with_space(to.0, needed.map(|size| size.0), copied).await
    }

    /// Copies a thin disk, telling the host so or not, whatever is known of the host: the trial of what it makes of either.
    pub async fn try_disk_copy(
        &self,
        datastore: &Checked<Datastore>,
        (from, to): (&FilePath, &FilePath),
        told: bool,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let (source, target) = (named(datastore, from)?, named(datastore, to)?);
        let form = told.then_some((Provisioning::Thin.wire_name(), "lsiLogic"));
        self.copy_disk_told(&source, &target, form, "copy the disk", progress).await
    }

    /// Moves a disk to where nothing is yet. Errors: `esxi.in_use`, `esxi.file_already_exists`, `esxi.file_locked`.
    pub async fn move_disk(
        &self,
        from: (&Checked<Datastore>, &FilePath),
        to: (&Checked<Datastore>, &FilePath),
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let (source, target) = (named(from.0, from.1)?, named(to.0, to.1)?);
        self.check_unused(from.0, from.1).await?;
        self.move_disk_file(&source, &target, progress).await
    }

    /// Makes a disk larger. Errors: `esxi.in_use` where others build on it, `esxi.file_locked`, `esxi.no_disk_space`,
    /// `esxi.invalid_argument` where it would become smaller.
    pub async fn extend_disk(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        size: Bytes,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let file = named(datastore, path)?;
        let disk = self.disk_file(datastore, path).await?;
        if let Some(old) = disk.capacity.filter(|old| size <= *old) {
            let reason = format!("{file} has {old} already, and a disk cannot be made smaller");
            return Err(Error::Invalid { reason, hint: Some("give a size above that".to_owned()) });
        }
        self.check_childless(&file).await?;
        let call = Call::new(&self.disk_manager()?, Method::ExtendVirtualDisk)
            .with_text("name", &file)
            .with_ref("datacenter", &self.datacenter().await?)
            .with_text("newCapacityKb", kilobytes(size)?.to_string())
            .with_text("eagerZero", "false");
        let grown = self.file_task("extend the disk", call, format!("extend the disk {file}"), progress).await;
        let needed = disk.capacity.filter(|_| disk.thin == Some(false)).map(|old| size.0.saturating_sub(old.0));
        self.with_space(datastore, needed, grown.map(drop)).await
    }

    /// Gives a thin disk all of its space. Errors: `esxi.no_disk_space`, `esxi.file_locked`.
    pub async fn inflate_disk(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let file = named(datastore, path)?;
        let disk = self.disk_file(datastore, path).await?;
        let call = Call::new(&self.disk_manager()?, Method::InflateVirtualDisk)
            .with_text("name", &file)
            .with_ref("datacenter", &self.datacenter().await?);
        let filled = self.file_task("inflate the disk", call, format!("inflate the disk {file}"), progress).await;
        let needed = disk.capacity.map(|all| all.0.saturating_sub(disk.size.unwrap_or_default().0));
        self.with_space(datastore, needed, filled.map(drop)).await
    }

    /// Reads what a disk is.
    pub async fn disk_info(&self, datastore: &Checked<Datastore>, path: &FilePath) -> Result<DiskInfo, Error> {
        let file = named(datastore, path)?;
        let disk = self.disk_file(datastore, path).await?;
        let call = Call::new(&self.disk_manager()?, Method::QueryVirtualDiskUuid)
            .with_text("name", &file)
            .with_ref("datacenter", &self.datacenter().await?);
        let answer = self.link.call(&call).await.map_err(|error| error.doing(format!("read the disk {file}")))?;
        let uuid = answer.text_at("returnval").map(str::trim).filter(|uuid| !uuid.is_empty()).map(str::to_owned);
        Ok(DiskInfo { disk, uuid })
    }

    /// Refuses a disk that others build on. Errors: `esxi.in_use`.
    pub(super) async fn check_childless(&self, file: &str) -> Result<(), Error> {
        let query =
            self.link.everything(&[Reach::Vms], vec![("VirtualMachine", vec!["name", "config.hardware.device"])]);
        for object in &self.link.retrieve(&query).await? {
            let devices = object.get("config.hardware.device").map(|list| list.children.as_slice()).unwrap_or_default();
            let builds = devices.iter().filter_map(|device| device.at("backing.parent")).any(|parent| {
                std::iter::successors(Some(parent), |parent| parent.child("parent"))
                    .any(|parent| parent.text_at("fileName").map(str::trim) == Some(file))
            });
            if builds {
                return Err(Error::InUse {
                    host: self.name().to_owned(),
                    file: file.to_owned(),
                    vm: unescape(&object.string("name")),
                });
            }
        }
        Ok(())
    }

    pub(super) async fn move_disk_file(&self, from: &str, to: &str, progress: Progress<'_>) -> Result<(), Error> {
        self.check_childless(from).await?;
        let datacenter = &self.datacenter().await?;
        let call = Call::new(&self.disk_manager()?, Method::MoveVirtualDisk)
            .with_text("sourceName", from)
            .with_ref("sourceDatacenter", datacenter)
            .with_text("destName", to)
            .with_ref("destDatacenter", datacenter)
            .with_text("force", "false");
        self.file_task("move the disk", call, format!("move the disk {from} to {to}"), progress).await.map(drop)
    }
}

/// The path of a disk as the API writes it. Errors: `esxi.invalid_argument` where the name is not a disk's.
fn named(datastore: &Datastore, path: &FilePath) -> Result<String, Error> {
    if path.role() == Role::Disk {
        return Ok(path.on(&datastore.name));
    }
    let hint = Some("name its descriptor, such as web-1/web-1.vmdk".to_owned());
    Err(Error::Invalid { reason: format!("{path} is not the name of a virtual disk"), hint })
}

pub(super) fn kilobytes(size: Bytes) -> Result<u64, Error> {
    if size.0 >= 1 << 20 && size.0.is_multiple_of(1024) && size.0 <= 62 << 40 {
        return Ok(size.0 / 1024);
    }
    let hint = Some("a disk has 1 MiB to 62 TiB, in whole KiB".to_owned());
    Err(Error::Invalid { reason: format!("a disk cannot have {size}"), hint })
}
