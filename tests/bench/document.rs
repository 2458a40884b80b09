//! How long a full cloud-init document takes: read, checked and built, and encoded for guestinfo.
//!
//! `cargo bench --bench document`, alone or with `-- --smoke` for a few rounds. Figures are medians, with the least and the greatest beside them; the target stands
//! below the figure that it is about and decides nothing.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ceso::cloudinit::{self, MacAddress, Spec, Target};
use serde_json::{Value, json};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG3fx2y8bfW1iGZBOiq7jVZ5y0eJk9iZs5sG2DPrVXAr ops@example";
const UUID: &str = "564D1234-ABCD-4EF0-8123-0123456789AB";

/// A document with something of everything, of about 9 KB as user-data.
fn full() -> Value {
    let files: Value = (0..6)
        .map(|number| {
            let lines: String = (0..40).map(|line| format!("setting_{line} = value {number} of {line}\n")).collect();
            json!({ "path": format!("/etc/app/{number}.conf"), "content": lines, "mode": "0640", "owner": "root:adm" })
        })
        .collect();
    json!({
        "hostname": "web-1",
        "fqdn": "web-1.example.org",
        "groups": ["app", "backup"],
        "users": [
            { "name": "ops", "gecos": "Operations", "groups": ["adm", "sudo"], "sudo": true, "shell": "/bin/bash", "ssh_keys": KEY },
            { "name": "deploy", "groups": "app", "sudo": "ALL=(root) NOPASSWD:/usr/bin/systemctl restart app", "ssh_keys": [KEY] },
        ],
        "packages": ["nginx", "postgresql-15", "python3-venv", "chrony", "curl", "jq", "htop", "rsync"],
        "package_upgrade": true,
        "files": files,
        "commands": ["systemctl enable --now nginx", ["sed", "-i", "s/a/b/", "/etc/app/0.conf"], "touch /var/lib/provisioned"],
        "disks": [{ "device": "/dev/sdb", "partitions": [{ "percent": 100 }] }],
        "filesystems": [{ "device": "/dev/sdb1", "filesystem": "ext4", "label": "data" }],
        "mounts": [{ "device": "LABEL=data", "path": "/srv", "options": ["defaults", "noatime"] }],
        "ntp": { "servers": ["192.0.2.123", "ntp.example.org"] },
        "timezone": "Europe/Berlin",
        "locale": "en_US.UTF-8",
        "network": [
            {}, {},
            { "name": "bond0", "bond": { "members": ["eth0", "eth1"], "mode": "802.3ad", "lacp_rate": "fast" }, "address": "none", "mtu": 9000 },
            { "vlan": { "id": 10, "link": "bond0" }, "address": ["10.0.10.5/24", "2001:db8:10::5/64"], "gateway": ["10.0.10.1", "fe80::1"],
              "dns": ["10.0.10.53", "2001:db8:10::53"], "search": ["example.org", "lan.example.org"],
              "routes": [{ "to": "10.20.0.0/16", "via": "10.0.10.254" }, { "to": "172.16.0.0/12", "via": "10.0.10.253", "metric": 200 }] },
            { "vlan": { "id": 20, "link": "bond0" }, "address": "10.0.20.5/24", "mtu": 9000 },
        ],
    })
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let rounds = if smoke { 20 } else { 2_000 };
    let text = full().to_string();
    let macs: Vec<MacAddress> =
        ["00:50:56:00:00:01", "00:50:56:00:00:02"].into_iter().map(|mac| mac.parse().expect("a MAC address")).collect();
    let read = || serde_json::from_str::<Spec>(black_box(&text)).expect("a full document");
    let spec = read();
    let build = || cloudinit::build(black_box(&spec)).expect("an accepted document");
    let document = build();
    let encode = || document.guestinfo(Target { uuid: UUID, macs: &macs }).expect("a document that fits");
    let bytes: usize = encode().entries().map(|(key, value)| key.len() + value.len()).sum();

    let mut times: [Vec<Duration>; 4] = Default::default();
    let steps: [(&str, &dyn Fn()); 4] = [
        ("read the fields", &|| drop(black_box(read()))),
        ("check and build", &|| drop(black_box(build()))),
        ("encode", &|| drop(black_box(encode()))),
        ("build and encode", &|| {
            let document = cloudinit::build(black_box(&spec)).expect("an accepted document");
            drop(black_box(document.guestinfo(Target { uuid: UUID, macs: &macs })));
        }),
    ];
    for _ in 0..rounds {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            let begun = Instant::now();
            step();
            times.push(begun.elapsed());
        }
    }
    println!(
        "cloud-init: a full document, {} bytes of user-data, {bytes} bytes of guestinfo; µs, {rounds} rounds",
        document.user_data().len()
    );
    for ((name, _), times) in steps.iter().zip(&mut times) {
        times.sort();
        let micros = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e6);
        let (median, least, most) = (micros(times.get(times.len() / 2)), micros(times.first()), micros(times.last()));
        println!("  {name:<18} {median:>8.1}   ({least:.1} to {most:.1})");
    }
    println!("  target: 200 to build and encode");
}
