//! What is allowed and yet probably not meant: each warning names its field and what will happen.

use std::collections::HashSet;

use schemars::JsonSchema;

use super::error::At;
use super::forms::Nics;
use super::parts;
use super::spec::{Dialect, Spec};
use super::text::Text;

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[schemars(rename = "CloudInitWarning")]
pub struct Warning {
    /// The field's path, such as `users[1].lock_password`.
    pub at: String,
    /// What will happen.
    pub message: String,
}

struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, at: &At, message: &str) {
        self.0.push(Warning { at: at.to_string(), message: message.to_owned() });
    }
}

pub(super) fn of(spec: &Spec) -> Vec<Warning> {
    let mut found = Warnings(Vec::new());
    let root = At::root();
    login(&root, spec, &mut found);
    accounts(&root.field("users"), spec, &mut found);
    files(&root.field("files"), spec, &mut found);
    network(&root, spec, &mut found);
    machine(&root, spec, &mut found);
    raw(&root.field("raw"), spec, &mut found);
    found.0
}

/// The warnings of a network alone.
pub(super) fn of_network(nics: &Nics) -> Vec<Warning> {
    let mut found = Warnings(Vec::new());
    routes(&At::root().field("network"), nics, &mut found);
    found.0
}

fn login(root: &At, spec: &Spec, found: &mut Warnings) {
    // What is written out by hand may make accounts of its own.
    if spec.raw.is_some() || !spec.parts.is_empty() || spec.vendor_data.is_some() {
        return;
    }
    if spec.users.is_empty() {
        if spec.ssh_keys.0.is_empty() && spec.dialect == Dialect::CloudInit {
            found.add(&root.field("ssh_keys"), "nobody can log in by what this says: the image's own user gets no key");
        }
        return;
    }
    let can = |user: &super::spec::User| {
        !user.ssh_keys.0.is_empty() || user.password_hash.is_some() || user.password.is_some()
    };
    if spec.ssh_keys.0.is_empty() && !spec.users.iter().any(can) {
        found.add(&root.field("users"), "nobody can log in: no account has an SSH key or a password");
    }
}

fn accounts(at: &At, spec: &Spec, found: &mut Warnings) {
    for (index, user) in spec.users.iter().enumerate() {
        let at = at.item(index);
        if user.password_hash.is_some() && user.lock_password == Some(true) {
            found.add(&at.field("lock_password"), "the password cannot be used: logging in with one is locked");
        }
        if user.password_hash.is_none() && user.lock_password == Some(false) && spec.dialect == Dialect::CloudInit {
            found.add(&at.field("lock_password"), "there is no password to log in with");
        }
        if user.password_hash.as_ref().is_some_and(|hash| !hash.has_secret()) {
            found.add(&at.field("password_hash"), "it is written out in the script: a secret is seen by fewer");
        }
    }
}

fn files(at: &At, spec: &Spec, found: &mut Warnings) {
    for (index, file) in spec.files.iter().enumerate() {
        let open = file.mode.as_deref().is_some_and(|mode| !mode.ends_with('0'));
        if open && file.content.as_ref().is_some_and(Text::has_secret) {
            found.add(&at.item(index).field("mode"), "every account in the guest can read the secret");
        }
    }
}

fn network(root: &At, spec: &Spec, found: &mut Warnings) {
    let Some(nics) = &spec.network else { return };
    let at = root.field("network");
    let reaches = routes(&at, nics, found);
    if !reaches && (!spec.packages.0.is_empty() || spec.package_upgrade) {
        found.add(
            &root.field("packages"),
            "they cannot be fetched: the network reaches no other subnet or has no name server",
        );
    }
}

/// Warns of static networks that reach nothing; answers whether names and other subnets can be reached.
fn routes(at: &At, nics: &Nics, found: &mut Warnings) -> bool {
    let members: HashSet<&str> = nics
        .0
        .iter()
        .flat_map(|nic| {
            let bond = nic.bond.iter().flat_map(|bond| &bond.members.0);
            bond.chain(nic.bridge.iter().flat_map(|bridge| &bridge.members.0)).map(String::as_str)
        })
        .collect();
    let dhcp = nics.0.iter().enumerate().any(|(index, nic)| {
        let name = nic.name.clone().unwrap_or_else(|| format!("eth{index}"));
        let asks = nic.address.0.is_empty() && !members.contains(name.as_str());
        asks || nic.address.0.iter().any(|text| text.starts_with("dhcp"))
    });
    if dhcp {
        return true;
    }
    let servers = nics.0.iter().any(|nic| !nic.dns.0.is_empty());
    let gateway = nics.0.iter().any(|nic| !nic.gateway.0.is_empty());
    if !servers {
        found.add(&at.field("dns"), "no name can be looked up: no card has a name server or DHCP");
    }
    if !gateway {
        found.add(&at.field("gateway"), "only the cards' own subnets can be reached: no card has a gateway or DHCP");
    }
    servers && gateway
}

fn machine(root: &At, spec: &Spec, found: &mut Warnings) {
    if spec.ssh.delete_host_keys == Some(false) && spec.ssh.host_keys.is_empty() {
        let at = root.field("ssh").field("delete_host_keys");
        found.add(&at, "every machine from this image has the same host keys");
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        if disk.overwrite {
            found.add(
                &root.field("disks").item(index).field("overwrite"),
                "what is on the disk is lost at the first boot",
            );
        }
    }
    for (index, made) in spec.filesystems.iter().enumerate() {
        if made.overwrite {
            found.add(
                &root.field("filesystems").item(index).field("overwrite"),
                "what is on the device is lost at the first boot",
            );
        }
    }
    if spec.remove_default_ca_certificates && spec.ca_certificates.0.is_empty() {
        found.add(&root.field("remove_default_ca_certificates"), "the machine trusts no authority at all");
    }
}

/// By cloud-init's own rules a key of `raw` replaces the fields' key as a whole.
fn raw(at: &At, spec: &Spec, found: &mut Warnings) {
    let (Some(raw), None) = (&spec.raw, &spec.merge) else { return };
    let Ok(text) = raw.string(at) else { return };
    let Ok(serde_json::Value::Object(keys)) = parts::cloud_config(at, &text) else { return };
    if keys.contains_key("merge_how") || keys.contains_key("merge_type") {
        return;
    }
    let ours = [
        ("users", !spec.users.is_empty()),
        ("groups", !spec.groups.0.is_empty()),
        ("packages", !spec.packages.0.is_empty()),
        ("write_files", !spec.files.is_empty()),
        ("runcmd", !spec.commands.is_empty()),
        ("bootcmd", !spec.boot_commands.is_empty()),
        ("mounts", !spec.mounts.is_empty()),
        ("ssh_authorized_keys", !spec.ssh_keys.0.is_empty()),
        ("hostname", true),
    ];
    for (key, set) in ours {
        if set && keys.contains_key(key) {
            found.add(at, &format!("its key `{key}` replaces what the fields say of it; `merge` can join them"));
        }
    }
}
