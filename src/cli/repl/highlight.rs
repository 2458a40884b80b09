//! Colours for what is being typed: keywords, strings, numbers, comments, bindings. It must change no character of it.

use crate::script::lexer::{KEYWORDS, Kind, tokens};

/// Longer texts stay plain: every key redraws all of it.
const LONGEST: usize = 32 << 10;

/// The text with colours; `bindings` are the names that ceso gives.
pub fn highlight(text: &str, bindings: &[&str]) -> String {
    if text.len() > LONGEST {
        return text.to_owned();
    }
    if let Some(command) = text.strip_prefix(':') {
        let end = command.find(char::is_whitespace).unwrap_or(command.len());
        let (word, rest) = command.split_at(end);
        return format!("\x1b[36m:{word}\x1b[0m{rest}");
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut before = "";
    for token in tokens(text) {
        // `x.esxi` is a field, not the binding.
        let free = !matches!(before, "." | ":");
        let color = match token.kind {
            Kind::Name if KEYWORDS.contains(&token.text) => Some("35"),
            Kind::Name if free && bindings.contains(&token.text) => Some("1;34"),
            Kind::Text => Some("32"),
            Kind::Number => Some("33"),
            Kind::Comment => Some("2"),
            _ => None,
        };
        match color {
            Some(color) => {
                // A line break ends no colour on every terminal: each line has its own.
                let lines: Vec<String> =
                    token.text.split('\n').map(|line| format!("\x1b[{color}m{line}\x1b[0m")).collect();
                out.push_str(&lines.join("\n"));
            }
            None => out.push_str(token.text),
        }
        if token.kind != Kind::Space {
            before = token.text;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            out.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        out + rest
    }

    #[test]
    fn each_kind_of_word_has_its_colour() {
        let text = highlight("local h = esxi.connect('a') -- 1", &["esxi"]);
        for colored in ["\x1b[35mlocal", "\x1b[1;34mesxi", "\x1b[32m'a'", "\x1b[2m-- 1"] {
            assert!(text.contains(colored), "{text:?}");
        }
        assert!(highlight("x.esxi", &["esxi"]) == "x.esxi");
        assert!(highlight("12", &[]).contains("\x1b[33m12"));
        assert!(highlight(":help vm", &[]).starts_with("\x1b[36m:help\x1b[0m vm"));
    }

    #[test]
    fn no_character_is_changed() {
        let long = "x = 'é' ".repeat(20_000);
        for text in ["", ":", "local s = [[a\nb]]\n--[[c\nd]]", "'", "`{", "\u{0}é 日本 = 1..2", &long] {
            assert_eq!(plain(&highlight(text, &["esxi"])), text);
        }
    }
}
