//! Whole boots of the real cloud-init with all of its modules, in a scratch root (`machine.py`): what a first boot does, and that a re-IP
//! changes the network and nothing else.

use ceso::cloudinit::{self, Document, GuestInfo, Reip, Target};
use serde_json::{Value, json};

use crate::cases::{self, UUID};
use crate::real::{CloudInit, EACH};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG3fx2y8bfW1iGZBOiq7jVZ5y0eJk9iZs5sG2DPrVXAr ops@example";
const HASH: &str = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1";
const NETWORK: &str = "etc/network/interfaces.d/50-cloud-init";

fn entries(document: &Document, uuid: &str) -> Value {
    let macs = ["00:50:56:00:00:01".parse().unwrap()];
    let guestinfo: GuestInfo = document.guestinfo(Target { uuid, macs: &macs }).unwrap();
    guestinfo.entries().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

fn first(address: &str) -> Document {
    cloudinit::build(&cases::spec(json!({
        "hostname": "web-1",
        "fqdn": "web-1.example.org",
        "users": [{ "name": "ops", "ssh_keys": KEY, "sudo": true, "groups": "adm", "password_hash": HASH }],
        "network": { "address": address, "gateway": "10.0.1.1", "dns": "10.0.1.1" },
        "files": [{ "path": "/etc/written", "content": "once\n" }],
        "mounts": [{ "device": "tmpfs", "path": "/scratch", "filesystem": "tmpfs" }],
        "timezone": "Europe/Berlin",
        "locale": "de_DE.UTF-8",
        "boot_commands": ["echo ran >>/var/log/boot-commands"],
        "commands": [["sh", "-c", "echo ran >>/var/log/commands"]],
    })))
    .unwrap()
}

fn reip(address: &str) -> Document {
    let network =
        json!({ "network": { "address": address, "gateway": "10.0.1.1", "dns": "10.0.1.1" }, "hostname": "web-1" });
    cloudinit::reip(&serde_json::from_value::<Reip>(network).unwrap()).unwrap()
}

/// The files of a boot, without the network's and without those of `but`.
fn files(boot: &Value, but: &[&str]) -> Value {
    let mut files = boot["files"].clone();
    for path in but.iter().chain([&NETWORK]) {
        files.as_object_mut().unwrap().remove(*path).unwrap();
    }
    files
}

fn has_address(boot: &Value, address: &str) -> bool {
    boot["files"][NETWORK].as_str().is_some_and(|text| text.contains(&format!("address {address}/24\n")))
}

fn boots(version: CloudInit, sequence: &[Value]) -> Vec<Value> {
    let answer = version.run("machine.py", &[], &json!([sequence]));
    for (index, boot) in answer[0].as_array().unwrap().iter().enumerate() {
        assert_eq!(boot["errors"], json!([]), "{version}, boot {index}: {:#}", boot["warnings"]);
    }
    answer[0].as_array().unwrap().clone()
}

#[test]
#[ignore = "needs cloud-init and root"]
fn cloud_init_changes_the_network_alone_when_a_machine_gets_another() {
    let (old, new) = ("10.0.1.5/24", "10.0.1.6/24");
    let there = entries(&reip(new), UUID);
    let back = entries(&reip(old), UUID);
    let made = entries(&first(old), UUID);
    let sequence = [&made, &made, &there, &there, &back, &there, &made].map(Value::clone);
    for version in EACH {
        let boots = boots(version, &sequence);
        let id = format!("ceso-{}", UUID.to_lowercase());

        // The first boot did all that it was asked.
        let files = |boot: usize| self::files(&boots[boot], &["var/log/boot-commands"]);
        assert_eq!(boots[0]["hostname"], "web-1", "{version}");
        assert_eq!(boots[0]["instance_id"], json!(id), "{version}");
        let text = |boot: usize, path: &str| boots[boot]["files"][path].as_str().unwrap_or_default().to_owned();
        for (path, part) in [
            ("etc/passwd", "\nops:x:"),
            ("etc/shadow", format!("\nops:{HASH}:").as_str()),
            ("etc/written", "once\n"),
            ("etc/fstab", "\ntmpfs\t/scratch\ttmpfs\tdefaults,nofail,comment=cloudconfig\t0\t0"),
            ("home/ops/.ssh/authorized_keys", KEY),
            ("etc/sudoers.d/90-cloud-init-users", "ops ALL=(ALL) NOPASSWD:ALL"),
            ("etc/hosts", "web-1.example.org"),
            ("etc/hostname", "web-1\n"),
            ("etc/timezone", "Europe/Berlin"),
            ("etc/default/locale", "LANG=de_DE.UTF-8"),
            ("etc/ssh/sshd_config", "PasswordAuthentication no"),
            ("var/log/commands", "ran\n"),
        ] {
            let text = text(0, path).replace("x-systemd.requires=cloud-init.service,", "");
            assert!(text.contains(part), "{version}, {path}: {text}");
        }
        assert!(has_address(&boots[0], "10.0.1.5"), "{version}: {:#}", boots[0]["files"][NETWORK]);
        assert!(boots[0]["files"]["etc/ssh/ssh_host_ed25519_key"].is_string(), "{version}");

        // Any later boot, whatever it was sent, left all of it as it was; commands ran once.
        for (later, boot) in boots.iter().enumerate().skip(1) {
            assert_eq!(files(later), files(0), "{version}, boot {later}");
            assert_eq!(boot["hostname"], "web-1", "{version}, boot {later}");
        }
        // The network is that of the last document which the guest took.
        let addresses = ["10.0.1.5", "10.0.1.5", "10.0.1.6", "10.0.1.6", "10.0.1.5", "10.0.1.6", "10.0.1.5"];
        for (index, address) in addresses.iter().enumerate() {
            assert!(
                has_address(&boots[index], address),
                "{version}, boot {index}: {:#}",
                boots[index]["files"][NETWORK]
            );
        }
        assert_eq!(boots[4]["files"][NETWORK], boots[0]["files"][NETWORK], "{version}");
        // Commands of every boot run while the document that has them is there, and at no other.
        for (index, times) in [1, 2, 2, 2, 2, 2, 3].into_iter().enumerate() {
            assert_eq!(text(index, "var/log/boot-commands"), "ran\n".repeat(times), "{version}, boot {index}");
        }
        // The same re-IP again is no new instance, nor is the first document after it has been taken once.
        for (index, new) in [true, false, true, false, true, false, false].into_iter().enumerate() {
            let ran = !boots[index]["per_instance_modules"].as_array().unwrap().is_empty();
            assert_eq!(ran, new, "{version}, boot {index}: {}", boots[index]["per_instance_modules"]);
        }
    }
}

/// What the other test would see if the re-IP did not protect the guest: another instance with the same content.
#[test]
#[ignore = "needs cloud-init and root"]
fn cloud_init_makes_all_anew_for_another_instance_without_protection() {
    for version in EACH {
        let sequence = [
            entries(&first("10.0.1.5/24"), UUID),
            entries(&first("10.0.1.6/24"), "564d1234-abcd-4ef0-8123-0000000000ff"),
        ];
        let boots = boots(version, &sequence);
        assert!(has_address(&boots[1], "10.0.1.6"), "{version}");
        assert_ne!(
            boots[1]["files"]["etc/ssh/ssh_host_ed25519_key"],
            boots[0]["files"]["etc/ssh/ssh_host_ed25519_key"]
        );
        assert_eq!(boots[1]["files"]["var/log/commands"], "ran\nran\n", "{version}");
    }
}

/// A machine that something else has made: its own user, a password, sources and hosts of the image.
#[test]
#[ignore = "needs cloud-init and root"]
fn cloud_init_keeps_what_others_have_made_when_ceso_gives_a_network() {
    let foreign = json!({
        "guestinfo.metadata": "instance-id: iid-tf\nlocal-hostname: app-7\nnetwork: {version: 2, ethernets: {eth0: {match: {macaddress: '00:50:56:00:00:01'}, set-name: eth0, addresses: [192.0.2.7/24]}}}\n",
        "guestinfo.userdata": format!("#cloud-config\nssh_authorized_keys: ['{KEY}']\npassword: '{HASH}'\nchpasswd: {{expire: false}}\nssh_pwauth: true\nruncmd: ['echo ran >>/var/log/commands']\n"),
    });
    let network = json!({ "network": { "address": "10.0.1.6/24", "gateway": "10.0.1.1", "dns": "10.0.1.1" } });
    let document = cloudinit::reip(&serde_json::from_value::<Reip>(network).unwrap()).unwrap();
    for version in EACH {
        let boots = boots(version, &[foreign.clone(), entries(&document, UUID)]);
        assert!(boots[0]["files"]["etc/shadow"].as_str().unwrap().contains(&format!("\ndebian:{HASH}:")), "{version}");
        assert!(has_address(&boots[1], "10.0.1.6"), "{version}: {:#}", boots[1]["files"][NETWORK]);
        assert_eq!(files(&boots[1], &[]), files(&boots[0], &[]), "{version}");
        assert_eq!(boots[1]["hostname"], "app-7", "{version}");
    }
}
