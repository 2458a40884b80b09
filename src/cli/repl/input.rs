//! Lines from a pipe, none longer than a chunk may be: what is too long or no text is a fault of its own.

use std::io::{BufRead, Read};

use crate::error::Fault;
use crate::units::Bytes;

/// A reader of lines.
pub struct Input<R> {
    reader: R,
    limit: u64,
    line: u64,
}

/// What came next.
pub enum Line {
    /// A line with its end, where it has one.
    Text(String),
    /// A line that is not taken, and why.
    Unfit(Fault),
    End,
}

impl<R: BufRead> Input<R> {
    pub fn new(reader: R, limit: u64) -> Self {
        Self { reader, limit, line: 0 }
    }

    /// The next line. Faults: `usage.input` where the pipe cannot be read.
    pub fn next(&mut self) -> Result<Line, Fault> {
        let failed = |error: std::io::Error| {
            Fault::new("usage.input", format!("standard input cannot be read: {error}")).cause(error)
        };
        let mut bytes = Vec::new();
        (&mut self.reader).take(self.limit.saturating_add(1)).read_until(b'\n', &mut bytes).map_err(failed)?;
        if bytes.is_empty() {
            return Ok(Line::End);
        }
        self.line += 1;
        if bytes.len() as u64 > self.limit {
            if !bytes.ends_with(b"\n") {
                self.reader.skip_until(b'\n').map_err(failed)?;
            }
            return Ok(Line::Unfit(too_long(self.limit)));
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Line::Text(text),
            Err(error) => Line::Unfit(
                Fault::new(
                    "usage.chunk",
                    format!("line {} is not UTF-8; neither its chunk nor what follows was run", self.line),
                )
                .hint("write bytes that are no text as \"\\xff\"")
                .cause(error),
            ),
        })
    }
}

pub fn too_long(limit: u64) -> Fault {
    Fault::new("limit.source", format!("the chunk is larger than {} and was not run", Bytes(limit)))
        .hint("split it, put it into a file that require reads, or raise sandbox.source")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut input = Input::new(bytes, 10);
        let mut lines = Vec::new();
        loop {
            match input.next().unwrap() {
                Line::Text(text) => lines.push(text),
                Line::Unfit(fault) => lines.push(fault.kind().to_owned()),
                Line::End => return lines,
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_costs_itself_alone() {
        assert_eq!(all(b"a\n0123456789abcdef\nb\n\xff\nc"), ["a\n", "limit.source", "b\n", "usage.chunk", "c"]);
        assert_eq!(all(b"0123456789\nx"), ["limit.source", "x"]);
        assert_eq!(all(b"0123456789abc"), ["limit.source"]);
        assert_eq!(all(b"123456789\n"), ["123456789\n"]);
        assert!(all(b"").is_empty());
    }
}
