//! Witnesses: who is told the head of the log, so that a log that was cut or written anew can be told from the one that was.
//!
//! The queue is the log itself: each witness has a thread that reads what it has not been told yet, and a file beside the log
//! (`audit.witnessed-…`) that says how far it is. So nothing is held in memory, no write waits, what one process did not come to tell
//! the next one does, and of several processes only the one that holds the file's lock tells. A witness that does not answer costs
//! nothing but lag; it is asked again after ever longer times, which the file remembers too.

mod follow;
mod syslog;
mod webhook;

use std::fmt;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

pub(super) use self::follow::{Follower, Told};
use super::line::Hash;

/// Somebody who is told of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness(Target);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// RFC 5424 in RFC 5426: one datagram for each message; nobody knows whether it arrives.
    Udp(String, u16),
    /// RFC 5424 in RFC 6587 with octet counts.
    Tcp(String, u16),
    /// RFC 5424 over a socket of this machine.
    Unix(PathBuf),
    /// An HTTP POST of JSON.
    Webhook(Url),
}

/// What witnesses are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sends {
    /// The number, time and hash of signed records: enough to hold a log against, and nothing of what they are about.
    #[default]
    Checkpoints,
    /// Every record, whole.
    Records,
}

/// How far a witness is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    pub witness: String,
    /// `syslog` or `webhook`.
    pub kind: &'static str,
    /// How many records it does not know of yet. With [`Sends::Checkpoints`], those since the last checkpoint are among them.
    pub records: u64,
    /// For how long the oldest of them has been written.
    pub behind: Duration,
    /// Why it could not be told the last time.
    pub failing: Option<String>,
}

impl Witness {
    /// `syslog` or `webhook`.
    pub fn kind(&self) -> &'static str {
        match self.0 {
            Target::Webhook(_) => "webhook",
            _ => "syslog",
        }
    }

    /// The number of the newest record of a log that it was told, as any process of this machine knows; `None` where it was told none.
    pub fn knows(&self, log: &Path) -> Option<u64> {
        follow::read_state(&self.state_file(log)).map(|state| state.seq)
    }

    /// The file that says how far the witness is.
    fn state_file(&self, log: &Path) -> PathBuf {
        let hash = Hash(Sha256::digest(self.to_string().as_bytes()).into()).to_string();
        log.with_extension(format!("witnessed-{}", hash.get(..8).unwrap_or_default()))
    }
}

impl FromStr for Witness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write udp://HOST:514, tcp://HOST:601, unix:///dev/log or https://HOST/PATH";
        // What stands before an "@" may be a password: it is neither used nor printed.
        if text.contains('@') {
            return Err(format!("a witness's address holds no user and no password; {FORMS}"));
        }
        let url = Url::parse(text.trim()).map_err(|error| format!("it is no address ({error}); {FORMS}"))?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let target = match url.scheme() {
            "udp" if bare && !host.is_empty() => Target::Udp(host, url.port().unwrap_or(514)),
            "tcp" if bare && !host.is_empty() => Target::Tcp(host, url.port().unwrap_or(601)),
            "unix" if host.is_empty() && url.path().len() > 1 => Target::Unix(PathBuf::from(url.path())),
            "http" | "https" if !host.is_empty() => Target::Webhook(url),
            _ => return Err(format!("it is no address of a witness; {FORMS}")),
        };
        Ok(Self(target))
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match &self.0 {
            Target::Udp(name, port) => write!(f, "udp://{}:{port}", host(name)),
            Target::Tcp(name, port) => write!(f, "tcp://{}:{port}", host(name)),
            Target::Unix(path) => write!(f, "unix://{}", path.display()),
            Target::Webhook(url) => write!(f, "{url}"),
        }
    }
}

/// What a witness is told of one record.
#[derive(Debug, Clone)]
struct Message {
    log: String,
    seq: u64,
    head: Hash,
    ts: String,
    line: Vec<u8>,
}

/// How far a witness is, as its file keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct State {
    witness: String,
    seq: u64,
    head: String,
    ts: String,
    /// How often in a row it could not be told.
    failures: u32,
    /// Before this time (milliseconds since 1970) it is not asked again.
    retry_at: u64,
}

/// A way to a witness.
trait Way: Send {
    /// Tells it all of the messages, or as many as the error leaves open.
    fn tell(&mut self, messages: &[Message]) -> Result<(), String>;
}

fn way(witness: &Witness) -> Box<dyn Way> {
    match &witness.0 {
        Target::Webhook(url) => Box::new(webhook::Webhook::new(url.clone())),
        target => Box::new(syslog::Syslog::new(target.clone())),
    }
}

fn resolve(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, String> {
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
    if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
}
