//! Machines out of the inventory and in again, under other names; and what linked clones build on, kept as files too.

use crate::support::Machine;

#[test]
fn a_machine_is_renamed_unregistered_and_registered_by_commands() {
    let machine = Machine::new();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat());
    sim(&["vm", "create", "a", "--disk", "8 MiB"]).ok();
    sim(&["vm", "create", "other"]).ok();
    sim(&["vm", "rename", "a", "other"]).failed(4, "esxi.duplicate_name");
    sim(&["vm", "rename", "a", "a/b"]).failed(2, "usage.name");
    let renamed = sim(&["vm", "rename", "a", "b"]).ok().json();
    assert_eq!((&renamed["name"], &renamed["path"]), (&"b".into(), &"[datastore1] a/a.vmx".into()));
    assert_eq!(sim(&["vm", "unregister", "b"]).code, 3, "it is not of the run's making");
    sim(&["vm", "power", "b", "on"]).ok();
    sim(&["vm", "unregister", "b", "--mode", "unrestricted"]).failed(4, "esxi.invalid_power_state");
    sim(&["vm", "power", "b", "off"]).ok();
    let gone = sim(&["vm", "unregister", "b", "--mode", "unrestricted"]).ok().json();
    assert_eq!(gone["path"], "[datastore1] a/a.vmx");
    sim(&["vm", "info", "b"]).failed(4, "esxi.vm_not_found");
    let again = |words: &[&str]| sim(&[&["vm", "register", "--mode", "unrestricted"], words].concat());
    assert_eq!(sim(&["vm", "register", "[datastore1] a/a.vmx"]).code, 3, "a file may name any disk");
    again(&["[datastore1] a/none.vmx"]).failed(4, "esxi.file_not_found");
    again(&["[datastore1] a/a.vmdk"]).failed(2, "usage.argument");
    again(&["[datastore1] ../a/a.vmx"]).failed(4, "esxi.invalid_argument");
    again(&["[datastore1] a/a.vmx", "--name", "other"]).failed(4, "esxi.duplicate_name");
    let back = again(&["[datastore1] a/a.vmx"]).ok().json();
    assert_eq!((&back["name"], &back["disks"][0]["size"]), (&"a".into(), &"8 MiB".into()));
    again(&["[datastore1] a/a.vmx", "--name", "twice"]).failed(4, "esxi.already_exists");
}

const ESCALATION: &str = r#"
return {
  summary = "A name that may be destroyed is no way to destroy another",
  needs = {
    vm = { read = "*", configure = "*", rename = "web-*", create = "*", destroy = "tmp-*" },
    datastore = { write = "*" },
    network = { use = "*" },
  },
  run = function()
    local vm = esxi.connect():create({ name = "web-1", datastore = "datastore1" })
    local done, fault: any = pcall(function() vm:rename("tmp-1") end)
    return { done = done, kind = fault.kind, renamed = vm:rename("web-2").name }
  end,
}
"#;

#[test]
fn a_name_is_given_only_where_both_names_are_allowed() {
    let machine = Machine::new();
    machine.file("escalate.luau", ESCALATION);
    let done =
        machine.run(&["run", "--host", "sim", "--mode", "unrestricted", "--output", "json", "escalate.luau"]).ok();
    assert_eq!(done.json(), serde_json::json!({ "done": false, "kind": "door.denied", "renamed": "web-2" }));
}

const PARENT: &str = r#"
local host = esxi.connect()
local store = host:datastore("datastore1")
local parent = host:clone({ template = "debian-12", name = "parent" })
local child = host:clone({ template = "parent", name = "child", linked = true })
-- Registered or not, what the child builds on stays.
parent:unregister()
local function kind(act)
  local done, fault: any = pcall(act)
  return if done then "done" else `{fault.kind}: {string.find(fault.message, '"child"') ~= nil}`
end
local refused = {
  extended = kind(function() store:extend_disk({ path = "parent/parent.vmdk", size = "32 GiB" }) end),
  inflated = kind(function() store:inflate_disk("parent/parent.vmdk") end),
  moved = kind(function() store:move({ from = "parent/parent.vmdk", to = "elsewhere.vmdk" }) end),
  folder_moved = kind(function() store:move({ from = "parent", to = "elsewhere" }) end),
  deleted = kind(function() store:delete("parent/parent.vmdk") end),
  folder_deleted = kind(function() store:delete("parent") end),
}
child:power_on()
child:power_off()
child:destroy()
local after = kind(function() store:delete("parent") end)
return { refused = refused, after = after }
"#;

#[test]
fn what_linked_clones_build_on_is_kept_as_files_too() {
    let machine = Machine::new();
    machine.file("parent.luau", PARENT);
    let done = machine.run(&["run", "--host", "sim", "--mode", "unrestricted", "--output", "json", "parent.luau"]).ok();
    let told = done.json();
    assert_eq!(told["refused"].as_object().unwrap().len(), 6);
    for (what, kind) in told["refused"].as_object().unwrap() {
        assert_eq!(kind, "esxi.has_linked_clones: true", "{what}");
    }
    assert_eq!(told["after"], "done");
}
