//! Hardware as a person and a playbook change it: what fits is changed, what does not is refused before the host is asked.

use serde_json::json;

use crate::support::{Done, Machine};

fn sim(machine: &Machine, words: &[&str]) -> Done {
    machine.run(&[words, &["--host", "sim", "--output", "json"]].concat())
}

fn run(machine: &Machine, script: &str) -> serde_json::Value {
    machine.file("hardware.luau", script);
    sim(machine, &["run", "--mode", "unrestricted", "hardware.luau"]).ok().json()
}

#[test]
fn processors_memory_firmware_guest_and_tags_are_changed_once() {
    let machine = Machine::new();
    sim(&machine, &["vm", "create", "a", "--disk", "8 MiB"]).ok();
    let change = &[
        "vm",
        "configure",
        "a",
        "--cpus",
        "4",
        "--cores-per-socket",
        "2",
        "--memory",
        "2 GiB",
        "--cpu-hot-add",
        "on",
        "--memory-hot-add",
        "on",
        "--firmware",
        "efi",
        "--secure-boot",
        "on",
        "--guest",
        "debian12_64Guest",
        "--notes",
        "mine",
        "--tags",
        "web,team:ops,web",
    ];
    let first = sim(&machine, change).ok();
    let told = first.json();
    assert_eq!((&told["cpus"], &told["cores_per_socket"], &told["memory"]), (&json!(4), &json!(2), &json!("2 GiB")));
    assert_eq!((&told["firmware"], &told["secure_boot"]), (&json!("efi"), &json!(true)));
    assert_eq!((&told["cpu_hot_add"], &told["memory_hot_add"]), (&json!(true), &json!(true)));
    assert_eq!((&told["guest"], &told["notes"]), (&json!("debian12_64Guest"), &json!("mine")));
    assert_eq!(told["tags"], json!(["team:ops", "web"]));
    assert!(first.err.contains("1 changed"), "{first:?}");
    let again = sim(&machine, change).ok();
    assert!(again.err.contains("nothing changed"), "{again:?}");
    sim(&machine, &["vm", "power", "a", "on"]).ok();
    // What hot-add allows is done, what it does not is refused before the host is asked.
    assert_eq!(sim(&machine, &["vm", "configure", "a", "--cpus", "8", "--memory", "4 GiB"]).ok().json()["cpus"], 8);
    for (words, what) in [
        (&["--cpus", "4"][..], "processors can only be added"),
        (&["--memory", "1 GiB"], "memory can only be added"),
        (&["--firmware", "bios", "--secure-boot", "off"], "firmware cannot be changed"),
        (&["--guest", "otherGuest64"], "guest cannot be changed"),
        (&["--cores-per-socket", "4"], "cores_per_socket cannot be changed"),
        (&["--cpu-hot-add", "off"], "cpu_hot_add cannot be changed"),
    ] {
        let refused = sim(&machine, &[&["vm", "configure", "a"], words].concat());
        let refused = refused.failed(4, "esxi.invalid_power_state");
        assert!(refused.err.contains(what), "{refused:?}");
    }
    assert_eq!(sim(&machine, &["vm", "configure", "a", "--tags", "", "--notes", ""]).ok().json()["tags"], json!([]));
    sim(&machine, &["vm", "power", "a", "off"]).ok();
    for words in [
        &["--cores-per-socket", "3"][..],
        &["--cpus", "3", "--cores-per-socket", "2"],
        &["--firmware", "bios"],
        &["--tags", "a\"b"],
        &["--guest", "no guest"],
    ] {
        sim(&machine, &[&["vm", "configure", "a"], words].concat()).failed(2, "usage.argument");
    }
}

#[test]
fn a_running_machine_without_hot_add_is_told_so_before_the_host_is_asked() {
    let host = crate::support::Sim::start(ceso::sim::Options { vms: 1, ..Default::default() });
    let machine = Machine::new();
    machine.file(
        "hot.luau",
        "local vm = esxi.connect():vm(\"vm-0001\")\nvm:ensure_power(\"on\")\nvm:configure({ cpus = 8 })",
    );
    let refused = machine.on(&host, &["run", "--mode", "standard", "hot.luau"]).failed(4, "esxi.invalid_power_state");
    assert!(refused.err.contains("hot-add is not on") && refused.err.contains("cpu_hot_add = true"), "{refused:?}");
    assert_eq!(host.calls("ReconfigVM_Task"), 0);
}

const KEYS: &str = r#"
local vm = esxi.connect():vm("debian-12")
local kinds = {}
for _, key in { "ceso.tags", "CESO.owner", "scsi0:1.fileName", "guestinfo.userdata", "RemoteDisplay.vnc.enabled" } do
  local done, fault: any = pcall(function() vm:configure({ extra_config = { [key] = "x" } }) end)
  table.insert(kinds, if done then "done" else fault.kind)
end
vm:configure({ extra_config = { ["disk.EnableUUID"] = "TRUE" } })
return kinds
"#;

#[test]
fn keys_that_reach_beyond_the_machine_or_are_cesos_own_are_not_set() {
    let told = run(&Machine::new(), KEYS);
    assert_eq!(told, json!(vec!["usage.argument"; 5]));
}

const DISKS: &str = r#"
local host = esxi.connect()
local vm = host:create({ name = "a", datastore = "datastore1", disk = "8 MiB" })
local function kind(act)
  local done, fault: any = pcall(act)
  return if done then "done" else fault.kind
end
local second = vm:add_disk({ size = "16 MiB", provisioning = "thick" })
local third = vm:add_disk({ size = "16 MiB", controller = "nvme", unit = 3, independent = true })
local ide = vm:add_disk({ size = "8 MiB", controller = "ide", bus = 1 })
local grown = vm:grow_disk({ disk = "scsi0:1", size = "32 MiB" })
local same = vm:ensure_disk({ unit = 1, size = "24 MiB" })
local ensured = vm:ensure_disk({ unit = 5, size = "8 MiB" })
local refused = {
  smaller = kind(function() vm:grow_disk({ disk = second.label, size = "8 MiB" }) end),
  taken = kind(function() vm:add_disk({ size = "8 MiB", unit = 0 }) end),
  seven = kind(function() vm:add_disk({ size = "8 MiB", unit = 7 }) end),
  nobus = kind(function() vm:add_disk({ size = "8 MiB", bus = 4 }) end),
  none = kind(function() vm:grow_disk({ disk = "Hard disk 9", size = "1 GiB" }) end),
  foreign = kind(function() vm:attach_disk({ datastore = "datastore1", path = "debian-12/debian-12.vmdk" }) end),
  tiny = kind(function() vm:add_disk({ size = 100 }) end),
  nospace = kind(function() vm:add_disk({ size = "60 TiB", provisioning = "thick" }) end),
}
local file = vm:detach_disk(second.label).file
local path = string.gsub(file, "^%[.-%] ", "")
local back = vm:attach_disk({ datastore = "datastore1", path = path, controller = "sata", unit = 0 })
vm:remove_disk(third.label)
local child = host:clone({ template = "a", name = "child", linked = true })
refused.parent_grown = kind(function() vm:grow_disk({ disk = "scsi0:0", size = "1 GiB" }) end)
refused.parent_disk_removed = kind(function() vm:remove_disk("scsi0:0") end)
refused.parent_disk_stolen = kind(function() child:attach_disk({ datastore = "datastore1", path = path }) end)
child:remove_disk("scsi0:0")
local parents_disk = vm:info().disks[1].file
local there = host:datastore("datastore1"):disk_info((string.gsub(parents_disk, "^%[.-%] ", ""))).size
child:destroy()
local places = {}
for _, disk in vm:info().disks do
  table.insert(places, `{disk.controller}{disk.bus}:{disk.unit} {disk.size} {if disk.thin then "thin" else "thick"}`)
end
table.sort(places)
return {
  grown = grown.size, same = same.size, ensured = ensured.unit, ide = `{ide.controller}{ide.bus}`,
  refused = refused, back = back.size, places = places, there = there,
}
"#;

#[test]
fn disks_are_added_grown_taken_out_and_put_in_and_never_made_smaller() {
    let told = run(&Machine::new(), DISKS);
    assert_eq!((&told["grown"], &told["same"], &told["back"]), (&json!("32 MiB"), &json!("32 MiB"), &json!("32 MiB")));
    assert_eq!((&told["ensured"], &told["ide"], &told["there"]), (&json!(5), &json!("ide1"), &json!("8 MiB")));
    assert_eq!(
        told["refused"],
        json!({
            "smaller": "esxi.invalid_argument", "taken": "esxi.invalid_argument", "seven": "esxi.invalid_argument",
            "nobus": "esxi.invalid_argument", "none": "esxi.disk_not_found", "foreign": "esxi.in_use",
            "tiny": "esxi.invalid_argument", "nospace": "esxi.no_disk_space",
            "parent_grown": "esxi.has_linked_clones", "parent_disk_removed": "esxi.has_linked_clones",
            "parent_disk_stolen": "esxi.has_linked_clones",
        })
    );
    assert_eq!(
        told["places"],
        json!(["ide1:0 8 MiB thin", "pvscsi0:0 8 MiB thin", "pvscsi0:5 8 MiB thin", "sata0:0 32 MiB thick"])
    );
}

const CARDS: &str = r#"
local host = esxi.connect()
local store = host:datastore("datastore1")
local vm = host:create({ name = "a", datastore = "datastore1", network = "VM Network" })
local function kind(act)
  local done, fault: any = pcall(act)
  return if done then "done" else fault.kind
end
local nic = vm:add_nic({ network = "VM Network", type = "e1000e", mac = "00:50:56:AA:00:01", connected = false })
local plugged = vm:ensure_nic({ nic = nic.label, connected = true })
store:write_text("a.iso", "an image")
vm:insert_cdrom({ datastore = "datastore1", path = "a.iso" })
local drive = vm:info().drives[1]
vm:attach_seed(cloudinit.build({ hostname = "a" }))
vm:power_on()
local refused = {
  running = kind(function() vm:ensure_nic({ nic = nic.label, mac = "00:50:56:aa:00:02" }) end),
  network = kind(function() vm:ensure_nic({ nic = nic.label, network = "nowhere" }) end),
  card = kind(function() vm:ensure_nic({ nic = "Network adapter 7", connected = true }) end),
  image = kind(function() vm:insert_cdrom({ datastore = "datastore1", path = "none.iso" }) end),
  seed = kind(function() vm:insert_cdrom({ datastore = "datastore1", path = "a.iso", drive = "CD/DVD drive 2" }) end),
}
local out = vm:connect_cdrom(false)
vm:eject_cdrom()
vm:eject_cdrom()
local empty = vm:info().drives[1]
vm:remove_nic(nic.label)
vm:power_off()
return {
  type = nic.type, mac = nic.mac, before = nic.connected, after = plugged.connected, refused = refused,
  image = drive.file, inserted = drive.connected, out = out.connected, empty = empty.file == nil, nics = #vm:info().nics,
}
"#;

#[test]
fn two_cards_of_a_host_have_one_address_only_where_that_is_meant() {
    let machine = Machine::new();
    let run = |words: &[&str]| sim(&machine, words);
    for name in ["a", "b"] {
        run(&["vm", "create", name, "--disk", "8 MiB", "--network", "VM Network"]).ok();
    }
    let nics = |name: &str| run(&["vm", "info", name]).ok().json()["nics"].clone();
    let mac = nics("a")[0]["mac"].as_str().unwrap().to_uppercase();
    let add =
        |name: &str, more: &[&str]| run(&[&["vm", "nic", "add", name, "VM Network", "--mac", &mac], more].concat());
    let taken = add("b", &[]).failed(4, "esxi.duplicate_mac");
    assert!(taken.err.contains("a card of \"a\"") && taken.err.contains("--shared-mac"), "{taken:?}");
    let own = add("a", &[]).failed(4, "esxi.duplicate_mac");
    assert!(own.err.contains("another card of \"a\""), "{own:?}");
    let label = nics("b")[0]["label"].as_str().unwrap().to_owned();
    let set = |more: &[&str]| run(&[&["vm", "nic", "set", "b", &label, "--mac", &mac], more].concat());
    set(&[]).failed(4, "esxi.duplicate_mac");
    assert_eq!(nics("b").as_array().unwrap().len(), 1);
    // Its own address is no other card's, and what is meant is done.
    let same = nics("b")[0]["mac"].as_str().unwrap().to_owned();
    run(&["vm", "nic", "set", "b", &label, "--mac", &same, "--disconnect"]).ok();
    set(&["--shared-mac"]).ok();
    add("b", &["--shared-mac"]).ok();
    let held: Vec<bool> = nics("b").as_array().unwrap().iter().map(|nic| nic["mac"] == mac.to_lowercase()).collect();
    assert_eq!(held, [true, true]);
    // A network that is not there is told with those that are.
    let unknown = run(&["vm", "nic", "add", "b", "Network"]).failed(4, "esxi.network_not_found");
    assert!(unknown.err.contains("VM Network") && !unknown.err.contains("not granted"), "{unknown:?}");
}

#[test]
fn what_is_refused_of_disks_and_devices_says_what_to_do() {
    let machine = Machine::new();
    let all = |words: &[&str]| sim(&machine, &[words, &["--mode", "unrestricted"]].concat());
    all(&["vm", "clone", "debian-12", "child", "--linked"]).ok();
    let grown =
        all(&["vm", "disk", "grow", "child", "Hard disk 1", "50 GiB"]).failed(4, "esxi.invalid_device_operation");
    assert!(grown.err.contains("linked clone") && grown.err.contains("ceso vm clone"), "{grown:?}");
    assert!(!grown.err.contains("remove them first"), "{grown:?}");
    all(&["vm", "create", "held", "--disk", "8 MiB"]).ok();
    all(&["vm", "snapshot", "create", "held", "one"]).ok();
    let held = all(&["vm", "disk", "grow", "held", "Hard disk 1", "16 MiB"]).failed(4, "esxi.invalid_device_operation");
    assert!(held.err.contains("remove them first"), "{held:?}");
    for name in ["p", "q"] {
        all(&["vm", "create", name, "--disk", "8 MiB"]).ok();
        all(&["vm", "pci", "attach", name, "0000:0c:00.0"]).ok();
    }
    all(&["vm", "power", "p", "on"]).ok();
    for busy in [all(&["vm", "power", "q", "on"]), machine.script("esxi.connect():vm(\"q\"):power_on()", &[])] {
        assert!(busy.code == 4 && busy.err.contains("0000:0c:00.0 is with \"p\", which runs"), "{busy:?}");
        assert!(busy.err.contains("ceso vm pci detach") && !busy.err.contains("look at the files"), "{busy:?}");
    }
}

#[test]
fn cards_and_drives_are_changed_and_seed_images_are_left_alone() {
    let told = run(&Machine::new(), CARDS);
    assert_eq!((&told["type"], &told["mac"]), (&json!("e1000e"), &json!("00:50:56:aa:00:01")));
    assert_eq!((&told["before"], &told["after"], &told["nics"]), (&json!(false), &json!(true), &json!(1)));
    assert_eq!((&told["image"], &told["inserted"]), (&json!("[datastore1] a.iso"), &json!(true)));
    assert_eq!((&told["out"], &told["empty"]), (&json!(false), &json!(true)));
    assert_eq!(
        told["refused"],
        json!({
            "running": "esxi.invalid_power_state", "network": "esxi.network_not_found", "card": "esxi.device_not_found",
            "image": "esxi.file_not_found", "seed": "usage.argument",
        })
    );
}

#[test]
fn disks_cards_and_drives_have_commands() {
    let machine = Machine::new();
    let run = |words: &[&str]| sim(&machine, words);
    run(&["vm", "create", "a", "--disk", "8 MiB"]).ok();
    let added = run(&["vm", "disk", "add", "a", "--size", "16 MiB", "--unit", "2"]).ok().json();
    assert_eq!((&added["label"], &added["unit"]), (&json!("Hard disk 2"), &json!(2)));
    assert_eq!(run(&["vm", "disk", "grow", "a", "Hard disk 2", "32 MiB"]).ok().json()["size"], "32 MiB");
    let file = run(&["vm", "disk", "remove", "a", "scsi0:2"]).ok().json()["file"].as_str().unwrap().to_owned();
    run(&["vm", "disk", "add", "a", "--path", &file]).ok();
    assert_eq!(run(&["vm", "disk", "remove", "a", "Hard disk 2", "--destroy"]).code, 3);
    run(&["vm", "disk", "remove", "a", "Hard disk 2", "--destroy", "--mode", "unrestricted"]).ok();
    let nic = run(&["vm", "nic", "add", "a", "VM Network", "--type", "e1000"]).ok().json();
    assert_eq!(nic["type"], "e1000");
    let label = nic["label"].as_str().unwrap();
    assert_eq!(run(&["vm", "nic", "set", "a", label, "--disconnect"]).ok().json()["connected"], false);
    run(&["vm", "nic", "remove", "a", label]).ok();
    machine.file("a.iso", "an image");
    run(&["datastore", "upload", "a.iso", "[datastore1] a.iso"]).ok();
    assert_eq!(run(&["vm", "cdrom", "insert", "a", "[datastore1] a.iso"]).ok().json()[0]["file"], "[datastore1] a.iso");
    assert_eq!(run(&["vm", "cdrom", "eject", "a"]).ok().json()[0]["file"], serde_json::Value::Null);
}

#[test]
fn no_two_disks_of_a_simulated_machine_have_one_label() {
    let machine = Machine::new();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--output", "json"]].concat()).ok();
    sim(&["vm", "create", "t", "--disk", "16 MiB"]);
    for _ in 0..3 {
        sim(&["vm", "disk", "add", "t", "--size", "4 MiB"]);
    }
    sim(&["vm", "disk", "remove", "t", "Hard disk 2"]);
    assert_eq!(sim(&["vm", "disk", "add", "t", "--size", "5 MiB"]).json()["label"], "Hard disk 2");
}
