//! What a running guest writes to its disks: a record at each boot and, where the options say so, one from time to time.
//!
//! The records lie one behind the other, a sector each, from the first MiB on; the next one's number is found on the disk itself. So
//! what a disk holds depends on what was written to it alone: a revert brings the old number back. A disk whose system is not the
//! simulator's own is left alone, for no place on it is known to be free.

use std::sync::Arc;
use std::time::Duration;

use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::{self, disk_fault, vmdk};
use crate::sim::fault::VimFault;
use crate::sim::server::Host;
use crate::sim::value::{Data, Value};
use crate::sim::vm::{Power, Vm, filler, power};
use crate::sim::world::World;

/// Where the records begin.
pub const FIRST: u64 = 1 << 20;
/// The most records of a disk; the last is then written again and again.
const MOST: u64 = 2048;

/// Writes the next record to each disk of a machine that runs.
pub fn write(world: &World, vm: &Vm, what: &str) -> Result<(), VimFault> {
    for disk in vm.disks() {
        let mode = disk.at("backing.diskMode").and_then(Value::as_text).unwrap_or_default();
        let Some(file) = disk.at("backing.fileName").and_then(Value::as_text) else { continue };
        // What is written to such a disk is gone at power-off.
        if mode == "independent_nonpersistent" {
            continue;
        }
        let path = datastore::open(world, file)?;
        let chain = Chain::open(&world.datastore, &path)?;
        record(&chain, what).map_err(|error| disk_fault(&path, &error))?;
    }
    Ok(())
}

fn record(chain: &Chain, what: &str) -> Result<(), vmdk::VmdkError> {
    let mut reader = chain.reader()?;
    let mut boot = [0; 64];
    reader.read(0, &mut boot)?;
    if !boot.starts_with(vmdk::SYSTEM) || chain.capacity() < FIRST + MOST * 512 {
        return Ok(());
    }
    let mut number = 0;
    let mut sector = [0; 8];
    while number + 1 < MOST {
        reader.read(FIRST + number * 512, &mut sector)?;
        if sector == [0; 8] {
            break;
        }
        number += 1;
    }
    let mut bytes = format!("SIMULATOR: record {number:06} of a running guest: {what}\n").into_bytes();
    bytes.resize(512, 0);
    chain.write(FIRST + number * 512, &bytes)
}

/// Whether a write may take more of the datastore: a thin disk, or a delta.
fn grows(disk: &Data) -> bool {
    let backing = disk.data("backing");
    backing.is_some_and(|backing| backing.boolean("thinProvisioned") == Some(true) || backing.get("parent").is_some())
}

/// Has every running guest write again and again, until the simulator is gone.
pub fn again(host: &Arc<Host>, every: Duration) {
    let host = Arc::downgrade(host);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let Some(host) = host.upgrade() else { return };
            let world = host.world();
            let full = world.datastore.is_full();
            let mut halted = Vec::new();
            for vm in world.vms.values().filter(|vm| vm.power == Power::On && vm.system) {
                // Nobody's files are made for this.
                if (filler::number(vm.id).is_some() && !filler::made(&world, vm)) || world.questions.waits(vm.id) {
                    continue;
                }
                if let Some(disk) = vm.disks().find(|disk| grows(disk)).filter(|_| full) {
                    let file = disk.at("backing.fileName").and_then(Value::as_text).unwrap_or_default();
                    halted.push((vm.reference(), file.rsplit('/').next().unwrap_or(file).to_owned()));
                    continue;
                }
                if let Err(fault) = write(&world, vm, "time") {
                    tracing::debug!(vm = vm.name, message = %fault.message, "a guest could not write");
                }
            }
            drop(world);
            halted.into_iter().for_each(|(object, disk)| power::out_of_space(&host, object, disk));
        }
    });
}

/// The disk of that number of a machine, from 0.
pub fn disk(world: &World, vm: &Vm, number: usize) -> Result<Chain, VimFault> {
    datastore::materialise(world, &vm.folder())?;
    let file = vm.disk_files().nth(number);
    let file = file.ok_or_else(|| VimFault::invalid_argument("disk", format!("the machine has no disk {number}")))?;
    Chain::open(&world.datastore, &DatastorePath::parse(file)?)
}
