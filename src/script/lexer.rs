//! Luau's tokens, for what only has to look at a chunk: the REPL's locals, its colours, its completion, whether it goes on.
//!
//! It must take any text: what is no token is one character by itself, what is not closed ends with the text. No recursion, and no
//! more than a few looks at each character. Grammar: the Luau reference, "Syntax".

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Name,
    Number,
    /// A string in any of its forms.
    Text,
    Comment,
    Symbol,
    Space,
}

/// One token; the tokens of a text put together are the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub start: usize,
    /// Whether a string or a comment has its end.
    pub whole: bool,
}

impl Token<'_> {
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Luau's keywords, and the names that stand for values.
pub const KEYWORDS: [&str; 22] = [
    "and", "break", "continue", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// All tokens, spaces and comments too.
pub fn tokens(source: &str) -> impl Iterator<Item = Token<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = source.get(start..).filter(|rest| !rest.is_empty())?;
        let (kind, length, whole) = first(rest);
        let text = rest.get(..length).unwrap_or(rest);
        let token = Token { kind, text, start, whole };
        start += text.len();
        Some(token)
    })
}

/// The tokens that the grammar sees.
pub fn words(source: &str) -> Vec<Token<'_>> {
    tokens(source).filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment)).collect()
}

/// Whether a chunk plainly goes on behind its last character: in a block, a bracket, a long string or a long comment.
pub fn is_open(source: &str) -> bool {
    Growing::default().is_open(source)
}

/// A chunk that comes line by line: what was looked at once is not looked at again.
#[derive(Debug, Default)]
pub struct Growing {
    nesting: Nesting,
    before: String,
    /// Up to where all tokens are whole.
    read: usize,
    /// Up to where the text was looked at, and the end that the token at `read` waits for.
    seen: usize,
    awaited: Option<char>,
}

impl Growing {
    /// Like [`is_open`], for the text of the last time with whole lines added to it.
    pub fn is_open(&mut self, source: &str) -> bool {
        let new = source.get(self.seen..).unwrap_or_default();
        self.seen = source.len();
        if self.awaited.is_some_and(|end| !new.contains(end)) {
            return true;
        }
        let from = self.read;
        for token in tokens(source.get(from..).unwrap_or_default()) {
            let goes_on = token.kind == Kind::Comment || token.text.starts_with(['`', '[']);
            match token.kind {
                Kind::Space => {}
                Kind::Comment | Kind::Text if !token.whole => {
                    // What is left of a quoted string is for Luau to complain of.
                    self.read = if goes_on { from + token.start } else { source.len() };
                    self.awaited = goes_on.then(|| if token.text.starts_with('`') { '`' } else { ']' });
                    return goes_on;
                }
                Kind::Comment => {}
                _ => {
                    self.nesting.see(&self.before, token.text);
                    token.text.clone_into(&mut self.before);
                }
            }
        }
        self.read = source.len();
        self.awaited = None;
        self.nesting.depth > 0
    }
}

/// How many blocks and brackets are open.
#[derive(Debug, Default)]
pub struct Nesting {
    pub depth: usize,
    /// Whether the innermost `if` is an expression, which has no `end`.
    if_expression: bool,
}

impl Nesting {
    /// Takes the next token and the one before it.
    pub fn see(&mut self, before: &str, token: &str) {
        match token {
            "function" | "do" | "repeat" | "(" | "{" | "[" => self.depth += 1,
            "if" => {
                self.if_expression = match before {
                    "then" | "else" => self.if_expression,
                    _ => is_operator(before),
                };
                if !self.if_expression {
                    self.depth += 1;
                }
            }
            "end" | "until" | ")" | "}" | "]" => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// After these a value follows, so an `if` there is an expression.
fn is_operator(text: &str) -> bool {
    const OPERATORS: &[&str] = &[
        "=", "(", "{", "[", ",", "and", "or", "not", "return", "in", "==", "~=", "<", ">", "<=", ">=", "+", "-", "*",
        "/", "//", "%", "^", "..", "#", "+=", "-=", "*=", "/=", "//=", "%=", "^=", "..=",
    ];
    OPERATORS.contains(&text)
}

/// The first token of `rest`: its kind, its length of at least one character, whether it has its end.
fn first(rest: &str) -> (Kind, usize, bool) {
    let first = rest.chars().next().unwrap_or(' ');
    let run = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return (Kind::Space, run(char::is_whitespace), true);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        return (Kind::Name, run(|c| c.is_ascii_alphanumeric() || c == '_'), true);
    }
    if first.is_ascii_digit() {
        return (Kind::Number, run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.'), true);
    }
    if let Some(comment) = rest.strip_prefix("--") {
        let (length, whole) =
            long_bracket(comment).unwrap_or_else(|| (comment.find('\n').unwrap_or(comment.len()), true));
        return (Kind::Comment, 2 + length, whole);
    }
    if let Some((length, whole)) = long_bracket(rest) {
        return (Kind::Text, length, whole);
    }
    if matches!(first, '"' | '\'' | '`') {
        let (length, whole) = quoted(rest);
        return (Kind::Text, length, whole);
    }
    const SYMBOLS: [&str; 17] =
        ["...", "..=", "//=", "..", "//", "==", "~=", "<=", ">=", "->", "::", "+=", "-=", "*=", "/=", "%=", "^="];
    let length =
        SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)).map_or(first.len_utf8(), |symbol| symbol.len());
    (Kind::Symbol, length, true)
}

/// The length of `[[…]]` or `[=[…]=]` at the start of `rest`, and whether it has its end.
fn long_bracket(rest: &str) -> Option<(usize, bool)> {
    let inner = rest.strip_prefix('[')?;
    let level = inner.find(|c| c != '=')?;
    if !inner.get(level..)?.starts_with('[') {
        return None;
    }
    let close = format!("]{}]", "=".repeat(level));
    let body = level + 2;
    Some(match rest.get(body..).and_then(|rest| rest.find(&close)) {
        Some(at) => (body + at + close.len(), true),
        None => (rest.len(), false),
    })
}

/// The length of a quoted string, and whether it has its end; expressions inside backticks may hold strings of their own.
fn quoted(rest: &str) -> (usize, bool) {
    // The strings that we are inside of: each with its quote, and how many braces are open in it.
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut characters = rest.char_indices();
    while let Some((at, c)) = characters.next() {
        let Some((quote, braces)) = open.last_mut() else {
            open.push((c, 0));
            continue;
        };
        match c {
            '\\' => {
                characters.next();
            }
            '\n' if *quote != '`' => return (at, false),
            '{' if *quote == '`' => *braces += 1,
            '}' if *braces > 0 => *braces -= 1,
            '"' | '\'' | '`' if *braces > 0 => open.push((c, 0)),
            c if c == *quote => {
                open.pop();
                if open.is_empty() {
                    return (at + 1, true);
                }
            }
            _ => {}
        }
    }
    (rest.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_put_together_are_the_text() {
        for source in [
            "local x = 1 -- c\nprint(`a {f('}')} b`, [==[ ]] ]==], \"\\\"\", 'x)",
            "é ü \\ \u{0} \u{1b}[2J",
            "[==",
            "--[[",
            "`{`{`{",
            "[[",
            "'",
            "\"a\nb",
        ] {
            let joined: String = tokens(source).map(|token| token.text).collect();
            assert_eq!(joined, source);
        }
    }

    #[test]
    fn a_chunk_that_goes_on_is_known() {
        for source in [
            "function f()",
            "for i = 1, 2 do",
            "if x then",
            "repeat",
            "f(",
            "{ 1,",
            "[[ a",
            "--[[ a",
            "`a",
            "`a {f(`b`)}",
            "local f = function() if x then return 1 end",
            "x = if a then { 1",
        ] {
            assert!(is_open(source), "{source}");
        }
        for source in [
            "",
            "x = 1",
            "x = if a then 1 else 2",
            "f()",
            "if x then y() end",
            "repeat until x",
            "'a",
            "\"a",
            "-- [[",
            "end",
            "s = 'function' -- do",
            "while true do break end",
            "function f() return if a then b else c end",
        ] {
            assert!(!is_open(source), "{source}");
        }
    }

    #[test]
    fn a_chunk_that_comes_line_by_line_is_the_same_chunk() {
        for source in [
            "function f()\n  if x then\n    y()\n  end\nend\n",
            "s = [[\na\n]]\nt = {\n--[[\n]]\n}\n",
            "s = `a\nb`\n",
            "x = 'a\n1\n",
            "repeat\nlocal z = if a\nthen 1\nelse 2\nuntil z\n",
        ] {
            let mut growing = Growing::default();
            for (at, _) in source.match_indices('\n') {
                let so_far = &source[..=at];
                assert_eq!(growing.is_open(so_far), is_open(so_far), "{so_far}");
            }
        }
    }

    #[test]
    fn deep_and_long_texts_are_taken_in_one_walk() {
        for source in ["`{".repeat(500_000), "(".repeat(1_000_000), "[=".repeat(500_000), "'\\".repeat(500_000)] {
            assert_eq!(tokens(&source).map(|token| token.text.len()).sum::<usize>(), source.len());
            is_open(&source);
        }
    }
}
