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
use crate::wire;

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
            place::with_other_secret(
                about("init", "Make a repository; without a passphrase or key file only with --plain"),
                "like",
                "the repository of --like",
            )
            .arg(value(
                "like",
                "REPOSITORY",
                "Make it a second place of this one: copies then read only what is missing",
            ))
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
            keeping(about(
                "prune",
                "Forget what no rule keeps, mark what no backup needs, and delete what was marked before the grace period",
            ))
            .arg(flag("keep-all", "Forget nothing, whatever the configuration says").conflicts_with_all(KEEPING))
            .arg(flag("at-once", "Delete now, without a grace period; backups that run meanwhile may fail")),
        )
        .subcommand(about("stats", "What is stored, and what was saved"))
        .subcommand(
            about("unlock", "Remove the leases of processes that are gone; nothing can be lost by it")
                .arg(flag("all", "Also those that seem to live")),
        )
        .subcommand(
            keeping(about(
                "forget",
                "Forget the backups that no rule keeps, or those that are named; their bytes go with the next prunes",
            ))
            .arg(
                value("id", "ID", "Forget this backup, by its id or its first 8 or more digits; may be given several times")
                    .action(ArgAction::Append)
                    .conflicts_with_all(KEEPING),
            ),
        )
        .subcommand(key_command())
        .subcommand(
            filters(place::with_other_secret(
                about("copy", "Copy backups to a second repository: what it lacks of them"),
                "to",
                "the second repository",
            ))
            .mut_arg("limit", |limit| limit.hide(true))
            .arg(
                Arg::new("to")
                    .value_name("SECOND")
                    .required(true)
                    .help("Where the copies go: a name, a folder or s3://BUCKET/PREFIX"),
            )
            .arg(value("id", "ID", "Only this backup; may be given several times").action(ArgAction::Append))
            .arg(flag("dry-run", "Print the plan and do nothing")),
        )
}

/// The flags that say what is kept.
const KEEPING: [&str; 8] =
    ["keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly", "keep-within", "keep-tag"];

fn keeping(command: Command) -> Command {
    let count = |name, help| value(name, "NUMBER", help).value_parser(clap::value_parser!(u32).range(1..));
    command
        .after_help(
            "Rules count for each machine by itself; a failed backup never counts, and neither does a period without one. \
             Where no rule is given, those of the configuration hold: repositories.NAME.retention, or retention.",
        )
        .arg(count("keep-last", "Keep the newest so many"))
        .arg(count("keep-hourly", "Keep the newest of each of so many hours that have a backup"))
        .arg(count("keep-daily", "Keep the newest of each of so many days"))
        .arg(count("keep-weekly", "Keep the newest of each of so many weeks, which begin on Monday"))
        .arg(count("keep-monthly", "Keep the newest of each of so many months"))
        .arg(count("keep-yearly", "Keep the newest of each of so many years"))
        .arg(value("keep-within", "TIME", "Keep all that are at most so much older than the newest: \"30 days\""))
        .arg(value("keep-tag", "TAG", "Keep all with this tag; may be given several times").action(ArgAction::Append))
        .arg(flag("dry-run", "Print the plan and do nothing"))
        .arg(flag("yes", "Forget also more than half of all backups, and the last good one of a machine"))
}

/// The rules that are given by flags, none where there are none.
fn given_rules(matches: &ArgMatches) -> Option<Value> {
    let given = |name: &&str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
    if !KEEPING.iter().any(given) {
        return None;
    }
    let count = |name: &str| matches.get_one::<u32>(name);
    let tags: Vec<&String> = matches.get_many("keep-tag").unwrap_or_default().collect();
    let mut rules = json!({
        "keep_last": count("keep-last"), "keep_hourly": count("keep-hourly"), "keep_daily": count("keep-daily"),
        "keep_weekly": count("keep-weekly"), "keep_monthly": count("keep-monthly"), "keep_yearly": count("keep-yearly"),
        "keep_within": matches.get_one::<String>("keep-within"), "keep_tags": tags,
    });
    if let Some(rules) = rules.as_object_mut() {
        rules.retain(|_, value| !value.is_null());
    }
    Some(rules)
}

/// Calls an operation that follows rules about what is kept: those that are given, else those of the configuration, which the opened
/// repository tells.
fn run_keeping<O: Operation>(about: &About<'_>, mut arguments: Value) -> Result<(), Fault> {
    let matches = about.matches;
    let keep_all = matches.try_get_one("keep-all").ok().flatten().is_some_and(|set: &bool| *set);
    let result = about.pass(async |calls: &Calls<'_>, name: &str| {
        let opened = calls.call::<ops::repository::Open>(json!({ "name": name })).await?;
        let given = given_rules(matches);
        let follows_configuration = given.is_none() && !keep_all;
        let rules = if follows_configuration { configured_rules(&opened) } else { given };
        if rules.is_none() && O::NAME == ops::repository_change::Forget::NAME {
            return Err(Fault::new("usage.argument", "no rule says which backups are kept").hint(
                "give --keep-last 7, --keep-daily 14 or another, or write repositories.NAME.retention in the configuration",
            ));
        }
        if let (Some(arguments), Some(rules)) = (arguments.as_object_mut(), &rules) {
            arguments.insert("retention".to_owned(), rules.clone());
        }
        let result = calls.method::<O>(("repository", opened), arguments).await.map(|result| result.to_json());
        result.map_err(|fault| match fault.hint_text() {
            Some(hint) if follows_configuration && rules.is_some() && fault.is("door.denied") => {
                let hint = format!("{hint}; the configuration has rules of what is kept: --keep-all forgets nothing");
                fault.hint(hint)
            }
            _ => fault,
        })
    })?;
    about.context.print(matches, &result)
}

/// The rules of the configuration, which the handle of an opened repository tells.
fn configured_rules(opened: &wire::Value) -> Option<Value> {
    let wire::Value::Handle(handle) = opened else { return None };
    let (_, rules) = handle.fields.iter().find(|(name, rules)| name == "retention" && !rules.is_nil())?;
    Some(rules.to_json())
}

fn key_command() -> Command {
    let new = |command| {
        place::with_other_secret(command, "new", "the new key").arg(value(
            "label",
            "TEXT",
            "What the new key is called",
        ))
    };
    Command::new("key")
        .about("The keys that open a repository")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(about("list", "List the keys: what they are called, when they were made, which opened it now"))
        .subcommand(new(about("add", "Add a passphrase or key file that opens the repository as well")))
        .subcommand(
            about("remove", "Remove a key; the last one stays")
                .arg(
                    Arg::new("key").value_name("ID").required(true).help("The key's id, or its first 8 or more digits"),
                )
                .arg(flag("yes", "Also the key that is given now, and one that alone holds a master key")),
        )
        .subcommand(
            new(about("rotate", "Make a new master key for a new passphrase or key file, and remove all others")).arg(
                flag("yes", "Also where there are keys beside the one that is given now: they are named without it"),
            ),
        )
}

/// The arguments of an operation that makes a key.
fn new_key(matches: &ArgMatches) -> Value {
    let path = |name: &str| matches.get_one::<std::path::PathBuf>(name).map(|path| path.display().to_string());
    json!({
        "new_passphrase_file": path("new-passphrase-file"), "new_key_file": path("new-key-file"),
        "label": matches.get_one::<String>("label"),
    })
}

fn run_key(about: &About<'_>, matches: &ArgMatches) -> Result<(), Fault> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(
            Fault::new("usage.command", "`ceso repository key` needs a command").hint("list, add, remove or rotate")
        );
    };
    let about = About { command: format!("repository key {name}"), matches, ..*about };
    let text = |name: &str| matches.get_one::<String>(name);
    let done = match name {
        "add" => about.command::<ops::repository_keys::AddKey>(new_key(matches)),
        "rotate" => {
            let mut arguments = new_key(matches);
            if let Some(arguments) = arguments.as_object_mut() {
                arguments.insert("yes".to_owned(), json!(matches.get_flag("yes")));
            }
            about.command::<ops::repository_keys::RotateKey>(arguments)
        }
        "remove" => about
            .command::<ops::repository_keys::RemoveKey>(json!({ "key": text("key"), "yes": matches.get_flag("yes") })),
        _ => about.method::<ops::repository_keys::Keys>(json!({})),
    };
    about.context.print(matches, &done?)
}

fn run_copy(about: &About<'_>) -> Result<(), Fault> {
    let (matches, context) = (about.matches, about.context);
    let ids: Vec<&String> = matches.get_many("id").unwrap_or_default().collect();
    let mut arguments = filtered(matches);
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.remove("limit");
        arguments.insert("ids".to_owned(), json!(ids));
        arguments.insert("dry_run".to_owned(), json!(matches.get_flag("dry-run")));
    }
    let report = about.with_other("to", "to", async |calls: &Calls<'_>, name: &str, to: &str| {
        let from = calls.call::<ops::repository::Open>(json!({ "name": name })).await?;
        let to = calls.call::<ops::repository::Open>(json!({ "name": to })).await?;
        let handles = vec![("repository", from), ("to", to)];
        calls.with::<ops::repository_copy::Copy>(handles, arguments).await.map(|report| report.to_json())
    })?;
    context.print(matches, &report)?;
    let failed = report.get("failed").and_then(Value::as_array).map_or(0, Vec::len);
    if failed == 0 {
        return Ok(());
    }
    Err(Fault::new("backup.damaged", format!("{failed} backups could not be copied"))
        .hint("check the first repository with --read-data"))
}

/// The flags by which backups are chosen.
pub fn filters(command: Command) -> Command {
    command
        .arg(value("vm", "NAME", "Only backups of this machine"))
        .arg(value("since", "TIME", "Only those begun at or after it: 2026-05-01, or how long ago, such as \"7 days\""))
        .arg(value("before", "TIME", "Only those begun before it"))
        .arg(value("state", "STATE", "Only those in this state").value_parser(["complete", "failed"]))
        .arg(value("tag", "TAG", "Only those with this tag"))
        .arg(value("limit", "NUMBER", "The most that are listed").value_parser(clap::value_parser!(u32)))
}

/// The arguments that [`filters`] were given.
pub fn filtered(matches: &ArgMatches) -> Value {
    let text = |name: &str| matches.get_one::<String>(name);
    json!({
        "vm": text("vm"), "since": text("since"), "before": text("before"), "state": text("state"), "tag": text("tag"),
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
            let arguments = json!({ "plain": set("plain"), "chunk_size": chunk_size, "grace": grace });
            let made = if matches.contains_id("like") {
                about.with_other("like", "like", async |calls: &Calls<'_>, name: &str, like: &str| {
                    let mut arguments = arguments;
                    if let Some(arguments) = arguments.as_object_mut() {
                        arguments.insert("repository".to_owned(), json!(name));
                        arguments.insert("like".to_owned(), json!(like));
                    }
                    calls.call::<ops::image::Init>(arguments).await.map(|made| made.to_json())
                })?
            } else {
                about.command::<ops::image::Init>(arguments)?
            };
            context.print(matches, &made)
        }
        "list" => about.list(),
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
            let hint = if set("read-data") || subset.is_some() {
                "ceso repository repair --read-data saves what can be saved; a new backup of the same disk brings lost chunks back"
            } else {
                "ceso repository repair saves what can be saved, and with --read-data looks at every byte"
            };
            Err(Fault::new("backup.damaged", message).hint(hint))
        }
        "repair" => {
            let report = about.method::<ops::repository_change::Repair>(json!({ "read_data": set("read-data") }))?;
            context.print(matches, &report)?;
            let count = |field: &str| report.get(field).and_then(Value::as_array).map_or(0, Vec::len);
            if count("hurt") == 0 && count("left") == 0 {
                return Ok(());
            }
            let message = format!("{} backups are hurt, {} files are left damaged", count("hurt"), count("left"));
            Err(Fault::new("backup.damaged", message).hint(
                "back the same disks up again: that brings lost chunks back as far as the disks still have them; \
                 ceso repository forget --id gives a backup up",
            ))
        }
        "prune" => run_keeping::<ops::repository_change::Prune>(
            &about,
            json!({ "dry_run": set("dry-run"), "at_once": set("at-once"), "yes": set("yes") }),
        ),
        "stats" => about.print::<ops::repository::GetStats>(json!({})),
        "unlock" => about.print::<ops::repository_change::Unlock>(json!({ "all": set("all") })),
        "forget" => {
            let ids: Vec<&String> = matches.get_many("id").unwrap_or_default().collect();
            let arguments = json!({ "dry_run": set("dry-run"), "yes": set("yes"), "ids": ids });
            match ids.is_empty() {
                true => run_keeping::<ops::repository_change::Forget>(&about, arguments),
                false => about.print::<ops::repository_change::Forget>(arguments),
            }
        }
        "key" => run_key(&about, matches),
        "copy" => run_copy(&about),
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

    /// Passes the door with the names of two repositories at hand: the second is that of the argument `other`.
    pub fn with_other<T>(
        &self,
        other: &str,
        prefix: &str,
        calls: impl AsyncFnOnce(&Calls<'_>, &str, &str) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let config = self.context.config()?;
        let typed = place::typed(self.matches, "repository", &config)?;
        let second = place::other(self.matches, other, prefix, &config)?;
        let (name, second_name) = (typed.name.clone(), second.name.clone());
        let hosts = Configured::new(Arc::clone(&config)).typed(typed).typed(second);
        Passing::open(self.context, &config, self.globals, self.command.clone(), hosts)?
            .run(async |passed: &Calls<'_>| calls(passed, &name, &second_name).await)
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

    /// Prints the backups of the repository. A table has what tells them apart; their own names and disks are in the other forms.
    pub fn list(&self) -> Result<(), Fault> {
        let mut rows = self.method::<ops::repository::Backups>(filtered(self.matches))?;
        if self.context.style(self.matches)?.format == Format::Table {
            for row in rows.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                row.retain(|field, _| !matches!(field.as_str(), "name" | "disks"));
            }
        }
        self.context.print(self.matches, &rows)
    }

    fn print<O: Operation>(&self, arguments: Value) -> Result<(), Fault> {
        self.context.print(self.matches, &self.method::<O>(arguments)?)
    }
}
