//! What is done to the host as a whole: maintenance mode, shutting down, its configuration out as a file and in again, NFS mounts.
//!
//! A host goes into maintenance once no machine runs, and turns none on while it is in it. It is shut down in maintenance or by force,
//! and answers nobody from then on. A configuration is put back in maintenance alone, and the host restarts with it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HOST, HOST_NAME, events};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::datastore;
use crate::sim::fault::VimFault;
use crate::sim::server::Host;
use crate::sim::task;
use crate::sim::value::{Data, Ref};
use crate::sim::vm::{Power, Vm};
use crate::sim::world::World;

/// Where a configuration is downloaded from and uploaded to, below the host's web server.
pub const DOWNLOADS: &str = "/downloads/";
pub const UPLOAD: &str = "/tmp/configBundle.tgz";
/// What a configuration of the simulator begins with: anything else is another product's.
const MAGIC: &[u8] = b"ceso SIMULATOR configuration\n";

/// An export of another machine that the host has mounted. Nothing lies on it: its files are nobody's here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub name: String,
    pub host: String,
    pub path: String,
    pub read_only: bool,
    /// `NFS` or `NFS41`.
    pub kind: String,
}

impl Mount {
    pub fn object(&self) -> Ref {
        Ref::new("Datastore", format!("nfs-{}", self.name))
    }
}

fn running(world: &World) -> usize {
    world.vms.values().filter(|vm| vm.power == Power::On).count()
}

fn user_of(world: &World, call: &Call) -> String {
    let session = call.session.as_deref().and_then(|key| world.sessions.by_key(key));
    session.map(|session| session.user.clone()).unwrap_or_default()
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let user = user_of(world, call);
    match call.method {
        "EnterMaintenanceMode_Task" => {
            if world.file.maintenance {
                return Err(VimFault::new("InvalidState", "The host is in maintenance mode already."));
            }
            let seconds = call.args.number("timeout").unwrap_or(0);
            let patience = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
            let message = format!("Host {HOST_NAME} in ha-datacenter has started to enter maintenance mode");
            events::note(world, "EnteringMaintenanceModeEvent", &user, None, message);
            task::work(world, call, &HOST, move |host, task| enter(host, task, patience, user))
        }
        "ExitMaintenanceMode_Task" => {
            if !world.file.maintenance {
                return Err(VimFault::new("InvalidState", "The host is not in maintenance mode."));
            }
            task::change(world, call, &HOST, move |_, world| {
                world.file.maintenance = false;
                world.keep_host()?;
                world.touch(&HOST);
                let message = format!("Host {HOST_NAME} in ha-datacenter has exited maintenance mode");
                events::note(world, "ExitMaintenanceModeEvent", &user, None, message);
                Ok(None)
            })
        }
        "ShutdownHost_Task" | "RebootHost_Task" => {
            if !world.file.maintenance && call.args.boolean("force") != Some(true) {
                return Err(VimFault::new("InvalidState", "The host is not in maintenance mode."));
            }
            let message = format!("Shut down of {HOST_NAME} in ha-datacenter: {}", call.method);
            let more = vec![("reason", call.method.into())];
            events::note_with(world, "HostShutdownEvent", &user, None, message, more);
            let restarts = call.method == "RebootHost_Task";
            task::change(world, call, &HOST, move |host, world| {
                super::autostart::stop(world)?;
                world.file.down = true;
                world.keep_host()?;
                let machines: Vec<Vm> = world.vms.values().filter(|vm| vm.power == Power::On).cloned().collect();
                // Whoever still runs loses its power with the host.
                for mut vm in machines {
                    vm.power = Power::Off;
                    vm.powered_on = None;
                    world.put(vm)?;
                }
                goes_down(host, restarts);
                Ok(None)
            })
        }
        "BackupFirmwareConfiguration" => {
            let id = uuid::Uuid::new_v4();
            world.bundle = Some((id, bundle(world)?));
            Ok(Reply::Value(format!("https://*{DOWNLOADS}{id}/configBundle-{HOST_NAME}.tgz").into()))
        }
        "QueryFirmwareConfigUploadURL" => Ok(Reply::Value(format!("https://*{UPLOAD}").into())),
        "RestoreFirmwareConfiguration" => restore(world, call),
        "ResetFirmwareToFactoryDefaults" => Err(VimFault::not_supported("the simulator is as it came")),
        "FetchSystemEventLog" => Ok(Reply::Value(crate::sim::value::Value::List(Vec::new()))),
        "RefreshHealthStatusSystem" | "ResetSystemHealthInfo" | "ClearSystemEventLog" => Ok(Reply::Nothing),
        "CreateNasDatastore" => mount(world, call),
        "RemoveDatastore" => unmount(world, call),
        other => Err(VimFault::not_implemented(other)),
    }
}

/// How long a host is away that restarts.
const AWAY: Duration = Duration::from_secs(2);

/// Ends the host soon: the answers that are on their way still go out. One that restarts is there again after a while, and starts its
/// machines.
fn goes_down(host: &std::sync::Arc<Host>, restarts: bool) {
    let host = std::sync::Arc::clone(host);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.down.store(true, Ordering::Relaxed);
        host.expire_sessions();
        let tick = host.world().tick();
        host.announce(tick);
        if restarts {
            tokio::time::sleep(AWAY).await;
            // Of tasks and leases it knows nothing any more, and what was open is closed.
            host.restart(Duration::ZERO, false);
            super::autostart::booted(&host);
            host.down.store(false, Ordering::Relaxed);
        }
    });
}

async fn enter(
    host: std::sync::Arc<Host>,
    task: Ref,
    patience: Option<Duration>,
    user: String,
) -> Result<Option<crate::sim::value::Value>, VimFault> {
    let began = tokio::time::Instant::now();
    loop {
        {
            let mut world = host.world();
            if running(&world) == 0 {
                world.file.maintenance = true;
                world.keep_host()?;
                world.touch(&HOST);
                let message = format!("Host {HOST_NAME} in ha-datacenter has entered maintenance mode");
                events::note(&mut world, "EnteredMaintenanceModeEvent", &user, None, message);
                return Ok(None);
            }
        }
        if patience.is_some_and(|patience| began.elapsed() >= patience) {
            return Err(VimFault::new("Timedout", "Operation timed out: virtual machines run."));
        }
        if task::progress(&host, &task, 10).is_err() {
            return Err(VimFault::new("RequestCanceled", "The task was canceled by a user."));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a configuration of the simulator holds: the host's own file, without the numbers that must not repeat.
fn bundle(world: &World) -> Result<Vec<u8>, VimFault> {
    let mut bytes = MAGIC.to_vec();
    let kept = serde_json::json!({
        "networks": world.file.networks, "vlans": world.file.vlans, "mounts": world.file.mounts, "uuid": world.file.uuid,
        "autostart": world.file.autostart,
    });
    bytes.extend(serde_json::to_vec(&kept).map_err(VimFault::system)?);
    Ok(bytes)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    networks: Vec<String>,
    vlans: std::collections::BTreeMap<String, i32>,
    mounts: Vec<Mount>,
    uuid: String,
    #[serde(default)]
    autostart: super::autostart::Autostart,
}

fn restore(world: &mut World, call: &Call) -> Answer {
    if !world.file.maintenance {
        return Err(VimFault::new("InvalidState", "The host is not in maintenance mode."));
    }
    let Some(bytes) = world.uploaded.take() else {
        return Err(VimFault::file("FileNotFound", UPLOAD));
    };
    let read = bytes.strip_prefix(MAGIC).and_then(|json| serde_json::from_slice::<Bundle>(json).ok());
    let Some(bundle) = read else {
        return Err(VimFault::new("InvalidBundle", "The configuration bundle is not one of this host.")
            .with("text", "The bundle cannot be read."));
    };
    if bundle.uuid != world.file.uuid && call.args.boolean("force") != Some(true) {
        return Err(VimFault::new("MismatchedBundle", "The bundle is another host's.")
            .with("bundleUuid", bundle.uuid)
            .with("hostUuid", world.file.uuid.clone())
            .with("bundleBuildNumber", 0)
            .with("hostBuildNumber", 0));
    }
    (world.file.networks, world.file.vlans, world.file.mounts) = (bundle.networks, bundle.vlans, bundle.mounts);
    world.file.autostart = bundle.autostart;
    world.keep_host()?;
    world.touch_topology();
    // A host restarts with it at once: its sessions are over.
    let host = std::sync::Arc::clone(&call.host);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        host.expire_sessions();
    });
    Ok(Reply::Nothing)
}

fn mount(world: &mut World, call: &Call) -> Answer {
    let spec = call.data("spec")?;
    let text = |name| spec.text(name).unwrap_or_default().trim().to_owned();
    let (name, host, path) = (text("localPath"), text("remoteHost"), text("remotePath"));
    if name.is_empty() || name.chars().count() > 42 || name.contains(['/', '\\', '%', '[', ']']) {
        return Err(VimFault::new("InvalidName", "A datastore has no such name.").with("name", name));
    }
    if host.is_empty() || !path.starts_with('/') {
        return Err(VimFault::invalid_argument(
            "spec.remotePath",
            "a mount names a server and a path that begins with /",
        ));
    }
    let kind = spec.text("type").filter(|kind| !kind.is_empty()).unwrap_or("NFS").to_uppercase();
    if !matches!(kind.as_str(), "NFS" | "NFS41") {
        return Err(VimFault::invalid_argument("spec.type", "NFS or NFS41"));
    }
    let same = |mount: &&Mount| mount.name == name || (mount.host == host && mount.path == path);
    if let Some(there) = world.file.mounts.iter().find(same) {
        let kind = if there.name == name { "DuplicateName" } else { "AlreadyExists" };
        let fault = VimFault::new(kind, "There is such a datastore already.").with("name", there.name.clone());
        return Err(if kind == "DuplicateName" { fault.with("object", there.object()) } else { fault });
    }
    if name == datastore::NAME {
        return Err(VimFault::duplicate_name(&name, &datastore::OBJECT));
    }
    let read_only = spec.text("accessMode") == Some("readOnly");
    let mount = Mount { name, host, path, read_only, kind };
    let object = mount.object();
    let argument =
        Data::new("DatastoreEventArgument").with("name", mount.name.clone()).with("datastore", object.clone());
    let message = format!("Created NAS datastore {} on {HOST_NAME} in ha-datacenter", mount.name);
    world.file.mounts.push(mount);
    let user = user_of(world, call);
    events::note_with(world, "NASDatastoreCreatedEvent", &user, None, message, vec![("datastore", argument.into())]);
    world.keep_host()?;
    world.touch_topology();
    Ok(object.into())
}

fn unmount(world: &mut World, call: &Call) -> Answer {
    let object = call.object(world, "datastore", "Datastore")?.unwrap_or(datastore::OBJECT);
    let Some(at) = world.file.mounts.iter().position(|mount| mount.object() == object) else {
        let message = format!("The datastore '{}' is in use.", datastore::NAME);
        return Err(VimFault::new("ResourceInUse", message).with("type", "Datastore").with("name", datastore::NAME));
    };
    let mount = world.file.mounts.remove(at);
    let argument =
        Data::new("DatastoreEventArgument").with("name", mount.name.clone()).with("datastore", object.clone());
    let message = format!("Removed datastore {} from {HOST_NAME} in ha-datacenter", mount.name);
    let user = user_of(world, call);
    events::note_with(world, "DatastoreRemovedOnHostEvent", &user, None, message, vec![("datastore", argument.into())]);
    world.keep_host()?;
    world.forget(&object);
    world.touch_topology();
    Ok(Reply::Nothing)
}

/// The properties of a mount, where they differ from those of any entity.
pub fn mounted(world: &World, mount: &Mount, property: &str) -> Option<crate::sim::value::Value> {
    const SIZE: i64 = 1 << 40;
    let space = world.file.loaded.as_ref().and_then(|loaded| loaded.space.get(&mount.name));
    let (size, free) = space.map_or((SIZE, SIZE / 2), |(size, free)| (datastore::long(*size), datastore::long(*free)));
    let url = format!("/vmfs/volumes/{}", mount.object().id);
    let mode = if mount.read_only { "readOnly" } else { "readWrite" };
    Some(match property {
        "summary" => Data::new("DatastoreSummary")
            .with("datastore", mount.object())
            .with("name", mount.name.clone())
            .with("url", url)
            .with("capacity", size)
            .with("freeSpace", free)
            .with("uncommitted", 0i64)
            .with("accessible", true)
            .with("multipleHostAccess", true)
            .with("type", mount.kind.clone())
            .with("maintenanceMode", "normal")
            .into(),
        "info" => Data::new("NasDatastoreInfo")
            .with("name", mount.name.clone())
            .with("url", url)
            .with("freeSpace", free)
            .with("maxFileSize", size)
            .with(
                "nas",
                Data::new("HostNasVolume")
                    .with("type", mount.kind.clone())
                    .with("name", mount.name.clone())
                    .with("capacity", size)
                    .with("remoteHost", mount.host.clone())
                    .with("remotePath", mount.path.clone()),
            )
            .into(),
        "host" => {
            let info = Data::new("HostMountInfo").with("path", url).with("accessMode", mode);
            let info = info.with("mounted", true).with("accessible", true);
            vec![Data::new("DatastoreHostMount").with("key", HOST).with("mountInfo", info)].into()
        }
        "vm" => {
            let on = |vm: &&Vm| {
                let paths = std::iter::once(vm.vmx.as_str()).chain(vm.disk_files());
                world.datastores_of(paths).contains(&mount.object())
            };
            world.vms.values().filter(on).map(Vm::reference).collect::<Vec<_>>().into()
        }
        "browser" => datastore::BROWSER.into(),
        "capability" => super::filled("DatastoreCapability").but("directoryHierarchySupported", true).into(),
        "name" => mount.name.clone().into(),
        "parent" => super::DATASTORE_FOLDER.into(),
        _ => return None,
    })
}
