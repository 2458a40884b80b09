//! Operations that give a machine its cloud-init data through its extra configuration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::cloudinit;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::secret::Built;
use crate::error::Fault;
use crate::esxi;

const TOUCHES: &[Touch] = &[touch("vm", "configure", Selector::Argument("vm"))];

/// Gives a machine its cloud-init data: the guest applies it when it boots next.
///
/// It replaces what the machine had. The network part is matched to the machine's cards by their addresses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetGuestinfo {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// What `cloudinit.build` made.
    pub document: Target<kind::Document>,
}

/// Makes sure that a machine has this cloud-init data; where it has, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureGuestinfo(SetGuestinfo);

/// A machine and the document for it.
pub struct BoundGuestinfo {
    bound: BoundVm,
    built: std::sync::Arc<Built>,
}

/// The addresses of a machine's cards, in its own order.
pub fn macs(info: &esxi::VmInfo) -> Vec<cloudinit::MacAddress> {
    let parsed = info.hardware.nics.iter().map(|nic| nic.mac.as_deref()?.parse().ok());
    parsed.flatten().collect()
}

impl BoundGuestinfo {
    /// Binds a document to a machine that its secrets may go to; `reip` says which kind of document is taken.
    async fn bind(
        binder: &Binder<'_>,
        vm: &Target<kind::Vm>,
        document: &Target<kind::Document>,
        reip: bool,
    ) -> Result<Self, Fault> {
        let built = binder.document(document)?;
        match (built.document.is_reip(), reip) {
            (true, false) => {
                return Err(Fault::new(
                    "usage.argument",
                    "document: it is a re-IP, for a machine that has booted before",
                )
                .hint("give it to vm:reip or vm:ensure_reip"));
            }
            (false, true) => {
                return Err(Fault::new("usage.argument", "document: it is for a machine's first boot, and no re-IP")
                    .hint("cloudinit.reip builds one that changes the network alone"));
            }
            _ => {}
        }
        let bound = binder.vm(vm, "configure").await?;
        built.check_destination(&bound.vm.name)?;
        Ok(Self { bound, built })
    }

    /// What the machine's `guestinfo.*` keys must be, and what they are.
    async fn compare(&self) -> Result<(cloudinit::GuestInfo, BTreeMap<String, String>), Fault> {
        let info = self.bound.host.client.vm_info(&self.bound.vm).await?;
        let macs = macs(&info);
        let target = cloudinit::Target { uuid: &info.row.vm.instance_uuid, macs: &macs };
        Ok((self.built.document.guestinfo(target)?, info.extra_config))
    }

    async fn write(self, pass: &Pass<'_>) -> Result<(), Fault> {
        let (guestinfo, _) = self.compare().await?;
        let change = esxi::Reconfigure { extra_config: owned(&guestinfo), ..esxi::Reconfigure::default() };
        Ok(self.bound.host.client.reconfigure(&self.bound.vm, &change, &|step| pass.step(step)).await?)
    }
}

fn owned(guestinfo: &cloudinit::GuestInfo) -> BTreeMap<String, String> {
    guestinfo.entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Operation for SetGuestinfo {
    const NAME: &'static str = "vm.set_guestinfo";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "set_guestinfo" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:set_guestinfo(cloudinit.build({ hostname = vm.name }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.vm, &self.document, false).await
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

impl Operation for EnsureGuestinfo {
    const NAME: &'static str = "vm.ensure_guestinfo";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "ensure_guestinfo" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_guestinfo(cloudinit.build({ hostname = vm.name }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.0.vm, &self.0.document, false).await
    }

    async fn settled(&self, bound: &BoundGuestinfo, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let (guestinfo, has) = bound.compare().await?;
        Ok(guestinfo.same_as(|key| has.get(key).map(String::as_str)).then_some(()))
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

/// Gives a machine that has booted before a new network: the guest takes it at its next boot, and changes nothing else.
///
/// Its cloud-init data is replaced. `vm:reset` or `vm:shutdown` and `vm:power_on` make it boot; `vm:wait_for_address` waits for the new address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reip {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// What `cloudinit.reip` made.
    pub document: Target<kind::Document>,
}

/// Makes sure that a machine has this new network to take; where it has, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureReip(Reip);

impl Operation for Reip {
    const NAME: &'static str = "vm.reip";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "reip" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:reip(cloudinit.reip({ network = { address = \"10.0.1.77/24\" } }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.vm, &self.document, true).await
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

impl Operation for EnsureReip {
    const NAME: &'static str = "vm.ensure_reip";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "ensure_reip" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_reip(cloudinit.reip({ network = { address = \"10.0.1.77/24\" } }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.0.vm, &self.0.document, true).await
    }

    async fn settled(&self, bound: &BoundGuestinfo, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let (guestinfo, has) = bound.compare().await?;
        Ok(guestinfo.same_as(|key| has.get(key).map(String::as_str)).then_some(()))
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}
