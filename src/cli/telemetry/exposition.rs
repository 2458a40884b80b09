//! Metrics of a command: served while it runs, written to a textfile when it has ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::context::Context;
use crate::cli::globals::Globals;
use crate::config::Metrics;
use crate::error::Fault;
use crate::metrics::{self, Server, textfile};

/// Runs a command with its metrics, where they are asked for. What cannot be had is said before anything is done.
///
/// Faults: `usage.metrics_port`, `usage.metrics_textfile`, and those of the command.
pub fn within(
    globals: &Globals,
    context: &Context,
    act: impl FnOnce() -> Result<ExitCode, Fault>,
) -> Result<ExitCode, Fault> {
    let exposition = Exposition::begin(globals.metrics_port.is_some(), &context.config()?.settings().metrics, context)?;
    let result = act();
    exposition.end(context)?;
    result
}

struct Exposition {
    /// Held until the command has ended.
    _server: Option<Server>,
    textfile: Option<PathBuf>,
}

impl Exposition {
    fn begin(asked: bool, settings: &Metrics, context: &Context) -> Result<Self, Fault> {
        let textfile = settings.textfile.clone();
        if !asked && !settings.enabled && textfile.is_none() {
            return Ok(Self { _server: None, textfile: None });
        }
        textfile.as_deref().map_or(Ok(()), textfile::check)?;
        metrics::enable()?;
        let address = SocketAddr::new(settings.address, settings.port);
        let server = match (asked || settings.enabled).then(|| Server::start(address)) {
            None => None,
            Some(Ok(server)) => Some(server),
            // Every command has the setting: of several at once only the first has the port, and the others must still run.
            Some(Err(fault)) if !asked => {
                context.say(&format!("warning: {}", fault.message()))?;
                None
            }
            Some(Err(fault)) => return Err(fault),
        };
        if let Some(server) = server.as_ref().filter(|_| settings.port == 0) {
            context.say(&format!("metrics: {}", server.url()))?;
        }
        Ok(Self { _server: server, textfile })
    }

    /// What is done is done: metrics that could not be written are a warning.
    fn end(self, context: &Context) -> Result<(), Fault> {
        let Some(path) = &self.textfile else { return Ok(()) };
        match textfile::write(path) {
            Ok(None) => Ok(()),
            Ok(Some(warning)) => context.say(&format!("warning: {warning}")),
            Err(fault) => context.say(&format!("warning: {}", fault.message())),
        }
    }
}
