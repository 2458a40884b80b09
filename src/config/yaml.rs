//! YAML read without trust: text in, a bounded value tree out.
//!
//! Must not know what the keys mean. Anchors are expanded within a budget, so that a small file cannot become a large tree;
//! duplicate keys, several documents and unknown tags are errors. YAML 1.2 (core schema) as serde-saphyr reads it: `no` is a text.

use serde_json::{Map, Value};

use crate::error::Fault;

/// Largest file that is read: a configuration of 1,000 hosts has about 200 KiB.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 16;
const MAX_NODES: usize = 50_000;

/// Reads one document whose root is a map; an empty document is an empty map. `place` names it in errors.
pub fn parse(bytes: &[u8], place: &str) -> Result<Map<String, Value>, Fault> {
    if bytes.len() > MAX_BYTES {
        return Err(too_large(place));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Fault::new(
            "config.syntax",
            format!("{place} is not UTF-8 text: the byte at offset {} is not", error.valid_up_to()),
        )
        .hint("save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_BYTES),
            flow_nesting_limit: MAX_DEPTH,
            max_events: 2 * MAX_NODES,
            max_aliases: 200,
            max_anchors: 200,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: 2 * MAX_BYTES,
            max_merge_keys: 200,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        // A snippet would print the file's lines, and with them whatever a person put there.
        with_snippet: false,
    };
    let value: Option<Value> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(text, place, &error))?;
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => {
            Err(Fault::new("config.wrong_type", format!("{place}: expected sections such as \"hosts:\" at the top"))
                .hint("`ceso config init` writes a commented example"))
        }
    }
}

/// The fault for a file larger than [`MAX_BYTES`].
pub fn too_large(place: &str) -> Fault {
    Fault::new("config.too_large", format!("{place} is larger than {}", crate::units::Bytes(MAX_BYTES as u64)))
        .hint("a configuration file holds settings only; is this the right file?")
}

fn syntax(text: &str, place: &str, error: &serde_saphyr::Error) -> Fault {
    let message = error.without_snippet().to_string();
    let first = message.lines().next().unwrap_or_default();
    let fault = Fault::new("config.syntax", format!("{place} is not valid YAML: {}", super::printable(first)));
    if text.lines().any(|line| line.starts_with('\t') || line.trim_start_matches(' ').starts_with('\t')) {
        fault.hint("YAML is indented with spaces, never with tabs")
    } else {
        fault.hint("correct the line that is named; `ceso config init` writes an example to compare with")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &[u8]) -> String {
        parse(text, "test.yaml").expect_err("must be refused").kind().to_owned()
    }

    #[test]
    fn an_empty_document_is_an_empty_map() {
        for text in ["", "\n", "# only a comment\n", "---\n", "\u{FEFF}"] {
            assert!(parse(text.as_bytes(), "t").unwrap_or_else(|f| panic!("{text:?}: {f:?}")).is_empty());
        }
    }

    #[test]
    fn hostile_documents_are_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert_eq!(kind(bomb.as_bytes()), "config.syntax");
        assert_eq!(kind(&b"x".repeat(10 << 20)), "config.too_large");
        assert_eq!(kind(b"a: \xff\xfe"), "config.syntax");
        assert_eq!(kind(b"a: 1\na: 2\n"), "config.syntax");
        assert_eq!(kind(b"a: 1\n---\nb: 2\n"), "config.syntax");
        assert_eq!(kind(b"a:\n\tb: 1\n"), "config.syntax");
        assert_eq!(kind(b"a: [1, 2\n"), "config.syntax");
        assert_eq!(kind(b"a: &a [*a]\n"), "config.syntax");
        assert_eq!(kind(b"- a\n- b\n"), "config.wrong_type");
        assert_eq!(kind(b"just text"), "config.wrong_type");
        assert_eq!(kind(format!("a: {}{}", "[".repeat(5000), "]".repeat(5000)).as_bytes()), "config.syntax");
        let stairs: String = (0..400).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        assert_eq!(kind(stairs.as_bytes()), "config.syntax");
    }

    #[test]
    fn an_error_does_not_print_the_file() {
        let fault = parse(b"hosts:\n  lab: {url: x, password: hunter2\n  b: ]", "t").expect_err("refused");
        assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
    }
}
