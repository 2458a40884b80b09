//! What a machine is besides accounts, files and disks: time, language, keyboard, the SSH server, trusted authorities.
//!
//! Modules of cloud-init: `ntp`, `timezone`, `locale`, `keyboard`, `ssh`, `set_passwords` (for `ssh_pwauth`), `ca_certs`.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::forms::Strings;
use super::host_key;
use super::spec::Spec;
use super::text::Text;

const MOST_SERVERS: usize = 64;
const MOST_CERTIFICATES: usize = 512;

/// Time servers.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitNtp")]
pub struct Ntp {
    /// Servers, each by name or address.
    #[serde(default)]
    pub servers: Strings,
    /// Pools: names that stand for several servers. Default, where `servers` are empty too: the distribution's.
    #[serde(default)]
    pub pools: Strings,
}

/// The keyboard of the console.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitKeyboard")]
pub struct Keyboard {
    /// The layout, such as `de`.
    pub layout: String,
    /// The model. Default: `pc105`.
    #[serde(default)]
    pub model: Option<String>,
    /// The layout's variant, such as `nodeadkeys`.
    #[serde(default)]
    pub variant: Option<String>,
    /// Options of XKB, such as `compose:rwin`.
    #[serde(default)]
    pub options: Option<String>,
}

/// The SSH server.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitSsh")]
pub struct Ssh {
    /// Whether passwords are taken. Default: false.
    #[serde(default)]
    pub password_login: bool,
    /// Host keys to use, at most one of each type. Default: the guest makes its own.
    #[serde(default)]
    pub host_keys: Vec<HostKey>,
    /// Whether host keys that the image has are deleted. Default: true, as clones of an image must not share them.
    #[serde(default)]
    pub delete_host_keys: Option<bool>,
    /// Whether root cannot log in. Default: what the image says, usually true.
    #[serde(default)]
    pub disable_root: Option<bool>,
}

/// An SSH host key.
#[derive(Clone, Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitHostKey")]
pub struct HostKey {
    /// The private key as ssh-keygen writes it, without a passphrase. It must be a secret.
    pub private: Text,
    /// The public key, as in the `.pub` file.
    pub public: String,
}

/// Checks all of it and writes the keys.
pub(super) fn build(root: &At, spec: &Spec, config: &mut Map<String, Value>) -> Result<(), Error> {
    ssh(&root.field("ssh"), &spec.ssh, config)?;
    if let Some(zone) = &spec.timezone {
        timezone(&root.field("timezone"), zone)?;
        config.insert("timezone".into(), json!(zone));
    }
    if let Some(name) = &spec.locale {
        locale(&root.field("locale"), name)?;
        config.insert("locale".into(), json!(name));
    }
    if let Some(ntp) = &spec.ntp {
        config.insert("ntp".into(), self::ntp(&root.field("ntp"), ntp)?);
    }
    keyboard(&root.field("keyboard"), spec.keyboard.as_ref(), config)?;
    certificates(root, spec, config)
}

fn ssh(at: &At, ssh: &Ssh, config: &mut Map<String, Value>) -> Result<(), Error> {
    config.insert("ssh_pwauth".into(), json!(ssh.password_login));
    if let Some(delete) = ssh.delete_host_keys {
        config.insert("ssh_deletekeys".into(), json!(delete));
    }
    if let Some(disable) = ssh.disable_root {
        config.insert("disable_root".into(), json!(disable));
    }
    let mut keys = Map::new();
    for (index, key) in ssh.host_keys.iter().enumerate() {
        let at = at.field("host_keys").item(index);
        let (kind, private, public) = host_key::check(&at, key)?;
        if keys.insert(format!("{kind}_private"), json!(private.as_str())).is_some() {
            return Err(at.is(Problem::Twice(Shown::new(kind))));
        }
        keys.insert(format!("{kind}_public"), json!(public));
    }
    if !keys.is_empty() {
        config.insert("ssh_keys".into(), Value::Object(keys));
    }
    Ok(())
}

/// An IANA name: it becomes a path below `/usr/share/zoneinfo`.
pub(super) fn timezone(at: &At, zone: &str) -> Result<(), Error> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte))
    };
    if zone.len() <= 64 && zone.split('/').count() <= 3 && zone.split('/').all(part) {
        return Ok(());
    }
    Err(at.is(Problem::TimeZone(Shown::new(zone))))
}

/// A locale as `locale -a` writes it: language, territory, character set, modifier.
fn locale(at: &At, name: &str) -> Result<(), Error> {
    let (rest, modifier) = name.split_once('@').map_or((name, None), |(rest, modifier)| (rest, Some(modifier)));
    let (language, charset) = rest.split_once('.').map_or((rest, None), |(rest, charset)| (rest, Some(charset)));
    let word = |text: &str| {
        !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let known = matches!(language, "C" | "POSIX")
        || language.split_once('_').map_or(language, |(language, _)| language).bytes().all(|b| b.is_ascii_lowercase());
    let territory = language.split_once('_').is_none_or(|(_, territory)| {
        (2..=3).contains(&territory.len()) && territory.bytes().all(|byte| byte.is_ascii_uppercase())
    });
    if known
        && territory
        && language.split('_').next().is_some_and(word)
        && charset.is_none_or(word)
        && modifier.is_none_or(word)
    {
        return Ok(());
    }
    Err(at.is(Problem::Locale(Shown::new(name))))
}

/// Names or addresses of time servers.
pub(super) fn ntp(at: &At, ntp: &Ntp) -> Result<Value, Error> {
    let mut out = Map::new();
    for (key, list) in [("servers", &ntp.servers.0), ("pools", &ntp.pools.0)] {
        let at = at.field(key);
        check::at_most(&at, list.len(), MOST_SERVERS)?;
        for (index, name) in list.iter().enumerate() {
            if name.parse::<std::net::IpAddr>().is_err() {
                check::domain(&at.item(index), name)?;
            }
        }
        check::distinct(&at, list.iter().map(String::as_str))?;
        if !list.is_empty() {
            out.insert(key.into(), json!(list));
        }
    }
    // With no server at all the distribution's own are used; an empty table would be taken for nothing.
    if out.is_empty() {
        out.insert("enabled".into(), json!(true));
    }
    Ok(Value::Object(out))
}

fn keyboard(at: &At, keyboard: Option<&Keyboard>, config: &mut Map<String, Value>) -> Result<(), Error> {
    let Some(keyboard) = keyboard else { return Ok(()) };
    let mut out = Map::new();
    for (key, value) in [
        ("layout", Some(&keyboard.layout)),
        ("model", keyboard.model.as_ref()),
        ("variant", keyboard.variant.as_ref()),
        ("options", keyboard.options.as_ref()),
    ] {
        let Some(value) = value else { continue };
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b",:_-+()".contains(&byte);
        // It stands between quotes in a file that a shell reads.
        if value.is_empty() || value.len() > 128 || !value.bytes().all(safe) {
            return Err(at.field(key).is(Problem::Keyboard(Shown::new(value))));
        }
        out.insert(key.into(), json!(value));
    }
    config.insert("keyboard".into(), Value::Object(out));
    Ok(())
}

fn certificates(root: &At, spec: &Spec, config: &mut Map<String, Value>) -> Result<(), Error> {
    let at = root.field("ca_certificates");
    let list = &spec.ca_certificates.0;
    check::at_most(&at, list.len(), MOST_CERTIFICATES)?;
    let mut trusted = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        trusted.push(certificate(&at.item(index), text)?);
    }
    check::distinct(&at, trusted.iter().map(String::as_str))?;
    if trusted.is_empty() && !spec.remove_default_ca_certificates {
        return Ok(());
    }
    let mut out = Map::new();
    if spec.remove_default_ca_certificates {
        out.insert("remove_defaults".into(), json!(true));
    }
    if !trusted.is_empty() {
        out.insert("trusted".into(), json!(trusted));
    }
    config.insert("ca_certs".into(), Value::Object(out));
    Ok(())
}

/// One or more certificates in PEM, as they came, with one line end after each.
fn certificate(at: &At, text: &str) -> Result<String, Error> {
    let bad = |why| at.is(Problem::Certificate(why));
    if text.contains("PRIVATE KEY") {
        return Err(at.is(Problem::PrivateKey));
    }
    let mut found = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|_| bad("a block of PEM is damaged or cut off"))?;
        if block.label != "CERTIFICATE" {
            return Err(bad("it has a block that is no certificate"));
        }
        let (rest, _) = x509_parser::parse_x509_certificate(&block.contents)
            .map_err(|_| bad("what the PEM holds is no X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(bad("something follows a certificate within its block"));
        }
        found += 1;
    }
    if found == 0 {
        return Err(bad("it has no block of PEM"));
    }
    if let Some(c) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(at.is(Problem::Control(u32::from(c))));
    }
    Ok(format!("{}\n", text.trim().replace("\r\n", "\n")))
}
