//! A copy holds what its source holds, costs only what is missing, and believes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::backup::target::faults::Power;
use crate::backup::target::{FolderTarget, Target};
use crate::backup::tests::power::copy_folder;
use crate::backup::tests::pruning::{assert_clean, forget, prune};
use crate::backup::tests::{
    CHEAP, CHUNK, Form, TestDisk, back_up, bytes_of, content, init, init_options, open, options, place, secret,
};
use crate::backup::{InitOptions, State};

fn small() -> CopyOptions {
    CopyOptions { pack_size: 200 << 10, threads: 2 }
}

fn copy_all(from: &Repository, to: &Repository) -> CopyReport {
    from.copy(to, &from.copy_plan(to, &|_, _| true).unwrap(), &small(), &|_| {}).unwrap()
}

/// Pairs of repositories: alike by being plain, alike by being made so, and with other id keys, passphrases and chunk sizes.
fn pairs() -> Vec<(tempfile::TempDir, PathBuf, Repository, Repository, bool)> {
    let pair = |form: Form, alike: bool, other: Option<&str>| {
        let (folder, path) = place();
        let from = init(Arc::new(FolderTarget::new(&path)), form).unwrap();
        let to = InitOptions {
            secret: other.map(secret),
            key_cost: CHEAP,
            chunk_size: if alike { CHUNK as u32 } else { 2 * CHUNK as u32 },
            like: alike.then(|| from.like()),
            ..InitOptions::default()
        };
        let second = folder.path().join("second");
        let to = Repository::init(Arc::new(FolderTarget::new(&second)), &to, None).unwrap();
        (folder, second, from, to, alike)
    };
    vec![
        pair(Form::Plain, true, None),
        pair(Form::Encrypted, true, Some("of the second")),
        pair(Form::Encrypted, false, Some("of the second")),
        pair(Form::Plain, false, Some("of the second")),
        pair(Form::Encrypted, false, None),
    ]
}

fn disk(seeds: impl IntoIterator<Item = u8>) -> TestDisk {
    TestDisk::new(20 * CHUNK as u64 - 99, seeds.into_iter().enumerate().map(|(n, seed)| (n as u64, seed)))
}

#[test]
fn a_copy_has_all_that_its_source_has_and_again_costs_nothing() {
    for (_folder, _, from, to, alike) in pairs() {
        let first_disk = disk(2..18);
        let second_disk = disk((2..18).map(|seed| if seed == 9 { 40 } else { seed }));
        let first = back_up(&from, &first_disk).unwrap().id;
        let mut session = from
            .begin(crate::backup::BackupOptions {
                group: "vm-1".to_owned(),
                name: "the second".to_owned(),
                tags: vec!["keep".to_owned(), "x".to_owned()],
                state: State::Failed,
                parent: Some(first),
                details: serde_json::json!({ "firmware": "efi" }),
                ..options()
            })
            .unwrap();
        session.disk("disk-0", &second_disk, None).unwrap();
        session.file("machine.vmx", &mut b"guestOS = \"other\"".as_slice()).unwrap();
        let second = session.finish().unwrap().id;
        let report = copy_all(&from, &to);
        assert_eq!(report.copied.iter().map(|copied| copied.from).collect::<Vec<_>>(), [first, second]);
        assert!(report.present.is_empty() && report.failed.is_empty());
        let [one, other] = report.copied.as_slice() else { panic!() };
        assert_eq!(content(&to, one.id).unwrap(), bytes_of(&first_disk));
        assert_eq!(content(&to, other.id).unwrap(), bytes_of(&second_disk));
        // The second cost what is new in it: one chunk and the file, with the segment and the root.
        assert!(other.read < 70 << 10, "{other:?}");
        assert!(other.added < 75 << 10, "{other:?}");
        let (_, was) = from.backup(&second.to_string()).unwrap();
        let (_, is) = to.backup(&other.id.to_string()).unwrap();
        assert_eq!(is.parent, Some(one.id));
        assert_eq!((&is.uuid, &is.group, &is.name, is.time), (&was.uuid, &was.group, &was.name, was.time));
        assert_eq!((&is.tags, is.state, &is.details), (&was.tags, was.state, &was.details));
        assert_eq!(is.disks[0].root == was.disks[0].root, alike);
        let mut file = Vec::new();
        to.read_file(&is.files[0], &mut file).unwrap();
        assert_eq!(file, b"guestOS = \"other\"");
        assert_clean(&to);
        let again = copy_all(&from, &to);
        assert!(again.copied.is_empty() && again.present == [first, second]);
        // The other way there is nothing to do either.
        assert_eq!(copy_all(&to, &from).copied, []);
        // What was forgotten and pruned there comes again, whole.
        forget(&to, one.id);
        prune(&to).unwrap();
        assert_eq!(content(&to, other.id).unwrap(), bytes_of(&second_disk));
        let back = copy_all(&from, &to).copied;
        assert_eq!(content(&to, back[0].id).unwrap(), bytes_of(&first_disk));
        assert_clean(&to);
        assert!(
            listed(from.target(), "leases").unwrap().is_empty() && listed(to.target(), "leases").unwrap().is_empty()
        );
    }
}

#[test]
fn only_what_was_chosen_is_copied_and_no_parent_is_named_that_is_not_there() {
    for (_folder, _, from, to, _) in pairs() {
        let first = back_up(&from, &disk(2..6)).unwrap().id;
        let mut session = from
            .begin(crate::backup::BackupOptions { group: "vm-2".to_owned(), parent: Some(first), ..options() })
            .unwrap();
        session.disk("disk-0", &disk(4..8), None).unwrap();
        let second = session.finish().unwrap().id;
        let plan = from.copy_plan(&to, &|_, manifest| manifest.group == "vm-2").unwrap();
        assert_eq!(plan.copy.iter().map(|planned| planned.id).collect::<Vec<_>>(), [second]);
        let told = std::sync::Mutex::new(Vec::new());
        let report = from.copy(&to, &plan, &small(), &|at| told.lock().unwrap().push(*at)).unwrap();
        assert_eq!(to.backup(&report.copied[0].id.to_string()).unwrap().1.parent, None);
        let last = *told.lock().unwrap().last().unwrap();
        assert_eq!((last.backups, last.of, last.done), (0, 1, last.size));
        assert!(matches!(from.copy_plan(&from, &|_, _| true), Err(Error::Option(_))));
    }
}

#[test]
fn a_damaged_chunk_fails_its_backup_by_name_and_the_others_go_on() {
    for (_folder, _, from, to, _) in pairs() {
        let disks = [disk([2, 4]), disk([6, 8]), disk([10, 12])];
        let ids = disks.each_ref().map(|disk| back_up(&from, disk).unwrap().id);
        // The chunk with seed 6 is flipped.
        let id = from.sealer.id(Kind::Chunk, &bytes_of(&disks[1])[..CHUNK]);
        let found = from.known().unwrap().find(&id).unwrap().unwrap();
        let file = Path::new(&from.target().place()).join(pack::name(found.pack));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[found.entry.offset as usize + 100] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let report = copy_all(&from, &to);
        assert_eq!(report.copied.iter().map(|copied| copied.from).collect::<Vec<_>>(), [ids[0], ids[2]]);
        assert_eq!(report.failed.len(), 1);
        assert!(
            report.failed[0].from == ids[1] && report.failed[0].why.contains(&pack::name(found.pack)),
            "{report:?}"
        );
        assert_clean(&to);
        assert_eq!(to.backups().unwrap().len(), 2);
        assert!(listed(to.target(), "leases").unwrap().is_empty());
    }
}

#[test]
fn what_the_other_place_has_lost_is_brought_back() {
    for (_folder, second, from, to, _) in pairs() {
        let one = disk([2, 4, 6]);
        back_up(&from, &one).unwrap();
        let first = copy_all(&from, &to).copied[0].id;
        // The pack with the chunks is gone there, and a repair has said so.
        for file in listed(to.target(), "data").unwrap().into_iter().filter(|file| file.size > 100 << 10) {
            std::fs::remove_file(second.join(file.name)).unwrap();
        }
        to.repair(false).unwrap();
        assert!(content(&to, first).unwrap_err().is_damage());
        // The next backup of the disk brings its chunks along, though the base says that they are there.
        let other = disk([2, 4, 6, 8]);
        back_up(&from, &other).unwrap();
        let copied = copy_all(&from, &to).copied;
        assert_eq!(content(&to, copied[0].id).unwrap(), bytes_of(&other));
        assert_eq!(content(&to, first).unwrap(), bytes_of(&one));
        assert_clean(&to);
    }
}

#[test]
fn a_copy_that_is_stopped_anywhere_loses_nothing_and_is_taken_up() {
    for undone in [false, true] {
        let (folder, path) = place();
        let from = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
        let disks = [disk([9, 11]), disk([9, 13])];
        let ids = disks.each_ref().map(|disk| back_up(&from, disk).unwrap().id);
        let base = folder.path().join("base");
        init(Arc::new(FolderTarget::new(&base)), Form::Encrypted).unwrap();
        let tiny = CopyOptions { pack_size: 220, threads: 1 };
        let mut done = false;
        for steps in 0.. {
            let (_second, second) = place();
            copy_folder(&base, &second);
            let power = Power::for_steps(steps);
            let to =
                |target: Arc<dyn Target>| Repository::open(target, init_options(Form::Encrypted).secret.as_ref(), None);
            let reported = to(power.target(&second))
                .and_then(|to| from.copy(&to, &from.copy_plan(&to, &|_, _| true)?, &tiny, &|_| {}));
            if undone {
                power.undo_unsynced();
            }
            let to = open(&second, Form::Encrypted);
            assert_clean(&to);
            let visible = to.backups().unwrap();
            for (id, manifest) in &visible {
                let disk = if manifest.uuid == from.backup(&ids[0].to_string()).unwrap().1.uuid {
                    &disks[0]
                } else {
                    &disks[1]
                };
                assert_eq!(content(&to, *id).unwrap(), bytes_of(disk), "step {steps}");
            }
            if let Ok(report) = reported {
                assert_eq!((report.copied.len(), visible.len()), (2, 2));
                done = true;
            }
            to.unlock(true).unwrap();
            from.copy(&to, &from.copy_plan(&to, &|_, _| true).unwrap(), &tiny, &|_| {}).unwrap();
            assert_eq!(to.backups().unwrap().len(), 2);
            prune(&to).unwrap();
            assert_clean(&to);
            if done && power.steps() < steps {
                assert!(steps > 40, "{steps} steps");
                break;
            }
        }
        assert_clean(&from);
    }
}
