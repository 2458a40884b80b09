//! The operation that carries a machine from one host to another, streamed: its disks lie nowhere in between.

use std::io::Read;

use schemars::JsonSchema;
use serde::Deserialize;

use super::appliance::percent;
use super::appliance_export::{plain, with_nvram};
use super::rows::give_vm;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, Content, ImportFile, ImportPlan, Lease, NewVm, OvfFile};
use crate::ova::Package;

/// Copies a powered-off machine to another host: its hardware, its disks, its firmware's variables. The machine itself stays as it is.
///
/// The one host exports and the other imports, both by leases, and what comes from the one goes to the other at once. Disks are thin, and
/// as large as they are; cards have new MAC addresses. Errors: `esxi.invalid_power_state`, `esxi.duplicate_name`, `esxi.no_disk_space`,
/// `esxi.network_not_found` where the other host lacks one of its networks and none is named instead. What a copy made that failed
/// or was stopped is removed, or the error names it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyTo {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The host that it goes to.
    pub host: Target<kind::Host>,
    /// The copy's name, 1 to 80 characters.
    pub name: String,
    /// Where its files go. Default: the other host's datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// The network of all its cards. Default: those of the same names.
    pub network: Option<String>,
    /// Where that host is a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the datacenter's own.
    pub folder: Option<String>,
    /// Where that host is a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the only one there is.
    pub place: Option<String>,
}

/// A copy, checked on both hosts.
pub struct BoundCopy {
    from: BoundVm,
    stores: Vec<Checked<esxi::Datastore>>,
    to: BoundHost,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    networks: Vec<(String, Checked<esxi::Network>)>,
    /// The most that its disks take.
    room: u64,
}

impl Operation for CopyTo {
    const NAME: &'static str = "vm.copy_to";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "copy_to" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "copy_from", Selector::Argument("vm")),
        touch("vm", "create", Selector::Argument("name")),
        touch("datastore", "write", Selector::Argument("datastore")),
        touch("network", "use", Selector::Argument("network")),
    ];
    const USAGE: &'static str = "local copy = host:vm(\"debian-12\"):copy_to({ host = esxi.connect(), name = \"debian-12-copy\" })\nprint(copy.name)";

    type Bound = BoundCopy;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundCopy, Fault> {
        let from = binder.vm(&self.vm, "copy_from").await?;
        let stores = binder.datastores_of(&from).await?;
        let to = binder.host(&self.host)?;
        let new = binder.new_vm(&to, &self.name).await?;
        let datastore = match &self.datastore {
            Some(name) => binder.datastore(&to, name, "write").await?,
            None => binder.roomiest_datastore(&to).await?,
        };
        let info = from.host.client.vm_info(&from.vm).await?;
        let mut own: Vec<String> = info.hardware.nics.iter().filter_map(|nic| nic.network.clone()).collect();
        own.sort();
        own.dedup();
        let room = info.hardware.disks.iter().map(|disk| disk.size.0).fold(0, u64::saturating_add);
        let mut networks = Vec::new();
        for name in own {
            let wanted = self.network.as_deref().unwrap_or(&name);
            networks.push((name.clone(), binder.network(&to, wanted, "use").await?));
        }
        Ok(BoundCopy { from, stores, to, new, datastore, networks, room })
    }

    async fn act(self, bound: BoundCopy, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let BoundCopy { from, stores, to, new, datastore, networks, room } = &bound;
        let (source, target) = (&from.host.client, &to.host.client);
        let at = esxi::Placement { folder: self.folder, place: self.place };
        let nvram = source.nvram(&from.vm, stores).await?;
        let lease = source.export(&from.vm).await?;
        // Boxed, each part: what holds many futures in one another outgrows a thread's stack.
        let copied = Box::pin(async {
            // What only reads and plans may be dropped; what makes the target's machine may not.
            let planned = lease.kept(pass.unless_stopped(Box::pin(async {
                let (files, descriptor) = described(source, &from.vm, &lease, nvram.as_deref()).await?;
                let plan = target.import_plan(&descriptor, new, datastore, networks, "thin", &at).await?;
                Ok::<_, Fault>((files, plan))
            })));
            let (files, plan) = planned.await?;
            let own = lease.beside(Box::pin(target.import(&plan, new, &at))).await?;
            let both = Carried { lease: &lease, own: &own, files: &files, nvram: nvram.as_deref() };
            match own.during(lease.kept(pass.unless_stopped(Box::pin(carry_all(&both, &plan, pass))))).await {
                Ok(()) => Ok(target.imported(&own).await?),
                Err(fault) => {
                    let left = target.left_by_import(&own).await;
                    // What came before the space ran out is gone again.
                    let lacking =
                        target.lacking(datastore, *room, true).await.filter(|_| fault.is("esxi.no_disk_space"));
                    let fault = lacking.map_or(fault, Fault::from);
                    Err(match left {
                        None => fault,
                        Some(left) => {
                            fault.hint(format!("left behind on {}: {left}; remove it after a look at it", to.host.name))
                        }
                    })
                }
            }
        });
        let copied = copied.await;
        // The copy is whole, whatever becomes of the lease that it was read through.
        let vm = match copied {
            Ok(vm) => {
                let vm = pass.made(&to.host, vm);
                lease.end(Ok::<_, Fault>(())).await.map_err(|fault| {
                    let told = format!("the copy {:?} on {} is whole, and stays", vm.own_name(), to.host.name);
                    let hint = fault.hint_text().map_or_else(|| told.clone(), |hint| format!("{told}; {hint}"));
                    fault.hint(hint)
                })?;
                vm
            }
            Err(fault) => return lease.end(Err(fault)).await,
        };
        give_vm(pass, &to.host, &vm).await
    }
}

/// The machine as OVF, with the names of the files that are to come.
async fn described(
    source: &esxi::Host,
    vm: &Checked<esxi::Vm>,
    lease: &Lease<'_>,
    nvram: Option<&[u8]>,
) -> Result<(Vec<OvfFile>, String), Fault> {
    let base = plain(vm.own_name());
    let disks = lease.files.iter().filter(|file| file.disk);
    // How long each is shows when it has gone by: the target is not told.
    let files: Vec<OvfFile> = (1..)
        .zip(disks)
        .map(|(number, disk)| {
            let path = format!("{base}-disk{number}.vmdk");
            OvfFile { device: disk.key.clone(), path, size: 0, capacity: 0 }
        })
        .collect();
    let mut descriptor = source.descriptor(vm, None, vm.own_name(), &files).await?;
    if let Some(nvram) = nvram {
        descriptor = with_nvram(&descriptor, &format!("{base}.nvram"), nvram.len(), files.len() + 1);
    }
    Package::read(descriptor.as_bytes())?;
    Ok((files, descriptor))
}

/// Two leases, and what goes from the one to the other.
struct Carried<'a> {
    lease: &'a Lease<'a>,
    own: &'a Lease<'a>,
    files: &'a [OvfFile],
    nvram: Option<&'a [u8]>,
}

/// Carries all that the target wants.
async fn carry_all(both: &Carried<'_>, plan: &ImportPlan, pass: &Pass<'_>) -> Result<(), Fault> {
    let whole = plan.files.len() as u64 * 100;
    for (number, file) in (0..).zip(&plan.files) {
        let told = |step: esxi::Step<'_>| {
            let percent = percent(number * 100 + u64::from(step.percent.unwrap_or(0)), whole);
            both.lease.progress(percent);
            both.own.progress(percent);
            both.own.step("copy", &|step| pass.step(step));
        };
        carry(both, file, &told).await?;
    }
    Ok(())
}

/// Carries one of the files that the target wants.
async fn carry(both: &Carried<'_>, file: &ImportFile, told: esxi::Progress<'_>) -> Result<(), Fault> {
    let bad = |what: String| Fault::new("esxi.bad_answer", what).hint("look at the hosts' versions and their logs");
    let to = both.own.files.iter().find(|to| to.import_key == file.device || to.key == file.device);
    let to = to.ok_or_else(|| bad(format!("the host wants {} and gives no place for it", file.path)))?;
    let disk = both.files.iter().find(|own| own.path == file.path);
    let from = disk.and_then(|disk| both.lease.files.iter().find(|own| own.key == disk.device));
    match (from, both.nvram) {
        (Some(from), _) => both.own.carry((both.lease, from), to, told).await.map(drop)?,
        (None, Some(nvram)) => {
            let held: std::sync::Arc<[u8]> = nvram.into();
            let open = || Ok(Box::new(std::io::Cursor::new(held.clone())) as Box<dyn Read + Send>);
            both.own
                .send(to, Content { length: held.len() as u64, open: &open, sum: esxi::Sum::No }, told)
                .await
                .map(drop)?;
        }
        (None, None) => return Err(bad(format!("the host wants {}, which was not offered", file.path))),
    }
    Ok(())
}
