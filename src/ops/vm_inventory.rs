//! Operations that take machines into a host's inventory, out of it, and under another name; their files stay where they are.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::give_vm;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, FilePath, NewVm};

/// Takes a machine whose files lie on a datastore into the inventory, powered off.
///
/// Its configuration file may name any disk and device of the host: in mode standard no file is taken in. Errors:
/// `esxi.file_not_found`, `esxi.already_exists` where the file is a machine's already, `esxi.duplicate_name`, `esxi.invalid_vm_config`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The host.
    pub host: Target<kind::Host>,
    /// The datastore that the file lies on.
    pub datastore: String,
    /// The configuration file, such as `web-1/web-1.vmx`.
    pub path: String,
    /// The machine's name, 1 to 80 characters. Default: its file's, without `.vmx`.
    pub name: Option<String>,
    /// On a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the datacenter's own.
    pub folder: Option<String>,
    /// On a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the only one there is.
    pub place: Option<String>,
}

/// The checked objects of a machine that is taken in.
pub struct BoundFile {
    host: BoundHost,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    path: FilePath,
}

impl Operation for Register {
    const NAME: &'static str = "vm.register";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "register" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "register", Selector::Argument("name")),
        touch("datastore", "copy_from", Selector::Argument("datastore")),
    ];
    const USAGE: &'static str = "local empty = host:create({ name = \"empty-1\", datastore = \"datastore1\" })\nempty:unregister()\nlocal again = host:register({ datastore = \"datastore1\", path = \"empty-1/empty-1.vmx\" })\nprint(again.name)";

    type Bound = BoundFile;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundFile, Fault> {
        let path = FilePath::below_root(&self.path)?;
        let Some(stem) = path.name().strip_suffix(".vmx").filter(|stem| !stem.is_empty()) else {
            return Err(Fault::new(
                "usage.argument",
                format!("{}: path: {path} is no machine's configuration", Self::NAME),
            )
            .hint("name its .vmx file, such as web-1/web-1.vmx"));
        };
        let host = binder.host(&self.host)?;
        let datastore = binder.datastore(&host, &self.datastore, "copy_from").await?;
        let new = binder.free_name(&host.host, self.name.as_deref().unwrap_or(stem), "register").await?;
        Ok(BoundFile { host, new, datastore, path })
    }

    async fn act(self, bound: BoundFile, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let host = &bound.host.host;
        let at = esxi::Placement { folder: self.folder, place: self.place };
        let told = |step: esxi::Step<'_>| pass.step(step);
        let vm = host.client.register_vm(&bound.new, &bound.datastore, &bound.path, &at, &told).await?;
        let vm = pass.registered(vm);
        give_vm(pass, host, &vm).await
    }
}

/// Takes a powered-off machine out of the inventory; its files stay where they are.
///
/// `host:register` takes it in again. In mode standard only what the run itself made. Errors: `esxi.invalid_power_state` where it runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unregister {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

impl Operation for Unregister {
    const NAME: &'static str = "vm.unregister";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "unregister" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "register", Selector::Argument("vm"))];
    const USAGE: &'static str =
        "local empty = host:create({ name = \"empty-2\", datastore = \"datastore1\" })\nempty:unregister()";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "register").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.host.client.unregister_vm(&bound.vm, &|step| pass.step(step)).await?;
        pass.unmade(&bound.host, &bound.vm);
        Ok(())
    }
}

/// Gives a machine another name, and a handle under it; its folder and files keep theirs.
///
/// Both names must be allowed, for what other entries allow goes by the new name from then on. Where the machine has the name, nothing
/// is done. Errors: `esxi.duplicate_name`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Its new name, 1 to 80 characters.
    pub name: String,
}

impl Operation for Rename {
    const NAME: &'static str = "vm.rename";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "rename" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] =
        &[touch("vm", "rename", Selector::Argument("vm")), touch("vm", "rename", Selector::Argument("name"))];
    const USAGE: &'static str = "local empty = host:create({ name = \"empty-3\", datastore = \"datastore1\" })\nempty = empty:rename(\"empty-4\")\nprint(empty.name)";

    type Bound = (BoundVm, Checked<NewVm>);
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.vm(&self.vm, "rename").await?;
        let new = match bound.vm.name == self.name {
            true => binder.vm_name(&self.name, "rename")?,
            false => binder.free_name(&bound.host, &self.name, "rename").await?,
        };
        Ok((bound, new))
    }

    async fn settled(&self, (bound, _): &Self::Bound, pass: &Pass<'_>) -> Result<Option<Self::Output>, Fault> {
        if bound.vm.name != self.name {
            return Ok(None);
        }
        give_vm(pass, &bound.host, &bound.vm).await.map(Some)
    }

    async fn act(self, (bound, new): Self::Bound, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        bound.host.client.rename_vm(&bound.vm, &new, &|step| pass.step(step)).await?;
        let vm = pass.renamed(&bound.host, &bound.vm, &new.name);
        give_vm(pass, &bound.host, &vm).await
    }
}
