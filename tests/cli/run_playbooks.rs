//! A playbook on the simulator, end to end: results, summary, state, parameters, what --explain gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::Machine;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/first_vms.luau");
const RUN: [&str; 4] = ["run", "--host", "sim", EXAMPLE];

fn files(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
}

fn state(machine: &Machine) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    files(&machine.home().join("sim"), &mut found);
    found.retain(|name, _| !name.ends_with("/lock"));
    found
}

#[test]
fn run_of_the_first_example_prints_three_machines_and_a_second_run_changes_nothing() {
    let machine = Machine::new();
    let first = machine.run(&RUN).ok();
    assert_eq!(first.out, "NAME   IP\nweb-1  10.0.1.241\nweb-2  10.0.1.242\nweb-3  10.0.1.243\n");
    assert!(first.err.contains("SIMULATOR") && first.err.contains("9 changed\n"), "{first:?}");
    let before = state(&machine);
    let second = machine.run(&RUN).ok();
    assert_eq!(second.out, first.out);
    assert!(second.err.contains("nothing changed, 9 unchanged"), "{second:?}");
    assert!(before == state(&machine), "every file of the simulator is as it was");

    let form = |form| machine.run(&[&RUN[..], &["--output", form]].concat()).ok();
    let json = form("json");
    assert_eq!(json.json()[2], serde_json::json!({ "ip": "10.0.1.243", "name": "web-3" }));
    assert_eq!(form("csv").out, "name,ip\nweb-1,10.0.1.241\nweb-2,10.0.1.242\nweb-3,10.0.1.243\n");
    assert!(!json.out.contains("SIMULATOR") && json.err.contains("SIMULATOR"));
}

const PARAMS: &str = r#"return {
  summary = "All types",
  params = {
    s = { type = "string" }, n = { type = "number" }, b = { type = "bool", default = false },
    z = { type = "size", default = "1 GiB" }, d = { type = "duration", default = "1 s" },
    c = { type = "cidr", default = "10.0.0.0/8" }, l = { type = "list", of = "number", default = {} },
    ch = { type = "choice", choices = { "on", "off" }, default = "on" }, opt = { type = "string", optional = true },
  },
  run = function(p)
    log.info("it runs")
    return p
  end,
}"#;

#[test]
fn run_refuses_all_wrong_parameters_at_once_before_anything_runs() {
    let machine = Machine::new();
    let wrong = ["-p", "n=x", "-p", "b=maybe", "-p", "z=big", "-p", "d=long", "-p", "c=nonet", "-p", "l=1,a", "-p"];
    let done = machine.script(PARAMS, &[&wrong[..], &["ch=onn", "--param", "hc=1"]].concat()).failed(2, "usage.param");
    for name in ["n: ", "b: ", "z: ", "d: ", "c: ", "l: ", "ch: ", "s: is missing", "\"hc\""] {
        assert!(done.err.contains(name), "{name}: {done:?}");
    }
    assert!(
        done.err.contains("did you mean \"on\"") && !done.err.contains("it runs") && done.out.is_empty(),
        "{done:?}"
    );
    for word in ["s", "=x", "s=a=b=c"] {
        let code = machine.script(PARAMS, &["-p", word, "-p", "n=1"]).code;
        assert_eq!(code, if word == "s=a=b=c" { 0 } else { 2 }, "{word}");
    }
    machine.script(PARAMS, &["-p", "n=1", "-p", "n=2"]).failed(2, "usage.param");
}

#[test]
fn run_gives_parameters_of_every_type_to_the_script() {
    let machine = Machine::new();
    let given = ["-p", "s=ä b", "-p", "n=1.5", "-p", "b=yes", "-p", "z=2GiB", "-p", "d=5m", "-p", "c=10.0.1.0/24"];
    let done =
        machine.script(PARAMS, &[&given[..], &["-p", "l=1,2", "-p", "ch=off", "--output", "json"]].concat()).ok();
    let expected = serde_json::json!({
        "s": "ä b", "n": 1.5, "b": true, "z": "2GiB", "d": "5m", "c": "10.0.1.0/24", "l": [1, 2], "ch": "off",
    });
    assert_eq!(done.json(), expected);
}

const BODY: &str = r#"
local function body()
  local host = esxi.connect()
  local vm = host:ensure_clone({ template = "debian-12", name = "exp-1" })
  vm:ensure_guestinfo(cloudinit.build({ hostname = "exp-1" }))
  vm:ensure_config({ notes = "hello" })
  vm:ensure_power("on")
  vm:wait_for_ip({ timeout = "1 min" })
  local own = host:create({ name = "exp-2", disk = "1 GiB", datastore = "datastore1", network = "VM Network" })
  own:destroy()
  host:find({ name = "none-*" })
  return { stores = #host:datastores(), networks = #host:networks() }
end
"#;

/// What --explain says, as a playbook with these needs.
fn pasted(explained: &str) -> String {
    let at = explained.find("needs = {").unwrap_or_else(|| panic!("no needs in {explained}"));
    format!("{BODY}\nreturn {{ summary = \"x\",\n{}\nrun = body }}", &explained[at..])
}

#[test]
fn run_explained_gives_entries_that_pasted_as_needs_make_the_same_run_pass() {
    let machine = Machine::new();
    let plain = format!("{BODY}\nreturn body()");
    let first = machine.script(&plain, &["--explain"]).ok();
    let playbook = pasted(&first.err);
    assert!(playbook.contains("create = { \"exp-1\", \"exp-2\" }"), "{playbook}");
    machine.script(&playbook, &[]).ok();
    // Where all holds already, the entries of the first run are needed all the same.
    let second = machine.script(&plain, &["--explain"]).ok();
    let playbook = pasted(&second.err);
    machine.script(&playbook, &[]).ok();
    machine.run(&["--host", "sim", "vm", "delete", "exp-1", "--force", "--mode", "unrestricted"]).ok();
    machine.script(&playbook, &[]).ok();
    let denied = machine.script(&playbook.replace("copy_from = \"debian-12\", ", ""), &[]).failed(3, "door.denied");
    assert!(denied.err.contains("add vm = { copy_from = \"debian-12\" } to needs"), "{denied:?}");
    assert_eq!(denied.out, "");
}

#[test]
fn run_destroys_in_standard_mode_only_what_it_made() {
    let machine = Machine::new();
    machine.run(&["--host", "sim", "vm", "create", "other", "--disk", "1GiB"]).ok();
    let text = r#"
      local host = esxi.connect()
      host:create({ name = "mine", disk = "1 GiB", datastore = "datastore1", network = "VM Network" }):destroy()
      host:vm("other"):destroy()"#;
    let denied = machine.script(text, &[]).failed(3, "door.denied");
    assert!(denied.err.contains("vm.destroy on \"other\"") && denied.err.contains("--mode unrestricted"), "{denied:?}");
    assert!(denied.err.contains("done and left as it is: vm.create mine"), "{denied:?}");
    let names = machine.run(&["--host", "sim", "vm", "list", "--output", "csv"]).ok().out;
    assert!(names.contains("\nother,") && !names.contains("mine"), "{names}");
    machine.script("esxi.connect():vm(\"other\"):destroy()", &["--mode", "unrestricted"]).ok();
}

#[test]
fn run_prints_what_the_script_prints_before_its_result_and_nothing_of_it_reaches_the_terminal() {
    let machine = Machine::new();
    let done = machine
        .script("for i = 1, 300 do print(i) end log.info('x\\ny\\27[2J') return { name = 'a\\27[2J' }", &[])
        .ok();
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 301, "{done:?}");
    assert_eq!(lines[299], "300");
    assert!(lines[300].starts_with("name") && !done.out.contains('\x1b') && !done.err.contains('\x1b'), "{done:?}");
    assert_eq!(done.err.lines().count(), 2, "a log line is one line, and the receipt another: {done:?}");
}
