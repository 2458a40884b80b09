//! A user's workflow folder adds commands; what is wrong in it costs nobody else anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::Machine;

const HELLO: &str = r#"return {
  summary = "Say hello",
  doc = "To whom it may concern.",
  params = { who = { type = "string", position = 1, doc = "whom" }, loud = { type = "bool", default = false } },
  run = function(p) return if p.loud then string.upper(p.who) else `hello {p.who}` end,
}"#;

fn with(files: &[(&str, &str)]) -> Machine {
    let machine = Machine::new();
    for (name, text) in files {
        let path = machine.home().join("workflows").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    machine
}

#[test]
fn workflow_of_a_user_is_a_command_with_help_and_flags() {
    let machine = with(&[
        ("site/hello.luau", HELLO),
        ("lone.lua", HELLO),
        ("site/uses.luau", "return require('lib')"),
        ("site/lib.luau", HELLO),
    ]);
    assert_eq!(machine.run(&["site", "hello", "bob"]).ok().out, "hello bob\n");
    assert_eq!(machine.run(&["site", "hello", "bob", "--loud"]).ok().out, "BOB\n");
    assert_eq!(machine.run(&["lone", "bob"]).ok().out, "hello bob\n");
    assert_eq!(machine.run(&["site", "uses", "bob"]).ok().out, "hello bob\n", "beside it lie its modules");
    let help = machine.run(&["site", "hello", "--help"]).ok().out;
    assert!(help.contains("Usage: ceso site hello") && help.contains("<WHO>") && help.contains("--loud"), "{help}");
    assert!(machine.run(&["--help"]).ok().words().contains("site hello Say hello"));
    assert!(machine.run(&["site"]).out.contains("site hello"));
    assert_eq!(machine.run(&["site", "hello"]).code, 2);
    assert_eq!(machine.run(&["site", "hello", "a", "b"]).code, 2);
}

#[test]
fn workflow_of_a_user_cannot_replace_what_is_built_in() {
    let evil = "log.error('it ran') return 1";
    let machine = with(&[("vm/list.luau", evil), ("run.luau", evil), ("host/list.lua", evil), ("help.luau", evil)]);
    let list = machine.run(&["--host", "sim", "vm", "list"]).ok();
    assert!(list.out.contains("debian-12") && !list.err.contains("it ran"), "{list:?}");
    machine.run(&["host", "list"]).ok();
    let help = machine.run(&["--help"]).ok();
    for name in ["vm/list.luau", "run.luau", "host/list.lua", "help.luau"] {
        assert!(help.out.contains(name), "{name}: {help:?}");
    }
    assert!(help.words().contains("vm list List virtual machines") && !help.err.contains("it ran"), "{help:?}");
}

#[test]
fn workflow_that_is_broken_is_named_and_breaks_no_other() {
    let machine = with(&[
        ("site/hello.luau", HELLO),
        ("site/syntax.luau", "return {"),
        ("site/plain.luau", "log.error('it ran') print('it ran') return 5"),
        ("site/endless.luau", "while true do end"),
        ("site/hungry.luau", "local t = {} while true do t[#t + 1] = string.rep('x', 1e6) .. #t end"),
        ("site/taken.luau", "return { params = { host = { type = 'string' } }, run = function() end }"),
        ("site/UPPER.luau", HELLO),
        ("site/notes.txt", "no script"),
    ]);
    let folder = machine.home().join("workflows");
    fs::write(folder.join("site/huge.luau"), vec![b' '; 5 << 20]).unwrap();
    fs::write(folder.join("site/large.luau"), vec![b' '; 1 << 20]).unwrap();
    symlink("/etc/passwd", folder.join("site/link.luau")).unwrap();
    symlink(machine.project(), folder.join("outside")).unwrap();
    fs::write(machine.project().join("far.luau"), HELLO).unwrap();
    let help = machine.run(&["--help"]).ok();
    for name in ["syntax", "plain", "endless", "hungry", "large"] {
        assert!(
            help.words().contains(&format!(
                "(cannot be read: ceso check {}",
                folder.join(format!("site/{name}.luau")).display()
            )),
            "{name}: {help:?}"
        );
    }
    assert!(help.words().contains("site hello Say hello") && help.out.contains("vm list"), "{help:?}");
    assert!(help.out.contains("huge.luau: cannot be read"), "{help:?}");
    assert!(!help.out.contains("it ran") && !help.err.contains("it ran"), "{help:?}");
    for absent in ["site link", "outside", "UPPER", "site notes"] {
        assert!(!help.out.contains(absent), "{absent}: {help:?}");
    }
    assert_eq!(machine.run(&["site", "hello", "bob"]).ok().out, "hello bob\n");
    let plain = machine.run(&["site", "plain"]).failed(2, "config.workflow");
    assert!(plain.err.contains("ceso run") && !plain.err.contains("it ran"), "{plain:?}");
    assert!(!machine.run(&["site", "plain", "--help"]).err.contains("it ran"));
    let syntax = machine.run(&["site", "syntax"]);
    assert!(syntax.code == 1 && syntax.err.contains("site/syntax.luau:1:"), "{syntax:?}");
    machine.run(&["site", "taken"]).failed(2, "usage.declaration");
    machine.run(&["site", "link"]).failed(2, "usage.command");
    machine.run(&["away", "far"]).failed(2, "usage.command");
    let completion = machine.run(&["completion", "bash"]).ok();
    assert!(completion.out.contains("hello") && completion.err.contains("left out: site syntax"), "{}", completion.err);
}

#[test]
fn workflow_folder_that_cannot_be_read_is_named() {
    let machine = with(&[]);
    fs::write(machine.home().join("workflows"), "a file").unwrap();
    assert!(machine.run(&["--help"]).ok().out.contains("workflows: cannot be read"));
    machine.run(&["--host", "sim", "vm", "list"]).ok();
    fs::remove_file(machine.home().join("workflows")).unwrap();
    let folder = machine.home().join("workflows/site");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    machine.run(&["--host", "sim", "vm", "list"]).ok();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}
