//! Operations that change whether a machine runs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::linked::refuse_with_clones;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::PowerState;
use crate::units::Span;

const TOUCHES: &[Touch] = &[touch("vm", "power", Selector::Argument("vm"))];

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

/// Turns a machine on.
///
/// Errors: `esxi.invalid_power_state` where it is on already; `vm:ensure_power` takes that as done; `esxi.has_linked_clones` where
/// linked clones build on what it would write to; clones that were taken out of the inventory are not seen.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerOn {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// Turns a machine off at once, without asking its guest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerOff {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// Resets a machine at once, without asking its guest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// Suspends a machine: its memory is written to its datastore.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

async fn power_on(bound: &BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
    refuse_with_clones(&bound.host, &bound.vm, pass, "powered on", true).await?;
    let client = &bound.host.client;
    let Err(error) = client.power_on(&bound.vm, &|step| pass.step(step)).await else { return Ok(()) };
    // What a host says then has no field that tells why: so it is looked up.
    let held = match error.is("GenericVmConfigFault") {
        true => client.pci_held_elsewhere(&bound.vm).await.unwrap_or_default(),
        false => Vec::new(),
    };
    let fault = Fault::from(error);
    if held.is_empty() {
        return Err(fault);
    }
    let told = held.iter().map(|(id, name)| match pass.may_read("vm", name) {
        true => format!("{id} is with {name:?}, which runs"),
        false => format!("{id} is with another machine that runs"),
    });
    let told: Vec<String> = told.collect();
    Err(fault.hint(format!(
        "{}: shut that down first (ceso vm power NAME shutdown), or take the device out of one of them (ceso vm pci detach)",
        told.join(", ")
    )))
}

macro_rules! task {
    ($type:ident, $name:literal, $method:literal, $call:ident, $usage:literal) => {
        impl Operation for $type {
            const NAME: &'static str = $name;
            const EFFECT: Effect = Effect::Change;
            const PLACE: Place = method($method);
            const TOUCHES: &'static [Touch] = TOUCHES;
            const USAGE: &'static str = $usage;

            type Bound = BoundVm;
            type Output = ();

            async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
                binder.vm(&self.vm, "power").await
            }

            async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
                if $name == "vm.power_on" {
                    return power_on(&bound, pass).await;
                }
                Ok(bound.host.client.$call(&bound.vm, &|step| pass.step(step)).await?)
            }
        }
    };
}

task!(PowerOn, "vm.power_on", "power_on", power_on, "vm:power_on()");
task!(PowerOff, "vm.power_off", "power_off", power_off, "vm:ensure_power(\"on\")\nvm:power_off()");
task!(Reset, "vm.reset", "reset", reset, "vm:ensure_power(\"on\")\nvm:reset()");
task!(Suspend, "vm.suspend", "suspend", suspend, "vm:ensure_power(\"on\")\nvm:suspend()");

/// Asks the guest to shut down, and waits until the machine is off.
///
/// The guest must run VMware's tools. A guest that does not end in time is left as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// How long to wait. Default: 3 min.
    pub timeout: Option<Span>,
}

impl Operation for Shutdown {
    const NAME: &'static str = "vm.shutdown";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("shutdown");
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_power(\"on\")\nvm:wait_for_ip()\nvm:shutdown({ timeout = \"2 min\" })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "power").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let timeout = pass.time(self.timeout.map_or(Duration::from_secs(180), |span| span.0));
        Ok(bound.host.client.shutdown_guest(&bound.vm, timeout, &|step| pass.step(step)).await?)
    }
}

/// The states that a machine can be asked to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    On,
    Off,
    Suspended,
}

/// Makes sure that a machine is on, off or suspended; where it is, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsurePower {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The state that it must be in.
    pub state: Wanted,
}

impl Operation for EnsurePower {
    const NAME: &'static str = "vm.ensure_power";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("ensure_power");
    const POSITIONAL: &'static [&'static str] = &["state"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_power(\"on\")";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "power").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let state = bound.host.client.vm_info(&bound.vm).await?.row.power;
        Ok(matches!(
            (self.state, state),
            (Wanted::On, PowerState::On) | (Wanted::Off, PowerState::Off) | (Wanted::Suspended, PowerState::Suspended)
        )
        .then_some(()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let (client, vm) = (&bound.host.client, &bound.vm);
        let step = |step: crate::esxi::Step<'_>| pass.step(step);
        match self.state {
            Wanted::On => power_on(&bound, pass).await?,
            Wanted::Off => client.power_off(vm, &step).await?,
            Wanted::Suspended => client.suspend(vm, &step).await?,
        }
        Ok(())
    }
}
