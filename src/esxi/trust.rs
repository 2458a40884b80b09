//! Whom a host's certificate makes it: system roots, a CA file, or one pinned SHA-256 fingerprint.
//!
//! Both verifiers also check the signature of the handshake, or a stolen certificate without its key would do. What was refused is
//! kept as a value beside the handshake, so that no error text has to be read. Specification: RFC 8446, RFC 5280.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use url::Url;

use crate::config::Fingerprint;

use super::error::Error;
use super::options::Trust;

/// Why a certificate was refused.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    Changed { expected: Fingerprint, seen: Fingerprint },
    Untrusted { seen: Fingerprint, reason: String },
}

impl Refusal {
    pub(super) fn into_error(self, host: &str) -> Error {
        let host = host.to_owned();
        match self {
            Self::Changed { expected, seen } => Error::CertificateChanged { host, expected, seen },
            Self::Untrusted { seen, reason } => Error::CertificateUntrusted { host, seen, reason },
        }
    }
}

/// The last refusal of a verifier; the handshake's own error does not carry it through the HTTP client.
#[derive(Debug, Default)]
pub(super) struct LastRefusal(Mutex<Option<Refusal>>);

impl LastRefusal {
    pub(super) fn get(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, refusal: Option<Refusal>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

/// Makes the TLS side of a client, and the place where its refusals are kept.
pub(super) fn client_config(host: &str, trust: &Trust) -> Result<(ClientConfig, Arc<LastRefusal>), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refusal = Arc::new(LastRefusal::default());
    let wrong = |reason: String| Error::TrustStore { host: host.to_owned(), reason };
    let rule = match trust {
        Trust::Fingerprint(expected) => Rule::Pinned(*expected),
        Trust::System => {
            let loaded = rustls_native_certs::load_native_certs();
            let roots = store(loaded.certs);
            if roots.is_empty() {
                return Err(wrong("the operating system has no trusted certificates".to_owned()));
            }
            Rule::Roots(web_pki(roots, &provider).map_err(wrong)?)
        }
        Trust::CaFile(path) => {
            let certificates: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
            let certificates = certificates.map_err(|error| wrong(format!("{}: {error}", path.display())))?;
            let roots = store(certificates);
            if roots.is_empty() {
                return Err(wrong(format!("{} holds no certificate that can be used", path.display())));
            }
            Rule::Roots(web_pki(roots, &provider).map_err(wrong)?)
        }
    };
    let config = with_rule(rule, refusal.clone(), provider).map_err(|error| wrong(error.to_string()))?;
    Ok((config, refusal))
}

/// The TLS side of a client that takes any certificate: for asking whether something answers, and sending it nothing secret.
pub(super) fn any_certificate() -> Result<ClientConfig, rustls::Error> {
    with_rule(Rule::Look(Arc::default()), Arc::default(), Arc::new(rustls::crypto::ring::default_provider()))
}

fn store(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Roots that cannot be parsed are left out: an operating system's store has some, and the rest must go on to work.
    roots.add_parsable_certificates(certificates);
    roots
}

fn web_pki(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| error.to_string())
}

fn with_rule(
    rule: Rule,
    refusal: Arc<LastRefusal>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier { rule, refusal, provider: provider.clone() };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

#[derive(Debug)]
enum Rule {
    Pinned(Fingerprint),
    Roots(Arc<WebPkiServerVerifier>),
    /// Takes any certificate and keeps it: for looking at one before it is trusted. Nothing secret is sent over it.
    Look(Arc<Mutex<Option<CertificateDer<'static>>>>),
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    refusal: Arc<LastRefusal>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity);
        let result = match &self.rule {
            Rule::Pinned(expected) if *expected == seen => Ok(()),
            Rule::Pinned(expected) => Err((
                Refusal::Changed { expected: *expected, seen },
                rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure),
            )),
            Rule::Roots(roots) => roots
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map(|_| ())
                .map_err(|error| (Refusal::Untrusted { seen, reason: error.to_string() }, error)),
            Rule::Look(kept) => {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
                Ok(())
            }
        };
        match result {
            Ok(()) => {
                self.refusal.set(None);
                Ok(ServerCertVerified::assertion())
            }
            Err((refusal, error)) => {
                self.refusal.set(Some(refusal));
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a host's certificate says, for a person who decides whether to trust it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub fingerprint: Fingerprint,
    /// The subject's distinguished name; empty where the certificate cannot be read.
    pub subject: String,
    pub issuer: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// RFC 2822 dates.
    pub not_before: String,
    pub not_after: String,
}

/// Fetches a host's certificate without trusting it; nothing but the handshake is sent.
///
/// Errors: `esxi.unreachable`, `esxi.timeout`, `esxi.not_a_host` where no TLS is spoken.
pub async fn probe_certificate(url: &Url, timeout: Duration) -> Result<Certificate, Error> {
    let name = url.host_str().unwrap_or_default().to_owned();
    let der = tokio::time::timeout(timeout, fetch_certificate(url, &name))
        .await
        .map_err(|_| Error::Timeout { host: name.clone(), after: crate::units::Span(timeout) })??;
    Ok(describe(&der))
}

async fn fetch_certificate(url: &Url, name: &str) -> Result<CertificateDer<'static>, Error> {
    let unreachable = |reason: String| Error::Unreachable { host: name.to_owned(), reason };
    let not_tls =
        |reason: String| Error::NotAHost { host: name.to_owned(), seen: format!("no TLS is spoken ({reason})") };
    let port = url.port_or_known_default().unwrap_or(443);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let server = ServerName::try_from(bare.to_owned()).map_err(|error| unreachable(error.to_string()))?;
    let kept = Arc::new(Mutex::new(None));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        with_rule(Rule::Look(kept.clone()), Arc::default(), provider).map_err(|error| not_tls(error.to_string()))?;
    let tcp = tokio::net::TcpStream::connect((bare, port)).await.map_err(|error| unreachable(error.to_string()))?;
    let shaken = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(server, tcp).await;
    let seen = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, shaken) {
        (Some(certificate), Ok(_)) => Ok(certificate),
        (_, Err(error)) => Err(not_tls(error.to_string())),
        (None, Ok(_)) => Err(not_tls("no certificate was shown".to_owned())),
    }
}

fn describe(der: &[u8]) -> Certificate {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let fingerprint = Fingerprint::of(der);
    let unread = || "(cannot be read)".to_owned();
    // The fingerprint is what is trusted; the rest is for people, so a certificate that cannot be read is shown all the same.
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        let (subject, issuer) = (unread(), unread());
        return Certificate { fingerprint, subject, issuer, names: vec![], not_before: unread(), not_after: unread() };
    };
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let date = |date: x509_parser::time::ASN1Time| date.to_rfc2822().unwrap_or_else(|_| unread());
    Certificate {
        fingerprint,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names,
        not_before: date(certificate.validity().not_before),
        not_after: date(certificate.validity().not_after),
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_people_paste_it() {
        let fingerprint = Fingerprint::of(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 95);
        for form in [text.clone(), text.to_lowercase(), text.replace(':', ""), format!(" SHA256:{text}\n")] {
            assert_eq!(form.parse(), Ok(fingerprint), "{form}");
        }
        for wrong in ["", "AB:CD", &text[3..], &format!("{text}:00"), &text.replace('A', "G"), "sha256:", "🦀🦀🦀"]
        {
            assert!(wrong == text || wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_read_still_has_a_fingerprint() {
        let certificate = describe(b"\x30\x82rubbish");
        assert_eq!(certificate.fingerprint, Fingerprint::of(b"\x30\x82rubbish"));
        assert_eq!(certificate.subject, "(cannot be read)");
    }
}
