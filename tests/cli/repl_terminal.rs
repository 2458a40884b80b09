//! `ceso repl` at a pseudo-terminal: what a person types and sees.

use std::process::Command;
use std::time::Duration;

use crate::support::{Machine, mode};
use crate::terminal::Terminal;
use crate::vcsim::Vcsim;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

fn start(machine: &Machine, arguments: &[&str]) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ceso"));
    command
        .env_clear()
        .env("HOME", machine.home().parent().unwrap())
        .env("TERM", "xterm")
        .env("NO_COLOR", "1")
        .current_dir(machine.project())
        .arg("repl")
        .args(arguments);
    Terminal::start(command)
}

/// The worker of the session: the only child of the program.
fn worker(terminal: &Terminal) -> i32 {
    let pid = terminal.pid();
    let mut children = String::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        children += &std::fs::read_to_string(task.unwrap().path().join("children")).unwrap();
    }
    let mut children = children.split_whitespace();
    let worker = children.next().expect("a worker runs").parse().unwrap();
    assert_eq!(children.next(), None);
    worker
}

#[test]
fn ctrl_c_ends_the_expression_and_not_the_session() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &[]);
    terminal.expect("no host (standard");
    terminal.prompt();
    terminal.keys("x = 41\r");
    terminal.prompt();
    terminal.keys("print(\"begun\") while true do end\r");
    terminal.expect("\nbegun");
    terminal.keys(CTRL_C);
    terminal.expect("error[script.cancelled]");
    terminal.prompt();
    terminal.keys("x + 1\r");
    terminal.expect("\n42");
    terminal.prompt();
    // Ctrl-C at the prompt gives up the line alone, and what was typed ahead with it.
    terminal.keys("error(");
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.keys("x + 2\r");
    terminal.expect("\n43");
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (status, seen) = terminal.end();
    assert!(!seen.contains("panicked") && !seen.contains("state is gone"), "{seen}");
    assert_eq!(status.code(), Some(1), "a failed expression shows in the exit code: {seen}");
}

#[test]
fn ctrl_c_ends_a_wait_on_the_host() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &["--host", "sim"]);
    terminal.expect("SIMULATOR sim (standard");
    terminal.prompt();
    terminal.keys("vm = esxi.connect():create({ name = \"silent\", datastore = \"datastore1\" })\r");
    terminal.prompt();
    // It has no system that could take an address.
    terminal.keys("vm:power_on() print(\"begun\") vm:wait_for_ip({ timeout = \"5 min\" })\r");
    terminal.expect("\nbegun");
    std::thread::sleep(Duration::from_millis(200));
    terminal.keys(CTRL_C);
    terminal.expect("error[script.cancelled]");
    terminal.prompt();
    terminal.keys("vm:info().power\r");
    terminal.expect("\n\"on\"");
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (_, seen) = terminal.end();
    assert!(seen.contains("2 changed"), "what was changed is said at the end: {seen}");
}

#[test]
fn a_block_is_typed_over_several_lines_and_kept_as_one_entry() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &[]);
    terminal.prompt();
    terminal.keys("for i = 7, 8 do\rprint(i * 10)\rend\r");
    terminal.expect("\n70");
    terminal.expect("\n80");
    terminal.keys("y =\r");
    terminal.keys("5\r");
    terminal.keys("y + 6\r");
    terminal.expect("\n11");
    terminal.prompt();
    terminal.keys(CTRL_D);
    terminal.end();
    let history = machine.home().join("repl_history");
    assert_eq!(mode(&history), 0o600);
    let mut terminal = start(&machine, &[]);
    terminal.prompt();
    terminal.keys(UP);
    terminal.expect("y + 6");
    terminal.keys(UP);
    terminal.keys(UP);
    terminal.keys(UP);
    terminal.expect("print(i * 10)");
    terminal.keys("\r");
    terminal.expect("\n70");
    terminal.prompt();
    terminal.keys(CTRL_D);
    terminal.end();
}

#[test]
fn tab_completes_names_methods_parameters_and_live_machines() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &["--host", "sim"]);
    terminal.prompt();
    terminal.keys("local host = esxi.con\t()\r");
    terminal.expect("esxi.connect()");
    terminal.expect("SIMULATOR: ");
    terminal.prompt();
    terminal.keys("host:vm(\"deb\t\").name\r");
    terminal.expect("host:vm(\"debian-12\").name");
    terminal.expect("\n\"debian-12\"");
    terminal.keys("host:clo\t{ temp\t");
    terminal.expect("host:clone{ template = ");
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.keys(":hel\t vm.clo\t");
    terminal.expect(":help vm.clone");
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (_, seen) = terminal.end();
    assert!(!seen.contains("panicked"), "{seen}");
}

#[test]
fn a_worker_that_is_killed_from_outside_is_replaced() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &[]);
    terminal.prompt();
    terminal.keys("x = 41\r");
    terminal.prompt();
    terminal.keys("x\r");
    terminal.expect("\n41");
    // SAFETY: a number of a process that this test started.
    unsafe { libc::kill(worker(&terminal), libc::SIGKILL) };
    terminal.keys("x\r");
    terminal.expect("error[script.crashed]");
    terminal.expect("state is gone");
    terminal.prompt();
    terminal.keys(":replay\r");
    terminal.expect("> x = 41");
    terminal.keys("x + 1\r");
    terminal.expect("\n42");
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (status, seen) = terminal.end();
    assert_eq!(status.code(), Some(1), "{seen}");
}

#[test]
fn a_history_that_cannot_be_used_is_said_and_left_alone() {
    let machine = Machine::new();
    let history = machine.home().join("repl_history");
    for bad in ["folder", "bytes", "large"] {
        match bad {
            "folder" => std::fs::create_dir(&history).unwrap(),
            "bytes" => std::fs::write(&history, b"#V2\nx\xff\n\0").unwrap(),
            _ => std::fs::write(&history, "x\n".repeat(5 << 20)).unwrap(),
        }
        let mut terminal = start(&machine, &[]);
        terminal.expect("the history is not kept");
        terminal.prompt();
        terminal.keys("1 + 1\r");
        terminal.expect("\n2");
        terminal.prompt();
        terminal.keys(CTRL_D);
        assert_eq!(terminal.end().0.code(), Some(0), "{bad}");
        match bad {
            "folder" => std::fs::remove_dir(&history).unwrap(),
            _ => {
                assert_ne!(std::fs::read(&history).unwrap(), b"");
                std::fs::remove_file(&history).unwrap();
            }
        }
    }
}

#[test]
fn a_request_to_end_is_obeyed_at_the_prompt_and_in_an_expression() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &[]);
    terminal.prompt();
    // SAFETY: as above.
    unsafe { libc::kill(terminal.pid() as i32, libc::SIGTERM) };
    terminal.end();
    let mut terminal = start(&machine, &[]);
    terminal.prompt();
    terminal.keys("print(\"begun\") while true do end\r");
    terminal.expect("\nbegun");
    // SAFETY: as above.
    unsafe { libc::kill(terminal.pid() as i32, libc::SIGTERM) };
    let (status, seen) = terminal.end();
    assert_eq!(status.code(), Some(143), "{seen}");
}

#[test]
fn a_line_of_a_person_may_hold_anything() {
    let machine = Machine::new();
    let mut terminal = start(&machine, &[]);
    terminal.prompt();
    terminal.keys("\"zażółć 日本\"\r");
    terminal.expect("\n\"zażółć 日本\"");
    terminal.prompt();
    terminal.keys("((((\t{{{{\"\t");
    terminal.expect("((((");
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.keys("1 + 1\r");
    terminal.expect("\n2");
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (status, seen) = terminal.end();
    assert_eq!(status.code(), Some(0), "{seen}");
}

#[test]
fn tab_offers_nothing_that_may_not_be_read() {
    let machine = Machine::new();
    let grant = machine.project().join("grant.yaml");
    std::fs::write(&grant, "host: {connect: \"*\"}\nvm: {read: \"web-*\"}\n").unwrap();
    let mut terminal = start(&machine, &["--host", "sim", "--grant", "grant.yaml"]);
    terminal.prompt();
    terminal.keys("host = esxi.connect()\r");
    terminal.expect("SIMULATOR: ");
    terminal.prompt();
    terminal.keys("host:vm(\"d\t\t");
    terminal.keys("x\")\r");
    terminal.expect("error[door.denied]");
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (status, seen) = terminal.end();
    assert_eq!(status.code(), Some(3), "{seen}");
    assert!(!seen.contains("debian"), "{seen}");
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_machines_are_completed_and_shown() {
    let vcsim = Vcsim::start(&["-username", "ops", "-password", "hunter2"]);
    let machine = Machine::new();
    let address = format!("127.0.0.1:{}", vcsim.url.port().unwrap());
    let add = ["host", "add", "lab", &address, "--username", "ops", "--store", "file", "--password-stdin", "--yes"];
    assert!(machine.command(&add).write_stdin("hunter2\n").output().unwrap().status.success());
    let mut terminal = start(&machine, &["--host", "lab"]);
    terminal.expect("lab (standard");
    terminal.prompt();
    terminal.keys("host = esxi.connect()\r");
    terminal.prompt();
    terminal.keys("host:vm(\"\t0\t\").name\r");
    terminal.expect("\n\"ha-host_VM0\"");
    terminal.prompt();
    terminal.keys("host:vms()\r");
    terminal.expect("POWER");
    terminal.prompt();
    terminal.keys("print(\"begun\") host:vm(\"ha-host_VM0\"):wait_for_ip({ timeout = \"5 min\" })\r");
    terminal.expect("\nbegun");
    std::thread::sleep(Duration::from_millis(300));
    terminal.keys(CTRL_C);
    terminal.prompt();
    terminal.keys("host.name\r");
    terminal.expect("\n\"lab\"");
    terminal.prompt();
    terminal.keys(CTRL_D);
    let (_, seen) = terminal.end();
    assert!(!seen.contains("panicked") && !seen.contains("SIMULATOR"), "{seen}");
}
