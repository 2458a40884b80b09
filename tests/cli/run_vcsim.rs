//! The same commands against vcsim, an API that is not ours; and govc sees what ceso made.

use std::process::Command;

use crate::support::{Done, Machine, done};
use crate::vcsim::{Vcsim, peer};

struct Lab {
    machine: Machine,
    vcsim: Vcsim,
    print: String,
    /// The datacenter that is meant, where it is a vCenter.
    datacenter: Option<&'static str>,
}

impl Lab {
    fn new(arguments: &[&str]) -> Self {
        Self::of(Vcsim::start(&[&["-username", "ops", "-password", "hunter2"], arguments].concat()))
    }

    /// vcsim as a vCenter.
    fn vcenter(arguments: &[&str]) -> Self {
        Self::of(Vcsim::vcenter(&[&["-username", "ops", "-password", "hunter2"], arguments].concat()))
    }

    fn of(vcsim: Vcsim) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = ceso::esxi::probe_certificate(&vcsim.url, std::time::Duration::from_secs(10));
        let print = runtime.block_on(seen).unwrap().fingerprint.to_string();
        Self { machine: Machine::new(), vcsim, print, datacenter: None }
    }

    fn with(&self, password: &str, arguments: &[&str]) -> Done {
        let variables = [
            ("CESO_URL", self.vcsim.url.as_str()),
            ("CESO_USERNAME", "ops"),
            ("CESO_PASSWORD", password),
            ("CESO_FINGERPRINT", &self.print),
        ];
        let datacenter = self.datacenter.map(|name| ("CESO_DATACENTER", name));
        done(self.machine.command(arguments).envs(variables).envs(datacenter).output().unwrap())
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

const VCENTER_LIFE: &str = r#"
return {
  summary = "A machine's life on a vCenter",
  needs = {
    host = { read = "*" },
    vm = { read = "*", create = { name = "ceso-*", max = 2 }, copy_from = "ceso-1", configure = "ceso-*", power = "ceso-*", migrate = "ceso-*", destroy = "@made" },
    datastore = { read = "*", write = "*" }, network = { read = "*", use = "*" },
  },
  run = function()
    local host = esxi.connect()
    local store = host:datastores()[1].name
    local template = host:create({ name = "ceso-1", disk = "64 MiB", datastore = store, network = "DC0_DVPG0", folder = "prod", place = "DC0_C0" })
    local vm = host:ensure_clone({ template = "ceso-1", name = "ceso-2", cpus = 1, memory = "256 MiB" })
    vm:ensure_guestinfo(cloudinit.build({ hostname = "ceso-2", users = { { name = "ops" } } }))
    vm:ensure_config({ extra_config = { ["SET.guest.ipAddress"] = "192.0.2.7" } })
    vm:ensure_power("on")
    local ip = vm:wait_for_ip({ timeout = "30 s" })
    vm:migrate({ place = "DC0_H0", folder = "/" })
    local info = vm:info()
    template:destroy()
    local moved = host:vm("ceso-2")
    local shut, why = pcall(function() host:health() end)
    return { ip = ip, cpus = info.cpus, network = info.nics[1].network, runs_on = info.runs_on, folder = moved.folder, shut = shut or why.kind }
  end,
}
"#;

#[test]
#[ignore = "needs vcsim"]
fn vcsim_vcenter_runs_a_playbook_from_create_to_destroy_and_govc_sees_it() {
    let lab = Lab::vcenter(&["-vm", "1"]);
    lab.govc(&["folder.create", "/DC0/vm/prod"]);
    let run = lab.script(VCENTER_LIFE, &["--output", "json"]).ok();
    let expected = serde_json::json!({
        "ip": "192.0.2.7", "cpus": 1, "network": "DC0_DVPG0", "runs_on": "DC0_H0", "folder": "", "shut": "esxi.needs_host",
    });
    assert_eq!(run.json(), expected, "{run:?}");
    let there = lab.govc(&["find", "/", "-type", "m"]);
    assert!(there.contains("/DC0/vm/ceso-2") && !there.contains("ceso-1"), "{there}");
    let list = lab.run(&["vm", "list", "ceso-*"]).ok().out;
    assert!(list.contains("DC0_H0") && list.contains("192.0.2.7"), "{list}");
    // Nothing is chosen where there is a choice, and the choice is told.
    let failed = lab.run(&["vm", "create", "ceso-3", "--network", "VM Network"]).failed(4, "esxi.place");
    assert!(failed.err.contains("DC0_C0, DC0_H0"), "{failed:?}");
    lab.run(&["vm", "create", "ceso-3", "--place", "DC0_C0/DC0_C0_H1", "--folder", "prod"]).ok();
    assert!(lab.govc(&["find", "/DC0/vm/prod", "-type", "m"]).contains("ceso-3"));
    lab.run(&["vm", "clone", "ceso-3", "ceso-4", "--folder", "/"]).ok();
    assert!(lab.govc(&["find", "/DC0/vm", "-type", "m"]).contains("/DC0/vm/ceso-4"));
}

const CLONES: &str = r#"
local host = esxi.connect()
local vm = host:vm("DC0_H0_VM0")
local before = vm:snapshot({ name = "before" })
-- What the snapshot holds is on its own network, whatever becomes of the machine.
vm:ensure_nic({ nic = vm:info().nics[1].label, network = "VM Network" })
local function told(made)
  local info = made:info()
  return { network = info.nics[1].network, runs_on = info.runs_on, cluster = info.cluster, folder = host:vm(info.name).folder }
end
return {
  same = told(before:clone({ name = "ceso-same" })),
  moved = told(before:clone({ name = "ceso-moved", network = "VM Network", folder = "prod", place = "DC0_C0/DC0_C0_H1" })),
  nowhere = select(2, pcall(before.clone, before, { name = "ceso-none", folder = "none" })).kind,
}
"#;

#[test]
#[ignore = "needs vcsim"]
fn vcsim_vcenter_clones_what_a_snapshot_holds_with_its_port_group() {
    let lab = Lab::vcenter(&["-vm", "1"]);
    lab.govc(&["folder.create", "/DC0/vm/prod"]);
    let run = lab.script(CLONES, &["--mode", "standard", "--output", "json"]).ok();
    let expected = serde_json::json!({
        "same": { "network": "DC0_DVPG0", "runs_on": "DC0_H0", "folder": "" },
        "moved": { "network": "VM Network", "runs_on": "DC0_C0_H1", "cluster": "DC0_C0", "folder": "prod" },
        "nowhere": "esxi.place",
    });
    assert_eq!(run.json(), expected, "{run:?}");
    let there = lab.govc(&["find", "/DC0/vm", "-type", "m"]);
    assert!(there.contains("/DC0/vm/prod/ceso-moved") && !there.contains("ceso-none"), "{there}");
}

const OFF: &str = "return { summary = 'off', needs = { vm = { read = '*', power = { 'web-1' } } }, run = function()\n\
                   local host = esxi.connect()\n\
                   for _, vm in host:vms() do pcall(function() vm:ensure_power('off') end) end\n\
                   host:vm('web-1'):ensure_power('off')\nend }";

#[test]
#[ignore = "needs vcsim"]
fn vcsim_vcenter_name_that_is_shared_lets_no_script_touch_the_other() {
    let mut lab = Lab::vcenter(&["-vm", "1", "-dc", "2"]);
    let failed = lab.run(&["vm", "list"]).failed(4, "esxi.datacenter");
    assert!(failed.err.contains("DC0, DC1"), "{failed:?}");
    lab.govc(&["folder.create", "/DC0/vm/prod", "/DC0/vm/test"]);
    let make = |lab: &Lab, datacenter: &str, folder: &str, name: &str| {
        let (dc, pool) = (format!("-dc={datacenter}"), format!("{datacenter}_H0/Resources"));
        lab.govc(&[
            "vm.create",
            &dc,
            "-pool",
            &pool,
            "-folder",
            folder,
            "-ds",
            "LocalDS_0",
            "-net",
            "VM Network",
            "-disk",
            "1MB",
            name,
        ]);
    };
    let runs = |lab: &Lab, path: &str| lab.govc(&["vm.info", "-vm.ipath", path]).contains("poweredOn");
    make(&lab, "DC0", "/DC0/vm/prod", "web-1");
    make(&lab, "DC1", "/DC1/vm", "web-1");

    // In the one datacenter the name means its machine, and nothing of the other's is even seen.
    lab.datacenter = Some("DC0");
    lab.script(OFF, &[]).ok();
    assert!(!runs(&lab, "/DC0/vm/prod/web-1") && runs(&lab, "/DC1/vm/web-1"));
    assert!(runs(&lab, "/DC0/vm/DC0_H0_VM0"));

    // Within it, what two folders share means neither; a table that allows the name allows neither of them.
    lab.run(&["vm", "power", "web-1", "on"]).ok();
    make(&lab, "DC0", "/DC0/vm/test", "web-9");
    lab.govc(&["vm.change", "-dc=DC0", "-vm", "/DC0/vm/test/web-9", "-name", "web-1"]);
    let failed = lab.script(OFF, &[]).failed(4, "esxi.ambiguous");
    assert!(failed.err.contains("/prod/web-1") && failed.err.contains("/test/web-1"), "{failed:?}");
    assert!(runs(&lab, "/DC0/vm/prod/web-1") && runs(&lab, "/DC0/vm/test/web-1") && runs(&lab, "/DC1/vm/web-1"));
    lab.run(&["vm", "power", "/test/web-1", "off"]).ok();
    assert!(runs(&lab, "/DC0/vm/prod/web-1") && !runs(&lab, "/DC0/vm/test/web-1") && runs(&lab, "/DC1/vm/web-1"));
    // A new machine does not become the third.
    lab.run(&["vm", "create", "web-1", "--place", "DC0_H0"]).failed(4, "esxi.duplicate_name");

    // As configured hosts the datacenters are told apart by their names, in tables too.
    for name in ["DC0", "DC1"] {
        let host = name.to_lowercase();
        let add = [
            "host",
            "add",
            &host,
            lab.vcsim.url.as_str(),
            "--username",
            "ops",
            "--fingerprint",
            &lab.print,
            "--datacenter",
            name,
        ];
        lab.machine.run(&add).ok();
    }
    let listed = lab.machine.run(&["host", "list", "--output", "json"]).ok();
    assert!(listed.out.contains("DC1"), "{listed:?}");
    lab.machine.file("other.luau", "return { summary = 'x', needs = { host = { connect = 'dc0' }, vm = { read = '*' } }, run = function() esxi.connect('dc1') end }");
    lab.machine.run(&["run", "other.luau", "--host", "dc0"]).failed(3, "door.denied");
}
