//! The forms in which a secret is searched for directly: plain, base64 at each alignment and in both alphabets, hex in both cases.
//!
//! What is escaped or packed is undone by [`super::views`] and [`super::packed`] first, and then searched for these.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A secret that is longer is searched for by parts of about this size, so that the automaton stays small.
const WHOLE: usize = 1024;
const PART: usize = 96;

/// Fewer characters of base64 than this say too little.
const FEWEST: usize = 4;

/// How the surroundings of a form decide whether it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    /// It counts wherever it stands.
    Anywhere,
    /// Only where it is not a part of a longer word.
    Word,
    /// Only between blanks, quotes, brackets and punctuation, and only in the text as it stands.
    Token,
}

/// One needle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub needle: Vec<u8>,
    pub bounds: Bounds,
    /// Characters of base64 before and behind the needle that hold some bits of the secret.
    pub before: usize,
    pub behind: usize,
}

impl Form {
    fn plain(needle: &[u8], bounds: Bounds) -> Self {
        Self { needle: needle.to_vec(), bounds, before: 0, behind: 0 }
    }
}

/// All forms of a secret.
pub(super) fn of(secret: &str) -> Vec<Form> {
    let mut forms = Vec::new();
    for part in parts(secret) {
        let bounds = match part.len() {
            0 => continue,
            1..=3 => Bounds::Token,
            4..=7 if part.chars().all(char::is_alphabetic) => Bounds::Word,
            _ => Bounds::Anywhere,
        };
        forms.push(Form::plain(part.as_bytes(), bounds));
        if bounds != Bounds::Token {
            encoded(part.as_bytes(), &mut forms);
        }
        // What was cut out of a text or broken in two is UTF-16 in much of what Windows writes.
        let wide: Vec<u8> = part.encode_utf16().flat_map(u16::to_le_bytes).collect();
        if bounds != Bounds::Token {
            forms.push(Form::plain(&wide, Bounds::Anywhere));
            base64(&wide, &mut forms);
        }
    }
    forms
}

fn encoded(part: &[u8], forms: &mut Vec<Form>) {
    base64(part, forms);
    let hex = hex::encode(part);
    forms.push(Form::plain(hex.to_ascii_uppercase().as_bytes(), Bounds::Anywhere));
    forms.push(Form::plain(hex.as_bytes(), Bounds::Anywhere));
}

/// The characters that the secret alone decides, at each of the three places that it may have in what was encoded.
fn base64(part: &[u8], forms: &mut Vec<Form>) {
    for ahead in 0..3 {
        let mut bytes = vec![0; ahead];
        bytes.extend_from_slice(part);
        let text = STANDARD_NO_PAD.encode(&bytes);
        let (start, before) = [(0, 0), (2, 1), (3, 1)].get(ahead).copied().unwrap_or_default();
        let end = bytes.len() * 8 / 6;
        let behind = usize::from(!(bytes.len() * 8).is_multiple_of(6));
        let Some(needle) = text.get(start..end).filter(|needle| needle.len() >= FEWEST) else { continue };
        let form = |needle: &str| Form { needle: needle.as_bytes().to_vec(), bounds: Bounds::Anywhere, before, behind };
        if needle.contains(['+', '/']) {
            forms.push(form(&needle.replace('+', "-").replace('/', "_")));
        }
        forms.push(form(needle));
    }
}

/// A long secret in parts, and the lines of one that has several: each says enough to be one itself.
fn parts(secret: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    if secret.len() <= WHOLE {
        parts.push(secret);
    } else {
        let mut rest = secret;
        while rest.len() >= 2 * PART {
            let (part, more) = rest.split_at(rest.floor_char_boundary(PART));
            parts.push(part);
            rest = more;
        }
        parts.push(rest);
    }
    if secret.contains('\n') {
        let lines = secret.lines().map(str::trim);
        parts.extend(lines.filter(|line| line.len() >= 16 && !line.starts_with("-----")));
    }
    parts
}
