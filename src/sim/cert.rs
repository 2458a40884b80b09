//! The host's certificate and its key: made once, kept beside the state, so that its fingerprint stays what was pinned; and the way to
//! one that somebody else signed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::state;
use crate::error::Fault;

/// The certificate that the host shows, with what it signed and its key.
pub struct Certificate {
    path: PathBuf,
    /// The certificate, those above it, and the key, as PEM.
    pem: String,
    chain: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub issuer: String,
    pub subject: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Certificate {
    /// Reads the certificate in `folder`, or makes one there.
    pub fn load(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join("certificate.pem");
        let pem = match std::fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = generate()?;
                state::write_private(&path, pem.as_bytes())?;
                pem
            }
            Err(error) => return Err(state::broken(&path, error)),
        };
        let read = Self::read(path.clone(), pem).and_then(|own| own.tls().map(|_| own));
        read.map_err(|why| state::broken(&path, why))
    }

    fn read(path: PathBuf, pem: String) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| error.to_string())?;
        match chain.is_empty() {
            true => Err("it holds no certificate".to_owned()),
            false => Ok(Self { path, pem, chain }),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(self.pem.as_bytes()).map_err(|error| error.to_string())
    }

    /// How the host speaks TLS with it. Errors: the key is another certificate's.
    pub fn tls(&self) -> Result<Arc<ServerConfig>, String> {
        let key = self.key()?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(self.chain.clone(), key))
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(config))
    }

    fn own(&self) -> &[u8] {
        self.chain.first().map_or(&[], |first| first.as_ref())
    }

    /// The SHA-256 of the certificate, as colon-separated hexadecimal.
    pub fn fingerprint(&self) -> String {
        colons(digest(&SHA256, self.own()).as_ref())
    }

    /// The SHA-1 of the certificate, by which the API names it.
    pub fn thumbprint(&self) -> String {
        colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.own()).as_ref())
    }

    /// The certificate alone, as PEM.
    pub fn public(&self) -> String {
        let end = "-----END CERTIFICATE-----";
        self.pem
            .find(end)
            .and_then(|at| self.pem.get(..at + end.len()))
            .map(|pem| format!("{pem}\n"))
            .unwrap_or_default()
    }

    pub fn said(&self) -> Result<Said, String> {
        let (_, parsed) = X509Certificate::from_der(self.own()).map_err(|error| error.to_string())?;
        let validity = parsed.validity();
        let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string());
        Ok(Said {
            issuer: plain(parsed.issuer()),
            subject: plain(parsed.subject()),
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
        })
    }

    /// Asks for a certificate over the key that is there: a signing request as PEM.
    pub fn request(&self, subject: DistinguishedName, names: Vec<SanType>) -> Result<String, String> {
        let key = KeyPair::try_from(&self.key()?).map_err(|error| error.to_string())?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.subject_alt_names = names;
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        request.map_err(|error| error.to_string())
    }

    /// Takes a certificate over the key that is there in place of this one, and keeps it. Errors: it is none, it is over another key, its
    /// time is not now, or it cannot be kept.
    pub fn replace(&mut self, pem: &str) -> Result<(), String> {
        let key = KeyPair::try_from(&self.key()?).map_err(|error| error.to_string())?;
        let chain = Self::read(self.path.clone(), pem.to_owned())?.chain;
        let shown: String = chain.iter().map(|one| armoured(one)).collect();
        let new = Self::read(self.path.clone(), format!("{shown}{}", key.serialize_pem()))?;
        new.tls()?;
        let (said, now) = (new.said()?, OffsetDateTime::now_utc());
        if now < said.not_before || now > said.not_after {
            return Err("it is not valid now".to_owned());
        }
        state::write_private(&new.path, new.pem.as_bytes()).map_err(|fault| fault.message().to_owned())?;
        *self = new;
        Ok(())
    }
}

fn armoured(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A name as the host writes it: `O=VMware,CN=host`.
fn plain(name: &X509Name<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let parts = name.iter_attributes().map(|part| {
        let kind = x509_parser::objects::oid2abbrev(part.attr_type(), registry);
        let kind = kind.map_or_else(|_| part.attr_type().to_id_string(), str::to_owned);
        format!("{kind}={}", part.as_str().unwrap_or_default())
    });
    parts.collect::<Vec<_>>().join(",")
}

/// The name of a host or its address, as a certificate lists it.
pub fn listed(name: &str) -> Result<SanType, String> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => name.to_owned().try_into().map(SanType::DnsName).map_err(|error: rcgen::Error| error.to_string()),
    }
}

fn generate() -> Result<String, Fault> {
    let failed = |error: rcgen::Error| {
        Fault::new("sim.certificate", "no certificate could be made for the simulator").cause(error)
    };
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new(names).map_err(failed)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "ceso SIMULATOR");
    subject.push(DnType::CommonName, "localhost");
    params.distinguished_name = subject;
    let key = KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&key).map_err(failed)?;
    Ok(format!("{}{}", made.pem(), key.serialize_pem()))
}

fn colons(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_over_another_key_is_refused_and_nothing_changes() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut certificate = Certificate::load(own.path()).unwrap();
        let before = certificate.fingerprint();
        let strange = Certificate::load(other.path()).unwrap().public();
        for wrong in [strange.as_str(), "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a\0b"] {
            assert!(certificate.replace(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(certificate.fingerprint(), before);
        assert_eq!(Certificate::load(own.path()).unwrap().fingerprint(), before);
        assert!(!certificate.public().contains("PRIVATE") && !format!("{certificate:?}").contains("BEGIN"));
        // Its own is over its own key.
        certificate.replace(&certificate.public()).unwrap();
        assert_eq!(Certificate::load(own.path()).unwrap().fingerprint(), before);
        assert_eq!(certificate.said().unwrap().subject, "O=ceso SIMULATOR,CN=localhost");
    }
}
