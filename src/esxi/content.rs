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
        self.about.api_type == "VirtualCenter"
    }
}
