//! Operations that carry files between a datastore and this machine: files that a person named, never a script.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{method, on};
use super::origin::Origin;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::datastores::BoundDatastore;
use crate::door::file::{Access, LocalFile};
use crate::door::object::{Fields, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Touch};
use crate::door::part::Part;
use crate::error::Fault;
use crate::esxi::{self, FilePath, Sum};
use crate::units::Bytes;
use crate::vmdk;

/// What the handle of a file tells; its `name` is that of the file, without its folders.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FileFields {
    /// What it was named for.
    #[schemars(extend("enum" = ["read", "write"]))]
    pub access: String,
    /// How long it is; nil for one that is to be made.
    pub size: Option<Bytes>,
}

impl Fields for FileFields {
    type Kind = kind::File;
}

/// The longest descriptor of a disk.
const LARGEST_DESCRIPTOR: u64 = 64 << 10;

/// A file that was carried over whole.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Transfer {
    /// The file on the datastore, such as `[datastore1] isos/debian.iso`.
    pub path: String,
    /// How long it is.
    pub size: Bytes,
    /// Its SHA-256, in hexadecimal, where it was summed on the way.
    pub sha256: Option<String>,
    /// How often the transfer was taken up again where it had broken off.
    pub resumed: u32,
}

impl Transfer {
    fn new(bound: &BoundDatastore, path: &FilePath, done: &esxi::Transferred) -> Self {
        let sha256 = done.sha256.map(hex::encode);
        Self { path: path.on(&bound.datastore.name), size: Bytes(done.bytes), sha256, resumed: done.resumed }
    }
}

/// Uploads a file of this machine to where nothing is yet on a datastore.
///
/// It goes to a name of its own first and is moved into place once it is whole. Errors: `esxi.file_already_exists`,
/// `esxi.no_disk_space`, `esxi.file_not_found` where its folder is not there, `local.sum`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The file of this machine: a parameter of type `file`.
    pub file: Target<kind::File>,
    /// The file on the datastore.
    pub path: String,
    /// Whether its SHA-256 is summed on the way, and told. Default: false, unless `sha256` is given.
    pub checksum: Option<bool>,
    /// What its SHA-256 must be, in hexadecimal: with another it is not put into its place. Default: any.
    pub sha256: Option<String>,
}

impl Operation for Upload {
    const NAME: &'static str = "datastore.upload";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("upload");
    const TOUCHES: &'static [Touch] = &[on("write")];
    const USAGE: &'static str = "local sent = host:datastore(\"datastore1\"):upload({ file = file, path = \"tools.iso\", checksum = true })\nprint(sent.size, sent.sha256)";

    type Bound = (BoundDatastore, Arc<LocalFile>, FilePath, Sum);
    type Output = Transfer;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let sum = wanted(Self::NAME, self.checksum, self.sha256.as_deref())?;
        let (bound, path) = binder.file_of(&self.datastore, &["write"], &self.path).await?;
        Ok((bound, binder.file(&self.file, Access::Read)?, path, sum))
    }

    async fn act(self, (bound, file, path, sum): Self::Bound, pass: &Pass<'_>) -> Result<Transfer, Fault> {
        let open = || file.reader().map(|reader| Box::new(reader) as Box<dyn std::io::Read + Send>);
        let content = esxi::Content { length: file.length(), open: &open, sum };
        let sent = bound.host.client.upload(&bound.datastore, &path, content, &|step| pass.step(step)).await?;
        pass.made_file(&bound.host, &bound.datastore, &path);
        Ok(Transfer::new(&bound, &path, &sent))
    }
}

/// Downloads a file of a datastore to a new file of this machine.
///
/// A disk's `NAME.vmdk` is its descriptor alone: that is said, with the names of the files that hold its content.
///
/// What breaks off goes on by itself, by Range where the host takes it; what still fails leaves `NAME.part`, and `NAME.part.from` that
/// says which file it is of. `resume` goes on with that in another run where the host shows that the file is still the same, and begins
/// anew where it has been changed or that cannot be known. Errors: `esxi.file_not_found`, `esxi.file_refused` where a running machine
/// holds it, `esxi.file_changed`, `local.file_exists`, `local.other_part` where the part is of another file, `local.sum`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// The datastore.
    pub datastore: Target<kind::Datastore>,
    /// The file on the datastore.
    pub path: String,
    /// The new file of this machine: a parameter of type `file` with `access = "write"`.
    pub into: Target<kind::File>,
    /// Whether to go on with what an earlier download has left. Default: false.
    pub resume: Option<bool>,
    /// Whether its SHA-256 is summed on the way, and told. Default: false, unless `sha256` is given.
    pub checksum: Option<bool>,
    /// What its SHA-256 must be, in hexadecimal: of a file with another nothing is kept. Default: any.
    pub sha256: Option<String>,
}

impl Operation for Download {
    const NAME: &'static str = "datastore.download";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("download");
    const TOUCHES: &'static [Touch] = &[on("copy_from")];
    const USAGE: &'static str =
        "host:datastore(\"datastore1\"):download({ path = \"debian-12/debian-12.vmx\", into = file })";

    type Bound = (BoundDatastore, Arc<LocalFile>, FilePath, Sum);
    type Output = Transfer;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let sum = wanted(Self::NAME, self.checksum, self.sha256.as_deref())?;
        let (bound, path) = binder.file_of(&self.datastore, &["copy_from"], &self.path).await?;
        Ok((bound, binder.file(&self.into, Access::Write)?, path, sum))
    }

    async fn act(self, (bound, file, path, wanted): Self::Bound, pass: &Pass<'_>) -> Result<Transfer, Fault> {
        let resume = self.resume == Some(true);
        let client = &bound.host.client;
        let of = client.file_state(&bound.datastore, &path).await?;
        let origin = Origin::new(&bound.host.name, path.on(&bound.datastore.name), of);
        let (part, had, word) = blocking(move || {
            let mut part = file.begin(resume)?;
            let word = match origin.take_up(&mut part) {
                Ok(word) => word,
                Err(fault) if part.length() == 0 => return part.discard().and(Err(fault)),
                Err(fault) => return Err(fault),
            };
            let had = taken(&part, origin, wanted).map_err(|error| unreadable(&part, &error))?;
            Ok((part, had, word))
        })
        .await?;
        if let Some(word) = word {
            pass.say(&word);
        }
        let sink = part.writer().map_err(|error| unreadable(&part, &error))?;
        let got = client.download(&bound.datastore, &path, had, Box::new(sink), &|step| pass.step(step)).await;
        match got {
            Ok(done) => {
                let note = blocking(move || {
                    let note = whole_disk(&part, &path, &bound.datastore.name);
                    part.finish().map(|()| (note, Transfer::new(&bound, &path, &done)))
                });
                let (note, told) = note.await?;
                if let Some(note) = note {
                    pass.say(&note);
                }
                Ok(told)
            }
            Err(error) => {
                let came = part.length();
                let fault = Fault::from(error);
                // What came whole and is not what was wanted is no part of it either.
                if came == 0 || fault.kind() == "local.sum" {
                    blocking(move || part.discard()).await?;
                    return Err(fault);
                }
                let hint = format!(
                    "{} holds what came ({}): go on with --resume, or remove it",
                    part.path().display(),
                    Bytes(came)
                );
                Err(fault.hint(hint))
            }
        }
    }
}

/// What to say of a file that is no disk and is called one: the descriptor alone has come, and the content lies beside it on the host.
fn whole_disk(part: &Part, path: &FilePath, datastore: &str) -> Option<String> {
    if !path.name().ends_with(".vmdk") || part.length() > LARGEST_DESCRIPTOR {
        return None;
    }
    let disk = vmdk::Outline::read(&std::fs::read(part.path()).ok()?)?;
    let parent = path.parent();
    let folder = if parent.is_root() { String::new() } else { format!("{parent}/") };
    let beside: Vec<String> = disk.extents.iter().map(|name| format!("[{datastore}] {folder}{name}")).collect();
    let builds = match disk.has_parent {
        true => ", which holds only what differs from the disk that it builds on",
        false => "",
    };
    Some(format!(
        "note: {} describes a disk and holds nothing of it: its content is {}{builds}. Download that too, under its own name beside it, or \
         take the whole machine: ceso vm export",
        path.on(datastore),
        beside.join(", "),
    ))
}

/// What is taken as it is, summed where that is wanted.
fn taken(part: &Part, origin: Origin, wanted: Sum) -> std::io::Result<esxi::Had> {
    let mut sum = wanted.begun();
    if let Some(sum) = &mut sum {
        std::io::copy(&mut part.taken()?, sum)?;
    }
    Ok(esxi::Had { bytes: part.from(), wanted, sum, of: Some(origin.into_state()) })
}

/// What is wanted of a sum. Faults: `usage.argument`.
fn wanted(operation: &str, checksum: Option<bool>, sha256: Option<&str>) -> Result<Sum, Fault> {
    let Some(text) = sha256 else { return Ok(if checksum == Some(true) { Sum::Told } else { Sum::No }) };
    let mut sum = [0; 32];
    hex::decode_to_slice(text, &mut sum).map_err(|_| {
        Fault::new("usage.argument", format!("{operation}: sha256: is no SHA-256"))
            .hint("64 hexadecimal digits, as sha256sum prints them")
    })?;
    Ok(Sum::Is(sum))
}

fn unreadable(part: &Part, error: &std::io::Error) -> Fault {
    Fault::new("local.file", format!("{} cannot be read: {error}", part.path().display()))
        .hint("look at the file, its folder and its disk on this machine")
}

/// Does what may take its time on a disk of this machine.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Fault::new("ceso.thread", format!("a file was not handled: {error}"))
            .hint("this is a defect of ceso: please report it"))
    })
}
