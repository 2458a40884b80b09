//! The keys of a repository: which there are, and a person's own commands that add, remove and rotate them. No script gives a new secret.

use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};

use super::place::SecretFile;
use super::repository::method;
use crate::backup::{self, KeyCost, KeyInfo, Repository};
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::BoundRepository;
use crate::error::Fault;

/// A key: a file in the repository that one passphrase or key file opens.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyRow {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// What it was called when it was made.
    pub label: String,
    /// When it was made, in UTC (RFC 3339).
    pub made: String,
    /// Whether the repository was opened with it now.
    pub in_use: bool,
}

impl From<KeyInfo> for KeyRow {
    fn from(key: KeyInfo) -> Self {
        Self { id: key.id.to_string(), label: key.label, made: key.made, in_use: key.in_use }
    }
}

/// Lists the keys that open a repository, and which of them opened it now.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The repository.
    pub repository: Target<kind::Repository>,
}

impl Operation for Keys {
    const NAME: &'static str = "repository.keys";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("keys");
    const TOUCHES: &'static [Touch] = &[touch("repository", "read", Selector::Argument("repository"))];
    const USAGE: &'static str =
        "for _, key in backup.repository(\"main\"):keys() do\n  print(key.label, key.made, key.in_use)\nend";

    type Bound = BoundRepository;
    type Output = Vec<KeyRow>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "read")
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let keys = pass.blocking(move |watch| Ok(bound.watched(watch).keys()?)).await?;
        Ok(keys.into_iter().map(KeyRow::from).collect())
    }
}

/// A key that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyMade {
    /// Its id.
    pub id: String,
}

/// Adds a key: a repository may have several, and each opens all of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// The repository's name in the configuration, or its place.
    pub repository: String,
    /// A file whose first line is the new passphrase.
    pub new_passphrase_file: Option<PathBuf>,
    /// A file whose bytes, all of them, are the new key.
    pub new_key_file: Option<PathBuf>,
    /// What the key is called. Default: nothing.
    #[serde(default)]
    pub label: String,
}

impl AddKey {
    async fn bound(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        let bound = binder.repository_named(&self.repository, "keys").await?;
        self.file().map(|_| bound)
    }

    /// The file with the new secret: of a passphrase, or of a key.
    fn file(&self) -> Result<SecretFile, Fault> {
        match (&self.new_passphrase_file, &self.new_key_file) {
            (Some(file), None) => Ok(SecretFile::Passphrase(file.clone())),
            (None, Some(file)) => Ok(SecretFile::Bytes(file.clone())),
            _ => Err(Fault::new("usage.argument", "the new key is either a passphrase or a key file")
                .hint("give --new-passphrase-file or --new-key-file")),
        }
    }

    /// Reads the new secret and has a key made of it.
    async fn made<T: Send + 'static>(
        self,
        bound: BoundRepository,
        pass: &Pass<'_>,
        make: impl FnOnce(&mut Repository, &SecretSlice<u8>, &str) -> backup::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        pass.blocking(move |watch| Ok(make(&mut bound.watched(watch), &self.file()?.read()?, &self.label)?)).await
    }
}

const KEYS: &[Touch] = &[touch("repository", "keys", Selector::Argument("repository"))];

impl Operation for AddKey {
    const NAME: &'static str = "repository.add_key";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Command { name: "repository key add" };
    const TOUCHES: &'static [Touch] = KEYS;

    type Bound = BoundRepository;
    type Output = KeyMade;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        self.bound(binder).await
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<KeyMade, Fault> {
        let cost = KeyCost::default();
        let id =
            self.made(bound, pass, move |repository, secret, label| repository.add_key(secret, cost, label)).await?;
        Ok(KeyMade { id: id.to_string() })
    }
}

/// Removes a key: what it opened with opens the repository no more. The last key stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveKey {
    /// The repository's name in the configuration, or its place.
    pub repository: String,
    /// The key's id, or its first 8 or more digits.
    pub key: String,
    /// Also the key that opened the repository now, and one that alone holds a master key. Default: false.
    #[serde(default)]
    pub yes: bool,
}

impl Operation for RemoveKey {
    const NAME: &'static str = "repository.remove_key";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Command { name: "repository key remove" };
    const TOUCHES: &'static [Touch] = KEYS;

    type Bound = BoundRepository;
    type Output = KeyMade;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository_named(&self.repository, "keys").await
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<KeyMade, Fault> {
        pass.blocking(move |watch| {
            let repository = bound.watched(watch);
            let id = repository.key_of(&self.key)?;
            repository.remove_key(id, self.yes)?;
            Ok(KeyMade { id: id.to_string() })
        })
        .await
    }
}

/// What a rotation made and removed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyRotated {
    /// The new key's id.
    pub id: String,
    /// The keys that are gone.
    pub removed: Vec<KeyRow>,
}

/// Makes a new master key that only the new secret opens, and removes all other keys. What is stored stays readable.
///
/// Whoever had a key and its secret before can still read what was written before, if they have a copy of it, and nothing that is
/// written with the new one. Where there are keys beside the one that opened the repository now, it is refused, and says which they are,
/// unless `yes` is set. Errors: `backup.refused`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// The repository's name in the configuration, or its place.
    pub repository: String,
    /// A file whose first line is the new passphrase.
    pub new_passphrase_file: Option<PathBuf>,
    /// A file whose bytes, all of them, are the new key.
    pub new_key_file: Option<PathBuf>,
    /// What the key is called. Default: nothing.
    #[serde(default)]
    pub label: String,
    /// Remove also the keys that others open the repository with. Default: false.
    #[serde(default)]
    pub yes: bool,
}

impl RotateKey {
    /// The key that it makes, as any other is made.
    fn key(&self) -> AddKey {
        AddKey {
            repository: self.repository.clone(),
            new_passphrase_file: self.new_passphrase_file.clone(),
            new_key_file: self.new_key_file.clone(),
            label: self.label.clone(),
        }
    }
}

impl Operation for RotateKey {
    const NAME: &'static str = "repository.rotate_key";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = Place::Command { name: "repository key rotate" };
    const TOUCHES: &'static [Touch] = KEYS;

    type Bound = BoundRepository;
    type Output = KeyRotated;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        self.key().bound(binder).await
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<KeyRotated, Fault> {
        let (cost, yes) = (KeyCost::default(), self.yes);
        let rotate = move |repository: &mut Repository, secret: &SecretSlice<u8>, label: &str| {
            repository.rotate_key(secret, cost, label, yes)
        };
        let rotated = self.key().made(bound, pass, rotate).await?;
        let removed = rotated.removed.into_iter().map(KeyRow::from).collect();
        Ok(KeyRotated { id: rotated.id.to_string(), removed })
    }
}
