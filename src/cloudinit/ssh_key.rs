//! SSH public keys, checked as sshd will read them from `authorized_keys`: options, type, base64 of RFC 4253's structure, comment.
//!
//! The key is checked for being one, not for being strong. Its text never stands in a message: people paste private keys.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use super::error::{At, Error, Problem};

const LONGEST: usize = 16 * 1024;

/// Checks one line and gives back its parts without surrounding blanks.
pub(super) fn check(at: &At, line: &str) -> Result<String, Error> {
    let line = line.trim();
    parse(line).map_err(|problem| at.is(problem))?;
    Ok(line.to_owned())
}

/// The key as `describe` shows it: type and SHA-256 fingerprint, as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(line: &str) -> String {
    match parse(line.trim()) {
        Ok((kind, blob)) => format!("{kind} SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&blob))),
        Err(_) => "no key".to_owned(),
    }
}

/// The blob of a key that has no options in front of it.
pub(super) fn plain_blob(line: &str) -> Option<Vec<u8>> {
    key_type(line.trim())?;
    parse(line.trim()).ok().map(|(_, blob)| blob)
}

/// The key's type and blob.
fn parse(line: &str) -> Result<(&'static str, Vec<u8>), Problem> {
    if line.is_empty() {
        return Err(Problem::Empty);
    }
    if line.len() > LONGEST {
        return Err(Problem::TooLong(line.len(), LONGEST));
    }
    if line.contains("PRIVATE KEY") {
        return Err(Problem::PrivateKey);
    }
    if let Some(c) = line.chars().find(|c| c.is_control()) {
        return Err(Problem::Control(u32::from(c)));
    }
    if line.starts_with('#') {
        return Err(Problem::SshKey("it is a comment"));
    }
    let (kind, rest) = match key_type(line) {
        Some(found) => found,
        None => key_type(after_options(line)?).ok_or(Problem::SshKey("it has no key type that OpenSSH knows"))?,
    };
    let encoded = rest.split([' ', '\t']).find(|word| !word.is_empty()).unwrap_or_default();
    let blob = STANDARD.decode(encoded).map_err(|_| Problem::SshKey("its data is not base64"))?;
    structure(kind, &blob).ok_or(Problem::SshKey("its data is cut off, damaged or of another type than it says"))?;
    Ok((kind, blob))
}

const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The key type that the text begins with, and what follows it.
fn key_type(text: &str) -> Option<(&'static str, &str)> {
    TYPES.into_iter().find_map(|name| {
        let rest = text.strip_prefix(name)?;
        rest.starts_with([' ', '\t']).then_some((name, rest))
    })
}

/// What follows the options: they end at the first blank outside of double quotes.
fn after_options(line: &str) -> Result<&str, Problem> {
    let mut quoted = false;
    let mut escaped = false;
    for (position, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok(line.get(position..).unwrap_or_default().trim_start()),
            _ => {}
        }
    }
    Err(Problem::SshKey(if quoted { "a quote of its options does not end" } else { "it is a single word" }))
}

/// Whether the blob is what its type says: RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4, OpenSSH's PROTOCOL.u2f; nothing may follow.
fn structure(kind: &str, blob: &[u8]) -> Option<()> {
    let mut rest = blob;
    if field(&mut rest)? != kind.as_bytes() {
        return None;
    }
    match kind {
        "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => (field(&mut rest)?.len() == 32).then_some(())?,
        "ssh-rsa" => {
            let exponent = field(&mut rest)?.len();
            let modulus = field(&mut rest)?.len();
            // 1024 bits is the least that OpenSSH has taken since 7.6.
            ((1..=9).contains(&exponent) && (128..=2049).contains(&modulus)).then_some(())?;
        }
        _ => {
            let (curve, size) = match kind.strip_prefix("sk-").unwrap_or(kind) {
                "ecdsa-sha2-nistp384" => ("nistp384", 97),
                "ecdsa-sha2-nistp521" => ("nistp521", 133),
                _ => ("nistp256", 65),
            };
            (field(&mut rest)? == curve.as_bytes()).then_some(())?;
            let point = field(&mut rest)?;
            (point.len() == size && point.first() == Some(&4)).then_some(())?;
        }
    }
    if kind.starts_with("sk-") {
        (!field(&mut rest)?.is_empty()).then_some(())?;
    }
    rest.is_empty().then_some(())
}

/// Takes one string of SSH's wire format: four bytes of length, then as many bytes.
pub(super) fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let value = tail.get(..length)?;
    *rest = tail.get(length..)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG3fx2y8bfW1iGZBOiq7jVZ5y0eJk9iZs5sG2DPrVXAr ops@example";

    fn blob(fields: &[&[u8]]) -> String {
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(field);
        }
        STANDARD.encode(bytes)
    }

    #[test]
    fn keys_of_every_type_are_taken() {
        let mut point = vec![4];
        point.resize(133, 7);
        let lines = [
            ED25519.to_owned(),
            format!("  {ED25519}\n"),
            format!("from=\"10.0.0.0/8,a \\\" b\",no-pty {ED25519}"),
            format!("restrict {ED25519}"),
            format!("ssh-rsa {} x", blob(&[b"ssh-rsa", &[1, 0, 1], &[1; 257]])),
            format!("ecdsa-sha2-nistp256 {}", blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &point[..65]])),
            format!("ecdsa-sha2-nistp384 {}", blob(&[b"ecdsa-sha2-nistp384", b"nistp384", &point[..97]])),
            format!("ecdsa-sha2-nistp521 {}", blob(&[b"ecdsa-sha2-nistp521", b"nistp521", &point])),
            format!("sk-ssh-ed25519@openssh.com {}", blob(&[b"sk-ssh-ed25519@openssh.com", &[1; 32], b"ssh:"])),
            format!(
                "sk-ecdsa-sha2-nistp256@openssh.com {}",
                blob(&[b"sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", &point[..65], b"ssh:"])
            ),
        ];
        for line in lines {
            assert_eq!(check(&At::root(), &line).unwrap(), line.trim(), "{line}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let ed = |bytes: &[u8]| format!("ssh-ed25519 {}", blob(&[b"ssh-ed25519", bytes]));
        for line in [
            String::new(),
            "SECRET".into(),
            "ssh-ed25519".into(),
            "ssh-ed25519 ".into(),
            "ssh-ed25519 SECRET!".into(),
            "ssh-ed25519 AAAA".into(),
            ed(&[1; 31]),
            ed(&[1; 33]),
            format!("ssh-ed25519 {}", blob(&[b"ssh-ed25519", &[1; 32], b"more"])),
            format!("ssh-ed25519 {}", blob(&[b"ssh-rsa", &[1, 0, 1], &[1; 257]])),
            format!("ssh-rsa {}", blob(&[b"ssh-rsa", &[1, 0, 1], &[1; 64]])),
            format!("ecdsa-sha2-nistp256 {}", blob(&[b"ecdsa-sha2-nistp256", b"nistp384", &[4; 65]])),
            "ssh-dss AAAAB3NzaC1kc3M= SECRET".into(),
            "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n-----END OPENSSH PRIVATE KEY-----".into(),
            format!("{ED25519}\n{ED25519}"),
            format!("{ED25519}\u{1b}[31mSECRET"),
            format!("command=\"SECRET {ED25519}"),
            format!("# {ED25519}"),
            "x".repeat(LONGEST + 1),
        ] {
            let error = check(&At::root().field("ssh_keys").item(0), &line).unwrap_err().to_string();
            assert!(error.starts_with("ssh_keys[1]: "), "{error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_one_that_ssh_keygen_prints() {
        assert_eq!(fingerprint(ED25519), "ssh-ed25519 SHA256:BcmMZivYDuia+tvFcT4MeKqVyy8Ykr7TRQY9QXMcm0g");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_check_panic(line in "(ssh-ed25519 |ssh-rsa |from=\"|)[A-Za-z0-9+/= \"\\\\]{0,120}") {
            if let Ok(kept) = check(&At::root(), &line) {
                prop_assert_eq!(kept, line.trim());
            }
        }
    }
}
