//! Machines that are bound together with a verb of their host: what the host has of its own and gives to one of them.

use super::bind::{Binder, BoundVm};
use super::object::{Object, Target, kind};
use crate::error::Fault;

impl Binder<'_> {
    /// The machine behind a handle, for a declared verb, and for one of its host, which is checked before anything is sent.
    pub async fn vm_and_host(
        &self,
        target: &Target<kind::Vm>,
        verb: &'static str,
        of_host: &'static str,
    ) -> Result<BoundVm, Fault> {
        if let Some(Object::Vm(host, known)) = self.pass.door.objects.get(target.id) {
            self.check("host", of_host, &host.name, false)?;
            self.pass.door.policy.check_literal("vm", verb, &known.name)?;
        }
        self.vm(target, verb).await
    }
}
