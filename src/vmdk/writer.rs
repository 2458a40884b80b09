//! Writes streamOptimized disks: from any source to any stream, compressed on all cores, in the order of the disk.
//!
//! Memory is a few MiB for each thread, whatever the size of the disk. The same bytes and options give the same stream, with any
//! number of threads.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::deflate::Deflater;
use super::descriptor::{CreateType, Descriptor};
use super::error::{Error, Result};
use super::header::{ENTRIES, GrainMarker, Header, Marker, TABLE};
use super::source::{Source, all_zero};
use super::{GRAIN, LARGEST, SECTOR};

/// Sectors that the embedded descriptor has, as other writers give it.
const DESCRIPTOR: u64 = 20;
/// Bytes of the disk that one grain table is for.
const OF_TABLE: u64 = ENTRIES * GRAIN;

/// How a stream is written.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// The name that the descriptor gives to the file; nothing reads it. Default: `generated-stream.vmdk`, as ESXi writes it.
    pub name: String,
    /// `lsilogic`, `buslogic`, `ide` or `legacyESX`. Default: `lsilogic`.
    pub adapter: String,
    /// Default: 13 (vSphere 6.5).
    pub hardware_version: u32,
    /// Default: 2147483647, which says that the tools are managed by the guest.
    pub tools_version: Option<u32>,
    /// Names the content. Default: `fffffffe`.
    pub cid: u32,
    pub uuid: Option<String>,
    /// 1 is fast, 9 small. Default: 1.
    pub level: u32,
    /// Default: one for each processor.
    pub threads: usize,
    /// How much a thread reads at once: a power of two, 64 KiB to 32 MiB. Default: 1 MiB.
    pub piece: u64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            name: "generated-stream.vmdk".to_owned(),
            adapter: "lsilogic".to_owned(),
            hardware_version: 13,
            tools_version: Some(i32::MAX.cast_unsigned()),
            cid: u32::MAX - 1,
            uuid: None,
            level: 1,
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            piece: 1 << 20,
        }
    }
}

/// What a stream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The bytes of the stream.
    pub bytes: u64,
    /// The size of the disk in bytes: the source's, rounded up to sectors.
    pub capacity: u64,
    /// Grains that are not zeros.
    pub grains: u64,
}

/// Writes a disk as streamOptimized VMDK. Zeros and holes are left out.
///
/// Errors: `Option`; `Source` with the source's own error; `Io` where `to` fails: it has then got a part that no reader takes for a whole.
pub fn write_stream(source: &dyn Source, to: &mut dyn Write, options: &StreamOptions) -> Result<Written> {
    if !(1..=9).contains(&options.level) {
        return Err(Error::Option(format!("{} is no level of compression: 1 to 9", options.level)));
    }
    if !options.piece.is_power_of_two() || !(GRAIN..=OF_TABLE).contains(&options.piece) {
        return Err(Error::Option(format!("{} bytes at once: a power of two, 64 KiB to 32 MiB", options.piece)));
    }
    if source.size() > LARGEST {
        return Err(Error::Option(format!("{} bytes are more than 62 TiB, the largest disk", source.size())));
    }
    let descriptor = Descriptor {
        cid: options.cid,
        adapter: options.adapter.clone(),
        hardware_version: options.hardware_version,
        tools_version: options.tools_version,
        uuid: options.uuid.clone(),
        ..Descriptor::new(CreateType::StreamOptimized, source.size(), options.name.clone())
    };
    descriptor.check()?;
    let header = Header::of_stream(source.size().div_ceil(SECTOR), GRAIN / SECTOR, DESCRIPTOR, GRAIN / SECTOR);
    let mut stream = Stream::begin(to, header, &descriptor.text())?;
    let threads = options.threads.clamp(1, 256);
    let line = Line { source, options, most: threads * 3 + 1, state: Mutex::default(), turn: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| line.work());
        }
        let ended = line.drain(&mut stream);
        // Whoever waits learns that nothing is wanted any more.
        line.stop();
        ended
    })?;
    stream.end()
}

/// Grains of one piece as they will stand in the stream.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Each grain's number, and its sector within the bytes.
    grains: Vec<(u64, u64)>,
}

/// What the threads and the one who writes share: pieces are taken in order, made in any, and written in order.
struct Line<'a> {
    source: &'a dyn Source,
    options: &'a StreamOptions,
    /// Pieces that are being made or wait to be written.
    most: usize,
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Default)]
struct State {
    /// Where the next piece begins.
    at: u64,
    taken: u64,
    written: u64,
    /// All pieces are taken.
    last: bool,
    stopped: bool,
    ready: BTreeMap<u64, Result<Piece>>,
    empty: Vec<Piece>,
}

impl Line<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.state().stopped = true;
        self.turn.notify_all();
    }

    fn work(&self) {
        // A panic of the source's must not leave the writer waiting.
        let unwound = Unwound(self);
        let mut deflater = Deflater::new(self.options.level);
        let mut buffer = Vec::new();
        while let Some((number, at, mut piece)) = self.take() {
            let made = self.make(at, &mut deflater, &mut buffer, &mut piece).map(|()| piece);
            self.state().ready.insert(number, made);
            self.turn.notify_all();
        }
        std::mem::forget(unwound);
    }

    /// The number and the place of the next piece that may hold data.
    fn take(&self) -> Option<(u64, u64, Piece)> {
        let mut state = self.state();
        while !state.stopped && !state.last && state.taken - state.written >= self.most as u64 {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped || state.last {
            return None;
        }
        let number = state.taken;
        match self.source.next_data(state.at) {
            Ok(Some(data)) if data.start < self.source.size() => {
                let at = data.start.max(state.at) / self.options.piece * self.options.piece;
                state.at = at + self.options.piece;
                state.taken += 1;
                Some((number, at, state.empty.pop().unwrap_or_default()))
            }
            end => {
                state.last = true;
                if let Err(error) = end {
                    state.taken += 1;
                    state.ready.insert(number, Err(Error::Source(error)));
                }
                drop(state);
                self.turn.notify_all();
                None
            }
        }
    }

    fn make(&self, at: u64, deflater: &mut Deflater, buffer: &mut Vec<u8>, piece: &mut Piece) -> Result<()> {
        let length = (self.source.size() - at).min(self.options.piece) as usize;
        buffer.resize(length.next_multiple_of(GRAIN as usize), 0);
        let (wanted, behind) = buffer.split_at_mut(length);
        self.source.read_at(at, wanted).map_err(Error::Source)?;
        // The disk ends within a grain, and the buffer has held another piece.
        behind.fill(0);
        piece.bytes.clear();
        piece.grains.clear();
        for (grain, bytes) in (at / GRAIN..).zip(buffer.chunks(GRAIN as usize)) {
            if all_zero(bytes) {
                continue;
            }
            let begin = piece.bytes.len();
            piece.grains.push((grain, begin as u64 / SECTOR));
            piece.bytes.extend([0; GrainMarker::BYTES]);
            deflater.append(bytes, &mut piece.bytes)?;
            let size = (piece.bytes.len() - begin - GrainMarker::BYTES) as u32;
            let marker = GrainMarker { sector: grain * (GRAIN / SECTOR), size }.encode();
            piece.bytes.iter_mut().skip(begin).zip(marker).for_each(|(to, from)| *to = from);
            piece.bytes.resize(piece.bytes.len().next_multiple_of(SECTOR as usize), 0);
        }
        Ok(())
    }

    /// Writes the pieces in their order until all are written.
    fn drain(&self, stream: &mut Stream<'_>) -> Result<()> {
        loop {
            let mut state = self.state();
            let piece = loop {
                let next = state.written;
                if let Some(piece) = state.ready.remove(&next) {
                    break piece?;
                }
                if state.stopped || (state.last && state.written == state.taken) {
                    return Ok(());
                }
                state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            stream.piece(&piece)?;
            let mut state = self.state();
            state.written += 1;
            state.empty.push(piece);
            drop(state);
            self.turn.notify_all();
        }
    }
}

/// Stops the line when a thread of it panics.
struct Unwound<'l, 'a>(&'l Line<'a>);

impl Drop for Unwound<'_, '_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The stream as far as it is written.
struct Stream<'w> {
    to: &'w mut dyn Write,
    header: Header,
    /// In sectors.
    at: u64,
    /// The number of the table that is being filled, and its entries.
    table: (u64, [u32; ENTRIES as usize]),
    directory: Vec<u32>,
    grains: u64,
}

impl<'w> Stream<'w> {
    fn begin(to: &'w mut dyn Write, header: Header, descriptor: &str) -> Result<Self> {
        let mut head = header.encode().to_vec();
        head.extend_from_slice(descriptor.as_bytes());
        if head.len() as u64 > (1 + DESCRIPTOR) * SECTOR {
            return Err(Error::Option("the descriptor is longer than 10 KiB".to_owned()));
        }
        head.resize((header.overhead * SECTOR) as usize, 0);
        let mut stream =
            Self { to, header, at: 0, table: (0, [0; ENTRIES as usize]), directory: Vec::new(), grains: 0 };
        stream.write(&head)?;
        Ok(stream)
    }

    fn write(&mut self, sectors: &[u8]) -> Result<()> {
        self.to.write_all(sectors).map_err(Error::io("write the disk"))?;
        self.at += sectors.len() as u64 / SECTOR;
        Ok(())
    }

    /// The sector `behind` from here, as tables name it.
    fn place(&self, behind: u64) -> Result<u32> {
        let full = |_| Error::Option("the stream is longer than 2 TiB, the most that the form can hold".to_owned());
        u32::try_from(self.at + behind).map_err(full)
    }

    fn piece(&mut self, piece: &Piece) -> Result<()> {
        let Some((first, _)) = piece.grains.first() else { return Ok(()) };
        if first / ENTRIES != self.table.0 {
            self.end_table()?;
            self.table.0 = first / ENTRIES;
        }
        for (grain, sector) in &piece.grains {
            let place = self.place(*sector)?;
            // Pieces divide the bytes of a table, so all grains of one are of the same table.
            if let Some(entry) = self.table.1.get_mut((grain % ENTRIES) as usize) {
                *entry = place;
            }
        }
        self.grains += piece.grains.len() as u64;
        self.write(&piece.bytes)
    }

    fn end_table(&mut self) -> Result<()> {
        let (number, entries) = self.table;
        if entries.iter().all(|entry| *entry == 0) {
            return Ok(());
        }
        self.directory.resize(number as usize, 0);
        self.directory.push(self.place(1)?);
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.write(&Marker::Table.encode(TABLE))?;
        self.write(&bytes)?;
        self.table.1 = [0; ENTRIES as usize];
        Ok(())
    }

    fn end(mut self) -> Result<Written> {
        self.end_table()?;
        self.directory.resize(self.header.tables() as usize, 0);
        let mut directory: Vec<u8> = self.directory.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        directory.resize((self.header.directory_sectors() * SECTOR) as usize, 0);
        self.header.directory = u64::from(self.place(1)?);
        self.write(&Marker::Directory.encode(self.header.directory_sectors()))?;
        self.write(&directory)?;
        self.write(&Marker::Footer.encode(1))?;
        self.write(&self.header.encode())?;
        self.write(&Marker::End.encode(0))?;
        self.to.flush().map_err(Error::io("write the disk"))?;
        Ok(Written { bytes: self.at * SECTOR, capacity: self.header.capacity * SECTOR, grains: self.grains })
    }
}
