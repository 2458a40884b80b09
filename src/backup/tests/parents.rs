//! A backup of what changed since a parent that is hurt: what of the parent is lost is read again, and said.

use super::*;
use crate::backup::pack;
use crate::backup::{Depth, Since};

const CHUNKS: u64 = 4096 + 8;

fn disk(of: impl IntoIterator<Item = (u64, u8)>) -> TestDisk {
    TestDisk::new(CHUNKS * CHUNK as u64, of)
}

fn back_up_since(repository: &Repository, disk: &TestDisk, parent: Id, changed: &[Range<u64>]) -> Summary {
    let mut session = repository.begin(options()).unwrap();
    session.disk("disk-0", disk, Some(&Since { parent, disk: "disk-0", changed })).unwrap();
    session.finish().unwrap()
}

/// The pack in which a blob lies.
fn pack_of(repository: &Repository, id: &Id) -> Id {
    repository.known().unwrap().find(id).unwrap().unwrap().pack
}

fn chunk(number: u64) -> Range<u64> {
    number * CHUNK as u64..(number + 1) * CHUNK as u64
}

/// A parent with eight chunks in three packs, and one chunk in the second segment.
fn parent() -> (tempfile::TempDir, std::path::PathBuf, TestDisk, Id) {
    let (folder, path) = place();
    let before = disk((0..8).map(|n| (n, n as u8 * 2 + 2)).chain([(4100, 40)]));
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let id = back_up(&repository, &before).unwrap().id;
    (folder, path, before, id)
}

#[test]
fn a_whole_parent_is_taken_over_and_nothing_is_read_again() {
    let (_folder, path, mut disk, parent) = parent();
    disk.chunks.insert(3, 60);
    let made = back_up_since(&open(&path, Form::Encrypted), &disk, parent, &[chunk(3)]);
    assert_eq!((made.read, made.read_again), (CHUNK as u64, 0));
    assert!(content(&open(&path, Form::Encrypted), made.id).unwrap() == bytes_of(&disk));
}

#[test]
fn chunks_that_a_parent_has_lost_are_read_again_and_the_backup_is_whole() {
    // Of a segment in which something changed, of one in which nothing did, and with the pack gone or in no index any more.
    for (changed, repaired) in [(3, false), (4101, false), (3, true), (4101, true)] {
        let (_folder, path, mut disk, parent) = parent();
        let repository = open(&path, Form::Encrypted);
        let mut first = vec![0; CHUNK];
        disk.read_at(0, &mut first).unwrap();
        let lost = pack_of(&repository, &repository.sealer.id(crate::backup::blob::Kind::Chunk, &first));
        let in_it = repository.known().unwrap().entries_of(&lost).unwrap().len() as u64;
        std::fs::remove_file(path.join(pack::name(lost))).unwrap();
        if repaired {
            open(&path, Form::Encrypted).repair(false).unwrap();
        }
        disk.chunks.insert(changed, 60);
        let repository = open(&path, Form::Encrypted);
        let made = back_up_since(&repository, &disk, parent, &[chunk(changed)]);
        let when = format!("{changed}, repaired: {repaired}: {made:?}");
        assert!(made.read_again > 0 && made.read_again <= in_it, "{when}");
        assert_eq!(made.read, (1 + made.read_again) * CHUNK as u64, "{when}");
        assert!(content(&open(&path, Form::Encrypted), made.id).unwrap() == bytes_of(&disk), "{when}");
        let report = open(&path, Form::Encrypted).check(Depth::ReadData).unwrap();
        assert!(!report.hurt.contains(&made.id), "{when}: {report:?}");
    }
}

#[test]
fn a_parent_without_its_segments_or_root_is_read_anew() {
    for what in ["gone", "damaged"] {
        let (_folder, path, mut disk, parent) = parent();
        let repository = open(&path, Form::Encrypted);
        let (_, manifest) = repository.backup(&parent.to_string()).unwrap();
        // Segments and root lie in one pack.
        let lost = path.join(pack::name(pack_of(&repository, &manifest.disk(None).unwrap().root)));
        match what {
            "gone" => std::fs::remove_file(&lost).unwrap(),
            _ => {
                let mut bytes = std::fs::read(&lost).unwrap();
                bytes[32..].iter_mut().take(1000).for_each(|byte| *byte ^= 1);
                std::fs::remove_file(&lost).unwrap();
                std::fs::write(&lost, bytes).unwrap();
            }
        }
        disk.chunks.insert(3, 60);
        let made = back_up_since(&open(&path, Form::Encrypted), &disk, parent, &[chunk(3)]);
        assert!(made.read_again > 0, "{what}: {made:?}");
        assert!(content(&open(&path, Form::Encrypted), made.id).unwrap() == bytes_of(&disk), "{what}");
    }
}
