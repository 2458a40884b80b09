//! Datastore paths: `[datastore1] web-1/web-1.vmdk`, checked before they reach the file system.
//!
//! A path that has been parsed cannot leave the datastore's folder by its text; `Datastore::resolve` refuses links on the way.

use std::fmt;

use super::NAME;
use crate::sim::fault::VimFault;

/// A path inside the one datastore. No parts: its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastorePath {
    parts: Vec<String>,
}

impl DatastorePath {
    /// Reads `[datastore1] a/b`; another datastore is `InvalidDatastore`, anything else that is no path `InvalidDatastorePath`.
    pub fn parse(text: &str) -> Result<Self, VimFault> {
        let wrong = || {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            VimFault::new("InvalidDatastorePath", format!("Invalid datastore path '{shown}'."))
                .with("datastorePath", shown)
        };
        let (name, rest) = text.trim().strip_prefix('[').and_then(|text| text.split_once(']')).ok_or_else(wrong)?;
        if name != NAME {
            let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(
                VimFault::new("InvalidDatastore", format!("There is no datastore '{name}'.")).with("name", name)
            );
        }
        Self::inside(rest.trim()).ok_or_else(wrong)
    }

    /// Reads the part of a path behind the datastore's name; `None` where it leads out or cannot be a file's name.
    pub fn inside(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let bad = part == ".." || part.len() > 255 || part.chars().any(|c| c.is_control() || c == '\\');
            if bad || parts.len() >= 32 {
                return None;
            }
            parts.push(part.to_owned());
        }
        Some(Self { parts })
    }

    pub fn root() -> Self {
        Self { parts: Vec::new() }
    }

    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    pub fn is_root(&self) -> bool {
        self.parts.is_empty()
    }

    /// The last part; empty for the root.
    pub fn name(&self) -> &str {
        self.parts.last().map_or("", String::as_str)
    }

    pub fn parent(&self) -> Self {
        Self { parts: self.parts.get(..self.parts.len().saturating_sub(1)).unwrap_or_default().to_vec() }
    }

    /// The path of a file in this folder. The name must be a single part.
    pub fn join(&self, name: &str) -> Self {
        Self { parts: self.parts.iter().cloned().chain([name.to_owned()]).collect() }
    }

    /// The path that a name like `../a/a.vmdk` means in this folder; `None` where it leads out of the datastore.
    pub fn relative(&self, name: &str) -> Option<Self> {
        if name.starts_with('/') {
            return None;
        }
        let mut parts = self.parts.clone();
        for part in name.split('/') {
            match part {
                ".." => parts.pop().map(|_| ())?,
                part => parts.extend(Self::inside(part)?.parts),
            }
        }
        Self::inside(&parts.join("/"))
    }

    /// How a file at this path is named from another folder: `a.vmdk`, `../a/a.vmdk`.
    pub fn seen_from(&self, folder: &Self) -> String {
        let shared = self.parent().parts.iter().zip(&folder.parts).take_while(|(own, other)| own == other).count();
        let up = std::iter::repeat_n("..", folder.parts.len() - shared);
        let down = self.parts.iter().skip(shared).map(String::as_str);
        up.chain(down).collect::<Vec<_>>().join("/")
    }

    /// Whether this is the other path or lies below it.
    pub fn is_below(&self, other: &Self) -> bool {
        self.parts.starts_with(&other.parts)
    }
}

impl fmt::Display for DatastorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{NAME}] {}", self.parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_from_another_folder_and_found_again() {
        let path = |text: &str| DatastorePath::inside(text).unwrap();
        for (file, folder, name) in [
            ("a/a.vmdk", "a", "a.vmdk"),
            ("a/a.vmdk", "b", "../a/a.vmdk"),
            ("a/x/a.vmdk", "a/y/z", "../../x/a.vmdk"),
            ("a.vmdk", "a", "../a.vmdk"),
            ("a/a.vmdk", "", "a/a.vmdk"),
        ] {
            assert_eq!(path(file).seen_from(&path(folder)), name);
            assert_eq!(path(folder).relative(name), Some(path(file)));
        }
        assert_eq!(path("a").relative("../../x"), None);
        assert_eq!(path("a").relative("/x"), None);
    }

    #[test]
    fn a_path_stays_in_the_datastore() {
        assert_eq!(DatastorePath::parse("[datastore1] a/b.vmdk").unwrap().to_string(), "[datastore1] a/b.vmdk");
        assert_eq!(DatastorePath::parse("[datastore1]a//b").unwrap().to_string(), "[datastore1] a/b");
        assert!(DatastorePath::parse("[datastore1]").unwrap().is_root());
        assert!(DatastorePath::parse("[datastore1] .").unwrap().is_root(), "govc names the root so");
        for wrong in [
            "",
            "a/b",
            "[datastore1",
            "[datastore1] ../x",
            "[datastore1] a/../../x",
            "[datastore1] a/\0",
            "[datastore1] a\\b",
        ] {
            assert_eq!(DatastorePath::parse(wrong).unwrap_err().data.kind, "InvalidDatastorePath", "{wrong:?}");
        }
        assert_eq!(DatastorePath::parse("[other] a").unwrap_err().data.kind, "InvalidDatastore");
        let long = format!("[datastore1] {}", "x".repeat(300));
        assert!(DatastorePath::parse(&long).is_err());
    }
}
