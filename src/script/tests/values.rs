//! Values out of Lua and into it: what fits, what does not, and that nothing changes on the way.

use proptest::prelude::*;

use super::*;
use crate::script::value::{Unfit, from_lua, to_lua};

fn refused(expression: &str) -> String {
    message(&format!("return {expression}"))
}

#[test]
fn ordinary_values_arrive_as_they_are_meant() {
    let table = "return { whole = 3, float = 1.5, text = 'é', bytes = '\\xff', list = { 1, 'a', false }, empty = {}, map = { a = { b = 1 } }, big = 2^53, minus = -0 }";
    let map = |entries: &[(&str, Value)]| {
        Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    };
    let wanted = map(&[
        ("big", Value::Int(1 << 53)),
        ("bytes", Value::Bytes(vec![0xff])),
        ("empty", map(&[])),
        ("float", Value::Float(1.5)),
        ("list", Value::List(vec![Value::Int(1), Value::Text("a".into()), Value::Bool(false)])),
        ("map", map(&[("a", map(&[("b", Value::Int(1))]))])),
        ("minus", Value::Int(0)),
        ("text", Value::Text("é".into())),
        ("whole", Value::Int(3)),
    ]);
    assert_eq!(value(table), wanted);
    assert_eq!(value("return"), Value::Nil);
    assert_eq!(value("return 1, nil, 'x'"), Value::List(vec![Value::Int(1), Value::Nil, Value::Text("x".into())]));
}

#[test]
fn what_has_no_place_on_the_wire_is_refused_with_its_path() {
    for (expression, wanted) in [
        ("{ a = { b = print } }", "a.b: a function"),
        ("{ list = { 1, coroutine.create(print) } }", "list[2]: a coroutine"),
        ("{ 0/0 }", "[1]: NaN"),
        ("{ x = math.huge }", "x: inf"),
        ("{ 1, 2, x = 3 }", "both a list and has the key \"x\""),
        ("{ 1, 2, [5] = 3 }", "both a list and has the key 5"),
        ("{ [5] = 3 }", "a list with holes, or a key that is a number (5)"),
        ("{ [true] = 3 }", "a key that is a boolean"),
        ("{ [{}] = 3 }", "a key that is a table"),
        ("{ ['\\xff'] = 3 }", "a key that is not UTF-8"),
        ("{ b = buffer.create(3) }", "b: a buffer"),
        ("{ v = vector.create(1, 2, 3) }", "v: a value of a type"),
    ] {
        let said = refused(expression);
        assert!(said.contains(wanted), "{expression}: {said}");
    }
}

#[test]
fn hostile_tables_are_refused_in_time() {
    for (attack, wanted) in [
        ("local t = {} t.t = t return t", "contains itself"),
        ("local t = {} for i = 1, 70 do t = { t } end return t", "deeper than 64"),
        ("local t = { 1 } for i = 1, 60 do t = { t, t } end return t", "more than 1048576 values"),
        ("local s = string.rep('x', 1000000) local t = {} for i = 1, 20 do t[i] = s end return t", "16 MiB"),
        ("local t = {} t[string.rep('k', 17000000)] = 1 return t", "16 MiB"),
        ("local t = { 1 } t[2] = t return t", "[2]: a table that contains itself"),
    ] {
        let said = message(attack);
        assert!(said.contains(wanted), "{attack}: {said}");
    }
    // A table that is only shared is no loop.
    assert!(matches!(value("local s = { 1 } return { s, s }"), Value::List(items) if items.len() == 2));
    // A metatable is not asked.
    assert_eq!(
        value("return setmetatable({ 1 }, { __index = error, __len = error, __iter = error })"),
        Value::List(vec![Value::Int(1)])
    );
}

#[test]
fn deep_values_fit_through_the_whole_way() {
    let ran = run("local t = {} for i = 1, 60 do t = { t } end esxi.connect({ name = t }) return t");
    assert!(ran.end.as_ref().unwrap().is_ok(), "{:?}", ran.end);
    assert_eq!(ran.calls.len(), 1);
}

/// A value that a script can hold: what comes back must be the same.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-(1i64 << 53)..=(1i64 << 53)).prop_map(Value::Int),
        any::<f64>().prop_filter("a finite fraction", |n| n.is_finite() && n.fract() != 0.0).prop_map(Value::Float),
        ".*".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..20)
            .prop_filter("not UTF-8", |bytes| std::str::from_utf8(bytes).is_err())
            .prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..8).prop_map(Value::List),
            proptest::collection::btree_map(".{0,8}", inner, 0..8)
                .prop_map(|map| Value::Map(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_value_that_goes_into_lua_comes_out_the_same(value in values()) {
        let lua = mlua::Lua::new();
        let inside = to_lua(&lua, value.clone()).unwrap();
        prop_assert_eq!(from_lua(&inside, Unfit::Refuse).unwrap(), value);
    }

    #[test]
    fn whole_numbers_that_lua_cannot_hold_come_as_their_digits(number in any::<i64>()) {
        let lua = mlua::Lua::new();
        match to_lua(&lua, Value::Int(number)).unwrap() {
            mlua::Value::Number(n) => prop_assert_eq!(n as i64, number),
            mlua::Value::String(text) => prop_assert_eq!(text.to_string_lossy(), number.to_string()),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_result_that_is_too_large_or_of_too_many_values_is_the_scripts_own_error() {
    for text in [
        "return table.create(1100000, 1)",
        "return string.rep('x', 20000000)",
        "local host = esxi.connect() return table.create(200000, host)",
    ] {
        let said = message(text);
        assert!(said.contains("too large") || said.contains("in one message"), "{text}: {said}");
    }
}
