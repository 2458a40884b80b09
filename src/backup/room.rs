//! Whether there is room for what a restore will write: asked before its first byte.
//!
//! Zeros are not written, so what counts is what is stored of a disk. What the answer does not foresee, the writing tells when it comes.

use std::io;
use std::path::Path;

use super::error::{Error, Result};
use super::export::DiskForm;
use super::id::Id;
use super::reader::DiskReader;

/// Errors: `NoRoom` where the folder's file system has less room than the disk needs in that form.
pub(super) fn check(disk: &DiskReader<'_>, form: DiskForm, folder: &Path) -> Result<()> {
    match free(folder) {
        Some(free) => fits(disk, form, folder, free),
        None => Ok(()),
    }
}

/// The bytes that are free for this user; nothing where the file system does not say.
fn free(folder: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    (told.f_blocks > 0).then(|| told.f_bavail.saturating_mul(told.f_frsize))
}

fn fits(disk: &DiskReader<'_>, form: DiskForm, folder: &Path, free: u64) -> Result<()> {
    // The root alone says how much it is at most: in most cases nothing else needs to be read.
    if disk.at_most() <= free {
        return Ok(());
    }
    let needed = match form {
        DiskForm::StreamOptimized => disk.compressed()?,
        DiskForm::Raw | DiskForm::Vmfs | DiskForm::MonolithicFlat => disk.stored()?,
    };
    if needed <= free {
        return Ok(());
    }
    Err(Error::NoRoom { place: folder.display().to_string(), why: Lack::Foreseen { needed, free } })
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// By what the file system says before anything is written, in bytes.
    Foreseen { needed: u64, free: u64 },
    /// By its answer to a write.
    Told(io::ErrorKind),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::units::Bytes;
        match *self {
            Self::Foreseen { needed, free } => write!(
                f,
                "the restore writes {}, and {} are free: {} are missing; nothing was written",
                Bytes(needed),
                Bytes(free),
                Bytes(needed.saturating_sub(free))
            ),
            Self::Told(io::ErrorKind::QuotaExceeded) => f.write_str("the quota is used up; nothing was kept"),
            Self::Told(io::ErrorKind::FileTooLarge) => {
                f.write_str("its file system or a limit takes no file so large; nothing was kept")
            }
            Self::Told(_) => f.write_str("the disk is full; nothing was kept"),
        }
    }
}

/// Wraps an error of writing a restored file: where there is no room, the place of the file is what is told, and not the repository.
pub(super) fn writing(place: &str, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let place = place.to_owned();
    move |source| match source.kind() {
        kind @ (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => {
            Error::NoRoom { place, why: Lack::Told(kind) }
        }
        _ => Error::io(place, doing)(source),
    }
}

impl DiskReader<'_> {
    /// The bytes of all segments that are not zeros alone: at least what is stored of the disk.
    fn at_most(&self) -> u64 {
        let chunk_size = u64::from(self.chunk_size());
        let root = self.root();
        let numbers = (0u64..).zip(&root.segments).filter(|(_, id)| **id != Id::ZERO);
        let chunks = numbers.fold(0u64, |sum, (number, _)| sum.saturating_add(root.chunks_in(number) as u64));
        chunks.saturating_mul(chunk_size).min(self.size())
    }

    /// The bytes of all chunks that are not zeros.
    fn stored(&self) -> Result<u64> {
        let mut sum = 0u64;
        self.each_stored(&mut |_, length| {
            sum = sum.saturating_add(length);
            Ok(())
        })?;
        Ok(sum)
    }

    /// What of the disk is compressed in packs, less a quarter: a stream that another method compresses is hardly smaller. What is stored as it
    /// is may compress well, if nobody has tried, and does not count.
    fn compressed(&self) -> Result<u64> {
        let known = self.known();
        let mut sum = 0u64;
        self.each_stored(&mut |id, length| {
            let stored = known.find(id)?.map_or(0, |location| u64::from(location.entry.stored));
            sum = sum.saturating_add(if stored < length { stored } else { 0 });
            Ok(())
        })?;
        Ok(sum / 4 * 3)
    }

    fn each_stored(&self, each: &mut dyn FnMut(&Id, u64) -> Result<()>) -> Result<()> {
        let root = self.root();
        let mut first = 0u64;
        for (number, segment) in (0u64..).zip(&root.segments) {
            let chunks = root.chunks_in(number) as u64;
            if *segment != Id::ZERO {
                let ids = self.ids(number)?;
                for (chunk, id) in (first..).zip(ids.iter()).filter(|(_, id)| **id != Id::ZERO) {
                    each(id, root.length(chunk) as u64)?;
                }
            }
            first += chunks;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CHUNK, Form, TestDisk, back_up, init, place};
    use super::*;
    use crate::backup::target::FolderTarget;
    use crate::error::Fault;

    #[test]
    fn a_disk_that_does_not_fit_is_refused_with_what_is_missing_and_holes_do_not_count() {
        let (_folder, path) = place();
        let repository = init(std::sync::Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
        // 5,000 chunks, of which a hundred in the first segment and two in the second are stored: these compress to next to nothing.
        let chunk = CHUNK as u64;
        let stored = (0..100u64).map(|n| (n * 2, 6)).chain([(4_100, 7), (4_999, 9)]);
        let id = back_up(&repository, &TestDisk::new(5_000 * chunk - 100, stored)).unwrap().id;
        let (_, manifest) = repository.backup(&id.to_string()).unwrap();
        let disk = repository.read_disk(&manifest.disks[0]).unwrap();
        let needed = 102 * chunk - 100;
        assert_eq!((disk.at_most(), disk.stored().unwrap()), (5_000 * chunk - 100, needed));
        for form in [DiskForm::Raw, DiskForm::Vmfs, DiskForm::MonolithicFlat] {
            fits(&disk, form, &path, needed).unwrap();
            let refused = fits(&disk, form, &path, needed - (1 << 20)).unwrap_err();
            let fault = Fault::from(refused);
            assert_eq!(fault.kind(), "backup.no_room");
            let (text, hint) = (fault.to_string(), fault.hint_text().unwrap_or_default().to_owned());
            assert!(text.contains("1 MiB are missing") && text.contains(&*path.to_string_lossy()), "{text}");
            assert!(!hint.contains("make room there") && hint.contains("another place"), "{hint}");
        }
        // The seeds that do not compress are 100 chunks of the same bytes, stored as they are.
        assert!(disk.compressed().unwrap() < 1000);
        fits(&disk, DiskForm::StreamOptimized, &path, 1000).unwrap();
        assert!(free(&path).is_some_and(|free| free > 0) && free(&path.join("not/there")).is_none());
        check(&disk, DiskForm::Raw, &path).unwrap();
    }

    #[test]
    fn a_full_disk_under_a_restore_is_not_told_as_a_full_repository() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge] {
            let fault = Fault::from(writing("/srv/disk.raw", "write")(kind.into()));
            assert!(fault.kind() == "backup.no_room" && fault.to_string().contains("/srv/disk.raw"), "{fault}");
        }
        assert_eq!(Fault::from(writing("/srv", "write")(io::ErrorKind::TimedOut.into())).kind(), "backup.target");
    }
}
