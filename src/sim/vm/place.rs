//! Where a machine ran last: how a host notices that its configuration was moved or copied, and what it does when it is told which.
//!
//! The place is kept in the configuration file as `uuid.location`, written when the machine is powered on: it stands for the host and for
//! the path. `uuid.action` answers beforehand: `keep` says that it was moved, `create` and `change` that it was copied.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::power::keep;
use super::question::{Asked, Topic};
use super::{Power, Vm, devices};
use crate::sim::datastore;
use crate::sim::fault::VimFault;
use crate::sim::schema::schema;
use crate::sim::value::{Data, Ref};
use crate::sim::world::World;

/// The key of the configuration file; it is no extra configuration for clients.
pub const LOCATION: &str = "uuid.location";
const ACTION: &str = "uuid.action";

/// As VMware writes a UUID in a configuration file: 16 bytes, the first 8 and the last 8 by a dash.
fn here(world: &World, vm: &Vm) -> String {
    let digest = Sha256::digest(format!("{} {}", world.file.uuid, vm.vmx));
    let bytes: Vec<String> = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let (first, last) = bytes.split_at(8);
    format!("{}-{}", first.join(" "), last.join(" "))
}

fn is_elsewhere(world: &World, vm: &Vm) -> bool {
    vm.power == Power::Off && vm.extra(LOCATION).is_some_and(|location| location != here(world, vm))
}

/// What a machine asks before it is powered on: it ran elsewhere, and nobody has said why.
pub fn altered(world: &World, object: &Ref) -> Result<Option<Asked>, VimFault> {
    let vm = world.vm(object)?;
    let known = matches!(vm.extra(ACTION), Some("keep" | "create" | "change"));
    Ok((is_elsewhere(world, vm) && !known).then(|| Asked::canned(Topic::Moved, vm)))
}

/// Notes where a machine runs from now on. One that was copied gets an identity and addresses of its own.
pub fn settle(world: &mut World, object: &Ref, choice: Option<usize>) -> Result<(), VimFault> {
    let mut vm = world.vm(object)?.clone();
    let here = here(world, &vm);
    if vm.power != Power::Off || vm.extra(LOCATION) == Some(here.as_str()) {
        return Ok(());
    }
    let asked_before = is_elsewhere(world, &vm) && matches!(vm.extra(ACTION), Some("create" | "change"));
    if choice == Some(2) || asked_before {
        copied(world, &mut vm)?;
    }
    datastore::materialise(world, &vm.folder())?;
    vm.set_extra(LOCATION, &here);
    keep(world, vm)
}

fn copied(world: &mut World, vm: &mut Vm) -> Result<(), VimFault> {
    vm.uuid = format!("564d{}", &Uuid::new_v4().to_string()[4..]);
    let own = |card: &Data| {
        schema().is_a(card.kind, "VirtualEthernetCard")
            && card.text("addressType").is_none_or(|kind| !kind.eq_ignore_ascii_case("manual"))
    };
    for card in vm.devices.iter_mut().filter(|device| own(device)) {
        card.set("macAddress", devices::generated(world));
    }
    world.keep_host()
}
