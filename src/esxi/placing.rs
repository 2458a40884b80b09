//! The places of a vCenter's datacenter: its folders of machines, its hosts and clusters with their resource pools.
//!
//! A place is named by its path: `prod/web` for a folder, `C1`, `C1/esx1` or `C1/POOL` for what runs machines. Nothing is chosen where
//! there is a choice: only the one place there is goes without a name.
//! Specification: vSphere Web Services API, `ComputeResource`, `ClusterComputeResource`, `HostSystem`, `ResourcePool`, `Folder`.

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::HostObject;
use super::places::{Placement, Places, Reach};
use super::property::{Object, Query};
use super::tree::{IN_TREE, Tree};

/// A place of a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceRow {
    /// `folder`, `cluster`, `host` or `pool`.
    pub kind: &'static str,
    pub path: String,
}

/// A host of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemRow {
    pub name: String,
    /// The cluster that it is in; `None` for one by itself.
    pub cluster: Option<String>,
    /// `connected`, `disconnected` or `notResponding`.
    pub connection: String,
    pub maintenance: bool,
    /// Such as `VMware ESXi 8.0.3 build-24022510`.
    pub product: Option<String>,
    pub cpu_cores: Option<u32>,
    pub memory: Option<crate::units::Bytes>,
    /// The machines on it.
    pub vms: usize,
}

/// What runs machines: all of it, one of its hosts, or one of its resource pools.
struct Compute {
    kind: &'static str,
    path: String,
    pool: MoRef,
    host: Option<MoRef>,
}

/// Deeper than resource pools are nested.
const DEEPEST: usize = 16;

impl Host {
    /// Every place of the datacenter, folders first. Errors: `esxi.needs_vcenter`.
    pub async fn list_places(&self, _host: &Checked<HostObject>) -> Result<Vec<PlaceRow>, Error> {
        self.check_vcenter("a list of folders and clusters")?;
        let (_, folders) = self.vm_folders().await?;
        let folders = folders.into_iter().filter(|(path, _)| !path.is_empty());
        let mut rows: Vec<PlaceRow> = folders.map(|(path, _)| PlaceRow { kind: "folder", path }).collect();
        rows.sort();
        let mut computes = self.computes().await?;
        computes.sort_by(|a, b| a.path.cmp(&b.path));
        rows.extend(computes.into_iter().map(|compute| PlaceRow { kind: compute.kind, path: compute.path }));
        Ok(rows)
    }

    /// Every host of the inventory; a standalone host is its own only one.
    pub async fn list_systems(&self, _host: &Checked<HostObject>) -> Result<Vec<SystemRow>, Error> {
        const PATHS: &[&str] = &[
            "name",
            "parent",
            "runtime.connectionState",
            "runtime.inMaintenanceMode",
            "config.product.fullName",
            "summary.hardware.numCpuCores",
            "summary.hardware.memorySize",
            "vm",
        ];
        let properties = vec![("HostSystem", PATHS.to_vec()), ("ClusterComputeResource", vec!["name"])];
        let objects = self.link.retrieve(&self.link.everything(&[Reach::Hosts], properties)).await?;
        let hosts = objects.iter().filter(|object| object.moref.kind == "HostSystem");
        let mut rows: Vec<SystemRow> = hosts
            .map(|object| SystemRow {
                name: unescape(&object.string("name")),
                cluster: cluster_of(object, &objects),
                connection: object.string("runtime.connectionState"),
                maintenance: object.flag("runtime.inMaintenanceMode").unwrap_or(false),
                product: object.text("config.product.fullName").map(str::to_owned),
                cpu_cores: object.number("summary.hardware.numCpuCores"),
                memory: object.number("summary.hardware.memorySize").map(crate::units::Bytes),
                vms: object.references("vm").len(),
            })
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// Where a new machine goes on a vCenter. Errors: `esxi.place`.
    pub(super) async fn places_at(&self, at: &Placement) -> Result<Places, Error> {
        let vm_folder = self.vm_folder_at(at).await?;
        let (resource_pool, host) = self.compute_at(at).await?;
        Ok(Places { vm_folder, resource_pool, host })
    }

    /// The folder that is meant, or the datacenter's own. Errors: `esxi.place`.
    pub(super) async fn vm_folder_at(&self, at: &Placement) -> Result<MoRef, Error> {
        let (top, folders) = self.vm_folders().await?;
        let wanted = match at.folder.as_deref().map(|folder| folder.trim_matches('/')) {
            None | Some("") => return Ok(top),
            Some(wanted) => wanted,
        };
        let mut fitting = folders.iter().filter(|(path, _)| path == wanted);
        match (fitting.next(), fitting.next()) {
            (Some((_, one)), None) => Ok(one.clone()),
            (first, _) => {
                let found = if first.is_none() { "there is no folder" } else { "several folders are named" };
                let reason = format!("{found} {wanted:?} on {}", self.name());
                let mut among: Vec<String> =
                    folders.into_iter().map(|(path, _)| path).filter(|path| !path.is_empty()).collect();
                among.sort();
                Err(Error::Place { reason, among })
            }
        }
    }

    /// The resource pool that is meant, or the only one there is, with the host where one is meant. Errors: `esxi.place`.
    pub(super) async fn compute_at(&self, at: &Placement) -> Result<(MoRef, Option<MoRef>), Error> {
        let computes = self.computes().await?;
        let whole = || computes.iter().filter(|compute| !compute.path.contains('/'));
        let wanted = at.place.as_deref().map(|place| place.trim_matches('/'));
        let fitting: Vec<&Compute> = match wanted {
            None => whole().collect(),
            Some(wanted) => computes.iter().filter(|compute| compute.path == wanted).collect(),
        };
        if let [one] = fitting.as_slice() {
            return Ok((one.pool.clone(), one.host.clone()));
        }
        let reason = match wanted {
            None => format!("{} has {} clusters and hosts that a machine may go to", self.name(), fitting.len()),
            Some(wanted) if fitting.is_empty() => {
                format!("there is no cluster, host or resource pool {wanted:?} on {}", self.name())
            }
            Some(wanted) => format!("several places on {} are named {wanted:?}", self.name()),
        };
        let first = wanted.and_then(|wanted| wanted.split('/').next());
        let below = |path: &str| path.split('/').next() == first;
        let mut among: Vec<String> = match computes.iter().any(|compute| below(&compute.path)) {
            true => computes.iter().map(|compute| compute.path.clone()).filter(|path| below(path)).collect(),
            false => whole().map(|compute| compute.path.clone()).collect(),
        };
        among.sort();
        Err(Error::Place { reason, among })
    }

    /// The hosts that one could connect to, for an error that says so.
    pub(super) async fn needs_host(&self) -> Error {
        let query = self.link.everything(&[Reach::Hosts], vec![("HostSystem", vec!["name"])]);
        match self.link.retrieve(&query).await {
            Ok(objects) => {
                let mut hosts: Vec<String> = objects.iter().map(|object| unescape(&object.string("name"))).collect();
                hosts.sort();
                Error::NeedsHost { host: self.name().to_owned(), hosts }
            }
            Err(error) => error,
        }
    }

    /// The datacenter's own folder of machines, and every one in it by its path.
    async fn vm_folders(&self) -> Result<(MoRef, Vec<(String, MoRef)>), Error> {
        let properties = vec![("Datacenter", vec!["vmFolder"]), ("Folder", IN_TREE.to_vec())];
        let mut query = self.link.everything(&[Reach::Vms], properties);
        for from in &mut query.from {
            from.skip = false;
        }
        let objects = self.link.retrieve(&query).await?;
        let top = objects.iter().find_map(|object| object.reference("vmFolder"));
        let top = top.ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "a datacenter without a folder of machines".to_owned(),
        })?;
        let tree = Tree::of(&objects);
        let folders = objects.iter().filter(|object| object.moref.kind == "Folder");
        let folders = folders.filter_map(|object| Some((tree.vm_folder(Some(&object.moref))?, object.moref.clone())));
        Ok((top, folders.collect()))
    }

    /// Everything that runs machines.
    async fn computes(&self) -> Result<Vec<Compute>, Error> {
        let properties = vec![
            ("ComputeResource", vec!["name", "resourcePool"]),
            ("HostSystem", IN_TREE.to_vec()),
            ("ResourcePool", IN_TREE.to_vec()),
        ];
        let query = self.link.everything(&[Reach::Hosts, Reach::Pools], properties);
        let objects = self.link.retrieve(&query).await?;
        let mut found = Vec::new();
        for owner in objects.iter().filter(|object| object.moref.kind.ends_with("ComputeResource")) {
            let Some(root) = owner.reference("resourcePool") else { continue };
            let name = unescape(&owner.string("name"));
            let is_cluster = owner.moref.kind == "ClusterComputeResource";
            let kind = if is_cluster { "cluster" } else { "host" };
            let mut own = objects.iter().filter(|object| {
                object.moref.kind == "HostSystem" && object.reference("parent").as_ref() == Some(&owner.moref)
            });
            // In a cluster the vCenter chooses a host; one by itself is the only choice.
            let host = if is_cluster { None } else { own.next().map(|host| host.moref.clone()) };
            found.push(Compute { kind, path: name.clone(), pool: root.clone(), host: host.clone() });
            let hosts = own.filter(|_| is_cluster);
            found.extend(hosts.map(|one| Compute {
                kind: "host",
                path: format!("{name}/{}", unescape(&one.string("name"))),
                pool: root.clone(),
                host: Some(one.moref.clone()),
            }));
            pools_in(&objects, (&root, host.as_ref()), &name, DEEPEST, &mut found);
        }
        Ok(found)
    }

    /// The host that a machine is on, and that one's cluster.
    pub(super) async fn runs_on(&self, system: &MoRef) -> Result<(Option<String>, Option<String>), Error> {
        let mut query = Query::object(system, "HostSystem", IN_TREE);
        query.properties.push(("ClusterComputeResource", vec!["name"]));
        for from in &mut query.from {
            let step = super::property::Traversal { name: "over", kind: "HostSystem", path: "parent", then: &[] };
            from.steps.push(step);
        }
        let objects = self.link.retrieve(&query).await?;
        Ok(host_and_cluster(&objects, Some(system)))
    }
}

/// The names of a host and of its cluster, out of objects that hold both.
pub(super) fn host_and_cluster(objects: &[Object], system: Option<&MoRef>) -> (Option<String>, Option<String>) {
    let system = system.and_then(|system| objects.iter().find(|object| object.moref == *system));
    let name = system.map(|system| unescape(&system.string("name")));
    (name.filter(|name| !name.is_empty()), system.and_then(|system| cluster_of(system, objects)))
}

fn cluster_of(system: &Object, objects: &[Object]) -> Option<String> {
    let parent = system.reference("parent").filter(|parent| parent.kind == "ClusterComputeResource")?;
    let cluster = objects.iter().find(|object| object.moref == parent)?;
    Some(unescape(&cluster.string("name")))
}

/// The resource pools below one, by their paths.
fn pools_in(objects: &[Object], over: (&MoRef, Option<&MoRef>), path: &str, depth: usize, found: &mut Vec<Compute>) {
    let (over, host) = over;
    if depth == 0 {
        return;
    }
    let below = objects
        .iter()
        .filter(|object| object.moref.kind == "ResourcePool" && object.reference("parent").as_ref() == Some(over));
    for pool in below {
        let path = format!("{path}/{}", unescape(&pool.string("name")));
        found.push(Compute { kind: "pool", path: path.clone(), pool: pool.moref.clone(), host: host.cloned() });
        pools_in(objects, (&pool.moref, host), &path, depth - 1, found);
    }
}
