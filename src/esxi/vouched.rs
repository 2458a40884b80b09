//! The hosts that a vCenter vouches for: it knows the certificate of each, and has them carry files.
//!
//! A host is spoken to where the vCenter, whose own certificate is trusted, has it in the connection's datacenter by the name or address
//! that the URL has; and it must show exactly the certificate that the vCenter has of it. Nothing wider is trusted: no authority, no other
//! host's certificate. No session, and nothing else of the vCenter's, is ever sent to it.
//! Specification: vSphere Web Services API, `HostSystem`, `HostConfigInfo.certificate`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use url::Url;

use crate::config::Fingerprint;
use crate::error::Fault;
use crate::web::{self, Allowed};
use crate::xml::Element;

use super::allowed::check_name;
use super::error::Error;
use super::fault::clip;
use super::host::Host;
use super::link::Link;
use super::lookup::unescape;
use super::moref::MoRef;
use super::options::{HostOptions, Trust};
use super::places::Reach;
use super::property::{From, Object, Query};
use super::transport::{Tail, Transport};

/// By what a host goes: its name in the inventory; its addresses, its name in DNS.
const NAMES: &[&str] = &["name", "config.network.vnic", "config.network.dnsConfig"];

const CERTIFICATE: &str = "config.certificate";

/// The largest certificate, as PEM: those of hosts have 2 KiB.
const LARGEST: usize = 64 << 10;

/// More hosts than go by one name, were it the address of a network that each has.
const MOST: usize = 64;

/// One of a vCenter's hosts, which must show the certificate that the vCenter has of it.
pub(super) struct Vouched {
    vcenter: String,
    name: String,
    transport: Transport,
}

impl Vouched {
    /// Asks for a file and reads the head of the answer. No session goes with it.
    pub(super) async fn open(
        &self,
        method: reqwest::Method,
        url: &Url,
        tail: Option<Tail<'_>>,
        label: &'static str,
        timeout: Duration,
    ) -> Result<reqwest::Response, Error> {
        self.transport.open(method, url, None, tail, label, timeout).await.map_err(|error| self.carrying(error))
    }

    /// Sends a file; the status that came back. No session goes with it.
    pub(super) async fn send_file(
        &self,
        url: &Url,
        label: &'static str,
        length: Option<u64>,
        body: reqwest::Body,
    ) -> Result<u16, Error> {
        self.transport.send_file(url, None, label, length, body).await.map_err(|error| self.carrying(error))
    }

    fn carrying(&self, error: Error) -> Error {
        Error::Carrier { vcenter: self.vcenter.clone(), system: self.name.clone(), source: Box::new(error) }
    }
}

impl Host {
    /// The vCenter's host that a URL names. Errors: `esxi.needs_host` where the vCenter does not vouch for it, `door.network` where its
    /// address is not allowed.
    pub(super) async fn vouched(&self, url: &Url) -> Result<Vouched, Error> {
        let name = url.host_str().unwrap_or_default().to_owned();
        let refuse =
            |reason: &'static str| Error::Unvouched { vcenter: self.name().to_owned(), system: clip(&name), reason };
        let hosts = self.systems_named(url).await?;
        if hosts.is_empty() {
            return Err(refuse("it has none of that name in this datacenter"));
        }
        if hosts.len() > MOST {
            return Err(refuse("it has too many of that name"));
        }
        let mut told = self.certificates(&hosts).await?;
        told.dedup();
        let fingerprint = match told.as_slice() {
            [Some(one)] => *one,
            [] | [None] => return Err(refuse("it does not tell its certificate")),
            _ => return Err(refuse("it has several of that name, with different certificates")),
        };
        let allowed = allowed(self.link.own_url(), self.link.options.allowed.clone());
        if url.domain().is_some() {
            // It is asked again for each connection; here the refusal keeps its own kind.
            match check_name(&name, &name, &allowed).await {
                Err(fault) if !fault.is("esxi.unreachable") => return Err(Error::Refused(Arc::new(fault))),
                // A name that means nothing here is told of where the host is to be reached.
                _ => {}
            }
        }
        let transport = self.link.beside(url, fingerprint, allowed, &name)?;
        Ok(Vouched { vcenter: self.name().to_owned(), name, transport })
    }

    /// The hosts that go by the name of a URL: by their names in the inventory; where none has it, by their addresses and names in DNS.
    async fn systems_named(&self, url: &Url) -> Result<Vec<MoRef>, Error> {
        let Some(host) = url.host() else { return Ok(Vec::new()) };
        let host = host.to_owned();
        let query = self.link.everything(&[Reach::Hosts], vec![("HostSystem", NAMES.to_vec())]);
        let objects = self.link.retrieve(&query).await?;
        let systems = || objects.iter().filter(|object| object.moref.kind == "HostSystem");
        let of = |goes_by: &dyn Fn(&Object) -> bool| -> Vec<MoRef> {
            systems().filter(|object| goes_by(object)).map(|object| object.moref.clone()).collect()
        };
        let named = of(&|object| means(&host, &unescape(&object.string("name"))));
        Ok(if named.is_empty() { of(&|object| is_reached_at(object, &host)) } else { named })
    }

    /// The certificate of each of these hosts, as far as the vCenter tells it.
    async fn certificates(&self, hosts: &[MoRef]) -> Result<Vec<Option<Fingerprint>>, Error> {
        let from = |host: &MoRef| From { object: host.clone(), skip: false, steps: Vec::new() };
        let properties = vec![("HostSystem", vec![CERTIFICATE])];
        let query = Query { properties, from: hosts.iter().map(from).collect() };
        let objects = self.link.retrieve(&query).await?;
        let object = |host: &MoRef| objects.iter().position(|object| object.moref == *host);
        let told = |at: usize| objects.get(at)?.get(CERTIFICATE);
        Ok(hosts.iter().map(|host| fingerprint(told(object(host)?)?)).collect())
    }
}

impl Link {
    /// A way to one of the vCenter's hosts, pinned to this certificate, at an address that is allowed.
    fn beside(&self, url: &Url, fingerprint: Fingerprint, allowed: Allowed, name: &str) -> Result<Transport, Error> {
        let mut sdk = url.clone();
        sdk.set_path("/sdk");
        let options = HostOptions {
            url: sdk,
            trust: Trust::Fingerprint(fingerprint),
            allowed: Some(allowed),
            session_file: None,
            ..self.options.clone()
        };
        self.transport.beside(&options, name)
    }
}

/// Whether the host of a URL is what is named by a text.
fn means(host: &url::Host<String>, text: &str) -> bool {
    let text = text.trim();
    match host {
        url::Host::Domain(name) => {
            !text.is_empty() && name.trim_end_matches('.').eq_ignore_ascii_case(text.trim_end_matches('.'))
        }
        url::Host::Ipv4(address) => text.parse::<IpAddr>().is_ok_and(|own| own.to_canonical() == *address),
        url::Host::Ipv6(address) => {
            text.parse::<IpAddr>().is_ok_and(|own| own.to_canonical() == IpAddr::from(*address).to_canonical())
        }
    }
}

/// Whether one of a host's own addresses, or its name in DNS, is that.
fn is_reached_at(object: &Object, host: &url::Host<String>) -> bool {
    let vnics = object.get("config.network.vnic").map(|list| list.children.as_slice()).unwrap_or_default();
    let by_address = vnics.iter().filter_map(|vnic| vnic.at("spec.ip")).any(|ip| {
        let further = ip.child("ipV6Config").into_iter().flat_map(|v6| v6.all("ipV6Address"));
        let further = further.filter_map(|address| address.text_at("ipAddress"));
        ip.text_at("ipAddress").into_iter().chain(further).any(|own| means(host, own))
    });
    let dns = object.get("config.network.dnsConfig");
    let part = |name: &str| dns.and_then(|dns| dns.text_at(name)).map(str::trim).unwrap_or_default();
    let (name, domain) = (part("hostName"), part("domainName"));
    by_address || means(host, name) || (!domain.is_empty() && means(host, &format!("{name}.{domain}")))
}

/// The fingerprint of a certificate as a vCenter tells it: PEM, as an array of bytes.
fn fingerprint(told: &Element) -> Option<Fingerprint> {
    // The first is the host's own; those of its authorities may follow.
    CertificateDer::from_pem_slice(&bytes(told)?).ok().map(|certificate| Fingerprint::of(&certificate))
}

/// An array of bytes: each in an element of its own and with a sign; in Base64 as another writes it.
fn bytes(told: &Element) -> Option<Vec<u8>> {
    if told.children.is_empty() {
        let text: String = told.text.split_whitespace().collect();
        let short = text.len() <= LARGEST * 2;
        return base64::engine::general_purpose::STANDARD.decode(text).ok().filter(|_| short);
    }
    if told.children.len() > LARGEST {
        return None;
    }
    let byte = |text: &str| match text.trim().parse::<i16>() {
        Ok(byte @ -128..=255) => u8::try_from(byte & 0xff).ok(),
        _ => None,
    };
    told.children.iter().map(|element| byte(&element.text)).collect()
}

/// Which addresses a vCenter's host may have: none that only this machine has, or a service of the network, whatever the vCenter calls
/// it; and none that the configuration does not allow. A vCenter on this very machine has its hosts there too.
fn allowed(own: &Url, further: Option<Allowed>) -> Allowed {
    let local = match own.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    Arc::new(move |address| {
        match web::reserved(address) {
            Some(whose) if !(local && address.to_canonical().is_loopback()) => {
                return Err(Fault::new(
                    "door.network",
                    format!("the vCenter calls {address} a host of its own, and that address is {whose}"),
                )
                .hint("look at that host's name and addresses in the vCenter"));
            }
            _ => {}
        }
        further.as_ref().map_or(Ok(()), |further| further(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pem: &str) -> Element {
        // As a vCenter writes them: signed.
        let byte = |byte: u8| Element::leaf("byte", i8::from_ne_bytes([byte]).to_string());
        Element::new("val").with_all(pem.bytes().map(byte))
    }

    #[test]
    fn a_certificate_is_read_as_it_is_told_and_nothing_else_is_one() {
        let signed = rcgen::generate_simple_self_signed(["esx1".to_owned()]).unwrap();
        let (pem, own) = (signed.cert.pem(), Some(Fingerprint::of(signed.cert.der())));
        assert_eq!(fingerprint(&told(&pem)), own);
        let authority = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem();
        assert_eq!(fingerprint(&told(&format!("of esx1\n{pem}{authority}"))), own, "the first is the host's");
        let base64 = base64::engine::general_purpose::STANDARD.encode(&pem);
        assert_eq!(fingerprint(&Element::leaf("val", base64)), own);
        for wrong in ["", "-----BEGIN CERTIFICATE-----\n", "AB:CD", &pem.replace("CERTIFICATE", "RSA PRIVATE KEY")] {
            assert_eq!(fingerprint(&told(wrong)), None, "{wrong}");
        }
        let mut wide = told(&pem);
        wide.children[0].text = "301".into();
        assert_eq!(fingerprint(&wide), None, "no byte");
        assert_eq!(fingerprint(&told(&"x".repeat(LARGEST + 1))), None);
    }

    #[test]
    fn no_host_of_a_vcenter_is_this_machine_or_a_metadata_service() {
        let vcenter = Url::parse("https://vcenter.example/sdk").unwrap();
        let local = Url::parse("https://127.0.0.1:8989/sdk").unwrap();
        let may = |own: &Url, address: &str| allowed(own, None)(address.parse().unwrap()).is_ok();
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
            assert!(!may(&vcenter, address), "{address}");
        }
        for address in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"] {
            assert!(!may(&vcenter, address) && !may(&local, address), "{address}");
        }
        assert!(may(&vcenter, "10.0.0.5") && may(&vcenter, "2001:db8::5"));
        assert!(may(&local, "127.0.0.1") && may(&local, "::1") && may(&local, "10.0.0.5"));
        assert!(may(&Url::parse("https://localhost/sdk").unwrap(), "127.0.0.1"));
        let only: Allowed = Arc::new(|_| Err(Fault::new("door.network", "outside")));
        assert_eq!(allowed(&vcenter, Some(only))("10.0.0.5".parse().unwrap()).unwrap_err().message(), "outside");
    }

    #[test]
    fn a_host_goes_by_its_names_and_addresses_alone() {
        let host = |text: &str| url::Host::parse(text).unwrap();
        assert!(means(&host("ESX1.example."), "esx1.Example") && !means(&host("esx1"), "esx1.example"));
        assert!(means(&host("10.0.0.5"), "10.0.0.5") && !means(&host("10.0.0.5"), "10.0.0.50"));
        assert!(means(&host("[fd00::5]"), "fd00:0:0::5") && means(&host("[::ffff:10.0.0.5]"), "10.0.0.5"));
        assert!(
            !means(&host("esx1"), "") && !means(&host("0x7f.1"), "0x7f.1"),
            "a name in the inventory is no address"
        );
    }
}
