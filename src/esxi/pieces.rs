//! The threads of a transfer: one that reads or writes a file of this machine and sums it, and a short queue to the socket.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::transfer::Landing;

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
    pub sum: Sha256,
    pub at: u64,
}

pub(super) type Writing = JoinHandle<(State, io::Result<()>)>;

/// A thread that writes and sums what comes through a queue; where it comes `anew`, what has come before is thrown away.
pub(super) fn write_pieces(mut state: State, anew: bool, passed: Arc<AtomicU64>) -> (mpsc::Sender<Bytes>, Writing) {
    let (queue, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
    let writing = tokio::task::spawn_blocking(move || {
        if anew {
            if let Err(error) = state.sink.begin_anew() {
                return (state, Err(error));
            }
            (state.sum, state.at) = (Sha256::new(), 0);
        }
        while let Some(piece) = pieces.blocking_recv() {
            if let Err(error) = state.sink.write_all(&piece) {
                return (state, Err(error));
            }
            state.sum.update(&piece);
            state.at += piece.len() as u64;
            passed.store(state.at, Ordering::Relaxed);
        }
        (state, Ok(()))
    });
    (queue, writing)
}

pub(super) type Pieces = std::pin::Pin<Box<dyn futures_util::Stream<Item = io::Result<Bytes>> + Send>>;

/// A thread that reads and sums so many bytes, and the stream that they come out of. `passed` counts what was taken from the stream.
pub(super) fn read_pieces(
    mut reader: Box<dyn Read + Send>,
    length: u64,
    passed: Arc<AtomicU64>,
) -> (Pieces, JoinHandle<io::Result<[u8; 32]>>) {
    let (queue, pieces) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let summing = tokio::task::spawn_blocking(move || {
        let (mut sum, mut buffers) = (Sha256::new(), Buffers::default());
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
            sum.update(&piece);
            left -= count as u64;
            // Whoever takes the pieces has gone, and says why.
            if queue.blocking_send(Ok(buffers.hand_out(piece))).is_err() {
                break;
            }
        }
        Ok(sum.finalize().into())
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
fn broken(queue: &mpsc::Sender<io::Result<Bytes>>, error: io::Error) -> io::Result<[u8; 32]> {
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
}
