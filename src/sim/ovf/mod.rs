//! OvfManager: descriptors read into import specs, and written for machines.
//!
//! ```text
//! read    ParseDescriptor, CreateImportSpec        write   CreateDescriptor
//! ```
//!
//! Specification: vSphere Web Services API, `OvfManager`; DMTF DSP0243.

mod read;
mod write;

use super::call::{Answer, Call};
use super::fault::VimFault;
use super::value::{Data, Ref, Value};
use super::world::World;

/// The key under which a descriptor names its file of firmware variables.
pub const NVRAM_KEY: &str = "nvram";

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "ParseDescriptor" => Ok(read::parse(call.text("ovfDescriptor")?).into()),
        "CreateImportSpec" => {
            for (name, kind) in [("resourcePool", "ResourcePool"), ("datastore", "Datastore")] {
                call.object(world, name, kind)?;
            }
            Ok(read::import_spec(world, call.text("ovfDescriptor")?, call.data("cisp")?).into())
        }
        "CreateDescriptor" => {
            let object = call.object(world, "obj", "VirtualMachine")?;
            let object: Ref = object.ok_or_else(|| VimFault::invalid_argument("obj", "it is required"))?;
            let cdp = call.data("cdp")?;
            let vm = match cdp.reference("snapshot") {
                None => world.vm(&object)?.clone(),
                Some(own) => match super::vm::snapshot::find(world, own) {
                    Some((vm, snapshot)) if vm.reference() == object => (*snapshot.saved).clone(),
                    _ => return Err(VimFault::not_found(own)),
                },
            };
            let text = write::descriptor(world, &vm, call.data("cdp")?);
            let result = Data::new("OvfCreateDescriptorResult").with("ovfDescriptor", text);
            Ok(result.with("includeImageFiles", false).into())
        }
        "ValidateHost" => {
            let result = Data::new("OvfValidateHostResult")
                .with("supportedDiskProvisioning", vec!["thin", "monolithicFlat", "flat"]);
            Ok(result.into())
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

pub fn property(name: &str) -> Option<Value> {
    let option = |name: &'static str, about: &'static str| {
        Data::new("OvfOptionInfo")
            .with("option", name)
            .with("description", Data::new("LocalizableMessage").with("key", name).with("message", about))
    };
    match name {
        "ovfImportOption" => Some(vec![option("lax", "Takes what it does not know as a warning.")].into()),
        "ovfExportOption" => Some(
            vec![option("mac", "Includes MAC addresses."), option("extraconfig", "Includes extra configuration.")]
                .into(),
        ),
        _ => None,
    }
}
