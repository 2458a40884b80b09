//! Building cloud-init data.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cloudinit;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Fields, Given, Object, kind};
use crate::door::operation::{Effect, Operation, Place, Touch};
use crate::error::Fault;

/// Builds cloud-init data for a machine: host name, users, SSH keys, network.
///
/// The result is opaque: it is given to `vm:set_guestinfo` or `vm:ensure_guestinfo`, and cannot be read back. Every field is checked
/// here, and an error names the field: `cloudinit.build: users[1].ssh_keys[1]: …`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Build(cloudinit::Spec);

/// What a document tells: nothing of its content but the host name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DocumentFields {
    /// The host name that it gives.
    pub hostname: String,
}

impl Fields for DocumentFields {
    type Kind = kind::Document;
}

impl Operation for Build {
    const NAME: &'static str = "cloudinit.build";
    const CONTENTS: &'static [&'static str] = &["*"];
    const EFFECT: Effect = Effect::Pure;
    const PLACE: Place = Place::Function { binding: "cloudinit", name: "build" };
    const TOUCHES: &'static [Touch] = &[];
    const USAGE: &'static str = "local doc = cloudinit.build({\n  hostname = \"web-1\",\n  network = { address = \"10.0.1.20/24\", gateway = \"10.0.1.1\" },\n})";

    type Bound = ();
    type Output = Given<kind::Document>;

    async fn bind(&self, _: &Binder<'_>) -> Result<(), Fault> {
        Ok(())
    }

    async fn act(self, (): (), pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let hostname = self.0.hostname.clone();
        let document = cloudinit::build(&self.0)?;
        pass.give(Object::Document(Arc::new(document)), &hostname, &DocumentFields { hostname: hostname.clone() })
    }
}
