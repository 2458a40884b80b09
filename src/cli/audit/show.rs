//! `ceso audit show` and `ceso audit tail`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Map, Value};

use super::filter::Filter;
use super::rows::Rows;
use crate::audit::{Entry, Reader, newest};
use crate::cli::context::Context;
use crate::cli::output::Format;
use crate::error::Fault;

/// How often is looked for new records.
const LOOK: Duration = Duration::from_millis(250);

pub fn show(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let filter = Filter::read(matches)?;
    let log = context.config()?.audit_log();
    let style = context.style(matches)?;
    if let Some(seq) = matches.get_one::<u64>("SEQ") {
        return one(*seq, &log, matches, context);
    }
    let mut rows = Rows::new(style.format, false);
    let broken = print(Reader::since(&log, 1)?, &filter, &mut rows)?.broken;
    rows.end()?;
    warn(broken, context)?;
    Ok(ExitCode::SUCCESS)
}

fn one(seq: u64, log: &Path, matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let mut reader = Reader::since(log, seq)?;
    let record = match reader.next_entry()? {
        Some(entry) if entry.seq == seq => record(&entry),
        _ => None,
    };
    let Some(record) = record else {
        let newest = newest(log)?.map_or(0, |newest| newest.seq);
        return Err(Fault::new("usage.record", format!("the audit log has no record {seq}"))
            .hint(format!("its newest record is {newest}")));
    };
    if context.style(matches)?.format == Format::Json {
        context.print(matches, &record)?;
        return Ok(ExitCode::SUCCESS);
    }
    // For people the event's fields are the record's.
    let mut flat = Map::new();
    for (name, value) in record.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("event", Value::Object(event)) => flat.extend(event.clone()),
            _ => drop(flat.insert(name.clone(), value.clone())),
        }
    }
    context.print(matches, &Value::Object(flat))?;
    Ok(ExitCode::SUCCESS)
}

pub fn tail(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let filter = Filter::read(matches)?;
    let log = context.config()?.audit_log();
    let follow = matches.get_flag("follow");
    let count = matches.get_one::<u64>("lines").copied().unwrap_or(10);
    let mut rows = Rows::new(context.style(matches)?.format, follow);
    let mut told = print(Reader::last(&log, count)?, &filter, &mut rows)?;
    let mut next = told.newest.or(newest(&log)?.map(|newest| newest.seq)).map_or(1, |seq| seq + 1);
    while follow && rows.flush()? {
        std::thread::sleep(LOOK);
        told = print(Reader::since(&log, next)?, &filter, &mut rows)?;
        next = told.newest.map_or(next, |seq| seq + 1);
    }
    rows.end()?;
    warn(told.broken, context)?;
    Ok(ExitCode::SUCCESS)
}

/// What was printed.
struct Told {
    newest: Option<u64>,
    broken: u64,
}

fn print(mut reader: Reader, filter: &Filter, rows: &mut Rows) -> Result<Told, Fault> {
    let mut newest = None;
    while let Some(entry) = reader.next_entry()? {
        newest = Some(entry.seq);
        if !filter.lets_time(entry.ts) {
            continue;
        }
        let Some(record) = record(&entry) else { continue };
        if record.get("event").is_some_and(|event| filter.lets(event)) && !rows.add(&record)? {
            break;
        }
    }
    Ok(Told { newest, broken: reader.broken() })
}

/// The record, its number and time first.
fn record(entry: &Entry<'_>) -> Option<Value> {
    let Value::Object(mut parts) = serde_json::from_slice(entry.line).ok()? else { return None };
    let mut record = Map::new();
    for name in ["seq", "ts", "event", "boot", "prev", "hash"] {
        record.insert(name.to_owned(), parts.get_mut(name)?.take());
    }
    Some(Value::Object(record))
}

fn warn(broken: u64, context: &Context) -> Result<(), Fault> {
    if broken > 0 {
        context.say(&format!(
            "warning: {broken} lines of the log are no records and are not shown; `ceso audit verify` says what is wrong"
        ))?;
    }
    Ok(())
}
