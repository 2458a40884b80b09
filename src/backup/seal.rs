//! Names blobs and seals bytes: keyed and encrypted, or plain.
//!
//! Every frame is encrypted under a key of its own, made from a master key and 32 random bytes; so there is no nonce to keep count of.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::blob::Kind;
use super::error::{Error, Result};
use super::id::Id;

/// A master key's name.
pub type KeyId = [u8; 8];

const KEY_ID: usize = 8;
const SALT: usize = 32;
const TAG: usize = 16;
const BEFORE: usize = KEY_ID + SALT;

/// How much longer sealing makes bytes.
pub(super) const SEALED: usize = BEFORE + TAG;

/// The secrets of an encrypted repository: the key of its ids and its master keys.
#[derive(Clone)]
pub struct Keyring {
    pub(super) id_key: Zeroizing<[u8; 32]>,
    pub(super) current: KeyId,
    pub(super) masters: BTreeMap<KeyId, Zeroizing<[u8; 32]>>,
}

impl Keyring {
    /// A new keyring with one master key.
    pub fn random() -> Result<Self> {
        let mut ring = Self { id_key: random_key()?, current: [0; KEY_ID], masters: BTreeMap::new() };
        ring.rotate()?;
        Ok(ring)
    }

    /// Adds a master key, which becomes the current one.
    pub fn rotate(&mut self) -> Result<()> {
        let mut id = [0; KEY_ID];
        random(&mut id)?;
        self.masters.insert(id, random_key()?);
        self.current = id;
        Ok(())
    }
}

/// Fills a buffer from the system's source of random bytes.
pub(super) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::io("the system", "give random bytes")(std::io::Error::other(error)))
}

fn random_key() -> Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    random(key.as_mut())?;
    Ok(key)
}

fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes any length"));
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The key of one frame. Its only nonce is zero: ring's name for it warns of keys that are used more than once.
fn of_one_frame(key: &[u8; 32]) -> (LessSafeKey, Nonce) {
    let key = UnboundKey::new(&AES_256_GCM, key).unwrap_or_else(|_| unreachable!("the key has the length of AES-256"));
    (LessSafeKey::new(key), Nonce::assume_unique_for_key([0; 12]))
}

/// AES-256-GCM with a zero nonce, under a key that is used once.
pub(super) fn encrypt_once(key: &[u8; 32], about: &[u8], bytes: &mut [u8]) -> Result<[u8; TAG]> {
    let too_long = || Error::Option("more bytes than one frame can hold".to_owned());
    let (key, nonce) = of_one_frame(key);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(about), bytes).map_err(|_| too_long())?;
    tag.as_ref().first_chunk().copied().ok_or_else(too_long)
}

/// The inverse of [`encrypt_once`]: false where key, additional data or bytes are not those.
pub(super) fn decrypt_once(key: &[u8; 32], about: &[u8], bytes: &mut [u8], tag: &[u8; TAG]) -> bool {
    let (key, nonce) = of_one_frame(key);
    key.open_in_place_separate_tag(nonce, Aad::from(about), Tag::from(*tag), bytes, 0..).is_ok()
}

/// Names and seals in one repository.
pub enum Sealer {
    Plain,
    Keyed(Keyring),
}

impl Sealer {
    /// A blob's id: over its kind and its bytes, keyed where the repository is encrypted.
    pub fn id(&self, kind: Kind, bytes: &[u8]) -> Id {
        let kind = [kind as u8];
        match self {
            Self::Plain => Id(Sha256::new_with_prefix(kind).chain_update(bytes).finalize().into()),
            Self::Keyed(ring) => Id(keyed(&ring.id_key, &[&kind, bytes])),
        }
    }

    /// How many bytes of a frame lie before and behind what is sealed.
    pub(super) fn around(&self) -> (usize, usize) {
        match self {
            Self::Plain => (0, 0),
            Self::Keyed(_) => (BEFORE, TAG),
        }
    }

    /// Seals a frame whose middle holds the bytes, between the lengths of [`Self::around`].
    pub(super) fn seal_in_place(&self, about: &[&[u8]], frame: &mut [u8]) -> Result<()> {
        let Self::Keyed(ring) = self else { return Ok(()) };
        let master = ring.masters.get(&ring.current).ok_or_else(|| Error::Key("no current master key".to_owned()))?;
        let no_room = || Error::Option("a frame without room for its seal".to_owned());
        let (id, rest) = frame.split_first_chunk_mut::<KEY_ID>().ok_or_else(no_room)?;
        let (salt, rest) = rest.split_first_chunk_mut::<SALT>().ok_or_else(no_room)?;
        let (bytes, tag) = rest.split_last_chunk_mut::<TAG>().ok_or_else(no_room)?;
        *id = ring.current;
        random(salt)?;
        let key = Zeroizing::new(keyed(master, &[b"ceso frame 1", salt]));
        *tag = encrypt_once(&key, &about.concat(), bytes)?;
        Ok(())
    }

    /// Seals the parts of `about` and `bytes` into one frame.
    pub fn seal(&self, about: &[&[u8]], bytes: &[u8]) -> Result<Vec<u8>> {
        let (before, behind) = self.around();
        let mut frame = vec![0; before + bytes.len() + behind];
        frame[before..before + bytes.len()].copy_from_slice(bytes);
        self.seal_in_place(about, &mut frame)?;
        Ok(frame)
    }

    /// Opens a frame that was sealed with the same `about`, where it lies. By an error nothing is promised of its bytes.
    ///
    /// Errors: `Damaged` naming `file`; `UnknownMaster` where the frame names a master key that is not known.
    pub(super) fn open_in_place<'f>(&self, about: &[&[u8]], frame: &'f mut [u8], file: &str) -> Result<&'f mut [u8]> {
        let Self::Keyed(ring) = self else { return Ok(frame) };
        let too_short = || Error::damaged(file, "it is too short to be encrypted bytes");
        let (id, rest) = frame.split_first_chunk::<KEY_ID>().ok_or_else(too_short)?;
        let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or_else(too_short)?;
        let (_, &tag) = rest.split_last_chunk::<TAG>().ok_or_else(too_short)?;
        let Some(master) = ring.masters.get(id) else {
            return Err(Error::UnknownMaster { file: file.to_owned(), key: hex::encode(id) });
        };
        let key = Zeroizing::new(keyed(master, &[b"ceso frame 1", salt]));
        let end = frame.len() - TAG;
        let bytes = &mut frame[BEFORE..end];
        if decrypt_once(&key, &about.concat(), bytes, &tag) {
            Ok(bytes)
        } else {
            Err(Error::damaged(file, "its bytes are not those that were encrypted"))
        }
    }

    /// Opens a frame that `seal` made with the same `about`.
    ///
    /// Errors: those of [`Self::open_in_place`].
    pub fn open(&self, about: &[&[u8]], mut frame: Vec<u8>, file: &str) -> Result<Vec<u8>> {
        let length = self.open_in_place(about, &mut frame, file)?.len();
        let (before, _) = self.around();
        frame.truncate(before + length);
        frame.drain(..before);
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_opens_only_as_what_it_was_sealed() {
        let sealer = Sealer::Keyed(Keyring::random().unwrap());
        let frame = sealer.seal(&[b"blob", b"1"], b"some bytes").unwrap();
        assert_eq!(sealer.open(&[b"blob", b"1"], frame.clone(), "f").unwrap(), b"some bytes");
        assert!(sealer.open(&[b"blob", b"2"], frame.clone(), "f").is_err());
        for at in 0..frame.len() {
            let mut flipped = frame.clone();
            flipped[at] ^= 1;
            assert!(sealer.open(&[b"blob", b"1"], flipped, "f").is_err(), "byte {at}");
            assert!(sealer.open(&[b"blob", b"1"], frame[..at].to_vec(), "f").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn no_two_frames_share_a_key() {
        let sealer = Sealer::Keyed(Keyring::random().unwrap());
        let frames: Vec<_> = (0..100).map(|_| sealer.seal(&[b"blob"], b"same").unwrap()).collect();
        let salts: std::collections::BTreeSet<_> = frames.iter().map(|frame| frame[KEY_ID..BEFORE].to_vec()).collect();
        assert_eq!(salts.len(), frames.len());
    }

    #[test]
    fn frames_of_an_old_master_key_open_after_a_rotation() {
        let mut sealer = Sealer::Keyed(Keyring::random().unwrap());
        let old = sealer.seal(&[], b"old").unwrap();
        if let Sealer::Keyed(ring) = &mut sealer {
            ring.rotate().unwrap();
        }
        let new = sealer.seal(&[], b"new").unwrap();
        assert_eq!(sealer.open(&[], old, "f").unwrap(), b"old");
        assert_eq!(sealer.open(&[], new.clone(), "f").unwrap(), b"new");
        let stranger = Sealer::Keyed(Keyring::random().unwrap());
        assert!(matches!(stranger.open(&[], new, "f"), Err(Error::UnknownMaster { .. })));
    }
}
