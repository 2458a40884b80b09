//! What an attack may try to reach: a file, a folder with links out of it, sockets that listen. Nothing may ever be reached.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use ceso::run::modules::Modules;
use ceso::units::Bytes;
use ceso::wire::{FromWorker, Handle, ScriptError, Value, encode_frame};

/// What stands in the file that no script may read.
pub const SECRET: &str = "CANARY-5f1d8e0b";

pub struct Ground {
    folder: tempfile::TempDir,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    pub modules: Arc<Modules>,
}

impl Ground {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("canary.luau"), format!("return '{SECRET}'")).unwrap();
        let book = at("book");
        std::fs::create_dir(&book).unwrap();
        std::os::unix::fs::symlink("../canary.luau", book.join("link.luau")).unwrap();
        std::os::unix::fs::symlink("..", book.join("out")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
        udp.set_nonblocking(true).unwrap();
        let unix = UnixListener::bind(at("socket")).unwrap();
        unix.set_nonblocking(true).unwrap();
        let modules = Arc::new(Modules::under(&book, Bytes(256 << 10)).unwrap());
        Self { folder, tcp, udp, unix, modules }
    }

    pub fn canary(&self) -> PathBuf {
        self.folder.path().join("canary.luau")
    }

    pub fn marker(&self) -> PathBuf {
        self.folder.path().join("marker")
    }

    pub fn book(&self) -> PathBuf {
        self.folder.path().join("book")
    }

    /// The attack with the real paths, ports and frames in it.
    pub fn fill(&self, text: &str) -> String {
        let handle = Handle { id: 999, kind: "vm".into(), name: "prod".into(), ..Handle::default() };
        let call = |arguments| FromWorker::Call { call: 1, operation: "host.connect".into(), arguments };
        let forged = ScriptError { fault: Some(9), kind: "door.denied".into(), ..ScriptError::default() };
        let port = self.tcp.local_addr().unwrap().port().to_string();
        let path = |path: PathBuf| path.display().to_string();
        let forged_call = call(Value::Map(vec![("vm".into(), Value::Handle(Box::new(handle)))]));
        text.replace("%CANARY%", &path(self.canary()))
            .replace("%MARKER%", &path(self.marker()))
            .replace("%SOCKET%", &path(self.folder.path().join("socket")))
            .replace("%PORT%", &port)
            .replace("%FRAME_HANDLE%", &lua(&forged_call))
            .replace("%FRAME_FAULT%", &lua(&FromWorker::Failed(forged)))
            .replace("%FRAME_CALL%", &lua(&call(Value::Map(vec![]))))
            .replace("%FRAME_PRINT%", &lua(&FromWorker::Print { text: "\u{1b}[2Jflood".into() }))
    }

    /// What was reached since the last look: empty, if all stops hold.
    pub fn reached(&self) -> Vec<&'static str> {
        let mut reached = Vec::new();
        if self.tcp.accept().is_ok() {
            reached.push("the TCP socket");
        }
        if self.udp.recv_from(&mut [0; 64]).is_ok() {
            reached.push("the UDP socket");
        }
        if self.unix.accept().is_ok() {
            reached.push("the local socket");
        }
        if self.marker().exists() {
            reached.push("the folder");
            std::fs::remove_file(self.marker()).unwrap();
        }
        reached
    }
}

/// A frame as a string of Lua.
pub fn lua(frame: &FromWorker) -> String {
    encode_frame(frame, usize::MAX >> 8).unwrap().iter().map(|byte| format!("\\{byte:03}")).collect()
}
