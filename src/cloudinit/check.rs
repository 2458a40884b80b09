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

/// A number between two others, both of them too.
pub(super) fn within(at: &At, number: u32, least: u32, most: u32) -> Result<(), Error> {
    if !(least..=most).contains(&number) {
        return Err(at.is(Problem::OutOfRange(number, least, most)));
    }
    Ok(())
}

/// A day of the calendar, as `YYYY-MM-DD`.
pub(super) fn day(at: &At, text: &str) -> Result<(), Error> {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    if text.len() == 10 && time::Date::parse(text, format).is_ok() {
        return Ok(());
    }
    Err(at.is(Problem::Day(Shown::new(text))))
}

/// A hash in crypt's modular form whose scheme every distribution's libcrypt knows: crypt(5). Not a password, and not a lock.
pub(super) fn password_hash(at: &At, hash: &str) -> Result<(), Error> {
    let bad = |why| Err(at.is(Problem::PasswordHash(why)));
    let body = |digits: &str, length: usize| {
        digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte))
    };
    let Some(rest) = hash.strip_prefix('$') else { return bad("it has no `$` in front, so it may be a password") };
    let Some((scheme, rest)) = rest.split_once('$') else { return bad("it is cut off") };
    let length = match scheme {
        "6" => 86,
        "5" => 43,
        "y" => 43,
        "2b" | "2y" | "2a" => {
            let whole = rest.split_once('$').is_some_and(|(cost, tail)| {
                cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit()) && body(tail, 53)
            });
            return if whole { Ok(()) } else { bad("it is cut off or damaged") };
        }
        "1" => return bad("MD5 is broken"),
        _ => return bad("its scheme is none of $6$, $5$, $y$ and $2b$"),
    };
    let parts: Vec<&str> = rest.split('$').collect();
    let (salt, digest) = match parts.as_slice() {
        [salt, digest] if scheme != "y" => (*salt, *digest),
        [rounds, salt, digest] if scheme != "y" => {
            let number = rounds.strip_prefix("rounds=");
            if number.is_none_or(|number| {
                number.is_empty() || number.len() > 9 || !number.bytes().all(|byte| byte.is_ascii_digit())
            }) {
                return bad("it is cut off or damaged");
            }
            (*salt, *digest)
        }
        [parameters, salt, digest] if body(parameters, parameters.len()) && !parameters.is_empty() => (*salt, *digest),
        _ => return bad("it is cut off or damaged"),
    };
    if salt.len() > 86 || !body(salt, salt.len()) || !body(digest, length) {
        return bad("it is cut off or damaged");
    }
    Ok(())
}

/// A version of a package, as apt, dnf and zypper take it.
pub(super) fn version(at: &At, version: &str) -> Result<(), Error> {
    let rest = version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._:~^*".contains(&byte));
    if rest && (1..=255).contains(&version.len()) && version.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(at.is(Problem::Version(Shown::new(version))))
}

/// At most `most` entries.
pub(super) fn at_most(at: &At, entries: usize, most: usize) -> Result<(), Error> {
    if entries > most {
        return Err(at.is(Problem::TooMany(entries, most)));
    }
    Ok(())
}
