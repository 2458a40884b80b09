//! Redaction: the secrets that this process knows, searched for in everything that leaves it.
//!
//! Whoever comes to hold a secret tells it to [`know`]; whoever lets text out asks [`text`] or [`bytes`]. A secret is found plain,
//! percent-encoded, escaped as in JSON, Lua or XML, in hex, in base64 at any alignment and in either alphabet, broken over lines, in
//! gzip and zlib streams, and in these within each other a few levels deep. What is found is replaced by a label of fixed length,
//! `[redacted: password of lab]`. Where a text is made so that it cannot be searched with bounded work, all of it is withheld.
//!
//! Beside known secrets, two shapes are secret wherever they stand: the password of a URL, and the body of a private key in PEM.
//!
//! The rule of length: a secret of 8 bytes and more, and one of 4 to 7 that is not letters alone, is found anywhere. One of 4 to 7
//! letters is found as a whole word (and in all encodings), one of 1 to 3 bytes as a whole token between blanks, quotes or
//! punctuation, and in no encoding: else it would shred every text. The word `ceso`, the simulator's public default, is no secret.
//!
//! The room is at the bottom: it imports nothing of ceso. It must not print, and must not keep anything on disk.

mod forms;
mod packed;
mod search;
mod shapes;
mod show;
mod views;

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use self::search::Known;
pub use self::show::{Untrusted, harmless_json, is_hidden, one_line, printable};

/// What stands in place of a text that cannot be searched.
const WITHHELD: &str = "[redacted: text that cannot be searched]";

/// The longest part of a secret that is searched for; what comes behind it is covered by nothing but the part itself.
const LONGEST: usize = 16 << 10;

/// A secret and what it is.
struct Secret {
    text: Zeroizing<String>,
    what: Cow<'static, str>,
}

#[derive(Default)]
struct Registry {
    secrets: Vec<Secret>,
    /// What the secrets are searched with; made at the first search after a change.
    known: Option<Arc<Known>>,
}

static REGISTRY: RwLock<Registry> = RwLock::new(Registry { secrets: Vec::new(), known: None });
/// How many secrets there are: without any, a search costs next to nothing.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Makes a secret known: from now on it leaves no room of this process in any form. `what` is what the label says of it, such as
/// `password of lab`.
///
/// A secret of several lines (a private key) is found line by line too. The empty secret is none.
pub fn know(secret: &SecretString, what: impl Into<Cow<'static, str>>) {
    let text = secret.expose_secret();
    let most = text.floor_char_boundary(LONGEST);
    let text = text.get(..most).unwrap_or(text).trim_end_matches(['\n', '\r']);
    if text.is_empty() || text == "ceso" {
        return;
    }
    {
        let registry = REGISTRY.read().unwrap_or_else(PoisonError::into_inner);
        if registry.secrets.iter().any(|known| known.text.as_str() == text) {
            return;
        }
    }
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    if registry.secrets.iter().any(|known| known.text.as_str() == text) {
        return;
    }
    registry.secrets.push(Secret { text: Zeroizing::new(text.to_owned()), what: what.into() });
    registry.known = None;
    COUNT.store(registry.secrets.len(), Ordering::Release);
}

/// The text without known secrets; borrowed where there was none in it.
pub fn text(text: &str) -> Cow<'_, str> {
    if !is_on() {
        return Cow::Borrowed(text);
    }
    let shaped = shapes::hide(text);
    let Some(known) = known() else { return shaped };
    match known.hide(shaped.as_bytes()) {
        None => shaped,
        // Only whole characters are replaced, so what is left is text.
        Some(hidden) => Cow::Owned(String::from_utf8(hidden).unwrap_or_else(|_| WITHHELD.to_owned())),
    }
}

/// The bytes without known secrets; borrowed where there was none in them.
pub fn bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    if let Ok(plain) = std::str::from_utf8(bytes) {
        return match text(plain) {
            Cow::Borrowed(_) => Cow::Borrowed(bytes),
            Cow::Owned(hidden) => Cow::Owned(hidden.into_bytes()),
        };
    }
    if !is_on() {
        return Cow::Borrowed(bytes);
    }
    match known().and_then(|known| known.hide(bytes)) {
        Some(hidden) => Cow::Owned(hidden),
        None => Cow::Borrowed(bytes),
    }
}

/// Redacts a text in its place.
pub fn in_place(held: &mut String) {
    if let Cow::Owned(hidden) = text(held) {
        *held = hidden;
    }
}

/// Redacts every text of a JSON document, keys too.
pub fn json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(held) => in_place(held),
        Value::Array(items) => items.iter_mut().for_each(json),
        Value::Object(entries) => {
            entries.values_mut().for_each(json);
            if entries.keys().any(|key| matches!(text(key), Cow::Owned(_))) {
                let old = std::mem::take(entries);
                entries.extend(old.into_iter().map(|(key, value)| (text(&key).into_owned(), value)));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How many secrets are known.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// A writer that redacts each write by itself: for lines that are written whole, as logs are.
#[derive(Debug)]
pub struct Writer<W>(pub W);

impl<W: io::Write> io::Write for Writer<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write_all(&bytes(buffer))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn known() -> Option<Arc<Known>> {
    if count() == 0 {
        return None;
    }
    if let Some(known) = &REGISTRY.read().unwrap_or_else(PoisonError::into_inner).known {
        return Some(known.clone());
    }
    let mut registry = REGISTRY.write().unwrap_or_else(PoisonError::into_inner);
    let known = match &registry.known {
        Some(known) => known.clone(),
        None => Arc::new(Known::of(registry.secrets.iter().map(|secret| (secret.text.as_str(), &*secret.what)))),
    };
    registry.known = Some(known.clone());
    Some(known)
}

/// The variable with which a build for tests turns redaction off, so that a test can show that without it secrets do leave.
/// A release build does not look at it.
#[doc(hidden)]
pub const OFF_IN_TESTS: &str = "TEST_CESO_WITHOUT_REDACTION";

#[cfg(debug_assertions)]
fn is_on() -> bool {
    use std::sync::OnceLock;
    static OFF: OnceLock<bool> = OnceLock::new();
    !*OFF.get_or_init(|| std::env::var_os(OFF_IN_TESTS).is_some())
}

#[cfg(not(debug_assertions))]
const fn is_on() -> bool {
    true
}

#[cfg(test)]
mod tests;
