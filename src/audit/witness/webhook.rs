//! A webhook: `POST {log, seq, head, ts, records}`, where seq, head and ts are the newest record's. Any status 2xx is an answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::{Message, Way};

const PATIENCE: Duration = Duration::from_secs(5);

/// The most records in one request.
const MOST: usize = 100;

pub(super) struct Webhook {
    url: Url,
    open: Option<(Runtime, Client)>,
}

impl Webhook {
    pub(super) fn new(url: Url) -> Self {
        Self { url, open: None }
    }

    fn connect(&self) -> Result<(Runtime, Client), String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let mut roots = rustls::RootCertStore::empty();
        if self.url.scheme() == "https" {
            // One certificate of the machine that cannot be read leaves the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ceso/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok((runtime, client))
    }
}

impl Way for Webhook {
    fn tell(&mut self, messages: &[Message]) -> Result<(), String> {
        if self.open.is_none() {
            self.open = Some(self.connect()?);
        }
        let Some((runtime, client)) = &self.open else { return Ok(()) };
        for messages in messages.chunks(MOST) {
            let Some(newest) = messages.last() else { break };
            let records: Vec<Value> =
                messages.iter().filter_map(|message| serde_json::from_slice(&message.line).ok()).collect();
            let body = json!({
                "log": newest.log,
                "seq": newest.seq,
                "head": newest.head.to_string(),
                "ts": newest.ts,
                "records": records,
            });
            let request = client
                .post(self.url.clone())
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
            // The address may hold what is as good as a password: no error quotes it.
            let answer = runtime.block_on(async { request.send().await }).map_err(|error| {
                let what = if error.is_timeout() { "it does not answer in time" } else { "it cannot be reached" };
                what.to_owned()
            })?;
            if !answer.status().is_success() {
                return Err(format!("it answers {}", answer.status()));
            }
        }
        Ok(())
    }
}
