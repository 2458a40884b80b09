//! Operations that change a machine's configuration: hardware, notes, extra configuration, cloud-init data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::cloudinit;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::secret::Built;
use crate::error::Fault;
use crate::esxi;
use crate::units::Bytes;

const TOUCHES: &[Touch] = &[touch("vm", "configure", Selector::Argument("vm"))];

/// Changes a machine's processors, memory, notes or extra configuration; what is left out stays as it is.
///
/// Processors and memory of a running machine can be changed only where the guest allows hot-add; else the host refuses.
/// Keys of `guestinfo.*` are refused: cloud-init data goes through `vm:set_guestinfo`. So are keys that name files, devices, ports
/// or identities: with them a machine could take another's disk or network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Virtual processors, from 1.
    pub cpus: Option<u32>,
    /// Memory, a multiple of 4 MiB.
    pub memory: Option<Bytes>,
    /// Annotation; empty removes it.
    pub notes: Option<String>,
    /// Keys and values; an empty value removes the key.
    #[serde(default)]
    pub extra_config: BTreeMap<String, String>,
}

/// Makes sure that a machine has these processors, memory, notes and extra configuration; where it has, nothing is done.
///
/// An empty value in `extra_config` means that the key must not be there, empty notes that there are none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureConfig(Configure);

/// The part of a machine's configuration that is asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    pub cpus: Option<u32>,
    pub memory: Option<Bytes>,
    pub notes: Option<String>,
    pub extra_config: BTreeMap<String, String>,
}

impl Wanted {
    /// Leaves out what the machine has already.
    pub fn beyond(&self, info: &esxi::VmInfo) -> Self {
        let differs = |key: &String, value: &String| info.extra_config.get(key).map_or("", String::as_str) != value;
        let extra_config = self.extra_config.iter().filter(|(key, value)| differs(key, value));
        Self {
            cpus: self.cpus.filter(|cpus| Some(*cpus) != info.row.cpus),
            memory: self.memory.filter(|memory| Some(*memory) != info.row.memory),
            notes: self.notes.clone().filter(|notes| notes != info.row.notes.as_deref().unwrap_or_default()),
            extra_config: extra_config.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn checked(self, operation: &str) -> Result<Self, Fault> {
        for key in self.extra_config.keys() {
            if key.to_ascii_lowercase().starts_with("guestinfo.") {
                return Err(Fault::new("usage.argument", format!("{operation}: extra_config: {key:?} is the guest's"))
                    .hint("build cloud-init data with cloudinit.build and give it to vm:set_guestinfo"));
            }
            if reaches_out(key) {
                return Err(Fault::new(
                    "usage.argument",
                    format!("{operation}: extra_config: {key:?} names a file, a device, a port or an identity"),
                )
                .hint("what reaches beyond the machine itself is not set by key: no capability table could tell whom it touches"));
            }
        }
        check_hardware(operation, self.cpus, self.memory)?;
        Ok(self)
    }

    pub fn reconfigure(self) -> esxi::Reconfigure {
        esxi::Reconfigure { cpus: self.cpus, memory: self.memory, notes: self.notes, extra_config: self.extra_config }
    }
}

/// Whether a key of extra configuration reaches beyond the machine: `scsi0:1.fileName` takes a disk, `ethernet0.networkName` a network,
/// `RemoteDisplay.vnc.port` a port of the host, `displayName` another name; none of which the tables were asked about.
fn reaches_out(key: &str) -> bool {
    /// What may be set of a device all the same.
    const HARMLESS: &[&str] = &["ctkenabled", "pcislotnumber", "virtualssd"];
    const BEGINNINGS: &[&str] = &[
        "annotation",
        "checkpoint.",
        "config.",
        "debugstub.",
        "displayname",
        "encryption.",
        "extendedconfigfile",
        "firmware",
        "guestos",
        "hgfs.",
        "isolation.tools.hgfs",
        "machine.id",
        "managedvm",
        "memsize",
        "migrate.",
        "numvcpus",
        "nvram",
        "pcipassthru",
        "remotedisplay.",
        "sched.swap.",
        "sharedfolder",
        "snapshot.",
        "uuid.",
        "vc.",
        "virtualhw.",
        "vmx.",
        "vprobe",
        "vtpm.",
        "workingdir",
    ];
    let key = key.to_ascii_lowercase();
    let (first, rest) = key.split_once('.').unwrap_or((&key, ""));
    // scsi0:1, ethernet0, serial1: where a device's number is, a device is.
    if first.ends_with(|c: char| c.is_ascii_digit()) || first.contains(':') {
        return !HARMLESS.contains(&rest);
    }
    BEGINNINGS.iter().any(|beginning| key.starts_with(beginning))
        || ["filename", "directory", "backing"].iter().any(|word| key.contains(word))
        || [".dir", "path", "file"].iter().any(|end| key.ends_with(end))
}

impl Configure {
    fn wanted(&self, operation: &str) -> Result<Wanted, Fault> {
        let (cpus, memory, notes) = (self.cpus, self.memory, self.notes.clone());
        Wanted { cpus, memory, notes, extra_config: self.extra_config.clone() }.checked(operation)
    }
}

impl Operation for Configure {
    const NAME: &'static str = "vm.configure";
    const CONTENTS: &'static [&'static str] = &["extra_config"];
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "configure" };
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:configure({ cpus = 4, memory = \"4 GiB\", notes = \"resized\" })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        self.wanted(Self::NAME)?;
        binder.vm(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let change = self.wanted(Self::NAME)?.reconfigure();
        Ok(bound.host.client.reconfigure(&bound.vm, &change, &|step| pass.step(step)).await?)
    }
}

impl Operation for EnsureConfig {
    const NAME: &'static str = "vm.ensure_config";
    const CONTENTS: &'static [&'static str] = &["extra_config"];
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "ensure_config" };
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_config({ cpus = 2 })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        self.0.wanted(Self::NAME)?;
        binder.vm(&self.0.vm, "configure").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        Ok(self.0.wanted(Self::NAME)?.beyond(&info).is_empty().then_some(()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let change = self.0.wanted(Self::NAME)?.beyond(&info).reconfigure();
        Ok(bound.host.client.reconfigure(&bound.vm, &change, &|step| pass.step(step)).await?)
    }
}

/// Gives a machine its cloud-init data: the guest applies it when it boots next.
///
/// It replaces what the machine had. The network part is matched to the machine's cards by their addresses.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetGuestinfo {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// What `cloudinit.build` made.
    pub document: Target<kind::Document>,
}

/// Makes sure that a machine has this cloud-init data; where it has, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureGuestinfo(SetGuestinfo);

/// A machine and the document for it.
pub struct BoundGuestinfo {
    bound: BoundVm,
    built: std::sync::Arc<Built>,
}

/// The addresses of a machine's cards, in its own order.
pub fn macs(info: &esxi::VmInfo) -> Vec<cloudinit::MacAddress> {
    let parsed = info.hardware.nics.iter().map(|nic| nic.mac.as_deref()?.parse().ok());
    parsed.flatten().collect()
}

impl BoundGuestinfo {
    /// Binds a document to a machine that its secrets may go to; `reip` says which kind of document is taken.
    async fn bind(
        binder: &Binder<'_>,
        vm: &Target<kind::Vm>,
        document: &Target<kind::Document>,
        reip: bool,
    ) -> Result<Self, Fault> {
        let built = binder.document(document)?;
        match (built.document.is_reip(), reip) {
            (true, false) => {
                return Err(Fault::new(
                    "usage.argument",
                    "document: it is a re-IP, for a machine that has booted before",
                )
                .hint("give it to vm:reip or vm:ensure_reip"));
            }
            (false, true) => {
                return Err(Fault::new("usage.argument", "document: it is for a machine's first boot, and no re-IP")
                    .hint("cloudinit.reip builds one that changes the network alone"));
            }
            _ => {}
        }
        let bound = binder.vm(vm, "configure").await?;
        built.check_destination(&bound.vm.name)?;
        Ok(Self { bound, built })
    }

    /// What the machine's `guestinfo.*` keys must be, and what they are.
    async fn compare(&self) -> Result<(cloudinit::GuestInfo, BTreeMap<String, String>), Fault> {
        let info = self.bound.host.client.vm_info(&self.bound.vm).await?;
        let macs = macs(&info);
        let target = cloudinit::Target { uuid: &info.row.vm.instance_uuid, macs: &macs };
        Ok((self.built.document.guestinfo(target)?, info.extra_config))
    }

    async fn write(self, pass: &Pass<'_>) -> Result<(), Fault> {
        let (guestinfo, _) = self.compare().await?;
        let change = esxi::Reconfigure { extra_config: owned(&guestinfo), ..esxi::Reconfigure::default() };
        Ok(self.bound.host.client.reconfigure(&self.bound.vm, &change, &|step| pass.step(step)).await?)
    }
}

/// The steps in which a machine's memory comes.
const STEP: u64 = 4 << 20;

/// Refuses processors and memory that no machine can have, before anything is sent.
pub fn check_hardware(operation: &str, cpus: Option<u32>, memory: Option<Bytes>) -> Result<(), Fault> {
    if cpus == Some(0) {
        return Err(Fault::new("usage.argument", format!("{operation}: cpus: a machine has at least 1")));
    }
    match memory {
        Some(Bytes(bytes)) if bytes == 0 || !bytes.is_multiple_of(STEP) => {
            let wrong =
                format!("{operation}: memory: {bytes} bytes are no machine's memory, which comes in steps of 4 MiB");
            let near = Bytes(bytes.div_ceil(STEP).max(1) * STEP);
            Err(Fault::new("usage.argument", wrong).hint(match bytes {
                // A small plain number was meant as megabytes, as other tools take it.
                4..1_048_576 => format!("write the unit: \"{bytes} MiB\" or \"{bytes} GiB\""),
                _ => format!("binary units fit, such as \"4 GiB\"; the nearest above is \"{}\"", near.exact()),
            }))
        }
        _ => Ok(()),
    }
}

fn owned(guestinfo: &cloudinit::GuestInfo) -> BTreeMap<String, String> {
    guestinfo.entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Operation for SetGuestinfo {
    const NAME: &'static str = "vm.set_guestinfo";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "set_guestinfo" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:set_guestinfo(cloudinit.build({ hostname = vm.name }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.vm, &self.document, false).await
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

impl Operation for EnsureGuestinfo {
    const NAME: &'static str = "vm.ensure_guestinfo";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "ensure_guestinfo" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_guestinfo(cloudinit.build({ hostname = vm.name }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.0.vm, &self.0.document, false).await
    }

    async fn settled(&self, bound: &BoundGuestinfo, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let (guestinfo, has) = bound.compare().await?;
        Ok(guestinfo.same_as(|key| has.get(key).map(String::as_str)).then_some(()))
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

/// Gives a machine that has booted before a new network: the guest takes it at its next boot, and changes nothing else.
///
/// Its cloud-init data is replaced. `vm:reset` or `vm:shutdown` and `vm:power_on` make it boot; `vm:wait_for_address` waits for the new address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reip {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// What `cloudinit.reip` made.
    pub document: Target<kind::Document>,
}

/// Makes sure that a machine has this new network to take; where it has, nothing is done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureReip(Reip);

impl Operation for Reip {
    const NAME: &'static str = "vm.reip";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "reip" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:reip(cloudinit.reip({ network = { address = \"10.0.1.77/24\" } }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.vm, &self.document, true).await
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

impl Operation for EnsureReip {
    const NAME: &'static str = "vm.ensure_reip";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "ensure_reip" };
    const POSITIONAL: &'static [&'static str] = &["document"];
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_reip(cloudinit.reip({ network = { address = \"10.0.1.77/24\" } }))";

    type Bound = BoundGuestinfo;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundGuestinfo, Fault> {
        BoundGuestinfo::bind(binder, &self.0.vm, &self.0.document, true).await
    }

    async fn settled(&self, bound: &BoundGuestinfo, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        let (guestinfo, has) = bound.compare().await?;
        Ok(guestinfo.same_as(|key| has.get(key).map(String::as_str)).then_some(()))
    }

    async fn act(self, bound: BoundGuestinfo, pass: &Pass<'_>) -> Result<(), Fault> {
        bound.write(pass).await
    }
}

#[cfg(test)]
mod tests {
    use super::reaches_out;

    #[test]
    fn keys_that_reach_beyond_the_machine_are_told_apart() {
        for key in [
            "scsi0:1.fileName",
            "SCSI0:1.present",
            "sata0:0.fileName",
            "nvme0:0.fileName",
            "ethernet0.networkName",
            "ethernet0.address",
            "serial0.fileName",
            "serial0.network.endPoint",
            "floppy0.fileName",
            "pciPassthru0.id",
            "RemoteDisplay.vnc.enabled",
            "displayName",
            "vc.uuid",
            "uuid.bios",
            "nvram",
            "workingDir",
            "sched.swap.dir",
            "sched.swap.derivedName",
            "vmx.log.filename",
            "log.fileName",
            "sharedFolder0.hostPath",
            "debugStub.listen.guest64",
            "machine.id",
            "scsi0:0",
        ] {
            assert!(reaches_out(key), "{key}");
        }
        for key in [
            "disk.EnableUUID",
            "svga.autodetect",
            "tools.syncTime",
            "isolation.tools.copy.disable",
            "mem.hotadd",
            "cpuid.80000001.edx",
            "numa.vcpu.maxPerVirtualNode",
            "monitor_control.halt_desched",
            "sched.cpu.latencySensitivity",
            "scsi0:0.ctkEnabled",
            "ctkEnabled",
            "log.keepOld",
            "ceso.owner",
        ] {
            assert!(!reaches_out(key), "{key}");
        }
    }
}
