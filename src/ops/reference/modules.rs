//! The modules of the standard library, read from their own text: `---` comments, signatures, `@usage`.
//!
//! The form is what luau-lsp reads: the comment lines right above a function; the first block of a file is about the module. The
//! modules themselves lie in `lua/std`, but `@ceso/task`, which is part of the worker's prelude.

use std::sync::LazyLock;

use include_dir::{Dir, include_dir};

static STANDARD: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/lua/std");
const PRELUDE: &str = include_str!("../../script/prelude.luau");
const TASK: &str = "Several things at once, waiting, and cleaning up.";

/// A module of the standard library.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// As it is required: `@ceso/fleet`.
    pub name: String,
    pub doc: String,
    pub functions: Vec<Function>,
}

/// A function of a module.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub name: String,
    /// The generic parameters with their brackets: `<T, R>`.
    pub generics: String,
    /// The parameters with their types, without the parentheses.
    pub parameters: String,
    /// The type of the result; empty where there is none.
    pub result: String,
    pub doc: String,
    /// What `@param NAME text` says.
    pub notes: Vec<(String, String)>,
    /// What `@return text` says.
    pub returns: String,
    pub usage: String,
}

impl Module {
    /// The last part of its name: `fleet`.
    pub fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

impl Function {
    /// As a reader sees it: `map<T>(items: { T }): { T }`.
    pub fn signature(&self) -> String {
        let result = if self.result.is_empty() { String::new() } else { format!(": {}", self.result) };
        format!("{}{}({}){result}", self.name, self.generics, self.parameters)
    }
}

/// All modules, in order of their names.
pub fn all() -> Vec<Module> {
    static ALL: LazyLock<Vec<Module>> = LazyLock::new(|| {
        let mut modules: Vec<Module> = STANDARD
            .files()
            .filter_map(|file| Some((file.path().file_stem()?.to_str()?, file.contents_utf8()?)))
            .map(|(stem, text)| read(stem, text))
            .collect();
        modules.push(Module { doc: TASK.to_owned(), ..read("task", PRELUDE) });
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        modules
    });
    ALL.clone()
}

/// Reads a module's text. Only functions of its own table count: `function fleet.map(…)`.
fn read(stem: &str, text: &str) -> Module {
    let mut module = Module { name: format!("@ceso/{stem}"), doc: String::new(), functions: Vec::new() };
    let prefix = format!("function {stem}.");
    let mut comment: Vec<&str> = Vec::new();
    let mut lines = text.lines();
    let mut first = true;
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("---").filter(|text| text.is_empty() || text.starts_with(' ')) {
            comment.push(text.trim());
            continue;
        }
        if let Some(rest) = line.strip_prefix(&prefix) {
            let mut signature = rest.to_owned();
            while depth(&signature) > 0 {
                let Some(more) = lines.next() else { break };
                signature.push(' ');
                signature.push_str(more.trim());
            }
            module.functions.extend(function(&signature, &comment));
        } else if first && !comment.is_empty() {
            module.doc = comment.join(" ");
        }
        first &= comment.is_empty();
        comment.clear();
    }
    module
}

fn depth(text: &str) -> i32 {
    text.chars().fold(0, |depth, c| match c {
        '(' | '{' => depth + 1,
        ')' | '}' => depth - 1,
        _ => depth,
    })
}

fn function(signature: &str, comment: &[&str]) -> Option<Function> {
    let open = signature.find('(')?;
    let (head, rest) = signature.split_at_checked(open)?;
    let mut level = 0;
    let close = rest.char_indices().find_map(|(at, c)| {
        level += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (level == 0).then_some(at)
    })?;
    let parameters = rest.get(1..close)?.trim().trim_end_matches(',').to_owned();
    let result = rest.get(close + 1..)?.trim().trim_start_matches(':').trim().to_owned();
    let (name, generics) = match head.find('<') {
        Some(at) => head.split_at_checked(at)?,
        None => (head, ""),
    };
    let mut function = Function {
        name: name.trim().to_owned(),
        generics: generics.trim().to_owned(),
        parameters,
        result,
        doc: String::new(),
        notes: Vec::new(),
        returns: String::new(),
        usage: String::new(),
    };
    let mut doc = Vec::new();
    for line in comment {
        match line.split_once(' ') {
            Some(("@usage", usage)) => function.usage = usage.trim().to_owned(),
            Some(("@return", text)) => function.returns = text.trim().to_owned(),
            Some(("@param", text)) => {
                let (name, text) = text.split_once(' ').unwrap_or((text, ""));
                function.notes.push((name.to_owned(), text.trim().to_owned()));
            }
            _ => doc.push(*line),
        }
    }
    function.doc = doc.join(" ");
    Some(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_above_a_function_are_its_reference() {
        let text = "--- About it.\n--- More.\nlocal m = {}\n\n--- Not this.\nlocal function own() end\n\n--- Does it.\n\
                    --- @param a what\n--- @return that\n--- @usage m.f(1)\nfunction m.f<T>(\n  a: { T },\n  b: (T) -> ()\n): T?\nend\n\n\
                    --- Is it.\nfunction m.g()\nend\nfunction other.h() end\n";
        let module = read("m", text);
        assert_eq!((module.name.as_str(), module.doc.as_str()), ("@ceso/m", "About it. More."));
        let [f, g] = module.functions.as_slice() else { panic!("{module:?}") };
        assert_eq!(f.signature(), "f<T>(a: { T }, b: (T) -> ()): T?");
        assert_eq!(f.notes, [("a".to_owned(), "what".to_owned())]);
        assert_eq!((f.doc.as_str(), f.returns.as_str(), f.usage.as_str()), ("Does it.", "that", "m.f(1)"));
        assert_eq!((g.signature().as_str(), g.doc.as_str()), ("g()", "Is it."));
    }

    #[test]
    fn a_text_that_is_cut_off_is_no_panic() {
        for text in ["--- a\nfunction m.f(a: {", "function m.", "function m.f)(", "---", "function m.f(é: {\n}"] {
            read("m", text);
        }
    }
}
