//! Operations on a machine's changed block tracking: switched on and off, and what changed between two snapshots.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::Pass;
use crate::door::bind::{Binder, BoundVm};
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::snapshots::BoundSnapshot;
use crate::error::Fault;
use crate::units::Bytes;

/// The most areas that one answer tells: a script's memory is small.
const TOLD: usize = 20_000;

/// Makes sure that the host notes which blocks of a machine's disks change, or notes it no longer.
///
/// A machine that runs is tracked from its next snapshot on. Switched off and on again, it begins anew: change ids from before are of no
/// use then. Errors: `esxi.invalid_argument` where its hardware is too old.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackChanges {
    /// The machine.
    pub vm: Target<kind::Vm>,
    /// Whether changes are to be tracked.
    pub on: bool,
}

impl Operation for TrackChanges {
    const NAME: &'static str = "vm.track_changes";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = Place::Method { kind: "vm", name: "track_changes" };
    const POSITIONAL: &'static [&'static str] = &["on"];
    const TOUCHES: &'static [Touch] = &[touch("vm", "configure", Selector::Argument("vm"))];
    const USAGE: &'static str = "vm:track_changes(true)";

    type Bound = BoundVm;
    type Output = bool;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundVm, Fault> {
        binder.vm(&self.vm, "configure").await
    }

    async fn act(self, bound: BoundVm, pass: &Pass<'_>) -> Result<bool, Fault> {
        Ok(bound.host.client.track_changes(&bound.vm, self.on, &|step| pass.step(step)).await?)
    }
}

/// Tells which areas of a snapshot's disks changed since earlier change ids, and the change ids to ask by the next time.
///
/// A change id is kept together with the backup that was read from the very snapshot; that snapshot is removed before the next one is
/// taken. Where the host cannot tell, `full` says why, and all of the disk has to be read. What a host tells wrongly within the disk's
/// bounds cannot be seen: compare from time to time with a full read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedAreas {
    /// The snapshot whose disks are read.
    pub snapshot: Target<kind::Snapshot>,
    /// The disk, by its key. Default: the machine's first.
    pub disk: Option<i32>,
    /// The change id that an earlier call gave. Default: `*`, which asks for what was ever written; only a thin disk can tell.
    pub since: Option<String>,
    /// Areas before this byte are left out: how to go on after an answer with `more`. Default: 0.
    pub from: Option<Bytes>,
}

/// What changed of a disk.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DiskChanges {
    /// The disk's key.
    pub disk: i32,
    /// Its label, such as `Hard disk 1`.
    pub label: String,
    /// The size that a guest sees.
    pub size: Bytes,
    /// What to ask by the next time; nil where changes are not tracked.
    pub change_id: Option<String>,
    /// Why all of the disk has to be read; nil where the host could tell.
    pub full: Option<String>,
    /// What changed, in bytes, in all.
    pub changed: Bytes,
    /// The areas in their order; at most 20,000.
    pub areas: Vec<Area>,
    /// Whether there are further areas behind the last.
    pub more: bool,
}

/// A piece of a disk.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Area {
    /// Where it begins, in bytes.
    pub start: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

impl Operation for ChangedAreas {
    const NAME: &'static str = "vm.changed_areas";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Method { kind: "snapshot", name: "changed_areas" };
    const TOUCHES: &'static [Touch] = &[touch("vm", "copy_from", Selector::Argument("snapshot"))];
    const USAGE: &'static str = "vm:track_changes(true)\nlocal now = vm:snapshot({ name = \"read\" })\nlocal changes = now:changed_areas({})\nprint(changes.change_id, changes.changed, #changes.areas, changes.full)";

    type Bound = BoundSnapshot;
    type Output = DiskChanges;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundSnapshot, Fault> {
        binder.snapshot(&self.snapshot, "copy_from").await
    }

    async fn act(self, bound: BoundSnapshot, _: &Pass<'_>) -> Result<DiskChanges, Fault> {
        let client = &bound.host.client;
        let disks = client.frozen_disks(&bound.snapshot).await?;
        let found = disks.iter().find(|own| self.disk.is_none_or(|key| own.disk.key == key));
        let frozen = found.ok_or_else(|| {
            let keys: Vec<String> = disks.iter().map(|own| own.disk.key.to_string()).collect();
            Fault::new("esxi.disk_not_found", format!("the snapshot {:?} has no such disk", bound.snapshot.name))
                .hint(format!("its disks have the keys {}", keys.join(", ")))
        })?;
        let since = self.since.as_deref().unwrap_or("*");
        let changed = client.changed_areas(&bound.vm, &bound.snapshot, frozen, since).await?;
        let from = self.from.map_or(0, |from| from.0);
        let total: u64 = changed.areas.iter().map(|(_, length)| length).sum();
        let mut left = changed.areas.into_iter().filter(|(start, _)| *start >= from);
        let areas: Vec<Area> = left.by_ref().take(TOLD).map(|(start, length)| Area { start, length }).collect();
        Ok(DiskChanges {
            disk: frozen.disk.key,
            label: frozen.disk.label.clone(),
            size: frozen.disk.size,
            change_id: frozen.change_id.clone(),
            full: changed.full,
            changed: Bytes(total),
            areas,
            more: left.next().is_some(),
        })
    }
}
