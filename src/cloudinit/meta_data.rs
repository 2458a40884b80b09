//! Meta-data: who the machine is, and its network, as `DataSourceVMware` reads them out of `guestinfo.metadata`.
//!
//! The instance-id decides what a guest does again: cloud-init runs its once-per-instance modules (host keys, accounts, commands)
//! whenever it changes. So it comes from the machine's UUID alone: a second sending or a changed document keeps it, and makes the guest do nothing
//! again; a clone has its own.

use serde_json::{Value, json};
use uuid::Uuid;

use super::error::Error;
use super::yaml;

pub(super) fn build(hostname: &str, instance: Uuid, network: Option<Value>) -> Result<String, Error> {
    let mut data = json!({ "instance-id": format!("ceso-{instance}"), "local-hostname": hostname });
    if let (Value::Object(fields), Some(network)) = (&mut data, network) {
        fields.insert("network".into(), network);
    }
    let mut text = yaml::to_text(&data)?;
    text.push('\n');
    Ok(text)
}
