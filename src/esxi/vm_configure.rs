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

/// What is to be changed; `None` leaves a thing as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconfigure {
    pub cpus: Option<u32>,
    /// In steps of 4 MiB.
    pub memory: Option<Bytes>,
    pub notes: Option<String>,
    /// Keys to set, `guestinfo.*` among them; an empty value removes a key.
    pub extra_config: BTreeMap<String, String>,
}

impl Host {
    /// Changes CPUs, memory, notes and extra configuration in one task. Where nothing is to be changed nothing is sent.
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
            memory: change.memory,
            notes: change.notes.as_deref(),
            extra_config: pairs(&change.extra_config)?,
            ..ConfigSpec::default()
        };
        let call = Call::new(&vm.moref, Method::ReconfigVm).with(spec.element("spec")?);
        let task = async { Task::start(self, "configure", &call).await?.done(progress).await };
        task.await.map(|_| ()).map_err(|error| error.doing(format!("configure {:?}", vm.name)))
    }
}
