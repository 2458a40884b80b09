//! Answers, descriptions and faults as the XML documents that travel inside the API's own.

use super::namespace::{Command, Denial, Kind, Namespace, Opt, Shape, Told};
use crate::xml::{Element, XmlError};

/// A document's root, of that type.
fn root(kind: &str) -> Element {
    Element::new("obj")
        .attribute("xmlns:xsd", "http://www.w3.org/2001/XMLSchema")
        .attribute("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance")
        .attribute("xmlns", "urn:vim25")
        .attribute("versionId", "5.0")
        .typed(kind)
}

fn written(element: &Element) -> Result<String, XmlError> {
    let mut out = String::new();
    element.write(&mut out)?;
    Ok(out)
}

/// The name of a command's record: `VimEsxCLInetworkvmlistVM`.
fn record(namespace: &Namespace, command: &Command, kind: &str) -> String {
    format!("VimEsxCLI{}{}{kind}", namespace.name.replace('.', ""), command.name)
}

/// What a command answered.
pub fn answer(namespace: &Namespace, command: &Command, told: &Told) -> Result<String, XmlError> {
    let fields = |row: &Vec<Vec<String>>| {
        let columns = command.shape.columns().iter().zip(row);
        columns
            .flat_map(|(column, values)| values.iter().map(|value| Element::leaf(column.wire(), value)))
            .collect::<Vec<_>>()
    };
    let document = match (&command.shape, told) {
        (Shape::One(kind), Told::One(value)) => {
            Element { text: value.clone(), ..root(&format!("xsd:{}", kind.name())) }
        }
        (Shape::Record(kind, _), Told::Rows(rows)) => {
            let row = rows.first().map(fields).unwrap_or_default();
            root(&record(namespace, command, kind)).with_all(row)
        }
        (Shape::List(kind, _) | Shape::Table(kind, _), Told::Rows(rows)) => {
            let name = record(namespace, command, kind);
            let row = |row| Element::new("DataObject").typed(&name).with_all(fields(row));
            root("ArrayOfDataObject").with_all(rows.iter().map(row))
        }
        // A command that tells something else than it says it does has nothing to tell.
        _ => root("ArrayOfDataObject"),
    };
    written(&document)
}

/// What a namespace is, for whoever lays out its answers and reads its options.
pub fn description(namespace: &Namespace) -> Result<String, XmlError> {
    let item = |element: Element, name: &str, shown: &str, help: &str| {
        element
            .with(Element::leaf("name", name))
            .with(Element::leaf("displayName", shown))
            .with(Element::leaf("help", help))
    };
    let parameter = |option: &Opt| {
        item(Element::new("param"), &option.wire(), option.shown, option.help)
            .with(Element::leaf("aliases", format!("-{}", option.short)))
            .with(Element::leaf("aliases", format!("--{}", option.shown)))
            .with(Element::leaf("flag", "false"))
    };
    let hint = |key: &str, value: &str| {
        Element::new("hints").with(Element::leaf("key", key)).with(Element::leaf("value", value))
    };
    let method = |command: &Command| {
        let mut method = item(Element::new("method"), command.name, command.name, command.help);
        method = method.with_all(command.options.iter().map(parameter));
        match command.shape {
            Shape::Table(kind, columns) => {
                let shown: Vec<&str> = columns.iter().map(|column| column.0).collect();
                method.with(hint(&format!("fields:{kind}"), &shown.join(","))).with(hint("formatter", "table"))
            }
            Shape::Record(..) | Shape::List(..) | Shape::One(Kind::Text | Kind::Number) => {
                method.with(hint("formatter", "simple"))
            }
            Shape::One(Kind::Truth) => method.with(hint("formatter", "")),
        }
    };
    let whole = item(root("VimCLIInfoTypeInfo"), namespace.name, namespace.shown(), namespace.help);
    written(&whole.with_all(namespace.commands.iter().map(method)))
}

/// The fault of a call that was not carried out.
pub fn fault(denial: &Denial) -> Result<String, XmlError> {
    let fault = match denial {
        Denial::NotFound => Element::new("fault").typed("NotFound"),
        Denial::Said(why) => Element::new("fault").typed("VimEsxCLICLIFault").with(Element::leaf("errMsg", why)),
    };
    written(&root("LocalizedMethodFault").with(fault).with(Element::leaf("localizedMessage", denial.message())))
}
