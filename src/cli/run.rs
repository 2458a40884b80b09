//! `ceso run`, `ceso check`, and workflows as commands: a script becomes a run, its report becomes text and an exit code.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::context::Context;
use super::globals::Globals;
use super::hosts::Configured;
use super::output::{self, Format};
use super::{grant, report, workflow};
use crate::config::Config;
use crate::door::journal::{Change, Made, Outcome};
use crate::door::{Ledger, grammar};
use crate::error::Fault;
use crate::run::declaration::Declaration;
use crate::run::output::Output;
use crate::run::params::{self, Given};
use crate::run::progress::Lines;
use crate::run::session::Ended;
use crate::run::{self, Decision, Kind, Looks, Report, Request};
use crate::wire::{Jail, Limits, Source};

/// `ceso run`.
pub fn command() -> Command {
    Command::new("run")
        .about("Run a playbook or a script")
        .arg(Arg::new("FILE").required(true).help("A .luau or .lua file, or - for standard input"))
        .arg(
            Arg::new("param")
                .long("param")
                .short('p')
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("A parameter of the playbook; may be repeated"),
        )
        .arg(Format::argument())
}

/// `ceso check`.
pub fn check_command() -> Command {
    Command::new("check")
        .about("Say, without a host, whether a script's syntax, parameters and capability table are right")
        .arg(Arg::new("FILE").required(true).help("A .luau or .lua file, or - for standard input"))
        .arg(Format::argument())
}

/// Runs a file.
pub fn run(matches: &ArgMatches, globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let config = context.config()?;
    let (source, folder) = load(file_of(matches), &config)?;
    let words = matches.get_many::<String>("param").unwrap_or_default().map(String::as_str);
    let given = Given::from_words(words)?;
    if !given.typed.is_empty() && matches!(run::check(source.clone(), looks(&config, folder.clone())?), Ok(None)) {
        return Err(Fault::new(
            "usage.param",
            format!("{}: is a plain script, which takes no parameters", source.name),
        )
        .hint("return a playbook: { params = { … }, run = function(p) … end }"));
    }
    let request = request(&config, globals, source, folder, Arc::new(Configured::new(config.clone())), Kind::Run)?;
    let output = request.output.clone();
    keep_apart(&output, matches, context)?;
    let mut columns = Vec::new();
    let report = run::run(request, |declaration| {
        columns.clone_from(&declaration.columns);
        params::resolve(&declaration.params, &given).map(Decision::Go)
    });
    finish(report, &output, matches, &columns, globals, context)
}

/// A result for programs is alone on standard output.
fn keep_apart(output: &Output, matches: &ArgMatches, context: &Context) -> Result<(), Fault> {
    match context.style(matches)?.format {
        Format::Table => {}
        form => {
            output.keep_apart();
            if form == Format::Json {
                output.rows_as_json();
            }
        }
    }
    Ok(())
}

/// Runs a workflow with the words behind its name.
pub fn run_workflow(
    workflow: &workflow::Workflow,
    words: &[String],
    globals: &Globals,
    context: &Context,
) -> Result<ExitCode, Fault> {
    if words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") {
        return help(workflow, words, context);
    }
    let _traces = super::telemetry::begin(context, globals.log.as_deref())?;
    super::telemetry::within(globals, context, || run_command(workflow, words, globals, context))
}

fn run_command(
    workflow: &workflow::Workflow,
    words: &[String],
    globals: &Globals,
    context: &Context,
) -> Result<ExitCode, Fault> {
    let config = context.config()?;
    let (source, folder) = (workflow.source.clone(), workflow.folder.clone());
    if folder.is_some() && matches!(run::check(source.clone(), looks(&config, folder.clone())?), Ok(None)) {
        return Err(no_playbook(workflow));
    }
    let request = request(&config, globals, source, folder, Arc::new(Configured::new(config.clone())), Kind::Command)?;
    let output = request.output.clone();
    let mut parsed = None;
    let mut columns = Vec::new();
    let mut stopped = None;
    let report = run::run(request, |declaration| {
        let command = workflow::command(&workflow.name(), declaration)?.arg(Format::argument());
        let argv = std::iter::once(workflow.name()).chain(words.iter().cloned());
        match command.args(super::globals::arguments()).try_get_matches_from(argv) {
            Ok(matches) => {
                keep_apart(&output, &matches, context)?;
                let given = workflow::given(declaration, &matches);
                parsed = Some(matches);
                columns.clone_from(&declaration.columns);
                let hint = format!("ceso {} --help lists the parameters", workflow.name());
                params::resolve(&declaration.params, &given).map(Decision::Go).map_err(|fault| fault.hint(hint))
            }
            Err(error) => {
                stopped = Some(error);
                Ok(Decision::Stop)
            }
        }
    });
    if let Some(error) = stopped {
        return Ok(misused(&error));
    }
    finish(report, &output, &parsed.unwrap_or_default(), &columns, globals, context)
}

/// Prints the help of a workflow, for which nothing is run, and no configuration needs to be right.
fn help(workflow: &workflow::Workflow, words: &[String], context: &Context) -> Result<ExitCode, Fault> {
    let described = workflow::declarations(std::slice::from_ref(workflow), &looks_for_help(context)?);
    let declaration = match described.into_iter().next() {
        Some(Ok(declaration)) => declaration,
        Some(Err(ended)) => {
            tell(&ended, std::slice::from_ref(&workflow.source), false);
            return Ok(ExitCode::from(2));
        }
        None => return Err(no_playbook(workflow)),
    };
    let command = workflow::command(&workflow.name(), &declaration)?.arg(Format::argument());
    let argv = std::iter::once(workflow.name()).chain(words.iter().cloned());
    match command.args(super::globals::arguments()).try_get_matches_from(argv) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(misused(&error)),
    }
}

/// What the parser of arguments has to say: help, or what is wrong.
fn misused(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell where the stream is closed.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn no_playbook(workflow: &workflow::Workflow) -> Fault {
    let name = &workflow.source.name;
    Fault::new("config.workflow", format!("{name}: a command's file returns a playbook, and this is a plain script"))
        .hint(format!("ceso run {name} runs it; return {{ summary = …, params = …, run = function(p) … end }} to make it a command"))
}

/// Checks a file.
pub fn check(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let config = context.config()?;
    let (source, folder) = load(file_of(matches), &config)?;
    let shown = source.clone();
    match run::check(source, looks(&config, folder)?) {
        Ok(declaration) => {
            context.print(matches, &described(&shown.name, declaration.as_ref()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ended) => {
            // A script that is wrong is wrong usage of ceso, not a failed run.
            tell(&ended, &[shown], false);
            Ok(ExitCode::from(if ended.exit_code() == 1 { 2 } else { ended.exit_code() }))
        }
    }
}

/// What a script is looked at with, from the configuration. What it prints meanwhile is nobody's result and goes nowhere.
pub fn looks(config: &Config, folder: Option<PathBuf>) -> Result<Looks, Fault> {
    looks_within(config.limits().clone(), folder)
}

/// What help is made with: help is there also where the configuration is broken, and says so.
pub fn looks_for_help(context: &Context) -> Result<Looks, Fault> {
    let limits = match context.config() {
        Ok(config) => config.limits().clone(),
        Err(fault) => {
            context.say(&format!("warning: {} (help goes on without it)", fault.message()))?;
            Limits::default()
        }
    };
    looks_within(limits, None)
}

fn looks_within(limits: Limits, folder: Option<PathBuf>) -> Result<Looks, Fault> {
    let output = Output::new(std::io::sink(), std::io::sink(), limits.output).map_err(no_thread)?;
    Ok(Looks { folder, limits, output })
}

fn no_thread(error: std::io::Error) -> Fault {
    Fault::new("output.thread", format!("no thread for the output: {error}")).cause(error)
}

fn described(name: &str, declaration: Option<&Declaration>) -> serde_json::Value {
    let Some(declaration) = declaration else {
        return serde_json::json!({ "file": name, "kind": "plain script", "needs": "what its mode allows" });
    };
    let params: Vec<serde_json::Value> = declaration
        .params
        .iter()
        .map(|param| {
            serde_json::json!({
                "name": param.name,
                "type": param.kind.name(),
                "required": param.required(),
                "default": param.default.as_ref().map(crate::wire::Value::to_json),
                "doc": param.doc,
            })
        })
        .collect();
    let needs = declaration.needs_as_written().map(|table| grammar::write_as_written(&table)).unwrap_or_default();
    serde_json::json!({
        "file": name, "kind": "playbook", "summary": declaration.summary, "params": params, "needs": needs,
    })
}

/// All that a run is made of, from configuration and flags.
pub fn request(
    config: &Arc<Config>,
    globals: &Globals,
    source: Source,
    folder: Option<PathBuf>,
    hosts: Arc<Configured>,
    kind: Kind,
) -> Result<Request, Fault> {
    let grant = grant::read(config, globals)?;
    Ok(Request {
        id: hosts.run().clone(),
        source,
        folder,
        jail: jail(grant.mode, globals),
        grant,
        ledger: ledger(config)?,
        limits: config.limits().clone(),
        output: Output::standard(config.limits().output).map_err(no_thread)?.for_run(hosts.run().as_str()),
        hosts,
        lines: Lines::new(),
        kind,
        host: globals.host.clone().or_else(|| config.settings().default_host.clone()),
        runs: Some(config.home().runs()),
        hold: None,
    })
}

/// The audit log of the configuration, in the name of this process's user; none where the operator has switched it off.
///
/// Faults: `config.invalid` where a witness's address is none.
pub fn ledger(config: &Config) -> Result<Ledger, Fault> {
    if !config.settings().security.audit {
        return Ok(Ledger::none());
    }
    Ok(Ledger::open(super::audit::options(config)?, run::principal::principal()))
}

/// Restricted mode insists on the whole jail; the others take what the machine gives and say what is missing.
pub fn jail(mode: crate::config::Mode, globals: &Globals) -> Jail {
    match mode {
        _ if globals.no_jail => Jail::Off,
        crate::config::Mode::Restricted => Jail::Full,
        _ => Jail::Partial,
    }
}

/// How long a failed run waits for a reader of its output that has stopped reading, before it says what failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints what came of a run; the result on standard output, everything else on standard error.
///
/// What the script printed stands before all of it. A table has the columns that the playbook names, or all.
pub fn finish(
    report: Report,
    output: &Output,
    matches: &ArgMatches,
    columns: &[String],
    globals: &Globals,
    context: &Context,
) -> Result<ExitCode, Fault> {
    output.finish(report.result.is_err().then_some(PATIENCE));
    let mut printed = Ok(());
    let mut notes = Vec::new();
    match (report.simulated, report.real) {
        (true, false) => notes.push("SIMULATOR: nothing of this happened on a real host".to_owned()),
        (true, true) => {
            notes.push("SIMULATOR: a part of this happened on a simulator, the rest on a real host".to_owned())
        }
        (false, _) => {}
    }
    notes.extend(summary(&report.changes, report.result.is_err(), globals.verbose));
    if report.result.is_err() {
        notes.extend(report.left.iter().map(removal));
    }
    notes.extend(report.afterwards.iter().map(|fault| format!("afterwards: {fault}")));
    if globals.verbose || report.result.is_err() {
        notes.push(format!("run {}", report.id));
    }
    notes.extend(report.receipt.iter().map(|receipt| format!("audit {receipt}")));
    let code = match &report.result {
        // What came in rows is all of it: a document behind them would be no row.
        Ok(_) if output.has_json_rows() => ExitCode::SUCCESS,
        Ok(value) => {
            printed = context.print_columns(matches, &value.to_json(), columns);
            ExitCode::SUCCESS
        }
        Err(ended) => {
            tell(ended, &report.sources, globals.verbose);
            ExitCode::from(ended.exit_code())
        }
    };
    for note in notes {
        context.say(&note)?;
    }
    if globals.explain {
        context.say("the entries that the run used:")?;
        context.say(&grammar::write(&report.used))?;
    }
    printed.and(output.lost())?;
    // A run that did what it should and whose record has a hole is no success to whoever relies on the record.
    let unrecorded = report.afterwards.iter().any(|fault| fault.is("audit"));
    Ok(if unrecorded && report.result.is_ok() && !report.changes.is_empty() { ExitCode::from(1) } else { code })
}

/// A machine that a failed run made and left, and the command that removes it.
fn removal(made: &Made) -> String {
    let word = |text: &str| match text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    };
    let (name, host) = (word(&made.name), word(&made.host));
    format!(
        "left behind: machine {:?}; remove it with  ceso vm delete {name} --force --mode unrestricted --host {host}",
        made.name
    )
}

/// What was changed, and above all what is left of a run that failed.
pub fn summary(changes: &[Change], failed: bool, verbose: bool) -> Vec<String> {
    let count = |outcome| changes.iter().filter(|change| change.outcome == outcome).count();
    let mut lines = Vec::new();
    if !changes.is_empty() {
        let mut parts = vec![match count(Outcome::Done) {
            0 => "nothing changed".to_owned(),
            done => format!("{done} changed"),
        }];
        let unknown = count(Outcome::Unknown) + count(Outcome::Begun);
        let others =
            [(count(Outcome::Unchanged), "unchanged"), (count(Outcome::Failed), "failed"), (unknown, "unknown")];
        parts.extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        lines.push(parts.join(", "));
    }
    for change in changes {
        let what = format!("{} {}", change.operation, change.objects.join(", "));
        match change.outcome {
            Outcome::Done if failed => lines.push(format!("  done and left as it is: {what}")),
            Outcome::Unknown | Outcome::Begun => {
                lines.push(format!("  outcome unknown, look at the host: {what}"));
            }
            Outcome::Done if verbose => lines.push(format!("  done: {what}")),
            Outcome::Unchanged if verbose => lines.push(format!("  unchanged: {what}")),
            Outcome::Failed if failed || verbose => lines.push(format!("  failed: {what}")),
            _ => {}
        }
    }
    lines
}

/// Tells how a run ended, on standard error.
pub fn tell(ended: &Ended, sources: &[Source], verbose: bool) {
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    // Nobody is left to tell where the stream is closed.
    drop(output::write(&told(ended, sources, verbose, color), &mut std::io::stderr().lock()));
}

/// How a run ended, as text.
pub fn told(ended: &Ended, sources: &[Source], verbose: bool, color: bool) -> String {
    match ended {
        Ended::Fault { fault, script: Some(error) } => {
            let mut text = report::script(error, Some(fault), sources, color);
            if verbose {
                text.push_str(&report::causes(fault));
            }
            text
        }
        Ended::Fault { fault, script: None } => report::fault(fault, verbose, color),
        Ended::Script(error) => report::script(error, None, sources, color),
    }
}

fn file_of(matches: &ArgMatches) -> &str {
    matches.get_one::<String>("FILE").map(String::as_str).unwrap_or_default()
}

/// Reads a script, at most as large as the limit, and the folder that its `require` may read.
pub fn load(file: &str, config: &Config) -> Result<(Source, Option<PathBuf>), Fault> {
    let limit = config.limits().source.0;
    let failed = |error: std::io::Error| {
        Fault::new("usage.file", format!("{file}: cannot be read: {error}"))
            .hint("give a .luau or .lua file")
            .cause(error)
    };
    let mut text = Vec::new();
    let folder = if file == "-" {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut text).map_err(failed)?;
        None
    } else {
        let path = Path::new(file);
        // A pipe that nobody writes to must not be opened: that waits for ever.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Fault::new("usage.file", format!("{file}: is not a file")).hint("give a .luau or .lua file"));
        }
        let script = path.extension().is_some_and(|extension| extension == "luau" || extension == "lua");
        if !script {
            return Err(Fault::new("usage.file", format!("{file}: is neither a .luau nor a .lua file"))
                .hint("name the file .luau, or give it on standard input as -"));
        }
        let open = std::fs::File::open(path).map_err(failed)?;
        open.take(limit + 1).read_to_end(&mut text).map_err(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Some(parent.unwrap_or(Path::new(".")).to_owned())
    };
    if text.len() as u64 > limit {
        return Err(Fault::new("limit.source", format!("{file}: is larger than {}", config.limits().source))
            .hint("split it with require, or raise sandbox.source"));
    }
    // Some editors begin a file with a mark that says that it is UTF-8.
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
    let name = if file == "-" { "stdin".to_owned() } else { file.to_owned() };
    Ok((Source { name, text }, folder))
}
