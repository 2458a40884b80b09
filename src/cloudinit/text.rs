//! Texts that may be secret, or have secrets in them: what a script gives is a handle, and the parent puts the secret in.
//!
//! ```text
//! "text"                        plain
//! secret                        a handle of the run: id and name, nothing else
//! { "token=", secret, "\n" }    pieces, joined
//! ```
//!
//! This room knows of handles only that they have an id, a kind and a name. Whoever holds the secrets fills them in
//! ([`super::Spec::fill`]) before a document is built; a document with an unfilled handle is refused. Debug never shows a text.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::error::{At, Error, Problem};

/// A text of one or several pieces, each plain or secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(Vec<Piece>);

/// A secret by the handle that a script has of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretHandle {
    /// Its number in the run's own table of objects.
    pub id: u32,
    /// What kind of object the number is said to be: `secret`.
    pub kind: String,
    /// What it is called.
    pub name: String,
}

#[derive(Clone)]
enum Piece {
    /// Bytes that may be shown to no one either: people write passwords into contents. UTF-8 where they came as a string.
    Plain(Vec<u8>),
    Handle(SecretHandle),
    Secret {
        name: String,
        value: Arc<SecretString>,
    },
}

/// Where a secret is going to be put, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The field's path: `users[1].password_hash`.
    pub at: String,
    /// What the field is.
    pub purpose: Purpose,
}

/// What a secret in a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An account's password, hashed.
    PasswordHash,
    /// An account's password as it is typed (Windows alone).
    Password,
    /// A private SSH host key.
    HostKey,
    /// A file's content, or a part of it.
    File,
    /// A word or line of a command.
    Command,
    /// User-data or vendor data written out by hand.
    UserData,
}

impl Purpose {
    /// The purpose in a word, as capability tables and records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PasswordHash => "password_hash",
            Self::Password => "password",
            Self::HostKey => "host_key",
            Self::File => "file",
            Self::Command => "command",
            Self::UserData => "user_data",
        }
    }
}

impl Text {
    /// A plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self(vec![Piece::Plain(text.into().into_bytes())])
    }

    /// A secret that is already known, by its name.
    pub fn secret(name: impl Into<String>, value: Arc<SecretString>) -> Self {
        Self(vec![Piece::Secret { name: name.into(), value }])
    }

    pub(super) fn handle(handle: SecretHandle) -> Self {
        Self(vec![Piece::Handle(handle)])
    }

    /// Whether any piece of it is a secret or stands for one.
    pub fn has_secret(&self) -> bool {
        self.0.iter().any(|piece| !matches!(piece, Piece::Plain(_)))
    }

    /// Puts the secrets in: `look_up` is asked for each handle.
    pub(super) fn fill<E>(
        &mut self,
        look_up: &mut impl FnMut(&SecretHandle) -> Result<Arc<SecretString>, E>,
    ) -> Result<(), E> {
        for piece in &mut self.0 {
            if let Piece::Handle(handle) = piece {
                let value = look_up(handle)?;
                *piece = Piece::Secret { name: std::mem::take(&mut handle.name), value };
            }
        }
        Ok(())
    }

    /// The whole content, joined. An unfilled handle is an error.
    pub(super) fn bytes(&self, at: &At) -> Result<Zeroizing<Vec<u8>>, Error> {
        // Sized beforehand: a buffer that grows leaves copies behind.
        let size = self.0.iter().map(Piece::len).sum();
        let mut joined = Zeroizing::new(Vec::with_capacity(size));
        for piece in &self.0 {
            match piece {
                Piece::Plain(bytes) => joined.extend_from_slice(bytes),
                Piece::Secret { value, .. } => joined.extend_from_slice(value.expose_secret().as_bytes()),
                Piece::Handle(_) => return Err(at.is(Problem::Unfilled)),
            }
        }
        Ok(joined)
    }

    /// The whole content as text in UTF-8.
    pub(super) fn string(&self, at: &At) -> Result<Zeroizing<String>, Error> {
        let mut bytes = self.bytes(at)?;
        match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(at.is(Problem::NotUtf8))
            }
        }
    }

    /// What may be shown of it: its size, or which secrets it has.
    pub(super) fn shown(&self) -> serde_json::Value {
        let names: Vec<&str> = self
            .0
            .iter()
            .filter_map(|piece| match piece {
                Piece::Plain(_) => None,
                Piece::Handle(handle) => Some(handle.name.as_str()),
                Piece::Secret { name, .. } => Some(name.as_str()),
            })
            .collect();
        if names.is_empty() {
            return serde_json::json!(self.0.iter().map(Piece::len).sum::<usize>());
        }
        serde_json::json!(format!("the secret {}", names.join(", ")))
    }

    /// The text, where it has no secret in it.
    pub(super) fn if_plain(&self) -> Option<Cow<'_, str>> {
        match self.0.as_slice() {
            [Piece::Plain(bytes)] => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            pieces if !self.has_secret() => {
                let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.plain().to_vec()).collect();
                String::from_utf8(joined).ok().map(Cow::Owned)
            }
            _ => None,
        }
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Secret { value, .. } => value.expose_secret().len(),
            Self::Handle(_) => 0,
        }
    }

    fn plain(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            _ => &[],
        }
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => a == b,
            (Self::Handle(a), Self::Handle(b)) => a == b,
            (Self::Secret { value: a, .. }, Self::Secret { value: b, .. }) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

impl Eq for Piece {}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::plain(text)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Text").field(&self.shown()).finish()
    }
}

/// Reads one piece; `pieces` says whether a list of them is read too.
struct TextVisitor {
    pieces: bool,
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Vec<Piece>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.pieces { "a text, a secret, or a list of texts and secrets" } else { "a text or a secret" })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![Piece::Plain(text.as_bytes().to_vec())])
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(vec![Piece::Plain(bytes.to_vec())])
    }

    /// A handle: the door's reader of arguments gives it as a newtype around its fields.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        Ok(vec![Piece::Handle(SecretHandle::deserialize(from)?)])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        if !self.pieces {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        let mut joined = Vec::new();
        while let Some(OnePiece(mut piece)) = items.next_element()? {
            joined.append(&mut piece);
        }
        Ok(joined)
    }

    /// Lua's empty table is a list and a map at once.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        match map.next_key::<IgnoredAny>()? {
            None if self.pieces => Ok(Vec::new()),
            _ => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

struct OnePiece(Vec<Piece>);

impl<'de> Deserialize<'de> for OnePiece {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor { pieces: false }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor { pieces: true }).map(Self)
    }
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string" });
        // The handle of a secret, in the words in which the schema of every handle is written.
        let secret = json_schema!({ "type": "object", "x-handle": "secret" });
        json_schema!({ "anyOf": [text, secret, { "type": "array", "items": { "anyOf": [text, secret] } }] })
    }
}
