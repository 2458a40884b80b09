//! Leases that stream a new machine's disks in: `ImportVApp`.

use super::{File, Mode, begin, device_key};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::ovf::NVRAM_KEY;
use crate::sim::value::Value;
use crate::sim::vm::create;
use crate::sim::world::World;

/// Makes the machine of a spec with empty disks, which the lease's URLs then fill.
pub fn import_vapp(world: &mut World, call: &Call) -> Answer {
    let spec = call.data("spec")?.clone();
    if spec.kind != "VirtualMachineImportSpec" {
        return Err(VimFault::not_supported("a vApp needs a vCenter Server"));
    }
    for (name, kind) in [("folder", "Folder"), ("host", "HostSystem")] {
        call.object(world, name, kind)?;
    }
    let config = spec.data("configSpec").cloned();
    let mut config = config.ok_or_else(|| VimFault::invalid_argument("spec.configSpec", "it is required"))?;
    // What the descriptor says of its file of firmware variables is for the lease alone.
    let mut nvram = false;
    if let Some(Value::List(entries)) = config.get_mut("extraConfig") {
        let before = entries.len();
        entries.retain(|entry| entry.as_data().and_then(|entry| entry.text("key")) != Some(NVRAM_KEY));
        nvram = entries.len() < before;
    }
    let object = create::import(world, &config)?;
    let vm = world.vm(&object)?.clone();
    let mut files: Vec<File> = vm
        .disks()
        .enumerate()
        .map(|(number, disk)| File {
            key: device_key(&vm, disk),
            name: format!("disk-{number}.vmdk"),
            path: disk.at("backing.fileName").and_then(Value::as_text).unwrap_or_default().to_owned(),
            disk: true,
            capacity: disk
                .number("capacityInKB")
                .and_then(|kilobytes| u64::try_from(kilobytes).ok())
                .unwrap_or_default()
                << 10,
            sent: None,
        })
        .collect();
    if nvram {
        let name = vm.extra("nvram").unwrap_or_default().to_owned();
        let path = vm.folder().join(&name).to_string();
        let key = format!("/{}/nvram", vm.name);
        files.push(File { key, name: "nvram".to_owned(), path, disk: false, capacity: 0, sent: None });
    }
    Ok(Reply::Value(begin(world, call, Mode::Import, &object, files)?.into()))
}
