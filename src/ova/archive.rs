//! An OVA as an index: which members it has, where each lies and how long it is. Nothing of their content is read here.

use std::io::{Read, Seek};

use super::{Error, is_plain};

/// The most members: a machine has its disks and a few small files.
const MOST: usize = 256;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// Where its content begins.
    pub at: u64,
    pub length: u64,
}

/// Reads the index of an archive of that length.
///
/// Errors: links, folders and devices, names that are not a plain file's, a name that comes twice, an archive that is cut off, and one
/// whose first member is not the descriptor.
pub fn index(archive: impl Read + Seek, length: u64) -> Result<Vec<Member>, Error> {
    let mut archive = tar::Archive::new(archive);
    let broken = |error: std::io::Error| Error::Form(format!("the archive cannot be read: {error}"));
    let mut members: Vec<Member> = Vec::new();
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let bytes = entry.path_bytes();
        let name = std::str::from_utf8(&bytes).map_err(|_| Error::Form("a member's name is not UTF-8".to_owned()))?;
        let name = name.strip_prefix("./").unwrap_or(name).to_owned();
        let kind = entry.header().entry_type();
        if !matches!(kind, tar::EntryType::Regular | tar::EntryType::Continuous) {
            return Err(Error::member(&name, "it is not an ordinary file"));
        }
        if !is_plain(&name) {
            return Err(Error::member(&name, "it is not the name of a plain file"));
        }
        if members.iter().any(|member| member.name.eq_ignore_ascii_case(&name)) {
            return Err(Error::member(&name, "it comes twice"));
        }
        let member = Member { name, at: entry.raw_file_position(), length: entry.size() };
        if member.at.checked_add(member.length).is_none_or(|end| end > length) {
            return Err(Error::member(&member.name, "the archive ends before it does"));
        }
        members.push(member);
        if members.len() > MOST {
            return Err(Error::Form(format!("it has more than {MOST} members")));
        }
    }
    match members.first() {
        Some(first) if first.name.to_ascii_lowercase().ends_with(".ovf") => Ok(members),
        Some(first) => Err(Error::member(&first.name, "the first member of an archive is its .ovf")),
        None => Err(Error::Form("the archive is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_ustar();
            // Past the crate's own checks of a path.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Member>, Error> {
        index(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn members_are_found_where_they_lie() {
        use tar::EntryType::Regular;
        let bytes =
            archive(&[("a.ovf", Regular, b"<x/>"), ("a.mf", Regular, b""), ("a-disk1.vmdk", Regular, &[7; 1000])]);
        let members = read(&bytes).unwrap();
        let disk = &members[2];
        assert_eq!((disk.name.as_str(), disk.length), ("a-disk1.vmdk", 1000));
        assert!(bytes[disk.at as usize..][..1000].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_no_appliance_needs_is_refused() {
        use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
        let ovf: (&str, tar::EntryType, &[u8]) = ("a.ovf", Regular, b"<x/>");
        for name in ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\nb", ".hidden", "a.ovf", "A.OVF"] {
            assert!(read(&archive(&[ovf, (name, Regular, b"x")])).is_err(), "{name:?}");
        }
        for kind in [Symlink, Link, Directory, Char, Block, Fifo] {
            assert!(read(&archive(&[ovf, ("x", kind, b"")])).is_err(), "{kind:?}");
        }
        assert!(read(&archive(&[("a.vmdk", Regular, b"x"), ovf])).is_err());
        for bytes in [&b""[..], b"junk", &[0; 1024], &[0xff; 4096]] {
            assert!(read(bytes).is_err());
        }
        let whole = archive(&[ovf, ("a.vmdk", Regular, &[1; 5000])]);
        assert!(read(&whole[..2500]).is_err(), "cut off");
        let mut huge = whole.clone();
        // A length of 8 GiB less one in the second header.
        huge[1024 + 124..][..11].copy_from_slice(b"77777777777");
        assert!(read(&huge).is_err());
        let many: Vec<String> = (0..300).map(|n| format!("f{n}")).collect();
        let many: Vec<_> =
            std::iter::once(ovf).chain(many.iter().map(|name| (name.as_str(), Regular, &b""[..]))).collect();
        assert!(read(&archive(&many)).is_err());
    }
}
