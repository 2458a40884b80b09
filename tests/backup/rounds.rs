//! Whole backups on servers of others, through a proxy that breaks things: what was reported restores, by SHA-256.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use ceso::backup::{BackupOptions, Depth, FileSource, InitOptions, Keep, KeyCost, Place, PruneOptions, Repository};
use secrecy::SecretSlice;
use sha2::{Digest, Sha256};

use crate::proxy::Proxy;
use crate::servers::{BUCKET, Server, access};

fn digest(path: &Path) -> [u8; 32] {
    Sha256::digest(std::fs::read(path).unwrap()).into()
}

/// Bytes that do not compress, from a seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

fn secret() -> SecretSlice<u8> {
    b"passphrase".to_vec().into()
}

/// Backs up a disk of three versions, checks, restores each, forgets, prunes, and checks again; each step opens the place anew.
fn round(proxy: &Proxy, pack_size: u64, disk: usize) {
    let folder = tempfile::tempdir().unwrap();
    let access = access(proxy.address, folder.path());
    let place: Place = format!("s3://{BUCKET}/round").parse().unwrap();
    let options = InitOptions {
        secret: Some(secret()),
        key_cost: KeyCost { memory_kib: 8, passes: 1, lanes: 1 },
        chunk_size: 64 << 10,
        grace: Duration::ZERO,
        ..InitOptions::default()
    };
    Repository::init(place.open(&access).unwrap(), &options, None).unwrap();
    let open = || Repository::open(place.open(&access).unwrap(), Some(&secret()), None).unwrap();
    let path = folder.path().join("disk");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&noise(disk, 1)).unwrap();
    file.seek(SeekFrom::Start(disk as u64 + (8 << 20))).unwrap();
    file.write_all(b"the end, behind a hole").unwrap();
    let mut made = Vec::new();
    for version in 0..3u64 {
        file.write_all_at(&noise(300 << 10, 100 + version), (version * disk as u64) / 3).unwrap();
        let repository = open();
        let options = BackupOptions { group: "vm".to_owned(), pack_size, threads: 2, ..BackupOptions::default() };
        let mut session = repository.begin(options).unwrap();
        session.disk("disk", &FileSource::open(&path).unwrap(), None).unwrap();
        made.push((session.finish().unwrap().id, digest(&path)));
    }
    let report = open().check(Depth::ReadData).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let restore = |id: &str, wanted: [u8; 32]| {
        let repository = open();
        let (_, manifest) = repository.backup(id).unwrap();
        let to = folder.path().join("restored");
        repository.read_disk(manifest.disk(None).unwrap()).unwrap().restore(&to, 2).unwrap();
        assert_eq!(digest(&to), wanted);
        std::fs::remove_file(to).unwrap();
    };
    made.iter().for_each(|(id, wanted)| restore(&id.to_string(), *wanted));
    let repository = open();
    let plan = repository.forget_plan(&Keep { last: 1, ..Keep::default() }).unwrap();
    assert_eq!(repository.forget(&plan, true).unwrap(), 2);
    let stored = |repository: &Repository| {
        let mut stored = 0;
        let mut each = |listed: ceso::backup::target::Listed| {
            stored += listed.size;
            Ok(())
        };
        repository.target().list("data", &mut each).unwrap();
        stored
    };
    let before = stored(&repository);
    for _ in 0..2 {
        let repository = open();
        let plan = repository.prune_plan(&PruneOptions::default()).unwrap();
        repository.prune(&plan).unwrap();
    }
    let repository = open();
    assert!(stored(&repository) < before, "a prune makes room");
    let report = repository.check(Depth::ReadData).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let (id, wanted) = made.pop().unwrap();
    restore(&id.to_string(), wanted);
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_holds_backups_through_trouble() {
    let server = Server::versitygw();
    let proxy = Proxy::start(server.address, 10, 23);
    round(&proxy, 700 << 10, 6 << 20);
    assert!(proxy.made().len() >= 7, "{:?}", proxy.made());
}

#[test]
#[ignore = "needs moto"]
fn moto_holds_backups_through_trouble() {
    let server = Server::moto();
    let proxy = Proxy::without_flips(server.address, 10, 29);
    round(&proxy, 700 << 10, 6 << 20);
    assert!(proxy.made().len() >= 7, "{:?}", proxy.made());
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_takes_packs_of_the_usual_size() {
    let server = Server::versitygw();
    let proxy = Proxy::start(server.address, 0, 0);
    round(&proxy, BackupOptions::default().pack_size, 100 << 20);
}
