//! SOAP 1.1 envelopes for vim25: writes a call, reads an answer, knows every method that this client can send.
//!
//! A method that is not in [`Method`] cannot be sent, so a test can compare what was checked with what there is. No I/O here.
//! Specification: vSphere Web Services API; SOAP 1.1.

use crate::xml::{Element, Limits, XmlError, escape, parse};

use super::error::Error;
use super::fault::VimFault;
use super::moref::MoRef;

macro_rules! methods {
    ($($name:ident = $wire:literal $repeatable:literal,)*) => {
        /// Every vim25 method that this client can send.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method { $($name,)* }

        impl Method {
            /// All of them, for tests that must miss none.
            pub const ALL: &'static [Method] = &[$(Method::$name,)*];

            /// The name on the wire.
            pub fn wire_name(self) -> &'static str {
                match self { $(Method::$name => $wire,)* }
            }

            /// Whether sending it twice does no more than sending it once: a lost answer may be asked for again.
            pub(super) fn repeatable(self) -> bool {
                match self { $(Method::$name => $repeatable,)* }
            }
        }
    };
}

methods! {
    RetrieveServiceContent = "RetrieveServiceContent" true,
    CurrentTime = "CurrentTime" true,
    Login = "Login" false,
    Logout = "Logout" false,
    RetrievePropertiesEx = "RetrievePropertiesEx" true,
    ContinueRetrievePropertiesEx = "ContinueRetrievePropertiesEx" false,
    CreatePropertyCollector = "CreatePropertyCollector" false,
    DestroyPropertyCollector = "DestroyPropertyCollector" false,
    CreateFilter = "CreateFilter" false,
    DestroyPropertyFilter = "DestroyPropertyFilter" false,
    WaitForUpdatesEx = "WaitForUpdatesEx" false,
    CancelWaitForUpdates = "CancelWaitForUpdates" true,
    CreateVm = "CreateVM_Task" false,
    CloneVm = "CloneVM_Task" false,
    RelocateVm = "RelocateVM_Task" false,
    MoveIntoFolder = "MoveIntoFolder_Task" false,
    CreateFolder = "CreateFolder" false,
    MarkAsTemplate = "MarkAsTemplate" false,
    MarkAsVirtualMachine = "MarkAsVirtualMachine" false,
    RegisterVm = "RegisterVM_Task" false,
    UnregisterVm = "UnregisterVM" false,
    Rename = "Rename_Task" false,
    ReconfigVm = "ReconfigVM_Task" false,
    PowerOnVm = "PowerOnVM_Task" false,
    PowerOffVm = "PowerOffVM_Task" false,
    ResetVm = "ResetVM_Task" false,
    SuspendVm = "SuspendVM_Task" false,
    ShutdownGuest = "ShutdownGuest" false,
    Destroy = "Destroy_Task" false,
    AnswerVm = "AnswerVM" false,
    CreateScreenshot = "CreateScreenshot_Task" false,
    StartProgramInGuest = "StartProgramInGuest" false,
    ListProcessesInGuest = "ListProcessesInGuest" true,
    TerminateProcessInGuest = "TerminateProcessInGuest" false,
    CreateTemporaryDirectoryInGuest = "CreateTemporaryDirectoryInGuest" false,
    DeleteDirectoryInGuest = "DeleteDirectoryInGuest" false,
    InitiateFileTransferFromGuest = "InitiateFileTransferFromGuest" true,
    InitiateFileTransferToGuest = "InitiateFileTransferToGuest" false,
    CreateSnapshot = "CreateSnapshot_Task" false,
    RenameSnapshot = "RenameSnapshot" true,
    RevertToSnapshot = "RevertToSnapshot_Task" false,
    RemoveSnapshot = "RemoveSnapshot_Task" false,
    RemoveAllSnapshots = "RemoveAllSnapshots_Task" false,
    ConsolidateVmDisks = "ConsolidateVMDisks_Task" false,
    MakeDirectory = "MakeDirectory" false,
    CopyDatastoreFile = "CopyDatastoreFile_Task" false,
    MoveDatastoreFile = "MoveDatastoreFile_Task" false,
    DeleteDatastoreFile = "DeleteDatastoreFile_Task" false,
    CancelTask = "CancelTask" true,
    CreateVirtualDisk = "CreateVirtualDisk_Task" false,
    MoveVirtualDisk = "MoveVirtualDisk_Task" false,
    ExtendVirtualDisk = "ExtendVirtualDisk_Task" false,
    InflateVirtualDisk = "InflateVirtualDisk_Task" false,
    QueryVirtualDiskUuid = "QueryVirtualDiskUuid" true,
    CopyVirtualDisk = "CopyVirtualDisk_Task" false,
    DeleteVirtualDisk = "DeleteVirtualDisk_Task" false,
    SearchDatastore = "SearchDatastore_Task" false,
    QueryChangedDiskAreas = "QueryChangedDiskAreas" true,
    ExportVm = "ExportVm" false,
    ExportSnapshot = "ExportSnapshot" false,
    ImportVApp = "ImportVApp" false,
    CreateImportSpec = "CreateImportSpec" true,
    CreateDescriptor = "CreateDescriptor" true,
    LeaseProgress = "HttpNfcLeaseProgress" true,
    LeaseComplete = "HttpNfcLeaseComplete" false,
    LeaseAbort = "HttpNfcLeaseAbort" false,
    SearchDatastoreSubFolders = "SearchDatastoreSubFolders_Task" false,
    QueryConfigTarget = "QueryConfigTarget" true,
    QueryEvents = "QueryEvents" true,
    CreateNasDatastore = "CreateNasDatastore" false,
    RemoveDatastore = "RemoveDatastore" false,
    AddPortGroup = "AddPortGroup" false,
    RemovePortGroup = "RemovePortGroup" false,
    ReconfigureAutostart = "ReconfigureAutostart" true,
    EnterMaintenanceMode = "EnterMaintenanceMode_Task" false,
    ExitMaintenanceMode = "ExitMaintenanceMode_Task" false,
    ShutdownHost = "ShutdownHost_Task" false,
    RebootHost = "RebootHost_Task" false,
    BackupFirmwareConfiguration = "BackupFirmwareConfiguration" true,
    QueryFirmwareConfigUploadUrl = "QueryFirmwareConfigUploadURL" true,
    RestoreFirmwareConfiguration = "RestoreFirmwareConfiguration" false,
}

/// One call: a method of an object, and its arguments in the order of the API.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub this: MoRef,
    pub method: Method,
    pub arguments: Vec<Element>,
}

impl Call {
    pub(super) fn new(this: &MoRef, method: Method) -> Self {
        Self { this: this.clone(), method, arguments: Vec::new() }
    }

    pub(super) fn with(mut self, argument: Element) -> Self {
        self.arguments.push(argument);
        self
    }

    pub(super) fn with_text(self, name: &str, text: impl Into<String>) -> Self {
        self.with(Element::leaf(name, text))
    }

    pub(super) fn with_ref(self, name: &str, object: &MoRef) -> Self {
        self.with(object.element(name))
    }

    /// The same call as it may be shown: a guest's password is not.
    pub(super) fn without_passwords(&self) -> Self {
        let mut shown = self.clone();
        let inside = shown.arguments.iter_mut().filter(|argument| argument.name == "auth");
        for password in inside.flat_map(|auth| &mut auth.children).filter(|child| child.name == "password") {
            "(hidden)".clone_into(&mut password.text);
        }
        shown
    }

    pub(super) fn with_opt(self, argument: Option<Element>) -> Self {
        match argument {
            Some(argument) => self.with(argument),
            None => self,
        }
    }
}

/// A typed value of `xsd:string`, as `OptionValue.value` wants it.
pub(super) fn string_value(name: &str, text: impl Into<String>) -> Element {
    Element::leaf(name, text).typed("xsd:string")
}

/// Writes the envelope of a call.
pub(super) fn envelope(call: &Call, operation_id: Option<&str>) -> Result<String, XmlError> {
    let mut out = String::with_capacity(1024);
    out.push_str(concat!(
        r#"<?xml version="1.0" encoding="UTF-8"?>"#,
        r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/""#,
        r#" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">"#,
    ));
    if let Some(id) = operation_id {
        out.push_str(r#"<soapenv:Header><operationID xmlns="urn:vim25">"#);
        escape(id, &mut out)?;
        out.push_str("</operationID></soapenv:Header>");
    }
    out.push_str("<soapenv:Body>");
    let mut body =
        Element::new(call.method.wire_name()).attribute("xmlns", "urn:vim25").with(call.this.element("_this"));
    body.children.extend(call.arguments.iter().cloned());
    body.write(&mut out)?;
    out.push_str("</soapenv:Body></soapenv:Envelope>");
    Ok(out)
}

/// What came back over HTTP.
pub(super) struct Reply {
    pub status: u16,
    pub content_type: String,
    pub location: Option<String>,
    /// The value of a `vmware_soap_session` cookie, verbatim.
    pub cookie: Option<String>,
    pub body: Vec<u8>,
}

/// Reads the answer to a call: the content of `…Response`, or the fault.
pub(super) fn answer(host: &str, method: Method, reply: &Reply, limit: usize) -> Result<Element, Error> {
    let envelope = document(host, reply, limit)?;
    let bad = |reason: String| Error::BadAnswer { host: host.to_owned(), reason };
    if envelope.name != "Envelope" {
        return Err(Error::NotAHost {
            host: host.to_owned(),
            seen: format!("XML that is no SOAP: <{}>", envelope.name),
        });
    }
    let body = envelope.children.into_iter().find(|child| child.name == "Body");
    let content = body.and_then(|body| body.children.into_iter().next());
    let content = content.ok_or_else(|| bad("a SOAP envelope without a body".to_owned()))?;
    if content.name == "Fault" {
        return Err(Error::Vim { host: host.to_owned(), fault: Box::new(VimFault::from_soap(&content)) });
    }
    if content.name.strip_suffix("Response") != Some(method.wire_name()) {
        return Err(bad(format!("<{}> in answer to {}", content.name, method.wire_name())));
    }
    Ok(content)
}

/// Reads the XML of an answer, or says what it is instead.
pub(super) fn document(host: &str, reply: &Reply, limit: usize) -> Result<Element, Error> {
    if matches!(reply.status, 429 | 503) {
        return Err(Error::Busy { host: host.to_owned(), status: reply.status });
    }
    let start = reply.body.get(..reply.body.len().min(2048)).unwrap_or_default();
    let start = String::from_utf8_lossy(start);
    let start = start.trim_start_matches('\u{feff}').trim_start();
    let lower = start.to_lowercase();
    let html = reply.content_type.contains("html") || lower.starts_with("<!doctype html") || lower.starts_with("<html");
    let xml = start.starts_with('<') && !html;
    if !xml || !matches!(reply.status, 200 | 500) {
        return Err(Error::NotAHost { host: host.to_owned(), seen: describe(reply, start, html) });
    }
    parse(&reply.body, Limits { bytes: limit, ..Limits::default() })
        .map_err(|error| Error::BadAnswer { host: host.to_owned(), reason: error.to_string() })
}

fn describe(reply: &Reply, start: &str, html: bool) -> String {
    let status = reply.status;
    if let Some(location) = &reply.location {
        return format!("a redirect to {} (HTTP {status})", line(location));
    }
    let title = || {
        let begin = start.to_ascii_lowercase().find("<title>")? + "<title>".len();
        let rest = start.get(begin..)?;
        rest.split('<').next().map(line).filter(|title| !title.is_empty())
    };
    match (html, title()) {
        (true, Some(title)) => format!("a web page titled {title:?} (HTTP {status})"),
        (true, None) => format!("a web page (HTTP {status})"),
        _ if start.is_empty() => format!("an empty answer (HTTP {status})"),
        _ => format!("HTTP {status} with {:?}", line(start)),
    }
}

/// At most 60 characters on one line, for a message.
fn line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, content_type: &str, body: &str) -> Reply {
        Reply { status, content_type: content_type.into(), location: None, cookie: None, body: body.into() }
    }

    #[test]
    fn what_is_no_host_is_described() {
        let seen = |reply: Reply| match answer("h", Method::Login, &reply, 1 << 20) {
            Err(Error::NotAHost { seen, .. }) => seen,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            seen(reply(200, "text/html", "<html><head><TITLE>router\n login</TITLE>")),
            "a web page titled \"router  login\" (HTTP 200)"
        );
        assert_eq!(seen(reply(404, "text/plain", "no such page")), "HTTP 404 with \"no such page\"");
        assert_eq!(seen(reply(200, "", "")), "an empty answer (HTTP 200)");
        assert_eq!(seen(reply(200, "text/xml", "<rss/>")), "XML that is no SOAP: <rss>");
        let mut moved = reply(302, "", "");
        moved.location = Some("https://elsewhere/".into());
        assert_eq!(seen(moved), "a redirect to https://elsewhere/ (HTTP 302)");
    }

    #[test]
    fn answers_that_cannot_be_used_are_refused() {
        for body in [
            "<Envelope><Body><LoginResponse>",
            "<Envelope><Body/></Envelope>",
            "<Envelope/>",
            "<Envelope><Body><LogoutResponse/></Body></Envelope>",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><Envelope/>",
            &"<Envelope>".repeat(100),
        ] {
            let result = answer("h", Method::Login, &reply(200, "text/xml", body), 1 << 20);
            assert!(matches!(result, Err(Error::BadAnswer { .. })), "{body}: {result:?}");
        }
    }

    #[test]
    fn the_envelope_escapes_what_it_carries() {
        let call = Call::new(&MoRef::new("A", "b<c"), Method::Logout).with_text("x", "a & b");
        let text = envelope(&call, Some("run <1>")).unwrap();
        assert!(
            text.contains(r#"<Logout xmlns="urn:vim25"><_this type="A">b&lt;c</_this><x>a &amp; b</x></Logout>"#),
            "{text}"
        );
        assert!(text.contains("run &lt;1&gt;</operationID>"));
        assert!(envelope(&call.with_text("y", "\u{0}"), None).is_err());
    }
}
