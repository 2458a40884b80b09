//! Which chunks of a disk are read, and how their ids become segments.
//!
//! Holes are not read; where a parent and the areas changed since are given, only those areas are.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blob::{Kind, Press};
use super::error::{Error, Result};
use super::id::Id;
use super::manifest::{Root, SEGMENT};
use super::store::Store;
use crate::vmdk::Source;

/// The disk of an earlier backup, and where this one differs from it.
pub(super) struct Base<'a> {
    pub root: Root,
    pub segment: &'a (dyn Fn(u64) -> Result<Vec<Id>> + Sync),
    /// Whether a chunk can still be found.
    pub has: &'a (dyn Fn(&Id) -> Result<bool> + Sync),
    /// How many chunks it should have and has not.
    pub lost: AtomicU64,
    /// In ascending order, not overlapping.
    pub changed: &'a [Range<u64>],
}

/// What a worker does next.
pub(super) enum Work {
    /// Read this chunk.
    Chunk(u64),
    /// Nothing of this segment is read: these are its chunks.
    Segment(u64, Vec<Id>),
    /// This segment is that of the base, if the base still has all of it.
    Same(u64, Id),
}

impl Base<'_> {
    /// The chunks of a segment that can be taken over: nothing in the place of those that were changed or cannot be found any more.
    pub fn left(&self, segment: u64, is_changed: &[bool]) -> Result<Vec<Option<Id>>> {
        let ids = match (self.segment)(segment) {
            Err(error) if error.is_damage() => None,
            ids => Some(ids?),
        };
        let mut left = Vec::with_capacity(is_changed.len());
        for (at, is_changed) in is_changed.iter().enumerate() {
            let id = ids.as_ref().and_then(|ids| ids.get(at)).copied().filter(|_| !is_changed);
            let is_there = match &id {
                Some(id) => *id == Id::ZERO || (self.has)(id)?,
                None => false,
            };
            if !is_there && !is_changed {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            left.push(id.filter(|_| is_there));
        }
        Ok(left)
    }
}

/// Hands out the work of one disk, in order.
pub(super) struct Feed<'a> {
    source: &'a dyn Source,
    root: &'a Root,
    base: Option<&'a Base<'a>>,
    segment: u64,
    queue: VecDeque<Work>,
    data: Option<Range<u64>>,
}

impl<'a> Feed<'a> {
    pub fn new(source: &'a dyn Source, root: &'a Root, base: Option<&'a Base<'a>>) -> Self {
        Self { source, root, base, segment: 0, queue: VecDeque::new(), data: None }
    }

    /// The next work. `assembly` learns of a segment's other chunks before its first is handed out.
    pub fn next(&mut self, assembly: &mut Assembly) -> Result<Option<Work>> {
        while self.queue.is_empty() {
            if self.segment * SEGMENT as u64 >= self.root.chunks() {
                return Ok(None);
            }
            self.plan(self.segment, assembly)?;
            self.segment += 1;
        }
        Ok(self.queue.pop_front())
    }

    fn plan(&mut self, segment: u64, assembly: &mut Assembly) -> Result<()> {
        let size = u64::from(self.root.chunk_size);
        let first = segment * SEGMENT as u64;
        let length = self.root.chunks_in(segment);
        let bytes = |chunk: u64| chunk * size..(chunk * size + self.root.length(chunk) as u64);
        let mut ids = vec![Id::ZERO; length];
        let mut wanted: Vec<u64> = (first..first + length as u64).collect();
        if let Some(base) = self.base {
            let changed = |range: &Range<u64>| {
                let at = base.changed.partition_point(|area| area.end <= range.start);
                base.changed.get(at).is_some_and(|area| area.start < range.end)
            };
            let all = std::mem::take(&mut wanted);
            let is_changed: Vec<bool> = all.iter().map(|chunk| changed(&bytes(*chunk))).collect();
            if !is_changed.contains(&true) {
                let same = usize::try_from(segment).ok().and_then(|segment| base.root.segments.get(segment).copied());
                let same = same.ok_or_else(|| Error::Option("the parent's disk is shorter".to_owned()))?;
                self.queue.push_back(Work::Same(segment, same));
                return Ok(());
            }
            let left = base.left(segment, &is_changed)?;
            for (at, chunk) in all.into_iter().enumerate() {
                match left.get(at) {
                    Some(Some(id)) => ids[at] = *id,
                    _ => wanted.push(chunk),
                }
            }
        }
        let mut with_data = Vec::with_capacity(wanted.len());
        for chunk in wanted {
            if self.has_data(&bytes(chunk))? {
                with_data.push(chunk);
            }
        }
        if with_data.is_empty() {
            self.queue.push_back(Work::Segment(segment, ids));
        } else {
            assembly.open.insert(segment, (with_data.len(), ids));
            self.queue.extend(with_data.into_iter().map(Work::Chunk));
        }
        Ok(())
    }

    /// Whether a range may hold something but zeros. Ranges are asked for in ascending order.
    fn has_data(&mut self, range: &Range<u64>) -> Result<bool> {
        if self.data.as_ref().is_none_or(|data| data.end <= range.start) {
            let next = self.source.next_data(range.start);
            let next = next.map_err(|source| Error::Source { place: "the disk".to_owned(), source })?;
            // Behind the last data nothing is asked again.
            self.data = Some(next.unwrap_or(u64::MAX..u64::MAX));
        }
        Ok(self.data.as_ref().is_some_and(|data| data.start < range.end))
    }
}

/// The segments that are being filled.
#[derive(Default)]
pub(super) struct Assembly {
    open: HashMap<u64, (usize, Vec<Id>)>,
    done: HashMap<u64, Id>,
}

impl Assembly {
    /// Notes a chunk's id. Returns the segment's ids where this was its last.
    pub fn set(&mut self, chunk: u64, id: Id) -> Option<(u64, Vec<Id>)> {
        let segment = chunk / SEGMENT as u64;
        let (left, ids) = self.open.get_mut(&segment)?;
        if let Some(place) = ids.get_mut((chunk % SEGMENT as u64) as usize) {
            *place = id;
        }
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.open.remove(&segment).map(|(_, ids)| (segment, ids))
    }

    pub fn finish(&mut self, segment: u64, id: Id) {
        self.done.insert(segment, id);
    }

    /// All segments in order.
    pub fn segments(self, count: u64) -> Option<Vec<Id>> {
        (0..count).map(|segment| self.done.get(&segment).copied()).collect()
    }
}

/// Stores a segment; zeros alone are not.
pub(super) fn store_segment(store: &Store<'_>, press: &mut Press, ids: &[Id]) -> Result<Id> {
    if ids.iter().all(|id| *id == Id::ZERO) {
        return Ok(Id::ZERO);
    }
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
    store.put(press, Kind::Segment, &bytes).map(|(id, _)| id)
}
