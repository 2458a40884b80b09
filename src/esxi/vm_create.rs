//! A new machine with an empty disk.
//!
//! Its folder is made first and must be new; then the host makes the machine in it.
//! Specification: vSphere Web Services API, `Folder.CreateVM_Task`.

use std::collections::BTreeMap;

use crate::units::Bytes;

use super::checked::Checked;
use super::config_spec::{ConfigSpec, pairs};
use super::error::Error;
use super::hardware::{ControllerKind, NewDevice};
use super::host::{Host, Progress};
use super::link::patient;
use super::making::Making;
use super::moref::MoRef;
use super::object::{Datastore, Network, NewVm, Vm};
use super::places::{Placement, Places, Reach};
use super::soap::{Call, Method};
use super::task::Task;
use super::unfinished::Begun;
use super::vm_info::Firmware;

/// What a new machine is to be.
#[derive(Debug, Clone)]
pub struct CreateSpec {
    /// Such as `debian12_64Guest`. Default: `otherGuest64`.
    pub guest_id: String,
    /// Default: 1.
    pub cpus: u32,
    /// In steps of 4 MiB. Default: 1 GiB.
    pub memory: Bytes,
    /// Default: EFI.
    pub firmware: Firmware,
    /// The size of a thin disk; `None`: no disk.
    pub disk: Option<Bytes>,
    /// Default: pvscsi.
    pub controller: ControllerKind,
    pub notes: Option<String>,
    pub extra_config: BTreeMap<String, String>,
    /// Where it goes, on a vCenter.
    pub at: Placement,
}

impl Default for CreateSpec {
    fn default() -> Self {
        Self {
            guest_id: "otherGuest64".to_owned(),
            cpus: 1,
            memory: Bytes(1 << 30),
            firmware: Firmware::Efi,
            disk: None,
            controller: ControllerKind::Pvscsi,
            notes: None,
            extra_config: BTreeMap::new(),
            at: Placement::default(),
        }
    }
}

impl Host {
    /// Makes a machine, powered off: a vmxnet3 card on each network, a thin disk on the datastore.
    ///
    /// Errors: `esxi.file_already_exists` where its folder exists (it is never used), `esxi.duplicate_name`, `esxi.place`,
    /// `esxi.restricted_version`, `esxi.no_disk_space`. After an error nothing is left, or the error names it.
    pub async fn create_vm(
        &self,
        new: &Checked<NewVm>,
        datastore: &Checked<Datastore>,
        networks: &[&Checked<Network>],
        spec: &CreateSpec,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        if matches!(spec.disk, Some(size) if size.0 < 1 << 20) {
            let hint = Some("a disk has at least 1 MiB, such as \"16 GiB\"".to_owned());
            return Err(Error::Invalid { reason: "the disk is too small".to_owned(), hint });
        }
        if matches!(spec.controller, ControllerKind::Ide | ControllerKind::Other(_)) {
            let reason = format!("disks cannot be made on a controller {:?}", spec.controller.as_str());
            return Err(Error::Invalid { reason, hint: Some("use pvscsi, lsilogic, sata or nvme".to_owned()) });
        }
        let places = self.places(&spec.at).await?;
        let mut backings = Vec::new();
        for network in networks {
            backings.push(self.nic_backing(network).await?);
        }
        let extra_config = pairs(&spec.extra_config)?;
        let config = ConfigSpec {
            name: Some(&new.name),
            guest_id: Some(&spec.guest_id),
            notes: spec.notes.as_deref(),
            cpus: Some(spec.cpus),
            memory: Some(spec.memory),
            extra_config,
            firmware: Some(spec.firmware.as_str()),
            ..ConfigSpec::default()
        };
        // Wrong values are refused before anything is made.
        config.element("config")?;
        let perhaps = Making::perhaps(datastore, &new.name).map_err(|error| self.creating(error, new))?;
        let noted = self.unfinished.note(Begun::Made(perhaps));
        let making = patient(Making::folder(self, datastore, &new.name)).await;
        let mut making = making.map_err(|error| {
            noted.ended();
            self.creating(error, new)
        })?;
        let vmx = making.file_path(".vmx");
        let disk = making.disk_path(0);
        let mut devices = Vec::new();
        if let Some(size) = spec.disk {
            devices.push(NewDevice::Controller { key: -1, kind: &spec.controller, bus: 0, sharing: None }.element());
            devices.push(NewDevice::NewDisk { key: -2, file: &disk, size, controller: -1, unit: 0 }.element());
        }
        for (key, backing) in (-100..).zip(&backings) {
            let nic = NewDevice::Nic { key, kind: "vmxnet3", backing, start_connected: true };
            devices.push(nic.element());
        }
        let config = ConfigSpec { path: Some(&vmx), devices, ..config };
        making.configuration(spec.disk.map(|_| disk.clone()));
        let made = async {
            match self.make_vm(&places, &config, progress).await {
                Ok(moref) => self.made_vm(&making, &moref).await,
                Err(error) => Err(making.undo(error).await),
            }
        };
        let made = patient(made).await;
        noted.ended();
        made.map_err(|error| self.creating(error, new))
    }

    fn creating(&self, error: Error, new: &NewVm) -> Error {
        error.doing(format!("create {:?}", new.name))
    }

    /// Makes a machine out of a configuration; returns its reference.
    pub(super) async fn make_vm(
        &self,
        places: &Places,
        config: &ConfigSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<MoRef, Error> {
        let call = Call::new(&places.vm_folder, Method::CreateVm)
            .with(config.element("config")?)
            .with_ref("pool", &places.resource_pool)
            .with_opt(places.host.as_ref().map(|host| host.element("host")));
        let made = async { Task::start(self, "create the machine", &call).await?.made(progress).await };
        match (made.await, config.path) {
            (Err(error), Some(path)) if error.lost_track() || error.outcome_unknown() => {
                self.made_at(path).await.ok_or(error)
            }
            (made, _) => made,
        }
    }

    /// The machine whose configuration lies there: its folder is this call's own, so it is what the call has made.
    async fn made_at(&self, path: &str) -> Option<MoRef> {
        const LOOKS: usize = 3;
        for _ in 0..LOOKS {
            let query = self.link.everything(&[Reach::Vms], vec![("VirtualMachine", vec!["config.files.vmPathName"])]);
            let objects = self.link.retrieve(&query).await.unwrap_or_default();
            let found = objects.into_iter().find(|object| object.text("config.files.vmPathName") == Some(path));
            if let Some(found) = found {
                return Some(found.moref);
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        None
    }

    /// Reads the identity of a machine that was just made. It is there, so it is named where it cannot be read.
    pub(super) async fn made_vm(&self, making: &Making<'_>, moref: &MoRef) -> Result<Vm, Error> {
        let read = self.identity(moref).await;
        read.map_err(|error| making.left_behind(vec![format!("the machine {moref}, complete")], error))
    }
}
