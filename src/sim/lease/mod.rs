//! HttpNfcLease: the permission to stream a machine's disks out, or a new machine's disks in.
//!
//! A lease is initializing, ready, done or in error. While it is ready its machine is busy with a task, so power and destruction are
//! refused; `HttpNfcLeaseProgress` and each byte on one of its URLs keep it alive, and after `leaseTimeout` without either it ends in
//! error. A machine that was being imported then goes, as after an abort. Specification: vSphere Web Services API, `HttpNfcLease`.

mod export;
mod import;
pub mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::call::{Answer, Call, Reply};
use super::fault::VimFault;
use super::server::Host;
use super::task;
use super::value::{Data, Ref, Value};
use super::vm::Vm;
use super::world::World;

pub use export::{export_snapshot, export_vm};
pub use import::import_vapp;

/// Ended leases that are remembered.
const HISTORY: usize = 200;

/// Which way a lease goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Export,
    Import,
}

#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Initializing,
    Ready,
    Done,
    Error(VimFault),
}

/// One file behind a lease.
#[derive(Debug, Clone)]
pub struct File {
    /// As the descriptor's items and the lease's URLs name it: `/web-1/ParaVirtualSCSIController0:0`.
    pub key: String,
    /// The last part of its URL.
    pub name: String,
    /// Where it lies: a disk's descriptor, or the file itself.
    pub path: String,
    pub disk: bool,
    pub capacity: u64,
    /// What went through whole: its length and its SHA-1.
    pub sent: Option<(u64, String)>,
}

/// One lease.
#[derive(Debug, Clone)]
pub struct Lease {
    pub object: Ref,
    pub mode: Mode,
    pub vm: Ref,
    task: Ref,
    pub state: State,
    pub files: Vec<File>,
    progress: i32,
    contact: Instant,
    /// Transfers under way, which keep it alive by themselves.
    pub busy: usize,
}

/// All leases.
#[derive(Debug, Default)]
pub struct Leases {
    all: BTreeMap<u64, Lease>,
    begun: u64,
}

impl Leases {
    pub fn get(&self, id: &str) -> Option<&Lease> {
        self.all.get(&number(id)?)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Lease> {
        self.all.get_mut(&number(id)?)
    }
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("ha-nfc-lease-")?.parse().ok()
}

/// The key of a device on its controller, as OVF items and leases name it.
pub fn device_key(vm: &Vm, device: &Data) -> String {
    let controller = vm.devices.iter().find(|other| other.int("key") == device.int("controllerKey"));
    let kind = controller.map_or("VirtualController", |controller| controller.kind);
    let bus = controller.and_then(|controller| controller.int("busNumber")).unwrap_or_default();
    format!("/{}/{kind}{bus}:{}", vm.name, device.int("unitNumber").unwrap_or_default())
}

/// Begins a lease on a machine, which is busy from then on. It is ready a moment later.
fn begin(world: &mut World, call: &Call, mode: Mode, vm: &Ref, files: Vec<File>) -> Result<Ref, VimFault> {
    let task = task::hold(world, call, vm);
    world.leases.begun += 1;
    let number = world.leases.begun;
    let object = Ref::new("HttpNfcLease", format!("ha-nfc-lease-{number}"));
    let ended = |lease: &Lease| matches!(lease.state, State::Done | State::Error(_));
    while world.leases.all.len() >= HISTORY {
        let Some(oldest) = world.leases.all.iter().find(|(_, lease)| ended(lease)).map(|(number, _)| *number) else {
            break;
        };
        world.leases.all.remove(&oldest);
    }
    let lease = Lease {
        object: object.clone(),
        mode,
        vm: vm.clone(),
        task,
        state: State::Initializing,
        files,
        progress: 0,
        contact: Instant::now(),
        busy: 0,
    };
    world.leases.all.insert(number, lease);
    world.touch(&object);
    let (host, watched) = (Arc::clone(&call.host), object.clone());
    tokio::spawn(async move {
        tokio::time::sleep(host.options.task_delay).await;
        ready(&host, &watched);
        watch(&host, &watched).await;
    });
    Ok(object)
}

fn ready(host: &Host, object: &Ref) {
    let mut world = host.world();
    if let Some(lease) = world.leases.get_mut(&object.id).filter(|lease| lease.state == State::Initializing) {
        lease.state = State::Ready;
        lease.contact = Instant::now();
    }
    world.touch(object);
    host.announce(world.tick());
}

/// Ends the lease once nobody has asked for it for too long.
async fn watch(host: &Arc<Host>, object: &Ref) {
    loop {
        let left = {
            let mut world = host.world();
            let world = &mut *world;
            let Some(lease) = world.leases.get_mut(&object.id).filter(|lease| lease.state == State::Ready) else {
                return;
            };
            if lease.busy > 0 {
                lease.contact = Instant::now();
            }
            let left = host.options.lease_timeout.saturating_sub(lease.contact.elapsed());
            if left.is_zero() {
                let fault = VimFault::new("Timedout", "The lease was not renewed in time.");
                end(world, object, State::Error(fault));
                host.announce(world.tick());
                return;
            }
            left
        };
        tokio::time::sleep(left.min(std::time::Duration::from_millis(500))).await;
    }
}

/// Ends a lease: its machine is free again; one that was being imported goes, unless all came.
fn end(world: &mut World, object: &Ref, state: State) {
    let Some(lease) = world.leases.get_mut(&object.id) else { return };
    let (mode, vm, task) = (lease.mode, lease.vm.clone(), lease.task.clone());
    let outcome = match &state {
        State::Error(fault) => Err(fault.clone()),
        _ => Ok(None),
    };
    lease.state = state;
    let failed = outcome.is_err();
    task::release(world, &task, outcome);
    if failed
        && mode == Mode::Import
        && let Err(fault) = super::vm::power::destroy(world, &vm)
    {
        tracing::warn!(message = %fault.message, "a machine whose import failed is still there");
    }
    world.touch(object);
}

/// Forgets all leases, as an agent that starts anew does. A machine that was being imported stays as it is.
pub fn forget(world: &mut World) {
    for lease in std::mem::take(&mut world.leases.all).into_values() {
        world.forget(&lease.object);
    }
}

fn live<'a>(world: &'a mut World, object: &Ref) -> Result<&'a mut Lease, VimFault> {
    let lease = world.leases.get_mut(&object.id).ok_or_else(|| VimFault::not_found(object))?;
    match &lease.state {
        State::Ready => Ok(lease),
        State::Error(fault) if fault.data.kind == "Timedout" => Err(fault.clone()),
        _ => Err(VimFault::new("InvalidState", "The lease is not ready, or has ended.")),
    }
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let object = call.this.clone();
    match call.method {
        "HttpNfcLeaseProgress" => {
            let percent = call.args.int("percent").filter(|percent| (0..=100).contains(percent));
            let percent = percent.ok_or_else(|| VimFault::invalid_argument("percent", "it is 0 to 100"))?;
            let lease = live(world, &object)?;
            lease.progress = percent;
            lease.contact = Instant::now();
            world.touch(&object);
        }
        "HttpNfcLeaseComplete" => {
            live(world, &object)?;
            end(world, &object, State::Done);
        }
        "HttpNfcLeaseAbort" => {
            live(world, &object)?;
            let fault = match call.args.data("fault") {
                Some(data) => VimFault { data: data.clone(), message: "The lease was aborted.".to_owned() },
                None => VimFault::new("RequestCanceled", "The lease was aborted."),
            };
            end(world, &object, State::Error(fault));
        }
        "HttpNfcLeaseGetManifest" => {
            let lease = live(world, &object)?;
            let entry = |file: &File| {
                let (size, sum) = file.sent.clone()?;
                Some(
                    Data::new("HttpNfcLeaseManifestEntry")
                        .with("key", file.key.clone())
                        .with("sha1", sum.clone())
                        .with("checksum", sum)
                        .with("checksumType", "sha1")
                        .with("size", super::datastore::long(size))
                        .with("disk", file.disk)
                        .maybe("capacity", file.disk.then(|| super::datastore::long(file.capacity))),
                )
            };
            let entries: Vec<Value> = lease.files.iter().filter_map(entry).map(Value::Data).collect();
            return Ok(Reply::Value(Value::List(entries)));
        }
        "HttpNfcLeaseSetManifestChecksumType" | "HttpNfcLeasePullFromUrls_Task" | "HttpNfcLeaseProbeUrls" => {
            return Err(VimFault::not_supported(format!("{} needs a vCenter Server", call.method)));
        }
        other => return Err(VimFault::not_implemented(other)),
    }
    Ok(Reply::Nothing)
}

pub fn property(world: &World, object: &Ref, name: &str) -> Option<Value> {
    let lease = world.leases.get(&object.id)?;
    match name {
        "initializeProgress" => Some(if lease.state == State::Initializing { 0 } else { 100 }.into()),
        "transferProgress" => Some(lease.progress.into()),
        "mode" => Some("pushOrGet".into()),
        "capabilities" => {
            let capabilities = Data::new("HttpNfcLeaseCapabilities").with("pullModeSupported", false);
            Some(capabilities.with("corsSupported", false).into())
        }
        "state" => Some(
            match lease.state {
                State::Initializing => "initializing",
                State::Ready => "ready",
                State::Done => "done",
                State::Error(_) => "error",
            }
            .into(),
        ),
        "error" => match &lease.state {
            State::Error(fault) => Some(fault.localized().into()),
            _ => None,
        },
        "info" => (lease.state == State::Ready).then(|| info(world, lease).into()),
        _ => None,
    }
}

fn info(world: &World, lease: &Lease) -> Data {
    let url = |file: &File| {
        Data::new("HttpNfcLeaseDeviceUrl")
            .with("key", file.key.clone())
            .with("importKey", file.key.clone())
            .with("url", format!("https://*/nfc/{}/{}", lease.object.id, file.name))
            .with("sslThumbprint", "")
            .with("disk", file.disk)
            .with("targetId", file.name.clone())
            .maybe("fileSize", (lease.mode == Mode::Export && !file.disk).then_some(0i64))
    };
    let total: u64 = lease.files.iter().filter(|file| file.disk).map(|file| file.capacity >> 10).sum();
    Data::new("HttpNfcLeaseInfo")
        .with("lease", &lease.object)
        .with("entity", &lease.vm)
        .with("deviceUrl", lease.files.iter().map(url).collect::<Vec<_>>())
        .with("totalDiskCapacityInKB", super::datastore::long(total))
        .with("leaseTimeout", i32::try_from(world.lease_timeout.as_secs()).unwrap_or(i32::MAX).max(1))
}
