//! One worker of the REPL with its door, its output and its hosts. It must know nothing of what was typed before it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::cli::globals::Globals;
use crate::cli::hosts::Configured;
use crate::cli::run as cli_run;
use crate::config::Config;
use crate::door::object::Connected;
use crate::door::{Door, Hosts};
use crate::error::Fault;
use crate::run::output::Output;
use crate::run::progress::Lines;
use crate::run::session::{Ended, Session};
use crate::run::{self, Kind, Request};
use crate::wire::{Limits, Source};

/// A worker and what belongs to it alone.
pub struct Worker {
    pub session: Session,
    pub door: Arc<Door>,
    pub output: Output,
    pub lines: Lines,
    pub limits: Limits,
}

impl Worker {
    /// Starts a worker. `host` is the host for calls that name none, where the person chose one.
    pub fn start(config: &Arc<Config>, globals: &Globals, host: &Arc<Mutex<Option<String>>>) -> Result<Self, Fault> {
        // The simulator lives as long as the session that started it, so each session has hosts of its own.
        let hosts = Arc::new(Configured::new(config.clone()));
        let source = Source { name: "repl".to_owned(), text: Vec::new() };
        let folder = Some(std::path::PathBuf::from("."));
        let mut request: Request = cli_run::request(config, globals, source, folder, hosts.clone(), Kind::Repl)?;
        request.hosts = Arc::new(Chosen { hosts, name: host.clone() });
        let (session, door) = run::repl(&request).map_err(Ended::into_fault)?;
        Ok(Self { session, door, output: request.output, lines: request.lines, limits: request.limits })
    }
}

/// The hosts of the configuration, with a host for calls that name none which can change.
struct Chosen {
    hosts: Arc<Configured>,
    name: Arc<Mutex<Option<String>>>,
}

impl Hosts for Chosen {
    fn connect<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>> {
        Box::pin(async move {
            let chosen = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.hosts.connect(name.or(chosen.as_deref())).await
        })
    }

    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Fault> {
        self.hosts.check_address(host, address)
    }
}
