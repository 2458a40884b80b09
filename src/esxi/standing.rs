//! What decides whether a host will take requests at all: its licence, a vCenter above it, lockdown.
//!
//! Read before the first change and by `ceso host check`; each part may be refused to an account and is then unknown.
//! Specification: vSphere Web Services API, `LicenseManager.licenses`, `HostListSummary.managementServerIp`,
//! `HostConfigInfo.lockdownMode`.

use super::error::Error;
use super::host::Host;
use super::moref::MoRef;
use super::places::Reach;
use super::property::Query;

/// How a host stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The names of its licences; empty where they are not shown to the account.
    pub licenses: Vec<String>,
    /// The address of the vCenter that manages it.
    pub managed_by: Option<String>,
    /// The lockdown mode, such as `lockdownNormal`; `None` where there is none.
    pub lockdown: Option<String>,
    pub maintenance: Option<bool>,
}

impl Host {
    /// Reads how the host stands, in one or two requests.
    pub async fn standing(&self) -> Result<Standing, Error> {
        const PATHS: &[&str] = &["summary.managementServerIp", "config.lockdownMode", "runtime.inMaintenanceMode"];
        let query = self.link.everything(&[Reach::Hosts], vec![("HostSystem", PATHS.to_vec())]);
        let objects = self.link.retrieve(&query).await?;
        let mut standing = Standing::default();
        if let Some(host) = objects.iter().find(|object| object.moref.kind == "HostSystem") {
            standing.managed_by = host.text("summary.managementServerIp").map(str::to_owned);
            standing.lockdown =
                host.text("config.lockdownMode").filter(|mode| *mode != "lockdownDisabled").map(str::to_owned);
            standing.maintenance = host.flag("runtime.inMaintenanceMode");
        }
        if let Some(manager) = &self.link.contract().content.license_manager {
            let manager = MoRef::new("LicenseManager", manager);
            let objects = self.link.retrieve(&Query::object(&manager, "LicenseManager", &["licenses"])).await?;
            let licenses = objects.iter().filter_map(|object| object.get("licenses")).flat_map(|list| &list.children);
            standing.licenses =
                licenses.filter_map(|license| license.text_at("name")).map(|name| name.trim().to_owned()).collect();
        }
        Ok(standing)
    }
}
