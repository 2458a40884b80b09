//! What stands behind a `:`: help, the tables in force, hosts, modes, files, and leaving.

use super::Next;
use super::state::{Repl, Verdict};
use crate::cli::{doc, run};
use crate::config::{Mode, SIMULATOR, printable};
use crate::error::{Fault, nearest};

/// A command: its name, what follows it, what it does.
pub struct Command {
    pub name: &'static str,
    pub argument: &'static str,
    pub about: &'static str,
}

const fn command(name: &'static str, argument: &'static str, about: &'static str) -> Command {
    Command { name, argument, about }
}

pub const COMMANDS: [Command; 7] = [
    command("help", "[NAME]", "This list, or the reference of an operation, a handle, a module, a topic"),
    command("caps", "", "The capability tables in force"),
    command("host", "[NAME]", "Show or change the host that esxi.connect() without a name goes to"),
    command("mode", "[MODE]", "Show or change the mode; a change begins a new session"),
    command("load", "FILE", "Run a file as one chunk"),
    command("replay", "", "Run the chunks again of a session that was lost"),
    command("quit", "", "Leave, as Ctrl-D does"),
];

/// Runs one command. What goes wrong with it is said; an error is what ends the REPL.
pub fn run(repl: &mut Repl<'_>, line: &str) -> Result<Next, Fault> {
    let (name, argument) = line
        .strip_prefix(':')
        .unwrap_or(line)
        .split_once(char::is_whitespace)
        .unwrap_or_else(|| (line.strip_prefix(':').unwrap_or(line), ""));
    let argument = argument.trim();
    let said = match name {
        "quit" | "q" | "exit" => return Ok(Next::Leave),
        "help" | "h" | "?" if argument.is_empty() => Ok(help()),
        "help" | "h" | "?" => explain(repl, argument),
        "caps" => Ok(repl.tables()),
        "host" if argument.is_empty() => Ok(hosts(repl)),
        "host" => repl.choose_host(argument).map(|()| String::new()),
        "mode" if argument.is_empty() => Ok(format!("{}\n", repl.mode())),
        "mode" => match mode(argument) {
            // From here on an error means that there is no worker.
            Ok(mode) => return repl.change_mode(mode).map(|()| Next::Go),
            Err(fault) => Err(fault),
        },
        "load" => match load(repl, argument) {
            Ok(()) => return Ok(Next::Go),
            Err(Stop::Said(fault)) => Err(fault),
            Err(Stop::End(fault)) => return Err(fault),
        },
        "replay" => return repl.replay().map(|()| Next::Go),
        unknown => Err(no_command(unknown)),
    };
    match said {
        Ok(text) => repl.say(&text),
        Err(fault) => repl.complain(fault),
    }
    Ok(Next::Go)
}

fn no_command(name: &str) -> Fault {
    let shown: String = name.chars().take(60).collect();
    let fault = Fault::new("usage.command", format!("there is no command :{}", printable(&shown)));
    match nearest(&shown, COMMANDS.iter().map(|command| command.name)).first() {
        Some(near) => fault.hint(format!("did you mean :{near}?")),
        None => fault.hint(":help lists the commands"),
    }
}

fn help() -> String {
    let mut text = String::new();
    for command in &COMMANDS {
        let left = format!(":{} {}", command.name, command.argument);
        text.push_str(&format!("  {left:16}{}\n", command.about));
    }
    text.push_str(
        "\nAnything else is Luau: an expression is shown, `local` names stay. TAB completes; Ctrl-C ends what runs.\n\
         Begin with: local host = esxi.connect()\n",
    );
    text
}

fn explain(repl: &Repl<'_>, name: &str) -> Result<String, Fault> {
    if let Some(command) = COMMANDS.iter().find(|command| Some(command.name) == name.strip_prefix(':')) {
        return Ok(format!("  :{} {}  {}\n", command.name, command.argument, command.about));
    }
    doc::text(name, repl.style())
}

fn hosts(repl: &Repl<'_>) -> String {
    let chosen = repl.host();
    let mut names = repl.host_names();
    names.push(SIMULATOR.to_owned());
    names.dedup();
    let line =
        |name: &String| format!("{} {}\n", if Some(name) == chosen.as_ref() { "*" } else { " " }, printable(name));
    let mut text: String = names.iter().map(line).collect();
    if chosen.is_none() {
        text.push_str("No host is chosen: :host NAME chooses one.\n");
    }
    text
}

fn mode(word: &str) -> Result<Mode, Fault> {
    Mode::ALL.into_iter().find(|mode| mode.name() == word).ok_or_else(|| {
        let fault = Fault::new("usage.mode", format!("there is no mode {:?}", printable(word)));
        match nearest(word, Mode::ALL.map(Mode::name)).first() {
            Some(near) => fault.hint(format!("did you mean {near}?")),
            None => fault.hint(format!("write {}", Mode::ALL.map(Mode::name).join(", "))),
        }
    })
}

enum Stop {
    Said(Fault),
    End(Fault),
}

fn load(repl: &mut Repl<'_>, file: &str) -> Result<(), Stop> {
    if file.is_empty() || file == "-" {
        return Err(Stop::Said(Fault::new("usage.file", ":load needs a file").hint(":load FILE.luau")));
    }
    let (source, _) = run::load(file, repl.config()).map_err(Stop::Said)?;
    let text = String::from_utf8(source.text).map_err(|error| {
        Stop::Said(Fault::new("usage.file", format!("{}: is not UTF-8", printable(file))).cause(error))
    })?;
    match repl.evaluate_as(source.name, &text).map_err(Stop::End)? {
        Verdict::Incomplete(error) => repl.fail(error),
        Verdict::Done | Verdict::Failed => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_or_mode_gives_the_nearest() {
        assert!(no_command("hlep").hint_text().is_some_and(|hint| hint.contains(":help")));
        assert!(no_command("zzzz").hint_text().is_some_and(|hint| hint.contains(":help lists")));
        assert!(no_command(&"\x1b".repeat(100_000)).message().len() < 1000);
        assert_eq!(mode("standard").unwrap(), Mode::Standard);
        assert!(mode("standrad").unwrap_err().hint_text().is_some_and(|hint| hint.contains("standard")));
    }
}
