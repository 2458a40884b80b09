//! What a document does, as people, plans and records are shown it.
//!
//! SSH keys as fingerprints, contents and commands as their size or their secrets' names, hashes not at all.

use serde_json::{Map, Value, json};

use super::forms::{Command, Sudo};
use super::network::Network;
use super::reip::Reip;
use super::spec::{Dialect, File, Spec, User};
use super::ssh_key;

pub(super) fn of(spec: &Spec, network: Option<&Network>) -> Value {
    let mut out = Map::new();
    out.insert("hostname".into(), json!(spec.hostname));
    if let Some(fqdn) = &spec.fqdn {
        out.insert("fqdn".into(), json!(fqdn));
    }
    if spec.dialect == Dialect::CloudbaseInit {
        out.insert("dialect".into(), json!("cloudbase-init"));
    }
    list(&mut out, "groups", spec.groups.0.iter().map(|group| json!(group)));
    list(&mut out, "users", spec.users.iter().map(user));
    list(&mut out, "ssh_keys", spec.ssh_keys.0.iter().map(|key| json!(ssh_key::fingerprint(key))));
    ssh(spec, &mut out);
    out.insert("network".into(), network.map_or_else(|| json!("the image's default"), Network::describe));
    list(
        &mut out,
        "packages",
        spec.packages.0.iter().map(|package| match &package.version {
            Some(version) => json!(format!("{} {version}", package.name)),
            None => json!(package.name),
        }),
    );
    for (key, set) in [
        ("package_upgrade", spec.package_upgrade),
        ("reboot_if_required", spec.reboot_if_required),
        ("remove_default_ca_certificates", spec.remove_default_ca_certificates),
    ] {
        if set {
            out.insert(key.into(), json!(true));
        }
    }
    list(&mut out, "files", spec.files.iter().map(file));
    list(&mut out, "boot_commands", spec.boot_commands.iter().map(command));
    list(&mut out, "commands", spec.commands.iter().map(command));
    storage(spec, &mut out);
    if let Some(ntp) = &spec.ntp {
        out.insert("ntp".into(), ntp.servers.0.iter().chain(&ntp.pools.0).map(|name| json!(name)).collect());
    }
    for (key, value) in [("timezone", &spec.timezone), ("locale", &spec.locale)] {
        if let Some(value) = value {
            out.insert(key.into(), json!(value));
        }
    }
    if let Some(keyboard) = &spec.keyboard {
        out.insert("keyboard".into(), json!(keyboard.layout));
    }
    if !spec.ca_certificates.0.is_empty() {
        out.insert("ca_certificates".into(), json!(spec.ca_certificates.0.len()));
    }
    if let Some(raw) = &spec.raw {
        out.insert("raw".into(), json!({ "bytes": raw.shown() }));
    }
    list(&mut out, "parts", spec.parts.iter().map(|part| json!({ "type": part.kind, "bytes": part.content.shown() })));
    if let Some(vendor_data) = &spec.vendor_data {
        out.insert("vendor_data".into(), json!({ "bytes": vendor_data.shown() }));
    }
    Value::Object(out)
}

pub(super) fn of_reip(reip: &Reip, network: &Network) -> Value {
    let mut out = Map::new();
    if let Some(hostname) = &reip.hostname {
        out.insert("hostname".into(), json!(hostname));
    }
    out.insert("network".into(), network.describe());
    out.insert("reip".into(), json!("the network alone: accounts, host keys, host name and packages stay as they are"));
    Value::Object(out)
}

fn list(out: &mut Map<String, Value>, key: &str, values: impl Iterator<Item = Value>) {
    let values: Vec<Value> = values.collect();
    if !values.is_empty() {
        out.insert(key.into(), Value::Array(values));
    }
}

fn user(user: &User) -> Value {
    let sudo = match &user.sudo {
        Sudo::No => json!(false),
        Sudo::All => json!(true),
        Sudo::Rule(rule) => json!(rule),
    };
    let keys: Vec<String> = user.ssh_keys.0.iter().map(|key| ssh_key::fingerprint(key)).collect();
    let mut out = Map::new();
    out.insert("name".into(), json!(user.name));
    out.insert("groups".into(), json!(user.groups.0));
    out.insert("sudo".into(), sudo);
    out.insert("ssh_keys".into(), json!(keys));
    if user.password_hash.is_some() || user.password.is_some() {
        out.insert("password".into(), json!("set"));
    }
    if let Some(uid) = user.uid {
        out.insert("uid".into(), json!(uid));
    }
    if let Some(day) = &user.expires {
        out.insert("expires".into(), json!(day));
    }
    Value::Object(out)
}

fn ssh(spec: &Spec, out: &mut Map<String, Value>) {
    let mut ssh = Map::new();
    if spec.ssh.password_login {
        ssh.insert("password_login".into(), json!(true));
    }
    list(&mut ssh, "host_keys", spec.ssh.host_keys.iter().map(|key| json!(ssh_key::fingerprint(&key.public))));
    if !ssh.is_empty() {
        out.insert("ssh".into(), Value::Object(ssh));
    }
}

fn file(file: &File) -> Value {
    let bytes = match (&file.content, &file.content_base64) {
        (Some(content), _) => content.shown(),
        (None, Some(encoded)) => json!(encoded.len() / 4 * 3),
        (None, None) => json!(0),
    };
    let mut out = json!({ "path": file.path, "bytes": bytes });
    if let (Value::Object(out), Some(owner)) = (&mut out, &file.owner) {
        out.insert("owner".into(), json!(owner));
    }
    out
}

fn command(command: &Command) -> Value {
    match command {
        Command::Shell(line) => match line.shown() {
            Value::Number(size) => json!(format!("a shell script of {size} bytes")),
            secret => json!(format!("a shell script with {}", secret.as_str().unwrap_or_default())),
        },
        Command::Program(words) => match words.first().and_then(|word| word.if_plain()) {
            Some(program) => json!(program),
            None => json!("a program"),
        },
    }
}

fn storage(spec: &Spec, out: &mut Map<String, Value>) {
    list(out, "disks", spec.disks.iter().map(|disk| {
        json!({ "device": disk.device, "partitions": disk.partitions.len().max(1), "overwrite": disk.overwrite })
    }));
    list(
        out,
        "filesystems",
        spec.filesystems
            .iter()
            .map(|made| json!({ "device": made.device, "filesystem": made.filesystem, "overwrite": made.overwrite })),
    );
    list(out, "mounts", spec.mounts.iter().map(|mount| json!({ "device": mount.device, "path": mount.path })));
    if let Some(swap) = &spec.swap {
        out.insert("swap".into(), json!(swap.size));
    }
    if let Some(grow) = &spec.grow {
        out.insert("grow".into(), json!(grow.enabled));
    }
}
