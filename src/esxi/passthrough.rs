//! PCI devices of the host, handed through to a machine.
//!
//! Specification: vSphere Web Services API, `EnvironmentBrowser.QueryConfigTarget`, `VirtualMachinePciPassthroughInfo`,
//! `VirtualPCIPassthroughDeviceBackingInfo`.

use crate::xml::Element;

use super::checked::Checked;
use super::config_spec::ConfigSpec;
use super::device_change::{by_key, change};
use super::error::Error;
use super::hardware::{Hardware, PciHeld};
use super::host::{Host, Progress};
use super::lookup::{is_vm, unescape};
use super::moref::MoRef;
use super::object::Vm;
use super::places::Reach;
use super::property::{Object, Query};
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_list::{PowerState, text};

/// A device as a machine's configuration names it.
struct Offered {
    id: String,
    device: String,
    vendor: String,
    system: String,
}

impl Offered {
    fn read(info: &Element) -> Option<Self> {
        // The wire has 16 bits with a sign; a configuration has them as hexadecimal digits.
        let device = text(info, "pciDevice.deviceId")?.parse::<i16>().ok()?;
        Some(Self {
            id: text(info, "pciDevice.id")?,
            device: format!("{:x}", device.cast_unsigned()),
            vendor: text(info, "pciDevice.vendorId")?,
            system: text(info, "systemId")?,
        })
    }

    fn element(&self) -> Element {
        let backing = Element::new("backing")
            .typed("VirtualPCIPassthroughDeviceBackingInfo")
            .with(Element::leaf("deviceName", ""))
            .with(Element::leaf("id", &self.id))
            .with(Element::leaf("deviceId", &self.device))
            .with(Element::leaf("systemId", &self.system))
            .with(Element::leaf("vendorId", &self.vendor));
        Element::new("device").typed("VirtualPCIPassthrough").with(Element::leaf("key", "-1")).with(backing)
    }
}

impl Host {
    /// Gives a machine a PCI device of the host, and reserves all of the machine's memory, as a host demands for it.
    ///
    /// Errors: `esxi.invalid_power_state` where it is not off, `esxi.invalid_argument` where the host does not hand the device through.
    pub async fn attach_pci(&self, vm: &Checked<Vm>, id: &str, progress: Progress<'_>) -> Result<(), Error> {
        let attached = async {
            let browser = self.while_off(vm).await?;
            let call = Call::new(&browser, Method::QueryConfigTarget);
            let target = self.link.call(&call).await?;
            let offered: Vec<Offered> = match target.child("returnval") {
                Some(target) => target.all("pciPassthrough").filter_map(Offered::read).collect(),
                None => Vec::new(),
            };
            let Some(device) = offered.iter().find(|device| device.id == id) else {
                let told: Vec<&str> = offered.iter().map(|device| device.id.as_str()).collect();
                let told = if told.is_empty() { "none".to_owned() } else { told.join(", ") };
                return Err(Error::Invalid {
                    reason: format!("host {} hands no PCI device {id:?} through", self.name()),
                    hint: Some(format!(
                        "it hands through: {told}; others are switched on in the host's own client, and may need a restart of it"
                    )),
                });
            };
            let mut added = change("add", None, device.element());
            added.children.retain(|child| child.name != "fileOperation");
            let spec = ConfigSpec { devices: vec![added], memory_locked: Some(true), ..ConfigSpec::default() };
            self.reconfigure_off(vm, &spec, progress).await
        };
        attached.await.map_err(|error: Error| error.doing(format!("give {:?} the PCI device {id}", vm.name)))
    }

    /// Takes a PCI device out of a machine that is off; `release` says that its memory is not reserved any more.
    pub async fn detach_pci(
        &self,
        vm: &Checked<Vm>,
        held: &PciHeld,
        release: bool,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let detached = async {
            self.while_off(vm).await?;
            let devices = self.devices(vm).await?;
            let device = by_key(&devices, held.key)?;
            let spec = ConfigSpec {
                devices: vec![change("remove", None, device)],
                memory_locked: release.then_some(false),
                ..ConfigSpec::default()
            };
            self.reconfigure_off(vm, &spec, progress).await
        };
        detached.await.map_err(|error: Error| error.doing(format!("take {} out of {:?}", held.label, vm.name)))
    }

    /// The PCI devices of a machine that others that run hold, each with that one's name.
    pub async fn pci_held_elsewhere(&self, vm: &Checked<Vm>) -> Result<Vec<(String, String)>, Error> {
        let paths = vec!["name", "runtime.powerState", "config.hardware.device"];
        let query = self.link.everything(&[Reach::Vms], vec![("VirtualMachine", paths)]);
        let objects = self.link.retrieve(&query).await?;
        let ids = |object: &Object| {
            let held = object.get("config.hardware.device").map(Hardware::read).unwrap_or_default().pci;
            held.into_iter().filter_map(|held| held.id).collect::<Vec<_>>()
        };
        let own = objects.iter().find(|object| object.moref == vm.moref).map(ids).unwrap_or_default();
        let runs = |object: &&Object| object.text("runtime.powerState").map(PowerState::read) == Some(PowerState::On);
        let others = objects.iter().filter(|object| is_vm(object) && object.moref != vm.moref).filter(runs);
        let held = others.flat_map(|other| {
            let name = unescape(&other.string("name"));
            ids(other).into_iter().filter(|id| own.contains(id)).map(move |id| (id, name.clone()))
        });
        Ok(held.collect())
    }

    /// Refuses a machine that is not off; gives what tells which devices it can have.
    async fn while_off(&self, vm: &Checked<Vm>) -> Result<MoRef, Error> {
        let query = Query::object(&vm.moref, "VirtualMachine", &["runtime.powerState", "environmentBrowser"]);
        let objects = self.link.retrieve(&query).await?;
        let object = objects.first();
        let power = object.and_then(|object| object.text("runtime.powerState")).map(PowerState::read);
        if let Some(power) = power.filter(|power| *power != PowerState::Off) {
            return Err(Error::WrongState {
                host: self.name().to_owned(),
                name: format!("{:?}", vm.name),
                state: format!("powered {}", power.as_str()).replace("powered suspended", "suspended"),
                hint: "turn it off first: vm:shutdown() asks the guest, vm:power_off() does not".to_owned(),
            });
        }
        let browser = object.and_then(|object| object.reference("environmentBrowser"));
        browser.ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "a machine without an environment".to_owned(),
        })
    }

    async fn reconfigure_off(
        &self,
        vm: &Checked<Vm>,
        spec: &ConfigSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let call = Call::new(&vm.moref, Method::ReconfigVm).with(spec.element("spec")?);
        Task::start(self, "configure", &call).await?.done(progress).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    #[test]
    fn a_device_is_named_by_hexadecimal_digits_without_a_sign() {
        let info = |device: &str| {
            let text = format!(
                "<x><pciDevice><id>0000:0c:00.0</id><vendorId>4318</vendorId><deviceId>{device}</deviceId></pciDevice>\
                 <systemId>s</systemId></x>"
            );
            Offered::read(&parse(text.as_bytes(), Limits::default()).unwrap())
        };
        assert_eq!(info("7864").unwrap().device, "1eb8");
        assert_eq!(info("-1").unwrap().device, "ffff");
        let element = info("7864").unwrap().element();
        let names: Vec<&str> = element.children.iter().map(|child| child.name.as_str()).collect();
        assert_eq!((names, element.text_at("backing.vendorId")), (vec!["key", "backing"], Some("4318")));
        assert!(info("99999").is_none() && info("").is_none());
    }
}
