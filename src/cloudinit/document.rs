//! A checked document: opaque, without a machine yet; a machine's cards and UUID make guestinfo of it.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::encode::{self, GuestInfo};
use super::error::{At, Error};
use super::forms::{Command, Sudo};
use super::mac::MacAddress;
use super::network::{self, Network};
use super::spec::Spec;
use super::{meta_data, ssh_key, user_data};
use crate::error::Fault;

/// A cloud-init document whose every field has been checked. Made by [`super::build`] alone.
///
/// Debug shows the host name only: the content may hold secrets.
#[derive(Clone)]
pub struct Document {
    hostname: String,
    user_data: String,
    network: Option<Network>,
    outline: Value,
}

/// The machine that a document is for: what is known of it once it exists.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The machine's `instanceUuid` (or BIOS UUID): the instance-id comes from it.
    pub uuid: &'a str,
    /// The MAC addresses of its network cards, in the machine's own order.
    pub macs: &'a [MacAddress],
}

pub(super) fn build(spec: &Spec) -> Result<Document, Error> {
    let user_data = user_data::build(spec)?;
    let network = match &spec.network {
        Some(nics) => Some(network::check(&At::root().field("network"), nics)?),
        None => None,
    };
    // What is too large for any machine is refused now, not when a machine has been made for it.
    if encode::may_be_too_large(&user_data) {
        GuestInfo::new("", &user_data)?;
    }
    let outline = outline(spec, network.as_ref());
    Ok(Document { hostname: spec.hostname.clone(), user_data, network, outline })
}

impl Document {
    /// The guestinfo for one machine.
    ///
    /// The instance-id comes from the machine's UUID alone. So a guest acts on the first document that it boots with, and on none
    /// that is sent later: it keeps its address, its host keys and its accounts. Errors: `cloudinit.invalid` (fewer cards than the document configures, no card with a MAC address
    /// that it names, a UUID that is none), `cloudinit.too_large`.
    pub fn render(&self, target: Target<'_>) -> Result<GuestInfo, Fault> {
        let uuid = Uuid::parse_str(target.uuid).map_err(|_| Error::NotAUuid(target.uuid.chars().take(64).collect()))?;
        let network = match &self.network {
            Some(network) => Some(network.render(target.macs)?),
            None => None,
        };
        let metadata = meta_data::build(&self.hostname, uuid, network)?;
        Ok(GuestInfo::new(&metadata, &self.user_data)?)
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.user_data.len() + (4 << 10)
    }

    /// The machine's host name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The addresses given by hand, of all cards: what the guest must report once it is provisioned. Empty where DHCP decides.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.network.iter().flat_map(Network::addresses).collect()
    }

    /// What the document does, for people, plans and records: SSH keys as fingerprints, files and commands without their text.
    pub fn describe(&self) -> &Value {
        &self.outline
    }

    /// The user-data as the guest gets it. It may hold secrets: for the guest and for tests, never for a log.
    pub fn user_data(&self) -> &str {
        &self.user_data
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

fn outline(spec: &Spec, network: Option<&Network>) -> Value {
    let fingerprints = |keys: &[String]| -> Value { keys.iter().map(|key| ssh_key::fingerprint(key)).collect() };
    let mut out = Map::new();
    out.insert("hostname".into(), json!(spec.hostname));
    if let Some(fqdn) = &spec.fqdn {
        out.insert("fqdn".into(), json!(fqdn));
    }
    if !spec.users.is_empty() {
        let users = spec.users.iter().map(|user| {
            let sudo = match &user.sudo {
                Sudo::No => json!(false),
                Sudo::All => json!(true),
                Sudo::Rule(rule) => json!(rule),
            };
            json!({ "name": user.name, "groups": user.groups.0, "sudo": sudo, "ssh_keys": fingerprints(&user.ssh_keys.0) })
        });
        out.insert("users".into(), users.collect());
    }
    if !spec.ssh_keys.0.is_empty() {
        out.insert("ssh_keys".into(), fingerprints(&spec.ssh_keys.0));
    }
    out.insert("network".into(), network.map_or_else(|| json!("the image's default"), Network::describe));
    if !spec.packages.0.is_empty() {
        out.insert("packages".into(), json!(spec.packages.0));
    }
    if !spec.files.is_empty() {
        let files = spec.files.iter().map(|file| json!({ "path": file.path, "bytes": file.content.len() }));
        out.insert("files".into(), files.collect());
    }
    if !spec.commands.is_empty() {
        let commands = spec.commands.iter().map(|command| match command {
            Command::Shell(line) => json!(format!("a shell script of {} bytes", line.len())),
            Command::Program(words) => json!(words.first()),
        });
        out.insert("commands".into(), commands.collect());
    }
    Value::Object(out)
}
