//! The framing: a little-endian `u32` length and that many bytes of MessagePack with named fields.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use super::value::{MAX_DEPTH, MAX_VALUES, begin_count, counted};

/// The largest frame that is taken from a worker, 16 MiB; the parent's own may have four times as much.
pub const MAX_FRAME: usize = 16 << 20;

/// Why a frame was not read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the other side closed the pipe")]
    Closed,
    #[error("a frame of {0} bytes, more than the limit of {1}")]
    TooLarge(usize, usize),
    #[error("a frame of {0} values, more than the limit of {MAX_VALUES}")]
    TooMany(usize),
    #[error("a frame that is not understood: {0}")]
    Malformed(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes one frame with one write call: the parent's side.
pub fn write_frame(out: &mut impl Write, frame: &impl Serialize) -> Result<(), FrameError> {
    out.write_all(&encode_frame(frame, 4 * MAX_FRAME)?)?;
    Ok(out.flush()?)
}

/// The bytes of one frame, its length in front, if it has at most `limit` bytes.
pub fn encode_frame(frame: &impl Serialize, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    begin_count();
    frame
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = bytes.len() - 4;
    if length > limit {
        return Err(FrameError::TooLarge(length, limit));
    }
    if counted() > MAX_VALUES {
        return Err(FrameError::TooMany(counted()));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// The frame at the start of `buffer` and how many bytes it took, or `None` where it has not arrived whole.
pub fn decode_frame<T: for<'de> Deserialize<'de>>(
    buffer: &[u8],
    limit: usize,
) -> Result<Option<(T, usize)>, FrameError> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > limit {
        return Err(FrameError::TooLarge(length, limit));
    }
    match rest.get(..length) {
        Some(body) => Ok(Some((decode(body)?, 4 + length))),
        None => Ok(None),
    }
}

/// Reads one frame of at most `limit` bytes.
pub fn read_frame<T: for<'de> Deserialize<'de>>(input: &mut impl Read, limit: usize) -> Result<T, FrameError> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        result => result?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        return Err(FrameError::TooLarge(length, limit));
    }
    let mut bytes = Vec::with_capacity(length.min(1 << 20));
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(FrameError::Closed);
    }
    decode(&bytes)
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, FrameError> {
    begin_count();
    decode_part(bytes)
}

/// Decodes what lies inside of a frame: its values go on to count.
pub(super) fn decode_part<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, FrameError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    // A value of MAX_DEPTH lies inside the frame's own levels.
    reader.set_max_depth(MAX_DEPTH + 16);
    T::deserialize(&mut reader).map_err(|error| FrameError::Malformed(error.to_string()))
}
