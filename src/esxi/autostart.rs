//! The order in which a host starts its machines, and so the one in which they are shut down.
//!
//! Specification: vSphere Web Services API, `HostAutoStartManager`, `AutoStartPowerInfo`.

use super::checked::Checked;
use super::error::Error;
use super::host::Host;
use super::moref::MoRef;
use super::object::HostObject;
use super::property::Query;
use super::vm_list::{Detail, PowerState, text};

/// A running machine, where it stands in the order of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownRow {
    pub name: String,
    /// Its place in the order of starting; none where the host starts it in no order, or not at all.
    pub start_order: Option<i32>,
    /// What the host would do with it by itself: `guestShutdown`, `powerOff`, `suspend`, `none`, `systemDefault`.
    pub action: Option<String>,
}

/// What the host's own list says of a machine.
struct Entry {
    vm: MoRef,
    order: i32,
    action: Option<String>,
}

impl Host {
    /// The running machines, the first to be shut down first: those without a place, then the reverse of the order of starting.
    pub async fn shutdown_order(&self, host: &Checked<HostObject>) -> Result<Vec<ShutdownRow>, Error> {
        const PATH: &str = "configManager.autoStartManager";
        let rows = self.list_vms(host, Detail::Lean).await?;
        let entries = match self.system(&[PATH]).await?.reference(PATH) {
            None => Vec::new(),
            Some(manager) => {
                let query = Query::object(&manager, "HostAutoStartManager", &["config.powerInfo"]);
                let objects = self.link.retrieve(&query).await?;
                let list = objects.iter().find_map(|object| object.get("config.powerInfo"));
                let list = list.map(|list| list.children.as_slice()).unwrap_or_default();
                list.iter()
                    .filter_map(|info| {
                        Some(Entry {
                            vm: info.child("key").and_then(MoRef::read)?,
                            order: text(info, "startOrder").and_then(|order| order.parse().ok()).unwrap_or(-1),
                            action: text(info, "stopAction"),
                        })
                    })
                    .collect()
            }
        };
        let running = rows.into_iter().filter(|row| row.power == PowerState::On).map(|row| (row.vm.moref, row.vm.name));
        Ok(ordered(running, &entries))
    }
}

fn ordered(running: impl Iterator<Item = (MoRef, String)>, entries: &[Entry]) -> Vec<ShutdownRow> {
    let mut running: Vec<ShutdownRow> = running
        .map(|(vm, name)| {
            let entry = entries.iter().find(|entry| entry.vm == vm);
            ShutdownRow {
                name,
                start_order: entry.map(|entry| entry.order).filter(|order| *order > 0),
                action: entry.and_then(|entry| entry.action.clone()),
            }
        })
        .collect();
    running.sort_by(|a, b| {
        let place = |row: &ShutdownRow| row.start_order.map_or((0, 0), |order| (1, -i64::from(order)));
        place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name))
    });
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_first_is_shut_down_last() {
        let entry = |name: &str, order: i32| Entry { vm: MoRef::new("VirtualMachine", name), order, action: None };
        let running =
            ["database", "web", "free", "any"].map(|name| (MoRef::new("VirtualMachine", name), name.to_owned()));
        let entries = [entry("database", 1), entry("web", 2), entry("any", -1), entry("gone", 3)];
        let names: Vec<String> = ordered(running.into_iter(), &entries).into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["any", "free", "web", "database"]);
    }
}
