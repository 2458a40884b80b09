//! Views: lists of objects that clients keep on the host. A container view is looked up anew each time that it is read.

use uuid::Uuid;

use super::call::{Answer, Call, Reply};
use super::esx;
use super::fault::VimFault;
use super::property::Reader;
use super::schema::schema;
use super::value::{Ref, Value};
use super::world::World;

/// Views that one session may have.
const MOST: usize = 1000;

/// One view, which belongs to a session and ends with it.
#[derive(Debug)]
pub struct View {
    pub session: String,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Container { container: Ref, types: Vec<String>, recursive: bool },
    List(Vec<Ref>),
}

impl View {
    pub fn kind(&self) -> &'static str {
        match self.holds {
            Holds::Container { .. } => "ContainerView",
            Holds::List(_) => "ListView",
        }
    }

    fn objects(&self, world: &World) -> Vec<Ref> {
        match &self.holds {
            Holds::List(objects) => objects.iter().filter(|object| world.find(object).is_some()).cloned().collect(),
            Holds::Container { container, types, recursive } => {
                let mut found = Vec::new();
                let mut below = esx::children(world, container);
                while let Some(object) = below.pop() {
                    if *recursive {
                        below.extend(esx::children(world, &object));
                    }
                    if types.is_empty() || types.iter().any(|kind| schema().is_a(object.kind, kind)) {
                        found.push(object);
                    }
                }
                found.reverse();
                found
            }
        }
    }
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    let session = call.session()?.to_owned();
    match call.method {
        "CreateContainerView" => {
            let container = call.object(world, "container", "ManagedEntity")?;
            let container = container.ok_or_else(|| VimFault::invalid_argument("container", "it is required"))?;
            if !matches!(container.kind, "Folder" | "Datacenter" | "ComputeResource" | "ResourcePool" | "HostSystem") {
                return Err(VimFault::invalid_argument("container", format!("{container} holds no other objects")));
            }
            let types: Vec<String> = call.args.texts("type").map(str::to_owned).collect();
            if let Some(wrong) = types.iter().find(|kind| schema().managed_type(kind).is_none()) {
                return Err(VimFault::invalid_argument("type", format!("{wrong:?} is not a managed type")));
            }
            let recursive = call.args.boolean("recursive") == Some(true);
            create(world, View { session, holds: Holds::Container { container, types, recursive } })
        }
        "CreateListView" => {
            let objects = given(world, call, "obj")?;
            create(world, View { session, holds: Holds::List(objects) })
        }
        "CreateListViewFromView" => {
            let objects = contents(world, call.reference("view")?)?;
            create(world, View { session, holds: Holds::List(objects) })
        }
        "DestroyView" => {
            own(world, call, &session)?;
            world.views.remove(call.this.id.as_ref());
            world.forget(&call.this);
            world.touch_topology();
            Ok(Reply::Nothing)
        }
        "ModifyListView" => {
            let add = given(world, call, "add")?;
            let remove: Vec<Ref> = call.args.references("remove").cloned().collect();
            change(world, call, &session, |objects| {
                let unresolved = remove.iter().filter(|gone| !objects.contains(gone)).cloned().collect::<Vec<_>>();
                objects.retain(|object| !remove.contains(object));
                add.iter().for_each(|new| {
                    if !objects.contains(new) {
                        objects.push(new.clone())
                    }
                });
                unresolved
            })
        }
        "ResetListView" => {
            let objects = given(world, call, "obj")?;
            change(world, call, &session, |list| {
                *list = objects;
                Vec::new()
            })
        }
        "ResetListViewFromView" => {
            let objects = contents(world, call.reference("view")?)?;
            change(world, call, &session, |list| {
                *list = objects;
                Vec::new()
            })?;
            Ok(Reply::Nothing)
        }
        other => Err(VimFault::not_supported(other)),
    }
}

pub fn property(reader: &Reader<'_>, object: &Ref, name: &str) -> Option<Value> {
    if object.kind == "ViewManager" {
        let own = reader.world.views.iter().filter(|(_, view)| view.session == reader.session);
        return Some(own.map(|(id, view)| Ref::new(view.kind(), id.clone())).collect::<Vec<_>>().into());
    }
    let view = reader.world.views.get(object.id.as_ref())?;
    match (name, &view.holds) {
        ("view", _) => Some(view.objects(reader.world).into()),
        ("container", Holds::Container { container, .. }) => Some(container.into()),
        ("type", Holds::Container { types, .. }) => Some(types.clone().into()),
        ("recursive", Holds::Container { recursive, .. }) => Some((*recursive).into()),
        _ => None,
    }
}

fn create(world: &mut World, view: View) -> Answer {
    if world.views.values().filter(|other| other.session == view.session).count() >= MOST {
        return Err(VimFault::system("this session has too many views"));
    }
    let object = Ref::new(view.kind(), format!("session[{}]{}", view.session, Uuid::new_v4()));
    world.views.insert(object.id.to_string(), view);
    Ok(object.into())
}

fn own<'a>(world: &'a mut World, call: &Call, session: &str) -> Result<&'a mut View, VimFault> {
    let view = world.views.get_mut(call.this.id.as_ref()).filter(|view| view.session == session);
    view.ok_or_else(|| VimFault::not_found(&call.this))
}

fn given(world: &World, call: &Call, name: &str) -> Result<Vec<Ref>, VimFault> {
    call.args.references(name).map(|given| world.find(given).ok_or_else(|| VimFault::not_found(given))).collect()
}

fn contents(world: &World, view: &Ref) -> Result<Vec<Ref>, VimFault> {
    world.views.get(view.id.as_ref()).map(|view| view.objects(world)).ok_or_else(|| VimFault::not_found(view))
}

fn change(world: &mut World, call: &Call, session: &str, change: impl FnOnce(&mut Vec<Ref>) -> Vec<Ref>) -> Answer {
    let unresolved = match &mut own(world, call, session)?.holds {
        Holds::List(objects) => change(objects),
        Holds::Container { .. } => return Err(VimFault::not_supported("a container view is not changed by hand")),
    };
    world.touch_topology();
    world.touch(&call.this);
    Ok(Reply::Value(unresolved.into()))
}
