//! Disks that build on others: the chain from the disk that is written to down to its base, read, copied, written and merged.
//!
//! A chain is followed by what the descriptors say, never out of the datastore, and only as long as each parent still has the content
//! that its child was made on: after a write to a parent its children do not open any more, as on a host.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::changes::{self, BLOCK, Map};
use super::delta::Delta;
use super::path::DatastorePath;
use super::vmdk::{self, Descriptor, Space, VmdkError};
use super::{Datastore, disk_fault};
use crate::sim::fault::VimFault;

/// The longest chain that a host opens: 32 snapshots above a base, and a linked clone's parents.
const LONGEST: usize = 64;
const SECTOR: u64 = 512;

/// One file of a chain.
#[derive(Debug, Clone)]
pub struct Link {
    pub path: DatastorePath,
    /// The descriptor's file.
    pub at: PathBuf,
    pub descriptor: Descriptor,
}

/// A disk and all that it builds on.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The disk itself first, its base last; never empty.
    pub links: Vec<Link>,
}

fn link(datastore: &Datastore, path: &DatastorePath) -> Result<Link, VimFault> {
    let at = datastore.resolve(path)?;
    let descriptor = Descriptor::read(&at).map_err(|error| disk_fault(path, &error))?;
    Ok(Link { path: path.clone(), at, descriptor })
}

impl Chain {
    /// Opens the chain of a disk and holds each link against its parent.
    ///
    /// Faults: those of a file that is not there or is no disk; `GenericVmConfigFault` where a parent was modified.
    pub fn open(datastore: &Datastore, path: &DatastorePath) -> Result<Self, VimFault> {
        let mut links = vec![link(datastore, path)?];
        while let Some((top, parent)) = links.last().and_then(|top| Some((top, top.descriptor.parent.as_ref()?))) {
            let broken = |why: &str| {
                VimFault::new(
                    "GenericVmConfigFault",
                    format!("Cannot open the disk '{path}' or one of the snapshot disks it depends on. {why}"),
                )
                .with("reason", why.to_owned())
            };
            if links.len() >= LONGEST {
                return Err(broken("The chain is too long, or leads back to itself."));
            }
            let below = top.path.parent().relative(&parent.hint);
            let below = below.ok_or_else(|| broken("A parent's name leads out of the datastore."))?;
            let below = link(datastore, &below)?;
            if below.descriptor.cid != parent.cid || below.descriptor.capacity != top.descriptor.capacity {
                return Err(broken("The parent virtual disk has been modified since the child was created."));
            }
            links.push(below);
        }
        Ok(Self { links })
    }

    /// The disk itself.
    pub fn top(&self) -> Result<&Link, VmdkError> {
        self.links.first().ok_or(VmdkError::Format("a chain without a disk"))
    }

    pub fn capacity(&self) -> u64 {
        self.links.first().map_or(0, |top| top.descriptor.capacity)
    }

    /// How many bytes its content takes at most, without the zeros that were never written.
    pub fn stored(&self) -> u64 {
        let stored = self.links.iter().map(|link| link.descriptor.stored(&link.at)).sum::<u64>();
        stored.min(self.capacity())
    }

    /// Opens it for reading.
    pub fn reader(&self) -> Result<Reader, VmdkError> {
        let layer = |link: &Link| {
            let content = link.descriptor.content(&link.at);
            Ok(match link.descriptor.parent {
                Some(_) => Layer::Delta(Delta::open(&content, link.descriptor.capacity, false)?),
                None => Layer::Flat(File::open(content)?),
            })
        };
        Ok(Reader {
            layers: self.links.iter().map(layer).collect::<Result<_, VmdkError>>()?,
            capacity: self.capacity(),
        })
    }

    /// Copies what the disk holds into a new flat disk, its holes with it. `progress` hears percents and may end it.
    pub fn copy(
        &self,
        to: &Path,
        adapter: &str,
        space: Space,
        mut progress: impl FnMut(i32) -> Result<(), VmdkError>,
    ) -> Result<(), VmdkError> {
        let target = vmdk::create(to, self.capacity(), adapter, space)?;
        let copied = self.copy_content(&target.content(to), &mut progress);
        if copied.is_err() && !matches!(copied, Err(VmdkError::Abandoned)) {
            vmdk::remove(to)?;
        }
        copied
    }

    fn copy_content(
        &self,
        target: &Path,
        progress: &mut impl FnMut(i32) -> Result<(), VmdkError>,
    ) -> Result<(), VmdkError> {
        let (base, deltas) = self.links.split_last().ok_or(VmdkError::Format("a chain without a disk"))?;
        vmdk::copy_content(&base.descriptor.content(&base.at), target, self.capacity(), progress)?;
        let file = OpenOptions::new().write(true).open(target)?;
        for link in deltas.iter().rev() {
            let delta = Delta::open(&link.descriptor.content(&link.at), link.descriptor.capacity, false)?;
            each(&delta, |sector, bytes| Ok(file.write_all_at(bytes, sector * SECTOR)?))?;
            progress(99)?;
        }
        // What lies behind the last whole sector of a delta was never the disk's.
        Ok(file.set_len(self.capacity())?)
    }

    /// Writes to the disk, which from then on has another content.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), VmdkError> {
        let top = self.top()?;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.capacity());
        end.ok_or(VmdkError::Format("a write lies behind the end of the disk"))?;
        if let Some(map) = Map::open(&top.at)? {
            map.note(offset, bytes.len() as u64)?;
        }
        let content = top.descriptor.content(&top.at);
        if top.descriptor.parent.is_none() {
            OpenOptions::new().write(true).open(content)?.write_all_at(bytes, offset)?;
            return vmdk::touch(&top.at);
        }
        let mut reader = self.reader()?;
        let mut delta = Delta::open(&content, top.descriptor.capacity, true)?;
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (sector, inside) = (at / SECTOR, usize::try_from(at % SECTOR).unwrap_or_default());
            let count = rest.len().min(512 - inside);
            let (now, later) = rest.split_at(count);
            let mut whole = [0; 512];
            reader.sector(sector, &mut whole)?;
            whole.iter_mut().skip(inside).zip(now).for_each(|(place, byte)| *place = *byte);
            delta.write(sector, &whole)?;
            rest = later;
            at += count as u64;
        }
        vmdk::touch(&top.at)
    }

    /// The areas of which anything was ever written, in blocks of 64 KiB.
    pub fn allocated(&self) -> Result<Vec<(u64, u64)>, VmdkError> {
        let mut blocks = std::collections::BTreeSet::new();
        let mut take = |start: u64, length: u64| blocks.extend(start / BLOCK..(start + length).div_ceil(BLOCK));
        for link in &self.links {
            let content = link.descriptor.content(&link.at);
            match link.descriptor.parent {
                Some(_) => {
                    let delta = Delta::open(&content, link.descriptor.capacity, false)?;
                    delta.runs()?.into_iter().for_each(|run| take(run.sector * SECTOR, run.count * SECTOR));
                }
                None => vmdk::data(&File::open(content)?, &mut take)?,
            }
        }
        let mut areas = Vec::new();
        blocks.into_iter().for_each(|block| changes::add(&mut areas, block * BLOCK, BLOCK, self.capacity()));
        Ok(areas)
    }

    /// Whether the disk begins with something to start: an empty disk boots nothing.
    pub fn boots(&self) -> bool {
        let mut first = [0; 1024];
        let read = self.reader().and_then(|mut reader| reader.read(0, &mut first));
        read.is_ok() && first.iter().any(|byte| *byte != 0)
    }
}

/// Puts what a delta holds into the disk below it, which then has the delta's content and number. The delta stays.
pub fn commit(delta: &Link, below: &Link) -> Result<(), VmdkError> {
    let source = Delta::open(&delta.descriptor.content(&delta.at), delta.descriptor.capacity, false)?;
    let content = below.descriptor.content(&below.at);
    if below.descriptor.parent.is_some() {
        let mut target = Delta::open(&content, below.descriptor.capacity, true)?;
        each(&source, |sector, bytes| {
            (sector..).zip(bytes.chunks_exact(512)).try_for_each(|(sector, bytes)| match bytes.first_chunk::<512>() {
                Some(bytes) => target.write(sector, bytes),
                None => Ok(()),
            })
        })?;
    } else {
        let target = OpenOptions::new().write(true).open(content)?;
        each(&source, |sector, bytes| Ok(target.write_all_at(bytes, sector * SECTOR)?))?;
        target.set_len(below.descriptor.capacity)?;
    }
    let merged = Descriptor { cid: delta.descriptor.cid, ..below.descriptor.clone() };
    vmdk::rewrite(&below.at, &merged)
}

/// Hands over what a delta holds, piece by piece.
fn each(delta: &Delta, mut take: impl FnMut(u64, &[u8]) -> Result<(), VmdkError>) -> Result<(), VmdkError> {
    const PIECE: u64 = 2048;
    let mut buffer = vec![0; 1 << 20];
    for run in delta.runs()? {
        let mut done = 0;
        while done < run.count {
            let count = (run.count - done).min(PIECE);
            let length = usize::try_from(count * SECTOR).unwrap_or_default();
            let Some(piece) = buffer.get_mut(..length) else { break };
            delta.read_run(run, done, piece)?;
            take(run.sector + done, piece)?;
            done += count;
        }
    }
    Ok(())
}

/// An open chain.
#[derive(Debug)]
pub struct Reader {
    /// The uppermost first.
    layers: Vec<Layer>,
    capacity: u64,
}

#[derive(Debug)]
enum Layer {
    Flat(File),
    Delta(Delta),
}

impl Reader {
    /// Reads from any place; what lies behind the end of the disk reads as zeros.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), VmdkError> {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (sector, inside) = (at / SECTOR, usize::try_from(at % SECTOR).unwrap_or_default());
            let count = rest.len().min(512 - inside);
            let (now, later) = rest.split_at_mut(count);
            let mut whole = [0; 512];
            self.sector(sector, &mut whole)?;
            now.iter_mut().zip(whole.iter().skip(inside)).for_each(|(place, byte)| *place = *byte);
            at += count as u64;
            rest = later;
        }
        Ok(())
    }

    fn sector(&mut self, sector: u64, whole: &mut [u8; 512]) -> Result<(), VmdkError> {
        *whole = [0; 512];
        if sector * SECTOR >= self.capacity {
            return Ok(());
        }
        for layer in &self.layers {
            match layer {
                Layer::Delta(delta) => {
                    if delta.read(sector, whole)? {
                        return Ok(());
                    }
                }
                Layer::Flat(file) => {
                    let mut read = 0;
                    while let Some(rest) = whole.get_mut(read..).filter(|rest| !rest.is_empty()) {
                        match file.read_at(rest, sector * SECTOR + read as u64)? {
                            0 => break,
                            count => read += count,
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Datastore) {
        let folder = tempfile::tempdir().unwrap();
        let datastore = Datastore::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("datastore1/a")).unwrap();
        (folder, datastore)
    }

    fn at(name: &str) -> DatastorePath {
        DatastorePath::inside(name).unwrap()
    }

    fn open(datastore: &Datastore, name: &str) -> Chain {
        Chain::open(datastore, &at(name)).unwrap()
    }

    fn above(datastore: &Datastore, name: &str, below: &str, hint: &str) {
        let below = open(datastore, below);
        vmdk::create_delta(&datastore.resolve(&at(name)).unwrap(), &below.top().unwrap().descriptor, hint, None)
            .unwrap();
    }

    fn read(chain: &Chain, offset: u64) -> [u8; 4] {
        let mut bytes = [0; 4];
        chain.reader().unwrap().read(offset, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_chain_is_read_written_copied_and_merged() {
        let (_folder, datastore) = place();
        vmdk::create(&datastore.resolve(&at("a/a.vmdk")).unwrap(), 1 << 30, "lsilogic", Space::Thin).unwrap();
        open(&datastore, "a/a.vmdk").write(510, b"base").unwrap();
        above(&datastore, "a/a-000001.vmdk", "a/a.vmdk", "a.vmdk");
        open(&datastore, "a/a-000001.vmdk").write(512, b"XX").unwrap();
        above(&datastore, "a/a-000002.vmdk", "a/a-000001.vmdk", "a-000001.vmdk");
        open(&datastore, "a/a-000002.vmdk").write((1 << 30) - 2, b"zz").unwrap();
        let top = open(&datastore, "a/a-000002.vmdk");
        assert_eq!((read(&top, 510), read(&top, (1 << 30) - 2)), (*b"baXX", *b"zz\0\0"));
        assert_eq!(read(&open(&datastore, "a/a.vmdk"), 510), *b"base");
        let copy = datastore.resolve(&at("a/flat.vmdk")).unwrap();
        top.copy(&copy, "buslogic", Space::Kept, |_| Ok(())).unwrap();
        let flat = open(&datastore, "a/flat.vmdk");
        assert_eq!((flat.links.len(), read(&flat, 510), read(&flat, (1 << 30) - 2)), (1, *b"baXX", *b"zz\0\0"));
        assert!(vmdk::allocated(&std::fs::metadata(flat.links[0].descriptor.content(&copy)).unwrap()) < 1 << 20);
        commit(&top.links[0], &top.links[1]).unwrap();
        let merged = open(&datastore, "a/a-000001.vmdk");
        assert_eq!((read(&merged, 510), read(&merged, (1 << 30) - 2)), (*b"baXX", *b"zz\0\0"));
        commit(&merged.links[0], &merged.links[1]).unwrap();
        assert_eq!(read(&open(&datastore, "a/a.vmdk"), 510), *b"baXX");
    }

    #[test]
    #[ignore = "needs qemu-img"]
    fn qemu_img_reads_a_chain_as_we_do() {
        let (folder, datastore) = place();
        vmdk::create(&datastore.resolve(&at("a/a.vmdk")).unwrap(), 64 << 20, "lsilogic", Space::Thin).unwrap();
        std::fs::create_dir(datastore.resolve(&at("b")).unwrap()).unwrap();
        open(&datastore, "a/a.vmdk").write(1000, &[1; 70_000]).unwrap();
        above(&datastore, "a/a-000001.vmdk", "a/a.vmdk", "a.vmdk");
        open(&datastore, "a/a-000001.vmdk").write(3 << 20, &[2; 5000]).unwrap();
        above(&datastore, "b/b.vmdk", "a/a-000001.vmdk", "../a/a-000001.vmdk");
        let top = open(&datastore, "b/b.vmdk");
        top.write(2000, &[3; 3000]).unwrap();
        top.write((64 << 20) - 600, &[4; 600]).unwrap();
        let same = |raw: &Path| {
            let mut ours = vec![0; 64 << 20];
            open(&datastore, "b/b.vmdk").reader().unwrap().read(0, &mut ours).unwrap();
            assert!(std::fs::read(raw).unwrap() == ours, "qemu-img reads something else");
        };
        let run = |program: &str, arguments: &[&str]| {
            let output = std::process::Command::new(program).args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let (disk, raw) = (datastore.resolve(&at("b/b.vmdk")).unwrap(), folder.path().join("raw"));
        let (disk, raw_text) = (disk.to_str().unwrap(), raw.to_str().unwrap());
        run("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", disk, raw_text]);
        same(&raw);
        run("qemu-img", &["compare", "-f", "vmdk", "-F", "raw", disk, raw_text]);
        // A parent that was modified is noticed by qemu-img as by us.
        open(&datastore, "a/a.vmdk").write(0, b"x").unwrap();
        let refused = std::process::Command::new("qemu-img")
            .args(["convert", "-f", "vmdk", "-O", "raw", disk, raw_text])
            .output()
            .unwrap();
        assert!(!refused.status.success());
    }

    #[test]
    fn a_canceled_copy_leaves_nothing() {
        let (folder, datastore) = place();
        vmdk::create(&datastore.resolve(&at("a/a.vmdk")).unwrap(), 1 << 20, "lsilogic", Space::Thin).unwrap();
        open(&datastore, "a/a.vmdk").write(0, b"x").unwrap();
        let chain = open(&datastore, "a/a.vmdk");
        assert!(chain.boots());
        let copied = chain
            .copy(&datastore.resolve(&at("a/b.vmdk")).unwrap(), "lsilogic", Space::Thin, |_| Err(VmdkError::Canceled));
        assert!(matches!(copied, Err(VmdkError::Canceled)));
        assert_eq!(std::fs::read_dir(folder.path().join("datastore1/a")).unwrap().count(), 2);
    }

    #[test]
    fn a_child_whose_parent_was_modified_does_not_open() {
        let (_folder, datastore) = place();
        vmdk::create(&datastore.resolve(&at("a/a.vmdk")).unwrap(), 1 << 20, "lsilogic", Space::Thin).unwrap();
        std::fs::create_dir(datastore.resolve(&at("b")).unwrap()).unwrap();
        above(&datastore, "b/b.vmdk", "a/a.vmdk", "../a/a.vmdk");
        assert_eq!(open(&datastore, "b/b.vmdk").links[1].path, at("a/a.vmdk"));
        open(&datastore, "a/a.vmdk").write(0, b"x").unwrap();
        let fault = Chain::open(&datastore, &at("b/b.vmdk")).unwrap_err();
        assert!(fault.data.kind == "GenericVmConfigFault" && fault.message.contains("has been modified"), "{fault:?}");
    }

    #[test]
    fn no_chain_leads_out_of_the_datastore_or_without_end() {
        let (_folder, datastore) = place();
        let write = |name: &str, hint: &str| {
            let text = format!(
                "# Disk DescriptorFile\nCID=00000001\nparentCID=00000001\ncreateType=\"vmfsSparse\"\nparentFileNameHint=\"{hint}\"\n\
                 RW 8 VMFSSPARSE \"x-delta.vmdk\"\n"
            );
            std::fs::write(datastore.resolve(&at(name)).unwrap(), text).unwrap();
        };
        for hint in ["../../etc/passwd", "/etc/passwd", "../../../x.vmdk", "a\\b.vmdk"] {
            write("a/x.vmdk", hint);
            let fault = Chain::open(&datastore, &at("a/x.vmdk")).unwrap_err();
            assert_eq!(fault.data.kind, "GenericVmConfigFault", "{hint}: {fault:?}");
        }
        write("a/x.vmdk", "y.vmdk");
        write("a/y.vmdk", "x.vmdk");
        let fault = Chain::open(&datastore, &at("a/x.vmdk")).unwrap_err();
        assert!(fault.message.contains("too long"), "{fault:?}");
    }
}
