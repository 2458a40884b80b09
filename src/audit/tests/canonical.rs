//! Our own reading of RFC 8785 against the crate that writes it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::canonical::{check, exact, of};

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z\\x00-\\x20\"\\\\\u{7f}\u{e9}\u{20ac}\u{e000}\u{1f600}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a-c\u{e9}\u{e000}\u{1f600}\n\"]{0,3}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_crate_writes_is_canonical_and_what_is_canonical_is_what_it_writes(mut value in values()) {
        exact(&mut value);
        let written = serde_jcs::to_vec(&value).unwrap();
        prop_assert_eq!(check(&written), Ok(()));
        prop_assert_eq!(&of(&value).unwrap(), &written);
        let plain = serde_json::to_vec(&value).unwrap();
        prop_assert_eq!(check(&plain).is_ok(), plain == written, "{}", String::from_utf8_lossy(&plain));
    }

    #[test]
    fn a_changed_byte_is_not_canonical_or_another_value(value in values(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = serde_jcs::to_vec(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if check(&bytes).is_ok() {
            let read: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(serde_jcs::to_vec(&read).unwrap(), bytes);
        }
    }
}

#[test]
fn what_is_not_canonical_is_refused() {
    for text in [
        "",
        " {}",
        "{} ",
        "{\"b\":1,\"a\":2}",
        "{\"a\":1,\"a\":1}",
        "{\"a\": 1}",
        "[1, 2]",
        "[1,]",
        "01",
        "-0",
        "1.0",
        "1e2",
        "1E400",
        "+1",
        "--1",
        "1-1",
        "\"\\u0041\"",
        "\"\\u000a\"",
        "\"\\u001F\"",
        "\"\\/\"",
        "\"\n\"",
        "\"",
        "tru",
        "nul",
        "{\"a\"}",
        "{1:2}",
        "9007199254740993",
        "0.10",
        ".5",
        "5.",
        "NaN",
        "\"\\ud83d\\ude00\"",
    ] {
        assert!(check(text.as_bytes()).is_err(), "{text}");
    }
    assert!(check(b"\"\xff\"").is_err());
    assert!(check(&[vec![b'['; 5000], vec![b']'; 5000]].concat()).is_err());
}

#[test]
fn large_whole_numbers_are_kept_as_texts() {
    let mut value = json!({ "a": [u64::MAX, i64::MIN, 9_007_199_254_740_991u64, 0.5] });
    exact(&mut value);
    assert_eq!(value, json!({ "a": ["18446744073709551615", "-9223372036854775808", 9_007_199_254_740_991u64, 0.5] }));
}
