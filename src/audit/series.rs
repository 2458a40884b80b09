//! The files of one log: the one that is written, and those that were set aside when they were full.
//!
//! `audit.json` becomes `audit-000000000001.json`, after the number of its first record. The names sort as the files follow.

use std::io;
use std::path::{Path, PathBuf};

/// How many digits the number in a name has at least.
const DIGITS: usize = 12;

/// The name that a file of the log gets when it is set aside.
pub(super) fn aside(log: &Path, first: u64) -> PathBuf {
    let (stem, extension) = parts(log);
    log.with_file_name(format!("{stem}-{first:0DIGITS$}{extension}"))
}

/// The files of the log that were set aside, the oldest first, each with the number in its name.
pub(super) fn set_aside(log: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
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
