//! From a SOAP request to the method that answers it: version, session, object, arguments, in this order.
//!
//! Nothing but a few named methods runs without a session. A method that is in the API but not here is `NotImplemented`; one that no
//! object of that type has is `MethodNotFound`.

use std::sync::Arc;

use secrecy::SecretString;

use super::call::{Answer, Call, Reply};
use super::fault::VimFault;
use super::faults::{InPlace, Trouble};
use super::http::Head;
use super::schema::{Version, schema};
use super::server::Host;
use super::value::Ref;
use super::world::World;
use super::{
    collector, datastore, decode, esx, esxcli, guest, lease, ovf, property, search, service, soap, task, updates, view,
    vm,
};
use crate::xml::Element;

/// What goes back to the client.
pub struct Outcome {
    pub document: String,
    pub fault: bool,
    /// A new session's cookie.
    pub cookie: Option<String>,
    /// The host has no room for a further session.
    pub unavailable: bool,
    /// What somebody asked for in place of the answer.
    pub instead: Option<Instead>,
    /// What befalls the whole host once this was carried out.
    pub after: Option<Trouble>,
}

/// No answer, or one of the web server's own.
#[derive(Debug, Clone, Copy)]
pub enum Instead {
    Drop,
    Status(u16),
}

/// Whether a method is answered with a new session's cookie.
fn opens_session(method: &str) -> bool {
    matches!(method, "Login" | "CloneSession")
}

/// Methods that need no session.
const PUBLIC: &[&str] = &["RetrieveServiceContent", "Login", "CurrentTime"];

/// Answers one SOAP document.
pub async fn soap(host: &Arc<Host>, head: &Head, document: &[u8]) -> Outcome {
    let mut outcome =
        Outcome { document: String::new(), fault: false, cookie: None, unavailable: false, instead: None, after: None };
    let version = version(head.action.as_deref());
    let spoken = version.as_ref().copied().unwrap_or(Version::NEWEST);
    let answered = async {
        let version = version?;
        let request = soap::request(document)?;
        let known = schema().knows_method(&request.name);
        host.count(if known { &request.name } else { "(unknown method)" });
        // A header stands at the beginning; most clients send none.
        let begins = document.get(..document.len().min(2048)).unwrap_or_default();
        let operation = begins.windows(11).any(|word| word == b"operationID").then(|| soap::operation(document));
        host.log.note(if known { &request.name } else { "(unknown method)" }, operation.flatten().as_deref());
        let (mut fault, mut leave_delta, mut lie, mut ask) = (None, false, None, None);
        if let Some(caught) = host.faults.due(&request.name) {
            fault = caught.fault;
            match caught.trouble {
                Trouble::Fault { .. } => {}
                Trouble::Delay(delay) => tokio::time::sleep(delay).await,
                Trouble::LeaveDelta => leave_delta = true,
                Trouble::Lie(told) => lie = Some(told),
                Trouble::Ask(topic) => ask = Some(topic),
                Trouble::Fill(left) => host.fill_for_now(left),
                after @ (Trouble::Late(_) | Trouble::Partition(_) | Trouble::Restart { .. }) => {
                    outcome.after = Some(after);
                }
                Trouble::DropAnswer => outcome.instead = Some(Instead::Drop),
                Trouble::Expire => {
                    host.expire_sessions();
                }
                Trouble::Status(code) => {
                    outcome.instead = Some(Instead::Status(code));
                    return Ok(String::new());
                }
                Trouble::Drop | Trouble::Cut(_) | Trouble::NoRanges | Trouble::Page => {
                    outcome.instead = Some(Instead::Drop);
                    return Ok(String::new());
                }
            }
        }
        if let Some(InPlace { fault, in_task: false }) = fault {
            // The session comes first, as for any method.
            if !opens_session(&request.name) {
                prepare(host, head, &request, version)?;
            }
            return Err(fault);
        }
        if opens_session(&request.name) {
            let (cookie, reply) = login(host, head, &request, version, &mut outcome.unavailable)?;
            outcome.cookie = Some(cookie);
            return written(&request.name, "SessionManager", &reply, version);
        }
        let (mut call, owner) = prepare(host, head, &request, version)?;
        call.leave_delta = leave_delta;
        call.lie = lie;
        call.ask = ask;
        let reply = match fault {
            Some(InPlace { fault, .. }) => {
                let mut world = host.world();
                let answer = task::change(&mut world, &call, &call.this, move |_, _| Err(fault))?;
                host.announce(world.tick());
                answer
            }
            None => perform(call).await?,
        };
        written(&request.name, owner, &reply, version)
    };
    match answered.await {
        Ok(document) => outcome.document = document,
        Err(fault) => {
            outcome.document = soap::fault(&fault, spoken);
            outcome.fault = true;
        }
    }
    outcome
}

/// The version that a request speaks. A host takes one that is newer than itself as its own newest (govc always sends its newest), and
/// refuses each field that it does not know; what is older than 6.5 is served as 6.5.
fn version(action: Option<&str>) -> Result<Version, VimFault> {
    let action = action.unwrap_or_default().trim().trim_matches('"');
    let shown: String = action.chars().take(80).collect();
    let unsupported = || VimFault::invalid_request(format!("Unsupported version URI \"{shown}\""));
    let text = match action {
        "" | "urn:vim25" | "urn:vim25/" => return Ok(Version::NEWEST),
        action => action.strip_prefix("urn:vim25/").ok_or_else(unsupported)?,
    };
    let version = Version::parse(text).ok_or_else(unsupported)?;
    Ok(version.clamp(Version::OLDEST, Version::NEWEST))
}

fn written(method: &str, owner: &str, reply: &Reply, version: Version) -> Result<String, VimFault> {
    let method = schema().method(owner, method).ok_or_else(|| VimFault::not_implemented(method))?;
    soap::response(method.name, reply, &method.result, version).map_err(VimFault::system)
}

fn this(request: &Element) -> Result<Ref, VimFault> {
    let this =
        request.child("_this").ok_or_else(|| VimFault::invalid_request("the request names no object (_this)"))?;
    decode::reference(this)
}

fn login(
    host: &Arc<Host>,
    head: &Head,
    request: &Element,
    version: Version,
    full: &mut bool,
) -> Result<(String, Reply), VimFault> {
    let unknown = || VimFault::not_implemented(&request.name);
    let method = schema().method("SessionManager", &request.name).ok_or_else(unknown)?;
    if this(request)? != service::SESSION_MANAGER {
        return Err(VimFault::invalid_request(format!("{} is a method of the SessionManager", request.name)));
    }
    let args = decode::arguments(request, method, version)?;
    let user = args.text("userName").unwrap_or_default();
    let password = SecretString::from(args.text("password").unwrap_or_default());
    let ticket = args.text("cloneTicket");
    let mut world = host.world();
    world.expire_sessions();
    if world.sessions.full() {
        *full = true;
        return Err(VimFault::system("too many sessions are open; log sessions out"));
    }
    let from = || ("ipAddress", super::value::Value::from(head.address.clone()));
    let opened = match ticket {
        Some(ticket) => world.sessions.clone_session(ticket, &head.address, &head.agent),
        None => world.sessions.login(user, &password, &head.address, &head.agent),
    };
    let cookie = match opened {
        Ok(cookie) => cookie,
        Err(fault) => {
            let message = format!("Cannot login {user}@{}", head.address);
            esx::events::note_with(&mut world, "BadUsernameSessionEvent", user, None, message, vec![from()]);
            return Err(fault);
        }
    };
    let key = world.sessions.call(&cookie).unwrap_or_default();
    let user = world.sessions.by_key(&key).map(|session| session.user.clone()).unwrap_or_default();
    let message = format!("User {user}@{} logged in as {}", head.address, head.agent);
    let more = vec![from(), ("locale", "en".into()), ("sessionId", "".into())];
    esx::events::note_with(&mut world, "UserLoginSessionEvent", &user, None, message, more);
    let session = world.sessions.by_key(&key).map(|session| session.render());
    Ok((cookie, session.map_or(Reply::Nothing, Reply::from)))
}

/// Checks everything that can be checked before the method itself runs.
fn prepare(
    host: &Arc<Host>,
    head: &Head,
    request: &Element,
    version: Version,
) -> Result<(Call, &'static str), VimFault> {
    let mut world = host.world();
    world.expire_sessions();
    let session = head.cookie.as_deref().and_then(|cookie| world.sessions.call(cookie));
    let public = PUBLIC.contains(&request.name.as_str()) || is_content_fetch(request);
    if session.is_none() && !public {
        return Err(VimFault::not_authenticated());
    }
    if !schema().knows_method(&request.name) {
        let name: String = request.name.chars().take(80).collect();
        return Err(VimFault::invalid_request(format!("no method is called {name}")));
    }
    let named = this(request)?;
    let this = world.find(&named).ok_or_else(|| VimFault::not_found(&named))?;
    let method = schema().method(this.kind, &request.name).ok_or_else(|| {
        VimFault::new("MethodNotFound", format!("{this} has no method {}", request.name))
            .with("receiver", &this)
            .with("method", request.name.clone())
    })?;
    let args = decode::arguments(request, method, version)?;
    world.hindrances.check(&this, method.name)?;
    let owner = this.kind;
    host.calls.note(&world, method.name, &this);
    Ok((
        Call {
            host: Arc::clone(host),
            session,
            version,
            this,
            method: method.name,
            args,
            leave_delta: false,
            lie: None,
            ask: None,
        },
        owner,
    ))
}

/// pyVmomi reads `ServiceInstance.content` with `Fetch` before it logs in.
fn is_content_fetch(request: &Element) -> bool {
    request.name == "Fetch"
        && request.child("_this").is_some_and(|this| this.text.trim() == "ServiceInstance")
        && request.text_at("prop").is_some_and(|prop| prop == "content")
}

async fn perform(call: Call) -> Answer {
    let waits = matches!(call.method, "WaitForUpdates" | "WaitForUpdatesEx");
    if waits { updates::wait(&call).await } else { act(&call) }
}

/// Methods that answer at once. Those named `…_Task` have only begun when they return.
fn act(call: &Call) -> Answer {
    let mut world = call.host.world();
    let world: &mut World = &mut world;
    let answer = match (call.this.kind, call.method) {
        (_, "Fetch") => property::fetch(world, call),
        ("ServiceInstance" | "SessionManager", _) => service::call(world, call),
        ("PropertyCollector", "CreateFilter" | "CheckForUpdates" | "CancelWaitForUpdates") | ("PropertyFilter", _) => {
            updates::call(world, call)
        }
        ("PropertyCollector", _) => collector::call(world, call),
        ("ViewManager" | "ContainerView" | "ListView", _) => view::call(world, call),
        ("SearchIndex", _) => search::call(world, call),
        ("Task" | "TaskManager", _) => task::call(world, call),
        ("HttpNfcLease", _) => lease::call(world, call),
        ("ReflectManagedMethodExecuter" | "InternalDynamicTypeManager", _)
        | ("HostSystem", "RetrieveManagedMethodExecuter" | "RetrieveDynamicTypeManager") => esxcli::call(world, call),
        ("OvfManager", _) => ovf::call(world, call),
        ("GuestProcessManager" | "GuestFileManager" | "GuestAuthManager", _) => guest::operations::call(world, call),
        ("VirtualMachine", "ExportVm") => lease::export_vm(world, call),
        ("VirtualMachineSnapshot", "ExportSnapshot") => lease::export_snapshot(world, call),
        ("ResourcePool", "ImportVApp") => lease::import_vapp(world, call),
        ("VirtualMachineSnapshot", _) => vm::snapshot::call(world, call),
        ("VirtualMachine", _) | ("Folder", "CreateVM_Task" | "RegisterVM_Task") => vm::call(world, call),
        ("ResourcePool", "CreateChildVM_Task" | "RegisterChildVM_Task") => vm::call(world, call),
        ("FileManager" | "VirtualDiskManager" | "HostDatastoreBrowser" | "Datastore", _) => {
            datastore::call(world, call)
        }
        (_, _) => esx::call(world, call),
    };
    call.host.announce(world.tick());
    answer
}
