//! What a run writes to the terminal: on a thread of its own, escaped, capped.
//!
//! A reader that stops reading (`ceso run | less`) must stop this thread and nothing else, so nobody waits for it but
//! [`Output::finish`]. What waits to be written is bounded by the cap. A closed pipe ends the output quietly. Nothing else in ceso
//! may write what a script said.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Fault;
use crate::redact;
pub use crate::redact::{one_line, printable};
use crate::units::Bytes;
use crate::wire::Level;

/// Where the lines of one run go.
#[derive(Clone)]
pub struct Output {
    lines: mpsc::Sender<Line>,
    shared: Arc<Shared>,
    limit: Bytes,
    /// The run that the lines of the log are of.
    run: Arc<str>,
    /// Standard output is for the result alone.
    apart: Arc<AtomicBool>,
    rows: Arc<Rows>,
}

/// Rows that are told while they come.
#[derive(Default)]
struct Rows {
    as_json: AtomicBool,
    came: AtomicBool,
}

struct Shared {
    /// Bytes that the script wrote.
    written: AtomicU64,
    /// The other side of standard output is gone.
    closed: AtomicBool,
    /// Why a line could not be written, where nobody left on purpose.
    lost: Mutex<Option<io::Error>>,
    waiting: Mutex<usize>,
    drained: Condvar,
}

enum Line {
    Out(String),
    Err(String),
}

impl Output {
    /// Writes to this process's standard output and standard error.
    pub fn standard(limit: Bytes) -> io::Result<Self> {
        Self::new(io::stdout(), io::stderr(), limit)
    }

    /// Writes what a script prints to `out` and what it logs to `err`, at most `limit` together.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static, limit: Bytes) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel();
        let shared = Arc::new(Shared {
            written: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            lost: Mutex::new(None),
            waiting: Mutex::new(0),
            drained: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("output".to_owned()).spawn(move || write_all(&queue, out, err, &theirs))?;
        Ok(Self { lines, shared, limit, run: Arc::from(""), apart: Arc::default(), rows: Arc::default() })
    }

    /// The same output, with the run's name in every line of the log.
    pub fn for_run(mut self, run: &str) -> Self {
        self.run = Arc::from(format!(" {run}"));
        self
    }

    /// Keeps standard output for the result alone: what the script prints goes to standard error from now on.
    pub fn keep_apart(&self) {
        self.apart.store(true, Ordering::Relaxed);
    }

    /// Writes rows that come bit by bit as lines of JSON from now on, on standard output, where the result would be.
    pub fn rows_as_json(&self) {
        self.rows.as_json.store(true, Ordering::Relaxed);
    }

    /// Whether rows were written as JSON: they are the result then.
    pub fn has_json_rows(&self) -> bool {
        self.rows.came.load(Ordering::Relaxed)
    }

    /// Writes a row of a result that comes bit by bit: as a line of JSON where that was asked for, else its text as a line of `print`.
    pub fn row(&self, row: &serde_json::Value, text: &str) -> Result<(), Fault> {
        if !self.rows.as_json.load(Ordering::Relaxed) {
            return self.print(text);
        }
        let line = redact::harmless_json(row.to_string());
        self.count(&line)?;
        self.rows.came.store(true, Ordering::Relaxed);
        self.put(Line::Out(told(format!("{line}\n"))));
        Ok(())
    }

    /// Writes a line of a script's `print`, with terminal sequences made visible. Fails with `limit.output` past the limit.
    pub fn print(&self, text: &str) -> Result<(), Fault> {
        self.count(text)?;
        let text = format!("{}\n", printable(&redact::text(text)));
        self.put(if self.apart.load(Ordering::Relaxed) { Line::Err(text) } else { Line::Out(text) });
        Ok(())
    }

    /// Writes one line of a script's `log`, newlines made visible as well, so that it cannot pass for two.
    pub fn log(&self, level: Level, text: &str) -> Result<(), Fault> {
        self.count(text)?;
        self.put(Line::Err(format!("{}{}: {}\n", name(level), self.run, one_line(&redact::text(text)))));
        Ok(())
    }

    /// Writes text of ours to standard output as it is: whatever a script or a host said in it was made harmless by the caller.
    pub fn text(&self, text: impl Into<String>) {
        self.put(Line::Out(told(text.into())));
    }

    /// Writes text of ours to standard error as it is; see [`Output::text`].
    pub fn note(&self, text: impl Into<String>) {
        self.put(Line::Err(told(text.into())));
    }

    /// Counts what the script writes from zero: each chunk of the REPL has the limit of a run.
    pub fn begin_anew(&self) {
        self.shared.written.store(0, Ordering::Relaxed);
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Why something that the script printed could not be written, such as a full disk. A closed pipe is no reason.
    pub fn lost(&self) -> Result<(), Fault> {
        match lock(&self.shared.lost).take() {
            None => Ok(()),
            Some(error) => Err(Fault::new(
                "output.failed",
                format!("what the script printed could not be written: {error}"),
            )
            .hint("the run itself went on to its end; mind the space and the permissions of what its output goes to")
            .cause(error)),
        }
    }

    /// Waits until everything is written, or for `patience` without an end; says whether everything was.
    pub fn finish(&self, patience: Option<Duration>) -> bool {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut waiting = lock(&self.shared.waiting);
        while *waiting > 0 {
            waiting = match until {
                None => self.shared.drained.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.shared.drained.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    fn count(&self, text: &str) -> Result<(), Fault> {
        let bytes = text.len() as u64 + 1;
        let written = self.shared.written.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if written <= self.limit.0 {
            return Ok(());
        }
        let message = format!("the script passed its limit of output, {} (setting sandbox.output)", self.limit);
        Err(Fault::new("limit.output", message).hint("raise sandbox.output, or print less"))
    }

    fn put(&self, line: Line) {
        *lock(&self.shared.waiting) += 1;
        if self.lines.send(line).is_err() {
            // The thread ended: there is nobody to read.
            *lock(&self.shared.waiting) = 0;
            self.shared.drained.notify_all();
        }
    }
}

fn told(mut text: String) -> String {
    redact::in_place(&mut text);
    text
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warning",
        Level::Error => "error",
    }
}

fn write_all(queue: &mpsc::Receiver<Line>, mut out: impl Write, mut err: impl Write, shared: &Shared) {
    for line in queue {
        let written = match line {
            // What is printed and what is logged are two files; each goes on when the other is closed.
            Line::Out(text) => {
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                if written.is_err() {
                    shared.closed.store(true, Ordering::Relaxed);
                }
                written
            }
            Line::Err(text) => err.write_all(text.as_bytes()).and_then(|()| err.flush()),
        };
        // A reader that left on purpose (`| head`) is no failure; a full disk is.
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            lock(&shared.lost).get_or_insert(error);
        }
        let mut waiting = lock(&shared.waiting);
        *waiting = waiting.saturating_sub(1);
        if *waiting == 0 {
            shared.drained.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in memory that two can hold.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(lock(&self.0).clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A pipe that nobody reads.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn rows_are_lines_of_json_where_programs_read_and_text_for_people() {
        let row = serde_json::json!({ "name": "a\u{9b}31m\nb" });
        for as_json in [false, true] {
            let (out, err) = (Page::default(), Page::default());
            let output = Output::new(out.clone(), err.clone(), Bytes(200)).unwrap();
            if as_json {
                output.keep_apart();
                output.rows_as_json();
            }
            output.row(&row, "a  \u{9b}b").unwrap();
            output.row(&row, "c").unwrap();
            assert!(output.finish(None));
            assert_eq!(output.has_json_rows(), as_json);
            match as_json {
                true => {
                    assert_eq!((out.text().lines().count(), err.text()), (2, String::new()));
                    assert!(!out.text().contains('\u{9b}'));
                    let read = out
                        .text()
                        .lines()
                        .map(|line| serde_json::from_str(line).unwrap())
                        .collect::<Vec<serde_json::Value>>();
                    assert_eq!(read, [row.clone(), row.clone()]);
                }
                false => assert_eq!(out.text(), "a  \\u{9b}b\nc\n"),
            }
            assert_eq!(output.row(&row, &"x".repeat(200)).is_err(), !as_json);
        }
    }

    #[test]
    fn a_script_cannot_forge_a_terminal_sequence_or_a_line_of_the_log() {
        let (out, err) = (Page::default(), Page::default());
        let output = Output::new(out.clone(), err.clone(), Bytes(10_000)).unwrap();
        output.print("a\x1b[2Jb\tc\nd\r\u{9b}31m\u{202e}x").unwrap();
        output.log(Level::Info, "fine\nerror: forged\u{2028}again\r\n").unwrap();
        assert!(output.finish(None));
        assert_eq!(out.text(), "a\\u{1b}[2Jb\tc\nd\\r\\u{9b}31m\\u{202e}x\n");
        assert_eq!(err.text(), "info: fine\\nerror: forged\\u{2028}again\\r\\n\n");
    }

    #[test]
    fn every_control_and_format_character_is_made_visible() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let text = String::from(c);
            let shown = printable(&text);
            if c.is_control() && c != '\n' && c != '\t' {
                assert_ne!(shown, text, "{:x}", u32::from(c));
            }
            assert!(!one_line(&text).contains(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']));
        }
        for c in "\u{200b}\u{200d}\u{200e}\u{202a}\u{2066}\u{2069}\u{feff}\u{e0041}\u{61c}\u{ad}".chars() {
            assert!(printable(&c.to_string()).starts_with("\\u{"), "{:x}", u32::from(c));
        }
        assert_eq!(printable("zażółć 日本語 😀"), "zażółć 日本語 😀");
    }

    #[test]
    fn output_is_capped() {
        let output = Output::new(Page::default(), Page::default(), Bytes(10)).unwrap();
        output.print("12345").unwrap();
        let fault = output.log(Level::Info, "67890").unwrap_err();
        assert_eq!(fault.kind(), "limit.output");
        assert!(fault.message().contains("10 B") && fault.message().contains("sandbox.output"), "{fault:?}");
    }

    #[test]
    fn a_stuck_reader_stops_nobody() {
        let output = Output::new(Stuck, Page::default(), Bytes(1 << 20)).unwrap();
        for _ in 0..1000 {
            output.print("a line that nobody reads").unwrap();
        }
        assert!(!output.finish(Some(Duration::from_millis(10))));
    }

    #[test]
    fn a_closed_pipe_ends_the_output_quietly_and_the_log_goes_on() {
        let err = Page::default();
        let output = Output::new(Closed, err.clone(), Bytes(1 << 20)).unwrap();
        output.print("lost").unwrap();
        output.log(Level::Warn, "kept").unwrap();
        assert!(output.finish(None));
        assert!(output.is_closed());
        assert_eq!(err.text(), "warning: kept\n");
    }
}
