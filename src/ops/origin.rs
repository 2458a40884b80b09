//! Which file of a host a part on this machine is of: kept beside it, and compared before a download goes on behind it.
//!
//! A part is gone on with only where the host shows that the file is still the same. One of another file is not touched; one of another
//! state of the file, or of one that nobody knows, is of no use: the download begins anew, and says so.

use serde::{Deserialize, Serialize};

use crate::door::part::Part;
use crate::error::Fault;
use crate::esxi::FileState;
use crate::units::Bytes;

/// A file of a host in one of its states.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The host's name in the configuration.
    host: String,
    /// The file, such as `[datastore1] isos/debian.iso`.
    file: String,
    state: FileState,
}

impl Origin {
    pub fn new(host: &str, file: String, state: FileState) -> Self {
        Self { host: host.to_owned(), file, state }
    }

    pub fn into_state(self) -> FileState {
        self.state
    }

    /// Has a part be one of this file: what is in it stays where it is certainly that, and is thrown away where it is not. Gives the word
    /// for whoever waits, where it was.
    ///
    /// Faults: `local.other_part`, `local.file`.
    pub fn take_up(&self, part: &mut Part) -> Result<Option<String>, Fault> {
        let came = part.length();
        let word = match came {
            0 => None,
            _ => match self.why_anew(part)? {
                None => return Ok(None),
                Some(why) => Some(format!(
                    "warning: {}: {why}: the {} that had come are thrown away, and the download begins anew",
                    part.path().display(),
                    Bytes(came)
                )),
            },
        };
        part.begin_anew()?;
        let text = serde_json::to_string(self).map_err(|error| {
            Fault::new("ceso.origin", format!("where a download is from cannot be written down: {error}"))
                .hint("this is a defect of ceso: please report it")
        })?;
        part.keep_origin(&text)?;
        Ok(word)
    }

    /// Why what is in a part is not gone on with; nothing where it is.
    fn why_anew(&self, part: &Part) -> Result<Option<String>, Fault> {
        let kept = part.origin().and_then(|text| serde_json::from_str::<Self>(&text).ok());
        let Some(kept) = kept else {
            return Ok(Some("which file it is of is not written down beside it, or cannot be read".to_owned()));
        };
        if (&kept.host, &kept.file) != (&self.host, &self.file) {
            let message =
                format!("{} is a part of {} on {}, not of {}", part.path().display(), kept.file, kept.host, self.file);
            return Err(Fault::new("local.other_part", message)
                .hint("choose another name for the new file, or remove the part to begin anew"));
        }
        Ok(match kept.state.is_still(&self.state) {
            Some(true) => None,
            Some(false) => Some(format!("{} has been changed since", self.file)),
            None => {
                Some(format!("whether {} is still what it was cannot be known from what {} says", self.file, self.host))
            }
        })
    }
}
