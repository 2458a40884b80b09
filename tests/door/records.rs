//! Every declared operation leaves its record and its metric, however it ends: done, failed, denied, out of time, dropped, or with a
//! run that is over before it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ceso::audit;
use ceso::door::object::Connected;
use ceso::door::operation::Effect;
use ceso::door::record::Recording;
use ceso::door::table::Table;
use ceso::door::{Door, Hosts, Ledger};
use ceso::error::Fault;
use ceso::metrics;
use ceso::ops::{self, Declared};
use ceso::sim::{Rule, Trouble};
use ceso::wire::{Handle, Value};
use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use crate::sweep::{Simulated, arguments, open_recorded, operations};

/// A log in a folder of its own, and what was said of it.
struct Book {
    folder: tempfile::TempDir,
    said: Arc<Mutex<Vec<String>>>,
}

impl Book {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), said: Arc::default() }
    }

    fn recording(&self, run: &str) -> Recording {
        let said = self.said.clone();
        Recording {
            ledger: Ledger::open(audit::Options::new(self.file()), "tester (uid 7)"),
            run: run.to_owned(),
            script: Some("5c".repeat(32)),
            details: None,
            warn: Arc::new(move |text| said.lock().unwrap().push(text.to_owned())),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("log/audit.json")
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

/// One simulator under every name.
struct Named(Arc<Simulated>);

impl Hosts for Named {
    fn repository(&self, name: &str) -> Result<ceso::door::repository::Stored, Fault> {
        self.0.repository(name)
    }

    fn secret_parameter(
        &self,
        name: &str,
        reference: &str,
        purpose: ceso::config::SecretPurpose,
    ) -> Result<ceso::config::NamedSecret, Fault> {
        self.0.secret_parameter(name, reference, purpose)
    }

    fn repository_names(&self) -> Vec<String> {
        self.0.repository_names()
    }

    fn catalog(&self) -> Option<ceso::catalog::Catalog> {
        self.0.catalog()
    }

    fn connect<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>> {
        self.0.connect(None)
    }
}

/// The events of a log, with their numbers.
fn events(file: &Path) -> Vec<(u64, Json)> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    lines.map(|line| (line["seq"].as_u64().unwrap(), line["event"].clone())).collect()
}

fn of<'a>(events: &'a [(u64, Json)], operation: &'a str, kind: &'a str) -> impl Iterator<Item = &'a (u64, Json)> {
    events.iter().filter(move |(_, event)| event["operation"] == operation && event["kind"] == kind)
}

/// The words in which an operation's calls ended, so far.
fn endings(events: &[(u64, Json)], operation: &str) -> Vec<String> {
    let ended = events.iter().filter(|(_, event)| event["operation"] == operation);
    ended.filter_map(|(_, event)| event["outcome"].as_str().map(str::to_owned)).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The arguments with a field that no operation has.
fn wrong(declared: &Declared, handles: &[Handle]) -> Value {
    let Value::Map(mut entries) = arguments(declared, handles) else { panic!() };
    entries.push(("no_such_argument".to_owned(), Value::Int(1)));
    Value::Map(entries)
}

/// Arguments with which a change has something to do: a name that is free, another number of processors.
fn telling(declared: &Declared, handles: &[Handle], number: usize) -> Value {
    let given = arguments(declared, handles);
    let Value::Map(mut entries) = given else { return given };
    if declared.effect == Effect::Change {
        let schema = declared.arguments_schema();
        let properties = schema.as_value()["properties"].clone();
        for (name, value) in
            [("name", Value::Text(format!("made-{number}"))), ("cpus", Value::Int(2 + number as i64 % 3))]
        {
            if !properties[name].is_null() {
                entries.retain(|(known, _)| known != name);
                entries.push((name.to_owned(), value));
            }
        }
    }
    Value::Map(entries)
}

/// Ends the record from outside of the runtime, as a run does.
fn end(door: &Arc<Door>) -> ceso::door::record::Closed {
    let door = door.clone();
    std::thread::spawn(move || door.record().end("done", None, serde_json::json!({}))).join().unwrap()
}

/// Changes that find nothing to do here, or refuse what they are given before they would say what they intend: the file is no OVA, no
/// delta is without its snapshot, the machine's own cloud-init data is not ceso's, the path is no configuration's, and neither disk nor
/// card nor drive is one that the machine has; nothing is mounted from a path that no server exports, nor taken away, and the host is at
/// work already, and told nothing of what it is to start.
const NOTHING_TO_DO: &[&str] = &[
    "vm.import",
    "vm.register",
    "vm.ensure_disk",
    "vm.ensure_nic",
    "vm.eject_cdrom",
    "vm.connect_cdrom",
    "vm.consolidate",
    "vm.ensure_guestinfo",
    "vm.reip",
    "vm.ensure_reip",
    "datastore.mount_nfs",
    "datastore.unmount_nfs",
    "host.exit_maintenance",
    "host.set_autostart",
];

#[test]
fn every_operation_leaves_a_record_and_a_metric_however_it_ends() {
    metrics::enable().unwrap();
    let book = Book::new();
    let runtime = runtime();
    let (door, hosts) = runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open_recorded(Arc::new(Named(hosts.clone())), book.recording("sweep")).await;
        // What destroys the one machine comes last.
        let mut operations: Vec<&Declared> = operations().collect();
        // What takes the machine itself away comes last of all.
        operations.sort_by_key(|declared| match declared.name {
            "vm.destroy" => 2,
            name => u8::from(declared.effect == Effect::Destroy || name == "vm.unregister"),
        });
        for (number, declared) in operations.into_iter().enumerate() {
            let call = 100 + 10 * number as u64;
            let given = || telling(declared, &handles, number);
            // Let through: it is done, finds nothing to do, or the host has something against it.
            // One that waits for what does not come is let go of.
            drop(tokio::time::timeout(Duration::from_secs(3), declared.call(&door, call, given())).await);
            // Wrong before anything is looked at.
            declared.call(&door, call + 1, wrong(declared, &handles)).await.unwrap_err();
            if declared.effect == Effect::Pure {
                continue;
            }
            door.set_deadline(Some(Instant::now() - Duration::from_secs(1)));
            declared.call(&door, call + 2, given()).await.unwrap_err();
            door.set_deadline(None);
            door.cancel(true);
            declared.call(&door, call + 3, given()).await.unwrap_err();
            door.cancel(false);
            // Begun, and dropped before the host has answered.
            for method in ["RetrievePropertiesEx", "RetrieveServiceContent"] {
                let rule = Rule {
                    method: method.to_owned(),
                    trouble: Trouble::Delay(Duration::from_millis(300)),
                    after: 0,
                    times: Some(1),
                    chance: 1.0,
                };
                hosts.server.fault(rule).unwrap();
            }
            drop(tokio::time::timeout(Duration::from_millis(50), declared.call(&door, call + 4, given())).await);
            hosts.server.clear_faults();
            door.policy().set_needs(Table::default());
            declared.call(&door, call + 5, given()).await.unwrap_err();
            door.policy().set_needs(all());
        }
        (Arc::new(door), hosts)
    });
    let closed = end(&door);
    assert!(closed.faults.is_empty(), "{closed:?}");
    drop((door, hosts));

    let events = events(&book.file());
    let last = events.iter().rev().find(|(_, event)| event["kind"] == "run_end").unwrap();
    assert_eq!(closed.receipt.unwrap().seq, last.0, "the receipt is that of the run's last record");
    for declared in operations().filter(|declared| declared.effect > Effect::Pure) {
        let (name, ended) = (declared.name, endings(&events, declared.name));
        for word in ["failed", "timed_out", "dropped", "denied"] {
            assert!(ended.iter().any(|ended| ended == word), "{name}: {word} is not among {ended:?}");
        }
        let denied = of(&events, name, "denied").next().unwrap();
        assert!(denied.1["entry"].as_str().unwrap().starts_with(declared.touches[0].noun), "{denied:?}");
        assert_eq!(denied.1["fault"]["kind"], "door.denied");
        let (kind, other) = if declared.effect < Effect::Change { ("read", "outcome") } else { ("outcome", "read") };
        assert_eq!(of(&events, name, other).count(), 0, "{name}");
        for (_, event) in of(&events, name, kind) {
            for field in
                ["outcome", "duration_us", "call", "run", "principal", "mode", "script", "correlation", "effect"]
            {
                // What was let go of has no end that could be timed.
                let told = !event[field].is_null() || (field == "duration_us" && event["outcome"] == "unknown");
                assert!(told, "{name}: no {field} in {event}");
            }
        }
        for (intent, event) in of(&events, name, "intent") {
            let outcomes: Vec<_> = of(&events, name, "outcome").filter(|(_, end)| end["intent"] == *intent).collect();
            assert_eq!(outcomes.len(), 1, "{name}: the intent {event} has these outcomes: {outcomes:?}");
            assert!(outcomes[0].0 > *intent && !event["entry"].is_null(), "{event}");
            let is_of_host = declared.touches.iter().all(|touch| !["repository", "catalog"].contains(&touch.noun));
            assert_eq!(event["host"] == "sim", is_of_host, "{event}");
        }
        let sent = of(&events, name, "outcome")
            .filter(|(_, event)| event["outcome"] == "done" || event["outcome"] == "unknown");
        for (_, event) in sent {
            assert!(event["intent"].is_u64(), "{name}: {event}");
        }
    }
    // Each kind of change was let through at least once, or the sweep shows nothing of them.
    let missed: Vec<&str> = ops::all()
        .iter()
        .filter(|declared| declared.effect >= Effect::Change && of(&events, declared.name, "intent").next().is_none())
        .map(|declared| declared.name)
        .filter(|name| !NOTHING_TO_DO.contains(name))
        .collect();
    assert!(missed.is_empty(), "{missed:?} never came as far as an intent");

    let text = metrics::text().unwrap();
    for declared in ops::all() {
        let words: &[&str] = match declared.effect {
            Effect::Pure => &["failed"],
            _ => &["failed", "denied", "timed_out", "dropped"],
        };
        for word in words {
            let counted = text.lines().any(|line| {
                line.starts_with("ceso_operations_total{")
                    && line.contains(&format!("operation=\"{}\"", declared.name))
                    && line.contains(&format!("outcome=\"{word}\""))
            });
            assert!(counted, "{} {word} is not counted", declared.name);
        }
    }
}

fn all() -> Table {
    ceso::door::modes::table(ceso::config::Mode::Unrestricted)
}

/// A change that is under way on a host that takes its time, and is let go of.
#[test]
fn a_change_that_nobody_waits_for_any_more_gets_an_unknown_outcome_at_the_runs_end() {
    let book = Book::new();
    let runtime = runtime();
    let door = runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open_recorded(hosts.clone(), book.recording("let-go")).await;
        let rule = Rule {
            method: "PowerOnVM_Task".to_owned(),
            trouble: Trouble::Delay(Duration::from_secs(5)),
            after: 0,
            times: None,
            chance: 1.0,
        };
        hosts.server.fault(rule).unwrap();
        let declared = ops::find("vm.power_on").unwrap();
        let waited =
            tokio::time::timeout(Duration::from_secs(2), declared.call(&door, 9, arguments(declared, &handles)));
        assert!(waited.await.is_err(), "it is held up");
        Arc::new(door)
    });
    assert!(end(&door).faults.is_empty());
    drop(door);
    let events = events(&book.file());
    let intent = of(&events, "vm.power_on", "intent").next().unwrap().0;
    let outcome = &of(&events, "vm.power_on", "outcome").next().unwrap().1;
    assert_eq!((outcome["outcome"].as_str(), outcome["intent"].as_u64()), (Some("unknown"), Some(intent)));
    let begin = events.iter().position(|(_, event)| event["kind"] == "run_begin").unwrap();
    let first = events.iter().position(|(_, event)| event["operation"].is_string()).unwrap();
    assert!(begin < first, "the run begins before its first call");
}

#[test]
fn what_the_host_did_and_did_not_answer_is_done_and_what_it_refused_has_failed() {
    let book = Book::new();
    let runtime = runtime();
    let door = runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open_recorded(hosts.clone(), book.recording("answers")).await;
        let declared = ops::find("vm.power_on").unwrap();
        for trouble in [Trouble::DropAnswer, Trouble::Fault { kind: "NoPermission".to_owned(), message: None }] {
            hosts.server.clear_faults();
            let method = "PowerOnVM_Task".to_owned();
            // Of an answer that is lost the task is found by what it does and on what; a refusal is one.
            let found = trouble == Trouble::DropAnswer;
            hosts.server.fault(Rule { method, trouble, after: 0, times: None, chance: 1.0 }).unwrap();
            assert_eq!(declared.call(&door, 9, arguments(declared, &handles)).await.is_ok(), found);
        }
        Arc::new(door)
    });
    end(&door);
    drop(door);
    assert_eq!(endings(&events(&book.file()), "vm.power_on"), ["done", "failed"]);
}

#[test]
fn the_hosts_own_log_knows_each_call_by_run_and_number() {
    let book = Book::new();
    let runtime = runtime();
    let door = runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open_recorded(hosts.clone(), book.recording("run-7")).await;
        let declared = ops::find("vm.info").unwrap();
        declared.call(&door, 42, arguments(declared, &handles)).await.unwrap();
        Arc::new(door)
    });
    end(&door);
    let events = events(&book.file());
    assert_eq!(of(&events, "vm.info", "read").next().unwrap().1["correlation"], "run-7-42");
}

#[test]
fn contents_of_documents_and_extra_configuration_are_never_recorded() {
    let book = Book::new();
    let runtime = runtime();
    let door = runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open_recorded(hosts.clone(), book.recording("contents")).await;
        let declared = ops::find("vm.configure").unwrap();
        let Value::Map(mut entries) = arguments(declared, &handles) else { panic!() };
        entries.retain(|(name, _)| name == "vm");
        let extra = vec![("svga.token".to_owned(), Value::Text("in-the-clear-0815".to_owned()))];
        entries.push(("extra_config".to_owned(), Value::Map(extra)));
        declared.call(&door, 1, Value::Map(entries)).await.unwrap();
        let build = ops::find("cloudinit.build").unwrap();
        let spec = Value::Map(vec![("hostname".to_owned(), Value::Text("in-the-clear-4711".to_owned()))]);
        build.call(&door, 2, spec).await.unwrap();
        Arc::new(door)
    });
    end(&door);
    let text = std::fs::read_to_string(book.file()).unwrap();
    assert!(!text.contains("in-the-clear"), "{text}");
    assert!(text.contains("svga.token") && text.contains("(17 characters)"), "{text}");
}

#[test]
fn without_a_log_nothing_is_changed_and_nothing_is_sent_but_reads_go_on_and_what_the_run_made_goes() {
    let book = Book::new();
    std::fs::write(book.folder.path().join("log"), "a file where a folder should be").unwrap();
    let runtime = runtime();
    let door = runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open_recorded(hosts.clone(), book.recording("lost")).await;
        for declared in ops::all().iter().filter(|declared| declared.effect == Effect::Change) {
            let before = hosts.server.requests();
            let fault = declared.call(&door, 1, arguments(declared, &handles)).await.unwrap_err();
            assert_eq!(fault.kind(), "audit.unwritable", "{}: {fault:?}", declared.name);
            assert!(fault.hint_text().is_some() && fault.exit_code() == 1, "{fault:?}");
            assert_eq!(hosts.server.requests(), before, "{}: the host saw a request", declared.name);
        }
        for name in ["vm.list", "vm.info", "host.facts"] {
            let declared = ops::find(name).unwrap();
            declared.call(&door, 2, arguments(declared, &handles)).await.unwrap();
        }
        let destroy = ops::find("vm.destroy").unwrap();
        let fault = destroy.call(&door, 3, arguments(destroy, &handles)).await.unwrap_err();
        assert_eq!(fault.kind(), "audit.unwritable", "the template is not the run's: {fault:?}");
        assert_eq!(hosts.server.requests().get("Destroy_Task"), None);
        Arc::new(door)
    });
    assert!(book.said().contains("reads go on without a record"), "{}", book.said());
    assert_eq!(book.said().lines().count(), 1, "it is said once: {}", book.said());
    assert_eq!(end(&door).faults.len(), 1);
}
