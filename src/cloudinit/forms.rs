//! Values that a playbook may write in more than one form: one or a list, yes or a rule, a line or words.
//!
//! Reading and schema side by side, so that what editors and agents are told is what is taken. Whether a value can be used is decided
//! elsewhere.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::network::spec::Nic;
use super::text::{SecretHandle, Text};

/// A list of strings, where a single string stands for a list of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings(pub Vec<String>);

/// The entries of a network: a list, where a single table stands for a list of one.
#[derive(Clone, Debug, Default)]
pub struct Nics(pub Vec<Nic>);

/// What an account may do with sudo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sudo {
    /// Nothing.
    #[default]
    No,
    /// Everything, without a password.
    All,
    /// What this rule of sudoers says (without the account's name in front).
    Rule(String),
}

/// One command: a line for the shell, or a program and its arguments.
///
/// Debug leaves the text out: it may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line (or several) for `sh`.
    Shell(Text),
    /// A program and its arguments, taken as they are.
    Program(Vec<Text>),
}

/// The packages to install: a list, where a single name stands for a list of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packages(pub Vec<Package>);

/// One package: its name, or its name and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitPackage")]
pub struct Package {
    /// The name.
    pub name: String,
    /// The version, as the distribution's package manager takes it. Default: the newest.
    #[serde(default)]
    pub version: Option<String>,
}

/// Reads a list of `T` where one `T` may stand for a list of one. `single` says how a lone value is read.
struct ListOf<T> {
    expecting: &'static str,
    one: PhantomData<T>,
}

impl<T> ListOf<T> {
    fn new(expecting: &'static str) -> Self {
        Self { expecting, one: PhantomData }
    }
}

impl<'de> Visitor<'de> for ListOf<String> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(vec![value.to_owned()])
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }

    /// Lua's empty table is a list and a map at once.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        match map.next_key::<IgnoredAny>()? {
            None => Ok(Vec::new()),
            Some(_) => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

impl<'de> Visitor<'de> for ListOf<Nic> {
    type Value = Vec<Nic>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Nic::deserialize(de::value::MapAccessDeserializer::new(map)).map(|nic| vec![nic])
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListOf::<String>::new("a string or a list of strings")).map(Self)
    }
}

struct PackagesVisitor;

impl<'de> Visitor<'de> for PackagesVisitor {
    type Value = Vec<Package>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a package's name, or a list of names and tables of `name` and `version`")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(vec![Package { name: name.to_owned(), version: None }])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(OnePackage(package)) = items.next_element()? {
            list.push(package);
        }
        Ok(list)
    }

    /// Lua's empty table is a list and a map at once.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        match map.next_key::<IgnoredAny>()? {
            None => Ok(Vec::new()),
            Some(_) => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
        }
    }
}

struct OnePackage(Package);

struct OnePackageVisitor;

impl<'de> Visitor<'de> for OnePackageVisitor {
    type Value = OnePackage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a package's name, or a table of `name` and `version`")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<OnePackage, E> {
        Ok(OnePackage(Package { name: name.to_owned(), version: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnePackage, A::Error> {
        Package::deserialize(de::value::MapAccessDeserializer::new(map)).map(OnePackage)
    }
}

impl<'de> Deserialize<'de> for OnePackage {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OnePackageVisitor)
    }
}

impl<'de> Deserialize<'de> for Packages {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PackagesVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Nics {
    /// An empty table is one card that asks by DHCP.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let nics = from.deserialize_any(ListOf::<Nic>::new("a table for one network card, or a list of them"))?;
        Ok(Self(if nics.is_empty() { vec![Nic::default()] } else { nics }))
    }
}

struct SudoVisitor;

impl Visitor<'_> for SudoVisitor {
    type Value = Sudo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a rule of sudoers")
    }

    fn visit_bool<E: de::Error>(self, all: bool) -> Result<Sudo, E> {
        Ok(if all { Sudo::All } else { Sudo::No })
    }

    fn visit_str<E: de::Error>(self, rule: &str) -> Result<Sudo, E> {
        Ok(Sudo::Rule(rule.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Sudo {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SudoVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line for the shell, or a list of a program and its arguments")
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<Command, E> {
        Ok(Command::Shell(Text::plain(line)))
    }

    /// A secret handle by itself is a line.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Command, D::Error> {
        SecretHandle::deserialize(from).map(|handle| Command::Shell(Text::handle(handle)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Command, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = items.next_element()? {
            words.push(word);
        }
        Ok(Command::Program(words))
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(CommandVisitor)
    }
}

impl JsonSchema for Strings {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Strings".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl JsonSchema for Packages {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Packages".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let package = generator.subschema_for::<Package>();
        let one = json_schema!({ "anyOf": [{ "type": "string" }, package] });
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": one }] })
    }
}

impl JsonSchema for Nics {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Nics".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let nic = generator.subschema_for::<Nic>();
        json_schema!({ "anyOf": [nic, { "type": "array", "items": nic }] })
    }
}

impl JsonSchema for Sudo {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sudo".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "string" }] })
    }
}

impl JsonSchema for Command {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = Text::json_schema(generator);
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": word }] })
    }
}
