//! Keeps what a chunk of the REPL declares `local` at its top level, so that the next chunk sees it.
//!
//! Rewrites those declarations into assignments to the REPL's globals, token by token, without moving a line. What it does not
//! understand it leaves as it is: then Luau says what is wrong. Grammar: the Luau reference, "Syntax".

/// The chunk with its top-level `local x = 1` as `x = 1`, `local x` as `x = nil`, `local function f` as `function f`.
pub(super) fn kept(source: &str) -> String {
    let tokens = tokens(source);
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    let mut depth = 0usize;
    // Whether the innermost `if` is an expression, which has no `end`.
    let mut if_expression = false;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before)).map_or("", |before| before.text);
        match token.text {
            "function" | "do" | "repeat" => depth += 1,
            "if" => {
                if_expression = match before {
                    "then" | "else" => if_expression,
                    _ => is_operator(before),
                };
                if !if_expression {
                    depth += 1;
                }
            }
            "(" | "{" | "[" => depth += 1,
            "end" | "until" | ")" | "}" | "]" => depth = depth.saturating_sub(1),
            "local" if depth == 0 => {
                if let Some((text, next)) = declaration(&tokens, at) {
                    out.push_str(source.get(copied..token.start).unwrap_or_default());
                    out.push_str(&text);
                    copied = tokens.get(next - 1).map_or(source.len(), |last| last.start + last.text.len());
                    at = next;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    out
}

/// After these a value follows, so an `if` there is an expression.
fn is_operator(text: &str) -> bool {
    matches!(
        text,
        "=" | "("
            | "{"
            | "["
            | ","
            | "and"
            | "or"
            | "not"
            | "return"
            | "in"
            | "=="
            | "~="
            | "<"
            | ">"
            | "<="
            | ">="
            | "+"
            | "-"
            | "*"
            | "/"
            | "//"
            | "%"
            | "^"
            | ".."
            | "#"
            | "+="
            | "-="
            | "*="
            | "/="
            | "//="
            | "%="
            | "^="
            | "..="
    )
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
        let name = tokens.get(next).filter(|token| token.is_name())?;
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

struct Token<'a> {
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }
}

/// Names, numbers, strings and symbols; comments and space are left out.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(rest) = source.get(start..).filter(|rest| !rest.is_empty()) {
        let length = length(rest);
        let text = source.get(start..start + length).unwrap_or(rest);
        if !text.starts_with(char::is_whitespace) && !text.starts_with("--") {
            tokens.push(Token { text, start });
        }
        start += text.len();
    }
    tokens
}

/// How long the first token of `rest` is; at least one character.
fn length(rest: &str) -> usize {
    let first = rest.chars().next().unwrap_or(' ');
    let run = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return run(char::is_whitespace);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        return run(|c| c.is_ascii_alphanumeric() || c == '_');
    }
    if first.is_ascii_digit() {
        return run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    }
    if let Some(comment) = rest.strip_prefix("--") {
        return 2 + long_bracket(comment).unwrap_or_else(|| comment.find('\n').unwrap_or(comment.len()));
    }
    if let Some(length) = long_bracket(rest) {
        return length;
    }
    if matches!(first, '"' | '\'' | '`') {
        return quoted(rest, first);
    }
    let symbols =
        ["...", "..=", "//=", "..", "//", "==", "~=", "<=", ">=", "->", "::", "+=", "-=", "*=", "/=", "%=", "^="];
    symbols.iter().find(|symbol| rest.starts_with(**symbol)).map_or(first.len_utf8(), |symbol| symbol.len())
}

/// The length of `[[…]]` or `[=[…]=]` at the start of `rest`.
fn long_bracket(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('[')?;
    let level = inner.find(|c| c != '=')?;
    if !inner.get(level..)?.starts_with('[') {
        return None;
    }
    let close = format!("]{}]", "=".repeat(level));
    Some(rest.find(&close).map_or(rest.len(), |at| at + close.len()))
}

/// The length of a quoted string; expressions inside backticks may hold strings of their own.
fn quoted(rest: &str, quote: char) -> usize {
    let mut braces = 0usize;
    let mut at = 1;
    while let Some(c) = rest.get(at..).and_then(|rest| rest.chars().next()) {
        match c {
            '\\' => at += 1 + rest.get(at + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8),
            '{' if quote == '`' => {
                braces += 1;
                at += 1;
            }
            '}' if braces > 0 => {
                braces -= 1;
                at += 1;
            }
            '"' | '\'' | '`' if braces > 0 => at += quoted(rest.get(at..).unwrap_or_default(), c),
            '\n' if quote != '`' => return at,
            c if c == quote && braces == 0 => return at + 1,
            c => at += c.len_utf8(),
        }
    }
    rest.len()
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
