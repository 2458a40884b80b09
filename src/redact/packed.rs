//! What is packed in a text: runs of base64 and hex, streams of gzip and zlib. Each is unpacked with bounded work.

use std::io::Read;
use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Shorter runs hold nothing that the direct forms do not find.
const SHORTEST: usize = 8;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Something that was unpacked, and where it stood.
pub(super) struct Packed {
    pub range: Range<usize>,
    pub bytes: Vec<u8>,
}

/// The runs of base64 and of hex in a text, decoded.
pub(super) fn runs(text: &[u8]) -> Vec<Packed> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let run = text.get(at..).unwrap_or_default();
        let length = run.iter().take_while(|byte| is_base64(**byte)).count();
        if length >= SHORTEST {
            let run = run.get(..length).unwrap_or_default();
            let padding =
                text.get(at + length..).unwrap_or_default().iter().take(2).take_while(|b| **b == b'=').count();
            decode(run, at, padding, &mut found);
        }
        at += length + 1;
    }
    found
}

fn decode(run: &[u8], at: usize, padding: usize, found: &mut Vec<Packed>) {
    let end = at + run.len() + padding;
    // A stream of gzip may stand behind a path or a name that belongs to the same run.
    let streams = memchr::memmem::find_iter(run, b"H4sI").filter(|start| *start > 0);
    for start in std::iter::once(0).chain(streams) {
        let Some(rest) = run.get(start..) else { continue };
        let whole = rest.get(..rest.len() - usize::from(rest.len() % 4 == 1)).unwrap_or(rest);
        let engine = if whole.iter().any(|byte| matches!(byte, b'-' | b'_')) { &URL_SAFE } else { &STANDARD };
        if let Ok(bytes) = engine.decode(whole) {
            found.push(Packed { range: at + start..end, bytes });
        }
    }
    if run.iter().all(u8::is_ascii_hexdigit) {
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
        let bytes = run.chunks_exact(2).map(|pair| pair.iter().fold(0, |value, byte| value << 4 | digit(*byte)));
        found.push(Packed { range: at..at + run.len(), bytes: bytes.collect() });
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Why a stream was not unpacked to its end.
pub(super) struct TooLarge;

/// The streams of gzip anywhere in the bytes, and one of zlib that they begin with; at most `most` bytes come out of each.
pub(super) fn streams(bytes: &[u8], most: usize) -> Result<Vec<Packed>, TooLarge> {
    let mut found = Vec::new();
    for start in memchr::memmem::find_iter(bytes, b"\x1f\x8b\x08") {
        let rest = bytes.get(start..).unwrap_or_default();
        if let Some(unpacked) = unpack(flate2::read::MultiGzDecoder::new(rest), most)? {
            found.push(Packed { range: start..bytes.len(), bytes: unpacked });
        }
    }
    if let [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] = bytes
        && let Some(unpacked) = unpack(flate2::read::ZlibDecoder::new(bytes), most)?
    {
        found.push(Packed { range: 0..bytes.len(), bytes: unpacked });
    }
    Ok(found)
}

/// What comes out of a stream, also of one that is cut or damaged at its end.
fn unpack(stream: impl Read, most: usize) -> Result<Option<Vec<u8>>, TooLarge> {
    let mut out = Vec::new();
    // A damaged stream tells what it tells up to the damage.
    let _damaged = stream.take(most as u64 + 1).read_to_end(&mut out);
    if out.len() > most {
        return Err(TooLarge);
    }
    Ok((!out.is_empty()).then_some(out))
}
