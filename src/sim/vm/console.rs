//! A machine's console: tickets for it, and what it shows.
//!
//! A ticket is good for one connection within two minutes; behind it no console answers, for the machines here have none.
//! Specification: vSphere Web Services API, `AcquireTicket`; `GET /screen?id=ID`, as a host's web server has it.

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{Power, Vm, screenshot};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore::folder::authorise;
use crate::sim::fault::VimFault;
use crate::sim::http::{self, Body, Head};
use crate::sim::schema::Version;
use crate::sim::server::Host;
use crate::sim::value::{Data, Ref};
use crate::sim::world::World;

fn running<'a>(world: &'a World, object: &Ref) -> Result<&'a Vm, VimFault> {
    let vm = world.vm(object)?;
    match vm.power {
        Power::On => Ok(vm),
        other => Err(VimFault::invalid_power_state(Some("poweredOn"), other.name())),
    }
}

pub fn acquire(world: &mut World, call: &Call) -> Answer {
    let configuration = running(world, &call.this)?.vmx.clone();
    let old = call.method == "AcquireMksTicket";
    let kind = if old { "mks" } else { call.text("ticketType")? };
    let (host, port) = call.host.authority.rsplit_once(':').unwrap_or((&call.host.authority, "443"));
    let port: i32 = port.parse().unwrap_or(443);
    let name = if old { "VirtualMachineMksTicket" } else { "VirtualMachineTicket" };
    let ticket = match kind {
        "mks" | "webmks" => world.sessions.ticket(),
        "device" | "guestControl" | "guestIntegrity" | "webRemoteDevice" => {
            return Err(VimFault::not_supported(format!("the simulator gives no ticket for {kind}")));
        }
        _ => return Err(VimFault::invalid_argument("ticketType", "it is mks or webmks")),
    };
    let mut answer = Data::new(name)
        .with("ticket", ticket.clone())
        .with("cfgFile", configuration)
        .with("host", host.trim_matches(['[', ']']).to_owned())
        .with("port", port)
        .with("sslThumbprint", world.certificate.thumbprint());
    if !old {
        let print = |algorithm: &'static str, print: String| {
            Data::new("VirtualMachineCertThumbprint").with("thumbprint", print).with("hashAlgorithm", algorithm)
        };
        let prints =
            vec![print("sha1", world.certificate.thumbprint()), print("sha256", world.certificate.fingerprint())];
        answer = answer.with("certThumbprintList", prints);
        if kind == "webmks" && call.version >= Version::parse("7.0").unwrap_or_default() {
            answer = answer.with("url", format!("wss://{host}:{port}/ticket/{ticket}"));
        }
    }
    Ok(answer.into())
}

/// Keys that are typed at a running machine, and the size of its screen: both go nowhere.
pub fn typed(world: &mut World, call: &Call) -> Answer {
    running(world, &call.this)?;
    if call.method == "PutUsbScanCodes" {
        let events = call.data("spec")?.list("keyEvents").len();
        return Ok(i32::try_from(events).unwrap_or(i32::MAX).into());
    }
    let size = |name: &str, most: i64| call.args.number(name).is_some_and(|size| (1..=most).contains(&size));
    match size("width", 7680) && size("height", 4320) {
        true => Ok(Reply::Nothing),
        false => Err(VimFault::invalid_argument("width", "a screen is up to 7680 by 4320")),
    }
}

/// Answers one request for a picture of a running machine's console.
pub fn screen(request: &Request<Incoming>, head: &Head, host: &Host) -> Response<Body> {
    if request.method() != Method::GET {
        return http::status(StatusCode::METHOD_NOT_ALLOWED, "A picture is read with GET.");
    }
    if let Err((code, text)) = authorise(head, host) {
        return http::status(code, &text);
    }
    let query = request.uri().query().unwrap_or_default();
    let id = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "id").map(|(_, id)| id.into_owned());
    let picture = {
        let world = host.world();
        let object = Ref::new("VirtualMachine", id.unwrap_or_default());
        match running(&world, &object).map(screenshot::png) {
            Ok(picture) => picture,
            Err(fault) if fault.data.kind == "ManagedObjectNotFound" => {
                return http::status(StatusCode::NOT_FOUND, "There is no such machine.");
            }
            Err(fault) => return http::status(StatusCode::SERVICE_UNAVAILABLE, &fault.message),
        }
    };
    match picture {
        Ok(picture) => {
            let mut response = http::answer(StatusCode::OK, "image/png", String::new());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
            *response.body_mut() = http::whole(picture);
            response
        }
        Err(error) => http::status(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
