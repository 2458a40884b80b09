#![doc = include_str!("design.md")]
//!
//! # The code
//! `target` keeps files; `seal` and `blob` make frames of bytes; `pack`, `index`, `manifest`, `keys`, `doom` and `lease` are the files; `runs` and `known` find
//! blobs; `repository` is all of it, open. It knows disks as ranges of bytes, and nothing of hosts or scripts.

mod blob;
mod cache;
mod carry;
mod check;
mod choose;
mod commit;
mod copy;
mod doom;
mod error;
mod export;
mod feed;
mod forget;
mod format;
mod id;
mod index;
mod keys;
mod known;
mod lease;
mod manifest;
mod mark;
mod pack;
mod place;
mod proof;
mod prune;
mod reader;
mod repair;
mod repository;
mod room;
mod runs;
mod scan;
mod seal;
mod spare;
mod stats;
mod store;
pub mod target;
#[cfg(test)]
mod tests;
mod threads;
mod verify;
mod watch;
mod writer;

pub use crate::vmdk::{FileSource, Source};
pub use blob::Codec;
pub use check::{CheckReport, Depth, Problem};
pub use choose::Among;
pub use copy::{Copied, CopyOptions, CopyPlan, CopyProgress, CopyReport, NotCopied};
pub use error::{Error, Result};
pub use export::{DiskForm, ExportOptions};
pub use forget::{ForgetPlan, Keep, RetentionPlan};
pub use format::Config;
pub use id::Id;
pub use keys::{KeyCost, KeyInfo, Rotated};
pub use lease::LeaseInfo;
pub use manifest::{Attached, Disk, Manifest, State};
pub use place::{Access, Keys, Lock, LockMode, Place};
pub use prune::{PruneOptions, PrunePlan, PruneReport};
pub use reader::DiskReader;
pub use repair::RepairReport;
pub use repository::{InitOptions, Like, Repository};
pub use stats::Stats;
pub use verify::Verified;
pub use watch::{Watch, WatchedSource};
pub use writer::{BackupOptions, Session, Since, Summary};
