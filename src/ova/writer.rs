//! An OVA that is written front to back, though its first members say what only the last ones show.
//!
//! Descriptor and manifest come first, as every reader wants it, and name the lengths and sums of the disks, which are known when the
//! disks have come. So their places are kept free, and they are written last: the descriptor filled up with spaces, which mean nothing
//! behind an XML document's end, the manifest as long as its sums, whose length is known.

use std::io::{Seek, SeekFrom, Write};

use super::manifest::{Algorithm, Manifest, Summed, Summing};
use super::{Error, is_plain};

const BLOCK: u64 = 512;
/// The longest name of a ustar header.
const LONGEST_NAME: usize = 99;
/// What is kept for the descriptor: ESXi writes about 10 KiB.
const DESCRIPTOR: u64 = 256 << 10;

/// An archive under way.
pub struct Writer<W> {
    to: W,
    base: String,
    /// Files that will come, by name: the manifest has a line for each.
    expected: Vec<String>,
    came: Vec<(String, Summed)>,
    /// Where the next member goes.
    at: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins an archive of `BASE.ovf`, `BASE.mf` and these files, in their order.
    pub fn new(mut to: W, base: &str, files: Vec<String>) -> Result<Self, Error> {
        for name in files.iter().cloned().chain([format!("{base}.ovf")]) {
            if !is_plain(&name) || name.len() > LONGEST_NAME {
                return Err(Error::member(&name, "it cannot be a file's name in an archive"));
            }
        }
        let mut writer_at = BLOCK + DESCRIPTOR;
        writer_at += BLOCK + (manifest_length(base, &files)).next_multiple_of(BLOCK);
        to.seek(SeekFrom::Start(writer_at)).map_err(Error::io("write the archive"))?;
        Ok(Self { to, base: base.to_owned(), expected: files, came: Vec::new(), at: writer_at })
    }

    /// The files that have come, with their lengths and sums.
    pub fn came(&self) -> &[(String, Summed)] {
        &self.came
    }

    /// Begins the next file.
    pub fn open(mut self) -> Result<Open<W>, Error> {
        let name = self.expected.get(self.came.len()).cloned();
        let name = name.ok_or_else(|| Error::Form("a file more than was said comes into the archive".to_owned()))?;
        self.to.seek(SeekFrom::Start(self.at + BLOCK)).map_err(Error::io("write the archive"))?;
        Ok(Open { writer: self, name, sum: Summing::new(Algorithm::Sha256) })
    }

    /// Writes descriptor, manifest and the end, and gives back what was written to.
    pub fn finish(mut self, descriptor: &str) -> Result<W, Error> {
        let io = || Error::io("write the archive");
        if self.came.len() != self.expected.len() {
            return Err(Error::Form("a file of the archive has not come".to_owned()));
        }
        let length = descriptor.len() as u64;
        if length > DESCRIPTOR {
            return Err(Error::Descriptor("it is longer than 256 KiB".to_owned()));
        }
        self.to.seek(SeekFrom::Start(self.at)).map_err(io())?;
        self.to.write_all(&[0; 2 * BLOCK as usize]).map_err(io())?;
        let mut text = descriptor.as_bytes().to_vec();
        text.resize(usize::try_from(DESCRIPTOR).unwrap_or(usize::MAX), b'\n');
        let name = format!("{}.ovf", self.base);
        self.header(0, &name, DESCRIPTOR)?;
        self.to.seek(SeekFrom::Start(BLOCK)).map_err(io())?;
        self.to.write_all(&text).map_err(io())?;
        let mut sum = Summing::new(Algorithm::Sha256);
        sum.update(&text);
        let own = (name, sum.done());
        let sums = std::iter::once(own).chain(std::mem::take(&mut self.came));
        let manifest = Manifest { sums: sums.map(|(name, summed)| (name, Algorithm::Sha256, summed.sum)).collect() };
        let text = manifest.text();
        self.header(BLOCK + DESCRIPTOR, &format!("{}.mf", self.base), text.len() as u64)?;
        self.to.seek(SeekFrom::Start(2 * BLOCK + DESCRIPTOR)).map_err(io())?;
        let padded = text.len().next_multiple_of(BLOCK as usize);
        let mut text = text.into_bytes();
        text.resize(padded, 0);
        self.to.write_all(&text).map_err(io())?;
        self.to.flush().map_err(io())?;
        Ok(self.to)
    }

    fn header(&mut self, at: u64, name: &str, length: u64) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(Error::io("name a member of the archive"))?;
        header.set_size(length);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.to.seek(SeekFrom::Start(at)).map_err(Error::io("write the archive"))?;
        self.to.write_all(header.as_bytes()).map_err(Error::io("write the archive"))
    }
}

fn manifest_length(base: &str, files: &[String]) -> u64 {
    let line = |name: &str| format!("SHA256({name})= {}\n", "0".repeat(64)).len() as u64;
    line(&format!("{base}.ovf")) + files.iter().map(|name| line(name)).sum::<u64>()
}

/// A file of an archive while it is written.
pub struct Open<W> {
    writer: Writer<W>,
    name: String,
    sum: Summing,
}

impl<W: Write + Seek> Open<W> {
    /// Ends the file; its length and sum are known now.
    pub fn close(self) -> Result<Writer<W>, Error> {
        let Self { mut writer, name, sum } = self;
        let summed = sum.done();
        let padding = summed.bytes.next_multiple_of(BLOCK) - summed.bytes;
        let zeros = [0; BLOCK as usize];
        let zeros = zeros.get(..usize::try_from(padding).unwrap_or_default()).unwrap_or_default();
        writer.to.write_all(zeros).map_err(Error::io("write the archive"))?;
        let at = writer.at;
        writer.header(at, &name, summed.bytes)?;
        writer.at += BLOCK + summed.bytes + padding;
        writer.came.push((name, summed));
        Ok(writer)
    }
}

impl<W: Write> Write for Open<W> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        let count = self.writer.to.write(piece)?;
        self.sum.update(piece.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::ova::{index, summed};

    #[test]
    fn an_archive_reads_back_with_its_sums() {
        let names = ["web-1-disk1.vmdk".to_owned(), "web-1.nvram".to_owned()];
        let mut writer = Writer::new(Cursor::new(Vec::new()), "web-1", names.to_vec()).unwrap();
        for content in [vec![1u8; 100_000], vec![2; 512]] {
            let mut open = writer.open().unwrap();
            open.write_all(&content).unwrap();
            writer = open.close().unwrap();
        }
        let bytes = writer.finish("<Envelope/>").unwrap().into_inner();
        let members = index(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        let told: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(told, ["web-1.ovf", "web-1.mf", "web-1-disk1.vmdk", "web-1.nvram"]);
        let of = |name: &str| {
            let member = members.iter().find(|member| member.name == name).unwrap();
            &bytes[member.at as usize..][..member.length as usize]
        };
        let manifest = Manifest::read(std::str::from_utf8(of("web-1.mf")).unwrap()).unwrap();
        for name in ["web-1.ovf", "web-1-disk1.vmdk", "web-1.nvram"] {
            let (algorithm, sum) = manifest.of(name).unwrap();
            assert_eq!(summed(of(name), algorithm).unwrap().sum, sum, "{name}");
        }
        assert!(std::str::from_utf8(of("web-1.ovf")).unwrap().trim_end() == "<Envelope/>");
    }

    #[test]
    fn names_that_cannot_be_told_are_refused_before_anything_is_written() {
        for base in ["../x", "a/b", "", &"x".repeat(120)] {
            assert!(Writer::new(Cursor::new(Vec::new()), base, Vec::new()).is_err(), "{base:?}");
        }
    }
}
