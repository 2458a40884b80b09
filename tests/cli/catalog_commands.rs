//! `ceso catalog`: what commands and runs leave in it, who may see it, and that it is never worth more than what it is a cache of.

use serde_json::Value as Json;

use crate::support::{Machine, eventually};

/// A machine with a repository and some backups of two disks.
fn with_backups() -> Machine {
    let machine = Machine::new();
    let place = machine.project().display().to_string();
    let machine = machine.user(format!("repositories: {{main: {{url: {place}/kept}}, other: {{url: {place}/other}}}}"));
    for repository in ["main", "other"] {
        machine.run(&["repository", "init", repository, "--plain"]).ok();
    }
    for (name, tag, repository) in [("web", "weekly", "main"), ("db", "daily", "main"), ("web", "daily", "other")] {
        machine.file(&format!("{name}.img"), vec![name.len() as u8; 100_000]);
        let file = format!("{name}.img");
        machine.run(&["disk", "backup", &file, "--repository", repository, "--group", name, "--tag", tag]).ok();
    }
    machine
}

fn json(machine: &Machine, arguments: &[&str]) -> Json {
    machine.run(&[arguments, &["--output", "json"]].concat()).ok().json()
}

/// What the catalog says of backups, as a script sees it.
fn told(machine: &Machine) -> Json {
    let text = "local machines = {} for _, m in catalog.machines().machines do m = table.clone(m) m.last_seen = nil \
                table.insert(machines, m) end return { catalog.backups().backups, machines, catalog.tags() }";
    machine.script(text, &["--output", "json"]).ok().json()
}

#[test]
fn backups_are_listed_as_they_are_made_and_forgotten() {
    let machine = with_backups();
    let rows = json(&machine, &["catalog", "list"]);
    let vms: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["vm"].as_str().unwrap()).collect();
    assert_eq!(vms, ["web", "db", "web"]);
    assert_eq!((rows[0]["repository"].as_str(), rows[1]["repository"].as_str()), (Some("other"), Some("main")));
    for (flags, count) in [
        (["--tag", "daily"].as_slice(), 2),
        (&["web"], 2),
        (&["web", "--repository", "main"], 1),
        (&["--before", "1 day"], 0),
        (&["--since", "1 day", "--limit", "1"], 1),
        (&["--state", "failed"], 0),
    ] {
        let rows = json(&machine, &[&["catalog", "list"], flags].concat());
        assert_eq!(rows.as_array().unwrap().len(), count, "{flags:?}");
    }
    let shown = json(&machine, &["catalog", "show", "web"]);
    assert_eq!((shown["backups"].as_u64(), shown["size"].as_str()), (Some(2), Some("200000 B")), "{shown}");
    let id = rows[0]["id"].as_str().unwrap();
    assert_eq!(json(&machine, &["catalog", "show", "--backup", &id[..10]])[0]["id"], id);
    let forget = "backup.repository('main'):forget({ retention = { keep_tags = { 'daily' } }, yes = true })";
    machine.script(forget, &["--mode", "unrestricted"]).ok();
    assert_eq!(json(&machine, &["catalog", "list"]).as_array().unwrap().len(), 2);
    let unknown = machine.run(&["catalog", "show", "wep"]);
    assert!(unknown.code == 1 && unknown.err.contains("did you mean"), "{unknown:?}");
}

#[test]
fn a_rebuild_makes_it_from_the_repositories_alone_and_equal_to_what_it_was() {
    let machine = with_backups();
    let before = told(&machine);
    assert_eq!(before[0].as_array().unwrap().len(), 3);
    std::fs::remove_file(machine.home().join("catalog.redb")).unwrap();
    assert_eq!(json(&machine, &["catalog", "list"]), serde_json::json!([]));
    let rebuilt = json(&machine, &["catalog", "rebuild"]);
    assert_eq!(rebuilt.as_array().unwrap().iter().map(|row| row["backups"].as_u64().unwrap()).sum::<u64>(), 3);
    assert_eq!(told(&machine), before);
    // A repository that is away keeps what was known of it, and is named.
    std::fs::rename(machine.project().join("other"), machine.project().join("away")).unwrap();
    let rebuilt = json(&machine, &["catalog", "rebuild"]);
    assert!(rebuilt[0]["problem"].is_null() && rebuilt[1]["problem"].is_string(), "{rebuilt}");
    assert_eq!(told(&machine), before);
}

#[test]
fn places_that_are_typed_out_are_read_anew_and_a_copy_displaces_nothing() {
    let machine = Machine::new();
    machine.file("web.img", vec![7; 100_000]);
    machine.run(&["repository", "init", "./kept", "--plain"]).ok();
    for _ in 0..2 {
        machine.run(&["disk", "backup", "web.img", "--repository", "./kept", "--group", "web"]).ok();
    }
    let (kept, copy) = (machine.project().join("kept"), machine.project().join("copy"));
    let copied = std::process::Command::new("cp").arg("-r").args([&kept, &copy]).status().unwrap();
    assert!(copied.success());
    machine.run(&["disk", "backup", "web.img", "--repository", "./copy", "--group", "web"]).ok();
    machine.run(&["disk", "backup", "web.img", "--repository", "./kept/../kept", "--group", "web"]).ok();
    let counts = || -> Vec<u64> {
        let known = json(&machine, &["catalog", "repositories"]);
        known.as_array().unwrap().iter().map(|known| known["backups"].as_u64().unwrap()).collect()
    };
    // What was there when it was copied is known once it is read.
    assert_eq!(counts(), [1, 3]);
    let rebuilt = json(&machine, &["catalog", "rebuild"]);
    assert!(rebuilt.as_array().unwrap().iter().all(|row| row["problem"].is_null()), "{rebuilt}");
    assert_eq!(counts(), [3, 3]);
    assert_eq!(json(&machine, &["catalog", "list", "web"]).as_array().unwrap().len(), 6);
    // What goes behind its back is seen, and what is away stays known and is named.
    let manifest = std::fs::read_dir(kept.join("manifests")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(manifest).unwrap();
    std::fs::remove_dir_all(&copy).unwrap();
    let rebuilt = json(&machine, &["catalog", "rebuild"]);
    let problems: Vec<bool> = rebuilt.as_array().unwrap().iter().map(|row| row["problem"].is_string()).collect();
    assert_eq!((problems, counts()), (vec![true, false], vec![3, 2]), "{rebuilt}");
    // A script cannot open what a person typed out.
    let opened = machine.script(&format!("backup.repository({:?})", kept.display().to_string()), &[]);
    assert!(opened.code != 0 && opened.err.contains("unknown_repository"), "{opened:?}");
}

#[test]
fn a_damaged_catalog_is_set_aside_and_made_anew_with_a_message_and_costs_no_backup() {
    let machine = with_backups();
    let before = told(&machine);
    let file = machine.home().join("catalog.redb");
    let whole = std::fs::read(&file).unwrap();
    for damaged in [b"no catalog".to_vec(), Vec::new(), whole[..whole.len() / 3].to_vec()] {
        std::fs::write(&file, &damaged).unwrap();
        let listed = machine.run(&["catalog", "list"]).ok();
        assert!(listed.err.contains("set aside as") && listed.err.contains("read anew: main"), "{listed:?}");
        assert_eq!(told(&machine), before);
    }
    let aside = std::fs::read_dir(machine.home())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("catalog.redb.damaged-"));
    assert_eq!(aside.count(), 3);
    // A backup that is visible is a success, whatever the catalog says.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let made = machine.run(&["disk", "backup", "web.img", "--repository", "main"]).ok();
    assert!(made.err.contains("ceso catalog rebuild mends it") && warnings(&made) == 1, "{made:?}");
    assert_eq!(json(&machine, &["repository", "list", "main"]).as_array().unwrap().len(), 3);
}

#[test]
fn the_catalog_of_a_newer_ceso_is_refused_and_one_in_use_names_its_holder() {
    let machine = with_backups();
    let lock = std::fs::File::open(machine.home().join("catalog.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let done = machine.script("catalog.tags()", &[]);
    assert!(done.code == 1 && done.err.contains("catalog.busy") && done.err.contains("process "), "{done:?}");
}

#[test]
fn lists_show_what_the_tables_allow_and_nothing_else() {
    let machine = with_backups();
    let text = "return { #catalog.backups().backups, #catalog.machines().machines, #catalog.runs().runs, #catalog.tags(),\n\
                #catalog.repositories(), #catalog.hosts(), (pcall(catalog.machine, 'web')), (pcall(catalog.machine, 'db')) }";
    let of = |grant: &str| {
        machine.file("grant.yaml", grant);
        machine.script(text, &["--grant", "grant.yaml", "--output", "json"]).ok().json()
    };
    assert_eq!(of("catalog: {read: db}"), serde_json::json!([1, 1, 0, 0, 0, 0, false, true]));
    let all = of("catalog: {read: \"*\"}");
    assert!(all[0] == 3 && all[2].as_u64() > Some(4) && all[7] == true, "{all}");
    machine.file("grant.yaml", "vm: {read: \"*\"}");
    let denied = machine.script("catalog.backups()", &["--grant", "grant.yaml"]);
    assert!(denied.code == 3 && denied.err.contains("catalog.read"), "{denied:?}");
    let denied = machine.script("catalog.rebuild()", &["--mode", "restricted"]);
    assert!(denied.code == 3 && denied.err.contains("catalog.write"), "{denied:?}");
}

#[test]
fn runs_hosts_machines_and_clones_are_noted_when_a_run_ends() {
    let machine = Machine::new();
    machine.run(&["vm", "clone", "debian-12", "web-1", "--host", "sim"]).ok();
    machine.script("error('no')", &[]);
    let runs = json(&machine, &["catalog", "runs"]);
    let told: Vec<(&str, &str)> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["what"].as_str().unwrap(), run["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("script.luau", "failed"), ("@ceso/workflows/vm/clone.luau", "done")], "{runs}");
    assert_eq!((runs[1]["simulated"].as_bool(), runs[1]["changed"].as_u64()), (Some(true), Some(1)), "{runs}");
    let machines = json(&machine, &["catalog", "machines"]);
    assert_eq!(
        (machines[0]["name"].as_str(), machines[0]["simulated"].as_bool()),
        (Some("web-1"), Some(true)),
        "{machines}"
    );
    assert_eq!(json(&machine, &["catalog", "hosts"])[0]["simulated"], true);
    let children = machine.script("return catalog.children('debian-12')", &["--output", "json"]).ok().json();
    assert_eq!(
        (children[0]["name"].as_str(), children[0]["linked"].as_bool()),
        (Some("web-1"), Some(false)),
        "{children}"
    );
    // A machine that is gone is nobody's child, and one that is made anew has the parent that it has now.
    machine.run(&["vm", "delete", "web-1", "--host", "sim", "--mode", "unrestricted"]).ok();
    let text = "local host = esxi.connect() host:clone({ template = 'debian-12', name = 'web-1' }):destroy() \
                host:clone({ template = 'debian-12', name = 'web-1', linked = true })";
    let children = "return catalog.children()";
    assert_eq!(machine.script(children, &["--output", "json"]).ok().json(), serde_json::json!([]));
    machine.script(text, &[]).ok();
    let children = machine.script(children, &["--output", "json"]).ok().json();
    assert_eq!((children.as_array().unwrap().len(), children[0]["linked"].as_bool()), (1, Some(true)), "{children}");
}

#[test]
fn a_drill_reads_a_backup_back_and_the_catalog_tells_what_came_of_it() {
    let machine = with_backups();
    let id = json(&machine, &["catalog", "list", "web", "--repository", "main"])[0]["id"].as_str().unwrap().to_owned();
    let verify = ["disk", "verify", &id[..12], "--repository", "main"];
    let passed = json(&machine, &verify);
    assert_eq!((passed["passed"].as_bool(), passed["size"].as_str()), (Some(true), Some("100000 B")), "{passed}");
    let kept = std::fs::read_dir(machine.project().join("kept/data")).unwrap();
    for pair in kept {
        for pack in std::fs::read_dir(pair.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[40] ^= 1;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let failed = machine.run(&verify);
    assert!(failed.code == 1 && failed.err.contains("backup.damaged"), "{failed:?}");
    let drills = json(&machine, &["catalog", "drills", "web"]);
    let outcomes: Vec<bool> =
        drills.as_array().unwrap().iter().map(|drill| drill["passed"].as_bool().unwrap()).collect();
    assert_eq!(outcomes, [false, true], "{drills}");
    assert_eq!(drills[0]["backup"].as_str(), Some(id.as_str()));
    assert_eq!(json(&machine, &["catalog", "drills", "db"]), serde_json::json!([]));
    assert!(json(&machine, &["catalog", "show", "web"])["drill"].as_str().unwrap().starts_with("failed "));
    // That it could not be tried is no drill.
    std::fs::rename(machine.project().join("kept"), machine.project().join("away")).unwrap();
    assert_eq!(machine.run(&verify).code, 1);
    assert_eq!(json(&machine, &["catalog", "drills"]).as_array().unwrap().len(), 2);
}

/// How often a command said that the catalog could not be told.
fn warnings(done: &crate::support::Done) -> usize {
    done.err.lines().filter(|line| line.contains("warning") && line.contains("catalog")).count()
}

#[test]
fn a_home_that_cannot_be_written_fails_no_backup_and_is_told_once() {
    let machine = with_backups();
    for name in ["catalog.lock", "cache"] {
        let path = machine.home().join(name);
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path)).unwrap();
    }
    // Not even root can write to a folder as a file, or make a folder in a file.
    std::fs::create_dir(machine.home().join("catalog.lock")).unwrap();
    std::fs::write(machine.home().join("cache"), "").unwrap();
    let made = machine.run(&["disk", "backup", "web.img", "--repository", "main", "--group", "web"]).ok();
    assert_eq!(warnings(&made), 1, "{made:?}");
    let pruned = ["repository", "prune", "main", "--keep-last", "1", "--mode", "unrestricted"];
    assert_eq!(warnings(&machine.run(&pruned).ok()), 1);
    assert_eq!(json(&machine, &["repository", "list", "main"]).as_array().unwrap().len(), 2);
    std::fs::remove_dir(machine.home().join("catalog.lock")).unwrap();
    json(&machine, &["catalog", "rebuild"]);
    assert_eq!(json(&machine, &["catalog", "list"]).as_array().unwrap().len(), 3);
}

#[test]
fn a_disk_that_is_full_for_the_catalog_fails_no_backup_and_spoils_nothing() {
    let machine = with_backups();
    let before = json(&machine, &["catalog", "list"]);
    // Files can grow to 48 KiB: enough for a small backup and the records, and not for a page more of the catalog.
    let script = "trap '' XFSZ; ulimit -f 96; exec \"$@\"";
    let backup = || {
        let words = ["disk", "backup", "db.img", "--repository", "main", "--group", "db"];
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", script, "sh", env!("CARGO_BIN_EXE_ceso")])
            .args(words)
            .env_clear()
            .env("HOME", machine.home().parent().unwrap())
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .current_dir(machine.project())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        crate::support::Done {
            code: done.status.code().unwrap_or(-1),
            out: text(&done.stdout),
            err: text(&done.stderr),
        }
    };
    let made = backup().ok();
    assert_eq!(warnings(&made), 1, "{made:?}");
    assert_eq!(json(&machine, &["catalog", "list"]), before);
    // Neither does one that is to be made.
    std::fs::remove_file(machine.home().join("catalog.redb")).unwrap();
    let made = backup().ok();
    assert_eq!(warnings(&made), 1, "{made:?}");
    json(&machine, &["catalog", "rebuild"]);
    assert_eq!(json(&machine, &["catalog", "list"]).as_array().unwrap().len(), 5);
    let damaged = std::fs::read_dir(machine.home())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().contains("damaged"));
    assert!(!damaged);
}

#[test]
fn no_secret_gets_into_the_catalog_by_the_texts_of_a_repository() {
    let machine = Machine::new();
    machine.file("pass", "correct-horse-battery");
    machine.file("disk.img", vec![7; 10_000]);
    let opened = ["--passphrase-file", "pass"];
    machine.run(&[&["repository", "init", "./kept"], &opened[..]].concat()).ok();
    let words = ["--tag", "correct-horse-battery", "--group", "of correct-horse-battery"];
    machine.run(&[&["disk", "backup", "disk.img", "--repository", "./kept"], &opened[..], &words].concat()).ok();
    assert_eq!(json(&machine, &["catalog", "list"]).as_array().unwrap().len(), 1);
    for entry in std::fs::read_dir(machine.home()).unwrap() {
        let path = entry.unwrap().path();
        // What was typed is recorded before anybody can know that it is the passphrase.
        if !path.file_name().unwrap().to_string_lossy().starts_with("catalog") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(21).any(|part| part == b"correct-horse-battery"), "{}", path.display());
    }
}

/// Whatever moment a process dies at, the next one finds a catalog that is whole.
#[test]
fn a_kill_at_any_time_leaves_a_catalog_that_can_be_read() {
    let machine = with_backups();
    for round in 0..8u64 {
        let file = machine.home().join("catalog.redb");
        let before = std::fs::metadata(&file).unwrap().modified().unwrap();
        let run = machine.start(&[], &["catalog", "rebuild"]);
        if round % 2 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20 * round));
        } else {
            eventually("it writes", || std::fs::metadata(&file).unwrap().modified().unwrap() != before);
        }
        run.signal(libc::SIGKILL);
        run.end();
        assert_eq!(json(&machine, &["catalog", "list"]).as_array().unwrap().len(), 3, "round {round}");
    }
    assert!(
        !std::fs::read_dir(machine.home())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("damaged") })
    );
}
