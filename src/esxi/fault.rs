//! Faults of the host, typed: what went wrong by its wire name, with its data and its causes.
//!
//! A fault is classified by type alone: by `xsi:type`, through its causes; the text is for people and is never parsed. A fault type
//! that is not known keeps its wire name. Specification: vSphere Web Services API, `MethodFault` and `LocalizedMethodFault`.

use crate::xml::Element;

/// A fault that the host answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VimFault {
    /// The type on the wire, such as `InvalidPowerState`.
    pub name: String,
    /// What the host says in its language; may be empty.
    pub message: String,
    /// What the host adds: the texts of `faultMessage`.
    pub details: Vec<String>,
    /// The data of the fault, as they came.
    pub data: Element,
    /// The fault underneath.
    pub cause: Option<Box<VimFault>>,
    /// What this client found out about it: who is at work, who holds a file, how much is free.
    pub learned: Option<String>,
}

/// How deep causes are followed: a host nests two or three.
const CAUSES: usize = 16;

/// Faults that only wrap another: where they have a cause, the cause says what is wrong.
const WRAPPERS: &[&str] =
    &["GenericVmConfigFault", "SystemError", "RuntimeFault", "VimFault", "MethodFault", "FileFault"];

impl VimFault {
    /// Reads a SOAP `Fault` element (SOAP 1.1, `detail` with one typed element).
    pub(super) fn from_soap(fault: &Element) -> Self {
        let message = fault.text_at("faultstring").unwrap_or_default().trim().to_owned();
        match fault.child("detail").and_then(|detail| detail.children.first()) {
            Some(data) => Self::typed(data, message, CAUSES),
            None => Self {
                name: fault.text_at("faultcode").and_then(|code| code.rsplit(':').next()).unwrap_or("Fault").to_owned(),
                message,
                details: Vec::new(),
                data: Element::default(),
                cause: None,
                learned: None,
            },
        }
    }

    /// Reads a `LocalizedMethodFault` (`TaskInfo.error`, `MissingProperty.fault`, `faultCause`).
    pub(super) fn from_localized(localized: &Element) -> Self {
        Self::localized(localized, CAUSES)
    }

    fn localized(localized: &Element, depth: usize) -> Self {
        let message = localized.text_at("localizedMessage").unwrap_or_default().trim().to_owned();
        match localized.child("fault") {
            Some(data) => Self::typed(data, message, depth),
            None => Self {
                name: "MethodFault".into(),
                message,
                details: vec![],
                data: Element::default(),
                cause: None,
                learned: None,
            },
        }
    }

    fn typed(data: &Element, message: String, depth: usize) -> Self {
        let by_element = || data.name.strip_suffix("Fault").unwrap_or(&data.name).to_owned();
        let cause = data.child("faultCause").filter(|cause| depth > 0 && cause.child("fault").is_some());
        Self {
            name: data.xsi_type.clone().filter(|name| !name.is_empty()).unwrap_or_else(by_element),
            message,
            details: data
                .all("faultMessage")
                .filter_map(|detail| detail.text_at("message"))
                .filter(|text| !text.trim().is_empty())
                .map(|text| text.trim().to_owned())
                .collect(),
            data: data.clone(),
            cause: cause.map(|cause| Box::new(Self::localized(cause, depth - 1))),
            learned: None,
        }
    }

    /// The fault and its causes, outermost first.
    pub fn chain(&self) -> impl Iterator<Item = &VimFault> {
        std::iter::successors(Some(self), |fault| fault.cause.as_deref())
    }

    /// The first fault of that wire name, here or among the causes.
    pub fn find(&self, name: &str) -> Option<&VimFault> {
        self.chain().find(|fault| fault.name == name)
    }

    /// The fault that says most: this one, or its cause where this one only wraps it.
    pub fn telling(&self) -> &VimFault {
        self.chain()
            .find(|fault| !WRAPPERS.contains(&fault.name.as_str()))
            .unwrap_or_else(|| self.chain().last().unwrap_or(self))
    }

    /// Whether it says nothing of what was asked for: the session has ended, or somebody is at work.
    pub(super) fn is_passing(&self) -> bool {
        const PASSING: &[&str] =
            &["NotAuthenticated", "TaskInProgress", "ConcurrentAccess", "RequestCanceled", "NoPermission"];
        self.chain().any(|fault| PASSING.contains(&fault.name.as_str()))
    }

    /// The text of one of its data, by path: `fault.datum("existingState")`.
    pub fn datum(&self, path: &str) -> Option<&str> {
        self.data.text_at(path).map(str::trim).filter(|text| !text.is_empty())
    }

    /// What went wrong, as far as it is known by type.
    pub fn known(&self) -> Known<'_> {
        let fault = self.telling();
        let file = fault.datum("file");
        match fault.name.as_str() {
            "InvalidPowerState" => Known::InvalidPowerState {
                requested: fault.datum("requestedState"),
                existing: fault.datum("existingState"),
            },
            "DuplicateName" => Known::DuplicateName { name: fault.datum("name") },
            "AlreadyExists" => Known::AlreadyExists { name: fault.datum("name") },
            "NoDiskSpace" => Known::NoDiskSpace { datastore: fault.datum("datastore"), file },
            "TaskInProgress" => Known::TaskInProgress { task: fault.datum("task") },
            "RestrictedVersion" | "LicenseRestricted" => Known::Restricted,
            "RestrictedByAdministrator" => Known::RestrictedByAdministrator { details: fault.datum("details") },
            "NoPermission" => Known::NoPermission {
                privilege: fault.datum("privilegeId").or_else(|| fault.datum("missingPrivileges.privilegeIds")),
            },
            "FileAlreadyExists" => Known::FileAlreadyExists { file },
            "FileNotFound" => Known::FileNotFound { file },
            "FileLocked" => Known::FileLocked { file },
            "CannotCreateFile" | "CannotAccessFile" | "CannotDeleteFile" | "CannotDeleteFileFault" => {
                Known::File { file }
            }
            "ManagedObjectNotFound" => Known::Gone,
            "ToolsUnavailable" => Known::ToolsUnavailable,
            "NotSupported" | "MethodNotFound" | "NotImplemented" => Known::NotSupported,
            "InvalidArgument" | "InvalidProperty" => {
                Known::InvalidArgument { property: fault.datum("invalidProperty").or_else(|| fault.datum("name")) }
            }
            "InvalidName" => Known::InvalidName { name: fault.datum("name") },
            "ConcurrentAccess" => Known::ConcurrentAccess,
            "InMaintenanceMode" | "InvalidState" => Known::InvalidState,
            "RequestCanceled" => Known::Canceled,
            "SSLVerifyFault" => Known::SslVerify { thumbprint: fault.datum("thumbprint") },
            _ => Known::Other,
        }
    }

    /// The last segment of its dotted kind: `InvalidPowerState` gives `invalid_power_state`.
    pub fn kind(&self) -> String {
        snake_case(&self.telling().name)
    }
}

/// A fault whose type is known, with the data that it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'a> {
    InvalidPowerState {
        requested: Option<&'a str>,
        existing: Option<&'a str>,
    },
    DuplicateName {
        name: Option<&'a str>,
    },
    AlreadyExists {
        name: Option<&'a str>,
    },
    NoDiskSpace {
        datastore: Option<&'a str>,
        file: Option<&'a str>,
    },
    TaskInProgress {
        task: Option<&'a str>,
    },
    Restricted,
    RestrictedByAdministrator {
        details: Option<&'a str>,
    },
    NoPermission {
        privilege: Option<&'a str>,
    },
    FileAlreadyExists {
        file: Option<&'a str>,
    },
    FileNotFound {
        file: Option<&'a str>,
    },
    FileLocked {
        file: Option<&'a str>,
    },
    File {
        file: Option<&'a str>,
    },
    Gone,
    ToolsUnavailable,
    NotSupported,
    InvalidArgument {
        property: Option<&'a str>,
    },
    InvalidName {
        name: Option<&'a str>,
    },
    ConcurrentAccess,
    InvalidState,
    Canceled,
    SslVerify {
        thumbprint: Option<&'a str>,
    },
    /// Not known by type: the wire name stands for it.
    Other,
}

impl std::fmt::Display for VimFault {
    /// What happened, for people: from the data where the type is known, with the host's own words where they add to it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: Option<&str>, other: &str| text.unwrap_or(other).to_owned();
        let said = match self.known() {
            Known::InvalidPowerState { requested, existing } => match (existing, requested) {
                (Some(existing), Some(requested)) if existing == requested => {
                    format!("it is {} already", power(existing))
                }
                (Some(existing), Some(requested)) => {
                    format!("it is {} and would have to be {}", power(existing), power(requested))
                }
                (Some(existing), None) => format!("it is {}", power(existing)),
                _ => "its power state does not allow this".to_owned(),
            },
            Known::DuplicateName { name } | Known::AlreadyExists { name } => {
                format!("the name {} is already taken", or(name, "given"))
            }
            Known::NoDiskSpace { datastore, .. } => {
                format!("no space is left on datastore {}", or(datastore, "(not named)"))
            }
            Known::TaskInProgress { task } => format!("another task is at work on it ({})", or(task, "not named")),
            Known::Restricted => "the host's licence does not allow changes through the API".to_owned(),
            Known::RestrictedByAdministrator { details } => {
                format!("an administrator has restricted this ({})", or(details, "no details"))
            }
            Known::NoPermission { privilege } => {
                format!("the user lacks the privilege {}", or(privilege, "(not named)"))
            }
            Known::FileAlreadyExists { file } => format!("the file {} exists already", or(file, "(not named)")),
            Known::FileNotFound { file } => format!("the file {} does not exist", or(file, "(not named)")),
            Known::FileLocked { file } => format!("the file {} is locked", or(file, "(not named)")),
            Known::File { file: Some(file) } => format!("{} at {file}", self.telling().name),
            Known::Gone => "the object does not exist any more".to_owned(),
            Known::ToolsUnavailable => "VMware Tools do not run in the guest".to_owned(),
            Known::NotSupported => "the host does not support this".to_owned(),
            Known::InvalidArgument { property: Some(property) } => format!("the host does not accept {property}"),
            Known::InvalidName { name } => format!("the name {} is not valid", or(name, "given")),
            Known::Canceled => "the task was cancelled".to_owned(),
            Known::ConcurrentAccess => "it was changed by somebody else at the same time".to_owned(),
            _ => self.telling().name.clone(),
        };
        f.write_str(&said)?;
        if let Some(learned) = &self.learned {
            write!(f, ": {}", clip(learned))?;
        }
        let mut written: Vec<&str> = vec![&said];
        for fault in self.chain() {
            for text in std::iter::once(&fault.message).chain(&fault.details) {
                let text = text.trim_end_matches('.');
                if !text.is_empty() && !written.iter().any(|old| old.contains(text)) {
                    write!(f, "; the host says: {}", clip(text))?;
                    written.push(text);
                }
            }
        }
        Ok(())
    }
}

fn power(state: &str) -> &str {
    match state {
        "poweredOn" => "powered on",
        "poweredOff" => "powered off",
        "suspended" => "suspended",
        other => other,
    }
}

/// At most 300 characters of what a host says, on one line: a fault may carry a page.
pub(super) fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// `InvalidPowerState` → `invalid_power_state`, `SSLVerifyFault` → `ssl_verify_fault`. Letters that are not ASCII become `_`.
fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().take(80).collect();
    let mut out = String::with_capacity(chars.len() + 8);
    for (index, c) in chars.iter().copied().enumerate() {
        let before = index.checked_sub(1).and_then(|index| chars.get(index)).copied();
        let after = chars.get(index + 1).copied();
        let starts_word = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                !before.is_ascii_uppercase() || after.is_some_and(|after| after.is_ascii_lowercase())
            });
        if starts_word && !out.ends_with('_') {
            out.push('_');
        }
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    if out.is_empty() { "unknown".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    fn soap(text: &str) -> VimFault {
        VimFault::from_soap(&parse(text.as_bytes(), Limits::default()).unwrap())
    }

    #[test]
    fn wire_names_become_kinds() {
        for (name, kind) in [
            ("InvalidPowerState", "invalid_power_state"),
            ("SSLVerifyFault", "ssl_verify_fault"),
            ("NoDiskSpace", "no_disk_space"),
            ("HTTPNfc2Thing", "http_nfc2_thing"),
            ("", "unknown"),
            ("Ünknown Fault", "_nknown_fault"),
        ] {
            assert_eq!(snake_case(name), kind);
        }
    }

    #[test]
    fn a_fault_is_matched_through_its_causes() {
        let fault = soap(
            r#"<Fault xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><faultcode>ServerFaultCode</faultcode><faultstring>no</faultstring>
            <detail><GenericVmConfigFaultFault x:type="GenericVmConfigFault"><faultCause><fault x:type="NoDiskSpace"><file>[a] b</file>
            <datastore>ds1</datastore></fault><localizedMessage>full</localizedMessage></faultCause><reason>r</reason></GenericVmConfigFaultFault></detail></Fault>"#,
        );
        assert_eq!(fault.name, "GenericVmConfigFault");
        assert_eq!(fault.kind(), "no_disk_space");
        assert_eq!(fault.known(), Known::NoDiskSpace { datastore: Some("ds1"), file: Some("[a] b") });
        assert!(fault.find("NoDiskSpace").is_some());
        assert!(fault.to_string().contains("ds1"), "{fault}");
    }

    #[test]
    fn an_unknown_fault_keeps_its_wire_name() {
        let fault = soap(
            r#"<Fault><faultstring>odd</faultstring><detail><BrandNewFault><weird>1</weird></BrandNewFault></detail></Fault>"#,
        );
        assert_eq!((fault.name.as_str(), fault.known(), fault.datum("weird")), ("BrandNew", Known::Other, Some("1")));
        let bare = soap("<Fault><faultcode>soap:Server</faultcode><faultstring>boom</faultstring></Fault>");
        assert_eq!(bare.name, "Server");
        assert_eq!(bare.to_string(), "Server; the host says: boom");
    }

    #[test]
    fn causes_nested_without_end_are_cut() {
        let mut text = String::from("<localizedMessage>x</localizedMessage>");
        for _ in 0..25 {
            text = format!("<fault><faultCause>{text}</faultCause></fault><localizedMessage>x</localizedMessage>");
        }
        let tree = parse(format!("<a>{text}</a>").as_bytes(), Limits { depth: 200, ..Limits::default() }).unwrap();
        assert!(VimFault::from_localized(&tree).chain().count() <= CAUSES + 1);
    }
}
