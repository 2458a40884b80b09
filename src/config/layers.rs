//! Layers put one over another, and for each value which layer it came from.
//!
//! Sections and named entries are merged key by key; a value, a list or a trust is replaced as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::schema::{self, Shape, join};

/// Where a value came from; ordered from the weakest layer to the strongest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The administrator's file.
    System(PathBuf),
    /// The user's own file, or hosts.yaml.
    User(PathBuf),
    /// The project's file.
    Project(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::System(path) | Self::User(path) => write!(f, "{}", path.display()),
            Self::Project(path) => write!(f, "{} (project)", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The merged value tree and the origin of each of its values.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    tree: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Puts a checked layer over what is there.
    pub fn put(&mut self, layer: &Map<String, Value>, origin: &Origin) {
        merge(&mut self.tree, layer, &schema::DECLARATION, "", &mut |path| {
            self.origins.insert(path.to_owned(), origin.clone());
        });
    }

    pub fn tree(&self) -> &Map<String, Value> {
        &self.tree
    }

    /// The origin of the value at a dotted path; built in where no layer sets it.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }
}

fn merge(
    into: &mut Map<String, Value>,
    layer: &Map<String, Value>,
    schema: &Value,
    path: &str,
    set: &mut dyn FnMut(&str),
) {
    for (key, value) in layer {
        let here = join(path, key);
        let inner = match shape_of(schema, key) {
            Some(inner) => inner,
            None => continue,
        };
        match (schema::shape(inner), value) {
            (Shape::Section(_) | Shape::Named(_), Value::Object(map)) => {
                let below = into.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(below) = below {
                    merge(below, map, inner, &here, set);
                }
            }
            _ => {
                into.insert(key.clone(), value.clone());
                set(&here);
            }
        }
    }
}

fn shape_of<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    match schema::shape(schema) {
        Shape::Section(properties) => properties.get(key),
        Shape::Named(entry) => Some(entry),
        Shape::Leaf(_) => None,
    }
}
