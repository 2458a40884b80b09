//! The inventory: which objects there are, when each changed last, and what belongs to whom.
//!
//! What an object's properties hold is told by its own file (`vm/`, `esx/`, `datastore/`, …); `property` asks there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use time::OffsetDateTime;

use super::cert::Certificate;
use super::collector::Collector;
use super::datastore::Datastore;
use super::esx;
use super::esx::events::Events;
use super::esx::upkeep::Mount;
use super::fault::VimFault;
use super::guest::operations::Guests;
use super::hindrance::Hindrances;
use super::lease::Leases;
use super::schema::schema;
use super::server::Options;
use super::sessions::Sessions;
use super::state::{self, HostFile, Store};
use super::task::Tasks;
use super::value::Ref;
use super::view::View;
use super::vm::question::Questions;
use super::vm::{Vm, filler, snapshot};
use crate::error::Fault;

/// Everything that requests read and change, behind one lock.
#[derive(Debug)]
pub struct World {
    tick: u64,
    /// When each object changed last; objects that never did are not in it.
    changed: HashMap<Ref, u64>,
    /// When an object came or went last.
    topology: u64,
    store: Store,
    pub file: HostFile,
    pub sessions: Sessions,
    pub vms: BTreeMap<u64, Vm>,
    pub tasks: Tasks,
    pub views: HashMap<String, View>,
    pub collectors: HashMap<String, Collector>,
    pub datastore: Datastore,
    pub certificate: Certificate,
    pub leases: Leases,
    pub events: Events,
    pub questions: Questions,
    /// The configuration that is to be downloaded, and one that was uploaded.
    pub bundle: Option<(uuid::Uuid, Vec<u8>)>,
    pub uploaded: Option<Vec<u8>>,
    pub guests: Guests,
    pub lease_timeout: Duration,
    pub started: OffsetDateTime,
    pub boot_delay: Duration,
    pub page_size: Option<usize>,
    pub update_size: Option<usize>,
    pub hindrances: Hindrances,
}

impl World {
    /// Reads the state, or makes a new host with its template.
    pub fn load(store: Store, options: &Options) -> Result<Self, Fault> {
        let file = store.host()?;
        let mut datastore = Datastore::open(store.folder())?;
        datastore.set_capacity(options.capacity);
        let sessions =
            Sessions::new(options.username.clone(), &options.password, options.idle_timeout, options.max_sessions);
        let fresh = !store.folder().join("host.json").exists();
        if !fresh && options.inventory.is_some() {
            return Err(Fault::new(
                "sim.state",
                "there is a simulator in that folder already: no other host is loaded into it",
            )
            .hint("give --state a folder that is empty, or leave it out"));
        }
        let mut world = Self {
            tick: 1,
            changed: HashMap::new(),
            topology: 1,
            file,
            sessions,
            vms: BTreeMap::new(),
            tasks: Tasks::default(),
            views: HashMap::new(),
            collectors: HashMap::new(),
            datastore,
            certificate: Certificate::load(store.folder())?,
            leases: Leases::default(),
            events: Events::default(),
            questions: Questions::default(),
            bundle: None,
            uploaded: None,
            guests: Guests::new(store.folder().join("guests")),
            lease_timeout: options.lease_timeout,
            started: OffsetDateTime::now_utc(),
            boot_delay: options.boot_delay,
            page_size: options.page_size,
            update_size: options.update_size,
            hindrances: options.hindrances.clone(),
            store,
        };
        for (path, bytes) in world.store.machines()? {
            let vm = Vm::from_json(&bytes).map_err(|error| state::broken(&path, error))?;
            world.vms.insert(vm.id, vm);
        }
        if let Some(inventory) = &options.inventory {
            super::load::put(&mut world, inventory)?;
            world.keep_host().map_err(|fault| Fault::new("sim.state", fault.message))?;
        } else if fresh {
            let template = super::vm::template::make(&mut world).map_err(|fault| {
                Fault::new("sim.state", format!("the template could not be made: {}", fault.message))
            })?;
            world.vms.insert(template.id, template.clone());
            world.keep(&template).map_err(|fault| Fault::new("sim.state", fault.message))?;
            world.keep_host().map_err(|fault| Fault::new("sim.state", fault.message))?;
        }
        for number in 1..=u32::try_from(options.vms).unwrap_or(u32::MAX).min(filler::MOST) {
            let id = filler::id(number);
            if !world.file.gone.contains(&number) && !world.vms.contains_key(&id) {
                world.vms.insert(id, filler::make(number));
            }
        }
        Ok(world)
    }

    pub fn tick(&self) -> u64 {
        self.tick
    }

    pub fn topology(&self) -> u64 {
        self.topology
    }

    /// Notes that an object's properties changed.
    pub fn touch(&mut self, object: &Ref) {
        self.tick += 1;
        self.changed.insert(object.clone(), self.tick);
    }

    /// Notes that an object came or went, which changes every list of objects too.
    pub fn touch_topology(&mut self) {
        self.tick += 1;
        self.topology = self.tick;
    }

    /// Forgets when an object changed: it is gone.
    pub fn forget(&mut self, object: &Ref) {
        self.changed.remove(object);
    }

    /// When an object may have changed last. Lists of other objects change whenever one comes or goes.
    pub fn changed_at(&self, object: &Ref) -> u64 {
        let own = self.changed.get(object).copied().unwrap_or(1);
        match object.kind {
            "VirtualMachine" | "Task" => own,
            // Counters and clocks: they are looked at anew each time.
            "SessionManager" | "ServiceInstance" => self.tick,
            "TaskManager" => self.tick,
            _ => own.max(self.topology),
        }
    }

    /// Resolves a reference to the object's own type: clients may name it by a base type.
    pub fn find(&self, named: &Ref) -> Option<Ref> {
        let id = named.id.as_ref();
        let kind = match id.parse::<u64>() {
            Ok(number) if self.vms.contains_key(&number) && id == number.to_string() => Some("VirtualMachine"),
            _ if snapshot::find(self, named).is_some() => Some("VirtualMachineSnapshot"),
            _ if self.leases.get(id).is_some() => Some("HttpNfcLease"),
            _ if id.starts_with("haTask-") => self.tasks.get(id).map(|_| "Task"),
            _ => esx::fixed(id)
                .or_else(|| esx::pools::kind(self, id))
                .or_else(|| self.views.get(id).map(View::kind))
                .or_else(|| self.owned(id)),
        }?;
        schema().is_a(kind, named.kind).then(|| Ref::new(kind, id.to_owned()))
    }

    fn owned(&self, id: &str) -> Option<&'static str> {
        if let Some(name) = id.strip_prefix("HaNetwork-") {
            return self.networks().any(|network| network == name).then_some("Network");
        }
        if self.mount(id).is_some() {
            return Some("Datastore");
        }
        if self.events.knows(id) {
            return Some("EventHistoryCollector");
        }
        if self.collectors.contains_key(id) {
            return Some("PropertyCollector");
        }
        self.collectors.values().any(|collector| collector.filters.contains_key(id)).then_some("PropertyFilter")
    }

    /// The names of the networks.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        let own = self.file.loaded.as_ref().is_none_or(|loaded| loaded.own_network);
        own.then_some(esx::NETWORK).into_iter().chain(self.file.networks.iter().map(String::as_str))
    }

    /// The mount that the object of that id stands for.
    pub fn mount(&self, id: &str) -> Option<&Mount> {
        let name = id.strip_prefix("nfs-")?;
        self.file.mounts.iter().find(|mount| mount.name == name)
    }

    /// All datastores: the one that holds files, and the mounts.
    pub fn datastores(&self) -> Vec<Ref> {
        let own = self.file.loaded.as_ref().is_none_or(|loaded| loaded.own_datastore);
        own.then_some(super::datastore::OBJECT).into_iter().chain(self.file.mounts.iter().map(Mount::object)).collect()
    }

    /// The datastores that these paths are on, each once.
    pub fn datastores_of<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Vec<Ref> {
        let mut found: Vec<Ref> = Vec::new();
        for name in paths.filter_map(crate::inventory::datastore_of) {
            let mount = self.file.mounts.iter().find(|mount| mount.name == name).map(Mount::object);
            let object = mount.unwrap_or(super::datastore::OBJECT);
            if !found.contains(&object) {
                found.push(object);
            }
        }
        if found.is_empty() { vec![super::datastore::OBJECT] } else { found }
    }

    pub fn vm(&self, object: &Ref) -> Result<&Vm, VimFault> {
        let id = object.id.parse::<u64>().ok();
        id.and_then(|id| self.vms.get(&id)).ok_or_else(|| VimFault::not_found(object))
    }

    pub fn vm_by_name(&self, name: &str) -> Option<&Vm> {
        self.vms.values().find(|vm| vm.name == name)
    }

    /// Replaces or adds a machine: first on disk, then here, so that what a client was told is never lost.
    pub fn put(&mut self, mut vm: Vm) -> Result<(), VimFault> {
        vm.change_version += 1;
        self.keep(&vm)?;
        let object = vm.reference();
        let new = self.vms.insert(vm.id, vm).is_none();
        self.touch(&object);
        if new {
            self.touch_topology();
        }
        Ok(())
    }

    /// Removes a machine from the inventory; its files are the caller's business.
    pub fn remove(&mut self, object: &Ref) -> Result<Vm, VimFault> {
        let id = self.vm(object)?.id;
        if let Some(number) = filler::number(id) {
            self.file.gone.insert(number);
            self.keep_host()?;
        }
        self.store.forget_machine(id).map_err(|error| VimFault::system(format!("the state was not saved: {error}")))?;
        let vm = self.vms.remove(&id).ok_or_else(|| VimFault::not_found(object))?;
        self.forget(object);
        self.questions.forget(id);
        if self.file.autostart.forget(id) {
            self.keep_host()?;
            self.touch(&esx::autostart::MANAGER);
        }
        self.touch_topology();
        Ok(vm)
    }

    fn keep(&self, vm: &Vm) -> Result<(), VimFault> {
        let record = vm.to_json().map_err(VimFault::system)?;
        self.store
            .save_machine(vm.id, &record)
            .map_err(|error| VimFault::system(format!("the state was not saved: {error}")))
    }

    /// Saves the host's own numbers.
    pub fn keep_host(&self) -> Result<(), VimFault> {
        self.store.save_host(&self.file).map_err(|error| VimFault::system(format!("the state was not saved: {error}")))
    }

    /// Ends the sessions that have rested too long, with what belonged to them.
    pub fn expire_sessions(&mut self) {
        for key in self.sessions.expire() {
            self.end_session(&key);
        }
    }

    /// Drops the views, collectors and filters of a session that has ended.
    pub fn end_session(&mut self, key: &str) {
        self.views.retain(|_, view| view.session != key);
        self.collectors.retain(|_, collector| collector.session != key);
        self.events.end_session(key);
        // Whoever waits on a collector of this session must wake up and see that it is gone.
        self.tick += 1;
    }
}
