//! Operations that read machines: lists, lookups, details, waiting for an address.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::give_row;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::table::Pattern;
use crate::error::Fault;
use crate::esxi::Detail;

/// Lists the host's machines that may be read, each as a handle with its state.
///
/// One request, whatever their number; the fields are a snapshot of that moment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The host.
    pub host: Target<kind::Host>,
}

impl Operation for List {
    const NAME: &'static str = "vm.list";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "vms" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Filtered)];
    const USAGE: &'static str = "for _, vm in host:vms() do\n  print(vm.name, vm.power, vm.ip)\nend";

    type Bound = BoundHost;
    type Output = Vec<Given<kind::Vm>>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.filtered("vm", "read")?;
        binder.host(&self.host)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        list(&bound, pass, &Pattern::Any).await
    }
}

/// Finds machines by a pattern: a name, or a prefix with `*` at its end.
///
/// Only machines that may be read are found; none is an empty list and no error.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// The host.
    pub host: Target<kind::Host>,
    /// A name, `web-*`, or `*`.
    pub name: String,
}

impl Operation for Find {
    const NAME: &'static str = "vm.find";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "find" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Filtered)];
    const USAGE: &'static str = "for _, vm in host:find({ name = \"web-*\" }) do\n  print(vm.name)\nend";

    type Bound = BoundHost;
    type Output = Vec<Given<kind::Vm>>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.filtered("vm", "read")?;
        binder.host(&self.host)
    }

    async fn act(self, bound: BoundHost, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let pattern = Pattern::parse(&self.name).filter(|pattern| *pattern != Pattern::Made).ok_or_else(|| {
            Fault::new("usage.argument", format!("vm.find: name: {:?} is not a pattern", self.name))
                .hint("give a name, a prefix with * at its end, or \"*\"")
        })?;
        list(&bound, pass, &pattern).await
    }
}

async fn list(bound: &BoundHost, pass: &Pass<'_>, pattern: &Pattern) -> Result<Vec<Given<kind::Vm>>, Fault> {
    let mut rows = bound.host.client.list_vms(&bound.system, Detail::Lean).await?;
    rows.retain(|row| pattern.matches(&row.vm.name, false) && pass.shows("vm", &row.vm.name));
    rows.sort_by(|a, b| a.vm.name.cmp(&b.vm.name));
    rows.into_iter().map(|row| give_row(pass, &bound.host, row)).collect()
}
