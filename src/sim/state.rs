//! What outlives the process: a folder with a lock, one small file for the host and one for each machine that was changed.
//!
//! ```text
//! DIR/lock               held while a simulator runs on the folder; its text names the holder
//! DIR/certificate.pem    the certificate and its key, mode 0600
//! DIR/host.json          numbers that must not repeat, and which of the numbered machines are gone
//! DIR/vms/ID.json        one machine; numbered machines that nobody touched have none
//! DIR/datastore1/…       the files of the datastore
//! ```
//!
//! Every file is written whole beside its place, synced and renamed over it, so a killed process leaves the old or the new one. A
//! file that does not read back stops the start with its path; nothing is repaired or overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::esx::upkeep::Mount;
use crate::error::Fault;

/// The form of the files in a state folder that this program reads and writes.
const FORMAT: u32 = 1;

/// The host's own numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFile {
    format: u32,
    /// The hardware UUID of the host.
    pub uuid: String,
    pub next_vm: u64,
    pub next_mac: u32,
    pub next_lease: u32,
    /// Numbered machines that were destroyed or unregistered.
    pub gone: BTreeSet<u32>,
    /// The port groups beyond `VM Network`.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The VLANs of port groups; 0 for those that are not here.
    #[serde(default)]
    pub vlans: BTreeMap<String, i32>,
    /// The exports that are mounted as datastores.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub maintenance: bool,
    /// What an inventory said that it was loaded with.
    #[serde(default)]
    pub loaded: Option<Loaded>,
    /// Whether the host was shut down, and comes up with the next process.
    #[serde(default)]
    pub down: bool,
    /// The PCI devices whose passthrough was changed.
    #[serde(default)]
    pub passthrough: Vec<super::esx::pci::Set>,
    #[serde(default)]
    pub autostart: super::esx::autostart::Autostart,
    /// The resource pools below the root pool.
    #[serde(default)]
    pub pools: Vec<super::esx::pools::Pool>,
    #[serde(default)]
    pub firewall: super::esx::firewall::Firewall,
    #[serde(default)]
    pub services: super::esx::services::Services,
    /// What the host's own port is for, beside management.
    #[serde(default)]
    pub uses: BTreeSet<String>,
    /// The advanced options that were set.
    #[serde(default)]
    pub options: BTreeMap<String, super::esx::options::Setting>,
    /// The authorities that the host was told to trust, and the certificates that they took back, as PEM.
    #[serde(default)]
    pub authorities: Vec<String>,
    #[serde(default)]
    pub revocations: Vec<String>,
}

/// A state folder that is locked for this process, or a temporary one.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Nothing but the datastore's files is written to a temporary folder.
    temporary: Option<tempfile::TempDir>,
    _lock: Option<File>,
}

impl Store {
    /// Opens a folder, or a temporary one that is removed at the end; waits up to `patience` for another process to leave it.
    pub async fn open(folder: Option<&Path>, patience: Duration) -> Result<Self, Fault> {
        let Some(folder) = folder else {
            let temporary = tempfile::Builder::new()
                .prefix("ceso-sim-")
                .tempdir()
                .map_err(|error| Fault::new("sim.state", format!("no temporary folder for the simulator: {error}")))?;
            return Ok(Self { folder: temporary.path().to_owned(), temporary: Some(temporary), _lock: None });
        };
        fs::create_dir_all(folder.join("vms")).map_err(|error| broken(folder, error))?;
        let lock = lock(&folder.join("lock"), patience).await?;
        Ok(Self { folder: folder.to_owned(), temporary: None, _lock: Some(lock) })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the host's file; a new folder gets a new host.
    pub fn host(&self) -> Result<HostFile, Fault> {
        let path = self.folder.join("host.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HostFile::new()),
            Err(error) => return Err(broken(&path, error)),
        };
        let file: HostFile = serde_json::from_slice(&bytes).map_err(|error| broken(&path, error))?;
        match file.format {
            FORMAT => Ok(file),
            other => Err(broken(&path, format!("it has the format {other}, and this program reads {FORMAT}"))),
        }
    }

    pub fn save_host(&self, host: &HostFile) -> io::Result<()> {
        self.save("host.json", host)
    }

    /// The machines' files: each id with its content, in no order.
    pub fn machines(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, Fault> {
        let folder = self.folder.join("vms");
        if self.temporary.is_some() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| broken(&folder, error))? {
            let path = entry.map_err(|error| broken(&folder, error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = fs::read(&path).map_err(|error| broken(&path, error))?;
                found.push((path, bytes));
            }
        }
        Ok(found)
    }

    pub fn save_machine(&self, id: u64, record: &impl Serialize) -> io::Result<()> {
        self.save(&format!("vms/{id}.json"), record)
    }

    pub fn forget_machine(&self, id: u64) -> io::Result<()> {
        match fs::remove_file(self.folder.join(format!("vms/{id}.json"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn save(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        if self.temporary.is_some() {
            return Ok(());
        }
        replace(&self.folder.join(name), &serde_json::to_vec_pretty(value)?)
    }
}

impl HostFile {
    fn new() -> Self {
        let uuid = uuid::Uuid::new_v4().to_string();
        Self {
            format: FORMAT,
            uuid,
            next_vm: 2,
            next_mac: 1,
            next_lease: 0,
            gone: BTreeSet::new(),
            networks: Vec::new(),
            vlans: BTreeMap::new(),
            mounts: Vec::new(),
            maintenance: false,
            loaded: None,
            down: false,
            passthrough: Vec::new(),
            autostart: super::esx::autostart::Autostart::default(),
            pools: Vec::new(),
            firewall: Default::default(),
            services: Default::default(),
            uses: BTreeSet::new(),
            options: super::esx::options::of_a_new_host(),
            authorities: Vec::new(),
            revocations: Vec::new(),
        }
    }
}

/// What of another host's inventory no object of this one holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loaded {
    /// Whether it has `datastore1` and `VM Network`, which every new simulator has.
    pub own_datastore: bool,
    pub own_network: bool,
    /// Capacity and free space of the datastores.
    pub space: BTreeMap<String, (u64, u64)>,
    /// What machines took up, by their ids.
    pub committed: BTreeMap<u64, u64>,
    pub host: crate::inventory::HostFacts,
}

async fn lock(path: &Path, patience: Duration) -> Result<File, Fault> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| broken(path, error))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(fs::TryLockError::WouldBlock) if began.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let holder = match file.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => holder.trim().chars().take(200).collect(),
                    _ => "another process".to_owned(),
                };
                let folder = path.parent().unwrap_or(path).display();
                let message = format!("the simulator's state in {folder} is in use by {holder}");
                return Err(Fault::new("sim.busy", message)
                    .hint("wait until that process has ended, or give this one a state folder of its own")
                    .retry());
            }
            Err(fs::TryLockError::Error(error)) => return Err(broken(path, error)),
        }
    }
    let holder = format!("process {}", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(holder.as_bytes()))
        .map_err(|error| broken(path, error))?;
    Ok(file)
}

/// Writes a file whole, with mode 0600, and syncs it.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    replace(path, bytes).map_err(|error| broken(path, error))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("no folder"))?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// The fault for a file of the state that cannot be used.
pub fn broken(path: &Path, why: impl std::fmt::Display) -> Fault {
    Fault::new("sim.state", format!("the simulator's state cannot be used: {}: {why}", path.display()))
        .hint("nothing was overwritten; mend or move the file away, or remove its folder to begin with a new simulator")
}
