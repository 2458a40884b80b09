//! cloudbase-init's dialect: what is written, what is refused with its reason, and what the real cloudbase-init does with it (`windows.py`).

use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ceso::cloudinit::{self, Reip, Spec, Target, Text};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::cases::{self, UUID};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG3fx2y8bfW1iGZBOiq7jVZ5y0eJk9iZs5sG2DPrVXAr ops@example";
const MACS: [&str; 2] = ["00:50:56:00:00:01", "00:50:56:00:00:02"];

fn spec(mut fields: Value) -> Spec {
    fields["dialect"] = json!("cloudbase-init");
    if fields.get("hostname").is_none() {
        fields["hostname"] = json!("win-1");
    }
    cases::spec(fields)
}

fn password(text: &str) -> Option<Text> {
    Some(Text::secret("win-admin", Arc::new(SecretString::from(text.to_owned()))))
}

fn given(spec: &Spec) -> Value {
    let macs = MACS.map(|mac| mac.parse().unwrap());
    let guestinfo = cloudinit::build(spec).unwrap().guestinfo(Target { uuid: UUID, macs: &macs }).unwrap();
    let entries: Value = guestinfo.entries().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    json!({ "guestinfo": entries, "macs": MACS })
}

/// Runs the real cloudbase-init, from the peers' Python environment.
fn guest(input: &[Value]) -> Value {
    let peers = std::env::var_os("CESO_PEERS")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), Into::into);
    let mut child = Command::new(peers.join("venv/bin/python"))
        .arg(cases::folder("windows.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the peers' Python (tests/peers/prepare makes it)");
    serde_json::to_writer(child.stdin.take().unwrap(), input).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "windows.py: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn full() -> Spec {
    let mut spec = spec(json!({
        "groups": ["Web Admins"],
        "users": [
            { "name": "Ops Team", "gecos": "Operations", "groups": ["Administrators", "Web Admins"], "ssh_keys": KEY, "expires": "2031-02-28" },
            { "name": "svc", "create_home": false },
        ],
        "network": [
            { "address": ["10.0.1.5/24"], "gateway": "10.0.1.1", "dns": ["10.0.1.1", "10.0.1.2"], "mtu": 1400, "name": "LAN" },
            {},
        ],
        "ntp": { "servers": "10.0.1.1", "pools": "pool.ntp.org" },
        "timezone": "Europe/Berlin",
        "files": [
            { "path": "C:\\app\\app.ini", "content": "a: no\nb: \"ü\"\n" },
            { "path": "C:/app/blob", "content_base64": "AAEC/w==", "append": true },
        ],
        "commands": ["echo %PATH% & dir \"C:\\\"", "powershell -c \"'no'\""],
        "parts": [{ "type": "x-shellscript", "content": "#ps1\nWrite-Host hi\n" }],
    }));
    spec.users[0].password = password("Gr\u{fc}n & \"rot\" <1>");
    spec
}

#[test]
#[ignore = "needs cloudbase_init"]
fn cloudbase_init_does_what_the_fields_say() {
    let answers = guest(&[given(&full())]);
    let answer = &answers[0];
    assert_eq!(answer["instance_id"], json!(format!("ceso-{}", UUID.to_lowercase())));
    assert_eq!(answer["hostname"], "win-1");
    assert_eq!(answer["complaints"], json!([]), "{answer:#}");
    let calls = answer["calls"].as_array().unwrap();
    let expires = 1_930_003_200.0;
    let wanted = [
        json!(["rename_network_adapter", "Ethernet0", "LAN"]),
        json!(["set_network_adapter_mtu", "LAN", 1400]),
        json!(["rename_network_adapter", "Ethernet1", "eth1"]),
        json!(["set_static_network_config", "LAN", "10.0.1.5", "24", "10.0.1.1", ["10.0.1.1", "10.0.1.2"]]),
        json!(["set_timezone", "Europe/Berlin"]),
        json!(["set_host_name", "win-1"]),
        json!(["set_ntp_client_config", ["10.0.1.1", "pool.ntp.org"]]),
        json!(["create_group", "Web Admins"]),
        json!(["create_user", "Ops Team", "Gr\u{fc}n & \"rot\" <1>"]),
        json!(["set_user_info", "Ops Team", { "full_name": "Operations", "expire_interval": expires, "disabled": false }]),
        json!(["add_user_to_local_group", "Ops Team", "Administrators"]),
        json!(["add_user_to_local_group", "Ops Team", "Web Admins"]),
        json!(["create_user", "svc", "random"]),
    ];
    for call in &wanted {
        assert!(calls.contains(call), "{call} is not in {calls:#?}");
    }
    let settings = calls.iter().filter(|call| call[0] == "set_static_network_config").count();
    assert_eq!(settings, 1, "the card with DHCP is left as it is");
    assert_eq!(answer["keys"], json!([["Ops Team", [KEY]]]));
    let content = STANDARD.encode("a: no\nb: \"ü\"\n");
    assert_eq!(answer["files"], json!([["C:\\app\\app.ini", content, "wb"], ["C:\\app\\blob", "AAEC/w==", "ab"]]));
    let scripts = answer["scripts"].as_array().unwrap();
    assert_eq!(scripts.len(), 2, "{scripts:?}");
    assert_eq!(scripts[0], "rem cmd\necho %PATH% & dir \"C:\\\"\npowershell -c \"'no'\"\n");
    assert_eq!(scripts[1], "#ps1\nWrite-Host hi\n");
}

#[test]
#[ignore = "needs cloudbase_init"]
fn cloudbase_init_takes_each_field_by_itself() {
    let mut inputs = Vec::new();
    let fields = json!([
        { "ssh_keys": KEY },
        { "users": [{ "name": "a" }] },
        { "files": [{ "path": "C:\\x", "content": "!!python/none &a *a\t%x\u{7f}\u{85}" }] },
        { "network": { "address": "2001:db8::5/64", "gateway": "2001:db8::1", "dns": "2001:db8::53" } },
        { "network": { "address": ["10.0.1.5/24", "2001:db8::5/64"], "dns": "10.0.1.1" } },
    ]);
    for each in fields.as_array().unwrap() {
        inputs.push(given(&spec(each.clone())));
    }
    let answers = guest(&inputs);
    assert_eq!(answers[0]["administrator_keys"], json!([KEY]));
    assert!(answers[1]["calls"].as_array().unwrap().contains(&json!(["create_user", "a", "random"])));
    let content = STANDARD.encode("!!python/none &a *a\t%x\u{7f}\u{85}");
    assert_eq!(answers[2]["files"], json!([["C:\\x", content, "wb"]]));
    let static_calls = |index: usize| -> Vec<Value> {
        let calls = answers[index]["calls"].as_array().unwrap();
        calls.iter().filter(|call| call[0] == "set_static_network_config").cloned().collect()
    };
    let v6 = json!(["set_static_network_config", "eth0", "2001:db8::5", "64", "2001:db8::1", ["2001:db8::53"]]);
    assert_eq!(static_calls(3), [v6]);
    assert_eq!(static_calls(4).len(), 2);
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["complaints"], json!([]), "{answer:#}");
    }
}

#[test]
fn what_cloudbase_init_cannot_do_is_refused_with_the_reason() {
    let user = |fields: Value| {
        let mut user = json!({ "name": "a" });
        user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "users": [user] })
    };
    let file = |fields: Value| {
        let mut file = json!({ "path": "C:\\x", "content": "x" });
        file.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "files": [file] })
    };
    for (fields, part) in [
        (json!({ "hostname": "sixteen-letters-" }), "hostname: "),
        (json!({ "hostname": "sixteen-letters1" }), "hostname: has 16 characters, at most 15"),
        (json!({ "fqdn": "win-1.example.org" }), "fqdn: cannot be done on Windows: the domain comes"),
        (json!({ "manage_etc_hosts": true }), "manage_etc_hosts: cannot be done on Windows"),
        (json!({ "ssh": { "password_login": true } }), "ssh: cannot be done on Windows"),
        (json!({ "packages": "curl" }), "packages: cannot be done on Windows: cloudbase-init installs no packages"),
        (json!({ "package_update": true }), "package_update: cannot be done"),
        (json!({ "package_upgrade": true }), "package_upgrade: cannot be done"),
        (json!({ "reboot_if_required": true }), "reboot_if_required: cannot be done"),
        (json!({ "boot_commands": ["x"] }), "boot_commands: cannot be done on Windows"),
        (json!({ "disks": [{ "device": "/dev/sdb" }] }), "disks: cannot be done on Windows"),
        (json!({ "filesystems": [{ "device": "/dev/sdb1", "filesystem": "ntfs" }] }), "filesystems: cannot be done"),
        (json!({ "mounts": [{ "device": "/dev/sdb1", "path": "/x" }] }), "mounts: cannot be done on Windows"),
        (json!({ "swap": { "size": "1 GiB" } }), "swap: cannot be done on Windows"),
        (json!({ "grow": {} }), "grow: cannot be done on Windows"),
        (json!({ "locale": "de_DE.UTF-8" }), "locale: cannot be done on Windows"),
        (json!({ "keyboard": { "layout": "de" } }), "keyboard: cannot be done on Windows"),
        (json!({ "ca_certificates": "x" }), "ca_certificates: cannot be done on Windows"),
        (json!({ "remove_default_ca_certificates": true }), "remove_default_ca_certificates: cannot be done"),
        (json!({ "raw": "a: b" }), "raw: cannot be done on Windows: cloudbase-init merges nothing"),
        (json!({ "vendor_data": "#cloud-config\n{}\n" }), "vendor_data: cannot be done on Windows"),
        (json!({ "parts": [{ "type": "jinja2", "content": "x" }] }), "parts[1].type: "),
        (
            json!({ "parts": [{ "type": "x-shellscript", "content": "echo" }] }),
            "parts[1].content: is not what its type",
        ),
        (json!({ "timezone": "../x" }), "timezone: "),
        (json!({ "groups": ["a/b"] }), "groups[1]: contains '/'"),
        (user(json!({ "name": "a".repeat(21) })), "users[1].name: has 21 characters"),
        (user(json!({ "name": "a@b" })), "users[1].name: contains '@'"),
        (user(json!({ "name": "a." })), "users[1].name: \"a.\""),
        (user(json!({ "sudo": true })), "users[1].sudo: cannot be done on Windows: there is no sudo"),
        (user(json!({ "shell": "/bin/sh" })), "users[1].shell: cannot be done"),
        (user(json!({ "primary_group": "x" })), "users[1].primary_group: cannot be done"),
        (
            user(json!({ "password_hash": "$6$x" })),
            "users[1].password_hash: cannot be done on Windows: it takes a password",
        ),
        (user(json!({ "password": "hunter2" })), "users[1].password: is written out, and must be a secret"),
        (user(json!({ "lock_password": true })), "users[1].lock_password: cannot be done on Windows"),
        (user(json!({ "uid": 1 })), "users[1].uid: cannot be done"),
        (user(json!({ "system": true })), "users[1].system: cannot be done"),
        (user(json!({ "home": "/x" })), "users[1].home: cannot be done"),
        (user(json!({ "create_home": false, "ssh_keys": KEY })), "users[1].create_home: is given together with"),
        (json!({ "users": [{ "name": "a" }, { "name": "a" }] }), "users[2].name: \"a\" appears twice"),
        (file(json!({ "path": "/etc/x" })), "files[1].path: \"/etc/x\" is not a path on Windows"),
        (file(json!({ "path": "C:x" })), "files[1].path: \"C:x\" is not a path on Windows"),
        (file(json!({ "path": "C:\\a\\\\b" })), "files[1].path: "),
        (file(json!({ "path": "C:\\a\\..\\b" })), "files[1].path: "),
        (file(json!({ "path": "C:\\a:b" })), "files[1].path: "),
        (file(json!({ "path": "C:\\nul.txt" })), "it names a device"),
        (file(json!({ "path": "C:\\lpt1" })), "it names a device"),
        (file(json!({ "mode": "0600" })), "files[1].mode: cannot be done on Windows"),
        (file(json!({ "owner": "a" })), "files[1].owner: cannot be done on Windows"),
        (file(json!({ "defer": true })), "files[1].defer: cannot be done on Windows"),
        (
            json!({ "files": [{ "path": "C:\\x", "content": "a" }, { "path": "c:\\X", "content": "b" }] }),
            "files[2].path: ",
        ),
        (json!({ "commands": [["dir", "C:\\"]] }), "commands[1]: cannot be done on Windows: the words of a list"),
        (
            json!({ "network": { "address": ["10.0.1.5/24", "10.0.1.6/24"] } }),
            "network.address: cannot be done on Windows",
        ),
        (json!({ "network": { "address": ["10.0.1.5/24", "dhcp6"] } }), "network.address: cannot be done on Windows"),
        (
            json!({ "network": { "address": ["10.0.1.5/24", "2001:db8::5/64"], "gateway": "10.0.1.1" } }),
            "network.gateway: cannot be done on Windows: one gateway",
        ),
        (json!({ "network": { "dns": "10.0.1.1" } }), "network.dns: cannot be done on Windows"),
        (json!({ "network": { "address": "10.0.1.5/24", "dns": "10.0.1.1", "search": "a.org" } }), "network.search: "),
        (json!({ "network": { "address": "none" } }), "network.address: cannot be done on Windows"),
        (
            json!({ "network": { "address": "10.0.1.5/24", "routes": [{ "to": "10.9.0.0/16", "via": "10.0.1.1" }] } }),
            "network.routes: cannot be done on Windows",
        ),
    ] {
        let fault = cloudinit::build(&spec(fields.clone())).map(|_| ()).expect_err(&fields.to_string());
        assert_eq!(fault.kind(), "cloudinit.invalid", "{fields}");
        assert!(fault.to_string().contains(part), "{fields}: {fault}");
    }
}

#[test]
fn passwords_on_windows_are_secrets_of_a_length_that_it_takes() {
    for (text, taken) in
        [("x", true), ("é€😀456789012345678 0", true), ("", false), ("123456789012345678901", false), ("a\nb", false)]
    {
        let mut spec = spec(json!({ "users": [{ "name": "a" }] }));
        spec.users[0].password = password(text);
        let built = cloudinit::build(&spec);
        assert_eq!(built.is_ok(), taken, "{text:?}");
        if let Err(fault) = built {
            assert!(fault.message().starts_with("users[1].password: "), "{fault}");
            assert!(text.is_empty() || !fault.to_string().contains(text));
        }
    }
    let document = cloudinit::build(&full()).unwrap();
    assert!(!document.describe().to_string().contains("rot") && !format!("{:?}", full()).contains("rot"));
    assert_eq!(document.describe()["dialect"], "cloudbase-init");
}

#[test]
fn keys_of_no_account_go_to_every_account_or_to_the_administrator() {
    let metadata = |spec: &Spec| {
        let guestinfo = cloudinit::build(spec).unwrap().guestinfo(Target { uuid: UUID, macs: &[] }).unwrap();
        cases::metadata(&guestinfo)
    };
    let alone = spec(json!({ "ssh_keys": KEY }));
    assert_eq!(metadata(&alone)["public-keys-data"], KEY);
    let shared = spec(json!({ "ssh_keys": KEY, "users": [{ "name": "a" }, { "name": "b", "ssh_keys": KEY }] }));
    assert!(metadata(&shared).get("public-keys-data").is_none());
    let document = cloudinit::build(&shared).unwrap();
    let config: Value = serde_json::from_str(document.user_data().strip_prefix("#cloud-config\n").unwrap()).unwrap();
    let keys: Vec<&Value> =
        config["users"].as_array().unwrap().iter().map(|user| &user["ssh_authorized_keys"]).collect();
    assert_eq!(keys, [&json!([KEY]), &json!([KEY])]);
}

#[test]
fn a_windows_that_runs_already_is_given_no_network() {
    let reip: Reip = serde_json::from_value(json!({ "dialect": "cloudbase-init", "network": {} })).unwrap();
    let fault = cloudinit::reip(&reip).unwrap_err();
    assert_eq!(fault.kind(), "cloudinit.invalid");
    assert!(fault.message().contains("does all of its work again"), "{fault}");
}
