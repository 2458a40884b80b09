//! The template `debian-12`: a powered-off machine with a small thin disk that boots, made once for each state folder.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::snapshot::Snapshots;
use super::{Power, SystemDisk, Vm, hardware, vmx};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{disk_fault, file_fault, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::value::Data;
use crate::sim::world::World;

const NAME: &str = "debian-12";
const CAPACITY: u64 = 2 << 30;
/// The size of an EFI machine's variables on a host.
pub const NVRAM_SIZE: u64 = 270_840;

/// What tells one such machine apart from another.
pub struct Plan<'a> {
    pub id: u64,
    pub name: &'a str,
    pub mac: &'a str,
    pub annotation: &'a str,
}

/// Makes the template's files and its record.
pub fn make(world: &mut World) -> Result<Vm, VimFault> {
    let annotation = "Debian 12 with cloud-init and open-vm-tools (SIMULATOR)";
    installed(world, &Plan { id: 1, name: NAME, mac: "00:0c:29:00:00:01", annotation })
}

/// Makes the files and the record of a machine with the template's hardware and system.
pub fn installed(world: &World, plan: &Plan<'_>) -> Result<Vm, VimFault> {
    let name = plan.name;
    let folder = DatastorePath::inside(name).filter(|folder| folder.parts().len() == 1).ok_or_else(|| {
        VimFault::new("InvalidName", format!("'{name}' cannot be a folder's name.")).with("name", name.to_owned())
    })?;
    let at = world.datastore.resolve(&folder)?;
    std::fs::create_dir_all(&at).map_err(|error| file_fault(&folder, &error))?;
    let disk = folder.join(&format!("{name}.vmdk"));
    let file = world.datastore.resolve(&disk)?;
    let made = match vmdk::create(&file, CAPACITY, "lsilogic", vmdk::Space::Thin) {
        Ok(made) => made,
        // The first start was killed between the files and the record: they are as good as new.
        Err(vmdk::VmdkError::Io(error)) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            vmdk::Descriptor::read(&file).map_err(|error| disk_fault(&disk, &error))?
        }
        Err(error) => return Err(disk_fault(&disk, &error)),
    };
    vmdk::install(&file).map_err(|error| disk_fault(&disk, &error))?;
    let system = SystemDisk { file: disk.to_string(), capacity: CAPACITY, uuid: made.api_uuid() };
    let vm = Vm {
        id: plan.id,
        name: name.to_owned(),
        uuid: format!("564d{}", &Uuid::new_v4().to_string()[4..]),
        instance_uuid: format!("52{}", &Uuid::new_v4().to_string()[2..]),
        guest_id: "debian12_64Guest".to_owned(),
        version: "vmx-21".to_owned(),
        firmware: "efi".to_owned(),
        cpus: 1,
        cores_per_socket: 1,
        memory_mb: 1024,
        annotation: plan.annotation.to_owned(),
        vmx: folder.join(&format!("{name}.vmx")).to_string(),
        created: OffsetDateTime::now_utc(),
        change_version: 1,
        snapshots: Snapshots::default(),
        extra: vec![("nvram".to_owned(), format!("{name}.nvram"))],
        devices: hardware::usual(&system, plan.mac),
        settings: Data::new("VirtualMachineConfigInfo"),
        power: Power::Off,
        powered_on: None,
        suspended: None,
        system: true,
        applied: None,
        leases: BTreeMap::new(),
    };
    nvram(world, &vm)?;
    vmx::write(world, &vm)?;
    Ok(vm)
}

/// Writes the firmware's variables of an EFI machine, where there are none.
pub fn nvram(world: &World, vm: &Vm) -> Result<(), VimFault> {
    let name = vm.extra("nvram").map(str::to_owned);
    let name = name
        .unwrap_or_else(|| format!("{}.nvram", vm.vmx.rsplit('/').next().unwrap_or_default().trim_end_matches(".vmx")));
    let path = vm.folder().join(&name);
    let file = world.datastore.resolve(&path)?;
    if file.exists() {
        return Ok(());
    }
    let mut content = b"MRVN\x01\x00\x00\x00".to_vec();
    content.resize(usize::try_from(NVRAM_SIZE).unwrap_or_default(), 0);
    std::fs::write(file, content).map_err(|error| file_fault(&path, &error))
}
