//! Arguments and results as the record keeps them: short, without contents and without secrets.

use serde_json::{Map, Value as Json, json};

use crate::redact;
use crate::wire::Value;

/// The longest text that is kept whole, in characters.
const TEXT: usize = 200;
/// How many items of a list or a table are kept, and how deep.
const ITEMS: usize = 32;
const DEPTH: usize = 4;

/// The arguments of a call. What is listed as content is told by its size alone; `*` stands for all arguments.
pub(super) fn arguments(given: &Value, contents: &[&str]) -> Option<Json> {
    let Value::Map(entries) = given else { return None };
    if entries.is_empty() {
        return None;
    }
    let all = contents.contains(&"*");
    let told = entries.iter().take(ITEMS).map(|(name, value)| {
        let content = (all || contents.contains(&name.as_str())) && !matches!(value, Value::Handle(_));
        (text(name), if content { size(value) } else { plain(value, DEPTH) })
    });
    Some(Json::Object(told.collect()))
}

/// What came of a call, in few words.
pub(super) fn result(value: &Value) -> Option<Json> {
    match value {
        Value::Nil => None,
        Value::List(items) => Some(json!({ "items": items.len() })),
        Value::Map(entries) => Some(json!({ "fields": entries.len() })),
        other => Some(plain(other, 1)),
    }
}

fn plain(value: &Value, depth: usize) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => json!(number),
        Value::Float(number) => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Text(held) => Json::String(text(held)),
        Value::Bytes(bytes) => json!(format!("({} bytes)", bytes.len())),
        Value::Handle(handle) => Json::String(text(&format!("{} {}", handle.kind, handle.name))),
        Value::List(_) | Value::Map(_) if depth == 0 => size(value),
        Value::List(items) => {
            let mut told: Vec<Json> = items.iter().take(ITEMS).map(|item| plain(item, depth - 1)).collect();
            if items.len() > ITEMS {
                told.push(json!(format!("… ({} items)", items.len())));
            }
            Json::Array(told)
        }
        Value::Map(entries) => {
            let mut told: Map<String, Json> =
                entries.iter().take(ITEMS).map(|(name, value)| (text(name), plain(value, depth - 1))).collect();
            if entries.len() > ITEMS {
                told.insert("…".to_owned(), json!(format!("({} fields)", entries.len())));
            }
            Json::Object(told)
        }
    }
}

/// What is known of a content: how large it is, and the names of its fields.
fn size(value: &Value) -> Json {
    match value {
        Value::Text(held) => json!(format!("({} characters)", held.chars().count())),
        Value::Bytes(bytes) => json!(format!("({} bytes)", bytes.len())),
        Value::List(items) => json!(format!("({} items)", items.len())),
        Value::Map(entries) => {
            Json::Object(entries.iter().take(ITEMS).map(|(name, value)| (text(name), size(value))).collect())
        }
        Value::Handle(_) | Value::Nil => plain(value, 0),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => json!("(a value)"),
    }
}

/// A text without secrets; a long one is cut, with its length.
pub(super) fn text(held: &str) -> String {
    let shown = redact::text(held);
    match shown.char_indices().nth(TEXT) {
        None => shown.into_owned(),
        Some((at, _)) => {
            format!("{}… ({} characters)", shown.get(..at).unwrap_or_default(), shown.chars().count())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_told_by_their_size_and_long_texts_are_cut() {
        let map = |entries: Vec<(&str, Value)>| {
            Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let given = map(vec![
            ("name", text("web-1")),
            ("notes", text(&"x".repeat(1_000))),
            ("extra_config", map(vec![("guestinfo.userdata", text("#cloud-config\nruncmd: [x]"))])),
        ]);
        let told = arguments(&given, &["extra_config"]).unwrap();
        assert_eq!(told["name"], "web-1");
        assert_eq!(told["notes"], format!("{}… (1000 characters)", "x".repeat(200)));
        assert_eq!(told["extra_config"], json!({ "guestinfo.userdata": "(25 characters)" }));
        assert_eq!(
            arguments(&map(vec![("hostname", text("web"))]), &["*"]).unwrap(),
            json!({ "hostname": "(3 characters)" })
        );
    }

    #[test]
    fn a_value_without_an_end_is_told_with_one() {
        let mut deep = Value::Int(1);
        for _ in 0..50 {
            deep = Value::List(vec![deep]);
        }
        let given = Value::Map(vec![
            ("deep".to_owned(), deep),
            ("wide".to_owned(), Value::List(vec![Value::Text("y".repeat(300)); 100_000])),
        ]);
        assert!(arguments(&given, &[]).unwrap().to_string().len() < 32 << 10);
    }
}
