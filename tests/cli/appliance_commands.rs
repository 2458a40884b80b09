//! `ceso vm export` and `ceso vm import`: a machine into a file and out of it again, and files that nobody should import.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use ceso::sim::{Options, Rule, Trouble};
use sha2::{Digest, Sha256};

use crate::support::{Done, Machine, Sim};

fn sim(machine: &Machine, arguments: &[&str]) -> Done {
    machine.run(&[arguments, &["--host", "sim", "--output", "json"]].concat())
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The members of an archive, in their order.
pub fn members(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, std::fs::File>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

pub fn archive(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().flush().unwrap();
}

/// A machine on the simulator that has something to carry: a disk with content at both ends.
fn filled(machine: &Machine) -> std::path::PathBuf {
    sim(machine, &["vm", "create", "small", "--disk", "96 MiB"]).ok();
    let folder = machine.home().join("sim/datastore1");
    let flat = folder.join("small/small-flat.vmdk");
    let file = std::fs::OpenOptions::new().write(true).open(&flat).unwrap();
    let length = file.metadata().unwrap().len();
    for at in [1 << 20, 70 << 20, length - 512] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 512], at).unwrap();
    }
    folder
}

/// The SHA-256 of a file of any length.
pub fn sum_of(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).unwrap();
        if count == 0 {
            return hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        }
        hasher.update(&buffer[..count]);
    }
}

#[test]
fn a_machine_goes_into_an_archive_and_out_of_it_with_all_that_it_holds() {
    let machine = Machine::new();
    let folder = filled(&machine);
    let done = sim(&machine, &["vm", "export", "small", "out.ova"]).ok().json();
    let path = machine.project().join("out.ova");
    assert!(!machine.project().join("out.ova.part").exists());
    let parts = members(&path);
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["small.ovf", "small.mf", "small-disk1.vmdk", "small.nvram"]);
    let sums: BTreeMap<&str, String> = parts.iter().map(|(name, bytes)| (name.as_str(), sum(bytes))).collect();
    assert_eq!(done["parts"][0]["sha256"].as_str(), Some(sums["small-disk1.vmdk"].as_str()));
    let manifest = std::str::from_utf8(&parts[1].1).unwrap();
    for name in ["small.ovf", "small-disk1.vmdk", "small.nvram"] {
        assert!(manifest.contains(&format!("SHA256({name})= {}", sums[name])), "{name}: {manifest}");
    }
    let made = sim(&machine, &["vm", "import", "out.ova", "again-1"]).ok().json();
    let template = sim(&machine, &["vm", "info", "small"]).ok().json();
    for field in ["cpus", "memory", "guest", "firmware", "secure_boot", "hardware"] {
        assert_eq!(made[field], template[field], "{field}");
    }
    for field in ["size", "thin", "controller", "bus", "unit"] {
        assert_eq!(made["disks"][0][field], template["disks"][0][field], "{field}");
    }
    assert_eq!(made["nics"][0]["type"], template["nics"][0]["type"]);
    assert_ne!(made["nics"][0]["mac"], template["nics"][0]["mac"]);
    let disk = made["disks"][0]["file"]
        .as_str()
        .unwrap()
        .strip_prefix("[datastore1] ")
        .unwrap()
        .replace(".vmdk", "-flat.vmdk");
    assert_eq!(sum_of(&folder.join(disk)), sum_of(&folder.join("small/small-flat.vmdk")));
    assert_eq!(sum_of(&folder.join("again-1/again-1.nvram")), sum_of(&folder.join("small/small.nvram")));
    // The same out of single files, without a manifest.
    for (name, bytes) in parts.iter().filter(|(name, _)| name != "small.mf") {
        machine.file(name, bytes);
    }
    sim(&machine, &["vm", "import", "small.ovf", "again-2", "--network", "VM Network"]).ok();
    sim(&machine, &["vm", "power", "again-2", "on"]).ok();
    sim(&machine, &["vm", "export", "again-2", "running.ova"]).failed(4, "esxi.invalid_power_state");
    assert!(!machine.project().join("running.ova").exists() && !machine.project().join("running.ova.part").exists());
    sim(&machine, &["vm", "import", "out.ova", "again-1"]).failed(4, "esxi.duplicate_name");
    sim(&machine, &["vm", "export", "small", "out.ova"]).failed(1, "local.file_exists");
    sim(&machine, &["vm", "export", "small", "out.zip"]).failed(2, "usage.file");
    sim(&machine, &["vm", "import", "out.ova", "again-3", "--network", "none"]).failed(4, "esxi.network_not_found");
}

/// The files of a folder, in the order of their names.
fn names_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Its text with another size for a file, in bytes; `None` leaves it out.
fn with_size(descriptor: &[u8], size: Option<u64>) -> String {
    let text = String::from_utf8(descriptor.to_vec()).unwrap();
    let file = text.find("ovf:href=\"small-disk1.vmdk\"").unwrap();
    let start = text[..file].rfind('<').unwrap();
    let end = start + text[start..].find('>').unwrap();
    let element = &text[start..end];
    let at = element.find("ovf:size=\"").unwrap();
    let old = &element[at..=at + 10 + element[at + 10..].find('"').unwrap()];
    let new = size.map_or_else(String::new, |size| format!("ovf:size=\"{size}\""));
    text.replacen(element, &element.replace(old, &new), 1)
}

#[test]
fn a_size_that_others_write_is_taken_and_one_that_lies_needs_a_sum() {
    let machine = Machine::new();
    filled(&machine);
    sim(&machine, &["vm", "export", "small", "out.ova"]).ok();
    let good = members(&machine.project().join("out.ova"));
    let (name, disk) = good.iter().find(|(name, _)| name == "small-disk1.vmdk").unwrap();
    machine.file(name, disk);
    let (_, nvram) = good.iter().find(|(name, _)| name == "small.nvram").unwrap();
    machine.file("small.nvram", nvram);
    let import = |size: Option<u64>, sums: bool, name: &str| {
        let text = with_size(&good[0].1, size);
        machine.file("small.ovf", &text);
        let parts =
            [("small.ovf", text.as_bytes()), ("small-disk1.vmdk", disk.as_slice()), ("small.nvram", nvram.as_slice())];
        let lines = parts.map(|(name, bytes)| format!("SHA256({name})= {}\n", sum(bytes)));
        match sums {
            true => drop(machine.file("small.mf", lines.concat())),
            false => drop(std::fs::remove_file(machine.project().join("small.mf"))),
        }
        sim(&machine, &["vm", "import", "small.ovf", name])
    };
    import(Some(96 << 20), false, "capacity").ok();
    import(None, false, "unsaid").ok();
    let refused = import(Some(disk.len() as u64 + 1), false, "lie").failed(1, "ova.invalid");
    assert!(
        refused.err.contains("not as long as the descriptor says") && refused.err.contains("no manifest"),
        "{refused:?}"
    );
    import(Some(disk.len() as u64 + 1), true, "vouched").ok();
    import(Some(96 << 20), true, "both").ok();
    // The sum is what counts, whatever the size.
    let mut broken = disk.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    import(Some(96 << 20), true, "capacity-2").ok();
    machine.file("small-disk1.vmdk", &broken);
    for size in [Some(96 << 20), None, Some(disk.len() as u64)] {
        import(size, true, "broken").failed(1, "ova.sum");
    }
}

#[test]
fn each_network_of_an_appliance_goes_where_it_is_told_to() {
    let machine = Machine::new();
    let all = |words: &[&str]| sim(&machine, &[words, &["--mode", "unrestricted"]].concat());
    sim(&machine, &["vm", "create", "small", "--disk", "8 MiB"]).ok();
    for name in ["LAN", "DMZ", "a=b"] {
        all(&["host", "portgroup", "add", name]).ok();
    }
    sim(&machine, &["vm", "nic", "add", "small", "LAN"]).ok();
    sim(&machine, &["vm", "export", "small", "out.ova"]).ok();
    let import = |name: &str, words: &[&str]| sim(&machine, &[&["vm", "import", "out.ova", name], words].concat());
    let networks = |done: Done| -> Vec<String> {
        let told = done.ok().json();
        told["nics"].as_array().unwrap().iter().map(|nic| nic["network"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(networks(import("same", &[])), ["VM Network", "LAN"]);
    assert_eq!(networks(import("one", &["--network", "DMZ"])), ["DMZ", "DMZ"]);
    assert_eq!(networks(import("map", &["--network", "VM Network=DMZ"])), ["DMZ", "LAN"]);
    let both = &["--network", "LAN=a=b", "--network", "VM Network=DMZ"];
    assert_eq!(networks(import("both", both)), ["DMZ", "a=b"]);
    assert_eq!(networks(import("rest", &["--network", "LAN=DMZ", "--network", "LAN"])), ["LAN", "DMZ"]);
    let unknown = import("bad", &["--network", "WAN=DMZ"]).failed(2, "usage.network");
    assert!(unknown.err.contains("\"WAN\"") && unknown.err.contains("\"VM Network\", \"LAN\""), "{unknown:?}");
    import("bad", &["--network", "LAN=none"]).failed(4, "esxi.network_not_found");
    import("bad", &["--network", "LAN", "--network", "DMZ"]).failed(2, "usage.script");
    import("bad", &["--network", "LAN=DMZ", "--network", "LAN=LAN"]).failed(2, "usage.script");
    let listed = sim(&machine, &["vm", "list"]).ok().json();
    assert!(listed.as_array().unwrap().iter().all(|row| row["name"] != "bad"), "{listed}");
}

#[test]
fn a_folder_that_is_there_is_never_used_for_a_machine_that_comes_in() {
    let machine = Machine::new();
    sim(&machine, &["vm", "create", "small", "--disk", "8 MiB"]).ok();
    sim(&machine, &["vm", "export", "small", "out.ova"]).ok();
    sim(&machine, &["datastore", "mkdir", "[datastore1] taken"]).ok();
    let folders = || names_in(&machine.home().join("sim/datastore1"));
    let before = folders();
    let refused = sim(&machine, &["vm", "import", "out.ova", "taken"]).failed(4, "esxi.file_already_exists");
    assert!(refused.err.contains("[datastore1] taken"), "{refused:?}");
    // The operation itself refuses it too, whoever looks before it or not.
    machine.file(
        "import.luau",
        "return { params = { file = { type = \"file\" } }, needs = { vm = { read = \"*\", create = \"*\" }, datastore = { read = \"*\", write = \"*\" }, \
         network = { read = \"*\", use = \"*\" } }, run = function(p) return esxi.connect():import({ file = p.file, name = \"taken\" }):info() end }",
    );
    let words = ["run", "--host", "sim", "import.luau", "--param", "file=out.ova"];
    machine.run(&words).failed(4, "esxi.file_already_exists");
    let other = Sim::start(Options::default());
    machine.on(&other, &["vm", "create", "taken", "--disk", "8 MiB"]).ok();
    machine.on(&other, &["vm", "copy", "taken", "--to", "sim"]).failed(4, "esxi.file_already_exists");
    assert_eq!(folders(), before);
    sim(&machine, &["vm", "import", "out.ova", "free"]).ok();
}

#[test]
fn what_is_no_honest_appliance_is_refused_before_the_host_hears_of_it() {
    let machine = Machine::new();
    filled(&machine);
    sim(&machine, &["vm", "export", "small", "out.ova"]).ok();
    let good = members(&machine.project().join("out.ova"));
    let bad = machine.project().join("bad.ova");
    let import = || machine.run(&["vm", "import", "bad.ova", "bad", "--host", "sim"]);
    let position = |name: &str| good.iter().position(|(own, _)| own == name).unwrap();
    let (ovf, mf, disk) = (position("small.ovf"), position("small.mf"), position("small-disk1.vmdk"));
    let without_sums = || good.iter().filter(|(name, _)| name != "small.mf").cloned().collect::<Vec<_>>();
    // One bit of a disk, of the descriptor, of a sum.
    for (member, at) in [(disk, 70_000), (ovf, 100), (mf, 40)] {
        let mut parts = good.clone();
        let at = at.min(parts[member].1.len() - 1);
        parts[member].1[at] ^= 1;
        archive(&bad, &parts);
        let done = import();
        assert!(done.code == 1 && done.err.contains("error[ova."), "{member}: {done:?}");
    }
    // A part that is missing, one that no sum is for, one that is cut.
    let mut parts = good.clone();
    parts.remove(disk);
    archive(&bad, &parts);
    import().failed(1, "ova.invalid");
    let mut parts = good.clone();
    parts.push(("extra.bin".to_owned(), vec![1; 10]));
    archive(&bad, &parts);
    import().failed(1, "ova.sum");
    let whole = std::fs::read(machine.project().join("out.ova")).unwrap();
    for length in [whole.len() - 2000, 100_000, 512, 0] {
        std::fs::write(&bad, &whole[..length]).unwrap();
        import().failed(1, "ova.invalid");
    }
    // A descriptor that leads elsewhere, and a disk that is larger than it says: no sums, for its author would have made them fit.
    let text = |parts: &[(String, Vec<u8>)]| String::from_utf8(parts[0].1.clone()).unwrap();
    for (from, to) in [
        ("ovf:href=\"small-disk1.vmdk\"", "ovf:href=\"../../etc/passwd\""),
        ("ovf:href=\"small-disk1.vmdk\"", "ovf:href=\"https://example.com/x.vmdk\""),
        ("ovf:fileRef=\"file1\"", "ovf:fileRef=\"file9\""),
        ("ovf:capacity=\"", "ovf:capacity=\"9"),
        ("<VirtualSystem ", "<VirtualSystemCollection/><VirtualSystem "),
    ] {
        let mut parts = without_sums();
        let changed = text(&parts).replacen(from, to, 1);
        assert_ne!(changed, text(&parts), "{from}");
        parts[0].1 = changed.into_bytes();
        archive(&bad, &parts);
        import().failed(1, "ova.invalid");
    }
    for name in ["bad.zip", "small.ovf"] {
        machine.file(name, b"junk");
        assert_ne!(machine.run(&["vm", "import", name, "bad", "--host", "sim"]).code, 0);
    }
    assert_eq!(sim(&machine, &["vm", "list"]).ok().json().as_array().unwrap().len(), 2, "nothing was made");
}

#[test]
fn an_import_that_breaks_off_leaves_no_machine_and_no_files() {
    let machine = Machine::new();
    filled(&machine);
    sim(&machine, &["vm", "export", "small", "out.ova"]).ok();
    let host = Sim::start(Options::default());
    for trouble in [Trouble::Cut(20_000), Trouble::Drop, Trouble::Status(500)] {
        host.server
            .fault(Rule { method: "PUT nfc".to_owned(), trouble: trouble.clone(), after: 0, times: None, chance: 1.0 })
            .unwrap();
        let done = machine.on(&host, &["vm", "import", "out.ova", "broken"]);
        assert!(done.code == 4 && !done.err.contains("left behind"), "{trouble:?}: {done:?}");
        host.server.clear_faults();
        assert!(host.server.machines().iter().all(|vm| vm.name != "broken"), "{trouble:?}");
        let listed = machine.on(&host, &["datastore", "ls", "[datastore1]", "--output", "json"]).ok().json();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    }
    // The session ends while it goes on: it is renewed.
    machine.on(&host, &["vm", "import", "out.ova", "whole"]).ok();
    host.server
        .fault(Rule { method: "GET nfc".to_owned(), trouble: Trouble::Cut(10_000), after: 0, times: None, chance: 1.0 })
        .unwrap();
    let done = machine.on(&host, &["vm", "export", "whole", "cut.ova"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(!machine.project().join("cut.ova").exists() && !machine.project().join("cut.ova.part").exists());
    host.server.clear_faults();
    // The machine is free again.
    machine.on(&host, &["vm", "power", "whole", "on"]).ok();
}

#[test]
fn an_import_whose_last_answer_is_lost_stays_where_it_is_whole() {
    let machine = Machine::new();
    filled(&machine);
    sim(&machine, &["vm", "export", "small", "out.ova"]).ok();
    let host = Sim::start(Options::default());
    let lost = |method: &str, trouble, times| {
        let rule = Rule { method: method.to_owned(), trouble, after: 0, times, chance: 1.0 };
        host.server.fault(rule).unwrap();
    };
    let there = |name: &str| host.server.machines().iter().any(|vm| vm.name == name);
    // The answer is lost, or the request: the lease tells.
    for (name, trouble) in [("answer", Trouble::DropAnswer), ("request", Trouble::Drop)] {
        lost("HttpNfcLeaseComplete", trouble, Some(1));
        machine.on(&host, &["vm", "import", "out.ova", name]).ok();
        machine.on(&host, &["vm", "power", name, "on"]).ok();
    }
    // It never comes through: the machine is not whole, and goes.
    lost("HttpNfcLeaseComplete", Trouble::Drop, None);
    let done = machine.on(&host, &["vm", "import", "out.ova", "never"]);
    assert!(done.code == 4 && !there("never"), "{done:?}");
    host.server.clear_faults();
    assert!(there("answer") && there("request"));
}

#[test]
fn a_machine_is_streamed_to_another_host_whole_or_not_at_all() {
    let machine = Machine::new();
    let state = tempfile::tempdir().unwrap();
    let host = Sim::start(Options { state: Some(state.path().to_owned()), ..Options::default() });
    machine.on(&host, &["vm", "create", "small", "--disk", "96 MiB", "--firmware", "bios"]).ok();
    for at in [1 << 20, 70 << 20, (96 << 20) - 512] {
        host.server.write_disk("small", 0, at, &[0x5a; 512]).unwrap();
    }
    let there = state.path().join("datastore1");
    std::fs::write(there.join("small/small.nvram"), b"the variables of this very machine").unwrap();
    for (method, trouble) in
        [Trouble::Cut(10_000), Trouble::Drop, Trouble::Status(500), Trouble::Page].map(|trouble| ("GET nfc", trouble))
    {
        let rule = Rule { method: method.to_owned(), trouble: trouble.clone(), after: 0, times: None, chance: 1.0 };
        host.server.fault(rule).unwrap();
        let done = machine.on(&host, &["vm", "copy", "small", "--to", "sim"]);
        assert!(done.code == 4 && !done.err.contains("left behind"), "{trouble:?}: {done:?}");
        let there = sim(&machine, &["vm", "list"]).ok().json();
        assert_eq!(there.as_array().unwrap().len(), 1, "{trouble:?}: {there}");
        host.server.clear_faults();
    }
    let made = machine.on(&host, &["vm", "copy", "small", "--to", "sim", "--output", "json"]).ok().json();
    let own = machine.on(&host, &["vm", "info", "small", "--output", "json"]).ok().json();
    for field in ["cpus", "memory", "guest", "firmware", "secure_boot", "hardware"] {
        assert_eq!(made[field], own[field], "{field}");
    }
    for field in ["size", "thin", "controller", "bus", "unit"] {
        assert_eq!(made["disks"][0][field], own["disks"][0][field], "{field}");
    }
    assert_ne!(made["nics"][0]["mac"], own["nics"][0]["mac"]);
    let folder = machine.home().join("sim/datastore1");
    let file =
        made["disks"][0]["file"].as_str().unwrap().trim_start_matches("[datastore1] ").replace(".vmdk", "-flat.vmdk");
    let mut whole = Sha256::new();
    (0..96).for_each(|piece| whole.update(host.server.read_disk("small", 0, piece << 20, 1 << 20).unwrap()));
    let whole: String = whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sum_of(&folder.join(file)), whole);
    // A BIOS has variables too, and they are the machine's own.
    assert_eq!(own["firmware"], "bios");
    machine.on(&host, &["vm", "clone", "small", "twin"]).ok();
    for copied in [folder.join("small/small.nvram"), there.join("twin/twin.nvram")] {
        assert_eq!(std::fs::read(copied).unwrap(), b"the variables of this very machine");
    }
    machine.on(&host, &["vm", "delete", "twin", "--mode", "unrestricted"]).ok();
    machine.on(&host, &["vm", "copy", "small", "--to", "sim"]).failed(4, "esxi.duplicate_name");
    machine
        .on(&host, &["vm", "copy", "small", "--to", "sim", "--as", "other", "--network", "none"])
        .failed(4, "esxi.network_not_found");
    machine.on(&host, &["vm", "copy", "small", "--to", "sim", "--as", "other"]).ok();
    // The machine is free again, and runs while a snapshot of it goes into a file.
    machine.on(&host, &["vm", "power", "small", "on"]).ok();
    machine.on(&host, &["vm", "copy", "small", "--to", "sim", "--as", "third"]).failed(4, "esxi.invalid_power_state");
    machine.on(&host, &["vm", "snapshot", "create", "small", "now"]).ok();
    machine.file("frozen.luau", "esxi.connect():vm('small'):snapshots()[1]:clone({ name = 'frozen' })");
    machine.on(&host, &["run", "frozen.luau"]).ok();
    let variables = std::fs::read(there.join("frozen/frozen.nvram")).unwrap();
    assert_eq!(variables, b"the variables of this very machine");
    host.server.write_disk("small", 0, 5 << 20, &[1; 512]).unwrap();
    machine.on(&host, &["vm", "snapshot", "export", "small", "now", "now.ova"]).ok();
    let back = sim(&machine, &["vm", "import", "now.ova", "back"]).ok().json();
    let file =
        back["disks"][0]["file"].as_str().unwrap().trim_start_matches("[datastore1] ").replace(".vmdk", "-flat.vmdk");
    assert_eq!(sum_of(&folder.join(file)), whole, "what was written after the snapshot is not in it");
}

#[test]
fn what_a_host_sends_in_place_of_a_disk_becomes_neither_an_archive_nor_a_machine() {
    let (machine, host) = (Machine::new(), Sim::start(Options::default()));
    // It says that all is well, and sends a page.
    let lies = || host.server.fault(ceso::sim::read_fault("GET nfc:page:1").unwrap()).unwrap();
    lies();
    let export = ["vm", "export", "debian-12", "out.ova"];
    let refused = machine.on(&host, &export).failed(4, "esxi.bad_answer");
    assert!(refused.err.contains("no whole streamOptimized disk"), "{refused:?}");
    assert_eq!(std::fs::read_dir(machine.project()).unwrap().count(), 0);
    // Nothing is held, and the next one comes through.
    machine.on(&host, &export).ok();
    // A machine as a snapshot has it goes the same way.
    machine.on(&host, &["vm", "snapshot", "create", "debian-12", "s"]).ok();
    lies();
    machine.on(&host, &["vm", "snapshot", "export", "debian-12", "s", "frozen.ova"]).failed(4, "esxi.bad_answer");
    assert_eq!(std::fs::read_dir(machine.project()).unwrap().count(), 1, "the one that came through");
}
