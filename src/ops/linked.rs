//! What protects the parents of linked clones: a write to a parent's disks ruins every machine that builds on them.

use crate::door::Pass;
use crate::door::datastores::BoundDatastore;
use crate::door::object::Connected;
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;

/// Refuses what would change or remove the disks of a machine that others build on. Who builds on them is looked up now.
///
/// `written` says that only the disks that the machine writes to matter: one that goes on above a snapshot does its clones no harm.
/// Faults: `esxi.has_linked_clones` with the clones' names, as far as the run may read them.
pub async fn refuse_with_clones(
    host: &Connected,
    vm: &Checked<esxi::Vm>,
    pass: &Pass<'_>,
    what: &str,
    written: bool,
) -> Result<(), Fault> {
    let clones = host.client.linked_clones(vm, written).await?;
    refuse(pass, &clones, &format!("{:?} on {}", vm.name, host.name), what)
}

/// The same for what lies at a path of a datastore, or below it: a disk or a folder that machines elsewhere build on, be it of a
/// machine that is registered or not.
pub async fn refuse_with_clones_on(
    bound: &BoundDatastore,
    path: &esxi::FilePath,
    pass: &Pass<'_>,
    what: &str,
) -> Result<(), Fault> {
    let clones = bound.host.client.linked_clones_on(&bound.datastore, path).await?;
    refuse(pass, &clones, &format!("{} on {}", path.on(&bound.datastore.name), bound.host.name), what)
}

fn refuse(pass: &Pass<'_>, clones: &[String], object: &str, what: &str) -> Result<(), Fault> {
    if clones.is_empty() {
        return Ok(());
    }
    let named = clones.iter().filter(|name| pass.may_read("vm", name)).take(20);
    let mut told: Vec<String> = named.map(|name| format!("{name:?}")).collect();
    match clones.len() - told.len() {
        0 => {}
        others => told.push(format!("{others} more")),
    }
    Err(Fault::new(
        "esxi.has_linked_clones",
        format!("{object} is not {what}: linked clones build on its disks: {}", told.join(", ")),
    )
    .hint("every one of them would be lost: destroy them first, or clone them in full and destroy them then"))
}
