//! Resource pools below the host's root pool: made, changed, destroyed. They are kept; machines lie in the root pool alone.
//!
//! Specification: vSphere Web Services API, `ResourcePool`.

use serde::{Deserialize, Serialize};

use super::{COMPUTE_RESOURCE, RESOURCE_POOL, host};
use crate::sim::call::{Answer, Call, Reply};
use crate::sim::fault::VimFault;
use crate::sim::task;
use crate::sim::value::{Data, Ref, Value};
use crate::sim::vm::Vm;
use crate::sim::world::World;

/// The most pools that there may be.
const MOST: usize = 1000;
/// How deep they may lie.
const DEEPEST: usize = 8;

/// How much of something a pool gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    reservation: i64,
    expandable: bool,
    limit: i64,
    level: String,
    shares: i32,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    number: u64,
    /// The number of the pool that it lies in; none: the root pool.
    parent: Option<u64>,
    name: String,
    cpu: Share,
    memory: Share,
}

impl Default for Share {
    fn default() -> Self {
        Self { reservation: 0, expandable: true, limit: -1, level: "normal".to_owned(), shares: 4000 }
    }
}

impl Share {
    fn render(&self) -> Data {
        Data::new("ResourceAllocationInfo")
            .with("reservation", self.reservation)
            .with("expandableReservation", self.expandable)
            .with("limit", self.limit)
            .with("shares", Data::new("SharesInfo").with("shares", self.shares).with("level", self.level.clone()))
    }

    /// Takes over what a client's allocation says.
    fn take(&mut self, asked: Option<&Data>) -> Result<(), VimFault> {
        let Some(asked) = asked else { return Ok(()) };
        let wrong = |why: &str| VimFault::invalid_argument("spec.allocation", why);
        if let Some(reservation) = asked.number("reservation") {
            self.reservation = reservation;
        }
        self.expandable = asked.boolean("expandableReservation").unwrap_or(self.expandable);
        self.limit = asked.number("limit").unwrap_or(self.limit);
        if self.reservation < 0 || self.limit < -1 || (self.limit >= 0 && self.limit < self.reservation) {
            return Err(wrong("a reservation is from 0 to the limit, and a limit from -1"));
        }
        if let Some(shares) = asked.data("shares") {
            shares.text("level").unwrap_or("normal").clone_into(&mut self.level);
            self.shares = match self.level.as_str() {
                "low" => 2000,
                "high" => 8000,
                "custom" => shares
                    .int("shares")
                    .filter(|shares| *shares > 0)
                    .ok_or_else(|| wrong("custom shares are above 0"))?,
                _ => 4000,
            };
        }
        Ok(())
    }
}

fn reference(number: u64) -> Ref {
    Ref::new("ResourcePool", format!("pool{number}"))
}

fn number(object: &Ref) -> Option<u64> {
    object.id.strip_prefix("pool")?.parse().ok()
}

/// The type of an object of that id, where it is a pool.
pub fn kind(world: &World, id: &str) -> Option<&'static str> {
    let number = id.strip_prefix("pool")?.parse::<u64>().ok()?;
    (reference(number).id == id && find(world, number).is_some()).then_some("ResourcePool")
}

fn find(world: &World, number: u64) -> Option<&Pool> {
    world.file.pools.iter().find(|pool| pool.number == number)
}

fn own<'a>(world: &'a World, object: &Ref) -> Option<&'a Pool> {
    find(world, number(object)?)
}

pub fn name(world: &World, object: &Ref) -> Option<String> {
    own(world, object).map(|pool| pool.name.clone())
}

/// What a pool lies in.
pub fn parent(world: &World, object: &Ref) -> Option<Ref> {
    own(world, object).map(|pool| pool.parent.map_or(RESOURCE_POOL, reference))
}

/// The pools in a pool.
pub fn children(world: &World, object: &Ref) -> Vec<Ref> {
    let above = number(object);
    world.file.pools.iter().filter(|pool| pool.parent == above).map(|pool| reference(pool.number)).collect()
}

pub fn property(world: &World, object: &Ref, property: &str) -> Option<Value> {
    let (cpu, memory) = own(world, object).map(|pool| (pool.cpu.clone(), pool.memory.clone())).unwrap_or_default();
    let usage = |most: i64, share: &Share| {
        Data::new("ResourcePoolResourceUsage")
            .with("reservationUsed", share.reservation)
            .with("reservationUsedForVm", 0i64)
            .with("unreservedForPool", most - share.reservation.min(most))
            .with("unreservedForVm", most - share.reservation.min(most))
            .with("overallUsage", 0i64)
            .with("maxUsage", most)
    };
    let runtime = || {
        Data::new("ResourcePoolRuntimeInfo")
            .with("memory", usage(host::MEMORY, &memory))
            .with("cpu", usage(i64::from(host::CORES * host::MHZ), &cpu))
            .with("overallStatus", "green")
    };
    let config = || {
        Data::new("ResourceConfigSpec")
            .with("entity", object.clone())
            .with("cpuAllocation", cpu.render())
            .with("memoryAllocation", memory.render())
    };
    Some(match property {
        "owner" => COMPUTE_RESOURCE.into(),
        "vm" if *object == RESOURCE_POOL => world.vms.values().map(Vm::reference).collect::<Vec<_>>().into(),
        "vm" => Value::List(Vec::new()),
        "resourcePool" => children(world, object).into(),
        "runtime" => runtime().into(),
        "config" => config().into(),
        "summary" => Data::new("ResourcePoolSummary")
            .with("name", super::name(world, object).unwrap_or_default())
            .with("config", config())
            .with("runtime", runtime())
            .into(),
        _ => return None,
    })
}

pub fn call(world: &mut World, call: &Call) -> Answer {
    match call.method {
        "CreateResourcePool" => create(world, call),
        "UpdateConfig" => update(world, call),
        "DestroyChildren" => {
            for child in children(world, &call.this) {
                remove(world, &child)?;
            }
            changed(world)?;
            Ok(Reply::Nothing)
        }
        "Destroy_Task" if call.this != RESOURCE_POOL => {
            let object = call.this.clone();
            task::change(world, call, &call.this.clone(), move |_, world| {
                remove(world, &object)?;
                changed(world).map(|()| None)
            })
        }
        "Rename_Task" if call.this != RESOURCE_POOL => {
            let (object, name) = (call.this.clone(), call.text("newName")?.to_owned());
            task::change(world, call, &call.this.clone(), move |_, world| {
                rename(world, &object, &name)?;
                changed(world).map(|()| None)
            })
        }
        other => Err(VimFault::not_supported(format!("{other} on a standalone host"))),
    }
}

fn check_name(world: &World, above: Option<u64>, name: &str) -> Result<(), VimFault> {
    if name.trim().is_empty() || name.chars().count() > 80 || name.chars().any(char::is_control) {
        return Err(VimFault::new("InvalidName", "A pool's name has 1 to 80 characters.").with("name", name.to_owned()));
    }
    match world.file.pools.iter().find(|pool| pool.parent == above && pool.name == name) {
        Some(pool) => Err(VimFault::duplicate_name(name, &reference(pool.number))),
        None => Ok(()),
    }
}

fn create(world: &mut World, call: &Call) -> Answer {
    let above = number(&call.this);
    let name = call.text("name")?.to_owned();
    check_name(world, above, &name)?;
    let depth = std::iter::successors(above, |number| find(world, *number).and_then(|pool| pool.parent)).count();
    if depth >= DEEPEST || world.file.pools.len() >= MOST {
        return Err(VimFault::new("InsufficientResourcesFault", "There may be no further pool here."));
    }
    let spec = call.data("spec")?;
    let (mut cpu, mut memory) = (Share::default(), Share::default());
    cpu.take(spec.data("cpuAllocation"))?;
    memory.take(spec.data("memoryAllocation"))?;
    let number = world.file.pools.iter().map(|pool| pool.number).max().unwrap_or(0) + 1;
    world.file.pools.push(Pool { number, parent: above, name, cpu, memory });
    changed(world)?;
    Ok(reference(number).into())
}

fn update(world: &mut World, call: &Call) -> Answer {
    if let Some(name) = call.args.text("name").filter(|name| !name.is_empty()) {
        let name = name.to_owned();
        rename(world, &call.this, &name)?;
    }
    let config = call.args.data("config").cloned();
    let wanted = number(&call.this);
    let pool = world.file.pools.iter_mut().find(|pool| Some(pool.number) == wanted);
    match (pool, config) {
        (Some(pool), Some(config)) => {
            let (mut cpu, mut memory) = (pool.cpu.clone(), pool.memory.clone());
            cpu.take(config.data("cpuAllocation"))?;
            memory.take(config.data("memoryAllocation"))?;
            (pool.cpu, pool.memory) = (cpu, memory);
        }
        (None, Some(_)) => return Err(VimFault::not_supported("the root pool is as large as the host")),
        _ => {}
    }
    changed(world)?;
    Ok(Reply::Nothing)
}

fn rename(world: &mut World, object: &Ref, name: &str) -> Result<(), VimFault> {
    let pool = own(world, object).ok_or_else(|| VimFault::not_supported("the root pool keeps its name"))?.clone();
    if pool.name != name {
        check_name(world, pool.parent, name)?;
    }
    for own in world.file.pools.iter_mut().filter(|own| own.number == pool.number) {
        name.clone_into(&mut own.name);
    }
    Ok(())
}

/// Removes a pool; those in it go one up, as on a host.
fn remove(world: &mut World, object: &Ref) -> Result<(), VimFault> {
    let pool = own(world, object).ok_or_else(|| VimFault::not_found(object))?.clone();
    for child in world.file.pools.iter_mut().filter(|child| child.parent == Some(pool.number)) {
        child.parent = pool.parent;
    }
    world.file.pools.retain(|own| own.number != pool.number);
    world.forget(object);
    Ok(())
}

fn changed(world: &mut World) -> Result<(), VimFault> {
    world.touch_topology();
    world.keep_host()
}
