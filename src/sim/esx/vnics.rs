//! What the host's own port on the network is for: management, and what else it is chosen for.
//!
//! Specification: vSphere Web Services API, `HostVirtualNicManager`.

use super::{HOST, network};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

pub const MANAGER: Ref = Ref::fixed("HostVirtualNicManager", "vnicManager");
const MANAGEMENT: &str = "management";
/// What a port may be for.
const USES: [&str; 8] = [
    "faultToleranceLogging",
    MANAGEMENT,
    "vSphereBackupNFC",
    "vSphereProvisioning",
    "vSphereReplication",
    "vSphereReplicationNFC",
    "vmotion",
    "vsan",
];

/// All uses, as `HostVirtualNicManagerInfo`.
pub fn info(world: &World) -> Data {
    let all: Vec<Data> = USES.iter().map(|one| config(world, one)).collect();
    Data::new("HostVirtualNicManagerInfo").with("netConfig", all)
}

fn config(world: &World, one: &'static str) -> Data {
    let key = format!("{one}.{}", network::KEY);
    let chosen = one == MANAGEMENT || world.file.uses.contains(one);
    let selected = if chosen { vec![key.clone()] } else { Vec::new() };
    Data::new("VirtualNicManagerNetConfig")
        .with("nicType", one)
        .with("multiSelectAllowed", true)
        .with("candidateVnic", vec![network::kernel(key)])
        .with("selectedVnic", selected)
}

pub fn property(world: &World, property: &str) -> Option<Value> {
    (property == "info").then(|| info(world).into())
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let given = call.text("nicType")?;
    let wanted = USES.iter().copied().find(|one| *one == given);
    let wanted = wanted.ok_or_else(|| VimFault::invalid_argument("nicType", "no port is for that"))?;
    if call.method == "QueryNetConfig" {
        return Ok(config(world, wanted).into());
    }
    if call.text("device")? != network::PORT {
        return Err(VimFault::invalid_argument("device", "the host has no such port"));
    }
    match call.method {
        "SelectVnicForNicType" => world.file.uses.insert(wanted.to_owned()),
        "DeselectVnicForNicType" if wanted == MANAGEMENT => {
            return Err(VimFault::new("HostConfigFault", "The host is managed over this port alone."));
        }
        "DeselectVnicForNicType" => world.file.uses.remove(wanted),
        other => return Err(VimFault::not_implemented(other)),
    };
    world.keep_host()?;
    world.touch(&MANAGER);
    world.touch(&HOST);
    Ok(Reply::Nothing)
}
