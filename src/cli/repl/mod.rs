//! `ceso repl`: chunk after chunk in one worker, behind one door.
//!
//! Owns the loop: at a terminal with an editor, else chunks from a pipe. What a chunk comes to is [`state`]'s, what stands behind a
//! `:` is [`commands`]'. A pipe is read to its end whatever fails; the exit code is that of the last chunk that failed.

mod around;
mod commands;
mod completion;
mod editor;
mod highlight;
mod input;
mod show;
mod state;
mod syntax;
mod worker;

use std::cell::RefCell;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Command;

use self::editor::{Editor, Typed};
use self::input::{Input, Line};
use self::state::{Repl, Verdict};
use super::context::Context;
use super::globals::Globals;
use crate::error::Fault;
use crate::script::lexer::Growing;

pub fn command() -> Command {
    Command::new("repl").about("Type Luau at a host: each expression is run and shown").long_about(
        "Runs what is typed, expression by expression, in one session: names stay, `local` ones too. --timeout is the time of one \
         expression. Ctrl-C ends what runs, Ctrl-D leaves; TAB completes, names of machines too; `:help` lists the commands.\n\n\
         Standard input that is no terminal is read as chunks, without a prompt: each goes on until it is complete. A chunk that fails \
         does not stop the others; the exit code is that of the last one that failed, else 0. What is too large or no UTF-8 ends it, and \
         nothing behind that is run. `require` reads under the current folder.",
    )
}

/// What the loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Leave,
}

pub fn run(globals: &Globals, context: &Context) -> Result<ExitCode, Fault> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let repl = RefCell::new(Repl::new(globals, context)?);
    let looped = if terminal { typed(&repl) } else { piped(&mut repl.borrow_mut()) };
    let repl = repl.into_inner();
    let code = repl.finish()?;
    looped.map(|()| code)
}

/// Reads from a person.
fn typed(repl: &RefCell<Repl<'_>>) -> Result<(), Fault> {
    let history = repl.borrow().history();
    let mut editor = Editor::new(repl, &history)?;
    repl.borrow().note("ceso repl: Luau at a host. :help lists the commands, Ctrl-D leaves.\n");
    // A chunk that only Luau knew to go on.
    let mut begun: Option<String> = None;
    loop {
        repl.borrow().settle();
        let prompt = repl.borrow().prompt();
        let text = match editor.read(&prompt, begun.take().as_deref())? {
            Typed::Text(text) => text,
            Typed::Cleared => continue,
            Typed::End => return Ok(()),
        };
        if text.trim().is_empty() {
            continue;
        }
        let next = one(&mut repl.borrow_mut(), &text);
        if matches!(next, Ok(One::GoesOn)) {
            begun = Some(text);
            continue;
        }
        editor.remember(&text);
        if matches!(next?, One::Done(Next::Leave)) || repl.borrow().terminated() {
            return Ok(());
        }
    }
}

enum One {
    Done(Next),
    GoesOn,
}

fn one(repl: &mut Repl<'_>, text: &str) -> Result<One, Fault> {
    if text.trim_start().starts_with(':') {
        return commands::run(repl, text.trim()).map(One::Done);
    }
    Ok(match repl.evaluate(text)? {
        Verdict::Incomplete(_) => One::GoesOn,
        Verdict::Done | Verdict::Failed => One::Done(Next::Go),
    })
}

/// Reads from a pipe. What cannot be read ends it: it could have opened a block, and what follows would not mean what it says.
fn piped(repl: &mut Repl<'_>) -> Result<(), Fault> {
    let limit = repl.source_limit();
    let mut input = Input::new(std::io::stdin().lock(), limit);
    let (mut chunk, mut growing) = (String::new(), Growing::default());
    while !repl.stopped() {
        match input.next()? {
            Line::Text(line) => chunk.push_str(&line),
            Line::Unfit(fault) => {
                repl.complain(fault);
                return Ok(());
            }
            Line::End => break,
        }
        if chunk.len() as u64 > limit {
            repl.complain(input::too_long(limit));
            return Ok(());
        }
        if !chunk.starts_with(':') && growing.is_open(&chunk) {
            continue;
        }
        let next = if chunk.trim().is_empty() { One::Done(Next::Go) } else { one(repl, &chunk)? };
        match next {
            One::Done(Next::Go) => (chunk, growing) = (String::new(), Growing::default()),
            One::Done(Next::Leave) => return Ok(()),
            One::GoesOn => {}
        }
    }
    if !chunk.is_empty()
        && !repl.stopped()
        && let Verdict::Incomplete(error) = repl.evaluate(&chunk)?
    {
        repl.fail(error);
    }
    Ok(())
}
