//! `ceso audit`: what happened, and whether the log that says so is the one that was written.
//!
//! Reads the log as it goes; nothing here holds a log in memory.

mod filter;
mod rows;
mod show;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use super::context::Context;
use super::output::Format;
use crate::audit::{self, Event, Kind, Log, Options, Sends, Witness};
use crate::config::{Config, WitnessSends, printable};
use crate::error::Fault;

pub fn command() -> Command {
    Command::new("audit")
        .about("Read the audit log, and verify it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            filter::arguments(Command::new("tail"))
                .about("Print the newest records")
                .arg(
                    Arg::new("lines")
                        .short('n')
                        .long("lines")
                        .value_name("N")
                        .value_parser(value_parser!(u64))
                        .default_value("10")
                        .help("How many of the newest records are looked at"),
                )
                .arg(
                    Arg::new("follow")
                        .short('f')
                        .long("follow")
                        .action(ArgAction::SetTrue)
                        .help("Go on with what is recorded from now on; JSON is then a record on each line"),
                )
                .arg(Format::argument()),
        )
        .subcommand(
            filter::arguments(Command::new("show"))
                .about("Print records: one by its number, or those that the filters let through")
                .arg(Arg::new("SEQ").value_parser(value_parser!(u64)).help("The number of a record"))
                .arg(Format::argument()),
        )
        .subcommand(
            Command::new("verify")
                .about("Check every line, link and signature of the log")
                .after_help(
                    "Exit codes: 0 all that was checked is as it must be, 1 the log is damaged or cannot be read, 2 usage.\n\
                     What no check can show: that records are missing behind the newest one that a pin or a witness knows of.",
                )
                .arg(
                    Arg::new("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .help("The log, or a file of it that was set aside [default: security.audit_log]"),
                )
                .arg(
                    Arg::new("pin")
                        .long("pin")
                        .value_name("SEQ:HEAD")
                        .action(ArgAction::Append)
                        .value_parser(|text: &str| text.parse::<audit::Pin>())
                        .help("A receipt that was kept elsewhere, with at least 16 digits of its hash; may be given again"),
                )
                .arg(
                    Arg::new("key")
                        .long("key")
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .help("The public key, kept elsewhere [default: the one beside the log]"),
                )
                .arg(
                    Arg::new("partial")
                        .long("partial")
                        .action(ArgAction::SetTrue)
                        .help("The log's oldest files are kept elsewhere"),
                )
                .arg(Format::argument()),
        )
        .subcommand(
            Command::new("set-aside")
                .about("Move the log away, unchanged, with its keys; the next record begins a new one")
                .arg(Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Do not ask")),
        )
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    match matches.subcommand() {
        Some(("tail", matches)) => show::tail(matches, context),
        Some(("show", matches)) => show::show(matches, context),
        Some(("verify", matches)) => verify::run(matches, context),
        Some(("set-aside", matches)) => set_aside(matches, context),
        _ => Err(Fault::new("usage.command", "ceso audit needs a command").hint("tail, show, verify or set-aside")),
    }
}

/// The audit log that the configuration describes.
///
/// Faults: `config.invalid` where a witness's address is none.
pub fn options(config: &Config) -> Result<Options, Fault> {
    let settings = &config.settings().audit;
    let witnesses = settings.witness.iter().map(|text| {
        text.parse::<Witness>().map_err(|why| {
            Fault::new(
                "config.invalid",
                format!("{}: audit.witness: {}", config.origin("audit.witness"), printable(&why)),
            )
            .hint("change it there; `ceso config show` says where each value comes from")
        })
    });
    Ok(Options {
        rotate_at: settings.rotate_at,
        checkpoint_every: u64::from(settings.checkpoint_every),
        checkpoint_after: settings.checkpoint_after.0,
        witnesses: witnesses.collect::<Result<_, _>>()?,
        sends: match settings.witness_sends {
            WitnessSends::Checkpoints => Sends::Checkpoints,
            WitnessSends::Records => Sends::Records,
        },
        ..Options::new(config.audit_log())
    })
}

fn set_aside(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let options = options(&*context.config()?)?;
    let file = options.file.display().to_string();
    if !matches.get_flag("yes") {
        let question = format!("Move the audit log {file} away and begin a new one with a new key?");
        match context.confirm(&question)? {
            Some(true) => {}
            Some(false) => return Ok(ExitCode::from(1)),
            None => {
                return Err(Fault::new(
                    "usage.no_answer",
                    "there is nobody to ask whether the audit log is to be moved away",
                )
                .hint("give --yes"));
            }
        }
    }
    let folder = audit::move_away(&options.file)?;
    let log = Log::open(options)?;
    let event = Event {
        message: Some("the log before this one was set aside".to_owned()),
        details: Some(json!({ "folder": folder.display().to_string() })),
        ..Event::new(Kind::Note)
    };
    log.write_blocking(event, audit::Sync::Now)?;
    log.close()?;
    context.say(&format!("{file} is now in {}; a new log is begun", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
