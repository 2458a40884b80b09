//! Disks written and read back, and files that lie.

mod damage;
mod forms;
mod hand;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;

/// A disk in memory.
pub struct Bytes(pub Vec<u8>);

impl Source for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        bytes.copy_from_slice(&self.0[at as usize..at as usize + bytes.len()]);
        Ok(())
    }
}

/// Bytes of a disk: random, compressible and zero grains, and an end inside of a grain.
pub fn disk(sectors: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def0u64;
    let mut random = vec![0; GRAIN as usize];
    random.fill_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    });
    let mut bytes = vec![0; sectors * 512];
    for (number, grain) in bytes.chunks_mut(GRAIN as usize).enumerate() {
        match number % 4 {
            0 => {
                grain.copy_from_slice(&random[..grain.len()]);
                grain[..8].copy_from_slice(&number.to_le_bytes());
            }
            1 => grain.chunks_mut(512).enumerate().for_each(|(at, sector)| sector.fill(at as u8)),
            2 => grain[grain.len() - 1] = 7,
            _ => {}
        }
    }
    bytes
}

pub fn stream(bytes: &[u8], options: &StreamOptions) -> Vec<u8> {
    let mut written = Vec::new();
    let told = write_stream(&Bytes(bytes.to_vec()), &mut written, options).unwrap();
    assert_eq!(told.bytes, written.len() as u64);
    written
}

/// What a stream reader makes of a stream.
pub fn read_front(stream: &[u8]) -> Result<Vec<u8>> {
    let mut reader = StreamReader::new(stream)?;
    let mut whole = vec![0; reader.capacity() as usize];
    let mut grain = Vec::new();
    while let Some(at) = reader.next_grain(&mut grain)? {
        whole[at as usize..at as usize + grain.len()].copy_from_slice(&grain);
    }
    Ok(whole)
}

/// What an image makes of a file.
pub fn read_image(path: &Path, form: Form) -> Result<Vec<u8>> {
    let image = Image::open(path, form)?;
    let mut whole = vec![0; image.size() as usize];
    let mut at = 0;
    let told = |error: std::io::Error| error.downcast::<Error>().unwrap();
    while let Some(data) = image.next_data(at).map_err(told)? {
        assert!(data.start >= at && data.end > data.start && data.end <= image.size(), "{data:?} after {at}");
        image.read_at(data.start, &mut whole[data.start as usize..data.end as usize]).map_err(told)?;
        at = data.end;
    }
    Ok(whole)
}

pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}
