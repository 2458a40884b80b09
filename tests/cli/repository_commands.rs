//! `ceso repository` and `ceso disk`: they pass the door as scripts do, are recorded, and stop when they are told to.

use serde_json::Value as Json;

use crate::support::{Done, Machine, eventually};

/// Bytes that neither compress nor repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn json(done: &Done) -> Json {
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.out))
}

/// The events of the machine's audit log about an operation: kind and outcome.
fn recorded(machine: &Machine, operation: &str) -> Vec<(String, String, Json)> {
    let text = std::fs::read_to_string(machine.home().join("audit.json")).unwrap_or_default();
    let events = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["event"].clone());
    let of = events.filter(|event| event["operation"] == operation);
    let word = |event: &Json, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    of.map(|event| (word(&event, "kind"), word(&event, "outcome"), event)).collect()
}

#[test]
fn a_disk_goes_into_a_repository_and_comes_back_and_every_step_is_recorded() {
    let machine = Machine::new().user("repositories: {main: {url: ./kept, password_file: ~/.ceso/pass}}");
    let pass = machine.home().join("pass");
    std::fs::write(&pass, "correct horse battery\n").unwrap();
    std::fs::set_permissions(&pass, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let bytes = noise(3 << 20);
    machine.file("disk.img", &bytes);
    let made = json(&machine.run(&["repository", "init", "main", "--output", "json"]));
    assert_eq!((made["name"].as_str(), made["encrypted"].as_bool()), (Some("main"), Some(true)));
    let backup = ["disk", "backup", "disk.img", "--repository", "main", "--tag", "weekly", "--output", "json"];
    let id = json(&machine.run(&backup))["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 64);
    for list in [
        ["repository", "list", "main", "--output", "json"].as_slice(),
        &["disk", "list", "--repository", "main", "--tag", "weekly", "--output", "json"],
    ] {
        let rows = json(&machine.run(list));
        assert_eq!((rows[0]["id"].as_str(), rows[0]["size"].as_str()), (Some(id.as_str()), Some("3 MiB")));
        assert_eq!((rows[0]["vm"].as_str(), rows.as_array().unwrap().len()), (Some("disk.img"), 1));
    }
    let none = json(&machine.run(&["repository", "list", "main", "--before", "1 h", "--output", "json"]));
    assert_eq!(none, serde_json::json!([]));
    let restored = machine.run(&["disk", "restore", &id[..12], "back.img", "--repository", "main"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(std::fs::read(machine.project().join("back.img")).unwrap() == bytes);
    // A place that is there already is not written to.
    let again = machine.run(&["disk", "restore", &id, "back.img", "--repository", "main"]);
    assert!(again.code == 1 && again.err.contains("backup.exists"), "{again:?}");
    let checked = json(&machine.run(&["repository", "check", "main", "--read-data", "--output", "json"]));
    assert_eq!((checked["clean"].as_bool(), checked["backups"].as_u64()), (Some(true), Some(1)));
    assert_eq!(json(&machine.run(&["repository", "stats", "main", "--output", "json"]))["logical"], "3 MiB");
    for words in [["prune", "--dry-run"].as_slice(), &["prune"], &["repair"], &["unlock", "--all"]] {
        let command = [&["repository", words[0], "main"], &words[1..]].concat();
        assert_eq!(machine.run(&command).code, 0, "{words:?}");
    }

    for (operation, wanted) in [
        ("repository.init", [("intent", ""), ("outcome", "done")].as_slice()),
        ("image.backup", &[("intent", ""), ("outcome", "done")]),
        ("repository.check", &[("read", "done")]),
        ("repository.prune", &[("outcome", "unchanged"), ("intent", ""), ("outcome", "done")]),
        ("repository.repair", &[("intent", ""), ("outcome", "done")]),
        ("image.restore", &[("intent", ""), ("outcome", "done"), ("intent", ""), ("outcome", "failed")]),
    ] {
        let found = recorded(&machine, operation);
        let told: Vec<_> = found.iter().map(|(kind, outcome, _)| (kind.as_str(), outcome.as_str())).collect();
        assert_eq!(told, wanted, "{operation}");
        assert!(
            found
                .iter()
                .all(|(_, _, event)| event["entry"].as_str().is_some_and(|entry| entry.contains("repository.")))
        );
    }
    let log = std::fs::read_to_string(machine.home().join("audit.json")).unwrap();
    assert!(!log.contains("correct horse"));
    assert_eq!(machine.run(&["audit", "verify"]).code, 0);
}

#[test]
fn what_the_mode_or_a_grant_does_not_allow_is_denied_and_nothing_is_made() {
    let machine = Machine::new();
    machine.file("disk.img", noise(4096));
    let denied = machine.run(&["repository", "init", "./kept", "--plain", "--mode", "restricted"]);
    assert!(denied.code == 3 && denied.err.contains("repository.create"), "{denied:?}");
    assert!(!machine.project().join("kept").exists());
    assert_eq!(machine.run(&["repository", "init", "./kept", "--plain"]).code, 0);
    let backup = ["disk", "backup", "disk.img", "--repository", "kept"];
    let denied = machine.run(&[&backup[..], &["--mode", "restricted"]].concat());
    assert!(denied.code == 3 && denied.err.contains("repository.write"), "{denied:?}");
    machine.file("grant.yaml", "repository: {read: \"*\", write: other}");
    let denied = machine.run(&[&backup[..], &["--grant", "grant.yaml"]].concat());
    assert!(denied.code == 3 && denied.err.contains("repository.write"), "{denied:?}");
    let rows = machine.run(&["repository", "list", "./kept", "--mode", "restricted", "--output", "json"]);
    assert_eq!(json(&rows), serde_json::json!([]));
    let denied = recorded(&machine, "image.backup");
    assert!(denied.len() == 2 && denied.iter().all(|(kind, _, _)| kind == "denied"), "{denied:?}");
}

#[test]
fn a_script_opens_repositories_of_the_configuration_and_no_other_place() {
    let machine = Machine::new().user("repositories: {main: {url: ./kept}}");
    assert_eq!(machine.run(&["repository", "init", "main", "--plain"]).code, 0);
    let place = machine.project().join("kept").display().to_string();
    let done = machine.script(&format!("backup.repository({place:?})"), &[]);
    assert!(done.code == 2 && done.err.contains("usage.unknown_repository"), "{done:?}");
    let done = machine.script(
        "local r = backup.repository('main') return { r.encrypted, #r:backups(), r:check().clean }",
        &["--output", "json"],
    );
    assert_eq!(json(&done), serde_json::json!([false, 0, true]));
    // Forgetting is for good.
    let forget = "return backup.repository('main'):forget({ retention = { keep_last = 1 } })";
    let done = machine.script(forget, &[]);
    assert!(done.code == 3 && done.err.contains("--mode unrestricted"), "{done:?}");
    let done = machine.script(forget, &["--mode", "unrestricted"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_word_that_is_no_repository_is_an_error_that_names_the_nearest() {
    let machine = Machine::new().user("repositories: {main: {url: ./kept}}");
    let done = machine.run(&["repository", "init", "mian", "--plain"]);
    assert!(
        done.code == 2 && done.err.contains("usage.unknown_repository") && done.err.contains("\"main\""),
        "{done:?}"
    );
    assert!(!machine.project().join("mian").exists());
    // Whoever means a folder writes it as one; whoever means a name describes it.
    let done = Machine::new().run(&["repository", "init", "fresh", "--plain"]);
    assert!(done.code == 2 && done.err.contains("./fresh") && done.err.contains("repositories:"), "{done:?}");
    let done = machine.run(&["repository", "check", "./nothing"]);
    assert!(done.code == 1 && done.err.contains("backup.not_a_repository"), "{done:?}");
    let done = machine.run(&["repository", "init", "./kept"]);
    assert!(done.code == 2 && done.err.contains("--passphrase-file"), "{done:?}");
    machine.file("empty", "");
    let done = machine.run(&["repository", "init", "./kept", "--passphrase-file", "empty"]);
    assert!(done.code == 1 && done.err.contains("backup.key"), "{done:?}");
    assert!(!machine.project().join("kept").exists());
}

/// A pipe stands for a disk that does not answer: the backup waits for it until it is told to stop.
#[test]
fn a_backup_that_is_stopped_by_a_signal_says_so_and_nothing_of_it_is_visible() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let machine = Machine::new();
        assert_eq!(machine.run(&["repository", "init", "./kept", "--plain"]).code, 0);
        // Large enough that it cannot be done before the signal comes.
        machine.file("disk.img", noise(64 << 20));
        let run = machine.start(&[], &["disk", "backup", "disk.img", "--repository", "./kept"]);
        let begun =
            || std::fs::read_dir(machine.project().join("kept/leases")).is_ok_and(|mut files| files.next().is_some());
        eventually("the backup begins", begun);
        run.signal(signal);
        let (code, err) = run.end();
        let rows = json(&machine.run(&["repository", "list", "./kept", "--output", "json"]));
        if code == 0 {
            // It was faster than the signal: then it is whole.
            assert_eq!(rows.as_array().unwrap().len(), 1);
            continue;
        }
        assert!(code == 1 && err.contains("error[script.cancelled]"), "{code}: {err}");
        assert_eq!(rows, serde_json::json!([]));
        assert!(!begun(), "its lease is left");
        let told = recorded(&machine, "image.backup");
        assert_eq!(
            told.last().map(|(kind, outcome, _)| (kind.as_str(), outcome.as_str())),
            Some(("outcome", "dropped"))
        );
        assert_eq!(machine.run(&["repository", "check", "./kept", "--read-data"]).code, 0);
    }
}

#[test]
fn a_command_that_is_out_of_time_ends_with_the_code_of_a_limit() {
    let machine = Machine::new();
    assert_eq!(machine.run(&["repository", "init", "./kept", "--plain"]).code, 0);
    machine.file("disk.img", noise(1 << 20));
    let done = machine.run(&["disk", "backup", "disk.img", "--repository", "./kept", "--timeout", "1ms"]);
    assert!(done.code == 124 && done.err.contains("limit.run_time"), "{done:?}");
}

#[test]
fn a_disk_is_restored_as_vmdk_and_a_vmdk_is_backed_up_as_its_disk() {
    let machine = Machine::new();
    machine.file("disk.img", noise(1 << 20));
    assert_eq!(machine.run(&["repository", "init", "./kept", "--plain"]).code, 0);
    let backup = |file: &str, more: &[&str]| {
        let command = ["disk", "backup", file, "--repository", "./kept", "--output", "json"];
        machine.run(&[command.as_slice(), more].concat())
    };
    let id = json(&backup("disk.img", &[]))["id"].as_str().unwrap().to_owned();
    for (format, files) in [("vmdk", 1), ("vmdk-flat", 2), ("vmdk-monolithic-flat", 2)] {
        let name = format!("{format}.vmdk");
        let restore = ["disk", "restore", &id, &name, "--repository", "./kept", "--format", format, "--output", "json"];
        let made = json(&machine.run(&restore));
        assert_eq!(made["files"].as_array().map(Vec::len), Some(files), "{made}");
        let again = json(&backup(&name, &["--format", "vmdk"]));
        assert_eq!((again["size"].as_str(), again["added"].as_str()), (Some("1 MiB"), Some("0 B")), "{again}");
        assert_ne!(json(&backup(&name, &["--format", "raw"]))["size"], again["size"], "the file as it is");
    }
    machine.file("lies.vmdk", b"# Disk DescriptorFile\nCID=1\nRW 1 FLAT \"../x\" 0\n");
    let lies = backup("lies.vmdk", &[]);
    assert!(lies.code == 1 && lies.err.contains("vmdk.damaged") && lies.err.contains("line 3"), "{lies:?}");
    let no_vmdk = backup("disk.img", &["--format", "vmdk"]);
    assert!(no_vmdk.code == 1 && no_vmdk.err.contains("vmdk.damaged"), "{no_vmdk:?}");
}

#[test]
fn keys_are_added_listed_rotated_and_removed_and_no_secret_is_told() {
    let machine = Machine::new();
    for (name, text) in [("one", "open sesame one\n"), ("two", "open sesame two\n"), ("three", "open sesame three\n")] {
        machine.file(name, text);
    }
    let run = |words: &str, more: &[&str]| {
        let words: Vec<&str> = words.split(' ').chain(more.iter().copied()).chain(["--output", "json"]).collect();
        machine.run(&words)
    };
    json(&run("repository init ./kept --passphrase-file one", &[]));
    let label = ["--label", "of the other admin"];
    let second = json(&run("repository key add ./kept --passphrase-file one --new-passphrase-file two", &label));
    let keys = json(&run("repository key list ./kept --passphrase-file two", &[]));
    let used: Vec<&Json> = keys.as_array().unwrap().iter().filter(|key| key["in_use"] == true).collect();
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert_eq!((&used[0]["id"], used[0]["label"].as_str()), (&second["id"], Some("of the other admin")));
    let id = second["id"].as_str().unwrap();
    // The key that is given is not removed without a word, and no key without the other flags' file.
    let own = run(&format!("repository key remove ./kept {} --passphrase-file two", &id[..12]), &[]);
    assert!(own.code == 1 && own.err.contains("backup.refused"), "{own:?}");
    json(&run(&format!("repository key remove ./kept {id} --passphrase-file one"), &[]));
    assert!(run("repository list ./kept --passphrase-file two", &[]).err.contains("backup.key"));
    let none = run("repository key rotate ./kept --passphrase-file one", &[]);
    assert!(none.code != 0 && none.err.contains("usage.argument"), "{none:?}");
    // Keys of others go only where that is said, and it is told which they are.
    let second = json(&run("repository key add ./kept --passphrase-file one --new-passphrase-file two", &label));
    let rotate = "repository key rotate ./kept --passphrase-file one --new-passphrase-file three";
    let refused = run(rotate, &[]);
    assert!(refused.code == 1 && refused.err.contains("backup.refused"), "{refused:?}");
    assert!(refused.err.contains("of the other admin") && refused.err.contains("--yes"), "{refused:?}");
    json(&run("repository list ./kept --passphrase-file two", &[]));
    let rotated = json(&run(rotate, &["--yes"]));
    let removed: Vec<&Json> = rotated["removed"].as_array().unwrap().iter().map(|key| &key["id"]).collect();
    assert!(removed.len() == 2 && removed.contains(&&second["id"]), "{rotated}");
    assert!(run("repository list ./kept --passphrase-file one", &[]).err.contains("backup.key"));
    // Where the key that is given is the only one there is nothing to be said twice.
    let again = "repository key rotate ./kept --passphrase-file three --new-passphrase-file one";
    assert_eq!(json(&run(again, &[]))["removed"].as_array().unwrap().len(), 1);
    json(&run("repository key rotate ./kept --passphrase-file one --new-passphrase-file three", &[]));
    let keys = json(&run("repository key list ./kept --passphrase-file three", &[]));
    assert_eq!(keys.as_array().unwrap().len(), 1);
    let last = keys[0]["id"].as_str().unwrap();
    let last = run(&format!("repository key remove ./kept {last} --passphrase-file three --yes"), &[]);
    assert!(last.code == 1 && last.err.contains("last key"), "{last:?}");
    assert!(
        recorded(&machine, "repository.rotate_key").iter().any(|(kind, done, _)| kind == "outcome" && done == "done")
    );
    let log = std::fs::read_to_string(machine.home().join("audit.json")).unwrap();
    assert!(!log.contains("sesame"));
}

#[test]
fn backups_are_copied_to_a_second_place_and_forgotten_by_rules() {
    let machine = Machine::new();
    machine.file("one", "the first passphrase\n");
    machine.file("two", "the second passphrase\n");
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').chain(["--output", "json"]).collect();
        machine.run(&words)
    };
    json(&run("repository init ./kept --passphrase-file one --chunk-size 64KiB"));
    json(&run("repository init ./second --passphrase-file two --like ./kept --like-passphrase-file one"));
    let mut bytes = noise(1 << 20);
    for round in 0..4u8 {
        bytes[0] = round;
        machine.file("disk.img", &bytes);
        json(&run("disk backup disk.img --repository ./kept --passphrase-file one"));
    }
    let copy = "repository copy ./kept ./second --passphrase-file one --to-passphrase-file two";
    let planned = json(&run(&format!("{copy} --dry-run")));
    assert_eq!((planned["dry_run"].as_bool(), planned["copied"].as_array().unwrap().len()), (Some(true), 4));
    let newest = json(&run("repository list ./kept --passphrase-file one"))[0]["id"].as_str().unwrap().to_owned();
    let one = json(&run(&format!("{copy} --id {}", &newest[..10])));
    assert_eq!(
        (one["copied"][0]["from"].as_str(), one["copied"].as_array().unwrap().len()),
        (Some(newest.as_str()), 1)
    );
    let rest = json(&run(copy));
    assert_eq!((rest["copied"].as_array().unwrap().len(), rest["present"].as_array().unwrap().len()), (3, 1));
    let there = json(&run("repository list ./second --passphrase-file two"));
    assert_eq!(there.as_array().unwrap().len(), 4);
    let id = there[0]["id"].as_str().unwrap();
    json(&run(&format!("disk restore {id} back.img --repository ./second --passphrase-file two")));
    assert!(std::fs::read(machine.project().join("back.img")).unwrap() == bytes);
    assert_eq!(
        json(&run("repository check ./second --read-data --passphrase-file two"))["clean"].as_bool(),
        Some(true)
    );

    let forget = "repository forget ./kept --passphrase-file one --keep-last 1 --mode unrestricted";
    let none = run("repository forget ./kept --passphrase-file one --mode unrestricted");
    assert!(none.code == 2 && none.err.contains("--keep-last 7"), "{none:?}");
    let many = run(forget);
    assert!(many.code == 1 && many.err.contains("backup.refused"), "{many:?}");
    let plan = json(&run(&format!("{forget} --dry-run")));
    assert_eq!(plan["forgotten"].as_array().unwrap().len(), 3);
    assert_eq!(json(&run(&format!("{forget} --yes"))), plan);
    let left = json(&run("repository list ./kept --passphrase-file one"));
    assert_eq!((left.as_array().unwrap().len(), left[0]["id"].as_str()), (1, Some(newest.as_str())));
}
