//! The datastores and networks of a host as rows.
//!
//! Specification: vSphere Web Services API, `DatastoreSummary`, `NetworkSummary`.

use crate::units::Bytes;
use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::lookup::unescape;
use super::object::{Datastore, HostObject, Network};
use super::places::Reach;

/// One datastore of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastoreRow {
    pub datastore: Datastore,
    /// Such as `VMFS`, `NFS`.
    pub kind: String,
    pub capacity: Bytes,
    pub free: Bytes,
    pub accessible: bool,
    /// Whether the host may write to it; an export may be mounted for reading only.
    pub writable: bool,
    /// `normal`, or a state of maintenance by its wire name.
    pub maintenance: String,
}

/// One network of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRow {
    pub network: Network,
    pub accessible: bool,
    /// The machines on it.
    pub vms: usize,
}

impl Host {
    /// Lists every datastore, in one request.
    pub async fn list_datastores(&self, _host: &Checked<HostObject>) -> Result<Vec<DatastoreRow>, Error> {
        let paths = vec![
            "name",
            "summary.type",
            "summary.capacity",
            "summary.freeSpace",
            "summary.accessible",
            "summary.maintenanceMode",
            "host",
        ];
        let objects =
            self.link.retrieve(&self.link.everything(&[Reach::Datastores], vec![("Datastore", paths)])).await?;
        let row = |object: &super::property::Object| DatastoreRow {
            datastore: Datastore { moref: object.moref.clone(), name: unescape(&object.string("name")) },
            kind: object.string("summary.type"),
            capacity: Bytes(object.number("summary.capacity").unwrap_or_default()),
            free: Bytes(object.number("summary.freeSpace").unwrap_or_default()),
            accessible: object.flag("summary.accessible").unwrap_or(false),
            writable: !object.get("host").is_some_and(|mounts| {
                let read_only = |mount: &Element| mount.text_at("mountInfo.accessMode") == Some("readOnly");
                !mounts.children.is_empty() && mounts.children.iter().all(read_only)
            }),
            maintenance: object.text("summary.maintenanceMode").unwrap_or("normal").to_owned(),
        };
        Ok(objects.iter().map(row).collect())
    }

    /// Lists every network, in one request.
    pub async fn list_networks(&self, _host: &Checked<HostObject>) -> Result<Vec<NetworkRow>, Error> {
        let paths = vec!["name", "summary.accessible", "vm"];
        let objects = self.link.retrieve(&self.link.everything(&[Reach::Networks], vec![("Network", paths)])).await?;
        let row = |object: &super::property::Object| NetworkRow {
            network: Network { moref: object.moref.clone(), name: unescape(&object.string("name")) },
            accessible: object.flag("summary.accessible").unwrap_or(false),
            vms: object.references("vm").len(),
        };
        Ok(objects.iter().map(row).collect())
    }
}
