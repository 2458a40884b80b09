//! The cache on this machine: sorted runs, made from a repository's index files, in a folder that processes share.
//!
//! It is no part of the repository: whatever is wrong with it, it is made anew, and never believed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use uuid::Uuid;

use super::error::{Error, Result};
use super::id::Id;
use super::runs::Run;

/// What a killed process has left unfinished in the cache is removed after this time.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// The folder of this machine in which runs are kept.
pub struct Cache {
    folder: PathBuf,
    own: Option<tempfile::TempDir>,
    /// Takes its place where the folder cannot be written any more.
    instead: OnceLock<tempfile::TempDir>,
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(Error::io("the folder for temporary files", "make a folder in"))
}

impl Cache {
    /// A cache in a folder, or in one that goes with this value; so it is also where the folder cannot be made.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        if let Some(folder) = folder {
            match std::fs::create_dir_all(folder) {
                Ok(()) => {
                    return Ok(Self { folder: folder.to_path_buf(), own: None, instead: OnceLock::new() });
                }
                Err(error) => tracing::warn!(
                    "{}: cannot be made: {error}; the repository's index is read anew each time",
                    folder.display()
                ),
            }
        }
        let own = temporary()?;
        Ok(Self { folder: own.path().to_path_buf(), own: Some(own), instead: OnceLock::new() })
    }

    /// Makes a run under a name of its own first: another process may make the same.
    pub(super) fn make(&self, name: &str, write: impl Fn(&Path) -> Result<Run>) -> Result<Run> {
        let in_folder = |folder: &Path, alone: bool| -> Result<Run> {
            let path = folder.join(name);
            let unfinished = folder.join(format!("{name}.{}", Uuid::new_v4()));
            let made = write(&unfinished).and_then(|run| {
                std::fs::rename(&unfinished, &path).map_err(Error::io(path.display().to_string(), "rename"))?;
                Ok(run.moved(&path))
            });
            if made.is_err() || alone {
                // A file that no other process looks for needs no name while it is open, so a killed process leaves none. One that was
                // not finished goes now, or after a day.
                drop(std::fs::remove_file(if made.is_err() { &unfinished } else { &path }));
            }
            made
        };
        if let Some(instead) = self.instead.get() {
            return in_folder(instead.path(), true);
        }
        match in_folder(&self.folder, self.own.is_some()) {
            Err(Error::Io { source, .. }) if self.own.is_none() => {
                // It may just have been deleted.
                let made = std::fs::create_dir_all(&self.folder).is_ok().then(|| in_folder(&self.folder, false));
                if let Some(Ok(run)) = made {
                    return Ok(run);
                }
                tracing::warn!(
                    "{}: cannot be written: {source}; the repository's index is read anew each time",
                    self.folder.display()
                );
                let instead = temporary()?;
                in_folder(self.instead.get_or_init(|| instead).path(), true)
            }
            made => made,
        }
    }

    /// The runs that are there and whole; what is not, or covers an index file that is gone, is removed.
    pub(super) fn runs(&self, index: &HashSet<Id>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut covered: HashSet<Id> = HashSet::new();
        let mut found = Vec::new();
        // What cannot be listed is made anew, elsewhere if need be.
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "run") {
                found.push((Run::open(&path), path));
            } else if entry.metadata().and_then(|file| file.modified()).is_ok_and(|time| {
                time.elapsed().is_ok_and(|age| age > LEFT_BEHIND) && path.to_string_lossy().contains(".run.")
            }) {
                drop(std::fs::remove_file(path));
            }
        }
        // A merged run comes before its parts, which another process may not have removed yet.
        found.sort_by_key(|(run, _)| std::cmp::Reverse(run.as_ref().map_or(0, |run| run.covers.len())));
        for (run, path) in found {
            let run = run.filter(|run| {
                let whole = run.is_whole();
                if !whole {
                    tracing::warn!("{}: is damaged; it is thrown away and made anew", path.display());
                }
                whole
            });
            match run {
                Some(run) if run.covers.iter().all(|id| index.contains(id) && !covered.contains(id)) => {
                    covered.extend(run.covers.iter().copied());
                    runs.push(run);
                }
                // What cannot be removed now is passed over each time.
                _ => drop(std::fs::remove_file(path)),
            }
        }
        runs
    }
}
