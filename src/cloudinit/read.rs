//! What a machine has in its extra configuration, decoded, for people: who it is, its network, and an outline of the rest.
//!
//! What is there was written by anyone, or overwritten by the guest: every part says how it was found, and nothing here fails. Texts are
//! bounded, secrets never come out: of user-data only the names of keys, accounts, packages and paths are told.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::encode;
use super::ssh_key;

/// What a machine has.
#[derive(Clone, Debug, PartialEq, serde::Serialize, JsonSchema)]
#[schemars(rename = "CloudInitSeen")]
pub struct Seen {
    /// How `guestinfo.metadata` was found.
    pub metadata: Found,
    /// How `guestinfo.userdata` was found.
    pub userdata: Found,
    /// How `guestinfo.vendordata` was found.
    pub vendordata: Found,
    /// The host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The instance-id: a guest that meets a new one does its first-boot work again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The addresses given by hand, of all cards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpAddr>,
    /// The network configuration as it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Value>,
    /// What the user-data does, without contents, commands and passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outline: Option<Value>,
}

/// How one part was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[schemars(rename = "CloudInitFound")]
pub struct Found {
    /// `absent`, `redacted` (the guest has overwritten it with `---`), `damaged` or `present`.
    pub state: State,
    /// The bytes that it decodes to, where it is present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What is wrong, where it is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a part was found, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "CloudInitState", inline)]
pub enum State {
    /// There is none.
    Absent,
    /// The guest has overwritten it.
    Redacted,
    /// It cannot be read.
    Damaged,
    /// It can be read.
    Present,
}

/// What cloud-init writes over a key that it has read.
const REDACTED: &str = "---";
/// More than this many entries of a list are told by their number.
const MOST_SHOWN: usize = 64;
/// More than this much YAML is not taken apart: no seed that fits a machine has so much to tell.
const LONGEST_READ: usize = 4 << 20;

/// Decodes what a machine has; `existing` looks up its extra configuration.
pub fn read<'a>(existing: impl Fn(&str) -> Option<&'a str>) -> Seen {
    let part = |key: &str| {
        let value = existing(key).filter(|value| !value.is_empty());
        unpacked(value, existing(&format!("{key}.encoding")).unwrap_or_default())
    };
    let (mut metadata, meta_text) = part("guestinfo.metadata");
    let (userdata, user_text) = part("guestinfo.userdata");
    let (vendordata, _) = part("guestinfo.vendordata");
    let fields = match meta_text.as_deref().map(table) {
        Some(Ok(fields)) => fields,
        Some(Err(problem)) => {
            metadata = Found { state: State::Damaged, bytes: metadata.bytes, problem: Some(problem) };
            Map::new()
        }
        None => Map::new(),
    };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).map(clean);
    let network = network(&fields);
    Seen {
        hostname: text("local-hostname").or_else(|| text("hostname")),
        instance_id: text("instance-id"),
        addresses: network.as_ref().map(addresses).unwrap_or_default(),
        network,
        outline: user_text.as_deref().map(outline),
        metadata,
        userdata,
        vendordata,
    }
}

fn unpacked(value: Option<&str>, encoding: &str) -> (Found, Option<String>) {
    let found = |state, bytes, problem| Found { state, bytes, problem };
    match value {
        None => (found(State::Absent, None, None), None),
        Some(value) if value.trim() == REDACTED => (found(State::Redacted, None, None), None),
        Some(value) => match encode::unpack(value, encoding) {
            Ok(text) => (found(State::Present, u64::try_from(text.len()).ok(), None), Some(text)),
            Err(error) => (found(State::Damaged, None, Some(error.to_string())), None),
        },
    }
}

fn table(text: &str) -> Result<Map<String, Value>, String> {
    if text.len() > LONGEST_READ {
        return Err("it is too long to be read".into());
    }
    // What ceso writes is JSON, which is far quicker to read.
    let value = serde_json::from_str(text).or_else(|_| serde_saphyr::from_str::<Value>(text));
    match value {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is not a table of keys".into()),
        Err(_) => Err("it is not YAML".into()),
    }
}

/// A text of somebody else's, as it may be shown: bounded, and without control characters.
fn clean(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The network of meta-data: a table, or a text by `network.encoding`.
fn network(fields: &Map<String, Value>) -> Option<Value> {
    match fields.get("network")? {
        Value::Object(network) => {
            // Some write the whole file, in which the network stands once more.
            let inner = network.get("network").filter(|inner| inner.is_object());
            Some(inner.cloned().unwrap_or_else(|| Value::Object(network.clone())))
        }
        Value::String(text) => {
            let encoding = fields.get("network.encoding").and_then(Value::as_str).unwrap_or_default();
            let text = encode::unpack(text, encoding).ok()?;
            let read = table(&text).ok()?;
            network(&Map::from_iter([("network".to_owned(), Value::Object(read))]))
        }
        _ => None,
    }
}

/// Addresses given by hand, by either version of network configuration.
fn addresses(network: &Value) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut add = |text: &str| {
        let address = text.split('/').next().unwrap_or_default();
        if let Ok(address) = address.parse::<IpAddr>()
            && !found.contains(&address)
            && found.len() < MOST_SHOWN
        {
            found.push(address);
        }
    };
    for kind in ["ethernets", "bonds", "bridges", "vlans"] {
        for card in network.get(kind).and_then(Value::as_object).into_iter().flat_map(Map::values) {
            for address in card.get("addresses").and_then(Value::as_array).into_iter().flatten() {
                match address {
                    Value::String(text) => add(text),
                    // netplan takes an address with options as a table of one key.
                    Value::Object(with_options) => with_options.keys().for_each(|text| add(text)),
                    _ => {}
                }
            }
        }
    }
    for card in network.get("config").and_then(Value::as_array).into_iter().flatten() {
        for subnet in card.get("subnets").and_then(Value::as_array).into_iter().flatten() {
            if let Some(text) = subnet.get("address").and_then(Value::as_str) {
                add(text);
            }
        }
    }
    found
}

fn outline(text: &str) -> Value {
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("#cloud-config") {
        return match table(text) {
            Ok(fields) => Value::Object(cloud_config(&fields)),
            Err(problem) => json!({ "kind": "cloud-config", "problem": problem }),
        };
    }
    let head: String = text.chars().take(4096).collect::<String>().to_ascii_lowercase();
    let kind = if head.contains("mime-version:") {
        let parts: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Content-Type: text/"))
            .map(|rest| rest.split(';').next().unwrap_or_default())
            .take(MOST_SHOWN)
            .collect();
        return json!({ "kind": "multipart", "parts": parts.into_iter().map(clean).collect::<Vec<_>>() });
    } else if first.starts_with("#!") {
        "script"
    } else if first.starts_with("#include") {
        "include"
    } else if first.starts_with("#cloud-boothook") {
        "boothook"
    } else if first.starts_with("## template:") {
        "template"
    } else if text.trim().is_empty() {
        "empty"
    } else {
        "unknown"
    };
    json!({ "kind": kind })
}

fn cloud_config(fields: &Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::from_iter([("kind".to_owned(), json!("cloud-config"))]);
    let mut others = Vec::new();
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("hostname" | "fqdn" | "timezone" | "locale", Value::String(text)) => {
                out.insert(key.clone(), json!(clean(text)));
            }
            (
                "preserve_hostname" | "ssh_deletekeys" | "ssh_pwauth" | "package_update" | "package_upgrade",
                Value::Bool(flag),
            ) => {
                out.insert(key.clone(), json!(flag));
            }
            ("users", Value::Array(users)) => {
                out.insert(key.clone(), shown(users, user));
            }
            ("ssh_authorized_keys", Value::Array(keys)) => {
                out.insert("ssh_keys".into(), shown(keys, fingerprint));
            }
            ("packages", Value::Array(packages)) => {
                out.insert(
                    key.clone(),
                    shown(packages, |package| match package {
                        Value::Array(words) => words.first().map_or(Value::Null, word),
                        other => word(other),
                    }),
                );
            }
            ("write_files", Value::Array(files)) => {
                out.insert(
                    "files".into(),
                    shown(files, |file| {
                        let size = file.get("content").and_then(Value::as_str).map_or(0, str::len);
                        json!({ "path": file.get("path").map_or(Value::Null, word), "bytes": size })
                    }),
                );
            }
            ("runcmd", Value::Array(commands)) => {
                out.insert("commands".into(), json!(commands.len()));
            }
            ("bootcmd", Value::Array(commands)) => {
                out.insert("boot_commands".into(), json!(commands.len()));
            }
            ("mounts", Value::Array(mounts)) => {
                out.insert(key.clone(), shown(mounts, |mount| mount.get(1).map_or(Value::Null, word)));
            }
            _ if others.len() < MOST_SHOWN => others.push(clean(key)),
            _ => {}
        }
    }
    if !others.is_empty() {
        out.insert("others".into(), json!(others));
    }
    out
}

fn shown(list: &[Value], one: impl Fn(&Value) -> Value) -> Value {
    if list.len() > MOST_SHOWN {
        return json!(list.len());
    }
    list.iter().map(one).collect()
}

fn word(value: &Value) -> Value {
    value.as_str().map_or_else(|| json!("?"), |text| json!(clean(text)))
}

fn fingerprint(value: &Value) -> Value {
    value.as_str().map_or_else(|| json!("?"), |key| json!(ssh_key::fingerprint(key)))
}

fn user(value: &Value) -> Value {
    let Some(fields) = value.as_object() else { return word(value) };
    let mut out = Map::new();
    out.insert("name".into(), fields.get("name").map_or_else(|| json!("?"), word));
    if let Some(groups) = fields.get("groups") {
        out.insert(
            "groups".into(),
            match groups {
                Value::Array(list) => shown(list, word),
                other => word(other),
            },
        );
    }
    if let Some(Value::Array(keys)) = fields.get("ssh_authorized_keys") {
        out.insert("ssh_keys".into(), shown(keys, fingerprint));
    }
    if fields.contains_key("sudo") {
        out.insert("sudo".into(), json!(true));
    }
    if ["passwd", "hashed_passwd", "plain_text_passwd"].iter().any(|key| fields.contains_key(*key)) {
        out.insert("password".into(), json!("set"));
    }
    Value::Object(out)
}
