//! The network cards of a machine, and its CD-ROM drives: added, changed, taken out, images put in.
//!
//! Specification: vSphere Web Services API, `VirtualEthernetCard`, `VirtualCdrom`.

use crate::xml::Element;

use super::checked::Checked;
use super::device_change::{by_key, change, connect, set};
use super::error::Error;
use super::file_path::FilePath;
use super::hardware::{Drive, Hardware, NewDevice, known_nic};
use super::host::{Host, Progress};
use super::lookup::{is_vm, unescape};
use super::object::{Datastore, Network, Vm};
use super::places::Reach;

/// A network card that a machine is to get.
pub struct NicSpec<'a> {
    pub network: &'a Checked<Network>,
    /// `vmxnet3`, `e1000e`, `e1000`, …
    pub kind: &'a str,
    /// `None`: the host gives one.
    pub mac: Option<&'a str>,
    pub connected: bool,
}

/// What is to be changed of a card; `None` leaves a thing as it is.
#[derive(Default)]
pub struct NicChange<'a> {
    pub network: Option<&'a Checked<Network>>,
    pub mac: Option<&'a str>,
    pub connected: Option<bool>,
}

/// What comes after `connectable` and `backing` in a device.
const AFTER: &[&str] = &["slotInfo", "controllerKey", "unitNumber", "numaNode", "deviceGroupInfo", "addressType"];

impl Host {
    /// The name of a machine that has a card with that address, and whether it is this machine; the one card that is named does not count.
    pub async fn holder_of_mac(
        &self,
        vm: &Checked<Vm>,
        mac: &str,
        but: Option<i32>,
    ) -> Result<Option<(String, bool)>, Error> {
        let paths = vec!["name", "config.hardware.device"];
        let query = self.link.everything(&[Reach::Vms], vec![("VirtualMachine", paths)]);
        let objects = self.link.retrieve(&query).await?;
        let holder = objects.iter().filter(|object| is_vm(object)).find(|object| {
            let nics = object.get("config.hardware.device").map(Hardware::read).unwrap_or_default().nics;
            let own = object.moref == vm.moref;
            nics.iter().any(|nic| {
                nic.mac.as_deref().is_some_and(|held| held.eq_ignore_ascii_case(mac)) && !(own && but == Some(nic.key))
            })
        });
        Ok(holder.map(|object| (unescape(&object.string("name")), object.moref == vm.moref)))
    }

    /// Adds a network card; returns its device key. Errors: `esxi.invalid_argument`, `esxi.too_many_devices`.
    pub async fn add_nic(&self, vm: &Checked<Vm>, spec: &NicSpec<'_>, progress: Progress<'_>) -> Result<i32, Error> {
        let added = async {
            let backing = self.nic_backing(spec.network).await?;
            if !known_nic(spec.kind) {
                let hint = Some("use vmxnet3, e1000e or e1000".to_owned());
                return Err(Error::Invalid { reason: format!("{:?} is no kind of network card", spec.kind), hint });
            }
            let (_, before) = self.read_devices(vm).await?;
            let card = NewDevice::Nic { key: -1, kind: spec.kind, backing: &backing, start_connected: spec.connected };
            let mut card = card.element();
            if let Some(device) = card.children.iter_mut().find(|child| child.name == "device") {
                address(device, spec.mac);
            }
            self.change_devices(vm, vec![card], progress).await?;
            let (_, after) = self.read_devices(vm).await?;
            let new = after.nics.iter().find(|nic| !before.nics.iter().any(|old| old.key == nic.key));
            new.map(|nic| nic.key).ok_or_else(|| Error::BadAnswer {
                host: self.name().to_owned(),
                reason: "a network card was added, and the machine has no new one".to_owned(),
            })
        };
        added.await.map_err(|error: Error| error.doing(format!("add a network card to {:?}", vm.name)))
    }

    /// Changes a network card in its place. Errors: `esxi.invalid_power_state` for the address of one that runs.
    pub async fn change_nic(
        &self,
        vm: &Checked<Vm>,
        key: i32,
        wanted: &NicChange<'_>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let changed = async {
            let (devices, _) = self.read_devices(vm).await?;
            let mut device = by_key(&devices, key)?;
            if let Some(network) = wanted.network {
                let backing = self.nic_backing(network).await?;
                set(&mut device, backing, &[&["connectable"], AFTER].concat());
            }
            if let Some(connected) = wanted.connected {
                connect(&mut device, connected, AFTER);
            }
            address(&mut device, wanted.mac);
            self.change_devices(vm, vec![change("edit", None, device)], progress).await
        };
        changed.await.map_err(|error: Error| error.doing(format!("change a network card of {:?}", vm.name)))
    }

    /// Takes a device that has no files of its own out of a machine: a card, a drive, a passed-through one.
    pub async fn remove_device(&self, vm: &Checked<Vm>, key: i32, progress: Progress<'_>) -> Result<(), Error> {
        let removed = async {
            let (devices, _) = self.read_devices(vm).await?;
            let device = by_key(&devices, key)?;
            self.change_devices(vm, vec![change("remove", None, device)], progress).await
        };
        removed.await.map_err(|error: Error| error.doing(format!("take a device out of {:?}", vm.name)))
    }

    /// Puts an image into a machine's CD-ROM drive and connects it; without a drive one is added, for which the machine must be off.
    ///
    /// Errors: `esxi.file_not_found`, `esxi.invalid_power_state`.
    pub async fn insert_image(
        &self,
        vm: &Checked<Vm>,
        drive: Option<&Drive>,
        image: (&Checked<Datastore>, &FilePath),
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let file = image.1.on(&image.0.name);
        let put = async {
            if self.length_of(image.0, image.1).await?.is_none() {
                return Err(self.no_file(&file, ""));
            }
            let devices = self.devices(vm).await?;
            let Some(drive) = drive else {
                let place = super::seed::free_place(&devices, &[]);
                let mut changes: Vec<Element> = place.controller.clone().into_iter().collect();
                changes.push(super::seed::added(&place, &file));
                return self.change_devices(vm, changes, progress).await;
            };
            let mut device = by_key(&devices, drive.key)?;
            let backing =
                Element::new("backing").typed("VirtualCdromIsoBackingInfo").with(Element::leaf("fileName", &file));
            set(&mut device, backing, &[&["connectable"], AFTER].concat());
            connect(&mut device, true, AFTER);
            self.change_devices(vm, vec![change("edit", None, device)], progress).await
        };
        put.await.map_err(|error: Error| error.doing(format!("put {file} into the drive of {:?}", vm.name)))
    }

    /// Takes the image out of a drive, which stays, empty. A guest that has locked it raises a question.
    pub async fn eject_image(&self, vm: &Checked<Vm>, drive: &Drive, progress: Progress<'_>) -> Result<(), Error> {
        let ejected = async {
            let mut device = by_key(&self.devices(vm).await?, drive.key)?;
            let backing = Element::new("backing")
                .typed("VirtualCdromRemotePassthroughBackingInfo")
                .with(Element::leaf("deviceName", ""))
                .with(Element::leaf("useAutoDetect", "false"))
                .with(Element::leaf("exclusive", "false"));
            set(&mut device, backing, &[&["connectable"], AFTER].concat());
            connect(&mut device, false, AFTER);
            self.change_devices(vm, vec![change("edit", None, device)], progress).await
        };
        ejected.await.map_err(|error: Error| error.doing(format!("empty the drive of {:?}", vm.name)))
    }

    /// Plugs a drive in or out, with what is in it.
    pub async fn connect_drive(
        &self,
        vm: &Checked<Vm>,
        drive: &Drive,
        connected: bool,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let done = async {
            let mut device = by_key(&self.devices(vm).await?, drive.key)?;
            connect(&mut device, connected, AFTER);
            self.change_devices(vm, vec![change("edit", None, device)], progress).await
        };
        done.await.map_err(|error: Error| error.doing(format!("connect the drive of {:?}", vm.name)))
    }
}

fn address(device: &mut Element, mac: Option<&str>) {
    let Some(mac) = mac else { return };
    const AFTER: &[&str] =
        &["wakeOnLanEnabled", "resourceAllocation", "externalId", "uptCompatibilityEnabled", "uptv2Enabled"];
    set(device, Element::leaf("addressType", "manual"), &[&["macAddress"], AFTER].concat());
    set(device, Element::leaf("macAddress", mac), AFTER);
}
