//! `ceso host` against vcsim: an API that is not ours.

use std::fs;

use crate::support::{Done, Machine, done, mode};
use crate::vcsim::Vcsim;

struct Lab {
    machine: Machine,
    vcsim: Vcsim,
}

impl Lab {
    fn new() -> Self {
        Self { machine: Machine::new(), vcsim: Vcsim::start(&["-username", "ops", "-password", "hunter2"]) }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.vcsim.url.port().unwrap())
    }

    fn add(&self, more: &[&str]) -> Done {
        let address = self.address();
        let first = ["host", "add", "lab", &address, "--username", "ops", "--store", "file", "--password-stdin"];
        let arguments: Vec<&str> = first.into_iter().chain(more.iter().copied()).collect();
        done(self.machine.command(&arguments).write_stdin("hunter2\n").output().unwrap())
    }

    fn sessions(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.machine.home().join("sessions"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }
}

fn print_of(text: &str) -> String {
    let found = text.split_whitespace().find(|word| word.len() == 95 && word.matches(':').count() == 31);
    found.unwrap_or_else(|| panic!("no fingerprint in {text}")).to_owned()
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_is_added_only_after_its_fingerprint_was_given_or_accepted() {
    let lab = Lab::new();
    let shown = lab.add(&[]).failed(4, "host.not_trusted");
    let print = print_of(&shown.err);
    assert!(shown.err.contains(&format!("--fingerprint {print}")));
    assert!(!lab.machine.home().join("hosts.yaml").exists() && !lab.machine.home().join("passwords/lab").exists());
    lab.add(&["--fingerprint", &print]).ok();
    lab.machine.run(&["host", "check", "lab"]).ok();
    lab.machine.run(&["host", "remove", "lab"]).ok();
    lab.add(&["--yes"]).ok();
    let rows = lab.machine.run(&["host", "list", "--output", "json"]).ok().json();
    assert_eq!(rows[0]["trust"], format!("fingerprint {print}"));
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_check_says_what_it_is_and_keeps_a_private_session_until_logout() {
    let lab = Lab::new();
    lab.add(&["--yes"]).ok();
    let facts = lab.machine.run(&["host", "check", "lab", "--output", "json"]).ok().json();
    assert!(facts["product"].as_str().unwrap().contains("ESXi"), "{facts}");
    assert_eq!(facts["licence"], "Evaluation Mode");
    let sessions = lab.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(mode(&sessions[0]), 0o600);
    assert!(!fs::read_to_string(&sessions[0]).unwrap().contains("hunter2"));
    fs::remove_file(lab.machine.home().join("passwords/lab")).unwrap();
    lab.machine.run(&["host", "check", "lab"]).ok();
    assert!(lab.machine.run(&["host", "logout", "lab"]).ok().err.contains("logged out"));
    assert!(lab.sessions().is_empty());
    lab.machine.run(&["host", "check", "lab"]).failed(4, "host.no_password");
    assert!(lab.machine.run(&["host", "logout", "lab"]).ok().err.contains("no session"));
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_with_a_corrupt_session_file_is_logged_in_again_and_says_so() {
    let lab = Lab::new();
    lab.add(&["--yes"]).ok();
    lab.machine.run(&["host", "check", "lab"]).ok();
    for rubbish in [&b""[..], b"{", b"\xff\xff", &[b'x'; 100_000]] {
        fs::write(&lab.sessions()[0], rubbish).unwrap();
        let done = lab.machine.run(&["host", "check", "lab"]).ok();
        assert!(done.err.contains("session"), "{done:?}");
    }
    fs::write(&lab.sessions()[0], "{").unwrap();
    lab.machine.run(&["host", "logout", "lab"]).ok();
    assert!(lab.sessions().is_empty());
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_with_another_certificate_is_refused_with_both_fingerprints() {
    let lab = Lab::new();
    let pinned = ["AB"; 32].join(":");
    lab.add(&["--fingerprint", &pinned]).ok();
    let refused = lab.machine.run(&["host", "check", "lab"]).failed(4, "esxi.certificate_changed");
    assert!(refused.err.contains(&pinned) && refused.err.contains("ceso host trust lab"), "{refused:?}");
    let shown = lab.machine.run(&["host", "trust", "lab"]).failed(4, "host.not_trusted");
    assert!(shown.err.contains("CHANGED") && shown.err.contains(&pinned), "{shown:?}");
    let seen = print_of(&shown.err);
    assert_ne!(seen, pinned);
    lab.machine.run(&["host", "trust", "lab", "--fingerprint", &pinned]).failed(4, "host.certificate_differs");
    lab.machine.run(&["host", "trust", "lab", "--fingerprint", &seen]).ok();
    lab.machine.run(&["host", "check", "lab"]).ok();
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_is_described_by_variables_alone() {
    let lab = Lab::new();
    let print = print_of(&lab.add(&[]).err);
    let address = lab.address();
    let variables = |password| {
        [
            ("CESO_URL", address.as_str()),
            ("CESO_USERNAME", "ops"),
            ("CESO_PASSWORD", password),
            ("CESO_FINGERPRINT", &print),
        ]
    };
    lab.machine.run_with(&variables("hunter2"), &["host", "check", "env"]).ok();
    lab.machine.run_with(&variables("hunter2"), &["host", "logout", "env"]).ok();
    let wrong = lab.machine.run_with(&variables("hunter3"), &["host", "check", "env"]).failed(4, "esxi.invalid_login");
    assert!(!wrong.err.contains("hunter3"), "{wrong:?}");
    let networks: Vec<_> =
        variables("hunter2").into_iter().chain([("CESO_SECURITY_ALLOWED_NETWORKS", "10.0.0.0/8")]).collect();
    lab.machine.run_with(&networks, &["host", "check", "env"]).failed(3, "door.network");
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_is_logged_out_when_it_is_removed() {
    let lab = Lab::new();
    lab.add(&["--yes"]).ok();
    lab.machine.run(&["host", "check", "lab"]).ok();
    lab.machine.run(&["host", "remove", "lab"]).ok();
    assert!(lab.sessions().is_empty());
    assert!(!lab.machine.home().join("passwords/lab").exists());
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_host_of_a_project_is_not_told_the_password_of_the_environment() {
    let lab = Lab::new();
    let print = print_of(&lab.add(&[]).err);
    let text =
        format!("hosts: {{new: {{url: '{}', username: ops, trust: {{fingerprint: '{print}'}}}}}}\n", lab.address());
    fs::write(lab.machine.project().join("ceso.yaml"), &text).unwrap();
    let variables = [("CESO_PASSWORD", "hunter2"), ("CESO_HOST", "new")];
    let done = lab.machine.run_with(&variables, &["host", "check", "new"]).failed(4, "host.no_password");
    assert!(done.err.contains("ceso.yaml") && !done.err.contains("hunter2"), "{done:?}");
    fs::rename(lab.machine.project().join("ceso.yaml"), lab.machine.home().join("config.yaml")).unwrap();
    lab.machine.run_with(&[("CESO_PASSWORD", "hunter2")], &["host", "check", "new"]).ok();
}
