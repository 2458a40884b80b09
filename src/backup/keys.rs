//! Key files: a keyring wrapped for one passphrase or key file each.
//!
//! There is always one more write than deletion: whatever is interrupted, a secret that opened the repository before, or the new one, opens it.
//! And no master key goes with the last file that holds it: frames may lie under it that someone else has written.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::error::{Error, Result};
use super::format::{json, parse, read_named, this_time};
use super::id::{Id, unhex};
use super::lease;
use super::seal::{Keyring, decrypt_once, encrypt_once, random};
use super::target::{Listed, Target, listed};

/// The largest key file that is read.
const LARGEST: u64 = 1 << 20;

/// What it costs to try a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for KeyCost {
    /// 20 MiB and 6 passes: OWASP's least is 19 MiB and 2. It is the most memory that any command takes at once, so it is not more.
    fn default() -> Self {
        Self { memory_kib: 20 << 10, passes: 6, lanes: 1 }
    }
}

impl KeyCost {
    /// What a file may ask of the machine that opens it, and what a new one may cost: a few seconds.
    const MOST: Self = Self { memory_kib: 256 << 10, passes: 10, lanes: 16 };

    /// What the files of a repository may cost together, in KiB times passes: more than 60 of the default, ten seconds or so.
    const MOST_TOGETHER: u64 = 8 << 20;

    /// KiB times passes. A file that asks for more than a file may is not tried, and costs nothing.
    fn work(self) -> u64 {
        let most = Self::MOST;
        if self.memory_kib > most.memory_kib || self.passes > most.passes || self.lanes > most.lanes {
            return 0;
        }
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    fn derive(self, secret: &[u8], salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        if self.work() == 0 {
            return None;
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(secret, salt, key.as_mut()).ok()?;
        Some(key)
    }
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    kdf: String,
    #[serde(flatten)]
    cost: KeyCost,
    salt: String,
    label: String,
    made: String,
    /// The ids of the master keys that it holds.
    #[serde(default)]
    masters: Vec<String>,
    sealed: String,
}

/// The keyring as its key file seals it.
#[derive(Serialize, Deserialize)]
struct Opened {
    id_key: String,
    current: String,
    masters: Vec<(String, String)>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.id_key.zeroize();
        self.masters.iter_mut().for_each(|(_, key)| key.zeroize());
    }
}

impl Opened {
    fn of(ring: &Keyring) -> Self {
        let masters = ring.masters.iter().map(|(id, key)| (hex::encode(id), hex::encode(key.as_slice()))).collect();
        Self { id_key: hex::encode(ring.id_key.as_slice()), current: hex::encode(ring.current), masters }
    }

    fn ring(&self) -> Option<Keyring> {
        let masters = self.masters.iter().map(|(id, key)| Some((unhex(id)?, Zeroizing::new(unhex(key)?))));
        let ring = Keyring {
            id_key: Zeroizing::new(unhex(&self.id_key)?),
            current: unhex(&self.current)?,
            masters: masters.collect::<Option<_>>()?,
        };
        ring.masters.contains_key(&ring.current).then_some(ring)
    }
}

/// A key file as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    pub id: Id,
    pub label: String,
    pub made: String,
    /// Whether the repository was opened with it now.
    pub in_use: bool,
}

impl KeyInfo {
    fn of(id: Id, key: KeyFile, in_use: Option<Id>) -> Self {
        Self { id, label: key.label, made: key.made, in_use: in_use == Some(id) }
    }
}

impl std::fmt::Display for KeyInfo {
    /// As one is told of in a line: `the key 0a1b2c3d4e "ops" of 2026-05-01T02:00:00Z`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever writes to the place may have made it.
        let short = |text: &str| text.chars().take(60).collect::<String>();
        let (made, label) = (short(&self.made), short(&self.label));
        write!(f, "the key {} {label:?} of {}", self.id.short(), made.escape_debug())
    }
}

fn name(id: Id) -> String {
    format!("keys/{id}")
}

/// What ties a key file to its repository, and to the list of master keys that it shows.
fn about(config: Id, masters: &[String]) -> Vec<u8> {
    let mut about = [b"ceso key 1".as_slice(), &config.0].concat();
    masters.iter().for_each(|master| about.extend_from_slice(master.as_bytes()));
    about
}

/// Writes a key file that a secret opens.
pub(super) fn add(
    target: &dyn Target,
    config: Id,
    ring: &Keyring,
    secret: &[u8],
    cost: KeyCost,
    label: &str,
) -> Result<Id> {
    if secret.is_empty() {
        return Err(Error::Key("the passphrase or key file is empty".to_owned()));
    }
    let mut salt = [0; 16];
    random(&mut salt)?;
    let key = cost.derive(secret, &salt).ok_or_else(|| Error::Option(format!("{cost:?} is no cost of a key")))?;
    let mut sealed = Zeroizing::new(json(&Opened::of(ring))?);
    let masters: Vec<String> = ring.masters.keys().map(hex::encode).collect();
    let tag = encrypt_once(&key, &about(config, &masters), &mut sealed)?;
    let file = json(&KeyFile {
        version: 1,
        kdf: "argon2id".to_owned(),
        cost,
        salt: hex::encode(salt),
        label: label.to_owned(),
        made: this_time(),
        masters,
        sealed: hex::encode(sealed) + &hex::encode(tag),
    })?;
    let id = Id::of(&file);
    target.put(&name(id), &file)?;
    Ok(id)
}

/// Reads and verifies a key file as far as that needs no secret.
fn read(target: &dyn Target, file: &str) -> Result<KeyFile> {
    let key: KeyFile = parse(&read_named(target, file, LARGEST)?, file)?;
    if key.version > 1 || key.kdf != "argon2id" {
        let what = format!("{file} is of version {} with {:?}", key.version, key.kdf);
        return Err(Error::Newer { place: target.place(), what });
    }
    Ok(key)
}

/// All key files; `in_use` is the one that opened the repository. One that cannot be read is passed over: a check names it.
pub(super) fn list(target: &dyn Target, in_use: Option<Id>) -> Result<Vec<KeyInfo>> {
    let mut keys = Vec::new();
    for (id, key) in readable(target, &listed(target, "keys")?)? {
        keys.push(KeyInfo::of(id, key, in_use));
    }
    Ok(keys)
}

/// The files that are key files of this version. One that is damaged opens nothing.
fn readable(target: &dyn Target, files: &[Listed]) -> Result<Vec<(Id, KeyFile)>> {
    let mut keys = Vec::new();
    for file in files {
        match read(target, &file.name) {
            Err(error) if error.is_damage() => {}
            key => keys.push((file.name.trim_start_matches("keys/").parse()?, key?)),
        }
    }
    Ok(keys)
}

/// Opens the keyring with a secret: all master keys of all key files that it opens, for an interrupted rotation has left two. Returns it with
/// the id of the key file that holds most of them, which is the newest.
///
/// Where a key file went between the list and its reading, as in a rotation, the list is read again.
///
/// Errors: `Key` where the secret opens none; the damage of a key file, where no other opens.
pub(super) fn open(target: &dyn Target, config: Id, secret: &[u8]) -> Result<(Keyring, Id)> {
    let mut opened = open_listed(target, config, secret, KeyCost::MOST_TOGETHER);
    for _ in 0..3 {
        match &opened {
            Err(error) if error.is_missing() => {
                opened = open_listed(target, config, secret, KeyCost::MOST_TOGETHER);
            }
            _ => break,
        }
    }
    opened
}

/// Opens the keyring by the key files that one list names.
///
/// The cheap ones come first, and of those the newest: what another has put there does not keep a secret waiting.
///
/// Errors: those of `open`, and `Missing` where no file opens and one went since the list.
fn open_listed(target: &dyn Target, config: Id, secret: &[u8], most: u64) -> Result<(Keyring, Id)> {
    let files = listed(target, "keys")?;
    let (mut damage, mut best): (Option<Error>, Option<(Keyring, Id)>) = (None, None);
    let mut keys = Vec::new();
    for file in &files {
        match read(target, &file.name) {
            Ok(key) => keys.push((file, key)),
            Err(error) => {
                if damage.is_none() || error.is_missing() {
                    damage = Some(error);
                }
            }
        }
    }
    keys.sort_by_key(|(file, key)| (key.cost.work(), std::cmp::Reverse(file.written)));
    let mut spent = 0;
    for (tried, (file, key)) in keys.iter().enumerate() {
        // To try a secret is dear, on purpose.
        if best.as_ref().is_some_and(|(ring, _)| lacking(key, ring).next().is_none()) {
            continue;
        }
        spent += key.cost.work();
        if spent > most {
            let place = target.place();
            let what = format!("{place}: its {} key files ask for too much work: {tried} were tried", files.len());
            if best.is_none() {
                return Err(Error::Key(format!(
                    "{what}, and none opens with this passphrase or key file: remove those of keys/ that nobody knows"
                )));
            }
            tracing::warn!("{what}, and one opens; what others hold is not known");
            break;
        }
        let Some(ring) = unwrap(key, config, secret) else { continue };
        let found = (ring, file.name.trim_start_matches("keys/").parse()?);
        best = Some(match best {
            None => found,
            // The current key is that of the file that holds more.
            Some(have) if found.0.masters.len() > have.0.masters.len() => (joined(found.0, have.0), found.1),
            Some(have) => (joined(have.0, found.0), have.1),
        });
    }
    best.ok_or_else(|| {
        damage.unwrap_or_else(|| {
            Error::Key(format!(
                "{}: none of its {} keys opens with this passphrase or key file",
                target.place(),
                files.len()
            ))
        })
    })
}

/// A keyring with the master keys of another as well.
fn joined(mut ring: Keyring, other: Keyring) -> Keyring {
    for (id, key) in other.masters {
        ring.masters.entry(id).or_insert(key);
    }
    ring
}

/// The master keys of a key file that a keyring lacks.
fn lacking<'a>(file: &'a KeyFile, ring: &'a Keyring) -> impl Iterator<Item = &'a String> {
    file.masters.iter().filter(|id| unhex(id).is_none_or(|id| !ring.masters.contains_key(&id)))
}

/// The first key file that holds a master key which a keyring lacks, and that key.
fn lacked<'a>(keys: &'a [(Id, KeyFile)], ring: &'a Keyring) -> Option<(Id, &'a String)> {
    keys.iter().find_map(|(id, key)| lacking(key, ring).next().map(|master| (*id, master)))
}

/// Makes sure that no key file holds a master key which a keyring lacks.
///
/// Errors: `Key` naming the key file that does.
pub(super) fn holds_all(target: &dyn Target, ring: &Keyring) -> Result<()> {
    let keys = readable(target, &listed(target, "keys")?)?;
    match lacked(&keys, ring) {
        None => Ok(()),
        Some((id, master)) => Err(Error::Key(format!(
            "{} holds the master key {master}, which the key in use does not: open the repository with the secret of that one",
            name(id)
        ))),
    }
}

fn unwrap(file: &KeyFile, config: Id, secret: &[u8]) -> Option<Keyring> {
    let salt: [u8; 16] = unhex(&file.salt)?;
    let key = file.cost.derive(secret, &salt)?;
    let (sealed, tag) = file.sealed.split_at_checked(file.sealed.len().checked_sub(32)?)?;
    let tag = unhex(tag)?;
    let mut bytes = Zeroizing::new(hex::decode(sealed).ok()?);
    if !decrypt_once(&key, &about(config, &file.masters), &mut bytes, &tag) {
        return None;
    }
    serde_json::from_slice::<Opened>(&bytes).ok()?.ring()
}

/// Refuses to go on with keys that another has rotated or removed since they were read.
fn still_there(files: &[Listed], own: Option<Id>) -> Result<()> {
    if own.is_none_or(|own| files.iter().any(|file| file.name == name(own))) {
        return Ok(());
    }
    Err(Error::Key("the key that opened this repository was removed meanwhile: open it again".to_owned()))
}

/// Adds a key file for another secret, in turn with other changes of keys.
///
/// Errors: `Key` where `own`, the key file that opened the repository, is gone: another has rotated the keys meanwhile.
pub(super) fn add_another(
    target: &dyn Target,
    (config, own): (Id, Option<Id>),
    ring: &Keyring,
    secret: &[u8],
    cost: KeyCost,
    label: &str,
) -> Result<Id> {
    lease::in_turn(target, "keys", |_| {
        still_there(&listed(target, "keys")?, own)?;
        add(target, config, ring, secret, cost, label)
    })
}

/// Removes a key file. What cannot be read does not count as another key.
///
/// Errors: `Missing`; `Key` where no other would be left; `Refused` where it is `own`, or the only one that holds some master key, and not `even_so`.
pub(super) fn remove(target: &dyn Target, id: Id, own: Option<Id>, even_so: bool) -> Result<()> {
    lease::in_turn(target, "keys", |turn| {
        let files = listed(target, "keys")?;
        if !files.iter().any(|file| file.name == name(id)) {
            return Err(Error::Missing(name(id)));
        }
        let (gone, left): (Vec<_>, Vec<_>) = readable(target, &files)?.into_iter().partition(|(key, _)| *key == id);
        if left.is_empty() {
            return Err(Error::Key(
                "this is the last key: without it nothing in the repository could be read".to_owned(),
            ));
        }
        if own == Some(id) && !even_so {
            return Err(Error::Refused(format!("{id} is the key that opened this repository just now")));
        }
        let held = |master: &String| left.iter().any(|(_, key)| key.masters.contains(master));
        if let Some(master) = gone.iter().flat_map(|(_, key)| &key.masters).find(|master| !held(master))
            && !even_so
        {
            return Err(Error::Refused(format!(
                "no other key holds the master key {master}: what was written with it could not be read any more"
            )));
        }
        turn.holds()?;
        target.delete(&[name(id)])
    })
}

/// What a rotation made and removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    pub id: Id,
    pub removed: Vec<KeyInfo>,
}

/// Makes a new current master key under `secret` and removes the key files that were there. Returns the new keyring and what was done.
///
/// Errors: `Key` where `own`, the key file that opened the repository, is gone. `Refused` where there are others than `own` and not `even_so`,
/// where another changes keys now, where a key file holds a master key that the ring lacks, or where another key file appeared meanwhile:
/// nothing was removed then.
pub(super) fn rotate(
    target: &dyn Target,
    (config, own): (Id, Option<Id>),
    ring: &Keyring,
    new: &[u8],
    (cost, label): (KeyCost, &str),
    even_so: bool,
) -> Result<(Keyring, Rotated)> {
    lease::in_turn(target, "keys", |turn| {
        let before = listed(target, "keys")?;
        still_there(&before, own)?;
        let mut ring = ring.clone();
        // What is damaged is left: nobody can say which master keys it held.
        let keys = readable(target, &before)?;
        if let Some((id, master)) = lacked(&keys, &ring) {
            return Err(Error::Refused(format!(
                "{} holds the master key {master}, which the key in use does not; rotate with the secret of that one",
                name(id)
            )));
        }
        let removed: Vec<KeyInfo> = keys.into_iter().map(|(id, key)| KeyInfo::of(id, key, own)).collect();
        let others: Vec<String> = removed.iter().filter(|key| !key.in_use).map(KeyInfo::to_string).collect();
        if !others.is_empty() && !even_so {
            return Err(Error::Refused(format!(
                "beside the key in use, this removes {}: what they open with would open the repository no more",
                others.join(", ")
            )));
        }
        ring.rotate()?;
        let id = add(target, config, &ring, new, cost, label)?;
        let known = |file: &str| file == name(id) || before.iter().any(|old| old.name == file);
        if let Some(other) = listed(target, "keys")?.iter().find(|file| !known(&file.name)) {
            let what = format!("{} appeared while the key was rotated; no key was removed", other.name);
            return Err(Error::Refused(what));
        }
        turn.holds()?;
        target.delete(&removed.iter().map(|old| name(old.id)).collect::<Vec<_>>())?;
        Ok((ring, Rotated { id, removed }))
    })
}

/// Deletes a key file of a repository that was not made after all.
pub(super) fn withdraw(target: &dyn Target, id: Id) -> Result<()> {
    target.delete(&[name(id)])
}

/// Verifies a key file as far as that needs no secret, for a check.
pub(super) fn verify(target: &dyn Target, file: &str) -> Result<()> {
    read(target, file).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::target::FolderTarget;
    use super::*;

    #[test]
    fn key_files_of_others_neither_hide_the_cheap_one_that_opens_nor_cost_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let (target, config) = (FolderTarget::new(folder.path()), Id::of(b"config"));
        let cost = |memory_kib| KeyCost { memory_kib, passes: 1, lanes: 1 };
        let own = add(&target, config, &Keyring::random().unwrap(), b"right", cost(8), "").unwrap();
        for _ in 0..5 {
            add(&target, config, &Keyring::random().unwrap(), b"other", cost(16), "").unwrap();
        }
        assert_eq!(open_listed(&target, config, b"right", 40).unwrap().1, own);
        let told = |most| open_listed(&target, config, b"wrong", most).err().unwrap().to_string();
        assert!(told(40).contains("too much work: 3 were tried"), "{}", told(40));
        assert!(told(8 + 5 * 16).contains("none of its 6 keys"));
        let most = KeyCost::MOST;
        assert!(KeyCost::default().work() > 0 && most.work() <= KeyCost::MOST_TOGETHER);
        for dear in [KeyCost { memory_kib: most.memory_kib + 1, ..most }, KeyCost { passes: most.passes + 1, ..most }] {
            assert!(dear.derive(b"right", &[0; 16]).is_none());
        }
    }
}
