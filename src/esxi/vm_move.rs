//! What a vCenter alone does with a machine: move it between folders, hosts, clusters and datastores, mark it as a template; and folders.
//!
//! A standalone host has none of these places, so it is not asked. Specification: vSphere Web Services API,
//! `VirtualMachine.RelocateVM_Task`, `Folder.MoveIntoFolder_Task`, `Folder.CreateFolder`, `VirtualMachine.MarkAsTemplate`.

use crate::xml::Element;

use super::checked::Checked;
use super::config_spec::escape_name;
use super::error::Error;
use super::host::{Host, Progress, Step};
use super::object::{Datastore, HostObject, Vm};
use super::places::Placement;
use super::soap::{Call, Method};
use super::task::Task;

impl Host {
    /// Moves a machine, running or not: to another host, cluster or resource pool, to another datastore, then to another folder.
    ///
    /// Errors: `esxi.needs_vcenter`, `esxi.place`, `esxi.duplicate_name`, and what the vCenter has against the other host.
    pub async fn move_vm(
        &self,
        vm: &Checked<Vm>,
        at: &Placement,
        datastore: Option<&Checked<Datastore>>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let moved = async {
            self.check_vcenter("moving a machine")?;
            let place = match at.place {
                Some(_) => Some(self.compute_at(at).await?),
                None => None,
            };
            let folder = match at.folder {
                Some(_) => Some(self.vm_folder_at(at).await?),
                None => None,
            };
            if place.is_some() || datastore.is_some() {
                let spec = Element::new("spec")
                    .with_all(datastore.map(|datastore| datastore.moref.element("datastore")))
                    .with_all(place.as_ref().map(|(pool, _)| pool.element("pool")))
                    .with_all(place.as_ref().and_then(|(_, host)| host.as_ref()).map(|host| host.element("host")));
                let call = Call::new(&vm.moref, Method::RelocateVm).with(spec);
                Task::start(self, "move", &call).await?.done(progress).await?;
            }
            if let Some(folder) = folder {
                let call = Call::new(&folder, Method::MoveIntoFolder).with_ref("list", &vm.moref);
                Task::start(self, "move into the folder", &call).await?.done(progress).await?;
            }
            Ok(())
        };
        moved.await.map_err(|error: Error| error.doing(format!("move {:?}", vm.name)))
    }

    /// Marks a powered-off machine as a template, which cannot be turned on; or makes a template a machine again, which runs at a place.
    pub async fn mark_template(
        &self,
        vm: &Checked<Vm>,
        template: bool,
        at: &Placement,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let marked = async {
            self.check_vcenter("the mark of a template")?;
            progress(Step { what: "mark", percent: None });
            let call = match template {
                true => Call::new(&vm.moref, Method::MarkAsTemplate),
                false => {
                    let (pool, host) = self.compute_at(at).await?;
                    Call::new(&vm.moref, Method::MarkAsVirtualMachine)
                        .with_ref("pool", &pool)
                        .with_opt(host.map(|host| host.element("host")))
                }
            };
            self.link.call(&call).await.map(drop)
        };
        marked.await.map_err(|error: Error| error.doing(format!("mark {:?}", vm.name)))
    }

    /// Makes a folder of machines, in one that is there. Errors: `esxi.needs_vcenter`, `esxi.place`, `esxi.duplicate_name`.
    pub async fn create_folder(&self, _host: &Checked<HostObject>, path: &str) -> Result<(), Error> {
        let made = async {
            self.check_vcenter("a folder of machines")?;
            let path = path.trim_matches('/');
            let (over, name) = path.rsplit_once('/').map_or((None, path), |(over, name)| (Some(over), name));
            if name.is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
                let hint = Some("such as prod/web: each name has 1 to 80 characters".to_owned());
                return Err(Error::Invalid { reason: format!("{path:?} is no path of a folder"), hint });
            }
            let over = self.vm_folder_at(&Placement { folder: over.map(str::to_owned), place: None }).await?;
            self.link.call(&Call::new(&over, Method::CreateFolder).with_text("name", escape_name(name))).await.map(drop)
        };
        made.await.map_err(|error: Error| error.doing(format!("make the folder of machines {path:?}")))
    }

    pub(super) fn check_vcenter(&self, what: &str) -> Result<(), Error> {
        if self.is_vcenter() { Ok(()) } else { Err(Error::needs_vcenter(self.name(), what)) }
    }
}
