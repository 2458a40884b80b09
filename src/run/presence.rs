//! What runs on this machine: a file for each run, held by a lock for as long as its process lives.
//!
//! `runs/ID.json` has two lines: who and what, written once, and a line of fixed length that says what the run is doing, written anew in its
//! place at each operation. The lock is the kernel's, so a run whose process is gone is told apart from one that lives without a look at
//! process ids, which are used again. The folder is the user's own (mode 0700), and what lies in it is read as a stranger's all the same.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// How long the line of what it is doing is, with its newline.
const DOING: usize = 160;

/// The most that is read of a file, and the most files that are looked at.
const LARGEST: u64 = 16 << 10;
const MOST: usize = 1000;

/// How long a file may take from its making to its name.
const UNNAMED: Duration = Duration::from_secs(60);

/// Who and what a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub run: String,
    pub kind: String,
    pub script: String,
    pub mode: String,
    /// The host that it was started for; operations may name others.
    pub host: Option<String>,
    pub principal: String,
    pub pid: u32,
    /// In milliseconds since 1970.
    pub since: u64,
}

/// What a run is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doing {
    /// The operation that began last, while any is under way.
    pub operation: Option<String>,
    /// When it began, or the last one ended, in milliseconds since 1970.
    pub at: u64,
    /// The operations so far.
    pub calls: u64,
}

/// A run's own file; dropping it removes it.
#[derive(Debug)]
pub struct Presence {
    file: File,
    path: PathBuf,
    /// Where the second line begins.
    place: u64,
    calls: AtomicU64,
}

/// A run that was found.
#[derive(Debug, Clone)]
pub struct Seen {
    pub about: About,
    pub doing: Doing,
    /// Whether its process lives; one that does not was killed, and is forgotten by being told.
    pub lives: bool,
}

impl Presence {
    /// Makes the run known in the folder, which is made where it is not there.
    pub fn enter(folder: &Path, about: &About) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // It has its name once it is whole and locked: nobody finds it dead before it lives.
        let mut made = tempfile::Builder::new().prefix(".run").tempfile_in(folder)?;
        flock(made.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        let first = format!("{}\n", serde_json::to_string(about)?);
        made.write_all(first.as_bytes())?;
        made.write_all(&doing_line(None, 0))?;
        let name: String = about.run.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
        let path = folder.join(format!("{name}.json"));
        let file = made.persist(&path).map_err(|error| error.error)?;
        Ok(Self { file, path, place: first.len() as u64, calls: AtomicU64::new(0) })
    }

    /// Says which operation has begun, or that none is under way.
    pub fn doing(&self, operation: Option<&'static str>) {
        let calls = match operation {
            Some(_) => self.calls.fetch_add(1, Ordering::Relaxed) + 1,
            None => self.calls.load(Ordering::Relaxed),
        };
        // A full disk must not end a run: what is shown of it is a little older then.
        if let Err(error) = self.file.write_all_at(&doing_line(operation, calls), self.place) {
            tracing::debug!("what the run is doing was not written: {error}");
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{} was not removed: {error}", self.path.display());
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn doing_line(operation: Option<&'static str>, calls: u64) -> Vec<u8> {
    let operation = operation.filter(|name| name.len() <= 64).map(str::to_owned);
    // Plain data has a form in JSON; an empty line is read as nothing known.
    let mut line = serde_json::to_vec(&Doing { operation, at: now(), calls }).unwrap_or_default();
    line.resize(DOING - 1, b' ');
    line.push(b'\n');
    line
}

/// All runs of the folder, the oldest first. Those whose process is gone are told this once, and their files removed.
pub fn all(folder: &Path) -> io::Result<Vec<Seen>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.take(MOST) {
        let path = entry?.path();
        match look(&path) {
            Ok(Some(seen)) => found.push(seen),
            Ok(None) => {}
            // Another's file, a pipe, a run that ended just now: none of it is a run that can be told.
            Err(error) => tracing::debug!("{} is no run: {error}", path.display()),
        }
    }
    found.sort_by(|a, b| (a.about.since, &a.about.run).cmp(&(b.about.since, &b.about.run)));
    Ok(found)
}

fn look(path: &Path) -> io::Result<Option<Seen>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (named, unnamed) = (name.ends_with(".json"), name.starts_with(".run"));
    if !named && !unnamed {
        return Ok(None);
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let known = file.metadata()?;
    if !known.is_file() || known.uid() != rustix::process::geteuid().as_raw() {
        return Ok(None);
    }
    let lives = match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        Err(rustix::io::Errno::WOULDBLOCK) => true,
        Err(error) => return Err(error.into()),
    };
    if unnamed {
        let old = known.modified()?.elapsed().is_ok_and(|age| age > UNNAMED);
        return if !lives && old { fs::remove_file(path).map(|()| None) } else { Ok(None) };
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    if !lives {
        // One that has ended meanwhile has removed its file itself.
        fs::remove_file(path)?;
    }
    let mut lines = text.lines();
    let about: About = serde_json::from_str(lines.next().unwrap_or_default())?;
    let doing = serde_json::from_str(lines.next().unwrap_or_default().trim()).unwrap_or_default();
    Ok(Some(Seen { about, doing, lives }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(run: &str) -> About {
        About {
            run: run.to_owned(),
            kind: "run".to_owned(),
            script: "a\"b\n.luau".to_owned(),
            mode: "standard".to_owned(),
            host: Some("lab".to_owned()),
            principal: "uid 0".to_owned(),
            pid: 1,
            since: 5,
        }
    }

    #[test]
    fn a_run_is_seen_while_it_lives_and_gone_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        assert!(all(&runs).unwrap().is_empty());
        let presence = Presence::enter(&runs, &about("one")).unwrap();
        presence.doing(Some("vm.clone"));
        presence.doing(None);
        presence.doing(Some("vm.power_on"));
        let seen = all(&runs).unwrap();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].lives);
        assert_eq!(seen[0].about, about("one"));
        assert_eq!((seen[0].doing.operation.as_deref(), seen[0].doing.calls), (Some("vm.power_on"), 2));
        drop(presence);
        assert!(all(&runs).unwrap().is_empty());
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
    }

    #[test]
    fn a_run_that_was_killed_is_told_once_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let presence = Presence::enter(folder.path(), &about("dead")).unwrap();
        let copy = fs::read(&presence.path).unwrap();
        let path = presence.path.clone();
        drop(presence);
        fs::write(&path, copy).unwrap();
        let seen = all(folder.path()).unwrap();
        assert_eq!(seen.iter().map(|seen| seen.lives).collect::<Vec<_>>(), [false]);
        assert!(all(folder.path()).unwrap().is_empty() && !path.exists());
    }

    #[test]
    fn rubbish_in_the_folder_is_no_run_and_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(path("pipe.json")).status().unwrap().success());
        fs::create_dir(path("folder.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("link.json")).unwrap();
        for (name, text) in [
            ("empty.json", String::new()),
            ("rubbish.json", "\u{0}\u{1}".to_owned()),
            ("large.json", "[".repeat(1 << 20)),
            ("other.txt", "{}".to_owned()),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let presence = Presence::enter(folder.path(), &about("../../escape")).unwrap();
        assert!(presence.path.starts_with(folder.path()) && presence.path.ends_with("escape.json"));
        assert_eq!(all(folder.path()).unwrap().len(), 1);
        assert!(path("other.txt").exists() && fs::symlink_metadata(path("link.json")).is_ok());
    }
}
