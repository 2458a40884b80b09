//! `ceso types`: the definitions for editors, made from the declarations.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::context::Context;
use super::output;
use crate::error::Fault;
use crate::ops::reference::{REFERENCE, luau};

pub fn command() -> Command {
    Command::new("types")
        .about("Print type definitions for luau-lsp")
        .long_about(
            "Prints type definitions for luau-lsp: of the bindings, the handles, the modules and the shape of a playbook.\n\n\
             ceso types > ceso.d.luau\n\
             luau-lsp analyze --definitions:@ceso=ceso.d.luau PLAYBOOK.luau",
        )
}

pub fn run(_: &ArgMatches, _: &Context) -> Result<ExitCode, Fault> {
    output::write(&luau::definitions(&REFERENCE), &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
