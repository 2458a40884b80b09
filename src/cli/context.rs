//! What every command needs of its surroundings: the configuration, the streams, a runtime.
//!
//! The configuration is read at the first need, so that the commands that mend a broken one (`config init`, `host remove`) work.
//! Must not hold what one command alone needs.

use std::cell::OnceCell;
use std::future::Future;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;

use clap::ArgMatches;
use serde_json::Value;

use super::output::{self, Format, Style};
use crate::config::{Config, Sources, printable};
use crate::error::Fault;

/// The surroundings of one command.
pub struct Context {
    sources: Sources,
    config: OnceCell<Arc<Config>>,
}

impl Context {
    pub fn new(sources: Sources) -> Self {
        Self { sources, config: OnceCell::new() }
    }

    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The configuration, read once. Faults: those of [`Config::load`].
    pub fn config(&self) -> Result<Arc<Config>, Fault> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let loaded = Arc::new(Config::load(self.sources.clone())?);
        Ok(self.config.get_or_init(|| loaded).clone())
    }

    /// How this command's result is shown: `--output`, else `CESO_OUTPUT`, else a table.
    pub fn style(&self, matches: &ArgMatches) -> Result<Style, Fault> {
        let format = Format::chosen(matches, self.sources.environment.get("CESO_OUTPUT")?)?;
        Ok(Style::of_stdout(format))
    }

    /// Prints a result on standard output.
    pub fn print(&self, matches: &ArgMatches, value: &Value) -> Result<(), Fault> {
        self.print_columns(matches, value, &[])
    }

    /// Prints a result on standard output; as a table of these columns, where there are any.
    pub fn print_columns(&self, matches: &ArgMatches, value: &Value, columns: &[String]) -> Result<(), Fault> {
        let style = Style { columns: columns.to_vec(), ..self.style(matches)? };
        output::print(value, &style, &mut io::stdout().lock())
    }

    /// Says something to the person, on standard error, which is not part of the result.
    pub fn say(&self, text: &str) -> Result<(), Fault> {
        say(text)
    }

    /// Whether there is a person to ask: standard input and standard error are terminals.
    pub fn has_person(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a question that is answered with "yes"; anything else is a no. `None` where there is nobody to ask.
    pub fn confirm(&self, question: &str) -> Result<Option<bool>, Fault> {
        if !self.has_person() {
            return Ok(None);
        }
        let failed =
            |error: io::Error| Fault::new("usage.no_answer", format!("no answer was read: {error}")).cause(error);
        let mut stderr = io::stderr().lock();
        write!(stderr, "{} [yes/no] ", printable(question)).and_then(|()| stderr.flush()).map_err(failed)?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(failed)?;
        Ok(Some(matches!(answer.trim(), "yes" | "y" | "Yes" | "YES" | "Y")))
    }

    /// Runs a future to its end on this thread.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Fault::new("output.runtime", format!("the asynchronous runtime does not start: {error}")).cause(error)
        })?;
        let done = runtime.block_on(future);
        // What was given up while it waited for a place that does not answer only read, and is not waited for.
        runtime.shutdown_timeout(std::time::Duration::from_millis(200));
        Ok(done)
    }
}

/// Says something to the person, on standard error, line by line and with nothing that moves the cursor.
pub fn say(text: &str) -> Result<(), Fault> {
    let safe: String = text.lines().map(|line| format!("{}\n", printable(line))).collect();
    output::write(&safe, &mut io::stderr().lock())
}
