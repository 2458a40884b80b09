//! Whether something in a guest answers: a TCP port, an HTTP URL.
//!
//! Connections go to addresses that the machine's own guest reports now, and to no others: never to this machine, to link-local ones, or
//! outside of the networks that are allowed. Nothing secret is sent, no redirect is followed, no proxy is used, and of an answer only
//! the status is read.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::address::{is_usable, preferred};
use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::object::Vm;
use super::trust;
use crate::units::Span;

/// How long one attempt may take, and the pause before the next.
const ATTEMPT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(500);

/// What a guest's web server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    pub port: u16,
    pub tls: bool,
    /// The path, which begins with `/`.
    pub path: String,
    /// The status that it must answer.
    pub status: u16,
}

/// What is tried at an address.
enum Probe {
    Port(u16),
    Http(reqwest::Client, HttpCheck),
}

impl Probe {
    async fn answers(&self, address: IpAddr) -> bool {
        match self {
            Self::Port(port) => tokio::net::TcpStream::connect(SocketAddr::new(address, *port)).await.is_ok(),
            Self::Http(client, check) => answers(client, address, check).await,
        }
    }
}

impl Host {
    /// Waits until a TCP port of the guest takes connections; `at` names one of its addresses, else it is the preferred one.
    ///
    /// Errors: `esxi.timeout`, `door.network` where the address is not allowed.
    pub async fn wait_for_port(
        &self,
        vm: &Checked<Vm>,
        at: Option<IpAddr>,
        port: u16,
        timeout: Duration,
    ) -> Result<(), Error> {
        let what = format!("port {port} of {:?} taking connections", vm.name);
        self.try_until(vm, at, timeout, what, &Probe::Port(port)).await
    }

    /// Waits until a web server of the guest answers with a status. Its certificate is not checked: nothing is sent that could be stolen.
    ///
    /// Errors: as those of [`Host::wait_for_port`].
    pub async fn wait_for_http(
        &self,
        vm: &Checked<Vm>,
        at: Option<IpAddr>,
        check: &HttpCheck,
        timeout: Duration,
    ) -> Result<(), Error> {
        let what = format!("{:?} answering {} at {} with {}", vm.name, check.path, check.port, check.status);
        let client = client(self.name())?;
        self.try_until(vm, at, timeout, what, &Probe::Http(client, check.clone())).await
    }

    async fn try_until(
        &self,
        vm: &Checked<Vm>,
        at: Option<IpAddr>,
        timeout: Duration,
        what: String,
        probe: &Probe,
    ) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            // Asked anew each time: a guest that takes another address is not looked for at the old one.
            let reported: Vec<IpAddr> =
                self.vm_info(vm).await?.row.addresses.iter().filter_map(|address| address.parse().ok()).collect();
            let address = match at {
                Some(wanted) => reported.iter().find(|address| **address == wanted),
                None => preferred(&reported),
            };
            if let Some(address) = address {
                self.may_connect(*address)?;
                if tokio::time::timeout(ATTEMPT, probe.answers(*address)).await.unwrap_or(false) {
                    return Ok(());
                }
            }
            if began.elapsed() + PAUSE >= timeout {
                return Err(Error::WaitedInVain { host: self.name().to_owned(), what, after: Span(timeout) });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn may_connect(&self, address: IpAddr) -> Result<(), Error> {
        if !is_usable(&address.to_canonical()) {
            let reason = format!("{address} is no address of a machine on a network");
            return Err(Error::Invalid { reason, hint: None });
        }
        match &self.link.options.allowed {
            Some(allowed) => allowed(address).map_err(|fault| Error::Refused(std::sync::Arc::new(fault))),
            None => Ok(()),
        }
    }
}

fn client(host: &str) -> Result<reqwest::Client, Error> {
    let wrong = |reason: String| Error::TrustStore { host: host.to_owned(), reason };
    let tls = trust::any_certificate().map_err(|error| wrong(error.to_string()))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("ceso/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| wrong(error.to_string()))
}

async fn answers(client: &reqwest::Client, address: IpAddr, check: &HttpCheck) -> bool {
    let scheme = if check.tls { "https" } else { "http" };
    let Ok(mut url) = url::Url::parse(&format!("{scheme}://{}/", SocketAddr::new(address, check.port))) else {
        return false;
    };
    let (path, query) =
        check.path.split_once('?').map_or((check.path.as_str(), None), |(path, query)| (path, Some(query)));
    url.set_path(path);
    url.set_query(query);
    matches!(client.get(url).send().await, Ok(answer) if answer.status().as_u16() == check.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_status_is_read_and_no_redirect_is_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut asked = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let size = stream.read(&mut request).await.unwrap();
                asked.push(String::from_utf8_lossy(&request[..size]).into_owned());
                let there =
                    format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/secret\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(there.as_bytes()).await.unwrap();
            }
            asked
        });
        let client = client("test").unwrap();
        let mut check = HttpCheck { port: address.port(), tls: false, path: "/health?x=1".to_owned(), status: 200 };
        assert!(!answers(&client, address.ip(), &check).await);
        check.status = 302;
        assert!(answers(&client, address.ip(), &check).await);
        let asked = server.await.unwrap();
        assert!(asked.iter().all(|request| request.starts_with("GET /health?x=1 HTTP/1.1")), "{asked:?}");
    }
}
