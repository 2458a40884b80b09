//! Who may call what: login, lock-out, expiry, logout.

use std::time::Duration;

use ceso::sim::Options;

use super::client::Client;
use super::started::{PASSWORD, USER, options, start};

const INSTANCE: (&str, &str) = ("ServiceInstance", "ServiceInstance");

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_steps_need_no_session() {
    let server = start(options()).await;
    let mut client = Client::new(&server);
    let content = client.call("RetrieveServiceContent", INSTANCE, "").await.unwrap();
    assert_eq!(content.text_at("returnval.about.apiType"), Some("HostAgent"));
    assert_eq!(content.text_at("returnval.rootFolder"), Some("ha-folder-root"));
    assert!(!client.text("CurrentTime", INSTANCE, "").await.is_empty());
    for (method, this) in [
        ("PowerOnVM_Task", ("VirtualMachine", "1")),
        ("Logout", ("SessionManager", "ha-sessionmgr")),
        ("CreatePropertyCollector", ("PropertyCollector", "ha-property-collector")),
        ("NoSuchMethod", ("Folder", "nowhere")),
    ] {
        assert_eq!(client.call(method, this, "").await.unwrap_err().kind, "NotAuthenticated", "{method}");
    }
    assert_eq!(client.property(("VirtualMachine", "1"), "name").await.unwrap_err().kind, "NotAuthenticated");
    assert_eq!(client.file(reqwest::Method::GET, "debian-12/debian-12.vmx", None, None).await.status(), 401);
    client.cookie = Some("vmware_soap_session=\"made-up\"".to_owned());
    assert_eq!(client.property(("VirtualMachine", "1"), "name").await.unwrap_err().kind, "NotAuthenticated");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_wrong_passwords_lock_the_account() {
    let server = start(options()).await;
    let mut client = Client::new(&server);
    for _ in 0..5 {
        assert_eq!(client.login(USER, "wrong").await.unwrap_err().kind, "InvalidLogin");
    }
    assert_eq!(client.login(USER, PASSWORD).await.unwrap_err().kind, "InvalidLogin", "locked for 900 s");
    assert_eq!((server.open_sessions(), server.logins(), client.cookie.is_some()), (0, 0, false));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_between_wrong_passwords_starts_the_count_anew() {
    let server = start(options()).await;
    let mut client = Client::new(&server);
    for _ in 0..3 {
        for _ in 0..4 {
            client.login(USER, "wrong").await.unwrap_err();
        }
        client.login(USER, PASSWORD).await.unwrap();
    }
    assert_eq!(server.logins(), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_by_logout_and_by_rest() {
    let server = start(Options { idle_timeout: Duration::from_millis(300), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    assert!(client.cookie.as_deref().unwrap().starts_with("vmware_soap_session=\""), "quoted, as on a host");
    assert_eq!(client.value(("SessionManager", "ha-sessionmgr"), "currentSession.userName").await, USER);
    assert_eq!(server.open_sessions(), 1);
    client.call("Logout", ("SessionManager", "ha-sessionmgr"), "").await.unwrap();
    assert_eq!(server.open_sessions(), 0);
    assert_eq!(client.property(("VirtualMachine", "1"), "name").await.unwrap_err().kind, "NotAuthenticated");

    let mut client = Client::logged_in(&server).await;
    let view =
        client.text("CreateListView", ("ViewManager", "ViewManager"), r#"<obj type="VirtualMachine">1</obj>"#).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(client.property(("VirtualMachine", "1"), "name").await.unwrap_err().kind, "NotAuthenticated");
    assert_eq!(server.open_sessions(), 0);
    client.login(USER, PASSWORD).await.unwrap();
    let gone = client.property(("ListView", view), "view").await.unwrap_err();
    assert_eq!(gone.kind, "ManagedObjectNotFound", "a view ends with its session");
    assert_eq!(server.expire_sessions(), 1);
    assert_eq!(client.property(("VirtualMachine", "1"), "name").await.unwrap_err().kind, "NotAuthenticated");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaked_sessions_end_in_503() {
    let server = start(Options { max_sessions: 2, ..options() }).await;
    for _ in 0..2 {
        Client::logged_in(&server).await;
    }
    assert!(Client::new(&server).login(USER, PASSWORD).await.is_err());
    assert_eq!(server.open_sessions(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_method() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    client.value(("VirtualMachine", "1"), "name").await;
    client.file(reqwest::Method::HEAD, "debian-12/debian-12.vmx", None, None).await;
    let counted = server.requests();
    assert_eq!((counted["Login"], counted["RetrieveProperties"], counted["HEAD folder"]), (1, 1, 1));
    server.stop().await;
}
