//! Every operation's example does what it says: it runs on the simulator, through the real command, worker and door.

use std::fmt::Write as _;

use ceso::ops;

use crate::support::Machine;

/// An example that takes a file of this machine: a playbook, for a person names the file.
fn with_file(name: &str, usage: &str, access: &str) -> String {
    let needs = "datastore = { read = \"*\", write = \"*\", copy_from = \"*\", delete = \"*\" }, network = { use = \"*\" }, \
                 host = { administer = \"*\", copy_config = \"*\", read = \"*\" }, vm = { read = \"*\", create = \"*\", configure = \"*\", copy_from = \"*\", snapshot = \"*\", power = \"*\", guest = \"*\" }, secret = { use = \"*\" }";
    format!(
        "return {{ params = {{ file = {{ type = \"file\", access = \"{access}\" }} }}, needs = {{ {needs} }}, run = function(p)\n\
         local host, file = esxi.connect(), p.file\n{usage}\nend }} -- {name}\n"
    )
}

/// The access that an example's file needs, where it takes one.
fn access(declared: &ops::Declared) -> Option<&'static str> {
    let schema = declared.arguments_schema();
    let takes = |name: &str| schema.as_value()["properties"][name]["x-handle"] == "file";
    if takes("into") { Some("write") } else { takes("file").then_some("read") }
}

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
            "secrets: {ops-password: {env: OPS_HASH, purpose: password_hash, for: [\"*\"]}, guest-password: {env: GUEST_PASSWORD, purpose: password, for: [\"*\"]}}\n\
             repositories: {main: {url: ./repository}, second: {url: ./second}}",
        );
        for name in ["main", "second"] {
            if text.contains(&format!("backup.repository(\"{name}\")")) {
                let made = machine.run(&["repository", "init", name, "--plain"]);
                assert_eq!(made.code, 0, "{}{}", made.out, made.err);
            }
        }
        let file = machine.project().join("usage.luau");
        std::fs::write(&file, &text).unwrap();
        let hash = format!("$6$usage$2/{}", "x".repeat(84));
        let mut read = "file=there.txt";
        machine.file("there.txt", "a file of this machine");
        if text.contains("host:import(") {
            read = "file=there.ova";
            let made = machine.run(&["--host", "sim", "vm", "export", "debian-12", "there.ova"]);
            assert_eq!(made.code, 0, "{}{}", made.out, made.err);
        }
        let mut arguments = vec!["run", "--host", "sim", "--mode", "unrestricted", "usage.luau"];
        for (access, file) in [("read", read), ("write", "file=new.ova")] {
            if text.contains(&format!("type = \"file\", access = \"{access}\"")) {
                arguments.extend(["--param", file]);
            }
        }
        let done = machine.run_with(&[("OPS_HASH", &hash), ("GUEST_PASSWORD", "ceso-guest")], &arguments);
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
    run(ops::all().iter().map(|declared| {
        let text = match access(declared) {
            Some(access) => with_file(declared.name, declared.usage, access),
            None => wrapped(declared.name, declared.usage),
        };
        (declared.name.to_owned(), text)
    }));
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
