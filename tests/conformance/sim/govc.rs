//! govc as a client of the simulator.

use std::process::Command;

use ceso::sim::{Options, Server};

use super::started::{PASSWORD, USER, options, peer, run, said, start};

pub struct Govc<'a>(pub &'a Server);

impl Govc<'_> {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(peer("bin/govc"));
        let url = format!("https://{USER}:{PASSWORD}@{}", self.0.address());
        command.args(arguments).env("GOVC_URL", url).env("GOVC_INSECURE", "1").env("GOVC_PERSIST_SESSION", "false");
        command
    }

    pub async fn ok(&self, arguments: &[&str]) -> String {
        let output = run(self.command(arguments)).await;
        assert!(output.status.success(), "govc {arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    pub async fn refused(&self, arguments: &[&str]) -> String {
        let output = run(self.command(arguments)).await;
        assert!(!output.status.success(), "govc {arguments:?} should be refused: {}", said(&output));
        said(&output)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_reads_the_inventory() {
    let server = start(Options { vms: 2, ..options() }).await;
    let govc = Govc(&server);
    assert!(govc.ok(&["about"]).await.contains("HostAgent"));
    assert!(govc.ok(&["ls", "-l"]).await.contains("/ha-datacenter/vm"));
    let found = govc.ok(&["find", "/", "-type", "m"]).await;
    assert_eq!(found.lines().count(), 3, "{found}");
    let info = govc.ok(&["vm.info", "vm-0001"]).await;
    assert!(info.contains("poweredOn") && info.contains("10.1.0.1"), "{info}");
    assert!(govc.ok(&["host.info"]).await.contains("16 CPUs"));
    assert!(govc.ok(&["datastore.info"]).await.contains("datastore1"));
    assert!(govc.ok(&["device.ls", "-vm", "debian-12"]).await.contains("pvscsi-1000"));
    assert!(govc.ok(&["license.ls"]).await.contains("eval"));
    assert!(govc.ok(&["vm.option.info"]).await.contains("debian12_64Guest"));
    for arguments in [
        &["host.storage.info"][..],
        &["host.portgroup.info"],
        &["pool.info", "*"],
        &["datacenter.info"],
        &["tasks"],
        &["events"],
        &["session.ls"],
    ] {
        govc.ok(arguments).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_makes_changes_powers_and_destroys_machines() {
    let server = start(options()).await;
    let govc = Govc(&server);
    govc.ok(&[
        "vm.create",
        "-m",
        "512",
        "-c",
        "2",
        "-disk",
        "1G",
        "-net",
        "VM Network",
        "-g",
        "debian12_64Guest",
        "-on=false",
        "made",
    ])
    .await;
    assert!(govc.refused(&["vm.create", "-on=false", "-force", "made"]).await.contains("already exists"));
    govc.ok(&["vm.change", "-vm", "made", "-m", "1024", "-e", "guestinfo.a=b", "-annotation", "a note"]).await;
    let info = govc.ok(&["vm.info", "-e", "made"]).await;
    assert!(info.contains("1024MB") && info.contains("guestinfo.a"), "{info}");
    govc.ok(&["vm.power", "-on", "made"]).await;
    assert!(govc.refused(&["vm.clone", "-vm", "made", "copy"]).await.contains("not supported"));
    govc.ok(&["vm.power", "-off", "made"]).await;
    govc.ok(&["vm.disk.create", "-vm", "made", "-name", "made/second", "-size", "1G"]).await;
    govc.ok(&["vm.network.add", "-vm", "made", "-net", "VM Network", "-net.adapter", "vmxnet3"]).await;
    govc.ok(&["device.cdrom.add", "-vm", "made"]).await;
    govc.ok(&["device.remove", "-vm", "made", "ethernet-0"]).await;
    govc.ok(&["vm.unregister", "made"]).await;
    govc.ok(&["vm.register", "made/made.vmx"]).await;
    govc.ok(&["vm.destroy", "made"]).await;
    assert!(!govc.ok(&["find", "/", "-type", "m"]).await.contains("made"));
    govc.ok(&["vm.power", "-on", "debian-12"]).await;
    assert_eq!(govc.ok(&["vm.ip", "debian-12"]).await.trim(), "10.0.1.100");
    govc.ok(&["vm.power", "-s", "debian-12"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_changes_hardware_and_what_is_in_drives() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("a.iso");
    std::fs::write(&image, "an image").expect("a file");
    govc.ok(&["datastore.upload", image.to_str().expect("text"), "a.iso"]).await;
    govc.ok(&["vm.create", "-on=false", "-disk", "1G", "-disk.controller", "ide", "made"]).await;
    let devices = govc.ok(&["device.ls", "-vm", "made"]).await;
    assert!(devices.contains("ide-200") && devices.contains("ide-201") && !devices.contains("ide-202"), "{devices}");
    govc.ok(&["vm.change", "-vm", "made", "-c", "4", "-cpu-hot-add-enabled", "-memory-hot-add-enabled"]).await;
    govc.ok(&["vm.power", "-on", "made"]).await;
    govc.ok(&["vm.change", "-vm", "made", "-c", "8", "-m", "2048"]).await;
    govc.refused(&["vm.change", "-vm", "made", "-c", "2"]).await;
    govc.ok(&["vm.power", "-off", "made"]).await;
    govc.ok(&["object.rename", "vm/made", "other"]).await;
    govc.ok(&["vm.disk.change", "-vm", "other", "-disk.label", "Hard disk 1", "-size", "2G"]).await;
    govc.refused(&["vm.disk.change", "-vm", "other", "-disk.label", "Hard disk 1", "-size", "1G"]).await;
    govc.ok(&["device.cdrom.add", "-vm", "other"]).await;
    govc.refused(&["device.cdrom.insert", "-vm", "other", "none.iso"]).await;
    govc.ok(&["device.cdrom.insert", "-vm", "other", "a.iso"]).await;
    assert!(govc.ok(&["device.info", "-vm", "other", "cdrom-*"]).await.contains("a.iso"));
    govc.ok(&["device.cdrom.eject", "-vm", "other"]).await;
    assert!(!govc.ok(&["device.info", "-vm", "other", "cdrom-*"]).await.contains("a.iso"));
    govc.ok(&[
        "vm.network.change",
        "-vm",
        "other",
        "-net",
        "VM Network",
        "-net.address",
        "00:50:56:00:00:07",
        "ethernet-0",
    ])
    .await;
    assert!(govc.ok(&["device.info", "-vm", "other", "ethernet-0"]).await.contains("00:50:56:00:00:07"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_runs_programs_in_a_guest_and_carries_files() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    std::fs::write(&up, vec![7; 300_000]).expect("a file");
    let guest = ["-vm", "debian-12", "-l", "root:ceso-guest"];
    let with = |words: &[&'static str], more: &[String]| {
        let words = words.iter().chain(&guest).map(|word| (*word).to_owned());
        words.chain(more.iter().cloned()).collect::<Vec<String>>()
    };
    let ok = async |words: Vec<String>| govc.ok(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    govc.refused(&["guest.start", "-vm", "debian-12", "-l", "root:ceso-guest", "/bin/true"]).await;
    govc.ok(&["vm.power", "-on", "debian-12"]).await;
    govc.ok(&["vm.ip", "debian-12"]).await;
    let refused = govc.refused(&["guest.start", "-vm", "debian-12", "-l", "root:wrong", "/bin/true"]).await;
    assert!(refused.contains("authenticate"), "{refused}");
    assert_eq!(ok(with(&["guest.run"], &["/bin/echo".into(), "hello".into()])).await, "hello\n");
    let pid = ok(with(&["guest.start"], &["/bin/sleep".into(), "1000".into()])).await;
    assert!(ok(with(&["guest.ps", "-e"], &[])).await.contains("sleep"));
    let kill = ["guest.kill", "-vm", "debian-12", "-l", "root:ceso-guest", "-p", pid.trim()];
    govc.ok(&kill).await;
    ok(with(&["guest.upload"], &[text(&up), "/tmp/up".into()])).await;
    ok(with(&["guest.download"], &["/tmp/up".into(), text(&down)])).await;
    assert_eq!(std::fs::read(&down).expect("it came"), vec![7; 300_000]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_moves_files_and_disks() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let (up, down) = (folder.path().join("up"), folder.path().join("down"));
    std::fs::write(&up, vec![7; 300_000]).expect("a file");
    govc.ok(&["datastore.mkdir", "files"]).await;
    govc.ok(&["datastore.upload", up.to_str().expect("text"), "files/up"]).await;
    assert!(govc.ok(&["datastore.ls", "-l", "files"]).await.contains("up"));
    govc.ok(&["datastore.download", "files/up", down.to_str().expect("text")]).await;
    assert_eq!(std::fs::read(&down).expect("it came"), vec![7; 300_000]);
    govc.ok(&["datastore.cp", "files/up", "files/copy"]).await;
    govc.ok(&["datastore.mv", "files/copy", "files/moved"]).await;
    govc.ok(&["datastore.disk.create", "-size", "24M", "files/d.vmdk"]).await;
    govc.ok(&["datastore.disk.extend", "-size", "48M", "files/d.vmdk"]).await;
    assert!(govc.ok(&["datastore.disk.info", "files/d.vmdk"]).await.contains("d.vmdk"));
    govc.ok(&["datastore.ls", "-R"]).await;
    govc.ok(&["datastore.rm", "files"]).await;
    assert!(!govc.ok(&["datastore.ls"]).await.contains("files"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_takes_snapshots_reverts_and_removes_them() {
    let server = start(options()).await;
    let govc = Govc(&server);
    for name in ["one", "two"] {
        govc.ok(&["snapshot.create", "-vm", "debian-12", "-m=false", "-d", "said", name]).await;
        govc.ok(&["vm.change", "-vm", "debian-12", "-annotation", name]).await;
    }
    let tree = govc.ok(&["snapshot.tree", "-vm", "debian-12", "-d"]).await;
    assert!(tree.contains("one") && tree.contains("two") && tree.contains("said"), "{tree}");
    let backing = async |govc: &Govc<'_>| govc.ok(&["device.info", "-vm", "debian-12", "disk-*"]).await;
    assert!(backing(&govc).await.contains("debian-12-000002.vmdk"));
    govc.ok(&["snapshot.revert", "-vm", "debian-12", "two"]).await;
    let info = govc.ok(&["vm.info", "-json", "debian-12"]).await;
    assert!(info.contains("\"annotation\": \"one\"") || info.contains("\"annotation\":\"one\""), "{info}");
    assert!(govc.refused(&["snapshot.revert", "-vm", "debian-12", "three"]).await.contains("three"));
    govc.ok(&["snapshot.remove", "-vm", "debian-12", "two"]).await;
    assert!(!govc.ok(&["snapshot.tree", "-vm", "debian-12"]).await.contains("two"));
    govc.ok(&["snapshot.remove", "-vm", "debian-12", "*"]).await;
    assert!(backing(&govc).await.contains("debian-12/debian-12.vmdk"));
    assert_eq!(server.open_sessions(), 0, "the client logged out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_makes_a_machine_on_anothers_disk() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let disk = ["-disk", "debian-12/debian-12.vmdk", "-disk-datastore", "datastore1", "-link=true"];
    let make =
        [&["vm.create", "-on=false", "-g", "debian12_64Guest", "-net", "VM Network"], &disk[..], &["child"]].concat();
    govc.ok(&make).await;
    let info = govc.ok(&["device.info", "-json", "-vm", "child", "disk-*"]).await;
    assert!(info.contains("child/") && info.contains("[datastore1] debian-12/debian-12.vmdk"), "{info}");
    govc.ok(&["vm.power", "-on", "child"]).await;
    assert!(govc.refused(&["vm.power", "-on", "debian-12"]).await.to_lowercase().contains("lock"));
    govc.ok(&["vm.power", "-off", "child"]).await;
    let disk = govc.ok(&["device.ls", "-vm", "child"]).await;
    let disk = disk.split_whitespace().find(|word| word.starts_with("disk-")).expect("a disk").to_owned();
    // A host deletes every disk that a machine has, and a linked clone's has its parent's: it is detached first.
    govc.ok(&["device.remove", "-vm", "child", "-keep", &disk]).await;
    govc.ok(&["vm.destroy", "child"]).await;
    govc.ok(&["vm.power", "-on", "debian-12"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_administers_a_host() {
    let server = start(options()).await;
    let govc = Govc(&server);
    govc.ok(&["vm.power", "-on", "debian-12"]).await;
    let events = govc.ok(&["events", "-n", "5", "-type", "VmPoweredOnEvent", "/ha-datacenter/vm/debian-12"]).await;
    assert!(events.contains("debian-12") && events.contains("powered on"), "{events}");
    assert!(govc.ok(&["events"]).await.contains("logged in"));
    assert!(govc.ok(&["tasks"]).await.contains("debian-12"));

    govc.ok(&["host.portgroup.add", "-vswitch", "vSwitch0", "-vlan", "42", "lab"]).await;
    let told = govc.ok(&["host.portgroup.info", "-json"]).await;
    assert!(told.contains("\"vlanId\": 42") || told.contains("\"vlanId\":42"), "{told}");
    assert!(govc.refused(&["host.portgroup.remove", "VM Network"]).await.contains("in use"));
    govc.ok(&["host.portgroup.remove", "lab"]).await;

    govc.ok(&[
        "datastore.create",
        "-type",
        "nfs",
        "-name",
        "isos",
        "-remote-host",
        "10.0.1.5",
        "-remote-path",
        "/export",
        "/ha-datacenter/host/simulator.localdomain/simulator.localdomain",
    ])
    .await;
    assert!(govc.ok(&["datastore.info", "isos"]).await.contains("NFS"));
    let host = "/ha-datacenter/host/simulator.localdomain/simulator.localdomain";
    govc.ok(&["datastore.remove", "-ds", "isos", host]).await;
    govc.refused(&["datastore.remove", "-ds", "datastore1", host]).await;

    govc.ok(&["vm.power", "-off", "debian-12"]).await;
    govc.ok(&["host.maintenance.enter", host]).await;
    assert!(govc.refused(&["vm.power", "-on", "debian-12"]).await.contains("maintenance"));
    govc.ok(&["host.maintenance.exit", host]).await;
    assert_eq!(server.open_sessions(), 0, "the client logged out");
    // The host may be gone before it is logged out of.
    run(govc.command(&["host.shutdown", "-f", host])).await;
    for _ in 0..200 {
        if server.is_down() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(server.is_down());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_tells_what_a_machine_asks_and_answers_it() {
    let server = start(options()).await;
    let govc = Govc(&server);
    assert!(govc.ok(&["vm.question", "-vm", "debian-12"]).await.contains("No pending question"));
    server.fault(ceso::sim::read_fault("PowerOnVM_Task:ask=moved:1").expect("a rule")).expect("a rule");
    let mut power = govc.command(&["vm.power", "-on", "debian-12"]).spawn().expect("govc");
    let mut told = String::new();
    for _ in 0..300 {
        told = govc.ok(&["vm.question", "-vm", "debian-12"]).await;
        if told.contains("Possible answers") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(told.contains("moved or copied") && told.contains("2) button.uuid.copiedTheVM"), "{told}");
    assert!(govc.refused(&["vm.question", "-vm", "debian-12", "-answer", "7"]).await.contains("not correct"));
    govc.ok(&["vm.question", "-vm", "debian-12", "-answer", "2"]).await;
    let done = tokio::task::spawn_blocking(move || power.wait()).await.expect("a thread").expect("an end");
    assert!(done.success(), "the power-on goes on");
    assert!(govc.ok(&["vm.info", "debian-12"]).await.contains("poweredOn"));
    server.ask("debian-12", "space").expect("a question");
    assert!(govc.refused(&["vm.power", "-off", "debian-12"]).await.contains("question pending"));
    govc.ok(&["vm.question", "-vm", "debian-12", "-answer", "0"]).await;
    govc.ok(&["vm.power", "-off", "debian-12"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_sets_what_starts_with_the_host() {
    let server = start(Options { vms: 2, ..options() }).await;
    let govc = Govc(&server);
    govc.ok(&["host.autostart.configure", "-enabled=true", "-stop-action", "suspend", "-start-delay", "7"]).await;
    govc.ok(&["host.autostart.add", "-start-order", "1", "debian-12"]).await;
    assert!(govc.refused(&["host.autostart.add", "-start-order", "4", "vm-0001"]).await.contains("startOrder"));
    assert!(govc.refused(&["host.autostart.add", "-start-order", "0", "vm-0001"]).await.contains("startOrder"));
    govc.ok(&["host.autostart.add", "-start-order", "1", "-stop-action", "powerOff", "vm-0001"]).await;
    let told = govc.ok(&["host.autostart.info"]).await;
    let row = |name: &str| {
        told.lines().find(|line| line.contains(name)).map(|line| line.split_whitespace().collect::<Vec<_>>())
    };
    assert_eq!(row("vm-0001").expect("a row")[1..6], ["powerOn", "-1", "1", "powerOff", "-1"], "{told}");
    assert_eq!(row("debian-12").expect("a row")[3], "2", "it was pushed: {told}");
    let told = govc.ok(&["host.autostart.info", "-json"]).await;
    assert!(told.contains("\"startDelay\": 7") && told.contains("\"stopAction\": \"suspend\""), "{told}");
    govc.ok(&["host.autostart.remove", "vm-0001"]).await;
    assert!(!govc.ok(&["host.autostart.info"]).await.contains("vm-0001"));
    govc.ok(&["vm.destroy", "debian-12"]).await;
    assert!(!govc.ok(&["host.autostart.info"]).await.contains("debian-12"), "who is gone takes no part");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_hands_a_pci_device_through() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let told = govc.ok(&["device.pci.ls", "-vm", "debian-12"]).await;
    assert!(told.contains("0000:0c:00.0") && !told.contains("0000:0d:00.0"), "{told}");
    govc.refused(&["device.pci.add", "-vm", "debian-12", "0000:0d:00.0"]).await;
    govc.ok(&["device.pci.add", "-vm", "debian-12", "0000:0c:00.0"]).await;
    let told = govc.ok(&["device.info", "-vm", "debian-12", "pcipassthrough-*"]).await;
    assert!(told.contains("PCI device 0") && told.contains("13000"), "{told}");
    assert!(govc.refused(&["vm.power", "-on", "debian-12"]).await.contains("sched.mem.min"));
    govc.ok(&["vm.change", "-vm", "debian-12", "-memory-pin"]).await;
    govc.ok(&["vm.power", "-on", "debian-12"]).await;
    govc.refused(&["snapshot.create", "-vm", "debian-12", "-m=true", "memory"]).await;
    govc.ok(&["snapshot.create", "-vm", "debian-12", "-m=false", "disks"]).await;
    govc.refused(&["device.pci.remove", "-vm", "debian-12", "pcipassthrough-13000"]).await;
    govc.ok(&["vm.power", "-off", "debian-12"]).await;
    govc.ok(&["device.pci.remove", "-vm", "debian-12", "pcipassthrough-13000"]).await;
    assert!(!govc.ok(&["device.ls", "-vm", "debian-12"]).await.contains("pcipassthrough"));
    server.stop().await;
}
