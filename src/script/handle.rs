//! Handles as a script has them: opaque objects that only the parent gives out.
//!
//! A handle is userdata with the parent's number inside; its readable fields lie in a table that the prelude keeps beside it, its
//! methods come from the declarations. How it behaves (unknown members, equality, text) is written in `prelude.luau`.

use mlua::{Lua, Table, UserData, UserDataFields, UserDataRegistry, Value};

use super::value;
use crate::wire::Handle;

/// What a handle's userdata holds.
pub(super) struct HandleId {
    pub(super) id: u32,
    pub(super) kind: String,
}

/// The prelude's metamethods for handles, and its table from a handle to what can be read of it.
pub(super) struct Behaviour {
    pub(super) meta: Table,
    pub(super) about: Table,
}

impl UserData for HandleId {
    fn register(registry: &mut UserDataRegistry<Self>) {
        for name in ["__index", "__newindex", "__eq", "__tostring", "__len", "__iter", "__call", "__type"] {
            registry.add_meta_field_with(name, move |lua| {
                let behaviour = lua
                    .app_data_ref::<Behaviour>()
                    .ok_or_else(|| mlua::Error::runtime("handles were made before the prelude ran"))?;
                behaviour.meta.raw_get::<Value>(name)
            });
        }
    }
}

/// A handle for a script: equal to every other of the same number, its fields as they came with it.
pub(super) fn to_lua(lua: &Lua, handle: Handle) -> mlua::Result<Value> {
    let fields = lua.create_table_with_capacity(0, handle.fields.len() + 1)?;
    // A field without a value is nil to a script, which is not the same as a field that is not there.
    let empty = lua.create_table()?;
    for (key, item) in handle.fields {
        match value::to_lua(lua, item)? {
            Value::Nil => empty.raw_set(key, true)?,
            value => fields.raw_set(key, value)?,
        }
    }
    fields.raw_set("name", handle.name)?;
    let about = lua.create_table_with_capacity(0, 4)?;
    about.raw_set("id", handle.id)?;
    about.raw_set("kind", handle.kind.as_str())?;
    about.raw_set("fields", fields)?;
    about.raw_set("empty", empty)?;
    let data = lua.create_userdata(HandleId { id: handle.id, kind: handle.kind })?;
    let keep = {
        let behaviour = lua
            .app_data_ref::<Behaviour>()
            .ok_or_else(|| mlua::Error::runtime("handles were made before the prelude ran"))?;
        behaviour.about.clone()
    };
    keep.raw_set(&data, about)?;
    Ok(Value::UserData(data))
}
