//! What Debian's real cloud-init makes of the documents. A machine without it fails these tests.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use ceso::cloudinit::{self, GuestInfo, Target};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases::{self, Good, UUID};

const RENDERERS: [&str; 5] = ["eni", "networkd", "network-manager", "netplan", "sysconfig"];

/// Runs `guest.py` under the system's Python, where Debian's cloud-init is.
fn guest(what: &str, input: &Value) -> Value {
    let mut child = Command::new("/usr/bin/python3")
        .arg(cases::folder("guest.py"))
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 with cloud-init (tests/peers/prepare installs it)");
    let mut stdin = child.stdin.take().unwrap();
    let text = input.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().ok();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "guest.py {what}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn extra_config(guestinfo: &GuestInfo) -> Value {
    guestinfo.entries().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

fn expected_interfaces(case: &Good) -> Value {
    let filled = case.guest.interfaces.iter().map(|(name, given)| {
        let mut fields = json!({
            "mac": null, "dhcp4": false, "dhcp6": false, "addresses": [], "gateway4": null, "gateway6": null, "mtu": null,
        });
        for (key, value) in given.as_object().unwrap() {
            fields[key] = value.clone();
        }
        let mut addresses: Vec<String> = serde_json::from_value(fields["addresses"].clone()).unwrap();
        addresses.sort();
        fields["addresses"] = json!(addresses);
        (name.clone(), fields)
    });
    filled.collect()
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_schema_accepts_every_document() {
    let folder = tempfile::tempdir().unwrap();
    for (name, case) in cases::good() {
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, case.document().user_data()).unwrap();
        let output =
            Command::new("cloud-init").arg("schema").arg("--config-file").arg(&path).output().expect("cloud-init");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("Valid cloud-config"), "{name}: {said}");
        assert!(!said.contains("deprecat"), "{name}: {said}");
    }
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_the_same_network_with_every_renderer() {
    let cases: Vec<(String, Good)> =
        cases::good().into_iter().filter(|(_, case)| !case.guest.interfaces.is_empty()).collect();
    assert!(cases.len() >= 10);
    let networks = cases.iter().map(|(_, case)| cases::metadata(&case.guestinfo())["network"].clone()).collect();
    let answers = guest("convert", &networks);
    for ((name, case), answer) in cases.iter().zip(answers.as_array().unwrap()) {
        for renderer in RENDERERS {
            let found = &answer[renderer];
            assert_eq!(found["interfaces"], expected_interfaces(case), "{name} by {renderer}");
            if case.guest.dns_lost_by.as_deref() == Some(renderer) {
                continue;
            }
            let sorted = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
            assert_eq!(found["dns"], json!(sorted(&case.guest.dns)), "{name} by {renderer}");
            assert_eq!(found["search"], json!(sorted(&case.guest.search)), "{name} by {renderer}");
        }
    }
}

/// One card of a random network: what is asked for, by numbers that `random_network` turns into addresses.
type Card = (u8, u8, bool, bool, Option<u32>, Vec<bool>);

/// A network whose cards are DHCP, given by hand, or both (one for each family), and what the guest must end up with.
fn random_network(cards: &[Card]) -> (Value, Value, BTreeSet<String>) {
    let (mut nics, mut interfaces, mut servers) = (Vec::new(), serde_json::Map::new(), BTreeSet::new());
    let (mut routed4, mut routed6) = (false, false);
    for (number, (v4, v6, gateway4, gateway6, mtu, dns)) in cards.iter().enumerate() {
        let (mut addresses, mut given, mut gateways): (Vec<String>, Vec<String>, Vec<String>) = Default::default();
        let mut found = json!({ "mac": format!("00:50:56:00:00:{:02x}", number + 1), "dhcp4": *v4 == 0, "dhcp6": *v6 == 0,
            "gateway4": null, "gateway6": null, "mtu": mtu });
        let subnet = number + 1;
        // IPv6 first, as that is the order which matters if it does.
        given.extend((0..*v6).map(|host| format!("2001:db8:{subnet}::{}/64", host + 2)));
        given.extend((0..*v4).map(|host| format!("10.{subnet}.{host}.2/24")));
        addresses.extend(given.iter().cloned());
        if *v6 == 0 {
            given.push("dhcp6".into());
        }
        if *v4 == 0 {
            given.push("dhcp".into());
        }
        if *gateway4 && *v4 > 0 && !std::mem::replace(&mut routed4, true) {
            gateways.push(format!("10.{subnet}.0.1"));
            found["gateway4"] = json!(gateways.last());
        }
        if *gateway6 && *v6 > 0 && !std::mem::replace(&mut routed6, true) {
            gateways.push(format!("2001:db8:{subnet}::1"));
            found["gateway6"] = json!(gateways.last());
        }
        let own = |(index, v6): (usize, &bool)| {
            if *v6 {
                format!("2001:db8:53:{subnet}::{}", index + 1)
            } else {
                format!("192.0.2.{}", number * 8 + index + 1)
            }
        };
        let dns: Vec<String> = dns.iter().enumerate().map(own).collect();
        servers.extend(dns.iter().cloned());
        addresses.sort();
        found["addresses"] = json!(addresses);
        nics.push(json!({ "address": given, "gateway": gateways, "dns": dns, "mtu": mtu }));
        interfaces.insert(format!("eth{number}"), found);
    }
    (Value::Array(nics), Value::Object(interfaces), servers)
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_any_accepted_network_with_every_renderer() {
    let card = (
        0..3_u8,
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(1280..=9000_u32),
        proptest::collection::vec(any::<bool>(), 0..2),
    );
    let strategy = proptest::collection::vec(card, 1..4);
    let mut runner = TestRunner::deterministic();
    let mut wanted = Vec::new();
    let mut networks = Vec::new();
    for _ in 0..60 {
        let cards = strategy.new_tree(&mut runner).unwrap().current();
        let (nics, interfaces, servers) = random_network(&cards);
        let document = cloudinit::build(&cases::spec(json!({ "hostname": "a", "network": nics }))).unwrap();
        let macs: Vec<_> =
            (1..=cards.len()).map(|number| format!("00:50:56:00:00:{number:02x}").parse().unwrap()).collect();
        let guestinfo = document.render(Target { uuid: UUID, macs: &macs }).unwrap();
        networks.push(cases::metadata(&guestinfo)["network"].clone());
        // Beside DHCP, 22.4's renderer for NetworkManager drops name servers.
        let all_by_hand = cards.iter().all(|(v4, v6, ..)| *v4 > 0 && *v6 > 0);
        wanted.push((interfaces, servers, all_by_hand));
    }
    let answers = guest("convert", &json!(networks));
    assert_eq!(answers.as_array().unwrap().len(), wanted.len());
    for ((interfaces, servers, all_by_hand), (answer, network)) in
        wanted.iter().zip(answers.as_array().unwrap().iter().zip(&networks))
    {
        for renderer in RENDERERS {
            assert_eq!(&answer[renderer]["interfaces"], interfaces, "by {renderer}: {network:#}");
            if *all_by_hand || renderer != "network-manager" {
                assert_eq!(answer[renderer]["dns"], json!(servers), "by {renderer}: {network:#}");
            }
        }
    }
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_reads_from_guestinfo_what_was_written() {
    let cases = cases::good();
    let sequences = cases.iter().map(|(_, case)| json!([extra_config(&case.guestinfo())])).collect();
    let answers = guest("boots", &sequences);
    for ((name, case), answer) in cases.iter().zip(answers.as_array().unwrap()) {
        let boot = &answer[0];
        assert_eq!(boot["source"], "VMware", "{name}");
        assert_eq!(boot["instance_id"], json!(format!("ceso-{}", UUID.to_lowercase())), "{name}");
        assert_eq!(boot["hostname"], json!(case.spec.hostname), "{name}");
        assert_eq!(boot["new_instance"], true, "{name}");
        if let Some(fqdn) = &case.guest.fqdn {
            assert_eq!(boot["fqdn"], json!(fqdn), "{name}");
        }
        let written = cases::metadata(&case.guestinfo());
        if let Some(network) = written.get("network") {
            assert_eq!(&boot["network"], network, "{name}");
            assert_eq!(boot["network_applied"], json!([network]), "{name}");
        }
        let document = case.document();
        let body = document.user_data().strip_prefix("#cloud-config\n").unwrap();
        assert_eq!(boot["cloud_config"], serde_json::from_str::<Value>(body).unwrap(), "{name}");
    }
}

/// First boot, a reboot, the same document again, one with a new address: only the first does anything. A clone is a new machine.
#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_does_nothing_again_when_a_document_is_sent_again() {
    let at = |address: &str, uuid: &str| {
        let spec = cases::spec(json!({
            "hostname": "web-1",
            "users": [{ "name": "ops" }],
            "commands": ["touch /ran"],
            "network": { "address": address, "gateway": "10.0.1.1" },
        }));
        let macs = ["00:50:56:00:00:01".parse().unwrap()];
        extra_config(&cloudinit::build(&spec).unwrap().render(Target { uuid, macs: &macs }).unwrap())
    };
    let (old, new) = ("10.0.1.5/24", "10.0.1.6/24");
    let sequence = json!([at(old, UUID), at(old, UUID), at(new, UUID), at(old, UUID)]);
    let a_clone = json!([at(old, UUID), at(new, "564d1234-abcd-4ef0-8123-0000000000ff")]);
    let answers = guest("boots", &json!([sequence, a_clone]));
    for (index, boot) in answers[0].as_array().unwrap().iter().enumerate() {
        let first = index == 0;
        assert_eq!(boot["instance_id"], json!(format!("ceso-{}", UUID.to_lowercase())), "boot {index}");
        assert_eq!(boot["network_applied"].as_array().unwrap().len(), usize::from(first), "boot {index}: {boot:#}");
        assert_eq!(boot["new_instance"], json!(first), "boot {index}");
        assert_eq!(boot["per_instance_modules_run"], json!(first), "boot {index}");
    }
    let clone = &answers[1][1];
    assert_eq!(clone["new_instance"], true);
    assert_eq!(clone["network_applied"][0]["ethernets"]["eth0"]["addresses"], json!([new]));
    assert_eq!(clone["per_instance_modules_run"], true);
}

/// Why no document asks for `updates`: a guest with cloud-init before 23.1 becomes another instance at its next boot.
#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_forgets_who_it_is_where_a_document_asks_for_updates() {
    let network = json!({ "version": 2, "ethernets": { "eth0": {
        "match": { "macaddress": "00:50:56:00:00:01" }, "set-name": "eth0", "addresses": ["10.0.1.5/24"] } } });
    let metadata = json!({ "instance-id": "i-1", "local-hostname": "a", "network": network }).to_string();
    let with = json!({
        "guestinfo.metadata": metadata,
        "guestinfo.userdata": "#cloud-config\nupdates: {network: {when: [boot, boot-new-instance]}}\n",
    });
    let without = json!({ "guestinfo.metadata": metadata, "guestinfo.userdata": "#cloud-config\n{}\n" });
    let answers = guest("boots", &json!([[with, with], [without, without]]));
    assert_eq!(answers[1][1]["instance_id"], "i-1");
    assert_eq!(answers[1][1]["per_instance_modules_run"], false);
    if answers[0][0]["version"].as_str().is_some_and(|version| version.starts_with("22.")) {
        assert_ne!(answers[0][1]["instance_id"], "i-1");
        assert_eq!(answers[0][1]["per_instance_modules_run"], true);
    }
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_gives_any_text_back_unchanged() {
    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec(any::<char>().prop_filter("NUL is refused", |c| *c != '\0'), 0..40);
    let mut wanted = Vec::new();
    let mut documents = Vec::new();
    for _ in 0..400 {
        let text: String = strategy.new_tree(&mut runner).unwrap().current().into_iter().collect();
        let spec = cases::spec(json!({ "hostname": "a", "files": [{ "path": "/x", "content": text }] }));
        documents.push(cloudinit::build(&spec).unwrap().user_data().to_owned());
        wanted.push(text);
    }
    // Every character of the first plane that may stand in text, in one document.
    let all: String = (1..=0xffff_u32).filter_map(char::from_u32).collect();
    let spec = cases::spec(json!({ "hostname": "a", "files": [{ "path": "/x", "content": all }] }));
    documents.push(cloudinit::build(&spec).unwrap().user_data().to_owned());
    wanted.push(all);
    let answers = guest("read", &json!(documents));
    assert_eq!(answers.as_array().unwrap().len(), wanted.len());
    for (text, answer) in wanted.iter().zip(answers.as_array().unwrap()) {
        assert_eq!(answer["write_files"][0]["content"], json!(text));
    }
}
