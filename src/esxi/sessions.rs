//! How many sessions a host takes at once: tried with sessions of our own, which are all ended again.
//!
//! A password that the host refuses is not sent again. No more is tried than is asked for: what is taken here is nobody else's meanwhile.

use std::sync::Arc;

use futures_util::future::join_all;

use super::error::Error;
use super::host::Host;
use super::link::Link;
use super::options::HostOptions;
use super::property::Query;

/// How many sessions a host took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub asked: usize,
    /// How many there were at once, ours among them, each of which answered.
    pub taken: usize,
    /// What the host said to the one that it refused.
    pub refusal: Option<String>,
}

impl Host {
    /// Opens sessions beside the one that there is until so many are open, or the host refuses; has all of them asked something at the
    /// same time; and ends them.
    ///
    /// Errors: `esxi.invalid_login`, and what the one raises who is asked for the password. What could not be ended is said as a notice.
    pub async fn try_sessions(&self, most: usize) -> Result<Taken, Error> {
        let login = Arc::new(self.link.ask().await?);
        let mut open: Vec<Arc<Link>> = Vec::new();
        let (mut refusal, mut failed) = (None, None);
        while open.len() + 1 < most {
            let options = HostOptions { session_file: None, probed: None, ..self.link.options.clone() };
            match Link::open(options, login.clone()).await {
                Ok(link) => open.push(link),
                Err(error @ Error::InvalidLogin { .. }) => {
                    failed = Some(error);
                    break;
                }
                Err(error) => {
                    refusal = Some(error.to_string());
                    break;
                }
            }
        }
        let all = std::iter::once(&self.link).chain(&open);
        let asked = join_all(all.map(|link| async move {
            let manager = link.contract().content.session_manager();
            link.retrieve(&Query::object(&manager, "SessionManager", &["currentSession"])).await
        }));
        let answered = asked.await;
        let taken = answered.iter().filter(|answer| answer.is_ok()).count();
        if let Some(error) = answered.into_iter().find_map(Result::err) {
            refusal.get_or_insert(error.to_string());
        }
        for ended in join_all(open.iter().map(|link| link.end())).await {
            if let Err(error) = ended {
                self.link.notice(format!("a session that was tried on host {} ends by itself: {error}", self.name()));
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Taken { asked: most, taken, refusal }),
        }
    }

    /// How many connections the configuration lets the client have.
    pub fn configured_connections(&self) -> usize {
        self.link.options.max_connections
    }
}
