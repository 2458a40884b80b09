//! A rule as a line of text: what `ceso sim --fault` takes, and what a running simulator is told over HTTP.

use std::time::Duration;

use super::{Lie, Rule, Trouble};
use crate::error::Fault;
use crate::sim::vm::question::TOPICS;
use crate::units::{Bytes, Span};

/// How long nobody is answered where a rule does not say.
const AWAY: Duration = Duration::from_secs(1);

const FORM: &str = "write METHOD:FAULT[:TIMES][:after=N][:chance=P], such as PowerOnVM_Task:NoDiskSpace:1; FAULT is a fault's name, 503, \
    drop, drop-answer, expire, leave-delta, delay=2s, late=2s, fill[=BYTES], partition[=2s], restart[=2s], restart-after[=2s], lie=missing|everything|unknown, ask=moved|space|door, or of a transfer \
    cut=BYTES, no-ranges or page";

/// Reads `METHOD:FAULT[:TIMES][:after=N][:chance=P]`. METHOD is one of the API, a transfer such as `GET folder`, or `*`; FAULT is a
/// fault's name, a status such as `503`, `drop`, `drop-answer`, `expire`, `leave-delta`, `delay=TIME`, `late=TIME` (the answer alone),
/// `ask=TOPIC` (of a machine's task: it asks something first), `fill[=BYTES]`, `partition[=TIME]`, `restart[=TIME]` (the work of tasks stops), `restart-after[=TIME]` (it goes on), or of a file transfer `cut=BYTES`,
/// `no-ranges` and `page`. Faults: `sim.fault`.
pub fn read(text: &str) -> Result<Rule, Fault> {
    let wrong = || {
        let shown: String = text.chars().take(80).collect();
        Fault::new("sim.fault", format!("{shown:?} is no rule for a fault")).hint(FORM)
    };
    let mut parts = text.trim().split(':');
    let (Some(method), Some(what)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let trouble = trouble(what).ok_or_else(wrong)?;
    let mut rule = Rule { method: method.trim().to_owned(), trouble, after: 0, times: None, chance: 1.0 };
    for part in parts {
        match part.split_once('=') {
            None => rule.times = Some(part.parse().map_err(|_| wrong())?),
            Some(("after", count)) => rule.after = count.parse().map_err(|_| wrong())?,
            Some(("chance", chance)) => rule.chance = chance.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        }
    }
    Ok(rule)
}

fn trouble(what: &str) -> Option<Trouble> {
    let (word, value) = what.split_once('=').map_or((what, None), |(word, value)| (word, Some(value)));
    let time = || value.map_or(Some(AWAY), |value| value.parse::<Span>().ok().map(|span| span.0));
    let bytes = |value: &str| value.parse::<u64>().ok().or_else(|| value.parse::<Bytes>().ok().map(|bytes| bytes.0));
    Some(match (word, value) {
        ("drop", None) => Trouble::Drop,
        ("drop-answer", None) => Trouble::DropAnswer,
        ("expire", None) => Trouble::Expire,
        ("leave-delta", None) => Trouble::LeaveDelta,
        ("no-ranges", None) => Trouble::NoRanges,
        ("page", None) => Trouble::Page,
        ("delay", Some(_)) => Trouble::Delay(time()?),
        ("late", Some(_)) => Trouble::Late(time()?),
        ("cut", Some(value)) => Trouble::Cut(bytes(value)?),
        ("lie", Some("missing")) => Trouble::Lie(Lie::Missing),
        ("lie", Some("everything")) => Trouble::Lie(Lie::Everything),
        ("lie", Some("unknown")) => Trouble::Lie(Lie::Unknown),
        ("ask", Some(word)) => Trouble::Ask(TOPICS.iter().find(|(own, _)| *own == word)?.1),
        ("fill", None) => Trouble::Fill(0),
        ("fill", Some(value)) => Trouble::Fill(bytes(value)?),
        ("partition", _) => Trouble::Partition(time()?),
        ("restart", _) => Trouble::Restart { away: time()?, finishes: false },
        ("restart-after", _) => Trouble::Restart { away: time()?, finishes: true },
        (word, None) => match word.parse::<u16>() {
            Ok(code) => Trouble::Status(code),
            Err(_) => Trouble::Fault { kind: word.to_owned(), message: None },
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Faults;
    use super::*;
    use crate::sim::vm::question::Topic;

    #[test]
    fn a_rule_is_read_from_a_line() {
        let rule =
            |method: &str, trouble| Rule { method: method.to_owned(), trouble, after: 0, times: None, chance: 1.0 };
        let fault = Trouble::Fault { kind: "NoDiskSpace".to_owned(), message: None };
        let seconds = Duration::from_secs;
        for (text, expected) in [
            ("PowerOnVM_Task:NoDiskSpace:2", Rule { times: Some(2), ..rule("PowerOnVM_Task", fault) }),
            ("Login:503", rule("Login", Trouble::Status(503))),
            ("Login:delay=2s", rule("Login", Trouble::Delay(seconds(2)))),
            ("Login:drop-answer:1", Rule { times: Some(1), ..rule("Login", Trouble::DropAnswer) }),
            ("GET folder:cut=1000:1", Rule { times: Some(1), ..rule("GET folder", Trouble::Cut(1000)) }),
            ("GET folder:no-ranges", rule("GET folder", Trouble::NoRanges)),
            ("GET nfc:page", rule("GET nfc", Trouble::Page)),
            (
                "CopyVirtualDisk_Task:fill:1:after=1",
                Rule { times: Some(1), after: 1, ..rule("CopyVirtualDisk_Task", Trouble::Fill(0)) },
            ),
            (
                "PowerOnVM_Task:ask=moved:1",
                Rule { times: Some(1), ..rule("PowerOnVM_Task", Trouble::Ask(Topic::Moved)) },
            ),
            ("CreateVM_Task:fill=4 KiB", rule("CreateVM_Task", Trouble::Fill(4096))),
            ("*:drop:chance=0.25", Rule { chance: 0.25, ..rule("*", Trouble::Drop) }),
            ("CreateVM_Task:partition=3s", rule("CreateVM_Task", Trouble::Partition(seconds(3)))),
            ("CreateVM_Task:restart", rule("CreateVM_Task", Trouble::Restart { away: AWAY, finishes: false })),
            ("CreateVM_Task:restart-after", rule("CreateVM_Task", Trouble::Restart { away: AWAY, finishes: true })),
        ] {
            let read = read(text).unwrap();
            assert_eq!(read, expected, "{text}");
            Faults::new(1).add(read).unwrap();
        }
        for text in [
            "Login:delay",
            "Login:cut=1",
            "Login:no-ranges",
            "Login:page",
            "Login:partition=1000s",
            "Login:drop:chance=2",
            "Login:ask=moved",
            "PowerOnVM_Task:ask",
        ] {
            assert!(Faults::new(1).add(read(text).unwrap()).is_err(), "{text}");
        }
        for text in [
            "",
            "Login",
            "Login:x:y",
            "Login:delay=z",
            "GET folder:cut=x",
            "Login:drop:a=1",
            "Login:drop=1",
            "PowerOnVM_Task:ask=x",
        ] {
            assert_eq!(read(text).unwrap_err().kind(), "sim.fault", "{text}");
        }
    }
}
