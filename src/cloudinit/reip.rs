//! A new network for a machine that already runs, and nothing else.
//!
//! cloud-init takes a network only when it meets a new instance-id, and a new instance-id makes it run every once-per-instance module
//! again: SSH host keys, accounts, host name, package sources, locale. So a re-IP carries a new id, and user-data that forbids each
//! module what it would do by default; it has no packages, files, mounts, disks or commands, so these modules find nothing to do. A test runs the
//! modules themselves and compares what the guest has before and after.
//!
//! The id comes from the machine's UUID and the network: the same re-IP again changes nothing, another one is noticed, and the way back is as
//! good as the way there.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::check;
use super::error::{At, Error};
use super::forms::Nics;
use super::spec::Dialect;
use super::user_data::{Wiped, cloud_config};

/// What a machine that already runs is to have as its network.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitReip")]
pub struct Reip {
    /// The network card, or a list of them, all that the machine is to have configured: what is not named is not configured.
    pub network: Nics,
    /// The machine's host name as it is now. It is not changed; some guests write it into `/etc/hosts` and logs. Default: left to the guest.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Which program reads the data in the guest. Only `"cloud-init"` (the default) can take a new network: cloudbase-init does all of its
    /// work again for a new instance-id, and gives the accounts new passwords.
    #[serde(default)]
    pub dialect: Dialect,
}

/// The protective user-data.
pub(super) fn user_data(reip: &Reip) -> Result<Zeroizing<String>, Error> {
    let root = At::root();
    if reip.dialect == Dialect::CloudbaseInit {
        return Err(Error::ReipOnWindows);
    }
    if let Some(hostname) = &reip.hostname {
        check::hostname(&root.field("hostname"), hostname)?;
    }
    let mut config = Map::new();
    config.insert("ssh_deletekeys".into(), json!(false));
    config.insert("preserve_hostname".into(), json!(true));
    config.insert("manage_etc_hosts".into(), json!(false));
    // No account, not even the image's own. Not `[]`: the schema of cloud-init before 23 wants an entry.
    config.insert("users".into(), json!([[]]));
    config.insert("apt".into(), json!({ "preserve_sources_list": true }));
    // As text, for the same reason: the module takes the word too, and does nothing.
    config.insert("locale".into(), json!("false"));
    cloud_config(&Wiped(Value::Object(config)))
}
