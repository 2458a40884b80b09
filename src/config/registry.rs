//! `hosts.yaml`: the hosts that `ceso host` keeps.
//!
//! A file of its own, so that the comments in `config.yaml` are never rewritten; both are one list, and a name in both is an
//! error. Written whole or not at all, mode 0600, one command after the other. It holds no password.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{self, Guard};
use super::settings::HostEntry;
use super::sources::Home;
use super::values::{ENVIRONMENT, SIMULATOR, check_name};
use super::yaml;
use crate::error::Fault;

const HEADING: &str =
    "# Written by `ceso host`; comments here are lost. Hosts can be described by hand in config.yaml.\n";

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hosts: BTreeMap<String, HostEntry>,
}

/// Checks what `hosts.yaml` adds: hosts only, and none that a configuration file already names.
pub(super) fn check_layer(layer: &Map<String, Value>, file: &Path, below: &Map<String, Value>) -> Result<(), Fault> {
    if let Some(key) = layer.keys().find(|key| *key != "hosts") {
        return Err(Fault::new("config.invalid", format!("{}: the key {key:?} does not belong here", file.display()))
            .hint("this file holds hosts only; other settings belong into config.yaml"));
    }
    super::own_names(layer, file)?;
    let known = below.get("hosts").and_then(Value::as_object);
    for name in layer.get("hosts").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name) {
        if known.is_some_and(|known| known.contains_key(name)) {
            return Err(Fault::new(
                "config.invalid",
                format!("the host {name:?} stands both in {} and in a configuration file", file.display()),
            )
            .hint(format!("remove one of them: `ceso host remove {name}` removes it from hosts.yaml")));
        }
    }
    Ok(())
}

/// Checks a name for a new host.
pub fn check_new_name(name: &str) -> Result<(), Fault> {
    if name == SIMULATOR || name == ENVIRONMENT {
        return Err(Fault::new("usage.host_name", format!("the name {name:?} is reserved")).hint(super::reserved(name)));
    }
    check_name(name).map_err(|why| {
        Fault::new("usage.host_name", format!("{:?} cannot name a host: {why}", super::printable(name)))
            .hint("choose a plain name, such as \"esx1\" or \"lab-2\"")
    })
}

/// Reads the file, lets `change` alter the hosts, and writes it back, under a lock.
///
/// Faults: those of reading and writing, and those of `change`, after which the file is as it was.
pub fn update<T>(
    home: &Home,
    change: impl FnOnce(&mut BTreeMap<String, HostEntry>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let path = home.hosts_file();
    let _held = files::lock(&home.0.join(".hosts.lock"))?;
    let mut file = read(&path)?;
    let result = change(&mut file.hosts)?;
    let text = serde_saphyr::to_string_with_options(&file, serde_saphyr::ser_options! { prefer_block_scalars: false })
        .map_err(|error| {
            Fault::new("config.unwritable", format!("{} could not be written: {error}", path.display())).cause(error)
        })?;
    // What cannot be read back must not replace what could.
    let written = format!("{HEADING}{text}");
    yaml::parse(written.as_bytes(), &path.display().to_string())?;
    files::write_private(&path, written.as_bytes())?;
    Ok(result)
}

/// The hosts of the file, whatever the rest of the configuration says.
pub fn read_hosts(home: &Home) -> Result<BTreeMap<String, HostEntry>, Fault> {
    read(&home.hosts_file()).map(|file| file.hosts)
}

fn read(path: &Path) -> Result<File, Fault> {
    let Some(bytes) = files::read(path, yaml::MAX_BYTES, Guard::Owned)? else { return Ok(File::default()) };
    let place = path.display().to_string();
    let anchor = super::schema::Anchor { folder: path.parent().unwrap_or(Path::new("/")).to_owned(), home: None };
    let layer = super::schema::check(yaml::parse(&bytes, &place)?, &place, &anchor)?;
    serde_json::from_value(Value::Object(layer)).map_err(|error| {
        Fault::new("config.invalid", format!("{place}: {}", super::printable(&error.to_string())))
            .hint("correct the file by hand, or move it away and add the hosts again")
    })
}
