//! A command of ceso's own passes the door: one door, recorded like a run's, for the calls of one command.
//!
//! Ctrl-C and a request to end stop what is under way: reads at once, work on a repository at its next step, and the command says so.
//! A second one ends the process.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::context::Context;
use super::globals::Globals;
use super::hosts::Configured;
use super::run::ledger;
use crate::config::{Config, Mode};
use crate::door::operation::Operation;
use crate::door::record::Recording;
use crate::door::{Door, Grant};
use crate::error::Fault;
use crate::run::progress::Lines;
use crate::wire;

/// The door of one command.
pub struct Passing<'a> {
    context: &'a Context,
    command: String,
    door: Door,
    lines: Lines,
    quiet: bool,
}

impl<'a> Passing<'a> {
    /// A door with what `--mode` and `--grant` allow, or the configuration. Only `--timeout` sets a limit to its time: a backup takes
    /// as long as it takes.
    pub fn open(
        context: &'a Context,
        config: &Config,
        globals: &Globals,
        command: impl Into<String>,
        hosts: Configured,
    ) -> Result<Self, Fault> {
        let grant = super::grant::read(config, globals)?;
        let passing = Self::granted(context, config, grant, command, hosts)?;
        if globals.timeout.is_some() {
            passing.door.set_deadline(Instant::now().checked_add(config.limits().run_time.0));
        }
        Ok(passing)
    }

    /// A door in restricted mode, for what only reads.
    pub fn restricted(
        context: &'a Context,
        config: &Config,
        command: impl Into<String>,
        hosts: Configured,
    ) -> Result<Self, Fault> {
        Self::granted(context, config, Grant { mode: Mode::Restricted, table: None }, command, hosts)
    }

    fn granted(
        context: &'a Context,
        config: &Config,
        grant: Grant,
        command: impl Into<String>,
        hosts: Configured,
    ) -> Result<Self, Fault> {
        let command = command.into();
        let recording = Recording {
            ledger: ledger(config)?,
            run: hosts.run().to_string(),
            script: None,
            details: Some(json!({ "command": command })),
            warn: Arc::new(|text| drop(super::context::say(&format!("ceso: {text}")))),
        };
        let lines = Lines::new();
        let shown = lines.clone();
        let watcher = Arc::new(move |progress| shown.operation(&progress));
        let door = Door::recorded(grant, Arc::new(hosts), watcher, recording);
        Ok(Self { context, command, door, lines, quiet: false })
    }

    /// Does not tell the receipt of its record, where several commands' worth of calls make one line each.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Makes the command's calls, ends its record, and gives what came of them.
    pub fn run<T>(self, calls: impl AsyncFnOnce(&Calls<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let door = &self.door;
        let result = self.context.block_on(async {
            let result = until_signalled(door, calls(&Calls(door))).await;
            let left = door.disconnect().await;
            result.and_then(|result| left.into_iter().next().map_or(Ok(result), Err))
        })?;
        self.lines.clear();
        let word = if result.is_ok() { "done" } else { "failed" };
        let details = json!({ "command": self.command, "calls": door.record().calls() });
        let closed = door.end(&self.command, word, result.as_ref().err(), details);
        for fault in &closed.faults {
            self.context.say(&format!("warning: {fault}"))?;
        }
        if let Some(receipt) = closed.receipt.as_ref().filter(|_| !self.quiet) {
            self.context.say(&format!("audit {receipt}"))?;
        }
        result
    }
}

/// What a command calls.
pub struct Calls<'a>(&'a Door);

impl Calls<'_> {
    /// Calls an operation; a field that is null counts as left out. What comes of it is as a script would see it.
    pub async fn call<O: Operation>(&self, arguments: Value) -> Result<wire::Value, Fault> {
        self.with::<O>(Vec::new(), arguments).await
    }

    /// Calls a method of a handle.
    pub async fn method<O: Operation>(
        &self,
        receiver: (&str, wire::Value),
        arguments: Value,
    ) -> Result<wire::Value, Fault> {
        self.with::<O>(vec![receiver], arguments).await
    }

    /// Calls an operation with several handles by their names.
    pub async fn with<O: Operation>(
        &self,
        handles: Vec<(&str, wire::Value)>,
        arguments: Value,
    ) -> Result<wire::Value, Fault> {
        let mut entries = match wire::Value::from_json(arguments) {
            wire::Value::Map(entries) => entries,
            _ => Vec::new(),
        };
        entries.retain(|(_, value)| !value.is_nil());
        entries.extend(handles.into_iter().map(|(name, handle)| (name.to_owned(), handle)));
        self.0.pass::<O>(self.0.record().calls() + 1, wire::Value::Map(entries)).await
    }
}

/// Waits for calls; the first signal stops them, the second ends the process as it would have without us.
async fn until_signalled<T>(door: &Door, calls: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let failed =
        |error: std::io::Error| Fault::new("ceso.signals", format!("signals cannot be awaited: {error}")).cause(error);
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let mut calls = std::pin::pin!(calls);
    let mut asked = false;
    loop {
        let code = tokio::select! {
            biased;
            result = &mut calls => return result,
            _ = interrupts.recv() => 130,
            _ = terminations.recv() => 143,
        };
        if asked {
            // Nothing that is cut off here is visible, and what is open in the record is found by the next command.
            std::process::exit(code);
        }
        asked = true;
        door.cancel(true);
    }
}
