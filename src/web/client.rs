//! One request for what lies at a URL, with its redirects; each step is asked for by the rules and made by a verified connection.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, IF_RANGE, LOCATION, RANGE};
use reqwest::{Response, StatusCode};

use super::address::Address;
use super::allowed::{Allowed, Resolver};
use super::error::{Error, same};
use crate::error::Fault;
use crate::units::{Bytes, Span};

/// Says whether a URL may be asked for.
pub type Asked = Arc<dyn Fn(&Address) -> Result<(), Fault> + Send + Sync>;

/// Who may be asked.
#[derive(Clone)]
pub struct Rules {
    /// Whether a URL may be asked for; where its host is an address, whether that may be connected to.
    pub url: Asked,
    /// Whether an address may be connected to that a host's name leads to.
    pub address: Allowed,
}

/// How long a server may take, and how often it may send elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connect: Duration,
    /// From the request to the beginning of its answer.
    pub answer: Duration,
    /// Between two pieces of an answer.
    pub stall: Duration,
    /// In so much time of waiting this much must come.
    pub window: (Duration, Bytes),
    pub redirects: usize,
    /// How often what gets nowhere is tried again, and the first pause before it.
    pub tries: (u32, Duration),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            window: (Duration::from_secs(60), Bytes(256 << 10)),
            redirects: 5,
            tries: (5, Duration::from_secs(1)),
        }
    }
}

/// Fetches what lies at URLs, by one set of rules.
pub struct Web {
    client: reqwest::Client,
    rules: Rules,
    pub(super) limits: Limits,
}

/// The part of a file that is asked for: from a byte to a byte, both of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub from: u64,
    pub to: Option<u64>,
}

impl Web {
    /// Errors: `web.trust` where the system has no trusted certificates that can be used.
    pub fn new(rules: Rules, limits: Limits) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Trust { reason };
        let mut roots = rustls::RootCertStore::empty();
        // Some roots of an operating system cannot be parsed, and the rest must go on to work.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // Behind a proxy it could not be said which address is connected to.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .dns_resolver(Resolver(rules.address.clone()))
            .user_agent(concat!("ceso/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect)
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .map_err(|error| wrong(last_reason(&error)))?;
        Ok(Self { client, rules, limits })
    }

    /// Asks for a URL and goes where it is sent; the answer, and the URLs that it was sent to.
    pub(super) async fn ask(
        &self,
        first: &Address,
        part: Option<Piece>,
        unless_changed: Option<&str>,
    ) -> Result<(Response, Vec<Address>), Error> {
        let mut went: Vec<Address> = Vec::new();
        loop {
            let address = went.last().unwrap_or(first);
            (self.rules.url)(address).map_err(|fault| Error::Denied(Arc::new(fault)))?;
            let mut request = self.client.get(address.url().clone()).header(ACCEPT_ENCODING, "identity");
            if let Some(Piece { from, to }) = part {
                request =
                    request.header(RANGE, format!("bytes={from}-{}", to.map(|to| to.to_string()).unwrap_or_default()));
                if let Some(tag) = unless_changed {
                    request = request.header(IF_RANGE, tag);
                }
            }
            let answer = tokio::time::timeout(self.limits.answer, request.send()).await;
            let answer = answer.map_err(|_| Error::Unreachable {
                name: address.name(),
                reason: format!("no answer within {}", Span(self.limits.answer)),
            })?;
            let answer = answer.map_err(|error| self.failure(address, &error))?;
            if !is_redirect(answer.status()) {
                return check(address, answer).map(|answer| (answer, went));
            }
            let wrong = |reason: &str| Error::Answer { name: address.name(), reason: reason.to_owned() };
            if went.len() >= self.limits.redirects {
                return Err(wrong("it is redirected again and again"));
            }
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = address.follow(location.ok_or_else(|| wrong("a redirect that leads nowhere"))?)?;
            went.push(next);
        }
    }

    fn failure(&self, address: &Address, error: &reqwest::Error) -> Error {
        if let Some(fault) = find::<Fault>(error) {
            return Error::Denied(Arc::new(same(fault)));
        }
        let name = address.name();
        match find::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(reason)) => Error::Certificate { name, reason: reason.to_string() },
            _ => Error::Unreachable { name, reason: last_reason(error) },
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301..=303 | 307 | 308)
}

/// Refuses an answer that is not the file itself.
fn check(address: &Address, answer: Response) -> Result<Response, Error> {
    let status = answer.status().as_u16();
    if !matches!(status, 200 | 206 | 416) {
        return Err(match status {
            400..=599 => Error::Status { name: address.name(), status },
            _ => Error::Answer { name: address.name(), reason: format!("an answer of no use (HTTP {status})") },
        });
    }
    match answer.headers().get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Error::Answer {
            name: address.name(),
            reason: "it comes packed (Content-Encoding), which was not asked for".to_owned(),
        }),
        _ => Ok(answer),
    }
}

/// The error of that type among the causes, also behind those of a socket.
fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    for _ in 0..32 {
        let error = next?;
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The innermost cause: the outer ones repeat the URL, with its query.
pub(super) fn last_reason(error: &dyn StdError) -> String {
    let mut reason = "it failed".to_owned();
    let mut next = error.source();
    while let Some(source) = next {
        reason = source.to_string();
        next = source.source();
    }
    reason
}
