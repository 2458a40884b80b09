//! A host itself, by commands: what happened on it, its networks and mounts, its configuration, maintenance, and its end.

use crate::support::{Done, Machine, Sim};

fn sim(machine: &Machine, words: &[&str]) -> Done {
    machine.run(&[words, &["--host", "sim", "--output", "json"]].concat())
}

fn all(machine: &Machine, words: &[&str]) -> Done {
    sim(machine, &[words, &["--mode", "unrestricted"]].concat())
}

trait Failed {
    fn failed_kind(&self) -> String;
}

impl Failed for Done {
    /// The kind of the error that the command ended with.
    #[track_caller]
    fn failed_kind(&self) -> String {
        assert_ne!(self.code, 0, "{self:?}");
        let told = self.err.split("error[").nth(1).and_then(|rest| rest.split(']').next());
        told.unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }
}

#[test]
fn a_host_is_administered_by_commands() {
    let machine = Machine::new();
    let names = |done: Done| -> Vec<String> {
        let rows = done.json();
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(sim(&machine, &["host", "portgroup", "add", "lab", "--vlan", "42"]).code, 3, "mode standard");
    all(&machine, &["host", "portgroup", "add", "lab", "--vlan", "42"]).ok();
    assert_eq!(all(&machine, &["host", "portgroup", "add", "lab"]).failed_kind(), "esxi.already_exists");
    let listed = sim(&machine, &["host", "portgroup", "list"]).ok().json();
    let lab = listed.as_array().unwrap().iter().find(|row| row["name"] == "lab").unwrap().clone();
    assert_eq!((&lab["vlan"], &lab["switch"]), (&42.into(), &"vSwitch0".into()));
    sim(&machine, &["vm", "create", "user", "--network", "lab"]).ok();
    let used = all(&machine, &["host", "portgroup", "remove", "lab"]);
    assert!(used.failed_kind() == "esxi.in_use" && used.err.contains("\"user\""), "{used:?}");
    let own = all(&machine, &["host", "portgroup", "remove", "Management Network"]);
    assert!(own.failed_kind() == "esxi.in_use" && own.err.contains("vmk0"), "{own:?}");
    all(&machine, &["vm", "delete", "user"]).ok();
    all(&machine, &["host", "portgroup", "remove", "lab"]).ok();
    assert_eq!(all(&machine, &["host", "portgroup", "remove", "lab"]).failed_kind(), "esxi.network_not_found");

    all(&machine, &["datastore", "mount", "isos", "10.0.1.5", "/export/isos", "--read-only"]).ok();
    let stores = sim(&machine, &["datastore", "list"]).ok();
    let rows = stores.json();
    let isos = rows.as_array().unwrap().iter().find(|row| row["name"] == "isos").unwrap().clone();
    assert_eq!((&isos["type"], &isos["writable"]), (&"NFS".into(), &false.into()));
    assert_eq!(all(&machine, &["datastore", "mount", "isos", "10.0.1.6", "/x"]).failed_kind(), "esxi.duplicate_name");
    for (name, server, path) in [("a/b", "s", "/x"), ("a", "s", "x"), ("a", "s; reboot", "/x"), (" ", "s", "/x")] {
        let refused = all(&machine, &["datastore", "mount", name, server, path]);
        assert_eq!(refused.failed_kind(), "usage.argument", "{refused:?}");
    }
    let own = all(&machine, &["datastore", "unmount", "datastore1"]);
    assert!(own.code != 0 && own.err.contains("datastore1"), "{own:?}");
    all(&machine, &["datastore", "unmount", "isos"]).ok();
    assert_eq!(names(sim(&machine, &["datastore", "list"]).ok()), ["datastore1"]);

    assert_eq!(sim(&machine, &["host", "health", "--bad"]).ok().json(), serde_json::json!([]));
    let health = sim(&machine, &["host", "health"]).ok().json();
    assert!(
        health.as_array().unwrap().iter().any(|row| row["type"] == "temperature" && row["reading"] == 23.0),
        "{health}"
    );
    assert_eq!(
        names(sim(&machine, &["host", "devices"]).ok()),
        ["Simulated accelerator", "Simulated storage controller"]
    );
}

#[test]
fn what_happens_is_told_filtered_and_followed() {
    let machine = Machine::new();
    let text = r#"
local host = esxi.connect()
local vm = host:clone({ template = "debian-12", name = "a" })
local before = host:events()
local last = before[#before].key
assert(#host:events({ after = last, wait = "1 s" }) == 0)
vm:power_on()
local on = host:events({ after = last, types = { "VmPowered*" }, wait = "10 s" })
assert(#on == 1 and on[1].vm == "a" and on[1].type == "VmPoweredOnEvent" and on[1].user ~= nil and on[1].key > last)
vm:power_off()
assert(#host:events({ vm = "a", types = { "VmPoweredOffEvent" } }) == 1)
assert(#host:events({ vm = "b" }) == 0 and #host:events({ user = "nobody" }) == 0)
assert(#host:events({ before = "1 h" }) == 0 and #host:events({ since = "1 h" }) >= #before)
local tasks = host:tasks({ entity = "a", operations = { "VirtualMachine.power*" } })
assert(#tasks == 2 and tasks[1].state == "success" and tasks[1].completed ~= nil)
assert(#host:tasks({ since = tasks[2].changed, wait = "1 s" }) == 0)
local failed, fault: any = pcall(function() vm:power_off() end)
assert(not failed, fault.kind)
local errors = host:tasks({ state = "error" })
assert(errors[#errors].error == "esxi.invalid_power_state", errors[#errors].error)
for _, wrong in { { state = "done" }, { since = "yesterday" }, { wait = "1 h" } } do
  local done, wrong_fault: any = pcall(function() return host:tasks(wrong :: any) end)
  assert(not done and wrong_fault.kind == "usage.argument", tostring(wrong_fault.kind))
end
"#;
    machine.script(text, &[]).ok();
    let events = sim(&machine, &["host", "events", "--type", "User*"]).ok().json();
    assert!(events.as_array().unwrap().iter().all(|row| row["type"] == "UserLoginSessionEvent"), "{events}");
    let followed = machine.run(&["host", "events", "--follow", "--span", "1 s", "--type", "User*", "--host", "sim"]);
    assert!(followed.code == 0 && followed.out.contains("UserLoginSessionEvent"), "{followed:?}");
    let hidden = machine.file(
        "hidden.luau",
        "return { needs = { host = { read = \"*\" }, vm = { read = \"b-*\" } }, run = function() return esxi.connect():events() end }",
    );
    let hidden = machine.run(&["run", "--host", "sim", "--output", "json", hidden.to_str().unwrap()]).ok();
    assert!(!hidden.out.contains("debian-12"), "{hidden:?}");
}

/// Who follows sees what comes while it looks, and what was there before once.
#[test]
fn events_and_tasks_that_come_are_followed_by_the_commands() {
    let (machine, host) = (Machine::new(), Sim::start(ceso::sim::Options::default()));
    machine.on(&host, &["vm", "clone", "debian-12", "a"]).ok();
    let follow = |what: &'static str, more: &'static [&'static str]| {
        let words = [&["host", what, "--follow", "--span", "6 s"], more].concat();
        let (home, host) = (Machine::new(), &host);
        move || home.on(host, &words).ok().out
    };
    let (events, tasks) = std::thread::scope(|scope| {
        let events = scope.spawn(follow("events", &["--vm", "a", "--type", "Vm*"]));
        let tasks = scope.spawn(follow("tasks", &["--entity", "a", "--operation", "VirtualMachine.power*"]));
        crate::support::eventually("both are logged in and look", || host.server.logins() >= 3);
        std::thread::sleep(std::time::Duration::from_millis(800));
        machine.on(&host, &["vm", "power", "a", "on"]).ok();
        machine.on(&host, &["vm", "power", "debian-12", "on"]).ok();
        (events.join().unwrap(), tasks.join().unwrap())
    });
    let times = |text: &str, word: &str| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!((times(&events, "VmCreatedEvent"), times(&events, "VmPoweredOnEvent")), (1, 1), "{events}");
    assert!(!events.contains("debian-12") && !tasks.contains("debian-12"), "{events}{tasks}");
    assert!(tasks.contains("VirtualMachine.powerOn") && tasks.contains("success"), "{tasks}");
    // For programs, each is a line of JSON on standard output, and nothing else is there.
    for (what, fields) in [("events", ["type", "time"]), ("tasks", ["operation", "state"])] {
        let done = machine.on(&host, &["host", what, "--follow", "--span", "1 s", "--output", "json"]).ok();
        let rows: Vec<serde_json::Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!rows.is_empty() && rows.iter().all(|row| fields.iter().all(|name| row[name].is_string())), "{done:?}");
    }
    let listed = machine.on(&host, &["host", "tasks", "--state", "success", "--output", "json"]).ok().json();
    assert!(listed.as_array().unwrap().iter().any(|row| row["operation"] == "VirtualMachine.powerOn"), "{listed}");
}

#[test]
fn a_host_is_shut_down_after_its_guests() {
    let machine = Machine::new();
    for name in ["a", "b"] {
        sim(&machine, &["vm", "clone", "debian-12", name]).ok();
        sim(&machine, &["vm", "power", name, "on"]).ok();
    }
    let plan = all(&machine, &["host", "shutdown", "--plan"]).ok().json();
    let what: Vec<&str> = plan.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(what, ["a", "b", "sim"]);
    let bare = all(&machine, &["host", "shutdown"]);
    assert!(bare.code != 0 && bare.err.contains("2 guests"), "{bare:?}");
    assert_eq!(sim(&machine, &["host", "shutdown", "--yes"]).code, 3, "mode standard");
    assert_eq!(sim(&machine, &["vm", "info", "a"]).ok().json()["power"], "on");
    let refused = machine.script("esxi.connect():shut_down()", &["--mode", "unrestricted"]);
    assert!(refused.failed_kind() == "esxi.machines_run" && refused.err.contains("\"a\", \"b\""), "{refused:?}");
    let maintenance = all(&machine, &["host", "maintenance", "enter"]);
    assert_eq!(maintenance.failed_kind(), "esxi.machines_run");
    let done = all(&machine, &["host", "shutdown", "--yes"]).ok().json();
    assert_eq!(done[0]["done"], "shut down");
    for name in ["a", "b"] {
        assert_eq!(sim(&machine, &["vm", "info", name]).ok().json()["power"], "off");
    }
}

#[test]
fn a_shutdown_begins_only_where_every_guest_can_be_asked() {
    let machine = Machine::new();
    let host = Sim::start(ceso::sim::Options::default());
    let on = |words: &[&str]| machine.on(&host, &[words, &["--mode", "unrestricted", "--output", "json"]].concat());
    for name in ["a", "c"] {
        on(&["vm", "clone", "debian-12", name]).ok();
    }
    for name in ["bare-1", "bare-2"] {
        on(&["vm", "create", name, "--disk", "8 MiB"]).ok();
    }
    for name in ["a", "bare-1", "bare-2", "c"] {
        on(&["vm", "power", name, "on"]).ok();
    }
    crate::support::eventually("the guests' tools run", || {
        let plan = on(&["host", "shutdown", "--plan"]).ok().json();
        plan[0]["tools"] == true && plan[3]["tools"] == true
    });
    let refused = on(&["host", "shutdown", "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("nothing was begun"), "{refused:?}");
    assert!(refused.err.contains("bare-1, bare-2") && refused.err.contains("--force"), "{refused:?}");
    let power = |name: &str| on(&["vm", "info", name]).ok().json()["power"].clone();
    assert_eq!(["a", "bare-1", "bare-2", "c"].map(power), ["on"; 4]);
    // One that does not do it stops the rest: what is down already is told.
    let rule = ceso::sim::Rule {
        method: "ShutdownGuest".to_owned(),
        trouble: ceso::sim::Trouble::Status(500),
        after: 1,
        times: None,
        chance: 1.0,
    };
    host.server.fault(rule).unwrap();
    let stopped = on(&["host", "shutdown", "--yes", "--force"]);
    assert_eq!(stopped.code, 4, "{stopped:?}");
    assert!(stopped.err.contains("c is not down. Down already: a, bare-1, bare-2. Not touched: "), "{stopped:?}");
    assert!(stopped.err.contains("--guest-time"), "{stopped:?}");
    assert_eq!(["a", "bare-1", "bare-2", "c"].map(power), ["off", "off", "off", "on"]);
    host.server.clear_faults();
    let done = on(&["host", "shutdown", "--yes"]).ok().json();
    assert_eq!((&done[0]["name"], &done[0]["done"]), (&"c".into(), &"shut down".into()));
}

/// A host that restarts is there again, has forgotten who was logged in, and has started its machines.
#[test]
fn a_host_that_restarts_comes_back_and_starts_its_machines() {
    let (machine, host) = (Machine::new(), Sim::start(ceso::sim::Options::default()));
    let on = |words: &[&str]| machine.on(&host, &[words, &["--mode", "unrestricted", "--output", "json"]].concat());
    for name in ["a", "b"] {
        on(&["vm", "clone", "debian-12", name]).ok();
    }
    on(&["host", "autostart", "set", "--on", "--start-delay", "0 s"]).ok();
    on(&["vm", "autostart", "a"]).ok();
    let done = on(&["host", "shutdown", "--restart", "--yes"]).ok().json();
    assert_eq!(done[0]["done"], "restarts");
    crate::support::eventually("it goes down", || host.server.is_down());
    crate::support::eventually("it is there again", || !host.server.is_down());
    assert_eq!(host.server.open_sessions(), 0);
    crate::support::eventually("its machine runs", || on(&["vm", "info", "a"]).ok().json()["power"] == "on");
    assert_eq!(on(&["vm", "info", "b"]).ok().json()["power"], "off");
}

#[test]
fn a_configuration_goes_out_and_back_and_never_elsewhere() {
    let machine = Machine::new();
    all(&machine, &["host", "portgroup", "add", "kept"]).ok();
    assert_eq!(sim(&machine, &["host", "config", "backup", "host.tgz"]).code, 3, "mode standard");
    all(&machine, &["host", "config", "backup", "host.tgz"]).ok();
    let file = machine.project().join("host.tgz");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(all(&machine, &["host", "config", "backup", "host.tgz"]).failed_kind(), "local.file_exists");
    all(&machine, &["host", "portgroup", "remove", "kept"]).ok();
    all(&machine, &["host", "portgroup", "add", "new"]).ok();
    assert_ne!(all(&machine, &["host", "config", "restore", "host.tgz"]).code, 0, "without --yes");
    let early = all(&machine, &["host", "config", "restore", "host.tgz", "--yes"]);
    assert_eq!(early.failed_kind(), "esxi.not_in_maintenance");
    all(&machine, &["host", "maintenance", "enter"]).ok();
    assert_eq!(sim(&machine, &["vm", "power", "debian-12", "on"]).failed_kind(), "esxi.invalid_state");
    machine.file("bad.tgz", "no configuration");
    machine.file("empty.tgz", "");
    let bad = all(&machine, &["host", "config", "restore", "bad.tgz", "--yes"]);
    assert_eq!(bad.failed_kind(), "esxi.invalid_bundle", "{bad:?}");
    assert_eq!(all(&machine, &["host", "config", "restore", "empty.tgz", "--yes"]).failed_kind(), "local.file");
    all(&machine, &["host", "config", "restore", "host.tgz", "--yes"]).ok();
    let listed = sim(&machine, &["host", "portgroup", "list"]).ok().out;
    assert!(listed.contains("kept") && !listed.contains("\"new\""), "{listed}");
    all(&machine, &["host", "maintenance", "exit"]).ok();
    sim(&machine, &["vm", "power", "debian-12", "on"]).ok();
}
