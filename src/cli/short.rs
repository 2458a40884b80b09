//! Rows as a person reads them: ids by their first digits, times to the second, sizes by their first digits. JSON and CSV have all of them.

use serde_json::Value;

/// The columns whose ids, of 64 digits or UUIDs, a person needs the first digits of: commands take these for the whole.
const IDS: [&str; 4] = ["id", "backup", "from", "parent"];

/// The fewest digits of an id that commands take.
const DIGITS: usize = 8;

/// Shortens the ids of rows to as many first digits as tell them apart, times to their seconds, and sizes to a number below 1,024: all of
/// it is in JSON and CSV.
pub fn shorten(items: &mut [Value]) {
    for column in IDS {
        let mut ids: Vec<&str> =
            items.iter().filter_map(|item| item.get(column)?.as_str()).filter(|text| is_id(text)).collect();
        ids.sort_unstable();
        ids.dedup();
        let shared = |pair: &[&str]| match pair {
            [one, other] => one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count(),
            _ => 0,
        };
        let digits = ids.windows(2).map(shared).max().map_or(DIGITS, |shared| DIGITS.max(shared + 1));
        for item in &mut *items {
            if let Some(Value::String(text)) = item.get_mut(column).filter(|value| value.as_str().is_some_and(is_id)) {
                text.truncate(digits);
            }
        }
    }
    for value in items.iter_mut().filter_map(Value::as_object_mut).flat_map(|fields| fields.values_mut()) {
        if let Value::String(text) = value
            && let Some(short) = to_the_second(text).or_else(|| to_three_digits(text))
        {
            *text = short;
        }
    }
}

/// Whether a text is the id of a backup or a key, or a UUID.
fn is_id(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    match text.len() {
        64 => text.bytes().all(is_digit),
        36 => text.bytes().enumerate().all(|(at, b)| if is_dash(at) { b == b'-' } else { is_digit(b) }),
        _ => false,
    }
}

/// A time in UTC without the parts of its second, where a text is one that has them: `2026-05-01T02:00:00.123Z`.
fn to_the_second(text: &str) -> Option<String> {
    let (whole, parts) = text.split_at_checked(19)?;
    let parts = parts.strip_prefix('.')?.strip_suffix('Z')?;
    let shape = whole.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b });
    let fits = shape.eq(*b"0000-00-00T00:00:00") && !parts.is_empty() && parts.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| format!("{whole}Z"))
}

/// A size in the unit in which it is below 1,024, where a text is one that its own unit makes long: `264212084 KiB` is about `252 GiB`.
fn to_three_digits(text: &str) -> Option<String> {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (number, unit) = text.split_once(' ')?;
    let mut unit = UNITS.iter().position(|known| *known == unit)?;
    if !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = number.parse::<u64>().ok().filter(|number| *number >= 1024)?;
    let mut tenths = number.checked_mul(10)?;
    while tenths >= 10_235 && unit + 1 < UNITS.len() {
        tenths = tenths / 1024 + u64::from(tenths % 1024 >= 512);
        unit += 1;
    }
    let unit = UNITS.get(unit)?;
    Some(if tenths < 1000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", (tenths + 5) / 10)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_as_short_as_tells_them_apart_and_times_have_whole_seconds() {
        let id = |begin: &str| format!("{begin:a<64}");
        let mut rows = [
            json!({ "id": id("0123456789"), "time": "2026-05-01T02:00:00.123456789Z", "sha256": id("ff"), "from": "web-1" }),
            json!({ "id": id("0123456700"), "time": "2026-05-01T02:00:00Z", "parent": id("77"), "name": id("88") }),
            json!({ "id": id("99"), "time": "2026-05-01T02:00:00.5+01:00", "id2": 3, "parent": null }),
        ];
        shorten(&mut rows);
        assert_eq!(
            rows[0],
            json!({ "id": "012345678", "time": "2026-05-01T02:00:00Z", "sha256": id("ff"), "from": "web-1" })
        );
        assert_eq!(rows[1]["id"], "012345670");
        assert_eq!((rows[1]["parent"].as_str(), rows[1]["name"].as_str()), (Some("77aaaaaa"), Some(id("88").as_str())));
        assert_eq!(
            (rows[2]["id"].as_str(), rows[2]["time"].as_str()),
            (Some("99aaaaaaa"), Some("2026-05-01T02:00:00.5+01:00"))
        );
        let uuid = |end: &str| format!("01a20744-b41d-771a-9bc8-4160179a{end}");
        let mut runs =
            [json!({ "id": uuid("c84a") }), json!({ "id": "01a20744-b33b-7589-bc40-d55ae474c886", "n": uuid("0000") })];
        shorten(&mut runs);
        assert_eq!((runs[0]["id"].as_str(), runs[1]["id"].as_str()), (Some("01a20744-b4"), Some("01a20744-b3")));
        assert_eq!(runs[1]["n"], uuid("0000"));
        // Where one id stands twice it is one, and what is no row stays.
        let mut same = [json!({ "id": id("1") }), json!({ "id": id("1") }), json!("text"), json!({ "id": "ÄÖÜ" })];
        shorten(&mut same);
        assert_eq!(same[0]["id"], "1aaaaaaa");
        assert_eq!(to_the_second(&"ä".repeat(40)), None);
    }

    #[test]
    fn a_size_that_its_unit_makes_long_is_told_in_a_larger_one() {
        for (exact, short) in [
            ("264212084 KiB", "252 GiB"),
            ("1536 KiB", "1.5 MiB"),
            ("1024 B", "1.0 KiB"),
            ("3000672123123 B", "2.7 TiB"),
            ("1048575 KiB", "1.0 GiB"),
            ("102297 KiB", "99.9 MiB"),
            ("102399 KiB", "100 MiB"),
            ("4096 PiB", "4096 PiB"),
        ] {
            assert_eq!(to_three_digits(exact).as_deref(), Some(short), "{exact}");
        }
        for same in [
            "252 GiB",
            "1023 KiB",
            "0 B",
            "-2048 KiB",
            "2048 kB",
            "2048",
            "2048 KiB free",
            "99999999999999999999 B",
            " B",
        ] {
            assert_eq!(to_three_digits(same), None, "{same}");
        }
    }
}
