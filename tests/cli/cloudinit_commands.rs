//! `ceso cloudinit`, and the workflows that give machines their cloud-init data: `vm create`, `vm clone`, `vm reip`.

use ceso::sim::Options;

use crate::support::{Done, Machine, Sim};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops@example";

fn vm(machine: &Machine, arguments: &[&str]) -> Done {
    machine.run(&[&["--host", "sim", "vm"], arguments].concat())
}

#[test]
fn a_file_is_rendered_with_its_secrets_hidden_and_checked() {
    let machine = Machine::new().user("secrets: {tok: {env: TOK, purpose: token, for: []}}");
    machine.file(
        "seed.yaml",
        "hostname: web-1\nnetwork: {address: 10.0.1.20/24, gateway: 10.0.1.1}\n\
         files:\n- {path: /etc/token, content: [\"token=\", {secret: tok}]}\n",
    );
    let with = |arguments: &[&str]| machine.run_with(&[("TOK", "tok-9f3a1c77e5b24d08")], arguments);
    let done = with(&["cloudinit", "render", "seed.yaml", "--mac", "00:50:56:aa:bb:cc", "--iso", "seed.iso"]).ok();
    assert!(done.out.contains("#cloud-config") && done.out.contains("00:50:56:aa:bb:cc"), "{done:?}");
    assert!(!done.out.contains("tok-9f3a") && done.out.contains("secret tok"), "{done:?}");
    let iso = machine.project().join("seed.iso");
    assert_eq!(crate::support::mode(&iso), 0o600);
    assert!(std::fs::read(&iso).unwrap().windows(6).any(|window| window == b"cidata"));
    let checked = with(&["cloudinit", "check", "seed.yaml", "--output", "json"]).ok().json();
    assert!(checked.as_array().unwrap().iter().any(|warning| warning["at"].is_string()), "{checked}");
    machine.file("seed.luau", "return { hostname = 'lua-1', ssh_keys = { '".to_owned() + KEY + "' } }");
    assert!(with(&["cloudinit", "render", "seed.luau"]).ok().out.contains("lua-1"));
    let script = |secret: &str| {
        format!("return {{ hostname = 'lua-2', files = {{ {{ path = '/etc/token', content = {secret} }} }} }}")
    };
    machine.file("secret.luau", script("cloudinit.secret('tok')"));
    let denied = with(&["cloudinit", "render", "secret.luau"]);
    assert!(denied.code == 3 && denied.err.contains("{ secret = \"NAME\" }"), "{denied:?}");
    machine.file("secret.luau", script("{ secret = 'tok' }"));
    let done = with(&["cloudinit", "render", "secret.luau"]).ok();
    assert!(done.out.contains("lua-2") && !done.out.contains("tok-9f3a"), "{done:?}");
    machine.file("json.json", "{\"hostname\": \"json-1\"}");
    assert!(with(&["cloudinit", "render", "json.json"]).ok().out.contains("json-1"));
}

#[test]
fn a_file_that_is_no_document_is_an_error_that_names_the_field() {
    let machine = Machine::new();
    for (name, text, code, word) in [
        ("a.yaml", "hostname: web_1\n", 1, "hostname"),
        ("b.yaml", "hostname: web-1\nhostnam: x\n", 2, "hostnam"),
        ("c.yaml", "- a\n", 2, "c.yaml"),
        ("d.yaml", "hostname: a\nfiles: [{path: /x, content: {secret: nothing}}]\n", 2, "nothing"),
        ("e.luau", "return 1", 2, "no table"),
        ("f.luau", "return { summary = 'x', run = function() end }", 2, "no table"),
        ("g.luau", "esxi.connect():vm('x'):power_on()", 3, ""),
    ] {
        machine.file(name, text);
        let done = machine.run(&["cloudinit", "check", name]);
        assert!(done.err.contains(word), "{name}: {done:?}");
        assert!(done.code == code || name == "g.luau" && done.code != 0, "{name}: {done:?}");
    }
    machine.run(&["cloudinit", "check", "missing.yaml"]).failed(2, "usage.file");
    machine.run(&["cloudinit", "render", "a.yaml", "--mac", "x"]).failed(1, "cloudinit.invalid");
}

#[test]
fn a_clone_is_provisioned_when_its_guest_reports_the_asked_address_and_re_ipd_after() {
    let machine = Machine::new();
    machine.file("key.pub", format!("# mine\n{KEY}\n"));
    let made = vm(
        &machine,
        &[
            "clone",
            "debian-12",
            "web",
            "--ssh-keys",
            "@key.pub",
            "--packages",
            "nginx",
            "--address",
            "10.0.1.20/24",
            "--gateway",
            "10.0.1.1",
            "--dns",
            "10.0.1.1",
            "--wait-port",
            "22",
            "--wait-url",
            "http:80/health",
        ],
    )
    .ok();
    assert_eq!(made.out, "name  web\nip    10.0.1.20\n", "{made:?}");
    let moved = vm(&machine, &["reip", "web", "--address", "10.0.1.77/24", "--gateway", "10.0.1.1", "--restart"]).ok();
    assert_eq!(moved.out, "name  web\nip    10.0.1.77\n", "{moved:?}");
    let again = vm(&machine, &["reip", "web", "--address", "10.0.1.77/24", "--gateway", "10.0.1.1"]).ok();
    assert!(again.err.contains("nothing changed"), "{again:?}");
    machine.file(
        "whole.yaml",
        "users: [{name: ops, sudo: true}]\nnetwork: {address: 10.0.1.30/24}\ntimezone: Europe/Berlin\n",
    );
    let whole = vm(&machine, &["clone", "debian-12", "db", "--cloud-init", "whole.yaml", "--wait"]).ok();
    assert_eq!(whole.out, "name  db\nip    10.0.1.30\n", "{whole:?}");
    let twice = vm(&machine, &["clone", "debian-12", "x", "--cloud-init", "whole.yaml", "--address", "10.0.1.31/24"]);
    assert!(twice.code == 2 && twice.err.contains("--cloud-init holds the whole"), "{twice:?}");
    let made = vm(&machine, &["create", "empty", "--disk", "1 GiB", "--ssh-keys", KEY]).ok();
    assert!(made.out.contains("empty"), "{made:?}");
    let wrong = vm(&machine, &["clone", "debian-12", "y", "--ssh-keys", "@missing.pub"]);
    assert!(wrong.code == 2 && wrong.err.contains("missing.pub"), "{wrong:?}");
}

#[test]
fn a_step_that_fails_names_what_was_made_and_the_command_that_removes_it() {
    use ceso::sim::{Rule, Trouble};
    let clone = ["vm", "clone", "debian-12", "web-1", "--address", "10.0.1.20/24", "--wait", "--wait-timeout", "1 s"];
    for (method, after, left) in [
        ("CopyVirtualDisk_Task", 0, false),
        ("CreateVM_Task", 0, false),
        ("ReconfigVM_Task", 0, true),
        ("PowerOnVM_Task", 0, true),
    ] {
        let host = Sim::start(Options::default());
        let trouble = Trouble::Fault { kind: "GenericVmConfigFault".to_owned(), message: None };
        let rule = Rule { method: method.to_owned(), trouble, after, times: None, chance: 1.0 };
        host.server.fault(rule).unwrap();
        let machine = Machine::new();
        let done = machine.on(&host, &clone);
        assert_eq!(done.code, 4, "{method}: {done:?}");
        let names = done.err.contains("ceso vm delete web-1 --force --mode unrestricted --host");
        assert_eq!(names, left, "{method}: {done:?}");
        if left {
            host.server.clear_faults();
            machine.on(&host, &["vm", "delete", "web-1", "--force", "--mode", "unrestricted"]).ok();
            machine.on(&host, &["vm", "info", "web-1"]).failed(4, "esxi.vm_not_found");
        }
    }
    // The guest never reports what was asked for.
    let host = Sim::start(Options { boot_delay: std::time::Duration::from_secs(600), ..Options::default() });
    let machine = Machine::new();
    let done = machine.on(&host, &clone).failed(4, "esxi.timeout");
    assert!(done.err.contains("ceso vm delete web-1 --force") && done.err.contains("10.0.1.20"), "{done:?}");
}

#[test]
fn a_seed_image_gives_a_guest_its_address_and_is_taken_away_again() {
    let host = Sim::start(Options::default());
    let machine = Machine::new();
    let text = "local host = esxi.connect()\n\
        local vm = host:ensure_clone({ template = 'debian-12', name = 'web-1' })\n\
        local function doc(address) return cloudinit.build({ hostname = 'web-1', network = { address = address } }) end\n\
        vm:attach_seed(doc('10.0.1.20/24'))\n\
        vm:attach_seed(doc('10.0.1.21/24'))\n\
        vm:power_on()\n\
        vm:wait_for_address({ address = '10.0.1.21', timeout = '30 s' })\n\
        local name = vm:info().guest_hostname\n\
        local busy, fault = pcall(function() vm:attach_seed(doc('10.0.1.22/24')) end)\n\
        assert(not busy and fault.kind == 'esxi.invalid_power_state', tostring(fault))\n\
        vm:power_off()\n\
        vm:detach_seed()\n\
        vm:detach_seed()\n\
        vm:destroy()\n\
        return { name = name }";
    machine.file("seed.luau", text);
    let done = machine.on(&host, &["run", "seed.luau", "--output", "json", "--mode", "unrestricted"]).ok();
    assert_eq!(done.json()["name"], "web-1", "{done:?}");
    assert!(done.err.contains("1 unchanged"), "the second removal finds nothing: {done:?}");
}
