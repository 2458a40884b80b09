//! What a command tells of itself to machines: metrics, log lines, traces. Each is off unless asked for.

mod exposition;
mod logs;
mod traces;

use tracing::Metadata;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;

pub use self::exposition::within;
pub use self::traces::Traces;
use super::context::Context;
use crate::config::Config;
use crate::error::Fault;

/// Begins to log and to trace, as far as that is asked for. What is returned is held until the command has ended.
///
/// Faults: `usage.log`, `usage.traces`, `log.file`, `log.traces`.
pub fn begin(context: &Context, level: Option<&str>) -> Result<Option<Traces>, Fault> {
    let config = context.config().ok();
    let settings = config.as_deref().map(Config::settings);
    let lines = logs::layer(context, level, settings)?;
    let traced = traces::endpoint(context, settings)?.map(|endpoint| Traces::begin(&endpoint)).transpose()?;
    if lines.is_none() && traced.is_none() {
        return Ok(None);
    }
    let (traces, tracer) = traced.unzip();
    let spans = tracer.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        layer.with_filter(ours())
    });
    let subscriber = tracing_subscriber::registry().with(lines).with(spans);
    // Whoever set one before (a test, in its own process) keeps it.
    let _already_set = tracing::subscriber::set_global_default(subscriber);
    Ok(traces)
}

/// Our own spans, and of what happens in them all but the details.
fn ours() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    FilterFn::new(|about: &Metadata<'_>| {
        about.target().starts_with("ceso::") && (about.is_span() || *about.level() <= tracing::Level::INFO)
    })
    .with_max_level_hint(LevelFilter::DEBUG)
}
