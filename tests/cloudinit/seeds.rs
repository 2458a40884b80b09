//! Seed images: the same bytes each time, a limit, and what blkid, isoinfo, xorriso and the real cloud-init read of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use ceso::cloudinit::{self, Document, Iso, Target};
use serde_json::{Value, json};

use crate::cases::{self, UUID};
use crate::real::EACH;

fn document(value: Value) -> Document {
    cloudinit::build(&cases::spec(value)).unwrap()
}

fn iso(document: &Document) -> Iso {
    document.iso(Target { uuid: UUID, macs: &["00:50:56:00:00:01".parse().unwrap()] }).unwrap()
}

fn full() -> Document {
    document(json!({
        "hostname": "seed-1",
        "network": { "address": "10.0.1.5/24", "gateway": "10.0.1.1", "dns": "10.0.1.1" },
        "files": [{ "path": "/etc/motd", "content": "Grüße 😀\n" }],
        "vendor_data": "#cloud-config\ntimezone: Etc/UTC\n",
        "raw": "package_update: true\n",
    }))
}

/// The output of a program that must succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).env("LC_ALL", "C.UTF-8").output();
    let output = output.unwrap_or_else(|error| panic!("{program} (tests/peers/prepare installs it): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn written(folder: &Path, iso: &Iso) -> String {
    let path = folder.join("seed.iso");
    fs::write(&path, iso.bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_same_document_gives_the_same_image() {
    let first = iso(&full());
    assert_eq!(first, iso(&full()));
    assert_eq!(first.bytes().len() % 2048, 0);
    assert_eq!(first.label(), "cidata");
    assert!(!format!("{first:?}").contains("seed-1"));
    assert_ne!(first, iso(&document(json!({ "hostname": "seed-2" }))));
}

#[test]
fn an_image_takes_what_guestinfo_takes_and_is_refused_above_its_limit() {
    let large = |bytes: usize| {
        let spec = json!({ "hostname": "a", "files": [{ "path": "/x", "content": "0".repeat(bytes) }] });
        document(spec).iso(Target { uuid: UUID, macs: &[] })
    };
    assert!(large(5 << 20).unwrap().bytes().len() > 5 << 20);
    // Both of these compress well enough for guestinfo; the image holds them as they are.
    let vendor = format!("#cloud-config\nwrite_files: [{{path: /y, content: {}}}]\n", "0".repeat(8 << 20));
    let spec =
        json!({ "hostname": "a", "files": [{ "path": "/x", "content": "0".repeat(9 << 20) }], "vendor_data": vendor });
    let fault = document(spec).iso(Target { uuid: UUID, macs: &[] }).unwrap_err();
    assert_eq!(fault.kind(), "cloudinit.too_large");
    assert!(fault.message().contains("at most 16777216"), "{fault}");
}

#[test]
#[ignore = "needs blkid"]
fn blkid_knows_a_seed_by_its_label() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), &iso(&full()));
    let said = run("blkid", &["-p", "-o", "export", &path]);
    assert!(said.lines().any(|line| line == "LABEL=cidata"), "{said}");
    assert!(said.lines().any(|line| line == "TYPE=iso9660"), "{said}");
}

#[test]
#[ignore = "needs isoinfo"]
fn isoinfo_reads_every_file_by_rock_ridge_and_joliet() {
    let folder = tempfile::tempdir().unwrap();
    let document = full();
    let path = written(folder.path(), &iso(&document));
    let described = run("isoinfo", &["-d", "-i", &path]);
    assert!(described.contains("Volume id: cidata"), "{described}");
    assert!(described.contains("Rock Ridge signatures version 1 found"), "{described}");
    assert!(described.contains("Joliet with UCS level 3 found"), "{described}");
    for tree in ["-R", "-J"] {
        let listed = run("isoinfo", &["-f", tree, "-i", &path]);
        let mut names: Vec<&str> = listed.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["/meta-data", "/network-config", "/user-data", "/vendor-data"], "{tree}");
        let user_data = run("isoinfo", &[tree, "-x", "/user-data", "-i", &path]);
        assert_eq!(user_data, document.user_data(), "{tree}");
        assert_eq!(run("isoinfo", &[tree, "-x", "/vendor-data", "-i", &path]), document.vendor_data().unwrap());
    }
}

#[test]
#[ignore = "needs xorriso"]
fn xorriso_finds_nothing_wrong_with_a_seed() {
    let folder = tempfile::tempdir().unwrap();
    let document = full();
    let path = written(folder.path(), &iso(&document));
    let out = folder.path().join("out");
    let arguments = ["-abort_on", "WARNING", "-osirrox", "on", "-indev", &path, "-check_media", "--", "-extract", "/"];
    run("xorriso", &[&arguments[..], &[out.to_str().unwrap()]].concat());
    assert_eq!(fs::read_to_string(out.join("user-data")).unwrap(), document.user_data());
    let names = fs::read_dir(&out).unwrap().count();
    assert_eq!(names, 4);
}

/// cloud-init's NoCloud data source over the image's files, for every good input: what comes out is what was written.
#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_reads_from_a_seed_image_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases::good();
    let mut seeds = Vec::new();
    for (index, (_, case)) in cases.iter().enumerate() {
        let document = case.document();
        let image = document.iso(Target { uuid: UUID, macs: &case.cards() }).unwrap();
        let path = written(folder.path(), &image);
        let out = folder.path().join(index.to_string());
        run("xorriso", &["-osirrox", "on", "-indev", &path, "-extract", "/", out.to_str().unwrap()]);
        seeds.push(json!(out));
    }
    for version in EACH {
        let answers = version.run("guest.py", &["nocloud"], &json!(seeds));
        for ((name, case), answer) in cases.iter().zip(answers.as_array().unwrap()) {
            let document = case.document();
            assert_eq!(answer["instance_id"], json!(format!("ceso-{}", UUID.to_lowercase())), "{name}, {version}");
            assert_eq!(answer["hostname"], json!(case.spec.hostname), "{name}, {version}");
            assert_eq!(answer["user_data"], json!(document.user_data()), "{name}, {version}");
            assert_eq!(answer["vendor_data"], json!(document.vendor_data()), "{name}, {version}");
            let network = cases::metadata(&case.guestinfo()).get("network").cloned().unwrap_or(Value::Null);
            assert_eq!(answer["network"], network, "{name}, {version}");
        }
    }
}
