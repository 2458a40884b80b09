//! Where a host wants its files fetched from and sent to.
//!
//! A host does not know by which name it is reached and writes a star, or a name of its own: whatever it writes, it means itself, and the
//! session goes nowhere else. A vCenter may name one of its hosts, whose certificate nobody has vouched for: that is refused.
//! Specification: vSphere Web Services API, `HttpNfcLeaseDeviceUrl`, `FileTransferInformation`.

use url::Url;

use super::error::Error;
use super::host::Host;

impl Host {
    /// The URL of a transfer, as one of this very server. Errors: `esxi.bad_answer`, `esxi.needs_host`.
    pub(super) fn transfer_url(&self, text: &str) -> Result<Url, Error> {
        const STAR: &str = "star.invalid";
        let bad = || Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "a transfer with a URL that is none".to_owned(),
        };
        let text = text.trim().replacen("://*", &format!("://{STAR}"), 1);
        let mut url = Url::parse(&text).map_err(|_| bad())?;
        let own = self.link.own_url();
        let named = url.host_str().ok_or_else(bad)?;
        if self.is_vcenter() && named != STAR && Some(named) != own.host_str() {
            return Err(Error::NeedsHost { host: self.name().to_owned(), hosts: vec![named.to_owned()] });
        }
        let placed = url.set_scheme(own.scheme()).and_then(|()| url.set_host(own.host_str()).map_err(drop));
        placed.and_then(|()| url.set_port(own.port())).map_err(|()| bad())?;
        Ok(url)
    }
}
