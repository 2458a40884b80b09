//! What a namespace of `esxcli` is, what a command of it takes, and what it answers.

use std::collections::BTreeMap;

use crate::sim::call::Call;
use crate::sim::fault::VimFault;
use crate::sim::world::World;

/// A namespace such as `network.vm`, with its commands.
pub struct Namespace {
    pub name: &'static str,
    pub help: &'static str,
    pub commands: &'static [Command],
}

/// A command of a namespace.
pub struct Command {
    pub name: &'static str,
    pub help: &'static str,
    pub options: &'static [Opt],
    pub shape: Shape,
    pub act: fn(&mut World, &Call, &Arguments) -> Result<Told, Denial>,
}

/// An option of a command: `-o`, `--option`.
pub struct Opt {
    /// As people type it, without the dashes; without any dash it is its name on the wire.
    pub shown: &'static str,
    pub short: char,
    pub kind: Kind,
    pub required: bool,
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Truth,
}

impl Kind {
    /// Its name in descriptions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "long",
            Self::Truth => "boolean",
        }
    }
}

/// What a command answers.
pub enum Shape {
    /// One value.
    One(Kind),
    /// One record, by the name of its type.
    Record(&'static str, &'static [Column]),
    /// Records that are shown one below the other.
    List(&'static str, &'static [Column]),
    /// Records that are shown as rows of a table.
    Table(&'static str, &'static [Column]),
}

/// A field of a record: what it is called to people, and what it holds. Without spaces it is its name on the wire.
pub struct Column(pub &'static str, pub Kind);

/// What a command told: one value, or records in the order of the columns. A field has as many values as it has.
pub enum Told {
    One(String),
    Rows(Vec<Vec<Vec<String>>>),
}

/// A field with one value.
pub fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

/// Why a command was not carried out.
#[derive(Debug)]
pub enum Denial {
    /// There is no such namespace, object or command.
    NotFound,
    /// What the command itself says.
    Said(String),
}

impl Denial {
    pub fn said(why: impl Into<String>) -> Self {
        Self::Said(why.into())
    }

    pub fn message(&self) -> &'static str {
        match self {
            Self::NotFound => "The object or item referred to could not be found.",
            Self::Said(_) => "EsxCLI.CLIFault.summary",
        }
    }
}

impl From<VimFault> for Denial {
    fn from(fault: VimFault) -> Self {
        Self::Said(fault.message)
    }
}

impl Namespace {
    /// The object that has its commands.
    pub fn object(&self) -> String {
        format!("ha-cli-handler-{}", self.name.replace('.', "-"))
    }

    /// The last part of its name.
    pub fn shown(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

impl Shape {
    pub fn columns(&self) -> &'static [Column] {
        match self {
            Self::One(_) => &[],
            Self::Record(_, columns) | Self::List(_, columns) | Self::Table(_, columns) => columns,
        }
    }
}

impl Column {
    pub fn wire(&self) -> String {
        self.0.replace([' ', '-'], "")
    }
}

impl Opt {
    pub fn wire(&self) -> String {
        self.shown.replace('-', "")
    }
}

/// An option that may be left out.
pub const fn opt(shown: &'static str, short: char, kind: Kind, help: &'static str) -> Opt {
    Opt { shown, short, kind, required: false, help }
}

/// An option that a command needs.
pub const fn need(shown: &'static str, short: char, kind: Kind, help: &'static str) -> Opt {
    Opt { shown, short, kind, required: true, help }
}

/// What a client gave to a command.
#[derive(Debug, Default)]
pub struct Arguments(BTreeMap<String, Vec<String>>);

impl Arguments {
    pub fn add(&mut self, name: &str, values: Vec<String>) {
        self.0.entry(name.to_owned()).or_default().extend(values);
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.trim().parse().ok()
    }

    pub fn truth(&self, name: &str) -> Option<bool> {
        truth(self.text(name)?)
    }

    /// Whether what was given is what the command takes.
    pub fn check(&self, command: &Command) -> Result<(), Denial> {
        let wrong = |name: &str| Denial::Said(format!("Invalid data constraint for parameter '{name}'."));
        for (name, values) in &self.0 {
            let option = command.options.iter().find(|option| option.wire() == *name);
            let option = option.ok_or_else(|| Denial::Said(format!("Invalid parameter '{name}'.")))?;
            let fits = |value: &String| match option.kind {
                Kind::Text => true,
                Kind::Number => value.trim().parse::<i64>().is_ok(),
                Kind::Truth => truth(value).is_some(),
            };
            if values.is_empty() || !values.iter().all(fits) {
                return Err(wrong(name));
            }
        }
        match command.options.iter().find(|option| option.required && !self.0.contains_key(&option.wire())) {
            Some(option) => {
                Err(Denial::Said(format!("Missing required parameter -{}|--{}", option.short, option.shown)))
            }
            None => Ok(()),
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" => Some(true),
        "false" | "0" | "no" | "n" => Some(false),
        _ => None,
    }
}
