//! `ceso config show` and `ceso config init`.

use std::fs;
use std::process::Stdio;

use crate::support::{Machine, mode};

fn setting(machine: &Machine, variables: &[(&str, &str)], path: &str) -> (String, String) {
    let done = machine.run_with(variables, &["config", "show", path, "--output", "json"]).ok();
    let rows = done.json();
    let text = |key: &str| rows[0][key].as_str().unwrap_or_default().to_owned();
    (text("value"), text("from"))
}

#[test]
fn config_show_says_each_value_and_where_it_comes_from() {
    let machine = Machine::new();
    let (value, from) = setting(&machine, &[], "security.mode");
    assert_eq!((value.as_str(), from.as_str()), ("standard", "default"));
    let machine = machine.user("security:\n  mode: unrestricted\nsandbox: {memory: 50 MiB}\n");
    let (value, from) = setting(&machine, &[], "security.mode");
    assert!(value == "unrestricted" && from.ends_with("/.ceso/config.yaml"), "{value} {from}");
    let machine = machine.with_project("security: {mode: standard}\nsandbox: {memory: 40 MiB}\n");
    let (value, from) = setting(&machine, &[], "sandbox.memory");
    assert!(value == "40 MiB" && from.ends_with("project/ceso.yaml (project)"), "{value} {from}");
    let (value, from) = setting(&machine, &[("CESO_SECURITY_MODE", "restricted")], "security.mode");
    assert_eq!((value.as_str(), from.as_str()), ("restricted", "CESO_SECURITY_MODE"));
}

#[test]
fn config_show_hides_the_password_and_never_leaks_it_into_an_error() {
    let variables = [("CESO_URL", "esx1"), ("CESO_PASSWORD", "hunter2"), ("CESO_USERNAME", "ops")];
    for output in ["table", "json", "csv"] {
        let done = Machine::new().run_with(&variables, &["config", "show", "--output", output]).ok();
        assert!(done.out.contains("(hidden)") && done.out.contains("CESO_PASSWORD"), "{done:?}");
        assert!(!done.out.contains("hunter2") && !done.err.contains("hunter2"), "{done:?}");
    }
    let done = Machine::new().run_with(&[("CESO_URL", "https://root:hunter2@esx1/sdk")], &["config", "show"]);
    assert!(!done.failed(2, "config.wrong_type").err.contains("hunter2"));
}

#[test]
fn config_show_takes_the_form_from_the_variable_and_refuses_an_unknown_one() {
    let machine = Machine::new();
    assert!(machine.run_with(&[("CESO_OUTPUT", "json")], &["config", "show"]).ok().json().is_array());
    machine.run_with(&[("CESO_OUTPUT", "jsn")], &["config", "show"]).failed(2, "usage.output");
    assert_eq!(machine.run(&["config", "show", "--output", "xml"]).code, 2);
    machine.run(&["config", "show", "sandbx"]).failed(2, "usage.unknown_setting");
}

#[test]
fn config_show_ends_quietly_when_its_reader_goes_away() {
    let machine = Machine::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ceso"));
    command.env_clear().env("HOME", machine.home()).current_dir(machine.project()).args(["config", "show"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn config_init_writes_a_private_example_that_changes_nothing() {
    let machine = Machine::new();
    let before = machine.run(&["config", "show", "--output", "json"]).ok().out;
    machine.run(&["config", "init"]).ok();
    let file = machine.home().join("config.yaml");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(machine.run(&["config", "show", "--output", "json"]).ok().out, before);
    let text = fs::read_to_string(&file).unwrap();
    for words in ["connection_pool:", "max_idle_time:", "allowed_networks:", "CESO_FINGERPRINT", "keep_last:"] {
        assert!(text.contains(words), "{words}");
    }
}

#[test]
fn config_init_overwrites_nothing_and_keeps_what_force_replaces() {
    let machine = Machine::new().user("sandbox: {memory: 50 MiB}\n");
    let file = machine.home().join("config.yaml");
    machine.run(&["config", "init"]).failed(2, "config.exists");
    assert_eq!(fs::read_to_string(&file).unwrap(), "sandbox: {memory: 50 MiB}\n");
    machine.run(&["config", "init", "--force"]).ok();
    machine.run(&["config", "init", "--force"]).ok();
    assert_eq!(fs::read_to_string(machine.home().join("config.yaml.bak")).unwrap(), "sandbox: {memory: 50 MiB}\n");
    assert!(machine.home().join("config.yaml.bak1").exists());
}

#[test]
fn config_init_mends_a_broken_file() {
    let machine = Machine::new().user("sandbox: [\n");
    machine.run(&["config", "show"]).failed(2, "config.syntax");
    machine.run(&["config", "init", "--force"]).ok();
    machine.run(&["config", "show"]).ok();
}

#[test]
fn config_home_moves_the_folder() {
    let machine = Machine::new();
    let other = machine.project().join("elsewhere");
    machine.run_with(&[("CESO_HOME", other.to_str().unwrap())], &["config", "init"]).ok();
    assert!(other.join("config.yaml").exists() && !machine.home().join("config.yaml").exists());
    machine.run_with(&[("CESO_HOME", "")], &["config", "show"]).failed(2, "config.invalid");
    let mut command = machine.command(&["config", "show"]);
    crate::support::done(command.env_remove("HOME").output().unwrap()).failed(2, "config.no_home");
}
