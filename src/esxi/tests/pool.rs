//! The pool as the host sees it: connections opened, kept and closed, sessions begun and ended, changes sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::checked;
use super::fake::{FakeHost, Reply, right};
use crate::esxi::{Detail, Host, MoRef, Vm, silent};

fn vm() -> Vm {
    Vm {
        moref: MoRef::new("VirtualMachine", "1"),
        name: "web-1".into(),
        instance_uuid: String::new(),
        path: String::new(),
        datastores: vec![],
        place: None,
    }
}

/// Waits until what is looked at on the host is so.
async fn becomes(fake: &FakeHost, is_so: impl Fn(usize) -> bool) {
    let open = || fake.world.lock().unwrap().open;
    let soon = async {
        while !is_so(open()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), soon).await.unwrap_or_else(|_| panic!("{} are open", open()));
}

#[tokio::test]
async fn a_host_sees_no_more_requests_at_once_than_the_pool_allows() {
    let fake = FakeHost::start().await;
    let mut options = fake.options();
    options.max_connections = 3;
    let host = Host::connect(options, right()).await.unwrap();
    fake.world.lock().unwrap().pause = Duration::from_millis(50);
    let this = checked(host.lookup_host());
    let all = join_all((0..20).map(|_| host.list_vms(&this, Detail::Lean))).await;
    assert!(all.iter().all(Result::is_ok));
    let (under_way, open, opened, sessions) = {
        let world = fake.world.lock().unwrap();
        (world.most_under_way, world.most_open, world.opened, world.sessions.len())
    };
    // On a machine that is busy, handshakes may take as long as the calls.
    assert!((2..=3).contains(&under_way), "{under_way} at once of 20 calls");
    assert_eq!(sessions, 1);
    // Three of each is what is seen; a request that begins just before another one's connection is free may open one more.
    assert!(open <= 4 && opened <= 6, "{open} connections at once, {opened} in all");
    host.close().await.unwrap();
    assert_eq!((fake.count("Login"), fake.world.lock().unwrap().sessions.len()), (1, 0));
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed_and_the_session_stays() {
    let fake = FakeHost::start().await;
    let mut options = fake.options();
    options.max_idle_time = Duration::from_millis(200);
    let host = Host::connect(options, right()).await.unwrap();
    let this = checked(host.lookup_host());
    fake.world.lock().unwrap().pause = Duration::from_millis(20);
    join_all((0..4).map(|_| host.list_vms(&this, Detail::Lean))).await;
    assert!(fake.world.lock().unwrap().most_open >= 4);
    becomes(&fake, |open| open == 0).await;
    assert_eq!(fake.world.lock().unwrap().sessions.len(), 1);
    let opened = fake.world.lock().unwrap().opened;
    host.list_vms(&this, Detail::Lean).await.unwrap();
    assert_eq!((fake.count("Login"), fake.world.lock().unwrap().opened), (1, opened + 1));
    host.close().await.unwrap();
}

#[tokio::test]
async fn connections_are_opened_ahead_and_kept_although_nobody_uses_them() {
    let fake = FakeHost::start().await;
    let mut options = fake.options();
    options.min_connections = 3;
    options.max_idle_time = Duration::from_secs(1);
    let host = Host::connect(options, right()).await.unwrap();
    becomes(&fake, |open| open >= 3).await;
    // For longer than one is kept that nobody uses: each is used again, and not opened anew.
    becomes(&fake, |_| fake.count("GET") >= 3 * 5).await;
    let opened = fake.world.lock().unwrap().opened;
    assert!(opened <= 6, "{opened} were opened");
    becomes(&fake, |open| open >= 3).await;
    let (logins, calls) = (fake.count("Login"), fake.count("RetrievePropertiesEx"));
    assert_eq!((logins, calls), (1, 0), "they are kept by what needs no session");
    host.close().await.unwrap();
    // Nobody keeps them any more.
    becomes(&fake, |open| open == 0).await;
}

#[tokio::test]
async fn a_change_after_a_rest_is_preceded_by_a_look_that_finds_what_has_gone() {
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = broken.clone();
    // Whatever is asked first of a connection that has rested is lost with it.
    let fake = FakeHost::scripted(move |_, _| breaks.swap(false, Ordering::SeqCst).then_some(Reply::Close)).await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    host.power_on(&checked(vm()), &silent).await.unwrap();
    assert_eq!(host.connection().health_checks, 0, "it was heard just now");
    host.close().await.unwrap();
    let mut options = fake.options();
    options.timeouts.rest = Duration::from_millis(300);
    let host = Host::connect(options, right()).await.unwrap();
    let this = checked(host.lookup_host());
    for (lost, ended) in [(true, false), (false, true), (true, true)] {
        tokio::time::sleep(Duration::from_millis(400)).await;
        if ended {
            fake.world.lock().unwrap().sessions.clear();
        }
        broken.store(lost, Ordering::SeqCst);
        let before = (fake.count("PowerOnVM_Task"), fake.count("Login"));
        // A wait for updates may be what is under way: then it is what meets the loss, and the change comes through all the same.
        host.power_on(&checked(vm()), &silent).await.unwrap();
        let sent = (fake.count("PowerOnVM_Task") - before.0, fake.count("Login") - before.1);
        assert_eq!(sent, (1, usize::from(ended)), "lost {lost}, ended {ended}");
    }
    let checks = host.connection().health_checks;
    assert!(checks >= 3, "{checks}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    host.list_vms(&this, Detail::Lean).await.unwrap();
    assert_eq!(host.connection().health_checks, checks, "what changes nothing needs no look");
    host.close().await.unwrap();
    assert_eq!(fake.world.lock().unwrap().sessions.len(), 0);
}

#[tokio::test]
async fn sessions_that_end_again_and_again_are_renewed_one_by_one_and_none_is_left() {
    let fake = FakeHost::start().await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let this = checked(host.lookup_host());
    for round in 1..=4 {
        fake.world.lock().unwrap().sessions.clear();
        let all = join_all((0..12).map(|_| host.list_vms(&this, Detail::Lean))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!((fake.count("Login"), fake.world.lock().unwrap().sessions.len()), (1 + round, 1));
    }
    host.close().await.unwrap();
    assert_eq!((fake.count("Logout"), fake.world.lock().unwrap().sessions.len()), (1, 0));
}
