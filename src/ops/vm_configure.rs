//! Operations that change what a machine is: processors, memory, firmware, guest id, notes, tags, extra configuration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::vm_make::Firmware;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::{self, PowerState};
use crate::units::Bytes;

const TOUCHES: &[Touch] = &[touch("vm", "configure", Selector::Argument("vm"))];

/// The key of extra configuration that a machine's tags are kept under, one after the other with commas between.
pub const TAGS: &str = "ceso.tags";

/// Changes a machine's processors, memory, firmware, guest id, notes, tags or extra configuration; what is left out stays as it is.
///
/// Processors and memory of a running machine can only be added, and only where their hot-add is on; firmware, guest id, sockets and
/// hot-add itself need it off. Keys of `guestinfo.*` are refused: cloud-init data goes through `vm:set_guestinfo`. So are keys that name
/// files, devices, ports or identities, with which a machine could take another's disk or network, and those of ceso itself. Errors:
/// `esxi.invalid_power_state` with what it is that cannot be changed while it runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Virtual processors, from 1.
    pub cpus: Option<u32>,
    /// How many of them are one socket; their number must be a multiple of it.
    pub cores_per_socket: Option<u32>,
    /// Memory, a multiple of 4 MiB.
    pub memory: Option<Bytes>,
    /// Whether processors can be added while it runs.
    pub cpu_hot_add: Option<bool>,
    /// Whether memory can be added while it runs.
    pub memory_hot_add: Option<bool>,
    /// What it boots with. A guest that was installed under the other one will not boot.
    pub firmware: Option<Firmware>,
    /// Whether it boots what is signed, alone; with `efi` only.
    pub secure_boot: Option<bool>,
    /// VMware's guest id, such as `debian12_64Guest`.
    pub guest: Option<String>,
    /// Annotation; empty removes it.
    pub notes: Option<String>,
    /// Words to find it by, each of letters, digits and `.-_:/=@`, in place of those that it has; an empty list removes them.
    pub tags: Option<Vec<String>>,
    /// Keys and values; an empty value removes the key.
    #[serde(default)]
    pub extra_config: BTreeMap<String, String>,
}

/// Makes sure that a machine is as it is asked for; where it is, nothing is done.
///
/// An empty value in `extra_config` means that the key must not be there, empty notes that there are none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureConfig(Configure);

/// The part of a machine's configuration that is asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    pub cpus: Option<u32>,
    pub cores_per_socket: Option<u32>,
    pub memory: Option<Bytes>,
    pub cpu_hot_add: Option<bool>,
    pub memory_hot_add: Option<bool>,
    pub firmware: Option<esxi::Firmware>,
    pub secure_boot: Option<bool>,
    pub guest: Option<String>,
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
            // A host with other processors chooses its sockets anew, unless it is told.
            cores_per_socket: self.cores_per_socket.filter(|cores| {
                Some(*cores) != info.cores_per_socket || self.cpus.is_some_and(|cpus| Some(cpus) != info.row.cpus)
            }),
            memory: self.memory.filter(|memory| Some(*memory) != info.row.memory),
            cpu_hot_add: self.cpu_hot_add.filter(|on| *on != info.cpu_hot_add),
            memory_hot_add: self.memory_hot_add.filter(|on| *on != info.memory_hot_add),
            firmware: self.firmware.clone().filter(|firmware| *firmware != info.firmware),
            secure_boot: self.secure_boot.filter(|on| *on != info.secure_boot),
            guest: self.guest.clone().filter(|guest| Some(guest) != info.row.guest_id.as_ref()),
            notes: self.notes.clone().filter(|notes| notes != info.row.notes.as_deref().unwrap_or_default()),
            extra_config: extra_config.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn checked(self, operation: &str) -> Result<Self, Fault> {
        let wrong = |what: String| Fault::new("usage.argument", format!("{operation}: {what}"));
        for key in self.extra_config.keys().filter(|key| *key != TAGS) {
            if key.to_ascii_lowercase().starts_with("guestinfo.") {
                return Err(wrong(format!("extra_config: {key:?} is the guest's"))
                    .hint("build cloud-init data with cloudinit.build and give it to vm:set_guestinfo"));
            }
            if key.to_ascii_lowercase().starts_with("ceso.") {
                return Err(
                    wrong(format!("extra_config: {key:?} is ceso's own")).hint("tags are given as tags = { … }")
                );
            }
            if reaches_out(key) {
                return Err(wrong(format!("extra_config: {key:?} names a file, a device, a port or an identity")).hint(
                    "what reaches beyond the machine itself is not set by key: no capability table could tell whom it touches",
                ));
            }
        }
        check_hardware(operation, self.cpus, self.memory)?;
        if self.cores_per_socket == Some(0) {
            return Err(wrong("cores_per_socket: a socket has at least 1".to_owned()).hint("leave it out to keep it"));
        }
        if let Some(guest) = &self.guest
            && (guest.is_empty() || guest.len() > 80 || !guest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        {
            return Err(wrong("guest: it is no guest id".to_owned()).hint("such as debian12_64Guest"));
        }
        Ok(self)
    }

    /// Refuses what the machine as it is cannot take, before the host is asked.
    fn check_against(&self, info: &esxi::VmInfo) -> Result<(), Fault> {
        let cpus = self.cpus.or(info.row.cpus).unwrap_or(1);
        if let Some(cores) = self.cores_per_socket.filter(|cores| *cores > cpus || !cpus.is_multiple_of(*cores)) {
            return Err(Fault::new(
                "usage.argument",
                format!("cores_per_socket: {cpus} processors cannot be put into sockets of {cores}"),
            )
            .hint("the processors must be a multiple of it"));
        }
        let firmware = self.firmware.as_ref().unwrap_or(&info.firmware);
        if self.secure_boot.unwrap_or(info.secure_boot) && *firmware != esxi::Firmware::Efi {
            return Err(Fault::new("usage.argument", "secure_boot: only a machine with firmware efi has it")
                .hint("give firmware = \"efi\", or secure_boot = false"));
        }
        if info.row.power == PowerState::Off {
            return Ok(());
        }
        let name = &info.row.vm.name;
        let refuse = |what: &str, hint: String| {
            let power = if info.row.power == PowerState::On { "runs" } else { "is suspended" };
            Err(Fault::new("esxi.invalid_power_state", format!("{name:?} {power}: {what}")).hint(hint))
        };
        let off = || "turn it off first: vm:shutdown() asks the guest (ceso vm power NAME shutdown)".to_owned();
        let on = info.row.power == PowerState::On;
        let added = |what: &str, less: bool, hot: bool, argument: &str| match (on && hot, less) {
            (true, false) => Ok(()),
            (true, true) => refuse(&format!("{what} can only be added until it is off"), off()),
            _ => refuse(
                &format!("{what} cannot be changed until it is off, for their hot-add is not on"),
                format!("{}; {argument} = true, set while it is off, allows to add them later", off()),
            ),
        };
        if let Some(cpus) = self.cpus {
            added("processors", Some(cpus) < info.row.cpus, info.cpu_hot_add, "cpu_hot_add")?;
        }
        if let Some(memory) = self.memory {
            added("memory", Some(memory) < info.row.memory, info.memory_hot_add, "memory_hot_add")?;
        }
        for (asked, what) in [
            (self.cores_per_socket.is_some_and(|cores| Some(cores) != info.cores_per_socket), "cores_per_socket"),
            (self.cpu_hot_add.is_some(), "cpu_hot_add"),
            (self.memory_hot_add.is_some(), "memory_hot_add"),
            (self.firmware.is_some(), "firmware"),
            (self.secure_boot.is_some(), "secure_boot"),
            (self.guest.is_some(), "guest"),
        ] {
            if asked {
                return refuse(&format!("{what} cannot be changed until it is off"), off());
            }
        }
        Ok(())
    }

    /// Gives the machine what it lacks of this, or says why it cannot have it.
    pub async fn apply(&self, bound: &BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        let info = bound.host.client.vm_info(&bound.vm).await?;
        let beyond = self.beyond(&info);
        beyond.check_against(&info)?;
        let change = esxi::Reconfigure {
            cpus: beyond.cpus,
            cores_per_socket: beyond.cores_per_socket,
            memory: beyond.memory,
            cpu_hot_add: beyond.cpu_hot_add,
            memory_hot_add: beyond.memory_hot_add,
            firmware: beyond.firmware,
            secure_boot: beyond.secure_boot,
            guest_id: beyond.guest,
            notes: beyond.notes,
            extra_config: beyond.extra_config,
        };
        Ok(bound.host.client.reconfigure(&bound.vm, &change, &|step| pass.step(step)).await?)
    }
}

/// Tags as they are kept: sorted, each once. Faults: `usage.argument`.
fn joined(operation: &str, tags: &[String]) -> Result<String, Fault> {
    let word = |tag: &&String| {
        (1..=64).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:/=@".contains(c))
    };
    if let Some(tag) = tags.iter().find(|tag| !word(tag)) {
        let shown: String = tag.chars().take(80).collect();
        return Err(Fault::new("usage.argument", format!("{operation}: tags: {shown:?} is no tag"))
            .hint("a tag has 1 to 64 letters, digits and .-_:/=@"));
    }
    if tags.len() > 64 {
        return Err(Fault::new("usage.argument", format!("{operation}: tags: a machine has at most 64")));
    }
    let sorted: std::collections::BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    Ok(sorted.into_iter().collect::<Vec<_>>().join(","))
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
        let mut extra_config = self.extra_config.clone();
        if let Some(key) = extra_config.keys().find(|key| key.eq_ignore_ascii_case(TAGS)) {
            return Err(Fault::new("usage.argument", format!("{operation}: extra_config: {key:?} is ceso's own"))
                .hint("tags are given as tags = { … }"));
        }
        if let Some(tags) = &self.tags {
            extra_config.insert(TAGS.to_owned(), joined(operation, tags)?);
        }
        let wanted = Wanted {
            cpus: self.cpus,
            cores_per_socket: self.cores_per_socket,
            memory: self.memory,
            cpu_hot_add: self.cpu_hot_add,
            memory_hot_add: self.memory_hot_add,
            firmware: self.firmware.map(|firmware| match firmware {
                Firmware::Bios => esxi::Firmware::Bios,
                Firmware::Efi => esxi::Firmware::Efi,
            }),
            secure_boot: self.secure_boot,
            guest: self.guest.clone(),
            notes: self.notes.clone(),
            extra_config,
        };
        wanted.checked(operation)
    }
}

impl Operation for Configure {
    const NAME: &'static str = "vm.configure";
    const CONTENTS: &'static [&'static str] = &["extra_config"];
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "configure" };
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str =
        "vm:configure({ cpus = 4, memory = \"4 GiB\", notes = \"resized\", tags = { \"web\", \"team:ops\" } })";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        self.wanted(Self::NAME)?;
        binder.vm(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        self.wanted(Self::NAME)?.apply(&bound, pass).await
    }
}

impl Operation for EnsureConfig {
    const NAME: &'static str = "vm.ensure_config";
    const CONTENTS: &'static [&'static str] = &["extra_config"];
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "ensure_config" };
    const TOUCHES: &'static [Touch] = TOUCHES;
    const USAGE: &'static str = "vm:ensure_config({ cpus = 2, tags = { \"web\" } })";

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
        self.0.wanted(Self::NAME)?.apply(&bound, pass).await
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
        ] {
            assert!(!reaches_out(key), "{key}");
        }
    }
}
