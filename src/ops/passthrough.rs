//! Operations that hand PCI devices of the host through to a machine.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::PciHeld;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi;

const HANDS: &[Touch] =
    &[touch("vm", "configure", Selector::Argument("vm")), touch("host", "passthrough", Selector::Found)];

/// Gives a machine that is off a PCI device of the host, for itself alone while it runs; gives the devices that it has then.
///
/// All of its memory is reserved for it, as a host demands. Such a machine is not suspended, and its memory is in no snapshot. Errors:
/// `esxi.invalid_power_state`, `esxi.invalid_argument` where the host does not hand the device through: `host:passthrough_devices` tells.
/// Whether another machine that runs has it shows when this one is turned on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The device's place on the host's bus, such as `0000:0c:00.0`.
    pub device: String,
}

/// Takes a PCI device of the host out of a machine that is off; gives the devices that it still has.
///
/// Its memory stays reserved unless `release_memory` says otherwise. Errors: `esxi.device_not_found`, `esxi.invalid_power_state`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The device: its place on the host's bus, or its label in the machine, such as `PCI device 0`.
    pub device: String,
    /// Whether the machine's memory is not reserved any more. Default: false.
    pub release_memory: Option<bool>,
}

async fn told(bound: &BoundVm) -> Result<Vec<PciHeld>, Fault> {
    let info = bound.host.client.vm_info(&bound.vm).await?;
    Ok(info.hardware.pci.into_iter().map(PciHeld::from).collect())
}

impl Operation for Attach {
    const NAME: &'static str = "vm.attach_pci";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "attach_pci" };
    const POSITIONAL: &'static [&'static str] = &["device"];
    const TOUCHES: &'static [Touch] = HANDS;
    const USAGE: &'static str = "vm:attach_pci(\"0000:0c:00.0\")\nvm:detach_pci({ device = \"0000:0c:00.0\" })";

    type Bound = BoundVm;
    type Output = Vec<PciHeld>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_and_host(&self.vm, "configure", "passthrough").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Vec<PciHeld>, Fault> {
        bound.host.client.attach_pci(&bound.vm, &self.device, &|step| pass.step(step)).await?;
        told(&bound).await
    }
}

impl Operation for Detach {
    const NAME: &'static str = "vm.detach_pci";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "detach_pci" };
    const POSITIONAL: &'static [&'static str] = &["device"];
    const TOUCHES: &'static [Touch] = HANDS;
    const USAGE: &'static str =
        "vm:attach_pci(\"0000:0c:00.0\")\nvm:detach_pci({ device = \"PCI device 0\", release_memory = true })";

    type Bound = BoundVm;
    type Output = Vec<PciHeld>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_and_host(&self.vm, "configure", "passthrough").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Vec<PciHeld>, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let is_it = |held: &&esxi::PciHeld| held.id.as_deref() == Some(&self.device) || held.label == self.device;
        let mut found = info.hardware.pci.iter().filter(is_it);
        let held = found.next();
        if let (Some(first), Some(second)) = (held, found.next()) {
            let told = [first, second].map(|held| held.id.as_deref().unwrap_or("(no address)")).join(", ");
            return Err(Fault::new(
                "esxi.ambiguous",
                format!("several PCI devices of {:?} are called {:?}", bound.vm.name, self.device),
            )
            .hint(format!("say which one by its address: {told}")));
        }
        let Some(held) = held else {
            let fault =
                Fault::new("esxi.device_not_found", format!("{:?} has no PCI device {:?}", bound.vm.name, self.device));
            let own: Vec<String> =
                info.hardware.pci.iter().map(|held| held.id.clone().unwrap_or_else(|| held.label.clone())).collect();
            return Err(fault.hint(if own.is_empty() {
                "it has none".to_owned()
            } else {
                format!("it has: {}", own.join(", "))
            }));
        };
        let release = self.release_memory == Some(true);
        bound.host.client.detach_pci(&bound.vm, held, release, &|step| pass.step(step)).await?;
        told(&bound).await
    }
}
