//! The cloud-init data in a machine's `extraConfig`, as the VMware data source of cloud-init reads it.
//!
//! Data that a real guest could not read is no data: the guest boots without it, as with a broken seed.

use std::collections::BTreeMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::{Applied, network};
use crate::sim::vm::Vm;

/// What one key may unpack to; a guest gets about 1 MB in all.
const LARGEST: u64 = 4 << 20;

/// A machine's metadata and the name in its user-data.
pub struct Document {
    metadata: Json,
    user_hostname: Option<String>,
    always_network: bool,
}

/// Reads the data of a machine; nothing where there is none, or none that can be read.
pub fn read(vm: &Vm) -> Option<Document> {
    let metadata = decoded(vm, "guestinfo.metadata").and_then(|text| yaml(&text));
    let user =
        decoded(vm, "guestinfo.userdata").filter(|text| text.starts_with("#cloud-config")).and_then(|text| yaml(&text));
    if metadata.is_none() && user.is_none() {
        return None;
    }
    Some(document(metadata, user))
}

/// The data of a seed image: its network is a file of its own.
pub fn of_seed(files: &BTreeMap<String, String>) -> Document {
    let file = |name: &str| files.get(name).and_then(|text| yaml(text));
    let user = files.get("user-data").filter(|text| text.starts_with("#cloud-config")).and_then(|text| yaml(text));
    let mut metadata = file("meta-data").filter(Json::is_object);
    if let (Some(Json::Object(fields)), Some(network)) = (&mut metadata, file("network-config")) {
        fields.insert("network".to_owned(), network);
    }
    document(metadata, user)
}

fn document(metadata: Option<Json>, user: Option<Json>) -> Document {
    let text = |name: &str| user.as_ref().and_then(|user| user.get(name)).and_then(Json::as_str).map(str::to_owned);
    let user_hostname = text("fqdn").or_else(|| text("hostname"));
    let when = user.as_ref().and_then(|user| user.pointer("/updates/network/when")).and_then(Json::as_array);
    let always_network = when.is_some_and(|when| when.iter().any(|event| event == "boot"));
    let metadata = metadata.filter(Json::is_object).unwrap_or_else(|| Json::Object(serde_json::Map::new()));
    Document { metadata, user_hostname, always_network }
}

impl Document {
    /// What the guest makes of it. With the instance-id that it applied before, it leaves the network as it is, unless the user-data
    /// has it applied at every boot.
    pub fn apply(&self, vm: &Vm, before: Option<&Applied>) -> Applied {
        let text = |name: &str| self.metadata.get(name).and_then(Json::as_str).map(str::to_owned);
        let instance_id = text("instance-id").unwrap_or_else(|| vm.uuid.clone());
        if let Some(before) = before.filter(|before| before.instance_id == instance_id && !self.always_network) {
            return before.clone();
        }
        let hostname = self.user_hostname.clone().or_else(|| text("local-hostname")).or_else(|| text("hostname"));
        let mut applied = network::read(self.network().as_ref(), vm);
        // Data that names no machine, as a re-IP's, leaves the name that the guest has.
        let kept = || before.map_or_else(|| super::UNNAMED.to_owned(), |before| before.hostname.clone());
        applied.hostname = hostname.filter(|name| !name.is_empty()).unwrap_or_else(kept);
        applied.instance_id = instance_id;
        applied
    }

    /// The network configuration: a map, or a string with an encoding of its own, with or without a `network:` around it.
    fn network(&self) -> Option<Json> {
        let found = match self.metadata.get("network")? {
            Json::String(text) => {
                let encoding = self.metadata.get("network.encoding").and_then(Json::as_str).unwrap_or_default();
                yaml(&unpack(text, encoding)?)?
            }
            map => map.clone(),
        };
        let inner =
            ["network", "config"].iter().find_map(|name| found.get(name).filter(|inner| inner.is_object()).cloned());
        Some(inner.unwrap_or(found))
    }
}

/// Overwrites the keys that the metadata asks to be redacted, as the guest does once it has read them.
pub fn redact(vm: &mut Vm) {
    let Some(document) = read(vm) else { return };
    for list in ["redact", "cleanup-guestinfo"] {
        for key in document.metadata.get(list).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            for key in [format!("guestinfo.{key}"), format!("guestinfo.{key}.encoding")] {
                if vm.extra(&key).is_some() {
                    vm.set_extra(&key, if key.ends_with(".encoding") { "" } else { "---" });
                }
            }
        }
    }
}

/// A key's text, unpacked as its encoding says; nothing where it is not there, was redacted, or cannot be read.
pub fn decoded(vm: &Vm, key: &str) -> Option<String> {
    let text = vm.extra(key).filter(|text| !text.is_empty() && *text != "---")?;
    unpack(text, vm.extra(&format!("{key}.encoding")).unwrap_or_default())
}

fn unpack(text: &str, encoding: &str) -> Option<String> {
    let raw = || STANDARD.decode(text.split_whitespace().collect::<String>()).ok();
    let bytes = match encoding {
        "base64" | "b64" => raw()?,
        "gzip+base64" | "gz+b64" => {
            let mut bytes = Vec::new();
            flate2::read::GzDecoder::new(raw()?.as_slice()).take(LARGEST).read_to_end(&mut bytes).ok()?;
            bytes
        }
        "" => text.as_bytes().to_vec(),
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

fn yaml(text: &str) -> Option<Json> {
    serde_saphyr::from_str(text).ok()
}
