//! Files that are what their names say, and say what is not true: whoever writes to a plain repository can make them.

use super::pruning::{assert_clean, forget, prune};
use super::*;
use crate::backup::blob::Kind;
use crate::backup::index;
use crate::backup::manifest::{self, Attached, Manifest};
use crate::backup::pack::Pack;
use crate::backup::target::listed;
use crate::backup::{Depth, Error, Keep};

fn disk(seeds: [u8; 3]) -> TestDisk {
    TestDisk::new(3 * CHUNK as u64, seeds.iter().enumerate().map(|(n, seed)| (n as u64, *seed)))
}

fn indexed(repository: &Repository) -> Vec<Pack> {
    let files = listed(repository.target(), "index").unwrap();
    let ids = files.iter().map(|file| file.name.trim_start_matches("index/").parse().unwrap());
    ids.flat_map(|id| index::read(repository.target(), &repository.sealer, id).unwrap()).collect()
}

/// Puts one index file in the place of all.
fn replace_index(repository: &Repository, packs: &[Pack]) -> String {
    let old: Vec<String> = listed(repository.target(), "index").unwrap().into_iter().map(|file| file.name).collect();
    let new = index::name(index::write(repository.target(), &repository.sealer, packs).unwrap());
    repository.target().delete(&old.into_iter().filter(|file| *file != new).collect::<Vec<_>>()).unwrap();
    new
}

/// A repository with the packs of two backups, of which the second is forgotten: first those of chunks, the forgotten one's before the other's.
fn two(path: &Path) -> (Repository, Id, Vec<Pack>) {
    let repository = init(Arc::new(FolderTarget::new(path)), Form::Plain).unwrap();
    let kept = back_up(&repository, &disk([2, 4, 6])).unwrap().id;
    let others = indexed(&repository).iter().map(|pack| pack.id).collect::<Vec<_>>();
    let gone = back_up(&repository, &disk([8, 10, 12])).unwrap().id;
    forget(&repository, gone);
    let mut packs = indexed(&repository);
    packs.sort_by_key(|pack| (pack.entries[0].flags.kind() != Kind::Chunk, others.contains(&pack.id)));
    assert!(packs[0].entries.len() == 3 && packs[1].entries.len() == 3 && !others.contains(&packs[0].id));
    (repository, kept, packs)
}

#[test]
fn an_index_that_claims_blobs_for_another_pack_is_named_and_makes_no_prune_delete_the_right_one() {
    let (_folder, path) = place();
    let (_, kept, mut packs) = two(&path);
    let (claims, true_ones) = (packs[1].entries.clone(), packs[0].entries.clone());
    for (entry, claim) in packs[0].entries.iter_mut().zip(&claims) {
        entry.id = claim.id;
    }
    let repository = open(&path, Form::Plain);
    let file = replace_index(&repository, &packs);
    let repository = open(&path, Form::Plain);
    let report = repository.check(Depth::ReadData).unwrap();
    assert!(report.problems.iter().any(|problem| problem.file == file), "{report:?}");
    let refused = prune(&repository).unwrap_err();
    assert!(matches!(&refused, Error::Damaged { what, .. } if what.contains("repair")), "{refused}");
    assert_eq!(content(&repository, kept).unwrap(), bytes_of(&disk([2, 4, 6])));
    // Without gaps it could be true; what has gaps, or more than there is room for, cannot.
    packs[0].entries.extend(true_ones);
    let file = replace_index(&repository, &packs);
    let report = open(&path, Form::Plain).check(Depth::Structure).unwrap();
    assert!(report.problems.iter().any(|problem| problem.file == file), "{report:?}");
    assert!(prune(&open(&path, Form::Plain)).is_err());
    repository.repair(false).unwrap();
    let repository = open(&path, Form::Plain);
    assert_clean(&repository);
    prune(&repository).unwrap();
    assert_eq!(content(&repository, kept).unwrap(), bytes_of(&disk([2, 4, 6])));
    assert_clean(&repository);
}

#[test]
fn an_index_that_claims_the_blobs_of_a_damaged_pack_for_another_makes_no_repair_drop_them() {
    for read_data in [true, false] {
        let (_folder, path) = place();
        let (_, kept, mut packs) = two(&path);
        let (claims, damaged) = (packs[1].entries.clone(), packs[1].id);
        for (entry, claim) in packs[0].entries.iter_mut().zip(&claims) {
            entry.id = claim.id;
        }
        replace_index(&open(&path, Form::Plain), &packs);
        // A byte of the first chunk, or of the table.
        let file = path.join(crate::backup::pack::name(damaged));
        let mut bytes = std::fs::read(&file).unwrap();
        let at = if read_data { claims[0].offset as usize } else { bytes.len() - crate::backup::pack::TRAILER - 1 };
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let report = open(&path, Form::Plain).repair(read_data).unwrap();
        assert_eq!(report.dropped, [damaged]);
        assert_eq!((report.saved, report.lost), if read_data { (2, 1) } else { (3, 0) }, "{report:?}");
        let repository = open(&path, Form::Plain);
        let whole = bytes_of(&disk([2, 4, 6]));
        if read_data {
            assert!(report.hurt.contains(&kept));
            back_up(&repository, &disk([2, 4, 6])).unwrap();
        }
        assert_clean(&repository);
        assert_eq!(content(&repository, kept).unwrap(), whole);
    }
}

#[test]
fn an_index_with_exchanged_places_is_named() {
    let (_folder, path) = place();
    let (repository, kept, mut packs) = two(&path);
    let (first, second) = (packs[1].entries[0].id, packs[1].entries[1].id);
    packs[1].entries[0].id = second;
    packs[1].entries[1].id = first;
    let file = replace_index(&repository, &packs);
    let repository = open(&path, Form::Plain);
    let report = repository.check(Depth::ReadData).unwrap();
    assert!(report.problems.iter().any(|problem| problem.file == file), "{report:?}");
    repository.repair(false).unwrap();
    assert_clean(&open(&path, Form::Plain));
    assert_eq!(content(&open(&path, Form::Plain), kept).unwrap(), bytes_of(&disk([2, 4, 6])));
}

#[test]
fn backups_whose_files_or_names_cannot_be_restored_are_named() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let mut session = repository.begin(options()).unwrap();
    session.disk("disk-0", &disk([2, 4, 6]), None).unwrap();
    session.file("machine.vmx", &mut b"guestOS".as_slice()).unwrap();
    session.file("empty", &mut b"".as_slice()).unwrap();
    assert!(session.file("empty", &mut b"".as_slice()).is_err() && session.disk("", &disk([2, 4, 6]), None).is_err());
    let id = session.finish().unwrap().id;
    assert_clean(&repository);
    let (_, whole) = repository.backup(&id.to_string()).unwrap();
    type Lie = fn(&mut Manifest);
    let lies: [(Lie, bool); 5] = [
        (|lie| lie.files[1].size = 10, true),
        (|lie| lie.files[0].size = 6, true),
        (|lie| lie.disks.push(lie.disks[0].clone()), false),
        (|lie| lie.disks[0].name.clear(), false),
        (|lie| lie.files.push(Attached { size: 0, parts: Vec::new(), ..lie.files[0].clone() }), false),
    ];
    for (lie, hurts) in lies {
        let mut told = whole.clone();
        lie(&mut told);
        let (id, bytes) = told.encode(&repository.sealer).unwrap();
        repository.target().put(&manifest::name(id), &bytes).unwrap();
        let report = repository.check(Depth::Structure).unwrap();
        assert!(report.problems.iter().any(|problem| problem.file == manifest::name(id)), "{report:?}");
        assert_eq!(report.hurt.contains(&id), hurts, "{report:?}");
        forget(&repository, id);
    }
    assert_clean(&repository);
}

#[test]
fn a_backup_from_the_future_does_not_cost_the_one_of_now() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let mut future = options();
    future.time += time::Duration::days(3650);
    let mut session = repository.begin(future).unwrap();
    session.disk("disk-0", &disk([2, 4, 6]), None).unwrap();
    let ahead = session.finish().unwrap().id;
    let now = back_up(&repository, &disk([8, 10, 12])).unwrap().id;
    let plan = repository.forget_plan(&Keep { last: 1, ..Keep::default() }).unwrap();
    assert_eq!(plan.removed().count(), 0);
    let kept = |id| plan.decisions.iter().find(|decision| decision.id == id).unwrap().kept_for.clone();
    assert_eq!((kept(now), kept(ahead)), (vec!["last"], vec!["ahead of the repository's clock"]));
}

#[test]
fn packs_are_parted_so_that_an_index_file_can_be_read() {
    let (_folder, path) = place();
    let (_, _, packs) = two(&path);
    let many: Vec<Pack> = (0..10).map(|_| packs[0].clone()).collect();
    let groups: Vec<usize> = index::parted(&many, 8).iter().map(|group| group.len()).collect();
    assert_eq!(groups, [2; 5]);
    assert_eq!(index::parted(&many, 1).len(), 10);
    assert!(index::parted(&[], 8).is_empty());
}
