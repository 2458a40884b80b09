//! Sessions: login with its lock-out, idle expiry, tickets for `/folder`, and what dies with a session.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::fault::VimFault;
use super::value::Data;

/// After this many wrong passwords in a row an account is locked (ESXi: Security.AccountLockFailures).
const FAILURES: u32 = 5;
/// For so long (ESXi: Security.AccountUnlockTime).
const LOCKED: Duration = Duration::from_secs(900);
/// How long a ticket for one file transfer is good.
const TICKET: Duration = Duration::from_secs(120);
/// Unknown user names are remembered up to this number, so that guessing names cannot fill the memory.
const ACCOUNTS: usize = 1000;

/// One login.
#[derive(Debug)]
pub struct Session {
    /// The public key of the session, as `UserSession.key` names it. The cookie is secret and differs.
    pub key: String,
    pub user: String,
    pub login: OffsetDateTime,
    pub active: OffsetDateTime,
    pub address: String,
    pub agent: String,
    pub calls: u64,
    last: Instant,
    /// Calls that wait inside the host keep their session alive.
    pub waiting: u32,
}

#[derive(Debug, Default)]
struct Account {
    failures: u32,
    locked_until: Option<Instant>,
}

/// All sessions, by cookie, and the accounts' failures.
#[derive(Debug)]
pub struct Sessions {
    user: String,
    password: [u8; 32],
    idle: Duration,
    most: usize,
    open: HashMap<String, Session>,
    accounts: HashMap<String, Account>,
    tickets: HashMap<String, Instant>,
    /// Tickets that open a further session, for whom.
    clones: HashMap<String, (Instant, String)>,
    pub logins: u64,
}

impl Sessions {
    pub fn new(user: String, password: &SecretString, idle: Duration, most: usize) -> Self {
        let password = digest(password);
        let (open, accounts, tickets, clones) = Default::default();
        Self { user, password, idle, most, open, accounts, tickets, clones, logins: 0 }
    }

    /// Whether no further session can be opened: the host answers HTTP 503.
    pub fn full(&self) -> bool {
        self.open.len() >= self.most
    }

    pub fn count(&self) -> usize {
        self.open.values().filter(|session| !self.expired(session)).count()
    }

    /// Opens a session; returns its cookie.
    pub fn login(
        &mut self,
        user: &str,
        password: &SecretString,
        address: &str,
        agent: &str,
    ) -> Result<String, VimFault> {
        let refused =
            || VimFault::new("InvalidLogin", "Cannot complete login due to an incorrect user name or password.");
        if self.accounts.len() >= ACCOUNTS && !self.accounts.contains_key(user) {
            self.accounts.retain(|_, account| account.locked_until.is_some_and(|until| until > Instant::now()));
        }
        let account = self.accounts.entry(user.to_owned()).or_default();
        if account.locked_until.is_some_and(|until| until > Instant::now()) {
            return Err(refused());
        }
        if user != self.user || digest(password) != self.password {
            account.failures += 1;
            if account.failures >= FAILURES {
                *account = Account { failures: 0, locked_until: Some(Instant::now() + LOCKED) };
            }
            return Err(refused());
        }
        self.accounts.remove(user);
        Ok(self.open(user, address, agent))
    }

    fn open(&mut self, user: &str, address: &str, agent: &str) -> String {
        self.logins += 1;
        let cookie = format!("{}{}", Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..8]);
        let now = OffsetDateTime::now_utc();
        let session = Session {
            key: Uuid::new_v4().to_string(),
            user: user.to_owned(),
            login: now,
            active: now,
            address: address.to_owned(),
            agent: agent.to_owned(),
            calls: 0,
            last: Instant::now(),
            waiting: 0,
        };
        self.open.insert(cookie.clone(), session);
        cookie
    }

    /// A ticket with which another client opens a session of the same user, once.
    pub fn clone_ticket(&mut self, user: &str) -> String {
        self.clones.retain(|_, (made, _)| made.elapsed() < TICKET);
        let ticket = format!("cst-VCT-{}--tp-{}", Uuid::new_v4(), Uuid::new_v4().simple());
        self.clones.insert(ticket.clone(), (Instant::now(), user.to_owned()));
        ticket
    }

    /// Opens a session by such a ticket; returns its cookie.
    pub fn clone_session(&mut self, ticket: &str, address: &str, agent: &str) -> Result<String, VimFault> {
        match self.clones.remove(ticket) {
            Some((made, user)) if made.elapsed() < TICKET => Ok(self.open(&user, address, agent)),
            _ => Err(VimFault::new("InvalidLogin", "Cannot complete login: the ticket is not good, or no longer.")),
        }
    }

    /// Ends the session of that cookie; returns its key.
    pub fn logout(&mut self, cookie: &str) -> Option<String> {
        self.open.remove(cookie).map(|session| session.key)
    }

    /// Ends the session of that key (`TerminateSession`).
    pub fn terminate(&mut self, key: &str) -> bool {
        let before = self.open.len();
        self.open.retain(|_, session| session.key != key);
        self.open.len() < before
    }

    /// Notes a call under that cookie; returns the session's key, or nothing where there is no such session or it has idled out.
    pub fn call(&mut self, cookie: &str) -> Option<String> {
        let idle = self.idle;
        let session = self.open.get_mut(cookie)?;
        if session.waiting == 0 && session.last.elapsed() > idle {
            return None;
        }
        session.last = Instant::now();
        session.active = OffsetDateTime::now_utc();
        session.calls += 1;
        Some(session.key.clone())
    }

    /// Counts a call that waits in the host, or its end.
    pub fn waits(&mut self, key: &str, begins: bool) {
        if let Some(session) = self.open.values_mut().find(|session| session.key == key) {
            session.waiting = if begins { session.waiting + 1 } else { session.waiting.saturating_sub(1) };
            session.last = Instant::now();
        }
    }

    /// Removes the sessions that have idled out; returns their keys.
    pub fn expire(&mut self) -> Vec<String> {
        let gone: Vec<String> =
            self.open.iter().filter(|(_, session)| self.expired(session)).map(|(cookie, _)| cookie.clone()).collect();
        gone.iter().filter_map(|cookie| self.logout(cookie)).collect()
    }

    /// Ends every session at once, as a restart of the host's agent does; returns their keys.
    pub fn clear(&mut self) -> Vec<String> {
        self.open.drain().map(|(_, session)| session.key).collect()
    }

    fn expired(&self, session: &Session) -> bool {
        session.waiting == 0 && session.last.elapsed() > self.idle
    }

    pub fn by_key(&self, key: &str) -> Option<&Session> {
        self.open.values().find(|session| session.key == key)
    }

    pub fn all(&self) -> impl Iterator<Item = &Session> {
        self.open.values()
    }

    /// A ticket that lets one file transfer pass without the session's cookie.
    pub fn ticket(&mut self) -> String {
        self.tickets.retain(|_, made| made.elapsed() < TICKET);
        let ticket = Uuid::new_v4().to_string();
        self.tickets.insert(ticket.clone(), Instant::now());
        ticket
    }

    /// Uses a ticket up.
    pub fn redeem(&mut self, ticket: &str) -> bool {
        self.tickets.remove(ticket).is_some_and(|made| made.elapsed() < TICKET)
    }
}

impl Session {
    /// The session as `UserSession`.
    pub fn render(&self) -> Data {
        Data::new("UserSession")
            .with("key", &self.key)
            .with("userName", &self.user)
            .with("fullName", "Administrator")
            .with("loginTime", self.login)
            .with("lastActiveTime", self.active)
            .with("locale", "en")
            .with("messageLocale", "en")
            .with("extensionSession", false)
            .with("ipAddress", &self.address)
            .with("userAgent", &self.agent)
            .with("callCount", i64::try_from(self.calls).unwrap_or(i64::MAX))
    }
}

/// Passwords are compared by digest, so that the time it takes tells nothing of them.
fn digest(password: &SecretString) -> [u8; 32] {
    Sha256::digest(password.expose_secret().as_bytes()).into()
}
