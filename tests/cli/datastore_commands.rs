//! `ceso datastore …`: files and disks on a datastore, from the command line through worker, door and client.

use sha2::{Digest, Sha256};

use crate::support::Machine;

fn sim(machine: &Machine, arguments: &[&str]) -> crate::support::Done {
    machine.run(&[arguments, &["--host", "sim", "--output", "json"]].concat())
}

fn unrestricted(machine: &Machine, arguments: &[&str]) -> crate::support::Done {
    sim(machine, &[arguments, &["--mode", "unrestricted"]].concat())
}

#[test]
fn a_file_of_this_machine_goes_up_and_comes_down_again() {
    let machine = Machine::new();
    let content: Vec<u8> = (0..2_000_000u32).flat_map(|n| (n * 7).to_le_bytes()).collect();
    let sum: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    machine.file("tools.iso", &content);
    sim(&machine, &["datastore", "mkdir", "[datastore1] isos"]).ok();
    let upload =
        |more: &[&str]| sim(&machine, &[&["datastore", "upload", "tools.iso", "[datastore1] isos/"], more].concat());
    // Another sum than is wanted: nothing is put into its place.
    upload(&["--sha256", "tools"]).failed(2, "usage.argument");
    let refused = upload(&["--sha256", &"ab".repeat(32)]).failed(1, "local.sum");
    assert!(refused.err.contains(&sum) && refused.err.contains(&"ab".repeat(32)), "{refused:?}");
    assert_eq!(sim(&machine, &["datastore", "ls", "[datastore1]isos"]).ok().json(), serde_json::json!([]));
    let sent = upload(&["--sha256", &sum.to_uppercase()]).ok().json();
    assert_eq!(
        (sent["path"].as_str(), sent["sha256"].as_str()),
        (Some("[datastore1] isos/tools.iso"), Some(sum.as_str()))
    );
    sim(&machine, &["datastore", "upload", "tools.iso", "[datastore1] isos/tools.iso"])
        .failed(4, "esxi.file_already_exists");
    let listed = sim(&machine, &["datastore", "ls", "[datastore1]isos"]).ok().json();
    assert_eq!((listed[0]["path"].as_str(), listed[0]["type"].as_str()), (Some("isos/tools.iso"), Some("iso")));
    let came = sim(&machine, &["datastore", "download", "[datastore1] isos/tools.iso", "back.iso"]).ok().json();
    assert_eq!((came["size"].is_null(), came["sha256"].is_null()), (false, true), "nobody asked for the sum");
    assert!(std::fs::read(machine.project().join("back.iso")).unwrap() == content);
    sim(&machine, &["datastore", "download", "[datastore1] isos/tools.iso", "back.iso"]).failed(1, "local.file_exists");
    // What an earlier download has left is not overwritten, and not taken for a part of this file.
    std::fs::write(machine.project().join("again.iso.part"), vec![9; 2 << 20]).unwrap();
    let again = ["datastore", "download", "[datastore1] isos/tools.iso", "again.iso"];
    sim(&machine, &again).failed(1, "local.file_exists");
    let came = sim(&machine, &[&again[..], &["--resume", "--checksum"]].concat()).ok();
    assert!(came.err.contains("begins anew"), "{came:?}");
    assert_eq!(came.json()["sha256"].as_str(), Some(sum.as_str()));
    assert!(std::fs::read(machine.project().join("again.iso")).unwrap() == content);
    let other = ["datastore", "download", "[datastore1] isos/tools.iso", "other.iso", "--sha256", &"ab".repeat(32)];
    sim(&machine, &other).failed(1, "local.sum");
    assert_eq!(std::fs::read_dir(machine.project()).unwrap().count(), 3, "nothing is kept of it");
    sim(&machine, &[&other[..5], &[&sum]].concat()).ok();
}

#[test]
fn only_a_person_names_a_file_and_a_script_cannot_look_into_it() {
    let machine = Machine::new();
    machine.file("secret.txt", "do not tell");
    let script = "return { params = { f = { type = \"file\" } }, run = function(p) return { p.f.name, p.f.size, tostring(p.f) } end }";
    machine.file("look.luau", script);
    let run = |more: &[&str]| machine.run(&[&["run", "look.luau", "--host", "sim", "--output", "json"], more].concat());
    let looked = run(&["--param", "f=secret.txt"]).ok();
    assert!(
        looked.out.contains("secret.txt") && !looked.out.contains("do not tell") && !looked.out.contains("project"),
        "{looked:?}"
    );
    run(&["--param", "f=none.txt"]).failed(1, "local.file");
    run(&["--param", "f=/dev/zero"]).failed(1, "local.file");
    run(&["--param", "f="]).failed(2, "usage.param");
    for script in [
        "return { params = { f = { type = \"file\", default = \"/etc/passwd\" } }, run = function(p) end }",
        "return { params = { f = { type = \"file\", access = \"both\" } }, run = function(p) end }",
        "return { params = { f = { type = \"list\", of = \"file\" } }, run = function(p) end }",
    ] {
        machine.file("look.luau", script);
        run(&[]).failed(2, "usage.declaration");
    }
    // A file that was named to be read is not written, and the other way round.
    let wrong = "return { params = { f = { type = \"file\" } }, needs = { datastore = { read = \"*\", copy_from = \"*\" } }, \
                 run = function(p) esxi.connect():datastore(\"datastore1\"):download({ path = \"a\", into = p.f }) end }";
    machine.file("look.luau", wrong);
    run(&["--param", "f=secret.txt"]).failed(2, "usage.file");
}

#[test]
fn a_path_that_leads_elsewhere_is_refused_before_anything_is_sent() {
    let machine = Machine::new();
    for place in
        ["[datastore1] ../x", "[datastore1] a/../../x", "[datastore1] [other] x", "[datastore1] a\nb", "[datastore1] *"]
    {
        unrestricted(&machine, &["datastore", "rm", place]).failed(4, "esxi.invalid_argument");
        sim(&machine, &["datastore", "mkdir", place]).failed(4, "esxi.invalid_argument");
    }
    for place in ["isos/x", "[datastore1", "", "datastore1:x"] {
        let done = sim(&machine, &["datastore", "ls", place]);
        assert!(done.code != 0 && done.err.contains("no place on a datastore"), "{place}: {done:?}");
    }
    sim(&machine, &["datastore", "ls", "[other]"]).failed(4, "esxi.datastore_not_found");
    let long = format!("[datastore1] {}", "x".repeat(300));
    sim(&machine, &["datastore", "mkdir", &long]).failed(4, "esxi.invalid_argument");
    unrestricted(&machine, &["datastore", "rm", "[datastore1]"]).failed(4, "esxi.invalid_argument");
}

#[test]
fn what_is_for_good_asks_for_mode_unrestricted_and_never_takes_a_machine() {
    let machine = Machine::new();
    sim(&machine, &["datastore", "mkdir", "[datastore1] old"]).ok();
    let denied = sim(&machine, &["datastore", "rm", "[datastore1] old"]).failed(3, "door.denied");
    assert!(denied.err.contains("--mode unrestricted"), "{denied:?}");
    sim(&machine, &["datastore", "mv", "[datastore1] old", "[datastore1] new"]).failed(3, "door.denied");
    unrestricted(&machine, &["datastore", "mv", "[datastore1] old", "[datastore1] new"]).ok();
    unrestricted(&machine, &["datastore", "rm", "[datastore1] new"]).ok();
    let held = unrestricted(&machine, &["datastore", "rm", "[datastore1] debian-12"]).failed(4, "esxi.in_use");
    assert!(held.err.contains("debian-12"), "{held:?}");
    // What a run made it may delete in mode standard, and nothing else.
    let script = "local store = esxi.connect():datastore(\"datastore1\")\n\
                  store:make_directory(\"mine\")\nstore:write_text(\"mine/a\", \"x\")\nstore:delete(\"mine/a\")\nstore:delete(\"mine\")\n\
                  return pcall(store.delete, store, \"debian-12/debian-12.nvram\")";
    let done = machine.script(script, &["--output", "json"]).ok();
    assert!(done.out.contains("false"), "{done:?}");
    machine.script("esxi.connect():datastore(\"datastore1\"):browse()", &["--mode", "restricted"]).ok();
    let read = "esxi.connect():datastore(\"datastore1\"):read_text(\"debian-12/debian-12.vmx\")";
    machine.script(read, &["--mode", "restricted"]).failed(3, "door.denied");
}

#[test]
fn disks_are_made_copied_grown_and_filled() {
    let machine = Machine::new();
    let made = sim(&machine, &["datastore", "disk", "create", "[datastore1] data.vmdk", "64 MiB"]).ok().json();
    assert_eq!((made["size"].as_str(), made["thin"].as_bool()), (Some("64 MiB"), Some(true)));
    sim(&machine, &["datastore", "disk", "create", "[datastore1] data.vmdk", "64 MiB"])
        .failed(4, "esxi.file_already_exists");
    sim(&machine, &["datastore", "disk", "create", "[datastore1] data.img", "64 MiB"])
        .failed(4, "esxi.invalid_argument");
    let grown = sim(&machine, &["datastore", "disk", "extend", "[datastore1] data.vmdk", "96 MiB"]).ok().json();
    assert_eq!((grown["size"].as_str(), grown["uuid"].as_str()), (Some("96 MiB"), made["uuid"].as_str()));
    let copy =
        ["datastore", "disk", "copy", "[datastore1] data.vmdk", "[datastore1] thick.vmdk", "--provisioning", "thick"];
    assert_eq!(sim(&machine, &copy).ok().json()["thin"].as_bool(), Some(false));
    assert_eq!(
        sim(&machine, &["datastore", "disk", "inflate", "[datastore1] data.vmdk"]).ok().json()["thin"].as_bool(),
        Some(false)
    );
    let told = sim(&machine, &["datastore", "disk", "info", "[datastore1] thick.vmdk"]).ok().json();
    assert_eq!((told["size"].as_str(), told["thin"].as_bool()), (Some("96 MiB"), Some(false)), "{told:#}");
    sim(&machine, &["datastore", "disk", "info", "[datastore1] none.vmdk"]).failed(4, "esxi.file_not_found");
    sim(&machine, &["datastore", "mkdir", "[datastore1] kept"]).ok();
    sim(&machine, &["datastore", "cp", "[datastore1] data.vmdk", "[datastore1] kept/"]).ok();
    let copied = sim(&machine, &["datastore", "disk", "info", "[datastore1] kept/data.vmdk"]).ok().json();
    assert_eq!((copied["size"].as_str(), copied["thin"].as_bool()), (Some("96 MiB"), Some(false)), "{copied:#}");
    sim(&machine, &["datastore", "cp", "[datastore1] data.vmdk", "[datastore1] kept/"])
        .failed(4, "esxi.file_already_exists");
    unrestricted(&machine, &["datastore", "rm", "[datastore1] thick.vmdk"]).ok();
    assert_eq!(
        sim(&machine, &["datastore", "ls", "[datastore1]", "--pattern", "thick*"]).ok().json(),
        serde_json::json!([])
    );
}

#[test]
fn the_descriptor_of_a_disk_is_told_from_the_disk() {
    let machine = Machine::new();
    let got = |place: &str, file: &str| sim(&machine, &["datastore", "download", place, file]).ok().err;
    let told = got("[datastore1] debian-12/debian-12.vmdk", "a.vmdk");
    assert!(told.contains("[datastore1] debian-12/debian-12-flat.vmdk") && told.contains("vm export"), "{told}");
    assert!(!told.contains("differs"), "{told}");
    for (place, file) in [("debian-12/debian-12-flat.vmdk", "b.vmdk"), ("debian-12/debian-12.vmx", "c.vmx")] {
        let told = got(&format!("[datastore1] {place}"), file);
        assert!(!told.contains("describes a disk"), "{place}: {told}");
    }
    sim(&machine, &["vm", "clone", "debian-12", "child", "--linked"]).ok();
    let told = got("[datastore1] child/child.vmdk", "d.vmdk");
    assert!(told.contains("[datastore1] child/child-delta.vmdk") && told.contains("differs"), "{told}");
}

#[test]
fn a_folder_that_a_machine_has_left_is_told_where_the_machine_is_not_found() {
    let machine = Machine::new();
    sim(&machine, &["datastore", "mkdir", "[datastore1] gone"]).ok();
    let told = unrestricted(&machine, &["vm", "delete", "gone"]).failed(4, "esxi.vm_not_found");
    assert!(told.err.contains("[datastore1] gone") && told.err.contains("datastore rm"), "{told:?}");
    let told = unrestricted(&machine, &["vm", "delete", "nobody"]).failed(4, "esxi.vm_not_found");
    assert!(!told.err.contains("datastore rm"), "{told:?}");
}
