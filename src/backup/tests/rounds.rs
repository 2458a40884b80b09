//! What is backed up comes back.

use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;
use sha2::Digest;

use super::*;
use crate::backup::target::listed;
use crate::backup::{Error, FileSource, Since};

#[test]
fn a_disk_comes_back_as_it_was_and_again_costs_nothing() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let disk = TestDisk::new(40 * CHUNK as u64 + 1000, (0..20).map(|n| (n * 2, n as u8)));
        let first = back_up(&init(Arc::new(FolderTarget::new(&path)), form).unwrap(), &disk).unwrap();
        let repository = open(&path, form);
        assert_eq!(content(&repository, first.id).unwrap(), bytes_of(&disk));
        let second = back_up(&repository, &disk).unwrap();
        assert_eq!((second.added, second.read), (0, first.read));
        let mut changed = disk.clone();
        changed.chunks.insert(3, 8);
        changed.chunks.insert(40, 9);
        let third = back_up(&repository, &changed).unwrap();
        // The chunk of seed 8 is known from another place; new are the short last one, the segment and the root.
        assert!(third.added > 0 && third.added < 8192, "{third:?}");
        for (summary, disk) in [(&first, &disk), (&second, &disk), (&third, &changed)] {
            assert_eq!(content(&open(&path, form), summary.id).unwrap(), bytes_of(disk));
        }
        assert_eq!(open(&path, form).backups().unwrap().len(), 3);
        assert!(listed(repository.target(), "claims").unwrap().is_empty());
        assert!(listed(repository.target(), "leases").unwrap().is_empty());
        assert!(listed(repository.target(), "temporary").unwrap().is_empty());
    }
}

#[test]
fn any_range_of_a_disk_can_be_read() {
    let (_folder, path) = place();
    let disk = TestDisk::new(9 * CHUNK as u64 + 5, [(0, 2), (1, 4), (4, 6), (8, 3), (9, 7)]);
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let id = back_up(&repository, &disk).unwrap().id;
    let (_, manifest) = repository.backup(&id.to_string()[..8]).unwrap();
    let reader = repository.read_disk(manifest.disk(Some("disk-0")).unwrap()).unwrap();
    let whole = bytes_of(&disk);
    let chunk = CHUNK as u64;
    for (from, to) in [
        (0, 0),
        (0, 1),
        (chunk - 1, chunk + 1),
        (1, 3 * chunk),
        (8 * chunk - 7, disk.size),
        (disk.size - 1, disk.size),
        (0, disk.size),
    ] {
        let mut bytes = vec![0xee; (to - from) as usize];
        reader.read_at(from, &mut bytes).unwrap();
        assert!(bytes == whole[from as usize..to as usize], "{from}..{to}");
    }
    assert!(reader.read_at(disk.size, &mut [0]).is_err());
    assert!(reader.read_at(u64::MAX, &mut [0; 8]).is_err());
}

#[test]
fn only_what_changed_since_the_parent_is_read() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    // Three segments; the middle one is all hole.
    let size = 3 * 4096 * CHUNK as u64;
    let before = TestDisk::new(size, [(0, 2), (5, 4), (4095, 6), (8192, 8), (12287, 10)]);
    let parent = back_up(&repository, &before).unwrap().id;
    let mut after = before.clone();
    after.chunks.insert(5, 12);
    after.chunks.remove(&4095);
    after.chunks.insert(8200, 14);
    let chunk = CHUNK as u64;
    // Chunk 0 is in an area that is not named: what is there is taken from the parent, though the source says otherwise.
    let mut lying = after.clone();
    lying.chunks.insert(0, 20);
    let changed = [5 * chunk + 10..5 * chunk + 11, 4095 * chunk..4096 * chunk, 8199 * chunk + 1..8201 * chunk];
    let mut session = repository.begin(options()).unwrap();
    let since = Since { parent, disk: "disk-0", changed: &changed };
    session.disk("disk-0", &lying, Some(&since)).unwrap();
    let summary = session.finish().unwrap();
    assert_eq!(summary.read, 2 * chunk);
    let (_, manifest) = repository.backup(&summary.id.to_string()).unwrap();
    let reader = repository.read_disk(manifest.disk(None).unwrap()).unwrap();
    let mut seen = BTreeMap::new();
    let seen_of = std::sync::Mutex::new(&mut seen);
    reader
        .each_chunk(2, &|at, bytes| {
            seen_of.lock().unwrap().insert(at / chunk, Id::of(bytes));
            Ok(())
        })
        .unwrap();
    let expected: BTreeMap<u64, Id> = after
        .chunks
        .keys()
        .map(|number| {
            let mut bytes = vec![0; CHUNK];
            after.read_at(number * chunk, &mut bytes).unwrap();
            (*number, Id::of(&bytes))
        })
        .collect();
    assert_eq!(seen, expected);
    let backwards = std::ops::Range { start: 5, end: 4 };
    for wrong in [Vec::from([backwards]), Vec::from([0..10, 9..20])] {
        let mut session = repository.begin(options()).unwrap();
        let since = Since { parent, disk: "disk-0", changed: &wrong };
        assert!(matches!(session.disk("disk-0", &lying, Some(&since)), Err(Error::Option(_))));
    }
}

#[test]
fn a_file_with_holes_is_restored_with_holes() {
    let (folder, path) = place();
    let image = folder.path().join("image");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len((1 << 30) + 777).unwrap();
    for at in [0u64, 300_000, 700 << 20, (1 << 30) + 770] {
        file.write_all_at(b"content", at).unwrap();
    }
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let mut session = repository.begin(options()).unwrap();
    session.disk("disk-0", &FileSource::open(&image).unwrap(), None).unwrap();
    session.file("machine.vmx", &mut b"guestOS = \"other\"".as_slice()).unwrap();
    session.file("empty", &mut b"".as_slice()).unwrap();
    let summary = session.finish().unwrap();
    assert_eq!(summary.read, 4 * CHUNK as u64 - (CHUNK as u64 - 777) + 17);
    let (_, manifest) = repository.backup(&summary.id.to_string()).unwrap();
    let restored = folder.path().join("restored");
    let reader = repository.read_disk(manifest.disk(None).unwrap()).unwrap();
    reader.restore(&restored, 2).unwrap();
    assert!(matches!(reader.restore(&restored, 2), Err(Error::Exists(_))));
    let metadata = std::fs::metadata(&restored).unwrap();
    assert_eq!(metadata.len(), (1 << 30) + 777);
    assert!(metadata.blocks() * 512 < 2 << 20);
    let hash = |path| {
        let mut hasher = sha2::Sha256::new();
        std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut hasher).unwrap();
        hasher.finalize()
    };
    assert_eq!(hash(&restored), hash(&image));
    let mut vmx = Vec::new();
    repository.read_file(&manifest.files[0], &mut vmx).unwrap();
    repository.read_file(&manifest.files[1], &mut Vec::new()).unwrap();
    assert_eq!(vmx, b"guestOS = \"other\"");
}

#[test]
fn a_repository_says_who_may_open_it() {
    let (_folder, path) = place();
    let target = || -> Arc<dyn Target> { Arc::new(FolderTarget::new(&path)) };
    assert!(matches!(open_with(target(), Form::Plain), Err(Error::NotARepository(_))));
    let mut repository = init(target(), Form::Encrypted).unwrap();
    assert!(matches!(init(target(), Form::Encrypted), Err(Error::AlreadyARepository(_))));
    assert!(matches!(open_with(target(), Form::Plain), Err(Error::Key(_))));
    let open_as = |text: &str| Repository::open(target(), Some(&secret(text)), None);
    assert!(matches!(open_as("wrong"), Err(Error::Key(_))));
    let first = repository.keys().unwrap()[0].id;
    assert!(matches!(repository.remove_key(first, true), Err(Error::Key(_))));
    repository.add_key(&secret("second"), CHEAP, "of the other admin").unwrap();
    let disk = TestDisk::new(CHUNK as u64 * 3, [(0, 2), (1, 3)]);
    let old = back_up(&open_as("second").unwrap(), &disk).unwrap().id;
    repository.remove_key(first, true).unwrap();
    assert!(matches!(open_as("passphrase"), Err(Error::Key(_))));
    // A session from before the rotation writes on with the old master key.
    let before = open_as("second").unwrap();
    assert!(matches!(repository.rotate_key(&secret("third"), CHEAP, "", true), Err(Error::Key(_))));
    open_as("second").unwrap().rotate_key(&secret("third"), CHEAP, "rotated", true).unwrap();
    assert!(matches!(open_as("second"), Err(Error::Key(_))));
    let late = back_up(&before, &TestDisk::new(CHUNK as u64, [(0, 6)])).unwrap().id;
    let after = open_as("third").unwrap();
    let new = back_up(&after, &TestDisk::new(CHUNK as u64, [(0, 4)])).unwrap();
    assert_eq!(after.keys().unwrap().len(), 1);
    assert_eq!(content(&after, old).unwrap(), bytes_of(&disk));
    assert_eq!(content(&after, late).unwrap()[0..2], bytes_of(&TestDisk::new(CHUNK as u64, [(0, 6)]))[0..2]);
    assert!(matches!(before.backup(&new.id.to_string()), Err(Error::UnknownMaster { .. })));
}

#[test]
fn a_newer_repository_is_refused_before_anything_is_done() {
    let (_folder, path) = place();
    init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let config = std::fs::read_to_string(path.join("config")).unwrap();
    let line = config.lines().next().unwrap();
    for (from, to) in [("\"format\":1", "\"format\":2"), ("\"needs\":[]", "\"needs\":[\"erasure codes\"]")] {
        let mut text = line.replace(from, to) + "\n";
        text += &format!("{}\n", Id::of(text.as_bytes()));
        std::fs::write(path.join("config"), text).unwrap();
        let opened = open_with(Arc::new(FolderTarget::new(&path)), Form::Plain);
        assert!(matches!(opened, Err(Error::Newer { .. })));
    }
}

#[test]
fn the_index_is_kept_between_processes() {
    let (folder, path) = place();
    let cache = folder.path().join("cache");
    let open = || {
        let target = Arc::new(FolderTarget::new(&path));
        Repository::open(target, None, Some(cache.clone())).unwrap()
    };
    init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let mut ids = Vec::new();
    for n in 0..30u8 {
        let disk = TestDisk::new(3 * CHUNK as u64, [(0, n * 2), (1, n * 2 + 2)]);
        let repository = open();
        let summary = back_up(&repository, &disk).unwrap();
        ids.push((summary.id, disk));
        let runs = std::fs::read_dir(cache.join(&repository.config().id)).unwrap().count();
        assert!(runs <= 10, "{runs} runs");
    }
    for (id, disk) in &ids {
        assert_eq!(content(&open(), *id).unwrap(), bytes_of(disk));
    }
    // Whatever happens to the cache, no wrong answer comes of it.
    for entry in std::fs::read_dir(cache.join(&open().config().id)).unwrap() {
        std::fs::write(entry.unwrap().path(), b"nonsense").unwrap();
    }
    assert_eq!(back_up(&open(), &ids[3].1).unwrap().added, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_backed_up_comes_back(
        disks in prop::collection::vec(
            (1u64..12 * CHUNK as u64, prop::collection::btree_map(0u64..12, 0u8..12, 0..10)),
            1..5,
        ),
        encrypted: bool,
    ) {
        let form = if encrypted { Form::Encrypted } else { Form::Plain };
        let (_folder, path) = place();
        let repository = init(Arc::new(FolderTarget::new(&path)), form).unwrap();
        let mut made = Vec::new();
        for (size, chunks) in disks {
            let chunks = chunks.into_iter().filter(|(chunk, _)| chunk * (CHUNK as u64) < size);
            let disk = TestDisk::new(size, chunks);
            made.push((back_up(&repository, &disk).unwrap().id, disk));
        }
        for (id, disk) in &made {
            prop_assert!(content(&repository, *id).unwrap() == bytes_of(disk));
        }
    }
}
