//! `/metrics` over HTTP, for as long as a command runs.
//!
//! A thread of its own serves it, so that no script and no host can hold it up, and it holds nothing up: when the command ends, whoever
//! is still reading is cut off. Whoever can connect is a stranger: heads are bounded in size and time, connections in number, and on
//! loopback a name that is not loopback's (a web page whose name was pointed here) gets nothing.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::error::Fault;

/// How many clients are served at once; those that come meanwhile wait.
const CLIENTS: usize = 16;

/// How long a client may take for its request, and for reading the answer.
const HEAD: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);

/// The largest head of a request, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// A running server; dropping it ends it at once.
pub struct Server {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Listens; port 0 takes a free one.
    ///
    /// Faults: `usage.metrics_port` where the port is taken, privileged or not to be had, `metrics.server` where no thread starts.
    pub fn start(address: SocketAddr) -> Result<Self, Fault> {
        let listener = TcpListener::bind(address).map_err(|error| refused(address, error))?;
        let failed = |error: std::io::Error| {
            Fault::new("metrics.server", format!("the metrics cannot be served: {error}")).cause(error)
        };
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("metrics")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        runtime.spawn(serve(listener, address.ip()));
        Ok(Self { address, runtime: Some(runtime) })
    }

    /// The URL that Prometheus scrapes.
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn refused(address: SocketAddr, error: std::io::Error) -> Fault {
    let (why, hint) = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            ("the port is taken".to_owned(), "choose another one; --metrics-port 0 takes a free one and says which")
        }
        std::io::ErrorKind::PermissionDenied => (
            "this user may not listen there".to_owned(),
            "ports below 1024 are the administrator's: choose another one",
        ),
        _ => (error.to_string(), "see metrics.address and metrics.port in the configuration"),
    };
    Fault::new("usage.metrics_port", format!("the metrics cannot be served on {address}: {why}"))
        .hint(hint)
        .cause(error)
}

async fn serve(listener: tokio::net::TcpListener, address: IpAddr) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(permit) = clients.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, most likely: they may be fewer in a moment.
                tracing::debug!("no client of the metrics was accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(&request, address)) });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(LARGEST_HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(WHOLE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("a client of the metrics was cut off: {error}"),
                Err(_) => tracing::debug!("a client of the metrics was too slow"),
            }
            drop(permit);
        });
    }
}

fn answer(request: &Request<Incoming>, address: IpAddr) -> Response<Full<Bytes>> {
    if address.is_loopback() && !is_local(request.headers().get(HOST)) {
        return plain(StatusCode::MISDIRECTED_REQUEST, "ask for localhost\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "ceso serves /metrics\n");
    }
    match super::text() {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(fault) => {
            tracing::error!("{fault}");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be told\n")
        }
    }
}

/// Whether a request is for this machine by an address or by `localhost`; HTTP/1.0 has no such header.
fn is_local(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(text) = host.to_str() else { return false };
    let Ok(authority) = text.parse::<hyper::http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn start() -> Server {
        super::super::enable().unwrap();
        Server::start("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn ask(server: &Server, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        // A server that hangs up in the middle of what is sent is an answer too.
        let _cut = stream.write_all(request);
        let mut answer = Vec::new();
        let _cut = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn the_families_are_served_as_text() {
        let server = start();
        let answer = ask(&server, b"GET /metrics HTTP/1.1\r\nHost: localhost:9\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("ceso_build_info{version="), "{answer}");
        assert!(answer.contains("# TYPE ceso_backups_total counter"), "{answer}");
        assert!(server.url().starts_with("http://127.0.0.1:"));
    }

    #[test]
    fn hostile_requests_are_answered_or_cut_off() {
        let server = start();
        for (request, status) in [
            (&b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"[..], "404"),
            (b"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\nx", "405"),
            (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
            (b"GET /metrics HTTP/1.1\r\nHost: \xff\r\n\r\n", "421"),
            (b"GET /metrics HTTP/1.0\r\n\r\n", "200"),
            (b"rubbish\r\n\r\n", "400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        ] {
            let answer = ask(&server, request);
            assert!(answer.split(' ').nth(1) == Some(status), "{request:?}: {answer}");
        }
        let head = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        assert!(!ask(&server, head.as_bytes()).starts_with("HTTP/1.1 200"));
        assert!(ask(&server, b"GET /metrics HTTP/1.1\r\nHost: [::1]:1\r\n\r\n").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_slow_client_does_not_hold_up_the_end() {
        let server = start();
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /met").unwrap();
        drop(server);
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_taken_port_is_a_fault() {
        let server = start();
        let fault = Server::start(server.address).err().unwrap();
        assert_eq!(fault.kind(), "usage.metrics_port");
        assert!(fault.message().contains("taken"), "{fault:?}");
    }
}
