//! One session with one host, shared by every call, and the requests that go over it.
//!
//! Any number of calls may be under way. What a request meets (a session that has run out, a host that is busy or away for a while) is
//! dealt with here; a change whose answer was lost is never sent twice. How a session comes about and ends is in `session`, files are in
//! `files`.

mod files;
mod session;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;
use tracing::Instrument;
use url::Url;

use crate::metrics::{Connection, HostLabel};
use crate::xml::Element;

use super::abilities::Probed;
use super::content::ServiceContent;
use super::error::Error;
use super::options::{Credentials, HostOptions};
use super::property::Query;
use super::pulse::Pulse;
use super::session_file::SessionFile;
use super::soap::{self, Call, Method, Reply};
use super::transport::Transport;
use session::know_cookie;

/// How often a call may find its session gone before it gives up: one kept by another process, then one of our own.
const RENEWALS: usize = 2;

/// What every call of a session needs: the version that is spoken, and the host's parts.
pub(super) struct Contract {
    pub version: String,
    pub content: ServiceContent,
}

/// A session as the calls see it; the generation tells whether somebody else has renewed it meanwhile.
struct Current {
    generation: u64,
    cookie: Option<String>,
    contract: Arc<Contract>,
}

tokio::task_local! {
    /// Set while something is made or taken away: a host that is away for a while is waited for, instead of leaving things half done.
    static PATIENT: ();
    /// The `operationID` of the requests that the current call sends.
    static OPERATION: String;
}

/// Has every request that the future sends carry this `operationID`, by which the host's own logs know it. What goes on in tasks of
/// their own, such as the watch for updates, carries the one of the client's options.
pub fn identified<F: Future>(id: String, future: F) -> impl Future<Output = F::Output> {
    OPERATION.scope(id, future)
}

/// Has the requests that the future sends wait for a host that cannot be reached or is too busy: neither request has reached it. They wait
/// as long as [`Timeouts::reconnect`](super::options::Timeouts) says.
pub fn patient<F: Future>(future: F) -> impl Future<Output = F::Output> {
    PATIENT.scope((), future)
}

/// The first pause before a host that is away is asked again; it doubles up to eight times that.
const PAUSE: Duration = Duration::from_millis(200);

/// The shortest pause between two uses of a connection that is only to stay open.
const SHORTEST: Duration = Duration::from_millis(100);

/// How often a busy host is given a rest by a call that may simply be made again.
const RESTS: u32 = 3;

pub(super) struct Link {
    pub(super) options: HostOptions,
    pub(super) transport: Transport,
    credentials: Arc<dyn Credentials>,
    file: Option<SessionFile>,
    current: RwLock<Current>,
    /// Held by the one who logs in; holds the user that the host has refused.
    gate: AsyncMutex<Option<String>>,
    notices: Mutex<Vec<String>>,
    /// The host was shut down by us: there is nobody to log out of.
    gone: AtomicBool,
    pulse: Pulse,
    pub(super) probed: RwLock<Option<Probed>>,
    /// Counts the link as open until it is gone.
    _open: Connection,
}

impl Link {
    /// Takes up a kept session without a request, or opens one.
    pub(super) async fn open(options: HostOptions, credentials: Arc<dyn Credentials>) -> Result<Arc<Self>, Error> {
        let transport = Transport::new(&options)?;
        let file = options.session_file.as_ref().map(|path| SessionFile {
            path: path.clone(),
            url: transport.url().to_string(),
            trust: options.trust.label(),
            username: options.username.clone(),
            datacenter: options.datacenter.clone(),
        });
        let mut notices = Vec::new();
        let kept = match file.as_ref().map(SessionFile::read) {
            None | Some(Ok(None)) => None,
            Some(Ok(Some(kept))) => Some(kept),
            Some(Err(reason)) => {
                notices.push(format!("the kept session of host {} is not used: {reason}", options.name));
                None
            }
        };
        let warm = kept.is_some();
        let open = transport.label.opened(warm);
        let current = match kept {
            Some(kept) => {
                know_cookie(&options.name, &kept.cookie);
                Current {
                    generation: 1,
                    cookie: Some(kept.cookie),
                    contract: Arc::new(Contract { version: kept.version, content: kept.content }),
                }
            }
            None => Current {
                generation: 0,
                cookie: None,
                contract: Arc::new(Contract { version: String::new(), content: ServiceContent::default() }),
            },
        };
        let link = Arc::new(Self {
            transport,
            credentials,
            file,
            current: RwLock::new(current),
            gate: AsyncMutex::new(None),
            notices: Mutex::new(Vec::new()),
            gone: AtomicBool::new(false),
            pulse: Pulse::new(),
            probed: RwLock::new(options.probed.clone()),
            _open: open,
            options,
        });
        for notice in notices {
            link.notice(notice);
        }
        if warm {
            link.fit();
        } else {
            link.renew(0).await?;
        }
        Ok(link)
    }

    pub(super) fn host(&self) -> &str {
        &self.options.name
    }

    pub(super) fn label(&self) -> &HostLabel {
        &self.transport.label
    }

    pub(super) fn counters(&self) -> &super::transport::Counters {
        &self.transport.counters
    }

    pub(super) fn contract(&self) -> Arc<Contract> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).contract.clone()
    }

    /// Changes with every session: objects that live in a session (collectors, filters) are gone with it.
    pub(super) fn epoch(&self) -> u64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Says something to the user that is no error.
    pub(super) fn notice(&self, text: String) {
        tracing::warn!(host = %self.options.name, "{text}");
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    pub(super) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes one call, renewing the session where it has run out.
    pub(super) async fn call(&self, call: &Call) -> Result<Element, Error> {
        if self.pulse.is_due(call.method, self.options.timeouts.rest) {
            Box::pin(self.check_health()).await?;
        }
        for _ in 0..RENEWALS {
            let generation = self.epoch();
            match self.call_once(call).await {
                Err(error) if error.is("NotAuthenticated") => {
                    tracing::info!(host = %self.options.name, "the session has ended: the request is made anew");
                    self.transport.label.retry("session");
                    self.renew(generation).await?;
                }
                done => return done,
            }
        }
        self.call_once(call).await
    }

    /// Asks for what can be asked for again, so that a connection or a session that has gone while nobody used them is found by that and
    /// not by a change, whose lost answer would leave its outcome unknown.
    async fn check_health(&self) -> Result<(), Error> {
        self.pulse.checked();
        let manager = self.contract().content.session_manager();
        self.retrieve(&Query::object(&manager, "SessionManager", &["currentSession"])).await.map(drop)
    }

    /// What can be told of the connection.
    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// How many requests may be under way at once, and how many are.
    pub(super) fn permits(&self) -> (usize, usize) {
        self.transport.permits()
    }

    /// Makes one call with the session as it is.
    pub(super) async fn call_once(&self, call: &Call) -> Result<Element, Error> {
        let (cookie, contract) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.cookie.clone(), current.contract.clone())
        };
        self.call_as(call, &contract, cookie.as_deref()).await
    }

    /// Makes one call with this very session.
    pub(super) async fn call_as(
        &self,
        call: &Call,
        contract: &Contract,
        cookie: Option<&str>,
    ) -> Result<Element, Error> {
        let text = self.envelope(call)?;
        if call.arguments.iter().any(|argument| argument.name == "auth") {
            self.observe(&contract.version, &self.envelope(&call.without_passwords())?);
        } else {
            self.observe(&contract.version, &text);
        }
        let envelope = Bytes::from(text);
        let first = self.send(call.method, envelope.clone(), &contract.version, cookie).await;
        let reply = match first {
            // A kept connection that the host has closed meanwhile looks the same as one that breaks.
            Err(Error::Lost { .. }) if call.method.repeatable() => {
                self.transport.label.retry("lost");
                self.send(call.method, envelope, &contract.version, cookie).await?
            }
            other => other?,
        };
        soap::answer(self.host(), call.method, &reply, self.options.max_answer)
    }

    async fn send(&self, method: Method, envelope: Bytes, version: &str, cookie: Option<&str>) -> Result<Reply, Error> {
        let waits = method == Method::WaitForUpdatesEx;
        let timeouts = &self.options.timeouts;
        let timeout = if waits { timeouts.wait + Duration::from_secs(30) } else { timeouts.request };
        let first = Instant::now();
        let mut pause = PAUSE;
        let mut rests = 0;
        loop {
            let began = Instant::now();
            let span = tracing::debug_span!("request", host = %self.options.name, method = method.wire_name());
            let result = self.transport.post(envelope.clone(), version, cookie, timeout, waits).instrument(span).await;
            self.transport.count(method.wire_name(), &result, began);
            self.pulse.beat();
            let away = match &result {
                Err(Error::Unreachable { .. }) => true,
                Ok(reply) => reply.status == 503,
                Err(_) => false,
            };
            // A host without room says so before it looks at anything, a password included: it is given a few rests. One that refused a
            // password has answered otherwise, and is not sent it again.
            let busy = matches!(&result, Ok(reply) if reply.status == 503);
            let rested = busy && rests < RESTS && (method.repeatable() || method == Method::Login);
            let patient = PATIENT.try_with(|()| ()).is_ok() && first.elapsed() <= timeouts.reconnect;
            if !away || !(rested || patient) {
                return result;
            }
            rests += 1;
            self.pulse.retried();
            self.transport.label.retry("away");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE * 8);
        }
    }

    /// The URL that requests of the API go to.
    pub(super) fn own_url(&self) -> &Url {
        self.transport.url()
    }

    fn cookie(&self) -> Option<String> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).cookie.clone()
    }

    fn envelope(&self, call: &Call) -> Result<String, Error> {
        let own = OPERATION.try_with(|id| soap::envelope(call, Some(id)));
        own.unwrap_or_else(|_| soap::envelope(call, self.options.operation_id.as_deref())).map_err(|error| {
            Error::Invalid {
                reason: format!("{} cannot be sent: {error}", call.method.wire_name()),
                hint: Some("remove the control character".to_owned()),
            }
        })
    }

    fn observe(&self, version: &str, body: &str) {
        if let Some(observer) = &self.options.observer {
            observer(version, body);
        }
    }

    /// Opens connections ahead of need, and keeps as many open for as long as the link is there: each is used before it has been unused
    /// for too long. A failure shows at the first real request.
    pub(super) fn keep_open(self: &Arc<Self>) {
        let wanted = self.options.min_connections.min(self.options.max_connections);
        let link = Arc::downgrade(self);
        let pause = (self.options.max_idle_time / 2).max(SHORTEST);
        if wanted == 0 {
            return;
        }
        tokio::spawn(async move {
            while let Some(link) = link.upgrade() {
                link.use_connections(wanted).await;
                drop(link);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Uses so many connections at once, for what needs no session.
    async fn use_connections(&self, connections: usize) {
        let timeout = self.options.timeouts.connect;
        let ahead = (0..connections).map(|_| self.transport.get_versions(timeout));
        for failed in futures_util::future::join_all(ahead).await.into_iter().filter_map(Result::err) {
            tracing::debug!(host = %self.options.name, "a connection is not kept open: {failed}");
        }
    }
}
