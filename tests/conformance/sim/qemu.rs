//! qemu-img as the oracle for the simulator's disks.

use std::process::Command;

use ceso::sim::Options;

use super::client::{Client, DISKS};
use super::started::{options, run, said, start};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs qemu-img"]
async fn qemu_img_reads_the_disks_of_the_datastore() {
    let state = tempfile::tempdir().unwrap();
    let server = start(Options { state: Some(state.path().to_owned()), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    let create = "<name>[datastore1] new.vmdk</name><spec xsi:type=\"FileBackedVirtualDiskSpec\"><diskType>thin</diskType>\
        <adapterType>lsiLogic</adapterType><capacityKb>10240</capacityKb></spec>";
    client.task("CreateVirtualDisk_Task", DISKS, create).await.unwrap();
    client
        .task("ExtendVirtualDisk_Task", DISKS, "<name>[datastore1] new.vmdk</name><newCapacityKb>20480</newCapacityKb>")
        .await
        .unwrap();
    for (disk, size) in [("debian-12/debian-12.vmdk", 2u64 << 30), ("new.vmdk", 20 << 20)] {
        let mut info = Command::new("qemu-img");
        info.args(["info", "--output=json"]).arg(state.path().join("datastore1").join(disk));
        let output = run(info).await;
        assert!(output.status.success(), "{disk}: {}", said(&output));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((told["format"].as_str(), told["virtual-size"].as_u64()), (Some("vmdk"), Some(size)), "{disk}");
    }
    let raw = state.path().join("raw");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(state.path().join("datastore1/debian-12/debian-12.vmdk")).arg(&raw);
    let output = run(convert).await;
    assert!(output.status.success(), "{}", said(&output));
    let flat = std::fs::File::open(state.path().join("datastore1/debian-12/debian-12-flat.vmdk")).unwrap();
    let mut firsts = [[0; 4096]; 2];
    for (file, first) in [flat, std::fs::File::open(&raw).unwrap()].iter_mut().zip(&mut firsts) {
        std::io::Read::read_exact(file, first).unwrap();
    }
    assert_eq!(firsts[0], firsts[1], "the content is what the guest would read");
    server.stop().await;
}
