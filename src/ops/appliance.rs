//! The operation that brings a machine in from an OVF or OVA: a file of this machine, or what lies at a URL.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::file_transfer::blocking;
use super::package::{Appliance, Part, Parts};
use super::package_coming::{Arriving, Coming};
use super::rows::give_vm;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost};
use crate::door::file::Access;
use crate::door::object::{Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::{Fault, nearest};
use crate::esxi::checked::Checked;
use crate::esxi::{self, Content, ImportFile, ImportPlan, Lease, LeaseFile, NewVm};
use crate::ova;

/// Makes a machine of an OVA or OVF, powered off: a file of this machine, or what lies at a URL.
///
/// An appliance of this machine is checked whole before a host hears of it: plain files alone, the sums of its manifest, every file that it
/// names, disks as large as they say. One at a URL is streamed and never stored: where the server gives parts of it (Range), all but the
/// sums is checked before anything is made, else as it comes; sums are compared on the way, and what was made is removed where one is
/// wrong. Certificates are verified, redirects are followed within what `web.fetch` allows and never from https to http, and what breaks
/// off goes on where the server can. Disks are thin. Errors: `ova.invalid`, `ova.sum`, `web.…`, `esxi.duplicate_name`,
/// `esxi.no_disk_space`, `esxi.file_already_exists` where a folder of the machine's name is there, `usage.network` where one of its
/// networks is not there and none is named instead, or where `networks` names one that it does not have. What an import made that failed
/// or was stopped is removed, or the error names it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The host.
    pub host: Target<kind::Host>,
    /// The `.ova` or `.ovf` file: a parameter of type `file`. The other files of an `.ovf` lie beside it. Either this or `url` is given.
    pub file: Option<Target<kind::File>>,
    /// The URL of an `.ova` or `.ovf`, of http or https, without a user name; the other files of an `.ovf` lie beside it.
    pub url: Option<String>,
    /// The new machine's name, 1 to 80 characters.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// The network of all its cards that `networks` does not place. Default: those that the appliance names.
    pub network: Option<String>,
    /// Where its cards go, by the name that the appliance has for their network: `{ ["VM Network"] = "LAN" }`.
    #[serde(default)]
    pub networks: BTreeMap<String, String>,
    /// On a vCenter, the folder of machines that it is put into, such as `prod/web`. Default: the datacenter's own.
    pub folder: Option<String>,
    /// On a vCenter, what runs it: a cluster or a host, or one host or resource pool of a cluster, such as `C1/esx1`. Default: the only one there is.
    pub place: Option<String>,
}

/// An import, checked.
pub struct BoundImport {
    host: BoundHost,
    new: Checked<NewVm>,
    datastore: Checked<esxi::Datastore>,
    networks: Vec<(String, Checked<esxi::Network>)>,
    appliance: Appliance,
}

impl Operation for Import {
    const NAME: &'static str = "vm.import";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "import" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "create", Selector::Argument("name")),
        touch("datastore", "write", Selector::Argument("datastore")),
        touch("network", "use", Selector::Argument("network")),
        touch("network", "use", Selector::Given { argument: "networks", given: "networks" }),
        touch("web", "fetch", Selector::Url("url")),
    ];
    const CONTENTS: &'static [&'static str] = &["url"];
    const USAGE: &'static str =
        "local vm = host:import({ file = file, name = \"imported-1\", network = \"VM Network\" })\nprint(vm.name)";

    type Bound = BoundImport;
    type Output = Given<kind::Vm>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundImport, Fault> {
        let host = binder.host(&self.host)?;
        let new = binder.new_vm(&host, &self.name).await?;
        let datastore = match &self.datastore {
            Some(name) => binder.datastore(&host, name, "write").await?,
            None => binder.roomiest_datastore(&host).await?,
        };
        let appliance = match (&self.file, &self.url) {
            (Some(file), None) => {
                let file = binder.file(file, Access::Read)?;
                blocking(move || Appliance::open(file)).await?
            }
            (None, Some(url)) => {
                let (web, address) = binder.web(url)?;
                Appliance::fetch(web, address, binder).await?
            }
            _ => {
                return Err(Fault::new("usage.argument", format!("{}: either file or url is given", Self::NAME)).hint(
                    "such as host:import({ url = \"https://images.example.com/debian-12.ova\", name = \"web-1\" })",
                ));
            }
        };
        let own = &appliance.package.networks;
        if let Some(unknown) = self.networks.keys().find(|name| !own.contains(name)) {
            return Err(not_its_network(unknown, own));
        }
        let mut networks = Vec::new();
        for own in own {
            let given = self.networks.get(own).or(self.network.as_ref());
            let network = binder.network(&host, given.unwrap_or(own), "use").await.map_err(|fault| match given {
                None if fault.is("esxi.network_not_found") => {
                    let message =
                        format!("the appliance has a card on the network {own:?}, which is not on {}", host.host.name);
                    Fault::new("usage.network", message).hint(format!(
                        "say where it goes, networks = {{ [{own:?}] = \"LAN\" }}, or where all its cards go, network = \"LAN\" (--network)"
                    ))
                }
                _ => fault,
            })?;
            networks.push((own.clone(), network));
        }
        Ok(BoundImport { host, new, datastore, networks, appliance })
    }

    async fn act(self, bound: BoundImport, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let BoundImport { host, new, datastore, networks, mut appliance } = bound;
        let at = esxi::Placement { folder: self.folder, place: self.place };
        let client = &host.host.client;
        let plan = client.import_plan(&appliance.descriptor, &new, &datastore, &networks, "thin", &at).await?;
        let (room, most) = appliance.package.room();
        // What is not known not to fit is tried.
        if !most && let Some(lacking) = client.lacking(&datastore, room, false).await {
            return Err(lacking.into());
        }
        if let Parts::There(parts) = &appliance.parts {
            plan.files.iter().try_for_each(|file| find(parts, file).map(drop))?;
        }
        let lease = client.import(&plan, &new, &at).await?;
        let filling = Filling { lease: &lease, plan: &plan, pass };
        let sent = lease.during(pass.unless_stopped(async {
            match &mut appliance.parts {
                Parts::There(parts) => filling.with_all(parts).await,
                Parts::Coming(coming) => filling.as_they_come(coming).await,
            }
        }));
        if let Err(fault) = sent.await {
            let left = client.left_by_import(&lease).await;
            // What came before the space ran out is gone again.
            let fault = match client.lacking(&datastore, room, most).await.filter(|_| fault.is("esxi.no_disk_space")) {
                Some(lacking) => lacking.into(),
                None => fault,
            };
            return Err(match left {
                None => fault,
                Some(left) => {
                    fault.hint(format!("left behind on {}: {left}; remove it after a look at it", host.host.name))
                }
            });
        }
        let vm = client.imported(&lease).await?;
        let vm = pass.made(&host.host, vm);
        give_vm(pass, &host.host, &vm).await
    }
}

fn not_its_network(name: &str, own: &[String]) -> Fault {
    let known = nearest(name, own.iter().map(String::as_str));
    let all: Vec<String> = own.iter().map(|own| format!("{own:?}")).collect();
    let hint = match (known.first(), all.is_empty()) {
        (_, true) => "it has none: leave its networks out".to_owned(),
        (Some(near), _) => format!("did you mean {near:?}? It has {}", all.join(", ")),
        (None, _) => format!("it has {}", all.join(", ")),
    };
    Fault::new("usage.network", format!("the appliance has no network {name:?}")).hint(hint)
}

fn find<'a>(parts: &'a [Part], file: &ImportFile) -> Result<&'a Part, Fault> {
    let part = parts.iter().find(|part| part.name == file.path);
    let what = "the host wants it, and the appliance does not have it";
    part.ok_or_else(|| ova::Error::Member { name: file.path.clone(), what: what.to_owned() }.into())
}

/// Fills the disks of a machine that a lease has made.
struct Filling<'a> {
    lease: &'a Lease<'a>,
    plan: &'a ImportPlan,
    pass: &'a Pass<'a>,
}

impl Filling<'_> {
    /// Sends what can be read at any time, in the order that the host wants.
    async fn with_all(&self, parts: &[Part]) -> Result<(), Fault> {
        let wanted = self.plan.files.iter().map(|file| Ok((file, find(parts, file)?)));
        let wanted = wanted.collect::<Result<Vec<_>, Fault>>()?;
        let total: u64 = wanted.iter().map(|(_, part)| part.length).sum();
        let mut before = 0;
        for (file, part) in wanted {
            let told = |step: esxi::Step<'_>| {
                let own = u64::from(step.percent.unwrap_or(0)) * part.length / 100;
                self.tell(before + own, total);
            };
            let content = Content { length: part.length, open: &|| part.reader(), sum: esxi::Sum::No };
            let sent = self.lease.send(self.place(file)?, content, &told).await;
            sent.map_err(|error| part.failure().unwrap_or_else(|| error.into()))?;
            before += part.length;
        }
        Ok(())
    }

    /// Sends what comes, in the order in which it comes, and waits for the end of the archive: its last sum may stand there.
    async fn as_they_come(&self, coming: &mut Coming) -> Result<(), Fault> {
        let mut filled = Vec::new();
        while let Some(part) = coming.next().await? {
            let Some(file) = self.plan.files.iter().find(|file| file.path == part.name) else { continue };
            match self.send(file, &part, coming).await {
                Ok(()) => {}
                // What was to be sent broke off: why comes next.
                Err(fault) if fault.is("local") => return Err(coming.broken_off().await.unwrap_or(fault)),
                Err(fault) => return Err(fault),
            }
            filled.push(part.name);
        }
        match self.plan.files.iter().find(|file| !filled.contains(&file.path)) {
            Some(missing) => find(&[], missing).map(drop),
            None => Ok(()),
        }
    }

    async fn send(&self, file: &ImportFile, part: &Arriving, coming: &Coming) -> Result<(), Fault> {
        let told = |_: esxi::Step<'_>| {
            let (passed, total) = coming.far();
            self.tell(passed, total);
        };
        let content = Content { length: part.length, open: &|| part.reader(), sum: esxi::Sum::No };
        self.lease.send(self.place(file)?, content, &told).await?;
        Ok(())
    }

    fn place(&self, file: &ImportFile) -> Result<&LeaseFile, Fault> {
        let mut places = self.lease.files.iter();
        let place = places.find(|target| target.import_key == file.device || target.key == file.device);
        place.ok_or_else(|| {
            Fault::new("esxi.bad_answer", format!("the host wants {} and gives no place for it", file.path))
                .hint("look at the host's version and its log")
        })
    }

    fn tell(&self, done: u64, total: u64) {
        self.lease.progress(percent(done, total));
        self.lease.step("import", &|step| self.pass.step(step));
    }
}

pub(super) fn percent(done: u64, total: u64) -> u8 {
    done.saturating_mul(100).checked_div(total).and_then(|percent| u8::try_from(percent.min(100)).ok()).unwrap_or(0)
}
