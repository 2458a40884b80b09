//! XML to values, checked field by field against the type tables.
//!
//! A request that names an unknown type or field, one that is newer than the negotiated version, or a value that does not parse is
//! refused whole with `InvalidRequest`, as a host does; nothing of it is carried out.

use std::borrow::Cow;

use base64::Engine as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::fault::VimFault;
use super::schema::{Field, Kind, Method, Type, Version, schema};
use super::value::{Data, Ref, Value};
use crate::xml::Element;

/// Reads a method's parameters out of its request element; `_this` is left to the caller.
pub fn arguments(request: &Element, method: &'static Method, version: Version) -> Result<Data, VimFault> {
    let mut data = Data::new(method.name);
    for child in request.children.iter().filter(|child| child.name != "_this") {
        let field = method
            .parameters
            .iter()
            .find(|field| field.name == child.name)
            .ok_or_else(|| refuse(format!("the method {} has no parameter {}", method.name, child.name)))?;
        add(&mut data, field, child, version)?;
    }
    match method.parameters.iter().find(|field| missing(field, &data)) {
        Some(field) => Err(refuse(format!("required parameter {} of {} is missing", field.name, method.name))),
        None => Ok(data),
    }
}

/// Reads a data object declared as `declared`; its `xsi:type` may name a derived type.
pub fn object(element: &Element, declared: &str, version: Version) -> Result<Data, VimFault> {
    let name = element.xsi_type.as_deref().unwrap_or(declared);
    let actual = schema().data_type(name).ok_or_else(|| refuse(format!("the type {} is not known", shorten(name))))?;
    if !schema().is_a(actual.name, declared) {
        return Err(refuse(format!("{} in {} is not a {declared}", actual.name, element.name)));
    }
    let data = fields(element, actual, version)?;
    match required(actual).find(|field| missing(field, &data)) {
        Some(field) => Err(refuse(format!("required property {} is missing from {}", field.name, actual.name))),
        None => Ok(data),
    }
}

/// Reads a data object whose required fields may be missing: one that the simulator itself wrote, of any version.
pub fn partial(element: &Element, declared: &str) -> Result<Data, VimFault> {
    let name = element.xsi_type.as_deref().unwrap_or(declared);
    let actual = schema().data_type(name).ok_or_else(|| refuse(format!("the type {} is not known", shorten(name))))?;
    if !schema().is_a(actual.name, declared) {
        return Err(refuse(format!("{} in {} is not a {declared}", actual.name, element.name)));
    }
    fields(element, actual, Version::NEWEST)
}

fn fields(element: &Element, actual: &Type, version: Version) -> Result<Data, VimFault> {
    let mut data = Data::new(actual.name);
    for child in &element.children {
        let field = schema()
            .field(actual.name, &child.name)
            .ok_or_else(|| refuse(format!("the type {} has no property {}", actual.name, shorten(&child.name))))?;
        add(&mut data, field, child, version)?;
    }
    Ok(data)
}

fn required(actual: &Type) -> impl Iterator<Item = &'static Field> {
    schema().lineage(actual.name).flat_map(|one| one.own.iter()).filter(|field| !field.optional)
}

fn missing(field: &Field, data: &Data) -> bool {
    !field.optional && !field.many && field.since == Version::default() && data.get(field.name).is_none()
}

fn add(data: &mut Data, field: &'static Field, child: &Element, version: Version) -> Result<(), VimFault> {
    if field.since > version {
        return Err(refuse(format!("{} of {} is newer than the version of this request", field.name, data.kind)));
    }
    let value = value(child, field.kind, version)?;
    if !field.many {
        if data.get(field.name).is_some() {
            return Err(refuse(format!("{} of {} is given twice", field.name, data.kind)));
        }
        data.fields.push((field.name, value));
        return Ok(());
    }
    match data.fields.iter_mut().rev().find(|(name, _)| *name == field.name) {
        Some((_, Value::List(items))) => items.push(value),
        _ => data.fields.push((field.name, Value::List(vec![value]))),
    }
    Ok(())
}

fn value(element: &Element, kind: Kind, version: Version) -> Result<Value, VimFault> {
    let text = element.text.trim();
    let number = |low: i64, high: i64| {
        text.parse::<i64>().ok().filter(|number| (low..=high).contains(number)).ok_or_else(|| {
            refuse(format!("{:?} in {} is not a number between {low} and {high}", shorten(text), element.name))
        })
    };
    Ok(match kind {
        Kind::Void => return Err(refuse(format!("{} takes no value", element.name))),
        Kind::Boolean => match text {
            "true" | "1" => Value::Bool(true),
            "false" | "0" => Value::Bool(false),
            _ => return Err(refuse(format!("{:?} in {} is not a boolean", shorten(text), element.name))),
        },
        Kind::Byte => Value::Int(narrow(number(i64::from(i8::MIN), i64::from(u8::MAX))?)),
        Kind::Short => Value::Int(narrow(number(i64::from(i16::MIN), i64::from(i16::MAX))?)),
        Kind::Int => Value::Int(narrow(number(i64::from(i32::MIN), i64::from(i32::MAX))?)),
        Kind::Long => Value::Long(number(i64::MIN, i64::MAX)?),
        Kind::Double => Value::Double(
            text.parse().map_err(|_| refuse(format!("{:?} in {} is not a number", shorten(text), element.name)))?,
        ),
        Kind::Text | Kind::Uri => Value::Text(Cow::Owned(element.text.clone())),
        Kind::Time => Value::Time(time(text, &element.name)?),
        Kind::Binary => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(_) => Value::Text(Cow::Owned(text.to_owned())),
            Err(error) => return Err(refuse(format!("{} is not base64: {error}", element.name))),
        },
        Kind::Reference => Value::Ref(reference(element)?),
        Kind::Any => any(element, version)?,
        Kind::Named(name) => match schema().enumeration(name) {
            Some(values) => match values.iter().find(|value| **value == text) {
                Some(value) => Value::Text(Cow::Borrowed(value)),
                None => return Err(refuse(format!("{:?} in {} is not a {name}", shorten(text), element.name))),
            },
            None => Value::Data(object(element, name, version)?),
        },
    })
}

/// Reads a reference: the object's type as an attribute, its name as text.
pub fn reference(element: &Element) -> Result<Ref, VimFault> {
    let kind = element.get("type").unwrap_or("ManagedObject");
    let kind = schema()
        .managed_type(kind)
        .map(|found| found.name)
        .ok_or_else(|| refuse(format!("the managed type {} is not known", shorten(kind))))?;
    Ok(Ref::new(kind, element.text.trim().to_owned()))
}

fn any(element: &Element, version: Version) -> Result<Value, VimFault> {
    let Some(name) = element.xsi_type.as_deref() else {
        return Ok(Value::Text(Cow::Owned(element.text.clone())));
    };
    let kind = match name {
        "string" => Kind::Text,
        "boolean" => Kind::Boolean,
        "byte" => Kind::Byte,
        "short" => Kind::Short,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" | "double" => Kind::Double,
        "dateTime" => Kind::Time,
        "base64Binary" => Kind::Binary,
        "anyURI" => Kind::Uri,
        "ManagedObjectReference" => Kind::Reference,
        name => match name.strip_prefix("ArrayOf") {
            Some(item) => return list(element, item, version),
            None => match schema().data_type(name) {
                Some(found) => Kind::Named(found.name),
                None => return Err(refuse(format!("the type {} is not known", shorten(name)))),
            },
        },
    };
    value(element, kind, version)
}

/// Reads a value by its own `xsi:type`, as a client reads a property.
#[cfg(test)]
pub fn typed(element: &Element, version: Version) -> Result<Value, VimFault> {
    let name = element.xsi_type.as_deref().unwrap_or_default();
    if let Some(values) = schema().enumeration(name) {
        let known = values.contains(&element.text.as_str());
        return if known { Ok(Value::Bool(true)) } else { Err(refuse(format!("{} is not a {name}", element.text))) };
    }
    any(element, version)
}

fn list(element: &Element, item: &str, version: Version) -> Result<Value, VimFault> {
    let kind = match item {
        "String" => Kind::Text,
        "Int" => Kind::Int,
        "Long" => Kind::Long,
        "Boolean" => Kind::Boolean,
        "ManagedObjectReference" => Kind::Reference,
        item => match schema().data_type(item) {
            Some(found) => Kind::Named(found.name),
            None => return Err(refuse(format!("the type ArrayOf{} is not known", shorten(item)))),
        },
    };
    element.children.iter().map(|child| value(child, kind, version)).collect::<Result<_, _>>().map(Value::List)
}

fn time(text: &str, name: &str) -> Result<OffsetDateTime, VimFault> {
    let wrong = || refuse(format!("{:?} in {name} is not a time", shorten(text)));
    // A time without an offset is in UTC, as the host's own clock is.
    let zoned = OffsetDateTime::parse(text, &Rfc3339);
    zoned.or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339)).map_err(|_| wrong())
}

fn narrow(number: i64) -> i32 {
    // The range was checked when the number was read.
    i32::try_from(number).unwrap_or_default()
}

fn refuse(what: String) -> VimFault {
    VimFault::invalid_request(what)
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
