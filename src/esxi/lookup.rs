//! Names to objects: the door's alone.
//!
//! Every function here is on clippy's list of disallowed methods outside `door/`: what they return is not yet checked. Each is one
//! request (one for each page).

use std::collections::HashMap;

use super::error::Error;
use super::host::Host;
use super::moref::MoRef;
use super::object::{Datastore, HostObject, Network, Vm, VmPlace};
use super::places::Reach;
use super::property::{Object, Query, Traversal};
use super::tree::{IN_TREE, Tree};

pub(super) const VM_IDENTITY: &[&str] = &["name", "config.instanceUuid", "config.files.vmPathName", "datastore"];

impl Host {
    /// The host itself, without a request. The door's alone.
    pub fn lookup_host(&self) -> HostObject {
        HostObject { moref: self.link.contract().content.root_folder(), name: self.name().to_owned() }
    }

    /// The identity of every virtual machine, in one request. The door's alone.
    pub async fn lookup_vms(&self) -> Result<Vec<Vm>, Error> {
        self.machines().await
    }

    /// The identity of every virtual machine, for what is about all of them.
    async fn machines(&self) -> Result<Vec<Vm>, Error> {
        let mut properties = vec![("VirtualMachine", VM_IDENTITY.to_vec()), ("Datastore", vec!["name"])];
        if self.is_vcenter() {
            add_tree(&mut properties);
        }
        let query = self.link.everything(&[Reach::Vms, Reach::Datastores], properties);
        let objects = self.link.retrieve(&query).await?;
        let datastores = names(&objects);
        let mut vms: Vec<Vm> =
            objects.iter().filter(|object| is_vm(object)).map(|object| vm(object, &datastores)).collect();
        if self.is_vcenter() {
            tell_apart(&objects, vms.iter_mut());
        }
        Ok(vms)
    }

    /// The identity of one machine as it is now. The door's alone. Errors: `esxi.managed_object_not_found` where it is gone.
    ///
    /// On a vCenter what it is called depends on all others of the datacenter, so they are looked at too.
    pub async fn lookup_vm(&self, moref: &MoRef) -> Result<Vm, Error> {
        if !self.is_vcenter() {
            return self.identity(moref).await;
        }
        match self.machines().await?.into_iter().find(|vm| vm.moref == *moref) {
            Some(vm) => Ok(vm),
            // Gone; or in another datacenter by now, which is as good as gone.
            None => Err(match self.identity(moref).await {
                Err(error) => error,
                Ok(vm) => self.no_vm(vm.name),
            }),
        }
    }

    /// On a vCenter, everything of the datacenter by reference, with what it is called: what happens elsewhere is of other connections.
    /// `None` on a host, which is all its own.
    pub(super) async fn all_by_reference(&self) -> Result<Option<HashMap<MoRef, String>>, Error> {
        if !self.is_vcenter() {
            return Ok(None);
        }
        let reach = [Reach::Vms, Reach::Hosts, Reach::Datastores, Reach::Networks];
        let objects = self.link.retrieve(&self.link.everything(&reach, vec![("ManagedEntity", vec!["name"])])).await?;
        let names = objects.into_iter().map(|object| (object.moref.clone(), unescape(&object.string("name"))));
        let mut all: HashMap<MoRef, String> = names.collect();
        all.extend(self.machines().await?.into_iter().map(|vm| (vm.moref, vm.name)));
        Ok(Some(all))
    }

    fn no_vm(&self, name: String) -> Error {
        Error::NotFound { host: self.name().to_owned(), what: "virtual machine", name, nearest: Vec::new() }
    }

    /// The identity of a machine that is known already.
    pub(super) async fn identity(&self, moref: &MoRef) -> Result<Vm, Error> {
        let objects = self.link.retrieve(&with_datastores(moref, VM_IDENTITY.to_vec())).await?;
        let datastores = names(&objects);
        let found = objects.iter().find(|object| object.moref == *moref);
        found.map(|object| vm(object, &datastores)).ok_or_else(|| self.no_vm(moref.to_string()))
    }

    /// Every datastore of the host, in one request. The door's alone.
    pub async fn lookup_datastores(&self) -> Result<Vec<Datastore>, Error> {
        let query = self.link.everything(&[Reach::Datastores], vec![("Datastore", vec!["name"])]);
        let objects = self.link.retrieve(&query).await?;
        Ok(objects
            .iter()
            .map(|object| Datastore { moref: object.moref.clone(), name: unescape(&object.string("name")) })
            .collect())
    }

    /// Every network of the host, in one request. The door's alone.
    pub async fn lookup_networks(&self) -> Result<Vec<Network>, Error> {
        let query = self.link.everything(&[Reach::Networks], vec![("Network", vec!["name"])]);
        let objects = self.link.retrieve(&query).await?;
        Ok(objects
            .iter()
            .map(|object| Network { moref: object.moref.clone(), name: unescape(&object.string("name")) })
            .collect())
    }
}

/// Adds to a query over machines what tells their folders.
pub(super) fn add_tree(properties: &mut Vec<(&'static str, Vec<&'static str>)>) {
    for (_, paths) in properties.iter_mut().filter(|(kind, _)| *kind == "VirtualMachine") {
        paths.push("parent");
    }
    properties.push(("Folder", IN_TREE.to_vec()));
}

/// Gives the machines of a datacenter their places, and the names that tell them apart: of machines that share a name each is called by
/// its path. So is one whose own name looks like a path, or it could be taken for another.
///
/// `vms` are those of the objects, in their order, and all of the datacenter.
pub(super) fn tell_apart<'a>(objects: &[Object], vms: impl Iterator<Item = &'a mut Vm>) {
    let tree = Tree::of(objects);
    let machines = objects.iter().filter(|object| is_vm(object));
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut placed: Vec<&mut Vm> = machines
        .zip(vms)
        .map(|(object, vm)| {
            let folder = tree.vm_folder(object.reference("parent").as_ref());
            *seen.entry(vm.name.clone()).or_default() += 1;
            vm.place = Some(VmPlace { own_name: vm.name.clone(), folder });
            vm
        })
        .collect();
    for vm in &mut placed {
        let Some(VmPlace { own_name, folder }) = &vm.place else { continue };
        if own_name.starts_with('/') || seen.get(own_name).is_some_and(|count| *count > 1) {
            vm.name = match folder.as_deref() {
                Some("") => format!("/{own_name}"),
                Some(folder) => format!("/{folder}/{own_name}"),
                None => format!("/{}/{own_name}", vm.moref.id),
            };
        }
    }
}

/// A query for one machine and the names of its datastores.
pub(super) fn with_datastores(vm: &MoRef, paths: Vec<&'static str>) -> Query {
    let mut query = Query::object(vm, "VirtualMachine", &paths);
    query.properties.push(("Datastore", vec!["name"]));
    for from in &mut query.from {
        from.steps.push(Traversal { name: "vmDatastore", kind: "VirtualMachine", path: "datastore", then: &[] });
    }
    query
}

pub(super) fn is_vm(object: &Object) -> bool {
    object.moref.kind == "VirtualMachine"
}

/// The names of the datastores among the objects.
pub(super) fn names(objects: &[Object]) -> Vec<(MoRef, String)> {
    let datastores = objects.iter().filter(|object| object.moref.kind == "Datastore");
    datastores.map(|object| (object.moref.clone(), unescape(&object.string("name")))).collect()
}

/// The identity out of the properties of [`VM_IDENTITY`].
pub(super) fn vm(object: &Object, datastores: &[(MoRef, String)]) -> Vm {
    let uses = object.references("datastore");
    Vm {
        moref: object.moref.clone(),
        name: unescape(&object.string("name")),
        instance_uuid: object.string("config.instanceUuid"),
        path: object.string("config.files.vmPathName"),
        datastores: datastores.iter().filter(|(moref, _)| uses.contains(moref)).map(|(_, name)| name.clone()).collect(),
        place: None,
    }
}

/// Names come with `%`, `/` and `\` escaped as in a URL, and with nothing else escaped.
pub(super) fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let escape = rest.get(at..at + 3).map(str::to_ascii_lowercase);
        let (c, length) = match escape.as_deref() {
            Some("%25") => ('%', 3),
            Some("%2f") => ('/', 3),
            Some("%5c") => ('\\', 3),
            _ => ('%', 1),
        };
        out.push(c);
        rest = rest.get(at + length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn names_lose_the_escapes_of_the_wire() {
        assert_eq!(unescape("a%2fb%5cc%25d"), "a/b\\c%d");
        assert_eq!(unescape("100% é%2"), "100% é%2");
    }
}
