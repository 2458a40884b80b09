//! Connections for a run: configured hosts, and the simulator, which is started in this process when it is first asked for.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::context::say;
use crate::config::{Config, Target};
use crate::door::Hosts;
use crate::door::object::Connected;
use crate::error::Fault;
use crate::run::connect;

/// Hosts by name, as the configuration and `--host` describe them.
pub struct Configured {
    config: Arc<Config>,
}

impl Configured {
    pub fn new(config: Arc<Config>) -> Self {
        Self { config }
    }

    async fn simulator(&self) -> Result<Connected, Fault> {
        Err(Fault::new("usage.no_simulator", "the simulator is not in this build yet"))
    }
}

impl Hosts for Configured {
    fn connect<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>> {
        Box::pin(async move {
            match self.config.target(name)? {
                Target::Simulator => self.simulator().await,
                Target::Host(host) => {
                    let client = connect::open(&self.config, &host).await?;
                    for notice in client.take_notices() {
                        say(&format!("warning: {notice}"))?;
                    }
                    Ok(Connected { name: host.name.clone(), simulated: false, client })
                }
            }
        })
    }
}
