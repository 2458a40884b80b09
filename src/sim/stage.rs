//! What a test puts into a simulator before it begins, and what it looks at afterwards: the inventory and the calls.
//!
//! Both go past the API on purpose: a test that looked through the client under test would see with its eyes. Nothing here is
//! reachable over the network.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::datastore;
use super::datastore::chain::Chain;
use super::fault::VimFault;
use super::guest;
use super::server::Server;
use super::value::{Data, Ref};
use super::vm::question::{self, Asked, TOPICS};
use super::vm::template::{self, Plan};
use super::vm::{Power, Vm, create, devices, hardware, place, power};
use super::world::World;
use crate::error::Fault;

/// How many calls are remembered, the newest.
const REMEMBERED: usize = 20_000;

/// What is put into a simulator that has just been started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stage {
    pub machines: Vec<Machine>,
    /// Port groups beside `VM Network`.
    pub networks: Vec<String>,
    /// Whether the template `debian-12` is taken out.
    pub without_template: bool,
}

/// A machine with the template's hardware and system, but for what is said here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    pub name: String,
    pub on: bool,
    pub cpus: Option<i32>,
    pub memory_mb: Option<i32>,
    pub notes: Option<String>,
    /// The networks of its cards. Default: one card on `VM Network`.
    pub networks: Option<Vec<String>>,
    /// The address that its first card gets by DHCP.
    pub ip: Option<Ipv4Addr>,
    /// Extra configuration, such as `guestinfo.…`.
    pub extra: Vec<(String, String)>,
}

/// A machine as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    pub name: String,
    /// `on`, `off` or `suspended`.
    pub power: &'static str,
    pub cpus: i32,
    pub memory_mb: i32,
    pub notes: String,
    /// What the guest reports: its name, and its addresses.
    pub hostname: Option<String>,
    pub ip: Option<String>,
    pub addresses: Vec<String>,
    pub networks: Vec<String>,
    pub disks: Vec<u64>,
    pub path: String,
    pub extra: Vec<(String, String)>,
    /// The cloud-init documents in its extra configuration, unpacked.
    pub user_data: Option<String>,
    pub meta_data: Option<String>,
}

/// A call of a method of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    pub method: &'static str,
    /// The machine's name, or the host's name for another object.
    pub object: String,
}

/// The newest calls.
#[derive(Debug, Default)]
pub struct Calls(Mutex<VecDeque<Called>>);

impl Calls {
    pub fn note(&self, world: &World, method: &'static str, object: &Ref) {
        let object = match world.vm(object) {
            Ok(vm) => vm.name.clone(),
            Err(_) => object.id.to_string(),
        };
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= REMEMBERED {
            calls.pop_front();
        }
        calls.push_back(Called { method, object });
    }

    pub fn all(&self) -> Vec<Called> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Server {
    /// Puts machines and networks in. Faults: `sim.stage`, with what the host has against it.
    pub fn stage(&self, stage: &Stage) -> Result<(), Fault> {
        let host = self.host();
        let mut world = host.world();
        let world = &mut *world;
        let refused = |what: String| Fault::new("sim.stage", what);
        for name in &stage.networks {
            if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
                return Err(refused("the name of a network has 1 to 80 characters".to_owned()));
            }
            if world.networks().all(|own| own != name) {
                world.file.networks.push(name.clone());
                world.touch_topology();
            }
        }
        if stage.without_template {
            let template = Ref::new("VirtualMachine", "1");
            world.remove(&template).map_err(|fault| refused(fault.message))?;
        }
        for machine in &stage.machines {
            let put = put(world, machine).and_then(|object| match machine.on {
                true => power::on(host, world, &object),
                false => Ok(()),
            });
            put.map_err(|fault| refused(format!("the machine {:?}: {}", machine.name, fault.message)))?;
        }
        host.announce(world.tick());
        Ok(())
    }

    /// The machines as they are, by name.
    pub fn machines(&self) -> Vec<Staged> {
        let world = self.host().world();
        let mut all: Vec<Staged> = world.vms.values().map(|vm| staged(&world, vm)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What a machine's disk (from 0) holds at a place, through all that it builds on. Faults: `sim.stage`.
    pub fn read_disk(&self, machine: &str, disk: usize, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let chain = self.chain(machine, disk)?;
        let mut bytes = vec![0; length];
        let read = chain.reader().and_then(|mut reader| reader.read(offset, &mut bytes));
        read.map(|()| bytes).map_err(|error| Fault::new("sim.stage", error.to_string()))
    }

    /// Writes to a machine's disk (from 0), as its guest would. Faults: `sim.stage`.
    pub fn write_disk(&self, machine: &str, disk: usize, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let chain = self.chain(machine, disk)?;
        chain.write(offset, bytes).map_err(|error| Fault::new("sim.stage", error.to_string()))
    }

    /// Has a machine ask something, by the word of the topic (`moved`, `space`, `door`); nothing waits for the answer. Faults: `sim.stage`.
    pub fn ask(&self, machine: &str, topic: &str) -> Result<(), Fault> {
        let refused = |what: String| Fault::new("sim.stage", what);
        let topic = TOPICS.iter().find(|(word, _)| *word == topic).map(|(_, topic)| *topic);
        let topic = topic.ok_or_else(|| refused("a machine asks of moved, space or door".to_owned()))?;
        let (object, asked) = {
            let world = self.host().world();
            let vm = world.vm_by_name(machine);
            let vm = vm.ok_or_else(|| refused(format!("there is no machine {machine:?}")))?;
            (vm.reference(), Asked::canned(topic, vm))
        };
        let put = question::put(self.host(), &object, asked).map_err(|fault| refused(fault.message))?;
        // It waits for as long as the machine is there.
        tokio::spawn(put);
        Ok(())
    }

    fn chain(&self, machine: &str, disk: usize) -> Result<Chain, Fault> {
        let world = self.host().world();
        let vm = world.vm_by_name(machine);
        let vm = vm.ok_or_else(|| Fault::new("sim.stage", format!("there is no machine {machine:?}")))?;
        guest::writes::disk(&world, vm, disk).map_err(|fault| Fault::new("sim.stage", fault.message))
    }

    /// The names of the networks.
    pub fn networks(&self) -> Vec<String> {
        self.host().world().networks().map(str::to_owned).collect()
    }

    /// The names of the datastores.
    pub fn datastores(&self) -> Vec<String> {
        vec![datastore::NAME.to_owned()]
    }
}

fn put(world: &mut World, machine: &Machine) -> Result<Ref, VimFault> {
    create::check_name(world, &machine.name, None)?;
    let id = world.file.next_vm;
    world.file.next_vm += 1;
    let mac = devices::generated(world);
    let plan = Plan { id, name: &machine.name, mac: &mac, annotation: machine.notes.as_deref().unwrap_or_default() };
    let mut vm = template::installed(world, &plan)?;
    vm.cpus = machine.cpus.unwrap_or(vm.cpus);
    vm.memory_mb = machine.memory_mb.unwrap_or(vm.memory_mb);
    if let Some(networks) = &machine.networks {
        connect(world, &mut vm, networks)?;
    }
    for (key, value) in &machine.extra {
        vm.set_extra(key, value);
    }
    let first = vm.nics().next().and_then(|nic| nic.text("macAddress")).map(str::to_owned);
    if let (Some(address), Some(mac)) = (machine.ip, first) {
        vm.leases.insert(mac, address.to_string());
    }
    let object = vm.reference();
    world.put(vm)?;
    Ok(object)
}

/// Replaces the machine's cards by one on each of the networks.
fn connect(world: &mut World, vm: &mut Vm, networks: &[String]) -> Result<(), VimFault> {
    if networks.len() > 10 {
        return Err(VimFault::invalid_argument("networks", "a machine has 10 cards at most"));
    }
    let cards: Vec<String> = vm.nics().filter_map(|nic| nic.text("macAddress")).map(str::to_owned).collect();
    vm.devices.retain(|device| !is_card(device));
    for (number, network) in networks.iter().enumerate() {
        if world.networks().all(|own| own != network) {
            return Err(VimFault::invalid_argument("networks", format!("there is no network {network:?}")));
        }
        let mac = match cards.get(number) {
            Some(mac) => mac.clone(),
            None => devices::generated(world),
        };
        let number = i32::try_from(number).unwrap_or_default();
        vm.devices.push(hardware::nic("VirtualVmxnet3", number, network, &mac));
    }
    Ok(())
}

fn is_card(device: &Data) -> bool {
    super::schema::schema().is_a(device.kind, "VirtualEthernetCard")
}

fn staged(world: &World, vm: &Vm) -> Staged {
    let seen = guest::seen(world, vm);
    Staged {
        name: vm.name.clone(),
        power: match vm.power {
            Power::On => "on",
            Power::Off => "off",
            Power::Suspended => "suspended",
        },
        cpus: vm.cpus,
        memory_mb: vm.memory_mb,
        notes: vm.annotation.clone(),
        hostname: seen.as_ref().map(|seen| seen.hostname.clone()),
        ip: seen.as_ref().and_then(guest::Seen::address),
        addresses: seen.iter().flat_map(|seen| seen.addresses().map(str::to_owned).collect::<Vec<_>>()).collect(),
        networks: vm.nics().filter_map(Vm::network_of).map(str::to_owned).collect(),
        disks: vm
            .disks()
            .filter_map(|disk| disk.number("capacityInBytes"))
            .filter_map(|bytes| u64::try_from(bytes).ok())
            .collect(),
        path: vm.vmx.clone(),
        extra: vm.extra.iter().filter(|(key, _)| key != place::LOCATION).cloned().collect(),
        user_data: guest::metadata::decoded(vm, "guestinfo.userdata"),
        meta_data: guest::metadata::decoded(vm, "guestinfo.metadata"),
    }
}
