//! The host's tree: how every object is reached from the root folder, and where new machines go.
//!
//! On a standalone host the tree is `ha-folder-root` → `ha-datacenter` → its folders. Folders in folders exist on a vCenter only; the
//! steps here go through them all the same. Specification: vSphere Web Services API, `Folder`, `Datacenter`, `ComputeResource`.

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
}

impl Link {
    /// A query over all objects of some kinds, from the root folder.
    pub(super) fn everything(&self, reach: &[Reach], properties: Vec<(&'static str, Vec<&'static str>)>) -> Query {
        let mut steps = vec![FOLDERS];
        for reach in reach {
            match reach {
                Reach::Vms => steps.push(VM_FOLDER),
                Reach::Hosts => steps.extend([HOST_FOLDER, TO_HOST]),
                Reach::Datastores => steps.push(TO_DATASTORE),
                Reach::Networks => steps.push(TO_NETWORK),
            }
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
        Query { properties, from: vec![From { object: self.contract().content.root_folder(), skip: true, steps }] }
    }
}

/// Where new machines go. Read once for a client: these never change on a standalone host.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub datacenter: MoRef,
    pub vm_folder: MoRef,
    pub resource_pool: MoRef,
}

impl Host {
    pub(super) async fn places(&self) -> Result<&Places, Error> {
        self.places.get_or_try_init(|| read_places(&self.link)).await
    }
}

async fn read_places(link: &Link) -> Result<Places, Error> {
    let query = link
        .everything(&[Reach::Hosts], vec![("Datacenter", vec!["vmFolder"]), ("ComputeResource", vec!["resourcePool"])]);
    let objects = link.retrieve(&query).await?;
    let bad =
        |what: &str| Error::BadAnswer { host: link.host().to_owned(), reason: format!("an inventory without {what}") };
    let datacenters: Vec<_> = objects.iter().filter(|object| object.moref.kind == "Datacenter").collect();
    let [datacenter] = datacenters.as_slice() else {
        let reason = format!("host {} has {} datacenters: it is a vCenter", link.host(), datacenters.len());
        let hint = Some("name a standalone host: a vCenter's datacenters are not told apart".to_owned());
        return Err(if datacenters.is_empty() { bad("a datacenter") } else { Error::Invalid { reason, hint } });
    };
    let vm_folder = datacenter.reference("vmFolder").ok_or_else(|| bad("a folder of machines"))?;
    let resource_pool = objects.iter().find_map(|object| object.reference("resourcePool"));
    let resource_pool = resource_pool.ok_or_else(|| bad("a resource pool"))?;
    Ok(Places { datacenter: datacenter.moref.clone(), vm_folder, resource_pool })
}
