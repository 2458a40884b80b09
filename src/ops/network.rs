//! Operations of networks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Fields, Given, Object, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;

/// Lists the host's networks that may be read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The host.
    pub host: Target<kind::Host>,
}

/// What a network handle tells.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NetworkFields {
    /// Whether machines can be connected to it.
    pub accessible: bool,
}

impl Fields for NetworkFields {
    type Kind = kind::Network;
}

impl Operation for List {
    const NAME: &'static str = "network.list";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "networks" };
    const TOUCHES: &'static [Touch] = &[touch("network", "read", Selector::Filtered)];
    const USAGE: &'static str = "for _, network in host:networks() do\n  print(network.name)\nend";

    type Bound = BoundHost;
    type Output = Vec<Given<kind::Network>>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.filtered("network", "read")?;
        binder.host(&self.host)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let rows = bound.host.client.list_networks(&bound.system).await?;
        rows.into_iter()
            .filter(|row| pass.may_read("network", &row.network.name))
            .map(|row| {
                let name = row.network.name.clone();
                let fields = NetworkFields { accessible: row.accessible };
                pass.give(Object::Network(bound.host.clone(), row.network), &name, &fields)
            })
            .collect()
    }
}
