//! The definitions for editors: what luau-lsp's `--definitions` reads.
//!
//! Handles are extern types, arguments and results named tables with their docs, positional and named calls overloads. The committed
//! copy is `lua/types/ceso.d.luau`; a test fails when it drifts. A definition file cannot say what `require` gives, so that the
//! modules of the standard library are named types: `local fleet: CesoFleet = require("@ceso/fleet")`.

use super::modules::Module;
use super::shape::{Field, Fields, Shape};
use super::{Entry, Handle, Reference};
use crate::door::vocabulary;

const HEADER: &str = "\
-- Types of ceso's bindings, for luau-lsp. Made by `ceso types`: do not edit.
--
--   luau-lsp analyze --definitions:@ceso=ceso.d.luau PLAYBOOK.luau
--
-- The module \"@ceso/fleet\" has the type CesoFleet, and so on: `local fleet: CesoFleet = require(\"@ceso/fleet\")`.

--- A size: \"2 GiB\", or a number of bytes.
export type Size = string | number

--- A length of time: \"5 min\", or a number of seconds.
export type Duration = string | number

--- What is raised: `kind` for programs, `message` for people, `hint` for what to do next.
export type Fault = {
  kind: string,
  message: string,
  hint: string?,
  --- Whether the same call may succeed when it is made again.
  retry: boolean,
}

--- What came of one task.
export type Outcome<T> = { ok: true, value: T } | { ok: false, fault: Fault }

--- What an entry selects: a name, a prefix with `*` at its end, `*`, or `@made`; with a quota as `{ name = …, max = … }`.
export type Rule = string | { string } | { name: string | { string }, max: number? }
";

const PLAYBOOK: &str = "\
--- A parameter of a playbook. It is required unless it has a default or is optional.
export type Parameter = {
  type: \"string\" | \"number\" | \"bool\" | \"size\" | \"duration\" | \"cidr\" | \"list\" | \"choice\",
  doc: string?,
  default: any,
  optional: boolean?,
  --- Its place among the words of a command that are not flags, from 1.
  position: number?,
  --- The type of a list's items.
  of: (\"string\" | \"number\" | \"bool\" | \"size\" | \"duration\" | \"cidr\")?,
  --- What can be chosen.
  choices: { string }?,
}

--- What a playbook returns.
export type Playbook = {
  summary: string?,
  doc: string?,
  params: { [string]: Parameter }?,
  --- The columns of its result as a table for people, in their order. Default: all. JSON and CSV have all of the result.
  columns: { string }?,
  needs: Needs?,
  run: (parameters: any) -> any,
}

--- What a test's simulator holds beside its template when the test begins. A test's own `setup` replaces that of its file.
export type TestSetup = {
  vms: { {
    name: string,
    power: (\"on\" | \"off\")?,
    cpus: number?,
    memory: Size?,
    notes: string?,
    --- The networks of its cards. Default: one card on `VM Network`.
    networks: { string }?,
    --- The address that its first card gets by DHCP.
    ip: string?,
    --- Extra configuration, `guestinfo.*` included.
    extra_config: { [string]: string }?,
  } }?,
  --- Port groups beside `VM Network`.
  networks: { string }?,
  --- Whether the template `debian-12` is there. Default: true.
  template: boolean?,
}

--- What a file of tests returns: `NAME_test.luau`, run by `ceso test`.
export type Suite = {
  summary: string?,
  setup: TestSetup?,
  --- How long each test may take. Default: \"1 min\".
  timeout: Duration?,
  before_each: ((t: test) -> ())?,
  --- Runs also where the test failed.
  after_each: ((t: test) -> ())?,
  --- By what they promise; run in the order of their lines.
  tests: { [string]: ((t: test) -> ()) | { run: (t: test) -> (), skip: (boolean | string)?, setup: TestSetup?, timeout: Duration? } },
}

--- Log lines, on the standard error stream. Values are joined with blanks.
declare log: {
  debug: (...any) -> (),
  info: (...any) -> (),
  warn: (...any) -> (),
  error: (...any) -> (),
}
";

/// Writes the whole file.
pub fn definitions(reference: &Reference) -> String {
    let mut out = String::from(HEADER);
    for fields in reference.tables.values() {
        out.push('\n');
        table(&mut out, &fields.name, fields);
    }
    for entry in reference.entries.iter().filter(|entry| is_named(entry)) {
        out.push('\n');
        let doc = format!("The arguments of {}.", entry.declared.spelled());
        let fields = Fields { name: arguments_name(entry), doc, fields: entry.arguments.clone() };
        table(&mut out, &fields.name, &fields);
    }
    for handle in &reference.handles {
        out.push('\n');
        extern_type(&mut out, handle, reference);
    }
    for module in &reference.modules {
        out.push('\n');
        module_type(&mut out, module);
    }
    out.push('\n');
    needs(&mut out);
    out.push('\n');
    out.push_str(PLAYBOOK);
    for binding in reference.bindings() {
        out.push_str(&format!("\ndeclare {binding}: {{\n"));
        for entry in reference.functions(binding) {
            comment(&mut out, &entry.summary, "  ");
            out.push_str(&format!("  {}: {},\n", method(entry), calls(entry, None)));
        }
        out.push_str("}\n");
    }
    out
}

/// A shape as a type of Luau.
pub fn type_of(shape: &Shape) -> String {
    match shape {
        Shape::Nothing => "nil".to_owned(),
        Shape::Free | Shape::Any => "any".to_owned(),
        Shape::Open => "{ [string]: any }".to_owned(),
        Shape::Text | Shape::Size { number: false } | Shape::Duration { number: false } => "string".to_owned(),
        Shape::Number | Shape::Whole => "number".to_owned(),
        Shape::Flag => "boolean".to_owned(),
        Shape::Size { number: true } => "Size".to_owned(),
        Shape::Duration { number: true } => "Duration".to_owned(),
        Shape::Word(words) => words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" | "),
        Shape::List(inner) => format!("{{ {} }}", type_of(inner)),
        Shape::Map(inner) => format!("{{ [string]: {} }}", type_of(inner)),
        Shape::Table(name) => name.clone(),
        Shape::Handle(kind) => kind.clone(),
        Shape::Either(shapes) => {
            let members = flat(shapes);
            let known: Vec<&Shape> = members.iter().copied().filter(|shape| **shape != Shape::Nothing).collect();
            let text = known.iter().map(|shape| type_of(shape)).collect::<Vec<_>>().join(" | ");
            match (known.as_slice(), known.len() < members.len()) {
                (_, false) => text,
                ([Shape::Word(words)], true) if words.len() > 1 => format!("({text})?"),
                ([_], true) => format!("{text}?"),
                (_, true) => format!("({text})?"),
            }
        }
    }
}

/// The members of a union, those of unions within it included.
fn flat(shapes: &[Shape]) -> Vec<&Shape> {
    shapes
        .iter()
        .flat_map(|shape| match shape {
            Shape::Either(inner) => flat(inner),
            other => vec![other],
        })
        .collect()
}

/// A field's type, with `?` where it may be left out.
pub fn type_of_field(field: &Field) -> String {
    if field.optional {
        type_of(&Shape::Either(vec![field.shape.clone(), Shape::Nothing]))
    } else {
        type_of(&field.shape)
    }
}

/// What a call gives, as the return type of a function.
fn gives(entry: &Entry) -> String {
    match &entry.result {
        Shape::Nothing => "()".to_owned(),
        shape => type_of(shape),
    }
}

/// The name of an operation within its binding or handle.
pub fn method(entry: &Entry) -> &'static str {
    use crate::door::operation::Place;
    match entry.declared.place {
        Place::Function { name, .. } | Place::Method { name, .. } | Place::Command { name } => name,
    }
}

/// Whether its arguments are a named table of their own; a single table that is declared already needs none.
fn is_named(entry: &Entry) -> bool {
    !entry.arguments.is_empty()
}

fn arguments_name(entry: &Entry) -> String {
    let words = entry.declared.name.split(['.', '_']);
    let mut name: String = words
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
        })
        .collect();
    name.push_str("Arguments");
    name
}

/// The type of a call: one function, or an overload for each way to pass the arguments.
fn calls(entry: &Entry, receiver: Option<&str>) -> String {
    let this = receiver.map(|kind| format!("self: {kind}"));
    let gives = gives(entry);
    let function = |parameters: Vec<String>| {
        let all: Vec<String> = this.clone().into_iter().chain(parameters).collect();
        format!("({}) -> {gives}", all.join(", "))
    };
    if entry.arguments.is_empty() {
        return function(Vec::new());
    }
    let optional = if entry.arguments.iter().all(|field| field.optional) { "?" } else { "" };
    let named = |optional| function(vec![format!("arguments: {}{optional}", arguments_name(entry))]);
    let positional: Vec<&Field> = entry.positional().collect();
    if positional.is_empty() {
        return named(optional);
    }
    let mut parameters: Vec<String> =
        positional.iter().map(|field| format!("{}: {}", field.name, type_of_field(field))).collect();
    let rest: Vec<&Field> = entry.arguments.iter().filter(|field| !positional.contains(field)).collect();
    // One that stands alone is a union, which the type checker reads better than an overload: it takes `any`, and says what it wants.
    if let ([only], []) = (positional.as_slice(), rest.as_slice()) {
        let either = Shape::Either(vec![only.shape.clone(), Shape::Table(arguments_name(entry))]);
        let field = Field { shape: either, ..(*only).clone() };
        return function(vec![format!("{}: {}", field.name, type_of_field(&field))]);
    }
    // With more behind it that may be left out, a union too: the checker takes a table's literal for what it is only where it need not choose.
    if let [only] = positional.as_slice()
        && rest.iter().all(|field| field.optional)
    {
        let either = Shape::Either(vec![only.shape.clone(), Shape::Table(arguments_name(entry))]);
        let field = Field { shape: either, ..(*only).clone() };
        let more: Vec<String> = rest.iter().map(|field| format!("{}: {}", field.name, type_of_field(field))).collect();
        return function(vec![
            format!("{}: {}", field.name, type_of_field(&field)),
            format!("rest: {{ {} }}?", more.join(", ")),
        ]);
    }
    if !rest.is_empty() {
        let fields: Vec<String> =
            rest.iter().map(|field| format!("{}: {}", field.name, type_of_field(field))).collect();
        let optional = if rest.iter().all(|field| field.optional) { "?" } else { "" };
        parameters.push(format!("rest: {{ {} }}{optional}", fields.join(", ")));
    }
    // A call without any argument must fit one of the overloads alone.
    format!("({}) & ({})", function(parameters), named(""))
}

fn extern_type(out: &mut String, handle: &Handle, reference: &Reference) {
    comment(out, &handle.summary, "");
    out.push_str(&format!("declare extern type {} with\n", handle.kind));
    for field in &handle.fields {
        comment(out, &field.doc, "  ");
        out.push_str(&format!("  {}: {}\n", field.name, type_of_field(field)));
    }
    for entry in reference.methods(handle.kind) {
        comment(out, &entry.summary, "  ");
        out.push_str(&format!("  {}: {}\n", method(entry), calls(entry, Some(handle.kind))));
    }
    out.push_str("end\n");
}

fn table(out: &mut String, name: &str, fields: &Fields) {
    comment(out, &fields.doc, "");
    out.push_str(&format!("export type {name} = {{\n"));
    for field in &fields.fields {
        comment(out, &field.doc, "  ");
        out.push_str(&format!("  {}: {},\n", field.name, type_of_field(field)));
    }
    out.push_str("}\n");
}

/// The name of a module's type: `CesoFleet`.
pub fn module_name(module: &Module) -> String {
    let mut letters = module.short().chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    format!("Ceso{}", first.into_iter().chain(letters).collect::<String>())
}

fn module_type(out: &mut String, module: &Module) {
    comment(out, &format!("The module {:?}. {}", module.name, module.doc), "");
    out.push_str(&format!("export type {} = {{\n", module_name(module)));
    for function in &module.functions {
        comment(out, &function.doc, "  ");
        let result = if function.result.is_empty() { "()" } else { &function.result };
        let (name, generics, parameters) = (&function.name, &function.generics, &function.parameters);
        out.push_str(&format!("  {name}: {generics}({parameters}) -> {result},\n"));
    }
    out.push_str("}\n");
}

fn needs(out: &mut String) {
    out.push_str("--- A capability table: what a playbook asks for.\nexport type Needs = {\n  version: number?,\n");
    for noun in vocabulary::NOUNS {
        out.push_str(&format!("  {}: {{\n", noun.name));
        for (verb, doc) in noun.verbs {
            comment(out, doc, "    ");
            out.push_str(&format!("    {verb}: Rule?,\n"));
        }
        out.push_str("  }?,\n");
    }
    out.push_str("}\n");
}

fn comment(out: &mut String, doc: &str, indent: &str) {
    for line in doc.lines().filter(|line| !line.trim().is_empty()) {
        out.push_str(&format!("{indent}--- {line}\n"));
    }
}
