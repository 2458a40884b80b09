//! One who waits: for which properties of which object, and until when. Plain state; the [`monitor`](super::monitor) feeds it.
//!
//! Specification: vSphere Web Services API, `ObjectUpdate`, `PropertyChange`.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::xml::Element;

use super::error::Error;
use super::fault::VimFault;
use super::moref::MoRef;

/// The properties of an awaited object as far as they have come, by path.
pub(super) type Snapshot = BTreeMap<String, Element>;

/// Says that nothing more has to be awaited.
pub(super) type Until = Box<dyn Fn(&Snapshot) -> bool + Send + Sync>;

/// What is awaited: properties of one object, until a condition holds.
pub(super) struct Awaited {
    pub object: MoRef,
    pub kind: &'static str,
    pub paths: &'static [&'static str],
    pub until: Until,
}

/// What comes of it: snapshots, the last one being that for which the condition held.
pub(super) struct Watch {
    changes: mpsc::UnboundedReceiver<Result<Snapshot, Error>>,
    host: String,
}

impl Watch {
    pub(super) fn new(changes: mpsc::UnboundedReceiver<Result<Snapshot, Error>>, host: &str) -> Self {
        Self { changes, host: host.to_owned() }
    }

    /// The next state of the object. After the last one, or after an error, nothing more comes.
    pub(super) async fn next(&mut self) -> Result<Snapshot, Error> {
        match self.changes.recv().await {
            Some(change) => change,
            None => Err(Error::Lost { host: self.host.clone(), reason: "the client was closed".to_owned() }),
        }
    }
}

/// The monitor's side of a [`Watch`].
pub(super) struct Watcher {
    pub awaited: Awaited,
    sender: mpsc::UnboundedSender<Result<Snapshot, Error>>,
    snapshot: Snapshot,
    pub filter: Option<MoRef>,
    /// Whether its first state has come through the filter.
    pub seen: bool,
}

impl Watcher {
    pub(super) fn new(awaited: Awaited, sender: mpsc::UnboundedSender<Result<Snapshot, Error>>) -> Self {
        Self { awaited, sender, snapshot: Snapshot::new(), filter: None, seen: false }
    }

    /// Takes what has changed of its object, tells the one who waits, and ends where that is enough.
    pub(super) fn update(&mut self, host: &str, object: &MoRef, update: &Element) {
        self.seen = true;
        if update.text_at("kind").map(str::trim) == Some("leave") {
            return self.fail(gone(host, object));
        }
        for change in update.all("changeSet") {
            let Some(name) = change.text_at("name").map(str::trim) else { continue };
            // What was not asked for is not kept: under ever new names it would fill the memory.
            if !self.awaited.paths.contains(&name) {
                continue;
            }
            match change.child("val") {
                Some(value) => self.snapshot.insert(name.to_owned(), value.clone()),
                None => self.snapshot.remove(name),
            };
        }
        if self.sender.send(Ok(self.snapshot.clone())).is_err() || (self.awaited.until)(&self.snapshot) {
            self.finish();
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        if self.sender.send(Err(error)).is_err() {
            tracing::debug!("nobody waits for {} any more", self.awaited.object);
        }
        self.finish();
    }

    /// Lets go of the sender: the other side sees the end once it has read everything.
    pub(super) fn finish(&mut self) {
        self.sender = mpsc::unbounded_channel().0;
    }

    pub(super) fn finished(&self) -> bool {
        self.sender.is_closed()
    }
}

/// The error for an object that is not there any more.
pub(super) fn gone(host: &str, object: &MoRef) -> Error {
    let fault = VimFault {
        name: "ManagedObjectNotFound".to_owned(),
        message: String::new(),
        details: Vec::new(),
        data: Element::new("fault").with(object.element("obj")),
        cause: None,
        learned: None,
    };
    Error::Vim { host: host.to_owned(), fault: Box::new(fault) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_properties_that_nobody_asked_for_is_not_kept() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let object = MoRef::new("Task", "task-1");
        let awaited =
            Awaited { object: object.clone(), kind: "Task", paths: &["info.state"], until: Box::new(|_| false) };
        let mut watcher = Watcher::new(awaited, sender);
        let change = |name: &str| {
            Element::new("changeSet").with(Element::leaf("name", name)).with(Element::leaf("val", "running"))
        };
        let update = Element::new("objectSet")
            .with_all((0..1000).map(|n| change(&format!("info.flood{n}"))))
            .with(change("info.state"));
        watcher.update("h", &object, &update);
        let mut watch = Watch::new(receiver, "h");
        let snapshot = futures_util::FutureExt::now_or_never(watch.next()).unwrap().unwrap();
        assert_eq!(snapshot.into_keys().collect::<Vec<_>>(), ["info.state"]);
    }
}
