//! Log lines: what is logged by level and room, in which form, where to. Nothing, unless asked for.
//!
//! Every line carries the spans it happened in, and with them the run's name and the call's. A line is one line, whatever a host or a
//! guest has put into it, and passes the search for known secrets before it leaves.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{Layer, Registry};

use crate::cli::context::Context;
use crate::config::{LogFormat, Settings, printable};
use crate::error::{Fault, nearest};
use crate::redact::{self, is_hidden};

/// The rooms that a filter may name.
const ROOMS: &[&str] = &[
    "audit",
    "backup",
    "catalog",
    "cli",
    "cloudinit",
    "config",
    "door",
    "error",
    "esxi",
    "inventory",
    "metrics",
    "ops",
    "ova",
    "redact",
    "run",
    "script",
    "sim",
    "units",
    "vmdk",
    "web",
    "wire",
    "xml",
];

/// The layer that logs what the flag, the variable or the settings ask for.
///
/// Faults: `usage.log` for a filter that is none, `log.file` for a file that cannot be written.
pub fn layer(
    context: &Context,
    flag: Option<&str>,
    settings: Option<&Settings>,
) -> Result<Option<Box<dyn Layer<Registry> + Send + Sync>>, Fault> {
    let Some(filter) = chosen(context, flag, settings)? else { return Ok(None) };
    let file = settings.and_then(|settings| settings.log.file.as_deref());
    let form = settings.map(|settings| settings.log.format).unwrap_or_default();
    let lines = Lines { sink: Arc::new(file.map(open).transpose()?) };
    let layer = tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(false);
    let layer = match form {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    Ok(Some(layer.with_filter(ours(filter)).boxed()))
}

fn chosen(context: &Context, flag: Option<&str>, settings: Option<&Settings>) -> Result<Option<Targets>, Fault> {
    if let Some(text) = flag {
        return read(text, "--log").map(Some);
    }
    if let Some(text) = context.sources().environment.get("CESO_LOG")? {
        return read(text, "the variable CESO_LOG").map(Some);
    }
    settings.and_then(|settings| settings.log.level.as_deref()).map(|text| read(text, "log.level")).transpose()
}

/// Reads a filter: levels by room, with commas between them; a level alone is for all rooms.
fn read(text: &str, place: &str) -> Result<Targets, Fault> {
    let wrong = |what: String, near: Option<&str>| {
        let hint = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "write a level (off, error, warn, info, debug, trace), or ROOM=LEVEL with commas between, such as esxi=debug,door=info".to_owned(),
        };
        Fault::new("usage.log", format!("{place}: {what}")).hint(hint)
    };
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let (room, level) =
            part.split_once('=').map_or((None, part), |(room, level)| (Some(room.trim()), level.trim()));
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let level: LevelFilter = match LEVELS.contains(&level).then(|| level.parse()) {
            Some(Ok(level)) => level,
            _ => {
                return Err(wrong(
                    format!("{:?} is not a level", printable(level)),
                    nearest(level, LEVELS).first().copied(),
                ));
            }
        };
        targets = match room {
            None => targets.with_target("ceso", level),
            Some(room) if ROOMS.contains(&room) => targets.with_target(format!("ceso::{room}"), level),
            Some(room) => {
                return Err(wrong(
                    format!("{:?} is not a room", printable(room)),
                    nearest(room, ROOMS.iter().copied()).first().copied(),
                ));
            }
        };
    }
    Ok(targets)
}

/// The filter's events, and every span of ours: a line of one room says which run it belongs to, whatever another room may log.
fn ours(targets: Targets) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    let most = targets.iter().map(|(_, level)| level).max().unwrap_or(LevelFilter::OFF);
    FilterFn::new(move |about: &Metadata<'_>| match about.is_span() {
        true => about.target().starts_with("ceso::"),
        false => targets.would_enable(about.target(), about.level()),
    })
    .with_max_level_hint(most.max(LevelFilter::INFO))
}

/// Opens the file to append to. A pipe could hold up the run, and a link or a device is no log.
fn open(path: &Path) -> Result<File, Fault> {
    let refused = |why: String| {
        Fault::new("log.file", format!("log.file {}: {why}", path.display()))
            .hint("name a file in a folder that you may write to")
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| refused(error.to_string()).cause(error))?;
    match file.metadata() {
        Ok(about) if about.is_file() => Ok(file),
        Ok(_) => Err(refused("it is there and is no file".to_owned())),
        Err(error) => Err(refused(error.to_string()).cause(error)),
    }
}

/// Where lines go: a file, else standard error.
#[derive(Clone)]
struct Lines {
    sink: Arc<Option<File>>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Write for Lines {
    /// Takes one whole line, as the layer gives it, and writes it at once: several processes may share the file.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = safe(&redact::text(&String::from_utf8_lossy(bytes)));
        match self.sink.as_ref() {
            Some(file) => (&mut &*file).write_all(line.as_bytes())?,
            None => io::stderr().lock().write_all(line.as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as it may leave: on one line, with nothing that moves a cursor or turns text round.
fn safe(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.trim_end_matches('\n').chars() {
        if c.is_control() || is_hidden(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_filter_is_by_level_and_room() {
        let targets = read("info, esxi=debug,door=off", "--log").unwrap();
        assert!(targets.would_enable("ceso::run::session", &Level::INFO));
        assert!(!targets.would_enable("ceso::run::session", &Level::DEBUG));
        assert!(targets.would_enable("ceso::esxi::link", &Level::DEBUG));
        assert!(!targets.would_enable("ceso::door::pass", &Level::ERROR));
        assert!(!targets.would_enable("hyper::proto", &Level::ERROR));
    }

    #[test]
    fn rubbish_is_refused_with_what_was_meant() {
        for (text, hint) in [
            ("inof", "\"info\""),
            ("esx=debug", "\"esxi\""),
            ("", "write a level"),
            ("=", "write a level"),
            ("info,", "write a level"),
            ("esxi=", "write a level"),
            ("\u{1b}[31m", "write a level"),
            ("a=b=c", "write a level"),
            ("3", "write a level"),
        ] {
            let fault = read(text, "--log").unwrap_err();
            assert_eq!(fault.kind(), "usage.log", "{text}");
            assert!(fault.hint_text().is_some_and(|said| said.contains(hint)), "{text}: {fault:?}");
            assert!(!fault.message().contains('\u{1b}'), "{fault:?}");
        }
    }

    #[test]
    fn every_room_can_be_named() {
        let map = include_str!("../../lib.rs");
        let rooms: Vec<&str> =
            map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
        assert_eq!(rooms, ROOMS);
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(safe("a\nb\u{1b}[31m\u{202e}\n"), "a\\u000ab\\u001b[31m\\u202e\n");
    }

    #[test]
    fn what_is_no_file_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("x"), &link).unwrap();
        for path in [folder.path(), &pipe, &link, Path::new("/dev/full"), &folder.path().join("none/x.log")] {
            assert_eq!(open(path).unwrap_err().kind(), "log.file", "{}", path.display());
        }
    }
}
