//! The catalog on its own: lists and pages against a plain model, damage, other formats, several processes' turns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use time::OffsetDateTime;

use super::tables::{BACKUPS, FORMAT, IDS, META, falling};
use super::*;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_700_000_000 + seconds).unwrap()
}

fn id(number: u64) -> Id {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id[24..].copy_from_slice(&number.to_be_bytes());
    Id(id)
}

fn repository(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn backup(number: u64, machine: &str, seconds: i64) -> Backup {
    Backup {
        id: id(number),
        repository: repository(1),
        machine: machine.to_owned(),
        name: format!("backup {number}"),
        time: at(seconds),
        state: State::Complete,
        tags: Vec::new(),
        parent: None,
        disks: vec![Disk { name: "disk".to_owned(), size: 1000 + number, used: 500, added: 10 }],
        files: 1,
    }
}

fn described(number: u128) -> Repository {
    Repository {
        id: repository(number),
        identity: repository(number),
        name: format!("r{number}"),
        place: format!("/srv/{number}"),
        encrypted: true,
        last_seen: at(0),
        read: Some(at(0)),
    }
}

fn catalog() -> (tempfile::TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(folder.path().join("home/catalog.redb"));
    (folder, catalog)
}

fn export(catalog: &Catalog) -> Vec<String> {
    let mut lines = Vec::new();
    catalog.export(&mut |line| lines.push(line.to_owned())).unwrap();
    lines
}

fn all(catalog: &Catalog, wanted: &Wanted) -> Vec<Id> {
    let mut ids = Vec::new();
    let mut wanted = wanted.clone();
    loop {
        let page = catalog.backups(&wanted, &|_| true).unwrap();
        assert!(page.rows.len() <= wanted.limit.max(1));
        ids.extend(page.rows.iter().map(|row| row.id));
        let Some(cursor) = page.cursor else { return ids };
        wanted.cursor = Some(cursor);
    }
}

#[test]
fn a_catalog_that_is_not_there_is_empty_and_reading_makes_none() {
    let (folder, catalog) = catalog();
    assert!(catalog.backups(&Wanted { limit: 5, ..Wanted::default() }, &|_| true).unwrap().rows.is_empty());
    assert_eq!((catalog.machine("web").unwrap(), catalog.count().unwrap()), (None, 0));
    assert!(!catalog.is_there() && !folder.path().join("home").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_list_is_that_of_a_plain_model_page_by_page(
        rows in prop::collection::vec((0usize..4, -50i64..50, any::<bool>(), 0u8..8, 1u128..3), 0..60),
        machine in prop::option::of(0usize..5), since in prop::option::of(-60i64..60), until in prop::option::of(-60i64..60),
        failed in prop::option::of(any::<bool>()), tag in prop::option::of(0u8..4), of in prop::option::of(1u128..4),
        limit in 1usize..9, removed in prop::collection::vec(0u64..60, 0..10),
    ) {
        let names = ["", "web-1", "web-10", "web-1\0x", "z"];
        let (_folder, catalog) = catalog();
        let mut model: BTreeMap<Id, Backup> = BTreeMap::new();
        for (number, (machine, seconds, failed, tags, of)) in rows.into_iter().enumerate() {
            let mut row = backup(number as u64, names[machine], seconds);
            row.state = if failed { State::Failed } else { State::Complete };
            row.tags = (0..3).filter(|bit| tags >> bit & 1 == 1).map(|bit| format!("tag {bit}")).collect();
            row.repository = repository(of);
            model.insert(row.id, row);
        }
        catalog.add(&model.values().cloned().collect::<Vec<_>>()).unwrap();
        // What is there already is not there twice.
        catalog.add(&model.values().take(3).cloned().collect::<Vec<_>>()).unwrap();
        let gone: Vec<Id> = removed.iter().map(|number| id(*number)).collect();
        catalog.remove(repository(1), &gone).unwrap();
        model.retain(|id, row| row.repository != repository(1) || !gone.contains(id));

        let wanted = Wanted {
            machine: machine.map(|machine| names[machine].to_owned()),
            since: since.map(at), until: until.map(at),
            state: failed.map(|failed| if failed { State::Failed } else { State::Complete }),
            tag: tag.map(|tag| format!("tag {tag}")), repository: of.map(repository), limit, cursor: None,
        };
        let mut expected: Vec<&Backup> = model.values().filter(|row| {
            wanted.machine.as_ref().is_none_or(|machine| *machine == row.machine)
                && wanted.since.is_none_or(|since| row.time >= since)
                && wanted.until.is_none_or(|until| row.time < until)
                && wanted.state.is_none_or(|state| row.state == state)
                && wanted.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
                && wanted.repository.is_none_or(|of| row.repository == of)
        }).collect();
        expected.sort_by(|a, b| b.time.cmp(&a.time).then(a.id.cmp(&b.id)));
        prop_assert_eq!(all(&catalog, &wanted), expected.iter().map(|row| row.id).collect::<Vec<_>>());

        for name in names {
            let mut sum = Sum::default();
            model.values().filter(|row| row.machine == name).for_each(|row| sum.add(row));
            let known = catalog.machine(name).unwrap();
            prop_assert_eq!(known.as_ref().map(|known| known.sum.clone()).unwrap_or_default(), sum);
            let of_it = model.values().filter(|row| row.machine == name);
            prop_assert_eq!(known.and_then(|known| known.oldest).map(|row| row.time), of_it.map(|row| row.time).min());
        }
        for (tag, count) in catalog.tags().unwrap() {
            prop_assert_eq!(count, model.values().filter(|row| row.tags.contains(&tag)).count() as u64);
        }
        // Made anew from its repositories it is what it was.
        let (_other, rebuilt) = self::catalog();
        for of in 1..3 {
            let theirs: Vec<Backup> = model.values().filter(|row| row.repository == repository(of)).cloned().collect();
            rebuilt.add(&[backup(900 + of as u64, "stale", 1)].map(|row| Backup { repository: repository(of), ..row })).unwrap();
            rebuilt.replace(&described(of), &theirs).unwrap();
        }
        prop_assert_eq!(export(&catalog), export(&rebuilt));
    }

    #[test]
    fn no_cursor_that_somebody_makes_up_does_harm(text in "\\PC{0,130}", digits in "[0-9a-fA-F]{112}") {
        let (_folder, catalog) = catalog();
        catalog.add(&[backup(1, "web", 1)]).unwrap();
        for cursor in [text, digits] {
            let wanted = Wanted { limit: 5, cursor: Some(cursor), ..Wanted::default() };
            match catalog.backups(&wanted, &|_| true) {
                Ok(page) => prop_assert!(page.rows.len() <= 1),
                Err(error) => prop_assert!(matches!(error, Error::Cursor(_)), "{}", error),
            }
        }
    }
}

#[test]
fn what_may_not_be_seen_is_in_no_list() {
    let (_folder, catalog) = catalog();
    let rows: Vec<Backup> = (0..20).map(|n| backup(n, if n % 2 == 0 { "web" } else { "secret" }, n as i64)).collect();
    catalog.add(&rows).unwrap();
    let visible = |name: &str| name == "web";
    let wanted = Wanted { limit: 5, ..Wanted::default() };
    let page = catalog.backups(&wanted, &visible).unwrap();
    assert!(page.rows.len() == 5 && page.rows.iter().all(|row| row.machine == "web") && page.cursor.is_some());
    let named = Wanted { machine: Some("secret".to_owned()), ..wanted };
    assert!(catalog.backups(&named, &visible).unwrap().rows.is_empty());
    assert_eq!(catalog.machines(10, None, &visible).unwrap().rows.len(), 1);
    assert!(catalog.backup(&id(1).to_string(), &visible).unwrap().is_empty());
    assert_eq!(catalog.backup(&id(2).to_string()[..12], &visible).unwrap(), [rows[2].clone()]);
    assert!(catalog.backup("zz", &visible).unwrap().is_empty());
}

#[test]
fn what_runs_have_seen_is_told_and_the_oldest_runs_are_forgotten() {
    let (_folder, catalog) = catalog();
    let run = |number: u32| Run {
        id: format!("run-{number:08}"),
        what: "web.luau".to_owned(),
        mode: "standard".to_owned(),
        principal: "ops (uid 7)".to_owned(),
        began: at(0),
        ended: at(1),
        outcome: "done".to_owned(),
        fault: None,
        calls: 3,
        changed: 1,
        hosts: vec!["lab".to_owned()],
        simulated: false,
    };
    for number in 0..30 {
        let machines = vec![(format!("web-{}", number % 3), "lab".to_owned(), format!("uuid {}", number % 3))];
        let seen = Seen {
            run: Some(run(number)),
            hosts: vec![("lab".to_owned(), "ESXi 8".to_owned(), false)],
            machines,
            repositories: vec![Repository { read: None, ..described(1) }],
            children: vec![("debian-12".to_owned(), "lab".to_owned(), "web-1".to_owned(), true)],
            ..Seen::default()
        };
        catalog.see(&seen).unwrap();
    }
    catalog.add(&[backup(1, "db", 5)]).unwrap();
    let names = |page: Page<Known>| page.rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let first = catalog.machines(2, None, &|_| true).unwrap();
    let cursor = first.cursor.clone();
    assert_eq!(names(first), ["db", "web-0"]);
    assert_eq!(names(catalog.machines(5, cursor.as_deref(), &|_| true).unwrap()), ["web-1", "web-2"]);
    let page = catalog.runs(20, None).unwrap();
    assert_eq!((page.rows.len(), page.rows[0].id.as_str()), (20, "run-00000029"));
    assert_eq!(catalog.runs(20, page.cursor.as_deref()).unwrap().rows.len(), 10);
    assert_eq!(catalog.hosts().unwrap().len(), 1);
    assert_eq!(catalog.children(Some("debian-12"), &|_| true).unwrap().len(), 1);
    assert!(catalog.children(Some("debian-1"), &|_| true).unwrap().is_empty());
    // Anew from another template, on the same host and on another: it has one parent on each.
    let child = |template: &str, host: &str| (template.to_owned(), host.to_owned(), "web-1".to_owned(), false);
    let gone = |host: &str| Seen { gone: vec![(host.to_owned(), "web-1".to_owned())], ..Seen::default() };
    catalog.see(&Seen { children: vec![child("alpine", "lab"), child("alpine", "other")], ..gone("lab") }).unwrap();
    assert_eq!(catalog.children(Some("debian-12"), &|_| true).unwrap(), []);
    assert_eq!(catalog.children(Some("alpine"), &|_| true).unwrap().len(), 2);
    catalog.see(&gone("lab")).unwrap();
    assert_eq!(catalog.children(None, &|_| true).unwrap().len(), 1);
    let (known, count) = catalog.repositories().unwrap().remove(0);
    assert_eq!((known.read, count), (None, 1));
    catalog.replace(&described(1), &[]).unwrap();
    catalog.see(&Seen { repositories: vec![Repository { read: None, ..described(1) }], ..Seen::default() }).unwrap();
    assert_eq!(catalog.repositories().unwrap().remove(0).0.read, Some(at(0)), "what was read stays read");
    assert!(catalog.forget_repository(repository(1)).unwrap() && catalog.repositories().unwrap().is_empty());
    let drill = Drill { machine: "db".into(), backup: id(1), time: at(9), passed: true, details: "it boots".into() };
    catalog.drill(&drill).unwrap();
    assert_eq!(catalog.drills(Some("db"), &|_| true).unwrap(), std::slice::from_ref(&drill));
    assert_eq!(catalog.drills(None, &|_| true).unwrap(), [drill]);
}

#[test]
fn a_repository_is_known_by_its_identity_and_its_place() {
    let (_folder, catalog) = catalog();
    let at_place = |name: &str, identity: u128, place: &str| {
        let id = Repository::key(repository(identity), place);
        let (name, place) = (name.to_owned(), place.to_owned());
        Repository { id, identity: repository(identity), name, place, ..described(0) }
    };
    let of = |known: &Repository, numbers: std::ops::Range<u64>| -> Vec<Backup> {
        numbers.map(|n| Backup { repository: known.id, ..backup(n, "web", n as i64) }).collect()
    };
    let told = |catalog: &Catalog| -> Vec<(String, String, u64)> {
        let known = catalog.repositories().unwrap().into_iter();
        known.map(|(known, count)| (known.name, known.place, count)).collect()
    };
    let row = |name: &str, place: &str, count: u64| (name.to_owned(), place.to_owned(), count);
    // Copied with all that is in it: two places, and what is forgotten at one is at the other.
    let (main, copy) = (at_place("main", 1, "/srv/a"), at_place("/srv/b", 1, "/srv/b"));
    for known in [&main, &copy] {
        catalog.replace(known, &of(known, 0..4)).unwrap();
    }
    catalog.remove(main.id, &[id(0), id(1)]).unwrap();
    assert_eq!(told(&catalog), [row("/srv/b", "/srv/b", 4), row("main", "/srv/a", 2)]);
    assert_eq!(catalog.machine("web").unwrap().unwrap().sum.backups, 6);
    // Moved: its name means one place, and what is known of it goes with it.
    let moved = at_place("main", 1, "/mnt/a");
    catalog.see(&Seen { repositories: vec![Repository { read: None, ..moved.clone() }], ..Seen::default() }).unwrap();
    assert_eq!(told(&catalog), [row("/srv/b", "/srv/b", 4), row("main", "/mnt/a", 2)]);
    assert_eq!(catalog.machine("web").unwrap().unwrap().sum.backups, 6);
    assert!(catalog.repositories().unwrap()[1].0.read.is_some());
    let page =
        catalog.backups(&Wanted { repository: Some(moved.id), limit: 10, ..Wanted::default() }, &|_| true).unwrap();
    assert!(page.rows.len() == 2 && page.rows.iter().all(|row| row.repository == moved.id));
    // Made anew at the same place: what was there is no more.
    let anew = at_place("/srv/b", 2, "/srv/b");
    catalog.replace(&anew, &of(&anew, 7..8)).unwrap();
    assert_eq!(told(&catalog), [row("/srv/b", "/srv/b", 1), row("main", "/mnt/a", 2)]);
    // A row that was kept by the identity alone is taken over under its name.
    let old = Repository { id: repository(3), identity: uuid::Uuid::nil(), ..at_place("old", 3, "kept") };
    catalog.replace(&old, &of(&old, 10..13)).unwrap();
    let new = at_place("old", 3, "/srv/kept");
    catalog.see(&Seen { repositories: vec![new], ..Seen::default() }).unwrap();
    assert_eq!(told(&catalog)[2], row("old", "/srv/kept", 3));
    assert_eq!(catalog.count().unwrap(), 6);
}

/// The file of an older ceso: rows and their ids, and nothing that follows from them.
#[test]
fn the_file_of_an_older_format_is_brought_up_when_it_is_opened() {
    let rows: Vec<Backup> = (0..50)
        .map(|n| Backup { tags: vec![format!("tag {}", n % 3)], ..backup(n, &format!("web-{}", n % 7), n as i64) })
        .collect();
    for reads_first in [true, false] {
        let (folder, catalog) = catalog();
        std::fs::create_dir_all(folder.path().join("home")).unwrap();
        let database = redb::Database::create(folder.path().join("home/catalog.redb")).unwrap();
        let change = database.begin_write().unwrap();
        {
            let mut backups = change.open_table(BACKUPS).unwrap();
            let mut ids = change.open_table(IDS).unwrap();
            for row in &rows {
                let (time, of) = (falling(row.time), row.repository.as_u128());
                let bytes = super::row::encode(row).unwrap();
                backups.insert((row.machine.as_str(), time, &row.id.0, of), bytes.as_slice()).unwrap();
                ids.insert((&row.id.0, of), (row.machine.as_str(), time)).unwrap();
            }
            change.open_table(META).unwrap().insert("format", 1).unwrap();
        }
        change.commit().unwrap();
        drop(database);
        if !reads_first {
            catalog.add(&[]).unwrap();
        }
        let wanted = Wanted { tag: Some("tag 1".to_owned()), limit: 100, ..Wanted::default() };
        assert_eq!(all(&catalog, &wanted).len(), 17);
        let (_other, fresh) = self::catalog();
        fresh.add(&rows).unwrap();
        assert_eq!(export(&catalog), export(&fresh));
    }
}

#[test]
fn the_file_of_a_newer_ceso_is_refused_and_left_alone() {
    let (folder, catalog) = catalog();
    catalog.add(&[backup(1, "web", 1)]).unwrap();
    let path = folder.path().join("home/catalog.redb");
    let database = redb::Database::open(&path).unwrap();
    let change = database.begin_write().unwrap();
    change.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
    change.commit().unwrap();
    drop(database);
    let before = std::fs::read(&path).unwrap();
    for error in [catalog.count().unwrap_err(), catalog.add(&[backup(2, "web", 2)]).unwrap_err()] {
        assert!(matches!(error, Error::Newer { format, .. } if format == FORMAT + 1), "{error}");
    }
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(std::fs::read_dir(folder.path().join("home")).unwrap().count(), 2, "the file and its lock");
}

#[test]
fn a_damaged_file_is_set_aside_and_the_next_work_begins_anew() {
    static SEED: AtomicU64 = AtomicU64::new(7);
    let (folder, catalog) = catalog();
    let rows: Vec<Backup> = (0..300).map(|n| backup(n, &format!("web-{}", n % 9), n as i64)).collect();
    catalog.add(&rows).unwrap();
    let path = folder.path().join("home/catalog.redb");
    let whole = std::fs::read(&path).unwrap();
    let random = || {
        let next = SEED.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (next >> 11) as usize
    };
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), b"not a catalog".to_vec(), whole[..100].to_vec()];
    damaged.push(whole[..whole.len() / 2].to_vec());
    damaged.push(vec![0; whole.len()]);
    for _ in 0..12 {
        let mut bytes = whole.clone();
        let start = random() % bytes.len();
        for byte in bytes.iter_mut().skip(start).take(4096) {
            *byte ^= 0x5a;
        }
        damaged.push(bytes);
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut found = 0;
    for bytes in damaged {
        std::fs::write(&path, &bytes).unwrap();
        let mut seen = Vec::new();
        let looked = catalog.export(&mut |line| seen.push(line.to_owned()));
        match looked {
            // The damage is in a part that holds nothing.
            Ok(()) => {}
            Err(Error::Damaged { aside: Some(aside), .. }) => {
                assert!(std::fs::read(&aside).unwrap().len() >= bytes.len().min(1));
                std::fs::remove_file(aside).unwrap();
                assert!(!catalog.is_there());
                found += 1;
            }
            Err(other) => panic!("{other}"),
        }
        catalog.replace(&described(1), &rows).unwrap_or_else(|error| {
            // Damage that reading did not meet is met by writing, once.
            assert!(matches!(error, Error::Damaged { aside: Some(_), .. }), "{error}");
            catalog.replace(&described(1), &rows).unwrap();
        });
        if looked_at_all(&catalog, &rows) {
            continue;
        }
        panic!("the catalog is not what its repository says");
    }
    std::panic::set_hook(hook);
    assert!(found >= 5, "only {found} damaged files were found out");
}

fn looked_at_all(catalog: &Catalog, rows: &[Backup]) -> bool {
    let (_folder, fresh) = self::catalog();
    fresh.replace(&described(1), rows).unwrap();
    let mut lines = Vec::new();
    match catalog.export(&mut |line| lines.push(line.to_owned())) {
        Ok(()) => lines == export(&fresh),
        Err(_) => catalog.replace(&described(1), rows).is_ok() && export(catalog) == export(&fresh),
    }
}

#[test]
fn processes_take_turns_and_one_that_waits_for_too_long_is_told_for_whom() {
    let (folder, catalog) = catalog();
    catalog.add(&[]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let catalog = catalog.clone();
            scope.spawn(move || {
                for number in 0..10 {
                    catalog.add(&[backup(thread * 100 + number, "web", number as i64)]).unwrap();
                    assert!(catalog.count().unwrap() > 0);
                }
            });
        }
    });
    assert_eq!(catalog.count().unwrap(), 40);
    let lock = std::fs::File::open(folder.path().join("home/catalog.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let hasty = catalog.clone().with_patience(Duration::from_millis(30));
    for error in [hasty.count().unwrap_err(), hasty.add(&[]).unwrap_err()] {
        let text = error.to_string();
        assert!(matches!(error, Error::Busy { .. }), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }
    drop(lock);
    assert_eq!(hasty.count().unwrap(), 40);
}

#[test]
fn times_fall_in_the_order_of_the_newest_first_from_end_to_end() {
    let times = [i64::MIN / 2, -1, 0, 1, 1_700_000_000, 253_402_300_799];
    let times = times.map(|seconds| OffsetDateTime::from_unix_timestamp(seconds.max(-377_705_116_800)).unwrap());
    assert!(times.windows(2).all(|pair| falling(pair[0]) >= falling(pair[1])), "{:?}", times.map(falling));
    assert!(falling(at(0)) > falling(at(1)));
}
