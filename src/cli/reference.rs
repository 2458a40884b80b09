//! The whole reference, as one Markdown file and as the topics of `ceso doc`: what `ops` tells of the calls, and beside it what only
//! the rooms above know: parameters of playbooks, limits, settings, exit codes.
//!
//! Everything here is read from declarations; the committed copy is `lua/reference.md`, and a test fails when it drifts.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::{Sandbox, Settings};
use crate::door::vocabulary;
use crate::error::{EXIT_CODES, FAMILIES};
use crate::metrics;
use crate::ops::reference::page::{self, Block};
use crate::ops::reference::peers;
use crate::ops::reference::shape::{Fields, Shape};
use crate::ops::reference::{Reference, luau};
use crate::run::{params, suite};

use Block::{Code, Heading, Rows, Text};

/// The reference as one Markdown file.
pub fn whole(reference: &Reference) -> String {
    let mut book = vec![
        Heading(1, "Reference".to_owned()),
        Text(
            "What a script can call, what it is given, and what it must ask for. Made by `ceso doc --markdown` from the declarations: \
             do not edit. `ceso doc NAME` prints one part of it."
                .to_owned(),
        ),
    ];
    book.push(Heading(2, "Operations".to_owned()));
    book.push(Text(
        "An operation is a function of a binding (`esxi.connect`) or a method of a handle (`vm:power_on`). Arguments are given by name \
         in a table; where the first line of an operation shows it, also by position. Unknown names are errors. Errors are raised as \
         tables with `kind`, `message`, `hint` and `retry`, and `pcall` sees them."
            .to_owned(),
    ));
    book.push(overview(reference));
    for noun in nouns(reference) {
        book.push(Heading(3, format!("Operations of `{noun}`")));
        let own = reference.entries.iter().filter(|entry| entry.declared.name.split('.').next() == Some(noun));
        own.for_each(|entry| book.extend(page::operation(reference, entry, 4)));
    }
    book.push(Heading(2, "Handles".to_owned()));
    book.push(Text(
        "A handle stands for an object of a host. Its fields are a snapshot of the moment when it was given out; live values are read by \
         its methods. It cannot be made or changed by a script."
            .to_owned(),
    ));
    reference.handles.iter().for_each(|handle| book.extend(page::handle(reference, handle, 3)));
    book.extend(policy(reference, 2));
    book.push(Heading(2, "Standard library".to_owned()));
    book.push(Text(
        "Modules for playbooks. They have no privileges: each of their calls passes the door as the script's own."
            .to_owned(),
    ));
    reference.modules.iter().for_each(|module| book.extend(page::module(module, 3)));
    for topic in topics() {
        book.extend((topic.make)(2));
    }
    page::markdown(&book)
}

/// Every operation in one line.
pub fn overview(reference: &Reference) -> Block {
    let rows = reference.entries.iter().map(|entry| {
        let mut row = page::line(entry);
        row.insert(1, format!("`{}`", entry.declared.name));
        row
    });
    Rows(vec!["call", "operation", "what it does"], rows.collect())
}

/// The nouns of the operations' names, in order.
fn nouns(reference: &Reference) -> Vec<&str> {
    let mut nouns = Vec::new();
    for noun in reference.entries.iter().filter_map(|entry| entry.declared.name.split('.').next()) {
        if !nouns.contains(&noun) {
            nouns.push(noun);
        }
    }
    nouns
}

/// A part of the reference that is no call: `ceso doc NAME`.
pub struct Topic {
    pub name: &'static str,
    pub summary: &'static str,
    pub make: fn(usize) -> Vec<Block>,
}

/// Those that need no operation.
pub fn topics() -> [Topic; 9] {
    [
        Topic { name: "params", summary: "Parameters of a playbook and their types", make: parameters },
        Topic { name: "tests", summary: "Tests of playbooks, run by ceso test", make: tests },
        Topic { name: "errors", summary: "Kinds of errors", make: errors },
        Topic { name: "exit-codes", summary: "Exit codes of the command", make: exit_codes },
        Topic { name: "records", summary: "What is recorded, what is hidden, and what a guest says", make: records },
        Topic { name: "limits", summary: "Limits of a run", make: limits },
        Topic { name: "metrics", summary: "Families of metrics for Prometheus", make: families },
        Topic { name: "config", summary: "Settings, their files and variables", make: settings },
        Topic { name: "peers", summary: "What is held against govc, pyVmomi, vcsim and qemu-img", make: peers::pages },
    ]
}

/// Capability tables: the grammar, the modes, every entry.
pub fn policy(reference: &Reference, level: usize) -> Vec<Block> {
    let mut page = vec![
        Heading(level, "Capability tables".to_owned()),
        Text(
            "A call is allowed where each of three tables allows it: what the script needs, what its mode has, what its caller was \
             granted. A table names verbs of nouns, and for each what it selects: a name, a prefix with `*` at its end, `*`, a list of \
             those, or `@made`, which is what the run itself made. With `max` an entry can be used that many times in a run. In `needs` \
             a parameter stands for its literal value: `\"{name}\"`."
                .to_owned(),
        ),
        Code(
            "needs = {\n  vm = { read = \"*\", create = { name = \"web-*\", max = 3 }, power = { \"web-1\", \"web-2\" } },\n  \
             datastore = { write = \"{datastore}\" },\n}"
                .to_owned(),
        ),
        Text(
            "The modes: restricted reads; standard also creates and changes, and destroys what the run itself made; unrestricted has \
             every entry. A plain script, which is no playbook, has what its mode has."
                .to_owned(),
        ),
    ];
    vocabulary::NOUNS.iter().for_each(|noun| page.extend(page::noun(reference, noun, level + 1)));
    page
}

fn tests(level: usize) -> Vec<Block> {
    let rows =
        |table: &[(&str, &str)]| table.iter().map(|(name, doc)| vec![format!("`{name}`"), (*doc).to_owned()]).collect();
    vec![
        Heading(level, "Tests of playbooks".to_owned()),
        Text(
            "`ceso test DIR` runs the files named `*_test.luau` below a folder. Each test has a fresh simulator and a fresh worker of its \
             own, and tests run at the same time: none sees what another did. No test reaches a configured host: whatever name a \
             playbook connects to, and `esxi.connect()` in the test itself, is the test's simulator. A test that raises an error has \
             failed; `@ceso/check` has assertions that show where two values differ."
                .to_owned(),
        ),
        Code(
            "local check = require(\"@ceso/check\")\n\nreturn {\n  tests = {\n    [\"a second run changes nothing\"] = function(t)\n      \
             check.equal(t:run(\"web_tier.luau\").ok, true)\n      check.equal(t:run(\"web_tier.luau\").changed, 0)\n    end,\n    \
             [\"a full datastore is reported\"] = function(t)\n      t:fault({ method = \"PowerOnVM_Task\", fault = \"NoDiskSpace\" })\n      \
             check.equal(t:run(\"web_tier.luau\").error.kind, \"esxi.no_disk_space\")\n    end,\n  },\n}"
                .to_owned(),
        ),
        Text(
            "A test is called with a handle, `test`, whose methods run playbooks, look at the simulator and have it go wrong. A playbook \
             that a test runs has its own mode, needs and grant, as under `ceso run`; its file lies in the folder that `ceso test` was \
             given, or in that of `--root`. The command ends with 0 where all tests passed, 1 where one failed, 2 where there are none."
                .to_owned(),
        ),
        Rows(vec!["field of a file", "what it says"], rows(suite::SUITE_FIELDS)),
        Rows(vec!["field of a test", "what it says"], rows(suite::TEST_FIELDS)),
        Rows(vec!["field of a setup", "what it says"], rows(suite::SETUP_FIELDS)),
        Rows(vec!["field of a machine", "what it says"], rows(suite::VM_FIELDS)),
    ]
}

fn parameters(level: usize) -> Vec<Block> {
    let rows =
        |table: &[(&str, &str)]| table.iter().map(|(name, doc)| vec![format!("`{name}`"), (*doc).to_owned()]).collect();
    vec![
        Heading(level, "Parameters of a playbook".to_owned()),
        Text("A playbook declares its parameters by name; a value of another type is refused before anything runs.".to_owned()),
        Code("params = {\n  name = { type = \"string\", position = 1, doc = \"the machine's name\" },\n  memory = { type = \"size\", default = \"2 GiB\" },\n}".to_owned()),
        Rows(vec!["type", "what it takes"], rows(params::TYPES)),
        Rows(vec!["field", "what it says"], rows(params::FIELDS)),
    ]
}

fn errors(level: usize) -> Vec<Block> {
    let rows =
        FAMILIES.iter().map(|(family, code, doc)| vec![format!("`{family}.*`"), code.to_string(), (*doc).to_owned()]);
    vec![
        Heading(level, "Kinds of errors".to_owned()),
        Text(
            "An error that is caught is a table: `kind`, dotted and stable; `message`; `hint`, what to do next; `retry`, whether the same \
             call may succeed when it is made again. What a script raises by itself is a `script.error`, whatever it calls itself, or a \
             `usage.script` by `task.misuse` where it was asked for what cannot be meant."
                .to_owned(),
        ),
        Rows(vec!["kind", "exit code", "what it is about"], rows.collect()),
    ]
}

fn exit_codes(level: usize) -> Vec<Block> {
    let rows = EXIT_CODES.iter().map(|(code, doc)| vec![code.to_string(), (*doc).to_owned()]).collect();
    vec![Heading(level, "Exit codes".to_owned()), Rows(vec!["code", "what it says"], rows)]
}

fn records(level: usize) -> Vec<Block> {
    let text = |text: &str| Text(text.to_owned());
    vec![
        Heading(level, "Records, secrets and guests".to_owned()),
        text(
            "Every call that passes the door, and every one that does not, is in the audit log: the intent of a change is on disk before \
             anything is sent, its outcome before the script goes on; reads and denials follow within a tenth of a second. Each record has \
             the run, the number of the call, the principal, the mode, the script's SHA-256, the objects, the arguments and the entries \
             that allowed it. Contents (cloud-init data, extra configuration) are told by their size. Calls that only compute \
             (`cloudinit.build`) are counted and not recorded. The run ends with a line `audit SEQ:HEAD` on standard error: keep \
             it, and `ceso audit verify --pin SEQ:HEAD` says later whether the log still has all that it had. The host's own log \
             has the run and the number of the call as `operationID`.",
        ),
        text(
            "Where the log cannot be written, nothing is changed (`audit.unwritable`), but for what the run itself made and removes; reads \
             go on, and say so once. An outcome that cannot be written is told on standard error, the exit code is 1, and nothing more is \
             changed until it is on record.",
        ),
        text(
            "Known secrets (passwords in variables and files, those asked for, sessions, the secrets of playbooks) never leave: what a host \
             says, faults, output, logs, records and the history are searched for them, plain, escaped, in base64, hex and URL forms, in \
             gzip and zlib, and `[redacted: password of lab]` stands in their place. A secret of 4 to 7 letters is found as a whole word, a \
             shorter one as a token by itself. The password of a URL and the body of a private key are hidden wherever they stand.",
        ),
        text(
            "What a guest controls is its own words: fields that begin with `guest_` hold one line with control, bidirectional and invisible \
             characters written as `\\u{…}`, cut at 1,000 characters, and stand in quotes in tables. Nothing is looked up or allowed by them. \
             A guest's addresses are addresses or are left out.",
        ),
    ]
}

fn limits(level: usize) -> Vec<Block> {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Sandbox>().to_value();
    let defaults = serde_json::to_value(Sandbox::default()).unwrap_or_default();
    let rows = Fields::of("sandbox", &schema).fields.into_iter().map(|field| {
        let default = defaults.get(&field.name).map(shown).unwrap_or_default();
        vec![format!("`{}`", field.name), default, field.doc]
    });
    vec![
        Heading(level, "Limits".to_owned()),
        Text(
            "Settings of the section `sandbox`; `--timeout` sets `run_time` for one run. A run that passes one ends with the kind \
             `limit.NAME` and exit code 124."
                .to_owned(),
        ),
        Rows(vec!["limit", "default", "what it bounds"], rows.collect()),
    ]
}

fn families(level: usize) -> Vec<Block> {
    let rows = metrics::page::rows().into_iter().map(|row| {
        let labels = row.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        vec![format!("`{}`", row.name), row.kind.to_owned(), labels, row.help.to_owned()]
    });
    vec![
        Heading(level, "Metrics".to_owned()),
        Text(
            "Figures for Prometheus, off unless asked for: `--metrics-port PORT` serves them at `/metrics` for as long as the command \
             runs, and the settings below `metrics` do so for every command, or have each add what it counted to a textfile of the node \
             exporter. No label takes a user's text: `operation` and `effect` come from the declarations, `host` is a configured name, \
             and those beyond the first 200 are `other`. An `outcome` of an operation is done, unchanged, failed, denied, timed_out, dropped \
             (nobody waited for it any more) or unknown; of a run done, failed, denied, limited or cancelled."
                .to_owned(),
        ),
        Rows(vec!["family", "kind", "labels", "what it tells"], rows.collect()),
    ]
}

fn settings(level: usize) -> Vec<Block> {
    let schema = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Settings>()
        .to_value();
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let mut rows = Vec::new();
    walk(&schema, &defaults, "", &mut rows);
    vec![
        Heading(level, "Settings".to_owned()),
        Text(
            "From weak to strong: defaults, `/etc/ceso/config.yaml`, `~/.ceso/config.yaml`, the project's `ceso.yaml`, variables \
             (`CESO_SECURITY_MODE` is `security.mode`), flags. `ceso config show` prints each value with where it came from, \
             `ceso config init` writes a commented example."
                .to_owned(),
        ),
        Rows(vec!["setting", "type", "default", "what it is"], rows),
    ]
}

/// A row for each value; names that the user chooses are written NAME.
fn walk(schema: &Value, defaults: &Value, path: &str, rows: &mut Vec<Vec<String>>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let named = schema.get("additionalProperties").filter(|inner| inner.is_object());
    let below = properties.into_iter().flatten().map(|(key, inner)| (key.as_str(), inner));
    for (key, inner) in below.chain(named.map(|inner| ("NAME", inner))) {
        let here = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let default = defaults.get(key).unwrap_or(&Value::Null);
        if inner.get("properties").is_some() || inner.get("additionalProperties").is_some_and(Value::is_object) {
            walk(inner, default, &here, rows);
            continue;
        }
        let table = Fields::of("", &serde_json::json!({ "properties": { key: inner } }));
        let Some(field) = table.fields.first() else { continue };
        let kind = match &field.shape {
            Shape::Size { .. } => "size".to_owned(),
            Shape::Duration { .. } => "duration".to_owned(),
            Shape::Any => "text".to_owned(),
            shape => luau::type_of(shape),
        };
        rows.push(vec![format!("`{here}`"), format!("`{kind}`"), shown(default), field.doc.replace("\n\n", " ")]);
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;
    use crate::ops::reference::REFERENCE;

    #[test]
    fn the_reference_is_the_committed_file() {
        let committed = include_str!("../../lua/reference.md");
        let made = whole(&REFERENCE);
        let at = committed.lines().zip(made.lines()).position(|(a, b)| a != b).map_or(0, |at| at + 1);
        assert!(
            committed == made,
            "lua/reference.md is not what the declarations say (first at line {at}); renew it: \
             cargo run -- doc --markdown > lua/reference.md"
        );
    }

    #[test]
    fn every_family_of_errors_has_an_exit_code_that_is_explained() {
        for (family, code, _) in FAMILIES {
            assert!(EXIT_CODES.iter().any(|(known, _)| known == code), "{family}");
            assert_eq!(Fault::new(format!("{family}.x"), "").exit_code(), *code);
        }
    }

    #[test]
    fn every_setting_and_every_limit_has_a_row_with_a_text() {
        for blocks in [settings(2), limits(2), parameters(2), families(2)] {
            for block in blocks {
                if let Rows(_, rows) = block {
                    assert!(
                        rows.len() > 4 && rows.iter().all(|row| row.last().is_some_and(|text| !text.is_empty())),
                        "{rows:?}"
                    );
                }
            }
        }
    }
}
