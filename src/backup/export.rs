//! A disk of a backup as a file of this machine: raw and sparse, streamOptimized VMDK, or a flat VMDK with its descriptor.
//!
//! A file is at its place when it is whole and durable, and not before; nothing is ever overwritten.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::NamedTempFile;

use super::error::{Error, Result};
use super::id::Id;
use super::manifest::SEGMENT;
use super::reader::DiskReader;
use super::room;
use super::target::{WRITTEN_OUT, begin_writing_out};
use super::watch::{Watch, WatchedSource};
use crate::vmdk::Source;
use crate::vmdk::{self, CreateType, Descriptor, StreamOptions, write_stream};

/// How a disk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskForm {
    /// Its bytes, with holes where it has zeros.
    #[default]
    Raw,
    /// One compressed file, as leases and OVA files have it.
    StreamOptimized,
    /// A descriptor `NAME.vmdk`, and the bytes with holes beside it as `NAME-flat.vmdk`: of a datastore of ESXi.
    Vmfs,
    /// The same, as Workstation names it.
    MonolithicFlat,
}

/// How a disk is written, and for which machines. Whatever is left out has the defaults of [`StreamOptions`].
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    pub form: DiskForm,
    /// `lsilogic`, `buslogic`, `ide` or `legacyESX`.
    pub adapter: Option<String>,
    pub hardware_version: Option<u32>,
    /// 1 is fast, 9 small.
    pub level: Option<u32>,
    /// Default: one for each processor.
    pub threads: Option<usize>,
    /// Is told how far it is. Default: nobody.
    pub watch: Option<Arc<Watch>>,
}

impl DiskReader<'_> {
    /// Restores the disk to a new sparse file.
    ///
    /// Errors: `Exists` where something is at the path; the damage of a chunk.
    pub fn restore(&self, path: &Path, threads: usize) -> Result<()> {
        self.export(path, &ExportOptions { threads: Some(threads), ..ExportOptions::default() }).map(drop)
    }

    /// Restores the disk to a new file, or to two, and returns their paths: what describes the disk comes first.
    ///
    /// The same backup gives the same bytes each time. A VMDK has whole sectors: what is missing to the last one is zeros.
    ///
    /// Errors: `Exists` where something is at a path; `NoRoom`, before anything is written where that can be told; `Option`; the damage of a
    /// chunk.
    pub fn export(&self, path: &Path, options: &ExportOptions) -> Result<Vec<PathBuf>> {
        let usual = StreamOptions::default();
        let threads = options.threads.unwrap_or(usual.threads);
        if let Some(watch) = &options.watch {
            watch.expect(self.size());
        }
        match options.form {
            DiskForm::Raw => {
                absent(path)?;
                room::check(self, options.form, folder_of(path))?;
                self.content(path, self.size(), threads, options)?.place()?;
                Ok(vec![path.to_owned()])
            }
            DiskForm::StreamOptimized => {
                absent(path)?;
                room::check(self, options.form, folder_of(path))?;
                let stream = StreamOptions {
                    name: name_of(path)?.to_owned(),
                    adapter: options.adapter.clone().unwrap_or(usual.adapter),
                    hardware_version: options.hardware_version.unwrap_or(usual.hardware_version),
                    level: options.level.unwrap_or(usual.level),
                    cid: self.cid(),
                    threads,
                    // A chunk is read once.
                    piece: usual.piece.max(u64::from(self.chunk_size()).next_power_of_two()),
                    ..usual
                };
                let file = Unfinished::beside(path)?;
                let mut to =
                    BufWriter::with_capacity(1 << 20, WrittenOut { file: file.0.as_file(), size: 0, begun: 0 });
                let written = match &options.watch {
                    Some(watch) => write_stream(&WatchedSource::new(self, watch), &mut to, &stream),
                    None => write_stream(self, &mut to, &stream),
                };
                written.map_err(|error| of_disk(&file.1, error))?;
                drop(to);
                file.place()?;
                Ok(vec![path.to_owned()])
            }
            DiskForm::Vmfs => self.flat(path, CreateType::Vmfs, options, threads),
            DiskForm::MonolithicFlat => self.flat(path, CreateType::MonolithicFlat, options, threads),
        }
    }

    fn flat(
        &self,
        path: &Path,
        create_type: CreateType,
        options: &ExportOptions,
        threads: usize,
    ) -> Result<Vec<PathBuf>> {
        let name = name_of(path)?;
        let stem = name.strip_suffix(".vmdk").unwrap_or(name);
        let content_path = path.with_file_name(format!("{stem}-flat.vmdk"));
        let mut descriptor = Descriptor::new(create_type, self.size(), name_of(&content_path)?);
        descriptor.cid = self.cid();
        descriptor.thin = create_type == CreateType::Vmfs;
        descriptor.adapter = options.adapter.clone().unwrap_or(descriptor.adapter);
        descriptor.hardware_version = options.hardware_version.unwrap_or(descriptor.hardware_version);
        descriptor.check()?;
        absent(path)?;
        absent(&content_path)?;
        room::check(self, options.form, folder_of(path))?;
        let content = self.content(&content_path, descriptor.size(), threads, options)?;
        let text = Unfinished::beside(path)?;
        text.0.as_file().write_all_at(descriptor.text().as_bytes(), 0).map_err(room::writing(&text.1, "write"))?;
        // The descriptor names what is there by then.
        content.place()?;
        if let Err(error) = text.place() {
            std::fs::remove_file(&content_path).map_err(Error::io(content_path.display().to_string(), "remove"))?;
            return Err(error);
        }
        Ok(vec![path.to_owned(), content_path])
    }

    /// The disk's bytes in a file that is not at its place yet.
    fn content(&self, path: &Path, size: u64, threads: usize, options: &ExportOptions) -> Result<Unfinished> {
        let unfinished = Unfinished::beside(path)?;
        let (file, place) = (unfinished.0.as_file(), &unfinished.1);
        file.set_len(size).map_err(room::writing(place, "write"))?;
        let written = AtomicU64::new(0);
        // One thread more than asked for: one is waiting for the disk.
        self.each_chunk(threads + 1, &|at, bytes| {
            file.write_all_at(bytes, at).map_err(room::writing(place, "write"))?;
            let before = written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if before / WRITTEN_OUT != (before + bytes.len() as u64) / WRITTEN_OUT {
                begin_writing_out(file, 0, 0);
            }
            if let Some(watch) = &options.watch {
                watch.reach(at + bytes.len() as u64);
            }
            Ok(())
        })?;
        Ok(unfinished)
    }
}

/// A disk of a backup is a disk to be read like any other.
impl Source for DiskReader<'_> {
    fn size(&self) -> u64 {
        DiskReader::size(self)
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_together(at, bytes).map_err(io::Error::other)
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let chunk_size = u64::from(self.chunk_size());
        let (mut chunk, end) = (at / chunk_size, self.size().div_ceil(chunk_size));
        while at < self.size() && chunk < end {
            let segment = chunk / SEGMENT as u64;
            let ids = self.ids(segment).map_err(io::Error::other)?;
            let rest = ids.get((chunk % SEGMENT as u64) as usize..).unwrap_or_default();
            let Some(first) = rest.iter().position(|id| *id != Id::ZERO) else {
                chunk = (segment + 1) * SEGMENT as u64;
                continue;
            };
            let kept = rest.iter().skip(first).take_while(|id| **id != Id::ZERO).count();
            let begin = (chunk + first as u64) * chunk_size;
            return Ok(Some(begin.max(at)..(begin + kept as u64 * chunk_size).min(self.size())));
        }
        Ok(None)
    }
}

/// A file that is written from front to back, and by the disk while it still grows: the sync at the end then waits for little.
struct WrittenOut<'f> {
    file: &'f File,
    size: u64,
    /// Up to where the system was asked to write it out.
    begun: u64,
}

impl Write for WrittenOut<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        if self.size - self.begun >= WRITTEN_OUT {
            begin_writing_out(self.file, self.begun, self.size - self.begun);
            self.begun = self.size;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that gets its name when it is whole.
struct Unfinished(NamedTempFile, String, PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Result<Self> {
        let folder = folder_of(path);
        let file = tempfile::Builder::new()
            .prefix(".ceso-restore-")
            .tempfile_in(folder)
            .map_err(room::writing(&folder.display().to_string(), "make a file in"))?;
        Ok(Self(file, path.display().to_string(), path.to_owned()))
    }

    fn place(self) -> Result<()> {
        let Self(file, place, path) = self;
        file.as_file().sync_all().map_err(room::writing(&place, "sync"))?;
        file.persist_noclobber(&path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(place.clone()),
            _ => Error::io(&place, "rename")(error.error),
        })?;
        let folder = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
        folder.map_err(Error::io(&place, "sync the folder of"))
    }
}

fn absent(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(Error::Exists(path.display().to_string())),
        Err(_) => Ok(()),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn name_of(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Error::Option(format!("{}: the name of a VMDK is text", path.display())))
}

/// What ended the writing of a VMDK: the repository, if it was its error that came through.
fn of_disk(place: &str, error: vmdk::Error) -> Error {
    match error {
        vmdk::Error::Source(source) => match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::Source { place: place.to_owned(), source },
        },
        vmdk::Error::Io { doing: _, source } => room::writing(place, "write")(source),
        other => Error::Vmdk(other),
    }
}

/// A name of the disk's content for VMDKs, never the one that says "none".
pub(super) fn cid(root: &Id) -> u32 {
    let [a, b, c, d, ..] = root.0;
    u32::from_be_bytes([a, b, c, d]).min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::super::target::FolderTarget;
    use super::super::{BackupOptions, InitOptions, Repository};
    use super::*;
    use crate::vmdk::{Form, Image};
    use std::sync::Arc;

    /// A repository with a disk of 3 MiB and 700 bytes, some of it zeros.
    fn with_disk(check: impl Fn(&DiskReader<'_>, &[u8], &Path)) {
        let folder = tempfile::tempdir().unwrap();
        let target = Arc::new(FolderTarget::new(folder.path().join("repository")));
        let options = InitOptions { chunk_size: 192 << 10, ..InitOptions::default() };
        let repository = Repository::init(target, &options, None).unwrap();
        let mut bytes: Vec<u8> = (0u32..(3 << 20) + 700).map(|at| (at / 97 * 31) as u8).collect();
        bytes[600 << 10..2 << 20].fill(0);
        std::fs::write(folder.path().join("disk"), &bytes).unwrap();
        let mut session = repository.begin(BackupOptions::default()).unwrap();
        let source = Image::open(&folder.path().join("disk"), Form::Raw).unwrap();
        let disk = session.disk("disk", &source, None).unwrap();
        session.finish().unwrap();
        check(&repository.read_disk(&disk).unwrap(), &bytes, folder.path());
    }

    fn read(image: &dyn Source) -> Vec<u8> {
        let mut bytes = vec![0; image.size() as usize];
        image.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_form_holds_the_disk_and_the_same_bytes_each_time() {
        with_disk(|reader, bytes, folder| {
            let mut whole = bytes.to_vec();
            whole.resize(bytes.len().next_multiple_of(512), 0);
            for form in [DiskForm::Raw, DiskForm::StreamOptimized, DiskForm::Vmfs, DiskForm::MonolithicFlat] {
                let watch = Arc::new(Watch::default());
                let options = ExportOptions { form, watch: Some(watch.clone()), ..ExportOptions::default() };
                let (one, other) = (tempfile::tempdir_in(folder).unwrap(), tempfile::tempdir_in(folder).unwrap());
                let paths = reader.export(&one.path().join("a.vmdk"), &options).unwrap();
                assert_eq!(watch.percent(), Some(100), "{form:?}");
                let again = reader.export(&other.path().join("a.vmdk"), &options).unwrap();
                for (path, again) in paths.iter().zip(&again) {
                    assert!(std::fs::read(path).unwrap() == std::fs::read(again).unwrap(), "{form:?}");
                }
                let image = Image::open(&paths[0], Form::Detect).unwrap();
                assert!(read(&image) == if form == DiskForm::Raw { bytes } else { &whole }, "{form:?}");
                assert_eq!(std::fs::read_dir(one.path()).unwrap().count(), paths.len(), "{form:?}");
                let taken = reader.export(&paths[0], &options);
                assert!(matches!(taken, Err(Error::Exists(_))), "{form:?}");
            }
        });
    }

    #[test]
    fn a_content_that_is_there_already_is_not_taken() {
        with_disk(|reader, _, folder| {
            std::fs::write(folder.join("a-flat.vmdk"), "another's").unwrap();
            let options = ExportOptions { form: DiskForm::Vmfs, ..ExportOptions::default() };
            let ended = reader.export(&folder.join("a.vmdk"), &options);
            assert!(matches!(ended, Err(Error::Exists(_))));
            assert_eq!(std::fs::read(folder.join("a-flat.vmdk")).unwrap(), b"another's");
            assert!(!folder.join("a.vmdk").exists());
        });
    }

    #[test]
    fn damage_in_the_repository_is_what_a_failed_export_tells_and_it_leaves_nothing() {
        with_disk(|reader, _, folder| {
            let packs = folder.join("repository/data");
            for pair in std::fs::read_dir(&packs).unwrap() {
                for pack in std::fs::read_dir(pair.unwrap().path()).unwrap() {
                    let path = pack.unwrap().path();
                    let mut bytes = std::fs::read(&path).unwrap();
                    bytes[40] ^= 1;
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, &bytes).unwrap();
                }
            }
            for form in [DiskForm::StreamOptimized, DiskForm::Vmfs] {
                let options = ExportOptions { form, ..ExportOptions::default() };
                let ended = reader.export(&folder.join("a.vmdk"), &options);
                assert!(ended.as_ref().is_err_and(Error::is_damage), "{ended:?}");
                assert!(std::fs::read_dir(folder).unwrap().count() == 2);
            }
        });
    }

    #[test]
    fn data_is_found_where_chunks_are_kept() {
        with_disk(|reader, _, _| {
            let chunk = 192 << 10;
            assert_eq!(reader.next_data(5).unwrap(), Some(5..4 * chunk));
            assert_eq!(reader.next_data(4 * chunk).unwrap(), Some(10 * chunk..(3 << 20) + 700));
            assert_eq!(reader.next_data((3 << 20) + 700).unwrap(), None);
        });
    }
}
