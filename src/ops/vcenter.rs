//! Operations on what a vCenter has and a host has not: many hosts, clusters, folders of machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;
use crate::units::Bytes;

use super::linked::refuse_with_clones;

const READS: &[Touch] = &[touch("host", "read", Selector::Argument("host"))];

/// Lists the hosts that run the machines: those of a vCenter's datacenter with their clusters, or the one host itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Systems {
    /// The host, or the vCenter's datacenter.
    pub host: Target<kind::Host>,
}

/// A host as a vCenter lists it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostSystem")]
pub struct System {
    /// Its name there.
    pub name: String,
    /// The cluster that it is in; nil where it is in none.
    pub cluster: Option<String>,
    /// Whether the vCenter reaches it: `connected`, `disconnected` or `notResponding`.
    pub connection: String,
    /// Whether it is in maintenance mode: no machine can be turned on.
    pub maintenance: bool,
    /// Product, version and build.
    pub product: Option<String>,
    /// Physical cores.
    pub cpu_cores: Option<u32>,
    /// Memory.
    pub memory: Option<Bytes>,
    /// How many machines are on it.
    pub vms: u64,
}

impl Operation for Systems {
    const NAME: &'static str = "host.systems";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "systems" };
    const TOUCHES: &'static [Touch] = READS;
    const USAGE: &'static str =
        "for _, system in host:systems() do\n  print(system.name, system.cluster, system.vms)\nend";

    type Bound = BoundHost;
    type Output = Vec<System>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<Vec<System>, Fault> {
        let rows = bound.host.client.list_systems(&bound.system).await?;
        let row = |row: esxi::SystemRow| System {
            name: row.name,
            cluster: row.cluster,
            connection: row.connection,
            maintenance: row.maintenance,
            product: row.product,
            cpu_cores: row.cpu_cores,
            memory: row.memory,
            vms: row.vms as u64,
        };
        Ok(rows.into_iter().map(row).collect())
    }
}

/// Lists where machines can be put on a vCenter: its folders of machines, and its clusters and hosts with their resource pools.
///
/// What it lists is what `folder` and `place` of `host:create`, `host:clone`, `host:import` and `host:register` take. Errors:
/// `esxi.needs_vcenter` on a standalone host, which has one place alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// The vCenter's datacenter.
    pub host: Target<kind::Host>,
}

/// A place for machines.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "VmPlace")]
pub struct PlaceFound {
    /// What it is: a folder shows machines, the others run them.
    #[schemars(extend("enum" = ["folder", "cluster", "host", "pool"]))]
    pub kind: String,
    /// What it is called, such as `prod/web`, `C1`, `C1/esx1`.
    pub path: String,
}

impl Operation for Places {
    const NAME: &'static str = "host.places";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "places" };
    const TOUCHES: &'static [Touch] = READS;
    const USAGE: &'static str =
        "local there, places: any = pcall(host.places, host)\nif there then\n  print(#places)\nend";

    type Bound = BoundHost;
    type Output = Vec<PlaceFound>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<Vec<PlaceFound>, Fault> {
        let rows = bound.host.client.list_places(&bound.system).await?;
        Ok(rows.into_iter().map(|row| PlaceFound { kind: row.kind.to_owned(), path: row.path }).collect())
    }
}

/// Moves a machine on a vCenter, running or not: to another host, cluster or resource pool, to another datastore, to another folder.
///
/// What is not named stays. Errors: `esxi.needs_vcenter` on a standalone host, `esxi.place` with the places there are,
/// `esxi.has_linked_clones` where its disks would move from under others.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Migrate {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// What is to run it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`.
    pub place: Option<String>,
    /// The folder of machines, such as `prod/web`; `/` for the datacenter's own.
    pub folder: Option<String>,
    /// Where its files are to lie.
    pub datastore: Option<String>,
}

/// A move, checked.
pub struct BoundMove {
    vm: BoundVm,
    datastore: Option<Checked<esxi::Datastore>>,
}

impl Operation for Migrate {
    const NAME: &'static str = "vm.migrate";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "migrate" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "migrate", Selector::Argument("vm")),
        touch("datastore", "write", Selector::Given { argument: "datastore", given: "datastore" }),
    ];
    const USAGE: &'static str = "local moved, why: any = pcall(function(): any\n  vm:migrate({ place = \"C1/esx2\" })\n  return nil\nend)\nprint(moved or why.kind)";

    type Bound = BoundMove;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundMove, Fault> {
        if self.place.is_none() && self.folder.is_none() && self.datastore.is_none() {
            return Err(Fault::new("usage.argument", "vm.migrate: nothing says where the machine is to go")
                .hint("give a place, a folder or a datastore"));
        }
        let vm = binder.vm(&self.vm, "migrate").await?;
        let datastore = match &self.datastore {
            Some(name) => Some(binder.datastore(&binder.host_of(&vm), name, "write").await?),
            None => None,
        };
        Ok(BoundMove { vm, datastore })
    }

    async fn act(self, bound: BoundMove, pass: &Pass<'_>) -> Result<(), Fault> {
        let BoundMove { vm, datastore } = bound;
        if datastore.is_some() {
            refuse_with_clones(&vm.host, &vm.vm, pass, "moved", false).await?;
        }
        let at = esxi::Placement { folder: self.folder, place: self.place };
        vm.host.client.move_vm(&vm.vm, &at, datastore.as_ref(), &|step| pass.step(step)).await?;
        Ok(())
    }
}

/// Marks a powered-off machine on a vCenter as a template, which cannot be turned on; or makes a template a machine again.
///
/// A standalone host knows no such mark: there a template is a powered-off machine. Errors: `esxi.needs_vcenter`,
/// `esxi.invalid_power_state`, `esxi.place`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkTemplate {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Whether it is to be a template. Default: true.
    pub template: Option<bool>,
    /// What is to run it that is a template no more: a cluster or a host. Default: the only one there is.
    pub place: Option<String>,
}

impl Operation for MarkTemplate {
    const NAME: &'static str = "vm.mark_template";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "mark_template" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "configure", Selector::Argument("vm"))];
    const USAGE: &'static str = "local marked, why: any = pcall(function(): any\n  vm:mark_template()\n  return nil\nend)\nprint(marked or why.kind)";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let at = esxi::Placement { folder: None, place: self.place };
        let template = self.template.unwrap_or(true);
        bound.host.client.mark_template(&bound.vm, template, &at, &|step| pass.step(step)).await?;
        Ok(())
    }
}

/// Makes a folder of machines on a vCenter, in one that is there.
///
/// Errors: `esxi.needs_vcenter` on a standalone host, `esxi.place` where the folder above is not there, `esxi.duplicate_name`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateFolder {
    /// The vCenter's datacenter.
    pub host: Target<kind::Host>,
    /// The folder, such as `prod/web`.
    pub path: String,
}

impl Operation for CreateFolder {
    const NAME: &'static str = "host.create_folder";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "create_folder" };
    const POSITIONAL: &'static [&'static str] = &["path"];
    const TOUCHES: &'static [Touch] = &[touch("host", "administer", Selector::Argument("host"))];
    const USAGE: &'static str = "local made, why: any = pcall(function(): any\n  host:create_folder(\"prod\")\n  return nil\nend)\nprint(made or why.kind)";

    type Bound = BoundHost;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "administer")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<(), Fault> {
        bound.host.client.create_folder(&bound.system, &self.path).await?;
        Ok(())
    }
}
