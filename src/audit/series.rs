//! The files of one log: the one that is written, and those that were set aside when they were full.
//!
//! `audit.json` becomes `audit-000000000001.json`, after the number of its first record. The names sort as the files follow.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::line;

/// How many digits the number in a name has at least.
const DIGITS: usize = 12;

/// The name that a file of the log gets when it is set aside.
pub(super) fn aside(log: &Path, first: u64) -> PathBuf {
    let (stem, extension) = parts(log);
    log.with_file_name(format!("{stem}-{first:0DIGITS$}{extension}"))
}

/// The files of the log that were set aside, the oldest first, each with the number in its name.
pub(super) fn set_aside(log: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(log))? {
        let path = log.with_file_name(entry?.file_name());
        if let Some(first) = number(log, &path) {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The log that a file which was set aside belongs to, and the number in its name; `None` where the name is of no such file.
pub(super) fn log_of(file: &Path) -> Option<(PathBuf, u64)> {
    let (stem, extension) = parts(file);
    let log = file.with_file_name(format!("{}{extension}", stem.rsplit_once('-')?.0));
    number(&log, file).map(|first| (log, first))
}

fn number(log: &Path, file: &Path) -> Option<u64> {
    let (stem, extension) = parts(log);
    let name = file.file_name()?.to_str()?;
    let digits = name.strip_prefix(stem.as_str())?.strip_prefix('-')?.strip_suffix(extension.as_str())?;
    let fits = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

/// The name without its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    (stem, extension)
}

/// Moves a log away, with all its files, its keys and what is known of its witnesses, into a folder beside it; that folder. What is
/// recorded from then on begins a new log with a new key. A process that has the old one open is refused its next record.
pub fn move_away(log: &Path) -> Result<PathBuf, Error> {
    let failed = |error: io::Error| Error::unwritable(log, error);
    let stem = parts(log).0;
    let mut files: Vec<PathBuf> = set_aside(log).map_err(failed)?.into_iter().map(|(_, path)| path).collect();
    if log.symlink_metadata().is_ok() {
        files.push(log.to_owned());
    }
    if files.is_empty() {
        return Err(Error::Missing { file: log.to_owned() });
    }
    let witnessed = format!("{stem}.witnessed-");
    for entry in std::fs::read_dir(folder(log)).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.to_string_lossy().starts_with(&witnessed) {
            files.push(log.with_file_name(name));
        }
    }
    files
        .extend(["key", "pub"].map(|extension| log.with_extension(extension)).into_iter().filter(|file| file.exists()));
    // Whoever writes now comes to an end first. A file that cannot be opened is nobody's to write.
    let held = File::open(log).ok().filter(|file| file.lock().is_ok());
    let now = line::time_text(time::OffsetDateTime::now_utc()).replace([':', '.'], "-");
    let aside = log.with_file_name(format!("{stem}-set-aside-{now}"));
    std::fs::DirBuilder::new().mode(0o700).create(&aside).map_err(failed)?;
    for file in files {
        std::fs::rename(&file, aside.join(file.file_name().unwrap_or_default())).map_err(failed)?;
    }
    drop(held);
    Ok(aside)
}

fn folder(log: &Path) -> &Path {
    log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
