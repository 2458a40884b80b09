//! Where the cursor is: what the expression before it stands for, and which call's argument is being written.
//!
//! Reads tokens backwards, a bounded number of steps; it knows declarations and the session's names, and runs nothing.

use serde_json::Value;

use crate::door::operation::Place as At;
use crate::ops::{self, Declared};
use crate::script::lexer::{Kind, Token};
use crate::wire::{Known, What};

/// How many steps of an expression (`a.b[1]:c()`) are followed.
const STEPS: u8 = 16;

/// What an expression stands for, as far as that is known without running it.
#[derive(Debug, Clone)]
pub enum Shape<'a> {
    Binding(&'static str),
    Handle {
        kind: String,
        id: Option<u32>,
    },
    /// A list of handles of that kind.
    Handles(String),
    Known(&'a What),
    Log,
    Unknown,
}

/// A call whose arguments the cursor stands in.
pub struct Place<'a> {
    pub operation: &'static Declared,
    /// The handle of the host whose method it is.
    pub host: Option<u32>,
    /// Whether the cursor is inside of the call's table, and where in it: names of fields, and `None` for an item of a list.
    pub in_table: bool,
    pub path: Vec<Option<&'a str>>,
    /// The token that opens the arguments.
    opening: usize,
}

/// What the expression at the end of the tokens stands for.
pub fn shape<'a>(tokens: &[Token<'_>], globals: &'a [Known]) -> Shape<'a> {
    shape_within(tokens, globals, STEPS)
}

fn shape_within<'a>(tokens: &[Token<'_>], globals: &'a [Known], steps: u8) -> Shape<'a> {
    let Some((last, before)) = tokens.split_last() else { return Shape::Unknown };
    let Some(steps) = steps.checked_sub(1) else { return Shape::Unknown };
    match (last.kind, last.text) {
        (Kind::Symbol, ")" | "}") => match opening(tokens) {
            Some(open) => call(tokens.get(..open).unwrap_or_default(), globals, steps)
                .map_or(Shape::Unknown, |(operation, _)| of_schema(&operation.result_schema().to_value())),
            None => Shape::Unknown,
        },
        (Kind::Symbol, "]") => match opening(tokens) {
            Some(open) => item(shape_within(tokens.get(..open).unwrap_or_default(), globals, steps)),
            None => Shape::Unknown,
        },
        (Kind::Name, name) => match before.split_last() {
            Some((separator, owner)) if separator.text == "." => field(shape_within(owner, globals, steps), name),
            Some((separator, _)) if separator.text == ":" => Shape::Unknown,
            _ => global(name, globals),
        },
        _ => Shape::Unknown,
    }
}

fn global<'a>(name: &str, globals: &'a [Known]) -> Shape<'a> {
    if let Some(known) = globals.iter().find(|known| known.name == name) {
        return of(&known.what);
    }
    if name == "log" {
        return Shape::Log;
    }
    let mut bindings = ops::all().iter().filter_map(|declared| match declared.place {
        At::Function { binding, .. } => Some(binding),
        At::Method { .. } | At::Command { .. } => None,
    });
    bindings.find(|binding| *binding == name).map_or(Shape::Unknown, Shape::Binding)
}

fn of(what: &What) -> Shape<'_> {
    match what {
        What::Handle { id, kind } => Shape::Handle { kind: kind.clone(), id: Some(*id) },
        what => Shape::Known(what),
    }
}

fn field<'a>(owner: Shape<'a>, name: &str) -> Shape<'a> {
    match owner {
        Shape::Known(What::Table { fields, .. }) => {
            fields.iter().find(|known| known.name == name).map_or(Shape::Unknown, |known| of(&known.what))
        }
        _ => Shape::Unknown,
    }
}

fn item(list: Shape<'_>) -> Shape<'_> {
    match list {
        Shape::Known(What::Table { item: Some(item), .. }) => match of(item) {
            // Another item of the list is of the same kind, but not this one.
            Shape::Handle { kind, .. } => Shape::Handle { kind, id: None },
            shape => shape,
        },
        Shape::Handles(kind) => Shape::Handle { kind, id: None },
        _ => Shape::Unknown,
    }
}

fn of_schema(schema: &Value) -> Shape<'static> {
    let handle = |schema: &Value| schema.get("x-handle").and_then(Value::as_str).map(str::to_owned);
    if let Some(kind) = handle(schema) {
        return Shape::Handle { kind, id: None };
    }
    match schema.get("items").and_then(handle) {
        Some(kind) => Shape::Handles(kind),
        None => Shape::Unknown,
    }
}

/// The operation that the tokens before an opening bracket or a string name, and the receiver's number.
fn call(callee: &[Token<'_>], globals: &[Known], steps: u8) -> Option<(&'static Declared, Option<u32>)> {
    let (name, before) = callee.split_last().filter(|(name, _)| name.kind == Kind::Name)?;
    let (separator, owner) = before.split_last()?;
    match (separator.text, shape_within(owner, globals, steps)) {
        (".", Shape::Binding(owner)) => {
            find(name.text, |at| matches!(at, At::Function { binding, .. } if binding == owner))
                .map(|operation| (operation, None))
        }
        (":", Shape::Handle { kind, id }) => {
            find(name.text, |at| matches!(at, At::Method { kind: owner, .. } if owner == kind))
                .map(|operation| (operation, id))
        }
        // The receiver is not known: a method that only one kind has is that kind's.
        (":", Shape::Unknown) => {
            let mut all = ops::all()
                .iter()
                .filter(|declared| matches!(declared.place, At::Method { name: method, .. } if method == name.text));
            all.next().filter(|_| all.next().is_none()).map(|operation| (operation, None))
        }
        _ => None,
    }
}

fn find(name: &str, wanted: impl Fn(At) -> bool) -> Option<&'static Declared> {
    ops::all().iter().find(|declared| {
        let own = match declared.place {
            At::Function { name, .. } | At::Method { name, .. } | At::Command { name } => name,
        };
        own == name && wanted(declared.place)
    })
}

/// Where the bracket was opened that the last token closes.
fn opening(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().rev() {
        match token.text {
            ")" | "]" | "}" if token.kind == Kind::Symbol => depth += 1,
            "(" | "[" | "{" if token.kind == Kind::Symbol => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

/// The brackets that are open at the end, outermost first.
fn open(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut open = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Symbol) {
        match token.text {
            "(" | "[" | "{" => open.push(index),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
    }
    open
}

/// The call whose arguments the end of the tokens stands in.
pub fn place<'a>(tokens: &[Token<'a>], globals: &[Known]) -> Option<Place<'a>> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
    let made = |opening: usize, in_table: bool, path: Vec<Option<&'a str>>| {
        let (operation, id) = call(tokens.get(..opening)?, globals, STEPS)?;
        let host = id.filter(|_| operation.receiver() == Some("host"));
        Some(Place { operation, host, in_table, path, opening })
    };
    let open = open(tokens);
    // `host:vm "we`: the string itself is the argument.
    if tokens.last().is_some_and(|token| token.kind == Kind::Name)
        && let Some(place) = made(tokens.len(), false, Vec::new())
    {
        return Some(place);
    }
    let mut path = Vec::new();
    let mut braces = open.into_iter().rev().take(usize::from(STEPS));
    while let Some(index) = braces.next() {
        if text(index) == "(" {
            return if path.is_empty() { made(index, false, path) } else { None };
        }
        if text(index) != "{" {
            return None;
        }
        let before = index.checked_sub(1)?;
        match text(before) {
            "(" => {
                path.reverse();
                return made(before, true, path);
            }
            "=" => path.push(Some(before.checked_sub(1).map(text)?)),
            // A second argument: `f("a", { … })` belongs to the call whose parenthesis comes next.
            "," if braces.clone().next().is_some_and(|outer| text(outer) == "(") => {
                path.reverse();
                return made(braces.next()?, true, path);
            }
            "{" | "," => path.push(None),
            _ => {
                path.reverse();
                return made(index, true, path);
            }
        }
    }
    None
}

impl Place<'_> {
    /// The name of the argument whose value comes next.
    pub fn argument<'a>(&self, tokens: &[Token<'a>]) -> Option<&'a str>
    where
        Self: 'a,
    {
        if self.in_table {
            let (last, before) = tokens.split_last()?;
            return (last.text == "=").then(|| before.last().map(|name| name.text)).flatten();
        }
        let inside = tokens.get(self.opening..).unwrap_or_default();
        let mut depth = 0usize;
        let mut index = 0;
        for token in inside.iter().filter(|token| token.kind == Kind::Symbol) {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                "," if depth == 1 => index += 1,
                _ => {}
            }
        }
        let begins = inside.last().is_none_or(|token| matches!(token.text, "(" | ","));
        self.operation.positional.get(index).copied().filter(|_| begins)
    }
}

/// The names that the innermost table has already.
pub fn given<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let inside = open(tokens).last().and_then(|open| tokens.get(open + 1..)).unwrap_or_default();
    let mut depth = 0usize;
    let mut names = Vec::new();
    let mut before: Option<&Token<'a>> = None;
    for token in inside {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "=" if depth == 0 => names.extend(before.map(|name| name.text)),
            _ => {}
        }
        before = Some(token);
    }
    names
}

/// Whether a string that comes next is what `require` is given.
pub fn is_require(tokens: &[Token<'_>]) -> bool {
    let callee = match tokens.split_last() {
        Some((last, before)) if last.text == "(" => before,
        _ => tokens,
    };
    let mut callee = callee.iter().rev();
    callee.next().is_some_and(|name| name.text == "require")
        && callee.next().is_none_or(|before| !matches!(before.text, "." | ":"))
}

/// The part of a schema at a path of fields and items.
pub fn within<'a>(schema: &'a Value, path: &[Option<&str>]) -> Option<&'a Value> {
    let mut schema = present(schema);
    for step in path {
        schema = match step {
            Some(field) => present(schema.get("properties")?.get(*field)?),
            None => present(schema.get("items")?),
        };
    }
    Some(schema)
}

/// An optional value's schema without its "or nothing": of several forms the one that has parts.
fn present(schema: &Value) -> &Value {
    let forms = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array());
    let Some(forms) = forms else { return schema };
    let parts = |form: &&Value| form.get("properties").is_some() || form.get("items").is_some();
    forms.iter().find(parts).or_else(|| forms.first()).unwrap_or(schema)
}

/// The words that a schema allows.
pub fn choices(schema: &Value) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    words.extend(schema.get("const").and_then(text));
    words.extend(schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(text));
    for form in ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten() {
        words.extend(form.get("const").and_then(text));
        words.extend(form.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(text));
    }
    words
}
