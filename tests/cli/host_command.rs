//! `ceso host` without a host to talk to: the registry, its files, its refusals.

use std::fs;
use std::os::unix::net::UnixListener;

use crate::support::{Machine, done, mode};

fn fingerprint() -> String {
    "ab".repeat(32)
}

#[test]
fn host_add_list_and_remove_keep_one_private_file() {
    let machine = Machine::new().user("# mine\nhosts: {hand: {url: esx0}}\n");
    let print = fingerprint();
    machine.run(&["host", "add", "lab", "esx1:8443", "--username", "ops", "--fingerprint", &print, "--tag", "a"]).ok();
    machine.run(&["host", "add", "two", "https://esx2/sdk", "--system"]).ok();
    assert_eq!(mode(&machine.home().join("hosts.yaml")), 0o600);
    let rows = machine.run(&["host", "list", "--output", "json"]).ok().json();
    let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hand", "lab", "two"]);
    assert_eq!(rows[1]["url"], "https://esx1:8443/sdk");
    assert_eq!(rows[1]["username"], "ops");
    assert_eq!(rows[2]["trust"], "system");
    machine.run(&["host", "remove", "lab"]).ok();
    machine.run(&["host", "remove", "lab"]).failed(2, "usage.unknown_host");
    machine.run(&["host", "remove", "hand"]).failed(2, "usage.host_elsewhere");
    assert_eq!(fs::read_to_string(machine.home().join("config.yaml")).unwrap(), "# mine\nhosts: {hand: {url: esx0}}\n");
}

#[test]
fn host_add_refuses_what_would_be_unsafe_or_ambiguous() {
    let machine = Machine::new().user("hosts: {hand: {url: esx0}}\n");
    let add = |name: &str, url: &str| machine.run(&["host", "add", name, url, "--system"]);
    add("hand", "esx1").failed(2, "usage.host_exists");
    add("sim", "esx1").failed(2, "usage.host_name");
    add("env", "esx1").failed(2, "usage.host_name");
    add("../lab", "esx1").failed(2, "usage.host_name");
    add("lab", "http://esx1").failed(2, "usage.host_url");
    let done = add("lab", "https://root:hunter2@esx1/sdk").failed(2, "usage.host_url");
    assert!(!done.err.contains("hunter2"));
    add("lab", "esx1/ui").failed(2, "usage.host_url");
    machine.run(&["host", "add", "lab", "esx1", "--ca-file", "/nowhere.pem"]).failed(2, "usage.ca_file");
    assert_eq!(machine.run(&["host", "add", "lab", "esx1", "--fingerprint", "abcd"]).code, 2);
    assert_eq!(machine.run(&["host", "add", "lab", "esx1", "--system", "--fingerprint", &fingerprint()]).code, 2);
    assert_eq!(machine.run(&["host", "add", "lab", "esx1", "--password", "hunter2"]).code, 2, "there is no such flag");
    machine.run(&["host", "add", "lab", "esx1", "--system", "--password-stdin"]).failed(2, "usage.password");
    let networks = [("CESO_SECURITY_ALLOWED_NETWORKS", "10.0.0.0/8")];
    machine.run_with(&networks, &["host", "add", "lab", "192.0.2.1", "--system"]).failed(3, "door.network");
    machine.run_with(&networks, &["host", "add", "lab", "localhost:1", "--yes"]).failed(3, "door.network");
    assert!(!machine.home().join("hosts.yaml").exists(), "nothing is half-made");
}

#[test]
fn host_add_keeps_the_password_in_a_file_that_only_the_user_reads() {
    let machine = Machine::new();
    let arguments = ["host", "add", "lab", "esx1", "--system", "--store", "file", "--password-stdin"];
    let added = done(machine.command(&arguments).write_stdin("hunter2\n").output().unwrap()).ok();
    assert!(!added.out.contains("hunter2") && !added.err.contains("hunter2"));
    let file = machine.home().join("passwords/lab");
    assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o600, "hunter2\n"));
    assert!(!fs::read_to_string(machine.home().join("hosts.yaml")).unwrap().contains("hunter2"));
    machine.run(&["host", "remove", "lab"]).ok();
    assert!(!file.exists());
    for input in ["", "\n", "two\nlines\n"] {
        done(machine.command(&arguments).write_stdin(input).output().unwrap()).failed(4, "host.no_password");
        assert!(!file.exists());
    }
    let asked = machine.run(&["host", "add", "lab", "esx1", "--system", "--store", "file"]);
    asked.failed(4, "host.no_password");
}

#[test]
fn host_add_survives_a_keyring_that_is_absent_or_hangs() {
    let machine = Machine::new();
    let arguments = ["host", "add", "lab", "esx1", "--system", "--store", "keyring", "--password-stdin"];
    done(machine.command(&arguments).write_stdin("hunter2").output().unwrap()).failed(4, "host.keyring");
    let socket = machine.home().join("bus");
    let _silent = UnixListener::bind(&socket).unwrap();
    let mut command = machine.command(&arguments);
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", socket.display())).write_stdin("hunter2");
    let hung = done(command.output().unwrap()).failed(4, "host.keyring");
    assert!(!hung.err.contains("hunter2"));
    assert!(!machine.home().join("hosts.yaml").exists(), "nothing is half-made");
}

#[test]
fn host_that_cannot_be_reached_is_an_error_of_its_own() {
    let machine = Machine::new();
    // Port 9 on loopback: nobody listens.
    machine.run(&["host", "add", "lab", "127.0.0.1:9"]).failed(4, "esxi.unreachable");
    assert!(!machine.home().join("hosts.yaml").exists());
    machine.run(&["host", "add", "lab", "127.0.0.1:9", "--system"]).ok();
    machine.run(&["host", "check", "lab"]).failed(4, "esxi.unreachable");
    machine.run(&["host", "trust", "lab"]).failed(4, "esxi.unreachable");
    machine.run(&["host", "logout", "lab"]).ok();
    machine.run(&["host", "check", "lba"]).failed(2, "usage.unknown_host");
    machine.run(&["host", "check", "env"]).failed(2, "usage.unknown_host");
    machine.run(&["host", "trust", "sim"]).failed(2, "usage.unknown_host");
}

#[test]
fn host_file_that_is_corrupt_is_named_and_left_as_it_is() {
    let machine = Machine::new();
    let file = machine.home().join("hosts.yaml");
    for (text, kind) in [
        ("hosts: [\n", "config.syntax"),
        ("hosts: {lab: {}}\n", "config.invalid"),
        ("hosts: {lab: {url: 5}}\n", "config.wrong_type"),
        ("security: {mode: unrestricted}\n", "config.invalid"),
    ] {
        fs::write(&file, text).unwrap();
        machine.run(&["host", "list"]).failed(2, kind);
        assert_eq!(machine.run(&["host", "add", "new", "esx1", "--system"]).code, 2);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn host_remove_mends_a_name_that_stands_in_two_files() {
    let machine = Machine::new();
    machine.run(&["host", "add", "lab", "esx1", "--system"]).ok();
    let machine = machine.user("hosts: {lab: {url: esx2}}\n");
    let both = machine.run(&["host", "list"]).failed(2, "config.invalid");
    assert!(both.err.contains("ceso host remove lab"));
    machine.run(&["host", "remove", "lab"]).ok();
    let rows = machine.run(&["host", "list", "--output", "json"]).ok().json();
    assert_eq!(rows[0]["url"], "https://esx2/sdk");
}
