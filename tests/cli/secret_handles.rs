//! Secrets as handles: a script that tries everything to see one, to send it elsewhere, or to learn how long it is.

use crate::support::{Done, Machine};

const SECRET: &str = "tok-9f3a1c77e5b24d08";
const CONFIG: &str = "secrets:\n  tok: {env: TOK, purpose: token, for: [\"web-*\"]}\n  hash: {env: HASH, purpose: password_hash, for: [web-1]}\n";

fn run(machine: &Machine, text: &str, arguments: &[&str]) -> Done {
    machine.file("attack.luau", text);
    let hash = format!("$6$saltsalt${}", "x".repeat(86));
    let words = [&["run", "--host", "sim", "attack.luau"], arguments].concat();
    machine.run_with(&[("TOK", SECRET), ("HASH", &hash)], &words)
}

fn machine() -> Machine {
    Machine::new().user(CONFIG)
}

/// Nothing of a secret in what a command left: its streams, and every file of its home but the simulator's own machines.
fn nowhere(machine: &Machine, done: &Done) {
    assert!(!done.out.contains(SECRET) && !done.err.contains(SECRET), "{done:?}");
    let mut folders = vec![machine.home()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.starts_with(machine.home().join("sim")) {
                let text = std::fs::read(&path).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains(SECRET), "{} holds the secret", path.display());
            }
        }
    }
}

#[test]
fn a_secret_is_shown_by_nothing_that_a_script_can_do_with_its_handle() {
    for attack in [
        "print(s, tostring(s), `{s}`)",
        "print(string.format('%s %*', s, s))",
        "log.info(s)",
        "print(s .. 'x')",
        "print(#s)",
        "print(s.value, s.text)",
        "for key, value in s do print(key, value) end",
        "print(string.sub(s, 1, 4))",
        "print(rawget(s, 'value'))",
        "return s",
        "return { s, { deep = s } }",
        "error(s)",
        "error({ message = s, hint = s })",
        "task.progress(s, 0.5)",
        "host:vm('debian-12'):configure({ notes = s })",
        "host:ensure_clone({ template = 'debian-12', name = s })",
        "host:ensure_clone({ template = 'debian-12', name = 'web-1' }):configure({ extra_config = { ['a.b'] = s } })",
        "cloudinit.build({ hostname = s })",
        "cloudinit.build({ hostname = 'a', users = { { name = 'a', gecos = s } } })",
        "cloudinit.build({ hostname = 'a', ssh_keys = { s } })",
        "cloudinit.build({ hostname = 'a', packages = { s } })",
        "cloudinit.build({ hostname = 'a', files = { { path = s, content = 'x' } } })",
        "cloudinit.build({ hostname = 'a', network = { address = s } })",
        "return cloudinit.build({ hostname = 'a', files = { { path = '/t', content = s } } }):describe()",
        "return cloudinit.build({ hostname = 'a', commands = { { 'echo', s } } }):check()",
        "return cloudinit.build({ hostname = 'a', raw = { 'a: ', s, '\\nb: [' } })",
        "return cloudinit.build({ hostname = 'a', raw = { '- ', s } })",
        "cloudinit.build({ hostname = 'a', raw = { '#!', s } })",
        "cloudinit.build({ hostname = 'a', parts = { { type = 'cloud-config', content = { '#!', s } } } })",
    ] {
        let machine = machine();
        let text = format!("local host = esxi.connect()\nlocal s = cloudinit.secret('tok')\n{attack}\n");
        let done = run(&machine, &text, &["--verbose", "--mode", "unrestricted"]);
        nowhere(&machine, &done);
        assert!(done.code <= 4 && !done.err.contains("error[ceso."), "{attack}: {done:?}");
    }
}

#[test]
fn what_a_machine_got_is_read_back_without_the_secret_or_its_length() {
    let machine = machine();
    let text = "local host = esxi.connect()\n\
        local doc = cloudinit.build({ hostname = 'web-1', files = { { path = '/etc/token', content = { 'k=', cloudinit.secret('tok') } } } })\n\
        local vm = host:ensure_clone({ template = 'debian-12', name = 'web-1' })\n\
        vm:set_guestinfo(doc)\n\
        vm:ensure_power('on')\n\
        vm:wait_for_ip()\n\
        return { read = cloudinit.read(vm), info = vm:info(), shape = doc:guestinfo(vm), iso = doc:iso(vm) }";
    let done = run(&machine, text, &["--output", "json"]).ok();
    nowhere(&machine, &done);
    let told = done.json();
    assert_eq!(told["read"]["outline"]["files"][0]["path"], "/etc/token", "{told}");
    assert!(told["read"]["outline"]["files"][0]["bytes"].is_null(), "{told}");
    assert!(told["shape"]["size"].is_null() && told["iso"]["size"].is_null(), "{told}");
    let state = machine.home().join("sim");
    let kept = std::fs::read_dir(&state).unwrap().count();
    assert!(kept > 0, "the simulator keeps its machines there");
}

#[test]
fn a_secret_goes_only_to_the_machines_that_it_is_for() {
    let machine = machine();
    let build = "local host = esxi.connect()\n\
        local doc = cloudinit.build({ hostname = 'x', files = { { path = '/t', content = cloudinit.secret('tok') } } })\n";
    for (send, code) in [
        ("host:ensure_clone({ template = 'debian-12', name = 'db-1' }):set_guestinfo(doc)", 3),
        ("host:ensure_clone({ template = 'debian-12', name = 'db-1' }):ensure_guestinfo(doc)", 3),
        ("doc:guestinfo(host:ensure_clone({ template = 'debian-12', name = 'db-1' }))", 3),
        ("host:ensure_clone({ template = 'debian-12', name = 'web-1' }):ensure_guestinfo(doc)", 0),
    ] {
        let done = run(&machine, &format!("{build}{send}"), &[]);
        assert_eq!(done.code, code, "{send}: {done:?}");
        if code == 3 {
            assert!(
                done.err.contains("door.destination") && done.err.contains("\"tok\"") && done.err.contains("web-*"),
                "{done:?}"
            );
        }
        nowhere(&machine, &done);
    }
}

#[test]
fn a_secret_fits_into_fields_of_its_purpose_alone() {
    let machine = machine();
    for (fields, kind) in [
        ("users = { { name = 'a', password_hash = cloudinit.secret('tok') } }", "door.purpose"),
        ("files = { { path = '/t', content = cloudinit.secret('hash') } }", "door.purpose"),
        ("commands = { { 'echo', cloudinit.secret('hash') } }", "door.purpose"),
        ("raw = { 'a: ', cloudinit.secret('hash') }", "door.purpose"),
        ("files = { { path = '/t', content = esxi.connect() } }", "usage.argument"),
    ] {
        let done = run(&machine, &format!("cloudinit.build({{ hostname = 'x', {fields} }})"), &[]);
        assert!(done.err.contains(&format!("error[{kind}]")), "{fields}: {done:?}");
        nowhere(&machine, &done);
    }
    run(
        &machine,
        "cloudinit.build({ hostname = 'x', users = { { name = 'a', password_hash = cloudinit.secret('hash') } } })",
        &[],
    )
    .ok();
}

#[test]
fn whether_a_document_fits_does_not_tell_how_a_secret_is_compressed() {
    let machine = machine();
    let text = "local s = cloudinit.secret('tok')\n\
        local function fits(size)\n\
          return pcall(function() return cloudinit.build({ hostname = 'x', files = { { path = '/a', content = string.rep('x', size) }, { path = '/b', content = s } } }) end)\n\
        end\n\
        assert(fits(400000))\n\
        local ok, fault = fits(600000)\n\
        assert(not ok and fault.kind == 'cloudinit.too_large', tostring(fault))\n\
        print(fault.message)";
    let done = run(&machine, text, &[]).ok();
    assert!(!done.out.contains("600"), "{done:?}");
}

#[test]
fn a_secret_needs_its_capability_in_each_table() {
    let machine = machine();
    let uses = "run = function() return cloudinit.secret('tok') end";
    let playbook = |needs: &str| format!("return {{ summary = 'x', needs = {{ {needs} }}, {uses} }}");
    let denied = run(&machine, &playbook("vm = { read = '*' }"), &[]).failed(3, "door.denied");
    assert!(denied.err.contains("secret = { use = \"tok\" }"), "{denied:?}");
    run(&machine, &playbook("secret = { use = 'other' }"), &[]).failed(3, "door.denied");
    run(&machine, &playbook("secret = { use = 'tok' }"), &[]).ok();
    run(&machine, "cloudinit.secret('tok')", &["--mode", "restricted", "--no-jail"]).failed(3, "door.denied");
    let grant = machine.file("grant.yaml", "vm: {read: \"*\"}\n");
    run(&machine, &playbook("secret = { use = 'tok' }"), &["--grant", grant.to_str().unwrap()])
        .failed(3, "door.denied");
    run(&machine, "cloudinit.secret('nothing')", &[]).failed(2, "config.no_secret");
}

#[test]
fn a_parameter_names_a_secret_and_the_script_gets_a_handle() {
    let machine = machine();
    let playbook = "return { summary = 'x', params = { token = { type = 'secret', purpose = 'token' } },\n\
        needs = { vm = { read = '*', create = '*', configure = '*', copy_from = '*' }, datastore = { write = '*' }, network = { use = '*' } },\n\
        run = function(p)\n\
          assert(typeof(p.token) ~= 'string')\n\
          local vm = esxi.connect():ensure_clone({ template = 'debian-12', name = 'any' })\n\
          vm:set_guestinfo(cloudinit.build({ hostname = 'any', files = { { path = '/t', content = p.token } } }))\n\
          return p.token\n\
        end }";
    let given = |word: &str| run(&machine, playbook, &["--param", word]);
    let done = given("token=env:TOK").ok();
    nowhere(&machine, &done);
    let elsewhere = given("token=secret:tok");
    assert!(elsewhere.code == 3 && elsewhere.err.contains("door.destination"), "{elsewhere:?}");
    let plain = given(&format!("token={SECRET}"));
    assert!(plain.code == 2 && !plain.err.contains(SECRET), "{plain:?}");
    given("token=file:/etc/hostname").failed(2, "config.untrusted_file");
    run(&machine, playbook, &["--param", "token=env:TOK", "--mode", "restricted", "--no-jail"])
        .failed(3, "door.denied");
    let wrong = playbook.replace("purpose = 'token'", "default = 'env:TOK'");
    run(&machine, &wrong, &[]).failed(2, "usage.declaration");
    let literal = playbook.replace("create = '*'", "create = '{token}'");
    run(&machine, &literal, &["--param", "token=env:TOK"]).failed(2, "usage.declaration");
}
