//! Seed images: the NoCloud data source's files in an ISO 9660 file system, with the names that Rock Ridge and Joliet give.
//!
//! Nothing in an image comes from a clock or from chance, so the same document gives the same bytes. Source: cloud-init's documentation of
//! NoCloud; ECMA-119.

use std::fmt;

use hadris_fs::{Content, NoClock, Node, Tree};
use hadris_iso::{IsoId, IsoOptions};
use zeroize::Zeroizing;

use super::document::Rendered;
use super::error::Error;

/// The label by which cloud-init and cloudbase-init know a seed.
const LABEL: &str = "cidata";
/// What the files of one image may take: an image is uploaded and kept beside the machine, and no seed needs more.
const LIMIT: usize = 16 << 20;

/// A seed image for one machine. Debug shows its size only: it may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Iso {
    bytes: Zeroizing<Vec<u8>>,
}

impl Iso {
    /// The image, a whole number of blocks of 2048 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The volume's label: `cidata`.
    pub fn label(&self) -> &'static str {
        LABEL
    }
}

impl fmt::Debug for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iso").field("bytes", &self.bytes.len()).finish()
    }
}

pub(super) fn write(rendered: &Rendered<'_>) -> Result<Iso, Error> {
    let unwritable = |error: &dyn fmt::Display| Error::Unwritable(error.to_string());
    let meta_data = rendered.meta_data.for_nocloud()?;
    let network = rendered.meta_data.network_config()?;
    let files: Vec<(&str, &str)> = [
        ("meta-data", Some(meta_data.as_str())),
        ("user-data", Some(rendered.user_data)),
        ("network-config", network.as_deref()),
        ("vendor-data", rendered.vendor_data),
    ]
    .into_iter()
    .filter_map(|(name, text)| text.map(|text| (name, text)))
    .collect();
    let size = files.iter().map(|(_, text)| text.len()).sum();
    if size > LIMIT {
        return Err(Error::IsoTooLarge { size, limit: LIMIT });
    }
    let mut tree = Tree::new();
    for (name, text) in files {
        tree.insert(name, Node::file(Content::bytes(text))).map_err(|error| unwritable(&error))?;
    }
    let options =
        IsoOptions::default().with_id(IsoId::Volume, LABEL).with_joliet().with_rock_ridge().with_time(NoClock::TIME);
    let size = hadris_iso::plan(&tree, &options).map_err(|error| unwritable(&error))?.size();
    let size = usize::try_from(size).map_err(|error| unwritable(&error))?;
    let mut bytes = Zeroizing::new(vec![0_u8; size]);
    hadris_iso::sync::write(&mut *bytes, &tree, &options).map_err(|error| unwritable(&error))?;
    Ok(Iso { bytes })
}
