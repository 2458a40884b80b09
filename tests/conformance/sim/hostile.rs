//! Bad input on the wire: each gets one clear answer, and the simulator goes on.

use super::client::{COLLECTOR, Client, vm};
use super::started::{options, start};

const OPEN: &str = r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body>"#;
const SHUT: &str = "</e:Body></e:Envelope>";

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_no_requests_are_faults() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let rename =
        r#"<Rename_Task xmlns="urn:vim25"><_this type="VirtualMachine">1</_this><newName>x</newName></Rename_Task>"#;
    let documents = [
        String::new(),
        "hello".to_owned(),
        "<html><body>no</body></html>".to_owned(),
        format!("{OPEN}{SHUT}"),
        format!("{OPEN}{rename}{rename}{SHUT}"),
        format!("{OPEN}{rename}"),
        format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{OPEN}{rename}{SHUT}"),
        format!("{OPEN}{}{SHUT}", "<a>".repeat(100_000)),
        format!("{OPEN}{}", "<a b='".repeat(1000)),
        format!("{OPEN}<Rename_Task/>{SHUT}"),
        format!("{OPEN}{}{SHUT}", rename.replace("<newName>", "<newName>&nbsp;")),
        format!("{OPEN}{}{SHUT}", rename.replace("VirtualMachine", "NoSuchType")),
        format!("{OPEN}{}{SHUT}", rename.replace("newName", "noSuchName")),
        format!("{OPEN}{}{SHUT}", rename.replace("<newName>x</newName>", "")),
        format!("{OPEN}{}{SHUT}", rename.replace("</newName>", "</newName><newName>y</newName>")),
        format!("{OPEN}{}{SHUT}", rename.replace("Rename_Task", "Explode_Task")),
    ];
    for document in documents {
        let (status, body) = client.post(document.clone()).await;
        let body = String::from_utf8(body).unwrap();
        let shown: String = document.chars().take(300).collect();
        assert_eq!(status, 500, "{shown}: {body}");
        assert!(
            body.contains("xsi:type=\"InvalidRequest\"") && body.contains("<faultstring>The request is not valid"),
            "{shown}: {body}"
        );
    }
    let (status, _) = client.post(vec![0xff; 100]).await;
    assert_eq!(status, 500);
    let (status, _) = client.post(vec![b'x'; 17 << 20]).await;
    assert_eq!(status, 413);
    assert_eq!(client.value(vm("1"), "name").await, "debian-12", "nothing was done, and the session lives");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_the_wrong_form_are_faults() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    for spec in [
        "<numCPUs>two</numCPUs>",
        "<numCPUs>99999999999</numCPUs>",
        "<numCPUs><x/></numCPUs>",
        "<cpuHotAddEnabled>maybe</cpuHotAddEnabled>",
        "<createDate>yesterday</createDate>",
        r#"<extraConfig><key>a</key><value xsi:type="Bomb">1</value></extraConfig>"#,
        r#"<deviceChange><device xsi:type="Description"><label>a</label><summary>b</summary></device></deviceChange>"#,
        r#"<deviceChange><operation>explode</operation><device xsi:type="VirtualDisk"><key>1</key><capacityInKB>1</capacityInKB></device></deviceChange>"#,
        r#"<deviceChange><operation>add</operation><device xsi:type="VirtualDisk"><key>1</key></device></deviceChange>"#,
    ] {
        let fault = client.call("ReconfigVM_Task", vm("1"), &format!("<spec>{spec}</spec>")).await.unwrap_err();
        assert_eq!(fault.kind, "InvalidRequest", "{spec}");
    }
    for spec in [
        r#"<extraConfig><key>a"b</key><value xsi:type="xsd:string">1</value></extraConfig>"#,
        r#"<extraConfig><key></key><value xsi:type="xsd:string">1</value></extraConfig>"#,
        r#"<extraConfig><key>a</key><value xsi:type="ArrayOfString"><string>1</string></value></extraConfig>"#,
    ] {
        let fault = client.task("ReconfigVM_Task", vm("1"), &format!("<spec>{spec}</spec>")).await.unwrap_err();
        assert_eq!(fault.kind, "InvalidArgument", "{spec}");
    }
    for spec in [
        "<specSet><propSet><type>Nothing</type></propSet></specSet>",
        r#"<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet><obj type="Folder">ha-folder-vm</obj>
        <selectSet xsi:type="TraversalSpec"><type>Nothing</type><path>childEntity</path></selectSet></objectSet></specSet>"#,
    ] {
        assert_eq!(
            client.call("RetrieveProperties", COLLECTOR, spec).await.unwrap_err().kind,
            "InvalidArgument",
            "{spec}"
        );
    }
    server.stop().await;
}

/// Bytes of a good request are changed in many ways, always the same ones: no change brings the simulator down.
#[tokio::test(flavor = "multi_thread")]
async fn no_mutilated_request_brings_the_simulator_down() {
    let server = start(options()).await;
    let mut client = Client::logged_in(&server).await;
    let good = format!(
        r#"{OPEN}<ReconfigVM_Task xmlns="urn:vim25"><_this type="VirtualMachine">1</_this><spec><name>debian-12</name><numCPUs>1</numCPUs>
        <deviceChange><operation>add</operation><device xsi:type="VirtualVmxnet3"><key>-1</key><backing xsi:type="VirtualEthernetCardNetworkBackingInfo">
        <deviceName>VM Network</deviceName></backing></device></deviceChange></spec></ReconfigVM_Task>{SHUT}"#
    )
    .into_bytes();
    let mut seed = 0x9e37_79b9_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..300 {
        let mut document = good.clone();
        for _ in 0..=random(3) {
            let at = random(document.len());
            match random(4) {
                0 => document[at] = u8::try_from(random(256)).unwrap(),
                1 => drop(document.remove(at)),
                2 => document.truncate(at.max(1)),
                _ => document.insert(at, b"<>&\"/'"[random(6)]),
            }
        }
        let shown = String::from_utf8_lossy(&document).into_owned();
        let (status, body) = client.post(document).await;
        assert!(matches!(status, 200 | 500), "{status} {shown}");
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("Response") || text.contains("Fault"), "{text} {shown}");
        assert!(!text.contains("The simulator failed"), "{shown}");
    }
    client.value(vm("1"), "config").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_urls_and_methods_have_their_status() {
    let server = start(options()).await;
    let client = Client::logged_in(&server).await;
    for (method, path, status) in [
        (reqwest::Method::GET, "/", 200),
        (reqwest::Method::GET, "/sdk/vimServiceVersions.xml", 200),
        (reqwest::Method::GET, "/sdk", 405),
        (reqwest::Method::GET, "/nothing", 404),
        (reqwest::Method::PATCH, "/folder/a?dsName=datastore1", 405),
        (reqwest::Method::GET, "/folder/a?dsName=datastore1", 404),
        (reqwest::Method::GET, "/folder/a%2f..%2f..%2fetc/passwd?dsName=datastore1", 400),
    ] {
        let mut request = client.http.request(method.clone(), format!("{}{path}", server.url()));
        request = request.header("Cookie", client.cookie.clone().unwrap());
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{method} {path}");
    }
    server.stop().await;
}
