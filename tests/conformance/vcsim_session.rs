//! Connecting, keeping and renewing a session, paging: against vcsim.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use ceso::esxi::checked::Checked;
use ceso::esxi::{Detail, Host};

use crate::vcsim::{Vcsim, login};

fn checked<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_lists_machines_with_one_request_over_a_kept_session() {
    let vcsim = Vcsim::start(&["-vm", "5"]);
    let folder = tempfile::tempdir().unwrap();
    let mut options = vcsim.options().await;
    options.session_file = Some(folder.path().join("session.json"));
    let host = Host::connect(options.clone(), login("u", "p")).await.unwrap();
    assert_eq!(host.api_version(), "6.5");
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Full).await.unwrap();
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.power.as_str() == "on" && !row.vm.instance_uuid.is_empty()), "{rows:#?}");
    assert!(rows.iter().all(|row| row.vm.datastores == ["LocalDS_0"]), "{rows:#?}");
    host.close().await.unwrap();

    let host = Host::connect(options, login("u", "p")).await.unwrap();
    assert_eq!(host.traffic().requests, 0);
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap();
    assert_eq!((rows.len(), host.traffic().requests, host.traffic().logins), (5, 1, 0));
    assert!(host.take_notices().is_empty());
    let vm = &rows[0].vm;
    let found = host.lookup_vm(&vm.moref).await.unwrap();
    assert_eq!((&found.moref, &found.name, &found.instance_uuid), (&vm.moref, &vm.name, &vm.instance_uuid));
    assert_eq!(host.lookup_vms().await.unwrap().len(), 5);
    assert_eq!(host.lookup_datastores().await.unwrap()[0].name, "LocalDS_0");
    assert_eq!(host.lookup_networks().await.unwrap()[0].name, "VM Network");
    host.logout().await.unwrap();
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_renews_an_expired_session_once_for_many_calls() {
    let vcsim = Vcsim::start(&["-vm", "2", "-idle", "1s"]);
    let host = Host::connect(vcsim.options().await, login("u", "p")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let this = checked(host.lookup_host());
    let lists = futures_util::future::join_all((0..8).map(|_| host.list_vms(&this, Detail::Lean))).await;
    assert!(lists.into_iter().all(|list| list.unwrap().len() == 2));
    assert_eq!(host.traffic().logins, 2);
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_answers_a_tiny_page_size_with_every_object() {
    let vcsim = Vcsim::start(&["-vm", "7"]);
    let mut options = vcsim.options().await;
    options.page_size = 2;
    let host = Host::connect(options, login("u", "p")).await.unwrap();
    let before = host.traffic().requests;
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Full).await.unwrap();
    assert_eq!(rows.len(), 7);
    assert_eq!(host.traffic().requests - before, 4, "7 machines and a datastore in pages of 2");
}

#[tokio::test]
#[ignore = "needs vcsim"]
async fn vcsim_refuses_a_login_and_is_not_asked_again() {
    let vcsim = Vcsim::start(&["-username", "root", "-password", "right"]);
    let error = Host::connect(vcsim.options().await, login("root", "wrong")).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.invalid_login");
    let host = Host::connect(vcsim.options().await, login("root", "right")).await.unwrap();
    assert_eq!(host.traffic().logins, 1);
}
