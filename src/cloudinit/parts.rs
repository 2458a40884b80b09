//! User-data of several MIME parts: the fields, `raw`, and parts written out by hand.
//!
//! Every part is in base64, which has no hyphens: so no part can hold the boundary, whatever its bytes are. Headers are made of checked
//! words alone. Source: RFC 2045, RFC 2046; cloud-init's `user_data.py` and `handlers/`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::check;
use super::error::{At, Error, Problem, Shown};
use super::spec::{Dialect, Spec};
use super::text::Text;

const MOST_PARTS: usize = 256;

/// A MIME part of the user-data.
#[derive(Clone, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CloudInitPart")]
pub struct Part {
    /// What it is, without `text/` in front: `cloud-config`, `x-shellscript`, `x-shellscript-per-boot`,
    /// `x-shellscript-per-instance`, `x-shellscript-per-once`, `cloud-boothook`, `x-include-url`, `x-include-once-url`, `cloud-config-archive`,
    /// `cloud-config-jsonp`, `jinja2` or `part-handler`. Windows: `cloud-config` and `x-shellscript`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The whole content: a text, a secret, or a list of both, which is joined.
    pub content: Text,
    /// The name that the guest writes a script under: letters, digits, `.`, `_` and `-`. Default: `part-001`, by its place.
    #[serde(default)]
    pub filename: Option<String>,
    /// For cloud-config: how it is merged with what comes before, in cloud-init's words. Default: cloud-init's own, by which a later
    /// key replaces an earlier one.
    #[serde(default)]
    pub merge: Option<String>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("kind", &self.kind).field("content", &self.content).finish_non_exhaustive()
    }
}

const KINDS: [&str; 12] = [
    "cloud-config",
    "x-shellscript",
    "x-shellscript-per-boot",
    "x-shellscript-per-instance",
    "x-shellscript-per-once",
    "cloud-boothook",
    "x-include-url",
    "x-include-once-url",
    "cloud-config-archive",
    "cloud-config-jsonp",
    "jinja2",
    "part-handler",
];

/// One checked part, ready to be written.
struct Ready {
    kind: String,
    filename: String,
    merge: Option<String>,
    content: Zeroizing<Vec<u8>>,
}

/// The user-data of a document whose fields are `config`: as it is, or as a MIME message where there is more.
pub(super) fn assemble(root: &At, spec: &Spec, config: Zeroizing<String>) -> Result<Zeroizing<String>, Error> {
    let raw = match &spec.raw {
        Some(raw) => Some(raw_part(&root.field("raw"), &root.field("merge"), raw, spec)?),
        None if spec.merge.is_some() => return Err(root.field("merge").is(Problem::MergeWithoutRaw)),
        None => None,
    };
    let at = root.field("parts");
    check::at_most(&at, spec.parts.len(), MOST_PARTS)?;
    if raw.is_none() && spec.parts.is_empty() {
        return Ok(config);
    }
    let first = Ready {
        kind: "cloud-config".into(),
        filename: "fields.cfg".into(),
        merge: None,
        content: Zeroizing::new(config.as_bytes().to_vec()),
    };
    let mut ready: Vec<Ready> = std::iter::once(first).chain(raw).collect();
    for (index, part) in spec.parts.iter().enumerate() {
        let at = at.item(index);
        let part = checked(&at, index, part, spec.dialect)?;
        if ready.iter().any(|other| other.filename == part.filename) {
            return Err(at.field("filename").is(Problem::Twice(Shown::new(&part.filename))));
        }
        ready.push(part);
    }
    Ok(message(&ready))
}

fn raw_part(at: &At, merge_at: &At, raw: &Text, spec: &Spec) -> Result<Ready, Error> {
    let text = raw.string(at)?;
    cloud_config(at, &text)?;
    if let Some(merge) = &spec.merge {
        merge_words(merge_at, merge)?;
    }
    let content = with_first_line(text.as_bytes());
    Ok(Ready { kind: "cloud-config".into(), filename: "raw.cfg".into(), merge: spec.merge.clone(), content })
}

/// Cloud-config with the first line that says what it is.
fn with_first_line(text: &[u8]) -> Zeroizing<Vec<u8>> {
    const FIRST: &[u8] = b"#cloud-config\n";
    let first = if text.starts_with(b"#cloud-config") { &[] } else { FIRST };
    let mut whole = Zeroizing::new(Vec::with_capacity(first.len() + text.len()));
    whole.extend_from_slice(first);
    whole.extend_from_slice(text);
    whole
}

/// YAML that PyYAML reads as a table: what it would refuse, the guest would pass over in silence.
pub(super) fn cloud_config(at: &At, text: &str) -> Result<Value, Error> {
    if text.trim().is_empty() {
        return Err(at.is(Problem::Empty));
    }
    if text.starts_with("## template:") {
        return Err(at.is(Problem::Yaml("a template goes into `parts` with the type `jinja2`".into())));
    }
    // Nothing of the text is quoted: it may be secret, and a part of a secret is not found by the search for it.
    if text.starts_with("#!") {
        return Err(at.is(Problem::Yaml("it begins with #! and is a script".into())));
    }
    if let Some(c) = text.chars().find(|c| unreadable(*c)) {
        return Err(at.is(Problem::Control(u32::from(c))));
    }
    if has_tag_of_python(text) {
        return Err(at.is(Problem::Yaml("it has a tag of Python's, which cloud-init does not read".into())));
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        // Only where it is: the parser's own words quote the text, which may be secret.
        let place = error.location().map_or_else(String::new, |place| format!(" in line {}", place.line()));
        at.is(Problem::Yaml(format!("it cannot be read{place}")))
    })?;
    if !value.is_object() {
        return Err(at.is(Problem::Yaml("it is not a table of keys".into())));
    }
    Ok(value)
}

/// What PyYAML's reader refuses anywhere in a stream.
fn unreadable(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | '\u{85}' | '\u{20}'..='\u{7e}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

fn has_tag_of_python(text: &str) -> bool {
    text.contains("!!python/") || text.contains("tag:yaml.org,2002:python/")
}

/// cloud-init's grammar of merging: `name(option,option)+name(option)`.
fn merge_words(at: &At, text: &str) -> Result<(), Error> {
    let options = |name: &str| -> Option<&[&str]> {
        match name {
            "list" => Some(&[
                "append",
                "prepend",
                "no_replace",
                "replace",
                "recurse_dict",
                "recurse_list",
                "recurse_array",
                "recurse_str",
            ]),
            "dict" => Some(&[
                "allow_delete",
                "no_replace",
                "replace",
                "recurse_dict",
                "recurse_list",
                "recurse_array",
                "recurse_str",
            ]),
            "str" => Some(&["append", "overwrite"]),
            _ => None,
        }
    };
    let word = |word: &str| {
        let (name, rest) = word.split_once('(')?;
        let inner = rest.strip_suffix(')')?;
        let known = options(name)?;
        (inner.is_empty() || inner.split(',').all(|option| known.contains(&option.trim()))).then_some(())
    };
    if !text.is_empty() && text.len() <= 256 && text.split('+').all(|each| word(each.trim()).is_some()) {
        return Ok(());
    }
    Err(at.is(Problem::Merge(Shown::new(text))))
}

fn checked(at: &At, index: usize, part: &Part, dialect: Dialect) -> Result<Ready, Error> {
    let kind = part.kind.strip_prefix("text/").unwrap_or(&part.kind);
    let known = match dialect {
        Dialect::CloudInit => KINDS.contains(&kind),
        Dialect::CloudbaseInit => matches!(kind, "cloud-config" | "x-shellscript"),
    };
    if !known {
        return Err(at.field("type").is(Problem::PartType(Shown::new(&part.kind))));
    }
    let content_at = at.field("content");
    let mut content = part.content.bytes(&content_at)?;
    content_fits(&content_at, kind, &content, dialect)?;
    if kind == "cloud-config" {
        content = with_first_line(&content);
    }
    if let Some(merge) = &part.merge {
        let at = at.field("merge");
        if kind != "cloud-config" || dialect != Dialect::CloudInit {
            return Err(at.is(Problem::MergeOfOther));
        }
        merge_words(&at, merge)?;
    }
    let filename = match &part.filename {
        Some(name) => {
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let plain = (1..=128).contains(&name.len()) && name.bytes().all(safe) && !name.starts_with(['.', '-']);
            if !plain || matches!(name.as_str(), "fields.cfg" | "raw.cfg") {
                return Err(at.field("filename").is(Problem::PartName(Shown::new(name))));
            }
            name.clone()
        }
        None => format!("part-{:03}", index + 1),
    };
    Ok(Ready { kind: kind.to_owned(), filename, merge: part.merge.clone(), content })
}

/// Whether the content is what its type says, as far as its first bytes tell.
fn content_fits(at: &At, kind: &str, content: &[u8], dialect: Dialect) -> Result<(), Error> {
    let not = |why| Err(at.is(Problem::PartContent(why)));
    if content.iter().all(u8::is_ascii_whitespace) {
        return Err(at.is(Problem::Empty));
    }
    match (kind, dialect) {
        ("x-shellscript", Dialect::CloudbaseInit) => {
            let first = [&b"rem cmd"[..], b"#!", b"#ps1", b"#ps1_sysnative", b"<powershell>", b"<script>"];
            if !first.iter().any(|first| content.starts_with(first)) {
                return not("a script for Windows begins with `#ps1`, `rem cmd`, `#!` or `<powershell>`");
            }
        }
        (kind, _) if kind.starts_with("x-shellscript") && !content.starts_with(b"#!") => {
            return not("a script begins with `#!` and its interpreter");
        }
        ("cloud-config", _) => {
            let text = std::str::from_utf8(content).map_err(|_| at.is(Problem::NotUtf8))?;
            cloud_config(at, text)?;
        }
        ("jinja2", _) if !content.starts_with(b"## template: jinja") => {
            return not("a template begins with `## template: jinja`");
        }
        _ => {}
    }
    Ok(())
}

/// Writes the message. The boundary comes from the content, so that the same parts give the same bytes.
fn message(parts: &[Ready]) -> Zeroizing<String> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.filename.as_bytes());
        hash.update([0]);
        hash.update(&*part.content);
        hash.update([0]);
    }
    let boundary: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let boundary = format!("--ceso-{boundary}");
    let size: usize = parts.iter().map(|part| part.content.len() / 54 * 74 + 512).sum();
    let mut out = Zeroizing::new(String::with_capacity(size + 256));
    out.push_str(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n"));
    for part in parts {
        out.push_str(&format!(
            "\n--{boundary}\nContent-Type: text/{}; charset=\"utf-8\"\nMIME-Version: 1.0\n",
            part.kind
        ));
        out.push_str("Content-Transfer-Encoding: base64\n");
        out.push_str(&format!("Content-Disposition: attachment; filename=\"{}\"\n", part.filename));
        if let Some(merge) = &part.merge {
            out.push_str(&format!("Merge-Type: {merge}\n"));
        }
        out.push('\n');
        for line in part.content.chunks(57) {
            let mut encoded = [0_u8; 76];
            // 57 bytes are 76 digits, so the buffer is large enough.
            let length = STANDARD.encode_slice(line, &mut encoded).unwrap_or(0);
            out.push_str(std::str::from_utf8(encoded.get(..length).unwrap_or_default()).unwrap_or_default());
            out.push('\n');
        }
    }
    out.push_str(&format!("\n--{boundary}--\n"));
    out
}
