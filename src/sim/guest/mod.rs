//! What runs inside a machine: a guest that boots after a while, takes its name and addresses from its cloud-init data, and says so
//! through its tools.
//!
//! Whether a guest is up is derived from the time of power-on, so that it survives the process. What it applied is kept with the
//! machine, because a real guest keeps it on its disk: with the same instance-id the network is not applied again.
//!
//! Sources: cloud-init's `DataSourceVMware`, its network-config formats 1 and 2.

pub mod metadata;
mod network;
pub mod operations;
mod programs;
mod seed;
pub mod writes;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::server::Host;
use super::value::Ref;
use super::vm::{Power, Vm};
use super::world::World;

/// What a guest took from its cloud-init data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    pub instance_id: String,
    pub hostname: String,
    pub nics: Vec<AppliedNic>,
    pub dns: Vec<String>,
    pub search: Vec<String>,
}

/// One interface, as the guest configured it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedNic {
    pub mac: String,
    pub dhcp: bool,
    /// Address and prefix length.
    pub addresses: Vec<(String, u8)>,
    pub gateway: Option<String>,
}

/// What the tools of a running guest report.
#[derive(Debug, Clone)]
pub struct Seen {
    pub hostname: String,
    pub domain: String,
    pub nics: Vec<SeenNic>,
    pub gateway: Option<String>,
    pub dns: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct SeenNic {
    pub key: i32,
    pub mac: String,
    pub network: String,
    pub dhcp: bool,
    pub addresses: Vec<(String, u8)>,
}

impl Seen {
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.nics.iter().flat_map(|nic| nic.addresses.iter().map(|(address, _)| address.as_str()))
    }

    /// The address that `guest.ipAddress` shows: the first that is not link-local, IPv4 before IPv6.
    pub fn address(&self) -> Option<String> {
        let usable = |address: &&str| !address.starts_with("fe80:") && !address.starts_with("169.254.");
        let first = |v6: bool| self.addresses().filter(usable).find(|address| address.contains(':') == v6);
        first(false).or_else(|| first(true)).map(str::to_owned)
    }
}

/// The gateway and resolver of the simulated network.
const GATEWAY: &str = "10.0.1.1";
/// The name of a machine that nobody named: that of the image.
const UNNAMED: &str = "debian";

/// What the guest's tools report now; nothing while the machine is off, still boots, or has nothing to boot.
pub fn seen(world: &World, vm: &Vm) -> Option<Seen> {
    let since = vm.powered_on.filter(|_| vm.power == Power::On && vm.system)?;
    if OffsetDateTime::now_utc() - since < world.boot_delay {
        return None;
    }
    let applied = vm.applied.as_ref();
    let mut gateway = None;
    let mut nics = Vec::new();
    for nic in vm.nics() {
        let connected = nic.data("connectable").is_none_or(|data| data.boolean("startConnected") != Some(false));
        let Some(mac) = nic.text("macAddress").filter(|_| connected) else { continue };
        let configured = applied.and_then(|applied| applied.nics.iter().find(|nic| nic.mac == mac));
        // With cloud-init data that names no interface of this address, the guest leaves it down.
        let dhcp = configured.map_or(applied.is_none_or(|applied| applied.nics.is_empty()), |nic| nic.dhcp);
        let lease = vm.leases.get(mac).filter(|_| dhcp).map(|lease| (lease.clone(), 24));
        let addresses = configured.map(|nic| nic.addresses.clone()).unwrap_or_default();
        let own = configured.and_then(|nic| nic.gateway.clone());
        gateway = gateway.or(own).or_else(|| lease.as_ref().map(|_| GATEWAY.to_owned()));
        nics.push(SeenNic {
            key: nic.int("key").unwrap_or_default(),
            mac: mac.to_owned(),
            network: Vm::network_of(nic).unwrap_or_default().to_owned(),
            dhcp,
            addresses: addresses.into_iter().chain(lease).collect(),
        });
    }
    let fqdn = applied.map_or(UNNAMED, |applied| applied.hostname.as_str());
    let (hostname, domain) = fqdn.split_once('.').unwrap_or((fqdn, ""));
    let dns = applied.map(|applied| applied.dns.clone()).filter(|dns| !dns.is_empty());
    let dhcp = nics.iter().any(|nic| nic.dhcp);
    Some(Seen {
        hostname: if domain.is_empty() { hostname.to_owned() } else { fqdn.to_owned() },
        domain: domain.to_owned(),
        gateway,
        dns: dns.unwrap_or_else(|| if dhcp { vec![GATEWAY.to_owned()] } else { Vec::new() }),
        nics,
    })
}

/// The guest's part of a power-on: cloud-init reads its data, DHCP gives addresses.
pub fn boot(world: &mut World, vm: &mut Vm) {
    let before = vm.applied.take();
    // cloud-init looks for a seed in the drives before it asks the host.
    let document = seed::files(world, vm).map(|files| metadata::of_seed(&files)).or_else(|| metadata::read(vm));
    vm.applied = document.map(|document| document.apply(vm, before.as_ref()));
    metadata::redact(vm);
    let taken: HashSet<String> =
        world.vms.values().filter(|other| other.id != vm.id).flat_map(|other| other.leases.values().cloned()).collect();
    let macs: Vec<String> = vm.nics().filter_map(|nic| nic.text("macAddress")).map(str::to_owned).collect();
    vm.leases.retain(|mac, _| macs.contains(mac));
    for mac in macs {
        if !vm.leases.contains_key(&mac) {
            let lease = lease(world, &taken, vm);
            vm.leases.insert(mac, lease);
        }
    }
}

/// The next free address of 10.0.1.100 to 10.0.1.250, then of 10.0.16.0/20.
fn lease(world: &mut World, taken: &HashSet<String>, vm: &Vm) -> String {
    const NEAR: u32 = 151;
    const FAR: u32 = 4000;
    for _ in 0..NEAR + FAR {
        let number = world.file.next_lease % (NEAR + FAR);
        world.file.next_lease = number + 1;
        let address = match number {
            near if near < NEAR => u32::from(Ipv4Addr::new(10, 0, 1, 100)) + near,
            far => u32::from(Ipv4Addr::new(10, 0, 16, 1)) + (far - NEAR),
        };
        let address = Ipv4Addr::from(address).to_string();
        if !taken.contains(&address) && !vm.leases.values().any(|own| *own == address) {
            return address;
        }
    }
    "169.254.1.1".to_owned()
}

/// Wakes waiting clients when the guest's boot is over.
pub fn watch(host: &Arc<Host>, object: Ref) {
    let host = Arc::clone(host);
    tokio::spawn(async move {
        // A little longer than the boot: what is derived from the clock must have happened.
        tokio::time::sleep(host.options.boot_delay + Duration::from_millis(2)).await;
        let mut world = host.world();
        world.touch(&object);
        host.announce(world.tick());
    });
}

/// Machines that were booting when the last process ended go on booting in this one.
pub fn resume(host: &Arc<Host>) {
    let now = OffsetDateTime::now_utc();
    let world = host.world();
    let booting = |vm: &&Vm| vm.power == Power::On && vm.powered_on.is_some_and(|since| now - since < world.boot_delay);
    world.vms.values().filter(booting).for_each(|vm| watch(host, vm.reference()));
}
