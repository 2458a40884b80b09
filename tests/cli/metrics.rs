//! Metrics as a user gets them: served while a command runs, added up in a textfile after it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::support::{Machine, Sim, eventually};

/// What is served at an address, without the head.
fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The sum of all series of a family that have these labels.
fn sum(text: &str, family: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

const SLOW: &str = r#"
local task = require("@ceso/task")
local host = esxi.connect()
for _ = 1, 600 do
  host:vms()
  task.sleep("50ms")
end
"#;

#[test]
fn a_command_serves_its_metrics_for_as_long_as_it_runs() {
    let (machine, sim) = (Machine::new(), Sim::start(Default::default()));
    machine.file("slow.luau", SLOW);
    let running = machine.start(&sim.variables(), &["run", "slow.luau", "--metrics-port", "0"]);
    running.says("metrics: http://127.0.0.1:");
    let err = running.err();
    let address = err.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    eventually("a request is counted", || {
        sum(&scrape(&address), "ceso_host_requests_total", &["host=\"env\"", "method=\"RetrievePropertiesEx\""]) >= 2.0
    });
    let text = scrape(&address);
    assert_eq!(sum(&text, "ceso_runs", &["kind=\"run\"", "mode=\"standard\""]), 1.0, "{text}");
    assert_eq!(sum(&text, "ceso_worker_spawns_total", &[]), 1.0, "{text}");
    assert_eq!(sum(&text, "ceso_host_logins_total", &["host=\"env\"", "outcome=\"done\""]), 1.0, "{text}");
    assert!(sum(&text, "ceso_host_received_bytes_total", &["host=\"env\""]) > 1000.0, "{text}");
    assert!(!text.contains("ceso-password") && text.contains("# TYPE ceso_backups_total counter"));
    // A client that reads nothing and says nothing does not hold up the end.
    let _silent = TcpStream::connect(&address).unwrap();
    running.signal(libc::SIGINT);
    let (code, err) = running.end();
    assert_ne!(code, 0, "{err}");
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_port_that_cannot_be_had_is_an_error_before_anything_is_done() {
    let (machine, sim) = (Machine::new(), Sim::start(Default::default()));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = machine.on(&sim, &["vm", "list", "--metrics-port", &port]).failed(2, "usage.metrics_port");
    assert!(done.err.contains("taken"), "{done:?}");
    assert_eq!(sim.calls("Login"), 0);
    for port in ["70000", "-1", "http", "", "1e3"] {
        machine.on(&sim, &["vm", "list", "--metrics-port", port]).failed(2, "config.wrong_type");
    }
    machine.on(&sim, &["vm", "list", "--metrics-port", "0", "--metrics-port", "0"]).failed(2, "usage.flag");
    machine.run(&["host", "list", "--metrics-port", "0"]).failed(2, "usage.flag");
    // Every command has the setting, and of several at once one has the port: the others go on.
    let variables = [("CESO_METRICS_ENABLED", "true"), ("CESO_METRICS_PORT", port.as_str())];
    let done = machine.run_with(&variables, &["vm", "list", "--host", "sim"]).ok();
    assert!(done.err.contains("warning: ") && done.err.contains("taken"), "{done:?}");
}

#[test]
fn the_simulator_serves_its_metrics_too() {
    let machine = Machine::new();
    let running = machine.start(&[], &["sim", "--metrics-port", "0"]);
    running.says("metrics: http://127.0.0.1:");
    let err = running.err();
    let address = err.split("http://").nth(1).unwrap().split('/').next().unwrap();
    assert!(scrape(address).contains("ceso_build_info{"));
    running.signal(libc::SIGTERM);
    running.end();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn single_commands_add_up_in_a_textfile() {
    let machine = Machine::new();
    let file = machine.project().join("ceso.prom");
    let variables = [("CESO_METRICS_TEXTFILE", file.to_str().unwrap())];
    for times in 1..=2 {
        machine.run_with(&variables, &["vm", "list", "--host", "sim"]).ok();
        let text = std::fs::read_to_string(&file).unwrap();
        let times = f64::from(times);
        assert_eq!(sum(&text, "ceso_runs_total", &["kind=\"command\"", "outcome=\"done\""]), times, "{text}");
        assert_eq!(sum(&text, "ceso_run_duration_seconds_count", &["kind=\"command\""]), times, "{text}");
        assert!(sum(&text, "ceso_worker_ends_total", &[]) >= times, "{text}");
        assert!(sum(&text, "ceso_worker_cpu_seconds_total", &[]) > 0.0, "{text}");
        assert!(sum(&text, "ceso_worker_memory_peak_bytes", &[]) > 1e6, "{text}");
        assert_eq!(sum(&text, "ceso_host_logins_total", &["host=\"sim\""]), times, "{text}");
    }
    // Looked at only: no run.
    machine.run_with(&variables, &["vm", "create", "--host", "sim", "--no-such-flag"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(sum(&text, "ceso_runs_total", &[]), 2.0, "{text}");
    let done = machine.run_with(&variables, &["vm", "info", "no-such", "--host", "sim"]);
    assert_ne!(done.code, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(sum(&text, "ceso_runs_total", &["outcome=\"failed\""]), 1.0, "{text}");
    machine
        .run_with(&[("CESO_METRICS_TEXTFILE", "/dev/null")], &["vm", "list", "--host", "sim"])
        .failed(2, "usage.metrics_textfile");
    machine
        .run_with(&[("CESO_METRICS_TEXTFILE", "none/x.prom")], &["vm", "list", "--host", "sim"])
        .failed(2, "usage.metrics_textfile");
}

#[test]
fn limits_are_counted_by_their_name() {
    let machine = Machine::new();
    let file = machine.project().join("ceso.prom");
    machine.file("loop.luau", "while true do end");
    let variables = [("CESO_METRICS_TEXTFILE", file.to_str().unwrap())];
    let done = machine.run_with(&variables, &["run", "--host", "sim", "--timeout", "200ms", "loop.luau"]);
    assert_eq!(done.code, 124, "{done:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(sum(&text, "ceso_limits_hit_total", &["limit=\"run_time\""]), 1.0, "{text}");
    assert_eq!(sum(&text, "ceso_runs_total", &["outcome=\"limited\""]), 1.0, "{text}");
}

#[test]
fn the_prompt_is_a_run_of_its_own_kind() {
    let machine = Machine::new();
    let file = machine.project().join("ceso.prom");
    let mut command = machine.command(&["repl", "--host", "sim"]);
    let done = command.env("CESO_METRICS_TEXTFILE", &file).write_stdin("return 1 + 1\n").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(sum(&text, "ceso_runs_total", &["kind=\"repl\"", "outcome=\"done\""]), 1.0, "{text}");
}

#[test]
fn operations_and_records_are_counted_by_how_they_ended() {
    let machine = Machine::new();
    let file = machine.project().join("ceso.prom");
    let variables = [("CESO_METRICS_TEXTFILE", file.to_str().unwrap())];
    machine.run_with(&variables, &["vm", "create", "--host", "sim", "web-1"]).ok();
    machine.run_with(&variables, &["vm", "power", "--host", "sim", "--mode", "restricted", "--no-jail", "web-1", "on"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let done = |labels: &[&str]| sum(&text, "ceso_operations_total", labels);
    assert!(done(&["effect=\"change\"", "outcome=\"done\"", "mode=\"standard\""]) >= 1.0, "{text}");
    assert!(done(&["effect=\"read\"", "outcome=\"done\""]) >= 1.0, "{text}");
    assert!(done(&["mode=\"restricted\"", "outcome=\"denied\""]) >= 1.0, "{text}");
    assert!(sum(&text, "ceso_denials_total", &["mode=\"restricted\""]) >= 1.0, "{text}");
    assert_eq!(
        sum(&text, "ceso_operation_duration_seconds_count", &[]),
        sum(&text, "ceso_operations_total", &[]),
        "{text}"
    );
    for kind in ["intent", "outcome", "read", "denied", "run_begin", "run_end"] {
        assert!(sum(&text, "ceso_audit_records_total", &[&format!("kind=\"{kind}\"")]) >= 1.0, "{kind}: {text}");
    }
    assert!(sum(&text, "ceso_audit_head_sequence", &[]) > 5.0, "{text}");
    assert!(sum(&text, "ceso_audit_sync_duration_seconds_count", &[]) >= 2.0, "{text}");
    assert!(!text.contains("web-1"), "{text}");
}
