//! Operations on a machine's snapshots: taken, listed, gone back to, removed, and what they leave behind merged.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::linked::refuse_with_clones;
use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Connected, Fields, Given, Object, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::snapshots::BoundSnapshot;
use crate::error::Fault;
use crate::esxi;

const TAKES: &[Touch] = &[touch("vm", "snapshot", Selector::Argument("vm"))];
const REVERTS: &[Touch] = &[touch("vm", "revert", Selector::Argument("vm"))];
const REMOVES: &[Touch] = &[touch("vm", "remove_snapshot", Selector::Argument("vm"))];

const fn of_vm(name: &'static str) -> Place {
    Place::Method { kind: "vm", name }
}

const fn of_snapshot(name: &'static str) -> Place {
    Place::Method { kind: "snapshot", name }
}

/// What a snapshot's handle tells: the moment when it was given out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SnapshotFields {
    /// Its number, given once only in the machine's life.
    pub id: i32,
    /// The machine that it is of.
    pub vm: String,
    /// What was noted when it was taken.
    pub description: String,
    /// When it was taken, as the host writes it: RFC 3339.
    pub created: String,
    /// What going back to it brings: `on` where its memory was saved.
    #[schemars(extend("enum" = ["on", "off", "suspended"]))]
    pub power: String,
    /// What its disks can be trusted to hold: `application` and `filesystem` where the guest wrote out what it held, `crash` as after a
    /// pulled plug, `complete` where the machine was off or its memory was saved too; nil where nobody noted it.
    pub consistency: Option<String>,
    /// Whether the machine goes on from it now.
    pub current: bool,
    /// How many snapshots lie above it in the tree.
    pub depth: u32,
}

impl Fields for SnapshotFields {
    type Kind = kind::Snapshot;
}

fn give(
    pass: &Pass<'_>,
    host: &Arc<Connected>,
    vm: &esxi::Vm,
    row: esxi::SnapshotRow,
) -> Result<Given<kind::Snapshot>, Fault> {
    let fields = SnapshotFields {
        id: row.snapshot.id,
        vm: vm.name.clone(),
        description: row.description,
        created: row.created,
        power: row.power.as_str().to_owned(),
        consistency: row.consistency.map(|consistency| consistency.as_str().to_owned()),
        current: row.current,
        depth: row.depth,
    };
    let name = row.snapshot.name.clone();
    pass.give(Object::Snapshot(host.clone(), vm.clone(), row.snapshot), &name, &fields)
}

/// Takes a snapshot of a machine: its disks as they are, and with `memory` the running guest.
///
/// What the disks can be trusted to hold is noted with it. With `quiesce` a running guest is asked to write out what it holds, by its
/// VMware Tools. Independent disks take no part. Errors: `esxi.tools_unavailable` where a guest without tools is to be quiesced,
/// `esxi.too_many_snapshot_levels`, `esxi.memory_snapshot_on_independent_disk`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Take {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Its name, 1 to 80 characters; several may have the same.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whether a running guest's memory is saved too: going back then brings it back running. Default: false.
    #[serde(default)]
    pub memory: bool,
    /// Whether a running guest is asked to write out what it holds first. Default: false.
    #[serde(default)]
    pub quiesce: bool,
}

impl Take {
    async fn take(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Given<kind::Snapshot>, Fault> {
        let (name, description) = (self.name, self.description.unwrap_or_default());
        let spec = esxi::SnapshotSpec { name, description, memory: self.memory, quiesce: self.quiesce };
        let row = bound.host.client.create_snapshot(&bound.vm, &spec, &|step| pass.step(step)).await?;
        pass.took(&bound.host, &bound.vm, &row.snapshot);
        give(pass, &bound.host, &bound.vm, row)
    }
}

impl Operation for Take {
    const NAME: &'static str = "vm.snapshot";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = of_vm("snapshot");
    const TOUCHES: &'static [Touch] = TAKES;
    const USAGE: &'static str =
        "local before = vm:snapshot({ name = \"before the update\" })\nprint(before.consistency)";

    type Bound = BoundVm;
    type Output = Given<kind::Snapshot>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "snapshot").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        self.take(bound, pass).await
    }
}

/// Makes sure that a machine has a snapshot of that name: takes one where it has none.
///
/// One that is there is taken as it is. Errors: `esxi.ambiguous` where several have the name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct EnsureSnapshot(Take);

impl Operation for EnsureSnapshot {
    const NAME: &'static str = "vm.ensure_snapshot";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = of_vm("ensure_snapshot");
    const TOUCHES: &'static [Touch] = TAKES;
    const USAGE: &'static str = "vm:ensure_snapshot({ name = \"clean\" })";

    type Bound = BoundVm;
    type Output = Given<kind::Snapshot>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.0.vm, "snapshot").await
    }

    async fn settled(&self, bound: &BoundVm, pass: &Pass<'_>) -> Result<Option<Self::Output>, Fault> {
        let rows = bound.host.client.snapshots(&bound.vm).await?;
        let mut named = rows.into_iter().filter(|row| row.snapshot.name == self.0.name);
        match (named.next(), named.next()) {
            (None, _) => Ok(None),
            (Some(row), None) => give(pass, &bound.host, &bound.vm, row).map(Some),
            (Some(_), Some(_)) => Err(Fault::new(
                "esxi.ambiguous",
                format!("several snapshots of {:?} are named {:?}", bound.vm.name, self.0.name),
            )
            .hint("rename or remove all but one")),
        }
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        self.0.take(bound, pass).await
    }
}

/// Lists a machine's snapshots, parents before children.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

impl Operation for List {
    const NAME: &'static str = "vm.snapshots";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = of_vm("snapshots");
    const TOUCHES: &'static [Touch] = &[touch("vm", "read", Selector::Argument("vm"))];
    const USAGE: &'static str = "for _, snapshot in vm:snapshots() do\n  print(snapshot.name, snapshot.created)\nend";

    type Bound = BoundVm;
    type Output = Vec<Given<kind::Snapshot>>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm_anew(&self.vm, "read").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let rows = bound.host.client.snapshots(&bound.vm).await?;
        rows.into_iter().map(|row| give(pass, &bound.host, &bound.vm, row)).collect()
    }
}

/// Goes back to a snapshot by its name: what the machine's disks took on since is lost for good.
///
/// With its memory the machine runs on where it was, without it is off afterwards. In mode standard only machines that the run made; a
/// snapshot that the run took itself is gone back to by `snapshot:revert`. Errors: `esxi.snapshot_not_found`, `esxi.ambiguous`,
/// `esxi.has_linked_clones`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revert {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// The snapshot's name, or where several have it `id:` and its number. Default: the one that the machine goes on from.
    pub snapshot: Option<String>,
}

async fn revert(bound: BoundSnapshot, pass: &Pass<'_>) -> Result<(), Fault> {
    refuse_with_clones(&bound.host, &bound.vm, pass, "reverted", false).await?;
    Ok(bound.host.client.revert(&bound.snapshot, &|step| pass.step(step)).await?)
}

impl Operation for Revert {
    const NAME: &'static str = "vm.revert";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = of_vm("revert");
    const TOUCHES: &'static [Touch] = REVERTS;
    const USAGE: &'static str = "vm:snapshot({ name = \"clean\" })\nvm:revert({ snapshot = \"clean\" })";

    type Bound = BoundSnapshot;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundSnapshot, Fault> {
        binder.snapshot_of(&self.vm, self.snapshot.as_deref(), "revert").await
    }

    async fn act(self, bound: BoundSnapshot, pass: &Pass<'_>) -> Result<(), Fault> {
        revert(bound, pass).await
    }
}

/// Goes back to this snapshot: what the machine's disks took on since is lost for good.
///
/// In mode standard only to what the run itself took, or on machines that it made. Errors: `esxi.snapshot_not_found`,
/// `esxi.has_linked_clones`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertTo {
    /// The snapshot.
    pub snapshot: Target<kind::Snapshot>,
}

impl Operation for RevertTo {
    const NAME: &'static str = "snapshot.revert";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = of_snapshot("revert");
    const TOUCHES: &'static [Touch] = &[touch("vm", "revert", Selector::Argument("snapshot"))];
    const USAGE: &'static str = "local before = vm:snapshot({ name = \"before\" })\nbefore:revert()";

    type Bound = BoundSnapshot;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundSnapshot, Fault> {
        binder.snapshot(&self.snapshot, "revert").await
    }

    async fn act(self, bound: BoundSnapshot, pass: &Pass<'_>) -> Result<(), Fault> {
        revert(bound, pass).await
    }
}

/// Removes this snapshot: the machine stays as it is, and there is no way back to it.
///
/// What its deltas hold is merged into the disks below. In mode standard only what the run itself took, or of machines that it made.
/// Errors: `esxi.snapshot_not_found`, `esxi.file_locked` where the merge fails (`vm:consolidate` tries it again),
/// `esxi.has_linked_clones`, `esxi.inherited_disks` where it would be merged into a disk that the machine builds on and does not own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The snapshot.
    pub snapshot: Target<kind::Snapshot>,
    /// Whether those that come after it in the tree go too. Default: false; they then come after its parent.
    #[serde(default)]
    pub children: bool,
}

impl Operation for Remove {
    const NAME: &'static str = "snapshot.remove";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = of_snapshot("remove");
    const TOUCHES: &'static [Touch] = &[touch("vm", "remove_snapshot", Selector::Argument("snapshot"))];
    const USAGE: &'static str = "local before = vm:snapshot({ name = \"before\" })\nbefore:remove({ children = true })";

    type Bound = BoundSnapshot;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundSnapshot, Fault> {
        binder.snapshot(&self.snapshot, "remove_snapshot").await
    }

    async fn act(self, bound: BoundSnapshot, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones(&bound.host, &bound.vm, pass, "merged", false).await?;
        Ok(bound
            .host
            .client
            .remove_snapshot(&bound.vm, &bound.snapshot, self.children, &|step| pass.step(step))
            .await?)
    }
}

/// Changes a snapshot's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The snapshot.
    pub snapshot: Target<kind::Snapshot>,
    /// Its new name, 1 to 80 characters.
    pub name: String,
}

impl Operation for Rename {
    const NAME: &'static str = "snapshot.rename";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = of_snapshot("rename");
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "snapshot", Selector::Argument("snapshot"))];
    const USAGE: &'static str =
        "local before = vm:snapshot({ name = \"before\" })\nbefore:rename(\"before the update\")";

    type Bound = BoundSnapshot;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundSnapshot, Fault> {
        binder.snapshot(&self.snapshot, "snapshot").await
    }

    async fn act(self, bound: BoundSnapshot, _: &Pass<'_>) -> Result<(), Fault> {
        Ok(bound.host.client.rename_snapshot(&bound.snapshot, &self.name).await?)
    }
}

/// Removes all snapshots of a machine: it stays as it is, and there is no way back.
///
/// In mode standard only of machines that the run made. Where it has none, nothing is done. Errors: as of `snapshot:remove`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveAll {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

impl Operation for RemoveAll {
    const NAME: &'static str = "vm.remove_snapshots";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = of_vm("remove_snapshots");
    const TOUCHES: &'static [Touch] = REMOVES;
    const USAGE: &'static str = "vm:snapshot({ name = \"before\" })\nvm:remove_snapshots()";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "remove_snapshot").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        Ok(bound.host.client.snapshots(&bound.vm).await?.is_empty().then_some(()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones(&bound.host, &bound.vm, pass, "merged", false).await?;
        Ok(bound.host.client.remove_snapshots(&bound.vm, &|step| pass.step(step)).await?)
    }
}

/// Merges deltas that no snapshot owns, as `vm:info` tells of them; where there are none, nothing is done.
///
/// They stay behind where a merge failed; they slow the machine down and grow without end. Errors: `esxi.file_locked`,
/// `esxi.no_disk_space`, `esxi.has_linked_clones`, `esxi.inherited_disks` for a linked clone that has none of its own: what it builds on is
/// another machine's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consolidate {
    /// The machine.
    pub vm: Target<kind::Vm>,
}

impl Operation for Consolidate {
    const NAME: &'static str = "vm.consolidate";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = of_vm("consolidate");
    const TOUCHES: &'static [Touch] = TAKES;
    const USAGE: &'static str = "if vm:info().consolidation_needed then\n  vm:consolidate()\nend";

    type Bound = BoundVm;
    type Output = ();

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "snapshot").await
    }

    async fn settled(&self, bound: &BoundVm, _: &Pass<'_>) -> Result<Option<()>, Fault> {
        Ok((!bound.host.client.vm_info(&bound.vm).await?.needs_consolidation()).then_some(()))
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<(), Fault> {
        refuse_with_clones(&bound.host, &bound.vm, pass, "merged", false).await?;
        Ok(bound.host.client.consolidate(&bound.vm, &|step| pass.step(step)).await?)
    }
}
