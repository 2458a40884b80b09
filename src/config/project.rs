//! What a project's file may not do.
//!
//! A project is cloned from anywhere, so its `ceso.yaml` is another's text that takes effect when a command runs in its folder.
//! It may tighten and it may add; it may not loosen a limit, redirect what the user set up, or get at a secret. The rule for each
//! section is written out against every field, so that a new setting does not compile before it has one. Each attempt is the
//! fault `config.project_may_not`; nothing is dropped in silence.

use std::path::{Component, Path};

use serde_json::{Map, Value};

use super::repositories::RepositoryEntry;
use super::settings::{Audit, ConnectionPool, HostEntry, Log, Metrics, Retention, Sandbox, Security, Settings, Traces};
use super::values::{ENVIRONMENT, SIMULATOR, Trust};
use crate::error::Fault;

/// Compares the settings without and with the project's layer. Where a flag or a variable names the host (`host_is_named`), the
/// project's `default_host` has no effect and is let be.
pub fn check(
    base: &Settings,
    with: &Settings,
    layer: &Map<String, Value>,
    file: &Path,
    host_is_named: bool,
) -> Result<(), Fault> {
    let rule = Rule { file };
    let Settings {
        default_host,
        hosts,
        secrets,
        connection_pool,
        sandbox,
        security,
        audit,
        metrics,
        log,
        traces,
        repositories,
        retention,
    } = with;
    for (name, host) in hosts {
        if layer.get("hosts").and_then(|hosts| hosts.get(name)).is_some() {
            rule.host(name, base.hosts.get(name), host)?;
        }
    }
    for (name, secret) in secrets {
        // Else a project could send a file or a variable of its choice into a machine of its choice.
        if !base.secrets.get(name).is_some_and(|known| known.may_become(secret)) {
            rule.refuse(
                &format!("secrets.{name}"),
                "bring a secret, or change more of one than to name fewer machines",
            )?;
        }
    }
    if default_host != &base.default_host && !host_is_named {
        rule.default_host(base, default_host.as_deref().unwrap_or_default())?;
    }
    rule.connection_pool(&base.connection_pool, connection_pool)?;
    rule.sandbox(&base.sandbox, sandbox)?;
    rule.security(&base.security, security)?;
    rule.audit(&base.audit, audit)?;
    rule.metrics(&base.metrics, metrics)?;
    rule.log(&base.log, log)?;
    rule.traces(&base.traces, traces)?;
    for (name, repository) in repositories {
        if layer.get("repositories").and_then(|repositories| repositories.get(name)).is_some() {
            rule.repository(name, base.repositories.get(name), repository)?;
        }
    }
    rule.retention(&base.retention, retention)
}

struct Rule<'a> {
    file: &'a Path,
}

impl Rule<'_> {
    fn refuse(&self, path: &str, what: &str) -> Result<(), Fault> {
        Err(Fault::new("config.project_may_not", format!("{}: {path}: a project's file may not {what}", self.file.display()))
            .hint("remove it from the project's file; if you want it, set it in your own ~/.ceso/config.yaml, by a variable or by a flag"))
    }

    fn host(&self, name: &str, known: Option<&HostEntry>, host: &HostEntry) -> Result<(), Fault> {
        let path = format!("hosts.{name}");
        if known.is_some() {
            return self.refuse(&path, "change a host that is already known");
        }
        let HostEntry { url: _, username: _, trust, password_file, password_env, tags: _, datacenter: _ } = host;
        // Either would send a file or a variable of the user's choice of secrets to an address of the project's choice.
        if password_file.is_some() {
            return self.refuse(&format!("{path}.password_file"), "say where a password is read from");
        }
        if password_env.is_some() {
            return self.refuse(&format!("{path}.password_env"), "say where a password is read from");
        }
        match trust {
            Trust::CaFile(file) if !self.inside(file) => {
                self.refuse(&format!("{path}.trust"), "name a file outside of the project's folder")
            }
            Trust::CaFile(_) | Trust::System | Trust::Fingerprint(_) => Ok(()),
        }
    }

    /// Whether a path lies in the project's folder, links resolved.
    fn inside(&self, path: &Path) -> bool {
        let Some(folder) = self.file.parent() else { return false };
        if path.components().any(|part| part == Component::ParentDir) {
            return false;
        }
        match (path.canonicalize(), folder.canonicalize()) {
            (Ok(path), Ok(folder)) => path.starts_with(folder),
            // A file that does not exist yet is judged by its name.
            _ => path.starts_with(folder),
        }
    }

    /// Else a project could point a command that names no host at one of the user's.
    fn default_host(&self, base: &Settings, name: &str) -> Result<(), Fault> {
        if base.default_host.is_some() {
            return self.refuse("default_host", "change the default host that you set");
        }
        if name != SIMULATOR && (name == ENVIRONMENT || base.hosts.contains_key(name)) {
            return self
                .refuse("default_host", "choose one of your hosts (only \"sim\", or a host that it brings itself)");
        }
        Ok(())
    }

    fn connection_pool(&self, base: &ConnectionPool, with: &ConnectionPool) -> Result<(), Fault> {
        let ConnectionPool { min_connections, max_connections, max_idle_time } = with;
        self.no_more("connection_pool.min_connections", *min_connections > base.min_connections)?;
        self.no_more("connection_pool.max_connections", *max_connections > base.max_connections)?;
        self.no_more("connection_pool.max_idle_time", *max_idle_time > base.max_idle_time)
    }

    fn sandbox(&self, base: &Sandbox, with: &Sandbox) -> Result<(), Fault> {
        let Sandbox { run_time, cpu_time, memory, source, output, calls, calls_at_once } = with;
        self.no_more("sandbox.run_time", *run_time > base.run_time)?;
        self.no_more("sandbox.cpu_time", *cpu_time > base.cpu_time)?;
        self.no_more("sandbox.memory", *memory > base.memory)?;
        self.no_more("sandbox.source", *source > base.source)?;
        self.no_more("sandbox.output", *output > base.output)?;
        self.no_more("sandbox.calls", *calls > base.calls)?;
        self.no_more("sandbox.calls_at_once", *calls_at_once > base.calls_at_once)
    }

    fn no_more(&self, path: &str, more: bool) -> Result<(), Fault> {
        if more { self.refuse(path, "raise a limit") } else { Ok(()) }
    }

    fn security(&self, base: &Security, with: &Security) -> Result<(), Fault> {
        let Security { mode, audit, audit_log, allowed_networks } = with;
        if *mode > base.mode {
            return self.refuse("security.mode", &format!("loosen the mode from {} to {mode}", base.mode));
        }
        if base.audit && !*audit {
            return self.refuse("security.audit", "switch the audit log off");
        }
        if *audit_log != base.audit_log {
            return self.refuse("security.audit_log", "move the audit log");
        }
        let (Some(allowed), Some(wanted)) = (&base.allowed_networks, allowed_networks) else { return Ok(()) };
        match wanted.iter().find(|network| !allowed.iter().any(|outer| outer.contains(*network))) {
            Some(network) => {
                self.refuse("security.allowed_networks", &format!("allow {network}, which your own settings do not"))
            }
            None => Ok(()),
        }
    }

    /// Not even more of it: a witness is told what a user does.
    fn audit(&self, base: &Audit, with: &Audit) -> Result<(), Fault> {
        let Audit { rotate_at, checkpoint_every, checkpoint_after, witness, witness_sends } = with;
        for (path, differs) in [
            ("audit.rotate_at", *rotate_at != base.rotate_at),
            ("audit.checkpoint_every", *checkpoint_every != base.checkpoint_every),
            ("audit.checkpoint_after", *checkpoint_after != base.checkpoint_after),
            ("audit.witness", *witness != base.witness),
            ("audit.witness_sends", *witness_sends != base.witness_sends),
        ] {
            if differs {
                return self.refuse(path, "change how the audit log is kept");
            }
        }
        Ok(())
    }

    fn metrics(&self, base: &Metrics, with: &Metrics) -> Result<(), Fault> {
        let Metrics { enabled, address, port, textfile } = with;
        if *enabled != base.enabled {
            return self.refuse("metrics.enabled", "open or close a port");
        }
        if *address != base.address {
            return self.refuse("metrics.address", "open or close a port");
        }
        if *port != base.port {
            return self.refuse("metrics.port", "open or close a port");
        }
        if *textfile != base.textfile {
            return self.refuse("metrics.textfile", "say which file is written");
        }
        Ok(())
    }

    /// How much is logged is no danger; where to is.
    fn log(&self, base: &Log, with: &Log) -> Result<(), Fault> {
        let Log { level: _, format: _, file } = with;
        if *file != base.file { self.refuse("log.file", "say which file is written") } else { Ok(()) }
    }

    fn traces(&self, base: &Traces, with: &Traces) -> Result<(), Fault> {
        let Traces { endpoint } = with;
        if *endpoint != base.endpoint { self.refuse("traces.endpoint", "send traces elsewhere") } else { Ok(()) }
    }

    fn repository(
        &self,
        name: &str,
        known: Option<&RepositoryEntry>,
        repository: &RepositoryEntry,
    ) -> Result<(), Fault> {
        let path = format!("repositories.{name}");
        if known.is_some() {
            return self.refuse(&path, "change a repository that is already known");
        }
        match repository.check_from_project(|folder| self.inside(folder)) {
            Ok(()) => Ok(()),
            Err((below, what)) => self.refuse(&format!("{path}{below}"), what),
        }
    }

    /// Without a rule everything is kept, so the first rule lets backups go; beside another rule a new one only keeps more.
    fn retention(&self, base: &Retention, with: &Retention) -> Result<(), Fault> {
        if base == with {
            return Ok(());
        }
        if base.is_none() {
            return self.refuse("retention", "let backups be removed that you keep");
        }
        let Retention {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            keep_within,
            keep_tags,
        } = with;
        let fewer = *keep_last < base.keep_last
            || *keep_hourly < base.keep_hourly
            || *keep_daily < base.keep_daily
            || *keep_weekly < base.keep_weekly
            || *keep_monthly < base.keep_monthly
            || *keep_yearly < base.keep_yearly
            || *keep_within < base.keep_within
            || base.keep_tags.iter().any(|tag| !keep_tags.contains(tag));
        if fewer { self.refuse("retention", "let backups be removed that you keep") } else { Ok(()) }
    }
}
