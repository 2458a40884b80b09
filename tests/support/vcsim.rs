//! vcsim (govmomi's simulator) as a process of a test: started on a free port, ended with the test.
//!
//! It is a peer: a test that uses it is `#[ignore = "needs vcsim"]`, and a vcsim that is not there makes the test fail.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ceso::esxi::{HostOptions, Login, Trust, probe_certificate};
use url::Url;

/// Where a peer's program lies: `CESO_PEERS`, else `target/peers`, as `tests/peers/prepare` leaves it.
pub fn peer(path: &str) -> PathBuf {
    let folder = std::env::var_os("CESO_PEERS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers")), PathBuf::from);
    let path = folder.join(path);
    assert!(path.exists(), "{} is missing: run tests/peers/prepare", path.display());
    path
}

pub struct Vcsim {
    child: Child,
    pub url: Url,
}

impl Vcsim {
    /// Starts `vcsim -esx` with more arguments; any user may log in unless they say otherwise.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(&[&["-esx"], arguments].concat())
    }

    /// Starts vcsim as a vCenter: in each datacenter the host `DC0_H0`, the cluster `DC0_C0` with three more, and machines on both.
    pub fn vcenter(arguments: &[&str]) -> Self {
        Self::spawn(arguments)
    }

    fn spawn(arguments: &[&str]) -> Self {
        let mut child = Command::new(peer("bin/vcsim"))
            .args(["-l", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("vcsim starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).expect("vcsim says where it listens");
        let said: serde_json::Value = serde_json::from_str(&line).expect("vcsim says where it listens");
        let mut url = Url::parse(said["url"].as_str().unwrap()).unwrap();
        url.set_username("").unwrap();
        url.set_password(None).unwrap();
        Self { child, url }
    }

    /// Options for a client that pins its certificate.
    pub async fn options(&self) -> HostOptions {
        let certificate = probe_certificate(&self.url, std::time::Duration::from_secs(10)).await.unwrap();
        HostOptions::new("vcsim", self.url.clone(), Trust::Fingerprint(certificate.fingerprint))
    }
}

impl Drop for Vcsim {
    fn drop(&mut self) {
        self.child.kill().expect("vcsim ends");
        self.child.wait().expect("vcsim ends");
    }
}

pub fn login(username: &str, password: &str) -> std::sync::Arc<Login> {
    std::sync::Arc::new(Login { username: username.to_owned(), password: password.to_owned().into() })
}
