//! The structure of a streamOptimized disk, front to back: every sector is accounted for, and tables and grains must agree.
//!
//! What tables say is compared with the grains that came by a sum of mixed numbers for each table, so memory is some bytes for each
//! 32 MiB of the disk, in whatever order the parts come. It reads no grain itself: whoever walks reads it, or passes over it.

use std::collections::{BTreeMap, HashMap};

use super::SECTOR;
use super::descriptor::{Descriptor, ExtentKind};
use super::error::{Error, Result};
use super::header::{AT_END, ENTRIES, GrainMarker, Header, Marker, Sector, TABLE, u32_at};
use super::source::all_zero;

/// Where a walk's bytes come from.
pub(super) trait Input {
    /// Fills as much of `bytes` as there is, and says how much that was.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize>;

    /// Passes over so many bytes; says how many there were.
    fn pass(&mut self, bytes: u64) -> Result<u64>;
}

/// A grain that the walk has come to. Its zlib stream comes next in the input: what `first` does not hold of it, and padding.
pub(super) struct Found {
    /// Where it stands in the file, in bytes.
    pub at: u64,
    /// Its number on the disk.
    pub grain: u64,
    pub size: usize,
    /// The first sector, with the marker in front.
    pub first: Sector,
}

impl Found {
    /// How many bytes behind the first sector belong to the grain.
    pub fn rest(&self) -> usize {
        (self.size + GrainMarker::BYTES).next_multiple_of(SECTOR as usize) - SECTOR as usize
    }
}

/// A walk, from the header to the end of the stream.
pub(super) struct Walk<I> {
    pub input: I,
    pub header: Header,
    pub descriptor: Option<Descriptor>,
    /// The next byte of the input.
    at: u64,
    /// One bit for each grain: it has come.
    seen: Vec<u64>,
    /// For each table the sum of the grains that came.
    came: Vec<u64>,
    /// The sum of each table that came behind its grains, by its sector.
    tables: HashMap<u32, u64>,
    /// What the directories in front of the grains say: the sum of each table.
    heads: Vec<Vec<u64>>,
    done: bool,
}

/// What lies at a place in front of the grains.
enum Head {
    Directory(usize, &'static str),
    Table(usize, usize),
}

/// A number that stands for an entry of a table; sums of them are the same in any order, and no others.
fn mixed(slot: u64, place: u32) -> u64 {
    let mut bits = (slot << 32 | u64::from(place)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl<I: Input> Walk<I> {
    /// Reads header, descriptor and what else stands in front of the grains.
    ///
    /// Errors: `Unsupported` where it is a sparse disk, but no stream.
    pub fn begin(input: I) -> Result<Self> {
        let blank = Header::of_stream(0, 1, 0, 1);
        let mut walk = Self {
            input,
            header: blank,
            descriptor: None,
            at: 0,
            seen: Vec::new(),
            came: Vec::new(),
            tables: HashMap::new(),
            heads: Vec::new(),
            done: false,
        };
        let mut first = [0; SECTOR as usize];
        walk.exactly(&mut first, "header")?;
        walk.header = Header::first(&first)?;
        let header = walk.header.clone();
        if !header.is_compressed() {
            return Err(Error::Unsupported(
                "a sparse disk that is not streamOptimized cannot be read as a stream".to_owned(),
            ));
        }
        walk.seen = vec![0; header.grains().div_ceil(64) as usize];
        walk.came = vec![0; header.tables() as usize];
        walk.heads = header.directories().iter().map(|_| vec![0; header.tables() as usize]).collect();
        walk.front(&header)?;
        Ok(walk)
    }

    /// Where the next byte is.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn exactly(&mut self, bytes: &mut [u8], field: &'static str) -> Result<()> {
        let at = self.at;
        let got = self.input.fill(bytes)?;
        self.at += got as u64;
        if got == bytes.len() {
            return Ok(());
        }
        Err(Error::damaged(at, field, format!("the file ends after {got} of its {} bytes", bytes.len())))
    }

    /// Passes over what lies before the byte `to`.
    fn pass_to(&mut self, to: u64, field: &'static str) -> Result<()> {
        let wanted = to.saturating_sub(self.at);
        let passed = self.input.pass(wanted)?;
        self.at += passed;
        if passed == wanted {
            return Ok(());
        }
        Err(Error::damaged(self.at, field, format!("the file ends here, {} bytes before its end", wanted - passed)))
    }

    /// Reads the rest of a grain behind what `found` has of it.
    pub fn rest(&mut self, found: &Found, to: &mut Vec<u8>) -> Result<()> {
        to.clear();
        let first = found.first.get(GrainMarker::BYTES..).unwrap_or_default();
        to.extend_from_slice(first);
        let known = to.len();
        to.resize(known + found.rest(), 0);
        let mut rest = to.split_off(known);
        self.exactly(&mut rest, "grain")?;
        to.append(&mut rest);
        to.truncate(found.size);
        Ok(())
    }

    /// Passes over the rest of a grain.
    pub fn skip(&mut self, found: &Found) -> Result<()> {
        self.pass_to(self.at + found.rest() as u64, "grain")
    }

    /// The descriptor, and directories with their tables, in the order in which they lie.
    fn front(&mut self, header: &Header) -> Result<()> {
        let mut parts: BTreeMap<u64, Head> = BTreeMap::new();
        for (number, (at, field, place)) in header.directories().into_iter().enumerate() {
            if header.tables() > 0 && parts.insert(place, Head::Directory(number, field)).is_some() {
                return Err(Error::damaged(at, field, "it is the other directory"));
            }
        }
        if header.descriptor_size > 0 {
            self.pass_to(header.descriptor * SECTOR, "descriptor")?;
            let mut text = vec![0; (header.descriptor_size * SECTOR) as usize];
            self.exactly(&mut text, "descriptor")?;
            self.descriptor = embedded(&text, header)?;
        }
        while let Some((place, part)) = parts.pop_first() {
            let at = place * SECTOR;
            match part {
                Head::Directory(number, field) => {
                    self.before(at, at, field)?;
                    let mut bytes = vec![0; (header.directory_sectors() * SECTOR) as usize];
                    self.exactly(&mut bytes, field)?;
                    for table in 0..header.tables() as usize {
                        let entry = u32_at(&bytes, table * 4);
                        if entry == 0 {
                            continue;
                        }
                        let own = at + table as u64 * 4;
                        let outside = u64::from(entry) + TABLE > header.overhead;
                        let behind = u64::from(entry) * SECTOR < self.at;
                        if outside || behind || parts.insert(u64::from(entry), Head::Table(number, table)).is_some() {
                            let what = format!("table {table} at sector {entry} lies on something else, or outside");
                            return Err(Error::damaged(own, field, what));
                        }
                    }
                }
                Head::Table(number, table) => {
                    self.before(at, at, "grain table")?;
                    let mut bytes = [0; (TABLE * SECTOR) as usize];
                    self.exactly(&mut bytes, "grain table")?;
                    let sum = self.sum(&bytes, at, Some(table as u64), None)?;
                    if let Some(slot) = self.heads.get_mut(number).and_then(|head| head.get_mut(table)) {
                        *slot = sum;
                    }
                }
            }
        }
        self.before(header.overhead * SECTOR, 64, "overhead")
    }

    /// Goes on to the byte `to`, which must not lie behind.
    fn before(&mut self, to: u64, at: u64, field: &'static str) -> Result<()> {
        if to < self.at {
            return Err(Error::damaged(
                at,
                field,
                format!("it begins before byte {}, where the part before it ends", self.at),
            ));
        }
        self.pass_to(to, field)
    }

    /// The sum of a table's entries. Each must lie between the overhead and `end`; entries of grains behind the disk must be empty.
    fn sum(&self, bytes: &[u8], at: u64, table: Option<u64>, end: Option<u64>) -> Result<u64> {
        let mut sum = 0u64;
        for slot in 0..ENTRIES {
            let Some(place) = self.header.place(u32_at(bytes, slot as usize * 4)) else { continue };
            let outside = u64::from(place) < self.header.overhead || end.is_some_and(|end| u64::from(place) >= end);
            if outside || table.is_some_and(|table| table * ENTRIES + slot >= self.header.grains()) {
                let what = format!("entry {slot} names sector {place}, where no grain of the disk can be");
                return Err(Error::damaged(at + slot * 4, "grain table", what));
            }
            sum = sum.wrapping_add(mixed(slot, place));
        }
        Ok(sum)
    }

    /// The next grain; none at the end of the stream, which is then known to be whole.
    pub fn next(&mut self) -> Result<Option<Found>> {
        while !self.done {
            let at = self.at;
            let mut first = [0; SECTOR as usize];
            let got = self.input.fill(&mut first)?;
            if got == 0 && self.header.directory != AT_END {
                self.done = true;
                return self.compare_heads().map(|()| None);
            }
            self.at += got as u64;
            if got < first.len() {
                let what = format!("the stream ends here: {got} bytes are left, and no marker has said that it ends");
                return Err(Error::damaged(at, "marker", what));
            }
            let marker = GrainMarker::decode(&first);
            if marker.size > 0 {
                return self.found(at, marker, first).map(Some);
            }
            self.marker(at, marker.sector, u32_at(&first, 12))?;
        }
        Ok(None)
    }

    fn found(&mut self, at: u64, marker: GrainMarker, first: Sector) -> Result<Found> {
        let damaged = |field, what: String| Err(Error::damaged(at, field, what));
        let grain = marker.sector / self.header.grain;
        if marker.sector >= self.header.capacity {
            let what = format!("sector {} lies behind the disk, which has {}", marker.sector, self.header.capacity);
            return damaged("grain", what);
        }
        if !marker.sector.is_multiple_of(self.header.grain) {
            return damaged("grain", format!("sector {} is not the first of a grain", marker.sector));
        }
        if marker.size as usize > self.header.grain_bytes() * 2 {
            return damaged("grain size", format!("{} bytes for one grain", marker.size));
        }
        let bit = 1 << (grain % 64);
        match self.seen.get_mut((grain / 64) as usize) {
            Some(seen) if *seen & bit == 0 => *seen |= bit,
            _ => return damaged("grain", format!("the grain of sector {} comes twice", marker.sector)),
        }
        let Ok(place) = u32::try_from(at / SECTOR) else {
            return damaged("grain", "it lies behind 2 TiB, where no table can name it".to_owned());
        };
        if let Some(sum) = self.came.get_mut((grain / ENTRIES) as usize) {
            *sum = sum.wrapping_add(mixed(grain % ENTRIES, place));
        }
        Ok(Found { at, grain, size: marker.size as usize, first })
    }

    /// Reads what follows a marker.
    fn marker(&mut self, at: u64, sectors: u64, kind: u32) -> Result<()> {
        let damaged = |what: String| Err(Error::damaged(at, "marker", what));
        let in_front = self.header.directory != AT_END;
        match kind {
            0 if sectors != 0 => damaged(format!("an end of stream that {sectors} sectors follow")),
            0 if in_front => self.end_without_footer(),
            0 => damaged("the stream ends without grain directory and footer".to_owned()),
            1 | 2 if in_front => damaged("tables among the grains, and a directory in front of them".to_owned()),
            1 if sectors != TABLE => damaged(format!("a grain table of {sectors} sectors, not of {TABLE}")),
            1 => self.table(at),
            2 if sectors != self.header.directory_sectors() => {
                damaged(format!("a grain directory of {sectors} sectors, not of {}", self.header.directory_sectors()))
            }
            2 => self.directory(),
            3 => damaged("a footer without a grain directory before it".to_owned()),
            other => damaged(format!("of type {other}, which is not known")),
        }
    }

    fn table(&mut self, marker: u64) -> Result<()> {
        let at = self.at;
        let mut bytes = [0; (TABLE * SECTOR) as usize];
        self.exactly(&mut bytes, "grain table")?;
        let sum = self.sum(&bytes, at, None, Some(marker / SECTOR))?;
        let place = u32::try_from(at / SECTOR).unwrap_or(u32::MAX);
        self.tables.insert(place, sum);
        if self.tables.len() > self.came.len() {
            let what = format!("one more than the {} of the disk", self.came.len());
            return Err(Error::damaged(at, "grain table", what));
        }
        Ok(())
    }

    /// The grain directory, and all that must follow it.
    fn directory(&mut self) -> Result<()> {
        let place = self.at;
        let mut bytes = vec![0; (self.header.directory_sectors() * SECTOR) as usize];
        self.exactly(&mut bytes, "grain directory")?;
        let mut named = 0;
        for (table, came) in self.came.iter().enumerate() {
            let entry = u32_at(&bytes, table * 4);
            let own = place + table as u64 * 4;
            let wrong = |what: String| Err(Error::damaged(own, "grain directory", what));
            let says = match entry {
                0 => 0,
                entry => match self.tables.remove(&entry) {
                    Some(sum) => sum,
                    None => return wrong(format!("table {table} is not at sector {entry}, or is another's as well")),
                },
            };
            named += u64::from(entry != 0);
            if says != *came {
                return wrong(format!("the entries of table {table} are not the places of its grains"));
            }
        }
        if !self.tables.is_empty() {
            let what = format!("it names {named} tables, and {} more have come", self.tables.len());
            return Err(Error::damaged(place, "grain directory", what));
        }
        let (mut marker, at) = ([0; SECTOR as usize], self.at);
        self.exactly(&mut marker, "footer")?;
        if marker != Marker::Footer.encode(1) {
            return Err(Error::damaged(at, "footer", "no footer follows the grain directory"));
        }
        let (mut footer, at) = ([0; SECTOR as usize], self.at);
        self.exactly(&mut footer, "footer")?;
        let footer = Header::decode(&footer, at)?;
        if footer.directory != place / SECTOR {
            let what = format!("it is at sector {}, not at {}", place / SECTOR, footer.directory);
            return Err(Error::damaged(at + 56, "grain directory", what));
        }
        if footer != (Header { directory: footer.directory, ..self.header.clone() }) {
            return Err(Error::damaged(at, "footer", "it is not the header with the place of the directory"));
        }
        let (mut end, at) = ([0; SECTOR as usize], self.at);
        self.exactly(&mut end, "end of stream")?;
        if end != Marker::End.encode(0) {
            return Err(Error::damaged(at, "end of stream", "a sector of zeros is wanted"));
        }
        let at = self.at;
        if self.input.fill(&mut [0])? > 0 {
            return Err(Error::damaged(at, "end of stream", "bytes follow it"));
        }
        self.done = true;
        Ok(())
    }

    /// Where the directory stands in front, nothing but zeros may follow the end: qemu-img leaves some.
    fn end_without_footer(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let at = self.at;
            let got = self.input.fill(&mut bytes)?;
            self.at += got as u64;
            if bytes.iter().take(got).any(|byte| *byte != 0) {
                return Err(Error::damaged(at, "end of stream", "bytes follow it"));
            }
            if got < bytes.len() {
                self.done = true;
                return self.compare_heads();
            }
        }
    }

    fn compare_heads(&self) -> Result<()> {
        for ((_, field, place), head) in self.header.directories().into_iter().zip(&self.heads) {
            if let Some(table) = head.iter().zip(&self.came).position(|(says, came)| says != came) {
                let what = format!("the entries of table {table} are not the places of its grains");
                return Err(Error::damaged(place * SECTOR + table as u64 * 4, field, what));
            }
        }
        Ok(())
    }
}

/// Reads the place of an embedded descriptor: it says the size of the disk once more. The extents of a disk in pieces have none.
pub(super) fn embedded(text: &[u8], header: &Header) -> Result<Option<Descriptor>> {
    if all_zero(text) {
        return Ok(None);
    }
    let descriptor = Descriptor::parse(text)?;
    let sparse = descriptor.extents.iter().all(|extent| extent.kind == ExtentKind::Sparse);
    if sparse && descriptor.size() == header.capacity * SECTOR {
        return Ok(Some(descriptor));
    }
    let what = format!("its extents have {} sectors, the header says {}", descriptor.size() / SECTOR, header.capacity);
    Err(Error::damaged(header.descriptor * SECTOR, "descriptor", what))
}
