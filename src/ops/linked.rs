//! What protects the parents of linked clones: a write to a parent's disks ruins every machine that builds on them.

use crate::door::Pass;
use crate::door::datastores::BoundDatastore;
use crate::door::object::Connected;
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;

/// Refuses what would change or remove the disks of a machine that others build on. Who builds on them is looked up now.
///
/// `written` says that only the disks that the machine writes to matter: one that goes on above a snapshot does its clones no harm. Otherwise
/// the datastores are searched too, for clones that were taken out of the inventory; that may take 10 s, and what it did not find in that time
/// is not seen. Faults: `esxi.has_linked_clones` with the clones' names, as far as the run may read them.
pub async fn refuse_with_clones(
    host: &Connected,
    vm: &Checked<esxi::Vm>,
    pass: &Pass<'_>,
    what: &str,
    written: bool,
) -> Result<(), Fault> {
    let clones = host.client.linked_clones(vm, written).await?;
    let object = format!("{:?} on {}", vm.name, host.name);
    refuse(pass, &clones, &object, what)?;
    if written {
        return Ok(());
    }
    let strays = host.client.stray_children(vm).await;
    if strays.is_empty() {
        return Ok(());
    }
    let readable = |disk: &&String| {
        let datastore = disk.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        datastore.is_some_and(|(datastore, _)| pass.may("datastore", "read", datastore))
    };
    let told = strays.iter().filter(readable).take(20).cloned().collect();
    let message = format!(
        "{object} is not {what}: disks of no registered machine build on its own: {}",
        listed(told, strays.len())
    );
    Err(Fault::new("esxi.has_linked_clones", message).hint(
        "register the machines that they are of, or delete them where nobody wants them any more; then try again",
    ))
}

/// What may be told, and how many others there are.
fn listed(mut told: Vec<String>, all: usize) -> String {
    match all - told.len() {
        0 => {}
        others => told.push(format!("{others} more")),
    }
    told.join(", ")
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
    let told = listed(named.map(|name| format!("{name:?}")).collect(), clones.len());
    Err(Fault::new(
        "esxi.has_linked_clones",
        format!("{object} is not {what}: linked clones build on its disks: {told}"),
    )
    .hint("every one of them would be lost: destroy them first, or clone them in full and destroy them then"))
}
