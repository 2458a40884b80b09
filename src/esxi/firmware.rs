//! A host's whole configuration as one file: downloaded, and put back.
//!
//! The host names a place on its own web server, with `*` for its name; the request goes to the host that we know, over TLS, whatever
//! else the answer says. Specification: vSphere Web Services API, `HostFirmwareSystem`.

use bytes::Bytes;
use url::Url;

use super::checked::Checked;
use super::endpoint::Endpoint;
use super::error::Error;
use super::host::Host;
use super::moref::MoRef;
use super::object::HostObject;
use super::soap::{Call, Method};

/// The largest configuration: those of real hosts have a few hundred KiB.
const LARGEST: usize = 64 << 20;

impl Host {
    /// Has the host write its configuration down, and downloads it. It holds the accounts' password hashes and the host's keys.
    pub async fn backup_configuration(&self, _host: &Checked<HostObject>) -> Result<Vec<u8>, Error> {
        let doing = |error: Error| error.doing("download the host's configuration");
        let system = self.manager("configManager.firmwareSystem").await?;
        let at = self.told_url(&system, Method::BackupFirmwareConfiguration).await.map_err(doing)?;
        let mut response = self.link.fetch(reqwest::Method::GET, &at, None).await.map_err(doing)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(Error::Transfer { host: self.name().to_owned(), file: at.url.path().to_owned(), status });
        }
        let length = response.content_length();
        let mut read = Vec::new();
        while let Some(chunk) = self.next_piece(&mut response).await? {
            if read.len() + chunk.len() > LARGEST {
                return Err(self.bad("a configuration of more than 64 MiB"));
            }
            read.extend_from_slice(&chunk);
        }
        match length {
            Some(length) if length != read.len() as u64 => Err(self.bad("a configuration that was cut off")),
            _ if read.is_empty() => Err(self.bad("an empty configuration")),
            _ => Ok(read),
        }
    }

    /// Uploads a configuration and has the host put it back: it must be in maintenance mode, and restarts at once. `force` takes one of
    /// another host or build. Errors: `esxi.invalid_state`, `esxi.invalid_bundle`, `esxi.mismatched_bundle`.
    pub async fn restore_configuration(
        &self,
        _host: &Checked<HostObject>,
        configuration: Vec<u8>,
        force: bool,
    ) -> Result<(), Error> {
        let doing = |error: Error| error.doing("put back the host's configuration");
        let system = self.manager("configManager.firmwareSystem").await?;
        let at = self.told_url(&system, Method::QueryFirmwareConfigUploadUrl).await.map_err(doing)?;
        let body = Bytes::from(configuration);
        let length = body.len() as u64;
        let status = self.link.send_file(&at, "PUT configuration", Some(length), body.into()).await.map_err(doing)?;
        if !(200..=204).contains(&status) {
            return Err(Error::Transfer { host: self.name().to_owned(), file: at.url.path().to_owned(), status });
        }
        let call = Call::new(&system, Method::RestoreFirmwareConfiguration).with_text("force", force.to_string());
        match self.link.call(&call).await {
            // It restarts so soon that its answer may not come.
            Err(Error::Lost { .. }) => {}
            done => {
                done.map_err(doing)?;
            }
        }
        self.link.goes_down()
    }

    /// The place that the host names, on the host that we know.
    async fn told_url(&self, system: &MoRef, method: Method) -> Result<Endpoint, Error> {
        let answer = self.link.call(&Call::new(system, method)).await?;
        let told = answer.text_at("returnval").unwrap_or_default().trim();
        let url = own_url(self.link.own_url(), told);
        url.map(Endpoint::from).ok_or_else(|| self.bad("a configuration without a place to find it"))
    }

    fn bad(&self, reason: &str) -> Error {
        Error::BadAnswer { host: self.name().to_owned(), reason: reason.to_owned() }
    }
}

/// The path of the URL that was told, on our own host: nothing goes elsewhere, and nothing in the clear.
fn own_url(own: &Url, told: &str) -> Option<Url> {
    // A `*` is no host's name to a parser of URLs.
    let told = Url::parse(&told.replacen("://*", "://host", 1)).ok()?;
    if !matches!(told.scheme(), "http" | "https") || told.path() == "/" {
        return None;
    }
    let mut url = own.clone();
    url.set_path(told.path());
    url.set_query(told.query());
    url.set_fragment(None);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_fetched_from_the_host_itself_whatever_it_says() {
        let own = Url::parse("https://10.0.0.1:8443/sdk").unwrap();
        let place = |told: &str| own_url(&own, told).map(String::from);
        let at = |path: &str| Some(format!("https://10.0.0.1:8443{path}"));
        assert_eq!(place("http://*/downloads/x/configBundle-h.tgz"), at("/downloads/x/configBundle-h.tgz"));
        assert_eq!(place("https://evil.example:1/a?b=c"), at("/a?b=c"));
        assert_eq!(place("https://*:443/downloads/../../etc"), at("/etc"));
        for bad in ["", "file:///etc/shadow", "downloads/x", "https://*", "ftp://*/x"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
