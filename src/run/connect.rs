//! From a described host to a client: the configuration's words become the client's options.
//!
//! The one place that joins `config` and `esxi`. It holds no password: the client asks through [`Asker`] when it must log in.

use std::sync::Arc;

use crate::config::secrets::{Prompt, Terminal};
use crate::config::{Config, HostConfig, HostUrl, Origin, Trust};
use crate::error::Fault;
use crate::esxi;

/// Answers the client's question for a password out of the configuration, the keyring or a person.
pub struct Asker<P: Prompt + Send + Sync> {
    pub config: Arc<Config>,
    pub host: HostConfig,
    pub prompt: P,
}

impl<P: Prompt + Send + Sync> esxi::Credentials for Asker<P> {
    fn ask(&self) -> Result<esxi::Login, Fault> {
        let password = self.config.password(&self.host, &self.prompt)?;
        Ok(esxi::Login { username: self.host.username.clone(), password })
    }
}

/// The client's options for a host.
pub fn options(config: &Arc<Config>, host: &HostConfig) -> esxi::HostOptions {
    let trust = match &host.trust {
        Trust::System => esxi::Trust::System,
        Trust::CaFile(path) => esxi::Trust::CaFile(path.clone()),
        Trust::Fingerprint(fingerprint) => esxi::Trust::Fingerprint(*fingerprint),
    };
    let mut options = esxi::HostOptions::new(&host.name, host.url.url().clone(), trust);
    let pool = &config.settings().connection_pool;
    options.session_file = Some(host.session_file.clone());
    options.username = Some(host.username.clone());
    options.datacenter = host.datacenter.clone();
    options.min_connections = pool.min_connections as usize;
    options.max_connections = pool.max_connections as usize;
    options.max_idle_time = pool.max_idle_time.0;
    options.allowed = allowed(config, &host.name);
    options
}

fn allowed(config: &Arc<Config>, name: &str) -> Option<esxi::Allowed> {
    config.settings().security.allowed_networks.as_ref()?;
    let (config, name) = (config.clone(), name.to_owned());
    Some(Arc::new(move |address| config.check_address(&name, address)))
}

async fn check_network(config: &Arc<Config>, name: &str, url: &HostUrl) -> Result<(), Fault> {
    match allowed(config, name) {
        Some(allowed) => esxi::check_name(name, url.host(), &allowed).await,
        None => Ok(()),
    }
}

/// A connection that is about to be made: to whom, for which run, and what is known of the host.
pub struct Opening<'a> {
    pub host: &'a HostConfig,
    pub operation_id: Option<&'a str>,
    pub probed: Option<esxi::Probed>,
}

/// Connects to a host; a person is asked for the password where none is stored and there is a terminal.
///
/// Faults: `door.network`, `host.no_password`, `esxi.…` as of [`esxi::Host::connect`].
pub async fn open(config: &Arc<Config>, opening: Opening<'_>) -> Result<esxi::Host, Fault> {
    let Opening { host, operation_id, probed } = opening;
    check_network(config, &host.name, &host.url).await?;
    let asker = Asker { config: config.clone(), host: host.clone(), prompt: Terminal };
    let mut options = options(config, host);
    options.operation_id = operation_id.map(str::to_owned);
    options.probed = probed;
    esxi::Host::connect(options, Arc::new(asker)).await.map_err(|error| advise(error.into(), host))
}

/// The client's hint names `ceso host trust`, which does not change a host that is described elsewhere.
fn advise(fault: Fault, host: &HostConfig) -> Fault {
    let about_trust = matches!(fault.kind(), "esxi.certificate_untrusted" | "esxi.certificate_changed");
    match (&host.origin, about_trust) {
        (Origin::Variable(_), true) => {
            fault.hint("compare the fingerprint with the one on the host's console, then set CESO_FINGERPRINT to it")
        }
        (Origin::System(path) | Origin::Project(path), true) => fault.hint(format!(
            "compare the fingerprint with the one on the host's console, then write it to hosts.{}.trust in {}",
            host.name,
            path.display()
        )),
        _ => fault,
    }
}

/// The certificate that answers at an address now; nothing is trusted and nothing is sent.
pub async fn certificate(config: &Arc<Config>, name: &str, url: &HostUrl) -> Result<esxi::Certificate, Fault> {
    check_network(config, name, url).await?;
    Ok(esxi::probe_certificate(url.url(), esxi::Timeouts::default().connect).await?)
}

/// Ends the kept session on a host; whether there was one. Nobody is asked for a password.
pub async fn logout(config: &Arc<Config>, host: &HostConfig) -> Result<bool, Fault> {
    check_network(config, &host.name, &host.url).await?;
    Ok(esxi::Host::logout_kept(options(config, host)).await?)
}
