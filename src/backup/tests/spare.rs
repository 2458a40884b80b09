//! What says what a repository is, is there twice: one of the two is enough, and the first is the one that counts.

use super::pruning::{assert_clean, prune};
use super::*;
use crate::backup::{Depth, Error};

const BOTH: [&str; 2] = ["config", "config-copy"];

fn one_chunk() -> TestDisk {
    TestDisk::new(CHUNK as u64, [(0, 6)])
}

/// A repository with a backup, and the bytes of its config.
fn made(path: &Path, form: Form) -> (Id, Vec<u8>) {
    let repository = init(Arc::new(FolderTarget::new(path)), form).unwrap();
    let id = back_up(&repository, &one_chunk()).unwrap().id;
    let [config, copy] = BOTH.map(|file| std::fs::read(path.join(file)).unwrap());
    assert_eq!(config, copy);
    (id, config)
}

fn opened(path: &Path, form: Form) -> Result<Repository> {
    open_with(Arc::new(FolderTarget::new(path)), form)
}

#[test]
fn a_config_that_is_lost_is_read_from_its_copy_named_and_brought_back() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let (id, config) = made(&path, form);
        for bytes in
            [None, Some(&b""[..]), Some(b"nonsense"), Some(&config[..config.len() - 1]), Some(&[b' '; 2 << 20])]
        {
            match bytes {
                None => std::fs::remove_file(path.join("config")).unwrap(),
                Some(bytes) => std::fs::write(path.join("config"), bytes).unwrap(),
            }
            let repository = open(&path, form);
            assert_eq!(content(&repository, id).unwrap(), bytes_of(&one_chunk()));
            let problems = repository.check(Depth::Structure).unwrap().problems;
            assert!(problems.len() == 1 && problems[0].file == "config", "{problems:?}");
            let report = repository.repair(false).unwrap();
            assert!(report.restored == ["config"] && report.left.is_empty(), "{report:?}");
            assert_eq!(std::fs::read(path.join("config")).unwrap(), config);
            assert_clean(&open(&path, form));
        }
    }
}

#[test]
fn a_copy_never_counts_against_the_first_and_is_put_right() {
    let (_folder, path) = place();
    let (id, config) = made(&path, Form::Encrypted);
    let (_stranger_folder, stranger) = place();
    let (_, other) = made(&stranger, Form::Plain);
    let text = String::from_utf8(config.clone()).unwrap();
    let mut newer = text.lines().next().unwrap().replace("\"format\":1", "\"format\":2") + "\n";
    newer += &format!("{}\n", Id::of(newer.as_bytes()));
    for hostile in [other.as_slice(), newer.as_bytes(), b"nonsense", b"", &[b'x'; 2 << 20]] {
        std::fs::write(path.join("config-copy"), hostile).unwrap();
        let repository = open(&path, Form::Encrypted);
        assert_eq!(content(&repository, id).unwrap(), bytes_of(&one_chunk()));
        let problems = repository.check(Depth::Structure).unwrap().problems;
        assert!(problems.len() == 1 && problems[0].file == "config-copy", "{problems:?}");
        // A backup and a prune go on, and leave it: only a repair deletes a file that is damaged.
        back_up(&repository, &one_chunk()).unwrap();
        prune(&repository).unwrap();
        assert_eq!(std::fs::read(path.join("config-copy")).unwrap(), hostile);
        assert_eq!(repository.repair(false).unwrap().restored, ["config-copy"]);
        assert_eq!(BOTH.map(|file| std::fs::read(path.join(file)).unwrap() == config), [true; 2]);
        assert_clean(&open(&path, Form::Encrypted));
    }
    // Nor does one of another repository open anything in the place of a config that is gone.
    std::fs::write(path.join("config-copy"), other).unwrap();
    std::fs::remove_file(path.join("config")).unwrap();
    assert!(matches!(opened(&path, Form::Encrypted), Err(Error::Key(_))));
}

#[test]
fn an_older_repository_gets_its_copy_from_whoever_writes() {
    type Work = fn(&mut Repository);
    let works: [Work; 5] = [
        |repository| assert!(back_up(repository, &one_chunk()).is_ok()),
        |repository| drop(prune(repository).unwrap()),
        |repository| assert_eq!(repository.repair(false).unwrap().restored, ["config-copy"]),
        |repository| assert_ne!(repository.add_key(&secret("other"), CHEAP, "").unwrap(), Id::ZERO),
        |repository| drop(repository.rotate_key(&secret("passphrase"), CHEAP, "", true).unwrap()),
    ];
    let (_folder, path) = place();
    let (id, config) = made(&path, Form::Encrypted);
    for work in works {
        std::fs::remove_file(path.join("config-copy")).unwrap();
        let mut repository = open(&path, Form::Encrypted);
        let report = repository.check(Depth::Structure).unwrap();
        assert!(report.is_clean() && report.notes.iter().any(|note| note.starts_with("config-copy")), "{report:?}");
        work(&mut repository);
        assert_eq!(std::fs::read(path.join("config-copy")).unwrap(), config);
        assert_eq!(content(&repository, id).unwrap(), bytes_of(&one_chunk()));
    }
}

#[test]
fn without_both_there_is_nothing_to_open_and_nothing_is_made_over_what_is_there() {
    let (_folder, path) = place();
    made(&path, Form::Plain);
    BOTH.iter().for_each(|file| std::fs::write(path.join(file), b"nonsense").unwrap());
    assert!(matches!(opened(&path, Form::Plain), Err(Error::Damaged { file, .. }) if file == "config"));
    std::fs::remove_file(path.join("config")).unwrap();
    for folder in ["data", "manifests"] {
        assert!(matches!(opened(&path, Form::Plain), Err(Error::NoConfig { .. })));
        assert!(matches!(init(Arc::new(FolderTarget::new(&path)), Form::Plain), Err(Error::NoConfig { .. })));
        std::fs::remove_dir_all(path.join(folder)).unwrap();
    }
    assert!(matches!(opened(&path, Form::Plain), Err(Error::NoConfig { file, .. }) if file == "config-copy"));
    assert!(matches!(init(Arc::new(FolderTarget::new(&path)), Form::Plain), Err(Error::NoConfig { .. })));
    std::fs::remove_file(path.join("config-copy")).unwrap();
    assert!(matches!(opened(&path, Form::Plain), Err(Error::NotARepository(_))));
}
