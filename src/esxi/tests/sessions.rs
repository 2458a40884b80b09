//! Sessions: kept, shared, renewed, never hammered at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::checked;
use super::fake::{FakeHost, Reply, right};
use crate::error::Fault;
use crate::esxi::{Credentials, Detail, Host, Login, MoRef, Vm, silent};

/// Counts how often it is asked.
struct Counting(AtomicUsize, &'static str);

impl Credentials for Counting {
    fn ask(&self) -> Result<Login, Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Login { username: "root".into(), password: self.1.to_owned().into() })
    }
}

fn vm(id: &str) -> Vm {
    Vm {
        moref: MoRef::new("VirtualMachine", id),
        name: id.into(),
        instance_uuid: String::new(),
        path: String::new(),
        datastores: vec![],
        place: None,
    }
}

#[tokio::test]
async fn a_refused_login_is_never_repeated() {
    let fake = FakeHost::start().await;
    let wrong = Arc::new(Counting(AtomicUsize::new(0), "wrong"));
    let error = Host::connect(fake.options(), wrong.clone()).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.invalid_login");
    assert!(error.hint().unwrap().contains("lock"));
    assert_eq!(fake.count("Login"), 1);

    // A session that ends, and a password that has changed meanwhile: one login, then no more, however many call.
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let this = checked(host.lookup_host());
    host.list_vms(&this, Detail::Lean).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = fake.options();
    options.session_file = Some(folder.path().join("s"));
    Host::connect(options.clone(), right()).await.unwrap().close().await.unwrap();
    let host = Host::connect(options, wrong.clone()).await.unwrap();
    fake.world.lock().unwrap().sessions.clear();
    let before = fake.count("Login");
    for _ in 0..2 {
        let all = join_all((0..8).map(|_| host.list_vms(&this, Detail::Lean))).await;
        assert!(all.into_iter().all(|list| list.unwrap_err().kind() == "esxi.invalid_login"));
    }
    assert_eq!(fake.count("Login") - before, 1);
    assert_eq!(wrong.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_ended_session_is_renewed_once_however_many_notice() {
    let fake = FakeHost::start().await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let this = checked(host.lookup_host());
    fake.world.lock().unwrap().sessions.clear();
    let all = join_all((0..20).map(|_| host.list_vms(&this, Detail::Lean))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((host.traffic().logins, fake.count("Login")), (2, 2));
}

#[tokio::test]
async fn a_kept_session_costs_one_request_and_asks_nobody() {
    let fake = FakeHost::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = fake.options();
    options.session_file = Some(folder.path().join("session.json"));
    Host::connect(options.clone(), right()).await.unwrap().close().await.unwrap();
    assert_eq!(fake.count("Logout"), 0);
    let nobody = Arc::new(Counting(AtomicUsize::new(0), "wrong"));
    let host = Host::connect(options.clone(), nobody.clone()).await.unwrap();
    let seen = fake.world.lock().unwrap().seen.len();
    host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap();
    assert_eq!(fake.world.lock().unwrap().seen.len() - seen, 1);
    assert_eq!(nobody.0.load(Ordering::SeqCst), 0);
    assert_eq!(host.about().version, "8.0.3");
    host.close().await.unwrap();

    assert!(Host::logout_kept(options.clone()).await.unwrap());
    assert_eq!(fake.count("Logout"), 1);
    assert!(!options.session_file.as_ref().unwrap().exists());
    assert!(!Host::logout_kept(options).await.unwrap());
}

#[tokio::test]
async fn a_session_that_is_not_kept_is_logged_out() {
    let fake = FakeHost::start().await;
    Host::connect(fake.options(), right()).await.unwrap().close().await.unwrap();
    assert_eq!((fake.count("Logout"), fake.world.lock().unwrap().sessions.len()), (1, 0));
}

#[tokio::test]
async fn a_session_that_could_not_be_kept_is_logged_out() {
    let fake = FakeHost::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = fake.options();
    // A folder where the file should be: it can be neither read nor replaced.
    options.session_file = Some(folder.path().to_owned());
    let host = Host::connect(options, right()).await.unwrap();
    assert_eq!(host.take_notices().len(), 2, "not used, and not written");
    host.close().await.unwrap();
    assert_eq!((fake.count("Logout"), fake.world.lock().unwrap().sessions.len()), (1, 0));
}

#[tokio::test]
async fn a_damaged_session_file_is_replaced_with_a_notice() {
    let fake = FakeHost::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = fake.options();
    options.session_file = Some(folder.path().join("session.json"));
    Host::connect(options.clone(), right()).await.unwrap().close().await.unwrap();
    std::fs::write(options.session_file.as_ref().unwrap(), "{\"format\":").unwrap();
    let host = Host::connect(options.clone(), right()).await.unwrap();
    let notices = host.take_notices();
    assert!(notices.len() == 1 && notices[0].contains("damaged"), "{notices:?}");
    host.close().await.unwrap();
    let host = Host::connect(options, right()).await.unwrap();
    assert_eq!((host.take_notices().len(), host.traffic().requests), (0, 0));
}

#[tokio::test]
async fn a_session_that_another_process_has_renewed_is_taken_over() {
    let fake = FakeHost::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = fake.options();
    options.session_file = Some(folder.path().join("session.json"));
    let ours = Host::connect(options.clone(), right()).await.unwrap();
    let theirs = Host::connect(options, right()).await.unwrap();
    let this = checked(ours.lookup_host());
    fake.world.lock().unwrap().sessions.clear();
    theirs.list_vms(&this, Detail::Lean).await.unwrap();
    ours.list_vms(&this, Detail::Lean).await.unwrap();
    assert_eq!((ours.traffic().logins, theirs.traffic().logins, fake.count("Login")), (1, 1, 2));
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_not_sent_again() {
    let fake = FakeHost::scripted(|request, _| (request.method == "PowerOnVM_Task").then_some(Reply::Close)).await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let error = host.power_on(&checked(vm("1")), &silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.connection_lost", "{error}");
    assert!(error.outcome_unknown() && error.hint().unwrap().contains("may have happened"));
    assert_eq!(fake.count("PowerOnVM_Task"), 1);
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_is_asked_for_again() {
    let lost = AtomicUsize::new(0);
    let fake = FakeHost::scripted(move |request, _| {
        (request.method == "RetrievePropertiesEx" && lost.fetch_add(1, Ordering::SeqCst) == 0).then_some(Reply::Close)
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap();
}

#[tokio::test]
async fn a_password_is_seen_by_nobody() {
    let fake = FakeHost::start().await;
    let mut options = fake.options();
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let record = seen.clone();
    options.observer = Some(Arc::new(move |_, body| record.lock().unwrap().push_str(body)));
    let login = right();
    assert!(!format!("{login:?}{options:?}").contains("right"));
    Host::connect(options, login).await.unwrap().close().await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.contains("<Login") && !seen.contains("right"), "{seen}");
}
