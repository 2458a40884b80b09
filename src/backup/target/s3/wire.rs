//! HTTP to a bucket's server: TLS, signatures, time limits, pace.
//!
//! Reading, listing and deleting go through `object_store`, over a connection that keeps the pace. Writing does not: its client holds a
//! body in memory and asks again on its own after an answer that was lost, and neither fits a pack of 64 MiB that must be created once.
//! So a write is signed by the same crate and sent from here, streamed from its file, exactly once for each call.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::{Body, Method};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::{OffsetDateTime, UtcDateTime};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use url::Url;

use super::answer::{self, Refusal};
use super::bounds::{Bounded, LONGEST_ERROR, LONGEST_LIST, Slowest};
use super::pace::Pace;
use crate::backup::error::{Error, Result};
use crate::backup::place::{Access, Lock, LockMode};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long nothing may move.
const STALL: Duration = Duration::from_secs(60);

/// How often and how long something is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub attempts: u32,
    pub first: Duration,
    pub longest: Duration,
    /// After this time nothing is asked again.
    pub whole: Duration,
    /// How slow an answer may be, and a file that is sent.
    pub slowest: Slowest,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 12,
            first: Duration::from_millis(200),
            longest: Duration::from_secs(15),
            whole: Duration::from_secs(3 * 60),
            slowest: Slowest::default(),
        }
    }
}

impl Patience {
    /// For the first request of all: who waits for it may have written a wrong address.
    pub fn brief(self) -> Self {
        Self {
            attempts: self.attempts.min(4),
            longest: self.longest.min(Duration::from_secs(2)),
            whole: Duration::from_secs(20),
            ..self
        }
    }

    /// The pause before the `n`th repetition, with jitter: clients that failed together must not come back together.
    pub fn pause(&self, n: u32) -> Duration {
        let most = self.first.saturating_mul(1 << n.min(16)).min(self.longest);
        let mut random = [0; 4];
        // Without randomness the pause is only less spread.
        let share =
            getrandom::fill(&mut random).map_or(1.0, |()| f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX));
        most.mul_f64(0.5 + share / 2.0)
    }
}

/// The bytes of a write.
#[derive(Clone)]
pub enum Payload {
    Bytes(Bytes),
    File { path: PathBuf, size: u64 },
}

impl Payload {
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

/// A connection to one bucket.
pub struct Wire {
    /// For writes: without a limit for the time until the answer, which counts from the first byte that is sent.
    http: reqwest::Client,
    base: Url,
    server: String,
    credential: AwsCredential,
    region: String,
    pub pace: Arc<Pace>,
    slowest: Slowest,
}

impl Wire {
    /// Makes the connection and the client for all that is no write.
    pub fn new(bucket: &str, access: &Access, patience: Patience) -> Result<(Self, AmazonS3)> {
        let region = access.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Error::Option("a region has letters, digits and \"-\"".to_owned()));
        }
        let base = address(bucket, &region, access)?;
        let server = access.endpoint.clone().unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let server = server.trim_end_matches('/').to_ascii_lowercase();
        let keys =
            access.keys.as_ref().ok_or_else(|| Error::Option("a bucket needs keys: none are given".to_owned()))?;
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        for (what, secret) in
            [("key's id", Some(&keys.id)), ("secret key", Some(&keys.secret)), ("session token", keys.token.as_ref())]
        {
            // What cannot stand in a header would end the client's own thread.
            if secret.is_some_and(|secret| !visible(secret.expose_secret())) {
                return Err(Error::Option(format!(
                    "the {what} of the bucket is empty, or holds blanks or other characters that no key has"
                )));
            }
        }
        let credential = || AwsCredential {
            key_id: keys.id.expose_secret().to_owned(),
            secret_key: keys.secret.expose_secret().to_owned(),
            token: keys.token.as_ref().map(|token| token.expose_secret().to_owned()),
        };
        let pace = Arc::new(Pace::new(access.requests_per_second, access.bytes_per_second));
        let tls = tls(access.ca.as_deref())?;
        let reading = HttpClient::new(client(&base, tls.clone(), Some(STALL))?);
        // Who keeps bytes back for the pace is not slow.
        let slowest = Slowest { floor: pace.floor(patience.slowest.floor), ..patience.slowest };
        let paced = Paced { inner: reading, pace: Arc::clone(&pace), slowest };
        let connector = Connector { client: HttpClient::new(paced) };
        let store = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&region)
            // With this the endpoint is taken as it stands, with the bucket's name wherever it is.
            .with_virtual_hosted_style_request(true)
            .with_endpoint(base.as_str().trim_end_matches('/'))
            .with_credentials(Arc::new(object_store::StaticCredentialProvider::new(credential())))
            .with_http_connector(connector)
            .with_retry(RetryConfig {
                backoff: BackoffConfig { init_backoff: patience.first, max_backoff: patience.longest, base: 2.0 },
                max_retries: patience.attempts as usize / 2,
                retry_timeout: patience.whole,
            })
            .build()
            .map_err(|error| Error::Option(format!("the bucket {bucket} cannot be used: {error}")))?;
        let wire =
            Self { http: client(&base, tls, None)?, base, server, credential: credential(), region, pace, slowest };
        Ok((wire, store))
    }

    /// Sends a file that must not exist yet. `digest` is the SHA-256 of its bytes.
    pub async fn create(
        &self,
        key: &str,
        payload: &Payload,
        digest: [u8; 32],
        lock: Option<Lock>,
    ) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(payload.size()));
        if let Some(lock) = lock {
            self.locks(&mut headers, lock, digest)?;
        }
        self.pace.request().await;
        let moved = Arc::new(Moved::default());
        let body = match payload {
            Payload::Bytes(bytes) => {
                self.pace.bytes(bytes.len() as u64).await;
                Body::from(bytes.clone())
            }
            Payload::File { path, size } => self.stream(path, *size, &moved).await.map_err(Refusal::Final)?,
        };
        // A name has no character that a path would escape.
        let url = Url::parse(&format!("{}/{key}", self.base.as_str().trim_end_matches('/'))).map_err(final_error)?;
        let answer = self.signed(Method::PUT, url, headers, body, digest, &moved).await?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        Err(answer::judge(status, &text(answer).await))
    }

    fn locks(&self, headers: &mut HeaderMap, lock: Lock, digest: [u8; 32]) -> Result<(), Refusal> {
        use base64::Engine as _;
        let until = UtcDateTime::now() + lock.time;
        let until = until
            .to_offset(time::UtcOffset::UTC)
            .replace_nanosecond(0)
            .ok()
            .and_then(|until| until.format(&Rfc3339).ok());
        let until = until
            .ok_or_else(|| Refusal::Final(io::Error::other("the lock would end in no year that can be written")))?;
        let mode = match lock.mode {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        };
        let checksum = base64::engine::general_purpose::STANDARD.encode(digest);
        for (name, value) in [
            ("x-amz-object-lock-mode", mode.to_owned()),
            ("x-amz-object-lock-retain-until-date", until),
            // A lock is taken with a checksum of the request's own only.
            ("x-amz-checksum-sha256", checksum),
            ("x-amz-sdk-checksum-algorithm", "SHA256".to_owned()),
        ] {
            let value = HeaderValue::from_str(&value).map_err(final_error)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(())
    }

    /// The server: `https://HOST[:PORT]`, and the path before the bucket's name where there is one.
    pub fn server(&self) -> String {
        self.server.clone()
    }

    /// Asks for a list of one name: whether the server, the bucket and the keys are what they should be. Gives the server's time.
    pub async fn greet(&self) -> Result<SystemTime, Refusal> {
        self.pace.request().await;
        let digest = Sha256::digest(b"").into();
        let moved = Arc::new(Moved::default());
        let mut url = self.base.clone();
        url.set_query(Some("list-type=2&max-keys=1"));
        let answer = self.signed(Method::GET, url, HeaderMap::new(), Body::from(Bytes::new()), digest, &moved).await?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(answer::judge(status, &text(answer).await));
        }
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
        let date = date.map(SystemTime::from).ok_or_else(|| final_error("the server's answer says no time (Date)"))?;
        // The connection is kept only where the answer was read.
        text(answer).await;
        Ok(date)
    }

    async fn signed(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Body,
        digest: [u8; 32],
        moved: &Moved,
    ) -> Result<reqwest::Response, Refusal> {
        let mut signing = HttpRequest::new(HttpRequestBody::empty());
        *signing.method_mut() = method.clone();
        *signing.uri_mut() = url.as_str().parse().map_err(final_error)?;
        *signing.headers_mut() = headers;
        AwsAuthorizer::new(&self.credential, "s3", &self.region)
            .try_authorize(&mut signing, Some(&digest))
            .map_err(|error| Refusal::Final(io::Error::other(answer::last_cause(&error))))?;
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = std::mem::take(signing.headers_mut());
        *request.body_mut() = Some(body);
        let sent = self.http.execute(request);
        let stalled = async {
            loop {
                let last = moved.last();
                tokio::time::sleep_until((last + STALL).min(Instant::now() + self.slowest.after)).await;
                if moved.last() + STALL <= Instant::now() {
                    return format!("nothing moved for {} s", STALL.as_secs());
                }
                if moved.is_slow(self.slowest) {
                    return self.slowest.told().to_string();
                }
            }
        };
        tokio::select! {
            sent = sent => sent.map_err(|error| {
                let kind = if error.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::ConnectionAborted };
                Refusal::Unclear(io::Error::new(kind, answer::last_cause(&error)))
            }),
            why = stalled => Err(Refusal::Unclear(io::Error::new(io::ErrorKind::TimedOut, why))),
        }
    }

    /// A file as a body, a piece in memory at a time.
    async fn stream(&self, path: &std::path::Path, size: u64, moved: &Arc<Moved>) -> io::Result<Body> {
        let file = tokio::fs::File::open(path).await?;
        let state = (file, size, Arc::clone(&self.pace), Arc::clone(moved));
        let pieces = futures_util::stream::try_unfold(state, |(mut file, left, pace, moved)| async move {
            moved.on(0);
            if left == 0 {
                moved.all();
                return Ok::<_, io::Error>(None);
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(pace.piece());
            let mut piece = vec![0; length];
            file.read_exact(&mut piece).await?;
            pace.bytes(length as u64).await;
            moved.on(length as u64);
            Ok(Some((Bytes::from(piece), (file, left - length as u64, pace, moved))))
        });
        Ok(Body::wrap_stream(pieces))
    }
}

fn final_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
    Refusal::Final(io::Error::other(error))
}

/// When something moved last, and how much so far.
struct Moved {
    began: Instant,
    after: AtomicU64,
    bytes: AtomicU64,
    /// Whether there is nothing more to send.
    whole: AtomicBool,
}

impl Default for Moved {
    fn default() -> Self {
        let (after, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began: Instant::now(), after, bytes, whole: AtomicBool::new(false) }
    }
}

impl Moved {
    fn on(&self, bytes: u64) {
        self.after.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn all(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    /// Whether a file that is sent in pieces goes too slowly. What goes as one piece has not begun to be counted, and stalls or does not.
    fn is_slow(&self, slowest: Slowest) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        bytes > 0 && !self.whole.load(Ordering::Relaxed) && slowest.is_passed(bytes, self.began.elapsed())
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.after.load(Ordering::Relaxed))
    }
}

async fn text(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    let end = Instant::now() + STALL;
    // An error's text that is cut is judged by its status.
    while let Ok(Ok(Some(piece))) = tokio::time::timeout_at(end, answer.chunk()).await {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > LONGEST_ERROR {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The address under which the bucket's names lie.
fn address(bucket: &str, region: &str, access: &Access) -> Result<Url> {
    let wrong = |what: &str| Error::Option(format!("the bucket's endpoint {what}"));
    let usual;
    let endpoint = match &access.endpoint {
        Some(endpoint) => endpoint.as_str(),
        None => {
            usual = format!("https://s3.{region}.amazonaws.com");
            &usual
        }
    };
    let mut url = Url::parse(endpoint).map_err(|_| wrong("is no address: write https://HOST[:PORT]"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or a password: keys are given beside it"));
    }
    if url.query().is_some() || url.fragment().is_some() || url.host_str().unwrap_or_default().is_empty() {
        return Err(wrong("is no address: write https://HOST[:PORT]"));
    }
    match url.scheme() {
        "https" => {}
        "http" if access.plain_http || is_loopback(&url) => {}
        "http" => return Err(wrong("is without TLS: write https://, or allow it with plain_http")),
        _ => return Err(wrong("is neither https:// nor http://")),
    }
    let path_style = access.path_style.unwrap_or(access.endpoint.is_some() || bucket.contains('.'));
    let path = url.path().trim_end_matches('/').to_owned();
    if path_style {
        url.set_path(&format!("{path}/{bucket}"));
    } else {
        let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|_| wrong("cannot have the bucket's name before it: use path_style"))?;
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn tls(ca: Option<&[u8]>) -> Result<rustls::ClientConfig> {
    let wrong = |what: String| Error::Option(format!("TLS to the bucket's server: {what}"));
    let mut roots = rustls::RootCertStore::empty();
    let certificates = match ca {
        Some(pem) => CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(format!("the file of authorities cannot be read: {error}")))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    // Some roots of an operating system cannot be parsed, and the rest must go on to work.
    roots.add_parsable_certificates(certificates);
    if ca.is_some() && roots.is_empty() {
        return Err(wrong("the file of authorities holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn client(base: &Url, tls: rustls::ClientConfig, read: Option<Duration>) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // A redirect would carry the signature to another machine.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("ceso/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .http1_only()
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        // Servers close connections that idle, some after 20 s.
        .pool_idle_timeout(Duration::from_secs(15));
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    if let Some(read) = read {
        builder = builder.read_timeout(read);
    }
    builder.build().map_err(|error| {
        Error::Option(format!("no connection to the bucket's server can be made: {}", answer::last_cause(&error)))
    })
}

/// Gives `object_store` the connection that was made here.
#[derive(Debug)]
struct Connector {
    client: HttpClient,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client.clone())
    }
}

/// A connection that keeps the pace, and bounds what comes.
#[derive(Debug)]
struct Paced {
    inner: HttpClient,
    pace: Arc<Pace>,
    slowest: Slowest,
}

impl HttpService for Paced {
    fn call<'service, 'call>(
        &'service self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'service: 'call,
        Self: 'call,
    {
        Box::pin(async move {
            self.pace.request().await;
            // A file is bounded by who reads it, who knows how long it is.
            let is_file = request.method() == Method::GET && request.uri().query().is_none();
            let answer = self.inner.execute(request).await?;
            let length = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            self.pace.came(length.unwrap_or(0));
            let (most, cut) = match answer.status().is_success() {
                false => (LONGEST_ERROR, true),
                true if is_file => (u64::MAX, false),
                true => (LONGEST_LIST, false),
            };
            Ok(answer.map(|body| HttpResponseBody::new(Bounded::new(body, self.slowest, most, cut))))
        })
    }
}
