//! `esxcli storage`: volumes, what they lie on, mounts.

use super::namespace::{Column, Command, Kind, Namespace, Shape, Told, one};
use crate::sim::datastore::{NAME, OBJECT};

use Kind::{Number, Text, Truth};

/// The disk that the datastore lies on.
const DEVICE: &str = "mpx.vmhba0:C0:T0:L0";

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "storage.core.adapter",
        help: "Operations pertaining to SCSI Host Bus Adapters.",
        commands: &[Command {
            name: "list",
            help: "List all the SCSI Host Bus Adapters on the system.",
            options: &[],
            shape: Shape::Table(
                "ScsiInterface",
                &[
                    Column("HBA Name", Text),
                    Column("Driver", Text),
                    Column("Link State", Text),
                    Column("UID", Text),
                    Column("Capabilities", Text),
                    Column("Description", Text),
                ],
            ),
            act: |_, _, _| {
                let row = ["vmhba0", "simulated", "link-n/a", "sata.vmhba0", "", "ceso Simulated storage controller"];
                Ok(Told::Rows(vec![row.map(one).to_vec()]))
            },
        }],
    },
    Namespace {
        name: "storage.core.device",
        help: "Device information and manipulation commands.",
        commands: &[Command {
            name: "list",
            help: "List the devices currently registered with the PSA.",
            options: &[],
            shape: Shape::List(
                "ScsiDevice",
                &[
                    Column("Device", Text),
                    Column("Display Name", Text),
                    Column("Size", Number),
                    Column("Device Type", Text),
                    Column("Devfs Path", Text),
                    Column("Vendor", Text),
                    Column("Model", Text),
                    Column("Is Local", Truth),
                    Column("Is SSD", Truth),
                    Column("Status", Text),
                ],
            ),
            act: |world, _, _| {
                let size = (world.datastore.space().0 >> 20).to_string();
                let path = format!("/vmfs/devices/disks/{DEVICE}");
                let shown = format!("Local ceso Disk ({DEVICE})");
                let row = [DEVICE, &shown, &size, "Direct-Access", &path, "ceso", "SIMULATOR", "true", "true", "on"];
                Ok(Told::Rows(vec![row.map(one).to_vec()]))
            },
        }],
    },
    Namespace {
        name: "storage.filesystem",
        help: "Operations pertaining to filesystems, also known as datastores, on the ESX host.",
        commands: &[Command {
            name: "list",
            help: "List the volumes available to the host.",
            options: &[],
            shape: Shape::Table(
                "FilesystemVolume",
                &[
                    Column("Mount Point", Text),
                    Column("Volume Name", Text),
                    Column("UUID", Text),
                    Column("Mounted", Truth),
                    Column("Type", Text),
                    Column("Size", Number),
                    Column("Free", Number),
                ],
            ),
            act: |world, _, _| {
                let (size, free) = world.datastore.space();
                let place = |id: &str| format!("/vmfs/volumes/{id}");
                let own = vec![
                    one(place(&OBJECT.id)),
                    one(NAME),
                    one(&OBJECT.id),
                    one(true),
                    one("VMFS-6"),
                    one(size),
                    one(free),
                ];
                let mounts = world.file.mounts.iter().map(|mount| {
                    let id = mount.object().id.into_owned();
                    let kind = if mount.kind == "NFS41" { "NFS41" } else { "NFS" };
                    vec![one(place(&id)), one(&mount.name), one(id), one(true), one(kind), one(0), one(0)]
                });
                Ok(Told::Rows(std::iter::once(own).chain(mounts).collect()))
            },
        }],
    },
    Namespace {
        name: "storage.nfs",
        help: "Operations to create, manage, and remove Network Attached Storage filesystems.",
        commands: &[Command {
            name: "list",
            help: "List the NAS volumes currently known to the ESX host.",
            options: &[],
            shape: Shape::Table(
                "Nas",
                &[
                    Column("Volume Name", Text),
                    Column("Host", Text),
                    Column("Share", Text),
                    Column("Accessible", Truth),
                    Column("Mounted", Truth),
                    Column("Read-Only", Truth),
                ],
            ),
            act: |world, _, _| {
                let mounts = world.file.mounts.iter().filter(|mount| mount.kind != "NFS41").map(|mount| {
                    vec![
                        one(&mount.name),
                        one(&mount.host),
                        one(&mount.path),
                        one(true),
                        one(true),
                        one(mount.read_only),
                    ]
                });
                Ok(Told::Rows(mounts.collect()))
            },
        }],
    },
    Namespace {
        name: "storage.vmfs.extent",
        help: "Manage VMFS extents.",
        commands: &[Command {
            name: "list",
            help: "List the VMFS extents available on the host.",
            options: &[],
            shape: Shape::Table(
                "VmfsExtent",
                &[
                    Column("Volume Name", Text),
                    Column("VMFS UUID", Text),
                    Column("Extent Number", Number),
                    Column("Device Name", Text),
                    Column("Partition", Number),
                ],
            ),
            act: |_, _, _| {
                let row = [NAME, &OBJECT.id, "0", DEVICE, "1"];
                Ok(Told::Rows(vec![row.map(one).to_vec()]))
            },
        }],
    },
];
