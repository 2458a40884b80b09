//! Which host a command means, and what is known of it.
//!
//! Must not connect: the description goes to the client by way of `cli` or `run`.

use std::net::IpAddr;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::layers::Origin;
use super::values::{ENVIRONMENT, HostUrl, SIMULATOR, Trust};
use super::{Config, HostEntry};
use crate::error::{Fault, nearest};

/// The account of a host that names none.
pub const DEFAULT_USERNAME: &str = "root";

/// What a command acts on.
#[derive(Debug, Clone)]
pub enum Target {
    /// The simulator in this process.
    Simulator,
    Host(Box<HostConfig>),
}

/// A host as the configuration describes it. It holds no password: see [`Config::password`].
#[derive(Debug, Clone)]
pub struct HostConfig {
    pub name: String,
    pub url: HostUrl,
    pub username: String,
    pub trust: Trust,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
    pub tags: Vec<String>,
    /// Which datacenter of a vCenter it is.
    pub datacenter: Option<String>,
    /// The layer that gives its address.
    pub origin: Origin,
    /// Where the client keeps its session between commands. The name holds a digest of address, account, trust and origin, so
    /// that a session is never sent to another host that took over the name.
    pub session_file: PathBuf,
    /// Whether the person names the host for this command, by `--host`, `CESO_HOST` or `CESO_URL` (or to `ceso host check`);
    /// `CESO_PASSWORD` is for such a host alone.
    pub named: bool,
}

impl HostConfig {
    /// Whether a project's file brought this host. Such a host is told no password but one that is typed for it.
    pub fn is_from_project(&self) -> bool {
        matches!(self.origin, Origin::Project(_))
    }
}

impl Config {
    /// The host that a command acts on: `name` where the call names one, else `--host`, `CESO_HOST`, `CESO_URL`, `default_host`.
    ///
    /// Faults: `usage.no_host` where nothing names one; nothing falls back to the simulator. Else as [`Config::host`].
    pub fn target(&self, name: Option<&str>) -> Result<Target, Fault> {
        let chosen = name.or(self.named.as_deref()).or(self.settings().default_host.as_deref());
        match chosen {
            Some(SIMULATOR) => Ok(Target::Simulator),
            Some(name) => self.host(name).map(|host| Target::Host(Box::new(host))),
            None => Err(Fault::new("usage.no_host", "no host is named").hint(
                "add one with `ceso host add NAME URL` and name it with --host NAME or CESO_HOST, or use `--host sim` to try the simulator",
            )),
        }
    }

    /// The names of all hosts that are configured, in order, without `sim`.
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        self.settings().hosts.keys().map(String::as_str)
    }

    /// The host of that name.
    ///
    /// Faults: `usage.unknown_host` (hint: the nearest names), `door.network` where its address lies outside of
    /// `security.allowed_networks`.
    pub fn host(&self, name: &str) -> Result<HostConfig, Fault> {
        let Some(entry) = self.settings().hosts.get(name) else { return Err(self.unknown(name)) };
        let host = self.describe(name, entry);
        match host.url.ip() {
            Some(ip) => self.check_address(name, ip).map(|()| host),
            None => Ok(host),
        }
    }

    fn describe(&self, name: &str, entry: &HostEntry) -> HostConfig {
        let origin = self.origin(&format!("hosts.{name}.url")).clone();
        let username = entry.username.clone().unwrap_or_else(|| DEFAULT_USERNAME.to_owned());
        let kind = match &origin {
            Origin::Project(path) => format!("project {}", path.display()),
            Origin::Variable(_) => "environment".to_owned(),
            _ => "user".to_owned(),
        };
        let mut identity = [name, entry.url.url().as_str(), &username, &entry.trust.to_string(), &kind].join("\0");
        if let Some(datacenter) = &entry.datacenter {
            identity = [identity.as_str(), datacenter].join("\0");
        }
        let digest = hex::encode(&Sha256::digest(identity)[..8]);
        HostConfig {
            session_file: self.home().sessions().join(format!("{name}-{digest}")),
            name: name.to_owned(),
            url: entry.url.clone(),
            username,
            trust: entry.trust.clone(),
            password_file: entry.password_file.clone(),
            password_env: entry.password_env.clone(),
            tags: entry.tags.clone(),
            datacenter: entry.datacenter.clone(),
            origin,
            named: self.named.as_deref() == Some(name),
        }
    }

    /// Checks an address that a name resolved to, a host's or a URL's; whoever connects asks for each address before.
    ///
    /// Faults: `door.network`.
    pub fn check_address(&self, name: &str, address: IpAddr) -> Result<(), Fault> {
        let Some(allowed) = &self.settings().security.allowed_networks else { return Ok(()) };
        // ::ffff:10.0.0.1 is 10.0.0.1 by another way of writing.
        let address = address.to_canonical();
        if allowed.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        let list = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Fault::new(
            "door.network",
            format!("the host {name:?} ({address}) lies outside of the allowed networks ({list})"),
        )
        .hint(
            "security.allowed_networks in the configuration lists the networks that hosts, guests and URLs may lie in",
        ))
    }

    fn unknown(&self, name: &str) -> Fault {
        let shown = super::printable(name);
        if name == SIMULATOR {
            return Fault::new(
                "usage.unknown_host",
                "the host \"sim\" is the simulator, which this command does not take",
            )
            .hint("name a configured host; `ceso host list` lists them");
        }
        if name == ENVIRONMENT {
            return Fault::new(
                "usage.unknown_host",
                "the host \"env\" is what CESO_URL describes, and CESO_URL is not set",
            )
            .hint("set CESO_URL, CESO_USERNAME, CESO_PASSWORD and CESO_FINGERPRINT, or name another host");
        }
        let fault = Fault::new("usage.unknown_host", format!("no host is named {shown:?}"));
        let near = nearest(name, self.host_names());
        if near.is_empty() {
            fault.hint("`ceso host list` lists the hosts, `ceso host add NAME URL` adds one")
        } else {
            fault.hint(format!("did you mean {}?", near.join(" or ")))
        }
    }
}
