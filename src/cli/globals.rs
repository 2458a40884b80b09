//! The flags that every command with a run has, wherever they stand: `--host`, `--mode`, `--timeout` and the like.
//!
//! They are taken out before a workflow's own flags are read, because a workflow's flags are known only once its worker has loaded it,
//! and the worker's limits and the run's mode must be known before. So no workflow can declare a parameter of one of these names.

use std::path::PathBuf;

use clap::{Arg, ArgAction};

use crate::config::Sources;
use crate::error::Fault;

/// What the flags said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Globals {
    pub host: Option<String>,
    pub mode: Option<String>,
    pub timeout: Option<String>,
    pub grant: Option<PathBuf>,
    pub explain: bool,
    pub no_jail: bool,
    pub verbose: bool,
    pub metrics_port: Option<String>,
    pub log: Option<String>,
}

/// The flags, as help shows them.
pub fn arguments() -> Vec<Arg> {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).help_heading("Run options").global(true)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading("Run options").global(true)
    };
    vec![
        value("host", "NAME", "The host to work on; \"sim\" is the simulator [env: CESO_HOST]"),
        value("mode", "MODE", "restricted, standard or unrestricted [default: standard, or security.mode]"),
        value(
            "timeout",
            "TIME",
            "How long it may take, such as 10m [default: sandbox.run_time, 10m, for scripts; none for disk and repository]",
        ),
        value("grant", "FILE", "A capability table (YAML) that the run may not go beyond"),
        value(
            "metrics-port",
            "PORT",
            "Serve /metrics for Prometheus on this port while the run lasts; 0 takes a free one",
        ),
        value("log", "LEVEL", "What is logged: info, or esxi=debug,door=info by room [env: CESO_LOG]"),
        flag("explain", "Print the entries that the run used, ready to paste as needs"),
        flag("no-jail", "Run without the kernel's jail where this machine cannot give it"),
        flag("verbose", "Print causes, and what the run did").short('v'),
    ]
}

/// Takes the flags out of the words; what stands behind `--` is left alone.
pub fn extract(words: Vec<String>) -> Result<(Globals, Vec<String>), Fault> {
    let mut globals = Globals::default();
    let mut rest = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push(word);
            rest.extend(words);
            break;
        }
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = |name: &str| {
            inline.clone().or_else(|| words.next()).ok_or_else(|| {
                Fault::new("usage.flag", format!("{name} needs a value")).hint("ceso --help shows the flags")
            })
        };
        match name {
            "--host" => once(&mut globals.host, value("--host")?, "--host")?,
            "--mode" => once(&mut globals.mode, value("--mode")?, "--mode")?,
            "--timeout" => once(&mut globals.timeout, value("--timeout")?, "--timeout")?,
            "--grant" => once(&mut globals.grant, PathBuf::from(value("--grant")?), "--grant")?,
            "--metrics-port" => once(&mut globals.metrics_port, value("--metrics-port")?, "--metrics-port")?,
            "--log" => once(&mut globals.log, value("--log")?, "--log")?,
            "--explain" if inline.is_none() => globals.explain = true,
            "--no-jail" if inline.is_none() => globals.no_jail = true,
            "--verbose" | "-v" if inline.is_none() => globals.verbose = true,
            _ => rest.push(word),
        }
    }
    Ok((globals, rest))
}

fn once<T>(slot: &mut Option<T>, value: T, name: &str) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::new("usage.flag", format!("{name} is given twice")).hint("give it once")),
    }
}

impl Globals {
    /// The flags as the strongest layer of the configuration.
    pub fn apply(&self, mut sources: Sources) -> Sources {
        if let Some(mode) = &self.mode {
            sources = sources.flag("--mode", "security.mode", mode);
        }
        if let Some(timeout) = &self.timeout {
            sources = sources.flag("--timeout", "sandbox.run_time", timeout);
        }
        if let Some(port) = &self.metrics_port {
            sources = sources.flag("--metrics-port", "metrics.port", port);
        }
        if let Some(level) = &self.log {
            sources = sources.flag("--log", "log.level", level);
        }
        sources.host(self.host.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(words: &str) -> Result<(Globals, Vec<String>), Fault> {
        extract(words.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn flags_are_found_wherever_they_stand() {
        let (globals, rest) = take("vm list --host sim --power on --mode=restricted -- --host x").unwrap();
        assert_eq!(globals.host.as_deref(), Some("sim"));
        assert_eq!(globals.mode.as_deref(), Some("restricted"));
        assert_eq!(rest.join(" "), "vm list --power on -- --host x");
    }

    #[test]
    fn a_flag_without_its_value_or_given_twice_is_an_error() {
        assert_eq!(take("vm list --host").unwrap_err().exit_code(), 2);
        assert_eq!(take("--host a --host b").unwrap_err().exit_code(), 2);
    }
}
