//! A textfile for the node exporter: what single commands count adds up over commands and processes.
//!
//! A counter that began anew with each command would tell nothing, so beside `NAME.prom` lies `NAME.prom.state` with the sums, and both
//! are written under a lock on `NAME.prom.lock`: counters and histograms add up, gauges (when a run last ended) are the newest. A state that
//! cannot be used begins at zero, which Prometheus takes for a restart. The families `process_…` are left out: they are the node exporter's
//! own names. Specification: <https://github.com/prometheus/node_exporter#textfile-collector>.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prometheus::TextEncoder;
use rustix::fs::{FlockOperation, flock};

use super::snapshot::Snapshot;
use super::{METRICS, broken};
use crate::error::Fault;

/// How long to wait for other commands that are writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of the state, in bytes.
const LIMIT: u64 = 16 << 20;

/// Checks, before anything is done, that the file can be written: its folder exists and takes files, and the path is no other thing.
///
/// Faults: `usage.metrics_textfile`.
pub fn check(path: &Path) -> Result<(), Fault> {
    if path.extension().is_none_or(|extension| extension != "prom") {
        return Err(refused(path, "its name does not end in .prom, and the node exporter reads no other"));
    }
    match path.symlink_metadata() {
        Ok(known) if !known.is_file() => return Err(refused(path, "it is there and is no file")),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(path, &error.to_string())),
        _ => {}
    }
    tempfile::NamedTempFile::new_in(folder(path)).map(drop).map_err(|error| refused(path, &error.to_string()))
}

/// Adds what this process has counted to the file. What went wrong with an old state is returned as a warning.
///
/// Faults: `metrics.textfile`.
pub fn write(path: &Path) -> Result<Option<String>, Fault> {
    let Some(metrics) = METRICS.get() else { return Ok(None) };
    merge(path, Snapshot::of(&metrics.registry.gather()))
}

fn merge(path: &Path, own: Snapshot) -> Result<Option<String>, Fault> {
    let failed = |error: std::io::Error| {
        Fault::new("metrics.textfile", format!("{}: the metrics were not written: {error}", path.display()))
            .hint("the command itself is done; see metrics.textfile in the configuration")
            .cause(error)
    };
    let lock = lock(&beside(path, "lock")).map_err(failed)?;
    let state = beside(path, "state");
    let (mut sums, warning) = match read(&state) {
        Ok(sums) => (sums, None),
        Err(reason) => {
            (Snapshot::default(), Some(format!("{}: not used, the counters begin at zero: {reason}", state.display())))
        }
    };
    sums.add(own);
    let text = TextEncoder::new().encode_to_string(&sums.families()).map_err(broken)?;
    let kept = serde_json::to_vec(&sums).map_err(|error| failed(error.into()))?;
    // The state first: where the second of the two is not written, the next command tells what this one has counted.
    replace(&state, &kept, 0o600).map_err(failed)?;
    replace(path, text.as_bytes(), 0o644).map_err(failed)?;
    drop(lock);
    Ok(warning)
}

fn refused(path: &Path, why: &str) -> Fault {
    Fault::new("usage.metrics_textfile", format!("metrics.textfile {}: {why}", path.display())).hint(
        "name a file that ends in .prom in a folder that you may write to, such as the node exporter's textfile folder",
    )
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Takes the lock; it is given back when the file is closed.
fn lock(path: &Path) -> std::io::Result<File> {
    let file = open(OpenOptions::new().write(true).create(true).mode(0o600), path)?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(std::io::Error::other("other commands hold its lock for too long"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn read(path: &Path) -> Result<Snapshot, String> {
    let file = match open(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Snapshot::default()),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err("it is too large".to_owned());
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("it is damaged ({error})"))
}

/// Opens a plain file: no link is followed, and nothing waits for the other end of a pipe.
fn open(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    Ok(file)
}

/// Replaces a file whole: a reader sees the old one or the new one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Operation, enable, operation};

    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn own() -> Snapshot {
        enable().unwrap();
        operation(
            Operation { name: "test.textfile", effect: "read", mode: "standard" },
            "done",
            Some(Duration::from_millis(3)),
        );
        Snapshot::of(&METRICS.get().unwrap().registry.gather())
    }

    #[test]
    fn the_counters_of_consecutive_commands_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ceso.prom");
        let own = own();
        for times in 1..=3 {
            assert_eq!(merge(&path, own.clone()).unwrap(), None);
            let text = std::fs::read_to_string(&path).unwrap();
            let once =
                value(&text, "ceso_operations_total{effect=\"read\",mode=\"standard\",operation=\"test.textfile\"");
            assert_eq!(once % f64::from(times), 0.0, "{text}");
            let series = "ceso_operation_duration_seconds_bucket{effect=\"read\",mode=\"standard\",operation=\"test.textfile\",outcome=\"done\",le=\"0.005\"}";
            assert_eq!(value(&text, series), once);
            assert!(!text.contains("process_") && !text.contains("ceso_runs{"), "{text}");
        }
    }

    #[test]
    fn several_processes_lose_no_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ceso.prom");
        let own = own();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (path, own) = (path.clone(), own.clone());
                std::thread::spawn(move || (0..5).for_each(|_| drop(merge(&path, own.clone()).unwrap())))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let sums = read(&beside(&path, "state")).unwrap();
        let mut expected = Snapshot::default();
        (0..40).for_each(|_| expected.add(own.clone()));
        let text = |sums: &Snapshot| TextEncoder::new().encode_to_string(&sums.families()).unwrap();
        let line = |text: String| {
            text.lines().find(|l| l.contains("_bucket") && l.contains("test.textfile")).map(str::to_owned)
        };
        assert_eq!(line(text(&sums)), line(text(&expected)));
    }

    #[test]
    fn a_state_that_cannot_be_used_begins_at_zero_and_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ceso.prom");
        for text in ["", "rubbish", "{\"ceso_operations_total\":3}", "[]"] {
            std::fs::write(beside(&path, "state"), text).unwrap();
            assert!(merge(&path, own()).unwrap().unwrap().contains("begin at zero"), "{text}");
        }
        let wrong = r#"{"ceso_operations_total":[{"labels":["x"],"value":{"counter":1}},{"labels":["a","b","c","d"],"value":{"counter":-1.0}}],"made_up":[]}"#;
        std::fs::write(beside(&path, "state"), wrong).unwrap();
        assert_eq!(merge(&path, own()).unwrap(), None);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("made_up") && !text.contains(" -1"), "{text}");
    }

    #[test]
    fn what_is_no_file_in_a_folder_that_takes_files_is_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("folder.prom");
        std::fs::create_dir(&made).unwrap();
        let link = folder.path().join("link.prom");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        for path in [made, link, folder.path().join("none/x.prom"), folder.path().join("x.txt"), "/dev/null".into()] {
            assert_eq!(check(&path).unwrap_err().kind(), "usage.metrics_textfile", "{}", path.display());
        }
        assert!(check(&folder.path().join("x.prom")).is_ok());
    }
}
