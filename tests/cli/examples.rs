//! `examples/`: each playbook has a file of tests beside it, and all of them pass.

use std::collections::BTreeSet;

use crate::support::{Machine, done};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// The playbooks of the folder and the playbooks that it has tests of, by name.
fn playbooks_and_tested() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut playbooks, mut tested) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(EXAMPLES).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".luau") else { continue };
        match stem.strip_suffix("_test") {
            Some(playbook) => tested.insert(playbook.to_owned()),
            None => playbooks.insert(stem.to_owned()),
        };
    }
    (playbooks, tested)
}

#[test]
fn examples_pass_their_tests() {
    // All examples in one command, beside all other tests: longer than one command may take elsewhere.
    let machine = Machine::new();
    let mut command = machine.command(&["test", EXAMPLES, "--output", "json", "--timeout", "5 min"]);
    let done = done(command.timeout(std::time::Duration::from_secs(600)).output().unwrap());
    let summary = done.json();
    let rows = summary["tests"].as_array().unwrap();
    let wrong: Vec<&str> =
        rows.iter().filter(|row| row["status"] != "passed").map(|row| row["text"].as_str().unwrap_or("?")).collect();
    assert!(done.code == 0 && wrong.is_empty(), "{}\n{}", wrong.join("\n"), done.err);
    let (playbooks, _) = playbooks_and_tested();
    for playbook in playbooks {
        let of_it =
            |row: &&serde_json::Value| row["file"].as_str().unwrap().ends_with(&format!("/{playbook}_test.luau"));
        assert!(rows.iter().filter(of_it).count() >= 2, "{playbook}: {summary}");
    }
}

#[test]
fn every_example_has_tests_and_a_line_in_the_readme() {
    let (playbooks, tested) = playbooks_and_tested();
    assert!(playbooks.len() >= 5, "{playbooks:?}");
    assert_eq!(playbooks, tested);
    let readme = include_str!("../../README.md");
    for playbook in playbooks {
        assert!(readme.contains(&format!("- [{playbook}.luau](examples/{playbook}.luau): ")), "{playbook}");
    }
}
