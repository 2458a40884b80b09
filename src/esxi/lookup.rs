//! Names to objects: the door's alone.
//!
//! Every function here is on clippy's list of disallowed methods outside `door/`: what they return is not yet checked. Each is one
//! request (one for each page).

use super::error::Error;
use super::host::Host;
use super::moref::MoRef;
use super::object::{Datastore, HostObject, Network, Vm};
use super::places::Reach;
use super::property::{Object, Query, Traversal};

pub(super) const VM_IDENTITY: &[&str] = &["name", "config.instanceUuid", "config.files.vmPathName", "datastore"];

impl Host {
    /// The host itself, without a request. The door's alone.
    pub fn lookup_host(&self) -> HostObject {
        HostObject { moref: self.link.contract().content.root_folder(), name: self.name().to_owned() }
    }

    /// The identity of every virtual machine, in one request. The door's alone.
    pub async fn lookup_vms(&self) -> Result<Vec<Vm>, Error> {
        let query = self.link.everything(
            &[Reach::Vms, Reach::Datastores],
            vec![("VirtualMachine", VM_IDENTITY.to_vec()), ("Datastore", vec!["name"])],
        );
        let objects = self.link.retrieve(&query).await?;
        let datastores = names(&objects);
        Ok(objects.iter().filter(|object| is_vm(object)).map(|object| vm(object, &datastores)).collect())
    }

    /// The identity of one machine as it is now. The door's alone. Errors: `esxi.managed_object_not_found` where it is gone.
    pub async fn lookup_vm(&self, moref: &MoRef) -> Result<Vm, Error> {
        self.identity(moref).await
    }

    /// The identity of a machine that is known already.
    pub(super) async fn identity(&self, moref: &MoRef) -> Result<Vm, Error> {
        let objects = self.link.retrieve(&with_datastores(moref, VM_IDENTITY.to_vec())).await?;
        let datastores = names(&objects);
        let found = objects.iter().find(|object| object.moref == *moref);
        found.map(|object| vm(object, &datastores)).ok_or_else(|| Error::NotFound {
            host: self.name().to_owned(),
            what: "virtual machine",
            name: moref.to_string(),
            nearest: Vec::new(),
        })
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
