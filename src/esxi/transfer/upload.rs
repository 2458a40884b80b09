//! Uploads: under a name of their own first, and moved to their place once they are whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::esxi::checked::Checked;
use crate::esxi::endpoint::Endpoint;
use crate::esxi::error::Error;
use crate::esxi::file_path::FilePath;
use crate::esxi::host::{Host, Progress, Step};
use crate::esxi::object::Datastore;
use crate::esxi::pieces::read_pieces;
use crate::units::Span;

use super::{Content, Sum, Transferred, local, percent};

impl Host {
    /// Uploads a file to where nothing is yet: under another name first, which is then moved to its own.
    ///
    /// Errors: `esxi.file_already_exists`, `esxi.no_disk_space` before anything is sent where that is known, `local.file` where the
    /// content cannot be read, `local.sum` where it has another sum than is wanted. After an error nothing is left, or the error names it.
    pub async fn upload(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        content: Content<'_>,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let target = path.on(&datastore.name);
        let sent = async {
            if self.length_of(datastore, path).await?.is_some() {
                return Err(self.file_exists(&target));
            }
            self.check_space(datastore, content.length).await?;
            let beside = path.beside(&format!(".ceso-{}.part", uuid::Uuid::new_v4().simple()))?;
            let sent = match self.put_file(datastore, &beside, &content, progress).await {
                Ok(sent) => match content.sum.check(&target, sent) {
                    Ok(sent) => self.check_arrived(datastore, &beside, sent).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let sent = match sent {
                Ok(sent) => sent,
                Err(error) => {
                    let error = self.missing_space(datastore, content.length, error).await;
                    return Err(self.take_away(datastore, &beside, error).await);
                }
            };
            match self.move_plain(&beside.on(&datastore.name), &target).await {
                Ok(()) => Ok(sent),
                // The answer was lost: what the host did is looked for before anything else is done.
                Err(error) if error.outcome_unknown() => match self.length_of(datastore, path).await {
                    Ok(Some(length)) if length == sent.bytes => Ok(sent),
                    _ => Err(self.take_away(datastore, &beside, error).await),
                },
                Err(error) => Err(self.take_away(datastore, &beside, error).await),
            }
        };
        sent.await.map_err(|error: Error| error.doing(format!("upload {target}")))
    }

    async fn put_file(
        &self,
        datastore: &Datastore,
        path: &FilePath,
        content: &Content<'_>,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let at = self.link.folder(&datastore.name, path.as_str());
        let status = |status: u16| self.refused(status, &path.on(&datastore.name));
        match self.put(&at, "PUT folder", content, "upload", progress, &status).await {
            // A host that refuses a session, or is full, may say so and close before it has read what is sent: looking at the file
            // renews the session. The name is this upload's own, so sending it again does no harm.
            Err(error @ Error::Lost { .. }) => {
                tracing::info!(host = self.name(), "an upload broke off and is made anew: {error}");
                self.link.label().retry("upload");
                self.length_of(datastore, path).await?;
                let sent = self.put(&at, "PUT folder", content, "upload", progress, &status).await?;
                Ok(Transferred { resumed: 1, ..sent })
            }
            sent => sent,
        }
    }

    /// Sends content to an endpoint, and takes any status of success.
    pub(in crate::esxi) async fn put(
        &self,
        at: &Endpoint,
        label: &'static str,
        content: &Content<'_>,
        what: &str,
        progress: Progress<'_>,
        refused: &(dyn Fn(u16) -> Error + Send + Sync),
    ) -> Result<Transferred, Error> {
        for last in [false, true] {
            let generation = self.link.epoch();
            let reader = (content.open)().map_err(|error| local(&error))?;
            let passed = Arc::new(AtomicU64::new(0));
            let (pieces, summing) = read_pieces(reader, content.length, content.sum != Sum::No, passed.clone());
            let sending = self.link.send_file(at, label, Some(content.length), reqwest::Body::wrap_stream(pieces));
            let status = self.watched(sending, &passed, content.length, what, progress).await;
            // What is said of a file before all of it was sent says nothing of the file.
            let unsent = content.length.saturating_sub(passed.load(Ordering::Relaxed));
            if let (Ok(status @ 200..=204), 1..) = (&status, unsent) {
                let reason = format!("HTTP {status} to an upload of which {unsent} bytes were still to be sent");
                return Err(Error::BadAnswer { host: self.name().to_owned(), reason });
            }
            let summed = summing.await.map_err(|error| local(&error));
            let status = match (status, summed) {
                // What could not be read here is why the request broke off.
                (Err(_), Ok(Err(error))) => return Err(local(&error)),
                (status, _) if matches!(status, Ok(401)) && !last && at.system.is_none() => {
                    self.link.renew(generation).await?;
                    continue;
                }
                (Ok(200..=204), Ok(Ok(sha256))) => {
                    return Ok(Transferred { bytes: content.length, sha256, resumed: 0 });
                }
                (Ok(200..=204), Ok(Err(error))) => return Err(local(&error)),
                (Ok(status), _) => status,
                (Err(error), _) => return Err(error),
            };
            return Err(refused(status));
        }
        Err(Error::BadAnswer { host: self.name().to_owned(), reason: "no session for an upload".to_owned() })
    }

    /// Waits for an upload as long as it gets on.
    async fn watched<T>(
        &self,
        sending: impl Future<Output = Result<T, Error>>,
        passed: &AtomicU64,
        length: u64,
        what: &str,
        progress: Progress<'_>,
    ) -> Result<T, Error> {
        tokio::pin!(sending);
        let patience = self.link.options.timeouts.request;
        let tick = Duration::from_millis(500).min(patience);
        let (mut seen, mut still) = (0, Duration::ZERO);
        loop {
            tokio::select! {
                sent = &mut sending => return sent,
                () = tokio::time::sleep(tick) => {}
            }
            let now = passed.load(Ordering::Relaxed);
            still = if now == seen { still + tick } else { Duration::ZERO };
            seen = now;
            progress(Step { what, percent: percent(now, length) });
            if still >= patience {
                return Err(Error::Timeout { host: self.name().to_owned(), after: Span(patience) });
            }
        }
    }

    async fn check_arrived(
        &self,
        datastore: &Datastore,
        path: &FilePath,
        sent: Transferred,
    ) -> Result<Transferred, Error> {
        match self.length_of(datastore, path).await? {
            Some(length) if length == sent.bytes => Ok(sent),
            length => Err(Error::BadAnswer {
                host: self.name().to_owned(),
                reason: format!("{} bytes were sent, and {} arrived", sent.bytes, length.unwrap_or_default()),
            }),
        }
    }

    /// Takes away what an upload has left; the error names it where that fails.
    async fn take_away(&self, datastore: &Datastore, path: &FilePath, error: Error) -> Error {
        let file = path.on(&datastore.name);
        match self.delete_file(&file).await {
            Ok(()) => error,
            Err(failure) if failure.is("FileNotFound") => error,
            Err(failure) => Error::LeftBehind {
                host: self.name().to_owned(),
                left: vec![format!("perhaps {file} ({failure})")],
                source: Box::new(error),
            },
        }
    }
}
