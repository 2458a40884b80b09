//! Operations of hosts: connecting, and facts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Fields, Given, Object, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::units::{Bytes, Span};

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

impl Fields for HostFields {
    type Kind = kind::Host;
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

/// Tells how the run's connection to the host is used; nothing is sent for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetConnection {
    /// The host.
    pub host: Target<kind::Host>,
}

/// How a connection is used.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostConnection")]
pub struct Connection {
    /// Since it was opened.
    pub open: Span,
    /// Since the host was heard last.
    pub idle: Span,
    /// Requests sent so far.
    pub requests: u64,
    /// Logins made: none where a kept session was taken up. A login that was refused is never repeated.
    pub logins: u64,
    /// Bytes of requests.
    pub sent: Bytes,
    /// Bytes of answers.
    pub received: Bytes,
    /// How often something was sent once more because the host was busy.
    pub retries: u64,
    /// How often the host was looked at ahead of a change, after a rest.
    pub health_checks: u64,
    /// Requests that may be under way at once; more wait their turn.
    pub max_connections: u64,
    /// Requests under way.
    pub under_way: u64,
    /// Whether the session is kept for later commands; else it is logged out at the end.
    pub kept: bool,
}

impl Operation for GetConnection {
    const NAME: &'static str = "host.connection";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "connection" };
    const TOUCHES: &'static [Touch] = &[touch("host", "read", Selector::Argument("host"))];
    const USAGE: &'static str =
        "local connection = host:connection()\nprint(connection.requests, connection.logins, connection.idle)";

    type Bound = BoundHost;
    type Output = Connection;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<Connection, Fault> {
        let (traffic, connection) = (bound.host.client.traffic(), bound.host.client.connection());
        Ok(Connection {
            open: Span(connection.open),
            idle: Span(connection.idle),
            requests: traffic.requests,
            logins: traffic.logins,
            sent: Bytes(traffic.bytes_sent),
            received: Bytes(traffic.bytes_received),
            retries: connection.retries,
            health_checks: connection.health_checks,
            max_connections: connection.most as u64,
            under_way: connection.under_way as u64,
            kept: connection.kept,
        })
    }
}

/// Reads the host's facts: hardware, version, licence, and what stands in the way of changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The host.
    pub host: Target<kind::Host>,
}

/// What is known of a host.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostFacts {
    /// The name that the host has given itself.
    pub name: String,
    /// Product, version and build.
    pub product: String,
    /// Version, such as `8.0.3`.
    pub version: String,
    /// The build's number.
    pub build: String,
    /// Version of the API that it speaks, such as `8.0.3.0`.
    pub api_version: String,
    /// Who made the machine.
    pub vendor: Option<String>,
    /// The machine's model.
    pub model: Option<String>,
    /// The processors' model.
    pub cpu_model: Option<String>,
    /// Physical cores.
    pub cpu_cores: Option<u32>,
    /// Hardware threads.
    pub cpu_threads: Option<u32>,
    /// Memory of the machine.
    pub memory: Option<Bytes>,
    /// Time since it booted.
    pub uptime: Option<Span>,
    /// Whether it is in maintenance mode: no machine can be turned on.
    pub maintenance: bool,
    /// The licence's name, such as `Evaluation Mode`.
    pub licence: Option<String>,
    /// Whether the licence is the free one, which allows reads only; nil where the host does not say.
    pub licence_restricted: Option<bool>,
    /// The vCenter that manages the host, where one does: it may undo what is changed here.
    pub managed_by: Option<String>,
    /// How direct logins are restricted, where they are.
    pub lockdown: Option<String>,
}

impl Operation for Facts {
    const NAME: &'static str = "host.facts";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "facts" };
    const TOUCHES: &'static [Touch] = &[touch("host", "read", Selector::Argument("host"))];
    const USAGE: &'static str = "print(host:facts().version)";

    type Bound = BoundHost;
    type Output = HostFacts;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<HostFacts, Fault> {
        let facts = bound.host.client.host_facts(&bound.system).await?;
        Ok(HostFacts {
            name: facts.name,
            product: facts.product,
            version: facts.version,
            build: facts.build,
            api_version: facts.api_version,
            vendor: facts.vendor,
            model: facts.model,
            cpu_model: facts.cpu_model,
            cpu_cores: facts.cpu_cores,
            cpu_threads: facts.cpu_threads,
            memory: facts.memory,
            uptime: facts.uptime.map(Span),
            maintenance: facts.maintenance,
            licence: facts.licence,
            licence_restricted: facts.licence_restricted,
            managed_by: facts.managed_by,
            lockdown: facts.lockdown,
        })
    }
}
