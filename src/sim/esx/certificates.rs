//! The certificate manager: what the host's certificate says, a request for another, and the other put in its place.
//!
//! As on a host a new certificate is kept at once and shown to clients from the moment that the services are told
//! (`NotifyAffectedServices`), or after a restart. Specification: vSphere Web Services API, `HostCertificateManager`.

use rcgen::{DistinguishedName, DnType};
use time::OffsetDateTime;

use super::{HOST, HOST_NAME};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::cert;
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

pub const MANAGER: Ref = Ref::fixed("HostCertificateManager", "certificateManager");
/// The largest certificate that is looked at, with those above it.
const LARGEST: usize = 64 << 10;
/// The most authorities that the host is told to trust.
const MOST: usize = 200;

pub fn property(world: &World, property: &str) -> Option<Value> {
    (property == "certificateInfo").then(|| info(world).into())
}

fn info(world: &World) -> Data {
    let info = Data::new("HostCertificateManagerCertificateInfo").with("kind", "Machine");
    match world.certificate.said() {
        Ok(said) => {
            let status = if said.not_after < OffsetDateTime::now_utc() { "expired" } else { "good" };
            info.with("issuer", said.issuer)
                .with("notBefore", said.not_before)
                .with("notAfter", said.not_after)
                .with("subject", said.subject)
                .with("status", status)
        }
        Err(_) => info.with("status", "unknown"),
    }
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let kind = call.args.data("spec").and_then(|spec| spec.text("kind"));
    if kind.is_some_and(|kind| kind != "Machine") {
        return Err(VimFault::not_supported("the simulator has the certificate of the machine alone"));
    }
    match call.method {
        "RetrieveCertificateInfoList" => Ok(Reply::Value(vec![info(world)].into())),
        "GenerateCertificateSigningRequest" => {
            let address = call.host.authority.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
            let by_address = call.args.boolean("useIpAddressAsCommonName") == Some(true);
            let name = if by_address { address.trim_matches(['[', ']']) } else { HOST_NAME };
            let mut subject = DistinguishedName::new();
            subject.push(DnType::OrganizationName, "ceso SIMULATOR");
            subject.push(DnType::CommonName, name);
            request(world, subject, name)
        }
        "GenerateCertificateSigningRequestByDn" => request(world, subject(call.text("distinguishedName")?)?, HOST_NAME),
        "InstallServerCertificate" => {
            let pem = call.text("cert")?;
            if pem.len() > LARGEST {
                return Err(refused("it is too large"));
            }
            world.certificate.replace(pem).map_err(refused)?;
            world.touch(&MANAGER);
            world.touch(&HOST);
            Ok(Reply::Nothing)
        }
        "NotifyAffectedServices" => {
            call.host.show(world.certificate.tls().map_err(VimFault::system)?);
            Ok(Reply::Nothing)
        }
        "ListCACertificates" => Ok(Reply::Value(world.file.authorities.clone().into())),
        "ListCACertificateRevocationLists" => Ok(Reply::Value(world.file.revocations.clone().into())),
        "ReplaceCACertificatesAndCRLs" => {
            let given = |name: &str| -> Vec<String> { call.args.texts(name).map(str::to_owned).collect() };
            let (authorities, revocations) = (given("caCert"), given("caCrl"));
            let all = || authorities.iter().chain(&revocations);
            if all().count() > MOST
                || all().any(|pem| pem.len() > LARGEST || !pem.trim_start().starts_with("-----BEGIN "))
            {
                return Err(refused("what is trusted comes as PEM, up to 200 of it"));
            }
            (world.file.authorities, world.file.revocations) = (authorities, revocations);
            world.keep_host()?;
            Ok(Reply::Nothing)
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

fn refused(why: impl std::fmt::Display) -> VimFault {
    VimFault::new("HostConfigFault", format!("The certificate was not taken: {why}."))
}

fn request(world: &World, subject: DistinguishedName, name: &str) -> Answer {
    let made = cert::listed(name).and_then(|name| world.certificate.request(subject, vec![name]));
    made.map(Reply::from).map_err(|why| VimFault::new("HostConfigFault", format!("No request could be made: {why}.")))
}

/// Reads `CN=host,O=Company,C=DE`.
fn subject(text: &str) -> Result<DistinguishedName, VimFault> {
    let wrong = |why: &str| VimFault::invalid_argument("distinguishedName", why);
    let mut subject = DistinguishedName::new();
    for part in text.split(',') {
        let (kind, value) = part.split_once('=').ok_or_else(|| wrong("it is KIND=VALUE, with commas between"))?;
        let kind = match kind.trim().to_ascii_uppercase().as_str() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "L" => DnType::LocalityName,
            "ST" => DnType::StateOrProvinceName,
            "C" => DnType::CountryName,
            _ => return Err(wrong("its kinds are CN, O, OU, L, ST and C")),
        };
        if value.trim().is_empty() || value.len() > 64 {
            return Err(wrong("a value has 1 to 64 characters"));
        }
        subject.push(kind, value.trim().to_owned());
    }
    Ok(subject)
}
