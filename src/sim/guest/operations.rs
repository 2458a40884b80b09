//! What the tools of a running guest do when they are asked: programs of a table, files of the guest's own.
//!
//! Every guest has the user `root` with the password `ceso-guest`. Files are kept beside the machine's record, under the escaped form of their
//! paths; a revert does not bring them back. Like a real guest's tools, a program's path and arguments are given to a shell, of which words,
//! quotes and redirections are understood.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use time::{Duration, OffsetDateTime};

use super::programs;
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::http::{Body, Dropped, status};
use crate::sim::server::Host;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::{Power, Vm};
use crate::sim::world::World;

const USER: &str = "root";
const PASSWORD: &str = "ceso-guest";
/// The largest file that a guest takes.
const LARGEST: usize = 256 << 20;
/// Processes of one guest that are remembered.
const REMEMBERED: usize = 200;

/// One process of a guest.
#[derive(Debug, Clone)]
struct Process {
    pid: i64,
    name: String,
    line: String,
    started: OffsetDateTime,
    ends: OffsetDateTime,
    exit_code: i32,
}

/// A transfer that was allowed: for one file, once in each direction.
#[derive(Debug, Clone)]
struct Transfer {
    vm: u64,
    path: String,
    size: Option<u64>,
}

/// What is known of all guests.
#[derive(Debug, Default)]
pub struct Guests {
    root: PathBuf,
    processes: HashMap<u64, Vec<Process>>,
    transfers: HashMap<String, Transfer>,
    last: i64,
}

impl Guests {
    pub fn new(root: PathBuf) -> Self {
        Self { root, last: 1000, ..Self::default() }
    }

    /// Where a guest's file is kept; `None` for what is no path of a file.
    fn place(&self, vm: u64, path: &str) -> Option<PathBuf> {
        let plain = path.starts_with('/') && !path.ends_with('/') && !path.chars().any(char::is_control);
        let name = utf8_percent_encode(path, NON_ALPHANUMERIC).to_string();
        (plain && name.len() <= 240).then(|| self.root.join(vm.to_string()).join(name))
    }

    /// Forgets a guest with its files: its machine was destroyed.
    pub fn forget(&mut self, vm: u64) {
        self.processes.remove(&vm);
        match std::fs::remove_dir_all(self.root.join(vm.to_string())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, vm, "the files of a guest are still there");
            }
            _ => {}
        }
    }

    pub(super) fn read(&self, vm: u64, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.place(vm, path)?).ok()
    }

    pub(super) fn write(&self, vm: u64, path: &str, bytes: &[u8]) -> Result<(), VimFault> {
        let place = self.place(vm, path).ok_or_else(|| VimFault::file("CannotAccessFile", path))?;
        let folder = place.parent().unwrap_or(&self.root).to_owned();
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(place, bytes));
        written.map_err(|error| VimFault::system(format!("a guest's file: {error}")))
    }

    /// Removes a file, or all that lies below a folder; whether there was any.
    fn remove(&self, vm: u64, path: &str, below: bool) -> Result<bool, VimFault> {
        let own = utf8_percent_encode(path, NON_ALPHANUMERIC).to_string();
        let inside = utf8_percent_encode(&format!("{}/", path.trim_end_matches('/')), NON_ALPHANUMERIC).to_string();
        let Ok(entries) = std::fs::read_dir(self.root.join(vm.to_string())) else { return Ok(false) };
        let mut any = false;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == own || (below && name.starts_with(&inside)) {
                std::fs::remove_file(entry.path())
                    .map_err(|error| VimFault::system(format!("a guest's file: {error}")))?;
                any = true;
            }
        }
        Ok(any)
    }
}

/// The machine of a call, where its guest may be asked for something by that user.
fn admitted<'a>(world: &'a World, call: &Call) -> Result<&'a Vm, VimFault> {
    let vm = world.vm(call.reference("vm")?)?;
    if vm.power != Power::On {
        return Err(VimFault::invalid_power_state(Some("poweredOn"), vm.power.name()));
    }
    if super::seen(world, vm).is_none() {
        let message = "The guest operations agent could not be contacted.";
        return Err(VimFault::new("GuestOperationsUnavailable", message));
    }
    let auth = call.data("auth")?;
    let known = auth.kind == "NamePasswordAuthentication"
        && auth.text("username") == Some(USER)
        && auth.text("password") == Some(PASSWORD);
    match known {
        true => Ok(vm),
        false => Err(VimFault::new("InvalidGuestLogin", "Failed to authenticate with the guest operating system.")),
    }
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let id = admitted(world, call)?.id;
    let token = || format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let url = |token: &str| format!("https://*:443/guestFile?id={id}&token={token}");
    match call.method {
        "StartProgramInGuest" => start(world, call, id),
        "ListProcessesInGuest" => Ok(Reply::Value(list(world, call, id).into())),
        "TerminateProcessInGuest" => {
            let pid = call.args.number("pid").unwrap_or_default();
            let own = world.guests.processes.get_mut(&id).and_then(|all| all.iter_mut().find(|own| own.pid == pid));
            let own = own.ok_or_else(|| {
                VimFault::new("GuestProcessNotFound", format!("The guest has no process {pid}.")).with("pid", pid)
            })?;
            if own.ends > OffsetDateTime::now_utc() {
                own.ends = OffsetDateTime::now_utc();
                own.exit_code = 137;
            }
            Ok(Reply::Nothing)
        }
        "ReadEnvironmentVariableInGuest" => {
            Ok(Reply::Value(vec!["HOME=/root", "USER=root", "PATH=/usr/bin:/bin"].into()))
        }
        "CreateTemporaryDirectoryInGuest" | "CreateTemporaryFileInGuest" => {
            let (prefix, suffix) = (call.text("prefix")?, call.text("suffix")?);
            let folder = call.args.text("directoryPath").filter(|path| !path.is_empty()).unwrap_or("/tmp");
            let unique = uuid::Uuid::new_v4().simple().to_string();
            let path = format!("{folder}/{prefix}{}{suffix}", unique.get(..8).unwrap_or_default());
            if call.method == "CreateTemporaryFileInGuest" {
                world.guests.write(id, &path, b"")?;
            }
            Ok(Reply::Value(path.into()))
        }
        "MakeDirectoryInGuest" => Ok(Reply::Nothing),
        "DeleteDirectoryInGuest" => {
            world.guests.remove(id, call.text("directoryPath")?, true)?;
            Ok(Reply::Nothing)
        }
        "DeleteFileInGuest" => {
            let path = call.text("filePath")?;
            match world.guests.remove(id, path, false)? {
                true => Ok(Reply::Nothing),
                false => Err(VimFault::file("FileNotFound", path)),
            }
        }
        "InitiateFileTransferFromGuest" => {
            let path = call.text("guestFilePath")?.to_owned();
            let bytes = world.guests.read(id, &path).ok_or_else(|| VimFault::file("FileNotFound", path.as_str()))?;
            let token = token();
            world.guests.transfers.insert(token.clone(), Transfer { vm: id, path, size: None });
            let info = Data::new("FileTransferInformation")
                .with("attributes", Data::new("GuestPosixFileAttributes").with("permissions", 0o644i64))
                .with("size", i64::try_from(bytes.len()).unwrap_or(i64::MAX))
                .with("url", url(&token));
            Ok(Reply::Value(info.into()))
        }
        "InitiateFileTransferToGuest" => {
            let path = call.text("guestFilePath")?.to_owned();
            if world.guests.place(id, &path).is_none() {
                return Err(VimFault::file("CannotAccessFile", path));
            }
            if call.args.boolean("overwrite") != Some(true) && world.guests.read(id, &path).is_some() {
                return Err(VimFault::file("FileAlreadyExists", path));
            }
            let size = call.args.number("fileSize").and_then(|size| u64::try_from(size).ok());
            let token = token();
            world.guests.transfers.insert(token.clone(), Transfer { vm: id, path, size });
            Ok(Reply::Value(url(&token).into()))
        }
        "ValidateCredentialsInGuest" => Ok(Reply::Nothing),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn start(world: &mut World, call: &Call, id: u64) -> Answer {
    let spec = call.data("spec")?;
    let (program, arguments) =
        (spec.text("programPath").unwrap_or_default(), spec.text("arguments").unwrap_or_default());
    let hostname = world.vm(call.reference("vm")?).ok().and_then(|vm| super::seen(world, vm)).map(|seen| seen.hostname);
    let environment: Vec<String> = spec.texts("envVariables").map(str::to_owned).collect();
    let shell = programs::Shell {
        guests: &world.guests,
        vm: id,
        hostname: hostname.unwrap_or_default(),
        environment,
        directory: spec.text("workingDirectory").unwrap_or("/root").to_owned(),
    };
    let done = shell.run(program, arguments)?;
    world.guests.last += 1;
    let pid = world.guests.last;
    let started = OffsetDateTime::now_utc();
    let process = Process {
        pid,
        name: program.rsplit('/').next().unwrap_or(program).to_owned(),
        line: format!("\"{program}\" {arguments}"),
        started,
        ends: started + Duration::seconds(done.seconds),
        exit_code: done.exit_code,
    };
    let all = world.guests.processes.entry(id).or_default();
    if all.len() >= REMEMBERED {
        all.remove(0);
    }
    all.push(process);
    Ok(Reply::Value(pid.into()))
}

fn list(world: &World, call: &Call, id: u64) -> Vec<Data> {
    let wanted: Vec<i64> = call
        .args
        .list("pids")
        .iter()
        .filter_map(|pid| match pid {
            Value::Long(pid) => Some(*pid),
            Value::Int(pid) => Some(i64::from(*pid)),
            _ => None,
        })
        .collect();
    let now = OffsetDateTime::now_utc();
    let all = world.guests.processes.get(&id).map(Vec::as_slice).unwrap_or_default();
    let chosen = all.iter().filter(|own| wanted.is_empty() || wanted.contains(&own.pid));
    let told = chosen.map(|own| {
        let over = own.ends <= now;
        Data::new("GuestProcessInfo")
            .with("name", own.name.clone())
            .with("pid", own.pid)
            .with("owner", USER)
            .with("cmdLine", own.line.clone())
            .with("startTime", own.started)
            .maybe("endTime", over.then_some(own.ends))
            .maybe("exitCode", over.then_some(own.exit_code))
    });
    told.collect()
}

/// The properties of the managers: each names the others.
pub fn property(object: &Ref, name: &str) -> Option<Value> {
    if object.kind != "GuestOperationsManager" {
        return None;
    }
    Some(match name {
        "processManager" => Ref::fixed("GuestProcessManager", "ha-guest-operations-process-manager").into(),
        "fileManager" => Ref::fixed("GuestFileManager", "ha-guest-operations-file-manager").into(),
        "authManager" => Ref::fixed("GuestAuthManager", "ha-guest-operations-auth-manager").into(),
        _ => return None,
    })
}

/// Answers one request on `/guestFile`: who has the token needs no session.
pub async fn serve(request: Request<Incoming>, host: Arc<Host>) -> Result<Response<Body>, Dropped> {
    host.count(&format!("{} guestFile", request.method()));
    let query = request.uri().query().unwrap_or_default().to_owned();
    let token = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "token").map(|(_, value)| value);
    let transfer = host.world().guests.transfers.remove(token.as_deref().unwrap_or_default());
    let Some(transfer) = transfer else {
        return Ok(status(StatusCode::NOT_FOUND, "There is no such transfer, or it is over."));
    };
    match (request.method().clone(), transfer.size) {
        (Method::GET, None) => {
            let bytes = host.world().guests.read(transfer.vm, &transfer.path);
            let Some(bytes) = bytes else { return Ok(status(StatusCode::NOT_FOUND, "The file is gone.")) };
            Ok(Response::new(Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()))
        }
        (Method::PUT, Some(size)) => {
            let body = Limited::new(request.into_body(), LARGEST).collect().await;
            let Ok(body) = body else {
                return Ok(status(StatusCode::PAYLOAD_TOO_LARGE, "The file is too large, or did not come whole."));
            };
            let bytes = body.to_bytes();
            if bytes.len() as u64 != size {
                return Ok(status(StatusCode::BAD_REQUEST, "The file has another length than was said."));
            }
            match host.world().guests.write(transfer.vm, &transfer.path, &bytes) {
                Ok(()) => Ok(status(StatusCode::OK, "written")),
                Err(fault) => Ok(status(StatusCode::INTERNAL_SERVER_ERROR, &fault.message)),
            }
        }
        _ => Ok(status(StatusCode::METHOD_NOT_ALLOWED, "The transfer goes the other way.")),
    }
}
