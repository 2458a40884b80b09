//! Answers that no host should give: each is one clear error with a kind and a hint, and nothing panics or fills the memory.

use std::io::{self, Read};
use std::time::Duration;

use super::checked;
use super::fake::{FakeHost, Reply, right};
use crate::config::Fingerprint;
use crate::error::Fault;
use crate::esxi::{Content, Detail, Error, Host, HostOptions, Trust, probe_certificate, silent};

/// What becomes of a list whose property request is answered like that.
async fn list_answered(reply: impl Fn() -> Reply + Send + Sync + 'static, limit: usize) -> (Error, u64) {
    let fake = FakeHost::scripted(move |request, _| (request.method == "RetrievePropertiesEx").then(&reply)).await;
    let mut options = fake.options();
    options.max_answer = limit;
    let host = Host::connect(options, right()).await.unwrap();
    let error = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap_err();
    (error, host.traffic().bytes_received)
}

/// What becomes of connecting where everything is answered like that.
async fn connect_answered(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Error {
    let fake = FakeHost::scripted(move |_, _| Some(reply())).await;
    Host::connect(fake.options(), right()).await.err().unwrap()
}

#[tokio::test]
async fn what_is_not_a_host_is_described() {
    let html = b"<!DOCTYPE html><html><head><title>Login to router</title></head>";
    for (reply, seen) in [
        ((200, "text/html", html.to_vec()), "Login to router"),
        ((404, "text/plain", b"not here".to_vec()), "HTTP 404"),
        ((200, "application/json", b"{}".to_vec()), "{}"),
        ((200, "text/xml", b"<rss/>".to_vec()), "<rss>"),
        ((200, "text/xml", vec![]), "an empty answer"),
    ] {
        let error = connect_answered(move || Reply::Raw(reply.0, reply.1, reply.2.clone())).await;
        assert_eq!(error.kind(), "esxi.not_a_host", "{error}");
        assert!(error.to_string().contains(seen), "{error}");
        assert!(error.hint().unwrap().contains("/sdk"));
    }
}

#[tokio::test]
async fn xml_that_is_cut_off_nested_or_has_a_dtd_is_refused() {
    let nested = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let answers = [
        ("cut", "<Envelope><Body><RetrievePropertiesExResponse><returnval>"),
        ("dtd", "<!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Envelope>&b;</Envelope>"),
        ("bytes", "<Envelope>\u{1}\u{2}<Body</Envelope>"),
    ];
    for (name, answer) in answers {
        let (error, _) = list_answered(move || Reply::Raw(200, "text/xml", answer.as_bytes().to_vec()), 1 << 20).await;
        assert_eq!(error.kind(), "esxi.bad_answer", "{name}: {error}");
    }
    let (error, _) = list_answered(move || Reply::Raw(200, "text/xml", nested.clone().into_bytes()), 1 << 20).await;
    assert!(error.kind() == "esxi.bad_answer" && error.to_string().contains("nested"), "{error}");
    let (error, _) = list_answered(|| Reply::CutOff("<Envelope><Body>".to_owned()), 1 << 20).await;
    assert!(error.kind() == "esxi.bad_answer" && error.to_string().contains("cut off"), "{error}");
}

#[tokio::test]
async fn a_hundred_megabytes_are_never_read() {
    let (error, read) = list_answered(|| Reply::Flood(100 << 20), 2 << 20).await;
    assert_eq!(error.kind(), "esxi.bad_answer");
    assert!(read < 3 << 20, "{read} bytes were read");
    // Where the length is said beforehand nothing is read at all.
    let (error, read) = list_answered(|| Reply::Raw(200, "text/xml", vec![b'x'; 3 << 20]), 2 << 20).await;
    assert!(error.kind() == "esxi.bad_answer" && read < 1 << 20, "{error}: {read}");
}

#[tokio::test]
async fn unknown_faults_and_busy_hosts_keep_their_names() {
    let (error, _) = list_answered(|| Reply::Fault("BrandNewTrouble", "<how>odd</how>".into()), 1 << 20).await;
    assert_eq!(error.kind(), "esxi.brand_new_trouble");
    assert_eq!(error.vim().unwrap().datum("how"), Some("odd"));
    let (error, _) = list_answered(|| Reply::Raw(503, "text/html", b"<html>busy</html>".to_vec()), 1 << 20).await;
    assert_eq!(error.kind(), "esxi.busy");
    let fault = Fault::from(error);
    assert!(fault.may_retry() && fault.hint_text().unwrap().contains("sessions"));
}

#[tokio::test]
async fn values_of_the_wrong_kind_are_no_values() {
    let object = "<returnval><objects><obj type=\"VirtualMachine\">1</obj><propSet><name>name</name><val>a</val></propSet>\
        <propSet><name>runtime.powerState</name><val></val></propSet><propSet><name>config.hardware.numCPU</name><val>-7x</val></propSet>\
        <propSet><name>guest.ipAddress</name><val>not an address</val></propSet><propSet><name>odd</name></propSet>\
        <missingSet><path>config</path><fault><fault/></fault></missingSet></objects></returnval>";
    let fake = FakeHost::scripted(move |request, _| {
        (request.method == "RetrievePropertiesEx").then(|| Reply::Answer(object.to_owned()))
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let rows = host.list_vms(&checked(host.lookup_host()), Detail::Full).await.unwrap();
    assert_eq!((rows[0].vm.name.as_str(), rows[0].power.as_str(), rows[0].cpus), ("a", "unknown", None));
    assert_eq!((rows[0].address.as_deref(), rows[0].vm.instance_uuid.as_str()), (None, ""));
}

#[tokio::test]
async fn pages_that_never_end_are_refused() {
    let fake = FakeHost::scripted(move |request, _| {
        (request.method.contains("RetrievePropertiesEx"))
            .then(|| Reply::Answer("<returnval><token>0</token></returnval>".to_owned()))
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let error = host.list_vms(&checked(host.lookup_host()), Detail::Full).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.bad_answer");
}

#[tokio::test]
async fn a_changed_certificate_is_refused_with_both_fingerprints() {
    let fake = FakeHost::start().await;
    let other = Fingerprint::of(b"another certificate");
    let options = HostOptions::new("fake", fake.url.clone(), Trust::Fingerprint(other));
    let error = Host::connect(options, right()).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.certificate_changed");
    let text = error.to_string();
    assert!(text.contains(&other.to_string()) && text.contains(&fake.fingerprint.to_string()), "{text}");
    assert_eq!(fake.count("Login") + fake.count("GET"), 0, "nothing was sent");
}

#[tokio::test]
async fn an_untrusted_certificate_shows_its_fingerprint_and_a_trusted_one_works() {
    let fake = FakeHost::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Trust::CaFile(path)
    };
    let stranger = FakeHost::start().await;
    let error =
        Host::connect(HostOptions::new("fake", fake.url.clone(), file("other.pem", &stranger.pem)), right()).await;
    let error = error.err().unwrap();
    assert_eq!(error.kind(), "esxi.certificate_untrusted");
    assert!(error.to_string().contains(&fake.fingerprint.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("ceso host trust fake"));
    for (name, text) in
        [("empty.pem", ""), ("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    {
        let error =
            Host::connect(HostOptions::new("fake", fake.url.clone(), file(name, text)), right()).await.err().unwrap();
        assert_eq!(error.kind(), "esxi.trust_store", "{error}");
    }
    let host = Host::connect(HostOptions::new("fake", fake.url.clone(), file("own.pem", &fake.pem)), right()).await;
    host.unwrap().close().await.unwrap();
    let shown = probe_certificate(&fake.url, Duration::from_secs(5)).await.unwrap();
    assert_eq!(shown.fingerprint, fake.fingerprint);
    assert!(shown.names.contains(&"localhost".to_owned()) && shown.not_after.contains("4096"), "{shown:?}");
}

#[tokio::test]
async fn a_host_that_is_not_there_or_says_nothing_is_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = url::Url::parse(&format!("https://{}/sdk", listener.local_addr().unwrap())).unwrap();
    let mut options = HostOptions::new("fake", url.clone(), Trust::Fingerprint(Fingerprint::of(b"x")));
    options.timeouts.connect = Duration::from_millis(300);
    let error = Host::connect(options.clone(), right()).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.unreachable", "{error}");
    assert_eq!(probe_certificate(&url, Duration::from_millis(300)).await.unwrap_err().kind(), "esxi.timeout");
    drop(listener);
    let error = Host::connect(options, right()).await.err().unwrap();
    assert_eq!(error.kind(), "esxi.unreachable", "{error}");
    assert_eq!(probe_certificate(&url, Duration::from_secs(1)).await.unwrap_err().kind(), "esxi.unreachable");

    let silent =
        FakeHost::scripted(|request, _| (request.method == "RetrievePropertiesEx").then_some(Reply::Silence)).await;
    let mut options = silent.options();
    options.timeouts.request = Duration::from_millis(400);
    let host = Host::connect(options, right()).await.unwrap();
    let error = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.timeout", "{error}");
}

#[tokio::test]
async fn a_url_that_would_leak_or_mislead_is_refused() {
    for url in ["http://127.0.0.1/sdk", "https://user:secret@127.0.0.1/sdk", "ftp://127.0.0.1/"] {
        let options = HostOptions::new("fake", url.parse().unwrap(), Trust::Fingerprint(Fingerprint::of(b"x")));
        let error = Host::connect(options, right()).await.err().unwrap();
        assert_eq!(error.kind(), "esxi.invalid_argument");
        assert!(!error.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn text_that_xml_cannot_carry_is_refused_before_it_is_sent() {
    let fake = FakeHost::start().await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let vm = crate::esxi::Vm {
        moref: crate::esxi::MoRef::new("VirtualMachine", "1"),
        name: "a".into(),
        instance_uuid: String::new(),
        path: String::new(),
        datastores: vec![],
        place: None,
    };
    let change = crate::esxi::Reconfigure { notes: Some("a\u{0}b".into()), ..Default::default() };
    let error = host.reconfigure(&checked(vm), &change, &crate::esxi::silent).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.invalid_argument");
    assert_eq!(fake.count("ReconfigVM_Task"), 0);
}

#[tokio::test]
async fn pages_without_an_end_are_not_read_for_ever() {
    let fake = FakeHost::scripted(|request, _| {
        let page = "<objects><obj type=\"VirtualMachine\">1</obj></objects>".repeat(30_000);
        let pages = matches!(request.method.as_str(), "RetrievePropertiesEx" | "ContinueRetrievePropertiesEx");
        pages.then(|| Reply::Answer(format!("<returnval><token>0</token>{page}</returnval>")))
    });
    let fake = fake.await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let error = host.list_vms(&checked(host.lookup_host()), Detail::Lean).await.unwrap_err();
    assert!(error.kind() == "esxi.bad_answer" && error.to_string().contains("without an end"), "{error}");
    let pages = fake.world.lock().unwrap().count("ContinueRetrievePropertiesEx");
    assert!(pages < 10, "{pages} pages were asked for");
}

#[tokio::test]
async fn success_that_is_said_before_all_was_sent_is_none() {
    let fake = FakeHost::scripted(|request, _| {
        request.head.starts_with("PUT /folder/early").then(|| Reply::Raw(200, "text/plain", Vec::new()))
    })
    .await;
    let host = Host::connect(fake.options(), right()).await.unwrap();
    let open = || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::repeat(7).take(64 << 20))) };
    let content = Content { length: 64 << 20, open: &open, sum: crate::esxi::Sum::No };
    let at = host.link.folder("ds1", "early.vmdk");
    let status = |status: u16| panic!("HTTP {status} is success");
    let error = host.put(&at, "PUT folder", &content, "upload", &silent, &status).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.bad_answer", "{error}");
    assert!(error.to_string().contains("still to be sent"), "{error}");
}
