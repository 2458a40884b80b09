//! How far long operations are, for a person at a terminal: a line for each, gone when it ends.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::one_line;
use crate::door::pass::Progress;
use crate::redact;

/// How many lines there may be: each has a thread that keeps it moving, and a worker that is broken could ask for any number.
const MOST: usize = 128;

/// The longest label, in characters.
const LONGEST: usize = 200;

/// The lines of one run. Nothing is drawn where standard error is no terminal.
#[derive(Clone)]
pub struct Lines {
    all: MultiProgress,
    bars: Arc<Mutex<HashMap<String, ProgressBar>>>,
}

impl Lines {
    pub fn new() -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { all: MultiProgress::with_draw_target(target), bars: Arc::default() }
    }

    /// Lines that nobody sees.
    pub fn hidden() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), bars: Arc::default() }
    }

    /// Shows how far an operation is.
    pub fn operation(&self, progress: &Progress) {
        let key = progress.call.to_string();
        match progress.percent {
            None => self.end(&key),
            Some(percent) => {
                let label = format!("{} {}", progress.operation, one_line(&progress.object));
                self.show(&key, &label, Some(f64::from(percent) / 100.0));
            }
        }
    }

    /// Shows what a script says of itself with `task.progress`; a fraction of 1 ends the line.
    pub fn script(&self, label: &str, fraction: Option<f64>) {
        let label: String = label.chars().take(LONGEST).collect();
        let label = label.as_str();
        let key = format!("script {label}");
        if fraction.is_some_and(|fraction| fraction >= 1.0) {
            self.end(&key)
        } else {
            self.show(&key, &one_line(label), fraction)
        }
    }

    /// Removes every line: the run is over.
    pub fn clear(&self) {
        for (_, bar) in self.lock().drain() {
            bar.finish_and_clear();
        }
    }

    fn show(&self, key: &str, label: &str, fraction: Option<f64>) {
        let mut bars = self.lock();
        if bars.len() >= MOST && !bars.contains_key(key) {
            return;
        }
        let bar = bars.entry(key.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {msg:40} {bar:24} {percent:>3} %");
            let bar = self.all.add(ProgressBar::new(100));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_message(redact::text(label).into_owned());
        if let Some(fraction) = fraction {
            bar.set_position((fraction.clamp(0.0, 1.0) * 100.0) as u64);
        }
    }

    fn end(&self, key: &str) {
        if let Some(bar) = self.lock().remove(key) {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, ProgressBar>> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_an_end_are_not_kept() {
        let lines = Lines::new();
        for n in 0..1000 {
            lines.script(&format!("{n}{}", "x".repeat(10_000)), Some(0.5));
        }
        assert_eq!(lines.lock().len(), MOST);
        assert!(lines.lock().keys().all(|key| key.len() < LONGEST + 20));
        lines.clear();
    }
}
