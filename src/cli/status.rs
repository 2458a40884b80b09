//! `ceso status`: one screen of what runs, the hosts, the last backups, the audit log.
//!
//! Nothing is asked of a host unless `--check` says so, and nothing is made up: what is not known is said to be so. Everything shown
//! is another's text and is escaped.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::context::Context;
use super::host;
use super::output::{self, Format, Style};
use crate::audit::{State, Witness};
use crate::catalog::{Backup, Catalog, Wanted};
use crate::config::{Config, printable};
use crate::error::Fault;
use crate::run::presence::{self, Seen};
use crate::units::{Bytes, Span};

pub fn command() -> Command {
    Command::new("status")
        .about("Show what runs on this machine, the hosts, the last backups and the audit log")
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .default_missing_value("2")
                .value_parser(interval)
                .help("Show it again and again, every so many seconds [default: 2], until Ctrl-C"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .conflicts_with("watch")
                .help("Also log in to each host and say how it answers"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FORM")
                .value_parser(PossibleValuesParser::new(["table", "json"]))
                .help("The form: text for people, JSON for programs (one document for each look) [default: table, or CESO_OUTPUT]"),
        )
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("write a number of seconds from 0.1 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let style = context.style(matches)?;
    if style.format == Format::Csv {
        return Err(
            Fault::new("usage.output", "the status has no form as CSV").hint("write --output table or --output json")
        );
    }
    let Some(interval) = matches.get_one::<Duration>("watch") else {
        let status = look(context, matches.get_flag("check"))?;
        output::write(&text(&status, &style)?, &mut io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    };
    loop {
        let mut screen = text(&look(context, false)?, &style)?;
        if style.format == Format::Table {
            // At a terminal each look begins at the top; elsewhere they are apart by a line.
            screen = if style.terminal { format!("\x1b[H\x1b[2J{screen}") } else { format!("{screen}\n") };
        }
        match write(&screen) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(error) => {
                return Err(Fault::new("output.failed", format!("the status could not be written: {error}"))
                    .hint("mind what its output goes to")
                    .cause(error));
            }
        }
        if is_closed_within(*interval) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Waits, and says whether whoever reads the output has gone meanwhile.
fn is_closed_within(time: Duration) -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let timeout = rustix::event::Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
    match poll(&mut polled, Some(&timeout)) {
        Ok(0) => false,
        Ok(_) => polled.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)),
        // A signal that is handled (a window that was resized) ends the wait early, which does no harm.
        Err(_) => false,
    }
}

/// Everything that is known, as it is told to programs.
fn look(context: &Context, check: bool) -> Result<Value, Fault> {
    let config = context.config()?;
    let folder = config.home().runs();
    let seen = presence::all(&folder).map_err(|error| {
        Fault::new("usage.home", format!("{}: cannot be read: {error}", folder.display()))
            .hint("mind the permissions of the folder")
            .cause(error)
    })?;
    let (live, dead): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|seen| seen.lives);
    Ok(json!({
        "runs": live.into_iter().map(of_run).collect::<Vec<_>>(),
        "killed": dead.into_iter().map(of_run).collect::<Vec<_>>(),
        "hosts": hosts(context, &config, check)?,
        "backups": backups(&config),
        "audit": audit(&config),
    }))
}

fn of_run(seen: &Seen) -> Value {
    let Seen { about, doing, .. } = seen;
    json!({
        "run": about.run,
        "kind": about.kind,
        "script": about.script,
        "mode": about.mode,
        "host": about.host,
        "principal": about.principal,
        "pid": about.pid,
        "seconds": presence::now().saturating_sub(about.since) / 1000,
        "operations": doing.calls,
        "operation": doing.operation,
        "operation_seconds": doing.operation.as_ref().map(|_| presence::now().saturating_sub(doing.at) / 1000),
    })
}

fn hosts(context: &Context, config: &Config, check: bool) -> Result<Vec<Value>, Fault> {
    let mut rows = Vec::new();
    for name in config.host_names() {
        let host = match config.host(name) {
            Ok(host) => host,
            Err(fault) => {
                rows.push(json!({ "name": name, "problem": fault.message() }));
                continue;
            }
        };
        let kept = host.session_file.symlink_metadata().ok().filter(|file| file.is_file());
        let last = kept
            .as_ref()
            .and_then(|file| file.modified().ok())
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        let mut row = json!({
            "name": name,
            "url": host.url.to_string(),
            "session": if kept.is_some() { "kept" } else { "none" },
            "contact_seconds": last.map(|age| age.as_secs()),
        });
        if check {
            row["answer"] = match host::product(context, name) {
                Ok(product) => json!(product),
                Err(fault) => json!(format!("{}: {}", fault.kind(), fault.message())),
            };
        }
        rows.push(row);
    }
    Ok(rows)
}

/// How many backups are shown.
const BACKUPS: usize = 5;

/// The newest backups that the catalog knows. It is only read, and not waited for long.
fn backups(config: &Config) -> Vec<Value> {
    let catalog = Catalog::new(config.home().catalog()).with_patience(Duration::from_secs(1));
    let wanted = Wanted { limit: BACKUPS, ..Wanted::default() };
    let found = catalog.backups(&wanted, &|_| true).and_then(|page| Ok((page.rows, catalog.repositories()?)));
    let (rows, repositories) = match found {
        Ok(found) => found,
        Err(error) => return vec![json!({ "problem": error.to_string() })],
    };
    let told = |row: Backup| {
        let known = repositories.iter().find(|(known, _)| known.id == row.repository);
        json!({
            "vm": row.machine,
            "time": row.time.format(&Rfc3339).unwrap_or_default(),
            "age_seconds": (OffsetDateTime::now_utc() - row.time).whole_seconds().max(0),
            "state": row.state.name(),
            "size": Bytes(row.size()).exact(),
            "repository": known.map_or_else(|| row.repository.to_string(), |(known, _)| known.name.clone()),
            "id": row.id.to_string(),
        })
    };
    rows.into_iter().map(told).collect()
}

fn backup_row(backup: &Value) -> Value {
    if let Some(problem) = backup.get("problem") {
        return json!({ "vm": "", "problem": problem });
    }
    let age = Span(Duration::from_secs(backup["age_seconds"].as_u64().unwrap_or_default()));
    let id = backup["id"].as_str().unwrap_or_default();
    json!({
        "vm": backup["vm"], "begun": format!("{age} ago"), "state": backup["state"], "size": backup["size"],
        "repository": backup["repository"], "id": id.get(..12).unwrap_or(id),
    })
}

fn audit(config: &Config) -> Value {
    let file = config.audit_log();
    let mut told = json!({ "file": file.display().to_string(), "recording": config.settings().security.audit });
    match State::of(&file) {
        Ok(Some(state)) => {
            if let (Some(told), Ok(Value::Object(state))) = (told.as_object_mut(), serde_json::to_value(state)) {
                told.extend(state);
            }
        }
        Ok(None) => {}
        Err(error) => told["problem"] = json!(error.to_string()),
    }
    let newest = told["sequence"].as_u64();
    let witnesses = config.settings().audit.witness.iter().map(|address| {
        let knows = address.parse::<Witness>().ok().and_then(|witness| witness.knows(&file));
        let lag = newest.map(|newest| newest.saturating_sub(knows.unwrap_or_default()));
        json!({ "witness": address, "knows": knows, "lag_records": lag })
    });
    told["witnesses"] = witnesses.collect();
    told
}

fn text(status: &Value, style: &Style) -> Result<String, Fault> {
    if style.format == Format::Json {
        let mut out = Vec::new();
        output::print(status, style, &mut out)?;
        return Ok(String::from_utf8_lossy(&out).into_owned());
    }
    let mut out = String::new();
    section(&mut out, "RUNS", &rows(status, "runs", run_row), "nothing runs", style)?;
    let killed = rows(status, "killed", run_row);
    if !killed.is_empty() {
        section(&mut out, "ENDED WITHOUT A WORD (killed; told this once)", &killed, "", style)?;
    }
    section(
        &mut out,
        "HOSTS",
        &rows(status, "hosts", host_row),
        "no host is configured: ceso host add NAME URL",
        style,
    )?;
    section(&mut out, "BACKUPS", &rows(status, "backups", backup_row), "no backups are recorded", style)?;
    let audit = &status["audit"];
    section(&mut out, "AUDIT LOG", &[audit_row(audit)], "", style)?;
    let witnesses = audit["witnesses"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !witnesses.is_empty() {
        section(&mut out, "WITNESSES", witnesses, "", style)?;
    }
    Ok(out)
}

fn rows(status: &Value, key: &str, row: fn(&Value) -> Value) -> Vec<Value> {
    status[key].as_array().map(|rows| rows.iter().map(row).collect()).unwrap_or_default()
}

fn section(out: &mut String, title: &str, rows: &[Value], empty: &str, style: &Style) -> Result<(), Fault> {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(title);
    out.push('\n');
    if rows.is_empty() {
        out.push_str(&format!("  {empty}\n"));
        return Ok(());
    }
    let mut table = Vec::new();
    output::print(&Value::Array(rows.to_vec()), style, &mut table)?;
    for line in String::from_utf8_lossy(&table).lines() {
        out.push_str(&format!("  {line}\n"));
    }
    Ok(())
}

fn run_row(run: &Value) -> Value {
    let seconds = |key: &str| Span(Duration::from_secs(run[key].as_u64().unwrap_or_default())).to_string();
    let doing = match run["operation"].as_str() {
        Some(operation) => format!("{} ({})", printable(operation), seconds("operation_seconds")),
        None => "-".to_owned(),
    };
    json!({
        "run": run["run"], "script": run["script"], "mode": run["mode"], "host": run["host"], "by": run["principal"],
        "pid": run["pid"], "for": seconds("seconds"), "operations": run["operations"], "now": doing,
    })
}

fn audit_row(audit: &Value) -> Value {
    let file = &audit["file"];
    if audit["recording"] == false {
        return json!({ "file": file, "newest": "SWITCHED OFF: security.audit is false, and nothing is recorded" });
    }
    if let Some(problem) = audit.get("problem") {
        return json!({ "file": file, "problem": problem });
    }
    let Some(sequence) = audit["sequence"].as_u64() else {
        return json!({ "file": file, "newest": "nothing is recorded yet" });
    };
    let head = audit["head"].as_str().unwrap_or_default();
    let checkpoint = match (audit["checkpoint"].as_u64(), audit["signed"].as_str()) {
        (Some(checkpoint), Some(signed)) => format!("{checkpoint} at {signed}"),
        _ => "further back".to_owned(),
    };
    json!({
        "file": file, "record": sequence, "head": head.get(..16).unwrap_or(head), "newest": audit["newest"],
        "signed up to": checkpoint,
    })
}

fn host_row(host: &Value) -> Value {
    if let Some(problem) = host.get("problem") {
        return json!({ "name": host["name"], "url": "", "session": problem });
    }
    let contact = match host["contact_seconds"].as_u64() {
        Some(seconds) => format!("{} ago", Span(Duration::from_secs(seconds))),
        None => "not known".to_owned(),
    };
    let mut row =
        json!({ "name": host["name"], "url": host["url"], "session": host["session"], "last contact": contact });
    if let Some(answer) = host.get("answer") {
        row["answer"] = answer.clone();
    }
    row
}
