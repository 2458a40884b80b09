//! `ceso check`: what is wrong with a script, without a host and without running it.

use crate::support::Machine;

#[test]
fn check_says_what_a_playbook_declares_and_connects_to_nothing() {
    let machine = Machine::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/first_vms.luau");
    let said = machine.run(&["check", example]).ok();
    for text in
        ["playbook", "Three web servers", "pool (type cidr", "default 10.0.1.240/29", "copy_from = \"{template}\""]
    {
        assert!(said.out.contains(text), "{text}: {said:?}");
    }
    let json = machine.run(&["check", example, "--output", "json"]).ok().json();
    assert_eq!(json["kind"], "playbook");
    assert_eq!(json["params"][0]["name"], "gateway");
    // A host that answers nobody: a check does not even try.
    let nowhere = [("CESO_URL", "https://192.0.2.1"), ("CESO_USERNAME", "u"), ("CESO_PASSWORD", "p")];
    machine.file("plain.luau", "print('not part of the answer')\nlocal host = esxi.connect()\nhost:vm('x'):destroy()");
    let plain = machine.run_with(&nowhere, &["check", "plain.luau", "--output", "json"]).ok();
    assert_eq!(plain.json()["kind"], "plain script");
    machine.file("empty.luau", "");
    machine.run(&["check", "empty.luau"]).ok();
}

#[test]
fn check_points_at_the_line_of_a_syntax_error() {
    let machine = Machine::new();
    machine.file("bad.luau", "local x = 1\nlocal y = = 2\n");
    let failed = machine.run(&["check", "bad.luau"]);
    assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{failed:?}");
    assert!(failed.err.contains("error[script.syntax]") && failed.err.contains("bad.luau:2:"), "{failed:?}");
    assert!(failed.err.contains("local y = = 2") && failed.err.contains('^'), "{failed:?}");
}

#[test]
fn check_names_the_part_of_a_declaration_that_is_wrong_and_a_run_refuses_it_too() {
    let machine = Machine::new();
    let long = format!("return {{ params = {{ x = {{ type = \"string\", doc = {} }} }}, run = print }}", "{}");
    for (text, kind, says) in [
        ("return { summary = 1, run = function() end }", "usage.declaration", "summary"),
        ("return { summry = 'x', run = function() end }", "usage.declaration", "did you mean summary?"),
        ("return { params = 5, run = function() end }", "usage.declaration", "params"),
        (
            "return { params = { x = { type = 'strin' } }, run = function() end }",
            "usage.declaration",
            "did you mean string?",
        ),
        ("return { params = { x = {} }, run = function() end }", "usage.declaration", "type: is missing"),
        (
            "return { params = { x = { type = 'size', default = 'big' } }, run = function() end }",
            "usage.declaration",
            "default",
        ),
        ("return { params = { x = { type = 'choice' } }, run = function() end }", "usage.declaration", "choices"),
        ("return { params = { X = { type = 'number' } }, run = function() end }", "usage.declaration", "params.X"),
        (
            "return { params = { x = { type = 'number', position = 2 } }, run = function() end }",
            "usage.declaration",
            "position",
        ),
        (
            "return { params = { x = { typ = 'number' } }, run = function() end }",
            "usage.declaration",
            "did you mean type?",
        ),
        (long.as_str(), "usage.declaration", "doc"),
        ("return { columns = 'name', run = function() end }", "usage.declaration", "columns: expected a list of names"),
        ("return { columns = { name = 1 }, run = function() end }", "usage.declaration", "columns: expected a list"),
        ("return { columns = { 'name', 5 }, run = function() end }", "usage.declaration", "columns: expected names"),
        (
            "return { needs = { vm = { read = '{nam}' } }, params = { name = { type = 'string' } }, run = function() end }",
            "usage.declaration",
            "did you mean {name}?",
        ),
        ("return { needs = { vn = { read = '*' } }, run = function() end }", "usage.capability_table", "vn"),
        (
            "return { needs = { vm = { raed = '*' } }, run = function() end }",
            "usage.capability_table",
            "did you mean read?",
        ),
        ("return { needs = { vm = { read = 'a*b' } }, run = function() end }", "usage.capability_table", "a*b"),
        ("return { needs = { vm = { read = {} } }, run = function() end }", "usage.capability_table", "vm.read"),
        ("return { needs = '*', run = function() end }", "usage.capability_table", "a string"),
        (
            "return { needs = { vm = { create = { name = 'x', max = -1 } } }, run = function() end }",
            "usage.capability_table",
            "max",
        ),
    ] {
        machine.file("bad.luau", text);
        for command in ["check", "run"] {
            let failed = machine.run(&[command, "bad.luau"]).failed(2, kind);
            assert!(failed.err.contains(says) && failed.out.is_empty(), "{says}: {failed:?}");
        }
    }
    for text in ["return { needs = {}, run = 1 }", "return { params = {} }"] {
        machine.file("bad.luau", text);
        let failed = machine.run(&["check", "bad.luau"]);
        assert!(failed.code == 2 && failed.err.contains("run = function"), "{failed:?}");
    }
}

#[test]
fn check_of_an_endless_script_ends_at_the_limit() {
    let machine = Machine::new();
    machine.file("loop.luau", "while true do end");
    machine.run(&["check", "loop.luau", "--timeout", "300ms"]).failed(124, "limit.run_time");
}
