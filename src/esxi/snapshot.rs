//! Snapshots of a machine: the tree as it is, taken, renamed, gone back to, taken away, and their deltas consolidated.
//!
//! Specification: vSphere Web Services API, `VirtualMachine.CreateSnapshot_Task`, `VirtualMachineSnapshot`,
//! `VirtualMachine.ConsolidateVMDisks_Task`.

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::host::{Host, Progress};
use super::linked::Merge;
use super::lookup::unescape;
use super::moref::MoRef;
use super::object::Vm;
use super::property::{Object, Query, boolean};
use super::soap::{Call, Method};
use super::task::Task;
use super::vm_list::PowerState;

/// The identity of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub moref: MoRef,
    pub name: String,
    /// Its number, given once only in a machine's life.
    pub id: i32,
}

/// One snapshot of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    pub snapshot: Snapshot,
    pub description: String,
    /// When it was taken, as the host writes it.
    pub created: String,
    /// What a revert brings back: on means with its memory.
    pub power: PowerState,
    pub consistency: Option<Consistency>,
    /// The one that the machine goes on from.
    pub current: bool,
    pub parent: Option<MoRef>,
    /// How many lie above it.
    pub depth: u32,
}

/// What a snapshot's disks can be trusted to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The guest's applications had written all that they had (Windows, by its VSS).
    Application,
    /// The guest's file systems had.
    Filesystem,
    /// As after the plug was pulled.
    Crash,
    /// The machine was off, or its memory was saved too: nothing was under way that is lost.
    Complete,
}

impl Consistency {
    /// `application`, `filesystem`, `crash` or `complete`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Filesystem => "filesystem",
            Self::Crash => "crash",
            Self::Complete => "complete",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Application, Self::Filesystem, Self::Crash, Self::Complete].into_iter().find(|own| own.as_str() == text)
    }
}

/// What is asked of a new snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotSpec {
    pub name: String,
    pub description: String,
    /// Whether a running machine's memory is saved too.
    pub memory: bool,
    /// Whether the guest is asked to write out what it holds first.
    pub quiesce: bool,
}

/// How the last line of a description tells what the host itself does not keep.
const MARK: &str = "ceso.consistency=";

fn described(description: &str, consistency: Consistency) -> String {
    let line = format!("{MARK}{}", consistency.as_str());
    if description.is_empty() { line } else { format!("{description}\n{line}") }
}

impl SnapshotRow {
    /// The description as a host keeps it, which tells the consistency too.
    pub fn kept_description(&self) -> String {
        self.consistency
            .map_or_else(|| self.description.clone(), |consistency| described(&self.description, consistency))
    }
}

/// Takes the mark out of a description.
fn told(description: &str) -> (String, Option<Consistency>) {
    let (before, last) = description.rsplit_once('\n').unwrap_or(("", description));
    match last.trim().strip_prefix(MARK).and_then(Consistency::read) {
        Some(consistency) => (before.to_owned(), Some(consistency)),
        None => (description.to_owned(), None),
    }
}

/// Reads the tree in a machine's `snapshot`, parents before children.
pub(super) fn tree(object: &Object) -> Vec<SnapshotRow> {
    fn collect(
        node: &Element,
        list: &str,
        above: Option<&SnapshotRow>,
        current: Option<&MoRef>,
        out: &mut Vec<SnapshotRow>,
    ) {
        for element in node.all(list) {
            let Some(moref) = element.child("snapshot").and_then(MoRef::read) else { continue };
            let text = |name: &str| element.text_at(name).unwrap_or_default().to_owned();
            let (description, marked) = told(&unescape(&text("description")));
            let quiesced = element.text_at("quiesced").and_then(boolean).unwrap_or(false);
            let row = SnapshotRow {
                current: current == Some(&moref),
                snapshot: Snapshot {
                    moref,
                    name: unescape(&text("name")),
                    id: text("id").trim().parse().unwrap_or(-1),
                },
                description,
                created: text("createTime"),
                power: PowerState::read(&text("state")),
                // Somebody else's: what the host keeps says no more than this.
                consistency: marked.or(quiesced.then_some(Consistency::Filesystem)),
                parent: above.map(|above| above.snapshot.moref.clone()),
                depth: above.map_or(0, |above| above.depth + 1),
            };
            out.push(row.clone());
            // A host keeps 32 levels; who sends more is not followed.
            if row.depth < 64 {
                collect(element, "childSnapshotList", Some(&row), current, out);
            }
        }
    }
    let mut rows = Vec::new();
    if let Some(info) = object.get("snapshot") {
        let current = info.child("currentSnapshot").and_then(MoRef::read);
        collect(info, "rootSnapshotList", None, current.as_ref(), &mut rows);
    }
    rows
}

impl Host {
    /// The machine's snapshots, parents before children, in one request.
    pub async fn snapshots(&self, vm: &Checked<Vm>) -> Result<Vec<SnapshotRow>, Error> {
        let read = self.link.retrieve(&Query::object(&vm.moref, "VirtualMachine", &["snapshot"])).await;
        let objects = read.map_err(|error| error.doing(format!("read the snapshots of {:?}", vm.name)))?;
        Ok(objects.iter().find(|object| object.moref == vm.moref).map(tree).unwrap_or_default())
    }

    /// Takes a snapshot, and notes in its description what its disks can be trusted to hold.
    ///
    /// Errors: `esxi.tools_unavailable` where a running guest is to be quiesced and runs no tools, before anything is done;
    /// `esxi.too_many_snapshot_levels`, `esxi.memory_snapshot_on_independent_disk`.
    pub async fn create_snapshot(
        &self,
        vm: &Checked<Vm>,
        spec: &SnapshotSpec,
        progress: Progress<'_>,
    ) -> Result<SnapshotRow, Error> {
        let taken = self.take(vm, spec, progress).await;
        taken.map_err(|error| error.doing(format!("take the snapshot {:?} of {:?}", spec.name, vm.name)))
    }

    async fn take(&self, vm: &Checked<Vm>, spec: &SnapshotSpec, progress: Progress<'_>) -> Result<SnapshotRow, Error> {
        check_name(&spec.name)?;
        let expected = self.expected(vm, spec).await?;
        let call = |description: &str| {
            Call::new(&vm.moref, Method::CreateSnapshot)
                .with_text("name", &spec.name)
                .with_text("description", description)
                .with_text("memory", spec.memory.to_string())
                .with_text("quiesce", spec.quiesce.to_string())
        };
        let task = Task::start(self, "take a snapshot", &call(&described(&spec.description, expected))).await?;
        let moref = task.made(progress).await?;
        let read = self.link.retrieve(&Query::object(&vm.moref, "VirtualMachine", &["snapshot"])).await?;
        let rows = read.iter().find(|object| object.moref == vm.moref).map(tree).unwrap_or_default();
        let quiesced = read.iter().filter_map(|object| object.get("snapshot")).any(|info| quiesced(info, &moref));
        let row = rows.into_iter().find(|row| row.snapshot.moref == moref).ok_or_else(|| Error::BadAnswer {
            host: self.name().to_owned(),
            reason: "a snapshot that was taken and is not there".to_owned(),
        })?;
        // A host may leave the wish aside: then the snapshot must not say that it was met.
        let claimed = matches!(expected, Consistency::Application | Consistency::Filesystem);
        if claimed && !quiesced {
            let crash = Consistency::Crash;
            let description = described(&spec.description, crash);
            self.describe(&row.snapshot.moref, None, Some(&description)).await?;
            return Ok(SnapshotRow { consistency: Some(crash), ..row });
        }
        Ok(row)
    }

    /// What a snapshot of the machine as it is now will hold.
    async fn expected(&self, vm: &Checked<Vm>, spec: &SnapshotSpec) -> Result<Consistency, Error> {
        const STATE: &[&str] = &["runtime.powerState", "guest.toolsRunningStatus", "config.guestId"];
        let objects = self.link.retrieve(&Query::object(&vm.moref, "VirtualMachine", STATE)).await?;
        let object = objects.iter().find(|object| object.moref == vm.moref);
        let text = |path: &str| object.and_then(|object| object.text(path)).unwrap_or_default();
        let running = PowerState::read(text("runtime.powerState")) == PowerState::On;
        if !running {
            return Ok(Consistency::Complete);
        }
        if !spec.quiesce {
            return Ok(if spec.memory { Consistency::Complete } else { Consistency::Crash });
        }
        if text("guest.toolsRunningStatus") == "guestToolsNotRunning" {
            return Err(Error::NoTools { host: self.name().to_owned(), name: vm.name.clone() });
        }
        let windows = text("config.guestId").starts_with("win");
        Ok(if windows { Consistency::Application } else { Consistency::Filesystem })
    }

    /// Changes a snapshot's name.
    pub async fn rename_snapshot(&self, snapshot: &Checked<Snapshot>, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let renamed = self.describe(&snapshot.moref, Some(name), None).await;
        renamed.map_err(|error| error.doing(format!("rename the snapshot {:?}", snapshot.name)))
    }

    async fn describe(&self, snapshot: &MoRef, name: Option<&str>, description: Option<&str>) -> Result<(), Error> {
        let call = Call::new(snapshot, Method::RenameSnapshot)
            .with_opt(name.map(|name| Element::leaf("name", name)))
            .with_opt(description.map(|description| Element::leaf("description", description)));
        self.link.call(&call).await.map(|_| ())
    }

    /// Goes back to a snapshot: what was written since is lost. With its memory the machine runs on, without it is off.
    pub async fn revert(&self, snapshot: &Checked<Snapshot>, progress: Progress<'_>) -> Result<(), Error> {
        let call = Call::new(&snapshot.moref, Method::RevertToSnapshot);
        self.snapshot_task(call, "revert", format!("revert to the snapshot {:?}", snapshot.name), progress).await
    }

    /// Takes a snapshot away, with those that come after it where `children` says so; what it held stays in the machine's disks.
    ///
    /// Errors: `esxi.inherited_disks` where that would be merged into another machine's disks.
    pub async fn remove_snapshot(
        &self,
        vm: &Checked<Vm>,
        snapshot: &Checked<Snapshot>,
        children: bool,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let call = Call::new(&snapshot.moref, Method::RemoveSnapshot)
            .with_text("removeChildren", children.to_string())
            .with_text("consolidate", "true");
        let doing = format!("remove the snapshot {:?}", snapshot.name);
        let merge = Merge::Snapshot { snapshot: &snapshot.moref, children };
        self.check_merge(vm, merge).await.map_err(|error| error.doing(doing.clone()))?;
        self.snapshot_task(call, "remove a snapshot", doing, progress).await
    }

    /// Takes all snapshots of a machine away. Errors: as of one.
    pub async fn remove_snapshots(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        let call = Call::new(&vm.moref, Method::RemoveAllSnapshots).with_text("consolidate", "true");
        let doing = format!("remove all snapshots of {:?}", vm.name);
        self.check_merge(vm, Merge::All).await.map_err(|error| error.doing(doing.clone()))?;
        self.snapshot_task(call, "remove all snapshots", doing, progress).await
    }

    /// Merges deltas that no snapshot owns. Errors: `esxi.inherited_disks` where the machine has none of its own and builds on others.
    pub async fn consolidate(&self, vm: &Checked<Vm>, progress: Progress<'_>) -> Result<(), Error> {
        let call = Call::new(&vm.moref, Method::ConsolidateVmDisks);
        let doing = format!("consolidate the disks of {:?}", vm.name);
        self.check_merge(vm, Merge::Unowned).await.map_err(|error| error.doing(doing.clone()))?;
        self.snapshot_task(call, "consolidate", doing, progress).await
    }

    async fn snapshot_task(&self, call: Call, what: &str, doing: String, progress: Progress<'_>) -> Result<(), Error> {
        let task = async { Task::start(self, what, &call).await?.done(progress).await };
        task.await.map(|_| ()).map_err(|error| error.doing(doing))
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
        let reason = format!("{:?} cannot be a snapshot's name", name.chars().take(80).collect::<String>());
        return Err(Error::Invalid { reason, hint: Some("use 1 to 80 characters that can be seen".to_owned()) });
    }
    Ok(())
}

/// Whether the host says of this snapshot that the guest was quiesced.
fn quiesced(node: &Element, moref: &MoRef) -> bool {
    let mut lists = node.all("rootSnapshotList").chain(node.all("childSnapshotList"));
    lists.any(|own| match own.child("snapshot").and_then(MoRef::read).as_ref() == Some(moref) {
        true => own.text_at("quiesced").and_then(boolean).unwrap_or(false),
        false => quiesced(own, moref),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_tells_the_consistency_and_keeps_the_users_words() {
        for words in ["", "before the update", "two\nlines"] {
            for consistency in [Consistency::Application, Consistency::Crash, Consistency::Complete] {
                assert_eq!(told(&described(words, consistency)), (words.to_owned(), Some(consistency)));
            }
        }
        for foreign in ["", "plain", "ceso.consistency=great", "ceso.consistency=crash\nlast"] {
            assert_eq!(told(foreign), (foreign.to_owned(), None));
        }
    }
}
