//! Memory stays flat however large the disk is: an index of as many chunks as 2 TiB have, and every work on it in a process of its own.

use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;
use crate::backup::blob::{Codec, Flags, Kind, Press};
use crate::backup::manifest::{Disk, Manifest, Root, SEGMENT};
use crate::backup::pack::{ENTRY, Entry, HEADER, Pack, TRAILER};
use crate::backup::{PruneOptions, State, commit, index, pack};

const IN_PACK: u64 = 256;
const STORED: u32 = 1000;
const CHUNK_SIZE: u32 = 256 << 10;

/// The chunks of the disk: 8,388,608 are 2 TiB.
fn chunks() -> u64 {
    std::env::var("CESO_CHUNKS").ok().and_then(|chunks| chunks.parse().ok()).unwrap_or(1 << 18)
}

fn chunk_id(number: u64) -> Id {
    Id::of(&number.to_le_bytes())
}

/// A pack with a table and no blobs: its content is a hole.
fn hollow_pack(root: &Path, number: u64) -> Pack {
    let entries: Vec<Entry> = (0..IN_PACK)
        .map(|n| Entry {
            flags: Flags(Kind::Chunk as u8),
            id: chunk_id(number * IN_PACK + n),
            offset: HEADER as u32 + n as u32 * STORED,
            stored: STORED,
            raw: CHUNK_SIZE,
        })
        .collect();
    let mut header = [0; HEADER];
    header[..9].copy_from_slice(b"cesopack\x01");
    let mut table = Vec::new();
    entries.iter().for_each(|entry| entry.write(&mut table));
    let mut end = table.clone();
    end.extend_from_slice(&pack::check_of(&header, &table));
    end.extend_from_slice(&(table.len() as u32).to_le_bytes());
    end.extend_from_slice(&(IN_PACK as u32).to_le_bytes());
    end.extend_from_slice(b"cesopend");
    let id = Id::of(format!("pack {number}").as_bytes());
    let path = root.join(pack::name(id));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    file.write_all_at(&header, 0).unwrap();
    let at = HEADER as u64 + IN_PACK * u64::from(STORED);
    file.write_all_at(&end, at).unwrap();
    Pack { id, size: at + IN_PACK * ENTRY as u64 + TRAILER as u64, entries }
}

/// A repository whose one backup needs all but a sixteenth of its chunks.
fn make(root: &Path) {
    let target = Arc::new(FolderTarget::new(root));
    let repository = init(target, Form::Plain).unwrap();
    let packs = chunks() / IN_PACK;
    for first in (0..packs).step_by(256) {
        let some: Vec<Pack> = (first..(first + 256).min(packs)).map(|number| hollow_pack(root, number)).collect();
        index::write(repository.target(), &repository.sealer, &some).unwrap();
    }
    let session = repository.begin(BackupOptions::default()).unwrap();
    let mut press = Press::new(Codec::Stored);
    let needed = chunks() / 16 * 15;
    let segments = (0..needed.div_ceil(SEGMENT as u64)).map(|segment| {
        let first = segment * SEGMENT as u64;
        let ids: Vec<u8> = (first..(first + SEGMENT as u64).min(needed)).flat_map(|chunk| chunk_id(chunk).0).collect();
        session.store.put(&mut press, Kind::Segment, &ids).unwrap().0
    });
    let root = Root { chunk_size: CHUNK_SIZE, size: needed * u64::from(CHUNK_SIZE), segments: segments.collect() };
    let id = session.store.put(&mut Press::new(Codec::Stored), Kind::Root, &root.encode()).unwrap().0;
    session.store.flush().unwrap();
    let disk =
        Disk { name: "disk-0".to_owned(), size: root.size, chunk_size: CHUNK_SIZE, root: id, chunks: needed, added: 0 };
    let manifest = Manifest {
        format: 1,
        uuid: "u".to_owned(),
        group: "vm-1".to_owned(),
        name: String::new(),
        time: time::OffsetDateTime::now_utc(),
        tags: Vec::new(),
        state: State::Complete,
        parent: None,
        disks: vec![disk],
        files: Vec::new(),
        details: serde_json::Value::Null,
    };
    commit::commit(&repository, session.store, &session.dooms, &manifest).unwrap();
}

#[test]
#[ignore = "long: CESO_CHUNKS=8388608 is a disk of 2 TiB, and takes minutes"]
fn long_memory_stays_flat_for_large_disks() {
    let folder = tempfile::tempdir().unwrap();
    make(&folder.path().join("repository"));
    for work in ["backup", "write", "check", "stats", "prune", "repair", "warm"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "backup::tests::scale::a_child_works_on_a_large_repository", "--ignored", "--nocapture"])
            .env("CESO_SCALE", work)
            .env("CESO_SCALE_FOLDER", folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{work}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find(|line| line.contains("VmHWM")).unwrap_or_default();
        let kib: u64 = line.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        writeln!(std::io::stderr(), "{work}: {} MB with {} chunks", kib * 1024 / 1_000_000, chunks()).unwrap();
        assert!(kib * 1024 < 100_000_000, "{work}: {line}");
    }
}

#[test]
#[ignore = "long: only as a process of the test before"]
fn a_child_works_on_a_large_repository() {
    let Ok(work) = std::env::var("CESO_SCALE") else { return };
    let folder = std::path::PathBuf::from(std::env::var("CESO_SCALE_FOLDER").unwrap());
    let target = Arc::new(FolderTarget::new(folder.join("repository")));
    // Each begins without a cache, but for the last.
    let cache = folder.join(if work == "warm" { "repair" } else { &work });
    let repository = Repository::open(target, None, Some(cache)).unwrap();
    match work.as_str() {
        "backup" | "warm" => {
            let disk = TestDisk::new(64 * CHUNK as u64, (0..64).map(|n| (n, n as u8 * 2 + 2)));
            back_up(&repository, &disk).unwrap();
        }
        // As many new chunks as an eighth of the disk, in packs that become full as often.
        "write" => {
            let options = BackupOptions { pack_size: 40 << 10, ..BackupOptions::default() };
            let session = repository.begin(options).unwrap();
            let mut press = Press::new(Codec::Stored);
            for n in 0..chunks() / 8 {
                let mut bytes = [0; 100];
                bytes[..8].copy_from_slice(&n.to_le_bytes());
                session.store.put(&mut press, Kind::Chunk, &bytes).unwrap();
            }
            session.store.flush().unwrap();
        }
        "check" => {
            let report = repository.check(Default::default()).unwrap();
            assert!(
                report.is_clean() && report.hurt.is_empty() && report.backups >= 1,
                "{:?}",
                report.problems.first()
            );
        }
        "stats" => assert!(repository.stats().unwrap().unique > 0),
        "prune" => {
            let plan =
                repository.prune_plan(&PruneOptions { unused: 0.0, at_once: true, ..PruneOptions::default() }).unwrap();
            assert!(repository.prune(&plan).unwrap().deleted >= chunks() / IN_PACK / 16);
        }
        _ => assert!(repository.repair(false).unwrap().hurt.is_empty()),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}
