//! Virtual disks as a host keeps them: a text descriptor `NAME.vmdk` and the content `NAME-flat.vmdk`, sparse on our side.
//!
//! The form is VMware's "Virtual Disk Format 5.0" with the `createType` of a VMFS datastore; qemu-img reads and writes it. A disk that
//! builds on another names it in its descriptor (`parentFileNameHint`, `parentCID`) and keeps its own writes in `NAME-delta.vmdk`; how
//! such links are followed is told by `chain`. Other forms are recognised and refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::vmdk::data_in;

use super::changes;
use super::delta::Delta;

/// Descriptors are text of a few hundred bytes; what is larger is content.
const LARGEST_DESCRIPTOR: u64 = 64 << 10;
const SECTOR: u64 = 512;
/// Zeros are looked for in pieces of this size when a disk is copied.
const BLOCK: usize = 64 << 10;
/// The largest disk of VMFS 6: 62 TiB.
pub const LARGEST: u64 = 62 << 40;

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VmdkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not the descriptor of a virtual disk: {0}")]
    Format(&'static str),
    #[error("the disk is being copied no longer: the task was canceled")]
    Canceled,
    /// What was copied so far stays.
    #[error("the disk is being copied no longer: the host's agent was started anew")]
    Abandoned,
}

/// What a descriptor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub capacity: u64,
    /// The name of the file that holds the content, in the same folder.
    pub extent: String,
    /// `lsilogic`, `buslogic`, `ide`, …
    pub adapter: String,
    pub thin: bool,
    /// Whether every block was written once, which VMFS notes in its own tables and a file system here does not.
    pub zeroed: bool,
    pub uuid: String,
    /// The content's number: it changes whenever the content does.
    pub cid: u32,
    /// What a delta builds on.
    pub parent: Option<Parent>,
}

/// Where the space of a disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Taken as it is written.
    Thin,
    /// Kept for it from the beginning, and zeroed as it is written.
    Kept,
    /// Kept, and zeroed at once (`eagerZeroedThick`).
    Zeroed,
}

/// The disk below a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its path, from the delta's folder.
    pub hint: String,
    /// The number that its content had when the delta was made.
    pub cid: u32,
}

/// Where a descriptor says that every block was written once.
const ZEROED: &str = "ddb.ceso.zeroed";
/// The number that stands for "no parent".
const NO_PARENT: u32 = u32::MAX;

impl Descriptor {
    /// Reads the descriptor at `path`.
    pub fn read(path: &Path) -> Result<Self, VmdkError> {
        let file = File::open(path)?;
        if file.metadata()?.len() > LARGEST_DESCRIPTOR {
            return Err(VmdkError::Format("it is too large for a descriptor"));
        }
        let mut text = String::new();
        match file.take(LARGEST_DESCRIPTOR).read_to_string(&mut text) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(VmdkError::Format("it is not text"));
            }
            other => other?,
        };
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, VmdkError> {
        if !text.trim_start().starts_with("# Disk DescriptorFile") {
            return Err(VmdkError::Format("it does not begin as one"));
        }
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        let hexadecimal = |name: &str| value(name).and_then(|cid| u32::from_str_radix(&cid, 16).ok());
        let parent = match value("createType").as_deref() {
            Some("vmfs" | "monolithicFlat") => None,
            Some("vmfsSparse") => {
                let hint = value("parentFileNameHint").filter(|hint| !hint.is_empty());
                let cid = hexadecimal("parentCID").filter(|cid| *cid != NO_PARENT);
                let parent = hint.zip(cid).map(|(hint, cid)| Parent { hint, cid });
                Some(parent.ok_or(VmdkError::Format("it is a delta and names no parent"))?)
            }
            _ => return Err(VmdkError::Format("its createType is not vmfs, monolithicFlat or vmfsSparse")),
        };
        let kinds: &[&str] = if parent.is_some() { &["VMFSSPARSE"] } else { &["VMFS", "FLAT"] };
        let mut extents = text.lines().filter_map(|line| extent(line, kinds));
        let (sectors, extent) = extents.next().ok_or(VmdkError::Format("it names no extent of its kind"))?;
        if extents.next().is_some() {
            return Err(VmdkError::Format("it has more than one extent"));
        }
        let capacity = sectors.checked_mul(SECTOR).filter(|capacity| *capacity <= LARGEST);
        Ok(Self {
            capacity: capacity.ok_or(VmdkError::Format("it is larger than 62 TiB"))?,
            extent,
            adapter: value("ddb.adapterType").unwrap_or_else(|| "lsilogic".to_owned()),
            thin: value("ddb.thinProvisioned").as_deref() == Some("1"),
            zeroed: value(ZEROED).as_deref() == Some("1"),
            uuid: value("ddb.uuid").unwrap_or_default(),
            cid: hexadecimal("CID").unwrap_or(NO_PARENT - 1),
            parent,
        })
    }

    /// The UUID as the API writes it: `6000c29a-…`.
    pub fn api_uuid(&self) -> String {
        let hex: String = self.uuid.chars().filter(char::is_ascii_hexdigit).collect();
        Uuid::try_parse(&hex).map(|uuid| uuid.to_string()).unwrap_or(hex)
    }

    fn text(&self) -> String {
        let sectors = self.capacity.div_ceil(SECTOR);
        let cylinders = (sectors / (255 * 63)).min(65535);
        let space = match (self.thin, self.zeroed) {
            (true, _) => "ddb.thinProvisioned = \"1\"\n".to_owned(),
            (false, true) => format!("{ZEROED} = \"1\"\n"),
            (false, false) => String::new(),
        };
        let (form, kind) = if self.parent.is_some() { ("vmfsSparse", "VMFSSPARSE") } else { ("vmfs", "VMFS") };
        let parent = self.parent.as_ref().map_or(NO_PARENT, |parent| parent.cid);
        let hint = self.parent.as_ref().map(|parent| format!("parentFileNameHint=\"{}\"\n", parent.hint));
        let hint = hint.unwrap_or_default();
        format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\nparentCID={parent:08x}\ncreateType=\"{form}\"\n{hint}\n\
             # Extent description\nRW {sectors} {kind} \"{}\"\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"{}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n\
             {space}ddb.uuid = \"{}\"\nddb.virtualHWVersion = \"21\"\n",
            self.cid, self.extent, self.adapter, self.uuid
        )
    }

    /// The file that holds the content of the disk whose descriptor is at `path`.
    pub fn content(&self, path: &Path) -> PathBuf {
        path.with_file_name(&self.extent)
    }

    /// How many bytes the content takes on the disk.
    pub fn stored(&self, path: &Path) -> u64 {
        match fs::metadata(self.content(path)) {
            Ok(metadata) if self.parent.is_some() => metadata.len(),
            Ok(metadata) if self.thin => allocated(&metadata).min(self.capacity),
            Ok(_) => self.capacity,
            Err(_) => 0,
        }
    }
}

/// `RW 8388608 VMFS "name-flat.vmdk"`, with the name held to the same folder.
fn extent(line: &str, kinds: &[&str]) -> Option<(u64, String)> {
    let rest = line.trim().strip_prefix("RW ")?;
    let (sectors, rest) = rest.split_once(' ')?;
    let (kind, rest) = rest.split_once(' ')?;
    let name = rest.trim().strip_prefix('"')?.split('"').next()?;
    let held = kinds.contains(&kind) && !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
    held.then(|| Some((sectors.parse().ok()?, name.to_owned())))?
}

#[cfg(unix)]
pub fn allocated(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
pub fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

/// A UUID in the form of a descriptor: sixteen bytes, a dash in the middle.
pub fn new_uuid() -> String {
    let bytes = Uuid::new_v4();
    let mut bytes = *bytes.as_bytes();
    [bytes[0], bytes[1], bytes[2]] = [0x60, 0x00, 0xc2];
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}", hex[..8].join(" "), hex[8..].join(" "))
}

/// Makes an empty disk. Neither of its two files may be there yet.
pub fn create(path: &Path, capacity: u64, adapter: &str, space: Space) -> Result<Descriptor, VmdkError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or(VmdkError::Format("its name is not text"))?;
    let uuid = new_uuid();
    let cid = u32::from_str_radix(&uuid.replace(' ', "").chars().rev().take(8).collect::<String>(), 16).unwrap_or(1);
    let descriptor = Descriptor {
        capacity: capacity.div_ceil(SECTOR) * SECTOR,
        extent: format!("{stem}-flat.vmdk"),
        adapter: adapter.to_ascii_lowercase(),
        thin: space == Space::Thin,
        zeroed: space == Space::Zeroed,
        uuid,
        cid,
        parent: None,
    };
    let content = descriptor.content(path);
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let made = OpenOptions::new().write(true).create_new(true).open(&content).and_then(|flat| {
        flat.set_len(descriptor.capacity)?;
        file.write_all(descriptor.text().as_bytes())
    });
    if let Err(error) = made {
        fs::remove_file(path)?;
        if error.kind() != io::ErrorKind::AlreadyExists {
            fs::remove_file(&content)?;
        }
        return Err(error.into());
    }
    Ok(descriptor)
}

/// Copies any file, which must not be there yet, with its holes.
pub fn copy_file(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(i32) -> Result<(), VmdkError>,
) -> Result<(), VmdkError> {
    let length = fs::metadata(from)?.len();
    OpenOptions::new().write(true).create_new(true).open(to)?.set_len(length)?;
    let copied = copy_content(from, to, length, &mut progress);
    if copied.is_err() {
        fs::remove_file(to)?;
    }
    copied
}

pub fn copy_content(
    from: &Path,
    to: &Path,
    length: u64,
    progress: &mut impl FnMut(i32) -> Result<(), VmdkError>,
) -> Result<(), VmdkError> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).open(to)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Some(begin) = data_in(&source, at..length)?.map(|data| data.start) {
        source.seek(SeekFrom::Start(begin))?;
        let count = source.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        let mut place = begin;
        for block in read.chunks(BLOCK) {
            if block.iter().any(|byte| *byte != 0) {
                target.seek(SeekFrom::Start(place))?;
                target.write_all(block)?;
            }
            place += block.len() as u64;
        }
        at = begin + count as u64;
        let percent = at.saturating_mul(100).checked_div(length).unwrap_or(100).min(99);
        progress(i32::try_from(percent).unwrap_or(99))?;
    }
    Ok(())
}

/// Hands over where a file has data.
pub fn data(file: &File, take: &mut impl FnMut(u64, u64)) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut at = 0;
    while let Some(data) = data_in(file, at..length)? {
        take(data.start, data.end - data.start);
        at = data.end.max(at + 1);
    }
    Ok(())
}

/// Makes an empty delta above the disk whose descriptor is `below`. Neither of its two files may be there yet.
pub fn create_delta(
    path: &Path,
    below: &Descriptor,
    hint: &str,
    uuid: Option<String>,
) -> Result<Descriptor, VmdkError> {
    if hint.chars().any(|c| c.is_control() || c == '"') {
        return Err(VmdkError::Format("its parent's name cannot stand in a descriptor"));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or(VmdkError::Format("its name is not text"))?;
    let descriptor = Descriptor {
        extent: format!("{stem}-delta.vmdk"),
        uuid: uuid.unwrap_or_else(|| below.uuid.clone()),
        parent: Some(Parent { hint: hint.to_owned(), cid: below.cid }),
        ..below.clone()
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let made = Delta::create(&descriptor.content(path), descriptor.capacity)
        .and_then(|()| Ok(file.write_all(descriptor.text().as_bytes())?));
    if let Err(error) = made {
        fs::remove_file(path)?;
        return Err(error);
    }
    Ok(descriptor)
}

/// Notes that the content has changed: whatever builds on what it was will find out.
pub fn touch(path: &Path) -> Result<(), VmdkError> {
    let mut descriptor = Descriptor::read(path)?;
    descriptor.cid = changed(descriptor.cid);
    rewrite(path, &descriptor)
}

/// The number of a content after a change.
fn changed(cid: u32) -> u32 {
    match cid.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) {
        next if next >= NO_PARENT - 1 => 1,
        next => next,
    }
}

/// Grows a disk; a smaller size, and a delta, are refused by the caller.
pub fn extend(path: &Path, capacity: u64) -> Result<(), VmdkError> {
    let mut descriptor = Descriptor::read(path)?;
    if descriptor.parent.is_some() {
        return Err(VmdkError::Format("a delta cannot be extended"));
    }
    descriptor.cid = changed(descriptor.cid);
    descriptor.capacity = capacity.div_ceil(SECTOR) * SECTOR;
    // What is new was never written.
    descriptor.zeroed = false;
    OpenOptions::new().write(true).open(descriptor.content(path))?.set_len(descriptor.capacity)?;
    rewrite(path, &descriptor)
}

/// Sets the UUID, given as 32 hexadecimal digits with any separators.
pub fn set_uuid(path: &Path, uuid: &Uuid) -> Result<(), VmdkError> {
    let mut descriptor = Descriptor::read(path)?;
    let hex: Vec<String> = uuid.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    descriptor.uuid = format!("{}-{}", hex[..8].join(" "), hex[8..].join(" "));
    rewrite(path, &descriptor)
}

/// Gives a disk all of its space, with zeros where nothing was written.
pub fn inflate(path: &Path) -> Result<(), VmdkError> {
    let mut descriptor = Descriptor::read(path)?;
    if descriptor.parent.is_some() {
        return Err(VmdkError::Format("a delta cannot be inflated"));
    }
    descriptor.thin = false;
    descriptor.zeroed = true;
    rewrite(path, &descriptor)
}

/// Gives back the space that a thin disk holds with nothing but zeros in it; others keep what they have.
pub fn shrink(path: &Path) -> Result<(), VmdkError> {
    let descriptor = Descriptor::read(path)?;
    if !descriptor.thin {
        return Ok(());
    }
    let mut file = OpenOptions::new().read(true).write(true).open(descriptor.content(path))?;
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while let Some(data) = data_in(&file, at..descriptor.capacity)? {
        let begin = data.start - data.start % BLOCK as u64;
        file.seek(SeekFrom::Start(begin))?;
        let count = usize::try_from(descriptor.capacity - begin).unwrap_or(BLOCK).min(BLOCK);
        let Some(read) = block.get_mut(..count) else { break };
        file.read_exact(read)?;
        if read.iter().all(|byte| *byte == 0) {
            let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, hole, begin, count as u64).map_err(io::Error::from)?;
        }
        at = begin + BLOCK as u64;
    }
    Ok(())
}

/// Moves a disk: its content is renamed with it.
pub fn rename(from: &Path, to: &Path) -> Result<(), VmdkError> {
    let mut descriptor = Descriptor::read(from)?;
    let old = descriptor.content(from);
    let stem = to.file_stem().and_then(|stem| stem.to_str()).ok_or(VmdkError::Format("its name is not text"))?;
    let part = if descriptor.parent.is_some() { "delta" } else { "flat" };
    descriptor.extent = format!("{stem}-{part}.vmdk");
    let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
    file.write_all(descriptor.text().as_bytes())?;
    fs::rename(old, descriptor.content(to))?;
    fs::remove_file(from)?;
    Ok(())
}

/// Writes a descriptor in place of the old one.
pub fn rewrite(path: &Path, descriptor: &Descriptor) -> Result<(), VmdkError> {
    let folder = path.parent().ok_or(VmdkError::Format("it has no folder"))?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(descriptor.text().as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Removes a disk: its descriptor and its content.
pub fn remove(path: &Path) -> Result<(), VmdkError> {
    let content = Descriptor::read(path).map(|descriptor| descriptor.content(path));
    fs::remove_file(path)?;
    // Deltas share their base's change map, and leave it to the base.
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if changes::beside(path).ends_with(format!("{stem}-ctk.vmdk")) {
        changes::Map::remove(path)?;
    }
    match content.map(fs::remove_file) {
        Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// How a disk of the simulator's own begins: a jump to itself, and who says so.
pub const SYSTEM: &[u8] = b"\xeb\xfeSIMULATOR: a guest that boots; there is no system in it.";

/// Writes a first sector that stands for an installed system.
pub fn install(path: &Path) -> Result<(), VmdkError> {
    let descriptor = Descriptor::read(path)?;
    let mut sector = [0; 512];
    sector.iter_mut().zip(SYSTEM).for_each(|(byte, text)| *byte = *text);
    [sector[510], sector[511]] = [0x55, 0xaa];
    OpenOptions::new().write(true).open(descriptor.content(path))?.write_all(&sector)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shrunk_disk_gives_back_its_zeros_and_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vmdk");
        let content = create(&path, 4 << 20, "lsilogic", Space::Thin).unwrap().content(&path);
        let mut bytes = vec![0; 4 << 20];
        bytes[1 << 20] = 7;
        fs::write(&content, &bytes).unwrap();
        shrink(&path).unwrap();
        assert_eq!(fs::read(&content).unwrap(), bytes);
        assert!(allocated(&fs::metadata(&content).unwrap()) <= 128 << 10);
        inflate(&path).unwrap();
        let descriptor = Descriptor::read(&path).unwrap();
        assert!(descriptor.zeroed && !descriptor.thin && descriptor.stored(&path) == 4 << 20);
        shrink(&path).unwrap();
        extend(&path, 5 << 20).unwrap();
        assert!(!Descriptor::read(&path).unwrap().zeroed);
    }

    #[test]
    fn a_descriptor_cannot_lead_out_of_its_folder() {
        let hostile = "# Disk DescriptorFile\ncreateType=\"vmfs\"\nRW 8 VMFS \"../../etc/passwd\"\n";
        assert!(matches!(Descriptor::parse(hostile), Err(VmdkError::Format(_))));
        let huge = format!("# Disk DescriptorFile\ncreateType=\"vmfs\"\nRW {} VMFS \"x\"\n", u64::MAX);
        assert!(matches!(Descriptor::parse(&huge), Err(VmdkError::Format(_))));
        let orphan = "# Disk DescriptorFile\ncreateType=\"vmfsSparse\"\nRW 8 VMFSSPARSE \"x\"\n";
        assert!(matches!(Descriptor::parse(orphan), Err(VmdkError::Format(_))));
    }
}
