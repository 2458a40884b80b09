//! The type manager: which namespaces there are, and the types of their commands, as the host describes them to clients.

use super::namespace::{Command, Namespace, Shape};
use super::{INFO, PREFIX, namespaces};
use crate::sim::value::Data;

const VERSION: &str = "vim.version.version5";

fn wire(name: &str) -> String {
    let mut parts = name.split('.');
    let head = parts.next().map(|head| head.replacen('v', "V", 1)).unwrap_or_default();
    parts.fold(head, |whole, part| whole + part)
}

fn parameter(name: String, kind: String, optional: bool) -> Data {
    let data = Data::new("DynamicTypeMgrParamTypeInfo")
        .with("name", name)
        .with("version", VERSION)
        .with("type", kind)
        .with("privId", "");
    let annotation = Data::new("DynamicTypeMgrAnnotation").with("name", "optional");
    data.maybe("annotation", optional.then(|| vec![annotation]))
}

/// The full name of a command's record.
fn record(namespace: &Namespace, command: &Command) -> Option<String> {
    match command.shape {
        Shape::One(_) => None,
        Shape::Record(kind, _) | Shape::List(kind, _) | Shape::Table(kind, _) => {
            Some(format!("{PREFIX}{}.{}.{kind}", namespace.name, command.name))
        }
    }
}

fn method(namespace: &Namespace, command: &Command) -> Data {
    let result = match (&command.shape, record(namespace, command)) {
        (Shape::One(kind), _) => kind.name().to_owned(),
        (Shape::List(..) | Shape::Table(..), Some(name)) => format!("{name}[]"),
        (_, name) => name.unwrap_or_default(),
    };
    let parameters: Vec<Data> = command
        .options
        .iter()
        .map(|option| parameter(option.wire(), option.kind.name().to_owned(), !option.required))
        .collect();
    Data::new("DynamicTypeMgrMethodTypeInfo")
        .with("name", command.name)
        .with("wsdlName", wire(&format!("{PREFIX}{}.{}", namespace.name, command.name)))
        .with("version", VERSION)
        .with("paramTypeInfo", parameters)
        .with("returnTypeInfo", parameter("result".to_owned(), result, false))
        .with("fault", vec!["vim.EsxCLI.CLIFault"])
        .with("privId", "")
}

/// The types whose names contain `part`.
pub fn types(part: &str) -> Data {
    let (mut managed, mut records) = (Vec::new(), Vec::new());
    for namespace in namespaces() {
        let name = format!("{PREFIX}{}", namespace.name);
        if name.contains(part) {
            let methods: Vec<Data> = namespace.commands.iter().map(|command| method(namespace, command)).collect();
            managed.push(
                Data::new("DynamicTypeMgrManagedTypeInfo")
                    .with("name", name.clone())
                    .with("wsdlName", wire(&name))
                    .with("version", VERSION)
                    .with("base", vec!["vmodl.ManagedObject"])
                    .with("method", methods),
            );
        }
        for command in namespace.commands {
            let Some(name) = record(namespace, command).filter(|name| name.contains(part)) else { continue };
            let fields = command.shape.columns().iter().map(|column| {
                Data::new("DynamicTypeMgrPropertyTypeInfo")
                    .with("name", column.wire())
                    .with("version", VERSION)
                    .with("type", column.1.name())
            });
            records.push(
                Data::new("DynamicTypeMgrDataTypeInfo")
                    .with("name", name.clone())
                    .with("wsdlName", wire(&name))
                    .with("version", VERSION)
                    .with("base", vec!["vmodl.DynamicData"])
                    .with("property", fields.collect::<Vec<_>>()),
            );
        }
    }
    Data::new("DynamicTypeMgrAllTypeInfo").with("managedTypeInfo", managed).with("dataTypeInfo", records)
}

/// The objects whose names contain `id`, and their types' `part`.
pub fn instances(id: &str, part: &str) -> Vec<Data> {
    let own = namespaces().map(|namespace| (namespace.object(), format!("{PREFIX}{}", namespace.name)));
    let info = (INFO.0.to_owned(), "vim.CLIInfo".to_owned());
    own.chain([info])
        .filter(|(object, kind)| object.contains(id) && kind.contains(part))
        .map(|(object, kind)| Data::new("DynamicTypeMgrMoInstance").with("id", object).with("moType", kind))
        .collect()
}
