//! What can be asked of a document: what it does, what is probably not meant, and whether it fits a machine.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outline::Outline;
use super::vm_change::macs;
use crate::cloudinit;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::secret::Built;
use crate::error::Fault;
use crate::units::Bytes;

const fn method(name: &'static str) -> Place {
    Place::Method { kind: "document", name }
}

/// Tells what a document does: SSH keys as fingerprints, files and commands without their text, secrets by their names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Describe {
    /// The document.
    pub document: Target<kind::Document>,
}

impl Operation for Describe {
    const NAME: &'static str = "document.describe";
    const EFFECT: Effect = Effect::Pure;
    const PLACE: Place = method("describe");
    const TOUCHES: &'static [Touch] = &[];
    const USAGE: &'static str = "print(cloudinit.build({ hostname = \"web-1\" }):describe().hostname)";

    type Bound = Arc<Built>;
    type Output = Outline;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Arc<Built>, Fault> {
        binder.document(&self.document)
    }

    async fn act(self, bound: Arc<Built>, _: &Pass<'_>) -> Result<Outline, Fault> {
        Ok(Outline::whole(bound.document.describe().clone()))
    }
}

/// Lists what is allowed in a document and yet probably not meant, such as an account that nobody can log in to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The document.
    pub document: Target<kind::Document>,
}

impl Operation for Check {
    const NAME: &'static str = "document.check";
    const EFFECT: Effect = Effect::Pure;
    const PLACE: Place = method("check");
    const TOUCHES: &'static [Touch] = &[];
    const USAGE: &'static str = "for _, warning in cloudinit.build({ hostname = \"web-1\" }):check() do\n  print(warning.at, warning.message)\nend";

    type Bound = Arc<Built>;
    type Output = Vec<cloudinit::Warning>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Arc<Built>, Fault> {
        binder.document(&self.document)
    }

    async fn act(self, bound: Arc<Built>, _: &Pass<'_>) -> Result<Self::Output, Fault> {
        Ok(bound.document.check().to_vec())
    }
}

/// Renders a document for a machine as guestinfo, and sends nothing: whether its cards are there, and whether it fits.
///
/// `vm:set_guestinfo` gives it to the machine. Errors: `cloudinit.invalid`, `cloudinit.too_large`, `door.destination`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsGuestinfo {
    /// The document.
    pub document: Target<kind::Document>,
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// Renders a document for a machine as a NoCloud seed image, and sends nothing: whether its cards are there, and whether it fits.
///
/// `vm:attach_seed` gives it to the machine. Errors: `cloudinit.invalid`, `cloudinit.too_large`, `door.destination`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsIso {
    /// The document.
    pub document: Target<kind::Document>,
    /// The machine.
    pub vm: Target<kind::Vm>,
}

/// A document as guestinfo, without its content.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GuestinfoShape {
    /// The keys that the machine gets.
    pub keys: Vec<String>,
    /// What keys and values take; nil where the document holds secrets, for it would tell how long they are.
    pub size: Option<Bytes>,
}

/// A seed image, without its content.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SeedShape {
    /// The volume's label: `cidata`.
    pub label: String,
    /// The image's size; nil where the document holds secrets.
    pub size: Option<Bytes>,
}

/// A document and the machine that it is held against.
pub struct BoundShape {
    built: Arc<Built>,
    vm: BoundVm,
}

impl BoundShape {
    async fn bind(
        binder: &Binder<'_>,
        document: &Target<kind::Document>,
        vm: &Target<kind::Vm>,
    ) -> Result<Self, Fault> {
        let built = binder.document(document)?;
        let vm = binder.vm(vm, "read").await?;
        built.check_destination(&vm.vm.name)?;
        Ok(Self { built, vm })
    }

    async fn rendered<T>(
        &self,
        pass: &Pass<'_>,
        render: impl FnOnce(&cloudinit::Document, cloudinit::Target<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let info = self.vm.host.client.vm_info(&self.vm.vm).await?;
        pass.same(&self.vm.host, &self.vm.vm, &info.row.vm, "read")?;
        let macs = macs(&info);
        render(&self.built.document, cloudinit::Target { uuid: &info.row.vm.instance_uuid, macs: &macs })
    }

    fn size(&self, size: usize) -> Option<Bytes> {
        (!self.built.has_secrets()).then_some(Bytes(size as u64))
    }
}

impl Operation for AsGuestinfo {
    const NAME: &'static str = "document.guestinfo";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("guestinfo");
    const POSITIONAL: &'static [&'static str] = &["vm"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "print(cloudinit.build({ hostname = \"web-1\" }):guestinfo(vm).size)";

    type Bound = BoundShape;
    type Output = GuestinfoShape;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundShape, Fault> {
        BoundShape::bind(binder, &self.document, &self.vm).await
    }

    async fn act(self, bound: BoundShape, pass: &Pass<'_>) -> Result<GuestinfoShape, Fault> {
        let info = bound.rendered(pass, |document, target| document.guestinfo(target)).await?;
        let given = || info.entries().filter(|(_, value)| !value.is_empty());
        Ok(GuestinfoShape {
            keys: given().map(|(key, _)| key.to_owned()).collect(),
            size: bound.size(given().map(|(key, value)| key.len() + value.len()).sum()),
        })
    }
}

impl Operation for AsIso {
    const NAME: &'static str = "document.iso";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("iso");
    const POSITIONAL: &'static [&'static str] = &["vm"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "print(cloudinit.build({ hostname = \"web-1\" }):iso(vm).label)";

    type Bound = BoundShape;
    type Output = SeedShape;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundShape, Fault> {
        BoundShape::bind(binder, &self.document, &self.vm).await
    }

    async fn act(self, bound: BoundShape, pass: &Pass<'_>) -> Result<SeedShape, Fault> {
        let iso = bound.rendered(pass, |document, target| document.iso(target)).await?;
        Ok(SeedShape { label: iso.label().to_owned(), size: bound.size(iso.bytes().len()) })
    }
}
