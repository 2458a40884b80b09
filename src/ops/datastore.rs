//! Operations of datastores.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Connected, Fields, Given, Object, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;
use crate::units::Bytes;

/// Lists the host's datastores that may be read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The host.
    pub host: Target<kind::Host>,
}

/// What a datastore handle tells.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DatastoreFields {
    /// Its file system: `VMFS`, `NFS`, `vsan`, …
    pub r#type: String,
    /// Its whole size.
    pub capacity: Bytes,
    /// The space that is left.
    pub free: Bytes,
    /// Whether the host can reach it.
    pub accessible: bool,
    /// Whether the host may write to it.
    pub writable: bool,
}

impl Fields for DatastoreFields {
    type Kind = kind::Datastore;
}

impl Operation for List {
    const NAME: &'static str = "datastore.list";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "datastores" };
    const TOUCHES: &'static [Touch] = &[touch("datastore", "read", Selector::Filtered)];
    const USAGE: &'static str =
        "for _, datastore in host:datastores() do\n  print(datastore.name, datastore.free)\nend";

    type Bound = BoundHost;
    type Output = Vec<Given<kind::Datastore>>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.filtered("datastore", "read")?;
        binder.host(&self.host)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let rows = bound.host.client.list_datastores(&bound.system).await?;
        rows.into_iter()
            .filter(|row| pass.may_read("datastore", &row.datastore.name))
            .map(|row| give(pass, &bound.host, row))
            .collect()
    }
}

fn give(pass: &Pass<'_>, host: &Arc<Connected>, row: esxi::DatastoreRow) -> Result<Given<kind::Datastore>, Fault> {
    let name = row.datastore.name.clone();
    let fields = DatastoreFields {
        r#type: row.kind,
        capacity: row.capacity,
        free: row.free,
        accessible: row.accessible,
        writable: row.writable,
    };
    pass.give(Object::Datastore(host.clone(), row.datastore), &name, &fields)
}

/// Gives the handle of a datastore that was just made, as the host lists it now.
pub(super) async fn give_named(
    pass: &Pass<'_>,
    bound: &BoundHost,
    name: &str,
) -> Result<Given<kind::Datastore>, Fault> {
    let rows = bound.host.client.list_datastores(&bound.system).await?;
    match rows.into_iter().find(|row| row.datastore.name == name) {
        Some(row) => give(pass, &bound.host, row),
        None => Err(Fault::new("esxi.replaced", format!("the datastore {name:?} is gone, or was renamed"))
            .hint("look it up again by name")),
    }
}

/// Gives the one datastore of that name. Errors: `esxi.datastore_not_found`, `esxi.ambiguous`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The host.
    pub host: Target<kind::Host>,
    /// Its name, literally.
    pub name: String,
}

impl Operation for Get {
    const NAME: &'static str = "datastore.get";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "datastore" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("datastore", "read", Selector::Argument("name"))];
    const USAGE: &'static str = "local store = host:datastore(\"datastore1\")\nprint(store.name, store.free)";

    type Bound = (BoundHost, Checked<esxi::Datastore>);
    type Output = Given<kind::Datastore>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let host = binder.host(&self.host)?;
        let datastore = binder.datastore(&host, &self.name, "read").await?;
        Ok((host, datastore))
    }

    async fn act(self, (bound, datastore): Self::Bound, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let rows = bound.host.client.list_datastores(&bound.system).await?;
        match rows
            .into_iter()
            .find(|row| row.datastore.moref == datastore.moref && row.datastore.name == datastore.name)
        {
            Some(row) => give(pass, &bound.host, row),
            None => {
                Err(Fault::new("esxi.replaced", format!("the datastore {:?} is gone, or was renamed", datastore.name))
                    .hint("look it up again by name"))
            }
        }
    }
}
