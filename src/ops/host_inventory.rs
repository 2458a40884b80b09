//! The operation that saves what a host has as a file, for the simulator to begin with.

use std::io::Write;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file_transfer::blocking;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::{self, Detail, VmInfo};
use crate::inventory::{self, Inventory};
use crate::redact;

/// How many machines are read at once.
const AT_ONCE: usize = 8;

/// What no file has: it may hold secrets, or belongs to nobody else.
const LEFT_OUT: &str = "extra configuration (guestinfo and the like), the contents of disks and files, CD-ROM drives, passthrough \
    devices, and known secrets in notes and descriptions";

/// Saves what the host is and has as a new file of this machine: its facts, datastores, networks, and machines with their hardware, disks,
/// cards, snapshots and what their guests report. `ceso sim --from FILE` begins with it.
///
/// Nothing secret is in it: extra configuration is left out, and so are the contents of disks. What may not be read is not in it either.
/// Errors: `local.file_exists`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveInventory {
    /// The host.
    pub host: Target<kind::Host>,
    /// The new file: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
}

/// What was saved.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SavedInventory {
    /// The name of the file on this machine.
    pub file: String,
    /// How many machines are in it.
    pub machines: u64,
    /// How many datastores.
    pub datastores: u64,
    /// How many networks.
    pub networks: u64,
    /// What was left out on purpose.
    pub left_out: String,
    /// Machines that could not be saved, each with the reason.
    pub skipped: Vec<String>,
}

impl Operation for SaveInventory {
    const NAME: &'static str = "host.save_inventory";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "save_inventory" };
    const TOUCHES: &'static [Touch] = &[touch("host", "read", Selector::Argument("host"))];
    const USAGE: &'static str = "print(host:save_inventory({ into = file }).machines)";

    type Bound = (BoundHost, Arc<LocalFile>);
    type Output = SavedInventory;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        Ok((binder.host_for(&self.host, "read")?, binder.file(&self.into, Access::Write)?))
    }

    async fn act(self, (bound, file): Self::Bound, pass: &Pass<'_>) -> Result<SavedInventory, Fault> {
        let (own, skipped) = read(&bound, pass).await?;
        let (machines, datastores) = (own.machines.len() as u64, own.datastores.len() as u64);
        let (networks, name) = (own.networks.len() as u64, file.name());
        blocking(move || {
            let broken = |error: &dyn std::fmt::Display| {
                Fault::new("local.file", format!("the inventory was not written: {error}"))
            };
            let text = serde_json::to_string_pretty(&own).map_err(|error| broken(&error))?;
            // What cannot be loaded is not worth saving.
            Inventory::read(text.as_bytes())?;
            let part = file.begin(false)?;
            let written = part.file().and_then(|mut file| file.write_all(text.as_bytes()));
            match written {
                Ok(()) => part.finish(),
                Err(error) => {
                    part.discard()?;
                    Err(broken(&error).hint("look at the file, its folder and its disk on this machine"))
                }
            }
        })
        .await?;
        Ok(SavedInventory { file: name, machines, datastores, networks, left_out: LEFT_OUT.to_owned(), skipped })
    }
}

async fn read(bound: &BoundHost, pass: &Pass<'_>) -> Result<(Inventory, Vec<String>), Fault> {
    let (client, system) = (&bound.host.client, &bound.system);
    let facts = client.host_facts(system).await?;
    let stores = client.list_datastores(system).await?;
    let networks = client.list_networks(system).await?;
    let groups = client.port_groups(system).await?;
    let rows = client.list_vms(system, Detail::Full).await?;
    let seen = rows.into_iter().filter(|row| pass.may_read("vm", &row.vm.name)).map(|row| pass.registered(row.vm));
    let infos: Vec<VmInfo> = stream::iter(seen.collect::<Vec<_>>())
        .map(|vm| async move {
            match client.vm_info(&vm).await {
                // Somebody removed it meanwhile.
                Err(error) if error.is("ManagedObjectNotFound") => Ok(None),
                info => info.map(Some),
            }
        })
        .buffered(AT_ONCE)
        .try_filter_map(|info| std::future::ready(Ok(info)))
        .try_collect()
        .await?;
    let vlan = |name: &str| groups.iter().find(|group| group.name == name).map_or(0, |group| group.vlan);
    let mut own = Inventory {
        format: inventory::FORMAT.to_owned(),
        saved: super::repository_rows::told(time::OffsetDateTime::now_utc()),
        left_out: LEFT_OUT.to_owned(),
        host: inventory::HostFacts {
            product: facts.product,
            version: facts.version,
            build: facts.build,
            vendor: facts.vendor,
            model: facts.model,
            cpu_model: facts.cpu_model,
            cpu_cores: facts.cpu_cores,
            cpu_threads: facts.cpu_threads,
            memory: facts.memory.map(|memory| memory.0),
        },
        datastores: stores
            .into_iter()
            .filter(|row| pass.may_read("datastore", &row.datastore.name))
            .map(|row| inventory::Datastore {
                name: row.datastore.name,
                kind: row.kind,
                capacity: row.capacity.0,
                free: row.free.0.min(row.capacity.0),
                writable: row.writable,
            })
            .collect(),
        networks: networks
            .into_iter()
            .filter(|row| pass.may_read("network", &row.network.name))
            .map(|row| inventory::Network { vlan: vlan(&row.network.name), name: row.network.name })
            .collect(),
        machines: Vec::new(),
    };
    let mut skipped = Vec::new();
    for info in infos {
        let name = info.row.vm.name.clone();
        own.machines.push(machine(info, &own));
        // One that contradicts itself, or lies where it may not be read, keeps no other from being saved.
        let alone =
            Inventory { machines: own.machines.last().cloned().into_iter().collect(), ..own.clone_without_machines() };
        if let Err(why) = alone.check() {
            own.machines.pop();
            skipped.push(format!("{name}: {why}"));
        }
    }
    Ok((own, skipped))
}

fn hidden(text: Option<String>) -> String {
    text.map(|text| redact::text(&text).into_owned()).unwrap_or_default()
}

fn machine(info: VmInfo, own: &Inventory) -> inventory::Machine {
    let VmInfo { row, hardware, firmware, snapshots, .. } = info;
    let cores = info.cores_per_socket.unwrap_or(1);
    let cpus = row.cpus.unwrap_or(1);
    let number = |snapshot: &esxi::SnapshotRow| u32::try_from(snapshot.snapshot.id).unwrap_or_default();
    let parent = |of: &esxi::SnapshotRow| {
        let above = of.parent.as_ref()?;
        snapshots.iter().find(|row| row.snapshot.moref == *above).map(number)
    };
    let network = |name: Option<String>| name.filter(|name| own.networks.iter().any(|known| known.name == *name));
    let guest = (!row.addresses.is_empty() || row.guest_hostname.is_some())
        .then(|| inventory::Guest { hostname: row.guest_hostname.clone(), addresses: row.addresses.clone() });
    inventory::Machine {
        power: row.power.as_str().to_owned(),
        cpus,
        cores_per_socket: cores.clamp(1, cpus.max(1)),
        memory: row.memory.map_or(0, |memory| memory.0),
        guest_id: row.guest_id.unwrap_or_else(|| "otherGuest64".to_owned()),
        firmware: firmware.as_str().to_owned(),
        hardware_version: info.hardware_version.unwrap_or_else(|| "vmx-13".to_owned()),
        notes: hidden(row.notes),
        committed: row.committed.map_or(0, |size| size.0),
        controllers: hardware
            .controllers
            .iter()
            // Those that no disk hangs on are part of every machine, or of no interest.
            .filter(|own| !matches!(own.kind, esxi::ControllerKind::Other(_)))
            .map(|own| inventory::Controller { key: own.key, kind: own.kind.as_str().to_owned(), bus: own.bus })
            .collect(),
        disks: hardware
            .disks
            .iter()
            .map(|disk| inventory::Disk {
                key: disk.key,
                size: disk.size.0,
                thin: disk.thin != Some(false),
                file: disk.file.clone(),
                parents: disk.parents.clone(),
                controller: disk.controller_key,
                unit: disk.unit,
            })
            .collect(),
        nics: hardware
            .nics
            .into_iter()
            .map(|nic| inventory::Nic {
                kind: nic.kind,
                mac: nic.mac,
                network: network(nic.network),
                start_connected: nic.start_connected,
            })
            .collect(),
        snapshots: snapshots
            .iter()
            .map(|row| inventory::Snapshot {
                id: number(row),
                name: hidden(Some(row.snapshot.name.clone())),
                description: hidden(Some(row.kept_description())),
                created: row.created.clone(),
                parent: parent(row),
                current: row.current,
            })
            .collect(),
        guest,
        instance_uuid: row.vm.instance_uuid,
        path: row.vm.path,
        name: row.vm.name,
    }
}
