//! Operations that give a machine its cloud-init data as an image in its drive, for guests that do not read guestinfo.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::vm_change::macs;
use crate::cloudinit;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::secret::Built;
use crate::error::Fault;

const TOUCHES: &[Touch] =
    &[touch("vm", "configure", Selector::Argument("vm")), touch("datastore", "write", Selector::Found)];

/// Gives a machine its cloud-init data as a NoCloud seed image in a CD-ROM drive, in place of the one that it may have.
///
/// The image is put into the machine's own folder. The machine must be off: a drive cannot be added while it runs. Errors:
/// `esxi.invalid_power_state`, `door.destination`, `cloudinit.too_large`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachSeed {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// What `cloudinit.build` or `cloudinit.reip` made.
    pub document: Target<kind::Document>,
}

/// Takes a machine's seed image out of its drive and deletes it; where it has none, nothing is done.
///
/// Only what `vm:attach_seed` has put there. The machine must be off.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachSeed {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

impl Operation for AttachSeed {
    const NAME: &'static str = "vm.attach_seed";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "attach_seed" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str =
        "vm:attach_seed(cloudinit.build({ hostname = \"web-1\", network = { address = \"10.0.1.21/24\" } }))";

    type Bound = (BoundVm, Arc<Built>);
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let built = binder.document(&self.document)?;
        let bound = binder.vm_and_folder(&self.vm, "configure").await?;
        built.check_destination(&bound.vm.name)?;
        Ok((bound, built))
    }

    async fn act(self, (bound, built): Self::Bound, pass: &Pass<'_>) -> Result<(), Fault> {
        let client = &bound.host.client;
        let info = client.vm_info(&bound.vm).await?;
        let macs = macs(&info);
        let target = cloudinit::Target { uuid: &info.row.vm.instance_uuid, macs: &macs };
        let image = bytes::Bytes::from_owner(zeroize::Zeroizing::new(built.document.iso(target)?.bytes().to_vec()));
        Ok(client.attach_seed(&bound.vm, image, &|step| pass.step(step)).await?)
    }
}

impl Operation for DetachSeed {
    const NAME: &'static str = "vm.detach_seed";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "detach_seed" };
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:attach_seed(cloudinit.build({ hostname = \"web-1\" }))\nvm:detach_seed()";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_and_folder(&self.vm, "configure").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        Ok((!bound.host.client.has_seed(&bound.vm).await?).then_some(()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        Ok(bound.host.client.detach_seed(&bound.vm, &|step| pass.step(step)).await.map(drop)?)
    }
}
