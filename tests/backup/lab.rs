//! A repository of small images with all that was reported of it, and processes that are killed at a random moment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ceso::backup::target::{FolderTarget, Target};
use ceso::backup::{Depth, Id, InitOptions, KeyCost, Place, Repository};
use secrecy::SecretSlice;
use sha2::{Digest, Sha256};

use super::servers::{BUCKET, SECRET, Server};

pub const CHUNK: usize = 64 << 10;

/// The cheapest key that argon2 takes.
const CHEAP: KeyCost = KeyCost { memory_kib: 8, passes: 1, lanes: 1 };

/// Random numbers that come again with their seed (splitmix64).
pub struct Dice(u64);

impl Dice {
    /// From `CESO_SEED`, or from the clock; the seed is printed.
    pub fn new(what: &str) -> Self {
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("CESO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
        println!("{what}: CESO_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How many times something is done: a variable scales it.
pub fn times(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|times| times.parse().ok()).unwrap_or(usual)
}

/// A folder in memory where there is such a place: syncs cost nothing there, and a killed process loses nothing by that.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// An image: what is in it changes between backups.
pub struct Image {
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl Image {
    pub fn new(path: PathBuf, chunks: usize, dice: &mut Dice) -> Self {
        let mut image = Self { path, bytes: vec![0; chunks * CHUNK + 777] };
        for _ in 0..chunks / 2 {
            image.change(dice);
        }
        image.write();
        image
    }

    /// Fills a chunk with one of a few contents, so that backups share some and prunes have something to tell apart.
    pub fn change(&mut self, dice: &mut Dice) {
        let chunk = dice.below((self.bytes.len() / CHUNK) as u64) as usize;
        let mut content = Dice(dice.below(60) + 1);
        for bytes in self.bytes[chunk * CHUNK..(chunk + 1) * CHUNK].chunks_mut(8) {
            bytes.copy_from_slice(&content.next().to_le_bytes()[..bytes.len()]);
        }
    }

    pub fn write(&self) {
        std::fs::write(&self.path, &self.bytes).unwrap();
    }

    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }
}

/// What a process was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Backup,
    Prune,
    Rotate,
    Copy,
}

/// A repository and what was reported of it, in a folder or in a bucket.
pub struct Lab {
    pub folder: tempfile::TempDir,
    server: Option<Server>,
    /// Passphrases that may open it, the likeliest first.
    pub passphrases: Vec<String>,
    pub reported: Vec<(Id, [u8; 32])>,
}

impl Lab {
    pub fn new() -> Self {
        Self::on(None)
    }

    /// In the bucket of a server, where one is given.
    pub fn on(server: Option<Server>) -> Self {
        let lab = Self { folder: folder(), server, passphrases: vec!["the first".to_owned()], reported: Vec::new() };
        for place in ["repository", "second"] {
            let options = InitOptions {
                secret: Some(lab.secret(0)),
                key_cost: CHEAP,
                chunk_size: CHUNK as u32,
                grace: Duration::ZERO,
                like: None,
            };
            Repository::init(lab.target(place), &options, None).unwrap();
        }
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn target(&self, name: &str) -> Arc<dyn Target> {
        match &self.server {
            None => Arc::new(FolderTarget::new(self.path(name))),
            Some(server) => self.place(name).parse::<Place>().unwrap().open(&server.access()).unwrap(),
        }
    }

    /// A repository as commands name it.
    fn place(&self, name: &str) -> String {
        match &self.server {
            None => self.path(name).display().to_string(),
            Some(_) => format!("s3://{BUCKET}/{name}"),
        }
    }

    fn secret(&self, number: usize) -> SecretSlice<u8> {
        self.passphrases[number].clone().into_bytes().into()
    }

    /// The file of the passphrase that opens it.
    pub fn passphrase_file(&self) -> PathBuf {
        let path = self.path("passphrase");
        std::fs::write(&path, format!("{}\n", self.passphrases[0])).unwrap();
        path
    }

    /// The repository, opened with the first passphrase that opens it; which that is, is known after.
    pub fn open(&mut self) -> Repository {
        for number in 0..self.passphrases.len() {
            if let Ok(repository) = Repository::open(self.target("repository"), Some(&self.secret(number)), None) {
                let opens = self.passphrases.remove(number);
                self.passphrases = vec![opens];
                return repository;
            }
        }
        panic!("no passphrase opens it any more");
    }

    pub fn open_second(&self) -> Repository {
        Repository::open(self.target("second"), Some(&b"the first".to_vec().into()), None).unwrap()
    }

    /// A command of ceso, with a home of its own.
    pub fn ceso(&self, home: &str, arguments: &[&str]) -> Command {
        let home = self.path(home);
        std::fs::create_dir_all(home.join(".ceso")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceso"));
        command.env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin").current_dir(&home);
        command.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nobody").args(arguments);
        if let Some(server) = &self.server {
            command.env("AWS_ENDPOINT_URL_S3", format!("http://{}", server.address));
            command.env("AWS_ACCESS_KEY_ID", "tester").env("AWS_SECRET_ACCESS_KEY", SECRET);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn backup(&self, home: &str, image: &Path) -> Command {
        let (place, secret) = (self.place("repository"), self.passphrase_file());
        let mut command = self.ceso(home, &["disk", "backup"]);
        command.arg(image).arg("--repository").arg(place).arg("--passphrase-file").arg(secret);
        command.args(["--output", "json"]);
        command
    }

    /// A command about the repository, opened by its passphrase.
    fn about(&self, home: &str, words: &[&str]) -> Command {
        let mut command = self.ceso(home, words);
        command.arg(self.place("repository")).arg("--passphrase-file").arg(self.passphrase_file());
        command.args(["--output", "json"]);
        command
    }

    pub fn prune(&self, home: &str) -> Command {
        let mut command = self.about(home, &["repository", "prune"]);
        command.arg("--at-once");
        command
    }

    pub fn rotate(&self, home: &str, next: &str) -> Command {
        let file = self.path("next");
        std::fs::write(&file, next).unwrap();
        let mut command = self.about(home, &["repository", "key", "rotate"]);
        // What an interrupted rotation left is another key.
        command.arg("--yes").arg("--new-passphrase-file").arg(file);
        command
    }

    pub fn copy(&self, home: &str) -> Command {
        let file = self.path("passphrase-of-second");
        std::fs::write(&file, "the first").unwrap();
        let mut command = self.about(home, &["repository", "copy"]);
        command.arg(self.place("second")).arg("--to-passphrase-file").arg(file);
        command
    }

    /// Forgets backups until at most so many are left.
    pub fn forget(&mut self, left: usize, dice: &mut Dice) {
        let target = self.target("repository");
        while self.reported.len() > left {
            let (id, _) = self.reported.swap_remove(dice.below(self.reported.len() as u64) as usize);
            target.delete(&[format!("manifests/{id}")]).unwrap();
        }
    }

    /// Holds the repository against what was reported: every byte is whole, and every reported backup is there.
    pub fn verify(&mut self, when: &str) {
        let repository = self.open();
        clean(&repository, when);
        for (id, hash) in &self.reported {
            assert_eq!(restored(&repository, *id), *hash, "{when}: {id}");
        }
    }
}

pub fn clean(repository: &Repository, when: &str) {
    let report = repository.check(Depth::ReadData).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert!(report.is_clean() && report.hurt.is_empty(), "{when}: {report:?}");
}

/// The SHA-256 of a backup's disk, as it comes back.
pub fn restored(repository: &Repository, id: Id) -> [u8; 32] {
    let (_, manifest) = repository.backup(&id.to_string()).unwrap();
    let reader = repository.read_disk(manifest.disk(None).unwrap()).unwrap();
    let bytes = Mutex::new(vec![0; reader.size() as usize]);
    let keep = |at: u64, chunk: &[u8]| {
        bytes.lock().unwrap()[at as usize..at as usize + chunk.len()].copy_from_slice(chunk);
        Ok(())
    };
    reader.each_chunk(2, &keep).unwrap();
    Sha256::digest(bytes.into_inner().unwrap()).into()
}

/// How a process ended.
pub enum Ended {
    Killed,
    /// What it wrote to its standard output.
    Well(String),
    /// What it wrote to its standard error.
    Badly(String),
}

/// Waits for a process, and kills it when its time is over.
pub fn wait(mut child: Child, kill_after: Option<Duration>) -> Ended {
    if let Some(limit) = kill_after {
        std::thread::sleep(limit);
        // One that has ended already cannot be killed, and is none that was.
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    match output.status.code() {
        None => Ended::Killed,
        Some(0) => Ended::Well(String::from_utf8(output.stdout).unwrap()),
        Some(_) => Ended::Badly(
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
        ),
    }
}

/// The id that a backup has reported.
pub fn reported(text: &str) -> Id {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value["id"].as_str().unwrap().parse().unwrap()
}
