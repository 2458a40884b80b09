//! The errors of this room, and what becomes of them at its border.
//!
//! One enum; each variant knows its host. [`Error::doing`] adds what was tried on which object. At the border it becomes a
//! [`Fault`] of a stable kind `esxi.…` with a hint that says what to do next. Nothing here reads a text to find out what happened.

use std::sync::Arc;

use crate::config::Fingerprint;
use crate::error::Fault;
use crate::units::{Bytes, Span};

use super::fault::{Known, VimFault, clip};
use super::question::Question;

/// Anything that goes wrong between this program and a host.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("host {host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    /// The request was on its way and the answer did not come: a change may have happened.
    #[error("the connection to host {host} was lost: {reason}")]
    Lost { host: String, reason: String },
    /// The request was on its way, the answer did not come, and the host, which answers again, knows no task of it.
    #[error("the connection to host {host} was lost ({reason}), and the host knows no task of it: it was not begun")]
    NotBegun { host: String, reason: String },
    /// The request was on its way and the answer did not come; tasks of the kind have run since then, and none is provably of it.
    #[error(
        "the connection to host {host} was lost ({reason}), and it cannot be told which of the host's tasks is of it ({})",
        tasks.join(", ")
    )]
    Unclaimed {
        host: String,
        reason: String,
        /// The host's time before the request.
        since: time::OffsetDateTime,
        /// Whether all of them have ended with success.
        succeeded: bool,
        /// What the host calls them.
        tasks: Vec<String>,
    },
    /// The wait for a task failed, not the task: it may go on, and may have ended in any way.
    #[error("host {host} does not tell what became of it: {source}")]
    Untold { host: String, source: Box<Error> },
    /// The host's agent was started anew in the middle of a task: nobody is at work on it any more.
    #[error("host {host} knows the task {task} no longer: its agent was started anew in the middle of it")]
    TaskForgotten { host: String, task: String },
    #[error("host {host} did not answer within {after}")]
    Timeout { host: String, after: Span },
    #[error("the certificate of host {host} has changed: its fingerprint was {expected} and is now {seen}")]
    CertificateChanged { host: String, expected: Fingerprint, seen: Fingerprint },
    #[error("the certificate of host {host} is not trusted ({reason}); its fingerprint is {seen}")]
    CertificateUntrusted { host: String, seen: Fingerprint, reason: String },
    #[error("the trust anchors for host {host} cannot be used: {reason}")]
    TrustStore { host: String, reason: String },
    #[error("host {host} refused the user name or the password of {user}")]
    InvalidLogin { host: String, user: String },
    /// The one who asks for the password failed; it passes as it came.
    #[error(transparent)]
    Credentials(Arc<Fault>),
    /// The caller's own rule (the allowed networks) refused; it passes as it came.
    #[error(transparent)]
    Refused(Arc<Fault>),
    #[error("what answers at {host} is not an ESXi host: {seen}")]
    NotAHost { host: String, seen: String },
    #[error("host {host} gave an answer that cannot be used: {reason}")]
    BadAnswer { host: String, reason: String },
    #[error("host {host} is too busy to answer (HTTP {status})")]
    Busy { host: String, status: u16 },
    #[error("host {host} speaks API versions up to {newest} only; 6.5 or later is needed")]
    TooOld { host: String, newest: String },
    #[error("host {host}: {fault}")]
    Vim { host: String, fault: Box<VimFault> },
    #[error("there is no {what} {name:?} on host {host}")]
    NotFound { host: String, what: &'static str, name: String, nearest: Vec<String> },
    /// A request that would not make sense is not sent.
    #[error("{reason}")]
    Invalid { reason: String, hint: Option<String> },
    /// What only a vCenter has or can do.
    #[error("{what} needs a vCenter, and {host} is a host by itself")]
    NeedsVcenter { host: String, what: String },
    /// What is done on one host, of which a vCenter has many.
    #[error("{host} is a vCenter, and this is done on a host")]
    NeedsHost { host: String, hosts: Vec<String> },
    /// A vCenter has a machine carry a file for which it does not vouch: that one gets nothing.
    #[error("the vCenter {vcenter} has {system} carry the file, and cannot be taken at its word: {reason}")]
    Unvouched { vcenter: String, system: String, reason: &'static str },
    /// What went wrong with one of a vCenter's hosts that carries a file for it.
    #[error("the vCenter {vcenter} has its host {system} carry the file: {source}")]
    Carrier { vcenter: String, system: String, source: Box<Error> },
    /// Not one datacenter, but none or several.
    #[error("{}", which_datacenter(host, wanted.as_deref(), *found, among))]
    Datacenter { host: String, wanted: Option<String>, found: bool, among: Vec<String> },
    /// Not one place for a machine, but none or several.
    #[error("{reason}")]
    Place { reason: String, among: Vec<String> },
    /// A machine is in a state that the request does not allow; found before anything was changed.
    #[error("{name} on host {host} is {state}")]
    WrongState { host: String, name: String, state: String, hint: String },
    #[error("{name:?} on host {host}: no VMware Tools run in the guest")]
    NoTools { host: String, name: String },
    #[error(
        "datastore {datastore:?} of host {host} has {free} free, and {}{needed} are needed: {}{} are missing",
        if *most { "up to " } else { "" },
        if *most { "up to " } else { "" },
        Bytes(needed.0.saturating_sub(free.0))
    )]
    NoSpace {
        host: String,
        datastore: String,
        needed: Bytes,
        free: Bytes,
        /// Whether that much is needed only where nothing of it is empty.
        most: bool,
    },
    /// What this very host is known not to do well, found out before anything was sent.
    #[error("host {host}: {reason}")]
    Lacking { host: String, reason: String, hint: String },
    /// A file that a registered machine is made of, or that others build on.
    #[error("{file} on host {host} is in use by the machine {vm:?}, or holds what is")]
    InUse { host: String, file: String, vm: String },
    /// A merge that would write to what a linked clone only builds on.
    #[error(
        "the deltas of {name:?} on host {host} are not merged: it is a linked clone and builds on {disk}, which is another machine's and would be changed"
    )]
    Inherited { host: String, name: String, disk: String },
    /// The host's web server refused a file.
    #[error("host {host} refused {file} (HTTP {status})")]
    Transfer { host: String, file: String, status: u16 },
    /// A file became another one while it was read.
    #[error("host {host}: {reason}")]
    FileChanged { host: String, reason: String },
    /// Something on this machine, not on the host.
    #[error("{reason}")]
    Local { reason: String },
    #[error("{file} has the SHA-256 {sum}, and not {wanted}")]
    Sum { file: String, wanted: String, sum: String },
    /// The machine asks something, and goes on only when somebody answers. What waits for the answer goes on then.
    #[error(
        "the machine asks before it goes on: {} Answers: {}",
        clip(&question.text),
        clip(&question.answers())
    )]
    Asks { host: String, question: Box<Question> },
    /// What was waited for did not come in time. The machine goes on.
    #[error("{what} did not happen within {after} on host {host}")]
    WaitedInVain { host: String, what: String, after: Span },
    /// After a failure something that this call made could not be taken away again.
    #[error("{source}. Left behind on host {host}: {}", left.join(", "))]
    LeftBehind { host: String, left: Vec<String>, source: Box<Error> },
    /// The caller wanted it so.
    #[error("the run was stopped in the middle of it")]
    Stopped,
    /// A lease could not be ended, and holds its machine.
    #[error("{source}. On host {host} {held}")]
    StillHeld { host: String, held: String, source: Box<Error> },
    /// The client ended in the middle of things that could not be ended, or that only their owner may end.
    #[error("what was under way on host {host} was not brought to an end: {}", left.join(", "))]
    Unfinished { host: String, left: Vec<String> },
    #[error("the session file {path} cannot be written: {reason}")]
    SessionFile { path: String, reason: String },
    /// What was being done, to which object.
    #[error("{doing}: {source}")]
    While { doing: String, source: Box<Error> },
}

impl Error {
    /// Says what was being done, to which object: `error.doing("power on \"web-1\"")`.
    pub fn doing(self, doing: impl Into<String>) -> Self {
        Self::While { doing: doing.into(), source: Box::new(self) }
    }

    pub(super) fn needs_vcenter(host: &str, what: impl Into<String>) -> Self {
        Self::NeedsVcenter { host: host.to_owned(), what: what.into() }
    }

    /// The same with another reason at its root: what was being done, and what is left behind, stays told.
    pub(super) fn because(self, root: Error) -> Self {
        match self {
            Self::While { doing, source } => Self::While { doing, source: Box::new(source.because(root)) },
            Self::LeftBehind { host, left, source } => {
                Self::LeftBehind { host, left, source: Box::new(source.because(root)) }
            }
            Self::Carrier { vcenter, system, source } => {
                Self::Carrier { vcenter, system, source: Box::new(source.because(root)) }
            }
            Self::StillHeld { host, held, source } => {
                Self::StillHeld { host, held, source: Box::new(source.because(root)) }
            }
            _ => root,
        }
    }

    /// The error underneath what was being done.
    pub fn root(&self) -> &Error {
        match self {
            Self::While { source, .. }
            | Self::LeftBehind { source, .. }
            | Self::StillHeld { source, .. }
            | Self::Carrier { source, .. } => source.root(),
            other => other,
        }
    }

    /// The host's fault, where the host gave one.
    pub fn vim(&self) -> Option<&VimFault> {
        match self.root() {
            Self::Vim { fault, .. } => Some(fault),
            _ => None,
        }
    }

    /// Whether the host gave a fault of that wire name, here or among its causes.
    pub fn is(&self, wire_name: &str) -> bool {
        self.vim().is_some_and(|fault| fault.find(wire_name).is_some())
    }

    /// Whether it is not known if the host did what it was asked for.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self.root(),
            Self::Lost { .. }
                | Self::Unclaimed { .. }
                | Self::Untold { .. }
                | Self::Timeout { .. }
                | Self::BadAnswer { .. }
        )
    }

    /// Whether nobody is at work on what was asked for, and what became of it has to be seen by its effect.
    pub(super) fn lost_track(&self) -> bool {
        matches!(self.root(), Self::NotBegun { .. } | Self::TaskForgotten { .. })
    }

    /// The stable dotted kind.
    pub fn kind(&self) -> String {
        match self.root() {
            Self::Unreachable { .. } => "esxi.unreachable".into(),
            Self::Lost { .. } | Self::Unclaimed { .. } | Self::NotBegun { .. } => "esxi.connection_lost".into(),
            Self::Untold { source, .. } => match source.kind() {
                kind if kind == "esxi.unreachable" || kind == "esxi.timeout" => kind,
                _ => "esxi.connection_lost".into(),
            },
            Self::TaskForgotten { .. } => "esxi.task_forgotten".into(),
            Self::Timeout { .. } | Self::WaitedInVain { .. } => "esxi.timeout".into(),
            Self::CertificateChanged { .. } => "esxi.certificate_changed".into(),
            Self::CertificateUntrusted { .. } => "esxi.certificate_untrusted".into(),
            Self::TrustStore { .. } => "esxi.trust_store".into(),
            Self::InvalidLogin { .. } => "esxi.invalid_login".into(),
            Self::Credentials(fault) | Self::Refused(fault) => fault.kind().to_owned(),
            Self::NotAHost { .. } => "esxi.not_a_host".into(),
            Self::BadAnswer { .. } => "esxi.bad_answer".into(),
            Self::Busy { .. } => "esxi.busy".into(),
            Self::TooOld { .. } => "esxi.too_old".into(),
            Self::Vim { fault, .. } => format!("esxi.{}", fault.kind()),
            Self::NotFound { .. } => "esxi.not_found".into(),
            Self::Invalid { .. } => "esxi.invalid_argument".into(),
            Self::NeedsVcenter { .. } => "esxi.needs_vcenter".into(),
            Self::NeedsHost { .. } | Self::Unvouched { .. } => "esxi.needs_host".into(),
            Self::Datacenter { .. } => "esxi.datacenter".into(),
            Self::Place { .. } => "esxi.place".into(),
            Self::WrongState { .. } => "esxi.invalid_power_state".into(),
            Self::NoSpace { .. } => "esxi.no_disk_space".into(),
            Self::Lacking { .. } => "esxi.not_supported".into(),
            Self::InUse { .. } => "esxi.in_use".into(),
            Self::Inherited { .. } => "esxi.inherited_disks".into(),
            Self::Transfer { status: 404, .. } => "esxi.file_not_found".into(),
            Self::Transfer { status: 507, .. } => "esxi.no_disk_space".into(),
            Self::Transfer { .. } => "esxi.file_refused".into(),
            Self::FileChanged { .. } => "esxi.file_changed".into(),
            Self::Local { .. } => "local.file".into(),
            Self::Sum { .. } => "local.sum".into(),
            Self::NoTools { .. } => "esxi.tools_unavailable".into(),
            Self::Asks { .. } => "esxi.waits_for_answer".into(),
            Self::SessionFile { .. } => "esxi.session_file".into(),
            Self::Stopped => "script.cancelled".into(),
            Self::Unfinished { .. } => "esxi.left_behind".into(),
            Self::LeftBehind { .. } | Self::StillHeld { .. } | Self::While { .. } | Self::Carrier { .. } => {
                "esxi.error".into()
            }
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::While { source, .. } | Self::StillHeld { source, .. } => return source.hint(),
            Self::LeftBehind { .. } => "remove what is named by hand, after a look at it".into(),
            Self::Stopped => return None,
            Self::Unfinished { .. } => "look at what is named: a lease ends by itself, what is half made is removed by hand".into(),
            Self::Unreachable { host, .. } => {
                format!("check the address, the network and that the host is up: ceso host check {host}")
            }
            Self::Unclaimed { host, .. } => {
                format!("it may have happened, or not: look at these tasks (ceso host tasks --host {host}) and at what was asked for, before trying again")
            }
            Self::Lost { .. } | Self::Untold { .. } => "what was asked for may have happened: look before trying again".into(),
            Self::NotBegun { .. } => "try again".into(),
            Self::TaskForgotten { .. } => "look what it did, for it may have ended or stopped half-way; then try again".into(),
            Self::Timeout { .. } => "the host may be busy: look what it did, then try again or set a longer time".into(),
            Self::CertificateChanged { host, .. } => {
                format!("if the host was reinstalled or got a new certificate, compare the fingerprint on its console, then: ceso host trust {host}")
            }
            Self::CertificateUntrusted { host, .. } => {
                format!("compare the fingerprint with the one on the host's console, then: ceso host trust {host}")
            }
            Self::TrustStore { .. } => "name a PEM file with the certificate of the authority, or pin a fingerprint".into(),
            Self::InvalidLogin { .. } => {
                "the login is not repeated: five failures lock an account for 15 minutes; correct the user name or the password".into()
            }
            Self::Credentials(fault) | Self::Refused(fault) => return fault.hint_text().map(str::to_owned),
            Self::NotAHost { .. } => "check the URL: it should be https://HOST/sdk of an ESXi host".into(),
            Self::BadAnswer { .. } => "look what stands between here and the host (a proxy, a full disk), then try again".into(),
            Self::Busy { host, .. } => {
                format!("the host may have too many sessions: wait, log out of others (ceso host logout {host}), then try again")
            }
            Self::TooOld { .. } => "ESXi 6.5 is the oldest release that is supported".into(),
            Self::Vim { fault, .. } => return fault_hint(fault),
            Self::NotFound { nearest, .. } if !nearest.is_empty() => format!("did you mean {}?", nearest.join(" or ")),
            Self::NotFound { what, .. } => format!("list what there is: ceso {} list", command(what)),
            Self::Invalid { hint, .. } => return hint.clone(),
            Self::NeedsVcenter { .. } => {
                "leave it out, or connect to the vCenter that manages the host (host:facts() names it)".into()
            }
            Self::NeedsHost { hosts, .. } if hosts.is_empty() => "connect to the host itself".into(),
            Self::NeedsHost { hosts, .. } => format!("connect to the host itself: {}", listed(hosts)),
            Self::Unvouched { system, .. } => format!("connect to the host itself, where {system} is one of yours"),
            Self::Carrier { system, source, .. } => match source.root() {
                Self::CertificateChanged { .. } => format!(
                    "the vCenter knows another certificate of {system}: connect that host anew there, or work on the host itself"
                ),
                Self::Unreachable { .. } => {
                    format!("this machine must reach the vCenter's hosts too: {system} by TCP 443, or the port that is named")
                }
                _ => return source.hint(),
            },
            Self::Datacenter { among, .. } if among.is_empty() => {
                "make one, or give the account the right to see it".into()
            }
            Self::Datacenter { .. } => {
                "name one of them as \"datacenter\" in the host's entry (ceso host add NAME URL --datacenter DATACENTER), or by CESO_DATACENTER".into()
            }
            Self::Place { among, .. } if among.is_empty() => "list what there is: host:places()".into(),
            Self::Place { among, .. } => format!("name one: {}", listed(among)),
            Self::WrongState { hint, .. } | Self::Lacking { hint, .. } => hint.clone(),
            Self::NoSpace { .. } => "free space on that datastore or use another".into(),
            Self::InUse { vm, .. } => {
                format!("what a machine is made of, builds on or has in a drive is not touched as files: eject it, or destroy or unregister {vm:?} first, or name something else")
            }
            Self::Inherited { .. } => {
                "every machine that builds on that disk would be ruined: leave it as it is, or clone the machine in full and destroy this one".into()
            }
            Self::Transfer { status: 404, .. } => "look what is there: ceso datastore ls".into(),
            Self::Transfer { status: 507, .. } => "free space on that datastore or use another".into(),
            Self::Transfer { status: 403, .. } => {
                "a running machine holds the file, or the user may not browse that datastore: power the machine off, or copy it first".into()
            }
            Self::Transfer { .. } => "look at the host's own log for the reason".into(),
            Self::FileChanged { .. } => "somebody writes to it: wait until that has ended, then begin anew".into(),
            Self::Local { .. } => "look at the file, its folder and its disk on this machine".into(),
            Self::Sum { .. } => "it is another file, or was changed on its way: nothing of it is kept".into(),
            Self::NoTools { .. } => {
                "install or start VMware Tools (open-vm-tools) in the guest, or take the snapshot without quiesce".into()
            }
            Self::Asks { .. } => {
                "answer it and it goes on: vm:answer({ choice = … }) (ceso vm answer NAME CHOICE); vm:question() tells it again".into()
            }
            Self::WaitedInVain { .. } => "look at the machine's console, or wait longer".into(),
            Self::SessionFile { .. } => "make the folder writable, or set CESO_HOME to one that is".into(),
        };
        Some(hint)
    }

    /// Whether the same call may simply succeed when it is made again.
    pub fn may_retry(&self) -> bool {
        match self.root() {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::NotBegun { .. } => true,
            Self::Vim { fault, .. } => matches!(fault.known(), Known::TaskInProgress { .. } | Known::ConcurrentAccess),
            Self::Credentials(fault) | Self::Refused(fault) => fault.may_retry(),
            _ => false,
        }
    }
}

/// Some names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn which_datacenter(host: &str, wanted: Option<&str>, found: bool, among: &[String]) -> String {
    let there = listed(among);
    match wanted {
        _ if among.is_empty() => format!("the vCenter {host} has no datacenter that this account may see"),
        None => {
            format!("{host} is a vCenter with {} datacenters ({there}), and a connection is about one", among.len())
        }
        Some(name) if found => format!("several datacenters of the vCenter {host} are named {name:?}: {there}"),
        Some(name) => format!("the vCenter {host} has no datacenter {name:?}; there are: {there}"),
    }
}

fn command(what: &str) -> &str {
    match what {
        "virtual machine" => "vm",
        other => other,
    }
}

fn fault_hint(fault: &VimFault) -> Option<String> {
    let hint = match fault.known() {
        Known::InvalidPowerState { existing: Some(existing), requested: Some(requested) } if existing == requested => {
            "it is so already: the ensure form takes that"
        }
        Known::InvalidPowerState { existing: Some("poweredOn"), .. } => {
            "turn it off first: vm:shutdown() asks the guest (ceso vm power NAME shutdown), vm:power_off() does not (… off)"
        }
        Known::InvalidPowerState { existing: Some("poweredOff"), .. } => {
            "turn it on first, where it is to run: vm:power_on() (ceso vm power NAME on)"
        }
        Known::InvalidPowerState { existing: Some("suspended"), .. } => "power it on to resume it, or power it off",
        Known::InvalidPowerState { .. } => "look at its power state: ceso vm info NAME",
        Known::DuplicateName { .. } | Known::AlreadyExists { .. } => {
            "choose another name, or use the ensure form, which takes what exists"
        }
        Known::NoDiskSpace { .. } => "free space on that datastore or use another",
        Known::TaskInProgress { .. } => "wait until that task has ended, then try again",
        Known::Restricted => {
            "a free licence allows reads only: assign a licence to the host (an evaluation one will do)"
        }
        Known::RestrictedByAdministrator { .. } => {
            "ask the host's administrator; a host in lockdown mode or under a vCenter is changed there"
        }
        Known::NoPermission { .. } => {
            "give the user a role with that privilege; a host in lockdown mode refuses direct logins"
        }
        Known::FileAlreadyExists { .. } => {
            "nothing is overwritten: choose another name, or remove the old folder after a look at it"
        }
        Known::FileNotFound { .. } => "look what is there: the file was moved or never was",
        Known::FileLocked { .. } => "a running machine or a backup holds it: power the machine off or wait",
        Known::Gone => "somebody removed it meanwhile: list again",
        Known::ToolsUnavailable => {
            "install or start VMware Tools (open-vm-tools) in the guest, or turn the machine off without asking it: vm:power_off()"
        }
        Known::NotSupported => "a standalone host cannot do all that a vCenter can",
        Known::InvalidName { .. } => "use letters, digits, dots, dashes and underscores",
        Known::ConcurrentAccess => "try again",
        Known::InvalidState => {
            "look at the state of the host and the machine; a host in maintenance mode starts no machine"
        }
        _ => match fault.telling().name.as_str() {
            "QuestionPending" => {
                "answer it first: vm:question() tells what it asks, vm:answer({ choice = … }) answers (ceso vm answer NAME CHOICE)"
            }
            "NotAuthenticated" => "log in again: ceso host check NAME",
            "TooManySnapshotLevels" => "remove snapshots first: vm:snapshots() shows the tree",
            "MemorySnapshotOnIndependentDisk" => "take it without memory, or while the machine is off",
            "SnapshotDisabled" | "SnapshotLocked" => {
                "the machine's own configuration forbids it: flags.snapshotDisabled, flags.snapshotLocked"
            }
            "ApplicationQuiesceFault" | "FilesystemQuiesceFault" => {
                "the guest did not write out what it holds in time: look at its logs, or take the snapshot without quiesce"
            }
            "InvalidDeviceSpec" | "InvalidDeviceBacking" => {
                "look at the device, and at what the machine has already: vm:info() (ceso vm info NAME)"
            }
            "SnapshotIncompatibleDeviceInVm" => {
                "take it without memory or while the machine is off, or take the device out first: vm:detach_pci()"
            }
            "InvalidDeviceOperation" => "a disk with snapshots is not extended or destroyed: remove them first",
            "GenericVmConfigFault" => {
                "a disk, or one that it builds on, cannot be opened: look at the files that are named"
            }
            "InsufficientResourcesFault" | "InsufficientMemoryResource" | "InsufficientCpuResourcesFault" => {
                "free memory or CPUs on the host, or give the machine less"
            }
            _ => return None,
        },
    };
    Some(hint.to_owned())
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let error = match error {
            Error::Credentials(fault) | Error::Refused(fault) => match Arc::try_unwrap(fault) {
                Ok(fault) => return fault,
                Err(shared) => Error::Refused(shared),
            },
            other => other,
        };
        let mut fault = Fault::new(error.kind(), error.to_string());
        if let Some(hint) = error.hint() {
            fault = fault.hint(hint);
        }
        if error.may_retry() {
            fault = fault.retry();
        }
        fault.cause(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    #[test]
    fn a_fault_says_what_where_and_what_next() {
        let data = Element::new("fault")
            .typed("InvalidPowerState")
            .with(Element::leaf("requestedState", "poweredOff"))
            .with(Element::leaf("existingState", "poweredOn"));
        let fault = VimFault::from_localized(&Element::new("error").with(data));
        let error = Error::Vim { host: "esx-1".into(), fault: Box::new(fault) }.doing("destroy \"web-1\"");
        let fault = Fault::from(error);
        assert_eq!(fault.kind(), "esxi.invalid_power_state");
        assert_eq!(fault.message(), "destroy \"web-1\": host esx-1: it is powered on and would have to be powered off");
        assert!(fault.hint_text().unwrap().contains("turn it off"));
        assert_eq!(fault.exit_code(), 4);
        assert!(!fault.may_retry());
    }

    #[test]
    fn what_is_left_behind_is_named_and_keeps_the_first_error() {
        let error = Error::LeftBehind {
            host: "h".into(),
            left: vec!["[ds] web-1".into()],
            source: Box::new(Error::Lost { host: "h".into(), reason: "reset".into() }),
        };
        assert_eq!(error.kind(), "esxi.connection_lost");
        assert!(error.to_string().contains("[ds] web-1"));
    }
}
