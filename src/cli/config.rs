//! `ceso config`: what holds and why, and an example to begin with.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::context::Context;
use super::output::Format;
use crate::config::{Config, PROJECT_FILE, files};
use crate::error::Fault;

pub fn command() -> Command {
    Command::new("config")
        .about("Show the configuration and where each value comes from; write an example")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("show")
                .about("Print every setting, its value and where it comes from; secrets are hidden")
                .arg(Format::argument())
                .arg(
                    Arg::new("PATH")
                        .num_args(0..)
                        .help("Only these settings or sections, such as security or sandbox.memory"),
                ),
        )
        .subcommand(
            Command::new("init")
                .about("Write a commented example to ~/.ceso/config.yaml")
                .arg(
                    Arg::new("project")
                        .long("project")
                        .action(ArgAction::SetTrue)
                        .help("Write it as ceso.yaml to the current folder instead"),
                )
                .arg(
                    Arg::new("force")
                        .long("force")
                        .action(ArgAction::SetTrue)
                        .help("Replace the file where there is one; the old one is kept beside it with .bak"),
                ),
        )
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    match matches.subcommand() {
        Some(("show", matches)) => show(matches, context),
        Some(("init", matches)) => init(matches, context),
        _ => Err(Fault::new("usage.command", "`ceso config` needs a command").hint("show or init")),
    }
}

fn show(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let shown = context.config()?.show();
    let wanted: Vec<&String> = matches.get_many("PATH").into_iter().flatten().collect();
    let below = |path: &str, wanted: &str| {
        path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if let Some(unknown) = wanted.iter().find(|wanted| !shown.iter().any(|line| below(&line.path, wanted))) {
        let near = crate::error::nearest(unknown, shown.iter().map(|line| line.path.as_str()));
        let fault = Fault::new("usage.unknown_setting", format!("no setting is named {unknown:?}"));
        return Err(fault.hint(match near.first() {
            Some(best) => format!("did you mean {best:?}?"),
            None => "`ceso config show` prints all of them".to_owned(),
        }));
    }
    let rows: Vec<Value> = shown
        .iter()
        .filter(|line| wanted.is_empty() || wanted.iter().any(|wanted| below(&line.path, wanted)))
        .map(|line| json!({ "setting": line.path, "value": line.value, "from": line.origin }))
        .collect();
    context.print(matches, &Value::Array(rows))
}

fn init(matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    let sources = context.sources();
    let path =
        if matches.get_flag("project") { sources.current_dir.join(PROJECT_FILE) } else { sources.home.config_file() };
    if path.symlink_metadata().is_ok() {
        if !matches.get_flag("force") {
            return Err(Fault::new("config.exists", format!("{} exists already; nothing was written", path.display()))
                .hint("edit it, or write a new one with --force (the old one is kept as .bak)"));
        }
        keep(&path)?;
    }
    files::write_private(&path, Config::example().as_bytes())?;
    context.say(&format!("wrote {}; every line is a comment until you uncomment it", path.display()))
}

/// Moves a file aside under a name that no file has yet.
fn keep(path: &Path) -> Result<(), Fault> {
    let mut free = (0u32..).map(|n| {
        let mut name = path.as_os_str().to_owned();
        name.push(if n == 0 { ".bak".to_owned() } else { format!(".bak{n}") });
        PathBuf::from(name)
    });
    let Some(aside) = free.find(|name| name.symlink_metadata().is_err()) else { return Ok(()) };
    std::fs::rename(path, &aside).map_err(|error| {
        Fault::new(
            "config.unwritable",
            format!("{} could not be moved to {}: {error}", path.display(), aside.display()),
        )
        .hint("correct the folder's permissions")
        .cause(error)
    })
}
