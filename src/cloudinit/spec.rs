//! What a playbook writes: the typed input of a cloud-init document. Its comments are the public reference.
//!
//! Shapes only. Whether a value can be taken is decided in [`super::document`] and the files it calls, which know the field's path.

use std::fmt;

use schemars::JsonSchema;

use super::forms::{Command, Nics, Packages, Strings, Sudo};
use super::machine::{Keyboard, Ntp, Ssh};
use super::parts::Part;
use super::storage::{Disk, Filesystem, Grow, Mount, Swap};
use super::text::Text;

/// A machine's first-boot configuration, as cloud-init understands it.
///
/// Only `hostname` is required. Everything else is left to the image where it is absent: without `users` the image's own user is
/// made, without `network` the first network card asks for an address by DHCP. What has no field here goes into `raw`.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInit")]
pub struct Spec {
    /// The machine's name: one label of RFC 1123, so 1 to 63 letters, digits and hyphens, without a domain. Windows: at most 15.
    pub hostname: String,
    /// The name with its domain, such as `web-1.example.org`. Its first label is the host name. Not on Windows.
    #[serde(default)]
    pub fqdn: Option<String>,
    /// Which program reads the data in the guest: `"cloud-init"` (the default) or `"cloudbase-init"`, which is what Windows runs. The
    /// second knows less: what it cannot do is refused, and each field says so.
    #[serde(default)]
    pub dialect: Dialect,
    /// Whether cloud-init keeps `/etc/hosts` in step with the host name at each boot. Default: what the image says. Not on Windows.
    #[serde(default)]
    pub manage_etc_hosts: Option<bool>,
    /// Groups to make besides those that accounts name. Windows: local groups.
    #[serde(default)]
    pub groups: Strings,
    /// The accounts to make. Where this is given, the image's own user (`debian`, `ubuntu`, …) is not made.
    #[serde(default)]
    pub users: Vec<User>,
    /// SSH public keys that may log in as each of `users`, or as the image's own user where there are no `users`.
    #[serde(default)]
    pub ssh_keys: Strings,
    /// The SSH server: host keys, and whether passwords are taken. Default: passwords are not taken. Not on Windows.
    #[serde(default)]
    pub ssh: Ssh,
    /// The network card, or a list of cards, VLANs, bonds and bridges. A card without `mac` takes the machine's next card, in the machine's own order.
    #[serde(default)]
    pub network: Option<Nics>,
    /// Packages of the image's distribution to install: names, or tables of `name` and `version`. The package lists are updated
    /// first. Not on Windows.
    #[serde(default)]
    pub packages: Packages,
    /// Whether the package lists are updated. Default: true where `packages` are given or `package_upgrade` is set. Not on Windows.
    #[serde(default)]
    pub package_update: Option<bool>,
    /// Whether all packages are brought up to date. Default: false. Not on Windows.
    #[serde(default)]
    pub package_upgrade: bool,
    /// Whether the machine restarts where an installed or upgraded package asks for it. Default: false. Not on Windows.
    #[serde(default)]
    pub reboot_if_required: bool,
    /// Files to write. They are there before `commands` run.
    #[serde(default)]
    pub files: Vec<File>,
    /// Commands to run as root at every boot, very early: before the disks are set up and mostly without a network. Not on Windows.
    #[serde(default)]
    pub boot_commands: Vec<Command>,
    /// Commands to run as root, once, late in the first boot, in this order. Windows: by `cmd.exe` as the service's account.
    #[serde(default)]
    pub commands: Vec<Command>,
    /// Disks to partition. Done before `filesystems`. Not on Windows.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// File systems to make. Done before `mounts`. Not on Windows.
    #[serde(default)]
    pub filesystems: Vec<Filesystem>,
    /// What to mount, now and at each boot: entries of `/etc/fstab`. Not on Windows.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// A file to swap to. Not on Windows.
    #[serde(default)]
    pub swap: Option<Swap>,
    /// Which partitions grow to fill their disk, at each boot. Default: the one that holds `/`. Not on Windows.
    #[serde(default)]
    pub grow: Option<Grow>,
    /// Time servers.
    #[serde(default)]
    pub ntp: Option<Ntp>,
    /// The time zone by its IANA name, such as `Europe/Berlin`.
    #[serde(default)]
    pub timezone: Option<String>,
    /// The locale, such as `de_DE.UTF-8`. Not on Windows.
    #[serde(default)]
    pub locale: Option<String>,
    /// The keyboard of the console. Not on Windows.
    #[serde(default)]
    pub keyboard: Option<Keyboard>,
    /// Certificates of authorities to trust, each as PEM; one text may hold several. Not on Windows.
    #[serde(default)]
    pub ca_certificates: Strings,
    /// Whether the authorities that the image trusts are forgotten. Default: false. Not on Windows.
    #[serde(default)]
    pub remove_default_ca_certificates: bool,
    /// Cloud-config written out by hand, for what has no field here: YAML, with or without `#cloud-config` in front.
    ///
    /// It comes after the fields as a MIME part of its own, and the guest merges the two by cloud-init's rules: by default a key in `raw`
    /// replaces the same key of the fields as a whole. `merge`, or a key `merge_how` in the text itself, says otherwise. Not on Windows.
    #[serde(default)]
    pub raw: Option<Text>,
    /// How `raw` is merged with the fields, in cloud-init's words, such as `"list(append)+dict(recurse_list)+str()"`. Needs `raw`.
    #[serde(default)]
    pub merge: Option<String>,
    /// Further MIME parts, in this order, after the fields and `raw`.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Vendor data: cloud-config (beginning with `#cloud-config`), a script or any other text that cloud-init takes as user-data. What the fields say goes before it. Not on Windows.
    #[serde(default)]
    pub vendor_data: Option<Text>,
}

/// The program in the guest that reads the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[schemars(rename = "CloudInitDialect", inline)]
pub enum Dialect {
    /// cloud-init, on Linux and BSD.
    #[default]
    #[serde(rename = "cloud-init")]
    CloudInit,
    /// cloudbase-init, on Windows.
    #[serde(rename = "cloudbase-init")]
    CloudbaseInit,
}

/// One account.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitUser")]
pub struct User {
    /// The account's name: small letters, digits, `_` and `-`, at most 32, beginning with a letter or `_`. Windows: at most 20
    /// characters, none of `"/\[]:;|=,+*?<>@`.
    pub name: String,
    /// The person's name or the account's purpose.
    #[serde(default)]
    pub gecos: Option<String>,
    /// SSH public keys that may log in, each one line as in `authorized_keys`.
    #[serde(default)]
    pub ssh_keys: Strings,
    /// Groups the account joins besides its own. Groups that the image does not have are made. Windows: local groups, such as
    /// `Administrators`, which must be there or be named in the document's `groups`.
    #[serde(default)]
    pub groups: Strings,
    /// The account's own group, in place of one of its name. Not on Windows.
    #[serde(default)]
    pub primary_group: Option<String>,
    /// What the account may do with sudo: `true` for everything without a password, a rule such as
    /// `"ALL=(root) NOPASSWD:/usr/bin/apt-get"`, or `false` (the default). Not on Windows.
    #[serde(default)]
    pub sudo: Sudo,
    /// The login shell, as an absolute path. Default: the image's. Not on Windows.
    #[serde(default)]
    pub shell: Option<String>,
    /// The password as a hash in crypt's modular form (`$6$…`, `$5$…`, `$y$…`, `$2b$…`), best a secret. Never a password. Not on
    /// Windows, which takes `password`.
    #[serde(default)]
    pub password_hash: Option<Text>,
    /// Windows alone: the password itself, which must be a secret. Default: a random one that nobody knows.
    #[serde(default)]
    pub password: Option<Text>,
    /// Whether logging in with a password is impossible. Default: true, but false where `password_hash` is given. Not on Windows.
    #[serde(default)]
    pub lock_password: Option<bool>,
    /// The account's number, 1 to 4294967294. Not on Windows.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Whether it is a system account: a low number, and no home folder. Default: false. Not on Windows.
    #[serde(default)]
    pub system: bool,
    /// The home folder, as an absolute path. Default: the image's rule, usually `/home/NAME`. Not on Windows.
    #[serde(default)]
    pub home: Option<String>,
    /// Whether the home folder is made. Default: true, but false for a system account.
    #[serde(default)]
    pub create_home: Option<bool>,
    /// The day on which the account stops, as `YYYY-MM-DD`.
    #[serde(default)]
    pub expires: Option<String>,
}

/// One file to write.
#[derive(Clone, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitFile")]
pub struct File {
    /// Where, as an absolute path. Folders on the way are made. Windows: with a drive, such as `C:\app\app.ini`.
    pub path: String,
    /// The whole content: a text, a secret, or a list of both, which is joined. Any bytes.
    #[serde(default)]
    pub content: Option<Text>,
    /// The whole content in base64, in place of `content`.
    #[serde(default)]
    pub content_base64: Option<String>,
    /// The mode, as octal digits in a string. Default: `0644`, but `0600` where the content has a secret. Not on Windows.
    #[serde(default)]
    pub mode: Option<String>,
    /// The owner, as `user` or `user:group`. Default: `root:root`. A file of another owner is written after the accounts are made.
    /// Not on Windows.
    #[serde(default)]
    pub owner: Option<String>,
    /// Whether the content is added to what the file holds, in place of replacing it. Default: false.
    #[serde(default)]
    pub append: bool,
    /// Whether the file is written late, after packages are installed and accounts made. Default: false, but true for a file of
    /// another owner than root. Not on Windows.
    #[serde(default)]
    pub defer: Option<bool>,
}

impl fmt::Debug for File {
    /// Leaves the content out: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("content", &self.content).finish_non_exhaustive()
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
            (json!({ "hostname": "a", "users": [{ "name": "x", "passwd": "y" }] }), "unknown field `passwd`"),
            (json!({ "hostname": "a", "commands": [1] }), "a line for the shell"),
            (json!({ "hostname": "a", "files": [{ "path": "/x", "content": 1 }] }), "a text, a secret, or a list"),
            (
                json!({ "hostname": "a", "files": [{ "path": "/x", "content": { "id": 1 } }] }),
                "a text, a secret, or a list",
            ),
            (json!({ "hostname": "a", "commands": [[["x", ["y"]]]] }), "a text or a secret"),
            (json!({ "hostname": "a", "packages": [{ "name": "x", "v": "1" }] }), "unknown field `v`"),
            (json!({ "hostname": "a", "dialect": "windows" }), "unknown variant `windows`"),
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
