//! The threads of a transfer: one that reads or writes a file of this machine and sums it where that is wanted, and a short queue to the
//! socket.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::transfer::Landing;
use crate::units;
use crate::vmdk;

/// How large a piece is, and how many wait between the socket and the thread.
const PIECE: usize = 256 << 10;
const QUEUE: usize = 8;

/// Buffers that are used again once whoever was given their content has dropped it: a new one each time costs the kernel more than the copy.
#[derive(Default)]
struct Buffers(VecDeque<BytesMut>);

impl Buffers {
    /// An empty buffer with room for a piece.
    fn next(&mut self) -> BytesMut {
        // The oldest is the first to be free.
        let free = self.0.front_mut().is_some_and(|used| used.try_reclaim(PIECE));
        let used = if free { self.0.pop_front() } else { None };
        used.unwrap_or_else(|| BytesMut::with_capacity(PIECE))
    }

    /// What a buffer holds, as a piece. The buffer is kept.
    fn hand_out(&mut self, mut full: BytesMut) -> Bytes {
        let piece = full.split().freeze();
        // Besides those that wait in the queue, each side holds one.
        if self.0.len() < QUEUE + 3 {
            self.0.push_back(full);
        }
        piece
    }
}

/// Puts together what comes out of a socket in small parts, so that the thread which writes is not woken for each of them.
#[derive(Default)]
pub(super) struct Gathered {
    buffers: Buffers,
    piece: BytesMut,
}

impl Gathered {
    /// Takes what has come, and returns a piece where one is whole.
    pub(super) fn take(&mut self, part: &[u8]) -> Option<Bytes> {
        if self.piece.capacity() == 0 {
            self.piece = self.buffers.next();
        }
        self.piece.extend_from_slice(part);
        // The next part is as large, as a rule: the buffer need not grow for it.
        if self.piece.len() + part.len() <= PIECE { None } else { self.rest() }
    }

    /// What has come since the last piece.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        let piece = std::mem::take(&mut self.piece);
        (!piece.is_empty()).then(|| self.buffers.hand_out(piece))
    }
}

/// How far a download is.
pub(super) struct State {
    pub sink: Box<dyn Landing>,
    /// The sum of what has come, where it is wanted.
    pub sum: Option<Sha256>,
    pub at: u64,
}

/// Why a thread that writes ended early.
pub(super) enum Broken {
    Local(io::Error),
    /// What came is no disk as a host sends it.
    Form(vmdk::Error),
}

/// What is to come.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Any,
    /// A streamOptimized disk, whole, of one of these sizes; of any where there are none.
    Disk(Vec<u64>),
}

pub(super) type Writing = JoinHandle<(State, Result<(), Broken>)>;

/// A thread that writes and sums what comes through a queue; where it comes `anew`, what has come before is thrown away.
pub(super) fn write_pieces(
    mut state: State,
    anew: bool,
    form: Form,
    passed: Arc<AtomicU64>,
) -> (mpsc::Sender<Bytes>, Writing) {
    let (queue, pieces) = mpsc::channel::<Bytes>(QUEUE);
    let writing = tokio::task::spawn_blocking(move || {
        if anew {
            if let Err(error) = state.sink.begin_anew() {
                return (state, Err(Broken::Local(error)));
            }
            state.sum = state.sum.map(|_| Sha256::new());
            state.at = 0;
        }
        let mut coming = Coming { pieces, state, passed, piece: Bytes::new(), failure: None };
        let ended = match form {
            Form::Any => coming.come_to_end(),
            Form::Disk(sizes) => vmdk::check_stream(&mut coming, |size| one_of(&sizes, size)),
        };
        let Coming { state, failure, .. } = coming;
        match (failure, ended) {
            (Some(error), _) => (state, Err(Broken::Local(error))),
            (None, Err(error)) => (state, Err(Broken::Form(error))),
            (None, Ok(())) => (state, Ok(())),
        }
    });
    (queue, writing)
}

/// A stream says the size of its disk in whole grains, or to the byte.
fn one_of(sizes: &[u64], size: u64) -> vmdk::Result<()> {
    if sizes.is_empty() || sizes.iter().any(|own| *own == size || own.next_multiple_of(vmdk::GRAIN) == size) {
        return Ok(());
    }
    let own: Vec<String> = sizes.iter().map(|size| units::Bytes(*size).to_string()).collect();
    let reason = format!("it has {}, and the machine's disks have {}", units::Bytes(size), own.join(", "));
    Err(vmdk::Error::Unsupported(reason))
}

/// What comes through a queue, written and summed before it is looked at.
struct Coming {
    pieces: mpsc::Receiver<Bytes>,
    state: State,
    passed: Arc<AtomicU64>,
    /// What of the last piece is still to be looked at.
    piece: Bytes,
    failure: Option<io::Error>,
}

impl Coming {
    /// Takes the next piece; none at the end, or once it could not be written.
    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.blocking_recv().filter(|_| self.failure.is_none())?;
        if let Err(error) = self.state.sink.write_all(&piece) {
            self.failure = Some(error);
            return None;
        }
        if let Some(sum) = &mut self.state.sum {
            sum.update(&piece);
        }
        self.state.at += piece.len() as u64;
        self.passed.store(self.state.at, Ordering::Relaxed);
        Some(piece)
    }

    fn come_to_end(&mut self) -> vmdk::Result<()> {
        while self.next().is_some() {}
        Ok(())
    }
}

impl Read for Coming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Coming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() {
            self.piece = self.next().unwrap_or_default();
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count.min(self.piece.len()));
    }
}

pub(super) type Pieces = std::pin::Pin<Box<dyn futures_util::Stream<Item = io::Result<Bytes>> + Send>>;

/// A thread that reads so many bytes, and sums them where that is wanted, and the stream that they come out of. `passed` counts what was taken from the stream.
pub(super) fn read_pieces(
    mut reader: Box<dyn Read + Send>,
    length: u64,
    summed: bool,
    passed: Arc<AtomicU64>,
) -> (Pieces, JoinHandle<io::Result<Option<[u8; 32]>>>) {
    let (queue, pieces) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let summing = tokio::task::spawn_blocking(move || {
        let (mut sum, mut buffers) = (summed.then(Sha256::new), Buffers::default());
        let mut left = length;
        while left > 0 {
            let mut piece = buffers.next();
            piece.resize(usize::try_from(left).map_or(PIECE, |left| left.min(PIECE)), 0);
            let mut count = 0;
            while let Some(rest) = piece.get_mut(count..).filter(|rest| !rest.is_empty()) {
                match reader.read(rest) {
                    Ok(0) => break,
                    Ok(read) => count += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return broken(&queue, error),
                }
            }
            if count == 0 {
                let why = format!("the content ended {left} bytes too early: it was changed while it was read");
                return broken(&queue, io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            piece.truncate(count);
            if let Some(sum) = &mut sum {
                sum.update(&piece);
            }
            left -= count as u64;
            // Whoever takes the pieces has gone, and says why.
            if queue.blocking_send(Ok(buffers.hand_out(piece))).is_err() {
                break;
            }
        }
        Ok(sum.map(|sum| sum.finalize().into()))
    });
    let pieces = stream::unfold((pieces, passed), |(mut pieces, passed)| async move {
        let piece = pieces.recv().await?;
        let length = piece.as_ref().map_or(0, Bytes::len);
        passed.fetch_add(length as u64, Ordering::Relaxed);
        Some((piece, (pieces, passed)))
    });
    (Box::pin(pieces), summing)
}

/// Ends the stream with an error, and gives the same to whoever waits for the sum.
fn broken<T>(queue: &mpsc::Sender<io::Result<Bytes>>, error: io::Error) -> io::Result<T> {
    let same = io::Error::new(error.kind(), error.to_string());
    // Nobody is left to tell where the stream is gone.
    drop(queue.blocking_send(Err(same)));
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_its_piece_is_gone() {
        let mut buffers = Buffers::default();
        let mut first = buffers.next();
        first.extend_from_slice(b"piece");
        let place = first.as_ptr();
        let piece = buffers.hand_out(first);
        let other = buffers.next();
        assert_ne!(other.as_ptr(), place);
        assert_eq!(piece.as_ref(), b"piece");
        drop(piece);
        let again = buffers.next();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn parts_of_every_length_come_out_in_order_and_none_is_kept_back() {
        let bytes: Vec<u8> = (0..3 * PIECE + 77).map(|at| (at / 251) as u8).collect();
        for length in [1000, 16 << 10, PIECE - 1, PIECE, PIECE + 1] {
            let (mut gathered, mut came) = (Gathered::default(), Vec::new());
            for part in bytes.chunks(length) {
                came.extend(gathered.take(part));
            }
            came.extend(gathered.rest());
            assert!(gathered.rest().is_none());
            assert_eq!(came.concat(), bytes, "{length}");
        }
    }

    /// What a thread makes of a stream that comes in pieces of so many bytes: what it wrote, and why it ended early.
    async fn carried(stream: &[u8], piece: usize, sizes: &[u64]) -> (u64, Result<(), String>) {
        let state = State { sink: Box::<Vec<u8>>::default(), sum: Some(Sha256::new()), at: 0 };
        let form = Form::Disk(sizes.to_vec());
        let (queue, writing) = write_pieces(state, false, form, Arc::default());
        for piece in stream.chunks(piece) {
            if queue.send(Bytes::copy_from_slice(piece)).await.is_err() {
                break;
            }
        }
        drop(queue);
        let (state, ended) = writing.await.unwrap();
        let told = ended.map_err(|broken| match broken {
            Broken::Form(error) => error.to_string(),
            Broken::Local(error) => panic!("{error}"),
        });
        if told.is_ok() {
            assert_eq!(state.sum.unwrap().finalize(), Sha256::digest(stream), "all of it, and in order");
        }
        (state.at, told)
    }

    #[tokio::test]
    async fn only_a_whole_disk_of_the_machine_is_taken_for_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let size = (5 << 20) + 512;
        // It does not pack.
        let mut state = 1_u64;
        let next = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        std::fs::write(file.path(), next.take(size).collect::<Vec<u8>>()).unwrap();
        let mut good = Vec::new();
        let source = vmdk::FileSource::open(file.path()).unwrap();
        vmdk::write_stream(&source, &mut good, &vmdk::StreamOptions::default()).unwrap();
        let size = size as u64;
        for piece in [1000, 512, 64 << 10, good.len()] {
            assert_eq!(carried(&good, piece, &[7, size]).await, (good.len() as u64, Ok(())), "{piece}");
        }
        assert_eq!(carried(&good, 4096, &[]).await.1, Ok(()), "of any size");
        // Whole grains are said of a disk that ends within one, and no less.
        assert!(one_of(&[size], size - 512).is_err());
        assert!(one_of(&[(5 << 20) + 512], (5 << 20) + vmdk::GRAIN).is_ok());
        let refused = async |stream: Vec<u8>, what: &str| {
            let (_, told) = carried(&stream, 4096, &[size]).await;
            let told = told.unwrap_err();
            assert!(told.contains(what), "{what}: {told}");
        };
        refused(b"<html><body>503 Service Unavailable</body></html>".to_vec(), "header").await;
        refused([b"<html>".to_vec(), vec![b' '; 4096]].concat(), "magic").await;
        refused(Vec::new(), "header").await;
        refused(good[..good.len() - 512].to_vec(), "end of stream").await;
        refused(good[..good.len() / 2].to_vec(), "ends").await;
        refused([&good[..], b"more"].concat(), "bytes follow it").await;
        let mut version = good.clone();
        version[4] = 9;
        refused(version, "version").await;
        let (came, told) = carried(&good, 4096, &[size * 2]).await;
        assert!(told.unwrap_err().contains("the machine's disks have"), "another size");
        assert!(came < good.len() as u64 / 2, "it is refused as soon as its header has come: {came}");
    }
}
