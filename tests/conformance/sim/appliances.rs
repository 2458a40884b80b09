//! Machines streamed out of the simulator and into it by clients that are not ours, their disks read by a reader that is not ours.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ceso::sim::{Options, Server};
use sha2::{Digest, Sha256};

use super::client::Client;
use super::started::{PASSWORD, USER, options, peer, run, said, start};

fn govc(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(peer("bin/govc"));
    let url = format!("https://{USER}:{PASSWORD}@{}", server.address());
    command.args(arguments).env("GOVC_URL", url).env("GOVC_INSECURE", "1").env("GOVC_PERSIST_SESSION", "false");
    command
}

async fn ok(command: Command) -> String {
    let told = format!("{command:?}");
    let output = run(command).await;
    assert!(output.status.success(), "{told}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The SHA-256 of a disk's content, holes and all.
fn sum(path: &Path) -> Vec<u8> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut hasher).unwrap();
    hasher.finalize().to_vec()
}

/// A stranger's reading of a disk: as raw bytes.
async fn raw(disk: &Path) -> PathBuf {
    let raw = disk.with_extension("raw");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(disk).arg(&raw);
    ok(convert).await;
    raw
}

/// A simulator with a machine whose disk holds something, and where the datastore's files are.
async fn filled(size: &str) -> (Server, tempfile::TempDir, PathBuf) {
    let state = tempfile::tempdir().unwrap();
    let server = start(Options { state: Some(state.path().to_owned()), ..options() }).await;
    ok(govc(
        &server,
        &[
            "vm.create",
            "-on=false",
            "-m",
            "512",
            "-disk",
            size,
            "-net",
            "VM Network",
            "-g",
            "debian12_64Guest",
            "small",
        ],
    ))
    .await;
    let folder = state.path().join("datastore1");
    let file = std::fs::OpenOptions::new().write(true).open(folder.join("small/small-flat.vmdk")).unwrap();
    let length = file.metadata().unwrap().len();
    let noise: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for at in [0, 1 << 20, length / 2 + 4096, length - noise.len() as u64] {
        file.write_all_at(&noise, at).unwrap();
    }
    (server, state, folder)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc and qemu-img"]
async fn govc_exports_a_machine_and_imports_it_again_and_qemu_img_reads_its_disk() {
    let (server, state, folder) = filled("64M").await;
    let out = state.path().join("out");
    ok(govc(&server, &["export.ovf", "-vm", "small", "-sha", "256", out.to_str().unwrap()])).await;
    let flat = folder.join("small/small-flat.vmdk");
    let exported = std::fs::read_dir(out.join("small")).unwrap().map(|entry| entry.unwrap().path());
    let exported: Vec<PathBuf> = exported.collect();
    let disk = exported.iter().find(|path| path.extension().is_some_and(|kind| kind == "vmdk")).unwrap();
    assert_eq!(sum(&raw(disk).await), sum(&flat));
    std::fs::remove_file(disk.with_extension("raw")).unwrap();
    let ovf = exported.iter().find(|path| path.extension().is_some_and(|kind| kind == "ovf")).unwrap();
    ok(govc(&server, &["import.ovf", "-name", "back", ovf.to_str().unwrap()])).await;
    assert_eq!(sum(&folder.join("back/back-flat.vmdk")), sum(&flat));
    // The same as one archive.
    let ova = state.path().join("small.ova");
    let mut tar = Command::new("tar");
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    tar.arg("cf").arg(&ova).arg("-C").arg(out.join("small")).arg(name(ovf));
    tar.args(exported.iter().filter(|path| *path != ovf).map(name));
    ok(tar).await;
    ok(govc(&server, &["import.ova", "-name", "third", ova.to_str().unwrap()])).await;
    assert_eq!(sum(&folder.join("third/third-flat.vmdk")), sum(&flat));
    let told = ok(govc(&server, &["import.spec", ova.to_str().unwrap()])).await;
    assert!(told.contains("VM Network"), "{told}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc and qemu-img"]
async fn qemu_img_reads_a_sparse_disk_of_4_gib_that_was_exported() {
    let (server, state, folder) = filled("4G").await;
    let out = state.path().join("out");
    ok(govc(&server, &["export.ovf", "-vm", "small", out.to_str().unwrap()])).await;
    let disk = std::fs::read_dir(out.join("small")).unwrap().map(|entry| entry.unwrap().path());
    let disk = disk.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "vmdk")).unwrap();
    assert!(std::fs::metadata(&disk).unwrap().len() < 16 << 20, "what is zeros takes no space");
    let mut compare = Command::new("qemu-img");
    compare.args(["compare", "-f", "vmdk", "-F", "raw"]).arg(&disk).arg(folder.join("small/small-flat.vmdk"));
    assert!(ok(compare).await.contains("identical"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyvmomi and govc"]
async fn pyvmomi_holds_leases_renews_them_and_sees_them_end() {
    let (server, _state, _) = filled("16M").await;
    let mut command = Command::new(peer("venv/bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/pyvmomi/leases.py"));
    command.args([server.address().ip().to_string(), server.address().port().to_string()]).args([USER, PASSWORD]);
    assert!(ok(command).await.ends_with("ok\n"));
    assert_eq!(server.open_sessions(), 0, "the client logged out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_holds_its_machine_until_it_ends_by_itself() {
    let lease_timeout = std::time::Duration::from_secs(1);
    let server = start(Options { lease_timeout, ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let vm = client.machine("debian-12").await;
    let lease = client.text("ExportVm", ("VirtualMachine", &vm), "").await;
    let lease = ("HttpNfcLease", lease.as_str());
    client.until(lease, "state", "ready").await;
    let refused = client.task("PowerOnVM_Task", ("VirtualMachine", vm.as_str()), "").await.unwrap_err();
    assert_eq!(refused.kind, "TaskInProgress");
    client.until(lease, "state", "error").await;
    assert_eq!(client.call("HttpNfcLeaseProgress", lease, "<percent>1</percent>").await.unwrap_err().kind, "Timedout");
    client.task("PowerOnVM_Task", ("VirtualMachine", vm.as_str()), "").await.unwrap();
    assert_eq!(
        client.call("ExportVm", ("VirtualMachine", vm.as_str()), "").await.unwrap_err().kind,
        "InvalidPowerState"
    );
    server.stop().await;
}
