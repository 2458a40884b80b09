//! Exit codes and limits: 0 done, 1 the script failed, 2 usage, 3 denied, 4 the host, 124 a limit. Nothing is printed as a result.

use crate::support::Machine;

#[test]
fn run_has_an_exit_code_for_each_kind_of_end() {
    let machine = Machine::new();
    for (text, arguments, code, kind) in [
        ("error('boom')", &[][..], 1, "script.error"),
        ("error({ kind = 'limit.memory', message = 'made up' })", &[], 1, "script.error"),
        ("error({ kind = 'door.denied', message = 'made up' })", &[], 1, "script.error"),
        ("esxi.connect():create({ nam = 'x' })", &[], 2, "usage.argument"),
        ("esxi.connect():vm('none')", &[], 4, "esxi.vm_not_found"),
        ("esxi.connect():vm('debian-12'):power_on()", &["--mode", "restricted"], 3, "door.denied"),
        ("while true do end", &["--timeout", "300ms"], 124, "limit.run_time"),
        ("local t = {} while true do t[#t + 1] = string.rep('x', 1e5) .. #t end", &[], 124, "limit.memory"),
        ("while true do print(string.rep('x', 1000)) end", &[], 124, "limit.output"),
        ("require('@ceso/task').sleep('1 min')", &["--timeout", "300ms"], 124, "limit.run_time"),
    ] {
        let run = machine.script(text, arguments);
        assert_eq!(run.code, code, "{text}: {run:?}");
        assert!(run.err.contains(&format!("error[{kind}]")) && run.err.contains("\nrun 0"), "{run:?}");
        assert!(run.out.is_empty() || kind == "limit.output", "{run:?}");
        if code == 124 {
            assert!(run.err.contains("sandbox."), "the setting is named: {run:?}");
        } else {
            assert!(run.err.contains("script.luau:1:") && run.err.contains('^'), "{run:?}");
        }
    }
    assert_eq!(machine.script("return 1", &[]).ok().out, "1\n");
}

#[test]
fn run_raises_a_limit_that_the_configuration_raises_and_names_the_right_argument() {
    let machine = Machine::new().user("sandbox: {output: 4 MiB}\n");
    let text = "for i = 1, 2000 do print(string.rep('x', 1000)) end";
    assert_eq!(machine.script(text, &[]).ok().out.len(), 2_002_000);
    let wrong = machine.script("esxi.connect():create({ nam = 'x' })", &[]).failed(2, "usage.argument");
    assert!(wrong.err.contains("name"), "{wrong:?}");
    let wrong = machine.script("esxi.conect()", &[]);
    assert!(wrong.code == 1 && wrong.err.contains("connect"), "{wrong:?}");
}

#[test]
fn run_refuses_flags_that_mean_nothing_before_it_begins() {
    let machine = Machine::new();
    machine.file("script.luau", "log.error('it ran')");
    for (arguments, kind) in [
        (&["--mode", "loose"][..], "config.wrong_type"),
        (&["--timeout", "soon"], "config.wrong_type"),
        (&["--timeout", "0s"], "config.invalid"),
        (&["--host"], "usage.flag"),
        (&["--mode", "standard", "--mode", "restricted"], "usage.flag"),
        (&["--grant", "none.yaml"], "usage.grant"),
    ] {
        let failed = machine.run(&[&["run", "script.luau"], arguments].concat());
        assert!(!failed.err.contains("it ran"), "{failed:?}");
        assert!(failed.code == 2 && failed.err.contains(&format!("error[{kind}]")), "{failed:?}");
    }
    let failed = machine.run_with(&[("CESO_OUTPUT", "jsn")], &["run", "script.luau"]).failed(2, "usage.output");
    assert!(!failed.err.contains("it ran") && failed.err.contains("json"), "{failed:?}");
    assert_eq!(machine.run(&["run", "script.luau", "--output", "yaml"]).code, 2);
    assert_eq!(machine.run(&["run"]).code, 2);
}

#[test]
fn run_with_a_grant_does_what_the_grant_allows_and_a_bad_grant_is_refused_by_name() {
    let machine = Machine::new();
    machine.file("read.yaml", "vm: {read: [debian-*, other]}\n");
    machine.file("none.yaml", "");
    let text = "return #esxi.connect():find({ name = '*' })";
    assert_eq!(machine.script(text, &["--grant", "read.yaml"]).ok().out, "1\n");
    machine.script(text, &["--grant", "none.yaml"]).failed(3, "door.denied");
    let change = "esxi.connect():vm('debian-12'):ensure_power('on')";
    let denied = machine.script(change, &["--grant", "read.yaml"]).failed(3, "door.denied");
    assert!(denied.err.contains("the grant would need vm = { power = \"debian-12\" }"), "{denied:?}");
    for (text, kind, says) in [
        (&b"vm: [\n"[..], "usage.grant", "line 1"),
        (b"\xff\xfe", "usage.grant", "UTF-8"),
        (b"vmm: {read: '*'}\n", "usage.capability_table", "did you mean vm?"),
        (b"vm: {reed: '*'}\n", "usage.capability_table", "did you mean read?"),
        (b"vm: {read: 'a*b'}\n", "usage.capability_table", "not a selector"),
        (b"vm: {create: {name: '*', max: 0}}\n", "usage.capability_table", "max"),
        (b"- vm\n", "usage.capability_table", "a list"),
        (b"vm: '*'\n", "usage.capability_table", "such as vm"),
        (b"version: 2\nvm: {read: '*'}\n", "usage.capability_table", "version"),
    ] {
        machine.file("bad.yaml", text);
        let failed = machine.script("log.error('it ran')", &["--grant", "bad.yaml"]).failed(2, kind);
        assert!(failed.err.contains(says) && failed.err.contains("bad.yaml"), "{says}: {failed:?}");
        assert!(!failed.err.contains("it ran"), "{failed:?}");
    }
}
