//! An OVA as its members, front to back: which there are, where each lies, how long it is.
//!
//! Whoever wrote the archive is not trusted: links, folders, devices and names that lead elsewhere are refused where they stand, and
//! what an archive says of a member's name or length in members of its own is read up to a few KiB, never as long as it says.
//! Specification: POSIX ustar and pax, the long names and lengths of GNU tar.

use std::io::{Read, Seek, SeekFrom};

use super::{Error, is_plain};

/// The most members: a machine has its disks and a few small files.
const MOST: usize = 256;
const BLOCK: u64 = 512;
/// The most that an archive may say of one member beside its header.
const LONGEST_EXTRA: u64 = 64 << 10;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// Where its content begins.
    pub at: u64,
    pub length: u64,
}

/// An archive that is gone through.
pub struct Walk<R> {
    from: R,
    at: u64,
    /// Of the current member: content that was not read, and what fills its last block.
    rest: u64,
    fill: u64,
    names: Vec<String>,
}

/// What members of the archive's own say of the next one.
#[derive(Default)]
struct Said {
    name: Option<Vec<u8>>,
    length: Option<u64>,
}

impl<R: Read> Walk<R> {
    pub fn new(from: R) -> Self {
        Self { from, at: 0, rest: 0, fill: 0, names: Vec::new() }
    }

    /// The next member; what is left of the one before is read past.
    ///
    /// Errors: what is no ordinary file under a plain name of its own; a first member that is no descriptor; an archive that is cut off.
    pub fn next_member(&mut self) -> Result<Option<Member>, Error> {
        let mut said = Said::default();
        for _ in 0..8 {
            let left = self.rest + self.fill;
            self.pass(left)?;
            (self.rest, self.fill) = (0, 0);
            let Some(header) = self.header()? else { return self.end() };
            let length = header.entry_size().map_err(|error| Error::Form(format!("a member's length: {error}")))?;
            let kind = header.entry_type();
            match kind {
                tar::EntryType::XHeader => self.extra(length)?.read_pax(&mut said)?,
                tar::EntryType::GNULongName => {
                    let name = self.extra(length)?.0;
                    said.name = Some(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
                }
                // Of all members at once: nothing of it matters here.
                tar::EntryType::XGlobalHeader => drop(self.extra(length)?),
                _ => {
                    let name = said.name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    return self.admit(&name, kind, said.length.unwrap_or(length)).map(Some);
                }
            }
        }
        Err(Error::Form("it says more of a member than any archive does".to_owned()))
    }

    /// The content of the current member that was not read yet.
    pub fn content(&mut self) -> impl Read + '_ {
        Content(self)
    }

    fn admit(&mut self, name: &[u8], kind: tar::EntryType, length: u64) -> Result<Member, Error> {
        let name = std::str::from_utf8(name).map_err(|_| Error::Form("a member's name is not UTF-8".to_owned()))?;
        let name = name.strip_prefix("./").unwrap_or(name).to_owned();
        if !matches!(kind, tar::EntryType::Regular | tar::EntryType::Continuous) {
            return Err(Error::member(&name, "it is not an ordinary file"));
        }
        if !is_plain(&name) {
            return Err(Error::member(&name, "it is not the name of a plain file"));
        }
        if self.names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            return Err(Error::member(&name, "it comes twice"));
        }
        if self.names.is_empty() && !name.to_ascii_lowercase().ends_with(".ovf") {
            return Err(Error::member(&name, "the first member of an archive is its .ovf"));
        }
        if self.names.len() >= MOST {
            return Err(Error::Form(format!("it has more than {MOST} members")));
        }
        let padded = length.checked_next_multiple_of(BLOCK).filter(|padded| self.at.checked_add(*padded).is_some());
        let padded = padded.ok_or_else(|| Error::member(&name, "it is longer than any file"))?;
        (self.rest, self.fill) = (length, padded - length);
        self.names.push(name.clone());
        Ok(Member { name, at: self.at, length })
    }

    fn end(&self) -> Result<Option<Member>, Error> {
        match self.names.is_empty() {
            true => Err(Error::Form("the archive is empty".to_owned())),
            false => Ok(None),
        }
    }

    /// The next header; `None` at the end, which is a block of zeros or nothing.
    fn header(&mut self) -> Result<Option<tar::Header>, Error> {
        let mut header = tar::Header::new_old();
        let mut block = [0; BLOCK as usize];
        match self.fill_block(&mut block)? {
            0 => return Ok(None),
            count if count < block.len() => return Err(Error::Form("the archive is cut off in a header".to_owned())),
            _ if block.iter().all(|byte| *byte == 0) => return Ok(None),
            _ => {}
        }
        self.at += BLOCK;
        header.as_mut_bytes().copy_from_slice(&block);
        // The sum of a header is made with spaces in the sum's own place.
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        match header.cksum() {
            Ok(told) if told == sum => Ok(Some(header)),
            _ => Err(Error::Form("the archive cannot be read: a header has a wrong sum".to_owned())),
        }
    }

    fn fill_block(&mut self, block: &mut [u8]) -> Result<usize, Error> {
        let mut got = 0;
        while let Some(rest) = block.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(got)
    }

    /// The content of a member that is about the next one.
    fn extra(&mut self, length: u64) -> Result<Extra, Error> {
        if length > LONGEST_EXTRA {
            return Err(Error::Form("it says more of a member than any archive does".to_owned()));
        }
        let mut bytes = Vec::new();
        let got = (&mut self.from).take(length).read_to_end(&mut bytes).map_err(broken)?;
        if got as u64 != length {
            return Err(cut());
        }
        self.at += length;
        self.fill = length.next_multiple_of(BLOCK) - length;
        Ok(Extra(bytes))
    }

    fn pass(&mut self, bytes: u64) -> Result<(), Error> {
        let passed = std::io::copy(&mut (&mut self.from).take(bytes), &mut std::io::sink()).map_err(broken)?;
        self.at += passed;
        // The zeros behind a last file are not missed by anybody.
        if passed < bytes.saturating_sub(self.fill) { Err(cut()) } else { Ok(()) }
    }
}

impl<R: Read + Seek> Walk<R> {
    /// Leaves out what is left of the current member.
    fn skip(&mut self) -> Result<(), Error> {
        self.at += self.rest + self.fill;
        (self.rest, self.fill) = (0, 0);
        self.from.seek(SeekFrom::Start(self.at)).map(drop).map_err(broken)
    }
}

struct Content<'a, R>(&'a mut Walk<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let walk = &mut *self.0;
        let most = usize::try_from(walk.rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let count = match buffer.get_mut(..most) {
            Some(buffer) if !buffer.is_empty() => walk.from.read(buffer)?,
            _ => return Ok(0),
        };
        if count == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the archive ends before its member does",
            ));
        }
        walk.rest -= count as u64;
        walk.at += count as u64;
        Ok(count)
    }
}

struct Extra(Vec<u8>);

impl Extra {
    fn read_pax(self, said: &mut Said) -> Result<(), Error> {
        let wrong = || Error::Form("what it says of a member cannot be read".to_owned());
        for extension in tar::PaxExtensions::new(&self.0) {
            let extension = extension.map_err(|_| wrong())?;
            match extension.key().map_err(|_| wrong())? {
                "path" => said.name = Some(extension.value_bytes().to_vec()),
                "size" => {
                    said.length = Some(extension.value().ok().and_then(|size| size.parse().ok()).ok_or_else(wrong)?)
                }
                key if key.starts_with("GNU.sparse") => {
                    return Err(Error::Form("a member has holes, which are not read".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn broken(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => cut(),
        _ => Error::Form(format!("the archive cannot be read: {error}")),
    }
}

fn cut() -> Error {
    Error::Form("the archive ends before its member does".to_owned())
}

/// Reads the index of an archive of that length.
///
/// Errors: as those of [`Walk::next_member`].
pub fn index(archive: impl Read + Seek, length: u64) -> Result<Vec<Member>, Error> {
    let mut walk = Walk::new(archive);
    let mut members = Vec::new();
    while let Some(member) = walk.next_member()? {
        if member.at.checked_add(member.length).is_none_or(|end| end > length) {
            return Err(Error::member(&member.name, "the archive ends before it does"));
        }
        walk.skip()?;
        members.push(member);
    }
    Ok(members)
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

    /// An archive of a descriptor, then these blocks and a header of that kind with that length, and what comes behind.
    fn with_extra(kind: tar::EntryType, length: u64, content: &[u8]) -> Vec<u8> {
        let mut bytes = archive(&[("a.ovf", tar::EntryType::Regular, b"<x/>")]);
        bytes.truncate(1024);
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..5].copy_from_slice(b"extra");
        header.set_entry_type(kind);
        header.set_size(length);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn long_names_and_lengths_are_read_as_others_write_them_and_never_as_long_as_they_say() {
        use tar::EntryType::{GNULongName, Regular, XGlobalHeader, XHeader};
        let long = format!("{}.vmdk", "d".repeat(150));
        let behind = |name: &str, size: u64, content: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(size);
            header.set_cksum();
            [
                header.as_bytes().as_slice(),
                content,
                &vec![0; content.len().next_multiple_of(512) - content.len() + 1024],
            ]
            .concat()
        };
        let gnu = [with_extra(GNULongName, 156, format!("{long}\0").as_bytes()), behind("cut", 3, b"abc")].concat();
        let members = read(&gnu).unwrap();
        assert_eq!((members[1].name.as_str(), members[1].length), (long.as_str(), 3));
        let said = "14 mtime=1.25\n9 size=3\n";
        let pax = [with_extra(XHeader, said.len() as u64, said.as_bytes()), behind("d.vmdk", 0, b"abc")].concat();
        assert_eq!(read(&pax).unwrap()[1].length, 3);
        let global = [with_extra(XGlobalHeader, 20, &[b'x'; 20]), behind("d.vmdk", 3, b"abc")].concat();
        assert_eq!(read(&global).unwrap().len(), 2);
        for kind in [GNULongName, XHeader, XGlobalHeader] {
            assert!(read(&with_extra(kind, 8 << 30, b"x")).is_err(), "{kind:?}");
            assert!(read(&with_extra(kind, 60 << 10, b"x")).is_err(), "{kind:?}: cut off");
        }
        let endless: Vec<u8> = (0..100).flat_map(|_| with_extra(XGlobalHeader, 0, b"")[1024..].to_vec()).collect();
        assert!(read(&[with_extra(Regular, 0, b""), endless].concat()).is_err());
    }

    #[test]
    fn an_archive_is_gone_through_without_going_back() {
        use tar::EntryType::Regular;
        let bytes = archive(&[("a.ovf", Regular, b"<x/>"), ("b.vmdk", Regular, &[7; 1000]), ("a.mf", Regular, b"sum")]);
        let mut walk = Walk::new(bytes.as_slice());
        let content = |walk: &mut Walk<&[u8]>| {
            let mut read = Vec::new();
            walk.content().read_to_end(&mut read).map(|_| read)
        };
        assert_eq!(walk.next_member().unwrap().unwrap().name, "a.ovf");
        assert_eq!(content(&mut walk).unwrap(), b"<x/>");
        // The disk is left out.
        assert_eq!(walk.next_member().unwrap().unwrap().length, 1000);
        assert_eq!(walk.next_member().unwrap().unwrap().name, "a.mf");
        assert_eq!(content(&mut walk).unwrap(), b"sum");
        assert!(walk.next_member().unwrap().is_none());
        let mut walk = Walk::new(&bytes[..1700]);
        walk.next_member().unwrap();
        walk.next_member().unwrap();
        assert!(content(&mut walk).is_err());
        assert!(walk.next_member().is_err());
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
