//! Faults on demand: what a client meets is what a host would answer, as often as was asked for, and nothing else goes wrong.

use std::process::Command;
use std::time::{Duration, Instant};

use ceso::sim::{Machine, Rule, Stage, Trouble};

use super::client::{Client, vm};
use super::started::{PASSWORD, USER, options, peer, run, said, start};

fn rule(method: &str, trouble: Trouble, times: u64) -> Rule {
    Rule { method: method.to_owned(), trouble, after: 0, times: Some(times), chance: 1.0 }
}

fn typed(kind: &str) -> Trouble {
    Trouble::Fault { kind: kind.to_owned(), message: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_fault_ends_the_task_as_a_host_does() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    server.fault(rule("PowerOnVM_Task", typed("NoDiskSpace"), 1)).unwrap();
    let fault = client.task("PowerOnVM_Task", vm("1"), "").await.unwrap_err();
    assert_eq!(fault.kind, "NoDiskSpace", "{fault:?}");
    assert_eq!(fault.message, "There is not enough space on the datastore datastore1.");
    assert_eq!(client.value(("VirtualMachine", "1"), "runtime.powerState").await, "poweredOff");
    client.task("PowerOnVM_Task", vm("1"), "").await.unwrap();
    assert_eq!(client.value(("VirtualMachine", "1"), "runtime.powerState").await, "poweredOn");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_before_a_task_begins_comes_at_once() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    server.fault(rule("PowerOnVM_Task", typed("NoPermission"), 1)).unwrap();
    let fault = client.call("PowerOnVM_Task", vm("1"), "").await.unwrap_err();
    assert_eq!(fault.kind, "NoPermission");
    let mut stranger = Client::new(&server);
    server.fault(rule("PowerOnVM_Task", typed("NoPermission"), 1)).unwrap();
    assert_eq!(stranger.call("PowerOnVM_Task", vm("1"), "").await.unwrap_err().kind, "NotAuthenticated");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_a_delay_and_the_end_of_a_session_come_before_anything_is_done() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    server.fault(rule("PowerOnVM_Task", Trouble::Status(503), 1)).unwrap();
    server.fault(rule("PowerOnVM_Task", Trouble::Expire, 1)).unwrap();
    server.fault(rule("CurrentTime", Trouble::Delay(Duration::from_millis(50)), 1)).unwrap();
    let document = r#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><PowerOnVM_Task xmlns="urn:vim25"><_this type="VirtualMachine">1</_this></PowerOnVM_Task></Body></Envelope>"#;
    assert_eq!(client.post(document).await.0, 503);
    assert_eq!(client.call("PowerOnVM_Task", vm("1"), "").await.unwrap_err().kind, "NotAuthenticated");
    assert_eq!(server.open_sessions(), 0);
    client.login(USER, PASSWORD).await.unwrap();
    assert_eq!(client.value(("VirtualMachine", "1"), "runtime.powerState").await, "poweredOff");
    let began = Instant::now();
    client.text("CurrentTime", ("ServiceInstance", "ServiceInstance"), "").await;
    assert!(began.elapsed() >= Duration::from_millis(50));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_dropped_before_or_after_the_work() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let power = |client: Client| async move {
        let mut client = client;
        let state = client.value(("VirtualMachine", "1"), "runtime.powerState").await;
        (client, state)
    };
    for (trouble, state) in [(Trouble::Drop, "poweredOff"), (Trouble::DropAnswer, "poweredOn")] {
        server.fault(rule("PowerOnVM_Task", trouble, 1)).unwrap();
        let url = format!("{}/sdk", client.base);
        let document = r#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><PowerOnVM_Task xmlns="urn:vim25"><_this type="VirtualMachine">1</_this></PowerOnVM_Task></Body></Envelope>"#;
        let sent = client.http.post(url).header("Cookie", client.cookie.clone().unwrap()).body(document).send().await;
        assert!(sent.is_err(), "{sent:?}");
        for _ in 0..100 {
            let (same, now) = power(client).await;
            client = same;
            if now == state {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(client.value(("VirtualMachine", "1"), "runtime.powerState").await, state);
    }
    server.fault(rule("GET folder", Trouble::Status(507), 1)).unwrap();
    let get = || client.file(reqwest::Method::GET, "debian-12/debian-12.vmx", None, None);
    assert_eq!(get().await.status(), 507);
    assert_eq!(get().await.status(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_is_what_a_client_finds() {
    let server = start(options()).await;
    let machine = |name: &str| Machine { name: name.to_owned(), ..Machine::default() };
    let stage = Stage {
        machines: vec![
            Machine {
                on: true,
                cpus: Some(4),
                memory_mb: Some(2048),
                ip: Some("10.0.1.77".parse().unwrap()),
                networks: Some(vec!["lab".to_owned(), "VM Network".to_owned()]),
                notes: Some("kept".to_owned()),
                extra: vec![("guestinfo.x".to_owned(), "y".to_owned())],
                ..machine("web-1")
            },
            machine("web-2"),
        ],
        networks: vec!["lab".to_owned()],
        without_template: true,
    };
    server.stage(&stage).unwrap();
    let mut client = Client::logged_in(&server).await;
    let id = client.machine("web-1").await;
    client.until(("VirtualMachine", &id), "guest.ipAddress", "10.0.1.77").await;
    assert_eq!(client.value(("VirtualMachine", &id), "summary.config.numCpu").await, "4");
    assert_eq!(client.value(("VirtualMachine", &id), "config.annotation").await, "kept");
    let found = server.machines();
    assert_eq!(
        found.iter().map(|vm| (vm.name.as_str(), vm.power)).collect::<Vec<_>>(),
        [("web-1", "on"), ("web-2", "off")]
    );
    assert_eq!(found[0].networks, ["lab", "VM Network"]);
    assert!(server.calls().iter().any(|call| call.method == "FindByInventoryPath"));
    for bad in [
        machine("web-1"),
        machine(""),
        machine("a/b"),
        Machine { networks: Some(vec!["no".to_owned()]), ..machine("c") },
    ] {
        let fault = server.stage(&Stage { machines: vec![bad], ..Stage::default() }).unwrap_err();
        assert_eq!(fault.kind(), "sim.stage");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs govc"]
async fn govc_meets_the_faults_that_were_asked_for() {
    let server = start(options()).await;
    let govc = |arguments: &[&str]| {
        let mut command = Command::new(peer("bin/govc"));
        let url = format!("https://{USER}:{PASSWORD}@{}", server.address());
        command.args(arguments).env("GOVC_URL", url).env("GOVC_INSECURE", "1").env("GOVC_PERSIST_SESSION", "false");
        command
    };
    let on = ["vm.power", "-on", "debian-12"];
    server.fault(rule("PowerOnVM_Task", typed("NoDiskSpace"), 1)).unwrap();
    let output = run(govc(&on)).await;
    assert!(!output.status.success() && said(&output).contains("not enough space"), "{}", said(&output));
    server.fault(rule("PowerOnVM_Task", typed("RestrictedVersion"), 1)).unwrap();
    let output = run(govc(&on)).await;
    assert!(!output.status.success() && said(&output).contains("prohibits execution"), "{}", said(&output));
    server.fault(rule("PowerOnVM_Task", Trouble::Status(503), 1)).unwrap();
    let output = run(govc(&on)).await;
    assert!(!output.status.success() && said(&output).contains("503"), "{}", said(&output));
    assert!(run(govc(&on)).await.status.success());
    server.stop().await;
}
