//! The files of good and bad input.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use ceso::cloudinit::{self, Document, GuestInfo, MacAddress, Spec, Target};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::meant::Interface;

/// The UUID of every machine in these tests.
pub const UUID: &str = "564D1234-ABCD-4EF0-8123-0123456789AB";

/// A good input and what the guest must end up with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Good {
    pub spec: Spec,
    #[serde(default = "one_card")]
    pub macs: Vec<String>,
    pub guest: Guest,
}

/// What the guest must end up with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    #[serde(default)]
    pub fqdn: Option<String>,
    pub interfaces: BTreeMap<String, Interface>,
    pub dns: BTreeSet<String>,
    pub search: BTreeSet<String>,
    /// Where the user-data has several parts: what the guest's cloud-config has in the end, among others.
    #[serde(default)]
    pub cloud_config: Option<Value>,
}

impl Guest {
    /// What `renderers.py` answers where the guest ends up with this.
    pub fn answer(&self) -> Value {
        json!({ "interfaces": self.interfaces, "dns": self.dns, "search": self.search })
    }
}

/// A bad input and what its error must say. The input stays untyped: it may fail at its types.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bad {
    pub spec: Value,
    pub error: String,
}

fn one_card() -> Vec<String> {
    vec!["00:50:56:00:00:01".to_owned()]
}

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloudinit").join(name)
}

fn load<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<(String, T)> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let case = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap());
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            cases.push((stem.clone(), case.unwrap_or_else(|error| panic!("{stem}: {error}"))));
        }
    }
    cases.sort_by(|(a, _), (b, _)| a.cmp(b));
    cases
}

pub fn good() -> Vec<(String, Good)> {
    load("good")
}

pub fn bad() -> Vec<(String, Bad)> {
    load("bad")
}

impl Good {
    pub fn document(&self) -> Document {
        cloudinit::build(&self.spec).unwrap_or_else(|fault| panic!("{}: {fault}", self.spec.hostname))
    }

    pub fn guestinfo(&self) -> GuestInfo {
        self.document().render(Target { uuid: UUID, macs: &self.cards() }).unwrap()
    }

    pub fn cards(&self) -> Vec<MacAddress> {
        self.macs.iter().map(|mac| mac.parse().unwrap()).collect()
    }
}

/// One guestinfo value, decoded.
pub fn decoded(guestinfo: &GuestInfo, key: &str) -> String {
    let get = |key: &str| guestinfo.entries().find(|(name, _)| *name == key).unwrap().1.to_owned();
    cloudinit::decode(&get(key), &get(&format!("{key}.encoding"))).unwrap()
}

/// The cloud-configs of a user-data: itself, or those among its MIME parts.
pub fn cloud_configs(user_data: &str) -> Vec<String> {
    if user_data.starts_with("#cloud-config\n") {
        return vec![user_data.to_owned()];
    }
    let parts = user_data.split("\nContent-Type: text/").skip(1);
    let configs = parts.filter(|part| part.starts_with("cloud-config;")).map(|part| {
        let (_, body) = part.split_once("\n\n").unwrap();
        let body: String = body.split("\n\n--").next().unwrap().split_whitespace().collect();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap()).unwrap()
    });
    configs.collect()
}

/// The meta-data as a value.
pub fn metadata(guestinfo: &GuestInfo) -> Value {
    serde_json::from_str(&decoded(guestinfo, "guestinfo.metadata")).unwrap()
}

/// Any spec, from JSON.
pub fn spec(value: Value) -> Spec {
    serde_json::from_value(value).unwrap()
}
