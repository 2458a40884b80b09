//! `ceso sim` as a process: faults asked for by flag, and the simulator in trouble as its clients meet it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Done, Machine, done, eventually};

/// A simulator in a process of its own, ended with the test.
pub struct Started {
    child: Child,
    ready: Value,
}

impl Started {
    pub fn new(machine: &Machine, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ceso"));
        command.env_clear().env("HOME", machine.project()).args(["sim", "--password", "ceso"]).args(flags);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, ready }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |name: &str| self.ready[name].as_str().unwrap().to_owned();
        vec![
            ("CESO_URL", text("url")),
            ("CESO_USERNAME", "root".to_owned()),
            ("CESO_PASSWORD", "ceso".to_owned()),
            ("CESO_FINGERPRINT", text("fingerprint")),
        ]
    }

    /// Runs a command against it.
    pub fn run(&self, machine: &Machine, words: &[&str]) -> Done {
        done(machine.command(words).envs(self.variables()).output().unwrap())
    }

    /// What was asked for at its place for faults, or put there.
    fn faults(&self, method: reqwest::Method, body: &str) -> Value {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("{}/simulator/faults", self.ready["url"].as_str().unwrap());
        let text = runtime.block_on(async {
            drop(rustls::crypto::ring::default_provider().install_default());
            let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
            let request = client.request(method, url).basic_auth("root", Some("ceso")).body(body.to_owned());
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200, "{body}");
            response.text().await.unwrap()
        });
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    fn caught(&self) -> Vec<u64> {
        let listed = self.faults(reqwest::Method::GET, "");
        listed["faults"].as_array().unwrap().iter().map(|rule| rule["caught"].as_u64().unwrap()).collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Each kind of trouble, in the order in which it is met: the rule, the command, and what the command comes to. Several kinds of errors
/// where it is chance which; none where the trouble is gone round.
const TROUBLE: &[(&str, &[&str], &[&str])] = &[
    ("PowerOnVM_Task:drop-answer:1", &["vm", "power", "a", "on"], &[""]),
    ("PowerOffVM_Task:InvalidState:1", &["vm", "power", "a", "off"], &["esxi.invalid_state"]),
    ("CreateSnapshot_Task:delay=200ms:1", &["vm", "snapshot", "create", "a", "s"], &[""]),
    // What no request was carried out for is asked for again.
    ("RenameSnapshot:drop:1", &["run", "rename.luau"], &[""]),
    ("RevertToSnapshot_Task:expire:1", &["vm", "snapshot", "revert", "a", "t"], &[""]),
    ("RemoveSnapshot_Task:503:1", &["vm", "snapshot", "remove", "a", "t"], &["esxi.busy"]),
    ("GET folder:cut=1000:1", &["datastore", "download", "[datastore1] a/a.nvram", "cut.bin"], &[""]),
    // What broke off is asked for from where it was, and all of it comes.
    ("GET folder:no-ranges:1", &["datastore", "download", "[datastore1] a/a.nvram", "whole.bin"], &[""]),
    (
        "CopyVirtualDisk_Task:restart=300ms:1",
        &["vm", "clone", "debian-12", "b"],
        &["esxi.task_forgotten", "esxi.connection_lost"],
    ),
    ("MakeDirectory:fill=4 KiB:1:after=2", &["vm", "clone", "debian-12", "c"], &["esxi.no_disk_space"]),
];

fn kind(done: &Done) -> String {
    done.err.split("error[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default().to_owned()
}

/// Carries out every command; which of many equal ones a rule of chance has struck, and how often each rule was met.
fn met(machine: &Machine, sim: &Started) -> (Vec<bool>, Vec<u64>) {
    machine.file("rename.luau", "esxi.connect():vm('a'):snapshots()[1]:rename('t')");
    for file in ["cut.bin", "whole.bin"] {
        drop(std::fs::remove_file(machine.project().join(file)));
    }
    sim.run(machine, &["vm", "create", "a", "--disk", "8 MiB"]).ok();
    let struck = (0..8).map(|number| {
        let done = sim.run(machine, &["vm", "configure", "a", "--notes", &number.to_string()]);
        assert!(["", "esxi.no_permission"].contains(&kind(&done).as_str()), "{done:?}");
        done.code != 0
    });
    let struck = struck.collect();
    for (rule, words, comes_to) in TROUBLE {
        let done = sim.run(machine, &[*words, &["--mode", "unrestricted"]].concat());
        assert!(comes_to.contains(&kind(&done).as_str()), "{rule}: {done:?}");
        if rule.contains("restart") {
            eventually("it is back", || sim.run(machine, &["vm", "list"]).code == 0);
        }
    }
    for file in ["cut.bin", "whole.bin"] {
        assert_eq!(std::fs::metadata(machine.project().join(file)).unwrap().len(), 270_840, "{file}");
    }
    (struck, sim.caught())
}

/// What a fault filled the datastore with goes when the faults go.
#[test]
fn a_datastore_that_a_fault_filled_has_room_again_without_it() {
    let machine = Machine::new();
    let sim = Started::new(&machine, &["--capacity", "1 GiB"]);
    let free = || {
        let listed = sim.run(&machine, &["datastore", "list", "--output", "json"]).ok().json();
        (listed[0]["capacity"].clone(), listed[0]["free"].clone())
    };
    let before = free();
    sim.faults(reqwest::Method::POST, "MakeDirectory:fill");
    sim.run(&machine, &["datastore", "mkdir", "[datastore1] folder"]).ok();
    assert_ne!(free(), before);
    sim.faults(reqwest::Method::DELETE, "");
    assert_eq!(free(), before);
    sim.run(&machine, &["vm", "create", "a", "--disk", "8 MiB"]).ok();
}

#[test]
fn every_kind_of_trouble_is_asked_for_by_flag_and_by_http_and_repeats_with_its_seed() {
    let machine = Machine::new();
    let by_chance = "ReconfigVM_Task:NoPermission:chance=0.5";
    let rules: Vec<&str> = TROUBLE.iter().map(|(rule, ..)| *rule).chain([by_chance]).collect();
    let start = |more: &[&str]| Started::new(&machine, &[&["--seed", "7", "--task-delay", "50 ms"], more].concat());
    let flags: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", *rule]).collect();
    let (flagged, posted) = (start(&flags), start(&[]));
    posted.faults(reqwest::Method::POST, &rules.join("\n"));
    let (by_flag, by_http) = (met(&machine, &flagged), met(&machine, &posted));
    assert_eq!(by_flag, by_http);
    let (struck, caught) = by_flag;
    assert!(caught.iter().all(|count| *count > 0), "{caught:?}");
    assert!(struck.contains(&true) && struck.contains(&false), "{struck:?}");
    // A fault that there is not is refused before anything listens.
    machine.run(&["sim", "--fault", "PowerOnVM_Tusk:drop"]).failed(4, "sim.fault");
}
