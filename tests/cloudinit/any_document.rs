//! Any value in any field: refused with the field's path, or read by the real cloud-init's YAML as the very same value.

use ceso::cloudinit::{self, Spec};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::cases;
use crate::real::EACH;

/// What YAML, MIME, shells and fstab have a meaning for.
const TOKENS: [&str; 52] = [
    "no",
    "1e3",
    "0o17",
    "0x1f",
    "1_000",
    "12:30:45",
    "2026-01-01",
    "~",
    "null",
    "<<",
    "=",
    "!!python/object:x",
    "!",
    "&a",
    "*a",
    "%YAML 1.1",
    "---",
    "\n---\n",
    "...",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "  - ",
    "- ",
    "? ",
    ": ",
    ":",
    " #",
    "{",
    "}",
    "[",
    "]",
    ",",
    "|",
    ">",
    "'",
    "\"",
    "\\",
    "\\n",
    "$(reboot)",
    "`id`",
    "--ceso-",
    "\n--x\n",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "😀",
    "\u{1}",
];

/// A document with the text in one field; the number says in which.
fn with(field: usize, text: &str) -> Value {
    let user = |fields: Value| {
        let mut user = json!({ "name": "a" });
        user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "hostname": "a", "users": [user] })
    };
    let mount = |fields: Value| {
        let mut mount = json!({ "device": "/dev/sdb1", "path": "/data" });
        mount.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "hostname": "a", "mounts": [mount] })
    };
    match field {
        0 => json!({ "hostname": text }),
        1 => json!({ "hostname": "a", "fqdn": format!("a.{text}") }),
        2 => user(json!({ "name": text })),
        3 => user(json!({ "gecos": text })),
        4 => user(json!({ "sudo": text })),
        5 => user(json!({ "shell": format!("/bin/{text}") })),
        6 => user(json!({ "home": format!("/home/{text}") })),
        7 => user(json!({ "groups": [text], "primary_group": text })),
        8 => user(json!({ "expires": text })),
        9 => user(json!({ "password_hash": text })),
        10 => json!({ "hostname": "a", "packages": [{ "name": "x", "version": text }] }),
        11 => json!({ "hostname": "a", "packages": text }),
        12 => json!({ "hostname": "a", "files": [{ "path": format!("/etc/{text}"), "content": text }] }),
        13 => json!({ "hostname": "a", "files": [{ "path": "/x", "content": [text, "=", text] }] }),
        14 => json!({ "hostname": "a", "files": [{ "path": "/x", "content": "", "owner": text, "mode": text }] }),
        15 => json!({ "hostname": "a", "commands": [text, ["x", text, [text, text]]] }),
        16 => json!({ "hostname": "a", "boot_commands": [text] }),
        17 => mount(json!({ "device": format!("LABEL={text}") })),
        18 => mount(json!({ "path": format!("/mnt/{text}") })),
        19 => mount(json!({ "options": [text, "ro"] })),
        20 => mount(json!({ "filesystem": text })),
        21 => {
            json!({ "hostname": "a", "disks": [{ "device": format!("/dev/{text}"), "partitions": [{ "percent": 9, "kind": text }] }] })
        }
        22 => {
            json!({ "hostname": "a", "filesystems": [{ "device": "/dev/sdb1", "filesystem": "ext4", "label": text }] })
        }
        23 => json!({ "hostname": "a", "swap": { "path": format!("/{text}"), "size": "1 GiB" } }),
        24 => json!({ "hostname": "a", "grow": { "devices": [format!("/{text}")] } }),
        25 => json!({ "hostname": "a", "ntp": { "servers": [text], "pools": [text] } }),
        26 => json!({ "hostname": "a", "timezone": text }),
        27 => json!({ "hostname": "a", "locale": text }),
        28 => json!({ "hostname": "a", "keyboard": { "layout": text, "options": text } }),
        29 => json!({ "hostname": "a", "ca_certificates": text }),
        30 => json!({ "hostname": "a", "ssh_keys": text }),
        31 => json!({ "hostname": "a", "raw": text }),
        32 => json!({ "hostname": "a", "raw": format!("k: {}", json!(text)), "merge": text }),
        33 => json!({ "hostname": "a", "raw": format!("k: {}", json!(text)) }),
        34 => {
            json!({ "hostname": "a", "parts": [{ "type": "x-shellscript", "content": format!("#!/bin/sh\n{text}"), "filename": text }] })
        }
        35 => json!({ "hostname": "a", "parts": [{ "type": text, "content": text }] }),
        _ => json!({ "hostname": "a", "vendor_data": text }),
    }
}

const FIELDS: usize = 37;

/// Words of the list, and any text, side by side.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(&TOKENS[..]).prop_map(str::to_owned),
        2 => "[a-z0-9.]{1,6}",
        1 => any::<String>(),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_text_in_any_field_is_taken_or_refused_with_the_field_s_path() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut taken, mut refused) = ([0_u32; FIELDS], 0);
    for round in 0..FIELDS * 60 {
        let field = round % FIELDS;
        let text = text().new_tree(&mut runner).unwrap().current();
        let input = with(field, &text);
        let spec: Spec = serde_json::from_value(input.clone()).unwrap();
        match cloudinit::build(&spec) {
            Ok(document) => {
                taken[field] += 1;
                assert!(document.describe().is_object());
                document.check();
            }
            Err(fault) => {
                refused += 1;
                assert_eq!(fault.kind(), "cloudinit.invalid", "{input}");
                let path = fault.message().split(": ").next().unwrap();
                let root = path.split(['.', '[']).next().unwrap();
                assert!(input.get(root).is_some(), "{input}: {fault}");
                assert!(!fault.message().chars().any(char::is_control), "{input}: {fault}");
            }
        }
    }
    assert!(refused > 500);
    // Free text is taken nearly always, and nothing is never taken that has a plain form here.
    for field in [3, 12, 13, 15, 16, 33] {
        assert!(taken[field] > 3, "field {field}: {taken:?}");
    }
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_reads_any_accepted_document_as_the_same_values() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut texts, mut wanted) = (Vec::new(), Vec::new());
    for round in 0..FIELDS * 60 {
        let text = text().new_tree(&mut runner).unwrap().current();
        let input = with(round % FIELDS, &text);
        let Ok(document) = cloudinit::build(&cases::spec(input)) else { continue };
        // The fields' own part is JSON; what is written by hand stands as it came.
        let fields = cases::cloud_configs(document.user_data()).swap_remove(0);
        let body = fields.strip_prefix("#cloud-config\n").unwrap();
        wanted.push(serde_json::from_str::<Value>(body).unwrap());
        texts.push(fields);
    }
    assert!(texts.len() > 500, "{}", texts.len());
    for version in EACH {
        let answers = version.run("guest.py", &["read"], &json!(texts));
        for (answer, (wanted, text)) in answers.as_array().unwrap().iter().zip(wanted.iter().zip(&texts)) {
            assert_eq!(answer, wanted, "{version}: {text}");
        }
    }
}

/// User-data of several parts comes apart again as it was put together, whatever the parts hold.
#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_takes_any_parts_apart_as_they_were_put_together() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut messages, mut wanted) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        let texts = proptest::collection::vec(text(), 1..4).new_tree(&mut runner).unwrap().current();
        let scripts: Vec<String> = texts.iter().map(|text| format!("#!/bin/sh\n{text}")).collect();
        let parts: Vec<Value> =
            scripts.iter().map(|script| json!({ "type": "x-shellscript", "content": script })).collect();
        let document = cloudinit::build(&cases::spec(json!({ "hostname": "a", "parts": parts }))).unwrap();
        messages.push(document.user_data().to_owned());
        wanted.push(scripts);
    }
    for version in EACH {
        let answers = version.run("guest.py", &["parts"], &json!(messages));
        for (answer, scripts) in answers.as_array().unwrap().iter().zip(&wanted) {
            let parts = answer.as_array().unwrap();
            assert_eq!(parts.len(), scripts.len() + 1, "{version}: {scripts:?}");
            assert_eq!(parts[0][0], "text/cloud-config");
            for (index, (part, script)) in parts[1..].iter().zip(scripts).enumerate() {
                assert_eq!(part, &json!(["text/x-shellscript", format!("part-{:03}", index + 1), script]), "{version}");
            }
        }
    }
}
