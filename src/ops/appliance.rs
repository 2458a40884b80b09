//! Brings machines in from OVF and OVA files of this machine: the whole appliance is checked before a host hears of it.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::file_transfer::blocking;
use super::rows::give_vm;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, Content, ImportFile, NewVm};
use crate::ova::{self, Manifest, Package};
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
    /// On a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the datacenter's own.
    pub folder: Option<String>,
    /// On a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the only one there is.
    pub place: Option<String>,
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
        let at = esxi::Placement { folder: self.folder, place: self.place };
        let client = &host.host.client;
        let plan = client.import_plan(&appliance.descriptor, &new, &datastore, &networks, "thin", &at).await?;
        let parts = plan.files.iter().map(|file| appliance.part(file)).collect::<Result<Vec<_>, Fault>>()?;
        let lease = client.import(&plan, &new, &at).await?;
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

pub(super) fn unread(source: std::io::Error) -> ova::Error {
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
