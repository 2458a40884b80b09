//! Connections for a run: configured hosts, and the simulator, which is started in this process when it is first asked for.

use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;
use tokio::sync::OnceCell;

use super::context::say;
use super::repository::place::Typed;
use crate::catalog::Catalog;
use crate::config::{Config, NamedSecret, SIMULATOR, SecretPurpose, Target};
use crate::door::Hosts;
use crate::door::catalog::address;
use crate::door::many::KnownHost;
use crate::door::object::Connected;
use crate::door::repository::Stored;
use crate::error::Fault;
use crate::run::RunId;
use crate::run::connect::{self, Opening};
use crate::{esxi, ops, redact, sim};

/// Hosts by name, as the configuration and `--host` describe them.
pub struct Configured {
    config: Arc<Config>,
    run: RunId,
    simulator: OnceCell<sim::Server>,
    files_known: Once,
    /// The repositories that a person typed.
    repositories: Vec<Typed>,
}

impl Configured {
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            run: RunId::new(),
            simulator: OnceCell::new(),
            files_known: Once::new(),
            repositories: Vec::new(),
        }
    }

    /// Knows a repository that a person typed, under its name, beside those of the configuration.
    pub fn typed(mut self, repository: Typed) -> Self {
        self.repositories.push(repository);
        self
    }

    /// The run that the connections are for: the hosts' own logs carry its name as `operationID`.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// What the catalog knows of a host that is about to be connected to, as far as it chooses how things are carried. What a probe has left
    /// there is said.
    async fn known(&self, name: &str, url: &str) -> Result<Option<esxi::Probed>, Fault> {
        let catalog = Catalog::new(self.config.home().catalog());
        if !catalog.is_there() {
            return Ok(None);
        }
        let asked = name.to_owned();
        let read = tokio::task::spawn_blocking(move || catalog.host(&asked)).await;
        let host = match read {
            Ok(Ok(host)) => host,
            Ok(Err(error)) => {
                say(&format!("warning: what was probed of {name} is not known, and not used: {}", Fault::from(error)))?;
                None
            }
            Err(error) => {
                return Err(Fault::new("ceso.thread", format!("the catalog was not read: {error}"))
                    .hint("this is a defect of ceso: please report it"));
            }
        };
        let Some(host) = host else { return Ok(None) };
        if !host.probing.is_empty() {
            let left = host.probing.join(", ");
            say(&format!(
                "warning: a probe of {name} has not ended: it still runs, or was killed and has left {left} there"
            ))?;
        }
        Ok(ops::host_probe::known(&host, &address(name, url)))
    }

    /// The simulator in this process: its state is kept in the user's data folder, so that one command sees what another made.
    async fn simulator(&self) -> Result<Connected, Fault> {
        // Nobody else logs in to it, and nobody has to know how.
        let password = SecretString::from(uuid::Uuid::new_v4().simple().to_string());
        redact::know(&password, format!("password of {SIMULATOR}"));
        let options = sim::Options { password, ..sim_options(&self.config) };
        let (username, password) = (options.username.clone(), options.password.clone());
        let server = self.simulator.get_or_try_init(|| sim::Server::start(options)).await?;
        let broken =
            |error: String| Fault::new("sim.address", format!("the simulator's address cannot be used: {error}"));
        let url = server.url().parse().map_err(|error: url::ParseError| broken(error.to_string()))?;
        let fingerprint = server.fingerprint().parse().map_err(|_| broken("its fingerprint is none".to_owned()))?;
        let mut options = esxi::HostOptions::new(SIMULATOR, url, esxi::Trust::Fingerprint(fingerprint));
        options.operation_id = Some(self.run.to_string());
        options.probed = self.known(SIMULATOR, "").await?;
        let client = esxi::Host::connect(options, Arc::new(esxi::Login { username, password })).await?;
        Ok(Connected { name: SIMULATOR.to_owned(), simulated: true, client })
    }
}

/// How the host named `sim` is started.
pub fn sim_options(config: &Config) -> sim::Options {
    sim::Options {
        state: Some(config.home().simulator()),
        boot_delay: Duration::from_millis(50),
        ..sim::Options::default()
    }
}

impl Hosts for Configured {
    fn secret(&self, name: &str) -> Result<NamedSecret, Fault> {
        self.config.secret(name)
    }

    fn secret_parameter(&self, name: &str, reference: &str, purpose: SecretPurpose) -> Result<NamedSecret, Fault> {
        self.config.secret_parameter(name, reference, purpose)
    }

    fn repository(&self, name: &str) -> Result<Stored, Fault> {
        match self.repositories.iter().find(|typed| typed.name == name) {
            Some(typed) => typed.stored(&self.config),
            None => ops::place::locate_named(&self.config, name),
        }
    }

    fn typed_out_repository(&self, place: &str) -> Result<Stored, Fault> {
        ops::place::locate(&self.config, place, None)
    }

    fn host_names(&self) -> Vec<KnownHost> {
        let known = self.config.settings().hosts.iter();
        known.map(|(name, entry)| KnownHost { name: name.clone(), tags: entry.tags.clone() }).collect()
    }

    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Fault> {
        self.config.check_address(host, address)
    }

    fn repository_names(&self) -> Vec<String> {
        self.config.repository_names().map(str::to_owned).collect()
    }

    fn catalog(&self) -> Option<Catalog> {
        Some(Catalog::new(self.config.home().catalog()))
    }

    fn connect<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>> {
        Box::pin(async move {
            self.files_known.call_once(|| self.config.know_files());
            match self.config.target(name)? {
                Target::Simulator => self.simulator().await,
                Target::Host(host) => {
                    let probed = self.known(&host.name, host.url.url().as_str()).await?;
                    let opening = Opening { host: &host, operation_id: Some(self.run.as_str()), probed };
                    let client = connect::open(&self.config, opening).await?;
                    for notice in client.take_notices() {
                        say(&format!("warning: {notice}"))?;
                    }
                    let simulated = client.about().is_simulator();
                    Ok(Connected { name: host.name.clone(), simulated, client })
                }
            }
        })
    }
}
