//! A web server of a test, on loopback: it serves bytes as it is told to, well or badly, and remembers what it was asked.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A request, as far as tests look at it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// With its query.
    pub path: String,
    /// From a byte to a byte, both of it.
    pub range: Option<(u64, Option<u64>)>,
    pub if_range: Option<String>,
    /// All of it, as it came.
    pub head: String,
    /// How many came before it.
    pub number: usize,
}

pub struct Server {
    pub address: SocketAddr,
    /// PEM of the certificate that it has, where it speaks TLS.
    pub certificate: Option<String>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// How a file is served.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    pub ranges: bool,
    pub tag: Option<String>,
    /// Breaks the connection off after so many bytes of the body.
    pub cut: Option<usize>,
    /// Says no length: the end of the connection is the end.
    pub endless: bool,
}

type Answer = dyn Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync;

impl Server {
    /// A server that answers each request so. A connection serves one request.
    pub fn start(answer: impl Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::begin(Arc::new(answer), None)
    }

    /// The same by TLS, with a certificate of its own for 127.0.0.1.
    pub fn start_tls(answer: impl Fn(&Asked, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        Self::begin(Arc::new(answer), Some((own.cert.pem(), Arc::new(config))))
    }

    fn begin(answer: Arc<Answer>, tls: Option<(String, Arc<rustls::ServerConfig>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (own, config) = (asked.clone(), tls.as_ref().map(|(_, config)| config.clone()));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, answer, config) = (own.clone(), answer.clone(), config.clone());
                // Whoever asks may go away in the middle: that is what many tests are about.
                std::thread::spawn(move || {
                    drop(match config {
                        None => serve(stream, &asked, answer.as_ref()),
                        Some(config) => rustls::ServerConnection::new(config)
                            .map_err(io::Error::other)
                            .and_then(|tls| serve(rustls::StreamOwned::new(tls, stream), &asked, answer.as_ref())),
                    });
                });
            }
        });
        Self { address, certificate: tls.map(|(pem, _)| pem), asked }
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve<S: Read + Write + Socket>(mut stream: S, asked: &Mutex<Vec<Asked>>, answer: &Answer) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let header = |wanted: &str| {
        head.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case(wanted)))
    };
    let range = header("range").and_then(|(_, value)| {
        let (from, to) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()))
    });
    let request = {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let if_range = header("if-range").map(|(_, value)| value.trim().to_owned());
        let request = Asked { path, range, if_range, head: head.clone(), number: asked.len() };
        asked.push(request.clone());
        request
    };
    let done = answer(&request, &mut stream).and_then(|()| stream.flush());
    stream.end();
    done
}

trait Socket {
    fn end(&mut self);
}

impl Socket for TcpStream {
    fn end(&mut self) {
        drop(self.shutdown(std::net::Shutdown::Write));
        // What is still under way is taken, or the reset would take the answer back.
        drop(self.set_read_timeout(Some(std::time::Duration::from_secs(5))));
        drop(io::copy(self, &mut io::sink()));
    }
}

impl Socket for rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        drop(self.flush());
        self.sock.end();
    }
}

/// An answer without a body.
pub fn say(to: &mut dyn Write, status: &str, headers: &[(&str, &str)]) -> io::Result<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(to, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n")
}

/// Serves a file, or the part of it that is asked for.
pub fn give(file: &[u8], asked: &Asked, to: &mut dyn Write, serving: &Serving) -> io::Result<()> {
    let tag = serving.tag.as_ref().map(|tag| format!("ETag: {tag}\r\n")).unwrap_or_default();
    let stale = asked.if_range.is_some() && asked.if_range != serving.tag;
    let part = asked.range.filter(|_| serving.ranges && !stale);
    let (status, body) = match part {
        None => ("200 OK".to_owned(), file),
        Some((from, to)) => {
            let end = to.map_or(file.len(), |to| (to as usize + 1).min(file.len()));
            let body = file.get(from as usize..end).unwrap_or_default();
            let last = end.saturating_sub(1);
            (format!("206 Partial Content\r\nContent-Range: bytes {from}-{last}/{}", file.len()), body)
        }
    };
    let length = if serving.endless { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(to, "HTTP/1.1 {status}\r\nConnection: close\r\n{tag}{length}\r\n")?;
    to.write_all(&body[..serving.cut.unwrap_or(usize::MAX).min(body.len())])
}
