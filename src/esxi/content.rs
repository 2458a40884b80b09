//! The service content: what the host calls its own parts. Nothing is assumed about their names.
//!
//! Specification: vSphere Web Services API, `ServiceContent` and `AboutInfo`.

use serde::{Deserialize, Serialize};

use crate::xml::Element;

use super::error::Error;
use super::moref::MoRef;

/// What a host says about itself before anybody logs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// The product with its version, such as `VMware ESXi 8.0.3 build-24022510`.
    pub full_name: String,
    pub version: String,
    pub build: String,
    /// `HostAgent` for a standalone host, `VirtualCenter` for a vCenter.
    pub api_type: String,
    pub api_version: String,
}

impl About {
    /// Whether it is ceso's own simulator, which says so in its product name. For what people read, and for nothing else.
    pub fn is_simulator(&self) -> bool {
        self.full_name.ends_with("(ceso SIMULATOR)")
    }

    /// Whether this is a vCenter and no single host.
    pub fn is_vcenter(&self) -> bool {
        self.api_type == "VirtualCenter"
    }
}

/// The objects from which everything else is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceContent {
    pub about: About,
    pub root_folder: String,
    pub property_collector: String,
    pub session_manager: String,
    pub file_manager: Option<String>,
    pub disk_manager: Option<String>,
    pub license_manager: Option<String>,
    pub event_manager: Option<String>,
    pub task_manager: Option<String>,
    pub authorization_manager: Option<String>,
    /// Of a vCenter, the one datacenter that this connection is about; a host names its own by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<Datacenter>,
}

/// The datacenter that a connection to a vCenter is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Datacenter {
    pub id: String,
    /// Its path in the inventory as the API writes it, without the slash before it, such as `Europe/DC1`.
    pub path: String,
}

impl ServiceContent {
    pub(super) fn read(host: &str, content: &Element) -> Result<Self, Error> {
        let id = |name: &str| content.child(name).and_then(MoRef::read).map(|object| object.id);
        let needed = |name: &str| {
            id(name).ok_or_else(|| Error::BadAnswer {
                host: host.to_owned(),
                reason: format!("a service content without {name}"),
            })
        };
        let about = |name: &str| content.text_at(&format!("about.{name}")).unwrap_or_default().trim().to_owned();
        Ok(Self {
            about: About {
                full_name: about("fullName"),
                version: about("version"),
                build: about("build"),
                api_type: about("apiType"),
                api_version: about("apiVersion"),
            },
            root_folder: needed("rootFolder")?,
            property_collector: needed("propertyCollector")?,
            session_manager: needed("sessionManager")?,
            file_manager: id("fileManager"),
            disk_manager: id("virtualDiskManager"),
            license_manager: id("licenseManager"),
            event_manager: id("eventManager"),
            task_manager: id("taskManager"),
            authorization_manager: id("authorizationManager"),
            datacenter: None,
        })
    }

    pub(super) fn root_folder(&self) -> MoRef {
        MoRef::new("Folder", &self.root_folder)
    }

    pub(super) fn property_collector(&self) -> MoRef {
        MoRef::new("PropertyCollector", &self.property_collector)
    }

    pub(super) fn session_manager(&self) -> MoRef {
        MoRef::new("SessionManager", &self.session_manager)
    }

    /// Whether this is a vCenter, which takes some requests differently.
    pub(super) fn is_vcenter(&self) -> bool {
        self.about.is_vcenter()
    }

    /// Under what everything lies that the connection is about: all of a host, one datacenter of a vCenter. A vCenter whose datacenter
    /// is not known yet has nothing to look at.
    pub(super) fn top(&self) -> MoRef {
        match &self.datacenter {
            _ if !self.is_vcenter() => self.root_folder(),
            Some(datacenter) => MoRef::new("Datacenter", &datacenter.id),
            None => MoRef::new("Datacenter", "none"),
        }
    }

    /// The datacenter as the addresses of files name it.
    pub(super) fn datacenter_path(&self) -> &str {
        self.datacenter.as_ref().map_or("ha-datacenter", |datacenter| &datacenter.path)
    }
}
