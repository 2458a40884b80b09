//! Many hosts at once, and what stands in the way of a machine, said in one go.

use crate::support::{Machine, Sim};

#[test]
fn many_hosts_are_asked_at_once_and_a_dead_one_is_told_of() {
    let hosts: Vec<Sim> = (0..3).map(|_| Sim::start(ceso::sim::Options::default())).collect();
    // It takes connections and says nothing; nobody listens at the other.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let print = hosts[0].server.fingerprint();
    let mut text = String::from("hosts:\n");
    let mut add = |name: &str, url: &str, print: &str, tags: &str| {
        text.push_str(&format!(
            "  {name}:\n    url: '{url}'\n    trust: {{fingerprint: '{print}'}}\n    password_env: PW\n    tags: [{tags}]\n"
        ));
    };
    for (number, host) in hosts.iter().enumerate() {
        let tags = if number == 0 { "prod, eu" } else { "prod" };
        add(&format!("web-{number}"), &host.server.url(), host.server.fingerprint(), tags);
    }
    add("slow", &format!("https://{}", silent.local_addr().unwrap()), print, "prod");
    add("dead", &format!("https://{closed}"), print, "lab");
    let machine = Machine::new().user(text);
    let run =
        |words: &[&str]| machine.run_with(&[("PW", "ceso")], &[&["inventory"], words, &["--output", "json"]].concat());
    let on = |done: &crate::support::Done| -> Vec<String> {
        done.json().as_array().unwrap().iter().map(|row| row["host"].as_str().unwrap().to_owned()).collect()
    };
    let began = std::time::Instant::now();
    let all = run(&["--patience", "4 s"]).ok();
    assert_eq!(on(&all), ["web-0", "web-1", "web-2"]);
    assert!(all.err.contains("slow: ") && all.err.contains("dead: "), "{all:?}");
    println!("five hosts, two of them dead: {:?}", began.elapsed());
    assert_eq!(on(&run(&["--hosts", "web-*"]).ok()), ["web-0", "web-1", "web-2"]);
    assert_eq!(on(&run(&["--hosts", "*-1"]).ok()), ["web-1"]);
    assert_eq!(on(&run(&["--tag", "prod", "--tag", "eu"]).ok()), ["web-0"]);
    assert!(on(&run(&["web-*", "--hosts", "web-0"]).ok()).is_empty(), "machines are selected by name too");
    run(&["--hosts", "none-*"]).failed(2, "usage.unknown_host");
    assert_ne!(run(&["--hosts", "dead"]).code, 0, "nobody answered");
    assert_ne!(run(&["--hosts", "*", "--patience", "4 s", "--strict"]).code, 0);
    for host in &hosts {
        assert!(host.server.open_sessions() <= 1 && host.server.logins() == 1, "one session is kept");
    }
}

#[test]
fn everything_that_stands_in_the_way_is_said_at_once() {
    let machine = Machine::new();
    let text = r#"
local host = esxi.connect()
local function told(asked: any): any
  local done, fault: any = pcall(host.preflight, host, asked)
  return if done then { kind = "fine", message = fault.datastore } else fault
end
local fine = told({ name = "new", template = "debian-12", networks = { "VM Network" }, datastore = "datastore1" })
assert(fine.kind == "fine" and fine.message == "datastore1", fine.message)
local all = told({ name = "debian-12", template = "nope", networks = { "none", "VM Network" }, datastore = "void" })
assert(all.kind == "esxi.preflight", all.kind)
for _, part in { "4 things", '"debian-12" already', '"nope"', '"none"', '"void"' } do
  assert(string.find(all.message, part, 1, true), all.message)
end
assert(told({ name = "debian-12" }).kind == "esxi.duplicate_name")
assert(told({ name = "new", space = "900 TiB" }).kind == "esxi.no_disk_space")
host:datastore("datastore1"):make_directory("new")
assert(told({ name = "new" }).kind == "esxi.file_already_exists")
host:vm("debian-12"):power_on()
assert(told({ name = "b", template = "debian-12" }).kind == "esxi.template")
host:vm("debian-12"):power_off()
host:enter_maintenance()
assert(told({ name = "b" }).kind == "fine")
assert(told({ name = "b", power_on = true }).kind == "esxi.invalid_state")
host:exit_maintenance()
"#;
    machine.script(text, &["--mode", "unrestricted"]).ok();
    let sim = |words: &[&str]| machine.run(&[words, &["--host", "sim", "--mode", "unrestricted"]].concat());
    let full = sim(&["vm", "create", "new", "--network", "none"]);
    assert!(full.code != 0 && full.err.contains("esxi.preflight") && full.err.contains("\"none\""), "{full:?}");
    let restricted = "return { needs = { vm = { create = \"b-*\" } }, run = function() return esxi.connect():preflight({ name = \"a\" }) end }";
    machine.file("restricted.luau", restricted);
    assert_eq!(machine.run(&["run", "--host", "sim", "restricted.luau"]).code, 3);
}
