//! What a playbook says of itself: summary, parameters, and the capability table that it asks for.

use super::params::{self, Param};
use crate::door::grammar;
use crate::door::table::Table;
use crate::error::{Fault, nearest};
use crate::wire::Value;

/// A playbook's declaration, read and checked for its form.
#[derive(Debug, Clone)]
pub struct Declaration {
    pub summary: String,
    pub doc: String,
    pub params: Vec<Param>,
    /// The columns of its result as a table for people, in their order; all of them where there are none. JSON and CSV have all of it.
    pub columns: Vec<String>,
    needs: Value,
}

const FIELDS: &[&str] = &["summary", "doc", "params", "columns", "needs", "run"];

impl Declaration {
    /// Reads the table that a playbook returned, without its `run`.
    pub fn read(table: &Value) -> Result<Self, Fault> {
        let wrong = |what: String| {
            Fault::new("usage.declaration", what).hint(format!("a playbook has the fields {}", FIELDS.join(", ")))
        };
        let Value::Map(fields) = table else {
            return Err(wrong(format!("a playbook returns a table, not {}", table.shape())));
        };
        for (field, _) in fields {
            if !FIELDS.contains(&field.as_str()) {
                let hint = match nearest(field, FIELDS.iter().copied()).first() {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("a playbook has {}", FIELDS.join(", ")),
                };
                return Err(wrong(format!("a playbook has no field {field:?}")).hint(hint));
            }
        }
        let text = |name: &str| match table.get(name) {
            None => Ok(String::new()),
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(other) => Err(wrong(format!("{name}: expected a string, found {}", other.shape()))),
        };
        let columns = match table.get("columns") {
            None => Vec::new(),
            Some(Value::List(names)) => {
                let name = |name: &Value| match name {
                    Value::Text(name) => Ok(name.clone()),
                    other => Err(wrong(format!("columns: expected names, found {}", other.shape()))),
                };
                names.iter().map(name).collect::<Result<_, _>>()?
            }
            Some(Value::Map(fields)) if fields.is_empty() => Vec::new(),
            Some(other) => return Err(wrong(format!("columns: expected a list of names, found {}", other.shape()))),
        };
        let params = params::declared(table.get("params").unwrap_or(&Value::Nil))?;
        let needs = table.get("needs").cloned().unwrap_or(Value::Nil);
        let declaration = Self { summary: text("summary")?, doc: text("doc")?, params, columns, needs };
        declaration.check_needs()?;
        Ok(declaration)
    }

    /// The capability table that it asks for, with these parameters.
    pub fn needs(&self, values: &Value) -> Result<Table, Fault> {
        grammar::read("needs", &self.needs, &|name| params::as_literal(values, name))
    }

    /// The capability table with parameters left in braces.
    pub fn needs_as_written(&self) -> Result<Table, Fault> {
        grammar::read("needs", &self.needs, &|_| None)
    }

    /// The table's form, and that every `{name}` in it is a parameter that can stand in a selector.
    fn check_needs(&self) -> Result<(), Fault> {
        self.needs_as_written()?;
        for name in grammar::parameters(&self.needs) {
            if self.params.iter().any(|param| param.name == name && !param.kind.is_literal()) {
                return Err(Fault::new(
                    "usage.declaration",
                    format!("needs: {{{name}}} is no name: a selector is made of strings, choices and numbers"),
                )
                .hint("use a parameter of type string"));
            }
            if !self.params.iter().any(|param| param.name == name) {
                let names = self.params.iter().map(|param| param.name.as_str());
                let hint = match nearest(&name, names).first() {
                    Some(near) => format!("did you mean {{{near}}}?"),
                    None => format!("declare it: params = {{ {name} = {{ type = \"string\" }} }}"),
                };
                return Err(
                    Fault::new("usage.declaration", format!("needs: there is no parameter {{{name}}}")).hint(hint)
                );
            }
        }
        Ok(())
    }
}
