//! What every target must do. Each target runs all of it, over an empty place.

use std::sync::Arc;
use std::time::Duration;

// The library's own tests take this file in, and so do those that are held against servers: each brings these names.
use super::{Error, Id, Listed, Target};

/// Runs the suite; `make` gives a fresh and empty target each time.
pub fn every_promise(make: &dyn Fn() -> Arc<dyn Target>) {
    for promise in [
        what_was_put_is_read_back,
        nothing_is_overwritten,
        a_repeated_put_succeeds,
        ranges_are_whole_or_an_error,
        what_is_missing_is_said_to_be,
        lists_are_complete,
        deletions_may_be_repeated,
        names_cannot_leave_the_place,
        a_dropped_spool_leaves_nothing,
        time_goes_with_that_of_files,
        of_two_that_create_one_wins,
    ] {
        promise(make().as_ref());
    }
}

/// The names and sizes in a folder, sorted by name.
fn listed(target: &dyn Target, folder: &str) -> Result<Vec<Listed>, Error> {
    let mut all = Vec::new();
    target.list(folder, &mut |listed| {
        all.push(listed);
        Ok(())
    })?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn what_was_put_is_read_back(target: &dyn Target) {
    for size in [0usize, 1, 100_000] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let name = format!("index/{}", Id::of(&bytes));
        target.put(&name, &bytes).unwrap();
        assert_eq!(target.get_all(&name, 1 << 20).unwrap(), bytes);
        let mut spool = target.spool().unwrap();
        bytes.chunks(7919).for_each(|part| spool.write(part).unwrap());
        assert_eq!(spool.size(), size as u64);
        let name = format!("data/ab/{}", Id::of(&bytes));
        target.put_spool(&name, spool).unwrap();
        assert_eq!(target.get_all(&name, size as u64).unwrap(), bytes);
    }
}

fn nothing_is_overwritten(target: &dyn Target) {
    target.put("config", b"first").unwrap();
    for other in [b"other".as_slice(), b"longer than the first", b""] {
        assert!(matches!(target.put("config", other), Err(Error::Exists(_))));
        let mut spool = target.spool().unwrap();
        spool.write(other).unwrap();
        assert!(matches!(target.put_spool("config", spool), Err(Error::Exists(_))));
    }
    assert_eq!(target.get_all("config", 100).unwrap(), b"first");
}

fn a_repeated_put_succeeds(target: &dyn Target) {
    for _ in 0..3 {
        target.put("config", b"the same").unwrap();
        let mut spool = target.spool().unwrap();
        spool.write(b"the same").unwrap();
        target.put_spool("config", spool).unwrap();
    }
}

fn ranges_are_whole_or_an_error(target: &dyn Target) {
    target.put("index/a", b"0123456789").unwrap();
    assert_eq!(target.get("index/a", 0..10).unwrap(), b"0123456789");
    assert_eq!(target.get("index/a", 3..5).unwrap(), b"34");
    assert_eq!(target.get("index/a", 10..10).unwrap(), b"");
    for range in [0..11, 10..11, 11..12, 5..u64::MAX] {
        assert!(matches!(target.get("index/a", range), Err(Error::Damaged { .. })));
    }
    assert!(matches!(target.get_all("index/a", 9), Err(Error::Damaged { .. })));
}

fn what_is_missing_is_said_to_be(target: &dyn Target) {
    assert!(target.get("index/a", 0..1).unwrap_err().is_missing());
    assert!(target.get_all("data/00/a", 1).unwrap_err().is_missing());
    assert!(target.get_all("config", 1).unwrap_err().is_missing());
}

fn lists_are_complete(target: &dyn Target) {
    assert!(listed(target, "data").unwrap().is_empty());
    let mut names: Vec<String> = (0..1500).map(|n| format!("data/{:02x}/{n:04}", n % 256)).collect();
    names.sort();
    names.iter().for_each(|name| target.put(name, name.as_bytes()).unwrap());
    target.put("database", b"not in the folder").unwrap();
    let found = listed(target, "data").unwrap();
    assert_eq!(found.iter().map(|file| file.name.clone()).collect::<Vec<_>>(), names);
    assert!(found.iter().all(|file| file.size == file.name.len() as u64));
    assert_eq!(listed(target, "data/07").unwrap().len(), 6);
}

fn deletions_may_be_repeated(target: &dyn Target) {
    let names: Vec<String> = ["index/a", "index/b", "leases/c"].map(str::to_owned).to_vec();
    target.delete(&names).unwrap();
    names.iter().for_each(|name| target.put(name, b"x").unwrap());
    target.delete(&names[..2]).unwrap();
    target.delete(&names[..2]).unwrap();
    assert!(listed(target, "index").unwrap().is_empty());
    assert_eq!(listed(target, "leases").unwrap().len(), 1);
    target.put("index/a", b"other bytes").unwrap();
    assert_eq!(target.get_all("index/a", 100).unwrap(), b"other bytes");
}

fn names_cannot_leave_the_place(target: &dyn Target) {
    for name in [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "data/../../x",
        "a//b",
        "a/",
        "data/.x",
        "A",
        "a\0b",
        "a b",
        "ä",
        "a\\b",
        "%2e",
    ] {
        assert!(matches!(target.put(name, b""), Err(Error::Option(_))), "{name:?}");
        assert!(matches!(target.get_all(name, 1), Err(Error::Option(_))), "{name:?}");
        assert!(matches!(target.delete(&[name.to_owned()]), Err(Error::Option(_))), "{name:?}");
    }
}

fn a_dropped_spool_leaves_nothing(target: &dyn Target) {
    let mut spool = target.spool().unwrap();
    spool.write(b"unfinished").unwrap();
    let path = spool.path().to_owned();
    drop(spool);
    assert!(!path.exists());
    assert_eq!(target.tidy().unwrap(), 0);
}

fn time_goes_with_that_of_files(target: &dyn Target) {
    let before = target.now().unwrap();
    target.put("leases/a", b"x").unwrap();
    let written = listed(target, "leases").unwrap()[0].written;
    let after = target.now().unwrap();
    // Stores keep whole seconds at worst.
    let slack = Duration::from_secs(2);
    assert!(before <= written + slack && written <= after + slack);
}

fn of_two_that_create_one_wins(target: &dyn Target) {
    for round in 0..20 {
        let name = format!("dooms/{round:08}");
        let won = std::thread::scope(|scope| {
            let name = &name;
            let racers: Vec<_> = (0..4)
                .map(|n| scope.spawn(move || target.put(name, format!("racer {n}").as_bytes()).is_ok()))
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = won.iter().position(|won| *won).unwrap();
        assert_eq!(target.get_all(&name, 100).unwrap(), format!("racer {winner}").as_bytes());
    }
}
