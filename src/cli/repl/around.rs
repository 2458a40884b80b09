//! What completion asks of the session. The names of what lies on a host are read through the door, like any call.

use std::time::Duration;

use super::completion::Surroundings;
use super::state::Repl;
use crate::cli::doc;
use crate::config::SIMULATOR;
use crate::wire::{Handle, Known, Value};

/// How long TAB waits for a host.
const COMPLETION: Duration = Duration::from_secs(3);

impl Surroundings for Repl<'_> {
    fn globals(&self) -> &[Known] {
        self.worker.session.names()
    }

    fn hosts(&self) -> Vec<String> {
        let mut names = self.host_names();
        names.push(SIMULATOR.to_owned());
        names
    }

    fn topics(&self) -> Vec<String> {
        doc::names()
    }

    fn fields(&self, handle: u32) -> Vec<String> {
        let mut value = Value::Handle(Box::new(Handle { id: handle, ..Handle::default() }));
        match (self.worker.door.tell(&mut value), value) {
            (Ok(()), Value::Handle(handle)) => {
                let names = handle.fields.into_iter().map(|(name, _)| name);
                names.chain(["name".to_owned()]).collect()
            }
            // The worker named a handle that this run never gave out.
            _ => Vec::new(),
        }
    }

    fn names(&mut self, noun: &str, host: u32) -> Vec<String> {
        let host = Value::Handle(Box::new(Handle { id: host, kind: "host".to_owned(), ..Handle::default() }));
        let arguments = Value::Map(vec![("host".to_owned(), host)]);
        // TAB has no place for an error: the call itself will tell it.
        match self.worker.session.ask(&format!("{noun}.list"), arguments, COMPLETION) {
            Ok(Value::List(items)) => items
                .into_iter()
                .filter_map(|item| match item {
                    Value::Handle(handle) => Some(handle.name),
                    Value::Map(_) => item.get("name").and_then(Value::as_text).map(str::to_owned),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}
