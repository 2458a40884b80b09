//! `ceso audit verify`: the report of a verification, and the exit code that says the same.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;

use crate::audit::{Pin, Report, Verify};
use crate::cli::context::Context;
use crate::cli::output::{self, Format};
use crate::config::printable;
use crate::error::Fault;

pub fn run(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let file = match matches.get_one::<PathBuf>("FILE") {
        Some(file) => file.clone(),
        None => context.config()?.audit_log(),
    };
    let verify = Verify {
        pins: matches.get_many::<Pin>("pin").into_iter().flatten().cloned().collect(),
        key: matches.get_one::<PathBuf>("key").cloned(),
        partial: matches.get_flag("partial"),
        ..Verify::new(file)
    };
    let report = verify.run()?;
    let style = context.style(matches)?;
    match style.format {
        Format::Table => output::write(&text(&report, &verify.pins), &mut std::io::stdout().lock())?,
        _ => {
            let value = serde_json::to_value(&report).map_err(|error| {
                Fault::new("ceso.result", format!("the report cannot be told: {error}"))
                    .hint("this is a defect of ceso: please report it")
            })?;
            output::print(&value, &style, &mut std::io::stdout().lock())?;
        }
    }
    match report.problem {
        None if report.unsigned_changes > 0 => {
            let what = format!("{} changes at the end of the audit log are covered by no signature", report.unsigned_changes);
            Err(Fault::new("audit.unsigned", what).hint(
                "a change is signed as it is written: these were left by a machine that stopped in the middle of a write, or were \
                 written without the key. Hold them against the hosts' own events; the next change is recorded behind a mark",
            ))
        }
        None => Ok(ExitCode::SUCCESS),
        Some(problem) => Err(Fault::new("audit.damaged", format!("the audit log is damaged: {problem}")).hint(
            "keep the files as they are; what stands before that line verifies. `ceso audit set-aside` moves the log away and begins a new one",
        )),
    }
}

/// The report for people.
fn text(report: &Report, pins: &[Pin]) -> String {
    let mut text = String::new();
    let mut add = |name: &str, value: String| text.push_str(&format!("{name:9} {}\n", printable(&value)));
    let newest = report.newest.map_or(0, |newest| newest.seq);
    let files = if report.files.len() == 1 { "1 file".to_owned() } else { format!("{} files", report.files.len()) };
    let upto = if report.verified { "" } else { ", up to the first that is not as it must be" };
    add("records", format!("{} ({} to {newest}) in {files}{upto}", report.records, report.first.unwrap_or(0)));
    if let (Some(begins), Some(ends)) = (&report.begins, &report.ends) {
        add("times", format!("{begins} to {ends}"));
    }
    if let Some(newest) = &report.newest {
        add("head", newest.to_string());
    }
    if !report.verified {
        return text;
    }
    add(
        "signed",
        match report.signed {
            Some(signed) if report.unsigned > 0 => {
                format!(
                    "up to record {signed} by the key {}; {} after it are chained only",
                    report.key, report.unsigned
                )
            }
            Some(_) => format!("all, by the key {}", report.key),
            None => "none".to_owned(),
        },
    );
    if report.found_unsigned > 0 {
        let times = report.found_unsigned;
        add("marked", format!("{times} times changes that no signature covered (ceso audit show --kind unsigned)"));
    }
    for pin in pins {
        add("pin", format!("{pin} holds"));
    }
    if report.torn > 0 {
        add(
            "torn",
            format!(
                "{} bytes of a line that was never finished, as a crash leaves it; the next record cuts them off",
                report.torn
            ),
        );
    }
    if report.clock_set_back > 0 {
        add("clock", format!("set back {} times; the order is that of the numbers", report.clock_set_back));
    }
    let known = pins.iter().map(|pin| pin.seq).max();
    add(
        "not shown",
        match known {
            Some(known) => format!("whether records behind {known}, the newest pin, are missing at the end"),
            None => {
                "whether records are missing at the end: a receipt that was kept elsewhere shows it (--pin SEQ:HEAD)"
                    .to_owned()
            }
        },
    );
    let seconds = report.took.as_secs_f64().max(1e-6);
    add("took", format!("{:.2} s, {:.0} records a second", seconds, report.records as f64 / seconds));
    text
}
