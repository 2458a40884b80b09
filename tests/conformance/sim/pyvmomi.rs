//! pyVmomi as a client of the simulator.

use std::process::Command;

use ceso::sim::{Options, Server};

use super::started::{PASSWORD, USER, options, peer, run, said, start};

async fn script(server: &Server, name: &str) {
    let mut command = Command::new(peer("venv/bin/python"));
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/pyvmomi");
    command.arg(format!("{folder}/{name}"));
    command.args([server.address().ip().to_string(), server.address().port().to_string()]).args([USER, PASSWORD]);
    let output = run(command).await;
    assert!(output.status.success() && output.stdout.ends_with(b"ok\n"), "{name}: {}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyvmomi"]
async fn pyvmomi_reads_creates_powers_and_destroys() {
    let server = start(Options { vms: 3, ..options() }).await;
    script(&server, "inventory.py").await;
    assert_eq!(server.open_sessions(), 0, "the client logged out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyvmomi"]
async fn pyvmomi_takes_snapshots_reverts_merges_and_makes_a_linked_clone() {
    let server = start(options()).await;
    script(&server, "snapshots.py").await;
    assert_eq!(server.open_sessions(), 0, "the client logged out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyvmomi"]
async fn pyvmomi_administers_a_host() {
    let server = start(options()).await;
    script(&server, "host.py").await;
    for _ in 0..200 {
        if server.is_down() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(server.is_down() && server.open_sessions() == 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyvmomi"]
async fn pyvmomi_sets_what_a_host_can_be_set_to() {
    let server = start(options()).await;
    script(&server, "upkeep.py").await;
    assert_eq!(server.open_sessions(), 0, "the client logged out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pyvmomi"]
async fn pyvmomi_has_the_type_table_that_the_simulator_keeps() {
    let mut command = Command::new(peer("venv/bin/python"));
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/pyvmomi/type_table.py"));
    let output = run(command).await;
    assert!(output.status.success(), "{}", said(&output));
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sim/vim25.txt")).expect("the table");
    assert!(kept == String::from_utf8_lossy(&output.stdout), "write src/sim/vim25.txt anew with type_table.py");
}
