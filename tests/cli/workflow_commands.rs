//! The workflows that ship with ceso: `vm list`, `info`, `create`, `clone`, `delete`, `power`, on the simulator.

use ceso::sim::Options;

use crate::support::{Done, Machine, Sim};

fn vm(machine: &Machine, arguments: &[&str]) -> Done {
    machine.run(&[&["--host", "sim", "vm"], arguments].concat())
}

#[test]
fn workflow_commands_see_what_others_made() {
    let machine = Machine::new();
    let made =
        vm(&machine, &["create", "test", "--cpus", "2", "--memory", "2 GiB", "--disk", "1 GiB", "--notes", "mine"])
            .ok();
    assert!(
        made.out.starts_with("name") && made.err.contains("SIMULATOR") && made.err.contains("1 changed\n"),
        "{made:?}"
    );
    let info = vm(&machine, &["info", "test"]).ok();
    assert!(info.out.contains(" Hard disk 1 (") && info.out.contains("size 1 GiB, thin yes"), "{info:?}");
    assert!(!info.out.contains('{'), "nothing is shown as JSON: {info:?}");
    assert_eq!(vm(&machine, &["info", "test", "--output", "json"]).ok().json()["memory"], "2 GiB");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let address = ["--address", "10.0.1.20/24", "--gateway", "10.0.1.1"];
    let cloned =
        vm(&machine, &[&["clone", "debian-12", "web", "--wait", "--ssh-keys", key], &address[..]].concat()).ok();
    assert_eq!(cloned.out, "name  web\nip    10.0.1.20\n");
    vm(&machine, &["power", "test", "on"]).ok();
    let told = vm(&machine, &["power", "test", "on", "--verbose"]).ok();
    assert!(told.err.contains("  unchanged: vm.ensure_power test\n") && told.err.contains("\nrun 0"), "{told:?}");
    let again = vm(&machine, &["power", "test", "on"]).ok();
    assert!(again.err.contains("nothing changed, 1 unchanged"), "{again:?}");
    let list = vm(&machine, &["list", "--power", "on"]).ok().out;
    assert_eq!(list.lines().count(), 3, "{list}");
    assert_eq!(vm(&machine, &["list", "we*", "--output", "json"]).ok().json()[0]["ip"], "10.0.1.20");
    assert_eq!(vm(&machine, &["list", "no*"]).ok().out, "(none)\n");
    assert_eq!(vm(&machine, &["list", "no*", "--output", "json"]).ok().out, "[]\n");
    vm(&machine, &["delete", "test", "--force"]).failed(3, "door.denied");
    let still = vm(&machine, &["info", "test", "--output", "json"]).ok().json();
    assert_eq!(still["power"], "on", "what may not be deleted is not turned off either");
    vm(&machine, &["delete", "test", "--mode", "unrestricted"]).failed(4, "esxi.invalid_power_state");
    let deleted = vm(&machine, &["delete", "test", "--force", "--mode", "unrestricted"]).ok();
    assert!(deleted.err.contains("1 changed\n") && !deleted.err.contains("failed"), "{deleted:?}");
    vm(&machine, &["info", "test"]).failed(4, "esxi.vm_not_found");
}

/// What was asked for cannot be meant: that is told as any wrong use of a command, and nothing was done.
#[test]
fn a_command_that_cannot_be_meant_is_told_as_wrong_use() {
    let machine = Machine::new();
    for (words, what) in [
        (&["vm", "snapshot", "remove", "debian-12"][..], "--all"),
        (&["vm", "nic", "set", "debian-12", "Network adapter 1", "--connect", "--disconnect"], "--disconnect"),
        (&["vm", "disk", "add", "debian-12"], "--size"),
        (&["vm", "configure", "debian-12", "--secure-boot", "maybe"], "neither on nor off"),
        (&["host", "autostart", "set", "--on", "--off"], "--off"),
        (&["vm", "clone", "debian-12", "a", "--gateway", "10.0.0.1"], "--address"),
        (&["catalog", "show"], "--backup"),
    ] {
        let done = machine.run(&[words, &["--host", "sim"]].concat()).failed(2, "usage.script");
        assert!(done.err.contains(what) && !done.err.contains(".luau"), "{done:?}");
    }
}

#[test]
fn workflow_commands_in_restricted_mode_read_and_change_nothing() {
    let host = Sim::start(Options { vms: 2, ..Options::default() });
    let machine = Machine::new();
    let restricted = |arguments: &[&str]| {
        let mut variables = host.variables();
        variables.push(("CESO_SECURITY_MODE", "restricted".to_owned()));
        crate::support::done(machine.command(arguments).envs(variables).output().unwrap())
    };
    assert!(restricted(&["vm", "list"]).ok().out.contains("vm-0002"));
    let before = host.server.requests();
    for (arguments, entry) in [
        (&["vm", "create", "test"][..], "vm = { create = \"test\" }"),
        (&["vm", "clone", "debian-12", "test"], "vm = { copy_from = \"debian-12\" }"),
        (&["vm", "power", "vm-0001", "off"], "vm = { power = \"vm-0001\" }"),
        (&["vm", "delete", "vm-0001"], "vm = { destroy = \"vm-0001\" }"),
    ] {
        let denied = restricted(arguments).failed(3, "door.denied");
        assert!(denied.err.contains(entry) && denied.out.is_empty(), "{denied:?}");
    }
    let after = host.server.requests();
    let changing = |name: &&String| name.ends_with("_Task") || name.starts_with("Create") && name.contains("VM");
    assert_eq!(after.keys().filter(changing).count(), 0, "{before:?} {after:?}");
    let list = machine.on(&host, &["vm", "list"]).ok();
    assert!(
        list.out.contains("vm-0001") && list.err.contains("SIMULATOR"),
        "a simulator with an address says so too: {list:?}"
    );
}

#[test]
fn workflow_commands_name_the_nearest_of_what_they_do_not_find() {
    let machine = Machine::new();
    vm(&machine, &["create", "web-1", "--disk", "1GiB"]).ok();
    for (arguments, kind, near) in [
        (&["info", "web-2"][..], "esxi.vm_not_found", "\"web-1\""),
        (&["power", "wbe-1", "on"], "esxi.vm_not_found", "\"web-1\""),
        (&["delete", "web", "--mode", "unrestricted"], "esxi.vm_not_found", "\"web-1\""),
        (&["clone", "debian-13", "x"], "esxi.vm_not_found", "\"debian-12\""),
        (&["create", "x", "--datastore", "datastore2"], "esxi.datastore_not_found", "\"datastore1\""),
        (&["create", "x", "--network", "VM Netwrok"], "esxi.network_not_found", "\"VM Network\""),
    ] {
        let failed = vm(&machine, arguments).failed(4, kind);
        assert!(failed.err.contains(&format!("did you mean {near}?")), "{failed:?}");
    }
    vm(&machine, &["create", "web-1"]).failed(4, "esxi.duplicate_name");
    vm(&machine, &["create", "a/b"]).failed(2, "usage.name");
    let wrong = vm(&machine, &["clone", "debian-12", "x", "--memory", "lots", "--cpus", "x"]).failed(2, "usage.param");
    assert!(
        wrong.err.contains("ceso vm clone --help") && wrong.err.contains("cpus") && wrong.err.contains("memory"),
        "{wrong:?}"
    );
    assert_eq!(vm(&machine, &["power", "web-1"]).code, 2);
    assert_eq!(vm(&machine, &["power", "web-1", "onn"]).code, 2);
    assert_eq!(vm(&machine, &["list", "--colour"]).code, 2);
}

#[test]
fn workflow_commands_and_unknown_words_are_told_with_the_nearest() {
    let machine = Machine::new();
    for (words, near) in [("vm lst", "ceso vm list"), ("rum", "ceso run"), ("polcy", "ceso policy"), ("vm", "vm clone")]
    {
        let done = machine.run(&words.split(' ').collect::<Vec<_>>());
        assert!(done.code == 2 && (done.err.contains(near) || done.out.contains(near)), "{done:?}");
    }
    machine.run(&["xyzzy"]).failed(2, "usage.command");
    let help = machine.run(&["vm", "clone", "--help"]).ok();
    for flag in ["<TEMPLATE>", "--ssh-keys", "--wait-timeout", "[default: ops]", "--host", "--output"] {
        assert!(help.out.contains(flag), "{flag}: {help:?}");
    }
    assert_eq!(machine.run(&["help", "vm", "clone"]).ok().out, help.out);
    assert!(machine.run(&["help", "run"]).ok().out.contains("Usage: ceso run"));
    assert!(machine.run(&["vm", "--help"]).ok().words().contains("vm power Turn a virtual machine on or off"));
}

#[test]
fn workflow_help_needs_no_configuration_that_is_right() {
    let machine = Machine::new().user("security: [\n");
    for words in [&["--help"][..], &["vm", "--help"], &["vm", "list", "--help"], &["run", "--help"]] {
        let help = machine.run(words).ok();
        assert!(help.out.contains("Usage: ceso"), "{help:?}");
    }
    let help = machine.run(&["--help"]).ok();
    assert!(help.out.contains("vm list") && help.err.contains("config.yaml"), "{help:?}");
    machine.run(&["vm", "list"]).failed(2, "config.syntax");
}

#[test]
fn workflow_without_a_host_fails_and_names_both_ways() {
    let failed = Machine::new().run(&["vm", "list"]).failed(2, "usage.no_host");
    assert!(
        failed.err.contains("ceso host add") && failed.err.contains("--host sim") && failed.out.is_empty(),
        "{failed:?}"
    );
    assert!(!failed.err.contains("SIMULATOR"));
}

/// A declaration that is no command's is refused when it is called, and only then.
#[test]
fn every_workflow_that_comes_with_ceso_is_a_command() {
    let (machine, mut seen) = (Machine::new(), 0);
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/workflows"))];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let words = path.with_extension("");
            let words = words.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/workflows")).unwrap();
            let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).chain(["--help"]).collect();
            machine.run(&words).ok();
            seen += 1;
        }
    }
    assert!(seen > 70, "{seen}");
}
