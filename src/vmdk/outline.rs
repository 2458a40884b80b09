//! The names in the descriptor of whatever disk, deltas of a datastore too: what else a disk is made of. Nothing of it is opened or believed.

use super::descriptor::Descriptor;

/// The parent's CID of a disk that has none.
const NO_PARENT: &str = "ffffffff";

/// What a descriptor names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The files that hold its content; plain names, which lie beside it.
    pub extents: Vec<String>,
    /// The map of its changes, where it has one; a plain name too.
    pub change_map: Option<String>,
    /// Whether it holds only what differs from another disk.
    pub has_parent: bool,
}

impl Outline {
    /// Reads a descriptor; nothing where it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if !Descriptor::is_one(bytes) {
            return None;
        }
        let text = String::from_utf8_lossy(bytes);
        let lines = || text.lines().map(str::trim);
        let value = |name: &str| {
            let values = lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim() == name);
            values.map(|(_, value)| value.trim().trim_matches('"')).find(|value| !value.is_empty())
        };
        let plain = |name: &&str| !name.is_empty() && !name.contains(['/', '\\']) && *name != "." && *name != "..";
        let accesses = ["RW ", "RDONLY ", "NOACCESS "];
        let extents = lines().filter(|line| accesses.iter().any(|access| line.starts_with(access)));
        let extents = extents.filter_map(|line| line.split('"').nth(1)).filter(plain).map(str::to_owned).collect();
        let has_parent = value("parentCID").is_some_and(|cid| !cid.eq_ignore_ascii_case(NO_PARENT));
        Some(Self { extents, change_map: value("changeTrackPath").filter(plain).map(str::to_owned), has_parent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_is_made_of_is_read_out_of_its_descriptor_and_lies_beside_it() {
        let child = "# Disk DescriptorFile\nCID=1\nparentCID=fffffffe\ncreateType=\"vmfsSparse\"\nparentFileNameHint=\"../a/a.vmdk\"\n\
                     RW 8 VMFSSPARSE \"b-delta.vmdk\"\nRW 8 VMFSSPARSE \"b 2.vmdk\" 0\nchangeTrackPath=\"b-ctk.vmdk\"\n";
        let read = Outline::read(child.as_bytes()).unwrap();
        assert_eq!((read.extents.concat().as_str(), read.has_parent), ("b-delta.vmdkb 2.vmdk", true));
        assert_eq!(read.change_map.as_deref(), Some("b-ctk.vmdk"));
        let base =
            child.replace("=fffffffe", "=FFFFFFFF").replace("b-delta", "../a/a-flat").replace("b-ctk", "../b-ctk");
        let read = Outline::read(base.as_bytes()).unwrap();
        assert_eq!((read.extents.concat().as_str(), read.has_parent, read.change_map), ("b 2.vmdk", false, None));
        for other in ["", "KDMV", "parentCID=1\nRW 8 FLAT \"x\""] {
            assert_eq!(Outline::read(other.as_bytes()), None, "{other}");
        }
    }
}
