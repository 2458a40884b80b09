//! What only a real host can judge. Each test runs where `ESXI_HOST`, `ESXI_USER`, `ESXI_PASSWORD`, `ESXI_TEMPLATE`, `TEST_NETWORK_CIDR` and
//! `TEST_GATEWAY` are set, and says that it did not where they are not. `ESXI_FINGERPRINT` pins the host's certificate; without it the
//! certificate must be one that the system trusts. `ESXI_DATASTORE` names where machines go.
//!
//! All that they make is named `ceso-real-…` and removed again; the template is read alone.

use std::path::PathBuf;
use std::process::{Command, Output};

const NEEDED: &[&str] =
    &["ESXI_HOST", "ESXI_USER", "ESXI_PASSWORD", "ESXI_TEMPLATE", "TEST_NETWORK_CIDR", "TEST_GATEWAY"];

struct Real {
    home: tempfile::TempDir,
}

impl Real {
    /// The host of the environment, where there is one.
    fn host() -> Option<Self> {
        let missing: Vec<&str> = NEEDED.iter().copied().filter(|name| std::env::var_os(name).is_none()).collect();
        if !missing.is_empty() {
            println!("not run: {} not set", missing.join(", "));
            return None;
        }
        Some(Self { home: tempfile::tempdir().unwrap() })
    }

    fn var(name: &str) -> String {
        std::env::var(name).unwrap_or_default()
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceso"));
        command.args(words).env("CESO_HOME", self.home.path()).current_dir(self.home.path());
        command.env("CESO_URL", format!("https://{}/sdk", Self::var("ESXI_HOST")));
        command.env("CESO_USERNAME", Self::var("ESXI_USER")).env("CESO_PASSWORD", Self::var("ESXI_PASSWORD"));
        if let Some(fingerprint) = std::env::var_os("ESXI_FINGERPRINT") {
            command.env("CESO_FINGERPRINT", fingerprint);
        }
        command.output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn datastore(&self) -> Vec<String> {
        std::env::var("ESXI_DATASTORE").map(|name| vec!["--datastore".to_owned(), name]).unwrap_or_default()
    }
}

fn words<'a>(own: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    own.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

#[test]
fn what_a_host_really_does_is_probed_and_nothing_is_left() {
    let Some(real) = Real::host() else { return };
    let before = real.ok(&["vm", "list", "--output", "json"]);
    let datastore = real.datastore();
    let template = Real::var("ESXI_TEMPLATE");
    let own = ["host", "probe", "--name", "ceso-real-probe", "--template", &template, "--output", "json"];
    let probed: serde_json::Value = serde_json::from_str(&real.ok(&words(&own, &datastore))).unwrap();
    println!("{probed:#}");
    let kept = std::env::var_os("ESXI_PROBE").map(PathBuf::from);
    if let Some(kept) = kept {
        std::fs::write(kept, format!("{probed:#}\n")).unwrap();
    }
    // What must work on each host; all else is its own.
    for needed in ["upload", "download", "thin_copies", "parents_survive"] {
        let facts = probed["facts"].as_array().unwrap();
        let fact = facts.iter().find(|fact| fact["name"] == needed).unwrap();
        assert_eq!(fact["works"], true, "{fact}");
    }
    assert_eq!(real.ok(&["vm", "list", "--output", "json"]), before);
    // What was found is kept for this build, and is what the next run goes by.
    let shown: serde_json::Value =
        serde_json::from_str(&real.ok(&["host", "show", "env", "--output", "json"])).unwrap();
    assert_eq!((&shown["facts"], &shown["stale"]), (&probed["facts"], &false.into()), "{shown:#}");
    assert_eq!(shown["probed_product"], probed["product"]);
}

#[test]
fn a_clone_of_the_template_reports_the_very_address_that_it_was_given() {
    let Some(real) = Real::host() else { return };
    let (template, address, gateway) =
        (Real::var("ESXI_TEMPLATE"), Real::var("TEST_NETWORK_CIDR"), Real::var("TEST_GATEWAY"));
    let datastore = real.datastore();
    let own = ["vm", "clone", &template, "ceso-real-clone", "--address", &address, "--gateway", &gateway, "--wait"];
    let cloned = real.run(&words(&own, &datastore));
    let off = real.run(&["vm", "power", "ceso-real-clone", "off"]);
    let removed = real.run(&["vm", "delete", "ceso-real-clone"]);
    let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(cloned.status.success(), "{}", told(&cloned));
    assert!(off.status.success() && removed.status.success(), "{}{}", told(&off), told(&removed));
}
