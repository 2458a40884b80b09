//! Keeps what a chunk of the REPL declares `local` at its top level, so that the next chunk sees it.
//!
//! Rewrites those declarations into assignments to the REPL's globals, token by token, without moving a line. What it does not
//! understand it leaves as it is: then Luau says what is wrong. Grammar: the Luau reference, "Syntax".

use super::lexer::{Kind, Nesting, Token, words};

/// The chunk with its top-level `local x = 1` as `x = 1`, `local x` as `x = nil`, `local function f` as `function f`.
pub(super) fn kept(source: &str) -> String {
    let tokens = words(source);
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut nesting = Nesting::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before)).map_or("", |before| before.text);
        match token.text {
            "local" if nesting.depth == 0 => {
                if let Some((text, next)) = declaration(&tokens, at) {
                    out.push_str(source.get(copied..token.start).unwrap_or_default());
                    out.push_str(&text);
                    copied = tokens.get(next - 1).map_or(source.len(), |last| last.start + last.text.len());
                    at = next;
                    continue;
                }
            }
            text => nesting.see(before, text),
        }
        at += 1;
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    out
}

/// The assignment for the declaration at `at`, and the first token that is not part of its left side.
fn declaration(tokens: &[Token<'_>], at: usize) -> Option<(String, usize)> {
    let second = tokens.get(at + 1)?;
    if second.text == "function" {
        // `function` itself is left to be seen as the opening of a block.
        return Some((String::new(), at + 1));
    }
    let mut names = Vec::new();
    let mut next = at + 1;
    loop {
        let name = tokens.get(next).filter(|token| token.kind == Kind::Name)?;
        names.push(name.text);
        next += 1;
        if tokens.get(next).is_some_and(|token| token.text == ":") {
            next = after_type(tokens, next + 1);
        }
        match tokens.get(next).map(|token| token.text) {
            Some(",") => next += 1,
            Some("=") => return Some((names.join(", "), next)),
            _ => return Some((format!("{} = nil", names.join(", ")), next)),
        }
    }
}

/// The first token after a type annotation that starts at `at`.
fn after_type(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0usize;
    // A type goes on after these, and after an opening bracket.
    let mut wanted = true;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "(" | "{" | "[" | "<" => {
                if depth == 0 && !wanted && token.text != "<" {
                    break;
                }
                depth += 1;
                wanted = true;
            }
            ")" | "}" | "]" | ">" => {
                if depth == 0 {
                    break;
                }
                depth -= 1;
                wanted = false;
            }
            "|" | "&" | "." | "->" => wanted = true,
            "?" => wanted = false,
            "," | "=" if depth == 0 => break,
            _ if depth == 0 && !wanted => break,
            _ => wanted = false,
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn locals_at_the_top_become_globals_and_inner_ones_stay() {
        for (source, wanted) in [
            ("local x = 1", "x = 1"),
            ("local x", "x = nil"),
            ("local a, b = 1, 2 local c", "a, b = 1, 2 c = nil"),
            ("local x: number = 1", "x = 1"),
            ("local f: (a: number, b: {x: string}) -> string? = g", "f = g"),
            ("local a: A<B, C> | D.E, b: number = 1", "a, b = 1"),
            ("local x: number\nlocal y = 2", "x = nil\ny = 2"),
            ("local function f() local y = 1 return y end local z = 2", " function f() local y = 1 return y end z = 2"),
            ("do local x = 1 end", "do local x = 1 end"),
            ("for i = 1, 2 do local x = i end local y = 1", "for i = 1, 2 do local x = i end y = 1"),
            (
                "if a then local x = 1 else local y = 1 end local z = 1",
                "if a then local x = 1 else local y = 1 end z = 1",
            ),
            ("local x = if a then 1 else 2 local y = 3", "x = if a then 1 else 2 y = 3"),
            (
                "local x = if a then if b then 1 else 2 else 3\nlocal y = 3",
                "x = if a then if b then 1 else 2 else 3\ny = 3",
            ),
            ("repeat local x = 1 until x local y = 1", "repeat local x = 1 until x y = 1"),
            ("local s = 'local x = 1' -- local y = 2", "s = 'local x = 1' -- local y = 2"),
            ("local s = `a {f('}')} local z` local t = [[local u]]", "s = `a {f('}')} local z` t = [[local u]]"),
            ("local f = function() local a = 1 end", "f = function() local a = 1 end"),
            ("while true do if x then break end local y = 1 end", "while true do if x then break end local y = 1 end"),
            ("local = 1", "local = 1"),
            ("local 1", "local 1"),
        ] {
            assert_eq!(kept(source), wanted, "{source}");
        }
    }

    #[test]
    fn broken_text_is_left_for_luau_to_complain_of() {
        for source in [
            "'",
            "`{",
            "[[",
            "[==[x",
            "local",
            "local x:",
            "local x: (",
            "--[[",
            "é local ü = 1",
            "\\",
            "end end local x",
        ] {
            // No panic, and nothing but the keyword goes.
            assert!(kept(source).len() <= source.len() + 8, "{source}");
        }
    }
}
