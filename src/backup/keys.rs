//! Key files: a keyring wrapped for one passphrase or key file each.
//!
//! There is always one more write than deletion: whatever is interrupted, a secret that opened the repository before, or the new one, opens it.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::error::{Error, Result};
use super::format::{json, parse, read_named, this_time};
use super::id::{Id, hex, unhex};
use super::seal::{Keyring, decrypt_once, encrypt_once, random};
use super::target::{Target, listed};

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
    /// 32 MiB and 4 passes: above OWASP's least, and below what the backup itself needs.
    fn default() -> Self {
        Self { memory_kib: 32 << 10, passes: 4, lanes: 1 }
    }
}

impl KeyCost {
    /// What a file may ask of the machine that opens it.
    const MOST: Self = Self { memory_kib: 1 << 20, passes: 64, lanes: 16 };

    fn derive(self, secret: &[u8], salt: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let most = Self::MOST;
        if self.memory_kib > most.memory_kib || self.passes > most.passes || self.lanes > most.lanes {
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
        let masters = ring.masters.iter().map(|(id, key)| (hex(id), hex(key.as_ref()))).collect();
        Self { id_key: hex(ring.id_key.as_ref()), current: hex(&ring.current), masters }
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
}

fn name(id: Id) -> String {
    format!("keys/{id}")
}

/// What ties a key file to its repository.
fn about(config: Id) -> Vec<u8> {
    [b"ceso key 1".as_slice(), &config.0].concat()
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
    let tag = encrypt_once(&key, &about(config), &mut sealed)?;
    let file = json(&KeyFile {
        version: 1,
        kdf: "argon2id".to_owned(),
        cost,
        salt: hex(&salt),
        label: label.to_owned(),
        made: this_time(),
        sealed: hex(&sealed) + &hex(&tag),
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

/// All key files.
pub(super) fn list(target: &dyn Target) -> Result<Vec<KeyInfo>> {
    let mut keys = Vec::new();
    for listed in listed(target, "keys")? {
        let key = read(target, &listed.name)?;
        let id = listed.name.trim_start_matches("keys/").parse()?;
        keys.push(KeyInfo { id, label: key.label, made: key.made });
    }
    Ok(keys)
}

/// Opens the keyring with a secret: the newest key file first. Returns it with the id of its key file.
///
/// Errors: `Key` where the secret opens none; the damage of a key file, where no other opens.
pub(super) fn open(target: &dyn Target, config: Id, secret: &[u8]) -> Result<(Keyring, Id)> {
    let mut files = listed(target, "keys")?;
    files.sort_by_key(|file| std::cmp::Reverse(file.written));
    let mut damage = None;
    for file in &files {
        let key = match read(target, &file.name) {
            Ok(key) => key,
            Err(error) => {
                damage.get_or_insert(error);
                continue;
            }
        };
        if let Some(ring) = unwrap(&key, config, secret) {
            return Ok((ring, file.name.trim_start_matches("keys/").parse()?));
        }
    }
    Err(damage.unwrap_or_else(|| {
        Error::Key(format!(
            "{}: none of its {} keys opens with this passphrase or key file",
            target.place(),
            files.len()
        ))
    }))
}

fn unwrap(file: &KeyFile, config: Id, secret: &[u8]) -> Option<Keyring> {
    let salt: [u8; 16] = unhex(&file.salt)?;
    let key = file.cost.derive(secret, &salt)?;
    let (sealed, tag) = file.sealed.split_at_checked(file.sealed.len().checked_sub(32)?)?;
    let tag = unhex(tag)?;
    let digits = sealed.as_bytes().as_chunks::<2>().0;
    let bytes = digits.iter().map(|pair| std::str::from_utf8(pair).ok().and_then(unhex::<1>).map(|[byte]| byte));
    let mut bytes = Zeroizing::new(bytes.collect::<Option<Vec<u8>>>()?);
    if !decrypt_once(&key, &about(config), &mut bytes, &tag) {
        return None;
    }
    serde_json::from_slice::<Opened>(&bytes).ok()?.ring()
}

/// Removes a key file, which must not be the last.
pub(super) fn remove(target: &dyn Target, id: Id) -> Result<()> {
    let files = listed(target, "keys")?;
    if !files.iter().any(|file| file.name == name(id)) {
        return Err(Error::Missing(name(id)));
    }
    if files.len() < 2 {
        return Err(Error::Key("this is the last key: without it nothing in the repository could be read".to_owned()));
    }
    target.delete(&[name(id)])
}

/// Makes a new current master key under `secret` and removes the key files that were there. Returns the new keyring and key file.
///
/// Errors: `Refused` where another key file appeared meanwhile: nothing was removed then, and both open what was written before.
pub(super) fn rotate(
    target: &dyn Target,
    config: Id,
    old: &[u8],
    new: &[u8],
    cost: KeyCost,
    label: &str,
) -> Result<(Keyring, Id)> {
    let before = listed(target, "keys")?;
    let (mut ring, _) = open(target, config, old)?;
    ring.rotate()?;
    let id = add(target, config, &ring, new, cost, label)?;
    let known = |file: &str| file == name(id) || before.iter().any(|old| old.name == file);
    if let Some(other) = listed(target, "keys")?.iter().find(|file| !known(&file.name)) {
        return Err(Error::Refused(format!("{} appeared while the key was rotated; no key was removed", other.name)));
    }
    target.delete(&before.into_iter().map(|file| file.name).collect::<Vec<_>>())?;
    Ok((ring, id))
}

/// Deletes a key file of a repository that was not made after all.
pub(super) fn withdraw(target: &dyn Target, id: Id) -> Result<()> {
    target.delete(&[name(id)])
}

/// Verifies a key file as far as that needs no secret, for a check.
pub(super) fn verify(target: &dyn Target, file: &str) -> Result<()> {
    read(target, file).map(drop)
}
