//! One session with one host, shared by every call: opened when it is needed, kept, renewed once it has run out.
//!
//! Any number of calls may be under way. A login is made by one of them at a time and never again after the host has refused it: five
//! refusals lock an account. A change whose answer was lost is never sent twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex as AsyncMutex;
use tracing::Instrument;
use url::Url;
use zeroize::Zeroizing;

use crate::metrics::{Connection, HostLabel};
use crate::redact;
use crate::xml::{Element, Limits};

use super::abilities::Probed;
use super::content::ServiceContent;
use super::error::Error;
use super::moref::MoRef;
use super::options::{Credentials, HostOptions, Login};
use super::property::Query;
use super::pulse::Pulse;
use super::session_file::{Kept, SessionFile};
use super::soap::{self, Call, Method, Reply};
use super::transport::Transport;
use super::version::negotiate;

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

/// A session cookie is as good as a password.
fn know_cookie(host: &str, cookie: &str) {
    redact::know(&SecretString::from(cookie.trim_matches('"')), format!("session of {host}"));
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
        if self.pulse.is_due(call.method) {
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

    /// Whether the session is to outlive this process.
    pub(super) fn is_kept(&self) -> bool {
        self.file.is_some()
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

    /// Uploads a file to a datastore, renewing the session where it has run out. The path is relative to the datastore.
    pub(super) async fn upload(&self, datastore: &str, path: &str, content: Bytes) -> Result<(), Error> {
        for attempt in 0..=RENEWALS {
            let generation = self.epoch();
            let cookie = self.current.read().unwrap_or_else(PoisonError::into_inner).cookie.clone();
            let began = Instant::now();
            let timeout = self.options.timeouts.request;
            let url = self.folder_url(datastore, path);
            let reply = self.transport.put(url, cookie.as_deref(), content.clone(), timeout).await;
            self.transport.count("PUT folder", &reply, began);
            let status = reply?.status;
            match status {
                200..=204 => return Ok(()),
                401 if attempt < RENEWALS => self.renew(generation).await?,
                429 | 503 => return Err(Error::Busy { host: self.host().to_owned(), status }),
                _ => {
                    let reason = format!("HTTP {status} to the upload of [{datastore}] {path}");
                    return Err(Error::BadAnswer { host: self.host().to_owned(), reason });
                }
            }
        }
        Err(Error::BadAnswer { host: self.host().to_owned(), reason: "no session for an upload".to_owned() })
    }

    /// The URL that requests of the API go to.
    pub(super) fn own_url(&self) -> &Url {
        self.transport.url()
    }

    /// The URL of a file on a datastore of the one datacenter that the connection is about. The path is relative to the datastore.
    pub(super) fn folder_url(&self, datastore: &str, path: &str) -> Url {
        self.transport.folder_url(self.contract().content.datacenter_path(), datastore, path)
    }

    /// Asks for a file, from a byte on where `from` says so; the body is still to be read. The session is renewed where it has run out.
    pub(super) async fn fetch(
        &self,
        method: reqwest::Method,
        url: &Url,
        from: Option<u64>,
    ) -> Result<reqwest::Response, Error> {
        let mut tried = 0;
        loop {
            let generation = self.epoch();
            let cookie = self.cookie();
            let label = if method == reqwest::Method::HEAD { "HEAD file" } else { "GET file" };
            let timeout = self.options.timeouts.request;
            let opened = self.transport.open(method.clone(), url, cookie.as_deref(), from, label, timeout).await;
            let response = match opened {
                // A kept connection that the host has closed meanwhile looks the same as one that breaks.
                Err(Error::Lost { .. }) if tried == 0 => {
                    tried += 1;
                    continue;
                }
                opened => opened?,
            };
            if response.status().as_u16() != 401 || tried >= RENEWALS {
                return Ok(response);
            }
            tried += 1;
            self.renew(generation).await?;
        }
    }

    /// Sends a file with the session as it is; the status that came back.
    pub(super) async fn send_file(
        &self,
        url: &Url,
        label: &'static str,
        length: Option<u64>,
        body: reqwest::Body,
    ) -> Result<u16, Error> {
        self.transport.send_file(url, self.cookie().as_deref(), label, length, body).await
    }

    /// Counts what came of a file.
    pub(super) fn count_received(&self, bytes: usize) {
        self.transport.count_received(bytes as u64);
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

    /// Replaces the session of that generation, unless somebody has done so meanwhile.
    pub(super) async fn renew(&self, generation: u64) -> Result<(), Error> {
        let mut gate = self.gate.lock().await;
        if let Some(user) = gate.clone() {
            return Err(Error::InvalidLogin { host: self.host().to_owned(), user });
        }
        if self.epoch() != generation {
            return Ok(());
        }
        if self.adopt() {
            return Ok(());
        }
        let contract = Arc::new(self.negotiate().await?);
        let login = self.ask().await?;
        let cookie = match self.login(&contract, &login).await {
            Err(error) if error.is("InvalidLogin") => {
                self.transport.label.login("refused");
                tracing::warn!(host = %self.options.name, "the host refused the login");
                *gate = Some(login.username.clone());
                return Err(Error::InvalidLogin { host: self.host().to_owned(), user: login.username });
            }
            Err(error) => {
                self.transport.label.login("failed");
                return Err(error);
            }
            Ok(cookie) => cookie,
        };
        self.transport.label.login("done");
        tracing::info!(host = %self.options.name, "logged in");
        let contract = self.placed(contract, &cookie).await?;
        self.keep(&contract, &login.username, &cookie);
        self.replace(cookie, contract);
        Ok(())
    }

    /// Takes the session that another process has kept, where it is another than ours.
    fn adopt(&self) -> bool {
        let Some(Ok(Some(kept))) = self.file.as_ref().map(SessionFile::read) else { return false };
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if current.cookie.is_none() || current.cookie.as_deref() == Some(kept.cookie.as_str()) {
                return false;
            }
        }
        self.replace(kept.cookie, Arc::new(Contract { version: kept.version, content: kept.content }));
        true
    }

    fn replace(&self, cookie: String, contract: Arc<Contract>) {
        know_cookie(self.host(), &cookie);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let generation = current.generation + 1;
        *current = Current { generation, cookie: Some(cookie), contract };
        drop(current);
        // The host may be of another build now.
        self.fit();
    }

    async fn negotiate(&self) -> Result<Contract, Error> {
        let host = self.host();
        let reply = self.transport.get_versions(self.options.timeouts.request).await?;
        let limits = Limits::default().bytes.min(self.options.max_answer);
        let version = negotiate(host, &soap::document(host, &reply, limits)?)?;
        let call = Call::new(&MoRef::new("ServiceInstance", "ServiceInstance"), Method::RetrieveServiceContent);
        let text = self.envelope(&call)?;
        self.observe(version, &text);
        let reply = self.send(call.method, Bytes::from(text), version, None).await?;
        let answer = soap::answer(host, call.method, &reply, self.options.max_answer)?;
        let content = answer.child("returnval").ok_or_else(|| Error::BadAnswer {
            host: host.to_owned(),
            reason: "a service content that is empty".to_owned(),
        })?;
        Ok(Contract { version: version.to_owned(), content: ServiceContent::read(host, content)? })
    }

    pub(super) async fn ask(&self) -> Result<Login, Error> {
        let credentials = self.credentials.clone();
        let asked = tokio::task::spawn_blocking(move || credentials.ask()).await;
        let asked = asked.map_err(|error| Error::Invalid {
            reason: format!("the password for host {} could not be asked for: {error}", self.host()),
            hint: None,
        })?;
        asked.map_err(|fault| Error::Credentials(Arc::new(fault)))
    }

    async fn login(&self, contract: &Contract, login: &Login) -> Result<String, Error> {
        let call = |password: &str| {
            Call::new(&contract.content.session_manager(), Method::Login)
                .with_text("userName", &login.username)
                .with_text("password", password)
        };
        self.observe(&contract.version, &self.envelope(&call("(not shown)"))?);
        self.transport.counters.logins.fetch_add(1, Ordering::Relaxed);
        let mut secret = call(login.password.expose_secret());
        let text = self.envelope(&secret);
        secret.arguments.iter_mut().for_each(|argument| zeroize::Zeroize::zeroize(&mut argument.text));
        let envelope = Bytes::from_owner(Zeroizing::new(text?.into_bytes()));
        let reply = self.send(Method::Login, envelope, &contract.version, None).await?;
        if let Some(cookie) = &reply.cookie {
            know_cookie(self.host(), cookie);
        }
        let answer = soap::answer(self.host(), Method::Login, &reply, self.options.max_answer)?;
        // The session's key opens what its cookie opens.
        if let Some(key) = answer.child("returnval").and_then(|session| session.child("key")) {
            know_cookie(self.host(), &key.text);
        }
        reply.cookie.ok_or_else(|| Error::BadAnswer {
            host: self.host().to_owned(),
            reason: "a login without a session cookie".to_owned(),
        })
    }

    fn keep(&self, contract: &Contract, username: &str, cookie: &str) {
        let Some(file) = &self.file else { return };
        let kept = Kept {
            format: Kept::FORMAT,
            url: file.url.clone(),
            trust: file.trust.clone(),
            username: username.to_owned(),
            datacenter: file.datacenter.clone(),
            version: contract.version.clone(),
            cookie: cookie.to_owned(),
            content: contract.content.clone(),
        };
        // The session works all the same; only the next command will log in again.
        if let Err(error) = file.write(&kept) {
            self.notice(error.to_string());
        }
    }

    /// Whether the session is kept when this process ends: it is, where the file holds this very session. One that could not be
    /// written, or that another process has replaced, would be a session that nobody ends.
    pub(super) fn outlives_us(&self) -> bool {
        let Some(Ok(Some(kept))) = self.file.as_ref().map(SessionFile::read) else { return false };
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let ours = current.cookie.as_deref() == Some(kept.cookie.as_str());
        if ours
            && let Some(file) = &self.file
            && let Err(error) = file.touch()
        {
            tracing::debug!(host = %self.options.name, "the time of the last contact was not noted: {error}");
        }
        ours
    }

    /// Notes that the host goes down or restarts at our word: its sessions are over, and a kept one is forgotten.
    pub(super) fn goes_down(&self) -> Result<(), Error> {
        self.gone.store(true, Ordering::Relaxed);
        self.file.as_ref().map_or(Ok(()), SessionFile::remove)
    }

    /// Ends the session on the host, and leaves the file to the session that it holds.
    pub(super) async fn end(&self) -> Result<(), Error> {
        if self.gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let contract = self.contract();
        match self.call_once(&Call::new(&contract.content.session_manager(), Method::Logout)).await {
            Err(error) if error.is("NotAuthenticated") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Ends the session on the host and forgets it here.
    pub(super) async fn logout(&self) -> Result<(), Error> {
        if let Some(file) = &self.file {
            file.remove()?;
        }
        self.end().await
    }

    /// Opens connections ahead of need; a failure shows at the first real request.
    pub(super) async fn warm_up(&self, connections: usize) {
        let timeout = self.options.timeouts.connect;
        let ahead = (0..connections).map(|_| self.transport.get_versions(timeout));
        for failed in futures_util::future::join_all(ahead).await.into_iter().filter_map(Result::err) {
            tracing::debug!(host = %self.options.name, "a connection was not opened ahead of need: {failed}");
        }
    }
}
