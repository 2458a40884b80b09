//! What the layers promise: which value wins, what is refused and how it is told.

use super::super::*;
use super::{LAB, World};

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
        .var("CESO_SECURITY_AUDIT_LOG", "~/audit.json")
        .var("CESO_PEERS", "/somewhere")
        .good();
    assert_eq!(config.mode(), Mode::Restricted);
    assert_eq!(config.settings().security.allowed_networks.as_ref().map(Vec::len), Some(2));
    assert!(config.settings().metrics.enabled);
    assert_eq!(config.settings().metrics.port, 9999);
    assert_eq!(config.settings().connection_pool.max_idle_time.0.as_secs(), 90);
    assert!(config.audit_log().ends_with("home/audit.json") && config.audit_log().is_absolute());
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
        ("metrics:\n  address: everywhere\n", "metrics.address", "an address"),
        ("log:\n  format: xml\n", "log.format", "text, json"),
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
fn each_variable_has_one_meaning() {
    let settings = settings_variables();
    for (name, _) in OTHER_VARIABLES {
        assert!(!settings.contains_key(*name), "{name}");
    }
    for (name, path) in &settings {
        assert!(schema::leaf(path).is_some() && !path.starts_with("hosts"), "{name} → {path}");
    }
    assert_eq!(
        settings.get("CESO_CONNECTION_POOL_MAX_IDLE_TIME").map(String::as_str),
        Some("connection_pool.max_idle_time")
    );
    assert_eq!(settings.get("CESO_SANDBOX_CALLS_AT_ONCE").map(String::as_str), Some("sandbox.calls_at_once"));
    World::new().var("CESO_DEFAULT_HOST", "x").refused("config.unknown_variable", &["CESO_DEFAULT_HOST"]);
}
