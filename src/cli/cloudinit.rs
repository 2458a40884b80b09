//! `ceso cloudinit`: what a file of cloud-init data becomes, and what is probably not meant in it; no host is asked.
//!
//! The file holds the table that `cloudinit.build` takes, as YAML or JSON, or is a script that returns it. `{ secret: NAME }` stands for
//! a secret of the configuration; what is printed has its name in its place.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::context::Context;
use super::globals::Globals;
use super::hosts::Configured;
use super::output::Format;
use super::run;
use crate::config::files::{self, Guard};
use crate::config::{self, Config};
use crate::error::Fault;
use crate::ops::rendered::{self, Parts};
use crate::redact;
use crate::run::{self as runs, Decision};
use crate::wire;

pub fn command() -> Command {
    let file = || {
        Arg::new("FILE")
            .required(true)
            .help("The table of cloudinit.build: YAML, JSON, or a .luau script that returns it")
    };
    Command::new("cloudinit")
        .about("See what cloud-init data a file gives, without a host")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("render")
                .about("Print the documents that the guest gets, secrets hidden")
                .arg(file())
                .arg(
                    Arg::new("mac")
                        .long("mac")
                        .value_name("ADDRESS")
                        .action(ArgAction::Append)
                        .help("The MAC address of a card, in the machine's order; may be repeated [default: 00:50:56:00:00:01, …]"),
                )
                .arg(
                    Arg::new("iso")
                        .long("iso")
                        .value_name("PATH")
                        .value_parser(clap::value_parser!(PathBuf))
                        .help("Write the NoCloud seed image there, secrets and all, for you alone (mode 0600)"),
                ),
        )
        .subcommand(
            Command::new("check")
                .about("Say whether the data can be taken, and what is probably not meant")
                .arg(file())
                .arg(Format::argument()),
        )
}

pub fn run(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    match matches.subcommand() {
        Some(("render", matches)) => render(matches, globals, context),
        Some(("check", matches)) => check(matches, globals, context),
        _ => Err(Fault::new("usage.command", "a command is needed").hint("ceso cloudinit --help lists them")),
    }
}

fn render(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let config = context.config()?;
    let macs: Vec<String> = matches.get_many::<String>("mac").unwrap_or_default().cloned().collect();
    let table = table(matches, globals, context, &config)?;
    let built = rendered::render(table, &macs, matches.contains_id("iso"), |name| config.secret(name))?;
    let mut text = String::new();
    for (name, part) in
        [("meta-data", &built.meta_data), ("user-data", &built.user_data), ("vendor-data", &built.vendor_data)]
    {
        if let Some(part) = part {
            text.push_str(&format!("--- {name}\n{}\n", redact::text(part).trim_end()));
        }
    }
    super::output::write(&redact::printable(&text), &mut std::io::stdout().lock())?;
    if let (Some(path), Parts { iso: Some(iso), .. }) = (matches.get_one::<PathBuf>("iso"), &built) {
        files::write_private(path, iso)?;
        context.say(&format!("wrote {} ({} bytes)", path.display(), iso.len()))?;
    }
    warn(&built.warnings, context)?;
    Ok(ExitCode::SUCCESS)
}

fn check(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let config = context.config()?;
    let table = table(matches, globals, context, &config)?;
    let built = rendered::render(table, &[], false, |name| config.secret(name))?;
    let warnings: Vec<Value> =
        built.warnings.iter().map(|warning| json!({ "at": warning.at, "message": warning.message })).collect();
    context.print(matches, &Value::Array(warnings))?;
    if built.warnings.is_empty() {
        context.say("it can be taken, and nothing in it looks unmeant")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn warn(warnings: &[rendered::Warning], context: &Context) -> Result<(), Fault> {
    warnings.iter().try_for_each(|warning| context.say(&format!("warning: {}: {}", warning.at, warning.message)))
}

/// The largest file: user-data of 1 MiB fits no machine.
const LARGEST: usize = 4 << 20;

/// The table of the file, or what its script returns.
fn table(
    matches: &ArgMatches,
    globals: &Globals,
    context: &Context,
    config: &Arc<Config>,
) -> Result<wire::Value, Fault> {
    let file = matches.get_one::<String>("FILE").map(String::as_str).unwrap_or_default();
    if file.ends_with(".luau") || file.ends_with(".lua") {
        return script(file, globals, context, config);
    }
    let bytes = files::read(std::path::Path::new(file), LARGEST, Guard::Any)?.ok_or_else(|| {
        Fault::new("usage.file", format!("{file}: there is no such file")).hint("give a YAML, JSON or .luau file")
    })?;
    Ok(wire::Value::from_json(Value::Object(config::table(&bytes, file)?)))
}

/// Runs a script in mode restricted, for the table that it returns. Secrets stand in it as they do in YAML: a handle is a run's own.
fn script(file: &str, globals: &Globals, context: &Context, config: &Arc<Config>) -> Result<wire::Value, Fault> {
    let (source, folder) = run::load(file, config)?;
    let mut request =
        run::request(config, globals, source, folder, Arc::new(Configured::new(config.clone())), runs::Kind::Run)?;
    request.grant.mode = config::Mode::Restricted;
    request.output.keep_apart();
    let output = request.output.clone();
    let report = runs::run(request, |_| Ok(Decision::Stop));
    output.finish(None);
    let told = |what: &str| {
        Fault::new("usage.file", format!("{file}: {what}"))
            .hint("return the table of cloudinit.build: return { hostname = \"web-1\", … }")
    };
    match report.result {
        Ok(wire::Value::Nil) => Err(told("returns no table (a playbook is no document)")),
        Ok(value @ wire::Value::Map(_)) => Ok(value),
        Ok(other) => Err(told(&format!("returns {}, and no table", other.shape()))),
        Err(ended) => {
            run::tell(&ended, &report.sources, globals.verbose);
            context.say("the script did not return its table")?;
            if ended.exit_code() == 3 {
                context.say(
                    "it runs in mode restricted; a secret is named in it as { secret = \"NAME\" }, as in a YAML file",
                )?;
            }
            Err(ended.into_fault())
        }
    }
}
