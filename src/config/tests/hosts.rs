//! Which host is meant, what is known of it, and who is told which password.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::*;
use super::{LAB, World};

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
fn the_password_of_the_environment_goes_only_where_it_was_meant() {
    use super::super::secrets::Nobody;
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
    use super::super::secrets::Nobody;
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
