//! New machines: `CreateVM_Task`, `RegisterVM_Task` and `UnregisterVM`.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::snapshot::{self, Snapshots};
use super::{Power, Vm, hardware, reconfig, template, vmx};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, file_fault};
use crate::sim::esx;
use crate::sim::fault::VimFault;
use crate::sim::task;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// Where a machine is put must be what this host has.
fn check_place(world: &World, call: &Call) -> Result<(), VimFault> {
    for (name, kind) in [("pool", "ResourcePool"), ("host", "HostSystem")] {
        call.object(world, name, kind)?;
    }
    if call.this.kind == "Folder" && call.this != esx::VM_FOLDER {
        return Err(VimFault::not_supported(format!("{} holds no machines", call.this)));
    }
    Ok(())
}

/// Refuses a name that is empty, too long, or another machine's.
pub fn check_name(world: &World, name: &str, own: Option<u64>) -> Result<(), VimFault> {
    if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(VimFault::new("InvalidName", format!("The name '{shown}' is invalid: it has 1 to 80 characters."))
            .with("name", shown));
    }
    match world.vm_by_name(name).filter(|vm| Some(vm.id) != own) {
        Some(other) => Err(VimFault::duplicate_name(name, &other.reference())),
        None => Ok(()),
    }
}

pub fn create(world: &mut World, call: &Call) -> Answer {
    check_place(world, call)?;
    let spec = call.data("config")?.clone();
    if spec.text("name").is_none_or(str::is_empty) {
        return Err(VimFault::invalid_argument("config.name", "a machine needs a name"));
    }
    let files = spec.data("files").and_then(|files| files.text("vmPathName")).unwrap_or_default().to_owned();
    if files.is_empty() {
        return Err(VimFault::invalid_argument("config.files.vmPathName", "a machine needs a place on a datastore"));
    }
    task::change(world, call, &call.this, move |_, world| {
        let name = spec.text("name").unwrap_or_default();
        check_name(world, name, None)?;
        make(world, name, &files, &spec).map(|object| Some(Value::Ref(object)))
    })
}

/// Makes the machine of an import at once. Faults: those of `CreateVM_Task`.
pub fn import(world: &mut World, spec: &Data) -> Result<crate::sim::value::Ref, VimFault> {
    let name = spec.text("name").unwrap_or_default().to_owned();
    check_name(world, &name, None)?;
    let place = spec.data("files").and_then(|files| files.text("vmPathName")).filter(|place| !place.is_empty());
    let place = place.map_or_else(|| format!("[{}]", datastore::NAME), str::to_owned);
    make(world, &name, &place, spec)
}

fn make(world: &mut World, name: &str, place: &str, spec: &Data) -> Result<crate::sim::value::Ref, VimFault> {
    let vmx = free_place(world, name, place)?;
    let folder = vmx.parent();
    let at = world.datastore.resolve(&folder)?;
    let new_folder = !at.exists();
    std::fs::create_dir_all(&at).map_err(|error| file_fault(&folder, &error))?;
    let id = world.file.next_vm;
    world.file.next_vm += 1;
    let mut vm = Vm {
        id,
        name: name.to_owned(),
        uuid: format!("564d{}", &Uuid::new_v4().to_string()[4..]),
        instance_uuid: format!("52{}", &Uuid::new_v4().to_string()[2..]),
        guest_id: "otherGuest".to_owned(),
        version: "vmx-21".to_owned(),
        firmware: "bios".to_owned(),
        cpus: 1,
        cores_per_socket: 1,
        memory_mb: 256,
        annotation: String::new(),
        vmx: vmx.to_string(),
        created: OffsetDateTime::now_utc(),
        change_version: 0,
        snapshots: Snapshots::default(),
        extra: vec![("nvram".to_owned(), format!("{}.nvram", vmx.name().trim_end_matches(".vmx")))],
        devices: hardware::built_in(),
        settings: Data::new("VirtualMachineConfigInfo"),
        power: Power::Off,
        powered_on: None,
        suspended: None,
        system: false,
        applied: None,
        leases: BTreeMap::new(),
    };
    let made = reconfig::apply(world, &mut vm, spec).and_then(|undo| {
        let kept = template::nvram(world, &vm).and_then(|()| vmx::write(world, &vm)).and_then(|()| world.keep_host());
        kept.inspect_err(|_| undo.roll_back())
    });
    if let Err(fault) = made {
        if new_folder {
            // Only a folder that this call made, and only where nothing is in it.
            match std::fs::remove_dir(&at) {
                Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                    tracing::debug!(%error, "the folder of a machine that was not made is still there");
                }
                _ => {}
            }
        }
        return Err(fault);
    }
    let object = vm.reference();
    world.put(vm)?;
    Ok(object)
}

/// Where the configuration file goes: `[ds]` takes a folder of the machine's name, `[ds] dir/` that folder, a path ending in `.vmx` itself.
fn free_place(world: &World, name: &str, place: &str) -> Result<DatastorePath, VimFault> {
    let given = datastore::open(world, place)?;
    let file_name = format!("{name}.vmx");
    let inside = |folder: &DatastorePath| {
        DatastorePath::inside(&format!("{}/{}", folder.parts().join("/"), file_name.replace('/', "_"))).ok_or_else(
            || VimFault::new("InvalidName", format!("'{name}' cannot be a file's name.")).with("name", name.to_owned()),
        )
    };
    if given.name().to_ascii_lowercase().ends_with(".vmx") {
        return match world.datastore.resolve(&given)?.exists() {
            true => Err(VimFault::file("FileAlreadyExists", given.to_string())),
            false => Ok(given),
        };
    }
    if !given.is_root() {
        let vmx = inside(&given)?;
        return match world.datastore.resolve(&vmx)?.exists() {
            true => Err(VimFault::file("FileAlreadyExists", vmx.to_string())),
            false => Ok(vmx),
        };
    }
    // A folder of that name may be there, left by somebody else: the host then takes NAME_1, NAME_2, …
    let base = name.replace('/', "_");
    for number in 0..1000 {
        let folder = if number == 0 { base.clone() } else { format!("{base}_{number}") };
        let folder = DatastorePath::inside(&folder).filter(|folder| folder.parts().len() == 1).ok_or_else(|| {
            VimFault::new("InvalidName", format!("'{name}' cannot be a folder's name.")).with("name", name.to_owned())
        })?;
        datastore::materialise(world, &folder)?;
        if !world.datastore.resolve(&folder)?.exists() {
            return inside(&folder);
        }
    }
    Err(VimFault::file("FileAlreadyExists", place))
}

pub fn register(world: &mut World, call: &Call) -> Answer {
    check_place(world, call)?;
    if call.args.boolean("asTemplate") == Some(true) {
        return Err(VimFault::not_supported("a standalone host has no templates"));
    }
    let path = call.text("path")?.to_owned();
    let name = call.args.text("name").filter(|name| !name.is_empty()).map(str::to_owned);
    task::change(world, call, &call.this, move |_, world| {
        let path = datastore::open(world, &path)?;
        if let Some(other) = world.vms.values().find(|vm| vm.vmx == path.to_string()) {
            let fault = VimFault::new("AlreadyExists", format!("The machine {} is registered already.", other.name));
            return Err(fault.with("name", other.name.clone()));
        }
        let id = world.file.next_vm;
        let mut vm = vmx::read(world, &path, id)?;
        if let Some(name) = name {
            vm.name = name;
        }
        check_name(world, &vm.name, None)?;
        vm.snapshots = snapshot::read_files(world, &vm)?;
        world.file.next_vm += 1;
        world.keep_host()?;
        vmx::write(world, &vm)?;
        let object = vm.reference();
        world.put(vm)?;
        Ok(Some(Value::Ref(object)))
    })
}

pub fn unregister(world: &mut World, call: &Call) -> Answer {
    let vm = world.vm(&call.this)?;
    if !vm.is_off() {
        return Err(VimFault::invalid_power_state(Some("poweredOff"), vm.power.name()));
    }
    if let Some(task) = world.tasks.running_on(&call.this) {
        return Err(VimFault::task_in_progress(task));
    }
    datastore::materialise(world, &vm.folder())?;
    world.remove(&call.this)?;
    Ok(Reply::Nothing)
}
