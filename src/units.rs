//! Sizes and times as people write them: `2 GiB`, `512MiB`, `5 min`, `1h 30m`.
//!
//! In Rust they are [`Bytes`] and [`Span`], never a bare number; in JSON and in Lua they are strings with a unit, or plain numbers
//! that mean bytes and seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A size in bytes, 0 to 2^63 − 1. Written as `2 GiB`; binary (KiB, MiB, GiB, TiB) and decimal (KB, MB, GB, TB) units are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// A length of time. Written as `5 min`, `90s`, `1h 30m`; a plain number means seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// Why a size or a time was not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    #[error("{0:?} is not a size; write a number and a unit, such as \"512 MiB\" or \"2 GiB\"")]
    Size(String),
    #[error("{0:?} is not a duration; write a number and a unit, such as \"90 s\", \"5 min\" or \"1 h\"")]
    Duration(String),
}

const UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Size(shorten(text));
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let unit = unit.trim().to_ascii_lowercase();
        let factor = match unit.as_str() {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(wrong)?,
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok()).map(Self).ok_or_else(wrong);
        }
        let fraction: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = fraction * factor as f64;
        if bytes.is_finite() && (0.0..9.0e18).contains(&bytes) { Ok(Self(bytes.round() as u64)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Bytes {
    /// The largest binary unit that leaves at most one decimal: `2 GiB`, `1.5 GiB`, `300 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor)
            .unwrap_or(("B", 1));
        if self.0.is_multiple_of(factor) {
            write!(f, "{} {name}", self.0 / factor)
        } else {
            write!(f, "{:.1} {name}", self.0 as f64 / factor as f64)
        }
    }
}

impl Bytes {
    /// The size without rounding: in the largest binary unit that divides it evenly, so that it reads back as the same number.
    pub fn exact(self) -> String {
        let (name, factor) = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        format!("{} {name}", self.0 / factor)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let trimmed = text.trim();
        if let Ok(seconds) = trimmed.parse::<f64>() {
            return Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| UnitError::Duration(shorten(text)));
        }
        humantime::parse_duration(trimmed).map(Self).map_err(|_| UnitError::Duration(shorten(text)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

macro_rules! unit_serde {
    ($type:ident, $text:expr, $number:expr, $expecting:literal, $format:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text: fn(&$type) -> String = $text;
                serializer.serialize_str(&text(self))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_f64(number as f64)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        self.visit_f64(number as f64)
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        let convert: fn(f64) -> Option<$type> = $number;
                        convert(number).ok_or_else(|| E::custom(format!("{number} is out of range")))
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            /// What is read may be a number; what is written is text.
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                if generator.contract().is_serialize() {
                    json_schema!({ "type": "string", "format": $format })
                } else {
                    json_schema!({ "type": ["string", "number"], "format": $format })
                }
            }

            fn inline_schema() -> bool {
                true
            }
        }
    };
}

unit_serde!(
    Bytes,
    |bytes| bytes.exact(),
    |number| ((0.0..9.0e18).contains(&number) && number.fract() == 0.0).then_some(Bytes(number as u64)),
    "a size such as \"2 GiB\", or a number of bytes",
    "bytes"
);
unit_serde!(
    Span,
    ToString::to_string,
    |number| Duration::try_from_secs_f64(number).ok().map(Span),
    "a duration such as \"5 min\", or a number of seconds",
    "duration"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("2 GiB", 2 << 30), ("512MiB", 512 << 20), ("1.5g", 3 << 29), ("10 GB", 10_000_000_000), ("7", 7)]
        {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1 parsec", "99999999 TiB", "1e3", "nan", "2 Gi B"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
        assert_eq!(Bytes(2 << 30).to_string(), "2 GiB");
        for bytes in [0, 1, 1025, 3 << 29, 5 << 40] {
            assert_eq!(Bytes(bytes).exact().parse(), Ok(Bytes(bytes)));
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("5 min", 300.0), ("90s", 90.0), ("1h 30m", 5400.0), ("2", 2.0), ("250ms", 0.25)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs_f64(seconds))), "{text}");
        }
        for text in ["", "min", "-1", "inf", "5 fortnights", "1e300"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
