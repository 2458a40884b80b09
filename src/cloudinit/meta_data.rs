//! Meta-data: who the machine is, and its network, as `DataSourceVMware` and `DataSourceNoCloud` read them.
//!
//! The instance-id decides what a guest does again: cloud-init runs its once-per-instance modules (host keys, accounts, commands)
//! whenever it changes. So that of a first boot comes from the machine's UUID alone: a second sending or a changed document keeps it, and
//! makes the guest do nothing again; a clone has its own. That of a re-IP comes from the network too.

use serde_json::{Map, Value, json};

use super::error::Error;
use super::yaml;

/// What a guest is told of itself.
pub(super) struct MetaData<'a> {
    pub(super) instance_id: String,
    pub(super) hostname: Option<&'a str>,
    /// Keys for the image's own user.
    pub(super) public_keys: &'a [String],
    pub(super) network: Option<Value>,
}

impl MetaData<'_> {
    /// `guestinfo.metadata`: the network stands inside.
    pub(super) fn for_vmware(&self) -> Result<String, Error> {
        let mut fields = self.common();
        if !self.public_keys.is_empty() {
            fields.insert("public-keys-data".into(), json!(self.public_keys.join("\n")));
        }
        if let Some(network) = &self.network {
            fields.insert("network".into(), network.clone());
        }
        line_ended(Value::Object(fields))
    }

    /// `meta-data` of a NoCloud seed.
    pub(super) fn for_nocloud(&self) -> Result<String, Error> {
        let mut fields = self.common();
        if !self.public_keys.is_empty() {
            fields.insert("public-keys".into(), json!(self.public_keys));
        }
        line_ended(Value::Object(fields))
    }

    /// `network-config` of a NoCloud seed, where there is one.
    pub(super) fn network_config(&self) -> Result<Option<String>, Error> {
        self.network.clone().map(line_ended).transpose()
    }

    fn common(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("instance-id".into(), json!(self.instance_id));
        if let Some(hostname) = self.hostname {
            fields.insert("local-hostname".into(), json!(hostname));
        }
        fields
    }
}

fn line_ended(value: Value) -> Result<String, Error> {
    let mut text = yaml::to_text(&value)?;
    text.push('\n');
    Ok(text)
}
