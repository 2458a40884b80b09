//! Values to XML, in the order of the type tables.
//!
//! `xsi:type` is written where a value's type is not the declared one, and on every value of no declared type; fields newer than the
//! client's version are left out, for an older client would refuse them. The enclosing document declares the prefixes `xsi` and `xsd`.

use time::OffsetDateTime;
use time::macros::format_description;

use super::schema::{Field, Kind, Version, schema};
use super::value::{Data, Ref, Value};
use crate::xml::{XmlError, escape};

/// Appends `value` as an element called `name`, declared as `kind`.
pub fn write(out: &mut String, name: &str, value: &Value, kind: Kind, version: Version) -> Result<(), XmlError> {
    element(out, name, value, kind, false, version)
}

/// Appends the value of a property, as `val` holds it: always with its type, lists as `ArrayOf…`.
pub fn write_typed(
    out: &mut String,
    name: &str,
    value: &Value,
    field: &Field,
    version: Version,
) -> Result<(), XmlError> {
    match value {
        Value::List(items) => array(out, name, items, field.kind, version),
        value => element(out, name, value, field.kind, true, version),
    }
}

/// Appends a field: once, or once for each item of a list.
pub fn write_field(out: &mut String, value: &Value, field: &Field, version: Version) -> Result<(), XmlError> {
    match value {
        Value::List(items) => items.iter().try_for_each(|item| write(out, field.name, item, field.kind, version)),
        value => write(out, field.name, value, field.kind, version),
    }
}

fn array(out: &mut String, name: &str, items: &[Value], kind: Kind, version: Version) -> Result<(), XmlError> {
    let (item_name, tail) = kind.array_item();
    open(out, name, Some(&format!("ArrayOf{tail}")));
    for item in items {
        element(out, item_name, item, kind, !matches!(kind, Kind::Named(_)), version)?;
    }
    close(out, name);
    Ok(())
}

fn element(
    out: &mut String,
    name: &str,
    value: &Value,
    kind: Kind,
    typed: bool,
    version: Version,
) -> Result<(), XmlError> {
    let declared = |own: &'static str| match kind {
        Kind::Any => Some(own),
        kind => typed.then(|| kind.xsi()),
    };
    match value {
        Value::Bool(value) => leaf(out, name, declared("xsd:boolean"), if *value { "true" } else { "false" }),
        Value::Int(value) => leaf(out, name, declared("xsd:int"), &value.to_string()),
        Value::Long(value) => leaf(out, name, declared("xsd:long"), &value.to_string()),
        Value::Double(value) => leaf(out, name, declared("xsd:double"), &value.to_string()),
        Value::Text(value) => leaf(out, name, declared("xsd:string"), value),
        Value::Time(value) => leaf(out, name, declared("xsd:dateTime"), &timestamp(*value)),
        Value::Ref(reference) => self::reference(out, name, reference, typed || kind == Kind::Any),
        Value::Data(data) => {
            let exact = !typed && kind == Kind::Named(data.kind);
            open(out, name, (!exact).then_some(data.kind));
            fields(out, data, version)?;
            close(out, name);
            Ok(())
        }
        Value::List(items) => array(out, name, items, kind, version),
        Value::Array(item, items) => array(out, name, items, Kind::Named(item), version),
    }
}

/// Appends the fields of a data object, its bases' first.
pub fn fields(out: &mut String, data: &Data, version: Version) -> Result<(), XmlError> {
    let mut next = 0;
    let known = inherited(out, data, data.kind, &mut next, version)?;
    debug_assert_eq!(known, data.fields.len(), "a field of {data:?} is not in the tables");
    Ok(())
}

fn inherited(
    out: &mut String,
    data: &Data,
    type_name: &str,
    next: &mut usize,
    version: Version,
) -> Result<usize, XmlError> {
    let mut lineage = schema().lineage(type_name);
    let Some(own) = lineage.next() else { return Ok(0) };
    let mut known = match lineage.next() {
        Some(base) => inherited(out, data, base.name, next, version)?,
        None => 0,
    };
    for field in &own.own {
        // Most objects are made in the tables' order: look at the next field first.
        let found = match data.fields.get(*next) {
            Some((name, value)) if *name == field.name => Some(value),
            _ => data.get(field.name),
        };
        let Some(value) = found else { continue };
        *next += 1;
        known += 1;
        if field.since <= version {
            write_field(out, value, field, version)?;
        }
    }
    Ok(known)
}

fn reference(out: &mut String, name: &str, reference: &Ref, typed: bool) -> Result<(), XmlError> {
    out.push('<');
    out.push_str(name);
    if typed {
        out.push_str(" xsi:type=\"ManagedObjectReference\"");
    }
    out.push_str(" type=\"");
    out.push_str(reference.kind);
    out.push_str("\">");
    escape(&reference.id, out)?;
    close(out, name);
    Ok(())
}

fn leaf(out: &mut String, name: &str, xsi_type: Option<&str>, text: &str) -> Result<(), XmlError> {
    open(out, name, xsi_type);
    escape(text, out)?;
    close(out, name);
    Ok(())
}

fn open(out: &mut String, name: &str, xsi_type: Option<&str>) {
    out.push('<');
    out.push_str(name);
    if let Some(xsi_type) = xsi_type {
        out.push_str(" xsi:type=\"");
        out.push_str(xsi_type);
        out.push('"');
    }
    out.push('>');
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// A time as the host writes it: UTC with microseconds.
pub fn timestamp(time: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    time.to_offset(time::UtcOffset::UTC).format(form).unwrap_or_else(|_| "1970-01-01T00:00:00.000000Z".to_owned())
}
