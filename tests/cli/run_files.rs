//! What `ceso run` takes as a script, and what it refuses: names, encodings, sizes, modules, results.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Machine, done};

#[test]
fn run_takes_both_extensions_standard_input_a_mark_of_utf8_and_any_line_ends() {
    let machine = Machine::new();
    for (name, text) in [
        ("a.luau", &b"return 7"[..]),
        ("a.lua", b"return 7"),
        ("bom.luau", b"\xef\xbb\xbfreturn 7"),
        ("crlf.luau", b"local x = 7\r\nreturn x\r\n"),
        ("deep/er/a.luau", b"return 7\n"),
    ] {
        machine.file(name, text);
        assert_eq!(machine.run(&["run", name]).ok().out, "7\n", "{name}");
    }
    let given = done(machine.command(&["run", "-"]).write_stdin("return 7").output().unwrap());
    assert_eq!(given.ok().out, "7\n");
    machine.file("empty.luau", "");
    assert_eq!(machine.run(&["run", "empty.luau"]).ok().out, "");
    assert_eq!(machine.run(&["run", "empty.luau", "--output", "json"]).ok().out, "null\n");
}

#[test]
fn run_refuses_what_is_no_script_with_the_reason() {
    let machine = Machine::new();
    machine.file("a.txt", "return 1");
    machine.file("big.luau", vec![b' '; 1_000_000]);
    fs::create_dir(machine.project().join("folder.luau")).unwrap();
    let pipe = machine.project().join("pipe.luau");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    for (name, code, kind) in [
        ("a.txt", 2, "usage.file"),
        ("missing.luau", 2, "usage.file"),
        ("folder.luau", 2, "usage.file"),
        (".", 2, "usage.file"),
        ("pipe.luau", 2, "usage.file"),
        ("big.luau", 124, "limit.source"),
    ] {
        let failed = machine.run(&["run", name]).failed(code, kind);
        assert!(failed.err.contains(name) && failed.out.is_empty(), "{failed:?}");
        assert_eq!(machine.run(&["check", name]).code, code, "{name}");
    }
    let large = done(machine.command(&["run", "-"]).write_stdin(vec![b' '; 1_000_000]).output().unwrap());
    large.failed(124, "limit.source");
}

#[test]
fn run_points_at_the_line_of_what_is_wrong_in_the_text() {
    let machine = Machine::new();
    for (text, kind, place) in [
        (&b"local x = 1\nlocal y = x +\nfor"[..], "script.syntax", "script.luau:3:1"),
        (b"\xff\xfe", "script.syntax", "script.luau:1:1"),
        (b"\x1bLua", "script.syntax", "script.luau:1:"),
        (b"local a = nil\r\nreturn a.b", "script.error", "script.luau:2:"),
        (b"\xef\xbb\xbferror('x')", "script.error", "script.luau:1:1"),
        (b"local function f()\n  error('deep')\nend\nf()", "script.error", "script.luau:2:3"),
        (b"error({ kind = 'esxi.mine', message = 'made up' })", "script.error", "script.luau:1:"),
    ] {
        machine.file("script.luau", text);
        let failed = machine.run(&["run", "script.luau"]);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{failed:?}");
        assert!(failed.err.starts_with(&format!("error[{kind}]")) && failed.err.contains(place), "{failed:?}");
        assert!(failed.err.contains('^') && !failed.err.contains("panicked"), "{failed:?}");
    }
}

#[test]
fn run_requires_modules_of_its_own_folder_and_of_ceso_and_no_others() {
    let machine = Machine::new();
    machine.file("lib/a.luau", "return { v = 7 }");
    machine.file("lib/bad.luau", "local x = 1\nerror(");
    symlink("/etc/passwd", machine.project().join("link.luau")).unwrap();
    symlink("/etc", machine.project().join("etc")).unwrap();
    fs::write(machine.project().parent().unwrap().join("outside.luau"), "return 1").unwrap();
    assert_eq!(machine.script("return require('lib/a').v", &[]).ok().out, "7\n");
    assert_eq!(machine.script("return require('./lib/a.luau').v", &[]).ok().out, "7\n");
    assert_eq!(machine.script("return type(require('@ceso/fleet').map)", &[]).ok().out, "function\n");
    for name in ["link", "etc/passwd", "../outside", "/etc/passwd", "lib/../../outside"] {
        let failed = machine.script(&format!("return require('{name}')"), &[]).failed(1, "script.module_refused");
        assert!(!failed.err.contains("root:"), "{failed:?}");
    }
    machine.script("require('lib/none')", &[]).failed(1, "script.no_module");
    let unknown = machine.script("require('@ceso/flet')", &[]);
    assert!(unknown.code == 1 && unknown.err.contains("@ceso/fleet"), "{unknown:?}");
    let inner = machine.script("require('lib/bad')", &[]);
    assert!(inner.code == 1 && inner.err.contains("lib/bad.luau:2:"), "{inner:?}");
    let piped = done(machine.command(&["run", "-"]).write_stdin("require('lib/a')").output().unwrap());
    piped.failed(1, "script.no_module");
}

#[test]
fn run_refuses_results_that_are_no_data_and_prints_large_ones() {
    let machine = Machine::new();
    for (text, says) in [
        ("return function() end", "function"),
        ("local t = {} t.t = t return t", "contains itself"),
        ("return { 1, 2, x = 3 }", "both a list"),
        ("return { [true] = 1 }", "boolean"),
        ("return { 1, nil, 3 }", ""),
        ("local t = {} for i = 1, 100 do t = { t } end return t", ""),
    ] {
        let run = machine.script(text, &[]);
        assert!(!run.err.contains("panicked") && run.err.contains(says), "{text}: {run:?}");
        if !says.is_empty() {
            assert!(run.code == 1 && run.out.is_empty() && run.err.contains("error[script.error]"), "{run:?}");
        }
    }
    let many = "local t = {} for i = 1, 20000 do t[i] = { name = `x{i}`, v = i } end return t";
    assert_eq!(machine.script(many, &["--output", "csv"]).ok().out.lines().count(), 20001);
    let deep = machine.script("local t = {} for i = 1, 5000000 do t[i] = { name = `x{i}` } end return t", &[]);
    assert!(deep.code == 124 && deep.err.contains("sandbox.memory") && deep.out.is_empty(), "{}", deep.err);
}

#[test]
fn run_writes_to_a_closed_pipe_quietly_and_to_a_full_disk_with_an_error() {
    let machine = Machine::new();
    machine.file("script.luau", "for i = 1, 1000 do print(string.rep('x', 900)) end return 1");
    let shell = |line: &str| {
        let mut command = assert_cmd::Command::new("bash");
        command.env("CESO", env!("CARGO_BIN_EXE_ceso")).env("HOME", machine.project()).current_dir(machine.project());
        done(command.args(["-o", "pipefail", "-c", line]).timeout(std::time::Duration::from_secs(60)).output().unwrap())
    };
    for line in [
        "$CESO run script.luau | head -0",
        "$CESO run script.luau >&-",
        "$CESO vm list --host sim | head -0",
        "$CESO --help | head -1 > /dev/null",
        "$CESO vm list --help >&-",
    ] {
        let run = shell(line);
        assert!(run.code == 0 && !run.err.contains("error") && !run.err.contains("panicked"), "{line}: {run:?}");
    }
    for line in
        ["$CESO run script.luau > /dev/full", "$CESO vm list --host sim > /dev/full", "$CESO --help > /dev/full"]
    {
        shell(line).failed(1, "output.failed");
    }
    machine.file("silent.luau", "print('x')");
    shell("$CESO run silent.luau > /dev/full").failed(1, "output.failed");
    let stuck = shell("$CESO run script.luau | (sleep 1; wc -l)").ok();
    assert_eq!(stuck.out.trim(), "1001", "a slow reader loses nothing");
}
