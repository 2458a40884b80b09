//! Files over the session: asked for and sent with its cookie, which is renewed where it has run out.

use std::time::Instant;

use bytes::Bytes;

use crate::esxi::endpoint::Endpoint;
use crate::esxi::error::Error;
use crate::esxi::transport::Tail;

use super::{Link, RENEWALS};

impl Link {
    /// Uploads a file to a datastore, renewing the session where it has run out. The path is relative to the datastore.
    pub(in crate::esxi) async fn upload(&self, datastore: &str, path: &str, content: Bytes) -> Result<(), Error> {
        for attempt in 0..=RENEWALS {
            let generation = self.epoch();
            let cookie = self.cookie();
            let began = Instant::now();
            let timeout = self.options.timeouts.request;
            let url = self.folder(datastore, path).url;
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

    /// Where a file on a datastore of the one datacenter lies that the connection is about. The path is relative to the datastore. A
    /// vCenter gives and takes such files itself.
    pub(in crate::esxi) fn folder(&self, datastore: &str, path: &str) -> Endpoint {
        self.transport.folder_url(self.contract().content.datacenter_path(), datastore, path).into()
    }

    /// Asks for a file, or for its tail; the body is still to be read. The session is renewed where it has run out.
    pub(in crate::esxi) async fn fetch(
        &self,
        method: reqwest::Method,
        at: &Endpoint,
        tail: Option<Tail<'_>>,
    ) -> Result<reqwest::Response, Error> {
        let mut tried = 0;
        loop {
            let generation = self.epoch();
            let cookie = self.cookie();
            let label = if method == reqwest::Method::HEAD { "HEAD file" } else { "GET file" };
            let timeout = self.options.timeouts.request;
            let method = method.clone();
            let opened = match &at.system {
                Some(system) => system.open(method, &at.url, tail, label, timeout).await,
                None => self.transport.open(method, &at.url, cookie.as_deref(), tail, label, timeout).await,
            };
            let response = match opened {
                // A kept connection that the host has closed meanwhile looks the same as one that breaks.
                Err(error) if tried == 0 && matches!(error.root(), Error::Lost { .. }) => {
                    tried += 1;
                    continue;
                }
                opened => opened?,
            };
            // What one of a vCenter's hosts refuses is no session of ours.
            if response.status().as_u16() != 401 || tried >= RENEWALS || at.system.is_some() {
                return Ok(response);
            }
            tried += 1;
            self.renew(generation).await?;
        }
    }

    /// Sends a file with the session as it is; the status that came back.
    pub(in crate::esxi) async fn send_file(
        &self,
        at: &Endpoint,
        label: &'static str,
        length: Option<u64>,
        body: reqwest::Body,
    ) -> Result<u16, Error> {
        match &at.system {
            Some(system) => system.send_file(&at.url, label, length, body).await,
            None => self.transport.send_file(&at.url, self.cookie().as_deref(), label, length, body).await,
        }
    }

    /// Counts what came of a file.
    pub(in crate::esxi) fn count_received(&self, bytes: usize) {
        self.transport.count_received(bytes as u64);
    }
}
