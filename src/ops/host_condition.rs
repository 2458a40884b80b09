//! Operations that tell in what condition a host is: its sensors, the devices that guests may be given, its port groups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;

const READS: &[Touch] = &[touch("host", "read", Selector::Argument("host"))];

/// Reads the host's sensors and the state of its parts: temperatures, fans, power, memory, processors, storage.
///
/// A virtual or simulated host has few of them or none; the list is then short or empty, which says nothing bad.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The host.
    pub host: Target<kind::Host>,
}

/// One sensor, or one part that is watched as a whole.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostSensor")]
pub struct Sensor {
    /// Its name.
    pub name: String,
    /// What it is about: `temperature`, `fan`, `power`, `voltage`, `memory`, `cpu`, `storage`, …
    pub r#type: String,
    /// `green`, `yellow`, `red`, `unknown`.
    pub status: String,
    /// What the status means, in the host's words.
    pub summary: String,
    /// What it reads; nil for a part, which reads nothing.
    pub reading: Option<f64>,
    /// What the reading counts, such as `Degrees C`.
    pub unit: Option<String>,
}

impl Operation for Health {
    const NAME: &'static str = "host.health";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "health" };
    const TOUCHES: &'static [Touch] = READS;
    const USAGE: &'static str = "for _, sensor in host:health() do\n  if sensor.status ~= \"green\" then\n    print(sensor.name, sensor.status, sensor.summary)\n  end\nend";

    type Bound = BoundHost;
    type Output = Vec<Sensor>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<Vec<Sensor>, Fault> {
        let sensors = bound.host.client.sensors(&bound.system).await?;
        let row = |sensor: crate::esxi::Sensor| Sensor {
            name: sensor.name,
            r#type: sensor.kind,
            status: sensor.status,
            summary: sensor.summary,
            reading: sensor.reading,
            unit: sensor.unit,
        };
        Ok(sensors.into_iter().map(row).collect())
    }
}

/// Lists the PCI devices that the host can hand through to a guest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PassthroughDevices {
    /// The host.
    pub host: Target<kind::Host>,
}

/// A device that can be handed through.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostPciDevice")]
pub struct PciDevice {
    /// Its place on the bus, such as `0000:0b:00.0`.
    pub id: String,
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub name: String,
    /// Its class, where the host tells.
    pub class: Option<String>,
    /// Whether the host is set to hand it through.
    pub enabled: bool,
    /// Whether it can be now: a setting that was just made may need a restart of the host.
    pub active: bool,
}

impl Operation for PassthroughDevices {
    const NAME: &'static str = "host.passthrough_devices";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "passthrough_devices" };
    const TOUCHES: &'static [Touch] = READS;
    const USAGE: &'static str = "for _, device in host:passthrough_devices() do\n  print(device.id, device.name)\nend";

    type Bound = BoundHost;
    type Output = Vec<PciDevice>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<Vec<PciDevice>, Fault> {
        let devices = bound.host.client.passthrough_devices(&bound.system).await?;
        let row = |device: crate::esxi::PciDevice| PciDevice {
            id: device.id,
            vendor: device.vendor,
            name: device.name,
            class: device.class,
            enabled: device.enabled,
            active: device.active,
        };
        Ok(devices.into_iter().map(row).collect())
    }
}

/// Lists the port groups of the host's switches that may be read, with their VLANs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortGroups {
    /// The host.
    pub host: Target<kind::Host>,
}

/// A port group of a standard switch.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostPortGroup")]
pub struct PortGroup {
    /// Its name, which is that of its network.
    pub name: String,
    /// Its VLAN: 0 for none, 4095 for all.
    pub vlan: u16,
    /// The switch that it is of, such as `vSwitch0`.
    pub switch: String,
    /// The host's own network cards on it, such as `vmk0`.
    pub host_cards: Vec<String>,
}

impl Operation for PortGroups {
    const NAME: &'static str = "network.port_groups";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "port_groups" };
    const TOUCHES: &'static [Touch] = &[touch("network", "read", Selector::Filtered)];
    const USAGE: &'static str =
        "for _, group in host:port_groups() do\n  print(group.name, group.vlan, group.switch)\nend";

    type Bound = BoundHost;
    type Output = Vec<PortGroup>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.filtered("network", "read")?;
        binder.host(&self.host)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Vec<PortGroup>, Fault> {
        let groups = bound.host.client.port_groups(&bound.system).await?;
        let readable = groups.into_iter().filter(|group| pass.may_read("network", &group.name));
        let row = |group: crate::esxi::PortGroup| PortGroup {
            name: group.name,
            vlan: group.vlan,
            switch: group.switch,
            host_cards: group.host_cards,
        };
        Ok(readable.map(row).collect())
    }
}
