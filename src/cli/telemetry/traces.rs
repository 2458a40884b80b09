//! Traces: the spans of a run, its operations and its requests, sent to a collector by OTLP over HTTP where one is configured.
//!
//! Spans are sent from a thread of their own, in batches; a command waits for the last batch for a bounded time and no longer. A
//! collector that does not answer costs that time, and one warning. Values pass the search for known secrets. Specification:
//! <https://opentelemetry.io/docs/specs/otlp/>, and for the variables <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, Value};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter, Tracer};
use tokio::runtime::{Handle, Runtime};
use url::Url;

use crate::cli::context::{Context, say};
use crate::config::Settings;
use crate::error::Fault;
use crate::redact;

/// How long one batch may take, and how long the end of a command waits for the last one.
const BATCH: Duration = Duration::from_secs(2);
const LAST: Duration = Duration::from_secs(3);

/// The traces of this process; dropping them sends what is left.
pub struct Traces {
    provider: SdkTracerProvider,
    trouble: Arc<OnceLock<String>>,
    endpoint: String,
    runtime: Option<Runtime>,
}

/// Where spans go: the setting, else the standard variables; nothing where none of them is there.
///
/// Faults: `usage.traces` for what is no address.
pub fn endpoint(context: &Context, settings: Option<&Settings>) -> Result<Option<Url>, Fault> {
    let environment = &context.sources().environment;
    let variable = |name: &'static str| match environment.get(name) {
        Ok(value) => Ok(value.map(|value| (name, value.to_owned()))),
        // Its specification takes an empty variable for one that is not set.
        Err(_) => Ok::<_, Fault>(None),
    };
    let setting = settings.and_then(|settings| settings.traces.endpoint.clone()).map(|text| ("traces.endpoint", text));
    let whole = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")?;
    let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    if let (None, Some((place, text))) = (&setting, &whole) {
        return address(place, text).map(Some);
    }
    let Some((place, text)) = setting.or(base) else { return Ok(None) };
    let mut url = address(place, &text)?;
    if !url.path().ends_with("/v1/traces") {
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
    }
    Ok(Some(url))
}

fn address(place: &str, text: &str) -> Result<Url, Fault> {
    let refused = |why: &str| {
        Fault::new("usage.traces", format!("{place}: {why}"))
            .hint("write the collector's address, such as http://127.0.0.1:4318; a token goes into OTEL_EXPORTER_OTLP_HEADERS")
    };
    let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it carries a user name"));
    }
    Ok(url)
}

impl Traces {
    /// Begins to send spans there; the tracer is what the subscriber's layer is made with.
    ///
    /// Faults: `log.traces` where no thread starts or no client can be made.
    pub fn begin(endpoint: &Url) -> Result<(Self, Tracer), Fault> {
        let failed = |why: String| Fault::new("log.traces", format!("traces cannot be sent to {endpoint}: {why}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let tls = tls(endpoint.scheme() == "https").map_err(|error| failed(error.to_string()))?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(BATCH)
            .timeout(BATCH)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let sender = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.as_str())
            .with_timeout(BATCH)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let trouble = Arc::new(OnceLock::new());
        let exporter =
            Exporter { sender: Arc::new(sender), runtime: runtime.handle().clone(), trouble: trouble.clone() };
        let resource = Resource::builder()
            .with_service_name("ceso")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer("ceso");
        Ok((Self { provider, trouble, endpoint: endpoint.to_string(), runtime: Some(runtime) }, tracer))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let ended = self.provider.shutdown_with_timeout(LAST);
        let trouble = self.trouble.get().cloned().or_else(|| ended.err().map(|error| error.to_string()));
        if let Some(trouble) = trouble {
            // Nobody is left to tell where standard error is closed.
            drop(say(&format!("warning: traces were not sent to {}: {}", self.endpoint, redact::text(&trouble))));
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn tls(https: bool) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    if https {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Sends batches in the runtime: the thread that gathers them has none.
#[derive(Debug)]
struct Exporter {
    sender: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    /// What went wrong first.
    trouble: Arc<OnceLock<String>>,
}

impl SpanExporter for Exporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(hide);
        let sender = self.sender.clone();
        let sent = self.runtime.spawn(async move { tokio::time::timeout(BATCH, sender.export(batch)).await });
        let result = match sent.await {
            Ok(Ok(result)) => result,
            Ok(Err(_late)) => Err(OTelSdkError::Timeout(BATCH)),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        if let Err(error) = &result {
            let _later_ones_are_the_same = self.trouble.set(error.to_string());
        }
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        // It is told before the first batch, while nobody else has the sender.
        if let Some(sender) = Arc::get_mut(&mut self.sender) {
            sender.set_resource(resource);
        }
    }
}

/// Takes known secrets out of everything of a span that is text.
fn hide(span: &mut SpanData) {
    let attributes = span.events.events.iter_mut().flat_map(|event| {
        if let std::borrow::Cow::Owned(hidden) = redact::text(&event.name) {
            event.name = hidden.into();
        }
        event.attributes.iter_mut()
    });
    for attribute in attributes.chain(&mut span.attributes) {
        if let Value::String(text) = &attribute.value
            && let std::borrow::Cow::Owned(hidden) = redact::text(text.as_str())
        {
            attribute.value = Value::String(hidden.into());
        }
    }
}
