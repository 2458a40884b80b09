//! Secrets by name: where they are read from, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use secrecy::ExposeSecret as _;

use super::super::*;
use super::World;

fn with_file(mode: u32, text: &str) -> World {
    let world = World::new()
        .user("secrets:\n  key: {file: key.pem, purpose: private_key, for: [web-1]}\n  hash: {file: key.pem, purpose: password_hash}\n")
        .file("home/.ceso/key.pem", text);
    fs::set_permissions(world.path("home/.ceso/key.pem"), fs::Permissions::from_mode(mode)).unwrap();
    world
}

#[test]
fn a_secret_is_read_from_a_file_of_ones_own_or_a_variable() {
    let secret = with_file(0o600, "-----BEGIN X-----\nabc\n").good().secret("key").unwrap();
    assert_eq!(secret.value.expose_secret(), "-----BEGIN X-----\nabc\n");
    assert_eq!(secret.machines.as_deref(), Some(&["web-1".to_owned()][..]));
    let hash = with_file(0o600, "$6$abc$defghij\n").good().secret("hash").unwrap();
    assert_eq!(hash.value.expose_secret(), "$6$abc$defghij", "the end of the line is no part of a hash");
    let world =
        World::new().user("secrets: {t: {env: TOKEN, purpose: token, for: [\"*\"]}}").var("TOKEN", "s3cr3t-token");
    let token = world.good().secret("t").unwrap();
    assert_eq!((token.purpose, token.value.expose_secret()), (SecretPurpose::Token, "s3cr3t-token"));
    assert!(!format!("{token:?}").contains("s3cr3t"));
    assert!(world.good().show().iter().all(|line| !format!("{line:?}").contains("s3cr3t")));
}

#[test]
fn what_others_can_read_or_what_is_no_secret_is_refused() {
    assert_eq!(with_file(0o644, "x\n").good().secret("key").unwrap_err().kind(), "config.untrusted_file");
    for text in ["", "\n", "a\nb\n", "a\0b"] {
        let fault = with_file(0o600, text).good().secret("hash").unwrap_err();
        assert_eq!(fault.kind(), "config.no_secret", "{text:?}: {fault:?}");
    }
    let config = World::new().user("secrets: {ops: {env: OPS_UNSET, purpose: token}}").good();
    assert!(config.secret("ops").unwrap_err().message().contains("OPS_UNSET"));
    assert!(config.secret("op").unwrap_err().hint_text().unwrap().contains("ops"));
    for entry in ["{purpose: token}", "{env: A, purpose: token, for: [\"a*b\"]}"] {
        World::new().user(&format!("secrets: {{x: {entry}}}")).refused("config.invalid", &["secrets.x"]);
    }
    World::new().user("secrets: {x: {env: A}}").refused("config.invalid", &["purpose"]);
    World::new()
        .user("secrets: {x: {env: A, purpose: tokn}}")
        .refused("config.wrong_type", &["did you mean \"token\""]);
}

#[test]
fn a_parameter_names_a_secret_and_never_is_one() {
    let config =
        World::new().user("secrets: {ops: {env: OPS, purpose: token, for: [web-1]}}").var("OPS", "abcdefgh").good();
    let read = |text: &str| config.secret_parameter("token", text, SecretPurpose::Text);
    assert_eq!(read("env:OPS").unwrap().machines, None);
    assert_eq!(read("secret:ops").unwrap().name, "ops");
    let fault = read("hunter2hunter2").unwrap_err();
    assert!(fault.kind() == "usage.param" && !format!("{fault:?}").contains("hunter2"), "{fault:?}");
    assert_eq!(read("file:/nonexistent").unwrap_err().kind(), "config.no_secret");
}
