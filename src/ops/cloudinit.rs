//! Building cloud-init data, the secrets that go into it, and reading what a machine has.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outline::Outline;
use crate::cloudinit;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Fields, Given, Object, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::secret::{self, Built};
use crate::error::Fault;

const fn function(name: &'static str) -> Place {
    Place::Function { binding: "cloudinit", name }
}

/// Gives a secret of the configuration as a handle, for the fields of `cloudinit.build` that take one.
///
/// The script sees its name and purpose, never its value: the parent puts it into the document, and the document goes only to the
/// machines that the configuration names for it (`secrets.NAME.for`). Errors: `door.denied`, `config.no_secret`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its name under `secrets` in the configuration.
    pub name: String,
}

/// What a secret tells: what it is for, and nothing of its value.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SecretFields {
    /// What it is for: it fits into fields of that kind alone.
    #[schemars(extend("enum" = ["password_hash", "password", "private_key", "token", "text"]))]
    pub purpose: String,
}

impl Fields for SecretFields {
    type Kind = kind::Secret;
}

impl Operation for Secret {
    const NAME: &'static str = "cloudinit.secret";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("secret");
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("secret", "use", Selector::Argument("name"))];
    const USAGE: &'static str = "local hash = cloudinit.secret(\"ops-password\")\nlocal doc = cloudinit.build({\n  hostname = \"web-1\",\n  users = { { name = \"ops\", password_hash = hash } },\n})";

    type Bound = Arc<secret::Secret>;
    type Output = Given<kind::Secret>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        binder.secret(&self.name).await
    }

    async fn act(self, bound: Self::Bound, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let (name, purpose) = (bound.name().to_owned(), bound.purpose().as_str().to_owned());
        pass.give(Object::Secret(bound), &name, &SecretFields { purpose })
    }
}

/// Builds cloud-init data for a machine: host name, users, SSH keys, files, packages, network and the rest.
///
/// The result is opaque: it is given to `vm:set_guestinfo`, `vm:ensure_guestinfo` or `vm:attach_seed`, and cannot be read back. Every field
/// is checked here, and an error names the field: `users[1].ssh_keys[1]: …`. Fields that may be secret take a handle of
/// `cloudinit.secret`. Errors: `cloudinit.invalid`, `cloudinit.too_large`, `door.purpose` where a secret does not fit into a field.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Build(cloudinit::Spec);

/// What a document tells: nothing of its content but the host name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DocumentFields {
    /// The host name that it gives; a re-IP may give none.
    pub hostname: Option<String>,
    /// The addresses that it gives by hand, of all cards: what the guest must report once it is provisioned.
    pub addresses: Vec<String>,
}

impl Fields for DocumentFields {
    type Kind = kind::Document;
}

fn give(built: Built, pass: &Pass<'_>) -> Result<Given<kind::Document>, Fault> {
    let addresses = built.document.addresses().iter().map(ToString::to_string).collect();
    let fields = DocumentFields { hostname: built.document.hostname().map(str::to_owned), addresses };
    let name = fields.hostname.clone().unwrap_or_else(|| "re-IP".to_owned());
    pass.give(Object::Document(Arc::new(built)), &name, &fields)
}

impl Operation for Build {
    const NAME: &'static str = "cloudinit.build";
    const CONTENTS: &'static [&'static str] = &["*"];
    const EFFECT: Effect = Effect::Pure;
    const PLACE: Place = function("build");
    const TOUCHES: &'static [Touch] = &[];
    const USAGE: &'static str = "local doc = cloudinit.build({\n  hostname = \"web-1\",\n  network = { address = \"10.0.1.20/24\", gateway = \"10.0.1.1\" },\n})";

    type Bound = ();
    type Output = Given<kind::Document>;

    async fn bind(&self, _: &Binder<'_>) -> Result<(), Fault> {
        Ok(())
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        give(pass.build(self.0)?, pass)
    }
}

/// Builds the data that gives a machine which has booted before a new network, and changes nothing else in it.
///
/// It is given to `vm:reip` or `vm:ensure_reip`; the guest takes it at its next boot. Host keys, accounts, host name, package sources and mounts
/// stay, no command runs again. Only for cloud-init: cloudbase-init does all of its work again for a new instance-id.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Reip(cloudinit::Reip);

impl Operation for Reip {
    const NAME: &'static str = "cloudinit.reip";
    const EFFECT: Effect = Effect::Pure;
    const PLACE: Place = function("reip");
    const TOUCHES: &'static [Touch] = &[];
    const USAGE: &'static str = "local moved = cloudinit.reip({\n  network = { address = \"10.0.2.20/24\", gateway = \"10.0.2.1\", dns = { \"10.0.2.1\" } },\n})";

    type Bound = ();
    type Output = Given<kind::Document>;

    async fn bind(&self, _: &Binder<'_>) -> Result<(), Fault> {
        Ok(())
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        give(Built::plain(cloudinit::reip(&self.0)?), pass)
    }
}

/// Decodes the cloud-init data that a machine has: host name, instance-id, network, and an outline of the rest.
///
/// Contents of files, commands, passwords and sizes are not told, for they may be secret. Parts that are absent, damaged or overwritten by
/// the guest say so.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// The cloud-init data that a machine has.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CloudInitRead {
    /// How the meta-data was found.
    #[schemars(extend("enum" = ["absent", "redacted", "damaged", "present"]))]
    pub metadata: String,
    /// How the user-data was found.
    #[schemars(extend("enum" = ["absent", "redacted", "damaged", "present"]))]
    pub userdata: String,
    /// How the vendor data was found.
    #[schemars(extend("enum" = ["absent", "redacted", "damaged", "present"]))]
    pub vendordata: String,
    /// What is wrong with the parts that are damaged.
    pub problems: Vec<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// The instance-id: a guest that meets a new one does its first-boot work again.
    pub instance_id: Option<String>,
    /// The addresses given by hand, of all cards.
    pub addresses: Vec<String>,
    /// The network configuration, without passwords.
    pub network: Option<Outline>,
    /// What the user-data does.
    pub outline: Option<Outline>,
}

impl From<cloudinit::Seen> for CloudInitRead {
    fn from(seen: cloudinit::Seen) -> Self {
        let state = |found: &cloudinit::Found| {
            match found.state {
                cloudinit::State::Absent => "absent",
                cloudinit::State::Redacted => "redacted",
                cloudinit::State::Damaged => "damaged",
                cloudinit::State::Present => "present",
            }
            .to_owned()
        };
        let (metadata, userdata, vendordata) = (state(&seen.metadata), state(&seen.userdata), state(&seen.vendordata));
        let parts = [("metadata", seen.metadata), ("userdata", seen.userdata), ("vendordata", seen.vendordata)];
        let problems =
            parts.into_iter().filter_map(|(name, found)| Some(format!("{name}: {}", found.problem?))).collect();
        Self {
            metadata,
            userdata,
            vendordata,
            problems,
            hostname: seen.hostname,
            instance_id: seen.instance_id,
            addresses: seen.addresses.iter().map(ToString::to_string).collect(),
            network: seen.network.map(Outline::public),
            outline: seen.outline.map(Outline::public),
        }
    }
}

impl Operation for Read {
    const NAME: &'static str = "cloudinit.read";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = function("read");
    const POSITIONAL: &'static [&'static str] = &["vm"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str =
        "vm:set_guestinfo(cloudinit.build({ hostname = \"web-1\" }))\nprint(cloudinit.read(vm).hostname)";

    type Bound = BoundVm;
    type Output = CloudInitRead;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<CloudInitRead, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        pass.same(&bound.host, &bound.vm, &info.row.vm, "read")?;
        Ok(cloudinit::read(|key| info.extra_config.get(key).map(String::as_str)).into())
    }
}
