//! The property collector's reading half: filter specs, traversal, `RetrieveProperties` and its pages.
//!
//! The watching half (`CreateFilter`, `WaitForUpdatesEx`) is in `updates` and shares [`select`].

use std::collections::{HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::call::{Answer, Call, Reply};
use super::fault::VimFault;
use super::property::Reader;
use super::schema::schema;
use super::service::PROPERTY_COLLECTOR;
use super::updates::Filter;
use super::value::{Data, Ref, Value};
use super::world::World;

/// Unread pages that one collector keeps; a client that leaves more behind loses the oldest.
const PAGES: usize = 16;
/// Filters and collectors that one session may have.
const MOST: usize = 1000;

/// What one session made of one property collector.
#[derive(Debug, Default)]
pub struct Collector {
    pub session: String,
    pub filters: HashMap<String, Filter>,
    /// Rises with each answer that has news.
    pub updates: u64,
    /// Rises when a client calls off whoever waits.
    pub called_off: u64,
    pages: VecDeque<(String, VecDeque<String>)>,
}

/// The collector of that name and session. The host's own is one for each session.
pub fn key(this: &Ref, session: &str) -> String {
    if this.id == PROPERTY_COLLECTOR.id { format!("{session}/{}", PROPERTY_COLLECTOR.id) } else { this.id.to_string() }
}

/// The caller's collector, which must be its session's own.
pub fn own<'a>(world: &'a mut World, call: &Call) -> Result<&'a mut Collector, VimFault> {
    let session = call.session()?;
    let key = key(&call.this, session);
    if call.this.id == PROPERTY_COLLECTOR.id {
        let new = || Collector { session: session.to_owned(), ..Collector::default() };
        return Ok(world.collectors.entry(key).or_insert_with(new));
    }
    let found = world.collectors.get_mut(&key).filter(|collector| collector.session == session);
    found.ok_or_else(|| VimFault::not_found(&call.this))
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "RetrieveProperties" => {
            let objects = retrieve(world, call)?;
            Ok(Reply::Written(objects.iter().map(|object| format!("<returnval>{object}</returnval>")).collect()))
        }
        "RetrievePropertiesEx" => {
            let wanted = call.data("options")?.number("maxObjects");
            if wanted.is_some_and(|most| most <= 0) {
                return Err(VimFault::invalid_argument("options.maxObjects", "it must be greater than zero"));
            }
            let objects = VecDeque::from(retrieve(world, call)?);
            let wanted = wanted.and_then(|most| usize::try_from(most).ok());
            page(world, call, objects, wanted)
        }
        "ContinueRetrievePropertiesEx" => {
            let token = call.text("token")?;
            let pages = &mut own(world, call)?.pages;
            let at = pages.iter().position(|(kept, _)| kept == token);
            let (token, rest) = at.and_then(|at| pages.remove(at)).ok_or_else(unknown_token)?;
            let size = token.rsplit('-').next().and_then(|size| size.parse().ok());
            page(world, call, rest, size)
        }
        "CancelRetrievePropertiesEx" => {
            let token = call.text("token")?;
            let pages = &mut own(world, call)?.pages;
            let at = pages.iter().position(|(kept, _)| kept == token).ok_or_else(unknown_token)?;
            pages.remove(at);
            Ok(Reply::Nothing)
        }
        "CreatePropertyCollector" => {
            let session = call.session()?.to_owned();
            if world.collectors.values().filter(|collector| collector.session == session).count() >= MOST {
                return Err(VimFault::system("this session has too many property collectors"));
            }
            let id = format!("session[{session}]{}", Uuid::new_v4());
            world.collectors.insert(id.clone(), Collector { session, ..Collector::default() });
            Ok(Ref::new("PropertyCollector", id).into())
        }
        "DestroyPropertyCollector" => {
            own(world, call)?;
            if call.this.id == PROPERTY_COLLECTOR.id {
                return Err(VimFault::not_supported("the host's own property collector cannot be destroyed"));
            }
            world.collectors.remove(call.this.id.as_ref());
            world.touch(&call.this);
            Ok(Reply::Nothing)
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

pub fn property(reader: &Reader<'_>, object: &Ref, name: &str) -> Option<Value> {
    let collector = reader.world.collectors.get(&key(object, reader.session))?;
    match name {
        "filter" => {
            Some(collector.filters.keys().map(|id| Ref::new("PropertyFilter", id.clone())).collect::<Vec<_>>().into())
        }
        _ => None,
    }
}

fn unknown_token() -> VimFault {
    VimFault::new("InvalidProperty", "The token is not known, or was used already.").with("name", "token")
}

fn page(world: &mut World, call: &Call, mut objects: VecDeque<String>, wanted: Option<usize>) -> Answer {
    let size = [wanted, world.page_size].into_iter().flatten().min().unwrap_or(usize::MAX);
    let mut out = String::from("<returnval>");
    let first: Vec<String> = objects.drain(..size.min(objects.len())).collect();
    if first.is_empty() {
        return Ok(Reply::Nothing);
    }
    if !objects.is_empty() {
        let collector = own(world, call)?;
        let token = format!("{}-{}", Uuid::new_v4().simple(), size);
        out.push_str(&format!("<token>{token}</token>"));
        if collector.pages.len() >= PAGES {
            collector.pages.pop_front();
        }
        collector.pages.push_back((token, objects));
    }
    for object in first {
        out.push_str("<objects>");
        out.push_str(&object);
        out.push_str("</objects>");
    }
    out.push_str("</returnval>");
    Ok(Reply::Written(out))
}

/// The inner XML of each `ObjectContent`.
fn retrieve(world: &mut World, call: &Call) -> Result<Vec<String>, VimFault> {
    let reader = Reader { world, session: call.session()?, version: call.version };
    let mut contents = Vec::new();
    for spec in call.args.datas("specSet") {
        check(spec)?;
        for object in select(&reader, spec)? {
            if let Some(content) = content(&reader, spec, &object)? {
                contents.push(content);
            }
        }
    }
    Ok(contents)
}

fn content(reader: &Reader<'_>, spec: &Data, object: &Ref) -> Result<Option<String>, VimFault> {
    let Some(paths) = paths(spec, object) else { return Ok(None) };
    let mut out = String::with_capacity(512);
    let mut missing = String::new();
    write_reference(object, "obj", &mut out)?;
    for path in paths {
        let rest = out.len();
        out.push_str("<propSet>");
        write_name(path, "name", &mut out)?;
        match reader.write(object, path, "val", &mut out) {
            Ok(true) => out.push_str("</propSet>"),
            Ok(false) => out.truncate(rest),
            Err(fault) if fault.data.kind == "InvalidProperty" => return Err(fault),
            Err(fault) => {
                out.truncate(rest);
                missing.push_str(&missing_property(reader, path, &fault)?);
            }
        }
    }
    out.push_str(&missing);
    Ok(Some(out))
}

/// A `missingSet` element.
pub fn missing_property(reader: &Reader<'_>, path: &str, fault: &VimFault) -> Result<String, VimFault> {
    let mut out = String::from("<missingSet>");
    write_name(path, "path", &mut out)?;
    let kind = super::schema::Kind::Named("LocalizedMethodFault");
    super::encode::write(&mut out, "fault", &fault.localized().into(), kind, reader.version)
        .map_err(VimFault::system)?;
    out.push_str("</missingSet>");
    Ok(out)
}

pub fn write_name(text: &str, element: &str, out: &mut String) -> Result<(), VimFault> {
    out.push_str(&format!("<{element}>"));
    crate::xml::escape(text, out).map_err(VimFault::invalid_request)?;
    out.push_str(&format!("</{element}>"));
    Ok(())
}

pub fn write_reference(object: &Ref, element: &str, out: &mut String) -> Result<(), VimFault> {
    out.push_str(&format!("<{element} type=\"{}\">", object.kind));
    crate::xml::escape(&object.id, out).map_err(VimFault::system)?;
    out.push_str(&format!("</{element}>"));
    Ok(())
}

/// Refuses a filter spec that names types or properties that there are not, before anything is read.
pub fn check(spec: &Data) -> Result<(), VimFault> {
    for set in spec.datas("propSet") {
        let kind = set.text("type").unwrap_or_default();
        if schema().managed_type(kind).is_none() {
            let kind: String = kind.chars().take(80).collect();
            return Err(VimFault::invalid_argument("specSet.propSet.type", format!("{kind:?} is not a managed type")));
        }
    }
    Ok(())
}

/// The paths that a spec wants of an object; `None` where it wants nothing of that type. All sets of its type and of its bases count.
pub fn paths<'a>(spec: &'a Data, object: &Ref) -> Option<Vec<&'a str>> {
    let fitting = |set: &&Data| set.text("type").is_some_and(|kind| schema().is_a(object.kind, kind));
    let sets: Vec<&Data> = spec.datas("propSet").filter(fitting).collect();
    if sets.is_empty() {
        return None;
    }
    if sets.iter().any(|set| set.boolean("all") == Some(true)) {
        return Some(schema().lineage(object.kind).flat_map(|one| one.own.iter().map(|field| field.name)).collect());
    }
    let mut seen = HashSet::new();
    Some(sets.into_iter().flat_map(|set| set.texts("pathSet")).filter(|path| seen.insert(*path)).collect())
}

/// The objects that a filter spec selects, each once, in the order in which they are met.
pub fn select(reader: &Reader<'_>, spec: &Data) -> Result<Vec<Ref>, VimFault> {
    let mut walk =
        Walk { reader, named: HashMap::new(), visited: HashSet::new(), chosen: HashSet::new(), found: Vec::new() };
    for start in spec.datas("objectSet") {
        walk.named.clear();
        walk.visited.clear();
        let sets: Vec<&Data> = start.datas("selectSet").collect();
        sets.iter().for_each(|set| walk.name(set));
        let given = start
            .reference("obj")
            .ok_or_else(|| VimFault::invalid_argument("specSet.objectSet.obj", "it is required"))?;
        let object = match reader.world.find(given) {
            Some(object) => object,
            None if spec.boolean("reportMissingObjectsInResults") == Some(true) => continue,
            None => return Err(VimFault::not_found(given)),
        };
        if start.boolean("skip") != Some(true) {
            walk.choose(object.clone());
        }
        walk.follow(object, &sets)?;
    }
    Ok(walk.found)
}

/// One traversal of the inventory.
struct Walk<'a> {
    reader: &'a Reader<'a>,
    named: HashMap<&'a str, &'a Data>,
    visited: HashSet<(Ref, usize)>,
    chosen: HashSet<Ref>,
    found: Vec<Ref>,
}

impl<'a> Walk<'a> {
    /// Notes the traversal specs that have names, so that a selection spec can refer to them from anywhere.
    fn name(&mut self, set: &'a Data) {
        if set.kind != "TraversalSpec" {
            return;
        }
        if let Some(name) = set.text("name") {
            self.named.insert(name, set);
        }
        set.datas("selectSet").for_each(|inner| self.name(inner));
    }

    fn choose(&mut self, object: Ref) {
        if self.chosen.insert(object.clone()) {
            self.found.push(object);
        }
    }

    /// Follows the sets from `start`. A list of work instead of recursion: the inventory decides how deep it goes.
    fn follow(&mut self, start: Ref, sets: &[&'a Data]) -> Result<(), VimFault> {
        let mut work: VecDeque<(Ref, &'a Data)> = sets.iter().map(|set| (start.clone(), *set)).collect();
        while let Some((object, set)) = work.pop_front() {
            let set = if set.kind == "TraversalSpec" {
                set
            } else {
                let name = set.text("name").unwrap_or_default();
                let known = self.named.get(name).copied();
                known.ok_or_else(|| VimFault::invalid_argument("selectSet.name", "no traversal spec has that name"))?
            };
            let kind = set.text("type").unwrap_or_default();
            if schema().managed_type(kind).is_none() {
                return Err(VimFault::invalid_argument("selectSet.type", "it is not a managed type"));
            }
            let once = self.visited.insert((object.clone(), std::ptr::from_ref(set).addr()));
            if !schema().is_a(object.kind, kind) || !once {
                continue;
            }
            let path = set.text("path").unwrap_or_default();
            for next in self.targets(&object, path)? {
                if set.boolean("skip") != Some(true) {
                    self.choose(next.clone());
                }
                work.extend(set.datas("selectSet").map(|inner| (next.clone(), inner)));
            }
        }
        Ok(())
    }

    fn targets(&self, object: &Ref, path: &str) -> Result<Vec<Ref>, VimFault> {
        Ok(match self.reader.read(object, path)? {
            Some((Value::Ref(reference), _)) => vec![reference],
            Some((Value::List(items), _)) => items
                .into_iter()
                .filter_map(|item| match item {
                    Value::Ref(reference) => Some(reference),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        })
    }
}
