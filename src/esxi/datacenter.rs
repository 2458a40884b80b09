//! Which datacenter a connection to a vCenter is about.
//!
//! A vCenter holds many, and what they hold may have the same names: two datastores `nfs-1`, two machines `web-1`. So a connection is
//! about one of them and sees nothing of the others: names, datastore paths and capability tables then mean what they mean on a host.
//! It is told by the options, or is the only one there is. Specification: vSphere Web Services API, `Datacenter`, `Folder`.

use std::sync::Arc;

use super::content::{Datacenter, ServiceContent};
use super::error::Error;
use super::link::{Contract, Link};
use super::lookup::unescape;
use super::property::{From, Object, Query, Traversal};
use super::soap::{Call, Method};
use super::tree::{IN_TREE, Tree};

const IN_FOLDER: Traversal = Traversal { name: "inFolder", kind: "Folder", path: "childEntity", then: &["inFolder"] };

impl Link {
    /// The contract of a new session with the datacenter that the connection is about. Where that cannot be told the session is ended:
    /// nobody else would.
    pub(super) async fn placed(&self, contract: Arc<Contract>, cookie: &str) -> Result<Arc<Contract>, Error> {
        let known = self.contract().content.datacenter.clone().filter(|_| contract.content.is_vcenter());
        let found = match known {
            Some(known) => Ok(Some(known)),
            None => self.find_datacenter(&contract, cookie).await,
        };
        match found {
            Ok(None) => Ok(contract),
            Ok(datacenter) => {
                let content = ServiceContent { datacenter, ..contract.content.clone() };
                Ok(Arc::new(Contract { version: contract.version.clone(), content }))
            }
            Err(error) => {
                let logout = Call::new(&contract.content.session_manager(), Method::Logout);
                if let Err(failure) = self.call_as(&logout, &contract, Some(cookie)).await {
                    tracing::warn!(host = self.host(), "a session that is of no use was not ended: {failure}");
                }
                Err(error)
            }
        }
    }

    async fn find_datacenter(&self, contract: &Contract, cookie: &str) -> Result<Option<Datacenter>, Error> {
        let wanted = self.options.datacenter.as_deref();
        if !contract.content.is_vcenter() {
            return match wanted {
                None => Ok(None),
                Some(name) => Err(Error::needs_vcenter(self.host(), format!("the datacenter {name:?}"))),
            };
        }
        let query = Query {
            properties: vec![("Datacenter", IN_TREE.to_vec()), ("Folder", IN_TREE.to_vec())],
            from: vec![From { object: contract.content.root_folder(), skip: true, steps: vec![IN_FOLDER] }],
        };
        // The session is not the link's own yet, so nothing that would renew it can be used.
        let collector = contract.content.property_collector();
        let first = Call::new(&collector, Method::RetrievePropertiesEx)
            .with(query.element("specSet"))
            .with(crate::xml::Element::new("options"));
        let mut answer = self.call_as(&first, contract, Some(cookie)).await?;
        let mut objects = Vec::new();
        while let Some(token) = self.page(answer, &mut objects)? {
            let next = Call::new(&collector, Method::ContinueRetrievePropertiesEx).with_text("token", token);
            answer = self.call_as(&next, contract, Some(cookie)).await?;
        }
        choose(self.host(), wanted, &objects).map(Some)
    }
}

/// The datacenter that is wanted, by name or by path, or the only one.
fn choose(host: &str, wanted: Option<&str>, objects: &[Object]) -> Result<Datacenter, Error> {
    let tree = Tree::of(objects);
    let datacenters = objects.iter().filter(|object| object.moref.kind == "Datacenter");
    let all: Vec<Datacenter> = datacenters
        .map(|object| Datacenter { id: object.moref.id.clone(), path: tree.path(&object.moref).join("/") })
        .collect();
    let shown = |datacenter: &Datacenter| unescape(&datacenter.path);
    let name = |datacenter: &Datacenter| unescape(datacenter.path.rsplit('/').next().unwrap_or_default());
    let is_wanted = |datacenter: &&Datacenter| {
        wanted.is_none_or(|wanted| {
            let path = wanted.strip_prefix('/').unwrap_or(wanted);
            shown(datacenter) == path || (!wanted.starts_with('/') && name(datacenter) == wanted)
        })
    };
    let mut fitting = all.iter().filter(is_wanted);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.clone()),
        (first, _) => {
            let among = if first.is_some() { all.iter().filter(is_wanted).map(shown).collect() } else { Vec::new() };
            let among = if among.is_empty() { all.iter().map(shown).collect() } else { among };
            let (host, wanted) = (host.to_owned(), wanted.map(str::to_owned));
            Err(Error::Datacenter { host, wanted, found: first.is_some(), among })
        }
    }
}
