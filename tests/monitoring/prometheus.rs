//! A real Prometheus scrapes a ceso that runs, with the example's own configuration, and every SLO query answers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ceso::metrics::ALL;

use super::{examples, read, recorded, shown};

/// A process that ends with the test, by its id.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A script that reads and changes for as long as the test needs it.
const WORK: &str = r#"
local task = require("@ceso/task")
local host = esxi.connect()
local vm = host:ensure_clone({ template = "debian-12", name = "watched" })
for n = 1, 100000 do
  host:vms()
  vm:ensure_power(if n % 2 == 0 then "off" else "on")
  pcall(function() host:vm("no-such-machine") end)
  task.sleep("20 ms")
end
"#;

/// Starts ceso with its metrics on a free port; says where.
fn ceso(folder: &Path) -> (Process, String) {
    fs::write(folder.join("work.luau"), WORK).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ceso"))
        .args(["run", "--host", "sim", "--metrics-port", "0", "--timeout", "5m", "work.luau"])
        .env_clear()
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("metrics: http://") {
        said.clear();
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "ceso ended");
    }
    // Nobody may block on a pipe that nobody reads.
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    (Process(child), address)
}

/// Starts Prometheus with the example's configuration, which asks oftener and asks this ceso; says where.
fn prometheus(folder: &Path, target: &str) -> (Process, String) {
    for name in ["rules.yml", "alerts.yml"] {
        fs::copy(examples().join(name), folder.join(name)).unwrap();
    }
    let config = read("prometheus.yml").replace("127.0.0.1:9273", target).replace("_interval: 15s", "_interval: 200ms");
    fs::write(folder.join("prometheus.yml"), config).unwrap();
    // A port that was free a moment ago: Prometheus cannot be asked which one it took.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let child = Command::new("prometheus")
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.join("prometheus.log")).unwrap())
        .spawn()
        .expect("prometheus is missing: run tests/peers/prepare");
    (Process(child), address)
}

/// What Prometheus says at a path of its API; nothing where it does not listen yet.
fn ask(address: &str, path: &str) -> Option<serde_json::Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// The number of samples that a query answers with.
fn samples(address: &str, query: &str) -> usize {
    let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = ask(address, &format!("/api/v1/query?query={query}"));
    answer.map_or(0, |answer| {
        assert_eq!(answer["status"], "success", "{answer}");
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        result.iter().filter(|sample| sample["value"][1] != "NaN").count()
    })
}

/// Whether an expression is about what has no samples yet.
fn is_to_come(expression: &str) -> bool {
    let to_come: BTreeSet<&str> =
        ALL.iter().filter(|family| family.help.ends_with("No samples yet.")).map(|family| family.name).collect();
    to_come.iter().any(|name| expression.contains(name)) || expression.contains("host_repository:ceso_backup")
}

#[test]
#[ignore = "needs prometheus"]
fn prometheus_scrapes_a_running_ceso_and_every_slo_query_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (_ceso, target) = ceso(folder.path());
    let (_prometheus, address) = prometheus(folder.path(), &target);
    let mut waiting: Vec<String> =
        recorded().into_iter().filter(|(_, e)| !is_to_come(e)).map(|(name, _)| name).collect();
    assert!(waiting.len() >= 15, "{waiting:?}");
    waiting.push("up{job=\"ceso\"} == 1".to_owned());
    waiting.push("ceso_build_info".to_owned());
    // A witness, what went wrong, and runs that have ended have samples only where there is one.
    let rare = [
        "witness",
        "ceso_limits_hit_total",
        "ceso_denials_total",
        "ceso_host_retries_total",
        "ceso_runs_total",
        "ceso_run_duration",
        "ceso_worker_memory",
    ];
    let own = |query: &String| !is_to_come(query) && !rare.iter().any(|name| query.contains(name));
    waiting.extend(shown().into_iter().filter(own));
    for _ in 0..600 {
        waiting.retain(|query| samples(&address, query) == 0);
        if waiting.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = fs::read_to_string(folder.path().join("prometheus.log")).unwrap();
    assert!(waiting.is_empty(), "without an answer: {waiting:#?}\n{log}");
    let rules = ask(&address, "/api/v1/rules").unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert_eq!(groups.len(), 7, "{rules}");
}
