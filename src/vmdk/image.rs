//! A disk of whatever form, opened from its file: raw bytes, a sparse VMDK, or a descriptor and the files that it names.
//!
//! Files that a descriptor names are plain names in its folder, and no links: a descriptor cannot reach anything else. Still, a disk whose
//! first bytes its guest wrote could say that it is a VMDK: whoever knows that a file is raw opens it as [`Form::Raw`].

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::descriptor::{Descriptor, Extent, ExtentKind};
use super::error::{Error, Result};
use super::header::{LARGEST_DESCRIPTOR, MAGIC};
use super::source::{Source, data_in};
use super::sparse::{Sparse, as_io};
use super::{CreateType, SECTOR};

/// How a disk's file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// As what its first bytes say: VMDK, else raw.
    #[default]
    Detect,
    Raw,
    /// As VMDK, or not at all.
    Vmdk,
}

/// A disk, to be read anywhere by many threads.
pub struct Image {
    size: u64,
    create_type: Option<CreateType>,
    descriptor: Option<Descriptor>,
    parts: Vec<Part>,
}

struct Part {
    range: Range<u64>,
    content: Content,
}

enum Content {
    Zero,
    /// A file, and the byte where the part begins in it.
    Flat(File, u64),
    Sparse(Sparse),
}

impl Image {
    /// Opens a disk. The structure of a VMDK is checked whole, which for a streamOptimized one is a look at each of its grains.
    ///
    /// Errors: `Damaged` and `Descriptor` say where; `Unsupported`: deltas, and forms of which no content is known.
    pub fn open(path: &Path, form: Form) -> Result<Self> {
        Self::open_here(path, form).map_err(|error| error.within(path.display().to_string()))
    }

    fn open_here(path: &Path, form: Form) -> Result<Self> {
        let failed = || Error::io("open the disk");
        let mut file = open_disk(path)?;
        // The length of a block device is where its end is.
        let size = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed())?;
        if form == Form::Raw {
            return Ok(Self::raw(file, size));
        }
        let mut first = [0; 64];
        let length = first.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        let begin = first.get_mut(..length).unwrap_or_default();
        file.read_exact_at(begin, 0).map_err(failed())?;
        if begin.starts_with(MAGIC) {
            let (extent, descriptor) = Sparse::open(file)?;
            return Self::sparse(extent, descriptor);
        }
        if Descriptor::is_one(begin) {
            return Self::described(&file, size, path);
        }
        if begin.starts_with(b"COWD") {
            return Err(Error::Unsupported("a delta of a snapshot, or a disk of ESX 3 (COWD)".to_owned()));
        }
        if let (Form::Detect, Some(other)) = (form, foreign(begin)) {
            return Err(Error::Foreign(other));
        }
        match form {
            Form::Vmdk => Err(Error::damaged(0, "magic", "it is neither a sparse VMDK nor a descriptor")),
            _ => Ok(Self::raw(file, size)),
        }
    }

    fn raw(file: File, size: u64) -> Self {
        let parts = vec![Part { range: 0..size, content: Content::Flat(file, 0) }];
        Self { size, create_type: None, descriptor: None, parts }
    }

    fn sparse(extent: Sparse, descriptor: Option<Descriptor>) -> Result<Self> {
        let kind = if extent.is_stream() { CreateType::StreamOptimized } else { CreateType::MonolithicSparse };
        if let Some(says) = descriptor.as_ref().map(|descriptor| descriptor.create_type)
            && says != kind
        {
            return Err(Error::Unsupported(format!("its descriptor says {says}, its grains {kind}")));
        }
        let size = extent.size();
        let parts = vec![Part { range: 0..size, content: Content::Sparse(extent) }];
        Ok(Self { size, create_type: Some(kind), descriptor, parts })
    }

    fn described(file: &File, size: u64, path: &Path) -> Result<Self> {
        if size > LARGEST_DESCRIPTOR {
            let what =
                format!("it begins as a descriptor, and has {size} bytes; if it is a raw disk, say that it is raw");
            return Err(Error::Descriptor { line: 1, what });
        }
        let mut text = vec![0; size as usize];
        file.read_exact_at(&mut text, 0).map_err(Error::io("read the descriptor"))?;
        let descriptor = Descriptor::parse(&text)?;
        let mut parts = Vec::new();
        let mut end = 0;
        for extent in &descriptor.extents {
            let place = path.with_file_name(&extent.file);
            let opened = open_extent(&place, extent, descriptor.create_type);
            let content = opened.map_err(|error| error.within(place.display().to_string()))?;
            let range = end..end + extent.sectors * SECTOR;
            end = range.end;
            parts.push(Part { range, content });
        }
        Ok(Self { size: end, create_type: Some(descriptor.create_type), descriptor: Some(descriptor), parts })
    }

    /// How the content is kept; none of a raw disk.
    pub fn create_type(&self) -> Option<CreateType> {
        self.create_type
    }

    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// The part that holds the byte `at`.
    fn part(&self, at: u64) -> Option<&Part> {
        self.parts.get(self.parts.partition_point(|part| part.range.end <= at))
    }
}

/// Opens a file or block device. What blocks until another writes, or never ends, is no disk.
fn open_disk(path: &Path) -> Result<File> {
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
    let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(at_once).open(path).map_err(Error::io("open the disk"))?;
    let kind = file.metadata().map_err(Error::io("open the disk"))?.file_type();
    match () {
        () if kind.is_file() || kind.is_block_device() => Ok(file),
        () if kind.is_dir() => Err(Error::NoDisk("a folder")),
        () if kind.is_fifo() => Err(Error::NoDisk("a pipe")),
        () => Err(Error::NoDisk("a device of characters")),
    }
}

/// The form of a disk that begins as other programs' do.
fn foreign(begin: &[u8]) -> Option<&'static str> {
    let forms: [(&[u8], &str); 4] =
        [(b"QFI\xfb", "qcow2"), (b"vhdxfile", "VHDX"), (b"conectix", "VHD"), (b"<<< ", "VDI")];
    forms.into_iter().find(|(magic, _)| begin.starts_with(magic)).map(|(_, form)| form)
}

fn open_extent(place: &Path, extent: &Extent, create_type: CreateType) -> Result<Content> {
    let fits = match extent.kind {
        ExtentKind::Zero => return Ok(Content::Zero),
        ExtentKind::Sparse => create_type == CreateType::TwoGbMaxExtentSparse,
        ExtentKind::Vmfs => create_type == CreateType::Vmfs,
        ExtentKind::Flat => matches!(create_type, CreateType::MonolithicFlat | CreateType::TwoGbMaxExtentFlat),
    };
    if !fits {
        return Err(Error::Unsupported(format!("an extent that a disk of createType {create_type} does not have")));
    }
    let file = open_plain_file(place)?;
    let size = file.metadata().map_err(Error::io("open the extent"))?.len();
    let wanted = extent.sectors * SECTOR;
    if extent.kind != ExtentKind::Sparse {
        let begin = extent.offset * SECTOR;
        if begin + wanted > size {
            let what = format!("the descriptor says {wanted} bytes from {begin}, and the file has {size}");
            return Err(Error::damaged(size, "extent", what));
        }
        return Ok(Content::Flat(file, begin));
    }
    let (sparse, _) = Sparse::open(file)?;
    if sparse.is_stream() {
        return Err(Error::Unsupported("an extent with compressed grains among others".to_owned()));
    }
    if sparse.size() != wanted {
        let what = format!("{} bytes, and the descriptor says {wanted}", sparse.size());
        return Err(Error::damaged(12, "capacity", what));
    }
    Ok(Content::Sparse(sparse))
}

/// Opens a file that is one, and no link to one.
fn open_plain_file(place: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    // Without NONBLOCK a named pipe would hold us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match open(place, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(Error::Unsupported("an extent that is a link".to_owned())),
        Err(error) => return Err(Error::io("open the extent")(error.into())),
    };
    if file.metadata().map_err(Error::io("open the extent"))?.is_file() {
        Ok(file)
    } else {
        Err(Error::Unsupported("an extent that is no file".to_owned()))
    }
}

impl Source for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some(part) = self.part(at) else {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            };
            let length = usize::try_from(part.range.end - at).unwrap_or(usize::MAX).min(bytes.len());
            let (wanted, rest) = bytes.split_at_mut(length);
            let inside = at - part.range.start;
            match &part.content {
                Content::Zero => wanted.fill(0),
                Content::Flat(file, begin) => file.read_exact_at(wanted, begin + inside)?,
                Content::Sparse(extent) => as_io(extent.read_at(inside, wanted))?,
            }
            at += length as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn next_data(&self, mut at: u64) -> io::Result<Option<Range<u64>>> {
        while let Some(part) = self.part(at) {
            let start = part.range.start;
            let inside = at - start;
            let found = match &part.content {
                Content::Zero => None,
                Content::Flat(file, begin) => {
                    let end = begin + (part.range.end - start);
                    data_in(file, begin + inside..end)?.map(|data| data.start - begin..data.end - begin)
                }
                Content::Sparse(extent) => as_io(extent.next_data(inside))?,
            };
            if let Some(data) = found.filter(|data| data.start < part.range.end - start) {
                return Ok(Some(start + data.start..start + data.end));
            }
            at = part.range.end;
        }
        Ok(None)
    }
}
