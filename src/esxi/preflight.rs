//! Whether a machine could be made on a host: all that can be known before the first write, in one go.
//!
//! Every finding is collected: nobody should mend one thing to be told of the next. What cannot be read is passed over, for the write
//! itself will say so. Specification: vSphere Web Services API, `HostListSummary`, `AuthorizationManager`, `DatastoreSummary`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::units::{Bytes, Span};
use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::facts::HostFacts;
use super::host::Host;
use super::moref::MoRef;
use super::object::{HostObject, NewVm};
use super::places::Reach;
use super::property::{From, Object};
use super::storage::{DatastoreRow, NetworkRow};
use super::vm_list::{Detail, PowerState, VmRow, text};

/// What is to be made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The machine that is to be copied.
    pub template: Option<&'a str>,
    /// Where to; else the roomiest of those that may be used.
    pub datastore: Option<&'a str>,
    /// Whether the datastore may not be looked at.
    pub without_datastore: bool,
    pub networks: &'a [String],
    /// What it will take up at once.
    pub space: Option<Bytes>,
    /// What it may take up in the end.
    pub grows_to: Option<Bytes>,
    pub power_on: bool,
    /// Whether it comes from an appliance or another host, which takes other privileges than making it here.
    pub imported: bool,
    /// How long there is for it.
    pub time: Option<Duration>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `licence`, `privilege`, `lockdown`, `vcenter`, `maintenance`, `name`, `folder`, `template`, `datastore`,
    /// `space`, `network`, `time`.
    pub what: &'static str,
    pub message: String,
}

/// What stands in the way, and what may be trouble later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    pub failures: Vec<Finding>,
    pub warnings: Vec<Finding>,
    /// The datastore that the machine would go to.
    pub datastore: Option<String>,
}

impl Preflight {
    fn fails(&mut self, what: &'static str, message: impl Into<String>) {
        self.failures.push(Finding { what, message: message.into() });
    }

    fn warns(&mut self, what: &'static str, message: impl Into<String>) {
        self.warnings.push(Finding { what, message: message.into() });
    }
}

/// What making a machine takes.
const MAKING: &[&str] = &[
    "VirtualMachine.Inventory.Create",
    "VirtualMachine.Config.AddNewDisk",
    "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.AdvancedConfig",
    "Resource.AssignVMToPool",
    "Datastore.AllocateSpace",
    "Datastore.FileManagement",
    "Network.Assign",
];

/// What taking one in takes: the disks come through a lease, and no file is made beside it.
const IMPORTING: &[&str] = &["VApp.Import", "Datastore.AllocateSpace"];

const POWER_ON: &str = "VirtualMachine.Interact.PowerOn";

/// The role that has every privilege, on every release.
const ADMINISTRATOR: &str = "-1";

impl Host {
    /// Looks at everything that the host can tell about a machine that is to be made. `usable` says of a noun, a verb and a name whether
    /// a datastore or network may be named (`read`), and whether a datastore may be chosen (`write`).
    pub async fn preflight(
        &self,
        host: &Checked<HostObject>,
        new: &Checked<NewVm>,
        asked: Asked<'_>,
        usable: &(dyn Fn(&'static str, &'static str, &str) -> bool + Send + Sync),
    ) -> Result<Preflight, Error> {
        let (facts, vms, stores, networks, roles) = futures_util::try_join!(
            self.host_facts(host),
            self.list_vms(host, Detail::Full),
            self.list_datastores(host),
            self.list_networks(host),
            self.missing_privileges(&asked),
        )?;
        let mut found = Preflight::default();
        of_host(&mut found, &facts, &roles, asked.power_on);
        let taken = vms.iter().any(|row| row.vm.own_name() == new.name);
        if taken {
            found.fails("name", format!("there is a machine named {:?} already", new.name));
        }
        let source = template(&mut found, &vms, asked.template);
        let space = asked.space.or(source.and_then(|row| row.committed));
        let copies = space.filter(|_| source.is_some()).and_then(|space| self.abilities().copy_time(space));
        if let (Some(takes), Some(time)) = (copies, asked.time)
            && takes > time
        {
            let (takes, time) = (Span(takes), Span(Duration::from_secs(time.as_secs())));
            found.warns(
                "time",
                format!("the host copies so much in about {takes}, as a probe found, and the run ends in {time}"),
            );
        }
        // Where none is named, the operation chooses among those that may be written to, and what it chooses may be hidden.
        let verb = if asked.datastore.is_none() { "write" } else { "read" };
        let stores: Vec<DatastoreRow> =
            stores.into_iter().filter(|row| usable("datastore", verb, &row.datastore.name)).collect();
        let hidden = |row: &DatastoreRow| !usable("datastore", "read", &row.datastore.name);
        let hidden = asked.datastore.is_none() && roomiest(&stores).is_some_and(hidden);
        // Of a vCenter's datastores none is chosen, for not every host has each.
        let open = self.is_vcenter() && asked.datastore.is_none() && stores.iter().filter(is_good).count() > 1;
        let store = match asked.without_datastore || open || hidden {
            true => None,
            false => datastore(&mut found, &stores, asked.datastore, space, asked.grows_to),
        };
        let networks: Vec<NetworkRow> =
            networks.into_iter().filter(|row| usable("network", "read", &row.network.name)).collect();
        for wanted in asked.networks {
            match networks.iter().find(|row| row.network.name == *wanted) {
                None => found.fails("network", format!("there is no network {wanted:?}")),
                Some(row) if !row.accessible => {
                    found.fails("network", format!("the network {wanted:?} is not accessible"))
                }
                Some(_) => {}
            }
        }
        if let Some(store) = store {
            found.datastore = Some(store.datastore.name.clone());
            let folder = format!("[{}] {}", store.datastore.name, new.name);
            // The folder of a machine that has the name is most likely its own: one thing to mend, not two.
            if taken {
                return Ok(found);
            }
            match self.folder_files(&store.datastore, &folder).await {
                Ok(_) => found.fails("folder", format!("the folder {folder} is there already, and is not reused")),
                Err(error) if error.is("FileNotFound") => {}
                // What cannot be looked into is found out by the write.
                Err(error) if error.vim().is_some() => tracing::debug!(host = self.name(), "{folder}: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The privileges that the account lacks on the host, as far as it can see its own roles.
    async fn missing_privileges(&self, asked: &Asked<'_>) -> Result<Vec<&'static str>, Error> {
        let contract = self.link.contract();
        let mut query = self.link.everything(&[Reach::Hosts], vec![("HostSystem", vec!["effectiveRole"])]);
        if let Some(manager) = &contract.content.authorization_manager {
            query.properties.push(("AuthorizationManager", vec!["roleList"]));
            let object = MoRef::new("AuthorizationManager", manager);
            query.from.push(From { object, skip: false, steps: Vec::new() });
        }
        let objects = self.link.retrieve(&query).await?;
        Ok(missing(&objects, asked))
    }
}

fn missing(objects: &[Object], asked: &Asked<'_>) -> Vec<&'static str> {
    let list = |path: &str| objects.iter().find_map(|object| object.get(path)).map(|list| list.children.as_slice());
    let (Some(own), Some(roles)) = (list("effectiveRole"), list("roleList")) else { return Vec::new() };
    let own: Vec<&str> = own.iter().map(|role| role.text.trim()).collect();
    let is_own = |role: &&Element| text(role, "roleId").is_some_and(|id| own.contains(&id.as_str()));
    if own.is_empty() || own.contains(&ADMINISTRATOR) || !roles.iter().any(|role| is_own(&role)) {
        return Vec::new();
    }
    let held: BTreeSet<&str> =
        roles.iter().filter(is_own).flat_map(|role| role.all("privilege")).map(|name| name.text.trim()).collect();
    let making = if asked.imported { IMPORTING } else { MAKING };
    let needed = making.iter().copied().chain(asked.power_on.then_some(POWER_ON));
    needed.filter(|name| !held.contains(name)).collect()
}

fn of_host(found: &mut Preflight, facts: &HostFacts, missing: &[&str], power_on: bool) {
    if facts.licence_restricted == Some(true) {
        let name = facts.licence.as_deref().unwrap_or("the free one");
        found.fails("licence", format!("the licence of the host ({name}) allows reads only"));
    }
    if !missing.is_empty() {
        found.fails("privilege", format!("the account lacks {}", missing.join(", ")));
    }
    if facts.maintenance && power_on {
        found.fails("maintenance", "the host is in maintenance mode: it turns no machine on");
    }
    if let Some(mode) = &facts.lockdown {
        found.warns("lockdown", format!("the host is in lockdown mode ({mode}): other accounts may be refused"));
    }
    if let Some(server) = &facts.managed_by {
        found.warns("vcenter", format!("the vCenter at {server} manages this host, and may undo what is done here"));
    }
}

fn template<'a>(found: &mut Preflight, vms: &'a [VmRow], wanted: Option<&str>) -> Option<&'a VmRow> {
    let wanted = wanted?;
    let mut named = vms.iter().filter(|row| row.vm.name == wanted);
    match (named.next(), named.next()) {
        (None, _) => found.fails("template", format!("there is no machine {wanted:?} to copy")),
        (Some(_), Some(_)) => found.fails("template", format!("more than one machine is named {wanted:?}")),
        (Some(row), None) => {
            if row.power != PowerState::Off {
                let state = row.power.as_str();
                found.fails(
                    "template",
                    format!("the template {wanted:?} is {state}: only a machine that is off is copied"),
                );
            }
            if let Some(state) = row.connection.as_deref().filter(|state| *state != "connected") {
                found.fails("template", format!("the template {wanted:?} is {state}"));
            }
            return Some(row);
        }
    }
    None
}

fn is_good(row: &&DatastoreRow) -> bool {
    row.accessible && row.writable && row.maintenance == "normal"
}

fn roomiest(stores: &[DatastoreRow]) -> Option<&DatastoreRow> {
    let by_name = |a: &DatastoreRow, b: &DatastoreRow| b.datastore.name.cmp(&a.datastore.name);
    stores.iter().filter(is_good).max_by(|a, b| a.free.0.cmp(&b.free.0).then_with(|| by_name(a, b)))
}

fn datastore<'a>(
    found: &mut Preflight,
    stores: &'a [DatastoreRow],
    wanted: Option<&str>,
    space: Option<Bytes>,
    grows_to: Option<Bytes>,
) -> Option<&'a DatastoreRow> {
    let store = match wanted {
        None => roomiest(stores),
        Some(name) => stores.iter().find(|row| row.datastore.name == name),
    };
    let Some(row) = store else {
        found.fails(
            "datastore",
            wanted.map_or("no datastore can take the machine".to_owned(), |name| {
                format!("there is no datastore {name:?}")
            }),
        );
        return None;
    };
    let name = &row.datastore.name;
    let why_not = match row {
        row if !row.accessible => Some("is not accessible"),
        row if row.maintenance != "normal" => Some("is in maintenance"),
        row if !row.writable => Some("is mounted for reading only"),
        _ => None,
    };
    if let Some(why) = why_not {
        found.fails("datastore", format!("the datastore {name:?} {why}"));
        return None;
    }
    match (space, grows_to) {
        (Some(space), _) if space.0 > row.free.0 => {
            let missing = Bytes(space.0 - row.free.0);
            let free = row.free;
            found.fails("space", format!("{name:?} has {free} free, and {space} are needed: {missing} are missing"));
        }
        (_, Some(size)) if size.0 > row.free.0 => {
            let free = row.free;
            found.warns("space", format!("{name:?} has {free} free, and the machine's disks may grow to {size}"));
        }
        _ => {}
    }
    Some(row)
}
