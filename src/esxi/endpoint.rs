//! Where a transfer goes: to the server that the session is with, or to one of a vCenter's hosts.
//!
//! A host does not know by which name it is reached and writes a star, or a name of its own: whatever it writes, it means itself, and the
//! session goes nowhere else. A vCenter may have one of its hosts carry a file: that one is spoken to where the vCenter vouches for it,
//! and without a session, for the URL carries its own ticket.
//! Specification: vSphere Web Services API, `HttpNfcLeaseDeviceUrl`, `FileTransferInformation`.

use std::fmt;
use std::sync::Arc;

use url::Url;

use super::error::Error;
use super::host::Host;
use super::vouched::Vouched;

/// A URL, and who answers there.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    /// One of a vCenter's hosts; `None` is the server that the session is with.
    pub(super) system: Option<Arc<Vouched>>,
}

/// Without the path, which may hold a ticket.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.url.origin().ascii_serialization()).finish()
    }
}

impl From<Url> for Endpoint {
    fn from(url: Url) -> Self {
        Self { url, system: None }
    }
}

/// What the server put in place of a name that it does not know.
const STAR: &str = "star.invalid";

impl Host {
    /// Where a transfer's URL leads. Errors: as those of [`Host::endpoints`].
    pub(super) async fn endpoint(&self, text: &str) -> Result<Endpoint, Error> {
        let mut one = self.endpoints(&[text]).await?;
        one.pop().ok_or_else(|| self.no_url("none"))
    }

    /// Where the URLs of a transfer lead, in their order. A vCenter is asked once for each of its hosts that they name.
    ///
    /// Errors: `esxi.bad_answer`; `esxi.needs_host` for a machine that the vCenter does not vouch for; `door.network` for an address that
    /// is not allowed.
    pub(super) async fn endpoints(&self, texts: &[&str]) -> Result<Vec<Endpoint>, Error> {
        let mut asked: Vec<(url::Origin, Arc<Vouched>)> = Vec::new();
        let mut endpoints = Vec::with_capacity(texts.len());
        for text in texts {
            let url = self.read_url(text)?;
            if !self.is_elsewhere(&url) {
                endpoints.push(self.at_own(url)?.into());
                continue;
            }
            if url.scheme() != "https" {
                return Err(self.no_url("one of a host, in the clear"));
            }
            let known = asked.iter().find(|(origin, _)| *origin == url.origin());
            let system = match known.map(|(_, system)| system.clone()) {
                Some(system) => system,
                None => {
                    let system = Arc::new(self.vouched(&url).await?);
                    asked.push((url.origin(), system.clone()));
                    system
                }
            };
            endpoints.push(Endpoint { url, system: Some(system) });
        }
        Ok(endpoints)
    }

    fn read_url(&self, text: &str) -> Result<Url, Error> {
        let text = text.trim().replacen("://*", &format!("://{STAR}"), 1);
        let url = Url::parse(&text).map_err(|_| self.no_url("none"))?;
        match url.username().is_empty() && url.password().is_none() && url.has_host() {
            true => Ok(url),
            false => Err(self.no_url("one without a host, or with a user name")),
        }
    }

    fn is_elsewhere(&self, url: &Url) -> bool {
        self.is_vcenter() && url.host_str() != Some(STAR) && url.host_str() != self.link.own_url().host_str()
    }

    /// The same on the very server that is connected to.
    fn at_own(&self, mut url: Url) -> Result<Url, Error> {
        let own = self.link.own_url();
        let placed = url.set_scheme(own.scheme()).and_then(|()| url.set_host(own.host_str()).map_err(drop));
        placed.and_then(|()| url.set_port(own.port())).map_err(|()| self.no_url("none"))?;
        Ok(url)
    }

    fn no_url(&self, what: &str) -> Error {
        Error::BadAnswer { host: self.name().to_owned(), reason: format!("a transfer with a URL that is {what}") }
    }
}
