//! Machines into the host's inventory, out of it, and under another name; their files stay where they are.
//!
//! Specification: vSphere Web Services API, `Folder.RegisterVM_Task`, `VirtualMachine.UnregisterVM`, `ManagedEntity.Rename_Task`.

use super::checked::Checked;
use super::config_spec::escape_name;
use super::error::Error;
use super::file_path::FilePath;
use super::host::{Host, Progress, Step};
use super::object::{Datastore, NewVm, Vm};
use super::places::Placement;
use super::soap::{Call, Method};
use super::task::Task;

impl Host {
    /// Takes a configuration file that lies on a datastore into the inventory, under this name.
    ///
    /// Errors: `esxi.file_not_found`, `esxi.already_exists` where the file is a machine's already, `esxi.duplicate_name`,
    /// `esxi.invalid_vm_config` where it is no configuration.
    pub async fn register_vm(
        &self,
        new: &Checked<NewVm>,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        at: &Placement,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        let file = path.on(&datastore.name);
        let registered = async {
            // Hosts do not agree on the fault for it.
            if self.length_of(datastore, path).await?.is_none() {
                return Err(self.no_file(&file, ""));
            }
            let places = self.places(at).await?;
            let call = Call::new(&places.vm_folder, Method::RegisterVm)
                .with_text("path", &file)
                .with_text("name", escape_name(&new.name))
                .with_text("asTemplate", "false")
                .with_ref("pool", &places.resource_pool)
                .with_opt(places.host.as_ref().map(|host| host.element("host")));
            let moref = Task::start(self, "register", &call).await?.made(progress).await?;
            self.identity(&moref).await
        };
        registered.await.map_err(|error: Error| error.doing(format!("register {file} as {:?}", new.name)))
    }

    /// Takes a powered-off machine out of the inventory; its files stay. Errors: `esxi.invalid_power_state`.
    pub async fn unregister_vm(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        progress(Step { what: "unregister", percent: None });
        let call = Call::new(&vm.moref, Method::UnregisterVm);
        self.link.call(&call).await.map(drop).map_err(|error| error.doing(format!("unregister {:?}", vm.name)))
    }

    /// Gives a machine another name; its folder and files keep theirs. Errors: `esxi.duplicate_name`.
    pub async fn rename_vm(&self, vm: &Checked<Vm>, new: &Checked<NewVm>, progress: Progress<'_>) -> Result<(), Error> {
        let call = Call::new(&vm.moref, Method::Rename).with_text("newName", escape_name(&new.name));
        let task = async { Task::start(self, "rename", &call).await?.done(progress).await };
        task.await.map(drop).map_err(|error| error.doing(format!("rename {:?} to {:?}", vm.name, new.name)))
    }
}
