//! Deletes packs that no backup needs: marks them, waits, announces, copies what is needed after all, deletes.
//!
//! Why nothing is lost, also beside running backups and other prunes, stands on the design page under "Deleting". The order of calls here is that argument.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::commit::{claim_name, save, walk};
use super::doom::{self, Dooms};
use super::error::{Error, Result};
use super::format::read_named;
use super::id::Id;
use super::lease::{self, LIVES, Lease, millis};
use super::manifest::{self, Manifest};
use super::pack::Pack;
use super::repository::{Repository, View};
use super::seal::SEALED;
use super::store::INDEX_ENTRIES;
use super::target::{Listed, Target, listed};
use super::{index, mark, pack, spare};

/// More small index files than this are written as one.
const MOST_SMALL_INDEXES: usize = 16;

/// A plan marks and deletes at most so many packs, 16 TiB or so: a mark or a doom of them has 18 MB. The next plan takes the others.
const MOST_PACKS: usize = 1 << 18;

/// How often what is not found is looked for again, where another prune may have moved it.
const TRIES: u32 = 4;

/// An index file with fewer entries is small.
const SMALL_INDEX: usize = 1 << 13;

/// How a prune chooses.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The share of all stored bytes that may stay unneeded in packs that are needed otherwise. Default: 0.05.
    pub unused: f64,
    /// Deletes without a grace period, and beside living leases. Nothing is lost by it, but running backups may fail or copy. Default: false.
    pub at_once: bool,
    /// Backups that are forgotten before the plan is carried out: nothing is needed for them. Default: none.
    pub without: HashSet<Id>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { unused: 0.05, at_once: false, without: HashSet::new() }
    }
}

/// How much of a pack is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PackUse {
    pub pack: Id,
    pub size: u64,
    /// The bytes of blobs that backups need, and of their entries.
    pub needed: u64,
}

/// What a prune will do; what is printed is what is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// Packs that are marked now.
    pub mark: Vec<PackUse>,
    /// Packs that are deleted now, after what is needed of them was copied.
    pub delete: Vec<PackUse>,
    /// Packs that were marked and whose time has not come.
    pub waiting: Vec<Id>,
    /// Packs that would go, and that a lock of the target keeps for now.
    pub locked: Vec<PackUse>,
    /// Dooms that an interrupted prune has left, which are taken up.
    pub taken_up: Vec<u32>,
    /// Marks that are used up by this plan.
    pub marks: Vec<String>,
    at_once: bool,
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    pub marked: u64,
    pub deleted: u64,
    pub deleted_bytes: u64,
    pub copied_bytes: u64,
    /// Packs that a lock keeps, by the plan or by the target's answer. A later prune deletes them.
    pub locked: u64,
    /// Backups whose last step had not been made, and which are visible now.
    pub finished: Vec<Id>,
    /// Remains of backups that were not whole.
    pub dropped: Vec<Id>,
    /// Unfinished files that were removed.
    pub tidied: u64,
}

struct Needs {
    claims: Vec<(Listed, Id, Manifest)>,
    manifests: Vec<Manifest>,
}

impl Repository {
    /// Claims first, then manifests: what moves from one to the other between is seen twice, not missed.
    fn needs(&self, without: &HashSet<Id>) -> Result<Needs> {
        let mut claims = Vec::new();
        for file in listed(self.target(), "claims")? {
            match Manifest::read(self.target(), &self.sealer, &file.name) {
                Err(error) if error.is_missing() => {}
                manifest => {
                    let id = file.name.trim_start_matches("claims/").parse()?;
                    claims.push((file, id, manifest?));
                }
            }
        }
        let manifests = self.backups()?.into_iter().filter(|(id, _)| !without.contains(id));
        let manifests = manifests.map(|(_, manifest)| manifest).collect();
        Ok(Needs { claims, manifests })
    }

    /// How much of each pack is needed. A blob that lies in several packs is needed in one.
    ///
    /// Errors: `Refused` where a backup lacks something: what it needs cannot be known then.
    fn uses(&self, needs: &Needs, view: &View) -> Result<HashMap<Id, PackUse>> {
        let known = &view.everything;
        let mut needed = vec![0u64; usize::try_from(known.records() / 64 + 1).unwrap_or(usize::MAX)];
        let is_there = |pack: &Id| view.packs.contains_key(pack) && !view.dooms.packs.contains(pack);
        let mut note = |id: &Id, required: bool| -> Result<()> {
            let mut place: Option<(u64, bool)> = None;
            known.each_place(id, &mut |number, location| {
                let better = is_there(&location.pack);
                if place.is_none_or(|(_, good)| better && !good) {
                    place = Some((number, better));
                }
            })?;
            match place {
                Some((number, _)) => {
                    if let Some(word) = usize::try_from(number / 64).ok().and_then(|at| needed.get_mut(at)) {
                        *word |= 1 << (number % 64);
                    }
                    Ok(())
                }
                None if required => Err(Error::Lost { what: format!("the blob {id}") }),
                None => Ok(()),
            }
        };
        let mut walked = HashSet::new();
        for manifest in &needs.manifests {
            walk(self, (&view.known, known), manifest, &mut walked, &mut |id, _| note(id, true)).map_err(|error| {
                if error.is_damage() {
                    let what = format!("{error}; the backup {:?} of {} needs it", manifest.name, manifest.time);
                    Error::Refused(format!("{what}: repair the repository, or forget that backup, before a prune"))
                } else {
                    error
                }
            })?;
        }
        for (_, _, claim) in &needs.claims {
            match walk(self, (&view.known, known), claim, &mut walked, &mut |id, _| note(id, false)) {
                // It is not whole, and its writer, if it lives, will see that.
                Err(error) if error.is_damage() => {}
                other => other?,
            }
        }
        let fresh = |(pack, size): (&Id, &u64)| (*pack, PackUse { pack: *pack, size: *size, needed: 0 });
        let mut uses: HashMap<Id, PackUse> = view.packs.iter().map(fresh).collect();
        known.each(&mut |number, location| {
            let is_needed = needed.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1);
            if let Some(pack) = uses.get_mut(&location.pack).filter(|_| is_needed) {
                pack.needed += u64::from(location.entry.stored) + pack::ENTRY as u64;
            }
            Ok(())
        })?;
        Ok(uses)
    }

    /// Plans a prune.
    ///
    /// Errors: `Refused` where a backup lacks something.
    pub fn prune_plan(&self, options: &PruneOptions) -> Result<PrunePlan> {
        let mut tries = 0;
        let (view, uses) = loop {
            let needs = self.needs(&options.without)?;
            let view = self.view(true)?;
            match self.uses(&needs, &view) {
                // Another prune moves things while this looks.
                Err(Error::Refused(_)) if tries < TRIES && Dooms::read(self.target())? != view.dooms => tries += 1,
                uses => break (view, uses?),
            }
        };
        let mut plan = PrunePlan { at_once: options.at_once, ..PrunePlan::default() };
        let interrupted = view.dooms.numbers.iter().filter(|(_, done)| !**done);
        plan.taken_up = interrupted.map(|(number, _)| *number).collect();
        let mut deleted: HashSet<Id> = view.dooms.packs.clone();

        let grace = Duration::from_secs(self.config().grace_seconds);
        let leases: Vec<_> = lease::list(self.target())?.into_iter().filter(|lease| lease.living).collect();
        let now = self.target().now()?;
        let mut marked: HashSet<Id> = HashSet::new();
        for found in mark::list(self.target())? {
            let aged = now.duration_since(found.file.written).is_ok_and(|age| age >= grace);
            let watched = leases.iter().any(|lease| lease.info.began_ms <= millis(found.file.written));
            if options.at_once || aged && !watched {
                // What is needed whole by now stays.
                let wanted = |pack: &&Id| uses.get(pack).is_some_and(|pack| !pack.is_whole());
                deleted.extend(found.packs.iter().filter(wanted));
                plan.marks.push(found.file.name);
            } else {
                marked.extend(found.packs);
            }
        }
        let mut chosen = choose(&uses, options.unused);
        chosen.retain(|pack| !deleted.contains(&pack.pack) && !marked.contains(&pack.pack));
        // What is locked is not announced either: nobody need do without a pack that stays. A doom of before goes on.
        let locked = self.locked_packs(now)?;
        let held: Vec<Id> = deleted.iter().filter(|pack| locked.contains(pack)).copied().collect();
        for pack in held.iter().filter(|pack| !view.dooms.packs.contains(pack)) {
            deleted.remove(pack);
            plan.locked.extend(uses.get(pack).copied());
        }
        plan.locked.extend(chosen.extract_if(.., |pack| locked.contains(&pack.pack)));
        plan.locked.sort_by_key(|pack| pack.pack);
        if options.at_once || grace.is_zero() && leases.is_empty() {
            deleted.extend(chosen.iter().map(|pack| pack.pack));
        } else {
            plan.mark = chosen;
            plan.mark.truncate(MOST_PACKS);
        }
        plan.waiting = marked.into_iter().collect();
        plan.waiting.sort();
        plan.delete = deleted.iter().filter_map(|pack| uses.get(pack).copied()).collect();
        plan.delete.sort_by_key(|pack| pack.pack);
        plan.delete.truncate(MOST_PACKS);
        Ok(plan)
    }

    /// The packs that a lock of the target still keeps.
    fn locked_packs(&self, now: SystemTime) -> Result<HashSet<Id>> {
        let mut locked = HashSet::new();
        if let Some(time) = self.target().lock_time() {
            self.target().list("data", &mut |file| {
                locked.extend(pack::id_of(&file.name).filter(|_| is_locked(&file, time, now)));
                Ok(())
            })?;
        }
        Ok(locked)
    }

    /// Carries out a plan. An interrupted prune is taken up by the next. What a lock keeps is passed over.
    ///
    /// Errors: `Damaged` where the index says of a pack that stays that it has a blob of one that goes, and its table does not; nothing was
    /// deleted then.
    pub fn prune(&self, plan: &PrunePlan) -> Result<PruneReport> {
        let lease = Lease::take(self.target(), "prune")?;
        spare::fill(self.target(), &self.config_bytes)?;
        let (marked, locked) = (plan.mark.len() as u64, plan.locked.len() as u64);
        let mut report = PruneReport { marked, locked, ..PruneReport::default() };
        if !plan.mark.is_empty() {
            mark::put(self.target(), plan.mark.iter().map(|pack| pack.pack).collect())?;
        }
        if !plan.delete.is_empty() || !plan.taken_up.is_empty() {
            self.delete(plan, &lease, &mut report)?;
        }
        self.target().delete(&plan.marks)?;
        self.settle_claims(plan.at_once, &mut report)?;
        report.tidied = self.target().tidy()?;
        lease::unlock(self.target(), false)?;
        lease.end()?;
        Ok(report)
    }

    fn delete(&self, plan: &PrunePlan, lease: &Lease<'_>, report: &mut PruneReport) -> Result<()> {
        let target = self.target();
        let mut packs: HashSet<Id> = plan.delete.iter().map(|pack| pack.pack).collect();
        for number in &plan.taken_up {
            match doom::packs(target, *number) {
                // Its own prune has ended it meanwhile.
                Err(error) if error.is_missing() => {}
                found => packs.extend(found?),
            }
        }
        self.prove_kept(&packs)?;
        let above = Dooms::read(target)?.highest;
        let number = doom::announce(target, packs.iter().copied().collect(), above)?;
        // From here on every writer sees the doom, or was seen by us. First what is needed, then where it lies.
        let needs = self.needs(&HashSet::new())?;
        lease.renew()?;
        report.copied_bytes += self.save_for_sure(&needs.manifests)?;
        for (_, _, claim) in &needs.claims {
            match self.save_for_sure(std::slice::from_ref(claim)) {
                Err(error) if error.is_damage() => {}
                copied => report.copied_bytes += copied?,
            }
        }
        lease.renew()?;
        let there = self.packs()?;
        self.replace_indexes(&packs, &there)?;
        let gone: Vec<&Id> = packs.iter().filter(|pack| there.contains_key(pack)).collect();
        let kept = delete_unlocked(target, &gone.iter().map(|pack| pack::name(**pack)).collect::<Vec<_>>())?;
        let gone = gone.into_iter().filter(|pack| !kept.contains(pack));
        let sizes: Vec<u64> = gone.filter_map(|pack| there.get(pack).copied()).collect();
        report.deleted += sizes.len() as u64;
        report.deleted_bytes += sizes.iter().sum::<u64>();
        report.locked += kept.len() as u64;
        let mut done = plan.taken_up.clone();
        // A pack that is announced and stays must stay announced: no writer may rely on what someone else may delete at any time.
        if kept.is_empty() {
            done.push(number);
        }
        doom::done(target, &done)
    }

    /// Copies what manifests need of doomed packs. What another prune has copied and deleted while this reads is found by another look.
    fn save_for_sure(&self, manifests: &[Manifest]) -> Result<u64> {
        let mut tries = 0;
        loop {
            match save(self, self.view(true)?, manifests) {
                Err(error) if error.is_damage() && tries < TRIES => tries += 1,
                saved => return saved,
            }
        }
    }

    /// Writes index files without some packs, and without those that are not there, in the place of those that name them.
    fn replace_indexes(&self, without: &HashSet<Id>, there: &HashMap<Id, u64>) -> Result<()> {
        let target = self.target();
        let (mut replaced, mut small) = (Vec::new(), Vec::new());
        let lock = target.lock_time();
        let now = if lock.is_some() { target.now()? } else { SystemTime::UNIX_EPOCH };
        for file in listed(target, "index")? {
            // One that stays anyhow is not replaced each time: that it names packs which are gone means nothing.
            if lock.is_some_and(|time| is_locked(&file, time, now)) {
                continue;
            }
            let id = file.name.trim_start_matches("index/").parse()?;
            let packs = match index::read(target, &self.sealer, id) {
                Err(error) if error.is_missing() => continue,
                other => other?,
            };
            if packs.iter().any(|pack| without.contains(&pack.id) || !there.contains_key(&pack.id)) {
                replaced.push(file.name);
            } else if packs.iter().map(|pack| pack.entries.len()).sum::<usize>() < SMALL_INDEX {
                small.push(file.name);
            }
        }
        if small.len() > MOST_SMALL_INDEXES {
            replaced.append(&mut small);
        }
        // A pack is there before an index names it: what is not there now was deleted.
        let there = if replaced.is_empty() { HashMap::new() } else { self.packs()? };
        let mut written = HashSet::new();
        let mut waiting: Vec<Pack> = Vec::new();
        let mut entries = 0;
        for file in &replaced {
            let packs = match index::read(target, &self.sealer, file.trim_start_matches("index/").parse()?) {
                Err(error) if error.is_missing() => continue,
                other => other?,
            };
            for pack in packs {
                if without.contains(&pack.id) || !there.contains_key(&pack.id) || !written.insert(pack.id) {
                    continue;
                }
                entries += pack.entries.len() + 1;
                waiting.push(pack);
                if entries >= INDEX_ENTRIES {
                    index::write(target, &self.sealer, &std::mem::take(&mut waiting))?;
                    entries = 0;
                }
            }
        }
        if !waiting.is_empty() {
            let id = index::write(target, &self.sealer, &waiting)?;
            // One that comes out as it was is no replacement.
            replaced.retain(|file| *file != index::name(id));
        }
        delete_unlocked(target, &replaced).map(drop)
    }

    /// Makes claims visible whose writers are gone, and drops those that are not whole.
    fn settle_claims(&self, at_once: bool, report: &mut PruneReport) -> Result<()> {
        let target = self.target();
        let claims = listed(target, "claims")?;
        if claims.is_empty() {
            return Ok(());
        }
        let now = target.now()?;
        for file in claims {
            let abandoned = now.duration_since(file.written).is_ok_and(|age| age >= LIVES);
            if !abandoned && !at_once {
                continue;
            }
            let id: Id = file.name.trim_start_matches("claims/").parse()?;
            let seen = Dooms::read(target)?.highest;
            let bytes = match read_named(target, &file.name, manifest::LARGEST) {
                Err(error) if error.is_missing() => continue,
                other => other?,
            };
            let manifest = Manifest::decode(&self.sealer, bytes.clone(), &file.name, &target.place())?;
            match self.save_for_sure(std::slice::from_ref(&manifest)) {
                Ok(_) => {}
                Err(error) if error.is_damage() => {
                    target.delete(&[file.name])?;
                    report.dropped.push(id);
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Another prune began meanwhile: it has seen the claim, and the next one settles it.
            if Dooms::read(target)?.highest != seen {
                continue;
            }
            let bytes = match target.get_all(&claim_name(id), manifest::LARGEST) {
                // Its writer lives, and has just finished or dropped it.
                Err(error) if error.is_missing() => continue,
                bytes => bytes?,
            };
            target.put(&manifest::name(id), &bytes)?;
            target.delete(&[file.name])?;
            report.finished.push(id);
        }
        Ok(())
    }
}

/// Whether a lock that a target writes with still keeps a file.
fn is_locked(file: &Listed, time: Duration, now: SystemTime) -> bool {
    file.written.checked_add(time).is_none_or(|until| until > now)
}

/// Deletes files but those that a lock keeps. Returns the packs among these.
pub(super) fn delete_unlocked(target: &dyn Target, names: &[String]) -> Result<HashSet<Id>> {
    match target.delete(names) {
        Err(Error::Locked { .. }) => {}
        other => return other.map(|()| HashSet::new()),
    }
    let mut kept: HashSet<Id> = names.iter().filter_map(|name| pack::id_of(name)).collect();
    if !kept.is_empty() {
        let mut there = HashSet::new();
        target.list("data", &mut |file| {
            there.extend(pack::id_of(&file.name));
            Ok(())
        })?;
        kept.retain(|pack| there.contains(pack));
    }
    Ok(kept)
}

impl PackUse {
    /// Whether all of its blobs are needed.
    fn is_whole(&self) -> bool {
        self.unneeded() == 0
    }

    /// The bytes that could be saved, without what a pack needs anyhow.
    fn unneeded(&self) -> u64 {
        let frame = (pack::HEADER + pack::TRAILER + SEALED) as u64;
        if self.needed == 0 { self.size } else { self.size.saturating_sub(self.needed + frame) }
    }
}

/// The packs that are not needed, and of the others those with the largest unneeded share, until no more than `unused` of all stays unneeded.
fn choose(uses: &HashMap<Id, PackUse>, unused: f64) -> Vec<PackUse> {
    let total: u64 = uses.values().map(|pack| pack.size).sum();
    let (mut chosen, mut partly): (Vec<PackUse>, Vec<PackUse>) =
        uses.values().filter(|pack| pack.unneeded() > 0).partition(|pack| pack.needed == 0);
    let share = |pack: &PackUse| pack.unneeded() as f64 / pack.size.max(1) as f64;
    partly.sort_by(|one, other| share(other).total_cmp(&share(one)).then(one.pack.cmp(&other.pack)));
    let mut left: u64 = partly.iter().map(PackUse::unneeded).sum();
    for pack in partly {
        if left as f64 <= total as f64 * unused {
            break;
        }
        left -= pack.unneeded();
        chosen.push(pack);
    }
    chosen.sort_by_key(|pack| pack.pack);
    chosen
}
