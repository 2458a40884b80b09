//! The service instance and the session manager: what a client meets first.

use time::OffsetDateTime;

use super::call::{Answer, Call, Reply};
use super::esx;
use super::fault::VimFault;
use super::property::Reader;
use super::schema::Version;
use super::value::{Data, Ref, Value};
use super::world::World;

pub const SESSION_MANAGER: Ref = Ref::fixed("SessionManager", "ha-sessionmgr");
pub const PROPERTY_COLLECTOR: Ref = Ref::fixed("PropertyCollector", "ha-property-collector");

/// The version and the build that the host claims: ESXi 8.0 Update 3.
pub const PRODUCT: (&str, &str) = ("8.0.3", "24022510");

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "RetrieveServiceContent" => Ok(content().into()),
        "CurrentTime" => Ok(OffsetDateTime::now_utc().into()),
        "RetrieveProductComponents" => Ok(Reply::Value(Value::List(Vec::new()))),
        "Logout" => {
            let key = call.session()?.to_owned();
            let user = world.sessions.by_key(&key).map(|session| session.user.clone()).unwrap_or_default();
            let message = format!("User {user} logged out");
            esx::events::note(world, "UserLogoutSessionEvent", &user, None, message);
            world.sessions.terminate(&key);
            world.end_session(&key);
            Ok(Reply::Nothing)
        }
        "SessionIsActive" => {
            // ESXi has no such thing as a session that somebody else asks about by name only; it tells what it knows.
            let found = world.sessions.by_key(call.text("sessionID")?);
            let user = call.text("userName")?;
            Ok(found.is_some_and(|session| session.user == user).into())
        }
        "TerminateSession" => {
            let own = call.session()?.to_owned();
            for key in call.args.texts("sessionId") {
                if key == own {
                    return Err(VimFault::invalid_argument("sessionId", "the current session ends by Logout"));
                }
                if !world.sessions.terminate(key) {
                    return Err(VimFault::new("NotFound", "There is no such session."));
                }
                world.end_session(key);
            }
            Ok(Reply::Nothing)
        }
        "SetLocale" => match call.text("locale")? {
            "en" | "en_US" => Ok(Reply::Nothing),
            _ => Err(VimFault::new("InvalidLocale", "The host speaks English only.")),
        },
        "AcquireGenericServiceTicket" => {
            let spec = call.data("spec")?;
            if spec.kind != "SessionManagerHttpServiceRequestSpec" {
                return Err(VimFault::invalid_argument("spec", "only tickets for HTTP requests are given"));
            }
            let ticket = Data::new("SessionManagerGenericServiceTicket").with("id", world.sessions.ticket());
            Ok(ticket.with("hostName", call.host.authority.clone()).into())
        }
        "AcquireCloneTicket" => {
            let key = call.session()?.to_owned();
            let user = world.sessions.by_key(&key).map(|session| session.user.clone()).unwrap_or_default();
            Ok(world.sessions.clone_ticket(&user).into())
        }
        "UpdateServiceMessage" | "LoginBySSPI" | "LoginByToken" | "LoginExtensionByCertificate" => {
            Err(VimFault::not_supported(call.method))
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

pub fn property(reader: &Reader<'_>, object: &Ref, name: &str) -> Option<Value> {
    let world = reader.world;
    if object.kind == "ServiceInstance" {
        return match name {
            "serverClock" => Some(OffsetDateTime::now_utc().into()),
            "capability" => Some(esx::filled("Capability").into()),
            "content" => Some(content().into()),
            _ => None,
        };
    }
    match name {
        "sessionList" => Some(world.sessions.all().map(super::sessions::Session::render).collect::<Vec<_>>().into()),
        "currentSession" => world.sessions.by_key(reader.session).map(|session| session.render().into()),
        "message" => Some("SIMULATOR".into()),
        "messageLocaleList" | "supportedLocaleList" => Some(vec!["en"].into()),
        "defaultLocale" => Some("en".into()),
        _ => None,
    }
}

fn content() -> Data {
    let fixed = |kind, id| Value::Ref(Ref::fixed(kind, id));
    Data::new("ServiceContent")
        .with("rootFolder", esx::ROOT_FOLDER)
        .with("propertyCollector", PROPERTY_COLLECTOR)
        .with("viewManager", fixed("ViewManager", "ViewManager"))
        .with("about", about())
        .with("setting", fixed("OptionManager", "HostAgentSettings"))
        .with("userDirectory", fixed("UserDirectory", "ha-user-directory"))
        .with("sessionManager", SESSION_MANAGER)
        .with("authorizationManager", fixed("AuthorizationManager", "ha-authmgr"))
        .with("perfManager", fixed("PerformanceManager", "ha-perfmgr"))
        .with("eventManager", fixed("EventManager", "ha-eventmgr"))
        .with("taskManager", fixed("TaskManager", "ha-taskmgr"))
        .with("accountManager", fixed("HostLocalAccountManager", "ha-localacctmgr"))
        .with("diagnosticManager", fixed("DiagnosticManager", "ha-diagnosticmgr"))
        .with("licenseManager", fixed("LicenseManager", "ha-license-manager"))
        .with("searchIndex", fixed("SearchIndex", "ha-searchindex"))
        .with("fileManager", fixed("FileManager", "ha-nfc-file-manager"))
        .with("virtualDiskManager", fixed("VirtualDiskManager", "ha-vdiskmanager"))
        .with("datastoreNamespaceManager", fixed("DatastoreNamespaceManager", "ha-datastore-namespace-manager"))
        .with("ovfManager", fixed("OvfManager", "ha-ovf-manager"))
        .with("guestOperationsManager", fixed("GuestOperationsManager", "ha-guest-operations-manager"))
}

/// What the host says it is.
pub fn about() -> Data {
    let (version, build) = PRODUCT;
    Data::new("AboutInfo")
        .with("name", "VMware ESXi")
        .with("fullName", format!("VMware ESXi {version} build-{build} (ceso SIMULATOR)"))
        .with("vendor", "VMware, Inc.")
        .with("version", version)
        .with("patchLevel", "0")
        .with("build", build)
        .with("localeVersion", "INTL")
        .with("localeBuild", "000")
        .with("osType", "vmnix-x86")
        .with("productLineId", "embeddedEsx")
        .with("apiType", "HostAgent")
        .with("apiVersion", api_version())
        .with("licenseProductName", "VMware ESX Server")
        .with("licenseProductVersion", "8.0")
}

fn api_version() -> &'static str {
    debug_assert!(Version::parse("8.0.3.0") == Some(Version::NEWEST));
    "8.0.3.0"
}
