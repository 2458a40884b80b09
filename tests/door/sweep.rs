//! Every declared operation, denied in every way: the denial says what would grant it, and the host sees no request.
//!
//! The arguments come from the declarations' own schemas, so an operation that is added is swept without a line here.

use std::sync::Arc;

use ceso::backup::target::FolderTarget;
use ceso::config::{Mode, NamedSecret, SecretPurpose};
use ceso::door::file::Access;
use ceso::door::object::Connected;
use ceso::door::operation::{Effect, Selector};
use ceso::door::record::Recording;
use ceso::door::repository::Stored;
use ceso::door::table::{Entry, Pattern, Table};
use ceso::door::{Door, Grant, Hosts, vocabulary};
use ceso::error::Fault;
use ceso::ops::{self, Declared};
use ceso::wire::{Handle, Value};
use ceso::{backup, esxi, sim};
use futures_util::future::BoxFuture;

pub struct Simulated {
    pub server: sim::Server,
    password: String,
    /// Where the one repository is that every name stands for.
    folder: tempfile::TempDir,
}

/// Every operation, those of commands included.
pub fn operations() -> impl Iterator<Item = &'static Declared> {
    ops::all().iter().chain(ops::of_commands())
}

impl Simulated {
    pub async fn start() -> Arc<Self> {
        let password = "sweep".to_owned();
        let options = sim::Options { password: password.clone().into(), vms: 1, ..sim::Options::default() };
        let folder = tempfile::tempdir().unwrap();
        let target = Arc::new(FolderTarget::new(folder.path().join("repository")));
        backup::Repository::init(target, &backup::InitOptions::default(), None).unwrap();
        Arc::new(Self { server: sim::Server::start(options).await.unwrap(), password, folder })
    }
}

impl Hosts for Simulated {
    fn repository_names(&self) -> Vec<String> {
        vec!["main".to_owned()]
    }

    fn catalog(&self) -> Option<ceso::catalog::Catalog> {
        Some(ceso::catalog::Catalog::new(self.folder.path().join("catalog.redb")))
    }

    fn secret_parameter(&self, name: &str, _: &str, purpose: SecretPurpose) -> Result<NamedSecret, Fault> {
        let value = Arc::new("a guest's password".to_owned().into());
        Ok(NamedSecret { name: name.to_owned(), purpose, machines: None, value })
    }

    fn repository(&self, _: &str) -> Result<Stored, Fault> {
        let target = Arc::new(FolderTarget::new(self.folder.path().join("repository")));
        Ok(Stored { target, secret: None, cache: None, retention: None })
    }

    fn connect<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>> {
        Box::pin(async move {
            assert!(matches!(name, None | Some("sim")), "a host that was not granted is never connected to: {name:?}");
            let trust = esxi::Trust::Fingerprint(self.server.fingerprint().parse().unwrap());
            let options = esxi::HostOptions::new("sim", self.server.url().parse().unwrap(), trust);
            let login = esxi::Login { username: "root".to_owned(), password: self.password.clone().into() };
            let client = esxi::Host::connect(options, Arc::new(login)).await?;
            Ok(Connected { name: "sim".to_owned(), simulated: true, client })
        })
    }
}

/// A door that has given out one handle of each kind, under a table that allows all.
async fn open(hosts: Arc<Simulated>) -> (Door, Vec<Handle>) {
    open_recorded(hosts, Recording::none()).await
}

/// The same, recorded.
pub async fn open_recorded(hosts: Arc<dyn Hosts>, recording: Recording) -> (Door, Vec<Handle>) {
    snapshot(hosts.clone()).await;
    let grant = Grant { mode: Mode::Unrestricted, table: None };
    let door = Door::recorded(grant, hosts, Arc::new(|_| {}), recording);
    let mut handles: Vec<Handle> = Vec::new();
    let mut take = |value: Value| match value {
        Value::Handle(handle) => handles.push(*handle),
        Value::List(items) => {
            if let Some(Value::Handle(handle)) = items.into_iter().next() {
                handles.push(*handle);
            }
        }
        other => panic!("not a handle: {other:?}"),
    };
    let call = |name: &str, arguments: Value| {
        let declared = ops::find(name).unwrap();
        declared.call(&door, 0, arguments)
    };
    let host = call("host.connect", Value::Nil).await.unwrap();
    let with_host = |more: Vec<(String, Value)>| {
        Value::Map(std::iter::once(("host".to_owned(), host.clone())).chain(more).collect())
    };
    let vm = call("vm.get", with_host(vec![("name".to_owned(), Value::Text("debian-12".to_owned()))])).await.unwrap();
    take(vm.clone());
    take(call("vm.snapshots", Value::Map(vec![("vm".to_owned(), vm)])).await.unwrap());
    take(call("datastore.list", with_host(vec![])).await.unwrap());
    take(call("network.list", with_host(vec![])).await.unwrap());
    let spec = Value::Map(vec![("hostname".to_owned(), Value::Text("sweep".to_owned()))]);
    take(call("cloudinit.build", spec).await.unwrap());
    take(door.file_parameter(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), Access::Read).unwrap());
    let new = std::env::temp_dir().join(format!("ceso-sweep-{}", uuid::Uuid::new_v4()));
    take(door.file_parameter(new.to_str().unwrap(), Access::Write).unwrap());
    take(host.clone());
    take(door.secret_parameter("password", "secret:sweep", SecretPurpose::Password).unwrap());
    let named = Value::Map(vec![("name".to_owned(), Value::Text("main".to_owned()))]);
    take(call("repository.open", named).await.unwrap());
    (door, handles)
}

/// Takes a snapshot of the template, through a door of its own: the one under test has changed nothing.
async fn snapshot(hosts: Arc<dyn Hosts>) {
    let door = Door::new(Grant { mode: Mode::Unrestricted, table: None }, hosts, Arc::new(|_| {}));
    let call = |name: &str, entries: Vec<(&str, Value)>| {
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        ops::find(name).unwrap().call(&door, 0, Value::Map(entries))
    };
    let host = call("host.connect", vec![]).await.unwrap();
    let name = ("name", Value::Text("debian-12".to_owned()));
    let vm = call("vm.get", vec![("host", host), name]).await.unwrap();
    call("vm.snapshot", vec![("vm", vm), ("name", Value::Text("sweep".to_owned()))]).await.unwrap();
}

/// Arguments of which one of several must be given, or without which there is nothing to ask.
const ALSO: [(&str, &str); 2] = [("repository.forget", "retention"), ("host.inventory", "hosts")];

/// Arguments that the schema of the operation accepts: every required one, and those that the declaration touches.
pub fn arguments(declared: &Declared, handles: &[Handle]) -> Value {
    let schema = declared.arguments_schema();
    let schema = schema.as_value();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    let touched = |name: &str| {
        declared.touches.iter().any(|touch| match touch.selector {
            Selector::Argument(argument) | Selector::Url(argument) => argument == name,
            Selector::Given { argument, given } => argument == name || given == name,
            Selector::Meant { argument, given } => argument == name || given == Some(name),
            Selector::Found | Selector::Filtered => false,
        })
    };
    let mut entries = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if required.contains(&name.as_str()) || touched(name) || ALSO.contains(&(declared.name, name.as_str())) {
            entries.push((name.clone(), value(name, property, handles)));
        }
    }
    Value::Map(entries)
}

fn value(name: &str, property: &serde_json::Value, handles: &[Handle]) -> Value {
    if let Some(kind) = property["x-handle"].as_str() {
        // A file is named to be read or to be made.
        let access = Value::Text(if name == "into" { "write" } else { "read" }.to_owned());
        let fits = |handle: &&Handle| {
            handle.kind == kind && (kind != "file" || handle.fields.iter().any(|(_, value)| *value == access))
        };
        let handle = handles.iter().find(fits);
        return Value::Handle(Box::new(handle.unwrap_or_else(|| panic!("no handle of kind {kind}")).clone()));
    }
    if let Some(first) = property["enum"].get(0).or(property["oneOf"][0].get("const")) {
        return Value::from_json(first.clone());
    }
    let kind = property["type"].as_str().or(property["type"][0].as_str());
    if property["format"] == "bytes" {
        return Value::Text("1 GiB".to_owned());
    }
    match (name, kind) {
        ("template", _) => Value::Text("debian-12".to_owned()),
        ("datastore" | "to_datastore", _) => Value::Text("datastore1".to_owned()),
        ("hosts", _) => Value::Text("sim".to_owned()),
        ("to", _) => Value::Text("elsewhere".to_owned()),
        ("network", _) => Value::Text("VM Network".to_owned()),
        ("url", _) => Value::Text("https://images.example.com/debian-12.ova".to_owned()),
        ("program" | "path", _)
            if property["description"].as_str().is_some_and(|doc| doc.contains("absolute path")) =>
        {
            Value::Text("/bin/true".to_owned())
        }
        ("id", _) => Value::Text("0123456789abcdef".to_owned()),
        ("retention", _) => Value::Map(vec![("keep_last".to_owned(), Value::Int(1))]),
        ("hostname", _) => Value::Text("sweep".to_owned()),
        (_, Some("string")) => Value::Text("debian-12".to_owned()),
        (_, Some("integer" | "number")) => Value::Int(1),
        (_, Some("boolean")) => Value::Bool(true),
        (_, Some("array")) => Value::List(Vec::new()),
        (_, Some("object")) => Value::Map(Vec::new()),
        (_, other) => panic!("no value for {name}: {other:?} in {property}"),
    }
}

/// What a list shows of a noun: one that goes over hosts names those beside their machines, and some of what happens is of no machine.
fn shown(found: &Value, noun: &str) -> Value {
    let of_no_machine =
        |row: &Value| matches!(row, Value::Map(fields) if fields.iter().any(|(name, vm)| name == "vm" && vm.is_nil()));
    match found {
        Value::Map(fields) if noun == "vm" => {
            fields.iter().find(|(name, _)| name == "machines").map_or(found, |(_, machines)| machines).clone()
        }
        Value::List(rows) if noun == "vm" => {
            Value::List(rows.iter().filter(|row| !of_no_machine(row)).cloned().collect())
        }
        _ => found.clone(),
    }
}

/// Whether a list, or a page of one, shows nothing.
fn is_empty(found: &Value) -> bool {
    match found {
        Value::List(rows) => rows.is_empty(),
        Value::Map(fields) => fields.iter().all(|(_, value)| value.is_nil() || is_empty(value)),
        _ => false,
    }
}

fn entry(noun: &str, verb: &str, pattern: Pattern) -> Entry {
    Entry { noun: noun.to_owned(), verb: verb.to_owned(), patterns: vec![pattern], max: None }
}

/// Everything that there is to grant, but for the verb that is swept, which gets `instead`.
fn all_but(noun: &str, verb: &str, instead: Option<Pattern>) -> Table {
    let mut table = Table::default();
    for known in vocabulary::NOUNS {
        for (other, _) in known.verbs {
            if (known.name, *other) != (noun, verb) {
                table.entries.push(entry(known.name, other, Pattern::Any));
            }
        }
    }
    table.entries.extend(instead.map(|pattern| entry(noun, verb, pattern)));
    table
}

#[test]
fn every_operation_is_denied_when_it_should_be_and_the_host_sees_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open(hosts.clone()).await;
        let mut swept = 0;
        for declared in operations() {
            if declared.effect == Effect::Pure {
                assert!(declared.touches.is_empty(), "{}: what is pure touches nothing", declared.name);
                continue;
            }
            assert!(!declared.touches.is_empty(), "{}: touches nothing, but is not pure", declared.name);
            for touch in declared.touches {
                let name = format!("{} without {}.{}", declared.name, touch.noun, touch.verb);
                let tables = [
                    ("nothing granted", Table::default()),
                    ("all other verbs", all_but(touch.noun, touch.verb, None)),
                    ("another name", all_but(touch.noun, touch.verb, Some(Pattern::Exact("somebody-else".to_owned())))),
                ];
                for (how, table) in tables {
                    door.policy().set_needs(table);
                    let before = hosts.server.requests();
                    let result = declared.call(&door, 1, arguments(declared, &handles)).await;
                    let filtered = touch.selector == Selector::Filtered && how == "another name";
                    match result {
                        Ok(found) if filtered => {
                            assert!(is_empty(&shown(&found, touch.noun)), "{name}, {how}: {found:?}");
                        }
                        Ok(value) => panic!("{name}, {how}: was let through: {value:?}"),
                        Err(fault) => {
                            assert_eq!(fault.kind(), "door.denied", "{name}, {how}: {fault:?}");
                            assert_eq!(fault.exit_code(), 3);
                            assert!(fault.hint_text().is_some_and(|hint| hint.contains(" = { ")), "{name}: {fault:?}");
                            assert_eq!(hosts.server.requests(), before, "{name}, {how}: the host saw a request");
                        }
                    }
                    swept += 1;
                }
            }
        }
        assert!(swept > 90, "only {swept} denials were tried");
        assert!(door.journal().changes().is_empty(), "a denied call left an intent: {:?}", door.journal().changes());
    });
}

#[test]
fn in_mode_standard_a_machine_that_the_run_did_not_make_is_not_destroyed_and_the_host_is_not_even_asked() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let hosts = Simulated::start().await;
        let door = Door::new(Grant { mode: Mode::Standard, table: None }, hosts.clone(), Arc::new(|_| {}));
        let call = |name: &str, entries: Vec<(&str, Value)>| {
            let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            ops::find(name).unwrap().call(&door, 1, Value::Map(entries))
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let host = call("host.connect", vec![]).await.unwrap();
        let found = call("vm.get", vec![("host", host.clone()), ("name", text("debian-12"))]).await.unwrap();
        let before = hosts.server.requests();
        let fault = call("vm.destroy", vec![("vm", found)]).await.unwrap_err();
        assert_eq!(fault.kind(), "door.denied");
        assert!(fault.hint_text().unwrap().contains("--mode unrestricted"), "{fault:?}");
        assert_eq!(hosts.server.requests(), before);
        let made = vec![("host", host), ("name", text("mine")), ("datastore", text("datastore1"))];
        let made = call("vm.create", made).await.unwrap();
        call("vm.destroy", vec![("vm", made)]).await.unwrap();
    });
}

#[test]
fn the_same_calls_pass_when_they_are_granted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open(hosts.clone()).await;
        door.policy().set_needs(all_but("", "", None));
        for name in [
            "host.facts",
            "vm.list",
            "vm.find",
            "vm.get",
            "vm.info",
            "datastore.list",
            "network.list",
            "vm.set_guestinfo",
            "repository.open",
            "repository.backups",
            "repository.check",
            "repository.stats",
            "repository.keys",
            "repository.prune",
            "repository.repair",
            "repository.unlock",
            "catalog.backups",
            "catalog.machines",
            "catalog.hosts",
            "catalog.repositories",
            "catalog.runs",
            "catalog.drills",
            "catalog.children",
            "catalog.tags",
            "catalog.rebuild",
        ] {
            let declared = ops::find(name).unwrap();
            declared
                .call(&door, 1, arguments(declared, &handles))
                .await
                .unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        }
    });
}

#[test]
fn handles_that_were_never_given_out_open_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let hosts = Simulated::start().await;
        let (door, handles) = open(hosts.clone()).await;
        let before = hosts.server.requests();
        for declared in ops::all().iter().filter(|declared| declared.receiver().is_some()) {
            let receiver = declared.receiver().unwrap();
            let Value::Map(mut entries) = arguments(declared, &handles) else { panic!() };
            for id in [handles.len() as u32 + 50, u32::MAX] {
                for (name, value) in &mut entries {
                    if name == receiver {
                        *value = Value::Handle(Box::new(Handle { id, kind: receiver.to_owned(), ..Handle::default() }));
                    }
                }
                let fault = declared.call(&door, 1, Value::Map(entries.clone())).await.unwrap_err();
                assert_eq!(fault.exit_code(), 2, "{}: {fault:?}", declared.name);
            }
            let other = handles.iter().find(|handle| handle.kind != receiver).unwrap();
            for (name, value) in &mut entries {
                if name == receiver {
                    let claimed = Handle { kind: receiver.to_owned(), ..other.clone() };
                    *value = Value::Handle(Box::new(claimed));
                }
            }
            let fault = declared.call(&door, 1, Value::Map(entries)).await.unwrap_err();
            assert_eq!(fault.kind(), "usage.argument", "{}: a handle of another kind: {fault:?}", declared.name);
        }
        assert_eq!(hosts.server.requests(), before);
    });
}

/// What reads or writes files of this machine is for the person's own commands: no name that a worker sends finds it.
#[test]
fn no_script_finds_what_only_commands_do() {
    assert!(!ops::of_commands().is_empty());
    for declared in ops::of_commands() {
        assert!(ops::find(declared.name).is_none(), "{}", declared.name);
        assert!(declared.spelled().starts_with("ceso "), "{}", declared.spelled());
        assert!(ops::all().iter().all(|known| known.name != declared.name), "{}", declared.name);
    }
}
