//! Networks: what any accepted one is written as, and what the renderers of the real cloud-init make of it, as fields.

use std::collections::BTreeMap;

use ceso::cloudinit::{self, Spec, Target};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::any_network::{any_network, blind_network};
use crate::cases::{self, UUID};
use crate::losses;
use crate::meant::{self, Interface};
use crate::real::{CloudInit, EACH};

const RENDERERS: [&str; 5] = ["eni", "networkd", "network-manager", "netplan", "sysconfig"];

fn macs(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("00:50:56:00:00:{number:02x}")).collect()
}

/// The network configuration of a spec on a machine with these cards.
fn written(spec: &Spec, macs: &[String]) -> Value {
    let document = cloudinit::build(spec).unwrap_or_else(|fault| panic!("{spec:?}: {fault}"));
    let macs: Vec<_> = macs.iter().map(|mac| mac.parse().unwrap()).collect();
    let guestinfo = document.render(Target { uuid: UUID, macs: &macs }).unwrap();
    cases::metadata(&guestinfo)["network"].clone()
}

/// Every renderer of every version writes what was meant, less what it is known to lose.
fn renderers_write(networks: &[(String, Value, BTreeMap<String, Interface>)]) {
    let documents: Value = networks.iter().map(|(_, document, _)| document.clone()).collect();
    let check = |version: CloudInit| {
        let answers = version.run("renderers.py", &[], &documents);
        assert_eq!(answers.as_array().unwrap().len(), networks.len());
        for ((name, document, meant), answer) in networks.iter().zip(answers.as_array().unwrap()) {
            assert_eq!(answer["schema"], json!([]), "{name}, {version}: {document:#}");
            for renderer in RENDERERS {
                let wanted = meant::answer(&losses::left(renderer, version, meant));
                assert_eq!(answer[renderer], wanted, "{name}, {renderer} of {version}: {document:#}");
            }
        }
    };
    std::thread::scope(|scope| {
        EACH.map(|version| scope.spawn(move || check(version))).map(|thread| thread.join().unwrap())
    });
}

#[test]
fn every_good_input_means_what_its_file_says() {
    for (name, case) in cases::good() {
        let meant = meant::answer(&meant::interfaces(&case.spec, &case.macs));
        assert_eq!(meant, case.guest.answer(), "{name}");
    }
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_every_good_network_with_every_renderer() {
    let networks: Vec<_> = cases::good()
        .into_iter()
        .filter(|(_, case)| case.spec.network.is_some())
        .map(|(name, case)| (name, written(&case.spec, &case.macs), meant::interfaces(&case.spec, &case.macs)))
        .collect();
    assert!(networks.len() >= 10);
    renderers_write(&networks);
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_any_accepted_network_with_every_renderer() {
    let mut runner = TestRunner::deterministic();
    let networks: Vec<_> = (0..200)
        .map(|number| {
            let (network, cards) = any_network().new_tree(&mut runner).unwrap().current();
            let spec = cases::spec(json!({ "hostname": "a", "network": network }));
            let macs = macs(cards);
            (format!("network {number}"), written(&spec, &macs), meant::interfaces(&spec, &macs))
        })
        .collect();
    renderers_write(&networks);
}

/// Entries put together blindly are accepted only where every renderer makes of them what they say.
#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_what_was_accepted_of_blind_networks() {
    let mut runner = TestRunner::deterministic();
    let strategy = blind_network();
    let mut networks = Vec::new();
    for number in 0..6000 {
        let spec =
            cases::spec(json!({ "hostname": "a", "network": strategy.new_tree(&mut runner).unwrap().current() }));
        if cloudinit::build(&spec).is_ok() {
            let macs = macs(5);
            networks.push((format!("network {number}"), written(&spec, &macs), meant::interfaces(&spec, &macs)));
        }
    }
    let made_of_others = networks.iter().filter(|(_, document, _)| document.as_object().unwrap().len() > 2);
    assert!(made_of_others.count() >= 20, "{} accepted", networks.len());
    networks.sort_by_key(|(_, document, _)| std::cmp::Reverse(document.to_string().len()));
    networks.truncate(150);
    renderers_write(&networks);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_entries_are_refused_with_the_path_of_a_field_or_written(network in blind_network()) {
        let spec = cases::spec(json!({ "hostname": "a", "network": network }));
        match cloudinit::build(&spec) {
            Err(fault) => {
                prop_assert_eq!(fault.kind(), "cloudinit.invalid");
                prop_assert!(fault.message().starts_with("network"), "{}", fault);
                prop_assert!(!fault.message().chars().any(char::is_control), "{}", fault);
            }
            Ok(_) => {
                written(&spec, &macs(5));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_accepted_network_comes_back_from_yaml_unchanged((network, cards) in any_network()) {
        let spec = cases::spec(json!({ "hostname": "a", "network": network }));
        let document = cloudinit::build(&spec).unwrap();
        let macs = macs(cards);
        let cards: Vec<_> = macs.iter().map(|mac| mac.parse().unwrap()).collect();
        let guestinfo = document.render(Target { uuid: UUID, macs: &cards }).unwrap();
        let text = cases::decoded(&guestinfo, "guestinfo.metadata");
        let from_yaml: Value = serde_saphyr::from_str(&text).unwrap();
        prop_assert_eq!(&from_yaml, &cases::metadata(&guestinfo));
        let written = &from_yaml["network"];
        let names = ["ethernets", "bonds", "vlans", "bridges"].iter().filter_map(|kind| written[kind].as_object());
        let mut names: Vec<_> = names.flat_map(|map| map.keys().cloned()).collect();
        names.sort();
        let meant = meant::interfaces(&spec, &macs);
        prop_assert_eq!(names, meant.keys().cloned().collect::<Vec<_>>());
        let addresses: usize = meant.values().map(|interface| interface.addresses.len()).sum();
        prop_assert_eq!(document.addresses().len(), addresses);
        prop_assert_eq!(document.describe()["network"].as_array().unwrap().len(), meant.len());
    }
}
