//! In what condition a host's hardware is, and which of its devices guests may be given.
//!
//! Specification: vSphere Web Services API, `HealthSystemRuntime`, `HostNumericSensorInfo`, `HostPciPassthruInfo`, `HostPciDevice`.

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::object::HostObject;
use super::property::boolean;
use super::vm_list::text;

/// One sensor, or one part of the hardware that is watched as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    pub name: String,
    /// `temperature`, `fan`, `power`, `voltage`, …; `memory`, `cpu`, `storage` for a part.
    pub kind: String,
    /// `green`, `yellow`, `red`, `unknown`.
    pub status: String,
    /// What the status means, in the host's words.
    pub summary: String,
    /// What it reads; parts read nothing.
    pub reading: Option<f64>,
    pub unit: Option<String>,
}

/// A PCI device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDevice {
    /// Its place on the bus, such as `0000:0b:00.0`.
    pub id: String,
    pub vendor: String,
    pub name: String,
    pub class: Option<String>,
    /// Whether it can be handed through, is set to be, and is now.
    pub capable: bool,
    pub enabled: bool,
    pub active: bool,
}

impl Host {
    /// What the sensors say. Empty where the host has no provider of them.
    pub async fn sensors(&self, _host: &Checked<HostObject>) -> Result<Vec<Sensor>, Error> {
        const PATH: &str = "runtime.healthSystemRuntime";
        let system = self.system(&[PATH]).await?;
        let Some(health) = system.get(PATH) else { return Ok(Vec::new()) };
        let mut sensors: Vec<Sensor> = match health.at("systemHealthInfo") {
            Some(info) => info.all("numericSensorInfo").map(sensor).collect(),
            None => Vec::new(),
        };
        if let Some(parts) = health.at("hardwareStatusInfo") {
            for (list, kind) in
                [("memoryStatusInfo", "memory"), ("cpuStatusInfo", "cpu"), ("storageStatusInfo", "storage")]
            {
                sensors.extend(parts.all(list).map(|part| state(part, "status", kind.to_owned())));
            }
        }
        Ok(sensors)
    }

    /// The PCI devices that the host can hand through to a guest, in the order of its bus.
    pub async fn passthrough_devices(&self, _host: &Checked<HostObject>) -> Result<Vec<PciDevice>, Error> {
        let system = self.system(&["hardware.pciDevice", "config.pciPassthruInfo"]).await?;
        let devices = system.get("hardware.pciDevice").map(|list| list.children.as_slice()).unwrap_or_default();
        let through = system.get("config.pciPassthruInfo").map(|list| list.children.as_slice()).unwrap_or_default();
        let rows = devices.iter().filter_map(|device| {
            let id = text(device, "id")?;
            let info = through.iter().find(|info| text(info, "id").as_ref() == Some(&id));
            let flag = |name| info.and_then(|info| info.text_at(name)).and_then(boolean).unwrap_or(false);
            flag("passthruCapable").then(|| PciDevice {
                vendor: text(device, "vendorName").unwrap_or_default(),
                name: text(device, "deviceName").unwrap_or_default(),
                class: text(device, "deviceClassName"),
                capable: true,
                enabled: flag("passthruEnabled"),
                active: flag("passthruActive"),
                id,
            })
        });
        Ok(rows.collect())
    }
}

fn state(part: &Element, status: &str, kind: String) -> Sensor {
    let at = |name: &str| text(part, &format!("{status}.{name}"));
    Sensor {
        name: text(part, "name").unwrap_or_default(),
        kind,
        status: at("key").map_or_else(|| "unknown".to_owned(), |key| key.to_lowercase()),
        summary: at("summary").unwrap_or_default(),
        reading: None,
        unit: None,
    }
}

fn sensor(info: &Element) -> Sensor {
    let number = |name: &str| info.text_at(name).and_then(|text| text.trim().parse::<i64>().ok());
    let reading = number("currentReading").map(|reading| {
        // The modifier is a power of ten; one that is none leaves the number as it is.
        let power = number("unitModifier").and_then(|power| i32::try_from(power).ok()).filter(|power| power.abs() < 30);
        reading as f64 * 10f64.powi(power.unwrap_or(0))
    });
    let kind = text(info, "sensorType").unwrap_or_default().to_lowercase();
    Sensor { reading, unit: text(info, "baseUnits"), ..state(info, "healthState", kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_is_read_with_its_power_of_ten_and_without_what_it_lacks() {
        let info = |inside: &str| {
            let document = format!("<x>{inside}</x>");
            crate::xml::parse(document.as_bytes(), crate::xml::Limits::default()).unwrap()
        };
        let read = sensor(&info(
            "<name>Temp</name><healthState><label>Green</label><summary>ok</summary><key>Green</key></healthState>\
             <currentReading>2350</currentReading><unitModifier>-2</unitModifier><baseUnits>Degrees C</baseUnits>\
             <sensorType>temperature</sensorType>",
        ));
        assert_eq!(
            (read.reading, read.status.as_str(), read.unit.as_deref()),
            (Some(23.5), "green", Some("Degrees C"))
        );
        let bare =
            sensor(&info("<name>x</name><unitModifier>9999999</unitModifier><currentReading>1</currentReading>"));
        assert_eq!((bare.reading, bare.status.as_str()), (Some(1.0), "unknown"));
    }
}
