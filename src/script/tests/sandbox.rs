//! Each function that the sandbox replaces, adds or removes; each limit.

use std::time::{Duration, Instant};

use super::*;
use crate::units::Bytes;

#[test]
fn what_loads_code_or_reaches_into_frames_is_gone() {
    for name in crate::script::vm::REMOVED {
        if name != "require" {
            assert_eq!(value(&format!("return {name} == nil")), Value::Bool(true), "{name}");
        }
    }
    assert_eq!(value("return getmetatable('').__index == string"), Value::Bool(true));
}

#[test]
fn libraries_and_globals_are_read_only() {
    for attack in [
        "string.x = 1",
        "table.insert = 1",
        "_G.x = 1",
        "getmetatable('').__index = {}",
        "log.info = print",
        "rawset(_G, 'print', 1)",
        "esxi.x = 1",
        "esxi = nil; _G.esxi = 1",
    ] {
        assert!(message(attack).contains("readonly"), "{attack}: {}", message(attack));
    }
    // A script's own globals are its own.
    assert_eq!(value("print = 1 x = 2 return x + print"), Value::Int(3));
}

#[test]
fn tostring_shows_no_addresses() {
    let shown = value(
        "return { tostring({}), tostring(print), tostring(coroutine.create(print)), tostring(nil), tostring(1.5), tostring(buffer.create(1)) }",
    );
    assert_eq!(shown, list(&["table", "function", "thread", "nil", "1.5", "buffer"]));
    assert_eq!(
        value("return tostring(setmetatable({}, { __tostring = function() return 'me' end }))"),
        Value::Text("me".into())
    );
    assert!(message("tostring()").contains("missing argument"));
}

#[test]
fn string_format_shows_no_addresses() {
    assert_eq!(value("return string.format('%d %s %*', 3, 'x', {})"), Value::Text("3 x table".into()));
    assert_eq!(value("return `{print} {coroutine.create(print)} {1}`"), Value::Text("function thread 1".into()));
    assert_eq!(value("return ('%5.1f|%q|%x'):format(2.25, 'a', 255)"), Value::Text("  2.2|\"a\"|ff".into()));
    assert_eq!(
        value("return (select(2, pcall(string.format, '%d', 'x')))"),
        Value::Text("invalid argument #2 to 'format' (number expected, got string)".into())
    );
}

#[test]
fn string_find_finds_what_luau_finds() {
    let check = "
        local long = string.rep('ab', 600000) .. 'needle.' .. string.rep('c', 10)
        return { { string.find(long, 'needle') }, { string.find(long, 'needle.', 1, true) }, { string.find(long, 'needle.', -17, true) },
            { string.find(long, 'needle', 1200002, true) }, { string.find(long, 'n(ee)dle') }, { string.find('abc', 'b') },
            { string.find('a.c', '.', 1, true) }, { string.find('abc', '', 10) }, { string.find(long, long, 1, true) } }";
    let pair = |a: i64, b: i64| Value::List(vec![Value::Int(a), Value::Int(b)]);
    let none = || Value::Map(vec![]);
    let found = value(check);
    let Value::List(found) = found else { panic!() };
    assert_eq!(found[0], pair(1_200_001, 1_200_006));
    assert_eq!(found[1], pair(1_200_001, 1_200_007));
    assert_eq!(found[2], pair(1_200_001, 1_200_007));
    assert_eq!(found[3], none());
    assert_eq!(found[4], Value::List(vec![Value::Int(1_200_001), Value::Int(1_200_006), Value::Text("ee".into())]));
    assert_eq!(found[5..7], [pair(2, 2), pair(2, 2)]);
    assert_eq!(found[7], none());
    assert_eq!(found[8], pair(1, 1_200_017));
    assert!(message("string.find({}, 'x')").contains("string expected"));
}

#[test]
fn string_split_splits_as_luau_does() {
    let check = "
        local long = string.rep('a', 1000000) .. ',,' .. string.rep('b', 500000)
        local parts = string.split(long, ',')
        local two = string.split(long, ',,')
        return { #parts, #parts[1], #parts[2], #parts[3], #two, #string.split('a,b'), #string.split('abc', ''), #string.split('', ',') }";
    let numbers = [3, 1_000_000, 0, 500_000, 2, 2, 3, 1].map(Value::Int);
    assert_eq!(value(check), Value::List(numbers.to_vec()));
}

#[test]
fn table_sort_sorts_and_can_be_stopped() {
    assert_eq!(value("local t = { 3, 1, 2 } table.sort(t) return t"), Value::List([1, 2, 3].map(Value::Int).to_vec()));
    let long =
        "local t = {} for i = 1, 20000 do t[i] = 20000 - i end table.sort(t) return t[1] == 0 and t[20000] == 19999";
    assert_eq!(value(long), Value::Bool(true));
    let ran = run_within(
        short(),
        "local t = table.create(3000000, 0) for i = 1, #t do t[i] = math.random() end table.sort(t)",
    );
    assert_eq!(ran.error().kind, "limit.run_time");
}

#[test]
fn pcall_and_xpcall_give_what_luau_gives() {
    assert_eq!(
        value("return { pcall(function(a) return a, 2 end, 1) }"),
        Value::List(vec![Value::Bool(true), Value::Int(1), Value::Int(2)])
    );
    assert_eq!(value("return select(2, pcall(error, 'x'))"), Value::Text("x".into()));
    assert_eq!(value("return select(2, pcall(function() error('x') end))"), Value::Text("test.luau:1: x".into()));
    assert_eq!(
        value("return select(2, xpcall(function() error('x', 0) end, function(e) return e .. '!' end))"),
        Value::Text("x!".into())
    );
    assert_eq!(value("return select('#', xpcall(function() end, print))"), Value::Int(1));
    // Across a yield.
    let yields = "local co = coroutine.wrap(function() return pcall(function() return coroutine.yield(1) + 1 end) end) co() return { co(4) }";
    assert_eq!(value(yields), Value::List(vec![Value::Bool(true), Value::Int(5)]));
}

#[test]
fn error_and_assert_name_the_scripts_line() {
    let error = run("\n\nerror('bad')").error().clone();
    assert_eq!((error.kind.as_str(), error.message.as_str(), error.line), ("script.error", "bad", Some(3)));
    assert_eq!(error.file.as_deref(), Some("test.luau"));
    assert_eq!(value("return select(2, pcall(function() error('x', 2) end))"), Value::Text("x".into()));
    assert_eq!(message("assert(false, 'no')"), "no");
    assert_eq!(message("assert(nil)"), "assertion failed!");
    assert_eq!(value("return assert(5, 'x')"), Value::List(vec![Value::Int(5), Value::Text("x".into())]));
}

#[test]
fn coroutines_are_ordinary() {
    assert_eq!(
        value(
            "local n = 0 for x in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do n += x end return n"
        ),
        Value::Int(6)
    );
    assert_eq!(
        value("return { coroutine.resume(coroutine.create(function(a) error({ kind = a }) end), 'k') }"),
        Value::List(vec![Value::Bool(false), Value::Map(vec![("kind".into(), Value::Text("k".into()))])])
    );
    assert_eq!(message("coroutine.wrap(function() error('in there') end)()"), "in there");
    assert_eq!(value("return coroutine.close(coroutine.create(print))"), Value::Bool(true));
}

#[test]
fn os_date_needs_no_file() {
    assert!(matches!(value("return os.date('%Y-%m-%d')"), Value::Text(_)));
    assert_eq!(value("return type(os.time()) .. type(os.clock())"), Value::Text("numbernumber".into()));
    assert_eq!(
        value("return tostring(os.getenv) .. tostring(os.execute) .. tostring(io)"),
        Value::Text("nilnilnil".into())
    );
}

#[test]
fn every_kind_of_uncaught_error_ends_as_words() {
    for (attack, wanted) in [
        ("error()", "the script raised nil"),
        ("error(nil)", "the script raised nil"),
        ("error({})", "the script raised a table without a message"),
        ("error({ message = 5 })", "the script raised a table without a message"),
        ("error({ message = 'mine', hint = 'try' })", "mine"),
        ("error(5)", "5"),
        ("error(true)", "the script raised a boolean"),
        ("error(print)", "the script raised a function"),
        ("error(coroutine.create(print))", "the script raised a thread"),
        ("error(esxi.connect())", "the script raised an object, host box"),
        (
            "error(setmetatable({}, { __index = error, __tostring = error }))",
            "the script raised a table without a message",
        ),
        ("local t = nil; t.x = 1", "attempt to index nil with 'x'"),
        ("local function f() return f() + 1 end f()", "stack overflow"),
    ] {
        let error = run(attack).error().clone();
        assert_eq!(error.kind, "script.error", "{attack}");
        assert!(error.message.contains(wanted), "{attack}: {}", error.message);
        assert_eq!(error.line, Some(1), "{attack}");
    }
    assert_eq!(run("error({ message = 'mine', hint = 'try' })").error().hint.as_deref(), Some("try"));
}

#[test]
fn a_traceback_has_the_scripts_frames_only() {
    let error = run(
        "local function inner()\n  error('x')\nend\nlocal function outer()\n  pcall(print)\n  inner()\nend\nouter()",
    )
    .error()
    .clone();
    assert_eq!(error.traceback.as_deref(), Some("test.luau:2 in inner\ntest.luau:6 in outer\ntest.luau:8"));
}

#[test]
fn a_syntax_error_has_its_line() {
    let error = run("local x = 1\nif x then\n").error().clone();
    assert_eq!((error.kind.as_str(), error.line), ("script.syntax", Some(3)));
    assert!(error.message.starts_with("Expected 'end'"), "{}", error.message);
    assert_eq!(run("\x1bLuaQ\0").error().kind, "script.syntax");
}

#[test]
fn the_deadline_raises_for_ever_and_names_the_line() {
    let begun = Instant::now();
    let ran = run_within(
        short(),
        "print('on')\nlocal n = 0\nwhile true do pcall(function() while true do n += 1 end end) end",
    );
    let error = ran.error();
    assert_eq!((error.kind.as_str(), error.line), ("limit.run_time", Some(3)));
    assert!(error.message.contains("300ms") && error.message.contains("sandbox.run_time"), "{}", error.message);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_call_after_the_deadline_is_refused_wherever_it_comes_from() {
    let ran = run_within(
        short(),
        "local host = esxi.connect()
         local trap = setmetatable({}, { __index = function() return host:vm('late call') end })
         pcall(function() while true do end end)
         return trap.x",
    );
    assert_eq!(ran.error().kind, "limit.run_time");
    assert_eq!(ran.calls.len(), 1);
}

#[test]
fn processor_time_is_a_limit_of_its_own() {
    // The whole test process's time counts here, so it may be over at once.
    let limits = Limits { cpu_time: Span(Duration::from_millis(1)), ..Limits::default() };
    let ran = run_within(limits, "while true do end");
    assert_eq!(ran.error().kind, "limit.cpu_time");
    assert!(ran.error().message.contains("sandbox.cpu_time"));
}

#[test]
fn a_full_memory_ends_the_script_also_when_it_is_caught() {
    let limits = || Limits { memory: Bytes(8 << 20), ..super::roomy() };
    for attack in [
        "local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end",
        "pcall(function() local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end end) while true do esxi.connect() end",
        "xpcall(function() return string.rep('x', 1e9) end, function(e) return e end) while true do esxi.connect() end",
        "coroutine.resume(coroutine.create(function() return string.rep('x', 1e9) end)) while true do esxi.connect() end",
        "pcall(coroutine.wrap(function() return string.rep('x', 1e9) end)) while true do esxi.connect() end",
        "pcall(table.create, 1e7, 1) while true do esxi.connect() end",
        "pcall(buffer.create, 1e9) while true do esxi.connect() end",
    ] {
        let ran = run_within(limits(), attack);
        assert_eq!(ran.error().kind, "limit.memory", "{attack}: {:?}", ran.error());
        assert!(ran.error().message.contains("8 MiB") && ran.error().message.contains("sandbox.memory"));
        assert!(ran.calls.len() < 1100, "{attack}: {} calls went on", ran.calls.len());
    }
}

#[test]
fn a_script_that_only_says_that_memory_is_full_is_an_error_of_its_own() {
    for attack in [
        "error('not enough memory', 0)",
        "assert(false, 'not enough memory')",
        "pcall(error, 'not enough memory', 0) error('x')",
    ] {
        assert_eq!(run(attack).error().kind, "script.error", "{attack}");
    }
    assert_eq!(
        value("pcall(assert, false, 'not enough memory') pcall(error, 'not enough memory', 0) return 1"),
        Value::Int(1)
    );
}

#[test]
fn garbage_is_collected_before_the_limit_is_met() {
    let limits = Limits { memory: Bytes(8 << 20), ..super::roomy() };
    for churn in [
        "for i = 1, 2000 do local s = string.rep('x', 500000) .. i end return 1",
        "for i = 1, 200000 do local t = { i, { i } } end return 1",
        "for i = 1, 500 do local b = buffer.create(1000000) end return 1",
        "local s = '' for i = 1, 20000 do s ..= 'x' end return 1",
        "for i = 1, 20 do local t = {} for k = 1, 20000 do t[k] = tostring(k) end end return 1",
        "for i = 1, 20000 do coroutine.wrap(function() coroutine.yield() end)() end return 1",
    ] {
        assert_eq!(run_within(limits.clone(), churn).end, Some(Ok(Value::Int(1))), "{churn}");
    }
    let large = "for i = 1, 100 do local s = string.rep('x', 5000000) .. i end return 1";
    assert_eq!(run(large).end, Some(Ok(Value::Int(1))));
}

#[test]
fn output_calls_and_source_are_limited_by_name() {
    let limits = Limits { output: Bytes(1000), calls: 5, source: Bytes(500), ..super::roomy() };
    let ran = run_within(limits.clone(), "while true do pcall(print, string.rep('x', 100)) end");
    assert_eq!(ran.error().kind, "limit.output");
    assert!(ran.printed.len() <= 10 && ran.error().message.contains("sandbox.output"));
    let ran = run_within(limits.clone(), "for i = 1, 10 do esxi.connect() end");
    assert_eq!((ran.error().kind.as_str(), ran.calls.len()), ("limit.calls", 5));
    assert!(ran.error().message.contains('5') && ran.error().message.contains("sandbox.calls"));
    let ran = run_within(limits.clone(), &format!("return 1 --{}", "x".repeat(500)));
    assert_eq!(ran.error().kind, "limit.source");
    assert!(ran.error().message.contains("500 B") && ran.error().message.contains("sandbox.source"));
    // The limit is on calls, not on what is caught.
    let ran = run_within(limits, "for i = 1, 10 do pcall(esxi.connect) end return 'on'");
    assert_eq!((ran.value(), ran.calls.len()), (&Value::Text("on".into()), 5));
}

#[test]
fn bytecode_is_refused_because_only_text_is_taken() {
    use mlua::chunk::{ChunkMode, Compiler};

    let bytecode = Compiler::new().compile("return 'ran'").unwrap();
    let lua = mlua::Lua::new();
    let load = |mode| lua.load(bytecode.clone()).set_mode(mode).eval::<String>();
    assert_eq!(load(ChunkMode::Binary).unwrap(), "ran");
    assert!(load(ChunkMode::Text).is_err());
    let ran = run_as(|source| Purpose::Run(Source { text: bytecode.clone(), ..source }), "", super::roomy());
    assert_eq!(ran.error().kind, "script.syntax");
}

#[test]
fn a_nul_hides_nothing_that_stands_behind_it() {
    let error = run("local x = 1\nx = 2 \0 error('hidden')").error().clone();
    assert_eq!((error.kind.as_str(), error.line), ("script.syntax", Some(2)));
    assert!(error.message.contains("NUL"), "{error:?}");
}
