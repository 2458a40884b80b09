//! Fifty secrets, planted wherever ceso or a hostile host has its hands on them, and searched for in everything that leaves: none is
//! found. With redaction off, which only a build for tests can be told, the same search finds them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use ceso::sim;

use crate::support::{Machine, Sim};

/// Passwords that ceso knows from variables, from files, and the one that it logs in with; and what is secret by where it stands.
const VARIABLES: usize = 18;
const FILES: usize = 6;
const GUESTINFO: usize = 7;
const KEYS: usize = 5;
const URLS: usize = 7;
const PEM: usize = 6;

struct Planted {
    /// Where it comes from, for the message.
    from: String,
    secret: String,
}

/// Text that nobody else writes: every third with characters that are escaped somewhere.
fn secret(number: usize) -> String {
    let digest = Sha256::digest(format!("planted {number}"));
    let text = STANDARD.encode(digest).replace(['+', '/', '='], "x");
    match number % 3 {
        0 => format!("{}&\"<{}>\\ é%{}", &text[..6], &text[6..12], &text[12..16]),
        1 => text[..20].to_owned(),
        _ => format!("{}-{}", &text[..8], &text[8..16].to_lowercase()),
    }
}

fn plant() -> Vec<Planted> {
    let kinds = [
        ("variable", VARIABLES),
        ("file", FILES),
        ("login", 1),
        ("guestinfo", GUESTINFO),
        ("extra configuration", KEYS),
        ("URL", URLS),
        ("PEM", PEM),
    ];
    let mut planted = Vec::new();
    for (kind, count) in kinds {
        for number in 0..count {
            let made = secret(planted.len());
            let secret = match kind {
                // What stands in a URL is written as one.
                "URL" => made.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
                "PEM" => STANDARD.encode(Sha256::digest(&made)),
                _ => made,
            };
            planted.push(Planted { from: format!("{kind} {number}"), secret });
        }
    }
    assert_eq!(planted.len(), 50);
    planted
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The forms in which a host gives a secret back.
fn disguises(secret: &str) -> Vec<String> {
    vec![
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("a{secret}")),
        STANDARD_NO_PAD.encode(format!("ab{secret}!")),
        URL_SAFE_NO_PAD.encode(format!("user:{secret}")),
        hex(secret),
        hex(secret).to_uppercase(),
        percent(secret),
        secret.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        STANDARD.encode(gzip(&format!("password: {secret}\n"))),
        serde_json::to_string(secret).unwrap(),
    ]
}

/// How a text still gives a secret away: read with other eyes than those of the search under test.
fn gives_away(text: &str, secret: &str) -> Vec<&'static str> {
    let mut ways = Vec::new();
    let json = serde_json::to_string(secret).unwrap();
    let json = json.trim_matches('"');
    let lower = text.to_lowercase();
    if text.contains(secret) || text.contains(json) || text.contains(&json.replace('\\', "\\\\")) {
        ways.push("plain");
    }
    if text.contains(&secret.replace('\\', "\\\\")) {
        ways.push("escaped");
    }
    if lower.contains(&hex(secret)) {
        ways.push("hex");
    }
    let all: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    if text.contains(&percent(secret)) || lower.contains(&all) {
        ways.push("URL");
    }
    for ahead in 0..3 {
        let encoded = STANDARD_NO_PAD.encode(format!("{}{secret}", &"xy"[..ahead]));
        let sure = &encoded[[0, 2, 3][ahead]..(ahead + secret.len()) * 8 / 6];
        if text.contains(sure) || text.contains(&sure.replace('+', "-").replace('/', "_")) {
            ways.push("base64");
        }
    }
    for (at, _) in text.match_indices("H4sI") {
        let run: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || "+/".contains(*c)).collect();
        let whole = &run[..run.len() - usize::from(run.len() % 4 == 1)];
        let Ok(bytes) =
            STANDARD_NO_PAD.decode(whole).or_else(|_| STANDARD_NO_PAD.decode(&whole[..whole.len() / 4 * 4]))
        else {
            continue;
        };
        let mut out = String::new();
        drop(flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut out));
        if out.contains(secret) {
            ways.push("gzip");
        }
    }
    ways.dedup();
    ways
}

#[test]
fn the_search_itself_finds_every_disguise() {
    for planted in plant() {
        for disguise in disguises(&planted.secret) {
            assert!(
                !gives_away(&format!("x {disguise} y"), &planted.secret).is_empty(),
                "{}: {disguise}",
                planted.from
            );
        }
        assert!(gives_away("nothing of it", &planted.secret).is_empty());
    }
}

/// What a name of a machine may hold of a secret.
fn in_a_name(secret: &str, number: usize) -> String {
    match number % 3 {
        0 => format!("vm-{}", hex(secret).chars().take(70).collect::<String>()),
        1 => format!("vm-{}", URL_SAFE_NO_PAD.encode(secret)),
        _ => format!("vm-{}", secret.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '-'), "")),
    }
}

/// A machine of this world: ceso's files and variables, a host that says back all that it should not know.
struct World {
    machine: Machine,
    sim: Sim,
    variables: Vec<(String, String)>,
    planted: Vec<Planted>,
    outputs: BTreeMap<String, String>,
}

impl World {
    fn new(redacted: bool) -> Self {
        let planted = plant();
        let login = &planted[VARIABLES + FILES].secret;
        let sim = Sim::start(sim::Options { password: login.clone().into(), ..sim::Options::default() });
        let machine = Machine::new();
        let mut variables: Vec<(String, String)> =
            sim.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        variables.retain(|(name, _)| name != "CESO_PASSWORD");
        variables.push(("CESO_PASSWORD".to_owned(), login.clone()));
        if !redacted {
            variables.push((ceso::redact::OFF_IN_TESTS.to_owned(), "1".to_owned()));
        }
        let mut hosts = String::from("hosts:\n");
        for (number, planted) in planted.iter().take(VARIABLES + FILES).enumerate() {
            hosts.push_str(&format!(
                "  h{number}:\n    url: {}\n    username: user{number}\n    trust:\n      fingerprint: \"{}\"\n",
                sim.server.url().trim_end_matches("/sdk"),
                sim.server.fingerprint()
            ));
            if number < VARIABLES {
                variables.push((format!("SECRET_{number}"), planted.secret.clone()));
                hosts.push_str(&format!("    password_env: SECRET_{number}\n"));
            } else {
                let folder = machine.home().join("passwords");
                let file = folder.join(format!("h{number}"));
                std::fs::create_dir_all(&folder).unwrap();
                ceso::config::files::write_private(&file, planted.secret.as_bytes()).unwrap();
                hosts.push_str(&format!("    password_file: {}\n", file.display()));
            }
        }
        hosts.push_str(&format!(
            "metrics:\n  textfile: {0}/metrics.prom\nlog:\n  level: trace\n  file: {0}/ceso.log\n",
            machine.home().display()
        ));
        let machine = machine.user(hosts);
        let world = Self { machine, sim, variables, planted, outputs: BTreeMap::new() };
        let entered = world.sim.runtime.enter();
        world.sim.server.stage(&world.stage()).unwrap();
        drop(entered);
        world
    }

    fn stage(&self) -> sim::Stage {
        let of = |kind: &str| self.planted.iter().filter(|planted| planted.from.starts_with(kind)).collect::<Vec<_>>();
        let known = &self.planted[..=VARIABLES + FILES];
        let mut machines = Vec::new();
        for (number, planted) in known.iter().enumerate() {
            let forms = disguises(&planted.secret);
            let form = |more: usize| forms[(number + more) % forms.len()].clone();
            let host: String = planted.secret.chars().filter(char::is_ascii_alphanumeric).collect();
            let host = if host == planted.secret { host } else { hex(&planted.secret) };
            machines.push(sim::Machine {
                name: in_a_name(&planted.secret, number),
                on: true,
                notes: Some(format!("it is {}\nand {}", form(0), form(3))),
                extra: vec![
                    ("guestinfo.metadata".to_owned(), format!("local-hostname: {host}\ninstance-id: i-{number}\n")),
                    ("svga.said".to_owned(), form(5)),
                    (format!("svga.{}", hex(&planted.secret)), "a key".to_owned()),
                ],
                ..sim::Machine::default()
            });
        }
        for (number, planted) in of("guestinfo").iter().enumerate() {
            let extra = vec![(format!("guestinfo.k{number}"), planted.secret.clone())];
            machines.push(sim::Machine { name: format!("g{number}"), extra, ..sim::Machine::default() });
        }
        for (number, planted) in of("extra").iter().enumerate() {
            let words =
                ["RemoteDisplay.vnc.password", "my.token", "db.secret", "RemoteDisplay.vnc.key", "x.passphrase"];
            let extra = vec![(words[number % words.len()].to_owned(), planted.secret.clone())];
            machines.push(sim::Machine { name: format!("e{number}"), extra, ..sim::Machine::default() });
        }
        for (number, planted) in of("URL").iter().enumerate() {
            let url = format!("https://admin:{}@nas{number}.example/iso", planted.secret);
            let notes = Some(format!("mounted from {url} since May"));
            let extra = vec![("svga.iso".to_owned(), url)];
            machines.push(sim::Machine { name: format!("u{number}"), notes, extra, ..sim::Machine::default() });
        }
        for (number, planted) in of("PEM").iter().enumerate() {
            let notes = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", planted.secret);
            machines.push(sim::Machine { name: format!("p{number}"), notes: Some(notes), ..sim::Machine::default() });
        }
        sim::Stage { machines, ..sim::Stage::default() }
    }

    fn run(&mut self, what: &str, arguments: &[&str], input: &str) {
        let mut command = self.machine.command(arguments);
        command.envs(self.variables.iter().cloned()).write_stdin(input);
        let done = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(done.stdout), text(done.stderr));
        assert!(!err.contains("panicked"), "{what}: {err}");
        self.outputs.insert(format!("{what}: standard output"), out);
        self.outputs.insert(format!("{what}: standard error"), err);
    }

    /// Has the next power-ons fail with a secret in the fault, each in another form.
    fn fail_with_secrets(&self) {
        self.sim.server.clear_faults();
        for (number, planted) in self.planted.iter().enumerate().filter(|(number, _)| *number <= VARIABLES + FILES) {
            let forms = disguises(&planted.secret);
            let message = format!("the host heard {} of you", forms[number % forms.len()]);
            for method in ["PowerOffVM_Task", "ReconfigVM_Task"] {
                let rule = sim::Rule {
                    method: method.to_owned(),
                    trouble: sim::Trouble::Fault { kind: "NoPermission".to_owned(), message: Some(message.clone()) },
                    after: 0,
                    times: Some(1),
                    chance: 1.0,
                };
                self.sim.server.fault(rule).unwrap();
            }
        }
    }

    /// What a process shows to everybody who lists processes, while a run is under way.
    fn look_at_processes(&mut self) {
        self.machine
            .file("wait.luau", "print(\"up\")\nesxi.connect():vm(\"debian-12\"):wait_for_ip({ timeout = \"1 min\" })");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ceso"));
        command
            .env_clear()
            .env("HOME", self.machine.home().parent().unwrap())
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .envs(self.variables.iter().cloned())
            .current_dir(self.machine.project())
            .args(["run", "script.luau"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        self.machine.file("script.luau", "while true do esxi.connect():vms() end");
        let mut child = command.args(["--timeout", "20s"]).spawn().unwrap();
        let mut workers = Vec::new();
        crate::support::eventually("a worker", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
            let children = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
            workers =
                children.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
            !workers.is_empty()
        });
        let read = |pid: &str, file: &str| {
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
        };
        self.outputs.insert("the command line".to_owned(), read(&child.id().to_string(), "cmdline"));
        for worker in workers {
            for file in ["cmdline", "environ", "comm"] {
                self.outputs.insert(format!("the worker's {file}"), read(&worker, file));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Every file that ceso wrote, but those whose purpose it is to hold a secret: kept passwords, the session.
    fn look_at_files(&mut self) {
        fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true if path.ends_with("passwords") || path.ends_with("sessions") => {}
                    true => walk(&path, found),
                    false => found.push(path),
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.machine.home(), &mut files);
        walk(&self.machine.project(), &mut files);
        for file in files {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            self.outputs.insert(format!("the file {}", file.display()), text);
        }
    }

    /// The session cookie, as the file holds it.
    fn cookies(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.machine.home().join("sessions")).into_iter().flatten();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let cookies = texts.filter_map(|text| {
            let kept: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(kept["cookie"].as_str()?.trim_matches('"').to_owned())
        });
        cookies.collect()
    }

    fn exercise(&mut self) {
        const TALK: &str = r#"
          local task = require("@ceso/task")
          local host = esxi.connect()
          local rows = {}
          for number = 18, 23 do
            local ok, fault = pcall(esxi.connect, `h{number}`)
            print(ok, fault.kind, fault.message, fault.hint)
          end
          local function walk(value, path)
            if type(value) == "table" then
              for key, inner in value do walk(inner, `{path}.{key}`) end
            else
              print(path, value)
            end
          end
          for _, vm in host:vms() do
            local info = vm:info()
            walk(info, vm.name)
            log.info(`{info.notes} and {info.guest_hostname}`)
            task.progress(`at {vm.name} {info.notes}`)
            table.insert(rows, { name = vm.name, notes = info.notes, extra = info.extra_config })
            if vm.power == "on" then
              local ok, fault = pcall(vm.power_off, vm)
              if not ok then
                print(fault.kind, fault.message, fault.hint, tostring(fault))
                log.error(fault.message)
              end
            end
          end
          return rows
        "#;
        let last = "local host = esxi.connect()\nfor _, vm in host:vms() do if vm.name ~= \"debian-12\" then vm:configure({ cpus = 3, notes = vm:info().notes }) end end\n";
        self.machine.file("talk.luau", TALK);
        self.machine.file("last.luau", last);
        for form in ["table", "json", "csv"] {
            self.fail_with_secrets();
            let what = format!("run as {form}");
            self.run(&what, &["run", "talk.luau", "--output", form, "--verbose"], "");
            let err = &self.outputs[&format!("{what}: standard error")];
            assert!(!err.contains("error[script"), "it goes through to its end: {err}");
        }
        self.fail_with_secrets();
        self.run("a run that fails", &["run", "last.luau", "--verbose", "--explain"], "");
        self.run("the same at another point", &["run", "last.luau", "--output", "json"], "");
        self.fail_with_secrets();
        self.run("the REPL", &["repl"], &format!("{}\nfunction f() {TALK} end\nf()\nesxi.connect():vms()\n", "x = 1"));
        self.run("vm list", &["vm", "list", "--output", "json"], "");
        self.run("vm info", &["vm", "info", "u1"], "");
        self.run("vm info of another", &["vm", "info", "p1", "--output", "json"], "");
        for (number, _) in [0, 1, 20].iter().enumerate() {
            self.run(
                &format!("host check {number}"),
                &["host", "check", &format!("h{number}"), "--output", "json"],
                "",
            );
        }
        self.run("config show", &["config", "show"], "");
        self.run("host list", &["host", "list", "--output", "json"], "");
        let url = format!("https://root:{}@esx1.example", self.planted[0].secret.replace('/', ""));
        self.run("an address with a password", &["host", "add", "bad", &url], "");
        self.look_at_processes();
        self.look_at_files();
    }

    /// Each secret that got out, how, and where.
    fn found(&self) -> Vec<String> {
        let cookies = self.cookies().into_iter().map(|secret| Planted { from: "session".to_owned(), secret });
        let secrets: Vec<Planted> = cookies
            .chain(
                self.planted
                    .iter()
                    .map(|planted| Planted { from: planted.from.clone(), secret: planted.secret.clone() }),
            )
            .collect();
        assert!(secrets.len() > 50, "the session's cookie is searched for too");
        let mut found = Vec::new();
        for (place, text) in &self.outputs {
            for planted in &secrets {
                for how in gives_away(text, &planted.secret) {
                    found.push(format!("{} ({}) as {how} in {place}", planted.from, planted.secret));
                }
            }
        }
        found
    }
}

#[test]
fn of_fifty_planted_secrets_none_leaves_in_any_form() {
    let mut world = World::new(true);
    world.exercise();
    let found = world.found();
    assert!(found.is_empty(), "{} found:\n{}", found.len(), found.join("\n"));
    let all: String = world.outputs.values().map(String::as_str).collect();
    for label in ["[redacted: password of h0]", "[redacted: password in a URL]", "[redacted: private key]"] {
        assert!(all.contains(label), "{label} stands nowhere: what was searched did not hold the secrets");
    }
    for place in ["audit.json", "ceso.log", "metrics.prom"] {
        assert!(world.outputs.iter().any(|(name, text)| name.ends_with(place) && !text.is_empty()), "no {place}");
    }
}

/// The test above must be able to fail: without redaction the same search finds what the host says back.
#[cfg(debug_assertions)]
#[test]
fn with_redaction_off_the_same_search_finds_them() {
    let mut world = World::new(false);
    world.exercise();
    let found = world.found();
    let told = |kind: &str| {
        let of = |line: &&String| line.starts_with(kind);
        let mut names: Vec<&str> = found.iter().filter(of).filter_map(|line| line.split(" (").next()).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    };
    assert_eq!((told("variable"), told("file")), (VARIABLES, FILES), "{}", found.join("\n"));
    assert_eq!((told("URL"), told("PEM")), (URLS, PEM), "{}", found.join("\n"));
    for how in ["plain", "base64", "hex", "URL", "gzip"] {
        assert!(found.iter().any(|line| line.contains(&format!(" as {how} in "))), "{how}: {}", found.join("\n"));
    }
    for place in ["audit.json", "standard output", "standard error"] {
        assert!(found.iter().any(|line| line.ends_with(place)), "{place}: {}", found.join("\n"));
    }
}
