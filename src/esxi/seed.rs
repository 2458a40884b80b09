//! A seed image in a machine's drive: uploaded into the machine's own folder, connected as a CD-ROM, and taken away again.
//!
//! An image gets a name of its own, so that nothing is overwritten, and nothing of its content is in the name. What this client connected is
//! known by that name; other drives are left alone. The upload goes to the host by HTTP with the session.
//! Specification: vSphere Web Services API, `VirtualCdromIsoBackingInfo`; the host's `/folder`.

use bytes::Bytes;

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::files::{path, split};
use super::hardware::Drive;
use super::host::{Host, Progress};
use super::link::patient;
use super::object::Vm;
use super::property::Query;
use super::unfinished::Begun;

const PREFIX: &str = "ceso-seed-";

/// A drive that this client has put into a machine.
pub(super) struct Seed {
    key: String,
    file: String,
}

/// Where a new drive goes.
pub(super) struct Place {
    /// A new SATA controller, where no IDE controller has a place left.
    pub controller: Option<Element>,
    key: String,
    unit: i32,
}

impl Drive {
    /// Whether it holds a seed image, which is put in and taken out by calls of its own.
    pub fn holds_seed(&self) -> bool {
        self.file.as_deref().is_some_and(is_seed)
    }
}

fn is_seed(file: &str) -> bool {
    file.rsplit('/').next().is_some_and(|name| name.starts_with(PREFIX))
}

impl Host {
    /// Puts a seed image into a machine's drive, in place of the one that it may have. The machine must be off.
    ///
    /// Errors: `esxi.invalid_power_state`, `esxi.no_disk_space`. After an error the new image is gone, or the error names it.
    pub async fn attach_seed(&self, vm: &Checked<Vm>, image: Bytes, progress: Progress<'_>) -> Result<(), Error> {
        let made = async {
            let devices = self.devices(vm).await?;
            let old = seeds(&devices);
            let (datastore, folder) = self.folder_of(vm)?;
            let file = format!("{folder}/{PREFIX}{}.iso", uuid::Uuid::new_v4().simple());
            let place = free_place(&devices, &old);
            let whole = path(datastore, &file);
            let noted = self.unfinished.note(Begun::Made(format!("perhaps {whole}")));
            let given = async {
                if let Err(error) = self.link.upload(datastore, &file, image).await {
                    return Err(self.taken_away(&whole, error).await);
                }
                let mut changes: Vec<Element> = old.iter().map(removed).collect();
                changes.extend(place.controller.clone());
                changes.push(added(&place, &whole));
                let Err(error) = self.change_devices(vm, changes, progress).await else { return Ok(()) };
                if !error.outcome_unknown() {
                    return Err(self.taken_away(&whole, error).await);
                }
                match self.devices(vm).await {
                    Ok(now) if seeds(&now).iter().any(|seed| seed.file == whole) => Ok(()),
                    // The host may be about to connect it.
                    _ => Err(self.left(format!("perhaps {whole}"), error)),
                }
            };
            let given = given.await;
            noted.ended();
            given?;
            self.delete_seeds(&old).await
        };
        patient(made).await.map_err(|error: Error| error.doing(format!("give {:?} its seed image", vm.name)))
    }

    /// Takes a machine's seed image out of its drive and deletes it; whether there was one. The machine must be off.
    pub async fn detach_seed(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<bool, Error> {
        let gone = async {
            let old = seeds(&self.devices(vm).await?);
            if old.is_empty() {
                return Ok(false);
            }
            self.change_devices(vm, old.iter().map(removed).collect(), progress).await?;
            self.delete_seeds(&old).await.map(|()| true)
        };
        gone.await.map_err(|error: Error| error.doing(format!("take the seed image of {:?} away", vm.name)))
    }

    /// Whether a machine has a seed image in its drive.
    pub async fn has_seed(&self, vm: &Checked<Vm>) -> Result<bool, Error> {
        Ok(!seeds(&self.devices(vm).await?).is_empty())
    }

    pub(super) async fn devices(&self, vm: &Checked<Vm>) -> Result<Vec<Element>, Error> {
        let query = Query::object(&vm.moref, "VirtualMachine", &["config.hardware.device"]);
        let objects = self.link.retrieve(&query).await?;
        let devices = objects.iter().find_map(|object| object.get("config.hardware.device"));
        Ok(devices.map(|devices| devices.children.clone()).unwrap_or_default())
    }

    fn folder_of<'a>(&self, vm: &'a Vm) -> Result<(&'a str, &'a str), Error> {
        let place = split(&vm.path).and_then(|(datastore, file)| Some((datastore, file.rsplit_once('/')?.0)));
        place.ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: format!("a machine whose configuration is at {:?}", vm.path),
        })
    }

    /// Takes away an image that is in no drive, or names it where that fails.
    async fn taken_away(&self, file: &str, error: Error) -> Error {
        match self.delete_file(file).await {
            Err(failure) if !failure.is("FileNotFound") => self.left(format!("{file} ({failure})"), error),
            _ => error,
        }
    }

    async fn delete_seeds(&self, seeds: &[Seed]) -> Result<(), Error> {
        for seed in seeds {
            match self.delete_file(&seed.file).await {
                Err(error) if !error.is("FileNotFound") => return Err(self.left(seed.file.clone(), error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn left(&self, what: String, error: Error) -> Error {
        Error::LeftBehind { host: self.name().to_owned(), left: vec![what], source: Box::new(error) }
    }
}

fn text(device: &Element, at: &str) -> String {
    device.text_at(at).unwrap_or_default().to_owned()
}

fn seeds(devices: &[Element]) -> Vec<Seed> {
    let drives = devices.iter().filter(|device| device.xsi_type.as_deref() == Some("VirtualCdrom"));
    drives
        .map(|device| Seed { key: text(device, "key"), file: text(device, "backing.fileName") })
        .filter(|seed| is_seed(&seed.file))
        .collect()
}

/// The first free place on an IDE controller, which every machine has two of; else on a new SATA controller.
pub(super) fn free_place(devices: &[Element], leaving: &[Seed]) -> Place {
    let staying = || devices.iter().filter(|device| !leaving.iter().any(|seed| seed.key == text(device, "key")));
    for controller in devices.iter().filter(|device| device.xsi_type.as_deref() == Some("VirtualIDEController")) {
        let key = text(controller, "key");
        let taken = |unit: i32| {
            staying().any(|device| {
                text(device, "controllerKey") == key && text(device, "unitNumber").parse::<i32>() == Ok(unit)
            })
        };
        if let Some(unit) = (0..2).find(|unit| !taken(*unit)) {
            return Place { controller: None, key, unit };
        }
    }
    let buses: Vec<String> = devices
        .iter()
        .filter(|device| device.xsi_type.as_deref() == Some("VirtualAHCIController"))
        .map(|device| text(device, "busNumber"))
        .collect();
    let bus = (0..4).find(|bus: &i32| !buses.contains(&bus.to_string())).unwrap_or_default();
    let device = Element::new("device")
        .typed("VirtualAHCIController")
        .with(Element::leaf("key", "-1"))
        .with(Element::leaf("busNumber", bus.to_string()));
    Place { controller: Some(change("add").with(device)), key: "-1".to_owned(), unit: 0 }
}

fn change(operation: &str) -> Element {
    Element::new("deviceChange").typed("VirtualDeviceConfigSpec").with(Element::leaf("operation", operation))
}

pub(super) fn added(place: &Place, file: &str) -> Element {
    let backing = Element::new("backing").typed("VirtualCdromIsoBackingInfo").with(Element::leaf("fileName", file));
    let connectable = Element::new("connectable")
        .with(Element::leaf("startConnected", "true"))
        .with(Element::leaf("allowGuestControl", "true"))
        .with(Element::leaf("connected", "true"));
    let device = Element::new("device")
        .typed("VirtualCdrom")
        .with(Element::leaf("key", "-2"))
        .with(backing)
        .with(connectable)
        .with(Element::leaf("controllerKey", place.key.clone()))
        .with(Element::leaf("unitNumber", place.unit.to_string()));
    change("add").with(device)
}

fn removed(seed: &Seed) -> Element {
    change("remove").with(Element::new("device").typed("VirtualCdrom").with(Element::leaf("key", seed.key.clone())))
}
