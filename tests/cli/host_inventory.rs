//! `ceso host inventory save` and `ceso sim --from`: a host's inventory goes into the simulator, and answers there as it did.

use std::process::Command;

use ceso::inventory::Inventory;
use ceso::sim::{Options, Server};
use serde_json::Value;

use crate::support::{Machine, Sim};
use crate::vcsim::{Vcsim, peer};

/// What differs from one moment to the next, or is the simulator's own to choose.
const PASSING: &[&str] = &["uptime", "host_name"];

fn without_passing(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !PASSING.contains(&name.as_str()));
            fields.values_mut().for_each(|own| *own = without_passing(own.take()));
        }
        Value::Array(rows) => rows.iter_mut().for_each(|row| *row = without_passing(row.take())),
        _ => {}
    }
    value
}

/// Everything that lists and infos tell of a host.
fn told(ask: &dyn Fn(&[&str]) -> Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut add = |words: &[&str]| {
        let found = without_passing(ask(words));
        all.push((words.join(" "), found.clone()));
        found
    };
    let machines = add(&["vm", "list"]);
    add(&["datastore", "list"]);
    add(&["network", "list"]);
    for row in machines.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        add(&["vm", "info", name]);
        add(&["vm", "snapshot", "list", name]);
    }
    all
}

fn ask_sim<'a>(machine: &'a Machine, host: &'a Sim) -> impl Fn(&[&str]) -> Value + 'a {
    move |words| machine.on(host, &[words, &["--output", "json"]].concat()).ok().json()
}

fn loaded(text: &[u8]) -> Sim {
    let inventory = Some(Inventory::read(text).unwrap());
    Sim::start(Options { inventory, ..Options::default() })
}

fn furnished() -> (Machine, Sim) {
    let host = Sim::start(Options { vms: 3, capacity: Some(3 << 30), ..Options::default() });
    let machine = Machine::new();
    let script = "local host = esxi.connect()\n\
        host:add_port_group({ name = 'lab', vlan = 42 })\n\
        host:mount_nfs({ name = 'isos', server = '10.0.1.5', path = '/isos', read_only = true })\n\
        local web = host:clone({ template = 'debian-12', name = 'web', cpus = 2, notes = 'a \\u{e9}', network = 'lab' })\n\
        web:set_guestinfo(cloudinit.build({ hostname = 'hidden-in-guestinfo' }))\n\
        web:add_disk({ size = '3 GiB' })\n\
        web:snapshot({ name = 'one' }) web:snapshot({ name = 'two', description = 'second' })\n\
        web:power_on() web:wait_for_ip({ timeout = '1 min' })";
    machine.file("furnish.luau", script);
    machine.on(&host, &["run", "furnish.luau", "--mode", "unrestricted"]).ok();
    (machine, host)
}

#[test]
fn a_saved_inventory_answers_in_the_simulator_as_it_did_and_holds_no_secret() {
    let (machine, host) = furnished();
    let saved = machine.on(&host, &["host", "inventory", "save", "lab.json", "--output", "json"]).ok().json();
    assert_eq!(
        (&saved["machines"], &saved["datastores"], &saved["networks"]),
        (&5.into(), &2.into(), &2.into()),
        "{saved}"
    );
    assert!(saved["left_out"].as_str().unwrap().contains("guestinfo"), "{saved}");
    let text = std::fs::read(machine.project().join("lab.json")).unwrap();
    let whole = String::from_utf8(text.clone()).unwrap();
    assert!(!whole.contains("guestinfo.") && !whole.contains("userdata"), "{whole}");
    let again = machine.on(&host, &["host", "inventory", "save", "lab.json"]);
    assert!(again.err.contains("error[local.file_exists]"), "{again:?}");

    let copy = loaded(&text);
    let other = Machine::new();
    let (before, after) = (told(&ask_sim(&machine, &host)), told(&ask_sim(&other, &copy)));
    for ((words, was), (_, is)) in before.iter().zip(&after) {
        let (mut was, mut is) = (was.clone(), is.clone());
        // What was left out is not there.
        for value in [&mut was, &mut is] {
            if let Some(fields) = value.as_object_mut() {
                fields.remove("extra_config");
            }
        }
        assert_eq!(was, is, "{words}");
    }
    assert_eq!(before.len(), after.len());
    // A file that was loaded saves as itself.
    other.on(&copy, &["host", "inventory", "save", "again.json"]).ok();
    let twice: Value = serde_json::from_slice(&std::fs::read(other.project().join("again.json")).unwrap()).unwrap();
    let once: Value = serde_json::from_slice(&text).unwrap();
    for part in ["machines", "datastores", "networks"] {
        assert_eq!(once[part], twice[part], "{part}");
    }
}

/// A file of facts holds no contents: the disks of machines that were loaded have their sizes and their chains, a system that boots, and
/// nothing else. What lies on another datastore is listed alone, and who wants more of it is told so.
#[test]
fn the_disks_of_a_loaded_inventory_have_their_sizes_and_a_system_that_boots_and_no_content() {
    let (machine, host) = furnished();
    host.server.write_disk("debian-12", 0, 64 << 20, &[7; 512]).unwrap();
    machine.on(&host, &["host", "inventory", "save", "lab.json"]).ok();
    let text = std::fs::read_to_string(machine.project().join("lab.json")).unwrap();
    let copy = loaded(text.replace("[datastore1] vm-0003/", "[isos] vm-0003/").as_bytes());
    let on = |words: &[&str]| machine.on(&copy, &[words, &["--mode", "unrestricted", "--output", "json"]].concat());
    let before = ["debian-12", "web"].map(|name| on(&["vm", "info", name]).ok().json());
    assert_eq!(copy.server.read_disk("debian-12", 0, 64 << 20, 512).unwrap(), [0; 512]);
    for (disk, size) in [("debian-12/debian-12.vmdk", "2 GiB"), ("web/web_1.vmdk", "3 GiB")] {
        let told = on(&["datastore", "disk", "info", &format!("[datastore1] {disk}")]).ok().json();
        assert_eq!(told["size"], size, "{told:#}");
    }
    assert_eq!(
        ["debian-12", "web"].map(|name| on(&["vm", "info", name]).ok().json()),
        before,
        "made, and told as before"
    );
    // A playbook finds its template, and what it makes of it boots.
    machine.file("use.luau", "local vm = esxi.connect():clone({ template = 'debian-12', name = 'new' })\nvm:power_on()\nreturn { ip = vm:wait_for_ip() }");
    assert!(on(&["run", "use.luau"]).ok().json()["ip"].is_string());
    on(&["vm", "export", "debian-12", "out.ova"]).ok();
    // A chain of snapshots is one: it goes back and is merged.
    on(&["vm", "snapshot", "revert", "web", "one"]).ok();
    on(&["vm", "snapshot", "remove", "web", "--all"]).ok();
    assert_eq!(on(&["vm", "info", "web"]).ok().json()["disks"][0]["parent"], Value::Null);
    let listed = on(&["vm", "list"]).ok().json();
    for words in [&["vm", "clone", "vm-0003", "b"][..], &["datastore", "disk", "info", "[isos] vm-0003/vm-0003.vmdk"]] {
        let refused = on(words);
        assert!(
            refused.code == 4 && refused.err.contains("error[esxi.") && !refused.err.contains("Left behind"),
            "{refused:?}"
        );
    }
    assert_eq!(on(&["vm", "list"]).ok().json(), listed);
}

#[test]
fn a_loaded_inventory_has_the_size_that_was_asked_for() {
    let (machine, host) = furnished();
    let saved = machine.project().join("saved.json");
    machine.on(&host, &["host", "inventory", "save", "saved.json"]).ok();
    let text = std::fs::read(saved).unwrap();
    let free = |host: &Sim| {
        let listed = machine.on(host, &["datastore", "list", "--output", "json"]).ok().json();
        let own = listed.as_array().unwrap().iter().find(|row| row["name"] == "datastore1").unwrap().clone();
        (own["capacity"].as_str().unwrap().to_owned(), own["free"].as_str().unwrap().to_owned())
    };
    assert_eq!(free(&loaded(&text)).0, "3 GiB");
    let inventory = Some(Inventory::read(&text).unwrap());
    let sized = Sim::start(Options { inventory, capacity: Some(1 << 30), ..Options::default() });
    assert_eq!(free(&sized).0, "1 GiB");
    machine.on(&sized, &["vm", "create", "large", "--disk", "8 MiB"]).ok();
    let thick = ["vm", "disk", "add", "large", "--size", "2 GiB", "--provisioning", "thick"];
    machine.on(&sized, &thick).failed(4, "esxi.no_disk_space");
}

#[test]
fn a_simulator_begins_with_a_good_file_alone() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    machine.on(&host, &["host", "inventory", "save", "lab.json"]).ok();
    let text = std::fs::read_to_string(machine.project().join("lab.json")).unwrap();
    for (name, content) in [("cut.json", &text[..text.len() / 2]), ("empty.json", ""), ("list.json", "[]")] {
        machine.file(name, content);
        machine.run(&["sim", "--from", name]).failed(4, "sim.inventory");
    }
    machine.run(&["sim", "--from", "missing.json"]).failed(4, "sim.inventory");
    // Nothing is loaded over what is there.
    let options = |state: &std::path::Path| Options {
        inventory: Some(Inventory::read(text.as_bytes()).unwrap()),
        state: Some(state.to_owned()),
        ..Options::default()
    };
    let folder = tempfile::tempdir().unwrap();
    host.runtime.block_on(async {
        Server::start(options(folder.path())).await.unwrap().stop().await;
        let fault = Server::start(options(folder.path())).await.unwrap_err();
        assert_eq!(fault.kind(), "sim.state");
        let kept = Server::start(Options { inventory: None, ..options(folder.path()) }).await.unwrap();
        assert_eq!(kept.machines().len(), 1, "what was loaded is kept");
        kept.stop().await;
    });
}

fn govc(url: &str, words: &[&str]) -> Vec<String> {
    let mut command = Command::new(peer("bin/govc"));
    command.args(words).env("GOVC_URL", url).env("GOVC_INSECURE", "1").env("GOVC_PERSIST_SESSION", "false");
    let output = command.output().unwrap();
    assert!(output.status.success(), "govc {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // The rest is when it booted, and numbers that each host gives out itself.
    let kept = text.lines().filter(|line| !line.contains("UUID:") && !line.contains("Boot time:"));
    kept.map(str::to_owned).collect()
}

#[test]
#[ignore = "needs govc"]
fn govc_is_told_the_same_of_an_inventory_that_was_loaded() {
    let (machine, host) = furnished();
    machine.on(&host, &["host", "inventory", "save", "lab.json"]).ok();
    let copy = loaded(&std::fs::read(machine.project().join("lab.json")).unwrap());
    let url = |host: &Sim| format!("https://root:ceso@{}", host.server.address());
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    for words in [
        &["ls", "vm"][..],
        &["ls", "datastore"],
        &["ls", "network"],
        &["vm.info", "web", "debian-12", "vm-0002"],
        &["device.ls", "-vm", "web"],
        &["device.info", "-vm", "web", "disk-*"],
        &["snapshot.tree", "-vm", "web"],
        &["host.portgroup.info"],
    ] {
        assert_eq!(sorted(govc(&url(&host), words)), sorted(govc(&url(&copy), words)), "{words:?}");
    }
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_inventory_is_saved_and_loaded() {
    let vcsim = Vcsim::start(&["-vm", "3"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pinned =
        runtime.block_on(ceso::esxi::probe_certificate(&vcsim.url, std::time::Duration::from_secs(10))).unwrap();
    let (machine, fingerprint) = (Machine::new(), pinned.fingerprint.to_string());
    let variables = [
        ("CESO_URL", vcsim.url.as_str()),
        ("CESO_USERNAME", "user"),
        ("CESO_PASSWORD", "pass"),
        ("CESO_FINGERPRINT", fingerprint.as_str()),
    ];
    let ask = |words: &[&str]| machine.run_with(&variables, &[words, &["--output", "json"]].concat()).ok().json();
    let saved = ask(&["host", "inventory", "save", "vcsim.json"]);
    assert_eq!(saved["skipped"], serde_json::json!([]), "{saved}");
    let copy = loaded(&std::fs::read(machine.project().join("vcsim.json")).unwrap());
    let other = Machine::new();
    for list in ["vm", "datastore", "network"] {
        let (was, is) = (ask(&[list, "list"]), ask_sim(&other, &copy)(&[list, "list"]));
        assert_eq!(without_passing(was), without_passing(is), "{list}");
    }
}
