//! Each form of a secret is found wherever it stands, and what is no secret stays as it is.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::search::Known;
use super::{Untrusted, shapes};

fn hidden(secrets: &[&str], text: &[u8]) -> Vec<u8> {
    let known = Known::of(secrets.iter().map(|secret| (*secret, "password of lab")));
    known.hide(text).unwrap_or_else(|| text.to_vec())
}

fn hide(secrets: &[&str], text: &str) -> String {
    String::from_utf8(hidden(secrets, text.as_bytes())).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that a host, a guest or a script might make of a text.
fn disguises(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    let everything = |format: fn(u8) -> String| bytes.iter().map(|byte| format(*byte)).collect::<String>();
    let wrapped = |text: &str, width: usize, with: &str| {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(width).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join(with)
    };
    let form: String = url::form_urlencoded::byte_serialize(bytes).collect();
    let around = |ahead: usize| [&b"abcd"[..ahead], bytes, b"!?"].concat();
    let mut disguises: Vec<(&'static str, Vec<u8>)> = [
        ("plain", text.to_owned()),
        ("base64", STANDARD.encode(bytes)),
        ("base64 without padding", STANDARD_NO_PAD.encode(bytes)),
        ("base64 for URLs", URL_SAFE.encode(bytes)),
        ("base64 one off", STANDARD.encode(around(1))),
        ("base64 two off", URL_SAFE_NO_PAD.encode(around(2))),
        ("base64 three off", STANDARD.encode(around(3))),
        ("base64 twice", STANDARD.encode(STANDARD.encode(bytes))),
        ("base64 over lines", wrapped(&STANDARD.encode(bytes), 5, "\n   ")),
        ("base64 behind a path", format!("guestinfo/{}", STANDARD_NO_PAD.encode(bytes))),
        ("hex", hex(bytes)),
        ("hex in capitals", hex(bytes).to_uppercase()),
        ("hex in both", hex(bytes).replace('a', "A").replace('e', "E")),
        ("form", form),
        ("percent", everything(|byte| format!("%{byte:02x}"))),
        ("percent in capitals", everything(|byte| format!("%{byte:02X}"))),
        ("Lua's decimals", everything(|byte| format!("\\{byte:03}"))),
        ("hexadecimal escapes", everything(|byte| format!("\\x{byte:02x}"))),
        ("JSON", serde_json::to_string(text).unwrap()),
        ("Rust's debug", format!("{text:?}")),
        ("JSON in JSON", serde_json::to_string(&serde_json::to_string(text).unwrap()).unwrap()),
        ("JSON by code", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()),
        ("Rust by code", text.chars().map(|c| format!("\\u{{{:x}}}", u32::from(c))).collect()),
        ("XML", text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")),
        ("XML by code", text.chars().map(|c| format!("&#{};", u32::from(c))).collect()),
        ("over lines", wrapped(text, 4, "\r\n\t")),
        ("gzip in base64", STANDARD.encode(gzip(bytes))),
        ("gzip in base64 for URLs", URL_SAFE_NO_PAD.encode(gzip(bytes))),
        ("gzip in base64 behind a path", format!("userdata/{}", STANDARD.encode(gzip(bytes)))),
        ("gzip in base64 over lines", wrapped(&STANDARD.encode(gzip(bytes)), 20, "\n")),
        ("gzip in hex", hex(&gzip(bytes))),
        ("zlib in base64", STANDARD.encode(zlib(bytes))),
        ("base64 in gzip in base64", STANDARD.encode(gzip(STANDARD.encode(bytes).as_bytes()))),
    ]
    .map(|(how, text)| (how, text.into_bytes()))
    .to_vec();
    disguises.push(("gzip", gzip(bytes)));
    disguises.push(("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()));
    disguises
}

/// Whether a text still holds the secret in one of the disguises.
fn holds(text: &[u8], secret: &str) -> Option<&'static str> {
    disguises(secret).into_iter().find(|(_, form)| memchr::memmem::find(text, form).is_some()).map(|(how, _)| how)
}

#[test]
fn a_secret_is_found_in_every_disguise() {
    for secret in ["hunter2", "Tr0ub4dor&3 <\"x\">", "correct horse battery", "pässwörd-日本", "a/b+c?d%e\\f", "s3cr"]
    {
        for (how, form) in disguises(secret) {
            for (before, behind) in [("", ""), ("user: \"", "\"\n"), (", ", ";"), ("<v>", "</v>")] {
                let text = [before.as_bytes(), &form, behind.as_bytes()].concat();
                let out = hidden(&[secret], &text);
                assert_eq!(holds(&out, secret), None, "{secret} as {how}: {:?}", String::from_utf8_lossy(&out));
                let shown = String::from_utf8_lossy(&out).into_owned();
                assert!(shown.contains("[redacted: password of lab]"), "{secret} as {how}: {shown}");
                assert!(shown.starts_with(before), "{secret} as {how}: {shown}");
            }
        }
    }
}

#[test]
fn a_label_tells_neither_the_length_nor_the_bits_at_the_edges() {
    let of = |secret: &str| hide(&[secret], &STANDARD.encode(format!("x{secret}")));
    let cut = |text: String| text.replace(|c: char| c.is_ascii_uppercase() || c == 'e', "");
    assert_eq!(cut(of("hunter2")), cut(of("correct-horse-battery-staple")));
    assert!(of("hunter2").len() <= "[redacted: password of lab]".len() + 1, "{}", of("hunter2"));
}

#[test]
fn what_is_no_secret_stays_as_it_is() {
    let text = "debian-12 [datastore1] web-1/web-1.vmx 100% a\\b &amp; SGVsbG8gd29ybGQhIQ== deadbeefdeadbeef\nline";
    assert_eq!(hide(&["hunter2", "correct horse"], text), text);
}

#[test]
fn short_secrets_do_not_shred_a_text() {
    assert_eq!(hide(&["fish"], "the fishes like fish"), "the fishes like [redacted: password of lab]");
    assert_eq!(hide(&["12"], "debian-12 has 12 disks"), "debian-12 has [redacted: password of lab] disks");
    assert_eq!(hide(&["12"], "MTI= 3132 %31%32"), "MTI= 3132 %31%32");
    assert_eq!(hide(&["p4ss"], "xp4ssx"), "x[redacted: password of lab]x");
}

#[test]
fn what_was_redacted_stays_so() {
    for secrets in [&["word", "hunter2"][..], &["redacted", "hunter2"], &["lab12", "hunter2"]] {
        let once = hide(secrets, "it is hunter2 and word");
        assert_eq!(hide(secrets, &once), once);
        assert!(!once.contains("hunter2"), "{once}");
    }
    // A label that somebody else wrote is text like any other.
    assert!(!hide(&["hunter2"], "[redacted: hunter2]").contains("hunter2"));
}

#[test]
fn secrets_that_overlap_or_contain_each_other_leave_nothing() {
    assert_eq!(hide(&["abcdefgh", "efghijkl"], "-abcdefghijkl-"), "-[redacted: password of lab]-");
    assert_eq!(hide(&["abcdefgh", "abcdefghijkl"], "-abcdefghijkl-"), "-[redacted: password of lab]-");
}

#[test]
fn a_key_of_many_lines_is_found_whole_and_by_its_lines() {
    let lines: Vec<String> =
        (0..40).map(|line| STANDARD.encode(format!("line {line:02} of the private key, 0x{line:x}"))).collect();
    let key = format!("-----BEGIN X-----\n{}\n-----END X-----", lines.join("\n"));
    for text in [key.clone(), key.replace('\n', "\\n"), lines.concat(), lines[7].clone(), key.replace('\n', "\r\n    ")]
    {
        let out = hide(&[&key], &text);
        assert!(lines.iter().all(|line| !out.contains(line.as_str())), "{out}");
    }
}

#[test]
fn a_bomb_is_withheld_and_not_unpacked() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert_eq!(hidden(&["hunter2"], &bomb), super::WITHHELD.as_bytes());
    let twice = gzip(&bomb.repeat(100));
    assert_eq!(hide(&["hunter2"], &STANDARD.encode(twice)), super::WITHHELD);
}

#[test]
fn passwords_in_urls_and_private_keys_are_secret_by_their_shape() {
    for (text, expected) in [
        ("see https://admin:hunter2@nas/x", "see https://admin:[redacted: password in a URL]@nas/x"),
        ("https://admin:p@ss@nas", "https://admin:[redacted: password in a URL]@nas"),
        ("https://nas:8080/x@y and mail a@b.c", "https://nas:8080/x@y and mail a@b.c"),
        ("https://admin@nas", "https://admin@nas"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n",
            "-----BEGIN OPENSSH PRIVATE KEY-----[redacted: private key]-----END OPENSSH PRIVATE KEY-----\n",
        ),
        ("-----BEGIN PRIVATE KEY-----abc", "-----BEGIN PRIVATE KEY-----[redacted: private key]"),
        ("-----BEGIN CERTIFICATE-----\nabc\n", "-----BEGIN CERTIFICATE-----\nabc\n"),
    ] {
        assert_eq!(shapes::hide(text), expected);
        assert_eq!(shapes::hide(expected), expected);
    }
}

#[test]
fn a_guests_text_is_one_line_that_no_terminal_obeys() {
    for (text, shown) in [
        ("web-1", "web-1"),
        ("a\x1b[2J\nb\u{202e}c\u{200b}\tx", "a\\u{1b}[2J\\nb\\u{202e}c\\u{200b}\\tx"),
        ("\u{9b}31m\r", "\\u{9b}31m\\r"),
    ] {
        assert_eq!(Untrusted::new(text).as_str(), shown);
    }
    assert_eq!(Untrusted::new(&"x".repeat(5_000)).as_str().chars().count(), 1_001);
}

proptest! {
    #[test]
    fn no_text_leaves_a_secret_in_it(
        secret in "[!-~]{8,40}",
        before in "[ -~\\n]{0,60}",
        behind in "[ -~\\n]{0,60}",
        pick in 0_usize..64,
    ) {
        let forms = disguises(&secret);
        let (how, form) = &forms[pick % forms.len()];
        let text = [before.as_bytes(), b" ", form, b" ", behind.as_bytes()].concat();
        let out = hidden(&[&secret], &text);
        prop_assert!(memchr::memmem::find(&out, form).is_none(), "{} as {how}: {}", secret, String::from_utf8_lossy(&out));
    }

    #[test]
    fn whatever_the_bytes_are_nothing_breaks(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        hidden(&["hunter2", "x"], &bytes);
        let text = String::from_utf8_lossy(&bytes);
        hide(&["hunter2", "x", "é"], &text);
        shapes::hide(&text);
    }
}
