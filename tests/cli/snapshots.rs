//! Snapshots and linked clones as a playbook and a person meet them: commands, modes, and parents that are kept from harm.

use crate::support::Machine;

#[test]
fn snapshots_are_taken_listed_gone_back_to_and_removed_by_commands() {
    let machine = Machine::new();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat());
    sim(&["vm", "clone", "debian-12", "a"]).ok();
    let taken = sim(&["vm", "snapshot", "create", "a", "clean", "--description", "before all"]).ok();
    assert_eq!(taken.json()["consistency"], "complete");
    sim(&["vm", "power", "a", "on"]).ok();
    assert_eq!(sim(&["vm", "snapshot", "create", "a", "later"]).ok().json()["consistency"], "crash");
    let listed = sim(&["vm", "snapshot", "list", "a"]).ok();
    let rows = listed.json();
    assert_eq!((&rows[0]["description"], &rows[1]["depth"]), (&"before all".into(), &1.into()));
    assert_eq!((&rows[0]["current"], &rows[1]["current"]), (&false.into(), &true.into()));

    let denied = sim(&["vm", "snapshot", "revert", "a", "clean"]);
    assert_eq!(denied.code, 3, "{denied:?}");
    let far = sim(&["vm", "snapshot", "revert", "a", "claen", "--mode", "unrestricted"]);
    assert!(far.code == 4 && far.err.contains("did you mean \"clean\"?"), "{far:?}");
    let back = sim(&["vm", "snapshot", "revert", "a", "clean", "--mode", "unrestricted"]).ok();
    assert_eq!(back.json()["power"], "off");
    let left = sim(&["vm", "snapshot", "remove", "a", "clean", "--children", "--mode", "unrestricted"]).ok();
    assert_eq!(left.json()["snapshots"], 0);
    assert_eq!(sim(&["vm", "snapshot", "consolidate", "a"]).ok().json()["consolidation_needed"], false);
    assert_ne!(sim(&["vm", "snapshot", "remove", "a", "x", "--all", "--mode", "unrestricted"]).code, 0);
}

#[test]
fn one_of_several_snapshots_of_one_name_is_meant_by_its_number() {
    let machine = Machine::new();
    let sim = |words: &[&str]| {
        machine.run(&[words, &["--host", "sim", "--output", "json", "--mode", "unrestricted"]].concat())
    };
    sim(&["vm", "clone", "debian-12", "a"]).ok();
    for name in ["nightly", "nightly", "id:1"] {
        sim(&["vm", "snapshot", "create", "a", name]).ok();
    }
    let rows = sim(&["vm", "snapshot", "list", "a"]).ok().json();
    let ids: Vec<String> = (0..3).map(|at| format!("id:{}", rows[at]["id"])).collect();
    let unclear = sim(&["vm", "snapshot", "revert", "a", "nightly"]);
    assert!(unclear.err.contains(&format!("{}, {}", ids[0], ids[1])), "{unclear:?}");
    unclear.failed(4, "esxi.ambiguous");
    for words in [&["remove", "a", "nightly"][..], &["export", "a", "nightly", "out.ova"]] {
        let unclear = sim(&[&["vm", "snapshot"], words].concat());
        assert!(unclear.code == 1 && unclear.err.contains("id:ID means one"), "{unclear:?}");
    }
    sim(&["vm", "snapshot", "revert", "a", &ids[1]]).ok();
    let current = sim(&["vm", "snapshot", "list", "a"]).ok().json();
    assert_eq!(current[1]["current"], true, "{current}");
    sim(&["vm", "snapshot", "export", "a", &ids[1], "out.ova"]).ok();
    // A name comes before a number.
    assert_eq!(ids[0], "id:1");
    sim(&["vm", "snapshot", "remove", "a", "id:1"]).ok();
    let left = sim(&["vm", "snapshot", "list", "a"]).ok().json();
    assert_eq!((&left[0]["name"], &left[1]["name"]), (&"nightly".into(), &"nightly".into()), "{left}");
    sim(&["vm", "snapshot", "remove", "a", &ids[0]]).ok();
    let left = sim(&["vm", "snapshot", "list", "a"]).ok().json();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["id"]), (1, &rows[1]["id"]), "{left}");
    sim(&["vm", "snapshot", "revert", "a", "id:9"]).failed(4, "esxi.snapshot_not_found");
}

const OWN: &str = r#"
local host = esxi.connect()
local vm = host:vm("debian-12")
local own = vm:snapshot({ name = "own" })
own:rename("mine")
own:revert()
own:remove()
local foreign = vm:snapshots()[1]
local done, fault = pcall(function() foreign:remove() end)
return { done = done, kind = fault.kind, left = #vm:snapshots() }
"#;

#[test]
fn in_mode_standard_a_run_goes_back_to_and_removes_what_it_took_and_nothing_else() {
    let machine = Machine::new();
    machine.run(&["vm", "snapshot", "create", "debian-12", "theirs", "--host", "sim"]).ok();
    machine.file("own.luau", OWN);
    let done = machine.run(&["run", "--host", "sim", "--mode", "standard", "--output", "json", "own.luau"]).ok();
    assert_eq!(done.json(), serde_json::json!({ "done": false, "kind": "door.denied", "left": 1 }));
}

const PARENT: &str = r#"
local host = esxi.connect()
local parent = host:clone({ template = "debian-12", name = "parent" })
local frozen = parent:snapshot({ name = "frozen" })
frozen:remove()
local child = host:clone({ template = "parent", name = "child", linked = true })
local function kind(act)
  local done, fault: any = pcall(act)
  return if done then "done" else `{fault.kind}: {string.find(fault.message, '"child"') ~= nil}`
end
local refused = {
  on = kind(function() parent:power_on() end),
  ensured = kind(function() parent:ensure_power("on") end),
  destroyed = kind(function() parent:destroy() end),
}
local taken = parent:snapshot({ name = "above" })
refused.reverted = kind(function() taken:revert() end)
refused.removed = kind(function() taken:remove() end)
refused.all_removed = kind(function() parent:remove_snapshots() end)
-- What goes on above a snapshot does its clones no harm.
local above = kind(function() parent:power_on() end)
parent:power_off()
child:power_on()
child:power_off()
local parents = child:info().disks[1].parent
child:destroy()
taken:remove()
parent:power_on()
return { refused = refused, above = above, parents = parents }
"#;

#[test]
fn a_parent_with_linked_clones_is_kept_from_what_would_ruin_them() {
    let machine = Machine::new();
    machine.file("parent.luau", PARENT);
    let done = machine.run(&["run", "--host", "sim", "--mode", "unrestricted", "--output", "json", "parent.luau"]).ok();
    let told = done.json();
    for (what, kind) in told["refused"].as_object().unwrap() {
        assert_eq!(kind, "esxi.has_linked_clones: true", "{what}");
    }
    assert_eq!(told["refused"].as_object().unwrap().len(), 6);
    assert_eq!((&told["above"], &told["parents"]), (&"done".into(), &"[datastore1] parent/parent.vmdk".into()));
}

const STRAY: &str = r#"
local host = esxi.connect()
local parent = host:clone({ template = "debian-12", name = "parent" })
local frozen = parent:snapshot({ name = "frozen" })
frozen:remove()
local child = host:clone({ template = "parent", name = "child", linked = true })
child:unregister()
local function kind(act)
  local done, fault: any = pcall(act)
  return if done then "done" else `{fault.kind}: {string.find(fault.message, "child/child", 1, true) ~= nil}`
end
local told = {
  destroyed = kind(function() parent:destroy() end),
}
local taken = parent:snapshot({ name = "above" })
told.reverted = kind(function() taken:revert() end)
told.removed = kind(function() taken:remove() end)
host:datastore("datastore1"):delete("child")
taken:remove()
parent:destroy()
return told
"#;

#[test]
fn a_linked_clone_that_was_taken_out_of_the_inventory_still_keeps_its_parent() {
    let machine = Machine::new();
    machine.file("stray.luau", STRAY);
    let done = machine.run(&["run", "--host", "sim", "--mode", "unrestricted", "--output", "json", "stray.luau"]).ok();
    let told = done.json();
    for (what, kind) in told.as_object().unwrap() {
        assert_eq!(kind, "esxi.has_linked_clones: true", "{what}");
    }
    assert_eq!(told.as_object().unwrap().len(), 3);
}

/// Its parent has a delta of its own that no snapshot of the clone accounts for: it is the parent's.
#[test]
fn a_linked_clone_merges_its_own_deltas_and_leaves_its_parents_alone() {
    let machine = Machine::new();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat());
    sim(&["vm", "clone", "debian-12", "p"]).ok();
    sim(&["vm", "snapshot", "create", "p", "s1"]).ok();
    sim(&["vm", "clone", "p", "lc", "--linked"]).ok();
    sim(&["vm", "clone", "p", "sibling", "--linked"]).ok();
    let files = || sim(&["datastore", "ls", "[datastore1] p"]).ok().out;
    let before = files();
    assert!(before.contains("p-000001.vmdk"), "{before}");
    let flagged = |name: &str| {
        let rows = sim(&["vm", "list"]).ok().json();
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()["consolidation_needed"] == true
    };
    assert!(!flagged("lc") && !flagged("p"));
    assert_eq!(sim(&["vm", "snapshot", "consolidate", "lc"]).ok().json()["consolidation_needed"], false);
    sim(&["vm", "snapshot", "create", "lc", "own"]).ok();
    sim(&["vm", "power", "lc", "on"]).ok();
    sim(&["vm", "snapshot", "create", "lc", "later"]).ok();
    sim(&["vm", "snapshot", "remove", "lc", "later", "--mode", "unrestricted"]).ok();
    sim(&["vm", "snapshot", "remove", "lc", "--all", "--mode", "unrestricted"]).ok();
    let own = sim(&["datastore", "ls", "[datastore1] lc"]).ok().out;
    assert!(own.contains("lc/lc.vmdk") && !own.contains("lc-000001"), "{own}");
    assert_eq!(files(), before);
    sim(&["vm", "power", "sibling", "on"]).ok();
}
