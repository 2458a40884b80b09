//! The same commands against vcsim, an API that is not ours; and govc sees what ceso made.

use std::process::Command;

use crate::support::{Done, Machine, done};
use crate::vcsim::{Vcsim, peer};

struct Lab {
    machine: Machine,
    vcsim: Vcsim,
    print: String,
}

impl Lab {
    fn new(arguments: &[&str]) -> Self {
        let vcsim = Vcsim::start(&[&["-username", "ops", "-password", "hunter2"], arguments].concat());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = ceso::esxi::probe_certificate(&vcsim.url, std::time::Duration::from_secs(10));
        let print = runtime.block_on(seen).unwrap().fingerprint.to_string();
        Self { machine: Machine::new(), vcsim, print }
    }

    fn with(&self, password: &str, arguments: &[&str]) -> Done {
        let variables = [
            ("CESO_URL", self.vcsim.url.as_str()),
            ("CESO_USERNAME", "ops"),
            ("CESO_PASSWORD", password),
            ("CESO_FINGERPRINT", &self.print),
        ];
        done(self.machine.command(arguments).envs(variables).output().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.with("hunter2", arguments)
    }

    fn script(&self, text: &str, arguments: &[&str]) -> Done {
        self.machine.file("script.luau", text);
        self.run(&[&["run", "script.luau"], arguments].concat())
    }

    fn govc(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(peer("bin/govc"));
        command.args(arguments).env("GOVC_URL", self.vcsim.url.as_str()).env("GOVC_INSECURE", "true");
        let home = self.machine.project();
        command
            .env("GOVC_USERNAME", "ops")
            .env("GOVC_PASSWORD", "hunter2")
            .env("HOME", home)
            .env("GOVC_PERSIST_SESSION", "false");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

const LIFE: &str = r#"
return {
  summary = "A machine's life",
  needs = {
    vm = { read = "*", create = { name = "ceso-*", max = 2 }, copy_from = "ceso-1", configure = "ceso-*", power = "ceso-*", destroy = "@made" },
    datastore = { read = "*", write = "*" }, network = { read = "*", use = "*" },
  },
  run = function()
    local host = esxi.connect()
    local stores, networks = host:datastores(), host:networks()
    local template = host:create({ name = "ceso-1", disk = "64 MiB", datastore = stores[1].name, network = networks[1].name })
    template:configure({ notes = "made by ceso", cpus = 2, memory = "512 MiB" })
    local vm = host:ensure_clone({ template = "ceso-1", name = "ceso-2", cpus = 1, memory = "256 MiB" })
    vm:ensure_guestinfo(cloudinit.build({ hostname = "ceso-2", users = { { name = "ops" } } }))
    vm:ensure_config({ extra_config = { ["SET.guest.ipAddress"] = "192.0.2.7" } })
    vm:ensure_power("on")
    local ip = vm:wait_for_ip({ timeout = "30 s" })
    local info = vm:info()
    template:destroy()
    return { name = info.name, ip = ip, cpus = info.cpus, memory = info.memory, power = info.power, left = #host:find({ name = "ceso-*" }) }
  end,
}
"#;

#[test]
#[ignore = "needs vcsim"]
fn vcsim_runs_a_playbook_from_create_to_destroy_and_govc_sees_it() {
    let lab = Lab::new(&["-vm", "1"]);
    let first = lab.script(LIFE, &["--output", "json"]).ok();
    let expected = serde_json::json!({
        "name": "ceso-2", "ip": "192.0.2.7", "cpus": 1, "memory": "256 MiB", "power": "on", "left": 1,
    });
    assert_eq!(first.json(), expected, "{first:?}");
    assert!(!first.err.contains("SIMULATOR") && first.err.contains("7 changed"), "{first:?}");
    let seen: serde_json::Value = serde_json::from_str(&lab.govc(&["vm.info", "-json", "-e", "ceso-2"])).unwrap();
    let machine = &seen["virtualMachines"][0];
    assert_eq!(machine["name"], "ceso-2");
    assert_eq!(machine["runtime"]["powerState"], "poweredOn");
    assert_eq!(machine["config"]["hardware"]["memoryMB"], 256);
    let keys = machine["config"]["extraConfig"].as_array().unwrap();
    assert!(keys.iter().any(|key| key["key"] == "guestinfo.userdata"), "{keys:?}");
    assert!(!lab.govc(&["find", "/", "-type", "m"]).contains("ceso-1"));
    let list = lab.run(&["vm", "list", "ceso-*"]).ok().out;
    assert!(list.lines().nth(1).is_some_and(|row| row.starts_with("ceso-2") && row.contains("192.0.2.7")), "{list}");
    lab.run(&["vm", "delete", "ceso-2"]).failed(3, "door.denied");
    lab.run(&["vm", "delete", "ceso-2", "--force", "--mode", "unrestricted"]).ok();
    assert!(!lab.govc(&["find", "/", "-type", "m"]).contains("ceso-2"));
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_workflows_do_what_they_do_on_the_simulator() {
    let lab = Lab::new(&["-vm", "2"]);
    lab.run(&["vm", "create", "made", "--datastore", "LocalDS_0", "--disk", "64MiB", "--power-on"]).ok();
    assert!(lab.govc(&["vm.info", "made"]).contains("poweredOn"));
    let again = lab.run(&["vm", "power", "made", "on"]).ok();
    assert!(again.err.contains("nothing changed, 1 unchanged"), "{again:?}");
    lab.run(&["vm", "power", "made", "off"]).ok();
    lab.run(&["vm", "clone", "made", "copy"]).ok();
    assert_eq!(lab.run(&["vm", "list", "--output", "json"]).ok().json().as_array().unwrap().len(), 4);
    let near = lab.run(&["vm", "info", "mad"]).failed(4, "esxi.vm_not_found");
    assert!(near.err.contains("\"made\""), "{near:?}");
    lab.run(&["vm", "create", "made", "--datastore", "LocalDS_0"]).failed(4, "esxi.duplicate_name");
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_a_machine_is_cloned_with_cloud_init_data_and_moved_to_another_address() {
    let lab = Lab::new(&["-vm", "0"]);
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops@example";
    lab.run(&["vm", "create", "made", "--datastore", "LocalDS_0", "--disk", "64MiB"]).ok();
    let first = ["--address", "10.0.1.20/24", "--gateway", "10.0.1.1", "--dns", "10.0.1.1"];
    lab.run(&[&["vm", "clone", "made", "web", "--ssh-keys", key][..], &first].concat()).ok();
    // As govc reads it, and decoded.
    let guestinfo = || {
        let seen: serde_json::Value = serde_json::from_str(&lab.govc(&["vm.info", "-json", "-e", "web"])).unwrap();
        let config = seen["virtualMachines"][0]["config"].clone();
        let get = |key: &str| {
            let all = config["extraConfig"].as_array().unwrap();
            all.iter().find(|entry| entry["key"] == key).unwrap()["value"].as_str().unwrap().to_owned()
        };
        let part = |key: &str| ceso::cloudinit::decode(&get(key), &get(&format!("{key}.encoding"))).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&part("guestinfo.metadata")).unwrap();
        (meta, part("guestinfo.userdata"), config)
    };
    let (cloned, user_data, _) = guestinfo();
    assert_eq!(cloned["local-hostname"], "web");
    assert!(cloned["network"].to_string().contains("10.0.1.20/24") && user_data.contains(key), "{cloned} {user_data}");

    let address = ["--address", "10.0.2.20/24", "--gateway", "10.0.2.1", "--dns", "10.0.2.1"];
    let reip = [&["vm", "reip", "web"][..], &address].concat();
    let moved = lab.run(&reip).ok();
    assert!(moved.err.contains("1 changed"), "{moved:?}");
    let (meta, user_data, config) = guestinfo();
    let network = meta["network"].to_string();
    assert!(network.contains("10.0.2.20/24") && !network.contains("10.0.1."), "{meta}");
    assert_ne!(meta["instance-id"], cloned["instance-id"]);
    // The account stays as the guest has it: nothing of it is said again.
    assert!(!user_data.contains(key), "{user_data}");

    let again = lab.run(&reip).ok();
    assert!(again.err.contains("nothing changed"), "{again:?}");
    assert_eq!(guestinfo().2, config);

    // vcsim's guests report what they are told to.
    lab.run(&["vm", "power", "web", "on"]).ok();
    lab.govc(&["vm.change", "-vm", "web", "-e", "SET.guest.ipAddress=10.0.3.20"]);
    let address = ["--address", "10.0.3.20/24", "--gateway", "10.0.3.1", "--restart", "--wait-timeout", "30 s"];
    let restarted = lab.run(&[&["vm", "reip", "web"][..], &address].concat()).ok();
    assert_eq!(restarted.out, "name  web\nip    10.0.3.20\n", "{restarted:?}");
    assert!(lab.govc(&["vm.info", "web"]).contains("poweredOn"));
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_machines_of_one_name_are_an_error_that_lists_both() {
    let lab = Lab::new(&["-vm", "0"]);
    for folder in ["twin-a", "twin-b"] {
        lab.govc(&["vm.create", "-on=false", "-ds", "LocalDS_0", "-disk", "1MB", folder]);
    }
    lab.govc(&["vm.change", "-vm", "twin-b", "-name", "twin-a"]);
    let failed = lab.run(&["vm", "info", "twin-a"]).failed(4, "esxi.ambiguous");
    assert!(failed.err.contains("twin-a/twin-a.vmx") && failed.err.contains("twin-b/twin-b.vmx"), "{failed:?}");
    lab.run(&["vm", "delete", "twin-a", "--mode", "unrestricted"]).failed(4, "esxi.ambiguous");
    assert_eq!(lab.run(&["vm", "list", "--output", "json"]).ok().json().as_array().unwrap().len(), 2);
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_wrong_password_is_told_once_and_never_printed() {
    let lab = Lab::new(&[]);
    let failed = lab.with("hunter3", &["vm", "list", "--verbose"]).failed(4, "esxi.invalid_login");
    assert!(!failed.err.contains("hunter3") && failed.out.is_empty(), "{failed:?}");
}

#[test]
#[ignore = "needs vcsim"]
fn vcsim_session_that_expires_in_the_middle_of_a_playbook_is_renewed() {
    let lab = Lab::new(&["-vm", "1", "-idle", "2s"]);
    let text = "local host = esxi.connect()\nlocal a = #host:find({ name = '*' })\n\
                require('@ceso/task').sleep('5 s')\nlocal vm = host:find({ name = '*' })[1]\nvm:ensure_power('off')\nreturn a";
    let run = lab.script(text, &[]).ok();
    assert_eq!(run.out, "1\n", "{run:?}");
    assert!(run.err.contains("1 changed"), "{run:?}");
}
