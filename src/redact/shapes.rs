//! Secrets that are known by their shape: the password of a URL, the body of a private key in PEM.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

/// The text with what is secret by its shape replaced.
pub(super) fn hide(text: &str) -> Cow<'_, str> {
    let mut found: Vec<(Range<usize>, &str)> = Vec::new();
    if text.len() > 8 && memchr::memchr2(b'@', b'-', text.as_bytes()).is_some() {
        passwords(text, &mut found);
        keys(text, &mut found);
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_by_key(|(range, _)| range.start);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (range, label) in found.into_iter().filter(|(range, _)| range.start >= 1) {
        if range.start < at {
            continue;
        }
        out.push_str(text.get(at..range.start).unwrap_or_default());
        out.push_str(label);
        at = range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

/// What stands between the colon and the `@` of a URL's user.
fn passwords(text: &str, found: &mut Vec<(Range<usize>, &'static str)>) {
    const LABEL: &str = "[redacted: password in a URL]";
    for scheme in memmem::find_iter(text.as_bytes(), b"://") {
        let start = scheme + 3;
        let rest = text.get(start..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '<' | '>' | '\\' | '`'));
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        // A password may itself hold an `@`: the last one ends it.
        let Some((user, _)) = authority.rsplit_once('@') else { continue };
        let Some((name, password)) = user.split_once(':') else { continue };
        if !password.is_empty() && password != LABEL {
            let from = start + name.len() + 1;
            found.push((from..from + password.len(), LABEL));
        }
    }
}

/// What stands between the lines that begin and end a private key.
fn keys(text: &str, found: &mut Vec<(Range<usize>, &'static str)>) {
    const LABEL: &str = "[redacted: private key]";
    const END: &str = "PRIVATE KEY-----";
    for begin in memmem::find_iter(text.as_bytes(), b"-----BEGIN ") {
        let rest = text.get(begin..).unwrap_or_default();
        let first = rest.lines().next().unwrap_or_default();
        let Some(title) = first.find(END).filter(|title| *title < 60) else { continue };
        let from = title + END.len();
        let body = rest.get(from..).unwrap_or_default();
        let length = body.find("-----END ").unwrap_or(body.len());
        if body.get(..length).is_some_and(|body| !body.trim().is_empty() && body.trim() != LABEL) {
            found.push((begin + from..begin + from + length, LABEL));
        }
    }
}
