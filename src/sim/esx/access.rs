//! Who may do what: the roles of a host, its permissions and its users, as far as they can be read.
//!
//! There is one user, the one that the simulator was started with, and it is the administrator, or one that lacks a few privileges. Specification: vSphere Web Services API,
//! `AuthorizationManager`, `UserDirectory`.

use super::{ROOT_FOLDER, host};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::world::World;

/// The roles that every host has beside the administrator's: number, name, what they are for, what they may.
const ROLES: [(i32, &str, &str, &[&str]); 2] = [
    (
        -2,
        "ReadOnly",
        "See details of objects, but not make changes",
        &["System.Anonymous", "System.Read", "System.View"],
    ),
    (-5, "NoAccess", "Used for restricting granted access", &[]),
];

pub fn property(world: &World, kind: &str, property: &str) -> Option<Value> {
    match (kind, property) {
        ("AuthorizationManager", "roleList") => {
            let roles = ROLES.iter().map(|(id, name, summary, privileges)| {
                let info = Data::new("Description").with("label", *name).with("summary", *summary);
                Data::new("AuthorizationRole")
                    .with("roleId", *id)
                    .with("system", true)
                    .with("name", *name)
                    .with("info", info)
                    .with("privilege", privileges.to_vec())
            });
            let limited = world.hindrances.limited();
            Some(std::iter::once(host::administrator()).chain(roles).chain(limited).collect::<Vec<_>>().into())
        }
        ("UserDirectory", "domainList") => Some(Value::List(Vec::new())),
        _ => None,
    }
}

/// The one permission that there is: the user's, on everything.
pub fn permission(world: &World, user: &str) -> Data {
    Data::new("Permission")
        .with("entity", ROOT_FOLDER)
        .with("principal", user.to_owned())
        .with("group", false)
        .with("roleId", world.hindrances.role())
        .with("propagate", true)
}

pub fn call(world: &World, call: &Call) -> Answer {
    let user = call.host.options.username.as_str();
    let own = |holds: bool| if holds { vec![permission(world, user)] } else { Vec::new() };
    let found = |given: &Ref| world.find(given).ok_or_else(|| VimFault::not_found(given));
    match call.method {
        "RetrieveAllPermissions" => Ok(Reply::Value(own(true).into())),
        "RetrieveEntityPermissions" => {
            let entity = found(call.reference("entity")?)?;
            let inherited = call.args.boolean("inherited") == Some(true);
            Ok(Reply::Value(own(entity == ROOT_FOLDER || inherited).into()))
        }
        "RetrieveRolePermissions" => match call.args.int("roleId") {
            Some(role) if role == world.hindrances.role() => Ok(Reply::Value(own(true).into())),
            Some(-1) => Ok(Reply::Value(own(false).into())),
            Some(role) if ROLES.iter().any(|(own, ..)| *own == role) => Ok(Reply::Value(own(false).into())),
            _ => Err(VimFault::new("NotFound", "There is no such role.")),
        },
        "HasPrivilegeOnEntity" => {
            found(call.reference("entity")?)?;
            let all = live(world, call)?;
            let holds = |id: &str| Value::Bool(all && world.hindrances.grants(id));
            Ok(Reply::Value(call.args.texts("privId").map(holds).collect::<Vec<_>>().into()))
        }
        "HasPrivilegeOnEntities" | "HasUserPrivilegeOnEntities" => {
            let all = if call.method == "HasPrivilegeOnEntities" {
                live(world, call)?
            } else {
                call.text("userName")? == user
            };
            let name = if call.method == "HasPrivilegeOnEntities" { "entity" } else { "entities" };
            let mut told = Vec::new();
            for given in call.args.references(name) {
                let each = call.args.texts("privId").map(|id| {
                    let granted = all && world.hindrances.grants(id);
                    Data::new("PrivilegeAvailability").with("privId", id.to_owned()).with("isGranted", granted)
                });
                let each: Vec<Data> = each.collect();
                told.push(Data::new("EntityPrivilege").with("entity", found(given)?).with("privAvailability", each));
            }
            Ok(Reply::Value(told.into()))
        }
        "RetrieveUserGroups" => {
            let wanted = call.text("searchStr")?.to_lowercase();
            let exact = call.args.boolean("exactMatch") == Some(true);
            let asked = call.args.boolean("findUsers") == Some(true)
                && call.args.text("belongsToGroup").is_none_or(str::is_empty)
                && call.args.text("domain").is_none_or(str::is_empty);
            let name = user.to_lowercase();
            let fits = asked && if exact { name == wanted } else { name.contains(&wanted) };
            let one = Data::new("PosixUserSearchResult")
                .with("principal", user.to_owned())
                .with("fullName", "Administrator")
                .with("group", false)
                .with("id", 0)
                .with("shellAccess", true);
            Ok(Reply::Value(if fits { vec![one] } else { Vec::new() }.into()))
        }
        _ => Err(VimFault::not_supported(format!("{}: the simulator has one user and its permission", call.method))),
    }
}

/// Whether the session that is asked about is one.
fn live(world: &World, call: &Call) -> Result<bool, VimFault> {
    match world.sessions.by_key(call.text("sessionId")?) {
        Some(_) => Ok(true),
        None => Err(VimFault::new("NotAuthenticated", "There is no such session.")
            .with("object", ROOT_FOLDER)
            .with("privilegeId", "System.View")),
    }
}
