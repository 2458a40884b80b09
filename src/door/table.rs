//! A capability table: entries `noun.verb` with selectors and a quota.
//!
//! Selectors are exact, a prefix (`web-*`), `*`, or `@made` (what the run itself made): so few forms that containment is decidable
//! and `policy explain` can tell what a script asks for beyond what it would get.

use std::fmt;

/// What an entry selects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    Exact(String),
    /// `web-*`: every name that begins so.
    Prefix(String),
    /// `*`
    Any,
    /// `@made`: only what this run made.
    Made,
}

/// One entry: the verb on the noun, for what the patterns select, at most `max` times in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub noun: String,
    pub verb: String,
    pub patterns: Vec<Pattern>,
    pub max: Option<u64>,
}

/// A capability table; empty, it allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    pub entries: Vec<Entry>,
}

impl Pattern {
    /// Reads a selector; `None` where it is empty or has a `*` anywhere but at its end.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "*" => Some(Self::Any),
            "@made" => Some(Self::Made),
            text => match text.strip_suffix('*') {
                Some(prefix) if !prefix.contains('*') => Some(Self::Prefix(prefix.to_owned())),
                None if !text.contains('*') => Some(Self::Exact(text.to_owned())),
                _ => None,
            },
        }
    }

    /// Whether the name is selected; `made` says whether this run made the object.
    pub fn matches(&self, name: &str, made: bool) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
            Self::Any => true,
            Self::Made => made,
        }
    }

    /// Whether everything that `other` selects is selected by this one too.
    pub fn contains(&self, other: &Pattern) -> bool {
        match (self, other) {
            (Self::Any, _) | (Self::Made, Self::Made) => true,
            (Self::Prefix(prefix), Self::Exact(name) | Self::Prefix(name)) => name.starts_with(prefix.as_str()),
            (Self::Exact(a), Self::Exact(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Any => f.write_str("*"),
            Self::Made => f.write_str("@made"),
        }
    }
}

impl Entry {
    pub fn matches(&self, name: &str, made: bool) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name, made))
    }

    /// The entry's name, `noun.verb`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.noun, self.verb)
    }
}

impl Table {
    /// The entries for a verb.
    pub fn of<'a>(&'a self, noun: &'a str, verb: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        self.entries.iter().filter(move |entry| entry.noun == noun && entry.verb == verb)
    }

    /// The first entry that allows the verb on this name.
    pub fn allowing(&self, noun: &str, verb: &str, name: &str, made: bool) -> Option<(usize, &Entry)> {
        self.entries
            .iter()
            .enumerate()
            .find(|(_, entry)| entry.noun == noun && entry.verb == verb && entry.matches(name, made))
    }

    /// Whether any object at all could be allowed for the verb.
    pub fn mentions(&self, noun: &str, verb: &str) -> bool {
        self.of(noun, verb).next().is_some()
    }

    /// Whether all that the entry asks for is allowed by this table.
    pub fn contains(&self, entry: &Entry) -> bool {
        entry.patterns.iter().all(|wanted| {
            self.of(&entry.noun, &entry.verb).any(|own| own.patterns.iter().any(|pattern| pattern.contains(wanted)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_exact_a_prefix_or_all() {
        for (text, name, expected) in [
            ("web-1", "web-1", true),
            ("web-1", "web-10", false),
            ("web-*", "web-10", true),
            ("web-*", "prod-web-1", false),
            ("*", "anything", true),
            ("@made", "anything", false),
        ] {
            assert_eq!(Pattern::parse(text).unwrap().matches(name, false), expected, "{text} {name}");
        }
        assert!(Pattern::Made.matches("x", true));
        for text in ["", "a*b", "**", "*a"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn containment_is_what_it_says() {
        let pattern = |text| Pattern::parse(text).unwrap();
        assert!(pattern("*").contains(&pattern("web-*")));
        assert!(pattern("web-*").contains(&pattern("web-1*")));
        assert!(pattern("web-*").contains(&pattern("web-1")));
        assert!(!pattern("web-1").contains(&pattern("web-*")));
        assert!(!pattern("@made").contains(&pattern("*")));
        assert!(pattern("*").contains(&pattern("@made")));
    }
}
