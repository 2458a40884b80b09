//! `ceso status`: what runs, the hosts, the backups, the audit log; and that looking does nothing.

use std::io::Read as _;
use std::process::Stdio;

use super::support::{Machine, Sim, eventually};

const SLOW: &str = r#"
local task = require("@ceso/task")
local host = esxi.connect()
for _ = 1, 600 do
  host:vms()
  task.sleep("50 ms")
end
"#;

#[test]
fn a_new_machine_has_nothing_to_report_and_says_so() {
    let machine = Machine::new();
    let done = machine.run(&["status"]).ok();
    for text in ["nothing runs", "no host is configured", "no backups are recorded", "AUDIT LOG"] {
        assert!(done.out.contains(text), "{done:?}");
    }
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    assert_eq!(json["runs"], serde_json::json!([]));
    assert_eq!(json["backups"], serde_json::json!([]));
}

#[test]
fn a_run_is_shown_while_it_runs_and_told_once_when_it_was_killed() {
    let (machine, sim) = (Machine::new(), Sim::start(Default::default()));
    machine.file("slow.luau", SLOW);
    let running = machine.start(&sim.variables(), &["run", "--mode", "restricted", "--no-jail", "slow.luau"]);
    let look = || machine.run(&["status", "--output", "json"]).ok().json();
    eventually("operations are counted", || look()["runs"][0]["operations"].as_u64() > Some(3));
    let status = look();
    let run = &status["runs"][0];
    assert_eq!(run["script"], "slow.luau", "{status}");
    assert_eq!(run["mode"], "restricted", "{status}");
    assert_eq!(run["kind"], "run", "{status}");
    assert_eq!(run["pid"], running.child.id(), "{status}");
    assert!(run["principal"].as_str().unwrap().contains("uid "), "{status}");
    let text = machine.run(&["status"]).ok();
    assert!(text.out.contains("slow.luau"), "{text:?}");
    running.signal(libc::SIGKILL);
    running.end();
    let mut killed = serde_json::Value::Null;
    eventually("it is known to be dead", || {
        killed = look();
        killed["runs"] == serde_json::json!([])
    });
    assert_eq!(killed["killed"][0]["script"], "slow.luau", "{killed}");
    assert_eq!(look()["killed"], serde_json::json!([]));
}

#[test]
fn the_newest_backups_are_shown_with_their_age_and_a_damaged_catalog_is_said_to_be_so() {
    let machine = Machine::new();
    machine.file("disk.img", vec![7; 4096]);
    machine.run(&["repository", "init", "./kept", "--plain"]).ok();
    machine.run(&["disk", "backup", "disk.img", "--repository", "./kept"]).ok();
    let shown = &machine.run(&["status", "--output", "json"]).ok().json()["backups"][0];
    assert_eq!((shown["vm"].as_str(), shown["size"].as_str()), (Some("disk.img"), Some("4 KiB")), "{shown}");
    assert!(machine.run(&["status"]).ok().out.contains("disk.img"));
    std::fs::write(machine.home().join("catalog.redb"), "nothing of the kind").unwrap();
    let done = machine.run(&["status"]).ok();
    assert!(done.out.contains("is damaged") && done.out.contains("set aside"), "{done:?}");
    assert!(machine.run(&["status"]).ok().out.contains("no backups are recorded"));
}

#[test]
fn a_run_that_ends_leaves_nothing_behind() {
    let machine = Machine::new();
    machine.run(&["vm", "list", "--host", "sim"]).ok();
    assert_eq!(std::fs::read_dir(machine.home().join("runs")).unwrap().count(), 0);
}

#[test]
fn status_logs_in_nowhere_unless_it_is_asked_to() {
    let sim = Sim::start(Default::default());
    let trust = sim.server.fingerprint().to_owned();
    let machine = Machine::new().user(format!(
        "hosts:\n  lab:\n    url: {}\n    trust: {{fingerprint: \"{trust}\"}}\n    password_env: LAB\n",
        sim.server.url()
    ));
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    assert_eq!((&json["hosts"][0]["name"], &json["hosts"][0]["session"]), (&"lab".into(), &"none".into()), "{json}");
    assert_eq!(json["hosts"][0]["contact_seconds"], serde_json::Value::Null);
    assert!(sim.server.requests().is_empty(), "{:?}", sim.server.requests());
    let json = machine.run_with(&[("LAB", "ceso")], &["status", "--check", "--output", "json"]).ok().json();
    assert!(json["hosts"][0]["answer"].as_str().unwrap().contains("SIMULATOR"), "{json}");
    assert_eq!(sim.calls("Login"), 1);
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    assert_eq!(json["hosts"][0]["session"], "kept", "{json}");
    assert!(json["hosts"][0]["contact_seconds"].as_u64().is_some_and(|age| age < 60), "{json}");
    drop(sim);
    let json = machine.run(&["status", "--check", "--output", "json"]).ok().json();
    assert!(json["hosts"][0]["answer"].as_str().unwrap().starts_with("esxi.unreachable"), "{json}");
}

#[test]
fn watching_ends_when_nobody_reads() {
    let machine = Machine::new();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ceso"))
        .args(["status", "--watch", "0.1"])
        .env_clear()
        .env("HOME", machine.home().parent().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while seen.matches("AUDIT LOG").count() < 3 {
        let count = out.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(!seen.contains('\u{1b}'), "{seen}");
    drop(out);
    assert!(child.wait().unwrap().success());
}

#[test]
fn names_are_escaped_and_rubbish_is_no_run() {
    let machine = Machine::new();
    let runs = machine.home().join("runs");
    std::fs::create_dir_all(&runs).unwrap();
    let hostile = r#"{"run":"x\u001b[31m","kind":"run","script":"\u001b]0;pwned\u0007\u202e","mode":"standard","host":"a\nb","principal":"p","pid":1,"since":0}"#;
    std::fs::write(runs.join("x.json"), format!("{hostile}\n")).unwrap();
    std::fs::write(runs.join("y.json"), "rubbish").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(runs.join("pipe.json")).status().unwrap().success());
    let done = machine.run(&["status"]).ok();
    assert!(done.out.contains("ENDED WITHOUT A WORD"), "{done:?}");
    assert!(!done.out.contains('\u{1b}') && !done.out.contains('\u{202e}') && !done.out.contains('\u{7}'), "{done:?}");
}

#[test]
fn bad_intervals_and_forms_are_refused() {
    let machine = Machine::new();
    for seconds in ["0", "-1", "soon", "1e99", "NaN", "inf"] {
        assert_eq!(machine.run(&["status", "--watch", seconds]).code, 2, "{seconds}");
    }
    machine.run_with(&[("CESO_OUTPUT", "csv")], &["status"]).failed(2, "usage.output");
    assert_eq!(machine.run(&["status", "--watch", "1", "--check"]).code, 2);
}

#[test]
fn the_audit_log_is_shown_as_its_file_is() {
    let machine = Machine::new();
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    assert!(
        json["audit"]["sequence"].is_null() && json["audit"]["file"].as_str().unwrap().ends_with("audit.json"),
        "{json}"
    );
    machine.run(&["vm", "create", "--host", "sim", "web-1"]).ok();
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    let audit = &json["audit"];
    assert!(audit["sequence"].as_u64() > Some(3) && audit["head"].as_str().unwrap().len() == 64, "{json}");
    assert_eq!(audit["torn"], 0, "{json}");
    let text = machine.run(&["status"]).ok();
    assert!(text.out.contains(&audit["head"].as_str().unwrap()[..16]), "{text:?}");
    let file = machine.home().join("audit.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, whole.replace("\"mode\":\"standard\"", "\"mode\":\"restricted\"")).unwrap();
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    assert!(json["audit"]["problem"].is_string(), "{json}");
    let off = machine.run_with(&[("CESO_SECURITY_AUDIT", "false")], &["status"]).ok();
    assert!(off.out.contains("SWITCHED OFF"), "{off:?}");
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let json = machine.run(&["status", "--output", "json"]).ok().json();
    assert!(json["audit"]["problem"].is_string(), "{json}");
}
