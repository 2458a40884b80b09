//! Changes to the devices of a machine, as elements: what is added, edited in place, taken out.
//!
//! An edit sends the device back as the host told it, with nothing but the asked fields changed: a field that is left out may be taken for
//! one that is to go. Specification: vSphere Web Services API, `VirtualDeviceConfigSpec`.

use crate::xml::Element;

use super::checked::Checked;
use super::config_spec::ConfigSpec;
use super::error::Error;
use super::hardware::{Controller, ControllerKind, Hardware, NewDevice};
use super::host::{Host, Progress};
use super::object::Vm;
use super::soap::{Call, Method};
use super::task::Task;

/// A device's place on a controller: `pvscsi`, bus 0, unit 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slot {
    /// `None`: that of the machine's first disk, else pvscsi.
    pub kind: Option<ControllerKind>,
    /// From 0. `None`: that of the machine's first disk of the kind, else 0.
    pub bus: Option<i32>,
    /// From 0. `None`: the first that is free.
    pub unit: Option<i32>,
}

/// Where a new device goes, and the controller that must be made for it.
pub(super) struct Seat {
    pub controller: Option<Element>,
    pub key: i32,
    pub unit: i32,
}

/// How many devices a controller takes, and the place that it takes itself.
fn room(kind: &ControllerKind) -> (i32, Option<i32>) {
    match kind {
        ControllerKind::Ide => (2, None),
        ControllerKind::Sata => (30, None),
        ControllerKind::Nvme => (15, None),
        ControllerKind::Pvscsi => (64, Some(7)),
        _ => (16, Some(7)),
    }
}

/// Controllers that share one row of bus numbers.
fn family(kind: &ControllerKind) -> &str {
    if kind.is_scsi() { "scsi" } else { kind.as_str() }
}

/// The controller and the bus that a slot means on this machine.
pub(super) fn meant(hardware: &Hardware, slot: &Slot) -> (ControllerKind, i32) {
    let used = hardware.disks.iter().filter_map(|disk| hardware.controller_of(disk));
    let like = used.into_iter().find(|controller| slot.kind.as_ref().is_none_or(|kind| controller.kind == *kind));
    let kind = slot.kind.clone().or_else(|| like.map(|controller| controller.kind.clone())).unwrap_or_default();
    let bus = slot.bus.or_else(|| like.map(|controller| controller.bus)).unwrap_or(0);
    (kind, bus)
}

/// Finds the place of a new device. Errors: `esxi.invalid_argument` where it is taken or not there.
pub(super) fn seat(devices: &[Element], hardware: &Hardware, slot: &Slot) -> Result<Seat, Error> {
    let wrong = |reason: String, hint: &str| Err(Error::Invalid { reason, hint: Some(hint.to_owned()) });
    let (kind, bus) = meant(hardware, slot);
    if matches!(kind, ControllerKind::Other(_)) {
        return wrong(
            format!("{:?} is no controller of disks", kind.as_str()),
            "use pvscsi, lsilogic, sata, nvme or ide",
        );
    }
    let buses = if kind == ControllerKind::Ide { 2 } else { 4 };
    if !(0..buses).contains(&bus) {
        return wrong(
            format!("there is no bus {bus} for {}", kind.as_str()),
            "buses are counted from 0, up to 3 (ide: 1)",
        );
    }
    let on_bus: Option<&Controller> =
        hardware.controllers.iter().find(|own| family(&own.kind) == family(&kind) && own.bus == bus);
    if let Some(own) = on_bus.filter(|own| own.kind != kind) {
        return wrong(
            format!("bus {bus} has a controller {}, not {}", own.kind.as_str(), kind.as_str()),
            "choose another bus",
        );
    }
    let taken = |unit: i32| {
        on_bus.is_some_and(|own| {
            devices.iter().any(|device| {
                number(device, "controllerKey") == Some(own.key) && number(device, "unitNumber") == Some(unit)
            })
        })
    };
    let (most, reserved) = room(&kind);
    let unit = match slot.unit {
        Some(unit) if !(0..most).contains(&unit) || Some(unit) == reserved => {
            return wrong(
                format!("{} has no unit {unit} for a device", kind.as_str()),
                "units are counted from 0; 7 is a SCSI controller's own",
            );
        }
        Some(unit) if taken(unit) => {
            return wrong(
                format!("unit {unit} of {} bus {bus} is taken", kind.as_str()),
                "leave the unit out to get the first that is free",
            );
        }
        Some(unit) => unit,
        None => match (0..most).find(|unit| Some(*unit) != reserved && !taken(*unit)) {
            Some(unit) => unit,
            None => return wrong(format!("{} bus {bus} is full", kind.as_str()), "choose another bus"),
        },
    };
    let controller = match on_bus {
        Some(_) => None,
        // Every machine has both; one that a machine lacks all the same is not made.
        None if kind == ControllerKind::Ide => {
            return wrong("the machine has no IDE controller".to_owned(), "use sata");
        }
        None => Some(NewDevice::Controller { key: -1, kind: &kind, bus, sharing: None }.element()),
    };
    Ok(Seat { controller, key: on_bus.map_or(-1, |own| own.key), unit })
}

pub(super) fn number(device: &Element, path: &str) -> Option<i32> {
    device.text_at(path).and_then(|text| text.trim().parse().ok())
}

/// The device of that key, as the host told it. Errors: `esxi.invalid_argument`.
pub(super) fn by_key(devices: &[Element], key: i32) -> Result<Element, Error> {
    let found = devices.iter().find(|device| number(device, "key") == Some(key));
    found.cloned().ok_or_else(|| Error::Invalid {
        reason: format!("the machine has no device {key} any more"),
        hint: Some("somebody changed it meanwhile: look at vm:info()".to_owned()),
    })
}

/// A change of a device that is there: `edit` or `remove`.
pub(super) fn change(operation: &str, files: Option<&str>, device: Element) -> Element {
    let mut change =
        Element::new("deviceChange").typed("VirtualDeviceConfigSpec").with(Element::leaf("operation", operation));
    if let Some(files) = files {
        change = change.with(Element::leaf("fileOperation", files));
    }
    let mut device = device;
    "device".clone_into(&mut device.name);
    change.with(device)
}

/// Replaces a field that the device has, or puts it before the first of `before` that it has, else at its end.
pub(super) fn set(device: &mut Element, field: Element, before: &[&str]) {
    if let Some(own) = device.children.iter_mut().find(|child| child.name == field.name) {
        *own = field;
        return;
    }
    let at = device.children.iter().position(|child| before.contains(&child.name.as_str()));
    device.children.insert(at.unwrap_or(device.children.len()), field);
}

/// Says in a device's `connectable` whether it is plugged in, now and when the machine is turned on.
pub(super) fn connect(device: &mut Element, connected: bool, before: &[&str]) {
    let text = connected.to_string();
    if let Some(own) = device.children.iter_mut().find(|child| child.name == "connectable") {
        set(own, Element::leaf("startConnected", &text), &["allowGuestControl", "connected", "status"]);
        set(own, Element::leaf("connected", &text), &["status"]);
        return;
    }
    let connectable = Element::new("connectable")
        .with(Element::leaf("startConnected", &text))
        .with(Element::leaf("allowGuestControl", "true"))
        .with(Element::leaf("connected", text));
    set(device, connectable, before);
}

impl Host {
    /// The devices of a machine as the host tells them, and as typed values.
    pub(super) async fn read_devices(&self, vm: &Checked<Vm>) -> Result<(Vec<Element>, Hardware), Error> {
        let devices = self.devices(vm).await?;
        let hardware = Hardware::of(&devices);
        Ok((devices, hardware))
    }

    pub(super) async fn change_devices(
        &self,
        vm: &Checked<Vm>,
        devices: Vec<Element>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let spec = ConfigSpec { devices, ..ConfigSpec::default() };
        let call = Call::new(&vm.moref, Method::ReconfigVm).with(spec.element("spec")?);
        Task::start(self, "configure", &call).await?.done(progress).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(wire: &str, fields: &[(&str, &str)]) -> Element {
        fields
            .iter()
            .fold(Element::new("device").typed(wire), |device, (name, text)| device.with(Element::leaf(*name, *text)))
    }

    fn machine() -> (Vec<Element>, Hardware) {
        let mut devices = vec![
            device("VirtualIDEController", &[("key", "200"), ("busNumber", "0")]),
            device("ParaVirtualSCSIController", &[("key", "1000"), ("busNumber", "0")]),
        ];
        devices.extend((0..7).map(|unit| {
            let (key, unit) = ((2000 + unit).to_string(), unit.to_string());
            device("VirtualDisk", &[("key", &key), ("controllerKey", "1000"), ("unitNumber", &unit)])
        }));
        let hardware = Hardware::of(&devices);
        (devices, hardware)
    }

    #[test]
    fn a_disk_finds_a_free_place_and_never_the_controllers_own() {
        let (devices, hardware) = machine();
        let place =
            |slot: Slot| seat(&devices, &hardware, &slot).map(|seat| (seat.controller.is_some(), seat.key, seat.unit));
        let slot = |kind: Option<ControllerKind>, bus, unit| Slot { kind, bus, unit };
        assert_eq!(place(Slot::default()).unwrap(), (false, 1000, 8));
        assert_eq!(place(slot(None, Some(1), None)).unwrap(), (true, -1, 0));
        assert_eq!(place(slot(Some(ControllerKind::Nvme), None, Some(3))).unwrap(), (true, -1, 3));
        assert_eq!(place(slot(Some(ControllerKind::Ide), None, None)).unwrap(), (false, 200, 0));
        for wrong in [
            slot(None, None, Some(7)),
            slot(None, None, Some(3)),
            slot(None, None, Some(-1)),
            slot(None, Some(4), None),
            slot(Some(ControllerKind::LsiLogic), Some(0), None),
            slot(Some(ControllerKind::Ide), Some(1), None),
            slot(Some(ControllerKind::Ide), Some(2), None),
            slot(Some(ControllerKind::Other("VirtualUSBController".into())), None, None),
        ] {
            assert!(place(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_edit_changes_what_is_asked_for_and_keeps_the_order() {
        let mut nic =
            device("VirtualVmxnet3", &[("key", "4000"), ("controllerKey", "100"), ("addressType", "generated")]);
        connect(&mut nic, false, &["controllerKey"]);
        set(&mut nic, Element::leaf("addressType", "manual"), &[]);
        set(&mut nic, Element::leaf("macAddress", "00:50:56:00:00:01"), &["wakeOnLanEnabled"]);
        let names: Vec<&str> = nic.children.iter().map(|child| child.name.as_str()).collect();
        assert_eq!(names, ["key", "connectable", "controllerKey", "addressType", "macAddress"]);
        connect(&mut nic, true, &[]);
        assert_eq!(nic.text_at("connectable.connected"), Some("true"));
        assert_eq!(nic.text_at("addressType"), Some("manual"));
    }
}
