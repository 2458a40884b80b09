//! `ceso completion SHELL`: completion for the whole command line, the workflows with their flags included.
//!
//! The words are those of the moment: a user who adds a workflow makes the completion anew.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

use super::context::Context;
use super::workflow::{self, Workflow};
use super::{output, run as running};
use crate::error::Fault;
use crate::run::declaration::Declaration;

pub fn command() -> Command {
    Command::new("completion")
        .about("Print the completion of the command line for a shell")
        .long_about(
            "Prints the completion of the command line for a shell, workflows and their flags included.\n\n\
             bash:        ceso completion bash > ~/.local/share/bash-completion/completions/ceso\n\
             zsh:         ceso completion zsh > ~/.zfunc/_ceso   (a folder of $fpath)\n\
             fish:        ceso completion fish > ~/.config/fish/completions/ceso.fish\n\
             elvish:      ceso completion elvish >> ~/.config/elvish/rc.elv\n\
             powershell:  ceso completion powershell >> $PROFILE",
        )
        .arg(
            Arg::new("SHELL")
                .required(true)
                .value_parser(clap::builder::EnumValueParser::<Shell>::new())
                .help("The shell"),
        )
}

/// Prints the completion for `own`, ceso's own commands, and all workflows. A workflow that cannot be read is left out, and said.
pub fn run(matches: &ArgMatches, own: Command, context: &Context) -> Result<ExitCode, Fault> {
    let shell = matches
        .get_one::<Shell>("SHELL")
        .copied()
        .ok_or_else(|| Fault::new("usage.shell", "a shell is needed").hint("ceso completion --help names them"))?;
    let workflow::Found { workflows, problems } = super::workflows(&own, context);
    for problem in &problems {
        context.say(&format!("left out: {problem}"))?;
    }
    let described = workflow::declarations(&workflows, &running::looks_for_help(context)?);
    let mut readable = Vec::new();
    for (workflow, outcome) in workflows.iter().zip(described) {
        match outcome {
            Ok(declaration) if workflow::command(&workflow.name(), &declaration).is_ok() => {
                readable.push((workflow, declaration))
            }
            _ => context.say(&format!("left out: {} (ceso check {})", workflow.name(), workflow.source.name))?,
        }
    }
    let mut whole = tree(own, &readable)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole, "ceso", &mut script);
    output::write(&String::from_utf8_lossy(&script), &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// The command line with each workflow in its place: `vm create` is `create` below `vm`.
fn tree(own: Command, workflows: &[(&Workflow, Declaration)]) -> Result<Command, Fault> {
    workflows.iter().try_fold(own, |whole, (workflow, declaration)| {
        let command = workflow::command(&workflow.name(), declaration)?;
        Ok(graft(whole, &workflow.words, command))
    })
}

fn graft(parent: Command, words: &[String], command: Command) -> Command {
    match words {
        [] | [_] => parent.subcommand(command),
        [group, rest @ ..] => {
            if parent.find_subcommand(group).is_some() {
                return parent.mut_subcommand(group, |inner| graft(inner, rest, command));
            }
            let inner = Command::new(group.clone()).about(format!("Workflows of {group}"));
            parent.subcommand(graft(inner, rest, command))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_stands_below_its_folder() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let own = Command::new("ceso").subcommand(Command::new("run"));
        let whole = graft(own, &words("vm list"), Command::new("list"));
        let whole = graft(whole, &words("vm info"), Command::new("info"));
        let whole = graft(whole, &words("hello"), Command::new("hello"));
        let vm = whole.find_subcommand("vm").unwrap();
        assert_eq!(vm.get_subcommands().map(Command::get_name).collect::<Vec<_>>(), ["list", "info"]);
        assert!(whole.find_subcommand("run").is_some() && whole.find_subcommand("hello").is_some());
    }
}
