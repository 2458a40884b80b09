//! Folders of a vCenter's inventory, and the paths of what lies in them.
//!
//! A standalone host has no folders of its own making, so nothing here is asked of one. Names are kept as the API writes them, with
//! `%`, `/` and `\` escaped, so that a path has as many parts as it has folders.
//! Specification: vSphere Web Services API, `ManagedEntity.parent`, `Folder`.

use std::collections::HashMap;

use super::lookup::unescape;
use super::moref::MoRef;
use super::property::Object;

/// What a path is made of; read of folders and of what lies in them.
pub(super) const IN_TREE: &[&str] = &["name", "parent"];

/// Deeper than anybody makes folders: a server whose folders lie in each other is not followed for ever.
const DEEPEST: usize = 64;

/// Folders and datacenters by reference, each with its name and what it lies in.
pub(super) struct Tree<'a> {
    known: HashMap<&'a MoRef, (&'a str, Option<MoRef>)>,
}

impl<'a> Tree<'a> {
    /// The folders and datacenters among objects that were read with [`IN_TREE`].
    pub(super) fn of(objects: &'a [Object]) -> Self {
        let holds = objects.iter().filter(|object| matches!(object.moref.kind.as_str(), "Folder" | "Datacenter"));
        let entry =
            |object: &'a Object| (&object.moref, (object.text("name").unwrap_or_default(), object.reference("parent")));
        Self { known: holds.map(entry).collect() }
    }

    /// The names from the first folder that is known down to this one, as the API writes them.
    pub(super) fn path(&self, object: &MoRef) -> Vec<&'a str> {
        self.climb(object, |_| false)
    }

    /// The folder of machines that an object lies in, from below the datacenter's own: `Some("")` for that one, `prod/web`; `None`
    /// where it lies in none.
    pub(super) fn vm_folder(&self, parent: Option<&MoRef>) -> Option<String> {
        let parent = parent.filter(|parent| self.known.contains_key(parent))?;
        let is_top = |over: Option<&MoRef>| over.is_none_or(|over| over.kind == "Datacenter");
        let names = self.climb(parent, is_top);
        Some(names.into_iter().map(unescape).collect::<Vec<_>>().join("/"))
    }

    /// The names up from an object, the topmost first; what `ends` says of an object's parent leaves it and all above out.
    fn climb(&self, object: &MoRef, ends: impl Fn(Option<&MoRef>) -> bool) -> Vec<&'a str> {
        let mut names = Vec::new();
        let mut at = self.known.get(object);
        while let Some((name, parent)) = at.filter(|(_, parent)| !ends(parent.as_ref())) {
            names.push(*name);
            if names.len() >= DEEPEST {
                break;
            }
            at = parent.as_ref().and_then(|parent| self.known.get(parent));
        }
        names.reverse();
        names
    }
}
