//! Writes machines, and machines as a snapshot has them, out into OVA files of this machine.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::appliance::percent;
use super::file_transfer::blocking;
use super::package::unread;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::snapshots::BoundSnapshot;
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, OvfFile};
use crate::ova::{self, Package};
use crate::units::Bytes;

/// Writes a powered-off machine into a new OVA file of this machine: its disks as streamOptimized, its firmware's variables, a manifest.
///
/// Errors: `esxi.invalid_power_state`, `local.file_exists`, `esxi.bad_answer` where what the host sends is no whole disk of the machine.
/// After an error, and where the run is stopped, no file is left, and the machine is free again, or the error says until when it may be
/// busy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The new `.ova` file: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
}

/// What an export has come to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Exported {
    /// The name of the file on this machine.
    pub file: String,
    /// How long it is.
    pub size: Bytes,
    /// The files in it, with their sums.
    pub parts: Vec<ExportedPart>,
}

/// A file of an export.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExportedPart {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub size: Bytes,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Operation for Export {
    const NAME: &'static str = "vm.export";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "export" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "copy_from", Selector::Argument("vm"))];
    const USAGE: &'static str =
        "local done = host:vm(\"debian-12\"):export({ into = file })\nprint(done.size, done.parts[1].sha256)";

    type Bound = (BoundVm, Arc<LocalFile>, Vec<Checked<esxi::Datastore>>);
    type Output = Exported;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.vm(&self.vm, "copy_from").await?;
        let stores = binder.datastores_of(&bound).await?;
        Ok((bound, binder.file(&self.into, Access::Write)?, stores))
    }

    async fn act(self, (bound, file, stores): Self::Bound, pass: &Pass<'_>) -> Result<Exported, Fault> {
        let client = &bound.host.client;
        let from = Source { client, vm: &bound.vm, snapshot: None };
        export(from, &file, pass, async || {
            let nvram = client.nvram(&bound.vm, &stores).await?;
            Ok((nvram, client.export(&bound.vm).await?))
        })
        .await
    }
}

/// Writes a machine as a snapshot has it into a new OVA file of this machine; it may run meanwhile.
///
/// Its firmware's variables are those of now, and left out while the machine runs and holds them. Errors: `esxi.task_in_progress`,
/// `local.file_exists`, `esxi.not_supported` where the host does not export snapshots, as it says or a probe found. After an error, and
/// where the run is stopped, no file is left, and the machine is free again, or the error says until when it may be busy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportSnapshot {
    /// The snapshot.
    pub snapshot: Target<kind::Snapshot>,
    /// The new `.ova` file: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
}

impl Operation for ExportSnapshot {
    const NAME: &'static str = "vm.export_snapshot";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "snapshot", name: "export" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "copy_from", Selector::Argument("snapshot"))];
    const USAGE: &'static str =
        "local now = host:vm(\"debian-12\"):snapshot({ name = \"export\" })\nprint(now:export({ into = file }).size)";

    type Bound = (BoundSnapshot, Arc<LocalFile>, Vec<Checked<esxi::Datastore>>);
    type Output = Exported;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let bound = binder.snapshot(&self.snapshot, "copy_from").await?;
        let stores = binder.datastores_of_snapshot(&bound).await?;
        Ok((bound, binder.file(&self.into, Access::Write)?, stores))
    }

    async fn act(self, (bound, file, stores): Self::Bound, pass: &Pass<'_>) -> Result<Exported, Fault> {
        let client = &bound.host.client;
        if client.abilities().snapshot_way() == esxi::SnapshotWay::CloneThenExport {
            let message = format!("a probe found that {} does not export snapshots", bound.host.name);
            return Err(Fault::new("esxi.not_supported", message)
                .hint("clone it and export the clone: snapshot:clone, vm:export (ceso vm snapshot export does)"));
        }
        let from = Source { client, vm: &bound.vm, snapshot: Some(&bound.snapshot) };
        export(from, &file, pass, async || {
            let nvram = match client.nvram(&bound.vm, &stores).await {
                Err(error) if error.is("FileLocked") || error.kind() == "esxi.file_refused" => None,
                read => read?,
            };
            Ok((nvram, client.export_snapshot(&bound.snapshot).await?))
        })
        .await
    }
}

/// What is exported.
#[derive(Clone, Copy)]
struct Source<'a> {
    client: &'a esxi::Host,
    vm: &'a Checked<esxi::Vm>,
    snapshot: Option<&'a Checked<esxi::Snapshot>>,
}

type Archive = ova::Writer<std::io::BufWriter<std::fs::File>>;

/// The archive while files of it come, shared with the threads that write them.
#[derive(Clone)]
struct Shared(Arc<Mutex<ova::Open<std::io::BufWriter<std::fs::File>>>>);

impl Write for Shared {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(piece)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes one archive, with what `begun` gives: the firmware's variables and the lease. After an error no file is left.
async fn export<'a>(
    from: Source<'a>,
    file: &Arc<LocalFile>,
    pass: &Pass<'_>,
    begun: impl AsyncFnOnce() -> Result<(Option<Vec<u8>>, esxi::Lease<'a>), Fault>,
) -> Result<Exported, Fault> {
    if !file.name().to_ascii_lowercase().ends_with(".ova") {
        return Err(Fault::new("usage.file", format!("{}: is not named .ova", file.name()))
            .hint("an export is one archive: name it so"));
    }
    let part = {
        let file = file.clone();
        blocking(move || file.begin(false)).await?
    };
    let to = part.file().map_err(unread);
    let made = async {
        let to = to?;
        let (nvram, lease) = begun().await?;
        lease.during(pass.unless_stopped(write(from, &lease, to, nvram, pass))).await
    };
    match made.await {
        Ok(parts) => {
            let size = Bytes(part.length());
            blocking(move || part.finish()).await?;
            Ok(Exported { file: file.name(), size, parts })
        }
        Err(fault) => {
            blocking(move || part.discard()).await?;
            Err(fault)
        }
    }
}

async fn write(
    from: Source<'_>,
    lease: &esxi::Lease<'_>,
    to: std::fs::File,
    nvram: Option<Vec<u8>>,
    pass: &Pass<'_>,
) -> Result<Vec<ExportedPart>, Fault> {
    let base = plain(&from.vm.name);
    let disks: Vec<_> = lease.files.iter().filter(|file| file.disk).collect();
    let mut names: Vec<String> = (1..=disks.len()).map(|number| format!("{base}-disk{number}.vmdk")).collect();
    names.extend(nvram.is_some().then(|| format!("{base}.nvram")));
    let mut archive: Archive = ova::Writer::new(std::io::BufWriter::with_capacity(1 << 20, to), &base, names.clone())?;
    let mut files = Vec::new();
    for (number, (disk, name)) in disks.iter().zip(&names).enumerate() {
        let shared = Shared(Arc::new(Mutex::new(archive.open()?)));
        let told = |step: esxi::Step<'_>| {
            let whole = (number as u64) * 100 + u64::from(step.percent.unwrap_or(0));
            lease.progress(percent(whole, disks.len() as u64 * 100));
            lease.step("export", &|step| pass.step(step));
        };
        let came = lease.fetch_disk(disk, Box::new(shared.clone()), &told).await?;
        let open = Arc::into_inner(shared.0).and_then(|open| open.into_inner().ok());
        let open = open.ok_or_else(|| {
            Fault::new("ceso.export", "a disk was still being written")
                .hint("this is a defect of ceso: please report it")
        })?;
        archive = open.close()?;
        files.push(OvfFile { device: disk.key.clone(), path: name.clone(), size: came.bytes, capacity: 0 });
    }
    let mut descriptor = from.client.descriptor(from.vm, from.snapshot, &from.vm.name, &files).await?;
    if let (Some(nvram), Some(name)) = (&nvram, names.last()) {
        let mut open = archive.open()?;
        open.write_all(nvram).map_err(unread)?;
        archive = open.close()?;
        descriptor = with_nvram(&descriptor, name, nvram.len(), files.len() + 1);
    }
    let part = |(name, came): &(String, ova::Summed)| ExportedPart {
        name: name.clone(),
        size: Bytes(came.bytes),
        sha256: came.sum.clone(),
    };
    let parts = archive.came().iter().map(part).collect();
    // What the host wrote must be what is read again.
    Package::read(descriptor.as_bytes())?;
    blocking(move || Ok(archive.finish(&descriptor)?)).await?;
    Ok(parts)
}

/// A machine's name as the beginning of files' names.
pub(super) fn plain(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).take(60).collect();
    if plain.is_empty() { "machine".to_owned() } else { plain }
}

/// Names the firmware's variables in a descriptor, as ovftool does; hosts leave them out.
pub(super) fn with_nvram(descriptor: &str, name: &str, size: usize, number: usize) -> String {
    if !descriptor.contains("xmlns:vmw=") || !descriptor.contains("xmlns:ovf=") {
        return descriptor.to_owned();
    }
    let file = format!("  <File ovf:href=\"{name}\" ovf:id=\"file{number}\" ovf:size=\"{size}\"/>\n  </References>");
    let key = format!(
        "  <vmw:ExtraConfig ovf:required=\"false\" vmw:key=\"nvram\" vmw:value=\"ovf:/file/file{number}\"/>\n    </VirtualHardwareSection>"
    );
    descriptor.replacen("</References>", &file, 1).replacen("</VirtualHardwareSection>", &key, 1)
}
