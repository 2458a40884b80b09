//! What the layers promise.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

/// A folder with a home, a project and a system file, and nothing of the real machine.
struct World {
    folder: TempDir,
    env: Vec<(String, String)>,
    flags: Vec<(&'static str, &'static str, String)>,
    host: Option<String>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etc", "home/.ceso", "home/work/project/deep"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self { folder, env: Vec::new(), flags: Vec::new(), host: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn user(self, text: &str) -> Self {
        self.file("home/.ceso/config.yaml", text)
    }

    fn hosts(self, text: &str) -> Self {
        self.file("home/.ceso/hosts.yaml", text)
    }

    fn project(self, text: &str) -> Self {
        self.file("home/work/project/ceso.yaml", text)
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, flag: &'static str, path: &'static str, text: &str) -> Self {
        self.flags.push((flag, path, text.to_owned()));
        self
    }

    fn host(mut self, name: &str) -> Self {
        self.host = Some(name.to_owned());
        self
    }

    fn load(&self) -> Result<Config, Fault> {
        let home = ("HOME".to_owned(), self.path("home").display().to_string());
        let environment = self.env.iter().cloned().chain([home]).collect();
        let mut sources = Sources::new(environment, self.path("home/work/project/deep")).unwrap();
        sources.system_file = self.path("etc/config.yaml");
        for (flag, path, text) in &self.flags {
            sources = sources.flag(flag, path, text.clone());
        }
        Config::load(sources.host(self.host.clone()))
    }

    fn good(&self) -> Config {
        self.load().unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    fn refused(&self, kind: &str, words: &[&str]) -> Fault {
        let fault = self.load().expect_err("must be refused");
        assert_eq!(fault.kind(), kind, "{fault:?}");
        for word in words {
            assert!(format!("{fault:?}").contains(word), "{word:?} is missing in {fault:?}");
        }
        assert!(fault.hint_text().is_some(), "{fault:?} has no hint");
        fault
    }
}

const LAB: &str = "hosts:\n  lab:\n    url: esx1\n    username: ops\n";

#[test]
fn a_stronger_layer_wins_and_each_value_knows_its_own() {
    let mut world = World::new();
    let mut expected = vec![("64 MiB".to_owned(), Origin::Default)];
    let steps: [(&str, Origin); 3] = [
        ("etc/config.yaml", Origin::System(world.path("etc/config.yaml"))),
        ("home/.ceso/config.yaml", Origin::User(world.path("home/.ceso/config.yaml"))),
        ("home/work/project/ceso.yaml", Origin::Project(world.path("home/work/project/ceso.yaml"))),
    ];
    for (at, (file, origin)) in steps.into_iter().enumerate() {
        let memory = format!("{} MiB", 60 - at);
        world = world.file(file, &format!("sandbox:\n  memory: {memory}\n"));
        expected.push((memory, origin.clone()));
        let config = world.good();
        assert_eq!((config.limits().memory.to_string(), config.origin("sandbox.memory").clone()), expected[at + 1]);
    }
    world = world.var("CESO_SANDBOX_MEMORY", "100 MiB");
    assert_eq!(world.good().limits().memory.to_string(), "100 MiB");
    assert_eq!(world.good().origin("sandbox.memory"), &Origin::Variable("CESO_SANDBOX_MEMORY".to_owned()));
    world = world.flag("--memory", "sandbox.memory", "200 MiB");
    assert_eq!(world.good().limits().memory.to_string(), "200 MiB");
    assert_eq!(world.good().origin("sandbox.memory"), &Origin::Flag("--memory".to_owned()));
    assert_eq!(world.good().origin("sandbox.output"), &Origin::Default);
}

#[test]
fn the_built_in_limits_are_the_documented_ones() {
    let config = World::new().good();
    let limits = config.limits();
    assert_eq!(limits.run_time.0.as_secs(), 600);
    assert_eq!((limits.memory.0, limits.source.0, limits.output.0), (64 << 20, 256 << 10, 1 << 20));
    assert_eq!(config.mode(), Mode::Standard);
    assert!(config.settings().security.allowed_networks.is_none());
}

#[test]
fn a_variable_sets_each_kind_of_value() {
    let config = World::new()
        .var("CESO_SECURITY_MODE", "restricted")
        .var("CESO_SECURITY_ALLOWED_NETWORKS", "10.0.0.0/8, fd00::/8")
        .var("CESO_METRICS_ENABLED", "true")
        .var("CESO_METRICS_PORT", "9999")
        .var("CESO_CONNECTION_POOL_MAX_IDLE_TIME", "90s")
        .var("CESO_SECURITY_AUDIT_LOG", "~/audit.jsonl")
        .var("CESO_PEERS", "/somewhere")
        .good();
    assert_eq!(config.mode(), Mode::Restricted);
    assert_eq!(config.settings().security.allowed_networks.as_ref().map(Vec::len), Some(2));
    assert!(config.settings().metrics.enabled);
    assert_eq!(config.settings().metrics.port, 9999);
    assert_eq!(config.settings().connection_pool.max_idle_time.0.as_secs(), 90);
    assert!(config.audit_log().ends_with("home/audit.jsonl") && config.audit_log().is_absolute());
}

#[test]
fn an_unknown_key_names_the_file_the_path_and_the_nearest() {
    World::new()
        .user("securty:\n  mode: restricted\n")
        .refused("config.unknown_key", &["config.yaml", "securty", "\"security\""]);
    World::new()
        .user("sandbox:\n  memmory: 1 GiB\n")
        .refused("config.unknown_key", &["sandbox.memmory", "\"sandbox.memory\""]);
    World::new()
        .user("hosts:\n  lab:\n    uri: x\n")
        .refused("config.unknown_key", &["hosts.lab.uri", "\"hosts.lab.url\""]);
    World::new().var("CESO_SECURITY_MOD", "x").refused("config.unknown_variable", &["CESO_SECURITY_MODE"]);
    World::new().var("CESO_PASWORD", "hunter2").refused("config.unknown_variable", &["CESO_PASSWORD"]);
    World::new().user("\"a\\e[31mb\": 1\n").refused("config.unknown_key", &["\\u{1b}"]);
}

#[test]
fn a_wrong_type_names_the_file_the_path_and_what_was_expected() {
    for (text, path, expected) in [
        ("sandbox:\n  memory: lots\n", "sandbox.memory", "a size"),
        ("sandbox:\n  memory: [1]\n", "sandbox.memory", "a size"),
        ("sandbox:\n  memory: -1\n", "sandbox.memory", "a size"),
        ("sandbox:\n  run_time: true\n", "sandbox.run_time", "a duration"),
        ("sandbox:\n  calls: 0\n", "sandbox.calls", "a whole number from 1"),
        ("sandbox:\n  calls: 1.5\n", "sandbox.calls", "a whole number"),
        ("sandbox: 7\n", "sandbox", "a section"),
        ("security:\n  mode: strict\n", "security.mode", "restricted, standard, unrestricted"),
        ("security:\n  mode: restrictd\n", "security.mode", "did you mean \"restricted\""),
        ("security:\n  allowed_networks: 10.0.0.0/8\n", "security.allowed_networks", "a list"),
        ("security:\n  allowed_networks: [10.0.0.0/99]\n", "security.allowed_networks", "a network"),
        ("metrics:\n  enabled: \"yes\"\n", "metrics.enabled", "true or false"),
        ("metrics:\n  port: 70000\n", "metrics.port", "65535"),
        ("default_host: 5\n", "default_host", "a text"),
        ("hosts: [lab]\n", "hosts", "a section"),
        ("hosts:\n  lab: esx1\n", "hosts.lab", "a section"),
        ("hosts:\n  lab:\n    url: http://esx1\n", "hosts.lab.url", "not https"),
        ("hosts:\n  lab:\n    url: https://root:hunter2@esx1\n", "hosts.lab.url", "no password"),
        ("hosts:\n  lab:\n    url: esx1\n    trust: {fingerprint: abcd}\n", "hosts.lab.trust", "fingerprint"),
        ("hosts:\n  lab:\n    url: esx1\n    trust: none\n", "hosts.lab.trust", "system"),
        ("hosts:\n  lab:\n    url: esx1\n    tags: x\n", "hosts.lab.tags", "a list"),
    ] {
        let fault = World::new().user(text).refused("config.wrong_type", &["config.yaml", path, expected]);
        assert!(!format!("{fault:?}").contains("hunter2"));
    }
    World::new().var("CESO_SANDBOX_CALLS", "many").refused("config.wrong_type", &["CESO_SANDBOX_CALLS"]);
    World::new().flag("--timeout", "sandbox.run_time", "soon").refused("config.wrong_type", &["--timeout"]);
    World::new()
        .user("hosts:\n  lab:\n    username: x\n")
        .refused("config.invalid", &["config.yaml", "hosts.lab", "url"]);
    World::new().user("hosts:\n  \"../x\":\n    url: esx1\n").refused("config.invalid", &["../x"]);
    World::new().user("connection_pool:\n  min_connections: 9\n").refused("config.invalid", &["max_connections"]);
}

#[test]
fn a_limit_that_could_not_hold_is_refused() {
    for (path, text) in [
        ("sandbox.run_time", "0"),
        ("sandbox.run_time", "1000 years"),
        ("sandbox.cpu_time", "0 s"),
        ("sandbox.memory", "1 B"),
        ("sandbox.memory", "1000 TiB"),
        ("sandbox.output", "0"),
        ("sandbox.source", "1 GiB"),
        ("connection_pool.max_idle_time", "1 year"),
        ("connection_pool.min_connections", "9"),
    ] {
        let (section, key) = path.split_once('.').unwrap();
        World::new().user(&format!("{section}: {{{key}: {text}}}\n")).refused("config.invalid", &["config.yaml", path]);
        World::new().flag("--limit", path, text).refused("config.invalid", &["--limit", path]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in "[a-z:{}\\[\\]&*!|>'\"#%@,\\-? \n\t\u{0}-\u{ff}]{0,120}", bytes: Vec<u8>) {
        drop(text.parse::<HostUrl>());
        drop(text.parse::<Fingerprint>());
        printable(&text);
        for bytes in [text.as_bytes(), &bytes] {
            if let Ok(layer) = yaml::parse(bytes, "t") {
                drop(schema::check(layer, "t", &schema::Anchor::default()));
            }
        }
        for (path, leaf) in schema::leaves() {
            drop(schema::check_leaf(&schema::from_text(&text, leaf), leaf).map_err(|_| path));
        }
    }
}

#[test]
fn no_key_runs_a_command_or_holds_a_password() {
    for key in ["password_command", "command", "pre_command"] {
        World::new()
            .user(&format!("{LAB}    {key}: curl evil\n"))
            .refused("config.unknown_key", &["no setting of ceso names a command"]);
    }
    let fault =
        World::new().user(&format!("{LAB}    password: hunter2\n")).refused("config.unknown_key", &["password_file"]);
    assert!(!format!("{fault:?}").contains("hunter2"));
}

#[test]
fn an_empty_section_says_nothing() {
    let config = World::new().user("hosts:\n  # none yet\nsandbox:\nsecurity: ~\n").good();
    assert_eq!(config.mode(), Mode::Standard);
    assert_eq!(config.host_names().count(), 0);
}

#[test]
fn paths_in_a_file_begin_at_that_file() {
    let config = World::new()
        .user(&format!(
            "{LAB}    password_file: pw/lab\n    trust: {{ca_file: ~/ca.pem}}\nsecurity: {{audit_log: /var/a}}\n"
        ))
        .good();
    let host = config.host("lab").unwrap();
    assert!(host.password_file.unwrap().ends_with("home/.ceso/pw/lab"));
    assert!(matches!(host.trust, Trust::CaFile(path) if path.ends_with("home/ca.pem") && path.is_absolute()));
    assert_eq!(config.audit_log(), Path::new("/var/a"));
}

#[test]
fn without_a_host_nothing_falls_back() {
    let world = World::new().user(LAB);
    let fault = world.good().target(None).expect_err("no host");
    assert_eq!(fault.kind(), "usage.no_host");
    let hint = fault.hint_text().unwrap();
    assert!(hint.contains("ceso host add NAME URL") && hint.contains("--host sim"), "{hint}");
    World::new().var("CESO_HOST", "").refused("config.invalid", &["CESO_HOST", "empty"]);
}

#[test]
fn a_host_is_chosen_by_flag_then_variable_then_address_then_default() {
    let named = |config: &Config| match config.target(None).unwrap() {
        Target::Simulator => "sim".to_owned(),
        Target::Host(host) => format!("{} {}", host.name, host.named),
    };
    let mut world = World::new().user("default_host: a\nhosts:\n  a: {url: a}\n  b: {url: b}\n  c: {url: c}\n");
    assert_eq!(named(&world.good()), "a false");
    world = world.var("CESO_URL", "d");
    assert_eq!(named(&world.good()), "env true");
    world = world.var("CESO_HOST", "b");
    assert_eq!(named(&world.good()), "b true");
    world = world.host("c");
    assert_eq!(named(&world.good()), "c true");
    world = world.host("sim");
    assert_eq!(named(&world.good()), "sim");
    let fault = world.host("cc").good().target(None).expect_err("unknown");
    assert_eq!(fault.kind(), "usage.unknown_host");
}

#[test]
fn variables_alone_describe_a_host() {
    let print = "ab".repeat(32);
    let config = World::new()
        .var("CESO_URL", "10.0.0.5:8443")
        .var("CESO_USERNAME", "ops")
        .var("CESO_FINGERPRINT", &print)
        .var("CESO_PASSWORD", "hunter2")
        .good();
    let Target::Host(host) = config.target(None).unwrap() else { panic!("the simulator") };
    assert_eq!((host.name.as_str(), host.username.as_str()), ("env", "ops"));
    assert_eq!(host.url.to_string(), "https://10.0.0.5:8443/sdk");
    assert_eq!(host.trust, Trust::Fingerprint(print.parse().unwrap()));
    World::new().var("CESO_USERNAME", "ops").refused("config.invalid", &["CESO_URL"]);
    World::new().var("CESO_URL", "https://root:hunter2@esx1").refused("config.wrong_type", &["CESO_URL"]);
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", config.show()).contains("hunter2"));
    assert!(
        config.show().iter().any(|line| line.origin == "CESO_PASSWORD" && line.value.as_deref() == Some("(hidden)"))
    );
}

#[test]
fn a_host_outside_the_allowed_networks_is_refused() {
    let config = World::new()
        .user("hosts:\n  in: {url: 10.1.2.3}\n  out: {url: 192.0.2.1}\n  v6: {url: '[::ffff:10.0.0.1]'}\nsecurity:\n  allowed_networks: [10.0.0.0/8]\n")
        .good();
    assert!(config.host("in").is_ok());
    assert!(config.host("v6").is_ok());
    assert_eq!(config.host("out").unwrap_err().kind(), "door.network");
    assert_eq!(config.check_address("x", "127.0.0.1".parse().unwrap()).unwrap_err().kind(), "door.network");
    let none = World::new().user("hosts:\n  a: {url: 10.1.2.3}\nsecurity:\n  allowed_networks: []\n").good();
    assert!(none.host("a").is_err());
}

#[test]
fn reserved_and_doubled_names_are_refused() {
    for name in ["sim", "env"] {
        World::new().user(&format!("hosts:\n  {name}: {{url: esx1}}\n")).refused("config.invalid", &["reserved"]);
        World::new().hosts(&format!("hosts:\n  {name}: {{url: esx1}}\n")).refused("config.invalid", &["reserved"]);
    }
    World::new().user(LAB).hosts("hosts:\n  lab: {url: esx2}\n").refused("config.invalid", &["lab", "hosts.yaml"]);
    World::new().hosts("security: {mode: unrestricted}\n").refused("config.invalid", &["hosts.yaml"]);
    let both = World::new().user(LAB).hosts("hosts:\n  two: {url: esx2}\n").good();
    assert_eq!(both.host_names().collect::<Vec<_>>(), ["lab", "two"]);
}

#[test]
fn a_session_belongs_to_address_account_trust_and_origin() {
    let file =
        |text: &str| World::new().user(text).good().host("lab").unwrap().session_file.file_name().unwrap().to_owned();
    let first = file(LAB);
    assert_eq!(first, file(LAB));
    for other in [
        "hosts: {lab: {url: esx2, username: ops}}",
        "hosts: {lab: {url: esx1, username: root}}",
        "hosts: {lab: {url: esx1, username: ops, trust: {ca_file: /ca}}}",
    ] {
        assert_ne!(first, file(other), "{other}");
    }
    let project = World::new().project(LAB).good().host("lab").unwrap();
    assert_ne!(Some(first.as_os_str()), project.session_file.file_name());
}

#[test]
fn a_project_may_not_loosen_redirect_or_reach_a_secret() {
    let user = "default_host: lab\nhosts:\n  lab: {url: esx1}\nrepositories:\n  main: {url: /srv}\n\
                security:\n  mode: standard\n  allowed_networks: [10.0.0.0/8]\nretention: {keep_last: 7, keep_daily: 3}\n";
    for (project, path) in [
        ("security: {mode: unrestricted}", "security.mode"),
        ("security: {allowed_networks: [0.0.0.0/0]}", "security.allowed_networks"),
        ("security: {allowed_networks: [10.0.0.0/8, 192.0.2.0/24]}", "security.allowed_networks"),
        ("security: {audit_log: /dev/null}", "security.audit_log"),
        ("hosts: {lab: {url: evil}}", "hosts.lab"),
        ("hosts: {lab: {username: evil}}", "hosts.lab"),
        ("hosts: {lab: {trust: system}}", "hosts.lab"),
        ("hosts: {lab: {tags: [x]}}", "hosts.lab"),
        ("hosts: {new: {url: evil, password_file: ~/.ssh/id_ed25519}}", "hosts.new.password_file"),
        ("hosts: {new: {url: evil, password_env: AWS_SECRET_ACCESS_KEY}}", "hosts.new.password_env"),
        ("hosts: {new: {url: evil, trust: {ca_file: /etc/hostname}}}", "hosts.new.trust"),
        ("hosts: {new: {url: evil, trust: {ca_file: ../../ca.pem}}}", "hosts.new.trust"),
        ("default_host: sim", "default_host"),
        ("hosts: {new: {url: evil}}\ndefault_host: new", "default_host"),
        ("sandbox: {memory: 1 GiB}", "sandbox.memory"),
        ("sandbox: {run_time: 2 h}", "sandbox.run_time"),
        ("sandbox: {cpu_time: 2 h}", "sandbox.cpu_time"),
        ("sandbox: {source: 1 GiB}", "sandbox.source"),
        ("sandbox: {output: 1 GiB}", "sandbox.output"),
        ("sandbox: {calls: 1000000}", "sandbox.calls"),
        ("sandbox: {calls_at_once: 1000}", "sandbox.calls_at_once"),
        ("connection_pool: {max_connections: 60}", "connection_pool.max_connections"),
        ("metrics: {enabled: true}", "metrics.enabled"),
        ("metrics: {port: 80}", "metrics.port"),
        ("repositories: {main: {url: s3://evil/x}}", "repositories.main"),
        ("repositories: {new: {url: s3://evil/x, password_env: HOME}}", "repositories.new"),
        ("retention: {keep_last: 1}", "retention"),
    ] {
        World::new().user(user).project(project).refused("config.project_may_not", &["ceso.yaml", path]);
    }
    World::new().project("retention: {keep_last: 1}").refused("config.project_may_not", &["retention"]);
    World::new().user(LAB).project("default_host: lab").refused("config.project_may_not", &["default_host"]);
    World::new().project("default_host: env").refused("config.project_may_not", &["default_host"]);
}

#[test]
fn a_project_may_tighten_and_add() {
    let user = "hosts:\n  lab: {url: esx1}\nsecurity:\n  allowed_networks: [10.0.0.0/8]\nretention: {keep_last: 7}\n";
    let config = World::new()
        .user(user)
        .project(
            "default_host: new\nhosts: {new: {url: 10.1.0.1}}\nsecurity: {mode: restricted, allowed_networks: [10.1.0.0/16]}\n\
             sandbox: {memory: 32 MiB}\nretention: {keep_last: 9, keep_daily: 2}\n",
        )
        .good();
    assert_eq!(config.mode(), Mode::Restricted);
    assert!(matches!(config.target(None), Ok(Target::Host(host)) if host.is_from_project()));
    let sim = World::new().project("default_host: sim").good();
    assert!(matches!(sim.target(None), Ok(Target::Simulator)));
    let named = World::new()
        .user("default_host: lab\nhosts: {lab: {url: esx1}}")
        .project("default_host: sim")
        .host("lab")
        .good();
    assert!(matches!(named.target(None), Ok(Target::Host(host)) if host.name == "lab"));
}

#[test]
fn the_project_is_searched_upward_no_further_than_its_repository_or_home() {
    let found = |world: &World| world.good().project().map(Path::to_owned);
    let world = World::new().project("");
    assert_eq!(found(&world), Some(world.path("home/work/project/ceso.yaml")));
    let world = World::new().file("home/work/ceso.yaml", "");
    assert_eq!(found(&world), Some(world.path("home/work/ceso.yaml")));
    fs::create_dir(world.path("home/work/project/.git")).unwrap();
    assert_eq!(found(&world), None, "the repository ends the search");
    let world = World::new().file("ceso.yaml", "");
    assert_eq!(found(&world), None, "the home folder ends the search");
    let world = World::new().project("").var("CESO_PROJECT", "none");
    assert_eq!(found(&world), None);
    World::new().var("CESO_PROJECT", "nowhere").refused("config.unreadable", &["CESO_PROJECT"]);
    let world = World::new().project("");
    fs::set_permissions(world.path("home/work/project/ceso.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
    world.refused("config.untrusted_file", &["ceso.yaml", "everybody"]);
}

#[test]
fn the_password_of_the_environment_goes_only_where_it_was_meant() {
    use super::secrets::Nobody;
    use secrecy::ExposeSecret as _;
    let ask = |world: World, name: &str| {
        let config = world.var("CESO_PASSWORD", "hunter2").good();
        let host = config.host(name).unwrap();
        config.password(&host, &Nobody).map(|password| password.expose_secret().to_owned())
    };
    assert_eq!(ask(World::new().var("CESO_URL", "esx1"), "env").unwrap(), "hunter2");
    assert_eq!(ask(World::new().user(LAB).host("lab"), "lab").unwrap(), "hunter2");
    assert_eq!(ask(World::new().user(LAB).var("CESO_HOST", "lab"), "lab").unwrap(), "hunter2");
    let nothing = |world: World, name: &str| {
        let fault = ask(world, name).expect_err("the password was given away");
        assert_eq!(fault.kind(), "host.no_password");
        assert!(!format!("{fault:?}").contains("hunter2"));
    };
    // The variable that this host names is unset, so nothing else is asked: no keyring is touched by this test.
    let lab = format!("{LAB}    password_env: NOT_SET\n");
    nothing(World::new().user(&format!("default_host: lab\n{lab}")), "lab");
    nothing(World::new().user(&lab).var("CESO_URL", "esx2").host("lab"), "lab");
    nothing(World::new().project(LAB).host("lab"), "lab");
    nothing(World::new().project(LAB).var("CESO_HOST", "lab"), "lab");
}

#[test]
fn a_password_file_is_read_only_when_it_is_private() {
    use super::secrets::Nobody;
    use secrecy::ExposeSecret as _;
    let world = World::new().user(&format!("{LAB}    password_file: pw\n")).file("home/.ceso/pw", "hunter2\r\n");
    let pw = world.path("home/.ceso/pw");
    let config = world.good();
    let read = || config.password(&config.host("lab").unwrap(), &Nobody);
    fs::set_permissions(&pw, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(read().unwrap_err().kind(), "config.untrusted_file");
    fs::set_permissions(&pw, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(read().unwrap().expose_secret(), "hunter2");
    for bad in [&b""[..], b"\n", b"two\nlines\n", b"\xff\xfe", &[b'x'; 5000]] {
        fs::write(&pw, bad).unwrap();
        assert!(read().is_err(), "{} bytes", bad.len());
    }
    fs::remove_file(&pw).unwrap();
    assert_eq!(read().unwrap_err().kind(), "host.no_password");
}

#[test]
fn the_example_is_a_configuration_when_its_comments_are_lifted() {
    let example = Config::example();
    assert!(yaml::parse(example.as_bytes(), "example").unwrap().is_empty(), "it changes nothing as it is");
    let body: String = example
        .lines()
        .skip_while(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("# Variables"))
        .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
        .collect();
    let config = World::new().user(&body).load().unwrap_or_else(|fault| panic!("{fault:?}\n{body}"));
    assert_eq!(config.limits(), &Sandbox::default());
    for (path, _) in schema::leaves() {
        let key = path.rsplit('.').next().unwrap();
        assert!(example.contains(&format!("{key}:")), "{path} is missing");
    }
}

#[test]
fn the_registry_is_written_whole_and_private() {
    let world = World::new().user(LAB);
    let home = world.good().home().clone();
    let entry: HostEntry =
        serde_json::from_value(serde_json::json!({ "url": "esx9", "tags": ["a: b", "#c"] })).unwrap();
    registry::update(&home, |hosts| Ok(hosts.insert("nine".to_owned(), entry))).unwrap();
    assert_eq!(world.good().host("nine").unwrap().tags, ["a: b", "#c"]);
    assert_eq!(fs::metadata(home.hosts_file()).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(home.hosts_file()).unwrap();
    let failed: Result<(), Fault> = registry::update(&home, |hosts| {
        hosts.clear();
        Err(Fault::new("test", "no"))
    });
    assert!(failed.is_err());
    assert_eq!(fs::read(home.hosts_file()).unwrap(), before);
    fs::write(home.hosts_file(), "hosts: [\n").unwrap();
    assert_eq!(registry::update(&home, |_| Ok(())).unwrap_err().kind(), "config.syntax");
    assert_eq!(fs::read(home.hosts_file()).unwrap(), b"hosts: [\n", "a corrupt file is left as it is");
}

#[test]
fn two_commands_at_once_lose_no_host() {
    let world = World::new();
    let home = world.good().home().clone();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let home = &home;
            scope.spawn(move || {
                let entry: HostEntry = serde_json::from_value(serde_json::json!({ "url": format!("esx{n}") })).unwrap();
                registry::update(home, |hosts| Ok(hosts.insert(format!("h{n}"), entry))).unwrap();
            });
        }
    });
    assert_eq!(world.good().host_names().count(), 8);
}
