//! The session itself: negotiated, logged in, kept for the next process, taken over from another one, ended.
//!
//! One caller at a time logs in, and nobody any more once the host has refused: five refusals lock an account.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::esxi::content::ServiceContent;
use crate::esxi::error::Error;
use crate::esxi::moref::MoRef;
use crate::esxi::options::Login;
use crate::esxi::session_file::{Kept, SessionFile};
use crate::esxi::soap::{self, Call, Method};
use crate::esxi::version::negotiate;
use crate::redact;
use crate::xml::Limits;

use super::{Contract, Current, Link};

/// A session cookie is as good as a password.
pub(super) fn know_cookie(host: &str, cookie: &str) {
    redact::know(&SecretString::from(cookie.trim_matches('"')), format!("session of {host}"));
}

impl Link {
    /// Whether the session is to outlive this process.
    pub(in crate::esxi) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Replaces the session of that generation, unless somebody has done so meanwhile.
    pub(in crate::esxi) async fn renew(&self, generation: u64) -> Result<(), Error> {
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

    pub(in crate::esxi) async fn ask(&self) -> Result<Login, Error> {
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
    pub(in crate::esxi) fn outlives_us(&self) -> bool {
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
    pub(in crate::esxi) fn goes_down(&self) -> Result<(), Error> {
        self.gone.store(true, Ordering::Relaxed);
        self.file.as_ref().map_or(Ok(()), SessionFile::remove)
    }

    /// Ends the session on the host, and leaves the file to the session that it holds.
    pub(in crate::esxi) async fn end(&self) -> Result<(), Error> {
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
    pub(in crate::esxi) async fn logout(&self) -> Result<(), Error> {
        if let Some(file) = &self.file {
            file.remove()?;
        }
        self.end().await
    }
}
