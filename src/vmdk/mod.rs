//! Virtual disks as files: VMDK read and written, whatever the bytes are for.
//!
//! ```text
//! write_stream    any Source → streamOptimized, to any Write, on all cores, in order      (export lease, OVA, restore)
//! StreamReader    streamOptimized from any Read, front to back                            (import lease, OVA)
//! Image           any disk file, read anywhere by many threads: it is a Source            (backup)
//! Descriptor      the text that describes a disk: read, checked, written                  (flat disks)
//! Outline         the names in such a text, whatever disk it describes                    (files of a datastore)
//! ```
//!
//! To export: implement [`Source`] (a size, `read_at`, and where data is; [`Image`] and [`FileSource`] are sources), and call
//! [`write_stream`]`(&source, &mut to, &StreamOptions::default())`. It blocks: an asynchronous caller gives it a thread. An error of `to` ends it.
//! To import: [`StreamReader::new`]`(from)`, then [`StreamReader::next_grain`] until it says `None`: each call gives the place and the bytes of one
//! grain, never behind the capacity; what no grain covers is zeros. Only after the `None` is the stream known to be whole: what was
//! written before an error is to be thrown away. [`StreamReader::write_to`] does all that for a file, and [`check_stream`] sees that a stream is
//! whole that is carried on as it is.
//!
//! The form is VMware's "Virtual Disk Format 5.0"; sectors are 512 bytes, numbers little-endian. A streamOptimized disk is
//!
//! ```text
//! header (1 sector), descriptor, nothing up to the overhead;
//! grains: marker (first sector u64, compressed size u32), zlib, padded to a sector;
//! behind the grains of each 32 MiB their grain table: marker (4, 0, type 1), 512 sector numbers u32;
//! grain directory: marker (type 2), sector numbers of the tables; footer: marker (type 3), the header with the directory's place;
//! end of stream: a sector of zeros
//! ```
//!
//! qemu-img and open-vmdk put directory and tables in front instead and write no footer; both forms are read. A stream says the place
//! of each grain twice, in its marker and in its table, and the two are compared for all grains before a stream counts as whole.
//! Every number of a file is checked before anything is read or allocated by it. The room knows files and bytes only: no host, no repository.

mod deflate;
mod descriptor;
mod error;
mod header;
mod image;
mod outline;
mod reader;
mod source;
mod sparse;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

pub use descriptor::{CreateType, Descriptor, Extent, ExtentKind};
pub use error::{Error, Result};
pub use image::{Form, Image};
pub use outline::Outline;
pub use reader::{StreamReader, check_stream};
pub use source::{FileSource, Source, data_in};
pub use writer::{StreamOptions, Written, write_stream};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Bytes of a grain that is written here.
pub const GRAIN: u64 = 64 << 10;
/// The largest disk of VMFS 6: 62 TiB. Nothing larger is read or written.
pub const LARGEST: u64 = 62 << 40;
