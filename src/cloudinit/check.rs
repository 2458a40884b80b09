//! Checks of single values that are no network and no key: host names, accounts, paths, packages, free text.
//!
//! Each is as strict as the program in the guest that will read the value, because in there a refusal is seen by nobody.

use super::error::{At, Error, Problem, Shown};

/// One label of a host name: RFC 1123 §2.1, RFC 952.
pub(super) fn hostname(at: &At, name: &str) -> Result<(), Error> {
    label(name).map_err(|why| at.is(Problem::Hostname(Shown::new(name), why)))
}

/// A host name with its domain. The first label must be `hostname`, or the guest would have two names.
pub(super) fn fqdn(at: &At, name: &str, hostname: &str) -> Result<(), Error> {
    domain(at, name)?;
    match name.split_once('.') {
        Some((first, _)) if first.eq_ignore_ascii_case(hostname) => Ok(()),
        _ => Err(at.is(Problem::FqdnOfAnother(Shown::new(name), Shown::new(hostname)))),
    }
}

/// A domain name: labels of RFC 1123, at most 253 characters, the last label not a number (it would read as an address).
pub(super) fn domain(at: &At, name: &str) -> Result<(), Error> {
    let bad = |why| at.is(Problem::Hostname(Shown::new(name), why));
    if name.len() > 253 {
        return Err(bad("it is longer than 253 characters"));
    }
    for part in name.split('.') {
        label(part).map_err(bad)?;
    }
    match name.rsplit('.').next() {
        Some(last) if last.bytes().all(|byte| byte.is_ascii_digit()) => Err(bad("its last label is a number")),
        _ => Ok(()),
    }
}

fn label(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a label is empty");
    }
    if name.len() > 63 {
        return Err("a label is longer than 63 characters");
    }
    if name.contains('.') {
        return Err("it has a domain");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err("it has other characters than letters, digits and hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err("it begins or ends with a hyphen");
    }
    Ok(())
}

/// A user or group name as Debian's adduser and shadow take it.
pub(super) fn account(at: &At, name: &str) -> Result<(), Error> {
    let bad = |why| Err(at.is(Problem::AccountName(Shown::new(name), why)));
    match name.bytes().next() {
        None => return bad("it is empty"),
        Some(first) if !(first.is_ascii_lowercase() || first == b'_') => {
            return bad("it does not begin with a small letter or `_`");
        }
        Some(_) => {}
    }
    if name.len() > 32 {
        return bad("it is longer than 32 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-') {
        return bad("it has other characters than small letters, digits, `_` and `-`");
    }
    Ok(())
}

/// Text on one line, not empty, without any of `reserved`.
pub(super) fn line(at: &At, text: &str, longest: usize, reserved: &[char]) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(at.is(Problem::Empty));
    }
    let length = text.chars().count();
    if length > longest {
        return Err(at.is(Problem::TooLong(length, longest)));
    }
    match text.chars().find(|c| c.is_control() || reserved.contains(c)) {
        Some(c) if c.is_control() => Err(at.is(Problem::Control(u32::from(c)))),
        Some(c) => Err(at.is(Problem::Reserved(c))),
        None => Ok(()),
    }
}

/// Text for a shell, a program or a file: anything but NUL, which no program takes as an argument.
pub(super) fn text(at: &At, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(at.is(Problem::Control(0)));
    }
    Ok(())
}

/// An absolute path that names one place: no `..`, no `//`, no folder, nothing that a passwd line or a log would break at.
pub(super) fn path(at: &At, path: &str) -> Result<(), Error> {
    let bad = |why| Err(at.is(Problem::Path(Shown::new(path), why)));
    line(at, path, 4095, &[])?;
    let Some(below) = path.strip_prefix('/') else { return bad("it does not begin with `/`") };
    if below.is_empty() || below.ends_with('/') {
        return bad("it names a folder");
    }
    if below.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return bad("it has an empty, `.` or `..` part");
    }
    if below.split('/').any(|part| part.len() > 255) {
        return bad("a part is longer than 255 bytes");
    }
    Ok(())
}

/// Three or four octal digits.
pub(super) fn mode(at: &At, mode: &str) -> Result<(), Error> {
    if matches!(mode.len(), 3 | 4) && mode.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Ok(());
    }
    Err(at.is(Problem::Mode(Shown::new(mode))))
}

/// A package name, perhaps with a version, release or architecture, as apt, dnf and zypper take it: never an option.
pub(super) fn package(at: &At, name: &str) -> Result<(), Error> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'@');
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@+-._:=~/^".contains(&byte));
    if first && rest && name.len() <= 255 {
        return Ok(());
    }
    Err(at.is(Problem::Package(Shown::new(name))))
}

/// No value twice; the error points at the second.
pub(super) fn distinct<'a>(at: &At, values: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    for (index, value) in values.into_iter().enumerate() {
        if !seen.insert(value) {
            return Err(at.item(index).is(Problem::Twice(Shown::new(value))));
        }
    }
    Ok(())
}

/// At most `most` entries.
pub(super) fn at_most(at: &At, entries: usize, most: usize) -> Result<(), Error> {
    if entries > most {
        return Err(at.is(Problem::TooMany(entries, most)));
    }
    Ok(())
}
