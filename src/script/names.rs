//! What the chunks of the REPL left behind, for completion: the names of its globals and what kind of thing each is.
//!
//! Looks at raw fields only, so that nothing of a script runs, and at few of them: a script can make a million.

use mlua::{Table, Value as Lv};

use super::handle::HandleId;
use crate::wire::{Known, What};

/// How many names of one table are told.
const MOST: usize = 500;

/// How long a name may be to be told.
const LONGEST: usize = 100;

/// How deep tables are looked into.
const DEPTH: u8 = 2;

/// The names in a table of globals, in order.
pub(super) fn of(globals: &Table) -> Vec<Known> {
    within(globals, DEPTH)
}

fn within(table: &Table, depth: u8) -> Vec<Known> {
    let mut names: Vec<Known> = Vec::new();
    for pair in table.clone().pairs::<Lv, Lv>().take(MOST) {
        // The memory is full: what is known so far is better than nothing.
        let Ok((key, value)) = pair else { break };
        let Lv::String(key) = key else { continue };
        let Ok(name) = key.to_str() else { continue };
        if name.len() <= LONGEST && is_name(&name) {
            names.push(Known { name: name.to_owned(), what: what(&value, depth) });
        }
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    names
}

fn what(value: &Lv, depth: u8) -> What {
    match value {
        Lv::Function(_) => What::Function,
        Lv::UserData(data) => match data.borrow::<HandleId>() {
            Ok(handle) => What::Handle { id: handle.id, kind: handle.kind.clone() },
            Err(_) => What::Other,
        },
        Lv::Table(table) if depth > 0 => {
            let item = table.raw_get::<Lv>(1).ok().filter(|item| !item.is_nil());
            let item = item.map(|item| Box::new(what(&item, depth - 1)));
            What::Table { fields: within(table, depth - 1), item }
        }
        _ => What::Other,
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
