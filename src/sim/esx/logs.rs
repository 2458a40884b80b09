//! The host's logs, as far as they can be read: `hostd` holds the newest requests with their operation ids, `vmkernel` the start.
//!
//! Specification: vSphere Web Services API, `DiagnosticManager`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::value::{Data, Value};
use crate::sim::world::World;

/// How many lines of a log are kept, and how many one answer holds.
const KEPT: usize = 5000;
const TOLD: usize = 1000;

/// The newest lines of `hostd`'s log.
#[derive(Debug, Default)]
pub struct Log(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// How many lines came before those that are kept.
    gone: usize,
    kept: VecDeque<String>,
}

impl Log {
    /// Notes a request. What clients send is kept short, and on one line.
    pub fn note(&self, method: &str, operation: Option<&str>) {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(128).collect::<String>();
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let operation = operation.map(|id| format!(" opID={}", plain(id))).unwrap_or_default();
        let line = format!("{now} info hostd[1000] [Originator@6876 sub=Vimsvc{operation}] {}", plain(method));
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.kept.len() >= KEPT {
            lines.kept.pop_front();
            lines.gone += 1;
        }
        lines.kept.push_back(line);
    }

    fn all(&self) -> (usize, Vec<String>) {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.gone, lines.kept.iter().cloned().collect())
    }
}

pub fn call(world: &World, call: &Call) -> Answer {
    match call.method {
        "QueryDescriptions" => {
            let log = |key: &'static str, file: &'static str| {
                Data::new("DiagnosticManagerLogDescriptor")
                    .with("key", key)
                    .with("fileName", file)
                    .with("creator", if key == "hostd" { "hostd" } else { "vmkernel" })
                    .with("format", "plain")
                    .with("mimeType", "text/plain")
                    .with(
                        "info",
                        Data::new("Description").with("label", key).with("summary", format!("The log of {key}")),
                    )
            };
            Ok(Reply::Value(vec![log("hostd", "/var/log/hostd.log"), log("vmkernel", "/var/log/vmkernel.log")].into()))
        }
        "BrowseDiagnosticLog" => {
            let (gone, lines) = match call.text("key")? {
                "hostd" => call.host.log.all(),
                "vmkernel" => {
                    let booted = world.started.format(&Rfc3339).unwrap_or_default();
                    (0, vec![format!("{booted} cpu0:1000)SIMULATOR: there is no kernel; the simulator has started")])
                }
                _ => return Err(VimFault::invalid_argument("key", "there is no such log")),
            };
            let last = gone + lines.len();
            // Without a start the end of the log is told by its number.
            let start = call.args.number("start").and_then(|start| usize::try_from(start).ok()).unwrap_or(1);
            let count =
                call.args.number("lines").and_then(|count| usize::try_from(count).ok()).unwrap_or(TOLD).min(TOLD);
            let first = start.max(gone + 1);
            let told: Vec<String> = lines.into_iter().skip(first - gone - 1).take(count).collect();
            let end = if start > last { last } else { first + told.len().max(1) - 1 };
            let header = Data::new("DiagnosticManagerLogHeader")
                .with("lineStart", i32::try_from(first.min(last + 1)).unwrap_or(i32::MAX))
                .with("lineEnd", i32::try_from(end).unwrap_or(i32::MAX));
            Ok(header.with("lineText", told.into_iter().map(Value::from).collect::<Vec<_>>()).into())
        }
        other => Err(VimFault::not_implemented(other)),
    }
}
