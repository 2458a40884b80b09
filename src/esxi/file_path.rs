//! Where a file lies on a datastore: a path that cannot lead out of it, whatever it was made from.
//!
//! `web-1/web-1.vmdk`, relative to the datastore; empty for its root folder. No part is `.`, `..` or empty, begins or ends with white
//! space (a host trims it and would mean another file), or holds what a host reads as more than a letter of a name. Not a checked
//! object: the datastore is. Specification: vSphere Web Services API, datastore paths.

use std::fmt;

use crate::redact::is_hidden;

use super::error::Error;

/// The longest name of a file, in bytes, and the deepest and longest path: VMFS takes no more.
const LONGEST_NAME: usize = 255;
const LONGEST: usize = 1024;
const DEEPEST: usize = 32;

/// A path inside a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(String);

impl FilePath {
    /// Reads a path such as `isos/debian.iso`; one `/` at the end is left out. Errors: `esxi.invalid_argument`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            let hint = "a path is relative to its datastore, such as isos/debian.iso".to_owned();
            Err(Error::Invalid { reason: format!("{shown:?} is no path on a datastore: {why}"), hint: Some(hint) })
        };
        if text.starts_with('[') {
            return wrong("it names a datastore of its own");
        }
        if text.starts_with('/') {
            return wrong("it begins with a slash");
        }
        if text.len() > LONGEST {
            return wrong("it is longer than 1024 bytes");
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::root());
        }
        for (depth, part) in text.split('/').enumerate() {
            match part {
                _ if depth >= DEEPEST => return wrong("it goes deeper than 32 folders"),
                "" => return wrong("a part of it is empty"),
                "." | ".." => return wrong("it goes up, or stays where it is"),
                part if part.len() > LONGEST_NAME => return wrong("a part of it is longer than 255 bytes"),
                part if part.trim() != part => return wrong("a part of it begins or ends with a space"),
                part if part.chars().any(|c| c.is_control() || is_hidden(c)) => {
                    return wrong("it holds a character that cannot be seen");
                }
                // A host takes the first two for patterns, and the last for another system's slash.
                part if part.contains(['*', '?', '\\']) => return wrong("it holds *, ? or a backslash"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the path of a file or folder that is not the root. Errors: `esxi.invalid_argument`.
    pub fn below_root(text: &str) -> Result<Self, Error> {
        let path = Self::parse(text)?;
        if path.is_root() {
            let hint = Some("name a file or a folder on it".to_owned());
            return Err(Error::Invalid { reason: "the path is the datastore itself".to_owned(), hint });
        }
        Ok(path)
    }

    pub fn root() -> Self {
        Self(String::new())
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The folder that it lies in.
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned()))
    }

    /// The path of something beside it. Errors: `esxi.invalid_argument` where `name` is no name.
    pub(super) fn beside(&self, name: &str) -> Result<Self, Error> {
        let parent = self.parent();
        if parent.is_root() { Self::parse(name) } else { Self::parse(&format!("{}/{name}", parent.0)) }
    }

    /// Whether this is the other path, or lies in that folder.
    pub fn is_in(&self, other: &Self) -> bool {
        let rest = self.0.strip_prefix(&other.0);
        other.is_root() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// As the API writes it: `[datastore1] web-1/web-1.vmdk`.
    pub fn on(&self, datastore: &str) -> String {
        super::files::path(datastore, &self.0)
    }

    /// What its name says of a part in a virtual disk.
    pub(super) fn role(&self) -> Role {
        let Some(stem) = self.name().strip_suffix(".vmdk") else { return Role::File };
        let extents = ["-flat", "-delta", "-sesparse", "-rdm", "-rdmp", "-ctk"];
        match extents.iter().find_map(|extent| stem.strip_suffix(extent)) {
            Some(disk) if !disk.is_empty() => Role::PartOf(format!("{disk}.vmdk")),
            _ => Role::Disk,
        }
    }
}

/// What a file is, by its name: a disk is more than one file, and they go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    File,
    /// The descriptor of a disk.
    Disk,
    /// Content of the disk whose descriptor has this name.
    PartOf(String),
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_on_its_datastore() {
        for (text, read) in [("a/b.iso", "a/b.iso"), ("", ""), ("a b/é%2f..x", "a b/é%2f..x"), ("folder/", "folder")]
        {
            assert_eq!(FilePath::parse(text).unwrap().as_str(), read);
        }
        let (long, deep, huge) = ("x".repeat(256), "a/".repeat(40), "aaaa/".repeat(300));
        for wrong in [
            "..",
            "../x",
            "a/../x",
            "a/..",
            ".",
            "a/./b",
            "/a",
            "//",
            "a//b",
            "[other] a",
            "[datastore1]",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            "a\\b",
            "*.iso",
            "a?",
            " a",
            "a /b",
            "a/ b",
            &long,
            &deep,
            &huge,
        ] {
            assert_eq!(FilePath::parse(wrong).unwrap_err().kind(), "esxi.invalid_argument", "{wrong:?}");
        }
        assert!(FilePath::parse(&"x".repeat(255)).is_ok());
        assert!(FilePath::below_root("").is_err());
    }

    #[test]
    fn what_lies_in_a_folder_is_told_by_whole_names() {
        let path = |text| FilePath::parse(text).unwrap();
        assert!(
            path("web/a").is_in(&path("web")) && path("web").is_in(&path("web")) && path("x").is_in(&FilePath::root())
        );
        assert!(!path("web-1/a").is_in(&path("web")) && !path("web").is_in(&path("web/a")));
        assert_eq!((path("a/b/c").parent(), path("a").parent()), (path("a/b"), FilePath::root()));
    }

    #[test]
    fn the_files_of_a_disk_are_told_by_their_names() {
        let role = |text| FilePath::parse(text).unwrap().role();
        assert_eq!(role("a/web.vmdk"), Role::Disk);
        assert_eq!(role("a/web-000001.vmdk"), Role::Disk);
        assert_eq!(role("a/web-flat.vmdk"), Role::PartOf("web.vmdk".to_owned()));
        assert_eq!(role("a/web-000001-sesparse.vmdk"), Role::PartOf("web-000001.vmdk".to_owned()));
        assert_eq!(role("-flat.vmdk"), Role::Disk);
        assert_eq!(role("a/web.vmx"), Role::File);
    }
}
