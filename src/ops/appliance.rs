//! Operations that bring machines in from OVF and OVA files of this machine, and out into them.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file_transfer::blocking;
use super::rows::give_vm;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::snapshots::BoundSnapshot;
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, Content, ImportFile, NewVm, OvfFile};
use crate::ova::{self, Manifest, Package};
use crate::units::Bytes;
use crate::vmdk::StreamReader;

/// Makes a machine of an OVA or OVF file of this machine, powered off.
///
/// The whole appliance is checked before a host hears of it: plain files alone, the sums of its manifest, every file that it names, disks
/// as large as they say. Disks are thin. Errors: `ova.invalid`, `ova.sum`, `esxi.duplicate_name`, `usage.network` where one of its
/// networks is not there and none is named instead. What a failed import made is removed, or the error names it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The host.
    pub host: Target<kind::Host>,
    /// The `.ova` or `.ovf` file: a parameter of type `file`. The other files of an `.ovf` lie beside it.
    pub file: Target<kind::File>,
    /// The new machine's name, 1 to 80 characters.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// The network of all its cards. Default: those that the appliance names.
    pub network: Option<String>,
}

/// An import, checked.
pub struct BoundImport {
    host: BoundHost,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    networks: Vec<(String, Checked<esxi::Network>)>,
    appliance: Appliance,
}

impl Operation for Import {
    const NAME: &'static str = "vm.import";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "import" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "create", Selector::Argument("name")),
        touch("datastore", "write", Selector::Argument("datastore")),
        touch("network", "use", Selector::Argument("network")),
    ];
    const USAGE: &'static str =
        "local vm = host:import({ file = file, name = \"imported-1\", network = \"VM Network\" })\nprint(vm.name)";

    type Bound = BoundImport;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundImport, Fault> {
        let host = binder.host(&self.host)?;
        let new = binder.new_vm(&host, &self.name).await?;
        let datastore = match &self.datastore {
            Some(name) => binder.datastore(&host, name, "write").await?,
            None => binder.roomiest_datastore(&host).await?,
        };
        let file = binder.file(&self.file, Access::Read)?;
        let appliance = blocking(move || Appliance::open(file)).await?;
        let mut networks = Vec::new();
        for own in &appliance.package.networks {
            let wanted = self.network.as_deref().unwrap_or(own);
            let network = binder.network(&host, wanted, "use").await.map_err(|fault| match self.network {
                None if fault.is("esxi.network_not_found") => {
                    let message =
                        format!("the appliance has a card on the network {own:?}, which is not on {}", host.host.name);
                    Fault::new("usage.network", message)
                        .hint("name one that is there for all its cards: network = \"VM Network\"")
                }
                _ => fault,
            })?;
            networks.push((own.clone(), network));
        }
        Ok(BoundImport { host, new, datastore, networks, appliance })
    }

    async fn act(self, bound: BoundImport, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let BoundImport { host, new, datastore, networks, appliance } = bound;
        let client = &host.host.client;
        let plan = client.import_plan(&appliance.descriptor, &new, &datastore, &networks, "thin").await?;
        let parts = plan.files.iter().map(|file| appliance.part(file)).collect::<Result<Vec<_>, Fault>>()?;
        let lease = client.import(&plan, &new).await?;
        let total: u64 = parts.iter().map(|(_, part)| part.length).sum();
        let sent = lease.during(async {
            let mut before = 0;
            for (file, part) in &parts {
                let target =
                    lease.files.iter().find(|target| target.import_key == file.device || target.key == file.device);
                let target = target.ok_or_else(|| {
                    Fault::new("esxi.bad_answer", format!("the host wants {} and gives no place for it", file.path))
                        .hint("look at the host's version and its log")
                })?;
                let open = || part.reader().map(|reader| Box::new(reader) as Box<dyn Read + Send>);
                let told = |step: esxi::Step<'_>| {
                    let own = u64::from(step.percent.unwrap_or(0)) * part.length / 100;
                    lease.progress(percent(before + own, total));
                    lease.step("import", &|step| pass.step(step));
                };
                lease.send(target, Content { length: part.length, open: &open }, &told).await?;
                before += part.length;
            }
            Ok::<(), Fault>(())
        });
        if let Err(fault) = sent.await {
            return Err(match client.left_by_import(&lease).await {
                None => fault,
                Some(left) => {
                    fault.hint(format!("left behind on {}: {left}; remove it after a look at it", host.host.name))
                }
            });
        }
        let vm = client.imported(&lease).await?;
        let vm = pass.made(&host.host, vm);
        give_vm(pass, &host.host, &vm).await
    }
}

pub(super) fn percent(done: u64, total: u64) -> u8 {
    done.saturating_mul(100).checked_div(total).and_then(|percent| u8::try_from(percent.min(100)).ok()).unwrap_or(0)
}

/// An appliance that was checked whole.
struct Appliance {
    descriptor: String,
    package: Package,
    parts: Vec<Part>,
}

/// A file of an appliance: a piece of an archive, or a file of its own.
#[derive(Clone)]
struct Part {
    name: String,
    file: Arc<LocalFile>,
    at: u64,
    length: u64,
}

impl Part {
    fn reader(&self) -> std::io::Result<impl Read + Send + use<>> {
        let mut reader = self.file.reader()?;
        reader.seek(SeekFrom::Start(self.at))?;
        Ok(reader.take(self.length))
    }

    /// Reads a small file whole.
    fn text(&self) -> Result<Vec<u8>, ova::Error> {
        if self.length > ova::LARGEST_TEXT {
            return Err(wrong(&self.name, "it is larger than any descriptor or manifest"));
        }
        let mut bytes = Vec::new();
        self.reader().and_then(|mut reader| reader.read_to_end(&mut bytes)).map_err(unread)?;
        Ok(bytes)
    }
}

fn unread(source: std::io::Error) -> ova::Error {
    ova::Error::Io { doing: "read the appliance", source }
}

fn wrong(name: &str, what: &str) -> ova::Error {
    ova::Error::Member { name: name.to_owned(), what: what.to_owned() }
}

impl Appliance {
    /// Opens an appliance and checks all of it, by its contents alone.
    fn open(file: Arc<LocalFile>) -> Result<Self, Fault> {
        let name = file.name().to_ascii_lowercase();
        let appliance = match () {
            () if name.ends_with(".ova") => Self::archive(&file)?,
            () if name.ends_with(".ovf") => Self::package(&file)?,
            () => {
                return Err(Fault::new("usage.file", format!("{}: is neither an .ova nor an .ovf", file.name()))
                    .hint("name the archive, or the descriptor that its other files lie beside"));
            }
        };
        Ok(appliance)
    }

    fn archive(file: &Arc<LocalFile>) -> Result<Self, Fault> {
        let reader = file.reader().map_err(unread)?;
        let members = ova::index(std::io::BufReader::new(reader), file.length())?;
        let part =
            |member: ova::Member| Part { name: member.name, file: file.clone(), at: member.at, length: member.length };
        let mut parts: Vec<Part> = members.into_iter().map(part).collect();
        let descriptor = parts.remove(0);
        let stem = descriptor.name.rsplit_once('.').map_or("", |(stem, _)| stem).to_owned();
        let manifest = parts.iter().position(|part| part.name == format!("{stem}.mf")).map(|at| parts.remove(at));
        Self::checked(descriptor, manifest, parts)
    }

    fn package(file: &Arc<LocalFile>) -> Result<Self, Fault> {
        let whole = |file: Arc<LocalFile>| Part { name: file.name(), length: file.length(), at: 0, file };
        let descriptor = whole(file.clone());
        let named = Package::read(&descriptor.text()?)?;
        let parts = named.files.iter().map(|part| Ok(whole(Arc::new(file.beside(&part.name)?))));
        let parts = parts.collect::<Result<Vec<_>, Fault>>()?;
        let stem = descriptor.name.rsplit_once('.').map_or("", |(stem, _)| stem);
        // A package may have none; an archive of it then has none either.
        let manifest = file.beside(&format!("{stem}.mf")).ok().map(|file| whole(Arc::new(file)));
        Self::checked(descriptor, manifest, parts)
    }

    fn checked(descriptor: Part, manifest: Option<Part>, parts: Vec<Part>) -> Result<Self, Fault> {
        let text = descriptor.text()?;
        let package = Package::read(&text)?;
        for named in &package.files {
            let part = parts.iter().find(|part| part.name == named.name);
            let part = part.ok_or_else(|| wrong(&named.name, "the descriptor names it, and it is missing"))?;
            if named.size.is_some_and(|size| size != part.length) {
                return Err(wrong(&named.name, "it is not as long as the descriptor says").into());
            }
        }
        if let Some(manifest) = manifest {
            Self::check_sums(&manifest, &descriptor, &parts)?;
        }
        for named in &package.files {
            let (Some(disk), Some(part)) = (package.disk_of(named), parts.iter().find(|part| part.name == named.name))
            else {
                continue;
            };
            let reader = std::io::BufReader::new(part.reader().map_err(unread)?);
            let capacity = StreamReader::new(reader).map_err(|error| wrong(&part.name, &error.to_string()))?.capacity();
            if capacity != disk.capacity.next_multiple_of(512) {
                return Err(wrong(&part.name, "the disk is not as large as the descriptor says").into());
            }
        }
        let descriptor = String::from_utf8(text).map_err(|_| ova::Error::Descriptor("it is not UTF-8".to_owned()))?;
        Ok(Self { descriptor, package, parts })
    }

    fn check_sums(manifest: &Part, descriptor: &Part, parts: &[Part]) -> Result<(), Fault> {
        let text =
            String::from_utf8(manifest.text()?).map_err(|_| ova::Error::Manifest("it is not UTF-8".to_owned()))?;
        let manifest = Manifest::read(&text)?;
        let all = || std::iter::once(descriptor).chain(parts);
        for (name, algorithm, sum) in &manifest.sums {
            let part = all().find(|part| part.name == *name);
            let part = part.ok_or_else(|| ova::Error::Manifest(format!("it has a sum of {name}, which is missing")))?;
            let summed = ova::summed(part.reader().map_err(unread)?, *algorithm)?;
            if summed.sum != *sum || summed.bytes != part.length {
                return Err(ova::Error::Manifest(format!("{name} does not have the sum that it says")).into());
            }
        }
        match all().find(|part| manifest.of(&part.name).is_none() && !part.name.ends_with(".cert")) {
            Some(part) => Err(ova::Error::Manifest(format!("it has no sum of {}", part.name)).into()),
            None => Ok(()),
        }
    }

    fn part(&self, file: &ImportFile) -> Result<(ImportFile, Part), Fault> {
        let part = self.parts.iter().find(|part| part.name == file.path);
        let part = part.ok_or_else(|| wrong(&file.path, "the host wants it, and the appliance does not have it"))?;
        Ok((file.clone(), part.clone()))
    }
}

/// Writes a powered-off machine into a new OVA file of this machine: its disks as streamOptimized, its firmware's variables, a manifest.
///
/// Errors: `esxi.invalid_power_state`, `local.file_exists`. After an error no file is left, and the machine is free again.
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
        if !file.name().to_ascii_lowercase().ends_with(".ova") {
            return Err(Fault::new("usage.file", format!("{}: is not named .ova", file.name()))
                .hint("an export is one archive: name it so"));
        }
        let client = &bound.host.client;
        let part = {
            let file = file.clone();
            blocking(move || file.begin(false)).await?
        };
        let to = part.file().map_err(unread);
        let made = async {
            let to = to?;
            let nvram = client.nvram(&bound.vm, &stores).await?;
            let lease = client.export(&bound.vm).await?;
            let from = Source { client, vm: &bound.vm, snapshot: None };
            lease.during(write(from, &lease, to, nvram, pass)).await
        };
        finished(&file, part, made.await).await
    }
}

/// Puts an export in its place, or takes what there is of it away.
async fn finished(
    file: &LocalFile,
    part: crate::door::file::Part,
    made: Result<Vec<ExportedPart>, Fault>,
) -> Result<Exported, Fault> {
    match made {
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

/// Writes a machine as a snapshot has it into a new OVA file of this machine; it may run meanwhile.
///
/// Its firmware's variables are those of now, and left out while the machine runs and holds them. Errors: `esxi.task_in_progress`,
/// `local.file_exists`. After an error no file is left, and the machine is free again.
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
        if !file.name().to_ascii_lowercase().ends_with(".ova") {
            return Err(Fault::new("usage.file", format!("{}: is not named .ova", file.name()))
                .hint("an export is one archive: name it so"));
        }
        let client = &bound.host.client;
        let part = {
            let file = file.clone();
            blocking(move || file.begin(false)).await?
        };
        let to = part.file().map_err(unread);
        let made = async {
            let to = to?;
            let nvram = match client.nvram(&bound.vm, &stores).await {
                Err(error) if error.is("FileLocked") || error.kind() == "esxi.file_refused" => None,
                read => read?,
            };
            let lease = client.export_snapshot(&bound.snapshot).await?;
            let from = Source { client, vm: &bound.vm, snapshot: Some(&bound.snapshot) };
            lease.during(write(from, &lease, to, nvram, pass)).await
        };
        finished(&file, part, made.await).await
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
    let (mut files, mut parts) = (Vec::new(), Vec::new());
    for (number, (disk, name)) in disks.iter().zip(&names).enumerate() {
        let shared = Shared(Arc::new(Mutex::new(archive.open()?)));
        let told = |step: esxi::Step<'_>| {
            let whole = (number as u64) * 100 + u64::from(step.percent.unwrap_or(0));
            lease.progress(percent(whole, disks.len() as u64 * 100));
            lease.step("export", &|step| pass.step(step));
        };
        let (came, sink) = lease.fetch(disk, Box::new(shared.clone()), &told).await?;
        drop(sink);
        let open = Arc::into_inner(shared.0).and_then(|open| open.into_inner().ok());
        let open = open.ok_or_else(|| {
            Fault::new("ceso.export", "a disk was still being written")
                .hint("this is a defect of ceso: please report it")
        })?;
        archive = open.close()?;
        files.push(OvfFile { device: disk.key.clone(), path: name.clone(), size: came.bytes, capacity: 0 });
        parts.push(told_part(name, came.bytes, &came.sha256));
    }
    let mut descriptor = from.client.descriptor(from.vm, from.snapshot, &from.vm.name, &files).await?;
    if let (Some(nvram), Some(name)) = (&nvram, names.last()) {
        let mut open = archive.open()?;
        open.write_all(nvram).map_err(unread)?;
        archive = open.close()?;
        descriptor = with_nvram(&descriptor, name, nvram.len(), files.len() + 1);
        let sum = <sha2::Sha256 as sha2::Digest>::digest(nvram);
        parts.push(told_part(name, nvram.len() as u64, &sum.into()));
    }
    // What the host wrote must be what is read again.
    Package::read(descriptor.as_bytes())?;
    blocking(move || Ok(archive.finish(&descriptor)?)).await?;
    Ok(parts)
}

fn told_part(name: &str, bytes: u64, sum: &[u8; 32]) -> ExportedPart {
    let sha256 = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    ExportedPart { name: name.to_owned(), size: Bytes(bytes), sha256 }
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
