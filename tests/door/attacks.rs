//! Ways round the door that a script or another user of the host could try, and what stops each.

use std::sync::Arc;

use ceso::config::Mode;
use ceso::door::{Door, Grant, grammar};
use ceso::error::Fault;
use ceso::ops;
use ceso::wire::Value;

use crate::sweep::Simulated;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

struct Run {
    hosts: Arc<Simulated>,
    door: Door,
}

impl Run {
    async fn new(mode: Mode) -> Self {
        let hosts = Simulated::start().await;
        let door = Door::new(Grant { mode, table: None }, hosts.clone(), Arc::new(|_| {}));
        Self { hosts, door }
    }

    fn needs(&self, table: serde_json::Value) {
        self.door.policy().set_needs(grammar::read("needs", &Value::from_json(table), &|_| None).unwrap());
    }

    async fn call(&self, name: &str, entries: &[(&str, Value)]) -> Result<Value, Fault> {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        ops::find(name).unwrap().call(&self.door, 1, Value::Map(entries)).await
    }

    async fn host(&self) -> Value {
        self.call("host.connect", &[]).await.unwrap()
    }

    async fn vm(&self, name: &str) -> Value {
        self.call("vm.get", &[("host", self.host().await), ("name", text(name))]).await.unwrap()
    }

    /// Has somebody else rename a machine, behind the door's back.
    async fn renamed_by_another(&self, moref: &str, name: &str) {
        // Another test may have been first: there is one provider for the process, and it is the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        let post = async |cookie: Option<String>, body: String| {
            let envelope = format!(
                r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{body}</e:Body></e:Envelope>"#
            );
            let mut request = http.post(format!("{}/sdk", self.hosts.server.url())).body(envelope);
            request = request.header("SOAPAction", "\"urn:vim25/8.0.3.0\"");
            if let Some(cookie) = cookie {
                request = request.header("Cookie", cookie);
            }
            let response = request.send().await.unwrap();
            let cookie = response.headers().get("set-cookie").map(|cookie| cookie.to_str().unwrap().to_owned());
            let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
            assert_eq!(status, 200, "{text}");
            cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned())
        };
        let login = r#"<Login xmlns="urn:vim25"><_this type="SessionManager">ha-sessionmgr</_this><userName>root</userName><password>sweep</password></Login>"#;
        let cookie = post(None, login.to_owned()).await;
        let rename = format!(
            r#"<Rename_Task xmlns="urn:vim25"><_this type="VirtualMachine">{moref}</_this><newName>{name}</newName></Rename_Task>"#
        );
        post(cookie, rename).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_does_not_follow_its_machine_to_a_name_that_is_not_allowed() {
    let run = Run::new(Mode::Unrestricted).await;
    run.needs(serde_json::json!({ "vm": { "read": "debian-*", "power": "debian-*" } }));
    let vm = run.vm("debian-12").await;
    run.call("vm.info", &[("vm", vm.clone())]).await.unwrap();
    run.renamed_by_another("1", "prod-secret").await;
    for operation in ["vm.info", "vm.power_on", "vm.wait_for_ip"] {
        let fault = run.call(operation, &[("vm", vm.clone())]).await.unwrap_err();
        assert_eq!(fault.kind(), "door.denied", "{operation}: {fault:?}");
        assert!(!format!("{fault:?}").contains("prod-secret"), "{operation} tells the new name: {fault:?}");
    }
    run.needs(serde_json::json!({ "vm": { "read": "*" } }));
    run.call("vm.info", &[("vm", vm)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_not_given_anothers_disk_file_or_port_by_extra_configuration() {
    let run = Run::new(Mode::Standard).await;
    let host = run.host().await;
    let made = [("host", host), ("name", text("mine")), ("datastore", text("datastore1"))];
    let vm = run.call("vm.create", &made).await.unwrap();
    for (key, value) in [
        ("scsi0:1.fileName", "/vmfs/volumes/datastore1/debian-12/debian-12.vmdk"),
        ("serial0.fileName", "/etc/passwd"),
        ("ethernet0.networkName", "Management"),
        ("RemoteDisplay.vnc.enabled", "TRUE"),
        ("displayName", "prod"),
    ] {
        for operation in ["vm.configure", "vm.ensure_config"] {
            let extra = Value::Map(vec![(key.to_owned(), text(value))]);
            let before = run.hosts.server.requests();
            let fault = run.call(operation, &[("vm", vm.clone()), ("extra_config", extra)]).await.unwrap_err();
            assert_eq!(fault.kind(), "usage.argument", "{key}: {fault:?}");
            assert_eq!(run.hosts.server.requests(), before, "{key}: the host saw a request");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_does_not_tell_where_its_machine_lies() {
    let run = Run::new(Mode::Standard).await;
    run.needs(serde_json::json!({ "vm": { "create": "*" }, "datastore": { "write": "*" }, "network": { "use": "*" } }));
    let new = [("host", run.host().await), ("name", text("debian-12")), ("datastore", text("datastore1"))];
    let fault = run.call("vm.create", &new).await.unwrap_err();
    assert_eq!(fault.kind(), "esxi.duplicate_name");
    assert!(!fault.message().contains(".vmx"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_cannot_be_seen_or_have_no_end_are_refused() {
    let run = Run::new(Mode::Standard).await;
    let host = run.host().await;
    for name in ["web-1\u{200b}", "web-\u{202e}1", "\u{feff}web", "web\u{ad}-1", "a\u{2066}b", "%2e%2e", "a/../b", ".."]
    {
        let new = [("host", host.clone()), ("name", text(name)), ("datastore", text("datastore1"))];
        let fault = run.call("vm.create", &new).await.unwrap_err();
        assert_eq!(fault.kind(), "usage.name", "{name:?}: {fault:?}");
    }
    // Each name that is asked for is remembered: a script could fill the parent's memory with them.
    let before = run.hosts.server.requests();
    let long = [("host", host.clone()), ("name", text(&"x".repeat(1 << 20)))];
    let fault = run.call("vm.get", &long).await.unwrap_err();
    assert!(fault.kind() == "usage.name" && fault.message().len() < 300, "{fault:?}");
    assert_eq!(run.hosts.server.requests(), before);
    assert!(grammar::write(&run.door.policy().used()).len() < 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_without_an_end_are_not_kept() {
    let run = Run::new(Mode::Restricted).await;
    let large = "x".repeat(4 << 20);
    let mut built = 0;
    let fault = loop {
        let spec = [("hostname", text("web")), ("commands", Value::List(vec![text(&large)]))];
        match run.call("cloudinit.build", &spec).await {
            Ok(_) => built += 1,
            Err(fault) => break fault,
        }
        assert!(built < 100, "there is no limit");
    };
    assert!(built > 1 && fault.kind() == "limit.documents", "{built}: {fault:?}");
}
