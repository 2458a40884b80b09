//! Tables of no fixed form that operations tell: what a document does, what a machine's network is.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;

/// A table of whatever there is to tell.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Outline(Value);

impl Outline {
    /// What ceso itself has written for people: nothing is left out.
    pub fn whole(value: Value) -> Self {
        Self(value)
    }

    /// What others have written: without what may be secret, and without sizes, which would tell how long a secret is.
    pub fn public(mut value: Value) -> Self {
        strip(&mut value);
        Self(value)
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                let key = key.to_ascii_lowercase();
                key != "bytes"
                    && key != "auth"
                    && !["password", "passwd", "secret", "token", "psk", "private"]
                        .iter()
                        .any(|word| key.contains(word))
            });
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

impl JsonSchema for Outline {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Outline".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-open": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_wrote_is_told_without_passwords_and_sizes() {
        let told = Outline::public(json!({
            "wifis": { "w": { "access-points": { "x": { "password": "p" } }, "auth": { "key": "k" } } },
            "files": [{ "path": "/etc/token", "bytes": 12 }], "client-private-key": "x",
        }));
        assert_eq!(
            told.0,
            json!({ "wifis": { "w": { "access-points": { "x": {} } } }, "files": [{ "path": "/etc/token" }] })
        );
    }
}
