//! Changes to the configuration of a machine that is there.
//!
//! Specification: vSphere Web Services API, `VirtualMachine.ReconfigVM_Task`.

use std::collections::BTreeMap;

use crate::units::Bytes;

use super::checked::Checked;
use super::config_spec::{ConfigSpec, pairs};
use super::error::Error;
use super::host::{Host, Progress};
use super::object::Vm;
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_info::Firmware;

/// What is to be changed; `None` leaves a thing as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconfigure {
    pub cpus: Option<u32>,
    pub cores_per_socket: Option<u32>,
    /// In steps of 4 MiB.
    pub memory: Option<Bytes>,
    pub cpu_hot_add: Option<bool>,
    pub memory_hot_add: Option<bool>,
    pub firmware: Option<Firmware>,
    pub secure_boot: Option<bool>,
    pub guest_id: Option<String>,
    pub notes: Option<String>,
    /// Keys to set, `guestinfo.*` among them; an empty value removes a key.
    pub extra_config: BTreeMap<String, String>,
}

impl Host {
    /// Changes what is asked for in one task. Where nothing is to be changed nothing is sent.
    ///
    /// Errors: `esxi.invalid_power_state` where CPUs or memory cannot be changed while the machine runs.
    pub async fn reconfigure(
        &self,
        vm: &Checked<Vm>,
        change: &Reconfigure,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        if *change == Reconfigure::default() {
            return Ok(());
        }
        let spec = ConfigSpec {
            cpus: change.cpus,
            cores_per_socket: change.cores_per_socket,
            memory: change.memory,
            cpu_hot_add: change.cpu_hot_add,
            memory_hot_add: change.memory_hot_add,
            firmware: change.firmware.as_ref().map(Firmware::as_str),
            secure_boot: change.secure_boot,
            guest_id: change.guest_id.as_deref(),
            notes: change.notes.as_deref(),
            extra_config: pairs(&change.extra_config)?,
            ..ConfigSpec::default()
        };
        let call = Call::new(&vm.moref, Method::ReconfigVm).with(spec.element("spec")?);
        let task = async { Task::start(self, "configure", &call).await?.done(progress).await };
        task.await.map(|_| ()).map_err(|error| error.doing(format!("configure {:?}", vm.name)))
    }
}
