//! Workflows as commands: `lua/workflows/vm/create.luau` *is* `ceso vm create`.
//!
//! The embedded ones come first; a user's folder (`~/.ceso/workflows`) adds commands in the same way and cannot replace one. A
//! workflow's flags, `--help` and completion come from its declaration, which its worker reads; nothing is run for that.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use include_dir::{Dir, include_dir};

use crate::error::Fault;
use crate::run::declaration::Declaration;
use crate::run::params::{Given, Param, Type};
use crate::run::session::Ended;
use crate::run::{self, Looks};
use crate::wire::{Source, Value};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/lua/workflows");

/// How deep a user's folder is searched, and how many files are taken: a folder that was named by mistake must not hang a command.
const MAX_DEPTH: usize = 4;
const MAX_FILES: usize = 500;
const LARGEST: u64 = 4 << 20;

/// One workflow: the words that call it, and its script.
#[derive(Debug, Clone)]
pub struct Workflow {
    pub words: Vec<String>,
    pub source: Source,
    /// The folder that its `require` may read; embedded workflows read none.
    pub folder: Option<PathBuf>,
}

impl Workflow {
    /// The words as they are typed: `vm create`.
    pub fn name(&self) -> String {
        self.words.join(" ")
    }
}

/// The workflows, and what in the user's folder could not be taken as one, and why.
#[derive(Debug, Default)]
pub struct Found {
    pub workflows: Vec<Workflow>,
    pub problems: Vec<String>,
}

/// All workflows, embedded and the user's, in order of their words. What is wrong with a user's file costs that command alone.
///
/// `own` are the names of ceso's own commands, which no workflow can replace either.
pub fn all(user_folder: &Path, own: &[&str]) -> Found {
    let mut found = Found::default();
    embedded(&EMBEDDED, &mut found.workflows);
    let mut users = Found::default();
    search(user_folder, user_folder, 0, &mut users);
    found.problems = users.problems;
    users.workflows.sort_by(|a, b| (&a.words, &a.source.name).cmp(&(&b.words, &b.source.name)));
    for user in users.workflows {
        let is_own = user.words.first().is_some_and(|word| own.contains(&word.as_str()) || word == "help");
        if is_own || found.workflows.iter().any(|known| known.folder.is_none() && known.words == user.words) {
            found.problems.push(format!("{}: the command \"{}\" is built in", user.source.name, user.name()));
        } else if let Some(known) = found.workflows.iter().find(|known| known.words == user.words) {
            let (name, known) = (user.source.name, known.source.name.clone());
            found.problems.push(format!("{name}: {known} is the same command"));
        } else {
            found.workflows.push(user);
        }
    }
    found.workflows.sort_by(|a, b| a.words.cmp(&b.words));
    found
}

/// Whether the words lead to one of ceso's own scripts, or to several of them: `host events`, `host portgroup`.
pub fn is_embedded(words: &[String]) -> bool {
    let mut found = Vec::new();
    embedded(&EMBEDDED, &mut found);
    let plain: Vec<String> = words.iter().take_while(|word| !word.starts_with('-')).cloned().collect();
    let group = plain.len() > 1 && found.iter().any(|workflow| workflow.words.starts_with(&plain));
    group || find(&found, words).is_some()
}

/// How long all the files together, and then each by itself, may take to say what they are.
const TIME: Duration = Duration::from_secs(2);

/// What each workflow declares, in their order; a file that does not end is found out, and costs the others nothing but time.
pub fn declarations(workflows: &[Workflow], looks: &Looks) -> Vec<Result<Declaration, Ended>> {
    let describe = |workflows: &[Workflow]| {
        let mut limits = looks.limits.clone();
        limits.run_time.0 = limits.run_time.0.min(TIME);
        let looks = Looks { folder: None, limits, output: looks.output.clone() };
        run::describe(workflows.iter().map(|workflow| workflow.source.clone()).collect(), looks)
    };
    match describe(workflows) {
        Ok(described) => described.into_iter().map(|(_, outcome)| outcome).collect(),
        Err(_) if workflows.len() > 1 => {
            workflows.iter().flat_map(|workflow| declarations(std::slice::from_ref(workflow), looks)).collect()
        }
        Err(ended) => vec![Err(ended)],
    }
}

/// The workflow that the words begin with, and the words behind it.
pub fn find<'a>(workflows: &'a [Workflow], words: &'a [String]) -> Option<(&'a Workflow, &'a [String])> {
    workflows
        .iter()
        .filter(|workflow| words.starts_with(&workflow.words))
        .max_by_key(|workflow| workflow.words.len())
        .map(|workflow| (workflow, words.get(workflow.words.len()..).unwrap_or_default()))
}

fn embedded(folder: &Dir<'_>, found: &mut Vec<Workflow>) {
    for file in folder.files() {
        if let Some(words) = words_of(file.path()) {
            let name = format!("@ceso/workflows/{}", file.path().display());
            found.push(Workflow { words, source: Source { name, text: file.contents().to_vec() }, folder: None });
        }
    }
    folder.dirs().for_each(|inner| embedded(inner, found));
}

fn search(root: &Path, folder: &Path, depth: usize, found: &mut Found) {
    let unreadable = |path: &Path, error: std::io::Error| format!("{}: cannot be read: {error}", path.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if depth == 0 && error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return found.problems.push(unreadable(folder, error)),
    };
    for entry in entries {
        let (path, kind) = match entry.and_then(|entry| entry.file_type().map(|kind| (entry.path(), kind))) {
            Ok(entry) => entry,
            Err(error) => {
                found.problems.push(unreadable(folder, error));
                continue;
            }
        };
        // A link's own type is neither: what a link points to is not taken.
        if kind.is_dir() && depth < MAX_DEPTH {
            search(root, &path, depth + 1, found);
        } else if kind.is_file()
            && let Some(words) = path.strip_prefix(root).ok().and_then(words_of)
        {
            if found.workflows.len() + found.problems.len() >= MAX_FILES {
                found.problems.push(format!("{}: more than {MAX_FILES} workflows", root.display()));
                return;
            }
            match read(&path) {
                Ok(text) => {
                    let source = Source { name: path.display().to_string(), text };
                    found.workflows.push(Workflow { words, source, folder: path.parent().map(Path::to_owned) });
                }
                Err(error) => found.problems.push(unreadable(&path, error)),
            }
        }
    }
}

/// Reads a file, but no more of it than what the worker then refuses as too large.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
    if text.len() as u64 == LARGEST {
        return Err(std::io::Error::other("it is too large for a script"));
    }
    Ok(text)
}

/// `vm/create.luau` → `vm create`. Files whose names are no plain words are not commands.
fn words_of(path: &Path) -> Option<Vec<String>> {
    let extension = path.extension()?.to_str()?;
    if !matches!(extension, "luau" | "lua") {
        return None;
    }
    let stem = path.with_extension("");
    let words: Option<Vec<String>> = stem.iter().map(|part| part.to_str().map(str::to_owned)).collect();
    let plain = |word: &String| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    };
    words.filter(|words| !words.is_empty() && words.iter().all(plain))
}

/// The command line of a workflow, from its declaration.
pub fn command(name: &str, declaration: &Declaration) -> Result<Command, Fault> {
    let reserved: Vec<String> = super::globals::arguments().iter().map(|arg| arg.get_id().to_string()).collect();
    let taken = |param: &&Param| reserved.contains(&param.name) || matches!(param.name.as_str(), "output" | "help");
    if let Some(param) = declaration.params.iter().find(taken) {
        return Err(Fault::new(
            "usage.declaration",
            format!("{name}: a parameter of a command cannot be named {:?}", param.name),
        )
        .hint("every command has a flag of that name; choose another"));
    }
    let mut command = Command::new(name.rsplit(' ').next().unwrap_or(name).to_owned())
        .bin_name(format!("ceso {name}"))
        .about(declaration.summary.clone());
    if !declaration.doc.is_empty() {
        command = command.long_about(format!("{}\n\n{}", declaration.summary, declaration.doc));
    }
    Ok(command.args(declaration.params.iter().map(argument)))
}

fn argument(param: &Param) -> Arg {
    let flag = param.name.replace('_', "-");
    let mut help = param.doc.clone();
    if let Some(default) = &param.default
        && !matches!(param.kind, Type::Bool)
        && !default_text(default).is_empty()
    {
        help = format!("{help} [default: {}]", default_text(default));
    }
    let mut arg = Arg::new(param.name.clone()).help(help.trim().to_owned());
    arg = match param.position {
        Some(position) => arg.index(position).required(param.required()).value_name(flag.to_uppercase()),
        None => arg.long(flag).required(param.required()).value_name(param.kind.name().to_uppercase()),
    };
    match &param.kind {
        Type::Bool if param.position.is_none() => {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
        }
        Type::Choice(choices) => arg.value_parser(clap::builder::PossibleValuesParser::new(choices.clone())),
        // A list may be given as one word with commas, or by repeating the flag; keys hold commas in their comments rarely enough.
        Type::List(_) => arg.action(ArgAction::Append),
        Type::Words => arg.action(ArgAction::Append).allow_hyphen_values(true).value_name("WORD"),
        _ => arg,
    }
}

fn default_text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::List(items) => items.iter().map(default_text).collect::<Vec<_>>().join(","),
        _ => String::new(),
    }
}

/// What was typed for each parameter.
pub fn given(declaration: &Declaration, matches: &ArgMatches) -> Given {
    let mut given = Given::default();
    for param in &declaration.params {
        if let Some(words) = matches.get_many::<String>(&param.name) {
            let words: Vec<&str> = words.map(String::as_str).collect();
            let typed = match param.kind {
                Type::Words => serde_json::Value::from(words).to_string(),
                _ => words.join(","),
            };
            given.typed.insert(param.name.clone(), typed);
        }
    }
    given
}
