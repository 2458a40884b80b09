//! What ceso does to a host, family by family, beside the way of govc and of pyVmomi, and the tests that prove each.
//!
//! A family without a test of a program that is not ours says so, and a test of the sources fails on a name that no test has, and on an
//! operation of hosts that no family holds.

use super::families::FAMILIES;
use super::page::Block;

use Block::{Heading, Rows, Text};

/// The table as pages of the reference.
pub fn pages(level: usize) -> Vec<Block> {
    let rows = FAMILIES.iter().map(|family| {
        let own = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let peers = family.peers();
        vec![
            family.name.to_owned(),
            own(family.operations),
            family.govc.to_owned(),
            family.pyvmomi.to_owned(),
            if peers.is_empty() { "none".to_owned() } else { peers.join(", ") },
            own(family.tests),
            family.real_host.unwrap_or_default().to_owned(),
        ]
    });
    vec![
        Heading(level, "Held against other programs".to_owned()),
        Text(
            "Each family of what ceso does to a host, beside the way of govc and of pyVmomi, with the programs that its tests are held \
             against and the tests that prove it. vcsim is a host that ceso's client is tried on; govc and pyVmomi are clients that \
             ceso's simulator is tried with; qemu-img reads and writes the disks. The last column says what no program can judge, only \
             a real host."
                .to_owned(),
        ),
        Rows(
            vec!["family", "operations", "govc", "pyVmomi", "held against", "tests", "only a real host can judge"],
            rows.collect(),
        ),
        Text(
            "Of govc's own tests for ESXi hosts the simulator fails those that ask for something else than a host: two want vcsim's names \
             of machines, one vcsim's words for a refused login, and three a form of govc's own commands that govc has given up. What the \
             simulator leaves out it refuses: roles and accounts beyond its one user, licence keys beyond the evaluation's, a second \
             switch, the console behind a ticket, the setting of the clock."
                .to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;

    /// The names of all functions under a folder of sources that an attribute makes tests, each with what it needs that is not there
    /// by itself.
    fn tests_under(folder: &Path, found: &mut HashMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                tests_under(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let (mut marked, mut needs) = (false, String::new());
                for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim) {
                    if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                        (marked, needs) = (true, String::new());
                    } else if let Some(what) = line.strip_prefix("#[ignore = \"needs ") {
                        what.trim_end_matches("\"]").clone_into(&mut needs);
                    } else if let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
                        if marked && let Some((name, _)) = rest.split_once('(') {
                            found.insert(name.to_owned(), std::mem::take(&mut needs));
                        }
                        marked = false;
                    }
                }
            }
        }
    }

    #[test]
    fn every_family_names_tests_that_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut known = HashMap::new();
        tests_under(&root.join("src"), &mut known);
        tests_under(&root.join("tests"), &mut known);
        for family in FAMILIES {
            assert!(!family.tests.is_empty(), "{}: no test proves it", family.name);
            for test in family.tests {
                let needs = known.get(*test).unwrap_or_else(|| panic!("{}: there is no test {test}", family.name));
                // What a name begins with is the peer that the test cannot be run without, and no other name has one.
                let peer = [("vcsim_", "vcsim"), ("govc_", "govc"), ("pyvmomi_", "pyvmomi"), ("qemu_img_", "qemu-img")];
                let named = peer.iter().find(|(prefix, _)| test.starts_with(prefix)).map(|(_, peer)| *peer);
                assert!(
                    named.map_or(needs.is_empty(), |peer| needs.to_lowercase().contains(peer)),
                    "{}: {test} needs {needs:?}",
                    family.name
                );
            }
            assert!(!family.peers().is_empty() || family.real_host.is_some(), "{}: ceso alone judges it", family.name);
        }
    }

    #[test]
    fn every_operation_of_a_host_is_of_one_family() {
        // These nouns are of this machine: their peers stand in chapters of their own.
        let elsewhere = ["catalog", "cloudinit", "document", "image", "repository", "test"];
        for operation in crate::ops::all() {
            let families = FAMILIES.iter().filter(|family| family.operations.contains(&operation.name)).count();
            let noun = operation.name.split('.').next().unwrap_or_default();
            let wanted = usize::from(!elsewhere.contains(&noun));
            assert_eq!(families, wanted, "{}: name it in one family of src/ops/reference/families.rs", operation.name);
        }
        for name in FAMILIES.iter().flat_map(|family| family.operations) {
            assert!(crate::ops::find(name).is_some(), "{name}: there is no such operation");
        }
    }
}
