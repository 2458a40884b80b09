//! Log lines as a user gets them: none unless asked for, by level and room, each with its run.

use std::fs;

use super::support::{Machine, Sim, mode};

#[test]
fn nothing_is_logged_unless_asked_for() {
    let machine = Machine::new();
    let done = machine.run(&["vm", "list", "--host", "sim"]).ok();
    assert!(!done.err.contains("INFO") && !done.err.contains("ceso::"), "{done:?}");
}

#[test]
fn lines_are_by_level_and_room_and_carry_their_run() {
    let (machine, sim) = (Machine::new(), Sim::start(Default::default()));
    let done = machine.on(&sim, &["vm", "list", "--log", "esxi=debug"]).ok();
    let lines: Vec<&str> = done.err.lines().filter(|line| line.contains("ceso::")).collect();
    assert!(lines.iter().any(|line| line.contains("DEBUG") && line.contains("method=\"Login\"")), "{done:?}");
    assert!(lines.iter().all(|line| line.contains("ceso::esxi")), "{done:?}");
    assert!(lines.iter().all(|line| line.contains("run{id=")), "{done:?}");
    assert!(lines.iter().any(|line| line.contains("operation{name=\"vm.find\"")), "{done:?}");
    let done = machine.on(&sim, &["vm", "list", "--log", "run=info"]).ok();
    assert!(done.err.contains("the run is done") && !done.err.contains("ceso::esxi"), "{done:?}");
    let mut command = machine.command(&["vm", "list", "--host", "sim"]);
    let done = super::support::done(command.env("CESO_LOG", "run=info").output().unwrap());
    assert!(done.err.contains("the run is done"), "{done:?}");
}

#[test]
fn json_lines_are_json_and_several_commands_share_a_file() {
    let machine = Machine::new().user("log:\n  level: debug\n  format: json\n  file: deep.log\n");
    for _ in 0..2 {
        let done = machine.run(&["vm", "list", "--host", "sim"]).ok();
        assert!(!done.err.contains("ceso::"), "{done:?}");
    }
    let file = machine.home().join("deep.log");
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let runs: std::collections::BTreeSet<String> =
        lines.iter().filter_map(|line| Some(line["spans"][0]["id"].as_str()?.to_owned())).collect();
    assert_eq!(runs.len(), 2, "{text}");
    assert!(lines.iter().all(|line| line["target"].as_str().unwrap().starts_with("ceso::")), "{text}");
}

#[test]
fn rubbish_is_refused_before_anything_is_done() {
    let (machine, sim) = (Machine::new(), Sim::start(Default::default()));
    for level in ["loud", "esx=debug", "", ",", "\u{1b}[31m", "=debug"] {
        let done = machine.on(&sim, &["vm", "list", "--log", level]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(!done.err.contains('\u{1b}'), "{done:?}");
    }
    machine.run_with(&[("CESO_LOG", "verbose please")], &["vm", "list", "--host", "sim"]).failed(2, "usage.log");
    machine.on(&sim, &["vm", "list", "--log", "info", "--log", "info"]).failed(2, "usage.flag");
    assert_eq!(sim.calls("Login"), 0);
}

#[test]
fn a_log_that_is_no_file_is_refused() {
    let machine = Machine::new();
    let pipe = machine.project().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [machine.project(), pipe, "/dev/null".into(), "none/x.log".into()] {
        let variables = [("CESO_LOG", "info"), ("CESO_LOG_FILE", file.to_str().unwrap())];
        machine.run_with(&variables, &["vm", "list", "--host", "sim"]).failed(1, "log.file");
    }
    // What mends the configuration is not held up.
    machine.run_with(&[("CESO_LOG_FILE", "/dev/null")], &["config", "show"]).ok();
}

#[test]
fn no_line_holds_a_password() {
    let options = ceso::sim::Options { password: "Pa55-of-the-host!".to_owned().into(), ..Default::default() };
    let (machine, sim) = (Machine::new(), Sim::start(options));
    let mut command = machine.command(&["vm", "list", "--log", "trace"]);
    command.envs(sim.variables()).env("CESO_PASSWORD", "Pa55-of-the-host!");
    let done = super::support::done(command.output().unwrap()).ok();
    assert!(done.err.contains("logged in") && !done.err.contains("Pa55-of-the-host!"), "{done:?}");
}
