//! From names and handles to checked objects: each is resolved once, checked against the tables, and bound to what the host calls it.
//!
//! A name is literal and selects exactly one object; two of one name are an error that lists the candidates. Before a change the
//! object's identity is read anew, so that a rename or a recreation after the handle was given out is seen.

// Here names become objects, and here alone.
#![allow(clippy::disallowed_methods)]

use std::sync::{Arc, Mutex, PoisonError};

use super::acting::Pass;
use super::bench::Bench;
use super::literals::check_name;
use super::object::{Connected, Object, Target, kind};
use super::operation::{Effect, Touch};
use crate::error::{Fault, nearest};
use crate::esxi::checked::Checked;
use crate::esxi::{self, HostObject, NewVm};

/// A machine that the tables allow for the operation under way, and the host that it is on.
pub struct BoundVm {
    pub host: Arc<Connected>,
    pub vm: Checked<esxi::Vm>,
}

/// A host that the operation under way may ask.
pub struct BoundHost {
    pub host: Arc<Connected>,
    pub system: Checked<HostObject>,
}

/// A use of an entry: what a quota counts and the journal names.
#[derive(Debug, Clone)]
pub(super) struct Use {
    pub noun: &'static str,
    pub verb: &'static str,
    pub name: String,
    pub made: bool,
}

/// Resolves and checks the objects of one call.
pub struct Binder<'a> {
    pub(super) pass: &'a Pass<'a>,
    effect: Effect,
    touches: &'static [Touch],
    uses: Mutex<Vec<Use>>,
    /// The name of the first host that the call is about.
    host: Mutex<Option<String>>,
}

#[allow(clippy::disallowed_methods, reason = "here names become objects, and are checked")]
impl<'a> Binder<'a> {
    pub(super) fn new(pass: &'a Pass<'a>, effect: Effect, touches: &'static [Touch]) -> Self {
        Self { pass, effect, touches, uses: Mutex::default(), host: Mutex::default() }
    }

    /// What the call touches, in the order in which it was bound.
    pub(super) fn uses(&self) -> Vec<Use> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The host that the call is about, once it is bound.
    pub(super) fn host_name(&self) -> Option<String> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_host(&self, host: &Connected) {
        self.host.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| host.name.clone());
    }

    /// The host behind a handle. Asking it needs the touches of the call, which are checked for themselves.
    pub fn host(&self, target: &Target<kind::Host>) -> Result<BoundHost, Fault> {
        match self.pass.door.objects.get(target.id) {
            Some(Object::Host(host)) => Ok(self.bound_host(host)),
            _ => Err(foreign(target.id)),
        }
    }

    /// The host behind a handle, for a declared verb of its own.
    pub fn host_for(&self, target: &Target<kind::Host>, verb: &'static str) -> Result<BoundHost, Fault> {
        let bound = self.host(target)?;
        self.check("host", verb, &bound.host.name, false)?;
        Ok(bound)
    }

    /// The host that a name stands for; without one, the host that the run was started for.
    pub async fn connect(&self, name: Option<&str>) -> Result<BoundHost, Fault> {
        if let Some(name) = name {
            self.check("host", "connect", name, false)?;
        }
        Ok(self.bound_host(self.pass.door.connect(name).await?))
    }

    /// The bench behind a test's handle. It is no host: what a test asks of it needs no entry, for only a test has the handle.
    pub fn test(&self, target: &Target<kind::Test>) -> Result<Arc<dyn Bench>, Fault> {
        match self.pass.door.objects.get(target.id) {
            Some(Object::Test(bench)) => Ok(bench),
            _ => Err(foreign(target.id)),
        }
    }

    /// The machine behind a handle, for a declared verb.
    pub async fn vm(&self, target: &Target<kind::Vm>, verb: &'static str) -> Result<BoundVm, Fault> {
        let Some(Object::Vm(host, known)) = self.pass.door.objects.get(target.id) else {
            return Err(foreign(target.id));
        };
        if self.effect < Effect::Change {
            return self.bound_vm(host, known, verb);
        }
        self.bound_anew(host, known, verb).await
    }

    /// The machine behind a handle as it is now, also for a read: one whose answer does not tell which machine gave it.
    pub async fn vm_anew(&self, target: &Target<kind::Vm>, verb: &'static str) -> Result<BoundVm, Fault> {
        match self.pass.door.objects.get(target.id) {
            Some(Object::Vm(host, known)) => self.bound_anew(host, known, verb).await,
            _ => Err(foreign(target.id)),
        }
    }

    async fn bound_anew(&self, host: Arc<Connected>, known: esxi::Vm, verb: &'static str) -> Result<BoundVm, Fault> {
        let vm = host.client.lookup_vm(&known.moref).await?;
        self.pass.same(&host, &known, &vm, verb)?;
        self.bound_vm(host, vm, verb)
    }

    /// The one machine of that name, for a declared verb.
    pub async fn vm_named(&self, host: &BoundHost, name: &str, verb: &'static str) -> Result<BoundVm, Fault> {
        match self.find_vm(host, name, verb).await? {
            Ok(bound) => Ok(bound),
            Err(all) => {
                let visible: Vec<&str> =
                    all.iter().map(|vm| vm.name.as_str()).filter(|name| self.pass.may_read("vm", name)).collect();
                Err(not_found("vm", "virtual machine", name, &host.host.name, &visible))
            }
        }
    }

    /// The one machine of that name, or nothing where there is none.
    pub async fn vm_if_there(
        &self,
        host: &BoundHost,
        name: &str,
        verb: &'static str,
    ) -> Result<Option<BoundVm>, Fault> {
        Ok(self.find_vm(host, name, verb).await?.ok())
    }

    async fn find_vm(
        &self,
        host: &BoundHost,
        name: &str,
        verb: &'static str,
    ) -> Result<Result<BoundVm, Vec<esxi::Vm>>, Fault> {
        self.declared("vm", verb)?;
        self.pass.door.policy.check_literal("vm", verb, name)?;
        let all = host.host.client.lookup_vms().await?;
        let mut matching: Vec<&esxi::Vm> = all.iter().filter(|vm| vm.name == name).collect();
        if matching.is_empty() {
            // Machines of one name in several folders are called by their paths, and the name alone means none of them.
            matching = all.iter().filter(|vm| vm.own_name() == name).collect();
        }
        match matching.as_slice() {
            [] => Ok(Err(all)),
            [one] if one.name == name => self.bound_vm(host.host.clone(), (*one).clone(), verb).map(Ok),
            many => {
                // Where each lies is told to those who may read them.
                let readable = many.iter().filter(|vm| self.pass.may_read("vm", &vm.name));
                let by_path = many.iter().all(|vm| vm.name != name);
                let candidate = |vm: &&&esxi::Vm| match by_path {
                    true => format!("{} at {}", vm.name, vm.path),
                    false => format!("{} at {}", vm.moref.id, vm.path),
                };
                let candidates: Vec<String> = readable.map(|vm| candidate(&vm)).collect();
                let listed = if candidates.is_empty() { String::new() } else { format!(": {}", candidates.join("; ")) };
                Err(Fault::new(
                    "esxi.ambiguous",
                    format!("{} machines on {} are named {name:?}{listed}", many.len(), host.host.name),
                )
                .hint(match by_path {
                    true => "call it by its path, here and in tables: ceso takes a name only where it selects exactly one machine",
                    false => "rename all but one: ceso takes a name only where it selects exactly one machine",
                }))
            }
        }
    }

    /// The host of a machine that is bound, for what else the call is about.
    pub fn host_of(&self, bound: &BoundVm) -> BoundHost {
        self.bound_host(bound.host.clone())
    }

    /// A name for a machine that is to be made; an error where it is taken.
    pub async fn new_vm(&self, host: &BoundHost, name: &str) -> Result<Checked<NewVm>, Fault> {
        self.free_name(&host.host, name, "create").await
    }

    /// A name that a machine is to have, for a declared verb; an error where it is taken.
    pub async fn free_name(&self, host: &Connected, name: &str, verb: &'static str) -> Result<Checked<NewVm>, Fault> {
        let new = self.vm_name(name, verb)?;
        let all = host.client.lookup_vms().await?;
        if let Some(there) = all.iter().find(|vm| vm.own_name() == name) {
            let place =
                if self.pass.may_read("vm", &there.name) { format!(", at {}", there.path) } else { String::new() };
            return Err(Fault::new(
                "esxi.duplicate_name",
                format!("there is a machine named {name:?} on {} already{place}", host.name),
            )
            .hint("choose another name, or use the ensure form, which takes the machine that is there"));
        }
        Ok(new)
    }

    /// A name for a machine that is known not to be there.
    pub fn new_vm_name(&self, name: &str) -> Result<Checked<NewVm>, Fault> {
        self.vm_name(name, "create")
    }

    /// A name that a machine may have, for a declared verb; nothing is asked.
    pub fn vm_name(&self, name: &str, verb: &'static str) -> Result<Checked<NewVm>, Fault> {
        check_name(name)?;
        self.check("vm", verb, name, false)?;
        Ok(vouch(NewVm { name: name.to_owned() }))
    }

    /// The datastore of that name, for a declared verb.
    pub async fn datastore(
        &self,
        host: &BoundHost,
        name: &str,
        verb: &'static str,
    ) -> Result<Checked<esxi::Datastore>, Fault> {
        self.check("datastore", verb, name, false)?;
        let all = host.host.client.lookup_datastores().await?;
        let mut named = all.iter().filter(|datastore| datastore.name == name);
        match (named.next(), named.next()) {
            (Some(datastore), None) => Ok(vouch(datastore.clone())),
            (Some(_), Some(_)) => Err(ambiguous("datastores", name, &host.host.name)),
            (None, _) => {
                let visible: Vec<&str> = all
                    .iter()
                    .map(|datastore| datastore.name.as_str())
                    .filter(|name| self.pass.may_read("datastore", name))
                    .collect();
                Err(not_found("datastore", "datastore", name, &host.host.name, &visible))
            }
        }
    }

    /// The machine behind a handle, for a declared verb, into whose own folder files may be put: its datastore is checked by what the
    /// handle knows before anything is sent, and by where the machine lies now.
    pub async fn vm_and_folder(&self, target: &Target<kind::Vm>, verb: &'static str) -> Result<BoundVm, Fault> {
        if let Some(Object::Vm(_, known)) = self.pass.door.objects.get(target.id) {
            self.writes_at(&known.path)?;
        }
        let bound = self.vm(target, verb).await?;
        self.writes_at(&bound.vm.path)?;
        Ok(bound)
    }

    fn writes_at(&self, path: &str) -> Result<(), Fault> {
        let datastore = path.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name);
        self.check("datastore", "write", datastore.unwrap_or_default(), false)
    }

    /// The datastore with the most free space of those that can be written to, by host and tables; of equals the first by name.
    ///
    /// Faults: `esxi.no_datastore`.
    pub async fn roomiest_datastore(&self, host: &BoundHost) -> Result<Checked<esxi::Datastore>, Fault> {
        let mut rows = host.host.client.list_datastores(&host.system).await?;
        rows.sort_by(|a, b| b.free.0.cmp(&a.free.0).then_with(|| a.datastore.name.cmp(&b.datastore.name)));
        let why_not = |row: &esxi::DatastoreRow| match row {
            row if !row.accessible => Some("it is not accessible"),
            row if row.maintenance != "normal" => Some("it is in maintenance"),
            row if !row.writable => Some("it is mounted for reading only"),
            row if !self.pass.door.policy.allows("datastore", "write", &row.datastore.name, false) => {
                Some("datastore.write does not allow it")
            }
            _ => None,
        };
        // Not every host of a vCenter has every datastore: of several none is chosen.
        let usable = rows.iter().filter(|row| why_not(row).is_none()).count();
        if host.host.client.is_vcenter() && usable > 1 {
            let readable = rows.iter().filter(|row| self.pass.may_read("datastore", &row.datastore.name));
            let names: Vec<&str> = readable.map(|row| row.datastore.name.as_str()).take(12).collect();
            return Err(Fault::new(
                "esxi.no_datastore",
                format!("{} has {usable} datastores that a machine could go to, and none is named", host.host.name),
            )
            .hint(format!("name one that its host or cluster has: datastore = \"…\" ({})", names.join(", "))));
        }
        if let Some(row) = rows.iter().find(|row| why_not(row).is_none()) {
            self.check("datastore", "write", &row.datastore.name, false)?;
            return Ok(vouch(row.datastore.clone()));
        }
        let readable = rows.iter().filter(|row| self.pass.may_read("datastore", &row.datastore.name));
        let told: Vec<String> =
            readable.filter_map(|row| Some(format!("{:?}: {}", row.datastore.name, why_not(row)?))).take(10).collect();
        let listed = if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) };
        Err(Fault::new("esxi.no_datastore", format!("no datastore of {} can take the machine{listed}", host.host.name))
            .hint("name one with datastore = \"…\", or grant datastore.write on one that is there"))
    }

    /// The network of that name, for a declared verb.
    pub async fn network(
        &self,
        host: &BoundHost,
        name: &str,
        verb: &'static str,
    ) -> Result<Checked<esxi::Network>, Fault> {
        self.check("network", verb, name, false)?;
        let all = host.host.client.lookup_networks().await?;
        let mut named = all.iter().filter(|network| network.name == name);
        match (named.next(), named.next()) {
            (Some(network), None) => Ok(vouch(network.clone())),
            (Some(_), Some(_)) => Err(ambiguous("networks", name, &host.host.name)),
            (None, _) => {
                let visible: Vec<&str> = all
                    .iter()
                    .map(|network| network.name.as_str())
                    .filter(|name| self.pass.may_read("network", name))
                    .collect();
                Err(not_found("network", "network", name, &host.host.name, &visible))
            }
        }
    }

    /// The object behind a number of this run.
    pub(super) fn object(&self, id: u32) -> Option<Object> {
        self.pass.door.objects.get(id)
    }

    /// Whether the run made a file, or a folder that it lies in.
    pub(super) fn has_made_file(&self, host: &str, datastore: &str, path: &esxi::FilePath) -> bool {
        self.pass.has_made_file(host, datastore, path)
    }

    pub(super) fn door(&self) -> &super::Door {
        self.pass.door
    }

    /// Checks a name of what is no object of a host, for a declared verb.
    pub fn named(&self, noun: &'static str, verb: &'static str, name: &str) -> Result<(), Fault> {
        self.check(noun, verb, name, false)
    }

    /// Checks a verb on what is of no single object: the tables must allow it on everything.
    pub fn everything(&self, noun: &'static str, verb: &'static str) -> Result<(), Fault> {
        self.declared(noun, verb)?;
        self.pass.door.policy.check_all(noun, verb)
    }

    /// Checks a filtered list's verb: any entry at all will do, and the rows are filtered.
    pub fn filtered(&self, noun: &'static str, verb: &'static str) -> Result<(), Fault> {
        self.declared(noun, verb)?;
        self.pass.door.policy.check_filtered(noun, verb)?;
        self.pass.door.policy.note_all(noun, verb);
        Ok(())
    }

    pub(super) fn bound_host(&self, host: Arc<Connected>) -> BoundHost {
        self.note_host(&host);
        let system = vouch(host.client.lookup_host());
        BoundHost { host, system }
    }

    fn bound_vm(&self, host: Arc<Connected>, vm: esxi::Vm, verb: &'static str) -> Result<BoundVm, Fault> {
        let made = self.pass.door.journal.has_made(&made_key(&host.name, &vm));
        self.note_host(&host);
        self.check("vm", verb, &vm.name, made)?;
        Ok(BoundVm { host, vm: vouch(vm) })
    }

    pub(super) fn check(&self, noun: &'static str, verb: &'static str, name: &str, made: bool) -> Result<(), Fault> {
        self.declared(noun, verb)?;
        self.pass.door.policy.check(noun, verb, name, made)?;
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        if !uses.iter().any(|known| (known.noun, known.verb) == (noun, verb) && known.name == name) {
            uses.push(Use { noun, verb, name: name.to_owned(), made });
        }
        Ok(())
    }

    /// An operation binds only what it declares: else its reference and its sweep would lie.
    fn declared(&self, noun: &'static str, verb: &'static str) -> Result<(), Fault> {
        if self.touches.iter().any(|touch| touch.noun == noun && touch.verb == verb) {
            return Ok(());
        }
        Err(Fault::new("ceso.undeclared", format!("{noun}.{verb} is not among what this operation declares to touch"))
            .hint("this is a defect of ceso: please report it"))
    }
}

/// A host may give a reference to another machine once the first is gone, so the machine's own identity is part of it.
pub(super) fn made_key(host: &str, vm: &esxi::Vm) -> String {
    format!("{host} {} {}", vm.moref, vm.instance_uuid)
}

fn ambiguous(what: &str, name: &str, host: &str) -> Fault {
    Fault::new("esxi.ambiguous", format!("several {what} on {host} are named {name:?}"))
        .hint("rename all but one: ceso takes a name only where it selects exactly one object")
}

/// The one place where an object becomes a checked one.
pub(super) fn vouch<T>(object: T) -> Checked<T> {
    Checked::by_the_door(object)
}

pub(super) fn foreign(id: u32) -> Fault {
    Fault::new("usage.handle", format!("handle {id} is not one of this run, or of another kind"))
}

fn not_found(noun: &str, what: &str, name: &str, host: &str, visible: &[&str]) -> Fault {
    let fault = Fault::new(format!("esxi.{noun}_not_found"), format!("there is no {what} named {name:?} on {host}"));
    let near = nearest(name, visible.iter().copied());
    if !near.is_empty() {
        let near: Vec<String> = near.iter().map(|name| format!("{name:?}")).collect();
        return fault.hint(format!("did you mean {}?", near.join(" or ")));
    }
    match noun {
        "vm" => fault.hint("ceso vm list shows the machines"),
        _ if visible.is_empty() => {
            fault.hint(format!("there is none that the run may read: {noun}.read is not granted"))
        }
        _ => fault.hint(format!("there are: {}", visible.join(", "))),
    }
}
