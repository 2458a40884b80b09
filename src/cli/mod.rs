//! What a person types: arguments become a run, a workflow, a query; results become text.

pub mod config;
pub mod context;
pub mod host;
pub mod output;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use self::context::Context;
use crate::config::{Sources, printable};
use crate::error::Fault;

fn command() -> Command {
    Command::new("ceso")
        .about("ESXi Commander: an embedded Lua scripting host for standalone ESXi machines")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(host::command())
        .subcommand(config::command())
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Nobody is left to tell where the stream is closed.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match dispatch(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tell(&fault);
            ExitCode::from(fault.exit_code())
        }
    }
}

fn dispatch(matches: &ArgMatches) -> Result<(), Fault> {
    let context = Context::new(Sources::of_this_process()?);
    match matches.subcommand() {
        Some(("host", matches)) => host::run(matches, &context),
        Some(("config", matches)) => config::run(matches, &context),
        _ => Err(Fault::new("usage.command", "a command is needed").hint("ceso --help")),
    }
}

fn tell(fault: &Fault) {
    let mut text = format!("error[{}]: {}\n", fault.kind(), printable(fault.message()));
    if let Some(hint) = fault.hint_text() {
        text.push_str(&format!("  hint: {}\n", printable(hint)));
    }
    // Nobody is left to tell where the stream is closed.
    drop(output::write(&text, &mut std::io::stderr().lock()));
}
