//! How a host is reached and trusted, and who is asked for a password. No I/O here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::config::Fingerprint;
use crate::error::Fault;

use super::abilities::Probed;
use crate::web::Allowed;

/// How a host is reached.
#[derive(Clone)]
pub struct HostOptions {
    /// The host's name in the configuration; it stands in every message.
    pub name: String,
    /// `https://HOST[:PORT]/sdk`; a missing path means `/sdk`.
    pub url: Url,
    pub trust: Trust,
    /// Which addresses may be connected to; `None`: any. Asked for each address that the URL's name resolves to.
    pub allowed: Option<Allowed>,
    /// Where the session is kept between commands; `None`: it ends with [`close`](super::Host::close).
    pub session_file: Option<PathBuf>,
    /// The user that a kept session must belong to, where that is known without asking.
    pub username: Option<String>,
    /// Which datacenter of a vCenter the connection is about, by name or by path; `None`: the only one there is. A host has none to name.
    pub datacenter: Option<String>,
    /// Objects in one page of properties; 0 leaves it to the host. Default: 0.
    pub page_size: u32,
    pub timeouts: Timeouts,
    /// Connections that are kept open although nothing uses them. Default: 0.
    pub min_connections: usize,
    /// Requests under way at once, a wait for updates not counted. Default: 8.
    pub max_connections: usize,
    /// How long an unused connection is kept. Default: 60 s.
    pub max_idle_time: Duration,
    /// The largest answer that is read. Default: 64 MiB.
    pub max_answer: usize,
    /// Sent as `operationID` with every request, so that the host's log names the run.
    pub operation_id: Option<String>,
    /// Sees every request before it is sent; the password of a login is left out.
    pub observer: Option<Observer>,
    /// What a probe has found out about the host. Of another build than the host has, it is not used.
    pub probed: Option<Probed>,
}

/// Sees the SOAP body of every request. Arguments: the API version of the request, and the body.
pub type Observer = Arc<dyn Fn(&str, &str) + Send + Sync>;

impl HostOptions {
    /// Options with every default set.
    pub fn new(name: impl Into<String>, url: Url, trust: Trust) -> Self {
        Self {
            name: name.into(),
            url,
            trust,
            allowed: None,
            session_file: None,
            username: None,
            datacenter: None,
            page_size: 0,
            timeouts: Timeouts::default(),
            min_connections: 0,
            max_connections: 8,
            max_idle_time: Duration::from_secs(60),
            max_answer: 64 << 20,
            operation_id: None,
            observer: None,
            probed: None,
        }
    }
}

impl std::fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostOptions").field("name", &self.name).field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// To open a connection, TLS included. Default: 10 s.
    pub connect: Duration,
    /// From a request to the end of its answer. Default: 120 s.
    pub request: Duration,
    /// The longest a host may hold a wait for updates open before it says that nothing changed. Default: 50 s.
    pub wait: Duration,
    /// How long a lost connection is tried again while tasks are awaited. Default: 60 s.
    pub reconnect: Duration,
    /// How long a connection may rest before the host is looked at ahead of a change. Default: 20 s.
    pub rest: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(120),
            wait: Duration::from_secs(50),
            reconnect: Duration::from_secs(60),
            rest: Duration::from_secs(20),
        }
    }
}

/// What makes a host's certificate trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The roots of the operating system; they are loaded for this alone.
    System,
    /// The authorities in a PEM file.
    CaFile(PathBuf),
    /// Exactly this certificate, whatever it says about itself.
    Fingerprint(Fingerprint),
}

impl Trust {
    /// What a kept session is bound to: a session is not sent to a host that is trusted for another reason.
    pub(super) fn label(&self) -> String {
        match self {
            Self::System => "system".to_owned(),
            Self::CaFile(path) => format!("ca {}", path.display()),
            Self::Fingerprint(fingerprint) => fingerprint.to_string(),
        }
    }
}

/// Who is asked for a user name and a password, only when a login is really needed.
///
/// The call may block (a prompt, a keyring); it is made on a thread of its own, and once at a time for a host.
pub trait Credentials: Send + Sync {
    fn ask(&self) -> Result<Login, Fault>;
}

/// A user name and its password.
#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

impl Credentials for Login {
    fn ask(&self) -> Result<Login, Fault> {
        Ok(self.clone())
    }
}
