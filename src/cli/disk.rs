//! `ceso disk`: disk images of this machine, into a repository and back. Every command passes the door.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::context::Context;
use super::globals::Globals;
use super::output::Format;
use super::repository::{self, About, filters, place};
use crate::error::Fault;
use crate::ops;

fn path(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).value_parser(value_parser!(PathBuf)).help(help)
}

fn backup() -> Arg {
    Arg::new("ID")
        .required(true)
        .help("The backup: its id, the first 8 or more digits, or `latest`: the newest that is complete")
}

/// The flags that say of what the latest backup is wanted.
fn among() -> [Arg; 2] {
    [
        Arg::new("vm").long("vm").value_name("NAME").help("With latest: only of this machine [default: of all]"),
        Arg::new("tag").long("tag").value_name("TAG").help("With latest: only with this tag"),
    ]
}

fn with_repository(command: Command) -> Command {
    place::with_secret(command.arg(repository::argument().long("repository"))).arg(Format::argument())
}

pub fn command() -> Command {
    let group = Arg::new("group").long("group").value_name("NAME");
    let level = Arg::new("level").long("level").value_parser(value_parser!(u32).range(1..=19));
    let tags = Arg::new("tag").long("tag").action(ArgAction::Append);
    let compression = Arg::new("compression").long("compression").value_parser(["none", "zstd", "gzip"]);
    let format = Arg::new("format").long("format").value_name("FORMAT");
    let form = format.clone();
    Command::new("disk")
        .about("Back up files and block devices of this machine, and restore them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_repository(Command::new("backup"))
                .about("Back up a disk; prints the backup's id")
                .arg(path("FILE", "The disk: a file or a block device"))
                .arg(group.help("What retention counts by [default: the file's name]"))
                .arg(tags.help("A word to keep backups by; may be repeated"))
                .arg(compression.default_value("zstd").help("How chunks are compressed, where that makes them smaller"))
                .arg(level.help("1 is fast, 19 (zstd) or 9 (gzip) small [default: 3 for zstd, 6 for gzip]"))
                .arg(format.value_parser(["auto", "raw", "vmdk"]).default_value("auto").help(
                    "What the file is: auto looks at its first bytes, which the guest of a raw disk may have written",
                )),
        )
        .subcommand(
            with_repository(Command::new("restore"))
                .about("Restore a disk to a new file: raw and sparse, or as VMDK")
                .arg(backup())
                .args(among())
                .arg(path("FILE", "The file, which must not exist"))
                .arg(Arg::new("disk").long("disk").value_name("NAME").help("Which disk, where the backup has several"))
                .arg(
                    form.value_parser(["raw", "vmdk", "vmdk-flat", "vmdk-monolithic-flat"])
                        .help(
                            "vmdk is streamOptimized; the flat ones are a descriptor and a sparse NAME-flat.vmdk \
                             [default: vmdk where FILE ends in .vmdk, else raw]",
                        ),
                )
                .arg(
                    Arg::new("adapter-type")
                        .long("adapter-type")
                        .value_name("TYPE")
                        .value_parser(["lsilogic", "buslogic", "ide", "legacyESX"])
                        .help("The adapter that a VMDK names [default: lsilogic]"),
                )
                .arg(
                    Arg::new("level")
                        .long("level")
                        .value_parser(value_parser!(u32).range(1..=9))
                        .help("How hard a streamOptimized VMDK is compressed: 1 is fast, 9 small [default: 1]"),
                ),
        )
        .subcommand(
            with_repository(Command::new("verify"))
                .about("Read a backup back and keep nothing; exit code 1 where it cannot be restored. The catalog notes the drill")
                .arg(backup())
                .args(among()),
        )
        .subcommand(filters(
            with_repository(Command::new("list")).about("List the backups of a repository, the newest first"),
        ))
}

pub fn run(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<(), Fault> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Fault::new("usage.command", "`ceso disk` needs a command").hint("backup, restore, verify or list"));
    };
    let file = || context.sources().current_dir.join(matches.get_one::<PathBuf>("FILE").map_or(Path::new(""), |f| f));
    let text = |name: &str| matches.get_one::<String>(name);
    let about = About { command: format!("disk {name}"), matches, globals, context };
    let result = match name {
        "backup" => {
            let tags: Vec<&String> = matches.get_many::<String>("tag").unwrap_or_default().collect();
            about.command::<ops::image::BackUp>(json!({
                "file": file(), "group": text("group"), "tags": tags, "compression": text("compression"),
                "level": matches.get_one::<u32>("level"), "format": text("format"),
            }))?
        }
        "restore" => about.command::<ops::image::Restore>(json!({
            "backup": text("ID"), "vm": text("vm"), "tag": text("tag"), "file": file(), "disk": text("disk"), "format": text("format"),
            "adapter_type": text("adapter-type"), "level": matches.get_one::<u32>("level"),
        }))?,
        "verify" => {
            let drill = about.method::<ops::repository_verify::Verify>(json!({ "backup": text("ID"), "vm": text("vm"), "tag": text("tag") }))?;
            context.print(matches, &drill)?;
            if drill.get("passed") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            let first = drill.get("problems").and_then(|problems| problems.get(0)).and_then(Value::as_str);
            return Err(Fault::new(
                "backup.damaged",
                format!("this backup cannot be restored: {}", first.unwrap_or_default()),
            )
            .hint("ceso repository check tells of the others, ceso repository repair saves what can be saved"));
        }
        "list" => return about.list(),
        other => return Err(Fault::new("usage.command", format!("`ceso disk` has no command {other:?}"))),
    };
    context.print(matches, &result)
}
