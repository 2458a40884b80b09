//! Whether a task on a machine is the one of a call whose answer was lost, where others may do the same to the machine with the same user.
//!
//! A task does not tell its arguments, but what it has done does: a reconfiguration leaves an event with the very specification, a snapshot bears
//! its name and description. Two that ask for exactly the same at the same moment cannot be told apart: a reconfiguration of that kind
//! has the same effect, and of two snapshots neither is taken, unless the host knows of one alone.
//! Specification: vSphere Web Services API, `TaskInfo.eventChainId`, `VmReconfiguredEvent.configSpec`, `VirtualMachineSnapshotTree`.

use crate::xml::Element;

use super::error::Error;
use super::host::Host;
use super::lookup::unescape;
use super::moref::MoRef;
use super::property::Query;
use super::soap::{Call, Method};

/// Whether what a task of this method has done tells whose it was. Of the others on a machine it does not matter: whoever turned it on,
/// it is on.
pub(super) fn tells(call: &Call) -> bool {
    matches!(call.method, Method::ReconfigVm | Method::CreateSnapshot)
}

impl Host {
    /// Whether a task that has succeeded did what the call asks for; `None` where that cannot be told.
    pub(super) async fn did_what(&self, call: &Call, info: &Element) -> Result<Option<bool>, Error> {
        match call.method {
            Method::ReconfigVm => self.reconfigured_so(call, info).await,
            _ => self.took_that(call, info).await,
        }
    }

    async fn reconfigured_so(&self, call: &Call, info: &Element) -> Result<Option<bool>, Error> {
        let Some(spec) = call.arguments.iter().find(|argument| argument.name == "spec") else { return Ok(None) };
        let contract = self.link.contract();
        let Some(manager) = contract.content.event_manager.as_deref() else { return Ok(None) };
        let time = info.text_at("startTime").or_else(|| info.text_at("queueTime"));
        let entity = Element::new("entity").with(call.this.element("entity")).with(Element::leaf("recursion", "self"));
        let filter = Element::new("filter")
            .with(entity)
            .with_all(time.map(|time| Element::new("time").with(Element::leaf("beginTime", time.trim()))));
        let asked = Call::new(&MoRef::new("EventManager", manager), Method::QueryEvents).with(filter);
        let answer = match self.link.call(&asked).await {
            Err(error @ Error::Vim { .. }) => {
                tracing::debug!(host = self.name(), "the events of a task are not told: {error}");
                return Ok(None);
            }
            answer => answer?,
        };
        let chain = info.text_at("eventChainId").map(str::trim);
        let of_it = |event: &&Element| {
            let kind = event.xsi_type.as_deref().unwrap_or_default();
            kind.rsplit(':').next() == Some("VmReconfiguredEvent") && event.text_at("chainId").map(str::trim) == chain
        };
        let told = answer.all("returnval").find(of_it).and_then(|event| event.child("configSpec"));
        Ok(told.filter(|told| !told.children.is_empty()).map(|told| holds(told, spec)))
    }

    async fn took_that(&self, call: &Call, info: &Element) -> Result<Option<bool>, Error> {
        let Some(made) = info.child("result").and_then(MoRef::read) else { return Ok(None) };
        let read = self.link.retrieve(&Query::object(&call.this, "VirtualMachine", &["snapshot"])).await?;
        let tree = read.iter().find_map(|object| object.get("snapshot"));
        let Some(node) = tree.and_then(|tree| node(tree, &made)) else { return Ok(None) };
        let given = |name: &str| call.arguments.iter().find(|argument| argument.name == name).map(|found| &*found.text);
        let same = |name: &str| {
            let text = node.text_at(name).unwrap_or_default();
            unescape(text.trim()) == unescape(given(name).unwrap_or_default().trim())
        };
        Ok(Some(same("name") && same("description")))
    }
}

/// The part of a tree of snapshots that is about this one.
fn node<'a>(tree: &'a Element, snapshot: &MoRef) -> Option<&'a Element> {
    let below = tree.children.iter().filter(|child| matches!(&*child.name, "rootSnapshotList" | "childSnapshotList"));
    below
        .map(|child| match child.child("snapshot").and_then(MoRef::read).as_ref() == Some(snapshot) {
            true => Some(child),
            false => node(child, snapshot),
        })
        .find_map(|found| found)
}

/// Whether all that was asked for stands in what a host tells to have been asked for, and no other devices and options do. A host may add
/// fields, and leave out what is empty.
fn holds(told: &Element, asked: &Element) -> bool {
    const LISTS: &[&str] = &["deviceChange", "extraConfig"];
    let lists = LISTS.iter().all(|list| told.all(list).count() == asked.all(list).count());
    let mut next = std::collections::HashMap::new();
    lists
        && asked.children.iter().all(|child| {
            let place = next.entry(child.name.as_str()).or_insert(0);
            let found = told.all(&child.name).nth(*place);
            *place += 1;
            match found {
                // A host numbers new devices, and gives their files names of its own.
                Some(_) if child.name == "fileName" => true,
                Some(_) if matches!(&*child.name, "key" | "controllerKey") && child.text.trim().starts_with('-') => {
                    true
                }
                Some(found) if child.children.is_empty() => found.text.trim() == child.text.trim(),
                Some(found) => holds(found, child),
                None => child.children.is_empty() && child.text.trim().is_empty(),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(notes: &str, device: &str) -> Element {
        let change = Element::new("deviceChange").with(Element::leaf("operation", device));
        Element::new("spec").with(Element::leaf("annotation", notes)).with(change)
    }

    #[test]
    fn a_specification_is_known_by_all_that_it_asks_for() {
        let told = spec("a", "add").with(Element::leaf("changeVersion", "7"));
        assert!(holds(&told, &spec("a", "add")));
        assert!(!holds(&told, &spec("b", "add")) && !holds(&told, &spec("a", "remove")));
        assert!(!holds(&spec("a", "add"), &told));
        // More devices than were asked for are another's.
        let more = told.clone().with(Element::new("deviceChange").with(Element::leaf("operation", "add")));
        assert!(!holds(&more, &spec("a", "add")));
        assert!(!holds(&told, &Element::new("spec").with(Element::leaf("annotation", "a"))));
    }
}
