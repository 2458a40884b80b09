//! Syslog (RFC 5424) over UDP (RFC 5426), TCP (RFC 6587, octet counts) and sockets of this machine.

use std::io::{self, Read as _, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use super::{Message, Target, Way, resolve};

/// Facility 13 (log audit), severity 5 (notice).
const PRIORITY: u8 = 13 * 8 + 5;

/// How long a connection or a write may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The largest datagram: receivers take at least 2 KiB and commonly 8.
const DATAGRAM: usize = 8 << 10;

pub(super) struct Syslog {
    target: Target,
    open: Option<Open>,
    origin: String,
}

enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

impl Way for Syslog {
    fn tell(&mut self, messages: &[Message]) -> Result<(), String> {
        let result = self.try_tell(messages);
        if result.is_err() {
            self.open = None;
        }
        result
    }
}

impl Syslog {
    pub(super) fn new(target: Target) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
        let name = if name.is_empty() { "-".to_owned() } else { name };
        Self { target, open: None, origin: format!("{name} ceso {} audit", std::process::id()) }
    }

    fn try_tell(&mut self, messages: &[Message]) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        if self.open.as_ref().is_some_and(Open::is_closed) {
            self.open = None;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => connect(&self.target)?,
        };
        for message in messages {
            let mut bytes = self.message(message, None);
            if open.is_datagram() && bytes.len() > DATAGRAM {
                bytes = self.message(message, Some(format!("a record of {} bytes", message.line.len())));
            }
            match &mut open {
                Open::Udp(socket) => socket.send(&bytes).map(drop),
                Open::Datagram(socket) => socket.send(&bytes).map(drop),
                Open::Tcp(stream) => framed(stream, &bytes),
                Open::Stream(stream) => framed(stream, &bytes),
            }
            .map_err(text)?;
        }
        self.open = Some(open);
        Ok(())
    }

    /// The message: the head of the chain as structured data, and the record as its text.
    fn message(&self, message: &Message, instead: Option<String>) -> Vec<u8> {
        let Message { log, seq, head, ts, line } = message;
        let mut bytes =
            format!("<{PRIORITY}>1 {ts} {} [audit@32473 log=\"{log}\" seq=\"{seq}\" head=\"{head}\"] ", self.origin)
                .into_bytes();
        match instead {
            Some(text) => bytes.extend_from_slice(text.as_bytes()),
            None => bytes.extend_from_slice(line),
        }
        bytes
    }
}

fn framed(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&[format!("{} ", bytes.len()).as_bytes(), bytes].concat())
}

impl Open {
    fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp(_) | Self::Datagram(_))
    }

    /// Whether the other side has closed the connection: what is written then is lost without an error.
    fn is_closed(&self) -> bool {
        fn ended(read: io::Result<usize>) -> bool {
            match read {
                Ok(bytes) => bytes == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        let mut byte = [0];
        match self {
            Self::Udp(_) | Self::Datagram(_) => false,
            Self::Tcp(stream) => {
                let mut stream = stream;
                stream.set_nonblocking(true).is_err()
                    || ended(stream.read(&mut byte))
                    || stream.set_nonblocking(false).is_err()
            }
            Self::Stream(stream) => {
                let mut stream = stream;
                stream.set_nonblocking(true).is_err()
                    || ended(stream.read(&mut byte))
                    || stream.set_nonblocking(false).is_err()
            }
        }
    }
}

fn connect(target: &Target) -> Result<Open, String> {
    let text = |error: io::Error| error.to_string();
    match target {
        Target::Udp(host, port) => {
            let addresses = resolve(host, *port)?;
            let any: SocketAddr = match addresses.first() {
                Some(SocketAddr::V6(_)) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
                _ => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).map_err(text)?;
            socket.set_write_timeout(Some(PATIENCE)).map_err(text)?;
            socket.connect(addresses.as_slice()).map_err(text)?;
            Ok(Open::Udp(socket))
        }
        Target::Tcp(host, port) => {
            let mut failure = String::new();
            for address in resolve(host, *port)? {
                match TcpStream::connect_timeout(&address, PATIENCE) {
                    Ok(stream) => {
                        stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
                        return Ok(Open::Tcp(stream));
                    }
                    Err(error) => failure = error.to_string(),
                }
            }
            Err(failure)
        }
        Target::Unix(path) => {
            let socket = UnixDatagram::unbound().map_err(text)?;
            if socket.connect(path).is_ok() {
                socket.set_write_timeout(Some(PATIENCE)).map_err(text)?;
                return Ok(Open::Datagram(socket));
            }
            let stream = UnixStream::connect(path).map_err(text)?;
            stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
            Ok(Open::Stream(stream))
        }
        Target::Webhook(_) => Err("it is no syslog".to_owned()),
    }
}
