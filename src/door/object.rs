//! The objects of a run: what its handles stand for.
//!
//! A script holds an index; the object behind it stays here. Equal objects get equal handles. An operation takes a handle as
//! [`Target`] and gives one as [`Given`]: both know the kind, and neither can be made from a table.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::arguments::HANDLE;
use super::bench::Bench;
use super::file::LocalFile;
use super::repository::Opened;
use super::secret::{Built, Secret};
use crate::error::Fault;
use crate::esxi;
use crate::wire::{Handle, Value};

/// A host that the run is connected to.
pub struct Connected {
    /// The name in the configuration.
    pub name: String,
    /// Whether it is the simulator: whatever prints from it says so.
    pub simulated: bool,
    pub client: esxi::Host,
}

/// What a handle stands for.
#[derive(Clone)]
pub enum Object {
    Host(Arc<Connected>),
    Vm(Arc<Connected>, esxi::Vm),
    Snapshot(Arc<Connected>, esxi::Vm, esxi::Snapshot),
    Datastore(Arc<Connected>, esxi::Datastore),
    Network(Arc<Connected>, esxi::Network),
    Document(Arc<Built>),
    Secret(Arc<Secret>),
    Repository(Arc<Opened>),
    File(Arc<LocalFile>),
    Test(Arc<dyn Bench>),
}

/// A kind of object, as a type.
pub trait Kind: Send + Sync + 'static {
    const NAME: &'static str;
}

/// What a handle tells beside its `name`: a snapshot of the moment when it was given out.
pub trait Fields: Serialize + JsonSchema {
    type Kind: Kind;
}

/// The kinds of handles that there are.
pub mod kind {
    use super::Kind;

    macro_rules! kinds {
        ($($(#[doc = $doc:literal])* $type:ident = $name:literal;)*) => {
            /// Their names with what they are, for the reference.
            pub const ALL: &[(&str, &str)] = &[$(($name, concat!($($doc),*))),*];
            $($(#[doc = $doc])* #[derive(Debug, Clone, Copy)] pub struct $type;
            impl Kind for $type { const NAME: &'static str = $name; })*
        };
    }

    kinds! {
        /// A host that the run is connected to.
        Host = "host";
        /// A virtual machine.
        Vm = "vm";
        /// A snapshot of a virtual machine.
        Snapshot = "snapshot";
        /// A datastore.
        Datastore = "datastore";
        /// A network that machines connect to.
        Network = "network";
        /// Cloud-init data, built and opaque.
        Document = "document";
        /// A secret: its name and purpose can be read, its value goes into documents alone.
        Secret = "secret";
        /// A repository of backups.
        Repository = "repository";
        /// A file of this machine that a person named as a parameter: what a script sends or fills, and cannot look into.
        File = "file";
        /// A test of a playbook, with a simulator of its own: what a test's function is called with, and nothing else is.
        Test = "test";
    }
}

/// A handle that a call was given: an argument of an operation.
#[derive(Debug)]
pub struct Target<K> {
    pub id: u32,
    pub name: String,
    kind: PhantomData<K>,
}

/// A handle that an operation gives out: its readable fields and an index into the run's table.
#[derive(Debug)]
pub struct Given<K> {
    handle: Value,
    kind: PhantomData<K>,
}

impl<'de, K: Kind> Deserialize<'de> for Target<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<K>(PhantomData<K>);

        impl<'de, K: Kind> serde::de::Visitor<'de> for Reader<K> {
            type Value = Target<K>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a {} handle", K::NAME)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut fields: A) -> Result<Target<K>, A::Error> {
                let (mut id, mut kind, mut name) = (0, String::new(), String::new());
                while let Some(key) = fields.next_key::<String>()? {
                    match key.as_str() {
                        "id" => id = fields.next_value()?,
                        "kind" => kind = fields.next_value()?,
                        _ => name = fields.next_value()?,
                    }
                }
                if kind != K::NAME {
                    return Err(serde::de::Error::custom(format!(
                        "expected a {} handle, found a {kind} handle",
                        K::NAME
                    )));
                }
                Ok(Target { id, name, kind: PhantomData })
            }
        }

        deserializer.deserialize_newtype_struct(HANDLE, Reader(PhantomData))
    }
}

impl<K: Kind> JsonSchema for Target<K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        K::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-handle": K::NAME })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl<K> Given<K> {
    /// The handle as a value.
    pub fn into_value(self) -> Value {
        self.handle
    }
}

impl<K: Kind> Serialize for Given<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<K: Kind> JsonSchema for Given<K> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        K::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-handle": K::NAME })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// One run's table of objects.
#[derive(Default)]
pub struct Objects {
    inner: Mutex<Inner>,
}

/// The most that the documents of one run may take up, in bytes: making them needs no capability at all.
const DOCUMENTS: usize = 64 << 20;

#[derive(Default)]
struct Inner {
    documents: usize,
    objects: Vec<Entry>,
    by_key: HashMap<String, u32>,
}

struct Entry {
    object: Object,
    kind: &'static str,
    name: String,
    /// What was last given out of it, for results that hold the handle.
    fields: Vec<(String, Value)>,
}

impl Objects {
    /// Gives the object a place in the table, the same as before where it has one.
    pub fn give<K: Kind>(&self, object: Object, name: &str, fields: Vec<(String, Value)>) -> Given<K> {
        let mut inner = self.lock();
        let key = object.key();
        let fresh = Entry { object, kind: K::NAME, name: name.to_owned(), fields: fields.clone() };
        let known = inner.by_key.get(&key).copied();
        let id = match known {
            Some(id) => {
                if let Some(entry) = inner.objects.get_mut(id as usize) {
                    *entry = fresh;
                }
                id
            }
            None => {
                let id = inner.objects.len() as u32;
                inner.objects.push(fresh);
                inner.by_key.insert(key, id);
                id
            }
        };
        let handle = Handle { id, kind: K::NAME.to_owned(), name: name.to_owned(), fields };
        Given { handle: Value::Handle(Box::new(handle)), kind: PhantomData }
    }

    /// Takes room for a document. Faults: `limit.documents`.
    pub fn take_room(&self, built: &Built) -> Result<(), Fault> {
        let mut inner = self.lock();
        inner.documents = inner.documents.saturating_add(built.document.size());
        if inner.documents <= DOCUMENTS {
            return Ok(());
        }
        let most = crate::units::Bytes(DOCUMENTS as u64);
        Err(Fault::new("limit.documents", format!("the run has built more cloud-init data than {most}"))
            .hint("build one document and give it to several machines, or split the work over several runs"))
    }

    /// The object behind a handle of this run.
    pub fn get(&self, id: u32) -> Option<Object> {
        self.lock().objects.get(id as usize).map(|entry| entry.object.clone())
    }

    /// Replaces what a worker says of its handles by what this table knows of them.
    pub fn vouch(&self, value: &mut Value) -> Result<(), Fault> {
        self.each_handle(value, &|handle, entry| {
            handle.kind = entry.kind.to_owned();
            handle.name.clone_from(&entry.name);
            handle.fields.clear();
        })
    }

    /// Fills in what the handles of a result tell, as it was last given out: a result is for people and programs, not for calls.
    pub fn tell(&self, value: &mut Value) -> Result<(), Fault> {
        self.each_handle(value, &|handle, entry| {
            handle.kind = entry.kind.to_owned();
            handle.name.clone_from(&entry.name);
            handle.fields.clone_from(&entry.fields);
        })
    }

    fn each_handle(&self, value: &mut Value, fill: &dyn Fn(&mut Handle, &Entry)) -> Result<(), Fault> {
        match value {
            Value::Handle(handle) => {
                let inner = self.lock();
                let Some(entry) = inner.objects.get(handle.id as usize) else {
                    return Err(Fault::new("usage.handle", format!("handle {} is not one of this run", handle.id)));
                };
                fill(handle, entry);
                Ok(())
            }
            Value::List(items) => items.iter_mut().try_for_each(|item| self.each_handle(item, fill)),
            Value::Map(entries) => entries.iter_mut().try_for_each(|(_, value)| self.each_handle(value, fill)),
            _ => Ok(()),
        }
    }

    /// Calls `each` for every object.
    pub(super) fn each(&self, mut each: impl FnMut(&Object)) {
        self.lock().objects.iter().for_each(|entry| each(&entry.object));
    }

    /// Forgets all objects: the run is over.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object {
    /// What makes two objects one: their host and managed object reference, or their identity in this process. A machine that was
    /// replaced under its reference is another one: a handle to the first must not become a handle to the second.
    fn key(&self) -> String {
        match self {
            Object::Host(host) => format!("host {}", host.name),
            Object::Vm(host, vm) => format!("vm {} {} {}", host.name, vm.moref, vm.instance_uuid),
            Object::Snapshot(host, vm, own) => {
                format!("snapshot {} {} {} {}", host.name, vm.moref, vm.instance_uuid, own.moref)
            }
            Object::Datastore(host, datastore) => format!("datastore {} {}", host.name, datastore.moref),
            Object::Network(host, network) => format!("network {} {}", host.name, network.moref),
            Object::Document(document) => format!("document {:p}", Arc::as_ptr(document)),
            Object::Secret(secret) => format!("secret {:p}", Arc::as_ptr(secret)),
            Object::Repository(opened) => format!("repository {:p}", Arc::as_ptr(opened)),
            Object::File(file) => format!("file {:p}", Arc::as_ptr(file)),
            Object::Test(bench) => format!("test {:p}", Arc::as_ptr(bench).cast::<()>()),
        }
    }
}
