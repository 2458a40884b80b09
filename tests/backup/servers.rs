//! S3 servers of others, each started for one test on a free port of this machine and ended with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ceso::backup::{Access, Keys};

pub const BUCKET: &str = "backups";
pub const SECRET: &str = "the-secret-key-of-the-test";

/// moto, one request at a time. By itself it looks whether a name is free and writes it later, so that of two that create at once both may
/// be told that they did; no store that a repository relies on does that.
const MOTO: &str = "
import threading
from moto import server
turn, whole = threading.Lock(), server.DomainDispatcherApplication.__call__
def one_at_a_time(self, environ, answer):
    with turn:
        return whole(self, environ, answer)
server.DomainDispatcherApplication.__call__ = one_at_a_time
server.main(['-H', '127.0.0.1', '-p', '0'])
";

/// A server that runs.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

fn peers() -> PathBuf {
    let folder = std::env::var_os("CESO_PEERS").map(PathBuf::from);
    folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"))
}

fn program(name: &str) -> PathBuf {
    let path = peers().join(name);
    assert!(path.exists(), "{} is missing: run tests/peers/prepare, or set CESO_PEERS", path.display());
    path
}

impl Server {
    /// moto: right in conditional puts; takes any keys.
    pub fn moto() -> Self {
        let mut command = Command::new(program("venv/bin/python"));
        command.args(["-c", MOTO]);
        let server = Self::start(command, tempfile::tempdir().unwrap());
        let answer = server.http(&format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            server.address
        ));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server
    }

    /// versitygw over a folder: checks signatures and hashes.
    pub fn versitygw() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET)).unwrap();
        let mut command = Command::new(program("bin/versitygw"));
        command
            .args(["--port", "127.0.0.1:0", "--quiet", "--keep-alive", "posix"])
            .arg(folder.path().join("data"))
            .env("ROOT_ACCESS_KEY", "tester")
            .env("ROOT_SECRET_KEY", SECRET);
        Self::start(command, folder)
    }

    fn start(mut command: Command, folder: tempfile::TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let began = Instant::now();
        loop {
            if let Some(port) = listening(child.id()) {
                return Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), folder };
            }
            let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "the server ended: {}", log());
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a request as it stands and reads all of the answer.
    pub fn http(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn access(&self) -> Access {
        access(self.address, self.folder.path())
    }

    /// Runs boto3, the client that is not ours, with `s3` made for this server.
    pub fn boto3(&self, script: &str) -> String {
        let head = format!(
            "import boto3, botocore\ns3 = boto3.client('s3', endpoint_url='http://{}', region_name='us-east-1', \
             aws_access_key_id='tester', aws_secret_access_key='{SECRET}')\nbucket = '{BUCKET}'\n",
            self.address
        );
        let done = Command::new(program("venv/bin/python")).args(["-c", &format!("{head}{script}")]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// What a bucket at an address is reached with.
pub fn access(address: SocketAddr, folder: &Path) -> Access {
    Access {
        endpoint: Some(format!("http://{address}")),
        keys: Some(Keys { id: "tester".to_owned().into(), secret: SECRET.to_owned().into(), token: None }),
        spool: Some(folder.join("spool")),
        ..Access::default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The port of 127.0.0.1 that a process listens on. One says it too late, and the other not at all.
fn listening(pid: u32) -> Option<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    std::fs::read_to_string("/proc/net/tcp").ok()?.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.strip_prefix("0100007F:")?, 16).ok()?;
        (*state == "0A" && sockets.iter().any(|socket| socket == inode)).then_some(port)
    })
}
