//! From handles and names to snapshots: a snapshot is bound with its machine, and what the machine's verbs allow holds for it.

// Here machines are looked up, and here and in `bind` alone.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;

use super::bind::{Binder, BoundHost, foreign, made_key, vouch};
use super::object::{Connected, Object, Target, kind};
use crate::error::{Fault, nearest};
use crate::esxi;
use crate::esxi::checked::Checked;

/// A snapshot that the tables allow for the operation under way, with its machine.
pub struct BoundSnapshot {
    pub host: Arc<Connected>,
    pub vm: Checked<esxi::Vm>,
    pub snapshot: Checked<esxi::Snapshot>,
}

impl Binder<'_> {
    /// The snapshot behind a handle as it is now, for a declared verb of its machine. What the run took itself is the run's.
    ///
    /// Faults: `esxi.snapshot_not_found`.
    pub async fn snapshot(&self, target: &Target<kind::Snapshot>, verb: &'static str) -> Result<BoundSnapshot, Fault> {
        let Some(Object::Snapshot(host, known, snapshot)) = self.pass.door.objects.get(target.id) else {
            return Err(foreign(target.id));
        };
        let vm = host.client.lookup_vm(&known.moref).await?;
        self.pass.same(&host, &known, &vm, verb)?;
        self.bound_snapshot(host, vm, verb, |own| own.moref == snapshot.moref, &snapshot.name).await
    }

    /// The one snapshot of that name of a machine, or of that number where none is named `id:3`; without a name its current one. For a
    /// declared verb of the machine.
    pub async fn snapshot_of(
        &self,
        target: &Target<kind::Vm>,
        name: Option<&str>,
        verb: &'static str,
    ) -> Result<BoundSnapshot, Fault> {
        let Some(Object::Vm(host, known)) = self.pass.door.objects.get(target.id) else {
            return Err(foreign(target.id));
        };
        let vm = host.client.lookup_vm(&known.moref).await?;
        self.pass.same(&host, &known, &vm, verb)?;
        match name {
            Some(name) => {
                let rows = host.client.snapshots(&vouch(vm.clone())).await?;
                let named = rows.iter().any(|row| row.snapshot.name == name);
                let number = name.strip_prefix("id:").and_then(|number| number.parse::<i32>().ok());
                let number = number.filter(|_| !named);
                let is_it = |own: &esxi::Snapshot| number.map_or(own.name == name, |number| own.id == number);
                self.bound_snapshot(host, vm, verb, is_it, name).await
            }
            None => {
                let rows = host.client.snapshots(&vouch(vm.clone())).await?;
                let current = rows.into_iter().find(|row| row.current).map(|row| row.snapshot);
                let current = current.ok_or_else(|| {
                    Fault::new("esxi.snapshot_not_found", format!("{:?} has no snapshot to go back to", vm.name))
                })?;
                self.bound_snapshot(host, vm, verb, |own| own.moref == current.moref, &current.name).await
            }
        }
    }

    /// The host of a snapshot that is bound, for what else the call is about.
    pub fn host_of_snapshot(&self, bound: &BoundSnapshot) -> BoundHost {
        self.bound_host(bound.host.clone())
    }

    async fn bound_snapshot(
        &self,
        host: Arc<Connected>,
        vm: esxi::Vm,
        verb: &'static str,
        is_it: impl Fn(&esxi::Snapshot) -> bool,
        name: &str,
    ) -> Result<BoundSnapshot, Fault> {
        let vm = vouch(vm);
        let rows = host.client.snapshots(&vm).await?;
        let all: Vec<&esxi::Snapshot> = rows.iter().map(|row| &row.snapshot).filter(|own| is_it(own)).collect();
        let (found, more) = (all.first().copied(), all.get(1));
        // Who may not touch the machine is not told what snapshots it has.
        let made = self.pass.door.journal.has_made(&made_key(&host.name, &vm))
            || found.is_some_and(|own| self.pass.door.journal.has_made(&snapshot_key(&host.name, &vm, own)));
        self.note_host(&host);
        self.check("vm", verb, &vm.name, made)?;
        match (found.cloned(), more) {
            (Some(own), None) => Ok(BoundSnapshot { host, vm, snapshot: vouch(own) }),
            (Some(_), Some(_)) => {
                let ids: Vec<String> = all.iter().map(|own| format!("id:{}", own.id)).collect();
                Err(Fault::new("esxi.ambiguous", format!("several snapshots of {:?} are named {name:?}", vm.name))
                    .hint(format!(
                        "name the one that is meant by its number: {} (ceso vm snapshot list NAME tells more of each)",
                        ids.join(", ")
                    )))
            }
            (None, _) => {
                let near = nearest(name, rows.iter().map(|row| row.snapshot.name.as_str()));
                let fault = Fault::new(
                    "esxi.snapshot_not_found",
                    format!("there is no snapshot {name:?} of {:?} on {}", vm.name, host.name),
                );
                Err(match near.first() {
                    Some(near) => fault.hint(format!("did you mean {near:?}?")),
                    None => fault.hint("vm:snapshots() shows the tree (ceso vm snapshot list NAME)"),
                })
            }
        }
    }
}

/// The key of a snapshot that the run took.
pub(super) fn snapshot_key(host: &str, vm: &esxi::Vm, snapshot: &esxi::Snapshot) -> String {
    format!("{} {}", made_key(host, vm), snapshot.moref)
}
