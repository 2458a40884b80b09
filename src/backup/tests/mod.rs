//! The engine as a whole: small disks in small packs, and everything that can go wrong with them.

mod altered;
mod beside;
mod cache;
mod damage;
mod lies;
mod locks;
mod parents;
pub mod power;
pub mod pruning;
mod rounds;
mod scale;
mod spare;
mod troubles;
mod turns;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretSlice;

use super::keys::KeyCost;
use super::target::{FolderTarget, Target};
use super::{BackupOptions, Id, InitOptions, Repository, Result, Summary};
use crate::vmdk::Source;

/// The cheapest key that argon2 takes.
pub const CHEAP: KeyCost = KeyCost { memory_kib: 8, passes: 1, lanes: 1 };

pub const CHUNK: usize = 64 << 10;

/// A folder for a test, and the path of its repository: in memory where there is such a place, for syncs cost nothing there.
pub fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("repository");
    (folder, path)
}

/// A disk in memory: chunks by their number, each filled from a seed; all others are holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDisk {
    pub size: u64,
    pub chunks: BTreeMap<u64, u8>,
}

impl TestDisk {
    pub fn new(size: u64, chunks: impl IntoIterator<Item = (u64, u8)>) -> Self {
        Self { size, chunks: chunks.into_iter().collect() }
    }

    /// Fills a buffer that lies in one chunk. Seed 0 is zeros that are no hole; even seeds do not compress.
    fn fill(&self, at: u64, bytes: &mut [u8]) {
        let chunk = at / CHUNK as u64;
        let Some(seed) = self.chunks.get(&chunk).copied().filter(|seed| *seed != 0) else { return bytes.fill(0) };
        let from = (at % CHUNK as u64) as usize;
        if seed % 2 == 1 {
            return bytes.fill(seed);
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            let mixed = ((from + n) as u64 + u64::from(seed) * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[1];
        }
    }
}

impl Source for TestDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = rest.len().min(CHUNK - (at % CHUNK as u64) as usize);
            let (part, after) = rest.split_at_mut(length);
            self.fill(at, part);
            at += length as u64;
            rest = after;
        }
        Ok(())
    }

    fn next_data(&self, at: u64) -> std::io::Result<Option<Range<u64>>> {
        let chunk = self.chunks.range(at / CHUNK as u64..).next();
        Ok(chunk.map(|(chunk, _)| {
            let start = (chunk * CHUNK as u64).max(at);
            start..((chunk + 1) * CHUNK as u64).min(self.size)
        }))
    }
}

pub fn secret(text: &str) -> SecretSlice<u8> {
    text.as_bytes().to_vec().into()
}

/// How a repository of a test is opened: encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Encrypted,
}

pub fn init_options(form: Form) -> InitOptions {
    InitOptions {
        secret: (form == Form::Encrypted).then(|| secret("passphrase")),
        key_cost: CHEAP,
        chunk_size: CHUNK as u32,
        grace: std::time::Duration::ZERO,
        like: None,
    }
}

pub fn init(target: Arc<dyn Target>, form: Form) -> Result<Repository> {
    Repository::init(target, &init_options(form), None)
}

pub fn open_with(target: Arc<dyn Target>, form: Form) -> Result<Repository> {
    Repository::open(target, init_options(form).secret.as_ref(), None)
}

pub fn open(path: &Path, form: Form) -> Repository {
    open_with(Arc::new(FolderTarget::new(path)), form).unwrap()
}

pub fn options() -> BackupOptions {
    BackupOptions { group: "vm-1".to_owned(), pack_size: 200 << 10, threads: 2, ..BackupOptions::default() }
}

pub fn back_up(repository: &Repository, disk: &TestDisk) -> Result<Summary> {
    let mut session = repository.begin(options())?;
    session.disk("disk-0", disk, None)?;
    session.finish()
}

/// Reads a whole disk of a backup back.
pub fn content(repository: &Repository, id: Id) -> Result<Vec<u8>> {
    let (_, manifest) = repository.backup(&id.to_string())?;
    let reader = repository.read_disk(manifest.disk(None)?)?;
    let bytes = std::sync::Mutex::new(vec![0; reader.size() as usize]);
    reader.each_chunk(2, &|at, chunk| {
        bytes.lock().unwrap()[at as usize..at as usize + chunk.len()].copy_from_slice(chunk);
        Ok(())
    })?;
    Ok(bytes.into_inner().unwrap())
}

pub fn bytes_of(disk: &TestDisk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}
