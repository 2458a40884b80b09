//! The commented example of a configuration file, made from the declarations.
//!
//! Every line is a comment, so that the file changes nothing until something in it is uncommented, and a later default still
//! reaches whoever wrote it.

use serde_json::Value;

use super::schema::{self, Shape};
use super::sources::OTHER_VARIABLES;

const WIDTH: usize = 100;

/// Writes the example.
pub fn write() -> String {
    let mut out = String::from(
        "# Configuration of ceso. Each setting stands here with its default or an example; remove the \"# \" before what you\n\
         # want to change. From weak to strong: the defaults, /etc/ceso/config.yaml, ~/.ceso/config.yaml, the project's\n\
         # ceso.yaml, CESO_SECTION_KEY variables (such as CESO_SECURITY_MODE), flags. `ceso config show` prints what holds.\n",
    );
    let defaults = Value::Object(super::defaults());
    if let Shape::Section(properties) = schema::shape(&schema::DECLARATION) {
        for (key, inner) in properties {
            out.push('\n');
            entry(&mut out, key, inner, defaults.get(key), 0);
        }
    }
    out.push_str("\n# Variables of the environment beside those of the settings:\n");
    for (name, what) in OTHER_VARIABLES {
        out.push_str(&format!("#   {name:17} {what}\n"));
    }
    out
}

fn entry(out: &mut String, key: &str, schema: &Value, default: Option<&Value>, depth: usize) {
    let indent = "  ".repeat(depth);
    comment(out, schema.get("description").and_then(Value::as_str).unwrap_or_default(), &indent);
    match schema::shape(schema) {
        Shape::Section(properties) => {
            out.push_str(&format!("# {indent}{key}:\n"));
            for (key, inner) in properties {
                entry(out, key, inner, default.and_then(|default| default.get(key)), depth + 1);
            }
        }
        Shape::Named(inner) => {
            out.push_str(&format!("# {indent}{key}:\n"));
            entry(out, "lab", inner, None, depth + 1);
        }
        Shape::Leaf(schema) => {
            choices(out, schema, &indent);
            let example = default.or_else(|| schema.get("examples").and_then(|examples| examples.get(0)));
            let value = example.map_or_else(|| "\"\"".to_owned(), yaml);
            out.push_str(&format!("# {indent}{key}: {value}\n"));
        }
    }
}

fn choices(out: &mut String, schema: &Value, indent: &str) {
    for one in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        let (name, what) = (one.get("const").and_then(Value::as_str), one.get("description").and_then(Value::as_str));
        if let (Some(name), Some(what)) = (name, what) {
            out.push_str(&format!("# {indent}#   {name}: {what}\n"));
        }
    }
}

/// Comments within comments: `# # what it means`, so that removing one "# " leaves valid YAML.
fn comment(out: &mut String, text: &str, indent: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + word.len() + 5 > WIDTH {
            out.push_str(&format!("# {indent}# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("# {indent}# {line}\n"));
    }
}

/// A value on one line; JSON is YAML, and a plain word needs no quotes.
fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c)) => text.clone(),
        other => other.to_string(),
    }
}
