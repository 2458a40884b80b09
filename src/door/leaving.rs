//! What leaves the door to a script or a person: without the secrets that this process knows.

use std::borrow::Cow;

use crate::error::Fault;
use crate::redact;
use crate::wire::Value;

/// Takes secrets out of every text of a value, names of handles and keys of tables too.
pub fn value(value: &mut Value) {
    match value {
        Value::Text(text) => redact::in_place(text),
        Value::Bytes(bytes) => {
            if let Cow::Owned(hidden) = redact::bytes(bytes) {
                *bytes = hidden;
            }
        }
        Value::List(items) => items.iter_mut().for_each(self::value),
        Value::Map(entries) => fields(entries),
        Value::Handle(handle) => {
            redact::in_place(&mut handle.name);
            fields(&mut handle.fields);
        }
        Value::Nil | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

fn fields(entries: &mut [(String, Value)]) {
    for (name, held) in entries {
        redact::in_place(name);
        value(held);
    }
}

/// Takes secrets out of a fault: its kind, which a host may have named, its words, and those of its causes.
pub fn fault(fault: Fault) -> Fault {
    fault.rewritten(&|text| match redact::text(text) {
        Cow::Owned(hidden) => Some(hidden),
        Cow::Borrowed(_) => None,
    })
}
