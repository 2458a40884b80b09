//! Property paths: from an object and a path to a value and its declared type.
//!
//! A path is a property of the managed type and then fields (`summary.runtime.powerState`); an item of a list is named by its key
//! (`config.hardware.device[4000]`, `config.extraConfig["guestinfo.userdata"]`). A path that the tables do not know is
//! `InvalidProperty`, a known one without a value is nothing.

use super::call::{Answer, Call, Reply};
use super::encode;
use super::fault::VimFault;
use super::schema::{Field, Kind, Version, schema};
use super::value::{Data, Ref, Value};
use super::world::World;
use super::{collector, datastore, esx, lease, ovf, service, task, updates, view, vm};

/// Which part of a property is wanted: whole, or only the field of that name. Saves building what nobody reads.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a>(Option<&'a str>);

impl Wanted<'_> {
    pub fn wants(self, field: &str) -> bool {
        self.0.is_none_or(|wanted| wanted == field)
    }
}

/// One read: whose world, for which session, in which version.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub world: &'a World,
    pub session: &'a str,
    pub version: Version,
}

impl Reader<'_> {
    /// Appends `<name xsi:type=…>…</name>` for the value at `path`; tells whether there was one.
    pub fn write(&self, object: &Ref, path: &str, name: &str, out: &mut String) -> Result<bool, VimFault> {
        let Some((value, field)) = self.read(object, path)? else { return Ok(false) };
        let rest = out.len();
        encode::write_typed(out, name, &value, &field, self.version).map_err(|error| {
            out.truncate(rest);
            VimFault::system(error)
        })?;
        Ok(true)
    }

    /// Reads the value at `path` with its declaration.
    pub fn read(&self, object: &Ref, path: &str) -> Result<Option<(Value, Field)>, VimFault> {
        let wrong = || VimFault::invalid_property(path.chars().take(200).collect::<String>());
        let steps = steps(path).ok_or_else(wrong)?;
        let (first, rest) = steps.split_first().ok_or_else(wrong)?;
        let field =
            schema().field(object.kind, first.name).filter(|field| field.since <= self.version).ok_or_else(wrong)?;
        let wanted = Wanted(rest.first().map(|step| step.name).filter(|_| first.key.is_none()));
        let value = self.property(object, field.name, wanted)?;
        let mut place = Place { value, field: *field };
        if let Some(key) = first.key {
            place = place.item(key).ok_or_else(wrong)?;
        }
        for step in rest {
            place = place.field(step.name, self.version).ok_or_else(wrong)?;
            if let Some(key) = step.key {
                place = place.item(key).ok_or_else(wrong)?;
            }
        }
        Ok(place.value.map(|value| (value, place.field)))
    }

    fn property(&self, object: &Ref, name: &str, wanted: Wanted<'_>) -> Result<Option<Value>, VimFault> {
        match object.kind {
            "VirtualMachine" => vm::property(self.world, object, name, wanted),
            "VirtualMachineSnapshot" => vm::snapshot::property(self.world, object, name, wanted),
            "Task" | "TaskManager" => Ok(task::property(self.world, object, name)),
            "ContainerView" | "ListView" | "ViewManager" => Ok(view::property(self, object, name)),
            "PropertyCollector" => Ok(collector::property(self, object, name)),
            "PropertyFilter" => Ok(updates::property(self, object, name)),
            "ServiceInstance" | "SessionManager" => Ok(service::property(self, object, name)),
            "Datastore" | "HostDatastoreBrowser" => Ok(datastore::property(self.world, object, name)),
            "HttpNfcLease" => Ok(lease::property(self.world, object, name)),
            "OvfManager" => Ok(ovf::property(name)),
            _ => Ok(esx::property(self.world, object, name, wanted)),
        }
    }
}

/// `Fetch`: one property, as pyVmomi reads it.
pub fn fetch(world: &World, call: &Call) -> Answer {
    let reader = Reader { world, session: call.session.as_deref().unwrap_or_default(), version: call.version };
    let mut out = String::new();
    reader.write(&call.this, call.text("prop")?, "returnval", &mut out)?;
    Ok(Reply::Written(out))
}

/// A value, or its absence, and what it is declared as.
struct Place {
    value: Option<Value>,
    field: Field,
}

impl Place {
    fn field(self, name: &str, version: Version) -> Option<Self> {
        if self.field.many {
            return None;
        }
        let value = match self.value {
            Some(Value::Data(mut data)) => {
                let field = schema().field(data.kind, name).filter(|field| field.since <= version)?;
                let at = data.fields.iter().position(|(own, _)| *own == name);
                return Some(Self { value: at.map(|at| data.fields.swap_remove(at).1), field: *field });
            }
            None => None,
            Some(_) => return None,
        };
        // There is no value; the path may still be a right one.
        let Kind::Named(declared) = self.field.kind else { return None };
        let field = schema().field(declared, name).filter(|field| field.since <= version)?;
        Some(Self { value, field: *field })
    }

    fn item(self, key: &str) -> Option<Self> {
        if !self.field.many {
            return None;
        }
        let field = Field { many: false, ..self.field };
        let Some(Value::List(items)) = self.value else { return Some(Self { value: None, field }) };
        let value = items.into_iter().find(|item| match item {
            Value::Data(data) => has_key(data, key),
            Value::Text(text) => text == key,
            Value::Ref(reference) => reference.id == key,
            _ => false,
        });
        Some(Self { value, field })
    }
}

fn has_key(data: &Data, key: &str) -> bool {
    match data.get("key") {
        Some(Value::Int(number)) => key.parse() == Ok(*number),
        Some(Value::Text(text)) => text == key,
        _ => false,
    }
}

struct Step<'a> {
    name: &'a str,
    key: Option<&'a str>,
}

/// Takes `a.b["c.d"].e` apart; `None` where it is not a path.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return None;
        }
        let mut key = None;
        rest = after;
        if let Some(inside) = rest.strip_prefix('[') {
            let (found, after) = match inside.strip_prefix('"') {
                Some(quoted) => quoted.split_once("\"]")?,
                None => inside.split_once(']')?,
            };
            key = Some(found);
            rest = after;
        }
        steps.push(Step { name, key });
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(steps),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_property_of_every_object_fits_the_tables() {
        let store = crate::sim::state::Store::open(None, std::time::Duration::ZERO).await.unwrap();
        let options = crate::sim::Options { vms: 1, ..Default::default() };
        let world = World::load(store, &options).unwrap();
        let mut objects: Vec<Ref> = esx::all_fixed();
        objects.extend(world.vms.values().map(crate::sim::vm::Vm::reference));
        objects.push(esx::network(esx::NETWORK));
        let mut wrong = Vec::new();
        for version in [Version::NEWEST, Version::parse("6.5").unwrap()] {
            let reader = Reader { world: &world, session: "", version };
            for object in &objects {
                for field in
                    schema().lineage(object.kind).flat_map(|one| one.own.iter()).filter(|field| field.since <= version)
                {
                    let read = std::panic::AssertUnwindSafe(|| {
                        let mut out = String::new();
                        reader.write(object, field.name, "val", &mut out).map(|found| (found, out))
                    });
                    match std::panic::catch_unwind(read) {
                        Ok(Ok((false, _))) => {}
                        Ok(Ok((true, text))) => {
                            let root = text.replacen(
                                " xsi:",
                                " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:",
                                1,
                            );
                            let read = crate::xml::parse(root.as_bytes(), crate::xml::Limits::default()).unwrap();
                            if field.kind != Kind::Any && crate::sim::decode::typed(&read, version).is_err() {
                                wrong.push(format!(
                                    "{object}.{}: {:?}",
                                    field.name,
                                    crate::sim::decode::typed(&read, version).unwrap_err().message
                                ));
                            }
                        }
                        other => wrong.push(format!("{object}.{}: {other:?}", field.name)),
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn paths_are_taken_apart() {
        let apart = |path: &str| {
            steps(path).map(|steps| {
                steps.iter().map(|step| (step.name.to_owned(), step.key.map(str::to_owned))).collect::<Vec<_>>()
            })
        };
        let key = |text: &str| Some(text.to_owned());
        assert_eq!(
            apart("config.extraConfig[\"guestinfo.userdata\"].value").unwrap(),
            [
                ("config".to_owned(), None),
                ("extraConfig".to_owned(), key("guestinfo.userdata")),
                ("value".to_owned(), None)
            ]
        );
        assert_eq!(apart("a[4000]").unwrap(), [("a".to_owned(), key("4000"))]);
        for wrong in ["", ".", "a.", ".a", "a..b", "a[", "a[\"b", "a[1]b", "[1]"] {
            assert!(steps(wrong).is_none(), "{wrong}");
        }
    }
}
