//! HttpNfcLease: the permission to stream a machine's disks out, or a new machine's disks in.
//!
//! A lease is awaited until it is ready, kept alive for as long as the work goes on, and ended: completed, or aborted on any error, for
//! while it is held the machine can neither be powered nor destroyed. The session goes to none but the server that it is with.
//! Specification: vSphere Web Services API, `HttpNfcLease`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::xml::Element;

use super::endpoint::Endpoint;
use super::error::Error;
use super::fault::VimFault;
use super::host::{Host, Progress, Step};
use super::link::patient;
use super::moref::MoRef;
use super::pieces::Form;
use super::property::Query;
use super::soap::{Call, Method};
use super::transfer::{Content, Sink, Sum, Transferred};
use super::unfinished::{Begun, HeldLease, Noted, StillHeld};
use super::watch::Awaited;

const PATHS: &[&str] = &["state", "error"];

/// A lease that is ready.
pub struct Lease<'a> {
    host: &'a Host,
    moref: MoRef,
    /// The machine that it is about.
    pub(super) entity: Option<MoRef>,
    pub files: Vec<LeaseFile>,
    /// How large the disks are that it is about, where that is known.
    pub(super) sizes: Vec<u64>,
    timeout: Duration,
    percent: AtomicU8,
    /// What the host's client knows of it, for when nobody holds it any more.
    noted: Noted<'a>,
    machine: String,
    imports: bool,
    /// Everything was sent, and whether the host has taken it as whole is not known.
    perhaps_whole: AtomicBool,
}

/// How long a lease lasts without anybody, where it does not say so.
const USUAL: Duration = Duration::from_secs(300);

/// How often a lease is completed where the host is seen not to have done so.
const COMPLETIONS: usize = 3;

/// How many pieces wait between two hosts.
const QUEUE: usize = 8;

/// The writing end of a queue to another host.
struct Feed(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Feed {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(piece)));
        sent.map(|()| piece.len()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file behind a lease.
#[derive(Debug, Clone)]
pub struct LeaseFile {
    /// What the descriptor's items call its device.
    pub key: String,
    pub import_key: String,
    /// What the host calls it, such as `disk-0.vmdk`.
    pub target: String,
    pub disk: bool,
    at: Endpoint,
}

impl<'a> Lease<'a> {
    /// Makes a call that gives a lease, and waits until it is ready. `machine` is the one that it holds: `the machine "web-1"`.
    ///
    /// After a lost answer the error names the machine of an export, and that of an import is the caller's to name.
    pub(super) async fn start(host: &'a Host, call: &Call, machine: String) -> Result<Lease<'a>, Error> {
        host.monitor.prepare();
        let imports = call.method == Method::ImportVApp;
        let held = HeldLease { moref: None, machine: machine.clone(), made: None, imports, timeout: USUAL };
        let noted = host.unfinished.note(Begun::Lease(held));
        let answer = host.link.call(call).await.and_then(|answer| {
            let moref = answer.child("returnval").and_then(MoRef::read);
            moref.ok_or_else(|| Error::BadAnswer {
                host: host.name().to_owned(),
                reason: format!("{} without a lease", call.method.wire_name()),
            })
        });
        let moref = match answer {
            Ok(moref) => moref,
            Err(error) => {
                noted.ended();
                let lost = error.outcome_unknown() && !imports;
                let error = host.explained(error).await;
                return Err(if lost { error.still_held(host.name(), &machine, USUAL) } else { error });
            }
        };
        noted.learn(|held| held.moref = Some(moref.clone()));
        let mut lease = Self {
            host,
            moref,
            entity: None,
            files: Vec::new(),
            sizes: Vec::new(),
            timeout: USUAL,
            percent: AtomicU8::new(0),
            noted,
            machine,
            imports,
            perhaps_whole: AtomicBool::new(false),
        };
        match lease.make_ready().await {
            Ok(()) => Ok(lease),
            Err(error) => match lease.give_up().await {
                Ok(()) => Err(error),
                Err(_) if imports => Err(error),
                Err(within) => Err(error.still_held(host.name(), &lease.machine, within)),
            },
        }
    }

    async fn make_ready(&mut self) -> Result<(), Error> {
        let state = |seen: &super::watch::Snapshot| seen.get("state").map(|state| state.text.trim().to_owned());
        let mut watch = self.host.monitor.watch(Awaited {
            object: self.moref.clone(),
            kind: "HttpNfcLease",
            paths: PATHS,
            until: Box::new(move |seen| matches!(state(seen).as_deref(), Some("ready" | "done" | "error"))),
        });
        loop {
            let seen = watch.next().await?;
            match seen.get("state").map(|state| state.text.trim()) {
                Some("ready") => break,
                Some("error" | "done") => return Err(self.failed(seen.get("error"))),
                _ => {}
            }
        }
        let objects = self.host.link.retrieve(&Query::object(&self.moref, "HttpNfcLease", &["info"])).await?;
        let info = objects.iter().find_map(|object| object.get("info"));
        let info = info.ok_or_else(|| self.bad("a lease that is ready and says nothing of itself"))?;
        self.entity = info.child("entity").and_then(MoRef::read);
        let seconds = info.text_at("leaseTimeout").and_then(|text| text.trim().parse::<u64>().ok());
        self.timeout = seconds.filter(|seconds| *seconds > 0).map_or(USUAL, Duration::from_secs);
        self.noted.learn(|held| {
            held.timeout = self.timeout;
            held.made = self.entity.clone().filter(|_| held.imports);
        });
        let urls: Vec<&Element> = info.all("deviceUrl").collect();
        let texts: Vec<&str> = urls.iter().map(|url| url.text_at("url").unwrap_or_default()).collect();
        let places = self.host.endpoints(&texts).await?;
        self.files = urls.into_iter().zip(places).map(|(element, at)| file(element, at)).collect();
        Ok(())
    }

    fn bad(&self, reason: &str) -> Error {
        Error::BadAnswer { host: self.host.name().to_owned(), reason: reason.to_owned() }
    }

    fn failed(&self, error: Option<&Element>) -> Error {
        match error {
            Some(error) => {
                Error::Vim { host: self.host.name().to_owned(), fault: Box::new(VimFault::from_localized(error)) }
            }
            None => self.bad("a lease that has ended without saying why"),
        }
    }

    /// Does the work of the lease while it is kept alive, and completes it; after an error it is aborted, and what the host made for it
    /// is gone. Where it cannot be aborted the error says which machine it holds, and how long.
    pub async fn during<T, E: StillHeld>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let done = self.kept(work).await;
        self.end(done).await
    }

    /// Does a part of the work while the lease is kept alive. Where the host does not keep it any more the part is dropped.
    pub async fn kept<T, E: From<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            done = work => done,
            error = self.keep_alive() => Err(E::from(error)),
        }
    }

    /// The same of what must not be dropped in the middle: that the lease is gone shows afterwards.
    pub async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            error = self.keep_alive() => tracing::warn!(host = self.host.name(), "a lease has ended: {error}"),
        }
        work.await
    }

    /// Completes the lease of work that is done, and aborts that of work that has failed.
    pub async fn end<T, E: StillHeld>(&self, done: Result<T, E>) -> Result<T, E> {
        match done {
            Ok(value) => match patient(self.complete()).await {
                Ok(()) => Ok(value),
                Err(error) => Err(E::from(error.doing("complete the lease"))),
            },
            Err(error) => match self.give_up().await {
                Ok(()) => Err(error),
                Err(within) => Err(error.still_held(self.host.name(), &self.machine, within)),
            },
        }
    }

    /// Whether what was sent is perhaps a whole machine: nobody but its owner may remove it then.
    pub(super) fn perhaps_whole(&self) -> bool {
        self.perhaps_whole.load(Ordering::Relaxed)
    }

    /// Completes the lease. After a lost answer the lease itself says what became of it.
    async fn complete(&self) -> Result<(), Error> {
        let mut tries = COMPLETIONS;
        loop {
            tries -= 1;
            let Err(error) = self.tell(Call::new(&self.moref, Method::LeaseComplete)).await else {
                self.noted.ended();
                return Ok(());
            };
            let seen = self.host.link.retrieve(&Query::object(&self.moref, "HttpNfcLease", &["state"])).await;
            let state = seen.map(|objects| objects.iter().find_map(|object| object.text("state").map(str::to_owned)));
            match state.as_ref().ok().and_then(Option::as_deref).map(str::trim) {
                Some("done") => {
                    self.noted.ended();
                    return Ok(());
                }
                Some("ready") if error.outcome_unknown() && tries > 0 => {}
                // It is not taken as whole, and will not be.
                Some("ready") => {
                    return Err(match self.give_up().await {
                        Ok(()) => error,
                        Err(within) => error.still_held(self.host.name(), &self.machine, within),
                    });
                }
                Some("error") => {
                    self.noted.ended();
                    return Err(error);
                }
                // Aborting it would take away what may be whole; an export's is named, if it lasts.
                _ => {
                    self.perhaps_whole.store(true, Ordering::Relaxed);
                    self.noted.ended();
                    return Err(match self.imports {
                        true => error,
                        false => error.still_held(self.host.name(), &self.machine, self.timeout),
                    });
                }
            }
        }
    }

    /// Aborts the lease; where that fails it ends by itself, within the time that is returned.
    async fn give_up(&self) -> Result<(), Duration> {
        let aborted = patient(self.host.abort_lease(&self.moref)).await;
        aborted.inspect(|()| self.noted.ended()).map_err(|failure| {
            tracing::warn!(host = self.host.name(), "a lease was not aborted and ends by itself: {failure}");
            self.timeout
        })
    }

    /// Says again and again how far the work is; ends only where the host does not take it any more.
    async fn keep_alive(&self) -> Error {
        let pause = (self.timeout / 4).clamp(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            let percent = self.percent.load(Ordering::Relaxed).to_string();
            match self.tell(Call::new(&self.moref, Method::LeaseProgress).with_text("percent", percent)).await {
                Ok(()) => {}
                // There will be another time, if not too late.
                Err(error)
                    if matches!(
                        error.root(),
                        Error::Lost { .. } | Error::Timeout { .. } | Error::Unreachable { .. } | Error::Busy { .. }
                    ) =>
                {
                    tracing::warn!(host = self.host.name(), "a lease was not renewed: {error}");
                }
                Err(error) => return error.doing("keep the lease"),
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn tell(&self, call: Call) -> Result<(), Error> {
        self.host.link.call(&call).await.map(drop)
    }

    /// Says how far the whole work is, for the host and for whoever waits.
    pub fn progress(&self, percent: u8) {
        self.percent.store(percent.min(100), Ordering::Relaxed);
    }

    /// Streams a file out as it comes.
    pub async fn fetch(&self, file: &LeaseFile, sink: Sink, progress: Progress<'_>) -> Result<Transferred, Error> {
        self.fetch_as(Form::Any, file, sink, progress).await
    }

    /// Streams a disk out, and sees on the way that it is a whole streamOptimized one, as large as a disk of the machine.
    ///
    /// Errors: `esxi.bad_answer` where it is not: then what came of it is of no use.
    pub async fn fetch_disk(&self, file: &LeaseFile, sink: Sink, progress: Progress<'_>) -> Result<Transferred, Error> {
        self.fetch_as(Form::Disk(self.sizes.clone()), file, sink, progress).await
    }

    async fn fetch_as(
        &self,
        form: Form,
        file: &LeaseFile,
        sink: Sink,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let got = self.host.stream_out(&file.at, &file.target, (form, Sum::No), sink, progress).await;
        got.map_err(|error| error.doing(format!("export {}", file.target)))
    }

    /// Streams a file in.
    pub async fn send(
        &self,
        file: &LeaseFile,
        content: Content<'_>,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let refused = |status: u16| self.host.refused(status, &file.target);
        let sent = self.host.put(&file.at, "PUT nfc", &content, "import", progress, &refused).await;
        sent.map_err(|error| error.doing(format!("import {}", file.target)))
    }

    /// Streams a disk from another lease into one of this, through a short queue: it lies nowhere in between.
    ///
    /// How long it is shows at its end only, so it is sent in chunks. What breaks off on either side ends both.
    pub async fn carry(
        &self,
        from: (&Lease<'_>, &LeaseFile),
        to: &LeaseFile,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let (source, file) = from;
        let (queue, pieces) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
        let stream =
            stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) });
        let fetching = async {
            // The stream must not end as if it were whole where the source breaks off: so this end of the queue is held.
            let fetched = source.fetch_disk(file, Box::new(Feed(queue.clone())), progress).await;
            if fetched.is_err() {
                // Whoever sends may have ended first.
                drop(queue.send(Err(io::Error::other("the source broke off"))).await);
            }
            drop(queue);
            fetched
        };
        let sending = async {
            let body = reqwest::Body::wrap_stream(stream);
            let status = self.host.link.send_file(&to.at, "PUT nfc", None, body).await?;
            match status {
                200..=204 => Ok(()),
                status => Err(self.host.refused(status, &to.target)),
            }
        };
        let (fetched, sent) = tokio::join!(fetching, sending);
        let unheard =
            |fetched: &Result<_, Error>| matches!(fetched, Err(error) if matches!(error.root(), Error::Local { .. }));
        match (fetched, sent) {
            (Ok(done), Ok(())) => Ok(done),
            // Where the target refuses or goes, the source only sees that nobody takes what it sends.
            (fetched, Err(error)) if !matches!(error.root(), Error::Lost { .. }) || unheard(&fetched) => {
                Err(error.doing(format!("import {}", to.target)))
            }
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(error.doing(format!("import {}", to.target))),
        }
    }

    /// Tells a step of the work.
    pub fn step(&self, what: &str, progress: Progress<'_>) {
        progress(Step { what, percent: Some(self.percent.load(Ordering::Relaxed)) });
    }
}

fn file(element: &Element, at: Endpoint) -> LeaseFile {
    let text = |name: &str| element.text_at(name).unwrap_or_default().trim().to_owned();
    let name = at.url.path_segments().and_then(Iterator::last).unwrap_or_default().to_owned();
    let target = Some(text("targetId")).filter(|target| !target.is_empty()).unwrap_or(name);
    let disk = element.text_at("disk").and_then(super::property::boolean).unwrap_or(true);
    LeaseFile { key: text("key"), import_key: text("importKey"), target, disk, at }
}
