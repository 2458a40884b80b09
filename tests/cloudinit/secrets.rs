//! Secrets in documents: filled in by handle, checked like any value, shown nowhere.
//!
//! The keys in `host_keys/` were made for these tests, and are no machine's.

use std::fs;
use std::sync::Arc;

use ceso::cloudinit::{self, Purpose, SecretHandle, Slot, Spec, Target, Text};
use secrecy::SecretString;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, MapDeserializer};
use serde_json::{Value, json};

use crate::cases::{self, UUID};

const HASH: &str = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1";

fn secret(text: &str) -> Arc<SecretString> {
    Arc::new(SecretString::from(text.to_owned()))
}

/// A handle as the door gives it: a newtype around its fields.
fn handle(id: u32, name: &'static str) -> Text {
    struct Newtype(u32, &'static str);
    impl<'de> serde::Deserializer<'de> for Newtype {
        type Error = Error;
        fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let fields = [
                ("id", serde_json::Value::from(self.0).into_deserializer()),
                ("kind", json!("secret").into_deserializer()),
                ("name", json!(self.1).into_deserializer()),
            ];
            let fields = fields.map(|(key, value): (&str, Value)| (key, Field(value)));
            visitor.visit_newtype_struct(MapDeserializer::new(fields.into_iter()))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
        }
    }
    struct Field(Value);
    impl<'de> IntoDeserializer<'de, Error> for Field {
        type Deserializer = Self;
        fn into_deserializer(self) -> Self {
            self
        }
    }
    impl<'de> serde::Deserializer<'de> for Field {
        type Error = Error;
        fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                Value::Number(number) => visitor.visit_u64(number.as_u64().unwrap()),
                value => visitor.visit_str(value.as_str().unwrap()),
            }
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
        }
    }
    serde::Deserialize::deserialize(Newtype(id, name)).unwrap()
}

fn with_handles() -> Spec {
    let mut spec = cases::spec(json!({
        "hostname": "a",
        "users": [{ "name": "ops" }],
        "ssh": { "host_keys": [{ "private": "", "public": public("ed25519") }] },
        "files": [{ "path": "/etc/token", "content": "" }],
        "boot_commands": ["x"],
        "commands": [["curl", "x"]],
        "parts": [{ "type": "x-shellscript", "content": "" }],
    }));
    spec.users[0].password_hash = Some(handle(1, "ops-hash"));
    spec.ssh.host_keys[0].private = handle(2, "host-key");
    spec.files[0].content = Some(handle(3, "token"));
    spec.boot_commands = vec![cloudinit::Command::Shell(handle(4, "early"))];
    spec.commands = vec![cloudinit::Command::Program(vec!["curl".into(), handle(5, "header")])];
    spec.raw = Some(handle(6, "raw"));
    spec.parts[0].content = handle(7, "script");
    spec.vendor_data = Some(handle(8, "vendor"));
    spec
}

fn public(name: &str) -> String {
    fs::read_to_string(cases::folder("host_keys").join(format!("{name}.pub"))).unwrap()
}

fn private(name: &str) -> String {
    fs::read_to_string(cases::folder("host_keys").join(name)).unwrap()
}

fn value_of(handle: &SecretHandle) -> String {
    match handle.name.as_str() {
        "ops-hash" => HASH.into(),
        "host-key" => private("ed25519"),
        "raw" => "phone_home: {url: 'http://x/S3CRET'}\n".into(),
        "script" => "#!/bin/sh\necho S3CRET\n".into(),
        "vendor" => "#cloud-config\nx-token: S3CRET\n".into(),
        name => format!("S3CRET-{name}"),
    }
}

#[test]
fn every_handle_is_looked_up_once_with_its_field_and_purpose() {
    let mut spec = with_handles();
    let mut asked = Vec::new();
    spec.fill(|slot: &Slot, handle: &SecretHandle| {
        assert_eq!(handle.kind, "secret");
        asked.push((handle.id, slot.at.clone(), slot.purpose));
        Ok::<_, ()>(secret(&value_of(handle)))
    })
    .unwrap();
    let at = |id: u32, at: &str, purpose: Purpose| (id, at.to_owned(), purpose);
    assert_eq!(
        asked,
        [
            at(1, "users[1].password_hash", Purpose::PasswordHash),
            at(2, "ssh.host_keys[1].private", Purpose::HostKey),
            at(3, "files[1].content", Purpose::File),
            at(4, "boot_commands[1]", Purpose::Command),
            at(5, "commands[1][2]", Purpose::Command),
            at(6, "raw", Purpose::UserData),
            at(7, "parts[1].content", Purpose::UserData),
            at(8, "vendor_data", Purpose::UserData),
        ]
    );
    let words: Vec<&str> = asked.iter().map(|(_, _, purpose)| purpose.as_str()).collect();
    assert_eq!(words[..4], ["password_hash", "host_key", "file", "command"]);
    assert_eq!(Purpose::Password.as_str(), "password");
    assert_eq!(Purpose::UserData.as_str(), "user_data");

    let document = cloudinit::build(&spec).unwrap();
    let config = cases::cloud_configs(document.user_data());
    let fields: Value = serde_json::from_str(config[0].strip_prefix("#cloud-config\n").unwrap()).unwrap();
    assert_eq!(fields["users"][0]["hashed_passwd"], HASH);
    assert_eq!(fields["users"][0]["lock_passwd"], false);
    assert_eq!(fields["ssh_keys"]["ed25519_private"], private("ed25519"));
    assert_eq!(fields["write_files"][0]["content"], "S3CRET-token");
    assert_eq!(fields["write_files"][0]["permissions"], "0600");
    assert_eq!(fields["runcmd"], json!([["curl", "S3CRET-header"]]));
    assert!(config[1].contains("http://x/S3CRET"));

    let guestinfo = document.guestinfo(Target { uuid: UUID, macs: &[] }).unwrap();
    let iso = document.iso(Target { uuid: UUID, macs: &[] }).unwrap();
    let described = document.describe().to_string();
    for shown in [format!("{spec:?}"), format!("{document:?}"), format!("{guestinfo:?}{iso:?}"), described.clone()] {
        for hidden in ["S3CRET", HASH, "PRIVATE KEY"] {
            assert!(!shown.contains(hidden), "{hidden} is in {shown}");
        }
    }
    for name in ["token", "early", "script", "vendor"] {
        assert!(described.contains(&format!("the secret {name}")), "{name}: {described}");
    }
}

#[test]
fn a_handle_that_nobody_has_filled_is_refused_with_its_field() {
    let fault = cloudinit::build(&with_handles()).unwrap_err();
    assert_eq!(fault.message(), "users[1].password_hash: is a secret that has not been looked up");
    let refused = with_handles().fill(|slot, _| if slot.at == "raw" { Err(slot.at.clone()) } else { Ok(secret("x")) });
    assert_eq!(refused, Err("raw".to_owned()));
}

#[test]
fn a_secret_of_the_wrong_kind_is_refused_without_a_word_of_it() {
    let built = |change: &dyn Fn(&mut Spec)| {
        let mut spec = cases::spec(json!({ "hostname": "a", "users": [{ "name": "ops" }] }));
        change(&mut spec);
        cloudinit::build(&spec).unwrap_err()
    };
    let text = |value: &str| Text::secret("name", secret(value));
    let key = |private: Text, public: String| cloudinit::HostKey { private, public };
    let truncated = private("ed25519").replace('\n', "").replace("-----BEGIN OPENSSH PRIVATE KEY-----", "");
    let truncated =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----", &truncated[..96]);
    type Case<'a> = (&'a dyn Fn(&mut Spec), &'a str);
    let cases: [Case<'_>; 10] = [
        (
            &|spec| spec.users[0].password_hash = Some(text("S3CRET")),
            "users[1].password_hash: is not a password's hash",
        ),
        (
            &|spec| spec.users[0].password_hash = Some(text("$6$S3CRET")),
            "users[1].password_hash: is not a password's hash",
        ),
        (
            &|spec| spec.ssh.host_keys = vec![key(text("S3CRET"), public("ed25519"))],
            "ssh.host_keys[1].private: is not an SSH host key: it is not a private key",
        ),
        (
            &|spec| spec.ssh.host_keys = vec![key(text(&private("ecdsa")), public("ed25519"))],
            "it does not belong to the public key",
        ),
        (
            &|spec| spec.ssh.host_keys = vec![key(text(&private("with_passphrase")), public("with_passphrase"))],
            "it has a passphrase",
        ),
        (
            &|spec| spec.ssh.host_keys = vec![key(text(&private("rsa_pem")), public("rsa_pem"))],
            "it is not in OpenSSH's own format",
        ),
        (&|spec| spec.ssh.host_keys = vec![key(text(&truncated), public("ed25519"))], "its data is"),
        (
            &|spec| {
                let one = || key(text(&private("ed25519")), public("ed25519"));
                spec.ssh.host_keys = vec![one(), one()];
            },
            "ssh.host_keys[2]: \"ed25519\" appears twice",
        ),
        (&|spec| spec.raw = Some(text("- S3CRET")), "raw: is no cloud-config"),
        (&|spec| spec.vendor_data = Some(text("S3CRET")), "vendor_data: begins with nothing"),
    ];
    for (change, part) in cases {
        let fault = built(change);
        assert!(fault.message().contains(part), "{part}: {fault}");
        assert!(!format!("{fault} {fault:?}").contains("S3CRET"), "{fault:?}");
    }
}

#[test]
fn host_keys_of_two_types_stand_side_by_side() {
    let mut spec = cases::spec(json!({ "hostname": "a" }));
    spec.ssh.host_keys = ["ed25519", "ecdsa"]
        .map(|name| cloudinit::HostKey { private: Text::secret(name, secret(&private(name))), public: public(name) })
        .to_vec();
    let document = cloudinit::build(&spec).unwrap();
    let fields: Value = serde_json::from_str(document.user_data().strip_prefix("#cloud-config\n").unwrap()).unwrap();
    assert_eq!(fields["ssh_keys"]["ecdsa_private"], private("ecdsa"));
    assert_eq!(fields["ssh_keys"]["ecdsa_public"], public("ecdsa").trim());
    let described = &document.describe()["ssh"]["host_keys"];
    assert!(described[0].as_str().unwrap().starts_with("ssh-ed25519 SHA256:"), "{described}");
}
