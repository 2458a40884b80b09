//! `ceso repository`: repositories of backups, from a person's hand. Every command passes the door.
//!
//! A command is added by an arm in [`command`] and one in [`run`]: its arguments become those of an operation, which is declared in
//! `ops/`; the door checks, records and acts. What scripts may do as well is declared in [`crate::ops::all`]; what reads or writes files
//! of this machine, or a new secret, in [`crate::ops::of_commands`].

pub mod place;

use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::context::Context;
use super::globals::Globals;
use super::hosts::Configured;
use super::output::Format;
use super::passing::{Calls, Passing};
use crate::door::operation::Operation;
use crate::error::Fault;
use crate::ops;
use crate::units::{Bytes, Span};

/// The argument that names a repository.
pub fn argument() -> Arg {
    Arg::new("repository")
        .value_name("REPOSITORY")
        .required(true)
        .help("Its name in the configuration, a folder, or s3://BUCKET/PREFIX")
}

/// A flag that is set or not.
pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// A flag with a value, which the operation reads.
pub fn value(name: &'static str, of: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(of).help(help)
}

/// A command about one repository.
pub fn about(name: &'static str, about: &'static str) -> Command {
    place::with_secret(Command::new(name).about(about).arg(argument())).arg(Format::argument())
}

pub fn command() -> Command {
    let size = value("chunk-size", "SIZE", "The length of a chunk, 64 KiB to 4 MiB [default: 256 KiB]");
    let grace = value("grace", "TIME", "How long a prune waits between marking and deleting [default: 24 h]");
    Command::new("repository")
        .about("Make, list, check, prune and repair repositories of backups")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            about("init", "Make a repository; without a passphrase or key file only with --plain")
                .arg(flag("plain", "Do not encrypt").conflicts_with_all(["passphrase-file", "key-file"]))
                .arg(size.value_parser(|text: &str| text.parse::<Bytes>()))
                .arg(grace.value_parser(|text: &str| text.parse::<Span>())),
        )
        .subcommand(filters(about("list", "List the backups of a repository, the newest first")))
        .subcommand(
            about("check", "Check that every backup can be restored; exit code 1 where one cannot")
                .arg(flag("read-data", "Read and verify every byte"))
                .arg(
                    value(
                        "read-data-subset",
                        "N/T",
                        "Read and verify one part of so many: 1/7 on the first day of a week",
                    )
                    .conflicts_with("read-data"),
                ),
        )
        .subcommand(
            about(
                "repair",
                "Make the index anew, save what damaged packs still hold, and name the backups that are hurt",
            )
            .arg(flag("read-data", "Read every byte to find what is damaged")),
        )
        .subcommand(
            about("prune", "Mark what no backup needs, and delete what was marked before the grace period")
                .arg(flag("dry-run", "Print the plan and do nothing"))
                .arg(flag("at-once", "Delete now, without a grace period; backups that run meanwhile may fail")),
        )
        .subcommand(about("stats", "What is stored, and what was saved"))
        .subcommand(
            about("unlock", "Remove the leases of processes that are gone; nothing can be lost by it")
                .arg(flag("all", "Also those that seem to live")),
        )
}

/// The flags by which backups are chosen.
pub fn filters(command: Command) -> Command {
    command
        .arg(value("vm", "NAME", "Only backups of this machine"))
        .arg(value("since", "TIME", "Only those begun at or after it: 2026-05-01, or how long ago, such as \"7 days\""))
        .arg(value("until", "TIME", "Only those begun before it"))
        .arg(value("state", "STATE", "Only those in this state").value_parser(["complete", "failed"]))
        .arg(value("tag", "TAG", "Only those with this tag"))
        .arg(value("limit", "NUMBER", "The most that are listed").value_parser(clap::value_parser!(u32)))
}

/// The arguments that [`filters`] were given.
pub fn filtered(matches: &ArgMatches) -> Value {
    let text = |name: &str| matches.get_one::<String>(name);
    json!({
        "vm": text("vm"), "since": text("since"), "until": text("until"), "state": text("state"), "tag": text("tag"),
        "limit": matches.get_one::<u32>("limit"),
    })
}

pub fn run(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<(), Fault> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Fault::new("usage.command", "`ceso repository` needs a command").hint("see ceso repository --help"));
    };
    let set = |name: &str| matches.get_flag(name);
    let command = format!("repository {name}");
    let about = About { command, matches, globals, context };
    match name {
        "init" => {
            let text = |value: Option<String>| value.map_or(Value::Null, Value::String);
            let chunk_size = text(matches.get_one::<Bytes>("chunk-size").map(|size| size.exact()));
            let grace = text(matches.get_one::<Span>("grace").map(ToString::to_string));
            let made = about.command::<ops::image::Init>(json!({
                "plain": set("plain"), "chunk_size": chunk_size, "grace": grace,
            }))?;
            context.print(matches, &made)
        }
        "list" => about.print::<ops::repository::Backups>(filtered(matches)),
        "check" => {
            let subset = matches.get_one::<String>("read-data-subset");
            let report =
                about.method::<ops::repository::Check>(json!({ "read_data": set("read-data"), "subset": subset }))?;
            context.print(matches, &report)?;
            if report.get("clean") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            let count = |field: &str| report.get(field).and_then(Value::as_array).map_or(0, Vec::len);
            let message = format!("{} problems, {} backups hurt", count("problems"), count("hurt"));
            Err(Fault::new("backup.damaged", message).hint("ceso repository repair saves what can be saved"))
        }
        "repair" => about.print::<ops::repository_change::Repair>(json!({ "read_data": set("read-data") })),
        "prune" => about
            .print::<ops::repository_change::Prune>(json!({ "dry_run": set("dry-run"), "at_once": set("at-once") })),
        "stats" => about.print::<ops::repository::GetStats>(json!({})),
        "unlock" => about.print::<ops::repository_change::Unlock>(json!({ "all": set("all") })),
        other => Err(Fault::new("usage.command", format!("`ceso repository` has no command {other:?}"))),
    }
}

/// One command about one repository.
pub struct About<'a> {
    /// What records call it: `repository init`.
    pub command: String,
    pub matches: &'a ArgMatches,
    pub globals: &'a Globals,
    pub context: &'a Context,
}

impl About<'_> {
    /// Passes the door with the name of the repository at hand.
    pub fn pass<T>(&self, calls: impl AsyncFnOnce(&Calls<'_>, &str) -> Result<T, Fault>) -> Result<T, Fault> {
        let config = self.context.config()?;
        let typed = place::typed(self.matches, "repository", &config)?;
        let name = typed.name.clone();
        let hosts = Configured::new(Arc::clone(&config)).typed(typed);
        Passing::open(self.context, &config, self.globals, self.command.clone(), hosts)?
            .run(async |passed: &Calls<'_>| calls(passed, &name).await)
    }

    /// Calls an operation of commands, which takes the repository by its name.
    pub fn command<O: Operation>(&self, mut arguments: Value) -> Result<Value, Fault> {
        self.pass(async |calls: &Calls<'_>, name: &str| {
            if let Some(arguments) = arguments.as_object_mut() {
                arguments.insert("repository".to_owned(), json!(name));
            }
            calls.call::<O>(arguments).await.map(|result| result.to_json())
        })
    }

    /// Opens the repository and calls a method of its handle.
    pub fn method<O: Operation>(&self, arguments: Value) -> Result<Value, Fault> {
        self.pass(async |calls: &Calls<'_>, name: &str| {
            let opened = calls.call::<ops::repository::Open>(json!({ "name": name })).await?;
            calls.method::<O>(("repository", opened), arguments).await.map(|result| result.to_json())
        })
    }

    fn print<O: Operation>(&self, arguments: Value) -> Result<(), Fault> {
        self.context.print(self.matches, &self.method::<O>(arguments)?)
    }
}
