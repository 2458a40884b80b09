//! A receipt that was kept elsewhere: the number of a record, and its hash or the beginning of it.

use std::fmt;
use std::str::FromStr;

use crate::audit::line::Hash;

/// The fewest digits of a hash that name a record: nobody makes a second one that begins with them.
const FEWEST: usize = 16;

/// What a record's hash must be. Read from `118:3fa9…`, with 16 to 64 digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub seq: u64,
    head: String,
}

impl Pin {
    pub(super) fn holds(&self, hash: &Hash) -> bool {
        hash.to_string().starts_with(&self.head)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.head)
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "a pin is a record's number, a colon, and at least 16 of its hash's 64 digits: 118:3fa90c1d2e4b5a69"
                .to_owned()
        };
        let (seq, head) = text.trim().split_once(':').ok_or_else(wrong)?;
        let head = head.to_ascii_lowercase();
        let digits = (FEWEST..=64).contains(&head.len()) && head.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        let seq = seq.parse().ok().filter(|seq| number && *seq > 0).ok_or_else(wrong)?;
        if digits { Ok(Self { seq, head }) } else { Err(wrong()) }
    }
}
