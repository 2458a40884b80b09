//! `esxcli` over the API: the host's command line as objects that describe themselves, and the one method that calls them.
//!
//! ```text
//! reflect    the type manager: which namespaces, methods and types there are
//! namespace  what a namespace, a command and its answer are
//! document   answers and descriptions as the XML documents that travel inside the API's own
//! system, network, firewall, storage, machines, hardware, software    the commands
//! ```
//!
//! Clients find the two objects by `RetrieveManagedMethodExecuter` and `RetrieveDynamicTypeManager`, read a namespace's description with
//! `vim.CLIInfo.FetchCLIInfo`, and call `vim.EsxCLI.NAMESPACE.COMMAND` with each argument as a small document. None of that is in VMware's
//! reference; it is what govc, rbvmomi and PowerCLI do.

mod document;
mod firewall;
mod hardware;
mod machines;
mod namespace;
mod network;
mod reflect;
mod software;
mod storage;
mod system;

use namespace::{Arguments, Denial, Namespace};

use super::call::{Answer, Call, Reply};
use super::fault::VimFault;
use super::value::{Data, Ref};
use super::world::World;
use crate::xml::{self, Limits};

pub const EXECUTER: Ref = Ref::fixed("ReflectManagedMethodExecuter", "ha-managed-method-executer");
pub const TYPES: Ref = Ref::fixed("InternalDynamicTypeManager", "ha-dynamic-type-manager");

/// Where descriptions are read, and how its method is called.
const INFO: (&str, &str) = ("ha-dynamic-type-manager-local-cli-cliinfo", "vim.CLIInfo.FetchCLIInfo");
/// What the names of commands begin with.
const PREFIX: &str = "vim.EsxCLI.";
/// An argument is a small document.
const ARGUMENT: Limits = Limits { bytes: 64 << 10, depth: 8 };

/// All namespaces, in the order of their names.
fn namespaces() -> impl Iterator<Item = &'static Namespace> {
    let all = [
        hardware::NAMESPACES,
        firewall::NAMESPACES,
        network::NAMESPACES,
        software::NAMESPACES,
        storage::NAMESPACES,
        system::NAMESPACES,
        machines::NAMESPACES,
    ];
    all.into_iter().flatten()
}

fn namespace(name: &str) -> Option<&'static Namespace> {
    namespaces().find(|namespace| namespace.name == name)
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "RetrieveManagedMethodExecuter" => Ok(EXECUTER.into()),
        "RetrieveDynamicTypeManager" => Ok(TYPES.into()),
        "DynamicTypeMgrQueryTypeInfo" => Ok(reflect::types(substring(call, "typeSubstr")).into()),
        "DynamicTypeMgrQueryMoInstances" => {
            Ok(Reply::Value(reflect::instances(substring(call, "id"), substring(call, "typeSubstr")).into()))
        }
        "ExecuteSoap" => Ok(match execute(world, call)? {
            Ok(document) => Data::new("ReflectManagedMethodExecuterSoapResult").with("response", document),
            Err(denial) => {
                let fault = Data::new("ReflectManagedMethodExecuterSoapFault")
                    .with("faultMsg", denial.message())
                    .with("faultDetail", document::fault(&denial).map_err(VimFault::system)?);
                Data::new("ReflectManagedMethodExecuterSoapResult").with("fault", fault)
            }
        }
        .into()),
        other => Err(VimFault::not_implemented(other)),
    }
}

fn substring<'a>(call: &'a Call, name: &str) -> &'a str {
    call.args.data("filterSpec").and_then(|spec| spec.text(name)).unwrap_or_default()
}

/// Carries out one call: the document that it answers, or its fault.
fn execute(world: &mut World, call: &Call) -> Result<Result<String, Denial>, VimFault> {
    let (object, method) = (call.text("moid")?, call.text("method")?);
    let mut given = Arguments::default();
    for argument in call.args.datas("argument") {
        let (name, text) = (argument.text("name").unwrap_or_default(), argument.text("val").unwrap_or_default());
        given.add(name, values(text)?);
    }
    if (object, method) == INFO {
        let wanted = given.text("typeName").unwrap_or_default().strip_prefix(PREFIX).and_then(namespace);
        return Ok(match wanted {
            Some(namespace) => Ok(document::description(namespace).map_err(VimFault::system)?),
            None => Err(Denial::NotFound),
        });
    }
    let found = method.strip_prefix(PREFIX).and_then(|path| path.rsplit_once('.')).and_then(|(namespace, command)| {
        let namespace = self::namespace(namespace)?;
        Some((namespace, namespace.commands.iter().find(|own| own.name == command)?))
    });
    let Some((namespace, command)) = found.filter(|(namespace, _)| namespace.object() == object) else {
        return Ok(Err(Denial::NotFound));
    };
    if let Err(denial) = given.check(command) {
        return Ok(Err(denial));
    }
    Ok(match (command.act)(world, call, &given) {
        Ok(told) => Ok(document::answer(namespace, command, &told).map_err(VimFault::system)?),
        Err(denial) => Err(denial),
    })
}

/// The texts of an argument: `<name>one</name><name>two</name>`.
fn values(text: &str) -> Result<Vec<String>, VimFault> {
    let whole = format!("<argument>{text}</argument>");
    let read = xml::parse(whole.as_bytes(), ARGUMENT).map_err(VimFault::invalid_request)?;
    Ok(read.children.into_iter().map(|child| child.text).collect())
}
