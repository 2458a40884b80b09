//! A blob: bytes with a kind and an id, compressed where that is smaller, and sealed.

use std::io::{Read, Write};

use super::error::{Error, Result};
use super::id::Id;
use super::pack::Entry;
use super::seal::Sealer;

/// The most bytes that a blob may have.
pub const LARGEST: usize = 16 << 20;

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Chunk = 0,
    Segment = 1,
    Root = 2,
    File = 3,
}

/// How chunks are compressed, where that makes them smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Stored,
    /// zstd with a level of 1 to 19.
    Zstd(i32),
    /// gzip with a level of 1 to 9.
    Gzip(u32),
}

impl Default for Codec {
    fn default() -> Self {
        Self::Zstd(3)
    }
}

/// Kind and codec in one byte, as entries hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flags(pub u8);

const STORED: u8 = 0;
const ZSTD: u8 = 1;
const GZIP: u8 = 2;

impl Flags {
    /// The flags of a byte in a file, if it is one of ours.
    pub fn checked(byte: u8) -> Option<Self> {
        (byte & 15 <= Kind::File as u8 && byte >> 4 <= GZIP).then_some(Self(byte))
    }

    pub fn kind(self) -> Kind {
        match self.0 & 15 {
            0 => Kind::Chunk,
            1 => Kind::Segment,
            2 => Kind::Root,
            _ => Kind::File,
        }
    }
}

/// Packs and unpacks blobs; each thread has one, for the compressor's memory and for buffers that are filled again and again.
pub struct Press {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    unzstd: Option<zstd::bulk::Decompressor<'static>>,
    codec: Codec,
    /// A frame that is being made.
    frame: Vec<u8>,
    /// A blob that was decompressed.
    blob: Vec<u8>,
}

/// A buffer's first bytes, so many; it grows where it is shorter.
fn room(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

impl Press {
    pub fn new(codec: Codec) -> Self {
        Self { zstd: None, unzstd: None, codec, frame: Vec::new(), blob: Vec::new() }
    }

    /// Compresses and seals: what a pack holds, with its flags.
    pub fn shut(&mut self, sealer: &Sealer, kind: Kind, id: Id, bytes: &[u8]) -> Result<(Flags, &[u8])> {
        let failed = |source| Error::io("the compressor", "compress")(source);
        let (before, behind) = sealer.around();
        let bound = zstd::zstd_safe::compress_bound(bytes.len());
        let middle = &mut room(&mut self.frame, before + bound + behind)[before..before + bound];
        // The compressed length, where that is less.
        let (codec, compressed) = match self.codec {
            Codec::Stored => (STORED, bytes.len()),
            Codec::Zstd(level) => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Compressor::new(level).map_err(failed)?),
                };
                (ZSTD, zstd.compress_to_buffer(bytes, middle).map_err(failed)?)
            }
            Codec::Gzip(level) => {
                let mut gzip = flate2::write::GzEncoder::new(&mut middle[..], flate2::Compression::new(level));
                match gzip.write_all(bytes).and_then(|()| gzip.try_finish()) {
                    Ok(()) => (GZIP, bound - gzip.get_ref().len()),
                    // It does not fit: it is not smaller.
                    Err(error) if error.kind() == std::io::ErrorKind::WriteZero => (STORED, bytes.len()),
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        let (codec, length) = if codec == STORED || compressed >= bytes.len() {
            middle[..bytes.len()].copy_from_slice(bytes);
            (STORED, bytes.len())
        } else {
            (codec, compressed)
        };
        let flags = Flags(kind as u8 | codec << 4);
        let frame = &mut self.frame[..before + length + behind];
        sealer.seal_in_place(&[b"blob", &[flags.0], &id.0, &(bytes.len() as u64).to_le_bytes()], frame)?;
        Ok((flags, frame))
    }

    /// Opens, decompresses and verifies: the blob's bytes are those that its id names, or there is an error naming `file`.
    ///
    /// The frame is opened where it lies, and holds other bytes afterwards.
    pub fn open<'a>(
        &'a mut self,
        sealer: &Sealer,
        flags: Flags,
        id: Id,
        raw: u32,
        frame: &'a mut [u8],
        file: &str,
    ) -> Result<&'a [u8]> {
        let length = raw as usize;
        if length > LARGEST {
            return Err(Error::damaged(file, format!("a blob of {length} bytes")));
        }
        let payload =
            sealer.open_in_place(&[b"blob", &[flags.0], &id.0, &u64::from(raw).to_le_bytes()], frame, file)?;
        let wrong = || Error::damaged(file, format!("its blob {id} does not decompress"));
        let bytes: &[u8] = match flags.0 >> 4 {
            STORED => payload,
            ZSTD => {
                let unzstd = match &mut self.unzstd {
                    Some(unzstd) => unzstd,
                    none => {
                        none.insert(zstd::bulk::Decompressor::new().map_err(Error::io("the decompressor", "start"))?)
                    }
                };
                let blob = room(&mut self.blob, length);
                let filled = unzstd.decompress_to_buffer(payload, &mut blob[..]).map_err(|_| wrong())?;
                &blob[..filled]
            }
            _ => {
                self.blob.clear();
                let mut reader = flate2::read::GzDecoder::new(&*payload).take(u64::from(raw) + 1);
                reader.read_to_end(&mut self.blob).map_err(|_| wrong())?;
                &self.blob
            }
        };
        if bytes.len() != length || sealer.id(flags.kind(), bytes) != id {
            return Err(Error::damaged(file, format!("its blob {id} has other bytes")));
        }
        Ok(bytes)
    }

    /// Seals a frame of one repository for another, compressed as it is. It must have been verified by `open`.
    pub fn reseal(from: &Sealer, to: &Sealer, entry: &Entry, id: Id, frame: Vec<u8>, file: &str) -> Result<Vec<u8>> {
        let (flags, length) = ([entry.flags.0], u64::from(entry.raw).to_le_bytes());
        let payload = from.open(&[b"blob", &flags, &entry.id.0, &length], frame, file)?;
        to.seal(&[b"blob", &flags, &id.0, &length], &payload)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::Keyring;
    use super::*;

    #[test]
    fn a_blob_comes_back_by_every_codec_and_only_where_smaller_compressed() {
        let text = b"the same words, ".repeat(500);
        let mut noise = vec![0; 5000];
        super::super::seal::random(&mut noise).unwrap();
        for sealer in [Sealer::Plain, Sealer::Keyed(Keyring::random().unwrap())] {
            for (codec, number) in [(Codec::Stored, 0), (Codec::Zstd(3), 1), (Codec::Gzip(6), 2)] {
                let mut press = Press::new(codec);
                for (bytes, expected) in [(&text, number), (&noise, 0)] {
                    let id = sealer.id(Kind::Chunk, bytes);
                    let (flags, frame) = press.shut(&sealer, Kind::Chunk, id, bytes).unwrap();
                    let frame = frame.to_vec();
                    assert_eq!(flags.0 >> 4, expected);
                    let raw = bytes.len() as u32;
                    assert_eq!(press.open(&sealer, flags, id, raw, &mut frame.clone(), "f").unwrap(), bytes);
                    for wrong in [0, raw - 1, raw + 1, u32::MAX] {
                        assert!(press.open(&sealer, flags, id, wrong, &mut frame.clone(), "f").is_err());
                    }
                    let other = sealer.id(Kind::Chunk, b"");
                    assert!(press.open(&sealer, flags, other, raw, &mut frame.clone(), "f").is_err());
                }
            }
        }
    }

    #[test]
    fn a_frame_that_swells_is_stopped_at_the_length_that_was_named() {
        let bytes = vec![0; 4 << 20];
        for codec in [Codec::Zstd(3), Codec::Gzip(6)] {
            let (sealer, mut press) = (Sealer::Plain, Press::new(codec));
            let id = sealer.id(Kind::Chunk, &bytes);
            let (flags, frame) = press.shut(&sealer, Kind::Chunk, id, &bytes).unwrap();
            let mut frame = frame.to_vec();
            assert!(press.open(&sealer, flags, id, 1000, &mut frame, "f").unwrap_err().is_damage());
        }
    }
}
