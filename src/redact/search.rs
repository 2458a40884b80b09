//! The search: one automaton over the forms of all secrets, run over a text, its views, and what is packed in them.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::forms::{self, Bounds, Form};
use super::{WITHHELD, packed, views};

/// How deep what is packed is unpacked within each other, and how many escapings are undone at each depth.
const DEPTH: usize = 3;
const ESCAPINGS: usize = 2;
/// No stream of gzip or zlib that says anything is shorter.
const SHORTEST_STREAM: usize = 10;
/// What may come out of one compressed stream.
const UNPACKED: usize = 16 << 20;

/// All that is known, ready to be searched for.
pub(super) struct Known {
    automaton: Option<AhoCorasick>,
    needles: Vec<Needle>,
    labels: Vec<String>,
    /// A text that is shorter holds none of the forms: every encoding makes a text longer, and no stream is so short.
    shortest: usize,
    /// Whether any secret holds a blank: then a `+` may stand for one.
    blanks: bool,
}

/// How many encodings around the text under search were undone.
#[derive(Debug, Clone, Copy, Default)]
struct Depth {
    packed: usize,
    escaped: usize,
}

enum Needle {
    Form {
        form: Form,
        secret: usize,
    },
    /// A label: what lies within one that we wrote is no secret.
    Label,
}

#[derive(Debug, Clone)]
struct Hit {
    range: Range<usize>,
    secret: usize,
}

/// The text cannot be searched with the work that it is worth.
struct Refused;

/// The work that a search may do.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), Refused> {
        self.0 = self.0.checked_sub(bytes + 16).ok_or(Refused)?;
        Ok(())
    }
}

impl Known {
    pub fn of<'a>(secrets: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let (texts, whats): (Vec<&str>, Vec<&str>) = secrets.unzip();
        let labels: Vec<String> = whats.iter().map(|what| label(what, &texts)).collect();
        let mut needles = Vec::new();
        for (secret, text) in texts.iter().enumerate() {
            needles.extend(forms::of(text).into_iter().map(|form| Needle::Form { form, secret }));
        }
        let mut patterns: Vec<&[u8]> = Vec::with_capacity(needles.len() + labels.len());
        patterns.extend(needles.iter().map(|needle| match needle {
            Needle::Form { form, .. } => form.needle.as_slice(),
            Needle::Label => &[],
        }));
        patterns.extend(labels.iter().map(String::as_bytes));
        // It fails where there are more states than 32 bits count; secrets are few and cut.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns).ok();
        let blanks = texts.iter().any(|text| text.contains(' '));
        let shortest = patterns.iter().map(|pattern| pattern.len()).min().unwrap_or(0).min(SHORTEST_STREAM);
        needles.extend(labels.iter().map(|_| Needle::Label));
        Self { automaton, needles, labels, shortest, blanks }
    }

    /// The bytes with every secret replaced; nothing where there was none.
    pub fn hide(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() < self.shortest {
            return None;
        }
        let mut hits = Vec::new();
        let mut budget = Budget(bytes.len().saturating_mul(64).saturating_add(4 * UNPACKED));
        if self.find(bytes, Depth::default(), &mut budget, &mut hits).is_err() {
            return Some(WITHHELD.as_bytes().to_vec());
        }
        if hits.is_empty() {
            return None;
        }
        hits.sort_by_key(|hit| (hit.range.start, std::cmp::Reverse(hit.range.end)));
        let mut merged: Vec<Hit> = Vec::new();
        for hit in hits {
            match merged.last_mut() {
                Some(last) if hit.range.start <= last.range.end => last.range.end = last.range.end.max(hit.range.end),
                _ => merged.push(hit),
            }
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for hit in merged {
            let range = whole_characters(bytes, hit.range);
            out.extend_from_slice(bytes.get(at..range.start.max(at)).unwrap_or_default());
            out.extend_from_slice(self.labels.get(hit.secret).map_or(WITHHELD, String::as_str).as_bytes());
            at = range.end.max(at);
        }
        out.extend_from_slice(bytes.get(at..).unwrap_or_default());
        Some(out)
    }

    fn find(&self, bytes: &[u8], depth: Depth, budget: &mut Budget, hits: &mut Vec<Hit>) -> Result<(), Refused> {
        budget.take(bytes.len())?;
        self.find_forms(bytes, depth, hits)?;
        if bytes.len() < 4 {
            return Ok(());
        }
        if depth.escaped < ESCAPINGS {
            let depth = Depth { escaped: depth.escaped + 1, ..depth };
            for view in views::of(bytes, self.blanks) {
                let mut inner = Vec::new();
                self.find(&view.bytes, depth, budget, &mut inner)?;
                hits.extend(inner.into_iter().map(|hit| Hit { range: view.source(hit.range), secret: hit.secret }));
            }
        }
        if depth.packed < DEPTH {
            let depth = Depth { packed: depth.packed + 1, escaped: 0 };
            let streams = packed::streams(bytes, UNPACKED).map_err(|_| Refused)?;
            for packed in streams.into_iter().chain(packed::runs(bytes)) {
                let mut inner = Vec::new();
                self.find(&packed.bytes, depth, budget, &mut inner)?;
                if let Some(hit) = inner.into_iter().next() {
                    hits.push(Hit { range: packed.range, secret: hit.secret });
                }
            }
        }
        Ok(())
    }

    fn find_forms(&self, bytes: &[u8], depth: Depth, hits: &mut Vec<Hit>) -> Result<(), Refused> {
        let Some(automaton) = &self.automaton else { return Err(Refused) };
        if !automaton.is_match(bytes) {
            return Ok(());
        }
        let (first, mut labelled) = (hits.len(), Vec::new());
        for found in automaton.find_overlapping_iter(bytes) {
            match self.needles.get(found.pattern().as_usize()) {
                Some(Needle::Form { form, secret }) if counts(form.bounds, bytes, &found.range(), depth) => {
                    let range = widened(bytes, found.range(), form);
                    hits.push(Hit { range, secret: *secret });
                }
                Some(Needle::Label) => labelled.push(found.range()),
                Some(Needle::Form { .. }) | None => {}
            }
        }
        if !labelled.is_empty() {
            let mine = hits.split_off(first);
            let inside =
                |hit: &Hit| labelled.iter().any(|label| label.start <= hit.range.start && hit.range.end <= label.end);
            hits.extend(mine.into_iter().filter(|hit| !inside(hit)));
        }
        Ok(())
    }
}

/// What is written in place of a secret. It must not hold a secret itself, and can stand in JSON, XML and a line of a log.
fn label(what: &str, secrets: &[&str]) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '@' | ':' | ',');
    let what: String = what.chars().filter(|c| plain(*c)).take(80).collect();
    if what.is_empty() || secrets.iter().any(|secret| what.contains(secret)) {
        return "[redacted]".to_owned();
    }
    format!("[redacted: {what}]")
}

fn counts(bounds: Bounds, bytes: &[u8], range: &Range<usize>, depth: Depth) -> bool {
    let before = range.start.checked_sub(1).and_then(|at| bytes.get(at)).copied();
    let behind = bytes.get(range.end).copied();
    let inner: fn(u8) -> bool = match bounds {
        Bounds::Anywhere => return true,
        Bounds::Token if depth.packed + depth.escaped > 0 => return false,
        Bounds::Word => |byte| byte.is_ascii_alphanumeric() || !byte.is_ascii(),
        Bounds::Token => {
            |byte| byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'-' | b'_' | b'.' | b'/')
        }
    };
    !before.is_some_and(inner) && !behind.is_some_and(inner)
}

/// The range with the characters of base64 around it that hold some of its bits, and their padding.
fn widened(bytes: &[u8], range: Range<usize>, form: &Form) -> Range<usize> {
    if form.before == 0 && form.behind == 0 {
        return range;
    }
    let is_base64 = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(b));
    let (mut start, mut end) = (range.start, range.end);
    for _ in 0..form.before {
        if start > 0 && is_base64(bytes.get(start - 1)) {
            start -= 1;
        }
    }
    for _ in 0..form.behind {
        if is_base64(bytes.get(end)) {
            end += 1;
        }
    }
    while end < range.end + 4 && bytes.get(end) == Some(&b'=') {
        end += 1;
    }
    start..end
}

/// The range without a character of UTF-8 cut in two.
fn whole_characters(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let (mut start, mut end) = (range.start, range.end);
    while start > 0 && continues(start) {
        start -= 1;
    }
    while continues(end) {
        end += 1;
    }
    start..end
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.labels.len())
    }
}
