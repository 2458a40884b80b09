//! Bindings, handles, faults, tasks, modules, playbooks.

use super::*;

fn arguments(text: &str) -> serde_json::Value {
    let ran = run(&format!("local host = esxi.connect() local vm = host:vm('web-1') {text}"));
    assert!(ran.end.as_ref().unwrap().is_ok(), "{text}: {:?}", ran.end);
    let (operation, arguments) = ran.calls.last().unwrap();
    serde_json::json!([operation, arguments.to_json()])
}

fn refused(text: &str) -> String {
    message(&format!("local host = esxi.connect() local vm = host:vm('web-1') {text}"))
}

#[test]
fn arguments_go_by_position_and_by_name() {
    let host = serde_json::json!({ "name": "" });
    for (text, operation, rest) in [
        ("host:vm('a')", "vm.get", serde_json::json!({ "host": host, "name": "a" })),
        ("host:vm({ name = 'a' })", "vm.get", serde_json::json!({ "host": host, "name": "a" })),
        ("host:vm('a', { more = 1 })", "vm.get", serde_json::json!({ "host": host, "more": 1, "name": "a" })),
        ("host:vm({ 'a', 'b' })", "vm.get", serde_json::json!({ "host": host, "name": ["a", "b"] })),
        ("host:vms()", "vm.list", serde_json::json!({ "host": host })),
        ("vm:ensure_power('on')", "vm.ensure_power", serde_json::json!({ "state": "on", "vm": host })),
        (
            "vm:ensure_guestinfo(cloudinit.build({ hostname = 'x' }))",
            "vm.ensure_guestinfo",
            serde_json::json!({ "document": host, "vm": host }),
        ),
        ("cloudinit.build({})", "cloudinit.build", serde_json::json!([])),
        ("esxi.connect(nil)", "host.connect", serde_json::json!([])),
    ] {
        assert_eq!(arguments(text), serde_json::json!([operation, rest]), "{text}");
    }
}

#[test]
fn mistakes_in_a_call_are_named() {
    for (text, wanted) in [
        ("host:vm('a', 'b')", "host:vm was given 2 arguments by position and takes name"),
        ("host:vms('a')", "takes none"),
        ("host:vm('a', { name = 'b' })", "name is given both"),
        ("host:vm({ host = 1, name = 'x' })", "host is the object itself"),
        ("host.vm('a')", "call it with a colon"),
        ("host.vm(vm, 'a')", "method of a host"),
        ("host:vm({ name = print })", "name: a function"),
        ("host:vmm('a')", "the nearest: vm"),
        ("return vm.powr", "the nearest: power"),
        ("return esxi.conect()", "esxi has no conect; the nearest: connect"),
        ("vm.power = 'on'", "read-only"),
        ("vm()", "not a function"),
        ("return #vm", "no length"),
        ("host:vm({ [true] = 1 })", "is a string, not a boolean"),
    ] {
        let said = refused(text);
        assert!(said.contains(wanted), "{text}: {said}");
    }
    assert_eq!(run("local h = esxi.connect()\n\nh:vm('a', 'b')").error().line, Some(3));
}

#[test]
fn handles_are_opaque_equal_by_object_and_read_only() {
    let check = "
        local host = esxi.connect()
        local a, b, list = host:vm('web-1'), host:vm('web-1'), host:vms()
        local fields = {}
        for key, value in a do table.insert(fields, key .. '=' .. tostring(value)) end
        table.sort(fields)
        return { a == b, a == list[1], a == list[2], a == host, tostring(a), typeof(a), type(a), a.power, a.cpus, a.name,
            getmetatable(a) == nil or getmetatable(a) == false, table.concat(fields, ' '), pcall(rawset, a, 'x', 1) }";
    let Value::List(seen) = value(check) else { panic!() };
    let wanted = [
        Value::Bool(true),
        Value::Bool(true),
        Value::Bool(false),
        Value::Bool(false),
        Value::Text("vm web-1".into()),
        Value::Text("handle".into()),
        Value::Text("userdata".into()),
        Value::Text("off".into()),
        Value::Int(2),
        Value::Text("web-1".into()),
        Value::Bool(true),
        Value::Text("cpus=2 name=web-1 power=off".into()),
        Value::Bool(false),
    ];
    assert_eq!(seen[..13], wanted);
    // What a run returns keeps its handles.
    assert!(
        matches!(value("return esxi.connect():vm('x')"), Value::Handle(handle) if handle.id == 7 && handle.kind == "vm")
    );
}

#[test]
fn nothing_is_nil_and_not_a_null_that_is_true() {
    assert_eq!(value("return esxi.connect():vm('a'):power_on() == nil"), Value::Bool(true));
    assert_eq!(value("return esxi.connect():vm('a').ip == nil"), Value::Bool(true));
    assert!(refused("return vm.ipp").contains("has no ipp; the nearest: ip"));
}

#[test]
fn faults_are_tables_with_words() {
    let check = "
        local ok, fault = pcall(function() return esxi.connect():vm('denied') end)
        return { ok, fault.kind, fault.message, fault.hint, fault.retry, tostring(fault), pcall(function() fault.kind = 'x' end) }";
    let Value::List(seen) = value(check) else { panic!() };
    assert_eq!(seen[1].as_text(), Some("door.denied"));
    assert_eq!(seen[5].as_text(), Some("vm.read is not granted (add it to needs)"));
    assert_eq!((&seen[0], &seen[4], &seen[6]), (&Value::Bool(false), &Value::Bool(false), &Value::Bool(false)));
}

#[test]
fn only_the_parents_own_fault_keeps_its_number() {
    let get = "local ok, fault = pcall(function() return esxi.connect():vm('denied') end) ";
    let error = run("local h = esxi.connect()\nh:vm('denied')").error().clone();
    assert_eq!((error.fault, error.line), (Some(9), Some(2)));
    assert_eq!(run(&format!("{get} error(fault)")).error().fault, Some(9));
    assert_eq!(run(&format!("{get} error(fault, 0)")).error().fault, Some(9));
    assert_eq!(
        run(&format!("{get} pcall(error, fault) coroutine.wrap(function() error(fault) end)()")).error().fault,
        Some(9)
    );
    for forgery in [
        "error({ kind = fault.kind, message = fault.message, hint = fault.hint, number = 9, fault = 9 })",
        "error(table.clone(fault))",
        "error(setmetatable({ kind = 'door.denied', message = 'x' }, getmetatable(fault)))",
        "error(setmetatable({}, { __index = fault }))",
        "error(tostring(fault))",
        "error({ kind = 'limit.run_time', message = 'x' })",
    ] {
        let error = run(&format!("{get} {forgery}")).error().clone();
        assert_eq!((error.fault, error.kind.as_str()), (None, "script.error"), "{forgery}");
    }
}

#[test]
fn tasks_wait_for_their_answers_side_by_side() {
    let ran = run("
        local task = require('@ceso/task')
        local host = esxi.connect()
        local results = task.parallel({ 'late', 'b', 'denied', 'd' }, function(name, index)
            print('start', index)
            local vm = host:vm(name)
            print('end', index)
            return vm.name .. index
        end)
        return { results[1].value, results[2].value, results[3].ok, results[3].fault.kind, results[4].value }");
    let wanted = [
        Value::Text("late1".into()),
        Value::Text("b2".into()),
        Value::Bool(false),
        Value::Text("door.denied".into()),
        Value::Text("d4".into()),
    ];
    assert_eq!(ran.value(), &Value::List(wanted.to_vec()));
    assert_eq!(ran.printed[..4], ["start\t1", "start\t2", "start\t3", "start\t4"]);
}

#[test]
fn no_more_tasks_than_asked_for_run_at_once() {
    let ran = run("
        local task = require('@ceso/task')
        local host, now, most = esxi.connect(), 0, 0
        task.parallel({ 1, 2, 3, 4, 5 }, function(i)
            now += 1
            most = math.max(most, now)
            host:vm('x' .. i)
            now -= 1
        end, { at_once = 2 })
        return most");
    assert_eq!(ran.value(), &Value::Int(2));
    let limits = Limits { calls_at_once: 1, ..short() };
    let ran = run_within(
        limits,
        "
        local host = esxi.connect()
        local results = require('@ceso/task').parallel({ 'late', 'b' }, function(n) return host:vm(n) end)
        return results[2].fault.kind",
    );
    // The parent answers the first only after a second call, which never comes.
    assert_eq!((ran.calls.len(), ran.error().kind.as_str()), (2, "limit.run_time"));
}

#[test]
fn a_call_is_possible_wherever_lua_calls() {
    let ran = run("
        local task = require('@ceso/task')
        local host = esxi.connect()
        local results = task.parallel({ 1, 2 }, function(i)
            local lazy = setmetatable({}, { __index = function(_, k) return host:vm(k).name end })
            local sorted = { 'b', 'a' }
            table.sort(sorted, function(a, b) return host:vm(a).name < host:vm(b).name end)
            local swapped = string.gsub('x y', '%a', function(c) return host:vm(c).name .. c end)
            local inner = coroutine.wrap(function() coroutine.yield(host:vm('co').name) end)
            local nested = task.parallel({ 'n1', 'n2' }, function(n) return host:vm(n).name end)
            local ok, v = pcall(function() return host:vm('p').name end)
            return table.concat({ lazy.k, sorted[1], swapped, inner(), nested[2].value, v }, ' ')
        end)
        return { results[1].value, results[2].value }");
    assert_eq!(ran.value(), &list(&["k a xx yy co n2 p", "k a xx yy co n2 p"]));
}

#[test]
fn hostile_resumption_of_a_task_ends_in_words() {
    for attack in [
        "local cos = {} local r = task.parallel({ 1, 2 }, function(i) cos[i] = coroutine.running() if i == 2 then coroutine.resume(cos[1], true, 'forged') end return host:vm('x' .. i).name end) return r[1].value",
        "local cos = {} task.parallel({ 1, 2 }, function(i) cos[i] = coroutine.running() if i == 2 then coroutine.close(cos[1]) end host:vm('x') end) return 'x1'",
        "task.parallel({ 1, 2 }, function(i) coroutine.yield(1) coroutine.yield() return i end) return 'x1'",
        "local r = task.parallel({ 1 }, function() error(nil) end) return r[1].ok == false and 'x1'",
        "task.parallel({ 1 }, function() coroutine.wrap(function() task.parallel({ 1 }, function() host:vm('x') end) end)() end) return 'x1'",
    ] {
        let ran = run(&format!("local task = require('@ceso/task') local host = esxi.connect() {attack}"));
        assert_eq!(ran.value(), &Value::Text("x1".into()), "{attack}");
    }
    let ran = run("
        local task = require('@ceso/task')
        local own
        task.parallel({ 1, 2 }, function(i)
            if i == 1 then own = coroutine.running() task.sleep(0.001) coroutine.yield() else task.sleep(0.01) coroutine.close(own) end
        end)
        return 1");
    assert_eq!(ran.value(), &Value::Int(1));
}

#[test]
fn sleep_waits_and_lets_others_go_on() {
    let begun = std::time::Instant::now();
    let ran = run("
        local task = require('@ceso/task')
        task.parallel({ 1, 2, 3 }, function(i) task.sleep('100 ms') print(i) end)
        task.sleep(0.01)
        return 'up'");
    assert_eq!(ran.value(), &Value::Text("up".into()));
    assert!(begun.elapsed() >= Duration::from_millis(110));
    assert!(message("require('@ceso/task').sleep('soon')").contains("not a duration"));
    assert!(message("require('@ceso/task').sleep(-1)").contains("no number of seconds"));
    assert!(message("require('@ceso/task').sleep(0/0)").contains("no number of seconds"));
    assert_eq!(run_within(short(), "require('@ceso/task').sleep('1 h')").error().kind, "limit.run_time");
}

#[test]
fn what_is_deferred_runs_last_first_also_after_an_error() {
    let ran = run(
        "local task = require('@ceso/task') task.defer(function() print(1) end) task.defer(function() print(2) end) error('x')",
    );
    assert_eq!(
        (ran.printed, ran.end.unwrap().unwrap_err().message.as_str()),
        (vec!["2".to_owned(), "1".to_owned()], "x")
    );
    let ran = run(
        "local task = require('@ceso/task') task.defer(function() error('late') end) task.defer(function() error('later') end) return 1",
    );
    assert_eq!(ran.error().message, "later");
    assert!(ran.logged[0].contains("late"), "{:?}", ran.logged);
}

#[test]
fn progress_is_clamped_and_thinned_out() {
    let ran = run(
        "local task = require('@ceso/task') for i = 0, 0.999, 0.001 do task.progress('copy', i) end task.progress('other', -5) task.progress('copy', 1)",
    );
    let labels = |wanted: &str| {
        let frames = ran.frames.iter();
        frames.filter(|frame| matches!(frame, FromWorker::Progress { label, .. } if label == wanted)).count()
    };
    assert!((1..20).contains(&labels("copy")), "{}", labels("copy"));
    assert_eq!(labels("other"), 1);
    let fractions = |frame: &FromWorker| match frame {
        FromWorker::Progress { fraction: Some(fraction), .. } => (0.0..=1.0).contains(fraction),
        _ => true,
    };
    assert!(ran.frames.iter().all(fractions));
    let many = run("local task = require('@ceso/task') for i = 1, 1000 do task.progress('label ' .. i, 0.5) end");
    assert_eq!(many.frames.iter().filter(|frame| matches!(frame, FromWorker::Progress { .. })).count(), 64);
    assert!(message("require('@ceso/task').progress('x', 0/0)").contains("0 to 1"));
}

#[test]
fn a_row_is_told_for_programs_and_for_people() {
    let ran = run("require('@ceso/task').row({ name = 'a', size = 1 }, 'a  1')");
    let rows = ran.frames.iter().filter_map(|frame| match frame {
        FromWorker::Row { value, text } => Some((value.clone(), text.clone())),
        _ => None,
    });
    let row = Value::Map(vec![("name".into(), Value::Text("a".into())), ("size".into(), Value::Int(1))]);
    assert_eq!(rows.collect::<Vec<_>>(), [(row, "a  1".to_owned())]);
    assert!(message("require('@ceso/task').row({ f = print }, '')").contains("task.row"));
}

#[test]
fn a_script_says_that_it_was_misused_and_nothing_else_that_is_not_its_own() {
    let ran = run("require('@ceso/task').misuse('give --on or --off', 'one of them')");
    let error = ran.error();
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("usage.script", "give --on or --off"));
    assert_eq!(error.hint.as_deref(), Some("one of them"));
    for forgery in [
        "error({ kind = 'usage.script', message = 'x' })",
        "error(table.clone(select(2, pcall(require('@ceso/task').misuse, 'x'))))",
    ] {
        assert_eq!(run(forgery).error().kind, "script.error", "{forgery}");
    }
}

#[test]
fn fleet_map_says_what_was_done() {
    let ran = run(
        "
        local host = esxi.connect()
        return require('@ceso/fleet').map({ 'a', 'b' }, function(name) return host:vm(name).name end, { at_once = 1 })",
    );
    assert_eq!(ran.value(), &list(&["a", "b"]));
    let ran = run("
        local host = esxi.connect()
        local fleet = require('@ceso/fleet')
        fleet.map({ 'a', 'denied', 'c' }, function(name)
            return host:vm(name).name
        end)");
    let error = ran.error();
    assert_eq!((error.fault, error.line), (Some(9), Some(5)));
    assert_eq!(ran.logged, ["Error done: a, c; failed: denied"]);
}

#[test]
fn fleet_address_hands_out_addresses_of_a_pool() {
    assert_eq!(
        value(
            "local f = require('@ceso/fleet') return { f.address('10.0.1.240/29', 1, 24), f.address('10.0.1.243/29', 6, 24), f.address('10.255.255.0/8', 300, 16), f.address('fd00::/64', 1, 64) }"
        ),
        list(&["10.0.1.241/24", "10.0.1.246/24", "10.0.1.44/16", "fd00::1/64"])
    );
    for (call, wanted) in [
        ("'10.0.1.240/29', 7, 24", "has 6 addresses"),
        ("'10.0.1.240/29', 0, 24", "numbered from 1"),
        ("'10.0.1.240', 2, 24", "has 1 addresses"),
        ("'300.0.0.0/8', 1, 24", "neither a network"),
        ("'10.0.0.0/31', 3, 24", "has 2 addresses"),
        ("'10.0.0.0/24', 1, 40", "the prefix length"),
        ("'10.0.0.0/24', 1, nil", "not the prefix length"),
        ("nil, 1, 24", "neither a network"),
    ] {
        let error = run(&format!("\nrequire('@ceso/fleet').address({call})")).error().clone();
        assert!(error.message.contains(wanted), "{call}: {}", error.message);
        assert_eq!(error.line, Some(2));
    }
}

#[test]
fn modules_run_once_and_have_globals_of_their_own() {
    let ran = run(
        "local a, b = require('one'), require('./one') return { a.value, a.deep, require('two'), a == b, count == nil }",
    );
    assert_eq!(
        ran.value(),
        &Value::List(vec![Value::Int(1), Value::Int(1), Value::Int(1), Value::Bool(true), Value::Bool(true)])
    );
    assert_eq!(value("return require('calls')"), Value::Text("box".into()));
    assert_eq!(value("return require('@ceso/task') == require('@ceso/task')"), Value::Bool(true));
}

#[test]
fn a_module_that_cannot_be_had_says_why() {
    for (text, wanted) in [
        ("require('ring')", "requires itself"),
        ("require('nothing')", "must return one value"),
        ("require('@ceso/flet')", "the nearest: @ceso/fleet"),
        ("require('@other/x')", "has no @other/x"),
        ("require(5)", "not a number"),
        ("require('absent')", "no module absent"),
        ("require('x\\0y')", "no module"),
    ] {
        let said = message(text);
        assert!(said.contains(wanted), "{text}: {said}");
    }
    let error = run("require('broken')").error().clone();
    assert_eq!(
        (error.kind.as_str(), error.file.as_deref(), error.line),
        ("script.syntax", Some("broken.luau"), Some(1))
    );
    let error = run("require('fails')").error().clone();
    assert_eq!(
        (error.message.as_str(), error.file.as_deref(), error.line),
        ("on purpose", Some("fails.luau"), Some(2))
    );
    // A failure is not remembered as a cycle.
    assert_eq!(
        value("pcall(require, 'fails') return select(2, pcall(require, 'fails')).message"),
        Value::Text("on purpose".into())
    );
    assert_eq!(run("require('absent')").error().fault, Some(3));
}

#[test]
fn a_playbook_waits_for_its_parameters() {
    let ran = run(
        "local doc = cloudinit.build({}) return { summary = 's', params = { name = { type = 'string' } }, run = function(p) return esxi.connect():vm(p.name).name end }",
    );
    assert_eq!(ran.value(), &Value::Text("web-1".into()));
    let declaration = ran.frames.iter().find_map(|frame| match frame {
        FromWorker::Loaded { declaration } => Some(declaration.to_json()),
        _ => None,
    });
    assert_eq!(declaration, Some(serde_json::json!({ "params": { "name": { "type": "string" } }, "summary": "s" })));
}

#[test]
fn a_call_at_the_top_makes_a_plain_script() {
    assert!(message("esxi.connect() return { run = function() end }").contains("at its top level"));
    assert!(message("return { needs = {} }").contains("needs a function `run`"));
    assert!(message("return { params = {}, run = 5 }").contains("needs a function `run`"));
    assert!(message("return { run = print, doc = print }").contains("doc: a function"));
    assert_eq!(value("return { rows = 1 }").to_json(), serde_json::json!({ "rows": 1 }));
}

#[test]
fn a_check_calls_nothing() {
    let check = |text: &str| run_as(Purpose::Check, text, super::roomy());
    let ran = check("return { run = function() end, summary = 'x' }");
    assert!(matches!(ran.frames.last(), Some(FromWorker::Loaded { .. })));
    let ran = check("pcall(esxi.connect) while true do pcall(esxi.connect) end");
    assert!(matches!(ran.frames.last(), Some(FromWorker::Plain)) && ran.calls.is_empty(), "{ran:?}");
    assert!(matches!(check("return 1").frames.last(), Some(FromWorker::Plain)));
    assert_eq!(check("x = = 1").error().kind, "script.syntax");
    assert_eq!(check("error('x')").error().kind, "script.error");
}

#[test]
fn several_files_are_described_apart() {
    let file = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let files = vec![
        file("a.luau", "x = 1 return { summary = 'a', run = function() end }"),
        file("b.luau", "esxi.connect() return { run = function() end }"),
        file("c.luau", "return ("),
        file("d.luau", "while true do end"),
        file("e.luau", "return { summary = tostring(x), run = function() end }"),
        file("f.luau", "print('x')"),
    ];
    let ran = run_as(|_| Purpose::Describe(files), "", short());
    let outcomes: Vec<String> = ran
        .frames
        .iter()
        .filter_map(|frame| match frame {
            FromWorker::Described { name, outcome } => Some(match outcome {
                Ok(value) => format!("{name} {}", value.to_json()),
                Err(error) => format!("{name} {}", error.kind),
            }),
            _ => None,
        })
        .collect();
    let wanted = [
        "a.luau {\"summary\":\"a\"}",
        "b.luau script.error",
        "c.luau script.syntax",
        "d.luau limit.run_time",
        "e.luau {\"summary\":\"nil\"}",
        "f.luau script.error",
    ];
    assert_eq!(outcomes, wanted);
    assert!(ran.calls.is_empty());
}

#[test]
fn print_and_log_join_what_they_are_given() {
    let ran =
        run("print() print('a', 1, nil, true, {}) log.info('x', 2) log.error('bad\\xff') log.debug({}) log.warn()");
    assert_eq!(ran.printed, ["", "a\t1\tnil\ttrue\ttable"]);
    assert_eq!(ran.logged, ["Info x 2", "Error bad\u{fffd}", "Debug table", "Warn "]);
}
