//! `ceso test`: what passes, fails, hangs and dies is told as such, tests see nothing of each other, and hostile files reach nothing.

use serde_json::{Value, json};

use crate::support::{Done, Machine};

const PLAYBOOK: &str = r#"
return {
  params = { name = { type = "string", default = "web-1" } },
  needs = {
    vm = { read = "*", copy_from = "debian-12", create = "web-*", configure = "web-*", power = "web-*" },
    datastore = { write = "datastore1" }, network = { use = "VM Network" },
  },
  run = function(p)
    local vm = esxi.connect():ensure_clone({ template = "debian-12", name = p.name })
    print("made", vm.name)
    vm:ensure_power("on")
    return { name = vm.name, ip = vm:wait_for_ip() }
  end,
}
"#;

const DISKS: &str = r#"
local vm = esxi.connect():clone({ template = "debian-12", name = "web-1" })
vm:track_changes(true)
local since = vm:snapshot({ name = "one" }):changed_areas({}).change_id
vm:power_on()
vm:wait_for_ip()
local two = vm:snapshot({ name = "two" })
local first, second = #two:changed_areas({ since = since }).areas, #two:changed_areas({ since = since }).areas
vm:power_off()
pcall(function() vm:remove_snapshots() end)
return { left = vm:info().consolidation_needed, first = first, second = second }
"#;

/// Runs these tests, each the body of a function of `t`, with the playbook `web.luau` beside them.
fn tested(tests: &[(&str, &str)], arguments: &[&str]) -> (Machine, Done) {
    let machine = Machine::new();
    machine.file("t/web.luau", PLAYBOOK);
    machine.file("t/disks.luau", DISKS);
    let mut text = String::from("local check = require(\"@ceso/check\")\nreturn { tests = {\n");
    for (name, body) in tests {
        text.push_str(&format!("  [{name:?}] = function(t)\n{body}\n  end,\n"));
    }
    text.push_str("} }\n");
    machine.file("t/web_test.luau", text);
    let first = ["test", "t"];
    let done = machine.run(&first.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>());
    (machine, done)
}

/// The rows of the tests, by name.
fn rows(done: &Done) -> Value {
    done.json()["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn a_playbook_is_run_as_a_user_would_and_its_result_and_changes_are_told() {
    let (_machine, done) = tested(
        &[
            (
                "twice",
                "local first, again = t:run('web.luau'), t:run('web.luau')
                 check.like(first, { ok = true, changed = 2, value = { name = 'web-1' } }, first.error and first.error.text)
                 check.like(again, { ok = true, changed = 0, unchanged = 2, output = 'made\\tweb-1\\n', code = 0 })
                 check.equal(first.value.ip, t:vm('web-1').ip)
                 check.like(first.changes[1], { operation = 'vm.ensure_clone', outcome = 'done' })",
            ),
            (
                "denied",
                "local run = t:run({ file = './web.luau', params = { name = 'db-1' } })
                 check.like(run, { ok = false, code = 3, error = { kind = 'door.denied' } })
                 check.like(t:run('web.luau', { mode = 'restricted' }), { code = 3 })
                 check.like(t:run('web.luau', { grant = { vm = { read = '*' } } }), { code = 3 })
                 check.contains(t:run('web.luau', { params = { nam = 'x' } }).error.text, 'did you mean name?')
                 check.equal(#t:inventory().vms, 1)",
            ),
            (
                "looks",
                "check.equal(#t:calls('PowerOnVM_Task'), 0)
                 t:run('web.luau')
                 check.equal(t:calls('PowerOnVM_Task'), { { method = 'PowerOnVM_Task', object = 'web-1' } })
                 check.equal(t:inventory().networks, { 'VM Network' })
                 check.equal(t:vm('nobody'), nil)
                 local host = esxi.connect('some-configured-host')
                 check.equal(host.simulated, true)
                 check.equal(host:vm('web-1').power, 'on')
                 check.equal(t.name, 'looks')",
            ),
        ],
        &[],
    );
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(done.out.contains("3 passed of 3 tests, on SIMULATORS"), "{}", done.out);
}

#[test]
fn faults_on_demand_reach_the_playbook_as_often_as_was_asked() {
    let (_machine, done) = tested(
        &[
            (
                "typed",
                "t:fault({ method = 'PowerOnVM_Task', fault = 'NoDiskSpace' })
                 local run = t:run('web.luau')
                 check.like(run, { ok = false, code = 4, failed = 1, error = { kind = 'esxi.no_disk_space', line = 11 } })
                 check.like(t:run('web.luau'), { ok = true, changed = 1, unchanged = 1 })",
            ),
            (
                "lost answer",
                "t:fault({ method = 'PowerOnVM_Task', drop = 'answer' })
                 local run = t:run('web.luau')
                 -- The task is found by what it does and on what, and nothing is repeated.
                 check.equal(run.ok, true)
                 check.equal(run.changed, 2)
                 check.equal(t:vm('web-1').power, 'on')",
            ),
            (
                "others",
                "t:fault({ method = 'RetrievePropertiesEx', expire = true })
                 check.equal(t:run('web.luau').ok, true)
                 t:fault({ method = 'PowerOnVM_Task', status = 503, times = 0 })
                 t:clear_faults()
                 t:fault({ method = 'CreateVM_Task', delay = '10 ms', after = 1, times = 2, chance = 0.5 })
                 check.equal(t:run('web.luau').ok, true)",
            ),
            (
                "of disks and transfers",
                "t:fault({ method = 'RemoveAllSnapshots_Task', leave_delta = true })
                 t:fault({ method = 'QueryChangedDiskAreas', lie = 'missing', after = 1 })
                 t:fault({ method = 'GET folder', no_ranges = true, times = 0 })
                 t:fault({ method = 'PowerOnVM_Task', late = '200 ms' })
                 local run = t:run('disks.luau')
                 check.like(run, { ok = true, value = { left = true, first = 0, second = 1 } }, run.error and run.error.text)
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', lie = 'missing' }) end, 'changed blocks')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', no_ranges = true }) end, 'transfer')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', leave_delta = true }) end, 'no delta')",
            ),
            (
                "wrong",
                "check.raises(function() t:fault({ method = 'PowerOnVM_Tusk', fault = 'NoDiskSpace' }) end, 'the API has no method')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', fault = 'NoDisk' }) end, 'the API has no fault')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task' }) end, 'exactly one of')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', status = 503, expire = true }) end, 'exactly one of')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', status = 200 }) end, 'no status')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', message = 'x', status = 503 }) end, 'no fault is given')
                 check.raises(function() t:fault({ method = 'PowerOnVM_Task', status = 503, chance = 2 }) end, 'from 0 to 1')",
            ),
        ],
        &[],
    );
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
}

#[test]
fn what_fails_says_where_and_how_the_values_differ_and_shows_what_was_printed() {
    let (_machine, done) = tested(
        &[
            ("short", "check.equal(1 + 1, 3, 'sum')"),
            (
                "long",
                "print('before')\n t:run('web.luau')\n check.equal({ a = 1, b = { 2, 3 } }, { a = 1, b = { 2, 4 } })",
            ),
            ("raises", "esxi.connect():vm('nobody')"),
            ("passes", ""),
        ],
        &[],
    );
    assert_eq!(done.code, 1);
    for part in [
        "FAIL t/web_test.luau:3: short",
        "sum: expected 3, found 2",
        " --> t/web_test.luau:4:1",
        "  -     4,\n  +     3,\n",
        "  the test printed:\n    before\n",
        "  t/web.luau went well:\n    made\tweb-1\n",
        "error[esxi.vm_not_found]",
        "  ok    passes (",
        "1 passed, 3 failed of 4 tests",
    ] {
        assert!(done.out.contains(part), "{part:?} is not in:\n{}", done.out);
    }
    assert!(!done.out.contains("@ceso/check"), "{}", done.out);
}

#[test]
fn tests_see_nothing_of_each_other() {
    let body = "check.equal(#t:inventory().vms, 1)\n check.equal(shared, nil)\n shared = true\n t:fault({ method = 'PowerOnVM_Task', status = 503 })\n\
                esxi.connect():clone({ template = 'debian-12', name = 'web-1' })";
    let tests = [("a", body), ("b", body), ("c", body), ("d", body)];
    for jobs in ["1", "4"] {
        let (_machine, done) = tested(&tests, &["--jobs", jobs]);
        assert_eq!(done.code, 0, "{}", done.out);
    }
}

#[test]
fn a_test_that_hangs_or_whose_worker_dies_fails_alone_and_is_named() {
    let (_machine, done) = tested(
        &[
            ("hangs", "while true do end"),
            ("waits", "require('@ceso/task').sleep('1 h')"),
            ("eats", "local all = {} while true do table.insert(all, string.rep('x', 100000) .. #all) end"),
            ("recurses", "local function f() return f() + 1 end f()"),
            (
                "holds up its run",
                "t:fault({ method = 'PowerOnVM_Task', delay = '1 min' }) t:run('web.luau', { timeout = '1 h' })",
            ),
            ("lives", "check.equal(t:run('web.luau').ok, true)"),
        ],
        &["--output", "json", "--timeout", "3 s", "--jobs", "6"],
    );
    assert_eq!(done.code, 1);
    let rows = rows(&done);
    for name in ["hangs", "waits", "holds up its run"] {
        assert_eq!(rows[name]["kind"], "limit.run_time", "{}", rows[name]);
    }
    assert_eq!(rows["eats"]["kind"], "limit.memory");
    assert_eq!(rows["recurses"]["status"], "failed");
    assert_eq!(rows["lives"]["status"], "passed", "{}", rows["lives"]);
    assert_eq!((&done.json()["passed"], &done.json()["failed"]), (&json!(1), &json!(5)));
}

#[test]
fn a_setup_is_what_the_test_begins_with() {
    let machine = Machine::new();
    machine.file(
        "x_test.luau",
        r#"
        local check = require("@ceso/check")
        local log_of = {}
        return {
          summary = "setups",
          setup = { vms = { { name = "a", power = "on", ip = "10.0.1.50", cpus = 2, memory = "2 GiB", notes = "n",
                              networks = { "lab" }, extra_config = { ["guestinfo.x"] = "y" } } }, networks = { "lab" }, template = false },
          before_each = function(t) table.insert(log_of, t.name) end,
          after_each = function(t) check.equal(log_of, { t.name }) end,
          tests = {
            ["of the file"] = function(t)
              check.like(t:vm("a"), { power = "on", ip = "10.0.1.50", cpus = 2, memory = "2 GiB", notes = "n", networks = { "lab" } })
              check.equal(t:vm("a").extra_config["guestinfo.x"], "y")
              check.equal(t:vm("debian-12"), nil)
              check.equal(esxi.connect():vm("a"):wait_for_ip(), "10.0.1.50")
            end,
            ["of the test"] = { setup = { vms = { { name = "b" } } }, run = function(t) check.equal(#t:inventory().vms, 2) end },
            ["left out"] = { skip = "not yet", run = function() error("no") end },
            ["wrong name"] = { setup = { vms = { { name = "a/b/c" }, { name = "a/b/c" } } }, run = function() end },
            ["wrong memory"] = { setup = { vms = { { name = "a", memory = "3 MiB" } } }, run = function() end },
            ["wrong ip"] = { setup = { vms = { { name = "a", ip = "::1" } } }, run = function() end },
          },
        }
        "#,
    );
    let done = machine.run(&["test", "--output", "json"]);
    let rows = rows(&done);
    for name in ["of the file", "of the test"] {
        assert_eq!(rows[name]["status"], "passed", "{}", rows[name]);
    }
    assert_eq!((&rows["left out"]["status"], &rows["left out"]["message"]), (&json!("skipped"), &json!("not yet")));
    assert!(
        rows["wrong name"]["message"].as_str().unwrap().contains("the machine \"a/b/c\""),
        "{}",
        rows["wrong name"]
    );
    for (name, part) in
        [("wrong memory", "setup.vms[1].memory: the memory"), ("wrong ip", "setup.vms[1].ip: is an IPv4")]
    {
        assert!(rows[name]["message"].as_str().unwrap().contains(part), "{}", rows[name]);
    }
}

#[test]
fn tests_are_listed_filtered_and_counted() {
    let tests = [("one fish", ""), ("two fish", ""), ("red", "error('x')")];
    let (machine, done) = tested(&tests, &["--filter", "FISH"]);
    assert_eq!(done.code, 0, "{}", done.out);
    assert!(done.out.contains("2 passed of 2 tests"), "{}", done.out);
    let listed = machine.run(&["test", "--list", "--output", "json"]).ok().json();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one fish", "two fish", "red"]);
    assert_eq!(listed[2]["line"], 9);
    let stopped = machine.run(&["test", "--fail-fast", "--jobs", "1", "--filter", "web_test", "--output", "json"]);
    assert_eq!(stopped.code, 1);
    let none = machine.run(&["test", "--filter", "blue"]);
    assert_eq!((none.code, none.out.as_str()), (2, ""));
    assert!(none.err.contains("usage.no_tests") && none.err.contains("\"blue\""), "{}", none.err);
    let empty = Machine::new();
    assert_eq!(empty.run(&["test"]).code, 2);
    for arguments in [
        &["test", "nowhere"][..],
        &["test", "--jobs", "0"],
        &["test", "t/web.luau", "--root", "/nonexistent"],
        &["test", "/etc/hostname"],
    ] {
        assert_eq!(machine.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn the_junit_file_says_the_same() {
    let (machine, done) = tested(
        &[("good", "print('\\27[31mred\\0')"), ("bad <&>", "print('seen') check.equal('a\\nb', 'a\\nc')")],
        &["--junit", "out.xml"],
    );
    assert_eq!(done.code, 1);
    let text = std::fs::read_to_string(machine.project().join("out.xml")).unwrap();
    for part in [
        r#"<testsuites name="ceso test" tests="2" skipped="0" failures="1" errors="0""#,
        r#"<testsuite name="t/web_test.luau" tests="2""#,
        r#"<testcase name="bad &lt;&amp;&gt;" classname="web_test""#,
        r#"<failure message="expected another text" type="script.error">"#,
        "  - c\n  + b\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains('\0'), "{text}");
    let bad = machine.run(&["test", "t", "--junit", "nowhere/out.xml"]);
    assert_eq!(bad.code, 1);
    assert!(bad.err.contains("nowhere/out.xml: the results were not written"), "{}", bad.err);
}

#[test]
fn files_that_hold_no_tests_are_told_with_their_reason_and_the_others_run() {
    let machine = Machine::new();
    let files = [
        ("a_test.luau", "return 1", "the file returns no tests"),
        ("b_test.luau", "return { tests = { x = 1 } }", "the test x is a function or a table with run"),
        ("c_test.luau", "return { test = {} }", "the file returns no tests"),
        ("d_test.luau", "return { tests = {}, setp = {} }", "has no setp; the nearest: setup"),
        ("e_test.luau", "return { tests = {", "script.syntax"),
        ("f_test.luau", "esxi.connect()\nreturn { tests = {} }", "cannot be called at the top of a file of tests"),
        ("g_test.luau", "return { setup = { vms = { { nam = 1 } } }, tests = { x = function() end } }", "setup.vms[1]"),
        ("h_test.luau", "while true do end", "limit.run_time"),
        ("i_test.luau", "return require('./i_test')", "requires itself"),
        ("j_test.luau", "return { timeout = 'soon', tests = { x = function() end } }", "timeout"),
        ("k_test.luau", "return { tests = { [string.rep('x', 300)] = function() end } }", "1 to 200 characters"),
        (
            "l_test.luau",
            "return { tests = { { name = 'a', run = print }, { name = 'a', run = print } } }",
            "two tests named a",
        ),
        ("m_test.luau", "return setmetatable({ tests = {} }, {})", "the file returns no tests"),
        ("n_test.luau", "return { run = print, needs = {} }", "the file returns no tests"),
        (
            "o_test.luau",
            "local t = {} for n = 1, 10001 do t['t' .. n] = function() end end return { tests = t }",
            "at most 10000",
        ),
    ];
    for (name, text, _) in files {
        machine.file(name, text);
    }
    machine.file("q_test.luau", b"return { tests = { ['\xff\xfe'] = function() end } } -- \xff");
    machine.file("z_test.luau", "return { tests = { fine = function() end } }");
    std::os::unix::fs::symlink("z_test.luau", machine.project().join("y_test.luau")).unwrap();
    let done = machine.run(&["test", "--output", "json", "--timeout", "2 s"]);
    assert_eq!(done.code, 1);
    let json = done.json();
    let row = |file: &str| {
        json["tests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["file"] == file)
            .unwrap_or_else(|| panic!("{file}"))
            .clone()
    };
    for (name, _, part) in files {
        let row = row(name);
        assert_eq!(row["status"], "failed", "{row}");
        assert!(row["text"].as_str().unwrap().contains(part), "{name}: {part} is not in {row}");
    }
    assert!(row("y_test.luau")["text"].as_str().unwrap().contains("it is a link"));
    assert!(matches!(row("q_test.luau")["status"].as_str(), Some("failed" | "passed")));
    assert_eq!(row("z_test.luau")["status"], "passed");
}

#[test]
fn ten_thousand_tests_are_listed_and_one_of_them_is_run() {
    let machine = Machine::new();
    machine.file(
        "many_test.luau",
        "local t = {} for n = 1, 10000 do t['t' .. n] = function() end end return { tests = t }",
    );
    let listed = machine.run(&["test", "--list", "--output", "json"]).ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 10_000);
    let done = machine.run(&["test", "--filter", "t9999"]);
    assert_eq!(done.code, 0, "{}", done.out);
}

#[test]
fn no_test_reads_what_lies_outside_of_its_folder() {
    let machine = Machine::new();
    machine.file("secret.luau", "return { run = function() return 'secret' end }");
    machine.file("t/in.luau", "return { run = function() return require('./lib/x') end }");
    machine.file("t/lib/x.luau", "return 'x'");
    std::os::unix::fs::symlink("../secret.luau", machine.project().join("t/link.luau")).unwrap();
    let names = [
        "/etc/passwd",
        "../secret.luau",
        "./../../project/secret.luau",
        "link.luau",
        "a/../../secret.luau",
        "",
        ".",
        "in",
        "in.luau\\0",
        "/etc/x.luau",
        "~/x.luau",
    ];
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}").replace("\\\\0", "\\0")).collect();
    machine.file(
        "t/sub/x_test.luau",
        format!(
            "local check = require('@ceso/check')\nreturn {{ tests = {{ outside = function(t)\n  for _, name in {{ {} }} do\n    \
             local fault = check.raises(function() t:run(if name == '../secret.luau' then '../../secret.luau' else name) end, 't:run')\n    \
             check.equal(fault.kind, 'usage.file', name)\n  end\n  check.equal(t:run('../in.luau').value, 'x')\n\
             check.raises(function() return require('../lib/x') end)\nend }} }}",
            quoted.join(", ")
        ),
    );
    let done = machine.run(&["test", "t"]);
    assert_eq!(done.code, 0, "{}", done.out);
    let wider = Machine::new();
    wider.file("play.luau", "return { run = function() return 1 end }");
    wider.file("t/x_test.luau", "return { tests = { up = function(t) assert(t:run('../play.luau').ok) end } }");
    assert_eq!(wider.run(&["test", "t"]).code, 1);
    assert_eq!(wider.run(&["test", "t", "--root", "."]).code, 0);
    assert_eq!(wider.run(&["test", "."]).code, 0);
}

#[test]
fn an_ordinary_script_has_no_test_to_call() {
    let machine = Machine::new();
    let done = machine
        .script("local ok, fault = pcall(function() return test end)\nprint(ok, fault)\nreturn tostring(test)", &[]);
    assert!(done.out.contains("nil"), "{}{}", done.out, done.err);
}
