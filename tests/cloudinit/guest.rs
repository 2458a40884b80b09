//! What Debian's real cloud-init makes of the documents. A machine without it fails these tests.

use ceso::cloudinit::{self, GuestInfo, Target};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases::{self, UUID};
use crate::real::{CloudInit, EACH};

/// Runs `guest.py` with Debian's cloud-init.
fn guest(what: &str, input: &Value) -> Value {
    CloudInit::Debian.run("guest.py", &[what], input)
}

fn extra_config(guestinfo: &GuestInfo) -> Value {
    guestinfo.entries().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_schema_accepts_every_document() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    let mut write = |name: String, text: &str| {
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text).unwrap();
        paths.push(json!(path));
    };
    for (name, case) in cases::good() {
        let document = case.document();
        for (index, config) in cases::cloud_configs(document.user_data()).iter().enumerate() {
            write(format!("{name}-{index}"), config);
        }
        if let Some(vendor_data) = document.vendor_data().filter(|text| text.starts_with("#cloud-config")) {
            write(format!("{name}-vendor"), vendor_data);
        }
    }
    let reip = json!({ "network": { "address": "10.0.0.5/24" } });
    write("reip".into(), cloudinit::reip(&serde_json::from_value(reip).unwrap()).unwrap().user_data());
    for version in EACH {
        let answers = version.run("guest.py", &["schema"], &json!(paths));
        for (path, problem) in paths.iter().zip(answers.as_array().unwrap()) {
            // Keys of the user's own are his.
            if !path.as_str().unwrap().contains("raw_lookalikes") {
                assert_eq!(problem, &Value::Null, "{path}, {version}");
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
        if let Some(wanted) = &case.guest.cloud_config {
            for (key, value) in wanted.as_object().unwrap() {
                assert_eq!(&boot["cloud_config"][key], value, "{name}: {key}");
            }
        } else {
            let body = document.user_data().strip_prefix("#cloud-config\n").unwrap();
            assert_eq!(boot["cloud_config"], serde_json::from_str::<Value>(body).unwrap(), "{name}");
        }
        assert_eq!(boot["vendor_data"], json!(document.vendor_data()), "{name}");
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
