//! HTTP to one host: requests over kept connections, answers read up to a limit, everything counted.
//!
//! It knows neither sessions nor vim25. HTTP/1.1 only, no proxy from the environment, no redirects: a redirect would carry the session to
//! another machine. Specification: RFC 9112.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderValue, IF_RANGE, LOCATION, RANGE, SET_COOKIE};
use tokio::sync::Semaphore;
use url::Url;

use crate::metrics::HostLabel;
use crate::units::Span;

use super::error::Error;
use super::options::HostOptions;
use super::soap::Reply;
use super::trust::{LastRefusal, client_config};
use crate::web::Resolver;

/// The name of the cookie that is a session.
const SESSION_COOKIE: &str = "vmware_soap_session";

/// A file from a byte on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail<'a> {
    pub from: u64,
    /// The state of the file that it is the tail of, as the host says it: where there is another by now, all of that is wanted.
    pub unless_changed: Option<&'a str>,
}

/// What went over the wire so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub requests: AtomicU64,
    pub logins: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
}

pub(super) struct Transport {
    client: reqwest::Client,
    host: String,
    sdk: Url,
    versions: Url,
    limit: usize,
    connect_timeout: Duration,
    permits: Semaphore,
    most: AtomicUsize,
    refusal: Arc<LastRefusal>,
    pub(super) counters: Arc<Counters>,
    pub(super) label: HostLabel,
}

impl Transport {
    pub(super) fn new(options: &HostOptions) -> Result<Self, Error> {
        let host = options.name.clone();
        let invalid = |reason: String| Error::Invalid { reason, hint: Some("write it as https://HOST/sdk".to_owned()) };
        if options.url.scheme() != "https" || options.url.host_str().is_none_or(str::is_empty) {
            return Err(invalid(format!("the URL of host {host} is not an https one")));
        }
        let mut sdk = options.url.clone();
        // A name and a password in the URL would be printed with it: they are nobody's way to log in.
        if !sdk.username().is_empty() || sdk.password().is_some() {
            return Err(invalid(format!("the URL of host {host} carries a user name")));
        }
        sdk.set_query(None);
        sdk.set_fragment(None);
        if sdk.path() == "/" {
            sdk.set_path("/sdk");
        }
        let mut versions = sdk.clone();
        versions.set_path(&format!("{}/vimServiceVersions.xml", sdk.path().trim_end_matches('/')));
        let (tls, refusal) = client_config(&host, &options.trust)?;
        let mut builder = reqwest::Client::builder();
        if let Some(allowed) = &options.allowed {
            // A name goes through the resolver; an address in the URL is connected to as it stands.
            let literal = sdk.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']').parse());
            if let Some(Ok(address)) = literal {
                allowed(address).map_err(|fault| Error::Refused(Arc::new(fault)))?;
            }
            builder = builder.dns_resolver(Resolver(allowed.clone()));
        }
        let client = builder
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("ceso/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.timeouts.connect)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_max_idle_per_host(options.max_connections.max(1) + 1)
            .pool_idle_timeout(options.max_idle_time)
            .build()
            .map_err(|error| Error::TrustStore { host: host.clone(), reason: last_reason(&error) })?;
        Ok(Self {
            client,
            host,
            sdk,
            versions,
            limit: options.max_answer,
            connect_timeout: options.timeouts.connect,
            permits: Semaphore::new(options.max_connections.max(1)),
            most: AtomicUsize::new(options.max_connections.max(1)),
            refusal,
            counters: Arc::default(),
            label: HostLabel::new(&options.name),
        })
    }

    /// A way to another machine, of that name, whose traffic counts as this one's.
    pub(super) fn beside(&self, options: &HostOptions, host: &str) -> Result<Self, Error> {
        let (host, counters) = (host.to_owned(), self.counters.clone());
        Ok(Self { host, counters, ..Self::new(options)? })
    }

    /// How many requests may be under way at once, and how many are.
    pub(super) fn permits(&self) -> (usize, usize) {
        let most = self.most.load(Ordering::Relaxed);
        (most, most.saturating_sub(self.permits.available_permits()))
    }

    /// Has so many requests under way at most from now on; those that are, go on.
    pub(super) fn limit(&self, most: usize) {
        let most = most.max(1);
        let before = self.most.swap(most, Ordering::Relaxed);
        if most > before {
            self.permits.add_permits(most - before);
        } else {
            // What is in use now is not taken back: the bound is that much higher then.
            let kept = before - most - self.permits.forget_permits(before - most);
            self.most.fetch_add(kept, Ordering::Relaxed);
        }
    }

    /// The URL that requests go to.
    pub(super) fn url(&self) -> &Url {
        &self.sdk
    }

    /// Fetches the list of API versions; no session is needed.
    pub(super) async fn get_versions(&self, timeout: Duration) -> Result<Reply, Error> {
        let _permit = self.permits.acquire().await;
        let began = Instant::now();
        let result = self.exchange(self.client.get(self.versions.clone()), 0, timeout).await;
        self.count("vimServiceVersions", &result, began);
        result
    }

    /// Sends one envelope. A wait for updates takes no permit, or a few waits would stop everything else.
    pub(super) async fn post(
        &self,
        envelope: Bytes,
        version: &str,
        cookie: Option<&str>,
        timeout: Duration,
        waits: bool,
    ) -> Result<Reply, Error> {
        let _permit = if waits { None } else { self.permits.acquire().await.ok() };
        let sent = envelope.len() as u64;
        let mut request = self
            .client
            .post(self.sdk.clone())
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("SOAPAction", format!("\"urn:vim25/{version}\""))
            .body(envelope);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, self.session(cookie)?);
        }
        self.exchange(request, sent, timeout).await
    }

    /// Uploads a file.
    pub(super) async fn put(
        &self,
        url: Url,
        cookie: Option<&str>,
        content: Bytes,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let _permit = self.permits.acquire().await.ok();
        let sent = content.len() as u64;
        let mut request = self.client.put(url).header(CONTENT_TYPE, "application/octet-stream").body(content);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, self.session(cookie)?);
        }
        self.exchange(request, sent, timeout).await
    }

    pub(super) fn folder_url(&self, datacenter: &str, datastore: &str, path: &str) -> Url {
        let mut url = self.sdk.clone();
        url.set_path("/folder");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.split('/'));
        }
        url.query_pairs_mut().append_pair("dcPath", datacenter).append_pair("dsName", datastore);
        url
    }

    /// Asks for a file and reads the head of the answer.
    pub(super) async fn open(
        &self,
        method: reqwest::Method,
        url: &Url,
        cookie: Option<&str>,
        tail: Option<Tail<'_>>,
        label: &'static str,
        timeout: Duration,
    ) -> Result<reqwest::Response, Error> {
        let _permit = self.permits.acquire().await.ok();
        let mut request = self.client.request(method, url.clone());
        if let Some(tail) = tail {
            request = request.header(RANGE, format!("bytes={}-", tail.from));
            if let Some(state) = tail.unless_changed {
                request = request.header(IF_RANGE, state);
            }
        }
        if let Some(cookie) = cookie.filter(|_| self.is_own(url)) {
            request = request.header(COOKIE, self.session(cookie)?);
        }
        let began = Instant::now();
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let answer = match tokio::time::timeout(timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.failure(&error, timeout)),
            Err(_) => Err(Error::Timeout { host: self.host.clone(), after: Span(timeout) }),
        };
        self.count_status(label, answer.as_ref().map(|response| response.status().as_u16()), began);
        answer
    }

    /// Sends a file, in chunks where its length is not known; how long that takes is the caller's to judge.
    pub(super) async fn send_file(
        &self,
        url: &Url,
        cookie: Option<&str>,
        label: &'static str,
        length: Option<u64>,
        body: reqwest::Body,
    ) -> Result<u16, Error> {
        let _permit = self.permits.acquire().await.ok();
        let mut request = self.client.put(url.clone()).header(CONTENT_TYPE, "application/octet-stream").body(body);
        // Without one it goes in chunks.
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        if let Some(cookie) = cookie.filter(|_| self.is_own(url)) {
            request = request.header(COOKIE, self.session(cookie)?);
        }
        let began = Instant::now();
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let answer = request.send().await.map_err(|error| self.failure(&error, Duration::ZERO));
        let status = answer.map(|response| response.status().as_u16());
        self.count_status(label, status.as_ref().map(|status| *status), began);
        if let (Ok(_), Some(length)) = (&status, length) {
            self.counters.bytes_sent.fetch_add(length, Ordering::Relaxed);
            self.label.bytes(length, 0);
        }
        status
    }

    pub(super) fn count_received(&self, bytes: u64) {
        self.counters.bytes_received.fetch_add(bytes, Ordering::Relaxed);
        self.label.bytes(0, bytes);
    }

    /// Whether a URL leads to this very host: the session goes nowhere else.
    fn is_own(&self, url: &Url) -> bool {
        let of = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default());
        of(url) == of(&self.sdk)
    }

    fn session(&self, cookie: &str) -> Result<HeaderValue, Error> {
        let value = HeaderValue::from_str(&format!("{SESSION_COOKIE}={cookie}"));
        let mut value = value.map_err(|_| Error::BadAnswer {
            host: self.host.clone(),
            reason: "a session cookie that cannot be sent back".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn exchange(&self, request: reqwest::RequestBuilder, sent: u64, timeout: Duration) -> Result<Reply, Error> {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_sent.fetch_add(sent, Ordering::Relaxed);
        self.label.bytes(sent, 0);
        let failed = |error: reqwest::Error| self.failure(&error, timeout);
        let mut response = request.timeout(timeout).send().await.map_err(failed)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut reply = Reply {
            status: response.status().as_u16(),
            content_type: header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase(),
            location: header(LOCATION),
            cookie: response.headers().get_all(SET_COOKIE).iter().find_map(session_cookie),
            body: Vec::new(),
        };
        let too_large = |bytes: u64| Error::BadAnswer {
            host: self.host.clone(),
            reason: format!("an answer of more than {bytes} bytes, with a limit of {}", self.limit),
        };
        if let Some(length) = response.content_length() {
            let length = usize::try_from(length).ok().filter(|length| *length <= self.limit);
            reply.body.reserve_exact(length.ok_or_else(|| too_large(self.limit as u64))?);
        }
        loop {
            let chunk = response.chunk().await.map_err(|error| match error.is_timeout() {
                true => self.failure(&error, timeout),
                false => Error::BadAnswer {
                    host: self.host.clone(),
                    reason: format!("it was cut off after {} bytes ({})", reply.body.len(), last_reason(&error)),
                },
            })?;
            let Some(chunk) = chunk else { break };
            self.counters.bytes_received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            self.label.bytes(0, chunk.len() as u64);
            if reply.body.len() + chunk.len() > self.limit {
                return Err(too_large(self.limit as u64));
            }
            reply.body.extend_from_slice(&chunk);
        }
        Ok(reply)
    }

    /// Counts a request that has ended; what the host made of it is said by its answer.
    pub(super) fn count(&self, method: &'static str, result: &Result<Reply, Error>, began: Instant) {
        self.count_status(method, result.as_ref().map(|reply| reply.status), began);
    }

    fn count_status(&self, method: &'static str, result: Result<u16, &Error>, began: Instant) {
        let outcome = match result {
            Ok(status) if status < 400 => "answered",
            Ok(_) => "fault",
            Err(Error::Timeout { .. }) => "timeout",
            Err(Error::Lost { .. }) => "lost",
            Err(Error::Unreachable { .. }) => "unreachable",
            Err(_) => "refused",
        };
        let took = began.elapsed();
        tracing::debug!(host = %self.host, method, outcome, ?took, "a request has ended");
        self.label.request(method, outcome, took);
    }

    fn failure(&self, error: &reqwest::Error, timeout: Duration) -> Error {
        let host = self.host.clone();
        if error.is_connect() {
            return match self.refusal.get() {
                Some(refusal) => refusal.into_error(&host),
                None if error.is_timeout() => {
                    Error::Unreachable { host, reason: format!("no connection within {}", Span(self.connect_timeout)) }
                }
                None => Error::Unreachable { host, reason: last_reason(error) },
            };
        }
        if error.is_timeout() {
            return Error::Timeout { host, after: Span(timeout) };
        }
        Error::Lost { host, reason: last_reason(error) }
    }
}

/// The innermost cause, for people: the outer ones only repeat the URL.
pub(super) fn last_reason(error: &dyn StdError) -> String {
    let mut reason = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        reason = source.to_string();
        next = source.source();
    }
    reason
}

/// The value of the session cookie out of a `Set-Cookie` header, verbatim, with its quotes.
fn session_cookie(header: &HeaderValue) -> Option<String> {
    let text = header.to_str().ok()?;
    let pair = text.split(';').next()?;
    let (name, value) = pair.split_once('=')?;
    (name.trim() == SESSION_COOKIE && !value.trim().is_empty()).then(|| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_keeps_its_quotes() {
        let header = HeaderValue::from_static("vmware_soap_session=\"52ab-cd\"; Path=/; HttpOnly; Secure;");
        assert_eq!(session_cookie(&header).as_deref(), Some("\"52ab-cd\""));
        assert_eq!(session_cookie(&HeaderValue::from_static("other=1")), None);
        assert_eq!(session_cookie(&HeaderValue::from_static("vmware_soap_session=")), None);
    }
}
