//! Readers beside a prune of another process: what it moves beneath them is found again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::altered::{Alter, Altered};
use super::*;
use crate::backup::prune::PackUse;
use crate::backup::{CopyOptions, Depth, DiskForm, Error, ExportOptions, PruneOptions};

/// A target beneath which something happens before some of the reads of packs.
struct Meddled {
    inner: FolderTarget,
    reads: AtomicU64,
    when: fn(u64) -> bool,
    meddle: Box<dyn Fn() + Send + Sync>,
}

impl Alter for Meddled {
    fn inner(&self) -> &FolderTarget {
        &self.inner
    }

    fn reading(&self, name: &str) {
        if name.starts_with("data/") && (self.when)(self.reads.fetch_add(1, Ordering::SeqCst)) {
            (self.meddle)();
        }
    }
}

/// Another process that moves all that is needed into new packs and deletes the old ones.
fn move_all(path: &Path) {
    let repository = open(path, Form::Encrypted);
    let mut plan =
        repository.prune_plan(&PruneOptions { unused: 0.0, at_once: true, ..PruneOptions::default() }).unwrap();
    let packs = repository.packs().unwrap();
    plan.delete = packs.into_iter().map(|(pack, size)| PackUse { pack, size, needed: size }).collect();
    repository.prune(&plan).unwrap();
}

/// A repository with one backup, opened where everything moves before some of the reads.
fn meddled(when: fn(u64) -> bool) -> (tempfile::TempDir, Repository, Id, TestDisk) {
    let (folder, path) = place();
    let disk = TestDisk::new(12 * CHUNK as u64, (0..12).map(|n| (n, n as u8 * 2 + 2)));
    let id = back_up(&init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap(), &disk).unwrap().id;
    let inner = FolderTarget::new(&path);
    let meddle = Box::new(move || move_all(&path));
    let target = Altered(Meddled { inner, reads: AtomicU64::new(0), when, meddle });
    (folder, open_with(Arc::new(target), Form::Encrypted).unwrap(), id, disk)
}

const TIMES: [fn(u64) -> bool; 6] =
    [|n| n == 0, |n| n == 1, |n| n == 2, |n| n == 4, |n| n < 3, |n| n.is_multiple_of(3) && n < 12];

#[test]
fn a_restore_and_an_export_go_on_where_a_prune_moves_what_they_read() {
    for (number, when) in TIMES.into_iter().enumerate() {
        let (_folder, repository, id, disk) = meddled(when);
        assert!(content(&repository, id).unwrap() == bytes_of(&disk), "{number}");
        let (folder, repository, id, disk) = meddled(when);
        let (_, manifest) = repository.backup(&id.to_string()).unwrap();
        let reader = repository.read_disk(manifest.disk(None).unwrap()).unwrap();
        let vmdk = folder.path().join("disk.vmdk");
        let options = ExportOptions { form: DiskForm::StreamOptimized, ..ExportOptions::default() };
        reader.export(&vmdk, &options).unwrap();
        let image = crate::vmdk::Image::open(&vmdk, crate::vmdk::Form::Detect).unwrap();
        let mut bytes = vec![0; disk.size as usize];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes == bytes_of(&disk), "{number}");
    }
}

#[test]
fn a_check_beside_a_prune_finds_nothing_and_reads_everything() {
    for (number, when) in TIMES.into_iter().enumerate() {
        let (_folder, repository, _, _) = meddled(when);
        let report = repository.check(Depth::ReadData).unwrap();
        assert!(report.is_clean() && report.hurt.is_empty() && report.backups == 1, "{number}: {report:?}");
    }
}

#[test]
fn damage_is_told_also_where_a_backup_ends_meanwhile() {
    let (_folder, path) = place();
    let disk = TestDisk::new(12 * CHUNK as u64, (0..12).map(|n| (n, n as u8 * 2 + 2)));
    let hurt = back_up(&init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap(), &disk).unwrap().id;
    let pack = open(&path, Form::Encrypted).packs().unwrap().into_keys().min().unwrap();
    std::fs::remove_file(path.join(crate::backup::pack::name(pack))).unwrap();
    let inner = FolderTarget::new(&path);
    let meddle =
        Box::new(move || drop(back_up(&open(&path, Form::Encrypted), &TestDisk::new(CHUNK as u64, [(0, 99)]))));
    let target = Altered(Meddled { inner, reads: AtomicU64::new(0), when: |n| n == 0, meddle });
    let report = open_with(Arc::new(target), Form::Encrypted).unwrap().check(Depth::ReadData).unwrap();
    assert_eq!(report.hurt.into_iter().collect::<Vec<_>>(), [hurt]);
}

#[test]
fn a_copy_goes_on_where_a_prune_moves_what_it_reads() {
    for (number, when) in TIMES.into_iter().enumerate() {
        let (folder, repository, id, disk) = meddled(when);
        let second = folder.path().join("second");
        let there = init(Arc::new(FolderTarget::new(&second)), Form::Encrypted).unwrap();
        let plan = repository.copy_plan(&there, &|_, _| true).unwrap();
        let options = CopyOptions { pack_size: 200 << 10, threads: 2 };
        let report = repository.copy(&there, &plan, &options, &|_| {}).unwrap();
        assert!(report.failed.is_empty() && report.copied.len() == 1, "{number}: {report:?}");
        assert_eq!(report.copied[0].from, id);
        assert!(content(&open(&second, Form::Encrypted), report.copied[0].id).unwrap() == bytes_of(&disk), "{number}");
    }
}

#[test]
fn a_place_where_everything_moves_at_each_read_is_given_up_on() {
    let (_folder, repository, id, _) = meddled(|_| true);
    let ended = content(&repository, id);
    assert!(ended.as_ref().is_err_and(Error::is_missing), "{ended:?}");
}
