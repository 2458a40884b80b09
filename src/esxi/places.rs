//! The inventory's tree: how every object is reached from its top, and where new machines go.
//!
//! On a standalone host the tree is `ha-folder-root` → `ha-datacenter` → its folders; on a vCenter it begins at the one datacenter that
//! the connection is about. Folders in folders, clusters and vApps exist on a vCenter only.
//! Specification: vSphere Web Services API, `Folder`, `Datacenter`, `ComputeResource`, `ResourcePool`, `VirtualApp`.

use super::error::Error;
use super::host::Host;
use super::link::Link;
use super::moref::MoRef;
use super::property::{From, Query, Traversal};

const FOLDERS: Traversal = Traversal {
    name: "inFolder",
    kind: "Folder",
    path: "childEntity",
    then: &["inFolder", "vmFolder", "hostFolder", "toHost", "toDatastore", "toNetwork"],
};
const VM_FOLDER: Traversal = Traversal { name: "vmFolder", kind: "Datacenter", path: "vmFolder", then: &["inFolder"] };
const HOST_FOLDER: Traversal =
    Traversal { name: "hostFolder", kind: "Datacenter", path: "hostFolder", then: &["inFolder"] };
const IN_VAPP: Traversal = Traversal { name: "inVApp", kind: "VirtualApp", path: "vm", then: &[] };
const VAPPS_IN: Traversal =
    Traversal { name: "vAppsIn", kind: "VirtualApp", path: "resourcePool", then: &["inVApp", "vAppsIn"] };
const TO_POOL: Traversal =
    Traversal { name: "toPool", kind: "ComputeResource", path: "resourcePool", then: &["inPool"] };
const IN_POOL: Traversal = Traversal { name: "inPool", kind: "ResourcePool", path: "resourcePool", then: &["inPool"] };
const TO_HOST: Traversal = Traversal { name: "toHost", kind: "ComputeResource", path: "host", then: &[] };
const TO_DATASTORE: Traversal = Traversal { name: "toDatastore", kind: "Datacenter", path: "datastore", then: &[] };
const TO_NETWORK: Traversal = Traversal { name: "toNetwork", kind: "Datacenter", path: "network", then: &[] };

/// What a query over the whole tree may reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach {
    Vms,
    Hosts,
    Datastores,
    Networks,
    /// The resource pools of all hosts and clusters.
    Pools,
}

impl Link {
    /// A query over all objects of some kinds, from the top.
    pub(super) fn everything(&self, reach: &[Reach], properties: Vec<(&'static str, Vec<&'static str>)>) -> Query {
        let mut steps = vec![FOLDERS];
        for reach in reach {
            match reach {
                Reach::Vms => steps.push(VM_FOLDER),
                Reach::Hosts => steps.extend([HOST_FOLDER, TO_HOST]),
                Reach::Datastores => steps.push(TO_DATASTORE),
                Reach::Networks => steps.push(TO_NETWORK),
                Reach::Pools => steps.extend([TO_POOL, IN_POOL]),
            }
        }
        let content = &self.contract().content;
        let from = |steps| vec![From { object: content.top(), skip: true, steps }];
        if content.is_vcenter() {
            return Query { properties, from: from(in_datacenter(steps)) };
        }
        // A step may only name steps that are there.
        if let Some(folders) = steps.first_mut() {
            folders.then = match reach {
                [Reach::Vms] => &["inFolder", "vmFolder"],
                [Reach::Hosts] => &["inFolder", "hostFolder", "toHost"],
                [Reach::Datastores] => &["inFolder", "toDatastore"],
                [Reach::Networks] => &["inFolder", "toNetwork"],
                [Reach::Vms, Reach::Networks] => &["inFolder", "vmFolder", "toNetwork"],
                [Reach::Vms, Reach::Datastores] => &["inFolder", "vmFolder", "toDatastore"],
                [Reach::Hosts, Reach::Datastores] => &["inFolder", "hostFolder", "toHost", "toDatastore"],
                _ => &["inFolder", "vmFolder", "hostFolder", "toHost", "toDatastore", "toNetwork"],
            };
        }
        Query { properties, from: from(steps) }
    }
}

/// The steps as they go on inside of one datacenter: from a folder there is no way to another.
fn in_datacenter(mut steps: Vec<Traversal>) -> Vec<Traversal> {
    let has = |name: &str| steps.iter().any(|step| step.name == name);
    let (vms, hosts, pools) = (has("vmFolder"), has("toHost"), has("toPool"));
    let then: &[&str] = match (vms, hosts, pools) {
        (true, true, _) => &["inFolder", "inVApp", "vAppsIn", "toHost"],
        (true, false, _) => &["inFolder", "inVApp", "vAppsIn"],
        (false, true, true) => &["inFolder", "toHost", "toPool"],
        (false, true, false) => &["inFolder", "toHost"],
        (false, false, _) => &["inFolder"],
    };
    if vms {
        steps.extend([IN_VAPP, VAPPS_IN]);
    }
    for step in steps.iter_mut().filter(|step| step.name == "inFolder") {
        step.then = then;
    }
    steps
}

/// Where new machines go.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub vm_folder: MoRef,
    pub resource_pool: MoRef,
    /// The very host, where one was named.
    pub host: Option<MoRef>,
}

/// The parts of a standalone host. Read once for a client: these never change.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    datacenter: MoRef,
    places: Places,
}

/// Where a machine is to go on a vCenter; a host has one place alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The folder of machines, such as `prod/web`. Default: the datacenter's own.
    pub folder: Option<String>,
    /// The cluster or host that runs it, such as `C1`; one host or resource pool of it, such as `C1/esx1`. Default: the only one there is.
    pub place: Option<String>,
}

impl Host {
    /// The datacenter that everything lies in.
    pub(super) async fn datacenter(&self) -> Result<MoRef, Error> {
        match self.is_vcenter() {
            true => Ok(self.link.contract().content.top()),
            false => Ok(self.parts().await?.datacenter.clone()),
        }
    }

    /// Where a new machine goes. Errors: `esxi.needs_vcenter` where a host is told a place, `esxi.place` where a vCenter is not told
    /// which of several.
    pub(super) async fn places(&self, at: &Placement) -> Result<Places, Error> {
        if self.is_vcenter() {
            return self.places_at(at).await;
        }
        let given = at.folder.as_ref().map(|folder| format!("the folder {folder:?}"));
        match given.or_else(|| at.place.as_ref().map(|place| format!("the place {place:?}"))) {
            Some(what) => Err(Error::needs_vcenter(self.name(), what)),
            None => Ok(self.parts().await?.places.clone()),
        }
    }

    async fn parts(&self) -> Result<&Parts, Error> {
        self.parts.get_or_try_init(|| read_parts(&self.link)).await
    }
}

async fn read_parts(link: &Link) -> Result<Parts, Error> {
    let query = link
        .everything(&[Reach::Hosts], vec![("Datacenter", vec!["vmFolder"]), ("ComputeResource", vec!["resourcePool"])]);
    let objects = link.retrieve(&query).await?;
    let bad =
        |what: &str| Error::BadAnswer { host: link.host().to_owned(), reason: format!("an inventory without {what}") };
    let mut datacenters = objects.iter().filter(|object| object.moref.kind == "Datacenter");
    let datacenter = datacenters.next().ok_or_else(|| bad("a datacenter"))?;
    if datacenters.next().is_some() {
        return Err(bad("a single datacenter"));
    }
    let vm_folder = datacenter.reference("vmFolder").ok_or_else(|| bad("a folder of machines"))?;
    let resource_pool = objects.iter().find_map(|object| object.reference("resourcePool"));
    let resource_pool = resource_pool.ok_or_else(|| bad("a resource pool"))?;
    Ok(Parts { datacenter: datacenter.moref.clone(), places: Places { vm_folder, resource_pool, host: None } })
}
