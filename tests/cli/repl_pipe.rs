//! `ceso repl` behind a pipe: chunks in, values out, the exit code of the last that failed.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Done, Machine, done};

fn repl(machine: &Machine, arguments: &[&str], input: impl Into<Vec<u8>>) -> Done {
    let arguments: Vec<&str> = std::iter::once("repl").chain(arguments.iter().copied()).collect();
    done(machine.command(&arguments).write_stdin(input).output().unwrap())
}

fn answered(input: &str) -> Done {
    repl(&Machine::new(), &[], input)
}

#[test]
fn chunks_are_run_in_one_session_and_their_values_shown() {
    let done = answered(
        "local x = 2\nlocal function twice(n)\n  return n * 2\nend\ntwice(x)\n\"a\\tb\"\n{ a = 1, b = { true } }\nprint(\"said\")\n\
         x, \"two\"\nnil\n",
    );
    assert_eq!(done.out, "4\n\"a\\tb\"\n{ a = 1, b = { true } }\nsaid\n{ 2, \"two\" }\n", "{done:?}");
    assert_eq!(done.code, 0);
    assert!(done.err.starts_with("audit ") && done.err.lines().count() == 1, "a receipt alone: {done:?}");
}

#[test]
fn a_chunk_goes_on_until_it_is_complete() {
    let done = answered("for i = 1, 2 do\n\n  print(i)\nend\n1 +\n2\nx =\n3\nx\n[[a\nb]]\n-- a comment\n7");
    assert_eq!(done.out, "1\n2\n3\n3\n\"a\\nb\"\n7\n", "{done:?}");
    answered("for i = 1, 2 do\n").failed_with(1, "script.incomplete");
    answered("x = \n").failed_with(1, "script.incomplete");
}

#[test]
fn the_exit_code_is_that_of_the_last_chunk_that_failed() {
    let done = answered("error(\"first\")\nprint(\"on\")\nesxi.connect()\n1\n");
    assert_eq!(done.code, 2, "{done:?}");
    assert_eq!(done.out, "on\n1\n");
    assert!(done.err.contains("error[script.error]") && done.err.contains("error[usage.no_host]"), "{done:?}");
    assert!(done.err.contains("chunk 1:1"), "a fault points into its chunk: {done:?}");
    answered("x = = 1\n").failed_with(1, "script.syntax");
    assert_eq!(answered("x = = 1\n1\n").code, 1);
}

#[test]
fn a_fault_in_a_function_of_an_earlier_chunk_points_there() {
    let done = answered("function f()\n  error(\"in f\")\nend\n1\nf()\n");
    assert!(done.err.contains("chunk 1:2") && done.err.contains("error(\"in f\")"), "{done:?}");
}

#[test]
fn each_chunk_has_a_runs_limits_of_calls_and_output() {
    let machine = Machine::new().user("sandbox: {calls: 3, output: 100}\n");
    let call = "for i = 1, 3 do cloudinit.build({ hostname = \"a\" }) end\nprint((\"x\"):rep(80))\n";
    let done = repl(&machine, &[], call.repeat(5));
    assert_eq!((done.code, done.out.lines().count()), (0, 5), "{done:?}");
    let done = repl(&machine, &[], "for i = 1, 4 do cloudinit.build({ hostname = \"a\" }) end\n");
    assert_eq!(done.code, 124, "{done:?}");
    assert!(done.err.contains("limit.calls"), "{done:?}");
}

#[test]
fn the_time_is_that_of_one_expression_and_the_state_stays() {
    let machine = Machine::new();
    let done = repl(&machine, &["--timeout", "400ms"], "x = 5\nwhile true do end\nx\n");
    assert_eq!((done.code, done.out.as_str()), (124, "5\n"), "{done:?}");
    assert!(done.err.contains("error[limit.run_time]"), "{done:?}");
    let sleeps = "require(\"@ceso/task\").sleep(\"200 ms\")\n".repeat(4);
    let done = repl(&machine, &["--timeout", "700ms"], sleeps);
    assert_eq!(done.code, 0, "together they are longer than each may be: {done:?}");
}

#[test]
fn a_full_memory_loses_the_state_says_so_and_can_be_replayed() {
    let done = answered(
        "x = 5\nt = {} while true do t[#t + 1] = (\"x\"):rep(1000000) .. #t end\nprint(x)\n:replay\nprint(x)\n",
    );
    assert_eq!(done.code, 124, "{done:?}");
    assert!(done.err.contains("error[limit.memory]") && done.err.contains("state is gone"), "{done:?}");
    assert!(done.err.contains(":replay runs its 1 chunk again") && done.err.contains("> x = 5"), "{done:?}");
    assert_eq!(done.out, "nil\n5\n", "{done:?}");
}

#[test]
fn commands_work_in_a_pipe_too() {
    let done =
        answered(":mode\n:help\n:help vm.clone\n:caps\n:mode restricted\n:mode\n:quit\nprint(\"not reached\")\n");
    assert_eq!(done.code, 0, "{done:?}");
    for text in ["standard\n", ":replay", "template", "The mode standard allows:", "restricted\n"] {
        assert!(done.out.contains(text), "{text}: {done:?}");
    }
    assert!(done.err.contains("state is gone") && !done.out.contains("not reached"), "{done:?}");
    answered(":hlep\n").failed(2, "usage.command");
    answered(":mode standrad\n").failed(2, "usage.mode");
    answered(":host nobody\n").failed(2, "usage.unknown_host");
    answered(":replay\n").failed(2, "usage.replay");
    answered(":load /no/such.luau\n").failed(2, "usage.file");
    answered(":help nothing_like_it\n").failed(2, "usage.name");
}

#[test]
fn a_changed_mode_holds() {
    let done = answered(":mode restricted\n:caps\n");
    assert!(done.out.contains("restricted") && !done.out.contains("create"), "{done:?}");
}

#[test]
fn a_file_is_one_chunk_and_its_names_stay() {
    let machine = Machine::new();
    std::fs::write(machine.project().join("lib.luau"), "return { n = 4 }").unwrap();
    std::fs::write(machine.project().join("a.luau"), "local lib = require(\"lib\")\nlocal y = lib.n + 1\n").unwrap();
    assert_eq!(repl(&machine, &[], ":load a.luau\ny\n").ok().out, "5\n");
    std::fs::write(machine.project().join("b.luau"), "local y =\n").unwrap();
    repl(&machine, &[], ":load b.luau\n").failed_with(1, "script.incomplete");
}

#[test]
fn what_cannot_be_read_ends_the_input_and_nothing_behind_it_is_run() {
    let bad = |bytes: &[u8]| {
        let input = [b"print(\"before\")\nif false then\n", bytes, b"\nprint(\"behind\")\nend\n"].concat();
        let done = repl(&Machine::new(), &[], input);
        assert_eq!(done.out, "before\n", "{done:?}");
        assert!(!done.err.contains("panicked") && done.err.len() < 4000);
        done
    };
    let done = bad(b"y = \"\xff\"");
    assert!(done.code == 2 && done.err.contains("line 3 is not UTF-8"), "{done:?}");
    for large in ["x".repeat(10 << 20), "(\n".repeat(200_000)] {
        let done = bad(large.as_bytes());
        assert!(done.code == 124 && done.err.contains("error[limit.source]"), "{done:?}");
    }
}

#[test]
fn a_nul_does_not_hide_what_stands_behind_it() {
    let done = answered("x = 1\nx = 2 \0 x = 3\nx\n");
    assert_eq!((done.code, done.out.as_str()), (2, "1\n"), "{done:?}");
    assert!(done.err.contains("NUL character"), "{done:?}");
}

#[test]
fn what_a_script_says_cannot_reach_the_terminal() {
    let done = answered("print(\"\\27[2J\")\n\"\\27[2J\"\n{ [\"\\27]\"] = \"\\u{202e}\" }\nerror(\"\\27[2J\")\n");
    assert!(!done.out.contains('\x1b') && !done.err.contains('\x1b') && !done.out.contains('\u{202e}'), "{done:?}");
}

#[test]
fn the_simulator_says_its_name_and_its_machines_are_a_table() {
    let done = repl(&Machine::new(), &["--host", "sim"], "host = esxi.connect()\nhost.name\nhost:vms()\n").ok();
    assert!(done.err.contains("SIMULATOR"), "{done:?}");
    assert!(done.out.contains("\"sim\"") && done.out.contains("NAME") && done.out.contains("debian-12"), "{done:?}");
}

#[test]
fn another_host_can_be_chosen_and_a_session_that_was_lost_connects_anew() {
    let done = repl(
        &Machine::new(),
        &[],
        ":host sim\nhost = esxi.connect()\n:mode restricted\n:replay\n#host:vms() > 0\nhost:clone({ template = \"debian-12\", name = \"a\" })\n",
    );
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.out.contains("true") && done.err.contains("door.denied"), "{done:?}");
}

#[test]
fn no_history_is_written_for_a_pipe() {
    let machine = Machine::new();
    repl(&machine, &[], "1\n").ok();
    assert!(!machine.home().join("repl_history").exists());
    let mode = std::fs::metadata(machine.home()).unwrap().permissions().mode();
    assert_ne!(mode, 0);
}

impl Done {
    /// Failed with that code and kind, once.
    #[track_caller]
    fn failed_with(self, code: i32, kind: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.err.matches(&format!("error[{kind}]")).count(), 1, "{self:?}");
    }
}
