//! Private SSH host keys: checked for being a key that sshd can load, and for belonging to the public key beside it.
//!
//! Source: OpenSSH's PROTOCOL.key. Nothing of a private key ever stands in a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::{At, Error, Problem};
use super::machine::HostKey;
use super::ssh_key;

const LONGEST: usize = 64 * 1024;
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// Answers with the type in cloud-init's word (`rsa`, `ecdsa`, `ed25519`), the private key and the public line.
pub(super) fn check(at: &At, key: &HostKey) -> Result<(&'static str, Zeroizing<String>, String), Error> {
    let public_at = at.field("public");
    let public = ssh_key::check(&public_at, &key.public)?;
    let blob = ssh_key::plain_blob(&public).ok_or_else(|| public_at.is(Problem::HostKey("it has options in front")))?;
    let kind = match public.split([' ', '\t']).next().unwrap_or_default() {
        "ssh-rsa" => "rsa",
        "ssh-ed25519" => "ed25519",
        name if name.starts_with("ecdsa-sha2-") => "ecdsa",
        _ => return Err(public_at.is(Problem::HostKey("a key on a security token is no host key"))),
    };
    let at = at.field("private");
    if !key.private.has_secret() {
        return Err(at.is(Problem::NotASecret));
    }
    let text = key.private.string(&at)?;
    if text.len() > LONGEST {
        return Err(at.is(Problem::TooLong(text.len(), LONGEST)));
    }
    let text = Zeroizing::new(format!("{}\n", text.trim().replace("\r\n", "\n")));
    belongs(&text, &blob).map_err(|why| at.is(Problem::HostKey(why)))?;
    Ok((kind, text, public))
}

/// Whether the private key is in clear, and its public half is this one.
fn belongs(text: &str, public: &[u8]) -> Result<(), &'static str> {
    let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let Some(body) = body else {
        return Err(if text.contains("PRIVATE KEY-----") {
            "it is not in OpenSSH's own format: `ssh-keygen -p -N '' -f FILE` rewrites it"
        } else {
            "it is not a private key"
        });
    };
    let compact: Zeroizing<Vec<u8>> = Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    let bytes = Zeroizing::new(STANDARD.decode(&*compact).map_err(|_| "its data is not base64")?);
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0").ok_or("its data is damaged")?;
    let damaged = "its data is cut off or damaged";
    let cipher = ssh_key::field(&mut rest).ok_or(damaged)?;
    if cipher != b"none" {
        return Err("it has a passphrase, which nobody types when sshd starts");
    }
    // The key derivation's name and options, then the number of keys.
    ssh_key::field(&mut rest).ok_or(damaged)?;
    ssh_key::field(&mut rest).ok_or(damaged)?;
    let (count, mut rest) = rest.split_at_checked(4).ok_or(damaged)?;
    if count != [0, 0, 0, 1] {
        return Err("it holds more than one key");
    }
    if ssh_key::field(&mut rest).ok_or(damaged)? != public {
        return Err("it does not belong to the public key beside it");
    }
    match ssh_key::field(&mut rest) {
        Some(private) if !private.is_empty() => Ok(()),
        _ => Err(damaged),
    }
}
