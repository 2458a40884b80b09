//! `ceso doctor`: what this machine gives: the kernel's jail, the configuration, the folders.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde_json::json;

use super::context::Context;
use super::output::Format;
use crate::error::Fault;
use crate::run::process;

pub fn command() -> Command {
    Command::new("doctor").about("Say what this machine gives to run scripts safely").arg(Format::argument())
}

/// Exit code 0 where all holds, 1 where something does not.
pub fn run(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let mut rows = Vec::new();
    let mut add = |what: &str, wrong: Option<String>| {
        rows.push(json!({
            "what": what, "state": if wrong.is_none() { "holds" } else { "missing" }, "why": wrong,
        }));
    };
    match process::probe_jail() {
        Ok(parts) => parts.into_iter().for_each(|part| add(&format!("jail: {}", part.name), part.missing)),
        Err(fault) => add("jail: worker", Some(fault.to_string())),
    }
    add("configuration", context.config().err().map(|fault| fault.to_string()));
    let whole = rows.iter().all(|row| row.get("why").is_some_and(serde_json::Value::is_null));
    context.print(matches, &json!(rows))?;
    if !whole {
        context.say("restricted mode runs only where every part of the jail holds, unless it is told --no-jail")?;
    }
    Ok(ExitCode::from(u8::from(!whole)))
}
