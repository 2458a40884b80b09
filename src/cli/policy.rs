//! `ceso policy`: what a mode allows, and what a script would get of what it asks for.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::context::Context;
use super::globals::Globals;
use super::output::Format;
use super::{grant, run};
use crate::config::Mode;
use crate::door::modes;
use crate::door::table::{Entry, Table};
use crate::error::Fault;

pub fn command() -> Command {
    Command::new("policy")
        .about("Show what modes allow, and what a script would get")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("show")
                .about("Print a mode's capability table")
                .arg(
                    Arg::new("MODE")
                        .value_parser(clap::builder::PossibleValuesParser::new(Mode::ALL.map(Mode::name)))
                        .help("restricted, standard or unrestricted [default: the configured one]"),
                )
                .arg(Format::argument()),
        )
        .subcommand(
            Command::new("explain")
                .about("Say what a script asks for, what it would get, and what it asks for beyond")
                .arg(Arg::new("FILE").required(true).help("A .luau or .lua file, or - for standard input"))
                .arg(Format::argument()),
        )
}

pub fn run(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    match matches.subcommand() {
        Some(("show", matches)) => show(matches, context),
        Some(("explain", matches)) => explain(matches, globals, context),
        _ => Err(Fault::new("usage.command", "ceso policy needs a command").hint("show or explain")),
    }
}

fn show(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let mode = match matches.get_one::<String>("MODE") {
        Some(name) => Mode::ALL.into_iter().find(|mode| mode.name() == name),
        None => None,
    };
    let mode = match mode {
        Some(mode) => mode,
        None => context.config()?.mode(),
    };
    let rows: Vec<serde_json::Value> = modes::table(mode)
        .entries
        .iter()
        .map(|entry| json!({ "mode": mode.name(), "entry": entry.name(), "selects": patterns(entry) }))
        .collect();
    context.print(matches, &json!(rows))?;
    Ok(ExitCode::SUCCESS)
}

fn explain(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let config = context.config()?;
    let grant = grant::read(&config, globals)?;
    let file = matches.get_one::<String>("FILE").map(String::as_str).unwrap_or_default();
    let (source, folder) = run::load(file, &config)?;
    let shown = source.clone();
    let declaration = match crate::run::check(source, run::looks(&config, folder)?) {
        Ok(declaration) => declaration,
        Err(ended) => {
            run::tell(&ended, &[shown], globals.verbose);
            return Ok(ExitCode::from(2));
        }
    };
    let mode = modes::table(grant.mode);
    let Some(declaration) = declaration else {
        context
            .say(&format!("a plain script asks for nothing by itself: it gets what the mode {} allows", grant.mode))?;
        return show_table(matches, context, &mode, grant.table.as_ref());
    };
    let rows: Vec<serde_json::Value> = declaration
        .needs_as_written()?
        .entries
        .iter()
        .map(|entry| {
            json!({
                "entry": entry.name(),
                "selects": patterns(entry),
                "max": entry.max,
                "gets": verdict(entry, &mode, grant.mode, grant.table.as_ref()),
            })
        })
        .collect();
    context.print(matches, &json!(rows))?;
    Ok(ExitCode::SUCCESS)
}

fn show_table(matches: &ArgMatches, context: &Context, mode: &Table, grant: Option<&Table>) -> Result<ExitCode, Fault> {
    let rows: Vec<serde_json::Value> = grant
        .unwrap_or(mode)
        .entries
        .iter()
        .map(|entry| json!({ "entry": entry.name(), "selects": patterns(entry) }))
        .collect();
    context.print(matches, &json!(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the entry is allowed whole, in part, or not at all.
fn verdict(entry: &Entry, mode: &Table, name: Mode, grant: Option<&Table>) -> String {
    let held = |table: &Table| match (table.contains(entry), table.mentions(&entry.noun, &entry.verb)) {
        (true, _) => "all",
        (false, true) => "part",
        (false, false) => "none",
    };
    match (held(mode), grant.map_or("all", held)) {
        ("all", "all") => "all of it".to_owned(),
        ("none", _) => format!("nothing: the mode {name} does not allow it"),
        (_, "none") => "nothing: it is not granted".to_owned(),
        ("part", _) => format!("a part: the mode {name} allows {} only", limits(mode, entry)),
        (_, _) => format!("a part: granted is {} only", grant.map(|grant| limits(grant, entry)).unwrap_or_default()),
    }
}

fn limits(table: &Table, entry: &Entry) -> String {
    table.of(&entry.noun, &entry.verb).map(patterns).collect::<Vec<_>>().join(", ")
}

fn patterns(entry: &Entry) -> String {
    entry.patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
