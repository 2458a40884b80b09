//! The modules of the standard library beside what they must agree with: Rust's own addresses, ipnet, and ceso's units.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ceso::units::{Bytes, Span};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::support::Machine;

/// Runs a plain script on the simulator and gives its result.
fn result(text: &str) -> Value {
    Machine::new().script(text, &["--output", "json"]).ok().json()
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    fn below(&mut self, most: u64) -> u64 {
        (self.next() >> 11) % most
    }

    /// An address with runs of zeros and ones, as real ones have.
    fn address(&mut self) -> IpAddr {
        if self.below(2) == 0 {
            return IpAddr::V4(Ipv4Addr::from(self.next() as u32));
        }
        let groups = std::array::from_fn(|_| match self.below(5) {
            0 | 1 => 0,
            2 => 0xffff,
            3 => self.below(16) as u16,
            _ => self.next() as u16,
        });
        IpAddr::V6(Ipv6Addr::from(groups))
    }

    fn network(&mut self) -> IpNet {
        let address = self.address();
        let width = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, self.below(width + 1) as u8).unwrap()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn moved(address: IpAddr, by: i64) -> Option<String> {
    let to = number(address).checked_add_signed(by.into())?;
    match address {
        IpAddr::V4(_) => Some(Ipv4Addr::from(u32::try_from(to).ok()?).to_string()),
        IpAddr::V6(_) => Some(Ipv6Addr::from(to).to_string()),
    }
}

/// The hosts of a network by the rules that `@ceso/net` states.
fn hosts(network: IpNet) -> (u128, u128) {
    let (first, last) = (number(network.network()), number(network.broadcast()));
    match network {
        _ if network.max_prefix_len() - network.prefix_len() < 2 => (first, last),
        IpNet::V4(_) => (first + 1, last - 1),
        IpNet::V6(_) => (first + 1, last),
    }
}

#[test]
fn networks_are_taken_apart_as_ipnet_does() {
    let mut numbers = Numbers(7);
    let networks: Vec<IpNet> = (0..400).map(|_| numbers.network()).collect();
    let mut text = String::from("local net = require(\"@ceso/net\")\nlocal all = {}\nfor _, text in {\n");
    for network in &networks {
        writeln!(text, "  \"{}/{}\",", network.addr(), network.prefix_len()).unwrap();
    }
    text.push_str("} do table.insert(all, net.parse(text)) end\nreturn all\n");
    let found = result(&text);
    for (network, found) in networks.iter().zip(found.as_array().unwrap()) {
        let (first, last) = hosts(*network);
        let netmask = match network {
            IpNet::V4(v4) => json!(v4.netmask().to_string()),
            IpNet::V6(_) => Value::Null,
        };
        let told = found["hosts"].as_f64().unwrap();
        let exact = (last - first) as f64 + 1.0;
        assert!((told - exact).abs() <= exact / 2f64.powi(52), "{network}: {told} hosts, not {exact}");
        let expected = json!({
            "address": network.addr().to_string(),
            "prefix": network.prefix_len(),
            "family": if network.addr().is_ipv4() { 4 } else { 6 },
            "network": network.trunc().to_string(),
            "first": network.network().to_string(),
            "last": network.broadcast().to_string(),
        });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&found[key], value, "{network}: {key}");
        }
        assert_eq!(found.get("netmask").cloned().unwrap_or_default(), netmask, "{network}");
    }
}

#[test]
fn addresses_are_added_compared_and_contained_as_numbers_are() {
    let mut numbers = Numbers(11);
    let cases: Vec<(IpAddr, i64, IpNet, IpNet)> = (0..400)
        .map(|_| {
            let size = numbers.below(53);
            let by = (numbers.next() & ((1 << size) - 1)) as i64 * if numbers.below(2) == 0 { 1 } else { -1 };
            let (address, one) = (numbers.address(), numbers.network());
            // Half of the pairs lie within each other.
            let other = if numbers.below(2) == 0 {
                numbers.network()
            } else {
                IpNet::new(one.addr(), numbers.below(u64::from(one.max_prefix_len()) + 1) as u8).unwrap()
            };
            (address, by, one, other)
        })
        .collect();
    let mut text = String::from("local net = require(\"@ceso/net\")\nlocal all = {}\nfor _, case in {\n");
    for (address, by, one, other) in &cases {
        writeln!(text, "  {{ \"{address}\", {by}, \"{one}\", \"{other}\" }},").unwrap();
    }
    text.push_str(
        "} do\n  local address, by, one, other = unpack(case)\n  local ok, moved = pcall(net.add, address, by)\n\
         table.insert(all, { moved = if ok then moved else nil, contains = net.contains(one, other), overlaps = net.overlaps(one, other),\n\
         compare = net.compare(net.parse(one).address, net.parse(other).address), canonical = net.canonical(one) })\nend\nreturn all\n",
    );
    let found = result(&text);
    for ((address, by, one, other), found) in cases.iter().zip(found.as_array().unwrap()) {
        let told = format!("{address} {by} {one} {other}: {found}");
        assert_eq!(found.get("moved").and_then(Value::as_str), moved(*address, *by).as_deref(), "{told}");
        assert_eq!(found["contains"], one.trunc().contains(&other.trunc()), "{told}");
        let overlaps = one.trunc().contains(&other.trunc()) || other.trunc().contains(&one.trunc());
        assert_eq!(found["overlaps"], overlaps, "{told}");
        assert_eq!(found["compare"], one.addr().cmp(&other.addr()) as i8, "{told}");
        assert_eq!(found["canonical"], one.to_string(), "{told}");
    }
}

#[test]
fn hosts_and_subnets_are_those_of_ipnet() {
    for (network, prefix) in [("10.0.1.240/29", 31), ("10.0.0.0/22", 24), ("192.168.7.9/32", 32), ("10.0.0.4/31", 32)] {
        let net: IpNet = network.parse().unwrap();
        let found = result(&format!(
            "local net = require(\"@ceso/net\")\nlocal h = net.hosts(\"{network}\")\nreturn {{ hosts = h, subnets = net.subnets(\"{network}\", {prefix}), \
             count = net.count(\"{network}\"), last = net.nth(\"{network}\", -1), first = net.nth(\"{network}\", 1, 24) }}"
        ));
        let hosts: Vec<String> = net.hosts().map(|host| host.to_string()).collect();
        let subnets: Vec<String> = net.subnets(prefix).unwrap().map(|subnet| subnet.to_string()).collect();
        assert_eq!(found["hosts"], json!(hosts));
        assert_eq!(found["subnets"], json!(subnets));
        assert_eq!(found["count"], hosts.len());
        assert_eq!(found["last"], *hosts.last().unwrap());
        assert_eq!(found["first"], format!("{}/24", hosts[0]));
    }
    let v6 = result(
        "local net = require(\"@ceso/net\")\nreturn { net.nth(\"2001:db8::/64\", 1), net.nth(\"2001:db8::/64\", 65536), \
         net.subnets(\"2001:db8::/48\", 50)[4], net.nth(\"2001:db8::/126\", -1, 64), #net.hosts(\"2001:db8::/125\") }",
    );
    assert_eq!(v6, json!(["2001:db8::1", "2001:db8::1:0", "2001:db8:0:c000::/50", "2001:db8::3/64", 7]));
}

#[test]
fn free_addresses_are_neither_taken_nor_reserved() {
    let found = result(
        "local net = require(\"@ceso/net\")\n\
         local vms = { { name = \"a\", ip = \"10.0.1.242\" }, { name = \"b\", ip = \"2001:db8::1\" }, { name = \"c\" } }\n\
         return {\n\
           net.free(\"10.0.1.240/29\", { count = 2, vms = vms, reserved = { \"10.0.1.241\", \"10.0.1.244-10.0.1.245\" } }),\n\
           net.free({ \"10.0.1.240/29\", \"10.0.1.8-10.0.1.9\" }, { count = 2, reserved = \"10.0.1.240/29\", prefix = 24 }),\n\
           net.free(\"2001:db8::/64\", { vms = vms, reserved = \"2001:db8::/65\" }),\n\
           net.assign(\"10.0.1.240/29\", { \"x\", \"a\", \"y\" }, { vms = vms, prefix = 24 }),\n\
           (select(2, pcall(net.free, \"10.0.1.240/30\", { count = 3 }))),\n\
         }",
    );
    assert_eq!(found[0], json!(["10.0.1.243", "10.0.1.246"]));
    assert_eq!(found[1], json!(["10.0.1.8/24", "10.0.1.9/24"]));
    assert_eq!(found[2], json!(["2001:db8:0:0:8000::"]));
    assert_eq!(found[3], json!({ "a": "10.0.1.242/24", "x": "10.0.1.241/24", "y": "10.0.1.243/24" }));
    assert!(found[4].as_str().unwrap().contains("has 2 addresses, of which 2 are free; 3 are needed"), "{}", found[4]);
}

#[test]
fn units_are_read_and_written_as_ceso_does() {
    let texts = [
        "2 GiB",
        "512MiB",
        "1.5g",
        "10 GB",
        "7",
        "1 b",
        "0.5 KiB",
        "",
        "GiB",
        "-1",
        "1 parsec",
        "99999999 TiB",
        "1e3",
        "nan",
        "2 Gi B",
        " 3 tib ",
        "1..5 g",
        "5 min",
        "90s",
        "1h 30m",
        "2",
        "250ms",
        "2days 3hours",
        "1week",
        "1M",
        "1y 1M 1d",
        "min",
        "inf",
        "5 fortnights",
        "1e300",
        "0",
        "1h30m",
        "1.5 h",
        "3us",
        "1 h -2 m",
        "2.5",
    ];
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    let found = result(&format!(
        "local units = require(\"@ceso/units\")\nlocal all = {{}}\nlocal function try(fn, value)\n  local ok, got = pcall(fn, value)\n  return if ok then got else nil\nend\n\
         for _, text in {{ {} }} do\n  local bytes, seconds = try(units.bytes, text), try(units.seconds, text)\n\
         table.insert(all, {{ bytes = bytes, seconds = seconds, size = bytes and units.size(bytes), duration = seconds and try(units.duration, seconds) }})\nend\nreturn all",
        quoted.join(", ")
    ));
    for (text, found) in texts.iter().zip(found.as_array().unwrap()) {
        let bytes = text.parse::<Bytes>().ok();
        assert_eq!(found.get("bytes").and_then(Value::as_f64), bytes.map(|bytes| bytes.0 as f64), "{text:?}");
        assert_eq!(
            found.get("size").and_then(Value::as_str),
            bytes.map(|bytes| bytes.to_string()).as_deref(),
            "{text:?}"
        );
        let span = text.parse::<Span>().ok();
        // What is written for people as a number is read alike; the rare words of humantime (fractions) are left out.
        assert_eq!(found.get("seconds").and_then(Value::as_f64), span.map(|span| span.0.as_secs_f64()), "{text:?}");
        if let Some(written) = found.get("duration").and_then(Value::as_str) {
            let again: Span = written.parse().unwrap();
            let off = again.0.abs_diff(span.unwrap().0);
            assert!(off.as_micros() <= 500, "{text:?}: {written}");
        }
    }
}

/// Every function, called with what it cannot use: an error in words, and at the line of the one who called.
#[test]
fn bad_input_is_an_error_at_the_caller_s_line() {
    let calls = [
        ("net.parse", "10.0.1.0/33"),
        ("net.parse", "10.0.1"),
        ("net.parse", "::1::"),
        ("net.parse", "1:2:3:4:5:6:7:8:9"),
        ("net.parse", "fe80::1%eth0"),
        ("net.parse", "010.0.0.1"),
        ("net.parse", "10.0.0.1/-1"),
        ("net.parse", "10.0.0.1/08"),
        ("net.parse", "::ffff:1.2.3"),
        ("net.parse", "12345::"),
        ("net.parse", ""),
        ("net.parse", "1:2:3:4:5:6:7:8::"),
        ("net.canonical", "x"),
        ("net.prefix", "255.0.255.0"),
        ("net.prefix", "::"),
        ("net.count", "10.0.0.9-10.0.0.1"),
        ("net.count", "10.0.0.9-::1"),
        ("net.hosts", "10.0.0.0/8"),
        ("units.bytes", "two"),
        ("units.seconds", "soon"),
        ("csv.parse", ""),
        ("csv.parse", "a,a\n"),
        ("csv.parse", "a,b\n1\n"),
        ("csv.parse", "a\n\"x\n"),
        ("csv.parse", "a\n\"x\"y\n"),
    ];
    let more = [
        "net.parse(nil)",
        "net.parse({})",
        "net.parse(7)",
        "net.parse(string.rep(\"1:\", 100000))",
        "net.nth(\"10.0.1.240/29\", 7)",
        "net.nth(\"10.0.1.240/29\", 0)",
        "net.nth(\"10.0.1.240/29\", 1.5)",
        "net.nth(\"10.0.1.240/29\", \"1\")",
        "net.nth(\"10.0.1.240/29\", 1, 33)",
        "net.nth(\"10.0.1.240/29\", 0/0)",
        "net.add(\"255.255.255.255\", 1)",
        "net.add(\"10.0.0.1\", 2^60)",
        "net.add(\"::\", -1)",
        "net.add(\"10.0.0.1\", nil)",
        "net.contains(\"10.0.0.0/8\", 1)",
        "net.subnets(\"10.0.0.0/8\", 4)",
        "net.subnets(\"::/0\", 64)",
        "net.free(\"10.0.0.0/24\", { cout = 1 })",
        "net.free(\"10.0.0.0/24\", 3)",
        "net.free(\"10.0.0.0/24\", { reserved = \"x\" })",
        "net.free({ 1 })",
        "net.free(\"10.0.0.0/24\", { count = -1 })",
        "net.assign(\"10.0.0.0/24\", { 1 })",
        "net.compare(\"a\", \"b\")",
        "units.bytes(-1)",
        "units.bytes(1.5)",
        "units.bytes({})",
        "units.size(\"2\")",
        "units.size(0/0)",
        "units.seconds(-1)",
        "units.duration(1/0)",
        "units.duration(nil)",
        "fleet.address(\"10.0.1.240/29\", 9, 24)",
        "fleet.address(\"10.0.1.240/29\", 1, nil)",
        "fleet.address(nil, 1, 24)",
        "fleet.batches({ 1 }, 0)",
        "fleet.batches(1, 1)",
        "fleet.rolling({ 1 }, 2)",
        "fleet.rolling({ 1 }, print, { canary = -1 })",
        "fleet.try({ 1 }, print, { stop = 1 })",
        "fleet.try(1, print)",
        "retry.call(1)",
        "retry.call(print, { tries = 1 })",
        "retry.call(print, { attempts = 0 })",
        "retry.call(print, { attempts = 1.5 })",
        "retry.call(print, 1)",
        "retry.call(print, { jitter = 2 })",
        "retry.delays({ factor = \"x\" })",
        "wait.till(1)",
        "wait.till(print, { time = 1 })",
        "wait.till(print, 1)",
        "wait.till(print, { what = 1 })",
        "report.text(1)",
        "report.text({ 1 })",
        "report.text({}, {})",
        "report.summary(1, \"x\")",
        "csv.parse(1)",
        "csv.parse(\"a\", { separator = \"|\" })",
        "csv.format({}, {})",
        "csv.parse(\"a,b\\n1,2\", { columns = { \"a\" } })",
        "csv.parse(\"a\\n1\", { columns = { \"a\", \"b\" } })",
        "check.raises(1)",
        "check.contains(1, 2)",
        "check.contains(\"a\", 2)",
    ];
    let mut text = String::new();
    for module in ["net", "units", "csv", "fleet", "retry", "wait", "report", "check"] {
        writeln!(text, "local {module} = require(\"@ceso/{module}\")").unwrap();
    }
    text.push_str("local all = {}\nlocal function put(...) table.insert(all, { ... }) end\n");
    let mut lines = Vec::new();
    for call in
        calls.map(|(function, argument)| format!("{function}({argument:?})")).iter().map(String::as_str).chain(more)
    {
        writeln!(text, "put(pcall(function() return {call}, nil end))").unwrap();
        lines.push((call.to_owned(), text.lines().count()));
    }
    text.push_str("return all\n");
    let found = result(&text);
    for ((call, line), found) in lines.iter().zip(found.as_array().unwrap()) {
        assert_eq!(found[0], false, "{call}: was taken: {found}");
        let message = found[1].as_str().unwrap_or_else(|| panic!("{call}: {found}"));
        assert!(message.starts_with(&format!("script.luau:{line}: ")), "{call} at line {line}: {message}");
        assert!(message.len() < 400, "{call}: {message}");
    }
}

#[test]
fn what_may_succeed_is_tried_again_and_nothing_else() {
    let found = result(
        "local retry = require(\"@ceso/retry\")\n\
         local function failing(times, retryable)\n\
           local count = 0\n\
           return function(attempt)\n\
             count += 1\n\
             if count <= times then error({ kind = \"x\", message = \"no \" .. attempt, retry = retryable }) end\n\
             return count\n\
           end\n\
         end\n\
         local fast = { attempts = 3, delay = \"1 ms\" }\n\
         local all = {}\n\
         local function put(ok, value) table.insert(all, { ok = ok, value = if type(value) == \"table\" then value.message else value }) end\n\
         put(pcall(retry.call, failing(2, true), fast))\n\
         put(pcall(retry.call, failing(3, true), fast))\n\
         put(pcall(retry.call, failing(1, false), fast))\n\
         put(pcall(retry.call, failing(1, false), { attempts = 2, delay = 0, when = function(fault) return fault.kind == \"x\" end }))\n\
         put(pcall(retry.call, failing(5, true), { attempts = 9, delay = \"1 h\", deadline = \"1 s\" }))\n\
         return { all, retry.delays({ attempts = 6, delay = \"2 s\", most = \"10 s\" }) }",
    );
    let expected = json!([
        { "ok": true, "value": 3 }, { "ok": false, "value": "no 3" }, { "ok": false, "value": "no 1" }, { "ok": true, "value": 2 },
        { "ok": false, "value": "no 1" },
    ]);
    assert_eq!(found[0], expected);
    assert_eq!(found[1], json!([2, 4, 8, 10, 10]));
}

#[test]
fn a_wait_ends_with_its_value_or_says_what_did_not_come() {
    let found = result(
        "local wait = require(\"@ceso/wait\")\n\
         local count = 0\n\
         local got = wait.till(function() count += 1 return if count > 2 then count else nil end, { interval = \"1 ms\" })\n\
         local ok, fault = pcall(wait.till, function() return false end, { interval = \"1 ms\", timeout = \"20 ms\", what = \"the moon\" })\n\
         local calls = 0\n\
         local steady = wait.steady(function() calls += 1 return math.min(calls, 4) end, { interval = \"1 ms\", still = \"15 ms\" })\n\
         return { got, ok, fault.kind, fault.message, steady }",
    );
    assert_eq!(
        (&found[0], &found[1], &found[2], &found[4]),
        (&json!(3), &json!(false), &json!("wait.timeout"), &json!(4))
    );
    let message = found[3].as_str().unwrap();
    assert!(
        message.starts_with("the moon did not come within 20ms: asked ") && message.ends_with("false"),
        "{message}"
    );
}

#[test]
fn a_fleet_stops_at_the_first_failure_and_says_how_far_it_came() {
    let found = result(
        "local fleet = require(\"@ceso/fleet\")\n\
         local seen = {}\n\
         local function work(n) table.insert(seen, n) if n == 4 then error(\"four\", 0) end return n * 10 end\n\
         local ok, fault = pcall(fleet.rolling, { 1, 2, 3, 4, 5, 6, 7 }, work, { canary = 1, batch = 2 })\n\
         local pauses = {}\n\
         local values = fleet.rolling({ 1, 2, 3 }, function(n) return n end, { batch = 1, between = function(n) table.insert(pauses, n) end })\n\
         local tried = fleet.try({ 1, 4, 5, 6 }, work, { at_once = 1, stop_after = 1 })\n\
         return { ok = ok, message = fault.message, seen = seen, values = values, pauses = pauses, summary = tried.summary,\n\
           done = tried.done, failed = tried.failed[1].fault.message, skipped = tried.skipped, batches = fleet.batches({ 1, 2, 3 }, 2) }",
    );
    assert_eq!(found["ok"], false);
    assert_eq!(found["message"], "four");
    assert_eq!(found["seen"], json!([1, 2, 3, 4, 5, 1, 4]));
    assert_eq!(found["values"], json!([1, 2, 3]));
    assert_eq!(found["pauses"], json!([1, 2]));
    assert_eq!(found["summary"], "1 done, 1 failed, 2 not begun");
    assert_eq!(found["done"], json!([{ "item": 1, "value": 10 }]));
    assert_eq!(found["failed"], "four");
    assert_eq!(found["skipped"], json!([5, 6]));
    assert_eq!(found["batches"], json!([[1, 2], [3]]));
}

#[test]
fn reports_keep_their_form_whatever_the_rows_hold() {
    let found = result(
        "local report, csv = require(\"@ceso/report\"), require(\"@ceso/csv\")\n\
         local rows = { { name = \"a|b\\n\", ips = { \"10.0.0.1\", \"::1\" } }, { name = \"ü\", note = 'say \"hi\", now' } }\n\
         local text = csv.format({ { a = \"x\\r\\ny\", b = 'q\"' }, { a = \" pad \" } }, { \"a\", \"b\" })\n\
         return { report.text(rows), report.markdown(rows, { \"name\" }), report.csv(rows), report.summary(rows, \"note\"), csv.parse(text),\n\
           csv.parse(\"\\239\\187\\191name;n\\r\\n\\r\\nx; 1 \\r\\n\", { separator = \";\", columns = { \"name\", \"n\" } }) }",
    );
    assert_eq!(found[0], "NAME  IPS            NOTE\na|b   10.0.0.1, ::1  \nü                    say \"hi\", now");
    assert_eq!(found[1], "| name |\n| --- |\n| a\\|b  |\n| ü |");
    assert_eq!(found[2], "name,ips,note\r\n\"a|b \",\"10.0.0.1, ::1\",\r\nü,,\"say \"\"hi\"\", now\"\r\n");
    assert_eq!(found[3], "1 none, 1 say \"hi\", now");
    assert_eq!(found[4], json!([{ "line": 2, "a": "x\r\ny", "b": "q\"" }, { "line": 4, "a": "pad", "b": "" }]));
    assert_eq!(found[5], json!([{ "line": 3, "name": "x", "n": "1" }]));
}
