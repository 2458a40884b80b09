//! What the renderers of the real cloud-init make of networks, as fields. A machine without cloud-init fails these tests.

use std::collections::BTreeSet;

use ceso::cloudinit::{self, Target};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases::{self, Good, UUID};
use crate::real::CloudInit;

const RENDERERS: [&str; 5] = ["eni", "networkd", "network-manager", "netplan", "sysconfig"];

fn expected_interfaces(case: &Good) -> Value {
    let filled = case.guest.interfaces.iter().map(|(name, given)| {
        let mut fields = json!({
            "mac": null, "dhcp4": false, "dhcp6": false, "addresses": [], "gateway4": null, "gateway6": null, "mtu": null,
        });
        for (key, value) in given.as_object().unwrap() {
            fields[key] = value.clone();
        }
        let mut addresses: Vec<String> = serde_json::from_value(fields["addresses"].clone()).unwrap();
        addresses.sort();
        fields["addresses"] = json!(addresses);
        (name.clone(), fields)
    });
    filled.collect()
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_the_same_network_with_every_renderer() {
    let cases: Vec<(String, Good)> =
        cases::good().into_iter().filter(|(_, case)| !case.guest.interfaces.is_empty()).collect();
    assert!(cases.len() >= 10);
    let networks = cases.iter().map(|(_, case)| cases::metadata(&case.guestinfo())["network"].clone()).collect();
    let answers = CloudInit::Debian.run("renderers.py", &[], &networks);
    for ((name, case), answer) in cases.iter().zip(answers.as_array().unwrap()) {
        for renderer in RENDERERS {
            let found = &answer[renderer];
            assert_eq!(found["interfaces"], expected_interfaces(case), "{name} by {renderer}");
            if case.guest.dns_lost_by.as_deref() == Some(renderer) {
                continue;
            }
            let sorted = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
            assert_eq!(found["dns"], json!(sorted(&case.guest.dns)), "{name} by {renderer}");
            assert_eq!(found["search"], json!(sorted(&case.guest.search)), "{name} by {renderer}");
        }
    }
}

/// One card of a random network: what is asked for, by numbers that `random_network` turns into addresses.
type Card = (u8, u8, bool, bool, Option<u32>, Vec<bool>);

/// A network whose cards are DHCP, given by hand, or both (one for each family), and what the guest must end up with.
fn random_network(cards: &[Card]) -> (Value, Value, BTreeSet<String>) {
    let (mut nics, mut interfaces, mut servers) = (Vec::new(), serde_json::Map::new(), BTreeSet::new());
    let (mut routed4, mut routed6) = (false, false);
    for (number, (v4, v6, gateway4, gateway6, mtu, dns)) in cards.iter().enumerate() {
        let (mut addresses, mut given, mut gateways): (Vec<String>, Vec<String>, Vec<String>) = Default::default();
        let mut found = json!({ "mac": format!("00:50:56:00:00:{:02x}", number + 1), "dhcp4": *v4 == 0, "dhcp6": *v6 == 0,
            "gateway4": null, "gateway6": null, "mtu": mtu });
        let subnet = number + 1;
        // IPv6 first, as that is the order which matters if it does.
        given.extend((0..*v6).map(|host| format!("2001:db8:{subnet}::{}/64", host + 2)));
        given.extend((0..*v4).map(|host| format!("10.{subnet}.{host}.2/24")));
        addresses.extend(given.iter().cloned());
        if *v6 == 0 {
            given.push("dhcp6".into());
        }
        if *v4 == 0 {
            given.push("dhcp".into());
        }
        if *gateway4 && *v4 > 0 && !std::mem::replace(&mut routed4, true) {
            gateways.push(format!("10.{subnet}.0.1"));
            found["gateway4"] = json!(gateways.last());
        }
        if *gateway6 && *v6 > 0 && !std::mem::replace(&mut routed6, true) {
            gateways.push(format!("2001:db8:{subnet}::1"));
            found["gateway6"] = json!(gateways.last());
        }
        let own = |(index, v6): (usize, &bool)| {
            if *v6 {
                format!("2001:db8:53:{subnet}::{}", index + 1)
            } else {
                format!("192.0.2.{}", number * 8 + index + 1)
            }
        };
        let dns: Vec<String> = dns.iter().enumerate().map(own).collect();
        servers.extend(dns.iter().cloned());
        addresses.sort();
        found["addresses"] = json!(addresses);
        nics.push(json!({ "address": given, "gateway": gateways, "dns": dns, "mtu": mtu }));
        interfaces.insert(format!("eth{number}"), found);
    }
    (Value::Array(nics), Value::Object(interfaces), servers)
}

#[test]
#[ignore = "needs cloud-init"]
fn cloud_init_writes_any_accepted_network_with_every_renderer() {
    let card = (
        0..3_u8,
        0..3_u8,
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(1280..=9000_u32),
        proptest::collection::vec(any::<bool>(), 0..2),
    );
    let strategy = proptest::collection::vec(card, 1..4);
    let mut runner = TestRunner::deterministic();
    let mut wanted = Vec::new();
    let mut networks = Vec::new();
    for _ in 0..60 {
        let cards = strategy.new_tree(&mut runner).unwrap().current();
        let (nics, interfaces, servers) = random_network(&cards);
        let document = cloudinit::build(&cases::spec(json!({ "hostname": "a", "network": nics }))).unwrap();
        let macs: Vec<_> =
            (1..=cards.len()).map(|number| format!("00:50:56:00:00:{number:02x}").parse().unwrap()).collect();
        let guestinfo = document.render(Target { uuid: UUID, macs: &macs }).unwrap();
        networks.push(cases::metadata(&guestinfo)["network"].clone());
        // Beside DHCP, 22.4's renderer for NetworkManager drops name servers.
        let all_by_hand = cards.iter().all(|(v4, v6, ..)| *v4 > 0 && *v6 > 0);
        wanted.push((interfaces, servers, all_by_hand));
    }
    let answers = CloudInit::Debian.run("renderers.py", &[], &json!(networks));
    assert_eq!(answers.as_array().unwrap().len(), wanted.len());
    for ((interfaces, servers, all_by_hand), (answer, network)) in
        wanted.iter().zip(answers.as_array().unwrap().iter().zip(&networks))
    {
        for renderer in RENDERERS {
            assert_eq!(&answer[renderer]["interfaces"], interfaces, "by {renderer}: {network:#}");
            if *all_by_hand || renderer != "network-manager" {
                assert_eq!(answer[renderer]["dns"], json!(servers), "by {renderer}: {network:#}");
            }
        }
    }
}
