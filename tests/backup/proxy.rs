//! A proxy that breaks what passes it: answers that are lost after the server has acted, bodies cut both ways, 503s, delays. Seeded.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The connection closes before anything was passed on.
    Closed,
    /// The server says that it is too busy.
    Busy,
    /// Half of the request's body arrives.
    CutRequest,
    /// The server acts, and nothing of its answer arrives.
    LostAnswer,
    /// The server acts, and its answer is an error.
    ErrorAfterwards,
    /// Half of the answer arrives.
    CutAnswer,
    /// All of it, later.
    Delay,
    /// A bit of the request's body is another.
    Flip,
}

const ALL: [Trouble; 8] = [
    Trouble::Closed,
    Trouble::Busy,
    Trouble::CutRequest,
    Trouble::LostAnswer,
    Trouble::ErrorAfterwards,
    Trouble::CutAnswer,
    Trouble::Delay,
    Trouble::Flip,
];

/// A proxy that runs.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    /// Of so many requests one is in trouble; none where it is 0.
    one_of: AtomicU64,
    /// A header that is left out.
    without: Option<&'static str>,
    flips: bool,
    seed: AtomicU64,
    done: AtomicBool,
    made: Mutex<BTreeMap<Trouble, u64>>,
    requests: AtomicU64,
}

impl Proxy {
    pub fn start(server: SocketAddr, one_of: u64, seed: u64) -> Self {
        Self::with(server, one_of, seed, true, None)
    }

    /// A proxy for a server that does not look at hashes: no bit is flipped.
    pub fn without_flips(server: SocketAddr, one_of: u64, seed: u64) -> Self {
        Self::with(server, one_of, seed, false, None)
    }

    /// A proxy that makes of a server one which does not know a header.
    pub fn that_drops(server: SocketAddr, header: &'static str) -> Self {
        Self::with(server, 0, 0, false, Some(header))
    }

    fn with(server: SocketAddr, one_of: u64, seed: u64, flips: bool, without: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            one_of: AtomicU64::new(one_of),
            without,
            flips,
            seed: AtomicU64::new(seed),
            done: AtomicBool::new(false),
            made: Mutex::default(),
            requests: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.done.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A connection that fails is what this is for.
                std::thread::spawn(move || client.and_then(|client| shared.pass(client)).ok());
            }
        });
        Self { address, shared }
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// How often each trouble was made.
    pub fn made(&self) -> BTreeMap<Trouble, u64> {
        self.shared.made.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn random(&self) -> u64 {
        let mixed = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let Some((head, mut body)) = read_request(&mut client)? else { return Ok(()) };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let one_of = self.one_of.load(Ordering::SeqCst);
        let trouble = (one_of > 0 && self.random().is_multiple_of(one_of))
            .then(|| ALL[(self.random() % ALL.len() as u64) as usize])
            .filter(|trouble| *trouble != Trouble::Flip || (self.flips && !body.is_empty()));
        if let Some(trouble) = trouble {
            *self.made.lock().unwrap().entry(trouble).or_default() += 1;
        }
        match trouble {
            Some(Trouble::Closed) => return client.shutdown(Shutdown::Both),
            Some(Trouble::Busy) => return answer(&mut client, 503, "SlowDown"),
            Some(Trouble::Delay) => std::thread::sleep(Duration::from_millis(self.random() % 300)),
            Some(Trouble::Flip) => {
                let at = (self.random() % body.len() as u64) as usize;
                body[at] ^= 1 << (self.random() % 8);
            }
            _ => {}
        }
        let mut server = TcpStream::connect(self.server)?;
        server.write_all(self.rewritten(&head).as_bytes())?;
        if trouble == Some(Trouble::CutRequest) {
            server.write_all(&body[..body.len() / 2])?;
            server.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        server.write_all(&body)?;
        let mut answered = Vec::new();
        server.read_to_end(&mut answered)?;
        match trouble {
            Some(Trouble::LostAnswer) => {}
            Some(Trouble::ErrorAfterwards) => answer(&mut client, 500, "InternalError")?,
            Some(Trouble::CutAnswer) => client.write_all(&answered[..answered.len() / 2])?,
            _ => client.write_all(&answered)?,
        }
        client.shutdown(Shutdown::Both)
    }

    /// One request for each connection, and without what is to be dropped.
    fn rewritten(&self, head: &str) -> String {
        let drop = |line: &str| {
            let name = line.split(':').next().unwrap_or_default();
            name.eq_ignore_ascii_case("connection")
                || self.without.is_some_and(|without| name.eq_ignore_ascii_case(without))
        };
        let mut lines: Vec<&str> = head.trim_end().split("\r\n").filter(|line| !drop(line)).collect();
        lines.push("Connection: close");
        format!("{}\r\n\r\n", lines.join("\r\n"))
    }
}

fn read_request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut buffer)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = bytes.split_off(end);
    while body.len() < length.unwrap_or(0) {
        match client.read(&mut buffer)? {
            0 => return Ok(None),
            read => body.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(Some((head, body)))
}

fn answer(client: &mut TcpStream, status: u16, code: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    client.shutdown(Shutdown::Both)
}
