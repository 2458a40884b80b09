//! The one error that leaves a room: a [`Fault`].
//!
//! Each engine has an error enum of its own, internal to it; at the door it becomes a `Fault`. A fault's `kind` is dotted, stable
//! and part of the public interface: scripts match on it, exit codes follow from it. No text is ever parsed.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// What went wrong: `kind` for programs, `message` for people, `hint` for what to do next.
pub struct Fault {
    kind: Cow<'static, str>,
    message: String,
    hint: Option<String>,
    retry: bool,
    /// The entry of a capability table that is missing.
    entry: Option<Box<str>>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// The exit codes of a process, and what each says.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "the script failed, or something on this machine did"),
    (2, "the command, the script's form or the configuration is wrong; nothing was run"),
    (3, "denied: a capability is missing"),
    (4, "the host could not be reached, or refused"),
    (124, "a limit of the run was passed"),
];

/// The families of kinds: the part of a kind before its first dot, the exit code, and what it is about.
pub const FAMILIES: &[(&str, u8, &str)] = &[
    ("usage", 2, "a command, an argument, a parameter or a declaration that is not as it must be"),
    ("config", 2, "a configuration file or variable"),
    ("door", 3, "a call that the capability tables do not allow, or a quota that is used up"),
    ("esxi", 4, "what a host answered, or that it did not; an unknown fault keeps its name on the wire"),
    ("host", 4, "the way to a host: its password, its certificate, the keyring"),
    ("local", 1, "a file of this machine that a person named: it cannot be read, made or filled, or is there already"),
    ("ova", 1, "an appliance: its archive, its descriptor or its manifest is not as it must be"),
    (
        "web",
        4,
        "what lies at a URL: it cannot be reached, was refused, broke off, or is not what the server said it was",
    ),
    ("sim", 4, "the simulator: its state folder is damaged or in use, or it cannot listen"),
    ("limit", 124, "a limit of the run: time, memory, calls, source, output"),
    ("script", 1, "the script itself: a syntax error, an error that it raised, a module that is missing"),
    ("cloudinit", 1, "a field of a cloud-init document"),
    ("audit", 1, "the audit log: it cannot be written, it is damaged, or it is nothing that may be trusted"),
    ("backup", 1, "a repository of backups: damaged, missing, of another key, or its place cannot be written"),
    ("vmdk", 1, "a virtual disk's file: damaged, of a form that is not read, or it cannot be read or written"),
    ("catalog", 1, "the catalog: in use, damaged, of a newer ceso, or it cannot be written"),
    ("jail", 1, "the kernel does not lock the script's process down"),
    ("output", 1, "a result that could not be written"),
    ("metrics", 1, "figures for Prometheus that could not be told or written"),
    ("log", 1, "log lines or traces that could not be written"),
    ("ceso", 1, "a defect of ceso"),
];

impl Fault {
    /// Makes a fault of a dotted kind (`esxi.invalid_power_state`). The message says what happened and where.
    pub fn new(kind: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), hint: None, retry: false, entry: None, cause: None }
    }

    /// Adds what to do next, as one sentence.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Marks a fault whose operation may succeed when it is simply called again.
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Names the entry of a capability table that would have allowed the call: `vm.power "web-1"`.
    pub fn missing(mut self, entry: impl Into<Box<str>>) -> Self {
        self.entry = Some(entry.into());
        self
    }

    /// Keeps the error underneath, for `--verbose` and for logs.
    pub fn cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Cuts kind, message and hint to at most so many characters each: what a script or a host can make long is kept short.
    pub fn shortened(mut self, most: usize) -> Self {
        let cut = |text: &mut String| {
            if let Some((at, _)) = text.char_indices().nth(most) {
                text.truncate(at);
                text.push('…');
            }
        };
        cut(&mut self.message);
        self.hint.iter_mut().for_each(cut);
        if self.kind.len() > most {
            cut(self.kind.to_mut());
        }
        self
    }

    /// Has every text of the fault and of its causes rewritten; causes that change are kept as texts alone.
    pub fn rewritten(mut self, write: &dyn Fn(&str) -> Option<String>) -> Self {
        let rewrite = |text: &mut String| {
            if let Some(new) = write(text) {
                *text = new;
            }
        };
        rewrite(&mut self.message);
        self.hint.iter_mut().for_each(rewrite);
        if let Some(kind) = write(&self.kind) {
            self.kind = kind.into();
        }
        if let Some(entry) = self.entry.as_deref().and_then(write) {
            self.entry = Some(entry.into());
        }
        if let Some(cause) = &self.cause {
            let mut texts = Vec::new();
            let mut next: Option<&(dyn StdError + 'static)> = Some(cause.as_ref());
            while let Some(error) = next {
                texts.push((error.to_string(), format!("{error:?}")));
                next = error.source();
            }
            if texts.iter().any(|(told, debug)| write(told).is_some() || write(debug).is_some()) {
                let told = texts.into_iter().rev().fold(None, |beneath, (text, _)| {
                    Some(Box::new(Told { text: write(&text).unwrap_or(text), beneath }))
                });
                self.cause = told.map(|told| told as Box<dyn StdError + Send + Sync>);
            }
        }
        self
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The entry of a capability table that is missing, for a denial.
    pub fn missing_entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    pub fn may_retry(&self) -> bool {
        self.retry
    }

    /// Whether the kind is `prefix` itself or lies below it: `fault.is("door")` holds for `door.denied`.
    pub fn is(&self, prefix: &str) -> bool {
        self.kind.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The process's exit code for a run that ends with this fault.
    ///
    /// 1 the script failed, 2 usage, 3 denied, 4 the host could not be reached or refused, 124 a limit was passed.
    pub fn exit_code(&self) -> u8 {
        let family = self.kind.split('.').next().unwrap_or_default();
        FAMILIES.iter().find(|(name, _, _)| *name == family).map_or(1, |(_, code, _)| *code)
    }
}

/// A cause of which only the words are left.
#[derive(Debug)]
struct Told {
    text: String,
    beneath: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Told {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.beneath.as_deref().map(|told| told as &(dyn StdError + 'static))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, " <- {cause:?}")?;
        }
        Ok(())
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// The candidates most like `wanted`, best first, at most three: for "did you mean" hints.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wanted.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.75)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
