//! Values of the vim25 model: what properties hold, what methods take and give.
//!
//! A value knows its own type and nothing of XML; `encode` and `decode` carry it over the wire, checked by the tables in `schema`.

use std::borrow::Cow;

use time::OffsetDateTime;

/// A managed object's reference: its type and the host's name for it (`VirtualMachine:12`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ref {
    pub kind: &'static str,
    pub id: Cow<'static, str>,
}

impl Ref {
    pub const fn fixed(kind: &'static str, id: &'static str) -> Self {
        Self { kind, id: Cow::Borrowed(id) }
    }

    pub fn new(kind: &'static str, id: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, id: id.into() }
    }
}

impl std::fmt::Display for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}

/// One value. A list's items share one declared type; `Array` names its item type where a field declares none (`anyType`).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Cow<'static, str>),
    Time(OffsetDateTime),
    Ref(Ref),
    Data(Data),
    List(Vec<Value>),
    Array(&'static str, Vec<Value>),
}

/// A data object: the name of its type, and its fields in any order.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    pub kind: &'static str,
    pub fields: Vec<(&'static str, Value)>,
}

impl Data {
    pub fn new(kind: &'static str) -> Self {
        Self { kind, fields: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds the field where there is a value: optional fields are left out, never empty.
    pub fn maybe(mut self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.fields.push((name, value.into()));
        }
        self
    }

    /// Replaces the field of an object that has it already, or adds it.
    pub fn but(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Replaces the field, or adds it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.fields.iter_mut().find(|(field, _)| *field == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(field, _)| *field != name);
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.fields.iter_mut().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }

    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer of any width.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Int(value) => Some(i64::from(*value)),
            Value::Long(value) => Some(*value),
            _ => None,
        }
    }

    pub fn int(&self, name: &str) -> Option<i32> {
        self.number(name).and_then(|number| i32::try_from(number).ok())
    }

    pub fn data(&self, name: &str) -> Option<&Data> {
        self.get(name)?.as_data()
    }

    pub fn reference(&self, name: &str) -> Option<&Ref> {
        match self.get(name)? {
            Value::Ref(reference) => Some(reference),
            _ => None,
        }
    }

    /// The items of a list field; none where the field is absent.
    pub fn list(&self, name: &str) -> &[Value] {
        match self.get(name) {
            Some(Value::List(items) | Value::Array(_, items)) => items,
            _ => &[],
        }
    }

    pub fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.list(name).iter().filter_map(Value::as_text)
    }

    pub fn datas<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Data> + use<'a> {
        self.list(name).iter().filter_map(Value::as_data)
    }

    pub fn references<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Ref> + use<'a> {
        self.list(name).iter().filter_map(|item| match item {
            Value::Ref(reference) => Some(reference),
            _ => None,
        })
    }

    /// The value at a dotted path below this object.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
        let value = self.get(head)?;
        match rest {
            None => Some(value),
            Some(rest) => value.as_data()?.at(rest),
        }
    }
}

impl Value {
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_data(&self) -> Option<&Data> {
        match self {
            Self::Data(data) => Some(data),
            _ => None,
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(value: Cow<'static, str>) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Cow::Owned(value.clone()))
    }
}

impl From<OffsetDateTime> for Value {
    fn from(value: OffsetDateTime) -> Self {
        Self::Time(value)
    }
}

impl From<Ref> for Value {
    fn from(value: Ref) -> Self {
        Self::Ref(value)
    }
}

impl From<&Ref> for Value {
    fn from(value: &Ref) -> Self {
        Self::Ref(value.clone())
    }
}

impl From<Data> for Value {
    fn from(value: Data) -> Self {
        Self::Data(value)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}
