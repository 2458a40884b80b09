//! Managed object references: the host's own names for its objects.
//!
//! A reference is what the host says it is; it is compared and sent back, never taken apart. A script never sees one.
//! Specification: vSphere Web Services API, `ManagedObjectReference`.

use std::fmt;

use crate::xml::Element;

/// The host's name for an object: a type and an opaque value, such as `VirtualMachine:12`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MoRef {
    /// The managed object type, such as `VirtualMachine`.
    pub kind: String,
    /// The value, unique for that type on that host.
    pub id: String,
}

impl MoRef {
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }

    /// Reads a reference out of an element such as `<obj type="VirtualMachine">12</obj>`.
    pub(super) fn read(element: &Element) -> Option<Self> {
        let kind = element.get("type")?;
        let id = element.text.trim();
        (!kind.is_empty() && !id.is_empty()).then(|| Self::new(kind, id))
    }

    /// The reference as an element of that name.
    pub(super) fn element(&self, name: &str) -> Element {
        Element::leaf(name, &self.id).attribute("type", &self.kind)
    }

    /// The reads of a list `<val><ManagedObjectReference type=…>…`.
    pub(super) fn read_list(list: &Element) -> Vec<Self> {
        list.children.iter().filter_map(Self::read).collect()
    }
}

impl fmt::Display for MoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}
