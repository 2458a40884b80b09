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

const ON: &str = r#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><PowerOnVM_Task xmlns="urn:vim25"><_this type="VirtualMachine">1</_this></PowerOnVM_Task></Body></Envelope>"#;

async fn lost(client: &Client) {
    let request = client.http.post(format!("{}/sdk", client.base)).header("Cookie", client.cookie.clone().unwrap());
    assert!(request.body(ON).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_cuts_everybody_off_and_forgets_nothing() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    server.fault(rule("PowerOnVM_Task", Trouble::Partition(Duration::from_millis(300)), 1)).unwrap();
    let began = Instant::now();
    lost(&client).await;
    let version = || client.http.get(format!("{}/sdk/vimServiceVersions.xml", client.base)).send();
    while version().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(client.value(("VirtualMachine", "1"), "runtime.powerState").await, "poweredOn");
    assert_eq!(server.open_sessions(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_anew_forgets_sessions_and_tasks_and_their_work_stops_or_goes_on() {
    for (finishes, state) in [(false, "off"), (true, "on")] {
        let slow = ceso::sim::Options { task_delay: Duration::from_millis(150), ..options() };
        let server = start(slow).await;
        let mut client = Client::logged_in(&server).await;
        server
            .fault(rule("PowerOnVM_Task", Trouble::Restart { away: Duration::from_millis(50), finishes }, 1))
            .unwrap();
        lost(&client).await;
        assert_eq!(server.open_sessions(), 0);
        tokio::time::sleep(Duration::from_millis(400)).await;
        client.login(USER, PASSWORD).await.unwrap();
        assert_eq!(server.machines()[0].power, state);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datastore_is_filled_by_somebody_else() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    server.fault(rule("MakeDirectory", Trouble::Fill(4096), 1)).unwrap();
    let folder = format!("<name>[datastore1] a</name>{}", super::client::DATACENTER);
    client.call("MakeDirectory", super::client::FILES, &folder).await.unwrap();
    let store = ("Datastore", "6370e3a0-c0de5e30-7a11-0c0ffee00001");
    let free: u64 = client.value(store, "summary.freeSpace").await.parse().unwrap();
    assert!(free <= 4096, "{free}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_run_over_the_wire() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let server = start(ceso::sim::Options { seed, ..options() }).await;
        let mut client = Client::logged_in(&server).await;
        server.fault(ceso::sim::read_fault("PowerOnVM_Task:NoPermission:chance=0.5").unwrap()).unwrap();
        let mut run = Vec::new();
        for _ in 0..40 {
            run.push(client.call("PowerOnVM_Task", vm("1"), "").await.is_ok());
        }
        runs.push(run);
        server.stop().await;
    }
    assert!(runs[0] == runs[1] && runs[0] != runs[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_simulator_is_given_faults_over_http_by_its_own_account_alone() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let url = format!("{}/simulator/faults", server.url());
    let ask = |method: reqwest::Method, password: &str, body: &str| {
        client.http.request(method, &url).basic_auth(USER, Some(password)).body(body.to_owned()).send()
    };
    let post = reqwest::Method::POST;
    assert_eq!(client.http.get(&url).send().await.unwrap().status(), 401);
    assert_eq!(ask(post.clone(), "wrong", "Login:503").await.unwrap().status(), 401);
    let refused = ask(post.clone(), PASSWORD, "Login:503\nLogin:NoSuchFault").await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(server.faults().is_empty(), "all or none");
    assert_eq!(ask(post, PASSWORD, "# once\nPowerOnVM_Task:NoPermission:1\n\n").await.unwrap().status(), 200);
    let fault = client.call("PowerOnVM_Task", vm("1"), "").await.unwrap_err();
    assert_eq!(fault.kind, "NoPermission");
    let listed = client.http.get(&url).basic_auth(USER, Some(PASSWORD)).send().await.unwrap().text().await.unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["simulator"], &listed["faults"][0]["caught"]), (&true.into(), &1.into()));
    let gone = client.http.delete(&url).basic_auth(USER, Some(PASSWORD)).send().await.unwrap();
    assert!(gone.status() == 200 && server.faults().is_empty());
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
