//! The vim25 type tables: names, order, arity and age of every field that the simulator may read or write.
//!
//! The table is `vim25.txt`, written by `tests/conformance/pyvmomi/type_table.py` from pyVmomi's own tables. Everything on the wire is
//! checked and ordered by it, in both directions; no other file says which fields a type has. This file holds no values.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("vim25.txt");

/// What real clients call beyond the documented API: pyVmomi reads every property with `Fetch`, govc asks for a disk's chain and runs `esxcli`.
const UNDOCUMENTED: &str = include_str!("undocumented.txt");

/// A version of the API, such as `8.0.3.0`; the missing parts of `6.5` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version([u16; 4]);

impl Version {
    pub const NEWEST: Self = Self([8, 0, 3, 0]);
    pub const OLDEST: Self = Self([6, 5, 0, 0]);

    /// Reads a dotted version; `None` where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = [0; 4];
        let mut count = 0;
        for part in text.split('.') {
            *parts.get_mut(count)? = part.parse().ok()?;
            count += 1;
        }
        (count >= 2).then_some(Self(parts))
    }
}

/// The API versions that are served, newest first, as `vimServiceVersions.xml` names them.
pub const VERSIONS: &[&str] = &[
    "8.0.3.0", "8.0.2.0", "8.0.1.0", "8.0.0.2", "8.0.0.1", "8.0.0.0", "7.0.3.2", "7.0.3.1", "7.0.3.0", "7.0.2.1",
    "7.0.2.0", "7.0.1.1", "7.0.1.0", "7.0.0.2", "7.0.0.0", "6.9.1", "6.8.7", "6.7.3", "6.7.2", "6.7.1", "6.7", "6.5",
];

/// What a field or a result holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Void,
    Boolean,
    Byte,
    Short,
    Int,
    Long,
    Double,
    Text,
    Uri,
    Time,
    Binary,
    Any,
    Reference,
    /// An enumeration or a data type, by name.
    Named(&'static str),
}

impl Kind {
    fn parse(name: &'static str) -> Self {
        match name {
            "void" => Self::Void,
            "boolean" => Self::Boolean,
            "byte" => Self::Byte,
            "short" => Self::Short,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" | "double" => Self::Double,
            "string" => Self::Text,
            "anyURI" => Self::Uri,
            "dateTime" => Self::Time,
            "base64Binary" => Self::Binary,
            "anyType" => Self::Any,
            "ManagedObjectReference" => Self::Reference,
            name => Self::Named(name),
        }
    }

    /// The name that `xsi:type` takes for one value of this kind.
    pub fn xsi(self) -> &'static str {
        match self {
            Self::Void | Self::Any => "xsd:anyType",
            Self::Boolean => "xsd:boolean",
            Self::Byte => "xsd:byte",
            Self::Short => "xsd:short",
            Self::Int => "xsd:int",
            Self::Long => "xsd:long",
            Self::Double => "xsd:double",
            Self::Text => "xsd:string",
            Self::Uri => "xsd:anyURI",
            Self::Time => "xsd:dateTime",
            Self::Binary => "xsd:base64Binary",
            Self::Reference => "ManagedObjectReference",
            Self::Named(name) => name,
        }
    }

    /// The element's name inside an `ArrayOf…` of this kind, and the tail of that name: `string` in `ArrayOfString`.
    pub fn array_item(self) -> (&'static str, &'static str) {
        match self {
            Self::Void | Self::Any => ("anyType", "AnyType"),
            Self::Boolean => ("boolean", "Boolean"),
            Self::Byte => ("byte", "Byte"),
            Self::Short => ("short", "Short"),
            Self::Int => ("int", "Int"),
            Self::Long => ("long", "Long"),
            Self::Double => ("double", "Double"),
            Self::Text => ("string", "String"),
            Self::Uri => ("anyURI", "AnyURI"),
            Self::Time => ("dateTime", "DateTime"),
            Self::Binary => ("base64Binary", "Base64Binary"),
            Self::Reference => ("ManagedObjectReference", "ManagedObjectReference"),
            Self::Named(name) => (name, name),
        }
    }
}

/// One field of a data type, property of a managed type, or parameter of a method.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub many: bool,
    pub optional: bool,
    /// The first version that knows it; zero for 6.5 and older.
    pub since: Version,
}

/// A data type or a managed type: its base and its own fields.
#[derive(Debug)]
pub struct Type {
    pub name: &'static str,
    base: Option<&'static str>,
    pub own: Vec<Field>,
    pub managed: bool,
}

/// A method: who has it, its parameters and its result.
#[derive(Debug)]
pub struct Method {
    pub name: &'static str,
    pub parameters: Vec<Field>,
    pub result: Field,
}

/// All types and methods.
#[derive(Debug)]
pub struct Schema {
    types: HashMap<&'static str, Type>,
    enums: HashMap<&'static str, Vec<&'static str>>,
    methods: HashMap<&'static str, Vec<(&'static str, Method)>>,
}

/// The table, read once for the process.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| Schema::read(&[TABLE, UNDOCUMENTED]))
}

impl Schema {
    fn read(tables: &[&'static str]) -> Self {
        let mut schema =
            Self { types: HashMap::with_capacity(2048), enums: HashMap::new(), methods: HashMap::with_capacity(512) };
        for line in tables.iter().flat_map(|table| table.lines()) {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some(tag @ ("d" | "m")), Some(name), Some(base)) => {
                    let base = (base != "-").then_some(base);
                    let own = words.filter_map(Field::read).collect();
                    schema.types.insert(name, Type { name, base, own, managed: tag == "m" });
                }
                (Some("e"), Some(name), first) => {
                    schema.enums.insert(name, first.into_iter().chain(words).collect());
                }
                (Some("f"), Some(owner), Some(name)) => {
                    let Some(result) = words.next().and_then(|result| Field::typed("returnval", result)) else {
                        continue;
                    };
                    let method = Method { name, result, parameters: words.filter_map(Field::read).collect() };
                    schema.methods.entry(name).or_default().push((owner, method));
                }
                _ => {}
            }
        }
        schema
    }

    pub fn data_type(&self, name: &str) -> Option<&Type> {
        self.types.get(name).filter(|found| !found.managed)
    }

    pub fn managed_type(&self, name: &str) -> Option<&Type> {
        self.types.get(name).filter(|found| found.managed)
    }

    pub fn enumeration(&self, name: &str) -> Option<&[&'static str]> {
        self.enums.get(name).map(Vec::as_slice)
    }

    /// Whether any managed type has a method of that name.
    pub fn knows_method(&self, name: &str) -> bool {
        self.methods.contains_key(name)
    }

    /// The names of all methods.
    pub fn method_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.methods.keys().copied()
    }

    /// The names of the data types that are derived from `ancestor`.
    pub fn derived<'a>(&'a self, ancestor: &'a str) -> impl Iterator<Item = &'static str> + 'a {
        self.types.values().filter(move |one| !one.managed && self.is_a(one.name, ancestor)).map(|one| one.name)
    }

    /// The method of that name that objects of the managed type `owner` have.
    pub fn method(&self, owner: &str, name: &str) -> Option<&Method> {
        self.methods.get(name)?.iter().find(|(has_it, _)| self.is_a(owner, has_it)).map(|(_, method)| method)
    }

    /// Whether `name` is `ancestor` or derived from it.
    pub fn is_a(&self, name: &str, ancestor: &str) -> bool {
        name == ancestor || self.lineage(name).any(|one| one.name == ancestor)
    }

    /// The type and its bases, nearest first.
    pub fn lineage<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Type> + 'a {
        std::iter::successors(self.types.get(name), |one| one.base.and_then(|base| self.types.get(base)))
    }

    /// The field of that name that the type has or inherits.
    pub fn field(&self, type_name: &str, field: &str) -> Option<&Field> {
        self.lineage(type_name).find_map(|one| one.own.iter().find(|own| own.name == field))
    }
}

impl Field {
    fn read(text: &'static str) -> Option<Self> {
        let (name, rest) = text.split_once('=')?;
        let mut field = Self::typed(name.trim_end_matches('?'), rest)?;
        field.optional = name.ends_with('?');
        Some(field)
    }

    fn typed(name: &'static str, rest: &'static str) -> Option<Self> {
        let (kind, since) = rest.split_once('@').unwrap_or((rest, "0.0"));
        let many = kind.ends_with("[]");
        let kind = Kind::parse(kind.trim_end_matches("[]"));
        Some(Self { name, kind, many, optional: false, since: Version::parse(since)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let schema = schema();
        assert!(schema.is_a("VirtualMachine", "ManagedEntity"));
        assert!(schema.is_a("InvalidPowerState", "MethodFault"));
        assert!(schema.field("VirtualDisk", "key").is_some_and(|field| field.kind == Kind::Int));
        assert!(schema.method("VirtualMachine", "Destroy_Task").is_some());
        assert!(schema.method("VirtualMachine", "CreateVM_Task").is_none());
        assert!(VERSIONS.iter().all(|version| Version::parse(version).is_some()));
        for one in schema.types.values() {
            for field in &one.own {
                if let Kind::Named(name) = field.kind {
                    assert!(
                        schema.data_type(name).is_some() || schema.enumeration(name).is_some(),
                        "{}.{} is of the unknown type {name}",
                        one.name,
                        field.name
                    );
                }
            }
        }
    }
}
