//! govc at work on the host itself: its firewall, its certificate, its command line, its counters, its consoles and its settings.

use ceso::sim::{Hindrances, Options};

use super::govc::Govc;
use super::started::{options, start};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_finds_rulesets_and_switches_them() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let find = |direction| ["firewall.ruleset.find", "-direction", direction, "-port", "22", "-c"];
    assert_eq!(govc.ok(&find("inbound")).await.trim(), "sshServer");
    assert!(govc.refused(&find("outbound")).await.contains("sshClient"));
    govc.ok(&["host.esxcli", "--", "network", "firewall", "ruleset", "set", "-r", "sshClient", "-e", "true"]).await;
    assert_eq!(govc.ok(&find("outbound")).await.trim(), "sshClient");
    govc.refused(&["host.esxcli", "--", "network", "firewall", "ruleset", "set", "-r", "none", "-e", "true"]).await;
    assert!(govc.ok(&["host.esxcli", "network", "firewall", "get"]).await.contains("DROP"));
    govc.ok(&["host.esxcli", "--", "network", "firewall", "set", "-d", "true"]).await;
    assert!(govc.ok(&["host.esxcli", "network", "firewall", "get"]).await.contains("PASS"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_reads_and_replaces_the_certificate_of_a_host() {
    let server = start(options()).await;
    let govc = Govc(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("certificate.pem");
    let about = govc.ok(&["about.cert"]).await;
    let own = govc.ok(&["host.cert.info"]).await;
    assert!(own.contains("ceso SIMULATOR") && own.contains("good"), "{own}");
    let shown = govc.ok(&["host.cert.info", "-show"]).await;
    assert!(shown.starts_with("-----BEGIN CERTIFICATE-----") && !shown.contains("PRIVATE"), "{shown}");
    for arguments in [&["host.cert.csr"][..], &["host.cert.csr", "-ip"]] {
        assert!(govc.ok(arguments).await.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    }
    std::fs::write(&file, "nothing of the kind").expect("a file");
    let place = file.to_str().expect("text");
    assert!(govc.refused(&["host.cert.import", place]).await.contains("not taken"));
    std::fs::write(&file, shown).expect("a file");
    govc.ok(&["host.cert.import", place]).await;
    assert_eq!(govc.ok(&["about.cert"]).await, about, "it is the same one");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_runs_the_hosts_command_line() {
    let server = start(Options { vms: 2, ..options() }).await;
    let govc = Govc(&server);
    for words in [
        "hardware clock get",
        "hardware cpu global get",
        "hardware memory get",
        "hardware pci list",
        "hardware platform get",
        "iscsi software get",
        "network firewall ruleset list",
        "network firewall ruleset allowedip list",
        "network firewall ruleset rule list",
        "network ip connection list",
        "network ip dns server list",
        "network ip interface list",
        "network ip interface ipv4 get",
        "network ip route ipv4 list",
        "network nic list",
        "network vswitch standard list",
        "network vswitch standard portgroup list",
        "software acceptance get",
        "software profile get",
        "software vib list",
        "storage core adapter list",
        "storage core device list",
        "storage filesystem list",
        "storage vmfs extent list",
        "system account list",
        "system hostname get",
        "system maintenanceMode get",
        "system settings advanced list",
        "system stats uptime get",
        "system time get",
        "system uuid get",
        "system version get",
    ] {
        let all: Vec<&str> = std::iter::once("host.esxcli").chain(words.split(' ')).collect();
        assert!(!govc.ok(&all).await.trim().is_empty(), "{words}");
    }
    let networks = govc.ok(&["host.esxcli", "network", "vm", "list"]).await;
    assert!(
        networks.contains("vm-0001") && networks.contains("VM Network") && !networks.contains("debian-12"),
        "{networks}"
    );
    let processes = govc.ok(&["host.esxcli", "-json", "vm", "process", "list"]).await;
    assert!(processes.contains("vm-0002"), "{processes}");
    assert!(govc.refused(&["host.esxcli", "network", "vm", "list", "enoent"]).await.contains("could not be found"));
    assert!(
        govc.refused(&["host.esxcli", "--", "network", "nic", "ring", "current", "get"]).await.contains("required")
    );

    // A host tells a guest's address only while it listens for it.
    assert_eq!(govc.ok(&["vm.ip", "-esxcli", "vm-0001"]).await.trim(), "10.1.0.1");
    let option = ["host.esxcli", "--", "system", "settings", "advanced", "set", "-o", "/Net/GuestIPHack", "-i"];
    govc.ok(&[&option[..], &["0"]].concat()).await;
    assert!(govc.refused(&[&option[..], &["2"]].concat()).await.contains("not correct"));
    let world =
        processes.split("\"WorldID\"").nth(1).and_then(|rest| rest.split('"').nth(1)).expect("a number").to_owned();
    let ports = govc.ok(&["host.esxcli", "--", "network", "vm", "port", "list", "-w", &world]).await;
    assert!(ports.contains("0.0.0.0"), "{ports}");
    govc.ok(&["host.esxcli", "--", "vm", "process", "kill", "-t", "soft", "-w", &world]).await;
    assert!(!govc.ok(&["host.esxcli", "network", "vm", "list"]).await.contains("vm-0001"));

    let group = ["-p", "lab", "-v", "vSwitch0"];
    let command = ["host.esxcli", "--", "network", "vswitch", "standard", "portgroup"];
    govc.ok(&[&command[..], &["add"], &group].concat()).await;
    govc.ok(&[&command[..], &["set", "-p", "lab", "-v", "42"]].concat()).await;
    assert!(govc.ok(&["host.portgroup.info"]).await.contains("lab"));
    govc.ok(&[&command[..], &["remove"], &group].concat()).await;
    assert!(!govc.ok(&["host.portgroup.info"]).await.contains("lab"));
    let one = ["host.esxcli", "--", "system", "settings", "advanced", "list", "-o", "/Net/GuestIPHack"];
    assert!(govc.ok(&one).await.contains("IntValue:"));
    for arguments in [&["host.esxcli.model"][..], &["host.esxcli.model", "-c"], &["host.esxcli.model", "-i"]] {
        let mut command = govc.command(arguments);
        command.env("GOVC_SHOW_UNRELEASED", "true");
        let output = super::started::run(command).await;
        assert!(output.status.success(), "{}", super::started::said(&output));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_reads_counters_that_hold_together() {
    let server = start(Options { vms: 2, ..options() }).await;
    let govc = Govc(&server);
    let host = "/ha-datacenter/host/simulator.localdomain/simulator.localdomain";
    let names = govc.ok(&["metric.ls", host]).await;
    assert!(names.contains("cpu.usagemhz.average") && names.contains("mem.consumed.average"), "{names}");
    assert!(govc.ok(&["metric.ls", "host/*/Resources"]).await.contains("mem.consumed.average"));
    assert!(govc.ok(&["metric.ls", "vm/debian-12"]).await.is_empty(), "it does not run");
    govc.refused(&["metric.ls", "vm/none"]).await;
    assert!(govc.ok(&["metric.info", host, "cpu.usage.average"]).await.contains("Realtime:          true"));
    assert!(govc.ok(&["metric.interval.info"]).await.contains("PastDay"));
    let read = async |object: &str, name: &str| {
        let told = govc.ok(&["metric.sample", "-n", "1", "-instance", "-", object, name]).await;
        told.split_whitespace().nth(3).and_then(|number| number.parse::<f64>().ok()).unwrap_or_else(|| panic!("{told}"))
    };
    let sum = read("vm/vm-0001", "cpu.usagemhz.average").await + read("vm/vm-0002", "cpu.usagemhz.average").await;
    assert_eq!(read(host, "cpu.usagemhz.average").await, sum);
    govc.refused(&["metric.sample", host, "cpu.none.average"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_gives_disks_their_space_and_shares_them() {
    let server = start(options()).await;
    let govc = Govc(&server);
    govc.ok(&["datastore.mkdir", "d"]).await;
    govc.ok(&["datastore.disk.create", "-size", "10MB", "d/d.vmdk"]).await;
    let kind = async || govc.ok(&["datastore.disk.info", "d/d.vmdk"]).await;
    assert!(kind().await.contains("thin"));
    govc.ok(&["datastore.disk.inflate", "d/d.vmdk"]).await;
    assert!(kind().await.contains("eagerZeroedThick"));
    govc.ok(&["datastore.disk.shrink", "-copy=false", "d/d.vmdk"]).await;
    govc.ok(&["vm.create", "-on=false", "one"]).await;
    govc.ok(&["vm.create", "-on=false", "two"]).await;
    let shared = ["-sharing", "sharingMultiWriter"];
    let make = ["vm.disk.create", "-vm", "one", "-name", "one/shared", "-size", "1G", "-eager", "-thick"];
    govc.ok(&[&make[..], &shared].concat()).await;
    govc.ok(&["vm.power", "-on", "one"]).await;
    let attach = ["vm.disk.attach", "-vm", "two", "-link=false", "-disk", "one/shared.vmdk"];
    govc.ok(&attach).await;
    assert!(govc.refused(&["vm.power", "-on", "two"]).await.contains("lock"));
    let none = ["vm.disk.attach", "-vm", "two", "-disk", "none.vmdk"];
    assert!(govc.refused(&none).await.contains("Invalid configuration for device '0'."));
    let change = ["vm.disk.change", "-vm", "two", "-disk.filePath", "[datastore1] one/shared.vmdk", "-sharing"];
    govc.ok(&[&change[..], &["sharingMultiWriter"]].concat()).await;
    govc.ok(&["vm.power", "-on", "two"]).await;
    assert!(govc.refused(&[&change[..], &["sharingNone"]].concat()).await.contains("state"));
    govc.ok(&["vm.power", "-off", "two"]).await;
    govc.ok(&[&change[..], &["sharingNone"]].concat()).await;
    govc.refused(&["vm.power", "-on", "two"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_opens_consoles_and_takes_pictures() {
    let server = start(options()).await;
    let govc = Govc(&server);
    assert!(govc.ok(&["vm.console", "debian-12"]).await.starts_with("vmrc://clone:"));
    govc.refused(&["vm.console", "-wss", "debian-12"]).await;
    govc.refused(&["vm.keystrokes", "-vm", "debian-12", "-s", "root"]).await;
    govc.ok(&["vm.power", "-on", "debian-12"]).await;
    assert!(govc.ok(&["vm.console", "-wss", "debian-12"]).await.contains("/ticket/"));
    govc.ok(&["vm.keystrokes", "-vm", "debian-12", "-s", "root"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("screen.png");
    govc.ok(&["vm.console", "-capture", file.to_str().expect("text"), "debian-12"]).await;
    assert!(std::fs::read(&file).expect("a picture").starts_with(b"\x89PNG"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_sets_what_a_host_can_be_set_to() {
    let server = start(options()).await;
    let govc = Govc(&server);
    assert!(govc.refused(&["host.service", "stop", "TSM-SSH"]).await.contains("does not run"));
    govc.ok(&["host.service", "start", "TSM-SSH"]).await;
    assert!(govc.ok(&["host.service", "status", "TSM-SSH"]).await.contains("Running"));
    govc.ok(&["host.service", "enable", "TSM-SSH"]).await;
    govc.refused(&["host.service", "start", "none"]).await;
    govc.ok(&["host.option.set", "Annotations.WelcomeMessage", "a host"]).await;
    assert!(govc.ok(&["host.option.ls", "Annotations.WelcomeMessage"]).await.contains("a host"));
    govc.refused(&["host.option.set", "Annotations.None", "a host"]).await;
    govc.ok(&["host.date.change", "-server", "10.0.1.9"]).await;
    assert!(govc.ok(&["host.date.info"]).await.contains("10.0.1.9"));
    let told = govc.ok(&["license.add", "-json", "11111-11111-11111-11111-11111"]).await;
    assert!(told.contains("License is not valid for this product"), "{told}");
    assert!(govc.ok(&["license.ls"]).await.contains("eval"));
    assert!(govc.ok(&["permissions.ls"]).await.contains("Admin"));
    assert!(govc.ok(&["role.ls"]).await.contains("ReadOnly"));
    govc.refused(&["role.create", "other"]).await;
    assert!(govc.ok(&["host.vnic.info"]).await.contains("vmk0"));
    govc.ok(&["host.vnic.service", "vmotion", "vmk0"]).await;
    assert!(govc.ok(&["host.vnic.info"]).await.contains("vmotion"));
    govc.refused(&["host.vnic.service", "-enable=false", "management", "vmk0"]).await;
    govc.ok(&["host.storage.info", "-rescan", "-rescan-vmfs", "-refresh"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    govc.ok(&["object.save", "-d", folder.path().join("saved").to_str().expect("text")]).await;
    server.stop().await;
}

/// What stands in the way of changes, as another client meets it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_sees_and_meets_what_stands_in_the_way_of_changes() {
    let lacks = vec!["VirtualMachine.Interact.PowerOn".to_owned()];
    let managed_by = Some("10.0.9.9".to_owned());
    let server = start(Options {
        hindrances: Hindrances { lacks, managed_by, lockdown: true, ..Hindrances::default() },
        ..options()
    })
    .await;
    let govc = Govc(&server);
    let info = govc.ok(&["host.info", "-json"]).await;
    assert!(info.contains("\"managementServerIp\": \"10.0.9.9\"") && info.contains("lockdownNormal"), "{info}");
    let roles = govc.ok(&["role.ls"]).await;
    assert!(roles.contains("Limited"), "{roles}");
    let held = govc.ok(&["role.ls", "Limited"]).await;
    assert!(
        held.contains("VirtualMachine.Interact.PowerOff") && !held.contains("VirtualMachine.Interact.PowerOn\n"),
        "{held}"
    );
    let refused = govc.refused(&["vm.power", "-on", "debian-12"]).await;
    assert!(refused.to_lowercase().contains("permission"), "{refused}");
    govc.ok(&["vm.change", "-vm", "debian-12", "-annotation", "what it may"]).await;
    server.stop().await;

    let free = Hindrances { free_licence: true, ..Hindrances::default() };
    let server = start(Options { hindrances: free, ..options() }).await;
    let govc = Govc(&server);
    let licences = govc.ok(&["license.ls"]).await;
    assert!(licences.contains("esxBasic"), "{licences}");
    govc.ok(&["vm.info", "debian-12"]).await;
    for change in [&["vm.power", "-on", "debian-12"][..], &["datastore.mkdir", "a"], &["vm.destroy", "debian-12"]] {
        assert!(govc.refused(change).await.contains("prohibits execution"), "{change:?}");
    }
    server.stop().await;
}
