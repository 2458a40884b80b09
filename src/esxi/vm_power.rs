//! Power, guest shutdown and destruction of a machine.
//!
//! Each is one task (or one call and a wait). The host refuses what the power state does not allow, and its fault says which state
//! that is: nothing is asked beforehand. Specification: vSphere Web Services API, `VirtualMachine`, `ManagedEntity.Destroy_Task`.

use std::time::Duration;

use super::checked::Checked;
use super::error::Error;
use super::host::{Host, Progress, Step};
use super::link::patient;
use super::object::Vm;
use super::property::Query;
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_list::PowerState;

impl Host {
    /// Powers a machine on, or resumes a suspended one. Errors: `esxi.invalid_power_state` where it is on already.
    pub async fn power_on(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        self.vm_task(vm, Method::PowerOnVm, "power on", progress).await
    }

    /// Powers a machine off, as if its plug were pulled. Errors: `esxi.invalid_power_state` where it is off already.
    pub async fn power_off(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        self.vm_task(vm, Method::PowerOffVm, "power off", progress).await
    }

    /// Resets a running machine, as if its reset button were pushed.
    pub async fn reset(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        self.vm_task(vm, Method::ResetVm, "reset", progress).await
    }

    /// Suspends a running machine to its datastore.
    pub async fn suspend(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        self.vm_task(vm, Method::SuspendVm, "suspend", progress).await
    }

    /// Destroys a powered-off machine with all its files; what a linked clone inherits stays. Gives what is left of it all the same, where an
    /// earlier try has taken its disks out and not deleted them.
    ///
    /// Errors: `esxi.invalid_power_state` where it is powered on; one that breaks off names what is left.
    pub async fn destroy(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<Vec<String>, Error> {
        let info = self.vm_info(vm).await.map_err(|error| error.doing(format!("destroy {:?}", vm.name)))?;
        if info.hardware.disks.iter().any(|disk| disk.inherited().next().is_some()) {
            let destroyed = self.destroy_linked(vm, info, progress).await;
            return destroyed
                .map(|()| Vec::new())
                .map_err(|error| error.doing(format!("destroy the linked clone {:?}", vm.name)));
        }
        self.vm_task(vm, Method::Destroy, "destroy", progress).await?;
        match info.hardware.disks.is_empty() {
            true => Ok(self.remains(vm).await),
            false => Ok(Vec::new()),
        }
    }

    /// Asks the guest to shut down, and waits until the machine is off.
    ///
    /// Errors: `esxi.tools_unavailable` where no tools run in the guest, `esxi.timeout` where it is not off in time.
    pub async fn shutdown_guest(
        &self,
        vm: &Checked<Vm>,
        timeout: Duration,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        progress(Step { what: "shut down the guest", percent: None });
        let call = Call::new(&vm.moref, Method::ShutdownGuest);
        self.link.call(&call).await.map_err(|error| error.doing(format!("shut down the guest of {:?}", vm.name)))?;
        let off = |state: &super::watch::Snapshot| {
            state.get("runtime.powerState").is_some_and(|value| value.text.trim() == "poweredOff")
        };
        self.wait_for(vm, &["runtime.powerState"], timeout, format!("{:?} shutting down", vm.name), off)
            .await
            .map(|_| ())
    }

    async fn vm_task(&self, vm: &Checked<Vm>, method: Method, what: &str, progress: Progress<'_>) -> Result<(), Error> {
        let task = async { Task::start(self, what, &Call::new(&vm.moref, method)).await?.done(progress).await };
        let done = match patient(task).await {
            // Nobody can say any more what became of it, but the machine itself.
            Err(error) if (error.lost_track() || error.outcome_unknown()) && self.took_effect(vm, method).await => {
                Ok(())
            }
            done => done.map(|_| ()),
        };
        done.map_err(|error| error.doing(format!("{what} {:?}", vm.name)))
    }

    /// Whether a machine is as the method was to leave it. What leaves no trace has not been seen.
    async fn took_effect(&self, vm: &Vm, method: Method) -> bool {
        let wanted = match method {
            Method::PowerOnVm => PowerState::On,
            Method::PowerOffVm => PowerState::Off,
            Method::SuspendVm => PowerState::Suspended,
            Method::Destroy => {
                let read = patient(self.identity(&vm.moref)).await;
                return matches!(read, Err(error) if error.is("ManagedObjectNotFound") || matches!(error.root(), Error::NotFound { .. }));
            }
            _ => return false,
        };
        let query = Query::object(&vm.moref, "VirtualMachine", &["runtime.powerState"]);
        let objects = patient(self.link.retrieve(&query)).await.unwrap_or_default();
        let states = objects.iter().filter_map(|object| object.text("runtime.powerState"));
        states.map(PowerState::read).any(|state| state == wanted)
    }
}
