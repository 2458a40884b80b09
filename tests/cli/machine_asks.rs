//! What machines ask, what starts with the host and PCI devices that are handed through: by scripts and commands, through the door.

use crate::support::Machine;

const COPIED: &str = r#"
local host = esxi.connect()
local store = host:datastore("datastore1")
local one = host:clone({ template = "debian-12", name = "one" })
one:power_on()
one:power_off()
store:make_directory("two")
store:copy({ from = "one/one.vmx", to = "two/one.vmx" })
store:copy_disk({ from = "one/one.vmdk", to = "two/one.vmdk" })
local two = host:register({ datastore = "datastore1", path = "two/one.vmx", name = "two" })
assert(two:question() == nil)
local done, fault: any = pcall(function() two:power_on() end)
assert(not done and fault.kind == "esxi.waits_for_answer", fault and fault.kind)
local asks: any = two:question()
assert(two:info().question == asks.text and asks.topic == "msg.uuid.altered" and #asks.choices == 3)
local function kind(answer: any): any
  local _, fault: any = pcall(function() two:answer(answer) end)
  return fault and fault.kind
end
return {
  wrong = kind({ choice = "perhaps" }),
  other = kind({ choice = "0", topic = "msg.hbacommon.outofspace" }),
  answered = two:answer({ choice = "I Copied It", topic = "msg.uuid.altered" }),
  none = kind({ choice = "0" }),
  macs = { one:info().nics[1].mac, two:info().nics[1].mac },
}
"#;

#[test]
fn a_script_sees_what_a_copied_machine_asks_and_answers_it() {
    let machine = Machine::new();
    let told = machine.script(COPIED, &["--mode", "unrestricted", "--output", "json"]).ok().json();
    assert_eq!(
        (&told["wrong"], &told["other"], &told["none"]),
        (&"esxi.invalid_argument".into(), &"esxi.other_question".into(), &"esxi.no_question".into())
    );
    assert_eq!(told["answered"]["power"], "on", "{told}");
    assert!(told["answered"].get("failed").is_none_or(serde_json::Value::is_null), "{told}");
    assert_ne!(told["macs"][0], told["macs"][1], "a copy has an address of its own");
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat());
    assert!(sim(&["vm", "question", "debian-12"]).ok().out.contains("asks nothing"));
    sim(&["vm", "answer", "debian-12", "0"]).failed(4, "esxi.no_question");
}

#[test]
fn machines_start_with_their_host_in_the_order_that_was_set_and_go_down_as_it_says() {
    let machine = Machine::new();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat());
    let all = |words: &[&str]| sim(&[words, &["--mode", "unrestricted"]].concat());
    for name in ["database", "web", "kept", "other"] {
        sim(&["vm", "clone", "debian-12", name]).ok();
    }
    assert_eq!(sim(&["host", "autostart", "set", "--on"]).code, 3, "mode standard");
    let set = all(&["host", "autostart", "set", "--on", "--stop-action", "guestShutdown", "--start-delay", "10s"]);
    assert_eq!(set.ok().json()["start_delay"], "10s");
    sim(&["vm", "autostart", "web", "--order", "1"]).ok();
    sim(&["vm", "autostart", "database", "--order", "5"]).failed(2, "usage.argument");
    let database = sim(&["vm", "autostart", "database", "--order", "1"]).ok().json();
    assert_eq!((&database["order"], &database["stop_action"]), (&1.into(), &"systemDefault".into()));
    sim(&["vm", "autostart", "kept", "--stop-action", "suspend"]).ok();
    let listed = sim(&["host", "autostart", "list"]).ok().json();
    let rows = listed["machines"].as_array().unwrap();
    let told: Vec<(&str, Option<u64>)> =
        rows.iter().map(|row| (row["name"].as_str().unwrap(), row["order"].as_u64())).collect();
    assert_eq!(told, [("database", Some(1)), ("web", Some(2)), ("kept", None)], "web was pushed");
    // A parent that is turned on is lost to its children: the host is not to do so by itself.
    sim(&["vm", "autostart", "debian-12"]).ok();
    sim(&["vm", "clone", "debian-12", "child", "--linked"]).failed(4, "esxi.invalid_argument");
    sim(&["vm", "autostart", "debian-12", "--off"]).ok();
    sim(&["vm", "clone", "debian-12", "child", "--linked"]).ok();
    sim(&["vm", "autostart", "debian-12", "--order", "1"]).failed(4, "esxi.has_linked_clones");
    sim(&["vm", "autostart", "debian-12", "--off"]).ok();
    sim(&["vm", "autostart", "child"]).ok();
    sim(&["vm", "autostart", "child", "--off"]).ok();
    // The second time nothing is done.
    let again = machine.script(
        "local host = esxi.connect()\nhost:set_autostart({ enabled = true })\nhost:vm(\"web\"):set_autostart({ order = 2 })",
        &["--mode", "unrestricted"],
    );
    again.ok();
    for name in ["database", "web", "kept", "other"] {
        sim(&["vm", "power", name, "on"]).ok();
    }
    let plan = all(&["host", "shutdown", "--plan"]).ok().json();
    let what: Vec<(&str, &str)> = plan
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["what"].as_str().unwrap()))
        .collect();
    assert_eq!(
        what,
        [
            ("kept", "suspend the guest"),
            ("other", "shut down the guest"),
            ("web", "shut down the guest"),
            ("database", "shut down the guest"),
            ("sim", "shut the host down"),
        ]
    );
    all(&["host", "shutdown", "--yes"]).ok();
    // The host comes up with the next command, and starts what it is to start.
    let power = |name: &str| sim(&["vm", "info", name]).ok().json()["power"].clone();
    assert_eq!(["database", "web", "kept", "other"].map(power), ["on", "on", "on", "off"]);
    sim(&["vm", "autostart", "web", "--off"]).ok();
    assert!(!sim(&["host", "autostart", "list"]).ok().out.contains("web"));
}

#[test]
fn a_pci_device_is_handed_through_to_one_machine_that_runs() {
    let machine = Machine::new();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat());
    let all = |words: &[&str]| sim(&[words, &["--mode", "unrestricted"]].concat());
    let device = "0000:0c:00.0";
    for name in ["a", "b"] {
        sim(&["vm", "clone", "debian-12", name]).ok();
    }
    let listed = sim(&["host", "devices"]).ok().json();
    let enabled: Vec<(&str, bool)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["enabled"].as_bool().unwrap()))
        .collect();
    assert_eq!(enabled, [(device, true), ("0000:0d:00.0", false)]);
    assert_eq!(sim(&["vm", "pci", "attach", "a", device]).code, 3, "mode standard");
    all(&["vm", "pci", "attach", "a", "0000:0d:00.0"]).failed(4, "esxi.invalid_argument");
    all(&["vm", "pci", "attach", "a", "0000:ff:00.0"]).failed(4, "esxi.invalid_argument");
    for name in ["a", "b"] {
        assert_eq!(all(&["vm", "pci", "attach", name, device]).ok().json()[0]["id"], device);
    }
    all(&["vm", "pci", "attach", "a", device]).failed(4, "esxi.invalid_device_spec");
    assert_eq!(sim(&["vm", "info", "a"]).ok().json()["pci_devices"][0]["label"], "PCI device 0");
    sim(&["vm", "power", "a", "on"]).ok();
    let busy = sim(&["vm", "power", "b", "on"]);
    assert!(busy.code == 4 && busy.err.contains("in use"), "{busy:?}");
    all(&["vm", "pci", "detach", "a", device]).failed(4, "esxi.invalid_power_state");
    let memory = machine
        .script("esxi.connect():vm(\"a\"):snapshot({ name = \"one\", memory = true })", &["--mode", "unrestricted"]);
    assert!(memory.code != 0 && memory.err.contains("esxi.snapshot_incompatible_device_in_vm"), "{memory:?}");
    sim(&["vm", "power", "a", "off"]).ok();
    let left = all(&["vm", "pci", "detach", "a", "PCI device 0", "--release-memory"]).ok().json();
    assert_eq!(left, serde_json::json!([]));
    all(&["vm", "pci", "detach", "a", device]).failed(4, "esxi.device_not_found");
    sim(&["vm", "power", "b", "on"]).ok();
}
