//! An appliance that is to be imported: its descriptor, and where each of its files is read.
//!
//! What lies on this machine is checked whole, its sums too, before a host hears of it. What lies at a URL is never stored: where the
//! server gives parts of it, its index, descriptor, manifest and the heads of its disks are looked at first, and the sums are made on the
//! way; where it does not, everything is checked as it comes (see [`super::package_coming`]). A file whose sum is wrong is broken off
//! before its last byte, so no upload of it is ever whole.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use super::file_transfer::blocking;
use super::package_coming::Coming;
use crate::door::bind::Binder;
use crate::door::file::LocalFile;
use crate::error::Fault;
use crate::ova::{self, Algorithm, Manifest, Package, Summing};
use crate::vmdk::StreamReader;
use crate::web::{self, Address, Web};

/// An appliance that was checked as far as can be before it is used.
pub(super) struct Appliance {
    pub descriptor: String,
    pub package: Package,
    pub parts: Parts,
}

/// Its files.
pub(super) enum Parts {
    /// All of them can be read at any time.
    There(Vec<Part>),
    /// They come one after the other, once.
    Coming(Coming),
}

/// A file of an appliance: a piece of an archive, or a file of its own.
pub(super) struct Part {
    pub name: String,
    pub length: u64,
    at: u64,
    origin: Origin,
    /// The sum that is still to be compared, while it is read.
    sum: Option<(Algorithm, String)>,
    /// Why the last reading of it was broken off.
    failure: Arc<Mutex<Option<Fault>>>,
}

#[derive(Clone)]
enum Origin {
    File(Arc<LocalFile>),
    Web(Arc<web::File>),
}

impl Origin {
    /// Reads some of it, for looking at it.
    fn look(&self, at: u64, length: u64) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::File(file) => {
                let mut reader = file.reader()?;
                reader.seek(SeekFrom::Start(at))?;
                Ok(Box::new(reader.take(length)))
            }
            Self::Web(file) if file.has_ranges() => {
                let mut window = file.window();
                window.seek(SeekFrom::Start(at))?;
                Ok(Box::new(window.take(length)))
            }
            Self::Web(file) => Ok(Box::new(file.stream(at, Some(length)))),
        }
    }

    /// Why reading it failed, where that is not its content's fault.
    fn failure(&self) -> Option<Fault> {
        match self {
            Self::File(_) => None,
            Self::Web(file) => file.failure().map(Fault::from),
        }
    }
}

impl Part {
    fn new(name: String, origin: Origin, at: u64, length: u64) -> Self {
        Self { name, length, at, origin, sum: None, failure: Arc::default() }
    }

    fn look(&self) -> Result<Box<dyn Read + Send>, Fault> {
        Ok(self.origin.look(self.at, self.length).map_err(unread)?)
    }

    /// Reads it from its beginning to its end; where a sum is to be compared, the last bytes come only if it is right.
    pub fn reader(&self) -> io::Result<Box<dyn Read + Send>> {
        let from = match &self.origin {
            Origin::Web(file) => Box::new(file.stream(self.at, Some(self.length))),
            origin => origin.look(self.at, self.length)?,
        };
        let Some((algorithm, sum)) = &self.sum else { return Ok(from) };
        let (sum, summing) = (sum.clone(), Summing::new(*algorithm));
        let (name, failure) = (self.name.clone(), self.failure.clone());
        Ok(Box::new(Compared { from, left: self.length, name, sum, summing: Some(summing), failure }))
    }

    /// Why a reading of it ended early, where it did and this machine is not to blame.
    pub fn failure(&self) -> Option<Fault> {
        let own = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        own.or_else(|| self.origin.failure())
    }
}

/// A reader that compares a sum before it gives the last bytes.
struct Compared {
    from: Box<dyn Read + Send>,
    left: u64,
    name: String,
    sum: String,
    summing: Option<Summing>,
    failure: Arc<Mutex<Option<Fault>>>,
}

impl Read for Compared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Some(summing) = &mut self.summing {
            summing.update(buffer.get(..count).unwrap_or_default());
        }
        self.left = self.left.saturating_sub(count as u64);
        if self.left == 0
            && let Some(summing) = self.summing.take()
            && summing.done().sum != self.sum
        {
            let fault = Fault::from(not_its_sum(&self.name));
            let told = io::Error::other(fault.message().to_owned());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            return Err(told);
        }
        Ok(count)
    }
}

pub(super) fn unread(source: io::Error) -> ova::Error {
    ova::Error::Io { doing: "read the appliance", source }
}

pub(super) fn wrong(name: &str, what: &str) -> ova::Error {
    ova::Error::Member { name: name.to_owned(), what: what.to_owned() }
}

/// A file of another length than the descriptor says: where a manifest has its sum, that is what counts.
pub(super) const OTHER_LENGTH: &str =
    "it is not as long as the descriptor says, nor is that how large its disk is, and no manifest has its sum";

pub(super) fn not_its_sum(name: &str) -> ova::Error {
    ova::Error::Manifest(format!("{name} does not have the sum that it says"))
}

/// The most that a disk of that size may take as a stream: grains that cannot be packed, each with its header.
pub(super) fn longest_stream(capacity: u64) -> u64 {
    capacity.saturating_mul(2).saturating_add(64 << 20)
}

/// Checks the head of a disk's content against what the descriptor says of it.
pub(super) fn check_disk(name: &str, capacity: u64, content: impl Read) -> Result<(), Fault> {
    let own = StreamReader::new(content).map_err(|error| wrong(name, &error.to_string()))?.capacity();
    if own != capacity.next_multiple_of(512) {
        return Err(wrong(name, "the disk is not as large as the descriptor says").into());
    }
    Ok(())
}

pub(super) fn text_of(bytes: Vec<u8>) -> Result<String, ova::Error> {
    String::from_utf8(bytes).map_err(|_| ova::Error::Descriptor("it is not UTF-8".to_owned()))
}

/// Reads a small file whole.
pub(super) fn small(name: &str, from: impl Read) -> Result<Vec<u8>, ova::Error> {
    let mut bytes = Vec::new();
    from.take(ova::LARGEST_TEXT + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > ova::LARGEST_TEXT {
        return Err(wrong(name, "it is larger than any descriptor or manifest"));
    }
    Ok(bytes)
}

pub(super) fn read_manifest(bytes: Vec<u8>) -> Result<Manifest, ova::Error> {
    Manifest::read(&String::from_utf8(bytes).map_err(|_| ova::Error::Manifest("it is not UTF-8".to_owned()))?)
}

/// The name of the manifest beside a descriptor.
pub(super) fn manifest_of(descriptor: &str) -> String {
    format!("{}.mf", descriptor.rsplit_once('.').map_or("", |(stem, _)| stem))
}

fn neither(name: &str) -> Fault {
    Fault::new("usage.file", format!("{name}: is neither an .ova nor an .ovf"))
        .hint("name the archive, or the descriptor that its other files lie beside")
}

fn ends(name: &str, extension: &str) -> bool {
    name.to_ascii_lowercase().ends_with(extension)
}

impl Appliance {
    /// Opens an appliance of this machine and checks all of it, by its contents alone.
    pub fn open(file: Arc<LocalFile>) -> Result<Self, Fault> {
        let name = file.name();
        match () {
            () if ends(&name, ".ova") => {
                Self::archive(&Origin::File(file.clone()), file.length(), file.reader().map_err(unread)?)
            }
            () if ends(&name, ".ovf") => Self::package(file),
            () => Err(neither(&name)),
        }
    }

    /// Opens an appliance at a URL, and checks as much of it as can be seen before it comes.
    pub async fn fetch(web: Arc<Web>, address: Address, binder: &Binder<'_>) -> Result<Self, Fault> {
        let name = address.file_name();
        if !ends(&name, ".ova") && !ends(&name, ".ovf") {
            return Err(neither(&address.name()));
        }
        let file = Arc::new(web::File::open(web.clone(), address).await?);
        binder.went(file.went())?;
        if ends(&name, ".ovf") {
            return Self::fetch_package(web, file, binder).await;
        }
        let Some(length) = file.length().filter(|_| file.has_ranges()) else { return Coming::begin(file).await };
        blocking(move || {
            let origin = Origin::Web(file.clone());
            Self::archive(&origin, length, file.window()).map_err(|fault| origin.failure().unwrap_or(fault))
        })
        .await
    }

    fn archive(origin: &Origin, length: u64, index: impl Read + Seek) -> Result<Self, Fault> {
        let members = ova::index(io::BufReader::new(index), length)?;
        let part = |member: ova::Member| Part::new(member.name, origin.clone(), member.at, member.length);
        let mut parts: Vec<Part> = members.into_iter().map(part).collect();
        let descriptor = parts.remove(0);
        let name = manifest_of(&descriptor.name);
        let manifest = parts.iter().position(|part| part.name == name).map(|at| parts.remove(at));
        let manifest = manifest.map(|part| Ok::<_, Fault>(small(&part.name, part.look()?)?)).transpose()?;
        let text = small(&descriptor.name, descriptor.look()?)?;
        Self::checked((descriptor.name, text), manifest, parts)
    }

    fn package(file: Arc<LocalFile>) -> Result<Self, Fault> {
        let whole = |file: Arc<LocalFile>| Part::new(file.name(), Origin::File(file.clone()), 0, file.length());
        let descriptor = whole(file.clone());
        let text = small(&descriptor.name, descriptor.look()?)?;
        let named = Package::read(&text)?;
        let parts = named.files.iter().map(|part| Ok(whole(Arc::new(file.beside(&part.name)?))));
        let parts = parts.collect::<Result<Vec<_>, Fault>>()?;
        // A package may have none; an archive of it then has none either.
        let manifest = file.beside(&manifest_of(&descriptor.name)).ok().map(|file| whole(Arc::new(file)));
        let manifest = manifest.map(|part| Ok::<_, Fault>(small(&part.name, part.look()?)?)).transpose()?;
        Self::checked((descriptor.name, text), manifest, parts)
    }

    async fn fetch_package(web: Arc<Web>, file: Arc<web::File>, binder: &Binder<'_>) -> Result<Self, Fault> {
        let address = file.address().clone();
        let name = address.file_name();
        let text = Self::fetch_small(file, name.clone()).await?;
        let named = Package::read(&text)?;
        let mut parts = Vec::new();
        for part in &named.files {
            let file = web::File::open(web.clone(), address.beside(&part.name)?).await?;
            binder.went(file.went())?;
            let length = file.length().ok_or_else(|| {
                Fault::new("web.bad_answer", format!("{} does not say how long it is", file.address().name()))
                    .hint("get the appliance first, and import it from this machine")
            })?;
            parts.push(Part::new(part.name.clone(), Origin::Web(Arc::new(file)), 0, length));
        }
        let manifest = match web::File::open(web, address.beside(&manifest_of(&name))?).await {
            Ok(file) => Some(Self::fetch_small(Arc::new(file), manifest_of(&name)).await?),
            // A package may have none.
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        blocking(move || Self::checked((name, text), manifest, parts)).await
    }

    async fn fetch_small(file: Arc<web::File>, name: String) -> Result<Vec<u8>, Fault> {
        let stream = file.stream(0, None);
        blocking(move || {
            let read = small(&name, stream);
            read.map_err(|error| file.failure().map_or_else(|| error.into(), Fault::from))
        })
        .await
    }

    fn checked(descriptor: (String, Vec<u8>), manifest: Option<Vec<u8>>, mut parts: Vec<Part>) -> Result<Self, Fault> {
        let package = Package::read(&descriptor.1)?;
        let manifest = manifest.map(read_manifest).transpose()?;
        let vouched = |name: &str| manifest.as_ref().is_some_and(|manifest| manifest.of(name).is_some());
        for named in &package.files {
            let part = parts.iter().find(|part| part.name == named.name);
            let part = part.ok_or_else(|| wrong(&named.name, "the descriptor names it, and it is missing"))?;
            if !package.fits(named, part.length) && !vouched(&named.name) {
                return Err(wrong(&named.name, OTHER_LENGTH).into());
            }
            if package.disk_of(named).is_some_and(|disk| part.length > longest_stream(disk.capacity)) {
                return Err(wrong(&named.name, "it is longer than a disk of its size can be").into());
            }
        }
        if let Some(manifest) = &manifest {
            check_sums(manifest, &descriptor, &mut parts)?;
        }
        for named in &package.files {
            let (Some(disk), Some(part)) = (package.disk_of(named), parts.iter().find(|part| part.name == named.name))
            else {
                continue;
            };
            let seen = check_disk(&part.name, disk.capacity, io::BufReader::new(part.look()?));
            seen.map_err(|fault| part.origin.failure().unwrap_or(fault))?;
        }
        let descriptor = text_of(descriptor.1)?;
        Ok(Self { descriptor, package, parts: Parts::There(parts) })
    }
}

/// Compares the sums of what lies on this machine, and notes those of the rest.
fn check_sums(manifest: &Manifest, descriptor: &(String, Vec<u8>), parts: &mut [Part]) -> Result<(), Fault> {
    for (name, algorithm, sum) in &manifest.sums {
        if *name == descriptor.0 {
            if ova::summed(descriptor.1.as_slice(), *algorithm)?.sum != *sum {
                return Err(not_its_sum(name).into());
            }
            continue;
        }
        let part = parts.iter_mut().find(|part| part.name == *name);
        let part = part.ok_or_else(|| ova::Error::Manifest(format!("it has a sum of {name}, which is missing")))?;
        if let Origin::Web(_) = part.origin {
            part.sum = Some((*algorithm, sum.clone()));
            continue;
        }
        let summed = ova::summed(part.look()?, *algorithm)?;
        if summed.sum != *sum || summed.bytes != part.length {
            return Err(not_its_sum(name).into());
        }
    }
    let all = std::iter::once(&descriptor.0).chain(parts.iter().map(|part| &part.name));
    check_all_summed(manifest, all)
}

/// Errors: a file that has no sum.
pub(super) fn check_all_summed<'a>(
    manifest: &Manifest,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), Fault> {
    match names.find(|name| manifest.of(name).is_none() && !name.ends_with(".cert")) {
        Some(name) => Err(ova::Error::Manifest(format!("it has no sum of {name}")).into()),
        None => Ok(()),
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Parts::There(parts) = &self.parts {
            for part in parts {
                if let Origin::Web(file) = &part.origin {
                    file.stop();
                }
            }
        }
    }
}
