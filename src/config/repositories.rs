//! Where backups live: each repository's address, and where its password and the keys of its bucket are read from.
//!
//! Secrets are read when they are asked for, made known to [`crate::redact`], and stand in no file of settings. Must not open a
//! repository, and knows of an address only what a project's file may not do: the engine reads the rest.
//!
//! A project's file may bring a folder inside of the project, and nothing else: its text must not be able to send what a user's keys
//! sign to a server of its choice.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Serialize};

use super::files::{self, Guard};
use super::layers::Origin;
use super::named_secrets::{self, SecretPurpose};
use super::settings::Retention;
use super::{Config, check_name};
use crate::error::{Fault, nearest};
use crate::redact;
use crate::units::Bytes;

/// How the address of a bucket begins.
const BUCKET: &str = "s3://";
/// The largest key file.
const MAX_KEY_FILE: usize = 1 << 20;
/// The largest file of shared credentials.
const MAX_CREDENTIALS: usize = 256 << 10;

/// One place of backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryEntry {
    /// A folder (of this machine, or an NFS mount), or "s3://BUCKET/PREFIX". A relative one begins at the folder of the file that it
    /// stands in, "~/" at yours.
    #[schemars(extend("format" = "repository-url", "examples" = ["s3://backups/esxi"]))]
    pub url: String,
    /// A file that holds the repository's password and that only you can read (mode 0600). Of several places the first is taken:
    /// key_file, password_file, password_env; without any the repository is one that is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/passwords/backup"]))]
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the repository's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["BACKUP_PASSWORD"]))]
    pub password_env: Option<String>,
    /// A file of any bytes, up to 1 MiB, that opens the repository in place of a password (mode 0600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/keys/backup.key"]))]
    pub key_file: Option<PathBuf>,
    /// For a bucket: the server, where it is not Amazon's. "http://" is taken for this machine's own addresses only, or with
    /// `plain_http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["https://minio.example:9000"]))]
    pub endpoint: Option<String>,
    /// For a bucket: its region; "us-east-1" unless another is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["eu-central-1"]))]
    pub region: Option<String>,
    /// For a bucket: whether its name stands in the path (true) or before the server's name (false); without the setting in the path
    /// where an endpoint is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [true]))]
    pub path_style: Option<bool>,
    /// For a bucket: lets an endpoint of another machine be spoken to without TLS. Who can listen there sees names and sizes, and all
    /// bytes of a repository that is not encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("examples" = [false]))]
    pub plain_http: bool,
    /// For a bucket: a PEM file of the authorities that its server's certificate may be signed by, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/minio-ca.pem"]))]
    pub ca_file: Option<PathBuf>,
    /// For a bucket: the profile of ~/.aws/credentials (or AWS_SHARED_CREDENTIALS_FILE) that its keys are read from. Of several places
    /// the first is taken: files, variables, profile; without any the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    /// AWS_SESSION_TOKEN, then the profile AWS_PROFILE or "default".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["backup"]))]
    pub profile: Option<String>,
    /// For a bucket: a file that holds the access key's id (mode 0600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/passwords/bucket.id"]))]
    pub access_key_file: Option<PathBuf>,
    /// For a bucket: the environment variable that holds the access key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["BACKUP_ACCESS_KEY"]))]
    pub access_key_env: Option<String>,
    /// For a bucket: a file that holds the secret key (mode 0600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["~/.ceso/passwords/bucket.key"]))]
    pub secret_key_file: Option<PathBuf>,
    /// For a bucket: the environment variable that holds the secret key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["BACKUP_SECRET_KEY"]))]
    pub secret_key_env: Option<String>,
    /// For a bucket: how what a backup writes is locked against deletion. The bucket must have been made with object lock.
    #[serde(default, skip_serializing_if = "ObjectLock::is_none")]
    #[schemars(extend("examples" = ["governance"]))]
    pub object_lock: ObjectLock,
    /// For a bucket with `object_lock`: for how many days from its writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36_500), extend("examples" = [30]))]
    pub object_lock_days: Option<u32>,
    /// For a bucket: the most requests in a second; without the setting as many as go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("examples" = [100]))]
    pub requests_per_second: Option<u32>,
    /// For a bucket: the most bytes in a second, both ways together; without the setting as many as go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "bytes", "examples" = ["20 MiB"]))]
    pub bytes_per_second: Option<Bytes>,
    /// The folder of this machine in which what was learned of the repository is kept, and packs before they are sent;
    /// ~/.ceso/cache/repositories unless another is named. It may be removed at any time when nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path", "examples" = ["/var/cache/ceso"]))]
    pub cache: Option<PathBuf>,
    /// Which backups `ceso repository prune` and `forget` keep in it; without a rule those of the section "retention" hold.
    #[serde(default, skip_serializing_if = "Retention::is_none")]
    pub retention: Retention,
}

/// How an object is locked against deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectLock {
    /// not at all
    #[default]
    None,
    /// an account with a right of its own may delete it before its time
    Governance,
    /// nobody may, not even the account's owner
    Compliance,
}

impl ObjectLock {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A place of backups that a command or a script means. It holds no secret: see [`Config::repository_secret`] and
/// [`Config::bucket_keys`].
#[derive(Debug, Clone)]
pub struct RepositoryConfig {
    /// Its name in the settings, where it has one.
    pub name: Option<String>,
    /// What the settings say; of a place that a person wrote out the address, and what the variables of AWS say of a bucket.
    pub entry: RepositoryEntry,
    /// The layer that gives its address; `None` where a person wrote it out.
    pub origin: Option<Origin>,
    /// The folder in which this machine keeps what it learned of repositories.
    pub cache: PathBuf,
}

impl RepositoryConfig {
    /// Whether it is a bucket.
    pub fn is_bucket(&self) -> bool {
        self.entry.url.starts_with(BUCKET)
    }

    fn is_from_project(&self) -> bool {
        matches!(self.origin, Some(Origin::Project(_)))
    }

    fn setting(&self, key: &str) -> String {
        match &self.name {
            Some(name) => format!("repositories.{name}.{key}"),
            None => key.to_owned(),
        }
    }
}

/// The keys of a bucket. Debug shows none.
#[derive(Debug, Clone)]
pub struct BucketKeys {
    pub id: SecretString,
    pub secret: SecretString,
    pub token: Option<SecretString>,
}

impl RepositoryEntry {
    /// What cannot be said of one field alone.
    pub(super) fn check(&self) -> Result<(), String> {
        let id = self.access_key_file.is_some() || self.access_key_env.is_some();
        let secret = self.secret_key_file.is_some() || self.secret_key_env.is_some();
        if id != secret {
            return Err("an access key's id and its secret key go together".to_owned());
        }
        if (self.object_lock == ObjectLock::None) != self.object_lock_days.is_none() {
            return Err("\"object_lock\" and \"object_lock_days\" go together".to_owned());
        }
        if !self.url.starts_with(BUCKET)
            && (Self { cache: self.cache.clone(), retention: self.retention.clone(), ..self.only_address() })
                != self.unlocked()
        {
            return Err("it is a folder, and has settings of a bucket".to_owned());
        }
        Ok(())
    }

    fn only_address(&self) -> Self {
        Self { url: self.url.clone(), ..Self::default() }
    }

    fn unlocked(&self) -> Self {
        Self { password_file: None, password_env: None, key_file: None, ..self.clone() }
    }

    /// What a project's file may not say of a new repository; the path of the setting below it, and what it would do.
    pub(super) fn check_from_project(
        &self,
        inside: impl Fn(&Path) -> bool,
    ) -> Result<(), (&'static str, &'static str)> {
        let Self { url, password_file, password_env, key_file, cache, .. } = self;
        if password_file.is_some() || password_env.is_some() || key_file.is_some() {
            return Err((".password_file", "say where a password is read from"));
        }
        if url.starts_with(BUCKET) {
            return Err((".url", "send backups to a bucket of its choice"));
        }
        if !inside(Path::new(url)) {
            return Err((".url", "name a folder outside of the project's folder"));
        }
        if cache.is_some() || *self != self.only_address() {
            return Err(("", "say more of a repository than its folder"));
        }
        Ok(())
    }
}

/// Checks the address as far as a project's rules and messages need it: the engine reads the rest.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    const FORMS: &str = "a folder, or \"s3://BUCKET/PREFIX\"";
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(()) };
    if rest.split('/').next().unwrap_or_default().contains('@') {
        return Err(format!("{FORMS}, without user and password"));
    }
    if scheme == "s3" && !rest.is_empty() { Ok(()) } else { Err(FORMS.to_owned()) }
}

impl Config {
    /// The names of all repositories that are configured, in order.
    pub fn repository_names(&self) -> impl Iterator<Item = &str> {
        self.settings().repositories.keys().map(String::as_str)
    }

    /// The repository of that name.
    ///
    /// Faults: `usage.unknown_repository` (hint: the nearest names).
    pub fn repository(&self, name: &str) -> Result<RepositoryConfig, Fault> {
        let known = &self.settings().repositories;
        let Some(entry) = known.get(name) else {
            let shown = super::printable(name);
            let fault = Fault::new("usage.unknown_repository", format!("there is no repository named {shown:?}"));
            return Err(match nearest(name, known.keys().map(String::as_str)).first() {
                Some(near) => fault.hint(format!("did you mean {near:?}? A folder is written with a slash: ./{shown}")),
                None => fault.hint(format!(
                    "describe it in ~/.ceso/config.yaml: repositories: {{ NAME: {{ url: PATH }} }}; a folder is written with a slash: ./{shown}"
                )),
            });
        };
        let cache = entry.cache.clone().unwrap_or_else(|| self.home().repository_cache());
        let origin = Some(self.origin(&format!("repositories.{name}.url")).clone());
        Ok(RepositoryConfig { name: Some(name.to_owned()), entry: entry.clone(), origin, cache })
    }

    /// What a person means: a configured name, a folder (with a slash, or one that exists), or `s3://BUCKET/PREFIX`, for which
    /// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION and AWS_CA_BUNDLE hold.
    ///
    /// Faults: `usage.unknown_repository`, `usage.repository`.
    pub fn repository_or_place(&self, text: &str) -> Result<RepositoryConfig, Fault> {
        if self.settings().repositories.contains_key(text) {
            return self.repository(text);
        }
        check_url(text).map_err(|why| {
            Fault::new("usage.repository", format!("this is no place of a repository; write {why}"))
                .hint("give a name of the section \"repositories\", a folder, or s3://BUCKET/PREFIX")
        })?;
        let mut entry = RepositoryEntry { url: text.to_owned(), ..RepositoryEntry::default() };
        if text.starts_with(BUCKET) {
            let variable = |names: &[&str]| -> Result<Option<String>, Fault> {
                for name in names {
                    if let Some(value) = self.environment.get(name)? {
                        return Ok(Some(value.to_owned()));
                    }
                }
                Ok(None)
            };
            entry.endpoint = variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?;
            entry.region = variable(&["AWS_REGION", "AWS_DEFAULT_REGION"])?;
            entry.ca_file = variable(&["AWS_CA_BUNDLE"])?.map(PathBuf::from);
        } else if text.is_empty() || (!text.contains('/') && check_name(text).is_ok() && !Path::new(text).exists()) {
            return self.repository(text);
        }
        Ok(RepositoryConfig { name: None, entry, origin: None, cache: self.home().repository_cache() })
    }

    /// Which backups are kept in a repository: its own rules, or those of all that the settings name. Of a place that a person wrote out
    /// the settings say nothing, so nothing of it goes without being asked for.
    pub fn retention<'a>(&'a self, repository: &'a RepositoryConfig) -> Option<&'a Retention> {
        repository.name.as_ref()?;
        [&repository.entry.retention, &self.settings().retention].into_iter().find(|rules| !rules.is_none())
    }

    /// Reads the password or the key file that the settings name for a repository; `None` where they name none.
    ///
    /// Faults: `config.no_secret`, `config.untrusted_file`.
    pub fn repository_secret(&self, repository: &RepositoryConfig) -> Result<Option<SecretSlice<u8>>, Fault> {
        let RepositoryEntry { password_file, password_env, key_file, .. } = &repository.entry;
        if let Some(path) = key_file {
            let name = repository.setting("key_file");
            let bytes = files::read(path, MAX_KEY_FILE, Guard::Secret)?.filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| no_secret(&name, format!("{} is missing or empty", path.display())))?;
            return Ok(Some(bytes.into()));
        }
        let password = match (password_file, password_env) {
            (Some(_), _) => self.one_secret(repository, "password_file", password_file.as_deref(), None),
            (None, Some(_)) => self.one_secret(repository, "password_env", None, password_env.as_deref()),
            (None, None) => return Ok(None),
        }?;
        Ok(Some(password.expose_secret().as_bytes().to_vec().into()))
    }

    /// Reads the keys of a bucket.
    ///
    /// Faults: `config.no_secret` where none are named or found, `config.untrusted_file`.
    pub fn bucket_keys(&self, repository: &RepositoryConfig) -> Result<BucketKeys, Fault> {
        if repository.is_from_project() {
            // The rules for a project's file let none be written; this holds where they should ever.
            return Err(no_secret("the keys of a bucket", "a project's repository is told no stored keys".to_owned()));
        }
        let entry = &repository.entry;
        if entry.access_key_file.is_some() || entry.access_key_env.is_some() {
            let id = (entry.access_key_file.as_deref(), entry.access_key_env.as_deref());
            let secret = (entry.secret_key_file.as_deref(), entry.secret_key_env.as_deref());
            return Ok(BucketKeys {
                id: self.one_secret(repository, "access_key", id.0, id.1)?,
                secret: self.one_secret(repository, "secret_key", secret.0, secret.1)?,
                token: None,
            });
        }
        if let Some(profile) = &entry.profile {
            return self.profile_keys(profile)?.ok_or_else(|| {
                no_secret(&repository.setting("profile"), format!("the file of credentials has no profile {profile:?}"))
            });
        }
        let variable = |name: &str| self.environment.get(name).map(|value| value.map(str::to_owned));
        if let Some(id) = variable("AWS_ACCESS_KEY_ID")? {
            let secret = variable("AWS_SECRET_ACCESS_KEY")?.ok_or_else(|| {
                no_secret("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is set and this is not".to_owned())
            })?;
            return Ok(known(id, secret, variable("AWS_SESSION_TOKEN")?));
        }
        let profile = variable("AWS_PROFILE")?.unwrap_or_else(|| "default".to_owned());
        self.profile_keys(&profile)?.ok_or_else(|| {
            no_secret(
                "the keys of a bucket",
                format!("neither AWS_ACCESS_KEY_ID is set, nor has ~/.aws/credentials a profile {profile:?}"),
            )
        })
    }

    fn one_secret(
        &self,
        repository: &RepositoryConfig,
        key: &str,
        file: Option<&Path>,
        variable: Option<&str>,
    ) -> Result<SecretString, Fault> {
        let name = repository.setting(key);
        let text = match (file, variable) {
            (Some(file), _) => named_secrets::from_file(&name, file)?,
            (None, Some(variable)) => named_secrets::from_variable(&name, &self.environment, variable)?,
            (None, None) => return Err(no_secret(&name, "no place is named".to_owned())),
        };
        let value = named_secrets::clean(&name, SecretPurpose::Password, text)?;
        Ok(value.expose_secret().to_owned().into())
    }

    /// The keys of a profile in the file that Amazon's own tools share; `None` where there is no such file or profile.
    fn profile_keys(&self, profile: &str) -> Result<Option<BucketKeys>, Fault> {
        let path = match self.environment.get("AWS_SHARED_CREDENTIALS_FILE")? {
            Some(path) => PathBuf::from(path),
            None => match self.environment.get("HOME")? {
                Some(home) => Path::new(home).join(".aws/credentials"),
                None => return Ok(None),
            },
        };
        let Some(bytes) = files::read(&path, MAX_CREDENTIALS, Guard::Secret)? else { return Ok(None) };
        let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        drop(zeroize::Zeroizing::new(bytes));
        let mut here = false;
        let (mut id, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                here = section.trim() == profile;
            } else if let (true, Some((key, value))) = (here, line.split_once('=')) {
                let slot = match key.trim() {
                    "aws_access_key_id" => &mut id,
                    "aws_secret_access_key" => &mut secret,
                    "aws_session_token" => &mut token,
                    _ => continue,
                };
                *slot = Some(value.trim().to_owned());
            }
        }
        Ok(id.zip(secret).map(|(id, secret)| known(id, secret, token)))
    }
}

fn known(id: String, secret: String, token: Option<String>) -> BucketKeys {
    let token = token.map(SecretString::from);
    let keys = BucketKeys { id: id.into(), secret: secret.into(), token };
    redact::know(&keys.secret, "secret key of a bucket");
    if let Some(token) = &keys.token {
        redact::know(token, "session token of a bucket");
    }
    keys
}

fn no_secret(name: &str, why: String) -> Fault {
    Fault::new("config.no_secret", format!("{name} was not read: {why}"))
        .hint("name its file or variable in ~/.ceso/config.yaml (repositories), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}
