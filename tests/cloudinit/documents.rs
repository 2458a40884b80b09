//! What is written and what is refused, without a guest.

use std::collections::BTreeMap;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ceso::cloudinit::{self, GuestInfo, MacAddress, Spec, Target};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cases::{self, UUID};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG3fx2y8bfW1iGZBOiq7jVZ5y0eJk9iZs5sG2DPrVXAr ops@example";

fn card() -> MacAddress {
    "00:50:56:00:00:01".parse().unwrap()
}

fn render(value: Value) -> GuestInfo {
    cloudinit::build(&cases::spec(value)).unwrap().render(Target { uuid: UUID, macs: &[card()] }).unwrap()
}

fn extra_config(guestinfo: &GuestInfo) -> BTreeMap<String, String> {
    guestinfo.entries().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn every_good_input_becomes_the_expected_documents() {
    let cases = cases::good();
    assert!(cases.len() >= 60, "{} good inputs", cases.len());
    for (name, case) in cases {
        let guestinfo = case.guestinfo();
        let user_data = cases::decoded(&guestinfo, "guestinfo.userdata");
        let body = match user_data.strip_prefix("#cloud-config\n") {
            Some(body) => serde_json::from_str(body).unwrap(),
            None => json!(user_data),
        };
        let mut written = json!({ "metadata": cases::metadata(&guestinfo), "userdata": body });
        if let Some(vendor_data) = case.document().vendor_data() {
            written["vendordata"] = json!(vendor_data);
        }
        let path = cases::folder("good").join(format!("{name}.json"));
        if std::env::var_os("CESO_BLESS").is_some() {
            fs::write(&path, format!("{written:#}\n")).unwrap();
        }
        let expected: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(written, expected, "{name}");
    }
}

#[test]
fn every_bad_input_is_refused_with_the_path_of_its_field() {
    let cases = cases::bad();
    assert!(cases.len() >= 60, "{} bad inputs", cases.len());
    for (name, case) in cases {
        let error = match serde_json::from_value::<Spec>(case.spec.clone()) {
            Err(error) => error.to_string(),
            Ok(spec) => {
                let fault = cloudinit::build(&spec).map(|document| document.user_data().to_owned()).expect_err(&name);
                assert_eq!(fault.kind(), "cloudinit.invalid", "{name}");
                assert!(!fault.message().chars().any(char::is_control), "{name}: {fault}");
                fault.to_string()
            }
        };
        assert!(error.contains(&case.error), "{name}: {error}");
    }
}

#[test]
fn the_same_input_gives_the_same_bytes_and_another_input_is_noticed() {
    let input = json!({ "hostname": "a", "ssh_keys": KEY, "network": { "address": "10.0.0.5/24" } });
    let first = render(input.clone());
    assert_eq!(first, render(input));
    let has = extra_config(&first);
    assert!(first.same_as(|key| has.get(key).map(String::as_str)));
    let other = render(json!({ "hostname": "a", "ssh_keys": KEY, "network": { "address": "10.0.0.6/24" } }));
    assert!(!other.same_as(|key| has.get(key).map(String::as_str)));
    assert!(!first.same_as(|_| None));
}

#[test]
fn another_encoding_of_the_same_content_is_the_same() {
    let guestinfo = render(json!({ "hostname": "a" }));
    let mut has = extra_config(&guestinfo);
    has.insert("guestinfo.metadata".into(), STANDARD.encode(cases::decoded(&guestinfo, "guestinfo.metadata")));
    has.insert("guestinfo.metadata.encoding".into(), "b64".into());
    has.insert("guestinfo.userdata".into(), cases::decoded(&guestinfo, "guestinfo.userdata"));
    has.remove("guestinfo.userdata.encoding");
    assert!(guestinfo.same_as(|key| has.get(key).map(String::as_str)));
}

#[test]
fn what_a_machine_holds_may_be_damaged_redacted_or_a_bomb() {
    let guestinfo = render(json!({ "hostname": "a" }));
    let bomb = {
        use std::io::Write;
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0_u8; 1 << 20];
        for _ in 0..64 {
            writer.write_all(&zeros).unwrap();
        }
        STANDARD.encode(writer.finish().unwrap())
    };
    let whole = extra_config(&guestinfo)["guestinfo.userdata"].clone();
    for (value, encoding) in [
        ("---", "gzip+base64"),
        ("", "gzip+base64"),
        ("é", "base64"),
        ("////", "base64"),
        (&whole[..whole.len() / 2], "gzip+base64"),
        (whole.as_str(), "base64"),
        (bomb.as_str(), "gzip+base64"),
    ] {
        let mut has = extra_config(&guestinfo);
        has.insert("guestinfo.userdata".into(), value.into());
        has.insert("guestinfo.userdata.encoding".into(), encoding.into());
        assert!(!guestinfo.same_as(|key| has.get(key).map(String::as_str)));
        if let Err(fault) = cloudinit::decode(value, encoding) {
            assert_eq!(fault.kind(), "cloudinit.undecodable");
        }
    }
    assert!(cloudinit::decode(&bomb, "gzip+base64").unwrap_err().message().contains("16 MiB"));
}

#[test]
fn the_instance_id_depends_on_the_machine_alone() {
    let id = |value: Value| cases::metadata(&render(value))["instance-id"].clone();
    let first = id(json!({ "hostname": "a", "network": { "address": "10.0.0.5/24" } }));
    assert_eq!(first, json!(format!("ceso-{}", UUID.to_lowercase())));
    assert_eq!(first, id(json!({ "hostname": "b", "network": { "address": "10.0.0.6/24" }, "commands": ["id"] })));
    let document = cloudinit::build(&cases::spec(json!({ "hostname": "a" }))).unwrap();
    let clone = document.render(Target { uuid: "564d1234-abcd-4ef0-8123-000000000000", macs: &[] }).unwrap();
    assert_ne!(first, cases::metadata(&clone)["instance-id"]);
}

#[test]
fn a_document_for_other_cards_than_the_machine_has_is_refused() {
    let two = json!({ "hostname": "a", "network": [{}, {}] });
    let named = json!({ "hostname": "a", "network": { "mac": "00:50:56:00:00:99" } });
    for (value, part) in
        [(two, "configures 2 network cards, and the machine has 1"), (named, "has no network card with")]
    {
        let document = cloudinit::build(&cases::spec(value)).unwrap();
        let fault = document.render(Target { uuid: UUID, macs: &[card()] }).unwrap_err();
        assert_eq!(fault.kind(), "cloudinit.invalid");
        assert!(fault.message().contains(part), "{fault}");
    }
    let document = cloudinit::build(&cases::spec(json!({ "hostname": "a" }))).unwrap();
    let fault = document.render(Target { uuid: "no uuid", macs: &[] }).unwrap_err();
    assert!(fault.message().contains("\"no uuid\" is not the UUID"), "{fault}");
}

#[test]
fn what_does_not_fit_into_guestinfo_is_refused_before_a_machine_is_made() {
    // Text that gzip cannot shrink much: the hash of a counter.
    let mut noise = String::new();
    let mut state = 1_u64;
    while noise.len() < 2_000_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        noise.push_str(&format!("{state:016x}"));
    }
    let large = json!({ "hostname": "a", "files": [{ "path": "/x", "content": noise }] });
    let fault = cloudinit::build(&cases::spec(large)).unwrap_err();
    assert_eq!(fault.kind(), "cloudinit.too_large");
    let bomb = json!({ "hostname": "a", "files": [{ "path": "/x", "content": "0".repeat(17 << 20) }] });
    assert_eq!(cloudinit::build(&cases::spec(bomb)).unwrap_err().kind(), "cloudinit.too_large");
    let compressible = json!({ "hostname": "a", "files": [{ "path": "/x", "content": "0".repeat(5 << 20) }] });
    assert!(cloudinit::build(&cases::spec(compressible)).is_ok());
}

#[test]
fn secrets_stay_out_of_debug_output_and_descriptions() {
    let document = cloudinit::build(&cases::spec(json!({
        "hostname": "a",
        "ssh_keys": KEY,
        "files": [{ "path": "/x", "content": "S3CRET" }],
        "commands": ["echo S3CRET", ["mysql", "-pS3CRET"]],
    })))
    .unwrap();
    let guestinfo = document.render(Target { uuid: UUID, macs: &[] }).unwrap();
    for shown in [format!("{document:?}"), format!("{guestinfo:?}"), document.describe().to_string()] {
        assert!(!shown.contains("S3CRET") && !shown.contains("AAAAC3Nza"), "{shown}");
    }
    assert_eq!(document.describe()["files"], json!([{ "path": "/x", "bytes": 6 }]));
    assert!(document.user_data().contains("S3CRET"));
}

#[test]
fn the_schema_names_every_field_with_its_documentation() {
    let schema = serde_json::to_value(schemars::schema_for!(Spec)).unwrap();
    for name in ["hostname", "fqdn", "users", "ssh_keys", "network", "packages", "files", "commands"] {
        assert!(schema["properties"][name]["description"].is_string(), "{name}: {schema:#}");
    }
    assert_eq!(schema["additionalProperties"], json!(false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_in_any_field_is_an_error_or_comes_back_unchanged(text in any::<String>(), field in 0_usize..12) {
        let spec = cases::spec(match field {
            0 => json!({ "hostname": text }),
            1 => json!({ "hostname": "a", "fqdn": text }),
            2 => json!({ "hostname": "a", "users": [{ "name": text }] }),
            3 => json!({ "hostname": "a", "users": [{ "name": "a", "gecos": text }] }),
            4 => json!({ "hostname": "a", "users": [{ "name": "a", "sudo": text }] }),
            5 => json!({ "hostname": "a", "ssh_keys": text }),
            6 => json!({ "hostname": "a", "network": { "address": text } }),
            7 => json!({ "hostname": "a", "network": { "address": "10.0.0.5/24", "gateway": text, "dns": text, "search": text } }),
            8 => json!({ "hostname": "a", "network": { "mac": text, "name": text } }),
            9 => json!({ "hostname": "a", "packages": text }),
            10 => json!({ "hostname": "a", "files": [{ "path": text, "content": text, "owner": text, "mode": text }] }),
            _ => json!({ "hostname": "a", "commands": [text, [text]] }),
        });
        match cloudinit::build(&spec) {
            Err(fault) => prop_assert_eq!(fault.kind(), "cloudinit.invalid"),
            Ok(document) => {
                let body = document.user_data().strip_prefix("#cloud-config\n").unwrap();
                let body: Value = serde_json::from_str(body).unwrap();
                match field {
                    3 => prop_assert_eq!(&body["users"][0]["gecos"], &json!(text)),
                    4 => prop_assert_eq!(&body["users"][0]["sudo"], &json!(text)),
                    11 => prop_assert_eq!(&body["runcmd"], &json!([text, [text]])),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn any_address_and_gateway_are_taken_or_refused_without_a_panic(
        address in any::<u32>(), prefix in 0_u8..=32, gateway in any::<u32>(), near in any::<bool>(),
    ) {
        let address = std::net::Ipv4Addr::from(address);
        let gateway = if near { std::net::Ipv4Addr::from(u32::from(address) ^ 1) } else { std::net::Ipv4Addr::from(gateway) };
        let spec = cases::spec(json!({
            "hostname": "a", "network": { "address": format!("{address}/{prefix}"), "gateway": gateway.to_string() },
        }));
        if let Ok(document) = cloudinit::build(&spec) {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            prop_assert_eq!(u32::from(address) & mask, u32::from(gateway) & mask);
            prop_assert_eq!(document.addresses(), [std::net::IpAddr::from(address)]);
        }
    }
}
