//! Guestinfo: documents as keys of a machine's extra configuration, gzip'ed and in base64, and back.
//!
//! Source: cloud-init's documentation of the VMware data source. Compression writes no time and no system, so the same document
//! gives the same text; whether two are the same is still decided on what they decode to.

use std::fmt;
use std::io::{Read, Write};

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

use super::error::Error;
use crate::error::Fault;

/// What all keys and values may take: VMware gives guestinfo about 1 MiB, and others keep things there too.
const LIMIT: usize = 960 * 1024;
/// What one value may decode to: far more than fits, and little enough to refuse a bomb.
const DECODED_LIMIT: u64 = 16 * 1024 * 1024;

const METADATA: &str = "guestinfo.metadata";
const USERDATA: &str = "guestinfo.userdata";
const VENDORDATA: &str = "guestinfo.vendordata";

/// A rendered document, as keys and values of a machine's extra configuration.
///
/// Debug shows the keys and sizes only.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestInfo {
    entries: Vec<(&'static str, String)>,
}

impl GuestInfo {
    pub(super) fn new(metadata: &str, userdata: &str, vendordata: Option<&str>) -> Result<Self, Error> {
        let mut entries = Vec::with_capacity(6);
        for (key, encoding_key, text) in [
            (METADATA, "guestinfo.metadata.encoding", Some(metadata)),
            (USERDATA, "guestinfo.userdata.encoding", Some(userdata)),
            (VENDORDATA, "guestinfo.vendordata.encoding", vendordata),
        ] {
            let Some(text) = text else {
                // An empty value takes the key away: what an earlier document left there would be acted on.
                entries.push((key, String::new()));
                entries.push((encoding_key, String::new()));
                continue;
            };
            if u64::try_from(text.len()).is_ok_and(|size| size > DECODED_LIMIT) {
                return Err(Error::TooLarge { size: text.len(), limit: LIMIT });
            }
            entries.push((key, encode(text)?));
            entries.push((encoding_key, "gzip+base64".to_owned()));
        }
        let size = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > LIMIT {
            return Err(Error::TooLarge { size, limit: LIMIT });
        }
        Ok(Self { entries })
    }

    /// The keys and their values, always in the same order: `guestinfo.metadata`, `guestinfo.metadata.encoding`,
    /// `guestinfo.userdata`, `guestinfo.userdata.encoding`, `guestinfo.vendordata`, `guestinfo.vendordata.encoding`. An empty value means that
    /// the machine is to have no such key, which is what ESXi makes of one.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// Whether a machine whose extra configuration `existing` looks up already has this very content.
    ///
    /// Values are compared decoded, so another compression or encoding of the same text is the same. What cannot be decoded, and
    /// what the guest has redacted, is different.
    pub fn same_as<'a>(&self, existing: impl Fn(&str) -> Option<&'a str>) -> bool {
        [METADATA, USERDATA, VENDORDATA].into_iter().all(|key| {
            let encoding = format!("{key}.encoding");
            if self.get(key).is_none_or(str::is_empty) {
                return existing(key).is_none_or(str::is_empty);
            }
            let ours = self.get(key).zip(self.get(&encoding)).map(|(value, encoding)| unpack(value, encoding));
            let theirs = existing(key).map(|value| unpack(value, existing(&encoding).unwrap_or_default()));
            matches!((ours, theirs), (Some(Ok(ours)), Some(Ok(theirs))) if ours == theirs)
        })
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for GuestInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(key, value)| (key, format!("{} bytes", value.len())))).finish()
    }
}

/// Decodes one guestinfo value by the text of its `.encoding` key, as cloud-init does.
///
/// `encoding`: `gzip+base64` or `gz+b64`, `base64` or `b64`; anything else, also nothing, means plain text. At most 16 MiB come
/// out. Errors: `cloudinit.undecodable`.
pub fn decode(value: &str, encoding: &str) -> Result<String, Fault> {
    Ok(unpack(value, encoding)?)
}

/// Whether texts must be encoded to know that they fit: what is well under the limit as it is fits in any case.
pub(super) fn may_be_too_large(userdata: &str, vendordata: &str) -> bool {
    userdata.len() + vendordata.len() > LIMIT / 2
}

fn encode(text: &str) -> Result<String, Error> {
    let unwritable = |error: std::io::Error| Error::Unwritable(error.to_string());
    let mut writer = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::default());
    writer.write_all(text.as_bytes()).map_err(unwritable)?;
    Ok(STANDARD.encode(writer.finish().map_err(unwritable)?))
}

/// Padding may be there or not, as Python's decoder is used with both.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn unpack(value: &str, encoding: &str) -> Result<String, Error> {
    let compressed = match encoding.trim() {
        "gzip+base64" | "gz+b64" => true,
        "base64" | "b64" => false,
        _ => return Ok(value.to_owned()),
    };
    let compact: Vec<u8> = value.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let mut bytes = LENIENT.decode(compact).map_err(|_| Error::Undecodable("the value is not base64"))?;
    if compressed {
        let mut plain = Vec::new();
        let mut reader = MultiGzDecoder::new(bytes.as_slice()).take(DECODED_LIMIT + 1);
        reader.read_to_end(&mut plain).map_err(|_| Error::Undecodable("the value is not gzip, or it is cut off"))?;
        bytes = plain;
    }
    if u64::try_from(bytes.len()).is_ok_and(|size| size > DECODED_LIMIT) {
        return Err(Error::Undecodable("the value decodes to more than 16 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| Error::Undecodable("the value is not text in UTF-8"))
}
