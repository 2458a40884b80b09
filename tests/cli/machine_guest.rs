//! What is done inside a guest: programs, files, the console; and a password that no script sees.

use serde_json::json;

use crate::support::{Done, Machine};

const PASSWORD: &str = "ceso-guest";

fn machine() -> Machine {
    Machine::new().user(
        "secrets:\n  guest: {env: GUEST, purpose: password, for: [\"debian-12\"]}\n  token: {env: GUEST, purpose: token, for: [\"*\"]}\n",
    )
}

fn run(machine: &Machine, words: &[&str]) -> Done {
    machine.run_with(&[("GUEST", PASSWORD)], &[words, &["--host", "sim", "--output", "json"]].concat())
}

const INSIDE: &str = r#"
return {
  params = { up = { type = "file" }, down = { type = "file", access = "write" }, shot = { type = "file", access = "write" } },
  needs = {
    vm = { read = "*", power = "*", guest = "*", copy_from = "*", create = "*" },
    datastore = { write = "*" }, network = { use = "*" }, secret = { use = "*" },
  },
  run = function(p)
    local host = esxi.connect()
    local vm = host:vm("debian-12")
    local password = cloudinit.secret("guest")
    local function kind(act)
      local done, fault: any = pcall(act)
      return if done then "done" else fault.kind
    end
    local function program(path, arguments, more)
      local call: any = { program = path, arguments = arguments, user = "root", password = password }
      for key, value in more or {} do
        call[key] = value
      end
      return vm:run_program(call)
    end
    local refused = { off = kind(function() program("/bin/true", {}) end), shot = kind(function() vm:screenshot(p.shot) end) }
    vm:ensure_power("on")
    vm:wait_for_ip()
    local facts = vm:guest_facts()
    local words = program("/bin/echo", { "a  b", "it's", "$(id)", ";reboot" }).stdout
    local failed = program("/bin/false", {})
    local err = program("/bin/cat", { "/none" })
    local environment = program("/usr/bin/env", {}, { environment = { A = "b" } }).stdout
    vm:upload_to_guest({ file = p.up, path = "/tmp/up", user = "root", password = password })
    refused.twice = kind(function() vm:upload_to_guest({ file = p.up, path = "/tmp/up", user = "root", password = password }) end)
    local read = program("/bin/cat", { "/tmp/up" }).stdout
    local down = vm:download_from_guest({ path = "/tmp/up", into = p.down, user = "root", password = password })
    local shot = vm:screenshot(p.shot)
    refused.program = kind(function() program("/bin/none", {}) end)
    refused.path = kind(function() program("none", {}) end)
    refused.file = kind(function() vm:download_from_guest({ path = "/none", into = p.down, user = "root", password = password }) end)
    refused.user = kind(function() program("/bin/true", {}, { user = "nobody" }) end)
    refused.long = kind(function() program("/bin/sleep", { "1000" }, { timeout = "1 s" }) end)
    refused.purpose = kind(function() program("/bin/true", {}, { password = cloudinit.secret("token") }) end)
    local other = host:clone({ template = "vm-other", name = "elsewhere" })
    refused.destination = kind(function() other:run_program({ program = "/bin/true", user = "root", password = password }) end)
    return {
      words = words, failed = failed.exit_code, err = err.stderr, environment = environment, read = read,
      sum = down.sha256, size = shot.size, refused = refused, tools = facts.tools, addresses = #facts.nics[1].addresses,
    }
  end,
}
"#;

#[test]
fn programs_run_in_a_guest_and_files_go_in_and_out() {
    let machine = machine();
    run(&machine, &["vm", "clone", "debian-12", "vm-other"]).ok();
    machine.file("inside.luau", INSIDE);
    machine.file("up.txt", "what goes up");
    let files = ["--param", "up=up.txt", "--param", "down=down.txt", "--param", "shot=shot.png"];
    let done = run(&machine, &[&["run", "--mode", "standard", "inside.luau"], &files[..]].concat()).ok();
    let told = done.json();
    assert_eq!(told["words"], "a  b it's $(id) ;reboot\n");
    assert_eq!((&told["failed"], &told["environment"]), (&json!(1), &json!("A=b\n")));
    assert_eq!(told["err"], "cat: /none: No such file or directory\n");
    assert_eq!((&told["read"], &told["tools"]), (&json!("what goes up"), &json!("guestToolsRunning")));
    assert_eq!(told["addresses"], 1);
    assert_eq!(
        told["refused"],
        json!({
            "off": "esxi.guest_operations_unavailable", "shot": "esxi.invalid_power_state",
            "twice": "esxi.file_already_exists", "program": "esxi.file_not_found", "path": "usage.argument",
            "file": "local.file_exists", "user": "esxi.invalid_guest_login", "long": "esxi.timeout",
            "purpose": "door.purpose", "destination": "door.destination",
        })
    );
    assert_eq!(std::fs::read(machine.project().join("down.txt")).unwrap(), b"what goes up");
    assert!(std::fs::read(machine.project().join("shot.png")).unwrap().starts_with(b"\x89PNG\r\n"));
    assert!(!done.out.contains(PASSWORD) && !done.err.contains(PASSWORD), "{done:?}");
}

#[test]
fn a_guest_is_entered_and_its_console_shown_by_commands() {
    let machine = machine();
    run(&machine, &["vm", "power", "debian-12", "on"]).ok();
    machine.script("esxi.connect():vm('debian-12'):wait_for_ip()", &[]).ok();
    let told = run(&machine, &["vm", "guest", "info", "debian-12"]).ok().json();
    assert_eq!((&told["tools"], told["nics"].as_array().unwrap().len()), (&json!("guestToolsRunning"), 1), "{told:#}");
    let inside = |words: &[&str]| run(&machine, &[&["vm", "guest"], words, &["--password", "env:GUEST"]].concat());
    let ran = inside(&["run", "debian-12", "/bin/echo", "--arguments", "one", "--arguments", "two words"]).ok();
    assert_eq!((&ran.json()["stdout"], &ran.json()["exit_code"]), (&json!("one two words\n"), &json!(0)));
    let ran = inside(&["run", "debian-12", "/bin/echo", "--arguments", "rw,noexec", "--arguments", "-c"]).ok();
    assert_eq!(ran.json()["stdout"], json!("rw,noexec -c\n"));
    machine.file("up.txt", "what goes up");
    inside(&["upload", "debian-12", "up.txt", "/tmp/up"]).ok();
    inside(&["upload", "debian-12", "up.txt", "/tmp/up"]).failed(4, "esxi.file_already_exists");
    inside(&["upload", "debian-12", "up.txt", "/tmp/up", "--overwrite"]).ok();
    inside(&["download", "debian-12", "/tmp/up", "down.txt"]).ok();
    assert_eq!(std::fs::read(machine.project().join("down.txt")).unwrap(), b"what goes up");
    inside(&["download", "debian-12", "/tmp/none", "none.txt"]).failed(4, "esxi.file_not_found");
    assert!(!machine.project().join("none.txt").exists());
    let shot = run(&machine, &["vm", "screenshot", "debian-12", "shot.png"]).ok().json();
    let png = std::fs::read(machine.project().join("shot.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.ends_with(b"IEND\xae\x42\x60\x82"), "{} bytes", png.len());
    assert!(shot["size"] == png.len() || shot["size"].is_string(), "{shot:#}");
    run(&machine, &["vm", "power", "debian-12", "off"]).ok();
    run(&machine, &["vm", "screenshot", "debian-12", "off.png"]).failed(4, "esxi.invalid_power_state");
}

#[test]
fn a_guest_is_not_entered_without_the_verb() {
    let machine = machine();
    machine.file(
        "denied.luau",
        "local vm = esxi.connect():vm(\"debian-12\")\nvm:run_program({ program = \"/bin/true\", user = \"root\", password = cloudinit.secret(\"guest\") })",
    );
    assert_eq!(run(&machine, &["run", "--mode", "restricted", "denied.luau"]).code, 3);
}
