//! A repository on an NFS mount, by the kernel's own client and server: a kernel that runs as a process of this machine has both, so the
//! machine's own need not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ceso::backup::target::FolderTarget;
use ceso::backup::{BackupOptions, Depth, FileSource, Id, InitOptions, KeyCost, PruneOptions, Repository};

use super::lab::{Dice, Image, folder};
use super::targets::suite;

#[test]
#[ignore = "needs user-mode-linux and nfs-kernel-server"]
fn nfs_mounts_of_version_3_and_4_keep_every_promise_and_a_repository() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backup/nfs.sh");
    let output = Command::new("linux.uml")
        .args([
            "mem=1G",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "quiet",
            "con=null",
            "con0=fd:0,fd:1",
        ])
        .arg(format!("init={}", script.display()))
        .arg(format!("ceso.program={}", std::env::current_exe().unwrap().display()))
        .stdin(Stdio::null())
        .output()
        .expect("linux.uml is missing: run tests/peers/prepare");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for version in ["4.2", "3"] {
        assert!(told.contains(&format!("version {version} is nfs")), "{told}");
        assert!(told.contains(&format!("version {version} ended with 0")), "{told}");
    }
}

fn repository(path: &Path) -> Repository {
    Repository::open(Arc::new(FolderTarget::new(path)), Some(&b"passphrase".to_vec().into()), None).unwrap()
}

fn back_up(path: &Path, image: &Image) -> Id {
    let repository = repository(path);
    let options =
        BackupOptions { group: "vm".to_owned(), pack_size: 300 << 10, threads: 2, ..BackupOptions::default() };
    let mut session = repository.begin(options).unwrap();
    session.disk("disk", &FileSource::open(&image.path).unwrap(), None).unwrap();
    session.finish().unwrap().id
}

/// What is done on each mount: the suite of targets, and backups, a prune and a restore, by the mount and beneath it at once.
#[test]
#[ignore = "needs user-mode-linux: only as a process of the test before"]
fn a_child_works_on_a_mount() {
    let Some(mount) = std::env::var_os("CESO_NFS").map(PathBuf::from) else { return };
    let beneath = PathBuf::from(std::env::var_os("CESO_NFS_BENEATH").unwrap());
    let count = std::sync::atomic::AtomicU32::new(0);
    suite::every_promise(&|| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Arc::new(FolderTarget::new(mount.join(format!("suite-{number}"))))
    });
    let (one, other) = (mount.join("repository"), beneath.join("repository"));
    let options = InitOptions {
        secret: Some(b"passphrase".to_vec().into()),
        key_cost: KeyCost { memory_kib: 8, passes: 1, lanes: 1 },
        chunk_size: 64 << 10,
        grace: Duration::ZERO,
        ..InitOptions::default()
    };
    Repository::init(Arc::new(FolderTarget::new(&one)), &options, None).unwrap();
    let place = folder();
    let mut dice = Dice::new("nfs");
    let mut image = Image::new(place.path().join("image"), 24, &mut dice);
    let mut made = Vec::new();
    for round in 0..6 {
        // By the mount and by the server's own folder in turn, as two machines would: each must see at once what the other has written.
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        (0..4).for_each(|_| image.change(&mut dice));
        image.write();
        made.push((back_up(writer, &image), image.hash()));
        if round >= 2 {
            repository(reader).target().delete(&[format!("manifests/{}", made.remove(0).0)]).unwrap();
        }
        let pruner = repository(reader);
        let at_once = PruneOptions { unused: 0.0, at_once: true, ..PruneOptions::default() };
        pruner.prune(&pruner.prune_plan(&at_once).unwrap()).unwrap();
        for place in [reader, writer] {
            let report = repository(place).check(Depth::ReadData).unwrap();
            assert!(report.is_clean() && report.backups == made.len() as u64, "{report:?}");
            for (id, hash) in &made {
                assert_eq!(super::lab::restored(&repository(place), *id), *hash);
            }
        }
    }
}
