//! Secrets that scripts may use by name and never see: where each is read from, what it is for, and which machines it may go to.
//!
//! A value is read when it is asked for, from a file of mode 0600, a variable or the keyring, and made known to [`crate::redact`]. This
//! room does not decide who may ask: the door does, by the capability `secret.use`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files::{self, Guard};
use super::secrets::{self, Kept};
use super::{Config, Environment};
use crate::error::{Fault, nearest};
use crate::redact;

/// The largest secret: a private key or a bundle of certificates.
const MAX_BYTES: usize = 64 << 10;
/// The largest secret of one line.
const MAX_LINE: usize = 4 << 10;

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretEntry {
    /// A file that holds it and that only you can read (mode 0600). Of several places the first is taken: file, env, keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/secrets/ops.hash"]))]
    pub file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["OPS_HASH"]))]
    pub env: Option<String>,
    /// The account under which the operating system's keyring holds it, for the service "ceso".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["ops-hash"]))]
    pub keyring: Option<String>,
    /// What it is for: it fits into fields of that kind alone.
    #[schemars(extend("examples" = ["token"]))]
    pub purpose: SecretPurpose,
    /// The machines that it may be given to: names, prefixes that end in "*", or "*"; without the setting none.
    #[serde(default, rename = "for")]
    #[schemars(extend("examples" = [["web-*"]]))]
    pub machines: Vec<String>,
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretPurpose {
    /// A password's hash in crypt's form, for an account.
    PasswordHash,
    /// A password itself, which Windows alone takes.
    Password,
    /// A private key: an SSH host key, or a file.
    PrivateKey,
    /// A token: in files, commands and user-data written out by hand.
    Token,
    /// Any other text: where a token fits.
    Text,
}

impl SecretPurpose {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::PasswordHash, Self::Password, Self::PrivateKey, Self::Token, Self::Text];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PasswordHash => "password_hash",
            Self::Password => "password",
            Self::PrivateKey => "private_key",
            Self::Token => "token",
            Self::Text => "text",
        }
    }

    /// Whether it is one line, whose end in a file is not a part of it.
    const fn is_line(self) -> bool {
        matches!(self, Self::PasswordHash | Self::Password | Self::Token)
    }
}

impl fmt::Display for SecretPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A secret that was read. Debug shows no value.
#[derive(Debug, Clone)]
pub struct NamedSecret {
    pub name: String,
    pub purpose: SecretPurpose,
    /// The machines that it may go to; `None`: any that the run may give data to.
    pub machines: Option<Vec<String>>,
    pub value: Arc<SecretString>,
}

impl SecretEntry {
    /// What cannot be said of one field alone.
    pub(super) fn check(&self) -> Result<(), String> {
        let places = [self.file.is_some(), self.env.is_some(), self.keyring.is_some()];
        if !places.contains(&true) {
            return Err("give one of \"file\", \"env\" and \"keyring\"".to_owned());
        }
        match self.machines.iter().find(|machine| !is_selector(machine)) {
            Some(machine) => Err(format!("for: {:?} is neither a name nor a prefix that ends in *", machine)),
            None => Ok(()),
        }
    }

    /// Whether `with` is this entry with fewer machines at most.
    pub(super) fn may_become(&self, with: &Self) -> bool {
        let narrowed = with.machines.iter().all(|machine| self.machines.iter().any(|own| contains(own, machine)));
        narrowed && Self { machines: self.machines.clone(), ..with.clone() } == *self
    }
}

fn is_selector(text: &str) -> bool {
    !text.is_empty() && text != "@made" && !text.strip_suffix('*').unwrap_or(text).contains('*')
}

fn contains(own: &str, other: &str) -> bool {
    own == other || own.strip_suffix('*').is_some_and(|prefix| other.starts_with(prefix))
}

impl Config {
    /// Reads the secret of that name.
    ///
    /// Faults: `config.no_secret` where there is none or its place holds none, `config.untrusted_file` where others can read its file.
    pub fn secret(&self, name: &str) -> Result<NamedSecret, Fault> {
        let known = &self.settings().secrets;
        let Some(entry) = known.get(name) else {
            let fault = Fault::new("config.no_secret", format!("there is no secret named {name:?}"));
            return Err(match nearest(name, known.keys().map(String::as_str)).first() {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint("describe it in ~/.ceso/config.yaml: secrets: { NAME: { file: PATH, purpose: token, for: [\"web-*\"] } }"),
            });
        };
        let text = match (&entry.file, &entry.env, &entry.keyring) {
            (Some(path), _, _) => from_file(name, path)?,
            (_, Some(variable), _) => from_variable(name, &self.environment, variable)?,
            (_, _, Some(account)) => match secrets::keyring_get(account) {
                Kept::Found(value) => Zeroizing::new(value.expose_secret().to_owned()),
                Kept::Absent => return Err(missing(name, format!("the keyring has no account {account:?}"))),
                Kept::Failed(why) => return Err(missing(name, format!("the keyring gave none: {why}"))),
            },
            (None, None, None) => return Err(missing(name, "no place is named".to_owned())),
        };
        let value = clean(name, entry.purpose, text)?;
        Ok(NamedSecret { name: name.to_owned(), purpose: entry.purpose, machines: Some(entry.machines.clone()), value })
    }

    /// Reads a secret that a person names for one parameter: `env:NAME`, `file:PATH` or `secret:NAME`.
    ///
    /// One of the configuration keeps its purpose and its machines; any other may go to every machine that the run may give data to.
    /// Faults: `usage.param` where it is none of the three forms; else as [`Config::secret`].
    pub fn secret_parameter(
        &self,
        parameter: &str,
        reference: &str,
        purpose: SecretPurpose,
    ) -> Result<NamedSecret, Fault> {
        let text = match reference.split_once(':') {
            Some(("secret", name)) => return self.secret(name),
            Some(("env", variable)) => from_variable(parameter, &self.environment, variable)?,
            Some(("file", path)) => {
                let home = self.environment.get("HOME")?.map(PathBuf::from);
                let path = match (Path::new(path).strip_prefix("~"), home) {
                    (Ok(rest), Some(home)) => home.join(rest),
                    _ => PathBuf::from(path),
                };
                from_file(parameter, &path)?
            }
            // What stands there may be the secret itself, which then stands in the list of processes: it is not repeated.
            _ => {
                return Err(Fault::new("usage.param", format!("{parameter}: a secret is named, never written out"))
                    .hint("give env:NAME, file:PATH or secret:NAME"));
            }
        };
        Ok(NamedSecret { name: parameter.to_owned(), purpose, machines: None, value: clean(parameter, purpose, text)? })
    }
}

pub(super) fn from_file(name: &str, path: &Path) -> Result<Zeroizing<String>, Fault> {
    let Some(bytes) = files::read(path, MAX_BYTES, Guard::Secret)? else {
        return Err(missing(name, format!("the file {} does not exist", path.display())));
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(missing(name, format!("{} is not UTF-8 text", path.display())))
        }
    }
}

pub(super) fn from_variable(name: &str, environment: &Environment, variable: &str) -> Result<Zeroizing<String>, Fault> {
    match environment.get(variable)? {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None => Err(missing(name, format!("the variable {variable} is not set"))),
    }
}

pub(super) fn clean(name: &str, purpose: SecretPurpose, text: Zeroizing<String>) -> Result<Arc<SecretString>, Fault> {
    let mut kept = text.as_str();
    if purpose.is_line() {
        kept = kept.strip_suffix('\n').unwrap_or(kept);
        kept = kept.strip_suffix('\r').unwrap_or(kept);
        if kept.chars().any(|c| c.is_control() && c != '\t') {
            return Err(missing(name, format!("it holds more than one line, and a {purpose} is one")));
        }
    }
    let most = if purpose.is_line() { MAX_LINE } else { MAX_BYTES };
    if kept.is_empty() || kept.contains('\0') || kept.len() > most {
        return Err(missing(name, format!("it is empty, holds a NUL or is larger than {} KiB", most >> 10)));
    }
    let value = SecretString::from(kept.to_owned());
    redact::know(&value, format!("secret {name}"));
    Ok(Arc::new(value))
}

fn missing(name: &str, why: String) -> Fault {
    Fault::new("config.no_secret", format!("the secret {name:?} was not read: {why}"))
        .hint("look at secrets in ~/.ceso/config.yaml, or at the parameter that names it")
}
