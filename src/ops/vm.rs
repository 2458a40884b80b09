//! Operations that read machines: lists, lookups, details, waiting for an address.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::{VmInfo, give_row, give_vm};
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::table::Pattern;
use crate::error::Fault;
use crate::esxi::{Detail, PowerState, Step};
use crate::units::Span;

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
    rows.retain(|row| pattern.matches(&row.vm.name, false) && pass.may_read("vm", &row.vm.name));
    rows.sort_by(|a, b| a.vm.name.cmp(&b.vm.name));
    rows.into_iter().map(|row| give_row(pass, &bound.host, row)).collect()
}

/// Looks one machine up by its literal name and gives its handle.
///
/// Errors: `esxi.vm_not_found` with the nearest names, `esxi.ambiguous` where two machines have the name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// The host.
    pub host: Target<kind::Host>,
    /// The machine's name, literally: a `*` in it selects nothing.
    pub name: String,
}

impl Operation for Get {
    const NAME: &'static str = "vm.get";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "vm" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("name"))];
    const USAGE: &'static str = "local template = host:vm(\"debian-12\")\nprint(template.power)";

    type Bound = BoundVm;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        let host = binder.host(&self.host)?;
        binder.vm_named(&host, &self.name, "read").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        give_vm(pass, &bound.host, &bound.vm).await
    }
}

/// Reads all that is known of a machine: state, hardware, disks, network cards, addresses.
///
/// Extra configuration is told without `guestinfo.*`, which may hold what is meant for the guest alone, and without passwords and keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

impl Operation for Info {
    const NAME: &'static str = "vm.info";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "vm", name: "info" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "local info = vm:info()\nprint(info.cpus, info.memory, info.disks[1].size)";

    type Bound = BoundVm;
    type Output = VmInfo;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<VmInfo, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        pass.same(&bound.host, &bound.vm, &info.row.vm, "read")?;
        Ok(VmInfo::from(info))
    }
}

/// Waits until the guest reports an address, and gives it.
///
/// Link-local addresses do not count; IPv4 comes before IPv6. The guest must run VMware's tools. Errors:
/// `esxi.invalid_power_state` at once where the machine is not on, `esxi.timeout`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitForIp {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// How long to wait. Default: 5 min.
    pub timeout: Option<Span>,
}

impl Operation for WaitForIp {
    const NAME: &'static str = "vm.wait_for_ip";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "vm", name: "wait_for_ip" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "vm:ensure_power(\"on\")\nprint(vm:wait_for_ip({ timeout = \"2 min\" }))";

    type Bound = BoundVm;
    type Output = String;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_anew(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<String, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        if info.row.power != PowerState::On {
            let (name, power) = (&bound.vm.name, info.row.power.as_str());
            return Err(Fault::new(
                "esxi.invalid_power_state",
                format!("{name:?} is {power}: its guest gets no address"),
            )
            .hint("turn it on first: vm:ensure_power(\"on\")"));
        }
        pass.step(Step { what: "wait for an address", percent: None });
        let timeout = pass.time(self.timeout.map_or(Duration::from_secs(300), |span| span.0));
        let address = bound.host.client.wait_for_address(&bound.vm, timeout).await?;
        Ok(address.to_string())
    }
}
