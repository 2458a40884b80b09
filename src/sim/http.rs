//! Sockets, TLS and routes: which request goes where. It understands no SOAP and no files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::dispatch::Instead;
use super::esx::upkeep;
use super::faults::Trouble;
use super::schema::VERSIONS;
use super::server::Host;
use super::{control, datastore, dispatch, guest, lease, soap, vm};

pub type Body = BoxBody<Bytes, std::io::Error>;

/// A client has this long for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A kept connection may rest this long before the next request's head has come.
const IDLE: Duration = Duration::from_secs(600);
/// A request's body must be here after this long: what trickles in holds one of the connections.
const BODY: Duration = Duration::from_secs(60);
/// So much of an upload is read before it is refused on demand.
const REST: usize = 64 << 20;
/// Requests under way have this long when the simulator stops.
const GRACE: Duration = Duration::from_millis(200);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 512;

/// What is known of a request beside its body.
#[derive(Debug)]
pub struct Head {
    pub cookie: Option<String>,
    pub ticket: Option<String>,
    pub action: Option<String>,
    pub address: String,
    pub agent: String,
}

/// Takes connections until `stopped` turns true, then waits a moment for those that are there.
pub async fn accept(listener: TcpListener, host: Arc<Host>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let watched = stopped.clone();
    loop {
        let room = connections.len() < CONNECTIONS;
        tokio::select! {
            () = stopping(&mut stopped) => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) if host.is_away() => drop(stream),
                Ok((stream, peer)) => {
                    host.connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let serving = serve(stream, peer, TlsAcceptor::from(host.tls()), Arc::clone(&host), watched.clone());
                    connections.spawn(serving);
                }
                // Out of file descriptors, for example: others will be closed.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
        }
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_gone).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    host: Arc<Host>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut cuts = host.cuts.subscribe();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // A client that does not trust the certificate ends here, as does a plain HTTP one.
        Ok(Err(error)) => return tracing::debug!(%error, "no TLS with a client"),
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let host = Arc::clone(&host);
        async move { guarded(request, peer, host).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopping(&mut stopped) => None,
        // Cut as it is, with whatever was under way on it.
        _ = cuts.changed() => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn stopping(stopped: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is the end too.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// A panic while answering is a bug of the simulator, and must still be an answer.
async fn guarded(request: Request<Incoming>, peer: SocketAddr, host: Arc<Host>) -> Result<Response<Body>, Dropped> {
    let answer = std::panic::AssertUnwindSafe(route(request, peer, host)).catch_unwind();
    let failed = |_| Ok(status(StatusCode::INTERNAL_SERVER_ERROR, "The simulator failed on this request."));
    answer.await.unwrap_or_else(failed)
}

/// The connection is to be closed without an answer: somebody asked for that.
#[derive(Debug, thiserror::Error)]
#[error("the connection was dropped on demand")]
pub struct Dropped;

async fn route(request: Request<Incoming>, peer: SocketAddr, host: Arc<Host>) -> Result<Response<Body>, Dropped> {
    if host.down.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(Dropped);
    }
    let head = head(&request, peer);
    let path = request.uri().path().to_owned();
    let mut drops = false;
    let mut late = Duration::ZERO;
    let mut trouble = datastore::folder::Trouble { ranges: host.options.ranges, dates: host.options.dates, cut: None };
    let place = match path.as_str() {
        "/folder" => Some("folder"),
        path if path.starts_with("/folder/") => Some("folder"),
        path if path.starts_with("/nfc/") => Some("nfc"),
        _ => None,
    };
    if let Some(place) = place {
        match host.faults.due(&format!("{} {place}", request.method())).map(|caught| caught.trouble) {
            None | Some(Trouble::Fault { .. } | Trouble::LeaveDelta | Trouble::Lie(_) | Trouble::Ask(_)) => {}
            Some(Trouble::Fill(left)) => host.fill_for_now(left),
            Some(Trouble::Late(delay)) => late = delay,
            Some(Trouble::Partition(away)) => {
                host.cut_off(away);
                return Err(Dropped);
            }
            Some(Trouble::Restart { away, finishes }) => {
                host.restart(away, finishes);
                return Err(Dropped);
            }
            Some(Trouble::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Trouble::Drop) => return Err(Dropped),
            Some(Trouble::DropAnswer) => drops = true,
            Some(Trouble::Status(code)) => {
                // Whoever still sends would not read the answer.
                let rest = Limited::new(request.into_body(), REST).collect();
                drop(tokio::time::timeout(BODY, rest).await);
                return Ok(on_demand(code));
            }
            Some(Trouble::Expire) => {
                host.expire_sessions();
            }
            Some(Trouble::Cut(bytes)) => trouble.cut = Some(bytes),
            Some(Trouble::NoRanges) => trouble.ranges = false,
            Some(Trouble::Page) => {
                let rest = Limited::new(request.into_body(), REST).collect();
                drop(tokio::time::timeout(BODY, rest).await);
                return Ok(answer(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()));
            }
        }
    }
    let response = match (request.method(), path.as_str()) {
        _ if place == Some("folder") => {
            datastore::folder::answered(datastore::folder::transfer(request, &head, &host, trouble).await)?
        }
        _ if place == Some("nfc") => {
            datastore::folder::answered(lease::transfer::transfer(request, &head, &host, trouble).await)?
        }
        (&Method::GET, "/sdk/vimServiceVersions.xml") => answer(StatusCode::OK, "text/xml", versions()),
        (&Method::GET, "/") => answer(StatusCode::OK, "text/html; charset=utf-8", WELCOME.to_owned()),
        (_, "/simulator/faults") => control::faults(request, &host).await,
        (&Method::GET, "/simulator/requests") => control::requests(&request, &host),
        (&Method::POST, "/sdk" | "/sdk/" | "/sdk/vimService") => sdk(request, head, host).await?,
        (_, "/sdk" | "/sdk/") => status(StatusCode::METHOD_NOT_ALLOWED, "The API takes POST."),
        (_, "/screen") => vm::console::screen(&request, &head, &host),
        (_, "/guestFile") => guest::operations::serve(request, host).await?,
        (&Method::GET, path) if path.starts_with(upkeep::DOWNLOADS) => download(path, &head, &host),
        (&Method::PUT | &Method::POST, upkeep::UPLOAD) => upload(request, &head, &host).await,
        _ => status(StatusCode::NOT_FOUND, "Nothing is here. The API is at /sdk, files are below /folder."),
    };
    tokio::time::sleep(late).await;
    if drops { Err(Dropped) } else { Ok(response) }
}

/// A status that somebody asked for.
fn on_demand(code: u16) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    status(code, code.canonical_reason().unwrap_or("An error that was asked for."))
}

/// The configuration that was asked for last.
fn download(path: &str, head: &Head, host: &Host) -> Response<Body> {
    if let Err((code, text)) = datastore::folder::authorise(head, host) {
        return status(code, &text);
    }
    let id = path.strip_prefix(upkeep::DOWNLOADS).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let world = host.world();
    match &world.bundle {
        Some((own, bytes)) if own.to_string() == id => {
            let mut response = Response::new(whole(bytes.clone()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            response
        }
        _ => status(StatusCode::NOT_FOUND, "There is no such configuration."),
    }
}

/// Takes a configuration that is to be put back.
async fn upload(request: Request<Incoming>, head: &Head, host: &Host) -> Response<Body> {
    if let Err((code, text)) = datastore::folder::authorise(head, host) {
        return status(code, &text);
    }
    let whole = Limited::new(request.into_body(), REST).collect();
    match tokio::time::timeout(BODY, whole).await {
        Ok(Ok(body)) => {
            host.world().uploaded = Some(body.to_bytes().to_vec());
            status(StatusCode::OK, "uploaded")
        }
        _ => status(StatusCode::BAD_REQUEST, "The configuration did not come whole."),
    }
}

/// What a proxy in front of a host says, which knows nothing of transfers.
const PAGE: &str = "<html><head><title>SIMULATOR</title></head><body><h1>503 Service Unavailable</h1><p>Somebody asked for this page.</p>\
    </body></html>\n";

const WELCOME: &str = "<html><head><title>SIMULATOR</title></head><body><h1>SIMULATOR</h1><p>A ceso simulator of an ESXi host. \
    The API is at <code>/sdk</code>.</p></body></html>\n";

async fn sdk(request: Request<Incoming>, head: Head, host: Arc<Host>) -> Result<Response<Body>, Dropped> {
    let whole = Limited::new(request.into_body(), soap::MAX_REQUEST).collect();
    let Ok(whole) = tokio::time::timeout(BODY, whole).await else {
        return Ok(status(StatusCode::REQUEST_TIMEOUT, "The request did not come to its end in time."));
    };
    let body = match whole {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!("A request may have {} bytes at most.", soap::MAX_REQUEST);
            return Ok(status(StatusCode::PAYLOAD_TOO_LARGE, &text));
        }
        Err(error) => return Ok(status(StatusCode::BAD_REQUEST, &format!("The request ended early: {error}"))),
    };
    let outcome = dispatch::soap(&host, &head, &body).await;
    match outcome.after {
        Some(Trouble::Late(delay)) => tokio::time::sleep(delay).await,
        Some(Trouble::Partition(away)) => {
            host.cut_off(away);
            return Err(Dropped);
        }
        Some(Trouble::Restart { away, finishes }) => {
            host.restart(away, finishes);
            return Err(Dropped);
        }
        _ => {}
    }
    match outcome.instead {
        None => {}
        Some(Instead::Drop) => return Err(Dropped),
        Some(Instead::Status(code)) => return Ok(on_demand(code)),
    }
    let code = match (outcome.unavailable, outcome.fault) {
        (true, _) => StatusCode::SERVICE_UNAVAILABLE,
        (false, true) => StatusCode::INTERNAL_SERVER_ERROR,
        (false, false) => StatusCode::OK,
    };
    let mut response = answer(code, "text/xml; charset=utf-8", outcome.document);
    if let Some(cookie) = outcome.cookie {
        let text = format!("vmware_soap_session=\"{cookie}\"; Path=/; HttpOnly; Secure;");
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(SET_COOKIE, value);
        }
    }
    Ok(response)
}

fn head(request: &Request<Incoming>, peer: SocketAddr) -> Head {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Head {
        cookie: cookie(request, "vmware_soap_session"),
        ticket: cookie(request, "vmware_cgi_ticket"),
        action: text("SOAPAction"),
        address: peer.ip().to_string(),
        agent: text(USER_AGENT.as_str()).unwrap_or_default().chars().take(200).collect(),
    }
}

/// A cookie's value without its quotes. pyVmomi sends attributes such as `HttpOnly` along, which are none of ours.
fn cookie(request: &Request<Incoming>, name: &str) -> Option<String> {
    let headers = request.headers().get_all(hyper::header::COOKIE);
    headers.iter().filter_map(|header| header.to_str().ok()).flat_map(|header| header.split(';')).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// The API versions, as clients read them before they choose one.
fn versions() -> String {
    let (newest, prior) = VERSIONS.split_first().unwrap_or((&"8.0.3.0", &[]));
    let prior: String = prior.iter().map(|version| format!("   <version>{version}</version>\n")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<namespaces version=\"1.0\">\n <namespace>\n  <name>urn:vim25</name>\n  \
         <version>{newest}</version>\n  <priorVersions>\n{prior}  </priorVersions>\n </namespace>\n</namespaces>\n"
    )
}

/// A short answer in plain text.
pub fn status(code: StatusCode, text: &str) -> Response<Body> {
    answer(code, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A body that is here whole.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub fn answer(code: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
