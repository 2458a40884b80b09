//! Machines out of a host and into it, by leases and the host's own reading and writing of OVF.
//!
//! Specification: vSphere Web Services API, `OvfManager`, `ExportVm`, `ImportVApp`.

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::fault::VimFault;
use super::file_path::FilePath;
use super::files::split;
use super::hardware::{Disk, Hardware};
use super::host::{Host, silent};
use super::lease::Lease;
use super::link::patient;
use super::moref::MoRef;
use super::object::{Datastore, Network, NewVm, Vm};
use super::places::Placement;
use super::property::Query;
use super::snapshot::Snapshot;
use super::soap::{Call, Method};
use super::task::Task;

/// The largest file of firmware variables: EFI has 256 KiB or so, a BIOS a few.
const LARGEST_NVRAM: u64 = 8 << 20;

/// A file as a descriptor is to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvfFile {
    /// The device that it belongs to, as the lease calls it.
    pub device: String,
    pub path: String,
    pub size: u64,
    pub capacity: u64,
}

/// What a host makes of a descriptor: how the machine is to be made, and which file goes to which device.
#[derive(Debug, Clone)]
pub struct ImportPlan {
    spec: Element,
    pub files: Vec<ImportFile>,
    /// What the host has to say of it that is no error.
    pub warnings: Vec<String>,
}

/// A file that an import wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFile {
    /// The device that it belongs to, as the lease calls it.
    pub device: String,
    /// The name in the descriptor.
    pub path: String,
}

impl Host {
    /// Begins to export a machine, which must be off. Errors: `esxi.invalid_power_state`, `esxi.task_in_progress`.
    pub async fn export(&self, vm: &Checked<Vm>) -> Result<Lease<'_>, Error> {
        let lease = async {
            let query = Query::object(&vm.moref, "VirtualMachine", &["config.hardware.device"]);
            let objects = self.link.retrieve(&query).await?;
            let devices = objects.iter().find_map(|object| object.get("config.hardware.device"));
            let disks = devices.map(|devices| Hardware::read(devices).disks).unwrap_or_default();
            self.lease_on(&Call::new(&vm.moref, Method::ExportVm), format!("the machine {:?}", vm.name), disks).await
        };
        lease.await.map_err(|error| error.doing(format!("export {:?}", vm.name)))
    }

    /// Begins to export a machine as a snapshot has it; it may run.
    ///
    /// Errors: `esxi.task_in_progress`; `esxi.not_supported` where a host does not export snapshots.
    pub async fn export_snapshot(&self, snapshot: &Checked<Snapshot>) -> Result<Lease<'_>, Error> {
        let lease = async {
            let disks = self.frozen_disks(snapshot).await?.into_iter().map(|frozen| frozen.disk).collect();
            let machine = format!("the machine of the snapshot {:?}", snapshot.name);
            self.lease_on(&Call::new(&snapshot.moref, Method::ExportSnapshot), machine, disks).await
        };
        lease.await.map_err(|error| error.doing(format!("export the snapshot {:?}", snapshot.name)))
    }

    async fn lease_on(&self, call: &Call, machine: String, disks: Vec<Disk>) -> Result<Lease<'_>, Error> {
        let mut lease = Lease::start(self, call, machine).await?;
        lease.sizes = disks.iter().map(|disk| disk.size.0).collect();
        Ok(lease)
    }

    /// The machine as OVF, as it is now or as a snapshot has it, with these files.
    pub async fn descriptor(
        &self,
        vm: &Checked<Vm>,
        snapshot: Option<&Checked<Snapshot>>,
        name: &str,
        files: &[OvfFile],
    ) -> Result<String, Error> {
        let file = |file: &OvfFile| {
            Element::new("ovfFiles")
                .with(Element::leaf("deviceId", file.device.clone()))
                .with(Element::leaf("path", file.path.clone()))
                .with(Element::leaf("size", file.size.to_string()))
                .with(Element::leaf("capacity", file.capacity.to_string()))
        };
        let params = Element::new("cdp")
            .with_all(files.iter().map(file))
            .with(Element::leaf("name", name))
            .with(Element::leaf("includeImageFiles", "false"))
            .with_all(snapshot.map(|snapshot| snapshot.moref.element("snapshot")));
        let call =
            Call::new(&self.ovf_manager().await?, Method::CreateDescriptor).with_ref("obj", &vm.moref).with(params);
        let described = async {
            let answer = self.link.call(&call).await?;
            let result = answer.child("returnval").cloned().unwrap_or_default();
            self.check_faults(&result)?;
            let text = result.text_at("ovfDescriptor").filter(|text| !text.trim().is_empty()).map(str::to_owned);
            text.ok_or_else(|| self.lacks("a descriptor"))
        };
        described.await.map_err(|error| error.doing(format!("describe {:?}", vm.name)))
    }

    /// The firmware's variables of a machine that has them in a file of its own; an export leaves them out.
    pub async fn nvram(&self, vm: &Checked<Vm>, datastores: &[Checked<Datastore>]) -> Result<Option<Vec<u8>>, Error> {
        let query = Query::object(&vm.moref, "VirtualMachine", &["config.firmware", "layoutEx.file"]);
        let objects = self.link.retrieve(&query).await?;
        let Some(object) = objects.first() else { return Ok(None) };
        let files = object.get("layoutEx.file").map(|list| list.children.as_slice()).unwrap_or_default();
        let file = files.iter().find(|file| file.text_at("type").map(str::trim) == Some("nvram"));
        let Some((datastore, path)) = file.and_then(|file| split(file.text_at("name")?)) else { return Ok(None) };
        let Some(store) = datastores.iter().find(|store| store.name == datastore) else { return Ok(None) };
        match self.read_small(store, &FilePath::parse(path.trim())?, LARGEST_NVRAM).await {
            // A host may tell of a file that it writes only when the machine is first turned on. A BIOS does without.
            Err(error) if object.text("config.firmware") != Some("efi") && error.kind() == "esxi.file_not_found" => {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Asks the host how it would make a machine of a descriptor. Nothing is made.
    ///
    /// Errors: `esxi.ovf_…`: what the host has against it; `esxi.file_already_exists` where the machine's folder is there.
    pub async fn import_plan(
        &self,
        descriptor: &str,
        new: &Checked<NewVm>,
        datastore: &Checked<Datastore>,
        networks: &[(String, Checked<Network>)],
        provisioning: &str,
        at: &Placement,
    ) -> Result<ImportPlan, Error> {
        let mapping = |(name, network): &(String, Checked<Network>)| {
            Element::new("networkMapping")
                .with(Element::leaf("name", name.clone()))
                .with(network.moref.element("network"))
        };
        let params = Element::new("cisp")
            .with(Element::leaf("locale", ""))
            .with(Element::leaf("deploymentOption", ""))
            .with(Element::leaf("entityName", new.name.clone()))
            .with_all(networks.iter().map(mapping))
            .with(Element::leaf("diskProvisioning", provisioning));
        let call = Call::new(&self.ovf_manager().await?, Method::CreateImportSpec)
            .with_text("ovfDescriptor", descriptor)
            .with_ref("resourcePool", &self.places(at).await?.resource_pool)
            .with_ref("datastore", &datastore.moref)
            .with(params);
        let planned = async {
            self.refuse_folder(datastore, &new.name).await?;
            let answer = self.link.call(&call).await?;
            let result = answer.child("returnval").cloned().unwrap_or_default();
            self.check_faults(&result)?;
            let mut spec = result.child("importSpec").cloned().ok_or_else(|| self.lacks("an import spec"))?;
            spec.name = "spec".to_owned();
            restore_types(&mut spec);
            let files = result.all("fileItem").filter_map(|item| {
                Some(ImportFile {
                    device: item.text_at("deviceId")?.trim().to_owned(),
                    path: item.text_at("path")?.trim().to_owned(),
                })
            });
            let warnings =
                result.all("warning").map(|warning| VimFault::from_localized(&localized(warning)).to_string());
            Ok(ImportPlan { spec, files: files.collect(), warnings: warnings.collect() })
        };
        planned.await.map_err(|error: Error| error.doing(format!("plan the import of {:?}", new.name)))
    }

    /// Makes the machine of a plan, and begins to fill its disks.
    pub async fn import(&self, plan: &ImportPlan, new: &Checked<NewVm>, at: &Placement) -> Result<Lease<'_>, Error> {
        let places = self.places(at).await?;
        let call = Call::new(&places.resource_pool, Method::ImportVApp)
            .with(plan.spec.clone())
            .with_ref("folder", &places.vm_folder)
            .with_opt(places.host.as_ref().map(|host| host.element("host")));
        let machine = format!("the machine {:?}", new.name);
        let started = match Lease::start(self, &call, machine).await {
            // Its lease was lost with the answer, so it ends by itself, and the machine with it.
            Err(error) if error.outcome_unknown() => {
                let left =
                    format!("perhaps the machine {:?}, which the host removes when its lease runs out", new.name);
                Err(Error::LeftBehind { host: self.name().to_owned(), left: vec![left], source: Box::new(error) })
            }
            started => started,
        };
        started.map_err(|error| error.doing(format!("import {:?}", new.name)))
    }

    /// The machine that an import has made. It is there, so it is named where it cannot be read.
    pub async fn imported(&self, lease: &Lease<'_>) -> Result<Vm, Error> {
        let entity = lease.entity.clone().ok_or_else(|| self.lacks("the machine that an import made"))?;
        patient(self.identity(&entity)).await.map_err(|error| {
            let left = vec![format!("the machine {entity}, complete")];
            Error::LeftBehind { host: self.name().to_owned(), left, source: Box::new(error) }
        })
    }

    /// Removes the machine of an import that failed where the host has not done so in time; names it where it cannot be removed, or
    /// where it may be whole.
    pub async fn left_by_import(&self, lease: &Lease<'_>) -> Option<String> {
        let entity = lease.entity.as_ref()?;
        if lease.perhaps_whole() {
            return Some(match patient(self.identity(entity)).await {
                Ok(vm) => format!("the machine {:?} at {}, perhaps whole", vm.name, vm.path),
                Err(_) => format!("perhaps the machine {entity}, perhaps whole"),
            });
        }
        self.remove_import(entity).await
    }

    /// The same of a machine that nobody can have but its import.
    pub(super) async fn remove_import(&self, entity: &MoRef) -> Option<String> {
        let removed = patient(async {
            let mut left = None;
            for look in 0..20 {
                match self.identity(entity).await {
                    Ok(vm) => left = Some(format!("the machine {:?} at {}", vm.name, vm.path)),
                    Err(error) if error.outcome_unknown() => left = Some(format!("perhaps the machine {entity}")),
                    Err(_) => return None,
                }
                tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                // A lease that nobody holds any more, the host's agent having started anew, removes nothing.
                if look >= 3 {
                    let destroy = Call::new(entity, Method::Destroy);
                    let destroyed = async { Task::start(self, "remove", &destroy).await?.done(&silent).await };
                    if let Err(error) = destroyed.await {
                        tracing::debug!(host = self.name(), "{entity} was not removed: {error}");
                    }
                }
            }
            left
        });
        removed.await
    }

    async fn ovf_manager(&self) -> Result<MoRef, Error> {
        let call = Call::new(&MoRef::new("ServiceInstance", "ServiceInstance"), Method::RetrieveServiceContent);
        let answer = self.link.call(&call).await?;
        let manager = answer.child("returnval").and_then(|content| content.child("ovfManager")).and_then(MoRef::read);
        manager.ok_or_else(|| self.lacks("an OVF manager"))
    }

    /// The first fault of a result that lists them.
    fn check_faults(&self, result: &Element) -> Result<(), Error> {
        match result.child("error") {
            Some(fault) => {
                let fault = VimFault::from_localized(&localized(fault));
                Err(Error::Vim { host: self.name().to_owned(), fault: Box::new(fault) })
            }
            None => Ok(()),
        }
    }
}

/// Lists of faults hold them with or without their localized message around them.
fn localized(fault: &Element) -> Element {
    match fault.child("fault") {
        Some(_) => fault.clone(),
        None => {
            let mut inner = fault.clone();
            inner.name = "fault".to_owned();
            Element::new("error").with(inner)
        }
    }
}

/// A spec that goes back as it came: the types of plain values are those of XML Schema, whose prefix is gone once they are read.
fn restore_types(element: &mut Element) {
    const PLAIN: &[&str] =
        &["string", "boolean", "byte", "short", "int", "long", "float", "double", "dateTime", "anyURI", "base64Binary"];
    if let Some(kind) = &mut element.xsi_type
        && PLAIN.contains(&kind.as_str())
    {
        *kind = format!("xsd:{kind}");
    }
    element.children.iter_mut().for_each(restore_types);
}
