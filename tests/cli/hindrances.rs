//! Hosts that allow no changes, or not all of them: said before the first write, with everything else that stands in the way.

use ceso::sim::{Hindrances, Options};

use crate::support::{Machine, Sim};

const POWER_ON: &str = "VirtualMachine.Interact.PowerOn";
const FILES: &str = "Datastore.FileManagement";

fn host(hindrances: Hindrances) -> Sim {
    Sim::start(Options { hindrances, ..Options::default() })
}

fn limited(lacks: &[&str]) -> Hindrances {
    Hindrances { lacks: lacks.iter().map(|name| (*name).to_owned()).collect(), ..Hindrances::default() }
}

fn free() -> Hindrances {
    Hindrances { free_licence: true, ..Hindrances::default() }
}

/// What writes, as far as a clone, a new machine or an import does.
fn written(host: &Sim) -> u64 {
    ["MakeDirectory", "CopyVirtualDisk_Task", "CreateVM_Task", "ImportVApp"]
        .iter()
        .map(|method| host.calls(method))
        .sum()
}

#[test]
fn licence_privileges_name_template_datastore_and_network_are_told_of_at_once() {
    let machine = Machine::new();
    let host =
        host(Hindrances { free_licence: true, lacks: vec![POWER_ON.into(), FILES.into()], ..Hindrances::default() });
    let asked = ["vm", "clone", "nope", "debian-12", "--datastore", "void", "--network", "none", "--power-on"];
    let refused = machine.on(&host, &asked).failed(4, "esxi.preflight");
    for part in ["6 things", "Hypervisor", POWER_ON, FILES, "\"debian-12\" already", "\"nope\"", "\"void\"", "\"none\""]
    {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(written(&host), 0);
}

#[test]
fn a_free_licence_is_found_before_the_first_write_and_told_of_where_it_refuses() {
    let machine = Machine::new();
    let host = host(free());
    machine.run(&["vm", "export", "debian-12", "in.ova", "--host", "sim"]).ok();
    for words in [
        &["vm", "clone", "debian-12", "a"][..],
        &["vm", "create", "a", "--disk", "8 MiB"],
        &["vm", "import", "in.ova", "a"],
    ] {
        let refused = machine.on(&host, words).failed(4, "esxi.restricted_version");
        assert!(refused.err.contains("licence") && refused.err.contains("nothing was written"), "{refused:?}");
    }
    assert_eq!(written(&host), 0);
    // To another host: the one that is to be written to is looked at.
    let copied = Machine::new().user(format!(
        "hosts:\n  free:\n    url: '{}'\n    trust: {{fingerprint: '{}'}}\n    password_env: PW\n",
        host.server.url(),
        host.server.fingerprint()
    ));
    let refused =
        copied.run_with(&[("PW", "ceso")], &["vm", "copy", "debian-12", "--as", "b", "--to", "free", "--host", "sim"]);
    refused.failed(4, "esxi.restricted_version");
    assert_eq!(written(&host), 0);
    // Where nothing looks before, the host says it, and what can be read is read.
    let refused = machine.on(&host, &["vm", "power", "debian-12", "on"]).failed(4, "esxi.restricted_version");
    assert!(refused.err.contains("assign a licence"), "{refused:?}");
    machine.on(&host, &["vm", "list"]).ok();
    machine.on(&host, &["datastore", "ls", "[datastore1] debian-12"]).ok();
}

#[test]
fn a_privilege_that_is_lacking_is_named_before_the_first_write_and_where_it_is_refused() {
    let machine = Machine::new();
    let host = host(limited(&[POWER_ON]));
    let refused = machine.on(&host, &["vm", "clone", "debian-12", "a", "--power-on"]).failed(4, "esxi.no_permission");
    assert!(refused.err.contains(POWER_ON) && written(&host) == 0, "{refused:?}");
    // What does not need it is done.
    machine.on(&host, &["vm", "clone", "debian-12", "a"]).ok();
    let refused = machine.on(&host, &["vm", "power", "a", "on"]).failed(4, "esxi.no_permission");
    assert!(refused.err.contains(POWER_ON), "{refused:?}");
}

/// An import makes no file beside the machine, and is not refused for what it does not need.
#[test]
fn an_import_is_refused_for_what_it_takes_and_for_nothing_else() {
    let machine = Machine::new();
    machine.run(&["vm", "export", "debian-12", "in.ova", "--host", "sim"]).ok();
    let host = host(limited(&[FILES, "VirtualMachine.Inventory.Create"]));
    machine.on(&host, &["vm", "clone", "debian-12", "a"]).failed(4, "esxi.no_permission");
    machine.on(&host, &["vm", "import", "in.ova", "a"]).ok();
    // A folder of its name is never used, and none is made beside it.
    let host = self::host(Hindrances::default());
    machine.on(&host, &["datastore", "mkdir", "[datastore1] a"]).ok();
    machine.on(&host, &["vm", "create", "a", "--disk", "8 MiB"]).failed(4, "esxi.file_already_exists");
    machine.on(&host, &["vm", "import", "in.ova", "a"]).failed(4, "esxi.file_already_exists");
    let host = self::host(limited(&["VApp.Import"]));
    let refused = machine.on(&host, &["vm", "import", "in.ova", "a"]).failed(4, "esxi.no_permission");
    assert!(refused.err.contains("VApp.Import") && written(&host) == 0, "{refused:?}");
}

#[test]
fn lockdown_and_a_vcenter_above_are_warned_of_and_refuse_nothing() {
    let machine = Machine::new();
    let host = host(Hindrances { lockdown: true, managed_by: Some("10.0.9.9".into()), ..Hindrances::default() });
    let made = machine.on(&host, &["vm", "create", "a", "--disk", "8 MiB"]).ok();
    let told = format!("{}{}", made.out, made.err);
    for part in ["warning: ", "lockdown mode (lockdownNormal)", "vCenter at 10.0.9.9"] {
        assert!(told.contains(part), "{part}: {made:?}");
    }
}

#[test]
fn a_simulator_is_told_by_flags_what_stands_in_the_way() {
    let machine = Machine::new();
    let sim = crate::sim_flags::Started::new(
        &machine,
        &["--free-licence", "--lockdown", "--managed-by", "10.0.9.9", "--lacks", FILES],
    );
    let refused = sim.run(&machine, &["vm", "create", "a"]).failed(4, "esxi.preflight");
    assert!(refused.err.contains("licence") && refused.err.contains(FILES), "{refused:?}");
    let facts = machine.file("facts.luau", "return esxi.connect():facts()");
    let facts = sim.run(&machine, &["run", facts.to_str().unwrap(), "--output", "json"]).ok().json();
    assert_eq!((&facts["managed_by"], &facts["lockdown"]), (&"10.0.9.9".into(), &"lockdownNormal".into()), "{facts:#}");
    assert_eq!(facts["licence_restricted"], true, "{facts:#}");
    let checked = sim.run(&machine, &["host", "check", "env"]).ok();
    for part in ["the free one", "lockdown mode", "a vCenter manages this host"] {
        assert!(checked.err.contains(part), "{part}: {checked:?}");
    }
}

/// A linked clone takes next to nothing: a template that is larger than what is free is no reason to refuse it.
#[test]
fn a_linked_clone_needs_no_room_for_its_templates_disks() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    host.server.write_disk("debian-12", 0, 8 << 20, &vec![7; 4 << 20]).unwrap();
    host.server.fill(1 << 20);
    let refused = machine.on(&host, &["vm", "clone", "debian-12", "full"]).failed(4, "esxi.no_disk_space");
    assert!(refused.err.contains("are missing"), "{refused:?}");
    machine.on(&host, &["vm", "clone", "debian-12", "child", "--linked"]).ok();
}
