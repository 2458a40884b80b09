//! The autostart manager: which machines the host starts by itself when it comes up, in which order, and what it does with them when it
//! goes down.
//!
//! Delays are kept and told, and not waited for. Specification: vSphere Web Services API, `HostAutoStartManager`, `AutoStartPowerInfo`,
//! `AutoStartDefaults`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::HOST;
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::server::Host;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::{Power, place, power};
use crate::sim::world::World;

pub const MANAGER: Ref = Ref::fixed("HostAutoStartManager", "ha-autostart-mgr");

const STARTS: &[&str] = &["none", "powerOn"];
const STOPS: &[&str] = &["none", "systemDefault", "powerOff", "suspend", "guestShutdown"];

/// What the host keeps of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autostart {
    enabled: bool,
    start_delay: i32,
    stop_delay: i32,
    heartbeat: bool,
    stop: String,
    machines: Vec<Entry>,
}

/// One machine that takes part.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    vm: u64,
    /// From 1, each once; -1 for any time.
    order: i32,
    start_delay: i32,
    heartbeat: String,
    start: String,
    stop_delay: i32,
    stop: String,
}

impl Default for Autostart {
    fn default() -> Self {
        let stop = "powerOff".to_owned();
        Self { enabled: false, start_delay: 120, stop_delay: 120, heartbeat: false, stop, machines: Vec::new() }
    }
}

impl Autostart {
    /// Forgets a machine that is gone; returns whether it took part.
    pub fn forget(&mut self, vm: u64) -> bool {
        let before = self.machines.len();
        self.machines.retain(|entry| entry.vm != vm);
        before != self.machines.len()
    }

    /// The machines in the order in which they are started: those with a place, then the others.
    fn in_order(&self) -> Vec<Entry> {
        let mut all = self.machines.clone();
        all.sort_by_key(|entry| if entry.order > 0 { (0, entry.order) } else { (1, 0) });
        all
    }

    fn action(&self, entry: &Entry) -> &'static str {
        let word = if is(&entry.stop, "systemDefault") { &self.stop } else { &entry.stop };
        STOPS.iter().find(|own| is(word, own)).copied().unwrap_or("none")
    }
}

/// Clients write the words with capitals and without.
fn is(word: &str, own: &str) -> bool {
    word.eq_ignore_ascii_case(own)
}

/// The configuration, as the manager and the host tell it.
pub fn config(world: &World) -> Data {
    let own = &world.file.autostart;
    let defaults = Data::new("AutoStartDefaults")
        .with("enabled", own.enabled)
        .with("startDelay", own.start_delay)
        .with("stopDelay", own.stop_delay)
        .with("waitForHeartbeat", own.heartbeat)
        .with("stopAction", &own.stop);
    let machine = |entry: &Entry| {
        Data::new("AutoStartPowerInfo")
            .with("key", Ref::new("VirtualMachine", entry.vm.to_string()))
            .with("startOrder", entry.order)
            .with("startDelay", entry.start_delay)
            .with("waitForHeartbeat", &entry.heartbeat)
            .with("startAction", &entry.start)
            .with("stopDelay", entry.stop_delay)
            .with("stopAction", &entry.stop)
    };
    let machines: Vec<Data> = own.machines.iter().map(machine).collect();
    Data::new("HostAutoStartManagerConfig").with("defaults", defaults).with("powerInfo", Value::from(machines))
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "ReconfigureAutostart" => {
            let mut changed = world.file.autostart.clone();
            reconfigure(world, &mut changed, call.data("spec")?)?;
            world.file.autostart = changed;
            world.keep_host()?;
            world.touch(&MANAGER);
            world.touch(&HOST);
        }
        "AutoStartPowerOn" => start(&call.host, world),
        "AutoStartPowerOff" => stop(world)?,
        other => return Err(VimFault::not_implemented(other)),
    }
    Ok(Reply::Nothing)
}

fn wrong(field: &str, why: &str) -> VimFault {
    VimFault::invalid_argument(format!("spec.{field}"), why)
}

fn reconfigure(world: &World, own: &mut Autostart, spec: &Data) -> Result<(), VimFault> {
    if let Some(defaults) = spec.data("defaults") {
        for (field, place) in [("startDelay", &mut own.start_delay), ("stopDelay", &mut own.stop_delay)] {
            if let Some(delay) = defaults.int(field) {
                *place = Some(delay).filter(|delay| *delay >= 0).ok_or_else(|| wrong(field, "it is below 0"))?;
            }
        }
        own.enabled = defaults.boolean("enabled").unwrap_or(own.enabled);
        own.heartbeat = defaults.boolean("waitForHeartbeat").unwrap_or(own.heartbeat);
        if let Some(action) = defaults.text("stopAction").filter(|action| !action.is_empty()) {
            // The system's default is no default of the system.
            if is(action, "systemDefault") || !STOPS.iter().any(|known| is(action, known)) {
                return Err(wrong("defaults.stopAction", "it is none, powerOff, suspend or guestShutdown"));
            }
            action.clone_into(&mut own.stop);
        }
    }
    for info in spec.datas("powerInfo") {
        let entry = entry(world, info)?;
        own.machines.retain(|other| other.vm != entry.vm);
        if is(&entry.start, "none") && is(&entry.stop, "none") {
            continue;
        }
        let placed = own.machines.iter().filter(|other| other.order > 0).count();
        if usize::try_from(entry.order).is_ok_and(|order| order > placed + 1) {
            return Err(wrong("powerInfo.startOrder", "there are not so many machines in the sequence"));
        }
        push(&mut own.machines, entry.order);
        own.machines.push(entry);
    }
    Ok(())
}

/// Frees a place: whoever has it goes one further, and pushes the next.
fn push(machines: &mut [Entry], place: i32) {
    if place < 1 || !machines.iter().any(|other| other.order == place) {
        return;
    }
    push(machines, place + 1);
    machines.iter_mut().filter(|other| other.order == place).for_each(|other| other.order = place + 1);
}

fn entry(world: &World, info: &Data) -> Result<Entry, VimFault> {
    let vm = info.reference("key").ok_or_else(|| wrong("powerInfo.key", "it names a machine"))?;
    let vm = world.vm(vm)?.id;
    let word = |field: &'static str, known: &[&str]| {
        let text = info.text(field).unwrap_or_default();
        match known.iter().any(|own| is(text, own)) {
            true => Ok(text.to_owned()),
            false => Err(wrong(&format!("powerInfo.{field}"), &format!("it is one of {}", known.join(", ")))),
        }
    };
    let delay = |field: &'static str| {
        let delay = info.int(field).filter(|delay| *delay >= -1);
        delay.ok_or_else(|| wrong(&format!("powerInfo.{field}"), "it is -1, or a number of seconds"))
    };
    let order = info.int("startOrder").unwrap_or(-1);
    let start = word("startAction", STARTS)?;
    if order == 0 || order < -1 || (order > 0 && is(&start, "none")) {
        return Err(wrong("powerInfo.startOrder", "it is -1 or positive, and -1 where the machine is not started"));
    }
    Ok(Entry {
        vm,
        order,
        start_delay: delay("startDelay")?,
        heartbeat: word("waitForHeartbeat", &["yes", "no", "systemDefault"])?,
        start,
        stop_delay: delay("stopDelay")?,
        stop: word("stopAction", STOPS)?,
    })
}

/// Starts what is to be started, in its order. A machine that cannot be is left, and holds up no other.
fn start(host: &Arc<Host>, world: &mut World) {
    if !world.file.autostart.enabled {
        return;
    }
    for entry in world.file.autostart.in_order().into_iter().filter(|entry| is(&entry.start, "powerOn")) {
        let object = Ref::new("VirtualMachine", entry.vm.to_string());
        let waits = |world: &World| match place::altered(world, &object) {
            Ok(None) => world.vm(&object).is_ok_and(|vm| vm.power != Power::On),
            _ => false,
        };
        if waits(world)
            && let Err(fault) = place::settle(world, &object, None).and_then(|()| power::on(host, world, &object))
        {
            tracing::debug!(vm = entry.vm, message = %fault.message, "a machine was not started by itself");
        }
    }
}

/// Does with the machines what is to be done when the host goes down: the last started first.
pub fn stop(world: &mut World) -> Result<(), VimFault> {
    if !world.file.autostart.enabled {
        return Ok(());
    }
    for entry in world.file.autostart.in_order().into_iter().rev() {
        let action = world.file.autostart.action(&entry);
        let Some(mut vm) = world.vms.get(&entry.vm).filter(|vm| vm.power == Power::On).cloned() else { continue };
        match action {
            "powerOff" | "guestShutdown" => {
                vm.power = Power::Off;
                vm.powered_on = None;
            }
            "suspend" => {
                vm.power = Power::Suspended;
                vm.suspended = Some(time::OffsetDateTime::now_utc());
            }
            _ => continue,
        }
        world.put(vm)?;
    }
    Ok(())
}

/// A host that was shut down, and is there again, starts its machines.
pub fn booted(host: &Arc<Host>) {
    let mut world = host.world();
    let world = &mut *world;
    if !std::mem::take(&mut world.file.down) {
        return;
    }
    super::pci::booted(world);
    if let Err(fault) = world.keep_host() {
        tracing::warn!(message = %fault.message, "the host's own file was not written");
    }
    start(host, world);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_place_pushes_those_behind_it() {
        let entry = |vm, order| Entry {
            vm,
            order,
            start_delay: -1,
            heartbeat: "systemDefault".to_owned(),
            start: "powerOn".to_owned(),
            stop_delay: -1,
            stop: "systemDefault".to_owned(),
        };
        let mut machines = vec![entry(1, 2), entry(2, -1), entry(3, 1), entry(4, 4)];
        push(&mut machines, 1);
        assert_eq!(machines.iter().map(|entry| entry.order).collect::<Vec<_>>(), [3, -1, 2, 4]);
        let own = Autostart { machines, ..Autostart::default() };
        assert_eq!(own.in_order().iter().map(|entry| entry.vm).collect::<Vec<_>>(), [3, 1, 4, 2]);
        assert_eq!(own.action(&entry(1, 1)), "powerOff");
        assert_eq!(own.action(&Entry { stop: "Suspend".to_owned(), ..entry(1, 1) }), "suspend");
    }
}
