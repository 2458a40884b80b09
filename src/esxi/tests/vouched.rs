//! A vCenter that has its hosts carry files: only to the host, and only to the certificate, that the vCenter itself names.

use std::sync::{Arc, Mutex};

use secrecy::SecretString;

use super::checked;
use super::fake::{FakeHost, Reply, right};
use crate::esxi::checked::Checked;
use crate::esxi::{Content, Error, GuestLogin, Host, Lease, MoRef, Sink, Vm, silent};

const CONTENT: &[u8] = b"KDMV, and the rest of a disk";

/// A host of a vCenter that gives a disk, and keeps what it was sent: requests with all of their headers.
async fn system() -> (FakeHost, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let fake = FakeHost::scripted(move |request, _| {
        seen.lock().unwrap().push(request.head.clone());
        Some(Reply::Raw(200, "application/x-vnd.vmware-streamVmdk", CONTENT.to_vec()))
    })
    .await;
    (fake, heads)
}

/// As a vCenter tells a certificate.
fn bytes(pem: &str) -> String {
    let bytes: String = pem.bytes().map(|byte| format!("<byte>{}</byte>", i8::from_ne_bytes([byte]))).collect();
    format!("<val xsi:type=\"ArrayOfByte\">{bytes}</val>")
}

/// What a vCenter tells of a host: its name, and its certificate.
type Told<'a> = (&'a str, Option<String>);

/// A vCenter with a lease whose file is at that URL, and with hosts of these names and certificates.
async fn vcenter(url: &str, hosts: &[Told<'_>]) -> (FakeHost, Host) {
    let file = url.to_owned();
    let fake = FakeHost::scripted(move |request, _| match request.method.as_str() {
        "RetrieveServiceContent" => Some(Reply::Answer(
            r#"<returnval><rootFolder type="Folder">group-d1</rootFolder><propertyCollector type="PropertyCollector">pc</propertyCollector><about><fullName>VMware vCenter Server 8.0.3</fullName><version>8.0.3</version><build>1</build><apiType>VirtualCenter</apiType><apiVersion>8.0.3.0</apiVersion></about><sessionManager type="SessionManager">SessionManager</sessionManager><guestOperationsManager type="GuestOperationsManager">guests</guestOperationsManager></returnval>"#.into(),
        )),
        "ExportVm" => Some(Reply::Answer(r#"<returnval type="HttpNfcLease">lease-1</returnval>"#.into())),
        "InitiateFileTransferFromGuest" => {
            Some(Reply::Answer(format!("<returnval><size>{}</size><url>{file}</url></returnval>", CONTENT.len())))
        }
        "InitiateFileTransferToGuest" => Some(Reply::Answer(format!("<returnval>{file}</returnval>"))),
        _ => None,
    })
    .await;
    {
        let mut world = fake.world.lock().unwrap();
        world.set(&MoRef::new("Datacenter", "ha-datacenter"), "name", "<val>DC1</val>");
        let guests = MoRef::new("GuestOperationsManager", "guests");
        world.set(&guests, "fileManager", r#"<val type="GuestFileManager">files</val>"#);
        world.set(&guests, "processManager", r#"<val type="GuestProcessManager">processes</val>"#);
        let lease = MoRef::new("HttpNfcLease", "lease-1");
        world.set(&lease, "state", "<val>ready</val>");
        let info = format!(
            "<val><entity type=\"VirtualMachine\">vm-1</entity><deviceUrl><key>/vm-1/disk:0</key><importKey/><url>{url}</url><sslThumbprint>AB</sslThumbprint><disk>true</disk><targetId>disk-0.vmdk</targetId></deviceUrl><leaseTimeout>300</leaseTimeout></val>"
        );
        world.set(&lease, "info", &info);
        for (index, (name, certificate)) in hosts.iter().enumerate() {
            let host = MoRef::new("HostSystem", format!("host-{index}"));
            world.set(&host, "name", &format!("<val>{name}</val>"));
            if let Some(certificate) = certificate {
                world.set(&host, "config.certificate", certificate);
            }
        }
    }
    let host = Host::connect(fake.options(), right()).await.unwrap();
    (fake, host)
}

fn vm() -> Checked<Vm> {
    checked(Vm {
        moref: MoRef::new("VirtualMachine", "vm-1"),
        name: "web-1".into(),
        instance_uuid: String::new(),
        path: String::new(),
        datastores: vec![],
        place: None,
    })
}

async fn export(host: &Host) -> Result<Lease<'_>, Error> {
    host.export(&vm()).await
}

/// What becomes of an export through a lease of that URL, from a vCenter with these hosts.
async fn refused(url: &str, hosts: &[Told<'_>]) -> Error {
    let (_vcenter, host) = vcenter(url, hosts).await;
    export(&host).await.err().unwrap()
}

async fn fetch(lease: &Lease<'_>) -> Result<u64, Error> {
    let sink: Sink = Box::new(std::io::sink());
    lease.fetch(&lease.files[0], sink, &silent).await.map(|done| done.bytes)
}

/// The URL of a file on a host, under another name than the vCenter is reached by.
fn file_on(system: &FakeHost) -> String {
    format!("https://localhost:{}/nfc/52ab/disk-0.vmdk", system.url.port().unwrap())
}

#[tokio::test]
async fn a_host_carries_files_for_its_vcenter_and_gets_no_session() {
    let (esx, heads) = system().await;
    let (vcenter, host) = vcenter(&file_on(&esx), &[("localhost", Some(bytes(&esx.pem)))]).await;
    let lease = export(&host).await.unwrap();
    let before = host.traffic();
    assert_eq!(fetch(&lease).await.unwrap(), CONTENT.len() as u64);
    let open = || Ok(Box::new(CONTENT) as Box<dyn std::io::Read + Send>);
    let content = Content { length: CONTENT.len() as u64, open: &open, sum: crate::esxi::Sum::No };
    lease.send(&lease.files[0], content, &silent).await.unwrap();
    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("GET /nfc/52ab/disk-0.vmdk ") && heads[1].starts_with("PUT "), "{heads:?}");
    for head in heads.iter().map(|head| head.to_ascii_lowercase()) {
        assert!(!head.contains("cookie") && !head.contains("authorization") && !head.contains("session"), "{head}");
    }
    assert_eq!(vcenter.count("GET"), 1, "the vCenter gave its versions, and no file");
    let (after, length) = (host.traffic(), CONTENT.len() as u64);
    let counted = (after.bytes_received - before.bytes_received, after.bytes_sent - before.bytes_sent);
    assert_eq!(counted, (length, length), "it counts as the vCenter's");
}

#[tokio::test]
async fn what_a_host_refuses_is_no_end_of_the_vcenters_session() {
    let esx = FakeHost::scripted(|_, _| Some(Reply::Raw(401, "text/plain", Vec::new()))).await;
    let (vcenter, host) = vcenter(&file_on(&esx), &[("localhost", Some(bytes(&esx.pem)))]).await;
    let lease = export(&host).await.unwrap();
    let open = || Ok(Box::new(CONTENT) as Box<dyn std::io::Read + Send>);
    let content = Content { length: CONTENT.len() as u64, open: &open, sum: crate::esxi::Sum::No };
    let errors = [fetch(&lease).await.unwrap_err(), lease.send(&lease.files[0], content, &silent).await.unwrap_err()];
    for error in errors {
        assert_eq!(error.kind(), "esxi.file_refused", "{error}");
    }
    assert_eq!((vcenter.count("Login"), esx.count("GET")), (1, 2), "nobody logged in again, or asked again");
}

#[tokio::test]
async fn a_host_with_another_certificate_than_the_vcenter_names_gets_nothing() {
    let (esx, heads) = system().await;
    let (other, _) = system().await;
    let (_vcenter, host) = vcenter(&file_on(&esx), &[("localhost", Some(bytes(&other.pem)))]).await;
    let lease = export(&host).await.unwrap();
    let open = || Ok(Box::new(CONTENT) as Box<dyn std::io::Read + Send>);
    let content = Content { length: CONTENT.len() as u64, open: &open, sum: crate::esxi::Sum::No };
    let errors = [fetch(&lease).await.unwrap_err(), lease.send(&lease.files[0], content, &silent).await.unwrap_err()];
    for error in errors {
        assert_eq!(error.kind(), "esxi.certificate_changed", "{error}");
        let text = error.to_string();
        assert!(text.contains(&other.fingerprint.to_string()) && text.contains(&esx.fingerprint.to_string()), "{text}");
        assert!(error.hint().unwrap().contains("connect that host anew"), "{:?}", error.hint());
    }
    assert_eq!(heads.lock().unwrap().len(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_host_that_the_vcenter_does_not_vouch_for_is_not_asked() {
    let (esx, heads) = system().await;
    let (other, _) = system().await;
    let url = file_on(&esx);
    let own = || Some(bytes(&esx.pem));
    let several = [("localhost", own()), ("LOCALHOST", Some(bytes(&other.pem)))];
    let cases: &[(&str, &[Told<'_>], &str)] = &[
        ("unknown", &[("esx1.example", own())], "none of that name"),
        ("no host at all", &[], "none of that name"),
        ("a name that begins like it", &[("localhost.example", own())], "none of that name"),
        ("no certificate", &[("localhost", None)], "does not tell"),
        ("no PEM", &[("localhost", Some(bytes("AB:CD")))], "does not tell"),
        ("no bytes", &[("localhost", Some("<val><byte>x</byte></val>".to_owned()))], "does not tell"),
        ("two of one name", &several, "several of that name"),
        ("one of two does not tell", &[("localhost", own()), ("localhost", None)], "several of that name"),
    ];
    for (case, hosts, expected) in cases {
        let error = refused(&url, hosts).await;
        assert_eq!(error.kind(), "esxi.needs_host", "{case}: {error}");
        assert!(error.to_string().contains(expected), "{case}: {error}");
        assert!(error.hint().unwrap().contains("localhost"), "{case}: {:?}", error.hint());
    }
    let known: &[Told<'_>] = &[("localhost", own())];
    for url in [
        url.replace("https", "http"),
        url.replace("localhost", "root:secret@localhost"),
        "https://".to_owned(),
        "ftp://localhost/x".to_owned(),
        String::new(),
    ] {
        let error = refused(&url, known).await;
        assert_eq!(error.kind(), "esxi.bad_answer", "{url}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert_eq!(heads.lock().unwrap().len(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_host_at_an_address_that_is_not_allowed_is_not_asked() {
    let (esx, _) = system().await;
    // Were it not refused, the connection would not come about either: so the kind tells.
    for address in ["169.254.169.254", "100.100.100.200", "[fd00:ec2::254]", "[fe80::1]", "0.0.0.0"] {
        let name = address.trim_matches(['[', ']']);
        let error = refused(&format!("https://{address}/latest"), &[(name, Some(bytes(&esx.pem)))]).await;
        assert_eq!(error.kind(), "door.network", "{address}: {error}");
    }
    // What the configuration allows holds for a vCenter's hosts as for the vCenter.
    let (fake, _) = vcenter("https://10.9.9.9/nfc/x", &[("10.9.9.9", Some(bytes(&esx.pem)))]).await;
    let mut options = fake.options();
    options.allowed = Some(Arc::new(|address| match address.is_loopback() {
        true => Ok(()),
        false => Err(crate::error::Fault::new("door.network", "outside of the allowed networks")),
    }));
    let host = Host::connect(options, right()).await.unwrap();
    let error = export(&host).await.err().unwrap();
    assert_eq!((error.kind().as_str(), error.to_string().contains("outside")), ("door.network", true), "{error}");
}

#[tokio::test]
async fn a_host_is_known_by_its_addresses_and_its_name_in_dns() {
    let (esx, heads) = system().await;
    let (fake, host) = vcenter(&file_on(&esx), &[("esx1.example", Some(bytes(&esx.pem)))]).await;
    let system = MoRef::new("HostSystem", "host-0");
    let dns = "<val><dhcp>false</dhcp><hostName>localhost</hostName><domainName>example</domainName></val>";
    fake.world.lock().unwrap().set(&system, "config.network.dnsConfig", dns);
    fetch(&export(&host).await.unwrap()).await.unwrap();
    let port = esx.url.port().unwrap();
    let vnic = "<val><HostVirtualNic><spec><ip><ipAddress>127.0.0.9</ipAddress></ip></spec></HostVirtualNic></val>";
    let info = format!("<val><deviceUrl><url>https://127.0.0.9:{port}/nfc/x</url></deviceUrl></val>");
    {
        let mut world = fake.world.lock().unwrap();
        world.set(&system, "config.network.vnic", vnic);
        world.set(&MoRef::new("HttpNfcLease", "lease-1"), "info", &info);
    }
    // It is that host by its address, and there nobody answers.
    let error = fetch(&export(&host).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.unreachable", "{error}");
    assert!(error.hint().unwrap().contains("reach the vCenter's hosts"), "{:?}", error.hint());
    assert_eq!(heads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn files_of_guests_go_only_to_the_host_that_the_vcenter_vouches_for() {
    let (esx, heads) = system().await;
    let (other, _) = system().await;
    let password = SecretString::from("of the guest");
    let login = || GuestLogin { user: "root", password: &password };
    let open = || Ok(Box::new(CONTENT) as Box<dyn std::io::Read + Send>);
    let content = || Content { length: CONTENT.len() as u64, open: &open, sum: crate::esxi::Sum::No };
    let sink = || Box::new(std::io::sink()) as Sink;
    for (name, pem, expected) in [
        ("localhost", &esx.pem, None),
        ("localhost", &other.pem, Some("esxi.certificate_changed")),
        ("esx1.example", &esx.pem, Some("esxi.needs_host")),
    ] {
        let (_vcenter, host) = vcenter(&file_on(&esx), &[(name, Some(bytes(pem)))]).await;
        let got = host.download_from_guest(&vm(), login(), "/etc/shadow", sink(), &silent).await.map(drop);
        let sent =
            host.upload_to_guest(&vm(), login(), "/etc/shadow", content(), (true, false), &silent).await.map(drop);
        for done in [got, sent] {
            assert_eq!(done.as_ref().err().map(Error::kind).as_deref(), expected, "{name}: {done:?}");
        }
    }
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 2, "only what it vouches for: {heads:?}");
    assert!(!heads.iter().any(|head| head.to_ascii_lowercase().contains("cookie")), "{heads:?}");
}

#[tokio::test]
async fn a_hosts_name_that_means_nothing_here_is_told_with_what_is_missing() {
    // Longer than a part of a name may be: nobody is asked for it.
    let name = format!("{}.example", "x".repeat(70));
    let (esx, _) = system().await;
    let (_vcenter, host) = vcenter(&format!("https://{name}/nfc/x"), &[(&name, Some(bytes(&esx.pem)))]).await;
    let error = fetch(&export(&host).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), "esxi.unreachable", "{error}");
    assert!(error.hint().unwrap().contains("reach the vCenter's hosts"), "{:?}", error.hint());
}
