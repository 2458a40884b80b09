//! The property collector's watching half: filters, and the answers of `WaitForUpdatesEx`, `WaitForUpdates` and `CheckForUpdates`.
//!
//! A filter keeps a digest of what each property held when the client last heard of it. An answer carries what differs from that; an
//! object is looked at again only where its number in the world has risen. A truncated answer leaves the rest for the next call.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::call::{Answer, Call, Reply};
use super::collector::{self, missing_property, own, paths, select, write_name, write_reference};
use super::fault::VimFault;
use super::property::Reader;
use super::value::{Data, Ref, Value};
use super::world::World;

/// Filters that one collector may have.
const MOST: usize = 1000;

/// One filter: what it selects, and what the client knows of that.
#[derive(Debug)]
pub struct Filter {
    spec: Data,
    partial: bool,
    known: HashMap<Ref, Known>,
    /// The order in which objects were met, which is the order of the answers.
    order: Vec<Ref>,
    /// The world's tick when all of it was looked at last; zero for never.
    seen: u64,
}

/// What the client knows of one object: a digest for each property that has a value.
#[derive(Debug, Default)]
struct Known {
    at: u64,
    values: HashMap<String, u64>,
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "CreateFilter" => create(world, call),
        "CheckForUpdates" => {
            restart_or_check(world, call)?;
            Ok(answer(world, call, usize::MAX)?.unwrap_or(Reply::Nothing))
        }
        "CancelWaitForUpdates" => {
            own(world, call)?.called_off += 1;
            world.touch(&call.this);
            Ok(Reply::Nothing)
        }
        "DestroyPropertyFilter" => {
            let session = call.session()?;
            let id = call.this.id.as_ref();
            let mut own = world.collectors.values_mut().filter(|collector| collector.session == session);
            match own.any(|collector| collector.filters.remove(id).is_some()) {
                true => Ok(Reply::Nothing),
                false => Err(VimFault::not_found(&call.this)),
            }
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

pub fn property(reader: &Reader<'_>, object: &Ref, name: &str) -> Option<Value> {
    let filter = reader.world.collectors.values().find_map(|collector| collector.filters.get(object.id.as_ref()))?;
    match name {
        "spec" => Some(filter.spec.clone().into()),
        "partialUpdates" => Some(filter.partial.into()),
        _ => None,
    }
}

fn create(world: &mut World, call: &Call) -> Answer {
    let session = call.session()?;
    let spec = call.data("spec")?;
    collector::check(spec)?;
    // What would fail at each wait fails here: unknown properties, objects that are not there.
    let reader = Reader { world, session, version: call.version };
    for object in select(&reader, spec)? {
        for path in paths(spec, &object).unwrap_or_default() {
            match reader.read(&object, path) {
                Err(fault) if fault.data.kind == "InvalidProperty" => return Err(fault),
                _ => {}
            }
        }
    }
    let id = format!("session[{session}]{}", Uuid::new_v4());
    let partial = call.args.boolean("partialUpdates") == Some(true);
    let filter = Filter { spec: spec.clone(), partial, known: HashMap::new(), order: Vec::new(), seen: 0 };
    let collector = own(world, call)?;
    if collector.filters.len() >= MOST {
        return Err(VimFault::system("this property collector has too many filters"));
    }
    collector.filters.insert(id.clone(), filter);
    Ok(Ref::new("PropertyFilter", id).into())
}

/// `WaitForUpdates` and `WaitForUpdatesEx`: answers as soon as there is news, or with nothing when the time is over.
pub async fn wait(call: &Call) -> Answer {
    let options = call.args.data("options");
    let longest = options.and_then(|options| options.number("maxWaitSeconds"));
    if longest.is_some_and(|seconds| seconds < 0) {
        return Err(VimFault::invalid_argument("options.maxWaitSeconds", "it must not be negative"));
    }
    let most = options.and_then(|options| options.number("maxObjectUpdates"));
    if most.is_some_and(|most| most <= 0) {
        return Err(VimFault::invalid_argument("options.maxObjectUpdates", "it must be greater than zero"));
    }
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    // A host holds a call for half an hour at most.
    let longest =
        Duration::from_secs(longest.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(1800).min(1800));
    let until = Instant::now() + longest;
    let mut ticks = call.host.ticks.subscribe();
    let session = call.session()?;
    let _waiting = Waiting::begin(call, session);
    let called_off = {
        let mut world = call.host.world();
        restart_or_check(&mut world, call)?;
        own(&mut world, call)?.called_off
    };
    loop {
        {
            let mut world = call.host.world();
            if world.sessions.by_key(session).is_none() {
                return Err(VimFault::not_authenticated());
            }
            if own(&mut world, call)?.called_off != called_off {
                return Err(VimFault::new("RequestCanceled", "The wait was called off."));
            }
            let cap = world.update_size.unwrap_or(usize::MAX);
            if let Some(reply) = answer(&mut world, call, most.min(cap))? {
                return Ok(reply);
            }
            ticks.mark_unchanged();
        }
        match tokio::time::timeout_at(until, ticks.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(Reply::Nothing),
        }
    }
}

/// Keeps the session alive while a call waits, also where the client goes away in the middle.
struct Waiting<'a> {
    call: &'a Call,
    session: &'a str,
}

impl<'a> Waiting<'a> {
    fn begin(call: &'a Call, session: &'a str) -> Self {
        call.host.world().sessions.waits(session, true);
        Self { call, session }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.call.host.world().sessions.waits(self.session, false);
    }
}

/// An empty version begins anew; any other must be that of the last answer.
fn restart_or_check(world: &mut World, call: &Call) -> Result<(), VimFault> {
    let version = call.args.text("version").unwrap_or_default();
    let collector = own(world, call)?;
    if version.is_empty() {
        for filter in collector.filters.values_mut() {
            filter.known.clear();
            filter.order.clear();
            filter.seen = 0;
        }
        return Ok(());
    }
    match version == collector.updates.to_string() {
        true => Ok(()),
        false => Err(VimFault::new("InvalidCollectorVersion", "The version is not that of the last answer.")),
    }
}

/// The news of all filters of the caller's collector, `most` objects at most; nothing where there is none.
fn answer(world: &mut World, call: &Call, most: usize) -> Result<Option<Reply>, VimFault> {
    let session = call.session()?;
    let key = collector::key(&call.this, session);
    let mut filters = std::mem::take(&mut own(world, call)?.filters);
    let reader = Reader { world, session, version: call.version };
    let mut ids: Vec<&String> = filters.keys().collect();
    ids.sort();
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    let mut room = most;
    let mut sets = String::new();
    let mut truncated = false;
    let mut failed = None;
    for id in ids {
        let Some(filter) = filters.get_mut(&id) else { continue };
        match news(&reader, filter, &mut room) {
            Ok(News { text, whole }) => {
                truncated |= !whole;
                if !text.is_empty() {
                    sets.push_str("<filterSet>");
                    write_reference(&Ref::new("PropertyFilter", id), "filter", &mut sets)?;
                    sets.push_str(&text);
                    sets.push_str("</filterSet>");
                }
            }
            Err(fault) => failed = Some(fault),
        }
    }
    let Some(collector) = world.collectors.get_mut(&key) else { return Err(VimFault::not_found(&call.this)) };
    collector.filters = filters;
    if let Some(fault) = failed {
        return Err(fault);
    }
    if sets.is_empty() {
        return Ok(None);
    }
    collector.updates += 1;
    let version = collector.updates;
    let tail = if truncated { "<truncated>true</truncated>" } else { "" };
    Ok(Some(Reply::Written(format!("<returnval><version>{version}</version>{sets}{tail}</returnval>"))))
}

struct News {
    text: String,
    /// Whether nothing was left for the next answer.
    whole: bool,
}

fn news(reader: &Reader<'_>, filter: &mut Filter, room: &mut usize) -> Result<News, VimFault> {
    let mut text = String::new();
    let now = reader.world.tick();
    if filter.seen == now {
        return Ok(News { text, whole: true });
    }
    if filter.seen == 0 || selection_may_differ(reader, filter) {
        let selected = match select(reader, &filter.spec) {
            Ok(selected) => selected,
            // The start of the traversal is gone: what was below it has left.
            Err(fault) if fault.data.kind == "ManagedObjectNotFound" => Vec::new(),
            Err(fault) => return Err(fault),
        };
        let kept: std::collections::HashSet<&Ref> = selected.iter().collect();
        let left: Vec<Ref> = filter.known.keys().filter(|known| !kept.contains(known)).cloned().collect();
        for object in left {
            if *room == 0 {
                return Ok(News { text, whole: false });
            }
            *room -= 1;
            filter.known.remove(&object);
            text.push_str("<objectSet><kind>leave</kind>");
            write_reference(&object, "obj", &mut text)?;
            text.push_str("</objectSet>");
        }
        filter.order = selected;
    }
    let Filter { spec, known, order, .. } = filter;
    for object in order.iter() {
        let at = reader.world.changed_at(object);
        if known.get(object).is_some_and(|known| known.at >= at) {
            continue;
        }
        let Some(paths) = paths(spec, object) else { continue };
        let enters = !known.contains_key(object);
        if *room == 0 {
            return Ok(News { text, whole: false });
        }
        let entry = known.entry(object.clone()).or_default();
        let changes = changes(reader, object, &paths, entry)?;
        entry.at = at;
        if changes.is_empty() && !enters {
            continue;
        }
        *room -= 1;
        text.push_str(if enters { "<objectSet><kind>enter</kind>" } else { "<objectSet><kind>modify</kind>" });
        write_reference(object, "obj", &mut text)?;
        text.push_str(&changes);
        text.push_str("</objectSet>");
    }
    filter.seen = now;
    Ok(News { text, whole: true })
}

/// Whether the set of selected objects may be another than before: something came or went, or a link on the way changed.
fn selection_may_differ(reader: &Reader<'_>, filter: &Filter) -> bool {
    let traverses = filter.spec.datas("objectSet").any(|set| !set.list("selectSet").is_empty());
    reader.world.topology() > filter.seen
        || traverses
        || filter
            .spec
            .datas("objectSet")
            .filter_map(|set| set.reference("obj"))
            .any(|object| reader.world.find(object).is_none())
}

/// The `changeSet` elements for one object, noting what the client knows from now on.
fn changes(reader: &Reader<'_>, object: &Ref, paths: &[&str], known: &mut Known) -> Result<String, VimFault> {
    let mut text = String::new();
    let mut missing = String::new();
    for path in paths {
        let mut value = String::new();
        match reader.write(object, path, "val", &mut value) {
            Ok(true) => {
                let mut hasher = DefaultHasher::new();
                value.hash(&mut hasher);
                let digest = hasher.finish();
                if known.values.get(*path) == Some(&digest) {
                    continue;
                }
                known.values.insert((*path).to_owned(), digest);
                change(path, &value, &mut text)?;
            }
            // What had a value and has none is assigned nothing.
            Ok(false) if known.values.remove(*path).is_some() => change(path, "", &mut text)?,
            Ok(false) => {}
            Err(fault) => missing.push_str(&missing_property(reader, path, &fault)?),
        }
    }
    text.push_str(&missing);
    Ok(text)
}

fn change(path: &str, value: &str, text: &mut String) -> Result<(), VimFault> {
    text.push_str("<changeSet>");
    write_name(path, "name", text)?;
    text.push_str("<op>assign</op>");
    text.push_str(value);
    text.push_str("</changeSet>");
    Ok(())
}
