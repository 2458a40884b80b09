//! A client of a few lines: it writes SOAP by hand, so that what the simulator reads and answers is seen as it is.

use std::sync::Once;

use ceso::sim::Server;
use ceso::xml::{self, Element, Limits};

use super::started::{PASSWORD, USER};

pub struct Client {
    pub http: reqwest::Client,
    pub base: String,
    pub cookie: Option<String>,
    pub action: String,
}

/// A SOAP fault, as the wire has it.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: String,
    pub message: String,
    pub detail: Element,
}

pub type Answer = Result<Element, Fault>;

pub fn vm(id: &str) -> (&'static str, String) {
    ("VirtualMachine", id.to_owned())
}

pub const FOLDER: (&str, &str) = ("Folder", "ha-folder-vm");
pub const COLLECTOR: (&str, &str) = ("PropertyCollector", "ha-property-collector");
pub const FILES: (&str, &str) = ("FileManager", "ha-nfc-file-manager");
pub const DISKS: (&str, &str) = ("VirtualDiskManager", "ha-vdiskmanager");
pub const POOL: &str = r#"<pool type="ResourcePool">ha-root-pool</pool>"#;
pub const DATACENTER: &str = r#"<datacenter type="Datacenter">ha-datacenter</datacenter>"#;

impl Client {
    pub fn new(server: &Server) -> Self {
        static PROVIDER: Once = Once::new();
        // Another test may have been first: there is one provider for the process, and it is the same one.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let http =
            reqwest::Client::builder().pool_max_idle_per_host(0).tls_danger_accept_invalid_certs(true).build().unwrap();
        Self { http, base: server.url(), cookie: None, action: "urn:vim25/8.0.3.0".to_owned() }
    }

    pub async fn logged_in(server: &Server) -> Self {
        let mut client = Self::new(server);
        client.login(USER, PASSWORD).await.unwrap();
        client
    }

    pub async fn login(&mut self, user: &str, password: &str) -> Answer {
        let inside = format!("<userName>{user}</userName><password>{password}</password>");
        self.call("Login", ("SessionManager", "ha-sessionmgr"), &inside).await
    }

    /// Sends a document as it is; answers the status and the body.
    pub async fn post(&mut self, document: impl Into<reqwest::Body>) -> (u16, Vec<u8>) {
        let mut request =
            self.http.post(format!("{}/sdk", self.base)).header("SOAPAction", format!("\"{}\"", self.action));
        if let Some(cookie) = &self.cookie {
            request = request.header("Cookie", cookie);
        }
        let response = request.body(document).send().await.unwrap();
        if let Some(set) = response.headers().get("set-cookie") {
            self.cookie = set.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    /// Calls a method; the answer is the element that holds `returnval`.
    pub async fn call(&mut self, method: &str, this: (&str, impl AsRef<str>), inside: &str) -> Answer {
        let (kind, id) = (this.0, this.1.as_ref());
        let document = format!(
            r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
            xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body>
            <{method} xmlns="urn:vim25"><_this type="{kind}">{id}</_this>{inside}</{method}></soapenv:Body></soapenv:Envelope>"#
        );
        let (status, body) = self.post(document).await;
        let envelope = xml::parse(&body, Limits::default())
            .unwrap_or_else(|error| panic!("{status} {error}: {}", String::from_utf8_lossy(&body)));
        let inner = envelope.child("Body").and_then(|body| body.children.first()).unwrap().clone();
        if inner.name != "Fault" {
            assert_eq!(status, 200);
            assert_eq!(inner.name, format!("{method}Response"));
            return Ok(inner);
        }
        assert!(matches!(status, 500 | 503), "{status}");
        let detail = inner.child("detail").and_then(|detail| detail.children.first()).unwrap().clone();
        let kind = detail.xsi_type.clone().unwrap();
        assert_eq!(detail.name, format!("{kind}Fault"));
        Err(Fault { kind, message: inner.text_at("faultstring").unwrap().to_owned(), detail })
    }

    /// The text of a method's one `returnval`.
    pub async fn text(&mut self, method: &str, this: (&str, impl AsRef<str>), inside: &str) -> String {
        let answer = self.call(method, this, inside).await.unwrap_or_else(|fault| panic!("{method}: {fault:?}"));
        answer.text_at("returnval").unwrap_or_default().to_owned()
    }

    /// One property's `val`; nothing where it has no value.
    pub async fn property(&mut self, object: (&str, impl AsRef<str>), path: &str) -> Result<Option<Element>, Fault> {
        let (kind, id) = (object.0, object.1.as_ref());
        let spec = format!(
            r#"<specSet><propSet><type>{kind}</type><pathSet>{path}</pathSet></propSet><objectSet><obj type="{kind}">{id}</obj></objectSet></specSet>"#
        );
        let answer = self.call("RetrieveProperties", COLLECTOR, &spec).await?;
        Ok(answer.at("returnval.propSet.val").cloned())
    }

    pub async fn value(&mut self, object: (&str, impl AsRef<str>), path: &str) -> String {
        self.property(object, path).await.unwrap().map(|value| value.text).unwrap_or_default()
    }

    /// Begins a task and waits for its end by `WaitForUpdatesEx`: its result, or its error as a fault.
    pub async fn task(
        &mut self,
        method: &str,
        this: (&str, impl AsRef<str>),
        inside: &str,
    ) -> Result<Option<Element>, Fault> {
        let begun = self.call(method, this, inside).await?;
        self.finished(begun.text_at("returnval").unwrap()).await
    }

    pub async fn finished(&mut self, task: &str) -> Result<Option<Element>, Fault> {
        let spec = format!(
            r#"<spec><propSet><type>Task</type><pathSet>info</pathSet></propSet><objectSet><obj type="Task">{task}</obj></objectSet></spec>
            <partialUpdates>false</partialUpdates>"#
        );
        let filter = self.text("CreateFilter", COLLECTOR, &spec).await;
        let mut version = String::new();
        let info = loop {
            let wait = format!("<version>{version}</version><options><maxWaitSeconds>10</maxWaitSeconds></options>");
            let answer = self.call("WaitForUpdatesEx", COLLECTOR, &wait).await?;
            let update = answer.child("returnval").unwrap_or_else(|| panic!("the task {task} did not end"));
            version = update.text_at("version").unwrap().to_owned();
            let info = update.at("filterSet.objectSet.changeSet.val").unwrap().clone();
            if matches!(info.text_at("state"), Some("success" | "error")) {
                break info;
            }
        };
        self.call("DestroyPropertyFilter", ("PropertyFilter", filter), "").await?;
        match info.child("error") {
            None => Ok(info.child("result").cloned()),
            Some(error) => {
                let detail = error.child("fault").unwrap().clone();
                let message = error.text_at("localizedMessage").unwrap().to_owned();
                Err(Fault { kind: detail.xsi_type.clone().unwrap(), message, detail })
            }
        }
    }

    /// Waits until a property has this text.
    pub async fn until(&mut self, object: (&str, &str), path: &str, wanted: &str) {
        for _ in 0..500 {
            if self.value(object, path).await == wanted {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{path} of {object:?} is {:?}, not {wanted:?}", self.value(object, path).await);
    }

    /// The id of the machine of that name.
    pub async fn machine(&mut self, name: &str) -> String {
        let inside = format!("<inventoryPath>/ha-datacenter/vm/{name}</inventoryPath>");
        let id = self.text("FindByInventoryPath", ("SearchIndex", "ha-searchindex"), &inside).await;
        assert!(!id.is_empty(), "there is no {name}");
        id
    }

    /// A full clone of the template, as a client makes one without a vCenter.
    pub async fn clone_template(&mut self, name: &str, extra: &[(&str, &str)]) -> String {
        let inside = format!("<name>[datastore1] {name}</name>{DATACENTER}");
        self.call("MakeDirectory", FILES, &inside).await.unwrap();
        let copy = format!(
            r#"<sourceName>[datastore1] debian-12/debian-12.vmdk</sourceName><destName>[datastore1] {name}/{name}.vmdk</destName>
            <destSpec><diskType>thin</diskType><adapterType>lsiLogic</adapterType></destSpec>"#
        );
        self.task("CopyVirtualDisk_Task", DISKS, &copy).await.unwrap();
        let extra: String = extra
            .iter()
            .map(|(key, value)| {
                format!(r#"<extraConfig><key>{key}</key><value xsi:type="xsd:string">{value}</value></extraConfig>"#)
            })
            .collect();
        let config = format!(
            r#"<config><name>{name}</name><guestId>debian12_64Guest</guestId><files><vmPathName>[datastore1] {name}/{name}.vmx</vmPathName></files>
            <numCPUs>2</numCPUs><memoryMB>2048</memoryMB>{}{}{}{extra}<firmware>efi</firmware></config>{POOL}"#,
            scsi(),
            disk(&format!("[datastore1] {name}/{name}.vmdk"), ""),
            card("VM Network")
        );
        let made = self.task("CreateVM_Task", FOLDER, &config).await.unwrap().unwrap();
        assert_eq!(made.get("type"), Some("VirtualMachine"));
        made.text
    }

    /// `/folder` with a method, a path and a body.
    pub async fn file(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&str>,
        range: Option<&str>,
    ) -> reqwest::Response {
        let url = format!("{}/folder/{path}?dcPath=ha-datacenter&dsName=datastore1", self.base);
        let mut request = self.http.request(method, url);
        if let Some(cookie) = &self.cookie {
            request = request.header("Cookie", cookie);
        }
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        request.send().await.unwrap()
    }
}

pub fn scsi() -> String {
    r#"<deviceChange><operation>add</operation><device xsi:type="ParaVirtualSCSIController"><key>-1</key><busNumber>0</busNumber>
    <sharedBus>noSharing</sharedBus></device></deviceChange>"#
        .to_owned()
}

/// A disk on the controller `-1`; `create` is the file operation and the capacity, or empty for a disk that is there.
pub fn disk(file: &str, create: &str) -> String {
    let (operation, kilobytes) = match create {
        "" => ("", "0"),
        kilobytes => ("<fileOperation>create</fileOperation>", kilobytes),
    };
    format!(
        r#"<deviceChange><operation>add</operation>{operation}<device xsi:type="VirtualDisk"><key>-2</key>
        <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>{file}</fileName><diskMode>persistent</diskMode>
        <thinProvisioned>true</thinProvisioned></backing><controllerKey>-1</controllerKey><unitNumber>0</unitNumber>
        <capacityInKB>{kilobytes}</capacityInKB></device></deviceChange>"#
    )
}

pub fn card(network: &str) -> String {
    format!(
        r#"<deviceChange><operation>add</operation><device xsi:type="VirtualVmxnet3"><key>-3</key>
        <backing xsi:type="VirtualEthernetCardNetworkBackingInfo"><deviceName>{network}</deviceName></backing>
        <addressType>generated</addressType></device></deviceChange>"#
    )
}
