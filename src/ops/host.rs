//! Operations of hosts: connecting, and facts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Given, Object, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;

/// Connects to a host and gives its handle.
///
/// Without a name it is the host that the run was started for (`--host`), which needs no entry. A session that was kept from an
/// earlier command is used again; a login is made only where it is needed, and never repeated after a wrong password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The host's name in the configuration.
    pub name: Option<String>,
}

/// What a host handle tells.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostFields {
    /// Whether it is the simulator.
    pub simulated: bool,
    /// Product and version, such as `VMware ESXi 8.0.3 build-24022510`.
    pub product: String,
}

impl Operation for Connect {
    const NAME: &'static str = "host.connect";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Function { binding: "esxi", name: "connect" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("host", "connect", Selector::Argument("name"))];
    const USAGE: &'static str = "local host = esxi.connect()\nprint(host.name, host.product)";

    type Bound = BoundHost;
    type Output = Given<kind::Host>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.connect(self.name.as_deref()).await
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let host = bound.host;
        let about = host.client.about();
        let fields = HostFields { simulated: host.simulated, product: about.full_name };
        let name = host.name.clone();
        pass.give(Object::Host(host), &name, &fields)
    }
}
