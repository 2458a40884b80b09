//! The operation that looks, before the first write of a workflow, at everything that could refuse it.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, NewVm};
use crate::units::Bytes;

/// Looks whether a machine could be made, before anything is written: licence, privileges, maintenance, name, folder, template,
/// datastore and its space, networks. All that stands in the way is raised at once; what may be trouble later is given as warnings.
///
/// A vCenter that manages the host, its lockdown mode, disks that may outgrow their datastore, and a copy that will not end within the
/// run's time (where a probe has found out how fast the host copies) are warnings. Datastores, networks
/// and machines that may not be read are not looked at. Errors: `esxi.preflight` with every failure; a single one has a kind of its own,
/// such as `esxi.duplicate_name`, `esxi.restricted_version`, `esxi.no_permission`, `esxi.no_disk_space`, `esxi.template`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Preflight {
    /// The host.
    pub host: Target<kind::Host>,
    /// The new machine's name.
    pub name: String,
    /// The machine that is to be copied.
    pub template: Option<String>,
    /// Where its files go. Default: the datastore with the most free space.
    pub datastore: Option<String>,
    /// The networks that its cards go to.
    pub networks: Option<Vec<String>>,
    /// What it takes up at once. Default: what the template does.
    pub space: Option<Bytes>,
    /// The size that its disks may grow to.
    pub disk: Option<Bytes>,
    /// Whether it is to be turned on. Default: false.
    pub power_on: Option<bool>,
    /// Whether it comes from an appliance or another host, which takes other privileges than making it on this one. Default: false.
    pub imported: Option<bool>,
}

/// One thing that was found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PreflightFinding")]
pub struct Finding {
    /// What it is about: `licence`, `privilege`, `lockdown`, `vcenter`, `space`, `time`, …
    pub what: String,
    /// What was found.
    pub message: String,
}

/// What was found to be in order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PreflightResult")]
pub struct Found {
    /// The datastore that the machine would go to.
    pub datastore: Option<String>,
    /// What may be trouble later.
    pub warnings: Vec<Finding>,
}

fn kind_of(what: &str) -> &'static str {
    match what {
        "licence" => "esxi.restricted_version",
        "privilege" => "esxi.no_permission",
        "maintenance" => "esxi.invalid_state",
        "name" => "esxi.duplicate_name",
        "folder" => "esxi.file_already_exists",
        "template" => "esxi.template",
        "datastore" => "esxi.datastore_not_found",
        "space" => "esxi.no_disk_space",
        "network" => "esxi.network_not_found",
        _ => "esxi.preflight",
    }
}

impl Operation for Preflight {
    const NAME: &'static str = "host.preflight";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "preflight" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "create", Selector::Argument("name"))];
    const USAGE: &'static str = "local found = host:preflight({ name = \"web-1\", template = \"debian-12\", networks = { \"VM Network\" } })\nfor _, warning in found.warnings do\n  print(warning.message)\nend";

    type Bound = (BoundHost, Checked<NewVm>);
    type Output = Found;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        Ok((binder.host(&self.host)?, binder.new_vm_name(&self.name)?))
    }

    async fn act(self, (bound, new): Self::Bound, pass: &Pass<'_>) -> Result<Found, Fault> {
        let networks: Vec<String> =
            self.networks.unwrap_or_default().into_iter().filter(|name| pass.may_read("network", name)).collect();
        let asked = esxi::Asked {
            template: self.template.as_deref().filter(|name| pass.may_read("vm", name)),
            datastore: self.datastore.as_deref(),
            without_datastore: self.datastore.as_deref().is_some_and(|name| !pass.may_read("datastore", name)),
            networks: &networks,
            space: self.space,
            grows_to: self.disk,
            power_on: self.power_on == Some(true),
            imported: self.imported == Some(true),
            time: Some(pass.time(Duration::MAX)).filter(|time| *time < Duration::MAX),
        };
        let usable = |noun, verb, name: &str| pass.may(noun, verb, name);
        let found = bound.host.client.preflight(&bound.system, &new, asked, &usable).await?;
        if !found.failures.is_empty() {
            let told: Vec<String> = found.failures.iter().map(|finding| finding.message.clone()).collect();
            // One failure keeps the kind that it would have by itself.
            let (kind, count) = match found.failures.as_slice() {
                [one] => (kind_of(one.what), "something stands".to_owned()),
                many => ("esxi.preflight", format!("{} things stand", many.len())),
            };
            return Err(Fault::new(
                kind,
                format!("{count} in the way of making {:?} on {}: {}", new.name, bound.host.name, told.join("; ")),
            )
            .hint("nothing was written: mend what is named, then try again"));
        }
        let warnings = found.warnings.into_iter();
        let warnings = warnings.map(|finding| Finding { what: finding.what.to_owned(), message: finding.message });
        Ok(Found { datastore: found.datastore, warnings: warnings.collect() })
    }
}
