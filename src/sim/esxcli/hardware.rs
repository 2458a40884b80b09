//! `esxcli hardware`: the machine below, as the simulator has it.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::namespace::{Column, Command, Kind, Namespace, Shape, Told, one};
use crate::sim::esx::host::{CORES, MEMORY};
use crate::sim::esx::pci;

use Kind::{Number, Text, Truth};

pub const NAMESPACES: &[Namespace] = &[
    Namespace {
        name: "hardware.clock",
        help: "Interaction with the hardware clock.",
        commands: &[Command {
            name: "get",
            help: "Display the current hardware clock time.",
            options: &[],
            shape: Shape::One(Text),
            act: |_, _, _| {
                let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
                Ok(Told::One(now.format(&Rfc3339).unwrap_or_default()))
            },
        }],
    },
    Namespace {
        name: "hardware.cpu.global",
        help: "Information and configuration global to all CPUs.",
        commands: &[Command {
            name: "get",
            help: "Get a list of global CPU properties, shared by all CPUs.",
            options: &[],
            shape: Shape::Record(
                "GlobalCpu",
                &[
                    Column("CPU Cores", Number),
                    Column("CPU Packages", Number),
                    Column("CPU Threads", Number),
                    Column("HV Support", Number),
                    Column("Hyperthreading Active", Truth),
                    Column("Hyperthreading Enabled", Truth),
                    Column("Hyperthreading Supported", Truth),
                ],
            ),
            act: |_, _, _| {
                let no = one(false);
                Ok(Told::Rows(vec![vec![one(CORES), one(1), one(CORES), one(3), no.clone(), no.clone(), no]]))
            },
        }],
    },
    Namespace {
        name: "hardware.memory",
        help: "Information about system memory.",
        commands: &[Command {
            name: "get",
            help: "Get information about memory.",
            options: &[],
            shape: Shape::Record(
                "MemoryGet",
                &[
                    Column("NUMA Node Count", Number),
                    Column("Physical Memory", Number),
                    Column("Reliable Memory", Number),
                ],
            ),
            act: |_, _, _| Ok(Told::Rows(vec![vec![one(1), one(MEMORY), one(0)]])),
        }],
    },
    Namespace {
        name: "hardware.pci",
        help: "PCI device information.",
        commands: &[Command {
            name: "list",
            help: "List all of the PCI devices on the system.",
            options: &[],
            shape: Shape::List(
                "PCI",
                &[
                    Column("Address", Text),
                    Column("Vendor Name", Text),
                    Column("Device Name", Text),
                    Column("Passthru Capable", Truth),
                ],
            ),
            act: |_, _, _| {
                let row = |device: &pci::Device| {
                    vec![one(device.id), one(device.vendor_name), one(device.name), one(device.capable)]
                };
                Ok(Told::Rows(pci::DEVICES.iter().map(row).collect()))
            },
        }],
    },
    Namespace {
        name: "hardware.platform",
        help: "Platform information.",
        commands: &[Command {
            name: "get",
            help: "Get information about the platform",
            options: &[],
            shape: Shape::Record(
                "PlatformGet",
                &[
                    Column("BIOS Asset Tag", Text),
                    Column("Enclosure Serial Number", Text),
                    Column("IPMI Supported", Truth),
                    Column("Product Name", Text),
                    Column("Serial Number", Text),
                    Column("UUID", Text),
                    Column("Vendor Name", Text),
                ],
            ),
            act: |world, _, _| {
                let serial = format!("SIMULATOR-{}", world.file.uuid.get(..8).unwrap_or_default());
                let uuid = &world.file.uuid;
                let row = ["", &serial, "false", "SIMULATOR", &serial, uuid, "ceso"];
                Ok(Told::Rows(vec![row.map(one).to_vec()]))
            },
        }],
    },
];
