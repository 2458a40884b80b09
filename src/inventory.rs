//! A host's inventory as a file: what it is, its datastores, networks and machines, without their contents and without secrets.
//!
//! One program writes it from a real host, the simulator reads it. JSON, with VMware's own words. Extra configuration (`guestinfo`, keys and
//! passwords may be in it) and annotations' known secrets are not in it. Whoever reads it distrusts it: [`Inventory::read`] takes nothing that
//! contradicts itself. It knows neither hosts nor the simulator.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::Fault;

/// The form of the file.
pub const FORMAT: &str = "ceso-inventory-1";
/// The most that is read, in bytes, and the most machines and other objects of a kind.
pub const LARGEST: u64 = 256 << 20;
const MOST_MACHINES: usize = 20_000;
const MOST: usize = 1_000;
/// The most devices of a machine of a kind, and snapshots.
const MOST_DEVICES: usize = 260;
/// The most disks that one builds on: as deep as a machine's record may be.
const MOST_PARENTS: usize = 28;
/// The largest disk, datastore, and memory: larger than any host takes.
const LARGEST_DISK: u64 = 62 << 40;
const LARGEST_STORE: u64 = 1 << 60;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    pub format: String,
    /// When it was saved, in UTC (RFC 3339).
    pub saved: String,
    /// What was left out on purpose.
    pub left_out: String,
    pub host: HostFacts,
    pub datastores: Vec<Datastore>,
    pub networks: Vec<Network>,
    pub machines: Vec<Machine>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFacts {
    pub product: String,
    pub version: String,
    pub build: String,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub cpu_model: Option<String>,
    pub cpu_cores: Option<u32>,
    pub cpu_threads: Option<u32>,
    /// In bytes, as all sizes here.
    pub memory: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datastore {
    pub name: String,
    /// `VMFS`, `NFS`, ….
    #[serde(rename = "type")]
    pub kind: String,
    pub capacity: u64,
    pub free: u64,
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub name: String,
    /// The VLAN of its port group; 0 for none.
    pub vlan: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub name: String,
    pub instance_uuid: String,
    /// `on`, `off` or `suspended`.
    pub power: String,
    pub cpus: u32,
    pub cores_per_socket: u32,
    pub memory: u64,
    pub guest_id: String,
    /// `bios` or `efi`.
    pub firmware: String,
    /// Such as `vmx-19`.
    pub hardware_version: String,
    pub notes: String,
    /// Its configuration file, such as `[datastore1] web-1/web-1.vmx`.
    pub path: String,
    /// What it takes up on its datastores.
    pub committed: u64,
    pub controllers: Vec<Controller>,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    pub snapshots: Vec<Snapshot>,
    pub guest: Option<Guest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    pub key: i32,
    /// `pvscsi`, `lsilogic`, `lsilogic-sas`, `buslogic`, `sata`, `nvme`, `ide`.
    #[serde(rename = "type")]
    pub kind: String,
    pub bus: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub key: i32,
    pub size: u64,
    pub thin: bool,
    /// Its descriptor, such as `[datastore1] web-1/web-1.vmdk`.
    pub file: String,
    /// What it builds on, down to its base: of a snapshot, or of a linked clone's parent.
    pub parents: Vec<String>,
    pub controller: i32,
    pub unit: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// `vmxnet3`, `e1000e`, `e1000`, `pcnet32`, `vmxnet2`.
    #[serde(rename = "type")]
    pub kind: String,
    pub mac: Option<String>,
    pub network: Option<String>,
    pub start_connected: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub id: u32,
    pub name: String,
    pub description: String,
    /// RFC 3339.
    pub created: String,
    pub parent: Option<u32>,
    pub current: bool,
}

/// What the tools of a running guest reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    pub hostname: Option<String>,
    pub addresses: Vec<String>,
}

/// The datastore of a path such as `[datastore1] web-1/web-1.vmx`.
pub fn datastore_of(path: &str) -> Option<&str> {
    let (name, rest) = path.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim();
    let outside =
        rest.is_empty() || rest.starts_with('/') || rest.split('/').any(|part| matches!(part, "" | "." | ".."));
    (!name.is_empty() && !outside).then_some(name)
}

impl Inventory {
    /// Reads a file's content. Faults: `sim.inventory`, with what in it cannot be.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let wrong = |what: String| {
            Fault::new("sim.inventory", format!("the inventory cannot be loaded: {what}"))
                .hint("save it anew: ceso host inventory save FILE")
        };
        if bytes.len() as u64 > LARGEST {
            return Err(wrong(format!("it is larger than {} MiB", LARGEST >> 20)));
        }
        let own: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        own.check().map_err(wrong)?;
        Ok(own)
    }

    /// The same without its machines.
    pub fn clone_without_machines(&self) -> Self {
        Self {
            format: self.format.clone(),
            host: self.host.clone(),
            datastores: self.datastores.clone(),
            networks: self.networks.clone(),
            ..Self::default()
        }
    }

    /// Whether it contradicts itself, and how.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("its format is {:?}, and {FORMAT} is read", short(&self.format)));
        }
        for (what, count, most) in [
            ("machines", self.machines.len(), MOST_MACHINES),
            ("datastores", self.datastores.len(), MOST),
            ("networks", self.networks.len(), MOST),
        ] {
            if count > most {
                return Err(format!("it has {count} {what}, and {most} are taken"));
            }
        }
        unique("datastore", self.datastores.iter().map(|store| store.name.as_str()))?;
        unique("network", self.networks.iter().map(|network| network.name.as_str()))?;
        for store in &self.datastores {
            if store.capacity > LARGEST_STORE || store.free > store.capacity {
                return Err(format!(
                    "the datastore {:?} has {} of {} bytes free",
                    store.name, store.free, store.capacity
                ));
            }
        }
        if let Some(network) = self.networks.iter().find(|network| network.vlan > 4095) {
            return Err(format!("the network {:?} has the VLAN {}", network.name, network.vlan));
        }
        let mut uuids = BTreeSet::new();
        for machine in &self.machines {
            self.check_machine(machine).map_err(|why| format!("the machine {:?}: {why}", short(&machine.name)))?;
            if !uuids.insert(machine.instance_uuid.to_ascii_lowercase()) {
                return Err(format!("two machines have the instance UUID {}", machine.instance_uuid));
            }
        }
        Ok(())
    }

    fn check_machine(&self, own: &Machine) -> Result<(), String> {
        plain(&own.name, 80)?;
        if uuid::Uuid::parse_str(&own.instance_uuid).is_err() {
            return Err(format!("{:?} is no UUID", short(&own.instance_uuid)));
        }
        if !matches!(own.power.as_str(), "on" | "off" | "suspended") {
            return Err(format!("its power state is {:?}", short(&own.power)));
        }
        if !(1..=768).contains(&own.cpus) || own.cores_per_socket > own.cpus || own.memory > 24 << 40 {
            return Err(format!(
                "{} processors, {} a socket, {} bytes of memory",
                own.cpus, own.cores_per_socket, own.memory
            ));
        }
        let lists = [own.controllers.len(), own.disks.len(), own.nics.len(), own.snapshots.len()];
        if lists.iter().any(|count| *count > MOST_DEVICES) {
            return Err("it has more devices or snapshots than any machine".to_owned());
        }
        for text in [&own.guest_id, &own.firmware, &own.hardware_version] {
            plain(text, 80)?;
        }
        if own.notes.len() > 64 << 10 || own.committed > LARGEST_STORE {
            return Err("its notes or its size are larger than any".to_owned());
        }
        self.check_path(&own.path)?;
        let mut keys = BTreeSet::new();
        for controller in &own.controllers {
            if !keys.insert(controller.key) || !(0..32).contains(&controller.bus) {
                return Err(format!("the controller {} is there twice, or on no bus", controller.key));
            }
        }
        for disk in &own.disks {
            if disk.parents.len() > MOST_PARENTS {
                return Err("a disk builds on more others than any".to_owned());
            }
            disk.parents.iter().chain([&disk.file]).try_for_each(|path| self.check_path(path))?;
            if !keys.insert(disk.key) {
                return Err(format!("the device {} is there twice", disk.key));
            }
            if disk.size > LARGEST_DISK {
                return Err(format!("a disk of {} bytes", disk.size));
            }
            if own.controllers.iter().all(|controller| controller.key != disk.controller) {
                return Err(format!("a disk hangs on the controller {}, which is not there", disk.controller));
            }
        }
        for nic in &own.nics {
            if let Some(network) =
                nic.network.as_ref().filter(|name| self.networks.iter().all(|own| own.name != **name))
            {
                return Err(format!("a card is on the network {:?}, which is not there", short(network)));
            }
            if let Some(mac) = &nic.mac {
                plain(mac, 17)?;
            }
        }
        let mut seen = BTreeSet::new();
        for snapshot in &own.snapshots {
            // Parents come before children, so there is no circle.
            if snapshot.parent.is_some_and(|parent| !seen.contains(&parent)) || !seen.insert(snapshot.id) {
                return Err(format!(
                    "the snapshot {} is there twice, or its parent is not there before it",
                    snapshot.id
                ));
            }
            if snapshot.name.len() > 1000 || snapshot.description.len() > 64 << 10 {
                return Err("a snapshot's name or description is longer than any".to_owned());
            }
        }
        if own.snapshots.iter().filter(|snapshot| snapshot.current).count() > 1 {
            return Err("it has more than one current snapshot".to_owned());
        }
        let mut guest = own.guest.iter().flat_map(|guest| guest.hostname.iter().chain(&guest.addresses));
        guest.try_for_each(|text| plain(text, 255))
    }

    fn check_path(&self, path: &str) -> Result<(), String> {
        let name = datastore_of(path).filter(|_| path.len() <= 1024 && !path.chars().any(char::is_control));
        let name = name.ok_or_else(|| format!("{:?} is no datastore path", short(path)))?;
        match self.datastores.iter().any(|store| store.name == name) {
            true => Ok(()),
            false => Err(format!("{:?} is on a datastore that is not there", short(path))),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn plain(text: &str, most: usize) -> Result<(), String> {
    match text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        true => Err(format!("{:?} is empty, too long, or holds a control character", short(text))),
        false => Ok(()),
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        plain(name, 80)?;
        if name.contains(['[', ']', '/']) || !seen.insert(name) {
            return Err(format!("the {what} {:?} is there twice, or is no name", short(name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "format": FORMAT, "saved": "2026-01-01T00:00:00Z", "left_out": "", "host": {
                "product": "VMware ESXi 8.0.3 build-1", "version": "8.0.3", "build": "1", "vendor": null, "model": null,
                "cpu_model": null, "cpu_cores": 4, "cpu_threads": 8, "memory": 1 << 30 },
            "datastores": [{ "name": "ssd", "type": "VMFS", "capacity": 100, "free": 40, "writable": true }],
            "networks": [{ "name": "VM Network", "vlan": 0 }],
            "machines": [{
                "name": "web-1", "instance_uuid": "52000000-0000-4000-8000-000000000001", "power": "on", "cpus": 2,
                "cores_per_socket": 1, "memory": 1 << 30, "guest_id": "debian12_64Guest", "firmware": "efi",
                "hardware_version": "vmx-19", "notes": "", "path": "[ssd] web-1/web-1.vmx", "committed": 10,
                "controllers": [{ "key": 1000, "type": "pvscsi", "bus": 0 }],
                "disks": [{ "key": 2000, "size": 1 << 30, "thin": true, "file": "[ssd] web-1/web-1.vmdk", "parents": [], "controller": 1000, "unit": 0 }],
                "nics": [{ "type": "vmxnet3", "mac": "00:0c:29:00:00:09", "network": "VM Network", "start_connected": true }],
                "snapshots": [{ "id": 1, "name": "a", "description": "", "created": "2026-01-01T00:00:00Z", "parent": null, "current": true }],
                "guest": { "hostname": "web-1", "addresses": ["10.0.0.5"] }
            }],
        })
    }

    fn read(value: &Value) -> Result<Inventory, Fault> {
        Inventory::read(value.to_string().as_bytes())
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_reason() {
        read(&good()).unwrap();
        let text = good().to_string();
        assert!(Inventory::read(&text.as_bytes()[..text.len() / 2]).is_err(), "cut");
        assert!(Inventory::read("[".repeat(100_000).as_bytes()).is_err(), "deep");
        let twice = |list: &str| {
            let mut value = good();
            let first = value[list][0].clone();
            value[list].as_array_mut().unwrap().push(first);
            value
        };
        for list in ["datastores", "networks", "machines"] {
            assert!(read(&twice(list)).is_err(), "{list} twice");
        }
        for (path, wrong, says) in [
            ("/format", json!("ceso-inventory-2"), "format"),
            ("/datastores/0/free", json!(101), "free"),
            ("/datastores/0/capacity", json!(-1), "invalid value"),
            ("/datastores/0/name", json!("other"), "not there"),
            ("/networks/0/name", json!("other"), "not there"),
            ("/machines/0/path", json!("[ssd] ../web.vmx"), "no datastore path"),
            ("/machines/0/path", json!("/etc/passwd"), "no datastore path"),
            ("/machines/0/name", json!("a\u{7}"), "control"),
            ("/machines/0/cpus", json!(0), "processors"),
            ("/machines/0/memory", json!(u64::MAX), "memory"),
            ("/machines/0/power", json!("burning"), "power"),
            ("/machines/0/instance_uuid", json!("x"), "UUID"),
            ("/machines/0/disks/0/size", json!(u64::MAX), "bytes"),
            ("/machines/0/disks/0/controller", json!(7), "not there"),
            ("/machines/0/disks/0/parents", json!(["[other] a/a.vmdk"]), "not there"),
            ("/machines/0/disks/0/parents", json!(vec!["[ssd] a/a.vmdk"; 1000]), "more others"),
            ("/machines/0/disks/0/key", json!(1000), "twice"),
            ("/machines/0/snapshots/0/parent", json!(9), "parent"),
            ("/machines/0/snapshots/0/parent", json!(1), "parent"),
            ("/machines/0/guestinfo", json!("secret"), "unknown field"),
        ] {
            let mut value = good();
            match value.pointer_mut(path) {
                Some(own) => *own = wrong,
                None => drop(value["machines"][0].as_object_mut().unwrap().insert("guestinfo".to_owned(), wrong)),
            }
            let fault = read(&value).unwrap_err();
            assert!(fault.message().contains(says), "{path}: {fault}");
        }
    }
}
