//! What a playbook writes: the typed input of a cloud-init document. Its comments are the public reference.
//!
//! Shapes only. Whether a value can be taken is decided in [`super::document`] and the files it calls, which know the field's path.

use std::fmt;

use schemars::JsonSchema;

use super::forms::{Command, Nics, Strings, Sudo};

/// A machine's first-boot configuration, as cloud-init understands it.
///
/// Only `hostname` is required. Everything else is left to the image where it is absent: without `users` the image's own user is
/// made, without `network` the first network card asks for an address by DHCP.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInit")]
pub struct Spec {
    /// The machine's name: one label of RFC 1123, so 1 to 63 letters, digits and hyphens, without a domain.
    pub hostname: String,
    /// The name with its domain, such as `web-1.example.org`. Its first label is the host name.
    #[serde(default)]
    pub fqdn: Option<String>,
    /// The accounts to make. Where this is given, the image's own user (`debian`, `ubuntu`, …) is not made.
    #[serde(default)]
    pub users: Vec<User>,
    /// SSH public keys that may log in as each of `users`, or as the image's own user where there are no `users`.
    #[serde(default)]
    pub ssh_keys: Strings,
    /// The network card, or a list of cards, VLANs, bonds and bridges. A card without `mac` takes the machine's next card, in the machine's own order.
    #[serde(default)]
    pub network: Option<Nics>,
    /// Packages of the image's distribution to install, by name. The package lists are updated first.
    #[serde(default)]
    pub packages: Strings,
    /// Files to write. They are there before `commands` run.
    #[serde(default)]
    pub files: Vec<File>,
    /// Commands to run as root, once, late in the first boot, in this order.
    #[serde(default)]
    pub commands: Vec<Command>,
}

/// One account.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitUser")]
pub struct User {
    /// The account's name: small letters, digits, `_` and `-`, at most 32, beginning with a letter or `_`.
    pub name: String,
    /// The person's name or the account's purpose.
    #[serde(default)]
    pub gecos: Option<String>,
    /// SSH public keys that may log in, each one line as in `authorized_keys`.
    #[serde(default)]
    pub ssh_keys: Strings,
    /// Groups the account joins besides its own. Groups that the image does not have are made.
    #[serde(default)]
    pub groups: Strings,
    /// What the account may do with sudo: `true` for everything without a password, a rule such as
    /// `"ALL=(root) NOPASSWD:/usr/bin/apt-get"`, or `false` (the default).
    #[serde(default)]
    pub sudo: Sudo,
    /// The login shell, as an absolute path. Default: the image's.
    #[serde(default)]
    pub shell: Option<String>,
    /// Whether logging in with a password is impossible. Default: true.
    #[serde(default = "yes")]
    pub lock_password: bool,
}

/// One file to write.
#[derive(Clone, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitFile")]
pub struct File {
    /// Where, as an absolute path. Folders on the way are made.
    pub path: String,
    /// The whole content, as text.
    pub content: String,
    /// The mode, as octal digits in a string. Default: `0644`.
    #[serde(default)]
    pub mode: Option<String>,
    /// The owner, as `user` or `user:group`. Default: `root:root`. A file of another owner is written after the accounts are made.
    #[serde(default)]
    pub owner: Option<String>,
    /// Whether the content is added to what the file holds, in place of replacing it. Default: false.
    #[serde(default)]
    pub append: bool,
}

fn yes() -> bool {
    true
}

impl fmt::Debug for File {
    /// Leaves the content out: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("bytes", &self.content.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Spec, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_single_value_stands_for_a_list_of_one() {
        let spec = read(json!({ "hostname": "a", "ssh_keys": "k", "network": { "dns": "10.0.0.1" } })).unwrap();
        assert_eq!(spec.ssh_keys.0, ["k"]);
        assert_eq!(spec.network.unwrap().0[0].dns.0, ["10.0.0.1"]);
    }

    #[test]
    fn an_empty_table_is_an_empty_list_or_one_card() {
        let spec = read(json!({ "hostname": "a", "ssh_keys": {}, "packages": [], "network": {} })).unwrap();
        assert!(spec.ssh_keys.0.is_empty() && spec.packages.0.is_empty());
        assert_eq!(spec.network.unwrap().0.len(), 1);
        let spec = read(json!({ "hostname": "a", "network": [] })).unwrap();
        assert_eq!(spec.network.unwrap().0.len(), 1);
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_refused() {
        for (value, part) in [
            (json!({ "hostname": "a", "host": "b" }), "unknown field `host`"),
            (json!({ "hostname": 1 }), "invalid type: integer"),
            (json!({}), "missing field `hostname`"),
            (json!({ "hostname": "a", "ssh_keys": 1 }), "a string or a list of strings"),
            (json!({ "hostname": "a", "ssh_keys": { "x": "y" } }), "a string or a list of strings"),
            (json!({ "hostname": "a", "network": "dhcp" }), "a table for one network card"),
            (json!({ "hostname": "a", "network": { "adress": "x" } }), "unknown field `adress`"),
            (json!({ "hostname": "a", "users": [{ "name": "x", "sudo": 1 }] }), "true, false or a rule"),
            (json!({ "hostname": "a", "users": [{ "name": "x", "password": "y" }] }), "unknown field `password`"),
            (json!({ "hostname": "a", "commands": [1] }), "a line for the shell"),
            (json!({ "hostname": "a", "files": [{ "path": "/x" }] }), "missing field `content`"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }

    #[test]
    fn debug_output_leaves_contents_out() {
        let spec = read(
            json!({ "hostname": "a", "files": [{ "path": "/x", "content": "s3cret" }], "commands": ["s3cret", ["s3cret"]] }),
        );
        assert!(!format!("{:?}", spec.unwrap()).contains("s3cret"));
    }
}
