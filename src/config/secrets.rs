//! Passwords: where one is found, and where one is kept. Never a flag, never a log, never a configuration file.
//!
//! The order for a host of the user's: `CESO_PASSWORD` (only for the host that this command names by `--host`, `CESO_HOST` or
//! `CESO_URL`; while `CESO_URL` is set it belongs to that host alone), `password_env`, `password_file` (mode 0600), the keyring
//! of the operating system, a prompt. What is configured and does not work is an error, not a step to the next. A host that a
//! project's file brought gets a prompt only, which says where the host comes from.

use std::io::{IsTerminal, stderr, stdin};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use super::files::{self, Guard};
use super::hosts::{DEFAULT_USERNAME, HostConfig};
use super::{Config, ENVIRONMENT, Home, HostUrl};
use crate::error::Fault;
use crate::redact;

/// A password is a line, not a file.
pub const MAX_BYTES: usize = 4096;
/// How long the keyring's daemon may take: it may be absent, hang, or wait for a person to unlock it.
const KEYRING_PATIENCE: Duration = Duration::from_secs(5);
const SERVICE: &str = "ceso";

/// Asks a person for a host's password.
pub trait Prompt {
    /// `None` where there is nobody to ask.
    fn password(&self, host: &HostConfig) -> Result<Option<SecretString>, Fault>;
}

/// Asks on the terminal, where standard input and standard error are one.
#[derive(Debug, Clone, Copy)]
pub struct Terminal;

impl Prompt for Terminal {
    fn password(&self, host: &HostConfig) -> Result<Option<SecretString>, Fault> {
        if !stdin().is_terminal() || !stderr().is_terminal() {
            return Ok(None);
        }
        let from = if host.is_from_project() { format!(", described by {}", host.origin) } else { String::new() };
        let question = format!("Password for {} at {} (host {:?}{from}): ", host.username, host.url.host(), host.name);
        ask(&super::printable(&question)).map(Some)
    }
}

/// Nobody to ask: a job, a server.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Prompt for Nobody {
    fn password(&self, _: &HostConfig) -> Result<Option<SecretString>, Fault> {
        Ok(None)
    }
}

/// Reads a password from the terminal without showing it.
pub fn ask(question: &str) -> Result<SecretString, Fault> {
    // Several hosts may be connected to at once: a person is asked one thing at a time.
    static ASKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _asking = ASKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let typed = rpassword::prompt_password(question).map_err(|error| {
        Fault::new("host.no_password", format!("no password was read from the terminal: {error}"))
            .hint("give it by CESO_PASSWORD, a password_file or the keyring")
            .cause(error)
    })?;
    clean(Zeroizing::new(typed), "the terminal")
}

impl Config {
    /// Finds the password of a host.
    ///
    /// Faults: `host.no_password` (hint: the ways to give one), `config.untrusted_file` for a password file that others can read.
    pub fn password(&self, host: &HostConfig, prompt: &dyn Prompt) -> Result<SecretString, Fault> {
        let stored = if host.is_from_project() { None } else { self.stored_password(host)? };
        let found = match stored {
            Some(stored) => Some(stored),
            None => prompt.password(host)?,
        };
        let password = found.ok_or_else(|| missing(host))?;
        redact::know(&password, format!("password of {}", host.name));
        Ok(password)
    }

    /// Makes the passwords known that lie in the environment, used or not: whatever quotes a variable must not quote them.
    pub(super) fn know_variables(&self) {
        let hosts = self.settings().hosts.iter();
        let named = hosts.filter_map(|(name, host)| Some((host.password_env.as_deref()?, name.as_str())));
        let repositories = self.settings().repositories.iter();
        let theirs = repositories.flat_map(|(name, kept)| {
            [&kept.password_env, &kept.secret_key_env]
                .into_iter()
                .flatten()
                .map(move |held| (held.as_str(), name.as_str()))
        });
        let bucket = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(|variable| (variable, "a bucket"));
        for (variable, name) in named.chain(theirs).chain(bucket).chain(std::iter::once(("CESO_PASSWORD", ENVIRONMENT)))
        {
            // What cannot be read as text is an error of whoever wants to use it.
            if let Ok(Some(password)) = self.environment.get(variable) {
                redact::know(
                    &SecretString::from(password.trim_end_matches(['\r', '\n'])),
                    format!("password of {name}"),
                );
            }
        }
    }

    /// Makes the passwords known that are kept in files, also those of hosts that this command does not ask: a host that says
    /// another's password back must not be heard. Called before the first host is spoken with.
    pub fn know_files(&self) {
        for (name, host) in &self.settings().hosts {
            let Some(path) = &host.password_file else { continue };
            // A file that is missing or open to others is an error of whoever logs in with it.
            let read = files::read(path, MAX_BYTES, Guard::Secret).ok().flatten();
            if let Some(password) = read.and_then(|bytes| from_bytes(bytes, "a password file").ok()) {
                redact::know(&password, format!("password of {name}"));
            }
        }
    }

    fn stored_password(&self, host: &HostConfig) -> Result<Option<SecretString>, Fault> {
        let of_url = self.settings().hosts.contains_key(ENVIRONMENT);
        if (host.name == ENVIRONMENT || (host.named && !of_url))
            && let Some(password) = self.environment.get("CESO_PASSWORD")?
        {
            return clean(Zeroizing::new(password.to_owned()), "CESO_PASSWORD").map(Some);
        }
        if let Some(variable) = &host.password_env {
            let Some(password) = self.environment.get(variable)? else {
                return Err(no_password(host, format!("the variable {variable} is not set"))
                    .hint(format!("set {variable}, or change hosts.{}.password_env", host.name)));
            };
            return clean(Zeroizing::new(password.to_owned()), variable).map(Some);
        }
        if let Some(file) = &host.password_file {
            return from_file(host, file).map(Some);
        }
        if host.name == ENVIRONMENT {
            return Ok(None);
        }
        keyring_read(host)
    }
}

fn from_file(host: &HostConfig, path: &Path) -> Result<SecretString, Fault> {
    let Some(bytes) = files::read(path, MAX_BYTES, Guard::Secret)? else {
        return Err(no_password(host, format!("the file {} does not exist", path.display()))
            .hint(format!("write the password into it (mode 0600), or change hosts.{}.password_file", host.name)));
    };
    from_bytes(bytes, &path.display().to_string())
}

/// Reads a password from what a file or a pipe held: one line, its end cut off.
pub fn from_bytes(bytes: Vec<u8>, place: &str) -> Result<SecretString, Fault> {
    let text = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        Fault::new("host.no_password", format!("{place} is not UTF-8 text")).hint("a password is one line of text")
    })?;
    clean(Zeroizing::new(text), place)
}

fn clean(text: Zeroizing<String>, place: &str) -> Result<SecretString, Fault> {
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(
            Fault::new("host.no_password", format!("{place} holds no password")).hint("an empty password is refused")
        );
    }
    if line.len() > MAX_BYTES || line.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Fault::new("host.no_password", format!("{place} holds more than a password: it must be one line"))
            .hint("is this the right file?"));
    }
    Ok(SecretString::from(line.to_owned()))
}

fn no_password(host: &HostConfig, why: String) -> Fault {
    Fault::new("host.no_password", format!("no password for the host {:?}: {why}", host.name))
}

fn missing(host: &HostConfig) -> Fault {
    if host.is_from_project() {
        return no_password(
            host,
            format!("it is described by {}, and such a host is told no stored password", host.origin),
        )
        .hint(format!("add it yourself: `ceso host add NAME {}`", host.url));
    }
    let fault = no_password(host, "none is stored, and there is no terminal to ask on".to_owned());
    if host.named {
        fault.hint(
            "set CESO_PASSWORD, or keep one with `ceso host add … --store keyring|file`, password_file or password_env",
        )
    } else {
        fault.hint("keep one with `ceso host add … --store keyring|file`, password_file or password_env; CESO_PASSWORD is for a host that --host or CESO_HOST names")
    }
}

/// The account under which the keyring knows a host's password: a name alone could be given to another address.
pub fn account(username: Option<&str>, url: &HostUrl) -> String {
    format!("{}@{}:{}", username.unwrap_or(DEFAULT_USERNAME), url.host(), url.port())
}

/// Runs one keyring operation on a thread of its own, and stops waiting for it after [`KEYRING_PATIENCE`].
fn keyring<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, keyring::Error> + Send + 'static,
) -> Result<T, Option<keyring::Error>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name("keyring".to_owned()).spawn(move || {
        // Nobody listens any more when the patience has ended; the answer is dropped with its secret.
        drop(sender.send(act()));
    });
    if spawned.is_err() {
        return Err(None);
    }
    receiver.recv_timeout(KEYRING_PATIENCE).map_err(|_| None)?.map_err(Some)
}

/// A keyring that is not there is no fault: a prompt may follow. One that hangs or refuses is said in the log.
fn keyring_read(host: &HostConfig) -> Result<Option<SecretString>, Fault> {
    let account = account(Some(&host.username), &host.url);
    match keyring(move || keyring::Entry::new(SERVICE, &account)?.get_password().map(SecretString::from)) {
        Ok(password) => Ok(Some(password)),
        Err(Some(keyring::Error::NoEntry | keyring::Error::NoDefaultStore)) => Ok(None),
        Err(Some(error)) => {
            tracing::warn!(host = host.name, %error, "the keyring gave no password");
            Ok(None)
        }
        Err(None) => {
            tracing::warn!(host = host.name, seconds = KEYRING_PATIENCE.as_secs(), "the keyring did not answer");
            Ok(None)
        }
    }
}

/// What the keyring says of an account.
pub(super) enum Kept {
    Found(SecretString),
    Absent,
    Failed(String),
}

/// Reads what the keyring holds for an account.
pub(super) fn keyring_get(account: &str) -> Kept {
    let account = account.to_owned();
    match keyring(move || keyring::Entry::new(SERVICE, &account)?.get_password().map(SecretString::from)) {
        Ok(value) => Kept::Found(value),
        Err(Some(keyring::Error::NoEntry)) => Kept::Absent,
        Err(Some(error)) => Kept::Failed(super::printable(&error.to_string())),
        Err(None) => Kept::Failed(format!("it did not answer within {} s", KEYRING_PATIENCE.as_secs())),
    }
}

/// Keeps the password of an [`account`] in the keyring.
///
/// Faults: `host.keyring`.
pub fn keyring_store(account: &str, password: &SecretString) -> Result<(), Fault> {
    let (account, password) = (account.to_owned(), password.clone());
    keyring(move || keyring::Entry::new(SERVICE, &account)?.set_password(password.expose_secret()))
        .map_err(|error| no_keyring(error, "kept"))
}

/// Forgets the password of an [`account`]; whether there was one. Where there is no keyring there was none.
pub fn keyring_forget(account: &str) -> Result<bool, Fault> {
    let account = account.to_owned();
    match keyring(move || keyring::Entry::new(SERVICE, &account)?.delete_credential()) {
        Ok(()) => Ok(true),
        Err(Some(keyring::Error::NoEntry | keyring::Error::NoDefaultStore)) => Ok(false),
        Err(error) => Err(no_keyring(error, "removed")),
    }
}

fn no_keyring(error: Option<keyring::Error>, what: &str) -> Fault {
    let why = match &error {
        Some(keyring::Error::NoDefaultStore) => "this session has none".to_owned(),
        Some(error) => super::printable(&error.to_string()),
        None => format!("it did not answer within {} s", KEYRING_PATIENCE.as_secs()),
    };
    Fault::new("host.keyring", format!("the password was not {what} in the keyring: {why}"))
        .hint("keep it in a file that only you can read: --store file")
}

/// Keeps a host's password in a file of mode 0600 and returns its path.
pub fn file_store(home: &Home, name: &str, password: &SecretString) -> Result<std::path::PathBuf, Fault> {
    let path = home.passwords().join(name);
    files::write_private(&path, format!("{}\n", password.expose_secret()).as_bytes())?;
    Ok(path)
}
