//! A repository that is open: its config, its keys, and its view of what it holds.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretSlice};
use zeroize::Zeroizing;

use super::blob::{Kind, Press};
use super::cache::Cache;
use super::doom::Dooms;
use super::error::{Error, Result};
use super::format::{CONFIG, Config, FORMAT, USUAL_CHUNK, check_chunk_size, read_config, this_time, with_hash};
use super::id::Id;
use super::keys::{self, KeyCost, KeyInfo, Rotated};
use super::known::{Known, Location};
use super::lease::{self, LeaseInfo};
use super::manifest::{self, Manifest, Root, ids};
use super::pack::{self, Pack};
use super::seal::{Keyring, Sealer};
use super::spare::{self, CONFIG_COPY};
use super::target::{Target, listed};

/// What a new repository is to be.
pub struct InitOptions {
    /// The passphrase or the bytes of a key file; none makes a plain repository.
    pub secret: Option<SecretSlice<u8>>,
    pub key_cost: KeyCost,
    /// The length of a chunk in bytes: 64 KiB to 4 MiB. Default: 256 KiB.
    pub chunk_size: u32,
    /// How long packs stay marked before they are deleted. Default: 24 hours.
    pub grace: Duration,
    /// The repository that this one is to be a second place of: blobs have the same ids in both.
    pub like: Option<Like>,
}

/// What two repositories share in which blobs have the same ids.
#[derive(Clone)]
pub struct Like(Option<Zeroizing<[u8; 32]>>);

impl Default for InitOptions {
    fn default() -> Self {
        let grace = Duration::from_secs(24 * 60 * 60);
        Self { secret: None, key_cost: KeyCost::default(), chunk_size: USUAL_CHUNK, grace, like: None }
    }
}

/// An open repository.
pub struct Repository {
    pub(super) target: Arc<dyn Target>,
    config: Config,
    /// The bytes of the file that says it.
    pub(super) config_bytes: Arc<[u8]>,
    /// Where it is, as it was found when it was opened.
    whereabouts: Arc<str>,
    key: Option<Id>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) cache: Arc<Cache>,
}

/// Backups that can be read, and those that cannot.
pub type Listing = (Vec<(Id, Manifest)>, Vec<(Id, Error)>);

impl Repository {
    /// Makes a repository where there is none.
    ///
    /// Errors: `AlreadyARepository`; `NoConfig` where one was.
    pub fn init(target: Arc<dyn Target>, options: &InitOptions, cache: Option<PathBuf>) -> Result<Self> {
        check_chunk_size(options.chunk_size)?;
        if options.like.as_ref().is_some_and(|like| like.0.is_some() != options.secret.is_some()) {
            let what = "a second place is encrypted if the first is, and only then: its blobs would have other ids";
            return Err(Error::Option(what.to_owned()));
        }
        match read_config(target.as_ref()) {
            Err(Error::NotARepository(_)) => {}
            Ok(_) | Err(Error::Damaged { .. } | Error::Newer { .. }) => {
                return Err(Error::AlreadyARepository(target.place()));
            }
            // What backups left here would be out of reach for ever with a new config.
            Err(error) => return Err(error),
        }
        let config = Config {
            format: FORMAT,
            needs: Vec::new(),
            id: uuid::Uuid::new_v4().to_string(),
            encrypted: options.secret.is_some(),
            chunk_size: options.chunk_size,
            grace_seconds: options.grace.as_secs(),
            made: this_time(),
        };
        let bytes = with_hash(&config)?;
        let config_id = Id::of(&bytes);
        let (mut sealer, mut key) = (Sealer::Plain, None);
        if let Some(secret) = &options.secret {
            let mut ring = Keyring::random()?;
            if let Some(Like(Some(id_key))) = &options.like {
                ring.id_key = id_key.clone();
            }
            key =
                Some(keys::add(target.as_ref(), config_id, &ring, secret.expose_secret(), options.key_cost, "first")?);
            sealer = Sealer::Keyed(ring);
        }
        if let Err(error) = target.put(CONFIG, &bytes) {
            if let (Error::Exists(_), Some(key)) = (&error, key) {
                keys::withdraw(target.as_ref(), key)?;
            }
            return Err(error);
        }
        spare::write(target.as_ref(), CONFIG_COPY, &bytes)?;
        let cache = Arc::new(Cache::open(cache.map(|folder| folder.join(&config.id)).as_deref())?);
        let whereabouts = target.whereabouts().into();
        let config_bytes = bytes.into();
        Ok(Self { target, config, config_bytes, whereabouts, key, sealer: Arc::new(sealer), cache })
    }

    /// Opens a repository. `cache` is a folder of this machine in which its index is kept between processes.
    ///
    /// Errors: `NotARepository`, `Newer`, `Damaged`; `Key` where the secret does not open it, is missing, or is given for a plain one.
    pub fn open(target: Arc<dyn Target>, secret: Option<&SecretSlice<u8>>, cache: Option<PathBuf>) -> Result<Self> {
        let (config, config_bytes) = read_config(target.as_ref())?;
        let (sealer, key) = match (config.encrypted, secret) {
            (false, None) => (Sealer::Plain, None),
            (true, Some(secret)) => {
                let (ring, key) = keys::open(target.as_ref(), Id::of(&config_bytes), secret.expose_secret())?;
                (Sealer::Keyed(ring), Some(key))
            }
            (true, None) => {
                return Err(Error::Key(format!(
                    "{}: is encrypted, and no passphrase or key file is given",
                    target.place()
                )));
            }
            (false, Some(_)) => {
                return Err(Error::Key(format!(
                    "{}: is not encrypted, but a passphrase or key file is given",
                    target.place()
                )));
            }
        };
        let cache = Arc::new(Cache::open(cache.map(|folder| folder.join(&config.id)).as_deref())?);
        let whereabouts = target.whereabouts().into();
        Ok(Self { target, config, config_bytes, whereabouts, key, sealer: Arc::new(sealer), cache })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the keys are bound to.
    fn config_id(&self) -> Id {
        Id::of(&self.config_bytes)
    }

    /// What tells its place from every other: two repositories may have one id, where one was copied.
    pub fn whereabouts(&self) -> &str {
        &self.whereabouts
    }

    /// What another repository must be made with so that blobs have the same ids in both.
    pub fn like(&self) -> Like {
        match self.sealer.as_ref() {
            Sealer::Plain => Like(None),
            Sealer::Keyed(ring) => Like(Some(ring.id_key.clone())),
        }
    }

    /// The place of its files.
    pub fn target(&self) -> &dyn Target {
        self.target.as_ref()
    }

    /// The same repository, reached through another target.
    pub(super) fn with_target(&self, target: Arc<dyn Target>) -> Self {
        let (sealer, cache) = (self.sealer.clone(), self.cache.clone());
        let (config, config_bytes) = (self.config.clone(), self.config_bytes.clone());
        Self { target, config, config_bytes, whereabouts: self.whereabouts.clone(), key: self.key, sealer, cache }
    }

    /// The key file that it was opened with.
    pub fn key(&self) -> Option<Id> {
        self.key
    }

    fn ring(&self) -> Result<&Keyring> {
        match self.sealer.as_ref() {
            Sealer::Keyed(ring) => Ok(ring),
            Sealer::Plain => Err(Error::Key(format!("{}: is not encrypted: it has no keys", self.target.place()))),
        }
    }

    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        keys::list(self.target(), self.key)
    }

    /// Adds a key file that another secret opens.
    pub fn add_key(&self, secret: &SecretSlice<u8>, cost: KeyCost, label: &str) -> Result<Id> {
        spare::fill(self.target(), &self.config_bytes)?;
        let of = (self.config_id(), self.key);
        keys::add_another(self.target(), of, self.ring()?, secret.expose_secret(), cost, label)
    }

    /// Removes a key file, which must not be the last. `even_so` takes also the one that opened this repository, and one that alone holds a
    /// master key.
    ///
    /// Errors: `Key` where it is the last; `Refused`.
    pub fn remove_key(&self, id: Id, even_so: bool) -> Result<()> {
        self.ring()?;
        keys::remove(self.target(), id, self.key, even_so)
    }

    /// The key file of an id, or of the first eight or more digits of one.
    pub fn key_of(&self, text: &str) -> Result<Id> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let mut found = self.keys()?;
        found.retain(|key| text.len() >= 8 && key.id.to_string().starts_with(&text.to_ascii_lowercase()));
        match found.as_slice() {
            [one] => Ok(one.id),
            [] => Err(Error::Option(format!("no key begins with {text:?}: give eight digits of its id or more"))),
            more => Err(Error::Option(format!("{} keys begin with {text}", more.len()))),
        }
    }

    /// Makes a new master key, which only `new` opens, and removes all key files that were there. `even_so` removes also others than the one
    /// that opened this repository.
    ///
    /// Errors: `Key` where the key that opened this repository is gone; `Refused` where there are others, which it names; where a key is left
    /// that would be lost; where another appeared.
    pub fn rotate_key(&mut self, new: &SecretSlice<u8>, cost: KeyCost, label: &str, even_so: bool) -> Result<Rotated> {
        spare::fill(self.target(), &self.config_bytes)?;
        let of = (self.config_id(), self.key);
        let (ring, rotated) =
            keys::rotate(self.target(), of, self.ring()?, new.expose_secret(), (cost, label), even_so)?;
        self.sealer = Arc::new(Sealer::Keyed(ring));
        self.key = Some(rotated.id);
        Ok(rotated)
    }

    /// Deletes the leases of processes that are gone, or all. Nothing is lost by it, whatever their owners do.
    pub fn unlock(&self, all: bool) -> Result<Vec<LeaseInfo>> {
        lease::unlock(self.target(), all)
    }

    /// All visible backups, the oldest first.
    ///
    /// Errors: the damage of the first that cannot be read.
    pub fn backups(&self) -> Result<Vec<(Id, Manifest)>> {
        let (backups, damaged) = self.backups_and_damaged()?;
        damaged.into_iter().next().map_or(Ok(backups), |(_, error)| Err(error))
    }

    /// All visible backups that can be read, the oldest first, and those whose files are damaged, with what is wrong.
    pub fn backups_and_damaged(&self) -> Result<Listing> {
        let (mut backups, mut damaged) = (Vec::new(), Vec::new());
        for file in listed(self.target(), "manifests")? {
            let manifest = Manifest::read(self.target(), &self.sealer, &file.name);
            let id = file.name.trim_start_matches("manifests/").parse::<Id>();
            match manifest {
                // Forgotten since the list was made.
                Err(Error::Missing(_)) => {}
                Err(error) if error.is_damage() => damaged.push((id?, error)),
                other => backups.push((id?, other?)),
            }
        }
        backups.sort_by(|(one_id, one), (other_id, other)| one.time.cmp(&other.time).then(one_id.cmp(other_id)));
        Ok((backups, damaged))
    }

    /// The backup of an id, or of the first eight or more digits of one.
    pub fn backup(&self, id: &str) -> Result<(Id, Manifest)> {
        let id = self.backup_id(id)?;
        Ok((id, Manifest::read(self.target(), &self.sealer, &manifest::name(id))?))
    }

    /// The whole id of the backup that this one, or its first eight or more digits, names.
    ///
    /// Errors: `Option` where it is no id, or names several; `Missing`.
    pub fn backup_id(&self, id: &str) -> Result<Id> {
        Ok(match id.parse::<Id>() {
            Ok(id) => id,
            Err(_) if id.len() >= 8 && id.len() < 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
                let wanted = format!("manifests/{}", id.to_ascii_lowercase());
                let mut found = listed(self.target(), "manifests")?;
                found.retain(|file| file.name.starts_with(&wanted));
                match found.as_slice() {
                    [one] => one.name.trim_start_matches("manifests/").parse()?,
                    [] => return Err(Error::Missing(format!("the backup {id}"))),
                    more => return Err(Error::Option(format!("{} backups begin with {id}", more.len()))),
                }
            }
            Err(_) => return Err(Error::Option(format!("{id:?} is not a backup's id: 8 to 64 hexadecimal digits"))),
        })
    }

    /// The packs that are there, with their sizes.
    pub(super) fn packs(&self) -> Result<HashMap<Id, u64>> {
        let mut packs = HashMap::new();
        self.target.list("data", &mut |file| {
            if let Some(id) = pack::id_of(&file.name) {
                packs.insert(id, file.size);
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// What index files name, for readers.
    pub(super) fn known(&self) -> Result<Known> {
        let known = Known::load(self.target(), &self.sealer, &self.cache, false)?;
        if self.target.lock_time().is_none() {
            return Ok(known);
        }
        // Index files that a lock keeps name packs that are gone.
        let packs = self.packs()?;
        Ok(known.relying_on(&|id, _| packs.contains_key(id)))
    }

    /// What can be relied on: the dooms first, then the index, then the packs, in this order.
    ///
    /// Blobs in doomed or missing packs are not known. With the view come the packs that no index names.
    pub(super) fn view(&self, one: bool) -> Result<View> {
        let dooms = Dooms::read(self.target())?;
        let everything = Known::load(self.target(), &self.sealer, &self.cache, one)?;
        let packs = self.packs()?;
        let known = everything.relying_on(&|id, size| packs.get(id) == Some(&size) && !dooms.packs.contains(id));
        let named: std::collections::HashSet<Id> = known.packs().into_iter().map(|(id, _)| id).collect();
        let unnamed = packs.iter().filter(|(id, _)| !named.contains(id) && !dooms.packs.contains(id));
        let mut unnamed: Vec<(Id, u64)> = unnamed.map(|(id, size)| (*id, *size)).collect();
        unnamed.sort();
        Ok(View { dooms, known, everything, packs, unnamed })
    }

    /// The table of a pack.
    pub(super) fn table(&self, id: Id, size: u64) -> Result<Pack> {
        pack::read_table(self.target(), &self.sealer, id, size)
    }

    /// Reads a blob from its place and verifies it.
    pub(super) fn read_blob(&self, press: &mut Press, location: &Location) -> Result<Vec<u8>> {
        let (file, entry) = (pack::name(location.pack), location.entry);
        let from = u64::from(entry.offset);
        let mut frame = self.target.get(&file, from..from + u64::from(entry.stored))?;
        press.open(&self.sealer, entry.flags, entry.id, entry.raw, &mut frame, &file).map(<[u8]>::to_vec)
    }

    /// Reads a blob of a kind that index files must know.
    ///
    /// Errors: those of [`Known::read_from_any`].
    pub(super) fn blob(&self, press: &mut Press, known: &Known, kind: Kind, id: &Id) -> Result<Vec<u8>> {
        known.read_from_any(kind, id, |location| self.read_blob(press, location))
    }

    /// The root of a disk, which must agree with its manifest.
    pub(super) fn root(&self, press: &mut Press, known: &Known, disk: &manifest::Disk) -> Result<Root> {
        let root = Root::decode(&self.blob(press, known, Kind::Root, &disk.root)?);
        root.filter(|root| root.size == disk.size && root.chunk_size == disk.chunk_size)
            .ok_or_else(|| Error::damaged(format!("root {}", disk.root), "it is not that of its disk"))
    }

    /// The chunks of a segment; one that is all zeros is not stored.
    pub(super) fn segment(&self, press: &mut Press, known: &Known, root: &Root, number: u64) -> Result<Vec<Id>> {
        let id = usize::try_from(number).ok().and_then(|number| root.segments.get(number));
        let id = id.ok_or_else(|| Error::Option(format!("the disk has no segment {number}")))?;
        let length = root.chunks_in(number);
        if *id == Id::ZERO {
            return Ok(vec![Id::ZERO; length]);
        }
        ids(&self.blob(press, known, Kind::Segment, id)?)
            .filter(|ids| ids.len() == length)
            .ok_or_else(|| Error::damaged(format!("segment {id}"), "it has another length than its disk says"))
    }
}

/// A repository at one look, as a writer or a pruner may rely on it.
pub(super) struct View {
    pub dooms: Dooms,
    pub known: Known,
    /// With what lies in doomed packs, which may still be read.
    pub everything: Known,
    pub packs: HashMap<Id, u64>,
    pub unnamed: Vec<(Id, u64)>,
}
