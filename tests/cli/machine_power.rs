//! Power, snapshots and drives as a playbook asks for them: each from the states that it can be asked in, and `ensure` forms that do nothing twice.

use serde_json::json;

use crate::support::Machine;

const POWER: &str = r#"
local host = esxi.connect()
local vm = host:clone({ template = "debian-12", name = "a" })
local told: { [string]: string } = {}
local function kind(act): string
  local done, fault: any = pcall(act)
  return if done then "done" else fault.kind
end
local function state(): string
  return vm:info().power
end
-- What a machine that is off does not do.
for name, act in {
  off = function() vm:power_off() end,
  reset = function() vm:reset() end,
  suspend = function() vm:suspend() end,
  shutdown = function() vm:shutdown({ timeout = "1 s" }) end,
} do
  told[`{name} when off`] = kind(act)
end
vm:power_on()
told.again = kind(function() vm:power_on() end)
vm:wait_for_ip()
vm:suspend()
told.suspended = state()
told["suspend when suspended"] = kind(function() vm:suspend() end)
vm:power_on()
told.resumed = state()
vm:reset()
told.reset = state()
vm:wait_for_ip()
vm:wait_for_port({ port = 22, timeout = "10 s" })
vm:wait_for_http({ port = 80, path = "/health", timeout = "10 s" })
vm:shutdown({ timeout = "10 s" })
told.shut = state()
-- A guest without tools is not asked, and is left as it is.
local bare = host:create({ name = "bare", datastore = "datastore1", disk = "8 MiB" })
bare:power_on()
told.bare = kind(function() bare:shutdown({ timeout = "1 s" }) end)
told.left = bare:info().power
told.address = kind(function() bare:wait_for_ip({ timeout = "1 s" }) end)
return told
"#;

#[test]
fn each_change_of_power_is_made_from_its_state_and_refused_from_another() {
    let machine = Machine::new();
    let told = machine.script(POWER, &["--output", "json"]).ok().json();
    let wrong = "esxi.invalid_power_state";
    assert_eq!(
        told,
        json!({
            "off when off": wrong, "reset when off": wrong, "suspend when off": wrong, "shutdown when off": wrong,
            "again": wrong, "suspended": "suspended", "suspend when suspended": wrong, "resumed": "on", "reset": "on",
            "shut": "off", "bare": "esxi.tools_unavailable", "left": "on", "address": "esxi.timeout",
        })
    );
}

const ENSURED: &str = r#"
local host = esxi.connect()
local vm = host:ensure_clone({ template = "debian-12", name = "a" })
vm:ensure_config({ cpus = 2, notes = "mine", tags = { "web" } })
vm:ensure_disk({ unit = 1, size = "8 MiB" })
vm:ensure_cdrom({ datastore = "datastore1", path = "tools.iso" })
vm:ensure_snapshot({ name = "clean" })
vm:ensure_power("on")
local info = vm:info()
return { snapshots = #info.snapshots, disks = #info.disks, image = info.drives[1].file, power = info.power }
"#;

#[test]
fn what_is_ensured_twice_is_done_once() {
    let machine = Machine::new();
    machine.script("esxi.connect():datastore('datastore1'):write_text('tools.iso', 'an image')", &[]).ok();
    let first = machine.script(ENSURED, &["--output", "json"]).ok();
    assert_eq!(
        first.json(),
        json!({ "snapshots": 1, "disks": 2, "image": "[datastore1] tools.iso", "power": "on" }),
        "{first:?}"
    );
    let second = machine.script(ENSURED, &["--output", "json"]).ok();
    assert_eq!(second.json(), first.json());
    assert!(second.err.contains("nothing changed"), "{second:?}");
}
