//! What a run may do: the mode of the configuration, and the grant file that narrows it.

use crate::config::Config;
use crate::config::files::{self, Guard};
use crate::door::{Grant, grammar};
use crate::error::Fault;
use crate::wire::Value;

use super::globals::Globals;

/// The largest grant file that is read.
const LARGEST: usize = 256 << 10;

const FORM: &str = "a grant is a file of YAML such as  vm: {read: \"*\", power: \"web-*\"}";

/// The mode, and the table of `--grant FILE`.
pub fn read(config: &Config, globals: &Globals) -> Result<Grant, Fault> {
    let mode = config.mode();
    let Some(path) = &globals.grant else { return Ok(Grant { mode, table: None }) };
    let place = path.display().to_string();
    let bytes = files::read(path, LARGEST, Guard::Any)?
        .ok_or_else(|| Fault::new("usage.grant", format!("{place}: there is no such file")).hint(FORM))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Fault::new("usage.grant", format!("{place}: is not UTF-8")).hint(FORM).cause(error))?;
    let yaml: serde_json::Value = serde_saphyr::from_str(&text).map_err(|error| {
        let what = error.to_string();
        let first = what.lines().next().unwrap_or_default();
        let what = first.strip_prefix("error: ").unwrap_or(first);
        Fault::new("usage.grant", format!("{place}: {what}")).hint(FORM).cause(error)
    })?;
    let table = grammar::read(&place, &Value::from_json(yaml), &|_| None)?;
    Ok(Grant { mode, table: Some(table) })
}
