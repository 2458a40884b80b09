//! promtool, which is not ours, checks rules, alerts, configuration and exposition.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ceso::metrics;

/// Runs promtool in the folder of the examples; what it printed, where it succeeded.
fn promtool(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(super::examples())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run tests/peers/prepare");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(text) } else { Err(text) }
}

#[test]
#[ignore = "needs promtool"]
fn promtool_accepts_the_configuration_and_the_rules() {
    for check in [&["check", "config", "prometheus.yml"][..], &["check", "rules", "rules.yml", "alerts.yml"]] {
        promtool(check, "").unwrap_or_else(|text| panic!("{check:?}: {text}"));
    }
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_the_rules_to_say_what_their_tests_expect() {
    promtool(&["test", "rules", "tests.yml"], "").unwrap_or_else(|text| panic!("{text}"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["rules.yml", "alerts.yml"] {
        std::fs::copy(super::examples().join(name), folder.path().join(name)).unwrap();
    }
    // A test that cannot fail would prove nothing.
    let broken = folder.path().join("tests.yml");
    std::fs::write(&broken, super::read("tests.yml").replacen("value: 0.5", "value: 0.4", 1)).unwrap();
    assert!(promtool(&["test", "rules", broken.to_str().unwrap()], "").is_err());
}

#[test]
#[ignore = "needs promtool"]
fn promtool_finds_nothing_to_say_of_the_exposition() {
    metrics::enable().unwrap();
    let host = metrics::HostLabel::new("lab");
    let open = host.opened(false);
    host.login("done");
    host.retry("lost");
    host.request("Login", "answered", Duration::from_millis(2));
    host.bytes(10, 20);
    host.task("success", Instant::now());
    let of = metrics::Operation { name: "vm.list", effect: "read", mode: "standard" };
    metrics::operation(of, "done", Some(Duration::from_millis(2)));
    metrics::limit("limit.calls", "standard");
    metrics::Run::begin("run", "standard").end(metrics::Outcome::Done);
    metrics::worker_spawned();
    metrics::worker_ended("done", Some((Duration::from_millis(1), 1 << 20)));
    metrics::audit_written("read", 1);
    metrics::audit_failed();
    metrics::audit_synced(Duration::from_micros(200));
    metrics::witness_lag("syslog", 1, Duration::from_secs(1));
    let text = metrics::text().unwrap();
    drop(open);
    let said = promtool(&["check", "metrics"], &text).unwrap_or_else(|said| panic!("{said}{text}"));
    assert_eq!(said.trim(), "", "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ceso.prom");
    metrics::textfile::write(&file).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let said = promtool(&["check", "metrics"], &text).unwrap_or_else(|said| panic!("{said}{text}"));
    assert_eq!(said.trim(), "", "{text}");
    assert!(promtool(&["check", "metrics"], "ceso broken{").is_err());
}
