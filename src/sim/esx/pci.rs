//! The host's PCI bus: its devices, and which of them may be handed through to a guest.
//!
//! A setting that is not applied at once is active after the host was restarted. Specification: vSphere Web Services API,
//! `HostPciPassthruSystem`, `HostPciDevice`, `VirtualMachinePciPassthroughInfo`.

use serde::{Deserialize, Serialize};

use super::{HOST, filled};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::Data;
use crate::sim::world::World;

/// A device of the bus, as it is built in.
#[derive(Debug)]
pub struct Device {
    pub id: &'static str,
    pub vendor: i32,
    pub device: i32,
    pub vendor_name: &'static str,
    pub name: &'static str,
    /// Whether it can be handed through at all.
    pub capable: bool,
    /// Whether it is set to be on a new host.
    set: bool,
}

/// Its network card, a device that may be handed through, and one that could be.
pub const DEVICES: &[Device] = &[
    Device {
        id: "0000:0b:00.0",
        vendor: 0x15ad,
        device: 0x07b0,
        vendor_name: "ceso",
        name: "Simulated network card",
        capable: false,
        set: false,
    },
    Device {
        id: "0000:0c:00.0",
        vendor: 0x10de,
        device: 0x1eb8,
        vendor_name: "ceso",
        name: "Simulated accelerator",
        capable: true,
        set: true,
    },
    Device {
        id: "0000:0d:00.0",
        vendor: 0x1000,
        device: 0x00e1,
        vendor_name: "ceso",
        name: "Simulated storage controller",
        capable: true,
        set: false,
    },
];

/// How a device is set, where somebody changed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    id: String,
    enabled: bool,
    active: bool,
}

impl Device {
    fn state(&self, world: &World) -> (bool, bool) {
        let set = world.file.passthrough.iter().find(|set| set.id == self.id);
        set.map_or((self.set, self.set), |set| (set.enabled, set.active))
    }

    /// Whether a guest can be given it now.
    pub fn is_active(&self, world: &World) -> bool {
        self.state(world).1
    }

    fn render(&self) -> Data {
        filled("HostPciDevice")
            .but("id", self.id)
            .but("vendorId", self.vendor)
            .but("deviceId", self.device)
            .but("vendorName", self.vendor_name)
            .but("deviceName", self.name)
    }
}

/// The device at that place of the bus.
pub fn find(id: &str) -> Option<&'static Device> {
    DEVICES.iter().find(|device| device.id == id)
}

/// All devices, as the host's hardware lists them.
pub fn devices() -> Vec<Data> {
    DEVICES.iter().map(Device::render).collect()
}

/// Which of them are handed through.
pub fn passthrough(world: &World) -> Vec<Data> {
    let of = |device: &Device| {
        let (enabled, active) = device.state(world);
        Data::new("HostPciPassthruInfo")
            .with("id", device.id)
            .with("dependentDevice", device.id)
            .with("passthruEnabled", enabled)
            .with("passthruCapable", device.capable)
            .with("passthruActive", active)
    };
    DEVICES.iter().map(of).collect()
}

/// The devices that a machine can be given, as the environment browser tells them.
pub fn targets(world: &World) -> Vec<Data> {
    let active = DEVICES.iter().filter(|device| device.is_active(world));
    let target = |device: &Device| {
        Data::new("VirtualMachinePciPassthroughInfo")
            .with("name", device.id)
            .with("pciDevice", device.render())
            .with("systemId", &world.file.uuid)
    };
    active.map(target).collect()
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "Refresh" => Ok(Reply::Nothing),
        "UpdatePassthruConfig" => {
            let mut sets = world.file.passthrough.clone();
            for config in call.args.datas("config") {
                let id = config.text("id").unwrap_or_default();
                let device = find(id).filter(|device| device.capable).ok_or_else(|| {
                    VimFault::invalid_argument("config.id", "there is no device of that id that can be handed through")
                })?;
                let enabled = config.boolean("passthruEnabled") == Some(true);
                let at_once = config.boolean("applyNow") == Some(true);
                let active = if at_once { enabled } else { device.is_active(world) };
                sets.retain(|set| set.id != id);
                sets.push(Set { id: id.to_owned(), enabled, active });
            }
            world.file.passthrough = sets;
            world.keep_host()?;
            world.touch(&HOST);
            Ok(Reply::Nothing)
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

/// After a restart of the host what is set is active.
pub fn booted(world: &mut World) {
    world.file.passthrough.iter_mut().for_each(|set| set.active = set.enabled);
}
