//! `ceso disk` and `ceso repository`: the repository engine by itself, on files of this machine. No host is involved.
//!
//! No script reaches these: they are the person's own, and what changes a repository or writes a file is noted in the audit log
//! first. Once repositories are bound to scripts, these commands pass the door like everything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use secrecy::SecretSlice;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroize;

use super::context::Context;
use super::noting::note;
use super::output::Format;
use crate::backup::target::FolderTarget;
use crate::backup::{BackupOptions, Codec, Depth, FileSource, InitOptions, PruneOptions, Repository};
use crate::error::Fault;
use crate::units::{Bytes, Span};

/// The largest passphrase or key file.
const LARGEST_SECRET: u64 = 1 << 20;

fn path(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).value_parser(value_parser!(PathBuf)).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn secrets(command: Command) -> Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    command
        .arg(
            file("passphrase-file", "A file whose first line is the repository's passphrase")
                .conflicts_with("key-file"),
        )
        .arg(file("key-file", "A file whose bytes, all of them, open the repository"))
        .arg(Format::argument())
}

fn with_repository(command: Command) -> Command {
    let repository = Arg::new("repository").long("repository").value_name("DIR").required(true);
    secrets(command.arg(repository.value_parser(value_parser!(PathBuf)).help("The folder of the repository")))
}

pub fn command() -> Command {
    Command::new("disk")
        .about("Back up files and block devices of this machine, and restore them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_repository(Command::new("backup"))
                .about("Back up a disk; prints the backup's id")
                .arg(path("FILE", "The disk: a file or a block device"))
                .arg(
                    Arg::new("group")
                        .long("group")
                        .value_name("NAME")
                        .help("What retention counts by [default: the file's name]"),
                )
                .arg(
                    Arg::new("tag")
                        .long("tag")
                        .action(ArgAction::Append)
                        .help("A word to keep backups by; may be repeated"),
                )
                .arg(
                    Arg::new("compression")
                        .long("compression")
                        .value_parser(["none", "zstd", "gzip"])
                        .default_value("zstd")
                        .help("How chunks are compressed, where that makes them smaller"),
                )
                .arg(
                    Arg::new("level")
                        .long("level")
                        .value_parser(value_parser!(u32).range(1..=19))
                        .help("1 is fast, 19 (zstd) or 9 (gzip) small [default: 3 for zstd, 6 for gzip]"),
                ),
        )
        .subcommand(
            with_repository(Command::new("restore"))
                .about("Restore a disk to a new sparse file")
                .arg(Arg::new("ID").required(true).help("The backup: its id, or the first 8 or more digits"))
                .arg(path("FILE", "The file, which must not exist"))
                .arg(Arg::new("disk").long("disk").value_name("NAME").help("Which disk, where the backup has several")),
        )
        .subcommand(with_repository(Command::new("list")).about("List the backups of a repository"))
}

pub fn repository_command() -> Command {
    let place = || path("DIR", "The folder of the repository");
    let size =
        Arg::new("chunk-size").long("chunk-size").value_name("SIZE").value_parser(|text: &str| text.parse::<Bytes>());
    let grace = Arg::new("grace").long("grace").value_name("TIME").value_parser(|text: &str| text.parse::<Span>());
    Command::new("repository")
        .about("Make, check, prune and repair repositories of backups")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            secrets(Command::new("init"))
                .about("Make a repository; without a passphrase or key file only with --plain")
                .arg(place())
                .arg(flag("plain", "Do not encrypt").conflicts_with_all(["passphrase-file", "key-file"]))
                .arg(size.help("The length of a chunk, 64 KiB to 4 MiB [default: 256 KiB]"))
                .arg(grace.help("How long a prune waits between marking and deleting [default: 24 h]")),
        )
        .subcommand(
            secrets(Command::new("check"))
                .about("Check that every backup can be restored; exit code 1 where one cannot")
                .arg(place())
                .arg(flag("read-data", "Read and verify every byte"))
                .arg(
                    Arg::new("read-data-subset")
                        .long("read-data-subset")
                        .value_name("N/T")
                        .value_parser(part)
                        .conflicts_with("read-data")
                        .help("Read and verify one part of so many: 1/7 on the first day of a week"),
                ),
        )
        .subcommand(
            secrets(Command::new("repair"))
                .about("Make the index anew, save what damaged packs still hold, and name the backups that are hurt")
                .arg(place())
                .arg(flag("read-data", "Read every byte to find what is damaged")),
        )
        .subcommand(
            secrets(Command::new("prune"))
                .about("Mark what no backup needs, and delete what was marked before the grace period")
                .arg(place())
                .arg(flag("dry-run", "Print the plan and do nothing")),
        )
        .subcommand(secrets(Command::new("stats")).about("What is stored, and what was saved").arg(place()))
        .subcommand(
            secrets(Command::new("unlock"))
                .about("Remove the leases of processes that are gone; nothing can be lost by it")
                .arg(place())
                .arg(flag("all", "Also those that seem to live")),
        )
}

fn part(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    parts
        .filter(|(part, of)| (1..=*of).contains(part))
        .ok_or_else(|| "write a part and a number of parts: 1/7".to_owned())
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    match matches.subcommand() {
        Some(("backup", matches)) => backup(matches, context),
        Some(("restore", matches)) => restore(matches, context),
        Some(("list", matches)) => list(matches, context),
        _ => Err(Fault::new("usage.command", "`ceso disk` needs a command").hint("backup, restore or list")),
    }
}

pub fn run_repository(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Fault::new("usage.command", "`ceso repository` needs a command").hint("see ceso repository --help"));
    };
    if name == "init" {
        return init(matches, context);
    }
    if matches!(name, "repair" | "unlock") || (name == "prune" && !matches.get_flag("dry-run")) {
        changes(context, &format!("repository {name}"), given(matches, "DIR"), json!({}))?;
    }
    let repository = open(matches, "DIR")?;
    let read_data = || matches.get_flag("read-data");
    match name {
        "check" => {
            let depth = match matches.get_one::<(u32, u32)>("read-data-subset") {
                Some((part, of)) => Depth::Subset { part: *part, of: *of },
                None if read_data() => Depth::ReadData,
                None => Depth::Structure,
            };
            let report = repository.check(depth)?;
            print(matches, context, &report)?;
            if report.is_clean() && report.hurt.is_empty() {
                return Ok(());
            }
            let message = format!("{} problems, {} backups hurt", report.problems.len(), report.hurt.len());
            Err(Fault::new("backup.damaged", message).hint("ceso repository repair saves what can be saved"))
        }
        "repair" => print(matches, context, &repository.repair(read_data())?),
        "prune" => {
            let plan = repository.prune_plan(&PruneOptions::default())?;
            if matches.get_flag("dry-run") {
                return print(matches, context, &plan);
            }
            print(matches, context, &repository.prune(&plan)?)
        }
        "stats" => print(matches, context, &repository.stats()?),
        "unlock" => print(matches, context, &repository.unlock(matches.get_flag("all"))?),
        other => Err(Fault::new("usage.command", format!("`ceso repository` has no command {other:?}"))),
    }
}

/// Notes what is about to be done to a repository, or to a file of this machine. Without the note it is not done.
fn changes(context: &Context, command: &str, place: &Path, details: Value) -> Result<(), Fault> {
    let config = context.config()?;
    note(context, &config, command, &place.display().to_string(), details)
}

fn print(matches: &ArgMatches, context: &Context, value: &impl Serialize) -> Result<(), Fault> {
    let value = serde_json::to_value(value).map_err(|error| Fault::new("ceso.output", error.to_string()))?;
    context.print(matches, &value)
}

fn given<'a>(matches: &'a ArgMatches, name: &str) -> &'a Path {
    matches.get_one::<PathBuf>(name).map(PathBuf::as_path).unwrap_or_else(|| Path::new(""))
}

/// The secret of the flags, if one was given.
fn secret(matches: &ArgMatches) -> Result<Option<SecretSlice<u8>>, Fault> {
    use std::io::Read;
    let read = |file: &Path| -> Result<Vec<u8>, Fault> {
        let failed = |error: std::io::Error| Fault::new("backup.key", format!("{}: {error}", file.display()));
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(LARGEST_SECRET + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.is_empty() || bytes.len() as u64 > LARGEST_SECRET {
            bytes.zeroize();
            return Err(Fault::new("backup.key", format!("{}: is empty, or longer than 1 MiB", file.display())));
        }
        Ok(bytes)
    };
    if let Some(file) = matches.get_one::<PathBuf>("key-file") {
        return Ok(Some(read(file)?.into()));
    }
    let Some(file) = matches.get_one::<PathBuf>("passphrase-file") else { return Ok(None) };
    let mut bytes = read(file)?;
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let line = if line > 0 && bytes.get(line - 1) == Some(&b'\r') { line - 1 } else { line };
    let passphrase = bytes.get(..line).unwrap_or_default().to_vec();
    bytes.zeroize();
    if passphrase.is_empty() {
        return Err(Fault::new("backup.key", format!("{}: its first line is empty", file.display())));
    }
    if let Ok(text) = std::str::from_utf8(&passphrase) {
        crate::redact::know(&text.to_owned().into(), "passphrase of a repository");
    }
    Ok(Some(passphrase.into()))
}

fn open(matches: &ArgMatches, place: &str) -> Result<Repository, Fault> {
    let target = Arc::new(FolderTarget::new(given(matches, place)));
    Ok(Repository::open(target, secret(matches)?.as_ref(), None)?)
}

fn init(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let secret = secret(matches)?;
    if secret.is_none() && !matches.get_flag("plain") {
        let hint = "give --passphrase-file or --key-file, or --plain for one that anyone can read";
        return Err(Fault::new("usage.argument", "a repository is encrypted").hint(hint));
    }
    let usual = InitOptions::default();
    let chunk_size = matches
        .get_one::<Bytes>("chunk-size")
        .map_or(usual.chunk_size, |size| u32::try_from(size.0).unwrap_or(u32::MAX));
    let grace: Duration = matches.get_one::<Span>("grace").map_or(usual.grace, |span| span.0);
    changes(context, "repository init", given(matches, "DIR"), json!({ "encrypted": secret.is_some() }))?;
    let options = InitOptions { secret, chunk_size, grace, ..usual };
    let repository = Repository::init(Arc::new(FolderTarget::new(given(matches, "DIR"))), &options, None)?;
    print(matches, context, repository.config())
}

fn backup(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let file = given(matches, "FILE");
    let level = matches.get_one::<u32>("level").copied();
    let codec = match matches.get_one::<String>("compression").map(String::as_str) {
        Some("none") => Codec::Stored,
        Some("gzip") => Codec::Gzip(level.unwrap_or(6).min(9)),
        _ => Codec::Zstd(level.unwrap_or(3).cast_signed()),
    };
    changes(context, "disk backup", given(matches, "repository"), json!({ "file": file.display().to_string() }))?;
    let repository = open(matches, "repository")?;
    let source = FileSource::open(file)?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let options = BackupOptions {
        group: matches.get_one::<String>("group").cloned().unwrap_or_else(|| name.clone()),
        name: name.clone(),
        tags: matches.get_many::<String>("tag").unwrap_or_default().cloned().collect(),
        codec,
        ..BackupOptions::default()
    };
    let mut session = repository.begin(options)?;
    session.disk(&name, &source, None)?;
    print(matches, context, &session.finish()?)
}

fn restore(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let repository = given(matches, "repository").display().to_string();
    changes(context, "disk restore", given(matches, "FILE"), json!({ "repository": repository }))?;
    let repository = open(matches, "repository")?;
    let id = matches.get_one::<String>("ID").map(String::as_str).unwrap_or_default();
    let (id, manifest) = repository.backup(id)?;
    let disk = manifest.disk(matches.get_one::<String>("disk").map(String::as_str))?;
    let reader = repository.read_disk(disk)?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    reader.restore(given(matches, "FILE"), threads)?;
    print(matches, context, &json!({ "id": id, "disk": disk.name, "size": disk.size }))
}

fn list(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let backups = open(matches, "repository")?.backups()?;
    let rows = backups.into_iter().map(|(id, manifest)| {
        let size: u64 = manifest.disks.iter().map(|disk| disk.size).sum();
        json!({ "id": id, "time": manifest.time.to_string(), "group": manifest.group, "size": size, "tags": manifest.tags, "state": manifest.state })
    });
    context.print(matches, &Value::Array(rows.collect()))
}
