//! One thing that happened, as whoever saw it tells it.
//!
//! The fields stand here in the order of the alphabet, which is their order in the file too: what serde writes is then canonical
//! already, but for what stands in a [`Value`].

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::canonical;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A run starts.
    RunBegin,
    /// A run has ended.
    RunEnd,
    /// A change is about to be made: on disk before anything is sent.
    Intent,
    /// How a change ended.
    Outcome,
    /// Something was read.
    Read,
    /// A call was not allowed.
    Denied,
    /// Anything else worth a line.
    Note,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::RunBegin, Self::RunEnd, Self::Intent, Self::Outcome, Self::Read, Self::Denied, Self::Note];

    /// The kind's name in the file: `run_begin`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunBegin => "run_begin",
            Self::RunEnd => "run_end",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Read => "read",
            Self::Denied => "denied",
            Self::Note => "note",
        }
    }
}

/// One event. Only what is there is written: an empty list and a `None` leave no trace in the line.
///
/// The log writes what it is given: secrets must have been taken out before.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// What the operation was called with. Numbers are doubles in canonical JSON; whole ones beyond 2^53 become texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// The call's number within its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// What the host's own log knows the call by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// Whatever else belongs to the kind: counts at a run's end, a path, a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// How long it took, in microseconds.
    #[serde(rename = "duration_us", skip_serializing_if = "Option::is_none", serialize_with = "microseconds")]
    pub duration: Option<Duration>,
    /// `read`, `change`, `destroy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// The entry of the capability table that allowed the call, or that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Why it failed or was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultNote>,
    /// The host that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The sequence number of the intent that this is the outcome of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    pub kind: Kind,
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The mode of the run: `restricted`, `standard`, `unrestricted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The names of the objects that it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// The operation: `vm.power_on`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// How it ended: `done`, `unchanged`, `failed`, `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Who had it done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// What came of it, in few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The run's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The SHA-256 of the script, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
}

/// A fault, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultNote {
    pub kind: String,
    pub message: String,
}

impl Event {
    /// An event of that kind, with nothing else said yet.
    pub fn new(kind: Kind) -> Self {
        Self {
            arguments: None,
            call: None,
            correlation: None,
            details: None,
            duration: None,
            effect: None,
            entry: None,
            fault: None,
            host: None,
            intent: None,
            kind,
            message: None,
            mode: None,
            objects: Vec::new(),
            operation: None,
            outcome: None,
            principal: None,
            result: None,
            run: None,
            script: None,
        }
    }

    /// An event of a run.
    pub fn of_run(kind: Kind, run: impl Into<String>) -> Self {
        Self { run: Some(run.into()), ..Self::new(kind) }
    }

    /// The event's canonical JSON. What is longer than a line may be loses its values, and says how long they were; a log must not
    /// refuse to tell of a call because the call was large.
    pub(super) fn into_body(mut self) -> Result<Vec<u8>, String> {
        for value in [&mut self.arguments, &mut self.details, &mut self.result].into_iter().flatten() {
            canonical::exact(value);
        }
        let body = canonical::of(&self);
        if body.as_ref().is_ok_and(|body| body.len() <= LONGEST) {
            return body;
        }
        for value in [&mut self.arguments, &mut self.details, &mut self.result].into_iter().flatten() {
            *value = serde_json::json!({ "omitted_bytes": value.to_string().len() });
        }
        let texts = [
            &mut self.correlation,
            &mut self.effect,
            &mut self.entry,
            &mut self.host,
            &mut self.message,
            &mut self.mode,
            &mut self.operation,
            &mut self.outcome,
            &mut self.principal,
            &mut self.run,
            &mut self.script,
        ];
        texts.into_iter().flatten().for_each(shorten);
        self.fault.iter_mut().for_each(|fault| {
            shorten(&mut fault.kind);
            shorten(&mut fault.message);
        });
        if self.objects.len() > MOST_OBJECTS {
            let more = self.objects.len() - MOST_OBJECTS;
            self.objects.truncate(MOST_OBJECTS);
            self.objects.push(format!("… and {more} more"));
        }
        self.objects.iter_mut().for_each(shorten);
        canonical::of(&self)
    }
}

/// The longest event, in bytes: a line must be shorter than [`super::tail::LONGEST`].
const LONGEST: usize = 256 << 10;

/// How many characters stay of a text of an event that is too long, and how many objects.
const MOST_CHARACTERS: usize = 300;
const MOST_OBJECTS: usize = 100;

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(MOST_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
}

fn microseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = duration.map_or(0, |duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    serializer.serialize_u64(micros.min(MOST_EXACT))
}

/// The greatest whole number that a double holds exactly, with all below it.
pub(super) const MOST_EXACT: u64 = (1 << 53) - 1;
