//! A host made of canned answers, for what real servers do rarely: it speaks TLS and HTTP, keeps a few objects and files, and does
//! whatever a test's script says instead of its ordinary answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use url::Url;

use crate::config::Fingerprint;
use crate::esxi::{HostOptions, Login, MoRef, Trust};
use crate::xml::{Element, Limits, parse};

const SOAP: &str = r#"<?xml version="1.0"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>"#;

/// A request as it came.
pub struct Request {
    /// The vim25 method, or `GET`.
    pub method: String,
    pub call: Element,
    pub cookie: Option<String>,
    /// The request line and the headers.
    pub head: String,
}

/// What is sent back.
pub enum Reply {
    /// The content of `…Response`.
    Answer(String),
    /// A fault of that type, with that content.
    Fault(&'static str, String),
    /// Any status and any body.
    Raw(u16, &'static str, Vec<u8>),
    /// A body that ends before its length says.
    CutOff(String),
    /// That many bytes without a length.
    Flood(usize),
    /// The connection is closed without an answer.
    Close,
    /// Nothing at all.
    Silence,
}

/// What the host knows.
#[derive(Default)]
pub struct World {
    pub sessions: BTreeSet<String>,
    pub logins: usize,
    /// The methods that were called, in order.
    pub seen: Vec<String>,
    /// Properties by object and path, as XML.
    pub objects: BTreeMap<MoRef, BTreeMap<String, String>>,
    pub filters: BTreeMap<String, Vec<MoRef>>,
    /// Paths of files and folders.
    pub files: BTreeSet<String>,
    /// The calls that change something, as text.
    pub changes: Vec<Element>,
    /// Connections: opened so far, open now, open at once at most; requests under way now, and at once at most.
    pub opened: usize,
    pub open: usize,
    pub most_open: usize,
    pub under_way: usize,
    pub most_under_way: usize,
    /// How long each answer takes.
    pub pause: Duration,
    numbers: usize,
}

impl World {
    pub fn number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    pub fn set(&mut self, object: &MoRef, path: &str, xml: &str) {
        self.objects.entry(object.clone()).or_default().insert(path.to_owned(), xml.to_owned());
    }

    pub fn count(&self, method: &str) -> usize {
        self.seen.iter().filter(|seen| *seen == method).count()
    }

    /// A task that has ended like that.
    pub fn task(&mut self, outcome: Result<String, String>) -> Reply {
        let task = MoRef::new("Task", format!("task-{}", self.number()));
        match outcome {
            Ok(result) => {
                self.set(&task, "info.state", "<val>success</val>");
                if !result.is_empty() {
                    self.set(&task, "info.result", &result);
                }
            }
            Err(fault) => {
                self.set(&task, "info.state", "<val>error</val>");
                self.set(&task, "info.error", &fault);
            }
        }
        Reply::Answer(format!(r#"<returnval type="Task">{}</returnval>"#, task.id))
    }
}

type Script = Box<dyn Fn(&Request, &mut World) -> Option<Reply> + Send + Sync>;

pub struct FakeHost {
    pub url: Url,
    pub fingerprint: Fingerprint,
    pub pem: String,
    pub world: Arc<Mutex<World>>,
}

impl FakeHost {
    /// A host that always gives its ordinary answers.
    pub async fn start() -> Self {
        Self::scripted(|_, _| None).await
    }

    /// A host that asks a script first.
    pub async fn scripted(script: impl Fn(&Request, &mut World) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let der: CertificateDer<'static> = signed.cert.der().clone();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://{}/sdk", listener.local_addr().unwrap())).unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        populate(&mut world.lock().unwrap());
        let script: Arc<Script> = Arc::new(Box::new(script));
        let shared = world.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, world, script) = (acceptor.clone(), shared.clone(), script.clone());
                tokio::spawn(async move { serve(acceptor, tcp, world, script).await });
            }
        });
        Self { url, fingerprint: Fingerprint::of(&der), pem: signed.cert.pem(), world }
    }

    pub fn options(&self) -> HostOptions {
        let mut options = HostOptions::new("fake", self.url.clone(), Trust::Fingerprint(self.fingerprint));
        options.timeouts.wait = Duration::from_secs(5);
        options
    }

    pub fn count(&self, method: &str) -> usize {
        self.world.lock().unwrap().count(method)
    }

    pub fn files(&self) -> Vec<String> {
        self.world.lock().unwrap().files.iter().cloned().collect()
    }

    /// The calls of a method that changed something.
    pub fn changes(&self, method: &str) -> Vec<Element> {
        self.world.lock().unwrap().changes.iter().filter(|call| call.name == method).cloned().collect()
    }
}

pub fn right() -> Arc<Login> {
    Arc::new(Login { username: "root".into(), password: "right".to_owned().into() })
}

fn populate(world: &mut World) {
    let datacenter = MoRef::new("Datacenter", "ha-datacenter");
    world.set(&datacenter, "vmFolder", r#"<val type="Folder">ha-folder-vm</val>"#);
    let compute = MoRef::new("ComputeResource", "ha-compute-res");
    world.set(&compute, "resourcePool", r#"<val type="ResourcePool">ha-root-pool</val>"#);
    for name in ["ds1", "ds2"] {
        let datastore = MoRef::new("Datastore", name);
        world.set(&datastore, "name", &format!("<val>{name}</val>"));
        world.set(&datastore, "summary.freeSpace", "<val>1000000000000</val>");
        world.set(&datastore, "browser", &format!(r#"<val type="HostDatastoreBrowser">browser-{name}</val>"#));
    }
    world.set(&MoRef::new("Network", "net"), "name", "<val>VM Network</val>");
}

async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, world: Arc<Mutex<World>>, script: Arc<Script>) {
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    {
        let mut world = world.lock().unwrap();
        world.opened += 1;
        world.open += 1;
        world.most_open = world.most_open.max(world.open);
    }
    converse(stream, &world, &script).await;
    world.lock().unwrap().open -= 1;
}

/// Answers the requests of a connection until it ends.
async fn converse(mut stream: TlsStream<TcpStream>, world: &Mutex<World>, script: &Script) {
    while let Some((head, body)) = read(&mut stream).await {
        let cookie = head.lines().find_map(|line| {
            let value = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))?.1;
            value.trim().strip_prefix("vmware_soap_session=").map(str::to_owned)
        });
        let call = match parse(&body, Limits::default()) {
            Ok(envelope) => envelope.children.into_iter().rfind(|part| part.name == "Body").unwrap().children.remove(0),
            Err(_) => Element::new("GET"),
        };
        let request = Request { method: call.name.clone(), call, cookie, head };
        let (reply, set_cookie, pause) = {
            let mut world = world.lock().unwrap();
            world.under_way += 1;
            world.most_under_way = world.most_under_way.max(world.under_way);
            world.seen.push(request.method.clone());
            let (reply, set_cookie) = match script(&request, &mut world) {
                Some(reply) => (reply, None),
                None => ordinary(&request, &mut world),
            };
            (reply, set_cookie, world.pause)
        };
        tokio::time::sleep(pause).await;
        if request.method == "WaitForUpdatesEx" && request.call.text_at("version") != Some("") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.lock().unwrap().under_way -= 1;
        if !send(&mut stream, &request.method, reply, set_cookie).await {
            return;
        }
    }
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut data = Vec::new();
    let end = loop {
        if let Some(end) = data.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut data).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        line.split_once(':')
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))?
            .1
            .trim()
            .parse::<usize>()
            .ok()
    });
    let mut body = data.split_off(end);
    // An answer to what is sent there comes before all of it has.
    let length = if head.starts_with("PUT /folder/early") { Some(1) } else { length };
    while body.len() < length.unwrap_or(0) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}

/// Whether the connection goes on.
async fn send(stream: &mut TlsStream<TcpStream>, method: &str, reply: Reply, cookie: Option<String>) -> bool {
    let cookie = cookie
        .map(|cookie| format!("Set-Cookie: vmware_soap_session={cookie}; Path=/; HttpOnly\r\n"))
        .unwrap_or_default();
    let (status, kind, body, cut) = match reply {
        Reply::Answer(content) if method == "GET" => (200, "text/xml", content, 0),
        Reply::Answer(content) => (
            200,
            "text/xml",
            format!(
                "{SOAP}<{method}Response xmlns=\"urn:vim25\">{content}</{method}Response></soapenv:Body></soapenv:Envelope>"
            ),
            0,
        ),
        Reply::Fault(name, data) => (
            500,
            "text/xml",
            format!(
                "{SOAP}<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>said</faultstring><detail><{name}Fault xmlns=\"urn:vim25\" xsi:type=\"{name}\">{data}</{name}Fault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>"
            ),
            0,
        ),
        Reply::CutOff(body) => (200, "text/xml", body, 1000),
        Reply::Raw(status, kind, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{cookie}\r\n",
                body.len()
            );
            return stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(&body).await.is_ok();
        }
        Reply::Flood(bytes) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\n\r\n<a>";
            let mut left = if stream.write_all(head.as_bytes()).await.is_ok() { bytes } else { 0 };
            let block = [b'x'; 16384];
            while left > 0 && stream.write_all(&block).await.is_ok() {
                left = left.saturating_sub(block.len());
            }
            return false;
        }
        Reply::Close => return false,
        Reply::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return false;
        }
    };
    let length = body.len() + cut;
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{cookie}\r\n");
    stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(body.as_bytes()).await.is_ok() && cut == 0
}

fn ordinary(request: &Request, world: &mut World) -> (Reply, Option<String>) {
    let call = &request.call;
    let text = |path: &str| call.text_at(path).unwrap_or_default().to_owned();
    let open = request.cookie.as_ref().is_some_and(|cookie| world.sessions.contains(cookie));
    let reply = match request.method.as_str() {
        "GET" => Reply::Answer(
            "<namespaces><namespace><name>urn:vim25</name><version>8.0.3.0</version><priorVersions><version>6.5</version></priorVersions></namespace></namespaces>".into(),
        ),
        "RetrieveServiceContent" => Reply::Answer(
            r#"<returnval><rootFolder type="Folder">ha-folder-root</rootFolder><propertyCollector type="PropertyCollector">ha-property-collector</propertyCollector><about><fullName>VMware ESXi 8.0.3</fullName><version>8.0.3</version><build>1</build><apiType>HostAgent</apiType><apiVersion>8.0.3.0</apiVersion></about><sessionManager type="SessionManager">ha-sessionmgr</sessionManager><fileManager type="FileManager">ha-nfc-file-manager</fileManager><virtualDiskManager type="VirtualDiskManager">ha-vdiskmanager</virtualDiskManager></returnval>"#.into(),
        ),
        "Login" => {
            world.logins += 1;
            if text("password") != "right" {
                return (Reply::Fault("InvalidLogin", String::new()), None);
            }
            let cookie = format!("\"session-{}\"", world.logins);
            world.sessions.insert(cookie.clone());
            return (Reply::Answer("<returnval><key>k</key></returnval>".into()), Some(cookie));
        }
        _ if !open => Reply::Fault("NotAuthenticated", String::new()),
        "Logout" => {
            world.sessions.remove(request.cookie.as_deref().unwrap_or_default());
            Reply::Answer(String::new())
        }
        "RetrievePropertiesEx" => retrieve(call.child("specSet").unwrap(), world),
        "CreatePropertyCollector" => Reply::Answer(format!(r#"<returnval type="PropertyCollector">pc-{}</returnval>"#, world.number())),
        "CreateFilter" => {
            let name = format!("filter-{}", world.number());
            let objects = call.child("spec").unwrap().all("objectSet").filter_map(|set| MoRef::read(set.child("obj")?)).collect();
            world.filters.insert(name.clone(), objects);
            Reply::Answer(format!(r#"<returnval type="PropertyFilter">{name}</returnval>"#))
        }
        "DestroyPropertyFilter" => {
            world.filters.remove(&text("_this"));
            Reply::Answer(String::new())
        }
        "DestroyPropertyCollector" => {
            world.filters.clear();
            Reply::Answer(String::new())
        }
        "CancelWaitForUpdates" => Reply::Answer(String::new()),
        "WaitForUpdatesEx" => updates(world),
        _ => change(request, world),
    };
    (reply, None)
}

fn retrieve(spec: &Element, world: &World) -> Reply {
    let mut out = String::new();
    let starts: Vec<MoRef> = spec.all("objectSet").filter_map(|set| MoRef::read(set.child("obj")?)).collect();
    let walks = spec.all("objectSet").any(|set| set.child("selectSet").is_some());
    for (object, properties) in &world.objects {
        let wanted: Vec<&str> = spec
            .all("propSet")
            .filter(|set| set.text_at("type") == Some(object.kind.as_str()))
            .flat_map(|set| set.children.iter().filter(|child| child.name == "pathSet").map(|path| path.text.as_str()))
            .collect();
        if wanted.is_empty() || !(walks || starts.contains(object)) {
            continue;
        }
        out += &format!(r#"<objects><obj type="{}">{}</obj>"#, object.kind, object.id);
        for (path, value) in properties.iter().filter(|(path, _)| wanted.contains(&path.as_str())) {
            out += &format!("<propSet><name>{path}</name>{value}</propSet>");
        }
        out += "</objects>";
    }
    Reply::Answer(format!("<returnval>{out}</returnval>"))
}

fn updates(world: &mut World) -> Reply {
    let mut out = format!("<version>{}</version>", world.number());
    for (filter, objects) in &world.filters {
        out += &format!(r#"<filterSet><filter type="PropertyFilter">{filter}</filter>"#);
        for object in objects {
            let Some(properties) = world.objects.get(object) else {
                let data = format!(r#"<obj type="{}">{}</obj>"#, object.kind, object.id);
                return Reply::Fault("ManagedObjectNotFound", data);
            };
            out += &format!(r#"<objectSet><kind>enter</kind><obj type="{}">{}</obj>"#, object.kind, object.id);
            for (path, value) in properties {
                out += &format!("<changeSet><name>{path}</name><op>assign</op>{value}</changeSet>");
            }
            out += "</objectSet>";
        }
        out += "</filterSet>";
    }
    Reply::Answer(format!("<returnval>{out}</returnval>"))
}

pub fn fault(name: &str, data: &str) -> String {
    format!(r#"<val><fault xsi:type="{name}">{data}</fault><localizedMessage>said</localizedMessage></val>"#)
}

fn change(request: &Request, world: &mut World) -> Reply {
    let call = &request.call;
    world.changes.push(call.clone());
    let text = |path: &str| call.text_at(path).unwrap_or_default().to_owned();
    let mut make = |path: String| {
        if world.files.insert(path.clone()) {
            Ok(String::new())
        } else {
            Err(fault("FileAlreadyExists", &format!("<file>{path}</file>")))
        }
    };
    let outcome = match request.method.as_str() {
        "MakeDirectory" => {
            let name = text("name");
            return match make(name.clone()) {
                Ok(_) => Reply::Answer(String::new()),
                Err(_) => Reply::Fault("FileAlreadyExists", format!("<file>{name}</file>")),
            };
        }
        "CopyVirtualDisk_Task" => make(text("destName")),
        "CopyDatastoreFile_Task" => make(text("destinationName")),
        "CreateVM_Task" => {
            let vm = MoRef::new("VirtualMachine", format!("{}", world.number()));
            let path = text("config.files.vmPathName");
            world.files.insert(path.clone());
            world.set(&vm, "name", &format!("<val>{}</val>", text("config.name")));
            world.set(&vm, "config.files.vmPathName", &format!("<val>{path}</val>"));
            Ok(format!(r#"<val xsi:type="ManagedObjectReference" type="VirtualMachine">{}</val>"#, vm.id))
        }
        "DeleteVirtualDisk_Task" | "DeleteDatastoreFile_Task" => {
            let name = text("name");
            let before = world.files.len();
            world.files.retain(|path| *path != name && !path.starts_with(&format!("{name}/")));
            if world.files.len() < before {
                Ok(String::new())
            } else {
                Err(fault("FileNotFound", &format!("<file>{name}</file>")))
            }
        }
        "SearchDatastore_Task" => {
            let folder = format!("{}/", text("datastorePath"));
            let files = world.files.iter().filter_map(|path| path.strip_prefix(&folder));
            Ok(format!(
                "<val>{}</val>",
                files.map(|file| format!("<file><path>{file}</path></file>")).collect::<String>()
            ))
        }
        _ => Ok(String::new()),
    };
    world.task(outcome)
}
