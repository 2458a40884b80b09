//! `ceso policy`: what a mode allows, and what a script would get of what it asks for.

use crate::support::Machine;

fn entries(machine: &Machine, mode: &str) -> Vec<(String, String)> {
    let rows = machine.run(&["policy", "show", mode, "--output", "json"]).ok().json();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(row, "entry"), text(row, "selects"))).collect()
}

#[test]
fn policy_shows_the_table_of_each_mode() {
    let machine = Machine::new();
    let has = |mode: &str, entry: &str, selects: &str| {
        entries(&machine, mode).contains(&(entry.to_owned(), selects.to_owned()))
    };
    assert!(
        entries(&machine, "restricted").iter().all(|(entry, _)| entry.ends_with(".read") || entry == "host.connect")
    );
    assert!(has("standard", "vm.destroy", "@made") && has("standard", "vm.create", "*"));
    assert!(has("unrestricted", "vm.destroy", "*"));
    let shown = machine.run_with(&[("CESO_SECURITY_MODE", "restricted")], &["policy", "show"]).ok();
    assert!(shown.out.starts_with("MODE") && !shown.out.contains("vm.create"), "{shown:?}");
    assert_eq!(machine.run(&["policy", "show", "loose"]).code, 2);
    assert_eq!(machine.run(&["policy", "shwo"]).code, 2);
}

#[test]
fn policy_explains_what_a_script_gets_and_what_it_asks_for_beyond() {
    let machine = Machine::new();
    let text = r#"return {
      params = { name = { type = "string" } },
      needs = { vm = { read = "*", create = "{name}", destroy = "*", power = "web-*" } },
      run = function() end,
    }"#;
    machine.file("asks.luau", text);
    machine.file("grant.yaml", "vm: {read: '*', power: web-1}\n");
    let gets = |more: &[&str]| {
        let json = machine.run(&[&["policy", "explain", "asks.luau", "--output", "json"], more].concat()).ok().json();
        let rows = json.as_array().unwrap().clone();
        move |entry: &str| {
            let row = rows.iter().find(|row| row["entry"] == entry).unwrap();
            row["gets"].as_str().unwrap().to_owned()
        }
    };
    let standard = gets(&[]);
    assert_eq!(standard("vm.read"), "all of it");
    assert_eq!(standard("vm.create"), "all of it");
    assert!(standard("vm.destroy").contains("@made only"), "{}", standard("vm.destroy"));
    assert!(gets(&["--mode", "restricted"])("vm.power").starts_with("nothing"));
    assert_eq!(gets(&["--mode", "unrestricted"])("vm.destroy"), "all of it");
    let granted = gets(&["--grant", "grant.yaml"]);
    assert!(granted("vm.power").contains("web-1 only") && granted("vm.create").contains("not granted"));

    machine.file("plain.luau", "esxi.connect()");
    let plain = machine.run(&["policy", "explain", "plain.luau"]).ok();
    assert!(plain.err.contains("what the mode standard allows") && plain.out.contains("vm.create"), "{plain:?}");
    machine.file("bad.luau", "local x = =");
    let bad = machine.run(&["policy", "explain", "bad.luau"]);
    assert!(bad.code == 2 && bad.err.contains("bad.luau:1:") && bad.out.is_empty(), "{bad:?}");
    machine.run(&["policy", "explain", "none.luau"]).failed(2, "usage.file");
}
