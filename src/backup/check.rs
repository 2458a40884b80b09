//! Checks a repository: every file is what its name says, everything that a backup needs is there, and on request every byte of it.
//!
//! A check changes nothing, and says of each damage which file it is in and which backups it hurts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::blob::{Codec, Kind, Press};
use super::doom::Dooms;
use super::error::{Error, Result};
use super::format::CONFIG;
use super::id::Id;
use super::known::Known;
use super::manifest::{Manifest, Root};
use super::repository::Repository;
use super::spare::{self, CONFIG_COPY, Held};
use super::target::{Listed, listed};
use super::{doom, index, keys, lease, mark, pack};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// All small files, and that every blob that a backup needs is, by index files that can be true, in a pack of the right length.
    #[default]
    Structure,
    /// Also every byte of every pack, and that index files say what the packs' own tables say.
    ReadData,
    /// Also every byte of the packs whose names fall into part `part` of `of`, counted from 1: all parts together read all.
    Subset { part: u32, of: u32 },
}

impl Depth {
    fn reads(self, pack: &Id) -> bool {
        match self {
            Self::Structure => false,
            Self::ReadData => true,
            Self::Subset { part, of } => pack.head() % u64::from(of) == u64::from(part - 1),
        }
    }
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file in the repository, or the blob that is lost.
    pub file: String,
    pub what: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    pub problems: Vec<Problem>,
    /// The backups that cannot be restored whole.
    pub hurt: BTreeSet<Id>,
    /// What is no damage: packs that no index names yet, unfinished files, unknown files.
    pub notes: Vec<String>,
    pub backups: u64,
    pub packs: u64,
    /// The bytes of packs that were read.
    pub read: u64,
}

impl CheckReport {
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { file: file.into(), what: what.into() });
    }

    /// Notes the damage that an error tells; another error ends the check.
    fn note<T>(&mut self, file: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Damaged { file, what }) => {
                self.problem(file, what);
                Ok(None)
            }
            Err(
                error @ (Error::Lost { .. } | Error::Missing(_) | Error::Newer { .. } | Error::UnknownMaster { .. }),
            ) => {
                self.problem(file, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// How often a check looks again where things moved while it looked.
const MOST_LOOKS: u32 = 8;

/// What was read of packs so far.
struct Read {
    depth: Depth,
    packs: HashSet<Id>,
    bytes: u64,
    problems: Vec<(Id, Problem)>,
    /// The packs that are damaged, and what of them can be read all the same.
    damaged: HashMap<Id, HashSet<Id>>,
}

/// What index files say of a pack.
#[derive(Default)]
pub(super) struct Indexed {
    size: u64,
    /// Each that names it, one as a rule, and the digest of the entries that it lists.
    pub files: Vec<(Id, Id)>,
}

/// What a prune or a repair changes.
struct Moving {
    dooms: Dooms,
    index: BTreeSet<String>,
    packs: HashSet<Id>,
}

impl Moving {
    /// Whether something was announced or went until a later look. A backup only adds, and so hides no damage from a check.
    fn went_on(&self, later: &Self) -> bool {
        self.dooms != later.dooms || !self.index.is_subset(&later.index) || !self.packs.is_subset(&later.packs)
    }
}

impl Repository {
    /// Checks the repository. Where a prune moves things meanwhile and something was not at its place, it looks again.
    ///
    /// Errors: only what keeps the check from being made, such as a target that goes away.
    pub fn check(&self, depth: Depth) -> Result<CheckReport> {
        self.check_knowing(depth, HashMap::new())
    }

    /// The same, where some packs are known to be damaged, and what of them can be read all the same.
    pub(super) fn check_knowing(&self, depth: Depth, damaged: HashMap<Id, HashSet<Id>>) -> Result<CheckReport> {
        if let Depth::Subset { part, of } = depth
            && !(1..=of).contains(&part)
        {
            return Err(Error::Option(format!("there is no part {part} of {of}")));
        }
        let mut read = Read { depth, packs: HashSet::new(), bytes: 0, problems: Vec::new(), damaged };
        for _ in 0..MOST_LOOKS {
            let before = self.moving()?;
            let report = self.look(&mut read)?;
            if report.is_clean() && report.hurt.is_empty() {
                return Ok(report);
            }
            // What a prune has moved and deleted beneath a look is no damage; what is found while nothing moves, is.
            if !before.went_on(&self.moving()?) {
                return Ok(report);
            }
        }
        Err(Error::Moving("this check".to_owned()))
    }

    fn moving(&self) -> Result<Moving> {
        let dooms = Dooms::read(self.target());
        let names = |folder: &str| -> Result<BTreeSet<String>> {
            Ok(listed(self.target(), folder)?.into_iter().map(|file| file.name).collect())
        };
        // A doom that cannot be read is a problem of its own.
        let dooms = match dooms {
            Err(error) if error.is_damage() => Dooms::default(),
            dooms => dooms?,
        };
        Ok(Moving { dooms, index: names("index")?, packs: self.packs()?.into_keys().collect() })
    }

    /// One look at everything. What was read of packs before is not read again: a pack never changes.
    fn look(&self, read: &mut Read) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        self.check_small_files(&mut report)?;
        // First who needs something, then where it lies: what a backup that ends meanwhile needs is not missed here.
        let backups = self.listed_backups()?;
        let indexed = self.check_index(&mut report)?;
        // After the index, so that a pack that is not there was deleted after it was named no more.
        let packs = self.packs()?;
        report.packs = packs.len() as u64;
        for (id, size) in &packs {
            match indexed.get(id) {
                None => {
                    report.notes.push(format!("{}: no index names it; the next backup takes it up", pack::name(*id)))
                }
                Some(Indexed { size: named, .. }) if named != size => {
                    report.problem(pack::name(*id), format!("it has {size} bytes, not {named}"));
                }
                Some(_) => {}
            }
        }
        let known = Known::load_what_is_whole(self.target(), &self.sealer, &self.cache)?;
        let mut wanted: Vec<(Id, u64)> = packs.iter().map(|(id, size)| (*id, *size)).collect();
        wanted.retain(|(id, _)| read.depth.reads(id) && !read.packs.contains(id));
        wanted.sort();
        for state in self.read_indexed_packs(&wanted, &known, &indexed)? {
            read.problems.extend(state.problems.into_iter().map(|problem| (state.id, problem)));
            read.damaged.insert(state.id, state.whole);
        }
        read.bytes += wanted.iter().map(|(_, size)| size).sum::<u64>();
        read.packs.extend(wanted.into_iter().map(|(id, _)| id));
        report.read = read.bytes;
        // An index file that went meanwhile, as in a prune, says nothing any more.
        let names: HashSet<String> =
            indexed.values().flat_map(|pack| &pack.files).map(|(file, _)| index::name(*file)).collect();
        let still = |(pack, problem): &&(Id, Problem)| {
            packs.contains_key(pack) && (!problem.file.starts_with("index/") || names.contains(&problem.file))
        };
        report.problems.extend(read.problems.iter().filter(still).map(|(_, problem)| problem.clone()));
        let mut damaged = read.damaged.clone();
        for (id, size) in &packs {
            if indexed.get(id).is_some_and(|named| named.size != *size) {
                damaged.entry(*id).or_default();
            }
        }
        self.check_backups(&backups, &known, &packs, &damaged, &mut report)?;
        report.problems.sort();
        report.problems.dedup();
        report.notes.sort();
        Ok(report)
    }

    /// The files of claims, then of manifests: what moves from one to the other between is seen twice, not missed.
    fn listed_backups(&self) -> Result<Vec<(&'static str, Listed)>> {
        let mut files = Vec::new();
        for folder in ["claims", "manifests"] {
            files.extend(listed(self.target(), folder)?.into_iter().map(|file| (folder, file)));
        }
        Ok(files)
    }

    /// Holds `config` and its copy against the config that the repository was opened with.
    fn check_config(&self, report: &mut CheckReport) -> Result<()> {
        for file in [CONFIG, CONFIG_COPY] {
            match spare::held(self.target(), file, &self.config_bytes)? {
                Held::Same => {}
                Held::Missing if file == CONFIG_COPY => {
                    report.notes.push(format!("{file}: is not there; the next backup, prune or repair writes it"));
                }
                Held::Missing => report.problem(file, "it is gone: repair the repository"),
                Held::Other(what) => report.problem(file, format!("{what}: repair the repository")),
            }
        }
        Ok(())
    }

    fn check_small_files(&self, report: &mut CheckReport) -> Result<()> {
        let target = self.target();
        self.check_config(report)?;
        type Verify = fn(&dyn super::target::Target, &str) -> Result<()>;
        let kinds: [(&str, Verify); 5] = [
            ("keys", keys::verify),
            ("leases", lease::verify),
            ("locks", lease::verify_lock),
            ("marks", mark::verify),
            ("dooms", doom::verify),
        ];
        for (folder, verify) in kinds {
            for file in listed(target, folder)? {
                match verify(target, &file.name) {
                    // It went meanwhile, as all but keys may.
                    Err(error) if error.is_missing() => {}
                    other => drop(report.note(&file.name, other)?),
                }
            }
        }
        let mut strays = Vec::new();
        target.list("data", &mut |file| {
            if pack::id_of(&file.name).is_none() {
                strays.push(file.name);
            }
            Ok(())
        })?;
        report.notes.extend(strays.into_iter().map(|name| format!("{name}: is not a file of a repository")));
        Ok(())
    }

    /// Reads all index files. Returns the packs that they name, and what they say of them.
    ///
    /// A pack that its entries do not fill without gaps is one that no writer has made: what is said of it cannot be true.
    fn check_index(&self, report: &mut CheckReport) -> Result<HashMap<Id, Indexed>> {
        let mut indexed: HashMap<Id, Indexed> = HashMap::new();
        for file in listed(self.target(), "index")? {
            let Ok(id) = file.name.trim_start_matches("index/").parse::<Id>() else {
                report.problem(&file.name, "its name is not that of an index file");
                continue;
            };
            let read = match index::read(self.target(), &self.sealer, id) {
                Err(error) if error.is_missing() => continue,
                other => report.note(&file.name, other)?,
            };
            for pack in read.into_iter().flatten() {
                if !self.sealer.fills(&pack) {
                    report.problem(&file.name, format!("what it says of {} cannot be: repair it", pack::name(pack.id)));
                }
                let told = pack::digest(&pack.entries);
                let of = indexed.entry(pack.id).or_default();
                of.size = pack.size;
                // There may be a hundred thousand packs: none takes room for more than what is said of it.
                of.files.reserve_exact(1);
                of.files.push((id, told));
            }
        }
        Ok(indexed)
    }

    /// Reads every claim and manifest and looks for each of its blobs.
    fn check_backups(
        &self,
        backups: &[(&str, Listed)],
        known: &Known,
        packs: &HashMap<Id, u64>,
        damaged: &HashMap<Id, HashSet<Id>>,
        report: &mut CheckReport,
    ) -> Result<()> {
        let mut look =
            Look { repository: self, known, packs, damaged, segments: HashMap::new(), lacking: BTreeMap::new() };
        let mut odd = Vec::new();
        for (folder, file) in backups {
            let manifest = match Manifest::read(self.target(), &self.sealer, &file.name) {
                Err(error) if error.is_missing() => continue,
                other => report.note(&file.name, other)?,
            };
            let id = file.name.rsplit('/').next().and_then(|id| id.parse::<Id>().ok());
            let whole = match manifest {
                Some(manifest) => {
                    odd.extend(named_oddly(&manifest).map(|what| (file.name.clone(), what)));
                    // Of files that are not there it is not known how long they are.
                    let whole = look.backup(&manifest)?;
                    let wrong = if whole { look.wrong_length(&manifest)? } else { None };
                    let fits = wrong.is_none();
                    odd.extend(wrong.map(|what| (file.name.clone(), what)));
                    whole && fits
                }
                None => false,
            };
            if *folder == "claims" {
                report
                    .notes
                    .push(format!("{}: a backup that was not finished; a prune finishes or drops it", file.name));
                continue;
            }
            report.backups += 1;
            if !whole {
                report.hurt.extend(id);
            }
        }
        for (file, what) in odd {
            report.problem(file, what);
        }
        for (file, count) in look.lacking {
            report.problem(file, format!("{count} blobs that backups need are not there, or not whole"));
        }
        Ok(())
    }
}

/// What is wrong with the names of a backup's disks or files: each is asked for by its name.
fn named_oddly(manifest: &Manifest) -> Option<String> {
    let disks: Vec<&str> = manifest.disks.iter().map(|disk| disk.name.as_str()).collect();
    let files: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    [("disk", disks), ("file", files)].into_iter().find_map(|(kind, names)| {
        let mut seen = HashSet::new();
        let odd = names.into_iter().find(|name| name.is_empty() || !seen.insert(*name))?;
        let what = if odd.is_empty() { "without a name".to_owned() } else { format!("{odd:?} twice") };
        Some(format!("it has a {kind} {what}"))
    })
}

/// Looks for the blobs of backups, each segment once.
struct Look<'a> {
    repository: &'a Repository,
    known: &'a Known,
    packs: &'a HashMap<Id, u64>,
    damaged: &'a HashMap<Id, HashSet<Id>>,
    segments: HashMap<Id, bool>,
    /// What lacks blobs: the pack that should have them, or a blob that no index names.
    lacking: BTreeMap<String, u64>,
}

impl Look<'_> {
    /// Whether a blob can be read from one of its places.
    fn blob(&mut self, id: &Id, kind: Kind) -> Result<bool> {
        let (mut whole, mut place) = (false, None);
        self.known.each_place(id, &mut |_, location| {
            let there = self.packs.contains_key(&location.pack) && location.entry.flags.kind() == kind;
            whole |= there && self.damaged.get(&location.pack).is_none_or(|whole| whole.contains(id));
            place.get_or_insert(location.pack);
        })?;
        if !whole {
            let file = place.map_or_else(|| format!("{kind:?} {id}").to_lowercase(), pack::name);
            *self.lacking.entry(file).or_default() += 1;
        }
        Ok(whole)
    }

    /// An attached file whose parts have another length than it: it cannot be restored.
    fn wrong_length(&self, manifest: &Manifest) -> Result<Option<String>> {
        for file in &manifest.files {
            let mut length = 0u64;
            for part in &file.parts {
                let mut raw = None;
                self.known.each_place(part, &mut |_, location| {
                    if location.entry.flags.kind() == Kind::File {
                        raw.get_or_insert(location.entry.raw);
                    }
                })?;
                length = length.saturating_add(u64::from(raw.unwrap_or_default()));
            }
            if length != file.size {
                return Ok(Some(format!(
                    "its file {:?} has {} bytes, and its parts have {length}",
                    file.name, file.size
                )));
            }
        }
        Ok(None)
    }

    /// Whether all of a backup is there.
    fn backup(&mut self, manifest: &Manifest) -> Result<bool> {
        let mut whole = true;
        let mut press = Press::new(Codec::Stored);
        for disk in &manifest.disks {
            if !self.blob(&disk.root, Kind::Root)? {
                whole = false;
                continue;
            }
            let root = match self.repository.root(&mut press, self.known, disk) {
                Err(error) if error.is_damage() => {
                    *self.lacking.entry(error.to_string()).or_default() += 1;
                    whole = false;
                    continue;
                }
                other => other?,
            };
            for number in 0..root.segments.len() as u64 {
                whole &= self.segment(&mut press, &root, number)?;
            }
        }
        for part in manifest.files.iter().flat_map(|file| &file.parts) {
            whole &= self.blob(part, Kind::File)?;
        }
        Ok(whole)
    }

    fn segment(&mut self, press: &mut Press, root: &Root, number: u64) -> Result<bool> {
        let id = usize::try_from(number).ok().and_then(|number| root.segments.get(number)).copied().unwrap_or(Id::ZERO);
        if id == Id::ZERO {
            return Ok(true);
        }
        if let Some(whole) = self.segments.get(&id) {
            return Ok(*whole);
        }
        let mut whole = self.blob(&id, Kind::Segment)?;
        if whole {
            match self.repository.segment(press, self.known, root, number) {
                Err(error) if error.is_damage() => {
                    *self.lacking.entry(error.to_string()).or_default() += 1;
                    whole = false;
                }
                other => {
                    for chunk in other?.iter().filter(|chunk| **chunk != Id::ZERO) {
                        whole &= self.blob(chunk, Kind::Chunk)?;
                    }
                }
            }
        }
        self.segments.insert(id, whole);
        Ok(whole)
    }
}
