//! What a project's file may and may not do, and where it is looked for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::*;
use super::{LAB, World};

#[test]
fn a_project_may_not_loosen_redirect_or_reach_a_secret() {
    let user = "default_host: lab\nhosts:\n  lab: {url: esx1}\nrepositories:\n  main: {url: /srv}\n\
                security:\n  mode: standard\n  allowed_networks: [10.0.0.0/8]\nretention: {keep_last: 7, keep_daily: 3, keep_within: 30 days, keep_tags: [forever]}\n";
    for (project, path) in [
        ("security: {mode: unrestricted}", "security.mode"),
        ("security: {allowed_networks: [0.0.0.0/0]}", "security.allowed_networks"),
        ("security: {allowed_networks: [10.0.0.0/8, 192.0.2.0/24]}", "security.allowed_networks"),
        ("security: {audit_log: /dev/null}", "security.audit_log"),
        ("security: {audit: false}", "security.audit"),
        ("audit: {rotate_at: 1 TiB}", "audit.rotate_at"),
        ("audit: {checkpoint_every: 5}", "audit.checkpoint_every"),
        ("audit: {checkpoint_after: 1 h}", "audit.checkpoint_after"),
        ("audit: {witness: [\"udp://evil\"]}", "audit.witness"),
        ("audit: {witness_sends: records}", "audit.witness_sends"),
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
        ("metrics: {address: 0.0.0.0}", "metrics.address"),
        ("metrics: {textfile: x.prom}", "metrics.textfile"),
        ("log: {file: x.log}", "log.file"),
        ("traces: {endpoint: \"http://evil.example:4318\"}", "traces.endpoint"),
        ("repositories: {main: {url: s3://evil/x}}", "repositories.main"),
        ("repositories: {new: {url: s3://evil/x, password_env: HOME}}", "repositories.new"),
        ("repositories: {new: {url: s3://evil/x}}", "repositories.new.url"),
        ("repositories: {new: {url: s3://evil/x, endpoint: \"https://evil\"}}", "repositories.new.url"),
        ("repositories: {new: {url: ./here, endpoint: \"https://evil\"}}", "repositories.new"),
        ("repositories: {new: {url: ./here, cache: /etc}}", "repositories.new"),
        ("repositories: {new: {url: ./here, key_file: ~/.ssh/id_ed25519}}", "repositories.new.password_file"),
        ("repositories: {new: {url: ./here, secret_key_env: HOME, access_key_env: HOME}}", "repositories.new"),
        ("repositories: {new: {url: ../out}}", "repositories.new.url"),
        ("repositories: {new: {url: /srv/other}}", "repositories.new.url"),
        ("repositories: {new: {url: ~/.ssh}}", "repositories.new.url"),
        ("retention: {keep_last: 1}", "retention"),
        ("retention: {keep_within: 1 day}", "retention"),
        ("retention: {keep_tags: [other]}", "retention"),
        ("repositories: {main: {retention: {keep_last: 1}}}", "repositories.main"),
        ("repositories: {new: {url: ./new, retention: {keep_last: 1}}}", "repositories.new"),
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
             repositories: {new: {url: ./backups}}\nsandbox: {memory: 32 MiB}\nretention: {keep_last: 9, keep_daily: 2, keep_tags: [forever]}\n",
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
fn a_project_file_that_links_to_a_secret_prints_nothing_of_it() {
    let world = World::new().file("home/secret", "hunter2: x\n");
    let file = world.path("home/work/project/ceso.yaml");
    std::os::unix::fs::symlink(world.path("home/secret"), &file).unwrap();
    let fault = world.refused("config.untrusted_file", &["ceso.yaml", "link"]);
    assert!(!format!("{fault:?}").contains("hunter2"));
    fs::remove_file(&file).unwrap();
    fs::write(world.path("home/work/project/deep/shared.yaml"), "security: {mode: restricted}\n").unwrap();
    std::os::unix::fs::symlink("deep/shared.yaml", &file).unwrap();
    assert_eq!(world.good().mode(), Mode::Restricted);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    assert_eq!(world.good().mode(), Mode::Standard, "a dangling link is no file");
}

#[test]
fn a_project_may_keep_a_secret_from_machines_and_do_nothing_else_with_secrets() {
    let user = "secrets: {ops: {env: OPS, purpose: token, for: [\"web-*\", db]}}";
    for narrower in ["[web-1]", "[\"web-1*\", db]", "[]"] {
        let config = World::new().user(user).project(&format!("secrets: {{ops: {{for: {narrower}}}}}")).good();
        assert_eq!(config.settings().secrets["ops"].env.as_deref(), Some("OPS"), "{narrower}");
    }
    for wrong in [
        "ops: {for: [\"*\"]}",
        "ops: {for: [web]}",
        "ops: {for: [\"we*\"]}",
        "ops: {purpose: text}",
        "ops: {env: AWS_SECRET_ACCESS_KEY}",
        "new: {file: ~/.ssh/id_ed25519, purpose: text, for: [\"*\"]}",
        "new: {env: HOME, purpose: text}",
    ] {
        World::new()
            .user(user)
            .project(&format!("secrets: {{{wrong}}}"))
            .refused("config.project_may_not", &["secrets."]);
    }
}
