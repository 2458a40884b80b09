//! What a host is: hardware, release, licence, and what stands in the way of changes.
//!
//! Specification: vSphere Web Services API, `HostSystem`, `HostListSummary`, `LicenseManagerLicenseInfo`.

use std::time::Duration;

use crate::units::Bytes;

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::link::Contract;
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::HostObject;
use super::places::Reach;
use super::property::{From, Object};
use super::vm_list::text;

/// The facts about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The name that the host has given itself; of a vCenter, the path of the datacenter that the connection is about.
    pub name: String,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub cpu_model: Option<String>,
    pub cpu_cores: Option<u32>,
    pub cpu_threads: Option<u32>,
    pub memory: Option<Bytes>,
    /// Such as `VMware ESXi 8.0.3 build-24022510`.
    pub product: String,
    pub version: String,
    pub build: String,
    pub api_version: String,
    pub licence: Option<String>,
    /// Whether the licence is the free one, which allows reads only; `None` where the host does not say.
    pub licence_restricted: Option<bool>,
    pub uptime: Option<Duration>,
    pub maintenance: bool,
    /// The vCenter that manages the host: changes belong there.
    pub managed_by: Option<String>,
    /// The lockdown mode by its wire name, where it is on: `lockdownNormal`, `lockdownStrict`.
    pub lockdown: Option<String>,
}

const HOST: &[&str] = &[
    "name",
    "summary.hardware.vendor",
    "summary.hardware.model",
    "summary.hardware.cpuModel",
    "summary.hardware.numCpuCores",
    "summary.hardware.numCpuThreads",
    "summary.hardware.memorySize",
    "summary.quickStats.uptime",
    "summary.managementServerIp",
    "runtime.inMaintenanceMode",
    "config.lockdownMode",
];

/// What the edition key of the free licence begins with.
const FREE_EDITION: &str = "esxBasic";

impl Host {
    /// Reads the facts about the host, in one request.
    pub async fn host_facts(&self, _host: &Checked<HostObject>) -> Result<HostFacts, Error> {
        let contract = self.link.contract();
        if self.is_vcenter() {
            return Ok(of_vcenter(&contract));
        }
        let mut query = self.link.everything(&[Reach::Hosts], vec![("HostSystem", HOST.to_vec())]);
        if let Some(licences) = &contract.content.license_manager {
            query.properties.push(("LicenseManager", vec!["licenses"]));
            let object = MoRef::new("LicenseManager", licences);
            query.from.push(From { object, skip: false, steps: Vec::new() });
        }
        let objects = self.link.retrieve(&query).await?;
        let host = objects.iter().find(|object| object.moref.kind == "HostSystem");
        let host = host.ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "an inventory without a host".to_owned(),
        })?;
        let (licence, licence_restricted) = licence(&objects);
        let about = &contract.content.about;
        Ok(HostFacts {
            name: host.string("name"),
            vendor: host.text("summary.hardware.vendor").map(str::to_owned),
            model: host.text("summary.hardware.model").map(str::to_owned),
            cpu_model: host.text("summary.hardware.cpuModel").map(str::to_owned),
            cpu_cores: host.number("summary.hardware.numCpuCores"),
            cpu_threads: host.number("summary.hardware.numCpuThreads"),
            memory: host.number("summary.hardware.memorySize").map(Bytes),
            product: about.full_name.clone(),
            version: about.version.clone(),
            build: about.build.clone(),
            api_version: contract.version.clone(),
            licence,
            licence_restricted,
            uptime: host.number("summary.quickStats.uptime").map(Duration::from_secs),
            maintenance: host.flag("runtime.inMaintenanceMode").unwrap_or(false),
            managed_by: host.text("summary.managementServerIp").map(str::to_owned),
            lockdown: host.text("config.lockdownMode").filter(|mode| *mode != "lockdownDisabled").map(str::to_owned),
        })
    }
}

/// A vCenter has no hardware of its own to tell of, and its licences are of no one host.
fn of_vcenter(contract: &Contract) -> HostFacts {
    let about = &contract.content.about;
    HostFacts {
        name: unescape(contract.content.datacenter_path()),
        vendor: None,
        model: None,
        cpu_model: None,
        cpu_cores: None,
        cpu_threads: None,
        memory: None,
        product: about.full_name.clone(),
        version: about.version.clone(),
        build: about.build.clone(),
        api_version: contract.version.clone(),
        licence: None,
        licence_restricted: None,
        uptime: None,
        maintenance: false,
        managed_by: None,
        lockdown: None,
    }
}

fn licence(objects: &[Object]) -> (Option<String>, Option<bool>) {
    let list = objects.iter().find_map(|object| object.get("licenses"));
    let licences = list.map(|list| list.children.as_slice()).unwrap_or_default();
    let name = licences.iter().filter_map(|licence| text(licence, "name")).next();
    let editions: Vec<_> = licences.iter().filter_map(|licence| text(licence, "editionKey")).collect();
    let restricted = (!editions.is_empty()).then(|| editions.iter().all(|edition| edition.starts_with(FREE_EDITION)));
    (name, restricted)
}
