//! Changed block tracking: switched on and off, the `changeId` of each disk of a snapshot, and what changed since another.
//!
//! What a host says is held against the disk before it is believed: areas in order, within the disk, and the whole disk answered for. A
//! host that lies within these bounds cannot be seen through from here. Where it refuses, the disk has to be read whole, and that is said.
//! Specification: vSphere Web Services API, `VirtualMachine.QueryChangedDiskAreas`, `VirtualMachineConfigSpec.changeTrackingEnabled`.

use crate::xml::Element;

use super::checked::Checked;
use super::error::Error;
use super::hardware::{Disk, Hardware};
use super::host::{Host, Progress};
use super::object::Vm;
use super::property::Query;
use super::snapshot::Snapshot;
use super::soap::{Call, Method};
use super::task::Task;

/// The most areas of one disk that are taken: beyond that reading all of it is no slower.
const MOST: usize = 2_000_000;
/// The id that asks for what is allocated at all.
pub const ALLOCATED: &str = "*";

/// A disk as a snapshot has frozen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenDisk {
    pub disk: Disk,
    /// What a later snapshot is asked by; `None` where changes are not tracked.
    pub change_id: Option<String>,
}

/// What of a disk has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Start and length in bytes, in order, none empty, none touching.
    pub areas: Vec<(u64, u64)>,
    /// Why all of the disk has to be read, where the host could not tell what changed.
    pub full: Option<String>,
}

impl Host {
    /// Switches tracking on or off. A machine that runs is tracked from its next snapshot on. Nothing is done where it is so already;
    /// returns whether anything was.
    pub async fn track_changes(&self, vm: &Checked<Vm>, on: bool, progress: Progress<'_>) -> Result<bool, Error> {
        let tracked = async {
            let query = Query::object(
                &vm.moref,
                "VirtualMachine",
                &["config.changeTrackingEnabled", "capability.changeTrackingSupported"],
            );
            let objects = self.link.retrieve(&query).await?;
            let flag = |path: &str| objects.iter().find_map(|object| object.flag(path));
            if flag("config.changeTrackingEnabled") == Some(on) {
                return Ok(false);
            }
            if on && flag("capability.changeTrackingSupported") == Some(false) {
                return Err(Error::Invalid {
                    reason: format!("the hardware of {:?} is too old to track changes", vm.name),
                    hint: Some("upgrade its hardware version to 7 or newer".to_owned()),
                });
            }
            let spec = Element::new("spec").with(Element::leaf("changeTrackingEnabled", on.to_string()));
            let call = Call::new(&vm.moref, Method::ReconfigVm).with(spec);
            Task::start(self, "track changes", &call).await?.done(progress).await.map(|_| true)
        };
        tracked.await.map_err(|error| error.doing(format!("track the changes of {:?}", vm.name)))
    }

    /// The disks of a snapshot, with their `changeId`s: the ones to keep, together with what is read of that snapshot.
    pub async fn frozen_disks(&self, snapshot: &Checked<Snapshot>) -> Result<Vec<FrozenDisk>, Error> {
        let query = Query::object(&snapshot.moref, "VirtualMachineSnapshot", &["config.hardware.device"]);
        let read = self.link.retrieve(&query).await;
        let objects = read.map_err(|error| error.doing(format!("read the disks of {:?}", snapshot.name)))?;
        let Some(devices) = objects.iter().find_map(|object| object.get("config.hardware.device")) else {
            return Ok(Vec::new());
        };
        let id = |disk: &Disk| {
            let key = disk.key.to_string();
            let own = devices.children.iter().find(|device| device.text_at("key").map(str::trim) == Some(&key))?;
            own.text_at("backing.changeId").map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned)
        };
        let disks = Hardware::read(devices).disks.into_iter();
        Ok(disks.map(|disk| FrozenDisk { change_id: id(&disk), disk }).collect())
    }

    /// The hardware of the machine as a snapshot has it, with the names of the networks that its cards were on.
    pub async fn frozen_hardware(&self, snapshot: &Checked<Snapshot>) -> Result<Hardware, Error> {
        let query = Query::object(&snapshot.moref, "VirtualMachineSnapshot", &["config.hardware.device"]);
        let read = async {
            let objects = self.link.retrieve(&query).await?;
            let devices = objects.iter().find_map(|object| object.get("config.hardware.device"));
            let mut hardware = devices.map(Hardware::read).unwrap_or_default();
            self.name_networks(&mut hardware).await?;
            Ok(hardware)
        };
        read.await.map_err(|error: Error| error.doing(format!("read the hardware of {:?}", snapshot.name)))
    }

    /// What changed of a snapshot's disk since a `changeId` of an earlier one; [`ALLOCATED`] asks for what was ever written.
    ///
    /// Where the host cannot tell (the id is of another life of the disk, tracking is off, the disk is thick and all that is allocated was
    /// asked for), all of the disk is the answer, and why.
    pub async fn changed_areas(
        &self,
        vm: &Checked<Vm>,
        snapshot: &Checked<Snapshot>,
        frozen: &FrozenDisk,
        since: &str,
    ) -> Result<Changed, Error> {
        let capacity = frozen.disk.size.0;
        let full = |why: String| Changed { areas: whole(capacity), full: Some(why) };
        if self.abilities().lies_of_changes() {
            return Ok(full("a probe found that this host does not tell rightly what changed".to_owned()));
        }
        self.asked_areas(vm, snapshot, frozen, since).await
    }

    /// The same as the host tells it, whatever is known of the host: for the trial itself.
    pub async fn asked_areas(
        &self,
        vm: &Checked<Vm>,
        snapshot: &Checked<Snapshot>,
        frozen: &FrozenDisk,
        since: &str,
    ) -> Result<Changed, Error> {
        let capacity = frozen.disk.size.0;
        let full = |why: String| Changed { areas: whole(capacity), full: Some(why) };
        let lives = |id: &str| id.rsplit_once('/').map(|(life, _)| life.to_owned());
        match &frozen.change_id {
            None => return Ok(full("changes of this disk are not tracked".to_owned())),
            Some(own) if since != ALLOCATED && lives(own) != lives(since) => {
                return Ok(full("the change id is of another life of this disk".to_owned()));
            }
            Some(_) => {}
        }
        let mut areas = Vec::new();
        let mut start = 0;
        while start < capacity {
            let call = Call::new(&vm.moref, Method::QueryChangedDiskAreas)
                .with_ref("snapshot", &snapshot.moref)
                .with_text("deviceKey", frozen.disk.key.to_string())
                .with_text("startOffset", start.to_string())
                .with_text("changeId", since);
            let answer = match self.link.call(&call).await {
                Ok(answer) => answer,
                Err(Error::Vim { fault, .. }) if !fault.is_passing() => {
                    return Ok(full(format!("the host does not tell what changed: {fault}")));
                }
                Err(error) => return Err(error.doing(format!("ask what changed of {}", frozen.disk.label))),
            };
            let info = answer.child("returnval").cloned().unwrap_or_default();
            match take(&info, start, capacity, &mut areas) {
                Ok(end) => start = end,
                Err(why) => return Ok(full(format!("the host's account of what changed cannot be used: {why}"))),
            }
        }
        Ok(Changed { areas, full: None })
    }
}

/// Takes the areas of one answer, which begins at `start`; returns where the next one begins.
fn take(info: &Element, start: u64, capacity: u64, areas: &mut Vec<(u64, u64)>) -> Result<u64, String> {
    let number = |element: &Element, name: &str| {
        let text = element.text_at(name).map(str::trim).unwrap_or_default();
        text.parse::<u64>().map_err(|_| format!("{name} is {:?}", text.chars().take(40).collect::<String>()))
    };
    let (from, length) = (number(info, "startOffset")?, number(info, "length")?);
    let end = from.checked_add(length).ok_or("it is longer than any disk")?;
    if from > start || end <= start {
        return Err(format!("asked from {start} on, it answers for {from} to {end}"));
    }
    let end = end.min(capacity);
    for area in info.all("changedArea") {
        let (first, length) = (number(area, "start")?, number(area, "length")?);
        let behind = first.checked_add(length).filter(|behind| *behind <= capacity);
        let behind = behind.ok_or_else(|| format!("an area at {first} ends behind the disk"))?;
        if length == 0 {
            continue;
        }
        let many = areas.len() >= MOST;
        match areas.last_mut() {
            Some((last, count)) if *last + *count > first && *last + *count > start => {
                return Err(format!("an area at {first} lies before one that was told already"));
            }
            Some((last, count)) if *last + *count >= first => *count = behind.saturating_sub(*last).max(*count),
            _ if many => return Err("it is in too many pieces".to_owned()),
            _ => areas.push((first, length)),
        }
    }
    Ok(end)
}

fn whole(capacity: u64) -> Vec<(u64, u64)> {
    if capacity == 0 { Vec::new() } else { vec![(0, capacity)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(start: u64, length: u64, areas: &[(i64, i64)]) -> Element {
        let area = |(start, length): &(i64, i64)| {
            Element::new("changedArea")
                .with(Element::leaf("start", start.to_string()))
                .with(Element::leaf("length", length.to_string()))
        };
        Element::new("returnval")
            .with(Element::leaf("startOffset", start.to_string()))
            .with(Element::leaf("length", length.to_string()))
            .with_all(areas.iter().map(area))
    }

    #[test]
    fn answers_are_put_together_and_what_cannot_be_is_not_believed() {
        let mut areas = Vec::new();
        assert_eq!(take(&info(0, 300, &[(0, 100), (100, 50), (200, 10)]), 0, 1000, &mut areas).unwrap(), 300);
        assert_eq!(take(&info(300, 5000, &[(300, 1), (900, 100)]), 300, 1000, &mut areas).unwrap(), 1000);
        assert_eq!(areas, [(0, 150), (200, 10), (300, 1), (900, 100)]);
        for wrong in [
            info(0, 0, &[]),
            info(10, 10, &[]),
            info(0, 100, &[(950, 100)]),
            info(0, 100, &[(50, 10), (10, 5)]),
            info(0, 100, &[(-1, 10)]),
            info(0, u64::MAX, &[(0, i64::MAX)]),
            info(1, u64::MAX, &[]),
            Element::new("returnval"),
        ] {
            assert!(take(&wrong, 0, 1000, &mut Vec::new()).is_err(), "{wrong:?}");
        }
    }
}
