//! The disks of a machine: added, put in, grown, taken out, destroyed. Never made smaller.
//!
//! Specification: vSphere Web Services API, `VirtualMachine.ReconfigVM_Task`, `VirtualDisk`.

use crate::units::Bytes;
use crate::xml::Element;

use super::checked::Checked;
use super::device_change::{Slot, by_key, change, meant, seat, set};
use super::disks::Provisioning;
use super::error::Error;
use super::file_path::FilePath;
use super::hardware::Disk;
use super::host::{Host, Progress};
use super::linked::folder;
use super::object::{Datastore, Vm};

/// A disk that a machine is to get.
pub struct DiskSpec<'a> {
    pub content: DiskContent<'a>,
    pub slot: Slot,
    /// Whether snapshots leave it out. Default: false.
    pub independent: bool,
}

/// What is on the disk.
pub enum DiskContent<'a> {
    /// Nothing: it is made, on the datastore that is named, under a name of the host's.
    New { datastore: &'a Checked<Datastore>, size: Bytes, form: Provisioning },
    /// A disk that lies there and that no machine has.
    There { datastore: &'a Checked<Datastore>, path: &'a FilePath },
}

impl Host {
    /// Adds a disk to a machine; returns its device key.
    ///
    /// Errors: `esxi.invalid_argument` where the place is taken, `esxi.no_disk_space`, `esxi.in_use` where another machine has the disk,
    /// `esxi.file_not_found`.
    pub async fn add_disk(&self, vm: &Checked<Vm>, spec: &DiskSpec<'_>, progress: Progress<'_>) -> Result<i32, Error> {
        let added = async {
            let (devices, before) = self.read_devices(vm).await?;
            let seat = seat(&devices, &before, &spec.slot)?;
            let mode = if spec.independent { "independent_persistent" } else { "persistent" };
            let backing = Element::new("backing").typed("VirtualDiskFlatVer2BackingInfo");
            let leaf = |name: &str, text: &str| Element::leaf(name, text);
            let (files, size, backing) = match &spec.content {
                DiskContent::New { datastore, size, form } => {
                    let backing = backing.with(leaf("fileName", &format!("[{}]", datastore.name)));
                    let backing = backing.with(leaf("diskMode", mode));
                    let backing = match form {
                        Provisioning::Thin => backing.with(leaf("thinProvisioned", "true")),
                        Provisioning::Thick => backing.with(leaf("thinProvisioned", "false")),
                        Provisioning::EagerZeroed => {
                            backing.with(leaf("thinProvisioned", "false")).with(leaf("eagerlyScrub", "true"))
                        }
                    };
                    (Some("create"), super::disks::kilobytes(*size)?, backing)
                }
                DiskContent::There { datastore, path } => {
                    self.check_unused(datastore, path).await?;
                    let disk = self.disk_file(datastore, path).await?;
                    let file = leaf("fileName", &path.on(&datastore.name));
                    (
                        None,
                        disk.capacity.map_or(0, |size| size.0 / 1024),
                        backing.with(file).with(leaf("diskMode", mode)),
                    )
                }
            };
            let device = Element::new("device")
                .typed("VirtualDisk")
                .with(leaf("key", "-2"))
                .with(backing)
                .with(leaf("controllerKey", &seat.key.to_string()))
                .with(leaf("unitNumber", &seat.unit.to_string()))
                .with(leaf("capacityInKB", &size.to_string()));
            let mut changes: Vec<Element> = seat.controller.into_iter().collect();
            changes.push(change("add", files, device));
            let changed = self.change_devices(vm, changes, progress).await;
            match &spec.content {
                DiskContent::New { datastore, size, form } if *form != Provisioning::Thin => {
                    self.with_space(datastore, Some(size.0), changed).await?;
                }
                _ => changed?,
            }
            let (_, after) = self.read_devices(vm).await?;
            let new = after.disks.iter().find(|disk| !before.disks.iter().any(|old| old.key == disk.key));
            new.map(|disk| disk.key).ok_or_else(|| Error::BadAnswer {
                host: self.name().to_owned(),
                reason: "a disk was added, and the machine has no new one".to_owned(),
            })
        };
        added.await.map_err(|error: Error| error.doing(format!("add a disk to {:?}", vm.name)))
    }

    /// The disk that is at a place of a machine, where there is one.
    pub async fn disk_at(&self, vm: &Checked<Vm>, slot: &Slot) -> Result<Option<Disk>, Error> {
        let (_, hardware) = self.read_devices(vm).await?;
        let (kind, bus) = meant(&hardware, slot);
        let at = |disk: &&Disk| {
            Some(disk.unit) == slot.unit
                && hardware.controller_of(disk).is_some_and(|own| own.kind == kind && own.bus == bus)
        };
        Ok(hardware.disks.iter().find(at).cloned())
    }

    /// Makes a machine's disk larger, also while it runs. Errors: `esxi.invalid_argument` where it would become smaller,
    /// `esxi.invalid_device_operation` where snapshots hold it, `esxi.no_disk_space`.
    pub async fn grow_disk(
        &self,
        vm: &Checked<Vm>,
        key: i32,
        size: Bytes,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let grown = async {
            let (devices, hardware) = self.read_devices(vm).await?;
            let mut device = by_key(&devices, key)?;
            let disk = hardware.disks.iter().find(|disk| disk.key == key);
            let old = disk.map_or(Bytes(0), |disk| disk.size);
            if size < old {
                let reason = format!("it has {old} already, and a disk is never made smaller");
                return Err(Error::Invalid { reason, hint: Some("give a size above that".to_owned()) });
            }
            let kilobytes = super::disks::kilobytes(size)?;
            set(&mut device, Element::leaf("capacityInKB", kilobytes.to_string()), &[]);
            if device.child("capacityInBytes").is_some() {
                set(&mut device, Element::leaf("capacityInBytes", size.0.to_string()), &[]);
            }
            match (self.change_devices(vm, vec![change("edit", None, device)], progress).await, disk) {
                (Err(error), Some(disk)) if disk.thin == Some(false) => {
                    Err(self.missing_at(&disk.file, size.0.saturating_sub(old.0), error).await)
                }
                (changed, _) => changed,
            }
        };
        grown.await.map_err(|error: Error| error.doing(format!("grow a disk of {:?}", vm.name)))
    }

    /// Takes a disk out of a machine; with `destroy` its files go for good, but never what it inherits from a linked clone's parent.
    ///
    /// Errors: `esxi.invalid_device_operation` where snapshots hold it.
    pub async fn remove_disk(
        &self,
        vm: &Checked<Vm>,
        disk: &Disk,
        destroy: bool,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let removed = async {
            let (devices, _) = self.read_devices(vm).await?;
            let device = by_key(&devices, disk.key)?;
            let inherits = disk.inherited().next().is_some();
            let files = (destroy && !inherits).then_some("destroy");
            self.change_devices(vm, vec![change("remove", files, device)], progress).await?;
            match destroy && inherits && folder(&disk.file) == folder(&vm.path) {
                true => self.delete_own(vm, std::slice::from_ref(&disk.file)).await,
                false => Ok(()),
            }
        };
        removed.await.map_err(|error: Error| error.doing(format!("take {} out of {:?}", disk.label, vm.name)))
    }
}
