//! What a person types: arguments become a run, a workflow, a query; results become text.
//!
//! A command that is not one of ceso's own is a workflow: a script under `lua/workflows` or in the user's folder.

pub mod audit;
mod cloudinit;
mod completion;
pub mod config;
pub mod context;
mod disk;
mod doc;
mod doctor;
mod globals;
mod grant;
pub mod host;
mod hosts;
mod noting;
pub mod output;
mod passing;
mod policy;
mod reference;
mod repl;
mod report;
mod repository;
mod run;
mod short;
mod sim;
mod status;
mod telemetry;
mod test;
mod types;
mod workflow;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;

use self::context::Context;
use self::globals::Globals;
use crate::config::{Sources, printable};
use crate::error::{Fault, nearest};

/// ceso's own commands, without the workflows.
fn command() -> Command {
    Command::new("ceso")
        .about("ESXi Commander: an embedded Lua scripting host for standalone ESXi machines")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(globals::arguments())
        .subcommand(run::command())
        .subcommand(run::check_command())
        .subcommand(test::command())
        .subcommand(repl::command())
        .subcommand(host::command())
        .subcommand(config::command())
        .subcommand(policy::command())
        .subcommand(status::command())
        .subcommand(audit::command())
        .subcommand(cloudinit::command())
        .subcommand(disk::command())
        .subcommand(repository::command())
        .subcommand(sim::command())
        .subcommand(doctor::command())
        .subcommand(doc::command())
        .subcommand(types::command())
        .subcommand(completion::command())
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // Where this cannot be written either, nobody is left to tell.
        drop(output::write(&format!("{panic}\n"), &mut std::io::stderr().lock()));
    }));
    match words(std::env::args_os()).and_then(dispatch) {
        Ok(code) => code,
        Err(fault) => {
            let code = fault.exit_code();
            run::tell(&fault.into(), &[], false);
            ExitCode::from(code)
        }
    }
}

fn words(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>, Fault> {
    arguments
        .skip(1)
        .map(|word| {
            word.into_string().map_err(|word| {
                Fault::new("usage.argument", format!("{}: is not UTF-8", printable(&word.to_string_lossy())))
            })
        })
        .collect()
}

fn dispatch(words: Vec<String>) -> Result<ExitCode, Fault> {
    let (globals, mut words) = globals::extract(words)?;
    // `ceso help vm list` is `ceso vm list --help`: what comes behind `help` may be a workflow.
    if words.len() > 1 && words.first().is_some_and(|word| word == "help") {
        words.remove(0);
        words.push("--help".to_owned());
    }
    let context = Context::new(globals.apply(Sources::of_this_process()?));
    let own = command();
    match words.first().map(String::as_str) {
        None | Some("--help" | "-h" | "help") if words.len() < 2 => return overview(own, &context),
        // Of a command's words those that lead to a script of ceso's own are the script's: `ceso host check` is none, `ceso host events` is.
        Some(first)
            if first.starts_with('-') || (own.find_subcommand(first).is_some() && !workflow::is_embedded(&words)) => {}
        _ => return workflow(own, &words, &globals, &context),
    }
    let argv = std::iter::once("ceso".to_owned()).chain(words);
    let matches = match own.try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) => {
            // Nobody is left to tell where the stream is closed.
            drop(error.print());
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let name = matches.subcommand_name().unwrap_or_default();
    if globals.metrics_port.is_some() && !["run", "repl", "sim", "disk", "repository"].contains(&name) {
        return Err(Fault::new(
            "usage.flag",
            format!("--metrics-port: `ceso {name}` runs nothing that would be counted"),
        )
        .hint("it is for run, repl, sim, disk, repository and the commands that are scripts"));
    }
    // What mends a broken configuration, or needs none, is not held up by its log.
    let traced = ["run", "repl", "sim", "check", "host", "status", "disk", "repository"].contains(&name);
    let _traces = if traced { telemetry::begin(&context, globals.log.as_deref())? } else { None };
    match matches.subcommand() {
        Some(("run", matches)) => telemetry::within(&globals, &context, || run::run(matches, &globals, &context)),
        Some(("repl", _)) => telemetry::within(&globals, &context, || repl::run(&globals, &context)),
        Some(("check", matches)) => run::check(matches, &context),
        Some(("test", matches)) => test::run(matches, &globals, &context),
        Some(("host", matches)) => host::run(matches, &context).map(|()| ExitCode::SUCCESS),
        Some(("config", matches)) => config::run(matches, &context).map(|()| ExitCode::SUCCESS),
        Some(("policy", matches)) => policy::run(matches, &globals, &context),
        // The simulator needs no configuration, unless its metrics are asked for.
        Some(("audit", matches)) => audit::run(matches, &context),
        Some(("sim", matches)) if globals.metrics_port.is_some() => {
            telemetry::within(&globals, &context, || sim::run(matches, &context))
        }
        Some(("cloudinit", matches)) => cloudinit::run(matches, &globals, &context),
        Some(("disk", matches)) => {
            telemetry::within(&globals, &context, || disk::run(matches, &globals, &context).map(|()| ExitCode::SUCCESS))
        }
        Some(("repository", matches)) => telemetry::within(&globals, &context, || {
            repository::run(matches, &globals, &context).map(|()| ExitCode::SUCCESS)
        }),
        Some(("sim", matches)) => sim::run(matches, &context),
        Some(("status", matches)) => status::run(matches, &context),
        Some(("doctor", matches)) => doctor::run(matches, &context),
        Some(("doc", matches)) => doc::run(matches, &context),
        Some(("types", matches)) => types::run(matches, &context),
        Some(("completion", matches)) => completion::run(matches, command(), &context),
        _ => Err(Fault::new("usage.command", "a command is needed").hint("ceso --help lists them")),
    }
}

fn workflows(own: &Command, context: &Context) -> workflow::Found {
    let own: Vec<&str> = own.get_subcommands().map(Command::get_name).collect();
    workflow::all(&context.sources().home.workflows(), &own)
}

/// Runs the workflow that the words name, or lists those that begin so.
fn workflow(own: Command, words: &[String], globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let workflow::Found { workflows, problems } = workflows(&own, context);
    if let Some((workflow, rest)) = workflow::find(&workflows, words) {
        return run::run_workflow(workflow, rest, globals, context);
    }
    let plain: Vec<String> = words.iter().filter(|word| !word.starts_with('-')).cloned().collect();
    let group: Vec<workflow::Workflow> =
        workflows.iter().filter(|workflow| workflow.words.starts_with(&plain)).cloned().collect();
    if !group.is_empty() {
        let text = listing(&group, context)?;
        output::write(&format!("Usage: ceso {} <COMMAND>\n\n{text}", plain.join(" ")), &mut std::io::stdout().lock())?;
        return Ok(if words.iter().any(|word| word == "--help" || word == "-h") {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        });
    }
    let wanted = words.join(" ");
    let names: Vec<String> = workflows.iter().map(workflow::Workflow::name).collect();
    let known = own.get_subcommands().map(Command::get_name).chain(names.iter().map(String::as_str));
    let fault = Fault::new("usage.command", format!("there is no command \"{}\"", printable(&wanted)));
    for problem in &problems {
        context.say(&format!("warning: {problem}"))?;
    }
    let near: Vec<String> = nearest(&wanted, known).iter().map(|name| format!("ceso {name}")).collect();
    Err(if near.is_empty() {
        fault.hint("ceso --help lists the commands")
    } else {
        fault.hint(format!("did you mean {}?", near.join(" or ")))
    })
}

/// `ceso --help`: the own commands, and each workflow with its summary.
fn overview(mut own: Command, context: &Context) -> Result<ExitCode, Fault> {
    let workflow::Found { workflows, problems } = workflows(&own, context);
    let mut listing = listing(&workflows, context)?;
    if !problems.is_empty() {
        listing.push_str("\nNot taken as commands:\n");
        listing.extend(problems.iter().map(|problem| format!("  {}\n", printable(problem))));
    }
    own = own
        .after_help(format!("Workflows (each is a script; `ceso WORKFLOW --help` shows its parameters):\n{listing}"));
    output::write(&own.render_help().to_string(), &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each workflow. One that cannot be read says so in its line.
fn listing(workflows: &[workflow::Workflow], context: &Context) -> Result<String, Fault> {
    let described = workflow::declarations(workflows, &run::looks_for_help(context)?);
    let width = workflows.iter().map(|workflow| workflow.name().len()).max().unwrap_or(0);
    let lines = workflows.iter().zip(&described).map(|(workflow, outcome)| {
        let summary = match outcome {
            Ok(declaration) => declaration.summary.clone(),
            Err(_) => format!("(cannot be read: ceso check {})", workflow.source.name),
        };
        format!("  {:width$}  {}\n", workflow.name(), printable(&summary))
    });
    Ok(lines.collect())
}
