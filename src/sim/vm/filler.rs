//! The numbered machines `vm-0001` …: as many as the options ask for, made from their number alone.
//!
//! They cost no file until somebody looks at their folder, and no record until somebody changes them: two thousand start in no time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use time::{Duration, OffsetDateTime};

use super::snapshot::Snapshots;
use super::{Power, SystemDisk, Vm, hardware, vmx};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{disk_fault, file_fault, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::value::Data;
use crate::sim::world::World;

/// Ids from here on are numbered machines, so that they keep theirs when the number of them changes between starts.
const FIRST: u64 = 1_000_000;
/// As many as have an address of their own.
pub const MOST: u32 = 60_000;
const CAPACITY: u64 = 16 << 30;
/// What an untouched machine's files would take.
pub const STORED: u64 = 1 << 20;
pub const VMX_SIZE: u64 = 2048;
pub const DESCRIPTOR_SIZE: u64 = 512;

pub fn id(number: u32) -> u64 {
    FIRST + u64::from(number)
}

/// The number of the machine with that id, where it is a numbered one.
pub fn number(id: u64) -> Option<u32> {
    id.checked_sub(FIRST).and_then(|number| u32::try_from(number).ok()).filter(|number| (1..=MOST).contains(number))
}

/// The machine of that number, powered on, with an address.
pub fn make(number: u32) -> Vm {
    let name = format!("vm-{number:04}");
    let [_, high, middle, low] = number.to_be_bytes();
    let mac = format!("00:0c:29:f{:x}:{middle:02x}:{low:02x}", high & 0xf);
    let uuid = |head: &str| format!("{head}-5e30-4c0d-8000-{number:012x}");
    let disk = SystemDisk {
        file: format!("[datastore1] {name}/{name}.vmdk"),
        capacity: CAPACITY,
        uuid: format!("6000c29f-0000-4000-8000-{number:012x}"),
    };
    let now = OffsetDateTime::now_utc();
    // The addresses 10.1.0.1 to 10.1.239.250: beside those that DHCP gives to others.
    let index = number - 1;
    let address = format!("10.1.{}.{}", index / 250, index % 250 + 1);
    Vm {
        id: id(number),
        uuid: uuid("564dce50"),
        instance_uuid: uuid("52ce5000"),
        guest_id: "debian12_64Guest".to_owned(),
        version: "vmx-21".to_owned(),
        firmware: "efi".to_owned(),
        cpus: 1,
        cores_per_socket: 1,
        memory_mb: 1024,
        annotation: String::new(),
        vmx: format!("[datastore1] {name}/{name}.vmx"),
        created: now - Duration::days(1),
        change_version: 1,
        snapshots: Snapshots::default(),
        extra: vec![("nvram".to_owned(), format!("{name}.nvram"))],
        devices: hardware::usual(&disk, &mac),
        settings: Data::new("VirtualMachineConfigInfo"),
        power: Power::On,
        powered_on: Some(now - Duration::hours(1)),
        suspended: None,
        system: true,
        applied: None,
        leases: BTreeMap::from([(mac, address)]),
        name,
    }
}

/// Makes the machine's folder.
pub fn folder(world: &World, vm: &Vm) -> Result<PathBuf, VimFault> {
    let folder = vm.folder();
    let at = world.datastore.resolve(&folder)?;
    std::fs::create_dir_all(&at).map_err(|error| file_fault(&folder, &error))?;
    Ok(at)
}

/// Whether the machine's files are there.
pub fn made(world: &World, vm: &Vm) -> bool {
    let file = DatastorePath::parse(&vm.vmx).and_then(|path| world.datastore.resolve(&path));
    file.is_ok_and(|file| file.exists())
}

/// Makes the machine's files, where they were never made: its disk boots.
pub fn files(world: &World, vm: &Vm) -> Result<(), VimFault> {
    if made(world, vm) {
        return Ok(());
    }
    folder(world, vm)?;
    for disk in vm.disk_files() {
        let path = DatastorePath::parse(disk)?;
        let file = world.datastore.resolve(&path)?;
        if !file.exists() {
            vmdk::create(&file, CAPACITY, "lsilogic", vmdk::Space::Thin).map_err(|error| disk_fault(&path, &error))?;
            vmdk::install(&file).map_err(|error| disk_fault(&path, &error))?;
        }
    }
    super::template::nvram(world, vm)?;
    // The configuration comes last: it tells that the others are there.
    vmx::write(world, vm)
}
