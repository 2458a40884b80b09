//! Every operation's example does what it says: it runs on the simulator, through the real command, worker and door.

use std::fmt::Write as _;

use ceso::ops;

use crate::support::Machine;

/// The example, with `host` and `vm` at hand: a machine of its own, cloned from the simulator's template.
fn wrapped(name: &str, usage: &str) -> String {
    let machine = name.replace(['.', '_', '@', '/'], "-");
    format!(
        "local host = esxi.connect()\n\
         local vm = host:ensure_clone({{ template = \"debian-12\", name = \"usage-{machine}\" }})\n\
         do\n{usage}\nend\n"
    )
}

/// Runs each example with a home of its own, and tells of all that failed.
fn run(examples: impl Iterator<Item = (String, String)>) {
    let mut failed = String::new();
    let mut count = 0;
    for (name, text) in examples {
        let machine = Machine::new().user(
            "secrets: {ops-password: {env: OPS_HASH, purpose: password_hash, for: [\"*\"]}}\n\
             repositories: {main: {url: ./repository}}",
        );
        if text.contains("backup.repository(") {
            let made = machine.run(&["repository", "init", "main", "--plain"]);
            assert_eq!(made.code, 0, "{}{}", made.out, made.err);
        }
        let file = machine.project().join("usage.luau");
        std::fs::write(&file, &text).unwrap();
        let hash = format!("$6$usage$2/{}", "x".repeat(84));
        let arguments = ["run", "--host", "sim", "--mode", "unrestricted", "usage.luau"];
        let done = machine.run_with(&[("OPS_HASH", &hash)], &arguments);
        count += 1;
        if done.code != 0 {
            writeln!(failed, "{name}: exit code {}\n{text}\n{}{}", done.code, done.out, done.err).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(count > 0);
}

#[test]
fn every_operation_s_example_runs_on_the_simulator() {
    run(ops::all().iter().map(|declared| (declared.name.to_owned(), wrapped(declared.name, declared.usage))));
}

#[test]
fn every_example_of_the_standard_library_runs_on_the_simulator() {
    run(ops::reference::REFERENCE.modules.iter().flat_map(|module| {
        module.functions.iter().map(|function| {
            let name = format!("{}.{}", module.name, function.name);
            let needed = "host:ensure_clone({ template = \"debian-12\", name = \"web-1\" })\n\
                          host:ensure_clone({ template = \"debian-12\", name = \"web-2\" })";
            let text = format!("local {} = require(\"{}\")\n{needed}\n{}", module.short(), module.name, function.usage);
            (name.clone(), wrapped(&name, &text))
        })
    }));
}

#[test]
fn every_example_of_a_test_s_handle_runs_as_a_test() {
    let machine = Machine::new();
    let playbook = "return { params = { count = { type = \"number\" } }, run = function(p) return p.count end }";
    machine.file("web.luau", playbook);
    let mut text = String::from("return { tests = {\n");
    for declared in ops::of_tests() {
        writeln!(text, "[{:?}] = function(t)\n{}\nend,", declared.name, declared.usage).unwrap();
    }
    text.push_str("} }\n");
    machine.file("usage_test.luau", text);
    let done = machine.run(&["test"]);
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(!ops::of_tests().is_empty());
}
