//! One line of the log: its bytes, its hash, its parts.
//!
//! The layout is fixed to the byte (see the page at the head of [`audit`](super)), so that a line is taken apart from its two ends
//! without a parser, and whatever does not lie where it must is a flaw.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::canonical::{self, NotCanonical};
use super::key::Key;
use super::own::Body;

/// What every hash of a record begins with, so that it is the hash of nothing else.
pub(super) const DOMAIN: &[u8] = b"ceso audit record 1\0";

const BOOT: &[u8] = b"{\"boot\":\"";
const EVENT: &[u8] = b"\",\"event\":";
const HASH: &[u8] = b",\"hash\":\"";
const PREV: &[u8] = b"\",\"prev\":\"";
const SEQ: &[u8] = b"\",\"seq\":";
const TS: &[u8] = b",\"ts\":\"";
const END: &[u8] = b"\"}";
const SIGNATURE: &[u8] = b",\"signature\":\"";
const BOOT_LENGTH: usize = 36;
const TS_LENGTH: usize = 27;

/// A SHA-256 hash. Shown in hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&hex(&self.0)).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        unhex(text.as_bytes()).map(Self).ok_or(())
    }
}

/// The state of a log after a record: its number and its hash. Shown as `118:3fa9…`, all 64 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub seq: u64,
    pub head: Hash,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.head)
    }
}

/// A line, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub seq: u64,
    pub hash: Hash,
    pub prev: Hash,
    pub ts: &'a str,
    /// The canonical JSON of the event.
    pub event: &'a [u8],
    /// What stands before the hash's member, and what stands behind it: together the record without its hash.
    first: &'a [u8],
    last: &'a [u8],
}

/// What is wrong with a line by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it is no record: {0}")]
    Form(&'static str),
    #[error("it is not the canonical form of a record: {0}")]
    NotCanonical(NotCanonical),
    #[error("its content is not what its hash was made of")]
    Hash,
}

/// A signed record's signature, and what it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub message: [u8; 32],
    pub signature: [u8; 64],
}

impl<'a> Line<'a> {
    /// Takes a line (without its line feed) apart, and checks all of it: its form and its hash.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let line = Self::parts(bytes)?;
        canonical::check(line.event).map_err(Flaw::NotCanonical)?;
        if digest(DOMAIN, &line.prev, &[line.first, line.last]) != line.hash {
            return Err(Flaw::Hash);
        }
        Ok(line)
    }

    /// Takes a line apart without looking into its event or at its hash.
    pub(super) fn parts(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let form = |what| Flaw::Form(what);
        let rest = bytes.strip_suffix(END).ok_or(form("it does not end as a record does"))?;
        let (rest, ts) = split_back(rest, TS_LENGTH).ok_or(form("its time is missing"))?;
        let ts = std::str::from_utf8(ts).ok().filter(|ts| is_time(ts)).ok_or(form("its time is not of the form"))?;
        let rest = rest.strip_suffix(TS).ok_or(form("its time is not where it belongs"))?;
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (rest, seq) = split_back(rest, digits).ok_or(form("its number is missing"))?;
        let seq = number(seq).ok_or(form("its number is not of the form"))?;
        let rest = rest.strip_suffix(SEQ).ok_or(form("its number is not where it belongs"))?;
        let (rest, prev) = split_back(rest, 64).ok_or(form("the hash of the line before is missing"))?;
        let prev = unhex(prev).map(Hash).ok_or(form("the hash of the line before is not of the form"))?;
        let rest = rest.strip_suffix(PREV).ok_or(form("the hash of the line before is not where it belongs"))?;
        let (rest, hash) = split_back(rest, 64).ok_or(form("its hash is missing"))?;
        let hash = unhex(hash).map(Hash).ok_or(form("its hash is not of the form"))?;
        let first = rest.strip_suffix(HASH).ok_or(form("its hash is not where it belongs"))?;
        let event = first.strip_prefix(BOOT).ok_or(form("it does not begin as a record does"))?;
        let (boot, event) = event.split_at_checked(BOOT_LENGTH).ok_or(form("it ends too early"))?;
        if !boot.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
            return Err(form("the id of the boot is not of the form"));
        }
        let event = event.strip_prefix(EVENT).ok_or(form("it does not begin as a record does"))?;
        if !event.starts_with(b"{") || !event.ends_with(b"}") {
            return Err(form("its event is no map"));
        }
        // Behind the hash stands its closing quote, which PREV begins with.
        let last = bytes.get(first.len() + HASH.len() + 64 + 1..).unwrap_or_default();
        Ok(Self { seq, hash, prev, ts, event, first, last })
    }

    /// The signature of a signed record. Only such a record's event ends with that member: no event has a field of that name.
    pub(super) fn signature(&self) -> Option<Signed> {
        let (before, digits) = split_back(self.event.strip_suffix(b"\"}")?, 128)?;
        if !before.ends_with(SIGNATURE) {
            return None;
        }
        let signature = unhex(digits)?;
        let kept = self.first.len() - digits.len() - 2;
        let (before, behind) = (self.first.get(..kept)?, self.first.get(kept + digits.len()..)?);
        Some(Signed { message: digest(DOMAIN, &self.prev, &[before, behind, self.last]).0, signature })
    }
}

/// Appends a record's line, with its line feed, to `out`; the record's hash.
pub(super) fn write(out: &mut Vec<u8>, key: &Key, boot: &str, body: &Body, prev: &Hash, seq: u64, ts: &str) -> Hash {
    let begin = out.len();
    let mut last = Vec::with_capacity(160);
    last.extend_from_slice(&PREV[1..]);
    last.extend_from_slice(&hex(&prev.0));
    last.extend_from_slice(SEQ);
    last.extend_from_slice(seq.to_string().as_bytes());
    last.extend_from_slice(TS);
    last.extend_from_slice(ts.as_bytes());
    last.extend_from_slice(END);
    out.extend_from_slice(BOOT);
    out.extend_from_slice(boot.as_bytes());
    out.extend_from_slice(EVENT);
    out.extend_from_slice(body.bytes());
    if let Body::Signed(_) = body {
        let unsigned = digest(DOMAIN, prev, &[out.get(begin..).unwrap_or_default(), &last]);
        let [first, second] = halves(&key.sign(&unsigned.0));
        out.truncate(out.len() - 2);
        out.extend_from_slice(&hex(&first));
        out.extend_from_slice(&hex(&second));
        out.extend_from_slice(b"\"}");
    }
    let hash = digest(DOMAIN, prev, &[out.get(begin..).unwrap_or_default(), &last]);
    out.extend_from_slice(HASH);
    out.extend_from_slice(&hex(&hash.0));
    out.push(b'"');
    out.extend_from_slice(&last);
    out.push(b'\n');
    hash
}

/// The hash of a record: of the one before, and of the record's canonical JSON without its own hash.
fn digest(domain: &[u8], prev: &Hash, parts: &[&[u8]]) -> Hash {
    let hasher = Sha256::new().chain_update(domain).chain_update(prev.0);
    Hash(parts.iter().fold(hasher, |hasher, part| hasher.chain_update(part)).finalize().into())
}

fn halves(signature: &[u8; 64]) -> [[u8; 32]; 2] {
    let mut halves = [[0; 32]; 2];
    for (half, bytes) in halves.iter_mut().zip(signature.chunks_exact(32)) {
        half.copy_from_slice(bytes);
    }
    halves
}

/// A moment as a line gives it: UTC, microseconds, always 27 characters.
pub fn time_text(at: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    )
}

fn is_time(text: &str) -> bool {
    text.len() == TS_LENGTH
        && text.bytes().zip(b"0000-00-00T00:00:00.000000Z").all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            form => byte == *form,
        })
}

fn split_back(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(length)?)
}

/// A number as JSON writes it: no sign, no leading zero, and one that a double holds.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 || (digits.len() > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (number <= super::event::MOST_EXACT).then_some(number)
}

pub(super) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    let mut out = [0; 64];
    // What fits does not fail.
    let _always = hex::encode_to_slice(bytes, &mut out);
    out
}

/// The bytes of exactly so many lower-case digits: a line has one spelling.
pub(super) fn unhex<const LENGTH: usize>(text: &[u8]) -> Option<[u8; LENGTH]> {
    let mut out = [0; LENGTH];
    let is_lower = !text.iter().any(u8::is_ascii_uppercase);
    (is_lower && hex::decode_to_slice(text, &mut out).is_ok()).then_some(out)
}
