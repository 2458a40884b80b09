//! The line editor: keys, history, colours, TAB. It must not run anything but completion.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Helper};

use super::completion;
use super::highlight::highlight;
use super::state::{Prompt, Repl};
use crate::config::files::{self, Guard};
use crate::error::Fault;
use crate::redact;
use crate::script::lexer;

/// How many entries the history keeps, how large its file may be, and how large an entry that is kept.
const ENTRIES: usize = 5000;
const FILE: usize = 8 << 20;
const ENTRY: usize = 64 << 10;

/// What a person did.
pub enum Typed {
    Text(String),
    /// Ctrl-C: the line is given up.
    Cleared,
    /// Ctrl-D on an empty line.
    End,
}

pub struct Editor<'r, 'c> {
    editor: rustyline::Editor<Assistant<'r, 'c>, FileHistory>,
    repl: &'r RefCell<Repl<'c>>,
    /// Where the history is kept; `None` where it cannot be.
    history: Option<PathBuf>,
}

impl<'r, 'c> Editor<'r, 'c> {
    /// An editor with the history of that file. A history that cannot be used is said and left as it is.
    pub fn new(repl: &'r RefCell<Repl<'c>>, history: &Path) -> Result<Self, Fault> {
        let color = repl.borrow().style().color;
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .color_mode(if color { ColorMode::Enabled } else { ColorMode::Disabled })
            .history_ignore_space(true)
            .auto_add_history(false)
            .max_history_size(ENTRIES)
            .map_err(broken)?
            .build();
        let mut editor = rustyline::Editor::with_config(config).map_err(broken)?;
        editor.set_helper(Some(Assistant { repl, color, bindings: completion::bindings() }));
        let mut editor = Self { editor, repl, history: None };
        match editor.load(history) {
            Ok(()) => editor.history = Some(history.to_owned()),
            Err(fault) => repl.borrow().note(&format!("warning: the history is not kept: {fault}\n")),
        }
        Ok(editor)
    }

    fn load(&mut self, history: &Path) -> Result<(), Fault> {
        let failed = |error: &dyn std::fmt::Display| {
            Fault::new("usage.history", format!("{} cannot be read: {error}", history.display()))
                .hint("move it away, and a new one is begun")
        };
        match files::read(history, FILE, Guard::Owned)? {
            Some(bytes) => {
                std::str::from_utf8(&bytes).map_err(|error| failed(&error))?;
                // It tells what was done to hosts: nobody else reads it.
                files::make_private(history)?;
                if bytes.is_empty() {
                    Ok(())
                } else {
                    self.editor.load_history(history).map_err(|error| failed(&error))
                }
            }
            None => files::write_private(history, b""),
        }
    }

    /// Reads a chunk or a command; `begun` is what it begins with.
    pub fn read(&mut self, prompt: &Prompt, begun: Option<&str>) -> Result<Typed, Fault> {
        let both = (prompt.plain.as_str(), prompt.colored.as_str());
        let read = match begun {
            Some(begun) => self.editor.readline_with_initial(&both, (&format!("{begun}\n"), "")),
            None => self.editor.readline(&both),
        };
        match read {
            Ok(text) => Ok(Typed::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Typed::Cleared),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                self.repl.borrow().note("warning: what came is not UTF-8, and the line was left out\n");
                Ok(Typed::Cleared)
            }
            Err(error) => Err(broken(error)),
        }
    }

    /// Keeps what was typed, at once: a session that is killed loses nothing of it.
    pub fn remember(&mut self, text: &str) {
        if text.len() > ENTRY || text.contains('\0') {
            return;
        }
        let Some(path) = &self.history else { return };
        let kept = self.editor.add_history_entry(redact::text(text)).and_then(|_| self.editor.append_history(path));
        if let Err(error) = kept {
            self.repl.borrow().note(&format!("warning: the history is kept no longer: {error}\n"));
            self.history = None;
        }
    }
}

fn broken(error: ReadlineError) -> Fault {
    Fault::new("output.terminal", format!("the terminal cannot be used: {error}"))
        .hint("give the chunks on standard input instead")
        .cause(error)
}

/// What the editor asks while a line is typed.
struct Assistant<'r, 'c> {
    repl: &'r RefCell<Repl<'c>>,
    color: bool,
    bindings: Vec<&'static str>,
}

impl Helper for Assistant<'_, '_> {}

impl Hinter for Assistant<'_, '_> {
    type Hint = String;
}

impl Completer for Assistant<'_, '_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, names) = completion::complete(line, pos, &mut *self.repl.borrow_mut());
        let pair = |name: String| Pair { display: name.trim_end_matches(" = ").to_owned(), replacement: name };
        Ok((start, names.into_iter().map(pair).collect()))
    }
}

impl Highlighter for Assistant<'_, '_> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.color { Cow::Owned(highlight(line, &self.bindings)) } else { Cow::Borrowed(line) }
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.color
    }
}

impl Validator for Assistant<'_, '_> {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let goes_on = !text.trim_start().starts_with(':') && lexer::is_open(text);
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}
