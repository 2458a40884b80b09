//! Names as they stand in a call, before anything is sent: whether the tables could allow them, and whether they are names at all.
//!
//! What a name stands for is found in `bind`, which checks the object again.

use super::acting::Pass;
use super::bind::made_key;
use super::object::Object;
use super::operation::{Selector, Touch};
use super::snapshots::snapshot_key;
use crate::error::Fault;
use crate::wire::Value;

/// The literal check: before anything is sent, each touch with an argument is held against the tables by name alone.
///
/// An object that the run may have made cannot be told by its name, so `@made` is left to the bound check.
pub(super) fn check_literals(pass: &Pass<'_>, touches: &'static [Touch], arguments: &Value) -> Result<(), Fault> {
    for touch in touches {
        let policy = &pass.door.policy;
        match touch.selector {
            Selector::Filtered => policy.check_filtered(touch.noun, touch.verb)?,
            Selector::Found => policy.check_filtered(touch.noun, touch.verb)?,
            Selector::Url(argument) => match arguments.get(argument) {
                None | Some(Value::Nil) => {}
                Some(Value::Text(url)) => policy.check_literal(touch.noun, touch.verb, &super::web::name_of(url)?)?,
                Some(_) => policy.check_filtered(touch.noun, touch.verb)?,
            },
            Selector::Given { given, .. } | Selector::Meant { given: Some(given), .. }
                if arguments.get(given).is_none_or(Value::is_nil) => {}
            Selector::Meant { .. } if arguments.get("dry_run") == Some(&Value::Bool(true)) => {}
            Selector::Argument(argument) | Selector::Given { argument, .. } | Selector::Meant { argument, .. } => {
                match arguments.get(argument) {
                    Some(Value::Text(name)) => {
                        check_length(argument, name)?;
                        policy.check_literal(touch.noun, touch.verb, name)?
                    }
                    Some(Value::Handle(handle)) => {
                        // A handle tells whether the run made its object, so `@made` is decided before anything is sent.
                        let journal = &pass.door.journal;
                        let object = pass.door.objects.get(handle.id);
                        let made = match &object {
                            Some(Object::Vm(host, vm)) => journal.has_made(&made_key(&host.name, vm)),
                            Some(Object::Snapshot(host, vm, own)) => {
                                journal.has_made(&made_key(&host.name, vm))
                                    || journal.has_made(&snapshot_key(&host.name, vm, own))
                            }
                            // Nobody makes a datastore; whether the run made the file on it is known once its path is.
                            Some(Object::Datastore(..)) => {
                                policy.check_literal(touch.noun, touch.verb, &handle.name)?;
                                continue;
                            }
                            _ => false,
                        };
                        // Tables name machines: a snapshot is allowed as its machine is.
                        let name = match &object {
                            Some(Object::Snapshot(_, vm, _)) => &vm.name,
                            _ => &handle.name,
                        };
                        policy.check_now(touch.noun, touch.verb, name, made)?;
                    }
                    Some(Value::Map(entries)) => {
                        for (_, value) in entries {
                            if let Value::Text(name) = value {
                                check_length(argument, name)?;
                                policy.check_literal(touch.noun, touch.verb, name)?;
                            }
                        }
                    }
                    _ if (touch.noun, touch.verb) == ("host", "connect") => {}
                    _ => policy.check_filtered(touch.noun, touch.verb)?,
                }
            }
        }
    }
    Ok(())
}

/// The longest name of an object, in bytes: 80 characters of a machine, 255 bytes of a file.
const LONGEST_NAME: usize = 320;

/// No host has a name so long, and each name that a call gives is remembered for the run's account.
fn check_length(argument: &str, name: &str) -> Result<(), Fault> {
    if name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let start: String = name.chars().take(40).collect();
    Err(Fault::new("usage.name", format!("{argument}: {start:?}… has {} bytes, and no name is so long", name.len()))
        .hint(format!("a name has at most {LONGEST_NAME} bytes")))
}

/// A machine's name as ESXi and its datastores take it: 1 to 80 characters, no control characters, no slash, backslash or percent.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    let wrong = |what: String| {
        Err(Fault::new("usage.name", format!("{name:?} cannot be a machine's name: {what}"))
            .hint("use letters, digits, dots, dashes and underscores, at most 80 characters"))
    };
    if name.is_empty() || name.chars().count() > 80 {
        return wrong(format!("it has {} characters, not 1 to 80", name.chars().count()));
    }
    if name.trim() != name || name == "." || name == ".." {
        return wrong("it begins or ends with white space, or is a folder's own name".to_owned());
    }
    // A name that looks like another's, or that turns the text after it round, is nobody's honest wish.
    if crate::config::printable(name) != name {
        return wrong("it contains a character that cannot be seen".to_owned());
    }
    match name
        .chars()
        .find(|c| c.is_control() || matches!(c, '/' | '\\' | '%' | '*' | '?' | '"' | '<' | '>' | '|' | ':'))
    {
        Some(c) => wrong(format!("it contains {c:?}")),
        None => Ok(()),
    }
}
