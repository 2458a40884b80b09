//! What is told of a machine's guestinfo, whoever wrote it, and the warnings of a document.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ceso::cloudinit::{self, Reip, Seen, State, Target};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cases::{self, UUID};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG3fx2y8bfW1iGZBOiq7jVZ5y0eJk9iZs5sG2DPrVXAr ops@example";

fn read(entries: &BTreeMap<&str, String>) -> Seen {
    cloudinit::read(|key| entries.get(key).map(String::as_str))
}

fn plain(metadata: &str, userdata: &str) -> Seen {
    read(&[("guestinfo.metadata", metadata.to_owned()), ("guestinfo.userdata", userdata.to_owned())].into())
}

#[test]
fn what_was_written_is_read_back_with_secrets_hidden() {
    let document = cloudinit::build(&cases::spec(json!({
        "hostname": "web-1",
        "users": [{ "name": "ops", "ssh_keys": KEY, "groups": ["adm"], "sudo": true, "password_hash":
            "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1" }],
        "network": { "address": ["10.0.1.5/24", "2001:db8::5/64"] },
        "packages": ["curl", { "name": "jq", "version": "1.6" }],
        "files": [{ "path": "/etc/token", "content": "S3CRET" }],
        "commands": ["echo S3CRET"],
        "boot_commands": ["echo S3CRET"],
        "mounts": [{ "device": "tmpfs", "path": "/x" }],
        "timezone": "UTC",
        "ntp": {},
        "vendor_data": "#cloud-config\nx: S3CRET\n",
    })))
    .unwrap();
    let macs = ["00:50:56:00:00:01".parse().unwrap()];
    let guestinfo = document.guestinfo(Target { uuid: UUID, macs: &macs }).unwrap();
    let entries: BTreeMap<&str, String> = guestinfo.entries().map(|(key, value)| (key, value.to_owned())).collect();
    let seen = read(&entries);
    assert_eq!(seen.hostname.as_deref(), Some("web-1"));
    assert_eq!(seen.instance_id, Some(format!("ceso-{}", UUID.to_lowercase())));
    assert_eq!(seen.addresses, document.addresses());
    assert_eq!(seen.vendordata.state, State::Present);
    let told = serde_json::to_value(&seen).unwrap();
    assert_eq!(
        told["outline"],
        json!({
            "kind": "cloud-config",
            "hostname": "web-1",
            "users": [{ "name": "ops", "groups": ["adm"], "ssh_keys": ["ssh-ed25519 SHA256:BcmMZivYDuia+tvFcT4MeKqVyy8Ykr7TRQY9QXMcm0g"], "sudo": true, "password": "set" }],
            "ssh_pwauth": false,
            "timezone": "UTC",
            "package_update": true,
            "packages": ["curl", "jq"],
            "mounts": ["/x"],
            "files": [{ "path": "/etc/token", "bytes": 6 }],
            "boot_commands": 1,
            "commands": 1,
            "others": ["ntp"],
        })
    );
    let all = format!("{told} {seen:?}");
    assert!(!all.contains("S3CRET") && !all.contains("$6$"), "{all}");
}

#[test]
fn what_others_wrote_is_read_in_its_own_forms() {
    let seen = plain(
        "instance-id: i\nhostname: h\nnetwork: {version: 1, config: [{type: physical, subnets: [{type: static, address: 192.0.2.7/24}]}]}\n",
        "#!/bin/sh\necho S3CRET\n",
    );
    assert_eq!(seen.hostname.as_deref(), Some("h"));
    assert_eq!(seen.addresses, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(seen.outline, Some(json!({ "kind": "script" })));

    let network = "network: {version: 2, bonds: {b: {addresses: [10.0.0.2/24, {2001:db8::2/64: {lifetime: 0}}, 7]}}}";
    let encoded = STANDARD.encode(network);
    let seen = plain(&format!("network: {encoded}\nnetwork.encoding: base64\n"), "#include\nhttp://x\n");
    let told: Vec<String> = seen.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["10.0.0.2", "2001:db8::2"]);
    assert_eq!(seen.outline, Some(json!({ "kind": "include" })));

    for (userdata, kind) in [
        ("#cloud-boothook\nx", json!({ "kind": "boothook" })),
        ("## template: jinja\n#cloud-config\n", json!({ "kind": "template" })),
        ("\n", json!({ "kind": "empty" })),
        ("S3CRET", json!({ "kind": "unknown" })),
        ("#cloud-config\n- S3CRET\n", json!({ "kind": "cloud-config", "problem": "it is not a table of keys" })),
        ("#cloud-config\na: [S3CRET\n", json!({ "kind": "cloud-config", "problem": "it is not YAML" })),
        (
            "#cloud-config\nusers: [default, 7, {passwd: S3CRET}]\npackages: [1]\nmounts: [x]\nwrite_files: [S3CRET]\n",
            json!({
            "kind": "cloud-config", "users": ["default", "?", { "name": "?", "password": "set" }], "packages": ["?"], "mounts": [null],
            "files": [{ "path": null, "bytes": 0 }] }),
        ),
    ] {
        assert_eq!(plain("{}", userdata).outline, Some(kind), "{userdata}");
    }
    let document = cloudinit::build(&cases::spec(json!({ "hostname": "a", "raw": "a: S3CRET" }))).unwrap();
    let parts = json!({ "kind": "multipart", "parts": ["cloud-config", "cloud-config"] });
    assert_eq!(plain("{}", document.user_data()).outline, Some(parts));
}

#[test]
fn what_is_gone_or_damaged_is_said_so() {
    let seen = read(&BTreeMap::new());
    assert_eq!([seen.metadata.state, seen.userdata.state, seen.vendordata.state], [State::Absent; 3]);
    assert_eq!(serde_json::to_value(&seen).unwrap()["metadata"], json!({ "state": "absent" }));
    let entries = [
        ("guestinfo.metadata", "a: [".to_owned()),
        ("guestinfo.userdata", "---".to_owned()),
        ("guestinfo.vendordata", "@@@".to_owned()),
        ("guestinfo.vendordata.encoding", "gz+b64".to_owned()),
    ];
    let seen = read(&entries.into());
    assert_eq!(
        [seen.metadata.state, seen.userdata.state, seen.vendordata.state],
        [State::Damaged, State::Redacted, State::Damaged]
    );
    assert_eq!(seen.metadata.problem.as_deref(), Some("it is not YAML"));
    assert_eq!(seen.vendordata.problem.as_deref(), Some("the value is not base64"));
    assert_eq!(plain("- a", "").metadata.problem.as_deref(), Some("it is not a table of keys"));
    let long = format!("a: {}", "x".repeat(5 << 20));
    assert_eq!(plain(&long, "").metadata.problem.as_deref(), Some("it is too long to be read"));
    // A billion laughs is refused by the reader's budget, and takes no time.
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", ")));
    }
    assert_eq!(plain(&laughs, "").metadata.state, State::Damaged);
    assert_eq!(plain("local-hostname: \"a\\u0007b\"", "").hostname.as_deref(), Some("a\u{fffd}b"));
}

#[test]
fn a_re_ip_is_one_instance_for_each_network_of_a_machine() {
    let id = |address: &str, uuid: &str| {
        let reip: Reip = serde_json::from_value(json!({ "network": { "address": address } })).unwrap();
        let document = cloudinit::reip(&reip).unwrap();
        assert!(document.is_reip() && document.hostname().is_none());
        let macs = ["00:50:56:00:00:01".parse().unwrap()];
        cases::metadata(&document.guestinfo(Target { uuid, macs: &macs }).unwrap())["instance-id"].clone()
    };
    let other = "564d1234-abcd-4ef0-8123-000000000000";
    assert_eq!(id("10.0.0.5/24", UUID), id("10.0.0.5/24", UUID));
    assert_ne!(id("10.0.0.5/24", UUID), id("10.0.0.6/24", UUID));
    assert_ne!(id("10.0.0.5/24", UUID), id("10.0.0.5/24", other));
    assert!(id("10.0.0.5/24", UUID).as_str().unwrap().starts_with(&format!("ceso-{}-", UUID.to_lowercase())));
    for (value, part) in [
        (json!({ "network": { "address": "10.0.0.0/24" } }), "network.address: "),
        (json!({ "network": {}, "hostname": "a_b" }), "hostname: "),
    ] {
        let fault = cloudinit::reip(&serde_json::from_value(value).unwrap()).unwrap_err();
        assert!(fault.message().starts_with(part), "{fault}");
    }
    for (value, part) in
        [(json!({}), "missing field `network`"), (json!({ "network": {}, "users": [] }), "unknown field `users`")]
    {
        assert!(serde_json::from_value::<Reip>(value).unwrap_err().to_string().contains(part));
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let warnings = |value: Value| -> Vec<String> {
        let document = cloudinit::build(&cases::spec(value)).unwrap();
        document.check().iter().map(|warning| warning.at.clone()).collect()
    };
    let ok = json!({ "hostname": "a", "ssh_keys": KEY });
    let and = |fields: Value| {
        let mut spec = ok.clone();
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec
    };
    let hash = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1";
    for (spec, wanted) in [
        (ok.clone(), vec![]),
        (json!({ "hostname": "a" }), vec!["ssh_keys"]),
        (json!({ "hostname": "a", "raw": "a: b" }), vec![]),
        (json!({ "hostname": "a", "users": [{ "name": "b" }] }), vec!["users"]),
        (
            json!({ "hostname": "a", "users": [{ "name": "b", "password_hash": hash, "lock_password": true }] }),
            vec!["users[1].lock_password", "users[1].password_hash"],
        ),
        (and(json!({ "users": [{ "name": "b", "lock_password": false }] })), vec!["users[1].lock_password"]),
        (
            and(json!({ "network": { "address": "10.0.0.5/24" }, "packages": "curl" })),
            vec!["network.dns", "network.gateway", "packages"],
        ),
        (and(json!({ "network": {}, "packages": "curl" })), vec![]),
        (
            and(json!({ "network": [
                { "name": "eth0" }, { "name": "eth1" },
                { "name": "bond0", "bond": { "members": ["eth0", "eth1"], "mode": "active-backup" }, "address": "10.0.0.5/24" },
            ] })),
            vec!["network.dns", "network.gateway"],
        ),
        (and(json!({ "ssh": { "delete_host_keys": false } })), vec!["ssh.delete_host_keys"]),
        (and(json!({ "disks": [{ "device": "/dev/sdb", "overwrite": true }] })), vec!["disks[1].overwrite"]),
        (
            and(json!({ "filesystems": [{ "device": "/dev/sdb1", "filesystem": "xfs", "overwrite": true }] })),
            vec!["filesystems[1].overwrite"],
        ),
        (and(json!({ "remove_default_ca_certificates": true })), vec!["remove_default_ca_certificates"]),
        (and(json!({ "packages": "a", "raw": "packages: [b]" })), vec!["raw"]),
        (and(json!({ "packages": "a", "raw": "packages: [b]", "merge": "list(append)" })), vec![]),
        (and(json!({ "packages": "a", "raw": "packages: [b]\nmerge_how: list(append)" })), vec![]),
    ] {
        assert_eq!(warnings(spec.clone()), wanted, "{spec}");
    }
    let mut open = cases::spec(and(json!({ "files": [{ "path": "/etc/token", "content": "", "mode": "0644" }] })));
    let value = std::sync::Arc::new(secrecy::SecretString::from("S3CRET".to_owned()));
    open.files[0].content = Some(cloudinit::Text::secret("token", value));
    let document = cloudinit::build(&open).unwrap();
    let told = document.check();
    assert_eq!(told.iter().map(|warning| warning.at.as_str()).collect::<Vec<_>>(), ["files[1].mode"]);
}

proptest! {
    #[test]
    fn no_text_makes_reading_fail(metadata in any::<String>(), userdata in "(#cloud-config\n|#!|)[a-z:\\[\\]{}&* \n-]{0,80}", encoding in "(|base64|gzip\\+base64)") {
        let entries = [
            ("guestinfo.metadata", metadata),
            ("guestinfo.userdata", userdata),
            ("guestinfo.metadata.encoding", encoding),
        ];
        let seen = read(&entries.into());
        prop_assert!(serde_json::to_value(&seen).is_ok());
    }
}
