//! A machine's configuration as it is asked for. Only fields of API 6.5, in the API's order.
//!
//! A field newer than the negotiated version makes a host refuse the whole request.
//! Specification: vSphere Web Services API, `VirtualMachineConfigSpec`.

use std::collections::BTreeMap;

use crate::units::Bytes;
use crate::xml::Element;

use super::error::Error;
use super::soap::string_value;

/// The fields that this client sets; what is `None` stays as it is, or as the host would have it.
#[derive(Debug, Default)]
pub(super) struct ConfigSpec<'a> {
    pub name: Option<&'a str>,
    pub version: Option<&'a str>,
    pub guest_id: Option<&'a str>,
    pub notes: Option<&'a str>,
    pub path: Option<&'a str>,
    pub cpus: Option<u32>,
    pub cores_per_socket: Option<u32>,
    pub memory: Option<Bytes>,
    pub devices: Vec<Element>,
    pub extra_config: Vec<(&'a str, &'a str)>,
    pub cpu_hot_add: Option<bool>,
    pub memory_hot_add: Option<bool>,
    pub secure_boot: Option<bool>,
    pub firmware: Option<&'a str>,
    /// Whether all of its memory is reserved for it, as much as it ever has; `Some(false)` reserves none any more.
    pub memory_locked: Option<bool>,
}

impl ConfigSpec<'_> {
    pub(super) fn element(&self, name: &str) -> Result<Element, Error> {
        let memory = self.memory.map(whole_mebibytes).transpose()?;
        if self.cpus == Some(0) {
            return Err(Error::Invalid { reason: "a machine needs at least one CPU".to_owned(), hint: None });
        }
        let mut spec = Element::new(name);
        let mut add = |name: &str, text: Option<String>| {
            if let Some(text) = text {
                spec.children.push(Element::leaf(name, text));
            }
        };
        add("name", self.name.map(escape_name));
        add("version", self.version.map(str::to_owned));
        add("guestId", self.guest_id.map(str::to_owned));
        add("annotation", self.notes.map(str::to_owned));
        if let Some(path) = self.path {
            spec = spec.with(Element::new("files").with(Element::leaf("vmPathName", path)));
        }
        let mut add = |name: &str, number: Option<u64>| {
            if let Some(number) = number {
                spec.children.push(Element::leaf(name, number.to_string()));
            }
        };
        add("numCPUs", self.cpus.map(u64::from));
        add("numCoresPerSocket", self.cores_per_socket.map(u64::from));
        add("memoryMB", memory);
        for (name, on) in [("memoryHotAddEnabled", self.memory_hot_add), ("cpuHotAddEnabled", self.cpu_hot_add)] {
            spec.children.extend(on.map(|on| Element::leaf(name, on.to_string())));
        }
        spec.children.extend(self.devices.iter().cloned());
        if self.memory_locked == Some(false) {
            spec = spec.with(Element::new("memoryAllocation").with(Element::leaf("reservation", "0")));
        }
        for (key, value) in &self.extra_config {
            let option = Element::new("extraConfig").typed("OptionValue").with(Element::leaf("key", *key));
            spec = spec.with(option.with(string_value("value", *value)));
        }
        if let Some(on) = self.secure_boot {
            spec = spec.with(Element::new("bootOptions").with(Element::leaf("efiSecureBootEnabled", on.to_string())));
        }
        if let Some(firmware) = self.firmware {
            spec = spec.with(Element::leaf("firmware", firmware));
        }
        if let Some(locked) = self.memory_locked {
            spec = spec.with(Element::leaf("memoryReservationLockedToMax", locked.to_string()));
        }
        Ok(spec)
    }
}

fn whole_mebibytes(memory: Bytes) -> Result<u64, Error> {
    let mebibytes = memory.0 / (1 << 20);
    if memory.0.is_multiple_of(4 << 20) && mebibytes >= 4 {
        return Ok(mebibytes);
    }
    Err(Error::Invalid {
        reason: format!("{memory} is no size for a machine's memory"),
        hint: Some("memory comes in steps of 4 MiB, such as \"2 GiB\"".to_owned()),
    })
}

/// A name as it goes over the wire: `%`, `/` and `\` are escaped as in a URL, nothing else is.
pub(super) fn escape_name(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f").replace('\\', "%5c")
}

/// Extra configuration as pairs, in a stable order.
pub(super) fn pairs(map: &BTreeMap<String, String>) -> Result<Vec<(&str, &str)>, Error> {
    if let Some(key) = map.keys().find(|key| key.is_empty() || key.chars().any(|c| c.is_control() || c.is_whitespace()))
    {
        let reason = format!("{key:?} is no key of extra configuration");
        return Err(Error::Invalid { reason, hint: Some("keys look like guestinfo.userdata".to_owned()) });
    }
    Ok(map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
}
