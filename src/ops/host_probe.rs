//! The operations that find out what a host really does, keep it, and tell it.
//!
//! The trials are in `host_trials`. Here: the throw-away machines are named in the catalog before they are made, removed again however
//! the trials end, and what was found is kept there for the host's build.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog_rows::Fact;
use super::host_trials::Trials;
use crate::catalog;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundHost, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::error::Fault;
use crate::esxi::checked::Checked;
use crate::esxi::{self, Abilities, Detail, NewVm};
use crate::units::Bytes;

/// What the notes of a throw-away machine begin with: by it the next probe knows what an earlier one has left.
pub(super) const MARK: &str = "ceso host probe: ";

/// Tries what hosts do differently, with a small machine of that name: ranges of files, tracked changes, exported snapshots, the form of
/// copied disks, linked clones, how many sessions it takes, how fast files go.
///
/// With `template`, a full clone of it without network cards is turned on too, and what its guest wrote between two snapshots is held
/// against what the host tells of it: whether tracked changes can be trusted is found out in no other way.
///
/// What was found is kept in the catalog with the host's build, and from then on decides how files, disks and snapshots are carried. The
/// machines and files are removed again whatever comes of it, or the error names them; what a killed probe has left, the next one names. No
/// more sessions are tried than the configuration would use at once. Errors: those of making a machine; `esxi.probe_left` where a machine
/// of an earlier probe has the name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The host.
    pub host: Target<kind::Host>,
    /// The machine's name; its linked clone's has `-child` behind it, that of the template's clone `-guest`.
    pub name: String,
    /// Where its files go. Default: the datastore with the most free space that may be written to.
    pub datastore: Option<String>,
    /// A machine that is off and whose guest writes when it is turned on, with a disk of 64 GiB at most. Default: none, and tracked
    /// changes are tried with an empty disk alone.
    pub template: Option<String>,
}

/// What a host does.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Probed {
    /// The product with its version and build.
    pub product: String,
    /// The API version that was spoken.
    pub api: String,
    /// What was tried, in its order.
    pub facts: Vec<Fact>,
    /// Machines that earlier probes have left, or that another probe has now.
    pub left: Vec<String>,
}

/// The machines that may be made, and where.
pub struct BoundProbe {
    pub(super) host: BoundHost,
    pub(super) new: Checked<NewVm>,
    pub(super) child: Checked<NewVm>,
    /// What the guest that writes is cloned from, and the clone.
    pub(super) guest: Option<(BoundVm, Checked<NewVm>)>,
    pub(super) datastore: Checked<esxi::Datastore>,
    /// The machines of other probes.
    others: Vec<String>,
}

impl Operation for Probe {
    const NAME: &'static str = "host.probe";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "host", name: "probe" };
    const TOUCHES: &'static [Touch] = &[
        touch("vm", "create", Selector::Argument("name")),
        touch("vm", "copy_from", Selector::Argument("template")),
        touch("datastore", "write", Selector::Argument("datastore")),
    ];
    const USAGE: &'static str =
        "for _, fact in host:probe({ name = \"probe-1\" }).facts do\n  print(fact.name, fact.works, fact.seen)\nend";

    type Bound = BoundProbe;
    type Output = Probed;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundProbe, Fault> {
        let host = binder.host(&self.host)?;
        if self.template.is_some() && host.host.client.is_vcenter() {
            return Err(esxi::Error::NeedsHost { host: host.host.name.clone(), hosts: Vec::new() }.into());
        }
        let names = [self.name.clone(), format!("{}-child", self.name), format!("{}-guest", self.name)];
        let [new, child] = [binder.new_vm_name(&names[0])?, binder.new_vm_name(&names[1])?];
        let guest = match &self.template {
            Some(template) => {
                Some((binder.vm_named(&host, template, "copy_from").await?, binder.new_vm_name(&names[2])?))
            }
            None => None,
        };
        let names = names.get(..if guest.is_some() { 3 } else { 2 }).unwrap_or_default();
        let rows = host.host.client.list_vms(&host.system, Detail::Full).await?;
        let marked = rows.iter().filter(|row| row.notes.as_deref().is_some_and(|notes| notes.starts_with(MARK)));
        let others: Vec<String> = marked.map(|row| row.vm.name.clone()).collect();
        if let Some(left) = names.iter().find(|name| others.contains(name)) {
            let message =
                format!("an earlier probe has left the machine {left:?} on {}, or still runs", host.host.name);
            return Err(Fault::new("esxi.probe_left", message)
                .hint(format!("remove it, then probe again: ceso vm delete {left} --mode unrestricted")));
        }
        for name in names {
            binder.new_vm(&host, name).await?;
        }
        let datastore = match &self.datastore {
            Some(name) => binder.datastore(&host, name, "write").await?,
            None => binder.roomiest_datastore(&host).await?,
        };
        Ok(BoundProbe { host, new, child, guest, datastore, others })
    }

    async fn act(self, bound: BoundProbe, pass: &Pass<'_>) -> Result<Probed, Fault> {
        let host = &bound.host.host;
        let mut names = vec![bound.new.name.clone(), bound.child.name.clone()];
        names.extend(bound.guest.iter().map(|(_, guest)| guest.name.clone()));
        pass.note_probing(host, vec![bound.new.name.clone()]).await;
        let mut trials = Trials::new(&bound, pass);
        let tried = trials.all().await;
        let (facts, left) = esxi::patient(trials.end()).await;
        // A name that neither this nor another probe has any more was that of a machine that is gone.
        let gone: Vec<String> = match left.is_empty() {
            true => forgotten(pass, &host.name, &bound.others).await.into_iter().chain(names).collect(),
            false => Vec::new(),
        };
        let kept = tried.is_ok().then_some(facts);
        if let Some(facts) = &kept {
            host.client.learn(abilities(facts));
        }
        pass.note_probed(host, kept.clone(), gone).await;
        let named = |fault: Fault| match left.is_empty() {
            true => fault,
            false => {
                fault.hint(format!("left behind on {}: {}; remove it after a look at it", host.name, left.join(", ")))
            }
        };
        tried.map_err(|fault| match fault.is("esxi.file_already_exists") {
            true => fault.hint(
                "a probe that was killed may have left that folder: look at it, then remove it: ceso datastore rm",
            ),
            false => named(fault),
        })?;
        if !left.is_empty() {
            let message = format!("the probe of {} could not remove what it had made", host.name);
            return Err(named(Fault::new("esxi.probe_left", message)));
        }
        let client = &host.client;
        let facts = kept.unwrap_or_default().into_iter().map(Fact::from).collect();
        let left = bound.others.into_iter().filter(|name| pass.may_read("vm", name)).collect();
        Ok(Probed { product: client.about().full_name, api: client.api_version(), facts, left })
    }
}

/// Machines that the catalog takes for those of probes under way, and that are not on the host.
async fn forgotten(pass: &Pass<'_>, host: &str, there: &[String]) -> Vec<String> {
    let name = host.to_owned();
    let known = pass.catalog(move |catalog| Ok(catalog.host(&name)?)).await;
    let probing = known.ok().flatten().map(|host| host.probing).unwrap_or_default();
    probing.into_iter().filter(|name| !there.contains(name)).collect()
}

/// What the facts of a probe mean for how things are carried.
pub fn abilities(facts: &[catalog::Fact]) -> Abilities {
    let fact = |name: &str| facts.iter().find(|fact| fact.name == name);
    let works = |name: &str| fact(name).and_then(|fact| fact.works);
    let both = |one: &str, other: &str| match (works(one), works(other)) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    };
    Abilities {
        ranges: works("ranges"),
        snapshot_export: works("snapshot_export"),
        tracked_changes: match (works("written_areas"), works("written_allocated")) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            _ => both("tracked_changes", "unchanged_areas"),
        },
        // Only where a copy that is told its form is not as it was told, and one that is not told is: else telling it is right.
        disk_forms: match (works("thin_copies"), works("untold_copies")) {
            (Some(false), Some(true)) => Some(false),
            (told, _) => told.filter(|told| *told),
        },
        linked_clones: both("linked_clones", "parents_survive"),
        // As many as were asked for is no bound.
        sessions: fact("sessions").filter(|fact| fact.works == Some(false)).and_then(|fact| fact.figure).map(bounded),
        copy_speed: fact("copies").and_then(|fact| fact.figure).map(Bytes),
    }
}

fn bounded(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the catalog knows of a host, for a client that is about to connect to `address`: nothing where it was probed elsewhere.
pub fn known(host: &catalog::Host, address: &str) -> Option<esxi::Probed> {
    let probe = host.probe.as_ref().filter(|probe| probe.address == address)?;
    Some(esxi::Probed { product: probe.product.clone(), abilities: abilities(&probe.facts) })
}

/// Tells what this host is known to do: what a probe of its present build has found out. Nothing is sent.
///
/// What is nil is not known, and the way is taken that is safe with any host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetAbilities {
    /// The host.
    pub host: Target<kind::Host>,
}

/// What a host is known to do.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HostAbilities")]
pub struct Told {
    /// Whether it was probed as another build: nothing of that is used.
    pub stale: bool,
    /// Whether a download that broke off goes on where it was; else it begins anew.
    pub ranges: Option<bool>,
    /// Whether a snapshot can be exported while its machine runs; else it is cloned first.
    pub snapshot_export: Option<bool>,
    /// Whether what it tells of changed blocks stood every trial; else all of a disk is read.
    pub tracked_changes: Option<bool>,
    /// Whether a copied disk takes the form that it is told.
    pub disk_forms: Option<bool>,
    /// Whether linked clones work and leave their parents whole.
    pub linked_clones: Option<bool>,
    /// The most sessions that it took at once, where it refused more: no more requests are then under way.
    pub sessions: Option<u64>,
    /// How much it copies on a datastore in a second.
    pub copy_speed: Option<Bytes>,
}

impl Operation for GetAbilities {
    const NAME: &'static str = "host.abilities";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "host", name: "abilities" };
    const TOUCHES: &'static [Touch] = &[touch("host", "read", Selector::Argument("host"))];
    const USAGE: &'static str =
        "local can = host:abilities()\nprint(can.stale, can.ranges, can.snapshot_export, can.copy_speed)";

    type Bound = BoundHost;
    type Output = Told;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundHost, Fault> {
        binder.host_for(&self.host, "read")
    }

    async fn act(self, bound: BoundHost, _: &Pass<'_>) -> Result<Told, Fault> {
        let client = &bound.host.client;
        let can = client.abilities();
        Ok(Told {
            stale: client.is_probe_stale(),
            ranges: can.ranges,
            snapshot_export: can.snapshot_export,
            tracked_changes: can.tracked_changes,
            disk_forms: can.disk_forms,
            linked_clones: can.linked_clones,
            sessions: can.sessions.map(|sessions| sessions as u64),
            copy_speed: can.copy_speed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(name: &str, works: Option<bool>, figure: Option<u64>) -> catalog::Fact {
        catalog::Fact { name: name.to_owned(), works, seen: String::new(), figure }
    }

    #[test]
    fn facts_become_what_is_chosen_by_and_nothing_is_made_up() {
        assert_eq!(abilities(&[]), Abilities::default());
        let good = [
            fact("ranges", Some(true), None),
            fact("copies", Some(true), Some(5 << 20)),
            fact("thin_copies", Some(true), None),
            fact("untold_copies", Some(false), None),
            fact("linked_clones", Some(true), None),
            fact("parents_survive", Some(true), None),
            fact("sessions", Some(true), Some(8)),
        ];
        let can = abilities(&good);
        assert_eq!((can.ranges, can.disk_forms, can.linked_clones), (Some(true), Some(true), Some(true)));
        assert_eq!((can.sessions, can.copy_speed, can.tracked_changes), (None, Some(Bytes(5 << 20)), None));
        let poor = [
            fact("thin_copies", Some(false), None),
            fact("untold_copies", Some(true), None),
            fact("linked_clones", Some(true), None),
            fact("parents_survive", Some(false), None),
            fact("sessions", Some(false), Some(3)),
            fact("tracked_changes", Some(true), None),
            fact("unchanged_areas", Some(false), None),
        ];
        for written in ["written_areas", "written_allocated"] {
            let lies = [fact("tracked_changes", Some(true), None), fact("unchanged_areas", Some(true), None)];
            assert_eq!(abilities(&lies).tracked_changes, Some(true));
            let lies = lies.into_iter().chain([fact(written, Some(false), None)]).collect::<Vec<_>>();
            assert_eq!(abilities(&lies).tracked_changes, Some(false), "{written}");
        }
        let can = abilities(&poor);
        assert_eq!((can.disk_forms, can.linked_clones, can.sessions), (Some(false), Some(false), Some(3)));
        assert_eq!(can.tracked_changes, Some(false));
        // Neither way gives a thin copy: then it is told all the same.
        let neither = [fact("thin_copies", Some(false), None), fact("untold_copies", Some(false), None)];
        assert_eq!(abilities(&neither).disk_forms, None);
    }
}
