//! A clone that a vCenter makes by itself, made to be what a clone on a host is.
//!
//! `CloneVM_Task` copies more than ceso's clone does: fixed MAC addresses, `guestinfo.*` and the images in the drives are the template's
//! own, so they are replaced, emptied and taken out in the same request. A linked clone's disks build on the template's current
//! snapshot, as a vCenter asks for. Whatever fails leaves nothing: the vCenter removes what it had begun.
//! Specification: vSphere Web Services API, `VirtualMachine.CloneVM_Task`, `VirtualMachineCloneSpec`, `VirtualMachineRelocateSpec`.

use crate::xml::Element;

use super::checked::Checked;
use super::config_spec::{ConfigSpec, escape_name, pairs};
use super::device_change::change;
use super::error::Error;
use super::hardware::{Nic, nic_type};
use super::host::{Host, Progress};
use super::moref::MoRef;
use super::object::{Datastore, NewVm, Vm};
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_clone::CloneSpec;
use super::vm_clone_plan::Plan;

/// Extra configuration that is a machine's own, whatever is made of it.
fn is_own(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("guestinfo.") || key.starts_with("ceso.") || key == "machine.id"
}

impl Host {
    /// Has the vCenter clone a machine, or what a snapshot of it has frozen, powered off.
    pub(super) async fn clone_natively(
        &self,
        plan: &Plan,
        (template, frozen): (&Vm, Option<&MoRef>),
        new: &NewVm,
        datastore: &Checked<Datastore>,
        spec: &CloneSpec<'_>,
        progress: Progress<'_>,
    ) -> Result<Vm, Error> {
        let snapshot = match (&plan.snapshot, spec.linked) {
            (_, false) => frozen,
            (Some(snapshot), true) => Some(snapshot),
            (None, true) => {
                return Err(Error::Invalid {
                    reason: format!("the template {:?} has no snapshot for a linked clone to build on", template.name),
                    hint: Some(
                        "take one of it first (vm:snapshot), and keep it: a vCenter links clones to snapshots"
                            .to_owned(),
                    ),
                });
            }
        };
        let folder = match (&spec.at.folder, &plan.folder) {
            (None, Some(own)) => own.clone(),
            _ => self.vm_folder_at(&spec.at).await?,
        };
        // A machine that is marked as a template runs nowhere, so its clone has no place to take over.
        let place = match spec.at.place.is_some() || plan.marked {
            true => Some(self.compute_at(&spec.at).await?),
            false => None,
        };
        let location = Element::new("location")
            .with(datastore.moref.element("datastore"))
            .with_all(
                snapshot.filter(|_| spec.linked).map(|_| Element::leaf("diskMoveType", "createNewChildDiskBacking")),
            )
            .with_all(place.as_ref().map(|(pool, _)| pool.element("pool")))
            .with_all(place.as_ref().and_then(|(_, host)| host.as_ref()).map(|host| host.element("host")));
        let clone = Element::new("spec")
            .with(location)
            .with(Element::leaf("template", "false"))
            .with(configuration(plan, spec)?)
            .with(Element::leaf("powerOn", "false"))
            .with_all(snapshot.map(|snapshot| snapshot.element("snapshot")));
        let call = Call::new(&template.moref, Method::CloneVm)
            .with_ref("folder", &folder)
            .with_text("name", escape_name(&new.name))
            .with(clone);
        let made = async { Task::start(self, "clone", &call).await?.made(progress).await };
        let moref = match made.await {
            // Whatever bears the name may be somebody else's: it is named, not taken.
            Err(error) if error.lost_track() || error.outcome_unknown() => return Err(self.perhaps(new, error)),
            made => made?,
        };
        let vm = self.identity(&moref).await.map_err(|error| self.perhaps(new, error))?;
        match vm.name == new.name {
            true => Ok(vm),
            false => Err(Error::BadAnswer {
                host: self.name().to_owned(),
                reason: format!("a clone named {:?} in place of {:?}", vm.name, new.name),
            }),
        }
    }

    fn perhaps(&self, new: &NewVm, error: Error) -> Error {
        let left = vec![format!("perhaps the machine {:?}", new.name)];
        Error::LeftBehind { host: self.name().to_owned(), left, source: Box::new(error) }
    }
}

/// What is to be other than in the template.
fn configuration(plan: &Plan, spec: &CloneSpec<'_>) -> Result<Element, Error> {
    let given = pairs(&spec.extra_config)?;
    let own = plan.keys.iter().map(String::as_str).filter(|key| is_own(key));
    let emptied = own.filter(|key| !given.iter().any(|(own, _)| own.eq_ignore_ascii_case(key)));
    let extra_config = emptied.map(|key| (key, "")).chain(given.iter().copied()).collect();
    let nics = plan.hardware.nics.iter().zip(&plan.backings).map(|(nic, backing)| edited(nic, backing));
    let filled = plan.hardware.drives.iter().filter(|drive| drive.file.is_some());
    let emptied = filled.map(|drive| {
        let key = Element::leaf("key", drive.key.to_string());
        change("remove", None, Element::new("device").typed("VirtualCdrom").with(key))
    });
    ConfigSpec {
        cpus: spec.cpus,
        // Of an odd number of processors each is a socket, where the template's sockets would not come out even.
        cores_per_socket: spec.cpus.and_then(|cpus| plan.cores_for(cpus)),
        memory: spec.memory,
        notes: spec.notes.as_deref(),
        devices: nics.chain(emptied).collect(),
        extra_config,
        ..ConfigSpec::default()
    }
    .element("config")
}

/// A card on its network, with an address of its own.
fn edited(nic: &Nic, backing: &Element) -> Element {
    let connectable = Element::new("connectable")
        .with(Element::leaf("startConnected", nic.start_connected.to_string()))
        .with(Element::leaf("allowGuestControl", "true"))
        .with(Element::leaf("connected", "false"));
    let device = Element::new("device")
        .typed(nic_type(&nic.kind))
        .with(Element::leaf("key", nic.key.to_string()))
        .with(backing.clone())
        .with(connectable)
        .with(Element::leaf("addressType", "generated"));
    change("edit", None, device)
}
