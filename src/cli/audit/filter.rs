//! Which records are shown.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

use crate::audit::{Kind, OWN_KINDS};
use crate::config::printable;
use crate::error::Fault;
use crate::units::Span;

/// What a record must be to be shown.
pub struct Filter {
    run: Option<String>,
    operation: Option<String>,
    object: Option<String>,
    kind: Option<String>,
    outcome: Option<String>,
    principal: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

/// Adds the filters' flags to a command.
pub fn arguments(command: Command) -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    command.args([
        value("run", "ID", "Of that run; the beginning of its id is enough"),
        value("operation", "NAME", "Of that operation, or of that noun: vm.power_on, vm"),
        value("object", "NAME", "About that object or host"),
        value("kind", "KIND", "Of that kind; the last eight are the log's own records")
            .value_parser(PossibleValuesParser::new(Kind::ALL.map(Kind::name).into_iter().chain(OWN_KINDS))),
        value("outcome", "OUTCOME", "That ended so: done, unchanged, failed, unknown, …"),
        value("principal", "WHO", "Of that principal"),
        value("since", "TIME", "From that time on: 2026-05-01, 2026-05-01T12:00:00Z, or \"2 h\" ago"),
        value("until", "TIME", "Up to that time"),
    ])
}

impl Filter {
    /// Faults: `usage.time`.
    pub fn read(matches: &ArgMatches) -> Result<Self, Fault> {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        Ok(Self {
            run: text("run"),
            operation: text("operation"),
            object: text("object"),
            kind: text("kind"),
            outcome: text("outcome"),
            principal: text("principal"),
            since: text("since").map(|text| moment(&text)).transpose()?,
            until: text("until").map(|text| moment(&text)).transpose()?,
        })
    }

    /// Whether a record of that time may be shown; the text is as long in every record, so its order is that of time.
    pub fn lets_time(&self, ts: &str) -> bool {
        self.since.as_deref().is_none_or(|since| ts >= since) && self.until.as_deref().is_none_or(|until| ts <= until)
    }

    /// Whether that event is shown.
    pub fn lets(&self, event: &Value) -> bool {
        let field = |name: &str| event.get(name).and_then(Value::as_str);
        let is =
            |name: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| field(name) == Some(wanted));
        let operation = self.operation.as_deref().is_none_or(|wanted| {
            let rest = field("operation").and_then(|operation| operation.strip_prefix(wanted));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let object = self.object.as_deref().is_none_or(|wanted| {
            let objects = event.get("objects").and_then(Value::as_array).into_iter().flatten();
            field("host") == Some(wanted) || objects.filter_map(Value::as_str).any(|object| object == wanted)
        });
        let run = self.run.as_deref().is_none_or(|wanted| field("run").is_some_and(|run| run.starts_with(wanted)));
        operation
            && object
            && run
            && is("kind", &self.kind)
            && is("outcome", &self.outcome)
            && is("principal", &self.principal)
    }
}

/// A moment as records write it.
fn moment(text: &str) -> Result<String, Fault> {
    let wrong = || {
        Fault::new("usage.time", format!("{:?} is not a time", printable(text)))
            .hint("write 2026-05-01, 2026-05-01T12:00:00Z, or how long ago: \"2 h\"")
    };
    let date = format_description!("[year]-[month]-[day]");
    let at = if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        at.to_offset(UtcOffset::UTC)
    } else if let Ok(date) = Date::parse(text, date) {
        date.midnight().assume_utc()
    } else {
        let ago = text.trim().trim_end_matches("ago").parse::<Span>().map_err(|_| wrong())?.0;
        let ago: time::Duration = Duration::try_into(ago).map_err(|_| wrong())?;
        OffsetDateTime::now_utc().checked_sub(ago).ok_or_else(wrong)?
    };
    if !(0..=9999).contains(&at.year()) {
        return Err(wrong());
    }
    Ok(crate::audit::time_text(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(moment("2026-05-01").unwrap(), "2026-05-01T00:00:00.000000Z");
        assert_eq!(moment("2026-05-01T02:00:00.5+02:00").unwrap(), "2026-05-01T00:00:00.500000Z");
        assert!(moment("2 h").unwrap() < moment("1 min ago").unwrap());
        for wrong in ["", "yesterday", "2026-13-01", "-5 h", "99999999999999 h", "\u{202e}"] {
            assert_eq!(moment(wrong).unwrap_err().kind(), "usage.time", "{wrong}");
        }
    }
}
