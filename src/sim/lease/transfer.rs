//! The URLs of a lease: `GET /nfc/LEASE/disk-0.vmdk` streams a disk out, `PUT` and `POST` stream one in, as streamOptimized VMDK.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use tokio::sync::mpsc;

use super::{File, Mode, State};
use crate::sim::datastore::chain::Chain;
use crate::sim::datastore::folder::{Refusal, Trouble, authorise, boxed, cut_off};
use crate::sim::datastore::path::DatastorePath;
use crate::sim::datastore::vmdk::{Descriptor, Space};
use crate::sim::http::{Body, Head, status};
use crate::sim::server::Host;
use crate::vmdk::{FileSource, StreamOptions, StreamReader, write_stream};

/// Pieces between the socket and the thread that packs or unpacks.
const QUEUE: usize = 8;
const PIECE: usize = 256 << 10;
/// How much of an upload that is refused in the middle is taken before the answer.
const MOST_UNREAD: u64 = 64 << 20;

/// Answers one request on `/nfc/`.
pub async fn transfer(
    request: Request<Incoming>,
    head: &Head,
    host: &Arc<Host>,
    trouble: Trouble,
) -> Result<Response<Body>, Refusal> {
    host.count(&format!("{} nfc", request.method()));
    authorise(head, host)?;
    let path = request.uri().path().strip_prefix("/nfc/").unwrap_or_default().to_owned();
    let (id, name) = path.split_once('/').ok_or((StatusCode::NOT_FOUND, "There is no such lease.".to_owned()))?;
    let (mode, file, chain, target) = {
        let world = host.world();
        let lease = world.leases.get(id).filter(|lease| lease.state == State::Ready);
        let lease = lease.ok_or((StatusCode::NOT_FOUND, "There is no such lease, or it is not ready.".to_owned()))?;
        let file = lease.files.iter().find(|file| file.name == name).cloned();
        let file = file.ok_or((StatusCode::NOT_FOUND, "The lease has no such file.".to_owned()))?;
        let failed = |fault: crate::sim::fault::VimFault| (StatusCode::INTERNAL_SERVER_ERROR, fault.message);
        let path = DatastorePath::parse(&file.path).map_err(failed)?;
        let chain = match file.disk {
            true => Some(Chain::open(&world.datastore, &path).map_err(failed)?),
            false => None,
        };
        (lease.mode, file, chain, world.datastore.resolve(&path).map_err(failed)?)
    };
    let _busy = Busy::new(host, id);
    match (request.method(), mode, chain) {
        (&Method::GET, Mode::Export, Some(chain)) => Ok(send(host, id, file, chain, trouble.cut)),
        (&Method::PUT | &Method::POST, Mode::Import, chain) => {
            receive(request, host, id, &file, chain, target, trouble.cut).await
        }
        _ => Err((
            StatusCode::METHOD_NOT_ALLOWED,
            "An export is read (GET), an import is written (PUT, POST).".to_owned(),
        )),
    }
}

/// Keeps a lease alive while a transfer is under way.
struct Busy {
    host: Arc<Host>,
    lease: String,
}

impl Busy {
    fn new(host: &Arc<Host>, lease: &str) -> Self {
        if let Some(lease) = host.world().leases.get_mut(lease) {
            lease.busy += 1;
        }
        Self { host: Arc::clone(host), lease: lease.to_owned() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(lease) = self.host.world().leases.get_mut(&self.lease) {
            lease.busy = lease.busy.saturating_sub(1);
        }
    }
}

fn sent(host: &Host, lease: &str, name: &str, bytes: u64, sum: String) {
    if let Some(lease) = host.world().leases.get_mut(lease)
        && let Some(file) = lease.files.iter_mut().find(|file| file.name == name)
    {
        file.sent = Some((bytes, sum));
    }
}

/// Opens what a disk holds as one flat file: a chain is put together first.
fn flat(chain: &Chain) -> io::Result<(FileSource, Option<tempfile::TempDir>)> {
    let other = |error: crate::sim::datastore::vmdk::VmdkError| io::Error::other(error.to_string());
    let top = chain.top().map_err(other)?;
    if chain.links.len() == 1 {
        return Ok((FileSource::open(&top.descriptor.content(&top.at))?, None));
    }
    let folder = top.at.parent().unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".new-").tempdir_in(folder)?;
    let path = beside.path().join("whole.vmdk");
    chain.copy(&path, "lsilogic", Space::Thin, |_| Ok(())).map_err(other)?;
    let content = Descriptor::read(&path).map_err(other)?.content(&path);
    Ok((FileSource::open(&content)?, Some(beside)))
}

fn send(host: &Arc<Host>, lease: &str, file: File, chain: Chain, cut: Option<u64>) -> Response<Body> {
    let (queue, pieces) = mpsc::channel::<io::Result<Frame<Bytes>>>(QUEUE);
    let busy = Busy::new(host, lease);
    tokio::task::spawn_blocking(move || {
        let mut to = Sending {
            queue: queue.clone(),
            piece: Vec::new(),
            sum: Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
            count: 0,
            cut,
        };
        let written = flat(&chain).and_then(|(source, _kept)| {
            let adapter = chain.top().map(|top| top.descriptor.adapter.clone()).unwrap_or_default();
            let options = StreamOptions { adapter, ..StreamOptions::default() };
            write_stream(&source, &mut to, &options).map_err(io::Error::from)?;
            to.flush()
        });
        match written {
            Ok(()) => self::sent(&busy.host, &busy.lease, &file.name, to.count, hex::encode(to.sum.finish())),
            // Nobody is left to tell where the client has gone.
            Err(error) => drop(queue.blocking_send(Err(error))),
        }
    });
    let stream =
        futures_util::stream::unfold(
            pieces,
            |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) },
        );
    let mut response = Response::new(boxed(StreamBody::new(stream)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-vnd.vmware-streamVmdk"));
    response
}

/// What a thread writes, on its way to the socket.
struct Sending {
    queue: mpsc::Sender<io::Result<Frame<Bytes>>>,
    piece: Vec<u8>,
    sum: Context,
    count: u64,
    cut: Option<u64>,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        self.count += bytes.len() as u64;
        self.sum.update(bytes);
        if self.cut.is_some_and(|cut| self.count > cut) {
            return Err(io::Error::other("cut off on demand"));
        }
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        if piece.is_empty() {
            return Ok(());
        }
        self.queue.blocking_send(Ok(Frame::data(piece))).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// What comes from a socket, for a thread that reads.
struct Coming {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    sum: Context,
    count: u64,
}

impl Read for Coming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        let piece = self.piece.split_to(count);
        buffer.iter_mut().zip(piece.iter()).for_each(|(to, from)| *to = *from);
        self.sum.update(&piece);
        self.count += count as u64;
        Ok(count)
    }
}

async fn receive(
    request: Request<Incoming>,
    host: &Arc<Host>,
    lease: &str,
    file: &File,
    chain: Option<Chain>,
    target: PathBuf,
    cut: Option<u64>,
) -> Result<Response<Body>, Refusal> {
    let (queue, pieces) = mpsc::channel(QUEUE);
    let mut coming = Coming { pieces, piece: Bytes::new(), sum: Context::new(&SHA1_FOR_LEGACY_USE_ONLY), count: 0 };
    let free = host.world().datastore.space().1;
    let storing = tokio::task::spawn_blocking(move || {
        let stored = match chain {
            Some(chain) => store_disk(&mut coming, &chain, free),
            None => fs::File::create(&target)
                .and_then(|mut to| io::copy(&mut (&mut coming).take(16 << 20), &mut to).map(drop)),
        };
        stored.map(|()| (coming.count, hex::encode(coming.sum.finish())))
    });
    let mut body = request.into_body();
    let (mut count, mut unread) = (0, 0);
    let mut broke = None;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                let data_length = data.len() as u64;
                count += data_length;
                if cut.is_some_and(|cut| count > cut) {
                    broke = Some(cut_off());
                    break;
                }
                // The thread has ended early, and says why. A connection that is closed on what was not read takes the answer with it.
                if queue.send(data).await.is_err() {
                    unread += data_length;
                    if unread > MOST_UNREAD {
                        break;
                    }
                }
            }
            Ok(Err(_)) => {}
            Err(error) => {
                broke = Some((StatusCode::BAD_REQUEST, format!("The upload of {} ended early: {error}.", file.name)));
                break;
            }
        }
    }
    drop(queue);
    let stored = storing.await.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    if let Some(broke) = broke {
        return Err(broke);
    }
    let (bytes, sum) = stored.map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, format!("{} was not stored: {error}", file.name))
    })?;
    sent(host, lease, &file.name, bytes, sum);
    Ok(status(StatusCode::OK, "stored"))
}

/// Unpacks a streamOptimized disk into the flat one that is there for it.
fn store_disk(from: &mut Coming, chain: &Chain, free: u64) -> io::Result<()> {
    let mut reader = StreamReader::new(io::BufReader::with_capacity(PIECE, from))?;
    if reader.capacity() > chain.capacity() {
        return Err(io::Error::other("the disk that came is larger than the one that it is for"));
    }
    let top = chain.top().map_err(|error| io::Error::other(error.to_string()))?;
    let to = OpenOptions::new().write(true).open(top.descriptor.content(&top.at))?;
    let (mut bytes, mut stored) = (Vec::new(), 0);
    while let Some(at) = reader.next_grain(&mut bytes)? {
        stored += bytes.len() as u64;
        if stored > free {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        to.write_all_at(&bytes, at)?;
    }
    to.sync_all()
}
