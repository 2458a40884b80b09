//! The search index: machines and other objects by path, name, UUID, address or file.

use super::call::{Answer, Call, Reply};
use super::datastore::path::DatastorePath;
use super::esx;
use super::fault::VimFault;
use super::value::Ref;
use super::vm::Vm;
use super::world::World;

pub fn call(world: &World, call: &Call) -> Answer {
    if call.args.reference("datacenter").is_some() {
        call.object(world, "datacenter", "Datacenter")?;
    }
    match call.method {
        "FindByInventoryPath" => Ok(one(by_path(world, call.text("inventoryPath")?))),
        "FindChild" => {
            let entity = call.object(world, "entity", "ManagedEntity")?;
            let name = call.text("name")?;
            let children = entity.map(|entity| esx::children(world, &entity)).unwrap_or_default();
            Ok(one(children.into_iter().find(|child| esx::name(world, child).is_some_and(|own| own == name))))
        }
        "FindByUuid" => Ok(one(by_uuid(world, call)?.into_iter().next())),
        "FindAllByUuid" => Ok(by_uuid(world, call)?.into()),
        "FindByIp" => Ok(one(by_ip(world, call)?.into_iter().next())),
        "FindAllByIp" => Ok(by_ip(world, call)?.into()),
        "FindByDnsName" => Ok(one(by_dns_name(world, call)?.into_iter().next())),
        "FindAllByDnsName" => Ok(by_dns_name(world, call)?.into()),
        "FindByDatastorePath" => {
            let path = DatastorePath::parse(call.text("path")?)?.to_string();
            Ok(one(machines(world, |vm| vm.vmx == path).into_iter().next()))
        }
        other => Err(VimFault::not_implemented(other)),
    }
}

fn one(found: Option<Ref>) -> Reply {
    found.map_or(Reply::Nothing, Reply::from)
}

fn machines(world: &World, wanted: impl Fn(&Vm) -> bool) -> Vec<Ref> {
    world.vms.values().filter(|vm| wanted(vm)).map(Vm::reference).collect()
}

/// Whether machines are searched, rather than hosts.
fn for_machines(call: &Call) -> bool {
    call.args.boolean("vmSearch") == Some(true)
}

fn by_path(world: &World, path: &str) -> Option<Ref> {
    let mut place = esx::ROOT_FOLDER;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let children = esx::children(world, &place);
        place = children.into_iter().find(|child| esx::name(world, child).is_some_and(|own| own == name))?;
    }
    Some(place)
}

fn by_uuid(world: &World, call: &Call) -> Result<Vec<Ref>, VimFault> {
    let uuid = call.text("uuid")?.to_ascii_lowercase();
    if !for_machines(call) {
        return Ok(Vec::from_iter((uuid == world.file.uuid).then_some(esx::HOST)));
    }
    let instance = call.args.boolean("instanceUuid") == Some(true);
    Ok(machines(world, |vm| uuid == if instance { vm.instance_uuid.as_str() } else { vm.uuid.as_str() }))
}

fn by_ip(world: &World, call: &Call) -> Result<Vec<Ref>, VimFault> {
    let ip = call.text("ip")?;
    if !for_machines(call) {
        return Ok(Vec::from_iter((ip == esx::ADDRESS).then_some(esx::HOST)));
    }
    let running = |vm: &Vm| super::guest::seen(world, vm).is_some_and(|seen| seen.addresses().any(|own| own == ip));
    Ok(machines(world, running))
}

fn by_dns_name(world: &World, call: &Call) -> Result<Vec<Ref>, VimFault> {
    let name = call.text("dnsName")?;
    if !for_machines(call) {
        return Ok(Vec::from_iter(name.eq_ignore_ascii_case(esx::HOST_NAME).then_some(esx::HOST)));
    }
    let called = |vm: &Vm| super::guest::seen(world, vm).is_some_and(|seen| seen.hostname.eq_ignore_ascii_case(name));
    Ok(machines(world, called))
}
