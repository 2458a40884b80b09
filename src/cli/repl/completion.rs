//! What TAB offers: names, methods, parameters, modules, topics, and the names of what lies on a host.
//!
//! It looks at the tokens before the cursor and at the declarations; what only the session knows it asks of [`Surroundings`]. A text
//! may be anything: no candidate is the answer to what is not understood.

use super::commands::COMMANDS;
use super::syntax::{self, Place, Shape};
use crate::config::Mode;
use crate::door::operation::{Place as At, Selector};
use crate::ops::{self, Declared};
use crate::run::output::one_line;
use crate::script::lexer::{KEYWORDS, Kind, Token, tokens};
use crate::wire::{Known, What};

/// Texts beyond this are not completed: every key counts.
const LONGEST: usize = 64 << 10;

/// Globals of Luau that a script has.
const LUAU: [&str; 24] = [
    "assert",
    "bit32",
    "buffer",
    "coroutine",
    "error",
    "getmetatable",
    "ipairs",
    "log",
    "math",
    "next",
    "os",
    "pairs",
    "pcall",
    "print",
    "require",
    "select",
    "setmetatable",
    "string",
    "table",
    "tonumber",
    "tostring",
    "type",
    "typeof",
    "utf8",
];

/// What completion must ask of the session.
pub trait Surroundings {
    /// What the chunks so far left behind.
    fn globals(&self) -> &[Known];
    /// The names of the hosts that are configured.
    fn hosts(&self) -> Vec<String>;
    /// What `:help` knows.
    fn topics(&self) -> Vec<String>;
    /// The readable fields of a handle.
    fn fields(&self, handle: u32) -> Vec<String>;
    /// The names of the things of a noun on a host, read through the door like any call.
    fn names(&mut self, noun: &str, host: u32) -> Vec<String>;
}

/// Where the word begins that TAB completes, and what it may become.
pub fn complete(line: &str, cursor: usize, around: &mut dyn Surroundings) -> (usize, Vec<String>) {
    let Some(text) = line.get(..cursor).filter(|text| text.len() <= LONGEST) else { return (cursor, Vec::new()) };
    if let Some(command) = text.strip_prefix(':') {
        return commanded(command, around);
    }
    let all: Vec<Token<'_>> = tokens(text).filter(|token| token.kind != Kind::Space).collect();
    let (start, prefix, before) = match all.split_last() {
        Some((last, _)) if last.kind == Kind::Comment && last.end() == text.len() => return (cursor, Vec::new()),
        Some((last, before)) if last.kind == Kind::Text && !last.whole => {
            let prefix = last.text.get(1..).unwrap_or_default();
            return (last.start + 1, fitting(prefix, quoted(before, around)));
        }
        Some((last, before)) if last.kind == Kind::Name && last.end() == text.len() => (last.start, last.text, before),
        Some((last, _)) if last.kind == Kind::Number && last.end() == text.len() => return (cursor, Vec::new()),
        _ => (cursor, "", all.as_slice()),
    };
    (start, fitting(prefix, named(before, prefix, around)))
}

fn fitting(prefix: &str, mut names: Vec<String>) -> Vec<String> {
    // A name that would have to be escaped, or that a terminal obeys, is left to be typed.
    names.retain(|name| {
        name.starts_with(prefix) && !name.contains(['"', '\'', '\\', '`']) && one_line(name) == name.as_str()
    });
    names.sort();
    names.dedup();
    names
}

/// Behind `:`.
fn commanded(command: &str, around: &dyn Surroundings) -> (usize, Vec<String>) {
    let Some((name, rest)) = command.split_once(char::is_whitespace) else {
        return (1, fitting(command, COMMANDS.iter().map(|command| command.name.to_owned()).collect()));
    };
    let word = rest.trim_start();
    let names = match name {
        "help" => around.topics(),
        "mode" => Mode::ALL.map(|mode| mode.name().to_owned()).to_vec(),
        "host" => around.hosts(),
        "load" => files(word),
        _ => Vec::new(),
    };
    (1 + command.len() - word.len(), fitting(word, names))
}

/// The scripts and folders that a path may become.
fn files(word: &str) -> Vec<String> {
    let (folder, shown) = match word.rsplit_once('/') {
        Some(("", _)) => ("/", "/".to_owned()),
        Some((folder, _)) => (folder, format!("{folder}/")),
        None => (".", String::new()),
    };
    // A folder that cannot be read has nothing to offer.
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let offer = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_script = name.ends_with(".luau") || name.ends_with(".lua");
        (is_folder || is_script).then(|| format!("{shown}{name}{}", if is_folder { "/" } else { "" }))
    };
    entries.filter_map(Result::ok).take(10_000).filter_map(offer).collect()
}

/// A name outside of strings: a member, a parameter, a global.
fn named(before: &[Token<'_>], prefix: &str, around: &mut dyn Surroundings) -> Vec<String> {
    match before.last().map(|token| token.text) {
        Some(separator @ ("." | ":")) => {
            let owner = before.get(..before.len() - 1).unwrap_or_default();
            let shape = syntax::shape(owner, around.globals());
            return members(&shape, separator == ":", around);
        }
        Some("{" | ",") => {
            if let Some(place) = syntax::place(before, around.globals())
                && place.in_table
            {
                return parameters(&place, before);
            }
        }
        _ => {}
    }
    let mut names: Vec<String> = around.globals().iter().map(|known| known.name.clone()).collect();
    names.extend(bindings().into_iter().map(str::to_owned));
    names.extend(LUAU.map(str::to_owned));
    if !prefix.is_empty() {
        names.extend(KEYWORDS.map(str::to_owned));
    }
    names
}

/// The names that ceso gives to a script: `esxi`, `cloudinit`, …
pub fn bindings() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for declared in ops::all() {
        if let At::Function { binding, .. } = declared.place
            && !names.contains(&binding)
        {
            names.push(binding);
        }
    }
    names
}

fn members(shape: &Shape<'_>, methods: bool, around: &dyn Surroundings) -> Vec<String> {
    match shape {
        Shape::Binding(owner) if !methods => ops::all()
            .iter()
            .filter_map(|declared| match declared.place {
                At::Function { binding, name } if binding == *owner => Some(name.to_owned()),
                _ => None,
            })
            .collect(),
        Shape::Handle { kind, .. } if methods => methods_of(kind).map(|(name, _)| name.to_owned()).collect(),
        Shape::Handle { id: Some(id), .. } => around.fields(*id),
        Shape::Known(What::Table { fields, .. }) => fields.iter().map(|known| known.name.clone()).collect(),
        Shape::Log if !methods => ["debug", "info", "warn", "error"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}

fn methods_of(kind: &str) -> impl Iterator<Item = (&'static str, &'static Declared)> + use<'_> {
    ops::all().iter().filter_map(move |declared| match declared.place {
        At::Method { kind: owner, name } if owner == kind => Some((name, declared)),
        _ => None,
    })
}

/// The parameters of a call's table that are not given yet.
fn parameters(place: &Place<'_>, before: &[Token<'_>]) -> Vec<String> {
    let schema = place.operation.arguments_schema().to_value();
    let Some(properties) = syntax::within(&schema, &place.path).and_then(|schema| schema.get("properties")) else {
        return Vec::new();
    };
    let given = syntax::given(before);
    let receiver = place.path.is_empty().then(|| place.operation.receiver()).flatten();
    let names = properties.as_object().into_iter().flat_map(|properties| properties.keys());
    names
        .filter(|name| Some(name.as_str()) != receiver && !given.contains(&name.as_str()))
        .map(|name| format!("{name} = "))
        .collect()
}

/// What may stand in a string that begins behind these tokens.
fn quoted(before: &[Token<'_>], around: &mut dyn Surroundings) -> Vec<String> {
    if syntax::is_require(before) {
        return crate::script::standard_modules();
    }
    let Some(place) = syntax::place(before, around.globals()) else { return Vec::new() };
    let Some(argument) = place.argument(before) else { return Vec::new() };
    if place.path.is_empty() {
        let about = place
            .operation
            .touches
            .iter()
            .find(|touch| matches!(touch.selector, Selector::Argument(name) if name == argument));
        match about.map(|touch| (touch.noun, touch.verb)) {
            Some(("host", _)) => return around.hosts(),
            // A new name is nobody's yet.
            Some((_, "create")) | None => {}
            Some((noun, _)) => return place.host.map_or_else(Vec::new, |host| around.names(noun, host)),
        }
        if place.operation.name == "vm.find" {
            return place.host.map_or_else(Vec::new, |host| around.names("vm", host));
        }
    }
    let schema = place.operation.arguments_schema().to_value();
    let field = syntax::within(&schema, &place.path).and_then(|schema| schema.get("properties")?.get(argument));
    field.map(syntax::choices).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Session {
        globals: Vec<Known>,
        asked: Vec<(String, u32)>,
    }

    impl Surroundings for Session {
        fn globals(&self) -> &[Known] {
            &self.globals
        }
        fn hosts(&self) -> Vec<String> {
            vec!["sim".to_owned(), "esx-1".to_owned()]
        }
        fn topics(&self) -> Vec<String> {
            vec!["vm.clone".to_owned()]
        }
        fn fields(&self, _: u32) -> Vec<String> {
            vec!["name".to_owned(), "power".to_owned()]
        }
        fn names(&mut self, noun: &str, host: u32) -> Vec<String> {
            self.asked.push((noun.to_owned(), host));
            vec![
                "web-1".to_owned(),
                "web-2".to_owned(),
                "db".to_owned(),
                "ev\"il".to_owned(),
                "\x1b[2J".to_owned(),
                "\u{202e}".to_owned(),
            ]
        }
    }

    fn session() -> Session {
        let handle = |id, kind: &str| What::Handle { id, kind: kind.to_owned() };
        let known = |name: &str, what| Known { name: name.to_owned(), what };
        let list = What::Table { fields: vec![], item: Some(Box::new(handle(9, "vm"))) };
        let table = What::Table { fields: vec![known("main", handle(4, "host"))], item: None };
        Session {
            globals: vec![
                known("host", handle(3, "host")),
                known("machines", list),
                known("hosts", table),
                known("vm", handle(9, "vm")),
            ],
            asked: Vec::new(),
        }
    }

    /// The candidates at the end of the text, each put in its place.
    fn offered(text: &str) -> Vec<String> {
        let (start, names) = complete(text, text.len(), &mut session());
        assert!(text.is_char_boundary(start));
        names
    }

    #[test]
    fn names_bindings_and_keywords() {
        assert_eq!(offered("hos"), ["host", "hosts"]);
        assert_eq!(offered("esx"), ["esxi"]);
        assert_eq!(offered("x = cloud"), ["cloudinit"]);
        assert_eq!(offered("loc"), ["local"]);
        assert_eq!(offered("esxi."), ["connect", "inventory"]);
        assert_eq!(offered("log.w"), ["warn"]);
        assert_eq!(offered("hosts."), ["main"]);
    }

    #[test]
    fn methods_follow_the_kind_of_the_handle() {
        assert!(offered("host:").contains(&"clone".to_owned()) && !offered("host:").contains(&"power_on".to_owned()));
        assert_eq!(offered("print(vm:power_o"), ["power_off", "power_on"]);
        assert_eq!(offered("vm.p"), ["power"]);
        assert_eq!(offered("machines[1]:power_on"), ["power_on"]);
        assert_eq!(offered("hosts.main:datas"), ["datastore", "datastores"]);
        assert!(offered("esxi.connect():").contains(&"vms".to_owned()), "of what a call gives");
        assert!(offered("host:vm(\"a\"):power_o").contains(&"power_on".to_owned()));
        assert!(offered("host:vms()[1]:power_o").contains(&"power_on".to_owned()));
        assert!(offered("nobody:").is_empty() && offered("x.y.z").is_empty());
    }

    #[test]
    fn parameters_of_a_calls_table() {
        assert_eq!(offered("host:clone{ te"), ["template = "]);
        assert_eq!(offered("host:clone({ template = \"a\", na"), ["name = "]);
        let all = offered("host:clone({ template = \"a\", ");
        assert!(all.contains(&"name = ".to_owned()), "{all:?}");
        assert!(!all.contains(&"template = ".to_owned()) && !all.contains(&"host = ".to_owned()), "{all:?}");
        assert_eq!(offered("cloudinit.build({ hostn"), ["hostname = "]);
        assert!(offered("cloudinit.build({ users = { { ssh").iter().any(|name| name.starts_with("ssh")), "nested");
        assert!(offered("print({ te").iter().all(|name| !name.contains('=')));
    }

    #[test]
    fn modules_topics_modes_and_hosts() {
        assert!(offered("require(\"@ceso/fl").contains(&"@ceso/fleet".to_owned()));
        assert!(offered("local t = require '").contains(&"@ceso/task".to_owned()));
        assert_eq!(offered(":he"), ["help"]);
        assert_eq!(offered(":help vm.c"), ["vm.clone"]);
        assert_eq!(offered(":mode r"), ["restricted"]);
        assert_eq!(offered(":host s"), ["sim"]);
        assert_eq!(offered("esxi.connect(\"e"), ["esx-1"]);
    }

    #[test]
    fn live_names_are_asked_of_the_right_host_and_only_where_a_name_stands() {
        let asked = |text: &str| {
            let mut session = session();
            let (_, names) = complete(text, text.len(), &mut session);
            (names, session.asked)
        };
        let web = vec!["web-1".to_owned(), "web-2".to_owned()];
        assert_eq!(asked("host:vm(\"we"), (web.clone(), vec![("vm".to_owned(), 3)]));
        assert_eq!(asked("host:vm('we"), (web.clone(), vec![("vm".to_owned(), 3)]));
        assert_eq!(asked("host:vm \"we"), (web.clone(), vec![("vm".to_owned(), 3)]));
        assert_eq!(asked("hosts.main:vm(\"we"), (web.clone(), vec![("vm".to_owned(), 4)]));
        assert_eq!(asked("host:clone({ template = \"we"), (web, vec![("vm".to_owned(), 3)]));
        assert_eq!(asked("host:clone({ name = \"we"), (vec![], vec![]), "a new name");
        assert_eq!(asked("print(\"we"), (vec![], vec![]));
        let (names, _) = asked("host:vm(\"");
        assert_eq!(names, ["db", "web-1", "web-2"]);
    }

    #[test]
    fn any_text_is_taken() {
        for text in [
            "",
            ":",
            "::",
            ".",
            "a.",
            ":help ",
            "{",
            "({[",
            "\"",
            "'\\",
            "`{",
            "f(\"",
            "--",
            "-- a",
            "[[",
            "12",
            "é.",
            "日本",
            "\u{0}",
            ")):",
            "x:y(\"",
            "esxi.connect(esxi.connect(",
            "host:clone({{{{",
            "host:clone{=,",
        ] {
            offered(text);
            for cursor in 0..text.len() + 3 {
                complete(text, cursor, &mut session());
            }
        }
        for text in ["(", "{", "f(", "f{", "a.", "a[1]", "f()"] {
            offered(&text.repeat(20_000));
        }
    }
}
