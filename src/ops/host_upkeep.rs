//! Operations on a host as a whole: maintenance mode, shutting down, its configuration out as a file and in again.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file_transfer::blocking;
use super::host_change::ADMINISTERS;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::PowerState;
use crate::units::{Bytes, Span};

/// The machines that run now, as far as the run may read their names.
async fn refuse_running(bound: &BoundHost, pass: &Pass<'_>, what: &str) -> Result<(), Fault> {
    let rows = bound.host.client.list_vms(&bound.system, crate::esxi::Detail::Lean).await?;
    let running: Vec<String> =
        rows.into_iter().filter(|row| row.power == PowerState::On).map(|row| row.vm.name).collect();
    if running.is_empty() {
        return Ok(());
    }
    let mut told: Vec<String> =
        running.iter().filter(|name| pass.may_read("vm", name)).take(20).map(|name| format!("{name:?}")).collect();
    match running.len() - told.len() {
        0 => {}
        others => told.push(format!("{others} more")),
    }
    Err(Fault::new(
        "esxi.machines_run",
        format!("{} is not {what}: machines run on it: {}", bound.host.name, told.join(", ")),
    )
    .hint("shut them down first: ceso vm power NAME shutdown"))
}

/// Puts the host into maintenance mode, in which it turns no machine on.
///
/// A standalone host moves no machine away, so it is refused while one runs. Where it is so already, nothing is done. Errors:
/// `esxi.machines_run`, `esxi.timedout`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnterMaintenance {
    /// The host.
    pub host: Target<kind::Host>,
    /// How long the host may take. Default: 1 min.
    pub timeout: Option<Span>,
}

impl Operation for EnterMaintenance {
    const NAME: &'static str = "host.enter_maintenance";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "enter_maintenance" };
    const TOUCHES: &'static [Touch] = ADMINISTERS;
    const USAGE: &'static str = "host:enter_maintenance()\nhost:exit_maintenance()";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "administer")
    }

    async fn settled(&self, bound: &BoundHost, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        Ok(bound.host.client.host_facts(&bound.system).await?.maintenance.then_some(()))
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_running(&bound, pass, "put into maintenance mode").await?;
        let timeout = self.timeout.map_or(Duration::from_secs(60), |span| span.0);
        Ok(bound.host.client.enter_maintenance(&bound.system, timeout, &|step| pass.step(step)).await?)
    }
}

/// Takes the host out of maintenance mode; where it is not in it, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitMaintenance {
    /// The host.
    pub host: Target<kind::Host>,
}

impl Operation for ExitMaintenance {
    const NAME: &'static str = "host.exit_maintenance";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "exit_maintenance" };
    const TOUCHES: &'static [Touch] = ADMINISTERS;
    const USAGE: &'static str = "host:exit_maintenance()";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "administer")
    }

    async fn settled(&self, bound: &BoundHost, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        Ok((!bound.host.client.host_facts(&bound.system).await?.maintenance).then_some(()))
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<(), Fault> {
        Ok(bound.host.client.exit_maintenance(&bound.system, &|step| pass.step(step)).await?)
    }
}

/// Lists the machines that run, in the order in which they are to be shut down: those without a place in the host's own order of
/// starting first, then the others in its reverse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShutdownOrder {
    /// The host.
    pub host: Target<kind::Host>,
}

/// A machine in the order of a shutdown.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostShutdownRow")]
pub struct ShutdownRow {
    /// The machine's name.
    pub name: String,
    /// Its place in the order of starting; nil where it has none.
    pub start_order: Option<u32>,
    /// What the host would do with it by itself; nil where it takes no part in what the host starts and stops.
    #[schemars(extend("enum" = ["guestShutdown", "powerOff", "suspend", "none", "systemDefault"]))]
    pub action: Option<String>,
    /// Whether VMware's tools run in its guest; without them it cannot be asked to shut down.
    pub tools: bool,
}

impl Operation for ShutdownOrder {
    const NAME: &'static str = "host.shutdown_order";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "shutdown_order" };
    const TOUCHES: &'static [Touch] =
        &[touch("host", "shut_down", Selector::Argument("host")), touch("vm", "read", Selector::Filtered)];
    const USAGE: &'static str = "for _, guest in host:shutdown_order() do\n  print(guest.name, guest.start_order)\nend";

    type Bound = BoundHost;
    type Output = Vec<ShutdownRow>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        let bound = binder.host_for(&self.host, "shut_down")?;
        binder.filtered("vm", "read")?;
        Ok(bound)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Vec<ShutdownRow>, Fault> {
        let rows = bound.host.client.shutdown_order(&bound.system).await?;
        let readable = rows.into_iter().filter(|row| pass.may_read("vm", &row.name));
        let row = |row: crate::esxi::ShutdownRow| ShutdownRow {
            name: row.name,
            start_order: row.start_order,
            action: row.action.map(|action| action.as_str().to_owned()),
            tools: row.tools,
        };
        Ok(readable.map(row).collect())
    }
}

/// Shuts the host down, or restarts it. Machines that run are not touched: while there is one, the host is not either.
///
/// The host is not put into maintenance mode for it, so that it starts its machines by itself when it comes back. The call returns when
/// the host has taken the request; from then on it answers nobody. Errors: `esxi.machines_run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShutDown {
    /// The host.
    pub host: Target<kind::Host>,
    /// Whether it starts again. Default: false.
    pub restart: Option<bool>,
}

impl Operation for ShutDown {
    const NAME: &'static str = "host.shut_down";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Method { kind: "host", name: "shut_down" };
    const TOUCHES: &'static [Touch] = &[touch("host", "shut_down", Selector::Argument("host"))];
    const USAGE: &'static str = "host:shut_down()";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "shut_down")
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_running(&bound, pass, "shut down").await?;
        Ok(bound.host.client.shut_down(&bound.system, self.restart == Some(true)).await?)
    }
}

/// The configuration of a host, as a file of this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Configuration {
    /// How long it is.
    pub size: Bytes,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

fn configuration(bytes: &[u8]) -> Configuration {
    let sha256 = hex::encode(Sha256::digest(bytes));
    Configuration { size: Bytes(bytes.len() as u64), sha256 }
}

/// Downloads the host's whole configuration to a new file of this machine, which only its owner can read.
///
/// It holds the password hashes of the host's accounts and its private keys. Errors: `local.file_exists`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackUpConfig {
    /// The host.
    pub host: Target<kind::Host>,
    /// The new file of this machine: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
}

impl Operation for BackUpConfig {
    const NAME: &'static str = "host.backup_config";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "backup_config" };
    const TOUCHES: &'static [Touch] = &[touch("host", "copy_config", Selector::Argument("host"))];
    const USAGE: &'static str = "local kept = host:backup_config({ into = file })\nprint(kept.size, kept.sha256)";

    type Bound = (BoundHost, Arc<LocalFile>);
    type Output = Configuration;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.host_for(&self.host, "copy_config")?;
        Ok((bound, binder.file(&self.into, Access::Write)?))
    }

    async fn act(self, (bound, file): Self::Bound, _: &Pass<'_>) -> Result<Configuration, Fault> {
        let bytes = bound.host.client.backup_configuration(&bound.system).await?;
        blocking(move || {
            use std::io::Write as _;
            use std::os::unix::fs::PermissionsExt as _;
            let part = file.begin(false)?;
            let private = std::fs::Permissions::from_mode(0o600);
            let written = part
                .file()
                .and_then(|own| own.set_permissions(private))
                .and_then(|()| part.writer())
                .and_then(|mut writer| writer.write_all(&bytes).and_then(|()| writer.flush()));
            match written {
                Ok(()) => part.finish().map(|()| configuration(&bytes)),
                Err(error) => {
                    let message = format!("{} cannot be written: {error}", part.path().display());
                    part.discard()?;
                    Err(Fault::new("local.file", message).hint("look at the folder and its disk on this machine"))
                }
            }
        })
        .await
    }
}

/// Puts a configuration back that was downloaded from the host: all settings are replaced, and the host restarts at once.
///
/// It must be in maintenance mode. One of another host or build is refused unless `force` says otherwise. Errors:
/// `esxi.not_in_maintenance`, `esxi.invalid_bundle`, `esxi.mismatched_bundle`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreConfig {
    /// The host.
    pub host: Target<kind::Host>,
    /// The file of this machine: a parameter of type `file`.
    pub file: Target<kind::File>,
    /// Whether to take one of another host or build. Default: false.
    pub force: Option<bool>,
}

/// The largest configuration that is sent.
const LARGEST: u64 = 64 << 20;

impl Operation for RestoreConfig {
    const NAME: &'static str = "host.restore_config";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Method { kind: "host", name: "restore_config" };
    const TOUCHES: &'static [Touch] = ADMINISTERS;
    const USAGE: &'static str = "host:enter_maintenance()\nlocal done, fault: any = pcall(function(): any\n  host:restore_config({ file = file })\n  return nil\nend)\nif not done then\n  print(fault.kind)\n  host:exit_maintenance()\nend";

    type Bound = (BoundHost, Arc<LocalFile>);
    type Output = Configuration;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.host_for(&self.host, "administer")?;
        let file = binder.file(&self.file, Access::Read)?;
        if file.length() == 0 || file.length() > LARGEST {
            return Err(Fault::new(
                "local.file",
                format!("{} is no configuration of a host: it has {}", file.name(), Bytes(file.length())),
            )
            .hint("name a file that `ceso host config backup` has written"));
        }
        Ok((bound, file))
    }

    async fn act(self, (bound, file): Self::Bound, _: &Pass<'_>) -> Result<Configuration, Fault> {
        let client = &bound.host.client;
        if !client.host_facts(&bound.system).await?.maintenance {
            return Err(Fault::new(
                "esxi.not_in_maintenance",
                format!("{} is not in maintenance mode", bound.host.name),
            )
            .hint("a host restarts with the configuration: ceso host maintenance enter first"));
        }
        let bytes = blocking(move || {
            use std::io::Read as _;
            let mut bytes = Vec::new();
            let read = file.reader().and_then(|reader| reader.take(LARGEST).read_to_end(&mut bytes));
            read.map_err(|error| {
                Fault::new("local.file", format!("{} cannot be read: {error}", file.path().display()))
                    .hint("look at the file, its folder and its disk on this machine")
            })?;
            Ok(bytes)
        })
        .await?;
        let told = configuration(&bytes);
        client.restore_configuration(&bound.system, bytes, self.force == Some(true)).await?;
        Ok(told)
    }
}
