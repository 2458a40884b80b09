//! Repositories of backups: from a name to an open one, once in a run, and the work on it.
//!
//! The engine blocks, so its work runs on threads made for that; it is told to stop when the run is stopped or out of time, and ends
//! at its next step. Nobody but this room opens a repository.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretSlice;

use super::acting::Pass;
use super::bind::Binder;
pub use super::catalog::repository_row;
use super::object::{Object, Target, kind};
use super::pass::out_of_time;
use crate::backup::{Error, InitOptions, Repository, Watch, target};
use crate::catalog;
use crate::config::Retention;
use crate::error::Fault;
use crate::esxi::Step;

/// How often work that blocks is looked at: how far it is, and whether it must end.
const LOOK: Duration = Duration::from_millis(100);

/// Where a repository is kept, and what opens it.
pub struct Stored {
    pub target: Arc<dyn target::Target>,
    /// The passphrase or the bytes of a key file; none for a plain repository.
    pub secret: Option<SecretSlice<u8>>,
    /// Where its index is kept on this machine between processes.
    pub cache: Option<PathBuf>,
    /// Which of its backups are kept, where the configuration says so.
    pub retention: Option<Retention>,
}

/// An open repository of a run.
pub struct Opened {
    name: String,
    repository: Repository,
    retention: Option<Retention>,
}

/// A repository that the tables allow for the operation under way.
#[derive(Clone)]
pub struct BoundRepository(Arc<Opened>);

/// The name of a repository that the tables allow to be read, which is opened later: one of several, of which some may not answer.
pub struct CheckedName {
    name: String,
    /// Whether a person typed its place once and the catalog knows it by that: it is opened for the catalog alone.
    typed_out: bool,
}

/// A place for a repository that the tables allow to be made.
pub struct NewRepository {
    name: String,
    stored: Stored,
}

impl Stored {
    fn opened(self, name: String) -> Result<Opened, Fault> {
        let Self { target, secret, cache, retention } = self;
        let repository = Repository::open(target, secret.as_ref(), cache)?;
        Ok(Opened { name, repository, retention })
    }
}

impl BoundRepository {
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The repository, which ends its work when the watch says so.
    pub fn watched(&self, watch: &Arc<Watch>) -> Repository {
        self.0.repository.watched(watch)
    }

    /// What the catalog knows it by: its identity, at its place.
    pub fn identity(&self) -> uuid::Uuid {
        // One that is none is nobody's: what is noted under it is found by no list of a repository.
        let identity = uuid::Uuid::parse_str(&self.0.repository.config().id).unwrap_or_default();
        catalog::Repository::key(identity, self.0.repository.whereabouts())
    }

    /// Which of its backups are kept, where the configuration says so.
    pub fn retention(&self) -> Option<&Retention> {
        self.0.retention.as_ref()
    }

    /// What its handle says of it.
    pub fn open(&self) -> &Repository {
        &self.0.repository
    }

    pub(super) fn object(&self) -> Object {
        Object::Repository(self.0.clone())
    }
}

impl NewRepository {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it, encrypted where there is a secret to open it with.
    pub fn make(self, options: InitOptions) -> Result<Repository, Error> {
        let Stored { target, secret, cache, retention: _ } = self.stored;
        Repository::init(target, &InitOptions { secret, ..options }, cache)
    }

    /// Which of its backups will be kept, where the configuration says so.
    pub fn retention(&self) -> Option<&Retention> {
        self.stored.retention.as_ref()
    }

    /// Whether there is a secret that will open it.
    pub fn has_secret(&self) -> bool {
        self.stored.secret.is_some()
    }
}

impl Binder<'_> {
    /// The repository of that name, for a declared verb.
    pub async fn repository_named(&self, name: &str, verb: &'static str) -> Result<BoundRepository, Fault> {
        self.check("repository", verb, name, false)?;
        self.door().repository(name).await.map(BoundRepository)
    }

    /// The names of repositories, or of all in the configuration, for a declared verb.
    pub fn repositories(&self, names: Option<&[String]>, verb: &'static str) -> Result<Vec<CheckedName>, Fault> {
        let all = || self.door().hosts.repository_names();
        let names = names.map_or_else(all, <[String]>::to_vec);
        let checked = names.into_iter().map(|name| {
            self.check("repository", verb, &name, false)?;
            Ok(CheckedName { name, typed_out: false })
        });
        checked.collect()
    }

    /// The repository behind a handle, for a declared verb.
    pub fn repository(&self, target: &Target<kind::Repository>, verb: &'static str) -> Result<BoundRepository, Fault> {
        let Some(Object::Repository(opened)) = self.object(target.id) else {
            return Err(Fault::new("usage.handle", format!("handle {} is not a repository of this run", target.id))
                .hint("backup.repository(\"NAME\") gives one"));
        };
        self.check("repository", verb, &opened.name, false)?;
        Ok(BoundRepository(opened))
    }

    /// The place of that name, where a repository is to be made.
    pub async fn new_repository(&self, name: &str) -> Result<NewRepository, Fault> {
        self.check("repository", "create", name, false)?;
        let stored = self.door().stored(name).await?;
        Ok(NewRepository { name: name.to_owned(), stored })
    }
}

impl super::Door {
    /// The repository of that name, opened once in a run.
    async fn repository(&self, name: &str) -> Result<Arc<Opened>, Fault> {
        let mut known = self.repositories.lock().await;
        if let Some(opened) = known.get(name) {
            return Ok(opened.clone());
        }
        let (stored, name) = (self.stored(name).await?, name.to_owned());
        let opened = tokio::task::spawn_blocking(move || stored.opened(name));
        let opened = Arc::new(opened.await.map_err(broken)??);
        self.saw_repository(&opened.name, &opened.repository);
        known.insert(opened.name.clone(), opened.clone());
        Ok(opened)
    }

    async fn stored(&self, name: &str) -> Result<Stored, Fault> {
        let (hosts, wanted) = (self.hosts.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || hosts.repository(&wanted)).await.map_err(broken)?
    }
}

impl CheckedName {
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Pass<'_> {
    /// The repositories that the catalog knows by a place that a person typed, and that the tables allow to be read.
    ///
    /// Faults: `catalog.busy` and others of it; one that is damaged knows none.
    pub async fn typed_out_repositories(&self) -> Result<Vec<CheckedName>, Fault> {
        if self.door.hosts.catalog().is_none() {
            return Ok(Vec::new());
        }
        let known = self.catalog(|catalog| match catalog.repositories() {
            Err(catalog::Error::Damaged { .. }) => Ok(Vec::new()),
            known => Ok(known?),
        });
        let names = known.await?.into_iter().map(|(known, _)| known.name);
        let configured = self.door.hosts.repository_names();
        let typed_out = names.filter(|name| !configured.contains(name) && self.may_read("repository", name));
        let typed_out = typed_out.filter(|name| name.starts_with('/') || name.contains("://"));
        Ok(typed_out.map(|name| CheckedName { name, typed_out: true }).collect())
    }

    /// Opens a repository whose name was checked.
    pub async fn open_repository(&self, name: &CheckedName) -> Result<BoundRepository, Fault> {
        if !name.typed_out {
            return self.door.repository(&name.name).await.map(BoundRepository);
        }
        let (hosts, name) = (self.door.hosts.clone(), name.name.clone());
        let opened = tokio::task::spawn_blocking(move || hosts.typed_out_repository(&name)?.opened(name));
        Ok(BoundRepository(Arc::new(opened.await.map_err(broken)??)))
    }

    /// Does work that blocks, on a thread of its own. It is told to stop when the run is stopped or out of time, and when nobody waits
    /// for it any more.
    ///
    /// Faults: those of the work; `script.cancelled` and `limit.run_time` where it was told to stop.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Watch>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        /// Stops the work when the call is dropped.
        struct Waiting(Arc<Watch>);
        impl Drop for Waiting {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        let watch = Arc::new(Watch::default());
        let _waiting = Waiting(watch.clone());
        let (theirs, span) = (watch.clone(), tracing::Span::current());
        let mut work = tokio::task::spawn_blocking(move || span.in_scope(|| work(&theirs)));
        let mut look = tokio::time::interval(LOOK);
        let mut why = None;
        loop {
            tokio::select! {
                biased;
                ended = &mut work => {
                    let ended = ended.map_err(broken)?;
                    return ended.map_err(|fault| why.map_or(fault, |why: Fault| why));
                }
                _ = look.tick() => {
                    self.step(Step { what: "at work", percent: watch.percent() });
                    if why.is_none() {
                        why = self.why_stop();
                    }
                    if why.is_some() {
                        watch.stop();
                    }
                }
            }
        }
    }

    /// Why work must end before it is done; nothing where it may go on.
    fn why_stop(&self) -> Option<Fault> {
        if self.is_stopped() {
            let message = format!("{}: was stopped; what was safe before is as it was", self.operation());
            return Some(Fault::new("script.cancelled", message).hint("run it again: nothing half-made is visible"));
        }
        self.door.time_left().filter(Duration::is_zero).map(|_| out_of_time(self.operation()))
    }
}

fn broken(error: tokio::task::JoinError) -> Fault {
    Fault::new("ceso.backup", format!("work on a repository ended in a panic: {error}"))
        .hint("this is a defect of ceso: please report it")
}
