//! The programs of a simulated guest: a table, and as much of a shell as its tools put before each.

use super::operations::Guests;
use crate::sim::fault::VimFault;

/// How deep `sh -c` may stand in `sh -c`.
const DEEPEST: usize = 4;

/// What a program finds around it.
pub struct Shell<'a> {
    pub guests: &'a Guests,
    pub vm: u64,
    pub hostname: String,
    pub environment: Vec<String>,
    pub directory: String,
}

/// How it ended, and after how long.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub exit_code: i32,
    pub seconds: i64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A command line: its words, and where its output goes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    words: Vec<String>,
    out: Option<String>,
    err: Option<String>,
    input: Option<String>,
}

impl Shell<'_> {
    /// Runs a program with the text of its arguments. Faults: `FileNotFound` where there is no such program.
    pub fn run(&self, program: &str, arguments: &str) -> Result<Done, VimFault> {
        if !program.starts_with('/') {
            return Err(VimFault::file("FileNotFound", program));
        }
        self.line(program, arguments, 0)
    }

    fn line(&self, program: &str, arguments: &str, depth: usize) -> Result<Done, VimFault> {
        let line = parse(arguments).ok_or_else(|| VimFault::invalid_argument("arguments", "a quote is not closed"))?;
        let name = program.rsplit('/').next().unwrap_or_default();
        let mut done = match (name, line.words.as_slice()) {
            ("sh" | "bash", [flag, inner, ..]) if flag == "-c" && depth < DEEPEST => {
                let inner = inner.trim();
                let (first, rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
                self.line(first, rest, depth + 1)?
            }
            ("env", [inner, rest @ ..]) if depth < DEEPEST => {
                let quoted: Vec<String> =
                    rest.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
                self.line(inner, &quoted.join(" "), depth + 1)?
            }
            _ => self
                .program(name, &line.words, line.input.as_deref())
                .ok_or_else(|| VimFault::file("FileNotFound", program))?,
        };
        for (place, bytes) in [(&line.out, &mut done.stdout), (&line.err, &mut done.stderr)] {
            if let Some(path) = place.as_deref().filter(|path| *path != "/dev/null") {
                self.guests.write(self.vm, path, bytes)?;
            }
            if place.is_some() {
                bytes.clear();
            }
        }
        Ok(done)
    }

    /// The table; `None` for a program that is not in it.
    fn program(&self, name: &str, words: &[String], input: Option<&str>) -> Option<Done> {
        let text = |text: String| Done { stdout: text.into_bytes(), ..Done::default() };
        let fails = |code: i32, why: String| Done { exit_code: code, stderr: why.into_bytes(), ..Done::default() };
        Some(match name {
            "true" => Done::default(),
            "false" => Done { exit_code: 1, ..Done::default() },
            "echo" => text(format!("{}\n", words.join(" "))),
            "hostname" => text(format!("{}\n", self.hostname)),
            "uname" => text("Linux\n".to_owned()),
            "id" => text("uid=0(root) gid=0(root) groups=0(root)\n".to_owned()),
            "whoami" => text("root\n".to_owned()),
            "pwd" => text(format!("{}\n", self.directory)),
            "env" => text(self.environment.iter().map(|entry| format!("{entry}\n")).collect()),
            "sleep" => Done { seconds: words.first()?.parse().ok()?, ..Done::default() },
            "cat" => {
                let files: Vec<&str> = match words.is_empty() {
                    true => input.into_iter().collect(),
                    false => words.iter().map(String::as_str).collect(),
                };
                let mut done = Done::default();
                for path in files.into_iter().filter(|path| *path != "/dev/null") {
                    match self.guests.read(self.vm, path) {
                        Some(bytes) => done.stdout.extend(bytes),
                        None => {
                            done.exit_code = 1;
                            done.stderr.extend(format!("cat: {path}: No such file or directory\n").into_bytes());
                        }
                    }
                }
                done
            }
            "exit" => fails(words.first().and_then(|code| code.parse().ok()).unwrap_or_default(), String::new()),
            _ => return None,
        })
    }
}

/// Words, with quotes and backslashes taken off, and redirections; `None` where a quote is not closed.
fn parse(text: &str) -> Option<Line> {
    let mut line = Line::default();
    let mut words: Vec<(String, bool)> = Vec::new();
    let mut word: Option<(String, bool)> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let own = word.get_or_insert_with(|| (String::new(), true));
                own.1 = true;
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => own.0.push(chars.next()?),
                        inner => own.0.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_with(|| (String::new(), true)).0.push(chars.next()?),
            '<' | '>' => {
                let number = word.take();
                let fd = match (&number, c) {
                    (Some((digits, false)), '>') if digits == "2" => "2>",
                    (Some((digits, false)), _) if digits == "1" || digits == "0" => {
                        if c == '>' {
                            ">"
                        } else {
                            "<"
                        }
                    }
                    _ => {
                        words.extend(number);
                        if c == '>' { ">" } else { "<" }
                    }
                };
                words.push((fd.to_owned(), false));
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_with(|| (String::new(), false)).0.push(c),
        }
    }
    words.extend(word.take());
    let mut words = words.into_iter();
    while let Some((text, quoted)) = words.next() {
        let place = match (text.as_str(), quoted) {
            (">", false) => &mut line.out,
            ("2>", false) => &mut line.err,
            ("<", false) => &mut line.input,
            _ => {
                line.words.push(text);
                continue;
            }
        };
        *place = Some(words.next()?.0);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_a_shell_reads_it() {
        let line = parse(r#"a 'b c' "d \" e" 'it'\''s' < /dev/null 1> '/tmp/o' 2> /tmp/e x"#).unwrap();
        assert_eq!(line.words, ["a", "b c", "d \" e", "it's", "x"]);
        assert_eq!((line.out.as_deref(), line.err.as_deref()), (Some("/tmp/o"), Some("/tmp/e")));
        assert_eq!(line.input.as_deref(), Some("/dev/null"));
        assert_eq!(parse("'>' x").unwrap().words, [">", "x"]);
        for broken in ["'a", "\"a", "a >", "a\\"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
