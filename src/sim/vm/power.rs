//! Power: on, off, reset, suspend, what the guest does when it is asked, and the end of a machine.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::question::{self, Asked, Topic};
use super::{Power, Vm, passthrough, place, snapshot, vmx};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::guest;
use crate::sim::server::Host;
use crate::sim::task;
use crate::sim::value::Ref;
use crate::sim::world::World;

pub fn call(world: &mut World, call: &Call) -> Answer {
    let object = call.this.clone();
    world.vm(&object)?;
    if let Some(task) = world.tasks.running_on(&object) {
        return Err(VimFault::task_in_progress(task));
    }
    match call.method {
        "PowerOnVM_Task" => {
            let asked = object.clone();
            task::asking(
                world,
                call,
                &object.clone(),
                move |world| place::altered(world, &asked),
                move |host, world, choice| {
                    place::settle(world, &object, choice)?;
                    on(host, world, &object).map(|()| None)
                },
            )
        }
        "PowerOffVM_Task" => task::change(world, call, &object.clone(), move |_, world| {
            let vm = expect(world, &object, Power::On, "poweredOff")?;
            off(world, vm).map(|()| None)
        }),
        "ResetVM_Task" => task::change(world, call, &object.clone(), move |host, world| {
            let vm = expect(world, &object, Power::On, "poweredOn")?;
            boot(host, world, vm).map(|()| None)
        }),
        "SuspendVM_Task" => task::change(world, call, &object.clone(), move |_, world| {
            let vm = expect(world, &object, Power::On, "suspended")?;
            suspend(world, vm).map(|()| None)
        }),
        "ShutdownGuest" | "StandbyGuest" | "RebootGuest" => ask_guest(world, call),
        "Destroy_Task" => {
            task::change(world, call, &object.clone(), move |_, world| destroy(world, &object).map(|()| None))
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

/// The machine, where it is in the state that the operation needs.
fn expect(world: &World, object: &Ref, needed: Power, requested: &'static str) -> Result<Vm, VimFault> {
    let vm = world.vm(object)?;
    match vm.power == needed {
        true => Ok(vm.clone()),
        false => Err(VimFault::invalid_power_state(Some(requested), vm.power.name())),
    }
}

pub fn on(host: &Arc<Host>, world: &mut World, object: &Ref) -> Result<(), VimFault> {
    if world.file.maintenance {
        return Err(VimFault::new("InvalidState", "The host is in maintenance mode."));
    }
    let mut vm = world.vm(object)?.clone();
    match vm.power {
        Power::On => Err(VimFault::invalid_power_state(Some("poweredOn"), vm.power.name())),
        // A suspended machine goes on where it stopped: its guest does not boot.
        Power::Suspended => {
            vm.power = Power::On;
            vm.suspended = None;
            world.put(vm)
        }
        Power::Off => {
            vm.system = starts(world, &vm)?;
            boot(host, world, vm)
        }
    }
}

/// Whether its first disk has a system; a disk that is not there, or that another machine runs on, refuses the power-on.
fn starts(world: &World, vm: &Vm) -> Result<bool, VimFault> {
    passthrough::check(world, vm)?;
    let mut boots = false;
    for file in vm.disk_files() {
        let path = datastore::open(world, file)?;
        let chain = Chain::open(&world.datastore, &path)?;
        let shared = |other: &Vm| vm.shares(file) && other.shares(file);
        if datastore::locked_by(world, &path).is_some_and(|other| other.id != vm.id && !shared(other)) {
            return Err(VimFault::file("FileLocked", path.to_string()));
        }
        // What lies below is only read, by as many as like; but not while somebody writes to it.
        let written = |path: &DatastorePath| datastore::written_by(world, path).is_some_and(|other| other.id != vm.id);
        if let Some(below) = chain.links.iter().skip(1).find(|below| written(&below.path)) {
            return Err(VimFault::file("FileLocked", below.path.to_string()));
        }
        boots |= chain.boots();
    }
    if let Some(missing) = vm.nics().filter_map(Vm::network_of).find(|name| !world.networks().any(|own| own == *name)) {
        return Err(VimFault::new("CannotAccessNetwork", format!("Cannot access the network '{missing}'."))
            .with("device", "Network adapter")
            .with("backing", missing.to_owned()));
    }
    Ok(boots)
}

fn boot(host: &Arc<Host>, world: &mut World, mut vm: Vm) -> Result<(), VimFault> {
    vm.power = Power::On;
    vm.powered_on = Some(OffsetDateTime::now_utc());
    vm.suspended = None;
    if vm.system {
        guest::boot(world, &mut vm);
        world.keep_host()?;
    }
    log(world, &vm, "PowerOn")?;
    if vm.system {
        guest::writes::write(world, &vm, "boot")?;
    }
    let object = vm.reference();
    world.put(vm)?;
    guest::watch(host, object);
    Ok(())
}

/// Adds a line to the machine's `vmware.log`, as a host writes one for each run.
fn log(world: &World, vm: &Vm, what: &str) -> Result<(), VimFault> {
    datastore::materialise(world, &vm.folder())?;
    let path = vm.folder().join("vmware.log");
    let file = world.datastore.resolve(&path)?;
    let now = crate::sim::encode::timestamp(OffsetDateTime::now_utc());
    let begun = match file.exists() {
        true => String::new(),
        false => format!(
            "{now} In(05) vmx - Log for VMware ESX (ceso SIMULATOR) version={}\n",
            crate::sim::service::PRODUCT.0
        ),
    };
    let text = format!("{begun}{now} In(05) vmx - {what} {}, {} CPUs, {} MB\n", vm.vmx, vm.cpus, vm.memory_mb);
    let mut options = std::fs::OpenOptions::new();
    let written = options.append(true).create(true).open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| datastore::file_fault(&path, &error))
}

/// Takes the power away.
pub fn off(world: &mut World, mut vm: Vm) -> Result<(), VimFault> {
    vm.power = Power::Off;
    vm.powered_on = None;
    vm.suspended = None;
    log(world, &vm, "PowerOff")?;
    world.put(vm)
}

fn suspend(world: &mut World, mut vm: Vm) -> Result<(), VimFault> {
    passthrough::check_state(&vm)?;
    vm.power = Power::Suspended;
    vm.suspended = Some(OffsetDateTime::now_utc());
    world.put(vm)
}

/// `ShutdownGuest` and its like return at once; the guest does it a moment later, or never, if it is gone by then.
fn ask_guest(world: &mut World, call: &Call) -> Answer {
    let vm = expect(world, &call.this, Power::On, "poweredOn")?;
    if guest::seen(world, &vm).is_none() {
        let message = "Cannot complete operation because VMware Tools is not running in this virtual machine.";
        return Err(VimFault::new("ToolsUnavailable", message));
    }
    let (host, object, method) = (Arc::clone(&call.host), call.this.clone(), call.method);
    tokio::spawn(async move {
        tokio::time::sleep(host.options.boot_delay.min(Duration::from_secs(2))).await;
        let mut world = host.world();
        let Ok(vm) = expect(&world, &object, Power::On, "poweredOff") else { return };
        let done = match method {
            "ShutdownGuest" => off(&mut world, vm),
            "StandbyGuest" => suspend(&mut world, vm),
            _ => boot(&host, &mut world, vm),
        };
        if let Err(fault) = done {
            tracing::warn!(message = %fault.message, "a guest did not do what it was asked for");
        }
        host.announce(world.tick());
    });
    Ok(Reply::Nothing)
}

/// Has a running machine stand still until there is room for its disk, or nobody waits for it any more: it then loses its power.
pub fn out_of_space(host: &Arc<Host>, object: Ref, disk: String) {
    let host = Arc::clone(host);
    tokio::spawn(async move {
        let answered = question::ask(&host, &object, Asked::new(Topic::Space, disk)).await;
        if !matches!(answered, Ok(choice) if Topic::Space.refuses(choice)) {
            return;
        }
        let mut world = host.world();
        let ended = expect(&world, &object, Power::On, "poweredOff").and_then(|vm| off(&mut world, vm));
        if let Err(fault) = ended {
            tracing::debug!(message = %fault.message, "a machine whose session was ended runs on");
        }
        host.announce(world.tick());
    });
}

/// Removes a machine with its configuration, its disks, and its folder where nothing else is left in it.
pub fn destroy(world: &mut World, object: &Ref) -> Result<(), VimFault> {
    let vm = expect(world, object, Power::Off, "poweredOff")?;
    datastore::materialise(world, &vm.folder())?;
    let tops: Vec<&str> = vm.disk_files().collect();
    for (file, _) in vm.all_links() {
        let path = DatastorePath::parse(&file)?;
        // A disk that another machine has too stays. What lies below goes with it, be it another machine's, as a host does it: who
        // keeps linked clones takes their disks out first.
        let shared = tops.contains(&file.as_str())
            && world.vms.values().any(|other| other.id != vm.id && other.disk_files().any(|own| own == file));
        let held = world.vms.values().any(|other| !other.is_off() && other.files().any(|own| own == file));
        let at = world.datastore.resolve(&path)?;
        if shared || held || !at.exists() {
            continue;
        }
        vmdk::remove(&at).map_err(|error| datastore::disk_fault(&path, &error))?;
    }
    for saved in &vm.snapshots.list {
        let (state, memory) = snapshot::file_names(&vm, saved.id);
        for path in [state, memory].map(|name| vm.folder().join(&name)) {
            match std::fs::remove_file(world.datastore.resolve(&path)?) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(datastore::file_fault(&path, &error));
                }
                _ => {}
            }
        }
    }
    let vmx = DatastorePath::parse(&vm.vmx)?;
    let stem = vmx.name().trim_end_matches(".vmx").to_owned();
    let folder = vmx.parent();
    let nvram = vm.extra("nvram").map(str::to_owned).unwrap_or_else(|| format!("{stem}.nvram"));
    for name in [vmx.name().to_owned(), nvram, format!("{stem}.vmsd"), format!("{stem}.vmxf"), "vmware.log".to_owned()]
    {
        let Some(path) = DatastorePath::inside(&format!("{}/{name}", folder.parts().join("/"))) else { continue };
        match std::fs::remove_file(world.datastore.resolve(&path)?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(datastore::file_fault(&path, &error));
            }
            _ => {}
        }
    }
    world.remove(object)?;
    world.guests.forget(vm.id);
    if !folder.is_root() {
        // Other people's files keep the folder: it is removed only where it is empty.
        match std::fs::remove_dir(world.datastore.resolve(&folder)?) {
            Err(error)
                if !matches!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::NotFound) =>
            {
                return Err(datastore::file_fault(&folder, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Keeps the configuration file in step with the record.
pub fn keep(world: &mut World, vm: Vm) -> Result<(), VimFault> {
    vmx::write(world, &vm)?;
    world.put(vm)
}
