//! The client on the simulator: needs no peer, and shows what vcsim cannot: real paging caps, addresses from cloud-init data, sessions
//! that end in the middle, files that are really there. Neither of the two is proof of the other: vcsim and pyVmomi are.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{
    Abilities, CloneSpec, CreateSpec, Datastore, Detail, Host, HostOptions, Login, Network, NewVm, PowerState,
    Reconfigure, Trust, Vm, silent,
};
use ceso::sim::{Options, Server};
use ceso::units::Bytes;
use futures_util::future::join_all;

pub fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

fn new(name: &str) -> Checked<NewVm> {
    checked(NewVm { name: name.to_owned() })
}

pub fn options(server: &Server) -> HostOptions {
    HostOptions::new("sim", server.url().parse().unwrap(), Trust::Fingerprint(server.fingerprint().parse().unwrap()))
}

pub fn login(password: &str) -> std::sync::Arc<Login> {
    std::sync::Arc::new(Login { username: "root".into(), password: password.to_owned().into() })
}

pub async fn start(options: Options) -> (Server, Host) {
    let server = Server::start(options).await.unwrap();
    let host = Host::connect(self::options(&server), login("ceso")).await.unwrap();
    (server, host)
}

async fn places(host: &Host) -> (Checked<Datastore>, Checked<Network>) {
    let datastore = host.lookup_datastores().await.unwrap().remove(0);
    let network = host.lookup_networks().await.unwrap().remove(0);
    (checked(datastore), checked(network))
}

pub async fn named(host: &Host, name: &str) -> Checked<Vm> {
    checked(host.lookup_vms().await.unwrap().into_iter().find(|vm| vm.name == name).unwrap())
}

async fn clone(host: &Host, name: &str) -> Result<Checked<Vm>, ceso::esxi::Error> {
    let template = named(host, "debian-12").await;
    let (datastore, network) = places(host).await;
    let info = host.vm_info(&template).await.unwrap();
    let networks =
        info.hardware.nics.iter().filter_map(|nic| nic.network.as_deref()).map(|name| (name, &network)).collect();
    let spec = CloneSpec { networks, cpus: Some(2), ..CloneSpec::default() };
    host.clone_vm(&template, &new(name), &datastore, &spec, &silent).await.map(checked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_boots_with_the_address_that_it_is_given() {
    let (server, host) = start(Options::default()).await;
    let vm = clone(&host, "web-1").await.unwrap();
    let info = host.vm_info(&vm).await.unwrap();
    let template = host.vm_info(&named(&host, "debian-12").await).await.unwrap();
    assert_eq!((info.firmware, info.row.guest_id, info.row.cpus), (template.firmware, template.row.guest_id, Some(2)));
    assert_eq!(info.hardware.disks[0].thin, template.hardware.disks[0].thin);
    assert_eq!(info.hardware.disks[0].size, template.hardware.disks[0].size);
    let metadata = "instance-id: web-1\nlocal-hostname: web-1\nnetwork:\n  version: 2\n  ethernets:\n    nic:\n      match: {name: \"e*\"}\n      addresses: [10.1.2.3/24]\n";
    let change = Reconfigure {
        extra_config: BTreeMap::from([("guestinfo.metadata".to_owned(), metadata.to_owned())]),
        ..Reconfigure::default()
    };
    host.reconfigure(&vm, &change, &silent).await.unwrap();
    host.power_on(&vm, &silent).await.unwrap();
    let address = host.wait_for_address(&vm, Duration::from_secs(20)).await.unwrap();
    assert_eq!(address.to_string(), "10.1.2.3");
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Full).await.unwrap();
    let row = rows.iter().find(|row| row.vm.name == "web-1").unwrap();
    assert_eq!((row.address.as_deref(), &row.power), (Some("10.1.2.3"), &PowerState::On));
    assert_eq!(host.destroy(&vm, &silent).await.unwrap_err().kind(), "esxi.invalid_power_state");
    host.shutdown_guest(&vm, Duration::from_secs(20), &silent).await.unwrap();
    host.destroy(&vm, &silent).await.unwrap();
    // The name and the folder are free again.
    clone(&host, "web-1").await.unwrap();
    host.close().await.unwrap();
    assert_eq!((server.open_sessions(), server.logins()), (0, 1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_are_refused_and_nothing_is_left() {
    let (server, host) = start(Options::default()).await;
    let (datastore, network) = places(&host).await;
    let spec = CreateSpec { disk: Some(Bytes(8 << 20)), ..CreateSpec::default() };
    host.create_vm(&new("a"), &datastore, &[&network], &spec, &silent).await.unwrap();
    let error = host.create_vm(&new("a"), &datastore, &[&network], &spec, &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.file_already_exists", "{error}");
    assert_eq!(clone(&host, "a").await.unwrap_err().kind(), "esxi.file_already_exists");
    assert_eq!(host.lookup_vms().await.unwrap().iter().filter(|vm| vm.name == "a").count(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_of_the_host_on_pages_and_updates_lose_nothing() {
    let caps = Options { vms: 25, page_size: Some(3), update_size: Some(2), ..Options::default() };
    let (server, host) = start(caps).await;
    let this = checked(host.lookup_host());
    let rows = host.list_vms(&this, Detail::Full).await.unwrap();
    assert_eq!(rows.len(), 26);
    let off: Vec<_> = rows.into_iter().filter(|row| row.power == PowerState::Off).map(|row| checked(row.vm)).collect();
    let done = join_all(off.iter().map(|vm| host.power_on(vm, &silent))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let rows = host.list_vms(&this, Detail::Lean).await.unwrap();
    assert!(rows.iter().all(|row| row.power == PowerState::On));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_in_the_middle_are_renewed_and_no_task_is_lost() {
    let slow = Options { vms: 12, task_delay: Duration::from_millis(400), ..Options::default() };
    let (server, host) = start(slow).await;
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap();
    let on: Vec<_> = rows.into_iter().map(|row| checked(row.vm)).collect();
    let (done, ()) = tokio::join!(
        join_all(on.iter().map(|vm| async {
            match host.power_off(vm, &silent).await {
                Err(error) if error.kind() == "esxi.invalid_power_state" => host.power_on(vm, &silent).await,
                other => other,
            }
        })),
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(server.expire_sessions() > 0);
        }
    );
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(server.logins(), 2, "one renewal for all");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_sent_once() {
    let server = Server::start(Options::default()).await.unwrap();
    let error = Host::connect(options(&server), login("wrong")).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.invalid_login");
    assert_eq!(server.requests().get("Login"), Some(&1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_is_shared_by_all_calls_and_none_is_left() {
    let (server, host) = start(Options { vms: 10, ..Options::default() }).await;
    let this = checked(host.lookup_host());
    let all = join_all((0..50).map(|_| host.list_vms(&this, Detail::Lean))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((server.open_sessions(), server.logins(), host.traffic().logins), (1, 1, 1));
    assert_eq!(host.connection().under_way, 0);
    host.close().await.unwrap();
    assert_eq!(server.open_sessions(), 0, "logged out at the end");

    // What fails, what is refused and what is kept leave no more sessions than there are files of them.
    let folder = tempfile::tempdir().unwrap();
    let mut kept = options(&server);
    kept.session_file = Some(folder.path().join("session"));
    for _ in 0..5 {
        let host = Host::connect(kept.clone(), login("ceso")).await.unwrap();
        let gone = checked(Vm {
            moref: host.lookup_vms().await.unwrap().remove(0).moref,
            name: "x".into(),
            instance_uuid: String::new(),
            path: String::new(),
            datastores: vec![],
            place: None,
        });
        host.power_off(&gone, &silent).await.unwrap_err();
        host.close().await.unwrap();
        assert_eq!(server.open_sessions(), 1, "one is kept, and taken up again");
    }
    assert_eq!(server.logins(), 2);
    Host::connect(options(&server), login("wrong")).await.err().unwrap();
    assert_eq!(server.open_sessions(), 1);
    assert!(Host::logout_kept(kept).await.unwrap());
    assert_eq!(server.open_sessions(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_under_way_than_the_pool_allows_or_the_host_takes() {
    let server = Server::start(Options { vms: 5, ..Options::default() }).await.unwrap();
    let pool = HostOptions { max_connections: 4, ..options(&server) };
    let host = Host::connect(pool, login("ceso")).await.unwrap();
    let most = async |bound: usize| {
        assert_eq!(host.connection().most, bound);
        let this = checked(host.lookup_host());
        let (mut seen, mut calls) = (0, Box::pin(join_all((0..40).map(|_| host.list_vms(&this, Detail::Lean)))));
        loop {
            tokio::select! {
                done = &mut calls => {
                    assert!(done.iter().all(Result::is_ok));
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(1)) => seen = seen.max(host.connection().under_way),
            }
        }
        assert!(seen <= bound && host.connection().under_way == 0, "{seen} of {bound}");
    };
    most(4).await;
    // A probe found that the host takes fewer; then, of another build, nothing is known any more.
    host.learn(Abilities { sessions: Some(2), ..Abilities::default() });
    most(2).await;
    host.learn(Abilities::default());
    most(4).await;
    assert_eq!((server.logins(), server.open_sessions()), (1, 1));
    host.close().await.unwrap();
    assert_eq!(server.open_sessions(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_tried_are_ended_again() {
    let server = Server::start(Options { max_sessions: 5, ..Options::default() }).await.unwrap();
    let host = Host::connect(options(&server), login("ceso")).await.unwrap();
    let tried = host.try_sessions(3).await.unwrap();
    assert_eq!((tried.taken, tried.refusal, server.open_sessions()), (3, None, 1));
    let tried = host.try_sessions(8).await.unwrap();
    assert_eq!((tried.asked, tried.taken, tried.refusal.is_some(), server.open_sessions()), (8, 5, true, 1));
    host.close().await.unwrap();
    assert_eq!(server.open_sessions(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_host_is_given_a_rest_and_a_refused_password_is_not_sent_again() {
    let server = Server::start(Options::default()).await.unwrap();
    let busy = |method: &str| ceso::sim::Rule {
        method: method.to_owned(),
        trouble: ceso::sim::Trouble::Status(503),
        after: 0,
        times: Some(2),
        chance: 1.0,
    };
    server.fault(busy("Login")).unwrap();
    let host = Host::connect(options(&server), login("ceso")).await.unwrap();
    assert_eq!((server.logins(), host.connection().retries), (1, 2));
    server.fault(busy("RetrievePropertiesEx")).unwrap();
    host.lookup_vms().await.unwrap();
    assert_eq!(host.connection().retries, 4);
    let before = server.requests().get("Login").copied();
    server.fault(busy("Login")).unwrap();
    Host::connect(options(&server), login("wrong")).await.err().unwrap();
    assert_eq!(server.requests().get("Login").copied(), before.map(|count| count + 3), "two without room, one refused");
    host.close().await.unwrap();
    server.stop().await;
}
