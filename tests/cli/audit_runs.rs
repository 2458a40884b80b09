//! What the log says of runs and commands as a user starts them: the same whatever ends them, and a receipt for each.

use std::time::Duration;

use ceso::sim::{Options, Rule, Trouble};
use serde_json::Value as Json;

use crate::support::{Machine, Sim, eventually};

/// The events of a machine's log, with their numbers.
fn events(machine: &Machine) -> Vec<(u64, Json)> {
    let text = std::fs::read_to_string(machine.home().join("audit.json")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    lines.map(|line| (line["seq"].as_u64().unwrap(), line["event"].clone())).collect()
}

fn held_up(seconds: u64) -> Sim {
    let sim = Sim::start(Options::default());
    let trouble = Trouble::Delay(Duration::from_secs(seconds));
    sim.server
        .fault(Rule { method: "PowerOnVM_Task".to_owned(), trouble, after: 0, times: None, chance: 1.0 })
        .unwrap();
    sim
}

/// What the log has of the one change: the outcome of its intent, and of the run's end the fault.
fn told(machine: &Machine) -> (String, String) {
    let events = events(machine);
    let intents: Vec<u64> = events.iter().filter(|(_, event)| event["kind"] == "intent").map(|(seq, _)| *seq).collect();
    let outcomes: Vec<&Json> = events
        .iter()
        .map(|(_, event)| event)
        .filter(|event| event["kind"] == "outcome" && event["intent"].is_u64())
        .collect();
    assert_eq!((intents.len(), outcomes.len()), (1, 1), "{events:?}");
    assert_eq!(outcomes[0]["intent"].as_u64(), Some(intents[0]));
    let (_, end) = events.iter().rev().find(|(_, event)| event["kind"] == "run_end").unwrap();
    (outcomes[0]["outcome"].as_str().unwrap().to_owned(), end["fault"]["kind"].as_str().unwrap_or_default().to_owned())
}

const CHANGE: &str = "local vm = esxi.connect():vm(\"debian-12\")\nlog.info(\"up\")\nvm:power_on()\n";

#[test]
fn a_worker_that_is_killed_leaves_no_intent_without_an_outcome() {
    let (machine, sim) = (Machine::new(), held_up(2));
    machine.file("script.luau", CHANGE);
    let run = machine.start(&sim.variables(), &["run", "script.luau"]);
    eventually("the change is under way", || sim.calls("PowerOnVM_Task") > 0);
    // SAFETY: a number of a process that this test started.
    unsafe { libc::kill(run.worker(), libc::SIGKILL) };
    let (code, err) = run.end();
    assert_ne!(code, 0, "{err}");
    assert!(err.contains("\naudit "), "{err}");
    let (outcome, fault) = told(&machine);
    assert_eq!(outcome, "done", "the host was given the time to end it");
    assert!(fault.starts_with("script."), "{fault}");
}

#[test]
fn a_run_out_of_time_and_one_that_is_not_waited_for_are_on_record() {
    let (machine, sim) = (Machine::new(), held_up(2));
    machine.file("script.luau", CHANGE);
    let run = machine.start(&sim.variables(), &["run", "script.luau", "--timeout", "1s"]);
    let (code, err) = run.end();
    assert_eq!(code, 124, "{err}");
    assert_eq!(told(&machine), ("done".to_owned(), "limit.run_time".to_owned()));

    let (machine, sim) = (Machine::new(), held_up(25));
    machine.file("script.luau", CHANGE);
    let run = machine.start(&sim.variables(), &["run", "script.luau"]);
    eventually("the change is under way", || sim.calls("PowerOnVM_Task") > 0);
    run.signal(libc::SIGINT);
    run.says("waiting for changes");
    run.signal(libc::SIGINT);
    let (_, err) = run.end();
    assert!(err.contains("outcome unknown") && err.contains("\naudit "), "{err}");
    assert_eq!(told(&machine).0, "unknown");
}

#[test]
fn every_run_gives_the_receipt_of_its_last_record() {
    let machine = Machine::new();
    machine.file("script.luau", "return 1\n");
    let done = machine.run(&["run", "script.luau"]).ok();
    let receipt = done.err.lines().find_map(|line| line.strip_prefix("audit ")).unwrap();
    let (seq, head) = receipt.split_once(':').unwrap();
    let text = std::fs::read_to_string(machine.home().join("audit.json")).unwrap();
    let line = text.lines().find(|line| line.contains(&format!("\"seq\":{seq},"))).unwrap();
    assert!(line.contains(head) && line.contains("run_end"), "{line}");
    let repl = machine.command(&["repl"]).write_stdin("1\n").output().unwrap();
    assert!(String::from_utf8(repl.stderr).unwrap().starts_with("audit "));
    for quiet in
        [&["check", "script.luau"][..], &["doc", "vm.info"], &["--help"], &["policy", "explain", "script.luau"]]
    {
        let before = events(&machine).len();
        machine.run(quiet).ok();
        assert_eq!(events(&machine).len(), before, "{quiet:?} writes nothing");
    }
}

#[test]
fn a_run_tells_who_had_what_script_done_with_which_modules_and_parameters() {
    let machine = Machine::new();
    machine.file("part.luau", "return { n = 1 }\n");
    let text = "local part = require(\"./part\")\nreturn { params = { n = { type = \"number\", default = 1 } }, needs = {}, run = function(p) return p.n + part.n end }\n";
    machine.file("script.luau", text);
    machine.run(&["run", "script.luau", "--param", "n=41"]).ok();
    let events = events(&machine);
    let of = |kind: &str| &events.iter().find(|(_, event)| event["kind"] == kind).unwrap().1;
    let (begin, end) = (of("run_begin"), of("run_end"));
    assert_eq!(begin["arguments"]["n"], 41);
    assert!(begin["principal"].as_str().unwrap().contains("uid "), "{begin}");
    assert_eq!(begin["script"], ceso::run::hash(text.as_bytes()));
    let sources = end["details"]["sources"].as_object().unwrap();
    assert!(
        sources.len() == 2 && sources.values().any(|hash| *hash == ceso::run::hash(b"return { n = 1 }\n")),
        "{end}"
    );
    assert_eq!(end["outcome"], "done");
}

#[test]
fn commands_that_change_which_hosts_are_trusted_are_noted() {
    let machine = Machine::new();
    let print = vec!["AB"; 32].join(":");
    machine.run(&["host", "add", "lab", "esx1.example", "--fingerprint", &print]).ok();
    machine.run(&["host", "trust", "lab", "--system"]).ok();
    machine.run(&["host", "logout", "lab"]);
    machine.run(&["host", "remove", "lab"]).ok();
    let notes: Vec<(String, String)> = events(&machine)
        .into_iter()
        .filter(|(_, event)| event["kind"] == "note" && event["operation"].is_string())
        .map(|(_, event)| {
            assert!(event["principal"].is_string(), "{event}");
            (event["operation"].as_str().unwrap().to_owned(), event["objects"][0].as_str().unwrap().to_owned())
        })
        .collect();
    let names: Vec<&str> = notes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["host add", "host trust", "host logout", "host remove"]);
    assert!(notes.iter().all(|(_, host)| host == "lab"));
}
