//! One host: the client that every operation uses.
//!
//! It is not `Clone`, and what it does to objects takes [`Checked`](super::checked::Checked) ones. All methods take `&self`; any number
//! of calls may be under way over the one session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::content::About;
use super::error::Error;
use super::link::Link;
use super::linked::LastScan;
use super::monitor::Monitor;
use super::moref::MoRef;
use super::options::{Credentials, HostOptions, Login};
use super::places::Parts;
use super::session_file::SessionFile;
use super::task::Task;
use super::task_found::KnownTasks;
use super::unfinished::Unfinished;
use super::unregistered::LastSearch;

/// A client for one host, with one session.
pub struct Host {
    pub(super) link: Arc<Link>,
    pub(super) monitor: Monitor,
    pub(super) parts: OnceCell<Parts>,
    pub(super) last_scan: LastScan,
    pub(super) last_search: LastSearch,
    pub(super) tasks: KnownTasks,
    pub(super) unfinished: Unfinished,
}

/// What a client has sent and received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub requests: u64,
    pub logins: u64,
    /// Bytes of request bodies.
    pub bytes_sent: u64,
    /// Bytes of answers' bodies.
    pub bytes_received: u64,
}

/// How a client's connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Since it was opened, and since the host was heard last.
    pub open: Duration,
    pub idle: Duration,
    /// How often the host was looked at ahead of a change, and how often something was sent once more after a pause.
    pub health_checks: u64,
    pub retries: u64,
    /// How many requests may be under way at once, and how many are.
    pub most: usize,
    pub under_way: usize,
    /// Whether the session outlives the process.
    pub kept: bool,
}

impl Host {
    /// Connects to a host. With a kept session this sends nothing: the first request is the one that matters.
    ///
    /// Without one it negotiates the version, reads the service content and logs in, which are three requests. Must be called
    /// inside a tokio runtime. Errors: `esxi.unreachable`, `esxi.certificate_changed`, `esxi.certificate_untrusted`,
    /// `esxi.not_a_host`, `esxi.too_old`, `esxi.invalid_login`, and what `credentials` raises.
    pub async fn connect(options: HostOptions, credentials: Arc<dyn Credentials>) -> Result<Self, Error> {
        let link = Link::open(options, credentials).await?;
        link.keep_open();
        let monitor = Monitor::new(link.clone());
        Ok(Self {
            link,
            monitor,
            parts: OnceCell::new(),
            last_scan: LastScan::default(),
            last_search: LastSearch::default(),
            tasks: KnownTasks::default(),
            unfinished: Unfinished::default(),
        })
    }

    /// The host's name in the configuration.
    pub fn name(&self) -> &str {
        self.link.host()
    }

    /// The URL that requests go to.
    pub fn url(&self) -> String {
        self.link.own_url().to_string()
    }

    /// What the host said about itself when the session was opened.
    pub fn about(&self) -> About {
        self.link.contract().content.about.clone()
    }

    /// Whether this is a vCenter, of which the connection sees one datacenter.
    pub fn is_vcenter(&self) -> bool {
        self.link.contract().content.is_vcenter()
    }

    /// The API version that is spoken, such as `8.0.3.0`.
    pub fn api_version(&self) -> String {
        self.link.contract().version.clone()
    }

    /// What the user should be told and has not been: a kept session that was not usable, and the like.
    pub fn take_notices(&self) -> Vec<String> {
        self.link.take_notices()
    }

    /// What was sent and received so far.
    pub fn traffic(&self) -> Traffic {
        let counters = self.link.counters();
        Traffic {
            requests: counters.requests.load(Ordering::Relaxed),
            logins: counters.logins.load(Ordering::Relaxed),
            bytes_sent: counters.bytes_sent.load(Ordering::Relaxed),
            bytes_received: counters.bytes_received.load(Ordering::Relaxed),
        }
    }

    /// What can be told of the connection now.
    pub fn connection(&self) -> Connection {
        let (open, health_checks, retries) = self.link.pulse().told();
        let (most, under_way) = self.link.permits();
        Connection {
            open,
            idle: self.link.pulse().idle(),
            health_checks,
            retries,
            most,
            under_way,
            kept: self.link.is_kept(),
        }
    }

    /// Waits for a task that was started earlier, by its reference: the way to go on after a lost connection or a restart. The
    /// door's alone, for a task is no checked object.
    pub async fn wait_for_task(&self, task: &MoRef, progress: Progress<'_>) -> Result<(), Error> {
        Task::resume(self, task.clone()).done(progress).await.map(|_| ())
    }

    /// Ends what the client holds on the host: the leases of calls that were dropped, its filter. A session that is kept stays; one that
    /// is not is logged out. Errors: `esxi.left_behind` with what could not be ended in a few seconds.
    pub async fn close(self) -> Result<(), Error> {
        let unfinished = self.end_unfinished().await;
        let Self { link, monitor, .. } = self;
        monitor.close().await;
        let ended = if link.outlives_us() { Ok(()) } else { link.end().await };
        unfinished.and(ended)
    }

    /// Logs out and forgets the kept session.
    pub async fn logout(self) -> Result<(), Error> {
        let unfinished = self.end_unfinished().await;
        let Self { link, monitor, .. } = self;
        monitor.close().await;
        unfinished.and(link.logout().await)
    }

    /// Logs out of a kept session, where there is one; nobody is asked for a password. Returns whether there was one.
    pub async fn logout_kept(options: HostOptions) -> Result<bool, Error> {
        let Some(path) = options.session_file.clone() else { return Ok(false) };
        let file = SessionFile {
            path,
            url: super::transport::Transport::new(&options)?.url().to_string(),
            trust: options.trust.label(),
            username: options.username.clone(),
            datacenter: options.datacenter.clone(),
        };
        match file.read() {
            Ok(Some(_)) => {
                let nobody = Login { username: String::new(), password: String::new().into() };
                Link::open(options, Arc::new(nobody)).await?.logout().await.map(|()| true)
            }
            Ok(None) => Ok(false),
            Err(_) => file.remove().map(|()| false),
        }
    }
}

/// What a long operation says while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What is being done: `copy disk 1 of 2`.
    pub what: &'a str,
    /// How far that is, 0 to 100, where the host says so.
    pub percent: Option<u8>,
}

/// Is told how a long operation gets on.
pub type Progress<'a> = &'a (dyn Fn(Step<'_>) + Send + Sync);

/// Listens to no progress.
pub fn silent(_: Step<'_>) {}
