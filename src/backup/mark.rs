//! Marks: the packs that a prune means to delete once the grace period is over.

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::format::{json, parse, read_named};
use super::id::Id;
use super::target::{Listed, Target, listed};

/// The largest mark that is read: a million packs, and a plan has fewer.
const LARGEST: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Mark {
    uuid: String,
    packs: Vec<Id>,
}

/// A mark, and when the target wrote it.
pub(super) struct Found {
    pub file: Listed,
    pub packs: Vec<Id>,
}

/// Writes a mark.
pub(super) fn put(target: &dyn Target, packs: Vec<Id>) -> Result<()> {
    let file = json(&Mark { uuid: uuid::Uuid::new_v4().to_string(), packs })?;
    target.put(&format!("marks/{}", Id::of(&file)), &file)
}

/// All marks. One that goes meanwhile is passed over.
pub(super) fn list(target: &dyn Target) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in listed(target, "marks")? {
        match read(target, &file.name) {
            Err(error) if error.is_missing() => {}
            mark => found.push(Found { packs: mark?.packs, file }),
        }
    }
    Ok(found)
}

fn read(target: &dyn Target, file: &str) -> Result<Mark> {
    parse(&read_named(target, file, LARGEST)?, file)
}

/// Verifies a mark, for a check.
pub(super) fn verify(target: &dyn Target, file: &str) -> Result<()> {
    read(target, file).map(drop)
}
