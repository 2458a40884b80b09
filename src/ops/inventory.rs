//! The operation that looks at many hosts at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::many::Selection;
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;
use crate::units::{Bytes, Span};

/// Lists the machines of many configured hosts at once: of all of them, of those whose names match, of those that have tags.
///
/// Each host is asked by itself: one that is slow, dead or refuses the login holds up no other, and is told of among `hosts` with its
/// error. Hosts that may not be connected to and machines that may not be read are left out. Errors: `usage.unknown_host` where no host is
/// meant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The hosts' names; `*` stands for any characters, `?` for one. Default: all that are configured.
    pub hosts: Option<String>,
    /// Words of which each host has all as tags.
    pub tags: Option<Vec<String>>,
    /// The machines' names, written as those of hosts. Default: all.
    pub name: Option<String>,
    /// Only machines that run, are off or are suspended.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: Option<String>,
    /// How long each host may take to be connected to, and again to answer. Default: 30 s.
    pub timeout: Option<Span>,
}

/// A machine of one of the hosts.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InventoryMachine")]
pub struct Machine {
    /// The host that it is on.
    pub host: String,
    /// Its name.
    pub name: String,
    /// Whether it runs.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: String,
    /// The guest's address, as in a machine's handle.
    pub ip: Option<String>,
    /// Virtual processors.
    pub cpus: Option<u32>,
    /// Memory.
    pub memory: Option<Bytes>,
}

/// How one host answered.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InventoryHost")]
pub struct HostRow {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it answered.
    pub ok: bool,
    /// Product and version.
    pub product: Option<String>,
    /// How many of its machines are in the list.
    pub machines: u64,
    /// How long it took after it was connected to.
    pub took: Option<Span>,
    /// The kind of its error, such as `esxi.unreachable`.
    pub error: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
}

/// What many hosts have told.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InventoryResult")]
pub struct Found {
    /// The machines, by host and name.
    pub machines: Vec<Machine>,
    /// Each host that was asked, by name.
    pub hosts: Vec<HostRow>,
}

impl Operation for Inventory {
    const NAME: &'static str = "host.inventory";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Function { binding: "esxi", name: "inventory" };
    const TOUCHES: &'static [Touch] =
        &[touch("host", "connect", Selector::Filtered), touch("vm", "read", Selector::Filtered)];
    const USAGE: &'static str = "local found = esxi.inventory({ hosts = \"sim\", power = \"on\" })\nfor _, machine in found.machines do\n  print(machine.host, machine.name, machine.ip)\nend\nfor _, host in found.hosts do\n  if not host.ok then\n    print(host.name, host.message)\n  end\nend";

    type Bound = Vec<(String, Result<BoundHost, Fault>)>;
    type Output = Found;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.filtered("vm", "read")?;
        let selection = Selection { name: self.hosts.clone(), tags: self.tags.clone().unwrap_or_default() };
        binder.connect_many(&selection, self.patience()).await
    }

    async fn act(self, bound: Self::Bound, pass: &Pass<'_>) -> Result<Found, Fault> {
        let patience = self.patience();
        let asked = bound.into_iter().map(|(name, host)| async move {
            let began = Instant::now();
            let listed = match host {
                Ok(host) => list(&host, patience).await,
                Err(fault) => Err(fault),
            };
            (name, listed, began.elapsed())
        });
        let mut found = Found { machines: Vec::new(), hosts: Vec::new() };
        for (name, listed, took) in join_all(asked).await {
            let mut row = HostRow {
                name,
                ok: listed.is_ok(),
                product: None,
                machines: 0,
                took: None,
                error: None,
                message: None,
            };
            match listed {
                Ok((product, rows)) => {
                    let before = found.machines.len();
                    let readable = rows.into_iter().filter(|row| pass.may_read("vm", &row.vm.name) && self.wants(row));
                    found.machines.extend(readable.map(|machine| Machine {
                        host: row.name.clone(),
                        name: machine.vm.name,
                        power: machine.power.as_str().to_owned(),
                        ip: machine.address,
                        cpus: machine.cpus,
                        memory: machine.memory,
                    }));
                    row.machines = (found.machines.len() - before) as u64;
                    (row.product, row.took) = (Some(product), Some(Span(took)));
                }
                Err(fault) => {
                    (row.error, row.message) = (Some(fault.kind().to_owned()), Some(fault.to_string()));
                }
            }
            found.hosts.push(row);
        }
        found.machines.sort_by(|a, b| (&a.host, &a.name).cmp(&(&b.host, &b.name)));
        found.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

impl Inventory {
    fn patience(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(30), |span| span.0)
    }

    fn wants(&self, row: &esxi::VmRow) -> bool {
        self.name.as_ref().is_none_or(|pattern| WildMatch::new(pattern).matches(&row.vm.name))
            && self.power.as_ref().is_none_or(|power| row.power.as_str() == power)
    }
}

async fn list(host: &BoundHost, patience: Duration) -> Result<(String, Vec<esxi::VmRow>), Fault> {
    let client = &host.host.client;
    match tokio::time::timeout(patience, client.list_vms(&host.system, esxi::Detail::Lean)).await {
        Ok(rows) => Ok((client.about().full_name, rows?)),
        Err(_) => {
            let message = format!("host {} did not answer within {}", host.host.name, Span(patience));
            Err(Fault::new("esxi.timeout", message)
                .hint("look whether it is busy, or give it a longer timeout")
                .retry())
        }
    }
}
