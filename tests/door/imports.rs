//! The rooms' one rule: imports go down. And only the door vouches for an object, or asks a client to look one up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each room and what it may import.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("redact", &[]),
    ("units", &["error"]),
    ("inventory", &["error"]),
    ("ova", &["error", "redact", "xml"]),
    ("web", &["error", "redact", "units"]),
    ("xml", &["error"]),
    ("vmdk", &["error"]),
    ("metrics", &["error"]),
    ("config", &["error", "redact", "units"]),
    ("wire", &["error", "units", "config"]),
    ("esxi", &["error", "metrics", "redact", "units", "vmdk", "web", "xml", "config::Fingerprint"]),
    ("cloudinit", &["error", "redact", "units"]),
    ("audit", &["error", "metrics", "redact", "units"]),
    ("backup", &["error", "units", "vmdk"]),
    ("catalog", &["error", "units"]),
    (
        "door",
        &[
            "error",
            "metrics",
            "redact",
            "units",
            "web",
            "wire",
            "config",
            "esxi",
            "cloudinit",
            "audit",
            "backup",
            "catalog",
        ],
    ),
    (
        "ops",
        &[
            "error",
            "inventory",
            "ova",
            "redact",
            "units",
            "vmdk",
            "web",
            "wire",
            "config",
            "esxi",
            "cloudinit",
            "backup",
            "catalog",
            "door",
        ],
    ),
    ("script", &["error", "units", "wire", "config", "ops", "door::operation"]),
    (
        "run",
        &["error", "metrics", "redact", "units", "web", "wire", "config", "esxi", "audit", "door", "ops", "script"],
    ),
    ("sim", &["error", "inventory", "units", "vmdk", "xml"]),
    (
        "cli",
        &[
            "catalog",
            "error",
            "inventory",
            "metrics",
            "redact",
            "units",
            "wire",
            "config",
            "esxi",
            "audit",
            "door",
            "ops",
            "run",
            "sim",
            "script",
        ],
    ),
    ("main", &["cli", "script"]),
];

fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.clone(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// The room of a file: its first folder under `src`, or its own name.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The paths that a source names in this crate: `esxi::checked`, `door`, …, also out of `use crate::{a, b}`.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("ceso::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$' || c == '"') {
            continue;
        }
        let rest = &code[at..];
        let rest = &rest[rest.find("::").unwrap() + 2..];
        if let Some(group) = rest.strip_prefix('{') {
            let inner = &group[..group.find(';').unwrap_or(group.len())];
            let mut depth = 0;
            let mut word = String::new();
            for c in inner.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut word).trim().to_owned()),
                    c if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            found.push(word.trim().to_owned());
        } else {
            let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            found.push(path);
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let own = room(&path);
        if own == "lib" {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == own) else {
            wrong.push(format!("{}: the room {own} is not in the list of rooms", path.display()));
            continue;
        };
        for import in imports(&text) {
            let target = import.split("::").next().unwrap();
            let fits = target == own
                || !ROOMS.iter().any(|(name, _)| *name == target)
                || allowed
                    .iter()
                    .any(|path| [target, import.as_str()].contains(path) || import.starts_with(&format!("{path}::")));
            if !fits {
                wrong.push(format!("{}: {own} may not import {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_test_of_imports_can_fail() {
    let text =
        "use crate::{esxi::Host, door::{Door, Grant}, units};\nlet x = crate::run::connect::open();\n// crate::cli\n";
    assert_eq!(imports(text), ["esxi::Host", "door::", "units", "run::connect::open"]);
}

#[test]
fn only_the_door_vouches_for_objects_and_looks_them_up() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let own = room(&path);
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in
            ["by_the_door(", ".lookup_host(", ".lookup_vm(", ".lookup_vms(", ".lookup_datastores(", ".lookup_networks("]
        {
            let declares = own == "esxi";
            if code.contains(word) && own != "door" && !declares {
                wrong.push(format!("{}: calls {word}…)", path.display()));
            }
        }
        for word in ["Repository::open(", "Repository::init("] {
            if code.contains(word) && !["door", "backup"].contains(&own.as_str()) {
                wrong.push(format!("{}: calls {word}…)", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
