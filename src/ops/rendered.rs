//! Documents rendered for a person at the command line, out of a table that was read from a file.
//!
//! No operation: a script never gets the text of a document. Whoever prints it hides the secrets ([`crate::redact`]).

use std::sync::Arc;

use crate::cloudinit;
pub use crate::cloudinit::Warning;
use crate::config::NamedSecret;
use crate::door::read_arguments;
use crate::error::Fault;
use crate::wire::{Handle, Value};

/// The parts of a document, as a guest gets them. They hold secrets.
pub struct Parts {
    pub meta_data: Option<String>,
    pub user_data: Option<String>,
    pub vendor_data: Option<String>,
    pub iso: Option<Vec<u8>>,
    pub warnings: Vec<Warning>,
}

/// A machine that is nobody's, for what is rendered without one.
const NOBODY: &str = "00000000-0000-4000-8000-000000000001";
/// As many cards as a machine may have.
const CARDS: u8 = 10;

/// Builds and renders the table of `cloudinit.build`, in which `{ secret = NAME }` stands for what `secret` gives.
pub fn render(
    mut table: Value,
    macs: &[String],
    with_iso: bool,
    mut secret: impl FnMut(&str) -> Result<NamedSecret, Fault>,
) -> Result<Parts, Fault> {
    let mut names = Vec::new();
    name_secrets(&mut table, &mut names);
    let mut spec: cloudinit::Spec = read_arguments("cloudinit.build", &table)?;
    spec.fill(|slot, handle| {
        let name = names
            .get(handle.id as usize)
            .ok_or_else(|| Fault::new("usage.handle", format!("{}: a handle has no place in a file", slot.at)))?;
        let named = secret(name)?;
        crate::door::secret::check_purpose(slot, &named)?;
        Ok::<Arc<_>, Fault>(named.value)
    })?;
    let document = cloudinit::build(&spec)?;
    let cards = if macs.is_empty() {
        (1..=CARDS).map(|card| format!("00:50:56:00:00:{card:02x}")).collect()
    } else {
        macs.to_vec()
    };
    let cards = cards
        .iter()
        .map(|mac| {
            mac.parse::<cloudinit::MacAddress>().map_err(|_| {
                Fault::new("usage.argument", format!("--mac {mac:?}: is not a MAC address"))
                    .hint("write it as 00:50:56:12:34:56")
            })
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    let target = cloudinit::Target { uuid: NOBODY, macs: &cards };
    let info = document.guestinfo(target)?;
    let part = |key: &str| -> Result<Option<String>, Fault> {
        let find = |key: &str| info.entries().find(|(name, _)| *name == key).map(|(_, value)| value);
        let encoding = find(&format!("{key}.encoding")).unwrap_or_default();
        find(key).filter(|value| !value.is_empty()).map(|value| cloudinit::decode(value, encoding)).transpose()
    };
    let iso = if with_iso { Some(document.iso(target)?.bytes().to_vec()) } else { None };
    Ok(Parts {
        meta_data: part("guestinfo.metadata")?,
        user_data: part("guestinfo.userdata")?,
        vendor_data: part("guestinfo.vendordata")?,
        iso,
        warnings: document.check().to_vec(),
    })
}

/// Puts a handle of this file alone in the place of each `{ secret = NAME }`.
fn name_secrets(value: &mut Value, names: &mut Vec<String>) {
    let named = match value {
        Value::Map(entries) => match entries.as_slice() {
            [(key, Value::Text(name))] if key == "secret" => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    if let Some(name) = named {
        let id = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.push(name.clone());
        *value = Value::Handle(Box::new(Handle { id, kind: "secret".to_owned(), name, fields: Vec::new() }));
        return;
    }
    match value {
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| name_secrets(value, names)),
        Value::List(items) => items.iter_mut().for_each(|item| name_secrets(item, names)),
        _ => {}
    }
}
